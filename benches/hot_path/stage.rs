//! What is measured in process: one request and its answer, through `admit` and `settle`, over the store in memory.
//!
//! Requests are put together before the clock runs, as hyper would have done, and thrown away after it has stopped.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::header::{
    ACCEPT, ACCEPT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, DATE, HOST, SERVER, SET_COOKIE, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, request, response};
use portcullis::clock::{Clock, ManualClock, Timestamp};
use portcullis::connection::Scheme;
use portcullis::connection::print::Print;
use portcullis::engine::subject::{Extent, Peeked};
use portcullis::engine::{AnsweredBy, Client, ClientStanding, Decision, Guard};
use portcullis::event::queue::{Flushed, Writer};
use portcullis::store::Store;
use portcullis::store::memory::MemoryStore;

use super::support::guard;

/// Any moment will do.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_795_257_972);

/// Length of the app's own session cookie, which becomes the jar.
const JAR_BYTES: usize = 200;

/// Fields that can be added to a request or an answer before its map must grow.
const ROOM: usize = 8;

/// What a request can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// No cookie of ours.
    Fresh,
    /// The newest tag.
    Known,
    /// The newest tag, old enough for each answer to offer a successor.
    Offered,
    /// A successor, presented for the first time: a write to the store.
    Adopted,
    /// An id that looks right and was never issued.
    Denied,
}

impl Op {
    /// In the order in which one stage can do them: the clock only moves on.
    pub(crate) const ALL: [Self; 5] = [Self::Fresh, Self::Known, Self::Denied, Self::Offered, Self::Adopted];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Known => "known",
            Self::Offered => "rotated, offered",
            Self::Adopted => "rotated, adopted",
            Self::Denied => "denied",
        }
    }

    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Fresh => "no cookie of ours",
            Self::Known => "the newest tag",
            Self::Offered => "successor due: each answer carries one",
            Self::Adopted => "a successor presented for the first time: a commit",
            Self::Denied => "an id that was never issued: an event, no cookies to the app",
        }
    }
}

/// The output of a future that never waits: the store in memory makes nobody wait. A macro, because a function would first
/// have to be given the future, and copying it would be measured too.
macro_rules! ready {
    ($future:expr) => {
        match pin!($future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the guard waits for something"),
        }
    };
}

/// A guard with sessions.
pub(crate) struct Stage<S: Store = MemoryStore> {
    guard: Guard<S>,
    clock: Arc<ManualClock>,
    sessions: Vec<Session>,
    at: usize,
    page: request::Parts,
    answer: response::Parts,
    _writer: Writer,
}

struct Session {
    client: Client,
    cookie: HeaderValue,
}

/// A request with the answer that the app will give.
pub(crate) struct Exchange {
    client: Client,
    request: request::Parts,
    response: response::Parts,
}

impl Stage {
    /// A guard through which so many subjects have logged in, one after the other with a pause between them.
    pub(crate) fn new(sessions: usize, pause: Duration) -> Self {
        Self::over(MemoryStore::new(NonZeroUsize::new(sessions * 2 + 1000).unwrap()), sessions, pause)
    }
}

