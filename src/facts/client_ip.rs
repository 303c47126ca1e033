//! Which address a request came from, when proxies stand in between.
//!
//! The decision, in order:
//!
//! 1. A peer that is not trusted is the client itself, whatever its headers say. No header is looked at.
//! 2. From a trusted peer, `X-Forwarded-For` is read from the right over all its lines: trusted addresses are skipped,
//!    the first other one is the client. If all are trusted, the leftmost is.
//! 3. Without `X-Forwarded-For`, `Forwarded` (RFC 7239) is read in the same way.
//! 4. An element that names no bare address ends the walk, and the peer counts as the client: what stands further left
//!    was written by nobody we know.
//!
//! **Deployment.** When both headers come and name different clients, `X-Forwarded-For` holds and [`Junk::Disagree`] is
//! reported. Nearly every proxy writes the first and passes the second on as the client sent it, so the other choice
//! would let anyone pick an address. A proxy that writes only `Forwarded` must therefore drop `X-Forwarded-For`.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;
use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::connection::{Connection, Proxied, Scheme};
use crate::net::{PrefixSet, canonical, is_private_or_loopback};

/// How many elements of a chain are read at most; a longer one is junk.
pub const HOPS_MAX: usize = 32;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Who named the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The transport: no proxy was believed, or none said anything of use.
    Peer,
    /// A trusted proxy, in `X-Forwarded-For`.
    XForwardedFor,
    /// A trusted proxy, in `Forwarded`.
    Forwarded,
}

/// What was wrong with the headers of a trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Junk {
    /// `X-Forwarded-For` has an element that is no bare address, or too many; the peer was taken.
    XForwardedFor,
    /// `Forwarded` has a malformed, unknown or obfuscated element, or too many; the peer was taken.
    Forwarded,
    /// Both headers came and named different clients; `X-Forwarded-For` was taken.
    Disagree,
}

/// The address a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIp {
    /// The address, canonical.
    pub ip: IpAddr,
    /// Who named it.
    pub source: Source,
    /// What was wrong on the way, for an event.
    pub junk: Option<Junk>,
}

/// The client of a request on this connection.
///
/// After a PROXY header that named nobody, the balancer speaks for itself and no header is believed: a balancer that
/// works below HTTP passes on whatever its client wrote.
pub fn of(connection: &Connection, headers: &HeaderMap, trusted: &PrefixSet) -> ClientIp {
    match connection.proxied() {
        Proxied::Unstated => ClientIp { ip: connection.peer_ip(), source: Source::Peer, junk: None },
        Proxied::No | Proxied::Stated(_) => resolve(connection.peer_ip(), headers, trusted),
    }
}

/// The client of a request that came from `peer`; the decision is at the head of this file.
pub fn resolve(peer: IpAddr, headers: &HeaderMap, trusted: &PrefixSet) -> ClientIp {
    let peer = canonical(peer);
    let at_peer = |junk| ClientIp { ip: peer, source: Source::Peer, junk };
    if !trusted.contains(peer) {
        return at_peer(None);
    }
    match walk_x_forwarded_for(headers, trusted) {
        Walk::Client(ip) => {
            let junk = match walk_forwarded(headers, trusted).0 {
                Walk::Client(other) if other != ip => Some(Junk::Disagree),
                _ => None,
            };
            ClientIp { ip, source: Source::XForwardedFor, junk }
        }
        Walk::Junk => at_peer(Some(Junk::XForwardedFor)),
        Walk::Absent => match walk_forwarded(headers, trusted).0 {
            Walk::Client(ip) => ClientIp { ip, source: Source::Forwarded, junk: None },
            Walk::Junk => at_peer(Some(Junk::Forwarded)),
            Walk::Absent => at_peer(None),
        },
    }
}

