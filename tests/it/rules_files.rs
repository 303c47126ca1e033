//! Every rules file and scenario of the repository: read, played, covered, and each comparison tested.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::clock::Timestamp;
use portcullis::rules::{Changed, Pack};
use portcullis::scenario::Scenarios;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rules")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "toml"));
    files.sort();
    files
}

fn run(words: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[test]
fn the_gallery_is_tested_to_the_last_comparison() {
    let gallery = root().join("gallery");
    let all = files(&gallery);
    let (scenarios, rules): (Vec<_>, Vec<_>) =
        all.iter().partition(|path| path.to_str().unwrap().ends_with(".scenarios.toml"));
    let count: usize = rules.iter().map(|path| fs::read_to_string(path).unwrap().matches("[[rule]]").count()).sum();
    assert!(count >= 25, "{count} rules");
    assert_eq!(scenarios.len(), rules.len());
    let (good, said) = run(&["test", "--coverage", "--mutate", gallery.to_str().unwrap()]);
    assert!(good, "{said}");
    // Together, since one tunes the rules of another.
    let (good, said) = run(&["check", gallery.to_str().unwrap()]);
    assert!(good, "{said}");
    // What has expired by the day of the test is no fault of the gallery; what is hidden or weaker is.
    assert!(!said.contains("does nothing: ") && !said.contains("weaker"), "{said}");
    for file in rules {
        let (good, said) = run(&["fmt", "--check", file.to_str().unwrap()]);
        assert!(good, "{said}");
    }
}

#[test]
fn every_rule_of_the_baseline_catches_its_thief_and_spares_the_honest() {
    let scenarios = root().join("baseline.scenarios.toml");
    let (good, said) = run(&["test", scenarios.to_str().unwrap()]);
    assert!(good, "{said}");
    let text = fs::read_to_string(&scenarios).unwrap();
    let set = portcullis::rules::load::packs(&[Pack::Baseline1]);
    for rule in set.rules() {
        let name = rule.name.as_str();
        let id = name.trim_start_matches("baseline/");
        let named = text.matches(&format!("name = \"{id}: ")).count();
        assert!(named >= 2, "{id} has {named} scenarios");
        assert!(text.contains(&format!("rules = [\"{name}\"")), "no scenario shows that {name} matches");
    }
}

#[test]
fn no_small_change_to_a_rule_of_the_baseline_goes_unnoticed() {
    let now = Timestamp::from_secs(1_795_257_972);
    let scenarios = Scenarios::load(&root().join("baseline.scenarios.toml"), now).unwrap();
    let (count, survivors) = scenarios.mutate(Changed::All, |_, _| {}).unwrap();
    assert!(count >= 16, "{count}");
    assert!(survivors.is_empty(), "{survivors:#?}");
}
