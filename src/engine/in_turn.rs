//! Connections over which a session is used in turn.
//!
//! A browser asks a site over one HTTP/2 connection at a time (RFC 9113 section 9.1); it may leave it for another and does not come
//! back. A session that goes to and fro between two, from one address, is perhaps in two jars. That is no evidence, but new tags
//! prove what it is, so they are offered sooner then. Between addresses people go to and fro as they like: gateways have several
//! ways out, and machines two families of addresses.
//!
//! What is kept is a table of a fixed size in this process, of the sessions that were used last.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::connection::ConnectionId;
use crate::limit::ClientKey;

/// A connection that was left so long ago is not one of two.
const WITHIN: Duration = Duration::from_secs(5 * 60);

/// Sets of a table, and sessions that each remembers: 16,384 in all.
const SETS: usize = 2048;
const WAYS: usize = 8;

#[derive(Clone, Copy, Default)]
struct Slot {
    session: u64,
    /// The connection of the last request, and the one before that.
    now: u64,
    before: u64,
    /// When the one before was left, and when the last request came.
    left: Timestamp,
    seen: Timestamp,
}

/// Which connections sessions are used over.
pub(super) struct InTurn(Box<[Mutex<[Slot; WAYS]>]>);

impl Default for InTurn {
    fn default() -> Self {
        Self((0..SETS).map(|_| Mutex::new([Slot::default(); WAYS])).collect())
    }
}

impl InTurn {
    /// Notes that a session, by a hash of its digest, is used over a connection from a place. Whether it comes back to one that it
    /// left for another from there.
    pub(super) fn comes_back(
        &self,
        session: u64,
        ClientKey(place): ClientKey,
        connection: ConnectionId,
        now: Timestamp,
    ) -> bool {
        // An odd number far from a power of two: what differs between addresses, the low bits, reaches all of the hash.
        let session = session ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = usize::try_from(session % u64::try_from(SETS).unwrap_or(1)).unwrap_or(0);
        let Some(set) = self.0.get(at) else { return false };
        let mut set = set.lock();
        let place = set.iter().position(|slot| slot.session == session);
        let oldest = || set.iter().enumerate().min_by_key(|(_, slot)| slot.seen).map(|(at, _)| at);
        let Some(slot) = place.or_else(oldest).and_then(|at| set.get_mut(at)) else { return false };
        let ConnectionId(connection) = connection;
        if slot.session != session {
            *slot = Slot { session, now: connection, before: connection, left: now, seen: now };
            return false;
        }
        slot.seen = now;
        if slot.now == connection {
            return false;
        }
        let comes_back = slot.before == connection && now.since(slot.left) < WITHIN;
        (slot.now, slot.before, slot.left) = (connection, slot.now, now);
        comes_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: ClientKey = ClientKey(7);

    fn at(second: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + second)
    }

    #[test]
    fn who_comes_back_to_a_connection_takes_turns() {
        let table = InTurn::default();
        let come = |session, connection, second| table.comes_back(session, HOME, ConnectionId(connection), at(second));
        let turns = [1, 1, 2, 2, 1, 2, 3].map(|connection| come(7, connection, connection));
        assert_eq!(turns, [false, false, false, false, true, true, false]);
        // A browser that opens another one now and then.
        assert!((10..30).all(|connection| !come(8, connection, connection)));
        assert!(!come(9, 1, 0) && !come(9, 2, 10) && !come(9, 1, 310), "it was left long ago");
        assert!(come(9, 2, 320));
        // Two ways out of one gateway.
        let out =
            |place, connection, second| table.comes_back(10, ClientKey(place), ConnectionId(connection), at(second));
        assert!((0..20).all(|second| !out(second % 2, second % 2, second)));
    }

    #[test]
    fn it_does_not_grow_and_forgets_who_was_there_least_lately() {
        let table = InTurn::default();
        let step = SETS as u64;
        // One more than fit in a set.
        for number in 0..=WAYS as u64 {
            table.comes_back(number * step, HOME, ConnectionId(1), at(number));
            table.comes_back(number * step, HOME, ConnectionId(2), at(number));
        }
        assert!(!table.comes_back(0, HOME, ConnectionId(1), at(20)), "forgotten");
        assert!(table.comes_back(WAYS as u64 * step, HOME, ConnectionId(1), at(20)));
    }
}
