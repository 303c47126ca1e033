//! Whether an app seems well: by what happens to requests, and by asking.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::proxy::timer::after;

/// Failed connections in a row that make an app count as sick.
const FAILURES: u32 = 3;
/// How long it then is asked last.
const REST: Duration = Duration::from_secs(5);

/// The state of one app.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: AtomicU32,
    until: Mutex<Option<Instant>>,
    asked: AtomicU8,
}

const WELL: u8 = 0;
const SICK: u8 = 1;

impl Health {
    /// Lower is better.
    pub(super) fn rank(&self) -> u8 {
        let resting =
            self.failures.load(Relaxed) >= FAILURES && self.until.lock().is_some_and(|until| Instant::now() < until);
        self.asked.load(Relaxed) + u8::from(resting)
    }

    pub(super) fn fail(&self) {
        if self.failures.fetch_add(1, Relaxed) + 1 >= FAILURES {
            *self.until.lock() = Some(after(REST));
        }
    }

    pub(super) fn succeed(&self) {
        self.failures.store(0, Relaxed);
    }

    pub(super) fn well(&self) {
        self.asked.store(WELL, Relaxed);
    }

    pub(super) fn sick(&self) {
        self.asked.store(SICK, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_app_that_fails_rests_for_a_while() {
        let health = Health::default();
        for _ in 0..FAILURES {
            assert_eq!(health.rank(), 0);
            health.fail();
        }
        assert_eq!(health.rank(), 1);
        tokio::time::advance(REST).await;
        assert_eq!(health.rank(), 0);
        health.sick();
        assert_eq!(health.rank(), 1);
        health.well();
        health.succeed();
        assert_eq!(health.rank(), 0);
    }
}
