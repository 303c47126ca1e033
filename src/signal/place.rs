//! The network is another: operator, country, what it is used for. Never enough to act on by itself.

use super::drift::if_moved;
use super::weights::Weights;
use super::{Scene, Signal, SignalKind};
use crate::facts::geo::NetworkKind;
use crate::fingerprint::drift::{CountryDrift, Moved, NetworkDrift};
use crate::history::Points;

/// Another autonomous system.
pub(super) fn asn(scene: &Scene<'_>) -> Option<Signal> {
    if scene.drift.network.asn == Moved::No {
        return None;
    }
    let (before, after) = (scene.bound?.place.asn?.0, scene.input.fingerprint.place.asn?.0);
    Signal::worth(SignalKind::NetworkAsn, scene.weights.asn, before.to_string(), after.to_string())
}

/// Another country.
pub(super) fn country(scene: &Scene<'_>) -> Option<Signal> {
    let points = country_points(&scene.drift.network, scene.weights);
    if points == Points::ZERO {
        return None;
    }
    let (before, after) = (scene.bound?.place.country?, scene.input.fingerprint.place.country?);
    Signal::worth(SignalKind::NetworkCountry, points, before.to_string(), after.to_string())
}

/// Into a network of servers, a VPN or Tor.
pub(super) fn kind(scene: &Scene<'_>) -> Option<Signal> {
    let kind = match scene.drift.network.into? {
        NetworkKind::Hosting => SignalKind::NetworkHosting,
        NetworkKind::Tor => SignalKind::NetworkTor,
        _ => SignalKind::NetworkVpn,
    };
    let points = kind_points(&scene.drift.network, scene.weights);
    Signal::worth(kind, points, scene.bound?.place.kind.name(), scene.input.fingerprint.place.kind.name())
}

/// All the evidence that the network is another.
pub(super) fn points(drift: &NetworkDrift, weights: &Weights) -> Points {
    let asn = if_moved(drift.asn, weights.asn);
    asn.plus(country_points(drift, weights)).plus(kind_points(drift, weights))
}

fn country_points(drift: &NetworkDrift, weights: &Weights) -> Points {
    match drift.country {
        CountryDrift::Same => Points::ZERO,
        CountryDrift::Hidden => weights.country.percent(50),
        CountryDrift::Changed => weights.country,
    }
}

fn kind_points(drift: &NetworkDrift, weights: &Weights) -> Points {
    match drift.into {
        None => Points::ZERO,
        Some(NetworkKind::Hosting) => weights.hosting,
        Some(NetworkKind::Tor) => weights.tor,
        Some(_) => weights.vpn,
    }
}
