//! The bounded recent past of a session: the contexts it was seen in, and the risk of each.
//!
//! A *context* is a device on a network. A request is compared with the nearest known one, so that going back and forth
//! between home and work is new only once. Risk belongs to a context: what a thief does in his does not fall on the owner in
//! hers. Only what can not be told apart (a fork, two devices in turn) is risk of the whole session.
//!
//! Everything is a pure function of state and time. Note a request only if it was let through: a client that was held back
//! must not become known by trying long enough.

mod risk;

use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::facts::user_agent::{Family, Os, UserAgent};
use crate::fingerprint::drift::{Drift, Moved, OsDrift, drift, toggles};
use crate::fingerprint::{BODY_LEN, Fingerprint, Prefix, take};

pub use risk::{HalfLife, Points, RiskScore};

/// Contexts a session remembers at most.
pub const CONTEXTS_MAX: usize = 8;

/// Changes of device a session remembers at most: enough to see A, B, A.
pub const TRACE_MAX: usize = 3;

/// Two devices that take turns within this time are interleaved.
pub const INTERLEAVE_WINDOW: Duration = Duration::from_secs(30 * 60);

/// How long a context may be in use before that is written down again.
pub const SEEN_EVERY: Duration = Duration::from_secs(60);

/// Whether a context has proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody authenticated in it.
    Trusted,
    /// It just turned up.
    Untrusted,
}

/// A device on a network, as a session knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// How it looked when it was last written down.
    pub fingerprint: Fingerprint,
    /// When it turned up. Whole seconds are kept.
    pub first_seen: Timestamp,
    /// When it was last used, within [`SEEN_EVERY`]. Whole seconds are kept.
    pub last_seen: Timestamp,
    /// Its own risk.
    pub risk: RiskScore,
    /// Whether it has proved itself.
    pub standing: Standing,
}

impl Context {
    fn new(fingerprint: Fingerprint, now: Timestamp, points: Points, standing: Standing) -> Self {
        let now = Timestamp::from_secs(now.as_secs());
        Self { fingerprint, first_seen: now, last_seen: now, risk: RiskScore::new(points, now), standing }
    }
}

/// The nearest known context of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Which one.
    pub index: usize,
    /// How far the request is from it.
    pub drift: Drift,
}

/// Two devices take turns: the one before this, if it was there since less than [`INTERLEAVE_WINDOW`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interleaving {
    /// The program that was there in between.
    pub family: Family,
    /// Its system.
    pub os: Os,
}

/// A change of device: from then on it was this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    family: Family,
    os: Os,
    since: Timestamp,
}

impl Turn {
    fn of(fingerprint: &Fingerprint, since: Timestamp) -> Self {
        Self { family: fingerprint.agent.family, os: fingerprint.agent.os, since }
    }

    fn same_device(&self, other: &Self) -> bool {
        let agent = |turn: &Self| UserAgent { family: turn.family, os: turn.os, ..UserAgent::default() };
        agent(self).is_same_program(&agent(other)) && (self.os == other.os || toggles(self.os, other.os))
    }
}

/// Whether the one who made a request shows the newest tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// The head, or a successor that was adopted just now.
    Head,
    /// Anything else.
    Other,
}

/// A request that was let through, to be remembered.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// When.
    pub now: Timestamp,
    /// Who.
    pub fingerprint: Fingerprint,
    /// Whether with the newest tag.
    pub holding: Holding,
    /// What it adds to the risk of its context.
    pub context_points: Points,
    /// What it adds to the risk of the session.
    pub session_points: Points,
    /// How fast risk fades.
    pub half_life: HalfLife,
}

/// Whether a record has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing changed.
    None,
    /// Only times moved: may be lost in a crash.
    Seen,
    /// Something that later judgement depends on.
    Material,
}

/// The contexts a session was seen in, at most [`CONTEXTS_MAX`].
///
/// Keep it encoded where there are many: the decoded form has room for all contexts, so that reading one never
/// allocates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contexts {
    known: SmallVec<[Context; CONTEXTS_MAX]>,
    holder: Option<u8>,
    /// The network of the authentication: that of the first context follows its client through an operator's network.
    home: Prefix,
    session_risk: RiskScore,
    trace: SmallVec<[Turn; TRACE_MAX]>,
}

