//! Reading the `Cookie` lines of a request: one pass over octets, split on `;` only, no allocation in ordinary cases.
//!
//! Every pair gets a fate here. What two parsers could read in two ways is left out and reported; all that passes goes
//! to the app octet for octet, in order, in one line.

use std::fmt;

use bytes::Bytes;
use http::header::{COOKIE, HeaderMap, HeaderValue};
use memchr::{memchr, memchr3};
use smallvec::SmallVec;

use super::names::{CARRIED_COOKIES_MAX, CookieRole, Known};
use super::{CookieFinding, CookieKind, CookieNames, CookiePair, Findings, is_token_byte, trim_ows};
use crate::facts::seen;

/// Values of our own cookie that are kept when it comes more than once.
pub const GUARD_VALUES_MAX: usize = 4;

/// Pairs that are held without an allocation; a browser with more costs one.
const PAIRS_INLINE: usize = 16;

/// Reads all `Cookie` lines of a request.
pub fn scan<'a>(headers: &'a HeaderMap, names: &CookieNames) -> Scan<'a> {
    let mut scan = Scan::default();
    for line in seen::lines(headers, &COOKIE) {
        scan.read_line(line.as_bytes(), names);
    }
    scan
}

/// Our cookie, as the request shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum GuardSeen<'s, 'a> {
    /// It did not come.
    Missing,
    /// It came once, with this value.
    Once(&'a [u8]),
    /// It came more than once: these are its first values, and none of them is to be believed for its place.
    Several(&'s [&'a [u8]]),
}

impl fmt::Debug for GuardSeen<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("Missing"),
            Self::Once(_) => f.write_str("Once(..)"),
            Self::Several(values) => write!(f, "Several({})", values.len()),
        }
    }
}

/// The cookies in which a client carries the state of its session, as the request shows them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct CarriedSeen<'a> {
    parts: [Option<&'a [u8]>; CARRIED_COOKIES_MAX as usize],
    /// One of them came more than once, and none is to be believed for its place.
    is_doubtful: bool,
}

impl<'a> CarriedSeen<'a> {
    /// Their values in order, up to the first that is missing. Nothing if one of them came twice.
    pub fn values(&self) -> impl Iterator<Item = &'a [u8]> {
        let parts: &[_] = if self.is_doubtful { &[] } else { &self.parts };
        parts.iter().map_while(|part| *part)
    }

    /// Whether the one that is counted so, from 0, came.
    pub fn has(&self, at: u8) -> bool {
        self.parts.get(usize::from(at)).is_some_and(Option::is_some)
    }

    const fn note(&mut self, at: u8, value: &'a [u8]) {
        if let Some((_, rest)) = self.parts.split_at_mut_checked(at as usize)
            && let Some(part) = rest.first_mut()
        {
            self.is_doubtful |= part.is_some();
            *part = Some(value);
        }
    }
}

/// Its values are secrets.
impl fmt::Debug for CarriedSeen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CarriedSeen({})", self.parts.iter().flatten().count())
    }
}

/// A shielded cookie that the client sent. It never passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShieldedPair<'a> {
    /// Name and value.
    pub pair: CookiePair<'a>,
    /// What its value is.
    pub kind: CookieKind,
}

/// A bound cookie that the client sent. It passes unless it is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundPair<'a> {
    /// Name and value.
    pub pair: CookiePair<'a>,
    /// Its place, for [`Scan::withhold`].
    pub index: PairIndex,
}

/// The place of a pair in a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairIndex(usize);

/// What is to become of the request's `Cookie` lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamCookie {
    /// Leave them as they came: nothing is added and nothing removed.
    AsReceived,
    /// This one line instead of all of them. It is marked sensitive.
    Replace(HeaderValue),
    /// No `Cookie` line at all.
    Remove,
}

impl UpstreamCookie {
    /// Does it to the headers.
    pub fn put(self, headers: &mut HeaderMap) {
        match self {
            Self::AsReceived => {}
            Self::Replace(line) => {
                headers.insert(COOKIE, line);
            }
            Self::Remove => {
                headers.remove(COOKIE);
            }
        }
    }
}

