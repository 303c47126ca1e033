//! The way of an event: two bounded lanes to a writer thread.
//!
//! A request puts its event into a place that was allocated at the start and goes on; it never waits for a sink. When
//! places run short, events of low severity are the first to be dropped: the last quarter of the places is kept for
//! `warn` and above, and the last sixteenth for `critical`. Both lanes share one list, so the stream keeps its order.
//! Every drop is counted by kind, and an `events.dropped` event tells of it.
//!
//! The list is a vector behind a lock that is held for one copy, and that the writer swaps for an empty one. A lock-free
//! ring was the other choice; it touches all of its memory in turn, takes events one by one, and saves nothing at the
//! rates at which events are made. The writer is woken only if it sleeps, and after each batch it waits a moment before
//! it sleeps, so a busy guard makes no system call for an event.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::sink::Sink;
use super::writer::{Desk, Done};
use super::{Event, Kind, Record, Scene, Severity, severity};
use crate::clock::{Clock, Timestamp};
use crate::verdict::Text;

pub use super::repeat::{AWAITED_FIRST, REPEAT_CLIENTS_MAX, REPEAT_KEYS_MAX, Settings as RepeatSettings};

/// Places of a queue that nobody sized: some seconds of a bad day.
pub const PLACES_DEFAULT: usize = 8192;
/// Fewer places than this are not worth a reserve.
pub const PLACES_MIN: usize = 64;
/// How long the writer gathers events after a batch before it takes the next.
const LINGER: Duration = Duration::from_millis(5);
/// How often a sleeping writer looks for windows that closed and drops to tell of.
const TICK: Duration = Duration::from_secs(1);
/// How long a dropped [`Writer`] may take to write what is left.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// How a queue is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Events that can wait; at least [`PLACES_MIN`].
    pub places: usize,
    /// How storms are cut short.
    pub repeat: RepeatSettings,
    /// The sequence number of the first event.
    pub first_seq: u64,
    /// The name of this node, in every event.
    pub node: Option<Text>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { places: PLACES_DEFAULT, repeat: RepeatSettings::default(), first_seq: 1, node: None }
    }
}

/// Events that are treated alike when places run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// `info` and `notice`: dropped first.
    Bulk,
    /// `warn` and `critical`: places are kept for them.
    High,
}

impl Lane {
    /// The lane for a severity.
    pub const fn of(severity: Severity) -> Self {
        match severity {
            Severity::Info | Severity::Notice => Self::Bulk,
            Severity::Warn | Severity::Critical => Self::High,
        }
    }
}

/// What became of the events of one kind since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The kind.
    pub kind: Kind,
    /// All that happened.
    pub emitted: u64,
    /// Of these, dropped because the queue was full.
    pub dropped: u64,
    /// Of these, counted in a summary instead of written.
    pub folded: u64,
    /// Lines that a file or standard output did not take: for two of these an event counts twice.
    pub lost: u64,
}

/// Whether everything was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// All of it.
    All,
    /// Not within the time given.
    NotInTime,
    /// A sink failed since this was asked last, and something was not written, or not yet.
    Failed,
}

/// What an event is worth to whoever tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// It may be folded into a summary, and be dropped if its lane is full.
    Usual,
    /// Somebody waits until it is on disk: more of its kind are written one by one, and it has the places that are kept for the worst.
    Awaited,
}

/// An event on its way to the writer.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) record: Record,
    pub(super) worth: Worth,
}

/// The turn of the writer that an awaited event is written in, to be waited for with [`EventSender::kept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an event that nobody waits for is told with `emit`"]
pub struct Ticket(Turns);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turns {
    Of {
        first: u64,
        last: u64,
    },
    /// There was no place for it.
    Dropped,
}

impl Ticket {
    /// The ticket for both events: they are kept when both are.
    pub const fn and(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Turns::Of { first: one, last }, Turns::Of { first: two, last: other }) => Self(Turns::Of {
                first: if one < two { one } else { two },
                last: if last < other { other } else { last },
            }),
            _ => Self(Turns::Dropped),
        }
    }
}

/// Counts by kind. They are counted before anything is dropped.
#[derive(Debug)]
pub(super) struct Counters {
    emitted: [AtomicU64; Kind::COUNT],
    bulk_dropped: [AtomicU64; Kind::COUNT],
    high_dropped: [AtomicU64; Kind::COUNT],
    folded: [AtomicU64; Kind::COUNT],
    lost: [AtomicU64; Kind::COUNT],
}

