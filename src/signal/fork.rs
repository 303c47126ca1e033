//! Two live holders of one session: two cookie jars, or two devices in turn.

use super::{Company, IdEvidence, Scene, Signal, SignalKind};
use crate::facts::user_agent::{Family, Os};

/// Two stale tags in turn: two jars that both store cookies. There is no surer sign of theft, but a jar that went back twice
/// looks the same, so the first asks and only the next ends the session.
pub(super) fn fork(scene: &Scene<'_>) -> Option<Signal> {
    let IdEvidence::Fork { earlier, .. } = scene.input.id else { return None };
    if scene.company == Company::OfHolder {
        // Two parts of one app, each with a jar of its own.
        return None;
    }
    let points = if earlier == 0 { scene.weights.fork } else { scene.weights.fork_again };
    Signal::worth(SignalKind::IdFork, points, "", "two cookie jars")
}

/// Device A, device B, and A again within half an hour.
pub(super) fn concurrency(scene: &Scene<'_>) -> Option<Signal> {
    let input = scene.input;
    let between = input.contexts.interleaving(input.fingerprint, input.now)?;
    let now = input.fingerprint;
    if scene.companions.iter().any(|two| two.are(between.family, now.agent.family)) {
        return None;
    }
    let name = |family: Family, os: Os| format!("{} {}", family.name(), os.name());
    let (before, after) = (name(between.family, between.os), name(now.agent.family, now.agent.os));
    let others = (between.family, between.os) != (now.agent.family, now.agent.os);
    let kind = if others && between.wire.tls_differs(&now.wire) {
        SignalKind::ConcurrencyDevices
    } else {
        SignalKind::Concurrency
    };
    Signal::worth(kind, scene.weights.concurrency, before, after)
}