/// The cookies of one request, each with its fate.
#[derive(Clone, Default)]
pub struct Scan<'a> {
    pairs: SmallVec<[Pair<'a>; PAIRS_INLINE]>,
    guard: SmallVec<[&'a [u8]; 2]>,
    carried: CarriedSeen<'a>,
    findings: Findings,
    lines: usize,
    bytes: usize,
    removal: Removal,
    quote: Quote,
}

/// A pair that may pass or that the engine asks for; what is stripped at once is not kept.
#[derive(Clone, Copy)]
struct Pair<'a> {
    bytes: &'a [u8],
    name_len: u32,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Guard,
    Carried(u8),
    Shielded(CookieKind),
    Bound,
    Withheld,
    Strip(CookieFinding),
}

/// Whether something is to be left out of what came.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Removal {
    #[default]
    Nothing,
    Something,
}

/// Whether a quote is open that an earlier pair began.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Quote {
    #[default]
    Closed,
    Open,
}

impl<'a> Scan<'a> {
    /// Our cookie.
    pub fn guard(&self) -> GuardSeen<'_, 'a> {
        match self.guard.as_slice() {
            [] => GuardSeen::Missing,
            [value] => GuardSeen::Once(value),
            values => GuardSeen::Several(values),
        }
    }

    /// The cookies in which the client carries the state of its session.
    pub const fn carried(&self) -> CarriedSeen<'a> {
        self.carried
    }

    /// What there is to report.
    pub const fn findings(&self) -> Findings {
        self.findings
    }

    /// Octets of all pairs that came, without the space around them.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The shielded cookies that the client sent, for adoption and for expiring its copies.
    pub fn shielded(&self) -> impl Iterator<Item = ShieldedPair<'a>> {
        self.pairs.iter().filter_map(|pair| match pair.fate {
            Fate::Shielded(kind) => Some(ShieldedPair { pair: pair.split(), kind }),
            _ => None,
        })
    }

    /// The bound cookies that the client sent.
    pub fn bound(&self) -> impl Iterator<Item = BoundPair<'a>> {
        self.pairs
            .iter()
            .enumerate()
            .filter(|(_, pair)| pair.fate == Fate::Bound)
            .map(|(index, pair)| BoundPair { pair: pair.split(), index: PairIndex(index) })
    }

    /// Keeps a bound cookie from the app.
    pub fn withhold(&mut self, index: PairIndex) {
        if let Some(pair) = self.pairs.get_mut(index.0).filter(|pair| pair.fate == Fate::Bound) {
            pair.fate = Fate::Withheld;
            self.removal = Removal::Something;
        }
    }

    /// Keeps all bound cookies from the app: what quarantine does.
    pub fn withhold_bound(&mut self) {
        for pair in self.pairs.iter_mut().filter(|pair| pair.fate == Fate::Bound) {
            pair.fate = Fate::Withheld;
            self.removal = Removal::Something;
        }
    }

    /// The line for the app: the passing pairs octet for octet and in order, then the jar's. One allocation.
    pub fn upstream<'j, J>(&self, jar: J) -> UpstreamCookie
    where
        J: Iterator<Item = CookiePair<'j>> + Clone,
    {
        let foreign: usize = self.passing().map(|pair| pair.len() + 2).sum();
        let added: usize = jar.clone().map(|pair| pair.name.len() + pair.value.len() + 3).sum();
        if added == 0 && self.removal == Removal::Nothing && self.lines <= 1 {
            return UpstreamCookie::AsReceived;
        }
        // Every pair was counted with a separator, and the first needs none.
        let Some(length) = (foreign + added).checked_sub(2) else { return UpstreamCookie::Remove };
        let mut line = Vec::with_capacity(length);
        for pair in self.passing() {
            separate(&mut line);
            line.extend_from_slice(pair);
        }
        for pair in jar {
            separate(&mut line);
            line.extend_from_slice(pair.name);
            line.push(b'=');
            line.extend_from_slice(pair.value);
        }
        // Request octets were checked when they came and jar octets when they were taken in, so this does not fail; if it
        // did, no cookies are better than odd ones.
        match HeaderValue::from_maybe_shared(Bytes::from(line)) {
            Ok(mut value) => {
                value.set_sensitive(true);
                UpstreamCookie::Replace(value)
            }
            Err(_) => UpstreamCookie::Remove,
        }
    }

    fn passing(&self) -> impl Iterator<Item = &'a [u8]> {
        self.pairs.iter().filter(|pair| matches!(pair.fate, Fate::Pass | Fate::Bound)).map(|pair| pair.bytes)
    }

    fn read_line(&mut self, mut line: &'a [u8], names: &CookieNames) {
        self.lines += 1;
        while !line.is_empty() {
            let end = memchr(b';', line).unwrap_or(line.len());
            let (piece, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
            line = rest.get(1..).unwrap_or_default();
            let piece = trim_ows(piece);
            // Nothing between two semicolons is no pair, and means the same to every parser.
            if !piece.is_empty() {
                self.read_pair(piece, names);
            }
        }
    }

    fn read_pair(&mut self, bytes: &'a [u8], names: &CookieNames) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        let pair = Pair::judge(bytes, names);
        self.follow_quote(pair);
        match pair.fate {
            // Ours is found however many pairs stand before it: a flood of cookies shall not log anybody out.
            Fate::Guard => {
                self.removal = Removal::Something;
                if self.guard.len() < GUARD_VALUES_MAX {
                    self.guard.push(pair.split().value);
                }
                if self.guard.len() > 1 {
                    self.findings.add(CookieFinding::Duplicate);
                }
            }
            // Neither do they take the room of the app's.
            Fate::Carried(at) => {
                self.removal = Removal::Something;
                self.bytes = self.bytes.saturating_sub(bytes.len());
                if self.carried.has(at) {
                    self.findings.add(CookieFinding::Duplicate);
                }
                self.carried.note(at, pair.split().value);
            }
            Fate::Strip(finding) => self.strip(finding),
            _ if self.pairs.len() >= names.pairs_max => self.strip(CookieFinding::TooManyPairs),
            _ if self.bytes > names.bytes_max => self.strip(CookieFinding::TooManyBytes),
            Fate::Shielded(_) => {
                self.strip(CookieFinding::ShieldedSent);
                self.pairs.push(pair);
            }
            Fate::Bound => {
                if self.bound().any(|seen| seen.pair.name == pair.split().name) {
                    self.findings.add(CookieFinding::DuplicateBound);
                }
                self.pairs.push(pair);
            }
            Fate::Pass | Fate::Withheld => self.pairs.push(pair),
        }
    }

    const fn strip(&mut self, finding: CookieFinding) {
        self.findings.add(finding);
        self.removal = Removal::Something;
    }

    /// Tells a sandwich from a quote that was merely left open. The pair that closes it may pass: without the one that
    /// opened it, it is a plain pair.
    fn follow_quote(&mut self, pair: Pair<'a>) {
        if self.quote == Quote::Open && memchr(b'"', pair.bytes).is_some() {
            self.findings.add(CookieFinding::Sandwich);
            self.quote = Quote::Closed;
        }
        if pair.fate == Fate::Strip(CookieFinding::OpenQuote) {
            self.quote = Quote::Open;
        }
    }
}

