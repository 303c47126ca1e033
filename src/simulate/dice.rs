//! Chance that follows from a seed: fast, reproducible, and good for nothing else.

/// SplitMix64 (Steele, Lea, Flood 2014). Nobody must be able to rely on it being unpredictable: it is not.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// All that follows, follows from these.
    pub(crate) fn new(seed: u64, story: u64) -> Self {
        let mut dice = Self(seed ^ story.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let bits = (self.next() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    /// From `low` to below `high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// From `low` to `high`, both included.
    pub(crate) fn whole(&mut self, low: u32, high: u32) -> u32 {
        let span = u64::from(high.saturating_sub(low)).saturating_add(1);
        low.saturating_add(u32::try_from(self.next() % span).unwrap_or(0))
    }

    /// Whether something of this probability happens.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// The time until something happens that happens every `mean` on average.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Around 0, with this deviation (Box and Muller 1958).
    pub(crate) fn normal(&mut self, deviation: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        deviation * radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let last = u32::try_from(all.len().saturating_sub(1)).unwrap_or(0);
        let at = usize::try_from(self.whole(0, last)).unwrap_or(0);
        #[expect(
            clippy::indexing_slicing,
            reason = "at most the last; of nothing there is nothing to pick, which is a mistake here"
        )]
        &all[at]
    }

    /// One of them, by their weights.
    pub(crate) fn weighted<T: Copy>(&mut self, all: &[(T, f64)]) -> T {
        let sum: f64 = all.iter().map(|(_, weight)| weight).sum();
        let mut left = self.unit() * sum;
        for (one, weight) in all {
            left -= weight;
            if left < 0.0 {
                return *one;
            }
        }
        self.pick(all).0
    }

    /// So many moments within a span, in order.
    pub(crate) fn moments(&mut self, least: u32, most: u32, span: f64) -> Vec<f64> {
        let count = self.whole(least, most);
        let mut all: Vec<f64> = (0..count).map(|_| self.between(0.0, span)).collect();
        all.sort_by(f64::total_cmp);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_and_another_story_another() {
        let draw = |seed, story| Dice::new(seed, story).next();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert!(draw(1, 2) != draw(1, 3) && draw(1, 2) != draw(2, 2));
    }

    #[test]
    fn means_are_as_asked_for() {
        let mut dice = Dice::new(7, 0);
        let mut mean =
            |of: &mut dyn FnMut(&mut Dice) -> f64| (0..40_000).map(|_| of(&mut dice)).sum::<f64>() / 40_000.0;
        assert!((mean(&mut |dice| dice.exponential(45.0)) - 45.0).abs() < 1.5);
        assert!((mean(&mut |dice| dice.between(2.0, 4.0)) - 3.0).abs() < 0.02);
        assert!((mean(&mut |dice| f64::from(dice.whole(1, 3))) - 2.0).abs() < 0.02);
        assert!(mean(&mut |dice| dice.normal(2.0)).abs() < 0.05);
        assert!((mean(&mut |dice| dice.weighted(&[(0.0, 3.0), (1.0, 1.0)])) - 0.25).abs() < 0.02);
    }
}
