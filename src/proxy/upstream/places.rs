//! How many requests may be at one app at once.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;

/// Places at an app. Whoever finds none waits in line.
///
/// A place that is free costs one atomic step to take and one to give back; only when somebody waits is there more to do. The
/// order is the total one, because each side writes its count and then reads the other's.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    taken: AtomicUsize,
    waiting: AtomicUsize,
    free: Notify,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { max, taken: AtomicUsize::new(0), waiting: AtomicUsize::new(0), free: Notify::new() }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(SeqCst)
    }

    /// A place, if one is free and nobody waits for it.
    pub(super) fn try_take(&self) -> bool {
        self.waiting.load(SeqCst) == 0 && self.take_free()
    }

    fn take_free(&self) -> bool {
        self.taken.fetch_update(SeqCst, SeqCst, |taken| (taken < self.max).then_some(taken + 1)).is_ok()
    }

    /// Waits for a place. False if there was none in this time.
    pub(super) async fn take(&self, patience: Duration) -> bool {
        let _line = Line::join(&self.waiting);
        let taken = async {
            loop {
                let mut free = pin!(self.free.notified());
                // In line before looking, so that no place is given back unheard in between.
                free.as_mut().enable();
                if self.take_free() {
                    return;
                }
                free.await;
            }
        };
        tokio::time::timeout(patience, taken).await.is_ok()
    }

    /// A place that was taken is free again.
    pub(super) fn give_back(&self) {
        self.taken.fetch_sub(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.free.notify_one();
        }
    }
}

/// One who waits.
struct Line<'a>(&'a AtomicUsize);

impl<'a> Line<'a> {
    fn join(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, SeqCst);
        Self(waiting)
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_next_free_place_before_who_comes_later() {
        let places = Arc::new(Places::new(1));
        assert!(places.try_take());
        assert!(!places.try_take());
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.take(PATIENCE).await }
        });
        tokio::task::yield_now().await;
        places.give_back();
        assert!(!places.try_take(), "somebody waits for it");
        assert!(waiting.await.unwrap());
        assert_eq!(places.taken(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_leaves_no_trace() {
        let places = Places::new(1);
        assert!(places.try_take());
        assert!(!places.take(PATIENCE).await);
        places.give_back();
        assert!(places.try_take());
        assert_eq!(places.taken(), 1);
        assert!(!Places::new(0).take(PATIENCE).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn everybody_gets_a_place_and_there_are_never_more_than_there_are() {
        const MAX: usize = 3;
        let (places, inside) = (Arc::new(Places::new(MAX)), Arc::new(AtomicUsize::new(0)));
        let visit = |_| {
            let (places, inside) = (places.clone(), inside.clone());
            tokio::spawn(async move {
                for _ in 0..200 {
                    assert!(places.try_take() || places.take(Duration::from_secs(60)).await);
                    assert!(inside.fetch_add(1, SeqCst) < MAX);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, SeqCst);
                    places.give_back();
                }
            })
        };
        for visitor in (0..32).map(visit).collect::<Vec<_>>() {
            visitor.await.unwrap();
        }
        assert_eq!((places.taken(), places.waiting.load(SeqCst)), (0, 0));
    }
}
