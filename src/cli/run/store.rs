//! Opening the store that the configuration names.

use std::path::Path;
use std::sync::Arc;

use portcullis::clock::Clock;
#[cfg(any(feature = "redis", feature = "sql"))]
use portcullis::config::ServerKind;
use portcullis::config::keys::KeyFile;
use portcullis::config::{ServerUrl, Settings, StoreKind, StoreServer};
use portcullis::entropy::OsEntropy;
use portcullis::store::any::AnyStore;
#[cfg(any(feature = "redis", feature = "sql"))]
use portcullis::store::cached::{self, CachedStore};
use portcullis::store::embedded::{self, EmbeddedStore};
use portcullis::store::file::{self, FileStore};
use portcullis::store::memory::MemoryStore;
use portcullis::store::row::Rows;
use portcullis::store::sealed::SealedStore;
use portcullis::store::{SESSIONS_MAX_DEFAULT, Store};

use super::RunError;

/// Opens it; one of this machine is made if it is not there.
pub(in crate::cli) async fn open(
    settings: &Settings,
    keys: &KeyFile,
    clock: &Arc<dyn Clock>,
) -> Result<AnyStore, RunError> {
    let rows = || Rows::new(keys.keyring(), Arc::new(OsEntropy));
    match &settings.store.kind {
        StoreKind::Memory => Ok(MemoryStore::new(SESSIONS_MAX_DEFAULT).into()),
        StoreKind::Embedded(path) => embedded(path, rows()).map(Into::into),
        StoreKind::File(path) => {
            let opened = FileStore::open(path, Arc::new(rows()), file::Settings::default());
            let opened = opened.map_err(|error| match &error {
                file::OpenError::InUse { .. } => RunError::InUse(error.to_string()),
                _ => failed(error),
            })?;
            tell_damaged(opened.1.damaged);
            Ok(opened.0.into())
        }
        StoreKind::Server(server) => connect(server, rows(), clock, None).await,
        StoreKind::Sealed(ended) => match &**ended {
            // Apart from the sessions that such a store may have had in the same place.
            StoreKind::Embedded(path) => Ok(sealed(embedded(&path.join("ended"), rows())?, keys, clock)),
            StoreKind::Server(server) => {
                let prefix = format!("{}_ended", server.prefix);
                connect(&StoreServer { prefix, ..server.clone() }, rows(), clock, Some(keys)).await
            }
            StoreKind::Memory | StoreKind::File(_) | StoreKind::Sealed(_) => {
                Err(RunError::Store("no such store remembers which sessions have ended".to_owned()))
            }
        },
    }
}

fn embedded(path: &Path, rows: Rows) -> Result<EmbeddedStore, RunError> {
    let opened = EmbeddedStore::open(path, Arc::new(rows), embedded::Settings::default());
    let (store, loaded) = opened.map_err(|error| match &error {
        embedded::OpenError::InUse { .. } => RunError::InUse(error.to_string()),
        _ => failed(error),
    })?;
    tell_damaged(loaded.damaged);
    Ok(store)
}

fn sealed<S: Store>(ended: S, keys: &KeyFile, clock: &Arc<dyn Clock>) -> AnyStore
where
    AnyStore: From<SealedStore<S>>,
{
    SealedStore::new(ended, SESSIONS_MAX_DEFAULT, keys.keyring(), clock.clone()).into()
}

/// Makes a folder for its owner alone, if it is not there.
#[cfg(feature = "sql")]
fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Where a store is. A variable may name another kind of server than the file does.
fn url(server: &StoreServer) -> Result<String, RunError> {
    let (url, name) = match &server.url {
        ServerUrl::Given(url) => return Ok(url.clone()),
        ServerUrl::Env(name) => (std::env::var(name), name),
    };
    match url {
        Ok(url) if server.kind.is_named_by(&url) => Ok(url),
        Ok(_) => Err(RunError::Store(format!("the variable {name}, from [store] url_env: {}", server.kind.expected()))),
        Err(_) => Err(RunError::Store(format!("[store] url_env names the variable {name}, which is not set"))),
    }
}

/// With keys it remembers the ends of sessions that clients carry.
async fn connect(
    server: &StoreServer,
    rows: Rows,
    clock: &Arc<dyn Clock>,
    carried: Option<&KeyFile>,
) -> Result<AnyStore, RunError> {
    let url = url(server)?;
    match server.kind {
        #[cfg(feature = "redis")]
        ServerKind::Redis => {
            use portcullis::store::kv::{RedisStore, Settings};
            let settings =
                Settings { timeout: server.timeout, prefix: server.prefix.clone(), replicas: server.replicas };
            let store = RedisStore::connect(&url, settings, rows).await.map_err(failed)?;
            Ok(used(store, server, clock, carried))
        }
        #[cfg(feature = "sql")]
        ServerKind::Postgres | ServerKind::Mysql | ServerKind::Sqlite => {
            use portcullis::store::sql::{Settings, SqlStore};
            if server.kind == ServerKind::Sqlite {
                let made = make_folder(&server.folder);
                made.map_err(RunError::system("the folder of the session store can not be made"))?;
            }
            let table = match carried {
                None => format!("{}_sessions", server.prefix),
                Some(_) => server.prefix.clone(),
            };
            let settings = Settings { timeout: server.timeout, table, ..Settings::default() };
            let store = SqlStore::connect(&url, settings, rows).await.map_err(failed)?;
            Ok(used(store, server, clock, carried))
        }
        // The configuration has refused it already.
        #[cfg(not(all(feature = "redis", feature = "sql")))]
        _ => {
            drop((url, rows, clock.clone(), carried));
            Err(RunError::Store("this program was built without the store of [store] kind".to_owned()))
        }
    }
}

#[cfg(any(feature = "redis", feature = "sql"))]
fn used<S: Store>(store: S, server: &StoreServer, clock: &Arc<dyn Clock>, carried: Option<&KeyFile>) -> AnyStore
where
    AnyStore: From<S> + From<CachedStore<S>> + From<SealedStore<S>>,
{
    match (carried, server.cache) {
        (Some(keys), _) => sealed(store, keys, clock),
        (None, None) => store.into(),
        (None, Some(fresh_for)) => {
            let settings = cached::Settings { fresh_for, ..cached::Settings::default() };
            CachedStore::new(store, settings, clock.clone()).into()
        }
    }
}

fn failed(error: impl std::error::Error) -> RunError {
    RunError::Store(error.to_string())
}

fn tell_damaged(records: usize) {
    if records > 0 {
        tracing::warn!(records, "stored sessions could not be read and were left out");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portcullis::config::ServerKind;

    use super::*;

    #[test]
    fn a_variable_that_names_no_such_store_is_refused_and_not_repeated() {
        let told = |name: &str| {
            let server = StoreServer {
                kind: ServerKind::Postgres,
                url: ServerUrl::Env(name.to_owned()),
                timeout: Duration::from_secs(1),
                cache: None,
                prefix: "portcullis".to_owned(),
                replicas: 0,
                folder: "data".into(),
            };
            url(&server).unwrap_err().to_string()
        };
        let path = std::env::var("PATH").unwrap();
        assert!(told("PATH").contains("`postgres://`") && !told("PATH").contains(&path), "{}", told("PATH"));
        assert!(told("PORTCULLIS_NO_SUCH_VARIABLE").contains("not set"));
    }
}
