//! How plainly addresses and subjects are shown.
//!
//! A pseudonym is a keyed hash: equal addresses stay equal, so that counting works, but only who has the key can tell
//! which address it was.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use super::plain::Plain as _;
use super::put;
use crate::event::ClientView;
use crate::secret::{Keyring, Purpose};

/// How addresses are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpPrivacy {
    /// As they are: bans and investigations need them.
    #[default]
    Full,
    /// Without the part that names a household: the last 8 bits of IPv4, the last 80 of IPv6 are zero.
    Truncate,
    /// As a keyed hash.
    Pseudonym,
}

/// How subjects are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubjectPrivacy {
    /// As they are.
    #[default]
    Plain,
    /// As a keyed hash.
    Hmac,
}

/// How plainly addresses and subjects are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privacy {
    /// Addresses.
    pub ip: IpPrivacy,
    /// Subjects.
    pub subject: SubjectPrivacy,
}

/// The word names no form of privacy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownPrivacy {
    /// For addresses.
    #[error("not a way to show addresses (full, truncate or pseudonym)")]
    Ip,
    /// For subjects.
    #[error("not a way to show subjects (plain or hmac)")]
    Subject,
}

impl FromStr for IpPrivacy {
    type Err = UnknownPrivacy;

    fn from_str(word: &str) -> Result<Self, UnknownPrivacy> {
        match word {
            "full" => Ok(Self::Full),
            "truncate" => Ok(Self::Truncate),
            "pseudonym" => Ok(Self::Pseudonym),
            _ => Err(UnknownPrivacy::Ip),
        }
    }
}

impl FromStr for SubjectPrivacy {
    type Err = UnknownPrivacy;

    fn from_str(word: &str) -> Result<Self, UnknownPrivacy> {
        match word {
            "plain" => Ok(Self::Plain),
            "hmac" => Ok(Self::Hmac),
            _ => Err(UnknownPrivacy::Subject),
        }
    }
}

/// Privacy with the keys that pseudonyms are made with. Without keys everything is shown as it is.
#[derive(Clone, Default)]
pub(crate) struct Veil {
    privacy: Privacy,
    keys: Option<Arc<Keyring>>,
    /// What stands for subjects in the records is their hash already.
    has_hashes: bool,
}

/// How an address is shown, and whether it is one.
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) is_address: bool,
}

/// Letters of the longest address.
const ADDRESS_BYTES_MAX: usize = 39;

/// Whether a text is a pseudonym as [`Veil::pseudonym`] writes it.
fn is_hash(text: &str) -> bool {
    let is_hex = |text: &str| text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    text.split_once('-').is_some_and(|(key, hash)| key.parse::<u8>().is_ok() && is_hex(hash))
}

impl Veil {
    pub(crate) fn new(privacy: Privacy, keys: Arc<Keyring>) -> Self {
        Self { privacy, keys: Some(keys), has_hashes: false }
    }

    /// Appends an address. What is written needs no escaping.
    pub(super) fn ip(&self, out: &mut Vec<u8>, ip: IpAddr) {
        let ip = ip.to_canonical();
        match self.privacy.ip {
            IpPrivacy::Full => ip.put(out),
            IpPrivacy::Truncate => truncated(ip).put(out),
            IpPrivacy::Pseudonym => match ip {
                IpAddr::V4(ip) => self.pseudonym(out, b"ip\0", &ip.octets()),
                IpAddr::V6(ip) => self.pseudonym(out, b"ip\0", &ip.octets()),
            },
        }
    }

    /// How addresses are shown.
    #[cfg(feature = "config")]
    pub(crate) const fn of_addresses(&self) -> IpPrivacy {
        self.privacy.ip
    }

    /// What [`ip`](Self::ip) appends.
    pub(crate) fn ip_text(&self, ip: IpAddr) -> String {
        let mut out = Vec::with_capacity(ADDRESS_BYTES_MAX);
        self.ip(&mut out, ip);
        String::from_utf8(out).unwrap_or_default()
    }

    /// The same for records that were read back from where `before` was in force.
    pub(super) fn behind(mut self, before: Privacy) -> Self {
        self.has_hashes = before.subject == SubjectPrivacy::Hmac;
        self
    }

    /// The same, and whether it is an address.
    pub(super) fn shown(&self, client: &ClientView) -> Option<Shown> {
        let text = self.shown_ip(client)?;
        let is_address = match client.ip {
            Some(_) => !self.hides_addresses(),
            None => text.parse::<IpAddr>().is_ok(),
        };
        Some(Shown { text, is_address })
    }

    /// The address of a client, or what stands for it in a record that was read back.
    pub(super) fn shown_ip(&self, client: &ClientView) -> Option<String> {
        match client.ip {
            Some(ip) => Some(self.ip_text(ip)),
            None => client.alias.as_ref().map(ToString::to_string),
        }
    }

