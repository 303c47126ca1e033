//! Connections: lent by a pool, used for statements, given back.
//!
//! The drivers have types of their own for each database. Here they become one, so that everything above is written once.

use std::time::Duration;

use sqlx::mysql::MySqlRow;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection, FromRow, MySql, MySqlConnection, MySqlPool, PgConnection, PgPool,
    Postgres, Sqlite, SqliteConnection, SqlitePool, Transaction,
};

use super::dialect::Dialect;
use crate::store::row::Rows;

/// How long a connection that is given back may take to show that it still works.
const RETURN_MAX: Duration = Duration::from_secs(5);

/// What a statement is given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    Maybe(Option<&'a [u8]>),
}

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Statements that change nothing.
    Read,
    /// One statement that changes something.
    Single,
    /// Statements that count together or not at all.
    Together,
}

/// Connections to a database.
#[derive(Clone, Debug)]
pub(super) enum Pool {
    Postgres(PgPool),
    MySql(MySqlPool),
    /// There is one writer in any case. That it is one connection makes those who wait take turns: SQLite itself lets them
    /// try again and again.
    Sqlite {
        readers: SqlitePool,
        writer: SqlitePool,
    },
}

impl Pool {
    /// Lends a connection, waiting for one if all are lent.
    pub(super) async fn lend(&self, mode: Mode) -> Result<Lent, sqlx::Error> {
        Ok(match self {
            Self::Postgres(pool) => Lent::new(Held::Postgres(pool.acquire().await?)),
            Self::MySql(pool) => Lent::new(Held::MySql(pool.acquire().await?)),
            Self::Sqlite { readers, writer } => {
                let pool = if mode == Mode::Read { readers } else { writer };
                Lent::new(Held::Sqlite(pool.acquire().await?))
            }
        })
    }

    /// Why none can be lent: what the database says to a connection that the pool does not make. The pool itself tries again
    /// and again, and tells only that it took too long.
    pub(super) async fn refusal(&self) -> Option<sqlx::Error> {
        match self {
            Self::Postgres(pool) => pool.connect_options().connect().await.err(),
            Self::MySql(pool) => pool.connect_options().connect().await.err(),
            Self::Sqlite { writer, .. } => writer.connect_options().connect().await.err(),
        }
    }

    /// Closes all connections, when they come back.
    pub(super) async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::MySql(pool) => pool.close().await,
            Self::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }
}

#[derive(Debug)]
enum Held {
    Postgres(PoolConnection<Postgres>),
    MySql(PoolConnection<MySql>),
    Sqlite(PoolConnection<Sqlite>),
}

/// A connection that was lent. Dropping it gives it back, unless it is in a transaction: a caller that goes away while one
/// begins leaves it open unseen, and what is done on the connection later would be undone with it.
#[derive(Debug)]
pub(super) struct Lent {
    held: Option<Held>,
    is_open: bool,
}

impl Lent {
    const fn new(held: Held) -> Self {
        Self { held: Some(held), is_open: false }
    }

    /// The transaction is over.
    pub(super) const fn settled(&mut self) {
        self.is_open = false;
    }

    /// The connection, for statements outside of a transaction.
    pub(super) fn wire(&mut self) -> Result<Wire<'_>, sqlx::Error> {
        match &mut self.held {
            Some(Held::Postgres(held)) => Ok(Wire::Postgres(held)),
            Some(Held::MySql(held)) => Ok(Wire::MySql(held)),
            Some(Held::Sqlite(held)) => Ok(Wire::Sqlite(held)),
            None => Err(sqlx::Error::PoolClosed),
        }
    }

    /// Begins a transaction.
    pub(super) async fn begin(&mut self, dialect: &Dialect) -> Result<Together<'_>, sqlx::Error> {
        let begin = dialect.kind().begin();
        self.is_open = true;
        match &mut self.held {
            Some(Held::Postgres(held)) => Ok(Together::Postgres(held.begin_with(begin).await?)),
            Some(Held::MySql(held)) => Ok(Together::MySql(held.begin_with(begin).await?)),
            Some(Held::Sqlite(held)) => Ok(Together::Sqlite(held.begin_with(begin).await?)),
            None => Err(sqlx::Error::PoolClosed),
        }
    }

    /// Closes the connection at once instead of giving it back: nobody knows what state it is in. The database undoes
    /// what was not committed.
    pub(super) fn discard(mut self) {
        self.held.take().into_iter().for_each(Held::close);
    }
}

