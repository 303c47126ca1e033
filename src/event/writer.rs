//! The writer's desk: what its thread does with each event.
//!
//! It cuts storms short, numbers what is left, gives it to every sink that wants it, and tells of what was lost. A sink
//! that fails stops no other; its failure is one `dependency.failed` event to those that still work, and another one only
//! after it worked again.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use super::field::Dependency;
use super::kinds::{DependencyFailed, EventsDropped};
use super::queue::{Lane, Settings, Shared, Wants};
use super::repeat::Repeat;
use super::sink::Sink;
use super::{Kind, Record, Scene};
use crate::clock::{Clock, Timestamp};
use crate::verdict::Text;

/// At most one `events.dropped` in so many milliseconds, while nobody waits for it.
const DROPS_EVERY_MS: u64 = 1000;

/// How soon drops are told of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// At once: someone waits.
    Now,
    /// Once in a while.
    InTime,
}

pub(super) struct Desk {
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    repeat: Repeat,
    outlets: Vec<Outlet>,
    summaries: Vec<Record>,
    seq: u64,
    node: Option<Text>,
    latest: Timestamp,
    /// Drops that were told of, by lane and kind, and when.
    told: [[u64; Kind::COUNT]; 2],
    told_at: Option<Timestamp>,
}

struct Outlet {
    sink: Box<dyn Sink>,
    failed: bool,
    /// It failed since the last batch.
    error: Option<io::Error>,
}

impl Desk {
    pub(super) fn new(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        sinks: Vec<Box<dyn Sink>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            clock,
            shared,
            repeat: Repeat::new(settings.repeat),
            outlets: sinks.into_iter().map(|sink| Outlet { sink, failed: false, error: None }).collect(),
            summaries: Vec::new(),
            seq: settings.first_seq,
            node: settings.node.clone(),
            latest: Timestamp::EPOCH,
            told: [[0; Kind::COUNT]; 2],
            told_at: None,
        }
    }

    pub(super) fn wants(&self) -> Wants {
        if self.repeat.is_holding() || self.has_untold() { Wants::Tick } else { Wants::Sleep }
    }

    /// Takes one event from the queue.
    pub(super) fn take(&mut self, record: Record) {
        self.latest = self.latest.max(record.ts);
        let kind = record.event.kind();
        let admitted = self.repeat.admit(record, &mut self.summaries);
        self.write_summaries();
        match admitted {
            Some(record) => self.write(record),
            None => self.shared.counters.folded(kind),
        }
    }

    /// Closes the windows that are over by the clock: nothing else came that could have told the time.
    pub(super) fn tick(&mut self) {
        self.latest = self.latest.max(self.clock.now());
        self.repeat.close(self.latest, &mut self.summaries);
        self.write_summaries();
    }

    /// Closes every window: this is the end.
    pub(super) fn close(&mut self) {
        self.repeat.close_all(self.latest, &mut self.summaries);
        self.write_summaries();
    }

    /// Tells of the drops since the last time.
    pub(super) fn tell_drops(&mut self, haste: Haste) {
        let due =
            self.told_at.is_none_or(|at| self.latest.as_millis().saturating_sub(at.as_millis()) >= DROPS_EVERY_MS);
        if (haste == Haste::InTime && !due) || !self.has_untold() {
            return;
        }
        let [bulk, high] = &mut self.told;
        let mut kinds: Vec<(u64, Kind)> = Vec::new();
        let mut sums = [0; 2];
        for kind in Kind::ALL {
            let mut dropped = 0;
            for (sum, (lane, told)) in sums.iter_mut().zip([(Lane::Bulk, &mut *bulk), (Lane::High, &mut *high)]) {
                let count = self.shared.counters.dropped_of(*kind, lane);
                if let Some(told) = told.get_mut(kind.index()) {
                    dropped += count - *told;
                    *sum += count - *told;
                    *told = count;
                }
            }
            if dropped > 0 {
                kinds.push((dropped, *kind));
            }
        }
        kinds.sort_unstable_by(|left, right| right.cmp(left));
        let mut text = String::new();
        for (count, kind) in kinds {
            let written = write!(text, "{}{kind}={count}", if text.is_empty() { "" } else { " " });
            debug_assert!(written.is_ok());
        }
        self.told_at = Some(self.latest);
        let [bulk, high] = sums;
        let event = EventsDropped { bulk, high, kinds: text.into() };
        self.add(event.into());
    }

    /// Ends a batch: every sink writes out what it kept back.
    pub(super) fn settle(&mut self) {
        self.flush();
        let mut failures = Vec::new();
        for outlet in &mut self.outlets {
            match outlet.error.take() {
                Some(error) if !outlet.failed => {
                    outlet.failed = true;
                    failures.push(format!("{}: {error}", outlet.sink.name()));
                }
                Some(_) => {}
                None => outlet.failed = false,
            }
        }
        if failures.is_empty() {
            return;
        }
        for fault in failures {
            // Perhaps the only place that is left to say it.
            tracing::error!(fault, "an event sink failed");
            self.add(DependencyFailed { what: Dependency::Sink, fault: fault.into() }.into());
        }
        self.flush();
    }

    fn flush(&mut self) {
        for outlet in &mut self.outlets {
            if let Err(error) = outlet.sink.flush() {
                outlet.error = Some(error);
            }
        }
    }

    fn has_untold(&self) -> bool {
        let [bulk, high] = &self.told;
        Kind::ALL.iter().any(|kind| {
            let untold = |lane, told: &[u64]| {
                told.get(kind.index()).is_some_and(|told| self.shared.counters.dropped_of(*kind, lane) > *told)
            };
            untold(Lane::Bulk, bulk) || untold(Lane::High, high)
        })
    }

    fn write_summaries(&mut self) {
        for summary in std::mem::take(&mut self.summaries) {
            self.shared.counters.emitted(summary.event.kind());
            self.write(summary);
        }
    }

    /// An event of the writer's own.
    fn add(&mut self, event: super::Event) {
        self.shared.counters.emitted(event.kind());
        self.write(Record::new(self.latest, Scene::default(), event));
    }

    fn write(&mut self, mut record: Record) {
        record.seq = self.seq;
        record.node.clone_from(&self.node);
        self.seq += 1;
        let severity = record.severity();
        for outlet in &mut self.outlets {
            if severity >= outlet.sink.min()
                && let Err(error) = outlet.sink.take(&record)
            {
                outlet.error = Some(error);
            }
        }
    }
}
