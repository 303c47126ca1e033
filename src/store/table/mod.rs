//! The rules of a store, once: versions, limits, tombstones, room. Both stores of this crate are made of it.
//!
//! A [`Table`] has two faces. The [`Shards`] hold what everybody sees, and `load` reads them alone. Changes are decided
//! here, by one caller at a time, and *staged*: they count for every later decision at once, but nobody sees them until
//! they are published, and until then they can be undone. A store that writes to disk publishes after the disk has them;
//! the memory store publishes straight away.

mod index;
mod packed;
mod shards;
#[cfg(any(feature = "embedded", feature = "file", feature = "tower-sessions"))]
mod staging;
#[cfg(test)]
mod tests;
mod wheel;

use std::num::NonZeroUsize;
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::MappedMutexGuard;

use self::index::{Class, Index};
pub(in crate::store) use self::shards::Shards;
use self::wheel::{Bucket, bucket};
use super::{Commit, Created, Creation, Ending, Filter, OnLimit, PAGE_MAX, Page, Rotate, Rotation, SubjectLimit};
use crate::clock::Timestamp;
use crate::session::id::SessionDigest;
use crate::session::record::{EndReason, Record};
use crate::session::subject::is_same;

/// Records looked at under one hold of the lock while sweeping: about a tenth of a millisecond.
const LOOK_MAX: usize = 512;

/// Nothing may be thrown out to make room.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Full;

impl From<Full> for super::StoreError {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

/// A change to the record under one digest that nobody sees yet.
#[derive(Clone, Debug)]
pub(in crate::store) struct Change {
    pub(in crate::store) digest: SessionDigest,
    pub(in crate::store) before: Option<Arc<Record>>,
    pub(in crate::store) after: Option<Arc<Record>>,
}

/// What an answer rests on; an answer may leave only when that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum Ground {
    /// On what everybody sees.
    Published,
    /// On changes that are being written.
    Writing,
    /// On changes that wait to be written.
    Open,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Swept {
    /// So many are gone; there may be more.
    Some(usize),
    /// So many are gone, and there are no more.
    All(usize),
}

/// Staged changes by digest: the last one for each.
#[derive(Debug, Default)]
struct Staged(HashTable<Change>);

impl Staged {
    fn find(&self, spread: u64, is: impl Fn(&SessionDigest) -> bool) -> Option<&Change> {
        self.0.find(shards::hash(spread), |change| change.digest.spread() == spread && is(&change.digest))
    }

    fn put(&mut self, change: Change) {
        let hash = shards::hash(change.digest.spread());
        match self.0.find_mut(hash, |held| held.digest == change.digest) {
            // Undoing goes back to the beginning, so the first `before` stays.
            Some(held) => held.after = change.after,
            None => {
                self.0.insert_unique(hash, change, |change| shards::hash(change.digest.spread()));
            }
        }
    }

    /// Takes all changes out.
    fn take(&mut self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.0.len());
        self.drain(|change| changes.push(change));
        changes
    }

    /// The same, one by one. The room stays for the next ones, unless it is unusually large.
    fn drain(&mut self, take: impl FnMut(Change)) {
        self.0.drain().for_each(take);
        if self.0.capacity() > 4096 {
            self.0 = HashTable::new();
        }
    }
}

/// Decides changes; one caller at a time.
#[derive(Debug)]
pub(in crate::store) struct Table {
    shards: Arc<Shards>,
    index: Index,
    sessions_max: usize,
    open: Staged,
    writing: Staged,
    ground: Ground,
    looked_for_expired_at: Option<u64>,
}

impl Table {
    /// An empty table for at most so many records, tombstones included.
    pub(in crate::store) fn new(sessions_max: NonZeroUsize) -> Self {
        Self {
            shards: Arc::new(Shards::new()),
            index: Index::default(),
            sessions_max: sessions_max.get(),
            open: Staged::default(),
            writing: Staged::default(),
            ground: Ground::Published,
            looked_for_expired_at: None,
        }
    }

    /// What everybody sees.
    pub(in crate::store) const fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    /// How many records there are, staged ones included.
    pub(in crate::store) const fn count(&self) -> usize {
        self.index.count()
    }

    /// How many of them have not ended, those included whose time is over but which nobody removed yet.
    pub(in crate::store) const fn live(&self) -> usize {
        self.index.all_live()
    }

