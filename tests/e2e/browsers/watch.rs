//! Looks on while the guard works: what clients look like, what of them raised signals, and how late a superseded tag came.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{HeaderMap, Version, request, response};
use portcullis::connection::Connection;
use portcullis::connection::print::Print;
use portcullis::engine::{Located, Looked, Observer};
use portcullis::proxy::{
    Admitted, AnsweredBy, Arrival, Cut, Fault, Gate, Guarded, Lifetime, Permit, RequestBody, Settled, Towards,
};
use portcullis::session::id::Presented;
use portcullis::session::tag::Tag;
use portcullis::store::memory::MemoryStore;
use portcullis::verdict::Action;
use tokio::time::Instant;

/// Our cookie, as browsers call it.
pub(super) const COOKIE: &str = "__Host-portcullis";

/// One of so many answers loses its cookies, when some do.
const LOST_OF: u32 = 100;

/// Whether answers lose their cookies on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cookies {
    Arrive,
    /// One in a hundred does not.
    SomeLost,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) version: Version,
    pub(super) headers: Vec<(String, String)>,
    pub(super) print: Print,
}

/// What was seen so far. Clones see the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    asked: Vec<Asked>,
    /// What is done, and how often.
    actions: BTreeMap<Action, u32>,
    /// Each reason of a verdict with its greatest points, the strongest action it had a part in, and how often.
    reasons: BTreeMap<String, (f32, Action, u32)>,
    lines: BTreeMap<[u8; 32], Line>,
    lateness: BTreeMap<Sort, Late>,
    offered: u32,
    lost: u32,
}

/// Requests that are late for one reason.
type Sort = (&'static str, Asks);

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    /// A page of its own.
    Page,
    /// Anything else.
    Part,
}

/// The tags of one session in the order in which they became its head.
#[derive(Debug)]
struct Line {
    head: Tag,
    superseded: Vec<(Tag, Instant)>,
}

/// How late superseded tags came.
#[derive(Clone, Copy, Debug, Default)]
struct Late {
    count: u32,
    greatest: Duration,
}

impl Watch {
    /// Every request so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.0.lock().unwrap().asked.clone()
    }

    /// The strongest action so far.
    pub(super) fn strongest(&self) -> Action {
        self.0.lock().unwrap().actions.last_key_value().map_or(Action::Allow, |(action, _)| *action)
    }

    /// Forgets what was judged so far, and gives the reasons with their points.
    pub(super) fn forget(&self) -> Vec<(String, f32)> {
        let mut seen = self.0.lock().unwrap();
        seen.actions.clear();
        seen.asked.clear();
        let reasons = std::mem::take(&mut seen.reasons);
        reasons.into_iter().map(|(reason, (points, ..))| (reason, points)).collect()
    }

    /// How many tags became the head after the first, in all sessions.
    pub(super) fn adopted(&self) -> usize {
        self.0.lock().unwrap().lines.values().map(|line| line.superseded.len()).sum()
    }

    /// All of it in words.
    pub(super) fn told(&self) -> String {
        let seen = self.0.lock().unwrap();
        let mut versions = BTreeMap::<_, u32>::new();
        seen.asked.iter().for_each(|asked| *versions.entry(word(asked.version)).or_default() += 1);
        let mut text = format!("requests {versions:?}, actions {:?}\n", seen.actions);
        for (reason, (points, action, count)) in &seen.reasons {
            writeln!(text, "  {reason}: up to {points} points, {count} times, at most {action}").unwrap();
        }
        let adopted: usize = seen.lines.values().map(|line| line.superseded.len()).sum();
        writeln!(
            text,
            "tags: {} sessions, {adopted} adopted, {} answers with a cookie, {} of them lost",
            seen.lines.len(),
            seen.offered,
            seen.lost
        )
        .unwrap();
        for ((version, asks), late) in &seen.lateness {
            let Late { count, greatest } = late;
            writeln!(text, "  {version}, {asks:?}: {count} superseded tags, at most {greatest:.2?} late").unwrap();
        }
        for print in prints(&seen.asked) {
            writeln!(text, "  {print}").unwrap();
        }
        text
    }
}

