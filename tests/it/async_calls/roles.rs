//! Processes that do a part of the work.

use super::*;

/// A setup that some queue is not needed for.
fn with_role(upstream: &Upstream, role: &str) -> Setup {
    before(upstream, "kind = \"off\"\n").env("FAAS__SERVER__ROLE", role)
}

#[tokio::test]
async fn a_worker_answers_no_callers() {
    let upstream = Upstream::start().await.function("f", |_| async { text(200, "") });
    let more = "[[routes]]\npath = \"/v1\"\nfunction = \"f\"\n\
                [[routes]]\nhosts = [\"127.0.0.1\"]\npath = \"/system/async\"\nfunction = \"f\"\n";
    let gateway = with_role(&upstream, "worker").config(more).start().await;
    for (path, status) in [
        ("/healthz", 200),
        ("/system/functions", 200),
        ("/system/async-status", 503),
        ("/system/async", 503),
        ("/function/f", 421),
        ("/async-function/f", 421),
        ("/v1", 421),
        ("/ui/", 421),
        ("/", 421),
    ] {
        let answer = gateway.get(path).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
    }
    let told = gateway.get("/function/f").send().await.expect("an answer");
    assert!(told.text().await.expect("text").contains("server.role"));
    assert_eq!(gateway.health_of_metrics().await, 200);
}

#[tokio::test]
async fn a_gateway_answers_callers_and_does_not_listen_to_the_clock() {
    let upstream = Upstream::start().await.function("f", |_| async { text(200, "hello") });
    let gateway = with_role(&upstream, "gateway").start().await;
    assert_eq!(gateway.invoke("/function/f", "").await, "hello");
    assert!(!gateway.metrics().await.contains("gateway_cron_mistakes"));
}

#[tokio::test]
async fn the_embedded_queue_has_one_process_that_does_everything() {
    let directory = tempfile::tempdir().expect("a directory");
    for role in ["worker", "gateway"] {
        let output = Gateway::new()
            .command(directory.path())
            .args(["--role", role])
            .output()
            .await;
        let output = output.expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains("server.role") && text.contains("embedded"), "{text}");
    }
    let output = Gateway::new()
        .command(directory.path())
        .args(["--role", "boss"])
        .output()
        .await;
    let text = String::from_utf8_lossy(&output.expect("it runs").stderr).into_owned();
    assert!(text.contains("gateway") && text.contains("worker"), "{text}");
}
