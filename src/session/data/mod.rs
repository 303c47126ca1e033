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

use std::collections::BTreeMap;
use std::fmt;

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

/// The values of a session. `Debug` shows the keys alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data {
    values: BTreeMap<Box<str>, Box<str>>,
    /// Bytes of all keys and texts, and two for the length of each.
    bytes: usize,
}

/// The stored form could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data of a session is damaged, or was written by a newer program")]
pub struct DataDecodeError;

impl Data {
    /// Nothing.
    pub const fn new() -> Self {
        Self { values: BTreeMap::new(), bytes: 0 }
    }

    /// The JSON text under a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|text| &**text)
    }

    /// All keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(|key| &**key)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Bytes that it takes in its plain form, about.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a text under a key, or takes it away.
    pub(super) fn put(&mut self, key: &str, text: Option<&str>) {
        let old = match text {
            Some(text) => {
                self.bytes += cost(key, text);
                self.values.insert(key.into(), text.into())
            }
            None => self.values.remove(key),
        };
        self.bytes -= old.map_or(0, |old| cost(key, &old));
    }

    /// The stored form. Nothing for nothing.
    pub fn encode(&self) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        let pairs: Vec<(&str, &str)> = self.values.iter().map(|(key, text)| (&**key, &**text)).collect();
        // Writing into a growing vector has no way to fail; an empty answer would read as nothing and not as damage, so it
        // is told by the form that stands before it.
        let plain = postcard::to_extend(&pairs, vec![PLAIN]).unwrap_or_default();
        if plain.len() < COMPRESSED_FROM_BYTES {
            return plain;
        }
        let mut compressed = vec![COMPRESSED];
        compressed.extend(lz4_flex::compress_prepend_size(plain.get(1..).unwrap_or_default()));
        if compressed.len() < plain.len() { compressed } else { plain }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When it is damaged, or much larger than [`DATA_BYTES_MAX_MAX`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DataDecodeError> {
        match bytes.split_first() {
            None => Ok(Self::new()),
            Some((&PLAIN, plain)) => Self::decode_plain(plain),
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
                Self::decode_plain(&plain)
            }
            Some(_) => Err(DataDecodeError),
        }
    }

    fn decode_plain(plain: &[u8]) -> Result<Self, DataDecodeError> {
        let (pairs, rest) = postcard::take_from_bytes::<Vec<(&str, &str)>>(plain).ok().ok_or(DataDecodeError)?;
        let mut data = Self::new();
        for (key, text) in &pairs {
            data.put(key, Some(text));
        }
        if rest.is_empty() && data.len() == pairs.len() { Ok(data) } else { Err(DataDecodeError) }
    }
}

fn cost(key: &str, text: &str) -> usize {
    key.len() + text.len() + 4
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(pairs: &[(&str, &str)]) -> Data {
        let mut data = Data::new();
        pairs.iter().for_each(|(key, text)| data.put(key, Some(text)));
        data
    }

    proptest! {
        #[test]
        fn data_reads_back(pairs in proptest::collection::btree_map("\\PC{0,12}", "[ -~]{0,300}", 0..12)) {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, text)| (&**key, &**text)).collect();
            let data = data(&pairs);
            prop_assert_eq!(data.bytes(), pairs.iter().map(|(key, text)| cost(key, text)).sum::<usize>());
            prop_assert_eq!(Data::decode(&data.encode()).unwrap(), data);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), form in 0u8..3) {
            let bytes = [&[form][..], &bytes].concat();
            drop(Data::decode(&bytes));
        }
    }

    #[test]
    fn what_is_large_is_compressed_and_what_claims_to_be_huge_is_refused() {
        let text = "1234567890".repeat(500);
        let large = data(&[("numbers", &text)]);
        let stored = large.encode();
        assert!(stored.len() < 200, "{}", stored.len());
        assert_eq!(Data::decode(&stored), Ok(large));
        assert_eq!(Data::decode(&[COMPRESSED, 255, 255, 255, 255, 0, 0]), Err(DataDecodeError));
        let small = data(&[("a", "1")]);
        assert_eq!(small.encode().first(), Some(&PLAIN));
        assert!(Data::new().encode().is_empty());
    }

    #[test]
    fn a_form_of_another_program_is_damage() {
        assert_eq!(Data::decode(&[9, 0]), Err(DataDecodeError));
        // The same key twice: never written, and which one would count?
        assert_eq!(Data::decode(&[PLAIN, 2, 1, b'a', 1, b'1', 1, b'a', 1, b'2']), Err(DataDecodeError));
        assert_eq!(Data::decode(&[PLAIN, 0, 0]), Err(DataDecodeError));
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(format!("{:?}", data(&[("card", "\"4111\"")])), "{\"card\"}");
    }
}
