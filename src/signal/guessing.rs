//! Many wrong ids from one client.
//!
//! Nobody can guess an id; the signal tells of somebody who tries. Unknown ids alone may be a crowd behind one address
//! after a store was lost, so a forged tag counts for four of them and a malformed cookie for two.

use super::{Counts, Scene, Signal, SignalKind};
use crate::history::Points;

/// Wrong ids for each step of points.
const STEP: u32 = 10;

/// Many wrong ids from one client.
pub(super) fn guessing(scene: &Scene<'_>) -> Option<Signal> {
    let Counts { unknown, malformed, forged } = scene.input.counts;
    let wrong = unknown.saturating_add(malformed.saturating_mul(2)).saturating_add(forged.saturating_mul(4));
    let steps = wrong / STEP;
    if steps == 0 {
        return None;
    }
    let points = Points::hundredths(scene.weights.guessing.as_hundredths().saturating_mul(steps));
    let after = format!("{unknown} unknown, {malformed} malformed, {forged} forged");
    Signal::worth(SignalKind::IdGuessing, points.min(scene.weights.guessing_max), "", after)
}
