//! The `Cookie` lines of a request: no cookie that only the guard may send ever passes, however it is spelled, and what
//! is nobody's business passes octet for octet and in order. Each line of the input is one `Cookie` line.
#![no_main]

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portcullis::session::cookie::{
    CookieFinding, CookieKind, CookieNames, CookiePair, CookiePattern, GuardSeen, ShieldName, UpstreamCookie, scan,
};
use portcullis_fuzz::headers_named;

const GUARD: &str = "__Host-portcullis";
const SHIELD: [&str; 3] = ["sessionid", "wordpress_logged_in_*", "laravel_session"];
const BIND: &str = "csrftoken";
const JAR: [CookiePair<'static>; 2] =
    [CookiePair { name: b"sessionid", value: b"s3" }, CookiePair { name: b"messages", value: b"" }];
const JAR_LINE: &[u8] = b"sessionid=s3; messages=";

fuzz_target!(|input: &[u8]| {
    let (names, sent) = (names(), headers_named("cookie", input));
    let found = scan(&sent, &names);
    drop(format!("{found:?}"));

    let passed = line(&sent, found.upstream(std::iter::empty()));
    assert_eq!(line(&sent, found.upstream(JAR.into_iter())), with_jar(&passed), "the jar goes behind what passed");
    nothing_of_ours_is_in(&passed, &names);

    let came = pairs(&sent);
    let kept: Vec<&[u8]> = split(&passed).collect();
    let mut came_on = came.iter();
    assert!(kept.iter().all(|pair| came_on.any(|other| other == pair)), "what passed came, and in this order");
    let full = [CookieFinding::TooManyPairs, CookieFinding::TooManyBytes];
    if !full.iter().any(|finding| found.findings().contains(*finding)) {
        let plain =
            |all: &[&[u8]]| -> Vec<Vec<u8>> { all.iter().filter(|pair| is_plain(pair)).map(|p| p.to_vec()).collect() };
        assert_eq!(plain(&kept), plain(&came), "a plain foreign pair passes");
    }

    let mut quarantined = found.clone();
    quarantined.withhold_bound();
    let passed = line(&sent, quarantined.upstream(std::iter::empty()));
    assert!(split(&passed).all(|pair| !pair.starts_with(b"csrftoken=")), "no bound cookie passes in quarantine");
    assert!(found.bound().all(|bound| bound.pair.name == BIND.as_bytes()));
});

fn names() -> CookieNames {
    let pattern = |text| CookiePattern::parse(text).unwrap();
    let shield = SHIELD.map(|text| ShieldName { pattern: pattern(text), kind: CookieKind::Id });
    CookieNames::try_new(GUARD, shield, [pattern(BIND)]).unwrap()
}

/// The one line that an app gets.
fn line(sent: &HeaderMap, upstream: UpstreamCookie) -> Vec<u8> {
    let mut headers = sent.clone();
    upstream.put(&mut headers);
    let lines: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    assert!(lines.len() <= 1, "the app gets one line");
    lines.concat()
}

fn with_jar(passed: &[u8]) -> Vec<u8> {
    let kept: Vec<&[u8]> = split(passed).collect();
    [kept.join(b"; ".as_slice()), JAR_LINE.to_vec()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(b"; ".as_slice())
}

/// Read again, and read as the laxest parsers do.
fn nothing_of_ours_is_in(passed: &[u8], names: &CookieNames) {
    let again = headers_named("cookie", passed);
    let again = scan(&again, names);
    assert_eq!(again.guard(), GuardSeen::Missing, "our cookie stays with us");
    assert_eq!(again.shielded().count(), 0, "a shielded cookie of the client passed");
    let odd = again.findings().iter().find(|finding| *finding != CookieFinding::DuplicateBound);
    assert_eq!(odd, None, "what passed is nothing that would be left out");
    for pair in passed.split(|octet| matches!(octet, b';' | b',' | b' ' | b'\t')) {
        let Some(end) = pair.iter().position(|octet| *octet == b'=') else { continue };
        let name = percent_decoded(&pair[..end]).to_ascii_lowercase();
        let known = [GUARD.to_lowercase().as_bytes(), b"sessionid", b"laravel_session"].contains(&name.as_slice());
        assert!(!known && !name.starts_with(b"wordpress_logged_in_"), "a lax parser finds {}", name.escape_ascii());
    }
}

fn percent_decoded(name: &[u8]) -> Vec<u8> {
    let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::new();
    let mut rest = name;
    while let [octet, tail @ ..] = rest {
        let escape = match (octet, tail) {
            (b'%', [high, low, tail @ ..]) => digit(high).zip(digit(low)).map(|(high, low)| (high << 4 | low, tail)),
            _ => None,
        };
        let (octet, tail) = escape.unwrap_or((*octet, tail));
        out.push(octet);
        rest = tail;
    }
    out
}

fn pairs(headers: &HeaderMap) -> Vec<&[u8]> {
    headers.get_all(COOKIE).iter().flat_map(|line| split(line.as_bytes())).collect()
}

fn split(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|octet| *octet == b';').map(trim).filter(|pair| !pair.is_empty())
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// A pair that no parser has two opinions about, and whose name is none of those above.
fn is_plain(pair: &[u8]) -> bool {
    let Some(end) = pair.iter().position(|octet| *octet == b'=') else { return false };
    let (name, value) = (&pair[..end], &pair[end + 1..]);
    let short = (1..=8).contains(&name.len()) && name.iter().all(u8::is_ascii_lowercase);
    short && value.iter().all(|octet| octet.is_ascii_alphanumeric() || b"-_.~=%/".contains(octet))
}
