//! Figures of all sessions: the store is walked once, page by page, and what is kept meanwhile is of a fixed size.
//!
//! A page of everything is not of one moment: a session that gets a new id while the store is walked may be missing or be
//! counted twice. Sizes are those of the encoded record, without what a store adds (a seal of 29 bytes, indexes).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::view::StateWord;
use crate::clock::Timestamp;
use crate::engine::{Guard, StoreUse};
use crate::session::expiry::{self, Deadlines};
use crate::session::id::Ref;
use crate::session::record::{EndReason, Record, State};
use crate::session::subject::folded;
use crate::store::metered::{Figures, Outcome};
use crate::store::{Filter, Reads, Store, StoreError};

/// Records that are looked at in one go, before others may run: about a millisecond.
const PAGE: usize = 500;
/// How many of the largest records are named.
const LARGEST_MAX: usize = 10;
/// How many subjects are named.
const SUBJECTS_SHOWN_MAX: usize = 10;
/// Subjects that are counted at once.
const SUBJECTS_MAX: usize = 4096;
/// The ages that sessions are told apart by, in seconds: a minute, ten, an hour, six, a day, a week.
const AGES: [u64; 6] = [60, 600, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600];
/// The sizes that records are told apart by, in bytes.
const SIZES: [u64; 7] = [256, 512, 1 << 10, 2 << 10, 4 << 10, 16 << 10, 64 << 10];

/// Figures of all sessions, and of what their store was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// When they were taken.
    pub at: String,
    /// Why not all records were looked at; none if they were.
    pub cut: Option<CutBy>,
    /// Records that were looked at.
    pub records: usize,
    /// Bytes of all of them.
    pub bytes: u64,
    /// How many of them are sessions, by state.
    pub states: States,
    /// How many are none: what is kept of ids that were replaced, and of cookies that were taken over.
    pub leftovers: usize,
    /// Sessions that go on and that somebody signed in to.
    pub authenticated: usize,
    /// Sessions that go on and that nobody signed in to.
    pub anonymous: usize,
    /// Sessions that go on, by how long ago they began.
    pub began: Vec<AgeShare>,
    /// The same, by how long ago they were used.
    pub last_seen: Vec<AgeShare>,
    /// The same, by how large they are.
    pub sizes: Sizes,
    /// The largest of them, the largest first.
    pub largest: Vec<Large>,
    /// The subjects with the most of them, the one with the most first.
    pub subjects: Vec<Busy>,
    /// What the guard has asked of its store since it started.
    pub store: StoreFigures,
}

/// Why not all records were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CutBy {
    /// There are more than were asked for.
    Records,
    /// It took too long.
    Time,
}

/// Sessions by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct States {
    /// They serve their holders.
    pub live: usize,
    /// Their holders have to log in again.
    pub quarantined: usize,
    /// Quarantined clients were given them to log in with.
    pub held: usize,
    /// They are over, and kept for a while.
    pub ended: usize,
}

/// How many sessions are of some age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeShare {
    /// Younger than so many seconds, and not in a share before; none for all that are older.
    pub under_seconds: Option<u64>,
    /// How many.
    pub sessions: usize,
}

/// How large records are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Half of them are no larger, to within two of a hundred.
    pub median: u64,
    /// Ninety-nine of a hundred are no larger, to within two of a hundred.
    pub p99: u64,
    /// The largest.
    pub largest: u64,
    /// How many are of which size.
    pub shares: Vec<SizeShare>,
}

/// How many records are of some size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeShare {
    /// Smaller than so many bytes, and not in a share before; none for all that are larger.
    pub under_bytes: Option<u64>,
    /// How many.
    pub sessions: usize,
}

/// A large record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Large {
    /// The public name of its session.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Its size.
    pub bytes: u64,
    /// Of these, the app's cookies.
    pub jar_bytes: u64,
    /// Of these, what an app in this process keeps in it.
    pub data_bytes: u64,
}

/// A subject with many sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// The subject, in one of its spellings.
    pub subject: String,
    /// It has at least so many.
    pub sessions: usize,
    /// And at most so many. The two differ only where there are more than a few thousand subjects.
    pub at_most: usize,
}

