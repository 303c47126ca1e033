//! What a guard counts: its decisions, what is done once for a request though it may be judged more than once, and what is
//! counted in a store that several guards share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::admit::Request;
use super::awaited::Awaited;
use super::{Admission, Decision, Guard, Refusal, RefusalKind};
use crate::clock::Timestamp;
use crate::figures::{self, Spread};
use crate::limit::ClientKey;
use crate::rules::count::{Answers, Counting, Tally};
use crate::signal::{Signal, SignalKind};
use crate::store::{Store, StoreError};
use crate::verdict::{Action, Mode, Seen, Text, Verdict};

/// What was decided since the start.
#[derive(Debug)]
pub(super) struct Decided {
    /// Requests, by what was done with them and the mode on their route.
    requests: Spread<{ Done::COUNT * MODES }>,
    /// Verdicts that ask for more than to serve a request, by what they ask for and whether they are obeyed.
    verdicts: Spread<{ Action::ALL.len() * MODES }>,
    /// Signals, by kind.
    signals: [AtomicU64; SignalKind::ALL.len()],
    /// Answers that took the place of the app's, in the order of [`RefusalKind::OF_ANSWERS`].
    replaced: [AtomicU64; RefusalKind::OF_ANSWERS.len()],
}

impl Default for Decided {
    fn default() -> Self {
        let signals = std::array::from_fn(|_| AtomicU64::new(0));
        Self { requests: Spread::default(), verdicts: Spread::default(), signals, replaced: Default::default() }
    }
}

const MODES: usize = Mode::ALL.len();

/// What was done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// What a verdict or a limit says.
    Action(Action),
    /// It was refused, since the store did not answer.
    Outage,
}

impl Done {
    const COUNT: usize = Action::ALL.len() + 1;

    /// The word it goes by in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Action(action) => action.as_str(),
            Self::Outage => "outage",
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        Action::ALL.into_iter().map(Self::Action).chain([Self::Outage])
    }

    /// Where it is counted in this mode.
    const fn place(self, mode: Mode) -> usize {
        let done = match self {
            Self::Action(action) => action as usize,
            Self::Outage => Action::ALL.len(),
        };
        done * MODES + mode as usize
    }
}

/// What a guard has decided since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Requests, by what was done with them and the mode on their route.
    pub requests: Vec<(Done, Mode, u64)>,
    /// Verdicts of rules, evidence and limits that ask for more than to serve a request, by what they ask for; those that are
    /// only reported under [`Mode::Observe`].
    pub verdicts: Vec<(Action, Mode, u64)>,
    /// How often something was seen, of each kind.
    pub signals: Vec<(SignalKind, u64)>,
    /// Answers of the app that another one took the place of, by why. Their requests went to the app, and are counted as such.
    pub replaced: Vec<(RefusalKind, u64)>,
}

impl Decided {
    fn request(&self, client: IpAddr, done: Done, mode: Mode) {
        self.requests.add(ClientKey::new(client).0, done.place(mode));
    }

    fn verdict(&self, client: IpAddr, action: Action, mode: Mode) {
        self.verdicts.add(ClientKey::new(client).0, Done::Action(action).place(mode));
    }

    fn read(&self) -> Decisions {
        let requests = Done::all().flat_map(|done| Mode::ALL.map(|mode| (done, mode)));
        let verdicts = Action::ALL.into_iter().flat_map(|action| Mode::ALL.map(|mode| (action, mode)));
        let signals = SignalKind::ALL.iter().zip(&self.signals);
        let replaced = RefusalKind::OF_ANSWERS.iter().zip(&self.replaced);
        Decisions {
            requests: requests.zip(self.requests.sums()).map(|((done, mode), count)| (done, mode, count)).collect(),
            verdicts: verdicts
                .zip(self.verdicts.sums())
                // Who is served asks for nothing, and rules that are off for nothing either.
                .filter(|((action, mode), _)| *action != Action::Allow && *mode != Mode::Off)
                .map(|((action, mode), count)| (action, mode, count))
                .collect(),
            signals: signals.map(|(kind, count)| (*kind, count.load(Ordering::Relaxed))).collect(),
            replaced: replaced.map(|(kind, count)| (*kind, count.load(Ordering::Relaxed))).collect(),
        }
    }
}

/// Something that is done once for a request.
#[derive(Debug, Default)]
pub(super) struct Once(AtomicBool);

impl Once {
    /// Whether it is to be done now.
    pub(super) fn take(&self) -> Counting {
        // A request is judged by one task, so there is no race to be decided.
        if self.0.swap(true, Ordering::Relaxed) { Counting::Look } else { Counting::Count }
    }
}

