//! What `portcullis drive` reads and writes: one JSON object a line.
//!
//! ```text
//! {"op":"request","t":12.5,"jar":"a","ip":"203.0.113.10","geo":{"asn":3320,"country":"DE"},"headers":[["user-agent","..."]]}
//! {"op":"copy","t":900,"from":"a","to":"thief","as_of":870}
//! {"op":"rollback","t":950,"jar":"a","as_of":920}
//! {"op":"drop","t":960,"jar":"a"}
//! ```
//! Only requests are answered, and whatever can not be read. The jars are kept here: what the guard sets is stored `latency`
//! seconds after the request.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use serde::{Deserialize, Serialize};

use super::{App, Attention, DriveError, Driver, Jar, START, Visitor, head, is_signal};
use crate::clock::Timestamp;
use crate::config::{Rulebook, Settings};
use crate::connection::ConnectionId;
use crate::connection::print::{Http2Print, Ja4, Print, RttGap, SynClass, TlsPrint};
use crate::event::Kind;
use crate::facts::geo::{Country, NetworkKind, Place, Position};
use crate::net::Asn;
use crate::session::tag::Standing;
use crate::verdict::Action;

/// Jars that are kept at most.
pub const JARS_MAX: usize = 100_000;

/// How long an answer takes to reach its client if nobody says.
const LATENCY: f64 = 0.1;

