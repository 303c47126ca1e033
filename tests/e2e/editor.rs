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

#[test]
fn editors_know_what_belongs_into_rules_files() {
    let Some(taplo) = taplo() else { return };
    let folder = tempfile::tempdir().unwrap();
    let init = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("init").arg(folder.path()).output().unwrap();
    assert!(init.status.success());
    for (file, right, wrong, told) in [
        ("rules/site.toml", "then  = \"observe\"", "then  = \"observ\"", "observ"),
        ("rules/site.toml", "about = ", "abuot = ", "abuot"),
        ("scenarios/site.toml", "action = \"allow\"", "action = \"alow\"", "alow"),
        ("scenarios/site.toml", "client = \"alice\"", "clinet = \"alice\"", "clinet"),
    ] {
        let output = check(&taplo, folder.path(), file);
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(right), "{file}: {right}");
        std::fs::write(&path, text.replacen(right, wrong, 1)).unwrap();
        let output = check(&taplo, folder.path(), file);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(told), "{file}: {said}");
        std::fs::write(&path, text).unwrap();
    }
}
