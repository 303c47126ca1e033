//! The guard as it is measured: shield mode, the baseline, the limits that are on by default but too high
//! to be met, events on.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::engine::{Guard, Places, Setup};
use portcullis::entropy::OsEntropy;
use portcullis::event::encode::Encoder;
use portcullis::event::queue::{EventQueue, EventSender, Settings, Writer};
use portcullis::event::sink::StreamSink;
use portcullis::facts::route::{CaseSensitivity, RoutePattern};
use portcullis::limit::{LimitSettings, Limits, LoginLimit, Rate};
use portcullis::rules::{
    Binds, CookiePolicy, Enforcement, Limited, Login, OnOutage, PathCheck, Policy, Route, SessionPolicy, SubjectSource,
    Success, Use,
};
use portcullis::secret::Keyring;
use portcullis::session::cookie::{
    CookieKind, CookieNames, CookiePattern, GuardCookie, GuardCookieSettings, Hardening, Persist, ShieldName,
};
use portcullis::session::expiry::Deadlines;
use portcullis::signal::{Scoring, Sensitivity};
use portcullis::store::Store;
use portcullis::verdict::Mode;

/// So many that no limit is met while we measure.
const HIGH: &str = "1000000/1s burst 1000000";

/// The guard over a store, with its events written away. The writer is kept as long as the guard runs.
pub(crate) fn guard<S: Store>(clock: &Arc<dyn Clock>, store: S) -> (Guard<S>, Writer) {
    let (events, writer) = events(clock);
    (guard_that_tells(clock, store, events), writer)
}

/// The same with its events left there.
pub(crate) fn guard_that_tells<S: Store>(clock: &Arc<dyn Clock>, store: S, events: EventSender) -> Guard<S> {
    Guard::new(Setup {
        store,
        policy: policy(),
        keys: Keyring::generate(&OsEntropy).unwrap(),
        places: Places::unknown(),
        limits: Limits::new(&limits()),
        events,
        clock: Arc::clone(clock),
        entropy: Arc::new(OsEntropy),
    })
}

/// Events are made, encoded and written; only the disk is missing.
fn events(clock: &Arc<dyn Clock>) -> (EventSender, Writer) {
    let nowhere = File::options().write(true).open("/dev/null").unwrap();
    let sink = StreamSink::new("file", nowhere, Encoder::default());
    EventQueue::start(&Settings::default(), Arc::clone(clock), vec![Box::new(sink)]).unwrap()
}

fn limits() -> LimitSettings {
    let rate = Rate::parse(HIGH).unwrap();
    LimitSettings {
        client: rate,
        session: rate,
        anonymous_sessions: rate,
        guesses: rate,
        routes: vec![None; policy().routes.len()],
        logins: vec![LoginLimit { per_client: rate, per_subject: rate, ..LoginLimit::default() }],
        ..LimitSettings::default()
    }
}

fn policy() -> Policy {
    let day = Duration::from_secs(24 * 3600);
    Policy {
        revision: 1,
        mode: Mode::Enforce,
        enforcement: Enforcement::Full,
        session: SessionPolicy {
            // Long, because a clock that is moved by hand passes days in a second.
            deadlines: Deadlines { idle: 365 * day, absolute: 365 * day, longest: None },
            rotate_every: Duration::from_secs(120),
            grace: Duration::from_secs(60),
            quarantine_max: Duration::from_secs(600),
            touch_every: Duration::from_secs(60),
            tombstones: day,
            per_subject_max: None,
            adopt_until: None,
            memory: portcullis::rules::Memory::default(),
            data_bytes_max: portcullis::session::data::DATA_BYTES_MAX_DEFAULT,
        },
        cookies: cookies(),
        logins: vec![Login {
            route: pattern("POST /login"),
            success: Success::default(),
            subject: SubjectSource::Form("username".into()),
        }],
        logouts: vec![pattern("POST /logout")],
        routes: vec![
            route("/admin/**", Mode::Enforce, Sensitivity::Sensitive),
            route("/account/**", Mode::Enforce, Sensitivity::Sensitive),
            route("/static/**", Mode::Off, Sensitivity::Usual),
        ],
        rules: portcullis::rules::load::packs(&[portcullis::rules::Pack::Baseline1]),
        scoring: Scoring::default(),
        on_outage: OnOutage::Deny,
        path_check: PathCheck::Protected,
        trusted_proxies: ["127.0.0.0/8".parse().unwrap()].into_iter().collect(),
    }
}

fn cookies() -> CookiePolicy {
    let ours = GuardCookieSettings::insecure_http();
    let shield = ["sessionid", "PHPSESSID", "connect.sid"]
        .map(|name| ShieldName { pattern: CookiePattern::parse(name).unwrap(), kind: CookieKind::Id });
    CookiePolicy {
        guard: GuardCookie::try_new(&ours).unwrap(),
        persist: Persist::App,
        names: CookieNames::try_new(&ours.name, shield, []).unwrap(),
        binds: Binds::Nothing,
        hardening: Hardening::default(),
        hints: portcullis::rules::ExactHints::default(),
    }
}

fn route(path: &str, mode: Mode, sensitivity: Sensitivity) -> Route {
    Route {
        pattern: pattern(path),
        template: path.into(),
        mode,
        rules: None,
        idle: None,
        absolute: None,
        fresh: None,
        sensitivity,
        limit: Limited::No,
        on_outage: None,
        use_: Use::Real,
    }
}

fn pattern(text: &str) -> RoutePattern {
    RoutePattern::parse(text, CaseSensitivity::default()).unwrap()
}
