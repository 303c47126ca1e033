//! The lines themselves: one of every kind against `tests/data/events.jsonl` and `events.txt`, and hostile text that tries
//! to be a line of its own.
//!
//! After a wanted change, run the tests with `PORTCULLIS_BLESS=1` and read the difference before it is committed.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::clock::Timestamp;
use crate::event::kinds::{HeaderSpoofed, LoginFailed, OriginBlocked};
use crate::event::{ClientText, ClientView, Event, Kind, Scene, SessionHash, TraceId};
use crate::secret::{KeyId, MasterKey};
use crate::session::id::Ref;
use crate::verdict::{Action, Mode, Reason, Text};

fn scene() -> Scene {
    Scene {
        session: Some(SessionHash { key: KeyId(2), hash: [0x5e; 16] }),
        reference: Some(Ref([0x0f; 16])),
        subject: Some("alice@example.com".into()),
        client: ClientView {
            ip: Some("203.0.113.9".parse().unwrap()),
            alias: None,
            asn: Some(7922),
            country: Some(*b"US"),
            ua: Some(Text::of("Firefox")),
            os: Some(Text::of("Linux")),
            ja4: Some(Text::from("t13d1715h2_5b57614c22b0_3d5424432f57")),
        },
        bound: ClientView {
            ip: Some("2001:db8::1".parse().unwrap()),
            alias: None,
            asn: Some(3320),
            country: Some(*b"DE"),
            ua: Some(Text::of("Chrome")),
            os: Some(Text::of("Windows 10")),
            ja4: Some(Text::from("t13d1516h2_8daaf6152771_02713d6af862")),
        },
        action: Action::Allow,
        mode: Mode::Observe,
        would: Some(Action::Quarantine),
        rule: Some(Text::of("shop/geo-jump")),
        tags: vec![Text::of("hijack"), Text::of("T1539")],
        policy: Some(12),
        reasons: [
            Reason::new("network.asn", 10.0).changed("3320", "7922"),
            Reason::new("device.os", 60.0).changed("Windows 10", "Linux"),
            Reason::new("shop/geo-jump", 0.0),
        ]
        .into_iter()
        .collect(),
        risk: Some(72.5),
        route: Some("/account/{id}".into()),
        method: Some("POST"),
        status: Some(302),
        trace: Some(TraceId([0x4b; 16])),
    }
}

fn record(scene: Scene, event: impl Into<Event>) -> Record {
    let mut record = Record::new(Timestamp::from_millis(1_795_257_972_045), scene, event.into());
    record.seq = 41;
    record.node = Some(Text::of("edge-1"));
    record
}

fn line(encoder: &Encoder, record: &Record) -> String {
    let mut out = Vec::new();
    encoder.encode(record, &mut out);
    String::from_utf8(out).unwrap()
}

/// One of every kind: the first with a full scene, those of the guard itself with an empty one, the others with a short
/// one, so that the files can be read.
fn samples() -> Vec<Record> {
    let short = Scene { bound: ClientView::default(), rule: None, trace: None, policy: None, ..scene() };
    let short = Scene { reasons: std::iter::once(Reason::new("network.asn", 10.0)).collect(), ..short };
    let short = Scene { mode: Mode::Enforce, action: Action::Deny, would: None, ..short };
    let choose = |kind: Kind| match kind {
        Kind::SessionCreated | Kind::HeaderSpoofed => scene(),
        kind if kind.as_str().starts_with("guard.") || kind.as_str().starts_with("events.d") => Scene::default(),
        _ => short.clone(),
    };
    Event::samples().into_iter().map(|event| record(choose(event.kind()), event)).collect()
}

fn compare(name: &str, encoder: &Encoder) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let written: String = samples().iter().map(|record| line(encoder, record)).collect();
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (now, then) in written.lines().zip(golden.lines()) {
        assert_eq!(now, then, "{name} differs");
    }
    assert_eq!(written.lines().count(), golden.lines().count());
}

#[test]
fn json_lines_are_the_golden_ones() {
    compare("events.jsonl", &Encoder::default());
}

