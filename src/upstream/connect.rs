//! Opening a connection to an endpoint: TCP, TLS over TCP, or a Unix socket.

use std::{
    fmt, io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::HeaderValue;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};

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
    },
    /// A socket file of this machine.
    Unix(PathBuf),
}

impl Address {
    /// The `Host` header for requests to this address.
    pub fn host_header(&self) -> HeaderValue {
        let text = match self {
            Self::Tcp { host, port, tls } => {
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
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, tls: None } => write!(f, "http://{host}:{port}"),
            Self::Tcp {
                host,
                port,
                tls: Some(_),
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
    /// Longer than `invoke.connect_timeout`.
    #[error("cannot connect to {address} within invoke.connect_timeout ({after:?})")]
    Timeout {
        /// Where to.
        address: String,
        /// The bound.
        after: Duration,
    },
}

/// Opens a connection within `bound`.
pub(super) async fn connect(address: &Address, bound: Duration) -> Result<Stream, ConnectError> {
    match tokio::time::timeout(bound, open(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(cause)) => Err(ConnectError::Io {
            address: address.to_string(),
            cause,
        }),
        Err(_) => Err(ConnectError::Timeout {
            address: address.to_string(),
            after: bound,
        }),
    }
}

async fn open(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        Address::Tcp { host, port, tls } => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let tcp = TcpStream::connect((bare, *port)).await?;
            tcp.set_nodelay(true)?;
            let Some(tls) = tls else {
                return Ok(Stream::Tcp(tcp));
            };
            let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?;
            Ok(Stream::Tls(Box::new(stream)))
        }
    }
}

/// A connection of any kind.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

macro_rules! each {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($inner) => $call,
            Stream::Tls($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
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
        match self {
            Self::Tcp(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
            Self::Unix(inner) => inner.is_write_vectored(),
        }
    }
}
