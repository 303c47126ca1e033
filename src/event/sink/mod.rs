//! Where event lines go.
//!
//! A sink runs on the writer's thread alone, so it may block: the queue then fills and drops are counted, but no request
//! waits. Others wait for it, so standard output, which whoever started the guard may have forgotten to read, has a thread of its
//! own.

mod bridge;
mod collector;
mod file;
mod filter;
mod pipe;
mod stream;

use std::io::{self, Write};

pub use bridge::{TRACING_TARGET, TracingSink};
pub use collector::Collector;
pub use file::{FILE_MODE, FileSink, ReopenHandle};
pub use filter::{Filter, names};
pub use stream::StreamSink;

use super::encode::Encoder;
use super::{Event, Kind, Record};
use crate::clock::Timestamp;

/// Somewhere that records are written to.
pub trait Sink: Send {
    /// What it is called in messages: `stdout`, `file`.
    fn name(&self) -> &str;

    /// Whether it wants a record. Seals it is given all the same.
    fn wants(&self, record: &Record) -> bool {
        let _ = record;
        true
    }

    /// Takes one record; it may keep it back until [`flush`](Self::flush).
    ///
    /// # Errors
    /// When it could not be written. It is then lost to this sink, and the writer says so once.
    fn take(&mut self, record: &Record) -> io::Result<()>;

    /// Writes out what it kept back: called after each batch.
    ///
    /// # Errors
    /// When it could not be written.
    fn flush(&mut self) -> io::Result<()>;

    /// The same, and waits until it is where it outlives a crash, if this sink has such a place: somebody waits for it.
    ///
    /// # Errors
    /// When it could not be written.
    fn sync(&mut self) -> io::Result<()> {
        self.flush()
    }

    /// Whether it wants to be flushed soon, though nothing happens.
    fn is_waiting(&self) -> bool {
        false
    }

    /// What it has to tell itself, to all sinks: asked after each batch until there is nothing.
    fn tells(&mut self, now: Timestamp) -> Option<Event> {
        let _ = now;
        None
    }

    /// Whether what it was given, and [`sync`](Self::sync) said is well, outlives a crash.
    fn keeps(&self) -> bool {
        false
    }

    /// What it was given and had to give up, since it was asked last: asked after each batch.
    fn lost(&mut self) -> Vec<Lost> {
        Vec::new()
    }

    /// What it has to tell before it is closed, once all else was given to it.
    fn ends(&mut self, now: Timestamp) -> Option<Event> {
        let _ = now;
        None
    }
}

/// An event that a sink gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its kind.
    pub kind: Kind,
    /// Its number.
    pub seq: u64,
}

/// Bytes of lines that are gathered before they are written.
pub const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Lines on their way to something that takes bytes.
#[derive(Debug)]
struct Lines {
    encoder: Encoder,
    filter: Filter,
    batch: Batch,
    lost: Vec<Lost>,
    spout: Spout,
}

/// Lines that are written together.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each line in it ends, and of which event it is.
    ends: Vec<(usize, Lost)>,
}

/// Where lines are poured out.
#[derive(Debug, Default)]
struct Spout {
    /// The last write ended inside a line.
    torn: bool,
}

impl Lines {
    fn new(encoder: Encoder) -> Self {
        let (batch, spout) = (Batch::default(), Spout::default());
        Self { encoder, filter: Filter::default(), batch, lost: Vec::new(), spout }
    }

    /// Adds a line, and says whether it is time to write.
    fn add(&mut self, record: &Record) -> Fill {
        let Batch { bytes, ends } = &mut self.batch;
        self.encoder.encode(record, bytes);
        ends.push((bytes.len(), Lost { kind: record.event.kind(), seq: record.seq }));
        if bytes.len() >= BUFFER_BYTES_MAX { Fill::Full } else { Fill::Room }
    }

    /// Writes all lines. What could not be written is given up: a sink that is stuck must not grow.
    fn pour(&mut self, to: &mut dyn Write) -> io::Result<()> {
        self.spout.pour(&mut self.batch, &mut self.lost, to)
    }
}

impl Batch {
    /// Gives up what lies behind so many bytes.
    fn give_up(&mut self, written: usize, lost: &mut Vec<Lost>) {
        lost.extend(self.ends.drain(..).filter(|(end, _)| *end > written).map(|(_, lost)| lost));
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_BYTES_MAX * 2);
    }
}

impl Spout {
    fn pour(&mut self, batch: &mut Batch, lost: &mut Vec<Lost>, to: &mut dyn Write) -> io::Result<()> {
        if batch.bytes.is_empty() {
            return to.flush();
        }
        // So that the next line is whole, whatever became of the last.
        if self.torn {
            match write_counted(to, b"\n") {
                (_, Ok(())) => self.torn = false,
                (_, Err(error)) => {
                    batch.give_up(0, lost);
                    return Err(error);
                }
            }
        }
        let (written, result) = write_counted(to, &batch.bytes);
        if let Some(last) = written.checked_sub(1) {
            self.torn = batch.bytes.get(last) != Some(&b'\n');
        }
        batch.give_up(written, lost);
        result.and_then(|()| to.flush())
    }
}

enum Fill {
    Room,
    Full,
}

/// Like `write_all`, and tells how far it came.
pub(super) fn write_counted(to: &mut dyn Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Scene;
    use crate::event::kinds::GuardStopped;

    /// A disk that has room for so many bytes.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room).min(7);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_torn_by_a_full_disk_does_not_spoil_the_next_one() {
        let mut lines = Lines::new(Encoder::default());
        let record = Record::new(Timestamp::EPOCH, Scene::default(), GuardStopped {}.into());
        let mut disk = Disk { bytes: Vec::new(), room: 30 };
        lines.add(&record);
        assert_eq!(lines.pour(&mut disk).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(lines.batch.bytes.is_empty());
        lines.add(&Record { seq: 1, ..record.clone() });
        assert!(lines.pour(&mut disk).is_err());
        let lost = |seq| Lost { kind: Kind::GuardStopped, seq };
        assert_eq!(std::mem::take(&mut lines.lost), [lost(0), lost(1)]);
        // Of a batch those are lost that are not there as a whole.
        let mut one = Vec::new();
        lines.encoder.encode(&record, &mut one);
        disk.room = one.len() + 10;
        for seq in 2..5 {
            lines.add(&Record { seq, ..record.clone() });
        }
        assert!(lines.pour(&mut disk).is_err());
        assert_eq!(std::mem::take(&mut lines.lost), [lost(3), lost(4)]);
        disk.room = usize::MAX;
        for _ in 0..2 {
            lines.add(&record);
            lines.pour(&mut disk).unwrap();
        }
        let text = String::from_utf8(disk.bytes).unwrap();
        let whole: Vec<_> = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).collect();
        assert_eq!(whole, [false, true, false, true, true]);
        assert!(lines.lost.is_empty() && lines.batch.ends.is_empty());
        assert!(text.ends_with('\n'));
    }
}
