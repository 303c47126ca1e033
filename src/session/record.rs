//! The stored form of a session.
//!
//! A record is a value: stores hand it out behind an `Arc`, changes are made on a copy and committed under the version
//! that was loaded. What it holds is worth little to a thief of the store: no session id, the app's cookies sealed.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::id::{Ref, SessionDigest};
use super::tag::{Dated, Tag, Tags};
use crate::clock::Timestamp;

/// Longest subject that is kept, in bytes. A longer one is cut by whoever names it, with an event.
pub const SUBJECT_BYTES_MAX: usize = 256;

/// A session as stores keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Digest of the session id: the key.
    pub digest: SessionDigest,
    /// Public name; stays when the id changes.
    pub reference: Ref,
    /// Counts commits: a commit succeeds only over the version it was made from.
    pub version: u64,
    /// When the session began.
    pub created_at: Timestamp,
    /// When its present id was issued.
    pub id_since: Timestamp,
    /// When its subject last proved who he is. The absolute deadline counts from here.
    pub authenticated_at: Option<Timestamp>,
    /// Last real use, written at most every so often.
    pub last_seen: Timestamp,
    /// An end that the app asked for, earlier than the others.
    pub ends_at: Option<Timestamp>,
    /// How long the app wants it to last.
    pub lasting: Lasting,
    /// From when on a store may remove the record: never before all its deadlines have passed.
    pub removable_at: Timestamp,
    /// Whom the session is authenticated for, if the guard learned it.
    pub subject: Option<Arc<str>>,
    /// Its tags.
    pub tags: Tags,
    /// How many forks were seen since its id was issued.
    pub forks: u8,
    /// What may be done with it.
    pub state: State,
    /// The shielded cookies, sealed; empty when there are none.
    pub jar: Box<[u8]>,
    /// What the app keeps in it, sealed; empty when there is nothing.
    pub data: Box<[u8]>,
    /// Digests of the app's cookies that are bound to the session.
    pub bound: Box<[BoundCookie]>,
    /// Contexts the session was used from, with their risk, in the compact form of [`crate::history`].
    pub history: Box<[u8]>,
}

/// What may be done with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves its holder.
    Live,
    /// Nobody is served with its credentials until a new login: every presenter is quarantined.
    Quarantined {
        /// Since when.
        since: Timestamp,
    },
    /// The place a quarantined client logs in again from; its own jar is the side jar.
    Held {
        /// The session it was moved away from. Boxed: few records are held, and every record has room for this.
        from: Box<SessionDigest>,
        /// Since when.
        since: Timestamp,
    },
    /// It is over; what is left is a tombstone.
    Ended {
        /// When it ended.
        at: Timestamp,
        /// Why.
        why: EndReason,
    },
}

/// How long an app wants its session to last: never longer than the policy lets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lasting {
    /// As the policy says.
    #[default]
    Default,
    /// So many seconds from its last use.
    Idle(u32),
    /// Until [`Record::ends_at`].
    Until,
    /// Until the browser closes: its cookie has no end of its own.
    Browser,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// Not used for too long.
    Idle,
    /// Too long since its subject authenticated, or since it began.
    Absolute,
    /// An end that the app asked for came.
    Expired,
    /// Its subject logged out.
    Logout,
    /// It goes on under another id.
    Replaced,
    /// An operator or the app ended it.
    Revoked,
    /// Its subject had too many.
    Evicted,
    /// The guard ended it: evidence of theft.
    Terminated,
}

impl EndReason {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Absolute,
        Self::Expired,
        Self::Logout,
        Self::Replaced,
        Self::Revoked,
        Self::Evicted,
        Self::Terminated,
    ];

    /// The number that it is stored as where there is no room for more, from 1. It never changes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Idle => 1,
            Self::Absolute => 2,
            Self::Expired => 3,
            Self::Logout => 4,
            Self::Replaced => 5,
            Self::Revoked => 6,
            Self::Evicted => 7,
            Self::Terminated => 8,
        }
    }

    /// The one of that code, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// An app's cookie that passes through and is bound to the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundCookie {
    /// Its name.
    pub name: Box<str>,
    /// Keyed digests of the last values that the app gave it, oldest first, and when each was replaced.
    pub values: Vec<BoundValue>,
}

