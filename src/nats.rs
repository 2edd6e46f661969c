//! Connections to NATS, for whatever is kept there: the queue and the lease of
//! scaling. What is said over them is not decided here.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event};

use crate::config;

/// Where NATS listens where nothing says otherwise.
const PORT: u16 = 4222;

/// How long a connection may take, and an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A NATS server and what it wants to see.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Host and port, or a URL with a scheme that NATS knows.
    address: String,
    /// Name and password.
    user: Option<(String, String)>,
    /// File with a JWT and the seed of its key, as `nsc` writes it.
    credentials: Option<PathBuf>,
    /// Whether the connection must be encrypted.
    tls: bool,
    /// File with certificates of authorities, beside those of the system.
    ca: Option<PathBuf>,
    /// Files with a certificate of our own and its key.
    certificate: Option<(PathBuf, PathBuf)>,
}

/// Without what is secret.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.address)
    }
}

impl Server {
    /// The server of `[queue]`, if it names one.
    pub fn of(queue: &config::Queue) -> Option<Self> {
        let host = queue.nats_address.as_ref()?;
        Some(Self {
            address: format!("{host}:{}", queue.nats_port.unwrap_or(PORT)),
            user: queue.nats_user.clone().map(|user| {
                let password = queue.nats_password.clone().unwrap_or_default();
                (user, password)
            }),
            credentials: queue.nats_credentials_file.clone(),
            tls: queue.nats_tls,
            ca: queue.nats_ca_file.clone(),
            certificate: queue.nats_cert_file.clone().zip(queue.nats_key_file.clone()),
        })
    }

    /// Where it is, for people.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Connects. The connection mends itself as long as it is held.
    ///
    /// # Errors
    /// In words, with the address.
    pub async fn connect(&self, name: &str) -> Result<Client, String> {
        self.connect_counting(name, &Arc::default()).await
    }

    /// The same, counting how often it was made again.
    ///
    /// # Errors
    /// In words, with the address.
    pub async fn connect_counting(&self, name: &str, again: &Arc<AtomicU64>) -> Result<Client, String> {
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("NATS at {}: {what}{error}", self.address);
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(TIMEOUT)
            .request_timeout(Some(TIMEOUT))
            .require_tls(self.tls)
            .event_callback({
                // The first connection is one, too.
                let (again, is_first) = (Arc::clone(again), AtomicBool::new(true));
                move |event| {
                    if matches!(event, Event::Connected) && !is_first.swap(false, Ordering::Relaxed) {
                        again.fetch_add(1, Ordering::Relaxed);
                    }
                    tracing::debug!(%event, "NATS");
                    std::future::ready(())
                }
            });
        if let Some((user, password)) = &self.user {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(path) = &self.credentials {
            let text = tokio::fs::read_to_string(path).await;
            let text = text.map_err(|error| failed("queue.nats_credentials_file: ", &error))?;
            options = options
                .credentials(&text)
                .map_err(|error| failed("queue.nats_credentials_file: ", &error))?;
        }
        if let Some(path) = &self.ca {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &self.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        let connected = options.connect(&self.address).await;
        connected.map_err(|error| failed("", &error))
    }
}
