//! What only the process provider promises: real processes, a durable state.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use faas_gateway::{
    config::Image,
    model::{FunctionDeployment, FunctionRef, FunctionResources, LogQuery},
    provider::{
        Provider, ProviderError,
        process::{ProcessProvider, Settings},
    },
    shutdown::Tasks,
    upstream::Address,
};
use futures_util::StreamExt;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::provider::{Backend, available, deployment, eventually, function, map, secret};
use crate::support::{fixture, free_port};

/// A process provider with a state directory of its own.
pub(crate) struct Local {
    provider: Arc<ProcessProvider>,
    tasks: Tasks,
    folder: tempfile::TempDir,
}

fn settings(state_dir: &Path) -> Settings {
    Settings {
        restart_backoff: Duration::from_millis(50),
        restart_backoff_max: Duration::from_millis(500),
        stop_timeout: Duration::from_secs(10),
        environment: map(&[("PATH", "/usr/local/bin:/usr/bin:/bin")]),
        ..Settings::new(state_dir, env!("CARGO_BIN_EXE_faas-gateway"))
    }
}

impl Local {
    pub(crate) async fn backend() -> Box<dyn Backend> {
        Box::new(Self::start().await)
    }

    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().expect("temp dir");
        let mut settings = settings(folder.path());
        change(&mut settings);
        let tasks = Tasks::new();
        let provider = ProcessProvider::open(settings, tasks.clone()).await.expect("opens");
        Self {
            provider,
            tasks,
            folder,
        }
    }

    async fn deploy(&self, name: &str, command: &str) {
        let deployment = running(name, command);
        self.provider.deploy(deployment).await.expect("deployed");
        available(&*self.provider, &function(name), 1).await;
    }
}

#[async_trait]
impl Backend for Local {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider) as Arc<dyn Provider>
    }

    async fn write_line(&self, function: &FunctionRef, text: &str) {
        let (status, _) = call(&*self.provider, function, text).await;
        assert_eq!(status, StatusCode::OK);
    }
}

fn running(name: &str, command: &str) -> FunctionDeployment {
    FunctionDeployment {
        service: name.to_owned(),
        image: "local".to_owned(),
        env_process: Some(command.to_owned()),
        ..Default::default()
    }
}

/// Calls a function once, as the gateway would.
async fn call(provider: &dyn Provider, function: &FunctionRef, body: &str) -> (StatusCode, String) {
    let upstream = provider.upstream(function).expect("ready");
    let _in_flight = upstream.endpoint.begin();
    let body = Full::new(Bytes::from(body.to_owned()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let request = Request::post("/")
        .header(header::HOST, upstream.endpoint.host())
        .body(body)
        .expect("request");
    let response = upstream
        .endpoint
        .send(Box::new(request), faas_gateway::upstream::Protocol::Http1)
        .await
        .expect("answered");
    let status = response.status();
    let body = response.into_body().collect().await.expect("whole").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Socket of a replica of the function.
fn socket(provider: &dyn Provider, function: &FunctionRef) -> PathBuf {
    match provider.upstream(function).expect("ready").endpoint.address() {
        Address::Unix(path) => path.clone(),
        Address::Tcp { .. } => panic!("not a socket"),
    }
}

/// Ids of processes with `text` in their command line.
fn processes(text: &str) -> Vec<i32> {
    let list = std::fs::read_dir("/proc").expect("linux");
    list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|command| String::from_utf8_lossy(&command).replace('\0', " ").contains(text))
        })
        .collect()
}

fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
}

/// The watchdog behind a socket; the one that holds the socket is the oldest.
fn watchdog(socket: &Path) -> i32 {
    let socket = format!("--socket {}", socket.display());
    *processes(&socket).iter().min().expect("it runs")
}

#[tokio::test]
async fn commands_answer_calls() {
    let local = Local::start().await;
    local.deploy("shout", "tr a-z A-Z").await;
    assert_eq!(
        call(&*local.provider, &function("shout"), "hello").await,
        (StatusCode::OK, "HELLO".to_owned())
    );
    local.provider.close().await;
}

