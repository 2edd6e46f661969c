//! The listeners' certificates: two or three files, read and checked as one.
//!
//! What is wrong is said with the key and the file, never with what is in it.
//! Handshakes are [`crate::server`]'s; TLS towards functions and services is
//! [`crate::client`]'s.

use std::{fmt, path::Path, sync::Arc};

use sha2::{Digest, Sha256};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject},
        },
        server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};

use crate::config::{self, ClientAuth, Unusable};

const CERT: &[&str] = &["server.tls.cert_file"];
const KEY: &[&str] = &["server.tls.key_file"];
const AUTHORITIES: &[&str] = &["server.tls.client_ca_file"];

/// Protocols in the order of our preference (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What the listeners speak TLS with.
pub struct Tls {
    config: Arc<ServerConfig>,
    client_auth: ClientAuth,
    /// Digest of the files' contents.
    content: [u8; 32],
}

impl Tls {
    /// Reads and checks the files; `None` when TLS is off. What is `in_use`
    /// stays when they say the same, and with it what callers' sessions need to
    /// be resumed.
    ///
    /// # Errors
    /// Each file that is not what it must be.
    pub fn load(settings: &config::Tls, in_use: Option<&Arc<Self>>) -> Result<Option<Arc<Self>>, Vec<Unusable>> {
        let (Some(cert), Some(key)) = (&settings.cert_file, &settings.key_file) else {
            return Ok(None);
        };
        let client_auth = settings.client_auth();
        let authorities = settings
            .client_ca_file
            .as_ref()
            .filter(|_| client_auth != ClientAuth::Off);
        let mut errors = Vec::new();
        let mut read = |name, path| File::read(name, path).map_err(|error| errors.push(error)).ok();
        let (cert, key) = (read(CERT, cert), read(KEY, key));
        let authorities = authorities.map(|path| read(AUTHORITIES, path));
        let (Some(cert), Some(key), None | Some(Some(_))) = (cert, key, &authorities) else {
            return Err(errors);
        };
        let authorities = authorities.flatten();
        let content = digest(&[Some(&cert), Some(&key), authorities.as_ref()]);
        if let Some(in_use) = in_use.filter(|known| known.content == content && known.client_auth == client_auth) {
            return Ok(Some(Arc::clone(in_use)));
        }
        let verifier = authorities.map(|file| verifier(&file, client_auth)).transpose();
        let verifier = verifier.map_err(|error| errors.push(error)).ok();
        let pair = pair(&cert, &key, &mut errors);
        let (Some((chain, key_der)), Some(verifier)) = (pair, verifier) else {
            return Err(errors);
        };
        let config = server_config(chain, key_der, verifier).map_err(|error| vec![unfit(&cert, &key, &error)])?;
        Ok(Some(Arc::new(Self {
            config: Arc::new(config),
            client_auth,
            content,
        })))
    }

    /// Does handshakes.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Whether callers are asked for certificates.
    pub fn asks_callers(&self) -> bool {
        self.client_auth != ClientAuth::Off
    }
}

/// Without the key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("client_auth", &self.client_auth)
            .finish_non_exhaustive()
    }
}

/// A file and the key that names it.
struct File<'p> {
    setting: &'static [&'static str],
    path: &'p Path,
    content: Vec<u8>,
}

impl<'p> File<'p> {
    fn read(setting: &'static [&'static str], path: &'p Path) -> Result<Self, Unusable> {
        match std::fs::read(path) {
            Ok(content) => Ok(Self { setting, path, content }),
            Err(error) => {
                let message = format!("{}: cannot be read: {error}", path.display());
                Err(Unusable::new(setting, message))
            }
        }
    }

    fn wrong(&self, what: impl fmt::Display) -> Unusable {
        Unusable::new(self.setting, format!("{}: {what}", self.path.display()))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Unusable> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.content).collect();
        match read {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            Ok(_) => Err(self.wrong("has no certificate in PEM form")),
            Err(error) => Err(self.wrong(form(&error))),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, Unusable> {
        PrivateKeyDer::from_pem_slice(&self.content).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                self.wrong("has no private key in PEM form (PKCS#8, PKCS#1 or SEC1; an encrypted one cannot be used)")
            }
            error => self.wrong(form(&error)),
        })
    }
}

/// What is wrong with a PEM file, without what is in it.
fn form(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "is not complete: an END line is missing",
        pem::Error::Base64Decode(_) => "is no PEM file: a section in it is not base64",
        _ => "is no PEM file",
    }
}

fn pair(
    cert: &File,
    key: &File,
    errors: &mut Vec<Unusable>,
) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = cert.certificates().map_err(|error| errors.push(error)).ok();
    let key = key.key().map_err(|error| errors.push(error)).ok();
    chain.zip(key)
}

