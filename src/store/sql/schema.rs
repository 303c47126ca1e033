//! The tables, and how they come into being.
//!
//! | table | column | what |
//! |---|---|---|
//! | `{t}` | `digest` | of the session id, 32 bytes |
//! | | `reference` | public name, 16 bytes |
//! | | `subject` | keyed name of the subject, 16 bytes; NULL without one |
//! | | `unchanging` | keyed hash of what a commit does not change, 16 bytes |
//! | | `version`, `last_seen`, `removable_at` | as in the record; times in ms since 1970 |
//! | | `ended` | 1 for a tombstone |
//! | | `sealed` | the record, sealed by [`Rows`](crate::store::row::Rows) |
//! | `{t}_counts` | `name` | the key that is counted |
//! | | `observed` | 1 if its rule is only observed |
//! | | `nearness` | how near it is to one too many, in 64ths |
//! | | `expires_at` | when the last of its times leaves the window |
//! | | `times` | when it matched, 8 bytes each, oldest first |
//! | `{t}_debts` | `name`, `account` | whose number it is, and what it stands for: see [`debts`](crate::store::debts) |
//! | | `expires_at` | until when it means something |
//! | | `number` | the number |
//! | `{t}_nodes` | `node`, `ends_at` | until when a node with a cache has a lease, by the clock of the database in ms |
//! | `{t}_recalls` | `node`, `recall`, `about`, `made_at` | what it has not returned, of which session (NULL: of any), since when: see [`leases`](crate::store::leases) |
//! | `{t}_locks` | `stripe` | MySQL only: rows to lock instead of subjects |
//! | `{t}_meta` | `format` | version of all this, in the row of `id` 1 |

use super::dialect::{Dialect, Kind};
use super::wire::{Lent, Line, Mode, Pool, Value, Wire};
use super::work::Fault;
use crate::store::row::{Rows, SubjectName};

/// Version of the tables. Those of version 1 had no `{t}_debts`, and those of version 2 no `{t}_nodes` and `{t}_recalls`; they are
/// given them.
pub(super) const FORMAT: i64 = 3;

/// Rows that stand for subjects in MySQL, which can lock rows only. Two subjects that share one wait for each other now
/// and then; a row for each subject would be one more thing that somebody outside could make grow.
const STRIPES: u16 = 1024;

/// The lock of PostgreSQL under which tables are made: "portcull" in ASCII.
const MAKING: i64 = i64::from_be_bytes(*b"portcull");

/// What is there of an older version has become the present one.
const OF_OLDER_VERSION: &str = "UPDATE {t}_meta SET format = ? WHERE id = 1 AND format IN (1, 2)";

const POSTGRES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS {t} (digest BYTEA PRIMARY KEY, reference BYTEA NOT NULL, subject BYTEA, \
     unchanging BYTEA NOT NULL, version BIGINT NOT NULL, ended SMALLINT NOT NULL, last_seen BIGINT NOT NULL, \
     removable_at BIGINT NOT NULL, sealed BYTEA NOT NULL)",
    "CREATE INDEX IF NOT EXISTS {t}_subject ON {t} (subject, ended)",
    "CREATE INDEX IF NOT EXISTS {t}_reference ON {t} (reference)",
    "CREATE INDEX IF NOT EXISTS {t}_removable_at ON {t} (removable_at)",
    "CREATE TABLE IF NOT EXISTS {t}_counts (name BIGINT PRIMARY KEY, observed SMALLINT NOT NULL, \
     nearness SMALLINT NOT NULL, expires_at BIGINT NOT NULL, times BYTEA NOT NULL)",
    "CREATE INDEX IF NOT EXISTS {t}_counts_expires_at ON {t}_counts (expires_at)",
    "CREATE TABLE IF NOT EXISTS {t}_debts (name BIGINT PRIMARY KEY, account SMALLINT NOT NULL, \
     expires_at BIGINT NOT NULL, number BIGINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS {t}_debts_expires_at ON {t}_debts (account, expires_at)",
    "CREATE TABLE IF NOT EXISTS {t}_nodes (node BIGINT PRIMARY KEY, ends_at BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS {t}_recalls (node BIGINT NOT NULL, recall BIGINT NOT NULL, about BYTEA, \
     made_at BIGINT NOT NULL, PRIMARY KEY (node, recall))",
    "CREATE TABLE IF NOT EXISTS {t}_meta (id BIGINT PRIMARY KEY, format BIGINT NOT NULL)",
    "INSERT INTO {t}_meta (id, format) VALUES (1, ?) ON CONFLICT (id) DO NOTHING",
    OF_OLDER_VERSION,
];

