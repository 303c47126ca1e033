//! Whether what was answered at once could have been answered one after the other.
//!
//! Wing and Gong's search ("Testing and verifying concurrent objects", 1993) with the memory that Lowe added ("Testing for
//! linearizability", 2017): it puts one operation after the other into a [`Model`], whichever may come next, and turns back
//! where the model answers otherwise than the store did. Where it has turned back once it does not go again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::subject_of;
use crate::session::record::{EndReason, Record, State};
use crate::store::conformance::concurrent::counter;

/// Most steps of a search. A history of forty operations takes a few hundred; without a limit a bad one could take for ever.
pub(super) const STEPS_MAX: u32 = 200_000;

/// Most operations of a history: there is a bit for each.
pub(super) const OPERATIONS_MAX: usize = 64;

/// What is asked of a store. Sessions have numbers here, which say whose they are.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Create { nth: u64, value: u64 },
    Load { nth: u64 },
    Commit { nth: u64, version: u64, value: u64 },
    Rotate { old: u64, version: u64, new: u64, value: u64, also: Option<u64> },
    Revoke { nth: u64 },
    RevokeSubject { subject: &'static str, except: Option<u64> },
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Also of a rotation.
    Created,
    Exists,
    Loaded(Option<Known>),
    Committed(Known),
    Conflict(Known),
    Gone,
    /// The last records of those that ended, in order of their numbers.
    Last(Vec<(u64, Known)>),
}

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) version: u64,
    /// What the last write wrote; 0 in a tombstone.
    pub(super) value: u64,
    pub(super) ended: Option<EndReason>,
}

impl From<&Record> for Known {
    fn from(record: &Record) -> Self {
        let ended = match record.state {
            State::Ended { why, .. } => Some(why),
            _ => None,
        };
        Self { version: record.version, value: counter(record), ended }
    }
}

/// An operation as a task saw it: it happened at some moment between these two.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) task: u64,
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) ask: Ask,
    pub(super) answer: Answer,
}

/// A store that does one thing after the other: what all others must look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model(BTreeMap<u64, Known>);

impl Model {
    /// Puts in a new session.
    pub(super) fn begin(&mut self, nth: u64, value: u64) {
        self.0.insert(nth, Known { version: 0, value, ended: None });
    }

    fn live(&mut self, nth: u64) -> Option<&mut Known> {
        self.0.get_mut(&nth).filter(|known| known.ended.is_none())
    }

    /// Ends a session, and gives what it was.
    fn end(&mut self, nth: u64, why: EndReason) -> Option<(u64, Known)> {
        let known = self.live(nth)?;
        let tombstone = Known { version: known.version + 1, value: 0, ended: Some(why) };
        Some((nth, std::mem::replace(known, tombstone)))
    }

    /// Does what is asked. Gives whether the answer is one that a store may give then.
    fn explains(&mut self, Operation { ask, answer, .. }: &Operation) -> bool {
        // A rotation from another version to a digest that is taken: both are so, and a store may look at either first.
        let is_taken = matches!(ask, Ask::Rotate { new, .. } if self.0.contains_key(new));
        self.answer(ask) == *answer || is_taken && *answer == Answer::Gone
    }

    fn answer(&mut self, ask: &Ask) -> Answer {
        match *ask {
            Ask::Create { nth, .. } if self.0.contains_key(&nth) => Answer::Exists,
            Ask::Create { nth, value } => {
                self.begin(nth, value);
                Answer::Created
            }
            Ask::Load { nth } => Answer::Loaded(self.0.get(&nth).copied()),
            Ask::Commit { nth, version, value } => match self.live(nth) {
                None => Answer::Gone,
                Some(known) if known.version != version => Answer::Conflict(*known),
                Some(known) => {
                    *known = Known { version: version + 1, value, ended: None };
                    Answer::Committed(*known)
                }
            },
            Ask::Rotate { old, version, new, value, also } => match self.live(old).copied() {
                None => Answer::Gone,
                Some(known) if known.version != version => Answer::Conflict(known),
                Some(_) if self.0.contains_key(&new) => Answer::Gone,
                Some(_) => {
                    self.end(old, EndReason::Replaced);
                    also.and_then(|also| self.end(also, EndReason::Revoked));
                    self.begin(new, value);
                    Answer::Created
                }
            },
            Ask::Revoke { nth } => Answer::Last(self.end(nth, EndReason::Logout).into_iter().collect()),
            Ask::RevokeSubject { subject, except } => {
                let mut names: Vec<_> = self.0.keys().copied().collect();
                names.retain(|nth| subject_of(*nth) == Some(subject) && Some(*nth) != except);
                Answer::Last(names.into_iter().filter_map(|nth| self.end(nth, EndReason::Revoked)).collect())
            }
        }
    }
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is an order that explains all answers.
    Order,
    /// There is none.
    NoOrder,
    /// It would take too many steps to tell.
    TooLong,
}

