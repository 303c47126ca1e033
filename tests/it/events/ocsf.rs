//! Lines in OCSF, checked against the schema as its makers publish it.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use portcullis::event::encode::Format;

use super::programs::python;
use super::variants::lines_in;

#[test]
fn lines_in_ocsf_fit_the_schema_of_their_class() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let Some(python) = python("ocsf_json_schema") else { return };
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let lines = folder.path().join("lines");
        fs::write(&lines, text).unwrap();
        let mut command = Command::new(&python);
        let output =
            command.arg(root.join("e2e/ocsf/validate.py")).stdin(File::open(&lines).unwrap()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
        (output.status.success(), said)
    };
    // Every kind.
    let golden = fs::read_to_string(root.join("data/events.ocsf.jsonl")).unwrap();
    let (is_good, said) = check(&golden);
    assert!(is_good, "{said}");
    for class in ["2004:", "3002:", "4002:", "6002:", "6003:", "6008:"] {
        assert!(said.contains(class), "{said}");
    }
    // With less known, and with addresses and names hidden.
    let (is_good, said) = check(&lines_in(Format::Ocsf));
    assert!(is_good, "{said}");
    // It finds what is wrong.
    for (right, wrong) in [
        ("\"severity_id\":", "\"severity_number\":"),
        ("\"class_uid\":2004", "\"class_uid\":2104"),
        ("\"time\":1795257972045", "\"time\":\"2026-11-21\""),
        ("\"ip\":\"203.0.113.9\"", "\"ip\":203"),
    ] {
        assert!(golden.contains(right), "{right}");
        assert!(!check(&golden.replacen(right, wrong, 1)).0, "{wrong}");
    }
}
