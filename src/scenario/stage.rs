//! Where a scenario is played: a guard over a store in memory, with a clock that stands still.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Version, request};
use parking_lot::Mutex;

use super::file::{Engine, Expect, Scenario, ScenarioFile, Step, Visitor};
use super::{Coverage, Covered, Difference, Failed, PlayError, place};
use crate::config::Rulebook;
use crate::engine::{Looked, Observer, Places};
use crate::event::{Kind, Record as Told};
use crate::facts::geo::Place;
use crate::rehearsal::{Events, Rehearsal, Staging, app_answer, subject_of};
use crate::rules::scheme::{Field, Phase};
use crate::rules::{Recorded, RuleSet, Value};
use crate::verdict::Action;

pub(super) struct Stage<'f> {
    file: &'f ScenarioFile,
    rehearsal: Rehearsal,
    watch: Arc<Watch>,
    jars: BTreeMap<String, BTreeMap<String, String>>,
    sets: Vec<Arc<RuleSet>>,
}

/// What was seen of the rules.
struct Watch {
    attention: Attention,
    seen: Mutex<Seen>,
}

/// How much is to be kept of what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attention {
    /// What coverage and explanations need.
    All,
    /// Which rules matched.
    Matches,
}

#[derive(Default)]
struct Seen {
    coverage: Coverage,
    /// The rules that matched in this step.
    matched: Vec<String>,
    risk: Option<String>,
    /// What the rules saw last, by phase.
    last: Vec<(Phase, Recorded)>,
}

impl Observer for Watch {
    fn looked(&self, at: &Looked<'_>) {
        let mut seen = self.seen.lock();
        let names = at.matched.iter().filter_map(|place| at.set.rule(*place)).map(|rule| rule.name.to_string());
        seen.matched.extend(names);
        if self.attention == Attention::Matches {
            return;
        }
        for rule in at.set.rules().iter().filter(|rule| runs(rule.phase, at.phase)) {
            let covered = seen.coverage.entry(rule.name.to_string()).or_default();
            covered.place = rule.place();
            match rule.outcome(at.facts) {
                Some(true) => covered.matched += 1,
                Some(false) => covered.passed += 1,
                // What is not known shows nothing.
                None => {}
            }
        }
        if let Value::Int(risk) = at.facts.value(Field::Risk) {
            seen.risk = Some(risk.to_string());
        }
        seen.last.push((at.phase, Recorded::of(at.facts, at.phase, at.set)));
    }
}

/// Whether rules of a phase run in a look at another.
fn runs(rule: Phase, look: Phase) -> bool {
    match look {
        Phase::Response => rule == Phase::Response,
        other => rule <= other,
    }
}

/// What became of a request.
struct Came {
    action: Action,
    status: StatusCode,
    subject: Option<String>,
}

impl<'f> Stage<'f> {
    pub(super) fn set_up(
        file: &'f ScenarioFile,
        scenario: &Scenario,
        rulebook: &Rulebook,
        attention: Attention,
    ) -> Result<Self, PlayError> {
        let watch = Arc::new(Watch { attention, seen: Mutex::default() });
        // Rules that no request comes to are not covered, and shall be seen not to be.
        for rule in rulebook.sets().flat_map(|(_, set)| set.rules()) {
            let covered = watch.seen.lock().coverage.entry(rule.name.to_string()).or_default().clone();
            watch.seen.lock().coverage.insert(rule.name.to_string(), Covered { place: rule.place(), ..covered });
        }
        let rehearsal = Rehearsal::new(Staging {
            settings: &file.settings,
            rulebook,
            places: places(&file.clients),
            start: scenario.start,
            seed: 1,
            observer: Some(watch.clone()),
            events: Events::Kept,
        })?;
        Ok(Self {
            file,
            rehearsal,
            watch,
            jars: BTreeMap::new(),
            sets: rulebook.sets().map(|(_, set)| set.clone()).collect(),
        })
    }

