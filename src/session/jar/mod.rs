//! The app's cookies that the client never sees: one jar per session, with the semantics of a browser's jar.
//!
//! A request reads the jar as a [`JarView`], which borrows the opened bytes and copies nothing; only an answer that
//! changes the jar makes an owned [`Jar`]. What an app hosts below one domain is trusted with that domain: there is no
//! list of public suffixes here, as the jar's cookies go to the hosts behind this guard and nowhere else.

mod entry;
mod scope;

use std::fmt;

use super::cookie::{CookieKind, CookiePair, Expiry, SameSite, SetCookie};
use crate::clock::Timestamp;
use crate::secret::Secret;
use entry::{Entry, EntryView, HostOnly};
use scope::{default_path, domain_matches, is_lone, keeps_prefix_rules};

/// Most cookies in one jar: what a browser is sure to keep for one domain (RFC 6265 section 6.1).
pub const JAR_COOKIES_MAX: usize = 50;

/// Most octets of a jar in its stored form (drawn in `entry.rs`).
pub const JAR_BYTES_MAX: usize = 16 * 1024;

/// The version of the stored form, its first octet; the second is the number of cookies.
const VERSION: u8 = 1;

/// Whether the browser holds the channel for secure. A request that shows our Secure cookie came over such a channel,
/// whatever the guard sees of it behind a TLS terminator; so did one for a loopback host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// TLS, or what browsers treat alike.
    Secure,
    /// Plain http.
    Plain,
}

/// Where a request comes from, as far as `SameSite` is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteContext {
    /// The same site, or a person's own doing (address bar, bookmark).
    SameSite,
    /// Another site, by a navigation with a safe method: a link that was followed.
    CrossSiteSafeNavigation,
    /// Another site, by a navigation with any other method: a form that was posted.
    CrossSiteUnsafeNavigation,
    /// Another site, by anything but a navigation.
    CrossSiteOther,
}

/// The request whose cookies are looked for, or whose answer sets some.
#[derive(Clone, Copy, Debug)]
pub struct CookieContext<'a> {
    /// Host name without port, in any case.
    pub host: &'a str,
    /// Path as it was sent, without the query.
    pub path: &'a str,
    /// How the browser sees the channel.
    pub channel: Channel,
    /// Where the request comes from.
    pub site: SiteContext,
}

/// Why a browser would not keep a cookie, and so neither does the jar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JarRefusal {
    /// It has no name.
    #[error("the cookie has no name")]
    Nameless,
    /// Its `Domain` is not the host nor above it, or is a single label.
    #[error("the cookie's Domain does not cover the host")]
    Domain,
    /// It is Secure and came over plain http.
    #[error("a Secure cookie came over plain http")]
    PlainChannel,
    /// Its name has a prefix whose rules it breaks.
    #[error("the cookie breaks the rules of its name's prefix")]
    Prefix,
    /// It is for the same site and came with an answer to another site's request.
    #[error("a SameSite cookie came with the answer to another site's request")]
    CrossSite,
    /// Host or path are longer than any that a browser keeps.
    #[error("the host or path of the cookie is too long")]
    TooLong,
}

/// A limit of the jar that a cookie would have passed; the cookie was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JarFull {
    /// [`JAR_COOKIES_MAX`].
    #[error("the jar holds {JAR_COOKIES_MAX} cookies already")]
    Cookies,
    /// [`JAR_BYTES_MAX`].
    #[error("the jar would grow beyond {JAR_BYTES_MAX} octets")]
    Bytes,
}

/// Bytes that are no jar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JarDecodeError {
    /// A version that this program does not know.
    #[error("the jar has a format this version does not know")]
    Version,
    /// Anything else.
    #[error("the jar is damaged")]
    Damaged,
}

/// What a change did to the jar, the least of it first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum JarChange {
    /// Nothing.
    #[default]
    Unchanged,
    /// Nothing but an end moved, by less than a tenth of the time left. Not worth a write: throw the changed jar away,
    /// so that the next move is measured from the end that is stored.
    ExpiryOnly,
    /// The same value with another end or other attributes.
    Refreshed,
    /// A new cookie.
    Added(CookieKind),
    /// Another value: for kind `id` perhaps a login.
    Replaced(CookieKind),
    /// A cookie was taken away: for kind `id` perhaps a logout.
    Deleted(CookieKind),
}

/// What several changes did together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The greatest change.
    pub change: JarChange,
    /// The last limit that left a cookie out.
    pub full: Option<JarFull>,
}

/// One change, resolved against its request, so that it can be applied again to a newer jar.
#[derive(Clone)]
pub struct JarOp {
    at: Timestamp,
    cookie: Entry,
}

/// The changes of one answer, in order.
#[derive(Clone, Debug, Default)]
pub struct JarOps(Vec<JarOp>);

