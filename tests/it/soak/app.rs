//! An app that keeps nothing: it answers, swallows bodies and makes bodies up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Bodies are this block over and over, so that a missing or doubled piece is seen.
pub(super) const BLOCK: usize = 65_521;

/// How long a write may make no progress until it counts as stuck.
pub(super) const STUCK: Duration = Duration::from_millis(700);

/// How long one waits for the other side of a story.
const PATIENCE: Duration = Duration::from_secs(60);

/// A block whose bytes follow from their place.
pub(super) fn block() -> Vec<u8> {
    (0..BLOCK).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

/// A running app. Its threads end with the test process.
pub(super) struct App {
    address: SocketAddr,
    desk: Arc<Desk>,
}

#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    reads: bool,
    stuck_at: Option<u64>,
}

impl App {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let desk = Arc::new(Desk::default());
        let shared = desk.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let desk = shared.clone();
                thread::spawn(move || serve(stream.unwrap(), &desk));
            }
        });
        Self { address, desk }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets it read uploads: until then it leaves them where they are.
    pub(super) fn go_on(&self) {
        self.desk.state.lock().unwrap().reads = true;
        self.desk.changed.notify_all();
    }

    /// Waits until it can not get rid of any more of a download, and tells how much it had sent.
    #[track_caller]
    pub(super) fn wait_until_stuck(&self) -> u64 {
        self.desk.wait(|state| state.stuck_at).expect("the app never got stuck")
    }
}

impl Desk {
    fn wait<T>(&self, wanted: impl Fn(&State) -> Option<T>) -> Option<T> {
        let state = self.state.lock().unwrap();
        let (state, _) = self.changed.wait_timeout_while(state, PATIENCE, |state| wanted(state).is_none()).unwrap();
        wanted(&state)
    }
}

/// Serves a connection until the other side closes it.
fn serve(stream: TcpStream, desk: &Desk) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = Request::read(&mut reader) {
        let sent = match request.target.strip_prefix("/download/") {
            Some(length) => download(&mut stream, length.parse().unwrap(), desk),
            None if request.length > 0 => {
                desk.wait(|state| state.reads.then_some(()));
                let read = swallow(&mut reader, request.length);
                stream.write_all(answer(&format!("{read} as sent")).as_bytes())
            }
            None => stream.write_all(answer("hello").as_bytes()),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The part of a request that matters here.
struct Request {
    target: String,
    length: u64,
}

impl Request {
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut request = Self { target: String::new(), length: 0 };
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    request.length = value.parse().unwrap();
                }
                Some(_) => {}
                None if line == "\r\n" => return Some(request),
                None => request.target = line.split(' ').nth(1)?.to_owned(),
            }
        }
    }
}

/// Reads a body and compares it with what was to be sent; gives its length.
fn swallow(reader: &mut impl Read, length: u64) -> u64 {
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

fn download(stream: &mut TcpStream, length: u64, desk: &Desk) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n")?;
    let stuck_at = push(stream, 0, length, Until::Stuck);
    desk.state.lock().unwrap().stuck_at = Some(stuck_at);
    desk.changed.notify_all();
    push(stream, stuck_at, length, Until::Sent);
    Ok(())
}

/// How far a body is pushed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Nobody takes any more of it.
    Stuck,
    /// All of it is sent.
    Sent,
}

/// Sends a body from the octet `from` on; gives the octet at which it stopped.
pub(super) fn push(stream: &mut TcpStream, from: u64, length: u64, until: Until) -> u64 {
    let block = block();
    stream.set_write_timeout(Some(if until == Until::Stuck { STUCK } else { PATIENCE })).unwrap();
    let mut at = from;
    while at < length {
        let start = usize::try_from(at % BLOCK as u64).unwrap();
        let end = BLOCK.min(start + usize::try_from((length - at).min(BLOCK as u64)).unwrap());
        match stream.write(&block[start..end]) {
            Ok(sent) => at += sent as u64,
            Err(error) if until == Until::Stuck && error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("octet {at} could not be sent: {error}"),
        }
    }
    at
}
