//! Rate limits by key, bounded in memory.
//!
//! Every function takes the time it is asked at and does no I/O. A limit that is off costs nothing. Each limit has a
//! table of its own, which grows with the keys that owe something up to `keys_max` slots of 16 bytes.
//!
//! | Limit | Counted per | Over it |
//! |---|---|---|
//! | `client` | address (IPv6: its /64) | 429 |
//! | `prefix` | /24 of IPv4, /48 of IPv6 | 429 |
//! | `session` | session | 429 |
//! | `subject` | subject | 429 |
//! | route | route and client: one client can not use up a route for all | 429 |
//! | `anonymous_sessions` | prefix | the page is served, the session is not stored |
//! | `guesses` | client | the client is guessing session ids |
//! | login | client, known device, subject: see [`LoginThrottle`] | 429 |

mod common;
mod devices;
mod headers;
mod keyed;
mod login;
mod rate;
mod table;

use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

pub use common::{DeviceInCommon, LoginsInCommon};
pub use devices::{KNOWN_DEVICE_DAYS, KNOWN_DEVICES_BYTES_MAX, KNOWN_DEVICES_MAX, KnownDevices, Looks};
pub use headers::{RATELIMIT, RATELIMIT_POLICY};
pub use keyed::{KeyedLimiter, Outcome};
pub use login::{Attempt, DELAY_MAX, Device, DeviceKey, KnownDevice, LoginLimit, LoginThrottle, Side};
pub use rate::{DurationError, Rate, RateError, Spelled, parse_duration};

use crate::clock::Timestamp;
use crate::secret::Seed;
use crate::session::id::SessionDigest;
use crate::session::subject::folded;
use crate::store::debts::Change;
use keyed::{KeyHasher, Ledger};

/// A client by its address: all of IPv4, the first 64 bits of IPv6, because one household or server is given that many
/// addresses to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey(pub u64);

impl ClientKey {
    /// The key of a client's address. An IPv4 address written as IPv6 (`::ffff:192.0.2.1`) is the IPv4 address.
    pub const fn new(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(V4 | ip.to_bits() as u64),
            IpAddr::V6(ip) => Self(high(ip.to_bits())),
        }
    }
}

/// The network of a client: /24 of IPv4, /48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixKey(pub u64);

impl PrefixKey {
    /// The key of the network that a client's address is in.
    pub const fn new(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(V4 | (ip.to_bits() >> 8) as u64),
            IpAddr::V6(ip) => Self(high(ip.to_bits()) >> 16),
        }
    }
}

/// Stands above an IPv4 address in a key. Read as the beginning of an IPv6 address it lies in `::/8`, which is reserved.
const V4: u64 = 0xffff << 32;

const fn high(bits: u128) -> u64 {
    (bits >> 64) as u64
}

/// A subject by a keyed hash: the name itself is kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKey(u64);

/// Makes keys of subjects, under a random key of its own.
///
/// Spellings that an app may take for one are one here ([`folded`]). Otherwise `alice`, `Alice` and `alice ` would be three
/// subjects to the limits and one to the app.
#[derive(Clone, Debug)]
pub struct SubjectHasher(KeyHasher);

impl Default for SubjectHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl SubjectHasher {
    /// A hasher whose keys agree with no other's.
    pub fn new() -> Self {
        Self(KeyHasher::random())
    }

    fn in_common(seed: Seed) -> Self {
        Self(KeyHasher::of(seed, "subjects"))
    }

    /// The key of a subject.
    pub fn key(&self, subject: &str) -> SubjectKey {
        SubjectKey(self.0.hash_one(&*folded(subject)))
    }
}

/// Which limit was met: the name that a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitName {
    /// Requests of a client.
    Client,
    /// Requests of a network.
    Prefix,
    /// Requests of a session.
    Session,
    /// Requests of a subject.
    Subject,
    /// Requests of a client to a route.
    Route,
    /// New anonymous sessions of a network.
    AnonymousSessions,
    /// Session ids of a client that were never issued.
    Guesses,
    /// Login attempts of a client.
    Login,
    /// Login attempts on a subject; a client is told the same of both.
    LoginOnSubject,
}

impl LimitName {
    /// As it is written in headers and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Prefix => "prefix",
            Self::Session => "session",
            Self::Subject => "subject",
            Self::Route => "route",
            Self::AnonymousSessions => "anonymous_sessions",
            Self::Guesses => "guesses",
            Self::Login | Self::LoginOnSubject => "login",
        }
    }
}

/// A limit said no. [`Refusal::put_headers`] tells the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limit {} reached, again in {}s", limit.as_str(), retry_after.as_secs())]
pub struct Refusal {
    /// Which limit.
    pub limit: LimitName,
    /// Its rate; `None` for the growing delay of logins.
    pub rate: Option<Rate>,
    /// Whole seconds, one or more, until one is allowed again.
    pub retry_after: Duration,
}

