//! Writing the journal.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::disk::{Disk, Os, own};
use super::end::{End, Torn, note_cut};
use super::line::{self, Head, Line, Order};
use super::seal::{Begun, Sealing, next_seal};
use super::segments::{self, Segment, beside};
use super::{JournalError, WAITING_BYTES_MAX, first_key_of};
use crate::clock::{Clock, Timestamp};
use crate::entropy::Entropy;
use crate::event::encode::Encoder;
use crate::event::field::Dependency;
use crate::event::sink::Sink;
use crate::event::{DependencyFailed, Event, EventsCut, EventsGap, Kind, Record, Severity};

/// Lines that are gathered before they are written.
const POUR_BYTES: usize = 256 * 1024;
/// Files that a full journal has, about: so much is forgotten at once.
const SEGMENTS: u64 = 16;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Where there is an oldest age, a file has at most this part of it.
const SEGMENT_AGES: u32 = 8;
/// How often it is tried again after a failure, and looked whether the file is still the one that is written.
const AGAIN_EVERY: Duration = Duration::from_secs(1);
/// How often what is too old is looked for.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// How a journal is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where.
    pub path: PathBuf,
    /// Bytes of events that are kept; the oldest go.
    pub bytes_max: u64,
    /// How long they are kept; none is for as long as there is room.
    pub age_max: Option<Duration>,
    /// How long a line may wait to be on disk; zero is for no line longer than its batch.
    pub sync: Duration,
    /// Whether lines have hashes, and seals are made.
    pub chain: bool,
}

/// The journal as the writer of events has it.
pub struct Journal {
    settings: Settings,
    encoder: Encoder,
    clock: Arc<dyn Clock>,
    disk: Box<dyn Disk>,
    numbers: Numbers,
    file: File,
    /// The number and time of the first event in the file, which may be on its way.
    first: Option<(u64, Timestamp)>,
    /// Bytes of the file that are on disk.
    safe: u64,
    /// Lines since then, so that they can be written again; and how many bytes of these are in the file.
    lines: Vec<u8>,
    poured: usize,
    /// The file was begun, or has another name, and that is not on disk.
    is_nameless: bool,
    /// There may be something behind these in the file.
    is_torn: bool,
    /// What a crash left there, until it was noted.
    torn: Option<Torn>,
    /// Those that were put aside, oldest first.
    closed: VecDeque<Segment>,
    /// The last event, the last one that is in the file, and the last one that is on disk.
    last: u64,
    last_poured: u64,
    last_safe: u64,
    head: Head,
    synced_at: Timestamp,
    looked_at: Timestamp,
    forgot_at: Timestamp,
    /// It failed, and is tried again then.
    failure: Option<(Timestamp, io::ErrorKind, String)>,
    /// From which event to which nothing was kept.
    lost: Option<(u64, u64)>,
    notes: VecDeque<Event>,
    sealing: Option<Sealing>,
    durable: watch::Sender<u64>,
}

impl Journal {
    /// Opens a journal, or begins one, in a folder that is made if it is not there. What a crash left of a line is taken off. The
    /// encoder writes JSON.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(
        settings: Settings,
        encoder: Encoder,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> Result<Self, JournalError> {
        Self::open_on(Box::new(Os), settings, encoder, clock, entropy)
    }

