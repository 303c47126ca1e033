//! Trailers: passed on as trailers or not at all, never merged into the headers (RFC 9110 section 6.5).

use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

use crate::facts::client_ip::is_forwarding;
use crate::facts::headers::is_alias;

/// What nobody may say after the fact: framing, routing, credentials, cookies, conditions, caching, and what speaks for a
/// proxy.
fn is_forbidden(name: &HeaderName) -> bool {
    let text = name.as_str();
    let named = matches!(
        text,
        "age"
            | "authorization"
            | "cache-control"
            | "connection"
            | "cookie"
            | "date"
            | "expect"
            | "expires"
            | "host"
            | "keep-alive"
            | "location"
            | "max-forwards"
            | "origin"
            | "pragma"
            | "range"
            | "referer"
            | "retry-after"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "user-agent"
            | "vary"
            | "via"
            | "warning"
            | "www-authenticate"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "proxy-status"
            | "http2-settings"
            | "authentication-info"
    );
    let family = ["accept", "access-control-", "content-", "if-", "portcullis-", "sec-", "x-forwarded"];
    named || family.iter().any(|beginning| text.starts_with(beginning)) || is_forwarding(text) || is_alias(name)
}

/// Drops the forbidden ones.
pub(super) fn clean(trailers: &mut HeaderMap) {
    let forbidden: SmallVec<[HeaderName; 4]> = trailers.keys().filter(|name| is_forbidden(name)).cloned().collect();
    for name in &forbidden {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_trailers_pass() {
        let mut trailers = HeaderMap::new();
        for name in [
            "grpc-status",
            "server-timing",
            "x-checksum",
            "cookie",
            "set-cookie",
            "content-length",
            "host",
            "x-forwarded-for",
            "portcullis-subject",
            "x_user",
            "authorization",
            "digest",
            "x-real-ip",
        ] {
            trailers.insert(HeaderName::from_static(name), "1".parse().unwrap());
        }
        clean(&mut trailers);
        let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["digest", "grpc-status", "server-timing", "x-checksum"]);
    }
}
