//! Threads that serve connections, each with a runtime of its own.
//!
//! A connection stays on the thread it was given to, with everything that its requests touch: its task, its connections
//! to the app, the counts of references to what it shares. Threads that took tasks from each other would spend more time on
//! moving that from cache to cache than the guard needs for its work.

use std::future::Future;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::figures::Apart;
use crate::proxy::exchanges::Exchanges;
use crate::proxy::{Gate, Live, Shared};

/// One thread, as its connections see it, and whoever gives it connections.
pub(super) struct Worker<G> {
    shared: Arc<Shared<G>>,
    /// Its own, so that no two threads count references to it.
    pub(super) live: ArcSwap<Live>,
    load: Arc<Load>,
    /// On memory that no other thread counts in.
    pub(super) exchanges: Apart<Exchanges>,
    runtime: Handle,
}

/// What a thread has to do: its connections, and the streams of HTTP/2 that are under way on them. A connection of HTTP/1 has
/// one request at most.
#[derive(Debug, Default)]
pub(super) struct Load(AtomicUsize);

impl Load {
    pub(super) fn more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn less(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<G> Deref for Worker<G> {
    type Target = Shared<G>;

    fn deref(&self) -> &Shared<G> {
        &self.shared
    }
}

impl<G: Gate> Worker<G> {
    /// Runs a task on this thread.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    pub(super) const fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// It has one more connection.
    pub(super) fn enter(&self) {
        self.load.more();
    }

    /// It has one less, and so has the proxy.
    pub(super) fn leave(&self) {
        self.load.less();
        self.shared.drain.leave();
    }
}

/// Names of apps that one thread looks up at once: the only thing that it has others do.
const LOOKUPS_MAX: usize = 16;

/// How long the threads may take to end when nothing is left to be served.
const END_MAX: Duration = Duration::from_secs(5);

/// All of them.
pub(super) struct Workers<G> {
    shared: Arc<Shared<G>>,
    each: Arc<[Arc<Worker<G>>]>,
}

impl<G> Clone for Workers<G> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), each: self.each.clone() }
    }
}

impl<G> Deref for Workers<G> {
    type Target = Shared<G>;

    fn deref(&self) -> &Shared<G> {
        &self.shared
    }
}

impl<G: Gate> Workers<G> {
    /// Starts a thread for each of these. They wait for connections until the threads are ended or dropped.
    pub(super) fn start(shared: Shared<G>, lives: impl IntoIterator<Item = Live>) -> io::Result<(Self, Threads)> {
        let shared = Arc::new(shared);
        let mut threads = Threads::default();
        let mut each = Vec::new();
        for live in lives {
            let runtime = threads.start()?;
            let live = ArcSwap::from_pointee(live);
            each.push(Arc::new(Worker {
                shared: shared.clone(),
                live,
                load: Arc::default(),
                exchanges: Apart::default(),
                runtime,
            }));
        }
        Ok((Self { shared, each: each.into() }, threads))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Worker<G>>> {
        self.each.iter()
    }

    /// The one that has the least to do.
    pub(super) fn least_busy(&self) -> Option<&Arc<Worker<G>>> {
        self.each.iter().min_by_key(|worker| worker.load.0.load(Ordering::Relaxed))
    }
}

/// The threads themselves. When this is dropped they end, with everything that still runs on them.
#[derive(Debug, Default)]
pub(super) struct Threads {
    stop: Vec<oneshot::Sender<()>>,
    running: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(&mut self) -> io::Result<Handle> {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(LOOKUPS_MAX).build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("portcullis-w{}", self.running.len()));
        self.running.push(thread.spawn(move || {
            // It is never told: the sender is dropped.
            drop(runtime.block_on(stopped));
            // Blocking work that is left (looking up a name) must not keep the thread.
            runtime.shutdown_background();
        })?);
        self.stop.push(stop);
        Ok(handle)
    }

    /// Ends them, and returns when the last thing they did is done. One that is stuck is not waited for.
    pub(super) async fn end(self) {
        drop(self.stop);
        let join = || {
            for thread in self.running {
                if thread.join().is_err() {
                    tracing::error!("a thread that serves connections panicked");
                }
            }
        };
        if !matches!(tokio::time::timeout(END_MAX, tokio::task::spawn_blocking(join)).await, Ok(Ok(()))) {
            tracing::error!("the threads that serve connections did not end");
        }
    }
}
