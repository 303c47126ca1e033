//! Time, as it is told to those who let one choose their clock.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::time::{ClockId, clock_gettime};
use portcullis::clock::{Clock, SystemClock, Timestamp};

/// Requests in a millisecond that is told.
const REQUESTS_PER_MILLI: u64 = 1024;

/// A clock that reads the machine's, as by default, and tells another time: one that passes with the requests. A million
/// requests take a second of it. So what is due once a minute does not fall into the middle of a measurement, and limits
/// are refilled.
#[derive(Debug)]
pub struct Pace {
    machine: SystemClock,
    start: u64,
    requests: AtomicU64,
}

impl Pace {
    pub fn new() -> Arc<Self> {
        let machine = SystemClock::new();
        let start = machine.now().as_millis();
        Arc::new(Self { machine, start, requests: AtomicU64::new(0) })
    }

    /// So many requests were made.
    pub fn passed(&self, requests: usize) {
        self.requests.fetch_add(requests as u64, Ordering::Relaxed);
    }

    fn told(&self) -> u64 {
        self.start + self.requests.load(Ordering::Relaxed) / REQUESTS_PER_MILLI
    }

    /// The same for `session-guard`, over the clock that it reads by default.
    pub fn for_session_guard(self: &Arc<Self>) -> impl session_guard::Clock + use<> {
        let pace = self.clone();
        move || {
            black_box(Utc::now());
            DateTime::from_timestamp_millis(pace.told().cast_signed()).unwrap()
        }
    }
}

impl Clock for Pace {
    fn now(&self) -> Timestamp {
        black_box(self.machine.now());
        Timestamp::from_millis(self.told())
    }
}

/// How long this thread has been running.
pub fn running() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}
