//! The state of a session as its client carries it, in cookies beside that of the id: for a store that keeps no sessions.
//!
//! The text is sealed under a key made of a server key and the session id, as a jar is, and bound to the digest: who has
//! one cookie without the other has nothing. It is split over cookies `-1` to `-3`, each below what browsers keep
//! (RFC 6265bis: 4096 octets of name and value). The first begins with the number of them and a dot.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | id of the master key |
//! | 12 | nonce |
//! | 1 | form: 1 |
//! | 8 | milliseconds since 1970 when it was sealed, little-endian |
//! | 8 | epoch of the subject, little-endian |
//! | 8 | epoch of all subjects, little-endian |
//! | 32 | keys that it was made under since the last login: a bit for each id, words of 8 bytes, little-endian |
//! | .. | [`Record::encode`] |
//! | 16 | tag of AES-256-GCM |
//!
//! What an app in Rust keeps in it is compressed before it is sealed ([`data`](super::data)). The jar is not: its length would tell
//! whoever can add to it what else is in it, as the lengths of TLS did (CRIME, 2012), and cookies are mostly random.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::cookie::CARRIED_COOKIES_MAX;
use super::id::SessionId;
use super::record::Record;
use super::seal::{SEALED_OVERHEAD, open_in_session, seal_in_session};
use crate::clock::Timestamp;
use crate::entropy::{Entropy, EntropyError};
use crate::secret::{KeyId, Keyring, Purpose};

/// How long a state is taken in after it was sealed. As long, and twice [`CLOCKS_APART_MAX`] longer (who seals and who forgets may
/// be wrong in opposite directions), it is remembered which sessions have ended, so that no state of them is taken in again.
pub const CARRIED_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How far apart the clocks of two guards may be.
pub const CLOCKS_APART_MAX: Duration = Duration::from_secs(5 * 60);

/// Octets of [`Record::encode`] that fit into the cookies.
pub const CARRIED_BYTES_MAX: usize = (CHARS_MAX - 2) / 4 * 3 - SEALED_OVERHEAD - HEAD_BYTES;

/// Octets that an app and its cookies may fill. The rest is for what the guard notes later (tags, contexts): a session whose
/// guard had no room would be locked out.
pub const CARRIED_BYTES_FILLED_MAX: usize = CARRIED_BYTES_MAX - 1024;

/// Characters of one cookie: with a name of 128 octets and a number it stays below 4096.
const PART_CHARS: usize = 3900;
const CHARS_MAX: usize = PART_CHARS * CARRIED_COOKIES_MAX as usize;

const FORM: u8 = 1;
const HEAD_BYTES: usize = 1 + 3 * 8 + 4 * 8;

/// In which epochs a session began: a later one ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    /// That of its subject; 0 without one.
    pub of_subject: u64,
    /// That of all subjects.
    pub of_all: u64,
}

/// A set of keys, by their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeySet([u64; 4]);

impl KeySet {
    /// The same with one more.
    #[must_use]
    pub fn with(mut self, KeyId(id): KeyId) -> Self {
        if let Some(word) = self.0.get_mut(usize::from(id / 64)) {
            *word |= 1 << (id % 64);
        }
        self
    }

    /// These and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let mut words = self.0;
        words.iter_mut().zip(other.0).for_each(|(mine, other)| *mine |= other);
        Self(words)
    }

    /// Whether some of them are among others.
    pub fn meets(self, others: Self) -> bool {
        self.0.iter().zip(others.0).any(|(mine, others)| mine & others != 0)
    }

    /// Whether a ring has all of them.
    pub fn is_within(self, ring: &Keyring) -> bool {
        let known = ring.ids().fold(Self::default(), Self::with);
        self.0.iter().zip(known.0).all(|(mine, known)| mine & !known == 0)
    }
}

/// Where a session comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// In which epochs it began.
    pub epochs: Epochs,
    /// All keys that a state of it was made under since the last login. Who has one of them may have made the session, so it
    /// ends when one leaves the ring, whatever it was sealed under since.
    pub keys: KeySet,
}

