//! How a listener comes to the address that a configuration gives it.
//!
//! [`plan`] decides, without touching a socket: it stays where it is, takes
//! over a socket of ours that has the address already (two listeners that
//! change places, or one that comes back while its old socket still drains), or
//! binds a new one. [`bind`] does the last, also beside sockets of ours whose
//! address overlaps with the new one (`127.0.0.1:8080` and `0.0.0.0:8080`).
//!
//! For that, `SO_REUSEPORT` is on for both sockets while the new one is bound,
//! and off again afterwards. It is never on at the start and never for an
//! address that is not ours already: a second gateway of the same user must
//! fail, not share our connections. (Linux remembers for the port that it was
//! on, so a program of the same user that asks to share could from then on. It
//! could as well take our connections in other ways.)

use std::{io, net::SocketAddr, sync::Arc};

use nix::sys::socket::{setsockopt, sockopt::ReusePort};
use tokio::net::{TcpListener, TcpSocket};

use super::Role;
use crate::config::overlap;

/// Connections the system may hold for us; it lowers the number to what it allows.
const BACKLOG: u32 = i32::MAX as u32;

/// A socket of ours, as the plan sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    /// What it is for; `None` for one that was replaced and still accepts.
    pub(super) role: Option<Role>,
    /// The address asked for, with port 0 where any would do.
    pub(super) configured: SocketAddr,
    /// The address it has.
    pub(super) local: SocketAddr,
}

/// How a listener gets its address; the numbers are those of our sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// It has it.
    Stay,
    /// By taking over a socket.
    TakeOver(usize),
    /// By binding a new one beside these, which overlap with it.
    Bind(Vec<usize>),
}

/// How the listener for `role` gets the address `wanted`, when the listeners
/// for `staying` keep theirs.
///
/// # Errors
/// One of those has it; the text says which.
pub(super) fn plan(role: Role, wanted: SocketAddr, staying: &[Role], own: &[Own]) -> Result<Way, String> {
    let is_there = |socket: &Own| socket.configured == wanted || socket.local == wanted;
    if own.iter().any(|socket| socket.role == Some(role) && is_there(socket)) {
        return Ok(Way::Stay);
    }
    let overlapping = |socket: &Own| overlap(socket.local, wanted);
    for other in own.iter().filter(|socket| overlapping(socket)) {
        if let Some(other_role) = other.role.filter(|role| staying.contains(role)) {
            return Err(format!(
                "{wanted} overlaps with {} of {}",
                other.local,
                other_role.key()
            ));
        }
    }
    if let Some(socket) = own.iter().position(|socket| socket.local == wanted) {
        return Ok(Way::TakeOver(socket));
    }
    let beside = own.iter().enumerate().filter(|(_, socket)| overlapping(socket));
    Ok(Way::Bind(beside.map(|(socket, _)| socket).collect()))
}

/// Binds an address, beside sockets of ours that overlap with it.
pub(super) async fn bind(address: SocketAddr, beside: &[Arc<TcpListener>]) -> io::Result<TcpListener> {
    if beside.is_empty() {
        return TcpListener::bind(address).await;
    }
    let _shared = beside
        .iter()
        .map(|socket| Shared::new(socket))
        .collect::<Result<Vec<_>, _>>()?;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    setsockopt(&listener, ReusePort, &false)?;
    Ok(listener)
}

/// A socket beside which another may be bound, as long as this lives.
struct Shared<'s>(&'s TcpListener);

