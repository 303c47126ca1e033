//! The same app around each kind of session: `/login` begins one with a number in it, `/` answers the number, `/add` adds
//! one.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::{get, post};
use portcullis::engine::Guard;
use portcullis::entropy::OsEntropy;
use portcullis::layer::{GuardBuilder, GuardLayer, Session};
use portcullis::limit::{LimitSettings, Rate};
use portcullis::secret::Keyring;
use portcullis::store::Store;
use session_guard::{AuthSession, GuardConfig, GuardError, NewSession, SessionStore, Sessions};
use tokio::task::JoinSet;
use tower_service::Service;
use tower_sessions::cookie::time;
use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};
use uuid::Uuid;

use crate::pace::Pace;
use crate::visit;

const KEY: &str = "count";

/// What a request does with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
}

impl Kind {
    pub const fn path(self) -> &'static str {
        match self {
            Self::Read => "/",
            Self::Write => "/add",
        }
    }

    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Read => "one value read",
            Self::Write => "one value read and written",
        }
    }
}

/// An app with its sessions.
pub struct Contender {
    pub name: &'static str,
    pub app: Router,
    /// Whether it can keep a value.
    pub writes: bool,
    /// One for each session; a single empty one for an app without any.
    pub cookies: Vec<Box<str>>,
    tend: Option<Tend>,
}

/// The housekeeping that an app has to start beside its server.
type Tend = Box<dyn Fn()>;

impl Contender {
    fn new(name: &'static str, app: Router, writes: bool) -> Self {
        Self { name, app, writes, cookies: Vec::new(), tend: None }
    }

    /// Does what is done now and then beside requests. It is not measured.
    pub fn tend(&self) {
        if let Some(tend) = &self.tend {
            tend();
        }
    }

    /// Begins so many sessions, and uses each a few times: what the first requests of a session bring into being is
    /// there.
    pub async fn enrol(&mut self, pace: &Pace, sessions: usize) {
        if self.name == BARE {
            self.cookies = vec!["id=nothing".into(); sessions];
            return;
        }
        self.cookies.reserve_exact(sessions);
        for number in 0..sessions {
            let response = self.app.call(visit::login(number)).await.unwrap();
            self.cookies.push(visit::cookie(&response));
            drop(response);
            self.passed(pace, number);
        }
        for _ in 0..USES {
            for number in 0..sessions {
                let request = self.request(Kind::Read, number);
                let mut response = self.app.call(request).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK, "{}: {response:?}", self.name);
                assert_eq!(visit::text(&mut response), number.to_string(), "{}", self.name);
                drop(response);
                self.passed(pace, number);
            }
        }
        self.tend();
    }

    /// The same over a server, which some requests at once keep busy: a million sessions are begun in minutes.
    pub async fn enrol_at_once(&mut self, pace: &Pace, sessions: usize) {
        const AT_ONCE: usize = 32;
        if self.name == BARE {
            return self.enrol(pace, sessions).await;
        }
        self.cookies = vec![Box::default(); sessions];
        for begin in (0..sessions).step_by(AT_ONCE) {
            let mut tasks = JoinSet::new();
            for number in begin..sessions.min(begin + AT_ONCE) {
                let mut app = self.app.clone();
                tasks.spawn(async move {
                    let response = app.call(visit::login(number)).await.unwrap();
                    let cookie = visit::cookie(&response);
                    let mut request = visit::request(Method::GET, Kind::Read.path(), number, Some(&cookie));
                    for _ in 0..USES {
                        let mut response = app.call(request).await.unwrap();
                        assert_eq!(visit::text(&mut response), number.to_string());
                        request = visit::request(Method::GET, Kind::Read.path(), number, Some(&cookie));
                    }
                    (number, cookie)
                });
            }
            for (number, cookie) in tasks.join_all().await {
                self.cookies[number] = cookie;
                self.passed(pace, number);
            }
        }
        self.tend();
    }

    fn passed(&self, pace: &Pace, number: usize) {
        pace.passed(1);
        if number.is_multiple_of(TEND_EVERY) {
            self.tend();
        }
    }

    /// A request of the session of this number.
    pub fn request(&self, kind: Kind, number: usize) -> axum::extract::Request {
        visit::request(Method::GET, kind.path(), number, Some(&self.cookies[number]))
    }
}

/// How often a session is used before it counts.
const USES: usize = 2;

/// Requests after which somebody tends the guard: about as many as a core answers in a second of `tend`.
pub const TEND_EVERY: usize = 65_536;

const BARE: &str = "axum, no session";
const TOWER: &str = "tower-sessions 0.15";
pub const OURS: &str = "Portcullis";
const SESSION_GUARD: &str = "session-guard 0.3.2";

/// Sessions are kept so long.
const DAY: time::Duration = time::Duration::days(1);

