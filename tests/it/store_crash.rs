//! The stores on disk survive `kill -9` at any moment: what was acknowledged is there, what ended stays ended.
//!
//! The test runs itself as a child that changes sessions as fast as it can and prints a line for each change that was
//! acknowledged. After some number of lines the child is killed, the store is opened here, and compared with the lines.
//! Then the next child goes on with the same files. `PORTCULLIS_SOAK=1` does it many times more.

use std::collections::HashMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::Timestamp;
use portcullis::entropy::{InsecureSeededEntropy, random};
use portcullis::secret::sha256;
use portcullis::session::id::{Ref, SessionDigest};
use portcullis::session::record::{EndReason, Lasting, Record, State};
use portcullis::session::tag::{Tag, Tags};
use portcullis::store::embedded::{EmbeddedStore, Settings};
use portcullis::store::{Commit, Durability, Ending, Filter, PAGE_MAX, Rotate, Store};
use tempfile::TempDir;

use crate::support::stored::rows;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const DIRECTORY: &str = "PORTCULLIS_CRASH_DIRECTORY";
const ROUND: &str = "PORTCULLIS_CRASH_ROUND";
const TASKS: u64 = 16;

/// What must be true of a session because somebody was told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It is there, with this version or a later one.
    Version(u64),
    Ended,
    /// It was removed.
    Gone,
}

/// A store that is killed.
trait Killed: Store + Sized {
    /// The test of this name runs the child.
    const CHILD: &str;

    fn open(directory: &Path) -> Self;
}

impl Killed for EmbeddedStore {
    const CHILD: &str = "store_crash::the_child_that_is_killed";

    fn open(directory: &Path) -> Self {
        let (store, loaded) = Self::open(directory, Arc::new(rows(&[1])), Settings::default()).unwrap();
        assert_eq!(loaded.damaged, 0);
        store
    }
}

#[cfg(feature = "file")]
impl Killed for portcullis::store::file::FileStore {
    const CHILD: &str = "store_crash::the_child_with_files_that_is_killed";

