//! The rules of a world: a policy with the product's defaults, and what a story changes about it.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use portcullis::clock::Timestamp;
use portcullis::facts::route::{CaseSensitivity, PathPattern, RoutePattern};
use portcullis::limit::{LimitSettings, LoginLimit, Rate};
use portcullis::net::PrefixSet;
use portcullis::rules::load::{Input, RulesText, compile};
use portcullis::rules::{
    Binds, CookiePolicy, Enforcement, Limited, Login, OnOutage, Pack, PathCheck, Policy, Route, SessionPolicy,
    SubjectSource, Success, Use,
};
use portcullis::session::cookie::{
    CookieKind, CookieNames, CookiePattern, GuardCookie, GuardCookieSettings, Hardening, Persist, ShieldName,
};
use portcullis::session::expiry::Deadlines;
use portcullis::signal::{Scoring, Sensitivity};
use portcullis::store::{OnLimit, SubjectLimit};
use portcullis::verdict::Mode;

use super::{hours, minutes, seconds};

/// What is guarded how; every method changes one thing.
#[derive(Clone)]
pub(crate) struct Rules {
    policy: Policy,
    shields: Vec<ShieldName>,
    binds: Vec<CookiePattern>,
    limits: LimitSettings,
}

/// The defaults: `sessionid` is shielded, `/login` and `/logout` are known, nothing is limited.
pub(crate) fn rules() -> Rules {
    let guard = GuardCookie::try_new(&GuardCookieSettings::default()).unwrap();
    let names = CookieNames::try_new(guard.name(), [], []).unwrap();
    let policy = Policy {
        revision: 1,
        mode: Mode::Enforce,
        enforcement: Enforcement::Full,
        session: SessionPolicy {
            deadlines: Deadlines { idle: minutes(30), absolute: hours(12), longest: None },
            rotate_every: minutes(2),
            grace: seconds(60),
            quarantine_max: minutes(10),
            touch_every: seconds(60),
            tombstones: hours(1),
            per_subject_max: None,
            adopt_until: None,
            memory: portcullis::rules::Memory::default(),
            data_bytes_max: portcullis::session::data::DATA_BYTES_MAX_DEFAULT,
        },
        cookies: CookiePolicy {
            guard,
            persist: Persist::Session,
            names,
            binds: Binds::Nothing,
            hardening: Hardening::default(),
            hints: portcullis::rules::ExactHints::default(),
        },
        logins: vec![Login {
            route: pattern("POST /login"),
            success: Success {
                status: vec![StatusCode::FOUND],
                location_not: vec![PathPattern::parse("/login", CaseSensitivity::Ignore).unwrap()],
                ..Success::default()
            },
            subject: SubjectSource::Form("username".into()),
        }],
        logouts: vec![pattern("POST /logout")],
        routes: Vec::new(),
        rules: portcullis::rules::load::packs(&[Pack::Baseline1]),
        scoring: Scoring::default(),
        on_outage: OnOutage::Deny,
        path_check: PathCheck::Protected,
        trusted_proxies: PrefixSet::default(),
    };
    let limits = LimitSettings {
        client: None,
        session: None,
        anonymous_sessions: None,
        guesses: None,
        keys_max: 4096.try_into().unwrap(),
        ..LimitSettings::default()
    };
    Rules { policy, shields: Vec::new(), binds: Vec::new(), limits }.shield("sessionid", CookieKind::Id)
}

fn pattern(text: &str) -> RoutePattern {
    RoutePattern::parse(text, CaseSensitivity::Ignore).unwrap()
}

impl Rules {
    pub(crate) fn finish(self) -> (Policy, LimitSettings) {
        let Self { mut policy, shields, binds, limits } = self;
        policy.cookies.binds = if binds.is_empty() { Binds::Nothing } else { Binds::Some };
        policy.cookies.names = CookieNames::try_new(policy.cookies.guard.name(), shields, binds).unwrap();
        (policy, limits)
    }

    /// Changes what there is no word for.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.policy);
        self
    }

    /// The rules of these packs and of a rules file.
    pub(crate) fn file(mut self, packs: &[Pack], text: &str) -> Self {
        let files = [RulesText { path: "shop.toml".into(), text: text.to_owned() }];
        let open = |_: &Path| Err(std::io::Error::other("no files here"));
        let input = Input { packs: &[packs.to_vec()], files: &files, open: &open, now: super::START };
        let compiled = compile(&input).unwrap_or_else(|faults| panic!("{faults}"));
        self.policy.rules = compiled.sets[0].clone();
        self
    }

    pub(crate) fn shield(mut self, name: &str, kind: CookieKind) -> Self {
        self.shields.push(ShieldName { pattern: CookiePattern::parse(name).unwrap(), kind });
        self
    }

    pub(crate) fn bind(mut self, name: &str) -> Self {
        self.binds.push(CookiePattern::parse(name).unwrap());
        self
    }

    pub(crate) fn observed(self) -> Self {
        self.with(|policy| policy.mode = Mode::Observe)
    }

    pub(crate) fn without_detectors(self) -> Self {
        self.with(|policy| policy.mode = Mode::Off)
    }

    /// What `run --observe` does.
    pub(crate) fn report_only(self) -> Self {
        self.with(|policy| policy.enforcement = Enforcement::ReportOnly)
    }

    pub(crate) fn idle(self, idle: Duration) -> Self {
        self.with(|policy| policy.session.deadlines.idle = idle)
    }

    pub(crate) fn absolute(self, absolute: Duration) -> Self {
        self.with(|policy| policy.session.deadlines.absolute = absolute)
    }

    pub(crate) fn adopt_until(self, until: Timestamp) -> Self {
        self.with(|policy| policy.session.adopt_until = Some(until))
    }

    pub(crate) fn per_subject_max(self, sessions: u32, on_limit: OnLimit) -> Self {
        let limit = SubjectLimit { sessions: NonZeroU32::new(sessions).unwrap(), on_limit };
        self.with(|policy| policy.session.per_subject_max = Some(limit))
    }

    /// The subject of a login stands elsewhere.
    pub(crate) fn subject_in(self, source: SubjectSource) -> Self {
        self.with(|policy| policy.logins[0].subject = source)
    }

    /// Settings of a route that `change` fills in.
    pub(crate) fn route(self, template: &str, change: impl FnOnce(&mut Route)) -> Self {
        let mut route = Route {
            pattern: pattern(template),
            template: template.into(),
            mode: Mode::Enforce,
            rules: None,
            idle: None,
            absolute: None,
            fresh: None,
            sensitivity: Sensitivity::Usual,
            limit: Limited::No,
            on_outage: None,
            use_: Use::Real,
        };
        change(&mut route);
        self.with(|policy| policy.routes.push(route))
    }

    pub(crate) fn limits(mut self, change: impl FnOnce(&mut LimitSettings)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Login attempts are counted with the product's defaults.
    pub(crate) fn login_throttle(self) -> Self {
        self.limits(|limits| limits.logins = vec![LoginLimit::default()])
    }
}

/// A rate as the settings spell it.
pub(crate) fn rate(text: &str) -> Option<Rate> {
    Rate::parse(text).unwrap()
}
