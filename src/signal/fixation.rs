//! Ids that we did not issue: forged, invented, or planted in a client before it logs in.
//!
//! None of them is ever adopted, so these signals tell of attempts; their points never stick to a session, which could be
//! a victim's.

use super::{IdEvidence, Planted, Scene, Signal, SignalKind};

/// A tag that no key of ours signed, on the id of a session.
pub(super) fn forged(scene: &Scene<'_>) -> Option<Signal> {
    match scene.input.id {
        IdEvidence::Forged => Signal::worth(SignalKind::IdForged, scene.weights.forged, "", "a tag never issued"),
        _ => None,
    }
}

/// An id that no session has.
pub(super) fn never_issued(scene: &Scene<'_>) -> Option<Signal> {
    match scene.input.id {
        IdEvidence::NeverIssued => {
            Signal::worth(SignalKind::IdNeverIssued, scene.weights.never_issued, "", "an id that no session has")
        }
        _ => None,
    }
}

/// An app cookie from a client that should never have had one.
pub(super) fn planted(scene: &Scene<'_>) -> Option<Signal> {
    match scene.input.planted {
        Planted::No => None,
        Planted::Sent => Signal::worth(SignalKind::IdPlanted, scene.weights.planted, "", "a shielded cookie"),
        Planted::AtLogin => {
            Signal::worth(SignalKind::IdPlanted, scene.weights.planted_at_login, "", "a shielded cookie at login")
        }
    }
}
