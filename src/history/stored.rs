//! The stored form of contexts: devices and networks once each, however many contexts they make.
//!
//! Big-endian. Times are whole seconds since 1970 in 32 bits, which end in 2106.
//!
//! ```text
//!     0  1   version (4)
//!     1  1   number of contexts (high 4 bits), index of the holder or 15 (low 4 bits)
//!     2  2   risk of the session, hundredths
//!     4  4   when that was
//!     8  1   number of turns (low 2 bits); 4: an IPv4 prefix of the authentication follows, 8: an IPv6 one, 16: a
//!                JA4; 32: the login was from servers; 64, 128, both: it
//!                contradicts itself by TLS, HTTP/2, the order of headers
//!     9  1   number of devices (high 4 bits), of networks (low 4 bits)
//!   (3)(8)   that prefix
//!   (22)     that JA4: its first ten characters, and its two hashes
//!            per device, 30 bytes
//!            per network, 7 to 23 bytes
//!            per context, 8 bytes
//!         1  1: trusted; device (3 bits from the second), network (3 bits from the fifth)
//!         4  last seen
//!         2  risk then, hundredths
//!         1  gap between its answers within TLS and within TCP, 0 unknown
//!            per turn, 5 bytes
//!         1  1: a gateway spoke for it; device (3 bits from the second)
//!         4  since
//! ```

use smallvec::SmallVec;

use super::{
    CONTEXTS_MAX, Context, Contexts, Contradiction, LoginDoubt, Points, RiskScore, Standing, TRACE_MAX, Turn, Via,
};
use crate::clock::Timestamp;
use crate::connection::print::Ja4;
use crate::facts::geo::Place;
use crate::fingerprint::stored::{DEVICE_LEN, NETWORK_MAX, Network, gap_byte, gap_from, take};
use crate::fingerprint::{Fingerprint, Prefix};

const VERSION: u8 = 4;
const HEADER_LEN: usize = 10;
const HOME_MAX: usize = 8;
const JA4_LEN: usize = 22;
const CONTEXT_LEN: usize = 8;
const TURN_LEN: usize = 5;
const NO_HOLDER: u8 = 15;

const HOME_V4: u8 = 4;
const HOME_V6: u8 = 8;
const HAS_JA4: u8 = 16;
const FROM_SERVERS: u8 = 32;
const BY_TLS: u8 = 64;
const BY_HTTP2: u8 = 128;
const BY_ORDER: u8 = BY_TLS | BY_HTTP2;

/// Bytes of the stored form at most.
pub const ENCODED_MAX: usize = 400;

/// So many contexts fit whatever is in them.
pub(super) const ALWAYS_FIT: usize = 5;
const _: () = assert!(
    HEADER_LEN + HOME_MAX + JA4_LEN + TRACE_MAX * TURN_LEN + ALWAYS_FIT * (DEVICE_LEN + NETWORK_MAX + CONTEXT_LEN)
        <= ENCODED_MAX
);

/// Stored bytes are not the past of a session that this program can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a session history of version {VERSION}")]
pub struct DecodeError;

/// What contexts are made of, each part once.
#[derive(Default)]
struct Parts {
    devices: SmallVec<[Fingerprint; CONTEXTS_MAX]>,
    networks: SmallVec<[Network; CONTEXTS_MAX]>,
}

impl Parts {
    fn of(contexts: &[Context]) -> Self {
        let mut parts = Self::default();
        for context in contexts {
            let (device, network) = split(context);
            if !parts.devices.contains(&device) {
                parts.devices.push(device);
            }
            if !parts.networks.contains(&network) {
                parts.networks.push(network);
            }
        }
        parts
    }
}

fn split(context: &Context) -> (Fingerprint, Network) {
    let Fingerprint { prefix, place, .. } = context.fingerprint;
    let device = Fingerprint { prefix: Prefix::Unknown, place: Place::default(), rtt_gap: None, ..context.fingerprint };
    (device, Network { prefix, other: context.other, place })
}

fn index<T: PartialEq>(all: &[T], one: &T) -> u8 {
    all.iter().position(|other| other == one).and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
}

