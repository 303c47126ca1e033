//! What a journal keeps over restarts, crashes and time, and what a check of it finds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::disk::{Disk, Os};
use super::line::Order;
use super::*;
use crate::clock::{Clock as _, ManualClock, Timestamp};
use crate::entropy::InsecureSeededEntropy;
use crate::event::encode::Encoder;
use crate::event::queue::{EventQueue, EventSender, Flushed, RepeatSettings, Settings as QueueSettings, Writer};
use crate::event::{Event, LoginFailed, Scene, SessionCreated, SiteTrend};
use crate::verdict::Text;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const PATIENCE: Duration = Duration::from_secs(20);

/// A guard's journal in a folder of its own.
struct World {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    settings: Settings,
}

/// One run of a guard.
struct Run {
    events: EventSender,
    writer: Writer,
    durable: tokio::sync::watch::Receiver<u64>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/events.jsonl");
        let settings = Settings { path, bytes_max: BYTES_MAX_DEFAULT, age_max: None, sync: SYNC_DEFAULT, chain: true };
        Self { folder, clock: Arc::new(ManualClock::new(NOW)), settings }
    }

    fn path(&self) -> &Path {
        &self.settings.path
    }

    fn open(&self) -> Result<Journal, JournalError> {
        let entropy = InsecureSeededEntropy::new(7);
        Journal::open(self.settings.clone(), Encoder::default(), self.clock.clone(), &entropy)
    }

    fn run(&self) -> Run {
        self.run_with(self.open().unwrap())
    }

    /// Over a disk that can be made to fail.
    fn run_on(&self, disk: &Failing) -> Run {
        let (clock, entropy) = (self.clock.clone(), InsecureSeededEntropy::new(7));
        let disk = Box::new(disk.clone());
        self.run_with(Journal::open_on(disk, self.settings.clone(), Encoder::default(), clock, &entropy).unwrap())
    }

    fn run_with(&self, journal: Journal) -> Run {
        let (durable, first_seq) = (journal.durable(), journal.next_seq());
        let repeat = RepeatSettings { window: Duration::ZERO, ..RepeatSettings::default() };
        let settings = QueueSettings { first_seq, repeat, ..QueueSettings::default() };
        let (events, writer) = EventQueue::start(&settings, self.clock.clone(), vec![Box::new(journal)]).unwrap();
        Run { events, writer, durable, clock: self.clock.clone() }
    }

    /// The journal after one run with so many events.
    fn with(events: u32) -> Self {
        let world = Self::new();
        let run = world.run();
        run.tell(events);
        run.stop();
        world
    }

    /// With a seal after each event, which cannot be had sooner than a minute after the one before.
    fn sealed(events: u32) -> Self {
        let world = Self::new();
        let run = world.run();
        for _ in 0..events {
            run.tell(1);
            run.flush();
        }
        run.stop();
        world
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        segments::beside(self.path(), suffix)
    }

    /// What is in it, by number and kind.
    fn events(&self) -> Vec<(u64, String)> {
        let mut reader = Reader::oldest(self.path()).unwrap();
        let (mut line, mut found) = (Vec::new(), Vec::new());
        while let Next::Line(seq) = reader.next(&mut line).unwrap() {
            let event: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(event["seq"], seq);
            found.push((seq, event["event"].as_str().unwrap().to_owned()));
        }
        found
    }

    fn findings(&self) -> Vec<(Option<u64>, Fault)> {
        self.check(Verifier::new(self.path()))
    }

    fn check(&self, verifier: Verifier) -> Vec<(Option<u64>, Fault)> {
        let report = verifier.run().unwrap();
        report.findings.into_iter().map(|finding| (finding.seq, finding.fault)).collect()
    }

    /// With its lines changed by somebody.
    fn tampered(&self, change: impl FnOnce(&mut Vec<String>)) -> Vec<(Option<u64>, Fault)> {
        let before = self.text();
        let mut lines: Vec<String> = before.lines().map(|line| format!("{line}\n")).collect();
        change(&mut lines);
        fs::write(self.path(), lines.concat()).unwrap();
        let findings = self.findings();
        fs::write(self.path(), before).unwrap();
        findings
    }

    fn first_key(&self) -> SealKey {
        fs::read_to_string(self.beside("seal-key")).unwrap().parse().unwrap()
    }
}

impl Run {
    fn tell(&self, events: u32) {
        for percent in 0..events {
            self.emit(SiteTrend { what: Text::of("logins"), percent });
            // More than that would be cut short as a storm.
            self.clock.advance(Duration::from_secs(61));
        }
    }

