//! Cases of many callers at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Dice, Fault, NOW, Outcome, anonymous, create, created, digest, ending, load, must, rotation, session, together,
};
use crate::session::record::{EndReason, Record};
use crate::store::{Commit, Creation, Durability, OnLimit, Rotation, Store};

/// How many callers.
pub(super) const TASKS: u64 = 200;

pub(super) const fn some_durability(roll: u64) -> Durability {
    if roll == 0 { Durability::Soon } else { Durability::Durable }
}

/// The number that a record's history holds.
pub(super) fn counter(record: &Record) -> u64 {
    record.history.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The same record with another number in its history.
pub(super) fn counting(record: &Record, number: u64) -> Record {
    Record { history: Box::new(number.to_be_bytes()), ..record.clone() }
}

pub(super) async fn no_commit_is_lost<S: Store>(store: Arc<S>) -> Outcome {
    const SESSIONS: u64 = 8;
    for nth in 0..SESSIONS {
        create(&*store, counting(&anonymous(nth), 0)).await?;
    }
    let done = together(TASKS, |task| {
        let store = Arc::clone(&store);
        async move {
            let dice = Dice::new(task);
            let nth = task % SESSIONS;
            let mut record = load(&*store, &digest(nth)).await?;
            // Of those who commit at once one succeeds, so everybody is through after as many rounds as there are tasks.
            for _ in 0..=TASKS {
                dice.dawdle().await;
                let next = counting(&record, counter(&record).wrapping_add(1));
                match store.commit(next, some_durability(dice.roll(2))).await? {
                    Commit::Done(_) => return Ok(nth),
                    Commit::Conflict(there) => record = there,
                    Commit::Gone => return Err(Fault::Answer("nobody ended the session".into())),
                }
            }
            Err(Fault::Answer("of those who commit at once one must succeed".into()))
        }
    })
    .await?;
    for nth in 0..SESSIONS {
        let acknowledged = u64::try_from(done.iter().filter(|session| **session == nth).count()).unwrap_or(0);
        let record = load(&*store, &digest(nth)).await?;
        let (version, counted) = (record.version, counter(&record));
        must!(
            version == acknowledged && counted == acknowledged,
            "{acknowledged} commits were acknowledged, the version is {version} and {counted} were counted"
        );
    }
    Ok(())
}

/// Something that a task saw of a session, and when it asked and was answered, on a clock that all tasks share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) version: u64,
    pub(super) token: u64,
    pub(super) is_commit: bool,
}

pub(super) async fn loads_and_commits_have_one_order<S: Store>(store: Arc<S>) -> Outcome {
    create(&*store, counting(&anonymous(1), 0)).await?;
    let clock = Arc::new(AtomicU64::new(0));
    let seen = together(TASKS, |task| {
        let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
        async move {
            let dice = Dice::new(1000 + task);
            let mut seen = Vec::new();
            let mut record = load(&*store, &digest(1)).await?;
            for step in 1..=6 {
                dice.dawdle().await;
                let asked = clock.fetch_add(1, Ordering::SeqCst);
                let (found, is_commit) = if dice.roll(2) == 0 {
                    (load(&*store, &digest(1)).await?, false)
                } else {
                    let next = counting(&record, task * 1000 + step);
                    match store.commit(next, some_durability(dice.roll(2))).await? {
                        Commit::Done(stored) => {
                            let (from, to) = (record.version, stored.version);
                            must!(to == from + 1, "a commit made from version {from} became version {to}");
                            (stored, true)
                        }
                        Commit::Conflict(there) => {
                            must!(there.version != record.version, "a commit over what is there does not conflict");
                            (there, false)
                        }
                        Commit::Gone => return Err(Fault::Answer("nobody ended the session".into())),
                    }
                };
                let answered = clock.fetch_add(1, Ordering::SeqCst);
                seen.push(Seen { asked, answered, version: found.version, token: counter(&found), is_commit });
                record = found;
            }
            Ok(seen)
        }
    })
    .await?;
    let seen: Vec<Seen> = seen.into_iter().flatten().collect();
    check_order(&seen)
}

/// A register whose commits are numbered has one order if every number belongs to one commit, whoever sees a number sees
/// that commit's value, and numbers never run backwards between an answer and a later question.
pub(super) fn check_order(seen: &[Seen]) -> Outcome {
    let mut commits = BTreeMap::from([(0, 0)]);
    for commit in seen.iter().filter(|seen| seen.is_commit) {
        let before = commits.insert(commit.version, commit.token);
        must!(before.is_none(), "version {} was given to two commits", commit.version);
    }
    let last = commits.keys().next_back().copied().unwrap_or(0);
    must!(commits.len() as u64 == last + 1, "every version up to {last} belongs to a commit");
    for entry in seen {
        must!(
            commits.get(&entry.version) == Some(&entry.token),
            "version {} was seen with a value that was not committed under it",
            entry.version
        );
    }
    let mut in_order = seen.to_vec();
    in_order.sort_by_key(|entry| entry.answered);
    for later in seen {
        for earlier in in_order.iter().take_while(|earlier| earlier.answered < later.asked) {
            let grew = if later.is_commit { later.version > earlier.version } else { later.version >= earlier.version };
            must!(grew, "version {} was seen after version {}", later.version, earlier.version);
        }
    }
    Ok(())
}

