//! Why a rule matched or did not: every comparison with the value it saw.

use super::compile::meaning;
use super::set::{Rule, RuleSet};
use super::value::Facts;

/// One comparison of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// As it was written.
    pub text: String,
    /// The field that it reads.
    pub field: String,
    /// What the field was; `?` for unknown.
    pub value: String,
    /// What came of it; none if the field is unknown.
    pub outcome: Option<bool>,
}

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its name.
    pub rule: String,
    /// File and line.
    pub place: Option<String>,
    /// What its condition came to, before counts; none if data was missing that would have decided.
    pub outcome: Option<bool>,
    /// Whether a tune excused it.
    pub excused: bool,
    /// Every comparison, in the order of the text.
    pub compared: Vec<Compared>,
}

impl Rule {
    /// Explains the rule for a request.
    pub fn explain<F: Facts + ?Sized>(&self, facts: &F, set: &RuleSet) -> Explained {
        let zone = self.zone.as_ref();
        let mut compared = Vec::new();
        let own = (&*self.cond, zone);
        let tunes = self.unless.iter().map(|(tune, zone)| (tune, zone.as_ref()));
        for (cond, zone) in std::iter::once(own).chain(tunes) {
            cond.leaves(&mut |leaf| {
                compared.push(Compared {
                    text: leaf.text().to_owned(),
                    field: leaf.field.name(set.host()),
                    value: leaf.value(facts, zone, |value| value.to_string()),
                    outcome: leaf.ask(facts, zone),
                });
            });
        }
        Explained {
            rule: self.name.to_string(),
            place: self.place(),
            outcome: meaning(&self.cond, facts, zone),
            excused: self.is_excused(facts),
            compared,
        }
    }

    fn is_excused<F: Facts + ?Sized>(&self, facts: &F) -> bool {
        self.unless.iter().any(|(tune, zone)| meaning(tune, facts, zone.as_ref()) == Some(true))
    }

    /// Its condition as it was written; names of `[let]` stand as names.
    pub fn written(&self) -> String {
        self.when.text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What its condition comes to, tunes included, by three-valued logic.
    pub fn outcome<F: Facts + ?Sized>(&self, facts: &F) -> Option<bool> {
        let zone = self.zone.as_ref();
        let excused = self.is_excused(facts);
        if excused { Some(false) } else { meaning(&self.cond, facts, zone) }
    }
}
