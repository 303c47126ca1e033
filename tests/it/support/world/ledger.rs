//! A store in memory that counts what it is asked, can fail, and can be restarted with what was durable.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use portcullis::clock::Timestamp;
use portcullis::session::id::SessionDigest;
use portcullis::session::record::Record;
use portcullis::store::counters::{Answered, Counters, Question};
use portcullis::store::debts::{Change, Changed, Counts};
use portcullis::store::memory::MemoryStore;
use portcullis::store::{
    Commit, Created, Creation, Durability, Ending, Filter, Page, Rotate, Rotation, Store, StoreError, SubjectLimit,
};

#[derive(Default)]
pub(crate) struct Ledger {
    memory: ArcSwap<MemoryStore>,
    /// What a crash leaves.
    durable: Mutex<BTreeMap<SessionDigest, Record>>,
    writes: AtomicUsize,
    durable_writes: AtomicUsize,
    out: AtomicBool,
    /// Writes that still succeed, plus one; zero if all do.
    writes_left: AtomicUsize,
    /// How often somebody else writes a record first.
    interference: AtomicUsize,
    /// In how many walks every session that is found gets another id right afterwards.
    slips: AtomicUsize,
    /// Counts that this store shares with others.
    counts: OnceLock<Arc<Counts>>,
    /// Questions about them that were asked.
    asked: AtomicUsize,
    /// How often numbers of limits were to be changed.
    changed: AtomicUsize,
    mute: AtomicBool,
    /// The session that can not be ended.
    stays: Mutex<Option<SessionDigest>>,
}

impl Ledger {
    /// Writes since this was asked last.
    pub(crate) fn writes(&self) -> usize {
        self.writes.swap(0, Ordering::Relaxed)
    }

    /// Those of them that had to reach the disk.
    pub(crate) fn durable_writes(&self) -> usize {
        self.durable_writes.swap(0, Ordering::Relaxed)
    }

    /// From now on every call fails, until [`recovers`](Self::recovers).
    pub(crate) fn fails(&self) {
        self.out.store(true, Ordering::Relaxed);
    }

    pub(crate) fn recovers(&self) {
        self.out.store(false, Ordering::Relaxed);
        self.writes_left.store(0, Ordering::Relaxed);
    }

    /// After so many more writes every write fails, until [`recovers`](Self::recovers).
    pub(crate) fn fails_after(&self, writes: usize) {
        self.writes_left.store(writes + 1, Ordering::Relaxed);
    }

    /// From now on this session can not be ended.
    pub(crate) fn keeps(&self, digest: SessionDigest) {
        *self.stays.lock().unwrap() = Some(digest);
    }

    /// The next writes of a session each come a moment after somebody else's.
    pub(crate) fn others_write_first(&self, times: usize) {
        self.interference.store(times, Ordering::Relaxed);
    }

    /// In the next walks over all sessions, each one that is found gets another id right afterwards.
    pub(crate) fn sessions_slip_away(&self, walks: usize) {
        self.slips.store(walks, Ordering::Relaxed);
    }

    /// What rules count is counted with the store from now on.
    pub(crate) fn shares_counts(&self) -> Arc<Counts> {
        self.counts.get_or_init(Arc::default).clone()
    }

    /// What rules count is counted in these.
    pub(crate) fn counts_in(&self, counts: Arc<Counts>) {
        self.counts.set(counts).unwrap();
    }

    /// Questions about counts since this was asked last.
    pub(crate) fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// How often numbers of limits were to be changed since this was asked last.
    pub(crate) fn changed(&self) -> usize {
        self.changed.swap(0, Ordering::Relaxed)
    }

    /// Sessions are loaded and stored, and nothing is counted, until `is_mute` is false.
    pub(crate) fn counts_fail(&self, is_mute: bool) {
        self.mute.store(is_mute, Ordering::Relaxed);
    }

    async fn slip_away(&self, page: &Page) -> Result<(), StoreError> {
        for record in &page.records {
            let mut new = Record::clone(record);
            (new.digest.0[0], new.version) = (new.digest.0[0].wrapping_add(1), 0);
            let rotate = Rotate {
                old: &record.digest,
                version: record.version,
                new,
                also_end: None,
                limit: None,
                now: record.created_at,
                tombstone_until: record.removable_at,
            };
            self.rotate(rotate).await?;
        }
        Ok(())
    }

    async fn to_write(&self, digest: Option<&SessionDigest>) -> Result<Arc<MemoryStore>, StoreError> {
        let memory = self.now()?;
        match self.writes_left.load(Ordering::Relaxed) {
            0 => {}
            1 => return Err(StoreError::io("the disk is full of holes")),
            left => self.writes_left.store(left - 1, Ordering::Relaxed),
        }
        let left = self.interference.load(Ordering::Relaxed);
        if let Some(digest) = digest.filter(|_| left > 0) {
            self.interference.store(left - 1, Ordering::Relaxed);
            if let Some(record) = memory.load(digest).await? {
                memory.commit(Record::clone(&record), Durability::Soon).await?;
            }
        }
        Ok(memory)
    }

    /// A crash and a new start: what was to be written soon is lost.
    pub(crate) async fn restarts(&self) {
        let memory = MemoryStore::default();
        let durable: Vec<Record> = self.durable.lock().unwrap().values().cloned().collect();
        for record in durable {
            let stored = Record::decode(&record.encode()).unwrap();
            let created = memory.create(stored, None, Timestamp::EPOCH).await.unwrap();
            assert!(matches!(created, Creation::Created(Created::Done { .. })));
        }
        self.memory.store(Arc::new(memory));
    }

