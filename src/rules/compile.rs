//! From a condition to a row of steps, each of which says where to go on; and beside it the plain evaluator that says what a
//! condition means.
//!
//! Conditions are brought to negation normal form, and a test of an unknown field counts as false there (as true if the rule
//! says `unknown = "fire"`). That is the same as three-valued logic (Kleene, 1952) over the condition as it was written, with
//! "unknown" taken for false in the end: `and`, `or` and the thresholds between the three values commute. A property test
//! holds the two against each other.

use jiff::tz::TimeZone;

use super::check::{Cond, Leaf};
use super::scheme::{Case, Field, WEEKDAYS};
use super::value::{Facts, Short, Test, Value, ask};
use crate::clock::Timestamp;

/// What a test of an unknown field counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Missing data never fires the rule.
    #[default]
    Silent,
    /// Missing data counts as a match.
    Fire,
}

/// The condition is true.
const YES: u32 = u32::MAX;
/// The condition is false.
const NO: u32 = u32::MAX - 1;

/// One test and where to go on.
#[derive(Clone, Debug)]
struct Step {
    field: Field,
    case: Case,
    negated: bool,
    when_unknown: bool,
    on_true: u32,
    on_false: u32,
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
}

/// A condition in negation normal form.
enum Normal<'c> {
    All(Vec<Self>),
    Any(Vec<Self>),
    Leaf(&'c Leaf, bool),
    Const(bool),
}

impl<'c> Normal<'c> {
    fn of(cond: &'c Cond, negated: bool) -> Self {
        let parts = |parts: &'c [Cond]| -> Vec<Self> { parts.iter().map(|part| Self::of(part, negated)).collect() };
        match (cond, negated) {
            (Cond::Not(inner), _) => Self::of(inner, !negated),
            (Cond::Leaf(leaf), _) => Self::Leaf(leaf, negated),
            (Cond::Const(yes), _) => Self::Const(*yes != negated),
            (Cond::All(all), false) | (Cond::Any(all), true) => Self::All(parts(all)),
            (Cond::Any(any), false) | (Cond::All(any), true) => Self::Any(parts(any)),
        }
    }

    /// What it costs if its first part decides.
    fn cost(&self) -> u32 {
        match self {
            Self::Const(_) => 0,
            Self::Leaf(leaf, _) => leaf.test.cost() + field_cost(leaf.field),
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::cost).fold(0, u32::saturating_add),
        }
    }
}

/// Fields that take more than a look.
const fn field_cost(field: Field) -> u32 {
    match field {
        Field::ClientCity => 1000,
        Field::TimeHour | Field::TimeMinute | Field::TimeWeekday => 30,
        Field::SessionRef | Field::SessionNetworks | Field::SessionDevices => 20,
        _ => 0,
    }
}

impl Program {
    /// Adds a condition. `zone` is that of the file, for `time.*`.
    pub(crate) fn add(&mut self, cond: &Cond, unknown: Unknown, zone: Option<&TimeZone>) -> Entry {
        let first = self.steps.len();
        let entry = self.emit(Normal::of(cond, false), (unknown, zone), YES, NO);
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
            Normal::All(parts) => ordered(parts).fold(on_true, |next, part| self.emit(part, with, next, on_false)),
            Normal::Any(parts) => ordered(parts).fold(on_false, |next, part| self.emit(part, with, on_true, next)),
            Normal::Leaf(leaf, negated) => {
                let (unknown, zone) = with;
                self.steps.push(Step {
                    field: leaf.field,
                    case: leaf.case,
                    negated,
                    when_unknown: unknown == Unknown::Fire,
                    on_true,
                    on_false,
                    test: leaf.test.clone(),
                    zone: leaf.field.is_clock().then(|| zone.cloned().unwrap_or(TimeZone::UTC)),
                });
                index(self.steps.len() - 1)
            }
        }
    }

    /// Whether a condition fires. Allocates nothing.
    pub(crate) fn fires<F: Facts + ?Sized>(&self, entry: Entry, facts: &F) -> bool {
        let mut at = entry.0;
        while let Some(step) = self.steps.get(at as usize) {
            let found = match &step.zone {
                None => ask(facts, step.field, step.case, &step.test),
                Some(zone) => ask(&InZone { facts, zone }, step.field, step.case, &step.test),
            };
            let holds = found.map_or(step.when_unknown, |yes| yes != step.negated);
            at = if holds { step.on_true } else { step.on_false };
        }
        at == YES
    }
}

