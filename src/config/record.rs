//! Recording what rules see, for `portcullis replay` and `explain`: opt-in, bounded, without secrets, addresses and subjects as
//! plain as in events.
//!
//! A request never waits for it: lines go through a queue to a thread of their own, and what does not fit is left out and
//! counted. The file is begun anew when it has half of its bytes, and the one before it is kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use super::hide::hide;
use crate::engine::{Looked, Observer};
use crate::event::encode::{Privacy, Veil};
use crate::rules::Recorded;
use crate::rules::count::Counting;
use crate::rules::recorded::Line;
use crate::secret::Keyring;

/// Lines that may wait to be written.
const WAITING_MAX: usize = 4096;

/// Lines that are written before the file is flushed and what went wrong is told.
const ROUND: usize = 256;

/// Writes what rules see into a file.
#[derive(Debug)]
pub struct Recorder {
    waiting: SyncSender<Waiting>,
    left_out: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Waiting {
    Line(Line),
    /// Somebody waits until all that came before is written.
    Flush(SyncSender<()>),
}

impl Recorder {
    /// A recorder that keeps at most `bytes_max` in `path` and `path.1`. Others on the machine can not read them. Addresses and
    /// subjects stand there only as `privacy` allows; pseudonyms are made with `keys`, as those of events are.
    ///
    /// # Errors
    /// When the file can not be opened, or there is no thread.
    pub fn start(path: &Path, bytes_max: u64, privacy: Privacy, keys: Arc<Keyring>) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut file = Rolling { path: path.to_owned(), half: bytes_max / 2, file: open(path)?, written: 0 };
        file.written = fs::metadata(path)?.len();
        let (sender, waiting) = sync_channel(WAITING_MAX);
        let left_out = Arc::new(AtomicU64::new(0));
        let counted = left_out.clone();
        let builder = thread::Builder::new().name("recorder".to_owned());
        let veil = Veil::new(privacy, keys);
        builder.spawn(move || write(&waiting, file, &veil, &counted))?;
        Ok(Self { waiting: sender, left_out })
    }

    /// Blocks until all that was seen so far is written, or can not be.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.waiting.send(Waiting::Flush(done)).is_err() || wait.recv().is_err() {
            tracing::warn!("the recording of [rules] ended early");
        }
    }
}

impl Observer for Recorder {
    fn looked(&self, at: &Looked<'_>) {
        // A request is one line, however often it is looked at.
        if at.counting == Counting::Look {
            return;
        }
        let line = Line {
            phase: at.phase,
            action: at.done,
            asked: at.asked,
            before: at.before,
            facts: Recorded::of(at.facts, at.phase, at.set),
        };
        if let Err(TrySendError::Full(_)) = self.waiting.try_send(Waiting::Line(line)) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Rolling {
    path: PathBuf,
    half: u64,
    file: BufWriter<File>,
    written: u64,
}

fn open(path: &Path) -> io::Result<BufWriter<File>> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    // One that was there already may have been open to others.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(BufWriter::new(file))
}

impl Rolling {
    fn put(&mut self, line: &Line) -> io::Result<()> {
        let text = line.to_json();
        let len = u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_add(1);
        if self.written > 0 && self.written.saturating_add(len) > self.half {
            self.file.flush()?;
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            // It is gone already if it could not be opened anew the last time.
            match fs::rename(&self.path, older) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
            self.file = open(&self.path)?;
            self.written = 0;
        }
        self.written = self.written.saturating_add(len);
        writeln!(self.file, "{text}")
    }
}

/// Until the recorder is gone. A disk that is full costs lines, and never requests.
fn write(waiting: &Receiver<Waiting>, mut file: Rolling, veil: &Veil, left_out: &AtomicU64) {
    let (mut told, mut tell_from) = (false, 1);
    let put = |file: &mut Rolling, waits: &mut Vec<SyncSender<()>>, next: Waiting| match next {
        Waiting::Line(mut line) => {
            hide(veil, &mut line.facts);
            file.put(&line)
        }
        Waiting::Flush(done) => {
            waits.push(done);
            Ok(())
        }
    };
    while let Ok(next) = waiting.recv() {
        let mut waits = Vec::new();
        let mut done = put(&mut file, &mut waits, next);
        // Not all at once: where more comes than the disk takes, that is to be told too.
        for next in waiting.try_iter().take(ROUND) {
            let this = put(&mut file, &mut waits, next);
            done = done.and(this);
        }
        if let Err(error) = done.and_then(|()| file.file.flush())
            && !told
        {
            told = true;
            tracing::warn!(%error, "what rules see can not be recorded");
        }
        // Whoever has stopped waiting need not be told.
        for wait in waits {
            wait.try_send(()).unwrap_or_default();
        }
        let lines = left_out.load(Ordering::Relaxed);
        if lines >= tell_from {
            // Told at each doubling, so that a slow disk does not fill the log.
            tell_from = lines.saturating_mul(2);
            tracing::warn!(lines, "the disk is too slow for the recording of [rules]: lines were left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock::Timestamp;
    use crate::history::Points;
    use crate::rules::scheme::Phase;
    use crate::secret::{KeyId, MasterKey};
    use crate::verdict::Action;

    #[test]
    fn a_recording_is_bounded_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/facts.jsonl");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let keys = Arc::new(Keyring::new(&MasterKey::new(KeyId(1), [7; 32]), &[]));
        let recorder = Recorder::start(&path, 20_000, Privacy::default(), keys).unwrap();
        for at in 0..1000 {
            let facts = Recorded::new(Timestamp::from_millis(at), BTreeMap::new(), Vec::new());
            let (action, before) = (Action::Allow, Points::ZERO);
            let line = Line { phase: Phase::Risk, action, asked: facts.at, before, facts };
            recorder.waiting.send(Waiting::Line(line)).unwrap();
        }
        recorder.flush();
        let older = folder.path().join("deep/facts.jsonl.1");
        let text = fs::read_to_string(&path).unwrap();
        let last = text.lines().last().unwrap();
        assert!(last.contains("\"at\":999,"), "{last}");
        assert!(Line::parse(last, &[]).is_ok());
        let sizes = [&path, &older].map(|path| fs::metadata(path).unwrap());
        assert!(sizes.iter().map(fs::Metadata::len).sum::<u64>() <= 20_000);
        assert!(sizes.iter().all(|data| data.permissions().mode() & 0o077 == 0));
    }

    /// After a file that could not be opened anew, nothing was written any more.
    #[test]
    fn a_recording_goes_on_when_its_file_was_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts.jsonl");
        let keys = Arc::new(Keyring::new(&MasterKey::new(KeyId(1), [7; 32]), &[]));
        let recorder = Recorder::start(&path, 2_000, Privacy::default(), keys).unwrap();
        let write = |times: std::ops::Range<u64>| {
            for at in times {
                let facts = Recorded::new(Timestamp::from_millis(at), BTreeMap::new(), Vec::new());
                let (action, before) = (Action::Allow, Points::ZERO);
                let line = Line { phase: Phase::Risk, action, asked: facts.at, before, facts };
                recorder.waiting.send(Waiting::Line(line)).unwrap();
            }
            recorder.flush();
        };
        write(0..3);
        fs::remove_file(&path).unwrap();
        write(3..40);
        assert!(fs::read_to_string(&path).unwrap().contains("\"at\":39,"));
    }
}
