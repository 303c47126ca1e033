//! `portcullis run`: the guard in front of an app, from the configuration to the last drained connection.

mod devices;
mod reload;
mod signals;
mod start;
pub(super) mod store;

use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::{Clock, SystemClock};
use portcullis::config::{self, Attempt, Fault, Faults, Watched};
use portcullis::engine::tend;
use portcullis::event::kinds;
use portcullis::proxy::StartError;
use portcullis::verdict::Text;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};

use reload::Reloader;
use signals::Signals;
use start::Running;

/// How long the events of the last moments may take to be written.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// How long receivers may take for the last events. Those that they do not take are delivered after the next start.
const DELIVER_MAX: Duration = Duration::from_secs(5);
/// How often it writes down from which devices subjects have logged in. A crash loses so much of it.
const DEVICES_EVERY: Duration = Duration::from_secs(5 * 60);

/// The guard did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The configuration can not run.
    #[error("{0}")]
    Config(#[from] Faults),
    /// A port is taken, a certificate can not be read.
    #[error(transparent)]
    Proxy(#[from] StartError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] config::keys::KeyFileError),
    /// The journal of events.
    #[error("the journal of events can not be opened: {0}")]
    Journal(#[from] portcullis::event::journal::JournalError),
    /// The sinks of events.
    #[error(transparent)]
    Delivery(#[from] portcullis::delivery::StartError),
    /// A secret of a sink.
    #[error(transparent)]
    Secret(#[from] config::SecretError),
    /// The counters of signed rules.
    #[error(transparent)]
    Counters(#[from] config::counters::CountersError),
    /// The session store.
    #[error("{0}")]
    Store(String),
    /// A store that one process at a time may have open.
    #[error("{0}; stop that guard first: the sessions stay in the store")]
    InUse(String),
    /// What is known of addresses.
    #[error(transparent)]
    Places(#[from] config::PlacesError),
    /// The place where operators talk to the guard.
    #[error(transparent)]
    Admin(#[from] portcullis::admin::StartError),
    /// Settings that do not go together.
    #[error(transparent)]
    Assemble(#[from] config::AssembleError),
    /// Anything else of the system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It was told twice to stop, and did not wait for what was under way.
    #[error("stopped at once, as asked twice: requests under way were dropped")]
    Twice,
}

impl RunError {
    /// The first of what is wrong, in one line.
    fn headline(&self) -> String {
        match self {
            Self::Config(faults) => faults.headline(),
            other => other.to_string().lines().next().unwrap_or_default().to_owned(),
        }
    }

    pub(super) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// Runs the guard until it is told to stop.
pub(crate) fn run(request: config::Request) -> Result<(), RunError> {
    let _written = diagnostics();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let Attempt { loaded, watched } = config::load(&request, clock.now());
    let loaded = loaded?;
    warn(&loaded.warnings);
    // It accepts connections and looks after things; the threads of the proxy serve.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        runtime.worker_threads(2).enable_all().build().map_err(RunError::system("the runtime can not start"))?;
    let ended = runtime.block_on(serve(request, loaded, watched, clock));
    // Blocking work that is left (looking up a name) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// Lines of diagnostics that wait to be written; more are left out, which is told at the end, and no request waits for whoever
/// should read them.
const DIAGNOSTICS_WAITING_MAX: usize = 16 * 1024;

/// Diagnostics for the operator go to standard error; `PORTCULLIS_LOG` says how much of them. Security events are another
/// stream, which no filter can silence.
pub(super) fn diagnostics() -> Diagnostics {
    let writer = NonBlockingBuilder::default().buffered_lines_limit(DIAGNOSTICS_WAITING_MAX).lossy(true);
    let (writer, written) = writer.thread_name("portcullis-log").finish(std::io::stderr());
    let left_out = writer.error_counter();
    let filter = tracing_subscriber::EnvFilter::try_from_env("PORTCULLIS_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).compact();
    if subscriber.try_init().is_err() {
        tracing::debug!("diagnostics were set up before");
    }
    Diagnostics { left_out, _written: written }
}

/// Kept until the last line.
#[must_use]
pub(super) struct Diagnostics {
    left_out: ErrorCounter,
    _written: WorkerGuard,
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        let lines = self.left_out.dropped_lines();
        if lines > 0 {
            tracing::warn!(lines, "diagnostics were left out: they came faster than they were read");
        }
    }
}

/// What is weak or odd about what is put in force.
fn warn(warnings: &[Fault]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

async fn serve(
    request: config::Request,
    loaded: config::Loaded,
    mut watched: Watched,
    clock: Arc<dyn Clock>,
) -> Result<(), RunError> {
    let signals = Signals::listen()?;
    let started = (loaded.settings.clone(), loaded.rules.expires());
    let running = Running::start(loaded, &mut watched, clock).await?;
    let reloader = Reloader::new(request, started, watched, &running);
    let Running { guard, proxy, writer, delivery, admin, recorder, devices, .. } = running;
    let addresses: Vec<String> = proxy.local_addrs().iter().map(ToString::to_string).collect();
    let told =
        kinds::GuardStarted { version: Text::of(env!("CARGO_PKG_VERSION")), listen: Text::from(addresses.join(" ")) };
    guard.report(None, told);
    signals::tell_ready();
    let tending = tokio::spawn(tend(&guard));
    let keeping = devices.clone().map(|devices| tokio::spawn(devices.follow(guard.clone())));
    let reloading = tokio::spawn(reloader.follow(signals.clone()));
    let stopped = signals.clone();
    let operating = admin.map(|admin| tokio::spawn(async move { admin.run(stopped.stop()).await }));
    let ended = tokio::select! {
        () = proxy.run(signals.stop()) => Ok(()),
        () = signals.stop_again() => Err(RunError::Twice),
    };
    if let Some(operating) = operating {
        // It ends by the same signal, within seconds; told twice to stop, nothing waits for it.
        if ended.is_ok() && operating.await.is_err() {
            tracing::warn!("the admin API ended badly");
        }
    }
    tending.abort();
    reloading.abort();
    guard.report(None, kinds::GuardStopped {});
    if let (Some(devices), Some(keeping)) = (devices, keeping) {
        keeping.abort();
        devices.end(guard.clone()).await;
    }
    guard.store().close().await;
    if let Some(recorder) = recorder {
        // A disk that hangs keeps the thread, and not the end.
        let flushed = tokio::task::spawn_blocking(move || recorder.flush());
        if tokio::time::timeout(FLUSH_MAX, flushed).await.is_err() {
            tracing::warn!("the last of what rules saw may not have been recorded");
        }
    }
    let flushed = tokio::task::spawn_blocking(move || writer.stop(FLUSH_MAX)).await;
    if flushed.is_err() {
        tracing::warn!("the last events may not have been written");
    }
    if let (Some(delivery), Ok(())) = (delivery, &ended) {
        delivery.stop(DELIVER_MAX).await;
    }
    ended
}
