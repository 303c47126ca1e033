//! Sessions in memory: fast, bounded, gone at exit.
//!
//! Records lie encoded, which takes a third less memory than structures would. `load` takes one lock of 256 and finds a
//! record that is loaded again and again as a structure, or reads it back. Everything that changes a session goes through
//! one lock for the whole store: that makes every method atomic, costs about two microseconds, and is rare beside loading
//! (a session in use is written about once a minute).

use std::num::NonZeroUsize;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::table::{Shards, Swept, Table, list};
use super::{
    Commit, Creation, Durability, Ending, Filter, Page, Proof, Rotate, Rotation, SESSIONS_MAX_DEFAULT, Store,
    StoreError, SubjectLimit,
};
use crate::clock::Timestamp;
use crate::session::id::SessionDigest;
use crate::session::record::Record;

/// A store in memory.
///
/// When it is full, a new session takes the place of one that is over, then of a tombstone or of an anonymous session,
/// the one that would have been over first. A live session that somebody authenticated in is never thrown out:
/// [`StoreError::Full`] then.
#[derive(Debug)]
pub struct MemoryStore {
    shards: Arc<Shards>,
    table: Mutex<Table>,
}

impl MemoryStore {
    /// An empty store for at most so many sessions, ended ones that are still kept included.
    pub fn new(sessions_max: NonZeroUsize) -> Self {
        let table = Table::new(sessions_max);
        Self { shards: Arc::clone(table.shards()), table: Mutex::new(table) }
    }

    /// How many sessions it holds, ended ones that are still kept included.
    pub fn count(&self) -> usize {
        self.table.lock().count()
    }

    /// The record under a digest.
    pub(super) fn get(&self, digest: &SessionDigest) -> Option<Arc<Record>> {
        self.shards.get(digest)
    }

    /// Takes in a state that somebody else kept, unless a later one is here or the session has ended. Gives whether it is what
    /// is here now.
    pub(super) fn take_in(&self, record: Record, now: Timestamp) -> Result<bool, StoreError> {
        // Nearly always this is what its client was given here.
        if let Some(held) = self.get(&record.digest)
            && held.version >= record.version
        {
            return Ok(*held == record);
        }
        let taken_in = record.clone();
        self.change(|table| table.take_in(record, now))?;
        Ok(self.get(&taken_in.digest).is_some_and(|held| *held == taken_in))
    }

    /// Forgets some records.
    pub(super) fn forget(&self, is: impl Fn(&Record) -> bool) {
        self.change(|table| table.forget(is));
    }

    /// Takes back what a change did that came to nothing: the new record goes, others are as they were.
    pub(super) fn put_back<'a>(&self, new: &SessionDigest, before: impl Iterator<Item = &'a Arc<Record>>) {
        self.change(|table| table.put_back(new, before));
    }

    /// Decides something and lets everybody see it before anything else is decided.
    fn change<R>(&self, decide: impl FnOnce(&mut Table) -> R) -> R {
        let mut table = self.table.lock();
        let answer = decide(&mut table);
        table.publish_open();
        answer
    }
}

impl Default for MemoryStore {
    /// A store for [`SESSIONS_MAX_DEFAULT`] sessions.
    fn default() -> Self {
        Self::new(SESSIONS_MAX_DEFAULT)
    }
}

impl Store for MemoryStore {
    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        Ok(self.change(|table| table.create(record, limit, now))?)
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        Ok(self.shards.get(digest))
    }

    async fn commit(&self, record: Record, _: Durability) -> Result<Commit, StoreError> {
        Ok(self.table.lock().commit_published(record))
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        Ok(self.change(|table| table.rotate(rotate))?)
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        Ok(self.change(|table| table.revoke(digest, ending)))
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        Ok(self.change(|table| table.revoke_subject(subject, except, ending)))
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        Ok(list(&self.shards, || MutexGuard::map(self.table.lock(), |table| table), filter, after, max).await)
    }

    fn proof(&self) -> Proof {
        Proof::Process
    }

    fn live(&self) -> Option<usize> {
        Some(self.table.lock().live())
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        let mut gone = 0;
        while gone < max {
            match self.change(|table| table.sweep(now, max - gone)) {
                Swept::All(removed) => return Ok(gone + removed),
                Swept::Some(removed) => gone += removed,
            }
            tokio::task::yield_now().await;
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{self, Case};

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn it_conforms() {
        for case in Case::ALL {
            conformance::run_case(*case, MemoryStore::default()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn it_conforms_on_one_thread() {
        conformance::run(async || MemoryStore::default()).await.unwrap();
    }
}
