//! From the tree of a condition to one with fields and types. Whatever is wrong is told: a typo must never become `false`.

mod operand;
mod pattern;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Also, Fault, Level, Spot, nearest};
use super::expression::Expression;
use super::gathered::Gathered;
use super::lex::{Compare, Problem, Span};
use super::page::Source;
use super::parse::{Expr, Kind, Parsed, parse};
use super::scheme::{Case, Field, HostFact, Type};
use super::value::Test;
pub(crate) use operand::range;
use operand::{Tested, fits, noun, operators};
pub(crate) use pattern::Patterns;

/// Parts of one condition, those of the names in it included: its cost.
pub(crate) const PARTS_MAX: usize = 512;

/// How deep names of `[let]` may use each other.
const LETS_DEEP: usize = 16;

/// A condition with fields and types.
#[derive(Clone, Debug)]
pub(crate) enum Cond {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Leaf(Arc<Leaf>),
    Const(bool),
}

/// A test on a field, and where it stands.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) field: Field,
    pub(crate) case: Case,
    pub(crate) test: Test,
    pub(crate) origin: Arc<Expression>,
    pub(crate) span: Span,
}

impl Leaf {
    /// As the user wrote it.
    pub(crate) fn text(&self) -> &str {
        self.origin.text.get(self.span.clone()).unwrap_or_default()
    }
}

impl Cond {
    /// Visits every test, in the order of the text.
    pub(crate) fn leaves<'c>(&'c self, visit: &mut dyn FnMut(&'c Arc<Leaf>)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.leaves(visit)),
            Self::Not(inner) => inner.leaves(visit),
            Self::Leaf(leaf) => visit(leaf),
            Self::Const(_) => {}
        }
    }

    /// Its parts of every kind.
    fn size(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::size).fold(1, usize::saturating_add),
            Self::Not(inner) => inner.size().saturating_add(1),
            Self::Leaf(_) | Self::Const(_) => 1,
        }
    }
}

/// A `[set]`.
#[derive(Debug)]
pub(crate) struct Set {
    /// Each with the bytes of `source` that it stands in.
    pub(crate) entries: Vec<(Literal, Range<usize>)>,
    /// The rules file, or one of the set's own.
    pub(crate) source: Arc<Source>,
    pub(crate) spot: Spot,
    pub(crate) used: Cell<bool>,
    /// What was made of it, by type and field; none where an entry does not fit, which has been told.
    tables: RefCell<Tables>,
}

type Tables = BTreeMap<(Type, Option<Field>), Option<Test>>;

impl Set {
    pub(crate) fn new(entries: Vec<(Literal, Range<usize>)>, source: Arc<Source>, spot: Spot) -> Self {
        Self { entries, source, spot, used: Cell::new(false), tables: RefCell::default() }
    }
}

/// A value in a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Text(String),
    Int(i64),
}

/// A name of `[let]`.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) expression: Arc<Expression>,
    pub(crate) spot: Spot,
    pub(crate) used: Cell<bool>,
}

/// Everything that conditions of one file may name.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) host: Vec<HostFact>,
    pub(crate) sets: BTreeMap<String, Set>,
    pub(crate) lets: BTreeMap<String, Named>,
    /// Names that were declared wrongly: that has been told, and whoever uses them is not told again.
    pub(crate) wrong: BTreeSet<String>,
}

/// Checks conditions of one file. Names of `[let]` are checked once, whether they are used or not.
pub(crate) struct Checker<'s> {
    scope: &'s Scope,
    patterns: &'s Patterns,
    faults: Gathered,
    named: BTreeMap<&'s str, Resolved>,
    /// Parts of the condition that is being read, names of `[let]` included.
    size: usize,
    /// The names of `[let]` that are being read, one within the other, each with the use that asked for it.
    within: Vec<(&'s str, Option<Spot>)>,
}

#[derive(Clone)]
enum Resolved {
    /// It is being read: who asks for it now asks in a circle.
    Open,
    /// It is wrong, which has been told.
    Wrong,
    Cond(Cond),
}

