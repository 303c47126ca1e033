//! Rules at work: what of a request they match, what is asked for by them, and what they remember.

use std::cell::OnceCell;
use std::sync::Arc;

use http::{StatusCode, response};

use super::admit::{Acted, Request};
use super::facts::{AnswerFacts, Counts, LoginSeen, RequestFacts, Seen};
use super::recognise::Judged;
use super::settle::Outcome;
use super::subject::Named;
use super::{Admission, Guard, Holder, Looked, Refusal, RefusalKind};
use crate::clock::Timestamp;
use crate::enforce::Plan;
use crate::facts::readings::Readings;
use crate::history::{Contexts, Points};
use crate::rules::count::{Answers, Counting, HOLD_SALT, Held, Key};
use crate::rules::scheme::{Field, Phase};
use crate::rules::{
    Evidence, Facts, Judgement, Matched, PER, Party, Read, Reads, Rule, RuleSet, Scenery, Value, judge,
};
use crate::session::record::Record;
use crate::signal::{Assessment, IdEvidence, Level, Signal};
use crate::store::Store;
use crate::verdict::{Action, EventSync, Mode, Reason, Verdict};

/// What rules found out before the store is asked.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Rules that read nothing but the request.
    pub(super) matched: Matched,
    /// A verdict on an earlier answer that holds for this client.
    pub(super) held: Option<Arc<Held>>,
    counts: Option<Counts>,
    /// The city of the client, if a rule wants to know.
    pub(super) city: Option<Box<str>>,
}

/// The rules that matched, the verdict that holds, and what was counted.
type Found = (Matched, Option<Arc<Held>>, Option<Counts>);

impl Request<'_> {
    /// The rules that matched before the store was asked.
    fn matched_early(&self) -> &[u16] {
        self.early.as_ref().map_or(&[], |early| &early.matched)
    }

    /// A verdict on an earlier answer that holds for this client.
    fn held_early(&self) -> Option<&Arc<Held>> {
        self.early.as_ref()?.held.as_ref()
    }

    fn counts(&self) -> Option<Counts> {
        self.early.as_ref()?.counts
    }
}

/// What a response-phase rule asks for on this answer.
#[derive(Debug, Default)]
pub(super) enum OnAnswer {
    /// Nothing.
    #[default]
    Pass,
    /// A successor at once.
    Rotate,
    /// 429 instead.
    Throttle,
    /// The session ends, by this rule.
    Terminate(Box<Verdict>),
}

/// A session as rules see it.
#[derive(Clone, Copy)]
pub(super) struct SessionSeen<'a> {
    pub(super) record: &'a Record,
    pub(super) contexts: &'a Contexts,
    /// Its forks, with that of this request.
    pub(super) forks: u8,
    /// The generation of its head and since when it is that: with the tag of this request, if that becomes the head.
    pub(super) head: (u32, Timestamp),
}

impl<S: Store> Guard<S> {
    /// Runs the rules that read nothing but the request, before its session is loaded. Those that refuse it do so here.
    pub(super) fn early(&self, request: &mut Request<'_>) -> Result<(), Refusal> {
        let set = request.rules();
        let Reads { rates, city, .. } = set.reads();
        let (rates, city) = (self.needs(rates), self.needs(city));
        let is_idle = !set.runs_in(Phase::Client) && self.holds.is_empty() && !rates && !city;
        if is_idle || request.mode() == Mode::Off {
            return Ok(());
        }
        let city = if city { self.places.load().city(request.client.ip) } else { None };
        request.early = Some(Box::new(Early { city, ..Early::default() }));
        let (matched, held, counts) = self.early_slowly(request, request.rules())?;
        if let Some(early) = &mut request.early {
            (early.matched, early.held, early.counts) = (matched, held, counts);
        }
        Ok(())
    }

    /// Whether something must be at hand. Whoever looks on sees everything: other rules may read what these do not.
    pub(super) fn needs(&self, read: Read) -> bool {
        read == Read::Yes || self.observer.is_some()
    }

