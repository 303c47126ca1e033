//! The suite sees what it is there to see: each kind of broken store fails the case that names its fault.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::schedules::{Looks, Turn, every_schedule_of_two_has_an_order};
use super::*;
use crate::store::counters::{Answered, Counters, Key, Question, Windows};
use crate::store::debts::{Change, Changed, Debts};
use crate::store::memory::MemoryStore;
use crate::store::{Commit, Durability, Filter, Page};

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Fine,
    /// Creates over what is there.
    CreatesOver,
    /// Creates everything as a session that lives.
    CreatesLive,
    /// Commits whatever the version.
    IgnoresVersions,
    /// Commits to what is not there.
    Upserts,
    /// Stores a new subject with a commit.
    MovesSubjects,
    /// Says that a save of an ended session was done.
    SaysDone,
    /// Rotates in two steps.
    RotatesInSteps,
    /// Rotates whatever the version.
    RotatesAnyVersion,
    /// Rotates in two steps, and both ids live in between.
    RotatesSlowly,
    /// Lets a late save bring back a session that ended.
    Revives,
    /// Ends a subject's sessions one by one, as they were listed.
    RevokesAsListed,
    /// Leaves the second session.
    LeavesSecond,
    /// Counts sessions, and creates one later.
    CountsFirst,
    /// Refuses where it should evict.
    RefusesOnly,
    /// Ends the newest session instead of the oldest.
    EvictsNothing,
    /// Acknowledges a commit now and then without storing it.
    LosesCommits,
    /// Loads what was there a while ago.
    LoadsLate,
    /// Says of every revocation that it ended the session.
    EndsAgain,
    /// Forgets the exception.
    RevokesAll,
    /// Leaves out the first record of later pages.
    SkipsOne,
    /// Lists ended sessions always.
    ListsEnded,
    /// Removes a second early.
    ClearsEarly,
    /// Removes more than asked.
    ClearsMore,
    /// Leaves some.
    ClearsLess,
    /// Counts every match twice.
    CountsTwice,
    /// Has one window for all.
    MixesKeys,
    /// Reads, and writes what it read a while later.
    CountsInSteps,
    /// The same with numbers.
    TakesInSteps,
    /// Does what comes after a step that was refused.
    GoesOnAfterNo,
}

struct Broken {
    inner: MemoryStore,
    how: How,
    calls: AtomicU64,
    seen: Mutex<Vec<Arc<Record>>>,
    windows: Windows,
    debts: Debts,
    counted: AtomicU64,
    /// How often others go first where a step is done in two.
    turns: usize,
}

impl Broken {
    fn new(how: How) -> Self {
        let (inner, windows, debts) = (MemoryStore::default(), Windows::default(), Debts::default());
        let (calls, counted) = (AtomicU64::new(0), AtomicU64::new(0));
        // Time enough for all others to come in between.
        Self { inner, how, calls, seen: Mutex::default(), windows, debts, counted, turns: 50 }
    }

    async fn linger(&self) {
        for _ in 0..self.turns {
            Turn::default().await;
        }
    }

