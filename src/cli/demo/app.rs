//! The sample app: a small bank with the mistakes that are still made.
//!
//! It accepts any session id it is shown, keeps the id at login, ends no session (logging out only asks the browser to
//! forget the cookie), lets scripts read the cookie, and lets anyone guess passwords for as long as he likes. It knows
//! nothing of the guard.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use percent_encoding::percent_decode;
use portcullis::entropy::{Entropy, random};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::page::{self, Note};
use super::users::{User, Users};

/// The app's session cookie.
pub(super) const COOKIE: &str = "sid";
/// Sessions it keeps; the oldest goes first. Even a weak demo must not fill somebody's memory.
const SESSIONS_MAX: usize = 10_000;
/// Bytes of a session id it accepts.
const ID_BYTES_MAX: usize = 128;
/// Bytes of a form it reads.
const FORM_BYTES_MAX: usize = 16 * 1024;
/// Connections it serves at once.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may take for the head of a request, or be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// What the app does about ids. The default is what makes it weak; tests mend it, to see that an attack can fail.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Habits {
    pub(super) at_login: AtLogin,
    pub(super) at_logout: AtLogout,
}

/// The session id after a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AtLogin {
    /// It stays.
    #[default]
    KeepId,
    /// It is another.
    #[cfg_attr(not(test), expect(dead_code, reason = "the app of the demo is weak; tests mend it"))]
    NewId,
}

/// The session after a logout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AtLogout {
    /// It lives on; the browser is asked to forget its cookie.
    #[default]
    ForgetCookie,
    /// It ends.
    #[cfg_attr(not(test), expect(dead_code, reason = "the app of the demo is weak; tests mend it"))]
    EndSession,
}

/// The app with all it remembers.
#[derive(Debug)]
pub(super) struct App {
    state: Mutex<State>,
    habits: Habits,
    entropy: Arc<dyn Entropy>,
}

#[derive(Debug)]
struct State {
    users: Users,
    /// Who is logged in under which id.
    sessions: HashMap<String, &'static str>,
    order: VecDeque<String>,
}

/// What of a request the app looks at.
struct Asked {
    method: Method,
    path: String,
    sid: Option<String>,
    form: Bytes,
}

impl App {
    pub(super) fn new(users: Users, habits: Habits, entropy: Arc<dyn Entropy>) -> Self {
        let state = State { users, sessions: HashMap::new(), order: VecDeque::new() };
        Self { state: Mutex::new(state), habits, entropy }
    }

    fn answer(&self, asked: &Asked) -> Response<Full<Bytes>> {
        let user = self.state.lock().user(asked.sid.as_deref());
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET" | "HEAD", "/") => self.remember(asked, html(page::home(user.as_ref()))),
            ("GET" | "HEAD", "/login") => self.remember(asked, html(page::login(Note::None))),
            ("POST", "/login") => self.log_in(asked),
            ("GET" | "HEAD", "/account") => user.map_or_else(|| to("/login"), |user| html(page::account(&user))),
            ("GET" | "HEAD", "/password") => {
                user.map_or_else(|| to("/login"), |user| html(page::password(&user, Note::None)))
            }
            ("POST", "/password") => user.map_or_else(|| to("/login"), |user| self.change_password(asked, &user)),
            ("POST", "/logout") => self.log_out(asked),
            _ => with_status(html(page::not_found()), StatusCode::NOT_FOUND),
        }
    }

    /// Gives an id to whoever shows none. One that is shown is taken as it is.
    fn remember(&self, asked: &Asked, answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        match asked.sid {
            Some(_) => answer,
            None => self.new_id().map_or_else(broken, |id| with_cookie(answer, &id)),
        }
    }

    fn log_in(&self, asked: &Asked) -> Response<Full<Bytes>> {
        let (name, password) = (asked.field("user"), asked.field("password"));
        let user = name.and_then(|name| self.state.lock().users.find(&name).cloned());
        let Some(user) = user.filter(|user| password.is_some_and(|password| password == user.password)) else {
            return html(page::login(Note::Say("That is not the right name and password.")));
        };
        match (&asked.sid, self.habits.at_login) {
            (Some(sid), AtLogin::KeepId) => {
                self.state.lock().enter(sid.clone(), user.name);
                to("/account")
            }
            _ => self.new_id().map_or_else(broken, |id| {
                self.state.lock().enter(id.clone(), user.name);
                with_cookie(to("/account"), &id)
            }),
        }
    }

    fn change_password(&self, asked: &Asked, user: &User) -> Response<Full<Bytes>> {
        match asked.field("new").filter(|new| !new.is_empty()) {
            Some(new) => {
                self.state.lock().users.set_password(user.name, &new);
                html(page::password(user, Note::Say("Changed.")))
            }
            None => html(page::password(user, Note::Say("It must not be empty."))),
        }
    }

    fn log_out(&self, asked: &Asked) -> Response<Full<Bytes>> {
        if let (Some(sid), AtLogout::EndSession) = (&asked.sid, self.habits.at_logout) {
            self.state.lock().sessions.remove(sid);
        }
        let mut answer = to("/");
        let line = HeaderValue::from_static("sid=; Path=/; Max-Age=0");
        answer.headers_mut().append(header::SET_COOKIE, line);
        answer
    }

    fn new_id(&self) -> Option<String> {
        let bytes: [u8; 16] = random(&self.entropy).ok()?;
        Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl State {
    fn user(&self, sid: Option<&str>) -> Option<User> {
        self.users.find(self.sessions.get(sid?)?).cloned()
    }

    fn enter(&mut self, sid: String, name: &'static str) {
        if self.sessions.insert(sid.clone(), name).is_none() {
            self.order.push_back(sid);
        }
        while self.order.len() > SESSIONS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.sessions.remove(&oldest);
            }
        }
    }
}

