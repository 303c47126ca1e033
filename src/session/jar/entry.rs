//! One cookie of a jar: owned, and as it stands in the stored form.
//!
//! The stored form, integers big endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 1 | number of cookies |
//!
//! then for each cookie, in the order in which a browser sends them (longer paths first, then older cookies):
//!
//! | bytes | what |
//! |---|---|
//! | 1 | flags: 1 Secure, 2 host-only, 4 kind `state`, 8 has an end, 16 and 32 SameSite (0 unset, 1 none, 2 lax, 3 strict) |
//! | 6 | created, milliseconds since 1970 |
//! | 6 | its end, milliseconds since 1970; only if it has one |
//! | 1 | length of the domain |
//! | 2 | length of the path |
//! | 2 | length of the name |
//! | 2 | length of the value |
//! | .. | domain, path, name, value |

use std::time::Duration;

use super::scope::{domain_matches, path_matches};
use super::{Channel, CookieContext, JarChange, SiteContext};
use crate::clock::Timestamp;
use crate::secret::{Secret, same};
use crate::session::cookie::{CookieKind, CookiePair, SameSite};

/// How long a cookie without `SameSite` is sent with posts from other sites (RFC 6265bis section 5.7.1).
const LAX_ALLOWING_UNSAFE: Duration = Duration::from_secs(120);

const SECURE: u8 = 1;
const HOST_ONLY: u8 = 2;
const STATE: u8 = 4;
const ENDS: u8 = 8;
const SAME_SITE_SHIFT: u8 = 4;
const FLAGS_ALL: u8 = 0b11_1111;

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: Box<[u8]>,
    pub(super) value: Secret<Box<[u8]>>,
    pub(super) domain: Box<[u8]>,
    pub(super) path: Box<[u8]>,
    pub(super) host_only: HostOnly,
    pub(super) secure: bool,
    pub(super) same_site: Option<SameSite>,
    pub(super) kind: CookieKind,
    pub(super) created: Timestamp,
    pub(super) ends: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostOnly {
    Yes,
    No,
}

impl Entry {
    pub(super) fn as_view(&self) -> EntryView<'_> {
        EntryView {
            name: &self.name,
            value: self.value.expose(),
            domain: &self.domain,
            path: &self.path,
            host_only: self.host_only,
            secure: self.secure,
            same_site: self.same_site,
            kind: self.kind,
            created: self.created,
            ends: self.ends,
        }
    }

    /// Browsers hold two cookies for one if name, domain and path agree; host-only or not makes them two.
    pub(super) fn is_same_cookie(&self, other: &Self) -> bool {
        self.name == other.name
            && self.domain == other.domain
            && self.path == other.path
            && self.host_only == other.host_only
    }

    pub(super) fn goes_before(&self, other: &Self) -> bool {
        (other.path.len(), self.created) < (self.path.len(), other.created)
    }

    pub(super) fn change_to(&self, new: &Self, now: Timestamp) -> JarChange {
        if !same(self.value.expose(), new.value.expose()) {
            return JarChange::Replaced(new.kind);
        }
        let attributes = |entry: &Self| (entry.secure, entry.same_site, entry.kind, entry.ends.is_some());
        if attributes(self) != attributes(new) {
            return JarChange::Refreshed;
        }
        let (Some(old), Some(new)) = (self.ends, new.ends) else { return JarChange::Unchanged };
        let moved = new.since(old).max(old.since(new));
        if moved.is_zero() {
            JarChange::Unchanged
        } else if moved.saturating_mul(10) < new.since(now) {
            JarChange::ExpiryOnly
        } else {
            JarChange::Refreshed
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct EntryView<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) domain: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) host_only: HostOnly,
    pub(super) secure: bool,
    pub(super) same_site: Option<SameSite>,
    pub(super) kind: CookieKind,
    pub(super) created: Timestamp,
    pub(super) ends: Option<Timestamp>,
}

