//! A gateway process of a test's own: `Gateway::new().config("…").start().await`.

use std::{
    collections::VecDeque,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::Method;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::Notify,
};

use faas_gateway_client::{Client, Sender, types};

use super::{
    eventually,
    nats::Nats,
    promised::{self, Asking},
    soon,
    typed::{done, problem},
};
use crate::{base_lane, queue_in_nats};

/// What a gateway is started with.
pub(crate) struct Setup {
    toml: String,
    environment: Vec<(String, String)>,
    without: Vec<String>,
    listens_by_file: bool,
    directory: Option<Arc<tempfile::TempDir>>,
    file: Option<PathBuf>,
    /// What to mount before the gateway starts, and where or from where.
    mount: Option<(String, PathBuf)>,
}

/// A running gateway; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    address: SocketAddr,
    metrics: SocketAddr,
    log: Arc<Log>,
    client: reqwest::Client,
    credentials: Option<(String, String)>,
    directory: Arc<tempfile::TempDir>,
    /// Lives as long as somebody uses it.
    _nats: Option<Arc<Nats>>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<VecDeque<Value>>,
    more: Notify,
}

impl Gateway {
    /// A gateway with the process provider, a state directory of its own, and
    /// ports of its own.
    #[expect(clippy::new_ret_no_self, reason = "the setup is what a test writes down")]
    pub(crate) fn new() -> Setup {
        Setup {
            toml: String::new(),
            environment: Vec::new(),
            without: Vec::new(),
            listens_by_file: false,
            directory: None,
            file: None,
            mount: None,
        }
    }

    /// A gateway in front of a provider at `url`.
    pub(crate) fn before(url: &str) -> Setup {
        Self::new().env("functions_provider_url", url)
    }

    /// The address of API and functions.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The gateway's base URL, without a trailing slash.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The process.
    pub(crate) fn pid(&self) -> Pid {
        let pid = self.child.id().expect("the gateway runs");
        Pid::from_raw(i32::try_from(pid).expect("a pid"))
    }

