//! Answers that wait: until their events are on disk, because a rule says so (`sync = "before-reply"`).
//!
//! The wait ends after [`EVENT_WAIT_MAX`] whatever the disk does: what was decided stands, and who was refused is not to keep a place for
//! long. That it was cut short is counted (`portcullis_events_unkept_total`) and said in the log.

use std::time::Duration;

use parking_lot::Mutex;

use super::Guard;
use crate::clock::Timestamp;
use crate::event::queue::{Flushed, Ticket};
use crate::event::{Event, Scene};
use crate::store::Store;
use crate::verdict::{EventSync, Mode, Verdict};

/// Longest wait for the disk.
pub const EVENT_WAIT_MAX: Duration = Duration::from_secs(2);

/// What an answer waits for.
#[derive(Debug, Default)]
pub(super) struct Awaited(Mutex<Awaits>);

#[derive(Clone, Copy, Debug, Default)]
enum Awaits {
    /// For no event.
    #[default]
    Nothing,
    /// For those that come from now on.
    Due,
    /// For this one, and those that come from now on.
    Until(Ticket),
}

impl Awaited {
    /// Takes note of a verdict that is about to be told: whether its events are to be waited for.
    pub(super) fn note(&self, verdict: &Verdict, mode: Mode) {
        if mode == Mode::Enforce && verdict.sync == EventSync::BeforeReply {
            let mut awaits = self.0.lock();
            if matches!(*awaits, Awaits::Nothing) {
                *awaits = Awaits::Due;
            }
        }
    }
}

impl<S: Store> Guard<S> {
    /// Leaves an event of a request or an answer for the writer.
    pub(super) fn emit(&self, awaited: &Awaited, at: Timestamp, scene: Scene, event: Event) {
        let mut awaits = awaited.0.lock();
        *awaits = match *awaits {
            Awaits::Nothing => return self.events.emit(at, scene, event),
            Awaits::Due => Awaits::Until(self.events.emit_awaited(at, scene, event)),
            Awaits::Until(before) => Awaits::Until(before.and(self.events.emit_awaited(at, scene, event))),
        };
    }

    /// Waits for what an answer waits for: nearly always nothing.
    pub(super) async fn wait_for_events(&self, awaited: &mut Awaited) {
        if let Awaits::Until(ticket) = *awaited.0.get_mut() {
            Box::pin(self.wait_for(ticket)).await;
        }
    }

    async fn wait_for(&self, ticket: Ticket) {
        let kept = self.events.kept(ticket, EVENT_WAIT_MAX).await;
        if kept != Flushed::All && self.advised_disk.is_due(self.clock.now()) {
            let why = if kept == Flushed::NotInTime {
                "not within two seconds"
            } else {
                "a sink failed, or the queue is full"
            };
            tracing::error!(
                why,
                "an answer did not wait for its event to be on disk, though a rule says `before-reply`"
            );
        }
    }
}
