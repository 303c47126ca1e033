//! How often each rule matched: what an operator looks at before a rule is moved from `observe` to `enforce`.

use std::collections::{BTreeMap, BTreeSet};

use super::RuleHits;
use super::ground::{Place, Played};
use crate::rules::recorded::{Line, Recorded};
use crate::rules::scheme::Field;
use crate::rules::set::Rule;
use crate::rules::value::Facts;
use crate::verdict::Mode;

/// What each rule met, by its name and its mode.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<(String, Mode), Met>);

#[derive(Debug, Default)]
struct Met {
    asks: String,
    requests: usize,
    sessions: BTreeSet<String>,
    subjects: BTreeSet<String>,
    undecided: usize,
}

impl Tally {
    /// Has a line for a rule, whatever it meets.
    pub(super) fn list(&mut self, rule: &Rule, mode: Mode) {
        self.of(rule, mode);
    }

    fn of(&mut self, rule: &Rule, mode: Mode) -> &mut Met {
        let met = self.0.entry((rule.name.to_string(), mode)).or_default();
        if met.asks.is_empty() {
            met.asks = rule.asks();
        }
        met
    }

    /// Counts a request for the rules that matched it and have this mode there.
    pub(super) fn count<'m>(
        &mut self,
        (place, mode): (&Place<'_>, Mode),
        played: &Played<'_>,
        line: &Line,
        matched: impl Iterator<Item = &'m u16>,
    ) {
        let party = super::party(played);
        for rule in matched.filter_map(|at| place.set.rule(*at)) {
            let does_something = rule.points().is_some() || rule.then.is_none_or(|then| party.feels(then));
            if place.mode.min(rule.mode) == mode && does_something {
                self.add(rule, mode, &line.facts);
            }
        }
    }

    /// Counts a request for a rule.
    pub(super) fn add(&mut self, rule: &Rule, mode: Mode, facts: &Recorded) {
        self.of(rule, mode).add(facts);
    }

    /// Counts a request that can not be decided for a rule.
    pub(super) fn undecided(&mut self, rule: &Rule, mode: Mode) {
        self.of(rule, mode).undecided += 1;
    }

    /// The lines, in the order of the rules' names.
    pub(super) fn finish(self) -> Vec<RuleHits> {
        let line = |((rule, mode), met): ((String, Mode), Met)| RuleHits {
            rule,
            asks: met.asks,
            mode,
            requests: met.requests,
            sessions: met.sessions.len(),
            subjects: met.subjects.len(),
            undecided: met.undecided,
        };
        self.0.into_iter().map(line).collect()
    }
}

impl Met {
    fn add(&mut self, facts: &Recorded) {
        self.requests += 1;
        let text = |field| facts.value(field).as_name().map(ToOwned::to_owned);
        self.sessions.extend(text(Field::SessionRef));
        self.subjects.extend(text(Field::SessionSubject));
    }
}
