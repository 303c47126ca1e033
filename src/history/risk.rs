//! Points of risk, and how they fade.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;

/// Points of risk, in hundredths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Points(u32);

impl Points {
    /// None.
    pub const ZERO: Self = Self(0);

    /// The most that is ever kept: far beyond every threshold, and fits the stored form.
    pub const MAX: Self = Self::whole(500);

    /// So many whole points.
    pub const fn whole(points: u16) -> Self {
        // `u32::from` is not const yet; a u16 always fits.
        Self(points as u32 * 100)
    }

    /// So many hundredths.
    pub const fn hundredths(hundredths: u32) -> Self {
        Self(hundredths)
    }

    /// In hundredths.
    pub const fn as_hundredths(self) -> u32 {
        self.0
    }

    /// So many per cent of these points, rounded down.
    #[must_use]
    pub const fn percent(self, percent: u32) -> Self {
        Self(self.0.saturating_mul(percent) / 100)
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::iter::Sum for Points {
    fn sum<I: Iterator<Item = Self>>(points: I) -> Self {
        points.fold(Self::ZERO, Self::plus)
    }
}

/// `75`, `6.6`, `12.25`.
impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}"),
        }
    }
}

/// The time in which risk loses half of its points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfLife(Duration);

impl HalfLife {
    /// 15 minutes.
    pub const DEFAULT: Self = Self(Duration::from_secs(15 * 60));

    /// A half-life; at least a second.
    pub fn new(time: Duration) -> Self {
        Self(time.max(Duration::from_secs(1)))
    }

    /// What is left of points after some time, rounded down.
    ///
    /// Computed in whole numbers, so that every machine finds the same; at most 0.1 % away from the true power of two.
    fn left(self, points: Points, after: Duration) -> Points {
        // 2^(-n/8) in 65536ths.
        const EIGHTHS: [u64; 9] = [65536, 60097, 55109, 50535, 46341, 42495, 38968, 35734, 32768];
        let half = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let time = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let halvings = u32::try_from(time / half).unwrap_or(u32::MAX);
        // The rest of the time in 8 * 1024 steps of one half-life; between two entries of the table a straight line.
        let step = u128::from(time % half) * 8192 / u128::from(half);
        let (entry, within) = (usize::try_from(step / 1024).unwrap_or(0), u64::try_from(step % 1024).unwrap_or(0));
        let at = |entry| EIGHTHS.get(entry).copied().unwrap_or(0);
        let factor = (at(entry) * (1024 - within) + at(entry + 1) * within) / 1024;
        let part = u64::from(points.0) * factor / 65536;
        Points(u32::try_from(part.checked_shr(halvings).unwrap_or(0)).unwrap_or(u32::MAX))
    }
}

impl Default for HalfLife {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Points at a time, fading since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RiskScore {
    points: Points,
    at: Timestamp,
}

impl RiskScore {
    /// These points now, at most [`Points::MAX`].
    pub fn new(points: Points, now: Timestamp) -> Self {
        Self { points: points.min(Points::MAX), at: now }
    }

    /// The points when they were last counted.
    pub const fn points(self) -> Points {
        self.points
    }

    /// When they were last counted.
    pub const fn since(self) -> Timestamp {
        self.at
    }

    /// What is left of them. A clock that was set back does not make them grow.
    pub fn at(self, now: Timestamp, half_life: HalfLife) -> Points {
        half_life.left(self.points, now.since(self.at))
    }

    /// The score with `points` more.
    #[must_use]
    pub fn plus(self, points: Points, now: Timestamp, half_life: HalfLife) -> Self {
        Self::new(self.at(now, half_life).plus(points), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: HalfLife = HalfLife::DEFAULT;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_795_000_000 + secs)
    }

    #[test]
    fn points_print_without_needless_zeros() {
        let check = |hundredths, expected: &str| assert_eq!(Points::hundredths(hundredths).to_string(), expected);
        check(7500, "75");
        check(660, "6.6");
        check(1225, "12.25");
        check(5, "0.05");
        assert_eq!(Points::whole(22).percent(30).to_string(), "6.6");
    }

    #[test]
    fn risk_halves_every_half_life() {
        let score = RiskScore::new(Points::whole(100), at(0));
        let check = |secs, expected: &str| assert_eq!(score.at(at(secs), HALF).to_string(), expected, "{secs}");
        check(0, "100");
        check(900, "50");
        check(1800, "25");
        check(9000, "0.09");
        check(1_000_000_000, "0");
        // A clock that was set back.
        assert_eq!(score.at(Timestamp::EPOCH, HALF), Points::whole(100));
        for secs in 0..3000_u32 {
            let exact = 10_000.0 * 0.5f64.powf(f64::from(secs) / 900.0);
            let found = f64::from(score.at(at(u64::from(secs)), HALF).as_hundredths());
            assert!((exact - found).abs() <= exact * 0.001 + 1.0, "{secs}: {exact} {found}");
        }
    }

    #[test]
    fn risk_adds_up_to_a_limit_and_no_half_life_is_zero() {
        let score = RiskScore::new(Points::whole(100), at(0)).plus(Points::whole(10), at(900), HALF);
        assert_eq!(score.at(at(900), HALF), Points::whole(60));
        assert_eq!(score.plus(Points::whole(u16::MAX), at(900), HALF).points, Points::MAX);
        assert_eq!(HalfLife::new(Duration::ZERO).left(Points::whole(8), Duration::from_secs(3)), Points::whole(1));
    }
}
