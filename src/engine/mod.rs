//! The guard: admit a request, settle its answer.
//!
//! [`Guard::admit`] recognises the session, weighs the evidence and prepares the request for the app;
//! [`Guard::settle`] takes what the app set, follows logins and logouts, and hands out our cookie. Between the two
//! stands the [`Admission`]: without one the app cannot be called, and one can be used only once.

mod admit;
mod adopt;
pub mod app;
mod assess;
mod awaited;
mod bound;
mod cache;
mod carried;
mod change;
pub mod control;
mod cookies;
mod counted;
pub mod cut;
mod devices;
mod facts;
mod in_turn;
mod judge;
mod login;
mod names;
mod observe;
mod odd;
pub mod open_jars;
mod operate;
pub(crate) mod outlive;
mod population;
mod recognise;
mod refusal;
mod room;
mod scene;
mod settle;
pub mod streams;
pub mod subject;
mod success;
mod tend;
mod trend;
mod update;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, Method, Uri};

use crate::clock::{Clock, Timestamp};
use crate::connection::print::Print;
use crate::connection::{ConnectionId, Scheme};
use crate::enforce::Offer;
use crate::entropy::Entropy;
use crate::event::TraceId;
use crate::event::queue::EventSender;
#[cfg(feature = "layer")]
use crate::event::queue::Writer;
use crate::facts::geo::Place;
use crate::facts::headers::Navigation;
use crate::facts::order::HeaderOrder;
use crate::facts::user_agent::UserAgentCache;
use crate::figures::Spread;
use crate::fingerprint::Fingerprint;
use crate::limit::{self, Limits};
use crate::rules::count::{Holds, RATES_MAX, Rates, Windows};
use crate::rules::{Login, Policy, Route};
use crate::secret::{Keyring, Secret};
use crate::session::data::Data;
use crate::session::id::{SessionDigest, SessionId};
use crate::session::jar::SiteContext;
use crate::session::record::Record;
use crate::session::tag::{Standing, Tag};
use crate::store::metered::Metered;
use crate::store::{Proof, Store};
use crate::verdict::{Action, Mode, Verdict};

pub use admit::Screened;
pub use awaited::EVENT_WAIT_MAX;
pub use counted::{Decisions, Done};
use cut::Cut;
pub use devices::{DevicesState, SEALED_DEVICES_BYTES_MAX};
pub use names::{NAMES_MAX, NAMES_WITHIN};
pub use observe::{Looked, Observer};
pub use operate::{SWEEP_MAX, Selection, StoreUse};
pub use refusal::{Refusal, RefusalKind};
pub use settle::AnsweredBy;
use subject::Named;
pub use tend::{LIMITS_EVERY, STREAMS_EVERY, tend};
pub use trend::{TREND_LEAST, TREND_SPAN};

/// How often a lost compare-and-swap is tried again before the answer goes out without the change.
pub(crate) const RETRIES: usize = 3;

/// How often a change that an answer asks for is tried again. Somebody gets on with every try, so as many writers of one
/// session may be under way at once.
pub(crate) const WRITERS_MAX: usize = 256;

/// The guard over one store.
pub struct Guard<S> {
    store: Metered<S>,
    /// Requests that came as far as their session.
    requests: Spread<1>,
    decided: counted::Decided,
    policy: ArcSwap<Policy>,
    keys: ArcSwap<Keyring>,
    places: ArcSwap<Places>,
    /// How often others were put in force.
    places_swapped: AtomicU64,
    limits: ArcSwap<Limits>,
    events: EventSender,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    agents: UserAgentCache,
    devices: limit::KnownDevices,
    /// Devices that subjects have logged in from without anything odd about it.
    memory: limit::KnownDevices,
    population: population::Population,
    /// Who looks on at what rules see.
    observer: Option<Arc<dyn Observer>>,
    identity: cookies::Identity,
    in_turn: in_turn::InTurn,
    /// Names that clients failed to log in with.
    names: names::Names,
    trends: trend::Trends,
    windows: Windows,
    holds: Holds,
    rates: Rates,
    /// Ids that no session goes by, by client.
    wrong: Rates,
    advised_proxy: operate::Advised,
    advised_header: operate::Advised,
    advised_crowded: operate::Advised,
    advised_transport: operate::Advised,
    advised_cookies: operate::AdvisedNames,
    advised_closed: operate::Advised,
    advised_disk: operate::Advised,
    streams: streams::Streams,
    open_jars: open_jars::OpenJars<Secret<Vec<u8>>>,
    open_data: open_jars::OpenJars<Arc<Data>>,
    /// A key was taken out of the ring that sessions of this process may have been begun under.
    has_burnt: AtomicBool,
    /// Who tells its events, if it has them told by itself.
    #[cfg(feature = "layer")]
    writer: Option<Writer>,
}