/// The latest time in seconds after the start: a hundred years.
const TIME_MAX: f64 = 100.0 * 366.0 * 86_400.0;

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Request(Box<Ask>),
    Copy { t: f64, from: String, to: String, as_of: Option<f64> },
    Rollback { t: f64, jar: String, as_of: f64 },
    Drop { t: Option<f64>, jar: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    t: f64,
    jar: String,
    ip: Option<IpAddr>,
    geo: Option<Geo>,
    tls: Option<Tls>,
    h2: Option<String>,
    syn: Option<String>,
    rtt_gap_ms: Option<u64>,
    connection: Option<u64>,
    http: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    method: Option<String>,
    path: Option<String>,
    response: Option<Answer>,
    keep_cookie: Option<bool>,
    latency: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Geo {
    asn: Option<u32>,
    country: Option<String>,
    lat: Option<f64>,
    lon: Option<f64>,
    radius_km: Option<f64>,
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    ja4: Option<String>,
    core: Option<String>,
    soft: Option<u8>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    status: Option<u16>,
    login: Option<String>,
    #[serde(default)]
    logout: bool,
    #[serde(default)]
    set_cookie: Vec<String>,
}

/// What is said of a request.
#[derive(Debug, Serialize)]
struct Told {
    n: u64,
    action: &'static str,
    status: &'static str,
    risk: f32,
    signals: Vec<Seen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    authenticated: bool,
    subject: Option<String>,
    reached_app: bool,
    app_cookies: Vec<String>,
    events: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Seen {
    kind: String,
    points: f32,
    before: Option<String>,
    after: Option<String>,
}

/// A line that says nothing that could be done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LineError(String);

/// Reads lines, and answers those that are requests.
#[derive(Debug)]
pub struct Play {
    driver: Driver,
    jars: BTreeMap<String, Jar>,
    now: Timestamp,
    requests: u64,
}

impl Play {
    /// A guard with these settings and rules. The same lines with the same seed have the same answers.
    ///
    /// # Errors
    /// When the settings do not go together, or the machine gives no thread.
    pub fn new(settings: &Settings, rulebook: &Rulebook, seed: u64) -> Result<Self, DriveError> {
        let driver = Driver::new(settings, rulebook, seed, Attention::Everything)?;
        Ok(Self { driver, jars: BTreeMap::new(), now: START, requests: 0 })
    }

    /// Does what a line says. A request is answered with a line of JSON.
    ///
    /// # Errors
    /// When it is no such line; nothing was done then.
    pub fn line(&mut self, line: &str) -> Result<Option<String>, LineError> {
        let read: Line = serde_json::from_str(line).map_err(|why| LineError(why.to_string()))?;
        match read {
            Line::Request(ask) => self.request(&ask).map(Some),
            Line::Copy { t, from, to, as_of } => {
                let now = self.time(t)?;
                let then = as_of.map_or(Ok(now), at)?;
                let copy = self.jars.get(&from).ok_or_else(|| unknown(&from))?.copy(then, now);
                self.room_for(&to)?;
                self.now = now;
                self.jars.insert(to, copy);
                Ok(None)
            }
            Line::Rollback { t, jar, as_of } => {
                let (now, then) = (self.time(t)?, at(as_of)?);
                self.jars.get_mut(&jar).ok_or_else(|| unknown(&jar))?.roll_back(then, now);
                self.now = now;
                Ok(None)
            }
            Line::Drop { t, jar } => {
                let now = t.map_or(Ok(self.now), |t| self.time(t))?;
                self.jars.remove(&jar);
                self.now = now;
                Ok(None)
            }
        }
    }

    fn request(&mut self, ask: &Ask) -> Result<String, LineError> {
        let now = self.time(ask.t)?;
        let latency = ask.latency.unwrap_or(LATENCY);
        let arrives = at(ask.t + latency.max(0.0))?;
        let (visitor, app) = (ask.visitor()?, ask.app()?);
        self.room_for(&ask.jar)?;
        let jar = self.jars.entry(ask.jar.clone()).or_default();
        let parts = ask.head(&jar.line(now))?;
        self.now = now;
        self.driver.set_time(now);
        let (came, lines) = self.driver.request(&visitor, parts, &app);
        if ask.keep_cookie != Some(false) {
            jar.store(&lines, arrives);
        }
        self.requests += 1;
        let kinds: Vec<Kind> = came.events.iter().map(|told| told.event.kind()).collect();
        let signals = came.verdict.reasons.iter().filter(|reason| is_signal(&reason.kind));
        let text = |text: &crate::verdict::Text| Some(text.to_string()).filter(|text| !text.is_empty());
        let told = Told {
            n: self.requests,
            action: done(came.action, &came.events).as_str(),
            status: status(came.standing, &kinds),
            risk: came.risk,
            signals: signals
                .map(|reason| Seen {
                    kind: reason.kind.to_string(),
                    points: reason.points,
                    before: reason.before.as_ref().and_then(text),
                    after: reason.after.as_ref().and_then(text),
                })
                .collect(),
            rule: came.verdict.rule.as_ref().map(ToString::to_string),
            reference: came.reference,
            authenticated: came.subject.is_some(),
            subject: came.subject,
            reached_app: came.reached_app,
            app_cookies: came.app_cookies,
            events: kinds.iter().map(|kind| kind.as_str()).collect(),
        };
        serde_json::to_string(&told).map_err(|why| LineError(why.to_string()))
    }

    fn time(&self, t: f64) -> Result<Timestamp, LineError> {
        let now = at(t)?;
        if now < self.now {
            return Err(LineError(format!("\"t\": {t} is before the line above; lines come in the order of time")));
        }
        Ok(now)
    }

    fn room_for(&self, jar: &str) -> Result<(), LineError> {
        if self.jars.len() < JARS_MAX || self.jars.contains_key(jar) {
            return Ok(());
        }
        Err(LineError(format!("there are {JARS_MAX} jars; drop one with {{\"op\":\"drop\",\"jar\":...}}")))
    }
}

/// A session may be ended and its client refused as well: the stronger counts.
fn done(action: Action, events: &[crate::event::Record]) -> Action {
    let ended =
        |told: &crate::event::Record| told.event.kind() == Kind::SessionTerminated && told.scene.would.is_none();
    if events.iter().any(ended) { action.max(Action::Terminate) } else { action }
}

/// How the id and the tag of a request stood.
fn status(standing: Option<Standing>, events: &[Kind]) -> &'static str {
    let told = [
        (Kind::SessionTagFork, "fork"),
        (Kind::SessionTagStale, "stale"),
        (Kind::SessionTagForged, "forged"),
        (Kind::SessionUnknownId, "unknown"),
    ];
    if let Some((_, word)) = told.iter().find(|(kind, _)| events.contains(kind)) {
        return word;
    }
    match standing {
        Some(Standing::Head) => "head",
        Some(Standing::Successor) => "successor",
        Some(Standing::Sibling) => "sibling",
        Some(Standing::Ahead) => "ahead",
        Some(Standing::Grace) => "grace",
        Some(Standing::Stale { .. }) => "stale",
        Some(Standing::Forged) => "forged",
        None => "none",
    }
}

fn at(t: f64) -> Result<Timestamp, LineError> {
    if !(0.0..=TIME_MAX).contains(&t) {
        return Err(LineError(format!("a time is in seconds from 0 to {TIME_MAX}, and not {t}")));
    }
    Ok(START.after(Duration::from_secs_f64(t)))
}

fn unknown(jar: &str) -> LineError {
    LineError(format!("there is no jar \"{jar}\""))
}

fn wrong(what: &str, found: &str, expected: &str) -> LineError {
    LineError(format!("\"{what}\": \"{found}\" is not {expected}"))
}

impl Ask {
    fn visitor(&self) -> Result<Visitor, LineError> {
        let ip = self.ip.unwrap_or(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        let place = self.geo.as_ref().map_or(Ok(Place::default()), Geo::place)?;
        let tls = self.tls.as_ref().map(Tls::print).transpose()?.flatten();
        let print = Print {
            tls,
            http2: self.h2.as_deref().filter(|text| !text.is_empty()).map(Http2Print::of_text),
            syn: self.syn.as_deref().filter(|text| !text.is_empty()).map(SynClass::named),
            rtt_gap: self.rtt_gap_ms.map(Duration::from_millis).map(RttGap::of),
        };
        let connection = self.connection.map(ConnectionId).filter(|_| self.http.as_deref() == Some("2"));
        Ok(Visitor { ip, place, print, connection })
    }

    fn app(&self) -> Result<App, LineError> {
        let Some(Answer { status, login, logout, set_cookie }) = &self.response else { return Ok(App::default()) };
        let status = status.unwrap_or(200);
        let status = StatusCode::from_u16(status)
            .ok()
            .ok_or_else(|| wrong("status", &status.to_string(), "a status from 100 to 599"))?;
        Ok(App { status, login: login.clone(), logout: *logout, set_cookie: set_cookie.clone() })
    }

    fn head(&self, cookies: &str) -> Result<http::request::Parts, LineError> {
        let method = self.method.as_deref().unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes()).ok().ok_or_else(|| wrong("method", method, "a method"))?;
        let path = self.path.as_deref().unwrap_or("/");
        let target = path.parse().ok().filter(|_| path.starts_with('/'));
        let target = target.ok_or_else(|| wrong("path", path, "a path such as /account?tab=1"))?;
        let version = match self.http.as_deref() {
            None | Some("1.1" | "1") => Version::HTTP_11,
            Some("1.0") => Version::HTTP_10,
            Some("2" | "2.0") => Version::HTTP_2,
            Some(other) => return Err(wrong("http", other, "1.0, 1.1 or 2")),
        };
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let read = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
            headers.push(read.ok_or_else(|| wrong("headers", name, "a header that HTTP can carry"))?);
        }
        Ok(head(method, target, version, &headers, cookies))
    }
}

