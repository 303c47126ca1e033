//! How a URL becomes connections.

use std::path::Path;
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, Database, MySql, Postgres, Sqlite};

use super::Settings;
use super::dialect::Kind;
use super::schema::FORMAT;
use super::wire::Pool;

/// A connection that nobody used for so long is tried before it is lent: the database may have been restarted.
const TRY_AFTER: Duration = Duration::from_secs(1);

/// How much longer than we wait for it a database works on a statement.
const GRACE: Duration = Duration::from_secs(1);

/// A store in a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no database that is known.
    #[error("the URL of a database begins with postgres://, mysql://, mariadb:// or sqlite://")]
    Scheme,
    /// The URL names a SQLite database that is gone at exit.
    #[error("a SQLite database must be a file: in memory each connection has one of its own")]
    InMemory,
    /// That is no name for a table.
    #[error("`{0}` is no name for a table: up to 40 small letters, digits and underscores, no digit first")]
    Table(String),
    /// The tables were made by a newer program.
    #[error("the tables have format {found}, and this program knows format {FORMAT}: use the program that made them")]
    Format {
        /// Their format.
        found: i64,
    },
    /// It took too long: nobody is there, or the way is barred.
    #[error("the database did not answer within {0:?}")]
    Late(Duration),
    /// The file of a SQLite database can not be made.
    #[error("the file of the database can not be made: {0}")]
    File(#[source] std::io::Error),
    /// The database refused, or can not be reached.
    #[error("the database can not be used: {0}")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl OpenError {
    pub(super) fn database(error: sqlx::Error) -> Self {
        Self::Database(Box::new(error))
    }
}

/// Connections of a database; none is opened yet.
pub(super) fn pool(kind: Kind, url: &str, settings: &Settings) -> Result<Pool, OpenError> {
    match kind {
        Kind::Postgres => {
            let options = url.parse::<PgConnectOptions>().map_err(OpenError::database)?.disable_statement_logging();
            Ok(Pool::Postgres(postgres(settings).connect_lazy_with(options)))
        }
        Kind::MySql => {
            let options = url.parse::<MySqlConnectOptions>().map_err(OpenError::database)?.disable_statement_logging();
            Ok(Pool::MySql(mysql(settings).connect_lazy_with(options)))
        }
        Kind::Sqlite => sqlite(url, settings),
    }
}

fn options<DB: Database>(settings: &Settings) -> PoolOptions<DB> {
    let options = PoolOptions::new().max_connections(settings.connections_max.get());
    let options = options.acquire_timeout(settings.timeout).test_before_acquire(false);
    options.before_acquire(|connection: &mut DB::Connection, meta| {
        Box::pin(async move {
            if meta.idle_for >= TRY_AFTER {
                connection.ping().await?;
            }
            Ok(true)
        })
    })
}

/// A session of PostgreSQL gives up soon after we did: it would wait for locks for nobody. And if this process stands
/// still in the middle of a change, others do not wait for it for ever.
fn postgres(settings: &Settings) -> PoolOptions<Postgres> {
    let millis = (settings.timeout + GRACE).as_millis();
    let begin = format!("SET statement_timeout = {millis}; SET idle_in_transaction_session_timeout = {millis}");
    options(settings).after_connect(move |connection, _| {
        let begin = AssertSqlSafe(begin.clone());
        Box::pin(async move {
            sqlx::raw_sql(begin).execute(connection).await?;
            Ok(())
        })
    })
}

/// READ COMMITTED, since a statement must see what was committed before it; strict, since a value that was cut would be
/// a session that was lost.
fn mysql(settings: &Settings) -> PoolOptions<MySql> {
    let seconds = (settings.timeout + GRACE).as_secs().max(1);
    let begin = [
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
        format!(
            "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), SESSION innodb_lock_wait_timeout = {seconds}"
        ),
    ];
    options(settings).after_connect(move |connection, _| {
        let begin = begin.clone();
        Box::pin(async move {
            for statement in begin {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
            }
            Ok(())
        })
    })
}

fn sqlite(url: &str, settings: &Settings) -> Result<Pool, OpenError> {
    let parsed: SqliteConnectOptions = url.parse().map_err(OpenError::database)?;
    let file = parsed.get_filename().to_owned();
    let is_in_memory = url.contains(":memory:") || url.contains("mode=memory") || file.as_os_str().is_empty();
    if is_in_memory {
        return Err(OpenError::InMemory);
    }
    make_file(&file).map_err(OpenError::File)?;
    let parsed = parsed
        .journal_mode(SqliteJournalMode::Wal)
        // What was answered is on disk.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(settings.timeout)
        .disable_statement_logging();
    let readers = options::<Sqlite>(settings).connect_lazy_with(parsed.clone());
    let writer = options::<Sqlite>(settings).max_connections(1).connect_lazy_with(parsed);
    Ok(Pool::Sqlite { readers, writer })
}

/// SQLite would let everybody read a file that it makes; those it makes beside it get the rights of this one.
fn make_file(file: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map(drop)
}
