//! What the transport of a client looks like: its TLS, its HTTP/2, its first packet. Small enough to go with every request.
//!
//! Everything here is a property of the program at the other end and not of its user, and each part may be unknown: nothing
//! is known of TLS that a proxy before us ended. A part that is unknown says nothing.

use std::fmt;

use crate::secret::sha256;

/// What of a `ClientHello` is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsPrint {
    /// A hash of what stays the same over all connections of one build: the binding key.
    pub core: u64,
    /// Traits of a build that come and go with the kind of connection, one bit each: weak evidence.
    pub soft: u8,
    /// JA4, for events and rules. It differs between a fresh and a resumed connection of one browser.
    pub ja4: Option<Ja4>,
}

impl TlsPrint {
    /// A print that goes by a word, for clients that are made up: one word is one build.
    pub fn named(core: &str, soft: u8, ja4: Option<Ja4>) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = sha256(core.as_bytes());
        Self { core: u64::from_be_bytes([a, b, c, d, e, f, g, h]), soft, ja4 }
    }
}

/// A JA4 fingerprint of a TLS client: 36 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ja4([u8; 36]);

impl Ja4 {
    /// A fingerprint of the form `a_b_c` with 10, 12 and 12 characters.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 36] = text.as_bytes().try_into().ok()?;
        let fits = bytes.iter().enumerate().all(|(at, byte)| match at {
            10 | 23 => *byte == b'_',
            0..10 => byte.is_ascii_alphanumeric(),
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
        fits.then_some(Self(bytes))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ja4({self})")
    }
}

/// The order of the pseudo-headers of a request, by their first letters: `masp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PseudoOrder(pub [u8; 4]);

/// What of the beginning of an HTTP/2 connection is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Http2Print {
    /// A hash of settings in their order, window update, priorities and the order of pseudo-headers.
    pub key: u32,
    /// The last of these by itself.
    pub pseudo: Option<PseudoOrder>,
}

impl Http2Print {
    /// TEMP
    pub fn of_text(text: &str) -> Self {
        let [a, b, c, d, ..] = crate::secret::sha256(text.as_bytes());
        Self {
            key: u32::from_be_bytes([a, b, c, d]),
            pseudo: text
                .rsplit('|')
                .next()
                .map(|p| p.bytes().filter(|b| *b != b',').collect::<Vec<u8>>())
                .and_then(|v| Some(PseudoOrder(v.try_into().ok()?))),
        }
    }
}

/// What kind of system sent the first packet of a connection, as a number; see the feature `kernel-hints`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SynClass(pub u8);

impl SynClass {
    /// A class that goes by a word, for clients that are made up.
    pub fn named(word: &str) -> Self {
        let [class, ..] = sha256(word.as_bytes());
        Self(class.max(1))
    }
}

/// What the transport of a client looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Print {
    /// Its TLS.
    pub tls: Option<TlsPrint>,
    /// Its HTTP/2.
    pub http2: Option<Http2Print>,
    /// Its first packet.
    pub syn: Option<SynClass>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ja4_has_one_form() {
        let good = "t13d1516h2_8daaf6152771_02713d6af862";
        assert_eq!(Ja4::parse(good).unwrap().to_string(), good);
        let wrong = ["", "t13d1516h2", "t13d1516h2-8daaf6152771-02713d6af862", "t13d1516h2_8daaf615277g_02713d6af862"];
        for wrong in wrong {
            assert_eq!(Ja4::parse(wrong), None, "{wrong}");
        }
    }
}
