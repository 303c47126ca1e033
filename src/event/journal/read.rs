//! Reading a journal while somebody writes it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::LINE_BYTES_MAX;
use super::line::{Head, Line};
use super::segments::{self, Segment};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 128 * 1024;
/// How often a file is looked for again, if a guard puts it aside meanwhile.
const LOOKS_MAX: usize = 16;

/// A place in a journal: that of the next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The number of the event.
    pub seq: u64,
    /// In the file whose first event has this number,
    pub file: u64,
    /// at this offset. If it is another file, the event is looked for.
    pub offset: u64,
}

impl Position {
    /// The place of an event of which only the number is known.
    pub const fn of(seq: u64) -> Self {
        Self { seq, file: u64::MAX, offset: 0 }
    }
}

/// What is next in a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, which is in the buffer now, without its newline: the event of that number.
    Line(u64),
    /// These events are gone, from that one to that one.
    Gap(u64, u64),
    /// Nothing yet.
    End,
}

/// Reads a journal line by line, from file to file.
#[derive(Debug)]
pub struct Reader {
    journal: PathBuf,
    at: Position,
    file: Option<BufReader<File>>,
    /// The hash of the last line: where the next one fits, no event is between them, whatever the numbers are.
    head: Option<Head>,
}

impl Reader {
    /// A reader that begins there.
    pub fn new(journal: impl Into<PathBuf>, at: Position) -> Self {
        Self { journal: journal.into(), at, file: None, head: None }
    }

    /// A reader that begins with the oldest event that is kept, or the next one if there is none.
    ///
    /// # Errors
    /// When the journal can not be read.
    pub fn oldest(journal: impl Into<PathBuf>) -> io::Result<Self> {
        let journal = journal.into();
        let first = segments::all(&journal)?.iter().find_map(|segment| segment.first);
        Ok(Self::new(journal, Position::of(first.unwrap_or(1))))
    }

    /// Where it is: behind what it gave last.
    pub const fn position(&self) -> Position {
        self.at
    }

    /// Reads on. Lines that are none of a journal are left out; half a line is none yet.
    ///
    /// # Errors
    /// When the journal can not be read.
    pub fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Next> {
        loop {
            for _ in 0..LOOKS_MAX {
                if self.file.is_some() {
                    break;
                }
                match self.open()? {
                    Opened::Yes => {}
                    Opened::Gap(from, to) => return Ok(Next::Gap(from, to)),
                    Opened::NotYet => return Ok(Next::End),
                    Opened::Moved => continue,
                }
            }
            let Some(file) = &mut self.file else { return Ok(Next::End) };
            let found = read_line(file, line)?;
            let (Read::Line(bytes) | Read::TooLong(bytes)) = found else {
                if self.is_last()? {
                    return Ok(Next::End);
                }
                continue;
            };
            self.at.offset += bytes;
            let Some(parsed) = Line::parse(line) else { continue };
            let seq = parsed.seq;
            let head = std::mem::replace(&mut self.head, parsed.head);
            if seq < self.at.seq {
                continue;
            }
            let before = std::mem::replace(&mut self.at.seq, seq + 1);
            // A reader that begins in the middle of a file knows no hash yet.
            let head = match head {
                None if seq > before => head_before(file.get_ref(), self.at.offset - bytes)?,
                known => known,
            };
            let prev = head.or(parsed.prev);
            let fits = prev.zip(parsed.head).is_some_and(|(prev, head)| prev.with(parsed.body) == head);
            if seq > before && !(fits && head.is_some()) {
                // It is read again behind the gap.
                self.at = Position { seq, offset: self.at.offset - bytes, ..self.at };
                file.seek(SeekFrom::Start(self.at.offset))?;
                self.head = None;
                return Ok(Next::Gap(before, seq - 1));
            }
            return Ok(Next::Line(seq));
        }
    }

