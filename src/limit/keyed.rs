//! One rate counted for many keys, in bounded memory.
//!
//! The arithmetic is governor's (GCRA: one number per key, the time at which everything it used is paid back). Its clock
//! stands still at zero: GCRA does not change when time is shifted, so the store hands out and takes back numbers
//! relative to the `now` of each call, and the limiter itself never reads a clock.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use super::rate::Rate;
use super::table::Table;
use crate::clock::Timestamp;
use crate::secret::Seed;
use crate::store::counters::Key;
use crate::store::debts::{self, Answer, Change, Step};

/// What a limiter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may happen, and has been counted.
    Allowed {
        /// How many more may happen at once.
        remaining: u32,
    },
    /// It may not, and has not been counted.
    Limited {
        /// Whole seconds, one or more, after which one is allowed again if nobody else of that key comes before.
        retry_after: Duration,
    },
}

/// Counts a [`Rate`] for each key.
///
/// Memory grows with the keys that owe something at one time, 16 bytes each, and up to a fixed size: under a spray of more
/// keys than that, newcomers share the debt of the least indebted keys they meet, so that spraying never clears a limit.
pub struct KeyedLimiter<K: ?Sized> {
    ledger: Ledger,
    key: PhantomData<fn(&K)>,
}

impl<K: Hash + ?Sized> KeyedLimiter<K> {
    /// A limiter with room for about `keys_max` keys (rounded up to a multiple of 16).
    pub fn new(rate: Rate, keys_max: NonZeroUsize) -> Self {
        Self { ledger: Ledger::new(rate, keys_max, KeyHasher::random(), None), key: PhantomData }
    }

    /// The same as part of a limit that several guards count together.
    pub(super) fn in_common(rate: Rate, keys_max: NonZeroUsize, hasher: KeyHasher) -> Self {
        Self { ledger: Ledger::new(rate, keys_max, hasher, Some(Taken::default())), key: PhantomData }
    }

    /// Counts one for `key`, if its rate allows one more.
    pub fn take(&self, key: &K, now: Timestamp) -> Outcome {
        self.ledger.take(self.ledger.hasher.hash_one(key), now)
    }

    /// What [`take`](Self::take) would answer; nothing is counted.
    pub fn look(&self, key: &K, now: Timestamp) -> Outcome {
        self.ledger.look(self.ledger.hasher.hash_one(key), now)
    }

    /// The rate it counts.
    pub const fn rate(&self) -> Rate {
        self.ledger.rate
    }

    pub(super) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

impl<K: ?Sized> fmt::Debug for KeyedLimiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimiter").field("rate", &self.ledger.rate).finish_non_exhaustive()
    }
}

/// What is owed, by the hash of who owes it.
pub(super) struct Ledger {
    rate: Rate,
    limiter: RateLimiter<Visit, Debts, Standstill, StateInformationMiddleware>,
    debts: Arc<Table>,
    hasher: KeyHasher,
    /// What other guards have to be told.
    taken: Option<Taken>,
}

impl Ledger {
    fn new(rate: Rate, keys_max: NonZeroUsize, hasher: KeyHasher, taken: Option<Taken>) -> Self {
        // An interval is never zero, so the quota always exists.
        let quota = Quota::with_period(rate.interval()).unwrap_or(Quota::per_second(rate.quota()));
        let debts = Arc::new(Table::new(keys_max));
        let limiter = RateLimiter::new(quota.allow_burst(rate.burst()), Debts(debts.clone()), Standstill);
        Self { rate, limiter, debts, hasher, taken }
    }

    fn take(&self, hash: u64, now: Timestamp) -> Outcome {
        match self.limiter.check_key(&Visit { hash, now: nanos(now) }) {
            Ok(state) => {
                if let Some(taken) = &self.taken {
                    taken.add(hash, 1);
                }
                Outcome::Allowed { remaining: state.remaining_burst_capacity() }
            }
            Err(refused) => Outcome::Limited { retry_after: whole_seconds(refused.wait_time_from(Nanos::new(0))) },
        }
    }

    fn look(&self, hash: u64, now: Timestamp) -> Outcome {
        match Step::Take(self.rate.pace()).apply(self.debts.read(hash) / 1000, now).0 {
            Answer::Done { .. } => Outcome::Allowed { remaining: 0 },
            Answer::Refused { wait } => Outcome::Limited { retry_after: whole_seconds(wait) },
        }
    }

    /// What was taken since this was asked last by those who took more in that time than a small part of what they may; and
    /// nothing by those who still owe something, to learn what others take.
    pub(super) fn due(&self, since: Duration) -> Vec<Change> {
        let pace = self.rate.pace();
        let is_due =
            |count: u32| count == 0 || self.rate.interval().saturating_mul(count.saturating_mul(SHARES)) >= since;
        let taken = self.taken.iter().flat_map(Taken::drain).filter(|(_, count)| is_due(*count));
        let step = |count| Step::Add(pace, debts::Taken { count, within: since });
        taken.map(|(hash, count)| Change { key: Key::from_u64(hash), step: step(count) }).collect()
    }

