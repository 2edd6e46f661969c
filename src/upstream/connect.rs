//! Opening a connection to an endpoint: TCP, TLS over TCP, or a Unix socket.

use std::{
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::HeaderValue;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::Instant,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};

use super::ways::Place;

/// TLS settings shared by all connections of a snapshot lineage.
pub type TlsConfig = Arc<ClientConfig>;

/// Where an endpoint listens.
#[derive(Clone)]
pub enum Address {
    /// A host and port; with TLS settings for https.
    Tcp {
        /// Host name or IP address.
        host: String,
        /// Port.
        port: u16,
        /// TLS settings, or plain text.
        tls: Option<TlsConfig>,
        /// One of the host's addresses; without it, the host is looked up for
        /// each connection.
        at: Option<SocketAddr>,
    },
    /// A socket file of this machine.
    Unix(PathBuf),
}

impl Address {
    /// The `Host` header for requests to this address.
    pub fn host_header(&self) -> HeaderValue {
        let text = match self {
            Self::Tcp { host, port, tls, .. } => {
                let host = if host.contains(':') && !host.starts_with('[') {
                    format!("[{host}]")
                } else {
                    host.clone()
                };
                let usual = if tls.is_some() { 443 } else { 80 };
                if *port == usual { host } else { format!("{host}:{port}") }
            }
            Self::Unix(_) => "localhost".to_owned(),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("localhost"))
    }

    /// Which of a host's addresses it is, where it is one.
    pub fn at(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { at, .. } => *at,
            Self::Unix(_) => None,
        }
    }

    /// For messages: of a host's addresses, the one that it is about.
    pub fn described(&self) -> String {
        match self.at() {
            Some(at) => format!("{self} ({at})"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp {
                host, port, tls: None, ..
            } => write!(f, "http://{host}:{port}"),
            Self::Tcp {
                host,
                port,
                tls: Some(_),
                ..
            } => write!(f, "https://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why no connection was made; nothing was sent.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The system refused, reset or could not route.
    #[error("cannot connect to {address}: {cause}")]
    Io {
        /// Where to.
        address: String,
        /// What the system said.
        cause: io::Error,
    },
    /// As many connections as may be were open, all in use, for as long.
    #[error(
        "invoke.max_conns_per_host ({most}) connections to {address} are in use, and none became free within \
         invoke.connect_timeout ({after:?})"
    )]
    Full {
        /// Where to.
        address: String,
        /// How many there may be.
        most: usize,
        /// How long the call waited.
        after: Duration,
    },
    /// It answers, but not in HTTP/2.
    #[error("{address} does not speak HTTP/2 without TLS (h2c), in which the function is to be called")]
    NotHttp2 {
        /// Where to.
        address: String,
    },
    /// Longer than `invoke.connect_timeout`.
    #[error("cannot connect to {address} within invoke.connect_timeout ({after:?})")]
    Timeout {
        /// Where to.
        address: String,
        /// The bound.
        after: Duration,
    },
}

/// Opens a connection until `due`, `bound` from when it was wanted. It has the
/// place for as long as it is open, whoever has it.
pub(super) async fn connect(
    address: &Address,
    place: Place,
    due: Instant,
    bound: Duration,
) -> Result<Stream, ConnectError> {
    match tokio::time::timeout_at(due, open(address)).await {
        Ok(Ok(kind)) => Ok(Stream { kind, _place: place }),
        Ok(Err(cause)) => Err(ConnectError::Io {
            address: address.described(),
            cause,
        }),
        Err(_) => Err(ConnectError::Timeout {
            address: address.described(),
            after: bound,
        }),
    }
}

async fn open(address: &Address) -> io::Result<Kind> {
    match address {
        Address::Unix(path) => UnixStream::connect(path).await.map(Kind::Unix),
        Address::Tcp { host, port, tls, at } => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let tcp = match at {
                Some(at) => TcpStream::connect(at).await?,
                None => TcpStream::connect((bare, *port)).await?,
            };
            tcp.set_nodelay(true)?;
            let Some(tls) = tls else {
                return Ok(Kind::Tcp(tcp));
            };
            let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?;
            Ok(Kind::Tls(Box::new(stream)))
        }
    }
}

/// A connection of any kind, counted while it is open.
#[derive(Debug)]
pub(super) struct Stream {
    kind: Kind,
    _place: Place,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

macro_rules! each {
    ($self:ident, $inner:ident => $call:expr) => {
        match &mut $self.get_mut().kind {
            Kind::Tcp($inner) => $call,
            Kind::Tls($inner) => $call,
            Kind::Unix($inner) => $call,
        }
    };
}

impl Stream {
    /// Whether nothing came that nobody asked for. Costs no system call, usually.
    pub(super) fn is_quiet(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut byte = [0];
        let (ready, read) = match &self.kind {
            Kind::Tcp(stream) => match stream.poll_read_ready(&mut context) {
                Poll::Ready(ready) => (ready, stream.try_read(&mut byte)),
                Poll::Pending => return true,
            },
            Kind::Unix(stream) => match stream.poll_read_ready(&mut context) {
                Poll::Ready(ready) => (ready, stream.try_read(&mut byte)),
                Poll::Pending => return true,
            },
            Kind::Tls(_) => return false,
        };
        ready.is_ok() && read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Tcp(inner) => inner.is_write_vectored(),
            Kind::Tls(inner) => inner.is_write_vectored(),
            Kind::Unix(inner) => inner.is_write_vectored(),
        }
    }
}
