//! Sessions in a database that several guards share: PostgreSQL, MySQL, MariaDB, or SQLite for one machine.
//!
//! A session that one guard began is known to all, limits hold over all of them, and what rules count is counted
//! together. A request costs one statement to load its session, and one more about once a minute to write its time.
//! Nothing is kept in this process: what the database says is what is. (A [cache](super::cached) may stand before it.)
//!
//! The database can not read what it keeps ([`Rows`]). It must be the primary one: a copy that lags behind shows sessions
//! that have ended.
//!
//! # When the database does not answer
//!
//! Every call ends within [`Settings::timeout`], with an error then. If the connection is lost or the time is over just
//! while a change is being committed, the change may be done in spite of the error; a version, a tombstone or a digest
//! that is taken tells the next one who tries. When the database is back the store goes on by itself.
//!
//! # Keys
//!
//! A row whose key is no longer in the ring is damaged for good. It can not be loaded, lists pass over it, revoking it
//! removes it, and so does time. What is committed gets the names of the current key, so that its subject is found when
//! the previous key is taken out.
//!
//! All guards of one database need the same ring; a new key first as a previous one everywhere, then as the current one.

mod counts;
mod create;
mod debts;
mod dialect;
mod endings;
mod leases;
mod open;
mod schema;
mod sessions;
mod wire;
mod work;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Semaphore;

use self::create::{Create, Rotating};
use self::dialect::{Dialect, Kind};
pub use self::open::OpenError;
use self::sessions::{Clear, Load, Replace, Revoke, RevokeSubject, Settle};
use self::wire::Pool;
use super::counters::Counters;
use super::endings::{Endings, Listening};
use super::leases::Leases;
use super::row::Rows;
use super::{
    Commit, Created, Creation, Durability, Ending, Filter, Page, Proof, Rotate, Rotation, Store, StoreError,
    SubjectLimit,
};
use crate::clock::Timestamp;
use crate::session::id::SessionDigest;
use crate::session::record::Record;

/// Most records that are removed in one transaction: locks on more of them would be in the way of others.
const CLEAR_MAX: usize = 256;

/// How a store in a database works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most connections at once. SQLite has so many readers and one writer.
    pub connections_max: NonZeroU32,
    /// How long everything may take, waiting for a connection included.
    pub timeout: Duration,
    /// The table of sessions; the names of the others begin with it. Several stores can share a database under several
    /// names. Up to 40 small letters, digits and underscores.
    pub table: String,
    /// Bytes that the times of what is counted may take together, about. Beyond, those give way first that are furthest
    /// from being one too many.
    pub counts_bytes_max: u32,
    /// Numbers of limits, of delays and of known devices that are kept, each; who owes least gives way.
    pub debts_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN),
            timeout: Duration::from_secs(5),
            table: "portcullis_sessions".into(),
            counts_bytes_max: 128 << 20,
            debts_max: super::debts::KEYS_MAX,
        }
    }
}

/// A store in a database.
pub struct SqlStore {
    pool: Pool,
    dialect: Dialect,
    rows: Rows,
    timeout: Duration,
    /// Two thirds of the connections are for changes that take several statements.
    changes: Semaphore,
    counts_bytes_max: u32,
    debts_max: usize,
    /// How many matches were counted, to look at the size of the table now and then.
    counted: AtomicU64,
    /// The same for changes of numbers.
    changed: AtomicU64,
    listening: Listening,
}

impl SqlStore {
    /// Connects to a database, and makes the tables if they are not there. The URL is
    /// `postgres://name:password@host/database`, the same with `mysql` or `mariadb`, or `sqlite:///path/to/file`, which is
    /// made if it is not there. What the drivers of `sqlx` read after a `?` is read here: `sslmode=verify-full` and
    /// `sslrootcert=..` of PostgreSQL, `ssl-mode=VERIFY_IDENTITY` and `ssl-ca=..` of MySQL.
    ///
    /// Without them the connection is encrypted if the database can do so, and who answers is not checked.
    ///
    /// # Errors
    /// [`OpenError`]: when the URL is wrong, the database can not be reached, or its tables are of a newer format. No
    /// error holds the password.
    pub async fn connect(url: &str, settings: Settings, rows: Rows) -> Result<Self, OpenError> {
        let kind = Kind::of_url(url)?;
        let pool = open::pool(kind, url, &settings)?;
        let dialect = Dialect::try_new(kind, settings.table)?;
        let Settings { timeout, counts_bytes_max, debts_max, .. } = settings;
        match tokio::time::timeout(timeout, Box::pin(prepare(&pool, &dialect, &rows))).await {
            Ok(Ok(schema::FORMAT)) => {}
            Ok(Ok(found)) => return Err(OpenError::Format { found }),
            // A database that can not be reached is tried until the time is over.
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => {
                let refusal = tokio::time::timeout(timeout, pool.refusal()).await.ok().flatten();
                return Err(refusal.map_or(OpenError::Late(timeout), OpenError::database));
            }
            Ok(Err(error)) => return Err(OpenError::database(error)),
        }
        let connections = usize::try_from(settings.connections_max.get()).unwrap_or(usize::MAX);
        let changes = Semaphore::new((connections - connections / 3).min(Semaphore::MAX_PERMITS));
        Ok(Self {
            pool,
            dialect,
            rows,
            timeout,
            changes,
            counts_bytes_max,
            debts_max,
            counted: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            listening: Listening::default(),
        })
    }