/// What the guard has asked of its store since it started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoreFigures {
    /// What kind of store it is, if the program has told.
    pub kind: Option<String>,
    /// Whether there is a cache before it.
    pub cached: bool,
    /// Requests that came as far as their session.
    pub requests: u64,
    /// How often sessions were created, committed, rotated and ended.
    pub writes: u64,
    /// The one by the other; none before the first request.
    pub writes_per_request: Option<f64>,
    /// By operation.
    pub operations: Vec<OperationFigures>,
}

/// What became of one operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationFigures {
    /// Its name.
    pub operation: String,
    /// All calls.
    pub calls: u64,
    /// Those that were done, or found what they asked for.
    pub done: u64,
    /// Those before which somebody else was faster.
    pub conflict: u64,
    /// Those that found nothing to do it to.
    pub nothing: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those whose answer nobody waited for.
    pub given_up: u64,
    /// Those that were answered without waiting.
    pub at_once: u64,
    /// How long the others waited together, in milliseconds.
    pub waited_ms: f64,
}

/// Walks the store: at most so many records, and no longer than that. A walk that is cut tells what it has seen.
pub(super) async fn walk<S: Store>(
    guard: &Guard<S>,
    records_max: usize,
    time_max: Duration,
    kind: Option<&str>,
) -> Result<Stats, StoreError> {
    let mut tally = Tally::new(guard.now(), guard.policy().session.deadlines);
    let filter = Filter { with_ended: true, ..Filter::default() };
    let mut over = pin!(tokio::time::sleep(time_max));
    let mut after = None;
    let cut = loop {
        let room = records_max.saturating_sub(tally.records);
        if room == 0 {
            break Some(CutBy::Records);
        }
        let page = tokio::select! {
            biased;
            () = &mut over => break Some(CutBy::Time),
            page = guard.sessions(&filter, after, room.min(PAGE)) => page?,
        };
        page.records.iter().for_each(|record| tally.take(record));
        after = page.next;
        if after.is_none() {
            break None;
        }
        tokio::task::yield_now().await;
    };
    let store = StoreFigures::of(&guard.store_use(), kind, guard.store_reads());
    Ok(tally.told(cut, store))
}

/// Whether a record is of a session, and not what an old id or a cookie that was taken over left behind.
pub(super) fn is_session(record: &Record) -> bool {
    let is_old_id = matches!(record.state, State::Ended { why: EndReason::Replaced, .. });
    !is_old_id && record.reference != Ref([0; 16])
}

/// What may be done with a session at a time. The store does not look at deadlines.
pub(super) fn word(record: &Record, deadlines: &Deadlines, now: Timestamp) -> StateWord {
    match (expiry::ended(record, deadlines, now), &record.state) {
        (Some(_), _) | (_, State::Ended { .. }) => StateWord::Ended,
        (None, State::Live) => StateWord::Live,
        (None, State::Quarantined { .. }) => StateWord::Quarantined,
        (None, State::Held { .. }) => StateWord::Held,
    }
}

/// Bytes of a record, the public name of its session, and of these bytes the jar and the data.
type Weighed = (u64, [u8; 16], u64, u64);

/// What is counted while the store is walked.
struct Tally {
    now: Timestamp,
    deadlines: Deadlines,
    records: usize,
    bytes: u64,
    states: States,
    leftovers: usize,
    authenticated: usize,
    anonymous: usize,
    began: [usize; AGES.len() + 1],
    last_seen: [usize; AGES.len() + 1],
    sized: [usize; SIZES.len() + 1],
    sizes: Quantiles,
    largest: BinaryHeap<Reverse<Weighed>>,
    subjects: Subjects,
}

impl Tally {
    fn new(now: Timestamp, deadlines: Deadlines) -> Self {
        Self {
            now,
            deadlines,
            records: 0,
            bytes: 0,
            states: States::default(),
            leftovers: 0,
            authenticated: 0,
            anonymous: 0,
            began: [0; AGES.len() + 1],
            last_seen: [0; AGES.len() + 1],
            sized: [0; SIZES.len() + 1],
            sizes: Quantiles::default(),
            largest: BinaryHeap::with_capacity(LARGEST_MAX + 1),
            subjects: Subjects::default(),
        }
    }

