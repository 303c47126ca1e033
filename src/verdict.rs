//! Verdicts: ordered actions with their reasons.
//!
//! Several rules may judge one request. Their verdicts are joined: the strongest action wins and the reasons of all are
//! kept, so that an operator reads why, and not only which rule spoke last.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What to do with a request, from the mildest to the strongest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Serve it.
    #[default]
    Allow,
    /// Serve it and say so in an event.
    Observe,
    /// Slow it down: 429 with `Retry-After`.
    Throttle,
    /// Serve it and offer a new tag at once.
    Rotate,
    /// Serve it without any credential: the app sees a stranger.
    Quarantine,
    /// Answer with a challenge; the app is not asked.
    Challenge,
    /// End the session.
    Terminate,
    /// Refuse it; the app is not asked.
    Deny,
}

impl Action {
    /// All of them, mildest first.
    pub const ALL: [Self; 8] = [
        Self::Allow,
        Self::Observe,
        Self::Throttle,
        Self::Rotate,
        Self::Quarantine,
        Self::Challenge,
        Self::Terminate,
        Self::Deny,
    ];

    /// The word it goes by in rules and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Observe => "observe",
            Self::Throttle => "throttle",
            Self::Rotate => "rotate",
            Self::Quarantine => "quarantine",
            Self::Challenge => "challenge",
            Self::Terminate => "terminate",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word names no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an action (allow, observe, throttle, rotate, quarantine, challenge, terminate or deny)")]
pub struct UnknownAction;

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(word: &str) -> Result<Self, UnknownAction> {
        Self::ALL.into_iter().find(|action| action.as_str() == word).ok_or(UnknownAction)
    }
}

/// Whether verdicts are reached, and acted upon. Of several modes that apply, the lowest is in force (`min`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// No rules, no detectors.
    Off,
    /// They run and report; the plan is that of `allow`.
    Observe,
    /// They run and are obeyed.
    #[default]
    Enforce,
}

impl Mode {
    /// All of them, lowest first.
    pub const ALL: [Self; 3] = [Self::Off, Self::Observe, Self::Enforce];

    /// The word it goes by in settings and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word names no mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a mode (off, observe or enforce)")]
pub struct UnknownMode;

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(word: &str) -> Result<Self, UnknownMode> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word).ok_or(UnknownMode)
    }
}

/// Bytes a [`Text`] holds in place; longer ones are shared on the heap.
pub const TEXT_INLINE_BYTES: usize = 22;

/// A short piece of text that is cheap to clone and mostly needs no heap: a name, an ASN, a browser's family.
#[derive(Clone)]
pub struct Text(Form);

#[derive(Clone)]
enum Form {
    Static(&'static str),
    Inline { len: u8, bytes: [u8; TEXT_INLINE_BYTES] },
    Shared(Arc<str>),
}

impl Text {
    /// A text known at compile time: never allocates.
    pub const fn of(text: &'static str) -> Self {
        Self(Form::Static(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Form::Static(text) => text,
            // The bytes were copied from a `str` of that length, so neither step comes out empty.
            Form::Inline { len, bytes } => {
                bytes.get(..usize::from(*len)).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
            }
            Form::Shared(text) => text,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut bytes = [0; TEXT_INLINE_BYTES];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(text.as_bytes());
                Self(Form::Inline { len, bytes })
            }
            _ => Self(Form::Shared(text.into())),
        }
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self(Form::Shared(text))
    }
}

impl From<Cow<'static, str>> for Text {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::of(text),
            Cow::Owned(text) => Self::from(text),
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// One cause of a verdict: a signal that was raised or a rule that matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// The stable name of the signal (`network.asn`) or of the rule (`shop/geo-jump`).
    pub kind: Text,
    /// What it added to the risk; a rule that only names an action adds nothing.
    pub points: f32,
    /// What was known before, if something changed.
    pub before: Option<Text>,
    /// What was seen instead.
    pub after: Option<Text>,
}

impl Reason {
    /// A reason by its name and points alone.
    pub fn new(kind: impl Into<Text>, points: f32) -> Self {
        Self { kind: kind.into(), points, before: None, after: None }
    }

    /// The same with what changed into what.
    #[must_use]
    pub fn changed(mut self, before: impl Into<Text>, after: impl Into<Text>) -> Self {
        self.before = Some(before.into());
        self.after = Some(after.into());
        self
    }
}

