//! The JSON Schema of `portcullis.toml`, made from the table of its keys.

use serde_json::{Map, Value, json};

use super::reference::{Fallback, Key, Kind, Table};
use super::resolve::{SinkKeys, sink_kinds};
use crate::rules::page::ENTRIES_MAX;

/// A whole number and a unit.
const SIZE: &str = "^[0-9]+(B|KiB|MiB|GiB|kB|KB|MB|GB)$";
/// The same.
const DURATION: &str = "^[0-9]+(ms|s|m|h|d|w)$";
/// One that is not zero.
const TIME: &str = "^0*[1-9][0-9]*(ms|s|m|h|d|w)$";
/// `off`, or two counts from 1 to a million with a time between them; the second may be left out.
const RATE: &str = concat!(
    r"^\s*(off|0*(1000000|[1-9][0-9]{0,5})/0*[1-9][0-9]*(ms|s|m|h|d|w)",
    r"(\s+burst\s+0*(1000000|[1-9][0-9]{0,5}))?)\s*$"
);
/// A day, or a time with an offset. Editors see a date of TOML as a text.
const DATE: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9:.]+([Zz]|[+-][0-9:]+))?$";

/// The schema of a configuration (JSON Schema, draft 7: what editors know best).
///
/// What it refuses `check` refuses too. `check` knows more: the limits of sizes, and what settings mean together.
pub fn schema() -> Value {
    let mut schema = object("");
    add(&mut schema, "$schema", json!("http://json-schema.org/draft-07/schema#"));
    add(&mut schema, "title", json!("Configuration of Portcullis"));
    Value::Object(schema)
}

fn add(schema: &mut Map<String, Value>, word: &str, value: Value) {
    schema.insert(word.to_owned(), value);
}

/// The table of a path, with everything in it.
fn object(path: &str) -> Map<String, Value> {
    let mut schema = Map::new();
    add(&mut schema, "type", json!("object"));
    let Some(table) = Table::find(path) else { return schema };
    let is_required = |key: &&Key| matches!(key.fallback, Fallback::Required);
    let required: Vec<&str> = table.keys.iter().filter(is_required).map(|key| key.name).collect();
    let properties = table.keys.iter().map(|key| (key.name.to_owned(), property(table, key))).collect();
    add(&mut schema, "description", json!(table.about));
    add(&mut schema, "additionalProperties", json!(false));
    add(&mut schema, "properties", Value::Object(properties));
    if !required.is_empty() {
        add(&mut schema, "required", json!(required));
    }
    if path == "events.sink" {
        add(&mut schema, "allOf", json!(sink_kinds().map(|kind| kind_of_sink(&kind)).collect::<Vec<_>>()));
        add(&mut schema, "dependencies", json!({ "cert": ["key"], "key": ["cert"] }));
    }
    schema
}

/// What a sink of some kind must have and can not have.
fn kind_of_sink(kind: &SinkKeys) -> Value {
    let each = |keys: &[&str]| keys.iter().map(|key| json!({ "required": [key] })).collect::<Vec<_>>();
    let mut then = map(json!({
        "required": kind.required,
        "not": { "anyOf": each(&kind.foreign) },
        "properties": { "format": { "enum": kind.formats } },
    }));
    if !kind.one_of.is_empty() {
        add(&mut then, "anyOf", json!(each(kind.one_of)));
    }
    if kind.is_cluster {
        add(&mut then, "allOf", cluster());
    }
    if kind.word == "kafka" {
        // What is shown to it has a name.
        add(&mut then, "dependencies", json!({ "auth_env": ["user"], "auth_file": ["user"], "mechanism": ["user"] }));
    }
    json!({ "if": { "required": ["type"], "properties": { "type": { "const": kind.word } } }, "then": then })
}

/// What servers of one cluster have in common: TLS, unless it is said that they are inside, and a password with each user.
fn cluster() -> Value {
    let tls = json!({ "type": "string", "pattern": "^tls://" });
    let all = json!({ "anyOf": [tls, { "type": "array", "items": tls }] });
    let one_of = |keys: [&str; 2]| keys.map(|key| json!({ "required": [key] }));
    json!([
        { "anyOf": [{ "required": ["allow_private"] }, { "properties": { "servers": all } }] },
        { "if": { "required": ["user"] }, "then": { "anyOf": one_of(["auth_env", "auth_file"]) } },
    ])
}

