//! `[[login]]`, `[[logout]]` and `[[route]]`.

use std::time::Duration;

use http::HeaderName;

use super::policy::{MODES, packs};
use super::store::ON_OUTAGE;
use crate::config::{Activity, Login, Route, Sensitivity, SubjectSource, Success};
use crate::facts::route::{CaseSensitivity, PathPattern, RoutePattern};
use crate::limit::{DELAY_MAX, KnownDevice, LoginLimit, Spelled};
use crate::rules::page::{Reader, Value, set};
use crate::session::cookie::CookiePattern;

pub(super) fn logins(reader: &Reader<'_>, logins: &mut Vec<Login>) {
    let read = reader.tables("login", |reader| {
        let route = route(reader, "route", "such as route = \"POST /login\"");
        let success = reader.table("success", success).unwrap_or_else(|| Success {
            status: vec![302, 303],
            location: Vec::new(),
            location_not: Vec::new(),
            set_cookie: None,
        });
        let subject = reader.value("subject").and_then(|value| value.parsed(SUBJECT, subject));
        let limit = reader.value("limit").map_or_else(|| Some(LoginLimit::default()), |value| login_limit(&value));
        Some(Login { route: route?, success, subject: subject.unwrap_or(SubjectSource::None), limit: limit? })
    });
    set(logins, read);
}

const SUBJECT: &str = "\"form:NAME\", \"json:/POINTER\", \"header:NAME\" or \"none\"";

fn subject(text: &str) -> Result<SubjectSource, String> {
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    let read = match text.split_once(':') {
        Some(("form", name)) => named(name).map(SubjectSource::Form),
        Some(("json", pointer)) if pointer.starts_with('/') => Some(SubjectSource::Json(pointer.to_owned())),
        Some(("header", name)) => HeaderName::from_bytes(name.as_bytes()).ok().map(SubjectSource::Header),
        None if text == "none" => Some(SubjectSource::None),
        _ => None,
    };
    read.ok_or_else(|| format!("expected {SUBJECT}"))
}

fn success(reader: &Reader<'_>) -> Success {
    let status = reader.value("status").and_then(|value| {
        let read = if value.is_number() {
            value.whole(100..=599).map(|one| vec![one])
        } else {
            value.list("a list of statuses, such as [302, 303]", |value| value.whole(100..=599))
        };
        if read.as_ref().is_some_and(Vec::is_empty) {
            value.fault("expected at least one status, such as [302, 303]", None);
        }
        read
    });
    let paths = |key| {
        let value = reader.value(key)?;
        value.one_or_more("a path such as \"/login\", or a list of them", |text| {
            PathPattern::parse(text, CaseSensitivity::default())
        })
    };
    let set_cookie = reader.value("set_cookie").and_then(|value| value.parsed("a cookie name", CookiePattern::parse));
    Success {
        status: status.unwrap_or_else(|| vec![302, 303]),
        location: paths("location").unwrap_or_default(),
        location_not: paths("location_not").unwrap_or_default(),
        set_cookie,
    }
}

fn login_limit(value: &Value<'_>) -> Option<LoginLimit> {
    if !value.is_table() {
        let expected = "{ per_client = \"10/1m burst 3\", per_subject = \"5/5m burst 3\" } or \"off\"";
        let off =
            LoginLimit { per_client: None, per_subject: None, delay_max: Duration::ZERO, ..LoginLimit::default() };
        return value
            .parsed(expected, |text| (text == "off").then_some(off).ok_or_else(|| format!("expected {expected}")));
    }
    value.table(|reader| {
        let mut limit = LoginLimit::default();
        set(&mut limit.per_client, reader.rate("per_client"));
        set(&mut limit.per_subject, reader.rate("per_subject"));
        if let Some(value) = reader.value("delay_max") {
            let delay = value.duration();
            if delay.is_some_and(|delay| delay > DELAY_MAX) {
                value.fault(&format!("expected at most \"{}\"", Spelled(DELAY_MAX)), None);
            }
            set(&mut limit.delay_max, delay);
        }
        let words = [("exempt from per_subject", KnownDevice::Exempt), ("counted", KnownDevice::Counted)];
        set(&mut limit.known_device, reader.word("known_device", &words));
        limit
    })
}

pub(super) fn logouts(reader: &Reader<'_>, logouts: &mut Vec<RoutePattern>) {
    let read = reader.tables("logout", |reader| route(reader, "route", "such as route = \"POST /logout\""));
    set(logouts, read);
}

fn route(reader: &Reader<'_>, key: &'static str, example: &str) -> Option<RoutePattern> {
    let Some(value) = reader.value(key) else {
        reader.missing(key, example);
        return None;
    };
    value.parsed("a route such as \"POST /login\"", |text| RoutePattern::parse(text, CaseSensitivity::default()))
}

pub(super) fn routes(reader: &Reader<'_>, routes: &mut Vec<Route>) {
    let read = reader.tables("route", |reader| {
        let pattern = route(reader, "path", "such as path = \"/admin/**\"");
        let mode = reader.word("mode", &MODES);
        let packs = packs(reader);
        let (idle, absolute) = (reader.some_time("idle"), reader.some_time("absolute"));
        let fresh = reader.some_time("fresh");
        let sensitivity = match reader.flag("sensitive") {
            Some(true) => Sensitivity::Sensitive,
            Some(false) | None => Sensitivity::Ordinary,
        };
        let activity = match reader.flag("passive") {
            Some(true) => Activity::Passive,
            Some(false) | None => Activity::Usual,
        };
        let limit = reader.rate("limit").flatten();
        let on_outage = reader.word("on_outage", &ON_OUTAGE);
        let pattern = pattern?;
        Some(Route { pattern, mode, packs, idle, absolute, fresh, sensitivity, activity, limit, on_outage })
    });
    set(routes, read);
}
