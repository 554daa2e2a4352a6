//! The service's own endpoints, which it must never be made to call.
//!
//! A connector that points at the service itself loops; one that points at its database speaks to it with the service's
//! place in the network. Neither is opened by any rule, not even by the one for loopback.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use url::{Host, Url};

use crate::address::canonical;

/// An endpoint of the service itself. Requests to it are refused whatever the allow-list says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnEndpoint {
    pub(crate) place: Place,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Every address of this machine.
    Machine,
    /// One address, canonical.
    Address(IpAddr),
    /// A name, and nothing that it resolves to.
    Name(String),
    /// A name, and every address to which it resolves at the moment of the request.
    Resolved(String),
}

impl OwnEndpoint {
    /// An address on which the service listens, with the port that was really bound.
    ///
    /// The unspecified address (`0.0.0.0`, `::`) means every address of this machine: the whole loopback ranges, and
    /// the address of each of its interfaces, in both families. A port that another machine forwards to this one, such
    /// as that of a load balancer, is not known here: name it with [`public`](Self::public).
    pub fn listener(address: SocketAddr) -> Self {
        let ip = canonical(address.ip());
        let place = if ip.is_unspecified() { Place::Machine } else { Place::Address(ip) };
        Self { place, port: address.port() }
    }

    /// A service on which this one depends, such as its database: `host` is a name or an address.
    ///
    /// A name is refused as such, and so is each address to which it resolves, looked up anew at each dial to this
    /// port. If it cannot be looked up then, the port is closed for every destination. A loopback address, on which
    /// something listens of which nothing is known, means every address of this machine.
    pub fn backend(host: &str, port: u16) -> Self {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let place = match bare.parse::<IpAddr>().map(canonical) {
            Ok(ip) if ip.is_unspecified() || ip.is_loopback() => Place::Machine,
            Ok(ip) => Place::Address(ip),
            Err(_) => Place::Resolved(bare.trim_end_matches('.').to_ascii_lowercase()),
        };
        Self { place, port }
    }

    /// The URL under which clients reach the service, or `None` if it has no host or port.
    ///
    /// The name alone is refused, not the addresses behind it: an ingress serves many names at one address, and MCP
    /// servers may be among them.
    pub fn public(url: &Url) -> Option<Self> {
        let place = match url.host()? {
            Host::Domain(name) => Place::Name(name.trim_end_matches('.').to_owned()),
            Host::Ipv4(ip) => Place::Address(IpAddr::V4(ip)),
            Host::Ipv6(ip) => Place::Address(canonical(IpAddr::V6(ip))),
        };
        Some(Self { place, port: url.port_or_known_default()? })
    }
}

impl Place {
    /// Whether `ip`, which is canonical, is this place, as far as that can be told without a look-up.
    pub(crate) fn is_at(&self, ip: IpAddr) -> bool {
        match self {
            Self::Machine => ip.is_loopback() || ip.is_unspecified() || is_of_this_machine(ip),
            Self::Address(own) => *own == ip,
            Self::Name(_) | Self::Resolved(_) => false,
        }
    }
}

/// Asks the operating system by binding a socket, which it permits for its own addresses only: unlike a list of
/// interfaces read at the start, this cannot be stale. An answer that is not a clear no counts as yes.
fn is_of_this_machine(ip: IpAddr) -> bool {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::AddrNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(endpoint: &OwnEndpoint, ip: &str) -> bool {
        endpoint.place.is_at(canonical(ip.parse().unwrap()))
    }

    #[test]
    fn an_unspecified_listener_is_every_address_of_this_machine() {
        for unspecified in ["0.0.0.0:8333", "[::]:8333", "[::ffff:0.0.0.0]:8333"] {
            let own = OwnEndpoint::listener(unspecified.parse().unwrap());
            for ip in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"] {
                assert!(at(&own, ip), "{unspecified} {ip}");
            }
            assert!(!at(&own, "192.0.2.1"), "{unspecified}");
        }
    }

    #[test]
    fn the_address_of_an_interface_is_of_this_machine() {
        // Connecting a datagram socket sends nothing; it makes the kernel choose the interface and its address.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let own = OwnEndpoint::listener("0.0.0.0:8333".parse().unwrap());
            assert!(own.place.is_at(socket.local_addr().unwrap().ip()));
        }
    }

    #[test]
    fn a_listener_with_an_address_is_that_address_only() {
        let own = OwnEndpoint::listener("127.0.0.1:8333".parse().unwrap());
        assert!(at(&own, "127.0.0.1") && at(&own, "::ffff:127.0.0.1"));
        assert!(!at(&own, "127.0.0.2") && !at(&own, "::1"));
    }

    #[test]
    fn a_backend_is_an_address_a_machine_or_a_name() {
        assert_eq!(OwnEndpoint::backend("10.0.0.5", 5432).place, Place::Address("10.0.0.5".parse().unwrap()));
        assert_eq!(OwnEndpoint::backend("[::1]", 5432).place, Place::Machine);
        assert_eq!(OwnEndpoint::backend("127.0.0.1", 5432).place, Place::Machine);
        assert_eq!(OwnEndpoint::backend("DB.Internal.", 5432).place, Place::Resolved("db.internal".to_owned()));
    }

    #[test]
    fn a_public_url_is_its_name_and_port() {
        let own = OwnEndpoint::public(&"https://Connectors.example./app".parse().unwrap()).unwrap();
        assert_eq!(own, OwnEndpoint { place: Place::Name("connectors.example".to_owned()), port: 443 });
        assert_eq!(OwnEndpoint::public(&"data:x".parse().unwrap()), None);
    }
}
