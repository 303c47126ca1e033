//! Where each session comes from that this node knows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::session::carried::Origin;
use crate::session::id::SessionDigest;

const SHARDS: usize = 256;

/// How many shards are looked through at a time.
const LOOKED_THROUGH: usize = 8;

/// Origins, by session.
#[derive(Debug)]
pub(super) struct Began {
    shards: Box<[Mutex<HashMap<SessionDigest, Origin>>]>,
    next: AtomicUsize,
}

impl Began {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), next: AtomicUsize::new(0) }
    }

    fn shard(&self, digest: &SessionDigest) -> Option<&Mutex<HashMap<SessionDigest, Origin>>> {
        let [first, ..] = digest.0;
        self.shards.get(usize::from(first))
    }

    pub(super) fn get(&self, digest: &SessionDigest) -> Origin {
        self.shard(digest).and_then(|shard| shard.lock().get(digest).copied()).unwrap_or_default()
    }

    /// Notes that of a session.
    pub(super) fn put(&self, digest: SessionDigest, origin: Origin) {
        if let Some(shard) = self.shard(&digest) {
            shard.lock().insert(digest, origin);
        }
    }

    pub(super) fn remove(&self, digest: &SessionDigest) {
        if let Some(shard) = self.shard(digest) {
            shard.lock().remove(digest);
        }
    }

    /// Forgets those of some shards that are not known any more; all of them in turn.
    pub(super) fn tidy(&self, is_known: impl Fn(&SessionDigest) -> bool) {
        let from = self.next.fetch_add(LOOKED_THROUGH, Ordering::Relaxed) % SHARDS;
        for shard in self.shards.iter().skip(from).take(LOOKED_THROUGH) {
            let mut shard = shard.lock();
            shard.retain(|digest, _| is_known(digest));
            if shard.capacity() > 64 && shard.len() < shard.capacity() / 8 {
                shard.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::carried::Epochs;

    #[test]
    fn what_is_not_known_any_more_is_forgotten_in_turn() {
        let began = Began::new();
        let five = Origin { epochs: Epochs { of_subject: 5, of_all: 0 }, ..Origin::default() };
        let digest = |first: u8| SessionDigest([first; 32]);
        (0..=255).for_each(|first| began.put(digest(first), five));
        for _ in 0..SHARDS / LOOKED_THROUGH {
            began.tidy(|found| *found == digest(9));
        }
        let kept: Vec<u8> = (0..=255).filter(|first| began.get(&digest(*first)) == five).collect();
        assert_eq!(kept, [9]);
        began.remove(&digest(9));
        assert_eq!(began.get(&digest(9)), Origin::default());
    }
}
