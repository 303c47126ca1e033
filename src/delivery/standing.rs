//! How a sink stands: for metrics, and for whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::sync::watch;

use super::{FAILURES_TOLD, Item};
use crate::clock::{Clock, Timestamp};
use crate::event::field::Dependency;
use crate::event::queue::EventSender;
use crate::event::{Event, Kind, Record, Scene, kinds};
use crate::verdict::Text;

/// Whether a sink delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does, or there was nothing to deliver.
    Working,
    /// Its receiver fails, and is asked again and again.
    Failing,
    /// Its receiver wants no more events, or none that it could be given: it is not asked until the next start.
    Disabled,
}

/// How a sink stands.
#[derive(Debug)]
pub struct Standing {
    name: String,
    durable: watch::Receiver<u64>,
    state: AtomicU8,
    next: AtomicU64,
    delivered: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
}

impl Standing {
    pub(super) fn new(name: &str, durable: watch::Receiver<u64>) -> Self {
        Self {
            name: name.to_owned(),
            durable,
            state: AtomicU8::new(0),
            next: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it delivers.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Working,
            1 => State::Failing,
            _ => State::Disabled,
        }
    }

    /// How many events are on disk that its receiver does not have, those that it does not want included.
    pub fn lag(&self) -> u64 {
        (*self.durable.borrow() + 1).saturating_sub(self.next.load(Ordering::Relaxed))
    }

    /// How many events its receiver took since the start.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// How many events its receiver refused for what is in them; they were left out.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How often sending failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Its task panicked.
    pub(super) fn ended_badly(&self, events: &EventSender, now: Timestamp) {
        const WHAT: &str = "it ended badly, and its events stay in the journal until the next start";
        self.enter(State::Disabled);
        tracing::error!(sink = self.name, WHAT);
        let fault = Text::from(format!("{}: {WHAT}", self.name));
        events.emit(now, Scene::default(), kinds::DependencyFailed { what: Dependency::Sink, fault });
    }

    fn enter(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }
}

/// Counts what becomes of a sink's events, and tells when that changes.
pub(super) struct Counted {
    standing: Arc<Standing>,
    events: EventSender,
    clock: Arc<dyn Clock>,
    in_turn: u32,
    /// Since when it was told that it fails.
    failing_since: Option<Timestamp>,
    /// Up to where it was told that events can not be read.
    unreadable: u64,
}

impl Counted {
    pub(super) const fn new(standing: Arc<Standing>, events: EventSender, clock: Arc<dyn Clock>) -> Self {
        Self { standing, events, clock, in_turn: 0, failing_since: None, unreadable: 0 }
    }

    /// Failures since the last success.
    pub(super) const fn in_turn(&self) -> u32 {
        self.in_turn
    }

    /// Which event is next.
    pub(super) fn is_at(&self, seq: u64) {
        self.standing.next.store(seq, Ordering::Relaxed);
    }

    pub(super) fn delivered(&mut self, count: u64) {
        self.in_turn = 0;
        self.standing.delivered.fetch_add(count, Ordering::Relaxed);
        if let Some(since) = self.failing_since.take() {
            tracing::warn!(sink = self.standing.name, "the sink delivers again");
            let which = Text::from(self.standing.name.as_str());
            let after_ms = u64::try_from(self.clock.now().since(since).as_millis()).unwrap_or(u64::MAX);
            let event = kinds::DependencyRestored { what: Dependency::Sink, which, after_ms };
            self.events.emit(self.clock.now(), Scene::default(), event);
        }
        self.standing.enter(State::Working);
    }

    pub(super) fn failed(&mut self, why: &str) {
        self.in_turn += 1;
        self.standing.failures.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(sink = self.standing.name, why, "events could not be delivered");
        if self.in_turn >= FAILURES_TOLD && self.standing.state() == State::Working {
            self.standing.enter(State::Failing);
            self.failing_since = Some(self.clock.now());
            self.tell(&format!("{why}; its events stay in the journal until it takes them"));
        }
    }

    /// An event that the receiver will never take.
    pub(super) fn refused(&self, record: &Record, why: &str) {
        self.standing.refused.fetch_add(1, Ordering::Relaxed);
        let what = format!("event {} was refused and left out: {why}", record.seq);
        self.tell_of(std::iter::once(record), &what);
    }

    /// The receiver took a batch but for so many events.
    pub(super) fn rejected(&self, items: &[Item], count: u64) {
        self.standing.refused.fetch_add(count, Ordering::Relaxed);
        let what = format!("{count} events of a batch were rejected, and left out");
        self.tell_of(items.iter().map(|item| &item.record), &what);
    }

    /// Tells it, unless all that it is about tells of failures itself: that would be refused too, and told, without an end.
    fn tell_of<'r>(&self, mut records: impl Iterator<Item = &'r Record>, what: &str) {
        let tells = |record: &Record| match &record.event {
            Event::DependencyFailed(_) => true,
            Event::EventsRepeated(summary) => summary.of == Kind::DependencyFailed,
            _ => false,
        };
        if records.all(tells) {
            tracing::warn!(sink = self.standing.name, "{what}");
        } else {
            self.tell(what);
        }
    }

    /// An event of the journal that can not be read.
    pub(super) fn unreadable(&mut self, seq: u64) {
        if seq > self.unreadable {
            self.unreadable = seq;
            self.standing.refused.fetch_add(1, Ordering::Relaxed);
            self.tell(&format!("event {seq} was left out: this version of the guard can not read it"));
        }
    }

    /// Its place is behind the end of the journal.
    pub(super) fn misplaced(&self, seq: u64) {
        self.tell(&format!("it was at event {seq}, which the journal does not have yet: another journal stands there now, and it begins with the oldest event"));
    }

    pub(super) fn disabled(&self, why: &str) {
        self.standing.enter(State::Disabled);
        self.tell(&format!("{why}; nothing is sent to it until the next start"));
    }

    /// Events that it can not be given, since they are gone.
    pub(super) fn gap(&self, from_seq: u64, to_seq: u64) {
        let sink = Text::from(self.standing.name.as_str());
        self.events.emit(self.clock.now(), Scene::default(), kinds::EventsGap { sink, from_seq, to_seq });
    }

    fn tell(&self, what: &str) {
        tracing::warn!(sink = self.standing.name, "{what}");
        let fault = Text::from(format!("{}: {what}", self.standing.name));
        let event = kinds::DependencyFailed { what: Dependency::Sink, fault };
        self.events.emit(self.clock.now(), Scene::default(), event);
    }
}