    /// Forgets everything, and has room for so many sessions from now on.
    pub(crate) fn shrinks_to(&self, sessions: usize) {
        self.durable.lock().unwrap().clear();
        self.memory.store(Arc::new(MemoryStore::new(sessions.try_into().unwrap())));
    }

    /// What a crash would leave now.
    pub(crate) fn backup(&self) -> BTreeMap<SessionDigest, Record> {
        self.durable.lock().unwrap().clone()
    }

    /// A disk of an earlier time is put in, and the store started again.
    pub(crate) async fn restores(&self, backup: BTreeMap<SessionDigest, Record>) {
        *self.durable.lock().unwrap() = backup;
        self.restarts().await;
    }

    /// Every record, tombstones included.
    pub(crate) async fn everything(&self) -> Vec<Record> {
        let filter = Filter { with_ended: true, ..Filter::default() };
        let page = self.memory.load().list(&filter, None, 1000).await.unwrap();
        assert!(page.next.is_none());
        page.records.iter().map(|record| Record::clone(record)).collect()
    }

    fn now(&self) -> Result<Arc<MemoryStore>, StoreError> {
        if self.out.load(Ordering::Relaxed) {
            return Err(StoreError::io("the disk is on fire"));
        }
        Ok(self.memory.load_full())
    }

    async fn wrote(&self, memory: &MemoryStore, digests: Vec<SessionDigest>) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.durable_writes.fetch_add(1, Ordering::Relaxed);
        for digest in digests {
            let record = memory.load(&digest).await.unwrap();
            let mut durable = self.durable.lock().unwrap();
            match record {
                Some(record) => durable.insert(digest, Record::clone(&record)),
                None => durable.remove(&digest),
            };
        }
    }
}

fn evicted(created: &Created) -> Vec<SessionDigest> {
    match created {
        Created::Done { evicted, .. } => digests(evicted),
        Created::Refused => Vec::new(),
    }
}

fn digests(records: &[Arc<Record>]) -> Vec<SessionDigest> {
    records.iter().map(|record| record.digest).collect()
}

impl Counters for Ledger {
    fn ask<'a>(&'a self, questions: &'a [Question], now: Timestamp) -> Answered<'a> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.asked.fetch_add(questions.len(), Ordering::Relaxed);
            match self.counts.get().filter(|_| !self.mute.load(Ordering::Relaxed)) {
                Some(counts) => Counters::ask(&**counts, questions, now).await,
                None => Err(StoreError::io("nobody can count")),
            }
        })
    }

    fn change<'a>(&'a self, changes: &'a [Change], now: Timestamp) -> Changed<'a> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.changed.fetch_add(1, Ordering::Relaxed);
            match self.counts.get().filter(|_| !self.mute.load(Ordering::Relaxed)) {
                Some(counts) => Counters::change(&**counts, changes, now).await,
                None => Err(StoreError::io("nobody can count")),
            }
        })
    }
}

impl Store for Ledger {
    fn counters(&self) -> Option<&dyn Counters> {
        self.counts.get().map(|_| self as &dyn Counters)
    }

    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        let memory = self.to_write(None).await?;
        let digest = record.digest;
        let creation = memory.create(record, limit, now).await?;
        if let Creation::Created(created) = &creation {
            self.wrote(&memory, [evicted(created), vec![digest]].concat()).await;
        }
        Ok(creation)
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        self.now()?.load(digest).await
    }

    async fn commit(&self, record: Record, durability: Durability) -> Result<Commit, StoreError> {
        let memory = self.to_write(Some(&record.digest)).await?;
        let commit = memory.commit(record, durability).await?;
        if let Commit::Done(record) = &commit {
            match durability {
                Durability::Durable => self.wrote(&memory, vec![record.digest]).await,
                Durability::Soon => {
                    self.writes.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(commit)
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        let memory = self.to_write(Some(rotate.old)).await?;
        let touched: Vec<_> = [*rotate.old, rotate.new.digest].into_iter().chain(rotate.also_end.copied()).collect();
        let rotation = memory.rotate(rotate).await?;
        if let Rotation::Created(created) = &rotation {
            self.wrote(&memory, [touched, evicted(created)].concat()).await;
        }
        Ok(rotation)
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        let memory = self.now()?;
        if *self.stays.lock().unwrap() == Some(*digest) {
            return Err(StoreError::io("the ledger does not let go of it"));
        }
        let ended = memory.revoke(digest, ending).await?;
        if ended.is_some() {
            self.wrote(&memory, vec![*digest]).await;
        }
        Ok(ended)
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        let memory = self.now()?;
        let ended = memory.revoke_subject(subject, except, ending).await?;
        if !ended.is_empty() {
            self.wrote(&memory, digests(&ended)).await;
        }
        Ok(ended)
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        let page = self.now()?.list(filter, after, max).await?;
        let left = self.slips.load(Ordering::Relaxed);
        if left > 0 {
            self.slips.store(left - 1, Ordering::Relaxed);
            self.slip_away(&page).await?;
        }
        Ok(page)
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        let memory = self.now()?;
        let gone = memory.clear_expired(now, max).await?;
        let known: Vec<SessionDigest> = self.durable.lock().unwrap().keys().copied().collect();
        self.wrote(&memory, known).await;
        Ok(gone)
    }
}
