//! The network is another: operator, country, what it is used for. Never enough to act on by itself.

use std::time::Duration;

use super::drift::if_moved;
use super::weights::Weights;
use super::{Scene, Signal, SignalKind};
use crate::facts::geo::{NetworkKind, Place, Position};
use crate::fingerprint::Fingerprint;
use crate::fingerprint::drift::{CountryDrift, Moved, NetworkDrift};
use crate::history::Points;

/// Another fixed line of the same operator: where one line ends, its user is not at the other.
pub(super) fn line(scene: &Scene<'_>) -> Option<Signal> {
    let points = if_moved(scene.drift.network.line, scene.weights.line);
    Signal::worth(SignalKind::NetworkLine, points, "", "another line of the same operator")
}

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

/// Places are circles, and what a database says of their radius is a guess: this much of a way is taken off beside both of them,
/// twice.
const DOUBT_KM: f64 = 100.0;
/// A place that is known no better than this is not known.
const RADIUS_MAX_KM: u16 = 500;
/// Faster than the fastest way between two cities.
const SPEED_MAX_KM_PER_HOUR: f64 = 1000.0;
/// What is known of the time at least: a context is written down once a minute.
const TIME_MIN: Duration = Duration::from_secs(60);

/// Faster than anybody travels since the nearest context was used last. Only between lines that do not move, in two countries:
/// telephones come out of the network wherever their operator likes, and so do VPNs.
pub(super) fn travel(scene: &Scene<'_>) -> Option<Signal> {
    let points = travel_points(scene);
    if points == Points::ZERO {
        return None;
    }
    let (from, to) = (scene.bound?.place, scene.input.fingerprint.place);
    let way = from.position?.kilometres_to(to.position?);
    let time = scene.input.now.since(scene.last_seen?);
    let before = from.country.map(|country| country.to_string()).unwrap_or_default();
    let after = Travel { km: whole(way), minutes: u32::try_from(time.as_secs().div_ceil(60)).unwrap_or(u32::MAX) };
    Signal::worth(SignalKind::NetworkTravel, points, before, after.to_string())
}

/// A way, to the kilometre: none on this planet is longer than 20,038 km.
fn whole(way: f64) -> u32 {
    way.round().clamp(0.0, 65_535.0).to_string().parse().unwrap_or(u32::MAX)
}

/// A way that is too long for its time, as the signal tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Travel {
    pub(crate) km: u32,
    pub(crate) minutes: u32,
}

impl std::fmt::Display for Travel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} km in {} min", self.km, self.minutes)
    }
}

impl Travel {
    /// Reads what is told.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (km, minutes) = text.strip_suffix(" min")?.split_once(" km in ")?;
        Some(Self { km: km.parse().ok()?, minutes: minutes.parse().ok()? })
    }
}

fn travel_points(scene: &Scene<'_>) -> Points {
    let is_impossible = || {
        let (from, to) = (scene.bound?.place, scene.input.fingerprint.place);
        let (there, here) = (fixed(&from)?, fixed(&to)?);
        let time = scene.input.now.since(scene.last_seen?).max(TIME_MIN);
        let radii = f64::from(there.radius_km) + f64::from(here.radius_km);
        let way = there.kilometres_to(here) - 2.0 * radii - DOUBT_KM;
        let moved = scene.drift.network.country == CountryDrift::Changed;
        (moved && way / (time.as_secs_f64() / 3600.0) > SPEED_MAX_KM_PER_HOUR).then_some(())
    };
    if is_impossible().is_some() { scene.weights.travel } else { Points::ZERO }
}

/// Where a line ends that does not move.
fn fixed(place: &Place) -> Option<Position> {
    let is_fixed = matches!(place.kind, NetworkKind::Residential | NetworkKind::Corporate | NetworkKind::Hosting);
    place.position.filter(|position| is_fixed && position.radius_km < RADIUS_MAX_KM)
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

/// Somebody stands in between who was not there before.
pub(super) fn relay(scene: &Scene<'_>) -> Option<Signal> {
    let points = if_moved(scene.drift.relayed, scene.weights.relay);
    let millis = |fingerprint: &Fingerprint| fingerprint.rtt_gap.map(|gap| format!("{} ms", gap.as_millis()));
    Signal::worth(SignalKind::NetworkRelay, points, millis(scene.bound?)?, millis(scene.input.fingerprint)?)
}

/// All the evidence that the network is another.
pub(super) fn points(drift: &NetworkDrift, weights: &Weights) -> Points {
    let asn = if_moved(drift.asn, weights.asn).plus(if_moved(drift.line, weights.line));
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
