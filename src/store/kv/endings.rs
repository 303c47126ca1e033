//! Which sessions ended, told to every guard that shares the server.
//!
//! A guard that keeps records in memory for a moment would serve a session that another guard has just ended. So scripts
//! publish the digest of every session that they end. A message can be lost whenever there is no connection; then there is a
//! gap, and whoever keeps records must let go of all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::SendError;
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinHandle;

use super::link::{Link, config};
use super::scripts::digest_of;
use crate::session::id::SessionDigest;

/// Messages that wait for a slow listener, and for the one who hands them on, before there is a gap.
const WAITING_MAX: usize = 4096;
/// After so long without a message the connection is tried.
const QUIET: Duration = Duration::from_secs(5);
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

/// Listens as soon as somebody wants to know.
#[derive(Debug, Default)]
pub(super) struct Listening(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    notices: broadcast::Sender<Notice>,
    task: JoinHandle<()>,
}

impl Listening {
    pub(super) fn endings(&self, link: &Arc<Link>, channel: &[u8]) -> Endings {
        let mut running = self.0.lock();
        let running = running.get_or_insert_with(|| {
            let (notices, _) = broadcast::channel(WAITING_MAX);
            let task = tokio::spawn(listen(Arc::clone(link), channel.to_vec(), notices.clone()));
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

async fn listen(link: Arc<Link>, channel: Vec<u8>, notices: broadcast::Sender<Notice>) {
    let mut pause = PAUSE_MIN;
    loop {
        tell(&notices, Notice::Gap);
        let mut has_begun = false;
        let ended = hear(&link, &channel, &notices, &mut has_begun).await;
        if let Err(error) = ended {
            tracing::debug!(%error, "no word from other guards of sessions that end");
        }
        pause = if has_begun { PAUSE_MIN } else { pause.saturating_mul(2).min(PAUSE_MAX) };
        tell(&notices, Notice::Gap);
        tokio::time::sleep(pause).await;
    }
}

/// Listens on one connection until it breaks.
async fn hear(
    link: &Link,
    channel: &[u8],
    notices: &broadcast::Sender<Notice>,
    has_begun: &mut bool,
) -> RedisResult<()> {
    let (push, mut pushed) = mpsc::channel(WAITING_MAX);
    let has_missed = Arc::new(AtomicBool::new(false));
    let config = config().set_push_sender(handing_on(push, Arc::clone(&has_missed)));
    let mut connection = link.place().dial(&config, link.timeout()).await?;
    limited(link, connection.subscribe(channel)).await?;
    *has_begun = true;
    tell(notices, Notice::Gap);
    loop {
        let pushed = tokio::time::timeout(QUIET, pushed.recv()).await;
        if has_missed.swap(false, Ordering::AcqRel) {
            tell(notices, Notice::Gap);
        }
        match pushed {
            Ok(Some(PushInfo { kind: PushKind::Message, data })) => tell(notices, notice(&data)),
            Ok(Some(PushInfo { kind: PushKind::Disconnection, .. }) | None) => return Ok(()),
            Ok(Some(_)) => {}
            // A connection may be dead without a sign.
            Err(_) => limited(link, redis::cmd("PING").query_async::<Value>(&mut connection)).await.map(drop)?,
        }
    }
}

async fn limited<T>(link: &Link, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(link.timeout(), work).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// Hands messages on as far as there is room. More may come than are taken: what is lost then is a gap.
fn handing_on(
    push: mpsc::Sender<PushInfo>,
    has_missed: Arc<AtomicBool>,
) -> impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static {
    move |info| match push.try_send(info) {
        Ok(()) => Ok(()),
        Err(TrySendError::Full(_)) => {
            has_missed.store(true, Ordering::Release);
            Ok(())
        }
        Err(TrySendError::Closed(_)) => Err(SendError),
    }
}

/// What a message means: a channel and a digest. Anything else was not sent by a script of ours, and could mean anything.
fn notice(message: &[Value]) -> Notice {
    match message {
        [_, Value::BulkString(digest)] => digest_of(digest).map_or(Notice::Gap, Notice::Session),
        _ => Notice::Gap,
    }
}

fn tell(notices: &broadcast::Sender<Notice>, notice: Notice) {
    // It fails when nobody listens, and then nobody misses anything.
    drop(notices.send(notice));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_no_digest_is_a_gap() {
        let text = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        assert_eq!(notice(&[text(b"channel"), text(&[7; 32])]), Notice::Session(SessionDigest([7; 32])));
        assert_eq!(notice(&[text(b"channel"), text(&[7; 31])]), Notice::Gap);
        assert_eq!(notice(&[]), Notice::Gap);
    }

    #[test]
    fn what_there_is_no_room_for_is_missed_and_known_to_be() {
        let (push, pushed) = mpsc::channel(1);
        let has_missed = Arc::new(AtomicBool::new(false));
        let hand_on = handing_on(push, Arc::clone(&has_missed));
        let message = || PushInfo { kind: PushKind::Message, data: Vec::new() };
        assert!(hand_on(message()).is_ok() && !has_missed.load(Ordering::Acquire));
        assert!(hand_on(message()).is_ok() && has_missed.load(Ordering::Acquire));
        drop(pushed);
        assert!(hand_on(message()).is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn who_is_too_slow_has_a_gap() {
        let (notices, listener) = broadcast::channel(2);
        let mut endings = Endings { notices: listener, is_new: true };
        let session = |nth: u8| Notice::Session(SessionDigest([nth; 32]));
        (0..3).for_each(|nth| tell(&notices, session(nth)));
        drop(notices);
        let mut heard = Vec::new();
        while let Some(notice) = endings.next().await {
            heard.push(notice);
        }
        assert_eq!(heard, [Notice::Gap, Notice::Gap, session(1), session(2)]);
    }
}
