//! Common Event Format, `CEF:0`: one line of a header with bars and of keys with values, for the SIEMs that grew up with it.
//!
//! Keys are those of the CEF dictionary; addresses of IPv6 have one of their own (`c6a2`), since `src` is one of IPv4.

use std::net::IpAddr;

use super::escape::is_hidden;
use super::plain::{Plain, Whole, put_tenths};
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
        escaped(out, part, Within::Header);
        out.push(b'|');
    }
    u64::from(record.severity().cef()).put(out);
    out.extend_from_slice(b"|rt=");
    record.ts.as_millis().put(out);
    pair(out, "externalId", &record.id());
    pair(out, "act", scene.action.as_str());
    match scene.client.ip.map(|ip| ip.to_canonical()) {
        Some(ip) => address(out, ip, veil),
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
    labelled(out, record);
    own(out, veil, record);
}

/// What the dictionary has no keys for, each with a label that says what it is.
fn labelled(out: &mut Vec<u8>, record: &Record) {
    let (meta, scene) = (record.event.kind().meta(), &record.scene);
    plain(out, "cs1Label=sessionHash cs1", scene.session);
    labelled_text(out, "cs2Label=rule cs2", scene.rule.iter().map(Text::as_str));
    labelled_text(out, "cs3Label=attackTechnique cs3", meta.attack.iter().copied());
    labelled_text(out, "cs4Label=detectionPoint cs4", meta.appsensor.iter().copied());
    labelled_text(out, "cs5Label=country cs5", country(scene.client.country.as_ref()));
    plain(out, "cs6Label=sessionRef cs6", scene.reference);
    labelled_text(out, "flexString1Label=mode flexString1", [scene.mode.as_str()]);
    labelled_text(out, "flexString2Label=would flexString2", scene.would.map(crate::verdict::Action::as_str));
    plain(out, "cn1Label=asn cn1", scene.client.asn.map(u64::from));
    plain(out, "cn2Label=status cn2", scene.status.map(u64::from));
    if let Some(risk) = scene.risk {
        key(out, "cfp1Label=riskScore cfp1");
        put_tenths(out, risk, Whole::Long);
    }
}

/// Texts in a row under a key of ours; nothing where there are none.
fn labelled_text<'t>(out: &mut Vec<u8>, name: &str, texts: impl IntoIterator<Item = &'t str>) {
    for (at, text) in texts.into_iter().enumerate() {
        if at == 0 {
            key(out, name);
        } else {
            out.push(b' ');
        }
        escaped(out, cut(text, VALUE_BYTES_MAX), Within::Value);
    }
}

fn plain(out: &mut Vec<u8>, name: &str, value: Option<impl Plain>) {
    if let Some(value) = value {
        key(out, name);
        value.put(out);
    }
}

fn address(out: &mut Vec<u8>, ip: IpAddr, veil: &Veil) {
    match ip {
        _ if veil.hides_addresses() => key(out, "shost"),
        IpAddr::V4(_) => key(out, "src"),
        IpAddr::V6(_) => key(out, "c6a2Label=sourceIPv6Address c6a2"),
    }
    veil.ip(out, ip);
}

/// Why, and what the kind of event says of itself, as one text.
fn own(out: &mut Vec<u8>, veil: &Veil, record: &Record) {
    let mut text = Vec::with_capacity(VALUE_BYTES_MAX);
    let put_key = |text: &mut Vec<u8>, key: &str| {
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(key.as_bytes());
        text.push(b':');
    };
    for reason in &record.scene.reasons {
        put_key(&mut text, reason.kind.as_str());
        put_tenths(&mut text, reason.points, Whole::Long);
        let is_said = |side: &Option<Text>| side.as_ref().is_some_and(|side| !side.as_str().is_empty());
        if is_said(&reason.before) || is_said(&reason.after) {
            let shown = |text: &mut Vec<u8>, side: &Option<Text>| {
                let side = side.as_ref().map_or("", Text::as_str);
                text.extend_from_slice(veil.text(side).as_deref().unwrap_or(side).as_bytes());
            };
            text.extend_from_slice(b" (");
            shown(&mut text, &reason.before);
            text.extend_from_slice(b" -> ");
            shown(&mut text, &reason.after);
            text.push(b')');
        }
    }
    record.event.fields(&mut |key, value| {
        put_key(&mut text, key);
        match value {
            Value::Number(number) => number.put(&mut text),
            Value::Points(points) => put_tenths(&mut text, points, Whole::Long),
            Value::Word(word) | Value::Client(word) => text.extend_from_slice(word.as_bytes()),
            Value::Time(time) => time.put(&mut text),
            Value::Session(session) => session.put(&mut text),
        }
    });
    if !text.is_empty() {
        pair(out, "msg", &String::from_utf8_lossy(&text));
    }
}

fn maybe(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        pair(out, name, value);
    }
}

fn pair(out: &mut Vec<u8>, name: &str, value: &str) {
    key(out, name);
    escaped(out, cut(value, VALUE_BYTES_MAX), Within::Value);
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
}

/// Where a text stands, and so what would end it.
#[derive(Clone, Copy)]
enum Within {
    Header,
    Value,
}

fn escaped(out: &mut Vec<u8>, text: &str, within: Within) {
    let end = match within {
        Within::Header => b'|',
        Within::Value => b'=',
    };
    let is_odd = |byte: &u8| !matches!(byte, b' '..=b'~') || *byte == b'\\' || *byte == end;
    let mut rest = text;
    // What is plain is copied at once.
    while let Some(at) = rest.as_bytes().iter().position(is_odd)
        && let Some((before, odd)) = rest.split_at_checked(at)
        && let Some(letter) = odd.chars().next()
    {
        out.extend_from_slice(before.as_bytes());
        let (this, behind) = odd.split_at_checked(letter.len_utf8()).unwrap_or((odd, ""));
        match letter {
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            letter if is_hidden(letter) => put(out, format_args!("\\\\u{{{:x}}}", u32::from(letter))),
            letter => {
                if letter.is_ascii() {
                    out.push(b'\\');
                }
                out.extend_from_slice(this.as_bytes());
            }
        }
        rest = behind;
    }
    out.extend_from_slice(rest.as_bytes());
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
