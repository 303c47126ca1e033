//! Telling what happened: every event of the engine is put together here.

use std::net::IpAddr;

use http::header::ORIGIN;
use http::{StatusCode, request};

use super::admit::Request;
use super::recognise::{Before, Judged, Scope};
use super::settle::Outcome;
use super::{Admission, Client, Guard, Holder, Known, Leftover};
use crate::clock::Timestamp;
use crate::connection::print::Ja4;
use crate::event::field::{Cause, Dependency, LimitKey, Rotation};
use crate::event::kinds as event;
use crate::event::{ClientText, ClientView, Event, Scene, SessionHash, method_word};
use crate::facts::seen as headers_seen;
use crate::fingerprint::Fingerprint;
use crate::history::Contexts;
use crate::limit;
use crate::session::record::Record;
use crate::signal::{SignalKind, Travel};
use crate::store::{Store, StoreError};
use crate::verdict::{Action, Mode, Seen, Sighting, Text, Verdict};

impl<S: Store> Guard<S> {
    /// Tells an event of the request half.
    #[cold]
    pub(super) fn tell(&self, request: &Request<'_>, record: Option<&Record>, event: impl Into<Event>) {
        self.emit(&request.done.awaited, request.now, self.scene(request, record), event.into());
    }

    /// Tells an event of the response half, about the session the request was admitted for.
    #[cold]
    pub(super) fn tell_settled(&self, admission: &Admission, status: StatusCode, event: impl Into<Event>) {
        let record = match &admission.holder {
            Holder::Session(known) | Holder::Quarantined(known) => Some(&*known.record),
            Holder::Stranger | Holder::Nobody(_) => None,
        };
        let scene = Scene { status: Some(status.as_u16()), ..self.settled_scene(admission, record) };
        self.emit(&admission.awaited, self.clock.now(), scene, event.into());
    }

    /// Tells an event of the response half about a certain session.
    #[cold]
    pub(super) fn tell_about(&self, admission: &Admission, record: &Record, event: impl Into<Event>) {
        let scene = self.settled_scene(admission, Some(record));
        self.emit(&admission.awaited, self.clock.now(), scene, event.into());
    }

    /// Tells of a login that was recognised.
    #[cold]
    pub(super) fn tell_login(&self, admission: &Admission, outcome: &Outcome, known: &Known) {
        if let Some(proven) = &outcome.login {
            self.tell_about(
                admission,
                &known.record,
                event::SessionAuthenticated { sign: proven.sign, failures: None },
            );
        }
    }

    /// Tells that a session goes on under another id.
    #[cold]
    pub(super) fn tell_rotated(&self, admission: &Admission, outcome: &Outcome, old: &Record, new: &Known) {
        let why = match (&outcome.login, outcome.new_id) {
            (Some(proven), _) => proven.why,
            (None, Some(why)) => why,
            (None, None) => Rotation::App,
        };
        let previous = Some(SessionHash::of(&self.keys.load(), &old.digest));
        self.tell_about(admission, &new.record, event::SessionRotated { why, previous });
        self.tell_login(admission, outcome, new);
    }

    /// Tells an event about a session that no request is involved in.
    #[cold]
    pub(super) fn tell_alone(&self, record: &Record, now: Timestamp, event: impl Into<Event>) {
        let mut scene = Scene { policy: Some(self.policy.load().revision), ..Scene::default() };
        self.put_session(&mut scene, record);
        self.events.emit(now, scene, event.into());
    }

    /// Tells what was decided about a session's request, if it was more than to serve it.
    pub(super) fn tell_verdict(&self, request: &Request<'_>, record: &Record, judged: &Judged) {
        // That a session is in quarantine was told when it began; that it is refused more than that was not.
        let is_told = judged.before == Before::Quarantined && judged.verdict.action <= Action::Quarantine;
        if judged.verdict.action != Action::Allow && !is_told {
            self.tell_judged(request, record, judged);
        } else if judged.verdict.is_telling() {
            self.tell_seen(request, Some(record), &judged.verdict, judged.mode);
        }
        self.tell_would(request, Some(record), judged);
    }

    /// Tells what rules that are only observed would have changed.
    pub(super) fn tell_would(&self, request: &Request<'_>, record: Option<&Record>, judged: &Judged) {
        if let Some(would) = &judged.would
            && judged.mode == Mode::Enforce
            && would.is_telling()
        {
            self.tell_ruled(request, record, would, Mode::Observe);
        }
    }

    /// Tells what rules have seen, of what was not told of this request yet.
    #[cold]
    fn tell_seen(&self, request: &Request<'_>, record: Option<&Record>, verdict: &Verdict, mode: Mode) {
        for event in seen_by_rules(&request.done.untold(verdict), &request.fingerprint, Some(request.parts)) {
            let scene = self.scene(request, record).judged(verdict, mode);
            self.emit(&request.done.awaited, request.now, scene, event);
        }
    }

