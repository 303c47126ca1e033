//! The TLS `ClientHello`, read from the first octets of a connection: it tells what program speaks, and not for whom.
//!
//! [`print()`] makes of it the two things that are kept: a key that is the same over all connections of one build, and JA4.
//! Raw JA4 is no key: one browser shows several, for fresh and resumed connections and for its WebSockets. Everything here
//! is total; what is malformed, incomplete or longer than [`RECORDED_BYTES_MAX`] has no print, and that says nothing.
//!
//! ```text
//! record     22 (1) | 3 (1) | version (1) | length (2) | fragment      one or several (RFC 8446 section 5.1)
//! message    1 (1) | length (3) | body                                 over the fragments put together (section 4)
//! body       version (2) | random (32) | session id (1 + n) | ciphers (2 + n) | compression (1 + n) | extensions (2 + n)
//! extension  type (2) | length (2) | data
//! ```
//!
//! GREASE (RFC 8701), values that a client throws dice for so that servers stay tolerant, is left out everywhere. Chrome
//! puts one before its signature algorithms too since 152.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::connection::print::{Ja4, TlsPrint};
use crate::secret::sha256;

/// Octets of a connection in which the `ClientHello` must end. With keys for the time after quantum computers it has 2 KiB.
pub const RECORDED_BYTES_MAX: usize = 32 << 10;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The longest fragment of a record.
const FRAGMENT_MAX: usize = 1 << 14;

const SERVER_NAME: u16 = 0;
const GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const VERSIONS: u16 = 43;

/// Extensions that come and go with the kind of connection, or that a field trial of the browser's maker turns on and off.
/// They are no part of [`TlsPrint::core`].
const VOLATILE: [u16; 13] = [
    SERVER_NAME, // none to a bare address
    ALPN,        // another one for WebSockets
    0x0015,      // padding: fills up to a length
    0x001b,      // compress_certificate: Firefox leaves it out for WebSockets
    0x0023,      // session_ticket: not where tickets are off
    0x0029,      // pre_shared_key: only to resume
    0x002a,      // early_data: only to resume
    0x002c,      // cookie: only after HelloRetryRequest
    0x12e0,      // server_padding: in a field trial
    0x3374,      // next protocol negotiation, which ALPN replaced
    0x4469,      // application settings, with their old number
    0x44cd,      // application settings: Chromium leaves them out for WebSockets
    0xca34,      // trust_anchors: turned on and off with updates of a component
];

/// Those of [`VOLATILE`] that tell builds apart nevertheless, each with its bit in [`TlsPrint::soft`].
const TRAITS: [(u16, u8); 4] = [(0x001b, 1), (0x44cd, 2), (0xca34, 4), (0x12e0, 8)];

/// Numbers in the order in which they were sent.
pub type List = SmallVec<[u16; 32]>;

/// Whether GREASE was seen in ciphers, extensions, groups, versions or signature algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grease {
    /// None.
    #[default]
    Absent,
    /// Some.
    Seen,
}

/// What a client says first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// The version beside which [`Self::versions`] count, if there are any.
    pub version: u16,
    /// Cipher suites.
    pub ciphers: List,
    /// Types of extensions.
    pub extensions: List,
    /// Signature algorithms (extension 13).
    pub signature_algorithms: List,
    /// Groups for the exchange of keys (extension 10).
    pub groups: List,
    /// Versions (extension 43).
    pub versions: List,
    /// Names of protocols (extension 16).
    pub alpn: SmallVec<[&'a [u8]; 4]>,
    /// Whether the client sends GREASE.
    pub grease: Grease,
}

/// The print of the client whose connection begins so.
pub fn print(stream: &[u8]) -> Option<TlsPrint> {
    let message = message(stream)?;
    let hello = ClientHello::parse(&message)?;
    Some(TlsPrint { core: hello.core(), soft: hello.soft(), ja4: hello.ja4() })
}

/// The body of the `ClientHello` that a connection begins with, put together from its records. It is copied only if there
/// are several.
pub fn message(stream: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut stream = Octets(stream.get(..RECORDED_BYTES_MAX).unwrap_or(stream));
    let first = stream.record()?;
    if first.first() != Some(&CLIENT_HELLO) {
        return None;
    }
    if let Some(body) = Octets(first).body() {
        return Some(Cow::Borrowed(body));
    }
    let mut joined = first.to_vec();
    loop {
        joined.extend_from_slice(stream.record()?);
        if let Some(length) = Octets(&joined).body().map(<[u8]>::len) {
            joined.drain(..4);
            joined.truncate(length);
            return Some(Cow::Owned(joined));
        }
    }
}

