//! What rules count, for all guards of a database together.
//!
//! A key is one row with the times of its last `over` + 1 matches. Those who count it at once take turns at the row, so a
//! rule that counts everybody by one key is as slow as one row: some hundred matches a second.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;

use super::dialect::places;
use super::wire::{Line, Mode, Value};
use super::work::{Decided, Fault, Work};
use super::{SqlStore, millis};
use crate::clock::Timestamp;
use crate::store::counters::{Answered, Counters, Effect, Question};
use crate::store::debts::{Change, Changed};

/// After so many matches the size of the table is looked at.
const LOOK_EVERY: u64 = 4096;

/// Bytes of a row beside its times, about.
const ROW_BYTES: u32 = 128;

/// Steps in which keys give way: first those with a 64th of what they may have, in the end all.
const PARTS: u32 = 64;

/// Most keys that are removed in one transaction.
const CLEAR_MAX: usize = 256;

impl Counters for SqlStore {
    fn ask<'a>(&'a self, questions: &'a [Question], now: Timestamp) -> Answered<'a> {
        Box::pin(async move {
            if questions.is_empty() {
                return Ok(Vec::new());
            }
            let more = u64::try_from(questions.len()).unwrap_or(u64::MAX);
            let before = self.counted.fetch_add(more, Ordering::Relaxed);
            let answers = self.perform(&Ask { questions, now }).await?;
            if before / LOOK_EVERY != before.wrapping_add(more) / LOOK_EVERY {
                self.perform(&MakeRoom { now, bytes_max: i64::from(self.counts_bytes_max) }).await?;
            }
            Ok(answers)
        })
    }

    fn change<'a>(&'a self, changes: &'a [Change], now: Timestamp) -> Changed<'a> {
        Box::pin(self.change_all(changes, now))
    }
}

/// A key's row while it is counted.
struct Window {
    times: Vec<u64>,
    is_new: bool,
    asked: Question,
}

struct Ask<'a> {
    questions: &'a [Question],
    now: Timestamp,
}

impl Work for Ask<'_> {
    type Answer = Vec<bool>;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<Vec<bool>>, Fault> {
        // In order, so that nobody waits for one who waits for him.
        let mut windows = BTreeMap::new();
        for question in self.questions {
            if let Entry::Vacant(place) = windows.entry(name(question)) {
                place.insert(Window { times: Vec::new(), is_new: true, asked: *question });
            }
        }
        let names: Vec<_> = windows.keys().map(|name| Value::Int(*name)).collect();
        let places = places(names.len());
        let template = format!("SELECT name, times FROM {{t}}_counts WHERE name IN ({places}) ORDER BY name{{lock}}");
        let found: Vec<(i64, Vec<u8>)> = line.fetch(&template, &names).await?;
        for (name, bytes) in found {
            if let Some(window) = windows.get_mut(&name) {
                window.times = bytes.as_chunks().0.iter().map(|time| u64::from_be_bytes(*time)).collect();
                window.is_new = false;
            }
        }
        let mut answers = Vec::with_capacity(self.questions.len());
        for question in self.questions {
            let window = windows.get_mut(&name(question));
            answers.push(window.is_some_and(|window| window.count(question, self.now)));
        }
        for (name, window) in &windows {
            write(line, *name, window, self.now).await?;
        }
        Ok(Decided::Keep(answers))
    }
}

impl Window {
    /// Counts a match, and tells whether there are more than may be.
    fn count(&mut self, question: &Question, now: Timestamp) -> bool {
        self.asked = *question;
        let most = usize::try_from(question.over).unwrap_or(usize::MAX).saturating_add(1);
        // As `Windows` does it: the oldest go, as long as they are out of the window or there is no place.
        let is_in = |time: &u64| now.since(Timestamp::from_millis(*time)) < question.within;
        let first = self.times.iter().position(is_in).unwrap_or(self.times.len());
        let first = first.max((self.times.len() + 1).saturating_sub(most));
        self.times.drain(..first.min(self.times.len()));
        self.times.push(now.as_millis());
        self.times.len() >= most
    }
}

