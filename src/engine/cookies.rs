//! Cookies on both halves: what the app sees of the client's, what the client sees of the app's.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use http::{Method, response};
use smallvec::SmallVec;

use super::admit::{Decided, Request};
use super::bound::{BOUND_COOKIES_MAX, BoundSet};
use super::cache;
use super::recognise::{Draft, edit};
use super::{Admission, Asked, Guard, Holder, Known, Leftover};
use crate::clock::Timestamp;
use crate::connection::Scheme;
use crate::event::field::Dependency;
use crate::event::{ClientText, kinds as event};
use crate::facts::headers::{Navigation, SiteRelation};
use crate::facts::seen;
use crate::secret::{KeyId, Purpose, Secret};
use crate::session::cookie::{
    self, CookieKind, CookiePair, CookiePattern, CookieRole, GuardTransport, SameSite, Scan, SetCookie, UpstreamCookie,
};
use crate::session::expiry;
use crate::session::id::{Ref, SessionDigest, SessionId, cookie_value};
use crate::session::jar::{Channel, CookieContext, Jar, JarChange, JarOp, JarOps, JarRefusal, JarView, SiteContext};
use crate::session::record::{Lasting, Record, State};
use crate::session::seal::{Reseal, SEALED_PREFIX, open_in_session, reseal, seal_in_session};
use crate::session::tag::Tag;
use crate::store::{Durability, Store, StoreError};
use crate::verdict::{Text, Verdict};

static REF: HeaderName = HeaderName::from_static("portcullis-ref");
static SUBJECT: HeaderName = HeaderName::from_static("portcullis-subject");
static RISK: HeaderName = HeaderName::from_static("portcullis-risk");
static SIGNALS: HeaderName = HeaderName::from_static("portcullis-signals");
static AUTHENTICATED_AT: HeaderName = HeaderName::from_static("portcullis-authenticated-at");

/// What is changed about a request before the app sees it.
pub(super) struct Rewrite {
    cookie: UpstreamCookie,
    credentials: Credentials,
    /// Headers of ours that the client made up.
    forged: SmallVec<[HeaderName; 2]>,
    identity: Identity,
}

/// Whether the app is told in headers whose request it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Identity {
    /// It is.
    #[default]
    Told,
    /// It looks at its session itself.
    Untold,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Credentials {
    Kept,
    Withheld,
}

impl Rewrite {
    /// Does it, and tells the app whose request it is.
    pub(super) fn put(self, headers: &mut HeaderMap, admission: &Admission) {
        self.cookie.put(headers);
        if self.credentials == Credentials::Withheld {
            headers.remove(AUTHORIZATION);
        }
        for name in self.forged {
            headers.remove(name);
        }
        if let (Holder::Session(known), Identity::Told) = (&admission.holder, self.identity) {
            put_identity(headers, &known.record, &admission.verdict);
        }
    }
}

