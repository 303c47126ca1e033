//! What can be asked of a running guard, and the answers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::LessSafeKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::PolicyStanding;
use super::metrics::{self, Figures};
use super::stats::{self, Stats, is_session};
use super::view::{Cleared, Health, PolicyView, Revoked, SessionView, Sessions, Version};
use crate::clock::Timestamp;
use crate::delivery::Standing;
use crate::engine::{Guard, SWEEP_MAX, Selection};
use crate::entropy::{Entropy, EntropyError, random};
use crate::event::field::Revoker;
use crate::event::kinds::AdminAction;
use crate::event::{ClientText, ClientView, Scene};
use crate::proxy::ExchangeFigures;
use crate::secret::{aead_key, open, seal};
use crate::session::id::{Ref, SessionDigest};
use crate::session::record::{Record, SUBJECT_BYTES_MAX};
use crate::store::{Filter, PAGE_MAX, SESSIONS_MAX_DEFAULT, Store, StoreError};
use crate::verdict::Text;

/// The version of this API.
pub(super) const API_VERSION: u32 = 1;
/// Sessions on a page, unless asked otherwise.
const PAGE: usize = 100;
/// Records that one request to clear them removes at most.
const CLEARED_MAX: usize = 100_000;
/// How often a session that gets a new id while it is being ended is looked for again.
const ROUNDS_MAX: usize = 8;
/// How long the store may take to answer a health check.
const PROBE: Duration = Duration::from_secs(2);
/// Most records that one request for figures looks at, whatever it asks for.
const WALK_RECORDS_MAX: usize = 10_000_000;
/// Longest time that it looks.
pub(super) const WALK_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// The guard as its operator sees it.
pub(super) struct Api<S> {
    guard: Arc<Guard<S>>,
    started: Timestamp,
    standing: PolicyStanding,
    /// Seals the marks of pages: where a page ends is a digest, and those are not shown.
    marks: LessSafeKey,
    entropy: Arc<dyn Entropy>,
    connections: Option<Box<dyn Fn() -> usize + Send + Sync>>,
    /// What became of requests that went to the app.
    exchanges: Option<Box<dyn Fn() -> ExchangeFigures + Send + Sync>>,
    /// Sinks that send to other programs.
    sinks: Vec<Arc<Standing>>,
    /// What kind of store it is.
    store_kind: Option<&'static str>,
    /// Held by whoever walks the store for figures: one at a time.
    walking: tokio::sync::Mutex<()>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    List(Listing),
    Show(Ref),
    Revoke(Selection),
    ClearExpired,
    /// Figures of at most so many records.
    Stats(usize),
    Health,
    Version,
    Metrics,
}

/// Which sessions are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    subject: Option<String>,
    reference: Option<Ref>,
    after: Option<String>,
    max: Option<usize>,
    ended: Ended,
}

/// Whether sessions that ended are listed too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ended {
    #[default]
    No,
    Yes,
}

