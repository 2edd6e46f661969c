//! What is said about a reload, and what is kept from it.

use std::{process::Command, sync::Arc};

use nix::sys::signal::Signal;
use tokio::sync::Notify;

use super::{QUICK, becomes, is_reload, live, marked, says, start, successful, write};
use crate::support::{Gateway, Upstream, soon, upstream::text};

#[tokio::test]
async fn point_09_mistakes_have_a_place_and_unknown_keys_a_suggestion() {
    let gateway = start().await;
    let wrong = format!(
        "{}[invoke]\nupstream_timout = 1\n  connect_timeout = \"soon\"\n",
        marked("two")
    );
    write(gateway.config_file(), &wrong);
    let mistakes = [
        "gateway.toml:9:1: invoke.upstream_timout: unknown key; did you mean 'upstream_timeout'?",
        "gateway.toml:10:3: invoke.connect_timeout: expected a duration",
    ];
    for mistake in mistakes {
        gateway.logged(mistake, says(mistake)).await;
    }
    assert_eq!(live(&gateway).await, "one", "nothing of it");
}

#[tokio::test]
async fn point_11_implausible_changes_are_applied_with_a_warning() {
    let gateway = Gateway::new()
        .config(&format!("{}[invoke]\nupstream_timeout = \"2h\"\n", marked("one")))
        .start()
        .await;
    let short = format!("{}[invoke]\nupstream_timeout = \"500ms\"\n", marked("two"));
    write(gateway.config_file(), &short);
    let warning = "invoke.upstream_timeout changed from 120m to 500ms, by more than 100 times";
    let line = gateway.logged("the warning", says(warning)).await;
    assert_eq!(line["level"], "WARN");
    becomes(&gateway, "two").await;
}

#[tokio::test]
async fn point_14_a_call_in_flight_keeps_the_settings_it_began_with() {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let upstream = Upstream::start()
        .await
        .function("stuck", |_| std::future::pending())
        .function("held", {
            let (arrived, release) = (Arc::clone(&arrived), Arc::clone(&release));
            move |_| {
                let (arrived, release) = (Arc::clone(&arrived), Arc::clone(&release));
                async move {
                    arrived.notify_one();
                    release.notified().await;
                    text(200, "finished")
                }
            }
        });
    let gateway = Gateway::before(&upstream.url()).config(QUICK).start().await;
    let call = gateway.invoke("/function/held", "");
    let reload = async {
        soon("the call", arrived.notified()).await;
        write(
            gateway.config_file(),
            &format!("{QUICK}[invoke]\nupstream_timeout = \"50ms\"\n"),
        );
        gateway.logged("the reload", is_reload).await;
        let other = gateway.get("/function/stuck").send().await.expect("an answer");
        assert_eq!(other.status(), 504, "the new bound");
        release.notify_one();
    };
    assert_eq!(tokio::join!(call, reload).0, "finished");
}

#[tokio::test]
async fn point_20_the_old_content_clears_a_failure_and_is_no_new_generation() {
    let gateway = start().await;
    let content = std::fs::read_to_string(gateway.config_file()).expect("readable");
    write(gateway.config_file(), "wrong = 1\n");
    successful(&gateway, false).await;
    write(gateway.config_file(), &content);
    successful(&gateway, true).await;
    gateway.logged("the recovery", says("the live one again")).await;
    assert_eq!(gateway.log_count(is_reload), 0);
    write(gateway.config_file(), &marked("two"));
    let line = gateway.logged("the reload", is_reload).await;
    assert!(says("\"to\":2")(&line), "{line}");
}

#[tokio::test]
async fn point_23_variables_in_the_file_are_those_of_the_start() {
    let gateway = Gateway::new()
        .env("MARKER", "from-variable")
        .config(&marked("${MARKER}"))
        .start()
        .await;
    assert_eq!(live(&gateway).await, "from-variable");
    write(gateway.config_file(), &marked("${NONE}"));
    let mistake = "gateway.toml:3:1: provider.default_namespace: variable NONE is not set";
    gateway.logged("the missing variable", says(mistake)).await;
    assert_eq!(live(&gateway).await, "from-variable");
    write(gateway.config_file(), &marked("${NONE:-default}"));
    becomes(&gateway, "default").await;
}

#[tokio::test]
async fn point_24_what_cannot_be_built_is_told_without_what_variables_gave() {
    let gateway = Gateway::new()
        .env("TOKEN", "hunter2")
        .config(&marked("one"))
        .start()
        .await;
    let secret = format!(
        "{}[auth]\nbasic = true\nsecret_path = \"/no/such/${{TOKEN}}\"\n",
        marked("two")
    );
    write(gateway.config_file(), &secret);
    gateway.logged("the failure", says("/no/such/***")).await;
    successful(&gateway, false).await;
    assert_eq!(gateway.log_count(says("hunter2")), 0);
}

#[test]
fn point_24_the_effective_configuration_masks_what_variables_gave() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("gateway.toml");
    write(&file, &marked("${MARKER}"));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faas-gateway"));
        command.args(arguments).arg(&file).env_clear();
        command.env("HOME", "/h").env("MARKER", "hunter2");
        command.output().expect("the program starts")
    };
    let output = run(&["config", "--config"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let line = format!("provider.default_namespace = \"***\"  # {}:3:1", file.display());
    assert!(text.lines().any(|found| found == line), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    // Variables that set keys are left out of a check, those of the file are not.
    let output = run(&["check"]);
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn point_30_hangup_before_the_first_change_does_no_harm() {
    let gateway = start().await;
    for _ in 0..5 {
        gateway.signal(Signal::SIGHUP);
    }
    gateway.logged("the look", says("configuration unchanged")).await;
    assert_eq!(live(&gateway).await, "one");
}
