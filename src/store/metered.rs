//! A store that counts what it is asked, what came of it, and how long its callers waited.
//!
//! A guard has one around its store, so it is made to cost nothing that could be noticed: a call that is answered without
//! waiting, as a store in memory does, costs one relaxed addition and reads no clock. A clock is read when a call has to wait
//! for the first time, and again when it is over. So what is measured is the wait and not the work before it, which is some
//! microseconds of encoding and sealing at most.
//!
//! Counts stand in several cells, chosen by the digest, so that threads which serve different sessions do not fetch the same
//! memory from each other. What rules count in a shared store ([`Store::counters`]) passes by uncounted.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::counters::Counters;
use super::endings::{Endings, Notice};
use super::leases::Leases;
use super::{
    Carrier, Commit, Created, Creation, Durability, Ending, Filter, Page, Proof, Reads, Rotate, Rotation, Store,
    StoreError, SubjectLimit,
};
use crate::clock::{Clock, Timestamp};
use crate::figures::{self, Apart, CELLS, Histogram, Times};
use crate::session::id::SessionDigest;
use crate::session::record::Record;

/// Makes an enum with its words and its list, once.
macro_rules! words {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant),+];
            /// How many there are.
            pub const COUNT: usize = [$(Self::$variant),+].len();

            /// Its word, as metrics have it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// What a store is asked: the methods of [`Store`].
    Operation {
        /// A new session.
        Create = "create",
        /// A session by its digest.
        Load = "load",
        /// The same, past any cache.
        LoadFresh = "load_fresh",
        /// A changed record.
        Commit = "commit",
        /// A new id.
        Rotate = "rotate",
        /// An end.
        Revoke = "revoke",
        /// The end of all of a subject.
        RevokeSubject = "revoke_subject",
        /// A page of sessions.
        List = "list",
        /// A batch of records that are over.
        ClearExpired = "clear_expired",
    }
}

impl Operation {
    /// Whether it changes a session when it is done.
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Create | Self::Commit | Self::Rotate | Self::Revoke | Self::RevokeSubject)
    }
}

words! {
    /// What came of a call.
    Outcome {
        /// It was done, or what was asked for was there.
        Done = "done",
        /// Somebody else was faster.
        Conflict = "conflict",
        /// There was nothing to do it to: no such session, or one that has ended; a digest that is taken; a limit.
        Nothing = "nothing",
        /// The store failed.
        Failed = "failed",
        /// Whoever asked did not wait for the answer.
        GivenUp = "given_up",
    }
}

/// What became of one operation since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The operation.
    pub operation: Operation,
    /// Calls by what came of them, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::COUNT],
    /// Those of them that were answered without waiting.
    pub at_once: u64,
    /// How long those calls waited that did. All others were answered at once.
    pub waits: Times,
}

impl Figures {
    fn new(operation: Operation) -> Self {
        Self { operation, outcomes: [0; Outcome::COUNT], at_once: 0, waits: Times::default() }
    }

    /// All calls that are over.
    pub fn calls(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Calls that came out like this.
    pub fn count(&self, outcome: Outcome) -> u64 {
        Outcome::ALL.iter().zip(&self.outcomes).filter(|(is, _)| **is == outcome).map(|(_, count)| count).sum()
    }
}

/// Counts of one operation.
#[derive(Debug, Default)]
struct Counts {
    /// Of calls that were answered at once.
    at_once: [AtomicU64; Outcome::COUNT],
    /// Of calls that waited.
    later: [AtomicU64; Outcome::COUNT],
    waits: Histogram,
}

/// Counts of all operations.
type Cell = Apart<[Counts; Operation::COUNT]>;

/// A store, and what was asked of it.
pub struct Metered<S> {
    store: S,
    clock: Arc<dyn Clock>,
    cells: Box<[Cell; CELLS]>,
}

impl<S: fmt::Debug> fmt::Debug for Metered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<S> Metered<S> {
    /// Counts what is asked of a store from now on.
    pub fn new(store: S, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, cells: Box::default() }
    }

