//! Durable sessions in files, one for each: for small sites, and for looking at.
//!
//! ```text
//!   lock                   held while a process has the store open; "portcullis sessions 1"
//!   journal                the batch that is being written; empty otherwise
//!   sessions/3f/3fa4..     a session, sealed (see `store::row`); its name is its digest, its folder the first byte
//! ```
//!
//! All sessions are in memory as well, and what is answered is on disk, as with the embedded store. What is different:
//! a backup or an `rsync` sees a file for each session that changed, a session is ended by hand by removing its file while
//! the store is closed, and whoever steals the files can not read them. A change is dear: it waits for three syncs, and
//! a batch of changes for one more for each file, so a site of many logins a second wants the embedded store.
//!
//! A rotation writes two files. A batch is written to the journal first, and a start after a crash finishes what the
//! journal has: the rotation happened, or it did not, and never are both ids good.

mod directory;
mod disk;
mod journal;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::directory::{Directory, Files};
use self::disk::Disk;
pub use self::disk::DiskError;
use super::SESSIONS_MAX_DEFAULT;
pub use super::on_disk::{DAMAGED_NAMED_MAX, Damaged, Loaded};
use super::on_disk::{OnDisk, Pace, store_on_disk};
use super::row::Rows;

/// How a store of files works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most sessions it keeps, ended ones that are still kept included.
    pub sessions_max: NonZeroUsize,
    /// How long what nobody waits for may stay in memory alone.
    pub soon: Duration,
    /// After a failed write, how long before the next is tried.
    pub retry: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sessions_max: SESSIONS_MAX_DEFAULT, soon: Duration::from_secs(1), retry: Duration::from_secs(1) }
    }
}

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open, or this one has already.
    #[error("another guard uses this store: {}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It was written by a newer program.
    #[error("{} has format {found}, and this program does not know it: use the newer program", path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It is a directory of something else.
    #[error("{} is not a session store", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// The directory or a file in it can not be made, read or written.
    #[error("the session store {} can not be opened: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: DiskError,
    },
}

/// A store of files in a directory of its own. Who changes something waits for the disk with the
/// timers of Tokio: the runtime needs them (`enable_time`, which `#[tokio::main]` sets).
#[derive(Debug)]
pub struct FileStore {
    on_disk: OnDisk,
    rows: Arc<Rows>,
    path: PathBuf,
}

impl FileStore {
    /// Opens the store in a directory, which is made if it is not there, finishes what a crash has left, and reads all
    /// sessions. It blocks: a minute for a million sessions on a slow disk.
    ///
    /// # Errors
    /// [`OpenError`]: when it is in use, written by a newer program, no store, or can not be read or written. A file that
    /// is damaged, or sealed under a key that `rows` does not have, is no error; see [`Loaded`].
    pub fn open(directory: &Path, rows: Arc<Rows>, settings: Settings) -> Result<(Self, Loaded), OpenError> {
        Self::open_with(directory, Directory::open(directory)?, rows, settings)
    }

    fn open_with<F: Files>(
        path: &Path,
        files: F,
        rows: Arc<Rows>,
        settings: Settings,
    ) -> Result<(Self, Loaded), OpenError> {
        let pace = Pace { sessions_max: settings.sessions_max, soon: settings.soon, retry: settings.retry };
        let opened = Disk::open(files, rows.clone()).map_err(DiskError::from).and_then(|disk| OnDisk::open(disk, pace));
        match opened {
            Ok((on_disk, loaded)) => Ok((Self { on_disk, rows, path: path.to_owned() }, loaded)),
            Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
        }
    }

    /// What seals its files: to put another ring of keys in force.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many sessions it holds, ended ones that are still kept included.
    pub fn count(&self) -> usize {
        self.on_disk.count()
    }

    /// Writes what is left and closes the files. Loading still works afterwards, changing does not.
    pub async fn close(&self) {
        self.on_disk.close().await;
    }
}

store_on_disk!(FileStore.on_disk);