/// The scheme the client spoke, where a trusted proxy says so: `X-Forwarded-Proto`, else `Forwarded`.
///
/// Of several values of `X-Forwarded-Proto` all must be `https` for it to be `https`. Of `Forwarded` it is the element
/// that names the client. A word that is neither scheme counts as nothing said.
pub fn stated_scheme(peer: IpAddr, headers: &HeaderMap, trusted: &PrefixSet) -> Option<Scheme> {
    if !trusted.contains(peer) {
        return None;
    }
    let mut stated = None;
    for line in headers.get_all(&X_FORWARDED_PROTO) {
        for word in line.as_bytes().split(|byte| *byte == b',') {
            match (scheme(word.trim_ascii())?, stated) {
                (_, Some(Scheme::Http)) => {}
                (scheme, _) => stated = Some(scheme),
            }
        }
    }
    stated.or_else(|| walk_forwarded(headers, trusted).1)
}

/// The host the client asked for, where a trusted proxy says so in `X-Forwarded-Host`: the rightmost value. It informs
/// events; nothing is decided by it.
pub fn stated_host<'h>(peer: IpAddr, headers: &'h HeaderMap, trusted: &PrefixSet) -> Option<&'h str> {
    if !trusted.contains(peer) {
        return None;
    }
    let line = headers.get_all(&X_FORWARDED_HOST).iter().next_back()?;
    let host = line.to_str().ok()?.rsplit(',').next()?.trim_ascii();
    is_host(host).then_some(host)
}

/// Whether a proxy of our own seems to stand before us without being trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UntrustedForwarding {
    /// Nothing points to one.
    No,
    /// A private or loopback peer outside the trusted set sent a forwarding header: `trusted_proxies` lacks a line.
    Yes,
}

/// Looks for a proxy that nobody told us of. Until it is listed all its clients are one client, so limits per client
/// should only report.
pub fn untrusted_forwarding(peer: IpAddr, headers: &HeaderMap, trusted: &PrefixSet) -> UntrustedForwarding {
    let forwards = || headers.keys().any(|name| *name == X_FORWARDED_FOR || *name == FORWARDED);
    if is_private_or_loopback(peer) && !trusted.contains(peer) && forwards() {
        UntrustedForwarding::Yes
    } else {
        UntrustedForwarding::No
    }
}

/// Where a walk from the right ended.
enum Walk {
    Absent,
    Client(IpAddr),
    Junk,
}

fn walk_x_forwarded_for(headers: &HeaderMap, trusted: &PrefixSet) -> Walk {
    let lines = headers.get_all(&X_FORWARDED_FOR).iter().rev();
    let mut walk = Walk::Absent;
    for (hop, element) in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).enumerate() {
        let Some(ip) = bare_address(element).filter(|_| hop < HOPS_MAX) else { return Walk::Junk };
        walk = Walk::Client(ip);
        if !trusted.contains(ip) {
            break;
        }
    }
    walk
}

/// An address and nothing else: no port, no brackets, no zone. An empty element is junk too, being what a proxy writes
/// that does not know its client.
fn bare_address(element: &[u8]) -> Option<IpAddr> {
    str::from_utf8(element.trim_ascii()).ok()?.parse().ok().map(canonical)
}

/// Also the scheme of the element it ended at.
fn walk_forwarded(headers: &HeaderMap, trusted: &PrefixSet) -> (Walk, Option<Scheme>) {
    let lines = headers.get_all(FORWARDED).iter().rev();
    let mut walk = (Walk::Absent, None);
    for (hop, element) in lines.flat_map(|line| Elements { rest: Some(line.as_bytes()) }).enumerate() {
        let element = Element::parse(element).ok().filter(|_| hop < HOPS_MAX);
        let Some(Element { node: Some(Node::Ip(ip)), scheme, .. }) = element else { return (Walk::Junk, None) };
        walk = (Walk::Client(ip), scheme);
        if !trusted.contains(ip) {
            break;
        }
    }
    walk
}

/// The elements of one `Forwarded` line from the right.
///
/// From the right, because a client may leave a quote open for the element that our proxy appends to fall into. The
/// proxy's own element is whole, so seen from its end every quote in it has its partner.
struct Elements<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.rest.take()?;
        let mut quoted = false;
        let comma = line.iter().rposition(|byte| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        });
        let Some((before, element)) = comma.and_then(|at| line.split_at_checked(at)) else { return Some(line) };
        self.rest = Some(before);
        element.get(1..)
    }
}

/// A party of a `Forwarded` element (RFC 7239 section 6), without its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// An address, canonical.
    Ip(IpAddr),
    /// A name that only its giver understands; it begins with `_`.
    Obfuscated(&'a str),
    /// The giver does not know or does not say.
    Unknown,
}