    fn open(directory: &Path) -> Self {
        let settings = portcullis::store::file::Settings::default();
        let (store, loaded) = Self::open(directory, Arc::new(rows(&[1])), settings).unwrap();
        assert_eq!(loaded.damaged, 0);
        store
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    survives::<EmbeddedStore>(800);
}

#[cfg(feature = "file")]
#[test]
fn what_files_acknowledged_survives_kill_9() {
    survives::<portcullis::store::file::FileStore>(300);
}

fn survives<S: Killed>(lines_max: u64) {
    let (rounds, lines_max) = if env::var_os("PORTCULLIS_SOAK").is_some() { (100, 5000) } else { (6, lines_max) };
    let directory = TempDir::new().unwrap();
    let dice = InsecureSeededEntropy::new(9);
    let mut told = HashMap::new();
    for round in 0..rounds {
        let lines = 1 + roll(&dice, lines_max);
        run_and_kill::<S>(directory.path(), round, lines, &mut told);
        compare::<S>(directory.path(), &told);
    }
    assert!(told.values().any(|told| *told == Told::Gone), "the children were too short-lived to tell anything");
}

fn roll(dice: &InsecureSeededEntropy, sides: u64) -> u64 {
    u64::from_be_bytes(random(dice).unwrap()) % sides
}

/// Runs a child until it has printed so many lines, kills it, and notes all that it printed.
fn run_and_kill<S: Killed>(directory: &Path, round: u64, lines: u64, told: &mut HashMap<u64, Told>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", S::CHILD, "--nocapture"])
        .env(DIRECTORY, directory)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut seen) = (String::new(), 0);
    while output.read_line(&mut line).unwrap() > 0 {
        // The last line may be cut: then nobody was told.
        if let Some(change) = line.strip_prefix("told ").filter(|change| change.ends_with('\n')) {
            note(change, told);
            seen += 1;
            if seen == lines {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(seen >= lines, "the child ended by itself after {seen} lines");
}

fn note(change: &str, told: &mut HashMap<u64, Told>) {
    let words: Vec<&str> = change.split_whitespace().collect();
    let number = |at: usize| words[at].parse().unwrap();
    match words[0] {
        "version" => told.insert(number(1), Told::Version(number(2))),
        "ended" => told.insert(number(1), Told::Ended),
        "gone" => told.insert(number(1), Told::Gone),
        word => panic!("the child does not say {word}"),
    };
}

fn compare<S: Killed>(directory: &Path, told: &HashMap<u64, Told>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
        let store = <S as Killed>::open(directory);
        for (nth, told) in told {
            let record = store.load(&digest(*nth)).await.unwrap();
            match (told, &record) {
                (Told::Gone, None) => {}
                (Told::Ended, Some(record)) if record.is_ended() => {}
                // A later change may have been on its way.
                (Told::Version(version), Some(record)) if record.version >= *version => {}
                _ => panic!("session {nth} must be {told:?}: {record:?}"),
            }
        }
        // A rotation is there wholly or not at all, told or not.
        let (mut after, mut replaced, mut successors) = (None, Vec::new(), Vec::new());
        loop {
            let page = store.list(&Filter { with_ended: true, ..Filter::default() }, after, PAGE_MAX).await.unwrap();
            for record in page.records {
                if matches!(record.state, State::Ended { why: EndReason::Replaced, .. }) {
                    replaced.push(record.digest);
                }
                // The number of the session that it came from is in its reference.
                let from = u64::from_be_bytes(*record.reference.0.last_chunk().unwrap());
                if from != 0 {
                    successors.push(digest(from));
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        replaced.sort_unstable();
        successors.sort_unstable();
        assert_eq!(replaced, successors);
    });
}

fn digest(nth: u64) -> SessionDigest {
    SessionDigest(sha256(&nth.to_be_bytes()))
}

/// The nth session, come from another or (0) from nothing.
fn session(nth: u64, from: u64) -> Record {
    let mut reference = [0; 16];
    reference[..8].copy_from_slice(&nth.to_be_bytes());
    reference[8..].copy_from_slice(&from.to_be_bytes());
    Record {
        digest: digest(nth),
        reference: Ref(reference),
        version: 0,
        created_at: NOW,
        id_since: NOW.after(Duration::from_millis(nth / 3)),
        authenticated_at: Some(NOW),
        last_seen: NOW,
        ends_at: None,
        lasting: Lasting::Default,
        removable_at: NOW.after(Duration::from_secs(3600)),
        subject: Some(format!("subject {}", nth % 7).into()),
        tags: Tags::new(Tag::from_bytes([0; 16]), NOW),
        forks: 0,
        state: State::Live,
        jar: Box::new([7; 200]),
        data: Box::default(),
        bound: Box::default(),
        history: Box::default(),
    }
}

#[test]
fn the_child_that_is_killed() {
    be_killed::<EmbeddedStore>();
}

#[cfg(feature = "file")]
#[test]
fn the_child_with_files_that_is_killed() {
    be_killed::<portcullis::store::file::FileStore>();
}

fn be_killed<S: Killed>() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let round: u64 = env::var(ROUND).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(<S as Killed>::open(Path::new(&directory)));
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let first = (round * TASKS + task) * 1_000_000 + 1;
                tokio::spawn(change_for_ever(Arc::clone(&store), first))
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

fn tell(line: std::fmt::Arguments<'_>) {
    // One write for the whole line, whatever the others print.
    std::io::stdout().lock().write_all(format!("told {line}\n").as_bytes()).unwrap();
}

/// Changes sessions of its own, from `next` on, until the process is killed.
async fn change_for_ever<S: Store>(store: Arc<S>, mut next: u64) {
    let dice = InsecureSeededEntropy::new(next);
    let ending = Ending { why: EndReason::Revoked, now: NOW, tombstone_until: NOW.after(Duration::from_secs(3600)) };
    loop {
        let mut nth = next;
        next += 1;
        store.create(session(nth, 0), None, NOW).await.unwrap();
        tell(format_args!("version {nth} 0"));
        let mut record = session(nth, 0);
        for _ in 0..roll(&dice, 6) {
            match roll(&dice, 3) {
                0 => {
                    let new = session(next, nth);
                    let rotate = Rotate {
                        old: &record.digest,
                        version: record.version,
                        new: new.clone(),
                        also_end: None,
                        limit: None,
                        now: NOW,
                        tombstone_until: ending.tombstone_until,
                    };
                    store.rotate(rotate).await.unwrap();
                    tell(format_args!("ended {nth}"));
                    tell(format_args!("version {next} 0"));
                    (nth, record) = (next, new);
                    next += 1;
                }
                // What is to be written soon comes to the disk with the next commit that somebody waits for.
                kind => {
                    let durability = if kind == 1 { Durability::Soon } else { Durability::Durable };
                    let Commit::Done(stored) = store.commit(record, durability).await.unwrap() else { panic!() };
                    record = (*stored).clone();
                    if durability == Durability::Durable {
                        tell(format_args!("version {nth} {}", record.version));
                    }
                }
            }
        }
        match roll(&dice, 3) {
            0 => {
                store.revoke(&record.digest, ending).await.unwrap();
                tell(format_args!("ended {nth}"));
            }
            1 => {
                let over = Record { removable_at: NOW, ..session(next, 0) };
                store.create(over, None, NOW).await.unwrap();
                while store.clear_expired(NOW, 100).await.unwrap() == 100 {}
                tell(format_args!("gone {next}"));
                next += 1;
            }
            _ => {}
        }
    }
}