#[test]
fn lines_for_people_are_the_golden_ones() {
    compare("events.txt", &Encoder::new(Format::Human(Colour::Never)));
}

#[test]
fn lines_in_other_formats_are_the_golden_ones() {
    compare("events.ecs.jsonl", &Encoder::new(Format::Ecs));
    compare("events.ocsf.jsonl", &Encoder::new(Format::Ocsf));
    compare("events.cef", &Encoder::new(Format::Cef));
    compare("events.syslog", &Encoder::new(Format::Syslog { facility: FACILITY_DEFAULT, message: Message::Json }));
}

/// The leaves of an object by their whole names, without what is under `portcullis`.
fn leaves(name: &str, value: &Json, found: &mut Vec<(String, Json)>) {
    match value {
        Json::Object(members) => {
            for (key, value) in members.iter().filter(|(key, _)| !name.is_empty() || *key != "portcullis") {
                leaves(&if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, value, found);
            }
        }
        value => found.push((name.to_owned(), value.clone())),
    }
}

/// The list has facts of the schema as it is published, of the fields that we use.
#[test]
fn every_field_of_ecs_is_one_with_its_type() {
    let known: std::collections::BTreeMap<_, _> = include_str!("../../../tests/data/ecs_fields.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let veiled = Encoder::new(Format::Ecs).with_privacy(
        Privacy { ip: IpPrivacy::Pseudonym, subject: SubjectPrivacy::Hmac },
        Arc::new(Keyring::generate(&crate::entropy::InsecureSeededEntropy::new(1)).unwrap()),
    );
    for (record, encoder) in
        samples().iter().flat_map(|record| [(record, Encoder::new(Format::Ecs)), (record, veiled.clone())])
    {
        let object: Json = serde_json::from_str(&line(&encoder, record)).unwrap();
        let mut found = Vec::new();
        leaves("", &object, &mut found);
        for (name, value) in found {
            let of = known.get(&*name).unwrap_or_else(|| panic!("{name} is no field"));
            let (of, is_array) = of.strip_suffix(" array").map_or((*of, false), |of| (of, true));
            let values = if is_array { value.as_array().unwrap().clone() } else { vec![value] };
            let fits = |value: &Json| match of {
                "ip" => value.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()),
                "long" => value.is_u64(),
                "float" => value.is_number(),
                _ => value.is_string(),
            };
            assert!(!values.is_empty() && values.iter().all(fits), "{name}: {values:?} is no {of}");
        }
    }
}

/// The keys of a line in the order in which they stand there, one level deep.
fn keys(line: &str) -> Vec<String> {
    // `serde_json` sorts keys, so their places in the text are compared instead.
    let object: serde_json::Map<String, Json> = serde_json::from_str(line).unwrap();
    let mut keys: Vec<_> = object.keys().map(|key| (line.find(&format!("\"{key}\":")).unwrap(), key.clone())).collect();
    keys.sort_unstable();
    keys.into_iter().map(|(_, key)| key).collect()
}

#[test]
fn keys_have_one_order_and_no_field_takes_the_name_of_another() {
    for record in samples() {
        let line = line(&Encoder::default(), &record);
        assert!(line.starts_with("{\"ts\":\"2026-11-21T10:46:12.045Z\",\"event\":\""), "{line}");
        let keys = keys(&line);
        let fields = record.event.kind().meta().fields;
        let common: Vec<_> = keys.iter().filter(|key| SCENE_KEYS.contains(&key.as_str())).collect();
        let places: Vec<_> = common.iter().map(|key| SCENE_KEYS.iter().position(|k| k == *key).unwrap()).collect();
        assert!(places.is_sorted(), "{keys:?}");
        assert_eq!(keys.len(), common.len() + fields.len(), "{keys:?}");
        for (name, doc) in fields {
            assert!(!SCENE_KEYS.contains(name), "{name} is taken");
            assert!(doc.trim().ends_with('.'), "{name}: {doc}");
        }
        let head = if record.scene.client.ip.is_some() { 4 } else { 3 };
        assert_eq!(keys[..head], ["ts", "event", "action", "ip"][..head]);
    }
    assert_eq!(keys(&line(&Encoder::default(), &record(scene(), LoginFailed {}))), SCENE_KEYS);
}