impl<'a> EntryView<'a> {
    pub(super) const fn pair(&self) -> CookiePair<'a> {
        CookiePair { name: self.name, value: self.value }
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }

    /// Whether a browser would send it with this request (RFC 6265bis section 5.8.3).
    pub(super) fn goes_to(&self, context: &CookieContext<'_>, now: Timestamp) -> bool {
        let host = context.host.as_bytes();
        let covers = match self.host_only {
            HostOnly::Yes => self.domain.eq_ignore_ascii_case(host),
            HostOnly::No => domain_matches(host, self.domain),
        };
        covers
            && path_matches(context.path.as_bytes(), self.path)
            && (!self.secure || context.channel == Channel::Secure)
            && !self.is_over(now)
            && self.goes_from(context.site, now)
    }

    fn goes_from(&self, site: SiteContext, now: Timestamp) -> bool {
        match (site, self.same_site) {
            (SiteContext::SameSite, _) | (_, Some(SameSite::None)) => true,
            (SiteContext::CrossSiteSafeNavigation, Some(SameSite::Lax) | None) => true,
            (SiteContext::CrossSiteUnsafeNavigation, None) => now.since(self.created) < LAX_ALLOWING_UNSAFE,
            _ => false,
        }
    }

    pub(super) fn to_entry(self) -> Entry {
        Entry {
            name: self.name.into(),
            value: Secret::new(self.value.into()),
            domain: self.domain.into(),
            path: self.path.into(),
            host_only: self.host_only,
            secure: self.secure,
            same_site: self.same_site,
            kind: self.kind,
            created: self.created,
            ends: self.ends,
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        let ends = if self.ends.is_some() { 6 } else { 0 };
        14 + ends + self.domain.len() + self.path.len() + self.name.len() + self.value.len()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let same_site = match self.same_site {
            None => 0,
            Some(SameSite::None) => 1,
            Some(SameSite::Lax) => 2,
            Some(SameSite::Strict) => 3,
        };
        out.push(
            flag(self.secure, SECURE)
                | flag(self.host_only == HostOnly::Yes, HOST_ONLY)
                | flag(self.kind == CookieKind::State, STATE)
                | flag(self.ends.is_some(), ENDS)
                | same_site << SAME_SITE_SHIFT,
        );
        put_time(out, self.created);
        if let Some(ends) = self.ends {
            put_time(out, ends);
        }
        // `JarOp::resolve` and the limits of `SetCookie` keep every length within its field.
        out.push(u8::try_from(self.domain.len()).unwrap_or_default());
        for field in [self.path, self.name, self.value] {
            out.extend_from_slice(&u16::try_from(field.len()).unwrap_or_default().to_be_bytes());
        }
        for field in [self.domain, self.path, self.name, self.value] {
            out.extend_from_slice(field);
        }
    }

    /// Takes one cookie off the front of the bytes.
    pub(super) fn decode(rest: &mut &'a [u8]) -> Option<Self> {
        let [flags] = take_array(rest)?;
        if flags & !FLAGS_ALL != 0 {
            return None;
        }
        let created = take_time(rest)?;
        let ends = if flags & ENDS == 0 { None } else { Some(take_time(rest)?) };
        let [domain] = take_array(rest)?;
        let path = u16::from_be_bytes(take_array(rest)?);
        let name = u16::from_be_bytes(take_array(rest)?);
        let value = u16::from_be_bytes(take_array(rest)?);
        Some(Self {
            domain: take(rest, domain.into())?,
            path: take(rest, path.into())?,
            name: take(rest, name.into())?,
            value: take(rest, value.into())?,
            host_only: if flags & HOST_ONLY == 0 { HostOnly::No } else { HostOnly::Yes },
            secure: flags & SECURE != 0,
            same_site: match flags >> SAME_SITE_SHIFT {
                0 => None,
                1 => Some(SameSite::None),
                2 => Some(SameSite::Lax),
                _ => Some(SameSite::Strict),
            },
            kind: if flags & STATE == 0 { CookieKind::Id } else { CookieKind::State },
            created,
            ends,
        })
    }
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    // 48 bits reach into the year 10889.
    let [high, low, rest @ ..] = time.as_millis().to_be_bytes();
    out.extend_from_slice(if high == 0 && low == 0 { &rest } else { &[0xff; 6] });
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

fn take_time(rest: &mut &[u8]) -> Option<Timestamp> {
    let [a, b, c, d, e, f] = take_array(rest)?;
    Some(Timestamp::from_millis(u64::from_be_bytes([0, 0, a, b, c, d, e, f])))
}
