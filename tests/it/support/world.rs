//! A world in which stories about the guard are told: one guard, one app, a clock that stands still until it is moved.
//!
//! It drives `Guard::admit` and `settle` directly, so a story needs no network and no time. When a world ends, every
//! event line that was told in it is searched for every secret that was used in it: cookies of ours and of the app,
//! passwords, keys of records.

pub(crate) mod browser;
pub(crate) mod ledger;
mod rules;
mod shop;
mod valve;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request};
use portcullis::clock::{Clock as _, ManualClock, Timestamp};
use portcullis::engine::{Guard, Observer, Places, Setup};
use portcullis::entropy::InsecureSeededEntropy;
use portcullis::event::queue::{Flushed, RepeatSettings, Settings};
use portcullis::event::sink::{Collector, Sink};
use portcullis::event::{EventQueue, EventSender, Kind, Record as Told, Writer};
use portcullis::facts::geo::{Country, NetworkKind, Place};
use portcullis::limit::Limits;
use portcullis::net::Asn;
use portcullis::secret::{KeyId, Keyring, MasterKey};
use portcullis::session::record::Record;
use portcullis::store::{Filter, Store as _};
use tokio::runtime::Runtime;

pub(crate) use browser::{Ask, Browser, Flight, Page, Started};
pub(crate) use ledger::Ledger;
pub(crate) use rules::{Rules, rate, rules};
use valve::Valve;

/// Where alice lives: a network in Germany.
pub(crate) const HOME: &str = "203.0.113.10";
/// Another address of the same network.
pub(crate) const NEIGHBOUR: &str = "203.0.113.77";
/// Another network of the same operator.
pub(crate) const SAME_OPERATOR: &str = "100.70.1.10";
/// Her telephone's network, in Germany too.
pub(crate) const MOBILE: &str = "198.51.100.23";
/// Servers far away.
pub(crate) const ABROAD: &str = "192.0.2.200";

/// When every story begins: 2026-11-21T10:46:12Z.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_795_257_972);

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) const fn minutes(count: u64) -> Duration {
    seconds(count * 60)
}

pub(crate) const fn hours(count: u64) -> Duration {
    minutes(count * 60)
}

/// A world in which alice has just logged in, and what was told of it is read.
pub(crate) fn logged_in(rules: Rules) -> (World, Browser) {
    let world = World::new(rules);
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    world.told();
    (world, alice)
}

type App = Box<dyn FnMut(&request::Parts) -> AppAnswer>;

/// See the module. Clones are the same world.
#[derive(Clone)]
pub(crate) struct World(Rc<Shared>);

struct Shared {
    guard: Arc<Guard<Ledger>>,
    clock: Arc<ManualClock>,
    events: EventSender,
    collector: Collector,
    valve: Valve,
    lines: RefCell<Vec<String>>,
    secrets: RefCell<BTreeSet<String>>,
    app: RefCell<App>,
    runtime: Runtime,
    _writer: Writer,
}

impl World {
    /// A guard with these rules before a small shop.
    pub(crate) fn new(rules: Rules) -> Self {
        Self::seeded(rules, 1)
    }

    /// The same with another stream of randomness.
    pub(crate) fn seeded(rules: Rules, seed: u64) -> Self {
        Self::built(rules, seed, None)
    }

    /// The same with somebody who looks on at what rules see.
    pub(crate) fn watched(rules: Rules, observer: Arc<dyn Observer>) -> Self {
        Self::built(rules, 1, Some(observer))
    }

    fn built(rules: Rules, seed: u64, observer: Option<Arc<dyn Observer>>) -> Self {
        Self::made(rules, seed, |guard| match observer {
            Some(observer) => guard.observed_by(observer),
            None => guard,
        })
    }

