//! Rules that the real minisign has signed, by the commands that the guard and its manual give.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use portcullis::clock::Timestamp;
use portcullis::config::{Faults, Loaded, Request, load};

/// Runs minisign in a folder; none if it is not installed, unless everything must be tested.
fn minisign(folder: &Path, words: &[&str]) -> Option<Output> {
    if let Ok(output) = Command::new("minisign").args(words).current_dir(folder).output() {
        return Some(output);
    }
    let must = std::env::var_os("PORTCULLIS_TEST_ALL").is_some();
    assert!(!must, "minisign is not installed: run tests/install");
    eprintln!("skipped: minisign is not installed (run tests/install)");
    None
}

#[test]
fn rules_signed_by_the_real_program_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // Without a password, for nobody is there to type it.
    let Some(made) = minisign(folder.path(), &["-G", "-W", "-p", "rules.pub", "-s", "rules.key"]) else { return };
    assert!(made.status.success(), "{made:?}");
    let public = fs::read_to_string(at("rules.pub")).unwrap();
    let text = format!(
        "[upstream]\nurl = \"http://127.0.0.1:8000\"\n[rules]\nfiles = [\"rules/*.toml\"]\nsigned_by = [\"{}\"]\n",
        public.lines().nth(1).unwrap()
    );
    fs::write(at("portcullis.toml"), text).unwrap();
    fs::create_dir(at("rules")).unwrap();
    let rules = "version = 1\nname = \"shop\"\n[[rule]]\nid = \"tor\"\nwhen = 'client.is_tor'\nthen = \"deny\"\n";
    fs::write(at("rules/shop.toml"), rules).unwrap();
    let sign = |more: &[&str], comment: &str| {
        let words = [more, &["-S", "-W", "-s", "rules.key", "-m", "rules/shop.toml", "-t", comment]].concat();
        let signed = minisign(folder.path(), &words).unwrap();
        assert!(signed.status.success(), "{signed:?}");
    };
    let request = Request { file: Some(at("portcullis.toml")), ..Request::default() };
    let loaded = || -> Result<Loaded, Faults> { load(&request, Timestamp::from_secs(1_795_257_972)).loaded };
    let refused = |why: &str| {
        let told = loaded().unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    };
    refused("-t \"portcullis:counter=N file=rules/shop.toml\"");
    sign(&[], "portcullis:counter=2026112801 file=rules/shop.toml");
    let signed = loaded().unwrap().rules.signed().to_vec();
    assert_eq!((signed.len(), signed[0].counter), (1, 2_026_112_801));
    sign(&["-l"], "portcullis:counter=2026112801 file=rules/shop.toml");
    refused("a signature of an old kind (legacy)");
    sign(&[], "a comment of another kind");
    refused("does not say which state of the file this is");
    sign(&[], "portcullis:counter=2026112802 file=rules/shop.toml");
    fs::write(at("rules/shop.toml"), rules.replace("deny", "observe")).unwrap();
    refused("is not what was signed");
}
