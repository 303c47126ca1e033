//! Looking on at what rules see.

use crate::history::Points;
use crate::rules::count::Counting;
use crate::rules::scheme::Phase;
use crate::rules::{Facts, RuleSet};
use crate::verdict::{Mode, Verdict};

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
    /// What came of it, verdicts on earlier answers that hold included.
    pub verdict: &'a Verdict,
    /// Whether verdicts are obeyed here.
    pub mode: Mode,
    /// Whether this is the first look at the request. It is looked at again when others changed its session meanwhile, and when
    /// its client is held back from its session and served as a stranger.
    pub counting: Counting,
}

impl std::fmt::Debug for Looked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Looked").field("phase", &self.phase).field("matched", &self.matched).finish_non_exhaustive()
    }
}
