//! What a tune takes from a rule of a pack: such a tune is to be looked at again one day, so it should end by itself.

use jiff::tz::TimeZone;

use super::certain::certain;
use super::check::Cond;
use super::compile::{Normal, Unknown};
use super::file::Score;
use super::imply::{Clocks, Side, implies};
use super::lex::Compare;
use super::scheme::Field;
use super::set::Rule;
use super::value::Test;
use crate::history::Points;
use crate::signal::{Scope, Weights};
use crate::verdict::{Action, Mode};

/// Steps that are taken to find out what a tune takes: what takes longer is not claimed.
const STEPS_MAX: usize = 20_000;

/// What a rule asks for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    mode: Mode,
    then: Option<Action>,
    score: Score,
    /// Tunes that excuse it.
    tunes: usize,
}

impl Asked {
    pub(super) const fn of(rule: &Rule) -> Self {
        Self { mode: rule.mode, then: rule.then, score: rule.score, tunes: rule.unless.len() }
    }

    /// What is less in a rule than it was, such as `terminate -> observe`; nothing of a rule that did not act.
    pub(super) fn lost_in(self, rule: &Rule) -> Option<String> {
        if self.mode != Mode::Enforce {
            return None;
        }
        let mut tunes = rule.unless.iter().skip(self.tunes);
        if tunes.clone().any(|(tune, zone)| is_always_excused(rule, (tune, zone.as_ref()))) {
            return Some(format!("{} -> nothing: `unless` holds wherever the rule matches", self.all()));
        }
        let mut steps = STEPS_MAX;
        if tunes.any(|(tune, _)| certain(tune, &mut steps).is_some_and(|tune| tune.holds && tune.by.is_some())) {
            return Some(format!("{} -> nothing where the fields of `unless` are known", self.all()));
        }
        match rule.mode {
            Mode::Off => return Some(format!("{} -> nothing", self.all())),
            Mode::Observe => return Some(format!("{} -> only observed", self.all())),
            Mode::Enforce => {}
        }
        let then = self.then.zip(rule.then).filter(|(before, after)| is_less(*after, *before));
        let then = then.map(|(before, after)| format!("{before} -> {after}"));
        let score = most(self.score).zip(most(rule.score)).filter(|(before, after)| after < before);
        let score = score.map(|(_, after)| format!("{} -> {after} points", points(self.score)));
        let parts: Vec<String> = then.into_iter().chain(score).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn all(self) -> String {
        let then = self.then.map(|then| then.to_string());
        let score = (self.score != Score::None).then(|| format!("{} points", points(self.score)));
        then.into_iter().chain(score).collect::<Vec<_>>().join(" and ")
    }
}

/// Whether a tune holds wherever a rule matches.
fn is_always_excused(rule: &Rule, (tune, zone): (&Cond, Option<&TimeZone>)) -> bool {
    // That is a fault, and told as one.
    if matches!(tune, Cond::Const(_)) {
        return false;
    }
    let (form, mut unless) = (Normal::of(&rule.cond, false), Normal::of(tune, false));
    settle(&mut unless, needs_session(&form, rule.unknown));
    let name = |zone: Option<&TimeZone>| zone.and_then(TimeZone::iana_name).map(ToOwned::to_owned);
    let clocks = if name(rule.zone.as_ref()) == name(zone) { Clocks::Same } else { Clocks::Apart };
    let mut steps = STEPS_MAX;
    implies(
        Side { form: &form, unknown: rule.unknown },
        Side { form: &unless, unknown: Unknown::Silent },
        clocks,
        &mut steps,
    )
}

/// Puts what follows from ties between fields for the comparisons that ask it: every path begins with a slash (but for the `*` of
/// OPTIONS, which is none), and a rule may need a session.
fn settle(form: &mut Normal<'_>, with_session: bool) {
    match form {
        Normal::All(parts) | Normal::Any(parts) => parts.iter_mut().for_each(|part| settle(part, with_session)),
        Normal::Leaf(leaf, negated) => {
            let is_sure = match (&leaf.test, leaf.field) {
                (Test::Is, Field::SessionExists) => with_session,
                (Test::StartsWith(text), Field::RequestPath) => **text == *"/",
                _ => false,
            };
            if is_sure {
                *form = Normal::Const(!*negated);
            }
        }
        Normal::Const(_) => {}
    }
}

/// Whether a condition matches only requests with a session.
fn needs_session(form: &Normal<'_>, unknown: Unknown) -> bool {
    match form {
        Normal::All(parts) => parts.iter().any(|part| needs_session(part, unknown)),
        Normal::Any(parts) => !parts.is_empty() && parts.iter().all(|part| needs_session(part, unknown)),
        Normal::Leaf(leaf, negated) => match (&leaf.test, leaf.field) {
            (Test::Is, Field::SessionExists | Field::SessionAuthenticated) => !negated,
            (test, Field::Signal(kind)) => {
                let is_seen = matches!(
                    (test, negated),
                    (Test::Int(Compare::Gt, 0..), false) | (Test::Int(Compare::Ge | Compare::Eq, 1..), false)
                );
                is_seen && kind.scope() != Scope::Request
            }
            (Test::Known, field) => !negated && is_of_session(field),
            (Test::Field(_, second), field) => {
                unknown == Unknown::Silent && (is_of_session(field) || is_of_session(*second))
            }
            (_, field) => unknown == Unknown::Silent && is_of_session(field),
        },
        Normal::Const(yes) => !yes,
    }
}

/// Whether a field is unknown without a session.
fn is_of_session(field: Field) -> bool {
    let name = field.name(&[]);
    let is_always_known = matches!(field, Field::SessionExists | Field::SessionAuthenticated);
    !is_always_known && ["changed.", "session.", "rate.session", "rate.subject"].iter().any(|of| name.starts_with(of))
}

/// Whether an action does less than another. Of a new tag and a 429 nobody can say which is more.
const fn is_less(action: Action, other: Action) -> bool {
    let is_odd = matches!((action, other), (Action::Throttle, Action::Rotate));
    (action as u8) < (other as u8) && !is_odd
}

/// The most points that a rule gives for one request.
fn most(score: Score) -> Option<Points> {
    match score {
        Score::None => None,
        Score::Fixed(points) | Score::SignalAs(_, points) => Some(points),
        Score::Signal(kind) => Some(Weights::default().most(kind)),
    }
}

fn points(score: Score) -> String {
    let most = most(score).unwrap_or_default();
    if matches!(score, Score::Signal(_)) { format!("up to {most}") } else { most.to_string() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::{Input, RulesText, compile};
    use super::super::pack::Pack;
    use crate::clock::Timestamp;

    /// What is told of a tune with these packs in force.
    fn told(packs: &[Vec<Pack>], tunes: &[&str]) -> Vec<String> {
        let tunes: String = tunes.iter().map(|tune| format!("[[tune]]\nwhy = \"tried\"\n{tune}\n")).collect();
        let text = format!("version = 1\nname = \"x\"\n{tunes}");
        let files = [RulesText { path: "x.toml".into(), text }];
        let open = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        let compiled = compile(&Input { packs, files: &files, open: &open, now: Timestamp::EPOCH }).unwrap();
        let lost =
            |message: &str| message.rsplit_once("the pack: ").map_or(message.to_owned(), |(_, lost)| lost.to_owned());
        compiled.warnings.iter().map(|fault| lost(&fault.message)).collect()
    }

    #[test]
    fn a_tune_that_takes_from_a_pack_is_told_unless_it_ends() {
        let baseline = [vec![Pack::Baseline1]];
        let fork = |more: &str| format!("rule = \"baseline/fork\"\n{more}");
        let check = |packs: &[Vec<Pack>], tune: &str, expected: &[&str]| {
            assert_eq!(told(packs, &[&fork(tune)]), expected, "{tune}");
        };
        check(&baseline, "mode = \"off\"", &["quarantine and up to 100 points -> nothing"]);
        check(&baseline, "mode = \"observe\"", &["quarantine and up to 100 points -> only observed"]);
        check(&baseline, "then = \"observe\"\nscore = 70", &["quarantine -> observe, up to 100 -> 70 points"]);
        check(&baseline, "then = \"terminate\"\nscore = 100", &[]);
        check(&baseline, "unless = 'client.is_tor'", &[]);
        check(&baseline, "mode = \"off\"\nexpires = 2030-01-01", &[]);
        // The pack is not in force, or does not act.
        check(&[vec![Pack::Observe1]], "mode = \"off\"", &[]);
        check(&[], "mode = \"off\"", &[]);
        check(
            &[vec![Pack::Observe1], vec![Pack::Strict1]],
            "mode = \"off\"",
            &["quarantine and up to 100 points -> nothing"],
        );
    }

    /// Such a tune leaves nothing of the rule, and was taken for one that excuses a few.
    #[test]
    fn a_tune_that_holds_wherever_the_rule_matches_is_told() {
        let all = [vec![Pack::Baseline1], vec![Pack::Strict1]];
        let check = |rule: &str, unless: &str, is_told: bool| {
            let told = told(&all, &[&format!("rule = \"{rule}\"\nunless = '{unless}'")]);
            let found = told.iter().any(|lost| lost.ends_with("-> nothing: `unless` holds wherever the rule matches"));
            assert_eq!((found, told.len()), (is_told, usize::from(is_told)), "{rule} {unless}: {told:?}");
        };
        const OS: &str = "baseline/os-changed";
        check(OS, "session.exists", true);
        check(OS, "session.exists || client.is_tor", true);
        check(OS, "session.exists && client.is_tor", false);
        check(OS, "!session.exists", false);
        check(OS, "request.path starts_with \"/\"", true);
        check(OS, "request.path starts_with \"/a\"", false);
        check(OS, "signal.device.os >= 1", true);
        check(OS, "signal.device.os > 20", false);
        check(OS, "session.authenticated", false);
        check(OS, "changed.os", false);
    }

    #[test]
    fn of_several_tunes_that_is_told_which_takes_more_than_was_given() {
        let baseline = [vec![Pack::Baseline1]];
        let score = |points: u16| format!("rule = \"baseline/os-changed\"\nscore = {points}");
        assert!(told(&baseline, &[&score(200), &score(90)]).is_empty(), "more than the pack gives is left");
        assert_eq!(told(&baseline, &[&score(200), &score(50)]), ["up to 60 -> 50 points"]);
        assert_eq!(told(&baseline, &[&score(40), &score(50)]), ["up to 60 -> 40 points"], "the second gives some back");
    }
}
