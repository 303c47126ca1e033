//! Another policy over what happened: who would have been hit.
//!
//! A recording is played in its order, and each request is judged as the guard would judge it: by the rules, the mode and the
//! thresholds of the route that it falls on under the new policy, with windows of `count` and verdicts that hold. What is only
//! observed is judged beside it, as if it were obeyed. An answer that the app would not have been asked for is not looked at.
//!
//! Points that were left from earlier requests are those of then: what other rules would have left of them can not be known.
//! The same goes for what other settings than those of rules and routes would have changed, such as what a login is. What
//! privacy hid in the recording is unknown to comparisons that need its value, and those are counted.

mod alone;
mod ground;
mod tally;
mod undecided;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Policy;
use super::count::{HOLD_SALT, Held, Holds, Key, Windows};
use super::file::PER;
use super::judge::{Evidence, Judgement, Party, judge};
use super::recorded::Line;
use super::scheme::{Field, Phase};
use super::set::{Matched, Rule, RuleSet, Scenery};
use super::value::{Facts, Value};
use crate::clock::Timestamp;
use crate::signal::Scoring;
use crate::verdict::{Action, Mode, Verdict};
pub use alone::Alone;
use ground::{Ground, Place, Played};
use tally::Tally;

/// Requests that would have been refused, whose answers may still come.
const REFUSED_MAX: usize = 10_000;

/// Somebody who would have been hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// When.
    pub at: Timestamp,
    /// What would have been done.
    pub action: Action,
    /// What was done.
    pub then: Action,
    /// The rule that asked for it.
    pub rule: String,
    /// The session's public name; none for a request without one.
    pub session: Option<String>,
    /// For whom it was authenticated.
    pub subject: Option<String>,
    /// Method and path.
    pub request: String,
}

/// How often a rule matched, in one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleHits {
    /// Its name.
    pub rule: String,
    /// What it asks for: `score 20`, `deny`.
    pub asks: String,
    /// Whether it was obeyed there: the lowest of the ceiling, the route's mode and its own.
    pub mode: Mode,
    /// Requests that it matched, or that a verdict of it held for.
    pub requests: usize,
    /// Sessions of them.
    pub sessions: usize,
    /// Subjects of them.
    pub subjects: usize,
    /// Requests of which nobody knows whether it would have matched, because what it compares is hidden.
    pub undecided: usize,
}

/// What could not be decided, because privacy hid what is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undecided {
    /// Comparisons and counts of rules that they could have decided.
    pub comparisons: usize,
    /// Lines of the recording that had any: requests, and answers to them.
    pub lines: usize,
}

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// How many requests there were.
    pub requests: usize,
    /// When the first and the last of them came.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Everybody whom rules that are obeyed would have hit, and who was not then; of a session, the first of each action.
    pub hits: Vec<Hit>,
    /// Requests that were held back then, and would not be.
    pub spared: usize,
    /// Everybody whom rules that are only observed would have hit besides, if they were obeyed; of a session, the first of each
    /// rule and action.
    pub observed: Vec<Hit>,
    /// How often each rule matched: those that did, could not be decided, or are observed wherever they are.
    pub rules: Vec<RuleHits>,
    /// What could not be decided.
    pub undecided: Undecided,
}

/// How many sessions, and of how many subjects, an action would have met.
pub fn met(hits: &[Hit], action: Action) -> (usize, usize) {
    let of_action = || hits.iter().filter(move |hit| hit.action == action);
    let sessions: BTreeSet<_> = of_action().filter_map(|hit| hit.session.as_ref()).collect();
    let subjects: BTreeSet<_> = of_action().filter_map(|hit| hit.subject.as_ref()).collect();
    (sessions.len(), subjects.len())
}

/// Plays recorded requests under another policy.
#[derive(Debug)]
pub struct Replay<'p> {
    ground: Ground<'p>,
    windows: Windows,
    /// Verdicts of rules that are obeyed.
    holds: Holds,
    /// Those of rules that are observed.
    wishes: Holds,
    refused: BTreeMap<RequestKey, usize>,
    out: Replayed,
    tally: Tally,
    told: BTreeSet<(String, Action)>,
    told_observed: BTreeSet<(String, Action, String)>,
}

