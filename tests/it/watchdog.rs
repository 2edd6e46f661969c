//! The watchdog as the process provider runs it: the real binary on a Unix
//! socket, one replica for each test.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::fixture;

const PATIENCE: Duration = Duration::from_secs(20);

/// A watchdog process and where it listens.
struct Replica {
    directory: TempDir,
    child: Child,
}

/// An answer, read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    trailers: Option<HeaderMap>,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

impl Replica {
    /// Starts a replica and waits until it is healthy.
    async fn start(mode: &str, command: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let replica = Self::spawn(mode, command, environment, arguments);
        replica.healthy().await;
        replica
    }

    fn spawn(mode: &str, command: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("temp dir");
        let log = |name| File::create(directory.path().join(name)).expect("log file");
        let child = Command::new(env!("CARGO_BIN_EXE_faas-gateway"))
            .args(["watchdog", "--mode", mode, "--command", command, "--drain-delay", "0s"])
            .arg("--socket")
            .arg(directory.path().join("socket"))
            .args(arguments)
            .envs(environment.iter().copied())
            .env("TEST_DIRECTORY", directory.path())
            .stdin(Stdio::piped())
            .stdout(log("stdout"))
            .stderr(log("stderr"))
            .spawn()
            .expect("the binary starts");
        Self { directory, child }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Polls health, because that is what it is for.
    async fn healthy(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(stream) = UnixStream::connect(self.socket()).await {
                let answer = read(send_on(stream, get("/_/health")).await).await;
                if answer.status == StatusCode::OK {
                    assert_eq!(answer.text(), "OK");
                    return;
                }
            }
            assert!(Instant::now() < deadline, "not healthy: {}", self.log("stderr"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).await.expect("it listens")
    }

    async fn send(&self, request: Request<BoxBody<Bytes, std::io::Error>>) -> Response<Incoming> {
        send_on(self.connect().await, request).await
    }

    async fn call(&self, request: Request<BoxBody<Bytes, std::io::Error>>) -> Answer {
        read(self.send(request).await).await
    }

    fn log(&self, name: &str) -> String {
        let mut text = String::new();
        File::open(self.directory.path().join(name))
            .and_then(|mut file| file.read_to_string(&mut text))
            .expect("log file");
        text
    }

    async fn logged(&self, name: &str, wanted: &str) {
        eventually(&format!("'{wanted}' in {name}"), || self.log(name).contains(wanted)).await;
    }

    /// Contents of a file that the function writes into its test directory.
    async fn written(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        let read = || fs::read_to_string(&path).unwrap_or_default();
        eventually(name, || read().ends_with('\n')).await;
        read().trim().to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().expect("pid")), signal).expect("it runs");
    }

    async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "still running: {}", self.log("stderr"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Already ended in the tests about ending.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn send_on(stream: UnixStream, request: Request<BoxBody<Bytes, std::io::Error>>) -> Response<Incoming> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("handshake");
    #[expect(clippy::disallowed_methods, reason = "ends with the connection")]
    tokio::spawn(connection);
    sender.send_request(request).await.expect("an answer")
}

async fn read(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body");
    Answer {
        status: parts.status,
        headers: parts.headers,
        trailers: body.trailers().cloned(),
        body: body.to_bytes(),
    }
}

fn full(content: impl Into<Bytes>) -> BoxBody<Bytes, std::io::Error> {
    Full::new(content.into()).map_err(|never| match never {}).boxed()
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "function.example")
}

