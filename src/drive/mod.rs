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
use std::time::Duration;

use http::header::{CONTENT_LENGTH, COOKIE, HOST, SET_COOKIE};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request, response,
};
use parking_lot::Mutex;

use crate::clock::{ManualClock, Timestamp};
use crate::config::{AssembleError, Rulebook, Settings};
use crate::connection::Scheme;
use crate::connection::print::Print;
use crate::engine::{
    AnsweredBy, Client, ClientStanding, Decision, Guard, Looked, Observer, Places, Refusal, RefusalKind, Setup,
};
use crate::entropy::InsecureSeededEntropy;
use crate::event::queue::{EventSender, RepeatSettings, Writer};
use crate::event::sink::Collector;
use crate::event::{EventQueue, Record as Told};
use crate::facts::geo::Place;
use crate::limit::Limits;
use crate::rules::Value;
use crate::rules::scheme::{Field, Phase};
use crate::secret::{KeyId, Keyring, MasterKey};
use crate::session::tag::Standing;
use crate::store::SESSIONS_MAX_DEFAULT;
use crate::store::memory::MemoryStore;
use crate::verdict::{Action, Text, Verdict};

pub use jar::Jar;

/// When the clock stands at 0: 2026-01-05T12:00:00Z, a Monday.
pub const START: Timestamp = Timestamp::from_secs(1_767_614_400);

/// How long events may take to arrive: they are in memory.
const FLUSH_MAX: Duration = Duration::from_secs(20);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// From which address.
    pub ip: IpAddr,
    /// Where that is.
    pub place: Place,
    /// How its transport looks.
    pub print: Print,
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
    guard: Guard<MemoryStore>,
    clock: Arc<ManualClock>,
    place: Arc<Mutex<BTreeMap<IpAddr, Place>>>,
    runtime: tokio::runtime::Runtime,
    events: EventSender,
    collector: Collector,
    watch: Option<Arc<Watch>>,
    _writer: Writer,
}

/// Places that are remembered between two requests: those of a client alternate.
const PLACES_MAX: usize = 64;

impl Driver {
    /// A guard with these settings and rules. `seed` is all the randomness that there is.
    ///
    /// # Errors
    /// When the settings do not go together, or the machine gives no thread.
    pub fn new(settings: &Settings, rulebook: &Rulebook, seed: u64, attention: Attention) -> Result<Self, DriveError> {
        let clock = Arc::new(ManualClock::new(START));
        let collector = Collector::new();
        let queue = crate::event::queue::Settings {
            repeat: RepeatSettings { window: Duration::ZERO, ..RepeatSettings::default() },
            ..crate::event::queue::Settings::default()
        };
        let sinks: Vec<Box<dyn crate::event::sink::Sink>> = match attention {
            Attention::Outcome => Vec::new(),
            Attention::Everything => vec![Box::new(collector.clone())],
        };
        let (events, writer) = EventQueue::start(&queue, clock.clone(), sinks)?;
        let place = Arc::new(Mutex::new(BTreeMap::new()));
        let places = place.clone();
        let guard = Guard::new(Setup {
            store: MemoryStore::new(SESSIONS_MAX_DEFAULT),
            policy: settings.policy(1, rulebook)?,
            // Nothing secret is played.
            keys: Keyring::new(&MasterKey::new(KeyId(1), [7; 32]), &[]),
            places: Places::new(move |ip| places.lock().get(&ip).copied().unwrap_or_default()),
            limits: Limits::new(&settings.limit_settings()),
            events: events.clone(),
            clock: clock.clone(),
            entropy: Arc::new(InsecureSeededEntropy::new(seed)),
        });
        let watch = (attention == Attention::Everything).then(|| Arc::new(Watch(Mutex::default())));
        let guard = match &watch {
            Some(watch) => guard.observed_by(watch.clone()),
            None => guard,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Self { guard, clock, place, runtime, events, collector, watch, _writer: writer })
    }

    /// Lets the time be this; it may go back for another story.
    pub fn set_time(&self, now: Timestamp) {
        self.clock.set(now);
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
            self.events.flush(FLUSH_MAX);
            self.collector.drain();
        }
        let client = Client {
            ip: visitor.ip,
            scheme: Scheme::Https,
            standing: ClientStanding::Own,
            print: visitor.print,
            order: None,
            located: None,
        };
        let decision = self.runtime.block_on(self.guard.admit(client, &mut parts, None));
        let (mut came, lines) = match decision {
            Decision::Answer(refusal) => {
                (Came { action: refused(&refusal), ..Came::default() }, set_cookies(&refusal.headers))
            }
            Decision::Forward(admission) => {
                let mut came = Came {
                    action: admission.action(),
                    standing: admission.standing(),
                    reached_app: true,
                    app_cookies: names_of(&parts.headers),
                    subject: text(&parts.headers, "portcullis-subject"),
                    ..Came::default()
                };
                let mut answer = answer(app);
                let settled = self.runtime.block_on(self.guard.settle(admission, AnsweredBy::App, &mut answer));
                match settled.instead {
                    Some(refusal) => {
                        came.action = came.action.max(refused(&refusal));
                        (came, set_cookies(&refusal.headers))
                    }
                    None => (came, set_cookies(&answer.headers)),
                }
            }
        };
        if let Some(watch) = &self.watch {
            self.events.flush(FLUSH_MAX);
            came.events = self.collector.drain();
            let seen = std::mem::take(&mut *watch.0.lock());
            came.risk = seen.verdict.risk;
            came.verdict = seen.verdict;
            let told = came.events.iter().rev().find_map(|told| told.scene.reference.map(|name| name.to_string()));
            came.reference = told.or(seen.reference);
        }
        (came, lines)
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// A driver could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// Settings that do not go together.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The machine gives no thread.
    #[error("no thread for events: {0}")]
    System(#[from] std::io::Error),
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
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = app.status;
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
    let quoted = |subject: &str| subject.replace('\\', "\\\\").replace('"', "\\\"");
    let login = app.login.as_ref().map(|subject| format!("login; subject=\"{}\"", quoted(subject)));
    for line in login.into_iter().chain(app.logout.then(|| "logout".to_owned())) {
        if let Ok(line) = HeaderValue::from_str(&line) {
            parts.headers.append("portcullis-session", line);
        }
    }
    for line in app.set_cookie.iter().filter_map(|line| HeaderValue::from_str(line).ok()) {
        parts.headers.append(SET_COOKIE, line);
    }
    parts
}

fn set_cookies(headers: &HeaderMap) -> Vec<String> {
    headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok()).map(str::to_owned).collect()
}

fn names_of(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, _)| name.trim().to_owned()).collect()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// What a refusal amounts to.
fn refused(refusal: &Refusal) -> Action {
    match refusal.kind {
        RefusalKind::Throttled => Action::Throttle,
        RefusalKind::Challenge => Action::Challenge,
        RefusalKind::Denied | RefusalKind::AmbiguousPath | RefusalKind::Outage | RefusalKind::TooManySessions => {
            Action::Deny
        }
    }
}

/// Whether a reason of a verdict is a signal, and not the name of a rule.
pub(crate) fn is_signal(kind: &Text) -> bool {
    crate::signal::SignalKind::ALL.iter().any(|known| known.name() == kind.as_str())
}
