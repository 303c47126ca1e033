//! User agents: family, major version, system, kind of device.
//!
//! Parsing costs microseconds and the header is nearly always one that was seen a moment ago, so parsed forms are kept
//! in a bounded [`UserAgentCache`]; a request then costs one hash and one comparison. A client can send anything here:
//! only the first [`USER_AGENT_BYTES_MAX`] bytes are ever looked at.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use siphasher::sip::SipHasher13;

/// Bytes of a `User-Agent` that are read; in-app browsers send up to 450. What follows is as if it were not there.
pub const USER_AGENT_BYTES_MAX: usize = 512;

/// User agents that [`UserAgentCache`] holds at most: 2.5 MB if each has the greatest length.
pub const USER_AGENTS_MAX: usize = 4096;

const WAYS: usize = 4;

/// The key under which raw user agents, language lists and product names are hashed for storage.
///
/// It is public and fixed so that a hash means the same after a restart and on every node. That gives nothing away: whoever
/// wants to look like the owner would not search for a collision but send the owner's header itself.
const STABLE_KEY: [u8; 16] = *b"portcullis/ua/v1";

/// A hash that stays the same for ever; see [`STABLE_KEY`] for what it is not good for.
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    SipHasher13::new_with_key(&STABLE_KEY).hash(bytes)
}

/// Which program: a browser family, a known tool, or another by the hash of its product name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// No `User-Agent` was sent.
    #[default]
    Absent,
    /// Chrome, Chromium and those that do not say otherwise.
    Chrome,
    /// Microsoft Edge.
    Edge,
    /// Firefox.
    Firefox,
    /// Safari.
    Safari,
    /// Opera.
    Opera,
    /// Vivaldi.
    Vivaldi,
    /// Yandex Browser.
    Yandex,
    /// Samsung Internet.
    Samsung,
    /// Internet Explorer.
    InternetExplorer,
    /// A browser inside an app.
    WebView,
    /// Google's search app.
    GoogleApp,
    /// A crawler that names itself.
    Crawler,
    /// curl.
    Curl,
    /// Wget.
    Wget,
    /// A Python library.
    Python,
    /// Node.js.
    Node,
    /// Go's standard library.
    Go,
    /// A Java library.
    Java,
    /// OkHttp: the usual native stack of Android apps.
    OkHttp,
    /// Apple's native stack.
    CfNetwork,
    /// A PHP library.
    Php,
    /// A Ruby library.
    Ruby,
    /// A Perl library.
    Perl,
    /// Apple's media player, which plays what a page shows for whatever browser is open, with the browser's cookies.
    AppleMedia,
    /// Anything else, told apart by 15 bits of the hash of its product name.
    Other(u16),
}

/// Families in the order of their stored numbers: append only.
const FAMILIES: [(Family, &str); 25] = [
    (Family::Absent, "absent"),
    (Family::Chrome, "chrome"),
    (Family::Edge, "edge"),
    (Family::Firefox, "firefox"),
    (Family::Safari, "safari"),
    (Family::Opera, "opera"),
    (Family::Vivaldi, "vivaldi"),
    (Family::Yandex, "yandex"),
    (Family::Samsung, "samsung"),
    (Family::InternetExplorer, "internet explorer"),
    (Family::WebView, "webview"),
    (Family::GoogleApp, "google app"),
    (Family::Crawler, "crawler"),
    (Family::Curl, "curl"),
    (Family::Wget, "wget"),
    (Family::Python, "python"),
    (Family::Node, "node"),
    (Family::Go, "go"),
    (Family::Java, "java"),
    (Family::OkHttp, "okhttp"),
    (Family::CfNetwork, "cfnetwork"),
    (Family::Php, "php"),
    (Family::Ruby, "ruby"),
    (Family::Perl, "perl"),
    (Family::AppleMedia, "apple media"),
];

/// Set in the stored number of a family that has no number of its own.
const OTHER: u16 = 0x8000;

