//! HTTP/2 frames in passing: counts those that carry no request, since they cost us more than the client (RFC 9113).
//!
//! ```text
//! 0     3    4     5         9
//! +-----+----+-----+---------+----------
//! | len |type|flags| stream  | payload
//! +-----+----+-----+---------+----------
//! ```
//! A browser sends a few dozen such frames in a busy minute. The parser underneath has limits of its own; this one sees
//! all kinds together, and resets also after the request they cancel has been dispatched.

use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::{Fault, Limits};

/// How long glitches are added up.
const WINDOW: Duration = Duration::from_secs(10);
/// What a client says first.
const PREFACE: usize = 24;
/// Resets weigh more: each may have cost a request at the app.
const RESET_WEIGHT: u32 = 5;
/// Octets we send for which one WINDOW_UPDATE is owed. One more is for each request: Firefox sends one for each answer, however
/// small.
const OCTETS_PER_UPDATE: u64 = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    max: u32,
    glitches: u32,
    updates: u64,
    since: Instant,
    /// Octets to skip: the preface, a payload.
    skip: usize,
    header: [u8; 9],
    filled: usize,
    /// The newest stream.
    newest: u32,
    head: Head,
    /// Requests whose head came whole.
    opened: u32,
}

/// How far the head of the newest stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Whole,
    Begun,
    /// The rest of it is in the frame at hand.
    Ending,
}

