//! What of a client is compared: small, versioned components.
//!
//! Browsers leave out many headers on some of their requests (client hints on worker scripts, `Sec-Fetch-*` on WebSockets),
//! so a hint that is absent says nothing. `User-Agent` and `Accept-Language` are in every request of a browser: their
//! absence is a value like any other, and losing them is a change. Addresses are kept only as prefixes.

pub mod drift;

use std::fmt;
use std::net::IpAddr;

use crate::facts::geo::{Country, NetworkKind, Place};
use crate::facts::seen::SeenHeaders;
use crate::facts::user_agent::{DeviceClass, Family, Os, UserAgent, UserAgentCache, digits, stable_hash};
use crate::net::{Asn, canonical};

/// Bytes of an `Accept-Language` that are read; browsers send up to 100.
pub const ACCEPT_LANGUAGE_BYTES_MAX: usize = 256;

/// The languages a client asks for: its first one, and a hash of the whole list.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Language {
    /// Up to three letters of five bits each, the first in the highest; 0 for `*` and the like.
    primary: u16,
    /// 0 if the header was absent. Sixteen bits are enough for what is worth a few points.
    list: u16,
}

impl Language {
    /// Reads an `Accept-Language` header. Total.
    pub fn parse(raw: &[u8]) -> Self {
        let raw = raw.get(..ACCEPT_LANGUAGE_BYTES_MAX).unwrap_or(raw).trim_ascii();
        let letters = raw.iter().take_while(|byte| byte.is_ascii_alphabetic()).take(3);
        let (primary, _) = letters.fold((0, 10), |(packed, shift): (u16, u32), letter| {
            (packed | u16::from(letter & 0x1f).wrapping_shl(shift), shift.saturating_sub(5))
        });
        let [.., high, low] = stable_hash(raw).to_be_bytes();
        Self { primary, list: u16::from_be_bytes([high, low]).max(1) }
    }

    /// Its first word in small letters, at most three; empty for `*` and for none.
    pub fn letters(self, into: &mut [u8; 3]) -> &str {
        let letters = [10, 5, 0].into_iter().map(|shift| (self.primary >> shift) & 0x1f).filter(|letter| *letter != 0);
        let mut count = 0;
        for (place, letter) in into.iter_mut().zip(letters) {
            let [_, letter] = letter.to_be_bytes();
            *place = letter | 0x60;
            count += 1;
        }
        into.get(..count).and_then(|letters| std::str::from_utf8(letters).ok()).unwrap_or_default()
    }

    /// Whether no `Accept-Language` was sent.
    pub const fn is_absent(self) -> bool {
        self.list == 0
    }
}

/// The first language: `de`, `*` for none in particular, `absent`.
impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_absent() {
            return f.write_str("absent");
        }
        if self.primary == 0 {
            return f.write_str("*");
        }
        for shift in [10, 5, 0] {
            let [_, letter] = ((self.primary >> shift) & 0x1f).to_be_bytes();
            if letter != 0 {
                write!(f, "{}", char::from(letter | 0x60))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Language({self} {:04x})", self.list)
    }
}

/// Whether a client hint says that the device is held in a hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MobileHint {
    /// It was not sent.
    #[default]
    Absent = 0,
    /// `?0`.
    No = 1,
    /// `?1`.
    Yes = 2,
}

/// The client hints that Chromium sends unasked. Each may be absent, and is then no evidence of anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    /// `Sec-CH-UA-Platform`; [`Os::Unknown`] if absent.
    pub platform: Os,
    /// `Sec-CH-UA-Mobile`.
    pub mobile: MobileHint,
    /// The version of Chromium in `Sec-CH-UA`; 0 if absent.
    pub major: u16,
}

impl Hints {
    fn observe(seen: &SeenHeaders<'_>) -> Self {
        let mobile = match seen.sec_ch_ua_mobile.first() {
            Some(b"?0") => MobileHint::No,
            Some(b"?1") => MobileHint::Yes,
            _ => MobileHint::Absent,
        };
        Self {
            platform: seen.sec_ch_ua_platform.first().map_or(Os::Unknown, platform),
            mobile,
            major: seen.sec_ch_ua.first().map_or(0, chromium_major),
        }
    }

