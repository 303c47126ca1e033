//! Storms: many events of one kind from one source become a few lines and a summary.
//!
//! Of events of the same kind and rule, for the same session (or else the same client), the first few within a window
//! pass; the others are counted, and when the window closes one `events.repeated` tells how many there were. Time is that
//! of the records, so a test or a replay with a clock of its own gets the same answer as a running guard.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use smallvec::SmallVec;

use super::kinds::EventsRepeated;
use super::queue::Worth;
use super::scene::SessionHash;
use super::{Kind, Record};
use crate::clock::Timestamp;
use crate::verdict::Text;

/// Sources that are followed at a time. Beyond it the oldest window is closed early, its summary written.
pub const REPEAT_KEYS_MAX: usize = 8192;
/// Addresses that one summary tells apart.
pub const REPEAT_CLIENTS_MAX: usize = 64;

/// Awaited events of one kind and source that pass within a window, if fewer would otherwise. All of them would let one client push
/// everything else out of the journal.
pub const AWAITED_FIRST: u32 = 10;

/// How storms are cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a window is; zero lets every event through.
    pub window: Duration,
    /// Events of one kind and source that pass within it.
    pub first: u32,
}

impl Default for Settings {
    /// Three a minute: enough to see a pattern begin, few enough to read.
    fn default() -> Self {
        Self { window: Duration::from_secs(60), first: 3 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    rule: Option<Text>,
    who: Who,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Session(SessionHash),
    /// An address; of IPv6 its /64, of which one client has all.
    Client(IpAddr),
    Nobody,
}

struct Window {
    opened: Timestamp,
    last: Timestamp,
    passed: u32,
    held: u64,
    /// The latest one that was held: the scene of the summary.
    latest: Option<Box<Record>>,
    clients: SmallVec<[u64; 4]>,
}

/// The open windows, in the order in which they will close.
pub(super) struct Repeat {
    settings: Settings,
    open: HashMap<Key, Window>,
    order: VecDeque<(Key, Timestamp)>,
    /// How many open windows hold something back.
    holding: usize,
    hasher: RandomState,
    keys_max: usize,
}

impl Repeat {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            open: HashMap::new(),
            order: VecDeque::new(),
            holding: 0,
            hasher: RandomState::new(),
            keys_max: REPEAT_KEYS_MAX,
        }
    }

    /// Whether a summary is due once its window closes.
    pub(super) const fn is_holding(&self) -> bool {
        self.holding > 0
    }

    /// Gives the record back if it is to be written; otherwise it was counted.
    pub(super) fn admit(&mut self, record: Record, worth: Worth, summaries: &mut Vec<Record>) -> Option<Record> {
        // Before anything else: a stream of audited events alone must not keep a summary waiting.
        self.close(record.ts, summaries);
        if self.settings.window.is_zero() || record.event.kind().is_audited() {
            return Some(record);
        }
        let key = key(&record);
        if !self.open.contains_key(&key) {
            self.make_room(record.ts, summaries);
            self.order.push_back((key.clone(), record.ts));
        }
        let window = self.open.entry(key).or_insert_with(|| Window {
            opened: record.ts,
            last: record.ts,
            passed: 0,
            held: 0,
            latest: None,
            clients: SmallVec::new(),
        });
        window.last = window.last.max(record.ts);
        if let Some(ip) = record.scene.client.ip {
            let mark = self.hasher.hash_one(ip);
            if window.clients.len() < REPEAT_CLIENTS_MAX && !window.clients.contains(&mark) {
                window.clients.push(mark);
            }
        }
        let first = match worth {
            Worth::Usual => self.settings.first,
            Worth::Awaited => self.settings.first.max(AWAITED_FIRST),
        };
        if window.passed < first {
            window.passed += 1;
            return Some(record);
        }
        window.held += 1;
        match &mut window.latest {
            Some(latest) => **latest = record,
            None => {
                window.latest = Some(Box::new(record));
                self.holding += 1;
            }
        }
        None
    }

