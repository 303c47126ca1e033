//! What is done once for a request, though it may be judged more than once; and counts in a store that several guards share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::admit::Request;
use super::awaited::Awaited;
use super::{Admission, Guard};
use crate::clock::Timestamp;
use crate::limit::ClientKey;
use crate::rules::count::{Answers, Counting, Tally};
use crate::store::{Store, StoreError};

/// A count that all threads add to: in several cells, so that they do not fetch the same memory from each other.
#[derive(Debug, Default)]
pub(super) struct Spread([Cell; 8]);

/// On memory that no other count is on.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

impl Spread {
    /// One more, of that client.
    pub(super) fn add(&self, client: ClientKey) {
        let cell = usize::try_from(client.0 % 8).ok().and_then(|at| self.0.get(at));
        if let Some(Cell(count)) = cell {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|Cell(count)| count.load(Ordering::Relaxed)).sum()
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
pub(super) struct Done {
    /// Its matches are counted, each once.
    pub(super) matches: Answers,
    /// It is counted for its client and network.
    pub(super) of_client: Once,
    /// And for its session and subject.
    pub(super) of_session: Once,
    /// Whoever looks on has seen it.
    pub(super) shown: Once,
    /// The store did not answer what limits asked: it is not waited for again.
    pub(super) is_unanswered: AtomicBool,
    /// Events that are to be on disk before it goes on.
    pub(super) awaited: Awaited,
}

impl Request<'_> {
    /// Whether a shared store is to be asked something before this request can be judged.
    pub(super) fn is_asking(&self) -> bool {
        self.done.matches.are_due()
    }
}

impl<S: Store> Guard<S> {
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
