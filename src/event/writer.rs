//! The writer's desk: what its thread does with each event.
//!
//! It cuts storms short, numbers what is left, gives it to every sink that wants it, and tells of what was lost. A sink
//! that fails stops no other; its failure is one `dependency.failed` event to those that still work, and another one only
//! after it worked again.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use super::field::Dependency;
use super::kinds::{DependencyFailed, DependencyRestored, EventsDropped, EventsGap};
use super::queue::{Lane, Left, Settings, Shared, Wants, Worth};
use super::repeat::Repeat;
use super::sink::{Lost, Sink};
use super::{Event, Kind, Record, Scene};
use crate::clock::{Clock, Timestamp};
use crate::verdict::Text;

/// At most one `events.dropped` in so many milliseconds, while nobody waits for it.
const DROPS_EVERY_MS: u64 = 1000;

/// Places that are kept for what is on its way to the sinks.
const NUMBERED_KEPT: usize = 1024;

/// How often sinks are asked what they have to tell after one batch.
const TOLD_MAX: usize = 16;

/// Whether all sinks could write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    All,
    NotAll,
}

/// How soon drops are told of, and how far a batch is to have come.
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
    /// What is on its way to the sinks.
    numbered: Vec<Record>,
    seq: u64,
    node: Option<Text>,
    latest: Timestamp,
    /// Drops that were told of, by lane and kind, and when.
    told: [[u64; Kind::COUNT]; 2],
    told_at: Option<Timestamp>,
    /// Which sinks keep the awaited events of this batch: for each of these a bit. The same are there once.
    keepers: Vec<u64>,
    /// An awaited event is in none of those that keep it, or may not be.
    is_unkept: bool,
}

/// The bit of a sink; of those beyond 64 none is known to keep anything.
fn bit(at: usize) -> u64 {
    u32::try_from(at).ok().and_then(|at| 1_u64.checked_shl(at)).unwrap_or(0)
}

