//! Sessions in Redis or Valkey, version 6 or later: for several guards that serve one app.
//!
//! Everything that changes a session is one script, which the server runs in one step: one round trip, and as atomic as a
//! lock. Loading is one `GET`. What the server is given is sealed ([`Rows`]): it can compare versions and times, and read
//! nothing.
//!
//! ```text
//!   {portcullis}:s:<digest>    a session: a head that scripts read, and the sealed record
//!   {portcullis}:digests       all digests, in order              {portcullis}:times      when each may be removed
//!   {portcullis}:references    by public reference                {portcullis}:subjects   live sessions by subject
//!   {portcullis}:ended         ended ones by subject              {portcullis}:ending     channel: digests that ended
//!   {portcullis}:w:<key>       a window that rules count in       {portcullis}:obeyed, {portcullis}:observed   all of them
//!   {portcullis}:nodes         nodes with a cache             {portcullis}:recalls    what they have not returned
//!   {portcullis}:rates         what limits count              {portcullis}:failures   delays after failed logins
//!   {portcullis}:remembered    devices of logins              {portcullis}:kept       empty: written to see what replicas have
//! ```
//!
//! **In a cluster** the braces put all of it into one slot, since a rotation touches two sessions and two subjects in one
//! step. So one node, and its replicas, hold all sessions of a prefix: the cluster gives failover, not more room. A million
//! sessions take 1.3 GB (measured with records of 330 bytes). Apps with prefixes of their own are on nodes of their own. While
//! that slot is being moved to another node, operations fail.
//!
//! **What survives a crash** is up to the server. With `appendonly yes` and `appendfsync everysec` a crash may lose a second of
//! what was acknowledged: logins, and also revocations. With `appendfsync always` it loses nothing. A replica may lag behind
//! too, and a failover then brings back what was there before: sessions that had ended, too. With
//! [`Settings::replicas`] a new session, a new id, an end, and that a client is moved aside is acknowledged when so many
//! replicas have it, by `WAIT`; if they do not have it in time that is an error, and it was done nevertheless. From then on
//! nothing is given out until they answer again, and ends are done, and are errors; all else goes on as without this. With one
//! replica, and that number, a failover brings nothing back. With several it is sure with the number of all of them; with fewer
//! it is as good as the choice of the next primary: sentinels and clusters take the one that is furthest, as far as they know.
//! The server must not throw out keys by itself: `maxmemory-policy noeviction`.
//! When it is full, nothing is created ([`StoreError::Full`]), but sessions still end. (Under [`sealed`](super::sealed) an end is
//! created, so they do not.)
//!
//! **An operation that fails may have been done**, if only its answer was lost. Nothing is half done.
//!
//! **A subject with very many sessions** makes ending all of them one long script, in which the server does nothing else: give
//! subjects a limit (`session.per_subject_max`).
//!
//! Whoever can write to the server can end sessions and bring back what was there before, so it belongs behind a password and
//! in a network of its own.

mod counting;
mod endings;
mod head;
mod kept;
mod leases;
mod link;
mod listing;
mod place;
mod scripts;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use self::head::{bytes, kept};
use self::kept::{Kept, Must};
pub use self::link::LinkError;
use self::link::{Again, Link};
use self::place::Place;
use self::scripts::{Answer, CLEAR, COMMIT, CREATE, REVOKE, REVOKE_SUBJECT, ROTATE, Script};
use super::counters::Counters;
use super::endings::Listening;
pub use super::endings::{Endings, Notice};
use super::leases::Leases;
use super::row::Rows;
use super::{
    Commit, Created, Creation, Durability, Ending, Filter, OnLimit, Page, Proof, Rotate, Rotation, Store, StoreError,
    SubjectLimit,
};
use crate::clock::Timestamp;
use crate::session::expiry::is_taken_away;
use crate::session::id::SessionDigest;
use crate::session::record::{EndReason, Record};

/// Longest prefix, in bytes: it is part of every key.
pub const PREFIX_BYTES_MAX: usize = 64;

/// Most sessions that one script removes: some milliseconds in which the server does nothing else.
const CLEAR_MAX: usize = 256;
/// How often a commit is mended that would change what never changes. Once does, unless the session is replaced meanwhile.
const MENDS_MAX: usize = 4;

/// Which of the KEYS of a script a set is, see `common.lua`.
mod set {
    pub(super) const DIGESTS: &str = "1";
    pub(super) const REFERENCES: &str = "3";
    pub(super) const SUBJECTS: &str = "4";
    pub(super) const ENDED: &str = "5";
}