impl Family {
    /// The names of all families that are known, and the one of all others.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FAMILIES.iter().map(|(_, name)| *name).chain(["other"])
    }

    /// The family that goes by this name. All that have none go by one name, which is none.
    pub fn named(name: &str) -> Option<Self> {
        FAMILIES.iter().find(|(_, known)| *known == name).map(|(family, _)| *family)
    }

    /// The name that rules and events use.
    pub fn name(self) -> &'static str {
        FAMILIES.iter().find(|(family, _)| *family == self).map_or("other", |(_, name)| name)
    }

    /// The stored number.
    pub fn number(self) -> u16 {
        match self {
            Self::Other(hash) => OTHER | hash,
            known => FAMILIES.iter().zip(0..).find(|((family, _), _)| *family == known).map_or(0, |(_, n)| n),
        }
    }

    /// The family of a stored number; one from a later version is some other family.
    pub fn from_number(number: u16) -> Self {
        match FAMILIES.get(usize::from(number)) {
            Some((family, _)) => *family,
            None => Self::Other(number & !OTHER),
        }
    }
}

/// The system a user agent claims to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Os {
    /// It does not say, or says nothing we know.
    #[default]
    Unknown = 0,
    /// Windows.
    Windows = 1,
    /// macOS.
    MacOs = 2,
    /// Linux other than Android.
    Linux = 3,
    /// ChromeOS.
    ChromeOs = 4,
    /// Android.
    Android = 5,
    /// iOS and iPadOS.
    Ios = 6,
    /// A BSD.
    Bsd = 7,
    /// A console, a television, an old telephone.
    Other = 8,
}

impl Os {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Windows,
        Self::MacOs,
        Self::Linux,
        Self::ChromeOs,
        Self::Android,
        Self::Ios,
        Self::Bsd,
        Self::Other,
    ];

    /// The name that rules and events use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Windows => "windows",
            Self::MacOs => "macos",
            Self::Linux => "linux",
            Self::ChromeOs => "chromeos",
            Self::Android => "android",
            Self::Ios => "ios",
            Self::Bsd => "bsd",
            Self::Other => "other",
        }
    }

    /// The system of a stored number; one from a later version is unknown.
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }
}

/// What kind of thing a user agent claims to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DeviceClass {
    /// A tool, a console, or nothing we know.
    #[default]
    Other = 0,
    /// A computer.
    Desktop = 1,
    /// A telephone.
    Mobile = 2,
    /// A tablet.
    Tablet = 3,
    /// A crawler.
    Bot = 4,
}

impl DeviceClass {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Other, Self::Desktop, Self::Mobile, Self::Tablet, Self::Bot];

    /// The name that rules and events use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Desktop => "desktop",
            Self::Mobile => "mobile",
            Self::Tablet => "tablet",
            Self::Bot => "bot",
        }
    }

    /// The class of a stored number; one from a later version is `Other`.
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }
}

/// What a `User-Agent` header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UserAgent {
    /// The program.
    pub family: Family,
    /// Its major version; 0 if it does not say.
    pub major: u16,
    /// The system.
    pub os: Os,
    /// The kind of device.
    pub device: DeviceClass,
    /// A hash of the header as it was sent, the same on every node; 0 if there was none.
    pub hash: u32,
}

impl UserAgent {
    /// Reads a header. Total: what cannot be understood is [`Family::Other`].
    pub fn parse(raw: &[u8]) -> Self {
        let raw = cut(raw);
        if raw.is_empty() {
            return Self::default();
        }
        // 0 means "absent", so the headers that hash to it become 1.
        let [a, b, c, d, ..] = stable_hash(raw).to_be_bytes();
        let hash = u32::from_be_bytes([a, b, c, d]).max(1);
        if raw.starts_with(b"AppleCoreMedia/") {
            return Self { hash, ..apple_media(raw) };
        }
        if let Some(family) = tool(raw) {
            return Self { family, major: major_after(raw, b"/"), hash, ..Self::default() };
        }
        match std::str::from_utf8(raw).ok().and_then(|text| woothee::parser::Parser::new().parse(text)) {
            Some(found) => Self { hash, ..from_woothee(raw, &found) },
            None => Self { family: other(raw), major: major_after(raw, b"/"), hash, ..Self::default() },
        }
    }
}

