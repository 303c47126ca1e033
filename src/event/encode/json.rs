//! One event as one line of JSON.
//!
//! The keys have one fixed order, `ts,event,action,ip,...`, so that a reader with no more than a regular expression can
//! anchor at the start of the line; absent ones are left out. What a client wrote comes last: `before`, `after`,
//! `subject`, then the event's own fields of that kind.

use super::country;
use super::object::{Letters, Object};
use super::privacy::Veil;
use crate::event::{ClientView, Record, Value};
use crate::verdict::{Reason, Text};

/// The keys that every kind of event can have, in the order in which they come. The event's own fields stand between
/// `bound_ja4` and `owasp`, and those that a client wrote at the end.
pub const SCENE_KEYS: &[&str] = &[
    "ts",
    "event",
    "action",
    "ip",
    "severity",
    "v",
    "seq",
    "mode",
    "would",
    "rule",
    "policy",
    "node",
    "session",
    "ref",
    "method",
    "route",
    "status",
    "risk",
    "trace",
    "asn",
    "country",
    "ua",
    "os",
    "ja4",
    "bound_ip",
    "bound_asn",
    "bound_country",
    "bound_ua",
    "bound_os",
    "bound_ja4",
    "owasp",
    "appsensor",
    "attack",
    "cwe",
    "tags",
    "reasons",
    "before",
    "after",
    "subject",
];

pub(super) fn write(veil: &Veil, record: &Record, letters: Letters, out: &mut Vec<u8>) {
    let mut line = Object::begin(out, letters);
    head(&mut line, veil, record);
    request(&mut line, record);
    let scene = &record.scene;
    client(&mut line, veil, &scene.client, &["asn", "country", "ua", "os", "ja4"]);
    if let Some(ip) = scene.bound.ip {
        address(&mut line, "bound_ip", veil, ip);
    } else {
        line.maybe_text("bound_ip", scene.bound.alias.as_ref().map(Text::as_str));
    }
    let bound = ["bound_asn", "bound_country", "bound_ua", "bound_os", "bound_ja4"];
    client(&mut line, veil, &scene.bound, &bound);
    record.event.fields(&mut |key, value| own(&mut line, key, value));
    taxonomy(&mut line, record);
    line.words("tags", scene.tags.iter().map(Text::as_str));
    reasons(&mut line, &scene.reasons);
    changes(&mut line, veil, "before", &scene.reasons, |reason| reason.before.as_ref());
    changes(&mut line, veil, "after", &scene.reasons, |reason| reason.after.as_ref());
    if let Some(subject) = &scene.subject {
        line.text("subject", veil.subject(subject).as_deref().unwrap_or(subject));
    }
    record.event.fields(&mut |key, value| {
        if let Value::Client(text) = value {
            line.text(key, text);
        }
    });
    line.end();
}

/// What the readers that only match text look for.
fn head(line: &mut Object<'_>, veil: &Veil, record: &Record) {
    let scene = &record.scene;
    line.word("ts", record.ts);
    line.word("event", record.event.kind());
    line.word("action", scene.action);
    if let Some(ip) = scene.client.ip {
        address(line, "ip", veil, ip);
    } else {
        line.maybe_text("ip", scene.client.alias.as_ref().map(Text::as_str));
    }
    line.word("severity", record.severity());
    line.number("v", u64::from(record.v));
    line.number("seq", record.seq);
    line.word("mode", scene.mode);
    if let Some(would) = scene.would {
        line.word("would", would);
    }
}

fn request(line: &mut Object<'_>, record: &Record) {
    let scene = &record.scene;
    line.maybe_text("rule", scene.rule.as_ref().map(Text::as_str));
    line.maybe_number("policy", scene.policy);
    line.maybe_text("node", record.node.as_ref().map(Text::as_str));
    if let Some(session) = scene.session {
        line.word("session", session);
    }
    if let Some(reference) = scene.reference {
        line.word("ref", reference);
    }
    line.maybe_text("method", scene.method);
    line.maybe_text("route", scene.route.as_deref());
    line.maybe_number("status", scene.status.map(u64::from));
    if let Some(risk) = scene.risk {
        line.points("risk", risk);
    }
    if let Some(trace) = scene.trace {
        line.word("trace", trace);
    }
}

/// A client, less its address.
fn client(line: &mut Object<'_>, veil: &Veil, client: &ClientView, keys: &[&'static str; 5]) {
    let [asn, place, ua, os, ja4] = *keys;
    line.maybe_number(asn, client.asn.map(u64::from));
    line.maybe_text(place, country(client.country.as_ref()));
    for (key, text) in [(ua, &client.ua), (os, &client.os), (ja4, &client.ja4)] {
        if let Some(text) = text {
            line.text(key, veil.text(text.as_str()).as_deref().unwrap_or(text.as_str()));
        }
    }
}

fn address(line: &mut Object<'_>, key: &'static str, veil: &Veil, ip: std::net::IpAddr) {
    line.key(key);
    line.out.push(b'"');
    veil.ip(line.out, ip);
    line.out.push(b'"');
}

/// A field of the event's own that we wrote.
fn own(line: &mut Object<'_>, key: &'static str, value: Value<'_>) {
    match value {
        Value::Number(number) => line.number(key, number),
        Value::Points(points) => line.points(key, points),
        Value::Word(word) => line.text(key, word),
        Value::Time(time) => line.word(key, time),
        Value::Session(session) => line.word(key, session),
        Value::Client(_) => {}
    }
}

/// What other vocabularies call it: words in a row, so that a reader may search for one.
fn taxonomy(line: &mut Object<'_>, record: &Record) {
    let meta = record.event.kind().meta();
    line.words("owasp", record.vocabulary().iter().copied());
    line.words("appsensor", meta.appsensor.iter().copied());
    line.words("attack", meta.attack.iter().copied());
    line.words("cwe", meta.cwe.iter().copied());
}

fn reasons(line: &mut Object<'_>, reasons: &[Reason]) {
    if reasons.is_empty() {
        return;
    }
    line.object("reasons", |line| {
        for reason in reasons {
            line.any_points(reason.kind.as_str(), reason.points);
        }
    });
}

fn changes(
    line: &mut Object<'_>,
    veil: &Veil,
    key: &'static str,
    reasons: &[Reason],
    side: impl Fn(&Reason) -> Option<&Text>,
) {
    if reasons.iter().all(|reason| side(reason).is_none()) {
        return;
    }
    line.object(key, |line| {
        for reason in reasons {
            if let Some(text) = side(reason) {
                let text = text.as_str();
                line.any_text(reason.kind.as_str(), veil.text(text).as_deref().unwrap_or(text));
            }
        }
    });
}
