//! What rules remember between requests: how often each of them matched lately, whom a verdict on an answer holds for, how
//! many requests came in the last minute. All of it is bounded, and none of it is a secret: keys are kept as hashes.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use siphasher::sip::SipHasher13;

use super::scheme::Field;
use super::value::{Facts, Value};
use crate::clock::Timestamp;
use crate::net::IpPrefix;
use crate::verdict::{Action, Text, Verdict};

/// Bytes that all windows of `count` take together, about: 32 MiB.
pub const WINDOWS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a key takes besides its times: its place in a tree that is two thirds full, and a piece of memory of its own.
const KEY_BYTES: usize = 120;
/// What a time takes.
const TIME_BYTES: usize = size_of::<Timestamp>();

/// Verdicts on answers that hold at one time.
pub const HOLDS_MAX: usize = 100_000;

/// Keys of each kind that requests are counted for.
pub const RATES_MAX: usize = 262_144;

const SHARDS: usize = 16;

/// Who is counted: a rule and what it counts by, as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// The key of what a field is now; none if that is not known.
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
        }
        Some(Self(hash.finish()))
    }

    fn shard(self) -> usize {
        usize::try_from(self.0 >> 60).unwrap_or(0) % SHARDS
    }
}

/// Whether a match is one more.
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

/// How often rules matched lately. Windows are exact: a key keeps the last `over` + 1 times.
#[derive(Debug)]
pub struct Windows {
    shards: Box<[Mutex<Times>]>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Times {
    of: BTreeMap<Key, Ring>,
    /// Times of all of them.
    kept: usize,
}

impl Times {
    fn bytes(&self) -> usize {
        self.of.len().saturating_mul(KEY_BYTES).saturating_add(self.kept.saturating_mul(TIME_BYTES))
    }

    /// First those whose window is over; if that does not do, those that matched least lately: a spray of keys has one time each,
    /// and who is about to be caught has more.
    fn make_room(&mut self, now: Timestamp, bytes_max: usize) {
        let keep = |times: &mut Self, stays: &dyn Fn(&Ring) -> bool| {
            times.of.retain(|_, ring| stays(ring));
            times.kept = times.of.values().map(|ring| ring.times.len()).sum();
        };
        keep(self, &|ring| ring.until > now);
        let mut fewest = 1;
        while self.bytes() > bytes_max && !self.of.is_empty() {
            keep(self, &|ring| ring.times.len() > fewest);
            fewest = fewest.saturating_mul(2);
        }
    }
}

#[derive(Debug, Default)]
struct Ring {
    times: VecDeque<Timestamp>,
    /// When the last of them leaves its window.
    until: Timestamp,
}

impl Default for Windows {
    fn default() -> Self {
        Self::new(WINDOWS_BYTES_MAX)
    }
}

impl Windows {
    /// Windows that take about so many bytes together at most.
    pub fn new(bytes_max: usize) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), bytes_max: bytes_max.div_ceil(SHARDS) }
    }

    /// Counts one more, and tells whether there are more than `over` within the window, this one included.
    pub fn count(&self, key: Key, over: u32, within: Duration, now: Timestamp) -> bool {
        self.ask(key, over, within, now, Counting::Count)
    }

    /// As [`count`](Self::count), for a request that may have been counted before.
    pub fn ask(&self, key: Key, over: u32, within: Duration, now: Timestamp, counting: Counting) -> bool {
        let Some(shard) = self.shards.get(key.shard()) else { return false };
        let mut shard = shard.lock();
        let most = usize::try_from(over).unwrap_or(usize::MAX).saturating_add(1);
        if counting == Counting::Look {
            // Whoever is only looked at leaves no trace: an entry without a time would never be taken away.
            let within_window = |ring: &Ring| ring.times.iter().filter(|time| now.since(**time) < within).count();
            return shard.of.get(&key).is_some_and(|ring| within_window(ring) >= most);
        }
        if shard.bytes() >= self.bytes_max {
            shard.make_room(now, self.bytes_max / 2);
        }
        let Times { of, kept } = &mut *shard;
        let ring = of.entry(key).or_default();
        let before = ring.times.len();
        while ring.times.front().is_some_and(|time| now.since(*time) >= within) || ring.times.len() >= most {
            ring.times.pop_front();
        }
        ring.times.push_back(now);
        ring.until = now.after(within);
        *kept = kept.saturating_add(ring.times.len()).saturating_sub(before);
        ring.times.len() >= most
    }

    /// How many bytes are taken now, about.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes()).sum()
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
}

impl Held {
    /// It as the verdict on a request.
    pub fn verdict(&self) -> Verdict {
        Verdict::by_rule(self.action, &self.rule, &self.tags)
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
        let is_new = of.get(&key).is_none_or(|old| old.until <= now || old.action <= held.action);
        if is_new {
            of.insert(key, Arc::new(held));
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

    fn key(number: i64) -> Key {
        Key::new(1, Field::ClientAsn, &Value::Int(number)).unwrap()
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_000_020 + secs)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_window_is_exact() {
        let windows = Windows::default();
        let seen = [0, 10, 20, 59, 60, 69, 200].map(|secs| windows.count(key(1), 3, MINUTE, at(secs)));
        // At 60 the first is just out; at 69 the one of 10 is still in.
        assert_eq!(seen, [false, false, false, true, true, true, false]);
        assert!(!windows.count(key(2), 3, MINUTE, at(200)));
        assert!(windows.count(key(3), 0, MINUTE, at(200)), "over 0: every match counts");
    }

    #[test]
    fn a_spray_of_keys_neither_grows_nor_saves_who_is_counted() {
        let most = 2_000_000;
        let windows = Windows::new(most);
        for number in 0..4 {
            assert!(!windows.count(key(-1), 4, MINUTE * 60, at(number)));
        }
        for number in 0..200_000 {
            windows.count(key(number), 4, MINUTE * 60, at(10));
            assert!(
                number % 1000 != 0 || windows.bytes() <= most + 16 * (KEY_BYTES + TIME_BYTES),
                "{}",
                windows.bytes()
            );
        }
        assert!(windows.count(key(-1), 4, MINUTE * 60, at(11)));
    }

    /// Each key that was only looked at stayed in the table for ever.
    #[test]
    fn a_look_tells_what_is_counted_and_leaves_no_trace() {
        let windows = Windows::default();
        let looked = |number, secs| windows.ask(key(number), 1, MINUTE, at(secs), Counting::Look);
        for number in 0..1000 {
            assert!(!looked(number, 0));
        }
        assert!(windows.shards.iter().all(|shard| shard.lock().of.is_empty()));
        assert!(!windows.count(key(1), 1, MINUTE, at(0)) && !looked(1, 1));
        assert!(windows.count(key(1), 1, MINUTE, at(1)) && looked(1, 59));
        assert!(!looked(1, 60) && !looked(1, 1000));
        assert_eq!(windows.bytes(), KEY_BYTES + 2 * TIME_BYTES);
    }

    #[test]
    fn a_verdict_holds_until_its_time_and_the_stronger_one_stays() {
        let holds = Holds::default();
        let held =
            |action, secs| Held { action, rule: Text::of("a/b"), tags: Arc::default(), since: at(0), until: at(secs) };
        assert!(holds.is_empty());
        holds.hold(key(1), held(Action::Deny, 60), at(0));
        holds.hold(key(1), held(Action::Challenge, 90), at(10));
        assert_eq!(holds.find(key(1), at(59)).unwrap().action, Action::Deny);
        assert!(holds.find(key(2), at(59)).is_none());
        assert!(holds.find(key(1), at(60)).is_none());
        assert!(holds.is_empty());
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