impl Counters {
    fn new() -> Self {
        let zeros = || [const { AtomicU64::new(0) }; Kind::COUNT];
        Self { emitted: zeros(), bulk_dropped: zeros(), high_dropped: zeros(), folded: zeros(), lost: zeros() }
    }

    pub(super) fn emitted(&self, kind: Kind) {
        count(&self.emitted, kind);
    }

    pub(super) fn folded(&self, kind: Kind) {
        count(&self.folded, kind);
    }

    pub(super) fn lost(&self, kind: Kind) {
        count(&self.lost, kind);
    }

    fn dropped(&self, kind: Kind, lane: Lane) {
        count(self.lane(lane), kind);
    }

    /// How many of a kind were dropped from a lane.
    pub(super) fn dropped_of(&self, kind: Kind, lane: Lane) -> u64 {
        read(self.lane(lane), kind)
    }

    const fn lane(&self, lane: Lane) -> &[AtomicU64; Kind::COUNT] {
        match lane {
            Lane::Bulk => &self.bulk_dropped,
            Lane::High => &self.high_dropped,
        }
    }

    fn of(&self, kind: Kind) -> Count {
        Count {
            kind,
            emitted: read(&self.emitted, kind),
            dropped: read(&self.bulk_dropped, kind) + read(&self.high_dropped, kind),
            folded: read(&self.folded, kind),
            lost: read(&self.lost, kind),
        }
    }
}

fn count(counters: &[AtomicU64], kind: Kind) {
    if let Some(counter) = counters.get(kind.index()) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(counters: &[AtomicU64], kind: Kind) -> u64 {
    counters.get(kind.index()).map_or(0, |counter| counter.load(Ordering::Relaxed))
}

/// What the writer does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It writes, and will look again by itself.
    Busy,
    /// It gathers, and will look again by itself; woken early only if places run short.
    Gathering,
    /// It sleeps until it is woken.
    Asleep,
}

#[derive(Debug)]
struct State {
    places: Vec<Left>,
    standing: Standing,
    closed: bool,
    ended: bool,
    flush_asked: u64,
    flush_done: u64,
    /// The last one before which a sink failed, after the one before it; and whether one has failed since.
    flush_failed: u64,
    has_failed: bool,
    /// The last turn in which an awaited event may not have come to where events are kept.
    unkept: u64,
}

impl State {
    /// Whether someone waits for the writer.
    const fn is_pressing(&self) -> bool {
        self.closed || self.flush_asked > self.flush_done
    }
}

pub(super) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    done: Condvar,
    /// The same as `flush_done`, for those who wait without a thread of their own.
    turns: watch::Sender<u64>,
    pub(super) counters: Counters,
    /// Awaited events that were not known to be on disk in time.
    unkept: AtomicU64,
    places: usize,
}

impl Shared {
    /// How full the queue may be for an event of this severity to be let in.
    const fn places_for(&self, severity: Severity) -> usize {
        match severity {
            Severity::Info | Severity::Notice => self.places - self.places / 4,
            Severity::Warn => self.places - self.places / 16,
            Severity::Critical => self.places,
        }
    }

    /// Puts an event into a free place, and tells in which turn an awaited one is written.
    #[inline]
    fn leave(&self, ts: Timestamp, scene: Scene, event: Event, worth: Worth) -> Turns {
        let kind = event.kind();
        let severity = severity(&scene, &event);
        let places = if worth == Worth::Awaited { self.places } else { self.places_for(severity) };
        self.counters.emitted(kind);
        let mut state = self.state.lock();
        if state.closed || state.places.len() >= places {
            drop(state);
            self.counters.dropped(kind, Lane::of(severity));
            return Turns::Dropped;
        }
        state.places.push(Left { record: Record::new(ts, scene, event), worth });
        state.flush_asked += u64::from(worth == Worth::Awaited);
        let turn = state.flush_asked;
        let wake = match state.standing {
            Standing::Busy => false,
            Standing::Gathering => worth == Worth::Awaited || state.places.len() >= self.places / 2,
            Standing::Asleep => true,
        };
        if wake {
            state.standing = Standing::Busy;
        }
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Turns::Of { first: turn, last: turn }
    }

    fn not_kept(&self, why: Flushed) -> Flushed {
        self.unkept.fetch_add(1, Ordering::Relaxed);
        why
    }

