//! Cookies: reading `Cookie` and `Set-Cookie` as octets, writing ours.
//!
//! Nothing here decodes, unquotes or trims more than the space around a pair: where two parsers could read a pair in two
//! ways it is not passed on at all (RFC 6265bis; hardening rule 13).

mod date;
mod finding;
mod guard;
mod names;
mod read;
mod set;

use std::fmt;

pub use date::parse_cookie_date;
pub use finding::{CookieFinding, Findings};
pub use guard::{
    COOKIE_LIFETIME_MAX, GuardCookie, GuardCookieError, GuardCookieSettings, GuardSameSite, GuardTransport, Partition,
    Persist, expire_line,
};
pub use names::{
    CARRIED_COOKIES_MAX, COOKIE_BYTES_MAX, COOKIE_PAIRS_MAX, CookieNames, CookiePattern, CookieRole, PatternError,
    ShieldName,
};
pub use read::{
    BoundPair, CarriedSeen, GUARD_VALUES_MAX, GuardSeen, PairIndex, Scan, ShieldedPair, UpstreamCookie, scan,
};
pub use set::{
    Add, Expiry, Hardening, SET_COOKIE_ATTRIBUTE_BYTES_MAX, SET_COOKIE_PAIR_BYTES_MAX, SetCookie, SetCookieError,
    harden,
};

/// A cookie as it stands in a `Cookie` line. Its value is a secret: `Debug` shows the name alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CookiePair<'a> {
    /// What stands before the first `=`.
    pub name: &'a [u8],
    /// All that follows it.
    pub value: &'a [u8],
}

impl fmt::Debug for CookiePair<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CookiePair({})", self.name.escape_ascii())
    }
}

/// What the value of an app's cookie is, and so what a new value means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CookieKind {
    /// The state itself, sealed or signed: a new value comes with every answer and means nothing (Rails, Laravel).
    State,
    /// The name of a state kept by the app: a new value may mean a login (Django, PHP, Express).
    #[default]
    Id,
}

/// The `SameSite` attribute, the loosest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SameSite {
    /// Sent with every request.
    None,
    /// Sent from another site only when a person follows a link.
    Lax,
    /// Never sent from another site.
    Strict,
}

impl SameSite {
    /// As it is written in a `Set-Cookie` line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Lax => "Lax",
            Self::Strict => "Strict",
        }
    }

    /// Reads the value of the attribute in any case.
    fn parse(text: &[u8]) -> Option<Self> {
        [Self::None, Self::Lax, Self::Strict]
            .into_iter()
            .find(|site| text.eq_ignore_ascii_case(site.as_str().as_bytes()))
    }
}

/// Whether every octet may stand in a cookie's name (`token`, RFC 9110 section 5.6.2), and there is one.
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte))
}

/// Whether the octet may stand in a `token`.
const fn is_token_byte(byte: u8) -> bool {
    byte < 128 && (TOKEN >> byte) & 1 == 1
}

/// The octets of a `token`, one bit each: a shift and a mask instead of a chain of comparisons.
const TOKEN: u128 = {
    let mut set = 0u128;
    let mut bytes: &[u8] = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    while let [byte, rest @ ..] = bytes {
        set |= 1 << *byte;
        bytes = rest;
    }
    set
};

/// Takes space and tab off both ends.
const fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_rfc_9110_says() {
        let by_rule = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
        for byte in 0..=255 {
            assert_eq!(is_token_byte(byte), by_rule(byte), "octet {byte}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn only_space_and_tab_are_trimmed() {
        assert_eq!(trim_ows(b"\t a b \t"), b"a b");
        assert_eq!(trim_ows(b" \t"), b"");
        assert_eq!(trim_ows(b"\xa0a\x0b"), b"\xa0a\x0b");
    }

    #[test]
    fn a_pair_does_not_print_its_value() {
        let pair = CookiePair { name: b"sessionid", value: b"secret" };
        assert_eq!(format!("{pair:?}"), "CookiePair(sessionid)");
    }
}
