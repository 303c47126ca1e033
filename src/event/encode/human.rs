//! One event as one line for people:
//!
//! ```text
//! 2026-11-21T10:46:12.045Z CRITICAL session.tag_fork quarantine  203.0.113.9 DE AS3320 Firefox/Linux  POST /login 302
//!     risk 57 (id.fork 55, network.asn 2: "3320" -> "7922")  count=2 context=device  rule=base/fork  ref=..  subject="alice"
//! ```
//! (on one line). What a client may have written is in quotes.

use super::escape::{self, Spelling};
use super::plain::put_points;
use super::privacy::Veil;
use super::{Colour, country, put};
use crate::event::{ClientView, Record, Scene, Severity, Value};
use crate::verdict::{Action, Text};

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";

pub(super) fn write(veil: &Veil, colour: Colour, record: &Record, out: &mut Vec<u8>) {
    let scene = &record.scene;
    let severity = record.severity();
    painted(out, colour, DIM, record.ts);
    out.push(b' ');
    painted(out, colour, paint(severity), format_args!("{:8}", capitals(severity)));
    out.push(b' ');
    painted(out, colour, BOLD, format_args!("{:24}", record.event.kind()));
    decided(out, colour, scene);
    client(out, veil, &scene.client);
    request(out, scene);
    if scene.bound != ClientView::default() {
        out.extend_from_slice(b"  bound to");
        client(out, veil, &scene.bound);
    }
    risk(out, veil, scene);
    own(out, record);
    names(out, scene);
    if let Some(subject) = &scene.subject {
        out.extend_from_slice(b" subject=");
        escape::quoted(out, veil.subject(subject).as_deref().unwrap_or(subject), Spelling::Human);
    }
    record.event.fields(&mut |key, value| {
        if let Value::Client(text) = value {
            put(out, format_args!(" {key}="));
            escape::quoted(out, text, Spelling::Human);
        }
    });
    while out.last() == Some(&b' ') {
        out.pop();
    }
}

fn decided(out: &mut Vec<u8>, colour: Colour, scene: &Scene) {
    if scene.action != Action::Allow {
        out.push(b' ');
        painted(out, colour, BOLD, scene.action);
    }
    if let Some(would) = scene.would {
        put(out, format_args!(" would {would}"));
    }
}

fn client(out: &mut Vec<u8>, veil: &Veil, client: &ClientView) {
    if *client != ClientView::default() {
        out.push(b' ');
    }
    if let Some(ip) = client.ip {
        out.push(b' ');
        veil.ip(out, ip);
    } else if let Some(alias) = &client.alias {
        out.push(b' ');
        escape::bare(out, alias.as_str(), Spelling::Human);
    }
    if let Some(country) = country(client.country.as_ref()) {
        put(out, format_args!(" {country}"));
    }
    if let Some(asn) = client.asn {
        put(out, format_args!(" AS{asn}"));
    }
    let mut before = b' ';
    for text in [&client.ua, &client.os].into_iter().flatten() {
        out.push(before);
        escape::bare(out, text.as_str(), Spelling::Human);
        before = b'/';
    }
}

fn request(out: &mut Vec<u8>, scene: &Scene) {
    if scene.method.is_none() && scene.route.is_none() && scene.status.is_none() {
        return;
    }
    out.push(b' ');
    for text in [scene.method, scene.route.as_deref()].into_iter().flatten() {
        out.push(b' ');
        escape::bare(out, text, Spelling::Human);
    }
    if let Some(status) = scene.status {
        put(out, format_args!(" {status}"));
    }
}

fn risk(out: &mut Vec<u8>, veil: &Veil, scene: &Scene) {
    let Some(risk) = scene.risk.filter(|risk| *risk != 0.0 || !scene.reasons.is_empty()) else { return };
    out.extend_from_slice(b"  risk ");
    put_points(out, risk);
    let shown = |out: &mut Vec<u8>, text: &Text| {
        let text = text.as_str();
        escape::quoted(out, veil.text(text).as_deref().unwrap_or(text), Spelling::Human);
    };
    for (at, reason) in scene.reasons.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b" (" } else { b", " });
        escape::bare(out, reason.kind.as_str(), Spelling::Human);
        out.push(b' ');
        put_points(out, reason.points);
        if let (Some(before), Some(after)) = (&reason.before, &reason.after) {
            out.extend_from_slice(b": ");
            shown(out, before);
            out.extend_from_slice(b" -> ");
            shown(out, after);
        }
    }
    if !scene.reasons.is_empty() {
        out.push(b')');
    }
}

/// The event's own fields, less those a client wrote.
fn own(out: &mut Vec<u8>, record: &Record) {
    let mut space = " ";
    record.event.fields(&mut |key, value| {
        if matches!(value, Value::Client(_)) {
            return;
        }
        put(out, format_args!("{space} {key}="));
        space = "";
        match value {
            Value::Number(number) => put(out, number),
            Value::Points(points) => put_points(out, points),
            Value::Word(word) => escape::bare(out, word, Spelling::Human),
            Value::Time(time) => put(out, time),
            Value::Session(session) => put(out, session),
            Value::Client(_) => {}
        }
    });
}

/// What to search for next.
fn names(out: &mut Vec<u8>, scene: &Scene) {
    if scene.rule.is_some() || scene.reference.is_some() || scene.subject.is_some() {
        out.push(b' ');
    }
    if let Some(rule) = &scene.rule {
        out.extend_from_slice(b" rule=");
        escape::bare(out, rule.as_str(), Spelling::Human);
    }
    if let Some(reference) = scene.reference {
        put(out, format_args!(" ref={reference}"));
    }
}

fn painted(out: &mut Vec<u8>, colour: Colour, paint: &str, text: impl std::fmt::Display) {
    match colour {
        Colour::Never => put(out, text),
        Colour::Always => put(out, format_args!("{paint}{text}{RESET}")),
    }
}

const fn paint(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "\x1b[32m",
        Severity::Notice => "\x1b[36m",
        Severity::Warn => "\x1b[33m",
        Severity::Critical => "\x1b[1;31m",
    }
}

const fn capitals(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "INFO",
        Severity::Notice => "NOTICE",
        Severity::Warn => "WARN",
        Severity::Critical => "CRITICAL",
    }
}
