//! Numbers that several guards share: what their limits count, and which devices they know.
//!
//! A key has one number in each account. What a number stands for and how it changes is told here; a store only reads it, applies
//! a [`Step`], and writes it, in one go.
//!
//! | account | number | nothing is owed |
//! |---|---|---|
//! | [`Account::Rate`] | microseconds since 1970 at which all that was taken is paid back | when that is over |
//! | [`Account::Delay`] | milliseconds until which failures are remembered, times 16, and the level of the delay | when that is over |
//! | [`Account::Memory`] | milliseconds until which something is remembered | when that is over |

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::StoreError;
use super::counters::{Counters, Key, Question, Windows};
use crate::clock::Timestamp;

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// What was taken of a rate.
    Rate,
    /// How long to wait after failures.
    Delay,
    /// What is remembered.
    Memory,
}

impl Account {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rate, Self::Delay, Self::Memory];

    /// Its place among them.
    pub const fn index(self) -> usize {
        match self {
            Self::Rate => 0,
            Self::Delay => 1,
            Self::Memory => 2,
        }
    }

    /// Until when the number means something.
    pub const fn until(self, number: u64) -> Timestamp {
        Timestamp::from_millis(match self {
            Self::Rate => number / MICROS,
            Self::Delay => number >> LEVEL_BITS,
            Self::Memory => number,
        })
    }

    /// The largest number that means nothing at that time.
    pub const fn nothing(self, now: Timestamp) -> u64 {
        let now = now.as_millis();
        match self {
            Self::Rate => now.saturating_mul(MICROS),
            Self::Delay => now.saturating_mul(1 << LEVEL_BITS) | ((1 << LEVEL_BITS) - 1),
            Self::Memory => now,
        }
    }
}

/// How often something may happen: once in every `interval`, and so many times at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    interval: u64,
    burst: u32,
}

impl Pace {
    /// A pace. The interval counts in whole microseconds, rounded up.
    pub fn new(interval: Duration, burst: u32) -> Self {
        let interval = u64::try_from(interval.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        Self { interval: interval.max(1), burst: burst.max(1) }
    }

    /// Microseconds in which one is paid back.
    pub const fn interval(self) -> u64 {
        self.interval
    }

    /// How many may come at once.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// Microseconds in which so many are paid back.
    fn cost(self, count: u32) -> u64 {
        self.interval.saturating_mul(u64::from(count))
    }
}

/// How long the first failure is remembered, in milliseconds; a failure on level `n` is remembered `2^n` times as long.
const MEMORY_MS: u64 = 8_000;
/// Failures in a row that cost nothing: a mistyped password.
const FREE_LEVELS: u64 = 3;
/// Bits of a number that hold the level; the bits above hold the time until which it is remembered.
const LEVEL_BITS: u32 = 4;
/// In a millisecond.
const MICROS: u64 = 1000;

/// A delay that grows with failures: a failure is remembered for twice as long as the memory that was left of those before,
/// at least for 8 s. Three in a row cost nothing, the next ones 1 s, 2 s, 4 s ... up to a longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    delay_max_ms: u64,
    level_max: u64,
}

impl Growth {
    /// Up to that delay, an hour at most.
    pub fn up_to(delay_max: Duration) -> Self {
        const HOUR_MS: u64 = 3_600_000;
        let delay_max_ms = u64::try_from(delay_max.as_millis()).unwrap_or(HOUR_MS).min(HOUR_MS);
        let doublings = delay_max_ms.div_ceil(1000).next_power_of_two().trailing_zeros();
        Self { delay_max_ms, level_max: FREE_LEVELS + u64::from(doublings) }
    }

    /// The longest delay, in milliseconds.
    pub const fn delay_max_ms(self) -> u64 {
        self.delay_max_ms
    }

    /// The highest level, from 3 to 15.
    pub const fn level_max(self) -> u64 {
        self.level_max
    }

