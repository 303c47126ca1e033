//! A file of lines that may be rotated under us.
//!
//! Rotation is rename and create: the file is opened again when asked to ([`ReopenHandle`]) and when the path leads to
//! another file than the one that is open. `copytruncate` of logrotate loses lines and is not supported.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Fill, Filter, Lines, Lost, Sink};
use crate::event::Record;
use crate::event::encode::Encoder;
use crate::verdict::Text;

/// Who may read a new event file: the owner and its group, who is often a log collector.
pub const FILE_MODE: u32 = 0o640;

/// Asks a [`FileSink`] to open its path again, before it writes the next time.
#[derive(Clone, Debug, Default)]
pub struct ReopenHandle(Arc<AtomicBool>);

impl ReopenHandle {
    /// Asks for it. To have it done at once, flush the queue after this.
    pub fn reopen(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Appends lines to a file.
#[derive(Debug)]
pub struct FileSink {
    name: Text,
    path: PathBuf,
    mode: u32,
    file: File,
    lines: Lines,
    asked: ReopenHandle,
}

impl FileSink {
    /// Opens the file, or creates it with [`FILE_MODE`].
    ///
    /// # Errors
    /// When it cannot be opened for appending.
    pub fn open(path: impl Into<PathBuf>, encoder: Encoder) -> io::Result<Self> {
        Self::open_with_mode(path, FILE_MODE, encoder)
    }

    /// Opens the file, or creates it with these permissions (`0o600` for the owner alone). Those of a file that exists
    /// are left as they are.
    ///
    /// # Errors
    /// When it cannot be opened for appending.
    pub fn open_with_mode(path: impl Into<PathBuf>, mode: u32, encoder: Encoder) -> io::Result<Self> {
        let path = path.into();
        let mut lines = Lines::new(encoder);
        let (file, end) = append(&path, mode)?;
        lines.spout.torn = end == End::Torn;
        Ok(Self { name: Text::of("file"), path, mode, file, lines, asked: ReopenHandle::default() })
    }

    /// The same under a name, by which it is told of: there may be several files.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Text::from(name);
        self
    }

    /// The same for events that the filter wants.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.lines.filter = filter;
        self
    }

    /// What asks this file to be opened again.
    pub fn handle(&self) -> ReopenHandle {
        self.asked.clone()
    }

    fn reopen_if_due(&mut self) -> io::Result<()> {
        if !self.asked.0.swap(false, Ordering::AcqRel) && !self.was_moved() {
            return Ok(());
        }
        let (file, end) = append(&self.path, self.mode)?;
        self.file = file;
        self.lines.spout.torn = end == End::Torn;
        Ok(())
    }

    /// Whether the path leads to another file now, or to none.
    fn was_moved(&self) -> bool {
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(open)) => identity(&there) != identity(&open),
            (Err(error), _) => error.kind() == io::ErrorKind::NotFound,
            (_, Err(_)) => false,
        }
    }
}

impl Sink for FileSink {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn wants(&self, record: &Record) -> bool {
        self.lines.filter.wants(record)
    }

    fn take(&mut self, record: &Record) -> io::Result<()> {
        match self.lines.add(record) {
            Fill::Room => Ok(()),
            Fill::Full => self.flush(),
        }
    }

    fn lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lines.lost)
    }

    fn flush(&mut self) -> io::Result<()> {
        // A path that cannot be opened now (its directory was moved away) loses no line: they go where the old ones are.
        let reopened = self.reopen_if_due();
        self.lines.pour(&mut self.file)?;
        reopened
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        // A pipe or a device keeps nothing, and is given lines all the same.
        if self.keeps() { self.file.sync_data() } else { Ok(()) }
    }

    fn keeps(&self) -> bool {
        self.file.metadata().is_ok_and(|about| about.is_file())
    }
}

#[derive(PartialEq, Eq)]
enum End {
    Whole,
    /// Not at the end of a line: whoever wrote here last was interrupted.
    Torn,
}

fn append(path: &std::path::Path, mode: u32) -> io::Result<(File, End)> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.len() == 0 {
        return Ok((file, End::Whole));
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok((file, if last == *b"\n" { End::Whole } else { End::Torn }))
}

#[cfg(unix)]
fn identity(file: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (file.dev(), file.ino())
}

/// Without inodes a file is only told by its making.
#[cfg(not(unix))]
fn identity(file: &Metadata) -> Option<std::time::SystemTime> {
    file.created().ok()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::event::Scene;
    use crate::event::kinds::{LoginFailed, SiteTrend};
    use crate::verdict::Text;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn write(sink: &mut FileSink, percent: u32) {
        let event = SiteTrend { what: Text::of("logins"), percent }.into();
        sink.take(&Record::new(Timestamp::EPOCH, Scene::default(), event)).unwrap();
        sink.flush().unwrap();
    }

    fn percents(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["percent"].as_u64().unwrap())
            .collect()
    }

    #[test]
    fn a_new_file_is_not_for_everyone_and_an_old_one_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        write(&mut FileSink::open_with_mode(&path, 0o600, Encoder::default()).unwrap(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        write(&mut FileSink::open(&path, Encoder::default()).unwrap(), 2);
        assert_eq!(percents(&path), [1, 2]);
        assert!(FileSink::open(dir.path().join("none/events.jsonl"), Encoder::default()).is_err());
    }

    #[test]
    fn a_renamed_file_is_left_and_a_new_one_begun() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("events.jsonl"), dir.path().join("events.jsonl.1"));
        let mut sink = FileSink::open(&path, Encoder::default()).unwrap();
        write(&mut sink, 1);
        fs::rename(&path, &old).unwrap();
        write(&mut sink, 2);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        write(&mut sink, 3);
        assert_eq!((percents(&old), percents(&path)), (vec![1], vec![3]));
    }

    #[test]
    fn a_handle_reopens_without_an_event() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("events.jsonl"), dir.path().join("events.jsonl.1"));
        let mut sink = FileSink::open(&path, Encoder::default()).unwrap();
        write(&mut sink, 1);
        fs::rename(&path, &old).unwrap();
        sink.handle().reopen();
        sink.flush().unwrap();
        assert!(path.exists());
        write(&mut sink, 2);
        assert_eq!((percents(&old), percents(&path)), (vec![1], vec![2]));
    }

    #[test]
    fn a_directory_that_went_away_loses_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, moved) = (dir.path().join("logs"), dir.path().join("moved"));
        fs::create_dir(&logs).unwrap();
        let mut sink = FileSink::open(logs.join("e"), Encoder::default()).unwrap();
        fs::rename(&logs, &moved).unwrap();
        let record = Record::new(Timestamp::EPOCH, Scene::default(), LoginFailed {}.into());
        sink.take(&record).unwrap();
        assert_eq!(sink.flush().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_to_string(moved.join("e")).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_line_cut_by_a_crash_does_not_spoil_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        fs::write(&path, "{\"ts\":\"20").unwrap();
        write(&mut FileSink::open(&path, Encoder::default()).unwrap(), 1);
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("{\"ts\":\"20"));
        assert!(lines.next().unwrap().starts_with("{\"ts\":\"1970"));
        assert_eq!(lines.next(), None);
    }
}
