//! A cache of records before any store: most requests then cost it nothing.
//!
//! What this node writes is never served older than it is: after a change is acknowledged, `load` gives what came of it
//! or asks the store. What another node writes is seen after `fresh_for` at the latest. A guard lets a cached record answer
//! for its newest tag alone, and asks the store again before it acts against a request, so what may be late by `fresh_for` is what
//! the app set on another node.
//!
//! **Who ends a session on one node, or moves a client aside, is answered when no other serves it as it was**, over Redis and
//! databases ([`Store::leases`]): within a millisecond or two where the store tells which sessions end ([`Store::notices`]),
//! within half a second where it does not, and when a node is gone without a word as soon as its lease is over, a second and a
//! half later. All nodes of an app need a cache for that, or none. A cache is served from while its guard is tended
//! ([`tend`](crate::engine::tend)); otherwise it asks the store. Over a store of one's own without leases an end on another
//! node is seen after `fresh_for`, or as soon as it is told.
//!
//! That there is no session under a digest is never kept: any made-up cookie would take room.
//!
//! A record may be put into the cache by a load or by a write. Both note the epoch of the digest's slot when they begin,
//! and every write moves it on when it begins and when it ends. Whoever finds another epoch than he noted, or a write
//! under way, puts nothing in: he may have read what was before it.

mod lease;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quick_cache::sync::Cache;

use self::lease::Lease;
use super::counters::Counters;
use super::endings::{Endings, Notice};
use super::leases::{Leases, Recall};
use super::{
    Commit, Created, Creation, Durability, Ending, Filter, Page, Proof, Reads, Rotate, Rotation, Store, StoreError,
    SubjectLimit,
};
use crate::clock::{Clock, Timestamp};
use crate::session::expiry::is_taken_away;
use crate::session::id::SessionDigest;
use crate::session::record::{EndReason, Record};
use crate::session::subject::is_same;

/// How many slots there are. Digests of one slot are kept apart but for this: a load that meets a write under another
/// digest of its slot is not kept.
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 10;

/// How a cache works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most sessions it keeps, about.
    pub sessions_max: NonZeroUsize,
    /// How long a record is served without asking the store. It must be shorter than the grace of a superseded tag, so that
    /// no node takes for the newest one what another would call stale.
    pub fresh_for: Duration,
}

impl Default for Settings {
    /// 100,000 sessions, 10 seconds: a page and what belongs to it cost one load.
    fn default() -> Self {
        const SESSIONS_MAX: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
        Self { sessions_max: SESSIONS_MAX, fresh_for: Duration::from_secs(10) }
    }
}

/// A store with a cache before it.
///
/// A change that failed, or whose caller went away before it was acknowledged, counts as one of another node: the store
/// may make it after the cache has looked. So does the end of a visitor's session that a full store gives up for a new one.
pub struct CachedStore<S> {
    store: S,
    cache: Cache<SessionDigest, Entry>,
    slots: Box<[Mutex<Slot>]>,
    lease: Lease,
    fresh_for: Duration,
    clock: Arc<dyn Clock>,
}

/// A record, and when it was read at the earliest.
#[derive(Clone, Debug)]
struct Entry {
    record: Arc<Record>,
    read_at: Timestamp,
}

/// What happens to the digests of a slot.
#[derive(Debug, Default)]
struct Slot {
    /// Moved on by every write.
    epoch: u64,
    /// Writes that are under way.
    writers: u32,
}

impl Slot {
    /// The epoch, if nothing is being written.
    fn quiet(&self) -> Option<u64> {
        (self.writers == 0).then_some(self.epoch)
    }
}

/// When somebody began to look at what is stored, and the epoch then.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Timestamp,
    /// None if something was being written: what is seen then is not kept.
    epoch: Option<u64>,
}

/// A write that is under way; it ends when this is dropped, also when its caller goes away.
struct Writing<'a, S> {
    cached: &'a CachedStore<S>,
    digest: SessionDigest,
    began: Look,
    /// What is stored now, if that is known.
    result: Option<Arc<Record>>,
}

impl<S> Drop for Writing<'_, S> {
    fn drop(&mut self) {
        let mut slot = self.cached.slot(&self.digest).lock();
        slot.writers = slot.writers.saturating_sub(1);
        // With another write beside this one nobody knows here which of them came last.
        let was_alone = self.began.epoch.is_some() && self.began.epoch == slot.quiet();
        slot.epoch = slot.epoch.wrapping_add(1);
        if let Some(record) = self.result.take().filter(|_| was_alone) {
            self.cached.cache.insert(self.digest, Entry { record, read_at: self.began.at });
        }
    }
}