pub(super) async fn a_session_ends_once<S: Store>(store: Arc<S>) -> Outcome {
    const SESSIONS: u64 = 20;
    for nth in 0..SESSIONS {
        create(&*store, session(nth, "ann")).await?;
    }
    let ends = together(TASKS, |task| {
        let store = Arc::clone(&store);
        async move {
            let dice = Dice::new(2000 + task);
            dice.dawdle().await;
            let nth = task % SESSIONS;
            let old = session(nth, "ann");
            let mine = match dice.roll(3) {
                0 => {
                    store.revoke(&digest(nth), ending(EndReason::Logout)).await?.into_iter().map(|r| r.digest).collect()
                }
                1 if task == 77 => {
                    let ended = store.revoke_subject("ann", None, ending(EndReason::Revoked)).await?;
                    ended.iter().map(|record| record.digest).collect()
                }
                _ => {
                    let new = session(10_000 + task, "bob");
                    let answer = store.rotate(rotation(&old, new, None)).await?;
                    if created(&answer) { vec![digest(nth)] } else { Vec::new() }
                }
            };
            let there = load(&*store, &digest(nth)).await?;
            must!(there.is_ended(), "somebody ended session {nth}, and it must be seen");
            Ok(mine)
        }
    })
    .await?;
    let ends: Vec<_> = ends.into_iter().flatten().collect();
    for nth in 0..SESSIONS {
        let times = ends.iter().filter(|name| **name == digest(nth)).count();
        must!(times == 1, "one of all who ended session {nth} did, not {times}");
    }
    Ok(())
}

/// What a task was told.
enum Told {
    Created(u64),
    Committed(u64),
    Ended(u64),
}

pub(super) async fn what_was_acknowledged_is_there<S: Store>(store: Arc<S>) -> Outcome {
    const IDS: u64 = 400;
    let fresh = Arc::new(AtomicU64::new(IDS));
    let told = together(TASKS, |task| {
        let (store, fresh) = (Arc::clone(&store), Arc::clone(&fresh));
        async move {
            let dice = Dice::new(3000 + task);
            let mut told = Vec::new();
            for _ in 0..20 {
                dice.dawdle().await;
                step(&*store, &dice, &fresh, &mut told).await?;
            }
            Ok(told)
        }
    })
    .await?;
    // (created, commits, ended) of each session.
    let mut sessions: BTreeMap<u64, (u32, u64, u32)> = BTreeMap::new();
    for told in told.into_iter().flatten() {
        match told {
            Told::Created(nth) => sessions.entry(nth).or_default().0 += 1,
            Told::Committed(nth) => sessions.entry(nth).or_default().1 += 1,
            Told::Ended(nth) => sessions.entry(nth).or_default().2 += 1,
        }
    }
    let mut live = 0;
    for (nth, (created, commits, ends)) in sessions {
        must!(created == 1, "session {nth} was created {created} times");
        must!(ends <= 1, "session {nth} ended {ends} times");
        let record = load(&*store, &digest(nth)).await?;
        must!(record.is_ended() == (ends == 1), "session {nth} is ended if and only if somebody ended it");
        // The tombstone is one version more.
        let expected = commits + u64::from(ends);
        must!(record.version == expected, "session {nth} has version {}, {expected} were told", record.version);
        live += usize::from(ends == 0);
    }
    let page = store.list(&crate::store::Filter::default(), None, crate::store::PAGE_MAX).await?;
    must!(page.records.len() == live.min(crate::store::PAGE_MAX), "{live} sessions live and are listed");
    Ok(())
}

/// Does something to some session, and notes what was acknowledged.
async fn step<S: Store>(store: &S, dice: &Dice, fresh: &AtomicU64, told: &mut Vec<Told>) -> Outcome {
    let nth = dice.roll(fresh.load(Ordering::SeqCst));
    let subject = if nth.is_multiple_of(2) { "ann" } else { "bob" };
    match dice.roll(8) {
        0 | 1 => {
            let record = session(nth, subject);
            if let Creation::Created(_) = store.create(record, super::limit(3, OnLimit::Report), NOW).await? {
                told.push(Told::Created(nth));
            }
        }
        2..=4 => {
            let Some(record) = store.load(&digest(nth)).await? else { return Ok(()) };
            dice.dawdle().await;
            let next = counting(&record, counter(&record).wrapping_add(1));
            if let Commit::Done(_) = store.commit(next, some_durability(dice.roll(2))).await? {
                told.push(Told::Committed(nth));
            }
        }
        5 | 6 => {
            let Some(record) = store.load(&digest(nth)).await? else { return Ok(()) };
            dice.dawdle().await;
            let next = fresh.fetch_add(1, Ordering::SeqCst);
            let answer = store.rotate(rotation(&record, session(next, subject), None)).await?;
            if let Rotation::Created(_) = answer {
                told.extend([Told::Created(next), Told::Ended(nth)]);
            }
        }
        _ => {
            if store.revoke(&digest(nth), ending(EndReason::Logout)).await?.is_some() {
                told.push(Told::Ended(nth));
            }
        }
    }
    Ok(())
}
