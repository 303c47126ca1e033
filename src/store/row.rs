//! What a store outside of this process is given of a record: nothing that it could read.
//!
//! A row is a sealed record, a few numbers that the store has to compare (its version, its times), and under which names
//! it is found: the digest of the session id, the public reference, and a keyed hash of the subject.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | id of the master key |
//! | 12 | nonce |
//! | .. | [`Record::encode`], AES-256-GCM, bound to the digest |
//! | 16 | tag |
//!
//! A row is written under the current key and read under any key of the ring, so a key can be replaced without logging
//! anybody out. A key that is taken out of the ring closes what was written under it for good.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::StoreError;
use crate::entropy::Entropy;
use crate::secret::{KeyId, Keyring, Purpose, open, seal};
use crate::session::id::SessionDigest;
use crate::session::record::{DecodeError, Record};
use crate::session::subject::folded;

/// Under which name a subject stands in an index: a keyed hash of its folded spelling, first 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectName(pub [u8; 16]);

/// Seals and opens the rows of one store.
#[derive(Debug)]
pub struct Rows {
    keys: ArcSwap<Keyring>,
    entropy: Arc<dyn Entropy>,
}

impl Rows {
    /// Rows under these keys.
    pub fn new(keys: Keyring, entropy: Arc<dyn Entropy>) -> Self {
        Self { keys: ArcSwap::from_pointee(keys), entropy }
    }

    /// Puts another ring in force.
    pub fn replace_keys(&self, keys: impl Into<Arc<Keyring>>) {
        self.keys.store(keys.into());
    }

    /// The sealed form of a record.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn seal(&self, record: &Record) -> Result<Vec<u8>, StoreError> {
        self.seal_encoded(&record.digest, &record.encode())
    }

    /// The same of what [`Record::encode`] gave.
    pub(in crate::store) fn seal_encoded(&self, digest: &SessionDigest, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let keys = self.keys.load();
        let (id, key) = keys.record_key().ok_or_else(|| StoreError::io("the key ring is empty"))?;
        let mut row = Vec::with_capacity(1 + plain.len() + crate::secret::SEAL_OVERHEAD);
        row.push(id.0);
        seal(key, &self.entropy, &digest.0, plain, &mut row).map_err(StoreError::io)?;
        Ok(row)
    }

    /// The record in a row that is kept under `digest`.
    ///
    /// # Errors
    /// [`DecodeError::Damaged`] when the row was changed, is another session's, or is under a key that the ring no longer
    /// has.
    pub fn open(&self, digest: &SessionDigest, row: Vec<u8>) -> Result<Record, StoreError> {
        Ok(self.decode(digest, row)?)
    }

    /// The same where nothing else can go wrong.
    pub(in crate::store) fn decode(&self, digest: &SessionDigest, mut row: Vec<u8>) -> Result<Record, DecodeError> {
        let [id, sealed @ ..] = row.as_mut_slice() else { return Err(DecodeError::Damaged) };
        let keys = self.keys.load();
        let key = keys.record_key_by(KeyId(*id)).ok_or(DecodeError::Damaged)?;
        let plain = open(key, &digest.0, sealed).ok().ok_or(DecodeError::Damaged)?;
        let record = Record::decode(plain)?;
        if record.digest == *digest { Ok(record) } else { Err(DecodeError::Damaged) }
    }

    /// Under which name the index gets a subject now.
    pub fn name(&self, subject: &str) -> SubjectName {
        short(self.keys.load().mac(Purpose::Subject, &[folded(subject).as_bytes()]).1)
    }

    /// Under which names the index may have a subject, those of previous keys included; sorted.
    pub fn names(&self, subject: &str) -> Vec<SubjectName> {
        let folded = folded(subject);
        let mut names: Vec<_> = self.keys.load().macs(Purpose::Subject, &[folded.as_bytes()]).map(short).collect();
        names.sort_unstable();
        names
    }
}

fn short(mac: [u8; 32]) -> SubjectName {
    let mut name = [0; 16];
    name.copy_from_slice(mac.split_at(16).0);
    SubjectName(name)
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use super::*;
    use crate::entropy::InsecureSeededEntropy;
    use crate::secret::MasterKey;
    use crate::store::conformance::{anonymous, session};

    /// Rows under keys of these ids, the first of them the current one.
    pub(in crate::store) fn rows(ids: &[u8]) -> Rows {
        Rows::new(ring(ids), Arc::new(InsecureSeededEntropy::new(3)))
    }

    pub(in crate::store) fn ring(ids: &[u8]) -> Keyring {
        let keys: Vec<_> = ids.iter().map(|id| MasterKey::new(KeyId(*id), [*id; 32])).collect();
        let (current, previous) = keys.split_first().unwrap();
        Keyring::new(current, previous)
    }

    #[test]
    fn a_row_opens_for_its_session_under_a_key_of_the_ring() {
        let record = session(1, "ann");
        let row = rows(&[1]).seal(&record).unwrap();
        assert_eq!(rows(&[2, 1]).open(&record.digest, row.clone()).unwrap(), record);
        assert!(rows(&[2]).open(&record.digest, row.clone()).is_err(), "the key was burnt");
        assert!(rows(&[1]).open(&anonymous(2).digest, row.clone()).is_err(), "it stands under another digest");
        for at in 0..row.len() {
            let mut changed = row.clone();
            changed[at] ^= 1;
            assert!(rows(&[1]).open(&record.digest, changed).is_err());
            assert!(rows(&[1]).open(&record.digest, row[..at].to_vec()).is_err());
        }
    }

    #[test]
    fn a_stolen_row_names_nobody() {
        let record = session(1, "ann of the green gables");
        let row = rows(&[1]).seal(&record).unwrap();
        assert!(!row.windows(5).any(|window| window == b"green"));
    }

    #[test]
    fn a_subject_is_found_under_the_name_of_every_key() {
        let (old, new) = (rows(&[1]), rows(&[2, 1]));
        assert_eq!(new.names(" ANN "), new.names("ann"));
        assert!(new.names("ann").contains(&old.name("ann")) && new.names("ann").contains(&new.name("ann")));
        assert_ne!(old.name("ann"), old.name("bob"));
        assert_eq!(old.names("ann"), [old.name("ann")]);
    }
}
