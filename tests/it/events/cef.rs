//! Lines in CEF, read by a parser that others wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use portcullis::event::encode::{Encoder, Format};
use portcullis::event::{Kind, Record};
use serde_json::Value;

use super::programs::python;
use super::variants::lines_in;

/// What a line has, by key: the header by the names that the parser has for its fields, what has a label by that.
type Values = BTreeMap<String, String>;

/// What clients write who want to be read as something else: each comes back as it was.
const HOSTILE: [&str; 10] = [
    "alice src=192.0.2.1 act=allow",
    "a\\=b \\ c\\",
    "=",
    "\\",
    "\\n \\\\",
    "one\r\nCEF:0|Portcullis|Portcullis|0|session.logout|x|0|act=allow",
    " cs1Label=rule cs1=none ",
    "|3|rt=1",
    "Gr\u{fc}\u{df}e \u{65e5}\u{672c} \"quoted\"",
    "\u{a0}=\u{a0}src=192.0.2.1",
];

/// The same of what can not be seen: it is spelled out in the line.
const HIDDEN: (&str, &str) = ("\u{1b}[2K\t\u{202e}gpj.\0", "\\u{1b}[2K\\u{9}\\u{202e}gpj.\\u{0}");

/// What the parser makes of lines; what it says where it takes no event from one.
fn read(python: &Path, folder: &Path, text: &str) -> Result<Vec<Values>, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/cef/read.py");
    let lines = folder.join("lines");
    fs::write(&lines, text).unwrap();
    let output = Command::new(python).arg(script).stdin(File::open(&lines).unwrap()).output().unwrap();
    let [told, complaints] = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
    if !output.status.success() {
        return Err(complaints);
    }
    Ok(told.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn text(event: &Value, key: &str) -> Option<String> {
    match &event[key] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn kind(event: &Value) -> Kind {
    event["event"].as_str().unwrap().parse().unwrap()
}

/// All but `msg` that a line must have of an event, as the golden lines in JSON tell it.
fn expected(event: &Value) -> Values {
    let kind = kind(event);
    let severity = match event["severity"].as_str() {
        Some("info") => "3",
        Some("notice") => "4",
        Some("warn") => "6",
        Some("critical") => "9",
        other => panic!("{other:?} is no severity"),
    };
    assert_eq!(event["ts"], "2026-11-21T10:46:12.045Z", "all golden lines are of one moment");
    let own = [
        ("CEFVersion", "0"),
        ("DeviceVendor", "Portcullis"),
        ("DeviceProduct", "Portcullis"),
        ("DeviceVersion", env!("CARGO_PKG_VERSION")),
        ("DeviceEventClassID", kind.as_str()),
        ("Name", kind.meta().doc),
        ("Severity", severity),
        ("rt", "1795257972045"),
        ("externalId", "edge-1-1795257972045-41"),
    ];
    let is_v6 = text(event, "ip").is_some_and(|ip| ip.contains(':'));
    let copied = [
        ("act", "action"),
        (if is_v6 { "sourceIPv6Address" } else { "src" }, "ip"),
        (if kind == Kind::AdminAction { "duser" } else { "suser" }, "subject"),
        ("requestMethod", "method"),
        ("request", "route"),
        ("requestClientApplication", "ua"),
        ("dvchost", "node"),
        ("sessionHash", "session"),
        ("rule", "rule"),
        ("attackTechnique", "attack"),
        ("detectionPoint", "appsensor"),
        ("country", "country"),
        ("sessionRef", "ref"),
        ("mode", "mode"),
        ("would", "would"),
        ("asn", "asn"),
        ("status", "status"),
        ("riskScore", "risk"),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter();
    let copied = copied.into_iter().filter_map(|(key, from)| Some((key.to_owned(), text(event, from)?)));
    // Of what others call it the first word.
    let category = text(event, "owasp").map(|words| ("cat".to_owned(), words.split(' ').next().unwrap().to_owned()));
    own.chain(copied).chain(category).collect()
}

/// What stands in `msg` in a row: each reason with what it compared, and what the kind says of itself.
fn pieces(event: &Value) -> Vec<String> {
    let reasons = event["reasons"].as_object().into_iter().flatten().map(|(name, points)| {
        let points = format!("{name}:{:.1}", points.as_f64().unwrap());
        match (event["before"][name].as_str(), event["after"][name].as_str()) {
            (None, None) => points,
            (before, after) => format!("{points} ({} -> {})", before.unwrap_or_default(), after.unwrap_or_default()),
        }
    });
    let own = kind(event).meta().fields.iter().filter_map(|(key, _)| Some(format!("{key}:{}", text(event, key)?)));
    reasons.chain(own).collect()
}

/// All of the event came back as it was, and nothing beside.
#[track_caller]
fn check(event: &Value, told: &Values) {
    let mut told = told.clone();
    let message = told.remove("msg").unwrap_or_default();
    assert_eq!(told, expected(event), "{event}");
    let pieces = pieces(event);
    assert_eq!(message.len(), pieces.join(" ").len(), "{message:?} has {pieces:?}");
    for piece in &pieces {
        assert!(message.contains(piece.as_str()), "{piece:?} in {message:?}");
    }
}

/// That event with this in every place that a client writes to.
fn written_by_client(event: &Value, text: &str) -> Value {
    let mut event = event.clone();
    for key in ["subject", "ua", "header"] {
        event[key] = text.into();
    }
    event["after"]["device.os"] = text.into();
    event["ip"] = "2001:db8::7".into();
    event
}

fn line(event: &Value) -> String {
    let mut line = Vec::new();
    Encoder::new(Format::Cef).encode(&Record::read(event.to_string().as_bytes()).unwrap(), &mut line);
    String::from_utf8(line).unwrap()
}

#[test]
fn a_parser_of_others_reads_every_kind_in_cef() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let Some(python) = python("pycef") else { return };
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| read(&python, folder.path(), text);
    let golden = fs::read_to_string(root.join("events.cef")).unwrap();
    let events: Vec<Value> = fs::read_to_string(root.join("events.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // Every kind.
    let told = read(&golden).unwrap();
    assert_eq!((told.len(), events.len()), (Kind::COUNT, Kind::COUNT));
    events.iter().zip(&told).for_each(|(event, told)| check(event, told));
    // With less known, and with addresses and names hidden: no value is taken for a key.
    let known: BTreeSet<&str> = told.iter().flat_map(BTreeMap::keys).map(String::as_str).chain(["shost"]).collect();
    let variants = read(&lines_in(Format::Cef)).unwrap();
    for told in &variants {
        assert!(told.keys().all(|key| known.contains(key.as_str())), "{told:?}");
        assert!(told["DeviceEventClassID"].parse::<Kind>().is_ok(), "{told:?}");
    }
    assert!(variants.iter().any(|told| told.contains_key("shost") && !told.contains_key("src")));
    // With hostile text of a client.
    let event = events.iter().find(|event| kind(event) == Kind::HeaderSpoofed).unwrap();
    for (wrote, comes_back) in HOSTILE.map(|text| (text, text)).into_iter().chain([HIDDEN]) {
        let line = line(&written_by_client(event, wrote));
        assert_eq!(line.lines().count(), 1, "{line}");
        let told = read(&line).unwrap();
        assert_eq!(told.len(), 1);
        check(&written_by_client(event, comes_back), &told[0]);
    }
    // It finds what is wrong.
    for (right, wrong) in [("CEF:0|", "CEF|"), ("|session.created|", "||"), ("|3|rt=", "|30|rt="), ("|3|rt=", "|rt=")] {
        assert!(golden.contains(right), "{right}");
        assert!(read(&golden.replacen(right, wrong, 1)).is_err(), "{wrong}");
    }
    let forged = line(&written_by_client(event, HOSTILE[0])).replace("\\=", "=");
    assert_eq!(read(&forged).unwrap()[0]["src"], "192.0.2.1", "without the escapes it is a forger's");
}
