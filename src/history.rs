//! The bounded recent past of a session: the contexts it was seen in, and the risk of each.
//!
//! A *context* is a device on a network. A request is compared with the nearest known one, so that going back and forth
//! between home and work is new only once. Risk belongs to a context: what a thief does in his does not fall on the owner in
//! hers. Only what can not be told apart (a fork, two devices in turn) is risk of the whole session.
//!
//! A host with two families of addresses is on one network: both of its prefixes belong to one context. What is kept is
//! limited in bytes, so that a million sessions have a known size; what was used least recently makes room.
//!
//! Everything is a pure function of state and time. Note a request only if it was let through: a client that was held back
//! must not become known by trying long enough.

mod risk;
mod stored;

use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::connection::print::Ja4;
use crate::facts::geo::NetworkKind;
use crate::facts::user_agent::{Family, Os, UserAgent};
use crate::fingerprint::drift::{Drift, Moved, NetworkDrift, OsDrift, drift, toggles};
use crate::fingerprint::stored::Network;
use crate::fingerprint::{Fingerprint, Prefix, Wire};

pub use risk::{HalfLife, Points, RiskScore};
pub use stored::{DecodeError, ENCODED_MAX};

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
    /// The prefix of the other family of addresses, of a host that has both.
    pub other: Prefix,
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
        Self { fingerprint, other: Prefix::Unknown, last_seen: now, risk: RiskScore::new(points, now), standing }
    }

    /// What moved from it to `now`.
    pub fn drift(&self, now: &Fingerprint) -> Drift {
        let found = drift(&self.fingerprint, now);
        if self.is_on(now) { Drift { network: NetworkDrift::default(), ..found } } else { found }
    }

    /// Whether a client is on the network of this context, by either family of addresses.
    fn is_on(&self, now: &Fingerprint) -> bool {
        self.fingerprint.same_network(now) || (self.other == now.prefix && now.prefix != Prefix::Unknown)
    }

    /// Its client was seen again: it looks like this now.
    fn follow(&mut self, now: &Fingerprint) {
        let older = self.fingerprint;
        let mut network = Network { prefix: older.prefix, other: self.other, place: older.place };
        network.follow(now.prefix);
        self.fingerprint = Fingerprint { prefix: network.prefix, ..now.after(&older) };
        self.other = network.other;
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

/// Two devices take turns: the one before this, which was there less than [`INTERLEAVE_WINDOW`] ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interleaving {
    /// The program that was there in between.
    pub family: Family,
    /// Its system.
    pub os: Os,
    /// How it spoke.
    pub wire: Wire,
}

/// A change of device: from then on it was this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    family: Family,
    os: Os,
    wire: Wire,
    via: Via,
    since: Timestamp,
}

/// Whether the TLS of a client is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    Itself,
    /// A gateway that inspects it, and speaks for all of its users alike.
    Gateway,
}

impl Turn {
    fn of(fingerprint: &Fingerprint, since: Timestamp) -> Self {
        let Fingerprint { agent, wire, place, .. } = fingerprint;
        let via = if place.kind == NetworkKind::Sase { Via::Gateway } else { Via::Itself };
        Self { family: agent.family, os: agent.os, wire: engine_of(wire), via, since }
    }

    /// Whether it is of the device of a context.
    fn is_of(&self, device: &Fingerprint) -> bool {
        let Fingerprint { agent, wire, .. } = device;
        (self.family, self.os, self.wire) == (agent.family, agent.os, engine_of(wire))
    }

    fn same_device(&self, other: &Self) -> bool {
        let agent = |turn: &Self| UserAgent { family: turn.family, os: turn.os, ..UserAgent::default() };
        let one_stack = self.wire.tls != 0 && self.wire.tls == other.wire.tls;
        let same_os = self.os == other.os || toggles(self.os, other.os);
        // A system that changed under one and the same TLS is told by itself; in turns it is device emulation.
        let is_player = self.family == Family::AppleMedia || other.family == Family::AppleMedia;
        let one_engine = is_player || self.wire.agrees(&other.wire);
        agent(self).is_same_program(&agent(other)) && one_engine && (same_os || one_stack)
    }
}

