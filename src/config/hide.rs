//! What `[events.privacy]` hides in events is hidden in recordings too.
//!
//! A pseudonym stands for an address or a subject as in events, with the same keys, so that the two can be laid side by side. It
//! has a second name where requests are counted by less than the value: spellings of a subject are one, and so are the
//! addresses of an IPv6 /64. A truncated address is kept as the network that is left of it.

use std::net::IpAddr;

use crate::event::encode::{IpPrivacy, Veil};
use crate::net::{IpPrefix, canonical};
use crate::rules::scheme::Field;
use crate::rules::{Masked, OwnedValue, Pseudonym, Recorded};
use crate::session::subject::{folded, is_same};

/// Bits of an IPv6 address that its client did not choose.
const OF_CLIENT_V6: u8 = 64;

/// Hides what must not be recorded as it is.
pub(super) fn hide(veil: &Veil, facts: &mut Recorded) {
    let name = |field: Field| field.name(&[]);
    let subjects = [Field::SessionSubject, Field::LoginSubject].map(name);
    let prefixes = [Field::ClientPrefix, Field::BoundPrefix].map(name);
    let path = name(Field::RequestPath);
    let text = |key: &String| match facts.fields.get(key) {
        Some(OwnedValue::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let named: Vec<Box<str>> = subjects.iter().filter_map(text).collect();
    for (key, value) in &mut facts.fields {
        let hidden = match value {
            OwnedValue::Ip(ip) => hidden_address(veil, *ip, prefixes.contains(key)),
            OwnedValue::Text(text) if *key == path => hidden_path(veil, text, &named),
            OwnedValue::Text(text) if named.iter().any(|subject| is_same(subject, text)) => hidden_subject(veil, text),
            // A host may tell addresses too.
            OwnedValue::Text(text) if key.starts_with("facts.") => hidden_text(veil, text),
            _ => None,
        };
        if let Some(hidden) = hidden {
            *value = hidden;
        }
    }
}

fn hidden_address(veil: &Veil, ip: IpAddr, is_prefix: bool) -> Option<OwnedValue> {
    let ip = canonical(ip);
    match veil.of_addresses() {
        IpPrivacy::Full => None,
        // Nothing of it is cut off.
        IpPrivacy::Truncate if is_prefix && ip.is_ipv4() => None,
        IpPrivacy::Truncate => {
            let left: IpAddr = veil.ip_text(ip).parse().ok()?;
            Some(OwnedValue::Network(IpPrefix::around(left, if ip.is_ipv4() { 24 } else { 48 })))
        }
        IpPrivacy::Pseudonym => {
            let counted = if ip.is_ipv4() { ip } else { IpPrefix::around(ip, OF_CLIENT_V6).address() };
            Some(pseudonym(&veil.ip_text(ip), &veil.ip_text(counted)))
        }
    }
}

fn hidden_subject(veil: &Veil, subject: &str) -> Option<OwnedValue> {
    Some(pseudonym(&veil.subject(subject)?, &veil.subject(&folded(subject))?))
}

fn hidden_text(veil: &Veil, text: &str) -> Option<OwnedValue> {
    let shown = veil.text(text)?;
    Some(match veil.of_addresses() {
        IpPrivacy::Pseudonym => pseudonym(&shown, &shown),
        IpPrivacy::Full | IpPrivacy::Truncate => OwnedValue::Masked(Box::new(Masked::new(&shown, 0)?)),
    })
}

/// A path without what looks like a token, and without the subject and the addresses that it names; else as it was, since rules
/// and routes go by it.
fn hidden_path(veil: &Veil, path: &str, named: &[Box<str>]) -> Option<OwnedValue> {
    let hidden = |part: &str| {
        if named.iter().any(|subject| is_same(subject, part)) {
            return veil.subject(part);
        }
        if part.parse::<IpAddr>().is_ok() {
            return veil.text(part);
        }
        is_token(part).then(|| veil.part(part)).flatten()
    };
    let mut clear = None;
    let mut masked = String::with_capacity(path.len());
    for (at, part) in path.split('/').enumerate() {
        if at > 0 {
            masked.push('/');
        }
        match hidden(part) {
            Some(pseudonym) => {
                clear = clear.or(Some(masked.len()));
                masked.push_str(&pseudonym);
            }
            None => masked.push_str(part),
        }
    }
    Masked::new(&masked, clear?).map(|masked| OwnedValue::Masked(Box::new(masked)))
}

/// Characters of the shortest part of a path that may be a token: 64 bits in hexadecimal digits.
const TOKEN_MIN: usize = 16;

/// Whether a part of a path looks made by a machine: long, with letters and digits in one word. Ids look like that too.
fn is_token(part: &str) -> bool {
    let is_mixed = |word: &str| {
        word.len() >= 6
            && word.bytes().any(|byte| byte.is_ascii_digit())
            && word.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    part.len() >= TOKEN_MIN && part.split(['-', '_', '.']).any(is_mixed)
}

fn pseudonym(name: &str, counted_as: &str) -> OwnedValue {
    OwnedValue::Pseudonym(Box::new(Pseudonym::new(name, counted_as)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Timestamp;
    use crate::event::encode::{Privacy, SubjectPrivacy};
    use crate::rules::Value;
    use crate::rules::count::Key;
    use crate::secret::{KeyId, Keyring, MasterKey};

    fn veil(ip: IpPrivacy) -> Veil {
        let keys = Keyring::new(&MasterKey::new(KeyId(7), [7; 32]), &[]);
        Veil::new(Privacy { ip, subject: SubjectPrivacy::Hmac }, Arc::new(keys))
    }

    /// What a field is once it is hidden.
    fn hidden(ip: IpPrivacy, field: Field, value: OwnedValue) -> OwnedValue {
        let name = field.name(&[]);
        let mut facts = Recorded::new(Timestamp::EPOCH, [(name.clone(), value)].into(), Vec::new());
        hide(&veil(ip), &mut facts);
        facts.fields.remove(&name).unwrap()
    }

    fn ip(text: &str) -> OwnedValue {
        OwnedValue::Ip(text.parse().unwrap())
    }

    fn key(field: Field, value: &OwnedValue) -> Option<Key> {
        Key::new(1, field, &value.as_value())
    }

    #[test]
    fn what_one_client_may_choose_from_is_counted_as_one_and_told_apart() {
        let address = |text| hidden(IpPrivacy::Pseudonym, Field::ClientIp, ip(text));
        let (one, other, far) = (address("2001:db8::1"), address("2001:db8::2"), address("2001:db8:0:1::1"));
        assert_ne!(one, other);
        assert_eq!(key(Field::ClientIp, &one), key(Field::ClientIp, &other));
        assert_ne!(key(Field::ClientIp, &one), key(Field::ClientIp, &far));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(key(Field::ClientIp, &address("192.0.2.1")), key(Field::ClientIp, &address("192.0.2.2")));
        let subject = |text: &str| hidden(IpPrivacy::Full, Field::SessionSubject, text.into());
        assert_ne!(subject("alice"), subject("Alice"));
        assert_eq!(key(Field::SessionSubject, &subject("alice")), key(Field::SessionSubject, &subject(" ALICE")));
        assert_ne!(key(Field::SessionSubject, &subject("alice")), key(Field::SessionSubject, &subject("bob")));
    }

    #[test]
    fn a_truncated_address_is_the_network_that_is_left_of_it() {
        let truncated = |field, text| hidden(IpPrivacy::Truncate, field, ip(text));
        assert_eq!(truncated(Field::ClientIp, "203.0.113.9").as_value().to_string(), "203.0.113.0/24");
        assert_eq!(truncated(Field::ClientIp, "2001:db8:1:2::3").as_value().to_string(), "2001:db8:1::/48");
        assert_eq!(truncated(Field::ClientPrefix, "203.0.113.0"), ip("203.0.113.0"));
        let prefix = truncated(Field::BoundPrefix, "2001:db8:1:2::");
        assert_eq!(
            (prefix.as_value().to_string().as_str(), key(Field::BoundPrefix, &prefix)),
            ("2001:db8:1::/48", None)
        );
        assert_eq!(hidden(IpPrivacy::Full, Field::ClientIp, ip("203.0.113.9")), ip("203.0.113.9"));
    }

    #[test]
    fn what_was_hidden_with_different_keys_can_not_be_compared() {
        let (one, same, other) =
            (Pseudonym::new("1-aa", "1-aa"), Pseudonym::new("1-aa", "1-b"), Pseudonym::new("2-aa", "2-aa"));
        assert_eq!((one.is(&same), one.is(&other)), (Some(true), None));
        assert_eq!(one.is(&Pseudonym::new("1-ab", "1-ab")), Some(false));
        assert!(!Value::Pseudonym(&one).to_string().is_empty());
    }

    #[test]
    fn what_looks_like_a_token_is_masked_and_words_are_not() {
        let path = |text: &str| {
            let path = hidden(IpPrivacy::Full, Field::RequestPath, text.into());
            let shown = path.as_value().as_name().unwrap().to_owned();
            (path.as_value().is_hidden(), shown.split('/').map(str::to_owned).collect::<Vec<_>>())
        };
        for token in [
            "c8gxkw-9d8f7a6b5c4d3e2f1a0b9c8d7e6f5a4b",
            "6fa459ea-ee8a-3ca4-894e-db77e160355e",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl1",
            "0123456789abcdef0123456789abcdef",
            "0a1b2c3d4e5f6071",
        ] {
            let (is_hidden, parts) = path(&format!("/reset/{token}/done"));
            assert!(is_hidden && parts[1] == "reset" && parts[3] == "done", "{parts:?}");
            assert!(parts[2].starts_with("7-") && !parts[2].contains(token), "{parts:?}");
        }
        for words in [
            "/how-to-configure-2-factor-authentication",
            "/annual-report-2026-final-version",
            "/orders/1234567890123456789012",
        ] {
            assert!(!path(words).0, "{words}");
        }
    }
}