    /// Whether addresses are shown as keyed hashes.
    pub(super) const fn hides_addresses(&self) -> bool {
        matches!(self.privacy.ip, IpPrivacy::Pseudonym)
    }

    /// Whether subjects are shown as keyed hashes.
    pub(super) const fn hides_subjects(&self) -> bool {
        matches!(self.privacy.subject, SubjectPrivacy::Hmac)
    }

    /// The subject's keyed hash, if it must not be shown.
    pub(crate) fn subject(&self, subject: &str) -> Option<String> {
        match self.privacy.subject {
            SubjectPrivacy::Plain => None,
            // Lines from before it was in force have subjects as they are.
            SubjectPrivacy::Hmac if self.has_hashes && is_hash(subject) => Some(subject.to_owned()),
            SubjectPrivacy::Hmac => {
                let mut out = Vec::new();
                self.pseudonym(&mut out, b"subject\0", subject.as_bytes());
                Some(String::from_utf8(out).unwrap_or_default())
            }
        }
    }

    /// The keyed hash of a part of a path that no recording may show, whatever the settings are. None without keys.
    #[cfg(feature = "config")]
    pub(crate) fn part(&self, part: &str) -> Option<String> {
        self.keys.as_ref()?;
        let mut out = Vec::new();
        self.pseudonym(&mut out, b"path\0", part.as_bytes());
        Some(String::from_utf8(out).unwrap_or_default())
    }

    /// What a text is replaced by because it is an address or a prefix and those must not be shown.
    pub(crate) fn text(&self, text: &str) -> Option<String> {
        if self.privacy.ip == IpPrivacy::Full {
            return None;
        }
        let ip: IpAddr = text.split('/').next()?.parse().ok()?;
        Some(self.ip_text(ip))
    }

    /// The key's id, a dash, and 16 hex digits.
    fn pseudonym(&self, out: &mut Vec<u8>, label: &[u8], value: &[u8]) {
        let Some(keys) = &self.keys else { return };
        let (key, mac) = keys.mac(Purpose::Event, &[label, value]);
        let short = mac.first_chunk().map_or(0, |head| u64::from_be_bytes(*head));
        put(out, format_args!("{}-{short:016x}", key.0));
    }
}

fn truncated(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{KeyId, MasterKey};

    fn veil(ip: &str, subject: &str) -> Veil {
        let privacy = Privacy { ip: ip.parse().unwrap(), subject: subject.parse().unwrap() };
        Veil::new(privacy, Arc::new(Keyring::new(&MasterKey::new(KeyId(7), [7; 32]), &[])))
    }

    fn shown(veil: &Veil, ip: &str) -> String {
        let mut out = Vec::new();
        veil.ip(&mut out, ip.parse().unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn addresses_are_full_truncated_or_pseudonyms() {
        assert_eq!(shown(&veil("full", "plain"), "203.0.113.9"), "203.0.113.9");
        assert_eq!(shown(&veil("full", "plain"), "::ffff:203.0.113.9"), "203.0.113.9");
        assert_eq!(shown(&veil("truncate", "plain"), "203.0.113.9"), "203.0.113.0");
        assert_eq!(shown(&veil("truncate", "plain"), "2001:db8:1:2::3"), "2001:db8:1::");
        let hidden = veil("pseudonym", "plain");
        let name = shown(&hidden, "203.0.113.9");
        assert!(name.starts_with("7-") && name.len() == 18, "{name}");
        assert_eq!(name, shown(&hidden, "::ffff:203.0.113.9"));
        assert_ne!(name, shown(&hidden, "203.0.113.8"));
        assert_eq!("no".parse::<IpPrivacy>(), Err(UnknownPrivacy::Ip));
    }

    #[test]
    fn subjects_are_plain_or_hashed() {
        assert_eq!(veil("full", "plain").subject("alice"), None);
        let hash = veil("full", "hmac").subject("alice").unwrap();
        assert!(hash.starts_with("7-") && !hash.contains("alice"));
        assert_eq!("no".parse::<SubjectPrivacy>(), Err(UnknownPrivacy::Subject));
    }

    #[test]
    fn an_address_in_a_reason_is_an_address_too() {
        assert_eq!(veil("full", "plain").text("203.0.113.9"), None);
        assert_eq!(veil("truncate", "plain").text("203.0.113.9").as_deref(), Some("203.0.113.0"));
        assert_eq!(veil("truncate", "plain").text("203.0.113.77/32").as_deref(), Some("203.0.113.0"));
        assert_eq!(veil("truncate", "plain").text("Firefox"), None);
    }
}
