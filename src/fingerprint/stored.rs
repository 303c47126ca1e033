//! The stored forms of what a fingerprint is made of. Big-endian. A new version gets a new number and a decoder beside this
//! one.

use super::{Exact, Fingerprint, Hints, Language, MobileHint, Prefix, Wire};
use crate::connection::print::RttGap;
use crate::facts::geo::{Country, NetworkKind, Place, Position};
use crate::facts::order::{First, HeaderOrder};
use crate::facts::user_agent::{DeviceClass, Family, Os, UserAgent};
use crate::net::Asn;

// A device:
//
//     0  4   hash of the user agent, 0 absent
//     4  2   family
//     6  2   major version
//     8  1   system (high 4 bits), device class (low 4 bits)
//     9  2   first language, three letters of 5 bits
//    11  2   hash of the language list, 0 absent
//    13  1   hint: platform (high 4 bits), mobile (low 4 bits)
//    14  2   hint: Chromium version
//    16  2   hint: version of the platform
//    18  2   hint: patch of Chromium, one more
//    20  2   hint: hash of the machine
//    22  4   core key of TLS, 0 unknown
//    26  2   settings of HTTP/2, 0 unknown
//    28  1   soft traits of TLS (high 4 bits), order of headers (2 bits for each pair)
//    29  1   class of the first packet, 0 unknown

/// Bytes of a stored device.
pub(crate) const DEVICE_LEN: usize = 30;

// A network:
//
//     0  1   kind of network (high 4 bits); 1: an IPv4 prefix follows, 2: an IPv6 prefix, 4: a position
//     1  4   autonomous system, 0 unknown
//     5  2   country, 0 unknown
//    (3)     the first 24 bits of an IPv4 address
//    (8)     the first 64 bits of an IPv6 address
//    (5)     hundredths of degrees north, and east, in 16 bits each; radius in tens of kilometres

const HAS_V4: u8 = 1;
const HAS_V6: u8 = 2;
const HAS_POSITION: u8 = 4;

/// Bytes of a stored network at most.
pub(crate) const NETWORK_MAX: usize = 23;

/// The version this program writes.
pub const VERSION: u8 = 3;

/// Stored bytes are not a fingerprint that this program can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a fingerprint of version {VERSION}")]
pub struct DecodeError;

/// Bytes of a stored fingerprint at most.
pub const ENCODED_MAX: usize = 1 + DEVICE_LEN + NETWORK_MAX + 1;

/// What of a fingerprint is the network: its place, and the prefixes that lead there, at most one of each family, the one
/// of IPv4 first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) prefix: Prefix,
    /// That of IPv6, if the other is one of IPv4.
    pub(crate) other: Prefix,
    pub(crate) place: Place,
}

impl Fingerprint {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.encode_device(out);
        Network { prefix: self.prefix, other: Prefix::Unknown, place: self.place }.encode(out);
        out.push(gap_byte(self.rtt_gap));
    }

    /// Reads the stored form, which must fill `bytes`.
    ///
    /// # Errors
    /// When the version or the length is another one. Unknown families, systems and kinds are no error.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (version, mut body) = bytes.split_first().ok_or(DecodeError)?;
        let found = (*version == VERSION).then(|| {
            let device = Self::decode_device(&mut body)?;
            let network = Network::decode(&mut body)?;
            let rtt_gap = gap_from(take(&mut body)?);
            Some(Self { prefix: network.prefix, place: network.place, rtt_gap, ..device })
        });
        found.flatten().filter(|_| body.is_empty()).ok_or(DecodeError)
    }

    pub(crate) fn encode_device(&self, out: &mut Vec<u8>) {
        let Self { agent, language, hints, wire, prefix: _, place: _, rtt_gap: _ } = self;
        out.extend_from_slice(&agent.hash.to_be_bytes());
        out.extend_from_slice(&agent.family.number().to_be_bytes());
        out.extend_from_slice(&agent.major.to_be_bytes());
        out.push((agent.os as u8) << 4 | agent.device as u8);
        out.extend_from_slice(&language.primary.to_be_bytes());
        out.extend_from_slice(&language.list.to_be_bytes());
        out.push((hints.platform as u8) << 4 | hints.mobile as u8);
        for number in [hints.major, hints.exact.platform_version, hints.exact.patch, hints.exact.machine] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&wire.tls.to_be_bytes());
        out.extend_from_slice(&wire.http2.to_be_bytes());
        let order = (wire.order.site_before_dest as u8) << 2 | wire.order.encoding_before_language as u8;
        out.push(wire.soft << 4 | order);
        out.push(wire.syn);
    }

    pub(crate) fn decode_device(bytes: &mut &[u8]) -> Option<Self> {
        let hash = u32::from_be_bytes(take(bytes)?);
        let family = Family::from_number(u16::from_be_bytes(take(bytes)?));
        let major = u16::from_be_bytes(take(bytes)?);
        let [system] = take(bytes)?;
        let (os, device) = (Os::from_number(system >> 4), DeviceClass::from_number(system & 0xf));
        let agent = UserAgent { family, major, os, device, hash };
        let language = Language { primary: u16::from_be_bytes(take(bytes)?), list: u16::from_be_bytes(take(bytes)?) };
        let [hint] = take(bytes)?;
        let mobile = match hint & 0xf {
            1 => MobileHint::No,
            2 => MobileHint::Yes,
            _ => MobileHint::Absent,
        };
        let hints = Hints {
            platform: Os::from_number(hint >> 4),
            mobile,
            major: u16::from_be_bytes(take(bytes)?),
            exact: Exact {
                platform_version: u16::from_be_bytes(take(bytes)?),
                patch: u16::from_be_bytes(take(bytes)?),
                machine: u16::from_be_bytes(take(bytes)?),
            },
        };
        let (tls, http2) = (u32::from_be_bytes(take(bytes)?), u16::from_be_bytes(take(bytes)?));
        let [traits, syn] = take(bytes)?;
        let order = HeaderOrder {
            site_before_dest: First::from_number(traits >> 2 & 3),
            encoding_before_language: First::from_number(traits & 3),
        };
        let wire = Wire { tls, http2, soft: traits >> 4, syn, order };
        Some(Self { agent, language, hints, wire, ..Self::default() })
    }
}

