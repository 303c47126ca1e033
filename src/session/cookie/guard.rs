//! Our own cookie, as it is written: name and attributes are put together once, so that a line costs one allocation.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;

use super::names::{CARRIED_COOKIES_MAX, carried_name};
use super::{SameSite, is_token};
use crate::clock::Timestamp;

/// Longest life of a cookie that browsers grant: 400 days (RFC 6265bis section 5.5).
pub const COOKIE_LIFETIME_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

/// Longest name of our cookie, so that name and value stay far below what browsers keep.
const NAME_BYTES_MAX: usize = 128;

/// Longest host name (RFC 1035).
const DOMAIN_BYTES_MAX: usize = 253;

/// Why settings make no cookie that browsers would keep and that is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardCookieError {
    /// The name has octets that no cookie name can have, or too many.
    #[error("the cookie's name must be 1 to {NAME_BYTES_MAX} letters, digits and !#$%&'*+-.^_`|~")]
    Name,
    /// Without a domain and a path the name must say so.
    #[error("the cookie's name must begin with `__Host-`, so that no neighbouring host can set it")]
    NeedsHostPrefix,
    /// With a domain or a path the name must say so.
    #[error("with a domain or a path the cookie's name must begin with `__Secure-`")]
    NeedsSecurePrefix,
    /// Browsers drop a prefixed cookie that is not Secure.
    #[error("over plain http the cookie's name must not begin with `__Host-` or `__Secure-`: browsers would drop it")]
    PrefixOverHttp,
    /// Browsers drop such a cookie.
    #[error("`same_site = none` needs a Secure cookie: browsers would drop it over plain http")]
    NoneOverHttp,
    /// Browsers drop such a cookie.
    #[error("a partitioned cookie must be Secure: browsers would drop it over plain http")]
    PartitionedOverHttp,
    /// The path is none.
    #[error("the path must begin with `/` and have no `;`, space or control character")]
    Path,
    /// The domain is no host name of at least two labels.
    #[error("the domain must be a host name with a dot, without port, and no address")]
    Domain,
}

/// Over what our cookie travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuardTransport {
    /// TLS alone.
    #[default]
    Secure,
    /// Plain http too, for development: anyone on the way can read it.
    InsecureHttp,
}

/// Whether browsers keep a cookie of ours apart for every site that embeds us (CHIPS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partition {
    /// There is one for all of them.
    #[default]
    None,
    /// `Partitioned`: one for each site, and one for ourselves. Of use with `SameSite=None` alone.
    BySite,
}

/// Where the `SameSite` of our cookie comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardSameSite {
    /// From the settings.
    Fixed(SameSite),
    /// From the app: the loosest of its shielded cookies.
    App,
}

/// Whether our cookie outlives the browser's session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persist {
    /// Never.
    #[default]
    Session,
    /// As long as the app's longest shielded cookie does, and never beyond the session's absolute end.
    App,
    /// Until the session's absolute end.
    Absolute,
}

impl Persist {
    /// The `Max-Age` of our cookie, if it has one. `jar_until` is the end of the longest cookie in the jar.
    pub fn max_age(self, jar_until: Option<Timestamp>, absolute: Timestamp, now: Timestamp) -> Option<Duration> {
        match self {
            Self::Session => None,
            Self::App => jar_until.map(|until| until.min(absolute).since(now)),
            Self::Absolute => Some(absolute.since(now)),
        }
    }
}

/// What our cookie shall look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardCookieSettings {
    /// Its name.
    pub name: String,
    /// Its `SameSite`.
    pub same_site: GuardSameSite,
    /// Its `Domain`, to be shared by several hosts.
    pub domain: Option<String>,
    /// Its `Path`. Another than `/` keeps apps on one host from overwriting each other's cookie, and protects neither from the
    /// other.
    pub path: String,
    /// Whether it is kept apart by site.
    pub partition: Partition,
    /// Over what it travels.
    pub transport: GuardTransport,
}

/// The safest there is: `__Host-portcullis`, Secure, `SameSite=Lax`, this host alone.
impl Default for GuardCookieSettings {
    fn default() -> Self {
        Self {
            name: GuardCookie::NAME.to_owned(),
            same_site: GuardSameSite::Fixed(SameSite::Lax),
            domain: None,
            path: "/".to_owned(),
            partition: Partition::None,
            transport: GuardTransport::Secure,
        }
    }
}