    /// These hints, with what is absent taken from `other`.
    #[must_use]
    fn or(self, other: Self) -> Self {
        Self {
            platform: if self.platform == Os::Unknown { other.platform } else { self.platform },
            mobile: if self.mobile == MobileHint::Absent { other.mobile } else { self.mobile },
            major: if self.major == 0 { other.major } else { self.major },
        }
    }
}

fn platform(raw: &[u8]) -> Os {
    match raw {
        b"\"Windows\"" => Os::Windows,
        b"\"macOS\"" => Os::MacOs,
        b"\"Linux\"" => Os::Linux,
        b"\"Chrome OS\"" | b"\"Chromium OS\"" => Os::ChromeOs,
        b"\"Android\"" => Os::Android,
        b"\"iOS\"" => Os::Ios,
        b"" | b"\"\"" | b"\"Unknown\"" => Os::Unknown,
        _ => Os::Other,
    }
}

/// The version beside `"Chromium"` in a brand list. The other brands are the maker's name and noise that varies by design.
fn chromium_major(raw: &[u8]) -> u16 {
    let raw = raw.get(..512).unwrap_or(raw);
    let mark = b"\"Chromium\";v=\"";
    let start = memchr::memmem::find(raw, mark).map(|at| at.saturating_add(mark.len()));
    start.and_then(|start| raw.get(start..)).map_or(0, digits)
}

/// The network a client is in: the prefix within which it moves freely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// The address is not known (a unix socket).
    #[default]
    Unknown,
    /// The first 24 bits of an IPv4 address.
    V4([u8; 3]),
    /// The first 64 bits of an IPv6 address; the first 48 of them are the site.
    V6(u64),
}

impl Prefix {
    /// The prefix of an address.
    pub fn of(ip: IpAddr) -> Self {
        match canonical(ip) {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
        }
    }

    /// Its kind (0 unknown, 4, 6) and its bits from the left, for the stored forms.
    pub(crate) const fn to_parts(self) -> (u8, u64) {
        match self {
            Self::Unknown => (0, 0),
            Self::V4([a, b, c]) => (4, u64::from_be_bytes([a, b, c, 0, 0, 0, 0, 0])),
            Self::V6(high) => (6, high),
        }
    }

    /// The prefix of these parts. A kind that nobody knows is unknown.
    pub(crate) const fn from_parts(kind: u8, bits: u64) -> Self {
        let [a, b, c, ..] = bits.to_be_bytes();
        match kind {
            4 => Self::V4([a, b, c]),
            6 => Self::V6(bits),
            _ => Self::Unknown,
        }
    }
}

/// `203.0.113.0/24`, `2001:db8:1:2::/64`.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6(high) => write!(f, "{}/64", std::net::Ipv6Addr::from_bits(u128::from(*high) << 64)),
        }
    }
}

/// Everything compared of one client at one time. Small enough to keep eight of them in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// The `User-Agent`.
    pub agent: UserAgent,
    /// The `Accept-Language`.
    pub language: Language,
    /// Client hints.
    pub hints: Hints,
    /// The prefix of the address.
    pub prefix: Prefix,
    /// Where that is.
    pub place: Place,
}

impl Fingerprint {
    /// Reads a request. No allocation once the user agent is in the cache.
    pub fn observe(seen: &SeenHeaders<'_>, client_ip: IpAddr, place: Place, agents: &UserAgentCache) -> Self {
        Self {
            agent: seen.user_agent.first().map(|raw| agents.parse(raw)).unwrap_or_default(),
            language: seen.accept_language.first().map(Language::parse).unwrap_or_default(),
            hints: Hints::observe(seen),
            prefix: Prefix::of(client_ip),
            place,
        }
    }

    /// Whether nothing that can be compared of the two devices differs, byte for byte.
    pub fn same_device(&self, other: &Self) -> bool {
        self.agent.hash == other.agent.hash
            && self.language == other.language
            && self.hints.or(other.hints) == other.hints.or(self.hints)
    }

    /// Whether both are in the same prefix; its place is then taken to be the same whatever a database says today.
    pub fn same_network(&self, other: &Self) -> bool {
        self.prefix == other.prefix && self.prefix != Prefix::Unknown
    }

