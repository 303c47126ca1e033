//! Lines in Elastic Common Schema, checked against the list of fields as Elastic publishes it.

use std::fs;
use std::path::Path;
use std::process::Command;

use portcullis::event::encode::Format;

use super::variants::lines_in;
use crate::support::stored::skipped;

/// The golden lines have every kind.
#[test]
fn lines_in_ecs_have_only_fields_and_values_of_the_published_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    if !root.join("e2e/ecs/node_modules/@elastic/ecs").is_dir() {
        return skipped::<()>("the list of Elastic Common Schema").unwrap_or_default();
    }
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let lines = folder.path().join("lines");
        fs::write(&lines, text).unwrap();
        let mut command = Command::new("node");
        let output =
            command.arg(root.join("e2e/ecs/check.js")).stdin(fs::File::open(&lines).unwrap()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
        (output.status.success(), said)
    };
    let golden = fs::read_to_string(root.join("data/events.ecs.jsonl")).unwrap();
    let (is_good, said) = check(&golden);
    assert!(is_good && said.starts_with(&format!("{} events, ", golden.lines().count())), "{said}");
    assert!(said.contains("ECS 9.4.0"), "{said}");
    // With less known, and with addresses and names hidden.
    let (is_good, said) = check(&lines_in(Format::Ecs));
    assert!(is_good, "{said}");
    // It finds what is wrong.
    for (right, wrong, told) in [
        ("\"dataset\"", "\"data_set\"", "event.data_set is no field"),
        ("\"severity\":1", "\"severity\":\"1\"", "event.severity is a long"),
        ("\"category\":[\"session\"]", "\"category\":[\"sessions\"]", "event.category can not be sessions"),
        ("\"category\":[\"session\"]", "\"category\":\"session\"", "event.category is to be a list"),
        ("\"type\":[\"start\"]", "\"type\":[\"denied\"]", "event.type denied does not go with session"),
        ("\"ip\":\"203.0.113.9\"", "\"ip\":\"203.0.113\"", "source.ip is a ip"),
    ] {
        assert!(golden.contains(right), "{right}");
        let (is_good, said) = check(&golden.replacen(right, wrong, 1));
        assert!(!is_good && said.contains(told), "{wrong}: {said}");
    }
}
