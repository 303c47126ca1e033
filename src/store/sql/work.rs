//! How a piece of work is done: on a connection, in time, wholly or not at all, and again if others were in its way.

use std::time::Duration;

use sqlx::error::DatabaseError;

use super::SqlStore;
use super::wire::{Lent, Line, Mode};
use crate::session::record::DecodeError;
use crate::store::StoreError;

/// How often a piece of work is tried again after it lost against others.
pub(super) const RETRIES: u32 = 8;

/// How long it waits before; longer each time.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// What comes of a piece of work.
#[derive(Debug)]
pub(super) enum Decided<T> {
    /// What it changed counts.
    Keep(T),
    /// What it changed is undone.
    Undo(T),
}

/// Something to do on a connection. It may be done several times; only the last one counts.
pub(super) trait Work: Sync {
    type Answer: Send;

    const MODE: Mode;

    fn run(&self, line: &mut Line<'_>) -> impl Future<Output = Result<Decided<Self::Answer>, Fault>> + Send;
}

/// Why a piece of work was not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database or the way to it; nothing was changed.
    Sql(sqlx::Error),
    /// Somebody else made a row that was about to be made; it is there next time.
    Raced(sqlx::Error),
    /// The connection was lost while what was changed was being committed.
    Unknown(sqlx::Error),
    /// It took too long.
    Late(Duration),
    Store(StoreError),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Store(error.into())
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) => error,
            Fault::Sql(sqlx::Error::PoolClosed) => Self::Closed,
            Fault::Sql(error) | Fault::Raced(error) => Self::io(error),
            Fault::Unknown(error) => {
                Self::io(format!("the connection was lost at the end of a change, which may be done or not: {error}"))
            }
            Fault::Late(limit) => Self::io(format!("the database did not answer within {limit:?}")),
        }
    }
}

impl Fault {
    /// What went wrong while a change was being committed. If the database itself refused, nothing was changed.
    fn at_commit(error: sqlx::Error) -> Self {
        if is_lost(&error) { Self::Unknown(error) } else { Self::Sql(error) }
    }

    /// The same, for work that finds the row when it is done again.
    pub(super) fn or_raced(self) -> Self {
        match self {
            Self::Sql(error) if error.as_database_error().is_some_and(DatabaseError::is_unique_violation) => {
                Self::Raced(error)
            }
            other => other,
        }
    }

    /// Whether there is a row under that name already.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(error)) if error.is_unique_violation())
    }

    /// Whether a row was read that can not be opened.
    pub(super) const fn is_damaged(&self) -> bool {
        matches!(self, Self::Store(StoreError::Decode(_)))
    }

    /// Whether trying again can neither harm nor be in vain.
    fn may_pass(&self, mode: Mode) -> bool {
        match self {
            // Of a single statement nobody knows whether it was done when the connection was lost.
            Self::Sql(error) => is_collision(error) || mode != Mode::Single && is_lost(error),
            Self::Raced(_) => true,
            Self::Unknown(_) | Self::Late(_) | Self::Store(_) => false,
        }
    }

    fn is_lost(&self) -> bool {
        matches!(self, Self::Sql(error) | Self::Unknown(error) if is_lost(error))
    }
}

fn code_of(error: &dyn DatabaseError) -> String {
    error.code().unwrap_or_default().into_owned()
}

/// Whether others were in the way: a deadlock, a failed serialization, a lock on the file.
pub(super) fn is_collision(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    let code = code_of(error);
    // SQLSTATEs of PostgreSQL and MySQL have five characters, the codes of SQLite are shorter numbers, the reason above
    // the first byte: 5 is "busy", 6 is "locked".
    let is_busy = code.len() < 5 && code.parse().is_ok_and(|code: u32| matches!(code & 0xff, 5 | 6));
    is_busy || matches!(&*code, "40001" | "40P01")
}

/// Whether the connection is gone, or about to be: class 57P0x is a PostgreSQL that shuts down, class 08 a connection
/// that broke.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            let code = code_of(&**error);
            code.starts_with("57P0") || code.starts_with("08")
        }
        _ => false,
    }
}

impl SqlStore {
    /// Does a piece of work within the time that everything has.
    pub(super) async fn perform<W: Work>(&self, work: &W) -> Result<W::Answer, Fault> {
        let mut lent = None;
        let done = tokio::time::timeout(self.timeout, Box::pin(self.persist(work, &mut lent))).await;
        match done {
            Ok(Err(Fault::Sql(sqlx::Error::PoolTimedOut))) => Err(Fault::Late(self.timeout)),
            Ok(answer) => answer,
            Err(_) => {
                // An answer may still be on its way: nobody must take it for that of another question.
                if let Some(lent) = lent {
                    lent.discard();
                }
                Err(Fault::Late(self.timeout))
            }
        }
    }

    async fn persist<W: Work>(&self, work: &W, slot: &mut Option<Lent>) -> Result<W::Answer, Fault> {
        // Logins that wait for each other must not keep all connections from those who only load.
        let _turn = match W::MODE {
            Mode::Together => Some(self.changes.acquire().await.ok().ok_or(StoreError::Closed)?),
            Mode::Read | Mode::Single => None,
        };
        let mut tries = 0;
        loop {
            let lent = slot.insert(self.pool.lend(W::MODE).await?);
            let answer = self.attempt(work, lent).await;
            let lent = slot.take();
            let Err(fault) = answer else { return answer };
            if let Some(lent) = lent.filter(|_| fault.is_lost()) {
                lent.discard();
            }
            if tries == RETRIES || !fault.may_pass(W::MODE) {
                return Err(fault);
            }
            tries += 1;
            tokio::time::sleep(PAUSE * tries).await;
        }
    }

    async fn attempt<W: Work>(&self, work: &W, lent: &mut Lent) -> Result<W::Answer, Fault> {
        let (dialect, rows) = (&self.dialect, &self.rows);
        if W::MODE != Mode::Together {
            let mut line = Line { wire: lent.wire()?, dialect, rows };
            let (Decided::Keep(answer) | Decided::Undo(answer)) = work.run(&mut line).await?;
            return Ok(answer);
        }
        let mut together = lent.begin(dialect).await?;
        let decided = work.run(&mut Line { wire: together.wire(), dialect, rows }).await;
        let answer = match decided {
            Ok(Decided::Keep(answer)) => {
                together.commit().await.map_err(Fault::at_commit)?;
                Ok(answer)
            }
            Ok(Decided::Undo(answer)) => {
                together.undo().await?;
                Ok(answer)
            }
            Err(fault) => match together.undo().await {
                Ok(()) => Err(fault),
                Err(_) => return Err(fault),
            },
        };
        lent.settled();
        answer
    }
}
