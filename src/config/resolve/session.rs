//! `[session]`.

use std::path::Path;
use std::time::Duration;

use crate::config::{Preset, Session};
use crate::rules::page::{Reader, Value, set};
use crate::rules::{ExactHints, Memory};
use crate::session::cookie::{
    Add, CookieKind, CookiePattern, GuardCookie, GuardCookieSettings, GuardSameSite, GuardTransport, Hardening,
    Persist, SameSite, ShieldName,
};
use crate::session::expiry::Deadlines;
use crate::store::{OnLimit, SubjectLimit};

/// Our cookie's name when it is shared by several hosts.
const SHARED_NAME: &str = "__Secure-portcullis";

pub(super) fn defaults() -> Session {
    Session {
        cookie: GuardCookieSettings::default(),
        persist: Persist::Session,
        shield: known_cookies(),
        bind: Vec::new(),
        memory: Memory::Devices,
        hints: ExactHints::Unasked,
        harden: Hardening::default(),
        deadlines: Deadlines {
            idle: Duration::from_secs(30 * 60),
            absolute: Duration::from_secs(12 * 3600),
            longest: None,
        },
        rotate_every: Duration::from_secs(120),
        grace: Duration::from_secs(60),
        per_subject_max: None,
        adopt_until: None,
        quarantine_max: Duration::from_secs(600),
    }
}

/// The session cookies of all presets: what is shielded as long as nobody says which app it is.
fn known_cookies() -> Vec<ShieldName> {
    let mut known: Vec<ShieldName> = Vec::new();
    for preset in Preset::ALL {
        crate::rules::page::page(preset.as_str(), preset.text(), Path::new(""), |reader| {
            let read = reader.table("session", |reader| reader.value("shield").and_then(|value| shield(&value)));
            for name in read.flatten().unwrap_or_default() {
                if !known.iter().any(|other| other.pattern == name.pattern) {
                    known.push(name);
                }
            }
        });
    }
    known
}

pub(super) fn read(reader: &Reader<'_>, session: &mut Session) {
    cookie(reader, &mut session.cookie);
    set(&mut session.persist, reader.word("persist", &[("session", Persist::Session), ("app", Persist::App)]));
    set(&mut session.shield, reader.value("shield").and_then(|value| shield(&value)));
    if let Some(value) = reader.value("bind") {
        set(&mut session.bind, value.list("a list of cookie names", |value| pattern(&value)));
    }
    let remembers = |remembers| if remembers { Memory::Devices } else { Memory::Nothing };
    set(&mut session.memory, reader.flag("remember_devices").map(remembers));
    let asks = |asks| if asks { ExactHints::Asked } else { ExactHints::Unasked };
    set(&mut session.hints, reader.flag("accept_ch").map(asks));
    set(&mut session.harden, reader.table("harden", harden));
    set(&mut session.deadlines.idle, reader.some_time("idle"));
    set(&mut session.deadlines.absolute, reader.some_time("absolute"));
    set(&mut session.rotate_every, reader.some_time("rotate_every"));
    set(&mut session.grace, reader.some_time("grace"));
    set(&mut session.per_subject_max, reader.table("per_subject_max", subject_limit).flatten().map(Some));
    set(&mut session.adopt_until, reader.value("adopt_until").and_then(|value| value.date()).map(Some));
    set(&mut session.quarantine_max, reader.some_time("quarantine_max"));
}

fn cookie(reader: &Reader<'_>, cookie: &mut GuardCookieSettings) {
    let name = reader.value("cookie");
    let words = [
        ("lax", GuardSameSite::Fixed(SameSite::Lax)),
        ("strict", GuardSameSite::Fixed(SameSite::Strict)),
        ("none", GuardSameSite::Fixed(SameSite::None)),
        ("app", GuardSameSite::App),
    ];
    set(&mut cookie.same_site, reader.word("same_site", &words));
    let domain = reader.value("domain");
    let domain = domain.and_then(|value| value.text("a host name such as \"example.com\""));
    set(&mut cookie.domain, domain.map(|domain| (!domain.is_empty()).then(|| domain.to_owned())));
    if let Some(insecure) = reader.flag("insecure_http_cookie") {
        cookie.transport = if insecure { GuardTransport::InsecureHttp } else { GuardTransport::Secure };
    }
    if let Some(name) = name.as_ref().and_then(|value| value.text("a cookie name")) {
        name.clone_into(&mut cookie.name);
    } else if is_default(&cookie.name) {
        // Nobody chose a name, so it is the one that goes with the rest.
        let name = match (cookie.transport, &cookie.domain) {
            (GuardTransport::InsecureHttp, _) => GuardCookie::INSECURE_NAME,
            (GuardTransport::Secure, Some(_)) => SHARED_NAME,
            (GuardTransport::Secure, None) => GuardCookie::NAME,
        };
        name.clone_into(&mut cookie.name);
    }
}

fn is_default(name: &str) -> bool {
    [GuardCookie::NAME, GuardCookie::INSECURE_NAME, SHARED_NAME].contains(&name)
}

fn shield(value: &Value<'_>) -> Option<Vec<ShieldName>> {
    value.list("a list of cookie names", |value| {
        if !value.is_table() {
            return pattern(&value).map(|pattern| ShieldName { pattern, kind: CookieKind::Id });
        }
        value.table(|reader| {
            let words = [("id", CookieKind::Id), ("state", CookieKind::State)];
            let kind = reader.word("kind", &words).unwrap_or_default();
            let name = reader.value("name");
            if name.is_none() {
                reader.missing("name", "such as { name = \"laravel_session\", kind = \"state\" }");
            }
            name.and_then(|value| pattern(&value)).map(|pattern| ShieldName { pattern, kind })
        })?
    })
}

fn pattern(value: &Value<'_>) -> Option<CookiePattern> {
    value.parsed("a cookie name in quotes", CookiePattern::parse)
}

fn harden(reader: &Reader<'_>) -> Hardening {
    let add = |key| match reader.flag(key) {
        Some(true) => Add::IfAbsent,
        Some(false) | None => Add::Never,
    };
    let words = [("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];
    Hardening { secure: add("secure"), http_only: add("http_only"), same_site: reader.word("same_site", &words) }
}

fn subject_limit(reader: &Reader<'_>) -> Option<SubjectLimit> {
    let words = [("refuse", OnLimit::Refuse), ("evict_oldest", OnLimit::EvictOldest), ("report", OnLimit::Report)];
    let on_limit = reader.word("on_limit", &words).unwrap_or(OnLimit::EvictOldest);
    let Some(value) = reader.value("sessions") else {
        reader.missing("sessions", "such as per_subject_max = { sessions = 5, on_limit = \"evict_oldest\" }");
        return None;
    };
    let sessions = value.whole::<u32>(1..=1_000_000).and_then(std::num::NonZeroU32::new)?;
    Some(SubjectLimit { sessions, on_limit })
}
