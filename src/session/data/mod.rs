//! What an app keeps in its session: values by key, each a JSON text.
//!
//! JSON, since a value outlives the program that wrote it: a field that was added or taken away since is no reason to log
//! people out. The values are kept as text and read when they are asked for.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | form: 1 plain, 2 compressed (LZ4 block with its plain length in front, 4 bytes, little-endian) |
//! | .. | pairs of key and JSON text, in postcard's encoding, in the order of the keys |

mod edits;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use smallvec::SmallVec;
use zeroize::Zeroize as _;

use crate::secret::Secret;

pub use edits::{Edits, Failed, Lost, Step};

/// Bytes of the plain form from which on it is compressed: what is smaller gains nothing.
pub const COMPRESSED_FROM_BYTES: usize = 1024;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// Bytes of the plain form that a session may keep, unless it is told otherwise.
pub const DATA_BYTES_MAX_DEFAULT: usize = 64 * 1024;

/// Bytes of the plain form that no setting goes beyond: what is read from a store must have a limit too.
pub const DATA_BYTES_MAX_MAX: usize = 16 * 1024 * 1024;

const PLAIN: u8 = 1;
const COMPRESSED: u8 = 2;

/// The values of a session, as they were read: the stored form in one piece, and where each value stands in it. `Debug`
/// shows the keys alone.
#[derive(Clone, Default)]
pub struct Data {
    /// Pairs of key and text, in the stored form. All of them are UTF-8.
    plain: Secret<Vec<u8>>,
    /// Where they are, in the order of the keys.
    places: SmallVec<[Place; PLACES_INLINE]>,
    /// Bytes of all keys and texts, and two for the length of each.
    bytes: usize,
}

/// Where the two halves of a pair are.
#[derive(Clone)]
struct Place {
    key: Range<usize>,
    text: Range<usize>,
}

/// Values whose places are held without an allocation.
const PLACES_INLINE: usize = 2;

/// The stored form could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data of a session is damaged, or was written by a newer program")]
pub struct DataDecodeError;

impl Data {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The JSON text under a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.places.binary_search_by(|place| self.text(&place.key).cmp(key)).ok()?;
        self.places.get(at).map(|place| self.text(&place.text))
    }

    /// All keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.pairs().map(|(key, _)| key)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes that it takes in its plain form, about.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same, with these texts put under their keys or taken away.
    #[must_use]
    pub(super) fn with(&self, changes: &BTreeMap<&str, Option<Cow<'_, str>>>) -> Self {
        let kept = self.pairs().filter(|(key, _)| !changes.contains_key(key));
        let put = changes.iter().filter_map(|(key, text)| Some((*key, text.as_deref()?)));
        let mut pairs: Vec<(&str, &str)> = kept.chain(put).collect();
        // Two runs, each of them in order already.
        pairs.sort_by_key(|(key, _)| *key);
        // What was just written can be read.
        Self::find(in_postcard(&pairs, Vec::new()), 0).unwrap_or_default()
    }

    /// The stored form. Nothing for nothing.
    pub fn encode(&self) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        let pairs: Vec<(&str, &str)> = self.pairs().collect();
        let mut plain = in_postcard(&pairs, vec![PLAIN]);
        if plain.len() < COMPRESSED_FROM_BYTES {
            return plain;
        }
        let mut compressed = vec![COMPRESSED];
        compressed.extend(lz4_flex::compress_prepend_size(plain.get(1..).unwrap_or_default()));
        let other = if compressed.len() < plain.len() { &mut plain } else { &mut compressed };
        other.zeroize();
        if plain.is_empty() { compressed } else { plain }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When it is damaged, or much larger than [`DATA_BYTES_MAX_MAX`].
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DataDecodeError> {
        if bytes.first() == Some(&PLAIN) {
            return Self::find(bytes, 1);
        }
        // Compressed it is as clear.
        let bytes = Secret::new(bytes);
        match bytes.expose().split_first() {
            None => Ok(Self::new()),
            Some((&COMPRESSED, compressed)) => {
                let length =
                    compressed.first_chunk().map(|length| u32::from_le_bytes(*length)).ok_or(DataDecodeError)?;
                // Before room is made for it.
                if usize::try_from(length)
                    .ok()
                    .is_none_or(|length| length > DATA_BYTES_MAX_MAX + DATA_BYTES_MAX_MAX / 8)
                {
                    return Err(DataDecodeError);
                }
                let plain = lz4_flex::decompress_size_prepended(compressed).ok().ok_or(DataDecodeError)?;
                Self::find(plain, 0)
            }
            Some(_) => Err(DataDecodeError),
        }
    }

    /// Finds the pairs that stand in `plain` from `start` on. They are in the order of their keys, or somebody else wrote
    /// them.
    fn find(plain: Vec<u8>, start: usize) -> Result<Self, DataDecodeError> {
        let mut data = Self { plain: Secret::new(plain), ..Self::default() };
        let all = data.plain.expose().as_slice();
        let mut rest = all.get(start..).ok_or(DataDecodeError)?;
        let mut last: Option<&str> = None;
        for _ in 0..next::<usize>(&mut rest)? {
            let key: &str = next(&mut rest)?;
            let key_end = all.len() - rest.len();
            let text: &str = next(&mut rest)?;
            let text_end = all.len() - rest.len();
            if last.is_some_and(|last| last >= key) {
                return Err(DataDecodeError);
            }
            last = Some(key);
            data.bytes += cost(key, text);
            data.places.push(Place { key: key_end - key.len()..key_end, text: text_end - text.len()..text_end });
        }
        if rest.is_empty() { Ok(data) } else { Err(DataDecodeError) }
    }

    /// All pairs, in the order of the keys.
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.places.iter().map(|place| (self.text(&place.key), self.text(&place.text)))
    }

    /// What stands there. It was read once, so it is there and can be read.
    fn text(&self, place: &Range<usize>) -> &str {
        let bytes = self.plain.expose().get(place.clone());
        bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// Reads the next value in postcard's encoding.
fn next<'a, T: Deserialize<'a>>(rest: &mut &'a [u8]) -> Result<T, DataDecodeError> {
    let (value, left) = postcard::take_from_bytes(rest).ok().ok_or(DataDecodeError)?;
    *rest = left;
    Ok(value)
}

/// Appends pairs in postcard's encoding. Writing into a growing vector has no way to fail; an empty answer would read as
/// damage and not as nothing.
fn in_postcard(pairs: &[(&str, &str)], before: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(pairs, before).unwrap_or_default()
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.pairs().eq(other.pairs())
    }
}