/// One element of a `Forwarded` header (RFC 7239 section 4).
///
/// Escapes in quoted strings are refused: no address, host or scheme needs one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Element<'a> {
    /// `for`: who sent the request to the proxy.
    pub node: Option<Node<'a>>,
    /// `host`: the Host header that the proxy got.
    pub host: Option<&'a str>,
    /// `proto`: the scheme that the proxy was asked with, if it is one of the two.
    pub scheme: Option<Scheme>,
}

/// An element of a `Forwarded` header is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an element of the Forwarded header is malformed")]
pub struct ForwardedError;

impl<'a> Element<'a> {
    /// Reads one element.
    ///
    /// # Errors
    /// When it is not in the grammar, or names a parameter twice.
    pub fn parse(element: &'a [u8]) -> Result<Self, ForwardedError> {
        let mut rest = str::from_utf8(element).ok().ok_or(ForwardedError)?.trim_ascii();
        let mut out = Self::default();
        let mut seen: SmallVec<[&str; 4]> = SmallVec::new();
        while !rest.is_empty() {
            let (name, value, tail) = pair(rest).ok_or(ForwardedError)?;
            if seen.len() == seen.inline_size() || seen.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                return Err(ForwardedError);
            }
            seen.push(name);
            if name.eq_ignore_ascii_case("for") {
                out.node = Some(Node::parse(value).ok_or(ForwardedError)?);
            } else if name.eq_ignore_ascii_case("host") {
                out.host = Some(value).filter(|host| is_host(host)).ok_or(ForwardedError).map(Some)?;
            } else if name.eq_ignore_ascii_case("proto") {
                out.scheme = scheme(value.as_bytes());
            }
            rest = tail;
        }
        Ok(out)
    }
}

/// The first `name=value`, and what follows the semicolon behind it.
fn pair(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('=')?;
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').filter(|(value, _)| !value.contains('\\'))?,
        None => {
            let (value, _) = rest.split_once(';').unwrap_or((rest, ""));
            let value = value.trim_ascii_end();
            (value, rest.strip_prefix(value)?)
        }
    };
    let token = |word: &str| !word.is_empty() && word.bytes().all(is_token_byte);
    let quoted = text.strip_prefix(name)?.starts_with("=\"");
    if !token(name) || !(quoted || token(value)) {
        return None;
    }
    let rest = rest.trim_ascii_start();
    match rest.strip_prefix(';') {
        Some(tail) => Some((name, value, tail.trim_ascii_start())),
        None => rest.is_empty().then_some((name, value, "")),
    }
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Made of what a host and port are made of; whether it is one, nobody here needs to know.
fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn scheme(word: &[u8]) -> Option<Scheme> {
    if word.eq_ignore_ascii_case(b"https") {
        Some(Scheme::Https)
    } else if word.eq_ignore_ascii_case(b"http") {
        Some(Scheme::Http)
    } else {
        None
    }
}

impl<'a> Node<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let obfuscated = |text: &str| {
            let name = text.strip_prefix('_').unwrap_or_default();
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let (name, port) = match text.strip_prefix('[') {
            Some(v6) => {
                let (v6, port) = v6.split_once(']')?;
                (Self::Ip(canonical(IpAddr::V6(v6.parse::<Ipv6Addr>().ok()?))), port)
            }
            None => {
                let (name, port) = text.split_at_checked(text.find(':').unwrap_or(text.len()))?;
                let node = if name.eq_ignore_ascii_case("unknown") {
                    Self::Unknown
                } else if obfuscated(name) {
                    Self::Obfuscated(name)
                } else {
                    Self::Ip(IpAddr::V4(name.parse::<Ipv4Addr>().ok()?))
                };
                (node, port)
            }
        };
        let number = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
        let fits = port.is_empty() || port.strip_prefix(':').is_some_and(|port| number(port) || obfuscated(port));
        fits.then_some(name)
    }
}