#[tokio::test]
async fn a_command_that_is_not_there_is_refused() {
    let local = Local::start().await;
    for (command, reason) in [
        (Some("nonesuch-command"), "'nonesuch-command' was not found on PATH"),
        (None, "has none for image 'local'"),
        (Some("cat 'open"), "quoted as in a shell"),
    ] {
        let deployment = FunctionDeployment {
            env_process: command.map(str::to_owned),
            ..running("f", "")
        };
        let error = local.provider.deploy(deployment).await.expect_err(reason);
        assert!(
            matches!(&error, ProviderError::Invalid(text) if text.contains(reason)),
            "{error:?}"
        );
    }
    local.provider.close().await;
}

#[tokio::test]
async fn images_of_the_table_name_commands_and_can_change_while_running() {
    let local = Local::start().await;
    let by_image = FunctionDeployment {
        env_process: None,
        image: "acme/shout:latest".to_owned(),
        ..running("shout", "")
    };
    local
        .provider
        .deploy(by_image.clone())
        .await
        .expect_err("not in the table yet");
    let image = Image {
        command: "sh -c 'pwd; echo $GREETING'".to_owned(),
        directory: Some(local.folder.path().canonicalize().expect("exists")),
        mode: None,
        environment: map(&[("GREETING", "hello")]),
    };
    let mut changed = settings(local.folder.path());
    changed.images.insert("acme/shout:latest".to_owned(), image.clone());
    local.provider.reconfigure(changed);
    local.provider.deploy(by_image).await.expect("deployed");
    available(&*local.provider, &function("shout"), 1).await;
    let (_, body) = call(&*local.provider, &function("shout"), "").await;
    let expected = format!("{}\nhello\n", image.directory.expect("set").display());
    assert_eq!(body, expected);
    local.provider.close().await;
}

#[tokio::test]
async fn functions_do_not_see_the_gateways_environment() {
    let local = Local::start().await;
    local.deploy("env", "env").await;
    let (_, body) = call(&*local.provider, &function("env"), "").await;
    assert!(body.contains("OPENFAAS_NAME=env"), "{body}");
    assert!(!body.contains("CARGO_"), "{body}");
    local.provider.close().await;
}

#[tokio::test]
async fn a_killed_replica_is_started_again() {
    let local = Local::start().await;
    local.deploy("f", "cat").await;
    let before = socket(&*local.provider, &function("f"));
    kill_9(watchdog(&before));
    eventually("another replica", || async {
        local.provider.upstream(&function("f")).is_ok() && socket(&*local.provider, &function("f")) != before
    })
    .await;
    assert_eq!(call(&*local.provider, &function("f"), "again").await.1, "again");
    assert!(!before.exists(), "its socket is removed");
    let query = LogQuery {
        name: "f".to_owned(),
        ..Default::default()
    };
    let lines: Vec<_> = local.provider.logs(query).await.expect("answers").collect().await;
    let told = |text: &str| {
        lines
            .iter()
            .any(|line| line.as_ref().is_ok_and(|line| line.text.contains(text)))
    };
    assert!(told("the replica ended (signal: 9"), "{lines:?}");
    local.provider.close().await;
}

#[tokio::test]
async fn a_killed_replica_leaves_no_call_behind() {
    let local = Local::start().await;
    // No other process on this machine has this command line.
    let command = format!("sleep 9{}", std::process::id());
    local.deploy("f", &command).await;
    let before = socket(&*local.provider, &function("f"));
    let calling = Arc::clone(&local.provider);
    local.tasks.spawn(async move {
        let upstream = calling.upstream(&function("f")).expect("ready");
        let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        let request = Request::post("/")
            .header(header::HOST, "f")
            .body(body)
            .expect("request");
        upstream
            .endpoint
            .send(Box::new(request), faas_gateway::upstream::Protocol::Http1)
            .await
            .expect_err("killed meanwhile");
    });
    let calls = || processes(&command).into_iter().filter(|pid| !is_watchdog(*pid)).count();
    eventually("the call runs", || async { calls() == 1 }).await;
    kill_9(watchdog(&before));
    eventually("the call is killed", || async { calls() == 0 }).await;
    local.provider.close().await;
}

