//! The device is another: program, system, version, languages, hints.

use super::weights::{Weights, correlated};
use super::{Scene, Signal, SignalKind, Text};
use crate::facts::geo::NetworkKind;
use crate::fingerprint::drift::{
    CountryDrift, DeviceDrift, Drift, ExactDrift, LanguageDrift, Moved, OsDrift, VersionDrift,
};
use crate::history::Points;

/// Another program: curl for Chrome, or none named for one that was.
pub(super) fn family(scene: &Scene<'_>) -> Option<Signal> {
    let points = family_points(&scene.drift.device, scene.weights);
    let (before, after) = (scene.bound?.agent.family.name(), scene.input.fingerprint.agent.family.name());
    Signal::worth(SignalKind::DeviceFamily, points, before, after)
}

/// Another system, or the same browser asking for desktop pages.
pub(super) fn system(scene: &Scene<'_>) -> Option<Signal> {
    let points = system_points(&scene.drift.device, scene.weights);
    let kind = match scene.drift.device.os {
        OsDrift::DesktopToggle => SignalKind::DeviceDesktopSite,
        OsDrift::Same | OsDrift::Changed => SignalKind::DeviceOs,
    };
    Signal::worth(kind, points, scene.bound?.agent.os.name(), scene.input.fingerprint.agent.os.name())
}

/// Another version of the same program. Browsers go up; only attackers and restored machines go down.
pub(super) fn version(scene: &Scene<'_>) -> Option<Signal> {
    let points = version_points(&scene.drift.device, scene.weights);
    if points == Points::ZERO {
        return None;
    }
    let (before, after) = (scene.bound?.agent.major, scene.input.fingerprint.agent.major);
    Signal::worth(SignalKind::DeviceVersion, points, before.to_string(), after.to_string())
}

/// Other languages.
pub(super) fn language(scene: &Scene<'_>) -> Option<Signal> {
    let points = language_points(&scene.drift.device, scene.weights);
    if points == Points::ZERO {
        return None;
    }
    let (before, after) = (scene.bound?.language, scene.input.fingerprint.language);
    Signal::worth(SignalKind::DeviceLanguage, points, before.to_string(), after.to_string())
}

/// Hints that contradict a user agent which stayed as it was: whoever copied the header forgot them.
pub(super) fn hints(scene: &Scene<'_>) -> Option<Signal> {
    let device = &scene.drift.device;
    let points = hint_points(device, scene.weights);
    if points == Points::ZERO {
        return None;
    }
    let (from, to) = (scene.bound?.hints, scene.input.fingerprint.hints);
    let (before, after): (Text, Text) = if device.platform == Moved::Yes {
        (from.platform.name().into(), to.platform.name().into())
    } else if device.hint_version == Moved::Yes {
        (from.major.to_string().into(), to.major.to_string().into())
    } else if device.mobile == Moved::Yes {
        ("mobile".into(), "not mobile".into())
    } else if device.machine == Moved::Yes {
        ("".into(), "another machine".into())
    } else {
        ("".into(), if device.exact == ExactDrift::Up { "a newer build" } else { "an older build" }.into())
    };
    Signal::worth(SignalKind::DeviceHints, points, before, after)
}

/// A new device and a new network in one step: people change one at a time. An inspecting gateway changes both by itself.
pub(super) fn interaction(scene: &Scene<'_>) -> Option<Signal> {
    let weights = scene.weights;
    let gateway = |kind| kind == NetworkKind::Sase;
    if gateway(scene.bound?.place.kind) || gateway(scene.input.fingerprint.place.kind) {
        return None;
    }
    let device = points(&scene.drift.device, weights);
    let network = super::place::points(&scene.drift.network, weights);
    let both = device >= weights.interaction_device && network >= weights.interaction_network;
    let points = if both { weights.interaction } else { Points::ZERO };
    if is_far(&scene.drift) {
        Signal::worth(SignalKind::InteractionFar, points, "", "new device on a new network, far away")
    } else {
        Signal::worth(SignalKind::Interaction, points, "", "new device on a new network")
    }
}

/// What honest people do not do together with a change of device.
fn is_far(drift: &Drift) -> bool {
    drift.network.country != CountryDrift::Same
        || matches!(drift.network.into, Some(NetworkKind::Hosting | NetworkKind::Tor))
        || drift.device.version == VersionDrift::Down
}

/// All the evidence that the device is another.
pub(super) fn points(drift: &DeviceDrift, weights: &Weights) -> Points {
    let parts = [family_points, system_points, version_points, language_points, hint_points];
    let own: Points = parts.iter().map(|points| points(drift, weights)).sum();
    own.plus(super::engine::points(drift, weights))
}

fn family_points(drift: &DeviceDrift, weights: &Weights) -> Points {
    if_moved(drift.family, weights.family)
}

fn system_points(drift: &DeviceDrift, weights: &Weights) -> Points {
    match drift.os {
        OsDrift::Same => Points::ZERO,
        OsDrift::DesktopToggle => weights.desktop_site,
        OsDrift::Changed => weights.os,
    }
}

fn version_points(drift: &DeviceDrift, weights: &Weights) -> Points {
    match drift.version {
        VersionDrift::Same => Points::ZERO,
        VersionDrift::Up => weights.version_up,
        VersionDrift::Jump | VersionDrift::Down => weights.version,
    }
}

fn language_points(drift: &DeviceDrift, weights: &Weights) -> Points {
    match drift.language {
        LanguageDrift::Same => Points::ZERO,
        LanguageDrift::List => weights.language_list,
        LanguageDrift::Changed => weights.language,
    }
}

fn hint_points(drift: &DeviceDrift, weights: &Weights) -> Points {
    let exact = match drift.exact {
        ExactDrift::Same => Points::ZERO,
        ExactDrift::Up => weights.hint_exact_up,
        ExactDrift::Down => weights.hint_exact,
    };
    correlated([
        if_moved(drift.platform, weights.hint_platform),
        if_moved(drift.hint_version, weights.hint_version),
        if_moved(drift.mobile, weights.hint_mobile),
        exact,
        if_moved(drift.machine, weights.hint_machine),
    ])
}

pub(super) fn if_moved(moved: Moved, points: Points) -> Points {
    match moved {
        Moved::No => Points::ZERO,
        Moved::Yes => points,
    }
}
