//! A set of rules that runs: compiled, sorted by phase, with what each of them asks for.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use smallvec::SmallVec;

use super::check::Cond;
use super::compile::Unknown;
use super::count::{Effect, Key, Question, Tally};
use super::diagnostic::Spot;
use super::expression::Expression;
use super::file::{Count, HOLD, Score};
use super::lex::Compare;
use super::program::{Entry, Program, Scratch};
use super::scheme::{Field, HostFact, Phase};
use super::value::{Facts, Test};
use crate::clock::Timestamp;
use crate::signal::SignalKind;
use crate::verdict::{Action, EventSync, Mode, Seen, Sighting, Text, Verdict};

/// Rules that matched, by their place in the set. Most requests match none.
pub type Matched = SmallVec<[u16; 8]>;

/// A rule that runs.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `shop/geo-jump`
    pub name: Text,
    /// What it is for.
    pub about: Arc<str>,
    /// What it asks for, besides points.
    pub then: Option<Action>,
    /// Its mode, below those of the route and of everything.
    pub mode: Mode,
    /// When it runs.
    pub phase: Phase,
    /// Words for whoever reads its events.
    pub tags: Arc<[Text]>,
    /// Whether missing data fires it.
    pub unknown: Unknown,
    pub(crate) score: Score,
    pub(crate) count: Option<Count>,
    /// Whom a verdict on an answer holds for, and how long.
    pub(crate) hold: Hold,
    pub(crate) cond: Arc<Cond>,
    pub(crate) when: Arc<Expression>,
    /// Tunes that excuse it, each with the zone of its file.
    pub(crate) unless: Vec<(Cond, Option<TimeZone>)>,
    /// The highest mode that its file allows.
    pub(crate) ceiling: Mode,
    pub(crate) zone: Option<TimeZone>,
    pub(crate) spot: Option<Spot>,
    /// When it was put into `observe`.
    pub(crate) since: Option<Timestamp>,
    /// When its events are to be on disk.
    pub sync: EventSync,
    /// What a match of it is told as, besides what is done about it.
    pub event: Option<Sighting>,
    /// Half of the hash that its counts are kept under: the same after a reload.
    pub(crate) key: u64,
}

/// Whom a verdict on an answer holds for, and how long. `None`: the session, or the client if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) per: Option<Field>,
    pub(crate) within: Duration,
    /// Whether the rule says either of them itself.
    pub(crate) is_said: bool,
}

impl Rule {
    /// Its condition, and those of the tunes that excuse it.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Cond> {
        std::iter::once(&*self.cond).chain(self.unless.iter().map(|(tune, _)| tune))
    }

    /// Whom a verdict on an answer holds for (`None`: the session, or the client if there is none), and how long.
    pub const fn holds(&self) -> (Option<Field>, Duration) {
        (self.hold.per, self.hold.within)
    }

    /// The points that it gives as it stands: `20`, `signal.network.asn`, or nothing.
    pub fn points(&self) -> Option<String> {
        match self.score {
            Score::None => None,
            Score::Fixed(points) => Some(points.to_string()),
            Score::Signal(kind) => Some(Field::Signal(kind).name(&[])),
            Score::SignalAs(kind, points) => Some(format!("{points} for {}", Field::Signal(kind).name(&[]))),
        }
    }

    /// When the event of this verdict is to be on disk, as far as the rule is asked: it says so of what it asks for itself. A tune may
    /// have it ask for less, and who is served does not wait for a disk.
    pub(crate) fn sync_of(&self, action: Action) -> EventSync {
        let refuses = matches!(action, Action::Terminate | Action::Deny);
        if refuses && self.then == Some(action) { self.sync } else { EventSync::Later }
    }

    /// What it asks for as the verdict on a request.
    pub(crate) fn verdict(&self, action: Action) -> Verdict {
        let seen = self.seen().into_iter().collect();
        Verdict { seen, sync: self.sync_of(action), ..Verdict::by_rule(action, &self.name, &self.tags) }
    }

    /// What it says it has seen when it matches.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let count = self.count.map_or(1, |count| count.over.saturating_add(1));
        self.event.map(|what| Seen { what, rule: self.name.clone(), count })
    }

    /// All that it asks for: `score 20 and deny`.
    pub fn asks(&self) -> String {
        let asks = [self.points().map(|points| format!("score {points}")), self.then.map(|then| then.to_string())];
        asks.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }

    /// File and line.
    pub fn place(&self) -> Option<String> {
        self.spot.as_ref().map(|spot| format!("{}:{}", spot.file, spot.line))
    }

    /// Whether it can match only if a detector saw something.
    pub(crate) fn needs_signal(&self) -> bool {
        fn needs(cond: &Cond) -> bool {
            match cond {
                Cond::All(parts) => parts.iter().any(needs),
                Cond::Any(parts) => !parts.is_empty() && parts.iter().all(needs),
                Cond::Leaf(leaf) => {
                    matches!(leaf.field, Field::Signal(_))
                        && match leaf.test {
                            Test::Int(Compare::Gt, than) => than >= 0,
                            Test::Int(Compare::Ge | Compare::Eq, than) => than >= 1,
                            _ => false,
                        }
                }
                Cond::Not(_) | Cond::Const(_) => false,
            }
        }
        needs(&self.cond)
    }
}

