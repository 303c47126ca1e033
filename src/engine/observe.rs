//! Looking on at what rules see.

use crate::clock::Timestamp;
use crate::history::Points;
use crate::rules::count::Counting;
use crate::rules::scheme::Phase;
use crate::rules::{Facts, RuleSet};
use crate::verdict::{Action, Verdict};

/// Looks on at every judgement. It is called on the request path, and must not wait.
pub trait Observer: Send + Sync {
    /// Rules were run.
    fn looked(&self, at: &Looked<'_>);
}

/// One run of rules.
#[derive(Clone, Copy)]
pub struct Looked<'a> {
    /// The last phase that was run: the client's alone, up to the risk, or the answer's.
    pub phase: Phase,
    /// The rules.
    pub set: &'a RuleSet,
    /// What they could see.
    pub facts: &'a dyn Facts,
    /// Those that matched, by their place in the set.
    pub matched: &'a [u16],
    /// What is left of earlier points.
    pub before: Points,
    /// What these rules ask for, obeyed or not.
    pub verdict: &'a Verdict,
    /// What is done: by these rules as far as they are obeyed, by verdicts on earlier answers that hold, by the state of the
    /// session and the deadlines of the route. What is done to an answer is done to it itself, not to requests to come.
    pub done: Action,
    /// When the request came. Its answer has this time too, besides its own.
    pub asked: Timestamp,
    /// Whether this is the first look at the request. It is looked at again when others changed its session meanwhile, and when
    /// its client is held back from its session and served as a stranger.
    pub counting: Counting,
}

impl std::fmt::Debug for Looked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Looked").field("phase", &self.phase).field("matched", &self.matched).finish_non_exhaustive()
    }
}