impl Geo {
    fn place(&self) -> Result<Place, LineError> {
        let country = match &self.country {
            None => None,
            Some(code) => Some(Country::parse(code).ok_or_else(|| wrong("country", code, "two letters"))?),
        };
        let kind = match &self.kind {
            None => NetworkKind::Unknown,
            Some(name) => NetworkKind::parse(name).ok_or_else(|| {
                wrong("kind", name, "residential, mobile, corporate, hosting, vpn, relay, tor, sase or unknown")
            })?,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let radius = self.radius_km.map(|km| km.ceil().clamp(0.0, f64::from(u16::MAX)) as u16);
        let position = self.lat.zip(self.lon).and_then(|(lat, lon)| Position::new(lat, lon, radius));
        Ok(Place { country, asn: self.asn.filter(|asn| *asn != 0).map(Asn), kind, position })
    }
}

impl Tls {
    fn print(&self) -> Result<Option<TlsPrint>, LineError> {
        let ja4 = match self.ja4.as_deref().filter(|text| !text.is_empty()) {
            None => None,
            // Whoever plays with words of his own means nothing by their form.
            Some(text) => Ja4::parse(text),
        };
        let Some(core) = self.core.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let soft = self.soft.unwrap_or(0);
        if soft > 15 {
            return Err(wrong("soft", &soft.to_string(), "a number from 0 to 15"));
        }
        Ok(Some(TlsPrint::named(core, soft, ja4)))
    }
}
