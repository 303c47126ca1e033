//! The journal survives `kill -9` at any moment, torn ends and a full disk: no event is lost of which it was said that it is on
//! disk, the chain is whole, and each cut is told.
//!
//! The test runs itself as a child that tells events as fast as it can and prints the number of the last one that is on disk.
//! Some moment after some number of lines the child is killed, or while it begins, and what is behind the last line of which that was
//! said is torn. Then the next child goes on with the same files. In some rounds the disk is full.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portcullis::clock::{Clock as _, ManualClock, Timestamp};
use portcullis::entropy::{InsecureSeededEntropy, OsEntropy, random};
use portcullis::event::encode::Encoder;
use portcullis::event::journal::{Journal, Line, Next, Reader, SealKey, Settings, Verifier, first_key_of};
use portcullis::event::queue::{EventQueue, Flushed, RepeatSettings, Settings as QueueSettings};
use portcullis::event::{Scene, SiteTrend};
use portcullis::secret::sha256;
use portcullis::verdict::Text;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::namespace::SmallDisk;

const DIRECTORY: &str = "PORTCULLIS_JOURNAL_DIRECTORY";
const ROUND: &str = "PORTCULLIS_JOURNAL_ROUND";
const ROUNDS: u64 = 50;
/// Bytes that the journal may have; so files are put aside all the time.
const BYTES_MAX: u64 = 4 << 20;

fn journal(directory: &Path) -> PathBuf {
    directory.join("events.jsonl")
}

#[test]
fn no_event_that_was_on_disk_is_lost_and_every_cut_is_told() {
    let directory = TempDir::new().unwrap();
    survives(directory.path(), ROUNDS, 5, &FileLimit);
}

#[test]
fn a_disk_that_is_really_full_loses_no_event_that_was_on_it() {
    let Some(disk) = SmallDisk::new(2 * BYTES_MAX, 64) else { return };
    let directory = disk.path().join("journal");
    fs::create_dir(&directory).unwrap();
    survives(&directory, 30, 6, &disk);
}

/// What makes a disk full.
trait Fills {
    /// Before a round; these dice say how full.
    fn fill(&self, roll: &dyn Fn(u64) -> u64);
    /// After it.
    fn clear(&self);
    /// What the shell of the child has to do for it.
    fn shell(&self) -> &'static str;
}

/// A file that can not grow further is as good as a full disk; the signal that would end the process is not wanted.
struct FileLimit;

impl Fills for FileLimit {
    fn fill(&self, _: &dyn Fn(u64) -> u64) {}

    fn clear(&self) {}

    fn shell(&self) -> &'static str {
        "trap '' XFSZ; ulimit -f 300; "
    }
}

/// No room for what is in a file, none for its name, or neither: the one fails when it is written, the other when it is made,
/// put aside or replaced.
impl Fills for SmallDisk {
    fn fill(&self, roll: &dyn Fn(u64) -> u64) {
        let (octets, names) = (roll(200_000), roll(3));
        match roll(3) {
            0 => self.fill(octets, 64),
            1 => self.fill(8 * BYTES_MAX, names),
            _ => self.fill(octets, names),
        }
    }

    fn clear(&self) {
        self.clear();
    }

    fn shell(&self) -> &'static str {
        ""
    }
}

