//! Which sessions ended, told to every guard that shares a server.
//!
//! A guard that keeps records in memory for a moment would serve a session that another guard has just ended. So a store whose
//! server can pass messages tells the digest of every session that it ends. A message can be lost whenever there is no connection;
//! then there is a gap, and whoever keeps records must let go of all of them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

use crate::session::id::SessionDigest;

/// Messages that wait for a slow listener before there is a gap.
pub(super) const WAITING_MAX: usize = 4096;
/// After so long without a message the connection is tried.
pub(super) const QUIET: Duration = Duration::from_secs(5);
/// First and longest pause before a new connection.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Something that a guard which keeps records must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This session ended, or goes on under another id.
    Session(SessionDigest),
    /// Any session may have ended since the last notice: let go of all records. It comes when listening begins, when it breaks,
    /// with every attempt to begin again, and when it has begun again. So a record that was loaded after the last gap, and of which
    /// nothing was told since, can be old only while there is no connection, and for no longer than a few seconds.
    Gap,
}

/// Notices as they come, from when this was made. The first is a gap.
#[derive(Debug)]
pub struct Endings {
    notices: broadcast::Receiver<Notice>,
    is_new: bool,
}

impl Endings {
    /// The next notice; none when the store is gone. Nothing is lost if the future is dropped before it is done.
    pub async fn next(&mut self) -> Option<Notice> {
        if std::mem::take(&mut self.is_new) {
            return Some(Notice::Gap);
        }
        match self.notices.recv().await {
            Ok(notice) => Some(notice),
            Err(RecvError::Lagged(_)) => Some(Notice::Gap),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Why nothing is heard.
pub(super) type Unheard = Box<dyn std::error::Error + Send + Sync>;

/// Where messages come from.
pub(super) trait Source: Send + Sync + 'static {
    /// Listens on one connection until it breaks. Whoever has begun to hear says so ([`Hearing::begun`]).
    fn hear(&self, hearing: &mut Hearing) -> impl Future<Output = Result<(), Unheard>> + Send;
}

/// Hands on what is heard.
#[derive(Debug)]
pub(super) struct Hearing {
    notices: broadcast::Sender<Notice>,
    has_begun: bool,
}

impl Hearing {
    /// From now on everything is heard.
    pub(super) fn begun(&mut self) {
        self.has_begun = true;
        self.tell(Notice::Gap);
    }

    pub(super) fn tell(&self, notice: Notice) {
        // It fails when nobody listens, and then nobody misses anything.
        drop(self.notices.send(notice));
    }
}

/// Listens as soon as somebody wants to know.
#[derive(Debug, Default)]
pub(super) struct Listening(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    notices: broadcast::Sender<Notice>,
    task: JoinHandle<()>,
}

impl Listening {
    /// What is heard from now on. The first who asks makes the source.
    pub(super) fn endings<S: Source>(&self, source: impl FnOnce() -> S) -> Endings {
        let mut running = self.0.lock();
        let running = running.get_or_insert_with(|| {
            let (notices, _) = broadcast::channel(WAITING_MAX);
            let task = tokio::spawn(listen(Arc::new(source()), notices.clone()));
            Running { notices, task }
        });
        Endings { notices: running.notices.subscribe(), is_new: true }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(source: Arc<impl Source>, notices: broadcast::Sender<Notice>) {
    let mut pause = PAUSE_MIN;
    let mut hearing = Hearing { notices, has_begun: false };
    loop {
        hearing.tell(Notice::Gap);
        hearing.has_begun = false;
        if let Err(error) = source.hear(&mut hearing).await {
            tracing::debug!(%error, "no word from other guards of sessions that end");
        }
        pause = if hearing.has_begun { PAUSE_MIN } else { pause.saturating_mul(2).min(PAUSE_MAX) };
        hearing.tell(Notice::Gap);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_too_slow_has_a_gap() {
        let (notices, listener) = broadcast::channel(2);
        let mut endings = Endings { notices: listener, is_new: true };
        let session = |nth: u8| Notice::Session(SessionDigest([nth; 32]));
        let hearing = Hearing { notices, has_begun: true };
        (0..3).for_each(|nth| hearing.tell(session(nth)));
        drop(hearing);
        let mut heard = Vec::new();
        while let Some(notice) = endings.next().await {
            heard.push(notice);
        }
        assert_eq!(heard, [Notice::Gap, Notice::Gap, session(1), session(2)]);
    }
}
