//! Copies sessions from one store into another, so that nobody has to log in again and nobody who was logged out comes back.
//!
//! A session goes over with everything it has: its digest, and with it the cookie that its client holds; its tags, cookies,
//! data, times and state. What has ended goes over as the tombstone that it is. Only its version begins anew: nobody holds a
//! record of the new store to which the old number could mean something.
//!
//! It may be done again, also while one of the stores or both are in use:
//!
//! | in the old store | in the new store | what is done |
//! |---|---|---|
//! | lives | nothing | it is copied |
//! | ended | nothing | its tombstone is copied |
//! | over by time | nothing | nothing: nobody would be served with it |
//! | anything | ended | nothing: it stays ended |
//! | ended | lives | it is ended there too |
//! | lives | the same, or a later state | nothing |
//! | lives | an earlier state | it is brought up to date |
//!
//! Which of two states is the later one is told by the generation of the tag, by the last use, and by the age of the tag. Where
//! these agree the one in the new store is the later if anything was committed to it since it was copied. A quarantine is
//! never lifted.
//!
//! **All of it within a day.** That a session has ended is known for as long as its tombstone is kept. Where sessions last longer than
//! that, one that ended between two copies, or in the new store before another copy, may come back when its tombstone is gone.
//!
//! A list of everything is not of one moment: a session that gets a new id while the store is walked may be missed. So the
//! last time is when nobody uses the old store any more.

use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};

use super::{Commit, Created, Creation, Durability, Ending, Filter, PAGE_MAX, Store, StoreError};
use crate::clock::{Clock, Timestamp};
use crate::session::expiry::{self, Deadlines};
use crate::session::record::{DecodeError, Record, State};

/// Sessions that are under way at once: a store that writes to disk writes so many together.
const TOGETHER: usize = 32;
/// How often a session is looked at again that somebody changes meanwhile.
const TRIES_MAX: usize = 4;

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It is done.
    Copy,
    /// It is only counted.
    Count,
}

/// How sessions are copied.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether they are.
    pub doing: Doing,
    /// The deadlines that sessions of the old store are held to.
    pub deadlines: Deadlines,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What became of the records of the old store. Each of them is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that were copied.
    pub copied: u64,
    /// Sessions that were there in an earlier state, and were brought up to date.
    pub updated: u64,
    /// Tombstones that were copied, those of replaced ids among them.
    pub tombstones: u64,
    /// Sessions that lived in the new store and had ended in the old one: they ended there too.
    pub ended: u64,
    /// Sessions that were there already, the same or in a later state.
    pub kept: u64,
    /// Records of which the new store has a tombstone: they stay ended.
    pub stay_ended: u64,
    /// Records that were over by time: nobody would be served with them.
    pub over: u64,
    /// Sessions that are there and can not be read, for want of a key: they are left as they are.
    pub unreadable: u64,
    /// Sessions that somebody changed in the new store as fast as they were looked at: they are to be looked at again.
    pub contested: u64,
    /// Not of the old store: sessions of visitors that a full new store gave up.
    pub displaced: u64,
}

impl Counts {
    /// Records of the old store that were looked at.
    pub const fn looked_at(&self) -> u64 {
        let there = self.kept + self.stay_ended + self.unreadable + self.contested;
        self.copied + self.updated + self.tombstones + self.ended + there + self.over
    }

    const fn add(&mut self, other: &Self) {
        self.copied += other.copied;
        self.updated += other.updated;
        self.tombstones += other.tombstones;
        self.ended += other.ended;
        self.kept += other.kept;
        self.stay_ended += other.stay_ended;
        self.over += other.over;
        self.unreadable += other.unreadable;
        self.contested += other.contested;
        self.displaced += other.displaced;
    }
}

/// Not everything was copied. It may be tried again: what was copied is not copied twice.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct Failure {
    /// What went wrong.
    #[source]
    pub fault: Fault,
    /// What was done before.
    pub counts: Counts,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The old store.
    #[error("the old store can not be read: {0}")]
    Old(#[source] StoreError),
    /// The new store.
    #[error("the new store fails: {0}")]
    New(#[source] StoreError),
    /// A store panicked.
    #[error("a task did not come to its end: {0}")]
    Task(#[from] JoinError),
}

/// Copies everything, and tells after each page how far it is.
///
/// # Errors
/// [`Failure`] at the first fault of a store.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn migrate<A: Store, B: Store>(
    from: &A,
    to: &Arc<B>,
    settings: &Settings,
    mut tell: impl FnMut(&Counts),
) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    let filter = Filter { with_ended: true, ..Filter::default() };
    let mut after = None;
    loop {
        let page = match from.list(&filter, after, PAGE_MAX).await {
            Ok(page) => page,
            Err(error) => return Err(Failure { fault: Fault::Old(error), counts }),
        };
        let each = page.records.len().div_ceil(TOGETHER).max(1);
        let mut tasks = JoinSet::new();
        for records in page.records.chunks(each) {
            let (records, to, settings) = (records.to_vec(), Arc::clone(to), settings.clone());
            tasks.spawn(async move { carry_all(&records, &*to, &settings).await });
        }
        let mut fault = None;
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok((of_task, failed)) => {
                    counts.add(&of_task);
                    fault = fault.or(failed.map(Fault::New));
                }
                Err(error) => fault = fault.or(Some(error.into())),
            }
        }
        if let Some(fault) = fault {
            return Err(Failure { fault, counts });
        }
        tell(&counts);
        after = page.next;
        if after.is_none() {
            return Ok(counts);
        }
    }
}