/// What was wrong, told to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) detail: Cow<'static, str>,
    /// For a method that is not known here: those that are.
    allow: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), allow: None }
    }

    fn bad(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    fn method(allow: &'static str) -> Self {
        let detail = format!("this is for {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<EntropyError> for Problem {
    fn from(error: EntropyError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

// Reading ------------------------------------------------------------------------------------------------------------

impl Question {
    /// Reads what a request asks for.
    pub(super) fn parse(method: &Method, uri: &Uri) -> Result<Self, Problem> {
        let parts: Vec<&str> = uri.path().split('/').skip(1).collect();
        let query = uri.query();
        match parts.as_slice() {
            ["v1", "sessions"] => match *method {
                Method::GET => Listing::parse(query).map(Self::List),
                Method::DELETE => {
                    let mut all = parameters(query, &["all"])?;
                    match all.remove("all").as_deref() {
                        Some("yes") => Ok(Self::Revoke(Selection::All)),
                        _ => Err(Problem::bad("to end every session, say so: ?all=yes")),
                    }
                }
                _ => Err(Problem::method("GET, DELETE")),
            },
            ["v1", "sessions", reference] => {
                let (is_show, is_end) = (*method == Method::GET, *method == Method::DELETE);
                if !is_show && !is_end {
                    return Err(Problem::method("GET, DELETE"));
                }
                parameters(query, &[])?;
                let reference = reference_of(reference)?;
                Ok(if is_show { Self::Show(reference) } else { Self::Revoke(Selection::Ref(reference)) })
            }
            ["v1", "subjects", subject, "sessions"] => {
                only(method, &Method::DELETE, "DELETE")?;
                parameters(query, &[])?;
                Ok(Self::Revoke(Selection::Subject(subject_of(decode(subject)?)?.into())))
            }
            ["v1", "clear-expired"] => {
                only(method, &Method::POST, "POST")?;
                parameters(query, &[]).map(|_| Self::ClearExpired)
            }
            ["v1", "stats"] => {
                only(method, &Method::GET, "GET")?;
                let max = parameters(query, &["max"])?.remove("max").map(|text| match text.parse() {
                    Ok(max @ 1..=WALK_RECORDS_MAX) => Ok(max),
                    _ => Err(Problem::bad(format!("max is a number from 1 to {WALK_RECORDS_MAX}"))),
                });
                Ok(Self::Stats(max.transpose()?.unwrap_or(SESSIONS_MAX_DEFAULT.get())))
            }
            ["v1", "health"] => {
                only(method, &Method::GET, "GET")?;
                parameters(query, &[]).map(|_| Self::Health)
            }
            ["v1", "version"] => {
                only(method, &Method::GET, "GET")?;
                parameters(query, &[]).map(|_| Self::Version)
            }
            ["metrics"] => {
                only(method, &Method::GET, "GET")?;
                parameters(query, &[]).map(|_| Self::Metrics)
            }
            _ => Err(Problem::new(StatusCode::NOT_FOUND, "there is nothing here; the API begins at /v1/")),
        }
    }

    /// What an event calls it, and on what it is done. A look at the guard itself is nothing to tell.
    fn named(&self) -> Option<(&'static str, About)> {
        match self {
            Self::List(Listing { subject: Some(subject), .. }) => {
                Some(("sessions.list", About::Subject(subject.as_str().into())))
            }
            Self::List(listing) => Some(("sessions.list", listing.reference.map_or(About::All, About::Session))),
            Self::Show(reference) => Some(("sessions.show", About::Session(*reference))),
            Self::Revoke(Selection::Ref(reference)) => Some(("sessions.revoke", About::Session(*reference))),
            Self::Revoke(Selection::Subject(subject)) => {
                Some(("sessions.revoke_subject", About::Subject(subject.as_ref().into())))
            }
            Self::Revoke(Selection::All) => Some(("sessions.revoke_all", About::All)),
            Self::ClearExpired => Some(("sessions.clear_expired", About::All)),
            Self::Stats(_) => Some(("sessions.stats", About::All)),
            Self::Health | Self::Version | Self::Metrics => None,
        }
    }
}

/// What something is done on.
enum About {
    /// On all of it, or on nothing of its own.
    All,
    Session(Ref),
    Subject(Arc<str>),
}

impl Listing {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut given = parameters(query, &["subject", "ref", "after", "max", "ended"])?;
        let max = given.remove("max").map(|text| match text.parse() {
            Ok(max @ 1..=PAGE_MAX) => Ok(max),
            _ => Err(Problem::bad(format!("max is a number from 1 to {PAGE_MAX}"))),
        });
        let ended = match given.remove("ended").as_deref() {
            None | Some("no") => Ended::No,
            Some("yes") => Ended::Yes,
            Some(_) => return Err(Problem::bad("ended is yes or no")),
        };
        Ok(Self {
            subject: given.remove("subject").map(subject_of).transpose()?,
            reference: given.remove("ref").as_deref().map(reference_of).transpose()?,
            after: given.remove("after"),
            max: max.transpose()?,
            ended,
        })
    }
}

fn only(method: &Method, allowed: &Method, name: &'static str) -> Result<(), Problem> {
    if method == allowed { Ok(()) } else { Err(Problem::method(name)) }
}

fn reference_of(text: &str) -> Result<Ref, Problem> {
    Ref::parse(text).ok_or_else(|| Problem::bad("a ref is 32 hex digits, as in events"))
}

fn subject_of(text: String) -> Result<String, Problem> {
    if (1..=SUBJECT_BYTES_MAX).contains(&text.len()) {
        Ok(text)
    } else {
        Err(Problem::bad(format!("a subject has 1 to {SUBJECT_BYTES_MAX} bytes")))
    }
}

fn decode(text: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(text).decode_utf8().map(Cow::into_owned);
    decoded.ok().ok_or_else(|| Problem::bad("the request is not UTF-8"))
}

/// The parameters of a query: known ones, each once. A misspelt filter must not become no filter.
fn parameters<'k>(query: Option<&str>, known: &[&'k str]) -> Result<HashMap<&'k str, String>, Problem> {
    let mut found = HashMap::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(name) = known.iter().find(|known| **known == name) else {
            let what = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Problem::bad(format!("an unknown parameter; known here: {what}")));
        };
        if found.insert(*name, decode(value)?).is_some() {
            return Err(Problem::bad(format!("{name} is given twice")));
        }
    }
    Ok(found)
}