    pub(super) fn open_on(
        disk: Box<dyn Disk>,
        settings: Settings,
        encoder: Encoder,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> Result<Self, JournalError> {
        let (path, now) = (settings.path.clone(), clock.now());
        let failed = |path: &Path| JournalError::io(path);
        let folder = segments::folder(&path);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        let (numbers, is_known) = Numbers::lock(&path)?;
        let mut file = own(OpenOptions::new().read(true).append(true).create(true), &path).map_err(failed(&path))?;
        let mut closed = segments::closed(&path).map_err(failed(&path))?;
        segments::untangle(&path, &mut closed).map_err(failed(&path))?;
        let closed = VecDeque::from(closed);
        let next_seal = next_seal(&path)?;
        let mut end = End::of(&mut file, next_seal).map_err(failed(&path))?;
        // Only a guard that has a journal leaves lines without a hash, and a lock beside them.
        let is_chained = end.line.is_none_or(|(_, head)| head.is_some());
        if end.is_foreign || !is_chained && !is_known {
            return Err(JournalError::Foreign { path });
        }
        if end.line.is_none()
            && let Some(before) = closed.back()
        {
            let opened = File::open(&before.path).and_then(|mut file| End::of(&mut file, next_seal));
            let found = opened.map_err(failed(&before.path))?;
            if found.line.is_none() {
                return Err(JournalError::Foreign { path: before.path.clone() });
            }
            (end.line, end.seal) = (found.line, found.seal);
        }
        let (last, head) = end.line.unwrap_or((0, None));
        let mut notes: VecDeque<Event> = end.damaged.map(damage).into_iter().collect();
        // Numbers that others may have been told are not given to other events.
        let next = numbers.reserved.max(last) + 1;
        if next > last + 1 {
            notes.push_back(EventsGap { sink: "journal".into(), from_seq: last + 1, to_seq: next - 1 }.into());
        }
        let sealing = match settings.chain {
            true => Some(sealing(&path, &end, next, now, &*disk, entropy, &mut notes)?),
            false => None,
        };
        let mut journal = Self {
            first: end.first.map(|(seq, at)| (seq, at.unwrap_or(now))),
            safe: end.bytes,
            lines: Vec::new(),
            poured: 0,
            is_nameless: true,
            is_torn: false,
            torn: end.torn,
            last: next - 1,
            last_poured: last,
            last_safe: last,
            head: head.unwrap_or(Head::FIRST),
            synced_at: now,
            looked_at: now,
            forgot_at: now,
            failure: None,
            lost: None,
            durable: watch::Sender::new(last),
            settings,
            encoder,
            clock,
            disk,
            numbers,
            file,
            closed,
            notes,
            sealing,
        };
        // With a full disk it is tried again later; until then events wait.
        let begun = journal.untear().and_then(|()| journal.forget(now));
        drop(journal.noted(begun));
        Ok(journal)
    }

    /// The number that the next event gets.
    pub const fn next_seq(&self) -> u64 {
        self.last + 1
    }

    /// The number of the last event that is on disk, now and whenever it changes.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.durable.subscribe()
    }

    /// Bytes of lines that are not in the file.
    const fn waiting(&self) -> usize {
        self.lines.len() - self.poured
    }

