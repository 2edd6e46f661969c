//! The life of one replica: start, wait until ready, run, start again when it
//! dies, drain when told to stop.
//!
//! A replica keeps its instance name through restarts, as a pod does. What it
//! does is reported to the function's supervisor, which alone decides about
//! who takes calls.

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::Utc;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Settings, Shared, backoff,
    child::{self, Process},
    function::Function,
    launch,
    lines::Lines,
    store::Record,
};
use crate::{
    upstream::{Address, Endpoint, Protocol},
    watchdog,
};

/// Between two looks at the calls of a replica that is to end.
const POLL: Duration = Duration::from_millis(20);
/// Longest wait for one answer about readiness.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// From a replica leaving the list to its SIGTERM: callers that were given its
/// address just before have connected by then.
const WITHDRAW: Duration = Duration::from_millis(100);
/// Longest wait for the last output of a replica that ended.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// What happened to a replica.
#[derive(Debug)]
pub(super) enum Event {
    /// Its watchdog runs.
    Started(u32),
    /// It takes calls.
    Ready(Arc<Endpoint>),
    /// It ended by itself: no call may be sent to it any more.
    Lost,
    /// What it left is cleaned up; it is started again after a while.
    Died {
        /// How it ended.
        status: String,
        /// The wait.
        retry: Duration,
    },
    /// It is gone, as it was told.
    Stopped,
}

/// A replica to run.
pub(super) struct Replica {
    /// Tells replicas of a function apart.
    pub(super) id: u64,
    /// Its name in logs.
    pub(super) instance: String,
    /// Its function.
    pub(super) function: Arc<Function>,
    /// The deployment it runs.
    pub(super) record: Arc<Record>,
    /// What all replicas share.
    pub(super) shared: Arc<Shared>,
    /// Cancelled when it is to drain and end. The supervisor has taken it off
    /// the list by then.
    pub(super) stop: CancellationToken,
    /// Where to report.
    pub(super) events: mpsc::Sender<(u64, Event)>,
}

/// How one run of the watchdog ended.
enum End {
    Stopped,
    Died { status: String, uptime: Duration },
}

impl Replica {
    /// Runs until told to stop.
    pub(super) async fn run(self) {
        let mut failures = 0;
        loop {
            match self.live().await {
                End::Stopped => break,
                End::Died { status, uptime } => {
                    let settings = self.shared.settings.load_full();
                    failures = backoff::failures(failures, uptime, settings.restart_backoff_max);
                    let retry = backoff::delay(failures, settings.restart_backoff, settings.restart_backoff_max);
                    tracing::warn!(function = %self.function.name, instance = %self.instance, %status, ?retry, "replica ended, starting it again");
                    let line = format!("faas-gateway: the replica ended ({status}); starting it again in {retry:?}");
                    self.log(vec![line]).await;
                    self.report(Event::Died { status, retry }).await;
                    tokio::select! {
                        () = sleep(retry) => {}
                        () = self.stop.cancelled() => break,
                    }
                }
            }
        }
        self.function.logs.retire(&self.instance).await;
        self.report(Event::Stopped).await;
    }

    async fn report(&self, event: Event) {
        // The supervisor outlives its replicas, except when everything is aborted.
        drop(self.events.send((self.id, event)).await);
    }

    async fn log(&self, lines: Vec<String>) {
        let log_size = self.shared.settings.load().log_size;
        self.function
            .logs
            .append(&self.instance, lines, Utc::now(), log_size)
            .await;
    }

    /// One run of the watchdog.
    async fn live(&self) -> End {
        let began = Instant::now();
        let (socket, started) = self.spawn().await;
        let (mut process, output) = match started {
            Ok(started) => started,
            Err(status) => {
                return End::Died {
                    status,
                    uptime: Duration::ZERO,
                };
            }
        };
        let pumps = TaskTracker::new();
        self.pump(output.stdout, &pumps);
        self.pump(output.stderr, &pumps);
        pumps.close();
        self.report(Event::Started(process.pid())).await;

        let endpoint = self.shared.pools.endpoint(Address::Unix(socket));
        let status = tokio::select! {
            status = process.wait() => Some(status),
            () = self.stop.cancelled() => None,
            () = self.ready(&endpoint) => {
                self.report(Event::Ready(Arc::clone(&endpoint))).await;
                tokio::select! {
                    status = process.wait() => Some(status),
                    () = self.stop.cancelled() => None,
                }
            }
        };
        let stopped = status.is_none();
        let status = match status {
            None => {
                self.drain(&mut process, &endpoint).await;
                String::new()
            }
            Some(Ok(status)) => status.to_string(),
            Some(Err(error)) => format!("it cannot be waited for: {error}"),
        };
        if !stopped {
            // At once: cleaning up takes a look at every process of the machine.
            self.report(Event::Lost).await;
        }
        process.finish().await;
        // Its last words come before the line that says it ended.
        drop(timeout(LAST_OUTPUT, pumps.wait()).await);
        if stopped {
            return End::Stopped;
        }
        End::Died {
            status,
            uptime: began.elapsed(),
        }
    }

