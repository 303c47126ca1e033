//! A known session, with the stores in memory.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use portcullis::store::memory::MemoryStore;
use tower_service::Service;

use crate::contender::{self, Contender, Kind};
use crate::pace::{Pace, running};
use crate::visit;

/// Requests that lie ready at once: few enough to lie in the processor's cache, as a request that was just read does.
pub const BATCH: usize = 64;

/// Contenders take turns: so many rounds of so many batches each.
const ROUNDS: usize = 10;
const BATCHES: usize = 100;

pub fn tables(sizes: &[usize]) {
    let mut cells: Vec<(Kind, &'static str, Vec<String>)> = Vec::new();
    for &sessions in sizes {
        let pace = Pace::new();
        let mut contenders = contenders(sessions, &pace);
        for kind in [Kind::Read, Kind::Write] {
            for (name, cell) in turns(&mut contenders, kind, sessions, &pace) {
                match cells.iter_mut().find(|row| (row.0, row.1) == (kind, name)) {
                    Some(row) => row.2.push(cell),
                    None => cells.push((kind, name, vec![cell])),
                }
            }
        }
    }
    for kind in [Kind::Read, Kind::Write] {
        let heads: Vec<String> = sizes.iter().map(|size| format!("{size} sessions")).collect();
        println!(
            "| {}: ns of a request, best and median of {} batches (median less bare axum) | {} |",
            kind.meaning(),
            ROUNDS * BATCHES,
            heads.join(" | ")
        );
        println!("|---|{}", "---|".repeat(sizes.len()));
        for (_, name, row) in cells.iter().filter(|row| row.0 == kind) {
            println!("| {name} | {} |", row.join(" | "));
        }
        println!();
    }
}

/// All of them, with so many sessions each.
fn contenders(sessions: usize, pace: &Arc<Pace>) -> Vec<Contender> {
    let mut contenders = vec![
        contender::bare(),
        contender::tower(),
        contender::ours(contender::OURS, store(sessions), pace),
        contender::session_guard(session_guard::MemoryStore::new(), pace),
    ];
    for contender in &mut contenders {
        runtime().block_on(contender.enrol(pace, sessions));
    }
    contenders
}

/// A store with room for so many sessions, and those that came before a login.
pub fn store(sessions: usize) -> MemoryStore {
    MemoryStore::new(NonZeroUsize::new(sessions * 2 + 1000).unwrap())
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn turns(contenders: &mut [Contender], kind: Kind, sessions: usize, pace: &Pace) -> Vec<(&'static str, String)> {
    let order = visit::shuffled(sessions);
    let mut at = vec![0; contenders.len()];
    let mut nanos = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for ((contender, at), nanos) in contenders.iter_mut().zip(&mut at).zip(&mut nanos) {
            if kind == Kind::Write && !contender.writes {
                continue;
            }
            for _ in 0..BATCHES {
                let batch = batch(contender, kind, &order, at);
                nanos.push(time(&mut contender.app, batch).as_nanos() as f64 / BATCH as f64);
                pace.passed(BATCH);
            }
            contender.tend();
        }
    }
    let told: Vec<(f64, f64)> = nanos.into_iter().map(best_and_median).collect();
    let bare = told[0].1;
    let cell = |best: f64, median: f64| format!("{best:.0}, {median:.0} ({:.0})", median - bare);
    let cells = contenders.iter().zip(told);
    cells
        .map(|(contender, (best, median))| {
            let is_there = kind == Kind::Read || contender.writes;
            (contender.name, if is_there { cell(best, median) } else { "keeps no values".to_owned() })
        })
        .collect()
}

pub fn best_and_median(mut nanos: Vec<f64>) -> (f64, f64) {
    nanos.sort_by(f64::total_cmp);
    if nanos.is_empty() { (0.0, 0.0) } else { (nanos[0], nanos[nanos.len() / 2]) }
}

/// The next requests, each of another session as long as there are some.
fn batch(contender: &Contender, kind: Kind, order: &[u32], at: &mut usize) -> Vec<Request<Body>> {
    let mut next = || {
        *at = (*at + 1) % order.len();
        contender.request(kind, order[*at] as usize)
    };
    (0..BATCH).map(|_| next()).collect()
}

/// What a batch takes, with its answers read to the end. They are thrown away afterwards.
pub fn time(app: &mut Router, batch: Vec<Request<Body>>) -> Duration {
    let mut answers = Vec::with_capacity(batch.len());
    let begin = running();
    for request in batch {
        let mut answer = answer(app, request);
        visit::text(&mut answer);
        answers.push(answer);
    }
    let took = running().saturating_sub(begin);
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK), "{:?}", answers[0]);
    took
}

/// No store in memory makes anybody wait.
fn answer(app: &mut Router, request: Request<Body>) -> axum::response::Response {
    match pin!(app.call(request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer.unwrap(),
        Poll::Pending => panic!("the app waits for something"),
    }
}

/// Reads over and over again.
pub fn repeat(name: &str, sessions: usize, seconds: u64) {
    let pace = Pace::new();
    let mut contender = match name {
        "bare" => contender::bare(),
        "tower" => contender::tower(),
        "ours" => contender::ours(contender::OURS, store(sessions), &pace),
        "session-guard" => contender::session_guard(session_guard::MemoryStore::new(), &pace),
        _ => panic!("nobody is called {name}"),
    };
    runtime().block_on(contender.enrol(&pace, sessions));
    let order = visit::shuffled(sessions);
    let (mut at, begin) = (0, running());
    let mut batches: usize = 0;
    while running().saturating_sub(begin) < Duration::from_secs(seconds) {
        let batch = batch(&contender, Kind::Read, &order, &mut at);
        time(&mut contender.app, batch);
        pace.passed(BATCH);
        batches += 1;
        if batches.is_multiple_of(BATCHES) {
            contender.tend();
        }
    }
}
