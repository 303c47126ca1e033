//! A case of everything at once, whose answers must be those of a store that does one thing after the other.
//!
//! A few tasks do what comes to hand to the same few sessions, and note what they asked, what they were answered, and when,
//! on a clock that counts questions and answers. Then an [`order`] is looked for. There are many short histories and not a
//! long one: the search is short, and so is what a failure prints.

mod order;
#[cfg(test)]
pub(in crate::store) mod schedules;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::order::{Answer, Ask, Known, Model, OPERATIONS_MAX, Operation, STEPS_MAX, Verdict};
use super::concurrent::{counting, some_durability};
use super::{Dice, Fault, NOW, Outcome, anonymous, create, digest, ending, must, rotation, session, together};
use crate::session::id::SessionDigest;
use crate::session::record::{EndReason, Record};
use crate::store::{Commit, Creation, Rotate, Rotation, Store};

/// How often some histories are played.
const ROUNDS: u64 = 5;
/// How many are played at once: a store that writes to a disk makes one write of what they ask.
const AT_ONCE: u64 = 8;
/// How many tasks play one.
const TASKS: u64 = 8;
/// How many things each of them does.
const STEPS: u64 = 5;
/// How many sessions there are in the beginning.
const SESSIONS: u64 = 6;

const _: () = assert!(TASKS * STEPS <= OPERATIONS_MAX as u64);

pub(super) async fn every_history_has_an_order<S: Store>(store: Arc<S>) -> Outcome {
    for round in 0..ROUNDS {
        together(AT_ONCE, |nth| {
            let (store, seed) = (Arc::clone(&store), round * AT_ONCE + nth);
            let scene = Scene { store, looks: Looks::Stored, seed, clock: Arc::default(), fresh: Arc::default() };
            async move { scene.play_and_check().await }
        })
        .await?;
    }
    Ok(())
}

/// Whose a session is: nobody's, or that of one of two.
pub(super) const fn subject_of(nth: u64) -> Option<&'static str> {
    match nth % 4 {
        0 | 1 => Some("ann"),
        2 => Some("bob"),
        _ => None,
    }
}

/// How a session is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Looks {
    /// As it is stored. What a cache has may be old, and it says so.
    Stored,
    /// As a cache has it: alone before its store it knows all that was done.
    #[cfg(test)]
    Kept,
}

/// Where a history happens. Each has sessions and subjects of its own.
struct Scene<S> {
    store: Arc<S>,
    looks: Looks,
    seed: u64,
    /// Counts questions and answers.
    clock: Arc<AtomicU64>,
    /// The number of the next new session.
    fresh: Arc<AtomicU64>,
}

impl<S> Clone for Scene<S> {
    fn clone(&self) -> Self {
        let (clock, fresh) = (Arc::clone(&self.clock), Arc::clone(&self.fresh));
        Self { store: Arc::clone(&self.store), looks: self.looks, seed: self.seed, clock, fresh }
    }
}

impl<S: Store> Scene<S> {
    async fn play_and_check(&self) -> Outcome {
        let (model, history) = self.play().await?;
        let (verdict, seed) = (order::check(&history, &model, STEPS_MAX), self.seed);
        must!(verdict != Verdict::TooLong, "whether history {seed} has an order takes too long to tell");
        must!(
            verdict == Verdict::Order,
            "answers must be those of operations one after the other, and for these of history {seed} there is no such \
             order:{}",
            order::lines(&history)
        );
        Ok(())
    }

    /// Gives how it began, and what happened.
    async fn play(&self) -> Result<(Model, Vec<Operation>), Fault> {
        let mut model = Model::default();
        for nth in 0..SESSIONS {
            create(&*self.store, self.record(nth, 0, nth)).await?;
            model.begin(nth, nth);
        }
        self.fresh.store(SESSIONS, Ordering::SeqCst);
        let played = together(TASKS, |task| {
            let scene = self.clone();
            async move { scene.play_one(task).await }
        })
        .await?;
        Ok((model, played.into_iter().flatten().collect()))
    }

    async fn play_one(&self, task: u64) -> Result<Vec<Operation>, Fault> {
        let dice = Dice::new(4000 + self.seed * TASKS + task);
        let (mut known, mut played) = (BTreeMap::new(), Vec::new());
        for step in 1..=STEPS {
            dice.dawdle().await;
            let ask = self.choose(&dice, &known, task * 100 + step);
            let asked = self.clock.fetch_add(1, Ordering::SeqCst);
            let answer = self.ask(&ask, &dice).await?;
            let answered = self.clock.fetch_add(1, Ordering::SeqCst);
            learn(&mut known, &ask, &answer);
            played.push(Operation { task, asked, answered, ask, answer });
        }
        Ok(played)
    }

