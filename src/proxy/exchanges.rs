//! What became of requests that went to the app: how long its answers took, and why there was none.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::StatusCode;

use crate::figures::{self, Histogram, Times};
use crate::proxy::Fault;

/// Why there may be no answer of the app.
pub(super) const FAILURES: [Fault; 7] = [
    Fault::AppUnreachable,
    Fault::AppCertificate,
    Fault::AppTls,
    Fault::AppFull,
    Fault::AppSilent,
    Fault::AppBrokeOff,
    Fault::Response,
];

/// Classes of answers (RFC 9110, section 15).
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counts of one thread.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    waits: Histogram,
    answers: [AtomicU64; CLASSES.len()],
    failures: [AtomicU64; FAILURES.len()],
}

impl Exchanges {
    /// The app answered after this time.
    pub(super) fn answered(&self, status: StatusCode, after: Duration) {
        self.waits.add(after);
        figures::count(&self.answers, usize::from(status.as_u16() / 100).saturating_sub(1));
    }

    /// There was no answer that could be passed on.
    pub(super) fn failed(&self, fault: Fault) {
        figures::count_of(&self.failures, &FAILURES, &fault);
    }
}

/// What became of requests that went to the app since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeFigures {
    /// How long it took from a request that may go to the app to the head of its answer: for a place among those who ask it, for a
    /// connection if none was open, and for the app itself.
    pub waits: Times,
    /// Answers by the class of their status: `2xx`.
    pub answers: Vec<(&'static str, u64)>,
    /// Requests without an answer that could be passed on, by what was wrong ([`Fault::as_str`]). Those that broke off on the side
    /// of the client are not among them.
    pub failures: Vec<(&'static str, u64)>,
}

impl Default for ExchangeFigures {
    /// Nothing was asked of the app yet.
    fn default() -> Self {
        Self::of(std::iter::empty())
    }
}

impl ExchangeFigures {
    pub(super) fn of<'a>(all: impl Iterator<Item = &'a Exchanges>) -> Self {
        let mut waits = Times::default();
        let (mut answers, mut failures) = ([0; CLASSES.len()], [0; FAILURES.len()]);
        for exchanges in all {
            exchanges.waits.add_to(&mut waits);
            figures::add_to(&exchanges.answers, &mut answers);
            figures::add_to(&exchanges.failures, &mut failures);
        }
        Self {
            waits,
            answers: CLASSES.into_iter().zip(answers).collect(),
            failures: FAILURES.map(Fault::as_str).into_iter().zip(failures).collect(),
        }
    }
}
