//! One recorded request by itself.

use super::ground::Played;
use super::{Line, Matched, Phase, Replay, RuleSet, Scenery};
use crate::rules::{Explained, Judgement, Policy, Route, Rule};
use crate::verdict::Mode;

/// A recorded request under a policy, without any other: what rules count, and what holds from earlier answers, is not known.
#[derive(Debug)]
pub struct Alone<'p> {
    /// The route that it falls on.
    pub route: Option<&'p Route>,
    /// The rules there.
    pub set: &'p RuleSet,
    /// Their mode there.
    pub mode: Mode,
    /// What they make of it; nothing of an answer, and nothing where the mode is `off`.
    pub judgement: Option<Judgement>,
    played: Played<'p>,
}

impl<'p> Alone<'p> {
    /// Judges a recorded request by itself.
    pub fn new(policy: &'p Policy, line: &'p Line) -> Self {
        let replay = Replay::new(policy);
        let place = replay.ground.place(&line.facts);
        let played = Played::new(&line.facts, &place);
        let judgement = (line.phase != Phase::Response && place.mode != Mode::Off).then(|| {
            let mut matched = Matched::new();
            let counted = (&replay.windows, place.mode);
            place.set.run(Phase::Client, Scenery::Quiet, &played, counted, &mut matched);
            replay.judged(line, &played, &place, &mut matched).0
        });
        // Rules that read the risk see the one that comes of this policy.
        let played = judgement.as_ref().map_or(played, |judgement| played.at_risk(judgement.risk(line.before)));
        Self { route: place.route(), set: place.set, mode: place.mode, judgement, played }
    }

    /// Why a rule matched or did not.
    pub fn explain(&self, rule: &Rule) -> Explained {
        rule.explain(&self.played, self.set)
    }
}
