//! Where each session comes from that this node knows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::session::carried::{Epochs, Origin};
use crate::session::id::SessionDigest;

const SHARDS: usize = 256;

/// How many shards are looked through at a time.
const LOOKED_THROUGH: usize = 8;

/// Origins, by session.
#[derive(Debug)]
pub(super) struct Began {
    shards: Box<[Mutex<HashMap<SessionDigest, Entry>>]>,
    next: AtomicUsize,
}

/// An origin, and whether its session was unknown when it was looked for last: it may have been about to begin.
#[derive(Clone, Copy, Debug)]
struct Entry {
    origin: Origin,
    was_unknown: bool,
}

impl Began {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), next: AtomicUsize::new(0) }
    }

    fn shard(&self, digest: &SessionDigest) -> Option<&Mutex<HashMap<SessionDigest, Entry>>> {
        let [first, ..] = digest.0;
        self.shards.get(usize::from(first))
    }

    pub(super) fn get(&self, digest: &SessionDigest) -> Origin {
        self.shard(digest).and_then(|shard| shard.lock().get(digest).map(|entry| entry.origin)).unwrap_or_default()
    }

    /// Notes that of a session. What was noted before counts too: whoever shows another origin for it takes nothing away.
    pub(super) fn put(&self, digest: SessionDigest, origin: Origin) {
        let Some(shard) = self.shard(&digest) else { return };
        let mut shard = shard.lock();
        let entry = shard.entry(digest).or_insert(Entry { origin, was_unknown: false });
        let (held, shown) = (entry.origin.epochs, origin.epochs);
        entry.origin.epochs =
            Epochs { of_subject: held.of_subject.min(shown.of_subject), of_all: held.of_all.min(shown.of_all) };
        entry.origin.keys = entry.origin.keys.and(origin.keys);
        entry.was_unknown = false;
    }

    pub(super) fn remove(&self, digest: &SessionDigest) {
        if let Some(shard) = self.shard(digest) {
            shard.lock().remove(digest);
        }
    }

    /// Forgets those of some shards that were not known the last time either; all of them in turn.
    pub(super) fn tidy(&self, is_known: impl Fn(&SessionDigest) -> bool) {
        let from = self.next.fetch_add(LOOKED_THROUGH, Ordering::Relaxed) % SHARDS;
        for shard in self.shards.iter().skip(from).take(LOOKED_THROUGH) {
            let mut shard = shard.lock();
            shard.retain(|digest, entry| {
                let is_unknown = !is_known(digest);
                !std::mem::replace(&mut entry.was_unknown, is_unknown) || !is_unknown
            });
            if shard.capacity() > 64 && shard.len() < shard.capacity() / 8 {
                shard.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::KeyId;
    use crate::session::carried::KeySet;

    fn digest(first: u8) -> SessionDigest {
        SessionDigest([first; 32])
    }

    #[test]
    fn what_is_not_known_any_more_is_forgotten_in_turn() {
        let began = Began::new();
        let five = Origin { epochs: Epochs { of_subject: 5, of_all: 0 }, ..Origin::default() };
        (0..=255).for_each(|first| began.put(digest(first), five));
        let kept = || (0..=255).filter(|first| began.get(&digest(*first)) == five).collect::<Vec<u8>>();
        let round = || (0..SHARDS / LOOKED_THROUGH).for_each(|_| began.tidy(|found| *found == digest(9)));
        round();
        assert_eq!(kept().len(), 256, "some may be about to begin");
        began.put(digest(7), five);
        round();
        assert_eq!(kept(), [7, 9]);
        began.remove(&digest(9));
        assert_eq!(began.get(&digest(9)), Origin::default());
    }

    #[test]
    fn another_origin_takes_nothing_away() {
        let began = Began::new();
        let origin = |of_subject, key| {
            let epochs = Epochs { of_subject, of_all: 3 };
            Origin { epochs, keys: KeySet::default().with(KeyId(key)) }
        };
        began.put(digest(1), origin(5, 1));
        began.put(digest(1), origin(9, 2));
        let keys = KeySet::default().with(KeyId(1)).with(KeyId(2));
        assert_eq!(began.get(&digest(1)), Origin { keys, ..origin(5, 1) });
    }
}
