//! One sink at work: reads the journal, sends what is wanted, moves its place on.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::cursor::{self, Cursor, CursorError};
use super::pause::pause;
use super::standing::Counted;
use super::transport::{Failure, Item, Receipt, Transport};
use super::{FAILURES_TOLD, PROBED_AFTER, REFUSALS_MAX, Setup, Stopping};
use crate::entropy::Entropy;
use crate::event::Record;
use crate::event::encode::Encoder;
use crate::event::journal::{Next, Position, Reader};
use crate::event::sink::Filter;

/// Bytes of lines in a batch, about.
const BATCH_BYTES: usize = 512 * 1024;
/// Lines that are looked at before others get a turn.
const LOOKS_MAX: usize = 2048;
/// How often a place that moves on is written down: a crash brings so much again.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long a connection must stay open until what was written to it counts as taken: longer than one that is dead can look
/// alive.
pub(super) const SURE_AFTER: Duration = Duration::from_secs(30);
/// How exact that is.
const SURE_STEP: Duration = Duration::from_secs(1);

/// What a sink is told.
pub(super) struct Common {
    pub(super) name: String,
    pub(super) encoder: Encoder,
    pub(super) filter: Filter,
    pub(super) batch: usize,
    pub(super) timeout: Duration,
}

/// One sink at work.
pub(super) struct Worker<T> {
    common: Common,
    transport: T,
    counted: Counted,
    entropy: Arc<dyn Entropy>,
    journal: PathBuf,
    durable: watch::Receiver<u64>,
    reader: Reader,
    line: Vec<u8>,
    /// What the receiver has for sure.
    cursor: Cursor,
    saved_at: Instant,
    /// It could not be written down the last time, which was told.
    is_unsaved: bool,
    /// What it was sent and may not have: how many events, up to where, and when.
    unsure: VecDeque<Unsure>,
    /// How many events are sent at once at the moment.
    size: usize,
    /// Events that are gone, between those that were read and the next; and those that were told to be.
    gap: Option<(u64, u64)>,
    gap_told: Option<(u64, u64)>,
    /// Single events that were refused since one was taken.
    refusals: u32,
    /// How many failures in turn there were when another event was tried.
    probed_at: u32,
}

/// What was written to a connection within a second.
struct Unsure {
    since: Instant,
    behind: Position,
    count: u64,
}

/// What was read.
struct Batch {
    items: Vec<Item>,
    behind: Position,
    /// There is nothing more.
    is_end: bool,
}

impl<T: Transport> Worker<T> {
    pub(super) fn new(setup: &Setup, common: Common, transport: T, counted: Counted) -> Result<Self, CursorError> {
        let new = Position::of(*setup.durable.borrow() + 1);
        let mut cursor = Cursor::open(cursor::path_of(&setup.journal, &common.name), new)?;
        if cursor.at().seq > new.seq {
            counted.misplaced(cursor.at().seq);
            let oldest = Reader::oldest(&setup.journal).map_or(new, |reader| reader.position());
            cursor.move_to(oldest);
        }
        counted.is_at(cursor.at().seq);
        Ok(Self {
            size: common.batch,
            common,
            transport,
            counted,
            entropy: setup.entropy.clone(),
            reader: Reader::new(&setup.journal, cursor.at()),
            journal: setup.journal.clone(),
            durable: setup.durable.clone(),
            line: Vec::new(),
            cursor,
            saved_at: Instant::now(),
            is_unsaved: false,
            unsure: VecDeque::new(),
            gap: None,
            gap_told: None,
            refusals: 0,
            probed_at: 0,
        })
    }

    /// Delivers until it is told to stop.
    pub(super) async fn run(mut self, mut stopping: watch::Receiver<Stopping>) {
        let mut at_once = stopping.clone();
        tokio::select! {
            () = self.deliver(&mut stopping) => {}
            _ = at_once.wait_for(|stopping| *stopping == Stopping::Now) => {}
        }
        self.save();
        self.transport.close().await;
    }

