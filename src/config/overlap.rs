//! When two addresses cannot have a listener each.
//!
//! Pure. The check refuses a configuration with such addresses; a reload that
//! moves from one to the other has to know it too ([`crate::app`]).

use std::net::SocketAddr;

/// Whether there are connections that both addresses would get. Port 0 is any
/// free port and overlaps with none.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    covers(one, other) || covers(other, one)
}

/// Whether every connection to the second address is one to the first. IPv6
/// sockets take IPv4 connections too, as the system has it.
pub fn covers(wide: SocketAddr, narrow: SocketAddr) -> bool {
    let (every, address) = (wide.ip().to_canonical(), narrow.ip().to_canonical());
    let within = every == address || every.is_unspecified() && (every.is_ipv6() || address.is_ipv4());
    within && wide.port() != 0 && wide.port() == narrow.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_where_one_of_them_is_every_address() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "[::]:80", true),
            ("0.0.0.0:80", "[::]:80", true),
            ("[::1]:80", "[::]:80", true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::ffff:127.0.0.1]:80", "0.0.0.0:80", true),
            ("[::1]:80", "0.0.0.0:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:81", false),
            ("127.0.0.1:0", "0.0.0.0:0", false),
        ] {
            let address = |text: &str| text.parse().expect("an address");
            for (one, other) in [(one, other), (other, one)] {
                assert_eq!(overlap(address(one), address(other)), expected, "{one} {other}");
            }
            // Where they are not the same, the second is the wider one.
            let wider = address(other).ip().is_unspecified();
            assert_eq!(covers(address(other), address(one)), expected, "{one} {other}");
            assert_eq!(
                covers(address(one), address(other)),
                expected && !wider,
                "{one} {other}"
            );
        }
    }
}