    // ---- decisions -------------------------------------------------------------------------------------------------

    pub(in crate::store) fn create(
        &mut self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, Full> {
        if self.latest(&record.digest).is_some() {
            return Ok(Creation::Exists);
        }
        // A tombstone is not one more.
        let limit = limit.filter(|_| !record.is_ended());
        let Some(evicted) = self.over_limit(&record, limit, &[], now) else {
            return Ok(Creation::Created(Created::Refused));
        };
        self.end_evicted(&evicted, now);
        // With a tombstone made just now there is always something to throw out, so this fails only if nothing was
        // changed yet.
        let displaced = self.make_room(now)?;
        let live = self.insert(record);
        Ok(Creation::Created(Created::Done { evicted, live, displaced }))
    }

    /// Replaces a record, seen at once and not to be undone. The record must not be staged.
    pub(in crate::store) fn commit_published(&mut self, record: Record) -> Commit {
        let (stored, record) = match self.next_version(record) {
            Ok(both) => both,
            Err(answer) => return answer,
        };
        self.index.apply(Some(&stored), Some(&record));
        self.shards.put(&record);
        Commit::Done(record)
    }

    /// Forgets some records, seen at once.
    pub(in crate::store) fn forget(&mut self, is: impl Fn(&Record) -> bool) {
        let mut all = Vec::new();
        self.shards.for_each(|record| all.extend(Some(record).filter(|record| is(record)).map(Arc::new)));
        for record in all {
            self.stage(Some(record), None);
        }
    }

    /// Takes in a state that somebody else kept, unless a later one is here or the session has ended.
    pub(in crate::store) fn take_in(&mut self, record: Record, now: Timestamp) -> Result<(), Full> {
        match self.latest(&record.digest) {
            Some(held) if held.is_ended() || held.version >= record.version => return Ok(()),
            Some(held) => {
                self.stage(Some(held), Some(Arc::new(record)));
            }
            None => {
                self.make_room(now)?;
                self.stage(None, Some(Arc::new(record)));
            }
        }
        Ok(())
    }

    /// Takes back what a change did that came to nothing: the new record goes, others are as they were.
    pub(in crate::store) fn put_back<'a>(
        &mut self,
        new: &SessionDigest,
        before: impl Iterator<Item = &'a Arc<Record>>,
    ) {
        if let Some(new) = self.latest(new) {
            self.stage(Some(new), None);
        }
        for record in before {
            let now = self.latest(&record.digest);
            self.stage(now, Some(Arc::clone(record)));
        }
    }

    pub(in crate::store) fn rotate(&mut self, rotate: Rotate<'_>) -> Result<Rotation, Full> {
        let Some(old) = self.latest(rotate.old).filter(|old| !old.is_ended()) else { return Ok(Rotation::Gone) };
        if old.version != rotate.version {
            return Ok(Rotation::Conflict(old));
        }
        if self.latest(&rotate.new.digest).is_some() {
            return Ok(Rotation::Gone);
        }
        let also = rotate.also_end.filter(|digest| *digest != rotate.old);
        let also = also.and_then(|digest| self.latest(digest)).filter(|also| !also.is_ended());
        let leaving: Vec<_> = std::iter::once(old.digest).chain(also.as_ref().map(|also| also.digest)).collect();
        let Some(evicted) = self.over_limit(&rotate.new, rotate.limit, &leaving, rotate.now) else {
            return Ok(Rotation::Created(Created::Refused));
        };
        self.end(&old, EndReason::Replaced, rotate.now, rotate.tombstone_until);
        if let Some(also) = also {
            self.end(&also, EndReason::Revoked, rotate.now, rotate.tombstone_until);
        }
        self.end_evicted(&evicted, rotate.now);
        let displaced = self.make_room(rotate.now)?;
        let live = self.insert(rotate.new);
        Ok(Rotation::Created(Created::Done { evicted, live, displaced }))
    }

    pub(in crate::store) fn revoke(&mut self, digest: &SessionDigest, ending: Ending) -> Option<Arc<Record>> {
        let record = self.latest(digest).filter(|record| !record.is_ended())?;
        self.end(&record, ending.why, ending.now, ending.tombstone_until);
        Some(record)
    }

