//! The steps of all conditions of a set: small, in a row, each with where to go on. Asking them allocates nothing.
//!
//! Comparisons that several conditions have in common are asked once per request: a rule set of a thousand rules asks the same
//! few dozen questions over and over.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::check::{Cond, Leaf};
use super::compile::{InZone, Normal, Unknown};
use super::lex::Compare;
use super::scheme::{Case, Field};
use super::value::{Facts, Test, TextTest, Value, ask, ordered, says};
use crate::clock::Timestamp;

/// The condition is true.
const YES: u32 = u32::MAX;
/// The condition is false.
const NO: u32 = u32::MAX - 1;

/// Comparisons that are remembered while the rules of one request run.
const SHARED_MAX: usize = 255;

/// Answers to shared comparisons: 0 is not asked yet, then false, true, unknown.
#[derive(Debug)]
pub(crate) struct Scratch([u8; SHARED_MAX + 1]);

impl Default for Scratch {
    fn default() -> Self {
        Self([0; SHARED_MAX + 1])
    }
}

/// One test and where to go on. Two of them fit a cache line.
#[derive(Clone, Copy, Debug)]
struct Step {
    on_true: u32,
    on_false: u32,
    field: Field,
    /// The place of a shared answer; 0 for a comparison that stands here alone.
    shared: u8,
    negated: bool,
    when_unknown: bool,
    test: Quick,
}

/// What is asked of most steps, in place; the rest by its number.
#[derive(Clone, Copy, Debug)]
enum Quick {
    Is,
    Int(Compare, i64),
    /// A text in the pool.
    Text(TextTest, Case, u32, u32),
    Other(u32),
}

/// A test that is not asked in place.
#[derive(Clone, Debug)]
struct Other {
    case: Case,
    test: Test,
    zone: Option<TimeZone>,
}

/// Where a condition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(u32);

/// The steps of all conditions of a set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    steps: Vec<Step>,
    pool: String,
    others: Vec<Other>,
    /// How often each comparison occurs, and then the place of its answer.
    met: BTreeMap<Asked, usize>,
}

/// A comparison as it is told from others. Those of one field, test and zone are one.
#[derive(Clone, Debug)]
struct Asked {
    leaf: Arc<Leaf>,
    zone: Option<Box<str>>,
}

impl Asked {
    fn new(leaf: &Arc<Leaf>, zone: Option<&TimeZone>) -> Self {
        let zone = zone.filter(|_| leaf.field.is_clock()).and_then(TimeZone::iana_name);
        Self { leaf: leaf.clone(), zone: zone.map(Into::into) }
    }

    fn key(&self) -> (Field, &Test, Option<&str>) {
        (self.leaf.field, &self.leaf.test, self.zone.as_deref())
    }
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Asked {}

impl PartialOrd for Asked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Asked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Program {
    /// Meets a condition that will be added, to find out what conditions have in common.
    pub(crate) fn meet(&mut self, cond: &Cond, zone: Option<&TimeZone>) {
        cond.leaves(&mut |leaf| *self.met.entry(Asked::new(leaf, zone)).or_default() += 1);
    }

    /// All conditions were met: those that occur most are shared.
    pub(crate) fn share(&mut self) {
        let mut often: Vec<(Asked, usize)> =
            std::mem::take(&mut self.met).into_iter().filter(|(_, count)| *count > 1).collect();
        often.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        self.met = often.into_iter().take(SHARED_MAX).map(|(asked, _)| asked).zip(1..).collect();
    }

    /// Adds a condition. `zone` is that of the file, for `time.*`.
    pub(crate) fn add(&mut self, cond: &Cond, unknown: Unknown, zone: Option<&TimeZone>) -> Entry {
        let first = self.steps.len();
        let entry = self.emit(Normal::of(cond, false).arranged(), (unknown, zone), YES, NO);
        // The last part was written first: turned round, a condition is read forwards.
        let count = self.steps.len();
        let turn = |to: u32| if to >= NO { to } else { index(first + count - 1).saturating_sub(to) };
        if let Some(steps) = self.steps.get_mut(first..) {
            steps.reverse();
            for step in steps {
                (step.on_true, step.on_false) = (turn(step.on_true), turn(step.on_false));
            }
        }
        Entry(turn(entry))
    }

    fn emit(&mut self, cond: Normal<'_>, with: (Unknown, Option<&TimeZone>), on_true: u32, on_false: u32) -> u32 {
        match cond {
            Normal::Const(yes) => {
                if yes {
                    on_true
                } else {
                    on_false
                }
            }
            Normal::All(parts) => {
                parts.into_iter().rev().fold(on_true, |next, part| self.emit(part, with, next, on_false))
            }
            Normal::Any(parts) => {
                parts.into_iter().rev().fold(on_false, |next, part| self.emit(part, with, on_true, next))
            }
            Normal::Leaf(leaf, negated) => {
                let (unknown, zone) = with;
                let shared = self.met.get(&Asked::new(leaf, zone)).and_then(|at| u8::try_from(*at).ok()).unwrap_or(0);
                let step = Step {
                    field: leaf.field,
                    shared,
                    negated,
                    when_unknown: unknown == Unknown::Fire,
                    on_true,
                    on_false,
                    test: self.quick(leaf, zone),
                };
                self.steps.push(step);
                index(self.steps.len() - 1)
            }
        }
    }