    /// Chooses what to do next, out of what this task knows.
    fn choose(&self, dice: &Dice, known: &BTreeMap<u64, Known>, value: u64) -> Ask {
        let fresh = self.fresh.load(Ordering::SeqCst);
        // Half of the time one of the newest sessions, which are the likeliest to live.
        let any = || if dice.roll(2) == 0 { fresh.saturating_sub(1 + dice.roll(4)) } else { dice.roll(fresh) };
        // A number that is taken twice makes two want the same new id.
        let new = || self.fresh.fetch_add(dice.roll(2), Ordering::SeqCst);
        let nth = any();
        let version = known.get(&nth).map_or(0, |known| known.version);
        match dice.roll(17) {
            0..=4 => Ask::Load { nth },
            5..=8 => Ask::Commit { nth, version, value },
            9..=12 => {
                let new = new();
                let also = Some(any()).filter(|also| dice.roll(3) == 0 && *also != nth && *also != new);
                Ask::Rotate { old: nth, version, new, value, also }
            }
            13 | 14 => Ask::Create { nth: new(), value },
            15 => Ask::Revoke { nth },
            _ => {
                let subject = if dice.roll(3) == 0 { "bob" } else { "ann" };
                Ask::RevokeSubject { subject, except: Some(nth).filter(|_| dice.roll(2) == 0) }
            }
        }
    }

    async fn ask(&self, ask: &Ask, dice: &Dice) -> Result<Answer, Fault> {
        let store = &*self.store;
        Ok(match *ask {
            Ask::Create { nth, value } => match store.create(self.record(nth, 0, value), None, NOW).await? {
                Creation::Created(_) => Answer::Created,
                Creation::Exists => Answer::Exists,
            },
            Ask::Load { nth } => {
                let found = match self.looks {
                    Looks::Stored => store.load_fresh(&self.digest(nth)).await?,
                    #[cfg(test)]
                    Looks::Kept => store.load(&self.digest(nth)).await?,
                };
                Answer::Loaded(found.map(|record| self.known(nth, &record)).transpose()?)
            }
            Ask::Commit { nth, version, value } => {
                let record = self.record(nth, version, value);
                match store.commit(record, some_durability(dice.roll(2))).await? {
                    Commit::Done(record) => Answer::Committed(self.known(nth, &record)?),
                    Commit::Conflict(there) => Answer::Conflict(self.known(nth, &there)?),
                    Commit::Gone => Answer::Gone,
                }
            }
            Ask::Rotate { old, version, new, value, also } => {
                let (from, also) = (self.record(old, version, 0), also.map(|also| self.digest(also)));
                let rotate = rotation(&from, self.record(new, 0, value), None);
                match store.rotate(Rotate { also_end: also.as_ref(), ..rotate }).await? {
                    Rotation::Created(_) => Answer::Created,
                    Rotation::Conflict(there) => Answer::Conflict(self.known(old, &there)?),
                    Rotation::Gone => Answer::Gone,
                }
            }
            Ask::Revoke { nth } => {
                let last = store.revoke(&self.digest(nth), ending(EndReason::Logout)).await?;
                self.last(last.as_slice())?
            }
            Ask::RevokeSubject { subject, except } => {
                let except = except.map(|except| self.digest(except));
                let ending = ending(EndReason::Revoked);
                self.last(&store.revoke_subject(&self.name(subject), except.as_ref(), ending).await?)?
            }
        })
    }

    /// The number that the store knows a session by.
    const fn number(&self, nth: u64) -> u64 {
        self.seed * 1000 + nth
    }

    fn digest(&self, nth: u64) -> SessionDigest {
        digest(self.number(nth))
    }

    fn name(&self, subject: &str) -> String {
        format!("{subject} of {}", self.seed)
    }

    fn record(&self, nth: u64, version: u64, value: u64) -> Record {
        let record = match subject_of(nth) {
            Some(subject) => session(self.number(nth), &self.name(subject)),
            None => anonymous(self.number(nth)),
        };
        Record { version, ..counting(&record, value) }
    }

    /// What a record says, if it is that of this session.
    fn known(&self, nth: u64, record: &Record) -> Result<Known, Fault> {
        let expected = self.record(nth, 0, 0);
        must!(
            record.digest == expected.digest && record.subject == expected.subject,
            "asked for session {nth} of history {}, a store must not answer with {record:?}",
            self.seed
        );
        Ok(record.into())
    }

    fn last(&self, records: &[Arc<Record>]) -> Result<Answer, Fault> {
        let numbers = 0..=self.fresh.load(Ordering::SeqCst);
        let number = |record: &Record| numbers.clone().find(|nth| self.digest(*nth) == record.digest);
        let mut last = Vec::with_capacity(records.len());
        for record in records {
            let nth = number(record).ok_or_else(|| Fault::Answer(format!("nobody asked for the end of {record:?}")))?;
            last.push((nth, self.known(nth, record)?));
        }
        last.sort_unstable_by_key(|(nth, _)| *nth);
        Ok(Answer::Last(last))
    }
}

/// Notes what an answer says of the session that was asked for.
fn learn(known: &mut BTreeMap<u64, Known>, ask: &Ask, answer: &Answer) {
    if let Ask::Load { nth } | Ask::Commit { nth, .. } | Ask::Rotate { old: nth, .. } = ask
        && let Answer::Loaded(Some(now)) | Answer::Committed(now) | Answer::Conflict(now) = answer
    {
        known.insert(*nth, *now);
    }
}
