//! What a session of ours takes in memory, and whether it is found as quickly among many.

use std::fs::read_to_string;
use std::hint::black_box;
use std::ops::Range;
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::{get, post};
use portcullis::engine::Guard;
use portcullis::layer::Session;
use portcullis::session::id::{Presented, SessionDigest};
use portcullis::store::Store;
use tower_service::Service;

use crate::contender::{self, TEND_EVERY};
use crate::in_process::{BATCH, best_and_median, runtime, store, time};
use crate::pace::{Pace, running};
use crate::visit;

const SIZES: [usize; 4] = [1000, 100_000, 1_000_000, 10_000_000];

/// Bytes of the value that an app keeps.
const VALUE_BYTES: usize = 200;

/// Sessions whose cookies are kept to present them. They lie as far apart as all the others.
const SAMPLE: usize = 100_000;

const BATCHES: usize = 1000;

/// What must be free for the largest size.
const FREE_KIB: usize = 14 << 20;

pub fn table() {
    println!(
        "| Portcullis, sessions of a subject with {VALUE_BYTES} bytes | resident in all | bytes of a session | ns of a \
         known request: best, median | ns of `load` alone: best, median |"
    );
    println!("|---|---|---|---|---|");
    for sessions in SIZES {
        let free = kib("/proc/meminfo", "MemAvailable:");
        if sessions > 1_000_000 && free < FREE_KIB {
            println!("| {sessions} | not tried: {} GB are free | | | |", free >> 20);
            continue;
        }
        // In a process of its own, so that nothing else has used the memory before.
        let output = Command::new(std::env::current_exe().unwrap()).args(["memory", &sessions.to_string()]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        print!("{}", String::from_utf8_lossy(&output.stdout));
    }
    println!();
}

pub fn row(sessions: usize) {
    let pace = Pace::new();
    let guard = contender::guard(store(sessions), &pace);
    let mut app = contender::guarded(guard.clone(), app());
    // What there is with a single session is there for all.
    runtime().block_on(enrol(&mut app, &guard, &pace, 0..1));
    let before = resident();
    let sample = runtime().block_on(enrol(&mut app, &guard, &pace, 1..sessions + 1));
    let after = resident();
    let kept = sample.iter().map(|(_, cookie)| cookie.len()).sum::<usize>() + size_of_val(sample.as_slice());
    let each = (after - before).saturating_sub(kept) / sessions;
    contender::tend(&guard);
    let order = visit::shuffled(sample.len());
    let of = |at: usize| &sample[order[at % order.len()] as usize];
    let request = |(number, cookie): &(usize, Box<str>)| visit::request(Method::GET, "/", *number, Some(cookie));
    // What the first requests of a session bring into being is there.
    for at in 0..sample.len() * 2 / BATCH {
        time(&mut app, (0..BATCH).map(|more| request(of(at * BATCH + more))).collect());
        pace.passed(BATCH);
    }
    let nanos = (0..BATCHES).map(|batch| {
        let requests: Vec<Request> = (0..BATCH).map(|more| request(of(batch * BATCH + more))).collect();
        pace.passed(BATCH);
        time(&mut app, requests).as_nanos() as f64 / BATCH as f64
    });
    let (known_best, known) = best_and_median(nanos.collect());
    let store = guard.store();
    let nanos = (0..BATCHES).map(|batch| {
        let digests: Vec<_> = (0..BATCH).map(|more| digest(&of(batch * BATCH + more).1)).collect();
        let begin = running();
        for digest in &digests {
            look_up(store, digest);
        }
        running().saturating_sub(begin).as_nanos() as f64 / BATCH as f64
    });
    let (load_best, load) = best_and_median(nanos.collect());
    let all = after / 1_000_000;
    println!("| {sessions} | {all} MB | {each} | {known_best:.0}, {known:.0} | {load_best:.0}, {load:.0} |");
}

fn app() -> Router {
    const KEY: &str = "cart";
    async fn login(session: Session, headers: HeaderMap) -> StatusCode {
        let number = headers[visit::NUMBER].to_str().unwrap();
        session.insert(KEY, &"v".repeat(VALUE_BYTES)).unwrap();
        session.log_in(&format!("user{number}")).unwrap();
        StatusCode::OK
    }
    async fn read(session: Session) -> String {
        session.get(KEY).unwrap().unwrap_or_default()
    }
    Router::new().route("/login", post(login)).route("/", get(read))
}

/// The numbers and cookies of some.
async fn enrol<S: Store>(
    app: &mut Router,
    guard: &Guard<S>,
    pace: &Pace,
    numbers: Range<usize>,
) -> Vec<(usize, Box<str>)> {
    let step = numbers.len().div_ceil(SAMPLE);
    let mut sample = Vec::with_capacity(numbers.len().div_ceil(step));
    for number in numbers {
        let response = app.call(visit::login(number)).await.unwrap();
        pace.passed(1);
        let cookie = visit::cookie(&response);
        drop(response);
        if number.is_multiple_of(TEND_EVERY) {
            contender::tend(guard);
        }
        if number % step == 0 {
            sample.push((number, cookie));
        }
    }
    sample
}

fn digest(cookie: &str) -> SessionDigest {
    let (_, value) = cookie.split_once('=').unwrap();
    Presented::parse(value.as_bytes()).unwrap().id.digest()
}

fn look_up(store: &impl Store, digest: &SessionDigest) {
    match pin!(store.load(digest)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => assert!(black_box(found).unwrap().is_some()),
        Poll::Pending => panic!("the store waits for something"),
    }
}

fn resident() -> usize {
    kib("/proc/self/status", "VmRSS:") * 1024
}

fn kib(file: &str, name: &str) -> usize {
    let text = read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
