//! Where sessions are kept: the trait every store implements.
//!
//! Two rules carry everything else. A commit succeeds only over the version it was made from, so a late save can neither
//! undo a rotation nor bring back a session that has ended. And there is no blind write: a record comes into being by
//! `create` or `rotate` alone.

pub mod any;
pub mod cached;
pub mod conformance;
pub mod counters;
pub mod debts;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod endings;
#[cfg(feature = "file")]
pub mod file;
#[cfg(test)]
mod hooked;
#[cfg(feature = "redis")]
pub mod kv;
pub mod leases;
pub mod memory;
pub mod metered;
pub mod migrate;
#[cfg(any(feature = "embedded", feature = "file"))]
mod on_disk;
pub mod row;
pub mod sealed;
pub mod shared;
#[cfg(feature = "sql")]
pub mod sql;
mod table;
#[cfg(feature = "tower-sessions")]
pub mod tower;

use std::future::Future;
use std::num::{NonZeroU32, NonZeroUsize};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use self::endings::{Endings, Notice};
use crate::clock::Timestamp;
use crate::session::carried::Origin;
use crate::session::id::{Ref, SessionDigest};
use crate::session::record::{EndReason, Record};

/// A store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("the session store failed: {0}")]
    Io(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A stored record can not be read.
    #[error("a stored session can not be read: {0}")]
    Decode(#[from] crate::session::record::DecodeError),
    /// The store is full, and nothing in it may be evicted.
    #[error("the session store is full")]
    Full,
    /// A session is too large for this store.
    #[error(
        "a session of {bytes} bytes is too large for this store, which takes {max}: keep less in it, or use another store"
    )]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max: usize,
    },
    /// The store was closed.
    #[error("the session store is closed")]
    Closed,
}

impl StoreError {
    /// Wraps an error of the layer below.
    pub fn io(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Io(source.into())
    }
}

/// How many live sessions a subject may have, and what happens beyond. Spellings that are the same subject
/// ([`is_same`](crate::session::subject::is_same)) count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectLimit {
    /// How many.
    pub sessions: NonZeroU32,
    /// What happens to the one that is too many.
    pub on_limit: OnLimit,
}

/// What happens when a subject has as many sessions as he may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLimit {
    /// The new one is not created.
    Refuse,
    /// The one that was used least recently ends.
    EvictOldest,
    /// It is created, and told.
    Report,
}

/// When a commit must have reached what outlives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before the call returns.
    Durable,
    /// Soon: a crash may lose it, and nothing but a time or a counter with it.
    Soon,
}

/// A session was created or rotated.
#[derive(Clone, Debug)]
pub enum Created {
    /// It is there.
    Done {
        /// Sessions of the subject that had to end for it.
        evicted: Vec<Arc<Record>>,
        /// How many live sessions the subject has now, this one included; 0 without a subject.
        live: u32,
        /// Live sessions, of nobody who authenticated, that a full store gave up for it.
        displaced: u32,
    },
    /// The subject has as many as he may. Nothing was changed.
    Refused,
}

/// Answer of [`Store::create`].
#[derive(Clone, Debug)]
pub enum Creation {
    /// As [`Created`].
    Created(Created),
    /// There is a record under this digest already. Nothing was changed.
    Exists,
}

/// Answer of [`Store::commit`].
#[derive(Clone, Debug)]
pub enum Commit {
    /// Stored; this is the record now, its version one higher.
    Done(Arc<Record>),
    /// Somebody else committed in between; this is what is there. Nothing was changed.
    Conflict(Arc<Record>),
    /// The session has ended or is not there. Nothing was changed.
    Gone,
}

/// Answer of [`Store::rotate`].
#[derive(Clone, Debug)]
pub enum Rotation {
    /// The new record is there, the old one is a tombstone.
    Created(Created),
    /// Somebody else committed to the old record in between; this is what is there. Nothing was changed.
    Conflict(Arc<Record>),
    /// The old session has ended or is not there, or the new digest is taken. Nothing was changed.
    Gone,
}

