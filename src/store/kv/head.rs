//! The stored form of a session: a head that scripts read, and the sealed record behind it.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | format, 1 |
//! | 1 | 0: as the record says; otherwise it ended, and why |
//! | 2..10 | when it ended |
//! | 10..18 | `removable_at` |
//! | 18..26 | `last_seen` |
//! | 26..34 | version |
//! | 34..50 | mark: a keyed hash of what never changes under one id |
//! | 50..66 | reference |
//! | 66 | 1: there is a subject |
//! | 67..83 | its name ([`SubjectName`]) |
//! | 83.. | [`Rows::seal`] |
//!
//! Numbers are in big-endian order. A script ends a session by writing bytes 1 to 17: it needs nothing of the record, so it
//! is done in one step and whatever else happens. Who loads the session sees the tombstone that it then is. The record behind
//! it stays whole, sealed twice, until the tombstone is removed.
//!
//! The head is not sealed: who can write to the server can end sessions, and bring one back that he has seen before. He can
//! neither read a record nor make one.

use std::sync::Arc;
use std::time::Duration;

use super::scripts::hex;
use crate::clock::Timestamp;
use crate::session::id::{Ref, SessionDigest};
use crate::session::record::{DecodeError, EndReason, Record, State};
use crate::store::StoreError;
use crate::store::row::{Rows, SubjectName};

/// Version of the head.
const FORMAT: u8 = 1;
/// Bytes before the sealed record.
const HEAD_BYTES: usize = 83;
/// How much longer than it must the server keeps a session. It drops what nobody removed, and must not be early: the clocks of
/// guards and server differ, and a guard may lag behind its own.
const SLACK: Duration = Duration::from_secs(3600);
/// The longest time that a server is told, in milliseconds: up to here its scripts count exactly.
const SPAN_MAX: u64 = 1 << 53;

/// What is written for a record.
pub(super) fn write(rows: &Rows, record: &Record) -> Result<Vec<u8>, StoreError> {
    let row = rows.seal(record)?;
    // After sealing: a name must not be of an older key than the row is, or it would be lost with that key before the row is.
    let name = record.subject.as_deref().map(|subject| rows.name(subject));
    let ended = match record.state {
        State::Ended { at, why } => Some((at, why)),
        _ => None,
    };
    let mut out = Vec::with_capacity(HEAD_BYTES + row.len());
    out.push(FORMAT);
    out.push(ended.map_or(0, |(_, why)| why.code()));
    out.extend(bytes(ended.map_or(Timestamp::EPOCH, |(at, _)| at)));
    out.extend(bytes(record.removable_at));
    out.extend(bytes(record.last_seen));
    out.extend(record.version.to_be_bytes());
    out.extend(rows.name(&unchanging(record)).0);
    out.extend(record.reference.0);
    out.push(u8::from(name.is_some()));
    out.extend(name.unwrap_or(SubjectName([0; 16])).0);
    out.extend(row);
    Ok(out)
}

/// The record that was stored under a digest, as it is now: a tombstone if it has ended.
pub(super) fn read(rows: &Rows, digest: &SessionDigest, mut stored: Vec<u8>) -> Result<Arc<Record>, StoreError> {
    if stored.len() < HEAD_BYTES {
        return Err(DecodeError::Damaged.into());
    }
    let row = stored.split_off(HEAD_BYTES);
    let head = Head::parse(&stored).ok_or(DecodeError::Damaged)?;
    if head.format != FORMAT {
        return Err(DecodeError::Version(head.format).into());
    }
    let record = rows.open(digest, row)?;
    if record.version != head.version || record.reference != head.reference {
        return Err(DecodeError::Damaged.into());
    }
    if head.ended == 0 || record.is_ended() {
        return Ok(Arc::new(record));
    }
    let why = EndReason::from_code(head.ended).ok_or(DecodeError::Damaged)?;
    Ok(Arc::new(record.ended(head.ended_at, why, head.removable_at)))
}

/// Marks that a stored session may have of which `record` is a later state: one for each key of the ring.
pub(super) fn marks(rows: &Rows, record: &Record) -> Vec<u8> {
    joined(rows.names(&unchanging(record)))
}

/// All names of a subject, one after the other.
pub(super) fn names(rows: &Rows, subject: Option<&str>) -> Vec<u8> {
    subject.map_or_else(Vec::new, |subject| joined(rows.names(subject)))
}

/// How long the server keeps what may be removed at `removable_at`, as seen from `from`, in milliseconds. It is told a span
/// and never a time, so it does not matter what its clock shows.
pub(super) fn kept(removable_at: Timestamp, from: Timestamp) -> String {
    let span = removable_at.since(from).saturating_add(SLACK).as_millis();
    u64::try_from(span).unwrap_or(SPAN_MAX).min(SPAN_MAX).to_string()
}

/// A time as scripts are given it.
pub(super) const fn bytes(time: Timestamp) -> [u8; 8] {
    time.as_millis().to_be_bytes()
}

