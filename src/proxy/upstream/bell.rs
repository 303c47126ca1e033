//! Who is woken when a connection to the app can go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;

/// Rings for whichever task uses a connection, as one waker that stays the same from user to user.
///
/// hyper's halves of a conversation wake each other when one hands something to the other. Here one task holds both and polls
/// the second right after the first, so such a call would only have it polled once more for nothing: while the bell is
/// [`quiet`](Bell::quietly) it does not ring. A call from the system that falls into that moment is not lost either: it leaves
/// behind that the socket is ready, and the connection is polled before its user waits for it.
#[derive(Debug)]
pub(super) struct Bell {
    ringer: Arc<Ringer>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Ringer {
    quiet: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.quiet.load(Relaxed)
            && let Some(task) = self.task.lock().as_ref()
        {
            task.wake_by_ref();
        }
    }
}

impl Bell {
    pub(super) fn new() -> Self {
        let ringer = Arc::new(Ringer::default());
        Self { waker: Waker::from(ringer.clone()), ringer }
    }

    /// Rings for this task from now on.
    pub(super) fn rings_for(&self, task: &Waker) {
        let mut now = self.ringer.task.lock();
        if !now.as_ref().is_some_and(|now| now.will_wake(task)) {
            *now = Some(task.clone());
        }
    }

    /// Rings for nobody: the connection is put aside, and whoever used it may end.
    pub(super) fn rests(&self) {
        *self.ringer.task.lock() = None;
    }

    /// What the connection is polled with.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// Does something of which nobody needs to be told.
    pub(super) fn quietly<T>(&self, act: impl FnOnce() -> T) -> T {
        self.ringer.quiet.store(true, Relaxed);
        let done = act();
        self.ringer.quiet.store(false, Relaxed);
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn it_rings_for_the_last_user_alone_and_neither_while_it_is_quiet_nor_at_rest() {
        let bell = Bell::new();
        let users = [Arc::new(Count::default()), Arc::new(Count::default())];
        let rings = || users.each_ref().map(|user| user.0.load(Relaxed));
        bell.context().waker().wake_by_ref();
        for user in &users {
            bell.rings_for(&Waker::from(user.clone()));
            bell.context().waker().wake_by_ref();
        }
        assert_eq!(rings(), [1, 1]);
        bell.quietly(|| bell.context().waker().wake_by_ref());
        assert_eq!(rings(), [1, 1]);
        bell.context().waker().wake_by_ref();
        assert_eq!(rings(), [1, 2]);
        bell.rests();
        bell.context().waker().wake_by_ref();
        assert_eq!(rings(), [1, 2]);
    }
}
