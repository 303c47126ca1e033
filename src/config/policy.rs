//! Settings of the policy: logins, routes, rules, risk and rates.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::settings::OnOutage;
use super::signed::RulesKey;
use crate::facts::route::{PathPattern, RoutePattern};
use crate::limit::{LimitSettings, LoginLimit, Rate};
use crate::rules::Pack;
use crate::session::cookie::CookiePattern;
use crate::signal::Companions;
use crate::verdict::Mode;

/// `[[login]]`: how a login is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The request that carries the credentials.
    pub route: RoutePattern,
    /// What the answer looks like when they were right.
    pub success: Success,
    /// Who logs in.
    pub subject: SubjectSource,
    /// How often it may be tried.
    pub limit: LoginLimit,
}

/// What the answer to a successful login looks like: everything that is given here must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    /// One of these; never empty.
    pub status: Vec<u16>,
    /// `Location` leads to one of these; empty: anywhere.
    pub location: Vec<PathPattern>,
    /// `Location` leads to none of these.
    pub location_not: Vec<PathPattern>,
    /// The app sets a cookie of this name.
    pub set_cookie: Option<CookiePattern>,
}

/// Where a login request names the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectSource {
    /// `form:NAME`, a field of an URL-encoded or multipart form.
    Form(String),
    /// `json:POINTER`, RFC 6901: `json:/user/name`.
    Json(String),
    /// `header:NAME`
    Header(http::HeaderName),
    /// Nowhere.
    None,
}

/// `[rules]`
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The packs in force where a route names no others.
    pub packs: Vec<Pack>,
    /// Files with rules of one's own: patterns of paths.
    pub files: Vec<PathBuf>,
    /// The highest mode of all rules.
    pub mode: Mode,
    /// Points and what follows from them.
    pub risk: Risk,
    /// Programs that share sessions.
    pub companions: Vec<Companions>,
    /// Where what rules see is recorded, if it is.
    pub record: Option<Recording>,
    /// Who signs the files; empty if nobody has to.
    pub signed_by: Vec<RulesKey>,
    /// Where the counters of signed files are kept; beside the keys if nothing else is said.
    pub counters: Option<PathBuf>,
}

/// `[rules] record = { path, max_bytes }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// The file.
    pub path: PathBuf,
    /// The most that it and the one before it have.
    pub bytes_max: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            packs: vec![Pack::Baseline1],
            files: Vec::new(),
            mode: Mode::Enforce,
            risk: Risk::default(),
            companions: Vec::new(),
            record: None,
            signed_by: Vec::new(),
            counters: None,
        }
    }
}

/// `[rules.risk]`: from how many points on what is done. Zero points would be everything, so each is at least 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Risk {
    /// An event is written.
    pub observe: u32,
    /// A successor is offered at once.
    pub rotate: u32,
    /// The request goes on without credentials.
    pub quarantine: u32,
    /// The session ends.
    pub terminate: u32,
    /// The time in which points halve.
    pub half_life: Duration,
    /// What the threshold of `quarantine` is multiplied by on sensitive routes.
    pub sensitive_factor: f64,
}

impl Default for Risk {
    fn default() -> Self {
        Self {
            observe: 20,
            rotate: 35,
            quarantine: 50,
            terminate: 100,
            half_life: Duration::from_secs(15 * 60),
            sensitive_factor: 0.6,
        }
    }
}

/// `[limits]`. `None`: off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests of a client: an IPv4 address or an IPv6 /64.
    pub client: Option<Rate>,
    /// Requests of a network: an IPv4 /24 or an IPv6 /48.
    pub prefix: Option<Rate>,
    /// Requests of a session.
    pub session: Option<Rate>,
    /// Requests of a subject.
    pub subject: Option<Rate>,
    /// New anonymous sessions of a network.
    pub anonymous_sessions: Option<Rate>,
    /// Unknown, forged and malformed session ids of a client.
    pub guesses: Option<Rate>,
    /// Keys that each limit can tell apart.
    pub keys_max: NonZeroUsize,
}

impl Default for Limits {
    fn default() -> Self {
        let LimitSettings { client, prefix, session, subject, anonymous_sessions, guesses, keys_max, .. } =
            LimitSettings::default();
        Self { client, prefix, session, subject, anonymous_sessions, guesses, keys_max }
    }
}

/// `[[route]]`: what differs on some paths. What is `None` is as everywhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which requests.
    pub pattern: RoutePattern,
    /// The mode of the rules there; never higher than that of `[rules]`.
    pub mode: Option<Mode>,
    /// The packs in force there.
    pub packs: Option<Vec<Pack>>,
    /// Longest time without use.
    pub idle: Option<Duration>,
    /// Longest time since authentication.
    pub absolute: Option<Duration>,
    /// Authentication must be younger than that, else the request is quarantined.
    pub fresh: Option<Duration>,
    /// Whether the thresholds are lower there.
    pub sensitivity: Sensitivity,
    /// Whether requests there keep a session alive.
    pub activity: Activity,
    /// Requests of a client there.
    pub limit: Option<Rate>,
    /// What happens there while the store can not be asked.
    pub on_outage: Option<OnOutage>,
}

impl Route {
    /// A route on which nothing differs yet.
    pub const fn plain(pattern: RoutePattern) -> Self {
        Self {
            pattern,
            mode: None,
            packs: None,
            idle: None,
            absolute: None,
            fresh: None,
            sensitivity: Sensitivity::Ordinary,
            activity: Activity::Usual,
            limit: None,
            on_outage: None,
        }
    }
}

/// Whether the thresholds are lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensitivity {
    /// As everywhere.
    Ordinary,
    /// The threshold of `quarantine` is multiplied by [`Risk::sensitive_factor`].
    Sensitive,
}

/// Whether requests keep a session alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// They do, unless they look passive.
    Usual,
    /// They are passive: made by a page and not by a person.
    Passive,
}