    /// Starts the watchdog; in a thread where reading `/proc` and control files may block.
    async fn spawn(&self) -> (PathBuf, Result<(Process, child::Output), String>) {
        let socket = self.shared.sockets.join(format!("{:x}", self.shared.next_id()));
        let settings = self.shared.settings.load_full();
        let (record, path) = (Arc::clone(&self.record), socket.clone());
        let namespace = self.function.name.namespace.clone();
        let secrets = self.function.secrets.join(self.record.revision.to_string());
        let started = tokio::task::spawn_blocking(move || {
            let launch = launch::launch(&record.deployment, &namespace, &settings, launch::runnable)
                .map_err(|error| error.to_string())?;
            child::spawn(
                &settings.executable,
                &launch,
                path,
                &secrets,
                settings.end_timeout() / 3,
            )
            .map_err(|error| format!("{} cannot be started: {error}", settings.executable.display()))
        })
        .await
        .unwrap_or_else(|error| Err(format!("starting it was interrupted: {error}")));
        (socket, started)
    }

    /// Keeps what the replica writes, until it closes its output.
    fn pump(&self, output: Option<impl AsyncRead + Send + Unpin + 'static>, pumps: &TaskTracker) {
        let Some(mut output) = output else { return };
        let (function, instance) = (Arc::clone(&self.function), self.instance.clone());
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(pumps.track_future(async move {
            let mut lines = Lines::default();
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let read = match output.read(&mut buffer).await {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) => {
                        tracing::warn!(function = %function.name, %instance, %error, "cannot read a replica's output");
                        break;
                    }
                };
                let log_size = shared.settings.load().log_size;
                function
                    .logs
                    .append(&instance, lines.push(&buffer[..read]), Utc::now(), log_size)
                    .await;
            }
            let log_size = shared.settings.load().log_size;
            let rest = lines.finish().into_iter().collect();
            function.logs.append(&instance, rest, Utc::now(), log_size).await;
        }));
    }

    /// Resolves when the replica says that it is ready. No bound: a slow start
    /// is not a failure, and one that ends is noticed elsewhere.
    async fn ready(&self, endpoint: &Arc<Endpoint>) {
        let began = Instant::now();
        loop {
            if let Ok(true) = timeout(PROBE_TIMEOUT, probe(endpoint)).await {
                return;
            }
            sleep(watchdog::next_look(began.elapsed())).await;
        }
    }

    /// Lets the replica finish its calls, then ends it. Calls have
    /// `stop_timeout`, or the function's own `write_timeout` where that is longer
    /// and the gateway goes on; ending has [`Settings::end_timeout`].
    async fn drain(&self, process: &mut Process, endpoint: &Endpoint) {
        let settings = self.shared.settings.load_full();
        let closing = &self.shared.closing;
        let mut deadline = Instant::now() + settings.stop_timeout.max(self.write_timeout(&settings));
        let mut stopping = false;
        drop(timeout_at(deadline, sleep(WITHDRAW)).await);
        while endpoint.in_flight() > 0 && Instant::now() < deadline {
            tokio::select! {
                _ = process.wait() => return,
                () = sleep(POLL) => {}
                () = closing.cancelled(), if !stopping => {
                    stopping = true;
                    deadline = deadline.min(Instant::now() + settings.stop_timeout);
                }
            }
        }
        process.terminate();
        let bound = settings.end_timeout();
        if timeout(bound, process.wait()).await.is_err() {
            tracing::warn!(function = %self.function.name, instance = %self.instance, ?bound, "replica did not end in time, killing it");
            process.kill().await;
        }
    }

    /// How long the function asks for to finish its calls.
    fn write_timeout(&self, settings: &Settings) -> Duration {
        launch::accepted(&self.record.deployment, &self.function.name.namespace, settings)
            .and_then(|launch| launch.write_timeout)
            .unwrap_or_default()
    }
}

/// Asks a replica once.
async fn probe(endpoint: &Arc<Endpoint>) -> bool {
    let request = Request::get("/_/ready").header(header::HOST, endpoint.host()).body(
        http_body_util::Empty::new()
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    match request {
        Ok(request) => endpoint
            .send(Box::new(request), Protocol::Http1)
            .await
            .is_ok_and(|response| response.status() == StatusCode::OK),
        Err(_) => false,
    }
}