    /// Waits for work and takes all of it.
    fn next(&self, batch: &mut Vec<Left>, last: Last, wants: Wants) -> Turn {
        let mut state = self.state.lock();
        if last == Last::Wrote && !state.is_pressing() {
            state.standing = Standing::Gathering;
            let gathering = |state: &mut State| state.standing == Standing::Gathering && !state.is_pressing();
            self.wake.wait_while_for(&mut state, gathering, LINGER);
        }
        let mut ticked = false;
        if state.places.is_empty() && !state.is_pressing() {
            state.standing = Standing::Asleep;
            let asleep = |state: &mut State| state.standing == Standing::Asleep && !state.is_pressing();
            match wants {
                Wants::Sleep => self.wake.wait_while(&mut state, asleep),
                Wants::Tick => ticked = self.wake.wait_while_for(&mut state, asleep, TICK).timed_out(),
            }
        }
        state.standing = Standing::Busy;
        std::mem::swap(&mut state.places, batch);
        Turn { flush: state.flush_asked, pressing: state.is_pressing(), closed: state.closed, ticked }
    }

    fn flushed(&self, turn: &Turn, done: Done, kept: Done) {
        let mut state = self.state.lock();
        if kept == Done::NotAll {
            state.unkept = turn.flush;
        }
        state.has_failed |= done == Done::NotAll;
        if turn.flush > state.flush_done && std::mem::take(&mut state.has_failed) {
            state.flush_failed = turn.flush;
        }
        state.flush_done = turn.flush;
        drop(state);
        self.done.notify_all();
        self.turns.send_if_modified(|done| std::mem::replace(done, turn.flush) != turn.flush);
    }

    fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Wrote,
    Idle,
}

/// What a writer without work does.
#[derive(Clone, Copy)]
pub(super) enum Wants {
    /// Sleep until there is some.
    Sleep,
    /// Look again after [`TICK`]: something becomes due by time alone.
    Tick,
}

struct Turn {
    flush: u64,
    pressing: bool,
    closed: bool,
    ticked: bool,
}

/// Where requests leave their events. Clones lead to the same queue.
#[derive(Clone)]
pub struct EventSender {
    shared: Option<Arc<Shared>>,
}

impl EventSender {
    /// A sender that throws everything away.
    pub const fn null() -> Self {
        Self { shared: None }
    }

    /// Leaves an event for the writer: without waiting for it, and without allocating. If no place is left for its
    /// severity it is dropped and counted.
    pub fn emit(&self, ts: Timestamp, scene: Scene, event: impl Into<Event>) {
        if let Some(shared) = &self.shared {
            shared.leave(ts, scene, event.into(), Worth::Usual);
        }
    }

    /// The same for an event that something is to wait for: with [`kept`](Self::kept). A storm cuts it short later
    /// ([`AWAITED_FIRST`]), and it is dropped only if the whole queue is full.
    pub fn emit_awaited(&self, ts: Timestamp, scene: Scene, event: impl Into<Event>) -> Ticket {
        match &self.shared {
            Some(shared) => Ticket(shared.leave(ts, scene, event.into(), Worth::Awaited)),
            None => Ticket(Turns::Of { first: 0, last: 0 }),
        }
    }

    /// Waits until an awaited event is on disk: in the journal, or in a file that wants it. It holds no thread, and many who wait at
    /// the same time wait for the same turn of the writer. Of very many from one source it is the count that is kept.
    ///
    /// # Panics
    /// Where the runtime of tokio has no time (`enable_time`).
    pub async fn kept(&self, ticket: Ticket, timeout: Duration) -> Flushed {
        let Some(shared) = &self.shared else { return Flushed::All };
        let Turns::Of { first, last } = ticket.0 else { return shared.not_kept(Flushed::Failed) };
        let mut turns = shared.turns.subscribe();
        let waited = tokio::time::timeout(timeout, turns.wait_for(|done| *done >= last)).await.is_ok();
        let state = shared.state.lock();
        let is_failed = state.unkept >= first || state.flush_done < last;
        drop(state);
        match (waited, is_failed) {
            (true, false) => Flushed::All,
            (true, true) => shared.not_kept(Flushed::Failed),
            (false, _) => shared.not_kept(Flushed::NotInTime),
        }
    }