/// As the value of `for`: quoted where it must be.
impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "\"[{ip}]\""),
            Self::Obfuscated(name) if Self::parse(name) == Some(*self) => f.write_str(name),
            Self::Obfuscated(_) | Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "for={}", self.node.unwrap_or(Node::Unknown))?;
        match self.host {
            Some(host) if host.bytes().all(is_token_byte) && !host.is_empty() => write!(f, ";host={host}")?,
            // Anything stranger than a host is left out rather than escaped.
            Some(host) if is_host(host) => write!(f, ";host=\"{host}\"")?,
            _ => {}
        }
        match self.scheme {
            Some(scheme) => write!(f, ";proto={}", scheme.as_str()),
            None => Ok(()),
        }
    }
}

/// An element of ours as the whole value of a `Forwarded` header.
pub fn forwarded_value(element: &Element<'_>) -> HeaderValue {
    written(format_args!("{element}"))
}

/// An address as the whole value of an `X-Forwarded-For` header.
pub fn address_value(ip: IpAddr) -> HeaderValue {
    written(format_args!("{ip}"))
}

fn written(text: fmt::Arguments<'_>) -> HeaderValue {
    let mut out = BytesMut::with_capacity(96);
    let value = out.write_fmt(text).ok().and_then(|()| HeaderValue::from_maybe_shared(out.freeze()).ok());
    // Both writers above write visible ASCII alone, so there is always a value.
    value.unwrap_or_else(|| HeaderValue::from_static("unknown"))
}

macro_rules! forwarding_headers {
    ($($name:literal)*) => {
        /// Headers in which some proxy states the client, the scheme, the original URL or a client certificate. They are
        /// always taken off a request, and only our own go to the app; so is every name that begins with `x-forwarded`.
        /// `proxy` is among them because CGI programs read it as the address of their own proxy.
        pub const FORWARDING_HEADERS: &[&str] = &[$($name),*];

        fn is_listed(name: &str) -> bool {
            matches!(name, $($name)|*)
        }
    };
}

forwarding_headers! {
    "cf-connecting-ip" "cf-connecting-ipv6" "cf-pseudo-ipv4" "client-cert" "client-cert-chain" "client-ip"
    "fastly-client-ip" "fastly-ssl" "forwarded" "forwarded-for" "forwarded-proto" "front-end-https" "proxy"
    "proxy-client-ip" "ssl-client-cert" "ssl-client-verify" "true-client-ip" "wl-proxy-client-ip" "wl-proxy-ssl"
    "x-amzn-mtls-clientcert" "x-amzn-mtls-clientcert-leaf" "x-appengine-user-ip" "x-arr-clientcert" "x-arr-ssl"
    "x-azure-clientip" "x-azure-socketip" "x-client-cert" "x-client-ip" "x-cluster-client-ip" "x-envoy-external-address"
    "x-envoy-original-path" "x-forwarded" "x-forwarded-by" "x-forwarded-client-cert" "x-forwarded-for"
    "x-forwarded-host" "x-forwarded-port" "x-forwarded-prefix" "x-forwarded-proto" "x-forwarded-protocol"
    "x-forwarded-scheme" "x-forwarded-server" "x-forwarded-ssl" "x-forwarded-tls-client-cert" "x-forwarded-uri"
    "x-host" "x-http-host-override" "x-original-for" "x-original-forwarded-for" "x-original-host" "x-original-method"
    "x-original-proto" "x-original-uri" "x-original-url" "x-originating-ip" "x-proxyuser-ip" "x-real-ip" "x-real-port"
    "x-remote-addr" "x-remote-ip" "x-rewrite-url" "x-scheme" "x-ssl-client-cert" "x-ssl-client-verify" "x-ssl-cert"
    "x-url-scheme"
}

/// Whether a header of this (lower-case) name speaks for a proxy.
pub fn is_forwarding(name: &str) -> bool {
    // The first two letters rule out nearly everything a browser sends.
    let likely = match name.as_bytes() {
        [b'c', second, ..] => matches!(second, b'f' | b'l'),
        [b'p', b'r', b'o', ..] | [b's', b's', ..] => true,
        [first, ..] => matches!(first, b'x' | b'f' | b't' | b'w'),
        [] => false,
    };
    likely && (name.starts_with("x-forwarded") || is_listed(name))
}