    fn emit(&self, event: impl Into<Event>) {
        self.events.emit(self.clock.now(), Scene::default(), event);
    }

    fn flush(&self) {
        assert_eq!(self.events.flush(PATIENCE), Flushed::All);
    }

    fn stop(self) {
        assert_eq!(self.writer.stop(PATIENCE), Flushed::All);
    }
}

/// Lines as a program without our key would write them anew.
fn chained_anew(lines: &mut [String]) {
    let mut head = Head::FIRST;
    for (at, line) in lines.iter_mut().enumerate() {
        let body = String::from_utf8(Line::parse(line.trim_end().as_bytes()).unwrap().body.to_vec()).unwrap();
        let body = body.split(",\"prev\"").next().unwrap();
        let mut anew = format!("{body}}}\n").into_bytes();
        line::close(&mut anew, 0, if at == 0 { Order::First } else { Order::Later }, &mut head);
        *line = String::from_utf8(anew).unwrap();
    }
}

/// What a disk is asked for, and what it does not do.
#[derive(Clone, Default)]
struct Failing(Arc<Mutex<Faults>>);

#[derive(Default)]
struct Faults {
    /// Bytes that there is room for; none is for as many as there are.
    room: Option<usize>,
    /// No sync succeeds, and what was written since the last one is lost.
    loses: bool,
    /// No file can be begun.
    is_stuck: bool,
    /// Names do not come to the disk.
    is_nameless: bool,
    asked: Vec<&'static str>,
}

impl Failing {
    fn set(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.0.lock());
    }
}

impl Disk for Failing {
    fn write(&self, file: &mut fs::File, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut faults = self.0.lock();
        faults.asked.push("write");
        let Some(room) = &mut faults.room else { return Os.write(file, bytes) };
        let count = bytes.len().min(*room);
        *room -= count;
        Os.write(file, &bytes[..count]).1.unwrap();
        let done = if count < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        (count, done)
    }

    fn sync(&self, file: &fs::File) -> io::Result<()> {
        let mut faults = self.0.lock();
        faults.asked.push("sync");
        if faults.loses { Err(io::Error::other("an error of the disk")) } else { Os.sync(file) }
    }

    fn sync_names(&self, path: &Path) -> io::Result<()> {
        if self.0.lock().is_nameless { Err(io::Error::other("an error of the disk")) } else { Os.sync_names(path) }
    }

    fn turn(&self, path: &Path, aside: &Path) -> io::Result<fs::File> {
        let mut faults = self.0.lock();
        faults.asked.push("turn");
        if faults.is_stuck { Err(io::Error::other("too many open files")) } else { Os.turn(path, aside) }
    }
}

#[test]
fn an_event_that_is_waited_for_is_on_disk_before_its_time_and_others_with_it() {
    let mut world = World::new();
    world.settings.sync = Duration::from_secs(3600);
    let disk = Failing::default();
    let run = world.run_on(&disk);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let wait = |event: Event| {
        let ticket = run.events.emit_awaited(run.clock.now(), Scene::default(), event);
        runtime.block_on(run.events.kept(ticket, PATIENCE))
    };
    for count in 1..=3 {
        run.emit(LoginFailed {});
        assert_eq!(wait(SessionCreated {}.into()), Flushed::All);
        assert_eq!((*run.durable.borrow(), world.events().len() as u64), (2 * count, 2 * count));
    }
    // What the disk does not take is not waited for, and comes when it does.
    disk.set(|faults| faults.loses = true);
    assert_eq!(wait(SessionCreated {}.into()), Flushed::Failed);
    assert_eq!((*run.durable.borrow(), run.events.unkept()), (6, 1));
    disk.set(|faults| faults.loses = false);
    run.clock.advance(Duration::from_secs(2));
    assert_eq!(wait(SessionCreated {}.into()), Flushed::All);
    let created = world.events().into_iter().filter(|(_, kind)| kind == "session.created").count();
    assert_eq!(created, 5);
    run.stop();
}

#[test]
fn events_go_on_where_the_last_run_ended() {
    let world = World::with(3);
    let run = world.run();
    run.emit(SessionCreated {});
    run.flush();
    let created = world.events().into_iter().filter(|(_, kind)| kind == "session.created").collect::<Vec<_>>();
    let [(seq, _)] = created[..] else { panic!("{created:?}") };
    assert!(*run.durable.borrow() >= seq);
    run.stop();
    let numbers: Vec<_> = world.events().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let report = Verifier::new(world.path()).with_key(world.first_key()).run().unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert!(report.seals > 0);
    assert_eq!((report.events, report.first), (numbers.len() as u64, Some(1)));
}