/// What never changes under one id, in digits: names are made of folded texts, and digits fold to themselves. A commit sends
/// its hash instead of asking first what is stored.
fn unchanging(record: &Record) -> String {
    let mut text = format!("{} {:x} ", record.reference, record.id_since.as_millis());
    match &record.subject {
        None => text.push('-'),
        Some(subject) => text.extend(subject.bytes().flat_map(hex)),
    }
    text.push('.');
    text
}

fn joined(names: Vec<SubjectName>) -> Vec<u8> {
    names.into_iter().flat_map(|name| name.0).collect()
}

/// What is read of a head; the rest is for scripts alone.
struct Head {
    format: u8,
    ended: u8,
    ended_at: Timestamp,
    removable_at: Timestamp,
    version: u64,
    reference: Ref,
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[format, ended], rest) = bytes.split_first_chunk()?;
        let (ended_at, rest) = rest.split_first_chunk()?;
        let (removable_at, rest) = rest.split_first_chunk()?;
        let (_last_seen, rest) = rest.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (_mark, rest) = rest.split_first_chunk::<16>()?;
        let (reference, _) = rest.split_first_chunk()?;
        let time = |bytes: &[u8; 8]| Timestamp::from_millis(u64::from_be_bytes(*bytes));
        Some(Self {
            format,
            ended,
            ended_at: time(ended_at),
            removable_at: time(removable_at),
            version: u64::from_be_bytes(*version),
            reference: Ref(*reference),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{anonymous, session};
    use crate::store::row::tests::rows;

    #[test]
    fn a_record_reads_back() {
        let rows = rows(&[1]);
        let ended = session(3, "ann").ended(Timestamp::from_secs(7), EndReason::Idle, Timestamp::from_secs(9));
        for record in [session(1, "ann"), anonymous(2), ended] {
            let stored = write(&rows, &record).unwrap();
            assert_eq!(*read(&rows, &record.digest, stored).unwrap(), record);
        }
    }

    #[test]
    fn what_a_script_ended_is_a_tombstone() {
        let rows = rows(&[1]);
        let record = session(1, "ann");
        let (at, until) = (Timestamp::from_secs(1_800_000_005), Timestamp::from_secs(1_800_000_900));
        for why in EndReason::ALL {
            let mut stored = write(&rows, &record).unwrap();
            stored[1] = why.code();
            stored[2..10].copy_from_slice(&bytes(at));
            stored[10..18].copy_from_slice(&bytes(until));
            assert_eq!(*read(&rows, &record.digest, stored).unwrap(), record.ended(at, why, until));
        }
    }

    #[test]
    fn what_is_no_session_is_refused() {
        let rows = rows(&[1]);
        let record = session(1, "ann");
        let stored = write(&rows, &record).unwrap();
        for cut in 0..stored.len() {
            assert!(read(&rows, &record.digest, stored[..cut].to_vec()).is_err());
        }
        // Of the head: format, reason, version and reference; the rest is only looked at by scripts, or once it ended.
        for at in [0, 26, 33, 50, 65].into_iter().chain(HEAD_BYTES..stored.len()) {
            let mut changed = stored.clone();
            changed[at] ^= 0x40;
            assert!(read(&rows, &record.digest, changed).is_err(), "byte {at}");
        }
        let mut unknown = stored.clone();
        unknown[1] = 99;
        assert!(read(&rows, &record.digest, unknown).is_err());
        let mut newer = stored;
        newer[0] = 2;
        let error = read(&rows, &record.digest, newer).unwrap_err();
        assert!(matches!(error, StoreError::Decode(DecodeError::Version(2))), "{error}");
    }

    #[test]
    fn a_mark_changes_with_what_never_does() {
        let rows = rows(&[1]);
        let record = session(1, "ann");
        let later = Record { version: 9, last_seen: record.last_seen.after(SLACK), ..record.clone() };
        assert_eq!(marks(&rows, &record), marks(&rows, &later));
        let others = [
            Record { subject: Some("Ann".into()), ..record.clone() },
            Record { subject: None, ..record.clone() },
            Record { subject: Some("".into()), ..record.clone() },
            Record { reference: Ref([9; 16]), ..record.clone() },
            Record { id_since: Timestamp::EPOCH, ..record.clone() },
        ];
        for other in others {
            assert_ne!(marks(&rows, &record), marks(&rows, &other), "{other:?}");
        }
        let (old, new) = (marks(&rows, &record), marks(&self::rows(&[2, 1]), &record));
        assert!(new.len() == 32 && new.chunks(16).any(|mark| mark == old), "of every key of the ring");
    }

    #[test]
    fn the_server_keeps_a_session_longer_than_it_must() {
        let at = Timestamp::from_secs;
        assert_eq!(kept(at(100), at(40)), "3660000");
        assert_eq!(kept(at(40), at(100)), "3600000", "never less than the slack");
        assert_eq!(kept(Timestamp::from_millis(u64::MAX), at(0)), SPAN_MAX.to_string());
    }
}