impl Frames {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            max: limits.http2_glitches_max,
            glitches: 0,
            updates: 0,
            since: Instant::now(),
            skip: PREFACE,
            header: [0; 9],
            filled: 0,
            newest: 0,
            head: Head::Whole,
            opened: 0,
        }
    }

    /// Requests whose head came whole, whatever is wrong with it.
    pub(super) const fn opened(&self) -> u32 {
        self.opened
    }

    /// Whether the last frame came only in part.
    pub(super) const fn is_partial(&self) -> bool {
        self.filled > 0 || self.skip > 0
    }

    /// Looks at what was read; `written` is how much we have sent so far.
    pub(super) fn feed(&mut self, mut input: &[u8], written: u64) -> Result<(), Fault> {
        loop {
            let skipped = self.skip.min(input.len());
            self.skip -= skipped;
            input = input.get(skipped..).unwrap_or_default();
            if self.skip == 0 && self.head == Head::Ending {
                self.head = Head::Whole;
                self.opened = self.opened.wrapping_add(1);
            }
            if input.is_empty() {
                return Ok(());
            }
            let wanted = self.header.len() - self.filled;
            let taken = wanted.min(input.len());
            let (head, rest) = input.split_at_checked(taken).unwrap_or_default();
            if let Some(room) = self.header.get_mut(self.filled..self.filled + taken) {
                room.copy_from_slice(head);
            }
            self.filled += taken;
            input = rest;
            if self.filled == self.header.len() {
                self.filled = 0;
                self.frame(written)?;
            }
        }
    }

    fn frame(&mut self, written: u64) -> Result<(), Fault> {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.follow(kind, flags, u32::from_be_bytes(stream) & 0x7fff_ffff);
        let weight = match kind {
            HEADERS => 0,
            DATA if self.skip > 0 || flags & END_STREAM != 0 => 0,
            RST_STREAM => RESET_WEIGHT,
            WINDOW_UPDATE => {
                self.updates += 1;
                let owed = written / OCTETS_PER_UPDATE + u64::from(self.opened);
                u32::from(self.updates > owed + 100)
            }
            _ => 1,
        };
        self.glitches = self.glitches.saturating_add(weight);
        if self.glitches <= self.max {
            return Ok(());
        }
        // The clock is read only here: once for every so many glitches.
        let now = Instant::now();
        if now.duration_since(self.since) < WINDOW {
            return Err(Fault::Http2Flood);
        }
        (self.since, self.glitches) = (now, 0);
        Ok(())
    }

    /// Follows the head of a new stream, over as many frames as it comes in. Trailers come on an old one.
    const fn follow(&mut self, kind: u8, flags: u8, stream: u32) {
        let is_head = match kind {
            HEADERS if stream > self.newest => {
                self.newest = stream;
                true
            }
            CONTINUATION => stream == self.newest && matches!(self.head, Head::Begun),
            _ => false,
        };
        if is_head {
            self.head = if flags & END_HEADERS == 0 { Head::Begun } else { Head::Ending };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Frames {
        let mut frames = Frames::new(&Limits { http2_glitches_max: 50, ..Limits::default() });
        frames.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0).unwrap();
        frames
    }

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(payload).unwrap(), kind, flags, 0, 0, 0, 1];
        frame.resize(9 + payload, 0xaa);
        frame
    }

    fn flood(kind: u8, flags: u8, payload: usize, written: u64) -> Option<usize> {
        let octets = frame(kind, flags, payload);
        let mut frames = frames();
        // Split into odd pieces: the outcome must not depend on it.
        (1..=1000).find(|_| octets.chunks(7).any(|piece| frames.feed(piece, written).is_err()))
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_their_bodies_are_no_glitches() {
        assert_eq!(flood(HEADERS, 4, 20, 0), None);
        assert_eq!(flood(DATA, 0, 20, 0), None);
        assert_eq!(flood(WINDOW_UPDATE, 0, 4, 10 << 20), None);
    }

    #[tokio::test(start_paused = true)]
    async fn floods_are_seen() {
        assert_eq!(flood(6, 0, 8, 0), Some(51), "PING");
        assert_eq!(flood(4, 0, 6, 0), Some(51), "SETTINGS");
        assert_eq!(flood(2, 0, 5, 0), Some(51), "PRIORITY");
        assert_eq!(flood(9, 0, 0, 0), Some(51), "CONTINUATION");
        assert_eq!(flood(DATA, 0, 0, 0), Some(51), "empty DATA");
        assert_eq!(flood(RST_STREAM, 0, 4, 0), Some(11), "RST_STREAM");
        assert_eq!(flood(WINDOW_UPDATE, 0, 4, 0), Some(151), "WINDOW_UPDATE");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_counted_when_its_head_is_whole() {
        fn on(stream: u8, kind: u8, flags: u8) -> Vec<u8> {
            let mut octets = frame(kind, flags, 20);
            octets[8] = stream;
            octets
        }
        let mut frames = frames();
        let mut check = |octets: &[u8], expected| {
            let (most, last) = octets.split_at(octets.len() - 1);
            let before = frames.opened();
            frames.feed(most, 0).unwrap();
            assert_eq!(frames.opened(), before, "not before its last octet");
            frames.feed(last, 0).unwrap();
            assert_eq!(frames.opened(), expected, "{octets:?}");
        };
        check(&on(1, HEADERS, END_HEADERS), 1);
        check(&on(3, HEADERS, 0), 1);
        check(&on(3, CONTINUATION, 0), 1);
        check(&on(3, CONTINUATION, END_HEADERS), 2);
        check(&on(3, CONTINUATION, END_HEADERS), 2);
        check(&on(3, DATA, 0), 2);
        check(&on(1, HEADERS, END_HEADERS | END_STREAM), 2);
        check(&on(9, HEADERS, END_HEADERS | END_STREAM), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn one_window_update_for_each_request_is_no_glitch() {
        let on = |stream: u32, kind, flags| {
            let mut octets = frame(kind, flags, 4);
            octets.splice(5..9, stream.to_be_bytes());
            octets
        };
        let browse = |updates: usize| {
            let mut frames = frames();
            (0..1000_u32).map(|at| 2 * at + 1).position(|stream| {
                let request = on(stream, HEADERS, END_HEADERS | END_STREAM);
                let answered = on(stream, WINDOW_UPDATE, 0);
                std::iter::once(request)
                    .chain(std::iter::repeat_n(answered, updates))
                    .any(|it| frames.feed(&it, 0).is_err())
            })
        };
        assert_eq!(browse(1), None);
        assert_eq!(browse(2), Some(125));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_window_forgives() {
        let mut frames = frames();
        for _ in 0..50 {
            frames.feed(&frame(6, 0, 8), 0).unwrap();
        }
        tokio::time::advance(WINDOW).await;
        frames.feed(&frame(6, 0, 8), 0).unwrap();
    }
}
