//! How a client begins HTTP/2: its settings and their order, its window, its priorities, the order of its pseudo-headers.
//!
//! [`Opening`] reads along until the first HEADERS frame and then has the print. Libraries differ in all of these and
//! keep them over years; the requests of one client do not. The weight in the HEADERS frame itself is left out, since
//! browsers choose it by what they ask for. As a text, in the form that Akamai proposed in 2017:
//!
//! ```text
//! 1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p
//! settings                       window   priorities (0: none)
//!                                (00: none) pseudo-headers by their first letters
//! ```
//!
//! A priority is `stream:exclusive:depends on:weight`, and several are parted by commas. Everything here is total: what is
//! malformed or too long has no print. Of a header block only as much is decoded as tells the order (RFC 7541): all four
//! names are in the static table. Where a client spells them otherwise, the order stays unknown.

use std::{fmt, mem};

use smallvec::SmallVec;

use crate::connection::client_hello::first_64_bits;
use crate::connection::print::{Http2Print, PseudoOrder};

/// Octets of a connection that are looked at; a browser has sent its first head by the 600th.
pub const OPENING_BYTES_MAX: usize = 16 << 10;
/// Changes of the table's size before the first field (RFC 7541 section 4.2).
const RESIZES_MAX: usize = 2;
/// Settings that are kept, and priorities; browsers send up to six of each.
const PARTS_MAX: usize = 32;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 32;
/// The highest bit of a stream's number and of a window is not part of it.
const LOW_31: u32 = 0x7fff_ffff;

/// What is known so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The first head is not there yet.
    More,
    /// The print; nothing more needs to be looked at.
    Print(Http2Print),
    /// There will be none.
    Nothing,
}

/// Reads along at the beginning of a connection. What a client lets it keep is limited by [`OPENING_BYTES_MAX`].
#[derive(Debug)]
pub struct Opening {
    /// Octets of a frame that is not whole.
    waiting: Vec<u8>,
    /// Octets that may still be looked at.
    left: usize,
    preface: Preface,
    parts: Parts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preface {
    Due,
    Seen,
}

/// What the text is made of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts {
    settings: Option<SmallVec<[(u16, u32); 8]>>,
    window: u32,
    priorities: SmallVec<[Priority; 4]>,
    pseudo: Option<PseudoOrder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Priority {
    stream: u32,
    exclusive: u8,
    depends_on: u32,
    weight: u16,
}

/// What is to be done after a look at the octets.
enum Step {
    Await,
    Skip(usize),
    Done,
    GiveUp,
}

impl Default for Opening {
    fn default() -> Self {
        Self { waiting: Vec::new(), left: OPENING_BYTES_MAX, preface: Preface::Due, parts: Parts::default() }
    }
}

impl Opening {
    /// Looks at what came. After any answer but [`Seen::More`] it is of no further use.
    pub fn feed(&mut self, octets: &[u8]) -> Seen {
        let octets = octets.get(..self.left).unwrap_or(octets);
        self.left -= octets.len();
        let mut waiting = mem::take(&mut self.waiting);
        waiting.extend_from_slice(octets);
        let mut rest = waiting.as_slice();
        let seen = loop {
            match self.step(rest) {
                Step::Skip(count) => rest = rest.get(count..).unwrap_or_default(),
                Step::Await if self.left > 0 => break Seen::More,
                Step::Await | Step::GiveUp => break Seen::Nothing,
                Step::Done => break Seen::Print(self.parts.print()),
            }
        };
        let done = waiting.len() - rest.len();
        waiting.drain(..done);
        self.waiting = waiting;
        seen
    }

