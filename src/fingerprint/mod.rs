//! What of a client is compared: small, versioned components.
//!
//! Browsers leave out many headers on some of their requests (client hints on worker scripts, `Sec-Fetch-*` on WebSockets),
//! so a hint that is absent says nothing. `User-Agent` and `Accept-Language` are in every request of a browser: their
//! absence is a value like any other, and losing them is a change. Addresses are kept only as prefixes. What the transport
//! tells is unknown wherever a proxy before us ended TLS.

pub mod drift;
mod hints;
mod language;
mod prefix;
pub(crate) mod stored;
mod wire;

use std::net::IpAddr;

use crate::connection::print::RttGap;
use crate::facts::geo::Place;
use crate::facts::seen::SeenHeaders;
use crate::facts::user_agent::{Family, UserAgent, UserAgentCache, stable_hash};

pub use hints::{Exact, Hints, MobileHint};
pub use language::{ACCEPT_LANGUAGE_BYTES_MAX, Language};
pub use prefix::Prefix;
pub use stored::{DecodeError, ENCODED_MAX, VERSION};
pub use wire::Wire;

/// Everything compared of one client at one time. Small enough to keep eight of them in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// The `User-Agent`.
    pub agent: UserAgent,
    /// The `Accept-Language`.
    pub language: Language,
    /// Client hints.
    pub hints: Hints,
    /// What the transport and the order of headers tell.
    pub wire: Wire,
    /// The prefix of the address.
    pub prefix: Prefix,
    /// Where that is.
    pub place: Place,
    /// How much later it answers within TLS than within TCP, if that was measured.
    pub rtt_gap: Option<RttGap>,
}

/// Beyond what a way to somebody in between is no accident of the network or of a busy machine.
const RELAYED_MS: u64 = 40;

impl Fingerprint {
    /// Reads a request. No allocation once the user agent is in the cache.
    pub fn observe(
        seen: &SeenHeaders<'_>,
        wire: Wire,
        client_ip: IpAddr,
        place: Place,
        agents: &UserAgentCache,
    ) -> Self {
        Self {
            agent: seen.user_agent.first().map(|raw| agents.parse(raw)).unwrap_or_default(),
            language: seen.accept_language.first().map(Language::parse).unwrap_or_default(),
            hints: Hints::observe(seen),
            wire,
            prefix: Prefix::of(client_ip),
            place,
            rtt_gap: None,
        }
    }

    /// The same client, with this gap between its answers.
    #[must_use]
    pub const fn with_rtt_gap(self, rtt_gap: Option<RttGap>) -> Self {
        Self { rtt_gap, ..self }
    }

    /// Whether its answers within TLS come so much later than those of `before` did that somebody stands in between now. Nobody is
    /// taken for the first of a chain: where somebody stood in between before, or may have, nothing is new.
    pub fn is_relayed_since(&self, before: &Self) -> bool {
        let (Some(now), Some(then)) = (self.rtt_gap, before.rtt_gap) else { return false };
        let (now, then) = (now.as_millis(), then.as_millis());
        then < RELAYED_MS && now >= then.saturating_add(RELAYED_MS) && now >= then.saturating_mul(3)
    }

    /// Whether nothing that can be compared of the two devices differs, byte for byte.
    pub fn same_device(&self, other: &Self) -> bool {
        self.agent.hash == other.agent.hash
            && self.language == other.language
            && self.hints.or(other.hints) == other.hints.or(self.hints)
            && self.wire.agrees(&other.wire)
    }

    /// Whether both are in the same prefix; its place is then taken to be the same whatever a database says today.
    pub fn same_network(&self, other: &Self) -> bool {
        self.prefix == other.prefix && self.prefix != Prefix::Unknown
    }

    /// The newer of two fingerprints of one client, with what it leaves out taken from the older.
    #[must_use]
    pub fn after(self, older: &Self) -> Self {
        let kind = self.place.kind;
        // A player says less of the device than the browser that it plays for.
        let is_player = self.agent.family == Family::AppleMedia;
        let agent = if is_player { older.agent } else { self.agent };
        let wire = if is_player { older.wire.or(self.wire) } else { self.wire.or(older.wire) };
        let place = Place { kind, ..self.place.or(older.place) };
        // The shortest is what the way takes; the rest is the machine at its end.
        let rtt_gap = self.rtt_gap.into_iter().chain(older.rtt_gap).min();
        Self { agent, hints: self.hints.or(older.hints), wire, place, rtt_gap, ..self }
    }
}

/// A hash of sixteen bits, which is enough for what is worth some points; never 0, which means "absent".
fn short(bytes: &[u8]) -> u16 {
    let [.., high, low] = stable_hash(bytes).to_be_bytes();
    u16::from_be_bytes([high, low]).max(1)
}

#[cfg(test)]
pub(crate) mod tests;
