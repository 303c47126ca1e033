//! The running guard answers its operator: a small JSON API over HTTP/1.1, and the client of it.
//!
//! It listens on a unix socket that only the guard's own user can open, or on a loopback address where every request must
//! show a token. It never listens anywhere else: there is no TLS, and whoever reaches it can end every session.
//!
//! | Request | Answer |
//! |---|---|
//! | `GET /v1/sessions?subject=&ref=&after=&max=&ended=yes` | a page of sessions, and `next` to go `after` |
//! | `GET /v1/sessions/REF` | one session |
//! | `DELETE /v1/sessions/REF` | ends it |
//! | `DELETE /v1/subjects/SUBJECT/sessions` | ends all of a subject |
//! | `DELETE /v1/sessions?all=yes` | ends every one |
//! | `POST /v1/clear-expired` | removes records of sessions that are over |
//! | `GET /v1/stats?max=` | figures of all sessions, from a walk through the store; one at a time (else 409) |
//! | `GET /v1/health` | whether the store answers (else 503), and whether the policy is the newest |
//! | `GET /v1/version` | the program's version and the API's |
//! | `GET /metrics` | figures for Prometheus |
//!
//! Sessions are named by their public ref and nothing else: no id, digest, tag or cookie is ever shown. Every use is an
//! event (`admin.action`). Faults are problem documents (RFC 9457). A connection carries one request.

mod api;
mod client;
mod listen;
mod metrics;
mod serve;
mod stats;
mod token;
mod view;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

pub use client::{Client, ClientError, Query};
pub use stats::{AgeShare, Busy, CutBy, Large, OperationFigures, SizeShare, Sizes, States, Stats, StoreFigures};
pub use token::{Token, TokenError};
pub use view::{Cleared, ClientView, EndView, Health, PolicyView, Revoked, SessionView, Sessions, StateWord, Version};

use crate::delivery::Standing;
use crate::engine::Guard;
use crate::entropy::{Entropy, EntropyError};
use crate::proxy::ExchangeFigures;
use crate::rules::Policy;
use crate::store::Store;
use crate::verdict::Mode;
use api::Api;
use listen::Listener;
use serve::Access;

/// Connections that are served at once; others wait to be accepted.
pub const CONNECTIONS_MAX: usize = 16;

/// How long requests may still run after the signal to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Where the guard is talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// `127.0.0.1:9090`, `unix:/run/portcullis.sock`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The text is no address of an admin API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address: write unix:PATH, 127.0.0.1:PORT or [::1]:PORT")]
pub struct UnknownAddress(String);

/// Reads what `Display` writes, and `localhost:PORT`.
impl FromStr for Address {
    type Err = UnknownAddress;

