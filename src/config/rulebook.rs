//! The rules of a configuration: its packs and its files, compiled together.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Settings;
use super::reading::Reading;
use super::signed::{Signatures, SignedFile};
use crate::clock::Timestamp;
use crate::rules::diagnostic::{Fault, Faults, Level};
use crate::rules::load::{self, Compiled, Input, RulesText};
use crate::rules::{Changed, Mutation, Pack, Rule, RuleSet};
use crate::verdict::{EventSync, Mode};

/// The rules of a configuration.
#[derive(Clone, Debug)]
pub struct Rulebook {
    lists: Vec<Vec<Pack>>,
    compiled: Compiled,
    files: Vec<PathBuf>,
    signed: Vec<SignedFile>,
}

/// Rules that have answers wait for a journal that is not there.
fn unkept(sets: &[Arc<RuleSet>]) -> Vec<Fault> {
    let waiting = |rule: &&Rule| rule.sync == EventSync::BeforeReply && rule.mode > Mode::Off;
    let mut told: Vec<&Rule> = Vec::new();
    for rule in sets.iter().flat_map(|set| set.rules()).filter(waiting) {
        if !told.iter().any(|other| other.name == rule.name) {
            told.push(rule);
        }
    }
    let help = "give the events a journal: [events] journal = { path = \"portcullis-data/events.jsonl\" }";
    let fault = |rule: &Rule| {
        let message = "answers wait for the event of this rule, and there is no journal that would keep it";
        Fault::new(Level::Warning, rule.name.to_string(), message)
            .at(rule.spot.clone())
            .with_help(Some(help.to_owned()))
    };
    told.into_iter().map(fault).collect()
}

impl Rulebook {
    /// Reads and compiles the rules that the settings name, to be looked at: nobody asks for signatures.
    ///
    /// # Errors
    /// When a file can not be read or anything in one is wrong: all faults at once.
    pub fn load(settings: &Settings, now: Timestamp) -> Result<Self, Faults> {
        Self::read(settings, now, &Reading::default(), None)
    }

    pub(super) fn read(
        settings: &Settings,
        now: Timestamp,
        reading: &Reading,
        signatures: Option<Signatures<'_>>,
    ) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let mut fault = |path: &Path, why: &io::Error| {
            let message = format!("{} can not be read: {why}", path.display());
            faults.push(Fault::new(Level::Fault, "rules.files", message));
        };
        let mut files = Vec::new();
        for pattern in &settings.rules.files {
            match reading.matches(pattern) {
                Ok(found) => files.extend(found),
                Err(why) => fault(pattern, &why),
            }
        }
        files.sort();
        files.dedup();
        let mut texts = Vec::new();
        let is_known = |path: &Path| signatures.as_ref().is_some_and(|signatures| signatures.knows(path));
        let check = |path: &Path, text: &str| signatures.as_ref().map_or(Ok(()), |signed| signed.check(path, text));
        for path in &files {
            match reading.text(path) {
                // Scenarios may lie beside the rules that they test.
                Ok(text) if is_scenarios(&text) && !settings.rules.files.contains(path) && !is_known(path) => {}
                Ok(text) => {
                    if check(path, &text).is_ok() {
                        texts.push(RulesText { path: path.clone(), text });
                    }
                }
                Err(why) => fault(path, &why),
            }
        }
        if let Some(signatures) = &signatures {
            signatures.note_gone(&settings.rules.files, &files);
            faults.append(&mut signatures.take_faults());
            // What nobody has signed is not even parsed.
            if faults.iter().any(|fault| fault.level == Level::Fault) {
                return Err(Faults(faults));
            }
        }
        let lists = settings.pack_lists();
        let open = |path: &Path| {
            let text = reading.text(path)?;
            check(path, &text).map_err(io::Error::other)?;
            Ok(text)
        };
        let compiled = load::compile(&Input { packs: &lists, files: &texts, open: &open, now });
        faults.extend(signatures.iter().flat_map(Signatures::take_faults));
        let mut compiled = match compiled {
            Ok(compiled) if !faults.iter().any(|fault| fault.level == Level::Fault) => compiled,
            Ok(_) => return Err(Faults(faults)),
            Err(mut more) => {
                faults.append(&mut more.0);
                return Err(Faults(faults));
            }
        };
        compiled.warnings.append(&mut faults);
        if settings.events.journal.is_none() {
            compiled.warnings.extend(unkept(&compiled.sets));
        }
        let signed = signatures.map(Signatures::into_files).unwrap_or_default();
        Ok(Self { lists, compiled, files, signed })
    }

    /// The packs that the settings name, without files.
    pub fn packs_of(settings: &Settings) -> Self {
        let lists = settings.pack_lists();
        let sets = lists.iter().map(|packs| load::packs(packs)).collect();
        let compiled = Compiled { sets, warnings: Vec::new(), files: Vec::new(), expires: None };
        Self { lists, compiled, files: Vec::new(), signed: Vec::new() }
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

    /// Every small change to a rule, in the order of the rules, each once.
    pub fn mutations(&self, whose: Changed) -> Vec<Mutation> {
        let mut told: Vec<&str> = Vec::new();
        let mut all = Vec::new();
        for rule in self.compiled.sets.iter().flat_map(|set| set.rules()) {
            if !told.contains(&rule.name.as_str()) && rule.mode > Mode::Off {
                told.push(rule.name.as_str());
                all.extend(rule.mutations(whose));
            }
        }
        all
    }

    /// The same with one rule changed, in every set that has it.
    #[must_use]
    pub fn mutated(&self, mutation: &Mutation) -> Self {
        let each = |set: &Arc<RuleSet>| set.mutated(mutation).map_or_else(|| set.clone(), Arc::new);
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

    /// The files whose signatures were asked for and are good, those of sets among them.
    pub fn signed(&self) -> &[SignedFile] {
        &self.signed
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