impl Program {
    /// Whether two paths are the same to every test of `request.path`.
    pub(crate) fn reads_alike(&self, path: &str, other: &str) -> bool {
        let of_path = self.steps.iter().filter(|step| step.field == Field::RequestPath);
        of_path.into_iter().all(|step| {
            let found = |path| ask(&PathOnly(path), step.field, step.case, &step.test);
            found(path) == found(other)
        })
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

/// The cheapest part last, for it is written last and so asked first.
fn ordered(mut parts: Vec<Normal<'_>>) -> impl Iterator<Item = Normal<'_>> {
    parts.sort_by_key(Normal::cost);
    parts.into_iter().rev()
}

fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NO).min(NO - 1)
}

/// What a condition is, by three-valued logic over what was written. For `explain`, coverage and tests.
pub(crate) fn meaning<F: Facts + ?Sized>(cond: &Cond, facts: &F, zone: Option<&TimeZone>) -> Option<bool> {
    match cond {
        Cond::Const(yes) => Some(*yes),
        Cond::Leaf(leaf) => leaf.ask(facts, zone),
        Cond::Not(inner) => meaning(inner, facts, zone).map(|yes| !yes),
        Cond::All(parts) => decided(parts, facts, zone, false),
        Cond::Any(parts) => decided(parts, facts, zone, true),
    }
}

/// One part that is `by` decides; if there is none, one that is unknown leaves all unknown.
fn decided<F: Facts + ?Sized>(parts: &[Cond], facts: &F, zone: Option<&TimeZone>, by: bool) -> Option<bool> {
    let mut out = Some(!by);
    for part in parts {
        match meaning(part, facts, zone) {
            Some(found) if found == by => return Some(by),
            Some(_) => {}
            None => out = None,
        }
    }
    out
}

impl Leaf {
    pub(crate) fn ask<F: Facts + ?Sized>(&self, facts: &F, zone: Option<&TimeZone>) -> Option<bool> {
        let utc = TimeZone::UTC;
        let zone = zone.unwrap_or(&utc);
        ask(&InZone { facts, zone }, self.field, self.case, &self.test)
    }

    /// The field's value, of a clock in this zone.
    pub(crate) fn value<F: Facts + ?Sized, T>(
        &self,
        facts: &F,
        zone: Option<&TimeZone>,
        show: impl FnOnce(Value<'_>) -> T,
    ) -> T {
        let utc = TimeZone::UTC;
        let zone = zone.unwrap_or(&utc);
        show(InZone { facts, zone }.value(self.field))
    }
}

/// Facts with clocks on the wall of a zone.
struct InZone<'a, F: ?Sized> {
    facts: &'a F,
    zone: &'a TimeZone,
}

impl<F: Facts + ?Sized> Facts for InZone<'_, F> {
    fn value(&self, field: Field) -> Value<'_> {
        match field {
            Field::TimeHour | Field::TimeMinute | Field::TimeWeekday => wall(self.facts.now(), self.zone, field),
            other => self.facts.value(other),
        }
    }

    fn now(&self) -> Timestamp {
        self.facts.now()
    }
}

