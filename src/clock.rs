//! Time: the only module that reads a clock.
//!
//! All durations and deadlines are computed on [`Timestamp`], milliseconds of wall time, so that a record written before
//! a restart means the same after it. Tests use [`ManualClock`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
impl std::str::FromStr for Timestamp {
    type Err = NoTimestamp;

    /// Reads a time of RFC 3339, such as `Display` writes.
    fn from_str(text: &str) -> Result<Self, NoTimestamp> {
        let time: jiff::Timestamp = text.parse().ok().ok_or(NoTimestamp)?;
        u64::try_from(time.as_millisecond()).map(Self).ok().ok_or(NoTimestamp)
    }
}

/// A text is no time since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a time such as 2027-01-15T08:00:00.000Z")]
pub struct NoTimestamp;

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

    /// How long it has run, since a moment that is the same for all calls, as finely as it can tell: for measuring how long
    /// something took, and nothing else.
    fn run_for(&self) -> Duration {
        Duration::from_millis(self.now().as_millis())
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn run_for(&self) -> Duration {
        (**self).run_for()
    }
}

/// The machine's wall clock, held monotonic: within one process it never goes back, and never stands still.
///
/// It starts at the wall time and goes on with the monotonic clock, so that a step back of the wall clock (NTP, an
/// operator) neither makes a session younger than it is nor stops every deadline until the old time has come again. Once
/// a second it looks whether the wall clock is ahead, after a step forward or a suspended machine, and then follows it.
/// So it is never behind the wall clock by more than a second; after a step back it is ahead of it until a restart.
///
/// One call reads one clock (about 20 ns) and takes no lock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    reckoning: Reckoning,
}

impl SystemClock {
    /// A clock that reads the machine's time.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn new() -> Self {
        let wall = wall();
        Self { start: Instant::now(), reckoning: Reckoning::new(wall) }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn elapsed(&self) -> u64 {
        nanos(Instant::now().saturating_duration_since(self.start))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let elapsed = self.elapsed();
        if self.reckoning.look(elapsed) == Look::Due {
            // The wall clock first: a thread that is held up in between finds it too early, never too late. The other way
            // round each such moment would be added to the time for good.
            let wall = wall();
            let elapsed = self.elapsed();
            self.reckoning.follow(wall, elapsed);
            return self.reckoning.at(elapsed);
        }
        self.reckoning.at(elapsed)
    }