/// The watchdog's own command line names its function's command as well.
fn is_watchdog(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|command| String::from_utf8_lossy(&command).contains("--socket"))
}

#[tokio::test]
async fn a_function_that_cannot_stay_up_says_how_it_ended() {
    let local = Local::start().await;
    let broken = FunctionDeployment {
        env_vars: Some(map(&[("mode", "http")])),
        ..running("f", "sh -c 'exit 3'")
    };
    local.provider.deploy(broken).await.expect("accepted");
    eventually("an explanation", || async {
        match local.provider.upstream(&function("f")) {
            Err(ProviderError::NotReady { reason, .. }) => reason.contains("its replica ended (exit status: "),
            _ => false,
        }
    })
    .await;
    local.provider.close().await;
}

#[tokio::test]
async fn an_update_drops_no_call() {
    let local = Local::start().await;
    local.deploy("f", "echo one").await;
    local.provider.scale(&function("f"), 2).await.expect("scaled");
    available(&*local.provider, &function("f"), 2).await;

    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (provider, done) = (Arc::clone(&local.provider), Arc::clone(&done));
            #[expect(clippy::disallowed_methods, reason = "joined below")]
            tokio::spawn(async move {
                let mut answers = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let (status, body) = call(&*provider, &function("f"), "").await;
                    assert_eq!(status, StatusCode::OK);
                    answers.push(body);
                }
                answers
            })
        })
        .collect();
    local.provider.update(running("f", "echo two")).await.expect("updated");
    // Both old ones are gone when only the new two are left on the list.
    let sockets = local.folder.path().canonicalize().expect("exists").join("run/s");
    eventually("only new replicas", || async {
        let (_, body) = call(&*local.provider, &function("f"), "").await;
        body == "two\n" && std::fs::read_dir(&sockets).expect("lists").count() == 2
    })
    .await;
    done.store(true, Ordering::Relaxed);
    for caller in callers {
        let answers = caller.await.expect("no call failed");
        assert_eq!(answers.first().map(String::as_str), Some("one\n"));
        assert_eq!(answers.last().map(String::as_str), Some("two\n"));
    }
    assert_eq!(
        local
            .provider
            .status(&function("f"), false)
            .await
            .expect("known")
            .available_replicas,
        2
    );
    local.provider.close().await;
}

/// A deployment of the Node fixture, listening on a port of its own choice.
fn on_port(name: &str, port: u16) -> FunctionDeployment {
    let upstream = format!("http://127.0.0.1:{port}");
    FunctionDeployment {
        env_vars: Some(map(&[("upstream_url", &upstream)])),
        ..running(name, &fixture("node", "echo.js"))
    }
}

#[tokio::test]
async fn a_fixed_port_belongs_to_one_replica_of_one_function() {
    let local = Local::start().await;
    let (port, name) = (free_port(), function("fixed"));
    let invalid = |result: Result<(), ProviderError>, reason: &str| match result {
        Err(ProviderError::Invalid(text)) if text.contains(reason) => {}
        other => panic!("{other:?} for {reason}"),
    };
    local.provider.deploy(on_port("fixed", port)).await.expect("deployed");
    available(&*local.provider, &name, 1).await;
    let other = local.provider.deploy(on_port("other", port)).await;
    invalid(other, "is taken by function fixed");
    invalid(local.provider.scale(&name, 2).await, "listen on $PORT");
    let several = FunctionDeployment {
        labels: Some(map(&[("com.openfaas.scale.min", "2")])),
        ..on_port("several", free_port())
    };
    invalid(local.provider.deploy(several).await, "listen on $PORT");

    // Scaling to zero and back hands the port on, and so does an update.
    for replicas in [0, 1] {
        local.provider.scale(&name, replicas).await.expect("scaled");
    }
    available(&*local.provider, &name, 1).await;
    let before = socket(&*local.provider, &name);
    local.provider.update(on_port("fixed", port)).await.expect("updated");
    eventually("the new replica serves", || async {
        local.provider.upstream(&name).is_ok() && socket(&*local.provider, &name) != before
    })
    .await;
    assert_eq!(call(&*local.provider, &name, "").await.0, StatusCode::OK);
    let query = LogQuery {
        name: "fixed".to_owned(),
        ..Default::default()
    };
    let lines: Vec<_> = local.provider.logs(query).await.expect("answers").collect().await;
    let died = lines
        .iter()
        .flatten()
        .find(|line| line.text.contains("the replica ended"));
    assert!(died.is_none(), "{lines:?}");
    local.provider.close().await;
}