    fn quick(&mut self, leaf: &Leaf, zone: Option<&TimeZone>) -> Quick {
        if !leaf.field.is_clock() {
            match &leaf.test {
                Test::Is => return Quick::Is,
                Test::Int(op, number) => return Quick::Int(*op, *number),
                Test::Span(op, millis) if i64::try_from(*millis).is_ok() => {
                    return Quick::Int(*op, i64::try_from(*millis).unwrap_or(i64::MAX));
                }
                test => {
                    if let Some((kind, text)) = test.as_text() {
                        let start = self.pool.len();
                        self.pool.push_str(text);
                        return Quick::Text(kind, leaf.case, index(start), index(self.pool.len()));
                    }
                }
            }
        }
        let zone = leaf.field.is_clock().then(|| zone.cloned().unwrap_or(TimeZone::UTC));
        self.others.push(Other { case: leaf.case, test: leaf.test.clone(), zone });
        Quick::Other(index(self.others.len() - 1))
    }

    /// Whether a condition fires. `scratch` is new for each request and phase.
    #[inline]
    pub(crate) fn fires<F: Facts + ?Sized>(&self, entry: Entry, facts: &F, scratch: &mut Scratch) -> bool {
        let mut at = entry.0;
        while let Some(step) = self.steps.get(at as usize) {
            let found = if step.shared == 0 { self.answer(step, facts) } else { self.remembered(step, facts, scratch) };
            let holds = found.map_or(step.when_unknown, |yes| yes != step.negated);
            at = if holds { step.on_true } else { step.on_false };
        }
        at == YES
    }

    #[inline]
    fn remembered<F: Facts + ?Sized>(&self, step: &Step, facts: &F, scratch: &mut Scratch) -> Option<bool> {
        let Some(place) = scratch.0.get_mut(usize::from(step.shared)) else { return self.answer(step, facts) };
        if *place == 0 {
            *place = self.answer(step, facts).map_or(3, |yes| if yes { 2 } else { 1 });
        }
        match *place {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        }
    }

    #[inline]
    fn answer<F: Facts + ?Sized>(&self, step: &Step, facts: &F) -> Option<bool> {
        match (step.test, step.field) {
            (Quick::Other(other), field) => self.others.get(other as usize).and_then(|other| other.ask(facts, field)),
            (quick, field) => match (quick, facts.value(field)) {
                (Quick::Is, Value::Bool(yes)) => Some(yes),
                (Quick::Int(op, wanted), Value::Int(number)) => Some(ordered(op, &number, &wanted)),
                (Quick::Int(op, wanted), Value::Millis(millis)) => {
                    Some(ordered(op, &i64::try_from(millis).unwrap_or(i64::MAX), &wanted))
                }
                (Quick::Text(kind, case, start, end), value) => self.text_answer(kind, case, (start, end), &value),
                _ => None,
            },
        }
    }

    #[inline]
    fn text_answer(&self, kind: TextTest, case: Case, (start, end): (u32, u32), value: &Value<'_>) -> Option<bool> {
        let wanted = self.pool.get(start as usize..end as usize)?;
        match value {
            Value::Texts(list) => Some(super::value::texts(list).any(|part| says(kind, wanted, part, case))),
            Value::Masked(masked) => masked.says(kind, wanted, case),
            value => value.as_text().map(|text| says(kind, wanted, text, case)),
        }
    }

    /// Whether two paths are the same to every test of `request.path`.
    pub(crate) fn reads_alike(&self, path: &str, other: &str) -> bool {
        let mut of_path = self.steps.iter().filter(|step| step.field == Field::RequestPath);
        of_path.all(|step| self.answer(step, &PathOnly(path)) == self.answer(step, &PathOnly(other)))
    }
}

impl Other {
    fn ask<F: Facts + ?Sized>(&self, facts: &F, field: Field) -> Option<bool> {
        match &self.zone {
            None => ask(facts, field, self.case, &self.test),
            Some(zone) => ask(&InZone { facts, zone }, field, self.case, &self.test),
        }
    }
}

/// A path and nothing else.
struct PathOnly<'p>(&'p str);

impl Facts for PathOnly<'_> {
    fn value(&self, field: Field) -> Value<'_> {
        if field == Field::RequestPath { Value::Text(self.0) } else { Value::Unknown }
    }

    fn now(&self) -> Timestamp {
        Timestamp::EPOCH
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NO).min(NO - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_fit_a_cache_line() {
        assert!(size_of::<Step>() <= 40, "{}", size_of::<Step>());
    }
}