    async fn deliver(&mut self, stopping: &mut watch::Receiver<Stopping>) {
        loop {
            let is_stopping = *stopping.borrow_and_update() >= Stopping::Soon;
            let batch = match self.gather() {
                Ok(batch) => batch,
                Err(error) => {
                    self.failed(&Failure::again(format!("the journal can not be read: {error}")), stopping).await;
                    continue;
                }
            };
            if batch.items.is_empty() {
                self.passed(batch.behind);
                match batch.is_end {
                    true if is_stopping => return,
                    true => self.idle(stopping).await,
                    false => tokio::task::yield_now().await,
                }
                continue;
            }
            let sent = timeout(self.common.timeout, self.transport.send(&batch.items)).await;
            let sent = sent.unwrap_or_else(|_| {
                self.size = (batch.items.len() / 2).max(1);
                Err(Failure::again("no answer in time"))
            });
            match sent {
                Ok(receipt) => self.sent(&batch, &receipt),
                Err(Failure::Refused { why }) if self.refusals < REFUSALS_MAX || batch.items.len() > 1 => {
                    match &*batch.items {
                        [one] => self.left_out(one, &why),
                        several => self.halved(several.len()),
                    }
                }
                Err(Failure::Gone { why }) => {
                    self.counted.disabled(&why);
                    return;
                }
                Err(failure) if is_stopping => {
                    self.counted.failed(&failure.to_string());
                    return;
                }
                Err(failure) => match &*batch.items {
                    [one] if self.goes_on_without(one, &failure).await => {}
                    _ => self.failed(&failure, stopping).await,
                },
            }
        }
    }

    /// Whether the receiver takes a later event, and this one still not, which is left out then: something before a receiver may
    /// hold back what looks like an attack, and nothing behind it would ever arrive. The later one comes once more in its turn.
    async fn goes_on_without(&mut self, one: &Item, failure: &Failure) -> bool {
        let in_turn = self.counted.in_turn() + 1;
        if !failure.is_answer() || in_turn < self.probed_at + PROBED_AFTER {
            return false;
        }
        let Some(later) = self.wanted_behind(one.behind).await else { return false };
        self.probed_at = in_turn;
        let is_taken = timeout(self.common.timeout, self.transport.send(&[later])).await;
        if !matches!(is_taken, Ok(Ok(Receipt::Taken(_)))) {
            return false;
        }
        let again = timeout(self.common.timeout, self.transport.send(std::slice::from_ref(one))).await;
        if !matches!(&again, Ok(Err(failure)) if failure.is_answer()) {
            return false;
        }
        self.left_out(one, &failure.to_string());
        true
    }