/// Names the parts by number: the values are secrets.
impl fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("guard", &self.guard())
            .field("pairs", &self.pairs.len())
            .field("lines", &self.lines)
            .field("findings", &self.findings)
            .finish_non_exhaustive()
    }
}

impl<'a> Pair<'a> {
    fn judge(bytes: &'a [u8], names: &CookieNames) -> Self {
        let mut pair = Self { bytes, name_len: 0, fate: Fate::Strip(CookieFinding::Nameless) };
        let Some(equals) = memchr(b'=', bytes).filter(|at| *at > 0) else { return pair };
        // A name too long for the field is longer than any line we read; such a pair stays nameless and is left out.
        let Ok(name_len) = u32::try_from(equals) else { return pair };
        pair.name_len = name_len;
        let CookiePair { name, value } = pair.split();
        pair.fate = match names.find(name) {
            Known::Exactly(CookieRole::Guard) => Fate::Guard,
            Known::Exactly(CookieRole::Carried(at)) => Fate::Carried(at),
            Known::Exactly(CookieRole::Shield(kind)) => Fate::Shielded(kind),
            Known::Exactly(CookieRole::Bind) => judge_value(value, names).map_or(Fate::Bound, Fate::Strip),
            Known::Variant(CookieRole::Guard | CookieRole::Carried(_)) => Fate::Strip(CookieFinding::LookAlike),
            Known::Variant(CookieRole::Shield(_) | CookieRole::Bind) => Fate::Strip(CookieFinding::ShieldLookAlike),
            Known::Broken => Fate::Strip(CookieFinding::NameSyntax),
            Known::Other if is_legacy(name) => Fate::Strip(CookieFinding::LegacyAttribute),
            Known::Other => judge_value(value, names).map_or(Fate::Pass, Fate::Strip),
        };
        pair
    }