/// The state of a session, and what has to be known to tell whether it is still in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// Where it comes from.
    pub origin: Origin,
    /// The record.
    pub record: Record,
}

/// Why a state was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Something is missing, was changed, is another session's, or is under a key that the ring no longer has.
    #[error("the state of a session is damaged or another's")]
    Damaged,
    /// It was sealed too long ago.
    #[error("the state of a session is too old")]
    Aged,
    /// It was sealed by a clock that is too far ahead.
    #[error("the state of a session is from the future")]
    Early,
}

impl Carried {
    /// The values of the cookies, in order.
    ///
    /// # Errors
    /// When there is no randomness. A record of more than [`CARRIED_BYTES_MAX`] octets must not come here: it gives no
    /// cookies.
    pub fn seal(&self, keys: &Keyring, entropy: &dyn Entropy, id: &SessionId) -> Result<Vec<String>, EntropyError> {
        let Self { sealed_at, origin: Origin { epochs, keys: KeySet(made_under) }, record } = self;
        let numbers = [sealed_at.as_millis(), epochs.of_subject, epochs.of_all].map(u64::to_le_bytes);
        let made_under = made_under.map(u64::to_le_bytes);
        let plain = [&[FORM], numbers.as_flattened(), made_under.as_flattened(), &record.encode()].concat();
        let sealed = seal_in_session(keys, Purpose::Carried, entropy, id.expose(), &record.digest.0, &plain)?;
        let text = URL_SAFE_NO_PAD.encode(sealed);
        if text.len() + 2 > CHARS_MAX {
            return Ok(Vec::new());
        }
        let count = (text.len() + 2).div_ceil(PART_CHARS);
        let text = format!("{count}.{text}");
        let mut rest = text.as_str();
        let mut parts = Vec::with_capacity(count);
        while !rest.is_empty() {
            let (part, after) = rest.split_at_checked(PART_CHARS).unwrap_or((rest, ""));
            parts.push(part.to_owned());
            rest = after;
        }
        Ok(parts)
    }

