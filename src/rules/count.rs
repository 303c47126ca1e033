//! What rules remember between requests: how often each of them matched lately, whom a verdict on an answer holds for, how
//! many requests came in the last minute. All of it is bounded, and none of it is a secret: keys are kept as hashes.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use super::scheme::Field;
use super::value::{Facts, Value};
use crate::clock::Timestamp;
use crate::net::IpPrefix;
use crate::store::counters::SHARDS;
pub use crate::store::counters::{Effect, Key, Question, Windows};
use crate::verdict::{Action, EventSync, Text, Verdict};

/// Verdicts on answers that hold at one time.
pub const HOLDS_MAX: usize = 100_000;

/// Keys of each kind that requests are counted for.
pub const RATES_MAX: usize = 262_144;

impl Key {
    /// The key of what a field is now; none if that is not known, or hidden so that clients can not be told apart.
    pub fn of<F: Facts + ?Sized>(salt: u64, per: Field, facts: &F) -> Option<Self> {
        Self::new(salt, per, &facts.value(per))
    }

    /// The key of a value of a field.
    pub fn new(salt: u64, per: Field, value: &Value<'_>) -> Option<Self> {
        let mut hash = SipHasher13::new_with_keys(salt, 0);
        std::hash::Hash::hash(&per, &mut hash);
        match value {
            Value::Unknown => return None,
            Value::Bool(yes) => hash.write_u8(u8::from(*yes)),
            Value::Int(number) => hash.write_i64(*number),
            Value::Millis(millis) => hash.write_u64(*millis),
            // Who is counted must not become another by writing himself in another way.
            Value::Text(_) | Value::Short(_) => {
                hash.write(crate::session::subject::folded(value.as_text().unwrap_or_default()).as_bytes());
            }
            Value::Texts(list) => hash.write(list.as_bytes()),
            // A client of IPv6 has a /64 to choose addresses from.
            Value::Ip(ip) => std::hash::Hash::hash(&chosen(*ip), &mut hash),
            Value::Pseudonym(pseudonym) => hash.write(pseudonym.counted_as().as_bytes()),
            // Clients of one network are many.
            Value::Network(_) => return None,
            // Nothing of it is clear: what stands there may stand for many.
            Value::Masked(masked) if masked.clear() == 0 => return None,
            Value::Masked(masked) => hash.write(masked.text().as_bytes()),
        }
        Some(Self::from_u64(hash.finish()))
    }
}

/// Whether a request is one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// It is.
    Count,
    /// It was counted before: the same request is looked at again.
    Look,
}

/// The part of an address that its client did not choose.
fn chosen(ip: IpAddr) -> IpAddr {
    match crate::net::canonical(ip) {
        v4 @ IpAddr::V4(_) => v4,
        v6 @ IpAddr::V6(_) => IpPrefix::around(v6, 64).address(),
    }
}

/// Where matches are counted.
#[derive(Clone, Copy, Debug)]
pub enum Tally<'a> {
    /// Here, each one.
    Each(&'a Windows),
    /// Here, each one once for a request, however often that is judged.
    Once(&'a Windows, &'a Answers),
    /// In a store that several guards share, each one once.
    Shared(&'a Answers),
}

impl<'a> From<&'a Windows> for Tally<'a> {
    fn from(windows: &'a Windows) -> Self {
        Self::Each(windows)
    }
}

impl Tally<'_> {
    pub(super) fn count(self, question: Question, now: Timestamp) -> bool {
        match self {
            Self::Each(windows) => windows.count(question, now),
            Self::Once(windows, answers) => answers.get_or(question, || Some(windows.count(question, now))),
            Self::Shared(answers) => answers.get_or(question, || None),
        }
    }
}

/// What was counted for one request, and what a shared store is still to be asked.
///
/// A request may be judged more than once: because others changed its session meanwhile, because it is held back from its
/// session and served as a stranger, because a store had to be asked. What was counted for it is not counted again.
///
/// Rules run without waiting. A question that only a store can answer is noted, and answered with no for now: whoever runs them
/// puts the questions to the store and runs them again, until none is left. There are no more questions than rules that count.
#[derive(Debug, Default)]
pub struct Answers(OnceLock<Box<Mutex<Slips>>>);

#[derive(Debug, Default)]
struct Slips {
    known: SmallVec<[(Key, bool); 4]>,
    due: SmallVec<[Question; 2]>,
}

impl Answers {
    /// The answer that is known, or else the one that `count` finds; without one the question is noted.
    fn get_or(&self, question: Question, count: impl FnOnce() -> Option<bool>) -> bool {
        // Most requests match nothing that counts, and need no room for it.
        let mut slips = self.0.get_or_init(Box::default).lock();
        if let Some((_, is_over)) = slips.known.iter().find(|(key, _)| *key == question.key) {
            return *is_over;
        }
        if let Some(is_over) = count() {
            slips.known.push((question.key, is_over));
            return is_over;
        }
        if !slips.due.iter().any(|due| due.key == question.key) {
            slips.due.push(question);
        }
        false
    }