/// What a key may be, and what editors tell of it.
fn property(table: &Table, key: &Key) -> Value {
    let path = table.path_of(key);
    let mut schema = value(key.kind, &path);
    let own = sentence(key.meaning);
    let about = match (inner_of(key, &path), key.fallback) {
        (Some(inner), _) => inner.about.to_owned(),
        (None, Fallback::Required) => format!("{own} Required."),
        (None, Fallback::Value(value)) => format!("{own} Default: `{value}`."),
        (None, Fallback::Told(told)) => format!("{own} Default: {told}."),
        (None, Fallback::Absent) => own,
    };
    add(&mut schema, "description", json!(about));
    if let Fallback::Value(value) = key.fallback {
        add(&mut schema, "default", typed(key.kind, value));
    }
    Value::Object(schema)
}

/// The table that a key is, or that each of its entries is.
fn inner_of(key: &Key, path: &str) -> Option<&'static Table> {
    match key.kind {
        Kind::Table | Kind::Tables | Kind::TableOrOff => Table::find(path),
        _ => None,
    }
}

/// What stands in the manual, as a sentence.
fn sentence(meaning: &str) -> String {
    let mut rest = meaning.chars();
    let first = rest.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(rest).chain(['.']).collect()
}

/// A default as JSON.
fn typed(kind: Kind, text: &str) -> Value {
    let is_text = matches!(
        kind,
        Kind::Size(..) | Kind::Duration | Kind::Time | Kind::Rate | Kind::Word(_) | Kind::Text(_) | Kind::Path
    );
    let parsed = if is_text { None } else { serde_json::from_str(text).ok() };
    parsed.unwrap_or_else(|| json!(text))
}

/// What a value of some kind may be.
fn value(kind: Kind, path: &str) -> Map<String, Value> {
    let pattern = |pattern: &str, example: &str| json!({ "type": "string", "pattern": pattern, "examples": [example] });
    let schema = match kind {
        Kind::Version => json!({ "const": 1 }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Whole(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Points => json!({ "type": "integer", "minimum": 1, "maximum": 1_000_000 }),
        Kind::Factor => json!({ "type": "number", "minimum": 0.01, "maximum": 1 }),
        Kind::Size(..) => pattern(SIZE, "64KiB"),
        Kind::Duration => pattern(DURATION, "30m"),
        Kind::Time => pattern(TIME, "30m"),
        Kind::Rate => pattern(RATE, "10/1m burst 3"),
        Kind::Date => pattern(DATE, "2027-01-01"),
        Kind::Text(form) => pattern(form.pattern, form.example),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Path => json!({ "type": "string", "minLength": 1 }),
        Kind::List(entry) => list(value(*entry, path)),
        Kind::OneOrList(one) => json!({ "anyOf": [value(*one, path), list(value(*one, path))] }),
        Kind::OneOrMore(one) => {
            let mut several = list(value(*one, path));
            if let Some(several) = several.as_object_mut() {
                add(several, "minItems", json!(1));
            }
            json!({ "anyOf": [value(*one, path), several] })
        }
        Kind::Table => Value::Object(object(path)),
        Kind::Tables => list(object(path)),
        Kind::TableOrOff => json!({ "anyOf": [object(path), { "const": "off" }] }),
        Kind::PathsOrTables => list(map(json!({ "anyOf": [value(Kind::Path, path), object(path)] }))),
        Kind::NamesOrTables(name) => list(map(json!({ "anyOf": [value(Kind::Text(name), path), object(path)] }))),
        // Nothing is right, and no editor is to offer it.
    };
    map(schema)
}

/// The words of a schema.
fn map(schema: Value) -> Map<String, Value> {
    match schema {
        Value::Object(words) => words,
        _ => Map::new(),
    }
}

/// A list of such entries.
fn list(entry: Map<String, Value>) -> Value {
    let mut list = Map::new();
    add(&mut list, "type", json!("array"));
    add(&mut list, "maxItems", json!(ENTRIES_MAX));
    add(&mut list, "items", Value::Object(entry));
    Value::Object(list)
}
