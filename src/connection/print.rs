//! What the transport of a client looks like: its TLS, its HTTP/2, its first packet. Small enough to go with every request.
//!
//! Everything here is a property of the program at the other end and not of its user, and each part may be unknown: nothing
//! is known of TLS that a proxy before us ended. A part that is unknown says nothing.

use std::fmt;
use std::time::Duration;

use crate::connection::client_hello::first_64_bits;
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
        Self { core: first_64_bits(core.as_bytes()), soft, ja4 }
    }

    /// What can be made of a JA4 that a proxy before us took, when nothing else is known of the client's TLS.
    ///
    /// A browser shows several: its extensions come and go, and the protocols it offers. Only the version and the ciphers go
    /// into the key, the characters `13` and `8daaf6152771` of `t13d1516h2_8daaf6152771_e5627efa2ab1`. Under their label no
    /// key is that of a `ClientHello` which we saw ourselves.
    ///
    /// None for QUIC (`q13...`): one browser speaks both, with other ciphers over QUIC, and going from one to the other
    /// would look like another browser.
    pub fn of_ja4(ja4: Ja4) -> Option<Self> {
        let (version, rest) = ja4.0.split_first_chunk::<3>()?;
        let ciphers = rest.get(8..20)?;
        if !version.starts_with(b"t") {
            return None;
        }
        let core = first_64_bits(&[b"portcullis/ja4/1", &version[..], ciphers].concat());
        Some(Self { core, soft: 0, ja4: Some(ja4) })
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

/// What kind of system sent the first packet of a connection, as a number: `syn::class`. None where the
/// kernel did not keep it, or a balancer opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SynClass(pub u8);

impl SynClass {
    /// A class that goes by a word, for clients that are made up.
    pub fn named(word: &str) -> Self {
        let [class, ..] = sha256(word.as_bytes());
        Self(class.max(1))
    }
}

/// How much longer the client's end takes to answer within TLS than within TCP, in steps of four milliseconds. Next to nothing,
/// unless somebody between us ends the client's TCP and passes on what is in it: then TCP is answered there, and TLS further
/// away. It is measured only where that was asked for (`client.relay_rtt`, feature `relay-rtt`).
///
/// Known from papers on proxies that pass a connection on (BADPASS 2022; `CalcuLatency`, USENIX Security 2024). A patent application,
/// US 2023/0379363, claims comparisons of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RttGap(pub(crate) u8);

impl RttGap {
    const STEP_MS: u64 = 4;

    /// That of a time, a second or more being one.
    pub fn of(gap: Duration) -> Self {
        let steps = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX) / Self::STEP_MS;
        // 0 stands for "unknown" where it is kept.
        Self(u8::try_from(steps.saturating_add(1)).unwrap_or(u8::MAX))
    }

    /// About how long.
    pub fn as_millis(self) -> u64 {
        u64::from(self.0).saturating_sub(1) * Self::STEP_MS
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
    /// How much later it answers within TLS than within TCP.
    pub rtt_gap: Option<RttGap>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_stated_ja4_the_version_and_the_ciphers_count() {
        let core = |text: &str| TlsPrint::of_ja4(Ja4::parse(text).unwrap()).map(|print| print.core);
        let fresh = core("t13d1516h2_8daaf6152771_02713d6af862");
        assert!(fresh.is_some());
        assert_eq!(core("t13i1517h1_8daaf6152771_e5627efa2ab1"), fresh);
        assert_ne!(core("t12d1516h2_8daaf6152771_02713d6af862"), fresh);
        assert_ne!(core("t13d1516h2_8daaf6152772_02713d6af862"), fresh);
        assert_eq!(core("q13d0312h3_55b375c5d22e_06cda9e17597"), None, "QUIC");
    }

    #[test]
    fn a_gap_has_steps_and_an_end() {
        let of = |millis| RttGap::of(Duration::from_millis(millis));
        assert!(of(0) == of(3) && of(3) < of(4) && of(40).0 - of(0).0 == 10);
        assert_eq!([0, 7, 40, 5000].map(|millis| of(millis).as_millis()), [0, 4, 40, 1016]);
    }

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
