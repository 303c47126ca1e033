//! A table of numbers by hashed key that grows no further than it was told: the memory of every limit.
//!
//! The key itself is not kept, only its SipHash under a random key of this process, so that a client can neither choose
//! who he collides with nor be read from memory. A number stands for "owes until then": larger is worse, and below the
//! present time it means nothing at all.
//!
//! A set has 16 slots, and a key belongs to one set. A newcomer to a full set takes the slot of a key that owes nothing any
//! more. If all of them owe something the table grows; and once it may not grow any further, the newcomer takes the slot
//! that owes least **and inherits what it owes**. What was thrown out can therefore never be less than what its owner finds
//! when it returns: nobody clears his own debt by spraying keys. (The same holds for the counters of the Space-Saving
//! algorithm: Metwally, Agrawal, El Abbadi, 2005.) So a table is as large as the number of keys that ever owed something at
//! one time, which in quiet times lies in the processor's cache.

use std::fmt;
use std::num::NonZeroUsize;

use parking_lot::Mutex;

/// Slots of a set. Sixteen keys are two cache lines, and a set fills up long after the table is half full.
const WAYS: usize = 16;
/// Locks of a table: enough that the cores of one machine rarely meet at one.
const SHARDS_MAX: usize = 64;
/// Sets of a shard that nobody was counted in yet.
const SETS_AT_FIRST: usize = 2;

/// Sixteen keys, then the sixteen numbers they stand for.
type Set = [u64; 2 * WAYS];

struct Shard {
    sets: Vec<Set>,
    sets_max: usize,
}

pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
}

impl Table {
    /// A table with room for `keys_max` keys in the end, rounded up to whole sets: 16 bytes each.
    pub(super) fn new(keys_max: NonZeroUsize) -> Self {
        let sets = keys_max.get().div_ceil(WAYS);
        let shards = sets.next_power_of_two().min(SHARDS_MAX);
        let sets_max = sets.div_ceil(shards);
        let shard = || Shard { sets: vec![[0; 2 * WAYS]; SETS_AT_FIRST.min(sets_max)], sets_max };
        Self { shards: (0..shards).map(|_| Mutex::new(shard())).collect() }
    }

    /// How many keys it can tell apart now, and in the end.
    pub(super) fn slots(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(|shard| shard.lock());
        shards.fold((0, 0), |(now, most), shard| (now + shard.sets.len() * WAYS, most + shard.sets_max * WAYS))
    }

    /// What the key owes: its own number, or the one it would inherit.
    pub(super) fn read(&self, hash: u64) -> u64 {
        let Some(shard) = self.shards.get(index(hash >> 32, self.shards.len())) else { return 0 };
        let mut shard = shard.lock();
        let may_grow = shard.sets.len() < shard.sets_max;
        match shard.slot(hash) {
            // A newcomer would be given a slot of its own.
            Some(slot) if may_grow && *slot.key != hash => 0,
            slot => slot.map_or(0, |slot| *slot.value),
        }
    }

    /// Gives `step` what the key owes; what it returns is kept, and an error keeps everything as it was. A number up to
    /// `nothing` means nothing any more.
    pub(super) fn update<T, E>(
        &self,
        hash: u64,
        nothing: u64,
        step: impl Fn(u64) -> Result<(T, u64), E>,
    ) -> Result<T, E> {
        self.visit(hash, nothing, |slot| {
            let (out, next) = step(*slot.value)?;
            *slot.key = hash;
            *slot.value = next;
            Ok(out)
        })
    }

    /// Takes back what the key owes. A key without a slot of its own owes nothing that could be taken back.
    pub(super) fn clear(&self, hash: u64) {
        self.visit(hash, u64::MAX, |slot| {
            if *slot.key == hash {
                *slot.value = 0;
            }
        });
    }

    fn visit<T>(&self, hash: u64, nothing: u64, act: impl FnOnce(Slot<'_>) -> T) -> T {
        // The highest bits choose the shard, the lowest 32 the set within it.
        let shard = index(hash >> 32, self.shards.len());
        let (mut nowhere, mut owes_nothing) = (hash, 0);
        let slot = Slot { key: &mut nowhere, value: &mut owes_nothing };
        match self.shards.get(shard) {
            Some(shard) => {
                let mut shard = shard.lock();
                shard.make_room(hash, nothing);
                act(shard.slot(hash).unwrap_or(slot))
            }
            None => act(slot),
        }
    }
}

impl Shard {
    /// Grows until a newcomer has a slot of its own, as far as it may.
    fn make_room(&mut self, hash: u64, nothing: u64) {
        while self.sets.len() < self.sets_max && self.is_crowded(hash, nothing) {
            self.grow(nothing);
        }
    }

    /// Whether the key has no slot, and no other key of its set would give one up for nothing.
    fn is_crowded(&self, hash: u64, nothing: u64) -> bool {
        self.sets.get(index(hash & 0xffff_ffff, self.sets.len())).is_some_and(|set| {
            let (keys, values) = set.split_at(WAYS);
            values.iter().all(|value| *value > nothing) && !keys.contains(&hash)
        })
    }

    /// Twice the sets, with every key that still owes something in its new one.
    fn grow(&mut self, nothing: u64) {
        let sets = (self.sets.len() * 2).min(self.sets_max);
        let old = std::mem::replace(&mut self.sets, vec![[0; 2 * WAYS]; sets]);
        for set in old {
            let (keys, values) = set.split_at(WAYS);
            for (key, value) in keys.iter().zip(values).filter(|(_, value)| **value > nothing) {
                // Where the sets are not doubled, a new one may have to take in more keys than it has slots. Who owes least
                // is left out then, and finds no less on return.
                if let Some(slot) = self.slot(*key).filter(|slot| *slot.value <= *value) {
                    (*slot.key, *slot.value) = (*key, *value);
                }
            }
        }
    }

