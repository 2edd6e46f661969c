//! Certificates of a test's own, and callers that speak TLS.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use super::{Gateway, gateway::Setup, wire::Wire};

/// Issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "the authority of a test");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A certificate for this machine, another each time.
    pub(crate) fn issue(&self) -> Pair {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "a test");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A caller that trusts it and speaks these protocols.
    pub(crate) fn caller(&self, protocols: &[&str]) -> Caller {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Caller(config)
    }
}

impl Pair {
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("a certificate")
    }

    /// Writes both, each renamed into place.
    pub(crate) fn write(&self, directory: &Path) {
        put(&directory.join("tls.key"), &self.key);
        put(&directory.join("tls.crt"), &self.cert);
    }
}

fn put(path: &Path, content: &str) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, content).expect("writable");
    std::fs::rename(draft, path).expect("renamed");
}

/// Speaks TLS.
#[derive(Clone)]
pub(crate) struct Caller(ClientConfig);

impl Caller {
    /// The same, with a certificate to show.
    pub(crate) fn with(self, pair: &Pair) -> Self {
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
        let shown = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(RootCertStore::empty())
            .with_client_auth_cert(vec![pair.der()], key)
            .expect("a pair");
        let mut config = self.0;
        config.client_auth_cert_resolver = shown.client_auth_cert_resolver;
        Self(config)
    }

    pub(crate) async fn try_connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(self.0.clone())).connect(name, stream).await
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> Wire {
        Wire::over(self.try_connect(address).await.expect("a handshake"))
    }

    /// The certificate that a new connection is shown.
    pub(crate) async fn shown(&self, address: SocketAddr) -> CertificateDer<'static> {
        let stream = self.try_connect(address).await.expect("a handshake");
        let (_, session) = stream.get_ref();
        session.peer_certificates().expect("a certificate")[0]
            .clone()
            .into_owned()
    }
}

/// A gateway whose listeners have a certificate.
pub(crate) struct Secured {
    pub(crate) authority: Authority,
    pub(crate) directory: Arc<tempfile::TempDir>,
}

impl Secured {
    pub(crate) fn new() -> Self {
        let secured = Self {
            authority: Authority::new(),
            directory: Arc::new(tempfile::tempdir().expect("a directory")),
        };
        secured.authority.issue().write(secured.directory.path());
        std::fs::write(secured.ca(), secured.authority.pem()).expect("writable");
        secured
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// `[server.tls]` for the configuration file.
    pub(crate) fn toml(&self) -> String {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        format!(
            "[server.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
            at("tls.crt"),
            at("tls.key")
        )
    }

    /// A gateway before a provider, with more in its file.
    pub(crate) fn before(&self, url: &str, more: &str) -> Setup {
        Gateway::before(url).config(&format!("{}{more}", self.toml()))
    }

    pub(crate) fn caller(&self) -> Caller {
        self.authority.caller(&["http/1.1"])
    }
}
