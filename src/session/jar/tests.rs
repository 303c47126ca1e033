//! What a browser does with its cookies, and so must the jar.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn later(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

/// A request to `url`, which is `http(s)://host/path`.
fn context(url: &str) -> CookieContext<'_> {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    CookieContext {
        host,
        path,
        channel: if scheme == "https" { Channel::Secure } else { Channel::Plain },
        site: SiteContext::SameSite,
    }
}

fn resolve(line: &str, url: &str, now: Timestamp) -> Result<JarOp, JarRefusal> {
    JarOp::resolve(&SetCookie::parse(line.as_bytes()).unwrap(), &context(url), CookieKind::Id, now)
}

const URL: &str = "https://example.org/";

fn set_at(jar: &mut Jar, line: &str, now: Timestamp) -> JarChange {
    jar.apply(&resolve(line, URL, now).unwrap()).unwrap()
}

fn set(jar: &mut Jar, line: &str) -> JarChange {
    set_at(jar, line, NOW)
}

fn show<'a>(cookies: impl Iterator<Item = CookiePair<'a>>) -> String {
    let pairs = cookies.map(|pair| format!("{}={}", pair.name.escape_ascii(), pair.value.escape_ascii()));
    pairs.collect::<Vec<_>>().join("; ")
}

/// What a request gets from the jar, and from its stored form, which must agree.
#[track_caller]
fn check_sent(jar: &Jar, context: CookieContext<'_>, now: Timestamp, expected: &str) {
    let mut stored = Vec::new();
    jar.encode(&mut stored);
    assert_eq!(stored.len(), jar.encoded_len());
    assert_eq!(show(jar.select(context, now)), expected);
    assert_eq!(show(JarView::decode(&stored).unwrap().select(context, now)), expected);
}

#[test]
fn a_cookie_goes_back_to_the_host_and_path_that_set_it() {
    let mut jar = Jar::new();
    jar.apply(&resolve("a=1", "https://www.example.org/shop/cart", NOW).unwrap()).unwrap();
    jar.apply(&resolve("b=2; Domain=.EXAMPLE.org; Path=/", "https://www.example.org/", NOW).unwrap()).unwrap();
    check_sent(&jar, context("https://www.example.org/shop/x"), NOW, "a=1; b=2");
    check_sent(&jar, context("https://WWW.example.ORG/shop"), NOW, "a=1; b=2");
    check_sent(&jar, context("https://www.example.org/shopping"), NOW, "b=2");
    check_sent(&jar, context("https://a.www.example.org/shop/"), NOW, "b=2");
    check_sent(&jar, context("https://example.org/shop/"), NOW, "b=2");
    check_sent(&jar, context("https://example.com/shop/"), NOW, "");
}

#[test]
fn longer_paths_go_first_and_then_older_cookies() {
    let mut jar = Jar::new();
    for (line, second) in
        [("c=3; Path=/", 3), ("b=2; Path=/", 2), ("d=4; Path=/x", 4), ("a=1; Path=/", 3), ("e=5; Path=/y", 1)]
    {
        set_at(&mut jar, line, later(second));
    }
    check_sent(&jar, context("https://example.org/x/y"), later(9), "d=4; b=2; c=3; a=1");
    assert_eq!(set_at(&mut jar, "b=new; Path=/", later(8)), JarChange::Replaced(CookieKind::Id));
    check_sent(&jar, context(URL), later(9), "b=new; c=3; a=1");
}

#[test]
fn a_secure_cookie_needs_a_secure_channel() {
    let mut jar = Jar::new();
    set(&mut jar, "a=1; Secure");
    set(&mut jar, "b=2");
    check_sent(&jar, context(URL), NOW, "a=1; b=2");
    check_sent(&jar, context("http://example.org/"), NOW, "b=2");
    assert_eq!(resolve("a=1; Secure", "http://example.org/", NOW).err(), Some(JarRefusal::PlainChannel));
}

