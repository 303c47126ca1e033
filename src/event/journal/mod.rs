//! The journal: events on disk, in order, each line with a hash over itself and all before it.
//!
//! It is one file that only grows, of JSON lines, and when that is large it is put aside under the number of its first event
//! and another one begins. Nothing else is on disk but small files beside it: a lock, the key of the next seal, and how far
//! each receiver has come. Whoever reads it needs no program of ours.
//!
//! | file | what |
//! |---|---|
//! | `NAME` | the newest events |
//! | `NAME.00000000000000012345` | older ones, from that number on |
//! | `NAME.cut` | what a crash left behind the last whole line, written before it is taken off: what it is, and the bytes |
//! | `NAME.seal` | the key of the next seal, and where that begins; each key is made of the one before, which is then gone |
//! | `NAME.seal-key` | the first of them, to check seals with: to be kept elsewhere |
//! | `NAME.lock` | held by the guard that writes; in it, up to which number events may have one |
//!
//! **What is kept.** A line counts when it is on disk, which is waited for at most every [`Settings::sync`] and the second in which it
//! is looked for, or at once where somebody asks for it. What a crash leaves is taken off at the next start, and told; numbers go on
//! behind all that others may have been told. When the disk is full or fails, lines wait in memory, 4 MiB of them, and
//! are written again; of more it is told which are missing, as soon as there is room.
//!
//! **What is noticed.** An edit, a line that was removed, added or moved, and a file that is missing, by the chain alone; a
//! chain that was computed anew, by the seals, as long as the key of the last seal before it was erased; an end that was
//! cut off, by the number of the next seal, and by a head that somebody wrote down elsewhere, such as a sink that got the last
//! seal. Not noticed is what somebody writes who has the machine in his hands, from the last seal before that moment on.

mod disk;
mod end;
mod line;
mod read;
mod seal;
mod segments;
#[cfg(test)]
mod tests;
mod verify;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use line::{Head, Line, NoHead};
pub use read::{Next, Position, Reader};
pub use seal::{SealKey, SealKeyError};
pub use segments::{files, firsts};
pub use verify::{FINDINGS_MAX, Fault, Finding, Report, Verifier, sealed_head};
pub use write::{Journal, Settings};

/// Bytes of events that are kept where nobody says how many.
pub const BYTES_MAX_DEFAULT: u64 = 2 << 30;
/// The fewest bytes that may be kept: some thousand events.
pub const BYTES_MAX_MIN: u64 = 1 << 20;
/// How long a line may wait to be on disk where nobody says how long.
pub const SYNC_DEFAULT: Duration = Duration::from_secs(1);
/// Lines that wait for room on the disk.
pub const WAITING_BYTES_MAX: usize = 4 << 20;
/// Bytes of the longest line that is read. An event has some thousand.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// A journal can not be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system says no.
    #[error("{}: {why}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        why: io::Error,
    },
    /// Another guard writes it.
    #[error("{} is in use: another guard writes it", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The file was there, and is no journal.
    #[error("{} is not a journal of this guard: something else was written there; move it away, or name another file", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// The key of the next seal can not be read.
    #[error("{}: {why}; move it away to begin with a new key, which a check of seals will tell of", path.display())]
    Seal {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        why: SealKeyError,
    },
    /// There is no randomness for a key.
    #[error(transparent)]
    Entropy(#[from] crate::entropy::EntropyError),
}

/// Where the first key of seals stands, until it is put elsewhere.
pub fn first_key_of(journal: &Path) -> PathBuf {
    segments::beside(journal, "seal-key")
}

impl JournalError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |why| Self::Io { path, why }
    }
}