    /// How many awaited events were not known to be on disk when those who waited for them went on.
    pub fn unkept(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.unkept.load(Ordering::Relaxed))
    }

    /// Waits until everything that was emitted before is written, and the sinks are flushed.
    pub fn flush(&self, timeout: Duration) -> Flushed {
        let Some(shared) = &self.shared else { return Flushed::All };
        let mut state = shared.state.lock();
        state.flush_asked += 1;
        let ticket = state.flush_asked;
        shared.wake.notify_one();
        shared.done.wait_while_for(&mut state, |state| state.flush_done < ticket && !state.ended, timeout);
        if state.flush_done >= ticket && state.flush_failed >= ticket {
            Flushed::Failed
        } else if state.flush_done >= ticket || (state.ended && state.places.is_empty()) {
            Flushed::All
        } else {
            Flushed::NotInTime
        }
    }

    /// What became of the events of every kind; empty for a [`null`](Self::null) sender.
    pub fn counters(&self) -> Vec<Count> {
        let Some(shared) = &self.shared else { return Vec::new() };
        Kind::ALL.iter().map(|kind| shared.counters.of(*kind)).collect()
    }

    /// What became of the events of one kind.
    pub fn count(&self, kind: Kind) -> Count {
        match &self.shared {
            Some(shared) => shared.counters.of(kind),
            None => Count { kind, emitted: 0, dropped: 0, folded: 0, lost: 0 },
        }
    }

    /// Events that wait for the writer now.
    pub fn depth(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.state.lock().places.len())
    }
}

impl fmt::Debug for EventSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.shared.is_some() { "EventSender" } else { "EventSender(null)" })
    }
}

/// The queue; it is only ever seen by its two ends.
#[derive(Debug)]
pub struct EventQueue;

impl EventQueue {
    /// Starts the writer thread. The clock is read only to close windows while nothing happens.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        sinks: Vec<Box<dyn Sink>>,
    ) -> io::Result<(EventSender, Writer)> {
        let places = settings.places.max(PLACES_MIN);
        let state = State {
            places: Vec::with_capacity(places),
            standing: Standing::Busy,
            closed: false,
            ended: false,
            flush_asked: 0,
            flush_done: 0,
            flush_failed: 0,
            has_failed: false,
            unkept: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            done: Condvar::new(),
            turns: watch::Sender::new(0),
            counters: Counters::new(),
            unkept: AtomicU64::new(0),
            places,
        });
        let desk = Desk::new(settings, clock, sinks, Arc::clone(&shared));
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("portcullis-events".into()).spawn(move || run(&own, desk))?;
        Ok((EventSender { shared: Some(Arc::clone(&shared)) }, Writer { shared, thread: Some(thread) }))
    }
}

/// The writer thread. Dropping it writes what is left, as [`stop`](Self::stop) does, within two seconds.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Writes what is left and ends the thread. Events emitted from now on are dropped. A thread that is stuck in a sink
    /// beyond the deadline is left to itself.
    pub fn stop(mut self, deadline: Duration) -> Flushed {
        self.finish(deadline)
    }

    fn finish(&mut self, deadline: Duration) -> Flushed {
        let Some(thread) = self.thread.take() else { return Flushed::All };
        self.shared.close();
        let mut state = self.shared.state.lock();
        self.shared.done.wait_while_for(&mut state, |state| !state.ended, deadline);
        let ended = state.ended;
        let left = state.places.len();
        drop(state);
        if !ended {
            return Flushed::NotInTime;
        }
        if thread.join().is_err() || left > 0 {
            tracing::error!(left, "the event writer panicked");
            return Flushed::NotInTime;
        }
        Flushed::All
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish(STOP_DEADLINE);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("places", &self.places).finish_non_exhaustive()
    }
}

/// Tells those who wait that the writer is gone, even if a sink panicked.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        state.ended = true;
        drop(state);
        self.0.done.notify_all();
        self.0.turns.send_replace(u64::MAX);
    }
}

fn run(shared: &Shared, mut desk: Desk) {
    let _ending = Ending(shared);
    let mut batch = Vec::with_capacity(shared.places);
    let mut last = Last::Idle;
    // What sinks have to tell of their beginning comes before all else.
    desk.settle(super::writer::Haste::InTime);
    loop {
        let turn = shared.next(&mut batch, last, desk.wants());
        last = if batch.is_empty() { Last::Idle } else { Last::Wrote };
        for left in batch.drain(..) {
            desk.take(left);
        }
        if turn.ticked {
            desk.tick();
        }
        if turn.closed {
            desk.close();
        }
        let haste = if turn.pressing { super::writer::Haste::Now } else { super::writer::Haste::InTime };
        desk.tell_drops(haste);
        let mut done = desk.settle(haste);
        if turn.closed && desk.end() == Done::NotAll {
            done = Done::NotAll;
        }
        shared.flushed(&turn, done, desk.kept());
        if turn.closed {
            return;
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