impl Refusal {
    fn unless_allowed<K: Hash + ?Sized>(
        limit: LimitName,
        limiter: Option<&KeyedLimiter<K>>,
        key: &K,
        now: Timestamp,
    ) -> Result<(), Self> {
        limiter.map_or(Ok(()), |limiter| Self::unless(limit, limiter.rate(), limiter.take(key, now)))
    }

    fn unless_free<K: Hash + ?Sized>(
        limit: LimitName,
        limiter: Option<&KeyedLimiter<K>>,
        key: &K,
        now: Timestamp,
    ) -> Result<(), Self> {
        limiter.map_or(Ok(()), |limiter| Self::unless(limit, limiter.rate(), limiter.look(key, now)))
    }

    fn unless(limit: LimitName, rate: Rate, outcome: Outcome) -> Result<(), Self> {
        match outcome {
            Outcome::Allowed { .. } => Ok(()),
            Outcome::Limited { retry_after } => Err(Self { limit, rate: Some(rate), retry_after }),
        }
    }
}

/// What is limited, and how. `None`: not limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Requests of a client.
    pub client: Option<Rate>,
    /// Requests of a network. Off by default: one network may be a whole country's phones.
    pub prefix: Option<Rate>,
    /// Requests of a session.
    pub session: Option<Rate>,
    /// Requests of a subject over all of its sessions.
    pub subject: Option<Rate>,
    /// New anonymous sessions of a network.
    pub anonymous_sessions: Option<Rate>,
    /// Session ids of a client that were unknown, forged or malformed.
    pub guesses: Option<Rate>,
    /// For each route of the configuration, in its order.
    pub routes: Vec<Option<Rate>>,
    /// For each login route of the configuration, in its order.
    pub logins: Vec<LoginLimit>,
    /// Keys that each limit can tell apart; 16 bytes each.
    pub keys_max: NonZeroUsize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        // A literal that does not parse would be `None`: the test below would see it.
        let rate = |text| Rate::parse(text).ok().flatten();
        Self {
            client: rate("100/1s burst 200"),
            prefix: None,
            session: rate("50/1s burst 100"),
            subject: None,
            anonymous_sessions: rate("600/1m"),
            guesses: rate("30/1m burst 60"),
            routes: Vec::new(),
            logins: Vec::new(),
            keys_max: NonZeroUsize::new(1_000_000).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// All limits of a guard.
#[derive(Debug)]
pub struct Limits {
    settings: LimitSettings,
    /// What names of keys are made with if several guards count together.
    seed: Option<Seed>,
    client: Option<KeyedLimiter<ClientKey>>,
    prefix: Option<KeyedLimiter<PrefixKey>>,
    session: Option<KeyedLimiter<u64>>,
    subject: Option<KeyedLimiter<SubjectKey>>,
    subjects: SubjectHasher,
    anonymous_sessions: Option<KeyedLimiter<PrefixKey>>,
    guesses: Option<KeyedLimiter<ClientKey>>,
    routes: Vec<Option<KeyedLimiter<ClientKey>>>,
    logins: Vec<LoginThrottle>,
}

/// Most keys that other guards are told of at one time.
pub const DUE_MAX: usize = 4096;

/// What was taken here of one of the limits that several guards count together.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    limit: usize,
    /// What they are to be told.
    pub change: Change,
}

impl Limits {
    /// Limits that have counted nothing yet.
    pub fn new(settings: &LimitSettings) -> Self {
        Self::made(settings.clone(), None)
    }

    /// The same limits for a guard that counts together with all that have the same seed. They have counted nothing yet.
    ///
    /// Each guard counts for itself, and tells the others now and then what was taken ([`due`](Self::due)): nothing has to
    /// wait for a store, and what somebody takes in between he takes of each guard.
    #[must_use]
    pub fn in_common(&self, seed: Seed) -> Self {
        Self::made(self.settings.clone(), Some(seed))
    }

    /// Whether they are counted together with all that have that seed.
    pub fn are_in_common(&self, seed: Seed) -> bool {
        self.seed == Some(seed)
    }

