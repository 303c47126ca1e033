//! Small changes to rules that a scenario should notice: for tests of tests.

use std::fmt;
use std::sync::Arc;

use super::check::{Cond, Leaf};
use super::set::{Rule, RuleSet};
use crate::limit::Spelled;
use crate::verdict::{Mode, Text};

/// A small change to a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The rule.
    pub rule: Text,
    /// What is changed, in the words of the file.
    pub what: String,
    /// Where that stands.
    pub place: String,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// A comparison of the condition becomes its opposite.
    Comparison(usize),
    /// One of a tune's `unless` does: which tune, which comparison.
    Excuse(usize, usize),
    /// `count.over` becomes this.
    Over(u32),
    /// `count.within` becomes half of it.
    Window,
}

/// Whose rules are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// One's own, with all tunes: the rules of packs are tested with the program.
    Own,
    /// Those of packs too.
    All,
}

impl Rule {
    /// Every small change to the rule; none if it is not in force, since nothing could notice one.
    pub fn mutations(&self, whose: Changed) -> Vec<Mutation> {
        if self.mode == Mode::Off {
            return Vec::new();
        }
        let of = |change, what, place| Mutation { rule: self.name.clone(), what, place, change };
        let turned = |leaf: &Leaf, whose: &dyn fmt::Display, change| {
            let spot = leaf.origin.spot(&leaf.span);
            let place = format!("{}:{}:{}", spot.file, spot.line, spot.column);
            of(change, format!("{whose}`{}` is turned round", leaf.text()), place)
        };
        let mut all = Vec::new();
        let is_own = !super::Pack::ALL.iter().any(|pack| self.name.as_str().starts_with(pack.family()));
        if is_own || whose == Changed::All {
            for (at, leaf) in leaves(&self.cond).into_iter().enumerate() {
                all.push(turned(leaf, &"", Change::Comparison(at)));
            }
            let place = || self.place().unwrap_or_default();
            for count in self.count.iter() {
                let more = count.over.checked_add(1);
                for over in [more, count.over.checked_sub(1)].into_iter().flatten() {
                    let what = format!("it counts over {over} instead of {}", count.over);
                    all.push(of(Change::Over(over), what, place()));
                }
                // Where the first match is one too many, the window says nothing.
                if count.over > 0 {
                    let (half, whole) = (Spelled(count.within / 2), Spelled(count.within));
                    all.push(of(Change::Window, format!("it counts within {half} instead of {whole}"), place()));
                }
            }
        }
        for (tune, (cond, _)) in self.unless.iter().enumerate() {
            for (at, leaf) in leaves(cond).into_iter().enumerate() {
                all.push(turned(leaf, &"in the `unless` of a tune ", Change::Excuse(tune, at)));
            }
        }
        all
    }

    fn mutate(&mut self, change: Change) {
        match change {
            Change::Comparison(at) => self.cond = Arc::new(flip(&self.cond, &mut Some(at))),
            Change::Excuse(tune, at) => {
                if let Some((cond, _)) = self.unless.get_mut(tune) {
                    *cond = flip(cond, &mut Some(at));
                }
            }
            // Whom a verdict on an answer holds for, and how long, stays: it is the counting that is to be tested.
            Change::Over(over) => self.count.iter_mut().for_each(|count| count.over = over),
            Change::Window => self.count.iter_mut().for_each(|count| count.within /= 2),
        }
    }
}

impl RuleSet {
    /// The same set with one rule changed; none if it does not have that rule.
    pub fn mutated(&self, mutation: &Mutation) -> Option<Self> {
        let mut rules = self.rules().to_vec();
        rules.iter_mut().find(|rule| rule.name == mutation.rule)?.mutate(mutation.change);
        Some(Self::new(rules, self.host().into()))
    }
}

fn leaves(cond: &Cond) -> Vec<&Arc<Leaf>> {
    let mut all = Vec::new();
    cond.leaves(&mut |leaf| all.push(leaf));
    all
}

/// The condition with its `at`-th comparison negated. `at` is none when that has been done.
fn flip(cond: &Cond, at: &mut Option<usize>) -> Cond {
    let mut each = |parts: &[Cond]| parts.iter().map(|part| flip(part, at)).collect::<Vec<_>>();
    match cond {
        Cond::All(parts) => Cond::All(each(parts)),
        Cond::Any(parts) => Cond::Any(each(parts)),
        Cond::Not(inner) => Cond::Not(Box::new(flip(inner, at))),
        Cond::Const(yes) => Cond::Const(*yes),
        Cond::Leaf(leaf) => {
            let this = *at == Some(0);
            *at = at.and_then(|at| at.checked_sub(1));
            let leaf = Cond::Leaf(leaf.clone());
            if this { Cond::Not(Box::new(leaf)) } else { leaf }
        }
    }
}