impl Contexts {
    /// Appends the stored form, at most [`ENCODED_MAX`] bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let count = |length: usize| u8::try_from(length).unwrap_or(0);
        let parts = Parts::of(&self.known);
        let turns: SmallVec<[(u8, &Turn); TRACE_MAX]> =
            self.trace.iter().filter_map(|turn| Some((device_of(turn, &parts.devices)?, turn))).collect();
        out.push(VERSION);
        out.push(count(self.known.len()) << 4 | self.holder.unwrap_or(NO_HOLDER));
        out.extend_from_slice(&risk_bytes(self.session_risk));
        out.extend_from_slice(&time_bytes(self.session_risk.since()));
        let home = match self.home {
            Prefix::Unknown => 0,
            Prefix::V4(_) => HOME_V4,
            Prefix::V6(_) => HOME_V6,
        };
        let ja4 = if self.ja4.is_some() { HAS_JA4 } else { 0 };
        let servers = if self.doubt.from_servers { FROM_SERVERS } else { 0 };
        let contradiction = match self.doubt.contradiction {
            None => 0,
            Some(Contradiction::Tls) => BY_TLS,
            Some(Contradiction::Http2) => BY_HTTP2,
            Some(Contradiction::Order) => BY_ORDER,
        };
        out.push(count(turns.len()) | home | ja4 | servers | contradiction);
        out.push(count(parts.devices.len()) << 4 | count(parts.networks.len()));
        match self.home {
            Prefix::Unknown => {}
            Prefix::V4(octets) => out.extend_from_slice(&octets),
            Prefix::V6(high) => out.extend_from_slice(&high.to_be_bytes()),
        }
        self.ja4.iter().for_each(|packed| out.extend_from_slice(packed));
        parts.devices.iter().for_each(|device| device.encode_device(out));
        parts.networks.iter().for_each(|network| network.encode(out));
        for context in &self.known {
            let (device, network) = split(context);
            let (device, network) = (index(&parts.devices, &device), index(&parts.networks, &network));
            out.push(u8::from(context.standing == Standing::Trusted) | device << 1 | network << 4);
            out.extend_from_slice(&time_bytes(context.last_seen));
            out.extend_from_slice(&risk_bytes(context.risk));
            out.push(gap_byte(context.fingerprint.rtt_gap));
        }
        for (device, turn) in turns {
            out.push(u8::from(turn.via == Via::Gateway) | device << 1);
            out.extend_from_slice(&time_bytes(turn.since));
        }
    }

    /// Bytes of the stored form.
    pub(super) fn encoded_len(&self) -> usize {
        let mut bytes = Vec::with_capacity(ENCODED_MAX.saturating_mul(2));
        self.encode(&mut bytes);
        bytes.len()
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
        self.session_risk = RiskScore::new(session_risk, time_from(take(bytes)?));
        let [flags, parts] = take(bytes)?;
        let (turns, devices, networks) = (usize::from(flags & 3), usize::from(parts >> 4), usize::from(parts & 0xf));
        let fits = version == VERSION && contexts <= CONTEXTS_MAX && devices <= contexts && networks <= contexts;
        if !fits {
            return None;
        }
        let contradiction = match flags & BY_ORDER {
            BY_TLS => Some(Contradiction::Tls),
            BY_HTTP2 => Some(Contradiction::Http2),
            BY_ORDER => Some(Contradiction::Order),
            _ => None,
        };
        self.doubt = LoginDoubt { contradiction, from_servers: flags & FROM_SERVERS != 0 };
        self.home = match flags & (HOME_V4 | HOME_V6) {
            0 => Prefix::Unknown,
            HOME_V4 => Prefix::V4(take(bytes)?),
            HOME_V6 => Prefix::V6(u64::from_be_bytes(take(bytes)?)),
            _ => return None,
        };
        self.ja4 = if flags & HAS_JA4 == 0 { None } else { Some(take(bytes)?) };
        let mut all = Parts::default();
        for _ in 0..devices {
            all.devices.push(Fingerprint::decode_device(bytes)?);
        }
        for _ in 0..networks {
            all.networks.push(Network::decode(bytes)?);
        }
        self.holder = (usize::from(holder) < contexts).then_some(holder);
        self.known.clear();
        self.trace.clear();
        let mut used = 0_u32;
        for _ in 0..contexts {
            used |= 1 << (bytes.first()? >> 1 & 7);
            self.known.push(context(bytes, &all)?);
        }
        // A device that no context has would be forgotten with the next writing, and its turns with it.
        if used.count_ones() as usize != devices {
            return None;
        }
        for _ in 0..turns {
            let [flags] = take(bytes)?;
            let device = all.devices.get(usize::from(flags >> 1 & 7))?;
            let via = if flags & 1 == 0 { Via::Itself } else { Via::Gateway };
            self.trace.push(Turn { via, ..Turn::of(device, time_from(take(bytes)?)) });
        }
        Some(())
    }
}

fn context(bytes: &mut &[u8], all: &Parts) -> Option<Context> {
    let [flags] = take(bytes)?;
    let device = all.devices.get(usize::from(flags >> 1 & 7))?;
    let network = all.networks.get(usize::from(flags >> 4 & 7))?;
    let standing = if flags & 1 == 1 { Standing::Trusted } else { Standing::Untrusted };
    let last_seen = time_from(take(bytes)?);
    let risk = RiskScore::new(risk_from(take(bytes)?), last_seen);
    let rtt_gap = gap_from(take(bytes)?);
    let fingerprint = Fingerprint { prefix: network.prefix, place: network.place, rtt_gap, ..*device };
    Some(Context { fingerprint, other: network.other, last_seen, risk, standing })
}

/// The device of a turn among those of the contexts. Of one that is forgotten, its turns are too.
fn device_of(turn: &Turn, devices: &[Fingerprint]) -> Option<u8> {
    devices.iter().position(|device| turn.is_of(device)).and_then(|at| u8::try_from(at).ok())
}

/// A JA4 in fewer bytes: its first ten characters, and its two hashes.
pub(super) type PackedJa4 = [u8; JA4_LEN];

/// A JA4 in fewer bytes; none if it is not written as it should be.
pub(super) fn pack(ja4: Ja4) -> Option<PackedJa4> {
    let (name, hashes) = ja4.as_str().split_at_checked(10)?;
    let hashes = u128::from_str_radix(&hashes.replace('_', ""), 16).ok()?;
    let [_, _, _, _, hashes @ ..] = hashes.to_be_bytes();
    let mut packed = [0; JA4_LEN];
    packed.iter_mut().zip(name.bytes().chain(hashes)).for_each(|(to, from)| *to = from);
    Some(packed)
}

pub(super) fn unpack(packed: PackedJa4) -> Option<Ja4> {
    let (name, hashes) = packed.split_first_chunk::<10>()?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (first, second) = hashes.split_at_checked(6)?;
    Ja4::parse(&format!("{}_{}_{}", std::str::from_utf8(name).ok()?, hex(first), hex(second)))
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
