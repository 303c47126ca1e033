//! Rules files as commands are given them: a file, or a folder of them.

use std::io;
use std::path::{Path, PathBuf};

use portcullis::config::{read_named, read_text};
use portcullis::rules::load::RulesText;
use portcullis::scenario::Scenarios;

/// The TOML files at a path, with their texts, sorted: itself, or those of a folder. Scenarios beside rules are left out.
pub(super) fn at(path: &Path) -> io::Result<Vec<RulesText>> {
    if !path.is_dir() {
        return Ok(vec![RulesText { path: path.to_owned(), text: read_named(path)? }]);
    }
    let mut files = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    files.retain(|file| file.extension().is_some_and(|kind| kind == "toml") && !file.is_dir());
    files.sort();
    let mut texts = Vec::new();
    for path in files {
        let text = read_text(&path)?;
        if !Scenarios::is_one(&text) {
            texts.push(RulesText { path, text });
        }
    }
    Ok(texts)
}