    /// Takes off what is no whole line. What a crash left is kept elsewhere first.
    fn untear(&mut self) -> io::Result<()> {
        let end = self.safe + self.poured as u64;
        if let Some(torn) = &self.torn {
            note_cut(&self.settings.path, end, torn, self.clock.now())?;
            self.notes.push_back(EventsCut { bytes: torn.bytes.len() as u64, after_seq: self.last_safe }.into());
            self.torn = None;
            self.is_torn = true;
        }
        if self.is_torn {
            self.disk.cut(&self.file, end)?;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Writes what waits. What could not be written waits on.
    fn pour(&mut self) -> io::Result<()> {
        self.untear()?;
        let rest = self.lines.get(self.poured..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        let (count, result) = self.disk.write(&mut self.file, rest);
        // Whole lines that did fit stay.
        let written = rest.get(..count).unwrap_or(rest);
        let whole = memchr::memrchr(b'\n', written).map_or(0, |at| at + 1);
        let lines = written.get(..whole.saturating_sub(1)).unwrap_or_default();
        if let Some(line) = lines.rsplit(|byte| *byte == b'\n').next().and_then(Line::parse) {
            self.last_poured = line.seq;
        }
        self.poured += whole;
        self.is_torn = count > whole;
        if let Err(error) = result {
            // Somebody may read it: half a line is taken off at once, if that is possible.
            drop(self.untear());
            return Err(error);
        }
        if let Some((from_seq, to_seq)) = self.lost.take() {
            self.notes.push_back(EventsGap { sink: "journal".into(), from_seq, to_seq }.into());
        }
        Ok(())
    }

    /// Waits until what is written is on disk.
    fn settle(&mut self) -> io::Result<()> {
        if self.is_nameless {
            self.disk.sync_names(&self.settings.path)?;
            self.is_nameless = false;
        }
        if self.poured > 0 {
            if let Err(error) = self.disk.sync(&self.file) {
                // The system may have forgotten what it could not write, and say that all is well when it is asked again.
                (self.poured, self.last_poured) = (0, self.last_safe);
                self.is_torn = true;
                return Err(error);
            }
            self.safe += self.poured as u64;
            self.lines.drain(..self.poured);
            self.lines.shrink_to(POUR_BYTES * 2);
            self.poured = 0;
            self.last_safe = self.last_poured;
        }
        self.synced_at = self.clock.now();
        // First the key: who has seen that a seal is on disk may count on it that nobody can make it again.
        if let Some(sealing) = &mut self.sealing {
            sealing.go_on(self.last_safe, &*self.disk)?;
        }
        self.durable.send_if_modified(|durable| std::mem::replace(durable, self.last_safe) != self.last_safe);
        Ok(())
    }

    /// Puts the file aside if it is large or old enough, and forgets what is too much.
    fn turn(&mut self, now: Timestamp) -> io::Result<()> {
        let bytes = (self.settings.bytes_max / SEGMENTS).clamp(1, SEGMENT_BYTES_MAX);
        let Some((first, at)) = self.first.filter(|_| self.safe + self.poured as u64 > 0) else { return Ok(()) };
        let is_old = self.settings.age_max.is_some_and(|age| now.since(at) >= age / SEGMENT_AGES);
        if self.safe + (self.poured as u64) < bytes && !is_old || self.waiting() > 0 {
            return Ok(());
        }
        self.settle()?;
        self.put_aside(first)?;
        self.forget(now)
    }

    fn put_aside(&mut self, first: u64) -> io::Result<()> {
        let aside = segments::aside(&self.settings.path, first);
        let file = self.disk.turn(&self.settings.path, &aside)?;
        self.closed.push_back(Segment { first: Some(first), path: aside, bytes: self.safe });
        self.file = file;
        self.is_nameless = true;
        (self.first, self.safe) = (None, 0);
        Ok(())
    }

    fn forget(&mut self, now: Timestamp) -> io::Result<()> {
        self.forgot_at = now;
        let mut bytes = self.safe + self.closed.iter().map(|segment| segment.bytes).sum::<u64>();
        let room = self.settings.bytes_max - self.settings.bytes_max / SEGMENTS;
        while let Some(oldest) = self.closed.front() {
            // All that is in a file is older than what the next one begins with.
            let next = match self.closed.get(1) {
                Some(next) => File::open(&next.path).and_then(|file| segments::first_line(&file)).ok().flatten(),
                None => self.first.filter(|_| self.safe > 0).map(|(seq, at)| (seq, Some(at))),
            };
            let is_old =
                next.and_then(|(_, at)| at).zip(self.settings.age_max).is_some_and(|(at, max)| now.since(at) > max);
            // The last line of all is where it goes on from.
            let is_needed = self.closed.len() == 1 && self.safe == 0;
            if is_needed || bytes <= room && !is_old {
                break;
            }
            match fs::remove_file(&oldest.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => bytes = bytes.saturating_sub(oldest.bytes),
            }
            self.closed.pop_front();
        }
        Ok(())
    }

    /// Whether the file is still the one under its name, as long as it is.
    fn look(&mut self, now: Timestamp) -> io::Result<()> {
        if now.since(self.looked_at) < AGAIN_EVERY {
            return Ok(());
        }
        self.looked_at = now;
        let ours = self.file.metadata()?;
        let is_there =
            fs::metadata(&self.settings.path).is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino()));
        let end = self.safe + self.poured as u64;
        if is_there && (ours.len() == end || self.is_torn || self.torn.is_some()) {
            return Ok(());
        }
        // Somebody else has moved, removed or changed it. What is left there stays as it is.
        // Whatever stands there by now.
        if fs::symlink_metadata(&self.settings.path).is_ok() {
            fs::rename(&self.settings.path, beside(&self.settings.path, &format!("changed.{}", self.last_poured)))?;
        }
        self.file = own(OpenOptions::new().read(true).append(true).create_new(true), &self.settings.path)?;
        self.is_nameless = true;
        let from_seq = self.first.map_or(self.last_safe, |(first, _)| first);
        self.notes.push_back(EventsGap { sink: "journal".into(), from_seq, to_seq: self.last_poured }.into());
        self.lines.drain(..self.poured);
        (self.first, self.safe, self.poured) = (None, 0, 0);
        self.first = Line::parse(self.lines.split(|byte| *byte == b'\n').next().unwrap_or_default())
            .map(|line| (line.seq, line.ts().unwrap_or(now)));
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "another program moved, removed or changed the file: a new one was begun",
        ))
    }

    /// Does all that is due.
    fn work(&mut self, is_asked: bool) -> io::Result<()> {
        let now = self.clock.now();
        self.look(now)?;
        self.pour()?;
        self.turn(now)?;
        if now.since(self.forgot_at) >= FORGET_EVERY {
            self.forget(now)?;
        }
        let is_sealed = self.sealing.as_ref().is_some_and(Sealing::is_used);
        let is_due = now.since(self.synced_at) >= self.settings.sync || self.lines.len() >= WAITING_BYTES_MAX / 2;
        if is_asked || is_due || is_sealed { self.settle() } else { Ok(()) }
    }

    /// Takes note of what came of it: of a failure, to try again later.
    fn noted(&mut self, done: io::Result<()>) -> io::Result<()> {
        self.failure = match &done {
            Ok(()) => None,
            Err(error) => Some((self.clock.now(), error.kind(), error.to_string())),
        };
        done
    }

    /// The failure that it is too early to try again after.
    fn failing(&self) -> io::Result<()> {
        match &self.failure {
            Some((at, kind, fault)) if self.clock.now().since(*at) < AGAIN_EVERY => {
                Err(io::Error::new(*kind, fault.clone()))
            }
            _ => Ok(()),
        }
    }
}

