//! Why a rule matched or did not: every comparison with the value it saw.

use std::collections::BTreeMap;

use super::check::Cond;
use super::compile::meaning;
use super::scheme::{Field, Phase};
use super::set::{Rule, RuleSet};
use super::value::{Facts, OwnedValue, Value};
use crate::clock::Timestamp;

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
        for cond in std::iter::once(&self.cond).chain(&self.unless) {
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
            excused: self.unless.iter().any(|tune| meaning(tune, facts, zone) == Some(true)),
            compared,
        }
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
        let excused = self.unless.iter().any(|tune| meaning(tune, facts, zone) == Some(true));
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
            rule.cond = flip(&rule.cond, &mut at);
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

/// What was known of a request, kept: every field that was known, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// When it came.
    pub at: Timestamp,
    /// What was known.
    pub fields: BTreeMap<String, OwnedValue>,
    host: Vec<super::scheme::HostFact>,
}

impl Recorded {
    /// Everything that is known at a phase.
    pub fn of<F: Facts + ?Sized>(facts: &F, phase: Phase, set: &RuleSet) -> Self {
        let host = (0..set.host().len()).filter_map(|at| u16::try_from(at).ok()).map(Field::Host);
        let fields = Field::all().chain(host).filter(|field| field.phase() <= phase && !field.is_clock());
        let known = fields.map(|field| (field, facts.value(field)));
        // A signal that was not raised is 0, and so are most of them.
        let known = known.filter(|(field, value)| {
            value.is_known() && !(matches!(field, Field::Signal(_)) && *value == Value::Int(0))
        });
        let fields = known.map(|(field, value)| (field.name(set.host()), OwnedValue::from(value))).collect();
        Self { at: facts.now(), fields, host: set.host().to_vec() }
    }

    /// A record read back.
    pub const fn new(at: Timestamp, fields: BTreeMap<String, OwnedValue>, host: Vec<super::scheme::HostFact>) -> Self {
        Self { at, fields, host }
    }
}

impl Facts for Recorded {
    fn value(&self, field: Field) -> Value<'_> {
        match self.fields.get(&field.name(&self.host)) {
            Some(value) => value.as_value(),
            None if matches!(field, Field::Signal(_)) => Value::Int(0),
            None => Value::Unknown,
        }
    }

    fn now(&self) -> Timestamp {
        self.at
    }
}
