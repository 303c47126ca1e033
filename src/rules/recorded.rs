//! Requests kept as facts: for coverage, explanations, and for playing other rules over what happened.
//!
//! One line of JSON each, so that a file of them can be cut anywhere between two lines:
//!
//! `{"v":1,"at":<ms>,"asked":<ms>,"phase":"risk","action":"allow","before":<hundredths>,"facts":{"client.ip":"203.0.113.7",...}}`
//!
//! Durations are milliseconds. What was unknown is left out, and so is a signal that was not raised. There is no cookie, no
//! credential, no query and no form value among the fields, and a part of a path that looks like a token is masked. What the
//! operator wants hidden stands there as `{"pseudonym":"1-0123456789abcdef"}`, of an address as
//! `{"network":"203.0.113.0/24"}`, and a text of which parts are hidden as `{"masked":"/reset/1-0123456789abcdef","clear":7}`.

use std::collections::BTreeMap;

use super::scheme::{Field, HostFact, Phase, Type};
use super::set::RuleSet;
use super::value::{Facts, Masked, OwnedValue, Pseudonym, Value};
use crate::clock::Timestamp;
use crate::history::Points;
use crate::signal::{Signal, Signals};
use crate::verdict::Action;

/// The form of lines.
const VERSION: u64 = 1;

/// Keys of values that are hidden.
const PSEUDONYM: &str = "pseudonym";
const NETWORK: &str = "network";
const MASKED: &str = "masked";
const CLEAR: &str = "clear";

/// What was known of a request, kept: every field that was known, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// When it came.
    pub at: Timestamp,
    /// What was known.
    pub fields: BTreeMap<String, OwnedValue>,
    host: Vec<HostFact>,
}

impl Recorded {
    /// Everything that is known at a phase.
    pub fn of<F: Facts + ?Sized>(facts: &F, phase: Phase, set: &RuleSet) -> Self {
        let host = (0..set.host().len()).filter_map(|at| u16::try_from(at).ok()).map(Field::Host);
        let fields = Field::all().chain(host).filter(|field| field.phase() <= phase && !field.is_clock());
        let known = fields.map(|field| (field, facts.value(field)));
        // A signal that was not raised is 0, and so are most of them.
        let known = known.filter(|(field, value)| {
            value.is_known() && !(matches!(field, Field::Signal(_)) && *value == Value::Int(0))
        });
        let fields = known.map(|(field, value)| (field.name(set.host()), OwnedValue::from(value))).collect();
        Self { at: facts.now(), fields, host: set.host().to_vec() }
    }

    /// A record read back.
    pub const fn new(at: Timestamp, fields: BTreeMap<String, OwnedValue>, host: Vec<HostFact>) -> Self {
        Self { at, fields, host }
    }
}

impl Facts for Recorded {
    fn value(&self, field: Field) -> Value<'_> {
        match self.fields.get(&field.name(&self.host)) {
            Some(value) => value.as_value(),
            None if matches!(field, Field::Signal(_)) => Value::Int(0),
            None => Value::Unknown,
        }
    }

    fn now(&self) -> Timestamp {
        self.at
    }
}

impl Recorded {
    /// Whether anything of it is hidden.
    pub fn hides_anything(&self) -> bool {
        self.fields.values().any(|value| value.as_value().is_hidden())
    }

    /// The signals that were raised, with their points rounded up to whole ones.
    pub fn signals(&self) -> Signals {
        let raised = Field::all().filter_map(|field| match (field, self.value(field)) {
            (Field::Signal(kind), Value::Int(points @ 1..)) => {
                Signal::worth(kind, Points::whole(u16::try_from(points).unwrap_or(u16::MAX)), "", "")
            }
            _ => None,
        });
        raised.collect()
    }
}

/// A line of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Up to which phase rules were run.
    pub phase: Phase,
    /// What was done.
    pub action: Action,
    /// When the request came; its answer is later.
    pub asked: Timestamp,
    /// What was left of earlier points.
    pub before: Points,
    /// What was known.
    pub facts: Recorded,
}

/// A line of a recording can not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no line of a recording: {0}")]
pub struct LineError(String);

impl Line {
    /// The line, without its newline.
    pub fn to_json(&self) -> String {
        let facts: serde_json::Map<_, _> =
            self.facts.fields.iter().map(|(name, value)| (name.clone(), json_of(value))).collect();
        serde_json::json!({
            "v": VERSION,
            "at": self.facts.at.as_millis(),
            "asked": self.asked.as_millis(),
            "phase": self.phase.word(),
            "action": self.action.as_str(),
            "before": self.before.as_hundredths(),
            "facts": facts,
        })
        .to_string()
    }

