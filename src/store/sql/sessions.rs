//! Sessions one by one: loaded, committed, ended, listed, removed.

use std::sync::Arc;

use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::dialect::places;
use super::endings::announce;
use super::wire::{Line, Mode, Value};
use super::work::{Decided, Fault, Work};
use super::{SqlStore, millis, number, schema};
use crate::clock::Timestamp;
use crate::secret::sha256;
use crate::session::id::SessionDigest;
use crate::session::record::{EndReason, Record};
use crate::store::row::{Rows, SubjectName};
use crate::store::table::paged;
use crate::store::{Commit, Ending, Filter, PAGE_MAX, Page};

/// A row as it was read.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) digest: SessionDigest,
    pub(super) sealed: Vec<u8>,
}

impl<'r, R> FromRow<'r, R> for Sealed
where
    R: Row,
    usize: ColumnIndex<R>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let digest: Vec<u8> = row.try_get(0)?;
        let digest = digest.try_into().ok().ok_or_else(|| sqlx::Error::Decode("a digest has 32 bytes".into()))?;
        Ok(Self { digest: SessionDigest(digest), sealed: row.try_get(1)? })
    }
}

// ---- what changes have in common ------------------------------------------------------------------------------------

/// Opens a row; gives only its digest if it can not be opened.
pub(super) fn opened(line: &Line<'_>, row: Sealed) -> Result<Result<Arc<Record>, SessionDigest>, Fault> {
    match line.rows.open(&row.digest, row.sealed).map_err(Fault::from) {
        Ok(record) => Ok(Ok(Arc::new(record))),
        Err(fault) if fault.is_damaged() => Ok(Err(row.digest)),
        Err(fault) => Err(fault),
    }
}

/// The live ones of these sessions, locked in order of their digests.
pub(super) async fn live_of(line: &mut Line<'_>, digests: &[&SessionDigest]) -> Result<Vec<Sealed>, Fault> {
    let places = places(digests.len());
    let template =
        format!("SELECT digest, sealed FROM {{t}} WHERE digest IN ({places}) AND ended = 0 ORDER BY digest{{lock}}");
    let values: Vec<_> = digests.iter().map(|digest| Value::Bytes(&digest.0)).collect();
    Ok(line.fetch(&template, &values).await?)
}

/// The columns of a record beside its digest, in the order of the statements below.
struct Columns {
    subject: Option<SubjectName>,
    unchanging: SubjectName,
    version: i64,
    last_seen: i64,
    removable_at: i64,
    sealed: Vec<u8>,
}

impl Columns {
    fn of(record: &Record, rows: &Rows) -> Result<Self, Fault> {
        Ok(Self {
            subject: record.subject.as_deref().map(|subject| rows.name(subject)),
            unchanging: rows.name(&unchanging(record)),
            version: number(record.version),
            last_seen: millis(record.last_seen),
            removable_at: millis(record.removable_at),
            sealed: rows.seal(record)?,
        })
    }

    fn values(&self) -> [Value<'_>; 6] {
        [
            Value::Maybe(self.subject.as_ref().map(|name| &name.0[..])),
            Value::Bytes(&self.unchanging.0),
            Value::Int(self.version),
            Value::Int(self.last_seen),
            Value::Int(self.removable_at),
            Value::Bytes(&self.sealed),
        ]
    }
}

/// What a commit does not change, as one text whose keyed hash is compared: the exact subject, the public name, the age of
/// the id. So a commit is one statement, and still none that got one of them wrong changes it.
fn unchanging(record: &Record) -> String {
    let mut all = Vec::new();
    all.extend(record.reference.0);
    all.extend(record.id_since.as_millis().to_be_bytes());
    all.push(u8::from(record.subject.is_some()));
    all.extend(record.subject.as_deref().unwrap_or_default().bytes());
    // In hex, since names do not tell capital letters from small ones.
    let hex: String = sha256(&all).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("unchanging:{hex}")
}

/// Stores a new row, of a session or of a tombstone.
pub(super) async fn insert(line: &mut Line<'_>, record: &Record) -> Result<(), Fault> {
    let columns = Columns::of(record, line.rows)?;
    let names = [Value::Bytes(&record.digest.0), Value::Bytes(&record.reference.0)];
    let ended = Value::Int(i64::from(record.is_ended()));
    let values: Vec<_> = names.into_iter().chain(columns.values()).chain([ended]).collect();
    line.execute(
        "INSERT INTO {t} (digest, reference, subject, unchanging, version, last_seen, removable_at, sealed, ended) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &values,
    )
    .await?;
    Ok(())
}