#[test]
fn a_line_is_flat_or_one_level_deep_and_has_no_list() {
    for record in samples() {
        let object: serde_json::Map<String, Json> = serde_json::from_str(&line(&Encoder::default(), &record)).unwrap();
        for (key, value) in object {
            match value {
                Json::Object(inner) => assert!(inner.values().all(|v| v.is_number() || v.is_string()), "{key}"),
                other => assert!(other.is_number() || other.is_string(), "{key}: {other}"),
            }
        }
    }
}

#[test]
fn what_the_client_wrote_comes_last() {
    let line = line(&Encoder::default(), &record(scene(), HeaderSpoofed { header: ClientText::new("X-Evil") }));
    let keys = keys(&line);
    assert_eq!(keys[keys.len() - 4..], ["before", "after", "subject", "header"]);
}

#[test]
fn nothing_in_a_line_exceeds_its_limit() {
    let long: Arc<str> = "\u{1b}".repeat(100_000).into();
    let text = || Some(Text::from(long.clone()));
    let view = || ClientView { ua: text(), os: text(), ja4: text(), ..scene().client };
    let mut scene = Scene { subject: Some(long.clone()), route: Some(long.clone()), rule: text(), ..scene() };
    (scene.client, scene.bound) = (view(), view());
    scene.reasons = (0..crate::verdict::REASONS_MAX)
        .map(|i| Reason::new(format!("{i}{long}"), 1.0).changed(long.clone(), long.clone()))
        .collect();
    for format in FORMATS {
        let line = line(&Encoder::new(format), &record(scene.clone(), LoginFailed {}));
        assert!(line.len() < 160 * 1024, "{format:?}: {}", line.len());
    }
}

#[test]
fn privacy_reaches_every_place_of_a_line() {
    let mut scene = scene();
    scene.reasons.push(Reason::new("network.prefix", 5.0).changed("2001:db8::1", "203.0.113.9"));
    let keys = Arc::new(Keyring::new(&MasterKey::new(KeyId(1), [1; 32]), &[]));
    let privacy = Privacy { ip: IpPrivacy::Pseudonym, subject: SubjectPrivacy::Hmac };
    for format in FORMATS {
        let open = line(&Encoder::new(format), &record(scene.clone(), LoginFailed {}));
        let veiled = Encoder::new(format).with_privacy(privacy, Arc::clone(&keys));
        let veiled = line(&veiled, &record(scene.clone(), LoginFailed {}));
        assert!(open.contains("203.0.113.9") && open.contains("alice"), "{format:?}: {open}");
        for secret in ["203.0.113.9", "2001:db8::1", "alice"] {
            assert!(!veiled.contains(secret), "{format:?}: {secret} in {veiled}");
        }
    }
}

#[test]
fn a_terminal_gets_colours_and_nothing_else_that_moves_it() {
    let mut scene = scene();
    scene.subject = Some("\u{1b}]0;owned\u{7}\u{9b}2J".into());
    let line = line(&Encoder::new(Format::Human(Colour::Always)), &record(scene, LoginFailed {}));
    assert!(line.contains("\u{1b}[33m"));
    let plain = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[33m"].iter().fold(line, |l, code| l.replace(code, ""));
    assert!(!plain.trim_end().chars().any(char::is_control), "{plain}");
}

/// Every format.
const FORMATS: [Format; 7] = [
    Format::Json,
    Format::Human(Colour::Never),
    Format::Ecs,
    Format::Ocsf,
    Format::Cef,
    Format::Syslog { facility: FACILITY_DEFAULT, message: Message::Json },
    Format::Syslog { facility: FACILITY_DEFAULT, message: Message::Cef },
];

/// What a forger would write: the end of a string, the end of a line, a line of his own.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just("\r\n".to_owned()),
        Just("\"}\n{\"ts\":\"2026-01-01T00:00:00.000Z\",\"event\":\"rate.limited\",\"ip\":\"192.0.2.1\"}\n".to_owned()),
        Just("\",\"ip\":\"192.0.2.1".to_owned()),
        Just("\u{1b}[2K\u{1b}[1A".to_owned()),
        Just("\u{2028}\u{2029}\u{85}\u{202e}\u{200b}\u{feff}\0".to_owned()),
        "\\PC{0,8}",
        any::<String>().prop_map(|text| text.chars().take(8).collect()),
    ];
    proptest::collection::vec(piece, 0..5)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("within the limit", |text| text.len() <= escape::TEXT_BYTES_MAX)
}

