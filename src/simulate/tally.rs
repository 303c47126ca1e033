//! From what came of stories to rates.

use super::honest::Life;
use super::play::{Outcome, Subject};
use super::thefts::Theft;

/// A rate with the bound below which it is with 95 % certainty.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// The share, from 0 to 1.
    pub share: f64,
    /// The bound.
    pub at_most: f64,
}

impl Rate {
    /// So many of so many; both may be weighted. The bound is that of Wilson (1927) at 1.96 deviations.
    pub fn new(count: f64, of: f64) -> Self {
        const Z2: f64 = 1.96 * 1.96;
        if of <= 0.0 {
            return Self { share: 0.0, at_most: 1.0 };
        }
        let share = count / of;
        let spread = 1.96 * (share * (1.0 - share) / of + Z2 / (4.0 * of * of)).max(0.0).sqrt();
        let at_most = (share + Z2 / (2.0 * of) + spread) / (1.0 + Z2 / of);
        Self { share, at_most: at_most.min(1.0) }
    }

    /// Per ten thousand.
    pub const fn per_10k(self) -> f64 {
        self.share * 1e4
    }
}

/// What came of the sessions of one life.
#[derive(Clone, Copy, Debug)]
pub struct LifeRow {
    /// Which.
    pub life: Life,
    /// How many there were.
    pub sessions: usize,
    /// How many were ended.
    pub ended: usize,
    /// How many were asked to log in again.
    pub asked: usize,
}

/// What came of one kind of theft.
#[derive(Clone, Debug)]
pub struct TheftRow {
    /// Which.
    pub theft: Theft,
    /// How many there were.
    pub stories: usize,
    /// How many were noticed.
    pub caught: usize,
    /// The requests of the thief until then, in order.
    pub requests: Vec<u32>,
    /// The seconds since his first request until then, in order.
    pub seconds: Vec<f64>,
}

impl TheftRow {
    /// The share that was noticed.
    #[expect(clippy::cast_precision_loss, reason = "counts of a simulation")]
    pub fn rate(&self) -> f64 {
        if self.stories == 0 { 0.0 } else { self.caught as f64 / self.stories as f64 }
    }

    /// The share that was noticed within so many seconds.
    #[expect(clippy::cast_precision_loss, reason = "counts of a simulation")]
    pub fn within(&self, seconds: f64) -> f64 {
        let soon = self.seconds.iter().filter(|found| **found <= seconds).count();
        if self.stories == 0 { 0.0 } else { soon as f64 / self.stories as f64 }
    }

    /// The requests of the thief in the median of those that were noticed.
    pub fn median_requests(&self) -> Option<u32> {
        self.requests.get(self.requests.len() / 2).copied()
    }

    /// The seconds in the median of those that were noticed.
    pub fn median_seconds(&self) -> Option<f64> {
        self.seconds.get(self.seconds.len() / 2).copied()
    }

    /// The seconds within which 95 % of all were noticed, if so many were.
    pub fn most_seconds(&self) -> Option<f64> {
        let at = self.stories.saturating_mul(95).div_ceil(100).checked_sub(1)?;
        self.seconds.get(at).copied()
    }
}

/// What one contender did.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Honest sessions, by life.
    pub lives: Vec<LifeRow>,
    /// Thefts, by kind.
    pub thefts: Vec<TheftRow>,
}

impl Row {
    pub(super) fn of(name: &'static str, outcomes: &[Outcome]) -> Self {
        let lives = Life::ALL.iter().map(|life| {
            let mine = outcomes.iter().filter(|outcome| outcome.subject == Subject::Honest(*life));
            let mut row = LifeRow { life: *life, sessions: 0, ended: 0, asked: 0 };
            for outcome in mine {
                row.sessions += 1;
                row.ended += usize::from(outcome.ended);
                row.asked += usize::from(outcome.asked);
            }
            row
        });
        let thefts = Theft::ALL.iter().map(|theft| {
            let mine = outcomes.iter().filter(|outcome| outcome.subject == Subject::Theft(*theft));
            let caught: Vec<_> = mine.clone().filter_map(|outcome| outcome.caught).collect();
            let mut requests: Vec<u32> = caught.iter().map(|caught| caught.requests).collect();
            let mut seconds: Vec<f64> = caught.iter().map(|caught| caught.seconds).collect();
            requests.sort_unstable();
            seconds.sort_by(f64::total_cmp);
            TheftRow { theft: *theft, stories: mine.count(), caught: caught.len(), requests, seconds }
        });
        Self { name, lives: lives.collect(), thefts: thefts.collect() }
    }

    /// Honest sessions that were ended, weighted by the shares of lives.
    pub fn ended(&self) -> Rate {
        self.weighted(|row| row.ended)
    }

    /// Honest users that were asked to log in again, weighted likewise.
    pub fn asked(&self) -> Rate {
        self.weighted(|row| row.asked)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a simulation")]
    fn weighted(&self, count: impl Fn(&LifeRow) -> usize) -> Rate {
        let shares: f64 = self.lives.iter().map(|row| row.life.share()).sum();
        let mut share = 0.0;
        // So many sessions in proportion to the shares would be as telling.
        let mut per_session = 0.0;
        for row in self.lives.iter().filter(|row| row.sessions > 0) {
            let weight = row.life.share() / shares;
            share += weight * count(row) as f64 / row.sessions as f64;
            per_session += weight * weight / row.sessions as f64;
        }
        let sessions = if per_session > 0.0 { 1.0 / per_session } else { 0.0 };
        Rate::new(share * sessions, sessions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_above_the_share_and_sinks_with_the_number() {
        let none = Rate::new(0.0, 10_000.0);
        assert!((none.at_most * 1e4 - 3.84).abs() < 0.01, "{none:?}");
        let some = Rate::new(100.0, 10_000.0);
        assert!(some.at_most > some.share && some.at_most < 0.0122, "{some:?}");
        assert_eq!(Rate::new(0.0, 0.0).at_most, 1.0);
    }
}