/// Lets children write there and kills them, so many times; the disk is full in one of so many rounds.
fn survives(directory: &Path, rounds: u64, seed: u64, disk: &dyn Fills) {
    let path = journal(directory);
    let dice = InsecureSeededEntropy::new(seed);
    let roll = |sides: u64| u64::from_be_bytes(random(&dice).unwrap()) % sides;
    let (mut durable, mut was_full, mut was_early) = (0, 0, 0);
    let (mut told, mut torn) = (BTreeSet::new(), Vec::new());
    for round in 0..rounds {
        let is_full = roll(5) == 0;
        // While it reads what is there, takes off what was torn and notes that; or in the middle of its work.
        let is_early = round > 0 && roll(4) == 0;
        let (lines, micros) = if is_early { (0, roll(60_000)) } else { (1 + roll(60), roll(5_000)) };
        let kill = Kill { lines, after: Duration::from_micros(micros) };
        if is_full {
            disk.fill(&roll);
        }
        let (said, complaints) = run_and_kill(directory, round, &kill, if is_full { disk.shell() } else { "" });
        disk.clear();
        durable = said.max(durable);
        was_full += u64::from(complaints > 0);
        was_early += u64::from(is_early);
        // What the last one has torn may not have been taken off yet.
        if !is_early && let Some(half) = tear(&path, durable, roll(400)) {
            torn.push(half);
        }
        told.extend(check(&path, durable));
    }
    // One more run, which takes the last cut off and is not killed at once.
    let kill = Kill { lines: 40, after: Duration::ZERO };
    let (said, _) = run_and_kill(directory, rounds, &kill, "");
    told.extend(check(&path, said));
    assert!(was_early > rounds / 8, "{was_early} were killed while they began");
    let notes = fs::read(directory.join("events.jsonl.cut")).unwrap();
    let notes = String::from_utf8_lossy(&notes).into_owned();
    for half in &torn {
        let hash: String = sha256(half).iter().map(|octet| format!("{octet:02x}")).collect();
        assert!(notes.contains(&hash), "no note of {:?}", String::from_utf8_lossy(half));
    }
    let cuts = torn.len() as u64;
    assert!(cuts > rounds / 2, "{cuts} cuts");
    // A cut may be taken off in a run that is killed before it could tell; the note is there all the same.
    assert!(told.len() as u64 >= cuts / 2, "{} of {cuts} cuts were told", told.len());
    assert!(was_full > 2, "the disk was full in {was_full} rounds");
    let key: SealKey = fs::read_to_string(first_key_of(&path)).unwrap().parse().unwrap();
    let report = Verifier::new(&path).with_key(key).run().unwrap();
    assert!(report.seals > 10 && report.unused > 0, "{report:?}");
}

/// When a child is killed: so long after it has printed so many lines.
struct Kill {
    lines: u64,
    after: Duration,
}

impl Kill {
    /// Does it in a thread, whatever the child is at by then.
    fn begin(&self, child: u32) -> thread::JoinHandle<()> {
        let end = Instant::now() + self.after;
        thread::spawn(move || {
            while Instant::now() < end {
                thread::yield_now();
            }
            assert!(Command::new("kill").args(["-KILL", &child.to_string()]).status().unwrap().success());
        })
    }
}

/// Runs a child and kills it. Gives the last event of which it said that it is on disk, and how often the disk was full.
fn run_and_kill(directory: &Path, round: u64, kill: &Kill, shell: &str) -> (u64, u64) {
    let mut child = Command::new("sh")
        .args(["-c", &format!("{shell}exec \"$0\" \"$@\"")])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "events::crash::the_child_that_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut seen, mut durable, mut full) = (String::new(), 0, 0, 0);
    let mut killing = (kill.lines == 0).then(|| kill.begin(child.id()));
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some(number) = line.strip_prefix("durable ").and_then(|number| number.strip_suffix('\n')) {
            durable = number.parse().unwrap();
            seen += 1;
        } else if line == "full\n" {
            full += 1;
            seen += 1;
        }
        if seen == kill.lines && killing.is_none() {
            killing = Some(kill.begin(child.id()));
        }
        line.clear();
    }
    // Nobody else has its number until it was waited for.
    killing.unwrap_or_else(|| panic!("the child ended by itself after {seen} lines")).join().unwrap();
    child.wait().unwrap();
    (durable, full)
}

/// Cuts the newest file behind what is known to be on disk, in the middle of what comes then if there is something. Known are the
/// last event of which it was said, and each seal whose key is gone: the key goes when the seal is on disk, which may be a moment
/// before the child could say so. Gives the half of a line that is left, if one is.
fn tear(path: &Path, durable: u64, bytes: u64) -> Option<Vec<u8>> {
    let text = fs::read(path).ok()?;
    let next_seal = next_seal(path);
    let (mut safe, mut length) = (0, 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(parsed) = Line::parse(line.trim_ascii_end()) else { break };
        length += line.len();
        if parsed.seq <= durable || seal_of(line).is_some_and(|seal| seal < next_seal) {
            safe = length;
        }
    }
    let mut end = (safe + usize::try_from(bytes).unwrap()).min(text.len());
    if end == safe {
        // As if the machine had lost its power in the middle of a write.
        let half = b"{\"ts\":\"20";
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(half).unwrap();
        return Some(half_of(&[text, half.to_vec()].concat()));
    }
    if text[..end].ends_with(b"\n") {
        end -= 1;
    }
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(end as u64).unwrap();
    Some(half_of(&text[..end])).filter(|half| !half.is_empty())
}