    fn step(&mut self, octets: &[u8]) -> Step {
        if self.preface == Preface::Due {
            return match octets.get(..PREFACE.len()) {
                Some(PREFACE) => {
                    self.preface = Preface::Seen;
                    Step::Skip(PREFACE.len())
                }
                None if PREFACE.starts_with(octets) => Step::Await,
                _ => Step::GiveUp,
            };
        }
        let Some(([a, b, c, kind, flags, stream @ ..], rest)) = octets.split_first_chunk::<9>() else {
            return Step::Await;
        };
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let stream = u32::from_be_bytes(*stream) & LOW_31;
        let payload = rest.get(..length);
        if *kind == HEADERS {
            return self.head(*flags, length, payload, rest);
        }
        let Some(payload) = payload else { return Step::Await };
        match self.frame(*kind, *flags, stream, payload) {
            Some(()) => Step::Skip(9 + length),
            None => Step::GiveUp,
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Option<()> {
        match kind {
            SETTINGS if flags & ACK == 0 && self.parts.settings.is_none() => {
                let (settings, []) = payload.as_chunks::<6>() else { return None };
                let settings = settings
                    .iter()
                    .map(|[a, b, value @ ..]| (u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value)));
                let settings: SmallVec<_> = settings.filter(|(id, _)| !is_grease(*id)).take(PARTS_MAX + 1).collect();
                (settings.len() <= PARTS_MAX).then(|| self.parts.settings = Some(settings))
            }
            WINDOW_UPDATE if stream == 0 && self.parts.window == 0 => {
                self.parts.window = u32::from_be_bytes(payload.try_into().ok()?) & LOW_31;
                Some(())
            }
            PRIORITY => {
                let ([a, b, c, d, weight], []) = payload.split_first_chunk()? else { return None };
                let depends_on = u32::from_be_bytes([*a, *b, *c, *d]);
                self.parts.priorities.push(Priority {
                    stream,
                    exclusive: u8::from(depends_on > LOW_31),
                    depends_on: depends_on & LOW_31,
                    weight: u16::from(*weight) + 1,
                });
                (self.parts.priorities.len() <= PARTS_MAX).then_some(())
            }
            _ => Some(()),
        }
    }

    /// The frame that ends it all. The names are at its beginning, so not all of it need be there.
    fn head(&mut self, flags: u8, length: usize, payload: Option<&[u8]>, there: &[u8]) -> Step {
        let mut block = payload.unwrap_or(there);
        let mut end = length;
        if flags & PADDED != 0 {
            let Some((padding, rest)) = block.split_first() else {
                return if length == 0 { Step::GiveUp } else { Step::Await };
            };
            let Some(shorter) = length.checked_sub(1 + usize::from(*padding)) else { return Step::GiveUp };
            (block, end) = (rest, shorter);
        }
        if flags & WITH_PRIORITY != 0 {
            let Some(shorter) = end.checked_sub(5) else { return Step::GiveUp };
            let Some(rest) = block.get(5..) else { return Step::Await };
            (block, end) = (rest, shorter);
        }
        block = block.get(..end).unwrap_or(block);
        match order(block) {
            Order::Known(order) => self.parts.pseudo = Some(order),
            // Its end may be in a CONTINUATION frame; who begins so is no browser.
            Order::Cut if payload.is_some() || self.left == 0 => {}
            Order::Cut => return Step::Await,
            Order::Unknown => {}
        }
        Step::Done
    }
}

/// Ids that a client throws dice for, so that servers stay tolerant: those of the form `0x?a?a`.
const fn is_grease(id: u16) -> bool {
    id & 0x0f0f == 0x0a0a
}

impl Parts {
    fn print(&self) -> Http2Print {
        Http2Print { key: key(&self.to_string()), pseudo: self.pseudo }
    }