impl<'s> Checker<'s> {
    pub(crate) fn new(scope: &'s Scope, patterns: &'s Patterns) -> Self {
        Self { scope, patterns, faults: Gathered::default(), named: BTreeMap::new(), size: 0, within: Vec::new() }
    }

    /// Everything that was found.
    pub(crate) fn into_faults(self) -> Gathered {
        self.faults
    }

    /// Checks all names of `[let]`.
    pub(crate) fn check_names(&mut self) {
        for name in self.scope.lets.keys() {
            self.resolve(name, None);
        }
    }

    /// Checks a condition. `None` if anything is wrong with it.
    pub(crate) fn condition(&mut self, expression: &Arc<Expression>) -> Option<Cond> {
        let Parsed { expr, respelled } = match parse(&expression.text) {
            Ok(parsed) => parsed,
            Err(problem) => {
                self.faults.push(expression.fault(Level::Fault, problem));
                return None;
            }
        };
        for (span, here) in respelled.into_iter().filter(|(_, here)| here != "not_in") {
            let problem = Problem::new(span, "this is how other languages spell it").label("understood");
            self.faults.push(
                expression.fault(Level::Warning, problem.help("`portcullis fmt` writes it as it is here").fix(here)),
            );
        }
        let outer = std::mem::take(&mut self.size);
        let cond = self.bool(expression, &expr);
        let size = std::mem::replace(&mut self.size, outer);
        if size > PARTS_MAX {
            let message = format!("a condition has at most {PARTS_MAX} parts, names of [let] included");
            let problem = Problem::new(expr.span, message).label("too many");
            self.tell(expression, problem.help("sets compare with many values at once"));
            return None;
        }
        let cond = cond?;
        Some(cond)
    }

    /// The condition that a name stands for. `from` is where it is used; none for its own line.
    fn resolve(&mut self, name: &str, from: Option<(&Expression, &Span)>) -> Option<Cond> {
        let (name, named) = self.scope.lets.get_key_value(name)?;
        match self.named.get(name.as_str()) {
            Some(Resolved::Cond(cond)) => return Some(cond.clone()),
            Some(Resolved::Wrong) => return None,
            Some(Resolved::Open) => {
                self.tell_circle(name, from?);
                return None;
            }
            None => {}
        }
        if self.within.len() >= LETS_DEEP {
            let fault = Fault::new(
                Level::Fault,
                format!("let.{name}"),
                format!("names of [let] use each other at most {LETS_DEEP} deep"),
            );
            self.faults.push(fault.at(Some(named.spot.clone())));
            return None;
        }
        self.named.insert(name, Resolved::Open);
        self.within.push((name, from.map(|(origin, span)| origin.spot(span))));
        let cond = self.condition(&named.expression);
        self.within.pop();
        self.named.insert(name, cond.clone().map_or(Resolved::Wrong, Resolved::Cond));
        cond
    }

    /// Marks the use that closes a circle, and those that lead to it.
    fn tell_circle(&mut self, name: &str, (origin, span): (&Expression, &Span)) {
        let way = self.within.iter().skip_while(|(open, _)| *open != name).skip(1);
        let also: Vec<Also> = way
            .filter_map(|(on, spot)| Some(Also { spot: spot.clone()?, label: format!("by way of `{on}`") }))
            .collect();
        let label = if also.is_empty() { "itself".to_owned() } else { format!("back to `{name}`") };
        let problem = Problem::new(span.clone(), format!("`{name}` is explained by itself")).label(label);
        let problem = problem.help("names of [let] may use each other, but not in a circle");
        self.faults.push(Fault { also, ..origin.fault(Level::Fault, problem) });
    }

    fn tell(&mut self, origin: &Expression, problem: Problem) {
        self.faults.push(origin.fault(Level::Fault, problem));
    }