    /// How long a key of that number still has to wait.
    pub fn wait(self, number: u64, now: Timestamp) -> Duration {
        let (until, level) = (number >> LEVEL_BITS, number & ((1 << LEVEL_BITS) - 1));
        let Some(doublings) = level.checked_sub(FREE_LEVELS) else { return Duration::ZERO };
        let delay = (1000 << doublings).min(self.delay_max_ms);
        let failed_at = until.saturating_sub(MEMORY_MS << level);
        Timestamp::from_millis(failed_at.saturating_add(delay)).since(now)
    }

    /// The number after one more failure.
    pub fn grown(self, number: u64, now: Timestamp) -> u64 {
        let now = now.as_millis();
        let left = (number >> LEVEL_BITS).saturating_sub(now);
        // The first level whose memory is at least twice what is left.
        let steps = left.saturating_mul(2).div_ceil(MEMORY_MS).max(1);
        let doublings = steps.checked_next_power_of_two().map_or(u64::BITS, u64::trailing_zeros);
        let level = u64::from(doublings).min(self.level_max);
        let until = now.saturating_add(MEMORY_MS << level).min(u64::MAX >> LEVEL_BITS);
        until << LEVEL_BITS | level
    }
}

/// What a guard has let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many.
    pub count: u32,
    /// Within the time of that length which ends now. They count from its beginning: who keeps to a rate owes nothing for what
    /// he is told late.
    pub within: Duration,
}

/// What is done to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Takes one, if it may be taken now: the generic cell rate algorithm (ITU-T I.371).
    Take(Pace),
    /// Takes what a guard has let through, whether it may or not. No more is owed than a burst.
    Add(Pace, Taken),
    /// Refuses as long as failures have to be waited for.
    Wait(Growth),
    /// One more failure.
    Grow(Growth),
    /// No failure any more.
    Forgive,
    /// Something is remembered until then, or longer if it is already.
    Remember(Timestamp),
    /// Asks until when it is remembered.
    Recall,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done {
        /// Until when the number means something, in whole milliseconds.
        until: Timestamp,
    },
    /// It would have been too early; nothing was changed.
    Refused {
        /// After that time, rounded up to whole milliseconds, it is not.
        wait: Duration,
    },
}

impl Step {
    /// The account it is about.
    pub const fn account(&self) -> Account {
        match self {
            Self::Take(_) | Self::Add(..) => Account::Rate,
            Self::Wait(_) | Self::Grow(_) | Self::Forgive => Account::Delay,
            Self::Remember(_) | Self::Recall => Account::Memory,
        }
    }

    /// Which part of a burst a guard has let through with it, in millionths. Who is over his limit already is asked about with
    /// none, and counts as a whole one. 0 of all other steps.
    pub fn share(&self) -> u64 {
        const WHOLE: u64 = 1_000_000;
        match self {
            Self::Add(_, Taken { count: 0, .. }) => WHOLE,
            Self::Add(pace, taken) => u64::from(taken.count).saturating_mul(WHOLE) / u64::from(pace.burst),
            _ => 0,
        }
    }

    /// Whether a guard asks with it about somebody of whom it has let nothing through.
    pub const fn is_question(&self) -> bool {
        matches!(self, Self::Add(_, Taken { count: 0, .. }))
    }

    /// The answer, and the number that stands there afterwards. 0 stands for no number.
    pub fn apply(&self, number: u64, now: Timestamp) -> (Answer, u64) {
        let micros = now.as_millis().saturating_mul(MICROS);
        // What means nothing any more may be there still, or not.
        let number = if number > self.account().nothing(now) { number } else { 0 };
        let refused = |wait: Duration| (Answer::Refused { wait: whole_millis(wait) }, number);
        let next = match self {
            Self::Take(pace) => {
                let owed = number.max(micros);
                let room = pace.cost(pace.burst.saturating_sub(1));
                match (owed - micros).checked_sub(room) {
                    None | Some(0) => owed.saturating_add(pace.interval),
                    Some(wait) => return refused(Duration::from_micros(wait)),
                }
            }
            Self::Add(pace, Taken { count, within }) => {
                let begun = micros.saturating_sub(u64::try_from(within.as_micros()).unwrap_or(u64::MAX));
                let owed = number.max(begun).saturating_add(pace.cost(*count));
                // What a guard with a clock that is ahead wrote is left as it is.
                owed.min(micros.saturating_add(pace.cost(pace.burst))).max(number)
            }
            Self::Wait(growth) => match growth.wait(number, now) {
                Duration::ZERO => number,
                wait => return refused(wait),
            },
            Self::Grow(growth) => growth.grown(number, now),
            Self::Forgive => 0,
            Self::Remember(until) => number.max(until.as_millis()),
            Self::Recall => number,
        };
        (Answer::Done { until: self.account().until(next) }, next)
    }
}

