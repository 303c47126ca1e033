//! What a change of rules means: which rules came, went, and ask for more or less than before.

use std::fmt;

use super::canonical::Canonical;
use super::file::Score;
use super::set::{Rule, RuleSet};
use super::{Policy, Route, Unknown};
use crate::limit::Spelled;
use crate::signal::Sensitivity;
use crate::verdict::{Action, Mode, Sighting};

/// Which way a change goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// More is done about some requests, and less about none.
    Stronger,
    /// Less is done about some requests, and more about none.
    Weaker,
    /// Neither can be said.
    Other,
}

impl Direction {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stronger => "stronger",
            Self::Weaker => "weaker",
            Self::Other => "other",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The rule, or the setting.
    pub what: String,
    /// What happened to it.
    pub how: String,
    /// Which way that goes.
    pub direction: Direction,
}

/// `shop/geo-jump: score 45 -> 60 (stronger)`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.what, self.how, self.direction.as_str())
    }
}

/// What it means to put `new` into the place of `old`.
pub fn rules(old: &RuleSet, new: &RuleSet) -> Vec<Change> {
    let of = |set: &RuleSet, name: &str| set.rules().iter().position(|rule| rule.name.as_str() == name);
    let mut changes = Vec::new();
    for rule in old.rules() {
        match of(new, rule.name.as_str()).and_then(|at| new.rules().get(at)) {
            Some(now) => changes.extend(changed(rule, now)),
            None => changes.push(Change {
                what: rule.name.to_string(),
                how: format!("removed; it asked for {}", asks(rule)),
                direction: if rule.mode == Mode::Enforce { Direction::Weaker } else { Direction::Other },
            }),
        }
    }
    for rule in new.rules().iter().filter(|rule| of(old, rule.name.as_str()).is_none()) {
        let how = match rule.mode {
            Mode::Enforce => format!("new; it asks for {}", asks(rule)),
            mode => format!("new in mode {mode}; it would ask for {}", asks(rule)),
        };
        let direction = if rule.mode == Mode::Enforce { Direction::Stronger } else { Direction::Other };
        changes.push(Change { what: rule.name.to_string(), how, direction });
    }
    changes
}

fn asks(rule: &Rule) -> String {
    let points = rule.points().map(|points| format!("score {points}"));
    let then = rule.then.map(|action| action.to_string());
    let parts: Vec<String> = points.into_iter().chain(then).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" and ") }
}

fn changed(old: &Rule, new: &Rule) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut note = |how: String, direction| changes.push(Change { what: new.name.to_string(), how, direction });
    if old.mode != new.mode {
        note(format!("mode {} -> {}", old.mode, new.mode), by(new.mode > old.mode));
    }
    let action = |rule: &Rule| rule.then.unwrap_or(Action::Allow);
    if old.then != new.then {
        let word = |rule: &Rule| rule.then.map_or("nothing".to_owned(), |action| action.to_string());
        // A request that is slowed down is not served, one with a new tag is.
        let is_odd = [old, new].iter().any(|rule| rule.then == Some(Action::Throttle));
        let direction = if is_odd { Direction::Other } else { by(action(new) > action(old)) };
        note(format!("then {} -> {}", word(old), word(new)), direction);
    }
    if old.score != new.score {
        let direction = match (old.score, new.score) {
            (Score::Fixed(before), Score::Fixed(now)) => by(now > before),
            (Score::None, _) => Direction::Stronger,
            (_, Score::None) => Direction::Weaker,
            _ => Direction::Other,
        };
        let word = |rule: &Rule| rule.points().unwrap_or_else(|| "none".to_owned());
        note(format!("score {} -> {}", word(old), word(new)), direction);
    }
    if old.unknown != new.unknown {
        let word = |rule: &Rule| if rule.unknown == Unknown::Fire { "fire" } else { "silent" };
        note(format!("unknown {} -> {}", word(old), word(new)), by(new.unknown == Unknown::Fire));
    }
    if old.sync != new.sync {
        note(format!("sync {} -> {}", old.sync.as_str(), new.sync.as_str()), Direction::Other);
    }
    if old.event != new.event {
        let word = |rule: &Rule| rule.event.map_or("none", Sighting::as_str);
        note(format!("event {} -> {}", word(old), word(new)), Direction::Other);
    }
    match (&old.count, &new.count) {
        (None, Some(count)) => {
            note(format!("counted: only over {} within {:?}", count.over, count.within), Direction::Weaker)
        }
        (Some(_), None) => note("no longer counted: every match".to_owned(), Direction::Stronger),
        (Some(before), Some(now)) => {
            if before.over != now.over {
                note(format!("count over {} -> {}", before.over, now.over), by(now.over < before.over));
            }
            if before.within != now.within {
                note(format!("count within {:?} -> {:?}", before.within, now.within), by(now.within > before.within));
            }
            if before.per != now.per {
                note(format!("count per {} -> {}", before.per.name(&[]), now.per.name(&[])), Direction::Other);
            }
        }
        (None, None) => {}
    }
    note_tunes(old, new, &mut note);
    let zone = |rule: &Rule| rule.zone.as_ref().and_then(|zone| zone.iana_name().map(ToOwned::to_owned));
    if zone(old) != zone(new) {
        note("the time zone changed".to_owned(), Direction::Other);
    }
    if Canonical::of(&old.cond) != Canonical::of(&new.cond)
        || (old.written() != new.written() && old.written().contains("facts."))
    {
        note(format!("when changed: {} -> {}", old.written(), new.written()), Direction::Other);
    }
    if old.hold != new.hold {
        note("whom it holds for, or how long, changed".to_owned(), Direction::Other);
    }
    changes
}

