//! One recorded request by itself.

use super::ground::Played;
use super::{Line, Matched, Phase, Replay, RuleSet, Scenery};
use crate::rules::count::Counting;
use crate::rules::{Judgement, Policy, Route};
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
}

/// Judges a recorded request by itself.
pub fn alone<'p>(policy: &'p Policy, line: &Line) -> Alone<'p> {
    let replay = Replay::new(policy);
    let place = replay.ground.place(&line.facts);
    let played = Played::new(&line.facts, &place);
    let judgement = (line.phase != Phase::Response && place.mode != Mode::Off).then(|| {
        let mut matched = Matched::new();
        let with = (&replay.windows, Counting::Look, place.mode);
        place.set.run(Phase::Client, Scenery::Quiet, &played, with, &mut matched);
        replay.judged(line, &played, &place, &mut matched).0
    });
    Alone { route: place.route(), set: place.set, mode: place.mode, judgement }
}
