//! Conditions that have one answer for every request, with the comparisons that make it so.
//!
//! Each field is looked at for itself: what two fields have to do with each other is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check::{Cond, Leaf, range};
use super::lex::Compare;
use super::scheme::Field;
use super::table::{Texts, folded};
use super::value::Test;

/// The one answer of a condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Certain<'c> {
    /// Whether it always holds, where its fields are known, or never.
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

/// Whether a condition has one answer for every request.
pub(crate) fn certain(cond: &Cond) -> Option<Certain<'_>> {
    match cond {
        Cond::Const(yes) => Some(Certain::new(*yes, None, None)),
        Cond::Not(inner) => certain(inner).map(|found| Certain { holds: !found.holds, ..found }),
        Cond::Leaf(leaf) => of_range(leaf),
        Cond::All(parts) => joined(parts, false).or_else(|| contradiction(parts)),
        Cond::Any(parts) => joined(parts, true).or_else(|| covers_all(parts)),
    }
}

/// One part that is `by` decides; and so do all together that are the opposite.
fn joined(parts: &[Cond], by: bool) -> Option<Certain<'_>> {
    let mut last = None;
    let mut are_all_certain = true;
    for part in parts {
        match certain(part) {
            Some(found) if found.holds == by => return Some(found),
            Some(found) => last = Some(found),
            None => are_all_certain = false,
        }
    }
    last.filter(|_| are_all_certain)
}

/// A comparison that the range of its field decides.
fn of_range(leaf: &Leaf) -> Option<Certain<'_>> {
    let (least, most) = match leaf.test {
        Test::Int(..) => range(leaf.field).map(|range| (*range.start(), *range.end()))?,
        Test::Span(..) => (0, i64::MAX),
        _ => return None,
    };
    let (from, to) = interval(&leaf.test)?;
    // A field that may be unknown is not certain to be in its range.
    (from > most || to < least).then(|| Certain::new(false, Some(leaf), None))
}

/// The numbers from and up to which a test holds.
pub(crate) fn interval(test: &Test) -> Option<(i64, i64)> {
    let (op, number) = match test {
        Test::Int(op, number) => (*op, *number),
        Test::Span(op, millis) => (*op, i64::try_from(*millis).unwrap_or(i64::MAX)),
        _ => return None,
    };
    Some(match op {
        Compare::Eq => (number, number),
        Compare::Lt => (i64::MIN, number.saturating_sub(1)),
        Compare::Le => (i64::MIN, number),
        Compare::Gt => (number.saturating_add(1), i64::MAX),
        Compare::Ge => (number, i64::MAX),
        _ => return None,
    })
}

/// What is left of a number, with the comparisons that left it.
struct Left<'c> {
    from: (i64, Option<&'c Leaf>),
    to: (i64, Option<&'c Leaf>),
}

/// Parts that must all hold and leave nothing for one of their fields.
fn contradiction(parts: &[Cond]) -> Option<Certain<'_>> {
    let mut flat = Vec::new();
    flatten(parts, &mut flat, |part| if let Cond::All(inner) = part { Some(inner) } else { None });
    if let Some(found) = opposite(&flat) {
        return Some(Certain { holds: false, ..found });
    }
    let mut numbers: BTreeMap<Field, Left<'_>> = BTreeMap::new();
    let mut texts: BTreeMap<Field, Vec<(&Leaf, Arc<Texts>)>> = BTreeMap::new();
    for (leaf, _) in flat.iter().filter(|(_, negated)| !negated) {
        if let Some((from, to)) = interval(&leaf.test) {
            let left = numbers.entry(leaf.field).or_insert(Left { from: (i64::MIN, None), to: (i64::MAX, None) });
            let above = if from > left.from.0 { (from, Some(*leaf)) } else { left.from };
            let below = if to < left.to.0 { (to, Some(*leaf)) } else { left.to };
            if above.0 > below.0 {
                // One of the two bounds is this comparison's; the other was there.
                let earlier = if from > left.to.0 { left.to.1 } else { left.from.1 };
                return Some(Certain::new(false, Some(leaf), earlier));
            }
            *left = Left { from: above, to: below };
        }
        if let Some(allowed) = allowed(leaf) {
            let earlier = texts.entry(leaf.field).or_default();
            if let Some(with) = shuts_out(earlier, &allowed) {
                return Some(Certain::new(false, Some(leaf), Some(with)));
            }
            if earlier.iter().all(|(_, known)| *known != allowed) {
                earlier.push((leaf, allowed));
            }
        }
    }
    None
}