/// Why a certificate and a key make no pair.
fn unfit(cert: &File, key: &File, error: &rustls::Error) -> Unusable {
    match error {
        rustls::Error::InconsistentKeys(_) => key.wrong(format!(
            "is not the key of the first certificate in server.tls.cert_file ({})",
            cert.path.display()
        )),
        rustls::Error::InvalidCertificate(error) => {
            cert.wrong(format!("its first certificate cannot be used: {error}"))
        }
        error => key.wrong(format!("cannot be used: {error}")),
    }
}

fn verifier(authorities: &File, client_auth: ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities.certificates()? {
        let added = roots.add(certificate);
        added.map_err(|error| authorities.wrong(format!("a certificate in it cannot be used: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match client_auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional | ClientAuth::Off => builder.allow_unauthenticated(),
    };
    builder
        .build()
        .map_err(|error| authorities.wrong(format!("cannot be used: {error}")))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    // Sessions are resumed from what callers keep; nothing piles up here.
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn digest(files: &[Option<&File>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for file in files {
        let content = file.map_or(&[][..], |file| &file.content);
        // The length in front keeps neighbours apart.
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    struct Files(tempfile::TempDir);

    impl Files {
        fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, content).expect("writable");
            path
        }
    }

    fn made() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["gateway.test".to_owned()]).expect("a certificate");
        (cert.pem(), signing_key.serialize_pem())
    }

    fn settings(cert_file: PathBuf, key_file: PathBuf) -> config::Tls {
        config::Tls {
            cert_file: Some(cert_file),
            key_file: Some(key_file),
            client_ca_file: None,
            client_auth: None,
        }
    }

    #[test]
    fn what_is_wrong_names_the_key_and_the_file_and_shows_nothing_of_it() {
        let files = Files(tempfile::tempdir().expect("a directory"));
        let ((cert, key), (other, other_key)) = (made(), made());
        let half = &key[..key.len() / 2];
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (cert, key, expected) in [
            (
                &*cert,
                &*other_key,
                "key_file: KEY: is not the key of the first certificate in server.tls.cert_file (CERT)",
            ),
            (&*key, &*key, "cert_file: CERT: has no certificate"),
            (&*cert, &*cert, "key_file: KEY: has no private key"),
            ("", &*key, "cert_file: CERT: has no certificate"),
            (&*cert, half, "key_file: KEY: is not complete"),
            (garbage, &*key, "cert_file: CERT: its first certificate cannot be used"),
            (
                &*other,
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "key_file: KEY: cannot be used",
            ),
        ] {
            let (cert_file, key_file) = (files.write("cert.pem", cert), files.write("key.pem", key));
            let expected = expected
                .replace("CERT", &cert_file.display().to_string())
                .replace("KEY", &key_file.display().to_string());
            let errors = Tls::load(&settings(cert_file, key_file), None).expect_err("no pair");
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert!(errors[0].starts_with(&format!("server.tls.{expected}")), "{errors:?}");
            assert!(
                !errors[0].contains("AAAA") && !errors[0].contains("BEGIN"),
                "{errors:?}"
            );
        }
        let missing = settings("/nowhere/a".into(), "/nowhere/b".into());
        let errors = Tls::load(&missing, None).expect_err("nothing there");
        assert_eq!(errors.len(), 2, "both are told about: {errors:?}");
    }

    #[test]
    fn what_did_not_change_stays() {
        let files = Files(tempfile::tempdir().expect("a directory"));
        let (cert, key) = made();
        let mut settings = settings(files.write("cert.pem", &cert), files.write("key.pem", &key));
        let load = |settings: &config::Tls, known: Option<&Arc<Tls>>| {
            let loaded = Tls::load(settings, known).unwrap_or_else(|errors| panic!("{errors:?}"));
            loaded.expect("TLS is on")
        };
        let first = load(&settings, None);
        assert!(Arc::ptr_eq(&first, &load(&settings, Some(&first))));
        settings.client_ca_file = settings.cert_file.clone();
        let asking = load(&settings, Some(&first));
        assert!(!Arc::ptr_eq(&first, &asking) && asking.asks_callers() && !first.asks_callers());
        settings.client_auth = Some(ClientAuth::Optional);
        assert!(!Arc::ptr_eq(&asking, &load(&settings, Some(&asking))));
        let (cert, key) = made();
        files.write("cert.pem", &cert);
        files.write("key.pem", &key);
        assert!(!Arc::ptr_eq(&asking, &load(&settings, Some(&asking))));
        settings.cert_file = None;
        assert!(Tls::load(&settings, None).expect("off").is_none());
    }
}
