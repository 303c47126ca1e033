//! Which conditions hold whenever others do: for rules that are hidden behind others.
//!
//! What is claimed here is certain; much that is true is not claimed. Both conditions are in negation normal form, where a
//! comparison of an unknown field counts as false, or as true in a rule with `unknown = "fire"`. A property test holds the
//! claims against what the conditions come to.

use super::check::Leaf;
use super::compile::{Normal, Unknown};
use super::lex::Compare;
use super::scheme::{Case, Field};
use super::value::{Test, meets};

/// A condition, and what its comparisons come to where their field is unknown.
#[derive(Clone, Copy)]
pub(super) struct Side<'c> {
    pub(super) form: &'c Normal<'c>,
    pub(super) unknown: Unknown,
}

/// How the clocks of two rules are to each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clocks {
    /// In one zone.
    Same,
    /// In two.
    Apart,
}

/// One question, and the steps that are left for its answer.
struct Question<'s> {
    unknown: (Unknown, Unknown),
    clocks: Clocks,
    steps: &'s mut usize,
}

/// Whether `narrow` fires only where `wide` does. When there are no steps left, nothing is claimed.
pub(super) fn implies(narrow: Side<'_>, wide: Side<'_>, clocks: Clocks, steps: &mut usize) -> bool {
    let mut question = Question { unknown: (narrow.unknown, wide.unknown), clocks, steps };
    question.ask(narrow.form, wide.form)
}

/// Whether no request meets both of two comparisons, each with whether it is negated.
pub(super) fn excludes(one: (&Leaf, bool), other: (&Leaf, bool), steps: &mut usize) -> bool {
    let mut question = Question { unknown: (Unknown::Silent, Unknown::Fire), clocks: Clocks::Same, steps };
    let mut ask = |(leaf, negated): (&Leaf, bool), (other, against): (&Leaf, bool)| {
        question.take(1) && question.leaf((leaf, negated), (other, !against))
    };
    ask(one, other) || ask(other, one)
}

/// Whether a comparison with a list leaves nothing beside others of its field, each with whether it is negated: each value of
/// it meets with one that does not hold for it. Told is the last that is needed.
pub(super) fn excludes_each(list: &Leaf, others: &[(&Leaf, bool)], steps: &mut usize) -> Option<usize> {
    let mut question = Question { unknown: (Unknown::Silent, Unknown::Fire), clocks: Clocks::Same, steps };
    let mut last = 0;
    let mut is_out = |one: &Test| {
        let mut each = others.iter().enumerate().filter(|(_, (other, _))| other.field == list.field);
        let found = each.find(|(_, (other, against))| {
            question.take(1) && question.values((one, false), (&other.test, !against), list.field, list.case)
        });
        found.inspect(|(at, _)| last = last.max(*at)).is_some()
    };
    let is_empty = match &list.test {
        Test::OneOf(texts) => texts.iter().all(|text| is_out(&Test::Equals((*with_slash(text, list.case)).into()))),
        Test::Ints(numbers) => numbers.iter().all(|number| is_out(&Test::Int(Compare::Eq, number))),
        _ => false,
    };
    is_empty.then_some(last)
}

/// Whether a test holds for all numbers from one up to another, or for none of them.
pub(super) fn over((from, to): (i64, i64), (test, negated): (&Test, bool)) -> Option<bool> {
    let all = Numbers::Range(from, to);
    let are_all = |negated: bool| numbers(test, negated).is_some_and(|numbers| all.are_among(&numbers));
    if are_all(negated) { Some(true) } else { are_all(!negated).then_some(false) }
}

