//! A line of a journal, and the chain that goes through all of them.

use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::secret::sha256_of;

/// What stands between a line and its hash.
const KEY: &[u8] = b",\"chain\":\"";
/// What stands behind the hash.
const END: &[u8] = b"\"}";
/// What stands before the number of an event. Nothing that a client wrote comes before it.
const SEQ: &[u8] = b",\"seq\":";
/// A number beyond every journal.
const SEQ_MAX: u64 = 1 << 62;

/// SHA-256 over a line and, by the one before, over all lines before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Head(pub [u8; 32]);

impl Head {
    /// Before the first line.
    pub const FIRST: Self = Self([0; 32]);

    /// With one line more: all of it that stands before `,"chain"`.
    #[must_use]
    pub fn with(&self, body: &[u8]) -> Self {
        Self(sha256_of(&[&self.0, body]))
    }

    fn put(&self, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or_default();
        out.extend(self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]));
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({self})")
    }
}

/// A text is not 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hex digits")]
pub struct NoHead;

impl FromStr for Head {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        hex(text.as_bytes()).map(Self).ok_or(NoHead)
    }
}

/// 32 bytes out of 64 hex digits, small ones.
pub(super) fn hex(text: &[u8]) -> Option<[u8; 32]> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 64] = text.try_into().ok()?;
    let mut out = [0; 32];
    for (byte, digits) in out.iter_mut().zip(text.as_chunks::<2>().0) {
        let [high, low] = *digits;
        *byte = nibble(high)? << 4 | nibble(low)?;
    }
    Some(out)
}

/// What stands before the hash of the line before, in the first line of a file.
const PREV: &[u8] = b",\"prev\":\"";

/// Whether a line is the first one of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    First,
    Later,
}

/// Puts the hash on the line that begins at `start`, an object and a newline. The first one of a file says too what the hash before
/// it is, so that it can be checked when the file before is gone.
pub(super) fn close(out: &mut Vec<u8>, start: usize, order: Order, head: &mut Head) {
    out.truncate(out.len().saturating_sub("}\n".len()));
    if order == Order::First {
        out.extend_from_slice(PREV);
        head.put(out);
        out.push(b'"');
    }
    *head = head.with(out.get(start..).unwrap_or_default());
    out.extend_from_slice(KEY);
    head.put(out);
    out.extend_from_slice(END);
    out.push(b'\n');
}

/// A line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The number of its event.
    pub seq: u64,
    /// What its hash is over.
    pub body: &'a [u8],
    /// Its hash; none of a journal without a chain.
    pub head: Option<Head>,
    /// The hash of the line before, if it says it: the first line of a file does.
    pub prev: Option<Head>,
}

impl<'a> Line<'a> {
    /// Takes a line apart, without its newline; nothing if it is none of a journal.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let at = memchr::memmem::find(line, SEQ)? + SEQ.len();
        let digits = line.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let seq: u64 = std::str::from_utf8(line.get(at..at + digits)?).ok()?.parse().ok()?;
        // No journal has so many; and nothing is left of a line that a crash has put zeros into.
        if !line.starts_with(b"{") || seq > SEQ_MAX || memchr::memchr(0, line).is_some() {
            return None;
        }
        let chained = || {
            let line = line.strip_suffix(END)?;
            let (rest, hash) = line.split_at_checked(line.len().checked_sub(64)?)?;
            Some((rest.strip_suffix(KEY)?, Head(hex(hash)?)))
        };
        let before = |body: &[u8]| {
            let (rest, hash) = body.strip_suffix(b"\"")?.split_last_chunk::<64>()?;
            rest.strip_suffix(PREV).and(hex(hash)).map(Head)
        };
        match chained() {
            Some((body, head)) => Some(Self { seq, body, head: Some(head), prev: before(body) }),
            None => Some(Self { seq, body: line.strip_suffix(b"}")?, head: None, prev: None }),
        }
    }

    /// When it happened.
    pub(super) fn ts(&self) -> Option<Timestamp> {
        let rest = self.body.strip_prefix(b"{\"ts\":\"")?;
        let end = memchr::memchr(b'"', rest)?;
        std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(body: &str, head: &mut Head) -> String {
        let mut out = format!("before{body}\n").into_bytes();
        close(&mut out, "before".len(), Order::Later, head);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn a_line_says_what_it_is_over_and_the_hash_of_all_so_far() {
        let mut head = Head::FIRST;
        let line = closed("{\"ts\":\"x\",\"seq\":17,\"note\":\",\\\"seq\\\":99\"}", &mut head);
        // What any other program makes of it.
        let body = "{\"ts\":\"x\",\"seq\":17,\"note\":\",\\\"seq\\\":99\"";
        let expected = crate::secret::sha256(&[&[0; 32][..], body.as_bytes()].concat());
        assert_eq!(line, format!("{body},\"chain\":\"{}\"}}\n", Head(expected)));
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        let parsed = Line::parse(line.trim_end().as_bytes()).unwrap();
        assert_eq!(parsed, Line { seq: 17, body: body.as_bytes(), head: Some(head), prev: None });
        assert_eq!(head, Head(expected));
        assert_eq!(head.to_string().parse(), Ok(head));
        // The first one of a file.
        let (before, mut out) = (head, b"{\"ts\":\"x\",\"seq\":18}\n".to_vec());
        close(&mut out, 0, Order::First, &mut head);
        let first = Line::parse(out.trim_ascii_end()).unwrap();
        assert_eq!((first.prev, first.head), (Some(before), Some(before.with(first.body))));
        assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
    }

    #[test]
    fn a_line_without_a_hash_is_one_too_and_others_are_none() {
        let line = b"{\"ts\":\"x\",\"seq\":5}";
        assert_eq!(Line::parse(line), Some(Line { seq: 5, body: b"{\"ts\":\"x\",\"seq\":5", head: None, prev: None }));
        for none in [
            "{\"ts\":1,\"seq\":9999999999999999999}",
            "{\"ts\":1,\"seq\":5,\"a\":\"\0\"}",
            "",
            "{",
            "{}",
            "{\"seq\":5}",
            "{\"ts\":1,\"seq\":}",
            "x,\"seq\":5}",
            "{\"a\":1,\"seq\":5",
            "\0\0\0",
        ] {
            assert_eq!(Line::parse(none.as_bytes()), None, "{none}");
        }
        assert_eq!("A".repeat(64).parse::<Head>(), Err(NoHead));
        assert_eq!("a".repeat(63).parse::<Head>(), Err(NoHead));
    }
}
