//! Scenarios: tests for rules, written beside them and played by the engine that serves requests.
//!
//! A scenario is a row of requests by made-up clients, at times that pass only when it says so, before an app that answers as
//! it says. What the guard did with each is held against what was expected.

mod file;
mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;
use crate::config::Rulebook;
use crate::rules::diagnostic::{Fault, Faults, Level, Spot};
use crate::rules::{Changed, Explained, Mutation, RuleSet};

pub use crate::rehearsal::StagingError as PlayError;
use file::ScenarioFile;

/// A file of scenarios, ready to be played.
#[derive(Debug)]
pub struct Scenarios {
    file: ScenarioFile,
    rulebook: Rulebook,
    /// What is weak or odd about its rules.
    pub warnings: Vec<Fault>,
}

/// What came of one scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: String,
    /// The first step that was not as expected; none if all were.
    pub failed: Option<Failed>,
}

/// A step that was not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Which, from 1.
    pub step: usize,
    /// Where it stands.
    pub place: String,
    /// Who sent what.
    pub sent: String,
    /// Each thing that was otherwise.
    pub differences: Vec<Difference>,
    /// The rules that matched.
    pub matched: Vec<String>,
    /// Points of this request with what was left of earlier ones.
    pub risk: Option<String>,
    /// Rules that were expected and did not match, with every comparison.
    pub explained: Vec<Explained>,
}

/// One thing that was otherwise than expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `action`, `events` ...
    pub what: &'static str,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// Which ways of each rule the scenarios have seen.
pub type Coverage = BTreeMap<String, Covered>;

/// Which ways of a rule were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// Requests for which its condition was true.
    pub matched: usize,
    /// Requests for which it was not.
    pub passed: usize,
    /// File and line.
    pub place: Option<String>,
}

impl Covered {
    /// Whether both ways were seen.
    pub const fn is_full(&self) -> bool {
        self.matched > 0 && self.passed > 0
    }
}

impl Scenarios {
    /// Reads a file of scenarios and the rules that it names.
    ///
    /// # Errors
    /// When a file can not be read, or anything in one is wrong: all faults at once.
    pub fn load(path: &Path, now: Timestamp) -> Result<Self, Faults> {
        let text = crate::config::read_text(path).map_err(|why| {
            let why = format!("{} can not be read: {why}", path.display());
            Faults(vec![Fault::new(Level::Fault, "", why)])
        })?;
        let (file, faults) = file::read(path, &text, now);
        let rulebook = Rulebook::load(&file.settings, now);
        let mut all = faults;
        let rulebook = match rulebook {
            Ok(rulebook) => Some(rulebook),
            Err(mut more) => {
                all.append(&mut more.0);
                None
            }
        };
        if let Some(rulebook) = &rulebook {
            all.extend(file.unknown_rules(rulebook));
        }
        let faults = Faults::sorted(all);
        match rulebook {
            Some(rulebook) if !faults.is_fatal() => {
                let warnings = rulebook.warnings().to_vec();
                Ok(Self { file, rulebook, warnings })
            }
            _ => Err(faults),
        }
    }

    /// Whether a text is one of scenarios, and not of rules.
    pub fn is_one(text: &str) -> bool {
        crate::config::is_scenarios(text)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.file.scenarios.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.file.scenarios.is_empty()
    }

    /// The rules that are in force in them.
    pub fn rules(&self) -> std::sync::Arc<RuleSet> {
        self.rulebook.main()
    }

    /// Plays all of them.
    ///
    /// # Errors
    /// When the settings do not go together, or the machine gives no thread.
    pub fn play(&self) -> Result<(Vec<Played>, Coverage), PlayError> {
        self.play_with(&self.rulebook)
    }

    /// Plays all of them with one small change to a rule after another: each comparison turned round, also those of tunes;
    /// one more and one less counted, and within half of the window. `tell` hears how far it is. What no scenario notices comes
    /// back with the number of changes: nothing tests it.
    ///
    /// # Errors
    /// As [`play`](Self::play).
    pub fn mutate(
        &self,
        whose: Changed,
        mut tell: impl FnMut(usize, usize),
    ) -> Result<(usize, Vec<Mutation>), PlayError> {
        let all = self.rulebook.mutations(whose);
        let count = all.len();
        let mut survivors = Vec::new();
        for (done, mutation) in all.into_iter().enumerate() {
            tell(done, count);
            if self.all_pass(&self.rulebook.mutated(&mutation))? {
                survivors.push(mutation);
            }
        }
        Ok((count, survivors))
    }

    /// Whether every scenario passes under these rules; the first that does not ends it.
    fn all_pass(&self, rulebook: &Rulebook) -> Result<bool, PlayError> {
        for scenario in &self.file.scenarios {
            let mut stage = stage::Stage::set_up(&self.file, scenario, rulebook, stage::Attention::Matches)?;
            if stage.play(scenario).is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn play_with(&self, rulebook: &Rulebook) -> Result<(Vec<Played>, Coverage), PlayError> {
        let mut played = Vec::new();
        let mut coverage = Coverage::default();
        for scenario in &self.file.scenarios {
            let mut stage = stage::Stage::set_up(&self.file, scenario, rulebook, stage::Attention::All)?;
            let failed = stage.play(scenario);
            stage.cover(&mut coverage);
            played.push(Played { name: scenario.name.clone(), place: place(&scenario.spot), failed });
        }
        Ok((played, coverage))
    }

    /// The files that its rules come from.
    pub fn files(&self) -> Vec<PathBuf> {
        self.rulebook.files().cloned().collect()
    }
}

fn place(spot: &Spot) -> String {
    format!("{}:{}", spot.file, spot.line)
}