    fn bool(&mut self, origin: &Arc<Expression>, expr: &Expr) -> Option<Cond> {
        self.size = self.size.saturating_add(1);
        if self.size > PARTS_MAX {
            return None;
        }
        match &expr.kind {
            Kind::And(parts) => self.each(origin, parts).map(Cond::All),
            Kind::Or(parts) => self.each(origin, parts).map(Cond::Any),
            Kind::Not(inner) => self.bool(origin, inner).map(|inner| Cond::Not(Box::new(inner))),
            Kind::Bool(yes) => Some(Cond::Const(*yes)),
            Kind::Name(name) => self.name(origin, name, &expr.span),
            Kind::Known(name, span) => {
                let field = self.field(origin, name, span)?;
                Some(leaf(origin, field, Test::Known, &expr.span))
            }
            Kind::Compare(left, op, at, right) => self.compare(origin, (left, *op, at, right), &expr.span),
            Kind::Set(_) | Kind::List(_) | Kind::Int(_) | Kind::Duration(_) | Kind::Text(_) => {
                let found = noun(&expr.kind);
                let problem = Problem::new(expr.span.clone(), format!("expected a condition, found {found}"));
                self.tell(origin, problem.label("neither true nor false").help("compare a field with it"));
                None
            }
        }
    }

    /// Checks all of them, so that everything wrong is told at once.
    fn each(&mut self, origin: &Arc<Expression>, parts: &[Expr]) -> Option<Vec<Cond>> {
        let parts: Vec<Option<Cond>> = parts.iter().map(|part| self.bool(origin, part)).collect();
        parts.into_iter().collect()
    }

    /// A name that stands for a condition: a field that is a bool, or one of `[let]`.
    fn name(&mut self, origin: &Arc<Expression>, name: &str, span: &Span) -> Option<Cond> {
        if !name.contains('.')
            && let Some(named) = self.scope.lets.get(name)
        {
            named.used.set(true);
            let cond = self.resolve(name, Some((origin, span)))?;
            self.size = self.size.saturating_add(cond.size());
            return Some(cond);
        }
        let field = self.field(origin, name, span)?;
        let kind = field.kind(&self.scope.host);
        if kind == Type::Bool {
            return Some(leaf(origin, field, Test::Is, span));
        }
        let example = match kind {
            Type::Int => "> 0",
            Type::Duration => "> 5m",
            Type::Ip => "in [\"10.0.0.0/8\"]",
            Type::Texts => "contains \"de\"",
            Type::Text | Type::Bool => "== \"...\"",
        };
        let problem = Problem::new(span.clone(), format!("expected a condition, found {kind}"));
        self.tell(origin, problem.label(format!("`{name}` is {kind}")).help(format!("compare it: `{name} {example}`")));
        None
    }

    fn field(&mut self, origin: &Arc<Expression>, name: &str, span: &Span) -> Option<Field> {
        if let Some(field) = Field::parse(name, &self.scope.host) {
            return Some(field);
        }
        if self.scope.wrong.contains(name) {
            return None;
        }
        if let Some(named) = self.scope.lets.get(name) {
            named.used.set(true);
            let problem = Problem::new(span.clone(), format!("`{name}` is a condition of [let], and no field"));
            self.tell(origin, problem.label("not a field").help(format!("it stands alone: `{name}` or `!{name}`")));
            return None;
        }
        let problem = Problem::new(span.clone(), format!("there is no field `{name}`")).label("not a field");
        let problem = match (self.near(name), self.group_of(name)) {
            (Some(spelling), _) => problem.help(format!("a name near to it is `{spelling}`")).fix(spelling),
            (None, Some(group)) => problem.help(group),
            (None, None) => problem.help("`portcullis fields` lists all fields"),
        };
        self.tell(origin, problem);
        None
    }