/// Replaces a row that is locked by a tombstone.
pub(super) async fn end(
    line: &mut Line<'_>,
    record: &Record,
    why: EndReason,
    now: Timestamp,
    until: Timestamp,
) -> Result<(), Fault> {
    let tombstone = record.ended(now, why, until);
    let columns = Columns::of(&tombstone, line.rows)?;
    let values: Vec<_> = columns.values().into_iter().chain([Value::Bytes(&record.digest.0)]).collect();
    line.execute(
        "UPDATE {t} SET subject = ?, unchanging = ?, version = ?, last_seen = ?, removable_at = ?, sealed = ?, \
         ended = 1 WHERE digest = ?",
        &values,
    )
    .await?;
    announce(line, &record.digest).await
}

/// Removes a live session that can not be opened: nobody is served with it, and nothing could be made of it.
pub(super) async fn delete(line: &mut Line<'_>, digest: &SessionDigest) -> Result<(), Fault> {
    line.execute("DELETE FROM {t} WHERE digest = ?", &[Value::Bytes(&digest.0)]).await?;
    announce(line, digest).await
}

// ---- loading and committing -----------------------------------------------------------------------------------------

/// Loads a row.
pub(super) struct Load<'a>(pub(super) &'a SessionDigest);

impl Work for Load<'_> {
    type Answer = Option<Vec<u8>>;
    const MODE: Mode = Mode::Read;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<Option<Vec<u8>>>, Fault> {
        let digest = [Value::Bytes(&self.0.0)];
        let mut found: Vec<(Vec<u8>,)> = line.fetch("SELECT sealed FROM {t} WHERE digest = ?", &digest).await?;
        Ok(Decided::Keep(found.pop().map(|(sealed,)| sealed)))
    }
}

/// Replaces a record by its next version, if nothing stands against it. Gives how many it replaced.
pub(super) struct Replace<'a> {
    pub(super) record: &'a Record,
    pub(super) from: u64,
}

impl Work for Replace<'_> {
    type Answer = u64;
    const MODE: Mode = Mode::Single;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<u64>, Fault> {
        let columns = Columns::of(self.record, line.rows)?;
        let names = line.rows.names(&unchanging(self.record));
        let of = [Value::Bytes(&self.record.digest.0), Value::Int(number(self.from))];
        let values: Vec<_> = columns.values().into_iter().chain(of).collect();
        let values: Vec<_> = values.into_iter().chain(names.iter().map(|name| Value::Bytes(&name.0))).collect();
        let template = format!(
            "UPDATE {{t}} SET subject = ?, unchanging = ?, version = ?, last_seen = ?, removable_at = ?, sealed = ? \
             WHERE digest = ? AND version = ? AND ended = 0 AND unchanging IN ({})",
            places(names.len())
        );
        Ok(Decided::Keep(line.execute(&template, &values).await?))
    }
}

/// Commits a record over the version it was made from, the slow way: it looks at what is there first.
pub(super) struct Settle<'a> {
    pub(super) record: &'a Record,
}

impl Work for Settle<'_> {
    type Answer = Commit;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<Commit>, Fault> {
        let Some(row) = live_of(line, &[&self.record.digest]).await?.pop() else {
            return Ok(Decided::Undo(Commit::Gone));
        };
        let stored = line.rows.open(&row.digest, row.sealed)?;
        if stored.version != self.record.version {
            return Ok(Decided::Undo(Commit::Conflict(Arc::new(stored))));
        }
        let next = Record {
            version: stored.version.saturating_add(1),
            // These never change under one id, so a caller who got one wrong does no harm.
            subject: stored.subject,
            id_since: stored.id_since,
            reference: stored.reference,
            ..self.record.clone()
        };
        let columns = Columns::of(&next, line.rows)?;
        let values: Vec<_> = columns.values().into_iter().chain([Value::Bytes(&next.digest.0)]).collect();
        line.execute(
            "UPDATE {t} SET subject = ?, unchanging = ?, version = ?, last_seen = ?, removable_at = ?, sealed = ? \
             WHERE digest = ?",
            &values,
        )
        .await?;
        Ok(Decided::Keep(Commit::Done(Arc::new(next))))
    }
}

// ---- ending ---------------------------------------------------------------------------------------------------------

/// Ends a session.
pub(super) struct Revoke<'a> {
    pub(super) digest: &'a SessionDigest,
    pub(super) ending: Ending,
}

impl Work for Revoke<'_> {
    type Answer = Option<Arc<Record>>;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<Option<Arc<Record>>>, Fault> {
        let Some(row) = live_of(line, &[self.digest]).await?.pop() else { return Ok(Decided::Undo(None)) };
        let Ending { why, now, tombstone_until } = self.ending;
        match opened(line, row)? {
            Ok(record) => {
                end(line, &record, why, now, tombstone_until).await?;
                Ok(Decided::Keep(Some(record)))
            }
            Err(digest) => {
                delete(line, &digest).await?;
                Ok(Decided::Keep(None))
            }
        }
    }
}