    /// The store; what is asked of it by this way is not counted.
    pub const fn inner(&self) -> &S {
        &self.store
    }

    /// What was asked so far, in the order of [`Operation::ALL`]. Calls that end meanwhile may be in it by half.
    pub fn figures(&self) -> [Figures; Operation::COUNT] {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut all = Operation::ALL.map(Figures::new);
        for cell in self.cells.iter() {
            for (sum, counts) in all.iter_mut().zip(&cell.0) {
                for (place, (at_once, later)) in counts.at_once.iter().zip(&counts.later).enumerate() {
                    let at_once = read(at_once);
                    sum.at_once += at_once;
                    sum.outcomes.iter_mut().skip(place).take(1).for_each(|sum| *sum += at_once + read(later));
                }
                counts.waits.add_to(&mut sum.waits);
            }
        }
        all
    }

    fn call(&self, operation: Operation, about: Option<&SessionDigest>) -> Call<'_> {
        let cell = about.map_or(0, |digest| usize::from(digest.0[0]) % CELLS);
        #[expect(clippy::indexing_slicing, reason = "a cell for each remainder, a place for each operation")]
        let counts = &self.cells[cell].0[place(operation)];
        Call { counts, clock: &*self.clock, since: None, outcome: Outcome::GivenUp }
    }
}

/// Where a variant stands in its list.
fn place(operation: Operation) -> usize {
    Operation::ALL.iter().position(|other| *other == operation).unwrap_or(0)
}

/// A call that is under way; it is counted when it is over, also if its caller goes away before.
struct Call<'a> {
    counts: &'a Counts,
    clock: &'a dyn Clock,
    /// When it began to wait, by [`Clock::run_for`].
    since: Option<Duration>,
    outcome: Outcome,
}

impl Call<'_> {
    fn look<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        if polled.is_pending() && self.since.is_none() {
            self.since = Some(self.clock.run_for());
        }
        polled
    }

    fn over<T>(mut self, answer: Result<T, StoreError>, read: impl FnOnce(&T) -> Outcome) -> Result<T, StoreError> {
        self.outcome = answer.as_ref().map_or(Outcome::Failed, read);
        answer
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let outcomes = if self.since.is_some() { &self.counts.later } else { &self.counts.at_once };
        figures::count_of(outcomes, &Outcome::ALL, &self.outcome);
        if let Some(since) = self.since {
            self.counts.waits.add(self.clock.run_for().saturating_sub(since));
        }
    }
}

/// Makes a call, and counts it. In place, so that what waits is not larger for being watched.
macro_rules! counted {
    ($self:ident, $operation:ident, $about:expr, $asked:expr, $read:expr) => {{
        let mut call = $self.call(Operation::$operation, $about);
        let mut asked = pin!($asked);
        let answer = poll_fn(|context| call.look(asked.as_mut().poll(context))).await;
        call.over(answer, $read)
    }};
}

const fn of_created(created: &Created) -> Outcome {
    match created {
        Created::Done { .. } => Outcome::Done,
        Created::Refused => Outcome::Nothing,
    }
}

const fn of_found<T>(found: &Option<T>) -> Outcome {
    if found.is_some() { Outcome::Done } else { Outcome::Nothing }
}

