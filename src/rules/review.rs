//! What is no fault and yet not meant: rules that never or always match, twice the same, observed for too long; names that
//! nobody uses.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::{Cond, Leaf, range};
use super::diagnostic::{Also, Fault, Level, Spot};
use super::file::{RulesFile, Score};
use super::lex::Compare;
use super::load::is_in_force;
use super::scheme::Field;
use super::set::Rule;
use super::value::Test;
use crate::clock::Timestamp;

/// How long a rule is observed before `check` asks what came of it.
pub(crate) const OBSERVED_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Names of `[let]` and `[set]` that no condition uses.
pub(crate) fn names(file: &RulesFile) -> Vec<Fault> {
    let unused = |kind: &str, name: &str, spot: Option<Spot>| {
        let message = format!("`{name}` of [{kind}] is used by no condition");
        Fault::new(Level::Warning, "", message).at(spot)
    };
    let sets = file.scope.sets.iter().filter(|(_, set)| !set.used.get());
    let lets = file.scope.lets.iter().filter(|(_, named)| !named.used.get());
    sets.map(|(name, set)| unused("set", name, set.spot.clone()))
        .chain(lets.map(|(name, named)| unused("let", name, Some(named.spot.clone()))))
        .collect()
}

/// Everything odd about rules.
pub(crate) fn rules(rules: &[Rule], now: Timestamp) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut seen: BTreeMap<String, &Rule> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| is_in_force(rule)) {
        let warn = |message: String| Fault::new(Level::Warning, rule.name.to_string(), message).at(rule.spot.clone());
        match certain(&rule.cond) {
            Some(false) => {
                let help = Some("no request can be all of this at once".to_owned());
                found.push(warn("this rule can never match".to_owned()).with_help(help));
            }
            Some(true) if !matches!(rule.cond, Cond::Const(true)) => {
                let help = Some(
                    "one of its parts holds whatever the field is; `not_in [...]` asks for none of several values"
                        .to_owned(),
                );
                found.push(warn("this rule always matches where its fields are known".to_owned()).with_help(help));
            }
            _ => {}
        }
        let same = format!("{} {:?} {:?} {:?}", canonical(&rule.cond), rule.count, rule.unknown, rule.unless.len());
        if let Some(first) = seen.get(same.as_str()) {
            let fault = warn(format!("this rule has the same condition as `{}`", first.name));
            let also = first.spot.iter().map(|spot| Also { spot: spot.clone(), label: "the same".to_owned() });
            found.push(Fault { also: also.collect(), ..fault });
        } else {
            seen.insert(same, rule);
        }
        if rule.mode == crate::verdict::Mode::Observe && rule.since.is_some_and(|since| now.since(since) > OBSERVED_MAX)
        {
            let help = Some("look at what it reported, then enforce it or take it away".to_owned());
            found.push(warn("this rule has been observed for more than 30 days".to_owned()).with_help(help));
        }
        if let (Score::Fixed(_), Some(crate::verdict::Action::Observe)) = (rule.score, rule.then) {
            let help = Some("points alone are told as soon as they reach the first threshold".to_owned());
            found.push(warn("`then = \"observe\"` beside points tells every match".to_owned()).with_help(help));
        }
    }
    found
}

/// The condition in one spelling: what is the same reads the same.
pub(crate) fn canonical(cond: &Cond) -> String {
    let joined = |parts: &[Cond], joint: &str| {
        let mut parts: Vec<String> = parts.iter().map(canonical).collect();
        parts.sort_unstable();
        parts.dedup();
        format!("({})", parts.join(joint))
    };
    match cond {
        Cond::All(parts) => joined(parts, " && "),
        Cond::Any(parts) => joined(parts, " || "),
        Cond::Not(inner) => format!("!{}", canonical(inner)),
        Cond::Const(yes) => yes.to_string(),
        Cond::Leaf(leaf) => said(leaf),
    }
}

pub(crate) fn said(leaf: &Leaf) -> String {
    let test = match &leaf.test {
        // Sets of networks have no spelling of their own.
        Test::Within(networks) => networks.spelled(),
        Test::Matches(pattern) => format!("Matches({})", pattern.as_str()),
        other => format!("{other:?}"),
    };
    format!("{:?} {test}", leaf.field)
}