/// What a guard is made of.
#[derive(Debug)]
pub struct Setup<S> {
    /// Where sessions are kept.
    pub store: S,
    /// What is guarded how.
    pub policy: Policy,
    /// The keys of tags, jars and hashes.
    pub keys: Keyring,
    /// What is known of addresses.
    pub places: Places,
    /// Rate limits.
    pub limits: Limits,
    /// Where events go.
    pub events: EventSender,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

type Lookup<T> = dyn Fn(IpAddr) -> T + Send + Sync;

/// Looks up where an address is.
#[derive(Clone, Default)]
pub struct Places {
    find: Option<Arc<Lookup<Place>>>,
    city: Option<Arc<Lookup<Option<Box<str>>>>>,
}

impl Places {
    /// Nothing is known of any address.
    pub const fn unknown() -> Self {
        Self { find: None, city: None }
    }

    /// Asks `lookup`.
    pub fn new(lookup: impl Fn(IpAddr) -> Place + Send + Sync + 'static) -> Self {
        Self { find: Some(Arc::new(lookup)), city: None }
    }

    /// The same, with cities from `lookup`. They are asked for only if a rule reads `client.city`.
    #[must_use]
    pub fn with_cities(mut self, lookup: impl Fn(IpAddr) -> Option<Box<str>> + Send + Sync + 'static) -> Self {
        self.city = Some(Arc::new(lookup));
        self
    }

    fn find(&self, ip: IpAddr) -> Place {
        self.find.as_ref().map_or_else(Place::default, |lookup| lookup(ip))
    }

    fn city(&self, ip: IpAddr) -> Option<Box<str>> {
        self.city.as_ref().and_then(|lookup| lookup(ip))
    }
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.find.is_some() { "Places(database)" } else { "Places(unknown)" })
    }
}

/// Where an address is, as it was looked up: for a host to keep, and to give with every request of that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    ip: IpAddr,
    place: Place,
    /// Of the databases that were asked.
    swapped: u64,
}

impl Located {
    /// Where it is.
    pub const fn place(&self) -> Place {
        self.place
    }
}

/// Who asks: the client side of a request, after trusted proxies.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its address.
    pub ip: IpAddr,
    /// The scheme it used, as far as it is known.
    pub scheme: Scheme,
    /// Whether its address may be that of a proxy that nobody declared: limits by client only report then.
    pub standing: ClientStanding,
    /// What its transport looks like.
    pub print: Print,
    /// In which order its headers came, if something was taken off them since.
    pub order: Option<HeaderOrder>,
    /// Its connection, if that is one of HTTP/2 and the client's own: of these a browser has one at a time. That of a CDN, and one
    /// of HTTP/1.1, says nothing.
    pub connection: Option<ConnectionId>,
    /// Where it is, from [`Guard::locate`], if the host remembers: databases are then asked once for a connection.
    pub located: Option<Located>,
}

/// Whether a client's address is its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientStanding {
    /// As far as is known.
    #[default]
    Own,
    /// It looks like a proxy's: limits would hit everybody behind it.
    LooksLikeProxy,
}

