//! The engine on a stage: a guard over a store in memory, with a clock that stands where it is put, nothing secret, and an app
//! that answers as it is told.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response, StatusCode, request, response};

use crate::clock::{ManualClock, Timestamp};
use crate::config::{AssembleError, Rulebook, Settings};
use crate::connection::ConnectionId;
use crate::connection::Scheme;
use crate::connection::print::Print;
use crate::engine::subject::{Extent, Peeked};
use crate::engine::{AnsweredBy, Client, ClientStanding, Decision, Guard, Observer, Places, Refusal, Setup};
use crate::entropy::InsecureSeededEntropy;
use crate::event::queue::{EventSender, RepeatSettings, Writer};
use crate::event::sink::{Collector, Sink};
use crate::event::{EventQueue, Record as Told};
use crate::limit::Limits;
use crate::secret::{KeyId, Keyring, MasterKey};
use crate::session::tag::Standing;
use crate::store::SESSIONS_MAX_DEFAULT;
use crate::store::memory::MemoryStore;
use crate::verdict::Action;

/// How long events may take to arrive: they are in memory.
const FLUSH_MAX: Duration = Duration::from_secs(20);

/// What is played, and who looks on.
pub(crate) struct Staging<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) rulebook: &'a Rulebook,
    pub(crate) places: Places,
    pub(crate) start: Timestamp,
    /// All the randomness that there is.
    pub(crate) seed: u64,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) events: Events,
}

/// Whether events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Events {
    Kept,
    Forgotten,
}

/// The stage could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// Settings that do not go together.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The machine gives no thread.
    #[error("no thread for events: {0}")]
    System(#[from] std::io::Error),
}

/// A guard that is played with.
pub(crate) struct Rehearsal {
    pub(crate) clock: Arc<ManualClock>,
    guard: Guard<MemoryStore>,
    runtime: tokio::runtime::Runtime,
    events: EventSender,
    collector: Collector,
    _writer: Writer,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Played {
    /// What was done with it.
    pub(crate) action: Action,
    /// How the tag stood that it showed, if it showed one of a session.
    pub(crate) standing: Option<Standing>,
    /// Whether the app was called: the request is as the app saw it then.
    pub(crate) reached_app: bool,
    /// The answer that the client got.
    pub(crate) status: StatusCode,
    /// Its lines of `Set-Cookie`.
    pub(crate) set_cookie: Vec<String>,
}

impl Rehearsal {
    pub(crate) fn new(staging: Staging<'_>) -> Result<Self, StagingError> {
        let clock = Arc::new(ManualClock::new(staging.start));
        let collector = Collector::new();
        let queue = crate::event::queue::Settings {
            // Each event counts, however often it is told.
            repeat: RepeatSettings { window: Duration::ZERO, ..RepeatSettings::default() },
            ..crate::event::queue::Settings::default()
        };
        let sinks: Vec<Box<dyn Sink>> = match staging.events {
            Events::Kept => vec![Box::new(collector.clone())],
            Events::Forgotten => Vec::new(),
        };
        let (events, writer) = EventQueue::start(&queue, clock.clone(), sinks)?;
        let guard = Guard::new(Setup {
            store: MemoryStore::new(SESSIONS_MAX_DEFAULT),
            policy: staging.settings.policy(1, staging.rulebook)?,
            // Nothing secret is played.
            keys: Keyring::new(&MasterKey::new(KeyId(1), [7; 32]), &[]),
            places: staging.places,
            limits: Limits::new(&staging.settings.limit_settings()),
            events: events.clone(),
            clock: clock.clone(),
            entropy: Arc::new(InsecureSeededEntropy::new(staging.seed)),
        });
        let guard = match staging.observer {
            Some(observer) => guard.observed_by(observer),
            None => guard,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Self { clock, guard, runtime, events, collector, _writer: writer })
    }

    /// Sends a request as it would come off the wire, and the app's answer back if the request comes so far. `body` is looked into
    /// if it may be that of a login.
    pub(crate) fn play(
        &self,
        (ip, print, connection): (IpAddr, Print, Option<ConnectionId>),
        parts: &mut request::Parts,
        body: &[u8],
        mut answer: response::Parts,
    ) -> Played {
        let client = Client {
            ip,
            scheme: Scheme::Https,
            standing: ClientStanding::Own,
            print,
            order: None,
            connection,
            located: None,
        };
        let peeked = self.guard.peek(parts).map(|_| Peeked { bytes: body, extent: Extent::Whole });
        let admission = match self.runtime.block_on(self.guard.admit(client, parts, peeked)) {
            Decision::Answer(refusal) => return Played::refused(&refusal, Action::Allow),
            Decision::Forward(admission) => admission,
        };
        let (action, standing) = (admission.action(), admission.standing());
        let settled = self.runtime.block_on(self.guard.settle(admission, AnsweredBy::App, &mut answer));
        let played = match settled.instead {
            Some(refusal) => Played::refused(&refusal, action),
            None => Played {
                action,
                standing: None,
                reached_app: true,
                status: answer.status,
                set_cookie: set_cookies(&answer.headers),
            },
        };
        Played { standing, reached_app: true, ..played }
    }

    /// What was told since it was asked for last.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.events.flush(FLUSH_MAX);
        self.collector.drain()
    }
}

impl Played {
    fn refused(refusal: &Refusal, before: Action) -> Self {
        let set_cookie = set_cookies(&refusal.headers);
        let action = refusal.kind.action().unwrap_or(Action::Deny).max(before);
        Self { action, standing: None, reached_app: false, status: refusal.status, set_cookie }
    }
}

/// The head of an answer of the app, which tells the guard of a login or a logout by its control header.
pub(crate) fn app_answer(status: StatusCode, login: Option<&str>, logout: bool) -> response::Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
    let quoted = |subject: &str| subject.replace('\\', "\\\\").replace('"', "\\\"");
    let login = login.map(|subject| format!("login; subject=\"{}\"", quoted(subject)));
    let commands = login.into_iter().chain(logout.then(|| "logout".to_owned()));
    for line in commands.filter_map(|command| HeaderValue::from_str(&command).ok()) {
        parts.headers.append("portcullis-session", line);
    }
    parts
}

/// In whose name the app was called.
pub(crate) fn subject_of(parts: &request::Parts) -> Option<String> {
    parts.headers.get("portcullis-subject")?.to_str().ok().map(str::to_owned)
}

fn set_cookies(headers: &HeaderMap) -> Vec<String> {
    headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok()).map(str::to_owned).collect()
}
