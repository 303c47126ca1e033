//! Secrets: values that never print themselves, the key ring, and the few cryptographic operations on them.
//!
//! Every key is derived from a master key of the ring for one purpose, so that the key that signs tags can not open a
//! jar and the hash in a log is not the key of a store (HKDF-SHA256, RFC 5869).

use std::fmt;

use aws_lc_rs::{aead, digest, hkdf, hmac};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::entropy::{Entropy, EntropyError};

/// A value that must not be shown: no `Debug`, `Display` or `Serialize` of what it holds, wiped when dropped.
#[derive(Clone, Default)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Hides `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself: every call is a place to look at in a review.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

/// In a time that depends on their lengths alone.
impl PartialEq for Secret<String> {
    fn eq(&self, other: &Self) -> bool {
        same(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for Secret<String> {}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Whether two byte strings are equal, in a time that depends on their lengths alone.
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// SHA-256 (FIPS 180-4).
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha256_of(&[bytes])
}

/// SHA-256 of all parts, one after the other.
pub fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// HMAC-SHA256 (RFC 2104) of all parts, one after the other, under a key of no ring.
pub fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    mac_with(&hmac::Key::new(hmac::HMAC_SHA256, key), parts)
}

/// Names a master key of a ring; it stands in front of everything the key sealed or hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u8);

/// A master key: 32 random bytes and the id it goes by.
#[derive(Clone)]
pub struct MasterKey {
    id: KeyId,
    bytes: Secret<[u8; 32]>,
}

impl MasterKey {
    /// A key from its stored form.
    pub const fn new(id: KeyId, bytes: [u8; 32]) -> Self {
        Self { id, bytes: Secret::new(bytes) }
    }

    /// A new random key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(id: KeyId, entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        Ok(Self::new(id, crate::entropy::random(entropy)?))
    }

    /// The id it goes by.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key itself, for the file that keeps it.
    pub const fn expose(&self) -> &[u8; 32] {
        self.bytes.expose()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id.0)
    }
}

/// A key of SipHash: names what limits count so that who reads the names learns nothing of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 16]);

impl Seed {
    fn of(bytes: &[u8; 32]) -> Self {
        let (half, _) = bytes.split_at(16);
        Self(half.try_into().unwrap_or_default())
    }

    /// A seed of these octets.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The octets themselves, for the hash.
    pub const fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

/// The keys derived from one master key, one for each purpose.
struct Derived {
    id: KeyId,
    tag: hmac::Key,
    jar: hmac::Key,
    reference: hmac::Key,
    bind: hmac::Key,
    data: hmac::Key,
    carried: hmac::Key,
    subject: hmac::Key,
    limit: Seed,
    record: aead::LessSafeKey,
}

impl Derived {
    fn new(master: &MasterKey) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"portcullis/1");
        let secret = salt.extract(master.bytes.expose());
        let key = |purpose: &[u8]| {
            let mut bytes = [0; 32];
            let info = [purpose];
            // 32 bytes is within HKDF's limit of 255 blocks, so neither step can fail; the key stays zero if it did,
            // and the test below would see it.
            if let Ok(okm) = secret.expand(&info, hkdf::HKDF_SHA256) {
                let filled = okm.fill(&mut bytes);
                debug_assert!(filled.is_ok());
            }
            bytes
        };
        let mac = |purpose: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, &key(purpose));
        Self {
            id: master.id,
            tag: mac(b"tag"),
            jar: mac(b"jar"),
            reference: mac(b"event"),
            bind: mac(b"bind"),
            data: mac(b"data"),
            carried: mac(b"carried"),
            subject: mac(b"subject"),
            limit: Seed::of(&key(b"limit")),
            record: aead_key(&key(b"record")),
        }
    }
}

/// What a keyed hash is for: hashes of two purposes never agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The MAC inside a tag.
    Tag,
    /// The key that seals the jar of one session.
    Jar,
    /// The name of a session, a subject or an address in events.
    Event,
    /// The digest of an app's cookie that is bound to a session.
    Bind,
    /// The key that seals what an app keeps in one session.
    Data,
    /// The key that seals the state of one session, carried by its client.
    Carried,
    /// The name of a subject in an index of a store.
    Subject,
}

/// The current master key and those before it: new things are made with the first, old ones still understood.
pub struct Keyring {
    keys: Vec<Derived>,
}