/// What the request half decided.
#[derive(Debug)]
pub enum Decision {
    /// The app may be called. Boxed, since it goes through many hands on its way to [`Guard::settle`].
    Forward(Box<Admission>),
    /// The client gets this answer.
    Answer(Refusal),
}

/// Permit to call the app, to be settled with its answer.
#[derive(Debug)]
pub struct Admission {
    policy: Arc<Policy>,
    /// When the request came.
    asked: Timestamp,
    /// Now: that, until there is an answer.
    now: Timestamp,
    ask: Asked,
    holder: Holder,
    offer: Offer,
    verdict: Verdict,
    fingerprint: Fingerprint,
    /// What rules on the answer want to know of the request.
    seen: Option<Box<facts::Seen>>,
    /// Shielded cookies from before the guard that the client showed: what becomes of them.
    leftovers: Vec<Leftover>,
    /// The handle that an app in this process has on its session.
    app: Option<app::Handed>,
    /// How long the body of the answer is, where its head does not say so yet.
    body_bytes: Option<u64>,
    /// What the client showed of the state of a session.
    shown: carried::Shown,
    /// Events that are to be on disk before the answer goes out.
    awaited: awaited::Awaited,
}

/// How long an exchange with the app is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the client waits for the answer.
    OfClient,
    /// Until the answer is settled, also when the client has gone: the app may have ended or begun a session, and the guard
    /// must know.
    UntilSettled,
}

impl Admission {
    /// What is done with the request.
    pub fn action(&self) -> Action {
        let mode = self.policy.mode_on(self.ask.route(&self.policy));
        if mode == Mode::Enforce { self.verdict.action } else { Action::Allow }
    }

    /// How the tag stood that the request showed, if it showed one of a session.
    pub const fn standing(&self) -> Option<Standing> {
        match &self.holder {
            Holder::Session(known) | Holder::Quarantined(known) => Some(known.standing),
            Holder::Stranger | Holder::Nobody(_) => None,
        }
    }

    /// Tells how long the body of the answer is, if a host knows that and the head of the answer does not say it yet.
    pub const fn answered_with(&mut self, body_bytes: Option<u64>) {
        self.body_bytes = body_bytes;
    }

    /// How long the exchange is to go on. Known before the answer, so a `GET` that logs out counts only if the policy names
    /// it.
    pub fn lifetime(&self) -> Lifetime {
        let Asked { method, login, logout, .. } = &self.ask;
        // A stranger has no session that could be lost, and must not hold places at the app that he does not wait for. A
        // cookie from before the guard that he brings is not taken over then, and he can come with it again.
        let has_session = matches!(self.holder, Holder::Session(_) | Holder::Quarantined(_));
        let may_change = !method.is_safe() && has_session;
        if may_change || login.is_some() || *logout == Logout::Asked {
            Lifetime::UntilSettled
        } else {
            Lifetime::OfClient
        }
    }
}

/// What of the request the response half needs again. Clones of reference-counted parts.
#[derive(Debug)]
struct Asked {
    method: Method,
    uri: Uri,
    host: HeaderValue,
    client: Client,
    route: Option<usize>,
    login: Option<Attempt>,
    logout: Logout,
    kind: RequestKind,
    site: SiteContext,
    trace: Option<TraceId>,
}

/// A login that is being attempted.
#[derive(Debug)]
struct Attempt {
    /// Which of the policy's logins.
    login: usize,
    /// Who is named.
    named: Named,
    /// What it counts for if nobody can tell.
    unclear: Option<Box<str>>,
    /// Whether this client is known for that subject.
    device: limit::Device,
}

/// Whether the request asks to log out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logout {
    No,
    Asked,
}

/// What kind of request it is, for deciding what its answer may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RequestKind {
    navigation: Navigation,
    fetch: Fetch,
}

/// Whether a cookie on the answer can be trusted to reach the jar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetch {
    /// An ordinary request.
    Ordinary,
    /// A prefetch: its answer may never be looked at.
    Prefetch,
    /// A piece of a file: download programs keep a copy of the cookies of their own.
    Piece,
    /// An upgrade.
    Upgrade,
}