impl<S> CachedStore<S> {
    /// Puts a cache before a store.
    pub fn new(store: S, settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            cache: Cache::new(settings.sessions_max.get()),
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
            lease: Lease::new(),
            fresh_for: settings.fresh_for,
            clock,
        }
    }

    /// The store behind it.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// How many records are kept.
    pub fn count(&self) -> usize {
        self.cache.len()
    }

    /// Forgets a session that somebody else changed or ended: the next load asks the store. For whoever receives notices of
    /// it.
    pub fn forget(&self, digest: &SessionDigest) {
        let mut slot = self.slot(digest).lock();
        slot.epoch = slot.epoch.wrapping_add(1);
        self.cache.remove(digest);
    }

    /// Forgets all sessions. For whoever may have missed a notice.
    pub fn forget_all(&self) {
        self.turn_epochs();
        self.cache.clear();
    }

    fn forget_about(&self, recall: &Recall) {
        recall.about.map_or_else(|| self.forget_all(), |digest| self.forget(&digest));
    }

    /// Forgets the sessions for which `is_meant` holds, and keeps nothing that is being loaded now.
    fn forget_where(&self, is_meant: impl Fn(&Record) -> bool) {
        self.turn_epochs();
        self.cache.retain(|_, entry| !is_meant(&entry.record));
    }

    fn turn_epochs(&self) {
        for slot in &self.slots {
            let mut slot = slot.lock();
            slot.epoch = slot.epoch.wrapping_add(1);
        }
    }

    #[expect(clippy::indexing_slicing, reason = "there is a slot for every value of so many bits")]
    fn slot(&self, digest: &SessionDigest) -> &Mutex<Slot> {
        let at = usize::try_from(digest.spread() >> (u64::BITS - SLOT_BITS)).unwrap_or(0);
        &self.slots[at]
    }

    /// What is kept under a digest, if it may be served.
    fn kept(&self, digest: &SessionDigest) -> Option<Arc<Record>> {
        let entry = self.cache.get(digest)?;
        let now = self.clock.now();
        // What the store may have removed by now is asked for there.
        let is_fresh = now.since(entry.read_at) < self.fresh_for && now < entry.record.removable_at;
        is_fresh.then_some(entry.record)
    }

    fn look(&self, digest: &SessionDigest) -> Look {
        // The time first: what is read after it is no older.
        let at = self.clock.now();
        Look { at, epoch: self.slot(digest).lock().quiet() }
    }

    /// Keeps what was seen, unless something was written meanwhile or somebody has seen a later version.
    fn keep(&self, look: Look, record: &Arc<Record>) {
        let slot = self.slot(&record.digest).lock();
        if look.epoch.is_none() || look.epoch != slot.quiet() {
            return;
        }
        if self.cache.peek(&record.digest).is_none_or(|entry| entry.record.version <= record.version) {
            self.cache.insert(record.digest, Entry { record: Arc::clone(record), read_at: look.at });
        }
    }

    /// Begins a write. From here on nothing older than what comes of it is served: what is kept goes, and what is being
    /// loaded is not kept.
    fn write(&self, digest: &SessionDigest) -> Writing<'_, S> {
        let at = self.clock.now();
        let mut slot = self.slot(digest).lock();
        let was_quiet = slot.writers == 0;
        slot.epoch = slot.epoch.wrapping_add(1);
        slot.writers = slot.writers.saturating_add(1);
        let began = Look { at, epoch: was_quiet.then_some(slot.epoch) };
        self.cache.remove(digest);
        Writing { cached: self, digest: *digest, began, result: None }
    }

    /// Takes note of a session that was created, and of those that had to end for it.
    fn note(&self, created: &Created, new: Arc<Record>, writing: &mut Writing<'_, S>) {
        if let Created::Done { evicted, .. } = created {
            evicted.iter().for_each(|record| self.forget(&record.digest));
            writing.result = Some(new);
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for CachedStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStore")
            .field("store", &self.store)
            .field("count", &self.count())
            .field("fresh_for", &self.fresh_for)
            .finish_non_exhaustive()
    }
}

/// A record as it is stored when it is new.
fn first(record: &Record) -> Arc<Record> {
    Arc::new(Record { version: 0, ..record.clone() })
}

