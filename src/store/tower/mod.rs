//! Sessions in any store that `tower-sessions` has: an adapter over its trait, [`SessionStore`].
//!
//! Our record is sealed and stands, in base64, under one key of a record of theirs, whose id is the first half of the
//! digest. What is stored there names nobody and opens no session.
//!
//! **What it can not give.** That trait creates, saves, loads and deletes one record at a time. It compares nothing, lists
//! nothing and knows no subjects, so what [`Store`] promises holds within one process that has seen the sessions:
//!
//! - *Two processes over one store.* Each reads a session before it changes it, so most changes of the other are seen, but
//!   of two at the same moment one is lost: a late save of one can undo what the other did, and that may be the end of the
//!   session. Run one process, or take a store that compares.
//! - *After a restart* it knows no session until somebody shows its cookie. Until then the session is not listed, does not
//!   count for its subject's limit, and `revoke_subject` does not end it. To end everything, empty the store below or take
//!   the key out of the ring.
//! - *A crash or a failure half way.* A rotation is two saves. The old id ends first: at worst nobody has the session any
//!   more, and never are both ids good. After an error, sessions that were to end may have ended.
//! - *Time.* The store below removes records by its own clock, from the time on that they may be removed.
//!
//! Changes are made one after the other, as many a second as the store below can answer. While it hangs, each is an error after
//! [`ANSWER_MAX`] for every step it waits for. What was seen is in memory, about
//! 700 bytes a session. All cases of [`conformance`](super::conformance) hold within one process without a restart.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use parking_lot::MutexGuard;
use time::OffsetDateTime;
use tokio::sync::OwnedMutexGuard;
use tower_sessions_core::session::{Id, Record as Stored};
use tower_sessions_core::{SessionStore, session_store};

use super::row::Rows;
use super::table::{Change, Shards, Swept, Table, list};
use super::{
    Commit, Creation, Durability, Ending, Filter, Page, Rotate, Rotation, SESSIONS_MAX_DEFAULT, Store, StoreError,
    SubjectLimit,
};
use crate::clock::Timestamp;
use crate::session::id::SessionDigest;
use crate::session::record::{DecodeError, Record};

/// Under which key of their data our row stands.
const KEY: &str = "portcullis";

/// How long one answer of the store below may take, and how long a change waits for its turn.
pub const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The last second that their times can tell: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// A store over one of `tower-sessions`. See the module for what it can not give.
///
/// Changes run in tasks of their own, so it is used within a tokio runtime.
#[derive(Debug)]
pub struct TowerSessions<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    store: T,
    rows: Arc<Rows>,
    sessions_max: NonZeroUsize,
    shards: Arc<Shards>,
    /// What was seen, as it is below.
    table: parking_lot::Mutex<Table>,
    /// Whose turn it is to change something, and of which sessions it is not known how a change that failed has left them.
    turn: Arc<tokio::sync::Mutex<Vec<SessionDigest>>>,
}

impl<T: SessionStore> TowerSessions<T> {
    /// Keeps sessions in `store`, sealed by `rows`. It remembers [`SESSIONS_MAX_DEFAULT`] of them.
    pub fn new(store: T, rows: Arc<Rows>) -> Self {
        Self::with_sessions_max(store, rows, SESSIONS_MAX_DEFAULT)
    }

    /// The same for at most so many sessions, ended ones that are still kept included. A session that this process did not
    /// begin is served beyond that, and not remembered.
    pub fn with_sessions_max(store: T, rows: Arc<Rows>, sessions_max: NonZeroUsize) -> Self {
        let table = Table::new(sessions_max);
        let shards = Arc::clone(table.shards());
        let (table, turn) = (parking_lot::Mutex::new(table), Arc::default());
        Self(Arc::new(Inner { store, rows, sessions_max, shards, table, turn }))
    }

    /// The store below.
    pub fn store(&self) -> &T {
        &self.0.store
    }

