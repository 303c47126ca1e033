//! Streams that outlive their request: WebSockets, event streams, long downloads. They belong to their session and end
//! with it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::session::id::SessionDigest;

/// Most streams that one session may hold open; the next one is not admitted.
pub const STREAMS_PER_SESSION_MAX: usize = 64;

/// Told when the session of a stream ends. Dropping it gives the place back.
#[derive(Debug)]
pub struct Cut {
    ended: watch::Receiver<bool>,
    place: Place,
}

/// A stream's place in the table, given back when it is dropped.
#[derive(Debug)]
struct Place {
    table: Weak<Mutex<Table>>,
    digest: SessionDigest,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(table) = self.table.upgrade() else { return };
        let mut table = table.lock();
        let Some(entry) = table.sessions.get_mut(&self.digest) else { return };
        entry.streams = entry.streams.saturating_sub(1);
        if entry.streams == 0 {
            table.sessions.remove(&self.digest);
        }
    }
}

impl Cut {
    /// Completes when the session ends; never before.
    pub fn ended(&mut self) -> impl Future<Output = ()> + Send + '_ {
        async move {
            // An error means that the guard itself is gone, and the stream goes with it.
            drop(self.ended.wait_for(|ended| *ended).await);
        }
    }

    /// A future of its own, to be kept beside the stream.
    pub fn into_ended(self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Self { mut ended, place } = self;
            drop(ended.wait_for(|ended| *ended).await);
            drop(place);
        })
    }

    /// Whether the session has ended already.
    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }
}

/// For hand-written bodies: polls whether the session has ended.
impl Cut {
    /// Polls a future made by [`into_ended`](Self::into_ended).
    pub fn poll(ended: &mut Pin<Box<dyn Future<Output = ()> + Send>>, context: &mut Context<'_>) -> Poll<()> {
        ended.as_mut().poll(context)
    }
}

/// The streams that are open now, by session.
#[derive(Debug, Default)]
pub struct Streams(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    sessions: HashMap<SessionDigest, Entry>,
}

#[derive(Debug)]
struct Entry {
    ended: watch::Sender<bool>,
    streams: usize,
    /// When the session is over at the latest; streams do not move it.
    deadline: Timestamp,
}

impl Streams {
    /// Takes a place for a stream of a session that is over at `deadline` at the latest. None when it holds as many as
    /// it may.
    pub fn open(&self, digest: SessionDigest, deadline: Timestamp) -> Option<Cut> {
        let mut table = self.0.lock();
        let entry = table
            .sessions
            .entry(digest)
            .or_insert_with(|| Entry { ended: watch::Sender::new(false), streams: 0, deadline });
        if entry.streams >= STREAMS_PER_SESSION_MAX {
            return None;
        }
        entry.streams += 1;
        entry.deadline = deadline;
        Some(Cut { ended: entry.ended.subscribe(), place: Place { table: Arc::downgrade(&self.0), digest } })
    }

    /// The session has ended: all its streams are told.
    pub fn end(&self, digest: &SessionDigest) {
        if let Some(entry) = self.0.lock().sessions.get(digest) {
            entry.ended.send_replace(true);
        }
    }

    /// The session goes on under another id, and so do its streams.
    pub fn moved(&self, from: &SessionDigest) {
        // A new id follows a change of rights; what was opened with the old ones is opened anew.
        self.end(from);
    }

    /// Sessions with open streams, and when each is over at the latest.
    pub fn open_sessions(&self) -> Vec<(SessionDigest, Timestamp)> {
        self.0.lock().sessions.iter().map(|(digest, entry)| (*digest, entry.deadline)).collect()
    }

    /// How many streams are open.
    pub fn len(&self) -> usize {
        self.0.lock().sessions.values().map(|entry| entry.streams).sum()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.0.lock().sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SessionDigest = SessionDigest([1; 32]);
    const TWO: SessionDigest = SessionDigest([2; 32]);

    #[tokio::test]
    async fn a_stream_ends_with_its_session_and_no_other() {
        let streams = Streams::default();
        let mut one = streams.open(ONE, Timestamp::EPOCH).unwrap();
        let two = streams.open(TWO, Timestamp::EPOCH).unwrap();
        assert!(!one.has_ended());
        streams.end(&ONE);
        one.ended().await;
        assert!(one.has_ended());
        assert!(!two.has_ended());
        drop(one);
        assert_eq!(streams.len(), 1);
        drop(two);
        assert!(streams.is_empty());
    }

    #[test]
    fn a_session_holds_only_so_many() {
        let streams = Streams::default();
        let held: Vec<_> = (0..STREAMS_PER_SESSION_MAX).map(|_| streams.open(ONE, Timestamp::EPOCH).unwrap()).collect();
        assert!(streams.open(ONE, Timestamp::EPOCH).is_none());
        assert!(streams.open(TWO, Timestamp::EPOCH).is_some());
        drop(held);
        assert!(streams.open(ONE, Timestamp::EPOCH).is_some());
    }

    #[tokio::test]
    async fn the_end_of_the_guard_ends_its_streams() {
        let streams = Streams::default();
        let mut cut = streams.open(ONE, Timestamp::EPOCH).unwrap();
        drop(streams);
        cut.ended().await;
    }
}