    /// Until another call has come as far as this; the last one waits in vain for a while.
    async fn wait_for_the_next(&self) {
        let calls = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        for _ in 0..100_000 {
            if self.calls.load(Ordering::SeqCst) > calls {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn nth_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }
}

impl Counters for Broken {
    fn ask<'a>(&'a self, questions: &'a [Question], now: Timestamp) -> Answered<'a> {
        let mend = |question: &Question| match self.how {
            How::MixesKeys => Question { key: Key::from_u64(0), ..*question },
            _ => *question,
        };
        Box::pin(async move {
            if self.how == How::CountsInSteps {
                let before = self.counted.load(Ordering::SeqCst);
                self.wait_for_the_next().await;
                self.counted.store(before + 1, Ordering::SeqCst);
                return Ok(questions.iter().map(|question| before >= u64::from(question.over)).collect());
            }
            if self.how == How::CountsTwice {
                for question in questions {
                    self.windows.count(*question, now);
                }
            }
            Ok(questions.iter().map(|question| self.windows.count(mend(question), now)).collect())
        })
    }

    fn change<'a>(&'a self, changes: &'a [Change], now: Timestamp) -> Changed<'a> {
        Box::pin(async move {
            if self.how == How::TakesInSteps {
                let before = self.counted.load(Ordering::SeqCst);
                self.wait_for_the_next().await;
                self.counted.store(before + 1, Ordering::SeqCst);
                let step = Debts::default();
                (0..before).for_each(|_| drop(step.change(changes, now)));
                return Ok(step.change(changes, now));
            }
            let mend = |change: &Change| match self.how {
                How::MixesKeys => Change { key: Key::from_u64(0), ..*change },
                _ => *change,
            };
            if self.how == How::GoesOnAfterNo {
                let one = |change: &Change| self.debts.change(&[mend(change)], now).pop();
                return Ok(changes.iter().filter_map(one).collect());
            }
            let changes: Vec<_> = changes.iter().map(mend).collect();
            Ok(self.debts.change(&changes, now))
        })
    }
}

impl Store for Broken {
    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        let limit = match (self.how, limit, &record.subject) {
            (How::RefusesOnly, Some(limit), _) => Some(SubjectLimit { on_limit: OnLimit::Refuse, ..limit }),
            (How::EvictsNothing, Some(limit), _) => Some(SubjectLimit { on_limit: OnLimit::Report, ..limit }),
            (How::CountsFirst, Some(limit), Some(subject)) => {
                let filter = Filter { subject: Some(Arc::clone(subject)), ..Filter::default() };
                let live = self.inner.list(&filter, None, 1000).await?.records.len();
                self.linger().await;
                if live >= limit.sessions.get() as usize {
                    return Ok(Creation::Created(Created::Refused));
                }
                None
            }
            (_, limit, _) => limit,
        };
        if self.how == How::CreatesLive {
            let record = Record { state: State::Live, ..record };
            return self.inner.create(record, limit, now).await;
        }
        let answer = self.inner.create(record.clone(), limit, now).await?;
        if self.how == How::CreatesOver && matches!(answer, Creation::Exists) {
            return Ok(Creation::Created(Created::Done { evicted: Vec::new(), live: 1, displaced: 0 }));
        }
        Ok(answer)
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        let loaded = self.inner.load(digest).await?;
        if self.how == How::Revives
            && let Some(revived) = self.seen.lock().iter().find(|revived| revived.digest == *digest)
        {
            return Ok(Some(Arc::clone(revived)));
        }
        if self.how == How::LoadsLate
            && let Some(record) = &loaded
        {
            let mut seen = self.seen.lock();
            seen.push(Arc::clone(record));
            if self.nth_call().is_multiple_of(3) {
                return Ok(seen.iter().find(|old| old.digest == *digest).cloned());
            }
        }
        Ok(loaded)
    }

    async fn commit(&self, mut record: Record, durability: Durability) -> Result<Commit, StoreError> {
        let there = self.inner.load(&record.digest).await?;
        match (self.how, &there) {
            (How::IgnoresVersions, Some(there)) => record.version = there.version,
            (How::Upserts, None) => {
                self.inner.create(record.clone(), None, NOW).await?;
                return Ok(Commit::Done(Arc::new(record)));
            }
            (How::Revives, Some(there)) if there.is_ended() => {
                let revived = Arc::new(Record { version: there.version + 1, ..record });
                self.seen.lock().push(Arc::clone(&revived));
                return Ok(Commit::Done(revived));
            }
            (How::SaysDone, Some(there)) if there.is_ended() => return Ok(Commit::Done(Arc::new(record))),
            (How::MovesSubjects, Some(_)) => {
                let moved = Record { digest: digest(77), ..record.clone() };
                self.inner.create(moved, None, NOW).await?;
            }
            (How::LosesCommits, Some(there)) if there.version == record.version && self.nth_call() % 20 == 19 => {
                record.version += 1;
                return Ok(Commit::Done(Arc::new(record)));
            }
            _ => {}
        }
        self.inner.commit(record, durability).await
    }

    async fn rotate(&self, mut rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        match self.how {
            How::LeavesSecond => rotate.also_end = None,
            How::RotatesAnyVersion => {
                if let Some(there) = self.inner.load(rotate.old).await? {
                    rotate.version = there.version;
                }
            }
            How::RotatesInSteps | How::RotatesSlowly => {
                let ending =
                    Ending { why: EndReason::Replaced, now: rotate.now, tombstone_until: rotate.tombstone_until };
                let there = self.inner.load(rotate.old).await?;
                if self.how == How::RotatesInSteps {
                    self.linger().await;
                }
                return match there {
                    Some(there) if there.is_ended() => Ok(Rotation::Gone),
                    None => Ok(Rotation::Gone),
                    Some(there) if there.version != rotate.version => Ok(Rotation::Conflict(there)),
                    Some(_) => match self.inner.create(rotate.new, rotate.limit, rotate.now).await? {
                        Creation::Exists => Ok(Rotation::Gone),
                        Creation::Created(created) => {
                            if self.how == How::RotatesSlowly {
                                self.linger().await;
                            }
                            self.inner.revoke(rotate.old, ending).await?;
                            Ok(Rotation::Created(created))
                        }
                    },
                };
            }
            _ => {}
        }
        self.inner.rotate(rotate).await
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        let ended = self.inner.revoke(digest, ending).await?;
        if self.how == How::EndsAgain { self.inner.load(digest).await } else { Ok(ended) }
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        let except = except.filter(|_| self.how != How::RevokesAll);
        if self.how == How::RevokesAsListed {
            let filter = Filter { subject: Some(subject.into()), ..Filter::default() };
            let listed = self.inner.list(&filter, None, 1000).await?.records;
            let mut ended = Vec::new();
            for record in listed.iter().filter(|record| Some(&record.digest) != except) {
                self.linger().await;
                ended.extend(self.inner.revoke(&record.digest, ending).await?);
            }
            return Ok(ended);
        }
        self.inner.revoke_subject(subject, except, ending).await
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        let with_ended = filter.with_ended || self.how == How::ListsEnded;
        let mut page = self.inner.list(&Filter { with_ended, ..filter.clone() }, after, max).await?;
        if self.how == How::SkipsOne && after.is_some() && page.records.len() > 1 {
            page.records.remove(0);
        }
        Ok(page)
    }

    fn clear_expired(&self, now: Timestamp, max: usize) -> impl Future<Output = Result<usize, StoreError>> + Send {
        let (now, max) = match self.how {
            How::ClearsEarly => (now.after(Duration::from_secs(1)), max),
            How::ClearsMore => (now, max + 1),
            How::ClearsLess => (now, max.saturating_sub(1)),
            _ => (now, max),
        };
        self.inner.clear_expired(now, max)
    }

    fn counters(&self) -> Option<&dyn Counters> {
        Some(self)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broken_store_fails_the_case_that_names_its_fault() {
    let faults = [
        (How::CreatesOver, Case::Once),
        (How::CreatesLive, Case::Tombstones),
        (How::ListsEnded, Case::Tombstones),
        (How::IgnoresVersions, Case::Versions),
        (How::IgnoresVersions, Case::Linear),
        (How::IgnoresVersions, Case::Commits),
        (How::Upserts, Case::Versions),
        (How::Upserts, Case::ClearsMoved),
        (How::MovesSubjects, Case::Fixed),
        (How::SaysDone, Case::Ended),
        (How::SaysDone, Case::Rotates),
        (How::RotatesInSteps, Case::EndsOnce),
        (How::RotatesInSteps, Case::Counts),
        (How::RotatesInSteps, Case::Histories),
        (How::RotatesSlowly, Case::Histories),
        (How::Revives, Case::Histories),
        (How::RevokesAsListed, Case::Histories),
        (How::IgnoresVersions, Case::Histories),
        (How::LosesCommits, Case::Histories),
        (How::LoadsLate, Case::Histories),
        (How::LeavesSecond, Case::Histories),
        (How::EndsAgain, Case::Histories),
        (How::RotatesAnyVersion, Case::RotatesOrNot),
        (How::LeavesSecond, Case::EndsAlso),
        (How::CountsFirst, Case::RefusesAtOnce),
        (How::RefusesOnly, Case::Evicts),
        (How::RefusesOnly, Case::Reports),
        (How::EvictsNothing, Case::Refuses),
        (How::EvictsNothing, Case::EvictsAtOnce),
        (How::LosesCommits, Case::Commits),
        (How::LosesCommits, Case::Linear),
        (How::LosesCommits, Case::Everything),
        (How::LoadsLate, Case::Linear),
        (How::EndsAgain, Case::EndsOnce),
        (How::EndsAgain, Case::Everything),
        (How::RevokesAll, Case::RevokesSubject),
        (How::SkipsOne, Case::Pages),
        (How::ListsEnded, Case::Filters),
        (How::ClearsEarly, Case::Clears),
        (How::ClearsMore, Case::Clears),
        (How::ClearsLess, Case::Clears),
        (How::CountsTwice, Case::Windows),
        (How::MixesKeys, Case::Windows),
        (How::CountsInSteps, Case::CountsAtOnce),
        (How::MixesKeys, Case::Numbers),
        (How::GoesOnAfterNo, Case::Numbers),
        (How::TakesInSteps, Case::TakesAtOnce),
    ];
    for (how, case) in faults {
        let failure = run_case(case, Broken::new(how)).await.expect_err(&format!("{how:?} must fail {case:?}"));
        assert_eq!(failure.case, case.name());
        assert!(matches!(failure.fault, Fault::Answer(_)), "{how:?}: {failure}");
    }
    run(async || Broken::new(How::Fine)).await.unwrap();
}

#[test]
fn schedules_find_what_is_done_in_two_steps() {
    let played = |how| {
        let play = || every_schedule_of_two_has_an_order(Looks::Stored, || Broken { turns: 1, ..Broken::new(how) });
        std::panic::catch_unwind(play).map_err(|panic| *panic.downcast::<String>().unwrap())
    };
    for how in [How::RotatesInSteps, How::RotatesSlowly, How::RevokesAsListed] {
        let found = played(how).unwrap_err();
        assert!(found.contains("these answers have no order"), "{how:?}: {found}");
    }
    assert!(played(How::Fine).is_ok());
}

#[test]
fn an_order_that_can_not_be_is_seen() {
    use super::concurrent::{Seen, check_order};
    let seen = |asked, answered, version, token, is_commit| Seen { asked, answered, version, token, is_commit };
    let check = |seen: &[Seen], expected: Result<(), &str>| {
        let found = check_order(seen).map_err(|fault| fault.to_string());
        match expected {
            Ok(()) => assert_eq!(found, Ok(())),
            Err(part) => assert!(found.clone().unwrap_err().contains(part), "{found:?}"),
        }
    };
    let (first, second) = (seen(0, 5, 1, 11, true), seen(1, 4, 2, 22, true));
    check(&[first, second], Ok(()));
    check(&[first, second, seen(6, 7, 2, 22, false)], Ok(()));
    check(&[first, second, seen(2, 3, 0, 0, false)], Ok(()));
    check(&[first, second, seen(6, 7, 1, 11, false)], Err("was seen after"));
    check(&[first, second, seen(2, 3, 1, 22, false)], Err("not committed under it"));
    check(&[first, seen(6, 7, 1, 33, true)], Err("given to two commits"));
    check(&[first, seen(6, 7, 3, 33, true)], Err("belongs to a commit"));
}
