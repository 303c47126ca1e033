//! From a condition as it was written to negation normal form in a good order; and beside it the plain evaluator that says
//! what a condition means.
//!
//! Conditions are brought to negation normal form, and a test of an unknown field counts as false there (as true if the rule
//! says `unknown = "fire"`). That is the same as three-valued logic (Kleene, 1952) over the condition as it was written, with
//! "unknown" taken for false in the end: `and`, `or` and the thresholds between the three values commute. A property test
//! holds the two against each other.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::check::{Cond, Leaf};
use super::lex::Compare;
use super::scheme::{Field, WEEKDAYS};
use super::value::{Facts, Short, Test, Value, ask};
use crate::clock::Timestamp;

/// What a test of an unknown field counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unknown {
    /// Missing data never fires the rule.
    #[default]
    Silent,
    /// Missing data counts as a match.
    Fire,
}

/// A condition in negation normal form.
pub(super) enum Normal<'c> {
    All(Vec<Self>),
    Any(Vec<Self>),
    Leaf(&'c Arc<Leaf>, bool),
    Const(bool),
}

impl<'c> Normal<'c> {
    pub(super) fn of(cond: &'c Cond, negated: bool) -> Self {
        let parts = |parts: &'c [Cond]| -> Vec<Self> { parts.iter().map(|part| Self::of(part, negated)).collect() };
        match (cond, negated) {
            (Cond::Not(inner), _) => Self::of(inner, !negated),
            (Cond::Leaf(leaf), _) => Self::Leaf(leaf, negated),
            (Cond::Const(yes), _) => Self::Const(*yes != negated),
            (Cond::All(all), false) | (Cond::Any(all), true) => Self::All(parts(all)),
            (Cond::Any(any), false) | (Cond::All(any), true) => Self::Any(parts(any)),
        }
    }

    /// What it costs to ask and how likely it is to hold, guessed: who is asked first should decide often and cost little.
    fn guess(&self) -> (f32, f32) {
        match self {
            Self::Const(yes) => (0.0, if *yes { 1.0 } else { 0.0 }),
            Self::Leaf(leaf, negated) => {
                let (cost, likely) = (leaf.test.cost() + field_cost(leaf.field), leaf.likely());
                (cost, if *negated { 1.0 - likely } else { likely })
            }
            Self::All(parts) => parts
                .iter()
                .map(Self::guess)
                .fold((0.0, 1.0), |(cost, all), (next, likely)| (cost + all * next, all * likely)),
            Self::Any(parts) => {
                let (cost, none) = parts
                    .iter()
                    .map(Self::guess)
                    .fold((0.0, 1.0), |(cost, none), (next, likely)| (cost + none * next, none * (1.0 - likely)));
                (cost, 1.0 - none)
            }
        }
    }

    /// The same with parts in the order in which they are best asked.
    pub(super) fn arranged(self) -> Self {
        let by = |rank: fn((f32, f32)) -> f32, parts: Vec<Self>| {
            let mut parts: Vec<Self> = parts.into_iter().map(Self::arranged).collect();
            parts.sort_by(|one, other| rank(one.guess()).total_cmp(&rank(other.guess())));
            parts
        };
        match self {
            // The first that does not hold decides.
            Self::All(parts) => Self::All(by(|(cost, likely)| cost / (1.001 - likely), parts)),
            // The first that holds does.
            Self::Any(parts) => Self::Any(by(|(cost, likely)| cost / (0.001 + likely), parts)),
            other => other,
        }
    }
}

impl Leaf {
    /// How likely it holds for a usual request.
    fn likely(&self) -> f32 {
        match (&self.test, self.field) {
            (Test::Known, _) => 0.8,
            (Test::Is, Field::SessionExists | Field::SessionAuthenticated) => 0.7,
            (Test::Is, Field::RequestIsNavigation) => 0.3,
            (Test::Is, _) | (Test::Equals(_) | Test::OneOf(_) | Test::Ints(_) | Test::Within(_), _) => 0.05,
            (Test::Int(Compare::Ne, _) | Test::Field(Compare::Ne, _), _) => 0.9,
            (Test::Int(Compare::Lt | Compare::Le, _) | Test::Span(Compare::Lt | Compare::Le, _), _) => 0.7,
            _ => 0.1,
        }
    }
}

/// Fields that take more than a look.
const fn field_cost(field: Field) -> f32 {
    match field {
        Field::ClientCity => 1000.0,
        Field::TimeHour | Field::TimeMinute | Field::TimeWeekday => 30.0,
        Field::SessionRef | Field::SessionNetworks | Field::SessionDevices => 20.0,
        _ => 0.0,
    }
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
pub(super) struct InZone<'a, F: ?Sized> {
    pub(super) facts: &'a F,
    pub(super) zone: &'a TimeZone,
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
    use proptest::prelude::*;

    use super::super::expression::Expression;
    use super::super::page::Source;
    use super::super::program::{Program, Scratch};
    use super::super::scheme::Case;
    use super::super::table::{Ints, Texts};
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
                6 => (Field::ClientUaMajor, Test::Ints(Ints::new(vec![number]))),
                7 => (Field::ClientUaMajor, Test::Field(Compare::Gt, Field::BoundUaMajor)),
                8 => (Field::RequestPath, Test::StartsWith("/a".into())),
                9 => (Field::RequestPath, Test::OneOf(Texts::new(["/a", "/b"], Case::Path))),
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
            conds.iter().for_each(|cond| program.meet(cond, None));
            program.share();
            let mut scratch = Scratch::default();
            let entries: Vec<_> = conds.iter().map(|cond| {
                (program.add(cond, Unknown::Silent, None), program.add(cond, Unknown::Fire, None))
            }).collect();
            for (cond, (silent, fire)) in conds.iter().zip(entries) {
                let meant = meaning(cond, &facts, None);
                prop_assert_eq!(program.fires(silent, &facts, &mut scratch), meant == Some(true), "{:?}", cond);
                prop_assert_eq!(program.fires(fire, &facts, &mut scratch), meant != Some(false), "{:?}", cond);
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