/// What of its looks on the wire tells one engine from another.
fn engine_of(wire: &Wire) -> Wire {
    Wire { tls: wire.tls, http2: wire.http2, ..Wire::default() }
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

/// What is odd about the client that logged in: it is said of the next request, whoever makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoginDoubt {
    /// How it contradicts what it says of itself.
    pub contradiction: Option<Contradiction>,
    /// Whether it was in a network of servers.
    pub from_servers: bool,
}

impl LoginDoubt {
    /// Whether there is nothing odd.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// How a client contradicts the program that it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// TLS that none of many users with this program has.
    Tls,
    /// HTTP/2 of another engine.
    Http2,
    /// Headers in the order of another engine.
    Order,
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
    /// The fingerprint of TLS at the authentication, for events and rules.
    ja4: Option<stored::PackedJa4>,
    /// What is odd about the login, as long as nobody was told.
    doubt: LoginDoubt,
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

    /// The same, with the fingerprint of TLS that its client had.
    #[must_use]
    pub fn with_ja4(mut self, ja4: Option<Ja4>) -> Self {
        self.ja4 = ja4.and_then(stored::pack);
        self
    }

    /// The same, with what detectors shall say of the login when the next request comes.
    #[must_use]
    pub const fn doubted(mut self, doubt: LoginDoubt) -> Self {
        self.doubt = doubt;
        self
    }

    /// What has still to be said of the login.
    pub const fn doubt(&self) -> LoginDoubt {
        self.doubt
    }

