//! Other rules over what happened: who would have been hit.
//!
//! A recording is played in its order, with windows of `count` and verdicts that hold as the engine has them. Points that were
//! left from earlier requests are those of then: what other rules would have left of them can not be known.

use std::collections::{BTreeMap, BTreeSet};

use super::count::{Counting, HOLD_SALT, Held, Holds, Key, Windows};
use super::file::PER;
use super::judge::{Evidence, Party, judge};
use super::recorded::{Line, Recorded};
use super::scheme::{Field, Phase};
use super::set::{Matched, RuleSet, Scenery};
use super::value::{Facts, Value};
use crate::clock::Timestamp;
use crate::history::Points;
use crate::signal::{Scoring, Sensitivity};
use crate::verdict::{Action, Mode, Verdict};

/// Somebody who would have been hit, who was not then.
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

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// How many requests there were.
    pub requests: usize,
    /// When the first and the last of them came.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Every hit that was not one then; of a session, the first of each action.
    pub hits: Vec<Hit>,
    /// Requests that were held back then, and would not be.
    pub spared: usize,
}

impl Replayed {
    /// How many sessions, and of how many subjects, an action would have met.
    pub fn met(&self, action: Action) -> (usize, usize) {
        let hits = || self.hits.iter().filter(move |hit| hit.action == action);
        let sessions: BTreeSet<_> = hits().filter_map(|hit| hit.session.as_ref()).collect();
        let subjects: BTreeSet<_> = hits().filter_map(|hit| hit.subject.as_ref()).collect();
        (sessions.len(), subjects.len())
    }
}

/// Plays recorded requests under other rules.
#[derive(Debug)]
pub struct Replay<'s> {
    set: &'s RuleSet,
    scoring: &'s Scoring,
    windows: Windows,
    holds: Holds,
    out: Replayed,
    told: BTreeMap<(String, Action), ()>,
}

impl<'s> Replay<'s> {
    /// A replay under these rules.
    pub fn new(set: &'s RuleSet, scoring: &'s Scoring) -> Self {
        let (windows, holds) = (Windows::default(), Holds::default());
        Self { set, scoring, windows, holds, out: Replayed::default(), told: BTreeMap::new() }
    }

    /// Plays one request, or the answer to one.
    pub fn play(&mut self, line: &Line) {
        let at = line.facts.at;
        self.out.span = Some(self.out.span.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        if line.phase == Phase::Response {
            self.answer(line);
        } else {
            self.out.requests += 1;
            self.request(line);
        }
    }

    /// What came of it.
    pub fn finish(self) -> Replayed {
        self.out
    }

    fn request(&mut self, line: &Line) {
        let facts = &line.facts;
        let signals = facts.signals();
        let scenery = if signals.is_empty() { Scenery::Quiet } else { Scenery::Signals };
        let mut matched = Matched::new();
        for phase in [Phase::Client, Phase::Session] {
            self.set.run(phase, scenery, facts, (&self.windows, Counting::Count, Mode::Enforce), &mut matched);
        }
        let evidence = Evidence {
            set: self.set,
            matched: &matched,
            signals: &signals,
            before: line.before,
            sensitivity: Sensitivity::Usual,
            party: if facts.value(Field::SessionRef).is_known() { Party::Session } else { Party::Stranger },
        };
        let (set, windows) = (self.set, &self.windows);
        let judgement = judge(&evidence, self.scoring, |risk| {
            let mut risky = Matched::new();
            set.run(
                Phase::Risk,
                scenery,
                &WithRisk { facts, risk },
                (windows, Counting::Look, Mode::Enforce),
                &mut risky,
            );
            risky
        });
        let mut verdict = judgement.verdict;
        for field in PER.iter().filter(|_| !self.holds.is_empty()) {
            let held = Key::of(HOLD_SALT, *field, facts).and_then(|key| self.holds.find(key, facts.at));
            if let Some(held) = held.filter(|held| held.action > verdict.action) {
                verdict = Verdict { action: held.action, rule: Some(held.rule.clone()), ..verdict };
            }
        }
        self.note(line, &verdict);
    }

    fn answer(&mut self, line: &Line) {
        let facts = &line.facts;
        let mut matched = Matched::new();
        self.set.run(
            Phase::Response,
            Scenery::Quiet,
            facts,
            (&self.windows, Counting::Count, Mode::Enforce),
            &mut matched,
        );
        let rules: Vec<_> = matched.iter().filter_map(|at| self.set.rule(*at)).collect();
        for rule in rules.into_iter().filter(|rule| rule.mode == Mode::Enforce) {
            let Some(action) = rule.then else { continue };
            if matches!(action, Action::Quarantine | Action::Challenge | Action::Deny) {
                let (per, within) = rule.holds();
                let by_default =
                    if facts.value(Field::SessionRef).is_known() { Field::SessionRef } else { Field::ClientIp };
                if let Some(key) = Key::of(HOLD_SALT, per.unwrap_or(by_default), facts) {
                    let (name, tags, until) = (rule.name.clone(), rule.tags.clone(), facts.at.after(within));
                    let held = Held { action, rule: name, tags, since: facts.at, until };
                    self.holds.hold(key, held, facts.at);
                }
            } else {
                let verdict = Verdict { action, rule: Some(rule.name.clone()), ..Verdict::default() };
                self.note(line, &verdict);
            }
        }
    }

    fn note(&mut self, line: &Line, verdict: &Verdict) {
        let (is, was) = (verdict.action, line.action);
        if was >= Action::Quarantine && is < Action::Quarantine && line.phase != Phase::Response {
            self.out.spared += 1;
        }
        if is <= was || is < Action::Throttle || is == Action::Rotate {
            return;
        }
        let text = |field| line.facts.value(field).as_text().map(ToOwned::to_owned);
        let session = text(Field::SessionRef);
        let who = session.clone().unwrap_or_else(|| line.facts.value(Field::ClientIp).to_string());
        if self.told.insert((who, is), ()).is_some() {
            return;
        }
        let request = [Field::RequestMethod, Field::RequestPath].map(|field| text(field).unwrap_or_default()).join(" ");
        let by_points = || "the points of all rules together".to_owned();
        self.out.hits.push(Hit {
            at: line.facts.at,
            action: is,
            then: was,
            rule: verdict.rule.as_ref().map_or_else(by_points, ToString::to_string),
            session,
            subject: text(Field::SessionSubject),
            request,
        });
    }
}

/// Facts with another risk than that of then.
struct WithRisk<'a> {
    facts: &'a Recorded,
    risk: Points,
}

impl Facts for WithRisk<'_> {
    fn value(&self, field: Field) -> Value<'_> {
        match field {
            Field::Risk => Value::Int(i64::from(self.risk.as_hundredths() / 100)),
            other => self.facts.value(other),
        }
    }

    fn now(&self) -> Timestamp {
        self.facts.at
    }
}
