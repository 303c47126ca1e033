//! An app that records what reaches it and answers what it is told to.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::wire::PATIENCE;

/// What the app does when a whole request head is there.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Read the body, then write these octets and keep the connection.
    Reply(Vec<u8>),
    /// The same without reading the body first.
    ReplyEarly(Vec<u8>),
    /// Read the body, write, close.
    ReplyAndClose(Vec<u8>),
    /// Write each part with a pause before it, then keep the connection.
    Slowly(Vec<Vec<u8>>, Duration),
    /// Read the body, wait for the word or for its speaker to go, then write and keep the connection.
    Held(Arc<Mutex<Receiver<()>>>, Vec<u8>),
    /// Close without a word.
    Close,
    /// Say nothing until the connection is closed.
    Silence,
    /// Write these octets, then send back whatever comes.
    Echo(Vec<u8>),
    /// As the first, with the octets for the first line of the request.
    #[cfg(all(feature = "redis", feature = "sql"))]
    To(fn(&str) -> &'static str),
}

/// A request as it reached the app.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Counts the connections of this app from 0.
    pub(crate) connection: usize,
    /// Whether the body ended as its framing promised.
    pub(crate) whole: bool,
}

impl Seen {
    pub(crate) fn request_line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there more than once: {all:?}");
        all.first().copied()
    }
}

#[derive(Default)]
struct Book {
    seen: Vec<Seen>,
    script: VecDeque<Act>,
    otherwise: Option<Act>,
    connections: usize,
    heads: usize,
    closed: usize,
}

#[derive(Default)]
struct Desk {
    book: Mutex<Book>,
    changed: Condvar,
}

/// The app.
pub(crate) struct Origin {
    address: SocketAddr,
    desk: Arc<Desk>,
}

/// `200 OK` with this text.
pub(crate) fn ok(text: &str) -> Act {
    Act::Reply(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes())
}

/// Octets to be written as they are.
pub(crate) fn raw(octets: &str) -> Act {
    Act::Reply(octets.as_bytes().to_vec())
}

/// These octets, written when the other end of the channel is used or dropped.
pub(crate) fn held(octets: &str) -> (Sender<()>, Act) {
    let (release, held) = channel();
    (release, Act::Held(Arc::new(Mutex::new(held)), octets.as_bytes().to_vec()))
}

impl Origin {
    /// An app that answers `hello` to everything not scripted.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let desk = Arc::new(Desk::default());
        desk.book.lock().unwrap().otherwise = Some(ok("hello"));
        let served = desk.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                let desk = served.clone();
                std::thread::spawn(move || serve(stream, &desk));
            }
        });
        Self { address, desk }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next request is answered so.
    pub(crate) fn next(&self, act: Act) -> &Self {
        self.desk.book.lock().unwrap().script.push_back(act);
        self
    }

    /// Every request that is not scripted is answered so.
    pub(crate) fn always(&self, act: Act) -> &Self {
        self.desk.book.lock().unwrap().otherwise = Some(act);
        self
    }

    /// The requests so far whose body has ended one way or the other.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.desk.book.lock().unwrap().seen.clone()
    }

    /// Waits until there are so many, and returns the last of them.
    pub(crate) fn wait(&self, count: usize) -> Seen {
        self.until(|book| book.seen.len() >= count, "requests").seen.last().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.desk.book.lock().unwrap().connections
    }

    /// Waits until the heads of so many requests have come.
    pub(crate) fn wait_heads(&self, count: usize) {
        drop(self.until(|book| book.heads >= count, "heads"));
    }

    /// Waits until so many connections have been closed by the other side or by us.
    pub(crate) fn wait_closed(&self, count: usize) {
        drop(self.until(|book| book.closed >= count, "closed connections"));
    }

    fn until(&self, done: impl Fn(&Book) -> bool, what: &str) -> std::sync::MutexGuard<'_, Book> {
        let end = Instant::now() + PATIENCE;
        let mut book = self.desk.book.lock().unwrap();
        while !done(&book) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the app waited in vain for {what}; seen: {:?}", book.seen);
            book = self.desk.changed.wait_timeout(book, left).unwrap().0;
        }
        book
    }
}

