//! The scene of an event: whose session, which client, which request, what was decided.
//!
//! It is the same for every kind of event, every part is optional, and building one only copies and counts references.
//! The session id is never in it: sessions appear as a keyed hash and by their public reference.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Method;

use crate::secret::{KeyId, Keyring, Purpose};
use crate::session::id::{Ref, SessionDigest};
use crate::verdict::{Action, Mode, Reasons, Tags, Text, Verdict};

/// A session in an event: half of a keyed hash of the digest of its id, behind the id of the key. The key is not that of
/// any store, so a log and a stolen store cannot be laid side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionHash {
    /// The key it was made with.
    pub key: KeyId,
    /// The first 16 bytes of HMAC-SHA256.
    pub hash: [u8; 16],
}

impl SessionHash {
    /// The hash of a session, from the digest that stores know it by.
    pub fn of(keys: &Keyring, digest: &SessionDigest) -> Self {
        let (key, mac) = keys.mac(Purpose::Event, &[b"session\0", &digest.0]);
        Self { key, hash: mac.first_chunk().copied().unwrap_or_default() }
    }
}

/// The key's id, a dash, 32 hex digits.
impl fmt::Display for SessionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:032x}", self.key.0, u128::from_be_bytes(self.hash))
    }
}

impl SessionHash {
    /// Reads what `Display` wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (key, hash) = text.split_once('-')?;
        let hash = hex16(hash)?;
        Some(Self { key: KeyId(key.parse().ok()?), hash })
    }
}

/// 16 bytes out of 32 hex digits.
fn hex16(text: &str) -> Option<[u8; 16]> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::to_be_bytes)
}

/// The trace an event belongs to (W3C Trace Context), written as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

