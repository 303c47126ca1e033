//! Cutting a running response from outside: what ends a WebSocket when its session is revoked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

#[derive(Default)]
struct Knife {
    done: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// The end that cuts. Dropping it cuts nothing.
#[derive(Clone)]
pub struct Cutter(Arc<Knife>);

/// The end that is cut: held by one running response.
pub struct Cut(Option<Arc<Knife>>);

impl Cutter {
    /// A pair of ends.
    pub fn new() -> (Self, Cut) {
        let knife = Arc::new(Knife::default());
        (Self(knife.clone()), Cut(Some(knife)))
    }

    /// Ends the response that holds the other end.
    pub fn cut(&self) {
        self.0.done.store(true, Ordering::Release);
        if let Some(waker) = self.0.waker.lock().take() {
            waker.wake();
        }
    }

    /// Whether the response is gone, so that this end may be forgotten.
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Cut {
    /// A cut that never comes.
    pub const fn never() -> Self {
        Self(None)
    }

    /// A cut that has already happened.
    pub fn done() -> Self {
        let (cutter, cut) = Cutter::new();
        cutter.cut();
        cut
    }

    /// Another end of the same cut, for the same task.
    #[cfg(feature = "proxy")]
    pub(crate) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// Whether it has happened.
    pub fn is_done(&self) -> bool {
        self.0.as_ref().is_some_and(|knife| knife.done.load(Ordering::Acquire))
    }

    /// Ready once it has happened. The last task to ask is the one that is woken.
    pub fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(knife) = &self.0 else { return Poll::Pending };
        if knife.done.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut slot = knife.waker.lock();
        if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *slot = Some(cx.waker().clone());
        }
        drop(slot);
        // The cut may have come between the look and the registration.
        if knife.done.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl fmt::Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cutter")
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cut").field(&self.is_done()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cut_wakes_the_one_who_waits() {
        let (cutter, cut) = Cutter::new();
        let waiting = tokio::spawn(std::future::poll_fn(move |cx| cut.poll_done(cx)));
        tokio::task::yield_now().await;
        cutter.cut();
        waiting.await.unwrap();
        assert!(cutter.is_idle());
        assert!(Cut::done().is_done());
        assert!(!Cut::never().is_done());
    }
}