impl Keyring {
    /// A ring whose first key is the current one. `previous` may be empty.
    pub fn new(current: &MasterKey, previous: &[MasterKey]) -> Self {
        Self { keys: std::iter::once(current).chain(previous).map(Derived::new).collect() }
    }

    /// A ring of one new random key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        Ok(Self::new(&MasterKey::generate(KeyId(1), entropy)?, &[]))
    }

    fn find(&self, purpose: Purpose, id: Option<KeyId>) -> impl Iterator<Item = (KeyId, &hmac::Key)> {
        self.keys.iter().filter(move |key| id.is_none_or(|id| key.id == id)).map(move |key| {
            let chosen = match purpose {
                Purpose::Tag => &key.tag,
                Purpose::Jar => &key.jar,
                Purpose::Event => &key.reference,
                Purpose::Bind => &key.bind,
                Purpose::Data => &key.data,
                Purpose::Carried => &key.carried,
                Purpose::Subject => &key.subject,
            };
            (key.id, chosen)
        })
    }

    /// The keyed hash (HMAC-SHA256) of the parts under the current key, and that key's id. The parts are taken as one
    /// string: give them fixed lengths or a separator.
    pub fn mac(&self, purpose: Purpose, parts: &[&[u8]]) -> (KeyId, [u8; 32]) {
        match self.find(purpose, None).next() {
            Some((id, key)) => (id, mac_with(key, parts)),
            // A ring is never empty: `new` takes the current key by value.
            None => (KeyId(0), [0; 32]),
        }
    }

    /// The ids of all keys, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|key| key.id)
    }

    /// Whether the ring has a key of that id.
    pub fn has(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// Whether it has all keys of another ring.
    pub fn has_all_of(&self, other: &Self) -> bool {
        other.seeds().all(|seed| self.seeds().any(|own| own == seed))
    }

    /// The keyed hashes of the parts under every key of the ring, the current one first: how something is called in an
    /// index that was written under any of them.
    pub fn macs(&self, purpose: Purpose, parts: &[&[u8]]) -> impl Iterator<Item = [u8; 32]> {
        self.find(purpose, None).map(move |(_, key)| mac_with(key, parts))
    }

    /// The keyed hash under the key of that id, if the ring still has it.
    pub fn mac_by(&self, id: KeyId, purpose: Purpose, parts: &[&[u8]]) -> Option<[u8; 32]> {
        self.find(purpose, Some(id)).next().map(|(_, key)| mac_with(key, parts))
    }

    /// Whether `mac` is the beginning of the keyed hash of the parts under any key of the ring. Constant time for
    /// each key.
    pub fn verify(&self, purpose: Purpose, parts: &[&[u8]], mac: &[u8]) -> bool {
        self.verified_by(purpose, parts, mac).is_some()
    }

    /// The same, and under which key: by what that names in limits, since an id may be given to another key.
    pub fn verified_by(&self, purpose: Purpose, parts: &[&[u8]], mac: &[u8]) -> Option<Seed> {
        let fits = |key: &hmac::Key| {
            let full = mac_with(key, parts);
            !mac.is_empty() && full.get(..mac.len()).is_some_and(|head| same(head, mac))
        };
        self.find(purpose, None).zip(self.seeds()).find(|((_, key), _)| fits(key)).map(|(_, seed)| seed)
    }

    /// Names what limits count on all nodes that share this ring, the current key first: what was named under a key before
    /// is found under it.
    pub fn seeds(&self) -> impl Iterator<Item = Seed> {
        self.keys.iter().map(|key| key.limit)
    }

    /// The key that new records are sealed with.
    pub fn record_key(&self) -> Option<(KeyId, &aead::LessSafeKey)> {
        self.keys.first().map(|key| (key.id, &key.record))
    }

    /// The key of that id for opening a record.
    pub fn record_key_by(&self, id: KeyId) -> Option<&aead::LessSafeKey> {
        self.keys.iter().find(|key| key.id == id).map(|key| &key.record)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| key.id.0)).finish()
    }
}

