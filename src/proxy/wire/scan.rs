//! The strict grammar of HTTP/1 requests, checked octet by octet before the parser sees them (RFC 9112).
//!
//! A line is judged when it is complete and not before, so the verdict does not depend on how the octets were split. Every
//! line but the rare one that straddles two reads is judged where it lies, without a copy. What is let through has one
//! reading only: lines end with CRLF, framing is one Content-Length or exactly `chunked`, nothing is folded.

use crate::proxy::{Fault, Limits};

/// Longest request line beyond the target: the method, two spaces, the version.
const LINE_EXTRA: usize = 64;
/// Longest method.
const METHOD_MAX: usize = 32;
/// Longest chunk line; extensions are dropped anyway.
const CHUNK_LINE_MAX: usize = 256;
/// Octets of chunk lines one body may spend beyond its data: sixteen for every chunk are free.
const CHUNK_WASTE_MAX: usize = 16 << 10;
/// Most hexadecimal digits of a chunk size.
const CHUNK_DIGITS_MAX: usize = 16;

/// Where in a message the next octet lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before the first octet of a head.
    Between,
    /// Inside a head.
    Head,
    /// Inside a body.
    Body,
    /// Behind the head of an upgrade request, before its answer.
    Held,
    /// In a tunnel: no longer HTTP.
    Tunnel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At a request line. One empty line before it is forgiven.
    Start,
    Header,
    Data(u64),
    ChunkLine,
    ChunkData(u64),
    ChunkCr,
    ChunkLf,
    Trailer,
    Held,
    Tunnel,
}

/// How much of the octets may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) octets: usize,
    pub(super) fault: Option<Fault>,
}

/// The framing fields of the head that is being read.
#[derive(Debug, Default)]
struct Head {
    octets: usize,
    lines: usize,
    empty_lines: usize,
    old: Old,
    length: Option<u64>,
    chunked: Chunked,
    upgrade: Upgrade,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Old {
    #[default]
    Http11,
    Http10,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Chunked {
    #[default]
    No,
    Yes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Upgrade {
    #[default]
    No,
    Asked,
}

/// Reads along with the parser.
#[derive(Debug)]
pub(super) struct Scanner {
    header_bytes_max: usize,
    headers_max: usize,
    uri_bytes_max: usize,
    state: State,
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
    head: Head,
    waste: usize,
    /// Heads that were let through.
    heads: u32,
}

impl Scanner {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            header_bytes_max: limits.header_bytes_max,
            headers_max: limits.headers_max,
            uri_bytes_max: limits.uri_bytes_max,
            state: State::Start,
            carry: Vec::new(),
            head: Head::default(),
            waste: 0,
            heads: 0,
        }
    }

    pub(super) const fn heads(&self) -> u32 {
        self.heads
    }

    pub(super) fn place(&self) -> Place {
        match self.state {
            State::Start if self.carry.is_empty() && self.head.octets == 0 => Place::Between,
            State::Start | State::Header => Place::Head,
            State::Held => Place::Held,
            State::Tunnel => Place::Tunnel,
            _ => Place::Body,
        }
    }

    /// The upgrade was agreed: what follows is not HTTP.
    pub(super) const fn tunnel(&mut self) {
        self.state = State::Tunnel;
    }

    /// The upgrade was not agreed: HTTP goes on.
    pub(super) fn resume(&mut self) {
        if self.state == State::Held {
            self.state = State::Start;
        }
    }

    /// Judges what has been read. After a fault it must not be asked again.
    pub(super) fn feed(&mut self, input: &[u8]) -> Passed {
        let mut at = 0;
        while let Some(rest) = input.get(at..)
            && !rest.is_empty()
        {
            match self.step(rest) {
                Ok(octets) => at += octets,
                Err(fault) => return Passed { octets: at, fault: Some(fault) },
            }
        }
        Passed { octets: at, fault: None }
    }

    /// Takes at least one octet.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Fault> {
        match self.state {
            State::Data(left) => {
                let (taken, left) = take(rest.len(), left);
                self.state = if left == 0 { State::Start } else { State::Data(left) };
                Ok(taken)
            }
            State::ChunkData(left) => {
                let (taken, left) = take(rest.len(), left);
                self.state = if left == 0 { State::ChunkCr } else { State::ChunkData(left) };
                Ok(taken)
            }
            State::ChunkCr => self.exactly(rest, b'\r', State::ChunkLf),
            State::ChunkLf => self.exactly(rest, b'\n', State::ChunkLine),
            State::Held => Err(Fault::EarlyData),
            State::Tunnel => Ok(rest.len()),
            State::Start | State::Header | State::ChunkLine | State::Trailer => self.line(rest),
        }
    }

