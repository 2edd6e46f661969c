//! Raw sockets, for what HTTP libraries hide.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::soon;

/// What carries bytes.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Carrier for S {}

/// One connection, bytes in and bytes out.
pub(crate) struct Wire {
    stream: Box<dyn Carrier>,
    received: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("a connection"))
    }

    /// Over a connection that is there.
    pub(crate) fn over(stream: impl Carrier + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            received: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the peer reads");
        self.stream.flush().await.expect("the peer reads");
    }

    /// Reads until `marker` has come and returns everything up to its end.
    pub(crate) async fn until(&mut self, marker: &str) -> String {
        soon(&format!("'{}'", marker.escape_debug()), async {
            loop {
                if let Some(at) = find(&self.received, marker.as_bytes()) {
                    let rest = self.received.split_off(at + marker.len());
                    let read = std::mem::replace(&mut self.received, rest);
                    return String::from_utf8_lossy(&read).into_owned();
                }
                let mut chunk = [0; 4096];
                let count = self.stream.read(&mut chunk).await.expect("readable");
                assert!(
                    count > 0,
                    "the peer closed after '{}'",
                    String::from_utf8_lossy(&self.received)
                );
                self.received.extend_from_slice(&chunk[..count]);
            }
        })
        .await
    }

    /// Reads until the peer closes and returns the rest.
    pub(crate) async fn rest(&mut self) -> String {
        soon("the end of the connection", async {
            let mut rest = std::mem::take(&mut self.received);
            // A reset is an end too.
            let _ = self.stream.read_to_end(&mut rest).await;
            String::from_utf8_lossy(&rest).into_owned()
        })
        .await
    }

    /// Sends one request that asks to close and returns the whole answer.
    pub(crate) async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut wire = Self::connect(address).await;
        wire.send(request).await;
        wire.rest().await
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// An HTTP/2 connection of which frames can be told, without TLS; and what ends
/// with it, with the error if there is one.
pub(crate) async fn frames(
    address: SocketAddr,
    builder: &h2::client::Builder,
) -> (
    h2::client::SendRequest<bytes::Bytes>,
    tokio::task::JoinHandle<Result<(), h2::Error>>,
) {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (sender, connection) = builder.handshake(stream).await.expect("h2c");
    (sender, tokio::spawn(connection))
}

/// An HTTP/2 connection without TLS.
pub(crate) async fn h2c(address: SocketAddr) -> hyper::client::conn::http2::SendRequest<String> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .expect("h2c");
    tokio::spawn(connection);
    sender
}
