//! The store that the configuration names, without a box around every call.

use std::sync::Arc;

#[cfg(feature = "embedded")]
use super::embedded::EmbeddedStore;
use super::memory::MemoryStore;
use super::{Commit, Creation, Durability, Ending, Filter, Page, Rotate, Rotation, Store, StoreError, SubjectLimit};
use crate::clock::Timestamp;
use crate::session::id::SessionDigest;
use crate::session::record::Record;

/// One of the stores of this crate.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyStore {
    /// Sessions in memory.
    Memory(MemoryStore),
    /// Durable sessions in one file.
    #[cfg(feature = "embedded")]
    Embedded(EmbeddedStore),
}

impl From<MemoryStore> for AnyStore {
    fn from(store: MemoryStore) -> Self {
        Self::Memory(store)
    }
}

#[cfg(feature = "embedded")]
impl From<EmbeddedStore> for AnyStore {
    fn from(store: EmbeddedStore) -> Self {
        Self::Embedded(store)
    }
}

macro_rules! dispatch {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            AnyStore::Memory($store) => $call.await,
            #[cfg(feature = "embedded")]
            AnyStore::Embedded($store) => $call.await,
        }
    };
}

impl Store for AnyStore {
    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        dispatch!(self, store => store.create(record, limit, now))
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        dispatch!(self, store => store.load(digest))
    }

    async fn commit(&self, record: Record, durability: Durability) -> Result<Commit, StoreError> {
        dispatch!(self, store => store.commit(record, durability))
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        dispatch!(self, store => store.rotate(rotate))
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        dispatch!(self, store => store.revoke(digest, ending))
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        dispatch!(self, store => store.revoke_subject(subject, except, ending))
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        dispatch!(self, store => store.list(filter, after, max))
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        dispatch!(self, store => store.clear_expired(now, max))
    }
}
