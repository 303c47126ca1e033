//! The records that everybody sees, spread over shards: what `load` reads.
//!
//! A digest is the SHA-256 of an id, so its own bytes are hash enough: they are evenly spread, and only ids that we made
//! are ever inserted. A client can choose what is looked up, never what is stored, so no bucket can be made long.
//!
//! Changes that belong together are made while all their shards are locked. A rotation done shard by shard would show, for
//! a moment, both ids or neither.

use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::RwLock;

use super::Change;
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
        let mut shard = self.shard(record.digest.spread()).write();
        let old = put_in(&mut shard, record);
        // Freed outside the lock: dropping a record gives back four pieces of memory.
        drop(shard);
        drop(old);
    }

    /// Makes all these changes at one moment: whoever has seen one of them sees the others.
    pub(super) fn publish(&self, mut changes: Vec<Change>) {
        // In order of the shards, so that nobody who did the same would wait for one who waits for him.
        changes.sort_unstable_by_key(|change| Self::place(&change.digest));
        let is_together = |one: &Change, other: &Change| Self::place(&one.digest) == Self::place(&other.digest);
        let of_shards = || changes.chunk_by(is_together);
        let firsts = of_shards().filter_map(|changes| changes.first());
        let mut locked: Vec<_> = firsts.map(|change| self.shard(change.digest.spread()).write()).collect();
        let mut old = Vec::with_capacity(changes.len());
        for (changes, shard) in of_shards().zip(&mut locked) {
            old.extend(changes.iter().map(|change| match &change.after {
                Some(record) => put_in(shard, Arc::clone(record)),
                None => remove_from(shard, &change.digest),
            }));
        }
        drop(locked);
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

/// Puts a record in the place of the one under its digest; gives that one.
fn put_in(shard: &mut HashTable<Arc<Record>>, record: Arc<Record>) -> Option<Arc<Record>> {
    let spread = record.digest.spread();
    match shard.find_mut(hash(spread), |old| old.digest == record.digest) {
        Some(place) => Some(std::mem::replace(place, record)),
        None => {
            shard.insert_unique(hash(spread), record, |record| hash(record.digest.spread()));
            None
        }
    }
}

/// Takes the record under a digest away, and gives it.
fn remove_from(shard: &mut HashTable<Arc<Record>>, digest: &SessionDigest) -> Option<Arc<Record>> {
    let entry = shard.find_entry(hash(digest.spread()), |record| record.digest == *digest).ok()?;
    let (old, _) = entry.remove();
    // After a flood the table gives its memory back.
    if shard.capacity() > 256 && shard.len() < shard.capacity() / 8 {
        shard.shrink_to(0, |record| hash(record.digest.spread()));
    }
    Some(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::anonymous;

    /// A load that had seen the new session could be followed by one that found the old session living still.
    #[test]
    fn what_is_published_together_is_seen_together() {
        const ROUNDS: u64 = 100_000;
        let shards = Shards::new();
        let at = |nth, version| Arc::new(Record { version, ..anonymous(nth) });
        let publish = |version| {
            let changes = [1, 2, 3].map(|nth| at(nth, version));
            shards
                .publish(changes.map(|after| Change { digest: after.digest, before: None, after: Some(after) }).into());
        };
        let version = |nth| shards.get(&anonymous(nth).digest).map(|record| record.version).unwrap();
        publish(0);
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=ROUNDS).for_each(publish));
            for order in [[1, 2, 3], [3, 2, 1]] {
                scope.spawn(move || {
                    let mut last = 0;
                    while last < ROUNDS {
                        let seen = order.map(version);
                        assert!(last <= seen[0] && seen.is_sorted(), "{seen:?} after {last}");
                        last = seen[2];
                    }
                });
            }
        });
    }
}