impl JarOp {
    /// What the line means for a jar.
    ///
    /// # Errors
    /// When a browser would not keep the cookie.
    pub fn resolve(
        set: &SetCookie<'_>,
        context: &CookieContext<'_>,
        kind: CookieKind,
        now: Timestamp,
    ) -> Result<Self, JarRefusal> {
        if set.pair.name.is_empty() {
            return Err(JarRefusal::Nameless);
        }
        let host = context.host.as_bytes();
        let (domain, host_only) = match set.domain.filter(|domain| !domain.is_empty()) {
            None => (host, HostOnly::Yes),
            // A domain that is the host itself, even an address or a single label, means this host alone there.
            Some(domain) if is_lone(domain) && domain.eq_ignore_ascii_case(host) => (host, HostOnly::Yes),
            Some(domain) if is_lone(domain) || !domain_matches(host, domain) => return Err(JarRefusal::Domain),
            Some(domain) => (domain, HostOnly::No),
        };
        if set.secure && context.channel == Channel::Plain {
            return Err(JarRefusal::PlainChannel);
        }
        if !keeps_prefix_rules(set) {
            return Err(JarRefusal::Prefix);
        }
        if context.site == SiteContext::CrossSiteOther && set.same_site != Some(SameSite::None) {
            return Err(JarRefusal::CrossSite);
        }
        let path = set.path.unwrap_or_else(|| default_path(context.path.as_bytes()));
        if u8::try_from(domain.len()).is_err() || u16::try_from(path.len()).is_err() {
            return Err(JarRefusal::TooLong);
        }
        let ends = match set.expiry(now) {
            Expiry::Session => None,
            Expiry::At(time) => Some(time),
        };
        let cookie = Entry {
            name: set.pair.name.into(),
            value: Secret::new(set.pair.value.into()),
            domain: domain.to_ascii_lowercase().into_boxed_slice(),
            path: path.into(),
            host_only,
            secure: set.secure,
            same_site: set.same_site,
            kind,
            created: now,
            ends,
        };
        Ok(Self { at: now, cookie })
    }

    /// The name of the cookie it changes.
    pub fn name(&self) -> &[u8] {
        &self.cookie.name
    }

    /// Whether it takes the cookie away.
    pub fn deletes(&self) -> bool {
        self.cookie.as_view().is_over(self.at)
    }
}

impl fmt::Debug for JarOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.deletes() { "delete" } else { "put" };
        write!(f, "JarOp({verb} {})", self.cookie.name.escape_ascii())
    }
}

impl JarOps {
    /// Adds one at the end.
    pub fn push(&mut self, op: JarOp) {
        self.0.push(op);
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = &JarOp> {
        self.0.iter()
    }
}

/// The cookies of one session, owned. `Debug` shows how many there are.
#[derive(Clone, Default)]
pub struct Jar {
    /// In the order in which a browser sends them.
    entries: Vec<Entry>,
}

impl Jar {
    /// A jar with nothing in it.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When it is no jar of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, JarDecodeError> {
        JarView::decode(bytes).map(|view| view.to_jar())
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        out.push(VERSION);
        // The limit keeps the count far below 255, and the lengths of an entry within their fields.
        out.push(u8::try_from(self.entries.len()).unwrap_or(u8::MAX));
        for entry in self.entries.iter().take(usize::from(u8::MAX)) {
            entry.as_view().encode(out);
        }
    }

    /// Octets of the stored form.
    pub fn encoded_len(&self) -> usize {
        2 + self.entries.iter().map(|entry| entry.as_view().encoded_len()).sum::<usize>()
    }

    /// Number of cookies.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it has a cookie of such a name.
    pub fn holds(&self, is_meant: impl Fn(&[u8]) -> bool) -> bool {
        self.entries.iter().any(|entry| is_meant(&entry.name))
    }

    /// Since when the cookie is there that a change is about.
    pub fn since(&self, op: &JarOp) -> Option<Timestamp> {
        self.entries.iter().find(|entry| entry.is_same_cookie(&op.cookie)).map(|entry| entry.created)
    }

    /// Makes one change.
    ///
    /// # Errors
    /// When the cookie would pass a limit; the jar is then as it was, but for cookies that had ended.
    pub fn apply(&mut self, op: &JarOp) -> Result<JarChange, JarFull> {
        let cookie = &op.cookie;
        let known = self.entries.iter().position(|entry| entry.is_same_cookie(cookie));
        match known {
            None if op.deletes() => Ok(JarChange::Unchanged),
            Some(place) if op.deletes() => Ok(JarChange::Deleted(self.entries.remove(place).kind)),
            None => self.add(op),
            Some(place) => self.replace(place, op),
        }
    }

    /// Makes all the changes of an answer; a cookie that passes a limit is left out and the others go on.
    pub fn merge(&mut self, ops: &JarOps) -> Merged {
        let mut merged = Merged::default();
        for op in ops.iter() {
            match self.apply(op) {
                Ok(change) => merged.change = merged.change.max(change),
                Err(full) => merged.full = Some(full),
            }
        }
        merged
    }

