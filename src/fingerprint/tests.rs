//! Components of clients: read, compared, stored.

use super::*;
use crate::connection::print::{Http2Print, Print, RttGap, SynClass, TlsPrint};
use crate::facts::geo::{Country, NetworkKind, Position};
use crate::facts::order::{First, HeaderOrder};
use crate::facts::user_agent::{DeviceClass, Os};
use crate::net::Asn;
use proptest::prelude::*;

pub(crate) const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";

/// Headers from `name: value` lines.
pub(crate) fn headers(lines: &[(&str, &str)]) -> http::HeaderMap {
    let pair = |(name, value): &(&str, &str)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    lines.iter().map(pair).collect()
}

fn observe(lines: &[(&str, &str)], ip: &str) -> Fingerprint {
    let agents = UserAgentCache::new([1; 16]);
    Fingerprint::observe(
        &SeenHeaders::of(&headers(lines)),
        Wire::default(),
        ip.parse().unwrap(),
        Place::default(),
        &agents,
    )
}

fn wire(core: u64) -> Wire {
    let print = Print {
        tls: Some(TlsPrint { core, soft: 3, ja4: None }),
        http2: Some(Http2Print { key: 7, pseudo: None }),
        syn: Some(SynClass(2)),
        rtt_gap: None,
    };
    Wire::of(&print, HeaderOrder::default())
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
    assert!(size_of::<Fingerprint>() <= 88, "{}", size_of::<Fingerprint>());
    let mut bytes = Vec::new();
    Fingerprint::default().encode(&mut bytes);
    assert_eq!((bytes.len(), ENCODED_MAX), (39, 55));
}