    /// The fingerprint of TLS at the authentication.
    pub fn ja4(&self) -> Option<Ja4> {
        self.ja4.and_then(stored::unpack)
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

    /// Whether it was an untrusted context that last showed the newest tag.
    pub fn is_held_by_guest(&self) -> bool {
        let holder = self.holder.and_then(|holder| self.known.get(usize::from(holder)));
        holder.is_some_and(|holder| holder.standing == Standing::Untrusted)
    }

    /// Whether the known context at `index` last showed the newest tag.
    pub fn is_holder(&self, index: usize) -> bool {
        self.holder.map(usize::from) == Some(index)
    }

    /// When the holder of the newest tag was seen last, within [`SEEN_EVERY`], if that was elsewhere: at another fixed line or with
    /// another operator, and neither of the two comes out of many places at once.
    pub fn holder_elsewhere(&self, now: &Fingerprint) -> Option<Timestamp> {
        let holder = self.known.get(usize::from(self.holder?))?;
        let has_many = |kind| matches!(kind, NetworkKind::Relay | NetworkKind::Tor | NetworkKind::Sase);
        let moved = holder.drift(now).network;
        let is_elsewhere = moved.asn == Moved::Yes || moved.line == Moved::Yes;
        let is_one_place = !has_many(holder.fingerprint.place.kind) && !has_many(now.place.kind);
        (is_elsewhere && is_one_place).then_some(holder.last_seen)
    }

    /// The nearest known context; none if there are none.
    pub fn best_match(&self, now: &Fingerprint) -> Option<Match> {
        let same = |context: &Context| {
            let before = &context.fingerprint;
            context.is_on(now) && before.same_device(now) && !now.is_relayed_since(before)
        };
        if let Some(index) = self.known.iter().position(same) {
            return Some(Match { index, drift: Drift::default() });
        }
        let drifts = self.known.iter().map(|context| context.drift(now)).enumerate();
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

    /// The device in between, if this request brings back one that was there before it. Nothing if it brings back the one that
    /// the session was given to, and the other is a guest: he is told by it when he comes back himself.
    pub fn interleaving(&self, fingerprint: &Fingerprint, now: Timestamp) -> Option<Interleaving> {
        let this = Turn::of(fingerprint, now);
        let [.., before, between] = self.trace.as_slice() else { return None };
        let back = before.same_device(&this) && !between.same_device(&this);
        let inspected = [before, between, &this].iter().any(|turn| turn.via == Via::Gateway);
        if !back || inspected || (self.was_given_to(&this) && !self.was_given_to(between)) {
            return None;
        }
        let seen = self.known.iter().filter(|known| Turn::of(&known.fingerprint, known.last_seen).same_device(between));
        let until = seen.map(|known| known.last_seen).max().unwrap_or(between.since);
        let is_recent = now.since(until.max(between.since)) < INTERLEAVE_WINDOW;
        is_recent.then_some(Interleaving { family: between.family, os: between.os, wire: between.wire })
    }

    /// Whether the session was given to a device.
    fn was_given_to(&self, device: &Turn) -> bool {
        let trusted = self.known.iter().filter(|known| known.standing == Standing::Trusted);
        trusted.map(|known| Turn::of(&known.fingerprint, known.last_seen)).any(|turn| turn.same_device(device))
    }

    /// Remembers a request that was let through.
    pub fn note(&mut self, visit: &Visit) -> Change {
        let Visit { now, fingerprint, half_life, .. } = *visit;
        let found = self.best_match(&fingerprint).filter(|found| found.drift.is_none());
        let (index, mut change) = match found {
            Some(found) => (found.index, self.revisit(found.index, visit)),
            None => {
                let points = self.inherited(&fingerprint, now, half_life).plus(visit.context_points);
                let looks = self.completed(&fingerprint);
                (self.add(Context::new(looks, now, points, Standing::Untrusted)), Change::Material)
            }
        };
        if !std::mem::take(&mut self.doubt).is_none() {
            change = Change::Material;
        }
        if visit.session_points > Points::ZERO {
            self.session_risk =
                self.session_risk.plus(visit.session_points, Timestamp::from_secs(now.as_secs()), half_life);
            change = Change::Material;
        }
        if visit.holding == Holding::Head && self.holder != u8::try_from(index).ok() {
            self.holder = u8::try_from(index).ok();
            change = Change::Material;
        }
        // By what is known of the device: a request that says nothing of itself is no turn of another.
        let device = self.known.get(index).map_or(fingerprint, |context| context.fingerprint);
        change = change.max(self.take_turn(&device, now));
        self.fit();
        change
    }

    /// A client with what is known of its device already: what some of its requests leave out.
    fn completed(&self, now: &Fingerprint) -> Fingerprint {
        match self.known.iter().find(|context| context.fingerprint.same_device(now)) {
            Some(context) => {
                let Fingerprint { prefix, place, rtt_gap, .. } = *now;
                Fingerprint { prefix, place, rtt_gap, ..now.after(&context.fingerprint) }
            }
            None => *now,
        }
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
        context.follow(&visit.fingerprint);
        if points == Points::ZERO { Change::Seen } else { Change::Material }
    }

    /// Adds a context. Room is made by the untrusted one that was used least recently, then by such a trusted one, but never
    /// by the first, which was bound at authentication.
    fn add(&mut self, context: Context) -> usize {
        if self.known.len() >= CONTEXTS_MAX {
            self.evict();
        }
        self.known.push(context);
        self.known.len().saturating_sub(1)
    }

    fn evict(&mut self) {
        let others = self.known.iter().enumerate().skip(1);
        let oldest = others.min_by_key(|(_, known)| (known.standing == Standing::Trusted, known.last_seen));
        if let Some((evicted, _)) = oldest {
            self.known.remove(evicted);
            self.forget_turns();
            self.holder = self.holder.and_then(|holder| match usize::from(holder).cmp(&evicted) {
                std::cmp::Ordering::Less => Some(holder),
                std::cmp::Ordering::Equal => None,
                std::cmp::Ordering::Greater => holder.checked_sub(1),
            });
        }
    }

    /// Forgets contexts until the stored form is as small as it has to be.
    fn fit(&mut self) {
        while self.known.len() > stored::ALWAYS_FIT && self.encoded_len() > ENCODED_MAX {
            self.evict();
        }
    }

    /// Forgets turns of devices that are not known any more, or look another way now.
    fn forget_turns(&mut self) {
        let known = &self.known;
        self.trace.retain(|turn| known.iter().any(|context| turn.is_of(&context.fingerprint)));
    }

    fn take_turn(&mut self, fingerprint: &Fingerprint, now: Timestamp) -> Change {
        let turn = Turn::of(fingerprint, Timestamp::from_secs(now.as_secs()));
        self.forget_turns();
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

#[cfg(test)]
mod tests;
