//! A stale tag: somebody shows a cookie that was replaced. How bad that is depends on who holds the newest one.
//!
//! Honest jars do it too: browsers that crashed and went back, download managers that copied the cookie, lost answers. They
//! are where the holder is, and on the same device.

use std::time::Duration;

use super::{IdEvidence, Scene, Signal, SignalKind, Text};
use crate::clock::Timestamp;
use crate::fingerprint::drift::{Moved, PrefixDrift, drift};

/// A stale tag that could be an honest one counts once in this time.
pub(super) const HONEST_STALE_EVERY: Duration = Duration::from_secs(5 * 60);

/// A stale tag, by how far the one who shows it is from the holder.
pub(super) fn stale(scene: &Scene<'_>) -> Option<Signal> {
    let previous = match scene.input.id {
        IdEvidence::Stale { previous } | IdEvidence::Fork { previous, .. } => previous,
        IdEvidence::None | IdEvidence::Forged | IdEvidence::NeverIssued => return None,
    };
    let (now, weights) = (scene.input.fingerprint, scene.weights);
    let holder = scene.input.contexts.holder();
    let from_holder = holder.map(|holder| drift(holder, now)).unwrap_or_default();
    let other_device = |device| super::drift::points(device, weights) >= weights.interaction_device;
    let (points, before, after): (_, Text, Text) =
        if other_device(&from_holder.device) || other_device(&scene.drift.device) {
            let before = holder.or(scene.bound).map(|holder| holder.agent.to_string()).unwrap_or_default();
            (weights.stale_device, before.into(), now.agent.to_string().into())
        } else if from_holder.network.asn == Moved::Yes {
            let number = |asn: Option<crate::net::Asn>| asn.map(|asn| asn.0.to_string()).unwrap_or_default();
            let before = number(holder.and_then(|holder| holder.place.asn));
            (weights.stale_asn, before.into(), number(now.place.asn).into())
        } else if too_soon(previous, scene.input.now) {
            return None;
        } else if from_holder.network.prefix == PrefixDrift::Elsewhere {
            (weights.stale_prefix, "the holder's prefix".into(), "another prefix".into())
        } else {
            (weights.stale_same, "".into(), "the holder's device and network".into())
        };
    Signal::worth(SignalKind::IdStale, points, before, after)
}

fn too_soon(previous: Option<Timestamp>, now: Timestamp) -> bool {
    previous.is_some_and(|previous| now.since(previous) < HONEST_STALE_EVERY)
}
