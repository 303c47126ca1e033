//! The end of a proxy: stop accepting, finish what is in hand, close what would not end by itself.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::proxy::timer::after;

/// Counts the connections of a proxy, and requests that may outlive them, and tells them when it ends.
#[derive(Debug, Default)]
pub(super) struct Drain {
    open: AtomicUsize,
    /// Requests that go on when their connection is closed.
    held: AtomicUsize,
    begun: AtomicBool,
    deadline: Mutex<Option<Instant>>,
    begin: Notify,
    empty: Notify,
}

impl Drain {
    /// One more connection, unless there are `max` already.
    pub(super) fn enter(&self, max: usize) -> bool {
        let open = self.open.fetch_add(1, Ordering::AcqRel);
        if open >= max {
            self.leave();
        }
        open < max
    }

    pub(super) fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 && self.has_begun() {
            self.empty.notify_one();
        }
    }

    /// One more request that the end waits for, whatever becomes of its connection.
    pub(super) fn hold(&self) {
        self.held.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn release(&self) {
        if self.held.fetch_sub(1, Ordering::AcqRel) == 1 && self.has_begun() {
            self.empty.notify_one();
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Done when the drain begins.
    pub(super) async fn begun(&self) {
        let mut begin = std::pin::pin!(self.begin.notified());
        // Enlisted before looking, so that a beginning in between is not missed.
        begin.as_mut().enable();
        if !self.has_begun() {
            begin.await;
        }
    }

    /// When the connections that are left are closed.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline.lock().unwrap_or_else(Instant::now)
    }

    /// Tells every connection, and waits until the last is closed and the last request settled, or the time is over.
    pub(super) async fn run(&self, span: Duration) {
        *self.deadline.lock() = Some(after(span));
        self.begun.store(true, Ordering::Release);
        self.begin.notify_waiters();
        // Connections close themselves at the deadline; a little more lets them.
        let end = after(span.saturating_add(Duration::from_millis(500)));
        while self.open.load(Ordering::Acquire) > 0 || self.held.load(Ordering::Acquire) > 0 {
            if tokio::time::timeout_at(end, self.empty.notified()).await.is_err() {
                break;
            }
        }
    }
}