impl<'a> ClientHello<'a> {
    /// Reads the body of the message.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let mut octets = Octets(message);
        let mut hello = Self { version: octets.number()?, ..Self::default() };
        octets.take(32)?;
        octets.block_of_256()?;
        hello.ciphers = numbers(octets.block()?, &mut hello.grease)?;
        octets.block_of_256()?;
        // Clients of before 2003 end here.
        if !octets.is_empty() {
            let mut extensions = Octets(octets.block()?);
            while !extensions.is_empty() {
                let (kind, data) = (extensions.number()?, extensions.block()?);
                if is_grease(kind) {
                    hello.grease = Grease::Seen;
                } else {
                    hello.extensions.push(kind);
                    hello.extension(kind, data)?;
                }
            }
        }
        octets.is_empty().then_some(hello)
    }

    fn extension(&mut self, kind: u16, data: &'a [u8]) -> Option<()> {
        let mut octets = Octets(data);
        let list = match kind {
            GROUPS => &mut self.groups,
            SIGNATURE_ALGORITHMS => &mut self.signature_algorithms,
            VERSIONS => {
                self.versions = numbers(octets.block_of_256()?, &mut self.grease)?;
                return octets.is_empty().then_some(());
            }
            ALPN => {
                let mut names = Octets(octets.block()?);
                while !names.is_empty() {
                    let name = names.block_of_256()?;
                    if !<[u8; 2]>::try_from(name).is_ok_and(|name| is_grease(u16::from_be_bytes(name))) {
                        self.alpn.push(name);
                    }
                }
                return octets.is_empty().then_some(());
            }
            _ => return Some(()),
        };
        *list = numbers(octets.block()?, &mut self.grease)?;
        octets.is_empty().then_some(())
    }

    /// The key that is the same over all connections of one build: the first 64 bits of the SHA-256 of
    ///
    /// | Octets | What |
    /// |---|---|
    /// | 16 | `portcullis/tls/1` |
    /// | 2 + 2 n | how many ciphers, and these, sorted |
    /// | 2 + 2 n | extensions without those that come and go, sorted: Chromium shuffles them |
    /// | 2 + 2 n | signature algorithms |
    /// | 2 + 2 n | groups |
    /// | 2 + 2 n | versions |
    /// | 1 | 1 if there was GREASE, else 0 |
    pub fn core(&self) -> u64 {
        let lasting = self.extensions.iter().copied().filter(|kind| !VOLATILE.contains(kind));
        let mut text: SmallVec<[u8; 512]> = SmallVec::from_slice(b"portcullis/tls/1");
        for list in [
            &sorted(self.ciphers.iter().copied()),
            &sorted(lasting),
            &self.signature_algorithms,
            &self.groups,
            &self.versions,
        ] {
            // As many as fit into 32 KiB.
            text.extend_from_slice(&u16::try_from(list.len()).unwrap_or(u16::MAX).to_be_bytes());
            list.iter().for_each(|number| text.extend_from_slice(&number.to_be_bytes()));
        }
        text.push(u8::from(self.grease == Grease::Seen));
        first_64_bits(&text)
    }

    /// Traits of its build that come and go, one bit each.
    pub fn soft(&self) -> u8 {
        let there = TRAITS.iter().filter(|(kind, _)| self.extensions.contains(kind));
        there.fold(0, |bits, (_, bit)| bits | bit)
    }

    /// Its JA4, as FoxIO's description of the TLS client has it (which is free; that of the other JA4+ prints is not).
    ///
    /// Where the description and the values published with it differ, the description holds: the ends of a protocol's name
    /// that are neither letters nor digits are written in hex.
    pub fn ja4(&self) -> Option<Ja4> {
        let mut text: SmallVec<[u8; 36]> = SmallVec::new();
        text.push(b't');
        text.extend_from_slice(version_word(self.versions.iter().copied().max().unwrap_or(self.version)));
        text.push(if self.extensions.contains(&SERVER_NAME) { b'd' } else { b'i' });
        for list in [&self.ciphers, &self.extensions] {
            let [tens, ones] = two_digits(list.len());
            text.extend_from_slice(&[tens, ones]);
        }
        text.extend_from_slice(&self.alpn.first().and_then(|name| ends(name)).unwrap_or(*b"00"));
        text.push(b'_');
        text.extend_from_slice(&hash_12(&joined(&sorted(self.ciphers.iter().copied()))));
        text.push(b'_');
        let told = self.extensions.iter().copied().filter(|kind| !matches!(*kind, SERVER_NAME | ALPN));
        let mut rest = joined(&sorted(told));
        if !rest.is_empty() && !self.signature_algorithms.is_empty() {
            rest.push(b'_');
            rest.extend_from_slice(&joined(&self.signature_algorithms));
        }
        text.extend_from_slice(&hash_12(&rest));
        Ja4::parse(std::str::from_utf8(&text).ok()?)
    }
}