/// How tunes changed.
fn note_tunes(old: &Rule, new: &Rule, note: &mut impl FnMut(String, Direction)) {
    if old.unless.len() != new.unless.len() {
        let (before, now) = (old.unless.len(), new.unless.len());
        // Fewer tunes may each excuse more.
        let direction = match (before, now) {
            (0, _) => Direction::Weaker,
            (_, 0) => Direction::Stronger,
            _ => Direction::Other,
        };
        note(format!("tunes {before} -> {now}"), direction);
    } else if tunes(old) != tunes(new) {
        note("a tune changed".to_owned(), Direction::Other);
    }
}

/// The conditions of the tunes that excuse a rule.
fn tunes(rule: &Rule) -> Vec<Canonical<'_>> {
    rule.unless.iter().map(|(tune, _)| Canonical::of(tune)).collect()
}

fn by(stronger: bool) -> Direction {
    if stronger { Direction::Stronger } else { Direction::Weaker }
}

/// What it means to put one policy into the place of another: rules everywhere and by route, modes, thresholds.
pub fn policies(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut changes = thresholds(old, new);
    if old.mode != new.mode {
        let how = format!("{} -> {}", old.mode, new.mode);
        changes.push(Change { what: "rules.mode".to_owned(), how, direction: by(new.mode > old.mode) });
    }
    let everywhere = rules(&old.rules, &new.rules);
    changes.extend(everywhere.iter().cloned());
    let mut templates: Vec<&str> = old.routes.iter().chain(&new.routes).map(|route| &*route.template).collect();
    templates.sort_unstable();
    templates.dedup();
    for template in templates {
        let of = |policy: &Policy| policy.routes.iter().position(|route| &*route.template == template);
        let (before, now) = (of(old).and_then(|at| old.routes.get(at)), of(new).and_then(|at| new.routes.get(at)));
        let here =
            rules(old.rules_on(before), new.rules_on(now)).into_iter().filter(|change| !everywhere.contains(change));
        changes.extend(here.map(|change| Change { what: format!("{template} {}", change.what), ..change }));
        // That of `[rules]`, and that of its rules, are told above.
        let mode = |route: Option<&Route>| route.map_or(Mode::Enforce, |route| route.mode);
        if mode(before) != mode(now) {
            let how = format!("mode {} -> {}", mode(before), mode(now));
            changes.push(Change { what: template.to_owned(), how, direction: by(mode(now) > mode(before)) });
        }
        let is_sensitive =
            |route: Option<&Route>| route.is_some_and(|route| route.sensitivity == Sensitivity::Sensitive);
        if is_sensitive(before) != is_sensitive(now) {
            let how = if is_sensitive(now) { "sensitive now" } else { "no longer sensitive" }.to_owned();
            changes.push(Change { what: template.to_owned(), how, direction: by(is_sensitive(now)) });
        }
        let fresh = |route: Option<&Route>| route.and_then(|route| route.fresh);
        if fresh(before) != fresh(now) {
            let word = |route| fresh(route).map_or("any age".to_owned(), |span| Spelled(span).to_string());
            let is_stronger = match (fresh(before), fresh(now)) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(before), Some(now)) => now < before,
            };
            let how = format!("authentication younger than: {} -> {}", word(before), word(now));
            changes.push(Change { what: template.to_owned(), how, direction: by(is_stronger) });
        }
    }
    changes
}

fn thresholds(old: &Policy, new: &Policy) -> Vec<Change> {
    let (before, now) = (&old.scoring.thresholds, &new.scoring.thresholds);
    let all = [
        ("observe", before.observe, now.observe),
        ("rotate", before.rotate, now.rotate),
        ("quarantine", before.quarantine, now.quarantine),
        ("terminate", before.terminate, now.terminate),
    ];
    let mut changes: Vec<Change> = all
        .into_iter()
        .filter(|(_, before, now)| before != now)
        .map(|(name, before, now)| Change {
            what: format!("rules.risk.{name}"),
            how: format!("{before} -> {now} points"),
            direction: by(now < before),
        })
        .collect();
    if before.sensitive_percent != now.sensitive_percent {
        let how = format!("{} -> {} per cent", before.sensitive_percent, now.sensitive_percent);
        let direction = by(now.sensitive_percent < before.sensitive_percent);
        changes.push(Change { what: "rules.risk.sensitive_factor".to_owned(), how, direction });
    }
    if old.scoring.half_life != new.scoring.half_life {
        let how = "points fade at another pace".to_owned();
        changes.push(Change { what: "rules.risk.half_life".to_owned(), how, direction: Direction::Other });
    }
    changes
}

/// All changes in one line, for events: as many as fit.
pub fn summary(changes: &[Change], most: usize) -> String {
    if changes.is_empty() {
        return "no rule changed".to_owned();
    }
    let mut out = String::new();
    for (at, change) in changes.iter().enumerate() {
        let next = change.to_string();
        if out.len() + next.len() > most {
            let left = changes.len() - at;
            return if out.is_empty() { format!("{left} changes") } else { format!("{out}; and {left} more") };
        }
        if !out.is_empty() {
            out.push_str("; ");
        }
        out.push_str(&next);
    }
    out
}
