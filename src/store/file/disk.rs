//! How a batch is written to files: first the journal, then each of them.
//!
//! One file is replaced in one step, a batch is not. So it is written to the journal first, and what the journal holds is
//! finished whatever happens: after a crash by the next start.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::directory::Files;
use super::journal::{self, Entry};
use crate::session::record::{DecodeError, Record};
use crate::store::StoreError;
use crate::store::on_disk::{self, Damaged, Written};
use crate::store::row::Rows;
use crate::store::table::Change;

/// Writing failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// In the file system.
    #[error(transparent)]
    File(#[from] io::Error),
    /// A record could not be sealed.
    #[error(transparent)]
    Seal(StoreError),
}

/// What an attempt to write left behind.
enum Left {
    Nothing,
    /// Maybe a journal. None of its files was touched.
    Journal,
    /// A journal, and some of its files.
    Files(Vec<Entry>),
}

/// Files in a directory.
pub(super) struct Disk<F> {
    files: F,
    rows: Arc<Rows>,
    left: Left,
}

impl<F: Files> Disk<F> {
    /// Finishes what a crash has left.
    pub(super) fn open(files: F, rows: Arc<Rows>) -> io::Result<Self> {
        let mut disk = Self { files, rows, left: Left::Nothing };
        let journal = disk.files.read_journal()?;
        if let Some(entries) = journal::decode(&journal) {
            disk.left = Left::Files(entries);
        }
        disk.finish()?;
        Ok(disk)
    }

    /// Does what the journal says, as often as need be: it comes to the same.
    fn finish(&mut self) -> io::Result<()> {
        if let Left::Files(entries) = &self.left {
            for Entry { digest, row } in entries {
                match row {
                    Some(row) => self.files.put(digest, row)?,
                    None => self.files.remove(digest)?,
                }
            }
            let folders: BTreeSet<u8> = entries.iter().filter_map(|entry| entry.digest.0.first().copied()).collect();
            for first in folders {
                self.files.sync(first)?;
            }
        }
        // Should a crash bring it back, the next start does the same once more: no file is changed before the next journal
        // has taken its place for good.
        self.files.end_journal()?;
        self.left = Left::Nothing;
        Ok(())
    }

    fn entry(&self, change: &Change) -> Result<Entry, DiskError> {
        let row = change.after.as_ref().map(|record| self.rows.seal(record)).transpose().map_err(DiskError::Seal)?;
        Ok(Entry { digest: change.digest, row })
    }
}

impl<F: Files> on_disk::Disk for Disk<F> {
    type Error = DiskError;

    /// To count files is to read their names, so no room is made.
    fn count(&self) -> Result<usize, DiskError> {
        Ok(0)
    }

    fn read_all(&mut self, mut take: impl FnMut(Result<Record, Damaged>)) -> Result<(), DiskError> {
        self.files.read_rows(&mut |digest, row| {
            let record = row.ok_or(DecodeError::Damaged).and_then(|row| self.rows.decode(&digest, row));
            take(record.map_err(|error| Damaged { digest, error, removable_at: None }));
        })?;
        Ok(())
    }

    fn write(&mut self, batch: Vec<Change>) -> Result<(), DiskError> {
        let entries = batch.iter().map(|change| self.entry(change)).collect::<Result<Vec<_>, _>>()?;
        self.left = Left::Journal;
        self.files.write_journal(&journal::encode(&entries))?;
        self.left = Left::Files(entries);
        Ok(self.finish()?)
    }

    /// Takes back what only the journal has, and finishes what was begun.
    fn resolve(&mut self) -> Option<Written> {
        match self.left {
            Left::Nothing => Some(Written::No),
            Left::Journal => {
                self.files.write_journal(&[]).ok()?;
                self.left = Left::Nothing;
                Some(Written::No)
            }
            Left::Files(_) => self.finish().ok().map(|()| Written::Yes),
        }
    }
}
