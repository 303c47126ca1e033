//! Sessions that are kept nowhere: each client carries the state of its own, sealed, in cookies beside that of the id.
//!
//! A node has in memory what it saw, as the store in memory does; a node that does not know a session, or was started
//! again, takes it in from the cookies ([`Carrier::take_in`]). What has to be remembered is what has *ended*, so that no
//! cookie of it serves again, and that is in a second store, which is asked for every request that shows a session: it may
//! be one file, Redis or a database, and is small, since an end has to be remembered no longer than a state is taken in
//! ([`CARRIED_AGE_MAX`]). All sessions of a subject, or of everybody, end by one number in it, the *epoch*: each session carries
//! those it began in.
//!
//! What such a store can not do:
//!
//! - A state that was copied is taken in again by a node that has not seen the session since, as it was then: until the
//!   session ends, gets a new id, or is a day older. What was written in between is not in it, and a tag that has been
//!   replaced in between is the newest to it. What that node then makes of it is newer than what others have, and they take it
//!   in. So let one client go to one node, where there are several, and rest nothing on a value that must not come back.
//! - Of two nodes that write at once one loses: of two states of one age a node keeps its own. On one node nothing is lost.
//! - How many sessions a subject has, and which, a node knows of those that it saw; one session is ended by its reference where
//!   it was seen. All sessions of a subject, and all of everybody, end whether they are known or not.
//! - The session that a quarantined client was moved away from ends with his next login only where it is known.
//! - A state whose app fills more than [`CARRIED_BYTES_FILLED_MAX`] octets is refused with [`StoreError::TooLarge`].
//! - A session that is not used for a day is over, whatever the deadlines say.
//! - Who has a key can make sessions: nothing is there to compare them with. When a key leaves the ring, all sessions end that
//!   were carried under it since their last login.

mod began;
mod marks;
mod remember;
#[cfg(test)]
mod tests;
mod turns;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use self::began::Began;
use self::marks::{Epoch, Mark, Seen};
use self::remember::{End, Remembered, Whose, remembered};
pub use self::turns::TURN_MAX;
use self::turns::{Held, Turns};
use super::counters::Counters;
use super::memory::MemoryStore;
use super::{
    Carrier, Commit, Created, Creation, Durability, Ended, Ending, Filter, PAGE_MAX, Page, Rotate, Rotation, Store,
    StoreError, SubjectLimit,
};
use crate::clock::{Clock, Timestamp};
use crate::secret::{Keyring, Purpose};
use crate::session::carried::{CARRIED_AGE_MAX, CARRIED_BYTES_FILLED_MAX, CARRIED_BYTES_MAX, Epochs, KeySet, Origin};
use crate::session::id::SessionDigest;
use crate::session::record::{EndReason, Record, State};
use crate::session::subject::is_same;

/// A store of sessions that their clients carry, with another one that remembers which have ended.
pub struct SealedStore<E> {
    live: MemoryStore,
    ended: E,
    began: Began,
    turns: Turns,
    keys: ArcSwap<Keyring>,
    clock: Arc<dyn Clock>,
}

impl<E: fmt::Debug> fmt::Debug for SealedStore<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedStore").field("live", &self.live).field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// What is remembered of a session that lives here.
enum Look {
    /// Nothing that ends it; this is how it is, and which epochs there are by now.
    Live(Arc<Record>, Epochs),
    /// It has ended on another node, or is just being ended on this one.
    Over(Ending),
}

impl Look {
    fn live(self) -> Option<Arc<Record>> {
        match self {
            Self::Live(record, _) => Some(record),
            Self::Over(_) => None,
        }
    }

    const fn over(&self) -> Option<Ending> {
        match self {
            Self::Live(..) => None,
            Self::Over(ending) => Some(*ending),
        }
    }
}

impl<E> SealedStore<E> {
    /// A store that knows at most so many sessions at a time. `ended` remembers which have ended, and should survive a restart;
    /// give it a place of its own: no other guard but those that share these sessions may use it. The keys are those of the
    /// guard; to replace them replace both, the store's first. No cache may stand before this store.
    pub fn new(ended: E, sessions_max: NonZeroUsize, keys: Keyring, clock: Arc<dyn Clock>) -> Self {
        Self {
            live: MemoryStore::new(sessions_max),
            ended,
            began: Began::new(),
            turns: Turns::new(),
            keys: ArcSwap::from_pointee(keys),
            clock,
        }
    }