#[test]
fn same_site_is_honoured() {
    let mut jar = Jar::new();
    for line in ["none=1; SameSite=None; Secure", "lax=2; SameSite=Lax", "strict=3; SameSite=Strict", "unset=4"] {
        set(&mut jar, line);
    }
    let from = |site| CookieContext { site, ..context(URL) };
    let unsafe_navigation = from(SiteContext::CrossSiteUnsafeNavigation);
    check_sent(&jar, from(SiteContext::SameSite), NOW, "none=1; lax=2; strict=3; unset=4");
    check_sent(&jar, from(SiteContext::CrossSiteSafeNavigation), NOW, "none=1; lax=2; unset=4");
    check_sent(&jar, unsafe_navigation, later(119), "none=1; unset=4");
    check_sent(&jar, unsafe_navigation, later(120), "none=1");
    check_sent(&jar, from(SiteContext::CrossSiteOther), NOW, "none=1");
    assert_eq!(jar.loosest_same_site(), Some(SameSite::None));
}

#[test]
fn the_loosest_same_site_counts_unset_as_lax() {
    let mut jar = Jar::new();
    assert_eq!(jar.loosest_same_site(), None);
    set(&mut jar, "a=1; SameSite=Strict");
    assert_eq!(jar.loosest_same_site(), Some(SameSite::Strict));
    set(&mut jar, "b=1");
    assert_eq!(jar.loosest_same_site(), Some(SameSite::Lax));
}

#[test]
fn another_sites_request_sets_no_same_site_cookie() {
    let check = |line: &str, site, expected: Option<JarRefusal>| {
        let set = SetCookie::parse(line.as_bytes()).unwrap();
        let op = JarOp::resolve(&set, &CookieContext { site, ..context(URL) }, CookieKind::Id, NOW);
        assert_eq!(op.err(), expected, "{line} {site:?}");
    };
    for line in ["a=1", "a=1; SameSite=Lax", "a=1; SameSite=Strict"] {
        check(line, SiteContext::CrossSiteOther, Some(JarRefusal::CrossSite));
        // A login that comes back from an identity provider.
        check(line, SiteContext::CrossSiteUnsafeNavigation, None);
        check(line, SiteContext::CrossSiteSafeNavigation, None);
    }
    check("a=1; SameSite=None; Secure", SiteContext::CrossSiteOther, None);
}

#[test]
fn what_a_browser_would_not_keep_is_refused() {
    let check = |line: &str, url: &str, expected: JarRefusal| {
        assert_eq!(resolve(line, url, NOW).err(), Some(expected), "{line} {url}");
    };
    check("nameless", URL, JarRefusal::Nameless);
    check("a=1; Domain=example.com", URL, JarRefusal::Domain);
    check("a=1; Domain=www.example.org", URL, JarRefusal::Domain);
    check("a=1; Domain=ample.org", URL, JarRefusal::Domain);
    check("a=1; Domain=org", URL, JarRefusal::Domain);
    check("a=1; Domain=0.0.1", "https://10.0.0.1/", JarRefusal::Domain);
    check("a=1; Domain=..example.org", URL, JarRefusal::Domain);
    check("__Secure-a=1", URL, JarRefusal::Prefix);
    check("__host-a=1; Secure", URL, JarRefusal::Prefix);
    check("__Host-a=1; Secure; Path=/x", URL, JarRefusal::Prefix);
    check("__Host-a=1; Secure; Path=/; Domain=example.org", URL, JarRefusal::Prefix);
    check("__Http-a=1; Secure", URL, JarRefusal::Prefix);
    check("__Host-Http-a=1; Secure; Path=/", URL, JarRefusal::Prefix);
    check("a=1", &format!("https://{}/", "x".repeat(256)), JarRefusal::TooLong);
    check("a=1", &format!("https://x.org/{}/", "x".repeat(65_536)), JarRefusal::TooLong);
    for line in ["__Host-a=1; Secure; Path=/", "__Secure-a=1; Secure", "__Host-Http-a=1; Secure; Path=/; HttpOnly"] {
        assert!(resolve(line, URL, NOW).is_ok(), "{line}");
    }
}

