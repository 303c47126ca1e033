//! Session ids, their digests, and the public reference of a session.
//!
//! The id is the secret in the cookie and stays in this process: a store is given its [`SessionDigest`], people and logs
//! its [`Ref`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::tag::Tag;
use crate::entropy::{Entropy, EntropyError, random};
use crate::secret::{Secret, sha256};

/// Bytes of a session id: 256 bits, twice what OWASP ASVS 5 (7.2.3) asks for.
pub const ID_BYTES: usize = 32;
/// Characters of a session id in the cookie (base64url without padding).
pub const ID_CHARS: usize = 43;
/// Characters of a cookie value: `<session id>.<tag>`.
pub const COOKIE_CHARS: usize = ID_CHARS + 1 + 22;

/// The secret in the cookie.
#[derive(Clone, Debug)]
pub struct SessionId(Secret<[u8; ID_BYTES]>);

impl SessionId {
    /// A new random id.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        random(entropy).map(|bytes| Self(Secret::new(bytes)))
    }

    /// An id from its bytes.
    pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The digest that stores know it by.
    pub fn digest(&self) -> SessionDigest {
        SessionDigest(sha256(self.0.expose()))
    }

    /// The secret itself: for deriving the key of its jar and the MAC of its tags.
    pub const fn expose(&self) -> &[u8; ID_BYTES] {
        self.0.expose()
    }
}

/// Digests are compared, never the secrets themselves.
impl PartialEq for SessionId {
    fn eq(&self, other: &Self) -> bool {
        crate::secret::same(self.expose(), other.expose())
    }
}

impl Eq for SessionId {}

/// SHA-256 of a session id: the key of its record. It is not an id: shown by a client it is hashed once more and found
/// nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionDigest(pub [u8; 32]);

impl SessionDigest {
    /// Its first eight bytes as a number: evenly spread, for choosing a shard or a bucket.
    pub fn spread(&self) -> u64 {
        self.0.first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
    }
}

/// The first four bytes only: enough to tell records apart while debugging.
impl fmt::Debug for SessionDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionDigest({:08x}..)", self.spread() >> 32)
    }
}

/// The public name of a session: 128 random bits that stay the same while its id changes. Written as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ref(pub [u8; 16]);

impl Ref {
    /// A new random reference.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        random(entropy).map(Self)
    }

    /// Characters that it is written with.
    pub const CHARS: usize = 32;

    /// Appends what `Display` writes, without its machinery.
    pub fn write_to(self, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or(b'0');
        out.extend(self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]));
    }

    /// Reads what `Display` wrote; either case of the digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::CHARS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What a client showed as our cookie: an id and a tag, both well-formed and nothing more.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The session id.
    pub id: SessionId,
    /// The tag.
    pub tag: Tag,
}

impl Presented {
    /// Reads a cookie value: exactly 66 characters, base64url in its one canonical spelling.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() != COOKIE_CHARS {
            return None;
        }
        let (id, rest) = value.split_at_checked(ID_CHARS)?;
        let (dot, tag) = rest.split_first()?;
        if *dot != b'.' {
            return None;
        }
        Some(Self { id: SessionId::from_bytes(decode(id)?), tag: Tag::from_bytes(decode(tag)?) })
    }
}

/// The value of our cookie for an id and a tag.
pub fn cookie_value(id: &SessionId, tag: &Tag) -> Secret<String> {
    let mut value = String::with_capacity(COOKIE_CHARS);
    URL_SAFE_NO_PAD.encode_string(id.expose(), &mut value);
    value.push('.');
    URL_SAFE_NO_PAD.encode_string(tag.as_bytes(), &mut value);
    Secret::new(value)
}

/// Base64url without padding, in its one canonical spelling, of exactly so many octets. Every request brings two of these,
/// and a decoder for texts of any length takes five times as long over them.
fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != (N * 4).div_ceil(3) {
        return None;
    }
    let mut out = [0; N];
    let mut seen = 0;
    let mut fours = text.chunks_exact(4);
    let mut threes = out.chunks_exact_mut(3);
    for (four, three) in fours.by_ref().zip(threes.by_ref()) {
        let [_, first, second, third] = word(four, &mut seen).to_be_bytes();
        three.copy_from_slice(&[first, second, third]);
    }
    let (rest, room) = (fours.remainder(), threes.into_remainder());
    // Two characters or three are left over, and the bits of them that stand for nothing must be zero.
    let last = word(rest, &mut seen) << (6 * (4 - rest.len().clamp(1, 4)));
    let [_, bytes @ ..] = last.to_be_bytes();
    let (used, unused) = bytes.split_at_checked(room.len())?;
    room.copy_from_slice(used);
    (seen < INVALID && unused.iter().all(|byte| *byte == 0)).then_some(out)
}