    /// Plays it up to the first step that is not as expected.
    pub(super) fn play(&mut self, scenario: &Scenario) -> Option<Failed> {
        scenario.steps.iter().enumerate().find_map(|(at, step)| self.step(at, step))
    }

    pub(super) fn cover(&self, coverage: &mut Coverage) {
        for (name, seen) in &self.watch.seen.lock().coverage {
            let covered = coverage.entry(name.clone()).or_default();
            covered.matched += seen.matched;
            covered.passed += seen.passed;
            covered.place.clone_from(&seen.place);
        }
    }

    /// What is expected holds for the last of a step's repetitions.
    fn step(&mut self, at: usize, step: &Step) -> Option<Failed> {
        let mut found = None;
        for _ in 0..step.times {
            self.rehearsal.clock.advance(step.after);
            {
                let mut seen = self.watch.seen.lock();
                seen.matched.clear();
                seen.risk = None;
                seen.last.clear();
            }
            self.rehearsal.told();
            let came = self.send(step)?;
            found = Some((came, self.rehearsal.told()));
        }
        let (mut came, told) = found?;
        // A session may be ended and its client refused as well: the stronger counts.
        if told.iter().any(|told| told.event.kind() == Kind::SessionTerminated && told.scene.would.is_none()) {
            came.action = came.action.max(Action::Terminate);
        }
        let seen = self.watch.seen.lock();
        let differences = differences(&step.expect, &came, &told, &seen.matched);
        if differences.is_empty() {
            return None;
        }
        let missing = step.expect.rules.iter().filter(|rule| !seen.matched.contains(rule));
        let explained = missing.filter_map(|name| {
            let set = self.sets.iter().find(|set| set.rules().iter().any(|rule| rule.name == **name))?;
            let rule = set.rules().iter().find(|rule| rule.name == **name)?;
            let last = seen.last.iter().rev().find(|(phase, _)| runs(rule.phase, *phase));
            last.map(|(_, facts)| rule.explain(facts, set))
        });
        Some(Failed {
            step: at + 1,
            place: place(&step.spot),
            sent: format!("{} sends {} {}", step.client, step.method, step.target),
            differences,
            explained: explained.collect(),
            matched: seen.matched.clone(),
            risk: seen.risk.clone(),
        })
    }

    fn send(&mut self, step: &Step) -> Option<Came> {
        let visitor = self.file.clients.get(&step.client)?;
        let jar = self.jars.get(step.session_of.as_ref().unwrap_or(&step.client)).cloned().unwrap_or_default();
        let mut parts = dress(step, visitor, &jar);
        let body = step.body.as_bytes();
        let played = self.rehearsal.play((visitor.ip, visitor.print, None), &mut parts, body, answer(step));
        let subject = played.reached_app.then(|| subject_of(&parts)).flatten();
        self.keep(step, &played.set_cookie);
        Some(Came { action: played.action, status: played.status, subject })
    }