    /// Reads what [`seal`](Self::seal) wrote, from the values of the cookies in order; more of them than there should be are
    /// left alone. Gives also the key that it was under.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open<'a>(
        keys: &Keyring,
        id: &SessionId,
        values: impl IntoIterator<Item = &'a [u8]>,
        now: Timestamp,
    ) -> Result<(Self, KeyId), OpenError> {
        let (carried, key) = Self::decode(keys, id, values).ok_or(OpenError::Damaged)?;
        let Self { sealed_at, .. } = carried;
        if now.since(sealed_at) >= CARRIED_AGE_MAX {
            return Err(OpenError::Aged);
        }
        if sealed_at.since(now) > CLOCKS_APART_MAX {
            return Err(OpenError::Early);
        }
        Ok((carried, key))
    }

    fn decode<'a>(keys: &Keyring, id: &SessionId, values: impl IntoIterator<Item = &'a [u8]>) -> Option<(Self, KeyId)> {
        let mut values = values.into_iter();
        let (count, first) = values.next()?.split_first()?;
        let count = usize::from(count.checked_sub(b'0')?);
        let mut text = first.strip_prefix(b".")?.to_vec();
        for _ in 1..count {
            text.extend_from_slice(values.next()?);
        }
        if text.len() > CHARS_MAX {
            return None;
        }
        let digest = id.digest();
        let mut sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let key = KeyId(*sealed.first()?);
        let (plain, _) = open_in_session(keys, Purpose::Carried, id.expose(), &digest.0, &mut sealed).ok()?;
        let (form, rest) = plain.split_first()?;
        let (sealed_at, rest) = rest.split_first_chunk()?;
        let (of_subject, rest) = rest.split_first_chunk()?;
        let (of_all, rest) = rest.split_first_chunk()?;
        let (made_under, record) = rest.split_first_chunk::<32>()?;
        let sealed_at = Timestamp::from_millis(u64::from_le_bytes(*sealed_at));
        let epochs = Epochs { of_subject: u64::from_le_bytes(*of_subject), of_all: u64::from_le_bytes(*of_all) };
        let mut words = made_under.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(*word.first_chunk()?)));
        let made_under = KeySet([0; 4].map(|_: u64| words.next().unwrap_or_default()));
        let record = Record::decode(record).ok().filter(|record| *form == FORM && record.digest == digest)?;
        Some((Self { sealed_at, origin: Origin { epochs, keys: made_under.with(key) }, record }, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::InsecureSeededEntropy;
    use crate::secret::MasterKey;
    use crate::store::conformance::anonymous;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn session(nth: u64, subject: &str) -> Record {
        Record { subject: Some(subject.into()), authenticated_at: Some(NOW), ..anonymous(nth) }
    }

    fn ring(ids: &[u8]) -> Keyring {
        let keys: Vec<_> = ids.iter().map(|id| MasterKey::new(KeyId(*id), [*id; 32])).collect();
        let (current, previous) = keys.split_first().unwrap();
        Keyring::new(current, previous)
    }

    fn id(nth: u8) -> SessionId {
        SessionId::from_bytes([nth; 32])
    }

    /// The state of the session of an id whose record is so large.
    fn state(nth: u8, bytes: usize) -> Carried {
        let mut record = Record { digest: id(nth).digest(), ..session(1, "ann") };
        let empty = record.encode().len();
        // A length of more than 127 takes two octets.
        record.data = vec![7; bytes.saturating_sub(empty + 1)].into();
        let origin = Origin { epochs: Epochs { of_subject: 3, of_all: 4 }, keys: KeySet::default().with(KeyId(1)) };
        Carried { sealed_at: NOW, origin, record }
    }

    fn sealed(state: &Carried, nth: u8) -> Vec<String> {
        state.seal(&ring(&[1]), &InsecureSeededEntropy::new(2), &id(nth)).unwrap()
    }

    fn opened<'a>(
        keys: &[u8],
        nth: u8,
        values: impl IntoIterator<Item = &'a String>,
        now: Timestamp,
    ) -> Result<Carried, OpenError> {
        Carried::open(&ring(keys), &id(nth), values.into_iter().map(|value| value.as_bytes()), now)
            .map(|(carried, _)| carried)
    }

    #[test]
    fn a_state_reads_back_from_as_many_cookies_as_it_needs() {
        for (bytes, cookies) in [(300, 1), (2_800, 1), (2_900, 2), (5_000, 2), (7_000, 3), (CARRIED_BYTES_MAX, 3)] {
            let state = state(1, bytes);
            let values = sealed(&state, 1);
            assert_eq!(values.len(), cookies, "{bytes} bytes");
            assert!(values.iter().all(|value| value.len() <= PART_CHARS));
            assert_eq!(opened(&[1], 1, &values, NOW), Ok(state.clone()));
            assert_eq!(opened(&[2, 1], 1, &values, NOW), Ok(state), "a previous key opens it");
        }
        let (most, more) = (state(1, CARRIED_BYTES_MAX), state(1, CARRIED_BYTES_MAX + 4));
        assert!(most.record.encode().len() <= CARRIED_BYTES_MAX && more.record.encode().len() > CARRIED_BYTES_MAX);
        assert_eq!(sealed(&more, 1), Vec::<String>::new(), "it does not fit");
    }

    #[test]
    fn what_is_left_of_a_longer_state_does_no_harm() {
        let (long, short) = (sealed(&state(1, 5_000), 1), sealed(&state(1, 300), 1));
        let mixed = [short.first().unwrap(), long.last().unwrap()];
        assert_eq!(opened(&[1], 1, mixed, NOW), Ok(state(1, 300)));
        assert_eq!(opened(&[1], 1, &long[..1], NOW), Err(OpenError::Damaged), "half of it");
        // Nor do parts of two states of one session make one.
        let entropy = InsecureSeededEntropy::new(9);
        let other = state(1, 5_000).seal(&ring(&[1]), &entropy, &id(1)).unwrap();
        assert_eq!(opened(&[1], 1, [&long[0], &other[1]], NOW), Err(OpenError::Damaged));
        assert_eq!(opened(&[1], 1, &other, NOW), Ok(state(1, 5_000)));
    }

    #[test]
    fn it_opens_for_its_session_alone_and_only_as_it_was() {
        let values = sealed(&state(1, 300), 1);
        assert_eq!(opened(&[1], 2, &values, NOW), Err(OpenError::Damaged), "another session");
        assert_eq!(opened(&[2], 1, &values, NOW), Err(OpenError::Damaged), "the key was burnt");
        let text = &values[0];
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                Carried::open(&ring(&[1]), &id(1), [&*changed], NOW).err(),
                Some(OpenError::Damaged),
                "character {at}"
            );
            assert_eq!(
                Carried::open(&ring(&[1]), &id(1), [&text.as_bytes()[..at]], NOW).err(),
                Some(OpenError::Damaged)
            );
        }
        for odd in ["", "1", "1.", "0.", "9.AAAA", "x.AAAA", "1.===="] {
            assert_eq!(
                Carried::open(&ring(&[1]), &id(1), [odd.as_bytes()], NOW).err(),
                Some(OpenError::Damaged),
                "{odd}"
            );
        }
        let other = Carried { record: session(1, "ann"), ..state(1, 300) };
        assert_eq!(opened(&[1], 1, &sealed(&other, 1), NOW), Err(OpenError::Damaged), "a record of another digest");
    }

    #[test]
    fn it_is_taken_in_for_a_day() {
        let values = sealed(&state(1, 300), 1);
        let at = |time| opened(&[1], 1, &values, time).err();
        let moment = Duration::from_millis(1);
        assert_eq!(at(NOW.after(CARRIED_AGE_MAX - moment)), None);
        assert_eq!(at(NOW.after(CARRIED_AGE_MAX)), Some(OpenError::Aged));
        assert_eq!(at(NOW.before(CLOCKS_APART_MAX)), None, "the clock of who sealed it is ahead");
        assert_eq!(at(NOW.before(CLOCKS_APART_MAX + moment)), Some(OpenError::Early));
    }

    /// Whoever has one of the keys may write what he likes, but not that he did not have it.
    #[test]
    fn a_state_tells_every_key_that_it_was_made_under() {
        let with = |ids: &[u8]| ids.iter().map(|id| KeyId(*id)).fold(KeySet::default(), KeySet::with);
        let mut state = state(1, 300);
        state.origin.keys = with(&[]);
        let opened = opened(&[2, 1], 1, &sealed(&state, 1), NOW).unwrap();
        assert_eq!(opened.origin.keys, with(&[1]));
        let again = opened.seal(&ring(&[2, 1]), &InsecureSeededEntropy::new(2), &id(1)).unwrap();
        let again = self::opened(&[3, 2, 1], 1, &again, NOW).unwrap();
        assert_eq!(again.origin.keys, with(&[1, 2]));
        for (keys, is_within) in [(&[3, 2, 1][..], true), (&[1, 2], true), (&[2], false), (&[3], false)] {
            assert_eq!(again.origin.keys.is_within(&ring(keys)), is_within, "{keys:?}");
        }
        let every = (0..=255).map(KeyId).fold(KeySet::default(), KeySet::with);
        assert_eq!(every, KeySet([u64::MAX; 4]));
    }

    #[test]
    fn nothing_of_it_can_be_read() {
        let state = Carried {
            record: Record { digest: id(1).digest(), ..session(1, "ann of the green gables") },
            ..state(1, 300)
        };
        let text = sealed(&state, 1).concat();
        let bytes = URL_SAFE_NO_PAD.decode(&text.as_bytes()[2..]).unwrap();
        assert!(!bytes.windows(5).any(|window| window == b"green"));
    }
}
