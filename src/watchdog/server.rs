//! The replica's HTTP side: connections, health, the limit on concurrent
//! calls, and the hand-over to the function's mode.

use std::{
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use nix::sys::stat::{Mode as Bits, umask};
use poem::endpoint::StaticFilesEndpoint;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, TryAcquireError},
    time::Instant,
};

use super::{
    answer, fork,
    log::{Lines, note},
    process::Launcher,
    rest::Rest,
    reverse::{self, Permit},
    settings::Settings,
    static_files, stream,
};
use crate::{
    proxy::body::{self, Deadline, Observe, TimedBody},
    shutdown::Tasks,
    upstream::Body,
};

/// Largest request head.
const MAX_HEAD: usize = 1 << 20;

/// What answers the calls.
pub(super) enum Runner {
    /// Mode `fork`.
    Classic,
    /// Mode `serializing`.
    Serializing,
    /// Mode `streaming`.
    Streaming,
    /// Mode `http`.
    Http(Arc<reverse::Server>),
    /// Mode `static`.
    Static(StaticFilesEndpoint),
}

/// One replica.
pub(super) struct Replica {
    pub(super) settings: Settings,
    pub(super) launcher: Launcher,
    pub(super) runner: Runner,
    pub(super) tasks: Tasks,
    slots: Option<Arc<Semaphore>>,
    accepting: AtomicBool,
}

impl Replica {
    /// A replica that says it is healthy.
    pub(super) fn new(settings: Settings, launcher: Launcher, runner: Runner, tasks: Tasks) -> Self {
        Self {
            slots: settings.max_inflight.map(|limit| Arc::new(Semaphore::new(limit))),
            accepting: AtomicBool::new(true),
            settings,
            launcher,
            runner,
            tasks,
        }
    }

    /// How the function's own lines are written.
    pub(super) fn lines(&self) -> Lines {
        Lines {
            prefix: self.settings.prefix_logs,
            longest: self.settings.log_buffer_size,
        }
    }

    /// Turns health and readiness off; calls are still answered.
    pub(super) fn retire(&self) {
        self.accepting.store(false, Ordering::Relaxed);
    }

    fn is_healthy(&self) -> bool {
        let started = match &self.runner {
            Runner::Http(server) => server.is_ready(),
            _ => true,
        };
        started && self.accepting.load(Ordering::Relaxed)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let request = if Rest::is_held_back(request.headers()) {
            request.map(|body| body.map_err(Into::into).boxed_unsync())
        } else {
            request.map(|body| Rest::new(body, self.tasks.clone()).map_err(Into::into).boxed_unsync())
        };
        match request.uri().path() {
            "/_/health" => self.health(request.method()),
            "/_/ready" => self.readiness(request).await,
            _ => self.admit(request).await,
        }
    }

    fn health(&self, method: &Method) -> Response<Body> {
        match *method {
            Method::GET | Method::HEAD if self.is_healthy() => answer::text(StatusCode::OK, "OK"),
            Method::GET | Method::HEAD => answer::not_ready(),
            _ => answer::method_not_allowed("GET, HEAD"),
        }
    }

    async fn readiness(&self, request: Request<Body>) -> Response<Body> {
        if !self.is_healthy() {
            return answer::not_ready();
        }
        if let (Some(slots), Some(limit)) = (&self.slots, self.settings.max_inflight)
            && slots.available_permits() == 0
        {
            return answer::busy(limit);
        }
        let Some(path) = &self.settings.ready_path else {
            return answer::empty(StatusCode::OK);
        };
        let (mut parts, _) = request.into_parts();
        match path.parse() {
            Ok(uri) => {
                parts.uri = uri;
                parts.method = Method::GET;
                self.call(Request::from_parts(parts, body::empty()), &None).await
            }
            Err(error) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("ready_path: {error}\n")),
        }
    }

    async fn admit(&self, request: Request<Body>) -> Response<Body> {
        let permit: Permit = match &self.slots {
            None => None,
            Some(slots) => match Arc::clone(slots).try_acquire_owned() {
                Ok(permit) => Some(Arc::new(permit)),
                Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                    return answer::busy(self.settings.max_inflight.unwrap_or_default());
                }
            },
        };
        let response = self.call(request, &permit).await;
        match permit {
            None => response,
            // A call that streams its answer is in flight until the last byte.
            Some(_) => response.map(|body| TimedBody::new(body, never(), Held(permit)).boxed_unsync()),
        }
    }

    async fn call(&self, request: Request<Body>, permit: &Permit) -> Response<Body> {
        let (launcher, settings) = (&self.launcher, &self.settings);
        match &self.runner {
            Runner::Classic => fork::classic(request, launcher, settings, self.lines()).await,
            Runner::Serializing => fork::serializing(request, launcher, settings, self.lines()).await,
            Runner::Streaming => stream::call(request, launcher, settings, self.lines(), &self.tasks),
            Runner::Http(server) => server.call(request, settings, &self.tasks, permit).await,
            Runner::Static(files) => static_files::call(request, files).await,
        }
    }
}

/// Keeps a slot until a body has ended.
struct Held(#[expect(dead_code, reason = "what counts is when it is dropped")] Permit);

impl Observe for Held {
    fn head(&mut self, _: StatusCode) {}
    fn data(&mut self, _: usize) {}
    fn ended(&mut self) {}
}

/// A deadline that does not pass while anybody waits.
fn never() -> Deadline {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Deadline::new(Instant::now(), YEAR, "exec_timeout")
}

/// Where the replica listens; a socket file is removed when this is dropped.
pub(super) enum Listener {
    Unix {
        listener: UnixListener,
        /// Dropped, and so removed, with the listener.
        _file: SocketFile,
    },
    Tcp(TcpListener),
}

/// A socket file of ours.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A successor may have put its own socket at the same path.
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            note(format_args!("cannot remove {}: {error}", self.path.display()));
        }
    }
}

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

impl Listener {
    /// Listens on a socket file that only this user can open; a file left over
    /// from an earlier process is replaced.
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let before = umask(Bits::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound?;
        let file = SocketFile {
            path: path.to_owned(),
            inode: fs::symlink_metadata(path)?.ino(),
        };
        Ok(Self::Unix { listener, _file: file })
    }

    /// Listens on an address.
    pub(super) async fn tcp(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::Tcp)
    }

    async fn accept(&self) -> io::Result<Box<dyn Connection>> {
        match self {
            Self::Unix { listener, .. } => Ok(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Takes connections until the replica drains, then stops listening. The
/// connections are tasks of the replica; each ends with its last call.
pub(super) async fn serve(listener: Listener, replica: Arc<Replica>) {
    // Behind a socket file there is only the gateway, which keeps idle
    // connections for later; elsewhere a silent client is not waited for.
    let head_timeout = matches!(listener, Listener::Tcp(_)).then_some(replica.settings.read_timeout);
    let draining = replica.tasks.draining().clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining.cancelled() => return,
        };
        match accepted {
            Ok(stream) => {
                let connection = connection(stream, Arc::clone(&replica), head_timeout);
                replica.tasks.spawn(connection);
            }
            Err(error) => {
                note(format_args!("cannot accept a connection: {error}"));
                // Out of file descriptors, most likely: let some calls end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: Box<dyn Connection>, replica: Arc<Replica>, head_timeout: Option<Duration>) {
    let draining = replica.tasks.draining().clone();
    let service = service_fn(move |request| {
        let replica = Arc::clone(&replica);
        async move { Ok::<_, Infallible>(replica.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    if head_timeout.is_some() {
        // Which of the two it is would be waited for without a bound.
        builder = builder.http1_only();
    }
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