    /// Reads a line. `host` is what rules declare in `[facts]`. A field that this version does not know is left out.
    ///
    /// # Errors
    /// When it is no line of a recording.
    pub fn parse(line: &str, host: &[HostFact]) -> Result<Self, LineError> {
        let wrong = |what: &str| LineError(what.to_owned());
        let json: serde_json::Value = serde_json::from_str(line).map_err(|error| LineError(error.to_string()))?;
        if json.get("v").and_then(serde_json::Value::as_u64) != Some(VERSION) {
            return Err(wrong("it is of another version"));
        }
        let number = |key: &str| json.get(key).and_then(serde_json::Value::as_u64);
        let text = |key: &str| json.get(key).and_then(serde_json::Value::as_str);
        let phases = [Phase::Client, Phase::Session, Phase::Risk, Phase::Response];
        let phase = phases.into_iter().find(|phase| Some(phase.word()) == text("phase"));
        let action = text("action").and_then(|word| word.parse().ok());
        let facts = json.get("facts").and_then(serde_json::Value::as_object).ok_or_else(|| wrong("it has no facts"))?;
        let known = facts.iter().filter_map(|(name, value)| {
            let kind = Field::parse(name, host)?.kind(host);
            Some((name.clone(), value_of(value, kind)?))
        });
        let at = Timestamp::from_millis(number("at").ok_or_else(|| wrong("it has no time"))?);
        let before = u32::try_from(number("before").unwrap_or(0)).unwrap_or(u32::MAX);
        Ok(Self {
            phase: phase.ok_or_else(|| wrong("it has no phase"))?,
            action: action.ok_or_else(|| wrong("it has no action"))?,
            asked: number("asked").map_or(at, Timestamp::from_millis),
            before: Points::hundredths(before).min(Points::MAX),
            facts: Recorded::new(at, known.collect(), host.to_vec()),
        })
    }
}

fn json_of(value: &OwnedValue) -> serde_json::Value {
    match value {
        OwnedValue::Unknown => serde_json::Value::Null,
        OwnedValue::Bool(yes) => (*yes).into(),
        OwnedValue::Int(number) => (*number).into(),
        OwnedValue::Millis(millis) => (*millis).into(),
        OwnedValue::Text(text) | OwnedValue::Texts(text) => (&**text).into(),
        OwnedValue::Ip(ip) => ip.to_string().into(),
        OwnedValue::Pseudonym(pseudonym) => serde_json::json!({ PSEUDONYM: pseudonym.to_string() }),
        OwnedValue::Network(network) => serde_json::json!({ NETWORK: network.to_string() }),
        OwnedValue::Masked(masked) => serde_json::json!({ MASKED: masked.text(), CLEAR: masked.clear() }),
    }
}

fn value_of(json: &serde_json::Value, kind: Type) -> Option<OwnedValue> {
    if let (Some(hidden), Type::Text | Type::Ip) = (json.as_object(), kind) {
        let text = |key| hidden.get(key).and_then(serde_json::Value::as_str);
        if let (Some(masked), Type::Text) = (text(MASKED), kind) {
            let clear = hidden.get(CLEAR).and_then(serde_json::Value::as_u64).and_then(|clear| clear.try_into().ok());
            return Masked::new(masked, clear?).map(|masked| OwnedValue::Masked(Box::new(masked)));
        }
        return match (text(PSEUDONYM), text(NETWORK)) {
            (Some(pseudonym), _) => Some(OwnedValue::Pseudonym(Box::new(Pseudonym::parse(pseudonym)?))),
            (None, Some(network)) if kind == Type::Ip => Some(OwnedValue::Network(network.parse().ok()?)),
            _ => None,
        };
    }
    Some(match kind {
        Type::Bool => OwnedValue::Bool(json.as_bool()?),
        Type::Int => OwnedValue::Int(json.as_i64()?),
        Type::Duration => OwnedValue::Millis(json.as_u64()?),
        Type::Text => OwnedValue::Text(json.as_str()?.into()),
        Type::Texts => OwnedValue::Texts(json.as_str()?.into()),
        Type::Ip => OwnedValue::Ip(json.as_str()?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let fields = [
            ("client.ip", OwnedValue::Ip([192, 0, 2, 1].into())),
            ("client.country", "DE".into()),
            ("session.age", OwnedValue::Millis(5000)),
            ("session.exists", true.into()),
            ("signal.network.asn", 10.into()),
            ("facts.plan", "trial".into()),
            ("client.languages", OwnedValue::Texts("de, en;q=0.5".into())),
            ("session.subject", OwnedValue::Pseudonym(Box::new(Pseudonym::new("7-0123456789abcdef", "7-abc")))),
            ("client.prefix", OwnedValue::Network("192.0.2.0/24".parse().unwrap())),
            ("request.path", OwnedValue::Masked(Box::new(Masked::new("/reset/1-00", 7).unwrap()))),
        ];
        let host = vec![HostFact { name: "plan".into(), kind: Type::Text }];
        let fields = fields.map(|(name, value)| (name.to_owned(), value)).into();
        let facts = Recorded::new(Timestamp::from_millis(1_795_257_972_123), fields, host.clone());
        let (asked, before) = (Timestamp::from_millis(5), Points::whole(12));
        let line = Line { phase: Phase::Risk, action: Action::Observe, asked, before, facts };
        let text = line.to_json();
        assert_eq!(Line::parse(&text, &host).unwrap(), line);
        assert_eq!(line.facts.signals().len(), 1);
        assert_eq!(line.facts.value(Field::ClientAsn), Value::Unknown);
        for bad in ["", "{}", "{\"v\":2}", &text.replace("risk", "rusk"), &text.replace("\"at\"", "\"ta\"")] {
            assert!(Line::parse(bad, &host).is_err(), "{bad}");
        }
        let newer = text.replace("client.country", "client.planet");
        assert_eq!(Line::parse(&newer, &host).unwrap().facts.fields.len(), 9);
        // What is no pseudonym is not known.
        for bad in ["7-01 23", "0123", "7-0123/../..", ""] {
            let bad = text.replace("7-0123456789abcdef/7-abc", bad);
            assert_eq!(Line::parse(&bad, &host).unwrap().facts.fields.len(), 9, "{bad}");
        }
    }
}
