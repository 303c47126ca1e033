//! What the scripts around the tests do when something is missing.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// A fresh machine had no C++ compiler, and the fuzz targets were never compiled where everything must pass.
#[test]
fn fuzz_targets_that_can_not_be_built_are_a_failure_where_everything_must_pass() {
    let tools = tempfile::tempdir().unwrap();
    for tool in ["dirname", "true"] {
        let known = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(tool));
        symlink(known.iter().find(|path| path.exists()).unwrap(), tools.path().join(tool)).unwrap();
    }
    let lint = |must: Option<&str>| {
        let mut command = Command::new("/bin/sh");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workspaces"));
        // Nothing is compiled here: what happens without a compiler is asked alone.
        command.env_clear().env("PATH", tools.path()).env("CARGO", "true");
        command.envs(must.map(|name| (name, "1")));
        let output = command.output().unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(told.contains("without a C++ compiler the fuzz targets"), "{told}");
        output.status.code()
    };
    assert_eq!(lint(None), Some(0));
    assert_eq!(lint(Some("PORTCULLIS_TEST_ALL")), Some(1));
    assert_eq!(lint(Some("CI")), Some(1));
}
