//! What the data path is told: resolved values only, with the defaults that `portcullis run --upstream` uses.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use crate::net::PrefixSet;
use crate::proxy::listener::Source;

/// Everything the data path is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Threads that serve connections: as many as there are cores for us, unless told.
    pub threads: NonZeroUsize,
    /// Our name in `Via` and `Proxy-Status`: a token, different for each instance in a chain.
    pub name: String,
    /// The client side.
    pub client: Client,
    /// The upstream side.
    pub upstream: Upstream,
}

impl Settings {
    /// The defaults, for one listener and one upstream.
    pub fn new(listen: SocketAddr, upstream: Location) -> Self {
        Self {
            listen: vec![Listen::plain(listen)],
            threads: Self::threads(),
            name: "portcullis".to_owned(),
            client: Client::default(),
            upstream: Upstream::new(upstream),
        }
    }

    /// A thread for each core that we may use.
    pub fn threads() -> NonZeroUsize {
        std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    }
}

/// One address to listen on.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address, or a socket that was handed in.
    pub source: Source,
    /// Certificate and key, when it speaks TLS.
    pub tls: Option<TlsFiles>,
    /// Whether HTTP/2 is spoken: by ALPN over TLS, by prior knowledge without.
    pub http2: Http2,
    /// Whether each connection begins with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
}

impl Listen {
    /// Plain HTTP/1.1 on this address.
    pub const fn plain(address: SocketAddr) -> Self {
        Self { source: Source::Address(address), tls: None, http2: Http2::Off, proxy_protocol: ProxyProtocol::Off }
    }
}

/// Where certificate chain and private key lie, both in PEM. Read again when the files change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key (PKCS #8, PKCS #1 or SEC 1).
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

/// What happens to headers whose name another program could take for a second one (`X_Real_IP`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aliases {
    /// The header is dropped.
    #[default]
    Drop,
    /// The request is refused.
    Reject,
}

/// Whether it is measured how much later clients answer within TLS than within TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayRtt {
    /// It is not.
    #[default]
    Off,
    /// It is, for each TLS handshake that is not behind a PROXY header.
    #[cfg(all(feature = "relay-rtt", target_os = "linux"))]
    Measured,
}

/// The client side.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Whose forwarding headers and PROXY headers are believed. Nobody's, unless told.
    pub trusted_proxies: PrefixSet,
    /// In which header these proxies state the JA4 of a client whose TLS ends at them, if they do.
    pub ja4_header: Option<HeaderName>,
    /// Whether it is measured how much later clients answer within TLS than within TCP.
    pub relay_rtt: RelayRtt,
    /// What happens to headers whose name another program could take for a second one.
    pub aliases: Aliases,
    /// Sizes and counts.
    pub limits: Limits,
    /// Times.
    pub timeouts: Timeouts,
}

/// Sizes and counts of the client side.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Octets of one request head, also of one trailer section.
    pub header_bytes_max: usize,
    /// Lines of one request head, also of one trailer section.
    pub headers_max: usize,
    /// Octets of the request target.
    pub uri_bytes_max: usize,
    /// Connections open at once; more are closed unread.
    pub connections_max: usize,
    /// Octets a second below which a body is too slow, in either direction.
    pub body_rate_min: u64,
    /// How long we wait for a body in all before its rate is judged.
    pub body_rate_grace: Duration,
    /// Octets of bodies that gates look at, all together: while a client takes its time they lie in memory. The first 2 KiB
    /// of each, which hold the form of an honest login, are not counted. One client can have an eighth of it.
    pub peeked_bytes_max: usize,
    /// Requests at once on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// HTTP/2 frames that carry no request (PING, SETTINGS, RST_STREAM, ...) allowed per ten seconds.
    pub http2_glitches_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes_max: 32 << 10,
            headers_max: 100,
            uri_bytes_max: 8 << 10,
            connections_max: 20_000,
            body_rate_min: 128,
            body_rate_grace: Duration::from_secs(10),
            peeked_bytes_max: 32 << 20,
            http2_streams_max: 100,
            http2_glitches_max: 1_000,
        }
    }
}

impl Limits {
    /// Whether a body of which `moved` octets came while it was waited for so long is below the least rate.
    pub(super) fn is_too_slow(&self, moved: u64, waited: Duration) -> bool {
        let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let owed = millis.saturating_mul(self.body_rate_min) / 1000;
        waited >= self.body_rate_grace && moved < owed
    }
}

/// Times of the client side.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the first octet of a head to its last; also from accept to the end of the TLS handshake.
    pub header: Duration,
    /// Longest silence inside a body, in either direction.
    pub body: Duration,
    /// How long a connection may lie idle between requests.
    pub idle: Duration,
    /// How long a tunnel, or an event stream, may be silent.
    pub tunnel_idle: Duration,
    /// How long requests may still run after the shutdown signal.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            tunnel_idle: Duration::from_secs(600),
            drain: Duration::from_secs(30),
        }
    }
}

/// The upstream side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Where the app listens; several are balanced.
    pub locations: Vec<Location>,
    /// How one of several is chosen.
    pub balance: Balance,
    /// What `Host` the app sees.
    pub host: Host,
    /// Time to open a connection, TLS included.
    pub connect_timeout: Duration,
    /// Time from the request's last octet to the response's head; also the longest silence inside the response, unless
    /// that is an event stream.
    pub response_timeout: Duration,
    /// Requests at the app at once, for each location.
    pub connections_max: usize,
    /// How long a request waits for one of them before it is answered with 503.
    pub queue_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Octets of a response head.
    pub header_bytes_max: usize,
    /// Asks the app whether it is well.
    pub health: Option<Health>,
}

impl Upstream {
    /// The defaults, for one location.
    pub fn new(location: Location) -> Self {
        Self {
            locations: vec![location],
            balance: Balance::LeastBusy,
            host: Host::Pass,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(60),
            connections_max: 512,
            queue_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(30),
            header_bytes_max: 64 << 10,
            health: None,
        }
    }

    /// The files of authorities that the connections to the app rest on, as they are now.
    pub(super) fn authorities(&self) -> Vec<Vec<u8>> {
        let files = self.locations.iter().filter_map(|location| match location {
            Location::Tls { ca, .. } => ca.as_ref(),
            Location::Tcp { .. } | Location::Unix(_) => None,
        });
        files.map(|file| std::fs::read(file).unwrap_or_default()).collect()
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
        /// PEM file of the authorities to trust; the system's when unset.
        ca: Option<PathBuf>,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

/// How one of several upstreams is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The one with the fewest requests in flight; in turn among equals.
    LeastBusy,
    /// In turn.
    RoundRobin,
}

/// What `Host` the app sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// The one the client sent.
    Pass,
    /// This one. The client's goes into `X-Forwarded-Host`.
    Fixed(String),
}

/// Asks the app whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The path to ask for; any status below 500 is well.
    pub path: String,
    /// How often.
    pub every: Duration,
}
