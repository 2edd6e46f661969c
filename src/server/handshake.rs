//! The beginning of a connection over TLS.
//!
//! Each connection takes the certificates of the newest snapshot, so that
//! changed ones are for those that come later and open ones stay as they are.

use std::{io, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Request, StatusCode, uri::Scheme};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::server::TlsStream;

use super::linger;
use crate::{
    problem::{Form, Problem},
    proxy::{fast::write, headers},
    tls::Tls,
};

/// How a connection's bytes come, as far as requests are changed by it.
#[derive(Debug, Clone, Default)]
pub(super) enum Transport {
    /// As they are.
    #[default]
    Plain,
    /// Over TLS.
    Tls,
    /// Over TLS, from a caller that was asked for its certificate and may have
    /// shown one.
    Asked(Option<HeaderValue>),
}

impl Transport {
    /// The scheme of requests.
    pub(super) fn scheme(&self) -> Scheme {
        match self {
            Self::Plain => Scheme::HTTP,
            Self::Tls | Self::Asked(_) => Scheme::HTTPS,
        }
    }

    /// The scheme of requests, as functions are told.
    pub(super) fn proto(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls | Self::Asked(_) => "https",
        }
    }

    /// Whether headers that callers send say something that only we know.
    pub(super) fn is_sanitised(&self) -> bool {
        matches!(self, Self::Asked(_))
    }

    /// Says in a request how it came.
    pub(super) fn tell<B>(&self, request: &mut Request<B>) {
        if matches!(self, Self::Plain) {
            return;
        }
        let headers = request.headers_mut();
        if !headers.contains_key(headers::FORWARDED_PROTO) {
            headers.insert(headers::FORWARDED_PROTO, HeaderValue::from_static(self.proto()));
        }
        if let Self::Asked(certificate) = self {
            headers::set_client_cert(headers, certificate.clone());
        }
    }
}

/// Does the handshake, or tells a caller that speaks plain HTTP what is spoken here.
pub(super) async fn accept(stream: TcpStream, tls: &Tls) -> io::Result<(Box<TlsStream<TcpStream>>, Transport)> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first[0].is_ascii_alphabetic() {
        refuse(stream).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP"));
    }
    let stream = Box::new(tls.acceptor().accept(stream).await?);
    let transport = if tls.asks_callers() {
        Transport::Asked(certificate(&stream))
    } else {
        Transport::Tls
    };
    Ok((stream, transport))
}

/// The certificate that the caller showed, as RFC 9440 writes it.
fn certificate(stream: &TlsStream<TcpStream>) -> Option<HeaderValue> {
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates()?.first()?;
    HeaderValue::try_from(format!(":{}:", BASE64_STANDARD.encode(certificate))).ok()
}

/// No record of TLS begins with a letter, and every request of HTTP does.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let text = "this port speaks TLS: ask it by https";
    let problem = Problem::new(StatusCode::BAD_REQUEST, text).setting("server.tls.cert_file");
    let mut answer = Vec::with_capacity(512);
    let response = problem.response(Form::Text);
    write::whole(
        &mut answer,
        &response,
        write::date(SystemTime::now()).as_bytes(),
        true,
        true,
    );
    stream.write_all(&answer).await?;
    linger::close(stream).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callers_say_of_certificates_counts_only_where_they_are_not_asked() {
        let ours = HeaderValue::from_static(":b3Vycw==:");
        for (transport, proto, certificate, chain) in [
            (Transport::Plain, None, Some(":theirs:"), true),
            (Transport::Tls, Some("https"), Some(":theirs:"), true),
            (Transport::Asked(None), Some("https"), None, false),
            (Transport::Asked(Some(ours)), Some("https"), Some(":b3Vycw==:"), false),
        ] {
            let mut request = Request::new(());
            let given = [("client-cert", ":theirs:"), ("client-cert-chain", ":theirs:")];
            for (name, value) in given {
                request.headers_mut().append(name, HeaderValue::from_static(value));
                request.headers_mut().append(name, HeaderValue::from_static(value));
            }
            transport.tell(&mut request);
            let value = |name: &str| request.headers().get(name).map(|value| value.to_str().expect("text"));
            assert_eq!(value("x-forwarded-proto"), proto, "{transport:?}");
            assert_eq!(value("client-cert"), certificate, "{transport:?}");
            assert_eq!(value("client-cert-chain").is_some(), chain, "{transport:?}");
        }
        let mut request = Request::new(());
        let earlier = HeaderValue::from_static("http");
        request.headers_mut().insert("x-forwarded-proto", earlier.clone());
        Transport::Tls.tell(&mut request);
        assert_eq!(
            request.headers()["x-forwarded-proto"],
            earlier,
            "an earlier proxy's word"
        );
    }
}
