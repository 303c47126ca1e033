//! What no single line can tell: settings that contradict each other, and settings that are weak.
//!
//! A fault is what can not work. A warning is what works and is weaker than it may seem; each says what it costs, so that
//! whoever wants it may have it with open eyes.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::{
    AdminAddress, EventSink, Listen, Login, OnOutage, Pack, Risk, Route, ServerUrl, Settings, SinkTarget, StoreKind,
    StoreServer, SubjectSource,
};
use crate::limit::Spelled;
use crate::rules::diagnostic::{Fault, Level};
use crate::rules::page::Spots;
use crate::session::carried::CARRIED_AGE_MAX;
use crate::session::cookie::{
    COOKIE_LIFETIME_MAX, GuardCookie, GuardCookieError, GuardSameSite, GuardTransport, Persist, SameSite,
};
use crate::verdict::Mode;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Whether everything could be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Yes.
    All,
    /// No: what is missing may be in what could not be read.
    InPart,
}

struct Review<'a> {
    settings: &'a Settings,
    spots: &'a Spots,
    found: Vec<Fault>,
}

pub(super) fn review(settings: &Settings, spots: &Spots, now: Timestamp, read: Read) -> Vec<Fault> {
    let mut review = Review { settings, spots, found: Vec::new() };
    review.cookie();
    review.deadlines();
    review.adoption(now);
    review.shield();
    review.listeners();
    review.trust();
    review.policy();
    review.admin();
    if read == Read::All && settings.upstream.locations.is_empty() {
        let help = "add url = \"http://127.0.0.1:8000\" under [upstream], or say --upstream http://127.0.0.1:8000";
        review.note(Level::Fault, "upstream.url", "there is no app to guard".to_owned(), Some(help));
    }
    review.found
}