    /// Whether there are questions without an answer.
    pub fn are_due(&self) -> bool {
        self.0.get().is_some_and(|slips| !slips.lock().due.is_empty())
    }

    /// The questions without an answer. Each is to be given one by [`learn`](Self::learn).
    pub fn due(&self) -> SmallVec<[Question; 2]> {
        self.0.get().map(|slips| std::mem::take(&mut slips.lock().due)).unwrap_or_default()
    }

    /// Notes an answer.
    pub fn learn(&self, question: Question, is_over: bool) {
        self.0.get_or_init(Box::default).lock().known.push((question.key, is_over));
    }
}

/// A verdict on an answer that holds for requests to come.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// What is done to them.
    pub action: Action,
    /// The rule that asked for it.
    pub rule: Text,
    /// The words of that rule.
    pub tags: Arc<[Text]>,
    /// When it was asked for.
    pub since: Timestamp,
    /// How long.
    pub until: Timestamp,
    /// When its events are to be on disk.
    pub sync: EventSync,
}

impl Held {
    /// It as the verdict on a request.
    pub fn verdict(&self) -> Verdict {
        Verdict { sync: self.sync, ..Verdict::by_rule(self.action, &self.rule, &self.tags) }
    }
}

/// Verdicts on answers that hold for requests to come.
#[derive(Debug, Default)]
pub struct Holds {
    of: RwLock<BTreeMap<Key, Arc<Held>>>,
    count: AtomicUsize,
}

impl Holds {
    /// Whether there is none at all, which is nearly always so.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Holds a verdict. One that is there already stays if it is stronger.
    pub fn hold(&self, key: Key, held: Held, now: Timestamp) {
        let mut of = self.of.write();
        if of.len() >= HOLDS_MAX && !of.contains_key(&key) {
            of.retain(|_, held| held.until > now);
            // Still full: the half that would end first makes room, so that this is rare.
            if of.len() >= HOLDS_MAX {
                let mut ends: Vec<Timestamp> = of.values().map(|held| held.until).collect();
                let half = ends.len() / 2;
                let middle = *ends.select_nth_unstable(half).1;
                let mut left = half;
                of.retain(|_, held| {
                    let goes = held.until <= middle && left > 0;
                    left -= usize::from(goes);
                    !goes
                });
            }
        }
        match of.get(&key).filter(|old| old.until > now) {
            Some(old) if old.action > held.action => {}
            // Of two that ask for the same each has its time, and one that waits is enough.
            Some(old) if old.action == held.action => {
                let (since, until, sync) = (held.since, old.until.max(held.until), old.sync.max(held.sync));
                let longer = if old.until > held.until { Held::clone(old) } else { held };
                of.insert(key, Arc::new(Held { since, until, sync, ..longer }));
            }
            _ => drop(of.insert(key, Arc::new(held))),
        }
        self.count.store(of.len(), Ordering::Relaxed);
    }

    /// The verdict that holds for what a field is now.
    pub fn find(&self, key: Key, now: Timestamp) -> Option<Arc<Held>> {
        let found = self.of.read().get(&key).cloned()?;
        if found.until > now {
            return Some(found);
        }
        let mut of = self.of.write();
        // Somebody may have put a new one there meanwhile.
        if of.get(&key).is_some_and(|held| held.until <= now) {
            of.remove(&key);
            self.count.store(of.len(), Ordering::Relaxed);
        }
        of.get(&key).cloned()
    }
}

/// The key that holds of all rules are kept under.
pub const HOLD_SALT: u64 = 0x484f_4c44;

/// Requests of the last minute, or of another window, by key: a full window and the one before it, weighted.
#[derive(Debug)]
pub struct Rates {
    shards: Box<[Mutex<BTreeMap<Key, Window>>]>,
    keys_max: usize,
    window_ms: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    number: u64,
    count: u32,
    before: u32,
    total: u64,
}

/// What was counted for a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// In the last window, this one included.
    pub lately: u32,
    /// Since the key is known.
    pub total: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Self::new(RATES_MAX)
    }
}

impl Rates {
    /// Rates of so many keys at most, over a minute.
    pub fn new(keys_max: usize) -> Self {
        Self::over(Duration::from_secs(60), keys_max)
    }

    /// Rates of so many keys at most, over a window of at least a millisecond.
    pub fn over(window: Duration, keys_max: usize) -> Self {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1);
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), keys_max: keys_max.div_ceil(SHARDS), window_ms }
    }

    /// Counts one more.
    pub fn count(&self, key: Key, now: Timestamp) -> Counted {
        self.ask(key, now, Counting::Count)
    }

    /// As [`count`](Self::count), for a request that may have been counted before. Who is only looked at leaves no trace.
    pub fn ask(&self, key: Key, now: Timestamp, counting: Counting) -> Counted {
        let Some(shard) = self.shards.get(key.shard()) else { return Counted::default() };
        let mut shard = shard.lock();
        let number = now.as_millis() / self.window_ms;
        if counting == Counting::Look {
            return shard.get(&key).map_or(Counted::default(), |window| window.at(number).counted(now, self.window_ms));
        }
        if shard.len() >= self.keys_max && !shard.contains_key(&key) {
            shard.retain(|_, window| window.number.saturating_add(1) >= number);
            // A spray of keys has few requests each; the busiest are those that rules ask for.
            let mut fewest = 1;
            while shard.len() >= self.keys_max {
                shard.retain(|_, window| window.count > fewest);
                fewest = fewest.saturating_mul(2);
            }
        }
        let window = shard.entry(key).or_default();
        *window = window.at(number);
        window.count = window.count.saturating_add(1);
        window.total = window.total.saturating_add(1);
        window.counted(now, self.window_ms)
    }
}

