//! What is asked of the store that remembers, and told it: marks and epochs.
//!
//! Each call of it is boxed: some are made at once, and a future of that store may be large.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::SealedStore;
use super::marks::{Epoch, Mark, Seen};
use crate::clock::Timestamp;
use crate::secret::Purpose;
use crate::session::carried::{CARRIED_AGE_MAX, CLOCKS_APART_MAX};
use crate::session::id::SessionDigest;
use crate::session::record::{DecodeError, EndReason, Record};
use crate::session::subject::folded;
use crate::store::{Commit, Creation, Durability, Ending, Store, StoreError};

/// How often a mark that others change at the same time is tried again.
const TRIES: usize = 64;

/// How many places there are for an epoch under one name: as often a key may be taken out within a day.
const PLACES: u8 = 8;

/// Where an epoch stands, or could.
struct Place {
    name: SessionDigest,
    stored: Option<Arc<Record>>,
    /// Whether something stands before it that can not be read.
    follows: bool,
}

/// Whose sessions end together.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    Subject(&'a str),
    Everybody,
}

/// Whether an end was remembered by this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remembered {
    Now,
    Before,
}

impl<E> SealedStore<E> {
    /// Under which names an epoch stands, that of the current key first. What can not be read any more, since the key it was
    /// sealed under has left the ring, is followed by another place.
    pub(super) fn names(&self, whose: Whose<'_>, place: u8) -> SmallVec<[SessionDigest; 2]> {
        let (kind, folded): (&[u8], _) = match whose {
            Whose::Subject(subject) => (b"epoch\0", folded(subject)),
            Whose::Everybody => (b"everybody\0", Cow::Borrowed("")),
        };
        self.keys.load().macs(Purpose::Subject, &[kind, &[place], folded.as_bytes()]).map(SessionDigest).collect()
    }

    /// Takes back a session that came to nothing, and what ended for it here.
    pub(super) fn forget<'a>(&self, new: &SessionDigest, ended: impl Iterator<Item = &'a Arc<Record>>) {
        let ended: SmallVec<[_; 4]> = ended.collect();
        self.live.put_back(new, ended.iter().copied().filter(|record| self.has_keys(&record.digest)));
        self.began.remove(new);
        // A key may have been taken out meanwhile.
        for record in ended.into_iter().filter(|record| !self.has_keys(&record.digest)) {
            self.live.put_back(&record.digest, std::iter::empty());
        }
    }
}

impl<E: Store> SealedStore<E> {
    pub(super) async fn mark(&self, digest: &SessionDigest) -> Result<Option<(Mark, Arc<Record>)>, StoreError> {
        Ok(Box::pin(self.ended.load_fresh(digest)).await?.map(|record| (Mark::of(&record), record)))
    }