    /// The name that was probably meant: one of the same group, one of the same last word, one that is nearly the same.
    fn near(&self, name: &str) -> Option<String> {
        let host = &self.scope.host;
        let facts = host.iter().map(|fact| format!("facts.{}", fact.name));
        let fields: Vec<String> = Field::all().map(|field| field.name(host)).chain(facts).collect();
        let split = |name: &str| name.rsplit_once('.').map_or(("", name), |(group, last)| (group, last)).1.to_owned();
        let last = split(name);
        if let Some((group, _)) = name.rsplit_once('.') {
            let inside =
                || fields.iter().filter(move |field| field.rsplit_once('.').is_some_and(|(of, _)| of == group));
            let lasts: Vec<String> = inside().map(|field| split(field)).collect();
            if let Some(near) = nearest(&last, lasts.iter().map(String::as_str)) {
                return Some(format!("{group}.{near}"));
            }
            // `client.tor` means `client.is_tor`.
            let holds = |field: &&String| last.len() > 2 && split(field).split('_').any(|part| part == last);
            if let Some(found) = inside().find(holds) {
                return Some(found.clone());
            }
        } else if let Some(near) = nearest(name, self.scope.lets.keys().map(String::as_str)) {
            return Some(near.to_owned());
        }
        // Another group, or none: the signals last, whose words are those of others too.
        let same_last = |field: &&String| split(field) == last || split(field) == format!("is_{last}");
        let whole = || nearest(name, fields.iter().map(String::as_str)).filter(|near| distance_is_small(near, name));
        fields.iter().find(same_last).cloned().or_else(|| whole().map(ToOwned::to_owned))
    }

    /// What there is in the group of a field.
    fn group_of(&self, name: &str) -> Option<String> {
        let (group, _) = name.split_once('.')?;
        let host = &self.scope.host;
        let facts = (0..host.len()).filter_map(|at| u16::try_from(at).ok()).map(Field::Host);
        let inside: Vec<String> = Field::all()
            .chain(facts)
            .filter_map(|field| field.name(host).strip_prefix(group)?.strip_prefix('.').map(ToOwned::to_owned))
            .collect();
        match (inside.is_empty(), group) {
            (false, _) => Some(format!("in `{group}` there are: {}", inside.join(", "))),
            (true, "facts") => Some("a host's facts are declared in [facts]".to_owned()),
            (true, _) => None,
        }
    }

    fn compare(
        &mut self,
        origin: &Arc<Expression>,
        (left, op, at, right): (&Expr, Compare, &Span, &Expr),
        span: &Span,
    ) -> Option<Cond> {
        // `"x" == field` reads the same the other way round.
        let (left, op, right) = match (&left.kind, &right.kind, turned(op)) {
            (Kind::Name(_), ..) => (left, op, right),
            (_, Kind::Name(_), Some(turned)) => (right, turned, left),
            (Kind::Text(_), Kind::Name(name), None) if op == Compare::In && self.is_list(name) => {
                (right, Compare::Contains, left)
            }
            _ => return self.not_a_field(origin, left),
        };
        let Kind::Name(name) = &left.kind else { return self.not_a_field(origin, left) };
        if self.scope.lets.contains_key(name) {
            let problem =
                Problem::new(at.clone(), format!("`{name}` is a condition of [let], and compared with nothing"));
            self.tell(origin, problem.label("not needed").help(format!("write `{name}` or `!{name}`")));
            return None;
        }
        let field = self.field(origin, name, &left.span)?;
        let kind = field.kind(&self.scope.host);
        if !fits(kind, op) {
            let problem = Problem::new(at.clone(), format!("`{}` does not go with {kind}", op.as_str()));
            let label = format!("`{name}` is {kind}");
            self.tell(origin, problem.label(label).help(format!("{kind} is compared with {}", operators(kind))));
            return None;
        }
        if let Kind::Name(other) = &right.kind {
            return self.two_fields(origin, (field, kind, op), (other, &right.span), span);
        }
        let negated = matches!(op, Compare::Ne | Compare::NotIn) && !matches!(kind, Type::Int | Type::Duration)
            || op == Compare::NotIn;
        let test = self.test(origin, field, kind, op, right)?;
        let test = match test {
            Tested::Test(test) => leaf(origin, field, test, span),
            Tested::Opposite => Cond::Not(Box::new(leaf(origin, field, Test::Is, span))),
        };
        Some(if negated { Cond::Not(Box::new(test)) } else { test })
    }

    fn is_field(&self, name: &str) -> bool {
        Field::parse(name, &self.scope.host).is_some()
    }

    fn is_list(&self, name: &str) -> bool {
        Field::parse(name, &self.scope.host).is_some_and(|field| field.kind(&self.scope.host) == Type::Texts)
    }

