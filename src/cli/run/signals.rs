//! Signals of the system: TERM and INT stop, HUP reloads; and what systemd is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::RunError;

/// The signals that came.
#[derive(Clone)]
pub(super) struct Signals(Arc<Inner>);

#[derive(Default)]
struct Inner {
    stops: AtomicU8,
    stop: Notify,
    hangup: Notify,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> Result<Self, RunError> {
        let inner = Arc::new(Inner::default());
        let open = |kind| signal(kind).map_err(RunError::system("signals can not be listened for"));
        let (mut term, mut int) = (open(SignalKind::terminate())?, open(SignalKind::interrupt())?);
        let mut hangup = open(SignalKind::hangup())?;
        let told = inner.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => told.stop(),
                    _ = int.recv() => told.stop(),
                    _ = hangup.recv() => told.hangup.notify_one(),
                }
            }
        });
        Ok(Self(inner))
    }

    /// Done when the guard is told to stop.
    pub(super) fn stop(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stopped(1)
    }

    /// Done when it is told so once more.
    pub(super) fn stop_again(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stopped(2)
    }

    /// Done with the next HUP.
    pub(super) async fn hangup(&self) {
        self.0.hangup.notified().await;
    }

    /// Those of a process that gets none, for tests.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(Arc::new(Inner::default()))
    }

    /// As if HUP had come.
    #[cfg(test)]
    pub(super) fn hang_up(&self) {
        self.0.hangup.notify_one();
    }

    fn stopped(&self, times: u8) -> impl Future<Output = ()> + Send + 'static {
        let inner = self.0.clone();
        async move {
            loop {
                let told = inner.stop.notified();
                if inner.stops.load(Ordering::Acquire) >= times {
                    return;
                }
                told.await;
            }
        }
    }
}

impl Inner {
    fn stop(&self) {
        self.stops.fetch_add(1, Ordering::AcqRel);
        tell(&[sd_notify::NotifyState::Stopping]);
        self.stop.notify_waiters();
    }
}

/// Tells systemd that the guard serves.
pub(super) fn tell_ready() {
    tell(&[sd_notify::NotifyState::Ready]);
}

/// Tells systemd that the configuration is read again; [`tell_ready`] ends that. systemd asks for the time of it on its own
/// clock, so as not to take the word of an earlier reload for this one.
pub(super) fn tell_reloading() {
    let mut states = vec![sd_notify::NotifyState::Reloading];
    match sd_notify::NotifyState::monotonic_usec_now() {
        Ok(now) => states.push(now),
        Err(error) => tracing::debug!(%error, "there is no monotonic clock"),
    }
    tell(&states);
}

/// Without systemd there is nobody to tell, which is no fault.
fn tell(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
