//! From the rules that matched to a verdict: points are added up, thresholds and rules ask for an action, the strongest wins.

use super::file::Score;
use super::set::{Matched, Rule, RuleSet};
use crate::history::Points;
use crate::signal::{Level, Scope, Scoring, Sensitivity, Signal, SignalKind};
use crate::verdict::{Action, Mode, Reason, Text, Verdict};

/// What a judgement rests on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The rules that run here.
    pub set: &'a RuleSet,
    /// Those of them that matched, in the phases before the points are added up.
    pub matched: &'a [u16],
    /// Signals that this request raised.
    pub signals: &'a [Signal],
    /// What is left of earlier points.
    pub before: Points,
    /// Of the route.
    pub sensitivity: Sensitivity,
    /// Who asks.
    pub party: Party,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Somebody with a session.
    Session,
    /// Somebody without: there is nothing to be rotated or ended, and what asks for that must not hide what asks for less.
    Stranger,
}

impl Party {
    /// Whether an action does anything to him.
    pub(super) const fn feels(self, action: Action) -> bool {
        !matches!((self, action), (Self::Stranger, Action::Rotate | Action::Terminate))
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// The verdict of the rules that are obeyed.
    pub verdict: Verdict,
    /// What the verdict would be if those that are observed were obeyed too, where that differs.
    pub would: Option<Box<Verdict>>,
    /// Points that stick to the client's context.
    pub context_points: Points,
    /// Points that stick to the session.
    pub session_points: Points,
    /// Points of this request alone.
    pub request_points: Points,
}

impl Judgement {
    /// The risk after it.
    pub fn risk(&self, before: Points) -> Points {
        before.plus(self.context_points).plus(self.session_points).plus(self.request_points)
    }
}

/// Weighs the evidence.
///
/// `by_risk` runs the rules that read `risk`, which is what is left of earlier points and those of this request. The points
/// of a signal stick to the client or session it was seen on and fade; those of a rule (`score = 20`) count while it matches.
/// Points end a session only if the request itself gives conclusive evidence ([`SignalKind::is_conclusive`]) or matches a
/// rule that gives points by its own decision: addresses, browsers and jars change for honest reasons every day.
pub fn judge(evidence: &Evidence<'_>, scoring: &Scoring, by_risk: impl Fn(Points) -> Matched) -> Judgement {
    let (verdict, sum) = weigh(evidence, scoring, Mode::Enforce, &by_risk);
    // Rules that read `risk` may be observed too, and what else is observed changes what they read.
    let is_observed = |at: &u16| evidence.set.rule(*at).is_some_and(|rule| rule.mode == Mode::Observe);
    let would = if evidence.matched.iter().any(is_observed) || evidence.set.observes_risk() {
        let (would, _) = weigh(evidence, scoring, Mode::Observe, &by_risk);
        let is_other = would.action != verdict.action || would.reasons != verdict.reasons || would.seen != verdict.seen;
        is_other.then(|| Box::new(would))
    } else {
        None
    };
    Judgement { verdict, would, context_points: sum.context, session_points: sum.session, request_points: sum.request }
}

/// Points by what they stick to.
#[derive(Default)]
struct Sum {
    context: Points,
    session: Points,
    request: Points,
    /// Whether any of it is enough to end a session.
    conclusive: bool,
    counted: smallvec::SmallVec<[SignalKind; 8]>,
}

fn weigh(
    evidence: &Evidence<'_>,
    scoring: &Scoring,
    least: Mode,
    by_risk: &impl Fn(Points) -> Matched,
) -> (Verdict, Sum) {
    let counts = |at: &u16| evidence.set.rule(*at).filter(|rule| rule.mode >= least);
    let mut verdict = Verdict::default();
    let mut sum = Sum::default();
    let mut strongest = Points::ZERO;
    for rule in evidence.matched.iter().filter_map(counts) {
        let points = sum.add(rule, evidence.signals, &mut verdict);
        if points > Points::ZERO {
            verdict.tag(&rule.tags);
        }
        if rule.then.is_none() && points > strongest {
            strongest = points;
            verdict.rule = Some(rule.name.clone());
        }
    }
    let risk = evidence.before.plus(sum.context).plus(sum.session).plus(sum.request);
    let by_points = match scoring.thresholds.level(risk, evidence.sensitivity) {
        Level::Terminate if !sum.conclusive || evidence.party == Party::Stranger => Action::Quarantine,
        Level::Terminate => Action::Terminate,
        Level::Quarantine => Action::Quarantine,
        Level::Rotate if evidence.party == Party::Session => Action::Rotate,
        Level::Rotate | Level::Observe => Action::Observe,
        Level::Calm => Action::Allow,
    };
    verdict.action = by_points;
    verdict.risk = as_number(risk);
    let risky = by_risk(risk);
    let mut throttled = None;
    for rule in evidence.matched.iter().chain(&risky).filter_map(counts) {
        if rule.then.is_some() {
            verdict.see(rule.seen());
        }
        if let Some(then) = rule.then.filter(|then| evidence.party.feels(*then)) {
            if then == Action::Throttle {
                throttled = Some(&rule.name);
            }
            if then > verdict.action || (then == verdict.action && verdict.rule.is_none()) {
                verdict.action = then;
                verdict.rule = Some(rule.name.clone());
            }
            verdict.add(Reason::new(rule.name.clone(), 0.0));
            verdict.tag(&rule.tags);
        }
    }
    let asking = evidence.matched.iter().chain(&risky).filter_map(counts);
    verdict.sync = asking.map(|rule| rule.sync_of(verdict.action)).max().unwrap_or_default();
    // A new tag is given to whoever is served; who is slowed down is not.
    if let (Some(rule), Action::Rotate) = (throttled, verdict.action) {
        verdict.action = Action::Throttle;
        verdict.rule = Some(rule.clone());
    }
    (verdict, sum)
}

impl Sum {
    /// The points of a rule, with their reason. A signal counts once, whatever rules name it.
    fn add(&mut self, rule: &Rule, signals: &[Signal], verdict: &mut Verdict) -> Points {
        match rule.score {
            Score::None => Points::ZERO,
            Score::Fixed(points) => {
                self.request = self.request.plus(points);
                self.conclusive = true;
                verdict.add(Reason::new(rule.name.clone(), as_number(points)));
                points
            }
            Score::Signal(kind) | Score::SignalAs(kind, _) => {
                let Some(signal) = signals.iter().find(|signal| signal.kind == kind) else { return Points::ZERO };
                let points = if let Score::SignalAs(_, points) = rule.score { points } else { signal.points };
                if self.counted.contains(&kind) {
                    return Points::ZERO;
                }
                self.counted.push(kind);
                let place = match kind.scope() {
                    Scope::Context => &mut self.context,
                    Scope::Session => &mut self.session,
                    Scope::Request => &mut self.request,
                };
                *place = place.plus(points);
                self.conclusive |= kind.is_conclusive() && points > Points::ZERO;
                let reason = Reason::new(Text::of(kind.name()), as_number(points));
                verdict.add(reason.changed(signal.before.clone(), signal.after.clone()));
                points
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "points end at 500.00, far below where a float is no longer exact")]
pub(crate) fn as_number(points: Points) -> f32 {
    points.as_hundredths() as f32 / 100.0
}
