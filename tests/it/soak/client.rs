//! Clients of the soak tests: they send octets as they are and keep nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::app::{BLOCK, Until, block, push};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests that are sent at once, before the first answer is read.
const AT_ONCE: u64 = 32;

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) status: u16,
    body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub(super) fn send(stream: &mut TcpStream, text: &str) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
}

#[track_caller]
pub(super) fn exchange(stream: &mut TcpStream, text: &str) -> Answer {
    send(stream, text);
    read_answer(stream)
}

/// Reads one answer. Only one may be on its way, since more octets than its own may be taken from the stream.
#[track_caller]
pub(super) fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut reader = BufReader::with_capacity(1024, stream);
    let (status, length) = read_head(&mut reader);
    let mut body = vec![0; usize::try_from(length).unwrap()];
    reader.read_exact(&mut body).unwrap();
    Answer { status, body }
}

/// Status and length of the body.
#[track_caller]
fn read_head(reader: &mut impl BufRead) -> (u16, u64) {
    let (mut line, mut status, mut length) = (String::new(), 0, 0);
    loop {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the connection was closed before an answer");
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            Some(_) => {}
            None if line == "\r\n" => return (status, length),
            None => status = line.split(' ').nth(1).unwrap().parse().unwrap(),
        }
    }
}

/// Reads an answer whose body is the pattern; gives its length.
#[track_caller]
pub(super) fn read_pattern(stream: &mut TcpStream) -> u64 {
    let mut reader = BufReader::with_capacity(BLOCK, stream);
    let (status, length) = read_head(&mut reader);
    assert_eq!(status, 200);
    let (mut piece, block) = (vec![0; BLOCK], block());
    let mut read = 0;
    while read < length {
        let want = BLOCK.min(usize::try_from(length - read).unwrap());
        reader.read_exact(&mut piece[..want]).unwrap();
        assert!(piece[..want] == block[..want], "the body changed on its way, about octet {read}");
        read += want as u64;
    }
    read
}

/// A body on its way to the app.
pub(super) struct Upload {
    stream: TcpStream,
    length: u64,
    sent: u64,
}

impl Upload {
    pub(super) fn begin(mut stream: TcpStream, length: u64) -> Self {
        send(&mut stream, &format!("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        Self { stream, length, sent: 0 }
    }

    /// Sends until nobody takes any more of it, and tells how much that was.
    pub(super) fn push_until_stuck(&mut self) -> u64 {
        self.sent = push(&mut self.stream, self.sent, self.length, Until::Stuck);
        self.sent
    }

    /// Sends the rest.
    #[track_caller]
    pub(super) fn finish(mut self) -> Answer {
        push(&mut self.stream, self.sent, self.length, Until::Sent);
        read_answer(&mut self.stream)
    }
}

/// Makes up requests that follow from a seed.
pub(super) struct Lottery(u64);

impl Lottery {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (SplitMix64: Steele, Lea, Flood, 2014).
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> usize {
        usize::try_from(self.draw() % end).unwrap()
    }

    /// Letters that a cookie of ours may be made of.
    fn letters(&mut self, count: usize, into: &mut String) {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        into.extend((0..count).map(|_| char::from(LETTERS[self.below(64)])));
    }

    /// A request from an address and a browser that were most likely never seen before.
    fn request(&mut self, into: &mut String) {
        let (network, host, version) = (self.draw(), self.below(0xffff), self.below(1 << 20));
        into.push_str(&format!(
            "GET /page/{host} HTTP/1.1\r\nHost: a\r\nAccept-Language: en\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0\r\n\
             X-Forwarded-For: 2001:{:x}:{:x}:{:x}::{host:x}\r\nCookie: ",
            network & 0xffff,
            (network >> 16) & 0xffff,
            (network >> 32) & 0xffff,
        ));
        match self.below(10) {
            // As ours look.
            0..=5 => {
                into.push_str("portcullis=");
                // 43 letters are 258 bits: the last one must leave two of them zero to be 32 bytes.
                self.letters(42, into);
                into.push_str("A.");
                self.letters(21, into);
                into.push('A');
            }
            // Nearly as ours look.
            6 => {
                into.push_str("portcullis=");
                let count = self.below(200);
                self.letters(count, into);
            }
            // The app's own, chosen by the client.
            7 => {
                into.push_str("sessionid=");
                self.letters(32, into);
            }
            // Long, and of names that nobody knows.
            8 => {
                for number in 0..self.below(20) {
                    into.push_str(&format!("{}n{}=", if number > 0 { "; " } else { "" }, self.below(1 << 30)));
                    let count = self.below(200);
                    self.letters(count, into);
                }
                into.push_str("; end=1");
            }
            // Twice.
            _ => {
                into.push_str("portcullis=");
                self.letters(43, into);
                into.push_str("; portcullis=");
                self.letters(43, into);
            }
        }
        into.push_str("\r\n\r\n");
    }
}

/// Sends one request after the other, each as another stranger.
pub(super) struct Visitor {
    address: SocketAddr,
    lottery: Lottery,
}

impl Visitor {
    pub(super) const fn connect(address: SocketAddr, lottery: Lottery) -> Self {
        Self { address, lottery }
    }

    #[track_caller]
    pub(super) fn visit(mut self, requests: u64) {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::with_capacity(BLOCK, stream.try_clone().unwrap());
        let (mut stream, mut text, mut body) = (stream, String::new(), Vec::new());
        let mut left = requests;
        while left > 0 {
            let now = left.min(AT_ONCE);
            text.clear();
            (0..now).for_each(|_| self.lottery.request(&mut text));
            stream.write_all(text.as_bytes()).unwrap();
            for _ in 0..now {
                let (status, length) = read_head(&mut reader);
                assert!(status == 200, "a stranger is served as one, not answered with {status}");
                body.resize(usize::try_from(length).unwrap(), 0);
                reader.read_exact(&mut body).unwrap();
            }
            left -= now;
        }
    }
}
