//! Group commit: one thread writes what many callers decided, with one sync for all of them.
//!
//! Callers decide under the lock and wait; the writer takes everything that was decided while it wrote the batch before.
//! What nobody waits for (a time, a counter) is seen at once and written with the next batch, within a second.
//!
//! When writing fails, everybody who waits is told, and the disk is asked whether it has the batch: memory then says the
//! same. Until that is known nothing is decided at all; loading goes on from memory.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, MappedMutexGuard, Mutex, MutexGuard};
use tokio::sync::watch;

use super::{Disk, Written};
use crate::session::id::SessionDigest;
use crate::session::record::Record;
use crate::store::table::{Change, Ground, Shards, Table};
use crate::store::{Commit, StoreError};

/// Why a batch could not be written; several callers are told.
type Failure = Arc<dyn std::error::Error + Send + Sync>;

/// What became of a batch.
#[derive(Clone, Debug)]
enum Fate {
    Waiting,
    Durable,
    Failed(Failure),
    Closed,
}

/// What may be decided.
#[derive(Debug)]
enum Phase {
    /// Everything.
    Running,
    /// Nothing until the disk is well again.
    Broken(Failure),
    /// Nothing more.
    Closed,
}

#[derive(Debug)]
struct State {
    table: Table,
    phase: Phase,
    /// What is seen already and not yet on disk.
    dirty: HashSet<SessionDigest>,
    /// The batch that waits to be written.
    open: watch::Sender<Fate>,
    /// The batch that is being written, while there is one.
    writing: Option<watch::Sender<Fate>>,
}

/// What callers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    shards: Arc<Shards>,
    /// How long what nobody waits for may wait.
    soon: Duration,
    /// How long nothing is tried after a failure.
    rest: Duration,
    ended: watch::Sender<bool>,
}

/// A disk error that several callers are told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(#[source] Failure);

impl State {
    /// Whether anything may be decided now.
    fn ready(&self) -> Result<(), StoreError> {
        match &self.phase {
            Phase::Running => Ok(()),
            Phase::Broken(error) => Err(StoreError::io(Told(Arc::clone(error)))),
            Phase::Closed => Err(StoreError::Closed),
        }
    }

    fn end_writing(&mut self, fate: Fate) {
        if let Some(batch) = self.writing.take() {
            batch.send_replace(fate);
        }
    }

    fn end_open(&mut self, fate: Fate) {
        std::mem::replace(&mut self.open, watch::Sender::new(Fate::Waiting)).send_replace(fate);
    }

    const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// After a failure that is over.
    fn go_on(&mut self) -> Next {
        if self.is_closed() {
            return Next::End;
        }
        self.phase = Phase::Running;
        Next::GoOn
    }
}

impl Shared {
    pub(super) fn new(table: Table, soon: Duration, rest: Duration) -> Self {
        let shards = Arc::clone(table.shards());
        let open = watch::Sender::new(Fate::Waiting);
        let state = State { table, phase: Phase::Running, dirty: HashSet::new(), open, writing: None };
        Self { state: Mutex::new(state), wake: Condvar::new(), shards, soon, rest, ended: watch::Sender::new(false) }
    }

    /// What everybody sees.
    pub(super) fn shards(&self) -> &Shards {
        &self.shards
    }

