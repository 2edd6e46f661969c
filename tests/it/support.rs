//! The harness: the real binary on port 0, scripted upstreams, raw sockets.

pub(crate) mod collector;
pub(crate) mod fuzz;
pub(crate) mod gateway;
pub(crate) mod hold;
pub(crate) mod load;
pub(crate) mod message;
pub(crate) mod nats;
pub(crate) mod promised;
pub(crate) mod provider;
pub(crate) mod script;
pub(crate) mod tls;
pub(crate) mod typed;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::{future::Future, path::Path, process::Stdio, time::Duration};

use tokio::process::{Child, Command};

pub(crate) use gateway::Gateway;
pub(crate) use upstream::Upstream;

/// How long a test waits for something that should happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Held by who opens thousands of connections: this process may not have twice as many.
pub(crate) static CROWDED: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// A server that ends with the test.
pub(crate) fn server(program: &str, directory: &Path, arguments: &[String]) -> Child {
    let log = std::fs::File::create(directory.join(format!("{program}.log"))).expect("a log");
    Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{program} (make tools installs it): {error}"))
}

/// The command that runs a function of `tests/fixtures/functions`.
pub(crate) fn fixture(interpreter: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/functions")
        .join(name);
    format!("{interpreter} '{}'", path.display())
}

/// Whether the test that runs on this thread is in the module of this path.
pub(crate) fn runs_in(module: &str) -> bool {
    let (_, module) = module.split_once("::").expect("below the crate");
    std::thread::current()
        .name()
        .is_some_and(|test| test.starts_with(&format!("{module}::")))
}

/// Waits for something that must happen soon.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, future).await else {
        panic!("{what} did not happen within {PATIENCE:?}");
    };
    value
}

/// Asks again and again until the answer is something. For states that
/// announce themselves nowhere.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    soon(what, async {
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}
