//! One store for several guards of one process.

use std::sync::Arc;
use std::time::Duration;

use super::counters::Counters;
use super::debts::Counts;
use super::endings::{Endings, Notice};
use super::leases::Leases;
use super::{
    Carrier, Commit, Creation, Durability, Ending, Filter, Page, Proof, Reads, Rotate, Rotation, Store, StoreError,
    SubjectLimit,
};
use crate::clock::Timestamp;
use crate::session::id::SessionDigest;
use crate::session::record::Record;

/// A store that several guards share: each gets a clone. A session that one of them began is known to all, and what
/// their rules and limits count is counted for all of them together.
///
/// ```
/// use portcullis::store::{Store as _, memory::MemoryStore, shared::Shared};
///
/// let store = Shared::new(MemoryStore::default());
/// let of_another_guard = store.clone();
/// assert!(of_another_guard.counters().is_some());
/// ```
#[derive(Debug)]
pub struct Shared<S>(Arc<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    store: S,
    counts: Counts,
}

impl<S> Shared<S> {
    /// Shares a store.
    pub fn new(store: S) -> Self {
        Self(Arc::new(Inner { store, counts: Counts::default() }))
    }

    /// The store that is shared.
    pub fn store(&self) -> &S {
        &self.0.store
    }
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Store> Store for Shared<S> {
    fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Creation, StoreError>> + Send {
        self.store().create(record, limit, now)
    }

    fn load(&self, digest: &SessionDigest) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send {
        self.store().load(digest)
    }

    fn load_fresh(
        &self,
        digest: &SessionDigest,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send {
        self.store().load_fresh(digest)
    }

    fn reads(&self) -> Reads {
        self.store().reads()
    }

    fn proof(&self) -> Proof {
        self.store().proof()
    }

    fn notices(&self) -> Option<Endings> {
        self.store().notices()
    }

    fn follows(&self) -> Option<Endings> {
        self.store().follows()
    }

    fn heed(&self, notice: Notice) {
        self.store().heed(notice);
    }

    fn leases(&self) -> Option<&dyn Leases> {
        self.store().leases()
    }

    fn attend(&self) -> impl Future<Output = Option<Duration>> + Send {
        self.store().attend()
    }

    fn commit(
        &self,
        record: Record,
        durability: Durability,
    ) -> impl Future<Output = Result<Commit, StoreError>> + Send {
        self.store().commit(record, durability)
    }

    fn rotate(&self, rotate: Rotate<'_>) -> impl Future<Output = Result<Rotation, StoreError>> + Send {
        self.store().rotate(rotate)
    }

    fn revoke(
        &self,
        digest: &SessionDigest,
        ending: Ending,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send {
        self.store().revoke(digest, ending)
    }

    fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> impl Future<Output = Result<Vec<Arc<Record>>, StoreError>> + Send {
        self.store().revoke_subject(subject, except, ending)
    }

    fn list(
        &self,
        filter: &Filter,
        after: Option<SessionDigest>,
        max: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send {
        self.store().list(filter, after, max)
    }

    fn clear_expired(&self, now: Timestamp, max: usize) -> impl Future<Output = Result<usize, StoreError>> + Send {
        self.store().clear_expired(now, max)
    }

    fn live(&self) -> Option<usize> {
        self.store().live()
    }

    fn carrier(&self) -> Option<&dyn Carrier> {
        self.store().carrier()
    }

    fn counters(&self) -> Option<&dyn Counters> {
        Some(&self.0.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;
    use crate::store::memory::MemoryStore;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn it_conforms() {
        conformance::run(async || Shared::new(MemoryStore::default())).await.unwrap();
    }
}