#[test]
fn a_domain_that_is_one_host_means_that_host() {
    for host in ["localhost", "10.0.0.1", "[::1]"] {
        let url = format!("https://{host}/");
        let mut jar = Jar::new();
        jar.apply(&resolve(&format!("a=1; Domain={host}"), &url, NOW).unwrap()).unwrap();
        check_sent(&jar, context(&url), NOW, "a=1");
        check_sent(&jar, context(&format!("https://x.{host}/")), NOW, "");
    }
}

#[test]
fn cookies_end_and_are_deleted() {
    let mut jar = Jar::new();
    set(&mut jar, "a=1; Max-Age=60");
    set(&mut jar, "b=2");
    check_sent(&jar, context(URL), later(59), "a=1; b=2");
    check_sent(&jar, context(URL), later(60), "b=2");
    assert_eq!(jar.persistent_until(NOW), Some(later(60)));
    assert_eq!(jar.persistent_until(later(60)), None);
    assert_eq!(set(&mut jar, "b=; Max-Age=0; Path=/x"), JarChange::Unchanged);
    assert_eq!(set(&mut jar, "b=; Max-Age=0"), JarChange::Deleted(CookieKind::Id));
    assert_eq!(set(&mut jar, "b=; Max-Age=0"), JarChange::Unchanged);
    assert_eq!(set(&mut jar, "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), JarChange::Deleted(CookieKind::Id));
    assert!(jar.is_empty());
}

#[test]
fn changes_are_told_apart() {
    let id = CookieKind::Id;
    let mut jar = Jar::new();
    assert_eq!(set(&mut jar, "a=1; Max-Age=1000"), JarChange::Added(id));
    assert_eq!(set(&mut jar, "a=1; Max-Age=1000"), JarChange::Unchanged);
    assert_eq!(set(&mut jar, "a=1; Max-Age=1000; HttpOnly"), JarChange::Unchanged, "scripts never see it anyway");
    assert_eq!(set_at(&mut jar, "a=1; Max-Age=1000", later(99)), JarChange::ExpiryOnly);
    assert_eq!(set_at(&mut jar, "a=1; Max-Age=1000", later(200)), JarChange::Refreshed);
    assert_eq!(set_at(&mut jar, "a=1; Max-Age=900", later(200)), JarChange::Refreshed);
    assert_eq!(set(&mut jar, "a=1"), JarChange::Refreshed);
    assert_eq!(set(&mut jar, "a=1; Secure"), JarChange::Refreshed);
    assert_eq!(set(&mut jar, "a=2; Secure"), JarChange::Replaced(id));
    assert_eq!(set(&mut jar, "a=2; Secure; Path=/x"), JarChange::Added(id));
    assert_eq!(set(&mut jar, "a=2; Secure; Domain=example.org"), JarChange::Added(id));
    assert_eq!(jar.len(), 3);
}

#[test]
fn an_end_that_slides_is_written_at_a_tenth_of_its_span() {
    let mut stored = Jar::new();
    set(&mut stored, "a=1; Max-Age=1000");
    for second in 1..100 {
        let mut jar = stored.clone();
        assert_eq!(set_at(&mut jar, "a=1; Max-Age=1000", later(second)), JarChange::ExpiryOnly);
    }
    assert_eq!(set_at(&mut stored, "a=1; Max-Age=1000", later(100)), JarChange::Refreshed);
}

#[test]
fn a_full_jar_takes_no_more_and_keeps_what_it_has() {
    let mut jar = Jar::new();
    for number in 0..JAR_COOKIES_MAX {
        set(&mut jar, &format!("c{number}=x; Max-Age={}", if number == 0 { 10 } else { 100 }));
    }
    let one_more = |now| resolve("more=x", URL, now).unwrap();
    assert_eq!(jar.apply(&one_more(NOW)), Err(JarFull::Cookies));
    assert_eq!(set(&mut jar, "c7=y; Max-Age=100"), JarChange::Replaced(CookieKind::Id));
    assert_eq!(jar.apply(&one_more(later(10))), Ok(JarChange::Added(CookieKind::Id)), "one has ended");
    assert_eq!(jar.len(), JAR_COOKIES_MAX);

    let mut jar = Jar::new();
    for name in ["a", "b", "c", "d"] {
        jar.apply(&resolve(&format!("{name}={}", "x".repeat(4000)), URL, NOW).unwrap()).unwrap();
    }
    let before = jar.encoded_len();
    assert_eq!(jar.apply(&resolve(&format!("e={}", "x".repeat(400)), URL, NOW).unwrap()), Err(JarFull::Bytes));
    set(&mut jar, "e=x");
    assert_eq!(jar.apply(&resolve(&format!("e={}", "x".repeat(400)), URL, NOW).unwrap()), Err(JarFull::Bytes));
    assert_eq!(jar.encoded_len(), before + 14 + "example.org/ex".len());
    let mut ops = JarOps::default();
    ops.push(resolve(&format!("f={}", "x".repeat(400)), URL, NOW).unwrap());
    ops.push(resolve("g=x", URL, NOW).unwrap());
    let merged = jar.merge(&ops);
    assert_eq!(merged, Merged { change: JarChange::Added(CookieKind::Id), full: Some(JarFull::Bytes) });
}

#[test]
fn changes_can_be_made_again_on_a_newer_jar() {
    let mut ops = JarOps::default();
    assert!(ops.is_empty());
    ops.push(resolve("mine=1", URL, NOW).unwrap());
    ops.push(resolve("gone=; Max-Age=0", URL, NOW).unwrap());
    let mut newer = Jar::new();
    set(&mut newer, "gone=x");
    set(&mut newer, "theirs=2");
    assert_eq!(newer.merge(&ops).change, JarChange::Deleted(CookieKind::Id));
    check_sent(&newer, context(URL), NOW, "theirs=2; mine=1");
    assert_eq!(newer.merge(&ops), Merged::default(), "a second time changes nothing");
    assert_eq!(
        ops.iter().map(|op| (op.name(), op.deletes())).collect::<Vec<_>>(),
        [(b"mine".as_slice(), false), (b"gone", true)]
    );
}

#[test]
fn values_are_not_printed() {
    let mut jar = Jar::new();
    let op = resolve("a=hush", URL, NOW).unwrap();
    jar.apply(&op).unwrap();
    let mut stored = Vec::new();
    jar.encode(&mut stored);
    let view = JarView::decode(&stored).unwrap();
    let shown = format!("{jar:?} {op:?} {view:?} {:?}", view.select(context(URL), NOW).next());
    assert_eq!(shown, "Jar(1 cookies) JarOp(put a) JarView(1 cookies) Some(CookiePair(a))");
}

#[test]
fn the_stored_form_to_the_octet() {
    let mut jar = Jar::new();
    let at = Timestamp::from_millis(0x0102_0304_0506);
    let set_cookie = SetCookie::parse(b"n=vv; Max-Age=1; Secure; SameSite=Strict; Path=/p").unwrap();
    jar.apply(&JarOp::resolve(&set_cookie, &context("https://h/"), CookieKind::State, at).unwrap()).unwrap();
    let mut stored = b"kept".to_vec();
    jar.encode(&mut stored);
    let expected =
        [b"kept".as_slice(), &[1, 1, 0b11_1111, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 8, 0xee, 1, 0, 2, 0, 1, 0, 2], b"h/pnvv"];
    assert_eq!(stored, expected.concat());
    let mut empty = Vec::new();
    Jar::new().encode(&mut empty);
    assert_eq!(empty, [1, 0]);
    assert!(JarView::decode(&empty).unwrap().is_empty());
}

#[test]
fn what_is_no_jar_is_refused() {
    let check = |bytes: &[u8], expected| assert_eq!(Jar::decode(bytes).err(), Some(expected), "{bytes:?}");
    check(&[], JarDecodeError::Damaged);
    check(&[1], JarDecodeError::Damaged);
    check(&[0, 0], JarDecodeError::Version);
    check(&[2, 0], JarDecodeError::Version);
    check(&[1, 0, 0], JarDecodeError::Damaged);
    let cookie = |flags| [[flags, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1].as_slice(), b"h/nv".as_slice()].concat();
    assert_eq!(Jar::decode(&[[1, 1].as_slice(), &cookie(2)].concat()).map(|jar| jar.len()), Ok(1));
    check(&[[1, 1].as_slice(), &cookie(0x40)].concat(), JarDecodeError::Damaged);
    check(&[[1, 51].as_slice(), &cookie(2).repeat(51)].concat(), JarDecodeError::Damaged);
    let mut jar = Jar::new();
    set(&mut jar, "a=1; Max-Age=5");
    set(&mut jar, "b=2");
    let mut stored = Vec::new();
    jar.encode(&mut stored);
    for cut in 0..stored.len() {
        check(&stored[..cut], JarDecodeError::Damaged);
    }
}

fn line() -> impl Strategy<Value = String> {
    "[a-c]=[a-z0-9]{0,3}(; Path=/[xy]?)?(; Domain=example\\.org)?(; Secure)?(; SameSite=(None|Lax|Strict))?(; Max-Age=[0-9]{1,3})?"
}

proptest! {
    #[test]
    fn the_stored_form_reads_back(lines in proptest::collection::vec(line(), 0..12), second in 0u64..1000) {
        let mut jar = Jar::new();
        for (at, line) in (0..).zip(&lines) {
            set_at(&mut jar, line, later(at));
        }
        let mut stored = Vec::new();
        jar.encode(&mut stored);
        let mut again = Vec::new();
        let read = Jar::decode(&stored).unwrap();
        read.encode(&mut again);
        prop_assert_eq!(&stored, &again);
        let (context, now) = (context("https://example.org/x/"), later(second));
        let view = JarView::decode(&stored).unwrap();
        prop_assert_eq!(show(jar.select(context, now)), show(view.select(context, now)));
        prop_assert_eq!(jar.persistent_until(now), view.persistent_until(now));
        prop_assert_eq!(jar.loosest_same_site(), view.loosest_same_site());
        prop_assert_eq!(jar.len(), view.len());
    }

    #[test]
    fn making_changes_twice_is_making_them_once(lines in proptest::collection::vec(line(), 0..12)) {
        let mut ops = JarOps::default();
        for line in &lines {
            ops.push(resolve(line, URL, NOW).unwrap());
        }
        let (mut once, mut twice) = (Jar::new(), Jar::new());
        once.merge(&ops);
        twice.merge(&ops);
        twice.merge(&ops);
        let context = context("https://example.org/x/");
        let sorted = |jar: &Jar| {
            let mut pairs: Vec<_> = jar.select(context, NOW).map(|pair| (pair.name.to_vec(), pair.value.to_vec())).collect();
            pairs.sort();
            pairs
        };
        prop_assert_eq!(sorted(&once), sorted(&twice));
    }

    #[test]
    fn no_cookie_is_kept_twice_and_the_order_is_kept(lines in proptest::collection::vec(line(), 0..20)) {
        let mut jar = Jar::new();
        for (at, line) in (0..).zip(&lines) {
            set_at(&mut jar, line, later(at / 2));
        }
        for (before, after) in jar.entries.iter().zip(jar.entries.iter().skip(1)) {
            let place = |entry: &Entry| (std::cmp::Reverse(entry.path.len()), entry.created);
            prop_assert!(place(before) <= place(after));
        }
        let mut keys: Vec<_> = jar
            .entries
            .iter()
            .map(|entry| (&entry.name, &entry.domain, &entry.path, entry.host_only == HostOnly::Yes))
            .collect();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), jar.len());
    }

    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0u8..4) {
        for bytes in [bytes.clone(), [[1, count].as_slice(), &bytes].concat()] {
            if let Ok(view) = JarView::decode(&bytes) {
                let mut stored = Vec::new();
                view.to_jar().encode(&mut stored);
                prop_assert_eq!(&stored, &bytes);
                view.select(context(URL), NOW).for_each(drop);
            }
        }
    }
}