    /// Reads what its display writes; a fifth part and what follows it is not looked at.
    fn parse(text: &str) -> Option<Self> {
        let mut sections = text.trim().split('|').map(str::trim);
        let (settings, window, priorities, pseudo) =
            (sections.next()?, sections.next()?, sections.next()?, sections.next()?);
        let settings = settings.split([';', ',']).filter(|setting| !setting.is_empty()).map(|setting| {
            let (id, value) = setting.split_once(':')?;
            Some((id.trim().parse().ok()?, value.trim().parse().ok()?))
        });
        let settings: SmallVec<_> =
            settings.filter(|read| !read.is_some_and(|(id, _)| is_grease(id))).collect::<Option<_>>()?;
        let priorities = priorities.split(',').filter(|priority| *priority != "0").map(|priority| {
            let mut numbers = priority.split(':').map(|number| number.parse().ok());
            let mut next = || numbers.next().flatten();
            let (stream, exclusive, depends_on, weight): (u32, u32, u32, u32) = (next()?, next()?, next()?, next()?);
            let (exclusive, weight) = (u8::try_from(exclusive).ok()?, u16::try_from(weight).ok()?);
            Some(Priority { stream, exclusive, depends_on, weight })
        });
        let priorities = priorities.collect::<Option<_>>()?;
        let mut letters = pseudo.split(',').map(str::as_bytes);
        let mut next = || match letters.next() {
            Some([letter]) => Some(*letter),
            _ => None,
        };
        let pseudo = match pseudo {
            "" => None,
            _ => Some(ordered([next()?, next()?, next()?, next()?])?),
        };
        Some(Self { settings: Some(settings), window: window.parse().ok()?, priorities, pseudo })
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (id, value)) in self.settings.iter().flatten().enumerate() {
            write!(f, "{}{id}:{value}", if at > 0 { ";" } else { "" })?;
        }
        match self.window {
            0 => f.write_str("|00|")?,
            window => write!(f, "|{window}|")?,
        }
        if self.priorities.is_empty() {
            f.write_str("0")?;
        }
        for (at, Priority { stream, exclusive, depends_on, weight }) in self.priorities.iter().enumerate() {
            write!(f, "{}{stream}:{exclusive}:{depends_on}:{weight}", if at > 0 { "," } else { "" })?;
        }
        f.write_str("|")?;
        for (at, letter) in self.pseudo.iter().flat_map(|order| order.0).enumerate() {
            write!(f, "{}{}", if at > 0 { "," } else { "" }, char::from(letter))?;
        }
        Ok(())
    }
}

impl Http2Print {
    /// The print that has this text, as another program took it. One that is not of the form above is a key all the same.
    pub fn of_text(text: &str) -> Self {
        match Parts::parse(text) {
            Some(parts) => parts.print(),
            None => Self { key: key(text.trim()), pseudo: None },
        }
    }
}

/// The first 32 bits of the SHA-256 of the text.
fn key(text: &str) -> u32 {
    let [a, b, c, d, ..] = first_64_bits(text.as_bytes()).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// All four, each once.
fn ordered(letters: [u8; 4]) -> Option<PseudoOrder> {
    b"masp".iter().all(|letter| letters.contains(letter)).then_some(PseudoOrder(letters))
}

/// How the pseudo-headers of a block are ordered.
enum Order {
    Known(PseudoOrder),
    /// It ends before the fourth.
    Cut,
    Unknown,
}

fn order(block: &[u8]) -> Order {
    let mut fields = Fields { block, value: Value::None };
    let mut letters = [0; 4];
    let (mut at, mut resizes) = (0, 0);
    while let Some(place) = letters.get_mut(at) {
        match fields.next() {
            Name::Pseudo(letter) => {
                *place = letter;
                at += 1;
            }
            Name::None if resizes < RESIZES_MAX => resizes += 1,
            Name::None => return Order::Unknown,
            Name::Cut => return Order::Cut,
            Name::Other => return Order::Unknown,
        }
    }
    ordered(letters).map_or(Order::Unknown, Order::Known)
}

/// The name of the next field.
enum Name {
    Pseudo(u8),
    /// No field but a word to the decoder.
    None,
    /// It is not whole.
    Cut,
    /// Another one, or one that can not be read without the whole decoder.
    Other,
}

/// The representations of a header block (RFC 7541 section 6).
struct Fields<'a> {
    block: &'a [u8],
    value: Value,
}

/// What stands next in the block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// A field.
    None,
    /// The value of the one before.
    Due,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Name {
        self.read().unwrap_or_else(|name| name)
    }

    fn read(&mut self) -> Result<Name, Name> {
        if mem::replace(&mut self.value, Value::None) == Value::Due {
            self.string()?;
        }
        match self.block.first().ok_or(Name::Cut)? {
            0x80.. => self.number(7).map(named),
            0x40.. => self.literal(6),
            0x20.. => self.number(5).map(|_| Name::None),
            _ => self.literal(4),
        }
    }

