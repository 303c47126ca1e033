//! A small validator of JSON Schema: the words that our schemas use, as draft 7 means them. It stops at one that it does not
//! know, so that no part of a schema is silently passed over.

use regex::Regex;
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

/// Words that say something to people and refuse nothing.
const TOLD: &[&str] = &["$schema", "title", "description", "default", "examples", "x-taplo"];

/// What a schema finds wrong with a value: the place of each fault, and the word that refuses it.
pub(crate) fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(schema.as_object().unwrap(), value, "", &mut found);
    found
}

/// As [`faults`], of a text in TOML without faults of syntax.
pub(crate) fn faults_of_toml(schema: &Value, text: &str) -> Vec<String> {
    let table = DeTable::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    faults(schema, &json(&DeValue::Table(table.into_inner())))
}

/// A value of TOML, as editors show it to a schema: dates are texts.
fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => {
            let number = i128::from_str_radix(number.as_str(), number.radix()).unwrap();
            u64::try_from(number).map_or_else(|_| Value::from(i64::try_from(number).unwrap()), Value::from)
        }
        DeValue::Float(number) => Value::from(number.as_str().parse::<f64>().unwrap()),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(list) => list.iter().map(|entry| json(entry.get_ref())).collect(),
        DeValue::Table(table) => {
            let entries = table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())));
            Value::Object(entries.collect())
        }
    }
}

fn look(schema: &Map<String, Value>, value: &Value, at: &str, found: &mut Vec<String>) {
    for (word, wanted) in schema {
        let holds = match word.as_str() {
            "type" => is_of_type(wanted.as_str().unwrap(), value),
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "pattern" => {
                let pattern = Regex::new(wanted.as_str().unwrap()).unwrap();
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= wanted.as_u64().unwrap()),
            "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
            "minItems" => value.as_array().is_none_or(|list| list.len() as u64 >= wanted.as_u64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|list| list.len() as u64 <= wanted.as_u64().unwrap()),
            "required" => {
                let has = |key: &Value| value.get(key.as_str().unwrap()).is_some();
                !value.is_object() || wanted.as_array().unwrap().iter().all(has)
            }
            "allOf" => {
                for one in wanted.as_array().unwrap() {
                    look(one.as_object().unwrap(), value, at, found);
                }
                true
            }
            "dependencies" => wanted.as_object().unwrap().iter().all(|(key, with)| {
                let has = |key: &str| value.get(key).is_some();
                !has(key) || with.as_array().unwrap().iter().all(|key| has(key.as_str().unwrap()))
            }),
            "anyOf" => wanted.as_array().unwrap().iter().any(|one| faults(one, value).is_empty()),
            "not" => !faults(wanted, value).is_empty(),
            "if" => {
                let branch = if faults(wanted, value).is_empty() { "then" } else { "else" };
                if let Some(branch) = schema.get(branch) {
                    look(branch.as_object().unwrap(), value, at, found);
                }
                true
            }
            "then" | "else" => schema.contains_key("if"),
            "items" => {
                for (index, entry) in value.as_array().into_iter().flatten().enumerate() {
                    look(wanted.as_object().unwrap(), entry, &format!("{at}[{index}]"), found);
                }
                true
            }
            "properties" => {
                for (key, schema) in wanted.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        look(schema.as_object().unwrap(), value, &format!("{at}.{key}"), found);
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(wanted, &Value::from(false));
                let known = schema.get("properties").and_then(Value::as_object).unwrap();
                value.as_object().is_none_or(|table| table.keys().all(|key| known.contains_key(key)))
            }
            told => {
                assert!(TOLD.contains(&told), "`{told}` is a word that this validator does not know");
                true
            }
        };
        if !holds {
            found.push(format!("{at} {word}").trim_start_matches('.').to_owned());
        }
    }
}

fn is_of_type(word: &str, value: &Value) -> bool {
    match word {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("`{other}` is no type"),
    }
}
