//! How sessions come into being: created, or rotated from another one, and what must end for them.

use std::sync::Arc;

use super::dialect::places;
use super::sessions::{delete, end, insert, live_of, opened};
use super::wire::{Line, Mode, Value};
use super::work::{Decided, Fault, Work};
use super::{done, millis, schema};
use crate::clock::Timestamp;
use crate::session::record::{EndReason, Record};
use crate::store::{Created, OnLimit, Rotate, Rotation, SubjectLimit};

/// Creates a session. A digest that is taken fails as the database says it.
pub(super) struct Create<'a> {
    pub(super) record: &'a Record,
    pub(super) limit: Option<SubjectLimit>,
    pub(super) now: Timestamp,
}

impl Work for Create<'_> {
    type Answer = Created;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<Created>, Fault> {
        lock(line, self.record).await?;
        Ok(decided(add(line, self.record, self.limit, self.now).await?, |created| created))
    }
}

/// Gives a session a new id.
pub(super) struct Rotating<'a> {
    pub(super) rotate: &'a Rotate<'a>,
}

impl Work for Rotating<'_> {
    type Answer = Rotation;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<Rotation>, Fault> {
        let Rotate { old, version, new, also_end, limit, now, tombstone_until } = self.rotate;
        lock(line, new).await?;
        let also_end = also_end.filter(|also| also != old);
        let digests: Vec<_> = [Some(*old), also_end].into_iter().flatten().collect();
        let found = live_of(line, &digests).await?;
        let (mut olds, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|row| row.digest == **old);
        let Some(row) = olds.pop() else { return Ok(Decided::Undo(Rotation::Gone)) };
        let old = Arc::new(line.rows.open(&row.digest, row.sealed)?);
        if old.version != *version {
            return Ok(Decided::Undo(Rotation::Conflict(old)));
        }
        end(line, &old, EndReason::Replaced, *now, *tombstone_until).await?;
        for row in others {
            match opened(line, row)? {
                Ok(also) => end(line, &also, EndReason::Revoked, *now, *tombstone_until).await?,
                Err(digest) => delete(line, &digest).await?,
            }
        }
        Ok(decided(add(line, new, *limit, *now).await?, Rotation::Created))
    }
}

/// What was refused is undone.
fn decided<T>(created: Created, answer: impl FnOnce(Created) -> T) -> Decided<T> {
    match created {
        Created::Done { .. } => Decided::Keep(answer(created)),
        Created::Refused => Decided::Undo(answer(created)),
    }
}

async fn lock(line: &mut Line<'_>, record: &Record) -> Result<(), Fault> {
    let Some(subject) = &record.subject else { return Ok(()) };
    let names = line.rows.names(subject);
    schema::lock_subject(line, &names).await
}

/// Adds a session, and ends those that are too many with it.
async fn add(line: &mut Line<'_>, new: &Record, limit: Option<SubjectLimit>, now: Timestamp) -> Result<Created, Fault> {
    insert(line, new).await?;
    let Some(subject) = &new.subject else { return Ok(done(Vec::new(), 0)) };
    let names = line.rows.names(subject);
    // A tombstone is not one more.
    let limit = limit.filter(|_| !new.is_ended());
    let others = format!(
        "FROM {{t}} WHERE subject IN ({}) AND ended = 0 AND removable_at > ? AND digest <> ?",
        places(names.len())
    );
    let mut values: Vec<_> = names.iter().map(|name| Value::Bytes(&name.0)).collect();
    values.extend([Value::Int(millis(now)), Value::Bytes(&new.digest.0)]);
    let count: Vec<(i64,)> = line.fetch(&format!("SELECT COUNT(*) {others}"), &values).await?;
    let live = count.first().map_or(0, |(count,)| *count).saturating_add(i64::from(!new.is_ended()));
    let told = |live: i64| u32::try_from(live).unwrap_or(u32::MAX);
    let Some(limit) = limit else { return Ok(done(Vec::new(), told(live))) };
    let over = live.saturating_sub(i64::from(limit.sessions.get()));
    match limit.on_limit {
        OnLimit::Refuse if over > 0 => Ok(Created::Refused),
        OnLimit::EvictOldest if over > 0 => {
            let oldest = format!("SELECT digest, sealed {others} ORDER BY last_seen, digest LIMIT ?{{lock}}");
            values.push(Value::Int(over));
            // Fewer than wanted are found if others ended some just now: those are not too many any more.
            Ok(done(evict(line, &oldest, &values, now).await?, told(live - over)))
        }
        OnLimit::Refuse | OnLimit::EvictOldest | OnLimit::Report => Ok(done(Vec::new(), told(live))),
    }
}

/// Ends sessions for a newer one. Their tombstones stay as long as the sessions would have.
async fn evict(
    line: &mut Line<'_>,
    which: &str,
    values: &[Value<'_>],
    now: Timestamp,
) -> Result<Vec<Arc<Record>>, Fault> {
    let mut evicted = Vec::new();
    for row in line.fetch(which, values).await? {
        match opened(line, row)? {
            Ok(record) => {
                end(line, &record, EndReason::Evicted, now, record.removable_at).await?;
                evicted.push(record);
            }
            Err(digest) => delete(line, &digest).await?,
        }
    }
    Ok(evicted)
}