    fn literal(&mut self, bits: u32) -> Result<Name, Name> {
        self.value = Value::Due;
        let index = self.number(bits)?;
        if index > 0 {
            return Ok(named(index));
        }
        // In the code of Huffman.
        if self.block.first().is_some_and(|first| *first >= 0x80) {
            return Err(Name::Other);
        }
        Ok(match self.string()? {
            b":method" => Name::Pseudo(b'm'),
            b":authority" => Name::Pseudo(b'a'),
            b":scheme" => Name::Pseudo(b's'),
            b":path" => Name::Pseudo(b'p'),
            _ => Name::Other,
        })
    }

    /// The octets of a string as they were sent, in whatever code.
    fn string(&mut self) -> Result<&'a [u8], Name> {
        let length = usize::try_from(self.number(7)?).unwrap_or(usize::MAX);
        let (string, rest) = self.block.split_at_checked(length).ok_or(Name::Cut)?;
        self.block = rest;
        Ok(string)
    }

    /// A number in so many bits and, if they do not hold it, in the octets behind them (section 5.1).
    fn number(&mut self, bits: u32) -> Result<u32, Name> {
        let (first, mut rest) = self.block.split_first().ok_or(Name::Cut)?;
        let mask = u32::from(u8::MAX).checked_shr(8 - bits).unwrap_or_default();
        let mut number = u32::from(*first) & mask;
        if number == mask {
            for shift in [0, 7, 14, 21, 28] {
                let (more, behind) = rest.split_first().ok_or(Name::Cut)?;
                rest = behind;
                // Four of these octets name more than any frame holds.
                let part = if shift < 28 { u32::from(more & 0x7f) << shift } else { return Err(Name::Other) };
                number += part;
                if *more < 0x80 {
                    break;
                }
            }
        }
        self.block = rest;
        Ok(number)
    }
}