async fn carry_all<S: Store>(records: &[Arc<Record>], to: &S, settings: &Settings) -> (Counts, Option<StoreError>) {
    let mut counts = Counts::default();
    for record in records {
        if let Err(error) = carry(record, to, settings, &mut counts).await {
            return (counts, Some(error));
        }
    }
    (counts, None)
}

/// What is to be done for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is stored, as a session or as a tombstone.
    Create,
    /// It takes the place of the version that is there.
    Update(u64),
    /// What is there ends.
    End,
    /// What is there stays.
    Keep,
    /// What is there stays ended.
    StayEnded,
    /// It is over.
    Leave,
}

/// Decides, of a record of the old store and what the new one has under its digest.
fn step(old: &Record, new: Option<&Record>, deadlines: &Deadlines, now: Timestamp) -> Step {
    let Some(new) = new else {
        let is_over = old.removable_at <= now || !old.is_ended() && expiry::ended(old, deadlines, now).is_some();
        return if is_over { Step::Leave } else { Step::Create };
    };
    match (old.is_ended(), new.is_ended()) {
        (_, true) => Step::StayEnded,
        (true, false) => Step::End,
        // What is over by time in the old store may be in use in the new one, and is held to its deadlines there.
        (false, false) if expiry::ended(old, deadlines, now).is_some() => Step::Keep,
        (false, false) if is_later(old, new) => Step::Update(new.version),
        (false, false) => Step::Keep,
    }
}

/// Whether the state of the old store is the later one of two that live.
fn is_later(old: &Record, new: &Record) -> bool {
    let is_quarantined = |record: &Record| matches!(record.state, State::Quarantined { .. });
    if is_quarantined(old) != is_quarantined(new) {
        return is_quarantined(old);
    }
    let progress = |record: &Record| (record.tags.head().generation(), record.last_seen, record.tags.since());
    let is_same = || *old == Record { version: old.version, ..new.clone() };
    match progress(old).cmp(&progress(new)) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => new.version == 0 && !is_same(),
    }
}

async fn carry<S: Store>(record: &Record, to: &S, settings: &Settings, counts: &mut Counts) -> Result<(), StoreError> {
    for _ in 0..TRIES_MAX {
        let there = match to.load_fresh(&record.digest).await {
            Ok(there) => there,
            Err(StoreError::Decode(DecodeError::Damaged | DecodeError::Version(_))) => {
                counts.unreadable += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let now = settings.clock.now();
        let step = step(record, there.as_deref(), &settings.deadlines, now);
        if settings.doing == Doing::Copy && take(step, record, to, now, counts).await? == Taken::TooLate {
            continue;
        }
        let count = match step {
            Step::Create if record.is_ended() => &mut counts.tombstones,
            Step::Create => &mut counts.copied,
            Step::Update(_) => &mut counts.updated,
            Step::End => &mut counts.ended,
            Step::Keep => &mut counts.kept,
            Step::StayEnded => &mut counts.stay_ended,
            Step::Leave => &mut counts.over,
        };
        *count += 1;
        return Ok(());
    }
    counts.contested += 1;
    Ok(())
}

/// Whether a step was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Yes,
    /// Somebody else was faster: what is there is another than was looked at.
    TooLate,
}

async fn take<S: Store>(
    step: Step,
    record: &Record,
    to: &S,
    now: Timestamp,
    counts: &mut Counts,
) -> Result<Taken, StoreError> {
    let is_done = match step {
        Step::Create => match to.create(record.clone(), None, now).await? {
            Creation::Created(Created::Done { displaced, .. }) => {
                counts.displaced += u64::from(displaced);
                true
            }
            Creation::Created(Created::Refused) | Creation::Exists => false,
        },
        Step::Update(version) => {
            let next = Record { version, ..record.clone() };
            matches!(to.commit(next, Durability::Durable).await?, Commit::Done(_))
        }
        Step::End => {
            // One that can not be read any more gives no last record, and has ended all the same: it is looked at again.
            let State::Ended { at, why } = record.state else { return Ok(Taken::Yes) };
            let ending = Ending { why, now: at, tombstone_until: record.removable_at };
            to.revoke(&record.digest, ending).await?.is_some()
        }
        Step::Keep | Step::StayEnded | Step::Leave => true,
    };
    Ok(if is_done { Taken::Yes } else { Taken::TooLate })
}