/// What stands behind the last end of a line.
fn half_of(text: &[u8]) -> Vec<u8> {
    text[text.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1)..].to_vec()
}

/// The number of the seal that the key beside the journal is for; 0 before there is a key.
fn next_seal(journal: &Path) -> u64 {
    let Ok(state) = fs::read_to_string(journal.with_extension("jsonl.seal")) else { return 0 };
    let key: SealKey = state.lines().next().unwrap().parse().unwrap();
    key.number()
}

/// The number of the seal that a line is of.
fn seal_of(line: &[u8]) -> Option<u64> {
    memchr::memmem::find(line, b"\"event\":\"events.sealed\"")?;
    let line: serde_json::Value = serde_json::from_slice(line).unwrap();
    line["seal"].as_u64()
}

/// Whether all that was on disk is there, once, and as it was written. Gives the cuts that are told.
fn check(path: &Path, durable: u64) -> BTreeSet<u64> {
    let mut reader = Reader::oldest(path).unwrap();
    let (mut line, mut events) = (Vec::new(), BTreeMap::new());
    loop {
        match reader.next(&mut line).unwrap() {
            Next::Line(seq) => assert!(events.insert(seq, line.clone()).is_none()),
            Next::Gap(from, to) => panic!("{from} to {to} are missing"),
            Next::End => break,
        }
    }
    assert!(events.contains_key(&durable), "{durable} was on disk, and the last one is {:?}", events.keys().last());
    let key: SealKey = fs::read_to_string(first_key_of(path)).unwrap().parse().unwrap();
    let report = Verifier::new(path).with_key(key).run().unwrap();
    let faults: Vec<_> = report.findings.iter().map(|finding| (finding.seq, finding.fault.to_string())).collect();
    // Before the first seal that is all there is to say.
    let is_early = |fault: &str| report.seals == 0 && fault.contains("there is no seal");
    let is_known = |fault: &str| fault.contains("ends in the middle") || is_early(fault);
    assert!(faults.iter().all(|(_, fault)| is_known(fault)) && faults.len() <= 2, "{faults:?}");
    let is_cut = |line: &Vec<u8>| memchr::memmem::find(line, b"\"event\":\"events.cut\"").is_some();
    events.into_iter().filter(|(_, line)| is_cut(line)).map(|(seq, _)| seq).collect()
}

/// Whether it is for want of room.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let is_for_room = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge);
    match error.downcast_ref::<io::Error>() {
        Some(error) => is_for_room(error.kind()),
        None => error.source().is_some_and(is_full),
    }
}

#[test]
fn the_child_that_is_killed() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let round: u64 = env::var(ROUND).unwrap().parse().unwrap();
    // Two seconds for each event, so that there is a seal every thirty.
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000 + round * 100_000)));
    let settings = Settings {
        path: journal(Path::new(&directory)),
        bytes_max: BYTES_MAX,
        age_max: None,
        sync: Duration::ZERO,
        chain: true,
    };
    let mut out = io::stdout().lock();
    let journal = loop {
        match Journal::open(settings.clone(), Encoder::default(), clock.clone(), &OsEntropy) {
            Ok(journal) => break journal,
            // As whoever starts it again and again.
            Err(error) if is_full(&error) => {
                if out.write_all(b"full\n").is_err() {
                    return;
                }
            }
            Err(error) => panic!("{error}"),
        }
    };
    let (mut durable, first_seq) = (journal.durable(), journal.next_seq());
    let repeat = RepeatSettings { window: Duration::ZERO, ..RepeatSettings::default() };
    let settings = QueueSettings { first_seq, repeat, ..QueueSettings::default() };
    let (events, writer) = EventQueue::start(&settings, clock.clone(), vec![Box::new(journal)]).unwrap();
    for percent in 0..100_000 {
        let told = SiteTrend { what: Text::from(format!("round {round}")), percent };
        events.emit(clock.now(), Scene::default(), told);
        clock.advance(Duration::from_secs(2));
        if percent % 7 == 0 {
            let line = match events.flush(Duration::from_secs(20)) {
                Flushed::All => format!("durable {}\n", *durable.borrow_and_update()),
                Flushed::Failed => "full\n".to_owned(),
                Flushed::NotInTime => panic!("the disk does not answer"),
            };
            // The parent reads no more, since it has killed this.
            if out.write_all(line.as_bytes()).is_err() {
                break;
            }
        }
    }
    drop((events, writer));
}