    fn made(settings: LimitSettings, seed: Option<Seed>) -> Self {
        let keys_max = settings.keys_max;
        fn limiter<K: Hash>(
            rate: Option<Rate>,
            keys_max: NonZeroUsize,
            seed: Option<Seed>,
            name: &str,
        ) -> Option<KeyedLimiter<K>> {
            let rate = rate?;
            Some(match seed {
                Some(seed) => KeyedLimiter::in_common(rate, keys_max, KeyHasher::of(seed, name)),
                None => KeyedLimiter::new(rate, keys_max),
            })
        }
        let route = |(at, rate): (usize, &Option<Rate>)| limiter(*rate, keys_max, seed, &format!("route {at}"));
        Self {
            seed,
            client: limiter(settings.client, keys_max, seed, "client"),
            prefix: limiter(settings.prefix, keys_max, seed, "prefix"),
            session: limiter(settings.session, keys_max, seed, "session"),
            subject: limiter(settings.subject, keys_max, seed, "subject"),
            subjects: seed.map_or_else(SubjectHasher::new, SubjectHasher::in_common),
            anonymous_sessions: limiter(settings.anonymous_sessions, keys_max, seed, "anonymous"),
            guesses: limiter(settings.guesses, keys_max, seed, "guesses"),
            routes: settings.routes.iter().enumerate().map(route).collect(),
            logins: settings.logins.iter().map(|limit| LoginThrottle::new(limit, keys_max)).collect(),
            settings,
        }
    }

    fn ledgers(&self) -> impl Iterator<Item = Option<&Ledger>> {
        fn of<K: Hash>(limiter: Option<&KeyedLimiter<K>>) -> Option<&Ledger> {
            limiter.map(KeyedLimiter::ledger)
        }
        let of_all = [
            of(self.client.as_ref()),
            of(self.prefix.as_ref()),
            of(self.session.as_ref()),
            of(self.subject.as_ref()),
            of(self.anonymous_sessions.as_ref()),
            of(self.guesses.as_ref()),
        ];
        of_all.into_iter().chain(self.routes.iter().map(|route| of(route.as_ref())))
    }

    /// What was taken since this was asked last, that long ago. Who took but a small part of what he may is left out, and of more
    /// than [`DUE_MAX`] those who took the smallest part: a spray of addresses must not keep the store busy. Whoever is over his
    /// limit is asked about the next time then.
    pub fn due(&self, since: Duration) -> Vec<Due> {
        let due = |(limit, ledger): (usize, Option<&Ledger>)| {
            let changes = ledger.map_or_else(Vec::new, |ledger| ledger.due(since));
            changes.into_iter().map(move |change| Due { limit, change })
        };
        let mut all: Vec<Due> = self.ledgers().enumerate().flat_map(due).collect();
        if all.len() > DUE_MAX {
            all.select_nth_unstable_by_key(DUE_MAX, |due| std::cmp::Reverse(due.change.step.share()));
            for due in all.drain(DUE_MAX..).filter(|due| due.change.step.is_question()) {
                if let Some(ledger) = self.ledgers().nth(due.limit).flatten() {
                    ledger.ask_again(due.change.key);
                }
            }
        }
        all
    }

    /// Learns what came of that: until when he owes something to all guards together.
    pub fn learn(&self, due: &Due, until: Timestamp, now: Timestamp) {
        if let Some(ledger) = self.ledgers().nth(due.limit).flatten() {
            ledger.learn(due.change.key, until, now);
        }
    }

    /// Counts a request of a client and of its network.
    ///
    /// # Errors
    /// When either is over its limit.
    pub fn request(&self, ip: IpAddr, now: Timestamp) -> Result<(), Refusal> {
        Refusal::unless_allowed(LimitName::Client, self.client.as_ref(), &ClientKey::new(ip), now)?;
        Refusal::unless_allowed(LimitName::Prefix, self.prefix.as_ref(), &PrefixKey::new(ip), now)
    }

    /// Counts a request of a client to the route of that index.
    ///
    /// # Errors
    /// When the client is over the limit of the route.
    pub fn route(&self, route: usize, ip: IpAddr, now: Timestamp) -> Result<(), Refusal> {
        let limiter = self.routes.get(route).and_then(Option::as_ref);
        Refusal::unless_allowed(LimitName::Route, limiter, &ClientKey::new(ip), now)
    }

    /// Counts a request of a session.
    ///
    /// # Errors
    /// When it is over its limit.
    pub fn session(&self, session: &SessionDigest, now: Timestamp) -> Result<(), Refusal> {
        Refusal::unless_allowed(LimitName::Session, self.session.as_ref(), &session.spread(), now)
    }

    /// Counts a request of a subject.
    ///
    /// # Errors
    /// When it is over its limit.
    pub fn subject(&self, subject: &str, now: Timestamp) -> Result<(), Refusal> {
        match &self.subject {
            Some(limiter) => {
                Refusal::unless_allowed(LimitName::Subject, Some(limiter), &self.subjects.key(subject), now)
            }
            None => Ok(()),
        }
    }

