//! Over which store the stories of sessions are told: in memory, unless `PORTCULLIS_TEST_STORE` names another.

use std::any::Any;
use std::sync::Arc;
#[cfg(any(feature = "redis", feature = "sql"))]
use std::sync::{Mutex, Weak};

use portcullis::clock::ManualClock;
use portcullis::store::SESSIONS_MAX_DEFAULT;
use portcullis::store::any::AnyStore;
use portcullis::store::cached::{self, CachedStore};
use portcullis::store::embedded::{self, EmbeddedStore};
#[cfg(feature = "file")]
use portcullis::store::file::{self, FileStore};
use portcullis::store::memory::MemoryStore;
use portcullis::store::sealed::SealedStore;
use portcullis::store::shared::Shared;
use tempfile::TempDir;

use crate::support::stored::{ring, rows};

/// Where sessions are kept.
#[derive(Debug)]
pub(super) enum Kept {
    /// In a store of the program.
    Any(Box<AnyStore>),
    /// By their clients; which have ended is remembered in memory.
    Carried(SealedStore<Shared<MemoryStore>>),
    /// In memory, behind a cache.
    Cached(CachedStore<MemoryStore>),
}

/// What a store stands on, a folder or a server, and must outlive it.
pub(super) type Below = Box<dyn Any + Send + Sync>;

impl Kept {
    /// As the environment asks for: the stories hold over any store, and `make test` tells them over several.
    pub(super) fn asked(clock: Arc<ManualClock>) -> (Self, Below) {
        let asked = std::env::var("PORTCULLIS_TEST_STORE");
        let (store, below): (AnyStore, Below) = match asked.as_deref() {
            Err(_) => (MemoryStore::default().into(), Box::new(())),
            Ok("carried") => return (Self::carried(&Shared::new(MemoryStore::default()), clock), Box::new(())),
            Ok("cached") => {
                let cached = CachedStore::new(MemoryStore::default(), cached::Settings::default(), clock);
                return (Self::Cached(cached), Box::new(()));
            }
            Ok("embedded") => {
                let folder = TempDir::new().unwrap();
                let opened = EmbeddedStore::open(folder.path(), Arc::new(rows(&[1])), embedded::Settings::default());
                (opened.unwrap().0.into(), Box::new(folder))
            }
            #[cfg(feature = "file")]
            Ok("file") => {
                let folder = TempDir::new().unwrap();
                let opened = FileStore::open(folder.path(), Arc::new(rows(&[1])), file::Settings::default());
                (opened.unwrap().0.into(), Box::new(folder))
            }
            #[cfg(feature = "redis")]
            Ok("redis") => in_redis(),
            #[cfg(feature = "sql")]
            Ok("postgres") => in_postgres(),
            Ok(other) => panic!("PORTCULLIS_TEST_STORE={other} is none of those that the stories are told over"),
        };
        (Self::Any(Box::new(store)), below)
    }

    pub(super) fn carried(ended: &Shared<MemoryStore>, clock: Arc<ManualClock>) -> Self {
        Self::Carried(SealedStore::new(ended.clone(), SESSIONS_MAX_DEFAULT, ring(&[1]), clock))
    }
}

#[cfg(feature = "redis")]
fn in_redis() -> (AnyStore, Below) {
    use portcullis::store::kv::{RedisStore, Settings};

    use crate::support::redis::Redis;
    use crate::support::stored::PATIENCE;

    static SERVER: Common<Redis> = Common::new();
    let server = SERVER.get(|| Redis::start_with("--appendonly no").expect("Redis is not installed"));
    let (url, settings) =
        (server.lock().unwrap().url.clone(), Settings { timeout: PATIENCE, prefix: a_name(), ..Settings::default() });
    let store = connected(async move { RedisStore::connect(&url, settings, rows(&[1])).await.unwrap() });
    (store.into(), Box::new(server))
}

#[cfg(feature = "sql")]
fn in_postgres() -> (AnyStore, Below) {
    use portcullis::store::sql::{Settings, SqlStore};

    use crate::support::databases::Server;
    use crate::support::stored::PATIENCE;

    static SERVER: Common<Server> = Common::new();
    let server = SERVER.get(|| Server::postgres().expect("PostgreSQL is not installed"));
    let url = server.lock().unwrap().url();
    let settings = Settings { table: a_name(), timeout: PATIENCE, ..Settings::default() };
    let store = connected(async move { SqlStore::connect(&url, settings, rows(&[1])).await.unwrap() });
    (store.into(), Box::new(server))
}

/// A server for all stories that are told at the same time; the last one stops it.
#[cfg(any(feature = "redis", feature = "sql"))]
struct Common<S>(Mutex<Weak<Mutex<S>>>);

#[cfg(any(feature = "redis", feature = "sql"))]
impl<S> Common<S> {
    const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    fn get(&self, start: impl FnOnce() -> S) -> Arc<Mutex<S>> {
        let mut held = self.0.lock().unwrap();
        held.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Mutex::new(start()));
            *held = Arc::downgrade(&server);
            server
        })
    }
}

/// A name for what nobody else keeps.
#[cfg(any(feature = "redis", feature = "sql"))]
fn a_name() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("story{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Connects to a server from within a story that can not wait. What works for a connection meanwhile goes on as long as the program.
#[cfg(any(feature = "redis", feature = "sql"))]
fn connected<S: Send>(connect: impl Future<Output = S> + Send) -> S {
    use std::sync::OnceLock;

    use tokio::runtime::{Builder, Runtime};

    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = RUNTIME.get_or_init(build);
    std::thread::scope(|scope| scope.spawn(|| runtime.block_on(connect)).join().unwrap())
}