    /// How many sessions it has seen and remembers.
    pub fn count(&self) -> usize {
        self.0.table.lock().count()
    }

    /// Decides something about sessions as they are below, and writes it there.
    async fn change<R: Send + 'static>(
        &self,
        about: Vec<SessionDigest>,
        decide: impl FnOnce(&mut Table) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let inner = Arc::clone(&self.0);
        // Before the task is made: while the store below hangs, those who wait must not pile up.
        let turn = tokio::time::timeout(ANSWER_MAX, Arc::clone(&inner.turn).lock_owned()).await;
        let turn = turn.ok().ok_or_else(|| StoreError::io(Late))?;
        // Whoever waits may go away, and a rotation must not stop half way.
        let task = tokio::spawn(async move { inner.change(turn, about, decide).await });
        task.await.unwrap_or_else(|error| Err(StoreError::io(error)))
    }
}

impl<T: SessionStore> Inner<T> {
    async fn change<R>(
        &self,
        mut doubtful: OwnedMutexGuard<Vec<SessionDigest>>,
        about: Vec<SessionDigest>,
        decide: impl FnOnce(&mut Table) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        while let Some(digest) = doubtful.last() {
            match self.look(digest).await {
                // One that can not be read must not hold up all others.
                Err(StoreError::Decode(_)) => self.table.lock().learn(digest, None),
                looked => looked?,
            }
            doubtful.pop();
        }
        for digest in &about {
            self.look(digest).await?;
        }
        let (answer, mut changes) = {
            let mut table = self.table.lock();
            let answer = decide(&mut table);
            (answer, table.begin_writing())
        };
        // What ends, ends before anything begins, and what is removed can wait.
        changes.sort_by_key(|change| match (&change.before, &change.after) {
            (Some(_), Some(_)) => 0,
            (None, _) => 1,
            (Some(_), None) => 2,
        });
        for change in &changes {
            match self.write(change).await {
                Ok(Wrote::This) => {}
                Ok(Wrote::Nothing) => doubtful.push(change.digest),
                Err(error) => {
                    self.table.lock().undo_writing();
                    doubtful.extend(changes.iter().map(|change| change.digest));
                    return Err(error);
                }
            }
        }
        self.table.lock().publish_written();
        answer
    }

    /// Takes note of a session as it is below: another process may have changed it, or this one not have seen it yet.
    async fn look(&self, digest: &SessionDigest) -> Result<(), StoreError> {
        let stored = self.read(digest).await?;
        self.table.lock().learn(digest, stored);
        Ok(())
    }

    async fn read(&self, digest: &SessionDigest) -> Result<Option<Record>, StoreError> {
        let Some(stored) = in_time(self.store.load(&id(digest))).await? else { return Ok(None) };
        let row = stored.data.get(KEY).and_then(|row| STANDARD_NO_PAD.decode(row.as_str()?).ok());
        self.rows.open(digest, row.ok_or(DecodeError::Damaged)?).map(Some)
    }

    async fn write(&self, change: &Change) -> Result<Wrote, StoreError> {
        match (&change.before, &change.after) {
            (None, Some(record)) => {
                let mut new = self.stored(record)?;
                in_time(self.store.create(&mut new)).await?;
                if new.id != id(&change.digest) {
                    // Theirs may give a record another id if there is one already. It was not there a moment ago.
                    in_time(self.store.delete(&new.id)).await?;
                    return Err(StoreError::io("somebody else has just created this session"));
                }
            }
            (Some(_), Some(record)) => in_time(self.store.save(&self.stored(record)?)).await?,
            (before, None) => {
                // One that another process has used since is not over, and one that can not be read is left alone.
                let is_known = match self.read(&change.digest).await {
                    Ok(stored) => stored
                        .is_none_or(|stored| before.as_ref().is_some_and(|before| stored.version == before.version)),
                    Err(StoreError::Decode(_)) => false,
                    Err(error) => return Err(error),
                };
                if !is_known {
                    return Ok(Wrote::Nothing);
                }
                in_time(self.store.delete(&id(&change.digest))).await?;
            }
        }
        Ok(Wrote::This)
    }