impl Window {
    /// The same seen from a later window.
    const fn at(self, number: u64) -> Self {
        if self.number == number {
            return self;
        }
        let before = if self.number.saturating_add(1) == number { self.count } else { 0 };
        Self { number, count: 0, before, total: self.total }
    }

    fn counted(&self, now: Timestamp, window_ms: u64) -> Counted {
        let left = window_ms - now.as_millis() % window_ms;
        let before = u64::from(self.before).saturating_mul(left) / window_ms;
        let lately = self.count.saturating_add(u32::try_from(before).unwrap_or(u32::MAX));
        Counted { lately, total: self.total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_is_counted_once_for_a_request_and_a_question_put_once() {
        let windows = Windows::default();
        let question =
            |number| Question { key: key(number), over: 1, within: Duration::from_secs(1), effect: Effect::Obeyed };
        let (first, second) = (Answers::default(), Answers::default());
        let ask = |answers| Tally::Once(&windows, answers).count(question(1), at(0));
        assert!(!ask(&first) && !ask(&first) && !ask(&first) && ask(&second) && ask(&second) && !ask(&first));
        let shared = Answers::default();
        let ask = |number| Tally::Shared(&shared).count(question(number), at(0));
        assert!(!shared.are_due() && !ask(1) && !ask(2) && !ask(1) && shared.are_due());
        assert_eq!(*shared.due(), [question(1), question(2)]);
        shared.learn(question(1), true);
        assert!(ask(1) && !shared.are_due());
        assert!(!ask(2) && shared.are_due());
        let each = || Tally::from(&windows).count(question(3), at(0));
        assert!(!each() && each());
    }

    fn key(number: i64) -> Key {
        Key::new(1, Field::ClientAsn, &Value::Int(number)).unwrap()
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_000_020 + secs)
    }

    #[test]
    fn a_verdict_holds_until_its_time_and_the_stronger_one_stays() {
        let holds = Holds::default();
        let held = |action, secs| Held {
            action,
            rule: Text::of("a/b"),
            tags: Arc::default(),
            since: at(0),
            until: at(secs),
            sync: EventSync::Later,
        };
        assert!(holds.is_empty());
        holds.hold(key(1), held(Action::Deny, 60), at(0));
        holds.hold(key(1), held(Action::Challenge, 90), at(10));
        assert_eq!(holds.find(key(1), at(59)).unwrap().action, Action::Deny);
        assert!(holds.find(key(2), at(59)).is_none());
        assert!(holds.find(key(1), at(60)).is_none());
        assert!(holds.is_empty());
        // A short one that waits does not take anything off a long one, whichever comes first.
        let waits = |secs| Held { sync: EventSync::BeforeReply, ..held(Action::Deny, secs) };
        for both in [[waits(60), held(Action::Deny, 600)], [held(Action::Deny, 600), waits(60)]] {
            both.into_iter().for_each(|each| holds.hold(key(3), each, at(0)));
            let found = holds.find(key(3), at(599)).unwrap();
            assert_eq!((found.action, found.sync), (Action::Deny, EventSync::BeforeReply));
            assert!(holds.find(key(3), at(600)).is_none());
        }
        for number in 0..i64::try_from(HOLDS_MAX).unwrap() + 10 {
            holds.hold(key(number), held(Action::Deny, 60), at(0));
        }
        // The newest are there, and the table has not grown.
        assert!(holds.find(key(i64::try_from(HOLDS_MAX).unwrap() + 5), at(1)).is_some());
        assert!(holds.of.read().len() <= HOLDS_MAX);
    }

    #[test]
    fn requests_of_the_last_minute_are_counted_and_keys_are_bounded() {
        let rates = Rates::new(1600);
        let seen: Vec<u32> = (0..10).map(|secs| rates.count(key(1), at(secs)).lately).collect();
        assert_eq!(seen, (1..=10).collect::<Vec<_>>());
        assert_eq!(rates.count(key(1), at(90)), Counted { lately: 6, total: 11 });
        for _ in 0..50 {
            rates.count(key(-7), at(100));
        }
        for number in 0..100_000 {
            rates.count(key(number), at(100));
            rates.count(key(number), at(100));
        }
        assert_eq!(rates.count(key(-7), at(100)).lately, 51, "the busiest stays");
        assert!(rates.shards.iter().map(|shard| shard.lock().len()).sum::<usize>() <= 1600);
    }
}
