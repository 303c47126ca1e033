//! How a limit is spelled: `"10/1m burst 3"`, and how a duration is: `"30m"`.
//!
//! A [`Rate`] that exists can be counted without overflow: its burst refills within 30 days, and its time is in whole
//! seconds, because the header fields that tell a client of it know nothing finer.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::store::debts::Pace;

/// A duration is not spelled as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A number alone: of what?
    #[error("a duration needs a unit: ms, s, m, h, d or w, such as \"30m\"")]
    Unit,
    /// Not a number followed by a unit.
    #[error("expected a whole number and a unit (ms, s, m, h, d or w), such as \"30m\"")]
    Shape,
    /// More than can be counted.
    #[error("the duration is too long")]
    TooLong,
}

/// Reads a duration: a whole number and one unit of `ms s m h d w`, without a space: `"30m"`, `"500ms"`.
///
/// # Errors
/// When the unit is missing or unknown, or the number is not a whole one or too large.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(DurationError::Shape)?;
    if number.is_empty() {
        return Err(DurationError::Shape);
    }
    let milliseconds: u64 = match unit {
        "" => return Err(DurationError::Unit),
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        "w" => 7 * 24 * 3600 * 1000,
        _ => return Err(DurationError::Shape),
    };
    // The number is digits alone, so the only way it can fail is by its size.
    let count: u64 = number.parse().ok().ok_or(DurationError::TooLong)?;
    count.checked_mul(milliseconds).map(Duration::from_millis).ok_or(DurationError::TooLong)
}

/// A duration in the largest unit that tells it exactly; [`parse_duration`] reads it back (finer than a millisecond is
/// cut off).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spelled(pub Duration);

impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let units = [("d", 24 * 3600 * 1000), ("h", 3600 * 1000), ("m", 60 * 1000), ("s", 1000)];
        match units.iter().find(|(_, size)| milliseconds != 0 && milliseconds.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", milliseconds / size),
            None => write!(f, "{milliseconds}ms"),
        }
    }
}

/// A rate is not spelled as one, or can not be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not `COUNT/DURATION` with an optional `burst COUNT`.
    #[error("expected a limit such as \"10/1m\", \"10/1m burst 3\" or \"off\"")]
    Shape,
    /// A count that is no whole number above zero.
    #[error("\"{0}\" is not a whole number from 1 to 1000000; to turn a limit off write \"off\"")]
    Count(String),
    /// The part behind the stroke is no duration.
    #[error("\"{text}\" is not a duration: {source}")]
    Duration {
        /// What stands there.
        text: String,
        /// What is wrong with it.
        source: DurationError,
    },
    /// A time that is not in whole seconds, or none.
    #[error("the time of a limit must be in whole seconds, 1s or more")]
    Seconds,
    /// The burst would take too long to come back.
    #[error("a used-up burst would take more than 30 days to come back")]
    TooSlow,
}

/// Largest count and burst of a rate.
const COUNT_MAX: u32 = 1_000_000;
/// Longest time for a used-up burst to come back.
const REFILL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How often something may happen: `quota` times `per` so long, and `burst` times at once.
///
/// ```
/// use portcullis::limit::Rate;
///
/// let rate = Rate::parse("10/1m burst 3")?.unwrap();
/// assert_eq!(rate.interval(), std::time::Duration::from_secs(6));
/// assert_eq!(rate.to_string(), "10/1m burst 3");
/// assert_eq!(Rate::parse("off")?, None);
/// # Ok::<_, portcullis::limit::RateError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    quota: NonZeroU32,
    per: Duration,
    burst: NonZeroU32,
}

impl Rate {
    /// A rate of `quota` in the time of `per`, and `burst` at once.
    ///
    /// # Errors
    /// When a count is over a million, `per` is not in whole seconds, or the burst takes more than 30 days to refill.
    pub fn try_new(quota: NonZeroU32, per: Duration, burst: NonZeroU32) -> Result<Self, RateError> {
        if let Some(count) = [quota, burst].into_iter().find(|count| count.get() > COUNT_MAX) {
            return Err(RateError::Count(count.to_string()));
        }
        if per < Duration::from_secs(1) || per.subsec_nanos() != 0 {
            return Err(RateError::Seconds);
        }
        let refill = per.as_nanos().div_ceil(u128::from(quota.get())) * u128::from(burst.get());
        if refill > REFILL_MAX.as_nanos() {
            return Err(RateError::TooSlow);
        }
        Ok(Self { quota, per, burst })
    }

    /// The same in numbers that guards share.
    pub fn pace(&self) -> Pace {
        Pace::new(self.interval(), self.burst().get())
    }

