//! A login by what can not be the program that it claims to be, or from where people seldom sit: a phisher who stands in the
//! middle, or a stolen password.
//!
//! It is said of the first request after a login, so that rules see it, whoever makes that: the cookies of the login may be in
//! other hands by then. And it is said once: whoever has to log in again and does so is believed.

use super::{Fit, Scene, Signal, SignalKind};
use crate::connection::print::PseudoOrder;
use crate::facts::geo::NetworkKind;
use crate::facts::order::{First, HeaderOrder};
use crate::facts::user_agent::{Family, Os, UserAgent};
use crate::fingerprint::Fingerprint;
use crate::history::{Contradiction, LoginDoubt};

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

/// How a client contradicts its user agent. A gateway speaks for itself and contradicts nobody.
fn contradicted(client: &Fingerprint, pseudo: Option<PseudoOrder>, fit: Fit) -> Option<Contradiction> {
    if client.place.kind == NetworkKind::Sase {
        return None;
    }
    if fit == Fit::Never {
        return Some(Contradiction::Tls);
    }
    let engine = Engine::claimed(&client.agent)?;
    if pseudo.is_some_and(|order| !engine.sends(order)) {
        Some(Contradiction::Http2)
    } else if engine.order().contradicts(client.wire.order) {
        Some(Contradiction::Order)
    } else {
        None
    }
}

/// What is odd about the client that logs in. `pseudo` is the order of pseudo-headers on its connection, if it speaks HTTP/2.
pub fn doubt(client: &Fingerprint, pseudo: Option<PseudoOrder>, fit: Fit) -> LoginDoubt {
    LoginDoubt {
        contradiction: contradicted(client, pseudo, fit),
        from_servers: client.place.kind == NetworkKind::Hosting,
    }
}

/// A program that contradicts its own name.
pub(super) fn contradiction(scene: &Scene<'_>) -> Option<Signal> {
    let contexts = scene.input.contexts;
    let found = match scene.input.doubt.contradiction? {
        Contradiction::Tls => "TLS that no user of it has",
        Contradiction::Http2 => "HTTP/2 of another engine",
        Contradiction::Order => "headers in the order of another engine",
    };
    let claimed = contexts.known().first().map_or("", |login| login.fingerprint.agent.family.name());
    Signal::worth(SignalKind::LoginContradiction, scene.weights.login_contradiction, claimed, found)
}

/// A network of servers.
pub(super) fn hosting(scene: &Scene<'_>) -> Option<Signal> {
    if !scene.input.doubt.from_servers {
        return None;
    }
    let asn = scene.input.contexts.known().first().and_then(|login| login.fingerprint.place.asn);
    let asn = asn.map(|asn| asn.0.to_string()).unwrap_or_default();
    Signal::worth(SignalKind::LoginHosting, scene.weights.login_hosting, "", asn)
}