    /// The same with a guard that is finished by somebody.
    pub(crate) fn made(rules: Rules, seed: u64, finish: impl FnOnce(Guard<Ledger>) -> Guard<Ledger>) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let (valve, collector) = (Valve::default(), Collector::new());
        let sinks: Vec<Box<dyn Sink>> = vec![Box::new(valve.clone()), Box::new(collector.clone())];
        let settings = Settings {
            repeat: RepeatSettings { window: Duration::ZERO, ..RepeatSettings::default() },
            ..Settings::default()
        };
        let (events, writer) = EventQueue::start(&settings, clock.clone(), sinks).unwrap();
        let (policy, limits) = rules.finish();
        let guard = Guard::new(Setup {
            store: Ledger::default(),
            policy,
            keys: keys(),
            places: Places::new(place),
            limits: Limits::new(&limits),
            events: events.clone(),
            clock: clock.clone(),
            entropy: Arc::new(InsecureSeededEntropy::new(seed)),
        });
        Self(Rc::new(Shared {
            guard: Arc::new(finish(guard)),
            clock,
            events,
            collector,
            valve,
            lines: RefCell::default(),
            secrets: RefCell::default(),
            app: RefCell::new(Box::new(shop::shop())),
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap(),
            _writer: writer,
        }))
    }

    /// Puts another app behind the guard.
    pub(crate) fn app(&self, app: impl FnMut(&request::Parts) -> AppAnswer + 'static) -> &Self {
        *self.0.app.borrow_mut() = Box::new(app);
        self
    }

    /// An app that gives this answer to everything.
    pub(crate) fn answers(&self, answer: AppAnswer) -> &Self {
        self.app(move |_| answer.clone())
    }

    /// The small shop again, as it was when it opened.
    pub(crate) fn reopens_the_shop(&self) -> &Self {
        self.app(shop::shop())
    }

    /// Somebody at home, with a browser that has no cookies.
    pub(crate) fn browser(&self, _whose: &str) -> Browser {
        Browser::new(self)
    }

    /// Time passes.
    pub(crate) fn after(&self, span: Duration) -> &Self {
        self.0.clock.advance(span);
        self
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn guard(&self) -> &Arc<Guard<Ledger>> {
        &self.0.guard
    }

    pub(crate) fn store(&self) -> &Ledger {
        self.0.guard.store()
    }

    /// Puts other rules in force.
    pub(crate) fn reload(&self, rules: Rules) {
        let (policy, limits) = rules.finish();
        self.0.guard.replace_policy(policy);
        self.0.guard.replace_limits(Limits::new(&limits));
    }

    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.runtime.block_on(future)
    }

    /// Every live session, tombstones left out.
    pub(crate) fn sessions(&self) -> Vec<Arc<Record>> {
        self.run(self.store().list(&Filter::default(), None, 1000)).unwrap().records
    }

    /// The one live session there is.
    #[track_caller]
    pub(crate) fn session(&self) -> Arc<Record> {
        let mut all = self.sessions();
        assert_eq!(all.len(), 1, "there is one session");
        all.remove(0)
    }

    /// No event is written while this happens, as if the disk hung.
    pub(crate) fn while_the_disk_hangs<T>(&self, happens: impl FnOnce() -> T) -> T {
        self.told();
        self.0.valve.shut();
        let came = happens();
        self.0.valve.open();
        came
    }

    /// How many answers went out before their events were known to be on disk.
    pub(crate) fn unkept(&self) -> u64 {
        self.0.events.unkept()
    }

    /// What was told since this was asked last.
    pub(crate) fn events_told(&self) -> Vec<Told> {
        assert_eq!(self.0.events.flush(seconds(20)), Flushed::All);
        self.0.lines.borrow_mut().extend(self.0.collector.lines());
        self.0.collector.drain()
    }

    /// The kinds of what was told since this was asked last, in order.
    pub(crate) fn told(&self) -> Vec<&'static str> {
        self.events_told().iter().map(|told| told.event.kind().as_str()).collect()
    }

    /// Asserts that an event of the kind was told since the last question, and gives the first one.
    #[track_caller]
    pub(crate) fn told_of(&self, kind: Kind) -> Told {
        let all = self.events_told();
        let kinds: Vec<_> = all.iter().map(|told| told.event.kind().as_str()).collect();
        all.into_iter().find(|told| told.event.kind() == kind).unwrap_or_else(|| panic!("no {kind} in {kinds:?}"))
    }

    /// What no event may ever show.
    pub(crate) fn keeps_secret(&self, text: &str) {
        for part in text.split('.') {
            if part.len() >= 6 {
                self.0.secrets.borrow_mut().insert(part.to_owned());
            }
        }
    }

    fn call_app(&self, request: &request::Parts) -> AppAnswer {
        (self.0.app.borrow_mut())(request)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        assert_eq!(self.events.flush(seconds(20)), Flushed::All);
        let lines = [self.lines.take(), self.collector.lines()].concat().join("\n");
        let records = self.runtime.block_on(self.guard.store().everything());
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let digests = records.iter().map(|record| hex(&record.digest.0[..8]));
        for secret in self.secrets.take().into_iter().chain(digests) {
            assert!(!lines.contains(&secret), "the secret {secret} is told in {lines}");
        }
    }
}

/// What the app answers. `serving` is whom it took the request for, which no client sees.
#[derive(Clone, Debug)]
pub(crate) struct AppAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) serving: Option<String>,
}

impl AppAnswer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), serving: None }
            .header("content-length", "10")
    }

    pub(crate) fn ok() -> Self {
        Self::status(200)
    }

    pub(crate) fn redirect(location: &str) -> Self {
        Self::status(302).header("location", location)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    /// An answer whose length nobody knows: a stream.
    pub(crate) fn endless(mut self) -> Self {
        self.headers.remove("content-length");
        self
    }

    pub(crate) fn set_cookie(self, line: &str) -> Self {
        self.header("set-cookie", line)
    }

    /// What an app that knows of the guard tells it.
    pub(crate) fn control(self, command: &str) -> Self {
        self.header("portcullis-session", command)
    }

    pub(crate) fn serving(mut self, user: Option<&str>) -> Self {
        self.serving = user.map(Into::into);
        self
    }
}

/// The body of a request, for apps that want to look at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body(pub(crate) String);

pub(crate) fn keys() -> Keyring {
    Keyring::new(&MasterKey::new(KeyId(1), [7; 32]), &[])
}

fn place(ip: std::net::IpAddr) -> Place {
    let known = |country: &str, asn, kind| Place {
        country: Country::parse(country),
        asn: Some(Asn(asn)),
        kind,
        position: None,
    };
    match ip.to_string() {
        ip if ip.starts_with("203.0.113.") || ip.starts_with("100.70.") => known("DE", 3320, NetworkKind::Residential),
        ip if ip.starts_with("198.51.100.") => known("DE", 3209, NetworkKind::Mobile),
        ip if ip.starts_with("192.0.2.") => known("RU", 12389, NetworkKind::Hosting),
        _ => Place::default(),
    }
}
