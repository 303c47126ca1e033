//! What every store must do, as a suite that an author of a store can run.
//!
//! Each [`Case`] wants an empty store of its own. Give [`store_conformance!`](crate::store_conformance) a way to make one, and
//! each case is a test of its own:
//!
//! ```
//! mod conforms {
//!     use portcullis::store::memory::MemoryStore;
//!
//!     portcullis::store_conformance!(async || MemoryStore::default());
//! }
//! ```
//!
//! [`run`] runs all cases, one after the other, and tells the first that fails. Cases about concurrency spawn tasks: use a runtime
//! with several threads.
//!
//! ```
//! # tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(async {
//! use portcullis::store::{conformance, memory::MemoryStore};
//!
//! conformance::run(async || MemoryStore::default()).await.unwrap();
//! # });
//! ```

mod concurrent;
mod counting;
mod histories;
mod limits;
mod listing;
mod single;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(in crate::store) use self::histories::schedules;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Barrier;

use super::{Created, Creation, Ending, OnLimit, Rotate, Rotation, Store, StoreError, SubjectLimit};
use crate::clock::Timestamp;
use crate::entropy::{InsecureSeededEntropy, random};
use crate::session::id::{Ref, SessionDigest};
use crate::session::record::{EndReason, Lasting, Record, State};
use crate::session::tag::{Tag, Tags};

/// A store does not do what it must.
#[derive(Debug, thiserror::Error)]
#[error("a store must pass `{case}`: {fault}")]
pub struct Failure {
    /// The name of the case.
    pub case: &'static str,
    /// What went wrong.
    #[source]
    pub fault: Fault,
}

/// What went wrong in a case.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The store gave an answer that it must not give.
    #[error("{0}")]
    Answer(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task of the case did not come to its end: the store panicked.
    #[error("a task did not come to its end: {0}")]
    Task(#[from] tokio::task::JoinError),
}

type Outcome = Result<(), Fault>;

/// Goes on if the condition holds; the message says what must hold.
macro_rules! must {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err($crate::store::conformance::Fault::Answer(format!($($message)+)));
        }
    };
}
use must;