/// The names at the beginning of the static table.
const fn named(index: u32) -> Name {
    match index {
        1 => Name::Pseudo(b'a'),
        2 | 3 => Name::Pseudo(b'm'),
        4 | 5 => Name::Pseudo(b'p'),
        6 | 7 => Name::Pseudo(b's'),
        _ => Name::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
        let payload: Vec<u8> =
            pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        frame(SETTINGS, 0, 0, &payload)
    }

    const CHROMIUM: &str = "1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p";
    /// `GET a https /`, then `user-agent: x`.
    const BLOCK: &[u8] = &[0x82, 0x41, 1, b'a', 0x87, 0x84, 0x7a, 1, b'x'];

    fn chromium(block: &[u8], flags: u8) -> Vec<u8> {
        [
            PREFACE,
            &settings(&[(1, 65536), (2, 0), (4, 6_291_456), (6, 262_144)]),
            &frame(WINDOW_UPDATE, 0, 0, &15_663_105_u32.to_be_bytes()),
            &frame(HEADERS, flags, 1, block),
        ]
        .concat()
    }

    fn seen(octets: &[u8]) -> Seen {
        Opening::default().feed(octets)
    }

    fn check(octets: &[u8], text: &str) {
        let expected = Seen::Print(Http2Print::of_text(text));
        assert_eq!(seen(octets), expected, "{text}");
        // Octet by octet it is the same, and known no earlier than it can be.
        let mut opening = Opening::default();
        let mut one_by_one = octets.iter().map(|octet| opening.feed(&[*octet]));
        assert_eq!(one_by_one.find(|seen| *seen != Seen::More), Some(expected), "{text}");
    }

    #[test]
    fn a_browser_begins_so() {
        check(&chromium(BLOCK, 4), CHROMIUM);
        // Padded, and with a priority: its weight does not count.
        let padded = [&[3, 0x80, 0, 0, 0, 255], BLOCK, &[0; 3]].concat();
        check(&chromium(&padded, 4 | PADDED | WITH_PRIORITY), CHROMIUM);
        let firefox = [
            PREFACE,
            &settings(&[(1, 65536), (2, 0), (4, 131_072), (5, 16384)]),
            &frame(WINDOW_UPDATE, 0, 0, &12_517_377_u32.to_be_bytes()),
            &frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 200]),
            &frame(PRIORITY, 0, 5, &[0x80, 0, 0, 3, 0]),
            &frame(HEADERS, 4, 15, &[0x82, 0x84, 0x41, 1, b'a', 0x87]),
        ]
        .concat();
        check(&firefox, "1:65536;2:0;4:131072;5:16384|12517377|3:0:0:201,5:1:3:1|m,p,a,s");
        let print = Http2Print::of_text(CHROMIUM);
        assert_eq!(print.pseudo, Some(PseudoOrder(*b"masp")));
        // Records that were stored hold it.
        assert_eq!(print.key, 3_109_785_137);
    }

    #[test]
    fn what_changes_from_connection_to_connection_is_left_out() {
        let with = |more: &[u8]| {
            [
                PREFACE,
                &settings(&[(1, 65536), (0x1a2a, 77), (2, 0), (4, 6_291_456), (6, 262_144)]),
                more,
                &frame(WINDOW_UPDATE, 0, 0, &15_663_105_u32.to_be_bytes()),
                &frame(HEADERS, 4, 1, BLOCK),
            ]
            .concat()
        };
        check(&with(&[]), CHROMIUM);
        check(&with(&frame(SETTINGS, ACK, 0, &[])), CHROMIUM);
        check(&with(&frame(6, 0, 0, &[0; 8])), CHROMIUM);
        check(&with(&frame(0xee, 0, 0, &[0; 300])), CHROMIUM);
        check(&with(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9])), CHROMIUM);
        check(&with(&settings(&[(3, 100)])), CHROMIUM);
        check(&[&chromium(BLOCK, 4)[..], &frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9])].concat(), CHROMIUM);
    }

    #[test]
    fn little_is_a_print_too() {
        let bare = |block: &[u8]| [PREFACE, &settings(&[]), &frame(HEADERS, 4, 1, block)].concat();
        check(&bare(BLOCK), "|00|0|m,a,s,p");
        check(&[PREFACE, &frame(HEADERS, 4, 1, BLOCK)].concat(), "|00|0|m,a,s,p");
        // Names in full, and values in every form.
        let spelled = [
            &[0x3f, 0xe1, 0x1f, 0x00, 7][..],
            b":method",
            &[3],
            b"GET",
            &[0x10, 7],
            b":scheme",
            &[0x85, 1, 2, 3, 4, 5, 0x04, 0x7f, 0],
            &[b'p'; 127],
            &[0x01, 1, b'a'],
        ]
        .concat();
        check(&bare(&spelled), "|00|0|m,s,p,a");
        // The code of Huffman, a field before the last, one twice, none at all.
        for block in [
            &[0x82, 0x00, 0x82, 1, 2, 1, b'x'][..],
            &[0x82, 0x87, 0x84, 0x7a, 1, b'x', 0x41, 1, b'a'],
            &[0x82, 0x83, 0x87, 0x84],
            &[0x82, 0x87, 0x84],
            &[0x20, 0x20, 0x20, 0x82, 0x87, 0x84, 0x41, 1, b'a'],
            &[0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xbe],
            &[],
        ] {
            check(&bare(block), "|00|0|");
        }
    }

    #[test]
    fn what_is_no_http2_has_no_print() {
        assert_eq!(seen(b"GET / HTTP/1.1\r\n"), Seen::Nothing);
        assert_eq!(seen(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"), Seen::Nothing);
        assert_eq!(seen(b"PRI"), Seen::More);
        let odd = |frame: Vec<u8>| seen(&[PREFACE, &frame].concat());
        assert_eq!(odd(frame(SETTINGS, 0, 0, &[0; 7])), Seen::Nothing);
        assert_eq!(odd(frame(WINDOW_UPDATE, 0, 0, &[0; 3])), Seen::Nothing);
        assert_eq!(odd(frame(PRIORITY, 0, 1, &[0; 6])), Seen::Nothing);
        assert_eq!(odd(frame(HEADERS, PADDED, 1, &[])), Seen::Nothing);
        assert_eq!(odd(frame(HEADERS, PADDED, 1, &[9, 0x82])), Seen::Nothing);
        assert_eq!(odd(frame(HEADERS, WITH_PRIORITY, 1, &[0; 4])), Seen::Nothing);
        assert_eq!(odd(settings(&[(9, 9); PARTS_MAX + 1])), Seen::Nothing);
        assert_eq!(odd(frame(PRIORITY, 0, 1, &[0; 5]).repeat(PARTS_MAX + 1)), Seen::Nothing);
    }

    #[test]
    fn a_client_can_not_make_it_keep_more_than_the_limit() {
        let mut opening = Opening::default();
        assert_eq!(opening.feed(PREFACE), Seen::More);
        // A frame of 16 MiB, as it is announced.
        assert_eq!(opening.feed(&[255, 255, 255, 0xee, 0, 0, 0, 0, 0]), Seen::More);
        let more = std::iter::repeat_with(|| opening.feed(&[0; 100])).position(|seen| seen == Seen::Nothing);
        assert_eq!(more, Some((OPENING_BYTES_MAX - PREFACE.len() - 9) / 100));
        assert!(opening.waiting.capacity() <= 2 * OPENING_BYTES_MAX);
        // A head that reaches beyond it is read as far as it goes.
        let long = [&[0x82, 0x87, 0x84][..], &[0x41, 0x7f, 0x81, 0x7f], &[b'a'; 16256]].concat();
        check(&[PREFACE, &frame(HEADERS, 4, 1, &long)].concat(), "|00|0|m,s,p,a");
        let filled = frame(0xee, 0, 0, &[0; OPENING_BYTES_MAX - 24 - 9 - 9 - 2]);
        let late = [PREFACE, &filled, &frame(HEADERS, 4, 1, &long)].concat();
        check(&late, "|00|0|");
    }

    #[test]
    fn a_text_is_read_in_one_meaning() {
        let same = |text: &str| assert_eq!(Http2Print::of_text(text), Http2Print::of_text(CHROMIUM), "{text}");
        same(" 1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p\n");
        same("1:65536,2:0,4:6291456,6:262144|15663105|0|m,a,s,p");
        same("1:65536;2:0;2570:5;4:6291456;6:262144|15663105|0|m,a,s,p|h=1:0:256");
        let differ =
            |text: &str| assert_ne!(Http2Print::of_text(text).key, Http2Print::of_text(CHROMIUM).key, "{text}");
        differ("2:0;1:65536;4:6291456;6:262144|15663105|0|m,a,s,p");
        differ("1:65536;2:0;4:6291456;6:262144|15663105|0|m,p,a,s");
        differ("1:65536;2:0;4:6291456;6:262144|0|0|m,a,s,p");
        differ("something else");
        differ("");
        assert_eq!(Http2Print::of_text("1:x|0|0|m,a,s,p").pseudo, None);
    }

    proptest! {
        #[test]
        fn splitting_changes_nothing(
            frames in proptest::collection::vec((0_u8..12, any::<u8>(), 0_u32..3, proptest::collection::vec(any::<u8>(), 0..20)), 0..6),
            block in proptest::collection::vec(prop_oneof![Just(0x82_u8), Just(0x84), Just(0x87), Just(0x41), Just(1), any::<u8>()], 0..12),
            cuts in proptest::collection::vec(1_usize..30, 1..20),
        ) {
            let mut octets = PREFACE.to_vec();
            frames.iter().for_each(|(kind, flags, stream, payload)| octets.extend(frame(*kind, *flags, *stream, payload)));
            octets.extend(frame(HEADERS, 4, 1, &block));
            let whole = seen(&octets);
            let (mut opening, mut cuts, mut rest) = (Opening::default(), cuts.iter().cycle(), &octets[..]);
            let mut split = Seen::More;
            while split == Seen::More && !rest.is_empty() {
                let (piece, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                split = opening.feed(piece);
                rest = behind;
            }
            prop_assert_eq!(split, whole);
        }

        #[test]
        fn a_text_that_is_of_the_form_is_written_again(
            ids in proptest::collection::vec((0_u16..20, any::<u32>()), 0..8),
            window in 0..LOW_31,
            priority: Option<(u16, bool, u16, u8)>,
        ) {
            let parts = Parts {
                settings: Some(ids.into_iter().collect()),
                window,
                priorities: priority.into_iter().map(|(stream, exclusive, on, weight)| Priority {
                    stream: stream.into(), exclusive: exclusive.into(), depends_on: on.into(), weight: weight.into(),
                }).collect(),
                pseudo: ordered(*b"spam"),
            };
            prop_assert_eq!(Parts::parse(&parts.to_string()), Some(parts));
        }
    }
}
