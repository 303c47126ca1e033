//! Events on their way to other programs: from the journal to each sink, in order, until it has them.
//!
//! The [journal](crate::event::journal) is the queue. A sink is a place in it, kept in a small file beside it that moves on once
//! the receiver has what is before: so nothing is lost when the receiver is away, the guard is killed or the machine goes
//! down, and an event may come twice. Each has an id that stays the same. Only events that are on disk are delivered: nobody is told of one that a
//! crash then takes back.
//!
//! ```text
//!   journal --> reader --> filter --> format, privacy --> transport --> receiver
//!                 ^                                           |
//!                 +------------ place in the journal <-- taken
//! ```
//!
//! Each sink is a task of its own on a thread of their own: a receiver that is slow, away or talks nonsense holds up no
//! other sink and no request, and takes no memory but for one batch. It is asked again with growing pauses, and from the
//! [third failure](FAILURES_TOLD) on with one event at a time, until it takes one.

#[cfg(any(feature = "kafka", feature = "nats"))]
mod aside;
mod by_hand;
mod cursor;
mod http;
mod journald;
#[cfg(feature = "kafka")]
mod kafka;
mod loki;
#[cfg(feature = "nats")]
mod nats;
mod otlp;
mod pause;
mod server;
mod standing;
mod stream;
mod syslog;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod webhook;
mod worker;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use self::standing::Counted;
use self::transport::Transport as _;
use self::worker::{Common, Worker};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::event::encode::Encoder;
use crate::event::queue::EventSender;
use crate::event::sink::Filter;

pub use self::http::{Endpoint, NoUrl, Url, is_private_host};
pub use by_hand::{Hand, ReplayError, Replayed};
pub use cursor::CursorError;
pub use journald::SOCKET as JOURNALD_SOCKET;
pub use loki::Loki;
pub use server::{Credentials, Kafka, Mechanism, Nats, NoServer, Servers};
pub(crate) use server::{KAFKA_PORT, NATS_PORT, server};
pub use standing::{Standing, State};
pub use syslog::{Address, NoAddress};
pub use tls::Tls;
pub use transport::{Failure, Item, Receipt};
pub use webhook::NoKey;

/// A secret in text: a key, a token.
pub type Secret = crate::secret::Secret<String>;

/// Letters of the longest name of a sink: it is part of the name of a file.
pub const NAME_MAX: usize = 32;
/// Events of a batch where nobody says how many.
pub const BATCH_DEFAULT: usize = 100;
/// The most events that a batch may have.
pub const BATCH_MAX: usize = 1000;
/// How long a receiver may take for a batch where nobody says how long.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// From how many failures in turn on they are told, and events are sent one by one.
pub const FAILURES_TOLD: u32 = 3;
/// Single events refused in turn of which it is believed that it is for what is in them: of more, the receiver is at fault.
pub const REFUSALS_MAX: u32 = 3;
/// After so many failures in turn, the last of them an answer to one event alone, a later event is tried: if that is taken, and
/// the one still not, it is left out. If not, so many more come before that is tried again.
pub const PROBED_AFTER: u32 = 8;

/// Where a sink sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A syslog server.
    Syslog(Address),
    /// The journal of systemd, by its socket.
    Journald(PathBuf),
    /// Standard Webhooks, signed with the secret.
    Webhook(Endpoint, Secret),
    /// Grafana Loki.
    Loki(Loki),
    /// A collector of OpenTelemetry, over OTLP/HTTP.
    Otlp(Endpoint),
    /// A topic of Kafka; with the feature `kafka`.
    Kafka(Kafka),
    /// A stream of NATS; with the feature `nats`.
    Nats(Nats),
}

/// A sink over the network.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// Where it sends to.
    pub target: Target,
    /// In which form.
    pub encoder: Encoder,
    /// Which events it wants.
    pub filter: Filter,
    /// The most events that are sent at once.
    pub batch: usize,
    /// How long the receiver may take for them.
    pub timeout: Duration,
}

/// What all sinks have in common.
#[derive(Clone)]
pub struct Setup {
    /// The journal that they read.
    pub journal: PathBuf,
    /// The number of the last event in it that is on disk.
    pub durable: watch::Receiver<u64>,
    /// Where it is told that a sink fails.
    pub events: EventSender,
    /// The time that those events have.
    pub clock: Arc<dyn Clock>,
    /// Spreads pauses.
    pub entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("journal", &self.journal).finish_non_exhaustive()
    }
}

