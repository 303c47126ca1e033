//! Counts of rules in a store that several guards share: rules run without waiting, and again once it has answered.

use super::admit::Request;
use super::{Admission, Guard};
use crate::clock::Timestamp;
use crate::rules::RuleSet;
use crate::rules::count::{Answers, Counting, Tally};
use crate::store::{Store, StoreError};

/// What of a request is counted, and what was before: a request may be judged more than once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Once {
    /// It itself, for rates.
    pub(super) requests: Counting,
    /// Its matches.
    pub(super) matches: Counting,
}

impl Once {
    /// Both in the same way.
    pub(super) const fn both(counting: Counting) -> Self {
        Self { requests: counting, matches: counting }
    }

    /// For judging it again with the answers of the store.
    pub(super) const fn again(self) -> Self {
        Self { requests: Counting::Look, ..self }
    }
}

impl Request<'_> {
    /// Whether a shared store is to be asked something before this request can be judged.
    pub(super) fn is_asking(&self) -> bool {
        self.answers.as_deref().is_some_and(Answers::are_due)
    }
}

impl<S: Store> Guard<S> {
    /// Room for what a shared store counts for rules; none if each guard counts for itself.
    pub(super) fn answers(&self, set: &RuleSet) -> Option<Box<Answers>> {
        (self.store.counters().is_some() && set.counts()).then(Box::default)
    }

    /// Where matches of rules are counted.
    pub(super) fn tally<'a>(&'a self, request: &'a Request<'_>) -> Tally<'a> {
        request.answers.as_deref().map_or(Tally::Own(&self.windows), Tally::Shared)
    }

    /// Asks the store what is to be asked for a request; it is to be judged again then.
    #[cold]
    pub(super) async fn ask_for(&self, request: &Request<'_>) {
        let Some(answers) = request.answers.as_deref() else { return };
        if let Err(error) = self.ask(answers, request.now).await {
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
            answers.learn(question, is_over.unwrap_or_else(|| self.windows.ask(question, now)));
        }
        failed
    }
}