/// What must be at hand for the fields that rules read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// `rate.*` or `session.requests`
    pub rates: Read,
    /// `request.path`
    pub path: Read,
    /// `client.city`
    pub city: Read,
    /// `signal.id.guessing`
    pub guesses: Read,
}

/// Whether something is read by any rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Read {
    /// It is not.
    #[default]
    No,
    /// It is.
    Yes,
}

/// A set of rules that runs.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    program: Program,
    steps: Vec<Steps>,
    client: Box<[u16]>,
    /// Rules with the session that may match without any signal.
    session: Box<[u16]>,
    /// Those that can not.
    on_signal: Box<[u16]>,
    risk: Box<[u16]>,
    response: Box<[u16]>,
    host: Arc<[HostFact]>,
    mode: Option<Mode>,
    reads: Reads,
    /// What rules on answers read of the request.
    captures: Box<[Field]>,
    counts: bool,
}

/// Where the conditions of a rule begin.
#[derive(Clone, Debug)]
struct Steps {
    when: Entry,
    unless: Box<[Entry]>,
}

/// Whether a detector saw something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenery {
    /// No signal was raised.
    Quiet,
    /// Some were.
    Signals,
}

impl RuleSet {
    pub(crate) fn new(rules: Vec<Rule>, host: Arc<[HostFact]>) -> Self {
        let mut program = Program::default();
        for rule in &rules {
            program.meet(&rule.cond, rule.zone.as_ref());
            rule.unless.iter().for_each(|(tune, zone)| program.meet(tune, zone.as_ref()));
        }
        program.share();
        let steps = rules.iter().map(|rule| Steps {
            when: program.add(&rule.cond, rule.unknown, rule.zone.as_ref()),
            unless: rule.unless.iter().map(|(tune, zone)| program.add(tune, Unknown::Silent, zone.as_ref())).collect(),
        });
        let steps = steps.collect();
        let in_force = |rule: &&Rule| rule.mode > Mode::Off;
        let places = |of: &dyn Fn(&Rule) -> bool| -> Box<[u16]> {
            let all = rules.iter().zip(0..=u16::MAX);
            all.filter(|(rule, _)| in_force(rule) && of(rule)).map(|(_, at)| at).collect()
        };
        let phase = |phase| move |rule: &Rule| rule.phase == phase;
        Self {
            client: places(&phase(Phase::Client)),
            session: places(&|rule| rule.phase == Phase::Session && !rule.needs_signal()),
            on_signal: places(&|rule| rule.phase == Phase::Session && rule.needs_signal()),
            risk: places(&phase(Phase::Risk)),
            response: places(&phase(Phase::Response)),
            mode: rules.iter().map(|rule| rule.mode).max(),
            reads: reads(&rules),
            captures: captures(&rules),
            counts: rules.iter().any(|rule| in_force(&rule) && rule.count.is_some()),
            program,
            steps,
            rules,
            host,
        }
    }

    /// The rules, in the order in which they were written.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule at a place.
    pub fn rule(&self, at: u16) -> Option<&Rule> {
        self.rules.get(usize::from(at))
    }

    /// The facts that a host declares.
    pub fn host(&self) -> &[HostFact] {
        &self.host
    }

