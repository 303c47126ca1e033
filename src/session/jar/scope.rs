//! Which requests a cookie goes to, and which hosts may set it: the matching rules of RFC 6265bis section 5.1.

use std::net::IpAddr;

use crate::session::cookie::SetCookie;

/// Whether a domain stands for one host alone: an address or a single label, which is what a top-level domain is.
pub(super) fn is_lone(domain: &[u8]) -> bool {
    !domain.contains(&b'.') || is_address(domain)
}

fn is_address(host: &[u8]) -> bool {
    std::str::from_utf8(host).is_ok_and(|host| {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        inner.parse::<IpAddr>().is_ok()
    })
}

/// Whether the host is the domain or a name below it (RFC 6265bis section 5.1.3).
pub(super) fn domain_matches(host: &[u8], domain: &[u8]) -> bool {
    let Some(below) = host.len().checked_sub(domain.len()) else { return false };
    let Some((front, back)) = host.split_at_checked(below) else { return false };
    back.eq_ignore_ascii_case(domain) && (front.is_empty() || (front.ends_with(b".") && !is_address(host)))
}

/// Whether the cookie's path covers the request's (RFC 6265bis section 5.1.4).
pub(super) fn path_matches(request: &[u8], cookie: &[u8]) -> bool {
    let request = if request.is_empty() { b"/" } else { request };
    match request.strip_prefix(cookie) {
        None => false,
        Some(rest) => rest.is_empty() || cookie.ends_with(b"/") || rest.starts_with(b"/"),
    }
}

/// The path of a cookie that names none: the request's up to its last `/`.
pub(super) fn default_path(request: &[u8]) -> &[u8] {
    let last = memchr::memrchr(b'/', request).filter(|_| request.starts_with(b"/"));
    last.and_then(|at| request.get(..at)).filter(|path| !path.is_empty()).unwrap_or(b"/")
}

/// Whether the cookie keeps what the prefix of its name promises. Browsers know the prefixes in any case.
pub(super) fn keeps_prefix_rules(set: &SetCookie<'_>) -> bool {
    let prefixed = |prefix: &str| {
        set.pair.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    let own_host = set.path == Some(b"/".as_slice()) && set.domain.is_none_or(<[u8]>::is_empty);
    (!prefixed("__Secure-") || set.secure)
        && (!prefixed("__Host-") || (set.secure && own_host))
        && (!prefixed("__Http-") || (set.secure && set.http_only))
        && (!prefixed("__Host-Http-") || set.http_only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_covers_itself_and_the_names_below_it() {
        let check = |host: &str, domain: &str, expected| {
            assert_eq!(domain_matches(host.as_bytes(), domain.as_bytes()), expected, "{host} {domain}");
        };
        check("example.org", "example.org", true);
        check("EXAMPLE.org", "example.ORG", true);
        check("a.b.example.org", "example.org", true);
        check("badexample.org", "example.org", false);
        check("org", "example.org", false);
        check("example.org", "a.example.org", false);
        check("1.2.3.4", "3.4", false);
        check("1.2.3.4", "1.2.3.4", true);
        check("[::1]", "[::1]", true);
    }

    #[test]
    fn addresses_and_single_labels_stand_for_one_host() {
        for lone in ["localhost", "com", "10.0.0.1", "[2001:db8::1]", "2001:db8::1"] {
            assert!(is_lone(lone.as_bytes()), "{lone}");
        }
        for name in ["example.org", "1.2.3.x", "1.2.3.4.example.org"] {
            assert!(!is_lone(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_path_covers_what_lies_below_it() {
        let check = |request: &str, cookie: &str, expected| {
            assert_eq!(path_matches(request.as_bytes(), cookie.as_bytes()), expected, "{request} {cookie}");
        };
        check("/", "/", true);
        check("", "/", true);
        check("/a", "/", true);
        check("/a", "/a", true);
        check("/a/b", "/a", true);
        check("/a/b", "/a/", true);
        check("/ab", "/a", false);
        check("/a", "/a/", false);
        check("/A", "/a", false);
        check("/", "/a", false);
    }

    #[test]
    fn the_default_path_is_the_folder_of_the_request() {
        let check = |request: &str, expected: &str| {
            assert_eq!(default_path(request.as_bytes()), expected.as_bytes(), "{request}");
        };
        check("", "/");
        check("*", "/");
        check("x/y", "/");
        check("/", "/");
        check("/login", "/");
        check("/accounts/login", "/accounts");
        check("/accounts/login/", "/accounts/login");
    }
}