    /// The newer of two fingerprints of one client, with what it leaves out taken from the older.
    #[must_use]
    pub fn after(self, older: &Self) -> Self {
        let kind = self.place.kind;
        // A player says less of the device than the browser that it plays for.
        let agent = if self.agent.family == Family::AppleMedia { older.agent } else { self.agent };
        Self { agent, hints: self.hints.or(older.hints), place: Place { kind, ..self.place.or(older.place) }, ..self }
    }
}

// The stored form, big-endian. A new version gets a new number and a decoder beside this one.
//
//     0  1   version (1)
//     1  8   hash of the user agent, 0 absent
//     9  2   family
//    11  2   major version
//    13  1   system (high 4 bits), device class (low 4 bits)
//    14  2   first language, three letters of 5 bits
//    16  2   hash of the language list, 0 absent
//    18  1   hint: platform (high 4 bits), mobile (low 4 bits)
//    19  2   hint: Chromium version
//    21  1   kind of prefix: 0 unknown, 4, 6 (high 4 bits), kind of network (low 4 bits)
//    22  8   prefix, filled up with zeros
//    30  4   autonomous system, 0 unknown
//    34  2   country, 0 unknown

/// The version this program writes.
pub const VERSION: u8 = 1;

/// Bytes of a stored fingerprint without its version.
pub(crate) const BODY_LEN: usize = 35;

/// Bytes of a stored fingerprint.
pub const ENCODED_LEN: usize = BODY_LEN + 1;

/// Stored bytes are not a fingerprint that this program can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a fingerprint of version {VERSION}")]
pub struct DecodeError;

impl Fingerprint {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.encode_body(out);
    }

    /// Reads the stored form, which must fill `bytes`.
    ///
    /// # Errors
    /// When the version or the length is another one. Unknown families, systems and kinds are no error.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (version, mut body) = bytes.split_first().ok_or(DecodeError)?;
        let found = (*version == VERSION).then(|| Self::decode_body(&mut body)).flatten();
        found.filter(|_| body.is_empty()).ok_or(DecodeError)
    }

    pub(crate) fn encode_body(&self, out: &mut Vec<u8>) {
        let Self { agent, language, hints, prefix, place } = self;
        let (tag, prefix) = prefix.to_parts();
        out.extend_from_slice(&agent.hash.to_be_bytes());
        out.extend_from_slice(&agent.family.number().to_be_bytes());
        out.extend_from_slice(&agent.major.to_be_bytes());
        out.push((agent.os as u8) << 4 | agent.device as u8);
        out.extend_from_slice(&language.primary.to_be_bytes());
        out.extend_from_slice(&language.list.to_be_bytes());
        out.push((hints.platform as u8) << 4 | hints.mobile as u8);
        out.extend_from_slice(&hints.major.to_be_bytes());
        out.push(tag << 4 | place.kind as u8);
        out.extend_from_slice(&prefix.to_be_bytes());
        out.extend_from_slice(&place.asn.map_or(0, |asn| asn.0).to_be_bytes());
        out.extend_from_slice(&place.country.map_or([0; 2], Country::bytes));
    }

    pub(crate) fn decode_body(bytes: &mut &[u8]) -> Option<Self> {
        let hash = u64::from_be_bytes(take(bytes)?);
        let family = Family::from_number(u16::from_be_bytes(take(bytes)?));
        let major = u16::from_be_bytes(take(bytes)?);
        let [system] = take(bytes)?;
        let agent = UserAgent {
            family,
            major,
            os: Os::from_number(system >> 4),
            device: DeviceClass::from_number(system & 0xf),
            hash,
        };
        let language = Language { primary: u16::from_be_bytes(take(bytes)?), list: u16::from_be_bytes(take(bytes)?) };
        let [hint] = take(bytes)?;
        let mobile = match hint & 0xf {
            1 => MobileHint::No,
            2 => MobileHint::Yes,
            _ => MobileHint::Absent,
        };
        let hints = Hints { platform: Os::from_number(hint >> 4), mobile, major: u16::from_be_bytes(take(bytes)?) };
        let [tag] = take(bytes)?;
        let prefix = u64::from_be_bytes(take(bytes)?);
        let prefix = Prefix::from_parts(tag >> 4, prefix);
        let asn = u32::from_be_bytes(take(bytes)?);
        let country: [u8; 2] = take(bytes)?;
        let place = Place {
            asn: (asn != 0).then_some(Asn(asn)),
            country: std::str::from_utf8(&country).ok().and_then(Country::parse),
            kind: NetworkKind::from_number(tag & 0xf),
            position: None,
        };
        Some(Self { agent, language, hints, prefix, place })
    }
}