fn whole_millis(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

/// A step, and whose number it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose: a keyed hash, the same on every node with the same keys.
    pub key: Key,
    /// What is done.
    pub step: Step,
}

/// The answers of [`Counters::change`] to come.
pub type Changed<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Vec<Answer>, StoreError>> + Send + 'a>>;

/// Takes the steps in their order, up to the first that is refused.
pub fn walk(changes: &[Change], mut take: impl FnMut(&Change) -> Answer) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(changes.len());
    for change in changes {
        let answer = take(change);
        answers.push(answer);
        if matches!(answer, Answer::Refused { .. }) {
            break;
        }
    }
    answers
}

/// Most keys of each account that a table keeps.
pub const KEYS_MAX: usize = 200_000;

/// The numbers of several guards of one process.
#[derive(Debug)]
pub struct Debts {
    accounts: [Mutex<BTreeMap<Key, u64>>; 3],
    keys_max: usize,
}

impl Default for Debts {
    fn default() -> Self {
        Self::new(KEYS_MAX)
    }
}

impl Debts {
    /// No numbers yet, and so many in each account at most.
    pub fn new(keys_max: usize) -> Self {
        Self { accounts: Default::default(), keys_max: keys_max.max(1) }
    }

    /// Does the steps, up to the first that is refused.
    pub fn change(&self, changes: &[Change], now: Timestamp) -> Vec<Answer> {
        walk(changes, |change| self.take(change, now))
    }

    fn take(&self, change: &Change, now: Timestamp) -> Answer {
        let account = change.step.account();
        let Some(numbers) = self.accounts.get(account.index()) else { return Answer::Done { until: now } };
        let mut numbers = numbers.lock();
        let (answer, next) = change.step.apply(numbers.get(&change.key).copied().unwrap_or_default(), now);
        if next <= account.nothing(now) {
            numbers.remove(&change.key);
        } else if let Some(number) = numbers.get_mut(&change.key) {
            *number = next;
        } else {
            let inherited = self.make_room(&mut numbers, account, now);
            numbers.insert(change.key, next.max(inherited));
        }
        answer
    }

    /// Makes room for one more. Who owes least gives way, and who takes his place owes as much: nobody clears a number of his
    /// own by spraying keys. What is remembered is not inherited.
    fn make_room(&self, numbers: &mut BTreeMap<Key, u64>, account: Account, now: Timestamp) -> u64 {
        if numbers.len() < self.keys_max {
            return 0;
        }
        numbers.retain(|_, number| *number > account.nothing(now));
        if numbers.len() < self.keys_max {
            return 0;
        }
        // An eighth of them, so that the walk is rare.
        let mut all: Vec<u64> = numbers.values().copied().collect();
        let (_, least, _) = all.select_nth_unstable(self.keys_max / 8);
        let least = *least;
        numbers.retain(|_, number| *number > least);
        if account == Account::Memory { 0 } else { least }
    }
}

/// What several guards of one process count together.
#[derive(Debug, Default)]
pub struct Counts {
    /// What rules count.
    pub windows: Windows,
    /// What limits count.
    pub debts: Debts,
}