fn get(path: &str) -> Request<BoxBody<Bytes, std::io::Error>> {
    request("GET", path).body(full("")).expect("valid")
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<BoxBody<Bytes, std::io::Error>> {
    request("POST", path).body(full(body)).expect("valid")
}

fn alive(pid: &str) -> bool {
    // A zombie has ended, whoever has to reap it.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

async fn dies(pid: &str) {
    eventually(&format!("the end of process {pid}"), || !alive(pid)).await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_its_request_does_not_cost_the_connection() {
    let replica = Replica::start("fork", "cat", &[], &[]).await;
    let mut stream = replica.connect().await;
    let refused = b"TRACE / HTTP/1.1\r\nhost: f\r\ncontent-length: 4\r\n\r\n";
    stream.write_all(refused).await.expect("written");
    let answer = read_until(&mut stream, "method not allowed\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    // The rest comes when the answer is there already, and after it another request.
    let next = b"bodyGET /_/health HTTP/1.1\r\nhost: f\r\n\r\n";
    stream.write_all(next).await.expect("written");
    let answer = read_until(&mut stream, "\r\n\r\nOK").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// What comes, up to this text.
async fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut piece = [0; 1024];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await;
        let count = read.expect("in time").expect("readable");
        assert_ne!(count, 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    text
}

#[tokio::test]
async fn fork_passes_the_body_through_a_process() {
    let replica = Replica::start("fork", "cat", &[], &[]).await;
    let body = Bytes::from(vec![b'x'; 3_000_000]);
    let request = request("POST", "/")
        .header("content-type", "text/csv")
        .body(full(body.clone()))
        .expect("valid");
    let answer = replica.call(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "text/csv");
    assert!(answer.header("x-duration-seconds").parse::<f64>().expect("a number") > 0.0);
    assert_eq!(answer.body, body);

    let log = replica.log("stderr");
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some("Forking fprocess."));
    let wrote = lines.next().expect("a second line");
    assert!(wrote.starts_with("Wrote 3000000 Bytes - Duration: "), "{wrote}");
}

#[tokio::test]
async fn fork_shows_the_request_in_variables() {
    let replica = Replica::start(
        "fork",
        "env",
        &[("content_type", "text/x-env"), ("GREETING", "hello")],
        &[],
    )
    .await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        let request = request(method, "/some%20path?testing=1")
            .header("x-call-id", "call-7")
            .body(full(""))
            .expect("valid");
        let answer = replica.call(request).await;
        assert_eq!(answer.header("content-type"), "text/x-env");
        let text = answer.text();
        for line in [
            &format!("Http_Method={method}"),
            "Http_Path=/some path",
            "Http_Query=testing=1",
            "Http_X_Call_Id=call-7",
            "Http_Host=function.example",
            "GREETING=hello",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
    }
    assert_eq!(
        replica
            .call(request("HEAD", "/").body(full("")).expect("valid"))
            .await
            .status,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn cgi_headers_can_be_turned_off() {
    let replica = Replica::start("fork", "env", &[("cgi_headers", "false")], &[]).await;
    assert!(!replica.call(get("/")).await.text().contains("Http_"));
}

#[tokio::test]
async fn fork_reports_how_the_process_failed() {
    let command = "sh -c 'echo out; echo err >&2; exit 3'";
    let combined = Replica::start("fork", command, &[], &[]).await;
    let answer = combined.call(post("/", "")).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.text(), "exit status 3\nout\nerr\n");

    let apart = Replica::start("fork", command, &[("combine_output", "false")], &[]).await;
    assert_eq!(apart.call(post("/", "")).await.text(), "exit status 3\nout\n");
    apart.logged("stderr", " stderr: err\n").await;
}

#[tokio::test]
async fn exec_timeout_kills_the_process_and_what_it_started() {
    let replica = Replica::start(
        "fork",
        "sh -c 'sleep 300 & echo $! > $TEST_DIRECTORY/pid; wait'",
        &[("exec_timeout", "300ms")],
        &[],
    )
    .await;
    let answer = replica.call(post("/", "")).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(answer.text(), "Killed process.\n");
    dies(&replica.written("pid").await).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_process() {
    for mode in ["fork", "serializing", "streaming"] {
        let command = "sh -c 'sleep 300 & echo $! > $TEST_DIRECTORY/pid; wait'";
        let replica = Replica::start(mode, command, &[], &[]).await;
        let stream = replica.connect().await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("handshake");
        let pid = tokio::select! {
            pid = replica.written("pid") => pid,
            _ = async { tokio::join!(connection, async {
                let answer = sender.send_request(post("/", "")).await;
                if mode == "streaming" {
                    // The head comes at once, the body never.
                    let _ = answer.expect("a head").into_body().collect().await;
                }
            }) } => panic!("{mode}: the call ended"),
        };
        dies(&pid).await;
    }
}

#[tokio::test]
async fn calls_beyond_max_inflight_are_refused() {
    let replica = Replica::start(
        "fork",
        "sh -c 'echo started > $TEST_DIRECTORY/mark; cat $TEST_DIRECTORY/gate'",
        &[("max_inflight", "1")],
        &[],
    )
    .await;
    let gate = replica.directory.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let (first, ()) = tokio::join!(replica.call(get("/")), async {
        replica.written("mark").await;
        let refused = replica.call(get("/")).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            refused.text(),
            "Concurrent request limit exceeded. Max concurrent requests: 1\n"
        );
        assert_eq!(refused.header("retry-after"), "1");
        assert_eq!(refused.header("content-type"), "text/plain");
        assert_eq!(refused.header("x-openfaas-internal"), "faas-middleware");
        assert_eq!(
            replica.call(get("/_/ready")).await.status,
            StatusCode::TOO_MANY_REQUESTS
        );
        assert_eq!(replica.call(get("/_/health")).await.status, StatusCode::OK);
        fs::write(&gate, "through").expect("the fifo has a reader");
    });
    assert_eq!((first.status, first.text()), (StatusCode::OK, "through".to_owned()));
    assert_eq!(replica.call(get("/_/ready")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn serializing_answers_with_the_output_or_the_error() {
    let replica = Replica::start("serializing", "tr a-z A-Z", &[], &[]).await;
    let answer = replica.call(post("/", "shout")).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "SHOUT".to_owned()));
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert!(!answer.header("x-duration-seconds").is_empty());

    let failing = Replica::start("serializing", "sh -c 'echo hidden; exit 4'", &[], &[]).await;
    let answer = failing.call(post("/", "")).await;
    assert_eq!(
        (answer.status, answer.text()),
        (StatusCode::INTERNAL_SERVER_ERROR, "exit status 4\n".to_owned())
    );
}

#[tokio::test]
async fn streaming_sends_output_while_input_is_still_coming() {
    let replica = Replica::start("streaming", "cat", &[], &[]).await;
    let (feed, body) = tokio::sync::mpsc::channel::<&'static str>(1);
    let body = stream::unfold(body, |mut body| async {
        let chunk = body.recv().await?;
        Some((Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))), body))
    });
    let request = request("POST", "/")
        .body(BodyExt::boxed(StreamBody::new(body)))
        .expect("valid");
    let mut response = replica.send(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    for chunk in ["one", "two"] {
        feed.send(chunk).await.expect("read");
        let frame = response.body_mut().frame().await.expect("a frame").expect("whole");
        assert_eq!(frame.into_data().expect("data"), chunk);
    }
    drop(feed);
    assert!(response.body_mut().frame().await.is_none());
}

#[tokio::test]
async fn streaming_is_200_whatever_happens_later() {
    let replica = Replica::start(
        "streaming",
        "sh -c 'echo begun; sleep 300'",
        &[("exec_timeout", "400ms")],
        &[],
    )
    .await;
    let answer = replica.call(post("/", "")).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "begun\n".to_owned()));
    replica.logged("stderr", "exec_timeout has passed").await;
}

#[tokio::test]
async fn http_mode_proxies_to_a_node_server() {
    let command = fixture("node", "echo.js");
    let replica = Replica::start("http", &command, &[("log_callid", "true")], &[]).await;
    let request = request("PUT", "/a%2Fb//c?x=%20;y")
        .header("connection", "x-private")
        .header("x-private", "1")
        .header("x-call-id", "call-9")
        .body(full(""))
        .expect("valid");
    let answer = replica.call(request).await;
    let seen: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(seen["method"], "PUT");
    assert_eq!(seen["url"], "/a%2Fb//c?x=%20;y");
    assert_eq!(seen["headers"]["host"], "function.example");
    assert!(seen["headers"].get("x-private").is_none());
    assert!(!answer.header("x-duration-seconds").is_empty());
    let line = format!(
        "PUT /a%2Fb//c?x=%20;y - 200 OK - ContentLength: {} (",
        answer.body.len()
    );
    replica.logged("stderr", &line).await;
    replica.logged("stderr", "s) [call-9]\n").await;
    replica.logged("stdout", " stdout: listening on ").await;

    let redirect = replica.call(get("/redirect")).await;
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (StatusCode::FOUND, "/elsewhere")
    );
    let body = Bytes::from(vec![7; 2_000_000]);
    assert_eq!(replica.call(post("/body", body.clone())).await.body, body);
}

#[tokio::test]
async fn http_mode_passes_trailers_on() {
    let replica = Replica::start("http", &fixture("node", "echo.js"), &[], &[]).await;
    let request = request("GET", "/trailer")
        .header("te", "trailers")
        .body(full(""))
        .expect("valid");
    let answer = replica.call(request).await;
    assert_eq!(answer.text(), "part one, part two");
    assert_eq!(answer.trailers.expect("trailers")["x-sum"], "42");
}

#[tokio::test]
async fn http_mode_proxies_to_a_python_server() {
    let replica = Replica::start("http", &fixture("python3", "echo.py"), &[], &[]).await;
    assert_eq!(replica.call(get("/path?q")).await.text(), "/path?q");
    assert_eq!(replica.call(post("/", "snake")).await.text(), "snake");
}

#[tokio::test]
async fn http_mode_can_send_bodies_with_their_length() {
    let replica = Replica::start("http", &fixture("node", "echo.js"), &[("buffer_http", "true")], &[]).await;
    let chunks = stream::iter(["a", "b"].map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))));
    let request = request("POST", "/")
        .body(BodyExt::boxed(StreamBody::new(chunks)))
        .expect("valid");
    let seen: serde_json::Value = serde_json::from_slice(&replica.call(request).await.body).expect("JSON");
    assert_eq!(seen["headers"]["content-length"], "2");
    assert!(seen["headers"].get("transfer-encoding").is_none());
}