impl Contexts {
    /// The past of a session that begins now, or whose owner has just authenticated: one trusted context, no risk.
    pub fn bind(fingerprint: Fingerprint, now: Timestamp) -> Self {
        let mut contexts = Self::default();
        contexts.known.push(Context::new(fingerprint, now, Points::ZERO, Standing::Trusted));
        contexts.trace.push(Turn::of(&fingerprint, Timestamp::from_secs(now.as_secs())));
        contexts.holder = Some(0);
        contexts.home = fingerprint.prefix;
        contexts
    }

    /// The known contexts, the one bound at authentication first.
    pub fn known(&self) -> &[Context] {
        &self.known
    }

    /// The network that the session was bound to at authentication. Of one from before that was kept, where it was seen last
    /// in its first context.
    pub fn home(&self) -> Prefix {
        let of_first = || self.known.first().map_or(Prefix::Unknown, |context| context.fingerprint.prefix);
        if self.home == Prefix::Unknown { of_first() } else { self.home }
    }

    /// Who last showed the newest tag.
    pub fn holder(&self) -> Option<&Fingerprint> {
        self.known.get(usize::from(self.holder?)).map(|context| &context.fingerprint)
    }

    /// The nearest known context; none if there are none.
    pub fn best_match(&self, now: &Fingerprint) -> Option<Match> {
        let same = |context: &Context| context.fingerprint.same_device(now) && context.fingerprint.same_network(now);
        if let Some(index) = self.known.iter().position(same) {
            return Some(Match { index, drift: Drift::default() });
        }
        let drifts = self.known.iter().map(|context| drift(&context.fingerprint, now)).enumerate();
        drifts.min_by_key(|(_, drift)| drift.distance()).map(|(index, drift)| Match { index, drift })
    }

    /// The risk a request stands under before its own evidence is counted: that of its context, or the one a new context
    /// takes over, and that of the session.
    pub fn risk(
        &self,
        found: Option<&Match>,
        fingerprint: &Fingerprint,
        now: Timestamp,
        half_life: HalfLife,
    ) -> Points {
        let context = match found.filter(|found| found.drift.is_none()).and_then(|found| self.known.get(found.index)) {
            Some(context) => context.risk.at(now, half_life),
            None => self.inherited(fingerprint, now, half_life),
        };
        context.plus(self.session_risk.at(now, half_life))
    }

    /// The risk of the session that belongs to no context.
    pub fn session_risk(&self, now: Timestamp, half_life: HalfLife) -> Points {
        self.session_risk.at(now, half_life)
    }

    /// What a new context takes over, so that hopping adds up: the highest risk of an untrusted one. A device that a trusted
    /// context vouches for takes over only from contexts of that same device.
    fn inherited(&self, now: &Fingerprint, at: Timestamp, half_life: HalfLife) -> Points {
        let vouched =
            self.known.iter().any(|known| known.standing == Standing::Trusted && alike(&known.fingerprint, now));
        let untrusted = self.known.iter().filter(|known| known.standing == Standing::Untrusted);
        let counted = untrusted.filter(|known| !vouched || alike(&known.fingerprint, now));
        counted.map(|known| known.risk.at(at, half_life)).max().unwrap_or_default()
    }

    /// The device in between, if this request brings back one that was there before it.
    pub fn interleaving(&self, fingerprint: &Fingerprint, now: Timestamp) -> Option<Interleaving> {
        let this = Turn::of(fingerprint, now);
        let [.., before, between] = self.trace.as_slice() else { return None };
        let back = before.same_device(&this) && !between.same_device(&this);
        (back && now.since(between.since) < INTERLEAVE_WINDOW)
            .then_some(Interleaving { family: between.family, os: between.os })
    }

    /// Remembers a request that was let through.
    pub fn note(&mut self, visit: &Visit) -> Change {
        let Visit { now, fingerprint, half_life, .. } = *visit;
        let found = self.best_match(&fingerprint).filter(|found| found.drift.is_none());
        let (index, mut change) = match found {
            Some(found) => (found.index, self.revisit(found.index, visit)),
            None => {
                let points = self.inherited(&fingerprint, now, half_life).plus(visit.context_points);
                (self.add(Context::new(fingerprint, now, points, Standing::Untrusted)), Change::Material)
            }
        };
        if visit.session_points > Points::ZERO {
            self.session_risk =
                self.session_risk.plus(visit.session_points, Timestamp::from_secs(now.as_secs()), half_life);
            change = Change::Material;
        }
        if visit.holding == Holding::Head && self.holder != u8::try_from(index).ok() {
            self.holder = u8::try_from(index).ok();
            change = Change::Material;
        }
        change.max(self.take_turn(&fingerprint, now))
    }

