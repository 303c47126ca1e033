//! `Set-Cookie` and the jar. The first line of the input is `host path`, the others are `Set-Cookie` lines of answers
//! one second apart. A jar keeps its limits, its stored form reads back, and all that it gives out fits into a header.
#![no_main]

use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderValue;
use libfuzzer_sys::fuzz_target;
use portcullis::clock::Timestamp;
use portcullis::session::cookie::{
    Add, CookieKind, CookieNames, CookiePair, Expiry, Hardening, SameSite, SetCookie, UpstreamCookie, harden,
    parse_cookie_date, scan,
};
use portcullis::session::jar::{
    Channel, CookieContext, JAR_BYTES_MAX, JAR_COOKIES_MAX, Jar, JarChange, JarOp, JarOps, JarView, SiteContext,
};
use portcullis_fuzz::lines;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const SITES: [SiteContext; 4] = [
    SiteContext::SameSite,
    SiteContext::CrossSiteSafeNavigation,
    SiteContext::CrossSiteUnsafeNavigation,
    SiteContext::CrossSiteOther,
];

fuzz_target!(|input: &[u8]| {
    let mut lines = lines(input);
    let Some(Ok(place)) = lines.next().map(str::from_utf8) else { return };
    let (host, path) = place.split_once(' ').unwrap_or((place, "/"));
    let (mut jar, mut ops) = (Jar::new(), JarOps::default());
    let mut now = NOW;
    for (line, site) in lines.zip(SITES.into_iter().cycle()) {
        now = now.after(Duration::from_secs(1));
        let context = CookieContext { host, path, channel: Channel::Secure, site: SiteContext::SameSite };
        parse_cookie_date(line);
        let Ok(set) = SetCookie::parse(line) else { continue };
        hardening_adds_and_changes_nothing(line, &set);
        drop(format!("{set:?}"));
        if let Expiry::At(time) = set.expiry(now) {
            assert!(time <= now.after(Duration::from_secs(400 * 86_400)), "no cookie lives longer than 400 days");
        }
        let kind = if line.len().is_multiple_of(2) { CookieKind::Id } else { CookieKind::State };
        drop(JarOp::resolve(&set, &CookieContext { channel: Channel::Plain, site, ..context }, kind, now));
        let Ok(op) = JarOp::resolve(&set, &context, kind, now) else { continue };
        let before = jar.len();
        let change = jar.apply(&op);
        if op.deletes() {
            assert!(matches!(change, Ok(JarChange::Unchanged | JarChange::Deleted(_))), "{change:?}");
            assert!(jar.len() <= before);
        }
        if matches!(change, Ok(JarChange::Added(_) | JarChange::Replaced(_))) {
            assert_eq!(jar.apply(&op), Ok(JarChange::Unchanged), "a second time changes nothing");
        }
        assert!(ops.iter().count() < 64);
        ops.push(op);
    }
    stored_form_reads_back(&jar, host, path, now);
    let mut again = Jar::new();
    again.merge(&ops);
    assert_eq!(stored(&again), stored(&jar), "all at once is one after another");
});

fn stored(jar: &Jar) -> Vec<u8> {
    let mut stored = Vec::new();
    jar.encode(&mut stored);
    stored
}

fn stored_form_reads_back(jar: &Jar, host: &str, path: &str, now: Timestamp) {
    let bytes = stored(jar);
    assert!(jar.len() <= JAR_COOKIES_MAX && bytes.len() <= JAR_BYTES_MAX);
    assert_eq!(bytes.len(), jar.encoded_len());
    let view = JarView::decode(&bytes).unwrap();
    assert_eq!(stored(&view.to_jar()), bytes);
    assert_eq!(view.persistent_until(now), jar.persistent_until(now));
    assert_eq!(view.loosest_same_site(), jar.loosest_same_site());
    let (none, names) = (HeaderMap::new(), CookieNames::try_new("__Host-portcullis", [], []).unwrap());
    for site in SITES {
        let context = CookieContext { host, path, channel: Channel::Secure, site };
        let pairs: Vec<CookiePair<'_>> = jar.select(context, now).collect();
        assert!(view.select(context, now).eq(pairs.iter().copied()));
        let upstream = scan(&none, &names).upstream(pairs.iter().copied());
        assert_eq!(matches!(upstream, UpstreamCookie::Replace(_)), !pairs.is_empty(), "every jar fits into a header");
    }
}

fn hardening_adds_and_changes_nothing(line: &[u8], set: &SetCookie<'_>) {
    let all = Hardening { secure: Add::IfAbsent, http_only: Add::IfAbsent, same_site: Some(SameSite::Lax) };
    let Ok(value) = HeaderValue::from_bytes(line) else { return };
    let Some(hardened) = harden(&value, all) else { return };
    let after = SetCookie::parse(hardened.as_bytes()).unwrap();
    assert!(after.secure && after.http_only && harden(&hardened, all).is_none());
    assert_eq!((after.pair, after.domain, after.path), (set.pair, set.domain, set.path));
    assert_eq!(after.expiry(NOW), set.expiry(NOW));
}
