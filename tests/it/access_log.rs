//! Lines about requests: what they say, that callers cannot forge them, and
//! that nobody waits for whoever reads them.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr},
};

use crate::support::{
    Gateway, Upstream, eventually,
    gateway::{client, field, logged_address},
    soon,
    upstream::text,
    wire::Wire,
};

/// A gateway before `echo`, whose file `apply` replaces.
struct Watched {
    gateway: Gateway,
    _upstream: Upstream,
}

const NO_WATCH: &str = "[reload]\nwatch = \"off\"\n";

impl Watched {
    async fn start(logging: &str) -> Self {
        let upstream = Upstream::start()
            .await
            .function("slow", |_| std::future::pending())
            .function("failing", |_| async { text(503, "no") });
        let gateway = Gateway::before(&upstream.url())
            .without_env("FAAS__LOGGING__FORMAT")
            .config(&format!("{NO_WATCH}[logging]\nformat = \"json\"\n{logging}"))
            .start()
            .await;
        Self {
            gateway,
            _upstream: upstream,
        }
    }

    async fn apply(&self, logging: &str) {
        let file = format!("{NO_WATCH}[logging]\n{logging}\n");
        self.gateway.configure(&file).await;
    }

    async fn call(&self, path: &str) {
        self.gateway.get(path).send().await.expect("an answer");
    }

    /// The next line about this path.
    async fn line(&self, path: &str) -> Value {
        self.gateway.logged(path, |line| is_about(line, path)).await
    }

    fn count(&self, path: &str) -> usize {
        self.gateway.log_count(|line| is_about(line, path))
    }
}

/// Whether a line, in either format, is about a request to this path.
fn is_about(line: &Value, path: &str) -> bool {
    match line {
        Value::String(text) => text.contains(" INFO access: ") && text.contains(&format!(" path={path} ")),
        line => field(line, "target") == "access" && field(line, "path") == path,
    }
}

#[tokio::test]
async fn a_line_has_what_is_known_of_the_call_in_either_format() {
    let watched = Watched::start("upstream_uri = true").await;
    let call = |path| watched.gateway.get(path).header("x-call-id", "mine").send();
    // Only the second call takes the fast lane, where there is one.
    for path in ["/function/echo/1", "/function/echo/2"] {
        let answer = call(path).await.expect("an answer");
        let length = answer.bytes().await.expect("a body").len();
        let line = watched.line(path).await;
        for (name, expected) in [
            ("level", json!("INFO")),
            ("kind", json!("function")),
            ("method", json!("GET")),
            ("status", json!(200)),
            ("bytes", json!(length)),
            ("call_id", json!("mine")),
            ("retries", Value::Null),
            ("aborted", Value::Null),
            ("trace_id", Value::Null),
        ] {
            assert_eq!(*field(&line, name), expected, "{name} in {line}");
        }
        assert!(field(&line, "duration_ms").as_f64().expect("a number") > 0.0, "{line}");
        assert!(
            field(&line, "peer").as_str().expect("text").starts_with("127.0.0.1:"),
            "{line}"
        );
        let upstream = field(&line, "upstream").as_str().expect("text");
        assert!(
            upstream.starts_with("http://127.0.0.1:") && upstream.ends_with(path),
            "{line}"
        );
    }
    watched.apply("format = \"text\"").await;
    let path = "/function/echo/3";
    call(path).await.expect("an answer");
    let Value::String(line) = watched.line(path).await else {
        panic!("a line of text")
    };
    let (_, fields) = line.split_once(" INFO access: ").expect("a level and a target");
    let names: Vec<_> = fields.split(' ').filter_map(|field| field.split('=').next()).collect();
    let names: Vec<_> = names.into_iter().filter(|name| *name != "lane").collect();
    assert_eq!(
        names,
        [
            "kind",
            "method",
            "path",
            "status",
            "bytes",
            "duration_ms",
            "peer",
            "call_id"
        ]
    );
    assert!(fields.ends_with("call_id=\"mine\""), "{line}");
    watched.apply("format = \"json\"").await;
    call("/function/echo/4").await.expect("an answer");
    assert!(watched.line("/function/echo/4").await.is_object());
}

#[tokio::test]
async fn callers_cannot_forge_lines() {
    let watched = Watched::start("").await;
    watched.call("/function/echo").await;
    let id = b"a\"b\\c\t\xff\xc2\x9b31m\",\"status\":\"7";
    for (format, path) in [("json", "/function/echo/one"), ("text", "/function/echo/two")] {
        watched.apply(&format!("format = \"{format}\"")).await;
        let mut wire = Wire::connect(watched.gateway.address()).await;
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Call-Id: ");
        wire.send([head.as_bytes(), id, b"\r\n\r\n"].concat()).await;
        assert!(wire.rest().await.starts_with("HTTP/1.1 200"));
        let line = watched.line(path).await;
        if let Value::String(text) = &line {
            assert!(!text.chars().any(char::is_control), "{text:?}");
            let quoted = r#"call_id="a\"b\\c\t"#;
            assert!(text.contains(quoted) && text.contains(r"\u{9b}31m"), "{text}");
        } else {
            assert_eq!(field(&line, "call_id"), &*String::from_utf8_lossy(id));
            assert_eq!(field(&line, "status"), 200);
        }
    }
}