    /// Closes the windows that are over at `now`.
    pub(super) fn close(&mut self, now: Timestamp, summaries: &mut Vec<Record>) {
        while self.order.front().is_some_and(|(_, opened)| now.since(*opened) >= self.settings.window) {
            self.close_oldest(now, summaries);
        }
    }

    /// Closes every window: the guard stops.
    pub(super) fn close_all(&mut self, now: Timestamp, summaries: &mut Vec<Record>) {
        while !self.order.is_empty() {
            self.close_oldest(now, summaries);
        }
    }

    fn make_room(&mut self, now: Timestamp, summaries: &mut Vec<Record>) {
        while self.order.len() >= self.keys_max {
            self.close_oldest(now, summaries);
        }
    }

    fn close_oldest(&mut self, now: Timestamp, summaries: &mut Vec<Record>) {
        let Some(window) = self.order.pop_front().and_then(|(key, _)| self.open.remove(&key)) else { return };
        let Some(latest) = window.latest else { return };
        self.holding -= 1;
        let event = EventsRepeated {
            of: latest.event.kind(),
            count: window.held,
            first: window.opened,
            last: window.last,
            clients: u32::try_from(window.clients.len()).unwrap_or(u32::MAX),
        };
        summaries.push(Record::new(now.max(window.last), latest.scene, event.into()));
    }
}

fn key(record: &Record) -> Key {
    let who = match (record.scene.session, record.scene.client.ip) {
        (Some(session), _) => Who::Session(session),
        (None, Some(ip)) => Who::Client(household(ip)),
        (None, None) => Who::Nobody,
    };
    Key { kind: record.event.kind(), rule: record.scene.rule.clone(), who }
}

