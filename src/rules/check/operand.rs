//! The right side of a comparison: values, lists and sets, by the type of the field on the left.

use std::ops::RangeInclusive;
use std::sync::Arc;

use regex::RegexBuilder;

use super::{Checker, Literal};
use crate::net::{IpPrefix, PrefixSet};
use crate::rules::diagnostic::{Fault, Level, Spot, nearest};
use crate::rules::expression::Expression;
use crate::rules::lex::{Compare, Problem, Span};
use crate::rules::parse::{Expr, Kind};
use crate::rules::scheme::{Case, Field, Type};
use crate::rules::value::Test;

/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

pub(super) enum Tested {
    Test(Test),
    /// The field is a bool and must be false.
    Opposite,
}

/// Where an entry of a list stands.
enum Origin {
    Span(Span),
    Spot(Spot),
}

impl Checker<'_> {
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
                self.number(origin, field, *number, &right.span)?;
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
                Test::Within([self.network(origin, text, &right.span)?].into_iter().collect())
            }
            (Type::Text | Type::Texts, Kind::Text(text)) if !is_in => {
                self.text(origin, field, op, text, &right.span)?
            }
            (Type::Text | Type::Int | Type::Ip, Kind::List(items)) if is_in => {
                let items = self.items(origin, items)?;
                let items: Vec<_> = items.into_iter().map(|(item, span)| (item, Origin::Span(span))).collect();
                self.many(origin, field, kind, &items, &right.span)?
            }
            (Type::Text | Type::Int | Type::Ip, Kind::Set(name)) if is_in => {
                let entries = self.set(origin, name, &right.span)?;
                self.many(origin, field, kind, &entries, &right.span)?
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
            (Kind::List(_) | Kind::Set(_), _) => problem.help("one of several values is asked for with `in`"),
            _ => problem,
        };
        self.tell(origin, problem);
    }

    fn number(&mut self, origin: &Arc<Expression>, field: Field, number: i64, span: &Span) -> Option<()> {
        let Some(range) = range(field).filter(|range| !range.contains(&number)) else { return Some(()) };
        let name = field.name(&self.scope.host);
        let problem = Problem::new(span.clone(), format!("`{name}` is from {} to {}", range.start(), range.end()));
        self.tell(origin, problem.label("never so"));
        None
    }

    fn network(&mut self, origin: &Arc<Expression>, text: &str, span: &Span) -> Option<IpPrefix> {
        match text.parse::<IpPrefix>() {
            Ok(network) => Some(network),
            Err(why) => {
                let problem =
                    Problem::new(span.clone(), format!("`{text}` is no address and no network")).label(why.to_string());
                self.tell(origin, problem.help("such as \"192.0.2.7\", \"192.0.2.0/24\" or \"2001:db8::/32\""));
                None
            }
        }
    }

    fn text(&mut self, origin: &Arc<Expression>, field: Field, op: Compare, text: &str, span: &Span) -> Option<Test> {
        if op == Compare::Matches {
            return self.pattern(origin, field, text, span);
        }
        if text.is_empty() && !matches!(op, Compare::Eq | Compare::Ne) {
            let problem = Problem::new(span.clone(), format!("every text `{}` the empty one", op.as_str()));
            self.tell(origin, problem.label("always so").help("did you mean `== \"\"` or `known(...)`?"));
            return None;
        }
        if matches!(op, Compare::Eq | Compare::Ne | Compare::StartsWith)
            && let Some(problem) = self.odd(field, op, text, span)
        {
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

    fn pattern(&mut self, origin: &Arc<Expression>, field: Field, text: &str, span: &Span) -> Option<Test> {
        let built = RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .case_insensitive(field.case() == Case::Ignored)
            .build();
        match built {
            Ok(pattern) => Some(Test::Matches(pattern)),
            Err(why) => {
                let told = why.to_string();
                let why = told.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let problem = Problem::new(span.clone(), "this pattern can not be read").label(why);
                self.tell(
                    origin,
                    problem.help("patterns are those of the `regex` crate: no look-around, no back-references"),
                );
                None
            }
        }
    }

    /// A text that the field can never be.
    fn odd(&self, field: Field, op: Compare, text: &str, span: &Span) -> Option<Problem> {
        let name = field.name(&self.scope.host);
        let problem = |message: String| Problem::new(span.clone(), message).label("never so");
        let words = field.words();
        if !words.is_empty() && op != Compare::StartsWith && !words.contains(&text) {
            let problem = problem(format!("`{name}` is never \"{text}\""));
            return Some(match nearest(text, words.iter().copied()) {
                Some(near) => problem.help("a word near to it").fix(format!("\"{near}\"")),
                None => problem.help(format!("it is one of: {}", words.join(", "))),
            });
        }
        match field {
            Field::RequestPath | Field::RequestRoute if !text.starts_with('/') => {
                Some(problem("a path begins with `/`".to_owned()).fix(format!("\"/{text}\"")))
            }
            Field::RequestPath if text.contains(['?', '#']) => {
                Some(problem("the query is no part of the path".to_owned()).help("rules do not read the query"))
            }
            Field::RequestMethod if text != text.to_uppercase() => {
                Some(problem("methods are written in capitals".to_owned()).fix(format!("\"{}\"", text.to_uppercase())))
            }
            Field::RequestHost if text.contains([':', '/']) => {
                Some(problem("the host is told without scheme and port".to_owned()))
            }
            Field::ClientCountry | Field::BoundCountry
                if op != Compare::StartsWith
                    && (text.len() != 2 || !text.bytes().all(|byte| byte.is_ascii_alphabetic())) =>
            {
                Some(problem("a country has two letters (ISO 3166-1)".to_owned()).help("such as \"DE\" or \"US\""))
            }
            Field::RequestContentType | Field::ResponseContentType if text.contains(';') => {
                Some(problem("the media type is told without parameters".to_owned()))
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

    fn set(&mut self, origin: &Arc<Expression>, name: &str, span: &Span) -> Option<Vec<(Literal, Origin)>> {
        if let Some(set) = self.scope.sets.get(name) {
            set.used.set(true);
            return Some(set.entries.iter().map(|(item, spot)| (item.clone(), Origin::Spot(spot.clone()))).collect());
        }
        let problem = Problem::new(span.clone(), format!("there is no set `@{name}`")).label("not in [set]");
        let near = nearest(name, self.scope.sets.keys().map(String::as_str)).map(|near| format!("@{near}"));
        let problem = match near {
            Some(near) => problem.help("a set of nearly this name").fix(near),
            None => problem.help(format!("write it under [set]: {name} = [\"...\"]")),
        };
        self.tell(origin, problem);
        None
    }

    fn many(
        &mut self,
        origin: &Arc<Expression>,
        field: Field,
        kind: Type,
        items: &[(Literal, Origin)],
        span: &Span,
    ) -> Option<Test> {
        if items.is_empty() {
            let problem = Problem::new(span.clone(), "nothing is in an empty list").label("empty");
            self.tell(origin, problem);
            return None;
        }
        let before = self.faults.len();
        let (mut texts, mut numbers, mut networks) = (Vec::new(), Vec::new(), Vec::new());
        for (item, place) in items {
            let wrong = match (kind, item) {
                (Type::Int, Literal::Int(number)) => {
                    numbers.push(*number);
                    range(field).filter(|range| !range.contains(number)).map(|range| {
                        let name = field.name(&self.scope.host);
                        (format!("`{name}` is from {} to {}", range.start(), range.end()), None)
                    })
                }
                (Type::Text, Literal::Text(text)) => {
                    texts.push(text.clone().into_boxed_str());
                    self.odd(field, Compare::Eq, text, span).map(|odd| (odd.message, odd.fix))
                }
                (Type::Ip, Literal::Text(text)) => match text.parse::<IpPrefix>() {
                    Ok(network) => {
                        networks.push(network);
                        None
                    }
                    Err(why) => Some((format!("`{text}` is no address and no network: {why}"), None)),
                },
                (_, Literal::Text(text)) => Some((format!("expected {kind}, found the string \"{text}\""), None)),
                (_, Literal::Int(number)) => {
                    Some((format!("expected {kind}, found the int {number}"), Some(format!("\"{number}\""))))
                }
            };
            if let Some((message, fix)) = wrong {
                self.tell_item(origin, field, place, message, fix);
            }
        }
        if self.faults.len() > before {
            return None;
        }
        numbers.sort_unstable();
        numbers.dedup();
        texts.sort_unstable();
        texts.dedup();
        Some(match kind {
            Type::Int => Test::Ints(numbers.into()),
            Type::Ip => Test::Within(networks.into_iter().collect::<PrefixSet>()),
            _ => Test::OneOf(texts.into()),
        })
    }

    /// An entry of a set is told where it stands, with the condition that can not use it beside.
    fn tell_item(
        &mut self,
        origin: &Arc<Expression>,
        field: Field,
        place: &Origin,
        message: String,
        fix: Option<String>,
    ) {
        match place {
            Origin::Span(span) => {
                let problem = Problem { fix, ..Problem::new(span.clone(), message).label("this one") };
                self.tell(origin, problem);
            }
            Origin::Spot(spot) => {
                let help = Some(format!("{} compares `{}` with this set", origin.owner, field.name(&self.scope.host)));
                let fault =
                    Fault::new(Level::Fault, origin.owner.clone(), message).at(Some(spot.clone())).with_help(help);
                if !self.faults.contains(&fault) {
                    self.faults.push(fault);
                }
            }
        }
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
