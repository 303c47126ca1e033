//! How events get to a receiver.

use std::sync::Arc;
use std::time::Duration;

use super::journald::Journald;
#[cfg(feature = "kafka")]
use super::kafka::Produce;
use super::loki::Push;
#[cfg(feature = "nats")]
use super::nats::Publish;
use super::otlp::Otlp;
use super::syslog::Syslog;
use super::webhook::Webhook;
use super::{BATCH_MAX, Target};
use crate::clock::Clock;
use crate::event::Record;
use crate::event::encode::Encoder;
use crate::event::journal::Position;

/// An event on its way to a receiver.
#[derive(Clone, Debug)]
pub struct Item {
    /// The event.
    pub record: Record,
    /// Its line in the sink's format, without a newline.
    pub line: Vec<u8>,
    /// The client's address and the subject, as plainly as the sink may show them.
    pub(crate) address: Option<String>,
    pub(crate) subject: Option<String>,
    /// The place in the journal behind it.
    pub(crate) behind: Position,
}

/// How sure it is that the receiver has what it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It said so, or nothing can ever tell. What it said.
    Taken(String),
    /// It took all but so many, and wants those never again.
    Partly(u64),
    /// It was written to a connection. Should that close within the next moments, it may have been lost on the way.
    Written,
}

/// What was sent did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It may arrive later.
    #[error("{why}")]
    Again {
        /// What happened.
        why: String,
        /// The receiver asks not to be asked sooner.
        after: Option<Duration>,
        /// It has looked at what was sent, and may take something else: it did not say that it is busy.
        is_answer: bool,
    },
    /// The receiver does not take it for what is in it, now and later.
    #[error("{why}")]
    Refused {
        /// What it said.
        why: String,
    },
    /// The receiver wants no more events.
    #[error("{why}")]
    Gone {
        /// What it said.
        why: String,
    },
}

impl Item {
    pub(super) fn new(record: Record, encoder: &Encoder, behind: Position) -> Self {
        let mut line = Vec::new();
        encoder.encode(&record, &mut line);
        line.pop();
        let (address, subject) = (encoder.address(&record), encoder.subject(&record));
        Self { record, line, address, subject, behind }
    }
}

/// Letters of what a receiver said that are told.
const SAID_MAX: usize = 200;

/// What a receiver said, as it may be told: it goes to the log and to a terminal, letters can turn around or hide what is there, and
/// nobody knows how long it is.
pub(super) fn plainly(said: impl AsRef<str>) -> String {
    let is_plain = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
    said.as_ref().chars().filter(is_plain).take(SAID_MAX).collect::<String>().trim().to_owned()
}

impl Failure {
    #[expect(clippy::needless_pass_by_value, reason = "it stands behind `map_err`")]
    pub(super) fn again(why: impl ToString) -> Self {
        Self::Again { why: why.to_string(), after: None, is_answer: false }
    }

    /// Whether it may be for what was sent.
    pub(super) const fn is_answer(&self) -> bool {
        matches!(self, Self::Again { is_answer: true, .. } | Self::Refused { .. })
    }
}

/// A way to a receiver. It may be left at any point of a call, and is then begun anew.
pub(super) trait Transport: Send {
    /// The most events that it sends at once.
    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    /// Has it tell what the receiver says in its answers.
    fn tell_answers(&mut self) {}

    /// Sends events, in order: all of them, or none that counts.
    fn send(&mut self, items: &[Item]) -> impl Future<Output = Result<Receipt, Failure>> + Send;

    /// Waits until it is known that what was written may be lost; nearly always for ever.
    fn lost(&mut self) -> impl Future<Output = Failure> + Send {
        std::future::pending()
    }

    /// Ends it as the receiver expects it, where it expects anything.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Any of them.
pub(super) enum Any {
    Syslog(Syslog),
    Journald(Journald),
    Webhook(Webhook),
    Loki(Push),
    Otlp(Otlp),
    #[cfg(feature = "kafka")]
    Kafka(Box<Produce>),
    #[cfg(feature = "nats")]
    Nats(Box<Publish>),
}

impl Any {
    /// A way there; nothing is connected yet.
    pub(super) fn new(target: &Target, clock: &Arc<dyn Clock>) -> Result<Self, String> {
        Ok(match target {
            Target::Syslog(address) => Self::Syslog(Syslog::new(address)?),
            Target::Journald(socket) => Self::Journald(Journald::new(socket.clone())),
            Target::Webhook(endpoint, secret) => Self::Webhook(Webhook::new(endpoint, secret, clock.clone())?),
            Target::Loki(loki) => Self::Loki(Push::new(loki)?),
            Target::Otlp(endpoint) => Self::Otlp(Otlp::new(endpoint)?),
            #[cfg(feature = "kafka")]
            Target::Kafka(kafka) => Self::Kafka(Box::new(Produce::new(kafka)?)),
            #[cfg(not(feature = "kafka"))]
            Target::Kafka(_) => return Err("this program was built without Kafka".to_owned()),
            #[cfg(feature = "nats")]
            Target::Nats(nats) => Self::Nats(Box::new(Publish::new(nats)?)),
            #[cfg(not(feature = "nats"))]
            Target::Nats(_) => return Err("this program was built without NATS".to_owned()),
        })
    }
}

impl Transport for Any {
    fn batch_max(&self) -> usize {
        match self {
            Self::Syslog(syslog) => syslog.batch_max(),
            Self::Journald(journald) => journald.batch_max(),
            Self::Webhook(webhook) => webhook.batch_max(),
            Self::Loki(loki) => loki.batch_max(),
            Self::Otlp(otlp) => otlp.batch_max(),
            #[cfg(feature = "kafka")]
            Self::Kafka(kafka) => kafka.batch_max(),
            #[cfg(feature = "nats")]
            Self::Nats(nats) => nats.batch_max(),
        }
    }

    fn tell_answers(&mut self) {
        match self {
            Self::Webhook(webhook) => webhook.tell_answers(),
            Self::Loki(loki) => loki.tell_answers(),
            Self::Otlp(otlp) => otlp.tell_answers(),
            Self::Syslog(_) | Self::Journald(_) => {}
            // What they are told in answers is what went wrong, and nothing of what they sent.
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => {}
            #[cfg(feature = "nats")]
            Self::Nats(_) => {}
        }
    }

    async fn send(&mut self, items: &[Item]) -> Result<Receipt, Failure> {
        match self {
            Self::Syslog(syslog) => syslog.send(items).await,
            Self::Journald(journald) => journald.send(items).await,
            Self::Webhook(webhook) => webhook.send(items).await,
            Self::Loki(loki) => loki.send(items).await,
            Self::Otlp(otlp) => otlp.send(items).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(kafka) => kafka.send(items).await,
            #[cfg(feature = "nats")]
            Self::Nats(nats) => nats.send(items).await,
        }
    }

    async fn lost(&mut self) -> Failure {
        match self {
            Self::Syslog(syslog) => syslog.lost().await,
            #[cfg(feature = "nats")]
            Self::Nats(nats) => nats.lost().await,
            _ => std::future::pending().await,
        }
    }

    async fn close(&mut self) {
        if let Self::Syslog(syslog) = self {
            syslog.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_says_can_neither_move_a_cursor_nor_fill_a_log() {
        assert_eq!(plainly("  no\u{1b}[2J\r\n \u{202e}room\0 \u{e9}"), "no[2J room");
        assert_eq!(plainly("a".repeat(1 << 20)), "a".repeat(SAID_MAX));
    }
}
