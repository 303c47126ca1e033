//! The records that everybody sees, spread over shards: what `load` reads.
//!
//! A digest is the SHA-256 of an id, so its own bytes are hash enough: they are evenly spread, and only ids that we made
//! are ever inserted. A client can choose what is looked up, never what is stored, so no bucket can be made long.

use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::RwLock;

use crate::session::id::SessionDigest;
use crate::session::record::Record;

/// How many shards there are: one for each value of a digest's first byte, so that shards are in order of digests.
const SHARDS: usize = 256;

/// On a cache line of its own: a lock taken in one shard would slow its neighbour otherwise.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(RwLock<HashTable<Arc<Record>>>);

/// All records that are in force.
#[derive(Debug)]
pub(in crate::store) struct Shards(Box<[Shard]>);

/// The hash that tables of records use. The shard took the digest's first byte; the table looks at the lowest bits and
/// at the highest seven, so the halves are swapped to keep that byte away from both.
pub(super) const fn hash(spread: u64) -> u64 {
    spread.rotate_left(32)
}

impl Shards {
    /// No records.
    pub(in crate::store) fn new() -> Self {
        Self((0..SHARDS).map(|_| Shard::default()).collect())
    }

    #[expect(clippy::indexing_slicing, reason = "there is a shard for every value of a byte")]
    fn shard(&self, spread: u64) -> &RwLock<HashTable<Arc<Record>>> {
        let [first, ..] = spread.to_be_bytes();
        &self.0[usize::from(first)].0
    }

    /// The record under a digest.
    pub(in crate::store) fn get(&self, digest: &SessionDigest) -> Option<Arc<Record>> {
        self.find(digest.spread(), |found| found == digest)
    }

    /// The first record of that short name for which `is` holds.
    pub(super) fn find(&self, spread: u64, is: impl Fn(&SessionDigest) -> bool) -> Option<Arc<Record>> {
        let shard = self.shard(spread).read();
        shard.find(hash(spread), |record| record.digest.spread() == spread && is(&record.digest)).cloned()
    }

    /// Makes room for so many records, evenly spread.
    #[cfg(any(feature = "embedded", feature = "file"))]
    pub(super) fn reserve(&self, records: usize) {
        for shard in &self.0 {
            shard.0.write().reserve(records / SHARDS, |record| hash(record.digest.spread()));
        }
    }

    /// Puts a record in the place of the one under its digest.
    pub(in crate::store) fn put(&self, record: Arc<Record>) {
        let spread = record.digest.spread();
        let mut shard = self.shard(spread).write();
        let old = match shard.find_mut(hash(spread), |old| old.digest == record.digest) {
            Some(place) => Some(std::mem::replace(place, record)),
            None => {
                shard.insert_unique(hash(spread), record, |record| hash(record.digest.spread()));
                None
            }
        };
        // Freed outside the lock: dropping a record gives back four pieces of memory.
        drop(shard);
        drop(old);
    }

    /// Takes the record under a digest away.
    pub(super) fn remove(&self, digest: &SessionDigest) {
        let spread = digest.spread();
        let mut shard = self.shard(spread).write();
        let Ok(entry) = shard.find_entry(hash(spread), |record| record.digest == *digest) else { return };
        let (old, _) = entry.remove();
        // After a flood the table gives its memory back.
        if shard.capacity() > 256 && shard.len() < shard.capacity() / 8 {
            shard.shrink_to(0, |record| hash(record.digest.spread()));
        }
        drop(shard);
        drop(old);
    }

    /// Looks at every record, shard by shard.
    pub(super) fn for_each(&self, mut look: impl FnMut(&Arc<Record>)) {
        for shard in &self.0 {
            shard.0.read().iter().for_each(&mut look);
        }
    }

    /// Adds to `found` the records of one shard that come after `after` and for which `matches` holds, in order of their
    /// digests, until there are `max`. Gives the next shard.
    pub(super) fn collect(
        &self,
        shard: usize,
        after: Option<SessionDigest>,
        max: usize,
        matches: impl Fn(&Record) -> bool,
        found: &mut Vec<Arc<Record>>,
    ) -> Option<usize> {
        let room = max.saturating_sub(found.len());
        if let Some(Shard(shard)) = self.0.get(shard) {
            let shard = shard.read();
            let is_after = |record: &&Arc<Record>| after.is_none_or(|after| record.digest > after);
            let mut here: Vec<_> = shard.iter().filter(is_after).filter(|record| matches(record)).collect();
            if here.len() > room {
                here.select_nth_unstable_by_key(room, |record| record.digest);
                here.truncate(room);
            }
            here.sort_unstable_by_key(|record| record.digest);
            found.extend(here.into_iter().cloned());
        }
        Some(shard + 1).filter(|next| *next < SHARDS && found.len() < max)
    }

    /// The shard that a digest is in.
    pub(super) fn place(digest: &SessionDigest) -> usize {
        let [first, ..] = digest.0;
        usize::from(first)
    }
}
