//! What a store that writes to disk needs besides: changes wait, are written together, and are published or undone.

use std::sync::Arc;

#[cfg(any(feature = "embedded", feature = "file"))]
use super::Ground;
use super::{Change, Commit, Table};
use crate::session::id::SessionDigest;
use crate::session::record::Record;

impl Table {
    /// What the decisions since the last call rest on.
    #[cfg(any(feature = "embedded", feature = "file"))]
    pub(in crate::store) const fn take_ground(&mut self) -> Ground {
        std::mem::replace(&mut self.ground, Ground::Published)
    }

    /// Makes room for so many records, so that taking them in moves none about.
    #[cfg(any(feature = "embedded", feature = "file"))]
    pub(in crate::store) fn reserve(&self, records: usize) {
        self.shards.reserve(records);
    }

    /// Takes in a record as it was found on disk, seen at once; none if there is one under its digest already.
    pub(in crate::store) fn restore(&mut self, record: Record) -> Option<()> {
        if self.shards.get(&record.digest).is_some() {
            return None;
        }
        let record = Arc::new(record);
        self.index.apply(None, Some(&record));
        self.shards.put(&record);
        Some(())
    }

    /// Takes note of what is stored under a digest, seen at once. Nothing may be staged under it.
    #[cfg(feature = "tower-sessions")]
    pub(in crate::store) fn learn(&mut self, digest: &SessionDigest, stored: Option<Record>) {
        let before = self.shards.get(digest);
        if before.as_deref() == stored.as_ref() {
            return;
        }
        let after = stored.map(Arc::new);
        self.index.apply(before.as_ref(), after.as_ref());
        self.shards.publish(vec![Change { digest: *digest, before, after }]);
    }

    /// Removes what is stored under a digest and could not be read, unless there is something that could.
    #[cfg(any(feature = "embedded", feature = "file"))]
    pub(in crate::store) fn remove_unread(&mut self, digest: &SessionDigest) {
        if self.latest(digest).is_some() {
            return;
        }
        self.open.put(Change { digest: *digest, before: None, after: None });
        self.ground = Ground::Open;
    }

    /// Whether changes wait to be written.
    #[cfg(any(feature = "embedded", feature = "file"))]
    pub(in crate::store) fn has_open(&self) -> bool {
        !self.open.0.is_empty()
    }

    /// Replaces a record by one made from the version that is stored.
    pub(in crate::store) fn commit(&mut self, record: Record) -> Commit {
        let (stored, record) = match self.next_version(record) {
            Ok(both) => both,
            Err(answer) => return answer,
        };
        self.stage(Some(stored), Some(Arc::clone(&record)));
        Commit::Done(record)
    }

    /// Whether there is a staged change under a digest.
    pub(in crate::store) fn is_staged(&self, digest: &SessionDigest) -> bool {
        let is = |found: &SessionDigest| found == digest;
        self.open.find(digest.spread(), is).is_some() || self.writing.find(digest.spread(), is).is_some()
    }

    /// The changes to be written next; decisions go on beside them.
    pub(in crate::store) fn begin_writing(&mut self) -> Vec<Change> {
        debug_assert!(self.writing.0.is_empty());
        std::mem::swap(&mut self.open, &mut self.writing);
        self.writing.0.iter().cloned().collect()
    }

    /// Lets everybody see what was written, all of it at one moment.
    pub(in crate::store) fn publish_written(&mut self) {
        self.shards.publish(self.writing.take());
    }

    /// Forgets the changes that wait to be written.
    #[cfg(any(feature = "embedded", feature = "file"))]
    pub(in crate::store) fn undo_open(&mut self) {
        self.open.drain(|change| self.index.apply(change.after.as_ref(), change.before.as_ref()));
    }

    /// Forgets the changes that were being written. Those that wait may rest on them and must be undone first.
    pub(in crate::store) fn undo_writing(&mut self) {
        self.writing.drain(|change| self.index.apply(change.after.as_ref(), change.before.as_ref()));
    }
}