    fn exactly(&mut self, rest: &[u8], octet: u8, then: State) -> Result<usize, Fault> {
        if rest.first() != Some(&octet) {
            return Err(Fault::Chunk);
        }
        self.state = then;
        Ok(1)
    }

    fn line(&mut self, rest: &[u8]) -> Result<usize, Fault> {
        let Some(end) = memchr::memchr(b'\n', rest) else {
            self.carry.extend_from_slice(rest);
            self.within_limits(self.carry.len())?;
            return Ok(rest.len());
        };
        let line = rest.get(..=end).unwrap_or_default();
        if self.carry.is_empty() {
            self.within_limits(line.len())?;
            self.judge(line)?;
        } else {
            self.carry.extend_from_slice(line);
            self.within_limits(self.carry.len())?;
            let mut carry = std::mem::take(&mut self.carry);
            self.judge(&carry)?;
            carry.clear();
            // Room for one long cookie is worth keeping; a whole head is not.
            carry.shrink_to(1024);
            self.carry = carry;
        }
        Ok(end + 1)
    }

    /// Whether the line may be as long as it is already, whatever comes of it.
    fn within_limits(&self, length: usize) -> Result<(), Fault> {
        let head = match self.state {
            State::Start if length > self.uri_bytes_max + LINE_EXTRA => return Err(Fault::UriTooLong),
            State::ChunkLine if length > CHUNK_LINE_MAX => return Err(Fault::Chunk),
            State::ChunkLine => return Ok(()),
            _ => self.head.octets + length,
        };
        if head > self.header_bytes_max { Err(Fault::HeadersTooLarge) } else { Ok(()) }
    }

    /// Judges a complete line, which ends with LF.
    fn judge(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.head.octets += line.len();
        let content = line.strip_suffix(b"\r\n");
        match self.state {
            State::Start => self.request_line(content.ok_or(Fault::RequestLine)?),
            State::Header => match content.ok_or(Fault::HeaderLine)? {
                [] => self.end_of_head(),
                content => self.header_line(content),
            },
            State::Trailer => match content.ok_or(Fault::Chunk)? {
                [] => {
                    self.begin_next();
                    Ok(())
                }
                content => {
                    self.count_line()?;
                    field(content).map(|_| ()).ok_or(Fault::HeaderLine)
                }
            },
            _ => self.chunk_line(content.ok_or(Fault::Chunk)?),
        }
    }

    fn begin_next(&mut self) {
        self.head = Head::default();
        self.state = State::Start;
    }

