//! Durable sessions in one file, with redb.
//!
//! All sessions are in memory as well, so `load` never touches the disk: a request must not wait for one, and a cache
//! that holds only some would make a miss, which any made-up cookie is, the slow case. The price is memory, about 700
//! bytes a session, and a start that reads the whole file.
//!
//! What is answered is on disk, whatever happens next: creation, rotation, revocation and durable commits wait for the
//! batch that they are in. [`Durability::Soon`] does not wait: a crash may lose the last second of it.

mod disk;
#[cfg(test)]
mod tests;
mod writer;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::disk::{Damaged, DiskError, OpenError};
use self::disk::{Disk, Open};
use self::writer::{Shared, write_batches};
use super::table::{Swept, Table, list};
use super::{
    Commit, Creation, Durability, Ending, Filter, Page, Rotate, Rotation, SESSIONS_MAX_DEFAULT, Store, StoreError,
    SubjectLimit,
};
use crate::clock::Timestamp;
use crate::session::id::SessionDigest;
use crate::session::record::{DecodeError, Record};

/// How many damaged records are named one by one in what was [`Loaded`].
pub const DAMAGED_NAMED_MAX: usize = 100;

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

/// What was found when a store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// How many sessions, ended ones that are still kept included.
    pub sessions: usize,
    /// How many records could not be read, and were left alone.
    pub damaged: usize,
    /// The first of them.
    pub damaged_named: Vec<Damaged>,
}

/// A store in one file, `sessions.redb` in a directory of its own.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl EmbeddedStore {
    /// Opens the store in a directory, which is made if it is not there, and reads all sessions. It blocks: a few
    /// seconds for a million sessions.
    ///
    /// # Errors
    /// [`OpenError`]: when it is in use, written by a newer program, no store, or can not be read or written. A record
    /// that is damaged is no error; see [`Loaded`].
    pub fn open(directory: &Path, settings: Settings) -> Result<(Self, Loaded), OpenError> {
        let (path, open) = disk::file(directory, settings.cache_bytes)?;
        Self::open_with(path, open, settings)
    }

    fn open_with(path: PathBuf, open: Open, settings: Settings) -> Result<(Self, Loaded), OpenError> {
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let disk = Disk::open(&path, open)?;
        let mut table = Table::new(settings.sessions_max);
        let loaded = load_all(&disk, &mut table).map_err(failed)?;
        let shared = Arc::new(Shared::new(table, settings.soon, settings.retry));
        let thread = std::thread::Builder::new().name("portcullis-store".into());
        let writers = Arc::clone(&shared);
        let writer = thread.spawn(move || write_batches(writers, disk)).map_err(|error| failed(error.into()))?;
        Ok((Self { shared, writer: Some(writer), path }, loaded))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many sessions it holds, ended ones that are still kept included.
    pub fn count(&self) -> usize {
        self.shared.table().count()
    }

    /// Writes what is left and closes the file. Loading still works afterwards, changing does not.
    pub async fn close(&self) {
        self.shared.close();
        self.shared.ended().await;
    }
}

/// Reads everything. One thread reads and decodes, the other builds the table: a start of three seconds becomes one of
/// two.
fn load_all(disk: &Disk, table: &mut Table) -> Result<Loaded, DiskError> {
    table.reserve(disk.count()?);
    let (full, filled) = std::sync::mpsc::sync_channel::<Vec<Result<Record, Damaged>>>(4);
    std::thread::scope(|scope| {
        let building = scope.spawn(move || {
            let mut loaded = Loaded::default();
            filled.into_iter().flatten().for_each(|record| restore(record, table, &mut loaded));
            loaded
        });
        let mut batch = Vec::new();
        let read = disk.read_all(|record| {
            batch.push(record);
            if batch.len() == 1024 {
                // It fails only if the other thread is gone, and joining it tells.
                drop(full.send(std::mem::take(&mut batch)));
            }
        });
        drop(full.send(batch));
        drop(full);
        let loaded = building.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        read.map(|()| loaded)
    })
}

fn restore(record: Result<Record, Damaged>, table: &mut Table, loaded: &mut Loaded) {
    let restored = record.and_then(|record| {
        let digest = record.digest;
        table.restore(record).ok_or(Damaged { digest, error: DecodeError::Damaged })
    });
    match restored {
        Ok(()) => loaded.sessions += 1,
        Err(damaged) => {
            loaded.damaged += 1;
            if loaded.damaged_named.len() < DAMAGED_NAMED_MAX {
                loaded.damaged_named.push(damaged);
            }
        }
    }
}

/// Closing takes one last write; [`EmbeddedStore::close`] does it without holding up a thread.
impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has told everybody already.
            drop(writer.join());
        }
    }
}

impl Store for EmbeddedStore {
    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        self.shared.change(|table| Ok(table.create(record, limit, now)?)).await
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        Ok(self.shared.shards().get(digest))
    }

    async fn commit(&self, record: Record, durability: Durability) -> Result<Commit, StoreError> {
        let record = match durability {
            Durability::Durable => record,
            Durability::Soon => match self.shared.commit_soon(record)? {
                Ok(answer) => return Ok(answer),
                Err(record) => record,
            },
        };
        self.shared.change(|table| Ok(table.commit(record))).await
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        self.shared.change(|table| Ok(table.rotate(rotate)?)).await
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        self.shared.change(|table| Ok(table.revoke(digest, ending))).await
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        self.shared.change(|table| Ok(table.revoke_subject(subject, except, ending))).await
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        Ok(list(self.shared.shards(), || self.shared.table(), filter, after, max).await)
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        let mut gone = 0;
        while gone < max {
            // One batch of writing for all that is looked at under the lock in turn.
            match self.shared.change(|table| Ok(table.sweep(now, max - gone))).await? {
                Swept::All(removed) => return Ok(gone + removed),
                Swept::Some(removed) => gone += removed,
            }
            tokio::task::yield_now().await;
        }
        Ok(gone)
    }
}