impl<'s> Shared<'s> {
    fn new(socket: &'s TcpListener) -> io::Result<Self> {
        setsockopt(socket, ReusePort, &true)?;
        Ok(Self(socket))
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        if let Err(error) = setsockopt(self.0, ReusePort, &false) {
            tracing::warn!(%error, "another program of this user may bind the listener's address too");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Sockets of ours: `main`, `metrics`, `internal` or `-` for one that
    /// drains, and the address.
    fn own(sockets: &[(&str, &str)]) -> Vec<Own> {
        let role = |name: &str| match name {
            "main" => Some(Role::Main),
            "metrics" => Some(Role::Metrics),
            "internal" => Some(Role::Internal),
            _ => None,
        };
        let sockets = sockets.iter().map(|(name, local)| Own {
            role: role(name),
            configured: address(local),
            local: address(local),
        });
        sockets.collect()
    }

    #[test]
    fn point_16_each_way_to_an_address() {
        use Role::{Internal, Main, Metrics};
        for (role, wanted, staying, sockets, expected) in [
            (
                Main,
                "127.0.0.1:80",
                &[][..],
                &[("main", "127.0.0.1:80")][..],
                Way::Stay,
            ),
            (
                Main,
                "127.0.0.1:81",
                &[],
                &[("main", "127.0.0.1:80")],
                Way::Bind(vec![]),
            ),
            (Main, "127.0.0.1:0", &[], &[("main", "127.0.0.1:80")], Way::Bind(vec![])),
            // Overlapping with itself, and back.
            (Main, "0.0.0.0:80", &[], &[("main", "127.0.0.1:80")], Way::Bind(vec![0])),
            (Main, "[::]:80", &[], &[("main", "0.0.0.0:80")], Way::Bind(vec![0])),
            // Two change places.
            (
                Main,
                "127.0.0.1:81",
                &[Metrics],
                &[("main", "127.0.0.1:80"), ("internal", "127.0.0.1:81")],
                Way::TakeOver(1),
            ),
            (
                Internal,
                "127.0.0.1:80",
                &[Metrics],
                &[("main", "127.0.0.1:80"), ("internal", "127.0.0.1:81")],
                Way::TakeOver(0),
            ),
            // And one of them with more addresses.
            (
                Internal,
                "0.0.0.0:80",
                &[],
                &[("main", "127.0.0.1:80"), ("internal", "127.0.0.1:81")],
                Way::Bind(vec![0]),
            ),
            // Back before the old socket has drained.
            (
                Main,
                "127.0.0.1:80",
                &[],
                &[("main", "127.0.0.1:81"), ("-", "127.0.0.1:80")],
                Way::TakeOver(1),
            ),
            (
                Main,
                "0.0.0.0:80",
                &[],
                &[("main", "127.0.0.1:81"), ("-", "127.0.0.1:80")],
                Way::Bind(vec![1]),
            ),
        ] {
            let way = plan(role, address(wanted), staying, &own(sockets));
            assert_eq!(way, Ok(expected), "{role:?} {wanted} {sockets:?}");
        }
        let sockets = own(&[("main", "127.0.0.1:80"), ("internal", "127.0.0.1:81")]);
        for wanted in ["127.0.0.1:80", "0.0.0.0:80"] {
            let refused = plan(Internal, address(wanted), &[Main], &sockets).expect_err(wanted);
            assert!(
                refused.ends_with("overlaps with 127.0.0.1:80 of server.listen"),
                "{refused}"
            );
        }
        // Any port was asked for; the one that it became can be written down.
        let any = [Own {
            role: Some(Main),
            configured: address("127.0.0.1:0"),
            local: address("127.0.0.1:4000"),
        }];
        for wanted in ["127.0.0.1:0", "127.0.0.1:4000"] {
            assert_eq!(plan(Main, address(wanted), &[], &any), Ok(Way::Stay), "{wanted}");
        }
    }

    #[tokio::test]
    async fn point_16_an_overlapping_address_is_shared_with_nobody_else() {
        let first = Arc::new(bind(address("127.0.0.1:0"), &[]).await.expect("a port"));
        let port = first.local_addr().expect("bound").port();
        let every = SocketAddr::new(address("0.0.0.0:0").ip(), port);
        let stranger = bind(every, &[]).await;
        assert_eq!(stranger.expect_err("taken").kind(), io::ErrorKind::AddrInUse);

        let second = bind(every, std::slice::from_ref(&first)).await.expect("beside our own");
        for taken in [every, first.local_addr().expect("bound")] {
            let stranger = bind(taken, &[]).await;
            assert_eq!(stranger.expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        }
        drop(first);
        let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        assert!(connected.is_ok() && second.accept().await.is_ok());
    }
}
