//! Streams that outlive their request: WebSockets, event streams, long downloads. They belong to their session and end
//! with it.

use std::collections::HashMap;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::cut::{Cut, Cutter};
use crate::clock::Timestamp;
use crate::secret::{Keyring, Seed};
use crate::session::id::SessionDigest;

/// Most streams that one session may hold open; the oldest makes room for the next one.
pub const STREAMS_PER_SESSION_MAX: usize = 64;

/// The streams that are open now, by session.
#[derive(Debug, Default)]
pub struct Streams(Mutex<HashMap<SessionDigest, Entry>>);

#[derive(Debug)]
struct Entry {
    open: SmallVec<[Cutter; 2]>,
    /// When the session is over at the latest; streams do not move it.
    deadline: Timestamp,
    /// The key that it rests on; none if that was gone already.
    key: Option<Seed>,
}

impl Streams {
    /// Takes a place for a stream of a session that is over at `deadline` at the latest. Of too many the oldest ends. Which key the
    /// session rests on is asked for if it has no other stream.
    pub fn open(&self, digest: SessionDigest, deadline: Timestamp, key: impl FnOnce() -> Option<Seed>) -> Cut {
        let known = self.0.lock().get(&digest).map(|entry| entry.key);
        // Without the lock: it is a keyed hash, and all answers come by here.
        let key = known.unwrap_or_else(key);
        let mut sessions = self.0.lock();
        let entry = sessions.entry(digest).or_insert_with(|| Entry { open: SmallVec::new(), deadline, key });
        entry.deadline = deadline;
        entry.open.retain(|cutter| !cutter.is_idle());
        if entry.open.len() >= STREAMS_PER_SESSION_MAX {
            entry.open.remove(0).cut();
        }
        let (cutter, cut) = Cutter::new();
        entry.open.push(cutter);
        cut
    }

    /// The session has ended, or goes on under another id with other rights: all its streams end.
    pub fn end(&self, digest: &SessionDigest) {
        let ended = self.0.lock().remove(digest);
        for cutter in ended.iter().flat_map(|entry| &entry.open) {
            cutter.cut();
        }
    }

    /// The session goes on under another id with the same rights, and so do its streams.
    pub fn follow(&self, old: &SessionDigest, new: SessionDigest, deadline: Timestamp, key: Option<Seed>) {
        let mut sessions = self.0.lock();
        if let Some(entry) = sessions.remove(old) {
            sessions.insert(new, Entry { deadline, key, ..entry });
        }
    }

    /// Ends the streams of sessions that rest on no key of the ring.
    pub fn end_without_key(&self, keys: &Keyring) {
        self.0.lock().retain(|_, entry| {
            let is_kept = entry.key.is_some_and(|key| keys.seeds().any(|own| own == key));
            if !is_kept {
                entry.open.iter().for_each(Cutter::cut);
            }
            is_kept
        });
    }

    /// Forgets streams that are over, and gives the sessions that still have some with their latest end.
    pub fn sweep(&self) -> Vec<(SessionDigest, Timestamp)> {
        let mut sessions = self.0.lock();
        sessions.retain(|_, entry| {
            entry.open.retain(|cutter| !cutter.is_idle());
            !entry.open.is_empty()
        });
        sessions.iter().map(|(digest, entry)| (*digest, entry.deadline)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{KeyId, MasterKey};

    const ONE: SessionDigest = SessionDigest([1; 32]);
    const TWO: SessionDigest = SessionDigest([2; 32]);

    fn ring(numbers: &[u8]) -> Keyring {
        let key = |number: &u8| MasterKey::new(KeyId(1), [*number; 32]);
        Keyring::new(&key(&numbers[0]), &numbers[1..].iter().map(key).collect::<Vec<_>>())
    }

    fn key() -> Option<Seed> {
        ring(&[1]).seeds().next()
    }

    #[test]
    fn a_stream_ends_with_the_key_that_its_session_rests_on() {
        let streams = Streams::default();
        let (old, new) = (streams.open(ONE, Timestamp::EPOCH, key), streams.open(TWO, Timestamp::EPOCH, || None));
        streams.end_without_key(&ring(&[2, 1]));
        assert!(!old.is_done() && new.is_done(), "its key was gone when it began");
        // The ids of keys do not tell them apart.
        streams.end_without_key(&ring(&[2]));
        assert!(old.is_done());
        assert!(streams.sweep().is_empty());
    }

    #[test]
    fn a_stream_ends_with_its_session_and_no_other() {
        let streams = Streams::default();
        let (one, two) = (streams.open(ONE, Timestamp::EPOCH, key), streams.open(TWO, Timestamp::EPOCH, key));
        streams.end(&ONE);
        assert!(one.is_done());
        assert!(!two.is_done());
        drop(one);
        assert_eq!(streams.sweep().len(), 1);
        drop(two);
        assert!(streams.sweep().is_empty());
    }

    #[test]
    fn streams_follow_their_session_to_its_next_id() {
        let streams = Streams::default();
        let cut = streams.open(ONE, Timestamp::EPOCH, key);
        streams.follow(&ONE, TWO, Timestamp::from_secs(5), key());
        streams.end(&ONE);
        assert!(!cut.is_done());
        assert_eq!(streams.sweep(), [(TWO, Timestamp::from_secs(5))]);
        streams.end(&TWO);
        assert!(cut.is_done());
    }

    #[test]
    fn a_session_holds_only_so_many() {
        let streams = Streams::default();
        let held: Vec<_> = (0..STREAMS_PER_SESSION_MAX).map(|_| streams.open(ONE, Timestamp::EPOCH, key)).collect();
        assert!(held.iter().all(|cut| !cut.is_done()));
        let newest = streams.open(ONE, Timestamp::EPOCH, key);
        let alive = |cuts: &[Cut]| cuts.iter().filter(|cut| !cut.is_done()).count();
        assert!(!newest.is_done() && held[0].is_done());
        assert_eq!(alive(&held), STREAMS_PER_SESSION_MAX - 1);
        let other = streams.open(TWO, Timestamp::EPOCH, key);
        drop(held);
        let next = streams.open(ONE, Timestamp::EPOCH, key);
        assert!(!newest.is_done() && !next.is_done() && !other.is_done());
    }
}