impl Eq for Data {}

fn cost(key: &str, text: &str) -> usize {
    key.len() + text.len() + 4
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(pairs: &[(&str, &str)]) -> Data {
        Data::new().with(&pairs.iter().map(|(key, text)| (*key, Some((*text).into()))).collect())
    }

    proptest! {
        #[test]
        fn data_reads_back(pairs in proptest::collection::btree_map("\\PC{0,12}", "[ -~]{0,300}", 0..12)) {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, text)| (&**key, &**text)).collect();
            let data = data(&pairs);
            prop_assert_eq!(data.bytes(), pairs.iter().map(|(key, text)| cost(key, text)).sum::<usize>());
            prop_assert_eq!(Data::decode(data.encode()).unwrap(), data);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), form in 0u8..3) {
            let bytes = [&[form][..], &bytes].concat();
            drop(Data::decode(bytes));
        }
    }

    #[test]
    fn what_is_large_is_compressed_and_what_claims_to_be_huge_is_refused() {
        let text = "1234567890".repeat(500);
        let large = data(&[("numbers", &text)]);
        let stored = large.encode();
        assert!(stored.len() < 200, "{}", stored.len());
        assert_eq!(Data::decode(stored), Ok(large));
        assert_eq!(Data::decode(vec![COMPRESSED, 255, 255, 255, 255, 0, 0]), Err(DataDecodeError));
        let small = data(&[("a", "1")]);
        assert_eq!(small.encode().first(), Some(&PLAIN));
        assert!(Data::new().encode().is_empty());
    }

    #[test]
    fn a_form_of_another_program_is_damage() {
        assert_eq!(Data::decode(vec![9, 0]), Err(DataDecodeError));
        // The same key twice: never written, and which one would count?
        assert_eq!(Data::decode(vec![PLAIN, 2, 1, b'a', 1, b'1', 1, b'a', 1, b'2']), Err(DataDecodeError));
        assert_eq!(Data::decode(vec![PLAIN, 0, 0]), Err(DataDecodeError));
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(format!("{:?}", data(&[("card", "\"4111\"")])), "{\"card\"}");
    }
}