    /// The highest mode of any rule: `off` if there are none.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Off)
    }

    /// What must be at hand.
    pub const fn reads(&self) -> Reads {
        self.reads
    }

    /// Whether any rule counts.
    pub const fn counts(&self) -> bool {
        self.counts
    }

    /// What rules that look at the answer read of its request; empty if there are none.
    pub fn captures(&self) -> &[Field] {
        &self.captures
    }

    /// Whether all rules find the same in all readings of a path.
    pub fn reads_alike<'p>(&self, path: &str, mut readings: impl Iterator<Item = &'p str>) -> bool {
        readings.all(|other| self.program.reads_alike(path, other))
    }

    /// Whether any rule runs in a phase.
    pub fn runs_in(&self, phase: Phase) -> bool {
        match phase {
            Phase::Client => !self.client.is_empty(),
            Phase::Session => !self.session.is_empty() || !self.on_signal.is_empty(),
            Phase::Risk => !self.risk.is_empty(),
            Phase::Response => !self.response.is_empty(),
        }
    }

    /// Whether any rule with the session can match a request that no detector saw anything odd about.
    pub fn may_match_quietly(&self) -> bool {
        !self.session.is_empty() || !self.risk.is_empty()
    }

    /// Whether a rule that reads `risk` is only observed.
    pub(crate) fn observes_risk(&self) -> bool {
        self.risk.iter().filter_map(|at| self.rule(*at)).any(|rule| rule.mode == Mode::Observe)
    }

    /// Runs the rules of a phase. Allocates nothing as long as fewer than nine match.
    pub fn run<'t, F: Facts + ?Sized>(
        &self,
        phase: Phase,
        scenery: Scenery,
        facts: &F,
        (tally, mode): (impl Into<Tally<'t>>, Mode),
        matched: &mut Matched,
    ) {
        let tally = tally.into();
        let mut scratch = Scratch::default();
        let mut each = |places: &[u16]| {
            for at in places {
                if self.matches(*at, facts, (tally, mode), &mut scratch) {
                    matched.push(*at);
                }
            }
        };
        match phase {
            Phase::Client => each(&self.client),
            Phase::Session => {
                each(&self.session);
                if scenery == Scenery::Signals {
                    each(&self.on_signal);
                }
            }
            Phase::Risk => each(&self.risk),
            Phase::Response => each(&self.response),
        }
    }

    fn matches<F: Facts + ?Sized>(
        &self,
        at: u16,
        facts: &F,
        (tally, mode): (Tally<'_>, Mode),
        scratch: &mut Scratch,
    ) -> bool {
        let Some(steps) = self.steps.get(usize::from(at)) else { return false };
        self.program.fires(steps.when, facts, scratch)
            && !steps.unless.iter().any(|tune| self.program.fires(*tune, facts, scratch))
            && self.rule(at).is_some_and(|rule| rule.is_over(facts, tally, mode))
    }
}

impl Rule {
    /// Counts a match, and tells whether there were more than the rule allows. Without `count` every match is one.
    fn is_over<F: Facts + ?Sized>(&self, facts: &F, tally: Tally<'_>, mode: Mode) -> bool {
        let Some(Count { over, within, per }) = self.count else { return true };
        let effect = if mode.min(self.mode) == Mode::Enforce { Effect::Obeyed } else { Effect::Observed };
        // What is only observed has counts of its own.
        let salt = self.key ^ u64::from(effect == Effect::Obeyed);
        // What is not known can not be counted by.
        let Some(key) = Key::of(salt, per, facts) else { return self.unknown == Unknown::Fire };
        tally.count(Question { key, over, within, effect }, facts.now())
    }
}

fn reads(rules: &[Rule]) -> Reads {
    let mut reads = Reads::default();
    for rule in rules.iter().filter(|rule| rule.mode > Mode::Off) {
        let mut note = |field: Field| match field {
            Field::RateClient
            | Field::RatePrefix
            | Field::RateSession
            | Field::RateSubject
            | Field::SessionRequests => {
                reads.rates = Read::Yes;
            }
            Field::RequestPath => reads.path = Read::Yes,
            Field::ClientCity => reads.city = Read::Yes,
            Field::Signal(SignalKind::IdGuessing) => reads.guesses = Read::Yes,
            _ => {}
        };
        for cond in rule.conditions() {
            cond.leaves(&mut |leaf| {
                note(leaf.field);
                if let Test::Field(_, other) = leaf.test {
                    note(other);
                }
            });
        }
        rule.count.iter().for_each(|count| note(count.per));
        if let Score::Signal(kind) | Score::SignalAs(kind, _) = rule.score {
            note(Field::Signal(kind));
        }
    }
    reads
}

/// A rule on answers has something kept for it in any case, so that one that reads the answer alone runs too.
fn captures(rules: &[Rule]) -> Box<[Field]> {
    let mut fields = Vec::new();
    for rule in rules.iter().filter(|rule| rule.mode > Mode::Off && rule.phase == Phase::Response) {
        fields.push(Field::RequestMethod);
        let mut note = |field: Field| {
            if field.phase() < Phase::Response {
                fields.push(field);
            }
        };
        for cond in rule.conditions() {
            cond.leaves(&mut |leaf| {
                note(leaf.field);
                if let Test::Field(_, other) = leaf.test {
                    note(other);
                }
            });
        }
        rule.count.map(|count| count.per).into_iter().chain(rule.hold.per).for_each(note);
    }
    fields.sort_unstable();
    fields.dedup();
    fields.into()
}

/// The latest phase of what a rule reads.
pub(crate) fn phase(conds: &[&Cond], per: Option<Field>) -> Phase {
    let mut phase = per.map(Field::phase).unwrap_or_default();
    for cond in conds {
        cond.leaves(&mut |leaf| {
            phase = phase.max(leaf.field.phase());
            if let Test::Field(_, other) = leaf.test {
                phase = phase.max(other.phase());
            }
        });
    }
    phase
}

impl Hold {
    pub(crate) fn new(per: Option<Field>, within: Option<Duration>, count: Option<&Count>) -> Self {
        let is_said = per.is_some() || within.is_some();
        let within = within.or(count.map(|count| count.within)).unwrap_or(HOLD);
        Self { per: per.or(count.map(|count| count.per)), within, is_said }
    }
}
