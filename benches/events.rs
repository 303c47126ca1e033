//! What events cost: leaving one, writing it in each format, the journal with its chain and a disk that is waited for, checking a
//! million of them, and leaving events while sinks over the network work, fail or are not there.
//!
//!     cargo bench --bench events [-- 1000000]
//!
//! The journal is written in the folder for temporary files: `TMPDIR` names another disk.
#![cfg(test)] // clippy then knows that this is no part of the program
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

#[path = "support/kept.rs"]
mod kept;
#[path = "support/mod.rs"]
mod support;

use std::alloc::System;
use std::hint::black_box;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use portcullis::clock::{Clock, SystemClock, Timestamp};
use portcullis::connection::Scheme;
use portcullis::connection::print::Print;
use portcullis::engine::{AnsweredBy, Client, ClientStanding, Decision, Guard};
use portcullis::event::encode::{Colour, Encoder, FACILITY_DEFAULT, Format, Message};
use portcullis::event::journal::Verifier;
use portcullis::event::queue::{EventQueue, Flushed, Settings};
use portcullis::event::sink::Sink;
use portcullis::event::{ClientView, Record, Scene, SessionHash, kinds};
use portcullis::secret::KeyId;
use portcullis::session::id::Ref;
use portcullis::store::Store;
use portcullis::store::memory::MemoryStore;
use portcullis::verdict::{Action, Reason, Text};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use kept::{Kept, PLACES, nobody, somebody};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);
const PATIENCE: Duration = Duration::from_secs(60);
/// Events of a batch that is timed.
const BATCH: usize = 1000;
const BATCHES: usize = 300;
/// Requests of one measurement.
const REQUESTS: usize = 200_000;

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let events: usize = asked.unwrap_or(1_000_000);
    println!("| an event, ns | best of {BATCHES} batches, median |\n|---|---|");
    formats();
    // Before there are threads that make their own.
    allocations();
    leaving();
    println!(
        "\n| a request that tells an event, ns | median, 99 of 100; CPU of its thread, of all threads |\n|---|---|"
    );
    requests();
    println!("\n| journal of {events} events, with chain | |\n|---|---|");
    kept(events);
}

/// Who, where and what was decided, as in an ordinary event of a known session.
fn scene() -> Scene {
    Scene {
        session: Some(SessionHash { key: KeyId(2), hash: [0x5e; 16] }),
        reference: Some(Ref([0x0f; 16])),
        subject: Some("alice@example.com".into()),
        client: ClientView {
            ip: Some("203.0.113.9".parse().unwrap()),
            asn: Some(7922),
            country: Some(*b"US"),
            ua: Some(Text::of("Firefox")),
            os: Some(Text::of("Linux")),
            ..ClientView::default()
        },
        route: Some("/account/{id}".into()),
        method: Some("POST"),
        status: Some(302),
        policy: Some(12),
        ..Scene::default()
    }
}

fn row(what: &str, mut nanos: Vec<f64>) {
    nanos.sort_by(f64::total_cmp);
    println!("| {what} | {:.0}, {:.0} |", nanos[0], nanos[nanos.len() / 2]);
}

/// Nanoseconds of each event in a batch, batch by batch.
fn timed(mut batch: impl FnMut()) -> Vec<f64> {
    let round = |_| {
        let begin = Instant::now();
        batch();
        begin.elapsed().as_nanos() as f64 / BATCH as f64
    };
    (0..BATCHES).map(round).collect()
}

/// The same of a verdict with two reasons.
fn verdict() -> Scene {
    let reasons = [Reason::new("network.asn", 10.0).changed("3320", "7922"), Reason::new("device.os", 60.0)];
    Scene { action: Action::Quarantine, reasons: reasons.into(), risk: Some(70.0), ..scene() }
}