    fn split(&self) -> CookiePair<'a> {
        let (name, value) = usize::try_from(self.name_len)
            .ok()
            .and_then(|length| self.bytes.split_at_checked(length))
            .unwrap_or((self.bytes, &[]));
        CookiePair { name, value: value.get(1..).unwrap_or_default() }
    }
}

/// What makes a value mean different things to different parsers, if anything.
fn judge_value(value: &[u8], names: &CookieNames) -> Option<CookieFinding> {
    if opens_quote(value) {
        return Some(CookieFinding::OpenQuote);
    }
    let mut rest = value;
    while let Some(at) = memchr3(b',', b' ', b'\t', rest) {
        rest = rest.get(at + 1..).unwrap_or_default();
        if let Some(finding) = judge_hidden_pair(rest, names) {
            return Some(finding);
        }
    }
    None
}

/// Some parsers begin a new pair at a comma or at space (RFC 2109, old Rack, Python's `SimpleCookie`): whether the text
/// behind one would be a pair that is not allowed to pass.
fn judge_hidden_pair(text: &[u8], names: &CookieNames) -> Option<CookieFinding> {
    let end = text.iter().position(|octet| matches!(octet, b'=' | b',' | b' ' | b'\t'))?;
    let (name, value) = text.split_at_checked(end)?;
    // Such a parser may take its space or quote for what stands before the name. Looked for first: of a run of spaces each
    // ends here, and only behind a name the run after it is walked over.
    let start = name.iter().position(|octet| is_token_byte(*octet))?;
    // They also take space before the `=`.
    let space = value.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
    let value = value.get(space..)?.strip_prefix(b"=")?;
    let name = name.get(start..)?;
    match names.find(name) {
        Known::Exactly(_) | Known::Variant(_) => Some(CookieFinding::Smuggled),
        Known::Other | Known::Broken if is_legacy(name) => Some(CookieFinding::LegacyAttribute),
        Known::Other | Known::Broken if opens_quote(value) => Some(CookieFinding::OpenQuote),
        Known::Other | Known::Broken => None,
    }
}

/// The attributes of RFC 2109 and 2965. One of them in front turns on quoted strings in old parsers.
fn is_legacy(name: &[u8]) -> bool {
    name.first() == Some(&b'$')
        && [b"$version".as_slice(), b"$path", b"$domain", b"$port"]
            .iter()
            .any(|legacy| name.eq_ignore_ascii_case(legacy))
}

/// Whether a parser that knows quoted strings would read on behind the end of this value: also when the closing quote
/// is an escaped one.
fn opens_quote(value: &[u8]) -> bool {
    let [b'"', rest @ ..] = trim_ows(value) else { return false };
    let mut octets = rest.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b'\\' => {
                octets.next();
            }
            b'"' => return false,
            _ => {}
        }
    }
    true
}