    /// Tells what rules asked for.
    #[cold]
    pub(super) fn tell_ruled(&self, request: &Request<'_>, record: Option<&Record>, verdict: &Verdict, mode: Mode) {
        request.done.awaited.note(verdict, mode);
        self.count_verdict(request, verdict.action, mode);
        self.tell_seen(request, record, verdict, mode);
        let event: Event = match verdict.action {
            Action::Deny => event::AuthzDenied {}.into(),
            Action::Challenge => event::StepupRequired { why: Cause::Rule }.into(),
            _ if verdict.is_all_seen() => return,
            _ => event::RuleMatched {}.into(),
        };
        let scene = self.scene(request, record).judged(verdict, mode);
        self.emit(&request.done.awaited, request.now, scene, event);
    }

    /// Tells what a rule asked for on an answer.
    #[cold]
    pub(super) fn tell_settled_verdict(
        &self,
        admission: &Admission,
        status: StatusCode,
        verdict: &Verdict,
        mode: Mode,
    ) {
        let record = match &admission.holder {
            Holder::Session(known) | Holder::Quarantined(known) => Some(&*known.record),
            Holder::Stranger | Holder::Nobody(_) => None,
        };
        let scene = Scene { status: Some(status.as_u16()), ..self.settled_scene(admission, record) };
        admission.awaited.note(verdict, mode);
        self.count_settled_verdict(admission, verdict.action, mode);
        let scene = scene.judged(verdict, mode);
        let seen: Vec<&Seen> = verdict.seen.iter().collect();
        let matched = (!verdict.is_all_seen()).then(|| event::RuleMatched {}.into());
        for event in seen_by_rules(&seen, &admission.fingerprint, None).into_iter().chain(matched) {
            self.emit(&admission.awaited, self.clock.now(), scene.clone(), event);
        }
    }

    #[cold]
    fn tell_judged(&self, request: &Request<'_>, record: &Record, judged: &Judged) {
        let scene = || self.scene(request, Some(record)).judged(&judged.verdict, judged.mode);
        request.done.awaited.note(&judged.verdict, judged.mode);
        self.count_verdict(request, judged.verdict.action, judged.mode);
        let emit = |event: Event| self.emit(&request.done.awaited, request.now, scene(), event);
        mismatches(judged).into_iter().for_each(emit);
        self.tell_seen(request, Some(record), &judged.verdict, judged.mode);
        // What a rule of an operator asks for, whoever the client is, is no theft.
        let by_evidence = !matches!(judged.cause, Cause::Freshness | Cause::Rule);
        if judged.verdict.action >= Action::Quarantine && by_evidence {
            emit(event::SessionHijackSuspected {}.into());
        }
        match judged.verdict.action {
            // Nobody is moved: this request alone would need a login.
            Action::Quarantine if judged.scope == Scope::Request => {
                emit(event::StepupRequired { why: judged.cause }.into());
            }
            Action::Quarantine => emit(event::SessionQuarantined { why: judged.cause }.into()),
            Action::Challenge => emit(event::StepupRequired { why: judged.cause }.into()),
            Action::Deny => emit(event::AuthzDenied {}.into()),
            Action::Terminate if judged.mode != Mode::Enforce => {
                emit(event::SessionTerminated { why: judged.cause }.into());
            }
            Action::Observe | Action::Throttle | Action::Rotate
                if judged.verdict.rule.is_some() && !judged.verdict.is_all_seen() =>
            {
                emit(event::RuleMatched {}.into());
            }
            _ => {}
        }
    }

    /// Tells that a session was ended, and by what.
    #[cold]
    pub(super) fn tell_ended(&self, request: &Request<'_>, record: &Record, (verdict, why): (&Verdict, Cause)) {
        request.done.awaited.note(verdict, Mode::Enforce);
        let scene = self.scene(request, Some(record)).judged(verdict, Mode::Enforce);
        self.emit(&request.done.awaited, request.now, scene, event::SessionTerminated { why }.into());
    }

    /// Tells that a session was ended with an answer, by a rule.
    #[cold]
    pub(super) fn tell_ended_on_answer(&self, admission: &Admission, record: &Record, verdict: &Verdict) {
        let scene = self.settled_scene(admission, Some(record)).judged(verdict, Mode::Enforce);
        let told = event::SessionTerminated { why: Cause::Rule };
        self.emit(&admission.awaited, self.clock.now(), scene, told.into());
    }

    /// Tells that a limit was met.
    #[cold]
    pub(super) fn tell_limited(&self, request: &Request<'_>, refusal: &limit::Refusal, mode: Mode) {
        self.count_verdict(request, Action::Throttle, mode);
        self.events.emit(
            request.now,
            Scene { mode, ..limited(self.scene(request, None), mode) },
            rate_limited(refusal),
        );
    }

