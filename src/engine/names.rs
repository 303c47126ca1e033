//! Names that one client fails to log in with: somebody who tries passwords that were stolen elsewhere, or one password on everybody.
//!
//! What is kept is a table of a fixed size in this process, of the clients that failed last. Of names it has short keyed hashes.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::limit::ClientKey;
use crate::session::subject::folded;

/// So many names of one client within [`NAMES_WITHIN`] are told. People behind one address forget passwords too.
pub const NAMES_MAX: usize = 20;

/// How long a client is watched from its first failure on.
pub const NAMES_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Sets of a table, and clients that each remembers: 8,192 in all, in less than a megabyte.
const SETS: usize = 1024;
const WAYS: usize = 8;

#[derive(Clone, Copy, Default)]
struct Slot {
    client: u64,
    since: Timestamp,
    count: usize,
    names: [u32; NAMES_MAX],
}

/// Which names clients failed with.
pub(super) struct Names {
    sets: Box<[Mutex<[Slot; WAYS]>]>,
    hasher: RandomState,
}

impl Default for Names {
    fn default() -> Self {
        Self { sets: (0..SETS).map(|_| Mutex::new([Slot::default(); WAYS])).collect(), hasher: RandomState::new() }
    }
}

impl Names {
    /// A client failed to log in by this name. Gives how many names it has tried when that is to be told, once in
    /// [`NAMES_WITHIN`].
    pub(super) fn failed(&self, ClientKey(client): ClientKey, name: &str, now: Timestamp) -> Option<u32> {
        let at = usize::try_from(self.hasher.hash_one(client) % SETS as u64).ok()?;
        let mut set = self.sets.get(at)?.lock();
        let place = set.iter().position(|slot| slot.client == client && slot.count > 0);
        let oldest = || set.iter().enumerate().min_by_key(|(_, slot)| slot.since).map(|(at, _)| at);
        let slot = place.or_else(oldest).and_then(|at| set.get_mut(at))?;
        if slot.client != client || slot.count == 0 || now.since(slot.since) >= NAMES_WITHIN {
            *slot = Slot { client, since: now, ..Slot::default() };
        }
        let name = u32::try_from(self.hasher.hash_one(&*folded(name)) >> 32).ok()?;
        let (known, free) = slot.names.split_at_mut_checked(slot.count)?;
        if known.contains(&name) {
            return None;
        }
        *free.first_mut()? = name;
        slot.count += 1;
        (slot.count == NAMES_MAX).then(|| u32::try_from(NAMES_MAX).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ClientKey = ClientKey(7);

    fn at(second: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + second)
    }

    fn fails(names: &Names, client: ClientKey, count: usize, now: Timestamp) -> Vec<u32> {
        (0..count).filter_map(|nth| names.failed(client, &format!("user{nth}"), now)).collect()
    }

    #[test]
    fn so_many_names_are_told_once() {
        let names = Names::default();
        assert!(fails(&names, CLIENT, NAMES_MAX - 1, at(0)).is_empty());
        // The same ones again, in whatever spelling, are no more.
        assert!(fails(&names, CLIENT, NAMES_MAX - 1, at(1)).is_empty());
        assert_eq!(names.failed(CLIENT, " USER3", at(1)), None);
        assert_eq!(names.failed(ClientKey(8), "another", at(1)), None, "nor are those of another client");
        assert_eq!(names.failed(CLIENT, "another", at(2)), Some(20));
        assert!(fails(&names, CLIENT, 100, at(3)).is_empty(), "it was told");
    }

    #[test]
    fn after_a_while_a_client_begins_anew() {
        let names = Names::default();
        assert!(fails(&names, CLIENT, NAMES_MAX - 1, at(0)).is_empty());
        assert_eq!(names.failed(CLIENT, "another", at(NAMES_WITHIN.as_secs())), None);
        assert_eq!(fails(&names, CLIENT, NAMES_MAX, at(700)), [20]);
    }

    #[test]
    fn any_number_of_clients_takes_the_same_room() {
        let names = Names::default();
        for client in 0..100_000 {
            names.failed(ClientKey(client), "root", at(client / 1000));
        }
        assert!(SETS * WAYS * size_of::<Slot>() < 1 << 20);
        assert_eq!(fails(&names, ClientKey(u64::MAX), NAMES_MAX, at(200)), [20], "there is room for the next one");
    }
}