#[test]
fn only_one_guard_writes_it_and_only_its_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::with(1);
    let run = world.run();
    assert!(matches!(world.open(), Err(JournalError::InUse { .. })));
    run.stop();
    drop(world.open().unwrap());
    for file in fs::read_dir(world.path().parent().unwrap()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
    // What somebody else wrote there is left alone.
    let other = world.folder.path().join("data/other");
    for text in ["some text\n", "no line at all", "{\"ts\":\"x\",\"seq\":1,\"of\":\"a file sink\"}\n"] {
        fs::write(&other, text).unwrap();
        drop(fs::remove_file(segments::beside(&other, "lock")));
        let settings = Settings { path: other.clone(), ..world.settings.clone() };
        let error = Journal::open(settings, Encoder::default(), world.clock.clone(), &InsecureSeededEntropy::new(7));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("is not a journal of this guard"), "{error}");
        assert_eq!(fs::read_to_string(&other).unwrap(), text);
    }
}

#[test]
fn what_a_crash_leaves_of_a_line_is_kept_elsewhere_and_told() {
    let whole = World::with(3).text();
    let hole = format!("{}\0\0\0\n{whole}", whole.split_at(40).0);
    for torn in ["{\"ts\":\"2027-01", "\0\0\0\0\n\0\0", "{\"ts\":\"x\",\"seq\":4,\"no", "x\n{\"ts\":1,\"seq\":9", &hole]
    {
        let world = World::with(3);
        let (whole, last) = (world.text(), world.events().last().unwrap().0);
        fs::write(world.path(), format!("{whole}{torn}")).unwrap();
        let run = world.run();
        run.stop();
        let events = world.events();
        let added: Vec<_> = events.iter().filter(|(seq, _)| *seq > last).map(|(_, kind)| kind.as_str()).collect();
        assert!(added.contains(&"events.cut"), "{torn:?}: {added:?}");
        assert!(world.text().starts_with(&whole));
        assert_eq!(world.findings(), []);
        let notes = fs::read_to_string(world.beside("cut")).unwrap();
        let (before, kept) = notes.rsplit_once(torn).unwrap();
        assert_eq!(kept, "\n");
        let note: serde_json::Value = serde_json::from_str(before.lines().last().unwrap()).unwrap();
        assert_eq!(
            (note["offset"].as_u64(), note["bytes"].as_u64()),
            (Some(whole.len() as u64), Some(torn.len() as u64))
        );
        drop(world);
    }
    // The first line of all.
    let world = World::with(0);
    fs::write(world.path(), "{\"ts\":\"20").unwrap();
    world.run().stop();
    assert_eq!(world.events()[0], (1, "events.cut".to_owned()));
}

#[test]
fn a_large_file_is_put_aside_and_the_oldest_go() {
    let mut world = World::new();
    world.settings.bytes_max = 64 * 1024;
    let run = world.run();
    let mut reader = Reader::oldest(world.path()).unwrap();
    let (mut line, mut seen) = (Vec::new(), 0);
    for _ in 0..40 {
        run.tell(20);
        run.flush();
        // A reader that keeps up sees all of it, whatever file it is in.
        loop {
            match reader.next(&mut line).unwrap() {
                Next::Line(seq) => {
                    assert_eq!(seq, seen + 1);
                    seen = seq;
                }
                Next::Gap(from, to) => panic!("{from} to {to}"),
                Next::End => break,
            }
        }
    }
    run.stop();
    let all = segments::all(world.path()).unwrap();
    assert!(all.len() > 8, "{all:?}");
    let bytes: u64 = all.iter().map(|segment| segment.bytes).sum();
    assert!((32 * 1024..=64 * 1024).contains(&bytes), "{bytes}");
    let kept = world.events();
    assert!(kept[0].0 > 100 && kept.last().unwrap().0 >= seen);
    assert_eq!(world.findings(), []);
    // One that was away for long is told what it missed, and goes on.
    let mut late = Reader::new(world.path(), Position::of(5));
    assert_eq!(late.next(&mut line).unwrap(), Next::Gap(5, kept[0].0 - 1));
    assert_eq!(late.next(&mut line).unwrap(), Next::Line(kept[0].0));
    // One that goes on from a place in a file.
    let at = late.position();
    let mut again = Reader::new(world.path(), at);
    assert_eq!(again.next(&mut line).unwrap(), Next::Line(kept[1].0));
    // A file that is missing in between.
    fs::remove_file(&all[3].path).unwrap();
    let (from, to) = (all[3].first.unwrap(), all[4].first.unwrap() - 1);
    let findings = world.findings();
    assert_eq!(findings[0], (Some(to + 1), Fault::Missing { from, to }));
    assert!(findings[1..].iter().all(|(_, fault)| matches!(fault, Fault::MissingSeals { .. })), "{findings:?}");
    let mut reader = Reader::oldest(world.path()).unwrap();
    let gaps: Vec<_> = std::iter::from_fn(|| Some(reader.next(&mut line).unwrap()).filter(|next| *next != Next::End))
        .filter(|next| matches!(next, Next::Gap(..)))
        .collect();
    assert_eq!(gaps, [Next::Gap(from, to)]);
}