/// What [`Store::rotate`] is to do.
#[derive(Clone, Debug)]
pub struct Rotate<'a> {
    /// The session that goes on under a new id.
    pub old: &'a SessionDigest,
    /// The version of it that the new record was made from.
    pub version: u64,
    /// The record under the new id. It is stored with version 0.
    pub new: Record,
    /// A second session that ends with it: the one a quarantined client was moved away from.
    pub also_end: Option<&'a SessionDigest>,
    /// The limit for the new record's subject.
    pub limit: Option<SubjectLimit>,
    /// Now.
    pub now: Timestamp,
    /// Until when the tombstone is kept.
    pub tombstone_until: Timestamp,
}

/// Which sessions [`Store::list`] gives.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this subject's, in any spelling.
    pub subject: Option<Arc<str>>,
    /// Only the one of this public name.
    pub reference: Option<Ref>,
    /// Also those that ended and are still kept.
    pub with_ended: bool,
}

/// A page of sessions.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The records, in order of their digests.
    pub records: Vec<Arc<Record>>,
    /// Where the next page begins; none when this was the last.
    pub next: Option<SessionDigest>,
}

/// Why and when sessions end by decision.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Why.
    pub why: EndReason,
    /// Now.
    pub now: Timestamp,
    /// Until when the tombstone is kept.
    pub tombstone_until: Timestamp,
}

/// What [`Store::load`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// What is stored.
    Present,
    /// What was stored a while ago, maybe: another node may have changed it since.
    Cached,
}

/// What stands for the records that a store gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: they may have been written under keys that are gone, or by whoever can write where it keeps them.
    None,
    /// The process: they were begun by it, under the keys that its guards had then.
    Process,
    /// A key: each is opened when it is asked for, and one that was sealed under none of the ring is no record.
    Key,
}

/// How many sessions a store of this crate keeps unless told otherwise: about 700 MB of them.
pub const SESSIONS_MAX_DEFAULT: NonZeroUsize = NonZeroUsize::new(1_000_000).unwrap();

/// Most records of one page.
pub const PAGE_MAX: usize = 1000;