impl Sink for Journal {
    fn name(&self) -> &'static str {
        "journal"
    }

    fn take(&mut self, record: &Record) -> io::Result<()> {
        if self.waiting() >= WAITING_BYTES_MAX {
            let (from, _) = self.lost.unwrap_or((record.seq, record.seq));
            self.lost = Some((from, record.seq));
            return Err(io::Error::new(io::ErrorKind::StorageFull, "as much waits for the disk as may wait"));
        }
        let reserved = self.numbers.reserve(record.seq);
        let start = self.lines.len();
        self.encoder.encode(record, &mut self.lines);
        if let Some(sealing) = &mut self.sealing {
            let order = if self.first.is_none() { Order::First } else { Order::Later };
            line::close(&mut self.lines, start, order, &mut self.head);
            sealing.note(record.event.kind() == Kind::EventsSealed, record.severity() >= Severity::Critical);
        }
        self.first = self.first.or(Some((record.seq, record.ts)));
        self.last = record.seq;
        if self.waiting() >= POUR_BYTES && self.failure.is_none() {
            let done = self.work(false);
            self.noted(done)?;
        }
        reserved
    }

    fn flush(&mut self) -> io::Result<()> {
        self.failing()?;
        let done = self.work(false);
        self.noted(done)
    }

    fn sync(&mut self) -> io::Result<()> {
        let done = self.work(true);
        self.noted(done)
    }

    fn keeps(&self) -> bool {
        true
    }

    fn is_waiting(&self) -> bool {
        !self.lines.is_empty()
            || !self.notes.is_empty()
            || self.lost.is_some()
            || self.failure.is_some()
            || self.sealing.as_ref().is_some_and(Sealing::is_waiting)
            || self.settings.age_max.is_some()
    }

    fn tells(&mut self, now: Timestamp) -> Option<Event> {
        if let Some(note) = self.notes.pop_front() {
            return Some(note);
        }
        // A seal that waits for the disk would be one that anybody can make again.
        let is_able = self.failure.is_none() && self.waiting() == 0;
        let (seq, head) = (self.last, self.head);
        self.sealing.as_mut().filter(|sealing| is_able && sealing.is_due(now))?.seal(seq, head, now)
    }

    fn ends(&mut self, now: Timestamp) -> Option<Event> {
        let is_able = self.failure.is_none() && self.waiting() == 0;
        let (seq, head) = (self.last, self.head);
        self.sealing.as_mut().filter(|_| is_able)?.seal(seq, head, now)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let done = self.work(true);
        let is_told = self.lost.is_none() && self.notes.is_empty();
        let is_all = self.noted(done).is_ok() && self.last_safe == self.last && is_told;
        // Nobody was told of a number that is not on disk: the next run goes on from there.
        if is_all {
            drop(self.numbers.write(self.last));
        }
    }
}