    /// To the nanosecond, and without looking at the wall clock.
    fn run_for(&self) -> Duration {
        Duration::from_nanos(self.elapsed())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
fn wall() -> u64 {
    nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Nanoseconds; a `u64` of them lasts until the year 2554.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// How often the wall clock is looked at, in nanoseconds.
const LOOK_EVERY: u64 = 1_000_000_000;

/// Time reckoned from a start and what has elapsed since, all in nanoseconds. Pure: others read the clocks.
#[derive(Debug)]
struct Reckoning {
    /// The wall time at which nothing had elapsed. It only grows, and with it, as `elapsed` does too, the time.
    start: AtomicU64,
    /// What must have elapsed before the wall clock is looked at again.
    look_at: AtomicU64,
}

/// Whether the wall clock is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// By this caller, now.
    Due,
    NotYet,
}

impl Reckoning {
    const fn new(wall: u64) -> Self {
        Self { start: AtomicU64::new(wall), look_at: AtomicU64::new(LOOK_EVERY) }
    }

    fn at(&self, elapsed: u64) -> Timestamp {
        Timestamp(self.start.load(Ordering::Relaxed).saturating_add(elapsed) / 1_000_000)
    }

    /// Due for one caller a second; the others need not wait for it.
    fn look(&self, elapsed: u64) -> Look {
        let look_at = self.look_at.load(Ordering::Relaxed);
        let next = elapsed.saturating_add(LOOK_EVERY);
        let won = elapsed >= look_at
            && self.look_at.compare_exchange(look_at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if won { Look::Due } else { Look::NotYet }
    }

    /// Goes forward to the wall clock if that is ahead.
    fn follow(&self, wall: u64, elapsed: u64) {
        self.start.fetch_max(wall.saturating_sub(elapsed), Ordering::Relaxed);
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

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3600 * SECOND;

    /// The wall clock and what had elapsed, looked at one after the other, and the time that must come of it.
    fn check(looks: &[(u64, u64, u64)]) {
        let reckoning = Reckoning::new(10 * HOUR);
        for (wall, elapsed, expected) in looks {
            reckoning.follow(*wall, *elapsed);
            assert_eq!(reckoning.at(*elapsed).as_millis(), expected / 1_000_000, "{looks:?}");
        }
    }

    #[test]
    fn time_goes_on_whatever_the_wall_clock_does() {
        check(&[(10 * HOUR + 5 * SECOND, 5 * SECOND, 10 * HOUR + 5 * SECOND)]);
        // Set back by an hour: no step back, and no hour without time.
        check(&[
            (9 * HOUR + SECOND, SECOND, 10 * HOUR + SECOND),
            (9 * HOUR + HOUR / 2, HOUR / 2, 10 * HOUR + HOUR / 2),
        ]);
        // Set forward, or the machine was suspended and what elapses stood still: it follows.
        check(&[(11 * HOUR, SECOND, 11 * HOUR), (11 * HOUR + SECOND, 2 * SECOND, 11 * HOUR + SECOND)]);
        // Forward by mistake, and back: what was shown once stays.
        check(&[(99 * HOUR, SECOND, 99 * HOUR), (10 * HOUR + 2 * SECOND, 2 * SECOND, 99 * HOUR + SECOND)]);
        // A wall clock before 1970 is read as nothing.
        check(&[(0, SECOND, 10 * HOUR + SECOND)]);
        check(&[(u64::MAX, SECOND, u64::MAX), (u64::MAX, u64::MAX, u64::MAX)]);
    }

    #[test]
    fn the_wall_clock_is_looked_at_once_a_second() {
        let reckoning = Reckoning::new(0);
        let check = |elapsed, expected| assert_eq!(reckoning.look(elapsed), expected, "{elapsed}");
        check(0, Look::NotYet);
        check(SECOND - 1, Look::NotYet);
        check(SECOND, Look::Due);
        check(SECOND, Look::NotYet);
        check(2 * SECOND - 1, Look::NotYet);
        check(7 * SECOND, Look::Due);
        check(8 * SECOND - 1, Look::NotYet);
    }

    /// A guard whose machine was set back an hour ended no idle session and refilled no limit for that hour.
    #[test]
    fn an_hour_back_stops_no_deadline() {
        let clock = SystemClock { start: SystemClock::new().start, reckoning: Reckoning::new(wall() + HOUR) };
        clock.reckoning.look_at.store(0, Ordering::Relaxed);
        let before = clock.now();
        assert!(before.as_millis() * 1_000_000 >= wall() + HOUR / 2, "it does not go back");
        while clock.now() == before {
            std::hint::spin_loop();
        }
        assert!(clock.now() > before);
    }

    #[test]
    fn what_takes_less_than_a_millisecond_can_be_measured() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let before = clock.run_for();
        while clock.run_for() == before {
            std::hint::spin_loop();
        }
        assert!(clock.run_for() - before > Duration::ZERO && before < Duration::from_secs(600));
        let still = ManualClock::new(Timestamp::from_secs(7));
        still.advance(Duration::from_millis(3));
        assert_eq!(still.run_for(), Duration::from_millis(7003));
    }

    #[test]
    fn the_system_clock_tells_the_time() {
        let before = wall() / 1_000_000;
        let now = SystemClock::new().now().as_millis();
        assert!(before <= now + 1 && now <= wall() / 1_000_000 + 1, "{before} {now}");
    }
}
