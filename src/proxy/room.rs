//! Room for the beginnings of bodies that are waited for: what a gate looks at lies in memory until its client has sent it
//! all, and a client can take minutes for that.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Octets of each body that take no room. The form of an honest login is smaller, so no flood can use up what it needs; and a
/// connection has buffers that are larger.
const FREE: usize = 2 << 10;

/// Octets that all peeks of one proxy hold together.
#[derive(Debug, Default)]
pub(super) struct Room(AtomicUsize);

/// There is no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Room {
    /// Lets a peek that has `taken` so much grow to `octets`, if all together stay within `max`. Returns what it has now.
    pub(super) fn grow(&self, taken: usize, octets: usize, max: usize) -> Result<usize, Full> {
        let wanted = octets.saturating_sub(FREE).max(taken);
        let more = wanted - taken;
        let fits = |held: usize| held.checked_add(more).filter(|held| more == 0 || *held <= max);
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) {
            Ok(_) => Ok(wanted),
            Err(_) => Err(Full),
        }
    }

    pub(super) fn give_back(&self, taken: usize) {
        self.0.fetch_sub(taken, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_a_small_form_is_counted_and_given_back() {
        let room = Room::default();
        let max = 10_000;
        assert_eq!(room.grow(0, FREE, max), Ok(0));
        assert_eq!(room.grow(0, FREE + 6_000, max), Ok(6_000));
        assert_eq!(room.grow(0, FREE + 6_000, max), Err(Full));
        assert_eq!(room.grow(0, FREE + 4_000, max), Ok(4_000));
        // Full, and a small form still finds its way; a peek that stays as it is does too.
        assert_eq!(room.grow(0, 100, max), Ok(0));
        assert_eq!(room.grow(6_000, FREE + 6_000, max), Ok(6_000));
        assert_eq!(room.grow(6_000, FREE + 6_001, max), Err(Full));
        room.give_back(4_000);
        assert_eq!(room.grow(6_000, FREE + 10_000, max), Ok(10_000));
    }
}
