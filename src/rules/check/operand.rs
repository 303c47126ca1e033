//! The right side of a comparison: values, lists and sets, by the type of the field on the left.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{Checker, Literal, Set};
use crate::net::IpPrefix;
use crate::rules::diagnostic::{Fault, Level, nearest};
use crate::rules::expression::Expression;
use crate::rules::lex::{Compare, Problem, Span};
use crate::rules::page::Source;
use crate::rules::parse::{Expr, Kind};
use crate::rules::scheme::{Field, Type};
use crate::rules::table::{Ints, Networks, Texts};
use crate::rules::value::Test;

/// Entries of one list that are told to be wrong; the others are counted.
const WRONG_TOLD_MAX: usize = 20;

/// Why a text is no country, and which one is meant.
fn odd_country(text: &str, is_whole: bool) -> Option<(&'static str, Option<&'static str>)> {
    let is_code = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    match text.to_ascii_uppercase().as_str() {
        "UK" | "EN" if is_whole => Some(("this is no country of ISO 3166-1", Some("GB"))),
        _ if is_whole && !is_code => Some(("a country has two letters (ISO 3166-1)", None)),
        _ if text.len() > 2 => Some(("a country has two letters (ISO 3166-1)", None)),
        _ => None,
    }
}

/// The network that an address with a length is in.
fn without_host_bits(text: &str) -> Option<IpPrefix> {
    let (ip, length) = text.split_once('/')?;
    let (ip, length) = (ip.parse::<std::net::IpAddr>().ok()?, length.parse::<u8>().ok()?);
    let most = if ip.is_ipv4() { 32 } else { 128 };
    (length <= most).then(|| IpPrefix::around(ip, length))
}

pub(super) enum Tested {
    Test(Test),
    /// The field is a bool and must be false.
    Opposite,
}

/// What is wrong with an entry, and what to write instead.
type Wrong = (String, Option<String>);

impl<'s> Checker<'s> {
    /// The test of a field against what stands on the right.
    pub(super) fn test(
        &mut self,
        origin: &Arc<Expression>,
        field: Field,
        kind: Type,
        op: Compare,
        right: &Expr,
    ) -> Option<Tested> {
        let is_in = matches!(op, Compare::In | Compare::NotIn);
        let test = match (kind, &right.kind) {
            (Type::Bool, Kind::Bool(yes)) if *yes => Test::Is,
            (Type::Bool, Kind::Bool(_)) => return Some(Tested::Opposite),
            (Type::Int, Kind::Int(number)) if !is_in => {
                self.number(origin, field, (op, *number), &right.span)?;
                Test::Int(op, *number)
            }
            (Type::Duration, Kind::Duration(wanted)) if !is_in => {
                Test::Span(op, u64::try_from(wanted.as_millis()).unwrap_or(u64::MAX))
            }
            (Type::Duration, Kind::Int(number)) => {
                let problem = Problem::new(right.span.clone(), "a duration needs a unit").label("ms, s, m, h, d or w");
                self.tell(origin, problem.help(format!("such as `{number}m`")));
                return None;
            }
            (Type::Ip, Kind::Text(text)) if !is_in => {
                Test::Within(Networks::new([self.network(origin, text, &right.span)?]))
            }
            (Type::Text | Type::Texts, Kind::Text(text)) if !is_in => {
                self.text(origin, field, op, text, &right.span)?
            }
            (Type::Text | Type::Int | Type::Ip, Kind::List(items)) if is_in => {
                let items = self.items(origin, items)?;
                self.many(origin, (field, kind), &items, &right.span, None)?
            }
            (Type::Text | Type::Int | Type::Ip, Kind::Set(name)) if is_in => {
                self.of_set(origin, (field, kind), name, &right.span)?
            }
            _ => {
                self.mismatch(origin, (kind, op), right);
                return None;
            }
        };
        Some(Tested::Test(test))
    }

    fn mismatch(&mut self, origin: &Arc<Expression>, (kind, op): (Type, Compare), right: &Expr) {
        let found = noun(&right.kind);
        let is_in = matches!(op, Compare::In | Compare::NotIn);
        let problem = Problem::new(
            right.span.clone(),
            match is_in {
                true => format!("expected a list or a set after `{}`, found {found}", op.as_str()),
                false => format!("expected {kind}, found {found}"),
            },
        );
        let written = origin.text.get(right.span.clone()).unwrap_or_default().to_owned();
        let problem = problem.label(format!("this is {found}"));
        let problem = match (&right.kind, kind) {
            (Kind::Text(_) | Kind::Int(_), _) if is_in => problem.fix(format!("[{written}]")),
            (Kind::Text(text), Type::Int) if text.parse::<i64>().is_ok() => problem.fix(text.clone()),
            (Kind::Text(text), Type::Duration) => problem.help("a duration stands without quotes").fix(text.clone()),
            (Kind::Int(number), Type::Text | Type::Ip) => problem.fix(format!("\"{number}\"")),
            (Kind::List(_) | Kind::Set(_), _) if matches!(op, Compare::Eq | Compare::Ne) => {
                problem.help("one of several values is asked for with `in`")
            }
            (Kind::List(_) | Kind::Set(_), _) => problem.help("join several of these with `||`"),
            _ => problem,
        };
        self.tell(origin, problem);
    }