struct Outlet {
    sink: Box<dyn Sink>,
    /// Since when it fails.
    failed: Option<Timestamp>,
    /// The first and the last event that it gave up since it failed.
    lost: Option<(u64, u64)>,
    /// It was given something since the last batch: without that, that nothing fails says nothing.
    was_given: bool,
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
        let latest = clock.now();
        Self {
            clock,
            shared,
            repeat: Repeat::new(settings.repeat),
            outlets: sinks
                .into_iter()
                .map(|sink| Outlet { sink, failed: None, lost: None, was_given: false, error: None })
                .collect(),
            summaries: Vec::new(),
            numbered: Vec::new(),
            seq: settings.first_seq,
            node: settings.node.clone(),
            latest,
            told: [[0; Kind::COUNT]; 2],
            told_at: None,
            keepers: Vec::new(),
            is_unkept: false,
        }
    }

    pub(super) fn wants(&self) -> Wants {
        let is_waiting = || self.outlets.iter().any(|outlet| outlet.sink.is_waiting());
        if self.repeat.is_holding() || self.has_untold() || is_waiting() { Wants::Tick } else { Wants::Sleep }
    }

    /// Takes one event from the queue.
    pub(super) fn take(&mut self, Left { record, worth }: Left) {
        self.latest = self.latest.max(record.ts);
        let kind = record.event.kind();
        if worth == Worth::Awaited {
            self.note_keepers(&record);
        }
        let admitted = self.repeat.admit(record, worth, &mut self.summaries);
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

    /// Ends a batch: every sink takes it and writes out what it kept back, and tells what it has to tell. Tells whether all of them
    /// could.
    pub(super) fn settle(&mut self, haste: Haste) -> Done {
        self.deliver(haste);
        for _ in 0..TOLD_MAX {
            let now = self.latest;
            if !self.told_by(|sink| sink.tells(now)) {
                break;
            }
            self.deliver(haste);
        }
        let (mut failures, mut restored, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        let mut done = Done::All;
        let latest = self.latest;
        let mut failed = 0;
        for (at, outlet) in self.outlets.iter_mut().enumerate() {
            match outlet.error.take() {
                Some(error) => {
                    done = Done::NotAll;
                    failed |= bit(at);
                    if outlet.failed.is_none() {
                        outlet.failed = Some(latest);
                        failures.push(format!("{}: {error}", outlet.sink.name()));
                    }
                }
                None if outlet.was_given => {
                    let name = Text::from(outlet.sink.name());
                    gaps.extend(outlet.lost.take().map(|lost| (name.clone(), lost)));
                    restored.extend(outlet.failed.take().map(|since| (name, since)));
                }
                None => {}
            }
        }
        // One that has it and did not fail is enough.
        self.is_unkept |= std::mem::take(&mut self.keepers).into_iter().any(|keepers| keepers & !failed == 0);
        for (which, since) in restored {
            let after_ms = u64::try_from(latest.since(since).as_millis()).unwrap_or(u64::MAX);
            self.add(DependencyRestored { what: Dependency::Sink, which, after_ms }.into());
        }
        for (sink, (from_seq, to_seq)) in gaps {
            self.add(EventsGap { sink, from_seq, to_seq }.into());
        }
        for fault in &failures {
            // Perhaps the only place that is left to say it.
            tracing::error!(fault, "an event sink failed");
            self.add(DependencyFailed { what: Dependency::Sink, fault: fault.as_str().into() }.into());
        }
        if !self.numbered.is_empty() {
            self.deliver(haste);
            // Those that failed a moment ago fail again, and that was told.
            self.outlets.iter_mut().filter(|outlet| outlet.failed.is_some()).for_each(|outlet| outlet.error = None);
        }
        self.outlets.iter_mut().for_each(|outlet| outlet.was_given = false);
        done
    }

    /// Takes note of the sinks that keep an awaited event.
    fn note_keepers(&mut self, record: &Record) {
        let keeps = |(_, outlet): &(usize, &Outlet)| outlet.sink.keeps() && outlet.sink.wants(record);
        let keepers = self.outlets.iter().enumerate().filter(keeps).fold(0, |all, (at, _)| all | bit(at));
        if !self.keepers.contains(&keepers) {
            self.keepers.push(keepers);
        }
    }

    /// Whether all awaited events since this was asked last are where events are kept.
    pub(super) fn kept(&mut self) -> Done {
        if std::mem::take(&mut self.is_unkept) { Done::NotAll } else { Done::All }
    }

    /// The last words of the sinks.
    pub(super) fn end(&mut self) -> Done {
        let now = self.latest;
        // What one of them lost to the end is told to the others.
        let lost = |outlet: &mut Outlet| Some((Text::from(outlet.sink.name()), outlet.lost.take()?));
        let gaps: Vec<_> = self.outlets.iter_mut().filter_map(lost).collect();
        let is_told = !gaps.is_empty();
        for (sink, (from_seq, to_seq)) in gaps {
            self.add(EventsGap { sink, from_seq, to_seq }.into());
        }
        if self.told_by(|sink| sink.ends(now)) || is_told { self.settle(Haste::Now) } else { Done::All }
    }

    /// Gives what has a number to one sink after the other: the first one has all of it on disk, if it keeps events there, before the
    /// next one is told of any.
    fn deliver(&mut self, haste: Haste) {
        for outlet in &mut self.outlets {
            for record in &self.numbered {
                // Seals are evidence, wherever they are.
                if !outlet.sink.wants(record) && record.event.kind() != Kind::EventsSealed {
                    continue;
                }
                outlet.was_given = true;
                if let Err(error) = outlet.sink.take(record) {
                    outlet.error = Some(error);
                }
            }
            let done = match haste {
                Haste::Now => outlet.sink.sync(),
                Haste::InTime => outlet.sink.flush(),
            };
            if let Err(error) = done {
                outlet.error = Some(error);
            }
            for Lost { kind, seq } in outlet.sink.lost() {
                self.shared.counters.lost(kind);
                let (first, last) = outlet.lost.unwrap_or((seq, seq));
                outlet.lost = Some((first.min(seq), last.max(seq)));
            }
        }
        self.numbered.clear();
        // The room of a storm is given back.
        self.numbered.shrink_to(NUMBERED_KEPT);
    }

    /// Asks each sink once. Whether anything was told.
    fn told_by(&mut self, mut ask: impl FnMut(&mut dyn Sink) -> Option<Event>) -> bool {
        let told: Vec<_> = self.outlets.iter_mut().filter_map(|outlet| ask(&mut *outlet.sink)).collect();
        let is_told = !told.is_empty();
        told.into_iter().for_each(|event| self.add(event));
        is_told
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
    fn add(&mut self, event: Event) {
        self.shared.counters.emitted(event.kind());
        self.write(Record::new(self.latest, Scene::default(), event));
    }

    fn write(&mut self, mut record: Record) {
        record.seq = self.seq;
        record.node.clone_from(&self.node);
        self.seq += 1;
        self.numbered.push(record);
    }
}