impl<S: Store> Store for CachedStore<S> {
    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        let new = first(&record);
        let mut writing = self.write(&record.digest);
        let answer = self.store.create(record, limit, now).await?;
        if let Creation::Created(created) = &answer {
            self.note(created, new, &mut writing);
            if let Created::Done { evicted, .. } = created
                && let Some(first) = evicted.first()
            {
                self.let_go_by_all(Some(first.digest).filter(|_| evicted.len() == 1)).await?;
            }
        }
        Ok(answer)
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        // Before it is looked at, for it may be what a lease left that is over; and after, for that may have taken long.
        let kept = if self.may_serve() { self.kept(digest) } else { None };
        match kept {
            Some(record) if self.may_serve() => Ok(Some(record)),
            _ => self.load_fresh(digest).await,
        }
    }

    async fn load_fresh(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        let look = self.look(digest);
        let found = self.store.load_fresh(digest).await?;
        match &found {
            Some(record) => self.keep(look, record),
            None => drop(self.cache.remove(digest)),
        }
        Ok(found)
    }

    fn reads(&self) -> Reads {
        Reads::Cached
    }

    fn notices(&self) -> Option<Endings> {
        self.store.notices()
    }

    fn follows(&self) -> Option<Endings> {
        self.store.notices()
    }

    fn heed(&self, notice: Notice) {
        match notice {
            Notice::Session(digest) => self.forget(&digest),
            Notice::Gap => {
                self.lease.doubt();
                self.forget_all();
            }
            Notice::Recall(recall) => {
                self.forget_about(&recall);
                self.lease.hear([recall]);
            }
        }
    }

    fn leases(&self) -> Option<&dyn Leases> {
        self.store.leases()
    }

    async fn attend(&self) -> Option<Duration> {
        self.renew().await
    }

    fn proof(&self) -> Proof {
        // What is in the cache was opened when it came there.
        match self.store.proof() {
            Proof::Key => Proof::Process,
            other => other,
        }
    }

    async fn commit(&self, record: Record, durability: Durability) -> Result<Commit, StoreError> {
        let mut writing = self.write(&record.digest);
        let answer = self.store.commit(record, durability).await?;
        if let Commit::Done(record) | Commit::Conflict(record) = &answer {
            writing.result = Some(Arc::clone(record));
        }
        if let Commit::Done(record) = &answer
            && is_taken_away(record, self.clock.now())
        {
            self.let_go_by_all(Some(record.digest)).await?;
        }
        Ok(answer)
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        let (new, old, also_end) = (first(&rotate.new), *rotate.old, rotate.also_end);
        let mut writing = self.write(&rotate.new.digest);
        let _old = self.write(rotate.old);
        let _also = also_end.map(|digest| self.write(digest));
        let answer = self.store.rotate(rotate).await?;
        if let Rotation::Created(created) = &answer {
            self.note(created, new, &mut writing);
            if let Created::Done { evicted, .. } = created {
                let is_only = evicted.is_empty() && also_end.is_none();
                self.let_go_by_all(Some(old).filter(|_| is_only)).await?;
            }
        }
        Ok(answer)
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        let _writing = self.write(digest);
        let answer = self.store.revoke(digest, ending).await?;
        // By time it ends everywhere. Otherwise also if it had ended already: whoever ended it may still be waiting.
        if !matches!(ending.why, EndReason::Idle | EndReason::Absolute) {
            self.let_go_by_all(Some(*digest)).await?;
        }
        Ok(answer)
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        let mut answer = self.store.revoke_subject(subject, except, ending).await;
        // All of them, not those of the answer: somebody else may have ended the others, and not have come so far as to
        // forget them. After a failure some may have ended too.
        self.forget_where(|record| {
            Some(&record.digest) != except && record.subject.as_deref().is_some_and(|own| is_same(own, subject))
        });
        if answer.is_ok()
            && let Err(error) = self.let_go_by_all(None).await
        {
            answer = Err(error);
        }
        answer
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        self.store.list(filter, after, max).await
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        let answer = self.store.clear_expired(now, max).await;
        if !matches!(answer, Ok(0)) {
            self.forget_where(|record| record.removable_at <= now);
        }
        answer
    }

    fn live(&self) -> Option<usize> {
        self.store.live()
    }

    fn counters(&self) -> Option<&dyn Counters> {
        self.store.counters()
    }
}
