//! Mistakes in rules, and everything that is told about each.
//!
//! They stand in one file: a text, `--`, what is told, `====`.

use std::path::Path;

use super::load::{Input, RulesText, compile};
use super::pack::Pack;
use crate::clock::Timestamp;

/// Checks every block of a file against `told`. With `PORTCULLIS_BLESS` set, writes what is told into the file instead.
pub(crate) fn golden(file: &str, at_least: usize, told: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let blocks: Vec<&str> = text.split("\n====\n").map(str::trim).filter(|block| !block.is_empty()).collect();
    assert!(blocks.len() >= at_least, "{}", blocks.len());
    let mut blessed = String::new();
    for block in blocks {
        let (mistake, expected) = block.split_once("\n--\n").unwrap_or((block, ""));
        let told = told(mistake);
        if std::env::var_os("PORTCULLIS_BLESS").is_some() {
            blessed = format!("{blessed}{mistake}\n--\n{told}\n====\n");
        } else {
            assert_eq!(told, expected, "\n{mistake}");
        }
    }
    if !blessed.is_empty() {
        std::fs::write(path, blessed).unwrap();
    }
}

fn told(text: &str) -> String {
    let files = [RulesText { path: "rules/shop.toml".into(), text: text.to_owned() }];
    let open = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    // 2026-11-21
    let now = Timestamp::from_secs(1_795_257_972);
    match compile(&Input { packs: &[vec![Pack::Baseline1]], files: &files, open: &open, now }) {
        Ok(compiled) => super::diagnostic::Faults(compiled.warnings).to_string(),
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn every_mistake_in_rules_is_told_as_a_compiler_would() {
    golden("rules/mistakes.txt", 60, told);
}

#[test]
fn no_mistake_goes_unnoticed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rules/mistakes.txt");
    let text = std::fs::read_to_string(path).unwrap();
    for block in text.split("\n====\n").map(str::trim).filter(|block| !block.is_empty()) {
        let (mistake, _) = block.split_once("\n--\n").unwrap_or((block, ""));
        assert!(!told(mistake).is_empty(), "{mistake}");
    }
}