    /// The directory with the configuration file, the state and the secrets.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where a path of its own mounts is for others.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid()));
        root.join(path.strip_prefix("/").expect("absolute"))
    }

    /// The configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory().join("gateway.toml")
    }

    /// Every request from here on carries these credentials.
    pub(crate) fn sign_in(&mut self, user: &str, password: &str) {
        self.credentials = Some((user.to_owned(), password.to_owned()));
    }

    /// The client that is generated from the API's document, with these credentials
    /// if there are any. What it is answered is checked against the document, too.
    pub(crate) fn client(&self) -> Client {
        let mut headers = HeaderMap::new();
        if let Some((user, password)) = &self.credentials {
            let token = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let value = HeaderValue::try_from(format!("Basic {token}")).expect("base64");
            headers.insert(AUTHORIZATION, value);
        }
        let send = move |client: reqwest::Client, mut request: reqwest::Request| {
            // What people send to functions is no secret of theirs.
            let (method, path) = (request.method().clone(), request.url().path().to_owned());
            if !path.starts_with("/function/") {
                request.headers_mut().extend(headers.clone());
            }
            Box::pin(async move { promised::looked_at(&method, &path, client.execute(request).await?).await }) as _
        };
        Client::new_with_client(&self.url(), self.client.clone(), Sender::by(send))
    }

    /// A request to `path`. What the API answers is checked against its document.
    pub(crate) fn request(&self, method: Method, path: &str) -> Asking {
        let request = self.client.request(method.clone(), format!("{}{path}", self.url()));
        let request = Asking::new(method, path, request);
        match &self.credentials {
            Some((user, password)) if !path.starts_with("/function/") => request.basic_auth(user, Some(password)),
            _ => request,
        }
    }

    /// `GET path`.
    pub(crate) fn get(&self, path: &str) -> Asking {
        self.request(Method::GET, path)
    }

    /// `POST path`.
    pub(crate) fn post(&self, path: &str) -> Asking {
        self.request(Method::POST, path)
    }

    /// Sends a JSON body and returns status and text.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> (u16, String) {
        let response = self.request(method, path).json(body).send().await.expect("an answer");
        (response.status().as_u16(), response.text().await.expect("a body"))
    }

    /// Deploys a function and waits until it can be called.
    pub(crate) async fn deploy(&self, deployment: &Value) {
        let body: types::FunctionDeployment = serde_json::from_value(deployment.clone()).expect("a deployment");
        let (name, namespace) = (body.service.to_string(), body.namespace.clone());
        done(self.client().deploy_function().body(body).send().await);
        self.ready(&name, namespace.as_deref().map_or("", String::as_str)).await;
    }

    /// Asks for so many replicas of a function of the default namespace.
    pub(crate) async fn scale(&self, name: &str, replicas: u32) {
        let body = types::ScaleServiceRequest::builder()
            .service_name(name.to_owned())
            .replicas(u64::from(replicas));
        done(self.client().scale_function().name(name).body(body).send().await);
    }

    /// Removes a function of the default namespace.
    pub(crate) async fn remove(&self, name: &str) {
        let body = types::DeleteFunctionRequest::builder().function_name(name);
        done(self.client().delete_function().body(body).send().await);
    }

    /// Makes this file the live configuration.
    pub(crate) async fn configure(&self, toml: &str) -> types::ConfigReload {
        std::fs::write(self.config_file(), toml).expect("writable");
        done(self.client().reload_config().send().await)
    }

    /// Waits until a function has a ready replica.
    pub(crate) async fn ready(&self, name: &str, namespace: &str) {
        eventually(&format!("{name} ready"), || async {
            let status = self.status(name, namespace).await?;
            (status.available_replicas > 0).then_some(())
        })
        .await;
    }

    /// A function's status, if it exists.
    pub(crate) async fn status(&self, name: &str, namespace: &str) -> Option<types::FunctionStatus> {
        let client = self.client();
        let asked = client.get_function().name(name);
        let asked = if namespace.is_empty() {
            asked
        } else {
            asked.namespace(namespace)
        };
        match asked.send().await {
            Ok(answer) => Some(answer.into_inner()),
            Err(error) => {
                assert_eq!(problem(error).status, 404);
                None
            }
        }
    }

    /// Calls a function and returns its text; fails unless it answers 200.
    pub(crate) async fn invoke(&self, path: &str, body: impl Into<reqwest::Body>) -> String {
        let response = self.post(path).body(body).send().await.expect("an answer");
        let (status, text) = (response.status(), response.text().await.expect("a body"));
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    /// Where the metrics are.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// The metrics page.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.metrics);
        let response = self.client.get(url).send().await.expect("metrics");
        response.text().await.expect("text")
    }

    /// The status of `/healthz` where the metrics are.
    pub(crate) async fn health_of_metrics(&self) -> u16 {
        let url = format!("http://{}/healthz", self.metrics);
        let response = self.client.get(url).send().await.expect("an answer");
        response.status().as_u16()
    }

    /// The value of a series, written as the page writes it.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        self.metrics()
            .await
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits for a log line that `matches`, among those not waited for yet.
    pub(crate) async fn logged(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        self.log.find(what, matches).await
    }

    /// How many log lines so far match.
    pub(crate) fn log_count(&self, matches: impl Fn(&Value) -> bool) -> usize {
        let lines = self.log.lines.lock().expect("no panic");
        lines.iter().filter(|line| matches(line)).count()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the gateway runs");
    }

    /// Waits for the process to end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon("the gateway's end", self.child.wait()).await.expect("a status")
    }

    /// Kills the process as `kill -9` does and starts another on its directory.
    pub(crate) async fn crash_and_restart(mut self, setup: Setup) -> Self {
        self.signal(Signal::SIGKILL);
        self.ended().await;
        setup.directory(Arc::clone(&self.directory)).start().await
    }
}

/// A field of a JSON log line, wherever the format puts it.
pub(crate) fn field<'a>(line: &'a Value, name: &str) -> &'a Value {
    match &line[name] {
        Value::Null => &line["fields"][name],
        value => value,
    }
}

/// An address in a JSON log line.
pub(crate) fn logged_address(line: &Value, name: &str) -> SocketAddr {
    let text = field(line, name).as_str().expect("an address");
    text.parse().expect("an address")
}

impl Setup {
    /// Adds lines to the configuration file.
    pub(crate) fn config(mut self, toml: &str) -> Self {
        self.toml.push_str(toml);
        self.toml.push('\n');
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves out a variable that a test's gateway has otherwise, so that the
    /// file decides.
    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.without.push(name.to_owned());
        self
    }

    /// Leaves the addresses to the configuration file, which must have both.
    pub(crate) fn listens_by_file(mut self) -> Self {
        self.listens_by_file = true;
        self
    }