    fn number(
        &mut self,
        origin: &Arc<Expression>,
        field: Field,
        (op, number): (Compare, i64),
        span: &Span,
    ) -> Option<()> {
        let Some(range) = range(field) else { return Some(()) };
        let (least, most) = (*range.start(), *range.end());
        let can_be = match op {
            Compare::Eq => range.contains(&number),
            Compare::Lt => number > least,
            Compare::Le => number >= least,
            Compare::Gt => number < most,
            Compare::Ge => number <= most,
            _ => true,
        };
        if can_be {
            return Some(());
        }
        let name = field.name(&self.scope.host);
        let problem = Problem::new(span.clone(), format!("`{name}` is from {least} to {most}"));
        self.tell(origin, problem.label("never so"));
        None
    }

    fn network(&mut self, origin: &Arc<Expression>, text: &str, span: &Span) -> Option<IpPrefix> {
        match text.parse::<IpPrefix>() {
            Ok(network) => Some(network),
            Err(why) => {
                let problem = Problem::new(span.clone(), why.to_string()).label("no network");
                let problem = match without_host_bits(text) {
                    Some(fixed) => problem.help("the whole network").fix(format!("\"{fixed}\"")),
                    None => problem,
                };
                self.tell(origin, problem);
                None
            }
        }
    }

    fn text(&mut self, origin: &Arc<Expression>, field: Field, op: Compare, text: &str, span: &Span) -> Option<Test> {
        if op == Compare::Matches {
            return self.pattern(origin, field, text, span);
        }
        if text.is_empty() && matches!(field, Field::ClientCountry | Field::BoundCountry) {
            let problem = Problem::new(span.clone(), "a country is never empty".to_owned()).label("never so");
            self.tell(origin, problem.help("one that nobody knows is asked for with `!known(client.country)`"));
            return None;
        }
        if text.is_empty() && !matches!(op, Compare::Eq | Compare::Ne) {
            let problem = Problem::new(span.clone(), format!("every text `{}` the empty one", op.as_str()));
            self.tell(origin, problem.label("always so").help("did you mean `== \"\"` or `known(...)`?"));
            return None;
        }
        if let Some(problem) = self.odd(field, op, text, span) {
            self.tell(origin, problem);
            return None;
        }
        Some(match op {
            Compare::StartsWith => Test::StartsWith(text.into()),
            Compare::EndsWith => Test::EndsWith(text.into()),
            // In a list, one of the texts.
            Compare::Contains if field.kind(&self.scope.host) == Type::Texts => Test::Equals(text.into()),
            Compare::Contains => Test::Contains(text.into()),
            _ => Test::Equals(text.into()),
        })
    }

    /// A text that the field can never be, or have.
    fn odd(&self, field: Field, op: Compare, text: &str, span: &Span) -> Option<Problem> {
        let problem = |message: &str| Problem::new(span.clone(), message.to_owned()).label("it is never this");
        let is_whole = matches!(op, Compare::Eq | Compare::Ne);
        let begins = is_whole || op == Compare::StartsWith;
        let words = field.words();
        let fits = |word: &&str| match op {
            Compare::StartsWith => word.starts_with(text),
            Compare::EndsWith => word.ends_with(text),
            Compare::Contains => word.contains(text),
            _ => *word == text,
        };
        if !words.is_empty() && !words.iter().any(fits) {
            let name = field.name(&self.scope.host);
            let problem =
                Problem::new(span.clone(), format!("`{name}` is never like \"{text}\"")).label("it is never this");
            return Some(match nearest(text, words.iter().copied()).filter(|_| is_whole) {
                Some(near) => problem.help(format!("a word near to it is \"{near}\"")).fix(format!("\"{near}\"")),
                None => problem.help(format!("it is one of: {}", words.join(", "))),
            });
        }
        match field {
            Field::RequestPath | Field::RequestRoute if begins && text.contains("://") => {
                Some(problem("a path has no scheme and no host"))
            }
            Field::RequestPath | Field::RequestRoute if begins && !text.starts_with('/') => {
                Some(problem("a path begins with `/`").fix(format!("\"/{text}\"")))
            }
            Field::RequestPath if text.contains(['?', '#']) => {
                Some(problem("the query is no part of the path").help("rules do not read the query"))
            }
            Field::RequestPath if text.contains('*') => {
                let folder = text.split('*').next().unwrap_or_default();
                let help = format!("`*` is a letter like any other here; all below: `starts_with \"{folder}\"`");
                Some(problem("a path is no pattern here").help(help))
            }
            Field::RequestMethod if text != text.to_uppercase() => {
                Some(problem("methods are written in capitals").fix(format!("\"{}\"", text.to_uppercase())))
            }
            Field::RequestHost | Field::RequestOrigin if text.contains([':', '/']) => {
                Some(problem("the host is told without scheme and port"))
            }
            Field::ClientCountry | Field::BoundCountry => odd_country(text, is_whole).map(|(message, fix)| match fix {
                Some(fix) => problem(message).fix(format!("\"{fix}\"")),
                None => problem(message).help("such as \"DE\" or \"US\""),
            }),
            Field::RequestContentType | Field::ResponseContentType if text.contains(';') => {
                Some(problem("the media type is told without parameters"))
            }
            Field::RequestContentType | Field::ResponseContentType if is_whole && !text.contains('/') => {
                Some(problem("a media type has two parts, such as \"application/json\""))
            }
            Field::ClientLanguages if text.contains('_') => {
                Some(problem("parts of a language are joined with `-`").fix(format!("\"{}\"", text.replace('_', "-"))))
            }
            _ => None,
        }
    }

