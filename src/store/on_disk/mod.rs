//! What stores that outlive the process share: a table in memory, and a disk that is written through one thread.
//!
//! A store is this and a [`Disk`]: what a record looks like there, and how a batch of changes is written wholly or not at
//! all. All sessions are in memory as well, so `load` never touches the disk.

mod writer;

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::RwLock;

use self::writer::{Shared, write_batches};
use super::table::{Change, Swept, Table, list};
use super::{Commit, Creation, Durability, Ending, Filter, Page, Rotate, Rotation, Store, StoreError, SubjectLimit};
use crate::clock::Timestamp;
use crate::session::id::SessionDigest;
use crate::session::record::{DecodeError, Record};

/// How many damaged records are named one by one in what was [`Loaded`].
pub const DAMAGED_NAMED_MAX: usize = 100;

/// A record that can not be read. It is left where it is, for a newer program or a closer look, until its time is over. Who
/// loads it is told so, as by every other store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Digest of the session, as the place where it stands says.
    pub digest: SessionDigest,
    /// What is wrong with it.
    pub error: DecodeError,
    /// When it may be removed, where that is known.
    pub removable_at: Option<Timestamp>,
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

/// Where records outlive the process.
pub(in crate::store) trait Disk: Send + 'static {
    /// Why it could not be read or written.
    type Error: std::error::Error + From<io::Error> + Send + Sync + 'static;

    /// How many records there are, about; room is made for so many.
    fn count(&self) -> Result<usize, Self::Error>;

    /// Gives every record to `take`, and those that can not be read as what they are.
    fn read_all(&mut self, take: impl FnMut(Result<Record, Damaged>)) -> Result<(), Self::Error>;

    /// Writes a batch: what has no `after` any more is removed, and what has no `before` either could not be read. It is all there or not at all, whenever the process or the
    /// machine stops. After an error it may be either; ask [`resolve`](Self::resolve).
    fn write(&mut self, batch: Vec<Change>) -> Result<(), Self::Error>;

    /// Whether the batch that failed is there; none if that can not be told yet.
    fn resolve(&mut self) -> Option<Written>;
}

/// Whether a batch that failed is on disk nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Written {
    Yes,
    No,
}

/// How a store on a disk works.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Pace {
    /// Most records.
    pub(in crate::store) sessions_max: NonZeroUsize,
    /// How long what nobody waits for may stay in memory alone.
    pub(in crate::store) soon: Duration,
    /// After a failed write, how long before the next is tried.
    pub(in crate::store) retry: Duration,
}

/// A table in memory with a disk behind it.
#[derive(Debug)]
pub(in crate::store) struct OnDisk {
    shared: Arc<Shared>,
    /// What could not be read: as a rule nothing.
    damaged: Box<RwLock<HashMap<SessionDigest, Damaged>>>,
    writer: Option<JoinHandle<()>>,
}

impl OnDisk {
    /// Reads everything and starts the thread that writes.
    pub(in crate::store) fn open<D: Disk>(mut disk: D, pace: Pace) -> Result<(Self, Loaded), D::Error> {
        let mut table = Table::new(pace.sessions_max);
        let (sessions, damaged) = load_all(&mut disk, &mut table)?;
        let loaded = Loaded {
            sessions,
            damaged: damaged.len(),
            damaged_named: damaged.iter().take(DAMAGED_NAMED_MAX).cloned().collect(),
        };
        let shared = Arc::new(Shared::new(table, pace.soon, pace.retry));
        let thread = std::thread::Builder::new().name("portcullis-store".into());
        let writers = Arc::clone(&shared);
        let writer = thread.spawn(move || write_batches(writers, disk))?;
        let damaged = damaged.into_iter().map(|damaged| (damaged.digest, damaged)).collect();
        Ok((Self { shared, damaged: Box::new(RwLock::new(damaged)), writer: Some(writer) }, loaded))
    }

    /// Why what is kept under a digest can not be read.
    fn damage(&self, digest: &SessionDigest) -> Option<DecodeError> {
        self.damaged.read().get(digest).map(|damaged| damaged.error)
    }

    /// Removes what can not be read and would be over by now.
    async fn clear_damaged(&self, now: Timestamp, max: usize) -> Result<(), StoreError> {
        let is_over = |damaged: &Damaged| damaged.removable_at.is_some_and(|at| at <= now);
        let over: Vec<_> = self
            .damaged
            .read()
            .values()
            .filter(|damaged| is_over(damaged))
            .map(|damaged| damaged.digest)
            .take(max)
            .collect();
        if over.is_empty() { Ok(()) } else { self.remove_damaged(&over).await }
    }

    async fn remove_damaged(&self, over: &[SessionDigest]) -> Result<(), StoreError> {
        let remove = |table: &mut Table| {
            over.iter().for_each(|digest| table.remove_unread(digest));
            Ok(())
        };
        self.shared.change(remove).await?;
        let mut damaged = self.damaged.write();
        for digest in over {
            damaged.remove(digest);
        }
        Ok(())
    }

    /// How many sessions it holds, ended ones that are still kept included.
    pub(in crate::store) fn count(&self) -> usize {
        self.shared.table().count()
    }

