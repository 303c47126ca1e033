//! The store that the configuration names, without a box around every call.

use std::sync::Arc;
use std::time::Duration;

#[cfg(any(feature = "redis", feature = "sql"))]
use super::cached::CachedStore;
use super::counters::Counters;
#[cfg(feature = "embedded")]
use super::embedded::EmbeddedStore;
use super::endings::{Endings, Notice};
#[cfg(feature = "file")]
use super::file::FileStore;
#[cfg(feature = "redis")]
use super::kv::RedisStore;
use super::leases::Leases;
use super::memory::MemoryStore;
#[cfg(any(feature = "embedded", feature = "redis", feature = "sql"))]
use super::sealed::SealedStore;
#[cfg(feature = "sql")]
use super::sql::SqlStore;
use super::{
    Carrier, Commit, Creation, Durability, Ending, Filter, Page, Proof, Reads, Rotate, Rotation, Store, StoreError,
    SubjectLimit,
};
use crate::clock::Timestamp;
use crate::secret::Keyring;
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
    /// A file for each session.
    #[cfg(feature = "file")]
    File(FileStore),
    /// Sessions in Redis or Valkey.
    #[cfg(feature = "redis")]
    Redis(RedisStore),
    /// The same with a cache before it.
    #[cfg(feature = "redis")]
    CachedRedis(CachedStore<RedisStore>),
    /// Sessions in a database.
    #[cfg(feature = "sql")]
    Sql(SqlStore),
    /// The same with a cache before it.
    #[cfg(feature = "sql")]
    CachedSql(CachedStore<SqlStore>),
    /// Sessions that their clients carry; what has ended is remembered in one file.
    #[cfg(feature = "embedded")]
    SealedEmbedded(SealedStore<EmbeddedStore>),
    /// The same; what has ended is remembered in Redis or Valkey.
    #[cfg(feature = "redis")]
    SealedRedis(SealedStore<RedisStore>),
    /// The same; what has ended is remembered in a database.
    #[cfg(feature = "sql")]
    SealedSql(SealedStore<SqlStore>),
}

impl AnyStore {
    /// What kind of store it is, by the words of `[store] kind`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            #[cfg(feature = "embedded")]
            Self::Embedded(_) => "embedded",
            #[cfg(feature = "file")]
            Self::File(_) => "file",
            #[cfg(feature = "redis")]
            Self::Redis(_) | Self::CachedRedis(_) => "redis",
            #[cfg(feature = "sql")]
            Self::Sql(store) => store.kind(),
            #[cfg(feature = "sql")]
            Self::CachedSql(store) => store.store().kind(),
            #[cfg(feature = "embedded")]
            Self::SealedEmbedded(_) => "sealed",
            #[cfg(feature = "redis")]
            Self::SealedRedis(_) => "sealed",
            #[cfg(feature = "sql")]
            Self::SealedSql(_) => "sealed",
        }
    }

    /// Puts another key ring in force, for the stores that seal what they keep.
    pub fn replace_keys(&self, keys: impl Into<Arc<Keyring>>) {
        let keys = keys.into();
        match self {
            Self::Memory(_) => drop(keys),
            #[cfg(feature = "embedded")]
            Self::Embedded(store) => store.rows().replace_keys(keys),
            #[cfg(feature = "file")]
            Self::File(store) => store.rows().replace_keys(keys),
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.rows().replace_keys(keys),
            #[cfg(feature = "redis")]
            Self::CachedRedis(store) => store.store().rows().replace_keys(keys),
            #[cfg(feature = "sql")]
            Self::Sql(store) => store.rows().replace_keys(keys),
            #[cfg(feature = "sql")]
            Self::CachedSql(store) => store.store().rows().replace_keys(keys),
            #[cfg(feature = "embedded")]
            Self::SealedEmbedded(store) => {
                store.ended().rows().replace_keys(keys.clone());
                store.replace_keys(keys);
            }
            #[cfg(feature = "redis")]
            Self::SealedRedis(store) => {
                store.ended().rows().replace_keys(keys.clone());
                store.replace_keys(keys);
            }
            #[cfg(feature = "sql")]
            Self::SealedSql(store) => {
                store.ended().rows().replace_keys(keys.clone());
                store.replace_keys(keys);
            }
        }
    }

    /// Writes what is still to be written, and lets go of what it holds.
    pub async fn close(&self) {
        match self {
            Self::Memory(_) => {}
            #[cfg(feature = "embedded")]
            Self::Embedded(store) => store.close().await,
            #[cfg(feature = "file")]
            Self::File(store) => store.close().await,
            #[cfg(feature = "redis")]
            Self::Redis(_) | Self::SealedRedis(_) => {}
            #[cfg(feature = "redis")]
            Self::CachedRedis(store) => store.leave().await,
            #[cfg(feature = "sql")]
            Self::Sql(store) => store.close().await,
            #[cfg(feature = "sql")]
            Self::CachedSql(store) => {
                store.leave().await;
                store.store().close().await;
            }
            #[cfg(feature = "embedded")]
            Self::SealedEmbedded(store) => store.ended().close().await,
            #[cfg(feature = "sql")]
            Self::SealedSql(store) => store.ended().close().await,
        }
    }
}