/// Ends all sessions of a subject but one.
pub(super) struct RevokeSubject<'a> {
    pub(super) subject: &'a str,
    pub(super) except: Option<&'a SessionDigest>,
    pub(super) ending: Ending,
}

impl Work for RevokeSubject<'_> {
    type Answer = Vec<Arc<Record>>;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<Vec<Arc<Record>>>, Fault> {
        let names = line.rows.names(self.subject);
        schema::lock_subject(line, &names).await?;
        let places = places(names.len());
        let template = format!(
            "SELECT digest, sealed FROM {{t}} WHERE subject IN ({places}) AND ended = 0 ORDER BY digest{{lock}}"
        );
        let values: Vec<_> = names.iter().map(|name| Value::Bytes(&name.0)).collect();
        let found: Vec<Sealed> = line.fetch(&template, &values).await?;
        let Ending { why, now, tombstone_until } = self.ending;
        let mut ended = Vec::new();
        for row in found.into_iter().filter(|row| Some(&row.digest) != self.except) {
            match opened(line, row)? {
                Ok(record) => {
                    end(line, &record, why, now, tombstone_until).await?;
                    ended.push(record);
                }
                Err(digest) => delete(line, &digest).await?,
            }
        }
        Ok(Decided::Keep(ended))
    }
}

// ---- listing and removing -------------------------------------------------------------------------------------------

/// A page of rows.
struct Rowed<'a> {
    filter: &'a Filter,
    after: Option<SessionDigest>,
    max: usize,
}

impl Work for Rowed<'_> {
    type Answer = Vec<Sealed>;
    const MODE: Mode = Mode::Read;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<Vec<Sealed>>, Fault> {
        let names = self.filter.subject.as_deref().map(|subject| line.rows.names(subject));
        let (mut template, mut values) = ("SELECT digest, sealed FROM {t} WHERE 1 = 1".to_owned(), Vec::new());
        if let Some(after) = &self.after {
            template.push_str(" AND digest > ?");
            values.push(Value::Bytes(&after.0));
        }
        if let Some(names) = &names {
            template.push_str(&format!(" AND subject IN ({})", places(names.len())));
            values.extend(names.iter().map(|name| Value::Bytes(&name.0)));
        }
        if let Some(reference) = &self.filter.reference {
            template.push_str(" AND reference = ?");
            values.push(Value::Bytes(&reference.0));
        }
        if !self.filter.with_ended {
            template.push_str(" AND ended = 0");
        }
        template.push_str(" ORDER BY digest LIMIT ?");
        values.push(Value::Int(i64::try_from(self.max).unwrap_or(i64::MAX)));
        Ok(Decided::Keep(line.fetch(&template, &values).await?))
    }
}

/// A page of sessions. Rows that can not be opened are passed over, so it may take several statements, each with a time
/// of its own: after all keys were burnt there may be a million of them.
pub(super) async fn list(
    store: &SqlStore,
    filter: &Filter,
    after: Option<SessionDigest>,
    max: usize,
) -> Result<Page, Fault> {
    let max = max.clamp(1, PAGE_MAX);
    let (mut records, mut after) = (Vec::new(), after);
    while records.len() <= max {
        let wanted = max + 1 - records.len();
        let rows = store.perform(&Rowed { filter, after, max: wanted }).await?;
        let is_last = rows.len() < wanted;
        for row in rows {
            after = Some(row.digest);
            match store.rows.open(&row.digest, row.sealed).map_err(Fault::from) {
                Ok(record) => records.push(Arc::new(record)),
                Err(fault) if fault.is_damaged() => {}
                Err(fault) => return Err(fault),
            }
        }
        if is_last {
            break;
        }
    }
    Ok(paged(records, max))
}

/// Removes records whose time is over, whether they can be opened or not. Those that somebody else is at are left to him.
pub(super) struct Clear {
    pub(super) now: Timestamp,
    pub(super) max: usize,
}

impl Work for Clear {
    type Answer = usize;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<usize>, Fault> {
        let values = [Value::Int(millis(self.now)), Value::Int(i64::try_from(self.max).unwrap_or(i64::MAX))];
        let due: Vec<(Vec<u8>,)> = line
            .fetch("SELECT digest FROM {t} WHERE removable_at <= ? ORDER BY removable_at LIMIT ?{skip}", &values)
            .await?;
        if due.is_empty() {
            return Ok(Decided::Undo(0));
        }
        let digests: Vec<_> = due.iter().map(|(digest,)| Value::Bytes(digest)).collect();
        let template = format!("DELETE FROM {{t}} WHERE digest IN ({})", places(digests.len()));
        let removed = line.execute(&template, &digests).await?;
        Ok(Decided::Keep(usize::try_from(removed).unwrap_or(usize::MAX)))
    }
}