    /// Whether changes wait to be written.
    #[cfg(test)]
    pub(in crate::store) fn has_open(&self) -> bool {
        self.shared.table().has_open()
    }

    /// Writes what is left and closes the disk. Loading still works afterwards, changing does not.
    pub(in crate::store) async fn close(&self) {
        self.shared.close();
        self.shared.ended().await;
    }
}

/// Reads everything. One thread reads and decodes, the other builds the table: a start of three seconds becomes one of
/// two.
fn load_all<D: Disk>(disk: &mut D, table: &mut Table) -> Result<(usize, Vec<Damaged>), D::Error> {
    table.reserve(disk.count()?);
    let (full, filled) = std::sync::mpsc::sync_channel::<Vec<Result<Record, Damaged>>>(4);
    std::thread::scope(|scope| {
        let building = scope.spawn(move || {
            let (mut sessions, mut damaged) = (0, Vec::new());
            for record in filled.into_iter().flatten() {
                match record.and_then(|record| restore(record, table)) {
                    Ok(()) => sessions += 1,
                    Err(found) => damaged.push(found),
                }
            }
            (sessions, damaged)
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

fn restore(record: Record, table: &mut Table) -> Result<(), Damaged> {
    let damaged =
        Damaged { digest: record.digest, error: DecodeError::Damaged, removable_at: Some(record.removable_at) };
    table.restore(record).ok_or(damaged)
}

/// Closing takes one last write; [`OnDisk::close`] does it without holding up a thread.
impl Drop for OnDisk {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has told everybody already.
            drop(writer.join());
        }
    }
}

impl Store for OnDisk {
    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        if self.damage(&record.digest).is_some() {
            return Ok(Creation::Exists);
        }
        self.shared.change(|table| Ok(table.create(record, limit, now)?)).await
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        let found = self.shared.shards().get(digest);
        let damage = if found.is_none() { self.damage(digest) } else { None };
        damage.map_or(Ok(found), |error| Err(error.into()))
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
        if self.damage(digest).is_some() && self.shared.shards().get(digest).is_none() {
            // It must not come back with its key.
            self.remove_damaged(&[*digest]).await?;
            return Ok(None);
        }
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

    fn live(&self) -> Option<usize> {
        Some(self.shared.table().live())
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        self.clear_damaged(now, max).await?;
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

/// Makes a type a store by the [`OnDisk`] in it.
macro_rules! store_on_disk {
    ($store:ident . $on_disk:ident) => {
        impl $crate::store::Store for $store {
            fn create(
                &self,
                record: $crate::session::record::Record,
                limit: Option<$crate::store::SubjectLimit>,
                now: $crate::clock::Timestamp,
            ) -> impl Future<Output = Result<$crate::store::Creation, $crate::store::StoreError>> + Send {
                self.$on_disk.create(record, limit, now)
            }

            fn load(
                &self,
                digest: &$crate::session::id::SessionDigest,
            ) -> impl Future<
                Output = Result<Option<std::sync::Arc<$crate::session::record::Record>>, $crate::store::StoreError>,
            > + Send {
                self.$on_disk.load(digest)
            }

            fn commit(
                &self,
                record: $crate::session::record::Record,
                durability: $crate::store::Durability,
            ) -> impl Future<Output = Result<$crate::store::Commit, $crate::store::StoreError>> + Send {
                self.$on_disk.commit(record, durability)
            }

            fn rotate(
                &self,
                rotate: $crate::store::Rotate<'_>,
            ) -> impl Future<Output = Result<$crate::store::Rotation, $crate::store::StoreError>> + Send {
                self.$on_disk.rotate(rotate)
            }

            fn revoke(
                &self,
                digest: &$crate::session::id::SessionDigest,
                ending: $crate::store::Ending,
            ) -> impl Future<
                Output = Result<Option<std::sync::Arc<$crate::session::record::Record>>, $crate::store::StoreError>,
            > + Send {
                self.$on_disk.revoke(digest, ending)
            }

            fn revoke_subject(
                &self,
                subject: &str,
                except: Option<&$crate::session::id::SessionDigest>,
                ending: $crate::store::Ending,
            ) -> impl Future<
                Output = Result<Vec<std::sync::Arc<$crate::session::record::Record>>, $crate::store::StoreError>,
            > + Send {
                self.$on_disk.revoke_subject(subject, except, ending)
            }

            fn list(
                &self,
                filter: &$crate::store::Filter,
                after: Option<$crate::session::id::SessionDigest>,
                max: usize,
            ) -> impl Future<Output = Result<$crate::store::Page, $crate::store::StoreError>> + Send {
                self.$on_disk.list(filter, after, max)
            }

            fn live(&self) -> Option<usize> {
                self.$on_disk.live()
            }

            fn clear_expired(
                &self,
                now: $crate::clock::Timestamp,
                max: usize,
            ) -> impl Future<Output = Result<usize, $crate::store::StoreError>> + Send {
                self.$on_disk.clear_expired(now, max)
            }
        }
    };
}
pub(in crate::store) use store_on_disk;
