//! The JSON Schema of rules files and scenarios, made from the scheme and the words that the readers know.

use serde_json::{Value, json};

use super::file::{ACTIONS, MODES, OVER_MAX, PER};
use super::pack::Pack;
use super::scheme::{Field, Type};
use crate::verdict::{Action, EventSync, Sighting};

/// The schema of a rules file (JSON Schema, draft 7: what editors know best).
pub fn rules() -> Value {
    let set = json!({
        "oneOf": [
            { "type": "array", "items": { "type": ["string", "integer"] } },
            {
                "type": "object",
                "additionalProperties": false,
                "required": ["file"],
                "properties": { "file": { "type": "string" } },
            },
        ],
    });
    let types = [Type::Bool, Type::Int, Type::Duration, Type::Text, Type::Ip].map(Type::word);
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Rules of Portcullis",
        "type": "object",
        "additionalProperties": false,
        "required": ["version", "name"],
        "properties": {
            "version": { "const": 1 },
            "name": name(),
            "zone": { "type": "string", "description": "The time zone of `time.*`, such as Europe/Berlin." },
            "mode": mode(),
            "set": { "type": "object", "additionalProperties": set },
            "let": { "type": "object", "additionalProperties": condition("A condition with a name.") },
            "facts": { "type": "object", "additionalProperties": { "enum": types } },
            "rule": { "type": "array", "items": rule() },
            "tune": { "type": "array", "items": tune() },
        },
    })
}

fn rule() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["id", "when"],
        "anyOf": [{ "required": ["then"] }, { "required": ["score"] }],
        "properties": {
            "id": name(),
            "about": { "type": "string" },
            "when": condition("When the rule matches."),
            "score": score(),
            "then": then(),
            "count": {
                "type": "object",
                "additionalProperties": false,
                "required": ["over", "within", "per"],
                "properties": {
                    "over": { "type": "integer", "minimum": 0, "maximum": OVER_MAX },
                    "within": duration(),
                    "per": per(),
                },
            },
            "mode": mode(),
            "unknown": { "enum": ["silent", "fire"], "description": "What a match means when data is missing." },
            "tags": {
                "type": "array",
                "items": { "type": "string", "pattern": "^[A-Za-z0-9_.:/-]{1,64}$" },
                "maxItems": crate::verdict::TAGS_MAX,
            },
            "per": per(),
            "within": duration(),
            "sync": {
                "enum": EventSync::ALL.map(EventSync::as_str),
                "description": "Whether an answer waits until the event is on disk: with terminate and deny.",
            },
            "event": {
                "enum": Sighting::ALL.map(Sighting::as_str),
                "description": "What a match is told as, besides what is done about it.",
            },
            "since": { "description": "When it was put into observe: 2026-11-30" },
        },
    })
}

fn tune() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["rule", "why"],
        "properties": {
            "rule": { "type": "string" },
            "unless": condition("When the rule is not to match."),
            "score": score(),
            "then": then(),
            "mode": mode(),
            "expires": { "description": "When the tune ends: 2027-03-31" },
            "why": { "type": "string" },
        },
    })
}

fn condition(what: &str) -> Value {
    let about = |field: Field| format!("- `{}`: {}", field.name(&[]), field.describe().doc);
    let fields: Vec<String> = Field::all().map(about).collect();
    let text = format!("{what} `portcullis fields` lists all fields.\n\n{}", fields.join("\n"));
    json!({ "type": "string", "minLength": 1, "description": text })
}

fn score() -> Value {
    let signals = Field::all().filter(|field| matches!(field, Field::Signal(_))).map(|field| field.name(&[]));
    json!({
        "description": "Points: they count as long as the rule matches. The name of a signal gives what its detector gives.",
        "oneOf": [{ "type": "integer", "minimum": 1, "maximum": 500 }, { "enum": signals.collect::<Vec<_>>() }],
    })
}

fn then() -> Value {
    json!({ "enum": ACTIONS.map(|(word, _)| word), "description": "What to do, mildest first." })
}

fn mode() -> Value {
    json!({ "enum": MODES.map(|(word, _)| word) })
}

fn duration() -> Value {
    json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d|w))+$" })
}

fn per() -> Value {
    let names: Vec<String> = PER.iter().map(|field| field.name(&[])).collect();
    json!({ "anyOf": [{ "enum": names }, { "type": "string", "pattern": "^facts\\." }] })
}

fn name() -> Value {
    json!({ "type": "string", "pattern": "^[a-z0-9_-]{1,64}$" })
}

/// A made-up client.
fn client() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["ip"],
        "properties": {
            "ip": text, "asn": { "type": "integer", "minimum": 1 }, "country": { "type": "string", "pattern": "^[A-Za-z]{2}$" },
            "lat": { "type": "number", "minimum": -90, "maximum": 90 },
            "lon": { "type": "number", "minimum": -180, "maximum": 180 },
            "radius_km": { "type": "integer", "minimum": 1, "maximum": 20000 },
            "city": text, "network": text, "ua": text, "languages": text, "headers": { "type": "object" },
            "tls": text, "ja4": { "type": "string", "pattern": "^[0-9A-Za-z]{10}_[0-9a-f]{12}_[0-9a-f]{12}$" },
            "tls_soft": { "type": "integer", "minimum": 0, "maximum": 15 },
            "http2": text, "syn": text, "rtt_gap_ms": { "type": "integer", "minimum": 0, "maximum": 10000 },
            "engine": { "enum": ["chromium", "firefox"] },
        },
    })
}

/// The schema of a file of scenarios.
pub fn scenarios() -> Value {
    let text = json!({ "type": "string" });
    let texts = json!({ "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
    let table = json!({ "type": "object" });
    let status = json!({ "type": "integer", "minimum": 100, "maximum": 599 });
    let duration = duration();
    let action = json!({ "enum": Action::ALL.map(Action::as_str) });
    let step = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["client", "send"],
        "properties": {
            "after": duration, "client": text, "session_of": text, "send": { "type": "string", "pattern": "^[A-Z]+ /" },
            "headers": table, "body": text, "facts": table, "times": { "type": "integer", "minimum": 1 },
            "app": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "status": status, "login": text, "logout": { "type": "boolean" }, "set_cookie": texts, "headers": table,
                },
            },
            "expect": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "action": action, "would": action, "status": status, "subject": text, "rules": texts, "not_rules": texts,
                    "events": { "type": "array", "items": text }, "not_events": { "type": "array", "items": text },
                },
            },
        },
    });
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Scenarios of Portcullis",
        "type": "object",
        "additionalProperties": false,
        "required": ["version", "scenario"],
        "properties": {
            "version": { "const": 1 },
            "config": text,
            "rules": { "type": "array", "items": text },
            "packs": { "type": "array", "items": { "enum": Pack::ALL.map(Pack::as_str) } },
            "login": { "type": "array", "items": table },
            "logout": { "type": "array", "items": table },
            "route": { "type": "array", "items": table },
            "client": { "type": "object", "additionalProperties": client() },
            "scenario": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["name", "step"],
                    "properties": { "name": text, "start": {}, "step": { "type": "array", "items": step, "minItems": 1 } },
                },
            },
        },
    })
}