    fn from_str(text: &str) -> Result<Self, UnknownAddress> {
        let unknown = || UnknownAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(unknown()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Some(port) = text.strip_prefix("localhost:") {
            let port = port.parse().ok().ok_or_else(unknown)?;
            return Ok(Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        text.parse().map(Self::Tcp).ok().ok_or_else(unknown)
    }
}

/// Where to listen, and what must be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where.
    pub address: Address,
    /// The file with the token, of use on a loopback address only; it is made if it is not there.
    pub token_file: PathBuf,
}

/// The API could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address that others can reach.
    #[error("the admin API does not listen on {0}: it has no TLS, so only unix:PATH, 127.0.0.1 and [::1] are allowed")]
    NotLoopback(SocketAddr),
    /// Somebody answers there.
    #[error("{0} is taken: another guard, or another program, answers there")]
    Taken(Address),
    /// There is a file of another kind.
    #[error("{} is there and is no socket: it is left alone", .0.display())]
    NotASocket(PathBuf),
    /// The address can not be listened on.
    #[error("the admin API can not listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Address,
        /// What the system said.
        source: std::io::Error,
    },
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No key for page marks could be made.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Whether the policy in force is the newest there is: told by whoever reloads it, shown by `health`, with sessions and in
/// the metrics.
#[derive(Clone, Debug, Default)]
pub struct PolicyStanding(Arc<AtomicBool>);

impl PolicyStanding {
    /// A policy was loaded.
    pub fn loaded(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// A newer policy was refused: the one in force is stale.
    pub fn refused(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a newer policy was refused.
    pub fn is_stale(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many rules act or report where no route names other packs: those that are off do neither.
pub fn rules_in_force(policy: &Policy) -> usize {
    policy.rules.rules().iter().filter(|rule| rule.mode.min(policy.mode) > Mode::Off).count()
}

/// The API, ready to run.
pub struct Server<S> {
    listener: Listener,
    access: Arc<Access>,
    api: Api<S>,
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl<S: Store> Server<S> {
    /// Takes the address and reads or makes the token; nothing is accepted yet. A socket file that a dead guard left
    /// behind is replaced.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn bind(
        settings: &Settings,
        guard: Arc<Guard<S>>,
        standing: PolicyStanding,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, StartError> {
        let listener = Listener::bind(&settings.address)?;
        let access = match listener.address() {
            Address::Tcp(address) => Access::with_token(Token::read_or_make(&settings.token_file, &entropy)?, *address),
            Address::Unix(_) => Access::by_socket(),
        };
        Ok(Self { listener, access: Arc::new(access), api: Api::new(guard, standing, entropy)? })
    }

    /// The same with a figure for the metrics: how many connections of clients are open.
    #[must_use]
    pub fn with_connections(mut self, open: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        self.api.count_connections(Box::new(open));
        self
    }

    /// The same with figures for the metrics of what became of requests that went to the app.
    #[must_use]
    pub fn with_exchanges(mut self, figures: impl Fn() -> ExchangeFigures + Send + Sync + 'static) -> Self {
        self.api.count_exchanges(Box::new(figures));
        self
    }

    /// The same with the sinks that send to other programs, for the metrics.
    #[must_use]
    pub fn with_sinks(mut self, sinks: Vec<Arc<Standing>>) -> Self {
        self.api.watch_sinks(sinks);
        self
    }

    /// The same with the kind of store that the guard has, for figures and metrics.
    #[must_use]
    pub const fn with_store(mut self, kind: &'static str) -> Self {
        self.api.name_store(kind);
        self
    }

    /// Where it listens: tells the port that was chosen for port 0.
    pub const fn address(&self) -> &Address {
        self.listener.address()
    }

    /// Serves until `shutdown` is done. Requests under way may finish within five seconds.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { listener, access, api } = self;
        let api = Arc::new(api);
        let mut shutdown = pin!(shutdown);
        let mut connections = JoinSet::new();
        let mut accepting = match listener.register() {
            Ok(accepting) => accepting,
            Err(error) => {
                tracing::error!(%error, "the socket of the admin API could not be registered");
                return;
            }
        };
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = accepting.accept() => {
                    connections.spawn(serve::connection(accepted, access.clone(), api.clone()));
                }
                Some(_) = connections.join_next() => {}
            }
        }
        drop(accepting);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            tracing::warn!("requests to the admin API were dropped at the end");
        }
        connections.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back() {
        let check = |text: &str, expected: Option<&str>| {
            let shown = text.parse::<Address>().ok().map(|address| address.to_string());
            assert_eq!(shown.as_deref(), expected, "{text}");
        };
        check("127.0.0.1:9090", Some("127.0.0.1:9090"));
        check("[::1]:9090", Some("[::1]:9090"));
        check("localhost:9090", Some("127.0.0.1:9090"));
        check("unix:/run/p.sock", Some("unix:/run/p.sock"));
        for bad in ["", "unix:", "9090", "localhost", "localhost:x", "http://127.0.0.1:9090", "example.com:1"] {
            check(bad, None);
        }
    }
}
