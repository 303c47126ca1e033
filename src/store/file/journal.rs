//! A batch as it is written ahead of the files it changes.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | [`BEGINNING`] |
//! | for each change: 1 | 0: the file is removed, 1: it is written |
//! | 32 | digest of the session |
//! | if written: 4 | length of the row, big-endian |
//! | .. | the row, sealed |
//! | 32 | SHA-256 of all before it |
//!
//! A journal whose hash is wrong was not finished, and nothing of it was begun.

use crate::secret::sha256;
use crate::session::id::SessionDigest;

/// How a journal begins.
const BEGINNING: &[u8; 8] = b"PCBATCH1";

/// What becomes of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Whose it is.
    pub(super) digest: SessionDigest,
    /// What is in it then; none if it is removed.
    pub(super) row: Option<Vec<u8>>,
}

/// The bytes of a journal.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = BEGINNING.to_vec();
    for entry in entries {
        bytes.push(entry.row.is_some().into());
        bytes.extend_from_slice(&entry.digest.0);
        if let Some(row) = &entry.row {
            // A row has some kilobytes. One that did not fit would make a journal that does not decode, not a wrong one.
            bytes.extend_from_slice(&u32::try_from(row.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(row);
        }
    }
    let hash = sha256(&bytes);
    bytes.extend_from_slice(&hash);
    bytes
}

/// The changes in a journal; none if it was not finished.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Entry>> {
    let (all, hash) = bytes.split_last_chunk::<32>()?;
    if sha256(all) != *hash {
        return None;
    }
    let mut rest = all.strip_prefix(BEGINNING)?;
    let mut entries = Vec::new();
    while let Some((kind, more)) = rest.split_first() {
        let (digest, more) = more.split_first_chunk::<32>()?;
        let digest = SessionDigest(*digest);
        let (row, more) = match kind {
            0 => (None, more),
            1 => {
                let (len, more) = more.split_first_chunk::<4>()?;
                let (row, more) = more.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
                (Some(row.to_vec()), more)
            }
            _ => return None,
        };
        entries.push(Entry { digest, row });
        rest = more;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_as_it_was_written_or_not_at_all() {
        let digest = |nth| SessionDigest([nth; 32]);
        let entries = vec![
            Entry { digest: digest(1), row: Some(vec![1, 2, 3]) },
            Entry { digest: digest(2), row: None },
            Entry { digest: digest(3), row: Some(Vec::new()) },
        ];
        let bytes = encode(&entries);
        assert_eq!(decode(&bytes), Some(entries));
        assert_eq!(decode(&encode(&[])), Some(Vec::new()));
        for at in 0..bytes.len() {
            assert_eq!(decode(&bytes[..at]), None);
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(decode(&changed), None);
        }
        assert_eq!(decode(&[bytes.as_slice(), &[0]].concat()), None);
    }
}
