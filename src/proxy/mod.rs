//! The guard as a reverse proxy: the data path, with a [`Gate`] between the client and the app.
//!
//! The way of a request: `listener` accepts, `tls` unwraps, `wire` checks the octets, hyper parses, `forward` checks and
//! rewrites, the gate admits, `upstream` exchanges, the gate settles, `body` streams back. With the gate [`Off`] this is
//! a plain strict proxy, which is how the cost of the guard is measured.

mod answer;
mod body;
mod drain;
mod drive;
mod fault;
mod forward;
mod listener;
mod serve;
mod settings;
mod timer;
mod upstream;
mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::{HeaderMap, request, response};

pub use answer::{Answer, Looks, Problem};
pub use body::{Extent, PeekError, RequestBody};
pub use crate::engine::cut::{Cut, Cutter};
pub use fault::Fault;
pub use listener::Source;
pub use settings::{
    Balance, Client, Health, Host, Http2, Limits, Listen, Location, ProxyProtocol, Settings, Timeouts, TlsFiles,
    Upstream,
};

use crate::connection::{Connection, ConnectionId, Peer, Proxied, Transport};
use crate::proxy::listener::Listener;

/// What stands between the client and the app. [`Off`] is a bare proxy.
///
/// A request that was forwarded is settled exactly once, also when the app could not be reached; only a client that
/// goes away meanwhile drops the admission unsettled.
pub trait Gate: Send + Sync + 'static {
    /// Permit to call the app, carried from the request half to the response half.
    type Admission: Send + 'static;
    /// Names what a running response belongs to (a session), so that it can be cut when that ends.
    type Tether: Send + Unpin + 'static;

    /// The request half. May change the headers, may look into the body, may answer itself.
    ///
    /// The headers have been cleaned: one valid `Host`, no hop-by-hop fields, no forwarding fields but ours, one
    /// `Cookie` line, no `Portcullis-*`. What is added here reaches the app.
    fn admit(
        &self,
        connection: &Arc<Connection>,
        request: &mut request::Parts,
        body: &mut RequestBody,
    ) -> impl Future<Output = Admitted<Self::Admission>> + Send;

    /// The response half. May change status and headers; what it removes the client never sees.
    fn settle(
        &self,
        admission: Self::Admission,
        by: AnsweredBy,
        response: &mut response::Parts,
    ) -> impl Future<Output = Settled<Self::Tether>> + Send;

    /// The handle that cuts a running response. Called only for one that is not finished at once: a stream, a tunnel, a
    /// long download. Must return a [`Cut`] that has already happened if what it belongs to has ended meanwhile.
    fn tether(&self, tether: Self::Tether) -> Cut;

    /// Trailers on their way, after the forbidden ones were dropped.
    fn trailers(&self, _towards: Towards, _trailers: &mut HeaderMap) {}

    /// Something was refused or dropped before or beside the request half.
    fn fault(&self, _connection: &Arc<Connection>, _fault: Fault) {}
}

/// Who is about to receive trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// The app.
    App,
    /// The client.
    Client,
}

/// Who made the response that is being settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The app.
    App,
    /// We did, because the app could not be reached or answered nonsense.
    Proxy,
}

/// What the request half decided.
#[derive(Debug)]
pub enum Admitted<A> {
    /// The app is called.
    Forward(A),
    /// The client gets this answer and the app sees nothing.
    Answer(Answer),
}

/// What the response half left to be done.
#[derive(Debug)]
pub struct Settled<T> {
    /// What the response belongs to, if its end must cut it.
    pub tether: Option<T>,
}

impl<T> Default for Settled<T> {
    fn default() -> Self {
        Self { tether: None }
    }
}

/// No guard: everything is admitted unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Off;

impl Gate for Off {
    type Admission = ();
    type Tether = ();

    async fn admit(&self, _: &Arc<Connection>, _: &mut request::Parts, _: &mut RequestBody) -> Admitted<()> {
        Admitted::Forward(())
    }

    async fn settle(&self, (): (), _: AnsweredBy, _: &mut response::Parts) -> Settled<()> {
        Settled::default()
    }

    fn tether(&self, (): ()) -> Cut {
        Cut::never()
    }
}

/// The proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another program listens there.
    #[error("{0} is taken: another program, or another Portcullis, listens there")]
    PortTaken(SocketAddr),
    /// The address can not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as configured.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The app would be the proxy itself.
    #[error("the upstream {0} is an address this proxy listens on: requests would go round in circles")]
    Loop(SocketAddr),
    /// No upstream is named.
    #[error("there is no upstream to forward to")]
    NoUpstream,
}

/// Everything the connections of one proxy share.
struct Shared<G> {
    gate: G,
    live: ArcSwap<Live>,
    connections: AtomicU64,
    drain: drain::Drain,
}

impl<G> Shared<G> {
    fn next_id(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }
}

impl<G: Gate> Shared<G> {
    /// There are too many connections; this one is closed unread.
    fn refuse(&self, peer: SocketAddr, local: SocketAddr) {
        let peer = Peer::Ip(peer);
        let connection = Connection::new(self.next_id(), peer, Some(local), Transport::Plain, Proxied::No);
        self.gate.fault(&Arc::new(connection), Fault::ConnectionsFull);
    }
}

/// What a reload replaces as one.
struct Live {
    settings: Settings,
    upstream: Arc<upstream::Pool>,
    identity: forward::Identity,
}

/// A proxy that has its ports and is ready to run.
pub struct Proxy<G> {
    shared: Arc<Shared<G>>,
    listeners: Vec<Listener>,
}

impl<G> std::fmt::Debug for Proxy<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl<G: Gate> Proxy<G> {
    /// Takes the ports and makes everything ready; nothing is accepted yet.
    ///
    /// # Errors
    /// When a port is taken, the upstream is missing or is this proxy itself.
    pub fn bind(settings: Settings, gate: G) -> Result<Self, StartError> {
        let listeners = settings.listen.iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
        let live = Live::new(settings)?;
        for listener in &listeners {
            live.upstream.refuse_loop(listener.local_addr())?;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                gate,
                live: ArcSwap::from_pointee(live),
                connections: AtomicU64::new(1),
                drain: drain::Drain::default(),
            }),
            listeners,
        })
    }

    /// Where it listens, in the order of the settings: tells the port that was chosen for port 0.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::local_addr).collect()
    }

    /// Serves until `shutdown` is done, then drains: nothing is accepted any more, requests in hand are finished up to
    /// the drain timeout, tunnels are closed. To stop at once, drop this future.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut accepting = tokio::task::JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(listener.accept(self.shared.clone()));
        }
        shutdown.await;
        accepting.shutdown().await;
        let span = self.shared.live.load().settings.client.timeouts.drain;
        self.shared.drain.run(span).await;
    }
}

impl Live {
    fn new(settings: Settings) -> Result<Self, StartError> {
        let upstream = Arc::new(upstream::Pool::new(&settings.upstream)?);
        let identity = forward::Identity::new(&settings.name);
        Ok(Self { settings, upstream, identity })
    }
}