    fn early_slowly(&self, request: &Request<'_>, set: &RuleSet) -> Result<Found, Refusal> {
        let counts = self.needs(set.reads().rates).then(|| self.count_client(request));
        let facts = RequestFacts { counts, ..RequestFacts::early(request) };
        let mut matched = Matched::new();
        let counted = (self.tally(&request.done.matches), request.mode());
        set.run(Phase::Client, Scenery::Quiet, &facts, counted, &mut matched);
        if request.is_asking() {
            return Ok(Found::default());
        }
        let held = self.held_for(&facts, Phase::Client).filter(|_| request.mode() == Mode::Enforce);
        let refusing =
            |rule: &&Rule| rule.mode == Mode::Enforce && matches!(rule.then, Some(Action::Deny | Action::Throttle));
        let by_rule =
            matched.iter().filter_map(|at| set.rule(*at)).filter(refusing).max_by_key(|rule| (rule.then, rule.sync));
        if request.mode() == Mode::Enforce {
            // A password that is tried is what most of these are about; whoever shows a session tries it all the same.
            let tries = || !request.parts.method.is_safe() && request.goes_to_login();
            let by_held = held.as_ref().filter(|held| match held.action {
                Action::Deny | Action::Throttle => true,
                Action::Challenge => tries(),
                _ => false,
            });
            let by_rule = by_rule.and_then(|rule| rule.then.map(|then| rule.verdict(then)));
            let both = by_held.map(|held| held.verdict()).into_iter().chain(by_rule);
            if let Some(mut verdict) = both.max_by_key(|verdict| (verdict.action, verdict.sync)) {
                // Nobody looks at them again: what the others have to say is told with it.
                for rule in matched.iter().filter_map(|at| set.rule(*at)).filter(|rule| rule.mode == Mode::Enforce) {
                    if rule.then.is_some() {
                        verdict.add(Reason::new(rule.name.clone(), 0.0));
                        verdict.tag(&rule.tags);
                        verdict.see(rule.seen());
                    }
                }
                let action = verdict.action;
                self.look_on(request, Phase::Client, (&facts, Points::ZERO), &matched, (&verdict, action));
                self.tell_ruled(request, None, &verdict, Mode::Enforce);
                return Err(if action == Action::Challenge { self.challenge(request) } else { refusal(action) });
            }
        }
        Ok((matched, held, counts))
    }

    /// Counts a request for its client and network.
    fn count_client(&self, request: &Request<'_>) -> Counts {
        let counting = request.done.of_client.take();
        let facts = RequestFacts::early(request);
        let count = |field| Key::of(RATE_SALT, field, &facts).map(|key| self.rates.ask(key, request.now, counting));
        Counts {
            client: count(Field::ClientIp).unwrap_or_default(),
            prefix: count(Field::ClientPrefix).unwrap_or_default(),
            ..Counts::default()
        }
    }

    /// Counts it for its session and subject too.
    fn count_session(&self, request: &Request<'_>, record: &Record) -> Option<Counts> {
        let counts = request.counts()?;
        let counting = request.done.of_session.take();
        let text = |field, text: &str| Key::new(RATE_SALT, field, &Value::Text(text));
        let count = |key: Option<Key>| key.map(|key| self.rates.ask(key, request.now, counting)).unwrap_or_default();
        Some(Counts {
            session: count(text(Field::SessionRef, &record.reference.to_string())),
            subject: count(record.subject.as_deref().and_then(|subject| text(Field::SessionSubject, subject))),
            ..counts
        })
    }

    /// A verdict on an earlier answer that holds by a field of this phase.
    fn held_for(&self, facts: &RequestFacts<'_>, phase: Phase) -> Option<Arc<Held>> {
        if self.holds.is_empty() {
            return None;
        }
        let set = facts.request.rules();
        let host = (0..set.host().len()).filter_map(|at| u16::try_from(at).ok()).map(Field::Host);
        let fields = PER.iter().copied().chain(host).filter(|field| field.phase() == phase);
        let found = fields.filter_map(|field| self.holds.find(Key::of(HOLD_SALT, field, facts)?, facts.now()));
        found.filter(|held| is_enforced(set, held)).max_by_key(|held| (held.action, held.sync))
    }