fn separate(line: &mut Vec<u8>) {
    if !line.is_empty() {
        line.extend_from_slice(b"; ");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CookiePattern, ShieldName};
    use super::*;
    use proptest::prelude::*;

    fn names() -> CookieNames {
        let pattern = |text| CookiePattern::parse(text).unwrap();
        let shield = ["sessionid", "wordpress_logged_in_*", "laravel_session"];
        CookieNames::try_new(
            "__Host-portcullis",
            shield.map(|text| ShieldName { pattern: pattern(text), kind: CookieKind::Id }),
            [pattern("csrftoken")],
        )
        .unwrap()
    }

    fn headers<L: AsRef<[u8]>>(lines: &[L]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_ref()).unwrap());
        }
        headers
    }

    const NO_JAR: std::iter::Empty<CookiePair<'static>> = std::iter::empty();

    fn jar() -> impl Iterator<Item = CookiePair<'static>> + Clone {
        [CookiePair { name: b"sessionid", value: b"s3" }, CookiePair { name: b"messages", value: b"" }].into_iter()
    }

    /// The line an app would get: what came, if it is left as it came.
    fn line(sent: &HeaderMap, upstream: UpstreamCookie) -> Vec<u8> {
        let mut headers = sent.clone();
        upstream.put(&mut headers);
        let lines: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert!(lines.len() <= 1, "the app gets one line");
        lines.concat()
    }

    #[track_caller]
    fn check(sent: &[&[u8]], passes: &[u8], findings: &[CookieFinding]) {
        let (names, sent) = (names(), headers(sent));
        let scan = scan(&sent, &names);
        let upstream = line(&sent, scan.upstream(NO_JAR));
        assert_eq!(upstream.escape_ascii().to_string(), passes.escape_ascii().to_string());
        assert_eq!(scan.findings().iter().collect::<Vec<_>>(), findings);
    }

    use CookieFinding::*;

    #[test]
    fn foreign_pairs_pass_as_they_are() {
        for line in [
            b"a=b".as_slice(),
            b"a=b; c=d",
            b"a=b;c=d;  e=f",
            b"theme=dark; theme=light",
            b"a=; b==; c=x=y",
            b"json={\"a\":1,\"b\":[2, 3]}; q=\"quoted\"; e=\"a\\\"b\"",
            b"pct=%41%zz; utf8=\xc3\xa9; latin=\xe9; tab=a\tb",
            b"csrftoken=t; x=1",
            b"u=https://example.org/?a=1,b=2",
            b"AMCV_1%40AdobeOrg=x; $other=1",
        ] {
            check(&[line], line, &[]);
        }
    }

    #[test]
    fn a_request_without_cookies_is_left_alone() {
        let (names, none) = (names(), HeaderMap::new());
        assert_eq!(scan(&none, &names).upstream(NO_JAR), UpstreamCookie::AsReceived);
        assert_eq!(scan(&none, &names).guard(), GuardSeen::Missing);
        check(&[b"a=b", b" c=d "], b"a=b; c=d", &[]);
        check(&[b""], b"", &[]);
        check(&[b";", b" ;; "], b"", &[]);
    }

    #[test]
    fn our_cookie_is_read_over_all_lines_and_taken_out() {
        let (names, sent) = (names(), headers(&[b"a=b".as_slice(), b"__Host-portcullis=id.tag", b"c=d; e=f"]));
        let scan = scan(&sent, &names);
        assert_eq!(scan.guard(), GuardSeen::Once(b"id.tag"));
        assert_eq!(scan.findings(), Findings::default());
        assert_eq!(line(&sent, scan.upstream(NO_JAR)), b"a=b; c=d; e=f");
        assert_eq!(line(&sent, scan.upstream(jar())), b"a=b; c=d; e=f; sessionid=s3; messages=");
        check(&[b"__Host-portcullis=x"], b"", &[]);
        check(&[b"\t__Host-portcullis=x\t; a=b"], b"a=b", &[]);
    }

    #[test]
    fn the_line_we_make_is_sensitive() {
        let (names, sent) = (names(), headers(&["a=b"]));
        let UpstreamCookie::Replace(value) = scan(&sent, &names).upstream(jar()) else { panic!("a line is made") };
        assert!(value.is_sensitive());
    }

    #[test]
    fn what_carries_a_state_is_read_in_order_and_taken_out() {
        let names = names();
        let sent = headers(&["__Host-portcullis-2=b; a=1; __Host-portcullis-1=a", "__Host-portcullis-4=mine"]);
        let found = scan(&sent, &names);
        assert_eq!(found.carried().values().collect::<Vec<_>>(), [b"a", b"b"]);
        assert!(found.carried().has(1) && !found.carried().has(2) && !found.carried().has(3));
        assert_eq!(line(&sent, found.upstream(NO_JAR)), b"a=1; __Host-portcullis-4=mine");
        assert_eq!(format!("{:?}", found.carried()), "CarriedSeen(2)");
        // Up to the first that is missing; and nothing of it if one came twice.
        let gap = headers(&["__Host-portcullis-1=a; __Host-portcullis-3=c"]);
        assert_eq!(scan(&gap, &names).carried().values().collect::<Vec<_>>(), [b"a"]);
        let twice = headers(&["__Host-portcullis-1=a; __Host-portcullis-1=x; __Host-portcullis-2=b"]);
        let found = scan(&twice, &names);
        assert_eq!(found.carried().values().count(), 0);
        assert!(found.findings().contains(Duplicate) && found.carried().has(0));
        check(&[b"__host-portcullis-1=x; a=1"], b"a=1", &[LookAlike]);
        // The app's cookies have their room whatever a client carries.
        let names = names.with_limits(9, 20);
        let large = headers(&["__Host-portcullis-1=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; a=1"]);
        assert_eq!(line(&large, scan(&large, &names).upstream(NO_JAR)), b"a=1");
    }

    #[test]
    fn our_cookie_twice_is_ambiguous() {
        let (names, sent) =
            (names(), headers(&["__Host-portcullis=a; x=y; __Host-portcullis=b", "__Host-portcullis=a"]));
        let found = scan(&sent, &names);
        assert_eq!(found.guard(), GuardSeen::Several(&[b"a", b"b", b"a"]));
        assert_eq!(format!("{:?}", found.guard()), "Several(3)");
        check(&[b"__Host-portcullis=a; x=y; __Host-portcullis=a"], b"x=y", &[Duplicate]);
        let many = headers(&["__Host-portcullis=a; ".repeat(50)]);
        assert_eq!(scan(&many, &names).guard(), GuardSeen::Several(&[b"a".as_slice(); GUARD_VALUES_MAX]));
    }

    #[test]
    fn what_two_parsers_read_in_two_ways_is_left_out() {
        let cases: &[(&[u8], CookieFinding)] = &[
            (b"__host-portcullis=x", LookAlike),
            (b"__HOST-PORTCULLIS=x", LookAlike),
            (b"\x85__Host-portcullis=x", LookAlike),
            (b"\xc2\xa0__Host-portcullis=x", LookAlike),
            (b"\xe2\x80\x80__Host-portcullis=x", LookAlike),
            (b"\"__Host-portcullis\"=x", LookAlike),
            (b"__Host-portcullis =x", LookAlike),
            (b"SESSIONID=x", ShieldLookAlike),
            (b"%73essionid=x", ShieldLookAlike),
            (b"laravel.session=x", ShieldLookAlike),
            (b"CsrfToken=x", ShieldLookAlike),
            (b"sessionid=x", ShieldedSent),
            (b"wordpress_logged_in_ab=x", ShieldedSent),
            (b"sessionid", Nameless),
            (b"=__Host-portcullis=x", Nameless),
            (b"=", Nameless),
            (b"$Version=1", LegacyAttribute),
            (b"$path=/", LegacyAttribute),
            (b"$DOMAIN=\"x\"", LegacyAttribute),
            (b"$Port=", LegacyAttribute),
            (b"n=1,$Version=1", LegacyAttribute),
            (b"a b=x", NameSyntax),
            (b"\xe9=x", NameSyntax),
            (b"a\"b=x", NameSyntax),
            (b"n=\"open", OpenQuote),
            (b"n= \"", OpenQuote),
            (b"n=\"escaped\\\"", OpenQuote),
            (b"csrftoken=\"open", OpenQuote),
            (b"n=1, m=\"open", OpenQuote),
            (b"n=1,sessionid=x", Smuggled),
            (b"n=1 sessionid=x", Smuggled),
            (b"n=1 sessionid =x", Smuggled),
            (b"n=1,sessionid \t= x", Smuggled),
            (b"n=\"1\",\tSessionId=x", Smuggled),
            (b"n=1, \"__Host-portcullis\"=x", Smuggled),
        ];
        for (pair, finding) in cases {
            check(&[pair], b"", &[*finding]);
            check(&[b"a=b", pair, b"c=d"], b"a=b; c=d", &[*finding]);
            check(&[&[b"a=b; ".as_slice(), pair, b"; c=d"].concat()], b"a=b; c=d", &[*finding]);
        }
    }

    #[test]
    fn a_sandwich_is_taken_apart() {
        check(
            &[b"$Version=1; n=\"open; __Host-portcullis=id; theme=x; m=close\"; z=1"],
            b"theme=x; m=close\"; z=1",
            &[LegacyAttribute, OpenQuote, Sandwich],
        );
        check(&[b"n=\"open; m=\"whole\"; o=\"x\""], b"m=\"whole\"; o=\"x\"", &[OpenQuote, Sandwich]);
        check(&[b"n=\"open", b"m=close\""], b"m=close\"", &[OpenQuote, Sandwich]);
        let (names, sent) = (names(), headers(&["n=\"open; __Host-portcullis=id; m=\""]));
        assert_eq!(scan(&sent, &names).guard(), GuardSeen::Once(b"id"), "our cookie is read without regard to quotes");
    }

    #[test]
    fn bound_cookies_pass_until_they_are_withheld() {
        let (names, sent) = (names(), headers(&["csrftoken=a; x=1; csrftoken=b"]));
        let mut found = scan(&sent, &names);
        assert_eq!(found.findings().iter().collect::<Vec<_>>(), [DuplicateBound]);
        let second = found.bound().nth(1).unwrap();
        assert_eq!((second.pair.name, second.pair.value), (b"csrftoken".as_slice(), b"b".as_slice()));
        found.withhold(second.index);
        assert_eq!(line(&sent, found.upstream(NO_JAR)), b"csrftoken=a; x=1");
        found.withhold(PairIndex(1));
        found.withhold(PairIndex(99));
        assert_eq!(line(&sent, found.upstream(NO_JAR)), b"csrftoken=a; x=1", "other pairs can not be withheld");
        found.withhold_bound();
        assert_eq!(line(&sent, found.upstream(NO_JAR)), b"x=1");
    }

    #[test]
    fn shielded_cookies_are_shown_to_the_engine() {
        let (names, sent) = (names(), headers(&["sessionid=abc; a=b; wordpress_logged_in_1=d=e"]));
        let found = scan(&sent, &names);
        let seen: Vec<_> = found.shielded().map(|shielded| (shielded.pair.name, shielded.pair.value)).collect();
        assert_eq!(seen, [(b"sessionid".as_slice(), b"abc".as_slice()), (b"wordpress_logged_in_1", b"d=e")]);
    }

    #[test]
    fn limits_hold_for_foreign_pairs_and_not_for_ours() {
        let names = names().with_limits(3, 100);
        let sent = headers(&["a=1; b=2; c=3; d=4; __Host-portcullis=id"]);
        let found = scan(&sent, &names);
        assert_eq!(line(&sent, found.upstream(NO_JAR)), b"a=1; b=2; c=3");
        assert_eq!(found.guard(), GuardSeen::Once(b"id"));
        assert_eq!(found.findings().iter().collect::<Vec<_>>(), [TooManyPairs]);

        let sent = headers(&[format!("a=1; b={}; __Host-portcullis=id", "x".repeat(100))]);
        let found = scan(&sent, &names);
        assert_eq!(line(&sent, found.upstream(NO_JAR)), b"a=1");
        assert_eq!(found.guard(), GuardSeen::Once(b"id"));
        assert_eq!(found.findings().iter().collect::<Vec<_>>(), [TooManyBytes]);
    }

    #[test]
    fn values_are_not_printed() {
        let (names, sent) = (names(), headers(&["__Host-portcullis=hush; sessionid=hush; csrftoken=hush; a=hush"]));
        let found = scan(&sent, &names);
        let shown = format!("{found:?} {:?} {:?}", found.shielded().next(), found.bound().next());
        assert!(!shown.contains("hush"), "{shown}");
    }

    fn foreign() -> impl Strategy<Value = String> {
        "[a-z]{1,3}=[!#-+\\--:<-~]{0,12}".prop_filter("a known name", |pair| !pair.starts_with("csrftoken"))
    }

    fn suspicious() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("__Host-portcullis=x".to_owned()),
            Just("__HOST-portcullis=x".to_owned()),
            Just("sessionid=x".to_owned()),
            Just("$Version=1".to_owned()),
            Just("nameless".to_owned()),
            Just("n=\"open".to_owned()),
            Just("b d=1".to_owned()),
        ]
    }

    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            3 => "[;=, \t\"\\\\$%.]{1,2}".prop_map(String::into_bytes),
            2 => Just(b"__Host-portcullis".to_vec()),
            2 => Just(b"sessionid".to_vec()),
            1 => Just(b"; sessionid=x".to_vec()),
            1 => Just(b"__HOST-PORTCULLIS=".to_vec()),
            1 => Just(b"%73essionid=".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| {
            pieces.concat().into_iter().filter(|octet| *octet == b'\t' || (*octet >= 32 && *octet != 127)).collect()
        })
    }

    proptest! {
        #[test]
        fn foreign_pairs_are_octet_identical(
            pairs in proptest::collection::vec(prop_oneof![3 => foreign().prop_map(Ok), 1 => suspicious().prop_map(Err)], 0..30)
        ) {
            let sent: Vec<&str> = pairs.iter().map(|pair| match pair { Ok(pair) | Err(pair) => pair.as_str() }).collect();
            let wanted: Vec<&str> = pairs.iter().filter_map(|pair| pair.as_ref().ok()).map(String::as_str).collect();
            let (names, sent) = (names(), headers(&[sent.join("; ")]));
            let upstream = line(&sent, scan(&sent, &names).upstream(NO_JAR));
            prop_assert_eq!(String::from_utf8(upstream).unwrap(), wanted.join("; "));
        }

        #[test]
        fn no_known_cookie_of_the_client_ever_passes(lines in proptest::collection::vec(hostile(), 0..4)) {
            let (names, sent) = (names(), headers(&lines));
            let found = scan(&sent, &names);
            let upstream = line(&sent, found.upstream(jar()));
            // The two cookies of the jar stand at the end; whatever stands before them came from the client.
            let client = upstream.strip_suffix(b"sessionid=s3; messages=").unwrap();
            for pair in client.split(|octet| matches!(octet, b';' | b',' | b' ' | b'\t')) {
                let Some(end) = pair.iter().position(|octet| *octet == b'=') else { continue };
                let name = String::from_utf8_lossy(&pair[..end]).to_lowercase().replace("%73", "s");
                prop_assert!(!["__host-portcullis", "sessionid"].contains(&name.as_str()), "{}", upstream.escape_ascii());
            }
            let again = headers(&[client]);
            let again = scan(&again, &names);
            prop_assert_eq!(again.guard(), GuardSeen::Missing);
            prop_assert!(again.findings().iter().all(|finding| finding == DuplicateBound), "{:?}", again.findings());
        }
    }
}
