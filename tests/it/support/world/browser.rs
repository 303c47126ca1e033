//! A browser, or what passes for one: a cookie jar, looks, an address, and the headers that go with each kind of request.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use portcullis::connection::Scheme;
use portcullis::connection::print::Print;
use portcullis::engine::cut::Cut;
use portcullis::engine::subject::{Extent, Peeked};
use portcullis::engine::{Admission, AnsweredBy, Client, ClientStanding, Decision, RefusalKind};
use portcullis::rules::HostFacts;

use super::{AppAnswer, Body, HOME, World, minutes, shop};

/// The name of our cookie.
pub(crate) const OURS: &str = "__Host-portcullis";

const CHROME: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
pub(crate) const CURL: &str = "curl/8.5.0";

type Cookies = Rc<RefCell<BTreeMap<String, String>>>;

pub(crate) struct Browser {
    world: World,
    ip: Cell<IpAddr>,
    agent: RefCell<String>,
    language: RefCell<String>,
    standing: Cell<ClientStanding>,
    print: Cell<Print>,
    cookies: Cookies,
}

/// One request.
#[derive(Clone)]
pub(crate) struct Ask {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    scheme: Scheme,
    /// What the program around the guard knows of it.
    pub(crate) facts: Option<HostFacts>,
}

impl Ask {
    /// Goes to a page.
    pub(crate) fn page(path: &str) -> Self {
        let headers = [
            ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-user", "?1"),
            ("sec-fetch-dest", "document"),
        ];
        Self::get(path, &headers)
    }

    /// A script asks.
    pub(crate) fn fetch(path: &str) -> Self {
        let headers = [
            ("accept", "*/*"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "empty"),
        ];
        Self::get(path, &headers)
    }

    /// Without TLS.
    pub(crate) fn over_http(mut self) -> Self {
        self.scheme = Scheme::Http;
        self
    }

    /// A part of a page.
    pub(crate) fn image(path: &str) -> Self {
        let headers = [
            ("accept", "image/*"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "no-cors"),
            ("sec-fetch-dest", "image"),
        ];
        Self::get(path, &headers)
    }

    /// A page that nobody asked for yet.
    pub(crate) fn prefetch(path: &str) -> Self {
        Self::page(path).header("sec-purpose", "prefetch")
    }

    /// The browser looks for a newer service worker.
    pub(crate) fn background(path: &str) -> Self {
        Self::fetch(path).header("sec-fetch-dest", "serviceworker")
    }

    /// A WebSocket; Chromium says nothing about itself here.
    pub(crate) fn socket(path: &str) -> Self {
        let headers = [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        Self::get(path, &headers)
    }

    /// A program that says nothing about itself.
    pub(crate) fn plain(path: &str) -> Self {
        Self::get(path, &[("accept", "*/*")])
    }

    /// Sends a form.
    pub(crate) fn form(path: &str, form: &str) -> Self {
        Self::page(path).post("application/x-www-form-urlencoded", form)
    }

    fn get(path: &str, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { method: Method::GET, path: path.into(), headers, body: None, scheme: Scheme::Https, facts: None }
    }

    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn post(mut self, kind: &str, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self.method(Method::POST).header("content-type", kind)
    }

    /// Puts a header, in place of one of the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        // In its very place: browsers do not change the order of their headers.
        match self.headers.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Puts one more header.
    pub(crate) fn and_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// From a page of another site.
    pub(crate) fn cross_site(self) -> Self {
        self.header("sec-fetch-site", "cross-site")
    }
}

impl Browser {
    pub(super) fn new(world: &World) -> Self {
        Self {
            world: world.clone(),
            ip: Cell::new(HOME.parse().unwrap()),
            agent: RefCell::new(CHROME.into()),
            language: RefCell::new("de-DE,de;q=0.9".into()),
            standing: Cell::new(ClientStanding::Own),
            print: Cell::default(),
            cookies: Cookies::default(),
        }
    }

    // ---- who it is -------------------------------------------------------------------------------------------------

    pub(crate) fn at(self, ip: &str) -> Self {
        self.moves_to(ip);
        self
    }