fn formats() {
    let record = Record::new(NOW, verdict(), kinds::SessionHijackSuspected {}.into());
    let syslog = Format::Syslog { facility: FACILITY_DEFAULT, message: Message::Json };
    let formats = [
        ("JSON", Format::Json),
        ("for people", Format::Human(Colour::Never)),
        ("ECS", Format::Ecs),
        ("OCSF", Format::Ocsf),
        ("CEF", Format::Cef),
        ("RFC 5424", syslog),
    ];
    for (name, format) in formats {
        let (encoder, mut line) = (Encoder::new(format), Vec::new());
        let nanos = timed(|| {
            for _ in 0..BATCH {
                line.clear();
                encoder.encode(black_box(&record), &mut line);
                black_box(&line);
            }
        });
        row(&format!("written as {name}, {} octets", line.len()), nanos);
    }
    let mut line = Vec::new();
    Encoder::default().encode(&record, &mut line);
    let nanos = timed(|| (0..BATCH).for_each(|_| drop(black_box(Record::read(black_box(&line)).unwrap()))));
    row("read back from JSON", nanos);
}

impl Kept {
    fn leave(&self, scene: &Scene, count: usize) {
        for _ in 0..count {
            self.events.emit(NOW, scene.clone(), kinds::SessionCreated {});
        }
    }

    fn flush(&self) {
        assert_eq!(self.events.flush(PATIENCE), Flushed::All);
    }

    /// What a request pays for an event while the writer rests: it is left in the queue.
    fn left(&self) -> Vec<f64> {
        let scene = scene();
        let round = |_| {
            self.flush();
            let begin = Instant::now();
            self.leave(&scene, BATCH);
            begin.elapsed().as_nanos() as f64 / BATCH as f64
        };
        (0..BATCHES).map(round).collect()
    }
}

fn leaving() {
    let scene = scene();
    let kept = Kept::start(Duration::from_secs(1));
    kept.leave(&scene, BATCH);
    kept.flush();
    row("left by a request, no sink over the network", kept.left());
    let (_dead, address) = nobody();
    let delivery = kept.delivery(&address);
    row("the same, with a sink whose receiver is dead", kept.left());
    drop(delivery);
    let alive = Kept::start(Duration::from_secs(1));
    let delivery = alive.delivery(&somebody());
    row("the same, with a sink that is alive", alive.left());
    drop(delivery);
}

/// Requests with ids that were never issued, over the whole of the guard.
fn requests() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = || MemoryStore::new(NonZeroUsize::new(1000).unwrap());
    let (guard, writer) = support::guard(&clock, store());
    tells("events are written to nowhere", &guard);
    drop((guard, writer));
    let (_dead, dead) = nobody();
    for (what, address) in [
        ("a journal, no sink over the network", None),
        ("a sink whose receiver is dead", Some(dead)),
        ("a sink that is alive", Some(somebody())),
    ] {
        let kept = Kept::start(Duration::from_secs(1));
        let delivery = address.map(|address| kept.delivery(&address));
        tells(what, &support::guard_that_tells(&kept.clock, store(), kept.events.clone()));
        drop(delivery);
    }
}

fn tells<S: Store>(what: &str, guard: &Guard<S>) {
    let ip = std::net::Ipv4Addr::new(203, 0, 113, 9).into();
    let (standing, print) = (ClientStanding::Own, Print::default());
    let client = Client { ip, scheme: Scheme::Http, standing, print, order: None, connection: None, located: None };
    let (mut nanos, mut cpu) = (Vec::with_capacity(REQUESTS), 0);
    let of_all = process_nanos();
    for number in 0..REQUESTS {
        let cookie = format!("portcullis={number:A>42}A.{:A>22}", "");
        let request =
            http::Request::builder().uri("/orders/17").header("host", "shop.example").header("cookie", cookie);
        let (mut request, ()) = request.body(()).unwrap().into_parts();
        let (mut answer, ()) = http::Response::new(()).into_parts();
        // The queue is not what is measured.
        while guard.events().depth() > PLACES / 2 {
            std::thread::yield_now();
        }
        let (begin, before) = (Instant::now(), thread_nanos());
        let Decision::Forward(admission) = ready(guard.admit(client, &mut request, None)) else { panic!("refused") };
        black_box(ready(guard.settle(admission, AnsweredBy::App, &mut answer)));
        nanos.push(begin.elapsed().as_nanos());
        cpu += thread_nanos() - before;
    }
    // The writer and the sinks work for it too.
    assert_eq!(guard.events().flush(PATIENCE), Flushed::All);
    let of_all = process_nanos() - of_all;
    nanos.sort_unstable();
    let count = guard.events().count(portcullis::event::Kind::SessionUnknownId);
    assert_eq!((count.emitted, count.dropped), (REQUESTS as u64, 0));
    let (median, late) = (nanos[REQUESTS / 2], nanos[REQUESTS / 100 * 99]);
    println!("| {what} | {median}, {late}; {}, {} |", cpu / REQUESTS as u64, of_all / REQUESTS as u64);
}

