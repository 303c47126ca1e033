//! What holds where a recorded request went.

use http::Method;

use crate::clock::Timestamp;
use crate::history::Points;
use crate::rules::recorded::Recorded;
use crate::rules::scheme::Field;
use crate::rules::set::RuleSet;
use crate::rules::value::{Facts, Value};
use crate::rules::{Policy, Route};
use crate::signal::{Scoring, Sensitivity};
use crate::verdict::Mode;

/// What requests are judged by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ground<'p> {
    /// A policy, route by route.
    Policy(&'p Policy),
    /// Rules alone, wherever a request went.
    Rules(&'p RuleSet, &'p Scoring),
}

/// What holds where a request went.
#[derive(Debug)]
pub(super) struct Place<'p> {
    pub(super) set: &'p RuleSet,
    pub(super) mode: Mode,
    pub(super) scoring: &'p Scoring,
    pub(super) sensitivity: Sensitivity,
    route: Named<'p>,
}

/// What `request.route` is.
#[derive(Clone, Copy, Debug)]
enum Named<'p> {
    /// What it was then.
    AsRecorded,
    /// The route of the new policy, if the request falls under one.
    Anew(Option<&'p Route>),
}

impl<'p> Ground<'p> {
    /// Each set of rules with the mode of where it is in force.
    pub(super) fn sets(self) -> Vec<(&'p RuleSet, Mode)> {
        match self {
            Self::Policy(policy) => {
                let places = std::iter::once(None).chain(policy.routes.iter().map(Some));
                places.map(|route| (policy.rules_on(route), policy.mode_on(route))).collect()
            }
            Self::Rules(set, _) => vec![(set, Mode::Enforce)],
        }
    }

    /// Where a request went.
    pub(super) fn place(self, facts: &Recorded) -> Place<'p> {
        match self {
            Self::Policy(policy) => {
                let route = request(facts).and_then(|(method, path)| policy.route(&method, path));
                Place {
                    set: policy.rules_on(route),
                    mode: policy.mode_on(route),
                    scoring: &policy.scoring,
                    sensitivity: route.map_or(Sensitivity::Usual, |route| route.sensitivity),
                    route: Named::Anew(route),
                }
            }
            Self::Rules(set, scoring) => {
                Place { set, mode: Mode::Enforce, scoring, sensitivity: Sensitivity::Usual, route: Named::AsRecorded }
            }
        }
    }

    /// Whether a request goes to the form or the address of a login.
    pub(super) fn goes_to_login(self, played: &Played<'_>) -> bool {
        let is_login = |path: &str| match self {
            Self::Policy(policy) => policy.logins.iter().any(|login| login.route.path().matches(path)),
            Self::Rules(..) => false,
        };
        played.value(Field::LoginAttempt) == Value::Bool(true)
            || played.value(Field::RequestPath).as_name().is_some_and(is_login)
    }
}

impl<'p> Place<'p> {
    /// The route of the new policy.
    pub(super) const fn route(&self) -> Option<&'p Route> {
        match self.route {
            Named::Anew(route) => route,
            Named::AsRecorded => None,
        }
    }
}

fn request(facts: &Recorded) -> Option<(Method, &str)> {
    let method = facts.value(Field::RequestMethod);
    let method = Method::from_bytes(method.as_text()?.as_bytes()).ok()?;
    // Of a path with hidden parts each stands in its place, so it falls on the same route.
    match facts.value(Field::RequestPath) {
        Value::Text(path) => Some((method, path)),
        Value::Masked(masked) => Some((method, masked.text())),
        _ => None,
    }
}

/// A recorded request, as rules see it now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Played<'a> {
    facts: &'a Recorded,
    route: Named<'a>,
    /// The risk, if it is another than that of then.
    risk: Option<Points>,
}

impl<'a> Played<'a> {
    pub(super) fn new(facts: &'a Recorded, place: &Place<'a>) -> Self {
        Self { facts, route: place.route, risk: None }
    }

    pub(super) fn at_risk(&self, risk: Points) -> Self {
        Self { risk: Some(risk), ..*self }
    }
}

impl Facts for Played<'_> {
    fn value(&self, field: Field) -> Value<'_> {
        match (field, self.risk, self.route) {
            (Field::Risk, Some(risk), _) => Value::Int(i64::from(risk.as_hundredths() / 100)),
            (Field::RequestRoute, _, Named::Anew(route)) => {
                route.map_or(Value::Unknown, |route| Value::Text(route.pattern.path().as_str()))
            }
            _ => self.facts.value(field),
        }
    }

    fn now(&self) -> Timestamp {
        self.facts.at
    }
}