#[test]
fn what_is_old_goes_with_its_file() {
    let mut world = World::new();
    world.settings.age_max = Some(Duration::from_secs(3600));
    let run = world.run();
    for _ in 0..100 {
        run.tell(3);
        run.flush();
    }
    run.stop();
    let first = world.events()[0].0;
    let lines = world.text();
    // An hour is 59 events here, and a file has an eighth of it; nothing but time goes on.
    assert!(first > 200 && lines.lines().count() < 20, "{first}");
    assert!(world.events().len() > 55);
    assert_eq!(world.findings(), []);
    world.clock.advance(Duration::from_secs(7200));
    drop(world.open().unwrap());
    assert!(segments::closed(world.path()).unwrap().len() <= 1, "at a start too");
}

#[test]
fn numbers_that_others_may_have_been_told_are_not_given_again() {
    let world = World::new();
    let run = world.run();
    run.emit(LoginFailed {});
    run.flush();
    let before = fs::read(world.path()).unwrap();
    let [lock, seal] = ["lock", "seal"].map(|name| fs::read(world.beside(name)).unwrap());
    run.emit(SessionCreated {});
    run.stop();
    // The power went, and the last event with it.
    fs::write(world.path(), before).unwrap();
    fs::write(world.beside("lock"), lock).unwrap();
    fs::write(world.beside("seal"), seal).unwrap();
    let run = world.run();
    run.emit(SessionCreated {});
    run.stop();
    let events = world.events();
    let kinds: Vec<_> = events.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(kinds[..3], ["login.failed", "events.gap", "session.created"]);
    assert!(events[1].0 > 10_000, "{events:?}");
    let report = Verifier::new(world.path()).run().unwrap();
    assert_eq!((report.findings.len(), report.unused), (0, events[1].0 - 2));
}

#[test]
fn a_full_disk_loses_nothing_that_may_wait_and_tells_what_was_too_much() {
    let world = World::new();
    let disk = Failing::default();
    let run = world.run_on(&disk);
    run.tell(3);
    run.flush();
    let known = world.events().len();
    disk.set(|faults| faults.room = Some(1000));
    run.tell(5);
    assert_eq!(run.events.flush(PATIENCE), Flushed::Failed);
    let some = world.events().len();
    assert!(some > known, "whole lines that did fit are there");
    assert!(world.text().ends_with('\n'), "and no half one");
    let durable = *run.durable.borrow();
    assert!(durable < 3 + 5);
    disk.set(|faults| faults.room = None);
    run.flush();
    assert!(world.events().len() > 8);
    assert_eq!(world.findings(), []);
    // More than may wait.
    disk.set(|faults| faults.room = Some(0));
    let long = "x".repeat(250);
    for _ in 0..20 {
        for percent in 0..1000 {
            run.emit(SiteTrend { what: Text::from(long.as_str()), percent });
        }
        assert_eq!(run.events.flush(PATIENCE), Flushed::Failed);
    }
    disk.set(|faults| faults.room = None);
    run.flush();
    run.stop();
    let gaps = world.text().lines().filter(|line| line.contains("events.gap")).count();
    assert_eq!(gaps, 1, "told once, with the numbers");
    let report = Verifier::new(world.path()).with_key(world.first_key()).run().unwrap();
    assert_eq!(report.findings, [], "what was never kept was taken away by nobody");
    assert!(report.unused > 1000, "{}", report.unused);
}