/// Looks for an order of these operations in which the model, beginning as it is, gives their answers, and in which none
/// comes before another that was answered before it was asked.
pub(super) fn check(history: &[Operation], model: &Model, steps_max: u32) -> Verdict {
    if history.len() > OPERATIONS_MAX {
        return Verdict::TooLong;
    }
    let bits = (0..).map(|at| 1_u64 << at);
    let left: Vec<_> = bits.zip(history).collect();
    Search { operations: &left, visited: HashMap::new(), steps_left: steps_max }.go_on(0, model)
}

struct Search<'a> {
    /// Each with its bit.
    operations: &'a [(u64, &'a Operation)],
    /// Which states were reached by which operations, in whatever order of them.
    visited: HashMap<u64, Vec<Model>>,
    steps_left: u32,
}

impl Search<'_> {
    /// Goes on from a state that the operations in `done` have led to.
    fn go_on(&mut self, done: u64, model: &Model) -> Verdict {
        let operations = self.operations;
        let left = || operations.iter().filter(|(bit, _)| done & bit == 0);
        // Whoever was asked after this moment must come later than one of those that are left.
        let Some(first_answer) = left().map(|(_, operation)| operation.answered).min() else { return Verdict::Order };
        let visited = self.visited.entry(done).or_default();
        if visited.contains(model) {
            return Verdict::NoOrder;
        }
        visited.push(model.clone());
        for (bit, operation) in left().filter(|(_, operation)| operation.asked < first_answer) {
            let Some(steps_left) = self.steps_left.checked_sub(1) else { return Verdict::TooLong };
            self.steps_left = steps_left;
            let mut next = model.clone();
            if !next.explains(operation) {
                continue;
            }
            let verdict = self.go_on(done | bit, &next);
            // What changes nothing may as well come now as later: if this does not lead on, nothing does.
            if verdict != Verdict::NoOrder || next == *model {
                return verdict;
            }
        }
        Verdict::NoOrder
    }
}

// ---- for people ------------------------------------------------------------------------------------------------------