impl Counters for Counts {
    fn ask<'a>(&'a self, questions: &'a [Question], now: Timestamp) -> super::counters::Answered<'a> {
        let answers = questions.iter().map(|question| self.windows.count(*question, now)).collect();
        Box::pin(std::future::ready(Ok(answers)))
    }

    fn change<'a>(&'a self, changes: &'a [Change], now: Timestamp) -> Changed<'a> {
        Box::pin(std::future::ready(Ok(self.debts.change(changes, now))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_795_257_972);

    fn change(key: u64, step: Step) -> Change {
        Change { key: Key::from_u64(key), step }
    }

    fn pace(millis: u64, burst: u32) -> Pace {
        Pace::new(Duration::from_millis(millis), burst)
    }

    #[test]
    fn a_key_that_gives_way_owes_no_less_when_it_returns() {
        let debts = Debts::new(64);
        let slow = Step::Take(pace(60_000, 3));
        let owed = |key: u64| debts.accounts[0].lock().get(&Key::from_u64(key)).copied().unwrap_or_default();
        for _ in 0..3 {
            debts.change(&[change(0, slow)], START);
        }
        assert!(matches!(debts.change(&[change(0, slow)], START)[..], [Answer::Refused { .. }]));
        for key in 1..1000 {
            debts.change(&[change(key, slow)], START);
        }
        assert!(debts.accounts[0].lock().len() <= 64);
        // Whoever comes anew owes as much as the one that gave way for him.
        let before = owed(999);
        assert!(before >= Account::Rate.nothing(START) + 60_000_000, "{before}");
        assert!(matches!(debts.change(&[change(0, slow)], START)[..], [Answer::Refused { .. }]), "it cleared its debt");
        // When all is paid back there is room again.
        let later = START.after(Duration::from_secs(3600));
        assert!(matches!(debts.change(&[change(7, slow)], later)[..], [Answer::Done { .. }]));
        debts.change(&(2000..2064).map(|key| change(key, slow)).collect::<Vec<_>>(), later);
        assert!(debts.accounts[0].lock().len() <= 64);
    }

    #[test]
    fn what_is_over_is_not_kept() {
        let debts = Debts::default();
        let until = START.after(Duration::from_secs(5));
        debts.change(
            &[change(1, Step::Remember(until)), change(1, Step::Grow(Growth::up_to(Duration::from_secs(30))))],
            START,
        );
        assert_eq!(debts.change(&[change(1, Step::Recall)], START), [Answer::Done { until }]);
        let later = until.after(Duration::from_secs(60));
        debts.change(&[change(1, Step::Recall), change(1, Step::Wait(Growth::up_to(Duration::ZERO)))], later);
        assert!(debts.accounts.iter().all(|account| account.lock().is_empty()));
    }

    #[test]
    fn adding_more_than_a_burst_owes_a_burst() {
        let taken = |count| Taken { count, within: Duration::from_millis(250) };
        let (_, number) = Step::Add(pace(1000, 3), taken(1_000_000)).apply(0, START);
        assert_eq!(number, START.as_millis() * 1000 + 3_000_000);
        let (answer, same) = Step::Take(pace(1000, 3)).apply(number, START);
        assert_eq!((answer, same), (Answer::Refused { wait: Duration::from_secs(1) }, number));
        // Never less than before, whatever the clocks say.
        assert_eq!(Step::Add(pace(1000, 3), taken(1)).apply(number, Timestamp::from_secs(0)).1, number);
        // Who took what his rate gives him within that time owes nothing.
        let (answer, _) = Step::Add(pace(125, 3), taken(2)).apply(0, START);
        assert_eq!(answer, Answer::Done { until: START });
    }

    #[test]
    fn the_first_step_that_is_refused_is_the_last() {
        let debts = Debts::default();
        let once = Step::Take(pace(1000, 1));
        let both = [change(1, once), change(2, once)];
        assert_eq!(debts.change(&both, START).len(), 2);
        assert_eq!(debts.change(&both, START), [Answer::Refused { wait: Duration::from_secs(1) }]);
    }
}
