//! Durable sessions in one file, with redb.
//!
//! All sessions are in memory as well, so `load` never touches the disk: a request must not wait for one, and a cache
//! that holds only some would make a miss, which any made-up cookie is, the slow case. The price is memory, about 700
//! bytes a session, and a start that reads the whole file.
//!
//! Records are sealed (see [`row`](super::row)): whoever steals the file learns how many sessions there are and when they were
//! given their ids, and can not use them.
//!
//! What is answered is on disk, whatever happens next: creation, rotation, revocation and durable commits wait for the
//! batch that they are in. [`Durability::Soon`](super::Durability::Soon) does not wait: a crash may lose the last second of it.
//! A disk that does not answer within ten seconds is an error; what was decided may still come true.

mod disk;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::disk::{Disk, Open};
pub use self::disk::{DiskError, OpenError};
use super::SESSIONS_MAX_DEFAULT;
pub use super::on_disk::{DAMAGED_NAMED_MAX, Damaged, Loaded};
use super::on_disk::{OnDisk, Pace, store_on_disk};
use super::row::Rows;

/// How an embedded store works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most sessions it keeps, ended ones that are still kept included.
    pub sessions_max: NonZeroUsize,
    /// How long what nobody waits for may stay in memory alone.
    pub soon: Duration,
    /// After a failed write, how long before the next is tried.
    pub retry: Duration,
    /// Pages of the file that are kept in memory for writing, in bytes.
    pub cache_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sessions_max: SESSIONS_MAX_DEFAULT,
            soon: Duration::from_secs(1),
            retry: Duration::from_secs(1),
            cache_bytes: 32 << 20,
        }
    }
}

/// A store in one file, `sessions.redb` in a directory of its own. Who changes something waits for the disk with the
/// timers of Tokio: the runtime needs them (`enable_time`, which `#[tokio::main]` sets).
#[derive(Debug)]
pub struct EmbeddedStore {
    on_disk: OnDisk,
    rows: Arc<Rows>,
    path: PathBuf,
}

impl EmbeddedStore {
    /// Opens the store in a directory, which is made if it is not there, and reads all sessions. It blocks: a few
    /// seconds for a million sessions.
    ///
    /// # Errors
    /// [`OpenError`]: when it is in use, written by a newer program, no store, or can not be read or written. A record
    /// that is damaged, or sealed under a key that `rows` does not have, is no error; see [`Loaded`].
    pub fn open(directory: &Path, rows: Arc<Rows>, settings: Settings) -> Result<(Self, Loaded), OpenError> {
        let (path, open) = disk::file(directory, settings.cache_bytes)?;
        Self::open_with(path, open, rows, settings)
    }

    fn open_with(path: PathBuf, open: Open, rows: Arc<Rows>, settings: Settings) -> Result<(Self, Loaded), OpenError> {
        let disk = Disk::open(&path, open, rows.clone())?;
        let pace = Pace { sessions_max: settings.sessions_max, soon: settings.soon, retry: settings.retry };
        match OnDisk::open(disk, pace) {
            Ok((on_disk, loaded)) => Ok((Self { on_disk, rows, path }, loaded)),
            Err(source) => Err(OpenError::Io { path, source }),
        }
    }

    /// What seals its records: to put another ring of keys in force.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many sessions it holds, ended ones that are still kept included.
    pub fn count(&self) -> usize {
        self.on_disk.count()
    }

    /// Writes what is left and closes the file. Loading still works afterwards, changing does not.
    pub async fn close(&self) {
        self.on_disk.close().await;
    }
}

store_on_disk!(EmbeddedStore.on_disk);