/// A gap between answers, 0 unknown.
pub(crate) fn gap_byte(gap: Option<RttGap>) -> u8 {
    gap.map_or(0, |gap| gap.0)
}

/// What [`gap_byte`] gave.
pub(crate) fn gap_from([byte]: [u8; 1]) -> Option<RttGap> {
    (byte != 0).then_some(RttGap(byte))
}

impl Network {
    /// A client of it was seen there: its prefix takes the place of the one of the same family.
    pub(crate) fn follow(&mut self, now: Prefix) {
        let is_v6 = |prefix: Prefix| matches!(prefix, Prefix::V6(_));
        (self.prefix, self.other) = match (self.prefix, now) {
            (_, Prefix::Unknown) => return,
            (Prefix::V4(_), Prefix::V6(_)) => (self.prefix, now),
            (Prefix::V6(_), Prefix::V4(_)) => (now, self.prefix),
            (Prefix::V4(_), Prefix::V4(_)) => (now, self.other),
            _ => (now, if is_v6(now) { Prefix::Unknown } else { self.other }),
        };
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Self { prefix, other, place } = self;
        let mut v4 = None;
        let mut v6 = None;
        for prefix in [other, prefix] {
            match prefix {
                Prefix::V4(octets) => v4 = Some(*octets),
                Prefix::V6(high) => v6 = Some(*high),
                Prefix::Unknown => {}
            }
        }
        let flag = |is_there, flag| if is_there { flag } else { 0 };
        let parts = flag(v4.is_some(), HAS_V4) | flag(v6.is_some(), HAS_V6);
        out.push((place.kind as u8) << 4 | parts | flag(place.position.is_some(), HAS_POSITION));
        out.extend_from_slice(&place.asn.map_or(0, |asn| asn.0).to_be_bytes());
        out.extend_from_slice(&place.country.map_or([0; 2], Country::bytes));
        v4.iter().for_each(|octets| out.extend_from_slice(octets));
        v6.iter().for_each(|high| out.extend_from_slice(&high.to_be_bytes()));
        if let Some(Position { latitude, longitude, radius_km }) = place.position {
            out.extend_from_slice(&latitude.to_be_bytes());
            out.extend_from_slice(&longitude.to_be_bytes());
            out.push(u8::try_from(radius_km / Position::RADIUS_STEP_KM).unwrap_or(u8::MAX));
        }
    }

    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let [head] = take(bytes)?;
        let asn = u32::from_be_bytes(take(bytes)?);
        let country: [u8; 2] = take(bytes)?;
        let v4 = if head & HAS_V4 == 0 { Prefix::Unknown } else { Prefix::V4(take(bytes)?) };
        let v6 = if head & HAS_V6 == 0 { Prefix::Unknown } else { Prefix::V6(u64::from_be_bytes(take(bytes)?)) };
        let position = if head & HAS_POSITION == 0 {
            None
        } else {
            let (latitude, longitude) = (i16::from_be_bytes(take(bytes)?), i16::from_be_bytes(take(bytes)?));
            let [tens] = take(bytes)?;
            Some(Position { latitude, longitude, radius_km: u16::from(tens) * Position::RADIUS_STEP_KM })
        };
        let place = Place {
            asn: (asn != 0).then_some(Asn(asn)),
            country: std::str::from_utf8(&country).ok().and_then(Country::parse),
            kind: NetworkKind::from_number(head >> 4),
            position,
        };
        let (prefix, other) = if v4 == Prefix::Unknown { (v6, Prefix::Unknown) } else { (v4, v6) };
        Some(Self { prefix, other, place })
    }
}

/// Takes the next `N` bytes off the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}
