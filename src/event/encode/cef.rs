//! Common Event Format, `CEF:0`: one line of a header with bars and of keys with values, for the SIEMs that grew up with it.
//!
//! Keys are those of the CEF dictionary; addresses of IPv6 have one of their own (`c6a2`), since `src` is one of IPv4.

use std::net::IpAddr;

use super::escape::is_hidden;
use super::privacy::Veil;
use super::{VERSION, country, put};
use crate::event::field::cut;
use crate::event::{Kind, Record, Value};
use crate::verdict::Text;

/// Bytes of one value.
const VALUE_BYTES_MAX: usize = 512;

pub(super) fn write(veil: &Veil, record: &Record, out: &mut Vec<u8>) {
    let (meta, scene) = (record.event.kind().meta(), &record.scene);
    out.extend_from_slice(b"CEF:0|Portcullis|Portcullis|");
    for part in [VERSION, meta.name, meta.doc] {
        header(out, part);
        out.push(b'|');
    }
    put(out, format_args!("{}|rt={}", record.severity().cef(), record.ts.as_millis()));
    pair(out, "externalId", &record.id());
    pair(out, "act", scene.action.as_str());
    match scene.client.ip.map(|ip| ip.to_canonical()) {
        Some(ip) => address(out, ip, &veil.ip_text(ip)),
        None => maybe(out, "shost", scene.client.alias.as_ref().map(Text::as_str)),
    }
    if let Some(subject) = &scene.subject {
        // Of what an operator did it is the subject that it was done to.
        let key = if record.event.kind() == Kind::AdminAction { "duser" } else { "suser" };
        pair(out, key, veil.subject(subject).as_deref().unwrap_or(subject));
    }
    maybe(out, "requestMethod", scene.method);
    maybe(out, "request", scene.route.as_deref());
    maybe(out, "requestClientApplication", scene.client.ua.as_ref().map(Text::as_str));
    maybe(out, "dvchost", record.node.as_ref().map(Text::as_str));
    maybe(out, "cat", record.vocabulary().first().copied());
    let joined = |words: &[&str]| Some(words.join(" ")).filter(|words| !words.is_empty());
    let labelled = [
        ("cs1", "sessionHash", scene.session.map(|session| session.to_string())),
        ("cs2", "rule", scene.rule.as_ref().map(|rule| rule.as_str().to_owned())),
        ("cs3", "attackTechnique", joined(meta.attack)),
        ("cs4", "detectionPoint", joined(meta.appsensor)),
        ("cs5", "country", country(scene.client.country.as_ref()).map(str::to_owned)),
        ("cs6", "sessionRef", scene.reference.map(|reference| reference.to_string())),
        ("cn1", "asn", scene.client.asn.map(|asn| asn.to_string())),
        ("cn2", "status", scene.status.map(|status| status.to_string())),
        ("cfp1", "riskScore", scene.risk.map(|risk| format!("{:.1}", if risk.is_finite() { risk } else { 0.0 }))),
    ];
    for (key, label, value) in labelled {
        if let Some(value) = value {
            put(out, format_args!(" {key}Label={label}"));
            pair(out, key, &value);
        }
    }
    own(out, veil, record);
}

fn address(out: &mut Vec<u8>, ip: IpAddr, shown: &str) {
    match (ip, shown.parse::<IpAddr>()) {
        (_, Err(_)) => pair(out, "shost", shown),
        (IpAddr::V4(_), Ok(_)) => pair(out, "src", shown),
        (IpAddr::V6(_), Ok(_)) => {
            out.extend_from_slice(b" c6a2Label=sourceIPv6Address");
            pair(out, "c6a2", shown);
        }
    }
}

/// Why, and what the kind of event says of itself, as one text.
fn own(out: &mut Vec<u8>, veil: &Veil, record: &Record) {
    let mut text = String::new();
    let mut add = |key: &str, value: &str| {
        text.push_str(if text.is_empty() { "" } else { " " });
        text.push_str(key);
        text.push(':');
        text.push_str(value);
    };
    for reason in &record.scene.reasons {
        let shown = |side: &Option<Text>| {
            side.as_ref()
                .map_or_else(String::new, |side| veil.text(side.as_str()).unwrap_or_else(|| side.as_str().to_owned()))
        };
        let (before, after) = (shown(&reason.before), shown(&reason.after));
        let points = if reason.points.is_finite() { reason.points } else { 0.0 };
        let changed =
            if before.is_empty() && after.is_empty() { String::new() } else { format!(" ({before} -> {after})") };
        add(reason.kind.as_str(), &format!("{points:.1}{changed}"));
    }
    record.event.fields(&mut |key, value| match value {
        Value::Number(number) => add(key, &number.to_string()),
        Value::Points(points) => add(key, &format!("{points:.1}")),
        Value::Word(word) | Value::Client(word) => add(key, word),
        Value::Time(time) => add(key, &time.to_string()),
        Value::Session(session) => add(key, &session.to_string()),
    });
    if !text.is_empty() {
        pair(out, "msg", &text);
    }
}

fn maybe(out: &mut Vec<u8>, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        pair(out, key, value);
    }
}

fn pair(out: &mut Vec<u8>, key: &str, value: &str) {
    put(out, format_args!(" {key}="));
    escaped(out, cut(value, VALUE_BYTES_MAX), &['\\', '=']);
}

fn header(out: &mut Vec<u8>, value: &str) {
    escaped(out, value, &['\\', '|']);
}

fn escaped(out: &mut Vec<u8>, text: &str, special: &[char]) {
    for letter in text.chars() {
        match letter {
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            letter if special.contains(&letter) => put(out, format_args!("\\{letter}")),
            letter if is_hidden(letter) => put(out, format_args!("\\\\u{{{:x}}}", u32::from(letter))),
            letter => put(out, letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a value as the format says it is read.
    fn read(text: &str) -> String {
        let mut letters = text.chars();
        let mut out = String::new();
        while let Some(letter) = letters.next() {
            match (letter, letter == '\\') {
                (_, true) => match letters.next() {
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    other => out.extend(other),
                },
                (letter, false) => out.push(letter),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn values_are_read_back_and_end_where_they_end(text in "[ -~|=\\\\\r\n\u{e9}]{0,80}") {
            let mut out = Vec::new();
            pair(&mut out, "suser", &text);
            let line = String::from_utf8(out).unwrap();
            prop_assert!(!line.contains(['\n', '\r']));
            let value = line.strip_prefix(" suser=").unwrap();
            prop_assert_eq!(read(value), text);
            // No `=` that begins another key.
            let bare = value.match_indices('=').filter(|(at, _)| {
                value.split_at(*at).0.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 0
            });
            prop_assert_eq!(bare.count(), 0);
        }
    }
}