/// Lists the cases once: the enum, all of them, their names, and what runs them.
macro_rules! cases {
    ($dollar:tt $($(#[doc = $doc:literal])+ $case:ident = $module:ident::$name:ident;)+) => {
        /// Makes a test of each [`Case`](crate::store::conformance::Case) for a store: give it an `async` closure that makes an
        /// empty one. Put it into a module of its own. It needs `tokio` with `macros` and `rt-multi-thread`.
        #[macro_export]
        macro_rules! store_conformance {
            ($dollar make:expr) => {
                $(
                    #[::tokio::test(flavor = "multi_thread", worker_threads = 4)]
                    async fn $name() {
                        let store = ($dollar make)().await;
                        let case = $crate::store::conformance::Case::$case;
                        if let Err(failure) = $crate::store::conformance::run_case(case, store).await {
                            panic!("{failure}");
                        }
                    }
                )+
            };
        }

        /// A thing that every store must do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Case { $($(#[doc = $doc])+ $case,)+ }

        impl Case {
            /// All cases.
            pub const ALL: &[Self] = &[$(Self::$case),+];

            /// Its name, as a [`Failure`] tells it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$case => stringify!($name),)+ }
            }

            async fn check<S: Store>(self, store: Arc<S>) -> Outcome {
                match self { $(Self::$case => Box::pin($module::$name(store)).await,)+ }
            }
        }
    };
}

cases! {
    $
    /// What is created is loaded, under its digest alone, with version 0.
    Created = single::what_is_created_is_loaded;
    /// A digest is created once, and never again while its record or tombstone is kept.
    Once = single::a_digest_is_created_once;
    /// What has ended is created as a tombstone: it is never served, it takes its digest, and it counts for no limit.
    Tombstones = single::what_has_ended_is_created_as_a_tombstone;
    /// A commit succeeds over the version it was made from, and over no other.
    Versions = single::a_commit_succeeds_over_its_version_alone;
    /// What does not change under one id stays whatever a commit says.
    Fixed = single::a_commit_leaves_subject_and_reference_alone;
    /// A session that ended stays ended.
    Ended = single::what_ended_stays_ended;
    /// A rotation gives the new record and the tombstone in one step.
    Rotates = single::a_rotation_is_one_step;
    /// A rotation that can not be changes nothing.
    RotatesOrNot = single::a_rotation_that_can_not_be_changes_nothing;
    /// A rotation can end a second session.
    EndsAlso = single::a_rotation_can_end_a_second_session;
    /// Nothing is created beyond a limit that refuses.
    Refuses = limits::a_limit_refuses;
    /// A limit that evicts ends the session used least recently, and no more than it must.
    Evicts = limits::a_limit_evicts_the_one_used_least_recently;
    /// A limit that reports tells how many there are.
    Reports = limits::a_limit_reports;
    /// Only live sessions of that subject count, and not those that leave in the same step.
    Counts = limits::only_what_lives_and_stays_counts;
    /// Two hundred logins at once never exceed a limit that refuses.
    RefusesAtOnce = limits::logins_at_once_are_refused_beyond_the_limit;
    /// Two hundred logins at once never exceed a limit that evicts.
    EvictsAtOnce = limits::logins_at_once_never_exceed_the_limit;
    /// All sessions of a subject end but one.
    RevokesSubject = listing::all_sessions_of_a_subject_end_but_one;
    /// Spellings of a subject are one subject, and a record keeps its own.
    Spellings = listing::spellings_of_a_subject_are_one;
    /// Pages give every session once and in order.
    Pages = listing::pages_give_every_session_once;
    /// Filters give what they name.
    Filters = listing::filters_give_what_they_name;
    /// What is over is removed in batches, and nothing before its time.
    Clears = listing::nothing_is_removed_before_its_time;
    /// A time that was moved is the one that counts.
    ClearsMoved = listing::a_time_that_was_moved_counts;
    /// Of concurrent commits none is lost and none counts twice.
    Commits = concurrent::no_commit_is_lost;
    /// Commits and loads of one session have an order that all of them agree with.
    Linear = concurrent::loads_and_commits_have_one_order;
    /// Of many who end a session one does.
    EndsOnce = concurrent::a_session_ends_once;
    /// After everything at once, what was acknowledged is what is there.
    Everything = concurrent::what_was_acknowledged_is_there;
    /// Whatever some do at once to a few sessions, there is an order in which a store that does one thing after the other
    /// would have given the same answers, and nothing comes before what was answered before it was asked. Sessions are
    /// loaded with [`load_fresh`](Store::load_fresh).
    Histories = histories::every_history_has_an_order;
    /// Shared counters: a window counts what is in it, each key for itself.
    Windows = counting::a_window_counts_what_is_in_it;
    /// Shared counters: of many who are counted at once none is lost.
    CountsAtOnce = counting::all_that_are_counted_at_once_are_counted;
    /// Shared counters: numbers of limits, delays and memory change as [`debts`](super::debts) says, up to a step that is refused.
    Numbers = counting::numbers_change_as_they_must;
    /// Shared counters: of many who take at once no more may than may.
    TakesAtOnce = counting::of_many_who_take_at_once_no_more_may_than_may;
}

/// Runs all cases, each over a store that `make` made.
///
/// # Errors
/// [`Failure`] of the first case that fails.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn run<S: Store>(make: impl AsyncFn() -> S) -> Result<(), Failure> {
    for case in Case::ALL {
        run_case(*case, make().await).await?;
    }
    Ok(())
}

/// Runs one case over an empty store.
///
/// # Errors
/// [`Failure`] if it fails.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn run_case<S: Store>(case: Case, store: S) -> Result<(), Failure> {
    case.check(Arc::new(store)).await.map_err(|fault| Failure { case: case.name(), fault })
}

// ---- what the cases share --------------------------------------------------------------------------------------------

/// The time at which all cases begin.
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
/// How long a record of a case is kept, unless it says otherwise.
const KEPT: Duration = Duration::from_secs(3600);

/// The digest of the nth session: spread like a real one.
fn digest(nth: u64) -> SessionDigest {
    SessionDigest(crate::secret::sha256(&nth.to_be_bytes()))
}