/// Each kind of connection once.
fn prints(asked: &[Asked]) -> BTreeSet<String> {
    let print = |asked: &Asked| {
        let http2 = asked.print.http2.map(|http2| {
            let order = http2.pseudo.map(|order| String::from_utf8_lossy(&order.0).into_owned());
            format!("{:08x} {}", http2.key, order.unwrap_or_default())
        });
        let tls = asked.print.tls.map(|tls| {
            let ja4 = tls.ja4.map(|ja4| ja4.to_string()).unwrap_or_default();
            format!("ja4 {ja4} core {:016x} soft {:02x}", tls.core, tls.soft)
        });
        format!("{} {}, http2 {}", word(asked.version), tls.unwrap_or_default(), http2.unwrap_or_default())
    };
    asked.iter().map(print).collect()
}

const fn word(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1",
    }
}

impl Seen {
    /// Follows the tags as the engine does: what is newer than the head becomes the head.
    fn tag(&mut self, sort: Sort, presented: &Presented, now: Instant) {
        let tag = presented.tag;
        let line = self.lines.entry(*presented.id.expose()).or_insert(Line { head: tag, superseded: Vec::new() });
        if tag == line.head {
            return;
        }
        if tag.generation() > line.head.generation() {
            line.superseded.push((line.head, now));
            line.head = tag;
            return;
        }
        // A tag that was offered and never became the head is as old as those of its generation.
        let same = line.superseded.iter().find(|(old, _)| *old == tag);
        let past = || line.superseded.iter().find(|(old, _)| old.generation() >= tag.generation());
        let Some((_, at)) = same.or_else(past) else { return };
        let late = self.lateness.entry(sort).or_default();
        late.count += 1;
        late.greatest = late.greatest.max(now - *at);
    }
}

fn presented(headers: &HeaderMap) -> Option<Presented> {
    let pairs = headers.get("cookie")?.to_str().ok()?.split("; ");
    let ours = pairs.filter_map(|pair| pair.strip_prefix(COOKIE)?.strip_prefix('=')).next()?;
    Presented::parse(ours.as_bytes())
}

impl Observer for Watch {
    fn looked(&self, at: &Looked<'_>) {
        let mut seen = self.0.lock().unwrap();
        *seen.actions.entry(at.done).or_default() += 1;
        for reason in &at.verdict.reasons {
            let entry = seen.reasons.entry(reason.kind.to_string()).or_insert((0.0, Action::Allow, 0));
            *entry = (entry.0.max(reason.points), entry.1.max(at.done), entry.2 + 1);
        }
    }
}

/// The guard, looked at.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) guarded: Guarded<MemoryStore>,
    pub(super) watch: Watch,
    pub(super) cookies: Cookies,
}

impl Gate for Watched {
    type Admission = Permit;
    type Tether = Cut;

    async fn admit(&self, arrival: &Arrival, request: &mut request::Parts, body: &mut RequestBody) -> Admitted<Permit> {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = request.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        let asked = Asked {
            path: request.uri.path().to_owned(),
            version: request.version,
            headers: headers.collect(),
            print: arrival.print,
        };
        {
            let mut seen = self.watch.0.lock().unwrap();
            seen.asked.push(asked);
            if let Some(presented) = presented(&request.headers) {
                let is_page = request.headers.get("sec-fetch-dest").is_some_and(|dest| dest == "document");
                let asks = if is_page { Asks::Page } else { Asks::Part };
                seen.tag((word(request.version), asks), &presented, Instant::now());
            }
        }
        self.guarded.admit(arrival, request, body).await
    }

    async fn settle(&self, permit: Permit, by: AnsweredBy, response: &mut response::Parts) -> Settled<Cut> {
        let settled = self.guarded.settle(permit, by, response).await;
        if response.headers.contains_key(SET_COOKIE) {
            let mut seen = self.watch.0.lock().unwrap();
            seen.offered += 1;
            // The first is that of the login, without which there is nothing to look at.
            if self.cookies == Cookies::SomeLost && seen.offered % LOST_OF == LOST_OF / 2 {
                seen.lost += 1;
                response.headers.remove(SET_COOKIE);
            }
        }
        settled
    }

    fn locate(&self, client: IpAddr, known: Option<Located>) -> Option<Located> {
        self.guarded.locate(client, known)
    }

    fn lifetime(&self, permit: &Permit) -> Lifetime {
        self.guarded.lifetime(permit)
    }

    fn tether(&self, cut: Cut) -> Cut {
        self.guarded.tether(cut)
    }

    fn trailers(&self, towards: Towards, trailers: &mut HeaderMap) {
        self.guarded.trailers(towards, trailers);
    }

    fn fault(&self, connection: &Arc<Connection>, fault: Fault) {
        self.guarded.fault(connection, fault);
    }
}