#[test]
fn what_the_disk_could_not_keep_is_written_again() {
    let world = World::new();
    let disk = Failing::default();
    let run = world.run_on(&disk);
    run.emit(LoginFailed {});
    run.flush();
    let durable = *run.durable.borrow();
    disk.set(|faults| faults.loses = true);
    run.emit(SessionCreated {});
    assert_eq!(run.events.flush(PATIENCE), Flushed::Failed);
    assert_eq!(*run.durable.borrow(), durable, "nothing is promised that is not there");
    disk.set(|faults| faults.loses = false);
    disk.set(|faults| faults.asked.clear());
    run.flush();
    assert_eq!(disk.0.lock().asked[..2], ["write", "sync"], "asking once more is not enough");
    run.stop();
    let kinds: Vec<_> = world.events().into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "session.created").count(), 1);
    assert_eq!(world.findings(), []);
}

#[test]
fn a_file_that_can_not_be_put_aside_now_is_later() {
    let mut world = World::new();
    world.settings.bytes_max = 256 * 1024;
    let disk = Failing::default();
    disk.set(|faults| faults.is_stuck = true);
    let run = world.run_on(&disk);
    for expected in [Flushed::All, Flushed::Failed, Flushed::Failed] {
        run.tell(40);
        assert_eq!(run.events.flush(PATIENCE), expected);
    }
    assert!(segments::closed(world.path()).unwrap().is_empty());
    disk.set(|faults| faults.is_stuck = false);
    for _ in 0..3 {
        run.tell(40);
        run.flush();
    }
    run.stop();
    assert!(!segments::closed(world.path()).unwrap().is_empty());
    assert_eq!(world.findings(), []);
    let numbers: Vec<_> = world.events().iter().map(|(seq, _)| *seq).collect();
    assert!(numbers.is_sorted() && numbers.len() >= 200, "{}", numbers.len());
}

/// Between its two names.
#[test]
fn a_guard_that_was_killed_when_it_put_a_file_aside_goes_on() {
    let world = World::with(4);
    let before = world.events();
    fs::hard_link(world.path(), segments::aside(world.path(), 1)).unwrap();
    // Whoever reads it at that moment reads each event once.
    assert_eq!(world.events(), before);
    assert_eq!(world.findings(), []);
    let run = world.run();
    run.tell(2);
    run.stop();
    assert!(segments::closed(world.path()).unwrap().is_empty());
    assert_eq!(world.findings(), []);
    assert!(world.events().len() > before.len() + 1);
}

#[test]
fn a_journal_that_was_emptied_is_not_whole() {
    let world = World::sealed(4);
    let (last, head) = Verifier::new(world.path()).run().unwrap().last.unwrap();
    fs::write(world.path(), "").unwrap();
    let found = world.check(Verifier::new(world.path()).with_key(world.first_key()).with_head(last, head.unwrap()));
    assert!(
        matches!(found[..], [(None, Fault::NoSeal), (None, Fault::LostSeals { .. }), (Some(_), Fault::NoHead)]),
        "{found:?}"
    );
}

#[test]
fn an_old_key_of_seals_makes_no_second_seal_of_one_number() {
    let world = World::new();
    drop(world.open().unwrap());
    let old = fs::read(world.beside("seal")).unwrap();
    let run = world.run();
    for _ in 0..6 {
        run.tell(1);
        run.flush();
    }
    run.stop();
    fs::write(world.beside("seal"), old).unwrap();
    let run = world.run();
    run.tell(3);
    run.stop();
    let report = Verifier::new(world.path()).with_key(world.first_key()).run().unwrap();
    assert_eq!(report.findings, []);
    // Without it a new one is begun, which is told, and what checks the seals so far is kept.
    let first = fs::read(world.beside("seal-key")).unwrap();
    fs::remove_file(world.beside("seal")).unwrap();
    world.run().stop();
    assert_eq!(fs::read(world.beside("seal-key.old")).unwrap(), first);
    assert!(world.events().iter().any(|(_, kind)| kind == "dependency.failed"));
}