impl Question<'_> {
    fn ask(&mut self, narrow: &Normal<'_>, wide: &Normal<'_>) -> bool {
        if !self.take(1) {
            return false;
        }
        match (narrow, wide) {
            (_, Normal::Const(true)) | (Normal::Const(false), _) => true,
            (Normal::Any(parts), _) => parts.iter().all(|part| self.ask(part, wide)),
            (_, Normal::All(parts)) => parts.iter().all(|part| self.ask(narrow, part)),
            (Normal::All(parts), Normal::Any(others)) => {
                others.iter().any(|other| self.ask(narrow, other)) || parts.iter().any(|part| self.ask(part, wide))
            }
            (Normal::All(parts), Normal::Leaf(leaf, negated)) => {
                parts.iter().any(|part| self.ask(part, wide)) || self.all_together(parts, (leaf, *negated))
            }
            (_, Normal::Any(others)) => others.iter().any(|other| self.ask(narrow, other)),
            (Normal::Leaf(leaf, negated), Normal::Leaf(other, against)) => {
                self.leaf((leaf, *negated), (other, *against))
            }
            _ => false,
        }
    }

    /// Takes so many steps, if they are left.
    fn take(&mut self, steps: usize) -> bool {
        let left = self.steps.checked_sub(steps);
        *self.steps = left.unwrap_or(0);
        left.is_some()
    }

    /// Whether one fires where a field is unknown and the other does not.
    fn parts_on_unknown(&self) -> bool {
        self.unknown == (Unknown::Fire, Unknown::Silent)
    }

    /// Whether several bounds of one number together leave no more than a comparison allows.
    fn all_together(&mut self, parts: &[Normal<'_>], (leaf, negated): (&Leaf, bool)) -> bool {
        let Some(Numbers::Range(from, to)) = numbers(&leaf.test, negated) else { return false };
        if self.parts_on_unknown() || (self.clocks == Clocks::Apart && reads_clock(leaf)) {
            return false;
        }
        let bounds = parts.iter().filter_map(|part| match part {
            Normal::Leaf(one, negated) if one.field == leaf.field => numbers(&one.test, *negated),
            _ => None,
        });
        let left = bounds.fold((i64::MIN, i64::MAX), |left, one| match one {
            Numbers::Range(from, to) => (left.0.max(from), left.1.min(to)),
            Numbers::These(_) | Numbers::AllBut(_) => left,
        });
        from <= left.0 && left.1 <= to
    }

    fn leaf(&mut self, (leaf, negated): (&Leaf, bool), (other, against): (&Leaf, bool)) -> bool {
        let (here, there) = self.unknown;
        if self.clocks == Clocks::Apart && reads_clock(leaf) {
            return false;
        }
        match (&leaf.test, &other.test) {
            (Test::Known, Test::Known) => leaf.field == other.field && negated == against,
            // What is compared is known, unless what is unknown fires.
            (test, Test::Known) if !against && here == Unknown::Silent => {
                leaf.field == other.field || matches!(test, Test::Field(_, second) if *second == other.field)
            }
            (_, Test::Known) => false,
            (Test::Known, _) => negated && there == Unknown::Fire && leaf.field == other.field,
            _ if leaf.field != other.field || self.parts_on_unknown() => false,
            (test, wide) if test == wide => negated == against,
            (test, wide) => self.values((test, negated), (wide, against), other.field, other.case),
        }
    }

    /// Whether every known value that one test holds for is one that the other does.
    fn values(
        &mut self,
        (test, negated): (&Test, bool),
        (wide, against): (&Test, bool),
        field: Field,
        case: Case,
    ) -> bool {
        if let (Test::Field(op, first), Test::Field(other, second)) = (test, wide) {
            return first == second && orders(*op, negated) & !orders(*other, against) == 0;
        }
        if let (Some(numbers), Some(others)) = (numbers(test, negated), numbers(wide, against)) {
            return self.take(numbers.len().saturating_add(others.len())) && numbers.are_among(&others);
        }
        match (negated, against) {
            (false, false) => self.positive(test, wide, case),
            (true, true) => self.positive(wide, test, case),
            // A list of languages may have a part that is one thing and a part that is another.
            (false, true) => {
                field != Field::ClientLanguages && (self.apart(test, wide, case) || self.apart(wide, test, case))
            }
            (true, false) => false,
        }
    }

    /// Whether `wide` holds wherever `test` does.
    fn positive(&mut self, test: &Test, wide: &Test, case: Case) -> bool {
        match (test, wide) {
            (Test::Within(networks), Test::Within(others)) => networks.set().is_within(others.set()),
            (Test::StartsWith(text), Test::StartsWith(_) | Test::Contains(_))
            | (Test::EndsWith(text), Test::EndsWith(_) | Test::Contains(_))
            | (Test::Contains(text), Test::Contains(_)) => meets(wide, text, case),
            _ => self.each_text(test, wide, case, true),
        }
    }

    /// Whether `other` holds nowhere where `test` does.
    fn apart(&mut self, test: &Test, other: &Test, case: Case) -> bool {
        match (test, other) {
            (Test::Within(networks), Test::Within(others)) => networks.set().is_apart_from(others.set()),
            (Test::StartsWith(text), Test::StartsWith(second)) | (Test::EndsWith(text), Test::EndsWith(second)) => {
                !meets(other, text, case) && !meets(test, second, case)
            }
            _ => self.each_text(test, other, case, false),
        }
    }

    /// Whether a test of whole texts allows some, and `other` comes to the same for each of them.
    fn each_text(&mut self, test: &Test, other: &Test, case: Case, expected: bool) -> bool {
        let is_of_texts = matches!(other, Test::OneOf(_) | Test::Matches(_)) || other.as_text().is_some();
        if !is_of_texts {
            return false;
        }
        // A pattern may care for what the field does not.
        if matches!(other, Test::Matches(_)) && case != Case::Exact {
            return false;
        }
        let is_whole = matches!(other, Test::Equals(_) | Test::OneOf(_));
        let holds = |text: &str| meets(other, text, case) == expected;
        let each = |text: &str| match case {
            // With the slash that is overlooked, and without it.
            Case::Path if !is_whole => {
                let bare = text.strip_suffix('/').unwrap_or(text);
                holds(bare) && holds(&with_slash(bare, case))
            }
            _ => holds(text),
        };
        match test {
            Test::Equals(text) => each(text),
            // Paths of a table have lost the slash that is overlooked, and not the one before it.
            Test::OneOf(list) => self.take(list.len()) && list.iter().all(|text| each(&with_slash(text, case))),
            _ => false,
        }
    }
}