    fn not_a_field(&mut self, origin: &Arc<Expression>, expr: &Expr) -> Option<Cond> {
        let problem =
            Problem::new(expr.span.clone(), format!("expected a field on the left, found {}", noun(&expr.kind)));
        self.tell(origin, problem.label("not a field").help("a comparison is `field operator value`"));
        None
    }

    /// A word without quotes, where a value belongs.
    fn bare(&self, problem: Problem, (kind, op): (Type, Compare), word: &str) -> Problem {
        let is_in = matches!(op, Compare::In | Compare::NotIn);
        match kind {
            _ if is_in && self.scope.sets.contains_key(word) => {
                problem.label("a set is read as `@name`").fix(format!("@{word}"))
            }
            _ if matches!(word, "null" | "nil" | "none" | "None" | "unknown" | "undefined") => {
                problem.label("no value").help("whether something is known is asked with `known(field)`")
            }
            Type::Bool => problem.label("true or false").help("a bool stands alone: `field` or `!field`"),
            Type::Text | Type::Texts | Type::Ip if is_in => {
                problem.label("a list belongs here").fix(format!("[\"{word}\"]"))
            }
            Type::Text | Type::Texts | Type::Ip => problem.label("a text stands in quotes").fix(format!("\"{word}\"")),
            Type::Int => {
                let digits = word.trim_start_matches(|letter: char| !letter.is_ascii_digit());
                let problem = problem.label("a whole number belongs here");
                if digits.parse::<i64>().is_ok() { problem.fix(digits.to_owned()) } else { problem }
            }
            Type::Duration => problem.label("a duration belongs here").help("such as `5m`"),
        }
    }

    fn two_fields(
        &mut self,
        origin: &Arc<Expression>,
        (field, kind, op): (Field, Type, Compare),
        (other, at): (&str, &Span),
        span: &Span,
    ) -> Option<Cond> {
        if matches!(
            op,
            Compare::Matches
                | Compare::StartsWith
                | Compare::EndsWith
                | Compare::Contains
                | Compare::In
                | Compare::NotIn
        ) && self.is_field(other)
        {
            let problem = Problem::new(at.clone(), format!("`{}` is not asked of another field", op.as_str()));
            self.tell(origin, problem.label("a value belongs here").help("fields are compared with `==` and `!=`"));
            return None;
        }
        if !self.is_field(other) && !other.contains('.') && !self.scope.lets.contains_key(other) {
            let problem = Problem::new(at.clone(), format!("`{other}` is neither a field nor a value"));
            self.tell(origin, self.bare(problem, (kind, op), other));
            return None;
        }
        let second = self.field(origin, other, at)?;
        let theirs = second.kind(&self.scope.host);
        let is_order = matches!(op, Compare::Eq | Compare::Ne)
            || (matches!(kind, Type::Int | Type::Duration)
                && matches!(op, Compare::Lt | Compare::Le | Compare::Gt | Compare::Ge));
        if theirs != kind || !is_order || kind == Type::Texts {
            let what = if theirs == kind {
                "two fields are compared with `==` or `!=`, numbers and durations with `<` too"
            } else {
                "both sides must be of one type"
            };
            let problem = Problem::new(at.clone(), format!("{theirs} does not go with {kind} here"));
            self.tell(origin, problem.label(format!("`{other}` is {theirs}")).help(what));
            return None;
        }
        Some(leaf(origin, field, Test::Field(op, second), span))
    }
}

/// Whether only a letter or two differ: the words before the dot would make two long names near.
fn distance_is_small(one: &str, other: &str) -> bool {
    strsim::damerau_levenshtein(one, other) <= 2
}

fn leaf(origin: &Arc<Expression>, field: Field, test: Test, span: &Span) -> Cond {
    Cond::Leaf(Arc::new(Leaf { field, case: field.case(), test, origin: origin.clone(), span: span.clone() }))
}

/// The operator with its sides exchanged.
const fn turned(op: Compare) -> Option<Compare> {
    match op {
        Compare::Eq | Compare::Ne => Some(op),
        Compare::Lt => Some(Compare::Gt),
        Compare::Le => Some(Compare::Ge),
        Compare::Gt => Some(Compare::Lt),
        Compare::Ge => Some(Compare::Le),
        _ => None,
    }
}