/// In whose name the app is called.
#[derive(Debug)]
enum Holder {
    /// Nobody's that we know; a session may come of it.
    Stranger,
    /// Nobody's, and none may come of it.
    Nobody(Nobody),
    /// A session's.
    Session(Known),
    /// A quarantined client's: it sees the app as a stranger and is given a session to log in with.
    Quarantined(Known),
}

/// Why an app is called in nobody's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nobody {
    /// The client showed an id that was replaced a moment ago.
    Replaced,
    /// The store does not answer.
    Outage,
    /// This one request goes without its session, or a rule ended what it would begin.
    HeldBack,
}

/// A session that was recognised.
#[derive(Clone, Debug)]
struct Known {
    id: SessionId,
    digest: SessionDigest,
    tag: Tag,
    record: Arc<Record>,
    standing: Standing,
}

/// What becomes of a shielded cookie that the client showed without a session of ours.
#[derive(Debug)]
enum Leftover {
    /// It is taken over into a new session.
    Adopt {
        /// Its name.
        name: Box<[u8]>,
        /// Its value.
        value: Secret<Vec<u8>>,
    },
    /// The client's copy is expired.
    Expire {
        /// Its name.
        name: Box<[u8]>,
    },
}

/// What the response half left to be done.
#[derive(Debug, Default)]
pub struct Settled {
    /// For an answer that may run for long: what ends it with its session.
    pub cut: Option<Cut>,
    /// The answer to give instead of the app's.
    pub instead: Option<Refusal>,
}

impl<S: Store> Guard<S> {
    /// A guard made of these.
    pub fn new(setup: Setup<S>) -> Self {
        // The key spreads user agents, users and devices over tables. Without randomness it falls back to a fixed one: all of
        // them stay as correct, and no session can begin either.
        let key = crate::entropy::random(&setup.entropy).unwrap_or_default();
        let now = setup.clock.now();
        let guard = Self {
            store: Metered::new(setup.store, setup.clock.clone()),
            requests: Spread::default(),
            decided: counted::Decided::default(),
            policy: ArcSwap::from_pointee(setup.policy),
            keys: ArcSwap::from_pointee(setup.keys),
            places: ArcSwap::from_pointee(setup.places),
            places_swapped: AtomicU64::new(0),
            limits: ArcSwap::from_pointee(setup.limits),
            events: setup.events,
            clock: setup.clock,
            entropy: setup.entropy,
            agents: UserAgentCache::new(key),
            devices: limit::KnownDevices::new(key),
            memory: limit::KnownDevices::new(key),
            population: population::Population::new(key),
            observer: None,
            identity: cookies::Identity::default(),
            in_turn: in_turn::InTurn::default(),
            names: names::Names::default(),
            trends: trend::Trends::new(now),
            windows: Windows::default(),
            holds: Holds::default(),
            rates: Rates::default(),
            wrong: Rates::over(WRONG_WINDOW, RATES_MAX),
            advised_proxy: operate::Advised::default(),
            advised_header: operate::Advised::default(),
            advised_crowded: operate::Advised::default(),
            advised_transport: operate::Advised::default(),
            advised_cookies: operate::AdvisedNames::default(),
            advised_closed: operate::Advised::default(),
            advised_disk: operate::Advised::default(),
            streams: streams::Streams::default(),
            open_jars: open_jars::OpenJars::new(),
            open_data: open_jars::OpenJars::new(),
            has_burnt: AtomicBool::new(false),
            #[cfg(feature = "layer")]
            writer: None,
        };
        guard.join_limits();
        guard
    }

    /// The same guard, which keeps this writer for as long as it lives.
    #[cfg(feature = "layer")]
    pub(crate) fn with_writer(mut self, writer: Writer) -> Self {
        self.writer = Some(writer);
        self
    }

    /// The same guard with somebody who looks on at what rules see: for recordings, coverage and explanations. Every request
    /// is judged at full length then.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The same guard, which does not tell the app in headers whose request it is: for one that reads its session from the
    /// handle that the layer gives it. What a client sends under their names is dropped all the same.
    #[must_use]
    pub const fn without_identity_headers(mut self) -> Self {
        self.identity = cookies::Identity::Untold;
        self
    }

