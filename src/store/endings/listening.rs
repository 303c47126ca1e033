//! Listens to what a server tells of sessions that end, as long as somebody wants to know.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::{Endings, Notice};

/// Messages that wait for a slow listener before there is a gap.
pub(in crate::store) const WAITING_MAX: usize = 4096;
/// After so long without a message the connection is tried.
pub(in crate::store) const QUIET: Duration = Duration::from_secs(5);
/// First and longest pause before a new connection.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Why nothing is heard.
pub(in crate::store) type Unheard = Box<dyn std::error::Error + Send + Sync>;

/// Where messages come from.
pub(in crate::store) trait Source: Send + Sync + 'static {
    /// Listens on one connection until it breaks. Whoever has begun to hear says so ([`Hearing::begun`]).
    fn hear(&self, hearing: &mut Hearing) -> impl Future<Output = Result<(), Unheard>> + Send;
}

/// Hands on what is heard.
#[derive(Debug)]
pub(in crate::store) struct Hearing {
    notices: broadcast::Sender<Notice>,
    has_begun: bool,
}

impl Hearing {
    /// From now on everything is heard.
    pub(in crate::store) fn begun(&mut self) {
        self.has_begun = true;
        self.tell(Notice::Gap);
    }

    pub(in crate::store) fn tell(&self, notice: Notice) {
        // It fails when nobody listens, and then nobody misses anything.
        drop(self.notices.send(notice));
    }
}

/// Listens as soon as somebody wants to know.
#[derive(Debug, Default)]
pub(in crate::store) struct Listening(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    notices: broadcast::Sender<Notice>,
    task: JoinHandle<()>,
}

impl Listening {
    /// What is heard from now on. The first who asks makes the source.
    pub(in crate::store) fn endings<S: Source>(&self, source: impl FnOnce() -> S) -> Endings {
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
    use crate::session::id::SessionDigest;

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
