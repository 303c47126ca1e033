//! The file: what is in it, how it is opened, how a batch is written.
//!
//! ```text
//!   table "meta"     "format" -> 2                     refused if newer
//!                    "batch"  -> number of the last batch that was written
//!   table "records"  id_since in ms (8 bytes, big-endian) || digest (32 bytes)
//!                    -> removable_at in ms (8 bytes, big-endian) || the record, sealed (see `store::row`)
//! ```
//!
//! Until when a record is kept stands before it, so that one whose key is gone goes in its time like any other.
//!
//! The time stands before the digest so that new sessions go to the end of the tree, side by side: a key that began with
//! the digest would put every one of them on a page of its own (measured: 29,000 creations a second instead of 190,000).
//! There is no table of subjects or of times. They follow from the records, which are all read at start.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Builder, CommitError, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageError, TableDefinition, TableError, TableHandle, TransactionError,
};

use crate::clock::Timestamp;
use crate::session::id::SessionDigest;
use crate::session::record::{DecodeError, Record};
use crate::store::StoreError;
use crate::store::on_disk::{self, Damaged, Written};
use crate::store::row::Rows;
use crate::store::table::Change;

/// Version of the file's layout.
const FORMAT: u64 = 2;
/// The one before it, in which records were not sealed.
const FORMAT_PLAIN: u64 = 1;
/// Records of that format that are sealed at a time.
pub(super) const SEALED_AT_ONCE: usize = 4096;
/// The file within the directory of the store.
const FILE: &str = "sessions.redb";

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const RECORDS: TableDefinition<'_, &Key, &[u8]> = TableDefinition::new("records");

/// Where a record stands.
pub(super) type Key = [u8; 40];

/// The key of a record; it stays the same as long as the digest does.
pub(super) fn key(record: &Record) -> Key {
    let mut key = [0; 40];
    let (time, digest) = key.split_at_mut(8);
    time.copy_from_slice(&record.id_since.as_millis().to_be_bytes());
    digest.copy_from_slice(&record.digest.0);
    key
}

/// What happens to one key: its record, or none any more.
type Write = (Key, Option<Vec<u8>>);

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open, or this one has already.
    #[error("another guard uses this store: {}", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer program.
    #[error("{} has format {found}, and this program knows formats up to {FORMAT}: use the newer program", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It is a database of something else.
    #[error("{} is not a session store", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The directory or the file can not be made, read or written.
    #[error("the session store {} can not be opened: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: DiskError,
    },
}

/// Reading or writing the file failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// In the file system.
    #[error(transparent)]
    File(#[from] io::Error),
    /// In the database.
    #[error(transparent)]
    Database(#[from] redb::Error),
    /// A record could not be sealed.
    #[error(transparent)]
    Seal(StoreError),
    /// After a failure the file could not be opened again yet.
    #[error("it was not opened again yet after a failure")]
    Broken,
}

macro_rules! from_redb {
    ($($error:ident)+) => {
        $(impl From<$error> for DiskError {
            fn from(error: $error) -> Self {
                Self::Database(error.into())
            }
        })+
    };
}
from_redb!(DatabaseError TransactionError TableError StorageError CommitError);

/// How a database is opened; tests have one of their own that fails.
pub(super) type Open = Box<dyn Fn() -> Result<Database, DiskError> + Send>;

/// The file.
pub(super) struct Disk {
    open: Open,
    database: Option<Database>,
    batch: u64,
    rows: Arc<Rows>,
    /// Whether it was written by an older program, and nothing has been written to it since.
    is_plain: bool,
    /// Where those stand that could not be read.
    unread: HashMap<SessionDigest, Key>,
}

/// Makes the directory if need be, and says how the file in it is opened. Both are for their owner alone.
pub(super) fn file(directory: &Path, cache_bytes: usize) -> Result<(PathBuf, Open), OpenError> {
    let path = directory.join(FILE);
    make_directory(directory)
        .map_err(DiskError::from)
        .and_then(|()| make_file(directory, &path))
        .map_err(|source| OpenError::Io { path: directory.to_owned(), source })?;
    let at = path.clone();
    let open = move || Ok(Builder::new().set_cache_size(cache_bytes).create_file(open_file(&at)?)?);
    Ok((path, Box::new(open)))
}

fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Makes the file if there is none. It gets its name when it is a database: a crash before leaves nothing that could not
/// be opened again.
fn make_file(directory: &Path, path: &Path) -> Result<(), DiskError> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        return Ok(());
    }
    let unfinished = directory.join(format!("{FILE}.new"));
    forget(&unfinished)?;
    drop(Builder::new().create_file(open_file(&unfinished)?)?);
    if std::fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        forget(path)?;
    }
    // Not over one that another program has made meanwhile. Where there are no links to files, there is a way without.
    if let Err(error) = std::fs::hard_link(&unfinished, path)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        std::fs::rename(&unfinished, path)?;
    }
    forget(&unfinished)?;
    // What was made must also be found after the power went.
    Ok(File::open(directory)?.sync_all()?)
}

