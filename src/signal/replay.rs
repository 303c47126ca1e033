//! A stale tag: somebody shows a cookie that was replaced. How bad that is depends on who holds the newest one.
//!
//! Honest jars do it too: browsers that crashed and went back, download managers that copied the cookie, lost answers. They
//! are where the holder is, and on the same device.

use std::time::Duration;

use super::{Company, IdEvidence, Scene, Signal, SignalKind, Text};
use crate::clock::Timestamp;
use crate::fingerprint::drift::{Moved, PrefixDrift, drift};
use crate::history::Standing;

/// A stale tag that could be an honest one counts once in this time.
pub(super) const HONEST_STALE_EVERY: Duration = Duration::from_secs(5 * 60);

/// Generations that a copy of an honest jar may be behind: a program that was handed the cookies some minutes ago.
pub(super) const HONEST_GENERATIONS: u32 = 3;

/// A stale tag, by how far the one who shows it is from the holder. One that is only a little behind, in the very context of the
/// login, is an honest copy wherever the holder has gone meanwhile. There no tag is too old if the holder is another device that
/// the session was not given to: a guest moved on with a copy of the jar.
pub(super) fn stale(scene: &Scene<'_>) -> Option<Signal> {
    let (previous, behind) = match scene.input.id {
        IdEvidence::Stale { previous, behind } | IdEvidence::Fork { previous, behind, .. } => (previous, behind),
        IdEvidence::None | IdEvidence::Forged | IdEvidence::NeverIssued => return None,
    };
    let (now, weights) = (scene.input.fingerprint, scene.weights);
    let holder = scene.input.contexts.holder();
    let from_holder = holder.map(|holder| drift(holder, now)).unwrap_or_default();
    let moved = scene.drift.network.prefix == PrefixDrift::Elsewhere;
    let at_home = scene.standing == Some(Standing::Trusted) && scene.drift.is_none() && !moved;
    let other_device = |device| super::drift::points(device, weights) >= weights.interaction_device;
    let by_guest = scene.input.contexts.is_held_by_guest() && other_device(&from_holder.device);
    let is_copy = (at_home && (behind <= HONEST_GENERATIONS || by_guest)) || scene.company == Company::OfHolder;
    let (asn, line) = (from_holder.network.asn == Moved::Yes, from_holder.network.line == Moved::Yes);
    let elsewhere = from_holder.network.prefix == PrefixDrift::Elsewhere;
    let (kind, points, before, after): (_, _, Text, Text) =
        if !is_copy && (other_device(&from_holder.device) || other_device(&scene.drift.device)) {
            let before = holder.or(scene.bound).map(|holder| holder.agent.to_string()).unwrap_or_default();
            (SignalKind::IdStaleDevice, weights.stale_device, before.into(), now.agent.to_string().into())
        } else if !is_copy && asn {
            let number = |asn: Option<crate::net::Asn>| asn.map(|asn| asn.0.to_string()).unwrap_or_default();
            let before = number(holder.and_then(|holder| holder.place.asn));
            (SignalKind::IdStale, weights.stale_asn, before.into(), number(now.place.asn).into())
        } else if !is_copy && (line || (elsewhere && behind > HONEST_GENERATIONS)) {
            let after = format!("another line, {behind} tags behind");
            (SignalKind::IdStale, weights.stale_asn, "the holder's line".into(), after.into())
        } else if too_soon(previous, scene.input.now) {
            return None;
        } else if !is_copy && elsewhere {
            (SignalKind::IdStale, weights.stale_prefix, "the holder's prefix".into(), "another prefix".into())
        } else {
            (SignalKind::IdStale, weights.stale_same, "".into(), "the holder's device and network".into())
        };
    Signal::worth(kind, points, before, after)
}

fn too_soon(previous: Option<Timestamp>, now: Timestamp) -> bool {
    previous.is_some_and(|previous| now.since(previous) < HONEST_STALE_EVERY)
}