impl GuardCookieSettings {
    /// For development over plain http: the cookie `portcullis` without Secure.
    pub fn insecure_http() -> Self {
        Self { name: GuardCookie::INSECURE_NAME.to_owned(), transport: GuardTransport::InsecureHttp, ..Self::default() }
    }
}

/// Writes the `Set-Cookie` lines of our cookie.
#[derive(Clone)]
pub struct GuardCookie {
    name: Box<str>,
    /// The names of those in which a client carries the state of its session.
    carried: [Box<str>; CARRIED_COOKIES_MAX as usize],
    same_site: GuardSameSite,
    transport: GuardTransport,
    /// What follows the value, for each `SameSite`: none, lax, strict.
    attributes: [Box<[u8]>; 3],
    clear: HeaderValue,
}

impl GuardCookie {
    /// The name over TLS.
    pub const NAME: &str = "__Host-portcullis";

    /// The name over plain http.
    pub const INSECURE_NAME: &str = "portcullis";

    /// Puts the constant parts together.
    ///
    /// # Errors
    /// When browsers would drop such a cookie, or a neighbouring host could set it.
    pub fn try_new(settings: &GuardCookieSettings) -> Result<Self, GuardCookieError> {
        let domain = settings.domain.as_deref().map(parse_domain).transpose()?;
        check_path(&settings.path)?;
        let is_bound_to_host = domain.is_none() && settings.path == "/";
        check_name(&settings.name, is_bound_to_host, settings.transport)?;
        if settings.transport == GuardTransport::InsecureHttp && settings.partition == Partition::BySite {
            return Err(GuardCookieError::PartitionedOverHttp);
        }
        if settings.transport == GuardTransport::InsecureHttp
            && settings.same_site == GuardSameSite::Fixed(SameSite::None)
        {
            return Err(GuardCookieError::NoneOverHttp);
        }
        let attributes = [SameSite::None, SameSite::Lax, SameSite::Strict]
            .map(|same_site| attributes(settings, same_site, domain.as_deref()).into_boxed_slice());
        let mut cookie = Self {
            name: settings.name.as_str().into(),
            carried: [0, 1, 2].map(|at| carried_name(&settings.name, at).into()),
            same_site: settings.same_site,
            transport: settings.transport,
            attributes,
            clear: HeaderValue::from_static(""),
        };
        cookie.clear = header(cookie.line(&cookie.name, b"", SameSite::Lax, PAST)).ok_or(GuardCookieError::Name)?;
        Ok(cookie)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Over what it travels.
    pub const fn transport(&self) -> GuardTransport {
        self.transport
    }

    /// Where its `SameSite` comes from.
    pub const fn same_site(&self) -> GuardSameSite {
        self.same_site
    }

    /// The line that sets it. `app` is the loosest `SameSite` of the jar, of use only if the settings ask for it.
    /// Browsers keep no cookie for more than 400 days, so `max_age` is cut there, and rounded down to whole seconds but
    /// never to none, which would delete it. The line is marked sensitive.
    ///
    /// A value that no cookie can have would let its author write attributes: the line then clears the cookie.
    pub fn set_line(&self, value: &str, max_age: Option<Duration>, app: Option<SameSite>) -> HeaderValue {
        self.set(&self.name, value, max_age, app).unwrap_or_else(|| self.clear_line())
    }

    /// The line that sets one of those in which a client carries the state of its session, counted from 0, with the
    /// attributes of [`set_line`](Self::set_line). None if there is no such, or for a value that no cookie can have.
    pub fn set_carried_line(
        &self,
        at: u8,
        value: &str,
        max_age: Option<Duration>,
        app: Option<SameSite>,
    ) -> Option<HeaderValue> {
        self.set(self.carried.get(usize::from(at))?, value, max_age, app)
    }

    fn set(&self, name: &str, value: &str, max_age: Option<Duration>, app: Option<SameSite>) -> Option<HeaderValue> {
        if !value.bytes().all(is_cookie_octet) {
            return None;
        }
        let same_site = match self.same_site {
            GuardSameSite::Fixed(same_site) => same_site,
            GuardSameSite::App => match self.transport {
                GuardTransport::Secure => app.unwrap_or(SameSite::Lax),
                // Over plain http a browser drops `SameSite=None`, so the loosest that can be had is `Lax`.
                GuardTransport::InsecureHttp => app.unwrap_or(SameSite::Lax).max(SameSite::Lax),
            },
        };
        header(match max_age {
            None => self.line(name, value.as_bytes(), same_site, ["", ""]),
            Some(span) => {
                let seconds = span.min(COOKIE_LIFETIME_MAX).as_secs().max(1);
                let mut digits = itoa::Buffer::new();
                self.line(name, value.as_bytes(), same_site, ["; Max-Age=", digits.format(seconds)])
            }
        })
    }

    /// The line that takes it away: the same attributes, as the name's prefix demands them here too.
    pub fn clear_line(&self) -> HeaderValue {
        self.clear.clone()
    }

    /// The same for one of those in which a client carries the state of its session, counted from 0.
    pub fn clear_carried_line(&self, at: u8) -> Option<HeaderValue> {
        header(self.line(self.carried.get(usize::from(at))?, b"", SameSite::Lax, PAST))
    }

    fn line(&self, name: &str, value: &[u8], same_site: SameSite, [label, tail]: [&str; 2]) -> Vec<u8> {
        let [none, lax, strict] = &self.attributes;
        let attributes = match same_site {
            SameSite::None => none,
            SameSite::Lax => lax,
            SameSite::Strict => strict,
        };
        [name.as_bytes(), b"=", value, attributes, label.as_bytes(), tail.as_bytes()].concat()
    }
}

impl fmt::Debug for GuardCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardCookie({})", self.name)
    }
}

