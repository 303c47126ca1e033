//! Instructions of a request, counted by callgrind: the one figure of the proxy that neighbours on the machine do not change.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::contender::{self, BROWSER, Kind};

/// Connections that take turns, and sessions.
const CONNECTIONS: usize = 32;
const SESSIONS: usize = 100;

/// Requests of the shorter run, after which everything is warm, and of the longer one.
const FEW: usize = 1000;
const MANY: usize = 3000;

/// Prints what a request costs with the guard off and on. Valgrind has no SHA instructions: hashing counts for too much.
pub(crate) fn print() {
    let scratch = tempfile::tempdir().unwrap();
    let app = contender::app(scratch.path());
    println!("| Contender | instructions |\n|---|---|");
    for kind in [Kind::Off, Kind::On] {
        let more = collected(kind, app.address(), MANY) - collected(kind, app.address(), FEW);
        println!("| {} | {} |", kind.title(), more / (MANY - FEW) as u64);
    }
}

/// Instructions of a whole run, from start to end.
fn collected(kind: Kind, app: SocketAddr, requests: usize) -> u64 {
    let mut child = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["serve", kind.word(), &app.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("valgrind: {error}"));
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    drive(kind, address.trim().parse().unwrap(), requests);
    // It ends with its standard input.
    drop(child.stdin.take());
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    let line = text.lines().find_map(|line| line.split_once("Collected : ")).unwrap_or_else(|| panic!("{text}"));
    line.1.trim().parse().unwrap()
}

fn drive(kind: Kind, address: SocketAddr, requests: usize) {
    let texts: Vec<String> = (0..SESSIONS)
        .map(|at| {
            let cookie = match kind {
                Kind::On => contender::log_in(address, at),
                _ => contender::foreign_cookie(at),
            };
            let lines = BROWSER.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>();
            format!("GET / HTTP/1.1\r\nHost: {address}\r\n{lines}Cookie: {cookie}\r\n\r\n")
        })
        .collect();
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
    for at in 0..requests {
        let stream = &mut connections[at % CONNECTIONS];
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(texts[at % SESSIONS].as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !is_whole(&answer) {
            let mut piece = [0; 4096];
            let length = stream.read(&mut piece).unwrap();
            assert!(length > 0, "the connection was closed");
            answer.extend_from_slice(&piece[..length]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
}

/// Whether a head and the body of the app are there.
fn is_whole(answer: &[u8]) -> bool {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    head.is_some_and(|head| answer.len() >= head + 4 + contender::APP_BODY_BYTES)
}
