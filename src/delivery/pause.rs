//! How long to wait before a receiver is asked again.

use std::time::Duration;

use crate::entropy::{Entropy, random};

/// The pause after the first failure.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause; what the receiver asks for can be longer.
pub(super) const LONGEST: Duration = Duration::from_secs(300);
/// The longest pause that a receiver can ask for.
const ASKED_MAX: Duration = Duration::from_secs(3600);

/// The pause after so many failures in turn: it doubles, and a random half of it is left out, so that sinks which failed
/// together do not come back together.
pub(super) fn pause(failures: u32, asked: Option<Duration>, entropy: &dyn Entropy) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    let part = random::<1>(entropy).map_or(255, |[byte]| u32::from(byte));
    let spread = doubled / 2 + doubled / 2 * part / 255;
    spread.max(asked.unwrap_or_default().min(ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::InsecureSeededEntropy;

    #[test]
    fn pauses_double_up_to_five_minutes_and_are_spread() {
        let entropy = InsecureSeededEntropy::new(1);
        for failures in 1..100 {
            let most = FIRST * 2_u32.pow((failures - 1).min(20));
            let most = most.min(LONGEST);
            let pauses: Vec<_> = (0..50).map(|_| pause(failures, None, &entropy)).collect();
            assert!(pauses.iter().all(|pause| (most / 2..=most).contains(pause)), "{failures}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_one_and_not_for_one_without_end() {
        let entropy = InsecureSeededEntropy::new(1);
        assert_eq!(pause(1, Some(Duration::from_secs(90)), &entropy), Duration::from_secs(90));
        assert!(pause(20, Some(Duration::from_secs(1)), &entropy) >= LONGEST / 2);
        assert_eq!(pause(1, Some(Duration::MAX), &entropy), ASKED_MAX);
    }
}
