//! What events cost: leaving one, writing it in each format, the journal with its chain and a disk that is waited for, checking a
//! million of them, and leaving events while sinks over the network work, fail or are not there.
//!
//!     cargo bench --bench events [-- 1000000]
//!
//! The journal is written in the folder for temporary files: `TMPDIR` names another disk.
#![cfg(test)] // clippy then knows that this is no part of the program
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::alloc::System;
use std::hint::black_box;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use portcullis::clock::{Clock, SystemClock, Timestamp};
use portcullis::delivery::{BATCH_DEFAULT, Delivery, Setup, Sink as Remote, TIMEOUT_DEFAULT, Target};
use portcullis::entropy::OsEntropy;
use portcullis::event::encode::{Colour, Encoder, FACILITY_DEFAULT, Format, Message};
use portcullis::event::journal::{self, Journal, Verifier};
use portcullis::event::queue::{EventQueue, EventSender, Flushed, RepeatSettings, Settings, Writer};
use portcullis::event::sink::{Filter, Sink};
use portcullis::event::{ClientView, Record, Scene, SessionHash, kinds};
use portcullis::secret::KeyId;
use portcullis::session::id::Ref;
use portcullis::verdict::{Action, Reason, Text};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);
const PATIENCE: Duration = Duration::from_secs(60);
const PLACES: usize = 1 << 15;
/// Events of a batch that is timed.
const BATCH: usize = 1000;
const BATCHES: usize = 300;

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let events: usize = asked.unwrap_or(1_000_000);
    println!("| an event, ns | best of {BATCHES} batches, median |\n|---|---|");
    formats();
    leaving();
    allocations();
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

fn formats() {
    let verdict = Scene {
        action: Action::Quarantine,
        reasons: [Reason::new("network.asn", 10.0).changed("3320", "7922"), Reason::new("device.os", 60.0)]
            .into_iter()
            .collect(),
        risk: Some(70.0),
        ..scene()
    };
    let record = Record::new(NOW, verdict, kinds::SessionHijackSuspected {}.into());
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

/// A guard's events in a journal.
struct Kept {
    folder: tempfile::TempDir,
    events: EventSender,
    writer: Writer,
    durable: watch::Receiver<u64>,
    clock: Arc<dyn Clock>,
}

impl Kept {
    fn start(sync: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let settings = journal::Settings { path, bytes_max: 8 << 30, age_max: None, sync, chain: true };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let journal = Journal::open(settings, Encoder::default(), clock.clone(), &OsEntropy).unwrap();
        let durable = journal.durable();
        let repeat = RepeatSettings { window: Duration::ZERO, ..RepeatSettings::default() };
        let settings = Settings { places: PLACES, repeat, ..Settings::default() };
        let (events, writer) = EventQueue::start(&settings, clock.clone(), vec![Box::new(journal)]).unwrap();
        Self { folder, events, writer, durable, clock }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("events.jsonl")
    }

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

    fn delivery(&self, address: &str) -> Delivery {
        let setup = Setup {
            journal: self.path(),
            durable: self.durable.clone(),
            events: self.events.clone(),
            clock: self.clock.clone(),
            entropy: Arc::new(OsEntropy),
        };
        let sink = Remote {
            name: "siem".to_owned(),
            target: Target::Syslog(address.parse().unwrap()),
            encoder: Encoder::new(Format::Syslog { facility: FACILITY_DEFAULT, message: Message::Json }),
            filter: Filter::default(),
            batch: BATCH_DEFAULT,
            timeout: TIMEOUT_DEFAULT,
        };
        Delivery::start(vec![sink], &setup).unwrap()
    }
}

fn leaving() {
    let scene = scene();
    let kept = Kept::start(Duration::from_secs(1));
    kept.leave(&scene, BATCH);
    kept.flush();
    row("left by a request, no sink over the network", kept.left());
    // A socket that is bound and not listened on refuses everybody.
    let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    dead.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = dead.local_addr().unwrap().as_socket().unwrap();
    let delivery = kept.delivery(&format!("tcp://{address}"));
    row("the same, with a sink whose receiver is dead", kept.left());
    drop(delivery);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        for mut stream in listener.incoming().map_while(Result::ok) {
            while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
        }
    });
    let alive = Kept::start(Duration::from_secs(1));
    let delivery = alive.delivery(&format!("tcp://{address}"));
    row("the same, with a sink that is alive", alive.left());
    drop(delivery);
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