proptest! {
    #[test]
    fn no_client_can_forge_a_line(subject in hostile(), origin in hostile(), ua in hostile(), after in hostile()) {
        let mut scene = scene();
        scene.subject = Some(subject.as_str().into());
        scene.client.ua = Some(ua.as_str().into());
        scene.reasons = std::iter::once(Reason::new("device.ua", 1.0).changed("x", after.as_str())).collect();
        let record = record(scene, OriginBlocked { origin: Some(ClientText::new(&origin)) });

        let json = line(&Encoder::default(), &record);
        prop_assert_eq!(json.matches('\n').count(), 1);
        let is_whole = json.ends_with("}\n") && !json.trim_end().chars().any(char::is_control);
        prop_assert!(is_whole);
        let head = "{\"ts\":\"2026-11-21T10:46:12.045Z\",\"event\":\"origin.blocked\",\"action\":\"allow\",\"ip\":\"203.0.113.9\",";
        prop_assert!(json.starts_with(head));
        let object: Json = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(object["subject"].as_str(), Some(subject.as_str()));
        prop_assert_eq!(object["origin"].as_str(), Some(origin.as_str()));
        prop_assert_eq!(object["ua"].as_str(), Some(ua.as_str()));
        prop_assert_eq!(object["after"]["device.ua"].as_str(), Some(after.as_str()));
        prop_assert_eq!(object["ip"].as_str(), Some("203.0.113.9"));
        prop_assert_eq!(json.matches("\"ip\":\"").count(), 1);

        for format in FORMATS {
            let line = line(&Encoder::new(format), &record);
            prop_assert_eq!(line.lines().count(), 1, "{:?}", format);
            prop_assert!(!line.trim_end_matches('\n').chars().any(char::is_control), "{:?}: {}", format, line);
        }
        // The address that stands where one is looked for is the real one.
        let ecs: Json = serde_json::from_str(&line(&Encoder::new(Format::Ecs), &record)).unwrap();
        prop_assert_eq!(ecs["source"]["ip"].as_str(), Some("203.0.113.9"));
        let ocsf: Json = serde_json::from_str(&line(&Encoder::new(Format::Ocsf), &record)).unwrap();
        prop_assert_eq!(ocsf["src_endpoint"]["ip"].as_str(), Some("203.0.113.9"));
        let cef = line(&Encoder::new(Format::Cef), &record);
        prop_assert!(cef.contains(" src=203.0.113.9 "), "{}", cef);
    }
}

#[test]
fn what_is_read_back_is_written_as_it_was() {
    let keys = Arc::new(Keyring::new(&MasterKey::new(KeyId(7), [7; 32]), &[]));
    for (ip, subject) in [("full", "plain"), ("truncate", "plain"), ("pseudonym", "hmac")] {
        let privacy = Privacy { ip: ip.parse().unwrap(), subject: subject.parse().unwrap() };
        let encoder = Encoder::default().with_privacy(privacy, keys.clone());
        for record in samples() {
            let before = line(&encoder, &record);
            let read = Record::read(before.as_bytes()).unwrap();
            assert_eq!(line(&Encoder::default(), &read), before);
            if ip == "full" {
                assert_eq!(read, record);
            }
        }
    }
}
