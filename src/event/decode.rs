//! A JSON line, read back into the record that it was made of: what the journal keeps, other formats are made of.
//!
//! Nothing is lost but what [`Privacy`](super::encode::Privacy) hid when the line was written: what stands for an address then
//! is its [alias](super::ClientView::alias).

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use http::Method;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::{ClientView, Event, Kind, Record, Scene, SessionHash, TraceId, method_word};
use crate::session::id::Ref;
use crate::verdict::{Reason, Text};

/// A line is none that an event was written as.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is no JSON, or lacks what every event has.
    #[error("not an event: {0}")]
    Line(#[from] serde_json::Error),
    /// A field has a value that it can not have.
    #[error("not an event: its `{0}` can not be read")]
    Field(&'static str),
    /// This version knows no such kind, or not these fields of it.
    #[error("an event of a kind that is not known here: {0}")]
    Kind(String),
}

/// The members of an object, in their order.
struct Pairs<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Vec<(String, T)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// A line as JSON has it.
#[derive(serde::Deserialize)]
struct Told {
    ts: String,
    event: String,
    action: String,
    ip: Option<String>,
    v: u16,
    seq: u64,
    mode: String,
    would: Option<String>,
    rule: Option<String>,
    policy: Option<u64>,
    node: Option<String>,
    session: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    method: Option<String>,
    route: Option<String>,
    status: Option<u16>,
    risk: Option<f32>,
    trace: Option<String>,
    asn: Option<u32>,
    country: Option<String>,
    ua: Option<String>,
    os: Option<String>,
    ja4: Option<String>,
    bound_ip: Option<String>,
    bound_asn: Option<u32>,
    bound_country: Option<String>,
    bound_ua: Option<String>,
    bound_os: Option<String>,
    bound_ja4: Option<String>,
    tags: Option<String>,
    #[serde(default)]
    reasons: Option<Pairs<f32>>,
    before: Option<Pairs<String>>,
    after: Option<Pairs<String>>,
    subject: Option<String>,
    #[serde(flatten)]
    own: BTreeMap<String, serde_json::Value>,
}

impl Record {
    /// Reads a line that [`Encoder`](super::encode::Encoder) wrote as JSON, with or without the hash of a journal.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(line: &[u8]) -> Result<Self, Unreadable> {
        let told: Told = serde_json::from_slice(line)?;
        let kind: Kind = told.event.parse().ok().ok_or_else(|| Unreadable::Kind(told.event.clone()))?;
        let event = Event::read(kind, &told.own).ok_or_else(|| Unreadable::Kind(told.event.clone()))?;
        let ts = told.ts.parse().ok().ok_or(Unreadable::Field("ts"))?;
        let node = told.node.as_deref().map(Text::from);
        Ok(Self { v: told.v, seq: told.seq, ts, node, scene: told.scene()?, event })
    }
}

impl Told {
    fn scene(self) -> Result<Scene, Unreadable> {
        let text = |text: Option<String>| text.as_deref().map(Text::from);
        let client = |ip: Option<String>, asn, country: Option<String>, [ua, os, ja4]: [Option<String>; 3]| {
            let address: Option<IpAddr> = ip.as_deref().and_then(|ip| ip.parse().ok());
            let alias = text(ip.filter(|_| address.is_none()));
            let country = country.and_then(|country| country.as_bytes().try_into().ok());
            ClientView { ip: address, alias, asn, country, ua: text(ua), os: text(os), ja4: text(ja4) }
        };
        let changed = |pairs: Option<Pairs<String>>| pairs.map_or_else(Vec::new, |pairs| pairs.0);
        let (before, after) = (changed(self.before), changed(self.after));
        let side = |side: &[(String, String)], kind: &str| {
            side.iter().find(|(key, _)| key == kind).map(|(_, value)| Text::from(value.as_str()))
        };
        let reason = |(kind, points): (String, f32)| Reason {
            before: side(&before, &kind),
            after: side(&after, &kind),
            ..Reason::new(kind.as_str(), points)
        };
        let method = |method: String| Method::from_bytes(method.as_bytes()).ok().map(|method| method_word(&method));
        Ok(Scene {
            session: read(self.session, "session", SessionHash::parse)?,
            reference: read(self.reference, "ref", Ref::parse)?,
            subject: self.subject.map(Into::into),
            client: client(self.ip, self.asn, self.country, [self.ua, self.os, self.ja4]),
            bound: client(
                self.bound_ip,
                self.bound_asn,
                self.bound_country,
                [self.bound_ua, self.bound_os, self.bound_ja4],
            ),
            action: self.action.parse().ok().ok_or(Unreadable::Field("action"))?,
            mode: self.mode.parse().ok().ok_or(Unreadable::Field("mode"))?,
            would: read(self.would, "would", |word| word.parse().ok())?,
            rule: text(self.rule),
            tags: self.tags.iter().flat_map(|tags| tags.split(' ')).map(Text::from).collect(),
            policy: self.policy,
            reasons: self.reasons.map_or_else(Vec::new, |reasons| reasons.0.into_iter().map(reason).collect()),
            risk: self.risk,
            route: self.route.map(Into::into),
            method: self.method.and_then(method),
            status: self.status,
            trace: read(self.trace, "trace", TraceId::parse)?,
        })
    }
}

fn read<T>(
    value: Option<String>,
    key: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Unreadable> {
    value.map(|value| parse(&value).ok_or(Unreadable::Field(key))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::event::encode::{Encoder, Format};

    fn line(record: &Record) -> String {
        let mut out = Vec::new();
        Encoder::new(Format::Json).encode(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_kind_of_event_is_read_back() {
        for event in Event::samples() {
            let record =
                Record { seq: 9, ..Record::new(Timestamp::from_millis(1_800_000_000_123), Scene::default(), event) };
            let line = line(&record);
            assert_eq!(Record::read(line.as_bytes()).unwrap(), record, "{line}");
            let chained = line.replace("}\n", ",\"chain\":\"00\"}\n");
            assert_eq!(Record::read(chained.as_bytes()).unwrap(), record);
        }
    }

    #[test]
    fn what_is_no_event_is_an_error_that_says_why() {
        let whole = r#"{"ts":"2027-01-15T08:00:00.000Z","event":"site.trend","action":"allow","severity":"info","v":1,"seq":1,"mode":"enforce","what":"x","percent":1}"#;
        assert!(Record::read(whole.as_bytes()).is_ok());
        let check = |from: &str, to: &str, expected: &str| {
            let error = Record::read(whole.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("\"seq\":1,", "", "missing field `seq`");
        check("site.trend", "site.unknown", "kind that is not known here: site.unknown");
        check(",\"percent\":1", "", "kind that is not known here: site.trend");
        check("2027-01-15", "15.01.2027", "its `ts` can not be read");
        check("enforce", "hope", "its `mode` can not be read");
        check("{", "", "not an event");
    }
}
