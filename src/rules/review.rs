//! What is no fault and yet not meant: rules that never or always match, twice the same, hidden behind others, observed for
//! too long; names that nobody uses.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::canonical::Canonical;
use super::certain::{Certain, certain};
use super::check::{Cond, Leaf};
use super::compile::Unknown;
use super::diagnostic::{Also, Fault, Level, Spot};
use super::file::{Count, RulesFile, Score};
use super::gathered::Gathered;
use super::hidden::hidden;
use super::load::is_in_force;
use super::set::Rule;
use super::value::Test;
use crate::clock::Timestamp;
use crate::verdict::{Action, Mode};

/// How long a rule is observed before `check` asks what came of it.
pub(crate) const OBSERVED_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Steps that are taken to find conditions with one answer, in all rules: what takes longer is not claimed.
const STEPS_MAX: usize = 2_000_000;

/// Names of `[let]` and `[set]` that no condition uses.
pub(crate) fn names(file: &RulesFile) -> Vec<Fault> {
    let unused = |kind: &str, name: &str, spot: &Spot| {
        let message = format!("`{name}` of [{kind}] is used by no condition");
        Fault::new(Level::Warning, "", message).at(Some(spot.clone()))
    };
    let sets = file.scope.sets.iter().filter(|(_, set)| !set.used.get());
    let lets = file.scope.lets.iter().filter(|(_, named)| !named.used.get());
    sets.map(|(name, set)| unused("set", name, &set.spot))
        .chain(lets.map(|(name, named)| unused("let", name, &named.spot)))
        .collect()
}

/// Everything odd about rules.
pub(crate) fn rules(rules: &[Rule], now: Timestamp) -> Gathered {
    let mut found = Gathered::default();
    let mut seen: BTreeMap<Same<'_>, &Rule> = BTreeMap::new();
    // Those that something is to be said of which says more than that another does as much.
    let mut sound = Vec::new();
    let mut steps = STEPS_MAX;
    for rule in rules.iter().filter(|rule| is_in_force(rule)) {
        let before = found.len();
        found.extend(certain(&rule.cond, &mut steps).and_then(|certain| decided(rule, certain)));
        let first = *seen.entry(Same::of(rule)).or_insert(rule);
        if !std::ptr::eq(first, rule) {
            let fault = warn(rule, format!("this rule has the same condition as `{}`", first.name));
            found.push(beside(fault, first, "the same"));
        }
        if found.len() == before {
            sound.push(rule);
        }
        if rule.mode == Mode::Observe && rule.since.is_some_and(|since| now.since(since) > OBSERVED_MAX) {
            let help = Some("look at what it reported, then enforce it or take it away".to_owned());
            found.push(warn(rule, "this rule has been observed for more than 30 days".to_owned()).with_help(help));
        }
        if rule.mode == Mode::Observe && rule.since.is_none() {
            let help = day(now).map(|day| format!("add `since = {day}`: after 30 days `check` asks what came of it"));
            found.push(warn(rule, "this rule is observed, and does not say since when".to_owned()).with_help(help));
        }
        if let (Score::Fixed(_), Some(Action::Observe)) = (rule.score, rule.then) {
            let help = Some("points alone are told as soon as they reach the first threshold".to_owned());
            found.push(warn(rule, "`then = \"observe\"` beside points tells every match".to_owned()).with_help(help));
        }
    }
    found.extend(hidden(&sound).into_iter().filter_map(|(at, behind)| {
        let (rule, behind) = (sound.get(at)?, sound.get(behind)?);
        let message =
            format!("this rule does nothing: whenever it matches, `{}` does too and asks for as much", behind.name);
        let then = behind.then.map(|then| then.to_string()).unwrap_or_default();
        Some(beside(warn(rule, message), behind, &format!("asks for {then} whenever that one matches")))
    }));
    found
}

/// The day in UTC.
fn day(now: Timestamp) -> Option<jiff::civil::Date> {
    let now = jiff::Timestamp::from_millisecond(i64::try_from(now.as_millis()).ok()?).ok()?;
    Some(now.to_zoned(TimeZone::UTC).date())
}

fn warn(rule: &Rule, message: String) -> Fault {
    Fault::new(Level::Warning, rule.name.to_string(), message).at(rule.spot.clone())
}

/// A fault with another rule beside it.
fn beside(fault: Fault, other: &Rule, label: &str) -> Fault {
    let also = other.spot.iter().map(|spot| Also { spot: spot.clone(), label: label.to_owned() });
    Fault { also: also.collect(), ..fault }
}

/// What makes two rules do the same: the second is one too many.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Same<'r> {
    cond: Canonical<'r>,
    count: Option<Count>,
    unknown: Unknown,
    tunes: usize,
    zone: Option<&'r str>,
}

impl<'r> Same<'r> {
    fn of(rule: &'r Rule) -> Self {
        let mut reads_clock = false;
        rule.cond.leaves(&mut |leaf| reads_clock |= leaf.field.is_clock());
        let zone = rule.zone.as_ref().filter(|_| reads_clock).and_then(TimeZone::iana_name);
        let (count, unknown, tunes) = (rule.count, rule.unknown, rule.unless.len());
        Self { cond: Canonical::of(&rule.cond), count, unknown, tunes, zone }
    }
}

/// What is told of a condition that has one answer: at the comparisons that make it so.
fn decided(rule: &Rule, certain: Certain<'_>) -> Option<Fault> {
    let (message, help, label) = match certain {
        Certain { holds: true, .. } if matches!(*rule.cond, Cond::Const(true)) => return None,
        // Where a field is unknown it does match.
        Certain { holds: false, by: Some(_), .. } if rule.unknown == Unknown::Fire => return None,
        Certain { holds: true, by, with } => (
            "this rule always matches where its fields are known",
            match by.map(|leaf| &leaf.test) {
                Some(Test::Int(..) | Test::Ints(_) | Test::Span(..)) => "one of its parts holds whatever the field is",
                _ => "one of its parts holds whatever the field is; `not_in [...]` asks for none of several values",
            },
            if with.is_some() { "this or the other holds" } else { "always so" },
        ),
        Certain { with, .. } => (
            "this rule can never match",
            "no request can be all of this at once",
            if with.is_some() { "not together with the other" } else { "never so" },
        ),
    };
    let fault = warn(rule, message.to_owned()).with_help(Some(help.to_owned()));
    let Some(by) = certain.by else { return Some(fault) };
    let mut also: Vec<Also> =
        certain.with.iter().map(|leaf| Also { spot: spot(leaf), label: "the other".to_owned() }).collect();
    // A comparison of a name stands far from the rule.
    if !std::sync::Arc::ptr_eq(&by.origin, &rule.when) {
        also.extend(rule.spot.iter().map(|spot| Also { spot: spot.clone(), label: "in this rule".to_owned() }));
    }
    Some(Fault { also, label: label.to_owned(), ..fault.at(Some(spot(by))) })
}

fn spot(leaf: &Leaf) -> Spot {
    leaf.origin.spot(&leaf.span)
}