    /// Judges a request without a session; `id` says what the id that it showed tells.
    fn judge_stranger(&self, request: &Request<'_>, id: IdEvidence) -> Judged {
        let mode = request.mode();
        let set = request.rules();
        let held = request.held_early().map(|held| &**held);
        let signals = self.signals_of_stranger(request, id);
        let is_idle = request.matched_early().is_empty()
            && signals.is_empty()
            && held.is_none()
            && !set.may_match_quietly()
            && set.captures().is_empty();
        if mode == Mode::Off || (is_idle && self.observer.is_none()) {
            return Judged::calm(mode);
        }
        let facts = RequestFacts { counts: request.counts(), signals: &signals, ..RequestFacts::early(request) };
        let with_held = |mut judged: Judged| {
            held.iter().for_each(|held| judged.hold_to(held));
            judged
        };
        let told = |verdict: &Verdict| with_held(Judged { verdict: verdict.clone(), ..Judged::calm(mode) }).action();
        let (judgement, seen) = self.judge_facts(request, facts, (Points::ZERO, &signals), &told);
        with_held(Judged { verdict: judgement.verdict, would: judgement.would, seen, ..Judged::calm(mode) })
    }

    /// The same with the answers of a store that counts.
    async fn judged_stranger(&self, request: &Request<'_>, id: IdEvidence) -> Judged {
        let mut judged = self.judge_stranger(request, id);
        while request.is_asking() {
            Box::pin(self.ask_for(request)).await;
            judged = self.judge_stranger(request, id);
        }
        judged
    }

    /// Does what rules ask for about a request without a session. There is nothing to be rotated or ended; a quarantine
    /// withholds what other credentials it shows.
    pub(super) async fn obey_stranger(&self, request: &Request<'_>, id: IdEvidence) -> Result<Acted, Refusal> {
        let judged = self.judged_stranger(request, id).await;
        if judged.verdict.is_telling() {
            self.tell_ruled(request, None, &judged.verdict, judged.mode);
        }
        self.tell_would(request, None, &judged);
        let Judged { verdict, mode, seen, .. } = judged;
        let acted = |verdict| Acted { holder: Holder::Stranger, plan: Plan::stranger(), verdict, seen };
        if mode != Mode::Enforce {
            return Ok(acted(Verdict::default()));
        }
        match verdict.action {
            Action::Throttle => Err(refusal(Action::Throttle)),
            Action::Challenge if !request.goes_to_login() => Err(self.challenge(request)),
            Action::Deny => Err(refusal(Action::Deny)),
            _ => Ok(acted(verdict)),
        }
    }

    /// What rules ask for about strangers, of a client that is held back from its session and served as one.
    pub(super) async fn fence(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let judged = self.judged_stranger(request, IdEvidence::None).await;
        if judged.mode != Mode::Enforce {
            return Ok(());
        }
        let refused = match judged.verdict.action {
            Action::Deny => refusal(Action::Deny),
            Action::Throttle => refusal(Action::Throttle),
            Action::Challenge if !request.goes_to_login() => self.challenge(request),
            _ => return Ok(()),
        };
        self.tell_ruled(request, None, &judged.verdict, judged.mode);
        Err(refused)
    }