/// Takes the next `N` bytes off the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";

    /// Headers from `name: value` lines.
    pub(crate) fn headers(lines: &[(&str, &str)]) -> http::HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        lines.iter().map(pair).collect()
    }

    fn observe(lines: &[(&str, &str)], ip: &str) -> Fingerprint {
        let agents = UserAgentCache::new([1; 16]);
        Fingerprint::observe(&SeenHeaders::of(&headers(lines)), ip.parse().unwrap(), Place::default(), &agents)
    }

    fn chromium() -> Vec<(&'static str, &'static str)> {
        vec![
            ("user-agent", CHROME),
            ("accept-language", "de-DE,de;q=0.9,en;q=0.8"),
            ("sec-ch-ua", r#""Not:A-Brand";v="8", "Chromium";v="150", "Google Chrome";v="150""#),
            ("sec-ch-ua-platform", r#""Windows""#),
            ("sec-ch-ua-mobile", "?0"),
        ]
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Fingerprint>() <= 64, "{}", size_of::<Fingerprint>());
        let mut bytes = Vec::new();
        Fingerprint::default().encode(&mut bytes);
        assert_eq!(bytes.len(), ENCODED_LEN);
    }

    #[test]
    fn reads_the_headers_of_a_browser() {
        let found = observe(&chromium(), "203.0.113.77");
        assert_eq!(found.agent.to_string(), "chrome 150 windows");
        assert_eq!(found.language.to_string(), "de");
        assert_eq!(found.hints, Hints { platform: Os::Windows, mobile: MobileHint::No, major: 150 });
        assert_eq!(found.prefix.to_string(), "203.0.113.0/24");
    }

    #[test]
    fn absent_headers_are_absent() {
        let found = observe(&[], "2001:db8:1:2:3:4:5:6");
        assert_eq!((found.agent, found.hints), (UserAgent::default(), Hints::default()));
        assert_eq!(found.language.to_string(), "absent");
        assert_eq!(found.prefix.to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn languages_by_their_first_word() {
        let check =
            |raw: &str, expected: &str| assert_eq!(Language::parse(raw.as_bytes()).to_string(), expected, "{raw}");
        check("de-DE,de;q=0.9", "de");
        check(" EN ", "en");
        check("fil-PH", "fil");
        check("klingon", "kli");
        check("*", "*");
        check("", "*");
        check("\u{ff}", "*");
    }

    #[test]
    fn hints_of_any_shape_are_read_or_absent() {
        let check = |name: &'static str, value: &'static str| observe(&[(name, value)], "192.0.2.1").hints;
        assert_eq!(check("sec-ch-ua", r#""Chromium";v="99999999""#).major, u16::MAX);
        assert_eq!(check("sec-ch-ua", r#""Chromium";v="#).major, 0);
        assert_eq!(check("sec-ch-ua", r#""Not A;Brand";v="8""#).major, 0);
        assert_eq!(check("sec-ch-ua-platform", r#""Fuchsia""#).platform, Os::Other);
        assert_eq!(check("sec-ch-ua-mobile", "yes").mobile, MobileHint::Absent);
    }

    #[test]
    fn a_worker_request_without_hints_is_the_same_device() {
        let page = observe(&chromium(), "203.0.113.77");
        let worker = observe(&chromium()[..2], "203.0.113.78");
        assert!(page.same_device(&worker) && worker.same_device(&page));
        assert!(page.same_network(&worker));
        assert_eq!(worker.after(&page), page);
    }

    #[test]
    fn other_devices_and_networks_are_told_apart() {
        let page = observe(&chromium(), "203.0.113.77");
        for (at, other) in [(0, "curl/8.5.0"), (1, "fr"), (3, r#""Linux""#), (4, "?1")] {
            let mut lines = chromium();
            lines[at].1 = other;
            assert!(!page.same_device(&observe(&lines, "203.0.113.77")), "{other}");
        }
        assert!(!page.same_network(&observe(&chromium(), "203.0.112.77")));
        assert!(!observe(&[], "2001:db8::1").same_network(&observe(&[], "2001:db8:0:1::1")));
        assert!(!Fingerprint::default().same_network(&Fingerprint::default()));
    }

    #[test]
    fn the_newer_fingerprint_keeps_what_it_does_not_know() {
        let home =
            Place { asn: Some(Asn(3320)), country: Country::parse("DE"), kind: NetworkKind::Vpn, position: None };
        let older = Fingerprint { place: home, ..Fingerprint::default() };
        assert_eq!(Fingerprint::default().after(&older).place, Place { kind: NetworkKind::Unknown, ..home });
    }

    pub(crate) fn any_fingerprint() -> impl Strategy<Value = Fingerprint> {
        let agent = (any::<u64>(), any::<u16>(), any::<u16>(), 0..9u8, 0..5u8);
        let hints = (0..9u8, 0..3u8, any::<u16>());
        let prefix = (0..3u8, any::<u64>());
        let place = (proptest::option::of(1..=u32::MAX), proptest::option::of("[A-Z]{2}"), 0..9u8);
        (agent, any::<(u16, u16)>(), hints, prefix, place).prop_map(|(agent, language, hints, prefix, place)| {
            let (hash, family, major, os, device) = agent;
            let (os, device) = (Os::from_number(os), DeviceClass::from_number(device));
            let agent = UserAgent { hash, family: Family::from_number(family), major, os, device };
            let language = Language { primary: language.0, list: language.1 };
            let mobile = [MobileHint::Absent, MobileHint::No, MobileHint::Yes][usize::from(hints.1)];
            let hints = Hints { platform: Os::from_number(hints.0), mobile, major: hints.2 };
            let [a, b, c, ..] = prefix.1.to_be_bytes();
            let prefix = [Prefix::Unknown, Prefix::V4([a, b, c]), Prefix::V6(prefix.1)][usize::from(prefix.0)];
            let place = Place {
                asn: place.0.map(Asn),
                country: place.1.and_then(|code| Country::parse(&code)),
                kind: NetworkKind::from_number(place.2),
                position: None,
            };
            Fingerprint { agent, language, hints, prefix, place }
        })
    }

    proptest! {
        #[test]
        fn what_was_stored_comes_back(fingerprint in any_fingerprint()) {
            let mut bytes = Vec::new();
            fingerprint.encode(&mut bytes);
            prop_assert_eq!(Fingerprint::decode(&bytes), Ok(fingerprint));
            bytes.push(0);
            prop_assert_eq!(Fingerprint::decode(&bytes), Err(DecodeError));
            bytes.truncate(ENCODED_LEN - 1);
            prop_assert_eq!(Fingerprint::decode(&bytes), Err(DecodeError));
        }

        #[test]
        fn decoding_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let found = Fingerprint::decode(&bytes);
            prop_assert!(found.is_err() || bytes.len() == ENCODED_LEN);
            bytes.resize(ENCODED_LEN, 0);
            bytes[0] = VERSION;
            prop_assert!(Fingerprint::decode(&bytes).is_ok());
        }

        #[test]
        fn observing_never_panics(raw in proptest::collection::vec(proptest::collection::vec(0x20..=0xffu8, 0..300), 5)) {
            let names = ["user-agent", "accept-language", "sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform"];
            let names = names.map(http::HeaderName::from_static);
            let pairs = names.into_iter().zip(&raw);
            let headers = pairs.filter_map(|(name, raw)| Some((name, http::HeaderValue::from_bytes(raw).ok()?))).collect();
            let agents = UserAgentCache::new([1; 16]);
            let found = Fingerprint::observe(&SeenHeaders::of(&headers), IpAddr::from([0; 16]), Place::default(), &agents);
            prop_assert!(found.same_device(&found) && found.same_network(&found));
        }
    }
}
