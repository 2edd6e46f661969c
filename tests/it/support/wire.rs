//! Raw sockets, for what HTTP libraries hide.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::soon;

/// One TCP connection, bytes in and bytes out.
pub(crate) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.expect("a connection"))
    }

    /// Of a connection.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the peer reads");
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

    /// Reads to the end of a head, or nothing when the connection ends before.
    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                let rest = self.received.split_off(at + 4);
                let head = std::mem::replace(&mut self.received, rest);
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            let mut chunk = [0; 4096];
            let count = self.stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
            self.received.extend_from_slice(&chunk[..count]);
        }
    }

    /// Closes the sending side.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("it was open");
    }

    /// Breaks the connection off: the peer's next read fails.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("a TCP socket");
    }

    /// The connection, and what was read of it and not asked for.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.received)
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
    if needle.is_empty() {
        return Some(0);
    }
    haystack.windows(needle.len()).position(|window| window == needle)
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
