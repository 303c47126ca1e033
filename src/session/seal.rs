//! The sealed form of what is inside a session: its jar, and what an app keeps in it.
//!
//! It is sealed under a key made of a server key *and* the session id, and the id is in no store: neither a stolen store
//! nor a stolen key file opens a session, only both with the client's cookie. (Of a store that keeps no sessions the key file alone
//! makes new ones: [`sealed`](crate::store::sealed).)
//!
//! | bytes | what |
//! |---|---|
//! | 1 | id of the master key |
//! | 12 | nonce |
//! | .. | jar or data, AES-256-GCM |
//! | 16 | tag |

use crate::entropy::{Entropy, EntropyError};
use crate::secret::{KeyId, Keyring, NONCE_BYTES, OpenError, Purpose, SEAL_OVERHEAD, aead_key, open, seal};

/// Octets that [`seal_in_session`] adds.
pub const SEALED_OVERHEAD: usize = 1 + SEAL_OVERHEAD;

/// Octets of the sealed form before those of the plain one.
pub const SEALED_PREFIX: usize = 1 + NONCE_BYTES;

/// Seals a jar or data for one session under the current key, each for a purpose of its own. `context` is bound to it:
/// another one does not open it.
///
/// # Errors
/// When there is no randomness.
pub fn seal_in_session(
    keyring: &Keyring,
    purpose: Purpose,
    entropy: &dyn Entropy,
    session_id: &[u8; 32],
    context: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, EntropyError> {
    let (id, key) = keyring.mac(purpose, &[session_id]);
    let mut sealed = Vec::with_capacity(plain.len() + SEALED_OVERHEAD);
    sealed.push(id.0);
    seal(&aead_key(&key), entropy, context, plain, &mut sealed)?;
    Ok(sealed)
}

/// Whether something should be sealed again because the key it is under is no longer the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reseal {
    /// It is under the current key.
    NotDue,
    /// It is under a previous key, which leaves the ring one day.
    Due,
}

/// Opens in place what [`seal_in_session`] made: the plain form, and whether to seal it again.
///
/// # Errors
/// When it was changed or cut, is another session's, or is under a key that the ring no longer has.
pub fn open_in_session<'a>(
    keyring: &Keyring,
    purpose: Purpose,
    session_id: &[u8; 32],
    context: &[u8],
    sealed: &'a mut [u8],
) -> Result<(&'a mut [u8], Reseal), OpenError> {
    let [id, sealed @ ..] = sealed else { return Err(OpenError) };
    let id = KeyId(*id);
    let key = keyring.mac_by(id, purpose, &[session_id]).ok_or(OpenError)?;
    let plain = open(&aead_key(&key), context, sealed)?;
    Ok((plain, under(keyring, id)))
}

/// Whether to seal it again, without opening it. What is empty has no seal.
pub fn reseal(keyring: &Keyring, sealed: &[u8]) -> Reseal {
    sealed.first().map_or(Reseal::NotDue, |id| under(keyring, KeyId(*id)))
}

fn under(keyring: &Keyring, id: KeyId) -> Reseal {
    let is_current = keyring.record_key().is_some_and(|(current, _)| current == id);
    if is_current { Reseal::NotDue } else { Reseal::Due }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::InsecureSeededEntropy;
    use crate::secret::MasterKey;

    const ID: [u8; 32] = [7; 32];

    fn ring(ids: &[u8]) -> Keyring {
        let keys: Vec<_> = ids.iter().map(|id| MasterKey::new(KeyId(*id), [*id; 32])).collect();
        let (current, previous) = keys.split_first().unwrap();
        Keyring::new(current, previous)
    }

    fn sealed() -> Vec<u8> {
        seal_in_session(&ring(&[1]), Purpose::Jar, &InsecureSeededEntropy::new(1), &ID, b"jar", b"cookies").unwrap()
    }

    #[track_caller]
    fn check(ring: &Keyring, id: [u8; 32], context: &[u8], mut sealed: Vec<u8>, expected: Result<Reseal, OpenError>) {
        let opened = open_in_session(ring, Purpose::Jar, &id, context, &mut sealed);
        assert_eq!(
            opened.map(|(plain, reseal)| (plain.to_vec(), reseal)),
            expected.map(|it| (b"cookies".to_vec(), it))
        );
    }

    #[test]
    fn a_jar_opens_for_its_session_alone() {
        assert_eq!(sealed().len(), 7 + SEALED_OVERHEAD);
        check(&ring(&[1]), ID, b"jar", sealed(), Ok(Reseal::NotDue));
        check(&ring(&[1]), [8; 32], b"jar", sealed(), Err(OpenError));
        check(&ring(&[1]), ID, b"other", sealed(), Err(OpenError));
        assert_eq!(open_in_session(&ring(&[1]), Purpose::Data, &ID, b"jar", &mut sealed()).err(), Some(OpenError));
        check(&Keyring::new(&MasterKey::new(KeyId(1), [2; 32]), &[]), ID, b"jar", sealed(), Err(OpenError));
    }

    #[test]
    fn a_previous_key_still_opens_and_asks_for_a_new_seal() {
        check(&ring(&[2, 1]), ID, b"jar", sealed(), Ok(Reseal::Due));
        assert_eq!(reseal(&ring(&[2, 1]), &sealed()), Reseal::Due);
        assert_eq!(reseal(&ring(&[1]), &sealed()), Reseal::NotDue);
        assert_eq!(reseal(&ring(&[2]), &[]), Reseal::NotDue);
        check(&ring(&[2]), ID, b"jar", sealed(), Err(OpenError));
    }

    #[test]
    fn a_changed_or_cut_jar_does_not_open() {
        for at in 0..sealed().len() {
            let mut changed = sealed();
            changed[at] ^= 1;
            check(&ring(&[1]), ID, b"jar", changed, Err(OpenError));
            check(&ring(&[1]), ID, b"jar", sealed()[..at].to_vec(), Err(OpenError));
        }
    }

    #[test]
    fn the_plain_jar_is_not_in_the_sealed_one() {
        assert!(!sealed().windows(7).any(|window| window == b"cookies"));
    }
}
