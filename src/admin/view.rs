//! What an operator sees: the JSON documents of the API.
//!
//! What stands here is all that is shown, so what is secret or identifies a record in the store (ids, digests, tags, the
//! jar) has no place in it.

use serde::{Deserialize, Serialize};

use super::stats::word;
use crate::clock::Timestamp;
use crate::event::field::Ending;
use crate::fingerprint::Prefix;
use crate::history::{Contexts, HalfLife, Points};
use crate::session::expiry::{self, Deadlines};
use crate::session::record::{Record, State};

/// A page of sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// The sessions, in no order that means anything. There may be fewer than were asked for.
    pub sessions: Vec<SessionView>,
    /// The policy that they are held to.
    pub policy: PolicyView,
    /// What to give as `after` to see the next page; none when this was the last. Good until the guard restarts.
    pub next: Option<String>,
}

/// A session. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its public name: 32 hex digits.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Whom it is authenticated for.
    pub subject: Option<String>,
    /// What may be done with it.
    pub state: StateWord,
    /// How it ended.
    pub ended: Option<EndView>,
    /// When it began.
    pub created_at: String,
    /// When its subject last proved who he is.
    pub authenticated_at: Option<String>,
    /// When its present id was issued.
    pub id_since: String,
    /// When it was last used, to the minute.
    pub last_seen: String,
    /// When it ends if it is not used again.
    pub ends_at: String,
    /// When it ends however much it is used.
    pub ends_at_latest: String,
    /// The client it is bound to.
    pub client: Option<ClientView>,
    /// How many devices and networks it was used from.
    pub contexts: usize,
    /// How often its tag was rotated since the id was issued.
    pub generation: u32,
    /// How often two live copies of its cookie were seen.
    pub forks: u8,
    /// Points of risk now: those of its worst context.
    pub risk: f64,
}

/// What may be done with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateWord {
    /// It serves its holder.
    Live,
    /// Its holder has to log in again.
    Quarantined,
    /// A quarantined client was given it to log in with.
    Held,
    /// It is over.
    Ended,
}

impl StateWord {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Quarantined => "quarantined",
            Self::Held => "held",
            Self::Ended => "ended",
        }
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndView {
    /// `idle`, `absolute`, `expired`, `logout`, `revoked`, `evicted` or `terminated`.
    pub why: String,
    /// When.
    pub at: String,
}

/// The client that a session is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// The family of its user agent; none if it sent no user agent.
    pub agent: Option<String>,
    /// Its system.
    pub os: Option<String>,
    /// The network of its address: an IPv4 /24 or an IPv6 /64.
    pub prefix: Option<String>,
    /// Its country, by two letters.
    pub country: Option<String>,
    /// The number of its autonomous system.
    pub asn: Option<u32>,
}

/// Sessions were ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// How many.
    pub revoked: usize,
    /// Whether others ended too that the guard has not seen: their clients carry them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen: bool,
}

/// Records were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// How many.
    pub removed: usize,
    /// Whether there are more: ask again.
    pub more: bool,
}

/// How the guard is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether the session store answers.
    pub store: bool,
    /// The policy in force.
    pub policy: PolicyView,
    /// Events that wait to be written.
    pub events_waiting: usize,
    /// Events that were dropped since the start because the queue was full.
    pub events_dropped: u64,
}

/// The policy in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Counts reloads.
    pub revision: u64,
    /// Whether a newer one was refused.
    pub stale: bool,
    /// How many rules are in force where no route names other packs.
    pub rules: usize,
}

/// What answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// `portcullis`
    pub name: String,
    /// The program's version.
    pub version: String,
    /// The version of this API.
    pub api: u32,
}

impl SessionView {
    pub(super) fn of(record: &Record, deadlines: &Deadlines, half_life: HalfLife, now: Timestamp) -> Self {
        let contexts = Contexts::decode(&record.history).unwrap_or_default();
        let ended = ended(record, deadlines, now);
        Self {
            reference: record.reference.to_string(),
            subject: record.subject.as_deref().map(str::to_owned),
            state: word(record, deadlines, now),
            ended,
            created_at: record.created_at.to_string(),
            authenticated_at: record.authenticated_at.map(|at| at.to_string()),
            id_since: record.id_since.to_string(),
            last_seen: record.last_seen.to_string(),
            ends_at: expiry::deadline(record, deadlines).to_string(),
            ends_at_latest: expiry::absolute_deadline(record, deadlines).to_string(),
            client: contexts.known().first().map(|bound| ClientView::of(&bound.fingerprint)),
            contexts: contexts.known().len(),
            generation: record.tags.head().generation(),
            forks: record.forks,
            risk: f64::from(worst(&contexts, half_life, now).as_hundredths()) / 100.0,
        }
    }
}

fn ended(record: &Record, deadlines: &Deadlines, now: Timestamp) -> Option<EndView> {
    let why = expiry::ended(record, deadlines, now)?;
    let at = match record.state {
        State::Ended { at, .. } => at,
        _ => expiry::deadline(record, deadlines),
    };
    Some(EndView { why: Ending::from(why).as_str().to_owned(), at: at.to_string() })
}

fn worst(contexts: &Contexts, half_life: HalfLife, now: Timestamp) -> Points {
    let own = contexts.known().iter().map(|context| context.risk.at(now, half_life)).max().unwrap_or_default();
    own.plus(contexts.session_risk(now, half_life))
}

impl ClientView {
    fn of(fingerprint: &crate::fingerprint::Fingerprint) -> Self {
        let agent = Some(fingerprint.agent).filter(|agent| agent.hash != 0);
        Self {
            agent: agent.map(|agent| agent.family.name().to_owned()),
            os: agent.map(|agent| agent.os.name().to_owned()),
            prefix: Some(fingerprint.prefix).filter(|prefix| *prefix != Prefix::Unknown).map(|p| p.to_string()),
            country: fingerprint.place.country.map(|country| country.to_string()),
            asn: fingerprint.place.asn.map(|asn| asn.0),
        }
    }
}