    /// Somebody who owes something to all guards together is asked about the next time.
    pub(super) fn ask_again(&self, key: Key) {
        self.taken.iter().for_each(|taken| taken.add(key.as_u64(), 0));
    }

    /// Learns until when somebody owes something to all guards together.
    pub(super) fn learn(&self, key: Key, until: Timestamp, now: Timestamp) {
        if until > now {
            self.ask_again(key);
        }
        let learned = self
            .debts
            .update(key.as_u64(), nanos(now), |owed| Ok::<_, std::convert::Infallible>(((), owed.max(nanos(until)))));
        match learned {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }
}

/// Who took less than this part of what he may is not told of: with so many guards that all do the same, he has twice as much.
const SHARES: u32 = 16;

/// Keys of one part of [`Taken`] at most. Who comes after that is counted by this guard alone, until the others were told.
const TAKEN_MAX: usize = 4096;

/// What was taken here, and not told to the others yet; 0 of those who owe something.
#[derive(Debug, Default)]
struct Taken([Mutex<BTreeMap<u64, u32>>; 16]);

impl Taken {
    fn add(&self, hash: u64, more: u32) {
        let Some(counts) = usize::try_from(hash >> 60).ok().and_then(|at| self.0.get(at)) else { return };
        let mut counts = counts.lock();
        if let Some(count) = counts.get_mut(&hash) {
            *count = count.saturating_add(more);
        } else if counts.len() < TAKEN_MAX {
            counts.insert(hash, more);
        }
    }

    fn drain(&self) -> impl Iterator<Item = (u64, u32)> {
        self.0.iter().flat_map(|counts| std::mem::take(&mut *counts.lock()))
    }
}

/// Names keys: by hashes that nobody outside can foresee, and that are the same on all nodes with the same keys if they are to be.
#[derive(Clone, Copy)]
pub(super) struct KeyHasher([u8; 16]);

impl KeyHasher {
    /// One that agrees with no other.
    pub(super) fn random() -> Self {
        let random = RandomState::new();
        Self::halves(random.hash_one(0_u8), random.hash_one(1_u8))
    }

    /// That of a limit, for all who have the same seed.
    pub(super) fn of(seed: Seed, limit: &str) -> Self {
        let seed = Self(*seed.expose());
        Self::halves(seed.hash_one((limit, 0_u8)), seed.hash_one((limit, 1_u8)))
    }

    fn halves(one: u64, other: u64) -> Self {
        Self((u128::from(one) << 64 | u128::from(other)).to_le_bytes())
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher")
    }
}

impl BuildHasher for KeyHasher {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// Rounded up to whole seconds, and never zero: `Retry-After` knows nothing finer.
pub(super) fn whole_seconds(wait: Duration) -> Duration {
    let more = u64::from(wait.subsec_nanos() > 0);
    Duration::from_secs(wait.as_secs().saturating_add(more).max(1))
}

fn nanos(now: Timestamp) -> u64 {
    now.as_millis().saturating_mul(1_000_000)
}

/// A key at a time: what governor takes for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Visit {
    hash: u64,
    now: u64,
}

/// A clock that always says zero.
#[derive(Clone, Copy, Debug)]
struct Standstill;

impl Clock for Standstill {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(0)
    }
}

/// The times at which everything is paid back, in nanoseconds since 1970; governor sees them relative to the visit.
#[derive(Debug)]
struct Debts(Arc<Table>);

impl StateStore for Debts {
    type Key = Visit;