/// A request and its answer have this in common.
type RequestKey = (Timestamp, String, String);

/// What would be done about a request.
#[derive(Debug, Default)]
struct Verdicts {
    /// By rules that are obeyed.
    enforced: Verdict,
    /// By those that are observed too, if that differs.
    observed: Option<Verdict>,
}

impl<'p> Replay<'p> {
    /// A replay under a policy: each request is judged by what holds on its route.
    pub fn new(policy: &'p Policy) -> Self {
        Self::on(Ground::Policy(policy))
    }

    /// A replay under rules alone, which hold wherever a request went.
    pub fn of_rules(set: &'p RuleSet, scoring: &'p Scoring) -> Self {
        Self::on(Ground::Rules(set, scoring))
    }

    fn on(ground: Ground<'p>) -> Self {
        let mut tally = Tally::default();
        for (set, mode) in ground.sets() {
            let observed = set.rules().iter().filter(|rule| rule.mode == Mode::Observe && mode > Mode::Off);
            observed.for_each(|rule| tally.list(rule, Mode::Observe));
        }
        Self {
            ground,
            windows: Windows::default(),
            holds: Holds::default(),
            wishes: Holds::default(),
            refused: BTreeMap::new(),
            out: Replayed::default(),
            tally,
            told: BTreeSet::new(),
            told_observed: BTreeSet::new(),
        }
    }