    pub(in crate::store) fn revoke_subject(
        &mut self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Vec<Arc<Record>> {
        let ended: Vec<_> = self.live_of(subject).filter(|record| Some(&record.digest) != except).collect();
        for record in &ended {
            self.end(record, ending.why, ending.now, ending.tombstone_until);
        }
        if ended.is_empty() {
            // Somebody may be ending the last of them just now; "none are left" is true when he is done.
            self.ground = self.ground.max(self.staged_ground());
        }
        ended
    }

    /// Removes records whose time is over, at most `max`, looking at no more than a few hundred.
    pub(in crate::store) fn sweep(&mut self, now: Timestamp, max: usize) -> Swept {
        if self.index.is_cluttered() {
            self.tell_times_anew();
        }
        let (mut removed, mut looked) = (0, 0);
        for class in [Class::Yielding, Class::Kept] {
            while let Some(mut bucket) = self.index.wheel(class).take_due(now) {
                let is_present = bucket.is_present(now);
                let budget = if is_present { usize::MAX } else { LOOK_MAX.saturating_sub(looked) };
                if !is_present {
                    looked += bucket.names.len();
                }
                removed += self.empty(&mut bucket, class, now, max - removed, budget);
                let is_done = bucket.names.is_empty() || is_present && removed < max;
                self.index.wheel(class).put_back(bucket);
                if !is_done {
                    return Swept::Some(removed);
                }
                // All buckets before the present one are done, and it is the last that can hold anything.
                if is_present {
                    break;
                }
            }
        }
        // "No more" rests on what others are removing just now.
        self.ground = self.ground.max(self.staged_ground());
        Swept::All(removed)
    }

    // ---- publishing ------------------------------------------------------------------------------------------------

    /// Lets everybody see what was decided, all of it at one moment.
    pub(in crate::store) fn publish_open(&mut self) {
        self.shards.publish(self.open.take());
    }

    // ---- listing ---------------------------------------------------------------------------------------------------

    /// The live sessions of a subject, as a page.
    pub(in crate::store) fn page_of_subject(
        &self,
        subject: &str,
        filter: &Filter,
        after: Option<SessionDigest>,
        max: usize,
    ) -> Page {
        let mut names = self.index.sessions(subject);
        // A session that is ending counts as live until that is published.
        let ending = self.open.0.iter().chain(&self.writing.0).filter_map(|change| change.before.as_ref());
        names.extend(ending.filter(|record| is_of(record, subject)).map(|record| record.digest.spread()));
        // In the order of the digests, since a short name is how a digest begins.
        names.sort_unstable();
        names.dedup();
        if let Some(after) = after {
            names.retain(|name| *name >= after.spread());
        }
        let records = names.iter().filter_map(|name| self.shards.find(*name, |_| true));
        let wanted = |record: &Arc<Record>| {
            after.is_none_or(|after| record.digest > after) && is_of(record, subject) && matches(filter, record)
        };
        paged(records.filter(wanted).take(max + 1).collect(), max)
    }

    /// As [`page`], with nothing changing meanwhile: a session that gets a new id can not slip past.
    pub(in crate::store) fn page_exactly(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Page {
        let mut found = Vec::new();
        let mut next = Some(first_shard(after));
        while let Some(shard) = next {
            next = self.shards.collect(shard, filter, after, max + 1, &mut found);
        }
        paged(found, max)
    }

    // ---- below -----------------------------------------------------------------------------------------------------

    fn latest(&mut self, digest: &SessionDigest) -> Option<Arc<Record>> {
        self.latest_named(digest.spread(), |found| found == digest)
    }

    /// The record as later decisions must see it.
    fn latest_named(&mut self, spread: u64, is: impl Fn(&SessionDigest) -> bool) -> Option<Arc<Record>> {
        if let Some(change) = self.open.find(spread, &is) {
            self.ground = Ground::Open;
            return change.after.clone();
        }
        if let Some(change) = self.writing.find(spread, &is) {
            self.ground = self.ground.max(Ground::Writing);
            return change.after.clone();
        }
        self.shards.find(spread, is)
    }

    /// The live sessions of a subject, as later decisions must see them.
    fn live_of(&mut self, subject: &str) -> impl Iterator<Item = Arc<Record>> {
        let names = self.index.sessions(subject);
        names
            .into_iter()
            .filter_map(|name| self.latest_named(name, |_| true))
            .filter(|record| !record.is_ended() && is_of(record, subject))
    }

    fn staged_ground(&self) -> Ground {
        match (self.open.0.is_empty(), self.writing.0.is_empty()) {
            (false, _) => Ground::Open,
            (true, false) => Ground::Writing,
            (true, true) => Ground::Published,
        }
    }

    fn stage(&mut self, before: Option<Arc<Record>>, after: Option<Arc<Record>>) {
        let Some(digest) = after.as_ref().or(before.as_ref()).map(|record| record.digest) else { return };
        self.index.apply(before.as_ref(), after.as_ref());
        self.open.put(Change { digest, before, after });
        self.ground = Ground::Open;
    }

    fn insert(&mut self, mut record: Record) -> u32 {
        record.version = 0;
        let subject = record.subject.clone();
        self.stage(None, Some(Arc::new(record)));
        let live = subject.map_or(0, |subject| self.index.live(&subject));
        u32::try_from(live).unwrap_or(u32::MAX)
    }

    fn next_version(&mut self, mut record: Record) -> Result<(Arc<Record>, Arc<Record>), Commit> {
        let stored = self.latest(&record.digest).filter(|stored| !stored.is_ended()).ok_or(Commit::Gone)?;
        if stored.version != record.version {
            return Err(Commit::Conflict(stored));
        }
        record.version = stored.version.saturating_add(1);
        // These never change under one id, so a caller who got one wrong does no harm.
        record.subject.clone_from(&stored.subject);
        record.id_since = stored.id_since;
        record.reference = stored.reference;
        Ok((stored, Arc::new(record)))
    }

    fn end(&mut self, record: &Arc<Record>, why: EndReason, now: Timestamp, until: Timestamp) {
        let tombstone = Arc::new(record.ended(now, why, until));
        self.stage(Some(Arc::clone(record)), Some(tombstone));
    }

    /// Ends sessions for a newer one. Their tombstones stay as long as the sessions would have.
    fn end_evicted(&mut self, evicted: &[Arc<Record>], now: Timestamp) {
        for record in evicted {
            self.end(record, EndReason::Evicted, now, record.removable_at);
        }
    }

    /// The sessions of the new record's subject that must end for it; none if it must not be created. Those that leave
    /// anyway do not count.
    fn over_limit(
        &mut self,
        new: &Record,
        limit: Option<SubjectLimit>,
        leaving: &[SessionDigest],
        now: Timestamp,
    ) -> Option<Vec<Arc<Record>>> {
        let (Some(subject), Some(limit)) = (new.subject.as_deref(), limit) else { return Some(Vec::new()) };
        let max = usize::try_from(limit.sessions.get()).unwrap_or(usize::MAX);
        if limit.on_limit == OnLimit::Report || self.index.live(subject) < max {
            return Some(Vec::new());
        }
        // Only now the sessions themselves are looked at: some may leave, and some be over without having been removed.
        let live: Vec<_> = self.live_of(subject).collect();
        let mut live = live.into_iter().filter(|record| !leaving.contains(&record.digest) && record.removable_at > now);
        match limit.on_limit {
            OnLimit::Refuse => (live.take(max).count() < max).then(Vec::new),
            OnLimit::EvictOldest | OnLimit::Report => {
                let mut live: Vec<_> = live.by_ref().collect();
                live.sort_unstable_by_key(|record| (record.last_seen, record.digest));
                live.truncate((live.len() + 1).saturating_sub(max));
                Some(live)
            }
        }
    }

    /// Makes room for one more record: first what is over, then tombstones and anonymous sessions, the ones that would
    /// have been over first. Never a live session that somebody authenticated in: one who can log in often could end
    /// everybody's sessions otherwise. Gives how many live sessions went.
    fn make_room(&mut self, now: Timestamp) -> Result<u32, Full> {
        if self.index.count() < self.sessions_max {
            return Ok(0);
        }
        // When many are created in a full store, looking once a second for what is over is enough.
        let second = now.as_secs();
        if self.looked_for_expired_at != Some(second) {
            self.looked_for_expired_at = Some(second);
            self.sweep(now, 64);
        }
        let mut displaced = 0;
        // One more than needed, so that a store whose limit was lowered shrinks little by little.
        for needed in [true, false] {
            if self.index.count() < self.sessions_max {
                break;
            }
            match self.evict_one() {
                Some(record) => displaced += u32::from(!record.is_ended()),
                None if needed => return Err(Full),
                None => {}
            }
        }
        Ok(displaced)
    }

    fn evict_one(&mut self) -> Option<Arc<Record>> {
        while let Some((start, name)) = self.index.wheel(Class::Yielding).pop() {
            let Some(record) = self.latest_named(name, |_| true) else { continue };
            if Class::of(&record) != Class::Yielding {
                continue;
            }
            let from = Timestamp::from_millis(start);
            if bucket(record.removable_at, from) > start {
                self.index.schedule(&record, from);
                continue;
            }
            self.stage(Some(record.clone()), None);
            return Some(record);
        }
        None
    }

    /// Takes names out of a due bucket: removes what is over, moves what is not. Names that belong in this very bucket
    /// stay in it. Gives how many were removed.
    fn empty(&mut self, bucket: &mut Bucket, class: Class, now: Timestamp, max: usize, budget: usize) -> usize {
        let (mut removed, from, start) = (0, bucket.from(now), bucket.start);
        for _ in 0..bucket.names.len().min(budget) {
            if removed == max {
                break;
            }
            let Some(name) = bucket.names.pop_front() else { break };
            // Two digests with the same first eight bytes would be taken for one another here: one of them would then be
            // removed late, once in 10^7 stores of a million sessions.
            match self.latest_named(name, |_| true) {
                Some(record) if Class::of(&record) != class => {}
                Some(record) if record.removable_at <= now => {
                    self.stage(Some(record), None);
                    removed += 1;
                }
                Some(record) if wheel::bucket(record.removable_at, from) == start => bucket.names.push_back(name),
                Some(record) => self.index.schedule(&record, from),
                None => {}
            }
        }
        removed
    }

    fn tell_times_anew(&mut self) {
        self.index.forget_times();
        let (index, shards) = (&mut self.index, &self.shards);
        shards.for_each(|record| index.schedule(&record, record.last_seen));
        for change in self.writing.0.iter().chain(self.open.0.iter()) {
            if let Some(record) = &change.after {
                index.schedule(record, record.last_seen);
            }
        }
    }
}

/// Whether a filter names a record.
pub(in crate::store) fn matches(filter: &Filter, record: &Record) -> bool {
    (filter.with_ended || !record.is_ended())
        && filter.reference.is_none_or(|reference| record.reference == reference)
        && filter.subject.as_ref().is_none_or(|subject| is_of(record, subject))
}

fn is_of(record: &Record, subject: &str) -> bool {
    record.subject.as_deref().is_some_and(|own| is_same(own, subject))
}

fn first_shard(after: Option<SessionDigest>) -> usize {
    after.as_ref().map_or(0, Shards::place)
}

/// A page of the first `max` records; one more tells that there is another page.
pub(in crate::store) fn paged(mut records: Vec<Arc<Record>>, max: usize) -> Page {
    let is_more = records.len() > max;
    records.truncate(max);
    Page { next: records.last().map(|record| record.digest).filter(|_| is_more), records }
}

/// A page of what everybody sees. It looks at one shard after the other and lets others run in between; `lock` is taken
/// only where that is not enough.
pub(in crate::store) async fn list<'a>(
    shards: &Shards,
    lock: impl Fn() -> MappedMutexGuard<'a, Table>,
    filter: &Filter,
    after: Option<SessionDigest>,
    max: usize,
) -> Page {
    let max = max.clamp(1, PAGE_MAX);
    if let Some(subject) = filter.subject.as_deref().filter(|_| !filter.with_ended) {
        return lock().page_of_subject(subject, filter, after, max);
    }
    let mut found = Vec::new();
    let mut next = Some(first_shard(after));
    while let Some(shard) = next {
        next = shards.collect(shard, filter, after, max + 1, &mut found);
        if shard % 8 == 7 {
            tokio::task::yield_now().await;
        }
    }
    if found.is_empty() && filter.reference.is_some() {
        // It may have got a new id while we looked, and slipped past: whoever wants to end it must find it. This holds
        // up changes, a tenth of a second with a million sessions, but not loading.
        return lock().page_exactly(filter, after, max);
    }
    paged(found, max)
}