impl TraceId {
    /// Reads what `Display` wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        hex16(text).map(Self)
    }

    /// Reads the value of the header `traceparent` (W3C Trace Context, section 3.2); none if it is not one.
    pub fn of_traceparent(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let is_hex = |part: &str, len| {
            part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let is_id = |part: &str, len| is_hex(part, len) && part.bytes().any(|octet| octet != b'0');
        let mut parts = text.splitn(5, '-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // A later version may have more behind these.
        let is_known = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        let is_whole = is_known && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2);
        if is_whole { Self::parse(trace) } else { None }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A client as an event shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientView {
    /// Its address, after trusted proxies.
    pub ip: Option<IpAddr>,
    /// What stands for its address in a record that was read back and does not show it.
    pub alias: Option<Text>,
    /// The number of its network.
    pub asn: Option<u32>,
    /// Its country: two capital letters (ISO 3166-1).
    pub country: Option<[u8; 2]>,
    /// The family of its user agent, as our parser names it.
    pub ua: Option<Text>,
    /// Its operating system, as our parser names it.
    pub os: Option<Text>,
    /// The JA4 fingerprint of its TLS hello.
    pub ja4: Option<Text>,
}

/// Who, where, and what was decided. `Scene::default()` is that of an event without a request, such as a start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// The session, as a keyed hash.
    pub session: Option<SessionHash>,
    /// The session's public name.
    pub reference: Option<Ref>,
    /// Whom it is authenticated for, or whose login was tried.
    pub subject: Option<Arc<str>>,
    /// The client now.
    pub client: ClientView,
    /// The client that the session is bound to.
    pub bound: ClientView,
    /// What was done.
    pub action: Action,
    /// Whether verdicts are obeyed here.
    pub mode: Mode,
    /// What would have been done, had the mode been `enforce`.
    pub would: Option<Action>,
    /// The rule that decided.
    pub rule: Option<Text>,
    /// The words of the rules that had a part in it.
    pub tags: Tags,
    /// The revision of the policy.
    pub policy: Option<u64>,
    /// Why.
    pub reasons: Reasons,
    /// The sum of weights after decay.
    pub risk: Option<f32>,
    /// The route of the policy that the request fell under, as a template: never the path itself.
    pub route: Option<Arc<str>>,
    /// The request's method; see [`method_word`].
    pub method: Option<&'static str>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// The trace of the request.
    pub trace: Option<TraceId>,
}

impl Scene {
    /// The scene with what was decided. In `observe` mode nothing is done and the verdict is what would have been.
    #[must_use]
    pub fn judged(mut self, verdict: &Verdict, mode: Mode) -> Self {
        self.mode = mode;
        self.reasons.clone_from(&verdict.reasons);
        self.rule.clone_from(&verdict.rule);
        self.tags.clone_from(&verdict.tags);
        self.risk = Some(verdict.risk);
        if mode == Mode::Enforce {
            self.action = verdict.action;
            self.would = None;
        } else {
            self.action = Action::Allow;
            self.would = Some(verdict.action);
        }
        self
    }
}

/// The method as events name it: a known one, or `_OTHER` for what a client made up.
pub fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::MasterKey;
    use crate::verdict::Reason;

    #[test]
    fn a_trace_is_read_as_its_specification_says() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = "00f067aa0ba902b7";
        let read = |text: &str| TraceId::of_traceparent(text.as_bytes()).map(|trace| trace.to_string());
        for whole in [
            format!("00-{id}-{parent}-01"),
            format!("00-{id}-{parent}-00"),
            format!("cc-{id}-{parent}-01"),
            format!("cc-{id}-{parent}-01-what-the-future-will-be-like"),
        ] {
            assert_eq!(read(&whole).as_deref(), Some(id), "{whole}");
        }
        let zero = "0".repeat(32);
        for broken in [
            String::new(),
            id.to_owned(),
            format!("00-{id}-{parent}"),
            format!("00-{id}-{parent}-01-more"),
            format!("ff-{id}-{parent}-01"),
            format!("0-{id}-{parent}-01"),
            format!("00-{zero}-{parent}-01"),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-{}-{parent}-01", id.to_uppercase()),
            format!("00-{id}0-{parent}-01"),
            format!("00-{id}-{parent}-1"),
            format!("00-{id}-{parent}-0x"),
            format!("cc-{id}-{parent}-01.future"),
        ] {
            assert_eq!(read(&broken), None, "{broken}");
        }
        assert_eq!(TraceId::of_traceparent(b"00-\xff"), None);
    }

    #[test]
    fn a_session_is_named_by_a_keyed_hash_with_the_key_in_front() {
        let ring = |id| Keyring::new(&MasterKey::new(KeyId(id), [id; 32]), &[]);
        let hash = SessionHash::of(&ring(3), &SessionDigest([9; 32]));
        let text = hash.to_string();
        assert!(text.starts_with("3-") && text.len() == 34, "{text}");
        assert_ne!(hash.hash, SessionHash::of(&ring(4), &SessionDigest([9; 32])).hash);
        assert_ne!(hash.hash, [9; 16]);
    }

    #[test]
    fn an_observed_verdict_does_nothing_and_says_what_it_would_have_done() {
        let mut verdict = Verdict::because(Action::Terminate, Reason::new("id.fork", 55.0));
        verdict.risk = 120.0;
        let observed = Scene::default().judged(&verdict, Mode::Observe);
        assert_eq!((observed.action, observed.would), (Action::Allow, Some(Action::Terminate)));
        let enforced = observed.judged(&verdict, Mode::Enforce);
        assert_eq!((enforced.action, enforced.would, enforced.risk), (Action::Terminate, None, Some(120.0)));
        assert_eq!(enforced.reasons.len(), 1);
    }

    #[test]
    fn a_made_up_method_has_no_name() {
        assert_eq!(method_word(&Method::PATCH), "PATCH");
        assert_eq!(method_word(&Method::from_bytes(b"\"FORGED\"").unwrap_or(Method::TRACE)), "TRACE");
        assert_eq!(method_word(&Method::from_bytes(b"PROPFIND").unwrap()), "_OTHER");
    }
}