    /// Plays one request, or the answer to one.
    pub fn play(&mut self, line: &Line) {
        let at = line.facts.at;
        self.out.span = Some(self.out.span.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        let place = self.ground.place(&line.facts);
        let played = Played::new(&line.facts, &place);
        if line.phase == Phase::Response {
            self.answer(line, &played, &place);
        } else {
            self.out.requests += 1;
            let verdicts = self.request(line, &played, &place);
            self.note(line, verdicts);
        }
    }

    /// What came of it.
    pub fn finish(self) -> Replayed {
        Replayed { rules: self.tally.finish(), ..self.out }
    }

    fn request(&mut self, line: &Line, played: &Played<'_>, place: &Place<'_>) -> Verdicts {
        if place.mode == Mode::Off {
            return Verdicts::default();
        }
        let mut matched = Matched::new();
        self.note_undecided(line, played, place);
        let counted = (&self.windows, place.mode);
        place.set.run(Phase::Client, Scenery::Quiet, played, counted, &mut matched);
        if let Some(verdicts) = self.refused_early(line, played, place, &matched) {
            return verdicts;
        }
        let (judgement, [obeyed, observed]) = self.judged(line, played, place, &mut matched);
        self.tally.count((place, Mode::Enforce), played, line, matched.iter().chain(&obeyed));
        self.tally.count((place, Mode::Observe), played, line, matched.iter().chain(&observed));
        let Judgement { verdict, would, .. } = judgement;
        let mut verdicts = match (place.mode, would) {
            (Mode::Enforce, would) => Verdicts { enforced: verdict, observed: would.map(|would| *would) },
            (_, would) => {
                Verdicts { enforced: Verdict::default(), observed: Some(would.map_or(verdict, |would| *would)) }
            }
        };
        for phase in [Phase::Client, Phase::Session] {
            if let Some(held) = self.held(&self.holds, played, place, (phase, Mode::Enforce)) {
                self.hold_to(&mut verdicts.enforced, &held, line, (place, Mode::Enforce));
            }
            let wished =
                [&self.holds, &self.wishes].map(|holds| self.held(holds, played, place, (phase, Mode::Observe)));
            if let Some(held) = wished.into_iter().flatten().max_by_key(|held| held.action) {
                let mut would = verdicts.observed.take().unwrap_or_else(|| verdicts.enforced.clone());
                self.hold_to(&mut would, &held, line, (place, Mode::Observe));
                verdicts.observed = Some(would);
            }
        }
        let refuses = match verdicts.enforced.action {
            Action::Deny | Action::Throttle => true,
            // Who is asked to log in gets to the login.
            Action::Challenge => !self.ground.goes_to_login(played),
            _ => false,
        };
        if refuses {
            self.refuse(line);
        }
        verdicts
    }

    /// What refuses a request before its session is looked for: nothing else is asked or counted then.
    fn refused_early(
        &mut self,
        line: &Line,
        played: &Played<'_>,
        place: &Place<'_>,
        matched: &Matched,
    ) -> Option<Verdicts> {
        if place.mode != Mode::Enforce {
            return None;
        }
        let asking = |mode: Mode| {
            let rules = matched.iter().filter_map(|at| place.set.rule(*at)).filter(move |rule| rule.mode == mode);
            rules.filter_map(|rule| Some((rule.then?, rule))).max_by_key(|(then, _)| *then)
        };
        let by_rule = asking(Mode::Enforce).filter(|(then, _)| matches!(then, Action::Deny | Action::Throttle));
        let held = self.held(&self.holds, played, place, (Phase::Client, Mode::Enforce));
        let tries = || !is_safe(played) && self.ground.goes_to_login(played);
        let by_held = held.filter(|held| match held.action {
            Action::Deny | Action::Throttle => true,
            Action::Challenge => tries(),
            _ => false,
        });
        let enforced = match (by_rule, by_held) {
            (Some((then, rule)), _) => Verdict::by_rule(then, &rule.name, &rule.tags),
            (None, Some(held)) => {
                let mut verdict = Verdict::default();
                self.hold_to(&mut verdict, &held, line, (place, Mode::Enforce));
                verdict
            }
            (None, None) => return None,
        };
        let observed = asking(Mode::Observe).filter(|(then, _)| *then > enforced.action);
        let observed = observed.map(|(then, rule)| Verdict::by_rule(then, &rule.name, &rule.tags));
        for mode in [Mode::Enforce, Mode::Observe] {
            self.tally.count((place, mode), played, line, matched.iter());
        }
        self.refuse(line);
        Some(Verdicts { enforced, observed })
    }

    /// Judges a request with its session. With the rules by risk that matched: for what is obeyed, and for what is observed.
    fn judged(
        &self,
        line: &Line,
        played: &Played<'_>,
        place: &Place<'_>,
        matched: &mut Matched,
    ) -> (Judgement, [Matched; 2]) {
        let signals = line.facts.signals();
        let scenery = if signals.is_empty() { Scenery::Quiet } else { Scenery::Signals };
        // Of a request that was refused at once nobody knows more than rules of the client saw.
        let knows_more = line.phase > Phase::Client;
        if knows_more {
            place.set.run(Phase::Session, scenery, played, (&self.windows, place.mode), matched);
        }
        let evidence = Evidence {
            set: place.set,
            matched,
            signals: &signals,
            before: line.before,
            sensitivity: place.sensitivity,
            party: party(played),
        };
        // Asked once for the rules that are obeyed, and perhaps once more for those that are observed.
        let asked = RefCell::new(Vec::<Matched>::new());
        let judgement = judge(&evidence, place.scoring, |risk| {
            let mut risky = Matched::new();
            let mut asked = asked.borrow_mut();
            if knows_more {
                let counted = (&self.windows, place.mode);
                place.set.run(Phase::Risk, scenery, &played.at_risk(risk), counted, &mut risky);
            }
            asked.push(risky.clone());
            risky
        });
        let mut asked = asked.into_inner();
        let observed = asked.pop().unwrap_or_default();
        let obeyed = asked.into_iter().next().unwrap_or_else(|| observed.clone());
        (judgement, [obeyed, observed])
    }

    fn answer(&mut self, line: &Line, played: &Played<'_>, place: &Place<'_>) {
        if place.mode == Mode::Off || self.was_refused(line) {
            return;
        }
        // Whom a login names is known with its answer; the guard knows it before.
        let by_subject = |holds: &Holds, least| {
            let key = Key::of(HOLD_SALT, Field::LoginSubject, played)?;
            holds.find(key, played.now()).filter(|held| is_in_force(place, held, least))
        };
        if let Some(held) = by_subject(&self.holds, Mode::Enforce) {
            let mut enforced = Verdict::default();
            self.hold_to(&mut enforced, &held, line, (place, Mode::Enforce));
            return self.note(line, Verdicts { enforced, observed: None });
        }
        if let Some(held) = by_subject(&self.wishes, Mode::Observe) {
            let mut would = Verdict::default();
            self.hold_to(&mut would, &held, line, (place, Mode::Observe));
            self.note(line, Verdicts { enforced: Verdict::default(), observed: Some(would) });
        }
        let mut matched = Matched::new();
        self.note_undecided(line, played, place);
        let counted = (&self.windows, place.mode);
        place.set.run(Phase::Response, Scenery::Quiet, played, counted, &mut matched);
        for mode in [Mode::Enforce, Mode::Observe] {
            self.tally.count((place, mode), played, line, matched.iter());
        }
        for rule in matched.iter().filter_map(|at| place.set.rule(*at)) {
            let Some(action) = rule.then.filter(|then| party(played).feels(*then)) else { continue };
            let holds = match place.mode.min(rule.mode) {
                Mode::Enforce => &self.holds,
                Mode::Observe => &self.wishes,
                Mode::Off => continue,
            };
            if self::holds(Some(action)) {
                hold(holds, rule, action, played);
                continue;
            }
            let verdict = Verdict::by_rule(action, &rule.name, &rule.tags);
            let verdicts = if place.mode.min(rule.mode) == Mode::Enforce {
                Verdicts { enforced: verdict, observed: None }
            } else {
                Verdicts { enforced: Verdict::default(), observed: Some(verdict) }
            };
            self.note(line, verdicts);
        }
    }

    /// A verdict on an earlier answer that holds by a field of this phase, of a rule that is in force here in this mode.
    fn held(
        &self,
        holds: &Holds,
        played: &Played<'_>,
        place: &Place<'_>,
        (phase, least): (Phase, Mode),
    ) -> Option<Arc<Held>> {
        if holds.is_empty() {
            return None;
        }
        let host = (0..place.set.host().len()).filter_map(|at| u16::try_from(at).ok()).map(Field::Host);
        let fields = PER.iter().copied().chain(host).filter(|field| field.phase() == phase);
        let found = fields.filter_map(|field| holds.find(Key::of(HOLD_SALT, field, played)?, played.now()));
        let found = found.filter(|held| is_in_force(place, held, least) && is_owed(held, played, phase));
        found.max_by_key(|held| held.action)
    }

    /// Makes the verdict what an earlier one asks for, if that is stronger. It counts for its rule if that has this mode here.
    fn hold_to(&mut self, verdict: &mut Verdict, held: &Held, line: &Line, (place, mode): (&Place<'_>, Mode)) {
        if held.action > verdict.action {
            *verdict = held.verdict();
            let rule = place.set.rules().iter().find(|rule| rule.name == held.rule);
            if let Some(rule) = rule.filter(|rule| place.mode.min(rule.mode) == mode) {
                self.tally.add(rule, mode, &line.facts);
            }
        }
    }

    /// The app would not have been asked.
    fn refuse(&mut self, line: &Line) {
        *self.refused.entry(request_key(line)).or_default() += 1;
        while self.refused.len() > REFUSED_MAX {
            self.refused.pop_first();
        }
    }

    fn was_refused(&mut self, line: &Line) -> bool {
        let key = request_key(line);
        let Some(count) = self.refused.get_mut(&key) else { return false };
        *count -= 1;
        if *count == 0 {
            self.refused.remove(&key);
        }
        true
    }

    fn note(&mut self, line: &Line, verdicts: Verdicts) {
        let Verdicts { enforced, observed } = verdicts;
        let (is, was) = (enforced.action, line.action);
        if was >= Action::Quarantine && is < Action::Quarantine && line.phase != Phase::Response {
            self.out.spared += 1;
        }
        if is > was && hurts(is) && self.told.insert((who(line), is)) {
            self.out.hits.push(hit(line, &enforced));
        }
        if let Some(would) = observed.filter(|would| would.action > is && hurts(would.action)) {
            let found = hit(line, &would);
            if self.told_observed.insert((who(line), would.action, found.rule.clone())) {
                self.out.observed.push(found);
            }
        }
    }
}

/// Whether somebody notices: points are reported, and a new tag is given, without anybody being held back.
fn hurts(action: Action) -> bool {
    action >= Action::Throttle && action != Action::Rotate
}

fn hit(line: &Line, verdict: &Verdict) -> Hit {
    let by_points = || "the points of all rules together".to_owned();
    Hit {
        at: line.facts.at,
        action: verdict.action,
        then: line.action,
        rule: verdict.rule.as_ref().map_or_else(by_points, ToString::to_string),
        session: text(line, Field::SessionRef),
        subject: text(line, Field::SessionSubject),
        request: request_of(line),
    }
}

fn text(line: &Line, field: Field) -> Option<String> {
    line.facts.value(field).as_name().map(ToOwned::to_owned)
}

/// The session, or the client if there is none.
fn who(line: &Line) -> String {
    text(line, Field::SessionRef).unwrap_or_else(|| line.facts.value(Field::ClientIp).to_string())
}

fn request_of(line: &Line) -> String {
    [Field::RequestMethod, Field::RequestPath].map(|field| text(line, field).unwrap_or_default()).join(" ")
}

fn request_key(line: &Line) -> RequestKey {
    (line.asked, line.facts.value(Field::ClientIp).to_string(), request_of(line))
}

fn party(played: &Played<'_>) -> Party {
    if played.value(Field::SessionRef).is_known() { Party::Session } else { Party::Stranger }
}

fn is_safe(played: &Played<'_>) -> bool {
    let method = played.value(Field::RequestMethod);
    matches!(method.as_text(), Some("GET" | "HEAD" | "OPTIONS" | "TRACE"))
}

/// Whether the rule that a verdict is held for is there still, and in this mode.
fn is_in_force(place: &Place<'_>, held: &Held, least: Mode) -> bool {
    place.mode >= least && place.set.rules().iter().any(|rule| rule.name == held.rule && rule.mode >= least)
}

/// Who is asked to log in and has done so is asked no more.
fn is_owed(held: &Held, played: &Played<'_>, phase: Phase) -> bool {
    match played.value(Field::SessionSinceAuthentication) {
        Value::Millis(ago) if held.action == Action::Challenge => {
            phase == Phase::Session && played.now().before(std::time::Duration::from_millis(ago)) <= held.since
        }
        _ => true,
    }
}

/// Whether a verdict on an answer holds for requests to come.
fn holds(then: Option<Action>) -> bool {
    matches!(then, Some(Action::Quarantine | Action::Challenge | Action::Deny))
}

/// Whom the verdict of a rule on an answer holds for.
fn held_by(rule: &Rule, played: &Played<'_>) -> Field {
    let has_session = played.value(Field::SessionRef).is_known();
    rule.holds().0.unwrap_or(if has_session { Field::SessionRef } else { Field::ClientIp })
}

/// Holds the verdict of a rule for requests to come.
fn hold(holds: &Holds, rule: &Rule, action: Action, played: &Played<'_>) {
    if let Some(key) = Key::of(HOLD_SALT, held_by(rule, played), played) {
        let (name, tags, now, within) = (rule.name.clone(), rule.tags.clone(), played.now(), rule.holds().1);
        let (until, sync) = (now.after(within), rule.sync_of(action));
        holds.hold(key, Held { action, rule: name, tags, since: now, until, sync }, now);
    }
}
