//! The one host a request is for (RFC 9112 section 3.2, RFC 9113 section 8.3.1).

use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Method, Uri, Version, request};

use crate::connection::{Connection, Transport};
use crate::proxy::forward::Refusal;
use crate::proxy::{Fault, Problem};

/// Longest host with its port.
const HOST_BYTES_MAX: usize = 260;

/// Checks method and target, makes the target origin-form without touching an octet of path and query, and leaves exactly
/// one valid `Host`.
pub(super) fn settle(head: &mut request::Parts) -> Result<(), Refusal> {
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Refusal::new(Problem::MethodNotAllowed, Fault::Method));
    }
    let bad_host = || Refusal::new(Problem::BadRequest, Fault::Host);
    match (single_host(&head.headers).map_err(|()| bad_host())?, head.uri.authority()) {
        (Some(host), None) => check(host.as_bytes()).ok_or_else(bad_host)?,
        (None, None) => return Err(bad_host()),
        (host, Some(authority)) => {
            let agrees = host.is_none_or(|host| host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()));
            // HTTP/1.1 wants a Host even where the target has one.
            if !agrees || (host.is_none() && head.version == Version::HTTP_11) {
                return Err(bad_host());
            }
            check(authority.as_str().as_bytes()).ok_or_else(bad_host)?;
            if host.is_none() {
                let value = value_of(authority).ok_or_else(bad_host)?;
                head.headers.insert(HOST, value);
            }
        }
    }
    let bad_target = || Refusal::new(Problem::BadRequest, Fault::RequestLine);
    let target = head.uri.path_and_query().ok_or_else(bad_target)?;
    match target.as_str() {
        "*" if head.method == Method::OPTIONS => {}
        "*" => return Err(Refusal::new(Problem::BadRequest, Fault::Method)),
        text if text.starts_with('/') => {}
        _ => return Err(bad_target()),
    }
    if head.uri.authority().is_some() {
        head.uri = Uri::from(target.clone());
    }
    Ok(())
}

fn single_host(headers: &HeaderMap) -> Result<Option<&HeaderValue>, ()> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() { Err(()) } else { Ok(host) }
}

fn value_of(authority: &Authority) -> Option<HeaderValue> {
    HeaderValue::from_str(authority.as_str()).ok()
}

/// Whether it is a host: a name or an address of which there is only one reading, and perhaps a port.
fn check(host: &[u8]) -> Option<()> {
    let name = without_port(host)?;
    if host.len() > HOST_BYTES_MAX || name.is_empty() {
        return None;
    }
    if let Some(v6) = name.strip_prefix(b"[") {
        let v6 = str::from_utf8(v6.strip_suffix(b"]")?).ok()?;
        return v6.parse::<std::net::Ipv6Addr>().is_ok().then_some(());
    }
    name.iter().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(octet)).then_some(())
}

/// The host before the port; `None` if what follows a colon is no port.
fn without_port(host: &[u8]) -> Option<&[u8]> {
    let bracket = memchr::memchr(b']', host).unwrap_or(0);
    let (name, rest) = host.split_at_checked(bracket)?;
    match memchr::memchr(b':', rest) {
        None => Some(host),
        Some(colon) => {
            let port = str::from_utf8(rest.get(colon + 1..)?).ok()?;
            let number = !port.is_empty() && port.len() <= 5 && port.bytes().all(|octet| octet.is_ascii_digit());
            (number && port.parse::<u16>().is_ok()).then(|| host.get(..name.len() + colon))?
        }
    }
}

/// Whether the host is the one that the TLS handshake asked for. A client without SNI may ask for any.
pub(super) fn is_misdirected(connection: &Connection, headers: &HeaderMap) -> bool {
    let Transport::Tls { sni: Some(sni), .. } = connection.transport() else { return false };
    let host = headers.get(HOST).and_then(|host| without_port(host.as_bytes())).unwrap_or_default();
    let host = host.strip_suffix(b".").unwrap_or(host);
    !host.eq_ignore_ascii_case(sni.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["a", "a.b-c_d.example:8080", "127.0.0.1", "[::1]", "[2001:db8::1]:443", "a:65535", "a."] {
            assert!(check(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "", ":80", "a:", "a:x", "a:65536", "a:123456", "a,b", "a b", "u@a", "a/b", "a:1:2", "::1", "[::1", "[x]",
            "[::1]x", "a%20", "a\\b", "a?b", "[::1]:",
        ] {
            assert!(check(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(check("a".repeat(300).as_bytes()).is_none());
    }
}