#[tokio::test]
async fn http_mode_times_out_with_504() {
    let replica = Replica::start("http", &fixture("node", "echo.js"), &[("exec_timeout", "5s")], &[]).await;
    let request = request("GET", "/sleep?ms=60000")
        .header("x-timeout", "150ms")
        .body(full(""))
        .expect("valid");
    let answer = replica.call(request).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.header("x-openfaas-internal"), "of-watchdog");
    assert!(!answer.header("x-duration-seconds").is_empty());
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_500() {
    // It listens once, for readiness, and is gone afterwards, while the process stays.
    let script = "import os,socket,time\n\
                  s=socket.create_server(('127.0.0.1',int(os.environ['PORT'])))\n\
                  s.accept()\ns.close()\ntime.sleep(300)";
    let replica = Replica::start("http", &format!("python3 -c {}", shell_words::quote(script)), &[], &[]).await;
    let answer = replica.call(get("/")).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.header("x-openfaas-internal"), "of-watchdog");
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn a_port_of_others_is_not_taken_for_the_functions() {
    let theirs = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("binds");
    let url = format!("http://{}", theirs.local_addr().expect("bound"));
    let mut replica = Replica::spawn("http", "sleep 1000", &[("upstream_url", &url)], &[]);
    assert_eq!(replica.ended().await.code(), Some(1));
    let log = replica.log("stderr");
    assert!(log.contains("is in use by another process"), "{log}");
    drop(theirs);

    let environment = [("upstream_url", url.as_str())];
    let first = Replica::spawn("http", "sleep 1000", &environment, &[]);
    first.logged("stderr", "Forking sleep").await;
    let mut second = Replica::spawn("http", "sleep 1000", &environment, &[]);
    assert_eq!(second.ended().await.code(), Some(1));
    let log = second.log("stderr");
    assert!(log.contains("belongs to another function"), "{log}");
}

