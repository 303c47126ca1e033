//! What `admit` and `settle` cost in process, over the store in memory; what a new connection costs, and what a session
//! costs in memory.
//!
//!     cargo bench --bench hot_path                      time per request, and bytes per session
//!     cargo bench --bench hot_path -- opening           time per new connection alone: its prints
//!     cargo bench --bench hot_path -- detection         what detection costs by itself for each request
//!     cargo bench --bench hot_path -- places            what it costs to know where a client is
//!     cargo bench --bench hot_path -- carried           what it costs that clients carry their sessions
//!     cargo bench --bench hot_path -- instructions      instructions per request, counted by valgrind: repeats exactly
//!     cargo bench --bench hot_path -- loop known 10     one kind for so many seconds: for a profiler
#![expect(clippy::disallowed_methods, reason = "a bench measures the machine's time")]
#![cfg(test)] // clippy then knows that this is no part of the program

mod detection;
mod opening;
mod places;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mimalloc::MiMalloc;
use portcullis::clock::ManualClock;
use portcullis::entropy::OsEntropy;
use portcullis::secret::Keyring;
use portcullis::store::Store;
use portcullis::store::memory::MemoryStore;
use portcullis::store::sealed::SealedStore;
use stage::{Op, Stage};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Requests that lie ready at once: few enough to lie in the processor's cache, as a request that was just read does.
const BATCH: usize = 64;

/// Batches of each kind. The machine is shared: the best of many is what the code costs, the median what it cost here.
const BATCHES: usize = 1000;

/// How many sessions there are.
const SIZES: [usize; 3] = [1, 1000, 100_000];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => {
            times();
            opening::times(BATCHES);
            detection::times(BATCHES);
            carried();
            memory_of_a_session();
            places::places();
        }
        ["opening"] => opening::times(BATCHES),
        ["detection"] => detection::times(BATCHES),
        ["places"] => places::places(),
        ["carried"] => carried(),
        ["instructions"] => instructions(),
        ["loop", op, seconds] => repeat(parse(op), Duration::from_secs(seconds.parse().unwrap())),
        ["count", op, number] => count(parse(op), number.parse().unwrap()),
        ["memory", sessions] => memory(sessions.parse().unwrap()),
        _ => panic!("unknown arguments {arguments:?}"),
    }
}

fn parse(word: &str) -> Op {
    Op::ALL.into_iter().find(|op| op.word() == word).unwrap_or_else(|| panic!("no kind is called {word}"))
}

fn times() {
    println!("| admit + settle, ns (best of {BATCHES} batches, median) | 1 session | 1k sessions | 100k sessions |");
    println!("|---|---|---|---|");
    let mut cells = [const { Vec::new() }; Op::ALL.len()];
    for sessions in SIZES {
        let mut stage = Stage::new(sessions, Duration::from_millis(1));
        for (op, row) in Op::ALL.into_iter().zip(&mut cells) {
            if op == Op::Offered {
                stage.grow_old();
            }
            row.push(time(&mut stage, op, sessions));
        }
    }
    for (op, row) in Op::ALL.into_iter().zip(cells) {
        println!("| {} ({}) | {} |", op.word(), op.meaning(), row.join(" | "));
    }
    println!();
}

fn time<S: Store>(stage: &mut Stage<S>, op: Op, sessions: usize) -> String {
    // Every session can adopt once in a batch: with a single one there is nothing to measure but the clock.
    let batch = if op == Op::Adopted { BATCH.min(sessions) } else { BATCH };
    if batch < BATCH {
        return "-".to_owned();
    }
    stage.check(op);
    stage.rest();
    let mut nanos: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let mut exchanges = stage.prepare(op, batch);
            let begin = Instant::now();
            for exchange in &mut exchanges {
                stage.run(exchange);
            }
            begin.elapsed().as_nanos() as f64 / batch as f64
        })
        .collect();
    nanos.sort_by(f64::total_cmp);
    format!("{:.0}, {:.0}", nanos[0], nanos[BATCHES / 2])
}

/// Sessions that are kept, beside sessions that their clients carry; what has ended is remembered in memory.
fn carried() {
    println!("| admit + settle, ns (best of {BATCHES} batches, median) | kept | carried |");
    println!("|---|---|---|");
    for sessions in SIZES {
        let pause = Duration::from_millis(1);
        let store = || MemoryStore::new(NonZeroUsize::new(sessions * 2 + 1000).unwrap());
        let keys = Keyring::generate(&OsEntropy).unwrap();
        let clock = Arc::new(ManualClock::new(stage::START));
        let sealed = SealedStore::new(store(), NonZeroUsize::new(sessions * 2 + 1000).unwrap(), keys, clock);
        let kept = time(&mut Stage::new(sessions, pause), Op::Known, sessions);
        let carried = time(&mut Stage::over(sealed, sessions, pause), Op::Known, sessions);
        println!("| known, {sessions} sessions | {kept} | {carried} |");
    }
    println!();
}

fn memory_of_a_session() {
    let output = Command::new(std::env::current_exe().unwrap()).args(["memory", "100000"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

/// In a process of its own, so that nothing else has used the memory before.
fn memory(sessions: usize) {
    let before = resident_bytes();
    let stage = Stage::new(sessions, Duration::from_millis(10));
    let after = resident_bytes();
    let each = (after - before) / sessions;
    println!(
        "{sessions} sessions with a jar of 200 bytes: {} MB resident in all, {each} bytes more for each session \
         (its cookie, kept by this program to present it, is {} of them)",
        after / 1_000_000,
        stage.kept_bytes(),
    );
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn repeat(op: Op, length: Duration) {
    let mut stage = Stage::new(1000, Duration::from_millis(1));
    if matches!(op, Op::Offered | Op::Adopted) {
        stage.grow_old();
    }
    let begin = Instant::now();
    while begin.elapsed() < length {
        for exchange in &mut stage.prepare(op, BATCH) {
            stage.run(exchange);
        }
    }
}

/// Prepares always the same number of requests and does some of them: what two such runs differ by is the requests.
fn count(op: Op, count: usize) {
    let mut stage = Stage::new(COUNTED, Duration::from_millis(1));
    if matches!(op, Op::Offered | Op::Adopted) {
        stage.grow_old();
    }
    // As in the course of a page: what the first requests of a session bring into being is there.
    for _ in 0..2 {
        for exchange in &mut stage.prepare(op, COUNTED) {
            stage.run(exchange);
        }
    }
    let mut exchanges = stage.prepare(op, COUNTED);
    for exchange in exchanges.iter_mut().take(count) {
        stage.run(exchange);
    }
}

/// Requests of the longer of the two runs.
const COUNTED: usize = 1000;

fn instructions() {
    println!("| admit + settle | instructions |");
    println!("|---|---|");
    for op in Op::ALL {
        let more = COUNTED / 2;
        let counted = collected(op, COUNTED) - collected(op, COUNTED - more);
        println!("| {} ({}) | {} |", op.word(), op.meaning(), counted / more);
    }
}

/// Instructions of a whole run. Valgrind has no SHA instructions, so hashing counts for more than it costs.
fn collected(op: Op, count: usize) -> usize {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["count", op.word(), &count.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find_map(|line| line.split_once("Collected : ")).unwrap_or_else(|| panic!("{text}"));
    line.1.trim().parse().unwrap()
}
