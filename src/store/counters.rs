//! How often something happened lately: counted by each guard for itself, or in a store that several guards share.
//!
//! A key is a hash of a rule and of whom it counts. Windows are exact: a key keeps the times of the last `over` + 1 matches.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use parking_lot::Mutex;

use super::StoreError;
use super::debts::{Change, Changed};
use crate::clock::Timestamp;

/// Bytes that all windows of one table take together, about: 32 MiB.
pub const WINDOWS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a key takes besides its times: its place in a tree that is two thirds full, and a piece of memory of its own.
const KEY_BYTES: usize = 128;
/// What a time takes.
const TIME_BYTES: usize = size_of::<Timestamp>();

/// Steps in which keys give way: first those with a 64th of what they may have, in the end all.
const PARTS: usize = 64;

/// Parts of a table, each behind a lock of its own.
pub(crate) const SHARDS: usize = 16;

/// Who is counted: a rule and what it counts by, as a hash. The same on every node with the same rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// The key of this hash.
    pub const fn from_u64(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    pub(crate) fn shard(self) -> usize {
        usize::try_from(self.0 >> 60).unwrap_or(0) % SHARDS
    }
}

/// Whether a rule is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is.
    Obeyed,
    /// It is only observed, and must take no room from those that are obeyed.
    Observed,
}

/// A match that is counted, and what is asked about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who is counted.
    pub key: Key,
    /// How many matches within the window are none too many.
    pub over: u32,
    /// The window.
    pub within: Duration,
    /// Whether the rule is obeyed. The keys of both are different in any case.
    pub effect: Effect,
}

/// The answers of [`Counters::ask`] to come.
pub type Answered<'a> = Pin<Box<dyn Future<Output = Result<Vec<bool>, StoreError>> + Send + 'a>>;

/// Counts that several guards share: [`Store::counters`](super::Store::counters) of a store that they share.
///
/// [`conformance`](super::conformance) holds the counters of a store to this too.
pub trait Counters: Send + Sync {
    /// Counts each match, and answers in their order: whether there are more than `over` of its key within the window that
    /// ends now, this one included. Two that are counted at once are both counted.
    ///
    /// `now` is the time of the guard that asks: windows are as exact as the clocks of the nodes agree. What is kept must
    /// have a limit, and ends with its window; where the limit is reached, what is observed goes before what is obeyed.
    ///
    /// # Errors
    /// [`StoreError`]; the guard that asked counts for itself then.
    fn ask<'a>(&'a self, questions: &'a [Question], now: Timestamp) -> Answered<'a>;

    /// Does the steps in their order, each to the number of its key ([`Step::apply`](super::debts::Step::apply)), up to the first
    /// that is refused; gives the answers of those that were looked at. Two guards that take from one key take in turn.
    ///
    /// What is kept must have a limit, and who gives way for others must owe no less when it returns, or spraying keys would
    /// clear a limit.
    ///
    /// # Errors
    /// [`StoreError`]; the guard that asked counts for itself then.
    fn change<'a>(&'a self, changes: &'a [Change], now: Timestamp) -> Changed<'a>;
}

/// How often rules matched lately. Windows are exact: a key keeps the last `over` + 1 times.
#[derive(Debug)]
pub struct Windows {
    obeyed: Table,
    observed: Table,
}

#[derive(Debug)]
struct Table {
    shards: Box<[Mutex<Times>]>,
    /// Of one shard.
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Times {
    of: BTreeMap<Key, Ring>,
    /// Times of all of them.
    kept: usize,
}

#[derive(Debug, Default)]
struct Ring {
    times: VecDeque<Timestamp>,
    /// How many it keeps at most: one more, and its rule matches.
    most: usize,
    /// When the last of them leaves its window.
    until: Timestamp,
}

impl Default for Windows {
    fn default() -> Self {
        Self::new(WINDOWS_BYTES_MAX)
    }
}

impl Windows {
    /// Windows that take about so many bytes together at most, a quarter of them for rules that are only observed.
    pub fn new(bytes_max: usize) -> Self {
        let observed = bytes_max / 4;
        Self { obeyed: Table::new(bytes_max.saturating_sub(observed)), observed: Table::new(observed) }
    }

    /// Counts a match, and tells whether there are more than `over` of its key within the window, this one included.
    pub fn count(&self, question: Question, now: Timestamp) -> bool {
        match question.effect {
            Effect::Obeyed => self.obeyed.count(question, now),
            Effect::Observed => self.observed.count(question, now),
        }
    }