macro_rules! from {
    ($($feature:literal $store:ty => $variant:ident;)+) => {
        $(#[cfg(feature = $feature)]
        impl From<$store> for AnyStore {
            fn from(store: $store) -> Self {
                Self::$variant(store)
            }
        })+
    };
}

from! {
    "embedded" EmbeddedStore => Embedded;
    "file" FileStore => File;
    "redis" RedisStore => Redis;
    "redis" CachedStore<RedisStore> => CachedRedis;
    "sql" SqlStore => Sql;
    "sql" CachedStore<SqlStore> => CachedSql;
    "embedded" SealedStore<EmbeddedStore> => SealedEmbedded;
    "redis" SealedStore<RedisStore> => SealedRedis;
    "sql" SealedStore<SqlStore> => SealedSql;
}

impl From<MemoryStore> for AnyStore {
    fn from(store: MemoryStore) -> Self {
        Self::Memory(store)
    }
}

macro_rules! dispatch {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            AnyStore::Memory($store) => $call,
            #[cfg(feature = "embedded")]
            AnyStore::Embedded($store) => $call,
            #[cfg(feature = "file")]
            AnyStore::File($store) => $call,
            #[cfg(feature = "redis")]
            AnyStore::Redis($store) => $call,
            #[cfg(feature = "redis")]
            AnyStore::CachedRedis($store) => $call,
            #[cfg(feature = "sql")]
            AnyStore::Sql($store) => $call,
            #[cfg(feature = "sql")]
            AnyStore::CachedSql($store) => $call,
            #[cfg(feature = "embedded")]
            AnyStore::SealedEmbedded($store) => $call,
            #[cfg(feature = "redis")]
            AnyStore::SealedRedis($store) => $call,
            #[cfg(feature = "sql")]
            AnyStore::SealedSql($store) => $call,
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
        dispatch!(self, store => store.create(record, limit, now).await)
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        dispatch!(self, store => store.load(digest).await)
    }

    async fn load_fresh(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        dispatch!(self, store => store.load_fresh(digest).await)
    }

    fn reads(&self) -> Reads {
        dispatch!(self, store => store.reads())
    }

    fn proof(&self) -> Proof {
        dispatch!(self, store => store.proof())
    }

    fn notices(&self) -> Option<Endings> {
        dispatch!(self, store => Store::notices(store))
    }

    fn follows(&self) -> Option<Endings> {
        dispatch!(self, store => store.follows())
    }

    fn heed(&self, notice: Notice) {
        dispatch!(self, store => store.heed(notice))
    }

    fn leases(&self) -> Option<&dyn Leases> {
        dispatch!(self, store => store.leases())
    }

    async fn attend(&self) -> Option<Duration> {
        dispatch!(self, store => store.attend().await)
    }

    fn live(&self) -> Option<usize> {
        dispatch!(self, store => store.live())
    }

    fn carrier(&self) -> Option<&dyn Carrier> {
        dispatch!(self, store => store.carrier())
    }

    fn counters(&self) -> Option<&dyn Counters> {
        dispatch!(self, store => store.counters())
    }

    async fn commit(&self, record: Record, durability: Durability) -> Result<Commit, StoreError> {
        dispatch!(self, store => store.commit(record, durability).await)
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        dispatch!(self, store => store.rotate(rotate).await)
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        dispatch!(self, store => store.revoke(digest, ending).await)
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        dispatch!(self, store => store.revoke_subject(subject, except, ending).await)
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        dispatch!(self, store => store.list(filter, after, max).await)
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        dispatch!(self, store => store.clear_expired(now, max).await)
    }
}
