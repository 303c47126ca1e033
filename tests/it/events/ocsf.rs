//! Lines in OCSF, checked against the schema as its makers publish it.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use super::programs::python;

/// The golden lines have every kind.
#[test]
fn lines_in_ocsf_fit_the_schema_of_their_class() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let Some(python) = python("ocsf_json_schema") else { return };
    let lines = File::open(root.join("data/events.ocsf.jsonl")).unwrap();
    let output = Command::new(&python).arg(root.join("e2e/ocsf/validate.py")).stdin(lines).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let told = text(&output.stdout);
    for class in ["2004:", "3002:", "4002:", "6002:", "6003:", "6008:"] {
        assert!(told.contains(class), "{told}");
    }
}