/// The whole texts that a comparison allows.
fn allowed(leaf: &Leaf) -> Option<Arc<Texts>> {
    match &leaf.test {
        Test::Equals(text) if leaf.field != Field::ClientLanguages => Some(Texts::new([&**text], leaf.case)),
        Test::OneOf(list) => Some(list.clone()),
        _ => None,
    }
}

/// The last of the earlier comparisons that had a text in common with this one, if now none is left.
fn shuts_out<'c>(earlier: &[(&'c Leaf, Arc<Texts>)], allowed: &Arc<Texts>) -> Option<&'c Leaf> {
    let last = earlier.last().map(|(leaf, _)| *leaf)?;
    let alone = earlier.iter().find(|(_, list)| !have_common(&[list, allowed]));
    let all: Vec<&Arc<Texts>> = earlier.iter().map(|(_, list)| list).chain([allowed]).collect();
    alone.map(|(leaf, _)| *leaf).or_else(|| (!have_common(&all)).then_some(last))
}

fn have_common(lists: &[&Arc<Texts>]) -> bool {
    let Some(shortest) = lists.iter().min_by_key(|list| list.len()) else { return true };
    shortest.iter().any(|text| lists.iter().all(|list| list.has_folded(text)))
}

/// A comparison and its opposite among parts of one joint.
fn opposite<'c>(flat: &[(&'c Leaf, bool)]) -> Option<Certain<'c>> {
    let mut seen: BTreeMap<(Field, &Test, bool), &'c Leaf> = BTreeMap::new();
    for (leaf, negated) in flat {
        if let Some(earlier) = seen.get(&(leaf.field, &leaf.test, !negated)) {
            return Some(Certain::new(true, Some(leaf), Some(earlier)));
        }
        seen.entry((leaf.field, &leaf.test, *negated)).or_insert(leaf);
    }
    None
}

/// Parts of which one holds whatever a field is, if only it is known: `a != "x" || a != "y"`.
fn covers_all(parts: &[Cond]) -> Option<Certain<'_>> {
    let mut flat = Vec::new();
    flatten(parts, &mut flat, |part| if let Cond::Any(inner) = part { Some(inner) } else { None });
    if let Some(found) = opposite(&flat) {
        return Some(found);
    }
    let mut unequal: BTreeMap<Field, (&Leaf, Box<str>)> = BTreeMap::new();
    for (leaf, _) in flat.iter().filter(|(_, negated)| *negated) {
        // One of several languages may be another.
        let Test::Equals(text) = &leaf.test else { continue };
        let text = folded(text, leaf.case);
        match unequal.get(&leaf.field) {
            Some((earlier, other)) if *other != text && leaf.field != Field::ClientLanguages => {
                return Some(Certain::new(true, Some(leaf), Some(earlier)));
            }
            Some(_) => {}
            None => drop(unequal.insert(leaf.field, (leaf, text))),
        }
    }
    None
}

/// The comparisons of parts, and of those parts within them that `opens` opens, in the order of the text.
fn flatten<'c>(parts: &'c [Cond], into: &mut Vec<(&'c Leaf, bool)>, opens: fn(&'c Cond) -> Option<&'c Vec<Cond>>) {
    for part in parts {
        if let Some(inner) = opens(part) {
            flatten(inner, into, opens);
            continue;
        }
        match part {
            Cond::Leaf(leaf) => into.push((leaf, false)),
            Cond::Not(inner) => {
                if let Cond::Leaf(leaf) = &**inner {
                    into.push((leaf, true));
                }
            }
            Cond::All(_) | Cond::Any(_) | Cond::Const(_) => {}
        }
    }
}