impl UserAgent {
    /// Whether both may be parts of one program: the media player of Apple's systems goes with any browser there.
    pub fn is_same_program(&self, other: &Self) -> bool {
        let goes_with = |player: &Self, browser: &Self| {
            player.family == Family::AppleMedia && matches!(browser.os, Os::Ios | Os::MacOs)
        };
        self.family == other.family || goes_with(self, other) || goes_with(other, self)
    }
}

impl fmt::Display for UserAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family.name(), self.major, self.os.name())
    }
}

/// Products that say what they are in their first word. They are looked for before woothee, which lumps them together.
const TOOLS: [(&[u8], Family); 22] = [
    (b"curl/", Family::Curl),
    (b"Wget/", Family::Wget),
    (b"Wget2/", Family::Wget),
    (b"python-", Family::Python),
    (b"Python-", Family::Python),
    (b"Python/", Family::Python),
    (b"aiohttp/", Family::Python),
    (b"node", Family::Node),
    (b"undici", Family::Node),
    (b"axios/", Family::Node),
    (b"Go-http-client/", Family::Go),
    (b"Java/", Family::Java),
    (b"Java-http-client/", Family::Java),
    (b"Apache-HttpClient/", Family::Java),
    (b"okhttp/", Family::OkHttp),
    (b"GuzzleHttp/", Family::Php),
    (b"PHP/", Family::Php),
    (b"Ruby", Family::Ruby),
    (b"Faraday", Family::Ruby),
    (b"libwww-perl/", Family::Perl),
    (b"LWP::", Family::Perl),
    (b"Mechanize/", Family::Ruby),
];

fn tool(raw: &[u8]) -> Option<Family> {
    if raw.starts_with(b"Mozilla/") {
        return None;
    }
    let named = TOOLS.iter().find(|(prefix, _)| raw.starts_with(prefix)).map(|(_, family)| *family);
    named.or_else(|| memchr::memmem::find(raw, b"CFNetwork/").map(|_| Family::CfNetwork))
}

/// `AppleCoreMedia/1.0.0.21F79 (iPhone; U; CPU OS 17_5 like Mac OS X; en_us)`. Its version is that of the system's build.
fn apple_media(raw: &[u8]) -> UserAgent {
    let says = |word: &[u8]| memchr::memmem::find(raw, word).is_some();
    let (os, device) = if says(b"iPad") {
        (Os::Ios, DeviceClass::Tablet)
    } else if says(b"iPhone") || says(b"iPod") {
        (Os::Ios, DeviceClass::Mobile)
    } else if says(b"Macintosh") {
        (Os::MacOs, DeviceClass::Desktop)
    } else {
        (Os::Unknown, DeviceClass::Other)
    };
    UserAgent { family: Family::AppleMedia, os, device, ..UserAgent::default() }
}

/// The family of a product without a name of its own: `Shop/3.1 (build 7)` is `Shop`, whatever its version.
fn other(raw: &[u8]) -> Family {
    let end = raw.iter().position(|byte| matches!(byte, b'/' | b' ' | b'(')).unwrap_or(raw.len());
    let (product, _) = raw.split_at_checked(end).unwrap_or((raw, &[]));
    let [.., high, low] = stable_hash(product).to_be_bytes();
    Family::Other(u16::from_be_bytes([high, low]) & !OTHER)
}

fn from_woothee(raw: &[u8], found: &woothee::parser::WootheeResult<'_>) -> UserAgent {
    let family = match found.name {
        "Chrome" => Family::Chrome,
        "Edge" => Family::Edge,
        "Firefox" => Family::Firefox,
        "Safari" => Family::Safari,
        "Opera" => Family::Opera,
        "Vivaldi" => Family::Vivaldi,
        "Yandex Browser" => Family::Yandex,
        "SamsungBrowser" => Family::Samsung,
        "Internet Explorer" => Family::InternetExplorer,
        "Webview" => Family::WebView,
        "Google Search App" => Family::GoogleApp,
        _ if found.category == "crawler" => Family::Crawler,
        _ => other(raw),
    };
    let os = system(found.os);
    let device = match found.category {
        "pc" => DeviceClass::Desktop,
        "smartphone" if is_tablet(raw, os) => DeviceClass::Tablet,
        "smartphone" | "mobilephone" => DeviceClass::Mobile,
        "crawler" => DeviceClass::Bot,
        _ => DeviceClass::Other,
    };
    // An Android WebView says `Version/4.0` for ever; what moves is the Chrome inside it.
    let major = match major_after(raw, b"Chrome/") {
        chrome if family == Family::WebView && chrome != 0 => chrome,
        _ => digits(found.version.as_bytes()),
    };
    UserAgent { family, major, os, device, hash: 0 }
}