/// What a clock on the wall shows.
fn wall(now: Timestamp, zone: &TimeZone, field: Field) -> Value<'static> {
    let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let Ok(time) = jiff::Timestamp::from_millisecond(millis) else { return Value::Unknown };
    let offset = i64::from(zone.to_offset(time).seconds());
    let local = millis.div_euclid(1000).saturating_add(offset);
    match field {
        Field::TimeHour => Value::Int(local.rem_euclid(86_400) / 3600),
        Field::TimeMinute => Value::Int(local.rem_euclid(3600) / 60),
        // The first day of 1970 was a Thursday.
        _ => {
            let day = usize::try_from((local.div_euclid(86_400) + 3).rem_euclid(7)).unwrap_or(0);
            WEEKDAYS.get(day).map_or(Value::Unknown, |day| Value::Short(Short::new(day)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::expression::Expression;
    use super::super::lex::Compare;
    use super::super::page::Source;
    use super::*;

    /// Facts of which some are missing.
    #[derive(Debug)]
    struct Holes([Option<bool>; 3], [Option<i64>; 2], Option<String>);

    impl Facts for Holes {
        fn value(&self, field: Field) -> Value<'_> {
            let bool = |at: usize| self.0[at].map_or(Value::Unknown, Value::Bool);
            let int = |at: usize| self.1[at].map_or(Value::Unknown, Value::Int);
            match field {
                Field::ChangedAsn => bool(0),
                Field::ChangedOs => bool(1),
                Field::ClientIsTor => bool(2),
                Field::ClientUaMajor => int(0),
                Field::BoundUaMajor => int(1),
                Field::RequestPath => self.2.as_deref().map_or(Value::Unknown, Value::Text),
                _ => Value::Unknown,
            }
        }

        fn now(&self) -> Timestamp {
            Timestamp::EPOCH
        }
    }

    fn holes() -> impl Strategy<Value = Holes> {
        let path = proptest::option::of(prop_oneof!["/a", "/ab", "/b"].prop_map(String::from));
        let ints = prop::array::uniform2(proptest::option::of(0i64..4));
        (prop::array::uniform3(any::<Option<bool>>()), ints, path)
            .prop_map(|(bools, ints, path)| Holes(bools, ints, path))
    }

    fn condition() -> impl Strategy<Value = Cond> {
        let source = Source::new("", "");
        let origin: Arc<Expression> = Expression::new(&source, "", 0..0, "");
        let leaf = (0usize..12, 0i64..4).prop_map(move |(kind, number)| {
            let (field, test) = match kind {
                0 => (Field::ChangedAsn, Test::Is),
                1 => (Field::ChangedOs, Test::Is),
                2 => (Field::ClientIsTor, Test::Known),
                3 => (Field::ClientIsTor, Test::Is),
                4 => (Field::ClientUaMajor, Test::Int(Compare::Ge, number)),
                5 => (Field::ClientUaMajor, Test::Int(Compare::Ne, number)),
                6 => (Field::ClientUaMajor, Test::Ints(Box::new([number]))),
                7 => (Field::ClientUaMajor, Test::Field(Compare::Gt, Field::BoundUaMajor)),
                8 => (Field::RequestPath, Test::StartsWith("/a".into())),
                9 => (Field::RequestPath, Test::OneOf(Box::new(["/a".into(), "/b".into()]))),
                10 => (Field::RequestPath, Test::Known),
                _ => (Field::RequestPath, Test::Contains("b".into())),
            };
            Cond::Leaf(Arc::new(Leaf { field, case: field.case(), test, origin: origin.clone(), span: 0..0 }))
        });
        let simple = prop_oneof![12 => leaf, 1 => any::<bool>().prop_map(Cond::Const)];
        simple.prop_recursive(5, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Cond::All),
                prop::collection::vec(inner.clone(), 1..4).prop_map(Cond::Any),
                inner.prop_map(|inner| Cond::Not(Box::new(inner))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn missing_data_never_fires_a_rule_and_the_compiled_form_means_what_was_written(
            (conds, facts) in (prop::collection::vec(condition(), 1..4), holes())
        ) {
            let mut program = Program::default();
            let entries: Vec<_> = conds.iter().map(|cond| {
                (program.add(cond, Unknown::Silent, None), program.add(cond, Unknown::Fire, None))
            }).collect();
            for (cond, (silent, fire)) in conds.iter().zip(entries) {
                let meant = meaning(cond, &facts, None);
                prop_assert_eq!(program.fires(silent, &facts), meant == Some(true), "{:?}", cond);
                prop_assert_eq!(program.fires(fire, &facts), meant != Some(false), "{:?}", cond);
            }
        }
    }

    #[test]
    fn clocks_show_the_time_of_their_zone() {
        // 2026-11-21T23:30:00Z, a Saturday.
        let now = Timestamp::from_secs(1_795_303_800);
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(wall(now, &TimeZone::UTC, Field::TimeHour), Value::Int(23));
        assert_eq!(wall(now, &TimeZone::UTC, Field::TimeWeekday), Value::Short(Short::new("saturday")));
        assert_eq!(wall(now, &berlin, Field::TimeHour), Value::Int(0));
        assert_eq!(wall(now, &berlin, Field::TimeMinute), Value::Int(30));
        assert_eq!(wall(now, &berlin, Field::TimeWeekday), Value::Short(Short::new("sunday")));
    }
}
