//! What the transport told us about a connection, kept for every request on it.
//!
//! The peer named here is the client's side as the transport knows it: the other end of our socket, or what a required
//! PROXY header said in its stead. What request headers claim is no part of it (`facts::client_ip`).

pub mod client_hello;
pub mod http2;
pub mod print;
pub mod proxy_protocol;
pub mod syn;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

use crate::net::canonical;

pub use print::{Http2Print, Print};
pub use proxy_protocol::Endpoints;

/// Numbers the connections of one run, for events; it starts anew with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The other end of our socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Over a network. The address is canonical.
    Ip(SocketAddr),
    /// A process on this machine, over a unix socket.
    Unix,
}

/// Plain or encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// No TLS on this socket; a proxy before us may have ended it.
    Plain,
    /// TLS that ends here.
    Tls {
        /// The host the client asked for in its `ClientHello`.
        sni: Option<Box<str>>,
        /// The protocol that was agreed upon, if any was offered.
        alpn: Option<Alpn>,
    },
}

/// A protocol agreed upon inside the TLS handshake (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `http/1.1`
    Http1,
    /// `h2`
    Http2,
}

/// The scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// As it is written in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Whether a PROXY header stood before the first byte, and what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proxied {
    /// The listener takes no PROXY header.
    No,
    /// The header named no addresses (`LOCAL`, `UNKNOWN`): the balancer speaks for itself, as in a health check.
    Unstated,
    /// The header named these ends.
    Stated(Endpoints),
}

/// One connection of the client side.
#[derive(Clone, Debug)]
pub struct Connection {
    id: ConnectionId,
    socket: Peer,
    local: Option<SocketAddr>,
    transport: Transport,
    proxied: Proxied,
    /// What is known of its TLS and its first packet when it opens.
    print: Print,
    /// What its HTTP/2 looks like, once it is seen.
    http2: OnceLock<Http2Print>,
}

impl Connection {
    /// A connection as the listener sees it. `socket` and `local` are the ends of the socket itself; what a PROXY header
    /// said goes into `proxied`.
    pub fn new(
        id: ConnectionId,
        socket: Peer,
        local: Option<SocketAddr>,
        transport: Transport,
        proxied: Proxied,
    ) -> Self {
        let socket = match socket {
            Peer::Ip(address) => Peer::Ip(canonical_socket(address)),
            Peer::Unix => Peer::Unix,
        };
        Self {
            id,
            socket,
            local: local.map(canonical_socket),
            transport,
            proxied,
            print: Print::default(),
            http2: OnceLock::new(),
        }
    }

    /// Its number.
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The other end of the socket itself, a balancer's if there is one.
    pub const fn socket(&self) -> Peer {
        self.socket
    }

    /// Who stands at the other end: what the PROXY header said, else the other end of the socket.
    pub const fn peer(&self) -> Peer {
        match self.proxied {
            Proxied::Stated(ends) => Peer::Ip(ends.source),
            Proxied::Unstated | Proxied::No => self.socket,
        }
    }

    /// The address of [`Self::peer`]. A process behind a unix socket counts as `127.0.0.1`, and is believed or not by
    /// the same line of `trusted_proxies`.
    pub const fn peer_ip(&self) -> IpAddr {
        match self.peer() {
            Peer::Ip(address) => address.ip(),
            Peer::Unix => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// The port of [`Self::peer`]. It is no part of any binding: it changes with every connection.
    pub const fn peer_port(&self) -> Option<u16> {
        match self.peer() {
            Peer::Ip(address) => Some(address.port()),
            Peer::Unix => None,
        }
    }

    /// The address the client connected to: what the PROXY header said, else our end of the socket.
    pub const fn local(&self) -> Option<SocketAddr> {
        match self.proxied {
            Proxied::Stated(ends) => Some(ends.destination),
            Proxied::Unstated | Proxied::No => self.local,
        }
    }

    /// Plain or TLS.
    pub const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The same connection, of a client whose transport looks so.
    #[must_use]
    pub const fn with_print(mut self, print: Print) -> Self {
        self.print = print;
        self
    }

    /// The beginning of HTTP/2 on it was seen. Only the first time counts.
    pub fn see_http2(&self, print: Http2Print) {
        self.http2.get_or_init(|| print);
    }

    /// What its client's transport looks like, as far as it was seen.
    pub fn print(&self) -> Print {
        Print { http2: self.http2.get().copied().or(self.print.http2), ..self.print }
    }

    /// What a PROXY header said.
    pub const fn proxied(&self) -> Proxied {
        self.proxied
    }

    /// The scheme of this socket, whatever a proxy before us spoke with the client.
    pub const fn scheme(&self) -> Scheme {
        match self.transport {
            Transport::Plain => Scheme::Http,
            Transport::Tls { .. } => Scheme::Https,
        }
    }
}

/// The canonical address with its port; scope and flow label of IPv6 mean nothing beyond the link.
const fn canonical_socket(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical(address.ip()), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(socket: Peer, proxied: Proxied) -> Connection {
        Connection::new(
            ConnectionId(1),
            socket,
            Some("[::ffff:192.0.2.2]:80".parse().unwrap()),
            Transport::Plain,
            proxied,
        )
    }

    #[test]
    fn the_proxy_header_speaks_for_the_socket() {
        let socket = Peer::Ip("[::ffff:10.0.0.1]:4000".parse().unwrap());
        let ends =
            Endpoints { source: "192.0.2.7:5000".parse().unwrap(), destination: "192.0.2.9:443".parse().unwrap() };
        let check = |proxied, peer: &str, local: &str| {
            let connection = connection(socket, proxied);
            assert_eq!(connection.peer(), Peer::Ip(peer.parse().unwrap()));
            assert_eq!(connection.local(), Some(local.parse().unwrap()));
            assert_eq!(connection.socket(), Peer::Ip("10.0.0.1:4000".parse().unwrap()));
        };
        check(Proxied::No, "10.0.0.1:4000", "192.0.2.2:80");
        check(Proxied::Unstated, "10.0.0.1:4000", "192.0.2.2:80");
        check(Proxied::Stated(ends), "192.0.2.7:5000", "192.0.2.9:443");
    }

    #[test]
    fn a_unix_socket_counts_as_this_machine() {
        let connection = connection(Peer::Unix, Proxied::No);
        assert_eq!((connection.peer_ip(), connection.peer_port()), (IpAddr::V4(Ipv4Addr::LOCALHOST), None));
        assert_eq!(connection.scheme().as_str(), "http");
    }
}