/// What was done for a request.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Its matches are counted, each once.
    pub(super) matches: Answers,
    /// It is counted for its client and network.
    pub(super) of_client: Once,
    /// And for its session and subject.
    pub(super) of_session: Once,
    /// What is seen of it is counted.
    pub(super) signals: Once,
    /// Which verdicts on it are counted: a bit for each.
    verdicts: AtomicU32,
    /// Rules of which it was told what they have seen.
    told: Mutex<Vec<Text>>,
    /// Whoever looks on has seen it.
    pub(super) shown: Once,
    /// The store did not answer what limits asked: it is not waited for again.
    pub(super) is_unanswered: AtomicBool,
    /// Events that are to be on disk before it goes on.
    pub(super) awaited: Awaited,
}

impl Steps {
    /// What rules have seen that was not told of this request yet. It is told now.
    pub(super) fn untold<'v>(&self, verdict: &'v Verdict) -> Vec<&'v Seen> {
        let mut told = self.told.lock();
        let untold: Vec<_> = verdict.seen.iter().filter(|seen| !told.contains(&seen.rule)).collect();
        told.extend(untold.iter().map(|seen| seen.rule.clone()));
        untold
    }
}

impl Request<'_> {
    /// Whether a shared store is to be asked something before this request can be judged.
    pub(super) fn is_asking(&self) -> bool {
        self.done.matches.are_due()
    }
}

impl<S: Store> Guard<S> {
    /// What it has decided since it started.
    pub fn decisions(&self) -> Decisions {
        self.decided.read()
    }

    /// The answer that the guard gives itself.
    pub(super) fn answer(&self, request: &Request<'_>, refusal: Refusal) -> Decision {
        self.count_refusal(request, &refusal);
        Decision::Answer(refusal)
    }

    pub(super) fn count_refusal(&self, request: &Request<'_>, refusal: &Refusal) {
        let done = refusal.kind.action().map_or(Done::Outage, Done::Action);
        self.decided.request(request.client.ip, done, request.mode());
    }

    /// Counts a request that the app is to see.
    pub(super) fn count_forwarded(&self, request: &Request<'_>, verdict: &Verdict) {
        let mode = request.mode();
        let action = if mode == Mode::Enforce { verdict.action } else { Action::Allow };
        self.decided.request(request.client.ip, Done::Action(action), mode);
    }

    /// Counts a verdict on a request, once.
    pub(super) fn count_verdict(&self, request: &Request<'_>, action: Action, mode: Mode) {
        let bit = 1 << Done::Action(action).place(mode);
        if request.done.verdicts.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            self.decided.verdict(request.client.ip, action, mode);
        }
    }

    /// Counts a verdict on an answer.
    pub(super) fn count_settled_verdict(&self, admission: &Admission, action: Action, mode: Mode) {
        self.decided.verdict(admission.ask.client.ip, action, mode);
    }

    /// Counts an answer that takes the place of the app's.
    pub(super) fn count_replaced(&self, refusal: &Refusal) {
        figures::count_of(&self.decided.replaced, &RefusalKind::OF_ANSWERS, &refusal.kind);
    }

    /// Counts what is seen of a request, once.
    pub(super) fn count_signals(&self, request: &Request<'_>, signals: &[Signal]) {
        if signals.is_empty() || request.done.signals.take() == Counting::Look {
            return;
        }
        for signal in signals {
            figures::count(&self.decided.signals, signal.kind as usize);
        }
    }

    /// Where matches of rules are counted, each once.
    pub(super) fn tally<'a>(&'a self, answers: &'a Answers) -> Tally<'a> {
        match self.store.counters() {
            Some(_) => Tally::Shared(answers),
            None => Tally::Once(&self.windows, answers),
        }
    }

    /// Asks the store what is to be asked for a request; it is to be judged again then.
    #[cold]
    pub(super) async fn ask_for(&self, request: &Request<'_>) {
        if let Err(error) = self.ask(&request.done.matches, request.now).await {
            self.tell_outage(request, &error);
        }
    }

    /// The same for rules on an answer.
    #[cold]
    pub(super) async fn ask_on_answer(&self, admission: &Admission, answers: &Answers) {
        if let Err(error) = self.ask(answers, admission.now).await {
            self.tell_failed(admission, &error);
        }
    }

    /// A store that fails, or gives fewer answers than it was asked for, is stood in for: this guard counts for itself.
    async fn ask(&self, answers: &Answers, now: Timestamp) -> Result<(), StoreError> {
        let due = answers.due();
        let found = match self.store.counters() {
            Some(counters) => counters.ask(&due, now).await,
            None => Ok(Vec::new()),
        };
        let (found, failed) = match found {
            Ok(found) => (found, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        for (at, question) in due.into_iter().enumerate() {
            let is_over = found.get(at).copied();
            answers.learn(question, is_over.unwrap_or_else(|| self.windows.count(question, now)));
        }
        failed
    }
}