impl Review<'_> {
    fn note(&mut self, level: Level, key: &str, message: String, help: Option<&str>) {
        let spot = self.spots.get(key);
        let help = help.map(str::to_owned);
        self.found.push(Fault::new(level, key, message).at(spot).with_help(help));
    }

    fn warn(&mut self, key: &str, message: impl Into<String>) {
        self.note(Level::Warning, key, message.into(), None);
    }

    fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.note(Level::Fault, key, message.into(), None);
    }

    /// The key that was written, of several that may be to blame.
    fn written<'k>(&self, keys: &[&'k str]) -> &'k str {
        let written = keys.iter().find(|key| self.spots.has(key));
        written.or(keys.first()).copied().unwrap_or_default()
    }

    fn cookie(&mut self) {
        let cookie = &self.settings.session.cookie;
        if let Err(why) = GuardCookie::try_new(cookie) {
            let key = match why {
                GuardCookieError::Domain => "session.domain",
                GuardCookieError::NoneOverHttp => "session.same_site",
                GuardCookieError::NeedsSecurePrefix => self.written(&["session.cookie", "session.domain"]),
                _ => self.written(&["session.cookie", "session.insecure_http_cookie"]),
            };
            self.fault(key, why.to_string());
        }
        if cookie.transport == GuardTransport::InsecureHttp {
            let key = "session.insecure_http_cookie";
            match self.settings.listen.iter().find(|listen| !listen.address.ip().is_loopback()) {
                Some(listen) => self.warn(key, format!(
                    "the session cookie is sent without Secure, and {} can be reached from outside: anyone on the way can take it. \
                     Only for development on one machine",
                    listen.address
                )),
                None => self.warn(key, "the session cookie is sent without Secure: only for development on one machine"),
            }
        }
        if cookie.same_site == GuardSameSite::Fixed(SameSite::None) {
            self.warn(
                "session.same_site",
                "any site can make requests with this session (cross-site request forgery); \
                \"lax\" stops that and lets links through",
            );
        }
        if let Some(domain) = &cookie.domain {
            self.warn("session.domain", format!(
                "every host under {domain} is sent the session cookie and can set one; without a domain the cookie is __Host- \
                 and belongs to this host alone"
            ));
        }
    }

    fn deadlines(&mut self) {
        let session = &self.settings.session;
        let (idle, absolute) = (session.deadlines.idle, session.deadlines.absolute);
        if idle > HOUR {
            self.warn("session.idle", format!(
                "{} without use is longer than the hour of NIST SP 800-63B-4 (AAL2); OWASP advises 15 to 30 minutes",
                Spelled(idle)
            ));
        }
        if absolute > DAY {
            self.warn(
                "session.absolute",
                format!(
                    "{} is longer than the 24 hours of NIST SP 800-63B-4 (AAL2); OWASP advises 4 to 8 hours",
                    Spelled(absolute)
                ),
            );
        }
        if idle > absolute {
            self.warn(
                self.written(&["session.idle", "session.absolute"]),
                "`idle` is longer than `absolute`, so it never ends a session",
            );
        }
        if session.persist == Persist::App && absolute > COOKIE_LIFETIME_MAX {
            self.warn(
                self.written(&["session.absolute", "session.persist"]),
                "browsers keep no cookie longer than 400 days (RFC 6265bis), \
                however long the session lasts",
            );
        }
        if session.rotate_every > HOUR {
            self.warn(
                "session.rotate_every",
                "a stolen cookie shows when its tag is superseded; an hour and more is a long time to wait for that",
            );
        }
        if session.grace > Duration::from_secs(300) {
            self.warn("session.grace", "for so long a stolen cookie can be used beside its owner without being evidence; 60s covers slow browsers");
        }
        for (at, route) in self.settings.routes.iter().enumerate() {
            self.route(at, route);
        }
    }

    fn route(&mut self, at: usize, route: &Route) {
        let longest = self.settings.session.deadlines;
        let key = |name: &str| format!("route[{at}].{name}");
        if route.idle.is_some_and(|idle| idle > longest.idle) {
            self.warn(&key("idle"), "longer than that of [session], which ends the session first");
        }
        if route.absolute.is_some_and(|absolute| absolute > longest.absolute) {
            self.warn(&key("absolute"), "longer than that of [session], which ends the session first");
        }
        if route.mode.is_some_and(|mode| mode > self.settings.rules.mode) {
            let mode = self.settings.rules.mode;
            self.warn(
                &key("mode"),
                format!("`mode` of [rules] is the ceiling of all, so this route is in mode \"{mode}\""),
            );
        }
        let is_all = route.pattern.path().matches("/") && route.pattern.path().matches("/a/b");
        if route.mode == Some(Mode::Off) && is_all {
            self.warn(&key("mode"), "no rules and no detectors for any path");
        }
        let acts = self.settings.rules.mode == Mode::Enforce;
        if route.mode == Some(Mode::Observe) && is_all && acts && route.pattern.method().is_none() {
            self.warn(
                &key("mode"),
                "no rule acts on any path: attacks are reported and let through where no other route says otherwise",
            );
        }
        if let Some(packs) = route.packs.as_ref().filter(|_| route.mode != Some(Mode::Off)) {
            let general = &self.settings.rules.packs;
            let missing = general.iter().find(|pack| !packs.iter().any(|own| own.does_all_of(**pack)));
            let missing = missing.filter(|_| self.settings.rules.mode == Mode::Enforce).copied();
            if let Some(missing) = missing {
                self.warn(
                    &key("packs"),
                    format!(
                        "\"{}\" of [rules] is not in force on this route, and no pack here does as much",
                        missing.as_str()
                    ),
                );
            }
        }
        if route.on_outage == Some(OnOutage::Anonymous) {
            self.warn(&key("on_outage"), OUTAGE);
        }
    }

    fn adoption(&mut self, now: Timestamp) {
        let Some(until) = self.settings.session.adopt_until else { return };
        if until <= now {
            self.warn("session.adopt_until", "this lies in the past: nothing is taken over, and the line can go");
        } else if until.since(now) > 30 * DAY {
            self.warn(
                "session.adopt_until",
                "until then a stolen cookie of the app is taken for a session from before the guard; \
                the longest life of such a session is long enough, and more than 30 days is rarely needed",
            );
        }
    }

    fn shield(&mut self) {
        let session = &self.settings.session;
        if session.shield.is_empty() && session.bind.is_empty() {
            let key = self.written(&["session.shield", "session.bind"]);
            self.warn(key, "no cookie of the app is shielded or bound: its sessions are not guarded");
        }
        for (at, name) in session.bind.iter().enumerate() {
            if session.shield.iter().any(|shield| shield.pattern == *name) {
                self.fault(
                    &format!("session.bind[{at}]"),
                    format!("`{name}` is shielded, so the client never has it to be bound"),
                );
            }
        }
        let guard = session.cookie.name.as_bytes();
        for (at, name) in session.shield.iter().enumerate() {
            if name.pattern.matches(guard) {
                self.fault(&format!("session.shield[{at}]"), format!("`{}` is our own cookie", name.pattern));
            }
        }
    }

    fn listeners(&mut self) {
        let insecure = self.settings.session.cookie.transport == GuardTransport::InsecureHttp;
        let trusted = !self.settings.client.trusted_proxies.is_empty();
        let listen = self.settings.listen.clone();
        for (at, Listen { address, tls, proxy_protocol, .. }) in listen.iter().enumerate() {
            let key = format!("listen[{at}].address");
            if listen.iter().take(at).any(|other| other.address == *address && address.port() != 0) {
                self.fault(&key, format!("{address} is listed twice"));
            }
            if tls.is_none() && !address.ip().is_loopback() && !trusted && !insecure {
                self.warn(
                    &key,
                    "plain http on an address that can be reached from outside: browsers send the session cookie over \
                    TLS only. Add tls, or name the proxy that has it in client.trusted_proxies",
                );
            }
            if *proxy_protocol == crate::config::ProxyProtocol::Required && !trusted {
                self.fault(
                    &format!("listen[{at}].proxy_protocol"),
                    "whose PROXY header is to be believed? Name them in client.trusted_proxies",
                );
            }
        }
    }

    fn trust(&mut self) {
        if self.settings.client.ja4_header.is_some() && self.settings.client.trusted_proxies.is_empty() {
            self.warn(
                "client.ja4_header",
                "nobody is believed about it. Name the proxies that send it in client.trusted_proxies",
            );
        }
        for (at, prefix) in self.settings.client.trusted_proxies.iter().enumerate() {
            let wide = if prefix.address().is_ipv4() { 8 } else { 16 };
            if prefix.length() < wide {
                self.warn(&format!("client.trusted_proxies[{at}]"), format!(
                    "{prefix} is much of the internet: anyone in it can claim any address, and limits and evidence by address are void"
                ));
            }
        }
        if self.settings.store.on_outage == OnOutage::Anonymous {
            self.warn("store.on_outage", OUTAGE);
        }
        if self.settings.store.kind == StoreKind::Memory {
            self.warn("store.kind", "sessions in memory are gone after a restart: everyone has to log in again");
        }
        if matches!(self.settings.store.kind, StoreKind::Sealed(_)) {
            self.sealed();
        } else if self.spots.has("store.ended") {
            self.warn("store.ended", "it is for the store \"sealed\", and of no use here");
        }
        if let Some(server) = self.settings.store.kind.server() {
            self.server(server);
        } else {
            for key in ["store.url", "store.url_env", "store.cache", "store.timeout", "store.prefix"] {
                if self.spots.has(key) {
                    self.warn(key, "it is for a store in Redis or in a database, and of no use here");
                }
            }
        }
    }

    fn sealed(&mut self) {
        if self.settings.session.deadlines.idle > CARRIED_AGE_MAX {
            self.warn(
                "session.idle",
                format!(
                    "with the store \"sealed\" a session that is not used for {} is over, whatever is said here",
                    Spelled(CARRIED_AGE_MAX)
                ),
            );
        }
        if self.settings.session.per_subject_max.is_some() {
            self.warn("session.per_subject_max", "of a store \"sealed\" a guard counts the sessions that it has seen: after a restart, and where there are several guards, there may be more");
        }
    }

    fn server(&mut self, server: &StoreServer) {
        let grace = self.settings.session.grace;
        if server.cache.is_some_and(|cache| cache >= grace) {
            let why = format!(
                "it must be shorter than `session.grace` ({} s): another node may have superseded a tag that this one still \
                 takes for the newest",
                grace.as_secs()
            );
            self.fault("store.cache", why);
        }
        if matches!(&server.url, ServerUrl::Given(url) if has_password(url)) {
            self.warn("store.url", "whoever can read this file can read the password: put the URL into a variable, and its name into `url_env`");
        }
    }

    fn policy(&mut self) {
        let rules = &self.settings.rules;
        let risk = rules.risk;
        let steps = [
            ("observe", risk.observe),
            ("rotate", risk.rotate),
            ("quarantine", risk.quarantine),
            ("terminate", risk.terminate),
        ];
        for ((lower, low), (higher, high)) in steps.iter().zip(steps.iter().skip(1)) {
            if low > high {
                let (left, right) = (format!("rules.risk.{lower}"), format!("rules.risk.{higher}"));
                let key = if self.spots.has(&left) { left } else { right };
                self.fault(&key, format!("`{lower}` ({low}) must not need more points than `{higher}` ({high})"));
            }
        }
        if steps.is_sorted_by_key(|(_, points)| *points) {
            self.thresholds(steps);
        }
        if rules.mode != Mode::Enforce && self.spots.has("rules.mode") {
            self.warn(
                "rules.mode",
                format!(
                    "in mode \"{}\" no rule acts: attacks are {}",
                    rules.mode,
                    if rules.mode == Mode::Observe { "reported and let through" } else { "not even reported" }
                ),
            );
        }
        if rules.mode != Mode::Off && rules.packs.is_empty() {
            self.warn("rules.packs", "without a pack only your own rules weigh evidence where no route names one");
        } else if rules.mode == Mode::Enforce && rules.packs.iter().all(|pack| *pack == Pack::Observe1) {
            self.warn(
                "rules.packs",
                "\"observe@1\" alone never acts: attacks are reported and let through where no route names another pack",
            );
        }
        if self.settings.limits.client.is_none() {
            self.warn("limits.client", "one client may send as many requests as it can");
        }
        if self.settings.limits.anonymous_sessions.is_none() {
            self.warn("limits.anonymous_sessions", "anyone may fill the store with sessions");
        }
        let settings = self.settings;
        for (at, login) in settings.logins.iter().enumerate() {
            self.login(at, login);
        }
        self.sinks();
    }

    fn sinks(&mut self) {
        let events = &self.settings.events;
        if events.sinks.is_empty() && events.journal.is_none() {
            self.warn("events.sink", "events go nowhere");
        }
        for (at, sink) in events.sinks.iter().enumerate() {
            let before = || events.sinks.iter().take(at);
            let key = |key: &str| format!("events.sink[{at}].{key}");
            let is_remote = |sink: &EventSink| matches!(sink.target, SinkTarget::Remote(_));
            if !is_remote(sink) {
                if before().any(|other| other.target == sink.target) {
                    let at = if sink.target == SinkTarget::Stdout { key("type") } else { key("path") };
                    self.fault(&at, "two sinks would write into each other's lines");
                }
                continue;
            }
            if before().any(|other| is_remote(other) && other.name == sink.name) {
                self.fault(&key("name"), "two sinks have this name: how far each has come is kept under it");
            }
            if events.journal.is_none() {
                let what = "events are sent from the journal, so that none is lost, and there is none: [events] needs `journal`";
                self.fault(&key("type"), what);
            }
            if let Some(part) = sink.asks_for_more(events.privacy) {
                let what = "the journal does not show it so, see [events.privacy]";
                self.fault(&key(&format!("privacy.{part}")), what);
            }
        }
    }

    /// Thresholds above those that the weights of the packs were chosen for.
    fn thresholds(&mut self, steps: [(&str, u32); 4]) {
        let usual = Risk::default();
        let usual_steps = [usual.observe, usual.rotate, usual.quarantine, usual.terminate];
        for ((name, points), usual) in steps.into_iter().zip(usual_steps) {
            if points > usual {
                self.warn(
                    &format!("rules.risk.{name}"),
                    format!("the points of the packs are chosen for {usual}: with {points}, less is done about the same evidence"),
                );
            }
        }
        let factor = self.settings.rules.risk.sensitive_factor;
        if factor > usual.sensitive_factor {
            self.warn(
                "rules.risk.sensitive_factor",
                format!("above {}, sensitive routes tolerate more than the packs mean them to", usual.sensitive_factor),
            );
        }
    }

    fn login(&mut self, at: usize, login: &Login) {
        let key = |name: &str| format!("login[{at}].{name}");
        if login.limit.per_client.is_none() && login.limit.per_subject.is_none() {
            self.warn(&key("limit"), "passwords may be guessed here without limit");
        }
        if login.route.method().is_none() {
            self.warn(
                &key("route"),
                format!("each look at the form counts as an attempt to log in; write \"POST {}\"", login.route),
            );
        }
        let success = &login.success;
        let told_apart =
            !success.location.is_empty() || !success.location_not.is_empty() || success.set_cookie.is_some();
        // An API says by its status what came of it; a form shows itself again, or sends the browser back to it.
        let is_form = match login.subject {
            SubjectSource::Form(_) => true,
            SubjectSource::None => success.status.iter().any(|status| *status < 300),
            SubjectSource::Json(_) | SubjectSource::Header(_) => false,
        };
        if told_apart || !is_form {
            return;
        }
        let (success, route) = (self.written(&[&key("success"), &key("route")]).to_owned(), login.route.path());
        if login.success.status.iter().any(|status| *status < 300) {
            self.warn(
                &success,
                "an app that answers 200 with the form to a wrong password has logged somebody in by that; add to `success` \
                 what only a right one brings: set_cookie = \"NAME\", or status = 302 with location_not",
            );
        } else {
            self.warn(
                &success,
                format!(
                    "an app that leads back to its form after a wrong password has logged somebody in by that; \
                     add location_not = \"{route}\" to `success`"
                ),
            );
        }
    }

    fn admin(&mut self) {
        let AdminAddress::Tcp(address) = self.settings.admin.address else { return };
        let clash = |listen: &Listen| {
            let (ip, own) = (listen.address.ip(), address.ip());
            listen.address.port() == address.port() && (ip == own || ip.is_unspecified() || own.is_unspecified())
        };
        if address.port() != 0 && self.settings.listen.iter().any(clash) {
            self.fault(
                "admin.address",
                "this is the public address; the operator's must be another, best 127.0.0.1:9090 or unix:PATH",
            );
        } else if !address.ip().is_loopback() {
            self.warn(
                "admin.address",
                "the operator's port can be reached from outside; it has a token and no TLS, so bind it to loopback",
            );
        }
    }
}

const OUTAGE: &str = "while the store is down, requests reach the app as a stranger's instead of being refused";

/// Whether a URL has a password in it.
fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}