    /// Opens the file that the next event is in, or is to be in.
    fn open(&mut self) -> io::Result<Opened> {
        let all = segments::all(&self.journal)?;
        let firsts = || all.iter().filter_map(|segment| segment.first.map(|first| (first, segment)));
        let Some((oldest, _)) = firsts().next() else { return Ok(Opened::NotYet) };
        if self.at.seq < oldest {
            let before = std::mem::replace(&mut self.at, Position::of(oldest)).seq;
            self.head = None;
            return Ok(Opened::Gap(before, oldest - 1));
        }
        match firsts().take_while(|(first, _)| *first <= self.at.seq).last() {
            Some((first, Segment { path, .. })) => self.enter(first, path),
            None => Ok(Opened::NotYet),
        }
    }

    fn enter(&mut self, first: u64, path: &Path) -> io::Result<Opened> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            // It was put aside or forgotten just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Moved),
            Err(error) => return Err(error),
        };
        // Another one may stand under that name by now.
        if segments::first_line(&file)?.is_none_or(|(found, _)| found != first) {
            return Ok(Opened::Moved);
        }
        let is_there = first == self.at.file && self.at.offset <= file.metadata()?.len();
        if !is_there {
            (self.at.file, self.at.offset) = (first, 0);
        }
        file.seek(SeekFrom::Start(self.at.offset))?;
        self.file = Some(BufReader::with_capacity(BUFFER_BYTES, file));
        Ok(Opened::Yes)
    }

    /// At the end of a file: whether it is the newest one. If not, the next one is opened.
    fn is_last(&mut self) -> io::Result<bool> {
        for _ in 0..LOOKS_MAX {
            let all = segments::all(&self.journal)?;
            let next = all.iter().find(|segment| segment.first.is_some_and(|first| first > self.at.file));
            let Some(Segment { first: Some(first), path, .. }) = next else { return Ok(true) };
            // Something may have come to the end of this one before it was put aside.
            let mut line = Vec::new();
            if let Some(file) = &mut self.file {
                let is_at_end = !matches!(read_line(file, &mut line)?, Read::Line(_) | Read::TooLong(_));
                file.seek(SeekFrom::Start(self.at.offset))?;
                if !is_at_end {
                    return Ok(false);
                }
            }
            let before = self.at;
            if self.enter(*first, path)? == Opened::Yes {
                return Ok(false);
            }
            self.at = before;
        }
        Ok(true)
    }
}

/// The hash of the line that ends there.
fn head_before(file: &File, end: u64) -> io::Result<Option<Head>> {
    let length = end.min(LINE_BYTES_MAX as u64);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, end - length)?;
    let lines = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Line::parse(line).and_then(|line| line.head))
}

/// What came of opening a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    Yes,
    /// These events are not kept.
    Gap(u64, u64),
    /// Nothing is there yet.
    NotYet,
    /// It is another one by now, and is looked for again.
    Moved,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A whole line; so many bytes with its newline.
    Line(u64),
    /// One that is longer than [`LINE_BYTES_MAX`], of which the beginning was read.
    TooLong(u64),
    /// Half a line, of which nothing was taken.
    Half,
    /// Nothing.
    End,
}

/// Reads a line without its newline. Half a line is left to be read again.
pub(super) fn read_line(file: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<Read> {
    line.clear();
    let mut bytes = 0_u64;
    loop {
        let buffer = match file.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            if bytes == 0 {
                return Ok(Read::End);
            }
            let back = i64::try_from(bytes).unwrap_or(i64::MAX);
            file.seek(SeekFrom::Current(-back))?;
            return Ok(Read::Half);
        }
        let end = memchr::memchr(b'\n', buffer);
        let taken = end.unwrap_or(buffer.len());
        let room = LINE_BYTES_MAX.saturating_sub(line.len());
        line.extend_from_slice(buffer.get(..taken.min(room)).unwrap_or_default());
        let used = taken + usize::from(end.is_some());
        bytes += used as u64;
        file.consume(used);
        if end.is_some() {
            let is_whole = bytes <= LINE_BYTES_MAX as u64;
            return Ok(if is_whole { Read::Line(bytes) } else { Read::TooLong(bytes) });
        }
    }
}
