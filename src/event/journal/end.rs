//! How a journal ends: where it goes on, and what a crash left behind the last whole line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::disk::own;
use super::line::{Head, Line};
use super::seal::Seal;
use super::segments::{self, beside};
use super::{LINE_BYTES_MAX, WAITING_BYTES_MAX};
use crate::clock::Timestamp;
use crate::secret::sha256;

/// Of a file so much is looked over from its end: more than is written between two moments at which all is on disk.
const TAIL_BYTES: u64 = 2 * WAITING_BYTES_MAX as u64;
/// What is kept of what was taken off; more is put beside, and what was there before goes.
const CUTS_BYTES_MAX: u64 = 4 * TAIL_BYTES;

/// How a file ends.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The number and time of its first event.
    pub(super) first: Option<(u64, Option<Timestamp>)>,
    /// The last whole line: its number and hash.
    pub(super) line: Option<(u64, Option<Head>)>,
    /// Bytes up to there.
    pub(super) bytes: u64,
    /// What stands behind it.
    pub(super) torn: Option<Torn>,
    /// The last seal and the number of its line, if it is among the last lines.
    pub(super) seal: Option<(u64, Seal)>,
    /// Where the first line is that was damaged when it had been on disk long since.
    pub(super) damaged: Option<u64>,
    /// It is none of a journal.
    pub(super) is_foreign: bool,
}

/// What a crash left.
#[derive(Debug)]
pub(super) struct Torn {
    pub(super) bytes: Vec<u8>,
}

impl End {
    /// A crash of the machine may leave zeros and holes among what was not on disk yet, and lines behind them: it ends where the
    /// first of these is. What stands before a seal whose number is below `next_seal` was on disk, for the key of a seal goes when
    /// that is: if a line there is none, no crash did it, and what is behind it stays.
    pub(super) fn of(file: &mut File, next_seal: u64) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let mut end = Self::default();
        if len == 0 {
            return Ok(end);
        }
        let head = read_at(file, 0, len.min(LINE_BYTES_MAX as u64))?;
        let first = memchr::memchr(b'\n', &head).and_then(|at| head.get(..at));
        let begins = first.and_then(Line::parse);
        end.first = begins.map(|line| (line.seq, line.ts()));
        if begins.is_none() {
            // One line that was begun, or what may stand where it was to be.
            let is_ours = head.starts_with(b"{\"ts\":\"") && first.is_none() || head.iter().all(|byte| *byte == 0);
            end.is_foreign = !is_ours || len > TAIL_BYTES;
            if !end.is_foreign {
                end.torn = Some(Torn { bytes: read_at(file, 0, len)? });
            }
            return Ok(end);
        }
        let from = len.saturating_sub(TAIL_BYTES);
        let tail = read_at(file, from, len - from)?;
        // The tail begins in the middle of a line, unless it is all there is.
        let mut at = if from == 0 { 0 } else { memchr::memchr(b'\n', &tail).map_or(tail.len(), |at| at + 1) };
        let mut behind = None;
        while let Some((text, rest)) = tail.get(at..).and_then(line_of) {
            if let Some(line) = Line::parse(text) {
                end.line = Some((line.seq, line.head));
                end.seal = Seal::of(line.body).map(|seal| (line.seq, seal)).or(end.seal);
            } else if behind
                .get_or_insert_with(|| behind_seals(rest, end.line.map_or(0, |(seq, _)| seq), next_seal))
                .is_some_and(|bytes| rest.len() >= bytes)
            {
                end.damaged.get_or_insert(from + at as u64);
            } else {
                break;
            }
            at = tail.len() - rest.len();
        }
        // A whole tail of something else is not what a crash leaves.
        end.is_foreign = end.line.is_none();
        end.bytes = from + at as u64;
        let rest = tail.get(at..).unwrap_or_default();
        if !rest.is_empty() {
            end.torn = Some(Torn { bytes: rest.to_vec() });
        }
        Ok(end)
    }
}

/// A line without its newline, and what is behind it.
fn line_of(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = memchr::memchr(b'\n', text)?;
    Some((text.get(..length)?, text.get(length + 1..)?))
}

/// How many bytes are behind the last seal with such a number, in a line behind that of `seq`: what stood on the disk before this
/// file did may show up too.
fn behind_seals(text: &[u8], seq: u64, next_seal: u64) -> Option<usize> {
    let (mut rest, mut behind) = (text, None);
    while let Some((line, after)) = line_of(rest) {
        let is_sure =
            |line: Line<'_>| line.seq > seq && Seal::of(line.body).is_some_and(|seal| seal.number < next_seal);
        if Line::parse(line).is_some_and(is_sure) {
            behind = Some(after.len());
        }
        rest = after;
    }
    behind
}

fn read_at(file: &mut File, from: u64, bytes: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut out = Vec::new();
    file.take(bytes).read_to_end(&mut out)?;
    Ok(out)
}

/// Keeps what is taken off the end, before it is: a line that says what it is, and the bytes behind it.
pub(super) fn note_cut(journal: &Path, at: u64, torn: &Torn, now: Timestamp) -> io::Result<()> {
    let path = beside(journal, "cut");
    let note = serde_json::json!({
        "at": now.to_string(),
        "offset": at,
        "bytes": torn.bytes.len(),
        "sha256": Head(sha256(&torn.bytes)).to_string(),
    });
    if std::fs::metadata(&path).is_ok_and(|about| about.len() > CUTS_BYTES_MAX) {
        std::fs::rename(&path, beside(journal, "cut.old"))?;
    }
    let mut file = own(OpenOptions::new().append(true).create(true), &path)?;
    // On a line of its own, whatever became of the last one.
    file.write_all(&[b"\n", note.to_string().as_bytes(), b"\n", &torn.bytes, b"\n"].concat())?;
    file.sync_all()?;
    File::open(segments::folder(journal))?.sync_all()
}
