//! Settings of the data path: where to listen, what clients may do, where the app is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use crate::net::IpPrefix;
use crate::proxy::RelayRtt;

/// `[[listen]]`: one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// Certificate and key, when it speaks TLS.
    pub tls: Option<TlsFiles>,
    /// Whether HTTP/2 is spoken: by ALPN over TLS, by prior knowledge without.
    pub http2: Http2,
    /// Whether each connection begins with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
}

impl Listen {
    /// Plain HTTP/1.1.
    pub const fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, http2: Http2::Off, proxy_protocol: ProxyProtocol::Off }
    }
}

/// Where certificate chain and private key lie, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Whether HTTP/2 is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2 {
    /// HTTP/1.1 only.
    Off,
    /// HTTP/2 where the client asks for it.
    On,
}

/// Whether a PROXY protocol header is read. It is never guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A header would be a malformed request.
    Off,
    /// Every connection begins with one, and only from a trusted proxy.
    Required,
}

/// `[client]`: the client side of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whose `Forwarded` and `X-Forwarded-For` are believed.
    pub trusted_proxies: Vec<IpPrefix>,
    /// In which header they state the JA4 of a client.
    pub ja4_header: Option<HeaderName>,
    /// Whether it is measured how much later clients answer within TLS than within TCP.
    pub relay_rtt: RelayRtt,
    /// Octets of one request head.
    pub header_bytes_max: usize,
    /// Lines of one request head.
    pub headers_max: usize,
    /// Octets of the request target.
    pub uri_bytes_max: usize,
    /// What becomes of header names with `_`, which apps take for `-`.
    pub underscore_headers: UnderscoreHeaders,
    /// From the first octet of a head to its last; also the time for a TLS handshake.
    pub header_timeout: Duration,
    /// Longest silence inside a body.
    pub body_timeout: Duration,
    /// Octets a second below which a body is too slow, once it has taken ten seconds.
    pub body_rate_min: usize,
    /// Connections open at once.
    pub connections_max: usize,
    /// How long a connection may lie idle between requests.
    pub idle_connection: Duration,
    /// How long a tunnel (WebSocket) may be silent in both directions.
    pub tunnel_idle: Duration,
    /// How long requests may still run after the signal to stop.
    pub drain_timeout: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// HTTP/2 frames that carry no request, allowed per ten seconds.
    pub http2_glitches_max: u32,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            ja4_header: None,
            relay_rtt: RelayRtt::Off,
            header_bytes_max: 32 << 10,
            headers_max: 100,
            uri_bytes_max: 8 << 10,
            underscore_headers: UnderscoreHeaders::Drop,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_rate_min: 128,
            connections_max: 20_000,
            idle_connection: Duration::from_secs(60),
            tunnel_idle: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(30),
            http2_streams_max: 100,
            http2_glitches_max: 1_000,
        }
    }
}

/// What becomes of request headers with `_` in their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderscoreHeaders {
    /// The header is dropped, with an event.
    Drop,
    /// The request is refused.
    Reject,
}

/// `[upstream]`: the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Where it listens; several are balanced.
    pub locations: Vec<Location>,
    /// PEM file of the authorities to trust behind `https`; the system's when unset.
    pub ca: Option<PathBuf>,
    /// How one of several is chosen.
    pub balance: Balance,
    /// What `Host` the app sees: the client's when unset.
    pub host: Option<String>,
    /// Time to open a connection.
    pub connect_timeout: Duration,
    /// Time to the head of the response.
    pub response_timeout: Duration,
    /// Requests at once, for each location.
    pub connections_max: usize,
    /// How long a request waits for one of them.
    pub queue_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Octets of a response head.
    pub header_bytes_max: usize,
    /// Asks the app whether it is well.
    pub health: Option<Health>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            locations: Vec::new(),
            ca: None,
            balance: Balance::LeastBusy,
            host: None,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(60),
            connections_max: 512,
            queue_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(30),
            header_bytes_max: 64 << 10,
            health: None,
        }
    }
}

/// Where an app listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `http://host:port`
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `https://host:port`
    Tls {
        /// A name or an address, without brackets; the certificate must be for it.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

/// How one of several locations is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The one with the fewest requests in flight.
    LeastBusy,
    /// In turn.
    RoundRobin,
}

/// Asks the app whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The path to ask for; any status below 500 is well.
    pub path: String,
    /// How often.
    pub every: Duration,
}
