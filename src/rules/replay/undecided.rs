//! Comparisons that privacy keeps a replay from deciding.

use jiff::tz::TimeZone;

use super::Replay;
use super::ground::{Place, Played};
use crate::rules::check::{Cond, Leaf};
use crate::rules::compile::meaning;
use crate::rules::count::{HOLD_SALT, Key};
use crate::rules::recorded::Line;
use crate::rules::scheme::{Field, Phase};
use crate::rules::set::Rule;
use crate::rules::value::{Facts, Test};
use crate::verdict::Mode;

impl Replay<'_> {
    /// Counts what can not be decided of a request for rules that run for it.
    pub(super) fn note_undecided(&mut self, line: &Line, played: &Played<'_>, place: &Place<'_>) {
        if !line.facts.hides_anything() {
            return;
        }
        let mut all = 0;
        for rule in place.set.rules().iter().filter(|rule| runs(rule.phase, line.phase)) {
            let mode = place.mode.min(rule.mode);
            let comparisons = if mode == Mode::Off { 0 } else { undecided(rule, played) };
            if comparisons > 0 {
                all += comparisons;
                self.tally.undecided(rule, mode);
            }
        }
        self.out.undecided.comparisons += all;
        self.out.undecided.lines += usize::from(all > 0);
    }
}

/// Whether rules of a phase run for a line of another.
fn runs(rule: Phase, line: Phase) -> bool {
    if line == Phase::Response { rule == Phase::Response } else { rule <= line }
}

/// What of a rule can not be decided: its comparisons, those of its tunes, and whom it counts or holds for. None if it is clear
/// without them that it does not match.
fn undecided(rule: &Rule, played: &Played<'_>) -> usize {
    let own = meaning(&rule.cond, played, rule.zone.as_ref());
    if own == Some(false) {
        return 0;
    }
    let mut count = if own.is_none() { hidden(&rule.cond, played, rule.zone.as_ref()) } else { 0 };
    for (tune, zone) in &rule.unless {
        match meaning(tune, played, zone.as_ref()) {
            Some(true) => return 0,
            Some(false) => {}
            None => count += hidden(tune, played, zone.as_ref()),
        }
    }
    let nobody = |per: &Field| played.value(*per).is_hidden() && Key::of(HOLD_SALT, *per, played).is_none();
    let counted = rule.count.iter().map(|count| count.per);
    let held = (rule.phase == Phase::Response && super::holds(rule.then)).then(|| super::held_by(rule, played));
    count + usize::from(counted.chain(held).any(|per| nobody(&per)))
}

/// Comparisons of a condition that have no answer because something they read is hidden.
fn hidden(cond: &Cond, played: &Played<'_>, zone: Option<&TimeZone>) -> usize {
    let mut count = 0;
    cond.leaves(&mut |leaf| {
        count += usize::from(reads_hidden(leaf, played) && leaf.ask(played, zone).is_none());
    });
    count
}

/// Whether all that it reads is known, and something of it is hidden.
fn reads_hidden(leaf: &Leaf, played: &Played<'_>) -> bool {
    let other = match leaf.test {
        Test::Field(_, other) => Some(other),
        _ => None,
    };
    let values = || std::iter::once(leaf.field).chain(other).map(|field| played.value(field));
    values().all(|value| value.is_known()) && values().any(|value| value.is_hidden())
}