    /// Reads `"10/1m burst 3"`; without `burst` the whole quota may come at once. `"off"` is no limit: `None`.
    ///
    /// # Errors
    /// When it is neither, with what was expected.
    pub fn parse(text: &str) -> Result<Option<Self>, RateError> {
        let mut words = text.split_ascii_whitespace();
        let head = words.next().ok_or(RateError::Shape)?;
        let tail = (words.next(), words.next(), words.next());
        if head == "off" && tail == (None, None, None) {
            return Ok(None);
        }
        let (quota, per) = head.split_once('/').ok_or(RateError::Shape)?;
        let quota = count(quota)?;
        let per = parse_duration(per).map_err(|source| RateError::Duration { text: per.to_owned(), source })?;
        let burst = match tail {
            (None, None, None) => quota,
            (Some("burst"), Some(burst), None) => count(burst)?,
            _ => return Err(RateError::Shape),
        };
        Self::try_new(quota, per, burst).map(Some)
    }

    /// How many within [`per`](Self::per).
    pub const fn quota(self) -> NonZeroU32 {
        self.quota
    }

    /// The time that the quota is for.
    pub const fn per(self) -> Duration {
        self.per
    }

    /// How many may come at once.
    pub const fn burst(self) -> NonZeroU32 {
        self.burst
    }

    /// The time after which one more is allowed, rounded up to a nanosecond so that the rate is never exceeded.
    pub fn interval(self) -> Duration {
        let nanos = self.per.as_nanos().div_ceil(u128::from(self.quota.get()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.quota, Spelled(self.per))?;
        if self.burst == self.quota { Ok(()) } else { write!(f, " burst {}", self.burst) }
    }
}

fn count(text: &str) -> Result<NonZeroU32, RateError> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let count = text.parse().ok().filter(|count: &NonZeroU32| plain && count.get() <= COUNT_MAX);
    count.ok_or_else(|| RateError::Count(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, quota: u32, per: u64, burst: u32) {
        let rate = Rate::parse(text).unwrap().unwrap();
        assert_eq!((rate.quota.get(), rate.per.as_secs(), rate.burst.get()), (quota, per, burst), "{text}");
    }

    #[test]
    fn a_rate_is_a_count_a_time_and_a_burst() {
        check("10/1m burst 3", 10, 60, 3);
        check("20/1s burst 40", 20, 1, 40);
        check("600/1m", 600, 60, 600);
        check("  5/5m   burst  3 ", 5, 300, 3);
        check("1/1d", 1, 86_400, 1);
        check("90/90s", 90, 90, 90);
        assert_eq!(Rate::parse("off"), Ok(None));
    }

    #[test]
    fn a_fault_says_what_was_expected() {
        let fault = |text: &str| Rate::parse(text).unwrap_err().to_string();
        for text in ["", "10", "burst 3", "10/1m 3", "10/1m burst", "10/1m burst 3 4", "10/1m bust 3", "off burst 3"] {
            assert_eq!(fault(text), "expected a limit such as \"10/1m\", \"10/1m burst 3\" or \"off\"", "{text}");
        }
        for (text, count) in [("0/1m", "0"), ("-1/1m", "-1"), ("+1/1m", "+1"), ("x/1m", "x"), ("9999999/1m", "9999999")]
        {
            assert!(fault(text).starts_with(&format!("\"{count}\" is not a whole number")), "{text}: {}", fault(text));
        }
        assert!(fault("10/60").contains("needs a unit"), "{}", fault("10/60"));
        assert!(fault("10/1 m").contains("needs a unit"), "{}", fault("10/1 m"));
        assert!(fault("10/m").contains("whole number and a unit"), "{}", fault("10/m"));
        assert!(fault("10/500ms").contains("whole seconds"));
        assert!(fault("10/0s").contains("whole seconds"));
        assert!(fault("1/1d burst 1000").contains("30 days"));
        assert!(fault("1/99999999999999999999d").contains("too long"));
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        let good = [("30m", 1_800_000), ("0s", 0), ("500ms", 500), ("12h", 43_200_000), ("2w", 1_209_600_000)];
        for (text, millis) in good {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_duration("30"), Err(DurationError::Unit));
        for text in ["", "m", "30 m", "1h30m", "-1s", "1.5h", "30M", "30min"] {
            assert_eq!(parse_duration(text), Err(DurationError::Shape), "{text}");
        }
        for text in ["18446744073709551615s", "99999999999999999999999999ms"] {
            assert_eq!(parse_duration(text), Err(DurationError::TooLong), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(quota in 1..=COUNT_MAX, per in 1u64..=86_400, burst in 1..=COUNT_MAX) {
            let (quota, burst) = (NonZeroU32::new(quota).unwrap(), NonZeroU32::new(burst).unwrap());
            if let Ok(rate) = Rate::try_new(quota, Duration::from_secs(per), burst) {
                prop_assert_eq!(Rate::parse(&rate.to_string()), Ok(Some(rate)));
            }
        }

        #[test]
        fn a_printed_duration_is_read_back(millis in 0u64..1 << 50) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&Spelled(duration).to_string()), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,24}") {
            if let Ok(Some(rate)) = Rate::parse(&text) {
                prop_assert!(rate.interval() > Duration::ZERO);
            }
        }
    }
}