// Doing --------------------------------------------------------------------------------------------------------------

impl<S: Store> Api<S> {
    pub(super) fn new(
        guard: Arc<Guard<S>>,
        standing: PolicyStanding,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, EntropyError> {
        let marks = aead_key(&random(&entropy)?);
        Ok(Self {
            started: guard.now(),
            guard,
            standing,
            marks,
            entropy,
            connections: None,
            exchanges: None,
            sinks: Vec::new(),
            store_kind: None,
            walking: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn count_connections(&mut self, open: Box<dyn Fn() -> usize + Send + Sync>) {
        self.connections = Some(open);
    }

    pub(super) fn count_exchanges(&mut self, figures: Box<dyn Fn() -> ExchangeFigures + Send + Sync>) {
        self.exchanges = Some(figures);
    }

    pub(super) fn watch_sinks(&mut self, sinks: Vec<Arc<Standing>>) {
        self.sinks = sinks;
    }

    pub(super) const fn name_store(&mut self, kind: &'static str) {
        self.store_kind = Some(kind);
    }

    /// Does what is asked for, and tells it.
    pub(super) async fn answer(&self, question: &Question, client: Option<IpAddr>) -> Response<Bytes> {
        let response = match question {
            Question::List(listing) => self.list(listing).await.map(|page| json(StatusCode::OK, &page)),
            Question::Show(reference) => self.show(*reference).await.map(|view| json(StatusCode::OK, &view)),
            Question::Revoke(which) => self.revoke(which).await.map(|done| json(StatusCode::OK, &done)),
            Question::ClearExpired => self.clear_expired().await.map(|done| json(StatusCode::OK, &done)),
            Question::Stats(max) => self.stats(*max).await.map(|stats| json(StatusCode::OK, &stats)),
            Question::Health => Ok(self.health().await),
            Question::Metrics => Ok(self.metrics()),
            Question::Version => Ok(json(
                StatusCode::OK,
                &Version {
                    name: env!("CARGO_PKG_NAME").to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    api: API_VERSION,
                },
            )),
        };
        let response = response.unwrap_or_else(|problem| problem_document(&problem));
        if let Some((verb, about)) = question.named() {
            self.tell(client, verb, about, response.status());
        }
        response
    }

    /// Tells of a request that was turned away.
    pub(super) fn tell_refused(&self, client: Option<IpAddr>, status: StatusCode) {
        self.tell(client, "refused", About::All, status);
    }

    fn tell(&self, client: Option<IpAddr>, verb: &'static str, about: About, status: StatusCode) {
        // A subject is shown as plainly as subjects are; a session has a public name.
        let (subject, target) = match about {
            About::All => (None, None),
            About::Session(reference) => (None, Some(ClientText::new(&reference.to_string()))),
            About::Subject(subject) => (Some(subject), None),
        };
        let scene = Scene {
            client: ClientView { ip: client, ..ClientView::default() },
            subject,
            policy: Some(self.guard.policy().revision),
            status: Some(status.as_u16()),
            ..Scene::default()
        };
        let event = AdminAction { verb: Text::of(verb), target };
        self.guard.events().emit(self.guard.now(), scene, event);
    }

    async fn list(&self, listing: &Listing) -> Result<Sessions, Problem> {
        let filter = Filter {
            subject: listing.subject.as_deref().map(Into::into),
            reference: listing.reference,
            with_ended: listing.ended == Ended::Yes,
        };
        let after = listing.after.as_deref().map(|mark| self.read_mark(mark)).transpose()?;
        let page = self.guard.sessions(&filter, after, listing.max.unwrap_or(PAGE)).await?;
        let views = page.records.iter().filter(|record| is_session(record)).map(|record| self.view(record));
        // The store does not look at deadlines.
        let wanted = views.filter(|view| listing.ended == Ended::Yes || view.ended.is_none());
        let next = page.next.map(|at| self.mark(&at)).transpose()?;
        Ok(Sessions { sessions: wanted.collect(), policy: self.policy(), next })
    }

    async fn show(&self, reference: Ref) -> Result<SessionView, Problem> {
        self.find(reference).await?.map(|record| self.view(&record)).ok_or_else(unknown)
    }

    /// The session of a ref, the live one if an ended one of it is kept too.
    async fn find(&self, reference: Ref) -> Result<Option<Arc<Record>>, StoreError> {
        for with_ended in [false, true] {
            let filter = Filter { reference: Some(reference), with_ended, ..Filter::default() };
            let mut after = None;
            loop {
                let page = self.guard.sessions(&filter, after, PAGE).await?;
                if let Some(record) = page.records.into_iter().find(|record| is_session(record)) {
                    return Ok(Some(record));
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(None)
    }

    async fn revoke(&self, which: &Selection) -> Result<Revoked, Problem> {
        let mut revoked = 0;
        for _ in 0..ROUNDS_MAX {
            let round = self.guard.revoke(which, Revoker::Admin).await?;
            revoked += round;
            // A session may get a new id between being listed and being ended; it is listed again then.
            let done = match which {
                Selection::Subject(_) => true,
                Selection::Ref(reference) => {
                    round > 0 || self.find(*reference).await?.is_none_or(|record| record.is_ended())
                }
                Selection::All => round == 0,
            };
            if done {
                break;
            }
        }
        let is_carried = self.guard.store().carrier().is_some();
        match which {
            Selection::Ref(_) if revoked == 0 => Err(if is_carried { unseen() } else { unknown() }),
            Selection::Ref(_) => Ok(Revoked { revoked, unseen: false }),
            Selection::Subject(_) | Selection::All => Ok(Revoked { revoked, unseen: is_carried }),
        }
    }

    async fn clear_expired(&self) -> Result<Cleared, Problem> {
        let mut removed = 0;
        while removed < CLEARED_MAX {
            let batch = self.guard.clear_expired().await?;
            removed += batch;
            if batch < SWEEP_MAX {
                return Ok(Cleared { removed, more: false });
            }
            tokio::task::yield_now().await;
        }
        Ok(Cleared { removed, more: true })
    }

    async fn stats(&self, max: usize) -> Result<Stats, Problem> {
        let Ok(_walking) = self.walking.try_lock() else {
            let detail = "the sessions are being counted already, which ends within five minutes: ask again then";
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        };
        Ok(stats::walk(&self.guard, max, WALK_TIME_MAX, self.store_kind).await?)
    }

    async fn health(&self) -> Response<Bytes> {
        let store = matches!(tokio::time::timeout(PROBE, self.guard.probe()).await, Ok(Ok(_)));
        let counts = self.guard.events().counters();
        let health = Health {
            store,
            policy: self.policy(),
            events_waiting: self.guard.events().depth(),
            events_dropped: counts.iter().map(|count| count.dropped).sum(),
        };
        json(if store { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &health)
    }

    fn policy(&self) -> PolicyView {
        let policy = self.guard.policy();
        PolicyView { revision: policy.revision, stale: self.standing.is_stale(), rules: super::rules_in_force(&policy) }
    }

    fn metrics(&self) -> Response<Bytes> {
        let events = self.guard.events();
        let text = metrics::render(&Figures {
            started: self.started,
            policy: self.policy(),
            connections: self.connections.as_ref().map(|open| open()),
            exchanges: self.exchanges.as_ref().map(|figures| figures()),
            decisions: self.guard.decisions(),
            sessions_active: self.guard.sessions_live(),
            events: &events.counters(),
            events_waiting: events.depth(),
            events_unkept: events.unkept(),
            sinks: &self.sinks,
            store_kind: self.store_kind,
            store: &self.guard.store_use(),
        });
        answer_of(StatusCode::OK, text.into_bytes(), metrics::CONTENT_TYPE)
    }

    fn view(&self, record: &Record) -> SessionView {
        let policy = self.guard.policy();
        SessionView::of(record, &policy.session.deadlines, policy.scoring.half_life, self.guard.now())
    }

    fn mark(&self, at: &SessionDigest) -> Result<String, Problem> {
        let mut sealed = Vec::new();
        seal(&self.marks, &self.entropy, MARK, &at.0, &mut sealed)?;
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    fn read_mark(&self, mark: &str) -> Result<SessionDigest, Problem> {
        let stale = || Problem::bad("`after` is not from this guard, or from before it was restarted: begin anew");
        let mut sealed = URL_SAFE_NO_PAD.decode(mark).ok().ok_or_else(stale)?;
        let plain = open(&self.marks, MARK, &mut sealed).ok().ok_or_else(stale)?;
        <[u8; 32]>::try_from(&*plain).map(SessionDigest).ok().ok_or_else(stale)
    }
}

/// What the marks of pages are sealed for.
const MARK: &[u8] = b"admin page";

/// Of sessions that clients carry, a guard knows those that it has seen.
fn unseen() -> Problem {
    let what = "this guard has seen no session of this ref since its start: end all sessions of its subject";
    Problem::new(StatusCode::NOT_FOUND, what)
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no session of this ref")
}

// Writing ------------------------------------------------------------------------------------------------------------

fn json(status: StatusCode, document: &impl Serialize) -> Response<Bytes> {
    document_of(status, document, "application/json")
}

/// A problem as RFC 9457 wants it.
pub(super) fn problem_document(problem: &Problem) -> Response<Bytes> {
    #[derive(Serialize)]
    struct Document<'a> {
        title: &'a str,
        status: u16,
        detail: &'a str,
    }
    let title = problem.status.canonical_reason().unwrap_or("Problem");
    let document = Document { title, status: problem.status.as_u16(), detail: &problem.detail };
    let mut response = document_of(problem.status, &document, "application/problem+json");
    if let Some(allow) = problem.allow {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if problem.status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer realm=\"portcullis\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

fn document_of(status: StatusCode, document: &impl Serialize, kind: &'static str) -> Response<Bytes> {
    // These documents have nothing that JSON could not say; an empty body would be seen at once.
    let mut body = serde_json::to_vec(document).unwrap_or_default();
    body.push(b'\n');
    answer_of(status, body, kind)
}

fn answer_of(status: StatusCode, body: Vec<u8>, kind: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, uri: &str) -> Result<Question, u16> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Question::parse(&method, &uri.parse().unwrap()).map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn questions() {
        const REF: &str = "0123456789abcdef0123456789abcdef";
        let reference = Ref::parse(REF).unwrap();
        let listing = |listing| Ok(Question::List(listing));
        assert_eq!(ask("GET", "/v1/sessions"), listing(Listing::default()));
        assert_eq!(
            ask("GET", "/v1/sessions?subject=a%20b%2F&max=7&ended=yes&after=x"),
            listing(Listing {
                subject: Some("a b/".to_owned()),
                after: Some("x".to_owned()),
                max: Some(7),
                ended: Ended::Yes,
                reference: None,
            })
        );
        assert_eq!(ask("GET", &format!("/v1/sessions/{REF}")), Ok(Question::Show(reference)));
        assert_eq!(ask("DELETE", &format!("/v1/sessions/{REF}")), Ok(Question::Revoke(Selection::Ref(reference))));
        assert_eq!(
            ask("DELETE", "/v1/subjects/a%2Fb/sessions"),
            Ok(Question::Revoke(Selection::Subject("a/b".into())))
        );
        assert_eq!(ask("DELETE", "/v1/sessions?all=yes"), Ok(Question::Revoke(Selection::All)));
        assert_eq!(ask("POST", "/v1/clear-expired"), Ok(Question::ClearExpired));
        assert_eq!(ask("GET", "/v1/stats"), Ok(Question::Stats(1_000_000)));
        assert_eq!(ask("GET", "/v1/stats?max=7"), Ok(Question::Stats(7)));
        assert_eq!(ask("GET", "/v1/health"), Ok(Question::Health));
        assert_eq!(ask("GET", "/v1/version"), Ok(Question::Version));
    }

    #[test]
    fn what_is_misspelt_is_never_taken_for_something_wider() {
        let check = |method: &str, uri: &str, status: u16| assert_eq!(ask(method, uri), Err(status), "{method} {uri}");
        check("DELETE", "/v1/sessions", 400);
        check("DELETE", "/v1/sessions?all=no", 400);
        check("DELETE", "/v1/sessions?subject=alice&all=yes", 400);
        check("DELETE", "/v1/sessions/", 400);
        check("DELETE", "/v1/sessions/?all=yes", 400);
        check("DELETE", "/v1/subjects//sessions", 400);
        check("DELETE", "/v1/subjects/%FF/sessions", 400);
        check("GET", "/v1/sessions?subjct=alice", 400);
        check("GET", "/v1/sessions?subject=alice&subject=bob", 400);
        check("GET", "/v1/sessions?subject=", 400);
        check("GET", "/v1/sessions?max=0", 400);
        check("GET", "/v1/sessions?max=1001", 400);
        check("GET", "/v1/sessions?ended=maybe", 400);
        check("GET", "/v1/sessions/not-a-ref", 400);
        check("GET", "/v1/stats?max=0", 400);
        check("GET", "/v1/stats?max=10000001", 400);
        check("GET", "/v1/stats?limit=7", 400);
        check("POST", "/v1/stats", 405);
        check("PUT", "/v1/sessions", 405);
        check("POST", "/v1/sessions/0123456789abcdef0123456789abcdef", 405);
        check("GET", "/v1/subjects/alice/sessions", 405);
        check("GET", "/v1/clear-expired", 405);
        check("HEAD", "/v1/health", 405);
        check("GET", "/", 404);
        check("GET", "/v1", 404);
        check("GET", "/v2/sessions", 404);
        check("GET", "/v1/Sessions", 404);
    }
}