    /// Judges the use of a session. Nearly every request matches nothing, which costs a few comparisons. `told` is what is done at
    /// a verdict, for whoever looks on.
    pub(super) fn judge_session(
        &self,
        request: &Request<'_>,
        session: SessionSeen<'_>,
        assessment: &Assessment,
        told: &dyn Fn(&Verdict) -> Action,
    ) -> (Judgement, Option<Box<Seen>>) {
        let set = request.rules();
        let scoring = &request.policy.scoring;
        let is_calm = assessment.signals.is_empty()
            && request.matched_early().is_empty()
            && !set.may_match_quietly()
            && set.captures().is_empty()
            && self.observer.is_none()
            && set.reads().rates == Read::No
            && scoring.thresholds.level(assessment.before, request.sensitivity()) == Level::Calm;
        if is_calm {
            return (Judgement::default(), None);
        }
        let counts = self.count_session(request, session.record);
        let facts = RequestFacts {
            request,
            session: Some(session),
            signals: &assessment.signals,
            risk: None,
            counts,
            reference: OnceCell::new(),
            bound_ja4: OnceCell::new(),
        };
        self.judge_facts(request, facts, (assessment.before, &assessment.signals), told)
    }

    /// As long as a shared store is to be asked something, what comes of it is not to be used.
    fn judge_facts<'a>(
        &self,
        request: &'a Request<'a>,
        mut facts: RequestFacts<'a>,
        (before, signals): (Points, &'a [Signal]),
        told: &dyn Fn(&Verdict) -> Action,
    ) -> (Judgement, Option<Box<Seen>>) {
        let set = request.rules();
        let scenery = if signals.is_empty() { Scenery::Quiet } else { Scenery::Signals };
        let mut matched = Matched::from_slice(request.matched_early());
        let counted = (self.tally(&request.done.matches), request.mode());
        set.run(Phase::Session, scenery, &facts, counted, &mut matched);
        let party = if facts.session.is_some() { Party::Session } else { Party::Stranger };
        let evidence = Evidence { set, matched: &matched, signals, before, sensitivity: request.sensitivity(), party };
        let judgement = judge(&evidence, &request.policy.scoring, |risk| {
            let mut risky = Matched::new();
            if set.runs_in(Phase::Risk) {
                let facts =
                    RequestFacts { risk: Some(risk), reference: OnceCell::new(), bound_ja4: OnceCell::new(), ..facts };
                set.run(Phase::Risk, scenery, &facts, counted, &mut risky);
            }
            risky
        });
        if request.is_asking() {
            return (judgement, None);
        }
        self.count_signals(request, signals);
        let mut judgement = judgement;
        // Where nothing is obeyed, all there is to tell is what would have been.
        if request.mode() != Mode::Enforce
            && let Some(would) = judgement.would.take()
        {
            judgement.verdict = *would;
        }
        let risk = judgement.risk(before);
        facts.risk = Some(risk);
        if self.observer.is_some() {
            set.run(Phase::Risk, scenery, &facts, counted, &mut matched);
            let verdict = &judgement.verdict;
            self.look_on(request, Phase::Risk, (&facts, before), &matched, (verdict, told(verdict)));
        }
        let seen = match &self.observer {
            Some(_) => {
                let host = (0..set.host().len()).filter_map(|at| u16::try_from(at).ok()).map(Field::Host);
                Some(Seen::of(&Field::all().chain(host).collect::<Vec<_>>(), &facts))
            }
            None if set.captures().is_empty() => None,
            None => Some(Seen::of(set.captures(), &facts)),
        };
        (judgement, seen.map(Box::new))
    }

