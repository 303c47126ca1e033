//! A table of numbers by hashed key that never grows: the memory of every limit.
//!
//! The key itself is not kept, only its SipHash under a random key of this process, so that a client can neither choose
//! who he collides with nor be read from memory. A number stands for "owes until then": larger is worse, and below the
//! present time it means nothing at all.
//!
//! A set has 16 slots, and a key belongs to one set. When the set is full, a newcomer takes the slot that owes least
//! **and inherits what it owes**. What was thrown out can therefore never be less than what its owner finds when it
//! returns: nobody clears his own debt by spraying keys. (The same holds for the counters of the Space-Saving algorithm:
//! Metwally, Agrawal, El Abbadi, 2005.) While fewer keys owe something than there are slots, the one that owes least
//! mostly owes nothing, and a newcomer starts afresh.

use std::fmt;
use std::num::NonZeroUsize;

use parking_lot::Mutex;

/// Slots of a set. Sixteen keys are two cache lines, and a set fills up long after the table is half full.
const WAYS: usize = 16;
/// Locks of a table: enough that the cores of one machine rarely meet at one.
const SHARDS_MAX: usize = 64;

/// Sixteen keys, then the sixteen numbers they stand for. An array of integers and not of structs: its zeroes are then
/// asked from the system, and a page that nobody wrote to costs no memory.
type Set = [u64; 2 * WAYS];

/// Sets that come into being together, when the first of them is written to: 4 KiB. Zeroes asked from the system would do
/// the same, but not every allocator passes them on untouched.
const SETS_PER_PAGE: usize = 16;

type Page = [Set; SETS_PER_PAGE];

#[derive(Default)]
struct Shard {
    pages: Vec<Option<Box<Page>>>,
    sets: usize,
}

pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
}

impl Table {
    /// A table with room for `keys_max` keys, rounded up to whole sets: 16 bytes each.
    pub(super) fn new(keys_max: NonZeroUsize) -> Self {
        let sets = keys_max.get().div_ceil(WAYS);
        let shards = sets.next_power_of_two().min(SHARDS_MAX);
        let per_shard = sets.div_ceil(shards);
        let pages = per_shard.div_ceil(SETS_PER_PAGE);
        let shard = || Shard { pages: (0..pages).map(|_| None).collect(), sets: per_shard };
        Self { shards: (0..shards).map(|_| Mutex::new(shard())).collect() }
    }

    /// How many keys it can tell apart.
    pub(super) fn slots(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().sets * WAYS).sum()
    }

    /// What the key owes: its own number, or the one it would inherit.
    pub(super) fn read(&self, hash: u64) -> u64 {
        self.visit(hash, |slot| *slot.value)
    }

    /// Gives `step` what the key owes; what it returns is kept, and an error keeps everything as it was.
    pub(super) fn update<T, E>(&self, hash: u64, step: impl Fn(u64) -> Result<(T, u64), E>) -> Result<T, E> {
        self.visit(hash, |slot| {
            let (out, next) = step(*slot.value)?;
            *slot.key = hash;
            *slot.value = next;
            Ok(out)
        })
    }

    /// Takes back what the key owes. A key without a slot of its own owes nothing that could be taken back.
    pub(super) fn clear(&self, hash: u64) {
        self.visit(hash, |slot| {
            if *slot.key == hash {
                *slot.value = 0;
            }
        });
    }

    fn visit<T>(&self, hash: u64, act: impl FnOnce(Slot<'_>) -> T) -> T {
        // The highest bits choose the shard, the lowest 32 the set within it.
        let shard = index(hash >> 32, self.shards.len());
        let (mut nowhere, mut owes_nothing) = (hash, 0);
        let Some(shard) = self.shards.get(shard) else {
            return act(Slot { key: &mut nowhere, value: &mut owes_nothing });
        };
        let mut shard = shard.lock();
        let set = index(hash & 0xffff_ffff, shard.sets);
        let page = shard.pages.get_mut(set / SETS_PER_PAGE);
        let page = page.map(|page| page.get_or_insert_with(|| Box::new([[0; 2 * WAYS]; SETS_PER_PAGE])));
        match page.and_then(|page| page.get_mut(set % SETS_PER_PAGE)).and_then(|set| choose(set, hash)) {
            Some(slot) => act(slot),
            None => act(Slot { key: &mut nowhere, value: &mut owes_nothing }),
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("slots", &self.slots()).finish()
    }
}

struct Slot<'a> {
    key: &'a mut u64,
    value: &'a mut u64,
}

/// The slot of that key, else the one that owes least.
fn choose(set: &mut Set, hash: u64) -> Option<Slot<'_>> {
    let (keys, values) = set.split_at_mut(WAYS);
    let own = keys.iter().position(|key| *key == hash);
    let at = own.or_else(|| values.iter().enumerate().min_by_key(|(_, value)| **value).map(|(at, _)| at))?;
    Some(Slot { key: keys.get_mut(at)?, value: values.get_mut(at)? })
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
        table.update(hash, |_| Ok::<_, ()>(((), value))).unwrap();
    }

    #[test]
    fn its_size_is_fixed_and_close_to_what_was_asked() {
        for (asked, given) in [(1, 16), (16, 16), (17, 32), (1000, 1024), (1_000_000, 1_000_448)] {
            assert_eq!(table(asked).slots(), given, "{asked}");
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
        assert_eq!(table.update(first, |_| Err::<((), u64), _>("no")), Err("no"));
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
        assert_eq!(table.read(99), 101);
        table.clear(99);
        assert_eq!(table.read(1), 101);
        table.update(99, |owed| Ok::<_, ()>(((), owed + 50))).unwrap();
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
            let found = table.update(key as u64 + 1, |found| Ok::<_, ()>((found, found + 1 + (state >> 60)))).unwrap();
            assert!(found >= owed[key], "key {key} owed {} and found {found}", owed[key]);
            owed[key] = found + 1 + (state >> 60);
        }
    }
}