#[tokio::test]
async fn a_stopped_replica_has_the_whole_stop_timeout_for_its_calls() {
    for (timeout, write_timeout) in [(2000, None), (200, Some("10s"))] {
        let local = Local::start_with(|settings| settings.stop_timeout = Duration::from_millis(timeout)).await;
        let slow = FunctionDeployment {
            env_vars: write_timeout.map(|limit| map(&[("write_timeout", limit)])),
            ..running("slow", "sh -c 'sleep 1.7; echo done'")
        };
        local.provider.deploy(slow).await.expect("deployed");
        available(&*local.provider, &function("slow"), 1).await;
        let name = function("slow");
        let (answer, scaled) = tokio::join!(call(&*local.provider, &name, ""), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            local.provider.scale(&function("slow"), 0).await
        });
        scaled.expect("scaled");
        assert_eq!(answer, (StatusCode::OK, "done\n".to_owned()), "{timeout}");
        local.provider.close().await;
    }
}

#[tokio::test]
async fn a_static_function_without_its_directory_is_refused() {
    let local = Local::start().await;
    let site = FunctionDeployment {
        env_process: None,
        env_vars: Some(map(&[("mode", "static"), ("static_path", "/no/such/directory")])),
        ..running("site", "")
    };
    match local.provider.deploy(site).await {
        Err(ProviderError::Invalid(text)) => assert!(text.contains("static_path: /no/such/directory"), "{text}"),
        other => panic!("{other:?}"),
    }
    local.provider.close().await;
}

#[tokio::test]
async fn an_update_that_never_gets_ready_leaves_the_old_one_serving() {
    let local = Local::start().await;
    local.deploy("f", "echo one").await;
    let broken = FunctionDeployment {
        env_vars: Some(map(&[("mode", "http")])),
        ..running("f", "sh -c 'exit 3'")
    };
    local.provider.update(broken).await.expect("accepted");
    let query = LogQuery {
        name: "f".to_owned(),
        follow: true,
        ..Default::default()
    };
    let mut lines = local.provider.logs(query).await.expect("answers");
    // Twice, so that it has been tried again as well.
    for _ in 0..2 {
        while !lines
            .next()
            .await
            .expect("open")
            .expect("line")
            .text
            .contains("the replica ended")
        {}
    }
    assert_eq!(call(&*local.provider, &function("f"), "").await.1, "one\n");
    let status = local.provider.status(&function("f"), false).await.expect("known");
    assert_eq!((status.replicas, status.available_replicas), (1, 1));
    local
        .provider
        .update(running("f", "echo three"))
        .await
        .expect("updated");
    eventually("the repaired one", || async {
        call(&*local.provider, &function("f"), "").await.1 == "three\n"
    })
    .await;
    local.provider.close().await;
}

