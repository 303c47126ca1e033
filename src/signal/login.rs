//! A login by what can not be the program that it claims to be, or from where people seldom sit: a phisher who stands in the
//! middle, or a stolen password.
//!
//! It is looked at with the first request after a login, so that rules see it, and only once: whoever has to log in again and
//! does so is believed.

use super::{Fit, Scene, Signal, SignalKind};
use crate::connection::print::PseudoOrder;
use crate::facts::geo::NetworkKind;
use crate::facts::order::{First, HeaderOrder};
use crate::facts::user_agent::{Family, Os, UserAgent};
use crate::fingerprint::Fingerprint;

/// The engines of browsers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Blink,
    Gecko,
    WebKit,
}

impl Engine {
    /// The one that a user agent claims. All browsers of iOS are WebKit.
    const fn claimed(agent: &UserAgent) -> Option<Self> {
        match (agent.family, agent.os) {
            (Family::Chrome | Family::Edge | Family::Opera | Family::Firefox | Family::Safari, Os::Ios) => {
                Some(Self::WebKit)
            }
            (Family::Chrome | Family::Edge | Family::Opera | Family::Vivaldi | Family::Yandex | Family::Samsung, _) => {
                Some(Self::Blink)
            }
            (Family::Firefox, _) => Some(Self::Gecko),
            (Family::Safari, Os::MacOs) => Some(Self::WebKit),
            _ => None,
        }
    }

    /// Whether it sends pseudo-headers in this order. WebKit has changed its own once.
    const fn sends(self, order: PseudoOrder) -> bool {
        match self {
            Self::Blink => matches!(&order.0, b"masp"),
            Self::Gecko => matches!(&order.0, b"mpas"),
            Self::WebKit => matches!(&order.0, b"mspa" | b"msap"),
        }
    }

    /// The order in which it sends headers.
    const fn order(self) -> HeaderOrder {
        match self {
            Self::Blink => HeaderOrder { site_before_dest: First::Yes, encoding_before_language: First::Yes },
            Self::Gecko | Self::WebKit => {
                HeaderOrder { site_before_dest: First::No, encoding_before_language: First::No }
            }
        }
    }
}

/// How a client contradicts its user agent, in a few words. A gateway speaks for itself and contradicts nobody.
fn contradicted(client: &Fingerprint, pseudo: Option<PseudoOrder>, fit: Fit) -> Option<&'static str> {
    if fit == Fit::Never && client.place.kind != NetworkKind::Sase {
        return Some("TLS that no user of it has");
    }
    let engine = Engine::claimed(&client.agent).filter(|_| client.place.kind != NetworkKind::Sase)?;
    if pseudo.is_some_and(|order| !engine.sends(order)) {
        Some("HTTP/2 of another engine")
    } else if engine.order().contradicts(client.wire.order) {
        Some("headers in the order of another engine")
    } else {
        None
    }
}

/// Whether anything of a login is worth a look.
pub fn is_suspicious(client: &Fingerprint, pseudo: Option<PseudoOrder>, fit: Fit) -> bool {
    client.place.kind == NetworkKind::Hosting || contradicted(client, pseudo, fit).is_some()
}

/// A program that contradicts its own name.
pub(super) fn contradiction(scene: &Scene<'_>) -> Option<Signal> {
    let input = scene.input;
    let found = contradicted(input.fingerprint, input.pseudo, input.fit).filter(|_| input.contexts.is_unjudged())?;
    let claimed = input.fingerprint.agent.family.name();
    Signal::worth(SignalKind::LoginContradiction, scene.weights.login_contradiction, claimed, found)
}

/// A network of servers.
pub(super) fn hosting(scene: &Scene<'_>) -> Option<Signal> {
    let place = scene.input.fingerprint.place;
    if !scene.input.contexts.is_unjudged() || place.kind != NetworkKind::Hosting {
        return None;
    }
    let asn = place.asn.map(|asn| asn.0.to_string()).unwrap_or_default();
    Signal::worth(SignalKind::LoginHosting, scene.weights.login_hosting, "", asn)
}