fn serve(mut stream: TcpStream, desk: &Desk) {
    stream.set_nodelay(true).unwrap();
    let connection = {
        let mut book = desk.book.lock().unwrap();
        book.connections += 1;
        book.connections - 1
    };
    let mut unread = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut unread) {
        let act = {
            let mut book = desk.book.lock().unwrap();
            book.heads += 1;
            desk.changed.notify_all();
            book.script.pop_front().or_else(|| book.otherwise.clone()).unwrap()
        };
        #[cfg(all(feature = "redis", feature = "sql"))]
        let act = if let Act::To(answer) = act { raw(answer(head.lines().next().unwrap())) } else { act };
        let early = matches!(act, Act::ReplyEarly(_) | Act::Close | Act::Silence | Act::Echo(_));
        let (body, whole) = if early { (Vec::new(), false) } else { read_body(&head, &mut stream, &mut unread) };
        desk.book.lock().unwrap().seen.push(Seen { head, body, connection, whole });
        desk.changed.notify_all();
        if !perform(act, &mut stream, &mut unread) {
            break;
        }
    }
    drop(stream.shutdown(Shutdown::Both));
    desk.book.lock().unwrap().closed += 1;
    desk.changed.notify_all();
}

/// Whether the connection goes on.
fn perform(act: Act, stream: &mut TcpStream, unread: &mut Vec<u8>) -> bool {
    match act {
        Act::Reply(octets) | Act::ReplyEarly(octets) => stream.write_all(&octets).is_ok(),
        Act::ReplyAndClose(octets) => {
            drop(stream.write_all(&octets));
            false
        }
        Act::Slowly(parts, pause) => parts.iter().all(|part| {
            std::thread::sleep(pause);
            stream.write_all(part).is_ok()
        }),
        Act::Held(word, octets) => {
            // An error means the same: its speaker has gone.
            word.lock().unwrap().recv().unwrap_or_default();
            stream.write_all(&octets).is_ok()
        }
        Act::Close => false,
        #[cfg(all(feature = "redis", feature = "sql"))]
        Act::To(_) => false,
        Act::Silence => {
            while fill(stream, unread) {}
            false
        }
        Act::Echo(octets) => {
            let mut going = stream.write_all(&octets).is_ok();
            while going {
                going = stream.write_all(&std::mem::take(unread)).is_ok() && fill(stream, unread);
            }
            false
        }
    }
}

fn fill(stream: &mut TcpStream, unread: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16 << 10];
    match stream.read(&mut buffer) {
        Ok(0) | Err(_) => false,
        Ok(count) => {
            unread.extend_from_slice(&buffer[..count]);
            true
        }
    }
}

fn read_head(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
            return Some(String::from_utf8(unread.drain(..at + 4).collect()).unwrap());
        }
        if !fill(stream, unread) {
            return None;
        }
    }
}

fn read_body(head: &str, stream: &mut TcpStream, unread: &mut Vec<u8>) -> (Vec<u8>, bool) {
    let value = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|x| x.1.trim())
    };
    if value("transfer-encoding").is_some() {
        return read_chunks(stream, unread);
    }
    let length: usize = value("content-length").map_or(0, |length| length.parse().unwrap());
    while unread.len() < length {
        if !fill(stream, unread) {
            return (std::mem::take(unread), false);
        }
    }
    (unread.drain(..length).collect(), true)
}

/// The decoded data; trailer lines are kept behind it, after a line `--trailers--`.
fn read_chunks(stream: &mut TcpStream, unread: &mut Vec<u8>) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    let line = |stream: &mut TcpStream, unread: &mut Vec<u8>| loop {
        if let Some(at) = unread.windows(2).position(|two| two == b"\r\n") {
            return Some(String::from_utf8(unread.drain(..at + 2).collect()).unwrap());
        }
        if !fill(stream, unread) {
            return None;
        }
    };
    loop {
        let Some(size) = line(stream, unread) else { return (body, false) };
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if size == 0 {
            let mut first = true;
            loop {
                match line(stream, unread).as_deref() {
                    None => return (body, false),
                    Some("\r\n") => return (body, true),
                    Some(trailer) => {
                        if std::mem::take(&mut first) {
                            body.extend_from_slice(b"--trailers--\r\n");
                        }
                        body.extend_from_slice(trailer.as_bytes());
                    }
                }
            }
        }
        while unread.len() < size + 2 {
            if !fill(stream, unread) {
                return (body, false);
            }
        }
        body.extend(unread.drain(..size));
        unread.drain(..2);
    }
}