#[tokio::test]
async fn the_filter_changes_while_running() {
    let watched = Watched::start("level = \"info,access=off\"").await;
    for (number, (logging, expected)) in [
        ("level = \"info,access=off\"", 0),
        ("level = \"info\"", 1),
        ("level = \"warn\"", 0),
        ("level = \"warn,access=info\"", 1),
        ("access = false", 0),
    ]
    .into_iter()
    .enumerate()
    {
        watched.apply(logging).await;
        let path = format!("/function/echo/{number}");
        watched.call(&path).await;
        // What is logged after it is read after it.
        watched.apply("level = \"info\"").await;
        watched.call(&format!("{path}/after")).await;
        watched.line(&format!("{path}/after")).await;
        assert_eq!(watched.count(&path), expected, "{logging}");
    }
}

#[tokio::test]
async fn of_a_sample_what_failed_is_never_left_out() {
    let watched = Watched::start("access_sample = 0").await;
    watched.call("/function/echo/well").await;
    watched.call("/function/failing/1").await;
    watched.call("/function/failing/2").await;
    // Broken off before there was an answer, and after the call had begun.
    let mut wire = Wire::connect(watched.gateway.address()).await;
    wire.send("GET /function/slow/left HTTP/1.1\r\nHost: x\r\n\r\n").await;
    eventually("the call", || async {
        let series = r#"gateway_function_invocation_inflight{function_name="slow"}"#;
        (watched.gateway.metric(series).await? > 0.0).then_some(())
    })
    .await;
    drop(wire);
    for path in ["/function/failing/1", "/function/failing/2", "/function/slow/left"] {
        watched.line(path).await;
    }
    assert_eq!(watched.count("/function/echo/well"), 0);
    watched.apply("access_sample = \"100%\"").await;
    watched.call("/function/echo/well").await;
    watched.line("/function/echo/well").await;
}

#[tokio::test]
async fn no_line_is_lost_at_the_end() {
    const CALLS: usize = 200;
    let Watched { mut gateway, _upstream } = Watched::start("").await;
    let calls = (0..CALLS).map(|_| gateway.get("/function/echo").send());
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.expect("an answer").status(), 200);
    }
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.ended().await.code(), Some(0));
    gateway
        .logged("the end", |line| field(line, "message") == "stopped")
        .await;
    assert_eq!(gateway.log_count(|line| is_about(line, "/function/echo")), CALLS);
}

/// A gateway of whose standard error nobody reads more than is asked for.
struct Unread {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
    url: String,
    metrics: String,
}

impl Unread {
    async fn start(upstream: &Upstream, directory: &std::path::Path) -> Self {
        let mut child = Gateway::before(&upstream.url())
            .command(directory)
            .spawn()
            .expect("it starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
        loop {
            let line = soon("a line", stderr.next_line())
                .await
                .expect("readable")
                .expect("it runs");
            let line: Value = serde_json::from_str(&line).expect("JSON");
            if field(&line, "message") == "listening" {
                let url = |name| format!("http://{}", logged_address(&line, name));
                return Self {
                    url: url("address"),
                    metrics: url("metrics"),
                    child,
                    stderr,
                };
            }
        }
    }

    async fn dropped(&self) -> u64 {
        let page = client()
            .get(format!("{}/metrics", self.metrics))
            .send()
            .await
            .expect("an answer");
        let page = page.text().await.expect("text");
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix("gateway_access_log_dropped_total ")?.parse().ok());
        value.expect("the series")
    }

    /// Makes calls with lines so long that they fill whatever they wait in.
    async fn call_until_lines_are_dropped(&self) {
        let client = client();
        let path = format!("{}/function/echo/{}", self.url, "x".repeat(7000));
        eventually("lines are dropped", || async {
            for _ in 0..32 {
                let answer = client.get(&path).send().await.expect("an answer");
                assert_eq!(answer.status(), 200);
            }
            (self.dropped().await > 0).then_some(())
        })
        .await;
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.child.id().expect("it runs")).expect("a pid");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    }
}

#[tokio::test]
async fn calls_go_on_when_nobody_reads_the_log_and_what_was_lost_is_told() {
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let mut gateway = Unread::start(&upstream, directory.path()).await;
    gateway.call_until_lines_are_dropped().await;
    let told = async {
        while let Some(line) = gateway.stderr.next_line().await.expect("readable") {
            // Each is whole.
            let line: Value = serde_json::from_str(&line).expect("JSON");
            if let Some(lost) = field(&line, "access_lines").as_u64() {
                assert_eq!(field(&line, "level"), "WARN");
                return lost;
            }
        }
        panic!("it ended")
    };
    let lost = soon("the warning", told).await;
    assert_eq!(lost, gateway.dropped().await);
    gateway.child.kill().await.expect("killed");
}

#[tokio::test]
async fn the_end_does_not_wait_for_whoever_does_not_read() {
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let mut gateway = Unread::start(&upstream, directory.path()).await;
    gateway.call_until_lines_are_dropped().await;
    gateway.terminate();
    let ended = tokio::time::timeout(Duration::from_secs(15), gateway.child.wait()).await;
    assert_eq!(ended.expect("it ends").expect("a status").code(), Some(0));
}