/// Sinks can not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Where a sink is in the journal can not be read or written.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// What it is set up with is no good: certificates, a secret.
    #[error("the sink `{name}`: {why}")]
    Target {
        /// Which sink.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The system gives no thread.
    #[error("the thread of the sinks can not start: {0}")]
    Thread(#[from] io::Error),
}

/// The sinks at work. Dropping it stops them where they are.
#[derive(Debug)]
pub struct Delivery {
    stop: watch::Sender<Stopping>,
    thread: Option<JoinHandle<()>>,
    ended: watch::Receiver<bool>,
    standings: Vec<Arc<Standing>>,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stopping {
    /// Not near.
    No,
    /// All that is on disk is delivered, as long as receivers take it.
    Soon,
    /// At once.
    Now,
}

/// Requests come first, where there is more to be done than the machine can do: what waits here is on disk. On Linux this is for the
/// calling thread alone, as nice(2) says.
#[cfg(target_os = "linux")]
fn give_way() {
    /// As much as is usual for what may wait (nice(1)).
    const NICER: i32 = 10;
    if let Err(error) = rustix::process::nice(NICER) {
        tracing::debug!(error = &error as &dyn std::error::Error, "sinks are as urgent as requests");
    }
}

/// Elsewhere it would be for the whole process.
#[cfg(not(target_os = "linux"))]
const fn give_way() {}

impl Delivery {
    /// Starts the sinks, each where it was, and a new one with the next event.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(sinks: Vec<Sink>, setup: &Setup) -> Result<Self, StartError> {
        let (stop, stopping) = watch::channel(Stopping::No);
        let mut workers = Vec::new();
        let mut standings = Vec::new();
        for sink in sinks {
            let Sink { name, target, encoder, filter, batch, timeout } = sink;
            let standing = Arc::new(Standing::new(&name, setup.durable.clone()));
            let transport = transport::Any::new(&target, &setup.clock);
            let transport = transport.map_err(|why| StartError::Target { name: name.clone(), why })?;
            let batch = batch.clamp(1, transport.batch_max());
            let counted = Counted::new(standing.clone(), setup.events.clone(), setup.clock.clone());
            let common = Common { name, encoder, filter, batch, timeout };
            let worker = Worker::new(setup, common, transport, counted)?;
            workers.push((worker.run(stopping.clone()), standing.clone()));
            standings.push(standing);
        }
        let (ending, ended) = watch::channel(false);
        let (begun, is_begun) = std::sync::mpsc::channel();
        let (events, clock) = (setup.events.clone(), setup.clock.clone());
        let thread = std::thread::Builder::new().name("portcullis-sinks".into()).spawn(move || {
            give_way();
            // Made here: a runtime that nobody takes over must not be dropped inside another one.
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    drop(begun.send(Err(error)));
                    return;
                }
            };
            drop(begun.send(Ok(())));
            runtime.block_on(async {
                let watched = workers.into_iter().map(|(worker, standing)| {
                    let (events, clock) = (events.clone(), clock.clone());
                    async move {
                        if tokio::spawn(worker).await.is_err() {
                            standing.ended_badly(&events, clock.now());
                        }
                    }
                });
                tokio::task::JoinSet::from_iter(watched).join_all().await;
            });
            // Looking up a name can hang, and must not keep the thread.
            runtime.shutdown_background();
            ending.send_replace(true);
        })?;
        // It answers at once, or is gone.
        is_begun.recv().unwrap_or_else(|gone| Err(io::Error::other(gone)))?;
        Ok(Self { stop, thread: Some(thread), ended, standings })
    }

    /// How each sink stands, in the order in which they were given.
    pub fn standings(&self) -> &[Arc<Standing>] {
        &self.standings
    }

    /// Delivers what is on disk, as far as the receivers take it within that time, and ends. What is left is delivered after
    /// the next start.
    pub async fn stop(mut self, deadline: Duration) {
        self.stop.send_replace(Stopping::Soon);
        let is_done = tokio::time::timeout(deadline, self.ended.wait_for(|ended| *ended)).await.is_ok();
        self.stop.send_replace(Stopping::Now);
        if is_done && let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.stop.send_replace(Stopping::Now);
    }
}