/// A file whose name is not on the disk is not there after a crash.
#[test]
fn nothing_is_promised_of_a_file_whose_name_is_not_on_disk() {
    let mut world = World::new();
    world.settings.bytes_max = 64 * 1024;
    let disk = Failing::default();
    let run = world.run_on(&disk);
    run.flush();
    disk.set(|faults| faults.is_nameless = true);
    run.tell(40);
    assert_eq!(run.events.flush(PATIENCE), Flushed::Failed, "the next file is begun");
    let durable = *run.durable.borrow();
    run.tell(3);
    assert_eq!(run.events.flush(PATIENCE), Flushed::Failed);
    assert_eq!(*run.durable.borrow(), durable);
    disk.set(|faults| faults.is_nameless = false);
    run.flush();
    assert!(*run.durable.borrow() >= durable + 3);
    run.stop();
    assert!(!segments::closed(world.path()).unwrap().is_empty());
    assert_eq!(world.findings(), []);
}

/// As logrotate does with `create`.
#[test]
fn a_journal_that_somebody_puts_another_file_in_place_of_goes_on() {
    let world = World::new();
    let run = world.run();
    run.tell(3);
    run.flush();
    fs::rename(world.path(), world.folder.path().join("moved")).unwrap();
    fs::write(world.path(), "something else\n").unwrap();
    run.clock.advance(Duration::from_secs(2));
    run.emit(LoginFailed {});
    assert_eq!(run.events.flush(PATIENCE), Flushed::Failed);
    run.flush();
    run.stop();
    assert!(world.events().iter().any(|(_, kind)| kind == "login.failed"));
    let changed = fs::read_dir(world.path().parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let changed: Vec<_> = changed.filter(|path| path.to_str().unwrap().contains(".changed.")).collect();
    assert_eq!(fs::read_to_string(&changed[0]).unwrap(), "something else\n");
}

#[test]
fn a_journal_that_somebody_moves_away_is_begun_anew_and_told() {
    let world = World::new();
    let run = world.run();
    run.tell(3);
    run.flush();
    let moved = world.folder.path().join("moved");
    fs::rename(world.path(), &moved).unwrap();
    run.clock.advance(Duration::from_secs(2));
    run.emit(LoginFailed {});
    assert_eq!(run.events.flush(PATIENCE), Flushed::Failed);
    run.emit(SessionCreated {});
    run.flush();
    run.stop();
    assert!(fs::read_to_string(moved).unwrap().lines().count() >= 3);
    let kinds: Vec<_> = world.events().into_iter().map(|(_, kind)| kind).collect();
    for kind in ["login.failed", "events.gap", "dependency.failed", "session.created"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind}: {kinds:?}");
    }
}

#[test]
fn the_key_of_a_seal_goes_even_if_the_guard_was_killed_in_between() {
    let world = World::new();
    let run = world.run();
    run.tell(3);
    run.flush();
    let before = fs::read(world.beside("seal")).unwrap();
    run.stop();
    // As if it had been killed when the seal was on disk and its key still there; what it began to write is there too.
    fs::write(world.beside("seal"), before).unwrap();
    fs::write(world.beside("new"), "portcullis-se").unwrap();
    let run = world.run();
    run.tell(3);
    run.stop();
    let report = Verifier::new(world.path()).with_key(world.first_key()).run().unwrap();
    assert_eq!(report.findings, []);
}

#[test]
fn a_line_that_was_damaged_before_a_seal_stays_where_it_is_and_what_is_behind_it_too() {
    let world = World::sealed(6);
    let text = world.text();
    let lines: Vec<&str> = text.lines().collect();
    let (before, all) = (world.findings(), world.events());
    assert!(before.is_empty() && all.len() > 10);
    // One octet of a line that was on disk long since, and what a crash may leave at the end.
    let offset = lines[..3].iter().map(|line| line.len() + 1).sum::<usize>();
    let mut bytes = text.clone().into_bytes();
    bytes[offset] ^= 1;
    bytes.extend(b"{\"ts\":\"20");
    fs::write(world.path(), &bytes).unwrap();
    let run = world.run();
    run.tell(1);
    run.stop();
    let now = world.text();
    assert_eq!(&now.as_bytes()[..text.len()], &bytes[..text.len()], "nothing of it was taken away");
    let told: Vec<_> = now.split_at(text.len()).1.lines().collect();
    assert!(told.iter().any(|line| line.contains(&format!("the journal was changed at offset {offset}"))), "{told:?}");
    assert!(told.iter().any(|line| line.contains("events.cut")), "{told:?}");
    let found = world.findings();
    assert!(
        found.iter().all(|(seq, _)| seq.is_none_or(|seq| (3..=5).contains(&seq))) && !found.is_empty(),
        "{found:?}"
    );
}

