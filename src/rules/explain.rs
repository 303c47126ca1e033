//! Why a rule matched or did not: every comparison with the value it saw.

use std::sync::Arc;

use super::check::Cond;
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

    /// How many comparisons its condition has.
    pub fn comparisons(&self) -> usize {
        let mut count = 0;
        self.cond.leaves(&mut |_| count += 1);
        count
    }

    /// The text of one of them, and its place.
    pub fn comparison(&self, at: usize) -> Option<(String, String)> {
        let mut all = Vec::new();
        self.cond.leaves(&mut |leaf| all.push(leaf));
        all.get(at).map(|leaf| {
            let spot = leaf.origin.spot(&leaf.span);
            (leaf.text().to_owned(), format!("{}:{}:{}", spot.file, spot.line, spot.column))
        })
    }

    /// What its condition comes to, tunes included, by three-valued logic.
    pub fn outcome<F: Facts + ?Sized>(&self, facts: &F) -> Option<bool> {
        let zone = self.zone.as_ref();
        let excused = self.is_excused(facts);
        if excused { Some(false) } else { meaning(&self.cond, facts, zone) }
    }
}

impl RuleSet {
    /// The same set with one comparison of one rule turned into its opposite: for tests of tests.
    #[must_use]
    pub fn mutated(&self, rule: usize, comparison: usize) -> Self {
        let mut rules = self.rules().to_vec();
        if let Some(rule) = rules.get_mut(rule) {
            let mut at = comparison;
            rule.cond = Arc::new(flip(&rule.cond, &mut at));
        }
        Self::new(rules, self.host().into())
    }
}

/// The condition with its `at`-th comparison negated.
fn flip(cond: &Cond, at: &mut usize) -> Cond {
    let mut each = |parts: &[Cond]| parts.iter().map(|part| flip(part, at)).collect::<Vec<_>>();
    match cond {
        Cond::All(parts) => Cond::All(each(parts)),
        Cond::Any(parts) => Cond::Any(each(parts)),
        Cond::Not(inner) => Cond::Not(Box::new(flip(inner, at))),
        Cond::Const(yes) => Cond::Const(*yes),
        Cond::Leaf(leaf) => {
            let this = *at == 0;
            *at = at.wrapping_sub(1);
            let leaf = Cond::Leaf(leaf.clone());
            if this { Cond::Not(Box::new(leaf)) } else { leaf }
        }
    }
}