#[test]
fn reads_the_headers_of_a_browser() {
    let found = observe(&chromium(), "203.0.113.77");
    assert_eq!(found.agent.to_string(), "chrome 150 windows");
    assert_eq!(found.language.to_string(), "de");
    assert_eq!(
        found.hints,
        Hints { platform: Os::Windows, mobile: MobileHint::No, major: 150, exact: Exact::default() }
    );
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
    let check = |raw: &str, expected: &str| assert_eq!(Language::parse(raw.as_bytes()).to_string(), expected, "{raw}");
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
fn exact_hints_are_read_or_absent() {
    let check = |name: &'static str, value: &'static str| observe(&[(name, value)], "192.0.2.1").hints.exact;
    let platform = |value| check("sec-ch-ua-platform-version", value).platform_version;
    assert_eq!(platform(r#""15.3.0""#), 15 << 8 | 3);
    assert_eq!(platform(r#""19""#), 19 << 8);
    assert_eq!(platform(r#""999.999""#), 0xffff);
    assert_eq!([platform(r#""""#), platform("x"), platform("")], [0; 3]);
    let list = |value| check("sec-ch-ua-full-version-list", value).patch;
    assert_eq!(
        list(r#""Not(A;Brand";v="8.0.0.0", "Chromium";v="156.0.8078.79", "Google Chrome";v="156.0.8078.79""#),
        80
    );
    assert_eq!(list(r#""Chromium";v="156.0.8078.0""#), 1);
    assert_eq!([list(r#""Chromium";v="1.x""#), list("x"), list(r#""Chromium";v=""#)], [0; 3]);
    let machine = |lines: &[(&str, &str)]| observe(lines, "192.0.2.1").hints.exact.machine;
    let (arm, intel) = (("sec-ch-ua-arch", r#""arm""#), ("sec-ch-ua-arch", r#""x86""#));
    let bits = ("sec-ch-ua-bitness", r#""64""#);
    assert_ne!(machine(&[arm, bits]), machine(&[intel, bits]));
    assert_ne!(machine(&[("sec-ch-ua-model", r#""Pixel 9""#)]), machine(&[("sec-ch-ua-model", r#""Pixel 8""#)]));
    assert_eq!(machine(&[]), 0);
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
    let asked = [("sec-ch-ua-platform-version", r#""15.0.0""#), ("sec-ch-ua-platform-version", r#""19.0.0""#)];
    let [one, other] = asked.map(|hint| observe(&[chromium(), vec![hint]].concat(), "203.0.113.77"));
    assert!(!one.same_device(&other) && one.same_device(&page) && page.same_device(&other));
    let speaks = |core| Fingerprint { wire: wire(core), ..page };
    assert!(!speaks(1).same_device(&speaks(2)) && speaks(1).same_device(&page));
    assert_eq!(page.after(&speaks(1)), speaks(1));
    assert!(!page.same_network(&observe(&chromium(), "203.0.112.77")));
    assert!(!observe(&[], "2001:db8::1").same_network(&observe(&[], "2001:db8:0:1::1")));
    assert!(!Fingerprint::default().same_network(&Fingerprint::default()));
}

#[test]
fn the_newer_fingerprint_keeps_what_it_does_not_know() {
    let home = Place { asn: Some(Asn(3320)), country: Country::parse("DE"), kind: NetworkKind::Vpn, position: None };
    let older = Fingerprint { place: home, ..Fingerprint::default() };
    assert_eq!(Fingerprint::default().after(&older).place, Place { kind: NetworkKind::Unknown, ..home });
}

fn any_wire() -> impl Strategy<Value = Wire> {
    (any::<(u32, u16, u8)>(), 0..16u8, 0..3u8, 0..3u8).prop_map(|((tls, http2, syn), soft, site, encoding)| Wire {
        tls,
        http2,
        soft,
        syn,
        order: HeaderOrder {
            site_before_dest: First::from_number(site),
            encoding_before_language: First::from_number(encoding),
        },
    })
}

fn any_place() -> impl Strategy<Value = Place> {
    let position = (-90.0..90.0f64, -180.0..180.0f64, any::<u16>());
    let position = proptest::option::of(position);
    (proptest::option::of(1..=u32::MAX), proptest::option::of("[A-Z]{2}"), 0..9u8, position).prop_map(
        |(asn, country, kind, position)| Place {
            asn: asn.map(Asn),
            country: country.and_then(|code| Country::parse(&code)),
            kind: NetworkKind::from_number(kind),
            position: position.and_then(|(north, east, radius)| Position::new(north, east, Some(radius))),
        },
    )
}

pub(crate) fn any_fingerprint() -> impl Strategy<Value = Fingerprint> {
    let agent = (any::<u32>(), any::<u16>(), any::<u16>(), 0..9u8, 0..5u8);
    let hints = (0..9u8, 0..3u8, any::<u16>(), any::<(u16, u16, u16)>());
    let prefix = (0..3u8, any::<u64>(), proptest::option::of(1..=u8::MAX));
    (agent, any::<(u16, u16)>(), hints, any_wire(), prefix, any_place()).prop_map(
        |(agent, language, hints, wire, prefix, place)| {
            let (hash, family, major, os, device) = agent;
            let (os, device) = (Os::from_number(os), DeviceClass::from_number(device));
            let agent = UserAgent { hash, family: Family::from_number(family), major, os, device };
            let language = Language { primary: language.0, list: language.1 };
            let mobile = [MobileHint::Absent, MobileHint::No, MobileHint::Yes][usize::from(hints.1)];
            let (platform_version, patch, machine) = hints.3;
            let exact = Exact { platform_version, patch, machine };
            let hints = Hints { platform: Os::from_number(hints.0), mobile, major: hints.2, exact };
            let rtt_gap = prefix.2.map(RttGap);
            let [a, b, c, ..] = prefix.1.to_be_bytes();
            let prefix = [Prefix::Unknown, Prefix::V4([a, b, c]), Prefix::V6(prefix.1)][usize::from(prefix.0)];
            Fingerprint { agent, language, hints, wire, prefix, place, rtt_gap }
        },
    )
}

proptest! {
    #[test]
    fn what_was_stored_comes_back(fingerprint in any_fingerprint()) {
        let mut bytes = Vec::new();
        fingerprint.encode(&mut bytes);
        prop_assert!(bytes.len() <= ENCODED_MAX);
        prop_assert_eq!(Fingerprint::decode(&bytes), Ok(fingerprint));
        bytes.push(0);
        prop_assert_eq!(Fingerprint::decode(&bytes), Err(DecodeError));
        bytes.truncate(bytes.len() - 2);
        prop_assert_eq!(Fingerprint::decode(&bytes), Err(DecodeError));
    }

    #[test]
    fn decoding_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let found = Fingerprint::decode(&bytes);
        prop_assert!(found.is_err() || bytes.len() <= ENCODED_MAX);
        // A network of IPv4 without a position.
        bytes.resize(42, 0);
        (bytes[0], bytes[31]) = (VERSION, 1);
        prop_assert!(Fingerprint::decode(&bytes).is_ok());
    }

    #[test]
    fn observing_never_panics(raw in proptest::collection::vec(proptest::collection::vec(0x20..=0xffu8, 0..300), 8)) {
        let names = [
            "user-agent",
            "accept-language",
            "sec-ch-ua",
            "sec-ch-ua-mobile",
            "sec-ch-ua-platform",
            "sec-ch-ua-platform-version",
            "sec-ch-ua-full-version-list",
            "sec-ch-ua-model",
        ];
        let names = names.map(http::HeaderName::from_static);
        let pairs = names.into_iter().zip(&raw);
        let headers = pairs.filter_map(|(name, raw)| Some((name, http::HeaderValue::from_bytes(raw).ok()?))).collect();
        let agents = UserAgentCache::new([1; 16]);
        let seen = SeenHeaders::of(&headers);
        let found = Fingerprint::observe(&seen, wire(1), IpAddr::from([0; 16]), Place::default(), &agents);
        prop_assert!(found.same_device(&found) && found.same_network(&found));
    }
}