    fn measure_and_replace<T, F, E>(&self, visit: &Visit, step: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.update(visit.hash, visit.now, |paid_back| {
            // A debt paid back in the past is none: zero, relative to now.
            let (out, next) = step(Some(Nanos::new(paid_back.saturating_sub(visit.now))))?;
            Ok((out, visit.now.saturating_add(next.as_u64())))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_795_257_972);

    fn limiter(rate: &str, keys_max: usize) -> KeyedLimiter<u64> {
        KeyedLimiter::new(Rate::parse(rate).unwrap().unwrap(), NonZeroUsize::new(keys_max).unwrap())
    }

    fn allowed(outcome: Outcome) -> bool {
        matches!(outcome, Outcome::Allowed { .. })
    }

    #[test]
    fn the_burst_is_counted_down_and_comes_back_one_by_one() {
        let limiter = limiter("10/1m burst 3", 1000);
        let at = |millis| limiter.take(&7, START.after(Duration::from_millis(millis)));
        assert_eq!(at(0), Outcome::Allowed { remaining: 2 });
        assert_eq!(at(0), Outcome::Allowed { remaining: 1 });
        assert_eq!(at(0), Outcome::Allowed { remaining: 0 });
        assert_eq!(at(0), Outcome::Limited { retry_after: Duration::from_secs(6) });
        assert_eq!(at(5_001), Outcome::Limited { retry_after: Duration::from_secs(1) });
        assert_eq!(at(6_000), Outcome::Allowed { remaining: 0 });
        assert_eq!(at(6_001), Outcome::Limited { retry_after: Duration::from_secs(6) });
        assert_eq!(at(60_000), Outcome::Allowed { remaining: 2 });
        assert_eq!(limiter.take(&8, START), Outcome::Allowed { remaining: 2 });
    }

    #[test]
    fn a_clock_that_is_set_back_frees_nobody() {
        let limiter = limiter("1/1m burst 1", 16);
        assert!(allowed(limiter.take(&1, START)));
        assert!(!allowed(limiter.take(&1, START.before(Duration::from_secs(3600)))));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let limiter = limiter("1/1d burst 30", 16);
        for now in [Timestamp::EPOCH, Timestamp::from_millis(u64::MAX)] {
            assert!(allowed(limiter.take(&now.as_millis(), now)));
        }
    }

    /// Ten million in a soak, fewer otherwise.
    fn spray() -> u64 {
        if std::env::var_os("PORTCULLIS_SOAK").is_some() { 10_000_000 } else { 200_000 }
    }

    #[test]
    fn a_spray_of_keys_neither_grows_the_table_beyond_its_size_nor_clears_a_limit() {
        let limiter = limiter("10/1m burst 3", 4096);
        let slots = |limiter: &KeyedLimiter<u64>| limiter.limiter_slots();
        while allowed(limiter.take(&0, START)) {}
        for key in 1..=spray() {
            limiter.take(&key, START);
            assert!(key % 1000 != 0 || !allowed(limiter.take(&0, START)), "cleared after {key} keys");
        }
        assert_eq!(slots(&limiter), 4096);
        // Newcomers to a table full of debts are limited too, but no longer than the burst takes to come back.
        assert!(!allowed(limiter.take(&u64::MAX, START)));
        assert!(allowed(limiter.take(&u64::MAX, START.after(Duration::from_secs(18)))));
    }

    #[test]
    fn while_there_is_room_nobody_pays_for_others() {
        let limiter = limiter("10/1m burst 3", 1 << 16);
        let refused = (0..1u64 << 15).filter(|key| !allowed(limiter.take(key, START))).count();
        assert_eq!(refused, 0);
    }

    #[test]
    fn parallel_takers_get_the_burst_and_no_more() {
        let limiter = limiter("1/1m burst 100", 1024);
        let taken: usize = std::thread::scope(|scope| {
            let takers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..100).filter(|_| allowed(limiter.take(&3, START))).count())).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, 100);
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_the_burst_and_the_rate(
            quota in 1u32..50, per in 1u64..100, burst in 1u32..20, steps in prop::collection::vec(0u64..5_000, 1..200),
        ) {
            let limiter = limiter(&format!("{quota}/{per}s burst {burst}"), 16);
            let mut now = START;
            let mut taken = Vec::new();
            for step in steps {
                now = now.after(Duration::from_millis(step));
                if allowed(limiter.take(&1, now)) {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, until) in taken.iter().enumerate().skip(first) {
                    let span = u64::try_from(until.since(*from).as_millis()).unwrap();
                    let most = u64::from(burst) + span * u64::from(quota) / (per * 1000);
                    prop_assert!((last - first + 1) as u64 <= most);
                }
            }
        }

        #[test]
        fn who_waits_as_told_is_allowed_and_not_told_to_wait_too_long(
            quota in 1u32..50, per in 1u64..1000, burst in 1u32..20, late in 0u64..3_000,
        ) {
            let limiter = limiter(&format!("{quota}/{per}s burst {burst}"), 16);
            while allowed(limiter.take(&1, START)) {}
            let now = START.after(Duration::from_millis(late));
            if let Outcome::Limited { retry_after } = limiter.take(&1, now) {
                prop_assert!(retry_after >= Duration::from_secs(1) && retry_after.subsec_nanos() == 0);
                let early = now.after(retry_after - Duration::from_secs(1));
                prop_assert!(!allowed(limiter.take(&1, early)));
                prop_assert!(allowed(limiter.take(&1, now.after(retry_after))));
            }
        }
    }

    impl KeyedLimiter<u64> {
        /// The store is inside governor's limiter, so the test asks one like it.
        fn limiter_slots(&self) -> usize {
            let text = format!("{:?}", self.ledger.limiter);
            let (_, digits) = text.split_once("slots: ").unwrap();
            digits.bytes().take_while(u8::is_ascii_digit).fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
        }
    }
}
