//! The app's `Set-Cookie` lines, read as a browser reads them (RFC 6265bis section 5.6), and hardened where it is asked.

use std::fmt;
use std::time::Duration;

use http::header::HeaderValue;
use memchr::memchr;

use super::{COOKIE_LIFETIME_MAX, CookiePair, SameSite, parse_cookie_date, trim_ows};
use crate::clock::Timestamp;

/// Octets of name and value together, above which a browser ignores the cookie.
pub const SET_COOKIE_PAIR_BYTES_MAX: usize = 4096;

/// Octets of an attribute's value, above which a browser ignores the attribute.
pub const SET_COOKIE_ATTRIBUTE_BYTES_MAX: usize = 1024;

/// Why a browser would ignore a `Set-Cookie` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetCookieError {
    /// It has control octets.
    #[error("the Set-Cookie line has control octets")]
    Control,
    /// Name and value are more than 4096 octets.
    #[error("name and value of the cookie are more than {SET_COOKIE_PAIR_BYTES_MAX} octets")]
    TooLong,
    /// It has neither a name nor a value.
    #[error("the Set-Cookie line has neither a name nor a value")]
    Empty,
}

/// When a cookie ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// With the browser's session.
    Session,
    /// At this time; one that is not ahead deletes the cookie.
    At(Timestamp),
}

/// A parsed `Set-Cookie` line, borrowed. `Debug` does not show the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SetCookie<'a> {
    /// Name and value; the name may be empty.
    pub pair: CookiePair<'a>,
    /// The `Domain` attribute without its leading dot; empty means the same as none.
    pub domain: Option<&'a [u8]>,
    /// The `Path` attribute if it begins with `/`; else the default path is meant.
    pub path: Option<&'a [u8]>,
    /// The `SameSite` attribute if its value is known.
    pub same_site: Option<SameSite>,
    /// Whether `Secure` is there.
    pub secure: bool,
    /// Whether `HttpOnly` is there.
    pub http_only: bool,
    /// Whether `Partitioned` is there.
    pub partitioned: bool,
    max_age: Option<MaxAge>,
    expires: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MaxAge {
    Past,
    Ahead(Duration),
}

impl<'a> SetCookie<'a> {
    /// Reads one line.
    ///
    /// # Errors
    /// When a browser would ignore the line whole.
    pub fn parse(line: &'a [u8]) -> Result<Self, SetCookieError> {
        if line.iter().any(|octet| *octet == 0x7f || (*octet < 0x20 && *octet != b'\t')) {
            return Err(SetCookieError::Control);
        }
        let (pair, attributes) = split_line(line);
        let (name, value) = match memchr(b'=', pair).and_then(|at| pair.split_at_checked(at)) {
            Some((name, value)) => (trim_ows(name), trim_ows(value.get(1..).unwrap_or_default())),
            None => (pair.get(..0).unwrap_or_default(), trim_ows(pair)),
        };
        if name.len() + value.len() > SET_COOKIE_PAIR_BYTES_MAX {
            return Err(SetCookieError::TooLong);
        }
        if name.is_empty() && value.is_empty() {
            return Err(SetCookieError::Empty);
        }
        let mut cookie = Self {
            pair: CookiePair { name, value },
            domain: None,
            path: None,
            same_site: None,
            secure: false,
            http_only: false,
            partitioned: false,
            max_age: None,
            expires: None,
        };
        for attribute in attributes.filter(|attribute| attribute.value.len() <= SET_COOKIE_ATTRIBUTE_BYTES_MAX) {
            cookie.take(attribute);
        }
        Ok(cookie)
    }

    /// When it ends: `Max-Age` wins over `Expires`, and neither reaches further than 400 days.
    pub fn expiry(&self, now: Timestamp) -> Expiry {
        let latest = now.after(COOKIE_LIFETIME_MAX);
        match (self.max_age, self.expires) {
            (Some(MaxAge::Past), _) => Expiry::At(Timestamp::EPOCH),
            (Some(MaxAge::Ahead(span)), _) => Expiry::At(now.after(span).min(latest)),
            (None, Some(time)) => Expiry::At(time.min(latest)),
            (None, None) => Expiry::Session,
        }
    }

