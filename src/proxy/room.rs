//! Room for the beginnings of bodies that are waited for: what a gate looks at lies in memory until its client has sent it
//! all, and a client can take minutes for that.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limit::ClientKey;

/// Octets of each body that take no room. The form of an honest login is smaller, so no flood can use up what it needs; and a
/// connection has buffers that are larger.
const FREE: usize = 2 << 10;

/// One client can have this part of all the room, so that others find some whatever it does.
const PART: usize = 8;

/// Clients are spread over so many counts by a random key: who meets another in one is chance.
const COUNTS: usize = 128;

/// Octets that all peeks of one proxy hold together, and those of each client.
#[derive(Debug)]
pub(super) struct Room {
    all: AtomicUsize,
    of_clients: [AtomicUsize; COUNTS],
    key: RandomState,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            all: AtomicUsize::new(0),
            of_clients: std::array::from_fn(|_| AtomicUsize::new(0)),
            key: RandomState::new(),
        }
    }
}

/// What clients have begun and left alone, counted for each.
#[derive(Debug)]
pub(super) struct Left {
    of_clients: [AtomicUsize; COUNTS],
    key: RandomState,
}

impl Default for Left {
    fn default() -> Self {
        Self { of_clients: std::array::from_fn(|_| AtomicUsize::new(0)), key: RandomState::new() }
    }
}

impl Left {
    /// One more of a client, unless it has left a part of `max` already.
    pub(super) fn one_more(&self, client: ClientKey, max: usize) -> Result<(), Full> {
        add(count_of(&self.of_clients, &self.key, client), 1, (max / PART).max(1))
    }

    pub(super) fn one_less(&self, client: ClientKey) {
        take(count_of(&self.of_clients, &self.key, client), 1);
    }
}

#[expect(clippy::indexing_slicing, reason = "the remainder is less than the number of counts")]
fn count_of<'c>(counts: &'c [AtomicUsize; COUNTS], key: &RandomState, client: ClientKey) -> &'c AtomicUsize {
    let hash = usize::try_from(key.hash_one(client) % COUNTS as u64).unwrap_or(0);
    &counts[hash]
}

/// There is no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Room {
    /// Lets a peek of a client that has `taken` so much grow to `octets`, if those of the client stay within its part of
    /// `max`, and all together within `max`. Returns what it has now.
    pub(super) fn grow(&self, client: ClientKey, taken: usize, octets: usize, max: usize) -> Result<usize, Full> {
        let wanted = octets.saturating_sub(FREE).max(taken);
        let more = wanted - taken;
        add(self.of_client(client), more, max / PART)?;
        if add(&self.all, more, max).is_err() {
            take(self.of_client(client), more);
            return Err(Full);
        }
        Ok(wanted)
    }

    pub(super) fn give_back(&self, client: ClientKey, taken: usize) {
        take(&self.all, taken);
        take(self.of_client(client), taken);
    }

    fn of_client(&self, client: ClientKey) -> &AtomicUsize {
        count_of(&self.of_clients, &self.key, client)
    }
}

fn add(count: &AtomicUsize, more: usize, max: usize) -> Result<(), Full> {
    let fits = |held: usize| held.checked_add(more).filter(|held| more == 0 || *held <= max);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok().map(|_| ()).ok_or(Full)
}

fn take(count: &AtomicUsize, octets: usize) {
    count.fetch_sub(octets, Ordering::AcqRel);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_a_small_form_is_counted_and_given_back() {
        let (room, client) = (Room::default(), ClientKey(1));
        let grow = |taken, octets| room.grow(client, taken, octets, 10_000 * PART);
        assert_eq!(grow(0, FREE), Ok(0));
        assert_eq!(grow(0, FREE + 6_000), Ok(6_000));
        assert_eq!(grow(0, FREE + 6_000), Err(Full));
        assert_eq!(grow(0, FREE + 4_000), Ok(4_000));
        // Full, and a small form still finds its way; a peek that stays as it is does too.
        assert_eq!(grow(0, 100), Ok(0));
        assert_eq!(grow(6_000, FREE + 6_000), Ok(6_000));
        assert_eq!(grow(6_000, FREE + 6_001), Err(Full));
        room.give_back(client, 4_000);
        assert_eq!(grow(6_000, FREE + 10_000), Ok(10_000));
    }

    #[test]
    fn many_clients_together_have_all_the_room_and_no_more() {
        const MAX: usize = 8_000;
        let room = Room::default();
        let got = (0..1000).filter(|client| room.grow(ClientKey(*client), 0, FREE + 1000, MAX).is_ok()).count();
        assert_eq!(got, MAX / 1000);
        // Those who got nothing hold nothing.
        assert_eq!(room.of_clients.iter().map(|count| count.load(Ordering::Relaxed)).sum::<usize>(), MAX);
    }
}