/// How a Redis store works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The longest that one operation may take, connecting included.
    pub timeout: Duration,
    /// What all keys begin with. Guards that share sessions have the same; apps that do not, different ones.
    pub prefix: String,
    /// How many replicas must have new sessions, new ids and ends before they are acknowledged.
    pub replicas: u32,
}

impl Default for Settings {
    /// Two seconds: a server close by answers within one millisecond, and whoever waits longer has left.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(2), prefix: "portcullis".to_owned(), replicas: 0 }
    }
}

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is none. It is not repeated, since it may hold a password.
    #[error("the address of the Redis server can not be read: {0}")]
    Url(&'static str),
    /// The prefix can not be one.
    #[error("a prefix has 1 to {PREFIX_BYTES_MAX} letters, digits and any of `-_.:`")]
    Prefix,
    /// The server can not be reached, or refused.
    #[error("the session store {place} can not be opened: {source}")]
    Link {
        /// Where it is, without names of users and passwords.
        place: String,
        /// What went wrong.
        #[source]
        source: LinkError,
    },
}

/// A store in a Redis or Valkey server.
///
/// A record that can not be read, because it is damaged or its key was burnt, fails to load with [`StoreError::Decode`], and
/// lists leave it out. It can be ended and removed like any other; whoever ends it is given no last record.
#[derive(Debug)]
pub struct RedisStore {
    link: Arc<Link>,
    /// For what replicas must have.
    kept: Option<Arc<Kept>>,
    rows: Rows,
    names: Names,
    listening: Listening,
}

/// Names of keys.
#[derive(Debug)]
struct Names {
    /// What the key of a session begins with.
    stem: Vec<u8>,
    channel: Vec<u8>,
    /// Sets of sessions, in the order of `common.lua`.
    sets: Vec<Vec<u8>>,
    /// What the key of a window begins with.
    window: Vec<u8>,
    /// What is written to see what replicas have.
    kept: Vec<u8>,
    /// Nodes and recalls, in the order of `leases.lua`.
    leases: Vec<Vec<u8>>,
    /// Sets of windows, in the order of `count.lua`.
    counted: Vec<Vec<u8>>,
    /// Sets of numbers that guards share, in the order of `debts.lua`.
    debts: Vec<Vec<u8>>,
}

impl Names {
    fn new(prefix: &str) -> Result<Self, OpenError> {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(is_fine) {
            return Err(OpenError::Prefix);
        }
        let name = |what: &str| format!("{{{prefix}}}:{what}").into_bytes();
        let names = |all: &[&str]| all.iter().map(|what| name(what)).collect();
        Ok(Self {
            stem: name("s:"),
            channel: name("ending"),
            sets: names(&["digests", "times", "references", "subjects", "ended"]),
            window: name("w:"),
            kept: name("kept"),
            leases: names(&["nodes", "recalls"]),
            counted: names(&["obeyed", "observed"]),
            debts: names(&["rates", "failures", "remembered"]),
        })
    }

    fn session(&self, digest: &SessionDigest) -> Vec<u8> {
        [self.stem.as_slice(), &digest.0].concat()
    }
}

impl RedisStore {
    /// Connects to a server.
    ///
    /// | address | means |
    /// |---|---|
    /// | `redis://user:password@host:port/database` | one server; `rediss://` with TLS, which trusts what the system trusts |
    /// | `redis+unix:///path/of/socket` | one server on this machine |
    /// | `redis+sentinel://user:password@host:port,host:port/service/database?sentinel_password=..` | the primary that sentinels name |
    /// | `redis+cluster://user:password@host:port,host:port` | the node of a cluster that has our slot; name a few nodes |
    ///
    /// `rediss+sentinel` and `rediss+cluster` use TLS; `valkey` may be written for `redis`. User, password and database are
    /// those of the server that holds the sessions; sentinels have a password of their own, if any. With TLS a server needs a
    /// certificate that the system trusts, or the file in the environment variable `SSL_CERT_FILE`.
    ///
    /// # Errors
    /// [`OpenError`]: when the address or the prefix can not be read, or the server can not be reached.
    pub async fn connect(url: &str, settings: Settings, rows: Rows) -> Result<Self, OpenError> {
        let names = Names::new(&settings.prefix)?;
        let dial = || Ok(Arc::new(Link::new(Place::parse(url, &names.kept)?, settings.timeout)));
        let link = dial()?;
        let kept = NonZeroU32::new(settings.replicas)
            .map(|replicas| Ok(Arc::new(Kept::new(dial()?, Arc::clone(&link), replicas, names.kept.clone()))))
            .transpose()?;
        let store = Self { link, kept, rows, names, listening: Listening::default() };
        if let Err(source) = store.link.read(&redis::cmd("PING")).await {
            return Err(OpenError::Link { place: store.link.place().to_string(), source });
        }
        if let Some(kept) = &store.kept {
            kept.look().await;
        }
        Ok(store)
    }