/// A history, one line for each operation: when it was asked and answered, and by whom.
pub(super) fn lines(history: &[Operation]) -> String {
    let mut history: Vec<_> = history.iter().collect();
    history.sort_unstable_by_key(|operation| operation.asked);
    history.into_iter().map(|operation| format!("\n{operation}")).collect()
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, asked, answered, ask, answer } = self;
        write!(f, "{asked:>3} to {answered:>3}, task {task}: {ask} -> {answer}")
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { nth, value } => write!(f, "create {nth} ={value}"),
            Self::Load { nth } => write!(f, "load {nth}"),
            Self::Commit { nth, version, value } => write!(f, "commit {nth} over v{version} ={value}"),
            Self::Rotate { old, version, new, value, also } => {
                write!(f, "rotate {old} over v{version} to {new} ={value}")?;
                also.map_or(Ok(()), |also| write!(f, ", end {also}"))
            }
            Self::Revoke { nth } => write!(f, "revoke {nth}"),
            Self::RevokeSubject { subject, except } => {
                write!(f, "revoke all of {subject}")?;
                except.map_or(Ok(()), |except| write!(f, " but {except}"))
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Exists => f.write_str("exists"),
            Self::Loaded(None) => f.write_str("none"),
            Self::Loaded(Some(known)) => write!(f, "{known}"),
            Self::Committed(known) => write!(f, "done, {known}"),
            Self::Conflict(known) => write!(f, "conflict, {known}"),
            Self::Gone => f.write_str("gone"),
            Self::Last(last) => {
                write!(f, "{} ended", last.len())?;
                last.iter().try_for_each(|(nth, known)| write!(f, ", {nth} at {known}"))
            }
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ended {
            None => write!(f, "v{} ={}", self.version, self.value),
            Some(why) => write!(f, "v{} {why:?}", self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_an_order_if_and_only_if_one_explains_it() {
        let live = |version, value| Known { version, value, ended: None };
        let replaced = Known { version: 1, value: 0, ended: Some(EndReason::Replaced) };
        let commit = |value| Ask::Commit { nth: 0, version: 0, value };
        let load = |nth| Ask::Load { nth };
        let rotate = Ask::Rotate { old: 0, version: 0, new: 1, value: 9, also: None };
        let all = Ask::RevokeSubject { subject: "ann", except: None };
        let operation = |asked, answered, ask: &Ask, answer: &Answer| {
            let (ask, answer) = (ask.clone(), answer.clone());
            Operation { task: 0, asked, answered, ask, answer }
        };
        let verdict = |history: &[(u64, u64, Ask, Answer)], steps_max| {
            let history: Vec<_> = history
                .iter()
                .map(|(asked, answered, ask, answer)| operation(*asked, *answered, ask, answer))
                .collect();
            let mut model = Model::default();
            model.begin(0, 5);
            check(&history, &model, steps_max)
        };
        let (done, seen) = (|value| Answer::Committed(live(1, value)), |known| Answer::Loaded(Some(known)));
        // Who reads beside a commit may see it or not, and who reads after one who has seen it must.
        let first = (0, 9, commit(7), done(7));
        let read = |asked, answered, known| (asked, answered, load(0), seen(known));
        assert_eq!(verdict(&[first.clone(), read(1, 2, live(0, 5)), read(3, 4, live(1, 7))], 99), Verdict::Order);
        assert_eq!(verdict(&[first.clone(), read(1, 2, live(1, 7)), read(3, 4, live(0, 5))], 99), Verdict::NoOrder);
        assert_eq!(verdict(&[first.clone(), read(1, 3, live(1, 7)), read(2, 4, live(0, 5))], 99), Verdict::Order);
        assert_eq!(verdict(&[first.clone(), read(10, 11, live(0, 5))], 99), Verdict::NoOrder);
        // Of two commits over one version one conflicts.
        let other = |answer| (1, 8, commit(8), answer);
        assert_eq!(verdict(&[first.clone(), other(done(8))], 99), Verdict::NoOrder);
        assert_eq!(verdict(&[first.clone(), other(Answer::Conflict(live(1, 7)))], 99), Verdict::Order);
        // Both ids are never good, and a revocation that misses a session which always lived has no place.
        let rotation = (0, 9, rotate, Answer::Created);
        assert_eq!(
            verdict(&[rotation.clone(), (1, 2, load(1), seen(live(0, 9))), read(3, 4, replaced)], 99),
            Verdict::Order
        );
        let both = [rotation.clone(), (1, 2, load(1), seen(live(0, 9))), read(3, 4, live(0, 5))];
        assert_eq!(verdict(&both, 99), Verdict::NoOrder);
        let missed = (1, 8, all.clone(), Answer::Last(Vec::new()));
        assert_eq!(verdict(&[rotation.clone(), missed], 99), Verdict::NoOrder);
        let caught = (1, 8, all, Answer::Last(vec![(1, live(0, 9))]));
        assert_eq!(verdict(&[rotation, caught.clone()], 99), Verdict::Order);
        assert_eq!(verdict(&[first.clone(), caught.clone()], 99), Verdict::NoOrder, "there is no such session");
        assert_eq!(verdict(&[first, read(1, 2, live(0, 5))], 1), Verdict::TooLong);
        assert_eq!(verdict(&vec![caught; 65], 99), Verdict::TooLong);
    }
}