    pub(crate) fn moves_to(&self, ip: &str) -> &Self {
        self.ip.set(ip.parse().unwrap());
        self
    }

    pub(crate) fn with_agent(self, agent: &str) -> Self {
        agent.clone_into(&mut self.agent.borrow_mut());
        self
    }

    /// What its transport looks like.
    pub(crate) fn speaking(self, print: Print) -> Self {
        self.print.set(print);
        self
    }

    /// Its address is that of a proxy that nobody declared.
    pub(crate) fn behind_an_undeclared_proxy(self) -> Self {
        self.standing.set(ClientStanding::LooksLikeProxy);
        self
    }

    /// Takes a copy of somebody's cookies.
    pub(crate) fn steals_from(&self, other: &Self) -> &Self {
        let copy = other.cookies.borrow().clone();
        *self.cookies.borrow_mut() = copy;
        self
    }

    /// Puts a cookie into the jar by hand.
    pub(crate) fn holds(&self, name: &str, value: &str) -> &Self {
        self.cookies.borrow_mut().insert(name.into(), value.into());
        self
    }

    pub(crate) fn forgets(&self, name: &str) -> &Self {
        self.cookies.borrow_mut().remove(name);
        self
    }

    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.borrow().get(name).cloned()
    }

    /// Our cookie.
    pub(crate) fn ours(&self) -> Option<String> {
        self.cookie(OURS)
    }

    // ---- what it does ----------------------------------------------------------------------------------------------

    pub(crate) fn visits(&self, path: &str) -> Page {
        self.asks(Ask::page(path))
    }

    pub(crate) fn fetches(&self, path: &str) -> Page {
        self.asks(Ask::fetch(path))
    }

    /// Moves on to a new tag so many times; gives the cookies that it had before, all of them stale by now.
    pub(crate) fn outgrows(&self, times: usize) -> Vec<String> {
        let outgrow = |_| {
            let old = self.ours().unwrap();
            self.world.after(minutes(2));
            self.visits("/account").sets_ours();
            self.visits("/account").ok();
            old
        };
        let old = (0..times).map(outgrow).collect();
        self.world.after(minutes(2));
        old
    }

    /// Logs in with the right password.
    pub(crate) fn logs_in(&self, user: &str) -> Page {
        self.tries(user, &format!("pw-{user}-secret"))
    }

    /// Logs in with any password.
    pub(crate) fn tries(&self, user: &str, password: &str) -> Page {
        self.asks(self.login_form(user, password))
    }

    /// The form that logs in with the right password.
    pub(crate) fn login_of(&self, user: &str) -> Ask {
        self.login_form(user, &format!("pw-{user}-secret"))
    }

    fn login_form(&self, user: &str, password: &str) -> Ask {
        self.world.keeps_secret(password);
        Ask::form("/login", &format!("username={user}&password={password}"))
    }

    pub(crate) fn logs_out(&self) -> Page {
        self.asks(Ask::form("/logout", ""))
    }

    pub(crate) fn asks(&self, ask: Ask) -> Page {
        self.sends(ask).lands()
    }

    /// Sends a request that stays under way until it lands.
    pub(crate) fn sends(&self, ask: Ask) -> Flight {
        self.starts(ask).arrives()
    }

    /// Starts a request: its cookies are those of now, whenever it arrives.
    pub(crate) fn starts(&self, ask: Ask) -> Started {
        let (client, parts, body) = self.dresses(ask);
        self.cookies.borrow().values().for_each(|value| self.world.keeps_secret(value));
        Started { world: self.world.clone(), cookies: self.cookies.clone(), client, parts, body }
    }

    /// Takes in the cookies of an answer.
    pub(crate) fn keeps(&self, page: &Page) {
        keep_all(&self.cookies, page);
    }