    /// Which kind of database it is, by the words of `[store] kind`.
    pub const fn kind(&self) -> &'static str {
        match self.dialect.kind() {
            Kind::Postgres => "postgres",
            Kind::MySql => "mysql",
            Kind::Sqlite => "sqlite",
        }
    }

    /// What seals and opens its rows: to put another ring of keys in force.
    pub const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Which sessions end from now on, by whatever guard; none of a database that passes no messages, which all but PostgreSQL
    /// do not. It takes a connection of its own.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn endings(&self) -> Option<Endings> {
        let Pool::Postgres(pool) = &self.pool else { return None };
        Some(self.listening.endings(|| endings::Channel {
            options: pool.connect_options(),
            name: format!("{}_ending", self.dialect.table()),
            timeout: self.timeout,
        }))
    }

    /// Closes all connections, as soon as what is under way is done, and waits for that no longer than for anything else.
    /// Everything fails afterwards.
    pub async fn close(&self) {
        if tokio::time::timeout(self.timeout, self.pool.close()).await.is_err() {
            tracing::debug!("connections to the database were still in use when it was closed");
        }
    }
}

/// Makes the tables, or finds them made. Nodes that start at once may be in each other's way for a moment.
async fn prepare(pool: &Pool, dialect: &Dialect, rows: &Rows) -> Result<i64, sqlx::Error> {
    let mut tries = 0;
    loop {
        match schema::prepare(pool, dialect, rows).await {
            Err(error) if tries < work::RETRIES && work::is_collision(&error) => tries += 1,
            found => return found,
        }
        tokio::time::sleep(work::PAUSE * tries).await;
    }
}

/// Connections know passwords, so they are left out.
impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore")
            .field("database", &self.dialect.kind())
            .field("table", &self.dialect.table())
            .finish_non_exhaustive()
    }
}

impl Store for SqlStore {
    async fn create(
        &self,
        mut record: Record,
        limit: Option<SubjectLimit>,
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        record.version = 0;
        match self.perform(&Create { record: &record, limit, now }).await {
            Err(fault) if fault.is_taken() => Ok(Creation::Exists),
            created => Ok(Creation::Created(created?)),
        }
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        let sealed = self.perform(&Load(digest)).await?;
        sealed.map(|sealed| self.rows.open(digest, sealed).map(Arc::new)).transpose()
    }

    /// It is durable in any case: a database gains little from waiting.
    async fn commit(&self, mut record: Record, _: Durability) -> Result<Commit, StoreError> {
        let from = record.version;
        record.version = from.saturating_add(1);
        if self.perform(&Replace { record: &record, from }).await? > 0 {
            return Ok(Commit::Done(Arc::new(record)));
        }
        record.version = from;
        Ok(self.perform(&Settle { record: &record }).await?)
    }

    async fn rotate(&self, mut rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        rotate.new.version = 0;
        match self.perform(&Rotating { rotate: &rotate }).await {
            Err(fault) if fault.is_taken() => Ok(Rotation::Gone),
            answer => Ok(answer?),
        }
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        Ok(self.perform(&Revoke { digest, ending }).await?)
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        Ok(self.perform(&RevokeSubject { subject, except, ending }).await?)
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        Ok(sessions::list(self, filter, after, max).await?)
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        let mut gone = 0;
        while gone < max {
            let batch = CLEAR_MAX.min(max - gone);
            let removed = self.perform(&Clear { now, max: batch }).await?;
            gone += removed;
            if removed < batch {
                break;
            }
        }
        counts::clear(self, now).await?;
        debts::clear(self, now).await?;
        leases::clear(self).await?;
        Ok(gone)
    }

    fn notices(&self) -> Option<Endings> {
        self.endings()
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

/// A time as the database keeps it. The last third of what a [`Timestamp`] can hold is one time there, after the sun is
/// gone.
fn millis(time: Timestamp) -> i64 {
    number(time.as_millis())
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Nothing is displaced here: there is no limit for all sessions together, the database has its own.
const fn done(evicted: Vec<Arc<Record>>, live: u32) -> Created {
    Created::Done { evicted, live, displaced: 0 }
}