fn system(name: &str) -> Os {
    match name {
        "Mac OSX" | "Mac OS Classic" => Os::MacOs,
        "Linux" => Os::Linux,
        "ChromeOS" => Os::ChromeOs,
        "Android" => Os::Android,
        "iPhone" | "iPad" | "iPod" | "iOS" => Os::Ios,
        "BSD" => Os::Bsd,
        "UNKNOWN" | "" => Os::Unknown,
        other if other.starts_with("Windows") => Os::Windows,
        _ => Os::Other,
    }
}

fn is_tablet(raw: &[u8], os: Os) -> bool {
    let says = |word: &[u8]| memchr::memmem::find(raw, word).is_some();
    match os {
        Os::Ios => says(b"iPad"),
        Os::Android => !says(b"Mobile"),
        _ => false,
    }
}

/// The number that follows the first `mark`; 0 if there is none.
fn major_after(raw: &[u8], mark: &[u8]) -> u16 {
    let start = memchr::memmem::find(raw, mark).map(|at| at.saturating_add(mark.len()));
    start.and_then(|start| raw.get(start..)).map_or(0, digits)
}

/// The number at the beginning, at most 65535; 0 if there is none.
pub(crate) fn digits(bytes: &[u8]) -> u16 {
    let number = bytes.iter().map_while(|byte| byte.is_ascii_digit().then(|| u16::from(byte - b'0')));
    number.fold(0, |sum: u16, digit| sum.saturating_mul(10).saturating_add(digit))
}

fn cut(raw: &[u8]) -> &[u8] {
    raw.get(..USER_AGENT_BYTES_MAX).unwrap_or(raw)
}

/// Parsed user agents, at most [`USER_AGENTS_MAX`] of them.
///
/// A cell belongs to a set of four, chosen by a keyed hash: a client that does not know the key can not aim at the cell of
/// another. A full set gives up a user agent that was not asked for since the last look (the clock algorithm), so a
/// spray of random headers does not drive out the ones that are in use. Reading takes no lock.
pub struct UserAgentCache {
    key: [u8; 16],
    sets: Box<[Set]>,
}

#[derive(Default)]
struct Set {
    ways: [ArcSwapOption<Entry>; WAYS],
    hand: AtomicUsize,
}

struct Entry {
    hash: u64,
    text: Box<[u8]>,
    parsed: UserAgent,
    used: AtomicBool,
}

impl UserAgentCache {
    /// An empty cache. The key must be random.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key, sets: (0..USER_AGENTS_MAX / WAYS).map(|_| Set::default()).collect() }
    }

    /// What the header says, from the cache if it is there.
    pub fn parse(&self, raw: &[u8]) -> UserAgent {
        let text = cut(raw);
        if text.is_empty() {
            return UserAgent::default();
        }
        let hash = SipHasher13::new_with_key(&self.key).hash(text);
        let set = usize::try_from(hash % 0x1_0000).ok().and_then(|at| self.sets.get(at % self.sets.len()));
        let Some(set) = set else { return UserAgent::parse(text) };
        set.find(hash, text).unwrap_or_else(|| {
            let parsed = UserAgent::parse(text);
            set.insert(Entry { hash, text: text.into(), parsed, used: AtomicBool::new(false) });
            parsed
        })
    }

    /// How many user agents it holds.
    pub fn len(&self) -> usize {
        self.sets.iter().flat_map(|set| &set.ways).filter(|way| way.load().is_some()).count()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for UserAgentCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserAgentCache({} of {USER_AGENTS_MAX})", self.len())
    }
}

