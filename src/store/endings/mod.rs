//! Which sessions ended, told to every guard that shares a server.
//!
//! A guard that keeps records in memory for a moment would serve a session that another guard has just ended. So a store whose
//! server can pass messages tells the digest of every session that it ends. A message can be lost whenever there is no connection;
//! then there is a gap, and whoever keeps records must let go of all of them.

#[cfg(any(feature = "redis", feature = "sql"))]
mod listening;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

#[cfg(any(feature = "redis", feature = "sql"))]
pub(super) use self::listening::{Hearing, Listening, QUIET, Source, Unheard, WAITING_MAX};
use super::leases::Recall;
use crate::session::id::SessionDigest;

/// Something that a guard which keeps records must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This session ended, or goes on under another id.
    Session(SessionDigest),
    /// Any session may have ended since the last notice: let go of all records. It comes when listening begins, when it breaks,
    /// with every attempt to begin again, and when it has begun again. So a record that was loaded after the last gap, and of which
    /// nothing was told since, can be old only while there is no connection, and for no longer than a few seconds.
    Gap,
    /// To be returned by whoever has let go of all that ended before this: see [`leases`](super::leases).
    Recall(Recall),
}

/// Notices as they come, from when this was made. The first is a gap.
#[derive(Debug)]
pub struct Endings {
    notices: broadcast::Receiver<Notice>,
    is_new: bool,
}

impl Endings {
    /// The next notice, if it is there already.
    pub fn try_next(&mut self) -> Option<Notice> {
        match self.notices.try_recv() {
            Ok(notice) => Some(notice),
            Err(TryRecvError::Lagged(_)) => Some(Notice::Gap),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

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