    /// How many bytes are taken now, about.
    pub fn bytes(&self) -> usize {
        self.obeyed.bytes().saturating_add(self.observed.bytes())
    }
}

impl Table {
    fn new(bytes_max: usize) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), bytes_max: bytes_max.div_ceil(SHARDS) }
    }

    fn count(&self, Question { key, over, within, .. }: Question, now: Timestamp) -> bool {
        let Some(shard) = self.shards.get(key.shard()) else { return false };
        let mut shard = shard.lock();
        if shard.bytes() >= self.bytes_max {
            shard.make_room(now, self.bytes_max / 2);
        }
        let Times { of, kept } = &mut *shard;
        let ring = of.entry(key).or_default();
        ring.most = usize::try_from(over).unwrap_or(usize::MAX).saturating_add(1);
        let before = ring.times.len();
        while ring.times.front().is_some_and(|time| now.since(*time) >= within) || ring.times.len() >= ring.most {
            ring.times.pop_front();
        }
        ring.times.push_back(now);
        ring.until = now.after(within);
        *kept = kept.saturating_add(ring.times.len()).saturating_sub(before);
        ring.times.len() >= ring.most
    }

    fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes()).sum()
    }
}

impl Times {
    fn bytes(&self) -> usize {
        self.of.len().saturating_mul(KEY_BYTES).saturating_add(self.kept.saturating_mul(TIME_BYTES))
    }

    /// First those whose window is over; if that does not do, those that are furthest from being one too many: of a spray of keys
    /// each has matched once, and who is about to be caught has matched more often. A rule that allows a thousand takes no room
    /// from one that allows five.
    fn make_room(&mut self, now: Timestamp, bytes_max: usize) {
        let keep = |times: &mut Self, stays: &dyn Fn(&Ring) -> bool| {
            times.of.retain(|_, ring| stays(ring));
            times.kept = times.of.values().map(|ring| ring.times.len()).sum();
        };
        keep(self, &|ring| ring.until > now);
        let mut part = 1;
        while self.bytes() > bytes_max && part <= PARTS {
            keep(self, &|ring| ring.times.len().saturating_mul(PARTS) > ring.most.saturating_mul(part));
            part = part.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn key(number: u64) -> Key {
        // The first bits choose the part of the table.
        Key::from_u64(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_000_020 + secs)
    }

    fn ask(windows: &Windows, number: u64, over: u32, effect: Effect, now: Timestamp) -> bool {
        windows.count(Question { key: key(number), over, within: MINUTE, effect }, now)
    }

    fn count(windows: &Windows, number: u64, over: u32, now: Timestamp) -> bool {
        ask(windows, number, over, Effect::Obeyed, now)
    }

    #[test]
    fn a_window_is_exact() {
        let windows = Windows::default();
        let seen = [0, 10, 20, 59, 60, 69, 200].map(|secs| count(&windows, 1, 3, at(secs)));
        // At 60 the first is just out; at 69 the one of 10 is still in.
        assert_eq!(seen, [false, false, false, true, true, true, false]);
        assert!(!count(&windows, 2, 3, at(200)));
        assert!(count(&windows, 3, 0, at(200)), "over 0: every match counts");
    }

    #[test]
    fn a_spray_of_keys_neither_grows_nor_saves_who_is_counted() {
        let most = 2_000_000;
        let windows = Windows::new(most);
        for number in 0..4 {
            assert!(!count(&windows, u64::MAX, 4, at(number)));
        }
        for number in 0..200_000 {
            count(&windows, number, 4, at(10));
            assert!(
                number % 1000 != 0 || windows.bytes() <= most + 16 * (KEY_BYTES + TIME_BYTES),
                "{}",
                windows.bytes()
            );
        }
        assert!(count(&windows, u64::MAX, 4, at(11)));
    }

    /// A rule on trial, and one that allows many, pushed the windows out that were about to catch somebody.
    #[test]
    fn neither_what_is_observed_nor_what_allows_much_takes_the_room_of_others() {
        let windows = Windows::new(1_000_000);
        for number in 0..4 {
            assert!(!count(&windows, u64::MAX, 4, at(number)));
        }
        for round in 0..20 {
            for number in 0..2000 {
                ask(&windows, number, 1000, Effect::Observed, at(10 + round));
                count(&windows, number + 10_000, 1000, at(10 + round));
            }
        }
        assert!(windows.bytes() <= 1_000_000 + 32 * (KEY_BYTES + TIME_BYTES), "{}", windows.bytes());
        assert!(count(&windows, u64::MAX, 4, at(40)));
    }
}
