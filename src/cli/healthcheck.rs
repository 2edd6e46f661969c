//! One health question to a running gateway, without a runtime or a library:
//! it runs every few seconds in a container and should cost next to nothing.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use url::Url;

/// Longest status line that is read.
const MAX_LINE: u64 = 1024;

/// Where a listener can be reached from this machine.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Asks `url`; `Ok` when the answer is 200.
///
/// # Errors
/// What kept it from being 200.
pub(super) fn ask(url: &Url, timeout: Duration) -> Result<(), String> {
    if url.scheme() != "http" {
        return Err("only http URLs can be asked".to_owned());
    }
    let addresses = url.socket_addrs(|| None).map_err(|error| error.to_string())?;
    let mut last = "has no address".to_owned();
    for address in addresses {
        if address.port() == 0 {
            return Err("port 0 says nothing about where the gateway listens; give --url".to_owned());
        }
        match ask_at(address, url, timeout) {
            Ok(status) => {
                return match status.split(' ').nth(1) {
                    Some("200") => Ok(()),
                    _ => Err(format!("answered '{status}'")),
                };
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// The first line of the answer.
fn ask_at(address: SocketAddr, url: &Url, timeout: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: faas-gateway-healthcheck\r\nConnection: close\r\n\r\n"
    )?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Answers one request with `answer` and returns what was asked.
    fn answering(answer: &'static str) -> (Url, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut lines = BufReader::new(stream.try_clone().expect("clone")).lines();
            let first = lines.next().expect("a line").expect("text");
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            stream.write_all(answer.as_bytes()).expect("write");
            first
        });
        let url = Url::parse(&format!("http://127.0.0.1:{port}/healthz?a=1")).expect("URL");
        (url, asked)
    }

    #[test]
    fn only_200_is_well() {
        let (url, asked) = answering("HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(ask(&url, TIMEOUT), Ok(()));
        assert_eq!(asked.join().expect("server"), "GET /healthz?a=1 HTTP/1.1");

        let (url, _) = answering("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(
            ask(&url, TIMEOUT),
            Err("answered 'HTTP/1.1 503 Service Unavailable'".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_asked_says_why() {
        for (url, part) in [
            ("https://127.0.0.1/", "only http"),
            ("http://127.0.0.1:0/", "--url"),
            ("http://127.0.0.1:1/", "refused"),
        ] {
            let error = ask(&Url::parse(url).expect("URL"), TIMEOUT).expect_err(url);
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn any_address_is_reached_over_loopback() {
        for (listen, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            let listen: SocketAddr = listen.parse().expect("address");
            assert_eq!(reachable(listen).to_string(), reached);
        }
    }
}