impl Set {
    fn find(&self, hash: u64, text: &[u8]) -> Option<UserAgent> {
        self.ways.iter().find_map(|way| {
            let entry = way.load();
            let entry = entry.as_ref().filter(|entry| entry.hash == hash && *entry.text == *text)?;
            // Written only when it changes, so that the cores do not fight for the line of a popular browser.
            if !entry.used.load(Ordering::Relaxed) {
                entry.used.store(true, Ordering::Relaxed);
            }
            Some(entry.parsed)
        })
    }

    fn insert(&self, entry: Entry) {
        let entry = Some(Arc::new(entry));
        if let Some(free) = self.ways.iter().find(|way| way.load().is_none()) {
            free.store(entry);
            return;
        }
        // Once around clears every mark, so the second round always finds one.
        for _ in 0..=WAYS {
            let hand = self.hand.fetch_add(1, Ordering::Relaxed) % WAYS;
            let Some(way) = self.ways.get(hand) else { return };
            if !way.load().as_ref().is_some_and(|old| old.used.swap(false, Ordering::Relaxed)) {
                way.store(entry);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";

    fn check(raw: &str, expected: &str) {
        let parsed = UserAgent::parse(raw.as_bytes());
        assert_eq!(format!("{parsed} {}", parsed.device.name()), expected, "{raw}");
    }

    #[test]
    fn reads_browsers_and_tools() {
        check("", "absent 0 unknown other");
        check(CHROME, "chrome 150 windows desktop");
        check(&CHROME.replace(" Chrome/", " HeadlessChrome/"), "chrome 150 windows desktop");
        check(
            "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/AP1A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/148.0.0.0 Mobile Safari/537.36",
            "webview 148 android mobile",
        );
        check(
            "Mozilla/5.0 (iPad; CPU OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 Mobile/15E148 Safari/604.1",
            "safari 17 ios tablet",
        );
        check(
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/144.0.0.0 Safari/537.36",
            "chrome 144 chromeos desktop",
        );
        check("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "crawler 0 unknown bot");
        check("curl/8.5.0", "curl 8 unknown other");
        check("python-requests/2.34.2", "python 2 unknown other");
        check("node", "node 0 unknown other");
        check("okhttp/4.12.0", "okhttp 4 unknown other");
        check("AppleCoreMedia/1.0.0.21F79 (iPhone; U; CPU OS 17_5 like Mac OS X; en_us)", "apple media 0 ios mobile");
        check("AppleCoreMedia/1.0.0.21F79 (iPad; U; CPU OS 17_5 like Mac OS X; en_us)", "apple media 0 ios tablet");
        check("AppleCoreMedia/1.0.0.23F79 (Macintosh; U; Intel Mac OS X 14_5; en_us)", "apple media 0 macos desktop");
        check("Shop/3.1 (build 7)", "other 3 unknown other");
        check("Shop/99999999", "other 65535 unknown other");
    }

    #[test]
    fn unnamed_products_are_told_apart_by_name_and_not_by_version() {
        let family = |raw: &str| UserAgent::parse(raw.as_bytes()).family;
        assert_eq!(family("Shop/3.1"), family("Shop/3.2 (build 8)"));
        assert_ne!(family("Shop/3.1"), family("Bank/3.1"));
    }

    #[test]
    fn stored_numbers_come_back() {
        for (family, name) in FAMILIES {
            assert_eq!(Family::from_number(family.number()), family);
            assert_eq!(family.name(), name);
        }
        assert_eq!(Family::from_number(Family::Other(77).number()), Family::Other(77));
        for (number, os) in (0..).zip(Os::ALL) {
            assert_eq!((os as u8, Os::from_number(number)), (number, os));
        }
        for (number, device) in (0..).zip(DeviceClass::ALL) {
            assert_eq!((device as u8, DeviceClass::from_number(number)), (number, device));
        }
        assert_eq!((Os::from_number(200), DeviceClass::from_number(200)), (Os::Unknown, DeviceClass::Other));
    }

    #[test]
    fn the_stable_hash_is_stable() {
        // Stored fingerprints hold it: a change here makes every session of a running guard look moved.
        assert_eq!(stable_hash(b"portcullis"), 439_398_205_242_059_458);
    }

    #[test]
    fn the_cache_answers_like_the_parser() {
        let cache = UserAgentCache::new([7; 16]);
        for raw in [CHROME, "curl/8.5.0", CHROME, ""] {
            assert_eq!(cache.parse(raw.as_bytes()), UserAgent::parse(raw.as_bytes()));
        }
        assert_eq!(cache.len(), 2);
        assert_eq!(format!("{cache:?}"), "UserAgentCache(2 of 4096)");
    }

    #[test]
    fn a_spray_of_user_agents_does_not_make_it_grow_or_lose_those_in_use() {
        let cache = UserAgentCache::new([7; 16]);
        let mut lost = 0;
        for n in 0..20_000 {
            cache.parse(format!("Spray/{n}").as_bytes());
            if n % 16 == 0 {
                let before = cache.len();
                cache.parse(CHROME.as_bytes());
                lost += usize::from(cache.len() > before || cache.find_now(CHROME).is_none());
            }
        }
        assert!(cache.len() <= USER_AGENTS_MAX);
        assert!(cache.len() > USER_AGENTS_MAX / 2);
        // The first look puts it in; after that nothing drives it out.
        assert_eq!(lost, 1);
    }

    impl UserAgentCache {
        fn find_now(&self, raw: &str) -> Option<UserAgent> {
            let hash = SipHasher13::new_with_key(&self.key).hash(raw.as_bytes());
            self.sets.iter().find_map(|set| set.find(hash, raw.as_bytes()))
        }
    }

    #[test]
    fn bytes_beyond_the_limit_are_not_read() {
        let long = [b'a'; USER_AGENT_BYTES_MAX + 1];
        let cache = UserAgentCache::new([7; 16]);
        assert_eq!(cache.parse(&long), cache.parse(&long[..USER_AGENT_BYTES_MAX]));
        assert_ne!(cache.parse(&long), cache.parse(&long[..USER_AGENT_BYTES_MAX - 1]));
    }

    proptest! {
        #[test]
        fn never_panics(raw in proptest::collection::vec(any::<u8>(), 0..1200)) {
            UserAgent::parse(&raw);
        }

        #[test]
        fn never_panics_on_pieces_of_real_ones(words in proptest::collection::vec(proptest::sample::select(vec![
            "Mozilla/5.0 ", "(compatible; MSIE ", "Trident/", "; rv:", "Chrome/", "150.0", " Safari/", "Firefox/", "Windows ", "Phone OS ",
            "NT 10.0", "KDDI-", "DoCoMo", ";FOMA;", "Mac OS X ", "like Mac OS X", "Xbox", "iPhone;", "Edg/", "YaBrowser/", "Opera ", "wv",
            "Version/", "CFNetwork/", "PSP (PlayStation Portable)", "SoftBank", "WILLCOM", "GSA/", "Google", "jig browser", "; ", ")", "é",
        ]), 0..20)) {
            UserAgent::parse(words.concat().as_bytes());
        }
    }

    #[test]
    fn agrees_with_the_table_of_real_user_agents() {
        let table = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/ua/ua_truth.tsv");
        let Ok(table) = std::fs::read_to_string(&table) else {
            println!("skipped: {} is not there", table.display());
            return;
        };
        let (mut rows, mut systems, mut right) = (0, 0, 0);
        for line in table.lines() {
            let [raw, device, os, browser] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let parsed = UserAgent::parse(raw.as_bytes());
            let (family, version) = browser.split_once('/').unwrap();
            assert_eq!((parsed.family.name(), parsed.major), (family, digits(version.as_bytes())), "{raw}");
            rows += 1;
            if os != "*MISSING_VALUE*" {
                systems += 1;
                right += usize::from(parsed.os.name() == os);
            }
            let handheld = matches!(parsed.device, DeviceClass::Mobile | DeviceClass::Tablet);
            assert_eq!(handheld, device == "mobile", "{raw}");
        }
        assert!(rows > 100, "{rows}");
        assert!(right * 100 > systems * 98, "{right} of {systems}");
    }
}