impl<S: Store> Guard<S> {
    /// The cookies that the app sees.
    pub(super) fn rewrite(&self, request: &Request<'_>, scan: &Scan<'_>, decided: &Decided) -> Rewrite {
        let adopted = decided.leftovers.iter().filter_map(|leftover| match leftover {
            Leftover::Adopt { name, value } => Some(CookiePair { name, value: value.expose() }),
            Leftover::Expire { .. } => None,
        });
        let (forged, identity) = (self.forged_headers(request), self.identity);
        let Holder::Session(known) = &decided.holder else {
            let credentials = if decided.is_held_back() { Credentials::Withheld } else { Credentials::Kept };
            return Rewrite { cookie: scan.upstream(adopted), credentials, forged, identity };
        };
        let looked = self.look_into(&known.id, &known.record, request.now, |view| {
            let host = request.host.and_then(|host| host.to_str().ok()).unwrap_or_default();
            let pairs: SmallVec<[CookiePair<'_>; 4]> = view.select(context_of(request, host), request.now).collect();
            scan.upstream(pairs.iter().copied())
        });
        let cookie = looked.unwrap_or_else(|| {
            if !known.record.jar.is_empty() {
                let fault = Text::of("the cookies of a session can not be opened: was a key removed too early?");
                self.tell(request, Some(&known.record), event::DependencyFailed { what: Dependency::Store, fault });
            }
            scan.upstream(std::iter::empty())
        });
        // Who was moved away from a session gets nothing of it back but by a login that is seen.
        let held = matches!(known.record.state, State::Held { since, .. }
            if request.now.since(since) <= request.policy.session.quarantine_max);
        let credentials = if held { Credentials::Withheld } else { Credentials::Kept };
        Rewrite { cookie, credentials, forged, identity }
    }

    /// Headers that the app would take for ours, in every spelling that a gateway of apps might fold into it.
    fn forged_headers(&self, request: &Request<'_>) -> SmallVec<[HeaderName; 2]> {
        let names = request.parts.headers.keys().filter(|name| super::control::is_ours(name.as_str()));
        names
            .inspect(|name| self.tell(request, None, event::HeaderSpoofed { header: ClientText::new(name.as_str()) }))
            .cloned()
            .collect()
    }

    /// Looks into the jar of a session; none if it has none or it can not be opened any more.
    fn look_into<T>(
        &self,
        id: &SessionId,
        record: &Record,
        now: Timestamp,
        look: impl FnOnce(JarView<'_>) -> T,
    ) -> Option<T> {
        let open = || self.unseal(Purpose::Jar, &record.jar, (id, &record.digest)).map(Secret::new);
        let look = |plain: &Secret<Vec<u8>>| JarView::decode(plain.expose()).ok().map(look);
        if !self.can_open(&record.jar) {
            return None;
        }
        self.open_jars.with(&record.digest, &record.jar, now, open, look)?
    }

    /// Whether something sealed is under a key of the ring. What is under a key that has left it is closed, even if it lies
    /// open.
    pub(super) fn can_open(&self, sealed: &[u8]) -> bool {
        sealed.first().is_some_and(|id| self.keys.load().has(KeyId(*id)))
    }

    /// What is sealed within a session, in the clear; none if it can not be opened any more.
    pub(super) fn unseal(
        &self,
        purpose: Purpose,
        sealed: &[u8],
        (id, digest): (&SessionId, &SessionDigest),
    ) -> Option<Vec<u8>> {
        let mut bytes = sealed.to_vec();
        let (plain, _) = open_in_session(&self.keys.load(), purpose, id.expose(), &digest.0, &mut bytes).ok()?;
        let length = plain.len();
        // Opened in place, behind what stood before it.
        bytes.copy_within(SEALED_PREFIX..SEALED_PREFIX + length, 0);
        bytes.truncate(length);
        Some(bytes)
    }

    /// The jar of a session; none if it has none or it can not be opened any more.
    pub(super) fn open(&self, id: &SessionId, record: &Record, now: Timestamp) -> Option<Jar> {
        self.look_into(id, record, now, |view| view.to_jar())
    }

    /// Seals the jar and the data of a record that is written anyway under the current key: the one they are under leaves the
    /// ring some day.
    pub(super) fn reseal(&self, id: &SessionId, stored: &Record, now: Timestamp, draft: &mut Draft) {
        let is_due = |sealed| reseal(&self.keys.load(), sealed) == Reseal::Due;
        if is_due(&stored.jar)
            && let Some(Ok(jar)) = self.open(id, stored, now).map(|jar| self.seal(id, &jar))
        {
            edit(draft, stored, Durability::Soon).jar = jar;
        }
        if is_due(&stored.data)
            && let Some(Ok(data)) = self.try_open_data(id, stored, now).map(|data| self.seal_data(id, &data))
        {
            edit(draft, stored, Durability::Soon).data = data;
        }
    }

    /// The sealed form of a jar for the session of an id.
    pub(super) fn seal(&self, id: &SessionId, jar: &Jar) -> Result<Box<[u8]>, StoreError> {
        if jar.is_empty() {
            return Ok(Box::default());
        }
        let mut plain = Vec::with_capacity(jar.encoded_len());
        jar.encode(&mut plain);
        let sealed =
            seal_in_session(&self.keys.load(), Purpose::Jar, &self.entropy, id.expose(), &id.digest().0, &plain);
        zeroize::Zeroize::zeroize(&mut plain);
        sealed.map(Vec::into_boxed_slice).map_err(StoreError::io)
    }

    /// Takes shielded cookies off an answer, notes bound ones, hardens the others.
    pub(super) fn take_cookies(&self, admission: &Admission, response: &mut response::Parts) -> Taken {
        let adopts = admission.leftovers.iter().any(|leftover| matches!(leftover, Leftover::Adopt { .. }));
        let mut taken = Taken { adopts, ..Taken::default() };
        if seen::first(&response.headers, &SET_COOKIE).is_none() {
            return taken;
        }
        let lines: SmallVec<[HeaderValue; 8]> = response.headers.get_all(SET_COOKIE).iter().cloned().collect();
        response.headers.remove(SET_COOKIE);
        for line in lines {
            if let Some(line) = self.sort(admission, response, line, &mut taken) {
                response.headers.append(SET_COOKIE, line);
            }
        }
        // A cache that stays away from an answer for its Set-Cookie must stay away from it without.
        if !taken.ops.is_empty() {
            cache::keep_private(&mut response.headers);
        }
        self.compare(admission, &mut taken);
        taken
    }

    /// Where one `Set-Cookie` line of the app goes: into the jar, or to the client.
    fn sort(
        &self,
        admission: &Admission,
        response: &response::Parts,
        line: HeaderValue,
        taken: &mut Taken,
    ) -> Option<HeaderValue> {
        let cookies = &admission.policy.cookies;
        let Ok(set) = SetCookie::parse(line.as_bytes()) else {
            // A browser would ignore it too; but what it would call itself might be a shielded name.
            return None;
        };
        match cookies.names.role(set.pair.name) {
            Some(CookieRole::Guard | CookieRole::Carried(_)) => {
                self.tell_settled(
                    admission,
                    response.status,
                    event::HeaderSpoofed { header: ClientText::new("set-cookie") },
                );
                None
            }
            Some(CookieRole::Shield(kind)) => {
                if !set.http_only && !set.deletes(admission.now) {
                    let cookie = Text::from(&*String::from_utf8_lossy(set.pair.name));
                    self.tell_settled(admission, response.status, event::ConfigScriptCookie { cookie });
                }
                let context = admission.ask.cookie_context(&admission.policy);
                match JarOp::resolve(&set, &context, kind, admission.now) {
                    Ok(op) => taken.ops.push(op),
                    // A browser drops these too, every day.
                    Err(JarRefusal::CrossSite) => {}
                    Err(refusal) => self.tell_jar(admission, &refusal),
                }
                None
            }
            Some(CookieRole::Bind) => {
                if taken.bound.len() < BOUND_COOKIES_MAX {
                    taken.bound.push(BoundSet::of(&set, admission.now));
                }
                Some(cookie::harden(&line, cookies.hardening).unwrap_or(line))
            }
            None => {
                if set.http_only && !set.deletes(admission.now) && self.advised_cookies.is_new(set.pair.name) {
                    let cookie = Text::from(&*String::from_utf8_lossy(set.pair.name));
                    self.tell_settled(admission, response.status, event::ConfigUnguardedCookie { cookie });
                }
                Some(cookie::harden(&line, cookies.hardening).unwrap_or(line))
            }
        }
    }

    /// What the answer's shielded cookies change in the jar as the request saw it.
    fn compare(&self, admission: &Admission, taken: &mut Taken) {
        if taken.ops.is_empty() {
            return;
        }
        let mut jar = match &admission.holder {
            Holder::Session(known) => self.open(&known.id, &known.record, admission.now).unwrap_or_default(),
            _ => Jar::new(),
        };
        let is_ticket = |name: &[u8]| {
            let logins = &admission.policy.logins;
            logins.iter().filter_map(|login| login.success.sets_cookie.as_ref()).any(|pattern| pattern.matches(name))
        };
        let had_ticket = jar.holds(is_ticket);
        // Of a login that shows elsewhere (in a bound cookie, in a control header) a message that is shown once is no part.
        let is_part_of_login = |kind, since: Option<Timestamp>| {
            let Holder::Session(known) = &admission.holder else { return true };
            let came_later = known.record.authenticated_at.zip(since).is_some_and(|(at, since)| since > at);
            !came_later || kind == CookieKind::Id && known.record.bound.is_empty()
        };
        let mut deleted = false;
        let mut gone: SmallVec<[&[u8]; 4]> = SmallVec::new();
        for op in taken.ops.iter() {
            let since = jar.since(op);
            match jar.apply(op) {
                // Deleted and set again on one answer: another value all the same.
                Ok(JarChange::Added(CookieKind::Id)) if gone.contains(&op.name()) => taken.replaced_id = true,
                Ok(JarChange::Deleted(CookieKind::Id)) => {
                    deleted |= is_ticket(op.name()) || is_part_of_login(CookieKind::Id, since);
                    gone.push(op.name());
                }
                Ok(JarChange::Replaced(CookieKind::Id)) => taken.replaced_id = true,
                Ok(JarChange::Deleted(kind)) => deleted |= is_ticket(op.name()) || is_part_of_login(kind, since),
                Ok(change @ (JarChange::Added(_) | JarChange::Replaced(_))) => {
                    taken.sets_value = true;
                    taken.adds_id |= change == JarChange::Added(CookieKind::Id);
                }
                Ok(JarChange::Unchanged | JarChange::ExpiryOnly | JarChange::Refreshed) => {}
                Err(full) => self.tell_jar(admission, &full),
            }
        }
        taken.emptied = deleted && (jar.is_empty() || had_ticket && !jar.holds(is_ticket));
    }

    /// The jar with what an answer, and the cookies taken over with its request, put into it.
    pub(super) fn jar_of(&self, jar: Option<Jar>, admission: &Admission, taken: &Taken) -> Jar {
        let mut jar = jar.unwrap_or_default();
        let context = admission.ask.cookie_context(&admission.policy);
        for leftover in &admission.leftovers {
            let Leftover::Adopt { name, value } = leftover else { continue };
            let line = [name, &b"="[..], value.expose(), b"; Path=/; HttpOnly"].concat();
            let kind = match admission.policy.cookies.names.role(name) {
                Some(CookieRole::Shield(kind)) => kind,
                _ => CookieKind::Id,
            };
            let op =
                SetCookie::parse(&line).ok().and_then(|set| JarOp::resolve(&set, &context, kind, admission.now).ok());
            // The first cookies of an empty jar fit.
            if let Some(Err(full)) = op.map(|op| jar.apply(&op)) {
                self.tell_jar(admission, &full);
            }
        }
        jar.merge(&taken.ops);
        jar
    }

    /// Writes what an answer changed in the jar of its session.
    pub(super) fn update_jar(
        &self,
        admission: &Admission,
        taken: &Taken,
        (id, stored): (&SessionId, &Record),
        draft: &mut Draft,
    ) -> Result<(), StoreError> {
        if taken.ops.is_empty() {
            return Ok(());
        }
        let mut jar = self.open(id, stored, admission.now).unwrap_or_default();
        let mut due = None;
        for op in taken.ops.iter() {
            match jar.apply(op) {
                // What did not fit was told when the answer came.
                Ok(JarChange::Unchanged | JarChange::ExpiryOnly) | Err(_) => {}
                Ok(
                    JarChange::Added(CookieKind::State) | JarChange::Replaced(CookieKind::State) | JarChange::Refreshed,
                ) => {
                    due.get_or_insert(Durability::Soon);
                }
                Ok(JarChange::Added(CookieKind::Id) | JarChange::Replaced(CookieKind::Id) | JarChange::Deleted(_)) => {
                    due = Some(Durability::Durable);
                }
            }
        }
        let Some(durability) = due else { return Ok(()) };
        edit(draft, stored, durability).jar = self.seal(id, &jar)?;
        Ok(())
    }

    /// Our `Set-Cookie` line for a session and a tag of it.
    pub(super) fn cookie_line(&self, admission: &Admission, known: &Known, tag: &Tag) -> HeaderValue {
        let (max_age, same_site) = self.cookie_terms(admission, &known.id, &known.record);
        let value = cookie_value(&known.id, tag);
        admission.policy.cookies.guard.set_line(value.expose(), max_age, same_site)
    }

    /// How long our cookies for a session last, and their loosest `SameSite`, where the app says so.
    pub(super) fn cookie_terms(
        &self,
        admission: &Admission,
        id: &SessionId,
        record: &Record,
    ) -> (Option<Duration>, Option<SameSite>) {
        let cookies = &admission.policy.cookies;
        let asks_jar =
            cookies.persist == cookie::Persist::App || cookies.guard.same_site() == cookie::GuardSameSite::App;
        let jar = if asks_jar { self.open(id, record, admission.now) } else { None };
        let until = jar.as_ref().and_then(|jar| jar.persistent_until(admission.now));
        let absolute = expiry::absolute_deadline(record, &admission.policy.session.deadlines);
        let max_age = match record.lasting {
            Lasting::Default => cookies.persist.max_age(until, absolute, admission.now),
            Lasting::Browser => None,
            Lasting::Idle(_) | Lasting::Until => Some(absolute.since(admission.now)),
        };
        (max_age, jar.as_ref().and_then(Jar::loosest_same_site))
    }
}

/// What an answer does to the app's cookies.
#[derive(Debug, Default)]
pub(super) struct Taken {
    ops: JarOps,
    pub(super) bound: Vec<BoundSet>,
    /// A shielded cookie of kind `id` got another value.
    pub replaced_id: bool,
    /// The last shielded cookie was deleted, or the last of those that a login sets.
    pub emptied: bool,
    /// A shielded cookie of kind `id` is there that was not.
    pub adds_id: bool,
    /// A shielded cookie was set.
    sets_value: bool,
    /// Cookies from before the guard were taken over with the request.
    adopts: bool,
}

impl Taken {
    /// Whether there is something that only a session can keep.
    pub(super) fn needs_session(&self) -> bool {
        self.sets_value || self.adopts || self.bound.iter().any(|set| set.value.is_some())
    }

    /// Whether cookies from before the guard were taken over with the request.
    pub(super) const fn adopts(&self) -> bool {
        self.adopts
    }

    /// Whether nothing of it concerns the session.
    pub(super) const fn is_nothing(&self) -> bool {
        self.ops.is_empty() && self.bound.is_empty()
    }

    /// Whether any cookie was set, into the jar or on the answer.
    pub(super) fn sets_any(&self, headers: &HeaderMap) -> bool {
        self.ops.iter().any(|op| !op.deletes()) || headers.contains_key(SET_COOKIE)
    }

    /// Whether a cookie of that name was set, into the jar or on the answer.
    pub(super) fn sets(&self, pattern: &CookiePattern, headers: &HeaderMap) -> bool {
        self.ops.iter().any(|op| !op.deletes() && pattern.matches(op.name()))
            || headers.get_all(SET_COOKIE).iter().any(|line| {
                SetCookie::parse(line.as_bytes())
                    .is_ok_and(|set| pattern.matches(set.pair.name) && !set.pair.value.is_empty())
            })
    }
}

impl Asked {
    fn cookie_context(&self, policy: &crate::rules::Policy) -> CookieContext<'_> {
        let host = without_port(self.host.to_str().unwrap_or_default());
        CookieContext {
            host,
            path: self.uri.path(),
            channel: channel(policy, self.client.scheme, host),
            site: self.site,
        }
    }
}

fn context_of<'r>(request: &'r Request<'_>, host: &'r str) -> CookieContext<'r> {
    let host = without_port(host);
    CookieContext {
        host,
        path: request.parts.uri.path(),
        channel: channel(&request.policy, request.client.scheme, host),
        site: request.site,
    }
}