/// Removes a file of ours that holds nothing, if it is there.
fn forget(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let permissions = file.metadata()?.permissions();
        // A file that was copied here by hand may be open to others.
        if permissions.mode() & 0o077 != 0 {
            file.set_permissions(PermissionsExt::from_mode(permissions.mode() & 0o700))?;
        }
    }
    Ok(file)
}

impl Disk {
    /// Opens the file and checks that it is one of ours.
    pub(super) fn open(path: &Path, open: Open, rows: Arc<Rows>) -> Result<Self, OpenError> {
        let failed = |source| match source {
            DiskError::Database(redb::Error::DatabaseAlreadyOpen) => OpenError::InUse { path: path.to_owned() },
            source => OpenError::Io { path: path.to_owned(), source },
        };
        let database = open().map_err(failed)?;
        let (format, is_empty) = identify(&database).map_err(failed)?;
        match format {
            Some(FORMAT | FORMAT_PLAIN) => {}
            Some(found) => return Err(OpenError::Newer { path: path.to_owned(), found }),
            None if is_empty => begin(&database).map_err(failed)?,
            None => return Err(OpenError::Foreign { path: path.to_owned() }),
        }
        let batch = last_batch(&database).map_err(failed)?;
        let is_plain = format == Some(FORMAT_PLAIN);
        Ok(Self { open, database: Some(database), batch, rows, is_plain, unread: HashMap::new() })
    }
}

impl on_disk::Disk for Disk {
    type Error = DiskError;

