//! Time: the only module that reads a clock.
//!
//! All durations and deadlines are computed on [`Timestamp`], milliseconds of wall time, so that a record written before
//! a restart means the same after it. Tests use [`ManualClock`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The beginning of 1970: the time of a manual clock that nobody moved.
    pub const EPOCH: Self = Self(0);

    /// A timestamp of so many milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// A timestamp of so many whole seconds since 1970.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// How long ago `earlier` was; zero if it lies ahead (a clock that was set back).
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This much later; stops at the end of time instead of wrapping.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// This much earlier; stops at 1970.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-21T10:46:12.000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match time {
            Some(time) => write!(f, "{time:.3}"),
            None => f.write_str("9999-12-31T23:59:59.999Z"),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Something that tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now.
    fn now(&self) -> Timestamp;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// The machine's wall clock, held monotonic: it never goes back within one process.
///
/// A step back of the machine's clock (NTP, an operator) would otherwise make a session younger than it is.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest: AtomicU64,
}

impl SystemClock {
    /// A clock that reads the machine's time.
    pub const fn new() -> Self {
        Self { latest: AtomicU64::new(0) }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let latest = self.latest.load(Ordering::Relaxed);
        if now > latest {
            self.latest.fetch_max(now, Ordering::Relaxed);
            Timestamp(now)
        } else {
            Timestamp(latest)
        }
    }
}

/// A clock that stands still until it is moved: for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub const fn new(now: Timestamp) -> Self {
        Self { now: AtomicU64::new(now.0) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        self.now.fetch_add(millis(span), Ordering::Relaxed);
    }

    /// Puts the clock at a time, which may lie in the past.
    pub fn set(&self, now: Timestamp) {
        self.now.store(now.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_rfc3339_in_utc_with_milliseconds() {
        assert_eq!(Timestamp::from_millis(1_795_257_972_045).to_string(), "2026-11-21T10:46:12.045Z");
        assert_eq!(Timestamp::EPOCH.to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        let now = Timestamp::from_secs(10);
        assert_eq!(now.since(Timestamp::from_secs(20)), Duration::ZERO);
        assert_eq!(now.before(Duration::from_secs(20)), Timestamp::EPOCH);
        assert_eq!(Timestamp::from_millis(u64::MAX).after(Duration::MAX).as_millis(), u64::MAX);
    }

    #[test]
    fn the_system_clock_does_not_go_back() {
        let clock = SystemClock { latest: AtomicU64::new(u64::MAX - 1) };
        assert_eq!(clock.now().as_millis(), u64::MAX - 1);
    }
}