    fn items(&mut self, origin: &Arc<Expression>, items: &[Expr]) -> Option<Vec<(Literal, Span)>> {
        let mut read = Vec::new();
        for item in items {
            match &item.kind {
                Kind::Text(text) => read.push((Literal::Text(text.clone()), item.span.clone())),
                Kind::Int(number) => read.push((Literal::Int(*number), item.span.clone())),
                other => {
                    let problem =
                        Problem::new(item.span.clone(), format!("a list holds strings or ints, not {}", noun(other)));
                    self.tell(origin, problem.label("not a value for a list"));
                    return None;
                }
            }
        }
        Some(read)
    }

    fn set(&mut self, origin: &Arc<Expression>, name: &str, span: &Span) -> Option<&'s Set> {
        if let Some(set) = self.scope.sets.get(name) {
            set.used.set(true);
            return Some(set);
        }
        if self.scope.wrong.contains(name) {
            return None;
        }
        let problem = Problem::new(span.clone(), format!("there is no set `@{name}`")).label("not in [set]");
        let near = nearest(name, self.scope.sets.keys().map(String::as_str)).map(|near| format!("@{near}"));
        let problem = match near {
            Some(near) => problem.help(format!("a set of nearly this name is `{near}`")).fix(near),
            None => problem.help(format!("write it under [set]: {name} = [\"...\"]")),
        };
        self.tell(origin, problem);
        None
    }

    /// The table of a set for a field. It is made once, for the first who asks, and so is it told what is wrong with it.
    fn of_set(
        &mut self,
        origin: &Arc<Expression>,
        (field, kind): (Field, Type),
        name: &str,
        span: &Span,
    ) -> Option<Test> {
        let set = self.set(origin, name, span)?;
        // Facts of a host are compared alike if they are of one type.
        let key = (kind, (!matches!(field, Field::Host(_))).then_some(field));
        if let Some(known) = set.tables.borrow().get(&key) {
            return known.clone();
        }
        let made = self.many(origin, (field, kind), &set.entries, span, Some(&set.source));
        // Another field may ask for the same values.
        let mut tables = set.tables.borrow_mut();
        let same = tables.values().flatten().find(|known| Some(*known) == made.as_ref()).cloned();
        let test = same.or(made);
        if !set.entries.is_empty() {
            tables.insert(key, test.clone());
        }
        test
    }

    /// The test for one of several values. `of_set` is what they stand in, if that is not the condition.
    fn many(
        &mut self,
        origin: &Arc<Expression>,
        (field, kind): (Field, Type),
        items: &[(Literal, Span)],
        span: &Span,
        of_set: Option<&Arc<Source>>,
    ) -> Option<Test> {
        if items.is_empty() {
            let problem = Problem::new(span.clone(), "nothing is in an empty list").label("empty");
            self.tell(origin, problem);
            return None;
        }
        let mut wrong = 0_usize;
        let (mut texts, mut numbers, mut networks) = (Vec::new(), Vec::new(), Vec::new());
        for (item, place) in items {
            let found = match (kind, item) {
                (Type::Int, Literal::Int(number)) => {
                    numbers.push(*number);
                    self.odd_number(field, *number)
                }
                (Type::Text, Literal::Text(text)) => {
                    texts.push(text.as_str());
                    self.odd(field, Compare::Eq, text, span).map(|odd| {
                        let help = odd.help.map(|help| format!("; {help}")).unwrap_or_default();
                        (format!("{}{help}", odd.message), odd.fix)
                    })
                }
                (Type::Ip, Literal::Text(text)) => match text.parse::<IpPrefix>() {
                    Ok(network) => {
                        networks.push(network);
                        None
                    }
                    Err(why) => Some((why.to_string(), without_host_bits(text).map(|fixed| format!("\"{fixed}\"")))),
                },
                (_, Literal::Text(text)) => Some((format!("expected {kind}, found the string \"{text}\""), None)),
                (_, Literal::Int(number)) => {
                    Some((format!("expected {kind}, found the int {number}"), Some(format!("\"{number}\""))))
                }
            };
            let Some(found) = found else { continue };
            wrong += 1;
            if wrong <= WRONG_TOLD_MAX {
                self.tell_item(origin, field, (of_set, place), found);
            }
        }
        if wrong > WRONG_TOLD_MAX {
            let more = wrong - WRONG_TOLD_MAX;
            let problem = Problem::new(span.clone(), format!("{more} more of its entries are wrong"));
            self.tell(origin, problem.label("in this list"));
        }
        (wrong == 0).then(|| match kind {
            Type::Int => Test::Ints(Ints::new(numbers)),
            Type::Ip => Test::Within(Networks::new(networks)),
            _ => Test::OneOf(Texts::new(texts, field.case())),
        })
    }

    fn odd_number(&self, field: Field, number: i64) -> Option<Wrong> {
        let range = range(field).filter(|range| !range.contains(&number))?;
        let name = field.name(&self.scope.host);
        Some((format!("`{name}` is from {} to {}", range.start(), range.end()), None))
    }

    /// An entry of a set is told where it stands, with the condition that can not use it beside.
    fn tell_item(
        &mut self,
        origin: &Arc<Expression>,
        field: Field,
        (of_set, place): (Option<&Arc<Source>>, &Span),
        (message, fix): Wrong,
    ) {
        let Some(source) = of_set else {
            let problem = Problem { fix, ..Problem::new(place.clone(), message).label("this one") };
            self.tell(origin, problem);
            return;
        };
        let help = Some(format!("{} compares `{}` with this set", origin.owner, field.name(&self.scope.host)));
        let fault = Fault::new(Level::Fault, origin.owner.clone(), message).at(Some(source.spot(place.clone())));
        self.faults.push(fault.with_help(help));
    }
}