    /// Whether it takes a cookie away instead of setting one.
    pub fn deletes(&self, now: Timestamp) -> bool {
        matches!(self.expiry(now), Expiry::At(time) if time <= now)
    }

    /// Takes one attribute in: the last one that is valid wins.
    fn take(&mut self, attribute: Attribute<'a>) {
        let value = attribute.value;
        if attribute.is("Expires") {
            self.expires = parse_cookie_date(value).or(self.expires);
        } else if attribute.is("Max-Age") {
            self.max_age = MaxAge::parse(value).or(self.max_age);
        } else if attribute.is("Domain") {
            self.domain = Some(value.strip_prefix(b".").unwrap_or(value));
        } else if attribute.is("Path") {
            self.path = Some(value).filter(|path| path.starts_with(b"/"));
        } else if attribute.is("Secure") {
            self.secure = true;
        } else if attribute.is("HttpOnly") {
            self.http_only = true;
        } else if attribute.is("SameSite") {
            self.same_site = SameSite::parse(value);
        } else if attribute.is("Partitioned") {
            self.partitioned = true;
        }
    }
}

impl fmt::Debug for SetCookie<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetCookie({})", self.pair.name.escape_ascii())
    }
}

impl MaxAge {
    fn parse(value: &[u8]) -> Option<Self> {
        let (digits, negative) = match value {
            [b'-', digits @ ..] => (digits, true),
            digits => (digits, false),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let seconds =
            digits.iter().fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
        Some(if negative || seconds == 0 { Self::Past } else { Self::Ahead(Duration::from_secs(seconds)) })
    }
}

/// One `; name=value` behind the pair, without the space around name and value.
#[derive(Clone, Copy)]
struct Attribute<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

impl Attribute<'_> {
    const fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The name-value pair of a line, and its attributes.
fn split_line(line: &[u8]) -> (&[u8], impl Iterator<Item = Attribute<'_>>) {
    let mut parts = line.split(|octet| *octet == b';');
    let pair = parts.next().unwrap_or_default();
    let attributes = parts.map(|part| {
        let (name, value) = part.split_at_checked(memchr(b'=', part).unwrap_or(part.len())).unwrap_or((part, &[]));
        Attribute { name: trim_ows(name), value: trim_ows(value.get(1..).unwrap_or_default()) }
    });
    (pair, attributes)
}

/// Whether an attribute is added to a cookie that lacks it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Add {
    /// The cookie is left as the app set it.
    #[default]
    Never,
    /// It is added where it is absent.
    IfAbsent,
}

/// What is added to the app's cookies that pass. Nothing by default: `SameSite` on a cookie that had none breaks posts
/// that come back from another site (SAML, 3-D Secure).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hardening {
    /// `Secure`.
    pub secure: Add,
    /// `HttpOnly`.
    pub http_only: Add,
    /// `SameSite` with this value.
    pub same_site: Option<SameSite>,
}

