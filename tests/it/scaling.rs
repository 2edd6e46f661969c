//! Replicas that follow the load, the clock, alerts and people, with real
//! functions of this machine.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Gateway, eventually, fixture, gateway::Setup, load::Load};

mod alerts;
mod leader;
mod prometheus;
mod simulator;

/// Decisions several times a second, over short windows.
const QUICK: &str = "[scaling]\ninterval = \"50ms\"\nstable_window = \"500ms\"\npanic_window = \"200ms\"\n\
                     down_window = \"0s\"\n";

fn quick(more: &str) -> Setup {
    Gateway::new().config(&format!("{QUICK}{more}"))
}

/// A function that answers after so many milliseconds, many calls at a time.
async fn deploy(gateway: &Gateway, name: &str, wait_ms: u32, labels: &Value) {
    let command = format!("{} {wait_ms}", fixture("python3", "slow.py"));
    gateway
        .deploy(&json!({
            "service": name, "image": "local", "envProcess": command, "envVars": { "mode": "http" }, "labels": labels,
        }))
        .await;
    gateway.ready(name, "").await;
}

async fn explain(gateway: &Gateway, name: &str) -> Value {
    let answer = gateway
        .get(&format!("/system/scaling/{name}"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("JSON")
}

async fn replicas(gateway: &Gateway, name: &str) -> i64 {
    gateway.status(name, "").await.expect("a status").replicas
}

/// Waits for a number of replicas, all of them ready.
async fn becomes(gateway: &Gateway, name: &str, wanted: u32) {
    eventually(&format!("{wanted} replicas of {name}"), || async {
        let status = gateway.status(name, "").await?;
        ([status.replicas, status.available_replicas] == [i64::from(wanted); 2]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_hundred_callers_start_a_function_once() {
    let gateway = Gateway::new().start().await;
    deploy(&gateway, "f", 1, &json!({})).await;
    gateway.scale("f", 0).await;
    let answers = join_all((0..200).map(|_| gateway.get("/function/f").send())).await;
    for answer in answers {
        assert_eq!(answer.expect("an answer").status(), 200);
    }
    let activated = gateway.log_count(|line| line.to_string().contains("function activated"));
    assert_eq!(activated, 1);
    let waited = gateway
        .metric(r#"gateway_function_activation_seconds_count{function_name="f.openfaas-fn"}"#)
        .await;
    assert!(waited.is_some_and(|waited| waited > 100.0), "{waited:?}");
    let changes = explain(&gateway, "f").await["changes"].clone();
    assert_eq!(
        (&changes[0]["reason"], &changes[0]["to"]),
        (&json!("activation"), &json!(1))
    );
    assert_eq!(
        (&changes[1]["reason"], &changes[1]["to"]),
        (&json!("manual"), &json!(0))
    );
}

#[tokio::test]
async fn callers_beyond_max_held_are_told_when_to_come_back_and_leaving_frees_a_place() {
    // It never listens.
    let gateway = Gateway::new()
        .config("[scaling]\nmax_held = 2\nactivation_timeout = \"1m\"\n")
        .start()
        .await;
    let never_ready =
        json!({ "service": "f", "image": "local", "envProcess": "sleep 100", "envVars": { "mode": "http" } });
    let (status, text) = gateway
        .send(http::Method::POST, "/system/functions", &never_ready)
        .await;
    assert_eq!(status, 202, "{text}");
    let held = |count: u64| {
        let gateway = &gateway;
        async move {
            eventually("callers that wait", || async {
                (explain(gateway, "f").await["held"] == count).then_some(())
            })
            .await;
        }
    };
    let first = tokio::spawn(gateway.get("/function/f").send());
    held(1).await;
    let second = tokio::spawn(gateway.get("/function/f").send());
    held(2).await;
    let third = gateway.get("/function/f").send().await.expect("an answer");
    assert_eq!(third.status(), 503);
    assert!(third.headers().contains_key("retry-after"));
    let text = third.text().await.expect("text");
    assert!(text.contains("scaling.max_held"), "{text}");
    second.abort();
    held(1).await;
    let fourth = tokio::spawn(gateway.get("/function/f").send());
    held(2).await;
    assert!(!first.is_finished() && !fourth.is_finished());
}

#[tokio::test]
async fn replicas_follow_calls_under_way() {
    let gateway = quick("").start().await;
    let labels = json!({ "com.openfaas.scale.type": "capacity", "com.openfaas.scale.target": "2",
        "com.openfaas.scale.target-proportion": "1", "com.openfaas.scale.max": "5" });
    deploy(&gateway, "f", 50, &labels).await;
    let load = Load::start(&gateway, "/function/f", 12);
    becomes(&gateway, "f", 5).await;
    let told = explain(&gateway, "f").await;
    assert_eq!(
        (&told["mode"], &told["signal"], &told["max"]),
        (&json!("load"), &json!("capacity"), &json!(5))
    );
    assert!(told["inFlight"].as_u64().expect("a number") <= 12);
    let told = load.stop().await;
    assert_eq!(told.failed, 0, "{told:?}");
    becomes(&gateway, "f", 1).await;
    for direction in ["up", "down"] {
        let metrics = gateway.metrics().await;
        let series =
            format!("gateway_scaling_decisions_total{{direction=\"{direction}\",function_name=\"f.openfaas-fn\"");
        assert!(metrics.contains(&series), "{metrics}");
    }
    gateway
        .logged("a decision", |line| line.to_string().contains("function scaled"))
        .await;
}

#[tokio::test]
async fn replicas_follow_calls_per_second() {
    let gateway = quick("").start().await;
    let labels = json!({ "com.openfaas.scale.type": "rps", "com.openfaas.scale.target": "10",
        "com.openfaas.scale.max": "3" });
    deploy(&gateway, "f", 10, &labels).await;
    let load = Load::start(&gateway, "/function/f", 4);
    becomes(&gateway, "f", 3).await;
    assert_eq!(load.stop().await.failed, 0);
    becomes(&gateway, "f", 1).await;
}

#[tokio::test]
async fn replicas_follow_processor_time() {
    let gateway = quick("").start().await;
    let labels = json!({ "com.openfaas.scale.type": "cpu", "com.openfaas.scale.target": "50",
        "com.openfaas.scale.max": "2" });
    let command = format!("{} 20 busy", fixture("python3", "slow.py"));
    gateway
        .deploy(&json!({
            "service": "f", "image": "local", "envProcess": command, "envVars": { "mode": "http" }, "labels": labels,
        }))
        .await;
    gateway.ready("f", "").await;
    let load = Load::start(&gateway, "/function/f", 2);
    becomes(&gateway, "f", 2).await;
    assert_eq!(load.stop().await.failed, 0);
    becomes(&gateway, "f", 1).await;
}

#[tokio::test]
async fn replicas_follow_asynchronous_calls_that_wait() {
    let gateway = quick("[queue]\nfunction_concurrency = 1\n").start().await;
    let labels = json!({ "com.openfaas.scale.type": "queue", "com.openfaas.scale.target": "5",
        "com.openfaas.scale.max": "3" });
    deploy(&gateway, "f", 100, &labels).await;
    for _ in 0..40 {
        let answer = gateway.post("/async-function/f").send().await.expect("an answer");
        assert_eq!(answer.status(), 202);
    }
    becomes(&gateway, "f", 3).await;
    becomes(&gateway, "f", 1).await;
}

#[tokio::test]
async fn the_file_is_above_the_labels_and_takes_effect_while_running() {
    let gateway = quick("").start().await;
    deploy(
        &gateway,
        "f",
        1,
        &json!({ "com.openfaas.scale.type": "rps", "com.openfaas.scale.min": "1" }),
    )
    .await;
    let file = gateway.config_file();
    let text = std::fs::read_to_string(&file).expect("readable");
    std::fs::write(&file, format!("{text}\n[functions.f.scaling]\nmin = 3\n")).expect("writable");
    gateway.signal(nix::sys::signal::Signal::SIGHUP);
    becomes(&gateway, "f", 3).await;
    let told = explain(&gateway, "f").await;
    assert_eq!(
        (&told["min"], &told["changes"][0]["reason"]),
        (&json!(3), &json!("min"))
    );
    let series = r#"gateway_service_min{function_name="f.openfaas-fn"}"#;
    eventually("the gauge", || async {
        gateway.metric(series).await.filter(|min| *min >= 3.0)
    })
    .await;
}

#[tokio::test]
async fn a_schedule_keeps_replicas_warm() {
    let gateway = quick("[functions.f]\nschedule = [{ cron = \"* * * * *\", min = 2 }]\n")
        .start()
        .await;
    deploy(&gateway, "f", 1, &json!({ "com.openfaas.scale.zero": "true" })).await;
    becomes(&gateway, "f", 2).await;
    let told = explain(&gateway, "f").await;
    assert_eq!(told["changes"][0]["reason"], "schedule");
    assert!(told["zeroAfterSeconds"].is_null());
}

#[tokio::test]
async fn what_nobody_uses_goes_to_zero_and_comes_back() {
    let gateway = quick("").start().await;
    let labels = json!({ "com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "1s" });
    deploy(&gateway, "f", 1, &labels).await;
    becomes(&gateway, "f", 0).await;
    assert_eq!(explain(&gateway, "f").await["changes"][0]["reason"], "idle");
    assert_eq!(gateway.invoke("/function/f", "").await, "done");
    becomes(&gateway, "f", 0).await;
}

#[tokio::test]
async fn a_long_call_outlives_the_idle_time() {
    let gateway = quick("").start().await;
    let labels = json!({ "com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "1s" });
    deploy(&gateway, "f", 2000, &labels).await;
    let began = Instant::now();
    assert_eq!(gateway.invoke("/function/f", "").await, "done");
    assert!(began.elapsed() >= Duration::from_secs(2));
    let changes = explain(&gateway, "f").await["changes"].clone();
    let stopped_meanwhile = changes
        .as_array()
        .expect("a list")
        .iter()
        .any(|change| change["to"] == 0);
    assert!(!stopped_meanwhile, "{changes}");
    becomes(&gateway, "f", 0).await;
}

#[tokio::test]
async fn functions_that_do_not_ask_keep_what_they_have() {
    let gateway = quick("").start().await;
    deploy(&gateway, "f", 1, &json!({ "com.openfaas.scale.max": "9" })).await;
    gateway.scale("f", 3).await;
    eventually("a look", || async {
        let told = explain(&gateway, "f").await;
        (told["mode"] == "off" && told["decidedAt"].is_string() && told["replicas"] == 3).then_some(())
    })
    .await;
    let load = Load::start(&gateway, "/function/f", 4);
    load.reaches(300).await;
    assert_eq!(load.stop().await.failed, 0);
    assert_eq!(replicas(&gateway, "f").await, 3);
    let told = explain(&gateway, "f").await;
    assert_eq!(told["changes"][0]["reason"], "manual");
}

#[tokio::test]
async fn no_call_fails_while_replicas_come_go_and_change() {
    let gateway = Gateway::new().start().await;
    deploy(&gateway, "f", 5, &json!({})).await;
    let load = Load::start(&gateway, "/function/f", 8);
    for count in [4, 1, 3, 1] {
        gateway.scale("f", count).await;
        becomes(&gateway, "f", count).await;
    }
    // Another version, and the same again, which is a restart.
    for version in ["one", "two", "two"] {
        let command = format!("{} 5", fixture("python3", "slow.py"));
        let deployment = json!({ "service": "f", "image": "local", "envProcess": command,
            "envVars": { "mode": "http", "version": version } });
        let (status, text) = gateway.send(http::Method::PUT, "/system/functions", &deployment).await;
        assert_eq!(status, 202, "{text}");
        load.reaches(load.answered() + 200).await;
    }
    gateway.scale("f", 0).await;
    eventually("the function is back", || async {
        (gateway.status("f", "").await?.available_replicas == 1).then_some(())
    })
    .await;
    let told = load.stop().await;
    assert_eq!(told.failed, 0, "{told:?}");
    assert!(told.answered > 600, "{told:?}");
}