    /// The request as the transport would hand it over.
    pub(crate) fn dresses(&self, ask: Ask) -> (Client, Parts, String) {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = ask.method;
        parts.uri = ask.path.parse().unwrap();
        let mut put = |name: &str, value: &str| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            parts.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        };
        if !ask.headers.iter().any(|(name, _)| name == "host") {
            put("host", "shop.example.com");
        }
        for (name, value) in [("user-agent", &self.agent), ("accept-language", &self.language)] {
            if !value.borrow().is_empty() {
                put(name, &value.borrow());
            }
        }
        let line: Vec<String> = self.cookies.borrow().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let own_cookies = ask.headers.iter().any(|(name, _)| name == "cookie");
        if !line.is_empty() && !own_cookies {
            put("cookie", &line.join("; "));
        }
        for (name, value) in &ask.headers {
            put(name, value);
        }
        let body = ask.body.unwrap_or_default();
        parts.extensions.insert(Body(body.clone()));
        if let Some(facts) = ask.facts {
            parts.extensions.insert(facts);
        }
        (
            Client {
                ip: self.ip.get(),
                scheme: ask.scheme,
                standing: self.standing.get(),
                print: self.print.get(),
                order: None,
                connection: None,
                located: None,
            },
            parts,
            body,
        )
    }
}

/// A request that has not reached us yet.
pub(crate) struct Started {
    world: World,
    cookies: Cookies,
    client: Client,
    parts: Parts,
    body: String,
}

impl Started {
    /// It reaches us, and goes on to the app or not.
    pub(crate) fn arrives(self) -> Flight {
        let Self { world, cookies, client, mut parts, body } = self;
        let guard = world.guard();
        let peeked = guard.peek(&parts).map(|limit| Peeked {
            bytes: body.as_bytes().get(..limit).unwrap_or(body.as_bytes()),
            extent: if body.len() > limit { Extent::Beginning } else { Extent::Whole },
        });
        let state = match world.run(guard.admit(client, &mut parts, peeked)) {
            Decision::Forward(admission) => State::Admitted(admission),
            Decision::Answer(refusal) => State::Refused(refusal.status, refusal.kind, refusal.headers),
        };
        Flight { world, cookies, parts, state, answer: None }
    }
}

/// A request that is under way.
pub(crate) struct Flight {
    world: World,
    cookies: Cookies,
    parts: Parts,
    state: State,
    answer: Option<AppAnswer>,
}

enum State {
    Admitted(Box<Admission>),
    Refused(StatusCode, RefusalKind, HeaderMap),
}

#[expect(clippy::wrong_self_convention, reason = "a step of a story takes the page and gives it on")]
impl Flight {
    /// The app answers, and the answer is on its way back.
    pub(crate) fn is_answered(mut self) -> Self {
        if matches!(self.state, State::Admitted(_)) {
            self.answer = Some(self.world.call_app(&self.parts));
        }
        self
    }

    /// The answer arrives.
    pub(crate) fn lands(self) -> Page {
        let cookies = self.cookies.clone();
        let page = self.lands_unseen();
        keep_all(&cookies, &page);
        page
    }

    /// The answer leaves us and its cookies never reach the jar.
    pub(crate) fn lands_unseen(self) -> Page {
        let flight = if self.answer.is_none() { self.is_answered() } else { self };
        let Self { world, parts, state, answer, .. } = flight;
        let (admission, answer) = match (state, answer) {
            (State::Refused(status, kind, headers), _) => {
                return Page { status, headers, seen: None, serving: None, refused: Some(kind), cut: None };
            }
            (State::Admitted(admission), Some(answer)) => (admission, answer),
            (State::Admitted(_), None) => unreachable!("it was answered above"),
        };
        for line in answer.headers.get_all("set-cookie") {
            let pair = line.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
            pair.split_once('=').inspect(|(_, value)| world.keeps_secret(value));
        }
        let (mut response, ()) = Response::new(()).into_parts();
        (response.status, response.headers) = (answer.status, answer.headers);
        let settled = world.run(world.guard().settle(admission, AnsweredBy::App, &mut response));
        let (status, headers, refused) = match settled.instead {
            Some(refusal) => (refusal.status, refusal.headers, Some(refusal.kind)),
            None => (response.status, response.headers, None),
        };
        Page { status, headers, seen: Some(parts), serving: answer.serving, refused, cut: settled.cut }
    }
}

fn keep_all(cookies: &Cookies, page: &Page) {
    for line in page.set_cookies() {
        keep(&mut cookies.borrow_mut(), &line);
    }
}