    fn take(&mut self, record: &Record) {
        let bytes = number(record.encode().len());
        self.records += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if !is_session(record) {
            self.leftovers += 1;
            return;
        }
        match word(record, &self.deadlines, self.now) {
            StateWord::Live => self.states.live += 1,
            StateWord::Quarantined => self.states.quarantined += 1,
            StateWord::Held => self.states.held += 1,
            StateWord::Ended => {
                self.states.ended += 1;
                return;
            }
        }
        if record.is_authenticated() {
            self.authenticated += 1
        } else {
            self.anonymous += 1
        }
        let age = |since| self.now.since(since).as_secs();
        add(&mut self.began, &AGES, age(record.created_at));
        add(&mut self.last_seen, &AGES, age(record.last_seen));
        add(&mut self.sized, &SIZES, bytes);
        self.sizes.take(bytes);
        let (jar, data) = (number(record.jar.len()), number(record.data.len()));
        self.largest.push(Reverse((bytes, record.reference.0, jar, data)));
        if self.largest.len() > LARGEST_MAX {
            self.largest.pop();
        }
        if let Some(subject) = &record.subject {
            self.subjects.take(subject);
        }
    }

    fn told(self, cut: Option<CutBy>, store: StoreFigures) -> Stats {
        let ages = |counts: &[usize]| -> Vec<AgeShare> {
            shares(counts, &AGES).map(|(under_seconds, sessions)| AgeShare { under_seconds, sessions }).collect()
        };
        let sized = shares(&self.sized, &SIZES).map(|(under_bytes, sessions)| SizeShare { under_bytes, sessions });
        let largest = self.largest.into_sorted_vec().into_iter().map(|Reverse((bytes, reference, jar, data))| Large {
            reference: Ref(reference).to_string(),
            bytes,
            jar_bytes: jar,
            data_bytes: data,
        });
        Stats {
            at: self.now.to_string(),
            cut,
            records: self.records,
            bytes: self.bytes,
            states: self.states,
            leftovers: self.leftovers,
            authenticated: self.authenticated,
            anonymous: self.anonymous,
            began: ages(&self.began),
            last_seen: ages(&self.last_seen),
            sizes: Sizes {
                median: self.sizes.at(1, 2),
                p99: self.sizes.at(99, 100),
                largest: self.sizes.largest,
                shares: sized.collect(),
            },
            largest: largest.collect(),
            subjects: self.subjects.busiest(),
            store,
        }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Counts a value in the first share that it is under.
fn add(counts: &mut [usize], bounds: &[u64], value: u64) {
    let at = bounds.iter().position(|bound| value < *bound).unwrap_or(bounds.len());
    if let Some(count) = counts.get_mut(at) {
        *count += 1;
    }
}

fn shares(counts: &[usize], bounds: &[u64]) -> impl Iterator<Item = (Option<u64>, usize)> {
    bounds.iter().copied().map(Some).chain([None]).zip(counts.iter().copied())
}

/// Sizes in classes that are at most a sixty-fourth of themselves wide: exact below 128, and to within two of a hundred
/// above. Anything from 2^40 on is in the last class.
#[derive(Debug)]
struct Quantiles {
    classes: Vec<u64>,
    count: u64,
    largest: u64,
}

/// Values below this have a class of their own.
const EXACT: u64 = 128;
/// Classes between one power of two and the next.
const WITHIN: u64 = 64;
/// The last power of two that is told from the next.
const POWER_MAX: u64 = 39;
/// How many classes that makes.
const CLASSES: usize = 128 + 33 * 64;

impl Default for Quantiles {
    fn default() -> Self {
        Self { classes: vec![0; CLASSES], count: 0, largest: 0 }
    }
}

impl Quantiles {
    fn class(value: u64) -> u64 {
        if value < EXACT {
            return value;
        }
        let power = u64::from(value.ilog2()).min(POWER_MAX);
        let place = (value >> (power - 6)).saturating_sub(WITHIN).min(WITHIN - 1);
        EXACT + (power - 7) * WITHIN + place
    }

    /// The largest value of a class.
    const fn most(class: u64) -> u64 {
        if class < EXACT {
            return class;
        }
        let (power, place) = ((class - EXACT) / WITHIN + 7, (class - EXACT) % WITHIN);
        ((WITHIN + place + 1) << (power - 6)) - 1
    }

    fn take(&mut self, value: u64) {
        self.count += 1;
        self.largest = self.largest.max(value);
        let class = usize::try_from(Self::class(value)).ok().and_then(|class| self.classes.get_mut(class));
        if let Some(count) = class {
            *count += 1;
        }
    }

    /// What so large a part of the values does not exceed; 0 if there are none.
    fn at(&self, part: u64, of: u64) -> u64 {
        let wanted = self.count.saturating_mul(part).div_ceil(of);
        let mut seen = 0;
        for (class, count) in (0..).zip(&self.classes) {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Self::most(class).min(self.largest);
            }
        }
        self.largest
    }
}

/// Counts subjects in bounded room (Misra and Gries, 1982). Where there are more subjects than places, a new one takes one
/// from the count of each, so counts are too low by at most as often as that happened; who has more than that is never lost.
#[derive(Debug, Default)]
struct Subjects {
    /// By folded spelling: one of the spellings, and how many sessions.
    counts: HashMap<Box<str>, (Arc<str>, usize)>,
    taken: usize,
}

impl Subjects {
    fn take(&mut self, subject: &Arc<str>) {
        let folded = folded(subject);
        if let Some((_, count)) = self.counts.get_mut(&*folded) {
            *count += 1;
        } else if self.counts.len() < SUBJECTS_MAX {
            self.counts.insert(folded.into(), (Arc::clone(subject), 1));
        } else {
            self.taken += 1;
            self.counts.retain(|_, (_, count)| {
                *count -= 1;
                *count > 0
            });
        }
    }

