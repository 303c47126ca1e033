//! What the stores cost: nanoseconds of each operation, memory of a session, durable creations, time of a restart.
//!
//! `cargo bench --bench stores -- 1000000` for a million sessions; 100,000 unless told otherwise. Sessions are picked at
//! random, so that a record is as far from the processor as in a busy guard. Nanoseconds are those that the thread was
//! running, which repeats on a machine that others use too; what waits for the disk is told in time that passed.

use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::Timestamp;
use portcullis::entropy::{InsecureSeededEntropy, OsEntropy, random};
use portcullis::secret::{Keyring, sha256};
use portcullis::session::id::{Ref, SessionDigest};
use portcullis::session::record::{EndReason, Lasting, Record, State};
use portcullis::session::tag::{Dated, Tag, Tags};
use portcullis::store::embedded::{EmbeddedStore, Settings};
use portcullis::store::memory::MemoryStore;
use portcullis::store::row::Rows;
use portcullis::store::{Durability, Ending, OnLimit, Rotate, Store, SubjectLimit};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const LIMIT: Option<SubjectLimit> =
    Some(SubjectLimit { sessions: std::num::NonZeroU32::new(10).unwrap(), on_limit: OnLimit::EvictOldest });
const ENDING: Ending =
    Ending { why: EndReason::Logout, now: NOW, tombstone_until: Timestamp::from_secs(1_800_000_600) };

/// How long this thread has been running.
fn running() -> Duration {
    let nanos = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = nanos.as_deref().and_then(|line| line.split(' ').next()).and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// The answer, and how long the thread was running for it.
fn timed<R>(run: impl FnOnce() -> R) -> (R, Duration) {
    let start = running();
    let answer = run();
    (answer, running().saturating_sub(start))
}

/// The answer, and the time that passed.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn waited<R>(run: impl FnOnce() -> R) -> (R, Duration) {
    let start = std::time::Instant::now();
    let answer = run();
    (answer, start.elapsed())
}

fn digest(nth: u64) -> SessionDigest {
    SessionDigest(sha256(&nth.to_be_bytes()))
}

/// A session as a guard in use has it: a 200-byte jar, a subject, a few tags behind it, one context in its history.
fn session(nth: u64) -> Record {
    let tag = Dated { tag: Tag::from_bytes([1; 16]), at: NOW };
    Record {
        digest: digest(nth),
        reference: Ref(u128::from(nth).to_be_bytes()),
        version: 0,
        created_at: NOW,
        id_since: NOW.after(Duration::from_millis(nth / 20)),
        authenticated_at: Some(NOW),
        last_seen: NOW,
        ends_at: None,
        lasting: Lasting::Default,
        removable_at: NOW.after(Duration::from_secs(1800 + nth % 1800)),
        subject: Some(format!("user-{nth}").into()),
        tags: Tags::restore(Tag::from_bytes([2; 16]), NOW, &[tag; 3], &[]),
        forks: 0,
        state: State::Live,
        jar: Box::new([7; 200]),
        data: Box::default(),
        bound: Box::default(),
        history: Box::new([3; 64]),
    }
}

/// Numbers below `count`, at random.
fn picks(seed: u64, count: u64, how_many: usize) -> Vec<u64> {
    let entropy = InsecureSeededEntropy::new(seed);
    (0..how_many).map(|_| random(&entropy).map_or(0, u64::from_be_bytes) % count.max(1)).collect()
}

/// Memory of this process that is in use, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.as_deref().and_then(|line| line.split(' ').nth(1)).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_usize) * 4096
}