/// Two ways to say that a cookie is over: old browsers know the second alone.
const PAST: [&str; 2] = ["; Max-Age=0", "; Expires=Thu, 01 Jan 1970 00:00:00 GMT"];

/// The line that takes an app's cookie away from a client that should not have it: a shielded cookie from before the
/// guard was there. It reaches the cookie of this host with `Path=/`, which is what apps set; one that was set for
/// another path or a domain stays, and never passes. `None` if the name is no cookie's.
pub fn expire_line(name: &[u8]) -> Option<HeaderValue> {
    let prefixed = name.get(..2) == Some(b"__");
    let secure = if prefixed { "; Secure" } else { "" };
    let [max_age, expires] = PAST;
    let tail = ["=; Path=/", secure, max_age, expires].concat();
    is_token(name).then(|| header([name, tail.as_bytes()].concat())).flatten()
}

fn header(line: Vec<u8>) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(line)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn attributes(settings: &GuardCookieSettings, same_site: SameSite, domain: Option<&str>) -> Vec<u8> {
    let secure = match settings.transport {
        GuardTransport::Secure => "; Secure",
        GuardTransport::InsecureHttp => "",
    };
    let (label, domain) = domain.map_or(("", ""), |domain| ("; Domain=", domain));
    let partitioned = match settings.partition {
        Partition::None => "",
        Partition::BySite => "; Partitioned",
    };
    let parts =
        [secure, "; HttpOnly; SameSite=", same_site.as_str(), "; Path=", &settings.path, label, domain, partitioned];
    parts.concat().into_bytes()
}

fn check_path(path: &str) -> Result<(), GuardCookieError> {
    let fits = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    if fits { Ok(()) } else { Err(GuardCookieError::Path) }
}

fn check_name(name: &str, is_bound_to_host: bool, transport: GuardTransport) -> Result<(), GuardCookieError> {
    if !is_token(name.as_bytes()) || name.len() > NAME_BYTES_MAX {
        return Err(GuardCookieError::Name);
    }
    // Browsers know the prefixes in any case; we write them in one.
    let prefixed = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    match (transport, is_bound_to_host) {
        (GuardTransport::InsecureHttp, _) if prefixed("__Host-") || prefixed("__Secure-") || prefixed("__Http-") => {
            Err(GuardCookieError::PrefixOverHttp)
        }
        (GuardTransport::Secure, true) if !name.starts_with("__Host-") => Err(GuardCookieError::NeedsHostPrefix),
        (GuardTransport::Secure, false) if !name.starts_with("__Secure-") => Err(GuardCookieError::NeedsSecurePrefix),
        _ => Ok(()),
    }
}

/// A host name in lower case and without a leading dot.
fn parse_domain(text: &str) -> Result<String, GuardCookieError> {
    let domain = text.strip_prefix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = domain.contains('.') && domain.split('.').all(label) && domain.len() <= DOMAIN_BYTES_MAX;
    if is_name && domain.parse::<IpAddr>().is_err() { Ok(domain) } else { Err(GuardCookieError::Domain) }
}

