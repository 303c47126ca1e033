//! A request that goes on when its client has gone, because what the app does with it must be settled.
//!
//! As long as the client is there, the request is part of its connection like any other. Only when that is dropped, what is
//! left of the request gets a task of its own: so one that its client waits for costs a box, and neither a task nor a
//! channel. How many of one client may go on is limited: a client that begins and leaves again and again does not take all
//! places at the app.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use crate::limit::ClientKey;

/// One client can have this part of all the room, so that others find some whatever it does.
pub(crate) const PART: usize = 8;

/// Clients are spread over so many counts by a random key: who meets another in one is chance.
const COUNTS: usize = 128;

/// What is held for a request that may go on alone.
pub(crate) trait Leave: Send + 'static {
    /// Its client has gone.
    ///
    /// # Errors
    /// When it must not go on.
    fn leave_alone(&mut self) -> Result<(), Full>;
}

/// A future that is finished even if it is dropped.
pub(crate) struct Outlive<F: Future + Send + 'static, H: Leave> {
    /// Absent when it is done, and while it is polled: one that panicked is not to be polled again.
    rest: Option<Pin<Box<F>>>,
    /// Absent once it was handed over.
    held: Option<H>,
}

impl<F: Future + Send + 'static, H: Leave> Outlive<F, H> {
    pub(crate) fn new(held: H, future: F) -> Self {
        Self { rest: Some(Box::pin(future)), held: Some(held) }
    }
}

impl<F: Future + Send + 'static, H: Leave + Unpin> Future for Outlive<F, H> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(mut rest) = self.rest.take() else { return Poll::Pending };
        let polled = rest.as_mut().poll(cx);
        if polled.is_pending() {
            self.rest = Some(rest);
        }
        polled
    }
}

impl<F: Future + Send + 'static, H: Leave> Drop for Outlive<F, H> {
    fn drop(&mut self) {
        // Without a runtime the process is at its end, and nothing can go on.
        if let (Some(rest), Some(mut held)) = (self.rest.take(), self.held.take())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            if held.leave_alone().is_err() {
                return tell_dropped();
            }
            runtime.spawn(async move {
                let _held = held;
                drop(rest.await);
            });
        }
    }
}

/// Says how many there were whenever that has doubled: of a flood a few lines.
fn tell_dropped() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    let requests = DROPPED.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    if requests.is_power_of_two() {
        tracing::warn!(requests, "requests broke off with their clients: too many went on without theirs already");
    }
}

/// There is no room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Counts of clients, in bounded room.
#[derive(Debug)]
pub(crate) struct PerClient {
    counts: [AtomicUsize; COUNTS],
    key: RandomState,
}

impl Default for PerClient {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicUsize::new(0)), key: RandomState::new() }
    }
}

impl PerClient {
    /// So many more of a client, unless it has more than `max` then.
    pub(crate) fn add(&self, client: ClientKey, more: usize, max: usize) -> Result<(), Full> {
        add(self.of(client), more, max)
    }

    pub(crate) fn take(&self, client: ClientKey, less: usize) {
        self.of(client).fetch_sub(less, Ordering::AcqRel);
    }

    #[cfg(test)]
    pub(crate) fn sum(&self) -> usize {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is less than the number of counts")]
    fn of(&self, client: ClientKey) -> &AtomicUsize {
        let hash = usize::try_from(self.key.hash_one(client) % COUNTS as u64).unwrap_or(0);
        &self.counts[hash]
    }
}

/// Adds to a count, unless it is more than `max` then.
pub(crate) fn add(count: &AtomicUsize, more: usize, max: usize) -> Result<(), Full> {
    let fits = |held: usize| held.checked_add(more).filter(|held| more == 0 || *held <= max);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok().map(|_| ()).ok_or(Full)
}