    /// Tells that a client tries ids of sessions.
    #[cold]
    pub(super) fn tell_guessing(&self, request: &Request<'_>, refusal: &limit::Refusal, mode: Mode) {
        let count = refusal.rate.map_or(0, |rate| rate.burst().get());
        let scene = limited(self.scene(request, None), mode);
        self.events.emit(request.now, scene, event::SessionIdBruteforce { count });
    }

    /// Tells that a network began too many sessions.
    #[cold]
    pub(super) fn tell_session_limited(&self, admission: &Admission, refusal: &limit::Refusal, mode: Mode) {
        self.count_settled_verdict(admission, Action::Throttle, mode);
        let scene = limited(self.settled_scene(admission, None), mode);
        self.events.emit(self.clock.now(), scene.clone(), rate_limited(refusal));
        let count = refusal.rate.map_or(0, |rate| rate.burst().get());
        self.events.emit(self.clock.now(), scene, event::SessionIdHarvest { count });
    }

    /// Tells that the store failed while a request was looked at.
    #[cold]
    pub(super) fn tell_outage(&self, request: &Request<'_>, error: &StoreError) {
        self.tell(request, None, store_failed(error));
    }

    /// Tells that a session is over because of its key. It is not named: nothing of its record is believed.
    #[cold]
    pub(super) fn tell_burnt(&self, request: &Request<'_>) {
        let fault = Text::from("a session rests on a key that is not in the key ring: it is over");
        self.tell(request, None, event::DependencyFailed { what: Dependency::Store, fault });
    }

    /// Tells that the store failed while an answer was settled.
    #[cold]
    pub(super) fn tell_failed(&self, admission: &Admission, error: &StoreError) {
        self.events.emit(self.clock.now(), self.settled_scene(admission, None), store_failed(error));
    }

    /// Tells which cookies from before the guard were taken over.
    #[cold]
    pub(super) fn tell_adopted(&self, admission: &Admission, record: &Record) {
        for leftover in &admission.leftovers {
            if let Leftover::Adopt { name, .. } = leftover {
                let cookie = Text::from(&*String::from_utf8_lossy(name));
                self.tell_about(admission, record, event::SessionAdopted { cookie });
            }
        }
    }

    /// Tells that a cookie of the app could not be put into its jar.
    #[cold]
    pub(super) fn tell_jar(&self, admission: &Admission, why: &dyn std::error::Error) {
        let event = event::DependencyFailed { what: Dependency::Upstream, fault: Text::from(why.to_string()) };
        self.events.emit(self.clock.now(), self.settled_scene(admission, None), event);
    }

    fn scene(&self, request: &Request<'_>, record: Option<&Record>) -> Scene {
        let mut scene = Scene {
            client: view(Some(request.client.ip), &request.fingerprint, ja4(&request.client)),
            mode: request.mode(),
            policy: Some(request.policy.revision),
            route: request.route().map(|route| route.template.clone()),
            method: Some(method_word(&request.parts.method)),
            trace: request.trace,
            ..Scene::default()
        };
        if let Some(record) = record {
            self.put_session(&mut scene, record);
        }
        scene
    }

    fn settled_scene(&self, admission: &Admission, record: Option<&Record>) -> Scene {
        let route = admission.ask.route(&admission.policy);
        let mut scene = Scene {
            client: view(Some(admission.ask.client.ip), &admission.fingerprint, ja4(&admission.ask.client)),
            mode: admission.policy.mode_on(route),
            policy: Some(admission.policy.revision),
            route: route.map(|route| route.template.clone()),
            method: Some(method_word(&admission.ask.method)),
            trace: admission.ask.trace,
            ..Scene::default()
        };
        if let Some(record) = record {
            self.put_session(&mut scene, record);
        }
        // A visitor's session is nobody's yet.
        if let (None, Some(super::subject::Named::Subject(subject))) =
            (&scene.subject, admission.ask.login.as_ref().map(|login| &login.named))
        {
            scene.subject = Some(subject.clone());
        }
        scene
    }

    fn put_session(&self, scene: &mut Scene, record: &Record) {
        scene.session = Some(SessionHash::of(&self.keys.load(), &record.digest));
        scene.reference = Some(record.reference);
        scene.subject.clone_from(&record.subject);
        if let Ok(contexts) = Contexts::decode(&record.history)
            && let Some(bound) = contexts.known().first()
        {
            scene.bound = view(bound.fingerprint.prefix.network(), &bound.fingerprint, contexts.ja4());
        }
    }
}