fn household(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::kinds::{LoginFailed, SessionCreated, SessionUnknownId};
    use crate::event::{ClientView, Event, Scene};

    fn record(at_secs: u64, ip: &str, event: impl Into<Event>) -> Record {
        let client = ClientView { ip: Some(ip.parse().unwrap()), ..ClientView::default() };
        Record::new(Timestamp::from_secs(at_secs), Scene { client, ..Scene::default() }, event.into())
    }

    fn summary(record: &Record) -> (Kind, u64, u64, u64, u32) {
        match &record.event {
            Event::EventsRepeated(e) => (e.of, e.count, e.first.as_secs(), e.last.as_secs(), e.clients),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_few_pass_and_the_rest_is_one_summary() {
        let mut storm = Repeat::new(Settings::default());
        let mut out = Vec::new();
        let passed = (100..150)
            .filter(|at| storm.admit(record(*at, "192.0.2.1", LoginFailed {}), Worth::Usual, &mut out).is_some());
        assert_eq!(passed.count(), 3);
        assert!(out.is_empty() && storm.is_holding());
        // Another client is another storm.
        assert!(storm.admit(record(150, "192.0.2.2", LoginFailed {}), Worth::Usual, &mut out).is_some());
        assert!(storm.admit(record(159, "192.0.2.1", SessionCreated {}), Worth::Usual, &mut out).is_some());
        assert!(out.is_empty());
        // The window that began at 100 is over at 160, whatever event tells that time.
        assert!(storm.admit(record(160, "192.0.2.1", SessionCreated {}), Worth::Usual, &mut out).is_some());
        assert!(storm.admit(record(160, "192.0.2.1", LoginFailed {}), Worth::Usual, &mut out).is_some());
        assert_eq!(out.iter().map(summary).collect::<Vec<_>>(), [(Kind::LoginFailed, 47, 100, 149, 1)]);
        assert_eq!(out[0].scene.client.ip, Some("192.0.2.1".parse().unwrap()));
        assert!(!storm.is_holding());
    }

    #[test]
    fn a_window_in_which_all_passed_has_no_summary() {
        let mut storm = Repeat::new(Settings::default());
        let mut out = Vec::new();
        for at in [0, 1, 2] {
            assert!(storm.admit(record(at, "192.0.2.1", LoginFailed {}), Worth::Usual, &mut out).is_some());
        }
        storm.close(Timestamp::from_secs(60), &mut out);
        assert!(out.is_empty() && storm.open.is_empty());
    }

    #[test]
    fn kinds_rules_and_sessions_are_apart_and_one_session_counts_its_clients() {
        let mut storm = Repeat::new(Settings { first: 1, ..Settings::default() });
        let mut out = Vec::new();
        let mut admit = |record| storm.admit(record, Worth::Usual, &mut out).is_some();
        assert!(admit(record(0, "192.0.2.1", LoginFailed {})));
        assert!(admit(record(0, "192.0.2.1", SessionUnknownId {})));
        let mut ruled = record(0, "192.0.2.1", LoginFailed {});
        ruled.scene.rule = Some(Text::of("shop/slow"));
        assert!(admit(ruled));
        for last in 1..=200u8 {
            let mut stolen = record(1, &format!("198.51.100.{last}"), SessionUnknownId {});
            stolen.scene.session = Some(SessionHash { key: crate::secret::KeyId(1), hash: [1; 16] });
            assert_eq!(admit(stolen), last == 1);
        }
        storm.close_all(Timestamp::from_secs(9), &mut out);
        assert_eq!(out.iter().map(summary).collect::<Vec<_>>(), [(Kind::SessionUnknownId, 199, 1, 1, 64)]);
        assert_eq!(out[0].ts, Timestamp::from_secs(9));
    }

    #[test]
    fn addresses_of_one_household_are_one_client() {
        let mut storm = Repeat::new(Settings { first: 1, ..Settings::default() });
        let mut out = Vec::new();
        assert!(storm.admit(record(0, "2001:db8::1", LoginFailed {}), Worth::Usual, &mut out).is_some());
        assert!(storm.admit(record(0, "2001:db8::ffff:2", LoginFailed {}), Worth::Usual, &mut out).is_none());
        assert!(storm.admit(record(0, "2001:db8:0:1::1", LoginFailed {}), Worth::Usual, &mut out).is_some());
    }

    #[test]
    fn what_an_audit_counts_on_is_never_folded() {
        let mut storm = Repeat::new(Settings { first: 0, ..Settings::default() });
        let mut out = Vec::new();
        for _ in 0..100 {
            assert!(storm.admit(record(0, "192.0.2.1", SessionCreated {}), Worth::Usual, &mut out).is_some());
        }
        assert!(storm.open.is_empty());
    }

    #[test]
    fn many_sources_evict_the_oldest_window_and_its_summary_is_written() {
        let mut storm = Repeat::new(Settings { first: 1, ..Settings::default() });
        storm.keys_max = 10;
        let mut out = Vec::new();
        assert!(storm.admit(record(0, "192.0.2.1", LoginFailed {}), Worth::Usual, &mut out).is_some());
        assert!(storm.admit(record(0, "192.0.2.1", LoginFailed {}), Worth::Usual, &mut out).is_none());
        for last in 0..200u8 {
            assert!(
                storm.admit(record(0, &format!("198.51.100.{last}"), LoginFailed {}), Worth::Usual, &mut out).is_some()
            );
            assert!(storm.open.len() <= 10 && storm.open.len() == storm.order.len());
        }
        assert_eq!(out.iter().map(summary).collect::<Vec<_>>(), [(Kind::LoginFailed, 1, 0, 0, 1)]);
        assert!(!storm.is_holding());
    }

    #[test]
    fn a_clock_that_steps_back_neither_panics_nor_loses_a_summary() {
        let mut storm = Repeat::new(Settings { first: 0, ..Settings::default() });
        let mut out = Vec::new();
        for at in [100, 50, 0, 100] {
            assert!(storm.admit(record(at, "192.0.2.1", LoginFailed {}), Worth::Usual, &mut out).is_none());
        }
        storm.close_all(Timestamp::EPOCH, &mut out);
        assert_eq!(out.iter().map(summary).collect::<Vec<_>>(), [(Kind::LoginFailed, 4, 100, 100, 1)]);
        assert_eq!(out[0].ts, Timestamp::from_secs(100));
    }
}