/// One value of a bound cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundValue {
    /// Keyed digest of the value, first 16 bytes.
    pub digest: [u8; 16],
    /// Milliseconds since 1970 when the app replaced it; none for the present one.
    pub replaced_at: Option<u64>,
}

impl Record {
    /// Whether it has ended.
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    /// Whether it goes on under another id.
    pub const fn is_replaced(&self) -> bool {
        matches!(self.state, State::Ended { why: EndReason::Replaced, .. })
    }

    /// Whether somebody authenticated in it.
    pub const fn is_authenticated(&self) -> bool {
        self.authenticated_at.is_some()
    }

    /// What is left when it ends: its names, its times and the reason. Cookies, data and history go.
    #[must_use]
    pub fn ended(&self, at: Timestamp, why: EndReason, removable_at: Timestamp) -> Self {
        Self {
            state: State::Ended { at, why },
            removable_at,
            version: self.version.saturating_add(1),
            jar: Box::default(),
            data: Box::default(),
            bound: Box::default(),
            history: Box::default(),
            tags: Tags::new(*self.tags.head(), self.tags.since()),
            ..self.clone()
        }
    }

    /// Bytes it takes in memory, about: for the limits and figures of stores.
    pub fn size(&self) -> usize {
        let bound: usize =
            self.bound.iter().map(|c| size_of::<BoundCookie>() + c.name.len() + c.values.len() * 32).sum();
        let tags = (self.tags.superseded().len() + self.tags.stale().len()) * size_of::<Dated>();
        size_of::<Self>()
            + self.jar.len()
            + self.data.len()
            + self.history.len()
            + bound
            + tags
            + self.subject.as_ref().map_or(0, |s| s.len())
    }

    /// The form that is written to disk: a version byte and the fields in postcard's encoding.
    pub fn encode(&self) -> Vec<u8> {
        let stored = Stored::from(self);
        let mut bytes = Vec::with_capacity(self.size());
        bytes.push(FORMAT);
        // Writing into a growing vector has no way to fail; an empty answer would not decode, so nothing is lost quietly.
        postcard::to_extend(&stored, bytes).unwrap_or_default()
    }

    /// The digest and the reference of an encoded record, which stand at the same place in every format version.
    pub(crate) fn names_in(encoded: &[u8]) -> Option<(SessionDigest, Ref)> {
        let (digest, rest) = encoded.get(1..)?.split_first_chunk()?;
        Some((SessionDigest(*digest), Ref(*rest.first_chunk()?)))
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When the bytes are of another format version, cut or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.split_first().ok_or(DecodeError::Damaged)? {
            (&FORMAT, body) => decode_body(body),
            // Before apps could keep something: no data, and no wish how long to last.
            (&FORMAT_WITHOUT_DATA, body) => decode_body(&[body, &[0, 0]].concat()),
            (version, _) => Err(DecodeError::Version(*version)),
        }
    }
}

fn decode_body(body: &[u8]) -> Result<Record, DecodeError> {
    let (stored, rest) = postcard::take_from_bytes::<Stored<'_>>(body).ok().ok_or(DecodeError::Damaged)?;
    if !rest.is_empty() {
        return Err(DecodeError::Damaged);
    }
    stored.try_into()
}

/// Version of the stored form.
pub const FORMAT: u8 = 2;

/// The version before it, which is read still.
const FORMAT_WITHOUT_DATA: u8 = 1;

/// A stored record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer or much older program.
    #[error("the record has format version {0}, this program reads {FORMAT}")]
    Version(u8),
    /// Not a record, or cut.
    #[error("the record is damaged")]
    Damaged,
}