/// What no character stands for.
const INVALID: u8 = 64;

/// The value of each character; [`INVALID`] for those that are none of base64url.
#[expect(clippy::indexing_slicing, reason = "it is the compiler that looks into the alphabet")]
const VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut values = [INVALID; 256];
    let mut value = 0;
    while value < INVALID {
        values[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Up to four characters of six bits each; `seen` gathers whether one of them was none.
fn word(characters: &[u8], seen: &mut u8) -> u32 {
    characters.iter().fold(0, |word, character| {
        let value = VALUES.get(usize::from(*character)).copied().unwrap_or(INVALID);
        *seen |= value;
        word << 6 | u32::from(value)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entropy::InsecureSeededEntropy;

    fn part(text: &str, range: impl std::slice::SliceIndex<str, Output = str>) -> &str {
        text.get(range).unwrap()
    }

    fn sample(seed: u64) -> (SessionId, Tag) {
        let entropy = InsecureSeededEntropy::new(seed);
        (SessionId::generate(&entropy).unwrap(), Tag::from_bytes(random(&entropy).unwrap()))
    }

    #[test]
    fn a_cookie_value_reads_back() {
        for seed in 0..200 {
            let (id, tag) = sample(seed);
            let value = cookie_value(&id, &tag);
            assert_eq!(value.expose().len(), COOKIE_CHARS);
            let back = Presented::parse(value.expose().as_bytes()).unwrap();
            assert_eq!(back.id, id);
            assert_eq!(back.tag, tag);
        }
    }

    proptest! {
        #[test]
        fn it_decodes_what_everybody_decodes(text in "[A-Za-z0-9_=+/ -]{22}|[A-Za-z0-9_-]{43}", odd in any::<[u8; 43]>()) {
            fn check<const N: usize>(text: &[u8]) {
                let expected = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
                assert_eq!(decode::<N>(text), expected, "{:?}", text.escape_ascii());
            }
            check::<16>(text.as_bytes());
            check::<32>(text.as_bytes());
            check::<32>(&odd);
        }
    }

    #[test]
    fn only_the_canonical_spelling_is_read() {
        let (id, tag) = sample(1);
        let value = cookie_value(&id, &tag).expose().clone();
        let check = |text: &str| assert!(Presented::parse(text.as_bytes()).is_none(), "{text}");
        check("");
        check(part(&value, ..65));
        check(&format!("{value}="));
        check(&value.replace('.', "-"));
        check(&format!("\"{}\"", part(&value, 1..65)));
        check(&format!("{} ", part(&value, ..65)));
        check(&format!("+{}", part(&value, 1..)));
        // The last character of each half holds bits that are not used: any but zero is another spelling of the same id.
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for at in [42, 65] {
            let spellings = alphabet.chars().filter(|last| {
                let other = format!("{}{last}{}", part(&value, ..at), part(&value, at + 1..));
                Presented::parse(other.as_bytes()).is_some_and(|p| p.id == id && p.tag == tag)
            });
            assert_eq!(spellings.count(), 1);
        }
    }

    #[test]
    fn a_digest_shown_as_an_id_is_another_id() {
        let (id, _) = sample(3);
        let shown = SessionId::from_bytes(id.digest().0);
        assert_ne!(shown.digest(), id.digest());
    }

    #[test]
    fn a_ref_reads_back_and_nothing_else_does() {
        let reference = Ref::generate(&InsecureSeededEntropy::new(5)).unwrap();
        assert_eq!(Ref::parse(&reference.to_string()), Some(reference));
        let mut written = Vec::new();
        reference.write_to(&mut written);
        assert_eq!(written, reference.to_string().into_bytes());
        assert_eq!(written.len(), Ref::CHARS);
        for bad in ["", "12", "+1234567890123456789012345678901", "zz345678901234567890123456789012"] {
            assert_eq!(Ref::parse(bad), None);
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let (id, tag) = sample(9);
        let value = cookie_value(&id, &tag).expose().clone();
        let printed = format!("{:?} {:?} {:?}", id, Presented { id: id.clone(), tag }, id.digest());
        assert!(!printed.contains(part(&value, ..10)));
        assert!(!printed.contains(part(&value, 44..54)));
        assert!(printed.contains("SessionId(Secret(..))"), "{printed}");
    }
}