    fn look_on(
        &self,
        request: &Request<'_>,
        phase: Phase,
        (facts, before): (&RequestFacts<'_>, Points),
        matched: &[u16],
        (verdict, done): (&Verdict, Action),
    ) {
        if let Some(observer) = &self.observer {
            let (set, asked, counting) = (request.rules(), request.now, request.done.shown.take());
            observer.looked(&Looked { phase, set, facts, matched, before, verdict, done, asked, counting });
        }
    }

    /// A verdict on an earlier answer that holds for the session: by its client, or by itself.
    pub(super) fn held_of_session(&self, request: &Request<'_>, session: SessionSeen<'_>) -> Option<Arc<Held>> {
        if request.early.is_none() && self.holds.is_empty() {
            return None;
        }
        let record = session.record;
        // Who is asked to log in and has done so is asked no more.
        let is_owed = |held: &Arc<Held>, since: Timestamp| {
            held.action != Action::Challenge || record.authenticated_at.is_none_or(|at| at <= since)
        };
        let by_client = request.held_early().cloned().filter(|held| is_owed(held, Timestamp::EPOCH));
        if self.holds.is_empty() || request.mode() != Mode::Enforce {
            return by_client;
        }
        let facts = RequestFacts { session: Some(session), ..RequestFacts::early(request) };
        let by_session = self.held_for(&facts, Phase::Session).filter(|held| is_owed(held, held.since));
        by_client.into_iter().chain(by_session).max_by_key(|held| (held.action, held.sync))
    }

    /// A verdict on earlier answers that holds for whom a login names.
    pub(super) fn check_held_subject(&self, request: &Request<'_>, subject: Option<&str>) -> Result<(), Refusal> {
        let Some(subject) = subject.filter(|_| !self.holds.is_empty() && request.mode() == Mode::Enforce) else {
            return Ok(());
        };
        let key = Key::new(HOLD_SALT, Field::LoginSubject, &Value::Text(subject));
        let held = key.and_then(|key| self.holds.find(key, request.now));
        let Some(held) = held.filter(|held| is_enforced(request.rules(), held)) else { return Ok(()) };
        self.tell_ruled(request, None, &held.verdict(), Mode::Enforce);
        Err(if held.action == Action::Deny { refusal(Action::Deny) } else { self.challenge(request) })
    }

    /// Runs the rules that look at the answer. What they ask for beyond it holds for requests to come.
    pub(super) fn judge_answer(
        &self,
        admission: &Admission,
        response: &response::Parts,
        outcome: &Outcome,
        sets_cookie: bool,
        answers: &Answers,
    ) -> OnAnswer {
        let Some(request) = &admission.seen else { return OnAnswer::Pass };
        let route = admission.ask.route(&admission.policy);
        let set = admission.policy.rules_on(route);
        let subject = admission.ask.login.as_ref().and_then(|login| match &login.named {
            Named::Subject(subject) => Some(&**subject),
            Named::Nobody | Named::Ambiguous => None,
        });
        let facts = AnswerFacts {
            now: admission.now,
            request,
            status: response.status.as_u16(),
            headers: &response.headers,
            sets_cookie,
            login: (admission.ask.login.is_some() && !outcome.is_unproven())
                .then(|| LoginSeen { subject, succeeded: outcome.login.is_some() }),
        };
        let mut matched = Matched::new();
        let mode = admission.policy.mode_on(route);
        set.run(Phase::Response, Scenery::Quiet, &facts, (self.tally(answers), mode), &mut matched);
        if answers.are_due() {
            return OnAnswer::Pass;
        }
        if let Some(observer) = &self.observer {
            let obeyed =
                matched.iter().filter_map(|at| set.rule(*at)).filter(|rule| mode.min(rule.mode) == Mode::Enforce);
            let done = obeyed.filter_map(|rule| rule.then.filter(|then| acts_on_answer(*then))).max();
            let (phase, matched, verdict) = (Phase::Response, &*matched, &Verdict::default());
            let (before, done, asked) = (Points::ZERO, done.unwrap_or_default(), admission.asked);
            let (facts, counting) = (&facts, Counting::Count);
            observer.looked(&Looked { phase, set, facts, matched, before, verdict, done, asked, counting });
        }
        let mut on_answer = OnAnswer::Pass;
        for rule in matched.iter().filter_map(|at| set.rule(*at)) {
            let Some(action) = rule.then else { continue };
            let mode = mode.min(rule.mode);
            self.tell_answered(admission, response.status, action, rule, mode);
            if mode == Mode::Enforce {
                on_answer = on_answer.max_of(self.obey_on_answer(admission, &facts, rule, action));
            }
        }
        on_answer
    }

    fn obey_on_answer(&self, admission: &Admission, facts: &AnswerFacts<'_>, rule: &Rule, action: Action) -> OnAnswer {
        match action {
            Action::Rotate => return OnAnswer::Rotate,
            Action::Throttle => return OnAnswer::Throttle,
            Action::Terminate => return OnAnswer::Terminate(Box::new(rule.verdict(action))),
            Action::Quarantine | Action::Challenge | Action::Deny => {}
            Action::Allow | Action::Observe => return OnAnswer::Pass,
        }
        let now = admission.now;
        let (per, within) = rule.holds();
        let by_session = match &admission.holder {
            Holder::Session(known) => Some(known.record.reference.to_string()),
            _ => None,
        };
        let key = match (per, by_session) {
            (Some(per), _) => Key::of(HOLD_SALT, per, facts),
            (None, Some(reference)) => Key::new(HOLD_SALT, Field::SessionRef, &Value::Text(&reference)),
            (None, None) => {
                let ip = Value::Ip(crate::net::canonical(admission.ask.client.ip));
                Key::new(HOLD_SALT, Field::ClientIp, &ip)
            }
        };
        if let Some(key) = key {
            let (rule, tags, sync) = (rule.name.clone(), rule.tags.clone(), rule.sync_of(action));
            self.holds.hold(key, Held { action, rule, tags, since: now, until: now.after(within), sync }, now);
        }
        OnAnswer::Pass
    }

    /// Tells what a rule asks for on an answer.
    #[cold]
    fn tell_answered(&self, admission: &Admission, status: StatusCode, action: Action, rule: &Rule, mode: Mode) {
        let mut verdict = rule.verdict(action);
        if !acts_on_answer(action) {
            // Who is served this answer does not wait; those that it is held against do.
            verdict.sync = EventSync::Later;
        }
        self.tell_settled_verdict(admission, status, &verdict, mode);
    }

    /// Whether two readings of a path are two things to any rule here.
    pub(super) fn rules_read_paths_alike(request: &Request<'_>, readings: &Readings) -> bool {
        let set = request.rules();
        if set.reads().path == Read::No || request.mode() == Mode::Off {
            return true;
        }
        match readings {
            Readings::These(all) => set.reads_alike(&request.path.path, all.iter().map(|path| &**path)),
            Readings::Any => false,
        }
    }
}

/// Whether the rule that a verdict is held for is there still, and obeyed.
fn is_enforced(set: &RuleSet, held: &Held) -> bool {
    set.rules().iter().any(|rule| rule.name == held.rule && rule.mode == Mode::Enforce)
}

/// The salt of rates: they belong to no rule.
const RATE_SALT: u64 = 0x5241_5445;

impl OnAnswer {
    const fn strength(&self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Rotate => 1,
            Self::Throttle => 2,
            Self::Terminate(_) => 3,
        }
    }

    fn max_of(self, other: Self) -> Self {
        if other.strength() > self.strength() { other } else { self }
    }
}

impl Judged {
    /// Makes the verdict what an earlier one asks for, if that is stronger.
    pub(super) fn hold_to(&mut self, held: &Held) {
        if self.mode == Mode::Enforce && held.action == self.verdict.action {
            self.verdict.sync = self.verdict.sync.max(held.sync);
        }
        if self.mode == Mode::Enforce && held.action > self.verdict.action {
            self.verdict.action = held.action;
            self.verdict.rule = Some(held.rule.clone());
            self.verdict.sync = held.sync;
            self.verdict.add(Reason::new(held.rule.clone(), 0.0));
            self.verdict.tag(&held.tags);
        }
    }
}

/// Whether it is done to the answer itself, and not to requests to come.
const fn acts_on_answer(action: Action) -> bool {
    matches!(action, Action::Rotate | Action::Throttle | Action::Terminate)
}

fn refusal(action: Action) -> Refusal {
    match action {
        Action::Throttle => Refusal::throttled(&super::admit::THROTTLED),
        _ => Refusal::new(StatusCode::FORBIDDEN, RefusalKind::Denied),
    }
}
