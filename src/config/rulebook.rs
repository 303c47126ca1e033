//! The rules of a configuration: its packs and its files, compiled together.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Settings;
use crate::clock::Timestamp;
use crate::rules::diagnostic::{Fault, Faults, Level};
use crate::rules::load::{self, Compiled, Input, RulesText};
use crate::rules::{FILE_BYTES_MAX, Pack, RuleSet};

/// Files that one pattern of `[rules] files` may match.
const FILES_MAX: usize = 1000;

/// The rules of a configuration.
#[derive(Clone, Debug)]
pub struct Rulebook {
    lists: Vec<Vec<Pack>>,
    compiled: Compiled,
    files: Vec<PathBuf>,
}

impl Rulebook {
    /// Reads and compiles the rules that the settings name.
    ///
    /// # Errors
    /// When a file can not be read or anything in one is wrong: all faults at once.
    pub fn load(settings: &Settings, now: Timestamp) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let mut files = Vec::new();
        for pattern in &settings.rules.files {
            match matches(pattern) {
                Ok(found) => files.extend(found),
                Err(why) => {
                    let message = format!("{} can not be read: {why}", pattern.display());
                    faults.push(Fault::new(Level::Fault, "rules.files", message));
                }
            }
        }
        files.sort();
        files.dedup();
        let mut texts = Vec::new();
        for path in &files {
            match read_text(path) {
                // Scenarios may lie beside the rules that they test.
                Ok(text) if is_scenarios(&text) && !settings.rules.files.contains(path) => {}
                Ok(text) => texts.push(RulesText { path: path.clone(), text }),
                Err(why) => {
                    let message = format!("{} can not be read: {why}", path.display());
                    faults.push(Fault::new(Level::Fault, "rules.files", message));
                }
            }
        }
        let lists = settings.pack_lists();
        let open = |path: &Path| read_text(path);
        match load::compile(&Input { packs: &lists, files: &texts, open: &open, now }) {
            Ok(compiled) if faults.is_empty() => Ok(Self { lists, compiled, files }),
            Ok(_) => Err(Faults(faults)),
            Err(mut more) => {
                faults.append(&mut more.0);
                Err(Faults(faults))
            }
        }
    }

    /// The packs that the settings name, without files.
    pub fn packs_of(settings: &Settings) -> Self {
        let lists = settings.pack_lists();
        let sets = lists.iter().map(|packs| load::packs(packs)).collect();
        let compiled = Compiled { sets, warnings: Vec::new(), files: Vec::new(), expires: None };
        Self { lists, compiled, files: Vec::new() }
    }

    /// The rules that are in force with these packs; with those of `[rules]` if no place names them.
    pub fn of(&self, packs: &[Pack]) -> Arc<RuleSet> {
        let at = self.lists.iter().position(|list| list == packs).unwrap_or(0);
        self.compiled.sets.get(at).cloned().unwrap_or_default()
    }

    /// The rules of `[rules]`.
    pub fn main(&self) -> Arc<RuleSet> {
        self.compiled.sets.first().cloned().unwrap_or_default()
    }

    /// Each set with its packs.
    pub fn sets(&self) -> impl Iterator<Item = (&[Pack], &Arc<RuleSet>)> {
        self.lists.iter().map(Vec::as_slice).zip(&self.compiled.sets)
    }

    /// The same with one comparison of one rule turned into its opposite, in every set that has it.
    #[must_use]
    pub fn mutated(&self, rule: usize, comparison: usize) -> Self {
        let name = self.main().rules().get(rule).map(|rule| rule.name.clone());
        let each = |set: &Arc<RuleSet>| {
            let at = set.rules().iter().position(|rule| Some(&rule.name) == name.as_ref());
            at.map_or_else(|| set.clone(), |at| Arc::new(set.mutated(at, comparison)))
        };
        let sets = self.compiled.sets.iter().map(each).collect();
        Self { compiled: Compiled { sets, ..self.compiled.clone() }, ..self.clone() }
    }

    /// What is weak or odd about them.
    pub fn warnings(&self) -> &[Fault] {
        &self.compiled.warnings
    }

    /// When something of them expires next: they are to be loaded again then.
    pub const fn expires(&self) -> Option<Timestamp> {
        self.compiled.expires
    }

    /// The files they were read from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().chain(&self.compiled.files)
    }
}

/// Whether a text is one of scenarios, and not of rules.
pub(crate) fn is_scenarios(text: &str) -> bool {
    text.lines().any(|line| line.trim_start().starts_with("[[scenario"))
}

/// Reads a file of text. One that is larger than [`FILE_BYTES_MAX`] is a fault, and not cut: what is cut off a set would be in
/// no rule.
///
/// # Errors
/// When it can not be read, is too large, or is no text.
pub fn read_text(path: &Path) -> io::Result<String> {
    let most = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The files that a path with `*` in its last part matches, sorted. A path without one is itself, whether it is there or not.
///
/// # Errors
/// When the folder can not be read, also because it is not there: a misspelt one, or one whose disk went away, would take all
/// rules with it.
pub(crate) fn matches(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder_has = pattern.parent().is_some_and(|folder| folder.to_string_lossy().contains('*'));
    if folder_has || name.matches('*').count() > 1 {
        return Err(io::Error::other("one `*` in the name of the file is read, and none in folders"));
    }
    let Some((head, tail)) = name.split_once('*') else { return Ok(vec![pattern.to_owned()]) };
    let folder = pattern.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let long_enough = name.len() >= head.len() + tail.len();
        // What editors leave beside a file begins with a dot.
        let fits = long_enough && name.starts_with(head) && name.ends_with(tail) && !name.starts_with('.');
        // A link that leads nowhere is a file that can not be read, and not one that is not there.
        if fits && !path.is_dir() {
            if files.len() >= FILES_MAX {
                return Err(io::Error::other(format!("more than {FILES_MAX} files match")));
            }
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