fn keep(cookies: &mut BTreeMap<String, String>, line: &str) {
    let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
    let (name, value) = pair.split_once('=').unwrap();
    if attributes.contains("Max-Age=0") {
        cookies.remove(name);
    } else {
        cookies.insert(name.into(), value.into());
    }
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    /// The headers that the client gets.
    pub(crate) headers: HeaderMap,
    /// The request as the app saw it.
    seen: Option<Parts>,
    serving: Option<String>,
    pub(crate) refused: Option<RefusalKind>,
    pub(crate) cut: Option<Cut>,
}

#[expect(clippy::wrong_self_convention, reason = "a step of a story takes the page and gives it on")]
impl Page {
    /// The app was asked, and did not complain.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.refused.is_none(), "refused: {:?}", self.refused);
        assert!(self.status.is_success() || self.status.is_redirection(), "{}", self.status);
        self
    }

    /// The app took the request for this user's.
    #[track_caller]
    pub(crate) fn is(self, user: &str) -> Self {
        assert_eq!(self.serving.as_deref(), Some(user), "{}", self.outline());
        self
    }

    /// The app was asked, and took the request for a stranger's: no credential reached it.
    #[track_caller]
    pub(crate) fn is_stranger(self) -> Self {
        assert!(self.seen.is_some(), "it did not reach the app: {:?}", self.refused);
        assert_eq!(self.serving, None);
        assert_eq!(self.app_cookie("sessionid"), None);
        assert_eq!(self.header_at_app("portcullis-subject"), None);
        self
    }

    /// We answered ourselves.
    #[track_caller]
    pub(crate) fn is_refused(self, status: u16, kind: RefusalKind) -> Self {
        assert_eq!((self.status.as_u16(), self.refused), (status, Some(kind)));
        self
    }

    /// No cookie of ours was set or cleared.
    #[track_caller]
    pub(crate) fn sets_nothing_of_ours(self) -> Self {
        assert_eq!(self.ours(), Vec::<String>::new());
        self
    }

    /// One cookie of ours was set, with a value.
    #[track_caller]
    pub(crate) fn sets_ours(self) -> Self {
        let ours = self.ours();
        assert_eq!(ours.len(), 1, "{ours:?}");
        assert!(!ours[0].contains("Max-Age=0"), "{ours:?}");
        assert_eq!(self.headers.get("cache-control").unwrap(), "no-store");
        self
    }

    /// The client is told to forget our cookie.
    #[track_caller]
    pub(crate) fn clears_ours(self) -> Self {
        let ours = self.ours();
        assert_eq!(ours.len(), 1, "{ours:?}");
        assert!(ours[0].contains("Max-Age=0"), "{ours:?}");
        self
    }

    pub(crate) const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(crate) fn set_cookies(&self) -> Vec<String> {
        let lines = self.headers.get_all("set-cookie").iter();
        lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
    }

    pub(crate) fn ours(&self) -> Vec<String> {
        self.set_cookies().into_iter().filter(|line| line.starts_with(OURS)).collect()
    }

    /// The one `Cookie` line that the app saw; empty if none.
    #[track_caller]
    pub(crate) fn app_cookies(&self) -> String {
        let lines: Vec<_> = self.seen.as_ref().unwrap().headers.get_all("cookie").iter().collect();
        assert!(lines.len() <= 1, "{lines:?}");
        lines.first().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).unwrap_or_default()
    }

    pub(crate) fn app_cookie(&self, name: &str) -> Option<String> {
        shop::cookie(self.seen.as_ref()?, name)
    }

    /// Whom the app took the request for.
    pub(crate) fn serving(&self) -> Option<&str> {
        self.serving.as_deref()
    }

    pub(crate) fn header_at_app(&self, name: &str) -> Option<&str> {
        self.seen.as_ref()?.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Everything about it that a client can see.
    pub(crate) fn outline(&self) -> String {
        let headers: Vec<String> =
            self.headers.iter().map(|(name, value)| format!("{name}: {}", value.as_bytes().escape_ascii())).collect();
        format!("{} {:?} {}", self.status, self.refused, headers.join(" | "))
    }
}
