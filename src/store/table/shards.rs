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

use super::packed::{Packed, Recent};
use super::{Change, Filter, matches};
use crate::session::id::{Ref, SessionDigest};
use crate::session::record::Record;

/// How many shards there are: one for each value of a digest's first byte, so that shards are in order of digests.
const SHARDS: usize = 256;

/// On a cache line of its own: a lock taken in one shard would slow its neighbour otherwise.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(RwLock<Held>);

/// The records of a shard.
#[derive(Debug, Default)]
struct Held {
    all: HashTable<Packed>,
    recent: Recent,
}

impl Held {
    fn packed(&self, spread: u64, is: impl Fn(&SessionDigest) -> bool) -> Option<&Packed> {
        let is = |digest: SessionDigest| digest.spread() == spread && is(&digest);
        self.all.find(hash(spread), |packed| is(packed.digest()))
    }

    /// Puts a change in force; gives what it took the place of.
    fn apply(&mut self, digest: &SessionDigest, after: Option<(Packed, &Arc<Record>)>) -> Old {
        let recent = self.recent.change(digest, after.as_ref().map(|(_, record)| *record));
        let packed = match after {
            Some((packed, _)) => self.put(digest, packed),
            None => self.remove(digest),
        };
        Old { _recent: recent, _packed: packed }
    }

    fn put(&mut self, digest: &SessionDigest, packed: Packed) -> Option<Packed> {
        let hash = hash(digest.spread());
        match self.all.find_mut(hash, |old| old.digest() == *digest) {
            Some(place) => Some(std::mem::replace(place, packed)),
            None => {
                self.all.insert_unique(hash, packed, hash_of);
                None
            }
        }
    }

    fn remove(&mut self, digest: &SessionDigest) -> Option<Packed> {
        let entry = self.all.find_entry(hash(digest.spread()), |packed| packed.digest() == *digest).ok()?;
        let (old, _) = entry.remove();
        // After a flood the table gives its memory back.
        if self.all.capacity() > 256 && self.all.len() < self.all.capacity() / 8 {
            self.all.shrink_to(0, hash_of);
        }
        Some(old)
    }
}

/// What a change took the place of: to be dropped when no lock is held, since that gives back several pieces of memory.
struct Old {
    _recent: Option<Arc<Record>>,
    _packed: Option<Packed>,
}

fn hash_of(packed: &Packed) -> u64 {
    hash(packed.digest().spread())
}

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
    fn shard(&self, spread: u64) -> &RwLock<Held> {
        let [first, ..] = spread.to_be_bytes();
        &self.0[usize::from(first)].0
    }

    /// The record under a digest, for a request: the next one of its session finds it at hand.
    pub(in crate::store) fn get(&self, digest: &SessionDigest) -> Option<Arc<Record>> {
        let (spread, is) = (digest.spread(), |found: &SessionDigest| found == digest);
        let shard = self.shard(spread).read();
        if let Some(record) = shard.recent.find(spread, is) {
            return Some(record);
        }
        let record = Arc::new(shard.packed(spread, is)?.unpack()?);
        let displaced = shard.recent.missed(&record);
        drop(shard);
        drop(displaced);
        Some(record)
    }

    /// The first record of that short name for which `is` holds.
    pub(super) fn find(&self, spread: u64, is: impl Fn(&SessionDigest) -> bool) -> Option<Arc<Record>> {
        let shard = self.shard(spread).read();
        match shard.recent.find(spread, &is) {
            Some(record) => Some(record),
            None => shard.packed(spread, is)?.unpack().map(Arc::new),
        }
    }

    /// Makes room for so many records, evenly spread.
    #[cfg(any(feature = "embedded", feature = "file"))]
    pub(super) fn reserve(&self, records: usize) {
        for shard in &self.0 {
            shard.0.write().all.reserve(records / SHARDS, hash_of);
        }
    }

    /// Puts a record in the place of the one under its digest.
    pub(in crate::store) fn put(&self, record: &Arc<Record>) {
        let packed = Packed::new(record);
        let mut shard = self.shard(record.digest.spread()).write();
        let old = shard.apply(&record.digest, Some((packed, record)));
        drop(shard);
        drop(old);
    }

    /// Makes all these changes at one moment: whoever has seen one of them sees the others.
    pub(super) fn publish(&self, mut changes: Vec<Change>) {
        // In order of the shards, so that nobody who did the same would wait for one who waits for him.
        changes.sort_unstable_by_key(|change| Self::place(&change.digest));
        let mut packed: Vec<_> = changes.iter().map(|change| change.after.as_deref().map(Packed::new)).collect();
        let mut packed = packed.iter_mut().map(Option::take);
        let is_together = |one: &Change, other: &Change| Self::place(&one.digest) == Self::place(&other.digest);
        let of_shards = || changes.chunk_by(is_together);
        let firsts = of_shards().filter_map(|changes| changes.first());
        let mut locked: Vec<_> = firsts.map(|change| self.shard(change.digest.spread()).write()).collect();
        let mut old = Vec::with_capacity(changes.len());
        for (changes, shard) in of_shards().zip(&mut locked) {
            for change in changes {
                let after = packed.next().flatten().zip(change.after.as_ref());
                old.push(shard.apply(&change.digest, after));
            }
        }
        drop(locked);
        drop(old);
    }

    /// Looks at every record, shard by shard.
    pub(super) fn for_each(&self, look: impl FnMut(Record)) {
        let mut look = look;
        for shard in &self.0 {
            shard.0.read().all.iter().filter_map(Packed::unpack).for_each(&mut look);
        }
    }

    /// Adds to `found` the records of one shard that come after `after` and that the filter names, in order of their
    /// digests, until there are `max`. Gives the next shard.
    pub(super) fn collect(
        &self,
        shard: usize,
        filter: &Filter,
        after: Option<SessionDigest>,
        max: usize,
        found: &mut Vec<Arc<Record>>,
    ) -> Option<usize> {
        if let Some(Shard(shard)) = self.0.get(shard) {
            let shard = shard.read();
            let wanted = |(digest, reference): (SessionDigest, Ref)| {
                after.is_none_or(|after| digest > after) && filter.reference.is_none_or(|wanted| reference == wanted)
            };
            let mut here: Vec<_> = shard.all.iter().filter(|packed| wanted(packed.names())).collect();
            here.sort_unstable_by_key(|packed| packed.digest());
            let records = here.into_iter().filter_map(Packed::unpack).filter(|record| matches(filter, record));
            found.extend(records.take(max.saturating_sub(found.len())).map(Arc::new));
        }
        Some(shard + 1).filter(|next| *next < SHARDS && found.len() < max)
    }

    /// The shard that a digest is in.
    pub(super) fn place(digest: &SessionDigest) -> usize {
        let [first, ..] = digest.0;
        usize::from(first)
    }
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