    /// The next event that is wanted behind a place. Its own place does not move, nor is told what is missing there.
    async fn wanted_behind(&mut self, at: Position) -> Option<Item> {
        let mut reader = Reader::new(&self.journal, at);
        let (mut line, durable) = (Vec::new(), *self.durable.borrow());
        loop {
            for _ in 0..LOOKS_MAX {
                if reader.position().seq > durable {
                    return None;
                }
                match reader.next(&mut line).ok()? {
                    Next::Line(_) => {
                        let wanted = Record::read(&line).ok().filter(|record| self.common.filter.wants(record));
                        if let Some(record) = wanted {
                            return Some(Item::new(record, &self.common.encoder, reader.position()));
                        }
                    }
                    Next::Gap(..) => {}
                    Next::End => return None,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Reads the next events that are wanted. The files are those that were just written, so this waits for no disk.
    fn gather(&mut self) -> io::Result<Batch> {
        if let Some((from, to)) = self.gap.take() {
            self.missed(from, to);
        }
        let durable = *self.durable.borrow_and_update();
        let mut behind = self.reader.position();
        let (mut items, mut bytes) = (Vec::new(), 0);
        for _ in 0..LOOKS_MAX {
            if items.len() >= self.size || bytes >= BATCH_BYTES {
                break;
            }
            let next = match self.reader.position().seq <= durable {
                true => self.reader.next(&mut self.line)?,
                false => Next::End,
            };
            match next {
                Next::Line(seq) => {
                    behind = self.reader.position();
                    let Ok(record) = Record::read(&self.line) else {
                        self.counted.unreadable(seq);
                        continue;
                    };
                    if self.common.filter.wants(&record) {
                        let item = Item::new(record, &self.common.encoder, behind);
                        bytes += item.line.len();
                        items.push(item);
                    }
                }
                Next::Gap(from, to) => {
                    // It is told when what is before it is away.
                    self.gap = Some((from, to));
                    break;
                }
                Next::End => return Ok(Batch { items, behind, is_end: true }),
            }
        }
        Ok(Batch { items, behind, is_end: false })
    }

    fn sent(&mut self, batch: &Batch, receipt: &Receipt) {
        let count = batch.items.len() as u64;
        self.size = (self.size + self.size / 2 + 1).min(self.common.batch);
        (self.refusals, self.probed_at) = (0, 0);
        match receipt {
            Receipt::Taken(_) => {
                self.counted.delivered(count);
                self.passed(batch.behind);
            }
            Receipt::Partly(rejected) => {
                self.counted.delivered(count.saturating_sub(*rejected));
                self.counted.rejected(&batch.items, *rejected);
                self.passed(batch.behind);
            }
            Receipt::Written => self.written(batch.behind, count),
        }
    }

    /// Tells which events are gone: each once, however often it is come across.
    fn missed(&mut self, from: u64, to: u64) {
        let (told_from, told_to) = self.gap_told.unwrap_or((u64::MAX, 0));
        if to > told_to {
            self.counted.gap(if from >= told_from { from.max(told_to + 1) } else { from }, to);
        } else if from < told_from {
            self.counted.gap(from, told_from - 1);
        }
        self.gap_told = Some((from.min(told_from), to.max(told_to)));
        if self.unsure.is_empty() {
            self.move_to(self.reader.position());
        }
    }

    /// The receiver has all before this, or does not want it.
    fn passed(&mut self, behind: Position) {
        if self.unsure.is_empty() {
            self.move_to(behind);
        } else {
            self.written(behind, 0);
        }
    }

    fn written(&mut self, behind: Position, count: u64) {
        let now = Instant::now();
        self.settle(now);
        match self.unsure.back_mut() {
            Some(last) if now < last.since + SURE_STEP => {
                last.behind = behind;
                last.count += count;
            }
            _ => self.unsure.push_back(Unsure { since: now, behind, count }),
        }
    }

    /// What was written long enough ago has arrived.
    fn settle(&mut self, now: Instant) {
        while let Some(sure) = self.unsure.pop_front_if(|first| now >= first.since + SURE_STEP + SURE_AFTER) {
            self.counted.delivered(sure.count);
            self.move_to(sure.behind);
        }
    }

    fn move_to(&mut self, behind: Position) {
        if self.cursor.at() != behind {
            self.cursor.move_to(behind);
            self.counted.is_at(behind.seq);
        }
        if self.saved_at.elapsed() >= SAVE_EVERY {
            self.save();
        }
    }

    fn save(&mut self) {
        self.saved_at = Instant::now();
        if !self.cursor.is_ahead() {
            return;
        }
        match self.cursor.save() {
            Ok(()) => self.is_unsaved = false,
            Err(error) if !std::mem::replace(&mut self.is_unsaved, true) => {
                tracing::warn!(sink = self.common.name, %error, "how far the sink is can not be written down: after a crash events come twice");
            }
            Err(_) => {}
        }
    }

    /// One event is not taken for what is in it.
    fn left_out(&mut self, item: &Item, why: &str) {
        self.refusals += 1;
        self.counted.refused(&item.record, why);
        self.passed(item.behind);
        self.read_from(item.behind);
    }

    /// Something in a batch is not taken: half of it is tried.
    fn halved(&mut self, count: usize) {
        self.size = (count / 2).max(1);
        let sent = self.unsure.back().map_or(self.cursor.at(), |unsure| unsure.behind);
        self.read_from(sent);
    }

    /// What is not for sure with the receiver is sent again, after a pause.
    async fn failed(&mut self, failure: &Failure, stopping: &mut watch::Receiver<Stopping>) {
        self.counted.failed(&failure.to_string());
        self.unsure.clear();
        self.read_from(self.cursor.at());
        if self.counted.in_turn() >= FAILURES_TOLD {
            self.size = 1;
        }
        let asked = match failure {
            Failure::Again { after, .. } => *after,
            _ => None,
        };
        let pause = pause(self.counted.in_turn(), asked, &*self.entropy);
        self.save();
        tokio::select! {
            () = sleep(pause) => {}
            _ = stopping.changed() => {}
        }
    }

    fn read_from(&mut self, at: Position) {
        self.reader = Reader::new(&self.journal, at);
        self.gap = None;
    }

    /// Waits until there is something to do.
    async fn idle(&mut self, stopping: &mut watch::Receiver<Stopping>) {
        let saving = self.cursor.is_ahead().then(|| self.saved_at + SAVE_EVERY);
        let settling = self.unsure.front().map(|first| first.since + SURE_STEP + SURE_AFTER);
        let due = [saving, settling].into_iter().flatten().min();
        let failure = tokio::select! {
            // Without a journal that is written there is nothing to wait for but the end.
            changed = self.durable.changed() => match changed {
                Ok(()) => None,
                Err(_) => {
                    drop(stopping.changed().await);
                    None
                }
            },
            _ = stopping.changed() => None,
            failure = self.transport.lost() => Some(failure),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
        };
        if let Some(failure) = failure
            && !self.unsure.is_empty()
        {
            self.failed(&failure, stopping).await;
            return;
        }
        let now = Instant::now();
        self.settle(now);
        if now >= self.saved_at + SAVE_EVERY {
            self.save();
        }
    }
}
