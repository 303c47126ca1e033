//! Policy: what is guarded how.
//!
//! A policy is immutable and swapped as a whole: a request sees one policy from its first header to the end of its
//! answer. Rules files are compiled into it; thresholds, routes and logins come from the configuration.

mod canonical;
mod certain;
mod check;
mod compile;
pub mod count;
pub mod diagnostic;
pub mod diff;
mod explain;
mod expression;
mod file;
pub mod format;
mod gathered;
mod hidden;
mod imply;
mod judge;
mod lex;
pub mod load;
mod mutate;
pub mod pack;
#[cfg_attr(
    not(feature = "config"),
    expect(dead_code, reason = "the configuration has more kinds of values than rules have")
)]
pub(crate) mod page;
mod parse;
mod program;
pub mod recorded;
pub mod replay;
mod review;
pub mod schema;
pub mod scheme;
mod set;
mod source;
mod table;
mod value;
mod weaker;

pub use compile::Unknown;
pub use explain::{Compared, Explained};
pub use file::PER;
pub use judge::{Evidence, Judgement, Party, judge};
pub use mutate::{Changed, Mutation};
pub use pack::Pack;
pub use recorded::Recorded;
pub use set::{Matched, Read, Reads, Rule, RuleSet, Scenery};
pub use value::{Facts, HostFacts, Masked, OwnedValue, Pseudonym, SHORT_BYTES_MAX, Short, Value};

pub use page::FILE_BYTES_MAX;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};

use crate::facts::route::{PathPattern, RoutePattern};
use crate::net::PrefixSet;
use crate::session::cookie::{CookieNames, CookiePattern, GuardCookie, Hardening, Persist};
use crate::session::expiry::{Deadlines, Span};
use crate::signal::{Scoring, Sensitivity};
use crate::store::SubjectLimit;
use crate::verdict::Mode;

/// Everything that decides about requests.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Counts reloads; told in events.
    pub revision: u64,
    /// Ceiling of all modes.
    pub mode: Mode,
    /// What is only reported.
    pub enforcement: Enforcement,
    /// How sessions live.
    pub session: SessionPolicy,
    /// Which cookies are ours, kept or bound.
    pub cookies: CookiePolicy,
    /// Where subjects log in.
    pub logins: Vec<Login>,
    /// Where they log out.
    pub logouts: Vec<RoutePattern>,
    /// Settings by route; the first that matches counts.
    pub routes: Vec<Route>,
    /// The rules, where no route has others.
    pub rules: Arc<RuleSet>,
    /// Points of each kind of evidence, how they fade, and from how many on something is done.
    pub scoring: Scoring,
    /// What a failing store means, where no route says otherwise.
    pub on_outage: OnOutage,
    /// Where paths that can be read in two ways are refused.
    pub path_check: PathCheck,
    /// Peers whose word on the client's address is believed.
    pub trusted_proxies: PrefixSet,
}

/// Whether limits and deadlines are enforced too: `run --observe` reports them only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// They are.
    #[default]
    Full,
    /// Nothing is: the first day in front of an app.
    ReportOnly,
}

/// How sessions live.
#[derive(Clone, Debug)]
pub struct SessionPolicy {
    /// Idle and absolute timeout.
    pub deadlines: Deadlines,
    /// Age at which the head is offered a successor.
    pub rotate_every: Duration,
    /// How long a superseded tag is served without evidence.
    pub grace: Duration,
    /// How long a quarantined client may take to log in again.
    pub quarantine_max: Duration,
    /// How often real use is written at most.
    pub touch_every: Duration,
    /// How long tombstones are kept, so that a late use is told from an unknown id.
    pub tombstones: Duration,
    /// How many sessions a subject may have.
    pub per_subject_max: Option<SubjectLimit>,
    /// Until when an app's cookie from before the guard is taken over.
    pub adopt_until: Option<crate::clock::Timestamp>,
    /// What is remembered of subjects from one session to the next.
    pub memory: Memory,
    /// Bytes that an app in this process may keep in a session.
    pub data_bytes_max: usize,
}

/// What is remembered of subjects from one session to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// From which devices they logged in within thirty days, as keyed hashes: one of these costs nothing at the
    /// next login.
    #[default]
    Devices,
    /// Nothing.
    Nothing,
}

/// Which cookies are ours, kept or bound.
#[derive(Clone, Debug)]
pub struct CookiePolicy {
    /// Our own.
    pub guard: GuardCookie,
    /// Whether ours outlives the browser.
    pub persist: Persist,
    /// All names that mean something to the guard.
    pub names: CookieNames,
    /// Whether any cookie of the app is bound to ours.
    pub binds: Binds,
    /// What is added to the app's other cookies.
    pub hardening: Hardening,
    /// Whether browsers are asked for exact versions of themselves.
    pub hints: ExactHints,
}

/// Whether browsers are asked for exact versions of themselves (`Accept-CH`, RFC 8942).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExactHints {
    /// They are not.
    #[default]
    Unasked,
    /// They are, with every page over HTTPS.
    Asked,
}

/// Whether any cookie of the app is bound to ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binds {
    /// None is.
    #[default]
    Nothing,
    /// Some are.
    Some,
}

/// Where subjects log in.
#[derive(Clone, Debug)]
pub struct Login {
    /// Method and path.
    pub route: RoutePattern,
    /// What a successful one looks like.
    pub success: Success,
    /// Where its subject is named.
    pub subject: SubjectSource,
}