fn limited(scene: Scene, mode: Mode) -> Scene {
    match mode {
        Mode::Enforce => Scene { mode, action: Action::Throttle, ..scene },
        Mode::Observe | Mode::Off => Scene { mode, would: Some(Action::Throttle), ..scene },
    }
}

fn rate_limited(refusal: &limit::Refusal) -> Event {
    use limit::LimitName;
    let key = match refusal.limit {
        LimitName::Prefix | LimitName::AnonymousSessions => LimitKey::Prefix,
        LimitName::Session => LimitKey::Session,
        LimitName::Subject | LimitName::LoginOnSubject => LimitKey::Subject,
        LimitName::Route => LimitKey::Route,
        LimitName::Client | LimitName::Guesses | LimitName::Login => LimitKey::Client,
    };
    let retry_after_ms = u64::try_from(refusal.retry_after.as_millis()).unwrap_or(u64::MAX);
    if refusal.rate.is_none() && matches!(refusal.limit, LimitName::Login | LimitName::LoginOnSubject) {
        return event::LoginFailedMax { key, delay_ms: retry_after_ms }.into();
    }
    event::RateLimited { limit: Text::of(refusal.limit.as_str()), key, retry_after_ms }.into()
}

fn store_failed(error: &StoreError) -> Event {
    event::DependencyFailed { what: Dependency::Store, fault: Text::from(error.to_string()) }.into()
}

/// Which components of the client moved, as far as the verdict names them.
fn mismatches(judged: &Judged) -> Vec<Event> {
    let reasons = &judged.verdict.reasons;
    let named = |start: &str| reasons.iter().any(|reason| reason.kind.as_str().starts_with(start));
    let mut events: Vec<Event> = Vec::new();
    let is_wire = |kind: &str| WIRE.iter().any(|wire| wire.name() == kind);
    if reasons.iter().any(|reason| reason.kind.as_str().starts_with("device.") && !is_wire(reason.kind.as_str())) {
        events.push(event::BindingMismatchUa {}.into());
    }
    if reasons.iter().any(|reason| is_wire(reason.kind.as_str())) {
        events.push(event::BindingMismatchTls {}.into());
    }
    if named("network.country") {
        events.push(event::BindingMismatchCountry {}.into());
    } else if named("network.asn") {
        events.push(event::BindingMismatchAsn {}.into());
    } else if named("network.") {
        events.push(event::BindingMismatchIp {}.into());
    }
    let travel = reasons.iter().find(|reason| reason.kind.as_str() == SignalKind::NetworkTravel.name());
    if let Some(Travel { km, minutes }) = travel.and_then(|reason| Travel::parse(reason.after.as_ref()?.as_str())) {
        events.push(event::SessionImpossibleTravel { km, minutes }.into());
    }
    events
}

/// What rules say they have seen, as events.
fn seen_by_rules(seen: &[&Seen], fingerprint: &Fingerprint, parts: Option<&request::Parts>) -> Vec<Event> {
    let event = |seen: &&Seen| -> Event {
        let (rule, count) = (seen.rule.clone(), seen.count);
        match seen.what {
            Sighting::Csrf => event::CsrfBlocked { fault: rule }.into(),
            Sighting::Origin => {
                let origin = parts.and_then(|parts| headers_seen::first(&parts.headers, &ORIGIN));
                event::OriginBlocked { origin: origin.map(|origin| ClientText::from_bytes(origin.as_bytes())) }.into()
            }
            Sighting::Probe => event::Probe404Burst { count }.into(),
            Sighting::Tool => event::ToolDetected { tool: Text::of(fingerprint.agent.family.name()) }.into(),
            Sighting::Honeypot => event::HoneypotHit { trap: rule }.into(),
            Sighting::Reputation => event::ReputationHit { list: rule }.into(),
        }
    };
    seen.iter().map(event).collect()
}

/// What is below HTTP: how a client speaks, and not what it says of itself.
const WIRE: [SignalKind; 4] =
    [SignalKind::DeviceTls, SignalKind::DeviceTlsSoft, SignalKind::DeviceHttp2, SignalKind::DeviceSyn];

/// A client as events show it.
fn view(ip: Option<IpAddr>, fingerprint: &Fingerprint, ja4: Option<Ja4>) -> ClientView {
    let Fingerprint { agent, place, .. } = fingerprint;
    ClientView {
        ip,
        alias: None,
        asn: place.asn.map(|asn| asn.0),
        country: place.country.map(crate::facts::geo::Country::bytes),
        ua: (agent.hash != 0).then(|| Text::of(agent.family.name())),
        os: (agent.hash != 0).then(|| Text::of(agent.os.name())),
        ja4: ja4.map(|ja4| Text::from(ja4.as_str())),
    }
}

fn ja4(client: &Client) -> Option<Ja4> {
    client.print.tls.and_then(|tls| tls.ja4)
}