    /// The same with another limit than [`TURN_MAX`] for how long a change waits for others of the same session or subject. It
    /// should be no shorter than the store behind takes at its worst: many changes of one session come one after the other.
    #[must_use]
    pub fn with_turn_max(mut self, turn_max: Duration) -> Self {
        self.turns.wait_max = turn_max;
        self
    }

    /// The store that remembers which sessions have ended.
    pub const fn ended(&self) -> &E {
        &self.ended
    }

    /// Puts another key ring in force. If a key is missing in it, or is another one by now, what was made under that must not go
    /// on, and is forgotten.
    pub fn replace_keys(&self, keys: impl Into<Arc<Keyring>>) {
        let keys = keys.into();
        let signs = |keys: &Keyring| keys.ids().zip(keys.macs(Purpose::Subject, &[b"ring\0"])).collect::<Vec<_>>();
        let now = signs(&keys);
        let before = self.keys.swap(keys);
        let gone = signs(&before).into_iter().filter(|sign| !now.contains(sign)).map(|(id, _)| id);
        let gone = gone.fold(KeySet::default(), KeySet::with);
        if gone != KeySet::default() {
            self.live.forget(|record| self.began.get(&record.digest).keys.meets(gone));
        }
    }

    /// Whether all keys that a session was made under are known still.
    fn has_keys(&self, digest: &SessionDigest) -> bool {
        self.began.get(digest).keys.is_within(&self.keys.load())
    }

    fn current_key(&self) -> KeySet {
        self.keys.load().ids().take(1).fold(KeySet::default(), KeySet::with)
    }

    /// What is known of a session. One that was not used for a day is none: its end may be forgotten.
    fn known(&self, digest: &SessionDigest) -> Option<Arc<Record>> {
        self.live.get(digest).filter(|record| record.is_ended() || !self.is_aged(record))
    }

    fn is_aged(&self, record: &Record) -> bool {
        self.clock.now().since(record.last_seen) >= CARRIED_AGE_MAX
    }

    /// The turn of a session and of whoever's it is.
    async fn turns_of(&self, digest: &SessionDigest) -> Result<Held<'_>, StoreError> {
        let subject = || self.live.get(digest).and_then(|held| held.subject.clone());
        let before = subject();
        let turns = self.turns.take([digest], before.as_deref()).await?;
        let now = subject();
        if now.is_none() || now == before {
            return Ok(turns);
        }
        // It has come just now, and nobody changes it while it is his turn.
        drop(turns);
        self.turns.take([digest], now.as_deref()).await
    }
}

impl<E: Store> SealedStore<E> {
    /// A session that lives here, by what is remembered of it.
    async fn look(&self, held: Arc<Record>) -> Result<Look, StoreError> {
        let digest = held.digest;
        let of_subject = async {
            match held.subject.as_deref() {
                Some(subject) => self.epoch(Whose::Subject(subject)).await,
                None => Ok(Some(Epoch::default())),
            }
        };
        let (mark, of_subject, of_all) =
            tokio::try_join!(self.mark(&digest), of_subject, self.epoch(Whose::Everybody))?;
        let over = |why, now, tombstone_until| Ok(Look::Over(Ending { why, now, tombstone_until }));
        if let Some((Mark::Ended { at, why }, record)) = &mark {
            return over(*why, *at, record.removable_at);
        }
        let (Some(of_subject), Some(of_all)) = (of_subject, of_all) else {
            let now = self.clock.now();
            return over(EndReason::Revoked, now, remembered(now, now));
        };
        let began = self.began.get(&digest).epochs;
        for (epoch, number) in [(of_subject, began.of_subject), (of_all, began.of_all)] {
            if !epoch.lets(&digest, number) {
                let at = Timestamp::from_millis(epoch.number);
                return over(EndReason::Revoked, at, remembered(at, at));
            }
        }
        let record = match (mark, &held.state) {
            (Some((Mark::Quarantined { since }, _)), State::Live) => {
                Arc::new(Record { state: State::Quarantined { since }, ..held.as_ref().clone() })
            }
            _ => held,
        };
        Ok(Look::Live(record, Epochs { of_subject: of_subject.number, of_all: of_all.number }))
    }