    /// The slot of that key, else the one that owes least.
    fn slot(&mut self, hash: u64) -> Option<Slot<'_>> {
        let set = index(hash & 0xffff_ffff, self.sets.len());
        let (keys, values) = self.sets.get_mut(set)?.split_at_mut(WAYS);
        let own = keys.iter().position(|key| *key == hash);
        let at = own.or_else(|| values.iter().enumerate().min_by_key(|(_, value)| **value).map(|(at, _)| at))?;
        Some(Slot { key: keys.get_mut(at)?, value: values.get_mut(at)? })
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("slots", &self.slots().0).finish()
    }
}

struct Slot<'a> {
    key: &'a mut u64,
    value: &'a mut u64,
}

/// Spreads a 32-bit number evenly over `0..len`: a multiplication instead of a division.
fn index(spread: u64, len: usize) -> usize {
    let len = u64::try_from(len).unwrap_or(u64::MAX);
    usize::try_from(spread.wrapping_mul(len) >> 32).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(keys_max: usize) -> Table {
        Table::new(NonZeroUsize::new(keys_max).unwrap())
    }

    fn set(table: &Table, hash: u64, value: u64) {
        table.update(hash, 0, |_| Ok::<_, ()>(((), value))).unwrap();
    }

    #[test]
    fn its_greatest_size_is_close_to_what_was_asked() {
        for (asked, given) in [(1, 16), (16, 16), (17, 32), (1000, 1024), (1_000_000, 1_000_448)] {
            assert_eq!(table(asked).slots().1, given, "{asked}");
        }
    }

    #[test]
    fn a_key_finds_its_number_again() {
        let table = table(1 << 16);
        let hashes: Vec<u64> = (1..1000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        for hash in &hashes {
            set(&table, *hash, hash >> 8);
        }
        assert!(hashes.iter().all(|hash| table.read(*hash) == hash >> 8));
        let first = hashes[0];
        assert_eq!(table.update(first, 0, |_| Err::<((), u64), _>("no")), Err("no"));
        assert_eq!(table.read(first), first >> 8);
        table.clear(first);
        assert_eq!(table.read(first), 0);
    }

    #[test]
    fn a_newcomer_to_a_full_set_inherits_the_least_debt() {
        let table = table(16);
        for key in 1..=16 {
            set(&table, key, 100 + key);
        }
        assert_eq!(table.read(99), 101, "it would inherit that much");
        table.clear(99);
        assert_eq!(table.read(1), 101);
        table.update(99, 0, |owed| Ok::<_, ()>(((), owed + 50))).unwrap();
        // Key 1 was thrown out while it owed 101, and finds no less.
        assert_eq!(table.read(1), 102);
        assert_eq!(table.read(99), 151);
    }

    #[test]
    fn nobody_ever_finds_less_than_he_owed() {
        // One set, forty keys in turn, each visit adding to what it finds.
        let table = table(16);
        let mut owed = [0u64; 40];
        let mut state = 7u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = usize::try_from(state >> 33).unwrap() % owed.len();
            let found =
                table.update(key as u64 + 1, 0, |found| Ok::<_, ()>((found, found + 1 + (state >> 60)))).unwrap();
            assert!(found >= owed[key], "key {key} owed {} and found {found}", owed[key]);
            owed[key] = found + 1 + (state >> 60);
        }
    }

    #[test]
    fn it_grows_for_those_who_owe_and_for_nobody_else() {
        let table = table(1 << 16);
        let small = table.slots().0;
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // At the time 10 whatever is owed until then means nothing any more.
        for n in 1..100_000 {
            table.update(hash(n), 10, |_| Ok::<_, ()>(((), 10))).unwrap();
        }
        assert_eq!(table.slots().0, small);
        for n in 1..20_000 {
            table.update(hash(n), 10, |owed| Ok::<_, ()>(((), owed.max(10) + n))).unwrap();
        }
        assert!((1..20_000).all(|n| table.read(hash(n)) == 10 + n), "nobody was thrown out while there was room");
        let (slots, most) = table.slots();
        assert!(slots > small && slots < most, "{slots}");
        for n in 1..1_000_000 {
            table.update(hash(n), 10, |owed| Ok::<_, ()>(((), owed.max(10) + 1))).unwrap();
        }
        assert_eq!(table.slots(), (most, most));
    }

    #[test]
    fn whatever_its_size_is_growing_loses_no_debt() {
        // One shard and up to seven sets: 2, 4, and then 7, which is no doubling.
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for sets in [3, 5, 7, 13] {
            let table =
                Table { shards: Box::new([Mutex::new(Shard { sets: vec![[0; 2 * WAYS]; 2], sets_max: sets })]) };
            let mut owed = std::collections::HashMap::new();
            for round in 0..4000_u64 {
                let key = hash(round % 300 + 1);
                let found = table.update(key, 0, |found| Ok::<_, ()>((found, found + 1 + round % 7))).unwrap();
                let before = owed.insert(key, found + 1 + round % 7).unwrap_or(0);
                assert!(found >= before, "{sets} sets: {found} instead of {before}");
            }
        }
    }

    #[test]
    fn while_it_may_grow_a_newcomer_owes_nothing() {
        let table = Table { shards: Box::new([Mutex::new(Shard { sets: vec![[0; 2 * WAYS]; 1], sets_max: 2 })]) };
        for key in 1..=16 {
            set(&table, key, 100 + key);
        }
        assert_eq!((table.read(99), table.read(7)), (0, 107));
    }
}