fn name(question: &Question) -> i64 {
    question.key.as_u64().cast_signed()
}

async fn write(line: &mut Line<'_>, name: i64, window: &Window, now: Timestamp) -> Result<(), Fault> {
    let Window { times, is_new, asked } = window;
    let bytes: Vec<u8> = times.iter().flat_map(|time| time.to_be_bytes()).collect();
    let most = u64::from(asked.over).saturating_add(1);
    let count = u64::try_from(times.len()).unwrap_or(u64::MAX);
    let nearness = count.saturating_mul(u64::from(PARTS)).div_ceil(most).min(u64::from(PARTS));
    let values = [
        Value::Int(i64::from(asked.effect == Effect::Observed)),
        Value::Int(super::number(nearness)),
        Value::Int(millis(now.after(asked.within))),
        Value::Bytes(&bytes),
        Value::Int(name),
    ];
    let template = if *is_new {
        "INSERT INTO {t}_counts (observed, nearness, expires_at, times, name) VALUES (?, ?, ?, ?, ?)"
    } else {
        "UPDATE {t}_counts SET observed = ?, nearness = ?, expires_at = ?, times = ? WHERE name = ?"
    };
    line.execute(template, &values).await.map_err(|error| Fault::Sql(error).or_raced())?;
    Ok(())
}

/// Removes keys if all of them take too much: those whose window is over, then those that are only observed, then all, and
/// of these first the ones that are furthest from being one too many.
struct MakeRoom {
    now: Timestamp,
    bytes_max: i64,
}

impl Work for MakeRoom {
    type Answer = ();
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<()>, Fault> {
        if bytes(line).await? <= self.bytes_max {
            return Ok(Decided::Undo(()));
        }
        let over = [Value::Int(millis(self.now))];
        line.execute("DELETE FROM {t}_counts WHERE expires_at <= ?", &over).await?;
        for is_observed in [1, 0] {
            let mut part = 1;
            while part <= PARTS {
                if bytes(line).await? <= self.bytes_max / 2 {
                    return Ok(Decided::Keep(()));
                }
                let values = [Value::Int(is_observed), Value::Int(i64::from(part))];
                line.execute("DELETE FROM {t}_counts WHERE observed = ? AND nearness <= ?", &values).await?;
                part = part.saturating_mul(2);
            }
        }
        Ok(Decided::Keep(()))
    }
}

async fn bytes(line: &mut Line<'_>) -> Result<i64, Fault> {
    let template = format!("SELECT CAST(COALESCE(SUM(LENGTH(times) + {ROW_BYTES}), 0) AS {{int}}) FROM {{t}}_counts");
    let found: Vec<(i64,)> = line.fetch(&template, &[]).await?;
    Ok(found.first().map_or(0, |(bytes,)| *bytes))
}

/// Removes all keys whose window is over.
pub(super) async fn clear(store: &SqlStore, now: Timestamp) -> Result<(), Fault> {
    while store.perform(&Clear { now }).await? == CLEAR_MAX {}
    Ok(())
}

struct Clear {
    now: Timestamp,
}

impl Work for Clear {
    type Answer = usize;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<usize>, Fault> {
        let template = format!("SELECT name FROM {{t}}_counts WHERE expires_at <= ? LIMIT {CLEAR_MAX}{{skip}}");
        let due: Vec<(i64,)> = line.fetch(&template, &[Value::Int(millis(self.now))]).await?;
        if due.is_empty() {
            return Ok(Decided::Undo(0));
        }
        let names: Vec<_> = due.iter().map(|(name,)| Value::Int(*name)).collect();
        line.execute(&format!("DELETE FROM {{t}}_counts WHERE name IN ({})", places(names.len())), &names).await?;
        Ok(Decided::Keep(due.len()))
    }
}