    /// How many bytes of a request's body the guard wants to see before it is sent on: those of a login whose subject
    /// stands in a form or a JSON document. None for all other requests.
    pub fn peek(&self, request: &http::request::Parts) -> Option<usize> {
        let policy = self.policy.load();
        if policy.logins.is_empty() || request.method.is_safe() {
            return None;
        }
        let path = crate::facts::route::canonical_path(request.uri.path());
        let login = policy.login(&request.method, &path.path)?;
        matches!(login.subject, crate::rules::SubjectSource::Form(_) | crate::rules::SubjectSource::Json(_))
            .then_some(PEEK_BYTES_MAX)
    }

    /// The store. What is asked of it by this way is not counted.
    pub const fn store(&self) -> &S {
        self.store.inner()
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// The same for a look that waits for nothing, without counting one more who has it.
    #[cfg(feature = "layer")]
    pub(crate) fn policy_now(&self) -> arc_swap::Guard<Arc<Policy>> {
        self.policy.load()
    }

    /// Where events go.
    pub const fn events(&self) -> &EventSender {
        &self.events
    }

    /// The guard's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Puts another policy in force; requests in flight finish under the old one.
    pub fn replace_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Puts other limits in force. What they counted so far is forgotten.
    pub fn replace_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
        self.join_limits();
    }

    /// Puts another key ring in force. Where guards count together, what their limits by rate counted so far is forgotten.
    pub fn replace_keys(&self, keys: Keyring) {
        // Before: who finds the new ring finds this too. Streams end with the next sweep.
        if !keys.has_all_of(&self.keys.load()) {
            self.has_burnt.store(true, Ordering::Release);
        }
        self.keys.store(Arc::new(keys));
        self.open_jars.clear();
        self.open_data.clear();
        self.join_limits();
    }

    /// Whether a session is one of the ring's because its store has it.
    pub(crate) fn believes_records(&self) -> bool {
        match self.store.proof() {
            Proof::Key => true,
            Proof::Process => !self.has_burnt.load(Ordering::Acquire),
            Proof::None => false,
        }
    }

    /// Puts other databases of addresses in force.
    pub fn replace_places(&self, places: Places) {
        self.places.store(Arc::new(places));
        // Afterwards: who sees the new number sees the new databases. Who sees the old one may see either, and asks again.
        self.places_swapped.fetch_add(1, Ordering::Release);
    }

    /// Where an address is. What is `known` is given back if it is of that address and other databases have not been put in
    /// force since; else they are asked.
    #[inline]
    pub fn locate(&self, ip: IpAddr, known: Option<Located>) -> Located {
        let swapped = self.places_swapped.load(Ordering::Acquire);
        match known {
            Some(known) if known.ip == ip && known.swapped == swapped => known,
            _ => Located { ip, place: self.places.load().find(ip), swapped },
        }
    }
}

impl<S> std::fmt::Debug for Guard<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("policy", &self.policy.load().revision).finish_non_exhaustive()
    }
}

/// Bytes of a login's body that are looked at. A form with a larger beginning has no certain subject.
pub const PEEK_BYTES_MAX: usize = 64 * 1024;

/// How long a wrong id of a client is remembered.
const WRONG_WINDOW: Duration = Duration::from_secs(10 * 60);

impl Asked {
    fn route<'p>(&self, policy: &'p Policy) -> Option<&'p Route> {
        policy.routes.get(self.route?)
    }

    /// The one subject that the login names.
    fn named(&self) -> Option<Arc<str>> {
        match &self.login.as_ref()?.named {
            Named::Subject(subject) => Some(subject.clone()),
            Named::Nobody | Named::Ambiguous => None,
        }
    }

    fn login<'p>(&self, policy: &'p Policy) -> Option<&'p Login> {
        policy.logins.get(self.login.as_ref()?.login)
    }
}
