//! What the schema has no name for, or the class no place.

use super::super::country;
use super::super::object::Object;
use super::super::privacy::{Shown, Veil};
use super::{API, Seen};
use crate::event::ClientView;
use crate::verdict::Text;

/// All of it.
pub(super) fn ours(ours: &mut Object<'_>, veil: &Veil, seen: &Seen<'_>) {
    let (meta, scene) = (seen.record.event.kind().meta(), &seen.record.scene);
    ours.word("action", scene.action);
    ours.word("mode", scene.mode);
    if let Some(would) = scene.would {
        ours.word("would", would);
    }
    if seen.class == API {
        // Whom it was done to: the schema has a place for who did it alone.
        ours.maybe_text("subject", seen.subject.as_deref());
    }
    ours.maybe_number("policy", scene.policy);
    ours.maybe_text("route", scene.route.as_deref());
    if let Some(risk) = scene.risk {
        ours.points("risk", risk);
    }
    ours.maybe_text("method", scene.method.filter(|_| !seen.has_request() || seen.method().is_none()));
    ours.maybe_number("status", scene.status.filter(|_| !seen.has_request()).map(u64::from));
    ours.maybe_text("ua", scene.client.ua.as_ref().map(Text::as_str));
    ours.maybe_text("ja4", scene.client.ja4.as_ref().filter(|_| !seen.has_prints()).map(Text::as_str));
    if seen.class >= 6000 && seen.class != API && seen.has_endpoint() {
        ours.object("client", |client| place(client, seen.ip.as_ref(), &scene.client));
    }
    if scene.bound != ClientView::default() {
        ours.object("bound", |bound| {
            place(bound, veil.shown(&scene.bound).as_ref(), &scene.bound);
            bound.maybe_text("ua", scene.bound.ua.as_ref().map(Text::as_str));
            bound.maybe_text("ja4", scene.bound.ja4.as_ref().map(Text::as_str));
        });
    }
    ours.texts("owasp", seen.record.vocabulary().iter().copied());
    ours.texts("appsensor", meta.appsensor.iter().copied());
    ours.texts("cwe", meta.cwe.iter().copied());
    if !scene.reasons.is_empty() {
        ours.object("reasons", |reasons| {
            for reason in &scene.reasons {
                reasons.any_points(reason.kind.as_str(), reason.points);
            }
        });
    }
    if !meta.fields.is_empty() {
        ours.object("detail", |detail| detail.fields(&seen.record.event));
    }
}

/// Where a client is, where the class has no place for it.
fn place(client: &mut Object<'_>, ip: Option<&Shown>, view: &ClientView) {
    client.maybe_text("ip", ip.map(|ip| ip.text.as_str()));
    client.maybe_text("country", country(view.country.as_ref()));
    client.maybe_number("asn", view.asn.map(u64::from));
    client.maybe_text("os", view.os.as_ref().map(Text::as_str));
}