fn with_slash(text: &str, case: Case) -> std::borrow::Cow<'_, str> {
    if case == Case::Path { format!("{text}/").into() } else { text.into() }
}

fn reads_clock(leaf: &Leaf) -> bool {
    leaf.field.is_clock() || matches!(leaf.test, Test::Field(_, second) if second.is_clock())
}

/// The numbers that a test holds for.
enum Numbers<'t> {
    Range(i64, i64),
    These(Listed<'t>),
    AllBut(Listed<'t>),
}

/// One number, or those of a table.
enum Listed<'t> {
    One(i64),
    Table(&'t super::table::Ints),
}

impl Listed<'_> {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Table(table) => table.len(),
        }
    }

    fn has(&self, number: i64) -> bool {
        match self {
            Self::One(one) => *one == number,
            Self::Table(table) => table.has(number),
        }
    }

    fn all(&self, is_so: impl Fn(i64) -> bool) -> bool {
        match self {
            Self::One(one) => is_so(*one),
            Self::Table(table) => table.iter().all(is_so),
        }
    }
}

impl Numbers<'_> {
    /// Steps that it takes to look at all of them.
    fn len(&self) -> usize {
        match self {
            Self::Range(..) => 1,
            Self::These(list) | Self::AllBut(list) => list.len(),
        }
    }

    fn have(&self, number: i64) -> bool {
        match self {
            Self::Range(from, to) => (*from..=*to).contains(&number),
            Self::These(list) => list.has(number),
            Self::AllBut(list) => !list.has(number),
        }
    }

    fn are_among(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::These(list), _) => list.all(|number| others.have(number)),
            (_, Self::AllBut(list)) => list.all(|number| !self.have(number)),
            (Self::Range(from, to), Self::Range(first, last)) => first <= from && to <= last,
            _ => false,
        }
    }
}

/// The numbers that a test holds for; none for what is no test of numbers, or beyond what is counted with.
fn numbers(test: &Test, negated: bool) -> Option<Numbers<'_>> {
    let (op, number) = match test {
        Test::Int(op, number) => (*op, *number),
        Test::Span(op, millis) => (*op, i64::try_from(*millis).ok()?),
        Test::Ints(table) => {
            let list = Listed::Table(table);
            return Some(if negated { Numbers::AllBut(list) } else { Numbers::These(list) });
        }
        _ => return None,
    };
    let one = Listed::One(number);
    Some(match (op, negated) {
        (Compare::Eq, false) | (Compare::Ne, true) => Numbers::These(one),
        (Compare::Ne, false) | (Compare::Eq, true) => Numbers::AllBut(one),
        (Compare::Lt, false) | (Compare::Ge, true) => Numbers::Range(i64::MIN, number.checked_sub(1)?),
        (Compare::Le, false) | (Compare::Gt, true) => Numbers::Range(i64::MIN, number),
        (Compare::Gt, false) | (Compare::Le, true) => Numbers::Range(number.checked_add(1)?, i64::MAX),
        (Compare::Ge, false) | (Compare::Lt, true) => Numbers::Range(number, i64::MAX),
        _ => return None,
    })
}