/// The output of a future that never waits: the store in memory makes nobody wait.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the guard waits for something"),
    }
}

/// How long this thread has run.
fn thread_nanos() -> u64 {
    nanos_of(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// How long all threads have run together.
fn process_nanos() -> u64 {
    nanos_of(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn nanos_of(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).unwrap();
    u64::try_from(time.tv_sec() * 1_000_000_000 + time.tv_nsec()).unwrap()
}

/// Holds up the writer at its first event, until the other end is gone.
struct Stuck(mpsc::Receiver<()>, mpsc::Sender<()>);

impl Sink for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }

    fn take(&mut self, _: &Record) -> io::Result<()> {
        self.1.send(()).map_err(io::Error::other)?;
        // The end of the other side is what it waits for.
        if self.0.recv().is_ok() { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Allocations of those who leave events: the writer, which makes its own, is held up meanwhile.
fn allocations() {
    let scene = scene();
    let ((open, gate), (entered, is_in)) = (mpsc::channel(), mpsc::channel());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let settings = Settings { places: PLACES, ..Settings::default() };
    let (events, writer) = EventQueue::start(&settings, clock, vec![Box::new(Stuck(gate, entered))]).unwrap();
    events.emit(NOW, scene.clone(), kinds::SessionCreated {});
    is_in.recv().unwrap();
    let region = Region::new(ALLOCATOR);
    for _ in 0..BATCH {
        events.emit(NOW, scene.clone(), kinds::SessionCreated {});
    }
    println!("| allocations of {BATCH} events that are left | {} |", region.change().allocations);
    // Reasons are on the heap, so that an event without any is small.
    let verdicts: Vec<_> = (0..BATCH).map(|_| verdict()).collect();
    let region = Region::new(ALLOCATOR);
    for verdict in verdicts {
        events.emit(NOW, verdict, kinds::SessionHijackSuspected {});
    }
    println!("| the same of a verdict, once its reasons are there | {} |", region.change().allocations);
    drop((open, writer));
}

fn kept(events: usize) {
    let kept = Kept::start(Duration::ZERO);
    let scene = scene();
    let begin = Instant::now();
    for left in 0..events {
        // A queue that is full drops: wait for the writer as no request would.
        while left % 256 == 0 && kept.events.depth() > PLACES / 2 {
            std::thread::yield_now();
        }
        kept.events.emit(NOW, scene.clone(), kinds::SessionCreated {});
    }
    kept.flush();
    let took = begin.elapsed();
    let count = kept.events.count(portcullis::event::Kind::SessionCreated);
    assert_eq!((count.dropped, count.folded), (0, 0));
    println!("| kept each second, every batch on disk before the next | {:.0} |", events as f64 / took.as_secs_f64());
    let path = kept.path();
    drop(kept.writer);
    println!("| octets of an event in it | {} |", bytes_of(path.parent().unwrap()) / events as u64);
    let begin = Instant::now();
    let report = Verifier::new(&path).run().unwrap();
    println!("| checked, seconds | {:.2} |", begin.elapsed().as_secs_f64());
    assert!(report.findings.is_empty(), "{report:?}");
}

fn bytes_of(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}