    /// The session under a digest, if it lives, for somebody whose turn it is.
    async fn in_turn(&self, digest: &SessionDigest) -> Result<Option<(Arc<Record>, Epochs)>, StoreError> {
        let Some(held) = self.known(digest).filter(|held| !held.is_ended()) else { return Ok(None) };
        let Look::Live(record, epochs) = self.look(held.clone()).await? else { return Ok(None) };
        if record.state == held.state {
            return Ok(Some((record, epochs)));
        }
        // Held back on another node: a change that was made of what was before comes too late.
        match self.live.commit(record.as_ref().clone(), Durability::Durable).await? {
            Commit::Done(record) | Commit::Conflict(record) => Ok(Some((record, epochs))),
            Commit::Gone => Ok(None),
        }
    }

    /// Ends here what ended elsewhere of a subject's sessions, so that it does not count. It is the subject's turn.
    async fn settle(&self, subject: Option<&str>) -> Result<(), StoreError> {
        let Some(subject) = subject else { return Ok(()) };
        let filter = Filter { subject: Some(subject.into()), ..Filter::default() };
        let mut after = None;
        loop {
            let page = self.live.list(&filter, after, PAGE_MAX).await?;
            for record in page.records {
                let digest = record.digest;
                let ending = if self.is_aged(&record) {
                    let now = self.clock.now();
                    Some(Ending { why: EndReason::Idle, now, tombstone_until: now })
                } else {
                    self.look(record).await?.over()
                };
                if let Some(ending) = ending {
                    self.live.revoke(&digest, ending).await?;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// What an app puts into a session leaves room for what the guard notes in it later.
fn check_size(record: &Record, held: Option<&Record>) -> Result<(), StoreError> {
    /// A tag and when it was replaced, as they are encoded.
    const TAG_BYTES: usize = 22;
    let is_app = |held: &Record| (&held.jar, &held.data, &held.bound) != (&record.jar, &record.data, &record.bound);
    let bytes = record.encode().len();
    let notes = record.history.len() + (record.tags.superseded().len() + record.tags.stale().len()) * TAG_BYTES;
    let (bytes, max) = match held.is_none_or(is_app) {
        true => (bytes.saturating_sub(notes), CARRIED_BYTES_FILLED_MAX),
        false => (bytes, CARRIED_BYTES_MAX),
    };
    if bytes > max { Err(StoreError::TooLarge { bytes, max }) } else { Ok(()) }
}

impl<E: Store> Carrier for SealedStore<E> {
    fn take_in(&self, record: Record, origin: Origin, now: Timestamp) -> Result<bool, StoreError> {
        let digest = record.digest;
        if !origin.keys.is_within(&self.keys.load()) {
            return Ok(false);
        }
        // First, so that nobody sees the session without it.
        self.began.put(digest, origin);
        let is_present = self.live.take_in(record, now)?;
        // A key may have been taken out, and what was made under it forgotten, just before this came in.
        if !self.has_keys(&digest) {
            self.forget(&digest, std::iter::empty());
            return Ok(false);
        }
        Ok(is_present)
    }

    fn give_out(&self, digest: &SessionDigest) -> Option<(Arc<Record>, Origin)> {
        let record = self.known(digest).filter(|record| !record.is_ended())?;
        Some((record, self.began.get(digest)))
    }

    fn end_all(&self, ending: Ending) -> Ended<'_> {
        Box::pin(async move {
            let number = self.next_epoch(Whose::Everybody, None, ending).await?;
            let (mut ended, mut after) = (Vec::new(), None);
            loop {
                let page = self.live.list(&Filter::default(), after, PAGE_MAX).await?;
                // Who has come since then goes on.
                let is_old = |record: &&Arc<Record>| self.began.get(&record.digest).epochs.of_all < number;
                for record in page.records.iter().filter(is_old) {
                    ended.extend(self.live.revoke(&record.digest, ending).await?);
                }
                after = page.next;
                if after.is_none() {
                    ended.retain(|record| !self.is_aged(record));
                    return Ok(ended);
                }
            }
        })
    }
}

impl<E: Store> Store for SealedStore<E> {
    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        check_size(&record, None)?;
        let digest = record.digest;
        let _turns = self.turns.take([&digest], record.subject.as_deref()).await?;
        if let State::Ended { at, why } = record.state {
            let ending = Ending { why, now: at, tombstone_until: record.removable_at };
            if self.live.get(&digest).is_some() {
                return Ok(Creation::Exists);
            }
            return match self.remember(digest, Some(&record), ending).await? {
                Remembered::Now => self.live.create(record, None, now).await,
                Remembered::Before => Ok(Creation::Exists),
            };
        }
        if !self.is_free(&digest).await? {
            return Ok(Creation::Exists);
        }
        if limit.is_some() {
            self.settle(record.subject.as_deref()).await?;
        }
        let epochs = Epochs {
            of_subject: self.present(record.subject.as_deref().map(Whose::Subject), now).await?,
            of_all: self.present(Some(Whose::Everybody), now).await?,
        };
        self.began.put(digest, Origin { epochs, keys: self.current_key() });
        let creation = self.live.create(record, limit, now).await;
        match &creation {
            Ok(Creation::Created(Created::Done { evicted, .. })) => {
                let ends: Vec<_> = evicted.iter().map(End::evicted).collect();
                self.remember_all(&digest, &ends, now).await?;
            }
            _ => self.began.remove(&digest),
        }
        creation
    }

    /// What this node knows, as far as it is in force. A session that it does not know is not asked for: there is no state to
    /// serve, and a made-up cookie costs nothing.
    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        let Some(held) = self.known(digest) else { return Ok(None) };
        if held.is_ended() {
            return Ok(Some(held));
        }
        let ending = match self.look(held.clone()).await? {
            Look::Live(record, _) => return Ok(Some(record)),
            Look::Over(ending) => ending,
        };
        // What ended elsewhere ends here too. Whoever is just ending it here does that himself, and tells what it was.
        let _turns = self.turns.take([digest], held.subject.as_deref()).await?;
        self.live.revoke(digest, ending).await?;
        Ok(self.live.get(digest))
    }

    /// The same; of a session that is not known here it is asked whether it has ended.
    async fn load_fresh(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        if let Some(found) = self.load(digest).await? {
            return Ok(Some(found));
        }
        let Some((Mark::Ended { at, why }, record)) = self.mark(digest).await? else { return Ok(None) };
        // It may have come here, and ended, meanwhile. Then more is known of it.
        if let Some(found) = self.load(digest).await? {
            return Ok(Some(found));
        }
        let ended = || marks::blank(*digest, Some(record.reference), at, record.removable_at);
        let is_told = Seen::of(&record) == Seen::Yes;
        Ok(is_told.then(|| Arc::new(ended().ended(at, why, record.removable_at))))
    }

    async fn commit(&self, record: Record, durability: Durability) -> Result<Commit, StoreError> {
        let digest = record.digest;
        let _turns = self.turns.take([&digest], None).await?;
        let Some((held, _)) = self.in_turn(&digest).await? else { return Ok(Commit::Gone) };
        if held.version != record.version {
            return Ok(Commit::Conflict(held));
        }
        check_size(&record, Some(&held))?;
        if let (State::Quarantined { since }, State::Live) = (&record.state, &held.state) {
            let until = remembered(*since, record.removable_at);
            let mark = Mark::Quarantined { since: *since }.to_record(digest, Some(&record), until);
            // There is one already, or the session ends just now on another node: the next look tells.
            let (Creation::Created(_) | Creation::Exists) = Box::pin(self.ended.create(mark, None, *since)).await?;
        }
        self.live.commit(record, durability).await
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        check_size(&rotate.new, None)?;
        let new = rotate.new.digest;
        let Some(subject_before) = self.live.get(rotate.old).map(|old| old.subject.clone()) else {
            return Ok(Rotation::Gone);
        };
        let subject = rotate.new.subject.clone();
        let digests = [Some(rotate.old), Some(&new), rotate.also_end].into_iter().flatten();
        let _turns = self.turns.take(digests, subject_before.as_deref().into_iter().chain(subject.as_deref())).await?;
        let Some((old, epochs)) = self.in_turn(rotate.old).await? else { return Ok(Rotation::Gone) };
        if old.version != rotate.version {
            return Ok(Rotation::Conflict(old));
        }
        if !self.is_free(&new).await? {
            return Ok(Rotation::Gone);
        }
        let also_end = rotate.also_end.filter(|also| *also != rotate.old).copied();
        let also = match &also_end {
            Some(also) => self.in_turn(also).await?.map(|(also, _)| also),
            None => None,
        };
        if rotate.limit.is_some() {
            self.settle(subject.as_deref()).await?;
        }
        // As they were when the old session was looked at: what ends all sessions from then on ends this one too.
        let of_subject = match (&old.subject, &subject) {
            (Some(before), Some(after)) if is_same(before, after) => epochs.of_subject,
            _ => self.present(subject.as_deref().map(Whose::Subject), rotate.now).await?,
        };
        // Who has just logged in has proven that it is his.
        let is_login = old.authenticated_at != rotate.new.authenticated_at;
        let keys = if is_login { self.current_key() } else { self.began.get(&old.digest).keys };
        self.began.put(new, Origin { epochs: Epochs { of_subject, ..epochs }, keys });
        let (now, until) = (rotate.now, rotate.tombstone_until);
        let rotation = self.live.rotate(rotate).await;
        let Ok(Rotation::Created(Created::Done { evicted, .. })) = &rotation else {
            self.began.remove(&new);
            return rotation;
        };
        let mut ends: Vec<_> = evicted.iter().map(End::evicted).collect();
        ends.extend(also_end.map(|digest| End { digest, known: also.as_ref(), why: EndReason::Revoked, until }));
        // Last, since its answer counts.
        ends.push(End { digest: old.digest, known: Some(&old), why: EndReason::Replaced, until });
        match self.remember_all(&new, &ends, now).await? {
            Remembered::Now => rotation,
            // It ended on another node just now.
            Remembered::Before => {
                self.forget(&new, std::iter::empty());
                Ok(Rotation::Gone)
            }
        }
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        let _turns = self.turns_of(digest).await?;
        let known = match self.known(digest) {
            Some(held) if held.is_ended() => return Ok(None),
            Some(held) => match self.look(held).await? {
                Look::Live(record, _) => Some(record),
                Look::Over(_) => return Ok(None),
            },
            // Some node may know it, or its client carry it.
            None => None,
        };
        match self.remember(*digest, known.as_deref(), ending).await? {
            Remembered::Now => self.live.revoke(digest, ending).await,
            Remembered::Before => Ok(None),
        }
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        let _turns = self.turns.take(None, [subject]).await?;
        // Those that have ended before on another node are not among those that end now.
        self.settle(Some(subject)).await?;
        self.next_epoch(Whose::Subject(subject), except, ending).await?;
        self.live.revoke_subject(subject, except, ending).await
    }

    /// The sessions that this node knows.
    async fn list(&self, filter: &Filter, mut after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        loop {
            let mut page = self.live.list(filter, after, max).await?;
            let mut records = Vec::with_capacity(page.records.len());
            for record in page.records {
                // Whoever asks for somebody's sessions does something with them: those that ended on another node are none.
                let is_looked_at = filter.subject.is_some() || filter.reference.is_some();
                if record.is_ended() || !is_looked_at && !self.is_aged(&record) {
                    records.push(record);
                } else if !self.is_aged(&record) {
                    records.extend(self.look(record).await?.live());
                }
            }
            page.records = records;
            after = page.next;
            if !page.records.is_empty() || after.is_none() {
                return Ok(page);
            }
        }
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        self.began.tidy(|digest| self.live.get(digest).is_some());
        let here = self.live.clear_expired(now, max).await?;
        // Marks are no sessions, and do not count.
        let batch = max.max(1);
        while Box::pin(self.ended.clear_expired(now, batch)).await? >= batch {}
        Ok(here)
    }

    fn counters(&self) -> Option<&dyn Counters> {
        self.ended.counters()
    }

    fn carrier(&self) -> Option<&dyn Carrier> {
        Some(self)
    }
}