#[test]
fn a_change_is_found_and_where() {
    let world = World::with(6);
    assert_eq!(world.findings(), []);
    let find = |change: fn(&mut Vec<String>)| world.tampered(change);
    let seq = |seq| Some(seq);
    // Edited.
    let edit = |lines: &mut Vec<String>| lines[2] = lines[2].replace("\"action\":\"allow\"", "\"action\":\"deny\"");
    assert_eq!(find(edit), [(seq(3), Fault::Changed)]);
    // Edited, with a hash that fits it.
    let careful = |lines: &mut Vec<String>| {
        lines[2] = lines[2].replace("logins", "nobody");
        let mut first = lines[..3].to_vec();
        chained_anew(&mut first);
        lines[2] = first[2].clone();
    };
    assert_eq!(find(careful), [(seq(4), Fault::Changed)]);
    // All hashes taken away.
    let stripped = |lines: &mut Vec<String>| {
        for line in lines.iter_mut() {
            let (body, _) = line.split_once(",\"chain\"").unwrap();
            *line = format!("{body}}}\n");
        }
    };
    assert!(find(stripped).contains(&(seq(1), Fault::Unchained)));
    // Removed, doubled, in another order, a foreign line, no hash.
    assert_eq!(find(|lines| drop(lines.remove(2))), [(seq(4), Fault::Missing { from: 3, to: 3 })]);
    assert_eq!(find(|lines| lines.insert(2, lines[1].clone())), [(seq(2), Fault::OutOfOrder)]);
    let swapped = [(seq(4), Fault::Missing { from: 3, to: 3 }), (seq(3), Fault::OutOfOrder)];
    assert_eq!(find(|lines| lines.swap(2, 3)), swapped);
    assert_eq!(find(|lines| lines.insert(1, "hello\n".to_owned())), [(None, Fault::NoLine)]);
    let bare = |lines: &mut Vec<String>| {
        let (body, _) = lines[4].split_once(",\"chain\"").unwrap();
        lines[4] = format!("{body}}}\n");
    };
    assert_eq!(find(bare)[0], (seq(5), Fault::Unchained));
    // The first line has nothing before it, and is checked all the same.
    assert_eq!(find(|lines| lines[0] = lines[0].replace("logins", "nobody")), [(seq(1), Fault::Changed)]);
    // Half a line at the end.
    assert_eq!(find(|lines| lines.push("{\"ts\"".to_owned())), [(None, Fault::Half)]);
}

#[test]
fn a_chain_that_was_computed_anew_does_not_fit_the_seals_and_these_can_not_be_made() {
    let world = World::sealed(8);
    let key = world.first_key();
    let seals = |line: &String| line.contains("events.sealed");
    assert!(world.text().lines().any(|line| line.contains("events.sealed")));
    let before = world.text();
    let check = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = before.lines().map(|line| format!("{line}\n")).collect();
        change(&mut lines);
        fs::write(world.path(), lines.concat()).unwrap();
        let found = world.check(Verifier::new(world.path()).with_key(key.clone()));
        fs::write(world.path(), &before).unwrap();
        found
    };
    assert_eq!(check(&|_| ()), []);
    let anew = check(&|lines| {
        lines[0] = lines[0].replace("logins", "nobody");
        chained_anew(lines);
    });
    assert!(anew.iter().all(|(_, fault)| *fault == Fault::WrongSeal) && !anew.is_empty(), "{anew:?}");
    // The heads in the seals made to fit: the key of that time is gone.
    let made_up = check(&|lines| {
        lines[0] = lines[0].replace("logins", "nobody");
        for at in 0..lines.len() {
            if seals(&lines[at]) {
                let head = Line::parse(lines[at - 1].trim_end().as_bytes()).unwrap().head.unwrap().to_string();
                let (before, rest) = lines[at].split_once("\"head\":\"").unwrap();
                lines[at] = format!("{before}\"head\":\"{head}{}", rest.split_at(64).1);
            }
            chained_anew(lines);
        }
    });
    assert!(made_up.iter().all(|(_, fault)| *fault == Fault::UnknownSeal) && !made_up.is_empty(), "{made_up:?}");
    // Seals taken away: all of them, or the first ones, with the lines numbered anew.
    let numbered = |lines: &mut Vec<String>| {
        for (at, line) in lines.iter_mut().enumerate() {
            let seq = Line::parse(line.trim_end().as_bytes()).unwrap().seq;
            *line = line.replacen(&format!("\"seq\":{seq},"), &format!("\"seq\":{},", at + 1), 1);
        }
        chained_anew(lines);
    };
    let none = check(&|lines| {
        lines.retain(|line| !seals(line));
        numbered(lines);
    });
    assert!(none.iter().any(|(_, fault)| *fault == Fault::NoSeal), "{none:?}");
    assert!(none.iter().any(|(_, fault)| matches!(fault, Fault::LostSeals { .. })) || none.len() == 1, "{none:?}");
    let some = check(&|lines| {
        let first = lines.iter().position(seals).unwrap();
        lines.remove(first);
        numbered(lines);
    });
    assert!(some.iter().any(|(_, fault)| matches!(fault, Fault::MissingSeals { from: 0, .. })), "{some:?}");
    // All before the second seal is not kept any more: that is no fault, but an event there without a seal is one.
    assert_eq!(check(&|lines| drop(lines.drain(..4))), []);
    let hidden = check(&|lines| {
        let at: Vec<_> = (0..lines.len()).filter(|at| seals(&lines[*at])).collect();
        lines[at[1]] = lines[at[1]].replace("events.sealed", "session.created");
        drop(lines.drain(..=at[0]));
    });
    assert!(hidden.iter().any(|(_, fault)| *fault == Fault::Unsealed), "{hidden:?}");
    // The end, with its seals.
    let cut = check(&|lines| {
        let second = lines.iter().enumerate().filter(|(_, line)| seals(line)).nth(1).unwrap().0;
        lines.truncate(second + 2);
    });
    assert!(matches!(cut[..], [(_, Fault::LostSeals { .. })]), "{cut:?}");
    // What stands on the machine now makes none of them.
    let state = fs::read_to_string(world.beside("seal")).unwrap();
    let now: SealKey = state.lines().next().unwrap().parse().unwrap();
    assert!(now.number() > 0 && (0..now.number()).all(|number| now.at(number).is_none()));
}