    /// The epoch of somebody; none if it can not be read. Then all his sessions may have ended, until there is a new one.
    pub(super) async fn epoch(&self, whose: Whose<'_>) -> Result<Option<Epoch>, StoreError> {
        let mut epoch = Epoch::default();
        for key in 0..self.names(whose, 0).len() {
            let Place { stored, follows, .. } = self.place(whose, key).await?;
            match stored.as_deref().map(Epoch::of) {
                Some(found) if found.number > epoch.number => epoch = found,
                None if follows => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(epoch))
    }

    /// The number of the epoch in which a session begins; a new one if none can be read.
    pub(super) async fn present(&self, whose: Option<Whose<'_>>, now: Timestamp) -> Result<u64, StoreError> {
        let Some(whose) = whose else { return Ok(0) };
        match self.epoch(whose).await? {
            Some(epoch) => Ok(epoch.number),
            None => {
                let ending = Ending { why: EndReason::Revoked, now, tombstone_until: now };
                self.next_epoch(whose, None, ending).await
            }
        }
    }

    /// Where the epoch of somebody stands under one of the keys: the first place that can be read, or written.
    async fn place(&self, whose: Whose<'_>, key: usize) -> Result<Place, StoreError> {
        for place in 0..PLACES {
            // Another ring may be in force by now.
            let Some(name) = self.names(whose, place).get(key).copied() else { break };
            match Box::pin(self.ended.load_fresh(&name)).await {
                Ok(stored) => return Ok(Place { name, stored, follows: place > 0 }),
                Err(StoreError::Decode(DecodeError::Damaged)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::io(
            "what is remembered of a subject can not be read: keys were taken out too often within a day",
        ))
    }

    /// Remembers that a session has ended.
    pub(super) async fn remember(
        &self,
        digest: SessionDigest,
        known: Option<&Record>,
        ending: Ending,
    ) -> Result<Remembered, StoreError> {
        let Ending { why, now, tombstone_until } = ending;
        let mark = Mark::Ended { at: now, why }.to_record(digest, known, remembered(now, tombstone_until));
        for _ in 0..TRIES {
            if let Creation::Created(_) = Box::pin(self.ended.create(mark.clone(), None, now)).await? {
                return Ok(Remembered::Now);
            }
            match self.mark(&digest).await? {
                Some((Mark::Ended { .. }, _)) => return Ok(Remembered::Before),
                Some((Mark::Quarantined { .. } | Mark::Nothing, held)) => {
                    let ended = Record { version: held.version, ..mark.clone() };
                    if let Commit::Done(_) = Box::pin(self.ended.commit(ended, Durability::Durable)).await? {
                        return Ok(Remembered::Now);
                    }
                }
                None => {}
            }
        }
        Err(StoreError::io("what is remembered of a session changed too often"))
    }

    /// Whether an id is free for a new session.
    pub(super) async fn is_free(&self, digest: &SessionDigest) -> Result<bool, StoreError> {
        if self.live.get(digest).is_some() {
            return Ok(false);
        }
        let Some((mark, stored)) = self.mark(digest).await? else { return Ok(true) };
        match (mark, Seen::of(&stored)) {
            (Mark::Nothing, _) => Ok(true),
            // Somebody ended it before it was given out.
            (Mark::Ended { .. }, Seen::No) => {
                let nothing = Mark::Nothing.to_record(*digest, None, stored.removable_at);
                let nothing = Record { version: stored.version, ..nothing };
                let commit = Box::pin(self.ended.commit(nothing, Durability::Durable)).await?;
                Ok(matches!(commit, Commit::Done(_)))
            }
            _ => Ok(false),
        }
    }

    /// Begins a new epoch: all sessions of somebody end but one. Gives its number.
    pub(super) async fn next_epoch(
        &self,
        whose: Whose<'_>,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<u64, StoreError> {
        let removable_at = remembered(ending.now, ending.tombstone_until);
        let before = self.epoch(whose).await?.unwrap_or_default();
        let mut number = before.number.saturating_add(1).max(ending.now.as_millis());
        // Under every name: a node may know one of the keys alone.
        for key in 0..self.names(whose, 0).len() {
            let mut is_done = false;
            for _ in 0..TRIES {
                let Place { name, stored, .. } = self.place(whose, key).await?;
                let there = stored.as_deref().map_or(0, |stored| Epoch::of(stored).number);
                number = number.max(there.saturating_add(1));
                let record = Epoch { number, except: except.copied() }.to_record(name, ending.now, removable_at);
                is_done = match stored {
                    None => {
                        matches!(Box::pin(self.ended.create(record, None, ending.now)).await?, Creation::Created(_))
                    }
                    Some(stored) => {
                        let record = Record { version: stored.version, ..record };
                        matches!(Box::pin(self.ended.commit(record, Durability::Durable)).await?, Commit::Done(_))
                    }
                };
                if is_done {
                    break;
                }
            }
            if !is_done {
                return Err(StoreError::io("what is remembered of a subject changed too often"));
            }
        }
        Ok(number)
    }

    /// Remembers what ended for a new session, in that order; tells whether the last of them had ended before. If it fails,
    /// or its caller goes away, the new one is gone, and those that are known are here as they were: but of some it may be
    /// remembered that they ended.
    pub(super) async fn remember_all(
        &self,
        new: &SessionDigest,
        ends: &[End<'_>],
        now: Timestamp,
    ) -> Result<Remembered, StoreError> {
        let mut undo = Undo { store: self, new, ends, is_due: true };
        let mut last = Remembered::Now;
        for End { digest, known, why, until } in ends {
            let ending = Ending { why: *why, now, tombstone_until: *until };
            last = self.remember(*digest, known.map(|known| &**known), ending).await?;
        }
        undo.is_due = false;
        Ok(last)
    }
}

/// A session that ends for another one.
pub(super) struct End<'a> {
    pub(super) digest: SessionDigest,
    /// The session, if this node knows it.
    pub(super) known: Option<&'a Arc<Record>>,
    pub(super) why: EndReason,
    pub(super) until: Timestamp,
}

impl<'a> End<'a> {
    pub(super) fn evicted(record: &'a Arc<Record>) -> Self {
        Self { digest: record.digest, known: Some(record), why: EndReason::Evicted, until: record.removable_at }
    }
}

/// Takes back what is not remembered in the end.
struct Undo<'a, E> {
    store: &'a SealedStore<E>,
    new: &'a SessionDigest,
    ends: &'a [End<'a>],
    is_due: bool,
}

impl<E> Drop for Undo<'_, E> {
    fn drop(&mut self) {
        if self.is_due {
            self.store.forget(self.new, self.ends.iter().filter_map(|end| end.known));
        }
    }
}

/// Until when the end of a session is remembered: as long as a state of it may be taken in.
pub(super) fn remembered(at: Timestamp, tombstone_until: Timestamp) -> Timestamp {
    tombstone_until.max(at.after(CARRIED_AGE_MAX).after(2 * CLOCKS_APART_MAX))
}
