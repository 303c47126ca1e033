//! Memory stays flat: under idle connections, under bodies larger than any buffer, and under cookies that nobody issued.
//!
//! The guard is the real program in a process of its own, so that its memory is its own. `PORTCULLIS_SOAK=1` runs the sizes
//! of decision 24; what they gave stands in `benches/README.md`.

mod app;
mod client;
mod guard;

use std::net::TcpStream;
use std::thread;

use app::App;
use client::{Lottery, Visitor, exchange, read_answer};
use guard::Guard;

const MIB: u64 = 1 << 20;

/// What a body may cost: buffers of one connection on either side, and what the allocator keeps.
const BODY_BYTES_MAX: u64 = 16 * MIB;

/// What so many strangers may cost once every table that is bounded has filled up.
const STRANGERS_BYTES_MAX: u64 = 16 * MIB;

/// What a connection may cost that is open and says nothing. The goal is 12 KiB, which is less than hyper alone takes
/// (`benches/README.md`); this is where something has gone wrong.
const IDLE_BYTES_MAX: u64 = 48 << 10;

fn size(small: u64, soak: u64) -> u64 {
    if std::env::var_os("PORTCULLIS_SOAK").is_some() { soak } else { small }
}

/// Ten thousand clients that asked once and stay.
#[test]
fn idle_connections_cost_little() {
    const CONNECTIONS: usize = 10_000;
    guard::allow_files(CONNECTIONS * 2 - 1000);
    let app = App::start();
    let guard = Guard::in_front_of(&app);
    let ask = || {
        let mut stream = TcpStream::connect(guard.address).unwrap();
        assert_eq!(exchange(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
        stream
    };
    // What every thread and table needs once is no cost of a connection.
    let first: Vec<TcpStream> = (0..200).map(|_| ask()).collect();
    let before = guard.resident();
    let idle: Vec<TcpStream> = (0..CONNECTIONS).map(|_| ask()).collect();
    let each = guard.resident().saturating_sub(before) / idle.len() as u64;
    println!("idle connections: {} open, {:.1} KiB each", first.len() + idle.len(), each as f64 / 1024.0);
    assert!(each <= IDLE_BYTES_MAX, "{each} bytes for each idle connection");
    for mut stream in idle.into_iter().step_by(1000) {
        assert_eq!(exchange(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200, "it was no longer there");
    }
}

/// An app that does not read stops the client, and nothing gathers in between.
#[test]
fn an_upload_is_passed_on_and_not_gathered() {
    let length = size(64 * MIB, 2048 * MIB);
    let app = App::start();
    let guard = Guard::in_front_of(&app);
    let mut stream = TcpStream::connect(guard.address).unwrap();
    exchange(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let before = guard.resident();
    let mut upload = client::Upload::begin(stream, length);
    let stuck_at = upload.push_until_stuck();
    assert!(stuck_at < length, "all of the body went somewhere although the app read none of it");
    let waiting = guard.resident();
    app.go_on();
    let answer = upload.finish();
    assert_eq!((answer.status, answer.text()), (200, format!("{length} as sent").as_str()));
    report("upload", length, stuck_at, [before, waiting, guard.most_resident()]);
}

/// A client that does not read stops the app, and nothing gathers in between.
#[test]
fn a_download_is_passed_on_and_not_gathered() {
    let length = size(64 * MIB, 2048 * MIB);
    let app = App::start();
    let guard = Guard::in_front_of(&app);
    let mut stream = TcpStream::connect(guard.address).unwrap();
    exchange(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let before = guard.resident();
    client::send(&mut stream, &format!("GET /download/{length} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let stuck_at = app.wait_until_stuck();
    assert!(stuck_at < length, "all of the body went somewhere although the client read none of it");
    let waiting = guard.resident();
    assert_eq!(client::read_pattern(&mut stream), length);
    report("download", length, stuck_at, [before, waiting, guard.most_resident()]);
}

#[track_caller]
fn report(what: &str, length: u64, stuck_at: u64, [before, waiting, most]: [u64; 3]) {
    let grown = most.saturating_sub(before);
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    println!(
        "{what} of {} MiB: stopped after {:.1} MiB while nobody read; memory {:.1} MiB before, {:.1} MiB then, \
         {:.1} MiB at most",
        length / MIB,
        mib(stuck_at),
        mib(before),
        mib(waiting),
        mib(most),
    );
    assert!(grown <= BODY_BYTES_MAX, "memory grew by {grown} bytes for one body");
}

/// Cookies that were never issued, from addresses and browsers never seen before.
#[test]
fn strangers_with_random_cookies_leave_nothing_behind() {
    const THREADS: u64 = 4;
    let requests = size(200_000, 10_000_000);
    let app = App::start();
    let guard = Guard::in_front_of(&app);
    let visit = |share: u64, seed: u64| {
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let address = guard.address;
                scope.spawn(move || Visitor::connect(address, Lottery::new(seed + thread)).visit(share / THREADS));
            }
        });
    };
    // Tables of fixed size fill up first.
    visit(requests / 4, 1);
    let before = guard.resident();
    visit(requests - requests / 4, 1000);
    let grown = guard.resident().saturating_sub(before);
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    println!(
        "{requests} requests with random cookies: {:.1} MiB after a quarter, {:.1} MiB more after all",
        mib(before),
        mib(grown),
    );
    assert!(grown <= STRANGERS_BYTES_MAX, "memory grew by {grown} bytes");
    let mut stream = TcpStream::connect(guard.address).unwrap();
    client::send(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(read_answer(&mut stream).status, 200, "the guard no longer serves");
}