/// A place to keep sessions.
///
/// Every method is atomic: it happens wholly or not at all, and two of them on one session happen one after the other.
/// Run [`conformance`] over your own implementation.
pub trait Store: Send + Sync + 'static {
    /// Stores a new session, with version 0. A record that has ended is stored as the tombstone that it is: its digest is taken
    /// from then on, and it counts for no limit.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was changed then, unless the store says otherwise.
    fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Creation, StoreError>> + Send;

    /// The session under a digest, ended ones that are still kept included. It does not look at deadlines.
    ///
    /// # Errors
    /// [`StoreError`].
    fn load(&self, digest: &SessionDigest) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send;

    /// As [`load`](Self::load), and never what was stored a while ago. The same for a store whose [`reads`](Self::reads) are
    /// of the present; a store that wraps another passes both on.
    ///
    /// # Errors
    /// [`StoreError`].
    fn load_fresh(
        &self,
        digest: &SessionDigest,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send {
        self.load(digest)
    }

    /// What [`load`](Self::load) gives. A guard asks a store that has a cache once more before it believes what may be old.
    fn reads(&self) -> Reads {
        Reads::Present
    }

    /// Which sessions end from now on, on any node, if whatever keeps them tells that. Asked within a tokio runtime.
    fn notices(&self) -> Option<Endings> {
        None
    }

    /// What has to be told to this store ([`heed`](Self::heed)), because it keeps records for a moment:
    /// [`tend`](crate::engine::tend) does that. A store that wraps one passes both on.
    fn follows(&self) -> Option<Endings> {
        None
    }

    /// Lets go of what may be over.
    fn heed(&self, notice: Notice) {
        let _ = notice;
    }

    /// The leases of those who keep records for a moment, if whatever keeps the sessions has them. A store that wraps one passes this
    /// on.
    fn leases(&self) -> Option<&dyn leases::Leases> {
        None
    }

    /// Does what has to be done now and then by a store that keeps records for a moment, after a [`Notice::Recall`] and when the time
    /// that this gives is over: [`tend`](crate::engine::tend) does that. A store that wraps one passes this on.
    fn attend(&self) -> impl Future<Output = Option<Duration>> + Send {
        std::future::ready(None)
    }

    /// What stands for its records. Where nothing does, a guard asks of each session that it knows whether it is one of its
    /// own keys', which takes a keyed hash more.
    fn proof(&self) -> Proof {
        Proof::None
    }

    /// Replaces a live session's record by one made from the version that is stored. A change of subject is done by
    /// `rotate`, never here: the subject of `record` must be that of the stored one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn commit(&self, record: Record, durability: Durability)
    -> impl Future<Output = Result<Commit, StoreError>> + Send;

    /// Gives a live session a new id: the new record is stored and the old one becomes a tombstone, in one step.
    ///
    /// # Errors
    /// [`StoreError`].
    fn rotate(&self, rotate: Rotate<'_>) -> impl Future<Output = Result<Rotation, StoreError>> + Send;

    /// Ends a session. Gives its last record; none if it had ended or was not there.
    ///
    /// # Errors
    /// [`StoreError`].
    fn revoke(
        &self,
        digest: &SessionDigest,
        ending: Ending,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send;

    /// Ends all live sessions of a subject but `except`, in whatever spelling of it they began. Gives their last records.
    ///
    /// # Errors
    /// [`StoreError`].
    fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> impl Future<Output = Result<Vec<Arc<Record>>, StoreError>> + Send;

    /// Sessions in order of their digests, beginning after `after`; at least one if there is one, at most `max`, and never
    /// more than [`PAGE_MAX`].
    ///
    /// The live sessions of a subject are listed as they are at one moment, and a session that is asked for by its
    /// reference is found though it may just be getting a new id. A page of everything is not: a session that gets a new
    /// id meanwhile may be missing from it or be there twice.
    ///
    /// # Errors
    /// [`StoreError`].
    fn list(
        &self,
        filter: &Filter,
        after: Option<SessionDigest>,
        max: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Removes at most `max` records whose `removable_at` has passed; gives how many. Less than `max` means there are
    /// no more.
    ///
    /// # Errors
    /// [`StoreError`].
    fn clear_expired(&self, now: Timestamp, max: usize) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// How the clients carry their sessions, if this store has them do it. A store that wraps one passes this on, unless it
    /// keeps what it was told of sessions.
    fn carrier(&self) -> Option<&dyn Carrier> {
        None
    }

    /// How many sessions it has that have not ended, if it knows that without looking through them. Those whose time is over
    /// count until somebody removes them.
    fn live(&self) -> Option<usize> {
        None
    }

    /// Where rules and limits count if several guards share this store. None: each guard counts for itself.
    fn counters(&self) -> Option<&dyn counters::Counters> {
        None
    }
}

/// A store whose sessions are carried by their clients. The guard seals and opens what they carry
/// ([`Carried`](crate::session::carried::Carried)).
pub trait Carrier: Send + Sync {
    /// Takes in what a client shows, unless something later is known here, or a key that it was made under is none of the store's.
    /// Whether it is still in force, the next [`load`](Store::load) tells. Gives whether that is how the session is known here
    /// now.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    fn take_in(&self, record: Record, origin: Origin, now: Timestamp) -> Result<bool, StoreError>;

    /// What the client of a session is to carry: the record as it is known here, and where it comes from. None if it has
    /// ended.
    fn give_out(&self, digest: &SessionDigest) -> Option<(Arc<Record>, Origin)>;

    /// Ends all sessions, also those that are not known here. Gives the last records of those that are.
    ///
    /// # Errors
    /// [`StoreError`].
    fn end_all(&self, ending: Ending) -> Ended<'_>;
}

/// Answer of [`Carrier::end_all`].
pub type Ended<'a> = Pin<Box<dyn Future<Output = Result<Vec<Arc<Record>>, StoreError>> + Send + 'a>>;