impl<S: Store> Stage<S> {
    /// The same over another store.
    pub(crate) fn over(store: S, sessions: usize, pause: Duration) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let (guard, writer) = guard(&shared, store);
        let mut stage = Self {
            guard,
            clock,
            sessions: Vec::with_capacity(sessions),
            at: 0,
            page: request(Method::GET, "/orders/17?page=2"),
            answer: response(),
            _writer: writer,
        };
        for number in 0..sessions {
            let session = stage.log_in(number);
            stage.sessions.push(session);
            stage.clock.advance(pause);
            // Time passes: the writer of events keeps up.
            if number % 64 == 0 {
                stage.rest();
            }
        }
        // Where clients carry their sessions, the first use is carried too.
        if stage.sessions.first().is_some_and(|session| session.cookie.as_bytes().contains(&b';')) {
            stage.use_each();
        }
        stage
    }

    fn log_in(&self, number: usize) -> Session {
        let client = client(number);
        let mut request = request(Method::POST, "/login");
        let form = format!("username=user{number}&password=x");
        let body = Peeked { bytes: form.as_bytes(), extent: Extent::Whole };
        let Decision::Forward(admission) = ready!(self.guard.admit(client, &mut request, Some(body))) else {
            panic!("a login was refused")
        };
        let mut response = response();
        let line = format!("sessionid={number:v>JAR_BYTES$}; Path=/; HttpOnly");
        response.headers.insert(SET_COOKIE, line.parse().unwrap());
        ready!(self.guard.settle(admission, AnsweredBy::App, &mut response));
        let cookie = ours(&response.headers).unwrap_or_else(|| panic!("a login got no cookie: {response:?}"));
        Session { client, cookie }
    }

    /// Makes everything ready for a number of exchanges of a kind, each with another session as long as there are some.
    pub(crate) fn prepare(&mut self, op: Op, count: usize) -> Vec<Exchange> {
        if op == Op::Adopted {
            self.clock.advance(self.guard.policy().session.rotate_every + Duration::from_secs(1));
            assert!(count <= self.sessions.len(), "a successor can be adopted only once");
        }
        (0..count).map(|_| self.exchange(op)).collect()
    }

    /// From now on the head of every session is old enough for a successor, and its last use was written down.
    pub(crate) fn grow_old(&mut self) {
        self.clock.advance(self.guard.policy().session.rotate_every + Duration::from_secs(1));
        for _ in 0..self.sessions.len() {
            let mut exchange = self.exchange(Op::Offered);
            self.run(&mut exchange);
        }
    }

    /// Each session was used, and its client has what it was given for that.
    fn use_each(&mut self) {
        for at in 0..self.sessions.len() {
            let Session { client, cookie } = &self.sessions[at];
            let mut exchange = self.page(*client, Some(cookie.clone()));
            self.run(&mut exchange);
            if let Some(given) = ours(&exchange.response.headers) {
                self.sessions[at].cookie = merged(&self.sessions[at].cookie, &given);
            }
            if at % 64 == 0 {
                self.rest();
            }
        }
    }

    fn exchange(&mut self, op: Op) -> Exchange {
        // A step that has no factor in common with any number of sessions used here: neighbours are far apart in memory.
        self.at = (self.at + 7919) % self.sessions.len();
        let session = &self.sessions[self.at];
        let client = session.client;
        let cookie = match op {
            Op::Fresh => None,
            Op::Known | Op::Offered => Some(session.cookie.clone()),
            Op::Denied => Some(format!("portcullis={:A>43}.{:A>22}", self.at, "").parse().unwrap()),
            Op::Adopted => {
                let mut exchange = self.page(client, Some(session.cookie.clone()));
                self.run(&mut exchange);
                let successor = ours(&exchange.response.headers).expect("no successor was offered");
                self.sessions[self.at].cookie = successor.clone();
                Some(successor)
            }
        };
        self.page(client, cookie)
    }

    fn page(&self, client: Client, cookie: Option<HeaderValue>) -> Exchange {
        let (mut request, mut response) = (self.page.clone(), self.answer.clone());
        // By the time the guard sees them the maps have room: hyper has read into them, the proxy has added fields.
        request.headers.reserve(ROOM);
        response.headers.reserve(ROOM);
        if let Some(cookie) = cookie {
            request.headers.insert(COOKIE, cookie);
        }
        Exchange { client, request, response }
    }

    /// What is measured.
    pub(crate) fn run(&self, exchange: &mut Exchange) {
        match ready!(self.guard.admit(exchange.client, &mut exchange.request, None)) {
            Decision::Forward(admission) => {
                ready!(self.guard.settle(admission, AnsweredBy::App, &mut exchange.response));
            }
            Decision::Answer(refusal) => panic!("refused: {refusal:?}"),
        }
    }

    /// Waits until the writer of events has nothing left to do.
    pub(crate) fn rest(&self) {
        assert_eq!(self.guard.events().flush(Duration::from_secs(10)), Flushed::All);
    }

    /// What this program itself keeps for each session.
    pub(crate) fn kept_bytes(&self) -> usize {
        size_of::<Session>() + self.sessions.first().map_or(0, |session| session.cookie.len())
    }

    /// Makes sure that a kind does what it is measured for.
    pub(crate) fn check(&mut self, op: Op) {
        let mut exchange = self.prepare(op, 1).remove(0);
        self.run(&mut exchange);
        let app_sees = exchange.request.headers.get(COOKIE).map(|value| value.to_str().unwrap());
        let client_gets = ours(&exchange.response.headers);
        match op {
            Op::Fresh | Op::Denied => assert_eq!((app_sees, client_gets), (None, None), "{op:?}"),
            Op::Known | Op::Offered | Op::Adopted => {
                let jar = app_sees.expect("the app sees no cookie");
                assert!(jar.starts_with("sessionid=v") && jar.len() == "sessionid=".len() + JAR_BYTES, "{op:?}: {jar}");
                assert_eq!(client_gets.is_some(), op == Op::Offered, "{op:?}: {client_gets:?}");
            }
        }
    }
}

/// The guard's cookies on an answer, as the client would send them back.
fn ours(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok()?.split(';').next());
    let pairs: Vec<&str> = lines.filter(|pair| pair.starts_with("portcullis")).collect();
    (!pairs.is_empty()).then(|| pairs.join("; ").parse().unwrap())
}

/// The cookies of a client after it was given others.
fn merged(before: &HeaderValue, given: &HeaderValue) -> HeaderValue {
    let pairs = |line: &HeaderValue| line.to_str().unwrap().split("; ").map(str::to_owned).collect::<Vec<_>>();
    let name = |pair: &str| pair.split('=').next().unwrap().to_owned();
    let given = pairs(given);
    let is_kept = |pair: &String| given.iter().all(|other| name(other) != name(pair));
    let all: Vec<_> = pairs(before).into_iter().filter(is_kept).chain(given.iter().cloned()).collect();
    all.join("; ").parse().unwrap()
}

fn client(number: usize) -> Client {
    let ip = Ipv4Addr::from_bits(0x0a00_0000 | u32::try_from(number).unwrap());
    Client {
        ip: IpAddr::V4(ip),
        scheme: Scheme::Http,
        standing: ClientStanding::Own,
        print: Print::default(),
        order: None,
        connection: None,
        located: None,
    }
}

fn request(method: Method, target: &'static str) -> request::Parts {
    let (mut parts, ()) = Request::builder().method(method).uri(target).body(()).unwrap().into_parts();
    let lines = [
        (HOST, "shop.example"),
        (USER_AGENT, "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        (ACCEPT, "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        (ACCEPT_LANGUAGE, "en-GB,en;q=0.5"),
    ];
    parts.headers.extend(lines.map(|(name, value)| (name, HeaderValue::from_static(value))));
    // A clone shares the octets, as what hyper has parsed shares those of the connection's buffer.
    drop(parts.uri.clone());
    parts
}

fn response() -> response::Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    let lines = [
        (SERVER, "app"),
        (DATE, "Sat, 21 Nov 2026 10:46:12 GMT"),
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_LENGTH, "80"),
    ];
    parts.headers.extend(lines.map(|(name, value)| (name, HeaderValue::from_static(value))));
    parts
}
