//! Mistakes in rules, and everything that is told about each.
//!
//! They stand in one file: a text, `--`, what is told, `====`.

use std::path::Path;

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