    /// The end of the cookie that lasts longest, if any outlives the browser's session.
    pub fn persistent_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.entries.iter().filter_map(|entry| entry.ends).max().filter(|ends| *ends > now)
    }

    /// The loosest `SameSite` of its cookies; one without counts as `Lax`.
    pub fn loosest_same_site(&self) -> Option<SameSite> {
        self.entries.iter().map(|entry| entry.same_site.unwrap_or(SameSite::Lax)).min()
    }

    /// The cookies for a request, in the order in which a browser sends them.
    pub fn select<'a>(
        &'a self,
        context: CookieContext<'a>,
        now: Timestamp,
    ) -> impl Iterator<Item = CookiePair<'a>> + Clone {
        let entries = self.entries.iter().map(Entry::as_view);
        entries.filter(move |entry| entry.goes_to(&context, now)).map(|entry| entry.pair())
    }

    fn add(&mut self, op: &JarOp) -> Result<JarChange, JarFull> {
        let cookie = &op.cookie;
        self.entries.retain(|entry| !entry.as_view().is_over(op.at));
        if self.entries.len() >= JAR_COOKIES_MAX {
            return Err(JarFull::Cookies);
        }
        if self.encoded_len() + cookie.as_view().encoded_len() > JAR_BYTES_MAX {
            return Err(JarFull::Bytes);
        }
        let place = self.entries.iter().position(|entry| cookie.goes_before(entry)).unwrap_or(self.entries.len());
        self.entries.insert(place, cookie.clone());
        Ok(JarChange::Added(cookie.kind))
    }

    fn replace(&mut self, place: usize, op: &JarOp) -> Result<JarChange, JarFull> {
        let length = self.encoded_len();
        let Some(old) = self.entries.get_mut(place) else { return Ok(JarChange::Unchanged) };
        let grown = op.cookie.as_view().encoded_len().saturating_sub(old.as_view().encoded_len());
        if grown > 0 && length + grown > JAR_BYTES_MAX {
            return Err(JarFull::Bytes);
        }
        // A cookie keeps its age when it gets a new value (RFC 6265bis section 5.7), and so its place.
        let new = Entry { created: old.created, ..op.cookie.clone() };
        let change = old.change_to(&new, op.at);
        *old = new;
        Ok(change)
    }
}

impl fmt::Debug for Jar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jar({} cookies)", self.entries.len())
    }
}

/// A jar in its opened bytes: checked once, then read without copying. `Debug` shows how many cookies there are.
#[derive(Clone, Copy)]
pub struct JarView<'a> {
    count: u8,
    entries: &'a [u8],
}

impl<'a> JarView<'a> {
    /// A jar with nothing in it.
    pub const EMPTY: JarView<'static> = JarView { count: 0, entries: &[] };

    /// Checks the form of the bytes. Their content is what [`JarOp::resolve`] let in, as long as they were sealed.
    ///
    /// # Errors
    /// When they are no jar of a known version.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, JarDecodeError> {
        let [version, rest @ ..] = bytes else { return Err(JarDecodeError::Damaged) };
        if *version != VERSION {
            return Err(JarDecodeError::Version);
        }
        let [count, entries @ ..] = rest else { return Err(JarDecodeError::Damaged) };
        let mut rest = entries;
        for _ in 0..*count {
            EntryView::decode(&mut rest).ok_or(JarDecodeError::Damaged)?;
        }
        if !rest.is_empty() || usize::from(*count) > JAR_COOKIES_MAX || bytes.len() > JAR_BYTES_MAX {
            return Err(JarDecodeError::Damaged);
        }
        Ok(Self { count: *count, entries })
    }

    /// Number of cookies.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The cookies for a request, in the order in which a browser sends them. Allocates nothing.
    pub fn select(&self, context: CookieContext<'a>, now: Timestamp) -> impl Iterator<Item = CookiePair<'a>> + Clone {
        self.entries().filter(move |entry| entry.goes_to(&context, now)).map(|entry| entry.pair())
    }

    /// The end of the cookie that lasts longest, if any outlives the browser's session.
    pub fn persistent_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.entries().filter_map(|entry| entry.ends).max().filter(|ends| *ends > now)
    }

    /// The loosest `SameSite` of its cookies; one without counts as `Lax`.
    pub fn loosest_same_site(&self) -> Option<SameSite> {
        self.entries().map(|entry| entry.same_site.unwrap_or(SameSite::Lax)).min()
    }

    /// An owned jar, to be changed.
    pub fn to_jar(&self) -> Jar {
        Jar { entries: self.entries().map(|entry| entry.to_entry()).collect() }
    }

    fn entries(&self) -> impl Iterator<Item = EntryView<'a>> + Clone {
        let mut rest = self.entries;
        std::iter::from_fn(move || EntryView::decode(&mut rest))
    }
}

impl fmt::Debug for JarView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JarView({} cookies)", self.count)
    }
}

#[cfg(test)]
mod tests;
