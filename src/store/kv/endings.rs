//! Which sessions ended: scripts publish the digest of every session that they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::SendError;
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::link::{Link, config};
use super::scripts::digest_of;
use crate::store::endings::{Hearing, Notice, QUIET, Source, Unheard, WAITING_MAX};
use crate::store::leases::Recall;

/// The channel that scripts publish on.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) link: Arc<Link>,
    pub(super) name: Vec<u8>,
}

impl Source for Channel {
    async fn hear(&self, hearing: &mut Hearing) -> Result<(), Unheard> {
        let Self { link, name } = self;
        let (push, mut pushed) = mpsc::channel(WAITING_MAX);
        let has_missed = Arc::new(AtomicBool::new(false));
        let config = config().set_push_sender(handing_on(push, Arc::clone(&has_missed)));
        let mut connection = link.place().dial(&config, link.timeout()).await?;
        limited(link, connection.subscribe(name)).await?;
        hearing.begun();
        loop {
            let pushed = tokio::time::timeout(QUIET, pushed.recv()).await;
            if has_missed.swap(false, Ordering::AcqRel) {
                hearing.tell(Notice::Gap);
            }
            match pushed {
                Ok(Some(PushInfo { kind: PushKind::Message, data })) => hearing.tell(notice(&data)),
                Ok(Some(PushInfo { kind: PushKind::Disconnection, .. }) | None) => return Ok(()),
                Ok(Some(_)) => {}
                // A connection may be dead without a sign.
                Err(_) => limited(link, redis::cmd("PING").query_async::<Value>(&mut connection)).await.map(drop)?,
            }
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

/// What a message means: a channel and a digest, or a recall. Anything else was not sent by a script of ours, and could mean
/// anything.
fn notice(message: &[Value]) -> Notice {
    let [_, Value::BulkString(told)] = message else { return Notice::Gap };
    digest_of(told)
        .ok()
        .map(Notice::Session)
        .or_else(|| Recall::from_bytes(told).map(Notice::Recall))
        .unwrap_or(Notice::Gap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::id::SessionDigest;

    #[test]
    fn a_message_that_is_no_digest_is_a_gap() {
        let text = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        assert_eq!(notice(&[text(b"channel"), text(&[7; 32])]), Notice::Session(SessionDigest([7; 32])));
        for about in [None, Some(SessionDigest([7; 32]))] {
            let recall = Recall { id: 258, about };
            assert_eq!(notice(&[text(b"channel"), text(&recall.to_bytes())]), Notice::Recall(recall));
        }
        for octets in [0, 7, 9, 31, 33] {
            assert_eq!(notice(&[text(b"channel"), text(&vec![7; octets])]), Notice::Gap);
        }
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
}
