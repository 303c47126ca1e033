//! Room for the beginnings of bodies that are waited for: what a gate looks at lies in memory until its client has sent it
//! all, and a client can take minutes for that.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::engine::outlive::{Full, PART, PerClient, add};
use crate::limit::ClientKey;

/// Octets of each body that take no room. The form of an honest login is smaller, so no flood can use up what it needs; and a
/// connection has buffers that are larger.
const FREE: usize = 2 << 10;

/// Octets that all peeks of one proxy hold together, and those of each client.
#[derive(Debug, Default)]
pub(super) struct Room {
    all: AtomicUsize,
    of_clients: PerClient,
}

impl Room {
    /// Lets a peek of a client that has `taken` so much grow to `octets`, if those of the client stay within its part of
    /// `max`, and all together within `max`. Returns what it has now.
    pub(super) fn grow(&self, client: ClientKey, taken: usize, octets: usize, max: usize) -> Result<usize, Full> {
        let wanted = octets.saturating_sub(FREE).max(taken);
        let more = wanted - taken;
        self.of_clients.add(client, more, max / PART)?;
        if add(&self.all, more, max).is_err() {
            self.of_clients.take(client, more);
            return Err(Full);
        }
        Ok(wanted)
    }

    pub(super) fn give_back(&self, client: ClientKey, taken: usize) {
        self.all.fetch_sub(taken, Ordering::AcqRel);
        self.of_clients.take(client, taken);
    }
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
        assert_eq!(room.of_clients.sum(), MAX);
    }
}