/// The line with the attributes that it lacks, or `None` if it lacks none of them. What is there stays as it is: no
/// attribute is ever written twice.
pub fn harden(line: &HeaderValue, hardening: Hardening) -> Option<HeaderValue> {
    let (_, attributes) = split_line(line.as_bytes());
    let (mut secure, mut http_only, mut same_site) =
        (hardening.secure == Add::IfAbsent, hardening.http_only == Add::IfAbsent, hardening.same_site);
    for attribute in attributes {
        if attribute.is("Secure") {
            secure = false;
        } else if attribute.is("HttpOnly") {
            http_only = false;
        } else if attribute.is("SameSite") {
            same_site = None;
        }
    }
    if !secure && !http_only && same_site.is_none() {
        return None;
    }
    let mut hardened = Vec::with_capacity(line.len() + "; Secure; HttpOnly; SameSite=Strict".len());
    hardened.extend_from_slice(line.as_bytes());
    if secure {
        hardened.extend_from_slice(b"; Secure");
    }
    if http_only {
        hardened.extend_from_slice(b"; HttpOnly");
    }
    if let Some(same_site) = same_site {
        hardened.extend_from_slice(b"; SameSite=");
        hardened.extend_from_slice(same_site.as_str().as_bytes());
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(hardened)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn parse(line: &str) -> SetCookie<'_> {
        SetCookie::parse(line.as_bytes()).unwrap()
    }

    #[track_caller]
    fn check_pair(line: &str, name: &str, value: &str) {
        let pair = parse(line).pair;
        assert_eq!((pair.name, pair.value), (name.as_bytes(), value.as_bytes()), "{line}");
    }

    #[test]
    fn name_and_value_are_split_at_the_first_equals() {
        check_pair("a=b", "a", "b");
        check_pair(" a \t=\t b c ; Path=/", "a", "b c");
        check_pair("a=b=c; x", "a", "b=c");
        check_pair("a=\"b;c\"", "a", "\"b");
        check_pair("a=", "a", "");
        check_pair("=b", "", "b");
        check_pair("b", "", "b");
        check_pair("a=%41,b", "a", "%41,b");
    }

    #[test]
    fn a_browser_ignores_these_lines() {
        let check = |line: &[u8], error| assert_eq!(SetCookie::parse(line), Err(error), "{}", line.escape_ascii());
        check(b"", SetCookieError::Empty);
        check(b" = ; Secure", SetCookieError::Empty);
        check(b"; a=b", SetCookieError::Empty);
        for octet in (0..32).chain([127]).filter(|octet| *octet != b'\t') {
            check(&[b'a', b'=', octet], SetCookieError::Control);
            check(&[b'a', b'=', b'b', b';', octet], SetCookieError::Control);
        }
        assert_eq!(
            SetCookie::parse(&[b"a=".as_slice(), &[b'x'; 4095]].concat()).map(|cookie| cookie.pair.value.len()),
            Ok(4095)
        );
        check(&[b"a=".as_slice(), &[b'x'; 4096]].concat(), SetCookieError::TooLong);
    }

    #[test]
    fn attributes_are_read_in_any_case_and_the_last_one_wins() {
        let cookie = parse("a=b; SECURE=no;httponly ; sameSITE=none; SameSite = STRICT; partitioned; nonsense=1");
        assert!(cookie.secure && cookie.http_only && cookie.partitioned);
        assert_eq!(cookie.same_site, Some(SameSite::Strict));
        assert_eq!(parse("a=b; SameSite=Lax; SameSite=odd").same_site, None);
        assert_eq!(parse("a=b; Domain=.Example.org").domain, Some(b"Example.org".as_slice()));
        assert_eq!(parse("a=b; Domain=x.org; Domain=").domain, Some(b"".as_slice()));
        assert_eq!(parse("a=b; Domain=..x").domain, Some(b".x".as_slice()));
        assert_eq!(parse("a=b; Path=/x; path=/y").path, Some(b"/y".as_slice()));
        assert_eq!(parse("a=b; Path=/x; Path=y").path, None);
        let plain = parse("a=b");
        assert!(
            !plain.secure && !plain.http_only && !plain.partitioned && plain.domain.is_none() && plain.path.is_none()
        );
    }

    #[test]
    fn an_attribute_of_more_than_1024_octets_is_ignored() {
        let path = format!("/{}", "x".repeat(1023));
        assert_eq!(parse(&format!("a=b; Path={path}")).path, Some(path.as_bytes()));
        assert_eq!(parse(&format!("a=b; Path=/short; Path={path}x")).path, Some(b"/short".as_slice()));
    }

    #[track_caller]
    fn check_expiry(attributes: &str, expected: Expiry) {
        assert_eq!(parse(&format!("a=b{attributes}")).expiry(NOW), expected, "{attributes}");
    }

    #[test]
    fn max_age_wins_over_expires_and_400_days_over_both() {
        let ahead = |seconds| Expiry::At(NOW.after(Duration::from_secs(seconds)));
        check_expiry("", Expiry::Session);
        check_expiry("; Max-Age=60", ahead(60));
        check_expiry("; Expires=Thu, 01 Jan 2026 00:00:00 GMT; Max-Age=60", ahead(60));
        check_expiry("; Max-Age=60; Expires=Thu, 01 Jan 2026 00:00:00 GMT", ahead(60));
        check_expiry("; Max-Age=60; Max-Age=70", ahead(70));
        check_expiry("; Max-Age=60; Max-Age=x", ahead(60));
        check_expiry("; Max-Age=60; Max-Age=", ahead(60));
        check_expiry("; Max-Age=34560001", ahead(34_560_000));
        check_expiry("; Max-Age=99999999999999999999999999", ahead(34_560_000));
        check_expiry("; Max-Age=0", Expiry::At(Timestamp::EPOCH));
        check_expiry("; Max-Age=-5; Expires=Fri, 31 Dec 9999 23:59:59 GMT", Expiry::At(Timestamp::EPOCH));
        check_expiry("; Max-Age=-", Expiry::Session);
        check_expiry("; Max-Age=+5", Expiry::Session);
        check_expiry("; Expires=Fri, 31 Dec 9999 23:59:59 GMT", ahead(34_560_000));
        check_expiry("; Expires=Thu, 01 Jan 2026 00:00:00 GMT", Expiry::At(Timestamp::from_secs(1_767_225_600)));
        check_expiry("; Expires=Session", Expiry::Session);
        check_expiry("; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Expires=never", Expiry::At(Timestamp::EPOCH));
    }

    #[test]
    fn a_past_end_deletes() {
        assert!(parse("a=; Max-Age=0").deletes(NOW));
        assert!(parse("a=; expires=Thu, 01-Jan-1970 00:00:01 GMT").deletes(NOW));
        assert!(!parse("a=; Max-Age=1").deletes(NOW));
        assert!(!parse("a=").deletes(NOW));
    }

    #[track_caller]
    fn check_hardened(line: &str, expected: Option<&str>) {
        let all = Hardening { secure: Add::IfAbsent, http_only: Add::IfAbsent, same_site: Some(SameSite::Lax) };
        let hardened = harden(&HeaderValue::from_str(line).unwrap(), all);
        assert_eq!(hardened.as_ref().map(|value| value.to_str().unwrap()), expected);
    }

    #[test]
    fn hardening_adds_what_is_absent_and_never_doubles() {
        check_hardened("a=b", Some("a=b; Secure; HttpOnly; SameSite=Lax"));
        check_hardened("a=b; path=/; secure", Some("a=b; path=/; secure; HttpOnly; SameSite=Lax"));
        check_hardened("a=b; SameSite=None; Secure", Some("a=b; SameSite=None; Secure; HttpOnly"));
        check_hardened("a=b;SECURE;HTTPONLY;SAMESITE=strict", None);
        check_hardened("secure=1; HttpOnly", Some("secure=1; HttpOnly; Secure; SameSite=Lax"));
        assert_eq!(harden(&HeaderValue::from_static("a=b"), Hardening::default()), None);
    }

    #[test]
    fn the_value_is_not_printed() {
        assert_eq!(format!("{:?}", parse("sid=hush; Path=/")), "SetCookie(sid)");
    }

    proptest! {
        #[test]
        fn never_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(cookie) = SetCookie::parse(&line) {
                cookie.expiry(NOW);
            }
        }

        #[test]
        fn a_hardened_line_reads_the_same_but_for_what_was_added(
            line in "[a-z]{1,3}=[a-z\";=, ]{0,8}(; ?(Secure|httponly|SameSite=(None|Lax|x)|Path=/[a-z]?|Max-Age=[0-9]{1,3})){0,4}"
        ) {
            let all = Hardening { secure: Add::IfAbsent, http_only: Add::IfAbsent, same_site: Some(SameSite::Strict) };
            let line = HeaderValue::from_str(&line).unwrap();
            let hardened = harden(&line, all).unwrap_or_else(|| line.clone());
            let (before, after) = (SetCookie::parse(line.as_bytes()).unwrap(), SetCookie::parse(hardened.as_bytes()).unwrap());
            prop_assert!(after.secure && after.http_only);
            prop_assert_eq!(after.pair, before.pair);
            prop_assert_eq!(after.path, before.path);
            prop_assert_eq!(after.expiry(NOW), before.expiry(NOW));
            prop_assert!(harden(&hardened, all).is_none());
        }
    }
}
