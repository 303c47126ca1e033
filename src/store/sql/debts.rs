//! What limits count and which devices are known, for all guards of a database together.
//!
//! A key is one row with its number. Those who change it at once take turns at the row.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::dialect::{Kind, places};
use super::wire::{Line, Mode, Value};
use super::work::{Decided, Fault, Work};
use super::{SqlStore, millis, number};
use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::store::debts::{Account, Answer, Change, walk};

/// After so many changes the size of the table is looked at.
const LOOK_EVERY: u64 = 4096;

/// Most keys of one statement.
const BATCH_MAX: usize = 256;

impl SqlStore {
    pub(super) async fn change_all(&self, changes: &[Change], now: Timestamp) -> Result<Vec<Answer>, StoreError> {
        let mut answers = Vec::with_capacity(changes.len());
        for changes in changes.chunks(BATCH_MAX) {
            let more = self.perform(&Touch { changes, now }).await?;
            let is_refused = more.len() < changes.len() || matches!(more.last(), Some(Answer::Refused { .. }));
            answers.extend(more);
            if is_refused {
                break;
            }
        }
        let more = u64::try_from(answers.len()).unwrap_or(u64::MAX);
        let before = self.changed.fetch_add(more, Ordering::Relaxed);
        if before / LOOK_EVERY != before.wrapping_add(more) / LOOK_EVERY {
            // What was asked is answered, whatever comes of this.
            if let Err(fault) = make_room(self, now).await {
                tracing::warn!(error = %StoreError::from(fault), "no room was made for what limits count");
            }
        }
        Ok(answers)
    }
}

/// A key's row while it is changed.
#[derive(Clone, Copy)]
struct Entry {
    account: Account,
    before: Option<u64>,
    number: u64,
}

struct Touch<'a> {
    changes: &'a [Change],
    now: Timestamp,
}

/// The name of a row: keys of two accounts have two.
fn name(change: &Change) -> i64 {
    let apart = u64::try_from(change.step.account().index()).unwrap_or(0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    change.key.as_u64().wrapping_add(apart).cast_signed()
}

impl Work for Touch<'_> {
    type Answer = Vec<Answer>;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<Vec<Answer>>, Fault> {
        // In order, so that nobody waits for one who waits for him.
        let mut entries: BTreeMap<i64, Entry> = self
            .changes
            .iter()
            .map(|change| (name(change), Entry { account: change.step.account(), before: None, number: 0 }))
            .collect();
        let names: Vec<_> = entries.keys().map(|name| Value::Int(*name)).collect();
        let places = places(names.len());
        let template = format!("SELECT name, number FROM {{t}}_debts WHERE name IN ({places}) ORDER BY name{{lock}}");
        let found: Vec<(i64, i64)> = line.fetch(&template, &names).await?;
        for (name, number) in found {
            if let Some(entry) = entries.get_mut(&name) {
                entry.number = number.cast_unsigned();
                entry.before = Some(entry.number);
            }
        }
        let answers = walk(self.changes, |change| {
            let entry = entries.get_mut(&name(change));
            let (answer, next) = change.step.apply(entry.as_ref().map_or(0, |entry| entry.number), self.now);
            entry.into_iter().for_each(|entry| entry.number = next);
            answer
        });
        let moved = |entry: &Entry| entry.before.unwrap_or(0) != entry.number;
        let changed: Vec<_> = entries.iter().filter(|(_, entry)| moved(entry)).collect();
        if changed.is_empty() {
            return Ok(Decided::Undo(answers));
        }
        let (new, known): (Vec<_>, Vec<_>) = changed.into_iter().partition(|(_, entry)| entry.before.is_none());
        write(line, &known, true).await?;
        // Who makes a row that somebody else has just made looks at it again.
        write(line, &new, false).await.map_err(Fault::or_raced)?;
        Ok(Decided::Keep(answers))
    }
}

/// Writes rows: new ones, or known ones, which are locked.
async fn write(line: &mut Line<'_>, entries: &[(&i64, &Entry)], known: bool) -> Result<(), Fault> {
    if entries.is_empty() {
        return Ok(());
    }
    let rows = vec!["(?, ?, ?, ?)"; entries.len()].join(", ");
    let instead = match line.dialect.kind() {
        _ if !known => "",
        Kind::MySql => " ON DUPLICATE KEY UPDATE expires_at = VALUES(expires_at), number = VALUES(number)",
        Kind::Postgres | Kind::Sqlite => {
            " ON CONFLICT (name) DO UPDATE SET expires_at = excluded.expires_at, number = excluded.number"
        }
    };
    let values: Vec<_> = entries
        .iter()
        .flat_map(|(name, entry)| {
            let until = entry.account.until(entry.number);
            [**name, index(entry.account), millis(until), number(entry.number)].map(Value::Int)
        })
        .collect();
    let template = format!("INSERT INTO {{t}}_debts (name, account, expires_at, number) VALUES {rows}{instead}");
    line.execute(&template, &values).await?;
    Ok(())
}

/// Removes keys of an account, those first that owe least: all that owe nothing after a time, or so many. Those that somebody else
/// is at are left to him.
struct Clear {
    account: Account,
    until: Option<Timestamp>,
    max: usize,
}

impl Work for Clear {
    type Answer = usize;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<usize>, Fault> {
        let (account, until) = (index(self.account), self.until.map_or(i64::MAX, millis));
        let template = format!(
            "SELECT name FROM {{t}}_debts WHERE account = ? AND expires_at <= ? ORDER BY expires_at LIMIT {}{{skip}}",
            self.max.min(BATCH_MAX)
        );
        let due: Vec<(i64,)> = line.fetch(&template, &[Value::Int(account), Value::Int(until)]).await?;
        if due.is_empty() {
            return Ok(Decided::Undo(0));
        }
        let names: Vec<_> = due.iter().map(|(name,)| Value::Int(*name)).collect();
        line.execute(&format!("DELETE FROM {{t}}_debts WHERE name IN ({})", places(names.len())), &names).await?;
        Ok(Decided::Keep(due.len()))
    }
}

/// How many keys of an account there are.
struct Count(Account);

impl Work for Count {
    type Answer = usize;
    const MODE: Mode = Mode::Read;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<usize>, Fault> {
        let of_it = [Value::Int(index(self.0))];
        let found: Vec<(i64,)> = line.fetch("SELECT COUNT(*) FROM {t}_debts WHERE account = ?", &of_it).await?;
        Ok(Decided::Keep(found.first().map_or(0, |(count,)| usize::try_from(*count).unwrap_or(usize::MAX))))
    }
}

/// Removes keys whose number means nothing any more.
pub(super) async fn clear(store: &SqlStore, now: Timestamp) -> Result<(), Fault> {
    for account in Account::ALL {
        while store.perform(&Clear { account, until: Some(now), max: BATCH_MAX }).await? == BATCH_MAX {}
    }
    Ok(())
}

/// Removes keys that mean nothing any more, and of an account that still has too many those that owe least.
async fn make_room(store: &SqlStore, now: Timestamp) -> Result<(), Fault> {
    clear(store, now).await?;
    for account in Account::ALL {
        let mut excess = store.perform(&Count(account)).await?.saturating_sub(store.debts_max);
        while excess > 0 {
            let removed = store.perform(&Clear { account, until: None, max: excess }).await?;
            if removed == 0 {
                break;
            }
            excess = excess.saturating_sub(removed);
        }
    }
    Ok(())
}

fn index(account: Account) -> i64 {
    i64::try_from(account.index()).unwrap_or(0)
}