    /// Somebody authenticated in this context after all: it is trusted, and no risk is left anywhere in it or the session.
    pub fn trust(&mut self, fingerprint: &Fingerprint, now: Timestamp) {
        let found = self.best_match(fingerprint).filter(|found| found.drift.is_none());
        let index = match found {
            Some(found) => found.index,
            None => self.add(Context::new(*fingerprint, now, Points::ZERO, Standing::Trusted)),
        };
        if let Some(context) = self.known.get_mut(index) {
            context.standing = Standing::Trusted;
            context.risk = RiskScore::new(Points::ZERO, context.last_seen);
        }
        self.session_risk = RiskScore::default();
        self.trace.clear();
        self.trace.push(Turn::of(fingerprint, Timestamp::from_secs(now.as_secs())));
    }

    fn revisit(&mut self, index: usize, visit: &Visit) -> Change {
        let Some(context) = self.known.get_mut(index) else { return Change::None };
        let points = visit.context_points;
        if points == Points::ZERO && visit.now.since(context.last_seen) < SEEN_EVERY {
            return Change::None;
        }
        // Risk is brought to the time of the last visit, so that one time is stored and not two.
        context.last_seen = Timestamp::from_secs(visit.now.as_secs()).max(context.last_seen);
        context.risk = context.risk.plus(points, context.last_seen, visit.half_life);
        context.fingerprint = visit.fingerprint.after(&context.fingerprint);
        if points == Points::ZERO { Change::Seen } else { Change::Material }
    }

    /// Adds a context. Room is made by the untrusted one that was used least recently, then by such a trusted one, but never
    /// by the first, which was bound at authentication.
    fn add(&mut self, context: Context) -> usize {
        if self.known.len() >= CONTEXTS_MAX {
            let others = self.known.iter().enumerate().skip(1);
            let oldest = others.min_by_key(|(_, known)| (known.standing == Standing::Trusted, known.last_seen));
            if let Some((evicted, _)) = oldest {
                self.known.remove(evicted);
                self.holder = self.holder.and_then(|holder| match usize::from(holder).cmp(&evicted) {
                    std::cmp::Ordering::Less => Some(holder),
                    std::cmp::Ordering::Equal => None,
                    std::cmp::Ordering::Greater => holder.checked_sub(1),
                });
            }
        }
        self.known.push(context);
        self.known.len().saturating_sub(1)
    }

    fn take_turn(&mut self, fingerprint: &Fingerprint, now: Timestamp) -> Change {
        let turn = Turn::of(fingerprint, Timestamp::from_secs(now.as_secs()));
        if self.trace.last().is_some_and(|last| last.same_device(&turn)) {
            return Change::None;
        }
        if self.trace.len() >= TRACE_MAX {
            self.trace.remove(0);
        }
        self.trace.push(turn);
        Change::Material
    }
}

/// Whether two fingerprints are of one device as far as its user agent tells.
fn alike(a: &Fingerprint, b: &Fingerprint) -> bool {
    let device = drift(a, b).device;
    device.family == Moved::No && device.os != OsDrift::Changed
}

// The stored form, big-endian. Times are whole seconds since 1970 in 32 bits, which end in 2106.
//
//     0  1   version (2; in version 1 there is no network of the authentication)
//     1  1   number of contexts (high 4 bits), index of the holder or 15 (low 4 bits)
//     2  2   risk of the session, hundredths
//     4  4   when that was
//     8  1   number of turns
//     9  1   kind of the network of the authentication: 0 unknown, 4, 6
//    10  8   that network, filled up with zeros
//            per context, 46 bytes
//        35  fingerprint
//         1  standing: 1 trusted
//         4  first seen
//         4  last seen
//         2  risk when last seen, hundredths
//            per turn, 7 bytes
//         2  family
//         1  system
//         4  since

const VERSION: u8 = 2;
/// What is read besides: histories of before networks were kept.
const VERSION_WITHOUT_HOME: u8 = 1;
const CONTEXT_LEN: usize = BODY_LEN + 11;
const TURN_LEN: usize = 7;
const HEADER_LEN: usize = 18;
const NO_HOLDER: u8 = 15;