/// Reasons a verdict keeps. Of more, those with the most points stay.
pub const REASONS_MAX: usize = 16;

/// The reasons of a verdict. Nearly every verdict has none, and an empty list needs no heap and next to no room.
pub type Reasons = Vec<Reason>;

/// Words of rules that a verdict keeps, the first ones.
pub const TAGS_MAX: usize = 16;

/// The words of rules in a verdict. Nearly every verdict has none.
pub type Tags = Vec<Text>;

/// The strongest action that rules and thresholds ask for, with its reasons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// What to do.
    pub action: Action,
    /// Why: no two of the same kind, at most [`REASONS_MAX`].
    pub reasons: Reasons,
    /// The sum of weights after decay.
    pub risk: f32,
    /// The rule that decided, if one did.
    pub rule: Option<Text>,
    /// The words of all rules that had a part in it: no two alike, at most [`TAGS_MAX`].
    pub tags: Tags,
    /// What rules that had a part in it say they have seen: at most one of a rule, of [`TAGS_MAX`] rules.
    pub seen: Vec<Seen>,
    /// Whether a rule that asks for this action wants its event to be on disk before the answer.
    pub sync: EventSync,
}

/// What a rule says it has seen: a kind of event that only whoever wrote the rule can know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sighting {
    /// A request forged by another site, which is refused.
    Csrf,
    /// A request from an origin that may not make it, which is refused.
    Origin,
    /// Many requests for what does not exist.
    Probe,
    /// An attack tool.
    Tool,
    /// Something that no honest client can know of.
    Honeypot,
    /// An address on a list.
    Reputation,
}

impl Sighting {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Csrf, Self::Origin, Self::Probe, Self::Tool, Self::Honeypot, Self::Reputation];

    /// The kind of event that it is told as, which is its word in rules files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csrf => "csrf.blocked",
            Self::Origin => "origin.blocked",
            Self::Probe => "probe.404_burst",
            Self::Tool => "tool.detected",
            Self::Honeypot => "honeypot.hit",
            Self::Reputation => "reputation.hit",
        }
    }

    /// Whether its event says that the request was refused.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Csrf | Self::Origin)
    }
}

/// A sighting, and the rule that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What.
    pub what: Sighting,
    /// By which rule.
    pub rule: Text,
    /// How often its condition held within its window, at least.
    pub count: u32,
}

/// When the event of a verdict is to be on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventSync {
    /// As soon as the journal writes it: nobody waits.
    #[default]
    Later,
    /// Before the client has its answer.
    BeforeReply,
}

impl EventSync {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Later, Self::BeforeReply];

    /// The word it goes by in rules files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Later => "later",
            Self::BeforeReply => "before-reply",
        }
    }
}

impl Verdict {
    /// Serve it, for no particular reason. Allocates nothing.
    pub fn allow() -> Self {
        Self::default()
    }

    /// One action for one reason.
    pub fn because(action: Action, reason: Reason) -> Self {
        let mut verdict = Self { action, ..Self::default() };
        verdict.add(reason);
        verdict
    }

    /// What one rule asks for by itself.
    pub fn by_rule(action: Action, rule: &Text, tags: &[Text]) -> Self {
        let mut verdict = Self::because(action, Reason::new(rule.clone(), 0.0));
        verdict.rule = Some(rule.clone());
        verdict.tag(tags);
        verdict
    }