    /// Uses the directory of an earlier gateway.
    pub(crate) fn directory(mut self, directory: Arc<tempfile::TempDir>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Reads this file or directory, which is there already, in place of one
    /// of its own.
    pub(crate) fn config_from(mut self, path: PathBuf) -> Self {
        self.file = Some(path);
        self
    }

    /// Has the names of hosts looked up in this file, which the test may change
    /// in place. Needs [`can_mount`].
    pub(crate) fn hosts(mut self, path: PathBuf) -> Self {
        self.mount = Some(("mount --bind \"$0\" /etc/hosts".to_owned(), path));
        self
    }

    /// Gives it a disk of so many KiB at this path, a directory; others see it at
    /// [`Gateway::inside`] only. Needs [`can_mount`].
    pub(crate) fn disk(mut self, path: PathBuf, kib: u32) -> Self {
        self.mount = Some((format!("mount -t tmpfs -o size={kib}k none \"$0\""), path));
        self
    }

    /// Turns basic authentication on, with these credentials.
    pub(crate) fn basic_auth(self, user: &str, password: &str) -> Self {
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        let secrets = directory.path().join("auth");
        std::fs::create_dir(&secrets).expect("a directory");
        std::fs::write(secrets.join("basic-auth-user"), user).expect("a file");
        std::fs::write(secrets.join("basic-auth-password"), password).expect("a file");
        let secrets = secrets.display().to_string();
        self.directory(directory)
            .env("basic_auth", "true")
            .env("secret_mount_path", &secrets)
    }

    /// The command that `start` runs, for tests of starts that fail.
    pub(crate) fn command(&self, directory: &Path) -> Command {
        let file = self.file.clone().unwrap_or_else(|| directory.join("gateway.toml"));
        if self.file.is_none() && (!file.exists() || !self.toml.is_empty()) {
            std::fs::write(&file, format!("# a test's configuration\n{}", self.toml)).expect("a file");
        }
        let free_ports: &[_] = if self.listens_by_file {
            &[]
        } else {
            &[
                ("FAAS__SERVER__LISTEN", "127.0.0.1:0"),
                ("FAAS__METRICS__LISTEN", "127.0.0.1:0"),
            ]
        };
        let program = env!("CARGO_BIN_EXE_faas-gateway");
        let mut command = match &self.mount {
            None => Command::new(program),
            Some((mount, path)) => {
                let mut command = Command::new("unshare");
                let script = format!("{mount} && exec \"$@\"");
                command.args(["--map-root-user", "--mount", "sh", "-c", &script]);
                command.arg(path).arg(program);
                command
            }
        };
        command
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", directory)
            .env("FAAS__PROVIDER__PROCESS__STATE_DIR", directory.join("state"))
            .env("FAAS__LOGGING__FORMAT", "json")
            .envs(free_ports.iter().copied())
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if base_lane::is_wanted() {
            command.env("FAAS__SERVER__FAST_LANE", "false");
        }
        for name in &self.without {
            command.env_remove(name);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts the gateway and waits until it listens.
    pub(crate) async fn start(self) -> Gateway {
        let directory = self
            .directory
            .clone()
            .unwrap_or_else(|| Arc::new(tempfile::tempdir().expect("a directory")));
        let nats = if queue_in_nats::is_wanted() {
            Some(Nats::shared().await)
        } else {
            None
        };
        let mut command = self.command(directory.path());
        if let Some(nats) = &nats {
            // Names of directories are unlike each other, and begin with a dot.
            let queue = directory
                .path()
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .replace('.', "");
            command
                .env("FAAS__QUEUE__NATS_ADDRESS", "127.0.0.1")
                .env("FAAS__QUEUE__NATS_PORT", nats.port().to_string())
                .env("FAAS__QUEUE__NATS_CHANNEL", queue)
                .env("FAAS__QUEUE__ACK_WAIT", "2s");
        }
        let mut child = command.spawn().expect("the gateway starts");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("piped");
        tokio::spawn(Arc::clone(&log).read(BufReader::new(stderr)));
        let listening = log
            .find("listening", |line| field(line, "message") == "listening")
            .await;
        Gateway {
            child,
            address: logged_address(&listening, "address"),
            metrics: logged_address(&listening, "metrics"),
            log,
            client: client(),
            credentials: None,
            directory,
            _nats: nats,
        }
    }
}

/// Whether this system lets users make mounts; says so where it does not. Not by
/// a macro: the output of tests that pass is kept back.
pub(crate) fn can_mount(what: &str) -> bool {
    let mut command = std::process::Command::new("unshare");
    command.args(["--map-root-user", "--mount", "true"]);
    let can = command.output().is_ok_and(|output| output.status.success());
    if !can {
        let told = writeln!(
            std::io::stderr(),
            "SKIPPED: {what}: this system lets nobody make mounts (unshare --map-root-user --mount)"
        );
        told.expect("standard error");
    }
    can
}

/// A client that follows nothing and adds nothing.
pub(crate) fn client() -> reqwest::Client {
    faas_gateway::client::build(super::PATIENCE * 3)
}

impl Log {
    async fn read(self: Arc<Self>, stderr: impl tokio::io::AsyncBufRead + Unpin) {
        let mut lines = stderr.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            // Shown when the test fails.
            eprintln!("{line}");
            let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
            self.lines.lock().expect("no panic").push_back(value);
            self.more.notify_waiters();
        }
    }

    async fn find(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let mut seen = 0;
        soon(&format!("the log line '{what}'"), async {
            loop {
                let more = self.more.notified();
                {
                    let lines = self.lines.lock().expect("no panic");
                    if let Some(line) = lines.iter().skip(seen).find(|line| matches(line)) {
                        return line.clone();
                    }
                    seen = lines.len();
                }
                // A line may have come between the look and the wait.
                let _ = tokio::time::timeout(std::time::Duration::from_millis(50), more).await;
            }
        })
        .await
    }
}