impl Held {
    fn close(self) {
        match self {
            Self::Postgres(held) => drop(held.detach()),
            Self::MySql(held) => drop(held.detach()),
            Self::Sqlite(held) => drop(held.detach()),
        }
    }
}

impl Drop for Lent {
    /// A connection is tried before it is lent again. The pool itself would wait for that as long as the network takes to
    /// give up, a quarter of an hour, with one connection less to lend.
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let runtime = match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !self.is_open => runtime,
            _ => return held.close(),
        };
        match held {
            Held::Postgres(mut held) => drop(runtime.spawn(tokio::time::timeout(RETURN_MAX, held.return_to_pool()))),
            Held::MySql(mut held) => drop(runtime.spawn(tokio::time::timeout(RETURN_MAX, held.return_to_pool()))),
            Held::Sqlite(mut held) => drop(runtime.spawn(tokio::time::timeout(RETURN_MAX, held.return_to_pool()))),
        }
    }
}

/// Statements that count together.
#[derive(Debug)]
pub(super) enum Together<'c> {
    Postgres(Transaction<'c, Postgres>),
    MySql(Transaction<'c, MySql>),
    Sqlite(Transaction<'c, Sqlite>),
}

impl Together<'_> {
    pub(super) fn wire(&mut self) -> Wire<'_> {
        match self {
            Self::Postgres(held) => Wire::Postgres(held),
            Self::MySql(held) => Wire::MySql(held),
            Self::Sqlite(held) => Wire::Sqlite(held),
        }
    }

    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(held) => held.commit().await,
            Self::MySql(held) => held.commit().await,
            Self::Sqlite(held) => held.commit().await,
        }
    }

    pub(super) async fn undo(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(held) => held.rollback().await,
            Self::MySql(held) => held.rollback().await,
            Self::Sqlite(held) => held.rollback().await,
        }
    }
}

/// A connection, as statements use it.
#[derive(Debug)]
pub(super) enum Wire<'c> {
    Postgres(&'c mut PgConnection),
    MySql(&'c mut MySqlConnection),
    Sqlite(&'c mut SqliteConnection),
}

macro_rules! bound {
    ($query:expr, $values:expr) => {
        $values.iter().fold($query, |query, value| match *value {
            Value::Int(number) => query.bind(number),
            Value::Bytes(bytes) => query.bind(bytes),
            Value::Maybe(bytes) => query.bind(bytes),
        })
    };
}

/// A connection, and what is needed to make statements and to read their answers.
#[derive(Debug)]
pub(super) struct Line<'c> {
    pub(super) wire: Wire<'c>,
    pub(super) dialect: &'c Dialect,
    pub(super) rows: &'c Rows,
}

impl Line<'_> {
    /// Does what a template says. Gives how many rows it touched.
    pub(super) async fn execute(&mut self, template: &str, values: &[Value<'_>]) -> Result<u64, sqlx::Error> {
        let text = AssertSqlSafe(self.dialect.text(template));
        Ok(match &mut self.wire {
            Wire::Postgres(wire) => {
                bound!(sqlx::query::<Postgres>(text), values).execute(&mut **wire).await?.rows_affected()
            }
            Wire::MySql(wire) => bound!(sqlx::query::<MySql>(text), values).execute(&mut **wire).await?.rows_affected(),
            Wire::Sqlite(wire) => {
                bound!(sqlx::query::<Sqlite>(text), values).execute(&mut **wire).await?.rows_affected()
            }
        })
    }

    /// The rows that a template asks for.
    pub(super) async fn fetch<T>(&mut self, template: &str, values: &[Value<'_>]) -> Result<Vec<T>, sqlx::Error>
    where
        T: Send + Unpin,
        T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, MySqlRow> + for<'r> FromRow<'r, SqliteRow>,
    {
        let text = AssertSqlSafe(self.dialect.text(template));
        match &mut self.wire {
            Wire::Postgres(wire) => bound!(sqlx::query_as::<Postgres, T>(text), values).fetch_all(&mut **wire).await,
            Wire::MySql(wire) => bound!(sqlx::query_as::<MySql, T>(text), values).fetch_all(&mut **wire).await,
            Wire::Sqlite(wire) => bound!(sqlx::query_as::<Sqlite, T>(text), values).fetch_all(&mut **wire).await,
        }
    }
}