#[test]
fn an_end_that_was_cut_off_is_found_by_a_head_that_is_known_elsewhere() {
    let world = World::with(5);
    let (last, head) = Verifier::new(world.path()).run().unwrap().last.unwrap();
    let head = head.unwrap();
    let check = || world.check(Verifier::new(world.path()).with_head(last, head));
    assert_eq!(check(), []);
    let before = world.text();
    let cut: String = before.lines().take(3).map(|line| format!("{line}\n")).collect();
    fs::write(world.path(), &cut).unwrap();
    fs::remove_file(world.beside("seal")).unwrap();
    assert_eq!(world.findings(), [], "this is what it can not tell");
    assert_eq!(check(), [(Some(last), Fault::NoHead)]);
    fs::write(world.path(), &before).unwrap();
    let wrong = world.check(Verifier::new(world.path()).with_head(2, head));
    assert_eq!(wrong, [(Some(2), Fault::WrongHead)]);
    // Of an event that is not kept, that it could not be checked is told.
    let lines: Vec<_> = before.split_inclusive('\n').collect();
    fs::write(world.path(), lines[3..].concat()).unwrap();
    assert!(world.check(Verifier::new(world.path()).with_head(2, head)).contains(&(Some(2), Fault::OldHead)));
    assert!(Verifier::new(world.folder.path().join("none")).run().is_err());
}

#[test]
fn a_line_may_wait_for_the_disk_as_long_as_it_was_said() {
    let world = World::new();
    let disk = Failing::default();
    let run = world.run_on(&disk);
    run.flush();
    disk.set(|faults| faults.asked.clear());
    run.emit(LoginFailed {});
    run.flush();
    assert_eq!(disk.0.lock().asked, ["write", "sync"], "somebody waits for it");
    assert_eq!(*run.durable.borrow(), 1);
    run.stop();
}

#[test]
fn a_journal_may_be_without_a_chain_and_get_one_later() {
    let mut world = World::new();
    world.settings.chain = false;
    let run = world.run();
    run.tell(2);
    run.stop();
    assert!(!world.text().contains("chain") && !world.beside("seal").exists());
    world.settings.chain = true;
    let run = world.run();
    run.tell(2);
    run.stop();
    let findings: Vec<_> = world.findings().into_iter().map(|(_, fault)| fault).collect();
    assert_eq!(
        findings,
        [Fault::Unchained, Fault::Unsealed],
        "of the first ones nothing can be told, and that is told once"
    );
    world.settings.chain = false;
    let run = world.run();
    run.tell(1);
    run.stop();
    assert!(world.findings().len() > 2, "that it was turned off is told");
}