    fn count_line(&mut self) -> Result<(), Fault> {
        self.head.lines += 1;
        if self.head.lines > self.headers_max { Err(Fault::HeadersTooLarge) } else { Ok(()) }
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if line.is_empty() && self.head.empty_lines == 0 {
            self.head.empty_lines = 1;
            return Ok(());
        }
        let mut parts = line.split(|octet| *octet == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::RequestLine);
        };
        if method.is_empty() || method.len() > METHOD_MAX || !method.iter().all(|octet| is_token(*octet)) {
            return Err(Fault::RequestLine);
        }
        if target.len() > self.uri_bytes_max {
            return Err(Fault::UriTooLong);
        }
        // A fragment never goes over the wire; the parser would cut it off silently.
        if target.is_empty() || !target.iter().all(|octet| octet.is_ascii_graphic() && *octet != b'#') {
            return Err(Fault::RequestLine);
        }
        // What the parser would refuse is refused here, so that there is one answer and one event for it.
        let plain = target.first() == Some(&b'/') && target.iter().all(|octet| is_plain(*octet));
        if !plain && http::Uri::try_from(target).is_err() {
            return Err(Fault::RequestLine);
        }
        self.head.old = match version {
            b"HTTP/1.1" => Old::Http11,
            b"HTTP/1.0" => Old::Http10,
            _ => return Err(Fault::RequestLine),
        };
        self.state = State::Header;
        Ok(())
    }

    fn header_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.count_line()?;
        let (name, value) = field(line).ok_or(Fault::HeaderLine)?;
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.head.upgrade = Upgrade::Asked,
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(value.trim_ascii())?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding(value.trim_ascii())?,
            _ => {}
        }
        Ok(())
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Fault> {
        let length = digits(value).ok_or(Fault::ContentLength)?;
        if self.head.length.is_some_and(|before| before != length) {
            return Err(Fault::ContentLength);
        }
        self.head.length = Some(length);
        Ok(())
    }

    fn coding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.head.chunked == Chunked::Yes {
            return Err(Fault::TransferEncoding);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.head.chunked = Chunked::Yes;
            return Ok(());
        }
        // `gzip, chunked` is well-formed, only nothing we undo.
        let mut codings = value.split(|octet| *octet == b',').map(<[u8]>::trim_ascii);
        let last_is_chunked = codings.next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
        let others = codings.all(|coding| {
            !coding.is_empty()
                && !coding.eq_ignore_ascii_case(b"chunked")
                && coding.iter().all(|octet| is_token(*octet))
        });
        Err(if last_is_chunked && others { Fault::UnsupportedCoding } else { Fault::TransferEncoding })
    }

    fn end_of_head(&mut self) -> Result<(), Fault> {
        let head = std::mem::take(&mut self.head);
        self.state = match (head.chunked, head.length) {
            (Chunked::Yes, Some(_)) => return Err(Fault::TransferEncoding),
            (Chunked::Yes, None) if head.old == Old::Http10 => return Err(Fault::TransferEncoding),
            (Chunked::Yes, None) => State::ChunkLine,
            (Chunked::No, Some(length)) if length > 0 => State::Data(length),
            (Chunked::No, _) if head.upgrade == Upgrade::Asked && head.old == Old::Http11 => State::Held,
            (Chunked::No, _) => State::Start,
        };
        self.waste = 0;
        self.heads = self.heads.wrapping_add(1);
        Ok(())
    }

    fn chunk_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.head.octets = 0;
        let count = line.iter().take_while(|octet| octet.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at_checked(count).ok_or(Fault::Chunk)?;
        if digits.is_empty() || digits.len() > CHUNK_DIGITS_MAX {
            return Err(Fault::Chunk);
        }
        if !extension.is_empty() {
            self.waste += extension.len();
            let well_formed = extension.first() == Some(&b';') && !extension.iter().copied().any(is_control);
            if !well_formed || self.waste > CHUNK_WASTE_MAX {
                return Err(Fault::Chunk);
            }
        }
        let size = digits.iter().fold(0, |size: u64, digit| size << 4 | u64::from(hex(*digit)));
        self.state = if size == 0 { State::Trailer } else { State::ChunkData(size) };
        Ok(())
    }
}

fn take(there: usize, wanted: u64) -> (usize, u64) {
    let there = u64::try_from(there).unwrap_or(u64::MAX);
    let taken = there.min(wanted);
    (usize::try_from(taken).unwrap_or(usize::MAX), wanted - taken)
}

/// Name and value of a field line, if it is one.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    // Without an early way out the compiler looks at sixteen octets at a time.
    let bad = line.iter().fold(false, |bad, octet| bad | is_control(*octet));
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = line.split_at_checked(colon)?;
    let good_name = !name.is_empty() && name.iter().all(|octet| is_token(*octet));
    if bad || !good_name { None } else { Some((name, value.get(1..)?)) }
}

/// A control that has no place in a line; TAB has.
const fn is_control(octet: u8) -> bool {
    (octet < b' ' && octet != b'\t') || octet == 0x7f
}

fn is_token(octet: u8) -> bool {
    TOKEN.get(usize::from(octet)).copied().unwrap_or(false)
}

/// Of what nearly every target is made.
const fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'/' | b'-' | b'.' | b'_' | b'~' | b'%' | b'?' | b'=' | b'&' | b'+' | b',' | b':' | b';' | b'@'
        )
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0_u8;
    while octet < 128 {
        let symbol = matches!(
            octet,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        );
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, and the index is below 128")]
        {
            table[octet as usize] = symbol || octet.is_ascii_alphanumeric();
        }
        octet += 1;
    }
    table
};