impl Asked {
    fn field(&self, wanted: &str) -> Option<String> {
        self.form.split(|byte| *byte == b'&').find_map(|pair| {
            let (name, value) = pair.split_at(pair.iter().position(|byte| *byte == b'=')?);
            let value: Vec<u8> = value.iter().skip(1).map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
            (name == wanted.as_bytes()).then(|| percent_decode(&value).decode_utf8_lossy().into_owned())
        })
    }
}

/// The first session id in the request. Any will do.
fn sid(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, value)| *name == COOKIE && (1..=ID_BYTES_MAX).contains(&value.len()))?;
    Some(value.to_owned())
}

fn html(page: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(page)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    answer
}

fn to(path: &'static str) -> Response<Full<Bytes>> {
    let mut answer = with_status(Response::new(Full::default()), StatusCode::SEE_OTHER);
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static(path));
    answer
}

fn with_status(mut answer: Response<Full<Bytes>>, status: StatusCode) -> Response<Full<Bytes>> {
    *answer.status_mut() = status;
    answer
}

/// Sets the session cookie, without HttpOnly: another mistake.
fn with_cookie(mut answer: Response<Full<Bytes>>, id: &str) -> Response<Full<Bytes>> {
    if let Ok(line) = HeaderValue::from_str(&format!("{COOKIE}={id}; Path=/")) {
        answer.headers_mut().append(header::SET_COOKIE, line);
    }
    answer
}

fn broken() -> Response<Full<Bytes>> {
    with_status(Response::new(Full::default()), StatusCode::INTERNAL_SERVER_ERROR)
}

/// Serves the app until the task is dropped.
///
/// # Errors
/// When the socket can not be registered.
pub(super) fn serve(app: Arc<App>, socket: std::net::TcpListener) -> std::io::Result<impl Future<Output = ()> + Send> {
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket)?;
    Ok(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // Ends only when the semaphore is closed, which nobody does.
        while let Ok(place) = places.clone().acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let app = app.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| handle(app.clone(), request));
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection to the sample app ended early");
                }
                drop(place);
            });
        }
    })
}

async fn handle(app: Arc<App>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, FORM_BYTES_MAX).collect().await else {
        return Ok(with_status(Response::new(Full::default()), StatusCode::BAD_REQUEST));
    };
    let path = head.uri.path().to_owned();
    let asked = Asked { method: head.method, path, sid: sid(&head.headers), form: body.to_bytes() };
    Ok(app.answer(&asked))
}