/// The outcomes of comparing two values for which an operator holds: less, equal, greater.
const fn orders(op: Compare, negated: bool) -> u8 {
    let holds = match op {
        Compare::Lt => 0b100,
        Compare::Le => 0b110,
        Compare::Gt => 0b001,
        Compare::Ge => 0b011,
        Compare::Ne => 0b101,
        _ => 0b010,
    };
    if negated { !holds & 0b111 } else { holds }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    use regex::Regex;

    use super::super::certain::{Certain, certain};
    use super::super::check::Cond;
    use super::super::compile::meaning;
    use super::super::expression::Expression;
    use super::super::page::Source;
    use super::super::table::{Ints, Networks, Texts};
    use super::super::value::{Facts, Pattern, Value};
    use super::*;
    use crate::clock::Timestamp;

    /// Facts of a few fields, of which some are missing.
    #[derive(Debug)]
    struct Few<'f>(Option<bool>, [Option<i64>; 2], Option<&'f str>, Option<IpAddr>);

    impl Facts for Few<'_> {
        fn value(&self, field: Field) -> Value<'_> {
            let int = |at: usize| self.1[at].map_or(Value::Unknown, Value::Int);
            match field {
                Field::ClientIsTor => self.0.map_or(Value::Unknown, Value::Bool),
                Field::ClientUaMajor => int(0),
                Field::BoundUaMajor => int(1),
                // Compared with and without regard to case and slashes.
                Field::RequestPath | Field::RequestHost | Field::RequestMethod => {
                    self.2.map_or(Value::Unknown, Value::Text)
                }
                Field::ClientLanguages => self.2.map_or(Value::Unknown, Value::Texts),
                Field::ClientIp => self.3.map_or(Value::Unknown, Value::Ip),
                _ => Value::Unknown,
            }
        }

        fn now(&self) -> Timestamp {
            Timestamp::EPOCH
        }
    }

    const TEXTS: [&str; 16] =
        ["", "/", "//", "/a", "/A", "/a/", "/a//", "/b", "/ab", "/aB/", "/a/b", "a", "b", "a,b", "b,a,/a", "A"];
    const PATHS: [&str; 9] = ["/", "//", "/a", "/A", "/a/", "/a//", "/ab", "a", "b"];

    fn all_facts(mut see: impl FnMut(&Few<'_>)) {
        let ips = ["192.0.2.1", "192.0.2.200", "192.0.3.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let ips: Vec<Option<IpAddr>> = ips.into_iter().map(Some).chain([None]).collect();
        // Each kind of field with all of its values, the others at a few: conditions read two fields or three.
        for tor in [None, Some(true), Some(false)] {
            for (major, bound) in (0..36).map(|at| (at % 6, at / 6)) {
                let int = |number: i64| (number > 0).then(|| number - 1);
                for (at, text) in TEXTS.into_iter().map(Some).chain([None]).enumerate() {
                    see(&Few(tor, [int(major), int(bound)], text, ips[at % ips.len()]));
                    see(&Few(tor, [int(major), int(bound)], text, ips[(at * 3 + 1) % ips.len()]));
                }
            }
        }
    }

    fn test_of_text(kind: usize, field: Field, [one, two]: [&str; 2]) -> Test {
        match kind {
            0 => Test::Equals(one.into()),
            _ if field == Field::ClientLanguages => Test::Equals(two.into()),
            1 => Test::OneOf(Texts::new([one, two], field.case())),
            2 => Test::StartsWith(one.into()),
            3 => Test::EndsWith(one.into()),
            4 => Test::Contains(one.into()),
            _ => Test::Matches(Pattern(Arc::new(Regex::new(&format!("^{one}")).unwrap()))),
        }
    }

    fn leaf(about: Option<usize>) -> BoxedStrategy<Cond> {
        let origin: Arc<Expression> = Expression::new(&Source::new("", ""), "", 0..0, "");
        let ops = [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge];
        let text = prop::sample::select(PATHS.to_vec());
        let parts =
            (about.map_or((0usize..9).boxed(), |about| Just(about).boxed()), 0usize..6, 0i64..5, [text.clone(), text]);
        parts
            .prop_map(move |(about, kind, number, texts)| {
                let (field, test) = match about {
                    0 => (Field::ClientIsTor, if kind < 3 { Test::Is } else { Test::Known }),
                    1 => (Field::ClientUaMajor, Test::Int(ops[kind], number)),
                    2 => (Field::ClientUaMajor, Test::Ints(Ints::new(vec![number, 3]))),
                    3 if kind == 5 => (Field::BoundUaMajor, Test::Known),
                    3 => (Field::ClientUaMajor, Test::Field(ops[kind], Field::BoundUaMajor)),
                    4 => (Field::RequestPath, test_of_text(kind, Field::RequestPath, texts)),
                    5 if kind == 5 => {
                        (Field::RequestHost, Test::Field(ops[usize::from(number > 2)], Field::RequestMethod))
                    }
                    5 => (Field::RequestHost, test_of_text(kind, Field::RequestHost, texts)),
                    6 => (Field::RequestMethod, test_of_text(kind, Field::RequestMethod, texts)),
                    7 => (Field::ClientLanguages, test_of_text(kind, Field::ClientLanguages, texts)),
                    _ => {
                        let networks =
                            ["192.0.2.0/24", "192.0.2.0/25", "192.0.0.0/16", "192.0.3.0/24", "2001:db8::/32"];
                        let second = networks[usize::try_from(number).unwrap()];
                        let list = [networks[kind % 5], second].map(|one| one.parse().unwrap());
                        (Field::ClientIp, Test::Within(Networks::new(list)))
                    }
                };
                Cond::Leaf(Arc::new(Leaf { field, case: field.case(), test, origin: origin.clone(), span: 0..0 }))
            })
            .boxed()
    }

    /// Small conditions about one kind of field, so that many of them have to do with each other.
    fn condition(about: usize) -> impl Strategy<Value = Cond> {
        let one = prop_oneof![
            20 => leaf(Some(about)),
            4 => leaf(None),
            1 => any::<bool>().prop_map(Cond::Const),
        ];
        one.prop_recursive(2, 6, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 2..3).prop_map(Cond::All),
                prop::collection::vec(inner.clone(), 2..3).prop_map(Cond::Any),
                inner.prop_map(|inner| Cond::Not(Box::new(inner))),
            ]
        })
    }

    fn claims((narrow, here): (&Cond, Unknown), (wide, there): (&Cond, Unknown)) -> bool {
        let (one, other) = (Normal::of(narrow, false), Normal::of(wide, false));
        let mut steps = 10_000;
        implies(Side { form: &one, unknown: here }, Side { form: &other, unknown: there }, Clocks::Same, &mut steps)
    }

    fn fires(cond: &Cond, unknown: Unknown, facts: &Few<'_>) -> bool {
        meaning(cond, facts, None).unwrap_or(unknown == Unknown::Fire)
    }

    #[test]
    fn no_request_meets_the_narrow_condition_and_not_the_wide_one() {
        let pair = (0usize..9).prop_flat_map(|about| (condition(about), condition(about), any::<[bool; 2]>()));
        let claimed = std::cell::Cell::new(0);
        let mut runner = seeded(6000);
        let held = runner.run(&pair, |(narrow, wide, [here, there])| {
            let unknown = |fire: bool| if fire { Unknown::Fire } else { Unknown::Silent };
            let (here, there) = (unknown(here), unknown(there));
            if claims((&narrow, here), (&wide, there)) {
                claimed.set(claimed.get() + 1);
                let mut against = None;
                all_facts(|facts| {
                    if against.is_none() && fires(&narrow, here, facts) && !fires(&wide, there, facts) {
                        against = Some(format!("{facts:?}"));
                    }
                });
                prop_assert_eq!(against, None, "{:?} {:?}", narrow, wide);
            }
            Ok(())
        });
        held.unwrap();
        assert!(claimed.get() > 600, "{} claims of 6000 say little", claimed.get());
    }

    /// The same cases each time: how many of them are claimed does not hang on chance.
    fn seeded(cases: u32) -> TestRunner {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    }

    #[test]
    fn no_request_meets_a_condition_that_is_told_to_match_never_or_misses_one_that_is_told_to_match_always() {
        let claimed = std::cell::Cell::new([0, 0]);
        let mut runner = seeded(6000);
        let held = runner.run(&(0usize..9).prop_flat_map(condition), |cond| {
            let mut steps = 10_000;
            if let Some(Certain { holds, by: Some(_), .. }) = certain(&cond, &mut steps) {
                let mut count = claimed.get();
                count[usize::from(holds)] += 1;
                claimed.set(count);
                let mut against = None;
                all_facts(|facts| {
                    if against.is_none() && meaning(&cond, facts, None) == Some(!holds) {
                        against = Some(format!("{facts:?}"));
                    }
                });
                prop_assert_eq!(against, None, "{:?}", cond);
            }
            Ok(())
        });
        held.unwrap();
        assert!(claimed.get().iter().all(|count| *count > 100), "{:?} claims of 6000 say little", claimed.get());
    }
}