fn mac_with(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// A key for AES-256-GCM.
pub fn aead_key(bytes: &[u8; 32]) -> aead::LessSafeKey {
    match aead::UnboundKey::new(&aead::AES_256_GCM, bytes) {
        Ok(key) => aead::LessSafeKey::new(key),
        #[expect(clippy::unreachable, reason = "the only error is a wrong length, and the type fixes it")]
        Err(_) => unreachable!(),
    }
}

/// The sealed form could not be opened: another key, or not what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed data could not be opened: it was changed, or sealed under another key")]
pub struct OpenError;

/// Bytes that `seal` adds: a nonce in front and an authentication tag behind.
pub const SEAL_OVERHEAD: usize = NONCE_BYTES + 16;

/// Octets of the nonce that a sealed text begins with.
pub const NONCE_BYTES: usize = aead::NONCE_LEN;

/// Seals `plain` with AES-256-GCM under a random nonce: `nonce (12) || ciphertext || tag (16)`, appended to `out`.
///
/// # Errors
/// When there is no randomness; `out` is then as it was.
pub fn seal(
    key: &aead::LessSafeKey,
    entropy: &dyn Entropy,
    context: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), EntropyError> {
    let nonce: [u8; aead::NONCE_LEN] = crate::entropy::random(entropy)?;
    out.reserve(plain.len() + SEAL_OVERHEAD);
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(plain);
    let Some(body) = out.get_mut(start..) else { return Err(EntropyError) };
    let tag =
        key.seal_in_place_separate_tag(aead::Nonce::assume_unique_for_key(nonce), aead::Aad::from(context), body).ok();
    match tag {
        Some(tag) => out.extend_from_slice(tag.as_ref()),
        None => {
            out.truncate(start - aead::NONCE_LEN);
            return Err(EntropyError);
        }
    }
    Ok(())
}

/// Opens in place what [`seal`] made; the plain text is the slice that is returned.
///
/// # Errors
/// When it was changed, cut, sealed under another key or for another context.
pub fn open<'a>(key: &aead::LessSafeKey, context: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
    let (nonce, body) = sealed.split_at_mut_checked(aead::NONCE_LEN).ok_or(OpenError)?;
    let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok().ok_or(OpenError)?;
    key.open_in_place(nonce, aead::Aad::from(context), body).ok().ok_or(OpenError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::InsecureSeededEntropy;

    fn ring(ids: &[u8]) -> Keyring {
        let keys: Vec<_> = ids.iter().map(|id| MasterKey::new(KeyId(*id), [*id; 32])).collect();
        let (current, previous) = keys.split_first().unwrap();
        Keyring::new(current, previous)
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        assert_eq!(format!("{:?}", Secret::new([7u8; 4])), "Secret(..)");
        assert_eq!(format!("{:?}", MasterKey::new(KeyId(3), [9; 32])), "MasterKey(3)");
        assert_eq!(format!("{:?}", ring(&[2, 1])), "[2, 1]");
    }

    #[test]
    fn purposes_and_keys_never_agree() {
        let ring = ring(&[2, 1]);
        let all = [Purpose::Tag, Purpose::Jar, Purpose::Event, Purpose::Bind, Purpose::Data, Purpose::Subject];
        let mut seen: Vec<[u8; 32]> = all.iter().map(|p| ring.mac(*p, &[b"x"]).1).collect();
        seen.extend(all.iter().map(|p| ring.mac_by(KeyId(1), *p, &[b"x"]).unwrap()));
        seen.push(mac_with(&hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]), &[b"x"]));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 13);
    }

    #[test]
    fn what_a_previous_key_made_is_still_understood() {
        let (_, mac) = ring(&[1]).mac(Purpose::Tag, &[b"a", b"b"]);
        assert!(ring(&[2, 1]).verify(Purpose::Tag, &[b"ab"], &mac[..8]));
        assert!(!ring(&[2]).verify(Purpose::Tag, &[b"ab"], &mac[..8]));
        assert!(!ring(&[1]).verify(Purpose::Tag, &[b"ab"], &[]));
    }

    #[test]
    fn sealed_data_opens_only_unchanged_and_in_its_context() {
        let key = aead_key(&[5; 32]);
        let mut sealed = Vec::new();
        seal(&key, &InsecureSeededEntropy::new(1), b"here", b"cookies", &mut sealed).unwrap();
        assert_eq!(sealed.len(), 7 + SEAL_OVERHEAD);
        assert_eq!(open(&key, b"here", &mut sealed.clone()).unwrap(), b"cookies");
        assert_eq!(open(&key, b"there", &mut sealed.clone()), Err(OpenError));
        assert_eq!(open(&aead_key(&[6; 32]), b"here", &mut sealed.clone()), Err(OpenError));
        for cut in 0..sealed.len() {
            assert_eq!(open(&key, b"here", &mut sealed[..cut].to_vec()), Err(OpenError));
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(&key, b"here", &mut changed), Err(OpenError));
        }
    }
}