pub(super) const fn fits(kind: Type, op: Compare) -> bool {
    use Compare::{Contains, EndsWith, Eq, Ge, Gt, In, Le, Lt, Matches, Ne, NotIn, StartsWith};
    match kind {
        Type::Bool => matches!(op, Eq | Ne),
        Type::Int => matches!(op, Eq | Ne | Lt | Le | Gt | Ge | In | NotIn),
        Type::Duration => matches!(op, Eq | Ne | Lt | Le | Gt | Ge),
        Type::Text => matches!(op, Eq | Ne | In | NotIn | StartsWith | EndsWith | Contains | Matches),
        Type::Texts => matches!(op, Contains),
        Type::Ip => matches!(op, Eq | Ne | In | NotIn),
    }
}

pub(super) const fn operators(kind: Type) -> &'static str {
    match kind {
        Type::Bool => "`==` and `!=`, or stands alone",
        Type::Int => "`== != < <= > >= in not_in`",
        Type::Duration => "`== != < <= > >=`",
        Type::Text => "`== != in not_in starts_with ends_with contains matches`",
        Type::Texts => "`contains`",
        Type::Ip => "`== != in not_in`",
    }
}

/// The numbers that a field can be.
pub(crate) const fn range(field: Field) -> Option<RangeInclusive<i64>> {
    Some(match field {
        Field::TimeHour => 0..=23,
        Field::TimeMinute => 0..=59,
        Field::ResponseStatus => 100..=599,
        Field::ClientUaMajor | Field::BoundUaMajor => 0..=65_535,
        Field::ClientAsn | Field::BoundAsn => 0..=4_294_967_295,
        Field::RequestSize
        | Field::RateClient
        | Field::RatePrefix
        | Field::RateSession
        | Field::RateSubject
        | Field::SessionRequests
        | Field::SessionRotations => 0..=i64::MAX,
        Field::Risk | Field::Signal(_) => 0..=500,
        Field::SessionForks | Field::SessionContexts | Field::SessionNetworks | Field::SessionDevices => 0..=255,
        _ => return None,
    })
}

pub(super) const fn noun(kind: &Kind) -> &'static str {
    match kind {
        Kind::And(_) | Kind::Or(_) | Kind::Not(_) | Kind::Compare(..) | Kind::Known(..) => "a condition",
        Kind::Name(_) => "a name",
        Kind::Set(_) => "a set",
        Kind::Int(_) => "an int",
        Kind::Duration(_) => "a duration",
        Kind::Text(_) => "a string",
        Kind::Bool(_) => "a bool",
        Kind::List(_) => "a list",
    }
}