/// The fields as they are written. It borrows what is long: from a record to write it, from the bytes to read them.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    digest: [u8; 32],
    reference: [u8; 16],
    version: u64,
    created_at: u64,
    id_since: u64,
    authenticated_at: Option<u64>,
    last_seen: u64,
    ends_at: Option<u64>,
    removable_at: u64,
    subject: Option<&'a str>,
    head: [u8; 16],
    head_since: u64,
    superseded: SmallVec<[([u8; 16], u64); 8]>,
    stale: SmallVec<[([u8; 16], u64); 2]>,
    forks: u8,
    state: StoredState,
    #[serde(borrow)]
    jar: Bytes<'a>,
    bound: Cow<'a, [BoundCookie]>,
    history: Bytes<'a>,
    // What was added later stands at the end, so that the form before can be read.
    data: Bytes<'a>,
    lasting: Lasting,
}

/// Bytes that are copied in one go. To serde a slice is a list of numbers, each of them visited.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

#[derive(Serialize, Deserialize)]
enum StoredState {
    Live,
    Quarantined(u64),
    Held([u8; 32], u64),
    Ended(u64, EndReason),
}

impl<'a> From<&'a Record> for Stored<'a> {
    fn from(record: &'a Record) -> Self {
        fn dated<const N: usize>(all: &[Dated]) -> SmallVec<[([u8; 16], u64); N]> {
            all.iter().map(|entry| (*entry.tag.as_bytes(), entry.at.as_millis())).collect()
        }
        Self {
            digest: record.digest.0,
            reference: record.reference.0,
            version: record.version,
            created_at: record.created_at.as_millis(),
            id_since: record.id_since.as_millis(),
            authenticated_at: record.authenticated_at.map(Timestamp::as_millis),
            last_seen: record.last_seen.as_millis(),
            ends_at: record.ends_at.map(Timestamp::as_millis),
            removable_at: record.removable_at.as_millis(),
            subject: record.subject.as_deref(),
            head: *record.tags.head().as_bytes(),
            head_since: record.tags.since().as_millis(),
            superseded: dated(record.tags.superseded()),
            stale: dated(record.tags.stale()),
            forks: record.forks,
            state: match &record.state {
                State::Live => StoredState::Live,
                State::Quarantined { since } => StoredState::Quarantined(since.as_millis()),
                State::Held { from, since } => StoredState::Held(from.0, since.as_millis()),
                State::Ended { at, why } => StoredState::Ended(at.as_millis(), *why),
            },
            jar: Bytes(&record.jar),
            bound: Cow::Borrowed(&record.bound),
            history: Bytes(&record.history),
            data: Bytes(&record.data),
            lasting: record.lasting,
        }
    }
}

