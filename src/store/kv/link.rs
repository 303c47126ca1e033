//! The one connection that all operations share, and what is done when it breaks.
//!
//! Requests and answers of many callers travel on it at once. When it breaks, whoever comes next makes a new one while the
//! others wait for him; nobody waits longer than the limit. An operation whose answer was lost may have been done, and is not
//! sent again unless that does no harm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{MultiplexedConnection, SendError};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, PushInfo, PushKind, RedisError, RedisResult, ServerErrorKind,
    Value,
};

use super::place::Place;
use super::scripts::Script;
use crate::store::StoreError;

/// The server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It took too long.
    #[error("Redis did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// It can not be reached, or refused.
    #[error("Redis failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The change was made, and may be lost with the server.
    #[error("of {wanted} replicas of Redis that must have a change, {had} had it within {} ms: it was made, and may be lost", .waited.as_millis())]
    Unkept {
        /// How many had it.
        had: u32,
        /// How many must.
        wanted: u32,
        /// How long they were waited for.
        waited: Duration,
    },
    /// Nothing was changed, for it could be lost with the server.
    #[error("of {wanted} replicas of Redis that must have a change, {had} answer: nothing was changed")]
    NotDone {
        /// How many answer.
        had: u32,
        /// How many must.
        wanted: u32,
    },
    /// It has no memory left, and must not forget anything.
    #[error("Redis has no memory left")]
    Full,
    /// It answered what nothing of ours answers: something else writes under the same prefix.
    #[error("Redis gave an answer that makes no sense here")]
    Answer,
}

impl From<RedisError> for LinkError {
    fn from(error: RedisError) -> Self {
        if error.code() == Some("OOM") || error.to_string().contains("OOM command not allowed") {
            return Self::Full;
        }
        Self::Failed(error.into())
    }
}

impl From<LinkError> for StoreError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Full => Self::Full,
            error => Self::io(error),
        }
    }
}

/// Whether a command may be sent again when its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It only reads.
    May,
    /// It changes something.
    MayNot,
}

/// The way to the server.
#[derive(Debug)]
pub(super) struct Link {
    place: Place,
    timeout: Duration,
    live: Mutex<Option<Live>>,
    /// Held by the one who connects.
    dialling: tokio::sync::Mutex<()>,
    made: AtomicU64,
}

/// A connection that works as far as is known.
#[derive(Clone, Debug)]
struct Live {
    connection: MultiplexedConnection,
    /// Set once it is closed: what has not been sent yet is sent on another then.
    is_closed: Arc<AtomicBool>,
    /// The how manieth it is, beginning with 1.
    nth: u64,
}

impl Link {
    pub(super) fn new(place: Place, timeout: Duration) -> Self {
        Self {
            place,
            timeout,
            live: Mutex::new(None),
            dialling: tokio::sync::Mutex::default(),
            made: AtomicU64::new(0),
        }
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs a script.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        args: &[&[u8]],
        again: Again,
    ) -> Result<Value, LinkError> {
        self.limited(async |used| match self.send(&script.by_name(keys, args), again, used).await {
            Err(error) if is_unheard_of(&error) => self.send(&script.in_full(keys, args), again, used).await,
            answer => answer,
        })
        .await
    }

    /// Sends several commands, once and one behind the other, and gives what came of each.
    pub(super) async fn send_all(&self, all: &Pipeline) -> Result<Vec<RedisResult<Value>>, LinkError> {
        self.limited(async |used| {
            let live = self.lent(used).await?;
            self.heard(&live, all.query_async(&mut live.connection.clone()).await)
        })
        .await
    }

    /// Lets go of the connection: whoever comes next looks for the server anew.
    pub(super) fn leave(&self) {
        *self.live.lock() = None;
    }

    /// Sends a command that only reads.
    pub(super) async fn read(&self, command: &Cmd) -> Result<Value, LinkError> {
        self.limited(async |used| self.send(command, Again::May, used).await).await
    }

    /// Gives up after the limit. A server that does not answer may be gone for good without having closed the connection, so
    /// the next operation makes a new one.
    async fn limited<T>(&self, work: impl AsyncFnOnce(&AtomicU64) -> RedisResult<T>) -> Result<T, LinkError> {
        let used = AtomicU64::new(0);
        match tokio::time::timeout(self.timeout, work(&used)).await {
            Ok(answer) => answer.map_err(LinkError::from),
            Err(_) => {
                self.forget(used.into_inner());
                Err(LinkError::Late(self.timeout))
            }
        }
    }

    async fn send(&self, command: &Cmd, again: Again, used: &AtomicU64) -> RedisResult<Value> {
        match self.send_once(command, used).await {
            Err(error) if was_refused(&error) || (again == Again::May && was_lost(&error)) => {
                self.send_once(command, used).await
            }
            answer => answer,
        }
    }

    async fn send_once(&self, command: &Cmd, used: &AtomicU64) -> RedisResult<Value> {
        self.ask(&self.lent(used).await?, command).await
    }

    /// A connection that works, noted as the one that is used.
    async fn lent(&self, used: &AtomicU64) -> RedisResult<Live> {
        let live = self.connected().await?;
        used.store(live.nth, Ordering::Relaxed);
        Ok(live)
    }

    async fn ask(&self, live: &Live, command: &Cmd) -> RedisResult<Value> {
        self.heard(live, command.query_async(&mut live.connection.clone()).await)
    }

    /// An answer; a connection that is of no more use is let go.
    fn heard<T>(&self, live: &Live, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.as_ref().is_err_and(|error| was_refused(error) || was_lost(error)) {
            self.forget(live.nth);
        }
        answer
    }

    async fn connected(&self) -> RedisResult<Live> {
        if let Some(live) = self.present() {
            return Ok(live);
        }
        let _only_one = self.dialling.lock().await;
        if let Some(live) = self.present() {
            return Ok(live);
        }
        let is_closed = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_closed);
        let config = config().set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                told.store(true, Ordering::Release);
            }
            Ok::<(), SendError>(())
        });
        let connection = self.place.dial(&config, self.timeout).await?;
        let nth = self.made.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let live = Live { connection, is_closed, nth };
        *self.live.lock() = Some(live.clone());
        Ok(live)
    }

    fn present(&self) -> Option<Live> {
        self.live.lock().clone().filter(|live| !live.is_closed.load(Ordering::Acquire))
    }

    /// Lets go of a connection, unless there is another already.
    fn forget(&self, nth: u64) {
        let mut live = self.live.lock();
        if live.as_ref().is_some_and(|live| live.nth == nth) {
            *live = None;
        }
    }
}

/// How connections are made. The library's own limits are off, for ours cover all of an operation.
pub(super) fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None)
}

/// Whether the server does not know the script yet.
fn is_unheard_of(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether the server has not done it because it is not the one who may: another is, so it can be sent to that one. Scripts
/// write nothing before a first write that is refused, so they are not half done either.
pub(super) fn was_refused(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::ReadOnly) => true,
        // Before version 7 a server put what a command of a script failed with into a text.
        ErrorKind::Server(ServerErrorKind::ResponseError) => error.to_string().contains("READONLY"),
        _ => false,
    }
}

/// Whether there may have been an answer that did not arrive.
fn was_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped()
}
