//! A store in memory that does something before and after each thing that it is asked, for the tests of stores that have one behind
//! them.

use std::sync::Arc;

use super::leases::Leases;
use super::memory::MemoryStore;
use super::shared::Shared;
use super::{
    Commit, Creation, Durability, Ending, Filter, Page, Proof, Rotate, Rotation, Store, StoreError, SubjectLimit,
};
use crate::clock::Timestamp;
use crate::session::id::SessionDigest;
use crate::session::record::Record;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Call<'a> {
    Load(&'a SessionDigest),
    Create,
    /// Any other change.
    Change,
    List,
}

/// What is done beside what is asked.
pub(in crate::store) trait Hook: Send + Sync + 'static {
    /// Before it is done.
    ///
    /// # Errors
    /// The answer, in place of doing it.
    fn before(&self, _: Call<'_>) -> impl Future<Output = Result<(), StoreError>> + Send {
        std::future::ready(Ok(()))
    }

    /// When it is done, and nobody has been told.
    fn after(&self, _: Call<'_>) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Leases of caches before it.
    fn leases(&self) -> Option<&dyn Leases> {
        None
    }
}

/// The store. Removing what is over is not looked at.
pub(in crate::store) struct Hooked<H> {
    pub(in crate::store) memory: Shared<MemoryStore>,
    pub(in crate::store) hook: H,
}

impl<H: Hook> Hooked<H> {
    pub(in crate::store) fn new(hook: H) -> Self {
        Self { memory: Shared::new(MemoryStore::default()), hook }
    }

    async fn around<T>(
        &self,
        call: Call<'_>,
        asked: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.hook.before(call).await?;
        let answer = asked.await;
        self.hook.after(call).await;
        answer
    }
}

impl<H: Hook> Store for Hooked<H> {
    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        self.around(Call::Create, self.memory.create(record, limit, now)).await
    }

    fn proof(&self) -> Proof {
        self.memory.proof()
    }

    fn leases(&self) -> Option<&dyn Leases> {
        self.hook.leases()
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        self.around(Call::Load(digest), self.memory.load(digest)).await
    }

    async fn commit(&self, record: Record, durability: Durability) -> Result<Commit, StoreError> {
        self.around(Call::Change, self.memory.commit(record, durability)).await
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        self.around(Call::Change, self.memory.rotate(rotate)).await
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        self.around(Call::Change, self.memory.revoke(digest, ending)).await
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        self.around(Call::Change, self.memory.revoke_subject(subject, except, ending)).await
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        self.around(Call::List, self.memory.list(filter, after, max)).await
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        self.memory.clear_expired(now, max).await
    }
}