    fn count(&self) -> Result<usize, DiskError> {
        let database = self.database.as_ref().ok_or(DiskError::Broken)?;
        let count = database.begin_read()?.open_table(RECORDS)?.len()?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Oldest id first.
    fn read_all(&mut self, mut take: impl FnMut(Result<Record, Damaged>)) -> Result<(), DiskError> {
        let database = self.database.as_ref().ok_or(DiskError::Broken)?;
        let records = database.begin_read()?.open_table(RECORDS)?;
        for entry in records.range::<&Key>(..)? {
            let (at, value) = entry?;
            let (digest, value) = (digest_of(at.value()), value.value());
            let (removable_at, row) = value.split_first_chunk().filter(|_| !self.is_plain).unzip();
            let record = match row {
                Some(row) => self.rows.decode(&digest, row.to_vec()),
                None if self.is_plain => Record::decode(value),
                None => Err(DecodeError::Damaged),
            };
            // A record that stands under another one's key is not what it says it is.
            take(match record {
                Ok(record) if key(&record) == *at.value() => Ok(record),
                failed => {
                    self.unread.insert(digest, *at.value());
                    let removable_at = removable_at.map(|at| Timestamp::from_millis(u64::from_be_bytes(*at)));
                    Err(Damaged { digest, error: failed.err().unwrap_or(DecodeError::Damaged), removable_at })
                }
            });
        }
        Ok(())
    }

    /// With one commit.
    fn write(&mut self, batch: Vec<Change>) -> Result<(), DiskError> {
        if self.is_plain {
            seal_all(self.database.as_ref().ok_or(DiskError::Broken)?, &self.rows)?;
            self.is_plain = false;
        }
        let mut writes = self.sealed(&batch)?;
        writes.sort_unstable_by_key(|(key, _)| *key);
        let database = self.database.as_ref().ok_or(DiskError::Broken)?;
        commit(database, self.batch + 1, &writes)?;
        self.batch += 1;
        for gone in batch.iter().filter(|change| is_unread(change)) {
            self.unread.remove(&gone.digest);
        }
        Ok(())
    }

    /// Opens the file anew and looks; none if it can not be opened yet. The database refuses everything after an error, and
    /// what a failed write left behind only the file knows.
    fn resolve(&mut self) -> Option<Written> {
        // The old one first: it holds the lock.
        self.database = None;
        let database = (self.open)().ok()?;
        let batch = last_batch(&database).ok()?;
        self.database = Some(database);
        let written = if batch > self.batch { Written::Yes } else { Written::No };
        self.batch = batch;
        Some(written)
    }
}

impl Disk {
    fn sealed(&self, batch: &[Change]) -> Result<Vec<Write>, DiskError> {
        let mut writes = Vec::with_capacity(batch.len());
        for change in batch {
            let before = match &change.before {
                Some(record) => Some(key(record)),
                None if is_unread(change) => self.unread.get(&change.digest).copied(),
                None => None,
            };
            let now = change.after.as_ref().map(|record| key(record));
            if let Some(before) = before.filter(|before| Some(*before) != now) {
                writes.push((before, None));
            }
            if let Some(record) = &change.after {
                let row = self.rows.seal(record).map_err(DiskError::Seal)?;
                writes.push((key(record), Some(value(record.removable_at, &row))));
            }
        }
        Ok(writes)
    }
}

/// Whether it is the end of a record that could not be read.
const fn is_unread(change: &Change) -> bool {
    change.before.is_none() && change.after.is_none()
}

fn digest_of(key: &Key) -> SessionDigest {
    let mut digest = [0; 32];
    digest.copy_from_slice(key.split_at(8).1);
    SessionDigest(digest)
}

fn value(removable_at: Timestamp, row: &[u8]) -> Vec<u8> {
    [&removable_at.as_millis().to_be_bytes(), row].concat()
}

/// Seals the records of a file that was written by an older program, with the first that is written by this one: who only looks changes
/// nothing. What can not be read in it is sealed as it is.
fn seal_all(database: &Database, rows: &Rows) -> Result<(), DiskError> {
    let mut writing = database.begin_write()?;
    writing.set_quick_repair(true);
    {
        // An attempt that seemed to fail may have been made.
        if writing.open_table(META)?.get("format")?.is_some_and(|format| format.value() != FORMAT_PLAIN) {
            return Ok(());
        }
        let mut records = writing.open_table(RECORDS)?;
        let mut after: Option<Key> = None;
        loop {
            let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut writes = Vec::new();
            for entry in records.range::<&Key>((from, Bound::Unbounded))?.take(SEALED_AT_ONCE) {
                let (at, plain) = entry?;
                let (digest, plain) = (digest_of(at.value()), plain.value());
                let removable_at =
                    Record::decode(plain).map_or(Timestamp::from_millis(u64::MAX), |record| record.removable_at);
                let row = rows.seal_encoded(&digest, plain).map_err(DiskError::Seal)?;
                writes.push((*at.value(), value(removable_at, &row)));
            }
            let Some((last, _)) = writes.last() else { break };
            after = Some(*last);
            for (key, value) in &writes {
                records.insert(key, value.as_slice())?;
            }
        }
        writing.open_table(META)?.insert("format", FORMAT)?;
    }
    Ok(writing.commit()?)
}

/// The format of a file if it is one of ours, and whether there is nothing in it.
fn identify(database: &Database) -> Result<(Option<u64>, bool), DiskError> {
    let reading = database.begin_read()?;
    let is_ours = reading.list_tables()?.any(|table| table.name() == META.name());
    if is_ours {
        let format = reading.open_table(META)?.get("format")?.map(|format| format.value());
        return Ok((format, false));
    }
    Ok((None, reading.list_tables()?.next().is_none() && reading.list_multimap_tables()?.next().is_none()))
}

fn begin(database: &Database) -> Result<(), DiskError> {
    let writing = database.begin_write()?;
    {
        let mut meta = writing.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("batch", 0)?;
        writing.open_table(RECORDS)?;
    }
    Ok(writing.commit()?)
}

fn last_batch(database: &Database) -> Result<u64, DiskError> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get("batch")?.map_or(0, |number| number.value()))
}

fn commit(database: &Database, number: u64, writes: &[Write]) -> Result<(), DiskError> {
    let mut writing = database.begin_write()?;
    // Two syncs a batch instead of one, so that a start after a crash need not walk the whole file: half a second less
    // for half a million sessions.
    writing.set_quick_repair(true);
    {
        let mut records = writing.open_table(RECORDS)?;
        for (key, record) in writes {
            match record {
                Some(bytes) => records.insert(key, bytes.as_slice())?,
                None => records.remove(key)?,
            };
        }
        writing.open_table(META)?.insert("batch", number)?;
    }
    Ok(writing.commit()?)
}