impl<S: Store> Store for Metered<S> {
    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        let digest = record.digest;
        counted!(self, Create, Some(&digest), self.store.create(record, limit, now), |creation| match creation {
            Creation::Created(created) => of_created(created),
            Creation::Exists => Outcome::Nothing,
        })
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        counted!(self, Load, Some(digest), self.store.load(digest), of_found)
    }

    async fn load_fresh(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        counted!(self, LoadFresh, Some(digest), self.store.load_fresh(digest), of_found)
    }

    fn reads(&self) -> Reads {
        self.store.reads()
    }

    fn proof(&self) -> Proof {
        self.store.proof()
    }

    fn notices(&self) -> Option<Endings> {
        self.store.notices()
    }

    fn follows(&self) -> Option<Endings> {
        self.store.follows()
    }

    fn heed(&self, notice: Notice) {
        self.store.heed(notice);
    }

    fn leases(&self) -> Option<&dyn Leases> {
        self.store.leases()
    }

    fn attend(&self) -> impl Future<Output = Option<Duration>> + Send {
        self.store.attend()
    }

    async fn commit(&self, record: Record, durability: Durability) -> Result<Commit, StoreError> {
        let digest = record.digest;
        counted!(self, Commit, Some(&digest), self.store.commit(record, durability), |commit| match commit {
            Commit::Done(_) => Outcome::Done,
            Commit::Conflict(_) => Outcome::Conflict,
            Commit::Gone => Outcome::Nothing,
        })
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        let digest = *rotate.old;
        counted!(self, Rotate, Some(&digest), self.store.rotate(rotate), |rotation| match rotation {
            Rotation::Created(created) => of_created(created),
            Rotation::Conflict(_) => Outcome::Conflict,
            Rotation::Gone => Outcome::Nothing,
        })
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        counted!(self, Revoke, Some(digest), self.store.revoke(digest, ending), of_found)
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        let asked = self.store.revoke_subject(subject, except, ending);
        counted!(self, RevokeSubject, None, asked, |ended: &Vec<_>| of_found(&ended.first()))
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        counted!(self, List, after.as_ref(), self.store.list(filter, after, max), |page| {
            of_found(&page.records.first())
        })
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        counted!(self, ClearExpired, None, self.store.clear_expired(now, max), |removed| match removed {
            0 => Outcome::Nothing,
            _ => Outcome::Done,
        })
    }

    fn live(&self) -> Option<usize> {
        self.store.live()
    }

    fn carrier(&self) -> Option<&dyn Carrier> {
        self.store.carrier()
    }

    fn counters(&self) -> Option<&dyn Counters> {
        self.store.counters()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;
    use crate::clock::ManualClock;
    use crate::session::record::EndReason;
    use crate::store::conformance::{self, anonymous, session};
    use crate::store::memory::MemoryStore;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn metered<S>(store: S) -> (Metered<S>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(NOW));
        (Metered::new(store, clock.clone()), clock)
    }

    fn counts<S>(store: &Metered<S>, operation: Operation) -> [u64; Outcome::COUNT] {
        store.figures()[place(operation)].outcomes
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn it_conforms() {
        conformance::run(async || metered(MemoryStore::default()).0).await.unwrap();
    }

    #[tokio::test]
    async fn every_call_is_counted_by_what_came_of_it() {
        let (store, _) = metered(MemoryStore::default());
        let record = session(1, "ann");
        let ending = Ending { why: EndReason::Logout, now: NOW, tombstone_until: NOW.after(Duration::from_secs(60)) };
        store.create(record.clone(), None, NOW).await.unwrap();
        store.create(record.clone(), None, NOW).await.unwrap();
        store.commit(record.clone(), Durability::Soon).await.unwrap();
        store.commit(record.clone(), Durability::Soon).await.unwrap();
        store.commit(anonymous(7), Durability::Soon).await.unwrap();
        let rotate = |version| Rotate {
            old: &record.digest,
            version,
            new: session(2, "ann"),
            also_end: None,
            limit: None,
            now: NOW,
            tombstone_until: ending.tombstone_until,
        };
        for version in [0, 1, 1] {
            store.rotate(rotate(version)).await.unwrap();
        }
        store.load(&record.digest).await.unwrap();
        store.load(&anonymous(7).digest).await.unwrap();
        store.load_fresh(&record.digest).await.unwrap();
        store.revoke(&session(2, "ann").digest, ending).await.unwrap();
        store.revoke(&session(2, "ann").digest, ending).await.unwrap();
        store.revoke_subject("ann", None, ending).await.unwrap();
        store.list(&Filter::default(), None, 10).await.unwrap();
        store.clear_expired(NOW, 10).await.unwrap();
        let expected = [
            (Operation::Create, [1, 0, 1, 0, 0]),
            (Operation::Load, [1, 0, 1, 0, 0]),
            (Operation::LoadFresh, [1, 0, 0, 0, 0]),
            (Operation::Commit, [1, 1, 1, 0, 0]),
            (Operation::Rotate, [1, 1, 1, 0, 0]),
            (Operation::Revoke, [1, 0, 1, 0, 0]),
            (Operation::RevokeSubject, [0, 0, 1, 0, 0]),
            (Operation::List, [0, 0, 1, 0, 0]),
            (Operation::ClearExpired, [0, 0, 1, 0, 0]),
        ];
        for (operation, expected) in expected {
            assert_eq!(counts(&store, operation), expected, "{operation:?}");
        }
        let figures = store.figures();
        assert!(figures.iter().filter(|figures| figures.operation != Operation::List).all(|f| f.at_once == f.calls()));
    }

    /// A store that answers when it is told to.
    #[derive(Debug, Default)]
    struct Slow {
        asked: AtomicUsize,
        answer: Notify,
    }

    impl Store for Slow {
        async fn create(&self, _: Record, _: Option<SubjectLimit>, _: Timestamp) -> Result<Creation, StoreError> {
            Err(StoreError::Full)
        }

        async fn load(&self, _: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.answer.notified().await;
            Ok(None)
        }

        async fn commit(&self, _: Record, _: Durability) -> Result<Commit, StoreError> {
            Ok(Commit::Gone)
        }

        async fn rotate(&self, _: Rotate<'_>) -> Result<Rotation, StoreError> {
            Ok(Rotation::Gone)
        }

        async fn revoke(&self, _: &SessionDigest, _: Ending) -> Result<Option<Arc<Record>>, StoreError> {
            Ok(None)
        }

        async fn revoke_subject(
            &self,
            _: &str,
            _: Option<&SessionDigest>,
            _: Ending,
        ) -> Result<Vec<Arc<Record>>, StoreError> {
            Ok(Vec::new())
        }

        async fn list(&self, _: &Filter, _: Option<SessionDigest>, _: usize) -> Result<Page, StoreError> {
            Ok(Page::default())
        }

        async fn clear_expired(&self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
            Ok(0)
        }
    }

    #[tokio::test]
    async fn a_wait_is_measured_and_a_call_that_is_given_up_counted() {
        let (store, clock) = metered(Slow::default());
        let store = Arc::new(store);
        let digest = anonymous(1).digest;
        for millis in [3, 60_000] {
            let asking = tokio::spawn({
                let store = store.clone();
                async move { store.load(&digest).await.map(|found| found.is_some()) }
            });
            tokio::task::yield_now().await;
            clock.advance(Duration::from_millis(millis));
            store.inner().answer.notify_one();
            assert!(!asking.await.unwrap().unwrap());
        }
        let mut given_up = Box::pin(store.load(&digest));
        assert!(poll_fn(|context| Poll::Ready(given_up.as_mut().poll(context))).await.is_pending());
        clock.advance(Duration::from_millis(2));
        drop(given_up);
        assert_eq!(store.inner().asked.load(Ordering::SeqCst), 3);
        assert!(store.create(anonymous(1), None, NOW).await.is_err());

        let figures = store.figures()[place(Operation::Load)];
        assert_eq!(figures.outcomes, [0, 0, 2, 0, 1]);
        assert_eq!(figures.waits.buckets, [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((figures.waits.sum, figures.at_once), (Duration::from_millis(60_005), 0));
        assert_eq!(counts(&store, Operation::Create), [0, 0, 0, 1, 0]);
        assert_eq!(figures.count(Outcome::GivenUp), 1);
    }
}
