//! Real NATS servers with JetStream, from Debian's package.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::process::Child;

use super::{eventually, free_port, server};

/// A server that ends with whoever holds it.
pub(crate) struct Nats {
    child: Option<Child>,
    port: u16,
    directory: Arc<tempfile::TempDir>,
    more: Vec<String>,
}

static IN_USE: Mutex<Weak<Nats>> = Mutex::new(Weak::new());

impl Nats {
    /// A server of one's own.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with more arguments.
    pub(crate) async fn with(more: &[String]) -> Self {
        let mut nats = Self::new(more);
        nats.run();
        nats.listens().await;
        nats
    }

    /// A server that tests share, as long as one uses it.
    pub(crate) async fn shared() -> Arc<Self> {
        let nats = {
            let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
            in_use.upgrade().unwrap_or_else(|| {
                let mut nats = Self::new(&[]);
                nats.run();
                let nats = Arc::new(nats);
                *in_use = Arc::downgrade(&nats);
                nats
            })
        };
        nats.listens().await;
        nats
    }

    fn new(more: &[String]) -> Self {
        Self {
            child: None,
            port: free_port(),
            directory: Arc::new(tempfile::tempdir().expect("a directory")),
            more: more.to_vec(),
        }
    }

    /// Where it listens, on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("it ends");
        }
    }

    /// Starts it again, with what it kept.
    pub(crate) async fn restart(&mut self) {
        self.run();
        self.listens().await;
    }

    fn run(&mut self) {
        let port = self.port.to_string();
        let fixed = [
            "--addr",
            "127.0.0.1",
            "--port",
            &port,
            "--jetstream",
            "--store_dir",
            ".",
        ];
        let arguments: Vec<String> = fixed.map(str::to_owned).into_iter().chain(self.more.clone()).collect();
        let child = server("nats-server", self.directory.path(), &arguments);
        self.child = Some(child);
    }

    async fn listens(&self) {
        eventually("the NATS server", || async {
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await;
            connected.ok().map(drop)
        })
        .await;
    }
}
