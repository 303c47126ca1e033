//! What is remembered of sessions that their clients carry: which have ended, which nobody is served with, and from when on
//! the sessions of a subject count.
//!
//! A mark is a record in an ordinary store. It is a live record in which somebody authenticated, so that a store that is
//! full says so and never gives one up: a forgotten end would let a session live again. Marks of sessions in which nobody
//! authenticated give way, as such sessions do: who can begin them by the thousand must not keep others from logging out.

use crate::clock::Timestamp;
use crate::session::expiry;
use crate::session::id::{Ref, SessionDigest};
use crate::session::record::{EndReason, Lasting, Record, State};
use crate::session::tag::{Tag, Tags};

/// What is remembered of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It has ended.
    Ended { at: Timestamp, why: EndReason },
    /// It serves nobody until a new login.
    Quarantined { since: Timestamp },
    /// Nothing any more.
    Nothing,
}

/// Whether a session was known that was ended. Nobody ends an id before it is given out, but who does must not keep it from being
/// given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Yes,
    No,
}

impl Mark {
    /// As a record, to be removed from then on.
    pub(super) fn to_record(self, digest: SessionDigest, known: Option<&Record>, removable_at: Timestamp) -> Record {
        let mark = |since| {
            let mark = blank(digest, known.map(|known| known.reference), since, removable_at);
            let authenticated_at =
                mark.authenticated_at.filter(|_| known.is_none_or(|known| !expiry::is_visitor(known)));
            let lasting = if known.is_none() { UNSEEN } else { Lasting::Default };
            Record { authenticated_at, lasting, ..mark }
        };
        let (since, forks) = match self {
            Self::Ended { at, why } => (at, why.code()),
            Self::Quarantined { since } => (since, 0),
            Self::Nothing => return mark(removable_at),
        };
        Record { forks, state: State::Quarantined { since }, ..mark(since) }
    }

    /// What a record says.
    pub(super) fn of(record: &Record) -> Self {
        let State::Quarantined { since } = record.state else { return Self::Nothing };
        match EndReason::from_code(record.forks) {
            Some(why) => Self::Ended { at: since, why },
            None => Self::Quarantined { since },
        }
    }
}

impl Seen {
    /// What a mark says of it.
    pub(super) fn of(mark: &Record) -> Self {
        if mark.lasting == UNSEEN { Self::No } else { Self::Yes }
    }
}

/// Stands in a mark of a session that was not known.
const UNSEEN: Lasting = Lasting::Browser;

/// From when on the sessions of a subject count: one that was made in an earlier epoch has ended, but for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Epoch {
    /// Its number. Numbers only grow, and also when an earlier one was forgotten: they are at least milliseconds since 1970.
    pub(super) number: u64,
    /// The session that goes on though it is older.
    pub(super) except: Option<SessionDigest>,
}

impl Epoch {
    /// As a record, to be removed from then on.
    pub(super) fn to_record(self, name: SessionDigest, now: Timestamp, removable_at: Timestamp) -> Record {
        let state = self.except.map_or(State::Live, |except| State::Held { from: Box::new(except), since: now });
        let began = Timestamp::from_millis(self.number);
        Record { authenticated_at: Some(began), state, ..blank(name, None, now, removable_at) }
    }

    /// What a record says.
    pub(super) fn of(record: &Record) -> Self {
        let except = match &record.state {
            State::Held { from, .. } => Some(**from),
            State::Live | State::Quarantined { .. } | State::Ended { .. } => None,
        };
        Self { number: record.authenticated_at.map_or(0, Timestamp::as_millis), except }
    }

    /// Whether a session that was made in the epoch of that number goes on.
    pub(super) fn lets(&self, digest: &SessionDigest, number: u64) -> bool {
        number >= self.number || self.except.as_ref() == Some(digest)
    }
}

/// A live record of somebody who authenticated, with nothing in it.
pub(super) fn blank(digest: SessionDigest, reference: Option<Ref>, at: Timestamp, removable_at: Timestamp) -> Record {
    let [first, ..] = digest.0;
    Record {
        digest,
        reference: reference.unwrap_or(Ref([first; 16])),
        version: 0,
        created_at: at,
        id_since: at,
        authenticated_at: Some(at),
        last_seen: at,
        ends_at: None,
        lasting: Lasting::Default,
        removable_at,
        subject: None,
        tags: Tags::new(Tag::from_bytes([0; 16]), at),
        forks: 0,
        state: State::Live,
        jar: Box::default(),
        data: Box::default(),
        bound: Box::default(),
        history: Box::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn read_back(record: &Record) -> Record {
        Record::decode(&record.encode()).unwrap()
    }

    #[test]
    fn a_mark_reads_back_and_is_never_given_up() {
        let ends = EndReason::ALL.map(|why| Mark::Ended { at: NOW, why });
        for mark in ends.into_iter().chain([Mark::Quarantined { since: NOW }, Mark::Nothing]) {
            let record = read_back(&mark.to_record(SessionDigest([7; 32]), None, NOW));
            assert_eq!((Mark::of(&record), Seen::of(&record)), (mark, Seen::No));
            assert!(record.is_authenticated() && !record.is_ended());
            let ann = Record { authenticated_at: Some(NOW), ..record };
            let record = read_back(&mark.to_record(SessionDigest([7; 32]), Some(&ann), NOW));
            assert_eq!((Mark::of(&record), Seen::of(&record)), (mark, Seen::Yes));
            let visitor = Record { authenticated_at: None, ..ann };
            assert!(
                !mark.to_record(SessionDigest([7; 32]), Some(&visitor), NOW).is_authenticated(),
                "that of a visitor may be"
            );
        }
    }

    #[test]
    fn an_epoch_reads_back() {
        for except in [None, Some(SessionDigest([3; 32]))] {
            let epoch = Epoch { number: NOW.as_millis() + 5, except };
            let record = read_back(&epoch.to_record(SessionDigest([7; 32]), NOW, NOW));
            assert_eq!(Epoch::of(&record), epoch);
            assert!(record.is_authenticated() && !record.is_ended());
        }
    }
}