/// Takes off every header that speaks for a proxy, and says how many names that were.
pub fn strip_forwarding(headers: &mut HeaderMap) -> usize {
    let found: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| is_forwarding(name.as_str())).cloned().collect();
    for name in &found {
        headers.remove(name);
    }
    found.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{ConnectionId, Peer, Transport};
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn trusted() -> PrefixSet {
        ["10.0.0.0/8", "2001:db8:aaaa::/48"].iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Header lines written `name: value`.
    fn headers(lines: &[&str]) -> HeaderMap {
        let pair = |line: &&str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.trim().as_bytes()).unwrap())
        };
        let mut out = HeaderMap::new();
        for (name, value) in lines.iter().map(pair) {
            out.append(name, value);
        }
        out
    }

    fn resolved(peer: &str, lines: &[&str]) -> (IpAddr, Source, Option<Junk>) {
        let found = resolve(ip(peer), &headers(lines), &trusted());
        (found.ip, found.source, found.junk)
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_ours() {
        let check = |peer: &str, lines: &[&str], expected: &str, source| {
            assert_eq!(resolved(peer, lines), (ip(expected), source, None), "{peer} {lines:?}");
        };
        check("192.0.2.1", &[], "192.0.2.1", Source::Peer);
        check("192.0.2.1", &["X-Forwarded-For: 198.51.100.1"], "192.0.2.1", Source::Peer);
        check("192.0.2.1", &["Forwarded: for=198.51.100.1"], "192.0.2.1", Source::Peer);
        check("10.0.0.1", &[], "10.0.0.1", Source::Peer);
        check("::ffff:10.0.0.1", &["X-Forwarded-For: ::ffff:198.51.100.1"], "198.51.100.1", Source::XForwardedFor);

        for lines in [
            &["X-Forwarded-For: 203.0.113.9, 198.51.100.1"][..],
            &["X-Forwarded-For: 203.0.113.9,198.51.100.1 ,\t10.0.0.2"],
            &["X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 10.1.1.1"],
            &["X-Forwarded-For: junk, 198.51.100.1"],
            &["X-Forwarded-For: 198.51.100.1", "Forwarded: for=198.51.100.1"],
            &["X-Forwarded-For: 198.51.100.1", "Forwarded: for=_x"],
        ] {
            check("10.0.0.1", lines, "198.51.100.1", Source::XForwardedFor);
        }
        check("10.0.0.1", &["X-Forwarded-For: 10.0.0.3, 10.0.0.2"], "10.0.0.3", Source::XForwardedFor);
        let v6 = "X-Forwarded-For: 2001:db8::7, 2001:db8:aaaa::1";
        check("10.0.0.1", &[v6], "2001:db8::7", Source::XForwardedFor);

        for lines in [
            &["Forwarded: for=203.0.113.9, for=198.51.100.1;proto=https"][..],
            &["Forwarded: for=198.51.100.1", "Forwarded: For=\"10.0.0.2:4711\" ; by=_x"],
            &["Forwarded: for=\"unclosed, for=198.51.100.1"],
            &["Forwarded: for=\"a\\\", for=198.51.100.1"],
            &["Forwarded: host=\"a,b\";for=198.51.100.1"],
        ] {
            check("10.0.0.1", lines, "198.51.100.1", Source::Forwarded);
        }
        check("10.0.0.1", &["Forwarded: for=\"[2001:db8::7]:4711\""], "2001:db8::7", Source::Forwarded);
    }

    #[test]
    fn junk_ends_the_walk_at_the_peer() {
        let check = |lines: &[&str], junk| {
            assert_eq!(resolved("10.0.0.1", lines), (ip("10.0.0.1"), Source::Peer, Some(junk)), "{lines:?}");
        };
        let words = "junk 198.51.100.1:80 [2001:db8::7] [2001:db8::7]:80 unknown _hidden fe80::1%eth0 \"198.51.100.1\" \
                     198.51.100.01 1 é";
        for junk in words.split(' ').chain(["", "198.51.100.1 x"]) {
            let line = format!("X-Forwarded-For: 203.0.113.9, {junk}, 10.0.0.2");
            check(&[&line], Junk::XForwardedFor);
            // The other header does not step in for a broken one.
            check(&[&line, "Forwarded: for=198.51.100.1"], Junk::XForwardedFor);
        }
        let elements = "for=unknown for=_hidden proto=https for=2001:db8::7 for=[2001:db8::7] for=\"2001:db8::7\" \
                        for=198.51.100.1:80 for=1;for=2 for=198.51.100.1;for=198.51.100.1 for for= \
                        for=\"198.51.100.1 for=\"198.51.100.1\"x for=\"\\198.51.100.1\" \
                        for=\"198.51.100.1:123456\" for=198.51.100.1;a=1;b=2;c=3;d=4";
        for junk in elements.split(' ').chain(["", "for =198.51.100.1"]) {
            let line = format!("Forwarded: for=203.0.113.9, {junk}, for=10.0.0.2");
            check(&[&line], Junk::Forwarded);
        }
    }

    #[test]
    fn two_headers_that_disagree_are_reported() {
        let both = ["X-Forwarded-For: 198.51.100.1", "Forwarded: for=203.0.113.9"];
        let expected = (ip("198.51.100.1"), Source::XForwardedFor, Some(Junk::Disagree));
        assert_eq!(resolved("10.0.0.1", &both), expected);
    }

    #[test]
    fn a_chain_has_a_limit() {
        let chain = |hops: usize| headers(&[&format!("X-Forwarded-For: {}", vec!["10.0.0.9"; hops].join(","))]);
        let check = |hops, expected| {
            assert_eq!(resolve(ip("10.0.0.1"), &chain(hops), &trusted()).junk, expected);
        };
        check(HOPS_MAX, None);
        check(HOPS_MAX + 1, Some(Junk::XForwardedFor));
    }

    #[test]
    fn a_balancer_that_named_nobody_is_believed_nothing() {
        let on = |proxied| {
            let socket = Peer::Ip("10.0.0.1:1".parse().unwrap());
            let connection = Connection::new(ConnectionId(1), socket, None, Transport::Plain, proxied);
            of(&connection, &headers(&["X-Forwarded-For: 198.51.100.1"]), &trusted()).ip
        };
        assert_eq!(on(Proxied::Unstated), ip("10.0.0.1"));
        assert_eq!(on(Proxied::No), ip("198.51.100.1"));
    }

    #[test]
    fn the_scheme_is_taken_from_trusted_proxies() {
        let check = |peer: &str, lines: &[&str], expected| {
            assert_eq!(stated_scheme(ip(peer), &headers(lines), &trusted()), expected, "{lines:?}");
        };
        check("192.0.2.1", &["X-Forwarded-Proto: https"], None);
        check("10.0.0.1", &[], None);
        check("10.0.0.1", &["X-Forwarded-Proto: https"], Some(Scheme::Https));
        check("10.0.0.1", &["X-Forwarded-Proto: HTTP"], Some(Scheme::Http));
        check("10.0.0.1", &["X-Forwarded-Proto: https,http"], Some(Scheme::Http));
        check("10.0.0.1", &["X-Forwarded-Proto: http, https"], Some(Scheme::Http));
        check("10.0.0.1", &["X-Forwarded-Proto: https", "X-Forwarded-Proto: https"], Some(Scheme::Https));
        check("10.0.0.1", &["X-Forwarded-Proto: wss"], None);
        check("10.0.0.1", &["Forwarded: for=192.0.2.1;proto=https, for=10.0.0.2;proto=http"], Some(Scheme::Https));
        check("10.0.0.1", &["Forwarded: for=1.2.3.4;proto=https, for=_x"], None);
    }

    #[test]
    fn the_host_is_for_information() {
        let check = |peer: &str, lines: &[&str], expected| {
            assert_eq!(stated_host(ip(peer), &headers(lines), &trusted()), expected, "{lines:?}");
        };
        check("192.0.2.1", &["X-Forwarded-Host: a"], None);
        check(
            "10.0.0.1",
            &["X-Forwarded-Host: evil.test", "X-Forwarded-Host: x, shop.test:443"],
            Some("shop.test:443"),
        );
        check("10.0.0.1", &["X-Forwarded-Host: a/b"], None);
    }

    #[test]
    fn a_proxy_nobody_listed_is_noticed() {
        let check = |peer: &str, lines: &[&str], expected| {
            assert_eq!(untrusted_forwarding(ip(peer), &headers(lines), &trusted()), expected, "{peer} {lines:?}");
        };
        check("127.0.0.1", &["X-Forwarded-For: 192.0.2.1"], UntrustedForwarding::Yes);
        check("::ffff:172.17.0.1", &["Forwarded: for=_x"], UntrustedForwarding::Yes);
        check("127.0.0.1", &["X-Real-IP: 192.0.2.1"], UntrustedForwarding::No);
        check("10.0.0.1", &["X-Forwarded-For: 192.0.2.1"], UntrustedForwarding::No);
        check("192.0.2.1", &["X-Forwarded-For: 192.0.2.1"], UntrustedForwarding::No);
    }

    #[test]
    fn our_element_is_quoted_where_it_must_be() {
        let check = |node, host, scheme, expected: &str| {
            assert_eq!(forwarded_value(&Element { node: Some(node), host, scheme: Some(scheme) }), expected);
        };
        let v6 = Node::Ip(ip("2001:db8::7"));
        check(Node::Ip(ip("192.0.2.1")), Some("shop.test"), Scheme::Https, "for=192.0.2.1;host=shop.test;proto=https");
        check(v6, Some("shop.test:8443"), Scheme::Http, "for=\"[2001:db8::7]\";host=\"shop.test:8443\";proto=http");
        check(Node::Obfuscated("_a1.-"), None, Scheme::Https, "for=_a1.-;proto=https");
        check(Node::Obfuscated("a b"), Some("a\"b"), Scheme::Https, "for=unknown;proto=https");
        check(Node::Unknown, Some("a\r\nb"), Scheme::Https, "for=unknown;proto=https");
        assert_eq!(address_value(ip("2001:db8::7")), "2001:db8::7");
    }

    #[test]
    fn headers_that_speak_for_a_proxy_are_taken_off() {
        for name in FORWARDING_HEADERS {
            assert!(is_forwarding(name), "{name}");
            assert_eq!(*name, name.to_ascii_lowercase());
        }
        let mut lines: Vec<String> = FORWARDING_HEADERS.iter().map(|name| format!("{name}: x")).collect();
        lines.extend(["X-FORWARDED-ANYTHING: x", "X-Forwarded-For: y"].map(String::from));
        let kept = [
            "Host: a",
            "Cookie: a=b",
            "X-Requested-With: x",
            "Content-Type: x",
            "Cache-Control: x",
            "TE: trailers",
            "Priority: u=1",
        ];
        lines.extend(kept.map(String::from));
        let mut headers = headers(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(strip_forwarding(&mut headers), FORWARDING_HEADERS.len() + 1);
        assert_eq!(headers.len(), kept.len());
    }

    fn any_ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            any::<u128>().prop_map(|bits| canonical(IpAddr::V6(Ipv6Addr::from_bits(bits)))),
        ]
    }

    proptest! {
        #[test]
        fn what_we_write_is_read_back(
            ip in proptest::option::of(any_ip()),
            hidden in "_[A-Za-z0-9._-]{1,20}",
            host in proptest::option::of("[a-z0-9.-]{1,20}(:[0-9]{1,5})?|\\[[0-9a-f:]{2,20}\\]"),
            https: bool,
        ) {
            let node = Some(ip.map_or(Node::Obfuscated(&hidden), Node::Ip));
            let scheme = Some(if https { Scheme::Https } else { Scheme::Http });
            let element = Element { node, host: host.as_deref(), scheme };
            let written = forwarded_value(&element);
            prop_assert_eq!(Element::parse(written.as_bytes()), Ok(element));
        }

        #[test]
        fn nothing_a_client_writes_moves_it_left_of_our_proxy(
            start in "[ -~]{0,40}", name in prop_oneof![Just("x-forwarded-for"), Just("forwarded")],
        ) {
            let ours = if name == "forwarded" { "for=198.51.100.1;host=\"a,b\"" } else { "198.51.100.1" };
            let mut map = HeaderMap::new();
            map.append(name, HeaderValue::from_str(&format!("{start},{ours}")).unwrap());
            prop_assert_eq!(resolve(ip("10.0.0.1"), &map, &trusted()).ip, ip("198.51.100.1"));
        }
    }
}