    /// The client keeps what it was given. A copy of somebody's cookies is its own from then on.
    fn keep(&mut self, step: &Step, lines: &[String]) {
        if let Some(owner) = &step.session_of {
            let copy = self.jars.get(owner).cloned().unwrap_or_default();
            self.jars.insert(step.client.clone(), copy);
        }
        let jar = self.jars.entry(step.client.clone()).or_default();
        for line in lines {
            let pair = line.split(';').next().unwrap_or_default();
            let Some((name, value)) = pair.split_once('=') else { continue };
            let is_gone = line.to_ascii_lowercase().split(';').any(|part| part.trim() == "max-age=0");
            if is_gone {
                jar.remove(name.trim());
            } else {
                jar.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}

fn places(clients: &BTreeMap<String, Visitor>) -> Places {
    let places: BTreeMap<IpAddr, Place> = clients.values().map(|visitor| (visitor.ip, visitor.place)).collect();
    let cities: BTreeMap<IpAddr, Box<str>> =
        clients.values().filter_map(|visitor| Some((visitor.ip, visitor.city.clone()?))).collect();
    Places::new(move |ip| places.get(&ip).copied().unwrap_or_default()).with_cities(move |ip| cities.get(&ip).cloned())
}

/// The request as the client sends it.
fn dress(step: &Step, visitor: &Visitor, jar: &BTreeMap<String, String>) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = step.method.clone();
    parts.uri = step.target.parse().unwrap_or_default();
    if visitor.print.http2.is_some() {
        parts.version = Version::HTTP_2;
    }
    parts.extensions.insert(step.facts.clone());
    parts.headers.insert(HOST, HeaderValue::from_static("shop.example"));
    if let Some(engine) = visitor.engine {
        let fetch = [
            ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-user", "?1"),
            ("sec-fetch-dest", "document"),
        ];
        let mut put = |(name, value)| parts.headers.insert(name, HeaderValue::from_static(value));
        match engine {
            Engine::Chromium => fetch.into_iter().for_each(|line| drop(put(line))),
            Engine::Firefox => fetch.into_iter().rev().for_each(|line| drop(put(line))),
        }
    }
    if step.method == Method::POST {
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(step.body.len()));
    }
    let line: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if let (false, Ok(line)) = (line.is_empty(), HeaderValue::from_str(&line.join("; "))) {
        parts.headers.insert(COOKIE, line);
    }
    for (name, value) in visitor.headers.iter().chain(&step.headers) {
        parts.headers.insert(name.clone(), value.clone());
    }
    parts
}

fn answer(step: &Step) -> http::response::Parts {
    let app = &step.app;
    let status = StatusCode::from_u16(app.status).unwrap_or_default();
    let mut parts = app_answer(status, app.login.as_deref(), app.logout);
    for (name, value) in &app.headers {
        parts.headers.append(name.clone(), value.clone());
    }
    parts
}

fn differences(expect: &Expect, came: &Came, told: &[Told], matched: &[String]) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differ = |what, expected: String, found_: String| found.push(Difference { what, expected, found: found_ });
    if let Some(action) = expect.action.filter(|action| *action != came.action) {
        differ("action", action.to_string(), came.action.to_string());
    }
    let would = told.iter().filter_map(|told| told.scene.would).max().unwrap_or_default();
    if let Some(action) = expect.would.filter(|action| *action != would) {
        differ("would", action.to_string(), would.to_string());
    }
    if let Some(status) = expect.status.filter(|status| *status != came.status.as_u16()) {
        differ("status", status.to_string(), came.status.as_u16().to_string());
    }
    if let Some(subject) = &expect.subject {
        let served = came.subject.as_deref().unwrap_or_default();
        if served != subject {
            differ("subject", subject.clone(), served.to_owned());
        }
    }
    let kinds: Vec<&str> = told.iter().map(|told| told.event.kind().as_str()).collect();
    let wanted = |names: Vec<&str>, all: &[&str], there: bool| {
        names.iter().any(|name| all.contains(name) != there).then(|| names.join(", "))
    };
    let all: Vec<&str> = matched.iter().map(String::as_str).collect();
    let strings = |names: &'static str, list: Vec<&str>, all: &[&str], there: bool| {
        wanted(list, all, there).map(|list| {
            let expected = if there { list } else { format!("none of {list}") };
            (names, expected, if all.is_empty() { "nothing".to_owned() } else { all.join(", ") })
        })
    };
    let rules = |list: &'_ [String]| -> Vec<String> { list.to_vec() };
    let (yes, no) = (rules(&expect.rules), rules(&expect.not_rules));
    let checks = [
        strings("rules", yes.iter().map(String::as_str).collect(), &all, true),
        strings("rules", no.iter().map(String::as_str).collect(), &all, false),
        strings("events", expect.events.iter().map(|kind| kind.as_str()).collect(), &kinds, true),
        strings("events", expect.not_events.iter().map(|kind| kind.as_str()).collect(), &kinds, false),
    ];
    for (what, expected, found_) in checks.into_iter().flatten() {
        differ(what, expected, found_);
    }
    found
}