    fn busiest(self) -> Vec<Busy> {
        let mut all: Vec<_> = self.counts.into_values().collect();
        all.sort_unstable_by(|(one, ones), (other, others)| others.cmp(ones).then_with(|| one.cmp(other)));
        all.truncate(SUBJECTS_SHOWN_MAX);
        let told = |(subject, sessions): (Arc<str>, usize)| Busy {
            subject: subject.as_ref().to_owned(),
            sessions,
            at_most: sessions + self.taken,
        };
        all.into_iter().map(told).collect()
    }
}

impl StoreFigures {
    fn of(used: &StoreUse, kind: Option<&str>, reads: Reads) -> Self {
        let (requests, writes) = (used.requests, used.writes());
        Self {
            kind: kind.map(str::to_owned),
            cached: reads == Reads::Cached,
            requests,
            writes,
            writes_per_request: ratio(writes, requests),
            operations: used.store.iter().map(OperationFigures::of).collect(),
        }
    }
}

/// To three digits behind the point: what is behind them says nothing.
fn ratio(part: u64, of: u64) -> Option<f64> {
    let thousandths = part.saturating_mul(1000).checked_div(of)?;
    Some(f64::from(u32::try_from(thousandths).unwrap_or(u32::MAX)) / 1000.0)
}

impl OperationFigures {
    fn of(figures: &Figures) -> Self {
        Self {
            operation: figures.operation.as_str().to_owned(),
            calls: figures.calls(),
            done: figures.count(Outcome::Done),
            conflict: figures.count(Outcome::Conflict),
            nothing: figures.count(Outcome::Nothing),
            failed: figures.count(Outcome::Failed),
            given_up: figures.count(Outcome::GivenUp),
            at_once: figures.at_once,
            waited_ms: figures.waits.sum.as_secs_f64() * 1000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;
    use crate::layer::GuardBuilder;
    use crate::session::id::SessionDigest;
    use crate::store::conformance::anonymous;
    use crate::store::memory::MemoryStore;
    use crate::store::{Commit, Creation, Durability, Ending, Page, Rotate, Rotation, SubjectLimit};

    /// A store that gives one page and never another.
    #[derive(Debug, Default)]
    struct Stuck(MemoryStore);

    impl Store for Stuck {
        async fn create(&self, r: Record, l: Option<SubjectLimit>, now: Timestamp) -> Result<Creation, StoreError> {
            self.0.create(r, l, now).await
        }

        async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
            self.0.load(digest).await
        }

        async fn commit(&self, record: Record, durability: Durability) -> Result<Commit, StoreError> {
            self.0.commit(record, durability).await
        }

        async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
            self.0.rotate(rotate).await
        }

        async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
            self.0.revoke(digest, ending).await
        }