    /// What seals its records: for putting another key ring in force.
    pub const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Which sessions end from now on, by whatever guard.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn endings(&self) -> Endings {
        self.listening.endings(|| endings::Channel { link: Arc::clone(&self.link), name: self.names.channel.clone() })
    }

    /// Runs a script about sessions that changes something.
    async fn change(&self, script: &Script, args: &[&[u8]], must: Option<Must>) -> Result<Answer, StoreError> {
        let args = [&[self.names.stem.as_slice(), &self.names.channel], args].concat();
        let answer = match (&self.kept, must) {
            (Some(kept), Some(must)) => kept.run(script.in_full(&self.names.sets, &args), must).await,
            _ => self.link.run(script, &self.names.sets, &args, Again::MayNot).await,
        };
        Ok(Answer::list(answer?)?)
    }

    /// The record that stands next in an answer.
    fn stored(&self, digest: &SessionDigest, answer: &mut Answer) -> Result<Arc<Record>, StoreError> {
        head::read(&self.rows, digest, answer.bytes()?)
    }

    /// The last records of sessions that have just ended. Those that can not be read are left out: they have ended all the
    /// same.
    fn last(&self, answer: Answer) -> Result<Vec<Arc<Record>>, StoreError> {
        let sessions = answer.sessions()?;
        Ok(sessions.into_iter().filter_map(|(digest, last)| head::read(&self.rows, &digest, last).ok()).collect())
    }

    fn created(&self, mut answer: Answer) -> Result<Created, StoreError> {
        let live = answer.number()?;
        Ok(Created::Done { live, evicted: self.last(answer)?, displaced: 0 })
    }
}

/// What scripts are told of a new session: arguments 3 to 10 of `create.lua`.
struct New {
    digest: SessionDigest,
    stored: Vec<u8>,
    kept: String,
    now: [u8; 8],
    max: String,
    beyond: &'static str,
    names: Vec<u8>,
    evicted: [u8; 1],
}

impl New {
    fn of(rows: &Rows, mut record: Record, limit: Option<SubjectLimit>, now: Timestamp) -> Result<Self, StoreError> {
        record.version = 0;
        Ok(Self {
            digest: record.digest,
            stored: head::write(rows, &record)?,
            kept: kept(record.removable_at, now),
            now: bytes(now),
            // A tombstone is not one more.
            max: limit
                .filter(|_| record.subject.is_some() && !record.is_ended())
                .map_or(0, |limit| limit.sessions.get())
                .to_string(),
            beyond: match limit.map(|limit| limit.on_limit) {
                Some(OnLimit::Refuse) => "refuse",
                Some(OnLimit::EvictOldest) => "evict",
                Some(OnLimit::Report) | None => "report",
            },
            names: head::names(rows, record.subject.as_deref()),
            evicted: [EndReason::Evicted.code()],
        })
    }

    fn args(&self) -> [&[u8]; 8] {
        [
            &self.digest.0,
            &self.stored,
            self.kept.as_bytes(),
            &self.now,
            self.max.as_bytes(),
            self.beyond.as_bytes(),
            &self.names,
            &self.evicted,
        ]
    }
}

/// Something under our keys is not ours.
fn nonsense() -> StoreError {
    LinkError::Answer.into()
}

impl Store for RedisStore {
    async fn create(
        &self,
        record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        let new = New::of(&self.rows, record, limit, now)?;
        let mut answer = self.change(&CREATE, &new.args(), Some(Must::Last)).await?;
        match answer.bytes()?.as_slice() {
            b"exists" => Ok(Creation::Exists),
            b"refused" => Ok(Creation::Created(Created::Refused)),
            b"done" => Ok(Creation::Created(self.created(answer)?)),
            _ => Err(nonsense()),
        }
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(self.names.session(digest));
        match self.link.read(&command).await? {
            Value::Nil => Ok(None),
            Value::BulkString(stored) => head::read(&self.rows, digest, stored).map(Some),
            _ => Err(nonsense()),
        }
    }

