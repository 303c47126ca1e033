//! What `init` writes, in the eyes of the TOML checker that editors use.

use std::path::Path;
use std::process::{Command, Output};

/// Taplo, if it is installed; skipped with a note if it is not, unless everything must be tested.
fn taplo() -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/editor/node_modules/.bin/taplo");
    if path.exists() {
        return Some(path.to_str().unwrap().to_owned());
    }
    assert!(
        std::env::var_os("PORTCULLIS_TEST_ALL").is_none(),
        "{} is missing; tests/install installs it",
        path.display()
    );
    eprintln!("skipped: no Taplo; tests/install installs it");
    None
}

fn check(taplo: &str, folder: &Path, file: &str) -> Output {
    Command::new(taplo).args(["check", file]).current_dir(folder).output().unwrap()
}

/// One good line of a file that `init` wrote, and a mistake in its place.
struct Slip {
    file: &'static str,
    right: &'static str,
    wrong: &'static str,
    /// What the checker names.
    told: &'static str,
}

/// What `init` writes is good, and each slip is told.
fn each_is_told(slips: &[Slip]) {
    let Some(taplo) = taplo() else { return };
    let folder = tempfile::tempdir().unwrap();
    let init = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("init").arg(folder.path()).output().unwrap();
    assert!(init.status.success());
    for Slip { file, right, wrong, told } in slips {
        let output = check(&taplo, folder.path(), file);
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(right), "{file}: {right}");
        std::fs::write(&path, text.replacen(right, wrong, 1)).unwrap();
        let output = check(&taplo, folder.path(), file);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(told), "{file}: {wrong}: {said}");
        std::fs::write(&path, text).unwrap();
    }
}

#[test]
fn editors_know_what_belongs_into_rules_files() {
    let (rules, scenarios) = ("rules/site.toml", "scenarios/site.toml");
    each_is_told(&[
        Slip { file: rules, right: "then  = \"observe\"", wrong: "then  = \"observ\"", told: "observ" },
        Slip { file: rules, right: "about = ", wrong: "abuot = ", told: "abuot" },
        Slip { file: scenarios, right: "action = \"allow\"", wrong: "action = \"alow\"", told: "alow" },
        Slip { file: scenarios, right: "client = \"alice\"", wrong: "clinet = \"alice\"", told: "clinet" },
    ]);
}

#[test]
fn editors_know_what_belongs_into_the_configuration() {
    let slip = |right, wrong, told| Slip { file: "portcullis.toml", right, wrong, told };
    each_is_told(&[
        slip("version = 1", "version = 2", "2"),
        slip("format = \"json\"", "format = \"jsn\"", "jsn"),
        slip("[client]\n", "[client]\nheader_timeout = \"10\"\n", "\"10\""),
        slip("[client]\n", "[client]\nheaders_max = \"100\"\n", "headers_max"),
        slip("[limits]\n", "[limits]\nclient = \"100/s\"\n", "100/s"),
        slip("[session]\n", "[session]\nidel = \"30m\"\n", "idel"),
        slip("address = \"127.0.0.1:8080\"", "http2 = true", "address"),
        slip("[[events.sink]]\n", "[[events.sink]]\npath = \"events.jsonl\"\n", "path"),
    ]);
}

/// Dates, lists of names and tables, a word in place of a table: what a checker could take for a mistake.
#[test]
fn editors_take_what_the_guard_takes() {
    let Some(taplo) = taplo() else { return };
    let folder = tempfile::tempdir().unwrap();
    let init = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("init").arg(folder.path()).output().unwrap();
    assert!(init.status.success());
    let path = folder.path().join("portcullis.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replacen(
        "[session]\n",
        "[session]\nadopt_until = 2027-01-01\nshield = [\"a\", { name = \"b_*\", kind = \"state\" }]\n",
        1,
    );
    let more = "[[login]]\nroute = \"POST /in\"\nsuccess = { status = 200, location_not = [\"/in\"] }\nlimit = \"off\"\n\
                [[login]]\nroute = \"POST /api\"\nlimit = { per_client = \"10/1m burst 3\" }\n\
                [[route]]\npath = \"/static/**\"\nmode = \"off\"\n";
    std::fs::write(&path, text + more).unwrap();
    let guard = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("check").arg(&path).output().unwrap();
    assert!(guard.status.success(), "{}", String::from_utf8_lossy(&guard.stdout));
    let output = check(&taplo, folder.path(), "portcullis.toml");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