/// At most 19 digits and nothing else.
pub(in crate::proxy) fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    value.iter().try_fold(0, |number: u64, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scanner() -> Scanner {
        Scanner::new(&Limits { header_bytes_max: 512, headers_max: 8, uri_bytes_max: 64, ..Limits::default() })
    }

    fn check(input: &str, expected: Option<Fault>) {
        assert_eq!(scanner().feed(input.as_bytes()).fault, expected, "{input:?}");
    }

    fn with_header(line: &str, expected: Option<Fault>) {
        check(&format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"), expected);
    }

    #[test]
    fn request_lines() {
        let bad = Some(Fault::RequestLine);
        let line = |line: &str, expected| check(&format!("{line}Host: a\r\n\r\n"), expected);
        line("GET / HTTP/1.1\r\n", None);
        line("\r\nGET / HTTP/1.0\r\n", None);
        line("PROPFIND /a?b=%20{c}|` HTTP/1.1\r\n", None);
        line("OPTIONS * HTTP/1.1\r\n", None);
        line("\r\n\r\nGET / HTTP/1.1\r\n", bad);
        line("GET / HTTP/1.1\n", bad);
        line("GET  / HTTP/1.1\r\n", bad);
        line("GET / HTTP/1.1 \r\n", bad);
        line(" GET / HTTP/1.1\r\n", bad);
        line("GET\t/ HTTP/1.1\r\n", bad);
        line("GET /\r HTTP/1.1\r\n", bad);
        line("GET /\0 HTTP/1.1\r\n", bad);
        line("GET /\u{e4} HTTP/1.1\r\n", bad);
        line("GET /a#b HTTP/1.1\r\n", bad);
        line("GET /\r\n", bad);
        line("GET / HTTP/1.2\r\n", bad);
        line("GET / http/1.1\r\n", bad);
        line("PRI * HTTP/2.0\r\n", bad);
        line("G(T / HTTP/1.1\r\n", bad);
        line(&format!("{} / HTTP/1.1\r\n", "M".repeat(33)), bad);
        line(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(63)), None);
        line(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(64)), Some(Fault::UriTooLong));
        check(&format!("GET /{}", "a".repeat(200)), Some(Fault::UriTooLong));
    }

    #[test]
    fn a_target_that_passes_can_be_parsed_and_comes_out_unchanged() {
        for octet in 0x21..0x7f_u8 {
            for target in
                [format!("/{}", char::from(octet)), format!("/?{}", char::from(octet)), char::from(octet).into()]
            {
                let passed = scanner().feed(format!("GET {target} HTTP/1.1\r\n").as_bytes()).fault.is_none();
                let parsed = http::Uri::try_from(target.as_str());
                if passed {
                    assert_eq!(parsed.unwrap().to_string(), target);
                } else {
                    assert!(octet == b'#' || parsed.is_err(), "{target} was refused without need");
                }
            }
        }
    }

    #[test]
    fn header_lines() {
        let bad = Some(Fault::HeaderLine);
        with_header("X-A: \t b\u{e4}c ", None);
        with_header("X-A:", None);
        for line in ["X-A : b", " X-A: b", "\tX-A: b", "X-A\t: b", ": b", "X-A", "X(A): b", "X\u{e4}: b"] {
            with_header(line, bad);
        }
        for octet in ["\0", "\x01", "\r", "\x0b", "\x7f"] {
            with_header(&format!("X-A: b{octet}c"), bad);
            with_header(&format!("X{octet}A: b"), bad);
        }
        with_header("X-A: b\n", bad);
        with_header("X-A: b\r\n c", bad);
        with_header(&"A: b\r\n".repeat(8), Some(Fault::HeadersTooLarge));
        with_header(&format!("A: {}", "b".repeat(480)), Some(Fault::HeadersTooLarge));
    }

    #[test]
    fn framing() {
        let (length, coding) = (Some(Fault::ContentLength), Some(Fault::TransferEncoding));
        with_header("Content-Length: 0", None);
        with_header("Content-Length: 5\r\ncontent-length: 5", None);
        for value in ["+5", "-1", "0x5", "5 5", "5,5", "5, 6", "", "5;", "99999999999999999999"] {
            with_header(&format!("Content-Length: {value}"), length);
        }
        with_header("Content-Length: 5\r\nContent-Length: 6", length);
        with_header("Transfer-Encoding: chunked", None);
        with_header("Transfer-Encoding: Chunked ", None);
        for value in
            ["gzip", "chunked, identity", "chunked;q=1", "xchunked", "\"chunked\"", "chunked,", "", ", chunked"]
        {
            with_header(&format!("Transfer-Encoding: {value}"), coding);
        }
        with_header("Transfer-Encoding: gzip, chunked", Some(Fault::UnsupportedCoding));
        with_header("Transfer-Encoding: \x0bchunked", Some(Fault::HeaderLine));
        with_header("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", coding);
        with_header("Content-Length: 5\r\nTransfer-Encoding: chunked", coding);
        with_header("Transfer-Encoding: chunked\r\nContent-Length: 5", coding);
        check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", coding);
    }

    #[test]
    fn chunks() {
        let bad = Some(Fault::Chunk);
        let body = |body: &str, expected| {
            check(&format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}"), expected);
        };
        body("5\r\n12345\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", None);
        body("00000000000000aF;x=\"y\"\r\n", None);
        body("0\r\nX-T: 1\r\n\r\n", None);
        for wrong in [
            "5\n12345\r\n",
            "5\r\n12345\n0\r\n",
            "5\r\n123456",
            "5\r\n12345\rX",
            "g\r\n",
            "-1\r\n",
            " 5\r\n",
            "5 \r\n",
            "0x5\r\n",
            "\r\n",
            "00000000000000005\r\n",
            "5;a\rb\r\n",
            "0\r\n\n",
        ] {
            body(wrong, bad);
        }
        body(&format!("5;{}\r\n", "a".repeat(300)), bad);
        body(&format!("1;{}\r\nx\r\n", "a".repeat(200)).repeat(100), bad);
        body("0\r\nX T: 1\r\n\r\n", Some(Fault::HeaderLine));
        body(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(9)), Some(Fault::HeadersTooLarge));
    }

    #[test]
    fn what_follows_a_body_is_a_head_again() {
        let mut scanner = scanner();
        let passed = scanner.feed(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\r\n\rGET / HTTP/1.1\r\n\r\nGE");
        assert_eq!((passed.fault, scanner.heads(), scanner.place()), (None, 2, Place::Head));
    }

    #[test]
    fn octets_behind_an_upgrade_wait_for_its_answer() {
        let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
        check(&format!("{upgrade}\x01"), Some(Fault::EarlyData));
        let mut scanner = scanner();
        assert_eq!(scanner.feed(upgrade.as_bytes()).fault, None);
        assert_eq!(scanner.place(), Place::Held);
        scanner.tunnel();
        assert_eq!(scanner.feed(b"\0\r\n\x01"), Passed { octets: 4, fault: None });
    }

    #[test]
    fn nothing_of_the_faulty_line_is_let_through() {
        let input = b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n";
        let good = b"GET / HTTP/1.1\r\nHost: a\r\n".len();
        assert_eq!(scanner().feed(input), Passed { octets: good, fault: Some(Fault::HeaderLine) });
    }

    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("GET / HTTP/1.1\r\n".to_owned()),
            Just("POST /x HTTP/1.1\r\nHost: a\r\n".to_owned()),
            Just("Content-Length: 3\r\n".to_owned()),
            Just("Transfer-Encoding: chunked\r\n".to_owned()),
            Just("Upgrade: websocket\r\n".to_owned()),
            Just("\r\n".to_owned()),
            Just("3\r\nabc\r\n".to_owned()),
            Just("0\r\n\r\n".to_owned()),
            Just("abc".to_owned()),
            "[A-Za-z: \r\n\x00\t;0-9]{0,12}",
        ]
    }

    proptest! {
        /// The verdict is the same whatever way the octets are split.
        #[test]
        fn splitting_changes_nothing(
            pieces in proptest::collection::vec(piece(), 0..12),
            cuts in proptest::collection::vec(1_usize..20, 1..40),
        ) {
            let input = pieces.concat().into_bytes();
            let mut whole = scanner();
            let expected = whole.feed(&input);
            let mut split = scanner();
            let (mut at, mut cuts, mut fault) = (0, cuts.iter().cycle(), None);
            while at < input.len() && fault.is_none() {
                let end = (at + cuts.next().unwrap()).min(input.len());
                fault = split.feed(&input[at..end]).fault;
                at = end;
            }
            prop_assert_eq!(fault, expected.fault);
            prop_assert_eq!(split.heads(), whole.heads());
            if fault.is_none() {
                prop_assert_eq!(split.place(), whole.place());
            }
        }
    }
}
