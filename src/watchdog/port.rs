//! Which port the server of a function listens on, and that it is nobody else's.
//!
//! Replicas are processes of one machine and share its ports, unlike
//! containers. Two of them that mean the same port would both see a server
//! there, and calls of one function would be answered by another; so a port is
//! claimed before the function is started.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::settings::{Settings, is_local};

/// A port that no other watchdog of this machine uses while this exists; the
/// system gives it up with the process, however that ends.
pub(super) struct Claim {
    #[cfg(target_os = "linux")]
    _name: std::os::unix::net::UnixListener,
}

/// How often a port is looked for.
const TRIES: u32 = 32;

/// Longest look at whether somebody listens already.
const LOOK: Duration = Duration::from_secs(1);

/// The port for the function's server: that of `upstream_url`, or one that is
/// free. Nothing is claimed when `upstream_url` names another machine.
/// Blocking.
///
/// # Errors
/// A text: the port is somebody's, or none can be had.
pub(super) fn choose(settings: &Settings) -> Result<(u16, Option<Claim>), String> {
    let Some(url) = &settings.upstream_url else {
        return free().map_err(|error| format!("cannot find a port for the function: {error}"));
    };
    let port = url.port_or_known_default().unwrap_or(80);
    if !is_local(url) {
        return Ok((port, None));
    }
    let claim = claim(port)
        .map_err(|error| format!("upstream_url: cannot claim port {port}: {error}"))?
        .ok_or_else(|| {
            format!(
                "upstream_url: port {port} belongs to another function of this machine; \
                 choose another one, or leave upstream_url out and listen on $PORT"
            )
        })?;
    let host = url.host_str().unwrap_or("127.0.0.1");
    let addresses = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .map_err(|error| format!("upstream_url: cannot resolve {host}: {error}"))?;
    match addresses.into_iter().find(somebody_listens) {
        Some(address) => Err(format!(
            "upstream_url: {address} is in use by another process; \
             stop it, choose another port, or leave upstream_url out and listen on $PORT"
        )),
        None => Ok((port, Some(claim))),
    }
}

fn somebody_listens(address: &SocketAddr) -> bool {
    TcpStream::connect_timeout(address, LOOK).is_ok()
}

/// A port that nobody listens on. Another program may take it before the
/// function does; then the function fails to start and is started again.
fn free() -> io::Result<(u16, Option<Claim>)> {
    for _ in 0..TRIES {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if let Some(claim) = claim(port)? {
            return Ok((port, Some(claim)));
        }
    }
    Err(io::Error::other("all ports that were tried are taken"))
}

/// Claims a port, unless another watchdog has. An abstract socket is the lock:
/// such names reach as far as ports do, one network namespace, and need no file.
#[cfg(target_os = "linux")]
fn claim(port: u16) -> io::Result<Option<Claim>> {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    };
    let name = SocketAddr::from_abstract_name(format!("faas-gateway/port/{port}"))?;
    match UnixListener::bind_addr(&name) {
        Ok(listener) => Ok(Some(Claim { _name: listener })),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

/// Without abstract sockets only what listens already is noticed.
#[cfg(not(target_os = "linux"))]
fn claim(_: u16) -> io::Result<Option<Claim>> {
    Ok(Some(Claim {}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_port_is_claimed_once() {
        let (port, claimed) = free().expect("a port");
        assert!(claimed.is_some());
        assert!(claim(port).expect("asks").is_none(), "{port} is taken");
        drop(claimed);
        assert!(claim(port).expect("asks").is_some(), "{port} was given up");
    }
}