    fn stored(&self, record: &Record) -> Result<Stored, StoreError> {
        let row = STANDARD_NO_PAD.encode(self.rows.seal(record)?);
        let data = HashMap::from([(KEY.to_owned(), row.into())]);
        // Rounded up: what may be removed later must not be gone earlier.
        let until = i64::try_from(record.removable_at.as_secs().saturating_add(1).min(LAST_SECOND));
        let expiry_date = OffsetDateTime::from_unix_timestamp(until.unwrap_or(0)).map_err(StoreError::io)?;
        Ok(Stored { id: id(&record.digest), data, expiry_date })
    }

    /// What is told of a session that was read, which is remembered if it is new here. While a change is being written the
    /// session is told as it was before: what was read may be half of the change, and half of it nobody must see.
    fn told(&self, digest: &SessionDigest, stored: Option<Record>) -> Option<Arc<Record>> {
        let mut table = self.table.lock();
        if table.is_staged(digest) {
            return self.shards.get(digest);
        }
        let record = stored?;
        if table.count() < self.sessions_max.get() {
            // None if it was known already.
            let _: Option<()> = table.restore(record.clone());
        }
        Some(Arc::new(record))
    }
}

/// The store below took too long.
#[derive(Debug, thiserror::Error)]
#[error("the session store below did not answer within {ANSWER_MAX:?}")]
struct Late;

/// Waits for the store below, which may hang, no longer than [`ANSWER_MAX`].
async fn in_time<R>(answer: impl Future<Output = session_store::Result<R>>) -> Result<R, StoreError> {
    match tokio::time::timeout(ANSWER_MAX, answer).await {
        Ok(answer) => answer.map_err(StoreError::io),
        Err(_) => Err(StoreError::io(Late)),
    }
}

/// What came of a change below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrote {
    This,
    /// The session is another than was thought.
    Nothing,
}

/// Their id for a session.
fn id(digest: &SessionDigest) -> Id {
    Id(digest.0.first_chunk().map_or(0, |half| i128::from_be_bytes(*half)))
}

impl<T: SessionStore> Store for TowerSessions<T> {
    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        self.change(vec![record.digest], move |table| Ok(table.create(record, limit, now)?)).await
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        let stored = self.0.read(digest).await?;
        Ok(self.0.told(digest, stored))
    }

    async fn commit(&self, record: Record, _: Durability) -> Result<Commit, StoreError> {
        self.change(vec![record.digest], move |table| Ok(table.commit(record))).await
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        let Rotate { old, version, new, also_end, limit, now, tombstone_until } = rotate;
        let (old, also_end) = (*old, also_end.copied());
        let about = [old, new.digest].into_iter().chain(also_end).collect();
        let decide = move |table: &mut Table| {
            let also_end = also_end.as_ref();
            Ok(table.rotate(Rotate { old: &old, version, new, also_end, limit, now, tombstone_until })?)
        };
        self.change(about, decide).await
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        let digest = *digest;
        self.change(vec![digest], move |table| Ok(table.revoke(&digest, ending))).await
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        let (subject, except) = (subject.to_owned(), except.copied());
        self.change(Vec::new(), move |table| Ok(table.revoke_subject(&subject, except.as_ref(), ending))).await
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        let lock = || MutexGuard::map(self.0.table.lock(), |table| table);
        Ok(list(&self.0.shards, lock, filter, after, max).await)
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        let mut gone = 0;
        while gone < max {
            let most = max - gone;
            match self.change(Vec::new(), move |table| Ok(table.sweep(now, most))).await? {
                Swept::All(removed) => return Ok(gone + removed),
                Swept::Some(removed) => gone += removed,
            }
        }
        Ok(gone)
    }
}
