//! What is known about all records together: how many, whose, and when they may go.
//!
//! It is told of every change as a pair of before and after, and keeps nothing else: undoing a change is telling it the
//! other way round.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::wheel::{Wheel, bucket};
use crate::clock::Timestamp;
use crate::session::record::Record;
use crate::session::subject::folded;

/// Whether a record may be thrown out to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Ended, or nobody authenticated in it: worth little, and cheap to make many of.
    Yielding,
    /// Somebody authenticated in it: only time or a decision ends it.
    Kept,
}

impl Class {
    /// The class of a record.
    pub(super) const fn of(record: &Record) -> Self {
        if record.is_ended() || !record.is_authenticated() { Self::Yielding } else { Self::Kept }
    }
}

/// Live sessions of one subject, by the short names of their digests. Most have one; a shared account may have very many.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "most subjects have one session, and a set in place would double their entry"
)]
enum Sessions {
    One(u64),
    Many(Box<HashSet<u64>>),
}

/// What is known about all records together.
#[derive(Debug, Default)]
pub(super) struct Index {
    count: usize,
    /// How many of them have not ended.
    live: usize,
    /// By a hash of their folded form: spellings that are one subject share an entry. Names would take twice the room. Two
    /// subjects of a million have one hash in one store of 10^7, and then whoever asks for the sessions of one looks at the
    /// records, which have the name. A tree, since it grows little by little and is never half empty.
    subjects: BTreeMap<u64, Sessions>,
    /// Subjects come from outside, so they are hashed with random keys (the standard library's SipHash).
    hasher: RandomState,
    yielding: Wheel,
    kept: Wheel,
}

impl Index {
    /// How many records there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// How many of them have not ended, those included whose time is over but which nobody removed yet.
    pub(super) const fn all_live(&self) -> usize {
        self.live
    }

    /// The times of one class.
    pub(super) const fn wheel(&mut self, class: Class) -> &mut Wheel {
        match class {
            Class::Yielding => &mut self.yielding,
            Class::Kept => &mut self.kept,
        }
    }

    /// How many live sessions a subject has, those included whose time is over but which nobody removed yet.
    pub(super) fn live(&self, subject: &str) -> usize {
        match self.subjects.get(&self.key(subject)) {
            None => 0,
            Some(Sessions::One(_)) => 1,
            Some(Sessions::Many(all)) => all.len(),
        }
    }

    /// Short names of the live sessions of a subject, in order: what is done with them must not depend on the keys of a hash
    /// table.
    pub(super) fn sessions(&self, subject: &str) -> Vec<u64> {
        let mut sessions = match self.subjects.get(&self.key(subject)) {
            None => Vec::new(),
            Some(Sessions::One(one)) => vec![*one],
            Some(Sessions::Many(all)) => all.iter().copied().collect(),
        };
        sessions.sort_unstable();
        sessions
    }

    /// Takes note of a change to the record under one digest.
    pub(super) fn apply(&mut self, before: Option<&Arc<Record>>, after: Option<&Arc<Record>>) {
        match (before, after) {
            (None, Some(_)) => self.count += 1,
            (Some(_), None) => self.count = self.count.saturating_sub(1),
            _ => {}
        }
        let is_live = |record: &Arc<Record>| !record.is_ended();
        match (before.is_some_and(is_live), after.is_some_and(is_live)) {
            (false, true) => self.live += 1,
            (true, false) => self.live = self.live.saturating_sub(1),
            _ => {}
        }
        let (was, is) = (before.and_then(live_subject), after.and_then(live_subject));
        if was != is {
            if let (Some(subject), Some(record)) = (was, before) {
                self.leave(subject, record.digest.spread());
            }
            if let (Some(subject), Some(record)) = (is, after) {
                self.join(subject, record.digest.spread());
            }
        }
        if let Some(after) = after {
            let class = Class::of(after);
            let stands =
                before.is_some_and(|before| Class::of(before) == class && before.removable_at <= after.removable_at);
            if !stands {
                self.schedule(after, after.last_seen);
            }
        }
    }

    /// Puts a record into the bucket where it belongs, seen from `from`.
    pub(super) fn schedule(&mut self, record: &Record, from: Timestamp) {
        self.wheel(Class::of(record)).put(bucket(record.removable_at, from), record.digest.spread());
    }

    /// Whether the wheels hold far more names than there are records: times that were moved forward leave one behind.
    pub(super) const fn is_cluttered(&self) -> bool {
        self.yielding.entries() + self.kept.entries() > self.count * 2 + 4096
    }

    /// Forgets all times, so that they can be told anew.
    pub(super) fn forget_times(&mut self) {
        self.yielding.clear();
        self.kept.clear();
    }

    fn key(&self, subject: &str) -> u64 {
        self.hasher.hash_one(&*folded(subject))
    }

    fn join(&mut self, subject: &str, session: u64) {
        let key = self.key(subject);
        match self.subjects.get_mut(&key) {
            None => {
                self.subjects.insert(key, Sessions::One(session));
            }
            Some(Sessions::Many(all)) => {
                all.insert(session);
            }
            Some(place @ Sessions::One(_)) => {
                if let Sessions::One(other) = place {
                    let both = HashSet::from_iter([*other, session]);
                    *place = Sessions::Many(Box::new(both));
                }
            }
        }
    }

    fn leave(&mut self, subject: &str, session: u64) {
        let key = self.key(subject);
        let is_last = match self.subjects.get_mut(&key) {
            None => return,
            Some(Sessions::One(one)) => *one == session,
            Some(Sessions::Many(all)) => {
                all.remove(&session);
                all.is_empty()
            }
        };
        if is_last {
            self.subjects.remove(&key);
        }
    }
}

fn live_subject(record: &Arc<Record>) -> Option<&Arc<str>> {
    record.subject.as_ref().filter(|_| !record.is_ended())
}