    /// The table, locked.
    pub(super) fn table(&self) -> MappedMutexGuard<'_, Table> {
        MutexGuard::map(self.state.lock(), |state| &mut state.table)
    }

    /// Decides something, and waits until what the answer rests on is on disk.
    pub(super) async fn change<R>(
        &self,
        decide: impl FnOnce(&mut Table) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let (answer, batch) = {
            let mut state = self.state.lock();
            state.ready()?;
            state.table.take_ground();
            let answer = decide(&mut state.table);
            let batch = match state.table.take_ground() {
                Ground::Published => None,
                Ground::Writing => state.writing.as_ref().map(watch::Sender::subscribe),
                Ground::Open => Some(state.open.subscribe()),
            };
            (answer, batch)
        };
        if let Some(batch) = batch {
            self.wake.notify_one();
            settled(batch).await?;
        }
        answer
    }

    /// Commits what nobody has to wait for: seen at once, written soon. Gives the record back if it has to wait after
    /// all, because a change to it is on its way to the disk.
    pub(super) fn commit_soon(&self, record: Record) -> Result<Result<Commit, Record>, StoreError> {
        let mut state = self.state.lock();
        state.ready()?;
        let digest = record.digest;
        if state.table.is_staged(&digest) {
            return Ok(Err(record));
        }
        let answer = state.table.commit_published(record);
        if matches!(answer, Commit::Done(_)) {
            let is_first = state.dirty.is_empty();
            state.dirty.insert(digest);
            drop(state);
            if is_first {
                self.wake.notify_one();
            }
        }
        Ok(Ok(answer))
    }

    /// Lets nothing more be decided, and wakes the writer for what is left.
    pub(super) fn close(&self) {
        self.state.lock().phase = Phase::Closed;
        self.wake.notify_one();
    }

    /// Waits until the writer has ended.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // It fails only when the sender is gone, and that is this very value.
        drop(ended.wait_for(|ended| *ended).await);
    }

    // ---- the writer's side -----------------------------------------------------------------------------------------

    /// Waits for something to write; none when the store was closed and everything is written.
    fn next(&self) -> Option<(Vec<Change>, HashSet<SessionDigest>)> {
        let mut state = self.state.lock();
        while !state.table.has_open() {
            match (state.dirty.is_empty(), state.is_closed()) {
                (true, true) => return None,
                (false, true) => break,
                (true, false) => self.wake.wait(&mut state),
                (false, false) => {
                    if self.wake.wait_for(&mut state, self.soon).timed_out() {
                        break;
                    }
                }
            }
        }
        state.writing = Some(std::mem::replace(&mut state.open, watch::Sender::new(Fate::Waiting)));
        Some((state.table.begin_writing(), std::mem::take(&mut state.dirty)))
    }

    fn written(&self) {
        let mut state = self.state.lock();
        state.table.publish_written();
        state.end_writing(Fate::Durable);
    }

    /// Writing failed. Everybody who waited is told, and then it is found out what the disk has: memory must say the same.
    fn failed<D: Disk>(&self, disk: &mut D, error: D::Error, dirty: HashSet<SessionDigest>) -> Next {
        let error: Failure = Arc::new(error);
        let mut state = self.state.lock();
        self.fail(&mut state, &error, dirty);
        while !state.is_closed() {
            match MutexGuard::unlocked(&mut state, || disk.resolve()) {
                None => self.pause(&mut state),
                Some(written) => {
                    match written {
                        Written::Yes => state.table.publish_written(),
                        Written::No => state.table.undo_writing(),
                    }
                    // The next attempt would most likely fail as well, and finding out what the disk has is not cheap.
                    self.pause(&mut state);
                    return state.go_on();
                }
            }
        }
        Next::End
    }

    /// Tells everybody that his change was not made. What waits rests on what was being written, so it fails with it. A
    /// batch that reached the disk although the sync failed is an error as well: who was told "done" must be able to
    /// rely on it.
    fn fail(&self, state: &mut State, error: &Failure, dirty: HashSet<SessionDigest>) {
        if !state.is_closed() {
            state.phase = Phase::Broken(Arc::clone(error));
        }
        state.table.undo_open();
        state.dirty.extend(dirty);
        state.end_writing(Fate::Failed(Arc::clone(error)));
        state.end_open(Fate::Failed(Arc::clone(error)));
    }

    /// Waits a while, or until the store is closed.
    fn pause(&self, state: &mut MutexGuard<'_, State>) {
        if !state.is_closed() {
            self.wake.wait_for(state, self.rest);
        }
    }
}

/// What the writer does after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    /// The store was closed; what could not be written is lost, and whoever waited for it was told.
    End,
}

/// How long a disk may take for what somebody waits for. A folder over a network may hang, and the request with it.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The disk does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the disk did not answer within {} s: what was to be changed may still be", ANSWER_MAX.as_secs())]
struct Hangs;

async fn settled(mut batch: watch::Receiver<Fate>) -> Result<(), StoreError> {
    let fate = tokio::time::timeout(ANSWER_MAX, batch.wait_for(|fate| !matches!(fate, Fate::Waiting))).await;
    let Ok(fate) = fate else { return Err(StoreError::io(Hangs)) };
    match fate.map(|fate| fate.clone()) {
        Ok(Fate::Durable) => Ok(()),
        Ok(Fate::Failed(error)) => Err(StoreError::io(Told(error))),
        Ok(Fate::Closed | Fate::Waiting) | Err(_) => Err(StoreError::Closed),
    }
}

/// However the writer ends, nobody waits for it in vain.
struct Last(Arc<Shared>);

impl Drop for Last {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.phase = Phase::Closed;
        state.end_writing(Fate::Closed);
        state.end_open(Fate::Closed);
        drop(state);
        self.0.ended.send_replace(true);
    }
}

/// What the writer's thread does until the store is closed.
pub(super) fn write_batches<D: Disk>(shared: Arc<Shared>, disk: D) {
    let last = Last(shared);
    // Dropped before `last`: the disk is closed before anybody is told that it is.
    let mut disk = disk;
    let shared = &last.0;
    while let Some((changes, dirty)) = shared.next() {
        let next = match disk.write(whole_batch(shared, changes, &dirty)) {
            Ok(()) => {
                shared.written();
                Next::GoOn
            }
            Err(error) => shared.failed(&mut disk, error, dirty),
        };
        if next == Next::End {
            return;
        }
    }
}

/// What was decided, and what was seen already and is written with it.
fn whole_batch(shared: &Shared, mut changes: Vec<Change>, dirty: &HashSet<SessionDigest>) -> Vec<Change> {
    let changed: HashSet<_> = changes.iter().map(|change| change.digest).collect();
    for digest in dirty.difference(&changed) {
        // As it is now, which may be newer than when it became dirty; one that is gone was taken off the disk already.
        if let Some(record) = shared.shards.get(digest) {
            changes.push(Change { digest: *digest, before: None, after: Some(record) });
        }
    }
    changes
}
