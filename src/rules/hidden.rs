//! Rules that can do nothing, because another always matches where they do and asks for as much.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::check::Leaf;
use super::compile::{Normal, Unknown};
use super::file::Score;
use super::imply::{Clocks, Side, implies};
use super::scheme::{Field, Phase};
use super::set::Rule;
use super::value::Test;
use crate::verdict::{Action, Mode};

/// Steps for one pair of rules, and for all of them: what takes longer is not claimed.
const PAIR_STEPS_MAX: usize = 20_000;
const STEPS_MAX: usize = 2_000_000;

/// A rule and what is known of its condition.
struct Seen<'r> {
    rule: &'r Rule,
    form: Normal<'r>,
    /// The fields that it reads, one bit each (of several, if there are many).
    reads: u64,
    /// Those that any condition reads which implies it.
    needs: u64,
}

/// How often each comparison occurs, and the bit of each field.
#[derive(Default)]
struct Census<'r> {
    leaves: BTreeMap<(Field, &'r Test), usize>,
    bits: BTreeMap<Field, u64>,
}

/// The places of rules that do nothing, each with that of the rule it is hidden behind.
pub(super) fn hidden(rules: &[&Rule]) -> Vec<(usize, usize)> {
    let mut census = Census::default();
    rules.iter().for_each(|rule| rule.cond.leaves(&mut |leaf| census.note(leaf)));
    let seen: Vec<Seen<'_>> = rules.iter().map(|rule| census.see(rule)).collect();
    let wide: Vec<(usize, &Seen<'_>)> = seen.iter().enumerate().filter(|(_, seen)| can_hide(seen.rule)).collect();
    let mut steps = STEPS_MAX;
    let mut found = Vec::new();
    for (at, narrow) in seen.iter().enumerate().filter(|(_, seen)| can_be_hidden(seen.rule)) {
        let behind = wide.iter().find(|(other, wide)| {
            *other != at
                && wide.needs & !narrow.reads == 0
                && hides(wide, narrow, &mut steps)
                // Of two that hide each other the second does nothing.
                && (*other < at || !(can_hide(narrow.rule) && can_be_hidden(wide.rule) && hides(narrow, wide, &mut steps)))
        });
        found.extend(behind.map(|(other, _)| (at, *other)));
        if steps == 0 {
            break;
        }
    }
    found
}

/// Whether a rule that matches is always obeyed, whatever else is.
fn can_hide(rule: &Rule) -> bool {
    rule.mode == Mode::Enforce
        && rule.then.is_some()
        && rule.count.is_none()
        && rule.unless.is_empty()
        // Such a rule is not asked where no detector saw anything, and what is not known counts as a match.
        && !(rule.unknown == Unknown::Fire && rule.needs_signal())
}

/// Whether a rule does nothing but ask for an action.
fn can_be_hidden(rule: &Rule) -> bool {
    rule.mode == Mode::Enforce && rule.then.is_some() && matches!(rule.score, Score::None)
}

fn hides(wide: &Seen<'_>, narrow: &Seen<'_>, steps: &mut usize) -> bool {
    let (above, below) = (wide.rule, narrow.rule);
    let (Some(more), Some(less)) = (above.then, below.then) else { return false };
    let asks = match (above.phase, below.phase) {
        // On answers each rule is obeyed for itself, for whom and as long as it says.
        (Phase::Response, Phase::Response) => {
            more == less && above.hold.per == below.hold.per && above.hold.within >= below.hold.within
        }
        (Phase::Response, _) | (_, Phase::Response) => false,
        (one, other) => one == other || (one < other && is_steady(above)),
    };
    // Events carry the tags of a rule: one that has others tells something, and so does one whose events are waited for or
    // that has one of its own.
    let is_seen = below.event.is_none() || below.event == above.event;
    let tells = below.tags.iter().any(|tag| !above.tags.contains(tag)) || below.sync > above.sync || !is_seen;
    if !asks || tells || !covers(more, less) || *steps == 0 {
        return false;
    }
    let zone = |rule: &Rule| rule.zone.as_ref().and_then(TimeZone::iana_name).map(ToOwned::to_owned);
    let clocks = if zone(above) == zone(below) { Clocks::Same } else { Clocks::Apart };
    let mut own = PAIR_STEPS_MAX.min(*steps);
    let before = own;
    let side = |seen: &'_ Seen<'_>| seen.rule.unknown;
    let found = implies(
        Side { form: &narrow.form, unknown: side(narrow) },
        Side { form: &wide.form, unknown: side(wide) },
        clocks,
        &mut own,
    );
    *steps -= before - own;
    found
}

/// Whether a rule comes to the same before the session is known and with it: rates are counted in between.
fn is_steady(rule: &Rule) -> bool {
    let mut steady = true;
    rule.cond.leaves(&mut |leaf| {
        steady &= !matches!(leaf.field, Field::RateClient | Field::RatePrefix | Field::ClientCity);
    });
    steady
}

/// Whether an action leaves nothing to do for another, whoever asks and whatever other rules say.
const fn covers(more: Action, less: Action) -> bool {
    match (more, less) {
        // Who is slowed down gets no new tag, and is turned away before the session is known: only a refusal does as much.
        (Action::Deny | Action::Throttle, Action::Throttle) => true,
        (_, Action::Throttle) => false,
        // Strangers have nothing to be rotated or ended.
        (Action::Rotate, Action::Rotate) | (Action::Terminate, Action::Rotate | Action::Terminate) => true,
        (Action::Rotate | Action::Terminate, _) => false,
        (more, less) => more as u8 >= less as u8,
    }
}

impl<'r> Census<'r> {
    fn note(&mut self, leaf: &'r Leaf) {
        *self.leaves.entry((leaf.field, &leaf.test)).or_default() += 1;
        let second = if let Test::Field(_, second) = leaf.test { Some(second) } else { None };
        for field in [Some(leaf.field), second].into_iter().flatten() {
            let next = u32::try_from(self.bits.len() % 64).unwrap_or(0);
            self.bits.entry(field).or_insert(1 << next);
        }
    }

    fn see(&self, rule: &'r Rule) -> Seen<'r> {
        let mut reads = 0;
        rule.cond.leaves(&mut |leaf| {
            reads |= self.bit(leaf.field);
            if let Test::Field(_, second) = leaf.test {
                reads |= self.bit(second);
            }
        });
        let form = self.sorted(Normal::of(&rule.cond, false)).0;
        let needs = self.needs(&form);
        Seen { rule, form, reads, needs }
    }

    fn bit(&self, field: Field) -> u64 {
        self.bits.get(&field).copied().unwrap_or(0)
    }

    fn needs(&self, form: &Normal<'_>) -> u64 {
        match form {
            Normal::Const(_) => 0,
            Normal::Leaf(leaf, _) => self.bit(leaf.field),
            Normal::All(parts) => parts.iter().map(|part| self.needs(part)).fold(0, |all, one| all | one),
            Normal::Any(parts) => parts.iter().map(|part| self.needs(part)).fold(u64::MAX, |all, one| all & one),
        }
    }

    /// The same with what is rare first: it decides soonest that a condition is not implied.
    fn sorted(&self, form: Normal<'r>) -> (Normal<'r>, usize) {
        let each = |parts: Vec<Normal<'r>>| {
            let mut parts: Vec<_> = parts.into_iter().map(|part| self.sorted(part)).collect();
            parts.sort_by_key(|(_, count)| *count);
            let least = parts.first().map_or(0, |(_, count)| *count);
            (parts.into_iter().map(|(part, _)| part).collect(), least)
        };
        match form {
            Normal::All(parts) => {
                let (parts, least) = each(parts);
                (Normal::All(parts), least)
            }
            Normal::Any(parts) => {
                let (parts, least) = each(parts);
                (Normal::Any(parts), least)
            }
            Normal::Leaf(leaf, negated) => {
                let count = self.leaves.get(&(leaf.field, &leaf.test)).copied().unwrap_or(0);
                (Normal::Leaf(leaf, negated), count)
            }
            Normal::Const(yes) => (Normal::Const(yes), 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::{Input, RulesText, compile};
    use crate::clock::Timestamp;

    /// The rules of a file that are told to do nothing, each as `ID behind ID`.
    fn hidden(rules: &[(&str, &str)]) -> String {
        let mut text = "version = 1\nname = \"x\"\n[facts]\nplan = \"string\"\n".to_owned();
        for (at, (when, more)) in rules.iter().enumerate() {
            text += &format!("[[rule]]\nid = \"r{at}\"\nwhen = '''{when}'''\n{more}\n");
        }
        let files = [RulesText { path: "x.toml".into(), text }];
        let open = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        let input = Input { packs: &[Vec::new()], files: &files, open: &open, now: Timestamp::EPOCH };
        let compiled = compile(&input).unwrap();
        let told = compiled.warnings.iter().filter_map(|fault| {
            let (_, behind) = fault.message.strip_prefix("this rule does nothing")?.split_once("`x/")?;
            Some(format!("{} behind {}", fault.key.trim_start_matches("x/"), behind.split_once('`')?.0))
        });
        told.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_rule_is_hidden_behind_one_that_asks_for_as_much_whenever_it_matches() {
        let check = |one: (&str, &str), other: (&str, &str), expected: &str| {
            assert_eq!(hidden(&[one, other]), expected, "{one:?} {other:?}");
        };
        const TOR: &str = "client.is_tor";
        const BOTH: &str = "client.is_tor && client.ua_major > 3";
        let deny = "then = \"deny\"";
        check((TOR, deny), (BOTH, deny), "r1 behind r0");
        check((BOTH, deny), (TOR, deny), "r0 behind r1");
        check((TOR, deny), (BOTH, "then = \"observe\""), "r1 behind r0");
        check((TOR, "then = \"observe\""), (BOTH, deny), "");
        // Of two that are the same the second is one too many, in whatever words.
        check(("client.ua_major > 3", deny), ("client.ua_major >= 4", deny), "r1 behind r0");
        // What runs later is turned away before it is asked; not the other way round.
        check((TOR, deny), ("client.is_tor && session.age > 1h", deny), "r1 behind r0");
        check(("client.is_tor && session.age > 1h", deny), (TOR, deny), "r0 behind r1");
        check(("session.age > 1h", deny), ("session.age > 2h && risk > 5", deny), "r1 behind r0");
        check(("rate.client > 5", deny), ("rate.client > 9 && session.age > 1h", deny), "");
        // What a rule does besides.
        check((TOR, deny), (BOTH, "then = \"deny\"\nscore = 5"), "");
        check((TOR, "score = 500"), (BOTH, deny), "");
        check((TOR, deny), (BOTH, "then = \"deny\"\ntags = [\"tor\"]"), "");
        check((TOR, "then = \"deny\"\ntags = [\"tor\"]"), (BOTH, "then = \"deny\"\ntags = [\"tor\"]"), "r1 behind r0");
        check((TOR, deny), (BOTH, "then = \"deny\"\nsync = \"before-reply\""), "");
        check((TOR, "then = \"deny\"\nsync = \"before-reply\""), (BOTH, deny), "r1 behind r0");
        check((TOR, "then = \"deny\"\nmode = \"observe\""), (BOTH, deny), "");
        check((TOR, deny), (BOTH, "then = \"deny\"\nmode = \"observe\""), "");
        let counted = "then = \"deny\"\ncount = { over = 3, within = \"1m\", per = \"client.ip\" }";
        check((TOR, counted), (BOTH, deny), "");
        check((TOR, deny), (BOTH, counted), "r1 behind r0");
        // Missing data.
        check((TOR, deny), (BOTH, "then = \"deny\"\nunknown = \"fire\""), "");
        check((TOR, "then = \"deny\"\nunknown = \"fire\""), (BOTH, deny), "r1 behind r0");
        check(("known(client.asn)", deny), ("client.asn != 5", deny), "r1 behind r0");
        check(("!known(client.asn)", deny), ("client.asn != 5", deny), "");
        check(
            ("signal.fork > 0".replace("fork", "id.fork").as_str(), "then = \"deny\"\nunknown = \"fire\""),
            ("signal.id.fork > 3", deny),
            "",
        );
        // Strangers feel neither `rotate` nor `terminate`; whoever is slowed down gets no new tag.
        let then = |then: &str| format!("then = \"{then}\"");
        for (more, less, expected) in [
            ("terminate", "rotate", "r1 behind r0"),
            ("terminate", "quarantine", ""),
            ("terminate", "observe", ""),
            ("rotate", "throttle", ""),
            ("challenge", "throttle", ""),
            ("deny", "throttle", "r1 behind r0"),
            ("quarantine", "rotate", "r1 behind r0"),
            ("throttle", "rotate", ""),
            ("throttle", "observe", "r1 behind r0"),
        ] {
            check((TOR, &then(more)), (BOTH, &then(less)), expected);
        }
        // On answers each rule acts for itself.
        const SERVED: &str = "response.status >= 400";
        const REFUSED: &str = "response.status in [401, 403]";
        check((SERVED, deny), (REFUSED, deny), "r1 behind r0");
        check((SERVED, deny), (REFUSED, "then = \"terminate\""), "");
        check((SERVED, deny), (REFUSED, "then = \"deny\"\nwithin = \"5m\""), "r1 behind r0");
        check((SERVED, deny), (REFUSED, "then = \"deny\"\nwithin = \"5h\""), "");
        check((SERVED, deny), (REFUSED, "then = \"deny\"\nper = \"client.ip\""), "");
        check((TOR, deny), ("client.is_tor && response.status == 404", deny), "");
    }

    #[test]
    fn a_rule_that_a_tune_excuses_hides_none() {
        let tuned = "then = \"deny\"\n[[tune]]\nrule = \"x/r1\"\nunless = 'client.asn == 5'\nwhy = \"ours\"";
        let narrow = ("client.is_tor && client.ua_major > 3", "then = \"deny\"");
        assert_eq!(hidden(&[narrow, ("client.is_tor", tuned)]), "");
        assert_eq!(hidden(&[narrow, ("client.is_tor", "then = \"deny\"")]), "r0 behind r1");
    }

    #[test]
    fn the_first_rules_of_a_large_file_are_looked_at_whatever_follows() {
        let rules: Vec<String> =
            (0..900).map(|at| format!("request.path == \"/{at}\" || client.ua_major == {at}")).collect();
        let mut rules: Vec<(&str, &str)> = rules.iter().map(|when| (when.as_str(), "then = \"deny\"")).collect();
        rules.insert(0, ("request.path starts_with \"/7\"", "then = \"deny\""));
        rules.insert(1, ("request.path == \"/70\"", "then = \"deny\""));
        assert_eq!(hidden(&rules).split(", ").next(), Some("r1 behind r0"));
    }
}