    async fn commit(&self, mut record: Record, durability: Durability) -> Result<Commit, StoreError> {
        let (digest, from) = (record.digest, record.version.to_be_bytes());
        // What takes something away has to be kept, and what gives nothing out waits for nobody.
        let takes_away = durability == Durability::Durable && is_taken_away(&record, record.last_seen);
        let must = takes_away.then_some(Must::BeDone);
        record.version = record.version.saturating_add(1);
        for _ in 0..MENDS_MAX {
            let stored = head::write(&self.rows, &record)?;
            // `last_seen` is the latest time that the record knows of, and is never ahead of now.
            let kept = kept(record.removable_at, record.last_seen);
            let marks = head::marks(&self.rows, &record);
            let args: [&[u8]; 5] = [&digest.0, &stored, kept.as_bytes(), &from, &marks];
            let mut answer = self.change(&COMMIT, &args, must).await?;
            match answer.bytes()?.as_slice() {
                b"done" => return Ok(Commit::Done(Arc::new(record))),
                b"gone" => return Ok(Commit::Gone),
                b"conflict" => return Ok(Commit::Conflict(self.stored(&digest, &mut answer)?)),
                b"fixed" => {
                    let there = self.stored(&digest, &mut answer)?;
                    record.subject.clone_from(&there.subject);
                    record.id_since = there.id_since;
                    record.reference = there.reference;
                }
                _ => return Err(nonsense()),
            }
        }
        Err(StoreError::io("a session can not be saved: what never changes about it does"))
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        let Rotate { old, version, new, also_end, limit, now, tombstone_until } = rotate;
        let new = New::of(&self.rows, new, limit, now)?;
        let (version, until) = (version.to_be_bytes(), bytes(tombstone_until));
        let kept = kept(tombstone_until, now);
        let second: &[u8] = also_end.map_or(&[], |digest| &digest.0);
        let (replaced, revoked) = ([EndReason::Replaced.code()], [EndReason::Revoked.code()]);
        let more: [&[u8]; 7] = [&old.0, &version, second, &until, kept.as_bytes(), &replaced, &revoked];
        let mut answer = self.change(&ROTATE, &[&new.args()[..], &more].concat(), Some(Must::Last)).await?;
        match answer.bytes()?.as_slice() {
            b"gone" => Ok(Rotation::Gone),
            b"conflict" => Ok(Rotation::Conflict(self.stored(old, &mut answer)?)),
            b"refused" => Ok(Rotation::Created(Created::Refused)),
            b"done" => Ok(Rotation::Created(self.created(answer)?)),
            _ => Err(nonsense()),
        }
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        let Ending { why, now, tombstone_until } = ending;
        let kept = kept(tombstone_until, now);
        let args: [&[u8]; 5] = [&digest.0, &[why.code()], &bytes(now), &bytes(tombstone_until), kept.as_bytes()];
        let answer = self.change(&REVOKE, &args, Some(Must::BeDone)).await?;
        Ok(self.last(answer)?.pop())
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        let Ending { why, now, tombstone_until } = ending;
        let names = head::names(&self.rows, Some(subject));
        let kept = kept(tombstone_until, now);
        let except: &[u8] = except.map_or(&[], |digest| &digest.0);
        let args: [&[u8]; 6] = [&names, except, &[why.code()], &bytes(now), &bytes(tombstone_until), kept.as_bytes()];
        let answer = self.change(&REVOKE_SUBJECT, &args, Some(Must::BeDone)).await?;
        self.last(answer)
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        self.page(filter, after, max).await
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        let now = bytes(now);
        let mut gone = 0;
        while gone < max {
            let most = CLEAR_MAX.min(max - gone);
            let limit = most.to_string();
            let args: [&[u8]; 4] = [&self.names.stem, &self.names.channel, &now, limit.as_bytes()];
            let Value::Int(removed) = self.link.run(&CLEAR, &self.names.sets, &args, Again::MayNot).await? else {
                return Err(nonsense());
            };
            let removed = usize::try_from(removed).unwrap_or(0);
            gone += removed;
            if removed < most {
                break;
            }
        }
        Ok(gone)
    }

    fn notices(&self) -> Option<Endings> {
        Some(self.endings())
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn proof(&self) -> Proof {
        Proof::Key
    }

    fn counters(&self) -> Option<&dyn Counters> {
        Some(self)
    }
}
