//! Compressed answers, as callers of all kinds get them.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::mpsc;

use crate::support::{
    Gateway, Upstream,
    upstream::{body, text},
    wire::Wire,
};

const TEXT: &str = "say it again, ";

/// An upstream whose functions answer with a long text of some kind.
async fn upstream() -> Upstream {
    let answers = |content_type: &'static str| {
        move |_| async move {
            let mut answer = text(200, &TEXT.repeat(1000));
            let headers = answer.headers_mut();
            for (name, value) in [
                ("content-type", content_type),
                ("etag", "\"a\""),
                ("accept-ranges", "bytes"),
            ] {
                headers.insert(name, value.parse().expect("a value"));
            }
            answer
        }
    };
    Upstream::start()
        .await
        .function("text", answers("text/plain"))
        .function("events", answers("text/event-stream"))
        .function("plain", answers("text/plain"))
        .function("tiny", |_| async {
            let mut answer = text(200, "tiny");
            answer
                .headers_mut()
                .insert("content-type", "text/plain".parse().expect("a value"));
            answer
        })
}

const ALL: &str = "compression.algorithms = [\"zstd\", \"br\", \"gzip\"]";

async fn curl(arguments: &[&str], url: &str) -> String {
    let mut curl = tokio::process::Command::new("curl");
    let curl = curl
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(arguments);
    let output = curl.arg(url).output().await.expect("curl is installed");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_accept_it() {
    let upstream = upstream().await;
    let gateway = Gateway::before(&upstream.url())
        .config(&format!(
            "[functions.\"*\"]\n{ALL}\n[functions.plain]\ncompression.algorithms = []"
        ))
        .start()
        .await;
    let url = |name: &str| format!("{}/function/{name}", gateway.url());
    let whole = TEXT.repeat(1000);
    for (accepted, expected) in [
        ("gzip", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip, br;q=0.9", "gzip"),
    ] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let accept = format!("Accept-Encoding: {accepted}");
            let arguments = [version, "--include", "--compressed", "--header", &accept];
            let said = curl(&arguments, &url("text")).await;
            let (head, got) = said.split_once("\r\n\r\n").expect("a head");
            let head = head.to_lowercase();
            assert!(got == whole, "{accepted} {version}: {got:.100}");
            for part in [
                &*format!("content-encoding: {expected}"),
                "vary: accept-encoding",
                "etag: w/\"a\"",
            ] {
                assert!(head.contains(part), "{part}: {head}");
            }
            assert!(
                !head.contains("content-length") && !head.contains("accept-ranges"),
                "{head}"
            );
        }
    }
    for (name, header, varies) in [
        ("text", "Accept: */*", true),
        ("text", "Accept-Encoding: identity", true),
        ("events", "Accept-Encoding: gzip", false),
        ("plain", "Accept-Encoding: gzip", false),
        ("tiny", "Accept-Encoding: gzip", false),
    ] {
        let said = curl(&["--include", "--header", header], &url(name))
            .await
            .to_lowercase();
        assert!(
            !said.contains("content-encoding") && said.contains("content-length"),
            "{name}: {said:.500}"
        );
        assert_eq!(said.contains("vary: accept-encoding"), varies, "{name}: {said:.500}");
    }
    let head = curl(&["--head", "--header", "Accept-Encoding: gzip"], &url("text")).await;
    assert!(!head.to_lowercase().contains("content-encoding"), "{head}");
}

#[tokio::test]
async fn a_compressed_answer_flows_as_the_function_says_it() {
    let (sender, receiver) = mpsc::channel::<&'static str>(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let upstream = Upstream::start().await.function("dictated", move |_| {
        let receiver = receiver.lock().expect("no panic").take().expect("called once");
        let frames = stream::unfold(receiver, |mut receiver| async {
            let text = receiver.recv().await?;
            Some((Ok(Frame::data(Bytes::from_static(text.as_bytes()))), receiver))
        });
        async {
            let mut answer = body(200, StreamBody::new(frames));
            answer
                .headers_mut()
                .insert("content-type", "application/x-ndjson".parse().expect("a value"));
            answer
        }
    });
    let gateway = Gateway::before(&upstream.url())
        .config("[functions.dictated.compression]\nalgorithms = [\"gzip\"]\ntypes = [\"application/x-ndjson\"]")
        .start()
        .await;
    let mut curl = tokio::process::Command::new("curl")
        .args([
            "--silent",
            "--no-buffer",
            "--compressed",
            "--header",
            "Accept-Encoding: gzip",
        ])
        .arg(format!("{}/function/dictated", gateway.url()))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("curl is installed");
    let mut heard = Wire::over(tokio::io::join(curl.stdout.take().expect("piped"), tokio::io::sink()));
    for line in ["{\"one\":1}\n", "{\"two\":2}\n", "{\"three\":3}\n"] {
        sender.send(line).await.expect("the gateway listens");
        heard.until(line).await;
    }
    drop(sender);
    assert_eq!(heard.rest().await, "");
    assert!(curl.wait().await.expect("a status").success());
}

#[tokio::test]
async fn routes_have_it_too_and_it_changes_while_running() {
    let upstream = upstream().await;
    let file = |route: &str| {
        format!(
            "[reload]\nwatch = \"off\"\n[[routes]]\npath = \"/t\"\nfunction = \"text\"\n{route}\n[functions.text]\ncompression.algorithms = [\"br\"]\n"
        )
    };
    let gateway = Gateway::before(&upstream.url()).config(&file("")).start().await;
    for (route, expected) in [
        ("", Some("br")),
        ("compression.algorithms = [\"gzip\"]", Some("gzip")),
        ("compression.algorithms = []", None),
        ("compression.min_size = \"1MiB\"", None),
        ("compression.types = [\"text/html\"]", None),
    ] {
        gateway.configure(&file(route)).await;
        let answer = gateway
            .get("/t")
            .header("accept-encoding", "gzip, br")
            .send()
            .await
            .expect("an answer");
        let coding = answer
            .headers()
            .get("content-encoding")
            .map(|value| value.to_str().expect("text"));
        assert_eq!(coding, expected, "{route}");
        let answer = gateway
            .get("/function/text")
            .header("accept-encoding", "br")
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.headers()["content-encoding"], "br", "the function's own");
    }
}

#[tokio::test]
async fn a_function_that_breaks_off_breaks_the_compressed_answer_off() {
    let (breaks, broken) = tokio::sync::oneshot::channel::<()>();
    let broken = std::sync::Mutex::new(Some(broken));
    let upstream = Upstream::start().await.function("breaks", move |_| {
        let broken = broken.lock().expect("no panic").take().expect("called once");
        let first = stream::once(async { Ok(Frame::data(Bytes::from(TEXT.repeat(1000)))) });
        let second = stream::once(async move {
            broken.await.expect("the test says when");
            Err(std::io::Error::other("gone"))
        });
        async {
            let mut answer = body(200, StreamBody::new(Box::pin(first.chain(second))));
            let text = "text/plain".parse().expect("a value");
            answer.headers_mut().insert("content-type", text);
            answer
        }
    });
    let gateway = Gateway::before(&upstream.url())
        .config(&format!("[functions.breaks]\n{ALL}"))
        .start()
        .await;
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /function/breaks HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
        .await;
    let head = wire.until("\r\n\r\n").await;
    assert!(head.contains("Content-Encoding: gzip"), "{head}");
    wire.until("\r\n").await;
    breaks.send(()).expect("the function waits");
    assert!(!wire.rest().await.ends_with("0\r\n\r\n"), "the answer looks complete");
}