#[tokio::test]
async fn secrets_are_files_that_follow_updates() {
    let local = Local::start().await;
    local
        .provider
        .create_secret(secret("key", "first"))
        .await
        .expect("created");
    let deployment = FunctionDeployment {
        secrets: Some(vec!["key".to_owned()]),
        ..running("f", "sh -c 'cat $FAAS_SECRETS_DIR/key'")
    };
    local.provider.deploy(deployment).await.expect("deployed");
    available(&*local.provider, &function("f"), 1).await;
    assert_eq!(call(&*local.provider, &function("f"), "").await.1, "first");
    local
        .provider
        .update_secret(secret("key", "second"))
        .await
        .expect("updated");
    assert_eq!(call(&*local.provider, &function("f"), "").await.1, "second");
    let kept = local.folder.path().join("secrets/openfaas-fn/key");
    let mode = std::fs::metadata(&kept).expect("kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    local.provider.close().await;
}

#[tokio::test]
async fn what_replicas_use_is_measured() {
    let local = Local::start().await;
    local.deploy("f", "cat").await;
    let status = local.provider.status(&function("f"), true).await.expect("known");
    let usage = status.usage.expect("linux");
    assert!(usage.total_memory_bytes.is_some_and(|bytes| bytes.0 > 0.0), "{usage:?}");
    assert!(usage.cpu.is_some(), "{usage:?}");
    local.provider.close().await;
}

#[tokio::test]
async fn limits_do_not_keep_a_function_from_working() {
    let local = Local::start().await;
    let limited = FunctionDeployment {
        limits: Some(FunctionResources {
            memory: Some("256Mi".to_owned()),
            cpu: Some("500m".to_owned()),
            ..Default::default()
        }),
        ..running("f", "cat")
    };
    local.provider.deploy(limited).await.expect("deployed");
    available(&*local.provider, &function("f"), 1).await;
    assert_eq!(call(&*local.provider, &function("f"), "x").await.1, "x");
    let info = local.provider.info().await.expect("answers");
    assert!(info.limits.is_some_and(|limits| limits.contains("memory")));
    local.provider.close().await;
}

#[tokio::test]
async fn logs_on_disk_are_bounded() {
    let local = Local::start_with(|settings| settings.log_size = 16 * 1024).await;
    let chatty = FunctionDeployment {
        env_vars: Some(map(&[("combine_output", "false")])),
        ..running("f", "sh -c 'seq 5000 >&2'")
    };
    local.provider.deploy(chatty).await.expect("deployed");
    available(&*local.provider, &function("f"), 1).await;
    assert_eq!(call(&*local.provider, &function("f"), "").await.0, StatusCode::OK);
    let query = || LogQuery {
        name: "f".to_owned(),
        ..Default::default()
    };
    eventually("the last line", || async {
        let lines: Vec<_> = local.provider.logs(query()).await.expect("answers").collect().await;
        lines
            .into_iter()
            .any(|line| line.is_ok_and(|line| line.text.contains("5000")))
    })
    .await;
    let size: u64 = files(&local.folder.path().join("logs"))
        .iter()
        .map(|file| std::fs::metadata(file).expect("exists").len())
        .sum();
    assert!(size <= 16 * 1024, "{size}");
    local.provider.close().await;
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("lists") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn closing_ends_every_process() {
    let local = Local::start().await;
    local.deploy("f", "cat").await;
    local.provider.scale(&function("f"), 3).await.expect("scaled");
    available(&*local.provider, &function("f"), 3).await;
    let run = local.folder.path().canonicalize().expect("exists").join("run/s/");
    assert!(processes(&run.display().to_string()).len() >= 3);
    local.provider.close().await;
    assert_eq!(processes(&run.display().to_string()), Vec::<i32>::new());
    let refused = local.provider.deploy(running("g", "cat")).await;
    assert!(matches!(refused, Err(ProviderError::NotReady { .. })), "{refused:?}");
}

#[tokio::test]
async fn aborting_ends_every_process() {
    let local = Local::start().await;
    local.deploy("f", "cat").await;
    let run = local.folder.path().canonicalize().expect("exists").join("run/s/");
    local.tasks.abort();
    local.tasks.ended().await;
    eventually("no process", || async {
        processes(&run.display().to_string()).is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_state_directory_has_one_owner_until_it_closes() {
    let local = Local::start().await;
    local.deploy("f", "cat").await;
    let again = || ProcessProvider::open(settings(local.folder.path()), Tasks::new());
    let error = again().await.map(drop).expect_err("in use").to_string();
    assert!(error.contains("in use by another gateway"), "{error}");
    local.provider.close().await;
    let second = again().await.expect("free");
    available(&*second, &function("f"), 1).await;
    second.close().await;
}

#[tokio::test]
async fn a_long_state_directory_works() {
    let local = Local::start_with(|settings| settings.state_dir = settings.state_dir.join("x".repeat(120))).await;
    local.deploy("f", "cat").await;
    assert_eq!(call(&*local.provider, &function("f"), "x").await.1, "x");
    local.provider.close().await;
}

/// Not a test of its own: the gateway that [`everything_comes_back_after_kill_9`] kills.
#[tokio::test]
#[ignore = "run by another test, which says where"]
async fn victim() {
    let mut folder = String::new();
    std::io::stdin().lock().read_line(&mut folder).expect("told where");
    let provider = ProcessProvider::open(settings(Path::new(folder.trim())), Tasks::new())
        .await
        .expect("opens");
    provider.create_secret(secret("key", "value")).await.expect("created");
    for name in ["a", "b", "c"] {
        provider.deploy(running(name, "cat")).await.expect("deployed");
        available(&*provider, &function(name), 1).await;
    }
    provider.scale(&function("b"), 2).await.expect("scaled");
    provider.scale(&function("c"), 0).await.expect("scaled");
    available(&*provider, &function("b"), 2).await;
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nstarted").and_then(|()| out.flush()).expect("told");
    // Until killed: the pipe is never closed before.
    std::io::stdin().lock().read_to_end(&mut Vec::new()).expect("waits");
}

#[tokio::test]
async fn everything_comes_back_after_kill_9() {
    let folder = tempfile::tempdir().expect("temp dir");
    let mut victim = Command::new(std::env::current_exe().expect("this test"))
        .args(["contract::process::victim", "--exact", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdin = victim.stdin.take().expect("piped");
    writeln!(stdin, "{}", folder.path().display()).expect("told");
    let stdout = BufReader::new(victim.stdout.take().expect("piped"));
    assert!(
        stdout.lines().any(|line| line.is_ok_and(|line| line == "started")),
        "the victim started"
    );
    let run = folder
        .path()
        .canonicalize()
        .expect("exists")
        .join("run/s/")
        .display()
        .to_string();
    assert!(processes(&run).len() >= 3);
    victim.kill().expect("killed");
    victim.wait().expect("ended");
    drop(stdin);

    // What a write that was interrupted would have left.
    let leftover = folder.path().join("functions/openfaas-fn/.tmp-half");
    std::fs::write(&leftover, "{\"uid\":").expect("written");
    eventually("replicas without a gateway end", || async {
        processes(&run).is_empty()
    })
    .await;
    let provider = ProcessProvider::open(settings(folder.path()), Tasks::new())
        .await
        .expect("opens");
    let list = provider.list("").await.expect("lists");
    let counts: Vec<_> = list
        .iter()
        .map(|function| (function.name.as_str(), function.replicas))
        .collect();
    assert_eq!(counts, [("a", 1), ("b", 2), ("c", 0)]);
    for (name, replicas) in [("a", 1), ("b", 2)] {
        available(&*provider, &function(name), replicas).await;
        assert_eq!(
            call(&*provider, &function(name), name).await,
            (StatusCode::OK, name.to_owned())
        );
    }
    assert_eq!(provider.list_secrets("").await.expect("lists").len(), 1);
    assert!(!leftover.exists());
    provider.close().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let local = Local::start().await;
    for _ in 0..20 {
        let deploying = local.provider.deploy(deployment("f"));
        // Too short for the disk: the caller is gone before the answer.
        drop(tokio::time::timeout(Duration::from_micros(50), deploying).await);
    }
    local.deploy("f", "cat").await;
    assert_eq!(local.provider.list("").await.expect("lists").len(), 1);
    local.provider.close().await;
}