/// Bytes of the stored form at most.
pub const ENCODED_MAX: usize = HEADER_LEN + CONTEXTS_MAX * CONTEXT_LEN + TRACE_MAX * TURN_LEN;

/// Stored bytes are not the past of a session that this program can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a session history of version {VERSION}")]
pub struct DecodeError;

impl Contexts {
    /// Appends the stored form, at most [`ENCODED_MAX`] bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let count = |length: usize| u8::try_from(length).unwrap_or(0);
        out.push(VERSION);
        out.push(count(self.known.len()) << 4 | self.holder.unwrap_or(NO_HOLDER));
        out.extend_from_slice(&risk_bytes(self.session_risk));
        out.extend_from_slice(&time_bytes(self.session_risk.since()));
        out.push(count(self.trace.len()));
        let (kind, home) = self.home.to_parts();
        out.push(kind);
        out.extend_from_slice(&home.to_be_bytes());
        for context in &self.known {
            context.fingerprint.encode_body(out);
            out.push(u8::from(context.standing == Standing::Trusted));
            out.extend_from_slice(&time_bytes(context.first_seen));
            out.extend_from_slice(&time_bytes(context.last_seen));
            out.extend_from_slice(&risk_bytes(context.risk));
        }
        for turn in &self.trace {
            out.extend_from_slice(&turn.family.number().to_be_bytes());
            out.push(turn.os as u8);
            out.extend_from_slice(&time_bytes(turn.since));
        }
    }

    /// Reads the stored form, which must fill `bytes`. Never allocates.
    ///
    /// # Errors
    /// When it is of another version, cut, too long, or counts more than the limits allow.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        found.read(bytes)?;
        Ok(found)
    }

    /// As [`decode`](Self::decode), into `self`: a history is large, and moving it costs more than reading it. After an
    /// error it is empty.
    ///
    /// # Errors
    /// As `decode`.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut rest = bytes;
        if self.read_from(&mut rest).is_some() && rest.is_empty() {
            return Ok(());
        }
        *self = Self::default();
        Err(DecodeError)
    }

    fn read_from(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let [version, counts] = take(bytes)?;
        let (contexts, holder) = (usize::from(counts >> 4), counts & 0xf);
        let session_risk = risk_from(take(bytes)?);
        let session_risk = RiskScore::new(session_risk, time_from(take(bytes)?));
        let [turns] = take(bytes)?;
        let home = match version {
            VERSION => {
                let [kind] = take(bytes)?;
                Prefix::from_parts(kind, u64::from_be_bytes(take(bytes)?))
            }
            VERSION_WITHOUT_HOME => Prefix::Unknown,
            _ => return None,
        };
        if contexts > CONTEXTS_MAX || usize::from(turns) > TRACE_MAX {
            return None;
        }
        self.session_risk = session_risk;
        self.home = home;
        self.holder = (usize::from(holder) < contexts).then_some(holder);
        self.known.clear();
        self.trace.clear();
        for _ in 0..contexts {
            self.known.push(decode_context(bytes)?);
        }
        for _ in 0..turns {
            let family = Family::from_number(u16::from_be_bytes(take(bytes)?));
            let [os] = take(bytes)?;
            self.trace.push(Turn { family, os: Os::from_number(os), since: time_from(take(bytes)?) });
        }
        Some(())
    }
}

fn decode_context(bytes: &mut &[u8]) -> Option<Context> {
    let fingerprint = Fingerprint::decode_body(bytes)?;
    let [trusted] = take(bytes)?;
    let standing = if trusted == 1 { Standing::Trusted } else { Standing::Untrusted };
    let (first_seen, last_seen) = (time_from(take(bytes)?), time_from(take(bytes)?));
    let risk = RiskScore::new(risk_from(take(bytes)?), last_seen);
    Some(Context { fingerprint, first_seen, last_seen, risk, standing })
}

fn time_bytes(time: Timestamp) -> [u8; 4] {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_be_bytes()
}

fn time_from(bytes: [u8; 4]) -> Timestamp {
    Timestamp::from_secs(u64::from(u32::from_be_bytes(bytes)))
}

fn risk_bytes(risk: RiskScore) -> [u8; 2] {
    u16::try_from(risk.points().as_hundredths()).unwrap_or(u16::MAX).to_be_bytes()
}

fn risk_from(bytes: [u8; 2]) -> Points {
    Points::hundredths(u32::from(u16::from_be_bytes(bytes))).min(Points::MAX)
}

#[cfg(test)]
mod tests;