type Answer = Result<String, StatusCode>;

fn number(headers: &HeaderMap) -> u64 {
    headers[visit::NUMBER].to_str().unwrap().parse().unwrap()
}

fn failed<E>(_: E) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

pub fn bare() -> Contender {
    let answer = async || std::hint::black_box(17_u64).to_string();
    Contender::new(BARE, Router::new().route("/", get(answer)).route("/add", get(answer)), true)
}

/// As its documentation sets it up; the cookie is `Secure`, as it is by default.
pub fn tower() -> Contender {
    async fn login(session: tower_sessions::Session, headers: HeaderMap) -> Answer {
        session.insert(KEY, number(&headers)).await.map_err(failed)?;
        Ok(String::new())
    }
    async fn read(session: tower_sessions::Session) -> Answer {
        let value: u64 = session.get(KEY).await.map_err(failed)?.unwrap_or_default();
        Ok(value.to_string())
    }
    async fn add(session: tower_sessions::Session) -> Answer {
        let value: u64 = session.get(KEY).await.map_err(failed)?.unwrap_or_default();
        session.insert(KEY, value + 1).await.map_err(failed)?;
        Ok(value.to_string())
    }
    let layer = SessionManagerLayer::new(MemoryStore::default()).with_expiry(Expiry::OnInactivity(DAY));
    let app = Router::new().route("/login", post(login)).route("/", get(read)).route("/add", get(add)).layer(layer);
    Contender::new(TOWER, app, true)
}

/// A guard as the builder makes it by default, but for limits that are not met and the pace of its clock.
pub fn guard<S: Store>(store: S, pace: &Arc<Pace>) -> Arc<Guard<S>> {
    let rate = Rate::parse("1000000/1s burst 1000000").unwrap();
    let limits =
        LimitSettings { client: rate, session: rate, anonymous_sessions: rate, guesses: rate, ..Default::default() };
    Arc::new(GuardBuilder::new(store).limits(limits).clock(pace.clone()).keys(keys()).build().unwrap())
}

pub fn keys() -> Keyring {
    Keyring::generate(&OsEntropy).unwrap()
}

/// Forgets the answers that are over, as `portcullis::layer::tend` does once a second. No store is asked where no session
/// has an answer under way.
pub fn tend<S: Store>(guard: &Guard<S>) {
    match pin!(guard.sweep_streams()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(swept) => swept.unwrap(),
        Poll::Pending => panic!("an answer is still under way"),
    }
}

/// A router behind a guard.
pub fn guarded<S: Store>(guard: Arc<Guard<S>>, app: Router) -> Router {
    let layer = GuardLayer::new(guard)
        .with_client(|parts| parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip()));
    app.layer(layer)
}

/// Behind a guard, with a subject that has logged in.
pub fn ours<S: Store>(name: &'static str, store: S, pace: &Arc<Pace>) -> Contender {
    async fn login(session: Session, headers: HeaderMap) -> Answer {
        let number = number(&headers);
        session.insert(KEY, &number).map_err(failed)?;
        session.log_in(&format!("user{number}")).map_err(failed)?;
        Ok(String::new())
    }
    async fn read(session: Session) -> Answer {
        let value: u64 = session.get(KEY).map_err(failed)?.unwrap_or_default();
        Ok(value.to_string())
    }
    async fn add(session: Session) -> Answer {
        let value: u64 = session.get(KEY).map_err(failed)?.unwrap_or_default();
        session.insert(KEY, &(value + 1)).map_err(failed)?;
        Ok(value.to_string())
    }
    let app = Router::new().route("/login", post(login)).route("/", get(read)).route("/add", get(add));
    let guard = guard(store, pace);
    let tended = guard.clone();
    let tend: Tend = Box::new(move || tend(&tended));
    Contender { tend: Some(tend), ..Contender::new(name, guarded(guard, app), true) }
}

/// As its documentation sets it up. It keeps no values: what the handler reads is the subject.
pub fn session_guard<St: SessionStore>(store: St, pace: &Arc<Pace>) -> Contender {
    async fn login<St: SessionStore>(
        headers: HeaderMap,
        sessions: Sessions<St>,
    ) -> Result<(NewSession, &'static str), GuardError> {
        let user = Uuid::from_u128(number(&headers).into());
        Ok((sessions.login(&user).await?, ""))
    }
    async fn read(session: AuthSession<Uuid>) -> String {
        session.subject.as_u128().to_string()
    }
    let guard = session_guard::Guard::builder(store, GuardConfig::default()).clock(pace.for_session_guard()).build();
    let app = Router::new().route("/", get(read)).layer(guard.layer()).route("/login", post(login::<St>));
    Contender::new(SESSION_GUARD, app.with_state(guard), false)
}
