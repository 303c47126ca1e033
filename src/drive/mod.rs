//! The engine in virtual time: whoever plays clients against it gets the guard's answers at any hour of any day, the same ones
//! each time.
//!
//! A [`Driver`] is a guard over a store in memory, with a clock that stands where the last request left it, an app that
//! answers as it is told, and the cookie jars of its clients. `portcullis drive` speaks to it in JSON ([`protocol`]),
//! `portcullis simulate` directly.

mod jar;
pub mod protocol;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, request, response};
use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::config::{Rulebook, Settings};
use crate::connection::ConnectionId;
use crate::connection::print::Print;
use crate::engine::{Looked, Observer, Places};
use crate::event::Record as Told;
use crate::facts::geo::Place;
use crate::rehearsal::{Events, Rehearsal, Staging, app_answer, subject_of};
use crate::rules::Value;
use crate::rules::scheme::{Field, Phase};
use crate::session::tag::Standing;
use crate::verdict::{Action, Text, Verdict};

pub use crate::rehearsal::StagingError as DriveError;
pub use jar::Jar;

/// When the clock stands at 0: 2026-01-05T12:00:00Z, a Monday.
pub const START: Timestamp = Timestamp::from_secs(1_767_614_400);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// From which address.
    pub ip: IpAddr,
    /// Where that is.
    pub place: Place,
    /// How its transport looks.
    pub print: Print,
    /// Over which connection of HTTP/2, if it is one.
    pub connection: Option<ConnectionId>,
}

/// What the app answers.
#[derive(Clone, Debug)]
pub struct App {
    /// The status.
    pub status: StatusCode,
    /// Somebody has logged in.
    pub login: Option<String>,
    /// Somebody has logged out.
    pub logout: bool,
    /// Lines of `Set-Cookie`.
    pub set_cookie: Vec<String>,
}

impl Default for App {
    fn default() -> Self {
        Self { status: StatusCode::OK, login: None, logout: false, set_cookie: Vec::new() }
    }
}

/// How much is to be found out about each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// What was done.
    Outcome,
    /// Signals, risk and events too.
    Everything,
}

/// What became of a request.
#[derive(Clone, Debug, Default)]
pub struct Came {
    /// What was done with it.
    pub action: Action,
    /// How the tag stood that it showed, if it showed one of a session.
    pub standing: Option<Standing>,
    /// Whether the app was called.
    pub reached_app: bool,
    /// The cookies that it saw, by their names.
    pub app_cookies: Vec<String>,
    /// In whose name it was called.
    pub subject: Option<String>,
    /// With [`Attention::Everything`]: what the policy said of it.
    pub verdict: Verdict,
    /// With [`Attention::Everything`]: the points that it came to.
    pub risk: f32,
    /// With [`Attention::Everything`]: the public name of its session.
    pub reference: Option<String>,
    /// With [`Attention::Everything`]: what was told of it.
    pub events: Vec<Told>,
}

/// The last look at a request.
#[derive(Default)]
struct Seen {
    verdict: Verdict,
    reference: Option<String>,
}

struct Watch(Mutex<Seen>);

impl Observer for Watch {
    fn looked(&self, at: &Looked<'_>) {
        if at.phase == Phase::Response {
            return;
        }
        let mut seen = self.0.lock();
        // Who is held back is looked at again, as a stranger.
        if at.verdict.action >= seen.verdict.action {
            seen.verdict = at.verdict.clone();
        }
        if let Value::Text(reference) = at.facts.value(Field::SessionRef) {
            seen.reference = Some(reference.to_owned());
        }
    }
}

/// A guard in virtual time. The cookie jars are whoever drives it keeps.
pub struct Driver {
    stage: Rehearsal,
    place: Arc<Mutex<BTreeMap<IpAddr, Place>>>,
    watch: Option<Arc<Watch>>,
}

/// Places that are remembered between two requests: those of a client alternate.
const PLACES_MAX: usize = 64;

impl Driver {
    /// A guard with these settings and rules. `seed` is all the randomness that there is.
    ///
    /// # Errors
    /// When the settings do not go together, or the machine gives no thread.
    pub fn new(settings: &Settings, rulebook: &Rulebook, seed: u64, attention: Attention) -> Result<Self, DriveError> {
        let place = Arc::new(Mutex::new(BTreeMap::new()));
        let places = place.clone();
        let watch = (attention == Attention::Everything).then(|| Arc::new(Watch(Mutex::default())));
        let stage = Rehearsal::new(Staging {
            settings,
            rulebook,
            places: Places::new(move |ip| places.lock().get(&ip).copied().unwrap_or_default()),
            start: START,
            seed,
            observer: watch.clone().map(|watch| watch as Arc<dyn Observer>),
            events: if watch.is_some() { Events::Kept } else { Events::Forgotten },
        })?;
        Ok(Self { stage, place, watch })
    }

    /// Lets the time be this; it may go back for another story.
    pub fn set_time(&self, now: Timestamp) {
        self.stage.clock.set(now);
    }

    /// Sends a request as it would come off the wire, with the cookies of the jar at this time. What the guard sets goes
    /// back as lines of `Set-Cookie`.
    pub fn request(&self, visitor: &Visitor, mut parts: request::Parts, app: &App) -> (Came, Vec<String>) {
        {
            let mut places = self.place.lock();
            if places.len() >= PLACES_MAX {
                places.clear();
            }
            places.insert(visitor.ip, visitor.place);
        }
        if let Some(watch) = &self.watch {
            *watch.0.lock() = Seen::default();
            self.stage.told();
        }
        let played = self.stage.play((visitor.ip, visitor.print, visitor.connection), &mut parts, &[], answer(app));
        let mut came = Came {
            action: played.action,
            standing: played.standing,
            reached_app: played.reached_app,
            ..Came::default()
        };
        if played.reached_app {
            (came.app_cookies, came.subject) = (names_of(&parts.headers), subject_of(&parts));
        }
        if let Some(watch) = &self.watch {
            came.events = self.stage.told();
            let seen = std::mem::take(&mut *watch.0.lock());
            came.risk = seen.verdict.risk;
            came.verdict = seen.verdict;
            let told = came.events.iter().rev().find_map(|told| told.scene.reference.map(|name| name.to_string()));
            came.reference = told.or(seen.reference);
        }
        (came, played.set_cookie)
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("clock", &self.stage.clock).finish_non_exhaustive()
    }
}

/// The head of a request, with the cookies of a jar.
pub fn head(
    method: Method,
    target: Uri,
    version: Version,
    headers: &[(HeaderName, HeaderValue)],
    cookies: &str,
) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version) = (method, target, version);
    parts.headers.reserve(headers.len().saturating_add(2));
    parts.headers.insert(HOST, HeaderValue::from_static("app.example"));
    for (name, value) in headers {
        parts.headers.append(name.clone(), value.clone());
    }
    if let (false, Ok(line)) = (cookies.is_empty(), HeaderValue::from_str(cookies)) {
        parts.headers.append(COOKIE, line);
    }
    parts
}

fn answer(app: &App) -> response::Parts {
    let mut parts = app_answer(app.status, app.login.as_deref(), app.logout);
    for line in app.set_cookie.iter().filter_map(|line| HeaderValue::from_str(line).ok()) {
        parts.headers.append(SET_COOKIE, line);
    }
    parts
}

fn names_of(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, _)| name.trim().to_owned()).collect()
}

/// Whether a reason of a verdict is a signal, and not the name of a rule.
pub(crate) fn is_signal(kind: &Text) -> bool {
    crate::signal::SignalKind::ALL.iter().any(|known| known.name() == kind.as_str())
}