impl TryFrom<Stored<'_>> for Record {
    type Error = DecodeError;

    fn try_from(stored: Stored<'_>) -> Result<Self, DecodeError> {
        fn dated<const N: usize>(all: &[([u8; 16], u64)]) -> SmallVec<[Dated; N]> {
            all.iter().map(|(tag, at)| Dated { tag: Tag::from_bytes(*tag), at: Timestamp::from_millis(*at) }).collect()
        }
        if stored.subject.is_some_and(|subject| subject.len() > SUBJECT_BYTES_MAX) {
            return Err(DecodeError::Damaged);
        }
        let time = Timestamp::from_millis;
        let (superseded, stale) = (dated::<8>(&stored.superseded), dated::<2>(&stored.stale));
        Ok(Self {
            digest: SessionDigest(stored.digest),
            reference: Ref(stored.reference),
            version: stored.version,
            created_at: time(stored.created_at),
            id_since: time(stored.id_since),
            authenticated_at: stored.authenticated_at.map(time),
            last_seen: time(stored.last_seen),
            ends_at: stored.ends_at.map(time),
            removable_at: time(stored.removable_at),
            subject: stored.subject.map(Into::into),
            tags: Tags::restore(Tag::from_bytes(stored.head), time(stored.head_since), &superseded, &stale),
            forks: stored.forks,
            state: match stored.state {
                StoredState::Live => State::Live,
                StoredState::Quarantined(since) => State::Quarantined { since: time(since) },
                StoredState::Held(from, since) => {
                    State::Held { from: Box::new(SessionDigest(from)), since: time(since) }
                }
                StoredState::Ended(at, why) => State::Ended { at: time(at), why },
            },
            jar: stored.jar.0.into(),
            bound: stored.bound.into_owned().into(),
            history: stored.history.0.into(),
            data: stored.data.0.into(),
            lasting: stored.lasting,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let tag = any::<[u8; 16]>();
        let dated = proptest::collection::vec((tag, any::<u64>()), 0..4);
        let state = prop_oneof![
            Just(State::Live),
            any::<u64>().prop_map(|at| State::Quarantined { since: Timestamp::from_millis(at) }),
            any::<([u8; 32], u64)>().prop_map(|(from, at)| State::Held {
                from: Box::new(SessionDigest(from)),
                since: Timestamp::from_millis(at)
            }),
            any::<u64>().prop_map(|at| State::Ended { at: Timestamp::from_millis(at), why: EndReason::Evicted }),
        ];
        let times = any::<[u64; 5]>();
        let maybe = (any::<Option<u64>>(), any::<Option<u64>>(), proptest::option::of("\\PC{0,40}"));
        let bytes = proptest::collection::vec(any::<u8>(), 0..64);
        (any::<([u8; 32], [u8; 16], u64, [u8; 16], u8)>(), times, maybe, dated, state, bytes).prop_map(
            |((digest, reference, version, head, forks), times, (auth, ends, subject), dated, state, bytes)| {
                let time = |at: usize| Timestamp::from_millis(times[at]);
                let dated: Vec<_> = dated
                    .into_iter()
                    .map(|(tag, at)| Dated { tag: Tag::from_bytes(tag), at: Timestamp::from_millis(at) })
                    .collect();
                Record {
                    digest: SessionDigest(digest),
                    reference: Ref(reference),
                    version,
                    created_at: time(0),
                    id_since: time(1),
                    authenticated_at: auth.map(Timestamp::from_millis),
                    last_seen: time(2),
                    ends_at: ends.map(Timestamp::from_millis),
                    lasting: if forks % 2 == 0 { Lasting::Browser } else { Lasting::Idle(forks.into()) },
                    removable_at: time(3),
                    subject: subject.map(Into::into),
                    tags: Tags::restore(Tag::from_bytes(head), time(4), &dated, &dated),
                    forks,
                    state,
                    jar: bytes.clone().into(),
                    data: bytes.iter().rev().copied().collect(),
                    bound: Box::new([BoundCookie {
                        name: "remember".into(),
                        values: vec![BoundValue { digest: [3; 16], replaced_at: auth }],
                    }]),
                    history: bytes.into(),
                }
            },
        )
    }

    #[test]
    fn each_reason_has_a_code_of_its_own() {
        let codes = EndReason::ALL.map(EndReason::code);
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(codes.map(EndReason::from_code), EndReason::ALL.map(Some));
        assert_eq!([0, 9, 255].map(EndReason::from_code), [None; 3]);
    }

    proptest! {
        #[test]
        fn a_record_reads_back(record in record()) {
            let encoded = record.encode();
            prop_assert_eq!(Record::names_in(&encoded), Some((record.digest, record.reference)));
            prop_assert_eq!(Record::decode(&encoded).unwrap(), record);
        }

        #[test]
        fn the_form_before_is_read(record in record()) {
            let record = Record { data: Box::default(), lasting: Lasting::Default, ..record };
            let mut bytes = record.encode();
            prop_assert_eq!(bytes.split_off(bytes.len() - 2), [0, 0]);
            bytes[0] = FORMAT_WITHOUT_DATA;
            prop_assert_eq!(Record::decode(&bytes).unwrap(), record);
        }

        #[test]
        fn a_cut_record_is_refused(record in record(), cut in any::<prop::sample::Index>()) {
            let bytes = record.encode();
            prop_assert!(Record::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(Record::decode(&bytes));
        }
    }

    #[test]
    fn another_format_version_is_named() {
        assert_eq!(Record::decode(&[9, 1, 2]), Err(DecodeError::Version(9)));
        assert_eq!(Record::decode(&[]), Err(DecodeError::Damaged));
    }
}