/// `cookie-octet` of RFC 6265 section 4.1.1.
const fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::super::{SetCookie, SetCookieError};
    use super::*;
    use proptest::prelude::*;

    fn cookie(settings: &GuardCookieSettings) -> GuardCookie {
        GuardCookie::try_new(settings).unwrap()
    }

    fn shared() -> GuardCookieSettings {
        GuardCookieSettings {
            name: "__Secure-portcullis".to_owned(),
            domain: Some(".Example.org".to_owned()),
            ..GuardCookieSettings::default()
        }
    }

    #[track_caller]
    fn check(line: &HeaderValue, expected: &str) {
        assert_eq!(line.to_str().unwrap(), expected);
        assert!(line.is_sensitive());
    }

    #[test]
    fn the_default_cookie_to_the_octet() {
        let cookie = cookie(&GuardCookieSettings::default());
        check(
            &cookie.set_line("id.tag", None, None),
            "__Host-portcullis=id.tag; Secure; HttpOnly; SameSite=Lax; Path=/",
        );
        check(
            &cookie.set_line("id.tag", Some(Duration::from_millis(90_999)), Some(SameSite::None)),
            "__Host-portcullis=id.tag; Secure; HttpOnly; SameSite=Lax; Path=/; Max-Age=90",
        );
        check(
            &cookie.clear_line(),
            "__Host-portcullis=; Secure; HttpOnly; SameSite=Lax; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        );
    }

    #[test]
    fn the_other_variants_to_the_octet() {
        check(
            &cookie(&GuardCookieSettings::insecure_http()).set_line("v", None, None),
            "portcullis=v; HttpOnly; SameSite=Lax; Path=/",
        );
        check(
            &cookie(&shared()).set_line("v", None, None),
            "__Secure-portcullis=v; Secure; HttpOnly; SameSite=Lax; Path=/; Domain=example.org",
        );
        check(
            &cookie(&shared()).clear_line(),
            "__Secure-portcullis=; Secure; HttpOnly; SameSite=Lax; Path=/; Domain=example.org; Max-Age=0; \
             Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        );
    }

    #[test]
    fn what_carries_a_state_is_as_safe_as_what_carries_the_id() {
        for settings in [GuardCookieSettings::default(), GuardCookieSettings::insecure_http(), shared()] {
            let cookie = cookie(&settings);
            let other = |line: &HeaderValue, at: u8| {
                let name = format!("{}-{}=", settings.name, at + 1);
                line.to_str().unwrap().replacen(&format!("{}=", settings.name), &name, 1)
            };
            for at in 0..CARRIED_COOKIES_MAX {
                let (age, site) = (Some(Duration::from_secs(90)), Some(SameSite::Lax));
                let line = cookie.set_carried_line(at, "1.v", age, site).unwrap();
                check(&line, &other(&cookie.set_line("1.v", age, site), at));
                assert!(line.is_sensitive());
                check(&cookie.clear_carried_line(at).unwrap(), &other(&cookie.clear_line(), at));
            }
            assert_eq!(cookie.set_carried_line(CARRIED_COOKIES_MAX, "v", None, None), None);
            assert_eq!(cookie.set_carried_line(0, "v; Domain=x", None, None), None);
            assert_eq!(cookie.clear_carried_line(CARRIED_COOKIES_MAX), None);
        }
    }

    #[test]
    fn a_leftover_cookie_of_the_app_is_expired() {
        check(
            &expire_line(b"sessionid").unwrap(),
            "sessionid=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        );
        check(
            &expire_line(b"__Host-sid").unwrap(),
            "__Host-sid=; Path=/; Secure; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        );
        assert_eq!(expire_line(b"a; Domain=x"), None);
        assert_eq!(expire_line(b""), None);
    }

    #[test]
    fn same_site_may_come_from_the_app() {
        let app = |settings| cookie(&GuardCookieSettings { same_site: GuardSameSite::App, ..settings });
        let secure = app(GuardCookieSettings::default());
        let part = |line: HeaderValue, site| line.to_str().unwrap().contains(&format!("; SameSite={site};"));
        assert!(part(secure.set_line("v", None, Some(SameSite::None)), "None"));
        assert!(part(secure.set_line("v", None, Some(SameSite::Strict)), "Strict"));
        assert!(part(secure.set_line("v", None, None), "Lax"));
        let insecure = app(GuardCookieSettings::insecure_http());
        assert!(part(insecure.set_line("v", None, Some(SameSite::None)), "Lax"));
    }

    #[test]
    fn max_age_stays_within_what_browsers_keep_and_never_deletes() {
        let cookie = cookie(&GuardCookieSettings::default());
        let ends =
            |span| cookie.set_line("v", Some(span), None).to_str().unwrap().rsplit('=').next().map(str::to_owned);
        assert_eq!(ends(Duration::MAX).as_deref(), Some("34560000"));
        assert_eq!(ends(Duration::ZERO).as_deref(), Some("1"));
    }

    #[test]
    fn a_cookie_that_browsers_would_drop_or_neighbours_could_set_is_refused() {
        let check = |change: fn(&mut GuardCookieSettings), mut settings: GuardCookieSettings, error| {
            change(&mut settings);
            assert_eq!(GuardCookie::try_new(&settings).err(), Some(error), "{settings:?}");
        };
        let default = GuardCookieSettings::default;
        check(|settings| settings.name = String::new(), default(), GuardCookieError::Name);
        check(|settings| settings.name = "__Host-a b".to_owned(), default(), GuardCookieError::Name);
        check(|settings| settings.name = format!("__Host-{}", "x".repeat(128)), default(), GuardCookieError::Name);
        check(|settings| settings.name = "sid".to_owned(), default(), GuardCookieError::NeedsHostPrefix);
        check(|settings| settings.name = "__host-sid".to_owned(), default(), GuardCookieError::NeedsHostPrefix);
        check(|settings| settings.name = "__Host-sid".to_owned(), shared(), GuardCookieError::NeedsSecurePrefix);
        for domain in ["com", "", ".", "a..b", "1.2.3.4", "::1", "a.b:80", "a.b/c", "a;b.c", "-a.b", "\u{e9}.org"] {
            let settings = GuardCookieSettings { domain: Some(domain.to_owned()), ..shared() };
            assert_eq!(GuardCookie::try_new(&settings).err(), Some(GuardCookieError::Domain), "{domain}");
        }
        let below = || GuardCookieSettings { path: "/app".to_owned(), ..default() };
        check(|_| (), below(), GuardCookieError::NeedsSecurePrefix);
        for path in ["", "app", "/a;b", "/a b", "/\u{e9}", "/\r\n"] {
            let settings = GuardCookieSettings { path: path.to_owned(), ..shared() };
            assert_eq!(GuardCookie::try_new(&settings).err(), Some(GuardCookieError::Path), "{path}");
        }
        let insecure = GuardCookieSettings::insecure_http;
        check(|settings| settings.partition = Partition::BySite, insecure(), GuardCookieError::PartitionedOverHttp);
        check(|settings| settings.name = "__HOST-x".to_owned(), insecure(), GuardCookieError::PrefixOverHttp);
        check(|settings| settings.name = "__Secure-x".to_owned(), insecure(), GuardCookieError::PrefixOverHttp);
        check(
            |settings| settings.same_site = GuardSameSite::Fixed(SameSite::None),
            insecure(),
            GuardCookieError::NoneOverHttp,
        );
    }

    #[test]
    fn it_lasts_as_long_as_the_jar_and_never_beyond_the_absolute_end() {
        let at = Timestamp::from_secs;
        let check = |persist: Persist, jar, expected: Option<u64>| {
            let span = persist.max_age(jar, at(1000), at(400));
            assert_eq!(span, expected.map(Duration::from_secs));
        };
        check(Persist::Session, Some(at(900)), None);
        check(Persist::App, None, None);
        check(Persist::App, Some(at(900)), Some(500));
        check(Persist::App, Some(at(5000)), Some(600));
        check(Persist::Absolute, None, Some(600));
    }

    proptest! {
        #[test]
        fn no_value_writes_an_attribute(value in "\\PC{0,20}|[ -~]{0,20}|[a-z.;]{0,6}") {
            let cookie = cookie(&GuardCookieSettings::default());
            let line = cookie.set_line(&value, None, None);
            let read = SetCookie::parse(line.as_bytes());
            prop_assert_ne!(read, Err(SetCookieError::Control));
            let read = read.unwrap();
            prop_assert!(read.secure && read.http_only && read.domain.is_none());
            prop_assert_eq!(read.path, Some(b"/".as_slice()));
            prop_assert!(read.pair.value == value.as_bytes() || line == cookie.clear_line());
        }
    }
}
