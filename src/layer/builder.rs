//! A guard for an app that has no configuration file: the defaults of the program, changed where need be.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::engine::{Guard, Places, Setup};
use crate::entropy::{Entropy, EntropyError, OsEntropy};
use crate::event::queue::{EventQueue, EventSender, Settings};
use crate::event::sink::{Sink, TracingSink};
use crate::limit::{LimitSettings, Limits};
use crate::net::PrefixSet;
use crate::rules::{Binds, CookiePolicy, Enforcement, OnOutage, Pack, PathCheck, Policy, SessionPolicy};
use crate::secret::Keyring;
use crate::session::cookie::{
    CookieKind, CookieNames, CookiePattern, GuardCookie, GuardCookieError, GuardCookieSettings, Hardening,
    PatternError, Persist, ShieldName,
};
use crate::session::data::{DATA_BYTES_MAX_DEFAULT, DATA_BYTES_MAX_MAX};
use crate::session::expiry::Deadlines;
use crate::signal::Scoring;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::verdict::Mode;

/// No guard can be made of this.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The guard's cookie.
    #[error(transparent)]
    Cookie(#[from] GuardCookieError),
    /// The name of a shielded cookie.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// No keys could be made.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The thread that hands events to `tracing` could not be started.
    #[error("the thread that tells events can not be started: is the limit of processes too low?")]
    Events(#[source] std::io::Error),
}

/// Events of a guard without sinks of its own that may wait to be told. Each takes a kilobyte when it is used for the first time.
const PLACES: usize = 1024;

/// Makes a guard.
///
/// Sessions end after 30 minutes without use and 12 hours after login; verdicts are enforced; requests are limited by
/// address and session as in the program.
#[derive(Debug)]
pub struct GuardBuilder<S> {
    store: S,
    cookie: GuardCookieSettings,
    shield: Vec<String>,
    keys: Option<Keyring>,
    limits: LimitSettings,
    mode: Mode,
    deadlines: Deadlines,
    persist: Persist,
    touch_every: Duration,
    data_bytes_max: usize,
    on_outage: OnOutage,
    trusted_proxies: PrefixSet,
    places: Places,
    events: Option<EventSender>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl GuardBuilder<MemoryStore> {
    /// A guard that keeps sessions in memory: a restart ends them all.
    pub fn in_memory() -> Self {
        Self::new(MemoryStore::default())
    }
}

impl<S: Store> GuardBuilder<S> {
    /// A guard over a store.
    pub fn new(store: S) -> Self {
        Self {
            store,
            cookie: GuardCookieSettings::default(),
            shield: Vec::new(),
            keys: None,
            limits: LimitSettings::default(),
            mode: Mode::Enforce,
            deadlines: Deadlines {
                idle: Duration::from_secs(30 * 60),
                absolute: Duration::from_secs(12 * 3600),
                longest: None,
            },
            persist: Persist::Session,
            touch_every: Duration::from_secs(60),
            data_bytes_max: DATA_BYTES_MAX_DEFAULT,
            on_outage: OnOutage::Deny,
            trusted_proxies: PrefixSet::default(),
            places: Places::unknown(),
            events: None,
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(OsEntropy),
        }
    }

    /// The guard's own cookie; by default `__Host-portcullis`, `Secure`, `SameSite=Lax`.
    #[must_use]
    pub fn cookie(mut self, cookie: GuardCookieSettings) -> Self {
        self.cookie = cookie;
        self
    }

    /// A cookie without `Secure`, for development over plain http: anyone on the way can read the session.
    #[must_use]
    pub fn insecure_http(self) -> Self {
        self.cookie(GuardCookieSettings::insecure_http())
    }

    /// A cookie of the app that the client never sees: `sessionid`, or `remember_*`.
    #[must_use]
    pub fn shield(mut self, name: &str) -> Self {
        self.shield.push(name.to_owned());
        self
    }

    /// The keys of cookies and jars; by default new ones, so that a restart ends all sessions whatever the store keeps.
    #[must_use]
    pub fn keys(mut self, keys: Keyring) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Rate limits.
    #[must_use]
    pub fn limits(mut self, limits: LimitSettings) -> Self {
        self.limits = limits;
        self
    }

    /// Whether verdicts are obeyed, or only reported.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How long sessions last.
    #[must_use]
    pub const fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// Whether the cookie outlives the browser; by default it does not. A session may say otherwise of itself.
    #[must_use]
    pub const fn persist(mut self, persist: Persist) -> Self {
        self.persist = persist;
        self
    }

    /// Writes the last use of a session with every request, and not at most once a minute: exact, and a write each time.
    #[must_use]
    pub const fn save_every_request(mut self) -> Self {
        self.touch_every = Duration::ZERO;
        self
    }

    /// Bytes that an app may keep in a session; by default [`DATA_BYTES_MAX_DEFAULT`], at most [`DATA_BYTES_MAX_MAX`].
    #[must_use]
    pub fn data_bytes_max(mut self, bytes: usize) -> Self {
        self.data_bytes_max = bytes.min(DATA_BYTES_MAX_MAX);
        self
    }

    /// What happens to requests that show a session while the store is out; by default they are refused. A route of the policy
    /// may say otherwise.
    #[must_use]
    pub const fn on_outage(mut self, on_outage: OnOutage) -> Self {
        self.on_outage = on_outage;
        self
    }

    /// Proxies whose word on the client's address is believed.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: PrefixSet) -> Self {
        self.trusted_proxies = proxies;
        self
    }

    /// Looks up where an address is.
    #[must_use]
    pub fn places(mut self, places: Places) -> Self {
        self.places = places;
        self
    }

    /// Where events go; by default to `tracing`, under [`TRACING_TARGET`](crate::event::sink::TRACING_TARGET): the app's
    /// filter decides whether they are seen. Addresses and subjects are as they are; a [`TracingSink`] of your own can hide
    /// them. [`EventSender::null`] has events told nowhere.
    #[must_use]
    pub fn events(mut self, events: EventSender) -> Self {
        self.events = Some(events);
        self
    }

    /// The time; by default the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Randomness; by default the system's.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// The policy that these settings make, for a host that wants to change more of it (routes, logins, thresholds) and
    /// builds its guard by hand or calls [`Guard::replace_policy`].
    ///
    /// # Errors
    /// When the names of cookies are none, or do not go together.
    pub fn policy(&self) -> Result<Policy, BuildError> {
        let shield = self
            .shield
            .iter()
            .map(|name| CookiePattern::parse(name).map(|pattern| ShieldName { pattern, kind: CookieKind::Id }));
        let shield = shield.collect::<Result<Vec<_>, _>>()?;
        Ok(Policy {
            revision: 1,
            mode: self.mode,
            enforcement: Enforcement::Full,
            session: SessionPolicy {
                deadlines: self.deadlines,
                rotate_every: Duration::from_secs(2 * 60),
                grace: Duration::from_secs(60),
                quarantine_max: Duration::from_secs(10 * 60),
                touch_every: self.touch_every,
                tombstones: Duration::from_secs(24 * 3600),
                per_subject_max: None,
                adopt_until: None,
                memory: crate::rules::Memory::default(),
                data_bytes_max: self.data_bytes_max,
            },
            cookies: CookiePolicy {
                guard: GuardCookie::try_new(&self.cookie)?,
                persist: self.persist,
                names: CookieNames::try_new(&self.cookie.name, shield, std::iter::empty())?,
                binds: Binds::Nothing,
                hardening: Hardening::default(),
                hints: crate::rules::ExactHints::default(),
            },
            logins: Vec::new(),
            logouts: Vec::new(),
            routes: Vec::new(),
            rules: crate::rules::load::packs(&[Pack::Baseline1]),
            scoring: Scoring::default(),
            on_outage: self.on_outage,
            path_check: PathCheck::Protected,
            trusted_proxies: self.trusted_proxies.clone(),
        })
    }

    /// The guard. One that is given no place for its events starts a thread that tells them, and ends it when the guard is
    /// dropped: what waits then is told first, for two seconds at most. Such events are not kept, so no answer can wait for
    /// them (`sync = "before-reply"` of a rule is counted as unmet).
    ///
    /// # Errors
    /// When there is no randomness for keys, no thread to be had for events, or the names of cookies are none or do not go together.
    pub fn build(self) -> Result<Guard<S>, BuildError> {
        let policy = self.policy()?;
        let keys = match self.keys {
            Some(keys) => keys,
            None => Keyring::generate(&self.entropy)?,
        };
        let (events, writer) = match self.events {
            Some(events) => (events, None),
            None => {
                let settings = Settings { places: PLACES, ..Settings::default() };
                let sinks: Vec<Box<dyn Sink>> = vec![Box::new(TracingSink::new())];
                let (events, writer) =
                    EventQueue::start(&settings, self.clock.clone(), sinks).map_err(BuildError::Events)?;
                (events, Some(writer))
            }
        };
        let guard = Guard::new(Setup {
            store: self.store,
            policy,
            keys,
            places: self.places,
            limits: Limits::new(&self.limits),
            events,
            clock: self.clock,
            entropy: self.entropy,
        });
        Ok(match writer {
            Some(writer) => guard.with_writer(writer),
            None => guard,
        })
    }
}
