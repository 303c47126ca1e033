//! Sending by hand: to find out whether a sink is set up well, and to send again what a receiver lost.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::transport::{self, Failure, Item, Receipt, Transport as _};
use super::{REFUSALS_MAX, Sink, StartError};
use crate::clock::Clock;
use crate::event::Record;
use crate::event::encode::Encoder;
use crate::event::journal::{Next, Position, Reader};
use crate::event::sink::Filter;

/// How long a connection must stay open until what was written to it counts as taken, where somebody waits for it.
const SETTLE: Duration = Duration::from_secs(2);
/// How often a batch is tried.
const TRIES: u32 = 3;
/// The pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a receiver can ask for.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A sink that sends what it is told to, at once.
pub struct Hand {
    name: String,
    transport: transport::Any,
    encoder: Encoder,
    filter: Filter,
    batch: usize,
    timeout: Duration,
    /// Single events that were refused since one was taken.
    refusals: u32,
}

impl std::fmt::Debug for Hand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hand").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What was sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// How many events the receiver took.
    pub sent: u64,
    /// The last of them.
    pub last: Option<u64>,
    /// Those that it refused for what is in them, and what it said.
    pub refused: Vec<(u64, String)>,
    /// Those that the journal does not have any more, from which to which.
    pub gone: Vec<(u64, u64)>,
}

/// Not all was sent again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The journal can not be read.
    #[error("the journal can not be read: {0}")]
    Journal(#[from] io::Error),
    /// The receiver does not take it.
    #[error("{why}; go on with --from {from}")]
    Failed {
        /// The first event that it may not have.
        from: u64,
        /// What happened.
        why: Failure,
    },
}

impl Hand {
    /// A sink that nothing is connected to yet.
    ///
    /// # Errors
    /// [`StartError::Target`].
    pub fn new(sink: Sink, clock: &Arc<dyn Clock>) -> Result<Self, StartError> {
        let Sink { name, target, encoder, filter, batch, timeout } = sink;
        let transport = transport::Any::new(&target, clock);
        let mut transport = transport.map_err(|why| StartError::Target { name: name.clone(), why })?;
        transport.tell_answers();
        let batch = batch.clamp(1, transport.batch_max());
        Ok(Self { name, transport, encoder, filter, batch, timeout, refusals: 0 })
    }

    /// Sends one event, wanted or not, and gives what the receiver said.
    ///
    /// # Errors
    /// When it did not take it.
    pub async fn send(&mut self, record: Record) -> Result<String, Failure> {
        let item = Item::new(record, &self.encoder, Position::of(0));
        match self.once(&[item]).await? {
            Receipt::Taken(told) => Ok(told),
            Receipt::Partly(_) => Err(Failure::Refused { why: "it was rejected".to_owned() }),
            Receipt::Written => {
                self.settle().await?;
                Ok("it was written, and the connection stayed open".to_owned())
            }
        }
    }

    /// Sends the events of a journal again that the sink wants, from one number to another.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn replay(&mut self, journal: &Path, from: u64, to: u64) -> Result<Replayed, ReplayError> {
        let mut reader = Reader::new(journal, Position::of(from));
        let mut done = Replayed::default();
        // When batches were written to a connection that may still close, and the first event of each.
        let mut unsure: VecDeque<(Instant, u64)> = VecDeque::new();
        loop {
            let items = self.gather(&mut reader, to, &mut done)?;
            let Some(first) = items.first().map(|item| item.record.seq) else { break };
            while unsure.pop_front_if(|(since, _)| since.elapsed() >= SETTLE).is_some() {}
            let from = unsure.front().map_or(first, |(_, first)| *first);
            // A second try is over another connection, and what the first one swallowed would be missing.
            let tries = if unsure.is_empty() { TRIES } else { 1 };
            let sent = self.all(&items, tries, &mut done).await;
            if sent.map_err(|why| ReplayError::Failed { from, why })? == Receipt::Written {
                unsure.push_back((Instant::now(), first));
            }
        }
        if let Some((_, from)) = unsure.front() {
            self.settle().await.map_err(|why| ReplayError::Failed { from: *from, why })?;
        }
        Ok(done)
    }

    fn gather(&self, reader: &mut Reader, to: u64, done: &mut Replayed) -> io::Result<Vec<Item>> {
        let (mut items, mut line) = (Vec::new(), Vec::new());
        while items.len() < self.batch && reader.position().seq <= to {
            match reader.next(&mut line)? {
                Next::Line(seq) if seq <= to => {
                    let Ok(record) = Record::read(&line) else {
                        done.refused.push((seq, "this version of the guard can not read it".to_owned()));
                        continue;
                    };
                    if self.filter.wants(&record) {
                        items.push(Item::new(record, &self.encoder, reader.position()));
                    }
                }
                Next::Gap(from, last) => done.gone.push((from, last.min(to))),
                Next::Line(_) | Next::End => break,
            }
        }
        Ok(items)
    }

    /// Sends them, and leaves out those that are refused: the halves of a batch that is refused are sent by themselves.
    async fn all(&mut self, items: &[Item], tries: u32, done: &mut Replayed) -> Result<Receipt, Failure> {
        let mut receipt = Receipt::Taken(String::new());
        let mut parts = vec![items];
        while let Some(part) = parts.pop() {
            match (self.tried(part, tries).await, part) {
                (Ok(Receipt::Partly(count)), _) => {
                    let last = part.last();
                    let what = format!("{count} of the events up to this one");
                    done.refused.extend(last.map(|item| (item.record.seq, what)));
                    done.sent += (part.len() as u64).saturating_sub(count);
                    done.last = last.map(|item| item.record.seq);
                }
                (Ok(now), _) => {
                    self.refusals = 0;
                    receipt = now;
                    done.sent += part.len() as u64;
                    done.last = part.last().map(|item| item.record.seq);
                }
                (Err(Failure::Refused { why }), [one]) if self.refusals < REFUSALS_MAX => {
                    self.refusals += 1;
                    done.refused.push((one.record.seq, why));
                }
                // It says so of everything.
                (Err(Failure::Refused { why }), [_]) => return Err(Failure::again(why)),
                (Err(Failure::Refused { .. }), several) => {
                    let (first, second) = several.split_at(several.len() / 2);
                    parts.extend([second, first]);
                }
                (Err(failure), _) => return Err(failure),
            }
        }
        Ok(receipt)
    }

    async fn tried(&mut self, items: &[Item], tries: u32) -> Result<Receipt, Failure> {
        let mut pause = PAUSE;
        for _ in 1..tries {
            match self.once(items).await {
                Err(Failure::Again { after, .. }) => sleep(after.unwrap_or_default().clamp(pause, PAUSE_MAX)).await,
                other => return other,
            }
            pause *= 2;
        }
        self.once(items).await
    }

    async fn once(&mut self, items: &[Item]) -> Result<Receipt, Failure> {
        let sent = timeout(self.timeout, self.transport.send(items)).await;
        sent.unwrap_or_else(|_| Err(Failure::again("no answer in time")))
    }

    /// Waits whether the connection stays open.
    async fn settle(&mut self) -> Result<(), Failure> {
        match timeout(SETTLE, self.transport.lost()).await {
            Ok(failure) => Err(failure),
            Err(_) => Ok(()),
        }
    }
}