/// The first 64 bits of the SHA-256.
pub(super) fn first_64_bits(text: &[u8]) -> u64 {
    sha256(text).first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

const fn is_grease(number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

/// Numbers of two octets each, GREASE left out.
fn numbers(block: &[u8], grease: &mut Grease) -> Option<List> {
    let (pairs, []) = block.as_chunks::<2>() else { return None };
    let mut list = List::new();
    for pair in pairs {
        let number = u16::from_be_bytes(*pair);
        if is_grease(number) {
            *grease = Grease::Seen;
        } else {
            list.push(number);
        }
    }
    Some(list)
}

fn sorted(numbers: impl Iterator<Item = u16>) -> List {
    let mut list: List = numbers.collect();
    list.sort_unstable();
    list
}

const fn version_word(version: u16) -> &'static [u8; 2] {
    match version {
        0x0304 => b"13",
        0x0303 => b"12",
        0x0302 => b"11",
        0x0301 => b"10",
        0x0300 => b"s3",
        0x0002 => b"s2",
        _ => b"00",
    }
}

/// At most 99.
fn two_digits(count: usize) -> [u8; 2] {
    let count = u8::try_from(count.min(99)).unwrap_or(99);
    [b'0' + count / 10, b'0' + count % 10]
}

/// The first and the last character of a protocol's name.
fn ends(name: &[u8]) -> Option<[u8; 2]> {
    let (first, last) = (*name.first()?, *name.last()?);
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return Some([first, last]);
    }
    Some([hex_digit(first >> 4), hex_digit(last & 0x0f)])
}

const fn hex_digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'a' + value - 10,
    }
}

/// As `1301,1302`.
fn joined(list: &[u16]) -> SmallVec<[u8; 512]> {
    let mut text = SmallVec::new();
    for (at, number) in list.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        let [high, low] = number.to_be_bytes();
        text.extend_from_slice(&[high >> 4, high & 0x0f, low >> 4, low & 0x0f].map(hex_digit));
    }
    text
}

/// The first 12 hex digits of the SHA-256; of nothing, zeros.
fn hash_12(text: &[u8]) -> [u8; 12] {
    let mut digits = [b'0'; 12];
    if !text.is_empty() {
        let halves = sha256(text).into_iter().flat_map(|octet| [octet >> 4, octet & 0x0f]);
        for (digit, half) in digits.iter_mut().zip(halves) {
            *digit = hex_digit(half);
        }
    }
    digits
}

/// What is left to read.
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    /// As many octets as the two before them say.
    fn block(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }

    /// As many octets as the one before them says.
    fn block_of_256(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first()?;
        self.0 = rest;
        self.take((*length).into())
    }

    /// The fragment of the next record of the handshake.
    fn record(&mut self) -> Option<&'a [u8]> {
        let [kind, major, _] = self.take(3)? else { return None };
        let fragment = self.block()?;
        let fits = *kind == HANDSHAKE && *major == 3 && (1..=FRAGMENT_MAX).contains(&fragment.len());
        fits.then_some(fragment)
    }

    /// The body of the message that begins here, if it is whole.
    fn body(&mut self) -> Option<&'a [u8]> {
        let [_, a, b, c] = self.take(4)? else { return None };
        self.take(usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c))
    }
}

#[cfg(test)]
mod tests;