#[tokio::test]
async fn a_function_that_dies_takes_its_watchdog_along() {
    let mut replica = Replica::start("http", &fixture("node", "echo.js"), &[], &[]).await;
    let _ = replica.call(get("/exit?code=7")).await;
    assert_eq!(replica.ended().await.code(), Some(1));
    assert!(replica.log("stderr").contains("the function ended: exit status 7"));
}

#[tokio::test]
async fn a_function_that_does_not_listen_is_not_healthy() {
    let replica = Replica::spawn("http", "sleep 300", &[], &[]);
    eventually("the socket", || replica.socket().exists()).await;
    for path in ["/_/health", "/_/ready"] {
        let answer = replica.call(get(path)).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.header("retry-after"), "1", "{path}");
    }
    let put = request("PUT", "/_/health").body(full("")).expect("valid");
    assert_eq!(replica.call(put).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn ready_path_is_asked() {
    let environment = [("ready_path", "/redirect")];
    let replica = Replica::start("http", &fixture("node", "echo.js"), &environment, &[]).await;
    assert_eq!(replica.call(get("/_/ready")).await.status, StatusCode::FOUND);
    assert_eq!(replica.call(get("/_/health")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn websocket_messages_come_back() {
    let command = fixture("node", "websocket.js");
    let replica = Replica::start("http", &command, &[("exec_timeout", "200ms")], &[]).await;
    let (mut socket, response) = tokio_tungstenite::client_async("ws://function.example/", replica.connect().await)
        .await
        .expect("an upgrade");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    for text in ["first", "second"] {
        socket.send(Message::text(text)).await.expect("sent");
        assert_eq!(
            socket.next().await.expect("open").expect("a message"),
            Message::text(text)
        );
        // Longer than exec_timeout, which does not apply.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    socket.close(None).await.expect("closed");
}

#[tokio::test]
async fn events_arrive_one_by_one_and_have_no_time_limit() {
    let command = fixture("node", "events.js");
    let replica = Replica::start("http", &command, &[("exec_timeout", "200ms")], &[]).await;
    for (accept, first) in [
        ("text/event-stream", "data: event 1\n\n"),
        ("application/x-ndjson", "{\"event\":1}\n"),
    ] {
        let request = request("GET", "/?count=2&every=600")
            .header("accept", accept)
            .body(full(""))
            .expect("valid");
        let mut response = replica.send(request).await;
        let begun = Instant::now();
        assert_eq!(response.headers()["content-type"], accept);
        let frame = response.body_mut().frame().await.expect("a frame").expect("whole");
        assert_eq!(frame.into_data().expect("data"), first);
        assert!(
            begun.elapsed() < Duration::from_millis(500),
            "the first event waited for the second"
        );
        let rest = response.into_body().collect().await.expect("to its end").to_bytes();
        assert!(!rest.is_empty());
    }
}

#[tokio::test]
async fn static_mode_serves_files() {
    let files = tempfile::tempdir().expect("temp dir");
    fs::create_dir(files.path().join("public")).expect("a directory");
    fs::write(files.path().join("public/index.html"), "<h1>home</h1>").expect("a file");
    fs::write(files.path().join("public/data.json"), "{}").expect("a file");
    fs::write(files.path().join("secret"), "secret").expect("a file");
    let public = files.path().join("public").display().to_string();
    let replica = Replica::start("static", "unused", &[("static_path", &public)], &[]).await;
    let home = replica.call(get("/")).await;
    assert_eq!(
        (home.text(), home.header("content-type")),
        ("<h1>home</h1>".to_owned(), "text/html; charset=utf-8")
    );
    assert_eq!(
        replica.call(get("/data.json")).await.header("content-type"),
        "application/json"
    );
    for path in [
        "/none",
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "//etc/passwd",
        "/%2fetc/passwd",
    ] {
        let answer = replica.call(get(path)).await;
        assert!(
            answer.status.is_client_error(),
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
    }
    assert_eq!(
        replica.call(post("/", "x")).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let head = replica.call(request("HEAD", "/").body(full("")).expect("valid")).await;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "13"));
}

#[tokio::test]
async fn sigterm_lets_calls_finish() {
    let command = fixture("node", "echo.js");
    let mut replica = Replica::start("http", &command, &[("healthcheck_interval", "300ms")], &[]).await;
    let function = children(replica.child.id());
    let stream = replica.connect().await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("handshake");
    #[expect(clippy::disallowed_methods, reason = "ends with the connection")]
    tokio::spawn(connection);
    let slow = sender.send_request(get("/sleep?ms=1000"));
    let (answer, ()) = tokio::join!(async { read(slow.await.expect("an answer")).await }, async {
        // Once the second call was answered the first has arrived.
        assert_eq!(replica.call(get("/")).await.status, StatusCode::OK);
        replica.signal(Signal::SIGTERM);
        // Still serving, so that others notice, but no longer healthy.
        let deadline = Instant::now() + PATIENCE;
        while replica.call(get("/_/health")).await.status != StatusCode::SERVICE_UNAVAILABLE {
            assert!(Instant::now() < deadline, "still healthy");
        }
        assert_eq!(replica.call(get("/")).await.status, StatusCode::OK);
    });
    assert_eq!(answer.text(), "slept\n");
    assert_eq!(replica.ended().await.code(), Some(0));
    assert!(!replica.socket().exists());
    assert_eq!(function.len(), 1);
    dies(&function[0]).await;
}

#[tokio::test]
async fn sigterm_waits_for_a_forked_process() {
    let mut replica = Replica::start(
        "fork",
        "sh -c 'echo started > $TEST_DIRECTORY/mark; sleep 0.5; echo done'",
        &[],
        &[],
    )
    .await;
    let answer = {
        let call = replica.call(get("/"));
        let (answer, ()) = tokio::join!(call, async {
            replica.written("mark").await;
            replica.signal(Signal::SIGTERM);
        });
        answer
    };
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "done\n".to_owned()));
    assert_eq!(replica.ended().await.code(), Some(0));
}

#[tokio::test]
async fn calls_that_do_not_end_are_cut_at_the_bound() {
    let command = "sh -c 'sleep 300 & echo $! > $TEST_DIRECTORY/pid; wait'";
    let mut replica = Replica::start("fork", command, &[("write_timeout", "300ms")], &[]).await;
    let stream = replica.connect().await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("handshake");
    let pid = tokio::select! {
        pid = replica.written("pid") => { replica.signal(Signal::SIGTERM); pid }
        _ = async { tokio::join!(connection, sender.send_request(get("/"))) } => panic!("the call ended"),
    };
    assert_eq!(replica.ended().await.code(), Some(0));
    dies(&pid).await;
}

#[tokio::test]
async fn the_end_of_the_lifeline_ends_everything() {
    let command = fixture("node", "echo.js");
    let mut replica = Replica::start("http", &command, &[], &["--lifeline"]).await;
    let function = children(replica.child.id());
    assert_eq!(function.len(), 1);
    drop(replica.child.stdin.take());
    assert_eq!(replica.ended().await.code(), Some(0));
    assert!(replica.log("stderr").contains("the gateway is gone"));
    dies(&function[0]).await;
}

#[tokio::test]
async fn a_gateway_does_not_wait_for_others_to_notice() {
    let directory = tempfile::tempdir().expect("temp dir");
    let socket = directory.path().join("socket");
    let mut child = Command::new(env!("CARGO_BIN_EXE_faas-gateway"))
        .args(["watchdog", "--command", "cat", "--lifeline", "--socket"])
        .arg(&socket)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    eventually("the socket", || socket.exists()).await;
    kill(Pid::from_raw(child.id().try_into().expect("pid")), Signal::SIGTERM).expect("it runs");
    // `write_timeout` would be the usual pause: longer than anybody waits here.
    eventually("the end", || child.try_wait().expect("our child").is_some()).await;
}

#[tokio::test]
async fn not_even_sigkill_leaves_the_function_behind() {
    let mut replica = Replica::start("http", &fixture("node", "echo.js"), &[], &[]).await;
    let function = children(replica.child.id());
    assert_eq!(function.len(), 1);
    replica.signal(Signal::SIGKILL);
    replica.ended().await;
    dies(&function[0]).await;
}

#[tokio::test]
async fn a_greedy_function_hits_its_memory_limit() {
    let greedy = "python3 -c 'x = bytearray(400_000_000); print(len(x))'";
    let free = Replica::start("fork", greedy, &[], &[]).await;
    assert_eq!(free.call(post("/", "")).await.text(), "400000000\n");
    let limited = Replica::start("fork", greedy, &[], &["--memory-limit", "134217728"]).await;
    let answer = limited.call(post("/", "")).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.text().contains("MemoryError"), "{}", answer.text());
    assert_eq!(
        limited.call(get("/_/health")).await.status,
        StatusCode::OK,
        "the watchdog itself is not limited"
    );
}

#[tokio::test]
async fn a_small_limit_is_enough_for_a_small_function() {
    let replica = Replica::start("fork", "sha512sum", &[], &["--memory-limit", "5242880"]).await;
    let answer = replica.call(post("/", "hello")).await;
    assert!(
        answer.text().starts_with("9b71d224bd62f378"),
        "{} {}",
        answer.status,
        answer.text()
    );
}

#[tokio::test]
async fn secrets_are_where_functions_look_for_them() {
    let secrets = tempfile::tempdir().expect("temp dir");
    fs::write(secrets.path().join("key"), "open sesame").expect("a secret");
    let before = Path::new("/var/openfaas/secrets/key").exists();
    let replica = Replica::start(
        "fork",
        "sh -c 'cat $FAAS_SECRETS_DIR/key; echo; cat /var/openfaas/secrets/key'",
        &[],
        &["--secrets-dir", &secrets.path().display().to_string()],
    )
    .await;
    let answer = replica.call(get("/")).await;
    let log = replica.log("stderr");
    if log.contains("secrets are only in $FAAS_SECRETS_DIR") {
        assert!(!nix::unistd::geteuid().is_root(), "root can mount: {log}");
        assert!(answer.text().contains("open sesame\n"), "{}", answer.text());
    } else {
        assert_eq!(answer.text(), "open sesame\nopen sesame");
    }
    // A secret that changes is seen changed, and nobody else sees any.
    fs::write(secrets.path().join("key"), "changed").expect("a secret");
    assert!(replica.call(get("/")).await.text().starts_with("changed\n"));
    assert_eq!(Path::new("/var/openfaas/secrets/key").exists(), before);
}

#[tokio::test]
async fn what_is_wrong_is_said_at_the_start() {
    for (mode, command, environment, wanted) in [
        (
            "fork",
            "cat",
            ("exec_timeout", "soon"),
            "environment variable exec_timeout: ",
        ),
        (
            "fork",
            "no-such-command --flag",
            ("a", "b"),
            "'no-such-command' cannot be run",
        ),
        (
            "fork",
            "cat 'unclosed",
            ("a", "b"),
            "environment variable function_process: ",
        ),
        (
            "static",
            "",
            ("static_path", "/no/such/directory"),
            "static_path: /no/such/directory",
        ),
    ] {
        let mut replica = Replica::spawn(mode, command, &[environment], &[]);
        assert_eq!(replica.ended().await.code(), Some(64), "{wanted}");
        assert!(replica.log("stderr").contains(wanted), "{}", replica.log("stderr"));
    }
}

/// Process ids of a process's children.
fn children(parent: u32) -> Vec<String> {
    fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))
        .expect("it runs")
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}