    /// Counts a new anonymous session of a client's network.
    ///
    /// # Errors
    /// When there were too many: the page is to be served, the session not stored.
    pub fn anonymous_session(&self, ip: IpAddr, now: Timestamp) -> Result<(), Refusal> {
        let limiter = self.anonymous_sessions.as_ref();
        Refusal::unless_allowed(LimitName::AnonymousSessions, limiter, &PrefixKey::new(ip), now)
    }

    /// Counts a session id that was unknown, forged or malformed.
    ///
    /// # Errors
    /// When the client has shown so many that it must be guessing.
    pub fn guess(&self, ip: IpAddr, now: Timestamp) -> Result<(), Refusal> {
        Refusal::unless_allowed(LimitName::Guesses, self.guesses.as_ref(), &ClientKey::new(ip), now)
    }

    /// The throttle of the login route of that index.
    pub fn login(&self, login: usize) -> Option<&LoginThrottle> {
        self.logins.get(login)
    }

    /// The same for all guards that have the same seed.
    pub fn login_in_common(&self, login: usize, seed: Seed) -> Option<LoginsInCommon<'_>> {
        self.logins.get(login).map(|throttle| LoginsInCommon::new(throttle, login, seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_795_257_972);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_64() {
        let key = |text| ClientKey::new(ip(text));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("0.0.0.0"), key("::"));
    }

    #[test]
    fn a_network_is_an_ipv4_24_or_an_ipv6_48() {
        let key = |text| PrefixKey::new(ip(text));
        assert_eq!(key("192.0.2.1"), key("192.0.2.255"));
        assert_ne!(key("192.0.2.1"), key("192.0.3.1"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:ffff::1"));
        assert_ne!(key("2001:db8:1::1"), key("2001:db8:2::1"));
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let defaults = LimitSettings::default();
        let shown = |rate: Option<Rate>| rate.map_or_else(|| "off".to_owned(), |rate| rate.to_string());
        let rates = [defaults.client, defaults.prefix, defaults.session, defaults.subject, defaults.anonymous_sessions];
        assert_eq!(rates.map(shown), ["100/1s burst 200", "off", "50/1s burst 100", "off", "600/1m"]);
        assert_eq!(shown(defaults.guesses), "30/1m burst 60");
        let login = LoginLimit::default();
        assert_eq!([login.per_client, login.per_subject].map(shown), ["10/1m burst 3", "5/5m burst 3"]);
    }

    fn one_each() -> Limits {
        let once = Rate::parse("1/1m burst 1").unwrap();
        Limits::new(&LimitSettings {
            client: once,
            prefix: None,
            session: once,
            subject: once,
            anonymous_sessions: once,
            guesses: once,
            routes: vec![None, once],
            logins: vec![LoginLimit::default()],
            keys_max: NonZeroUsize::new(1024).unwrap(),
        })
    }

    #[test]
    fn each_limit_counts_for_itself_and_by_its_own_key() {
        let limits = one_each();
        let (here, there) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let digest = |byte| SessionDigest([byte; 32]);
        let twice = |take: &dyn Fn() -> Result<(), Refusal>| {
            assert_eq!(take(), Ok(()));
            take().unwrap_err().limit
        };
        assert_eq!(twice(&|| limits.request(here, START)), LimitName::Client);
        assert_eq!(limits.request(there, START), Ok(()));
        assert_eq!(twice(&|| limits.session(&digest(1), START)), LimitName::Session);
        assert_eq!(limits.session(&digest(2), START), Ok(()));
        assert_eq!(twice(&|| limits.subject("alice", START)), LimitName::Subject);
        assert_eq!(limits.subject("bob", START), Ok(()));
        assert_eq!(twice(&|| limits.route(1, here, START)), LimitName::Route);
        assert_eq!(limits.route(1, there, START), Ok(()));
        assert_eq!(twice(&|| limits.guess(here, START)), LimitName::Guesses);
        // Both are in one network.
        assert_eq!(limits.anonymous_session(here, START), Ok(()));
        assert_eq!(limits.anonymous_session(there, START).unwrap_err().limit, LimitName::AnonymousSessions);
        assert!(limits.login(0).is_some() && limits.login(1).is_none());
    }

    #[test]
    fn a_limit_that_is_off_never_refuses() {
        let limits = one_each();
        assert!((0..1000).all(|_| limits.route(0, ip("192.0.2.1"), START).is_ok()));
        assert!((0..1000).all(|_| limits.route(9, ip("192.0.2.1"), START).is_ok()));
    }

    #[test]
    fn a_refusal_reads_as_a_sentence() {
        let limits = one_each();
        limits.request(ip("192.0.2.1"), START).unwrap();
        let refusal = limits.request(ip("192.0.2.1"), START).unwrap_err();
        assert_eq!(refusal.to_string(), "limit client reached, again in 60s");
        assert_eq!(refusal.retry_after, Duration::from_secs(60));
    }
}