/// Where a request comes from, as far as `SameSite` is concerned. A client that does not say so is let in by our own
/// cookie's `SameSite` or not at all.
pub(super) fn site_of(method: &Method, site: SiteRelation, navigation: Navigation) -> SiteContext {
    match (site, navigation) {
        // Only a page of its own is a top-level navigation; a frame gets the cookies of any other part of a page.
        (SiteRelation::CrossSite, Navigation::Document) if method.is_safe() => SiteContext::CrossSiteSafeNavigation,
        (SiteRelation::CrossSite, Navigation::Document) => SiteContext::CrossSiteUnsafeNavigation,
        (SiteRelation::CrossSite, Navigation::Frame | Navigation::No) => SiteContext::CrossSiteOther,
        _ => SiteContext::SameSite,
    }
}

/// A request that shows our Secure cookie came over a secure channel, whatever we see of it. The host stands there without
/// its port.
fn channel(policy: &crate::rules::Policy, scheme: Scheme, host: &str) -> Channel {
    let ours_is_secure = policy.cookies.guard.transport() == GuardTransport::Secure;
    if ours_is_secure || scheme == Scheme::Https || is_loopback(host) { Channel::Secure } else { Channel::Plain }
}

/// Whether a host, without its port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// What of a `Host` stands before its port.
pub(super) fn without_port(host: &str) -> &str {
    match memchr::memrchr(b':', host.as_bytes()) {
        Some(at) if !host.ends_with(']') => host.get(..at).unwrap_or(host),
        _ => host,
    }
}