        async fn revoke_subject(
            &self,
            subject: &str,
            except: Option<&SessionDigest>,
            ending: Ending,
        ) -> Result<Vec<Arc<Record>>, StoreError> {
            self.0.revoke_subject(subject, except, ending).await
        }

        async fn list(&self, f: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
            if after.is_some() {
                std::future::pending::<()>().await;
            }
            self.0.list(f, after, max).await
        }

        async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
            self.0.clear_expired(now, max).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_cuts_the_walk() {
        let now = Timestamp::from_secs(1_800_000_000);
        let guard = GuardBuilder::new(Stuck::default()).clock(Arc::new(ManualClock::new(now))).build().unwrap();
        for nth in 0..600 {
            guard.store().create(anonymous(nth), None, now).await.unwrap();
        }
        let stats = walk(&guard, 10_000, Duration::from_secs(300), None).await.unwrap();
        assert_eq!((stats.records, stats.states.live, stats.cut), (PAGE, PAGE, Some(CutBy::Time)));
        let list = stats.store.operations.iter().find(|of| of.operation == "list").unwrap();
        assert_eq!((list.done, list.given_up), (1, 1));
    }

    #[test]
    fn sizes_are_told_to_within_two_of_a_hundred() {
        let mut sizes = Quantiles::default();
        assert_eq!((sizes.at(1, 2), sizes.at(99, 100)), (0, 0));
        (1..=100_000).for_each(|size| sizes.take(size));
        let near = |found: u64, exact: u64| assert!(found >= exact && found <= exact + exact / 50, "{found} {exact}");
        near(sizes.at(1, 2), 50_000);
        near(sizes.at(99, 100), 99_000);
        assert_eq!((sizes.at(1, 1), sizes.largest), (100_000, 100_000));
        let mut one = Quantiles::default();
        one.take(90_001);
        assert_eq!((one.at(1, 2), one.at(99, 100)), (90_001, 90_001));
    }

    proptest! {
        #[test]
        fn a_size_is_in_its_class(size: u64) {
            for size in [size, size >> 20, size >> 40, size >> 50] {
                let class = Quantiles::class(size);
                prop_assert!(usize::try_from(class).unwrap() < CLASSES);
                if size < 1 << 40 {
                    prop_assert!(Quantiles::most(class) >= size && Quantiles::most(class) <= size + size / 64);
                    prop_assert!(class == 0 || Quantiles::most(class - 1) < size);
                }
            }
        }

        /// The promise that counts of a crowd make: never above, and below by no more than is told.
        #[test]
        fn counts_of_subjects_are_as_good_as_they_say(whales in 1_usize..40, minnows in 0_usize..12_000, often in 1_usize..20) {
            let mut subjects = Subjects::default();
            let name = |what: &str, nth: usize| -> Arc<str> { format!("{what}{nth}").into() };
            for nth in 0..minnows {
                subjects.take(&name("minnow", nth));
                if nth % 3 == 0 {
                    subjects.take(&name("whale", nth / 3 % whales));
                }
            }
            for _ in 0..often {
                (0..whales).for_each(|nth| subjects.take(&name("WHALE", nth)));
            }
            prop_assert!(subjects.counts.len() <= SUBJECTS_MAX);
            let exact = |nth: usize| often + (0..minnows).step_by(3).filter(|at| at / 3 % whales == nth).count();
            let lost = subjects.taken;
            prop_assert!(lost <= (minnows + minnows / 3 + 1 + whales * often) / SUBJECTS_MAX);
            for nth in 0..whales {
                let found = subjects.counts.get(&*format!("whale{nth}")).map_or(0, |(_, count)| *count);
                prop_assert!(found <= exact(nth) && found + lost >= exact(nth), "{found} {lost} {}", exact(nth));
            }
        }
    }
}