fn say(line: &str) -> Outcome {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

fn per_op(name: &str, operations: usize, took: Duration) -> Outcome {
    let nanos = took.as_nanos() / u128::try_from(operations.max(1))?;
    say(&format!("  {name:<44} {nanos:>9} ns"))
}

fn main() -> Outcome {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let sessions: u64 = asked.unwrap_or(100_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    memory(&runtime, 1000)?;
    memory(&runtime, sessions)?;
    embedded(&runtime, sessions)
}

fn memory(runtime: &tokio::runtime::Runtime, sessions: u64) -> Outcome {
    say(&format!("memory store, {sessions} sessions"))?;
    let before = resident();
    let store = MemoryStore::new(usize::try_from(sessions * 4)?.try_into()?);
    let count = usize::try_from(sessions)?;
    let (answer, took) = timed(|| {
        runtime.block_on(async {
            for nth in 0..sessions {
                store.create(session(nth), LIMIT, NOW).await?;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        })
    });
    answer?;
    per_op("create, making the record included", count, took)?;
    say(&format!("  {:<44} {:>9} bytes", "memory of a session", (resident().saturating_sub(before)) / count))?;
    measure(runtime, &store, sessions)?;
    let ((), took) =
        timed(|| runtime.block_on(async { while store.clear_expired(NOW, 1000).await.is_ok_and(|n| n == 1000) {} }));
    per_op("clear_expired with nothing to clear", 1, took)?;
    let later = NOW.after(Duration::from_secs(86400));
    let left = store.count();
    let ((), took) =
        timed(|| runtime.block_on(async { while store.clear_expired(later, 1000).await.is_ok_and(|n| n == 1000) {} }));
    per_op("clear_expired, each", left, took)
}

/// What both stores do alike: none of it waits for a disk.
fn measure(runtime: &tokio::runtime::Runtime, store: &impl Store, sessions: u64) -> Outcome {
    const ROUNDS: usize = 200_000;
    let known: Vec<_> = picks(1, sessions, ROUNDS).into_iter().map(digest).collect();
    let unknown: Vec<_> = (0..ROUNDS as u64).map(|nth| digest(u64::MAX - nth)).collect();
    for (name, digests) in [("load, known", &known), ("load, unknown", &unknown)] {
        let (answer, took) = timed(|| {
            runtime.block_on(async {
                for digest in digests {
                    black_box(store.load(digest).await?);
                }
                Ok::<_, Box<dyn std::error::Error>>(())
            })
        });
        answer?;
        per_op(name, ROUNDS, took)?;
    }
    let mut records = Vec::new();
    for digest in known.iter().take(ROUNDS / 4) {
        records.extend(runtime.block_on(store.load(digest))?.map(|record| (*record).clone()));
    }
    let rounds = records.len();
    let (answer, took) = timed(|| {
        runtime.block_on(async {
            for record in records {
                black_box(store.commit(record, Durability::Soon).await?);
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        })
    });
    answer?;
    per_op("commit that nobody waits for", rounds, took)
}

fn embedded(runtime: &tokio::runtime::Runtime, sessions: u64) -> Outcome {
    const CALLERS: u64 = 256;
    say(&format!("embedded store, {sessions} sessions"))?;
    let directory = tempfile::tempdir()?;
    let rows = Arc::new(Rows::new(Keyring::generate(&OsEntropy)?, Arc::new(OsEntropy)));
    let settings = Settings { sessions_max: usize::try_from(sessions * 4)?.try_into()?, ..Settings::default() };
    let store = Arc::new(EmbeddedStore::open(directory.path(), rows.clone(), settings)?.0);
    let (answer, took) = waited(|| {
        runtime.block_on(async {
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| {
                    let store = Arc::clone(&store);
                    tokio::spawn(async move {
                        for nth in (caller..sessions).step_by(256) {
                            store.create(session(nth), LIMIT, NOW).await?;
                        }
                        Ok::<_, portcullis::store::StoreError>(())
                    })
                })
                .collect();
            for caller in callers {
                caller.await??;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        })
    });
    answer?;
    let each_second = u128::from(sessions) * 1000 / took.as_millis().max(1);
    say(&format!("  {:<44} {each_second:>9} /s", "durable creations, 256 callers"))?;
    measure(runtime, &*store, sessions)?;
    alone(runtime, &store)?;
    // As a crash leaves it: a copy of the file while it is open.
    let crashed = tempfile::tempdir()?;
    std::fs::copy(store.path(), crashed.path().join("sessions.redb"))?;
    drop(store);
    for (name, path) in [("restart after a crash", crashed.path()), ("restart after closing", directory.path())] {
        let ((opened, ran), took) = waited(|| timed(|| EmbeddedStore::open(path, rows.clone(), settings)));
        let (store, loaded) = opened?;
        let (took, ran) = (took.as_millis(), ran.as_millis());
        say(&format!("  {name:<44} {took:>9} ms, {ran} of them running, {} sessions", loaded.sessions))?;
        drop(store);
    }
    Ok(())
}

/// One caller, who waits for every answer.
fn alone(runtime: &tokio::runtime::Runtime, store: &EmbeddedStore) -> Outcome {
    const ROUNDS: u64 = 200;
    let first = u64::MAX / 2;
    let (answer, took) = waited(|| {
        runtime.block_on(async {
            for nth in first..first + ROUNDS {
                let old = session(nth);
                store.create(old.clone(), LIMIT, NOW).await?;
                let rotate = Rotate {
                    old: &old.digest,
                    version: 0,
                    new: session(nth + ROUNDS),
                    also_end: None,
                    limit: LIMIT,
                    now: NOW,
                    tombstone_until: ENDING.tombstone_until,
                };
                store.rotate(rotate).await?;
                store.revoke(&digest(nth + ROUNDS), ENDING).await?;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        })
    });
    answer?;
    per_op("create, rotate or revoke, one caller", usize::try_from(ROUNDS * 3)?, took)
}