/// What a successful login looks like: all of it must hold.
#[derive(Clone, Debug, Default)]
pub struct Success {
    /// One of these; empty: any below 400.
    pub status: Vec<StatusCode>,
    /// `Location` is a path that none of these matches.
    pub location_not: Vec<PathPattern>,
    /// `Location` is a path that one of these matches; empty: any, or none.
    pub location: Vec<PathPattern>,
    /// The answer sets a cookie of this name.
    pub sets_cookie: Option<CookiePattern>,
}

/// Where a login request names its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectSource {
    /// In a field of the form.
    Form(Box<str>),
    /// At a JSON pointer (RFC 6901) of the body.
    Json(Box<str>),
    /// In a request header.
    Header(HeaderName),
    /// Nowhere.
    None,
}

/// Settings of a route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Method and path.
    pub pattern: RoutePattern,
    /// As the user wrote it: the route's name in events.
    pub template: Arc<str>,
    /// Its mode, below the ceiling.
    pub mode: Mode,
    /// The rules here, if they are others.
    pub rules: Option<Arc<RuleSet>>,
    /// A shorter idle timeout.
    pub idle: Option<Duration>,
    /// A shorter absolute timeout.
    pub absolute: Option<Duration>,
    /// How recent the authentication must be.
    pub fresh: Option<Duration>,
    /// Whether less risk suffices for a quarantine: password, payment, administration.
    pub sensitivity: Sensitivity,
    /// Whether its requests are counted by a limit of their own.
    pub limit: Limited,
    /// What a failing store means here.
    pub on_outage: Option<OnOutage>,
    /// Whether requests here are real use.
    pub use_: Use,
}

/// Whether a route has a limit of its own; the limit itself stands in the table of limits, at the route's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limited {
    /// It has none.
    #[default]
    No,
    /// It has one.
    Yes,
}

/// Whether a request keeps its session alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Use {
    /// It does, if the request looks like real use.
    #[default]
    Real,
    /// It never does: polling.
    Passive,
}

/// What a failing store means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    /// No request with a session is served.
    #[default]
    Deny,
    /// Requests are served as a stranger's.
    Anonymous,
}

/// Where paths that can be read in two ways are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathCheck {
    /// Where one of the readings is a protected route.
    #[default]
    Protected,
    /// Everywhere.
    Everywhere,
}

impl Policy {
    /// The settings of a route: the first whose pattern matches the canonical path.
    pub fn route(&self, method: &Method, path: &str) -> Option<&Route> {
        self.routes.get(self.place_of(method, path)?)
    }

    /// The place of that route among all.
    pub fn place_of(&self, method: &Method, path: &str) -> Option<usize> {
        self.routes.iter().position(|route| route.pattern.matches(method, path))
    }

    /// The login that a request attempts.
    pub fn login(&self, method: &Method, path: &str) -> Option<&Login> {
        self.logins.iter().find(|login| login.route.matches(method, path))
    }

    /// Whether a request asks to log out.
    pub fn is_logout(&self, method: &Method, path: &str) -> bool {
        self.logouts.iter().any(|route| route.matches(method, path))
    }

    /// Whether something depends on knowing that a request goes here.
    pub fn protects(&self, method: &Method, path: &str) -> bool {
        self.login(method, path).is_some()
            || self.is_logout(method, path)
            || self.route(method, path).is_some_and(Route::is_protected)
    }

    /// Whether there is anything that depends on knowing where a request goes.
    pub fn protects_anything(&self) -> bool {
        !self.logins.is_empty() || !self.logouts.is_empty() || self.routes.iter().any(Route::is_protected)
    }

    /// The mode that governs verdicts on a route.
    pub fn mode_on(&self, route: Option<&Route>) -> Mode {
        let all = if self.enforcement == Enforcement::ReportOnly { Mode::Observe } else { Mode::Enforce };
        self.mode.min(route.map_or(Mode::Enforce, |route| route.mode)).min(self.rules_on(route).mode()).min(all)
    }

    /// The rules on a route.
    pub fn rules_on<'p>(&'p self, route: Option<&'p Route>) -> &'p RuleSet {
        route.and_then(|route| route.rules.as_deref()).unwrap_or(&self.rules)
    }

    /// The deadlines on a route.
    pub fn deadlines_on(&self, route: Option<&Route>) -> Deadlines {
        let general = self.session.deadlines;
        let shorter = |special: Option<Duration>, general: Duration| special.map_or(general, |s| s.min(general));
        let (idle, absolute) = (route.and_then(|route| route.idle), route.and_then(|route| route.absolute));
        let longest = |most: Span| Span { idle: shorter(idle, most.idle), absolute: shorter(absolute, most.absolute) };
        Deadlines {
            idle: shorter(idle, general.idle),
            absolute: shorter(absolute, general.absolute),
            longest: general.longest.map(longest),
        }
    }

    /// What a failing store means on a route.
    pub fn outage_on(&self, route: Option<&Route>) -> OnOutage {
        route.and_then(|route| route.on_outage).unwrap_or(self.on_outage)
    }
}

impl Route {
    /// Whether it asks for more than the general settings do.
    pub fn is_protected(&self) -> bool {
        self.fresh.is_some()
            || self.sensitivity == Sensitivity::Sensitive
            || self.idle.is_some()
            || self.absolute.is_some()
            || self.limit == Limited::Yes
    }
}

#[cfg(test)]
pub(crate) mod tests;
