//! Conditions that have one answer for every request, with the comparisons that make it so.
//!
//! Of two comparisons of one field it is asked whether one implies that the other does not hold. What two fields have to do
//! with each other is not known here.

use std::collections::BTreeMap;

use super::check::{Cond, Leaf, range};
use super::compile::Normal;
use super::imply::{excludes, excludes_each, over};
use super::scheme::Field;
use super::value::Test;

/// The one answer of a condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Certain<'c> {
    /// Whether it holds wherever its fields are known, or nowhere.
    pub(crate) holds: bool,
    /// The comparison that decides it; none if no comparison does.
    pub(crate) by: Option<&'c Leaf>,
    /// The earlier one that it has to do with, if it does not decide alone.
    pub(crate) with: Option<&'c Leaf>,
}

impl<'c> Certain<'c> {
    const fn new(holds: bool, by: Option<&'c Leaf>, with: Option<&'c Leaf>) -> Self {
        Self { holds, by, with }
    }
}

/// A comparison, and whether it is negated.
type Part<'c> = (&'c Leaf, bool);

/// Whether a condition has one answer for every request. When there are no steps left, nothing is claimed.
pub(crate) fn certain<'c>(cond: &'c Cond, steps: &mut usize) -> Option<Certain<'c>> {
    of(&Normal::of(cond, false), steps)
}

fn of<'c>(form: &Normal<'c>, steps: &mut usize) -> Option<Certain<'c>> {
    match form {
        Normal::Const(yes) => Some(Certain::new(*yes, None, None)),
        Normal::Leaf(leaf, negated) => of_range((&***leaf, *negated)),
        Normal::All(parts) => joined(parts, false, steps).or_else(|| together(parts, false, steps)),
        Normal::Any(parts) => joined(parts, true, steps).or_else(|| together(parts, true, steps)),
    }
}

/// One part that is `by` decides; and so do all together that are the opposite.
fn joined<'c>(parts: &[Normal<'c>], by: bool, steps: &mut usize) -> Option<Certain<'c>> {
    let mut last = None;
    let mut are_all_certain = true;
    for part in parts {
        match of(part, steps) {
            Some(found) if found.holds == by => return Some(found),
            Some(found) => last = Some(found),
            None => are_all_certain = false,
        }
    }
    last.filter(|_| are_all_certain)
}

/// A comparison that the range of its field decides.
fn of_range((leaf, negated): Part<'_>) -> Option<Certain<'_>> {
    let (least, most) = match leaf.test {
        Test::Int(..) => range(leaf.field).map(|range| (*range.start(), *range.end()))?,
        Test::Span(..) => (0, i64::MAX),
        _ => return None,
    };
    let holds = over((least, most), (&leaf.test, negated))?;
    // An app may answer with a status that HTTP has no use for.
    let is_sure = !holds || leaf.field != Field::ResponseStatus;
    is_sure.then(|| Certain::new(holds, Some(leaf), None))
}

/// Parts of which one holds whatever a field is, if only it is known, or that no field meets together. The first is the second
/// with each part turned round.
fn together<'c>(parts: &[Normal<'c>], is_any: bool, steps: &mut usize) -> Option<Certain<'c>> {
    let mut flat = Vec::new();
    flatten(parts, is_any, &mut flat);
    let mut fields: BTreeMap<Field, Vec<Part<'c>>> = BTreeMap::new();
    for part in flat {
        let second = if let Test::Field(_, second) = part.0.test { Some(second) } else { None };
        for field in [Some(part.0.field), second].into_iter().flatten() {
            let earlier = fields.entry(field).or_default();
            // `known(a) || a == 1` is no more than `known(a)`, and that may be asked.
            let is_odd = |other: &Part<'_>| is_any && is_known(part.0) != is_known(other.0);
            if let Some((with, _)) = earlier.iter().find(|other| !is_odd(other) && excludes(**other, part, steps)) {
                return Some(Certain::new(is_any, Some(part.0), Some(with)));
            }
            earlier.push(part);
        }
    }
    fields.values().find_map(|parts| {
        parts.iter().enumerate().filter(|(_, (_, negated))| !negated).find_map(|(at, (list, _))| {
            let others = |place: &usize| *place != at;
            let others: Vec<Part<'c>> =
                (0..parts.len()).filter(others).filter_map(|at| parts.get(at).copied()).collect();
            let last = excludes_each(list, &others, steps)?;
            let (other, _) = others.get(last)?;
            let (by, with) = if last >= at { (*other, *list) } else { (*list, *other) };
            Some(Certain::new(is_any, Some(by), Some(with)))
        })
    })
}

const fn is_known(leaf: &Leaf) -> bool {
    matches!(leaf.test, Test::Known)
}

/// The comparisons of parts and of those within them that are joined alike, in the order of the text. With `turned` each as its
/// opposite.
fn flatten<'c>(parts: &[Normal<'c>], turned: bool, into: &mut Vec<Part<'c>>) {
    for part in parts {
        match part {
            Normal::Leaf(leaf, negated) => into.push((&***leaf, *negated != turned)),
            Normal::Any(inner) if turned => flatten(inner, turned, into),
            Normal::All(inner) if !turned => flatten(inner, turned, into),
            Normal::Any(_) | Normal::All(_) | Normal::Const(_) => {}
        }
    }
}