/// The nth session, anonymous.
pub(crate) fn anonymous(nth: u64) -> Record {
    let [first, second, ..] = digest(nth).0;
    let mut reference = [first; 16];
    reference[..8].copy_from_slice(&nth.to_be_bytes());
    reference[8] = second;
    Record {
        digest: digest(nth),
        reference: Ref(reference),
        version: 0,
        created_at: NOW,
        id_since: NOW,
        authenticated_at: None,
        last_seen: NOW,
        ends_at: None,
        lasting: Lasting::Default,
        removable_at: NOW.after(KEPT),
        subject: None,
        tags: Tags::new(Tag::from_bytes([first; 16]), NOW),
        forks: 0,
        state: State::Live,
        jar: Box::new([first; 40]),
        data: Box::default(),
        bound: Box::default(),
        history: Box::new([second; 20]),
    }
}

/// The nth session, of a subject.
pub(super) fn session(nth: u64, subject: &str) -> Record {
    Record { subject: Some(subject.into()), authenticated_at: Some(NOW), ..anonymous(nth) }
}

const fn ending(why: EndReason) -> Ending {
    Ending { why, now: NOW, tombstone_until: Timestamp::from_secs(NOW.as_secs() + 600) }
}

fn limit(sessions: u32, on_limit: OnLimit) -> Option<SubjectLimit> {
    sessions.try_into().ok().map(|sessions| SubjectLimit { sessions, on_limit })
}

const fn rotation<'a>(old: &'a Record, new: Record, limit: Option<SubjectLimit>) -> Rotate<'a> {
    let tombstone_until = Timestamp::from_secs(NOW.as_secs() + 600);
    Rotate { old: &old.digest, version: old.version, new, also_end: None, limit, now: NOW, tombstone_until }
}

/// Creates a session that must be new.
async fn create<S: Store>(store: &S, record: Record) -> Outcome {
    let answer = store.create(record, None, NOW).await?;
    must!(matches!(answer, Creation::Created(Created::Done { .. })), "a new session is created, not {answer:?}");
    Ok(())
}

/// Loads a session that must be there.
async fn load<S: Store>(store: &S, digest: &SessionDigest) -> Result<Arc<Record>, Fault> {
    store.load(digest).await?.ok_or_else(|| Fault::Answer("a record that is there must be loaded".into()))
}

/// Why a session ended; none if it lives or is not there.
async fn ended<S: Store>(store: &S, digest: &SessionDigest) -> Result<Option<EndReason>, Fault> {
    Ok(store.load(digest).await?.and_then(|record| match record.state {
        State::Ended { why, .. } => Some(why),
        _ => None,
    }))
}

/// How many live sessions a subject has, by its list.
async fn live<S: Store>(store: &S, subject: &str) -> Result<Vec<Arc<Record>>, Fault> {
    let filter = super::Filter { subject: Some(subject.into()), ..Default::default() };
    Ok(store.list(&filter, None, super::PAGE_MAX).await?.records)
}

fn created(rotation: &Rotation) -> bool {
    matches!(rotation, Rotation::Created(Created::Done { .. }))
}

/// A small generator of choices that repeats itself.
pub(in crate::store) struct Dice(InsecureSeededEntropy);

impl Dice {
    pub(in crate::store) const fn new(seed: u64) -> Self {
        Self(InsecureSeededEntropy::new(seed))
    }

    /// A number below `sides`.
    pub(in crate::store) fn roll(&self, sides: u64) -> u64 {
        random(&self.0).map_or(0, u64::from_be_bytes) % sides.max(1)
    }

    /// Lets other tasks run, a few times or not at all.
    async fn dawdle(&self) {
        for _ in 0..self.roll(4) {
            tokio::task::yield_now().await;
        }
    }
}

/// Spawns a task for every number below `count`, lets all begin at once, and gives what they answer.
async fn together<T, F>(count: u64, task: impl Fn(u64) -> F) -> Result<Vec<T>, Fault>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Fault>> + Send + 'static,
{
    // Without it the first tasks would be through before the last are spawned.
    let start = Arc::new(Barrier::new(usize::try_from(count).unwrap_or(usize::MAX)));
    let tasks: Vec<_> = (0..count)
        .map(|nth| {
            let (start, task) = (Arc::clone(&start), task(nth));
            tokio::spawn(async move {
                start.wait().await;
                task.await
            })
        })
        .collect();
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(task.await??);
    }
    Ok(answers)
}