/// Tells the app about the session. The values are slices of one buffer: this is done for every request.
fn put_identity(headers: &mut HeaderMap, record: &Record, verdict: &Verdict) {
    let subject = record.subject.as_deref().unwrap_or_default();
    let mut digits = itoa::Buffer::new();
    let at = record.authenticated_at.map(|at| digits.format(at.as_secs()));
    let mut text = Vec::with_capacity(Ref::CHARS + subject.len() + 20);
    record.reference.write_to(&mut text);
    text.extend_from_slice(subject.as_bytes());
    text.extend_from_slice(at.unwrap_or_default().as_bytes());
    let mut rest = Bytes::from(text);
    let mut value = |length: usize| HeaderValue::from_maybe_shared(rest.split_to(length.min(rest.len()))).ok();
    let mut put = |name: &HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            headers.insert(name.clone(), value);
        }
    };
    put(&REF, value(Ref::CHARS));
    put(&SUBJECT, value(subject.len()));
    put(&AUTHENTICATED_AT, value(at.map_or(0, str::len)));
    let level = match verdict.risk {
        risk if risk >= 50.0 => "high",
        risk if risk >= 20.0 => "medium",
        _ => "low",
    };
    put(&RISK, Some(HeaderValue::from_static(level)));
    if !verdict.reasons.is_empty() {
        let names: Vec<&str> = verdict.reasons.iter().map(|reason| reason.kind.as_str()).collect();
        put(&SIGNALS, HeaderValue::try_from(names.join(", ")).ok());
    }
}
