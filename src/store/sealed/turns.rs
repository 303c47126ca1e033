//! Turns: changes of one session, and beginnings and ends of the sessions of one subject, come one after the other.

use std::hash::BuildHasher as _;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::{Mutex, MutexGuard};

use crate::session::id::SessionDigest;
use crate::session::subject::folded;
use crate::store::StoreError;

/// How many there are; sessions and subjects share them by chance.
const TURNS: usize = 256;

/// How long somebody waits for his turn, if nothing else is said: others may wait for a store that does not answer.
pub const TURN_MAX: Duration = Duration::from_secs(5);

/// Who shares a turn with whom is nobody's to choose; but a test that plays everything in every order needs the same each time.
#[cfg(not(test))]
type Hasher = std::hash::RandomState;
#[cfg(test)]
type Hasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// All turns.
#[derive(Debug)]
pub(super) struct Turns {
    all: Box<[Mutex<()>]>,
    /// How long somebody waits.
    pub(super) wait_max: Duration,
    hasher: Hasher,
}

/// Turns that somebody has.
pub(super) type Held<'a> = SmallVec<[MutexGuard<'a, ()>; 4]>;

impl Turns {
    pub(super) fn new() -> Self {
        Self { all: (0..TURNS).map(|_| Mutex::default()).collect(), wait_max: TURN_MAX, hasher: Hasher::default() }
    }

    /// Waits until nobody else changes these sessions, or begins or ends sessions of these subjects.
    pub(super) async fn take<'a>(
        &self,
        digests: impl IntoIterator<Item = &'a SessionDigest>,
        subjects: impl IntoIterator<Item = &'a str>,
    ) -> Result<Held<'_>, StoreError> {
        let subjects = subjects.into_iter().map(|subject| self.hasher.hash_one(&*folded(subject)));
        let all = digests.into_iter().map(SessionDigest::spread).chain(subjects);
        let mut places: SmallVec<[u64; 4]> = all.map(|number| number % TURNS as u64).collect();
        // In one order, so that nobody waits for one who waits for him.
        places.sort_unstable();
        places.dedup();
        let mut held = SmallVec::new();
        for turn in places.into_iter().filter_map(|place| self.all.get(usize::try_from(place).ok()?)) {
            held.push(match turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => match tokio::time::timeout(self.wait_max, turn.lock()).await {
                    Ok(turn) => turn,
                    Err(_) => return Err(StoreError::io("others take too long to change the same sessions")),
                },
            });
        }
        Ok(held)
    }
}
