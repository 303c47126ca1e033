//! What an answer says to caches, and taking it back: an answer with a cookie of ours is for one client alone.

use http::header::{CACHE_CONTROL, EXPIRES, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::facts::seen;
use crate::session::cookie::parse_cookie_date;

/// Takes back whatever the app said: no cache may keep the answer.
pub(super) fn forbid(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.remove(EXPIRES);
    forget_targeted(headers);
}

/// Says that the answer depends on the client's cookie, for caches that may keep it.
pub(super) fn vary_by_cookie(headers: &mut HeaderMap) {
    let named = seen::lines(headers, &VARY).flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let is_said = named.map(<[u8]>::trim_ascii).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"cookie"));
    if !is_said {
        headers.append(VARY, HeaderValue::from_static("Cookie"));
    }
}

/// Lets the browser alone keep an answer that is one client's: what caches between may have kept from it for its
/// `Set-Cookie` is not to be seen any more.
pub(super) fn keep_private(headers: &mut HeaderMap) {
    forget_targeted(headers);
    if keep(headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes)) == Keep::Never {
        return;
    }
    let mut left = Vec::from(*b"private");
    for line in headers.get_all(CACHE_CONTROL) {
        for directive in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let begins =
                |word: &[u8]| directive.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
            if !directive.is_empty() && !begins(b"public") && !begins(b"private") && !begins(b"s-maxage") {
                left.extend_from_slice(b", ");
                left.extend_from_slice(directive);
            }
        }
    }
    let line = HeaderValue::from_maybe_shared(bytes::Bytes::from(left));
    headers.insert(CACHE_CONTROL, line.unwrap_or_else(|_| HeaderValue::from_static("no-store")));
}

/// A cache that one of these is meant for obeys it before `Cache-Control`.
fn forget_targeted(headers: &mut HeaderMap) {
    let targeted: SmallVec<[HeaderName; 2]> =
        headers.keys().filter(|name| is_targeted(name.as_str())).cloned().collect();
    for name in targeted {
        headers.remove(name);
    }
}

/// Whether the app said that caches may keep an answer: `public`, `immutable`, a positive age or a future `Expires`, and
/// neither `no-store` nor `no-cache`; or the like to one kind of cache, which then does not look at the rest.
pub(super) fn is_cacheable(headers: &HeaderMap, now: Timestamp) -> bool {
    let targeted = headers.iter().filter(|(name, _)| is_targeted(name.as_str())).map(|(_, value)| value.as_bytes());
    if targeted.into_iter().any(|value| keep([value]) == Keep::Yes || is_later(value, now)) {
        return true;
    }
    match keep(headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes)) {
        Keep::Yes => true,
        Keep::Never => false,
        Keep::Unsaid => {
            headers.get(EXPIRES).and_then(|value| parse_cookie_date(value.as_bytes())).is_some_and(|until| until > now)
        }
    }
}

/// Whether a header tells one kind of cache what to keep: those of RFC 9213, and what was there before it.
fn is_targeted(name: &str) -> bool {
    name != "cache-control" && name.ends_with("cache-control")
        || name == "surrogate-control"
        || name == "x-accel-expires"
}

/// `X-Accel-Expires`: seconds, or a time behind an `@`.
fn is_later(value: &[u8], now: Timestamp) -> bool {
    let text = std::str::from_utf8(value).unwrap_or_default().trim_ascii();
    match text.strip_prefix('@') {
        Some(at) => at.parse().is_ok_and(|at: u64| at > now.as_secs()),
        None => text.parse().is_ok_and(|seconds: u64| seconds > 0),
    }
}

/// What lines of cache directives say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    Never,
    Unsaid,
}

fn keep<'h>(lines: impl IntoIterator<Item = &'h [u8]>) -> Keep {
    let mut said = Keep::Unsaid;
    for directive in lines.into_iter().flat_map(|line| line.split(|byte| *byte == b',')) {
        let directive = directive.trim_ascii();
        let is = |word: &[u8]| directive.eq_ignore_ascii_case(word);
        let begins = |word: &[u8]| directive.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        let positive =
            |word: &[u8]| begins(word) && directive.iter().skip(word.len()).any(|digit| (b'1'..=b'9').contains(digit));
        if is(b"no-store") || begins(b"no-cache") {
            return Keep::Never;
        }
        if is(b"public") || is(b"immutable") || positive(b"max-age=") || positive(b"s-maxage=") {
            said = Keep::Yes;
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_one_clients_is_kept_by_its_browser_alone() {
        let check = |said: &'static str, expected: &str| {
            let mut headers = HeaderMap::new();
            headers.append(CACHE_CONTROL, HeaderValue::from_static(said));
            headers.append("cdn-cache-control", HeaderValue::from_static("max-age=60"));
            keep_private(&mut headers);
            assert_eq!(headers.len(), 1);
            assert_eq!(headers.get(CACHE_CONTROL).unwrap(), expected, "{said}");
        };
        check("", "private");
        check("max-age=60", "private, max-age=60");
        check("Public, max-age=60, s-maxage=600,immutable", "private, max-age=60, immutable");
        check("no-store", "no-store");
        check("no-cache, max-age=5", "no-cache, max-age=5");
        check("private=\"x\"", "private");
    }

    #[test]
    fn only_what_the_app_calls_cacheable_is() {
        let check = |lines: &[(&'static str, &'static str)], expected: bool| {
            let headers: HeaderMap = lines
                .iter()
                .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(is_cacheable(&headers, Timestamp::from_secs(1_000_000_000)), expected, "{lines:?}");
        };
        check(&[], false);
        check(&[("cache-control", "public")], true);
        check(&[("cache-control", "Max-Age=60")], true);
        check(&[("cache-control", "s-maxage=10")], true);
        check(&[("cache-control", "immutable")], true);
        check(&[("cache-control", "max-age=0")], false);
        check(&[("cache-control", "max-age=00")], false);
        check(&[("cache-control", "private")], false);
        check(&[("cache-control", "public, no-store")], false);
        check(&[("cache-control", "no-cache=\"x\", max-age=5")], false);
        check(&[("expires", "Wed, 21 Oct 2065 07:28:00 GMT")], true);
        check(&[("expires", "Wed, 21 Oct 1995 07:28:00 GMT")], false);
        check(&[("expires", "0")], false);
        check(&[("cache-control", "no-cache"), ("expires", "Wed, 21 Oct 2065 07:28:00 GMT")], false);
        check(&[("cache-control", "no-store"), ("cdn-cache-control", "max-age=600")], true);
        check(&[("cloudflare-cdn-cache-control", "max-age=600")], true);
        check(&[("cdn-cache-control", "no-store"), ("cache-control", "public")], true);
        check(&[("cdn-cache-control", "max-age=0")], false);
        check(&[("surrogate-control", "content=\"ESI/1.0\", max-age=60")], true);
        check(&[("surrogate-control", "no-store")], false);
        check(&[("cache-control", "no-store"), ("x-accel-expires", "30")], true);
        check(&[("x-accel-expires", "0")], false);
        check(&[("x-accel-expires", "@1")], false);
        check(&[("x-accel-expires", "@1000000001")], true);
    }
}