    /// Adds a reason. One of a kind that is there already is kept once, with the greater points.
    pub fn add(&mut self, reason: Reason) {
        if let Some(same) = self.reasons.iter_mut().find(|old| old.kind == reason.kind) {
            if reason.points > same.points {
                *same = reason;
            }
        } else if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason);
        } else if let Some(least) = self.reasons.iter_mut().min_by(|a, b| a.points.total_cmp(&b.points))
            && reason.points > least.points
        {
            *least = reason;
        }
    }

    /// Adds the words of a rule.
    pub fn tag(&mut self, tags: &[Text]) {
        for tag in tags {
            if self.tags.len() < TAGS_MAX && !self.tags.contains(tag) {
                self.tags.push(tag.clone());
            }
        }
    }

    /// Whether there is anything to tell of it.
    pub const fn is_telling(&self) -> bool {
        !matches!(self.action, Action::Allow) || !self.seen.is_empty()
    }

    /// Whether all of it is told by what its rules have seen.
    pub fn is_all_seen(&self) -> bool {
        let is_seen = |reason: &Reason| self.seen.iter().any(|seen| seen.rule == reason.kind);
        !self.seen.is_empty() && self.reasons.iter().all(is_seen)
    }

    /// Adds what a rule says it has seen.
    pub fn see(&mut self, seen: Option<Seen>) {
        if let Some(seen) = seen.filter(|seen| self.seen.len() < TAGS_MAX && !self.seen.contains(seen)) {
            self.seen.push(seen);
        }
    }

    /// Both verdicts in one: the stronger action, the reasons and words of both, the higher risk.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        if other.action > self.action || self.rule.is_none() {
            self.rule = other.rule;
        }
        self.sync = match self.action.cmp(&other.action) {
            Ordering::Less => other.sync,
            Ordering::Equal => self.sync.max(other.sync),
            Ordering::Greater => self.sync,
        };
        self.action = self.action.max(other.action);
        self.risk = self.risk.max(other.risk);
        self.tag(&other.tags);
        for seen in other.seen {
            self.see(Some(seen));
        }
        for reason in other.reasons {
            self.add(reason);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn actions_and_modes_are_ordered_and_spelled_as_in_the_manual() {
        let words = "allow observe throttle rotate quarantine challenge terminate deny";
        let printed: Vec<_> = Action::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(printed.join(" "), words);
        assert!(Action::ALL.is_sorted() && Mode::ALL.is_sorted());
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        for mode in Mode::ALL {
            assert_eq!(mode.as_str().parse(), Ok(mode));
        }
        assert_eq!("Deny".parse::<Action>(), Err(UnknownAction));
        assert_eq!("on".parse::<Mode>(), Err(UnknownMode));
        assert_eq!(Mode::Enforce.min(Mode::Observe), Mode::Observe);
    }

    #[test]
    fn the_stronger_action_wins_and_reasons_add_up() {
        let left = Verdict::because(Action::Rotate, Reason::new("network.asn", 10.0).changed("3320", "7922"));
        let mut right = Verdict::because(Action::Observe, Reason::new("device.os", 60.0));
        right.add(Reason::new("network.asn", 4.0));
        right.risk = 64.0;
        let joined = left.join(right);
        assert_eq!((joined.action, joined.risk), (Action::Rotate, 64.0));
        let reasons: Vec<_> = joined.reasons.iter().map(|r| (r.kind.as_str(), r.points)).collect();
        assert_eq!(reasons, [("network.asn", 10.0), ("device.os", 60.0)]);
        assert_eq!(joined.reasons[0].after.as_ref().unwrap(), "7922");
    }

    #[test]
    fn a_full_verdict_keeps_its_weightiest_reasons() {
        let mut verdict = Verdict::allow();
        for points in 0u8..100 {
            verdict.add(Reason::new(format!("signal.{points}"), f32::from(points)));
        }
        assert_eq!(verdict.reasons.len(), REASONS_MAX);
        assert!(verdict.reasons.iter().all(|reason| reason.points >= 84.0));
        assert_eq!(Verdict::allow().reasons.capacity(), 0);
    }

    #[test]
    fn a_reason_stays_small() {
        assert_eq!(size_of::<Text>(), 24);
        assert_eq!(size_of::<Option<Text>>(), 24);
        assert!(size_of::<Reason>() <= 80);
    }

    proptest! {
        #[test]
        fn a_text_is_what_it_was_made_of(text in ".{0,40}") {
            let own = Text::from(text.as_str());
            prop_assert_eq!(own.as_str(), text.as_str());
            prop_assert_eq!(own, Text::from(Arc::<str>::from(text)));
        }

        #[test]
        fn joining_takes_the_maximum(a in 0usize..8, b in 0usize..8, n in 0usize..20, m in 0usize..20) {
            let make = |action: usize, count: usize, name: &str| {
                let mut verdict = Verdict { action: Action::ALL[action], ..Verdict::default() };
                (0..count).for_each(|i| verdict.add(Reason::new(format!("{name}{i}"), 1.0)));
                verdict
            };
            let joined = make(a, n, "a").join(make(b, m, "b"));
            prop_assert_eq!(joined.action, Action::ALL[a.max(b)]);
            prop_assert_eq!(joined.reasons.len(), (n.min(REASONS_MAX) + m.min(REASONS_MAX)).min(REASONS_MAX));
        }
    }
}