const MYSQL: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS {t} (digest VARBINARY(32) NOT NULL PRIMARY KEY, reference VARBINARY(16) NOT NULL, \
     subject VARBINARY(16), unchanging VARBINARY(16) NOT NULL, version BIGINT NOT NULL, ended SMALLINT NOT NULL, \
     last_seen BIGINT NOT NULL, removable_at BIGINT NOT NULL, sealed LONGBLOB NOT NULL, \
     INDEX {t}_subject (subject, ended), INDEX {t}_reference (reference), INDEX {t}_removable_at (removable_at)) \
     ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS {t}_counts (name BIGINT NOT NULL PRIMARY KEY, observed SMALLINT NOT NULL, \
     nearness SMALLINT NOT NULL, expires_at BIGINT NOT NULL, times LONGBLOB NOT NULL, \
     INDEX {t}_counts_expires_at (expires_at)) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS {t}_debts (name BIGINT NOT NULL PRIMARY KEY, account SMALLINT NOT NULL, \
     expires_at BIGINT NOT NULL, number BIGINT NOT NULL, INDEX {t}_debts_expires_at (account, expires_at)) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS {t}_nodes (node BIGINT NOT NULL PRIMARY KEY, ends_at BIGINT NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS {t}_recalls (node BIGINT NOT NULL, recall BIGINT NOT NULL, about VARBINARY(32), \
     made_at BIGINT NOT NULL, PRIMARY KEY (node, recall)) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS {t}_locks (stripe BIGINT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS {t}_meta (id BIGINT NOT NULL PRIMARY KEY, format BIGINT NOT NULL) ENGINE=InnoDB",
    "INSERT IGNORE INTO {t}_meta (id, format) VALUES (1, ?)",
    OF_OLDER_VERSION,
];

const SQLITE: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS {t} (digest BLOB NOT NULL PRIMARY KEY, reference BLOB NOT NULL, subject BLOB, \
     unchanging BLOB NOT NULL, version INTEGER NOT NULL, ended INTEGER NOT NULL, last_seen INTEGER NOT NULL, \
     removable_at INTEGER NOT NULL, sealed BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS {t}_subject ON {t} (subject, ended)",
    "CREATE INDEX IF NOT EXISTS {t}_reference ON {t} (reference)",
    "CREATE INDEX IF NOT EXISTS {t}_removable_at ON {t} (removable_at)",
    "CREATE TABLE IF NOT EXISTS {t}_counts (name INTEGER NOT NULL PRIMARY KEY, observed INTEGER NOT NULL, \
     nearness INTEGER NOT NULL, expires_at INTEGER NOT NULL, times BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS {t}_counts_expires_at ON {t}_counts (expires_at)",
    "CREATE TABLE IF NOT EXISTS {t}_debts (name INTEGER NOT NULL PRIMARY KEY, account INTEGER NOT NULL, \
     expires_at INTEGER NOT NULL, number INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS {t}_debts_expires_at ON {t}_debts (account, expires_at)",
    "CREATE TABLE IF NOT EXISTS {t}_nodes (node INTEGER NOT NULL PRIMARY KEY, ends_at INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS {t}_recalls (node INTEGER NOT NULL, recall INTEGER NOT NULL, about BLOB, \
     made_at INTEGER NOT NULL, PRIMARY KEY (node, recall)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS {t}_meta (id INTEGER NOT NULL PRIMARY KEY, format INTEGER NOT NULL)",
    "INSERT INTO {t}_meta (id, format) VALUES (1, ?) ON CONFLICT (id) DO NOTHING",
    OF_OLDER_VERSION,
];

/// Sees to it that the tables are there, and gives their format. An account that may not make tables will do once they are.
pub(super) async fn prepare(pool: &Pool, dialect: &Dialect, rows: &Rows) -> Result<i64, sqlx::Error> {
    let mut lent = pool.lend(Mode::Together).await?;
    let found = match format(&mut Line { wire: lent.wire()?, dialect, rows }).await {
        // The usual reason for that is that there is no such table. If it is another, making it will tell.
        Err(sqlx::Error::Database(_)) => None,
        found => found?,
    };
    match found {
        Some(found) if found >= FORMAT => Ok(found),
        Some(_) | None => make(&mut lent, dialect, rows).await,
    }
}

async fn format(line: &mut Line<'_>) -> Result<Option<i64>, sqlx::Error> {
    let found: Vec<(i64,)> = line.fetch("SELECT format FROM {t}_meta WHERE id = 1", &[]).await?;
    Ok(found.first().map(|(format,)| *format))
}

/// Makes what is not there yet, while nobody else does. Gives the format that is there in the end.
async fn make(lent: &mut Lent, dialect: &Dialect, rows: &Rows) -> Result<i64, sqlx::Error> {
    if dialect.kind() == Kind::MySql {
        return make_in_mysql(&mut Line { wire: lent.wire()?, dialect, rows }).await;
    }
    let mut together = lent.begin(dialect).await?;
    let line = &mut Line { wire: together.wire(), dialect, rows };
    let statements = if dialect.kind() == Kind::Postgres {
        line.execute("SELECT pg_advisory_xact_lock(?)", &[Value::Int(MAKING)]).await?;
        POSTGRES
    } else {
        SQLITE
    };
    let found = run(line, statements).await?;
    together.commit().await?;
    Ok(found)
}

/// MySQL commits after every table. One that is made halfway is finished next time: the format is written last.
async fn make_in_mysql(line: &mut Line<'_>) -> Result<i64, sqlx::Error> {
    let got: Vec<(Option<i64>,)> = line.fetch("SELECT GET_LOCK('portcullis', 20)", &[]).await?;
    if !matches!(*got, [(Some(1),)]) {
        return Err(sqlx::Error::Protocol("another node has been making the tables for too long".into()));
    }
    let (tables, format) = MYSQL.split_at(MYSQL.len().saturating_sub(2));
    let made = async {
        run_each(line, tables).await?;
        let stripes: Vec<_> = (0..STRIPES).map(|stripe| format!("({stripe})")).collect();
        line.execute(&format!("INSERT IGNORE INTO {{t}}_locks (stripe) VALUES {}", stripes.join(", ")), &[]).await?;
        run(line, format).await
    }
    .await;
    let freed: Result<Vec<(Option<i64>,)>, _> = line.fetch("SELECT RELEASE_LOCK('portcullis')", &[]).await;
    let made = made?;
    freed.map(|_| made)
}

async fn run(line: &mut Line<'_>, statements: &[&str]) -> Result<i64, sqlx::Error> {
    run_each(line, statements).await?;
    format(line).await?.ok_or(sqlx::Error::RowNotFound)
}

async fn run_each(line: &mut Line<'_>, statements: &[&str]) -> Result<(), sqlx::Error> {
    for statement in statements {
        let values = if statement.contains('?') { &[Value::Int(FORMAT)][..] } else { &[] };
        line.execute(statement, values).await?;
    }
    Ok(())
}

/// Makes all others who want to change how many sessions a subject has wait until this transaction is over. It comes
/// before any row is locked, and in the order of the names: nobody waits for one who waits for him.
pub(super) async fn lock_subject(line: &mut Line<'_>, names: &[SubjectName]) -> Result<(), Fault> {
    match line.wire {
        // Who changes something is alone there.
        Wire::Sqlite(_) => Ok(()),
        Wire::Postgres(_) => {
            for SubjectName(name) in names {
                let lock = name.first_chunk().map_or(0, |first| i64::from_be_bytes(*first));
                line.execute("SELECT pg_advisory_xact_lock(?)", &[Value::Int(lock)]).await?;
            }
            Ok(())
        }
        Wire::MySql(_) => {
            let mut stripes: Vec<_> = names.iter().map(stripe).collect();
            stripes.sort_unstable();
            stripes.dedup();
            let places = super::dialect::places(stripes.len());
            let template = format!("SELECT stripe FROM {{t}}_locks WHERE stripe IN ({places}) ORDER BY stripe{{lock}}");
            let values: Vec<_> = stripes.iter().map(|stripe| Value::Int(*stripe)).collect();
            let locked: Vec<(i64,)> = line.fetch(&template, &values).await?;
            if locked.len() == stripes.len() {
                return Ok(());
            }
            Err(sqlx::Error::Protocol("rows are missing in the table of locks; remove the row in meta".into()).into())
        }
    }
}

fn stripe(SubjectName(name): &SubjectName) -> i64 {
    let first = name.first_chunk().map_or(0, |first| u16::from_be_bytes(*first));
    i64::from(first % STRIPES)
}