/// Whether a condition has one answer for every request. Looks at each field for itself: what two fields have to do with
/// each other is not known here.
pub(crate) fn certain(cond: &Cond) -> Option<bool> {
    match cond {
        Cond::Const(yes) => Some(*yes),
        Cond::Not(inner) => certain(inner).map(|yes| !yes),
        Cond::Leaf(leaf) => of_range(leaf),
        Cond::All(parts) => {
            let found: Vec<_> = parts.iter().map(certain).collect();
            if found.contains(&Some(false)) || contradict(parts) {
                return Some(false);
            }
            found.iter().all(|part| *part == Some(true)).then_some(true)
        }
        Cond::Any(parts) => {
            let found: Vec<_> = parts.iter().map(certain).collect();
            if found.contains(&Some(true)) || covers_all(parts) {
                return Some(true);
            }
            found.iter().all(|part| *part == Some(false)).then_some(false)
        }
    }
}

/// A comparison that the range of its field decides.
fn of_range(leaf: &Leaf) -> Option<bool> {
    let (least, most) = match leaf.test {
        Test::Int(..) => range(leaf.field).map(|range| (*range.start(), *range.end()))?,
        Test::Span(..) => (0, i64::MAX),
        _ => return None,
    };
    let (from, to) = interval(&leaf.test)?;
    if from > most || to < least {
        return Some(false);
    }
    // A field that may be unknown is not certain to be in its range.
    None
}

/// The numbers from and up to which a test holds.
fn interval(test: &Test) -> Option<(i64, i64)> {
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

/// Whether parts that must all hold leave nothing for one of their fields.
fn contradict(parts: &[Cond]) -> bool {
    let mut flat = Vec::new();
    flatten(parts, &mut flat);
    let mut numbers: BTreeMap<Field, (i64, i64)> = BTreeMap::new();
    let mut texts: BTreeMap<Field, Vec<&str>> = BTreeMap::new();
    for (leaf, negated) in &flat {
        if flat.iter().any(|(other, against)| negated != against && said(leaf) == said(other)) {
            return true;
        }
        if *negated {
            continue;
        }
        if let Some((from, to)) = interval(&leaf.test) {
            let left = numbers.entry(leaf.field).or_insert((i64::MIN, i64::MAX));
            *left = (left.0.max(from), left.1.min(to));
            if left.0 > left.1 {
                return true;
            }
        }
        let allowed: Vec<&str> = match &leaf.test {
            Test::Equals(text) if leaf.field != Field::ClientLanguages => vec![text],
            Test::OneOf(list) => list.iter().map(|text| &**text).collect(),
            _ => continue,
        };
        let left = texts.entry(leaf.field).or_insert_with(|| allowed.clone());
        left.retain(|text| allowed.iter().any(|one| one.eq_ignore_ascii_case(text)));
        if left.is_empty() {
            return true;
        }
    }
    false
}

/// Whether one of the parts holds whatever a field is, if only it is known: `a != "x" || a != "y"`.
fn covers_all(parts: &[Cond]) -> bool {
    let mut flat = Vec::new();
    flatten_with(parts, &mut flat, |part| if let Cond::Any(inner) = part { Some(inner) } else { None });
    flat.iter().enumerate().any(|(at, (leaf, negated))| {
        flat.iter().skip(at + 1).any(|(other, against)| {
            let same_field = leaf.field == other.field;
            let both_not = *negated
                && *against
                && matches!((&leaf.test, &other.test), (Test::Equals(one), Test::Equals(two)) if !one.eq_ignore_ascii_case(two));
            same_field && (both_not || (negated != against && said(leaf) == said(other)))
        })
    })
}

fn flatten<'c>(parts: &'c [Cond], into: &mut Vec<(&'c Leaf, bool)>) {
    flatten_with(parts, into, |part| if let Cond::All(inner) = part { Some(inner) } else { None });
}

/// The comparisons of parts, and of those parts within them that `opens` opens.
fn flatten_with<'c>(parts: &'c [Cond], into: &mut Vec<(&'c Leaf, bool)>, opens: fn(&'c Cond) -> Option<&'c Vec<Cond>>) {
    for part in parts {
        if let Some(inner) = opens(part) {
            flatten_with(inner, into, opens);
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
