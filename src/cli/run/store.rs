//! Opening the store that the configuration names.

use std::sync::Arc;

use portcullis::clock::Clock;
use portcullis::config::keys::KeyFile;
#[cfg(any(feature = "redis", feature = "sql"))]
use portcullis::config::{ServerUrl, StoreServer};
use portcullis::config::{Settings, StoreKind};
use portcullis::entropy::OsEntropy;
use portcullis::store::SESSIONS_MAX_DEFAULT;
use portcullis::store::any::AnyStore;
#[cfg(any(feature = "redis", feature = "sql"))]
use portcullis::store::cached::{self, CachedStore};
use portcullis::store::embedded::{self, EmbeddedStore};
use portcullis::store::file::{self, FileStore};
use portcullis::store::memory::MemoryStore;
use portcullis::store::row::Rows;

use super::RunError;

pub(super) async fn open(settings: &Settings, keys: &KeyFile, clock: &Arc<dyn Clock>) -> Result<AnyStore, RunError> {
    let rows = || Rows::new(keys.keyring(), Arc::new(OsEntropy));
    match &settings.store.kind {
        StoreKind::Memory => Ok(MemoryStore::new(SESSIONS_MAX_DEFAULT).into()),
        StoreKind::Embedded(path) => {
            let (store, loaded) = EmbeddedStore::open(path, embedded::Settings::default()).map_err(failed)?;
            tell_damaged(loaded.damaged);
            Ok(store.into())
        }
        StoreKind::File(path) => {
            let opened = FileStore::open(path, Arc::new(rows()), file::Settings::default()).map_err(failed)?;
            tell_damaged(opened.1.damaged);
            Ok(opened.0.into())
        }
        #[cfg(any(feature = "redis", feature = "sql"))]
        StoreKind::Server(server) => {
            let url = match &server.url {
                ServerUrl::Given(url) => url.clone(),
                ServerUrl::Env(name) => std::env::var(name).ok().ok_or_else(|| {
                    RunError::Store(format!("[store] url_env names the variable {name}, which is not set"))
                })?,
            };
            connect(&url, server, rows(), clock).await
        }
        // The configuration refuses what this program was built without.
        #[cfg(not(any(feature = "redis", feature = "sql")))]
        StoreKind::Server(_) => {
            let _ = clock;
            Err(RunError::Store("this program was built without stores in servers".to_owned()))
        }
    }
}

#[cfg(any(feature = "redis", feature = "sql"))]
async fn connect(url: &str, server: &StoreServer, rows: Rows, clock: &Arc<dyn Clock>) -> Result<AnyStore, RunError> {
    let cache = server.cache.map(|fresh_for| cached::Settings { fresh_for, ..cached::Settings::default() });
    #[cfg(feature = "redis")]
    if url.starts_with("redis") || url.starts_with("valkey") {
        use portcullis::store::kv::{RedisStore, Settings};
        let settings = Settings { timeout: server.timeout, prefix: server.prefix.clone() };
        let store = RedisStore::connect(url, settings, rows).await.map_err(failed)?;
        return Ok(match cache {
            Some(cache) => CachedStore::new(store, cache, clock.clone()).into(),
            None => store.into(),
        });
    }
    #[cfg(feature = "sql")]
    {
        use portcullis::store::sql::{Settings, SqlStore};
        let table = format!("{}_sessions", server.prefix);
        let settings = Settings { timeout: server.timeout, table, ..Settings::default() };
        let store = SqlStore::connect(url, settings, rows).await.map_err(failed)?;
        Ok(match cache {
            Some(cache) => CachedStore::new(store, cache, clock.clone()).into(),
            None => store.into(),
        })
    }
    #[cfg(not(feature = "sql"))]
    Err(RunError::Store("this program was built without stores in databases".to_owned()))
}

fn failed(error: impl std::error::Error) -> RunError {
    RunError::Store(error.to_string())
}

fn tell_damaged(records: usize) {
    if records > 0 {
        tracing::warn!(records, "stored sessions could not be read and were left out");
    }
}