/// The seals of a journal, and what there is to tell of them.
fn sealing(
    journal: &Path,
    end: &End,
    next_seq: u64,
    now: Timestamp,
    disk: &dyn Disk,
    entropy: &dyn Entropy,
    notes: &mut VecDeque<Event>,
) -> Result<Sealing, JournalError> {
    let (sealing, begun) = Sealing::begin(journal, end.seal, next_seq, now, disk, entropy)?;
    if begun == Begun::Anew {
        let fault =
            "the key of the next seal was gone: seals before this event and those behind it have two first keys";
        notes.push_back(DependencyFailed { what: Dependency::Sink, fault: fault.into() }.into());
    }
    if begun == Begun::Before && first_key_of(journal).exists() {
        tracing::warn!(
            "the first key of the journal's seals is still beside it: `portcullis events seal-key` takes it away"
        );
    }
    Ok(sealing)
}

/// Tells that lines were changed that had been on disk.
fn damage(offset: u64) -> Event {
    let fault = format!("the journal was changed at offset {offset}: `portcullis events verify` tells what is left");
    DependencyFailed { what: Dependency::Sink, fault: fault.as_str().into() }.into()
}

/// Numbers that events have, or may have: in the file that is locked. After a crash it is gone on behind them, since others may have
/// been told of events that the disk has not.
#[derive(Debug)]
struct Numbers {
    lock: File,
    reserved: u64,
}

impl Numbers {
    /// How many at a time.
    const BLOCK: u64 = 10_000;
    const DIGITS: usize = 20;

    /// Locks a journal, and tells whether there was one.
    fn lock(journal: &Path) -> Result<(Self, bool), JournalError> {
        let path = beside(journal, "lock");
        let is_known = path.exists();
        let lock = own(OpenOptions::new().read(true).write(true).create(true).truncate(false), &path);
        let lock = lock.map_err(JournalError::io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { path: journal.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(JournalError::io(&path)(error)),
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        // Half of it after a crash of the machine is no number, and then the journal says how far it came.
        let reserved =
            text.strip_suffix('\n').filter(|text| text.len() == Self::DIGITS).and_then(|text| text.parse().ok());
        Ok((Self { lock, reserved: reserved.unwrap_or(0) }, is_known))
    }

    fn reserve(&mut self, seq: u64) -> io::Result<()> {
        if seq <= self.reserved { Ok(()) } else { self.write(seq + Self::BLOCK) }
    }

    fn write(&mut self, reserved: u64) -> io::Result<()> {
        self.lock.write_all_at(format!("{reserved:0width$}\n", width = Self::DIGITS).as_bytes(), 0)?;
        self.lock.sync_data()?;
        self.reserved = reserved;
        Ok(())
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.settings.path).field("last", &self.last).finish_non_exhaustive()
    }
}
