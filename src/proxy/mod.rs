//! The guard as a reverse proxy: the data path, with a [`Gate`] between the client and the app.
//!
//! The way of a request: `listener` accepts, `tls` unwraps, `wire` checks the octets, hyper parses, `forward` checks and
//! rewrites, the gate admits, `upstream` exchanges, the gate settles, `body` streams back. With the gate [`Off`] this is
//! a plain strict proxy, which is how the cost of the guard is measured.

mod answer;
mod authority;
mod body;
pub(crate) mod client_tls;
mod drain;
mod drive;
mod exchanges;
mod fault;
mod forward;
mod gather;
mod guard;
#[cfg(all(feature = "kernel-hints", target_os = "linux"))]
mod kernel;
mod left;
mod listener;
mod pace;
mod room;
mod serve;
mod settings;
mod tap;
mod timer;
mod tls;
mod trailers;
mod upgrade;
mod upstream;
mod whose;
mod wire;
mod worker;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::{HeaderMap, request, response};
use parking_lot::{Mutex, MutexGuard};

pub use crate::engine::Lifetime;
pub use crate::engine::cut::{Cut, Cutter};
pub use answer::{Answer, Looks, Problem};
pub use body::{Extent, PeekError, RequestBody};
pub use exchanges::ExchangeFigures;
pub use fault::Fault;
pub use guard::{Guarded, Permit};
pub use listener::Source;
pub use settings::{
    Aliases, Balance, Client, Health, Host, Http2, Limits, Listen, Location, ProxyProtocol, RelayRtt, Settings,
    Timeouts, TlsFiles, Upstream,
};

use crate::connection::{Connection, ConnectionId, Peer, Print, Proxied, Scheme, Transport};
use crate::engine::Located;
use crate::engine::outlive::PerClient;
use crate::facts::client_ip::{self, ClientIp, UntrustedForwarding};
use crate::facts::headers::Upgrade;
use crate::facts::order::HeaderOrder;
use crate::proxy::listener::Listener;
use crate::proxy::worker::{Threads, Workers};

/// What stands between the client and the app. [`Off`] is a bare proxy.
///
/// A request that was forwarded is settled exactly once, also when the app could not be reached. Only a client that goes
/// away meanwhile drops the admission unsettled, unless [`lifetime`](Self::lifetime) says that it must be settled.
pub trait Gate: Send + Sync + 'static {
    /// Permit to call the app, carried from the request half to the response half.
    type Admission: Send + 'static;
    /// Names what a running response belongs to (a session), so that it can be cut when that ends.
    type Tether: Send + Unpin + 'static;

    /// The request half. May change the headers, may look into the body, may answer itself.
    ///
    /// The headers have been cleaned: one valid `Host`, no hop-by-hop fields but those of a valid WebSocket handshake, no
    /// forwarding fields but ours, one `Cookie` line, no `Portcullis-*`. What is added here reaches the app.
    fn admit(
        &self,
        arrival: &Arrival,
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

    /// Where a client is. Asked before each request is admitted; `known` is what was said of the client before on the same
    /// connection. `None` from a gate that does not care.
    fn locate(&self, _client: IpAddr, _known: Option<Located>) -> Option<Located> {
        None
    }

    /// Whether the exchange with the app goes on until it is settled when the client has gone.
    fn lifetime(&self, _admission: &Self::Admission) -> Lifetime {
        Lifetime::OfClient
    }

    /// The handle that cuts a running response. Called only for one that is not finished at once: a stream, a tunnel, a
    /// long download. Must return a [`Cut`] that has already happened if what it belongs to has ended meanwhile.
    fn tether(&self, tether: Self::Tether) -> Cut;

    /// Trailers on their way, after the forbidden ones were dropped: framing, credentials, cookies, `Portcullis-*`.
    fn trailers(&self, _towards: Towards, _trailers: &mut HeaderMap) {}

    /// Something was refused or dropped before or beside the request half.
    fn fault(&self, _connection: &Arc<Connection>, _fault: Fault) {}
}

/// What is known of a request before it is judged, besides its own parts.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The connection it came over.
    pub connection: Arc<Connection>,
    /// Its client, after trusted proxies. The headers that said so are gone from the request.
    pub client: ClientIp,
    /// Where its client is, as [`Gate::locate`] says.
    pub located: Option<Located>,
    /// The scheme the client spoke, as far as trusted proxies say.
    pub scheme: Scheme,
    /// What the transport of its client looks like.
    pub print: Print,
    /// Whether a proxy that nobody listed seems to stand before us.
    pub untrusted_forwarding: UntrustedForwarding,
    /// Whether it asks for a WebSocket.
    pub upgrade: Upgrade,
    /// In what form it wants an answer of ours.
    pub looks: Looks,
    /// In which order some of its headers came.
    pub order: HeaderOrder,
    wants_trailers: bool,
}

impl Arrival {
    /// A plain request over this connection, from its peer.
    pub fn new(connection: Arc<Connection>, looks: Looks) -> Self {
        let client = ClientIp { ip: connection.peer_ip(), source: client_ip::Source::Peer, junk: None };
        let (scheme, print) = (connection.scheme(), connection.print());
        Self {
            connection,
            client,
            located: None,
            scheme,
            print,
            untrusted_forwarding: UntrustedForwarding::No,
            upgrade: Upgrade::No,
            looks,
            order: HeaderOrder::default(),
            wants_trailers: false,
        }
    }
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
    /// The answer to give instead of the app's.
    pub instead: Option<Answer>,
}

impl<T> Default for Settled<T> {
    fn default() -> Self {
        Self { tether: None, instead: None }
    }
}

/// No guard: everything is admitted unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Off;

impl Gate for Off {
    type Admission = ();
    type Tether = ();

    async fn admit(&self, _: &Arrival, _: &mut request::Parts, _: &mut RequestBody) -> Admitted<()> {
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
    /// The system has no threads or descriptors to give.
    #[error(
        "the threads that serve connections can not be started: is the limit of processes or of open files too low?"
    )]
    Threads(#[source] std::io::Error),
    /// Certificate or key can not be used.
    #[error("cannot use the certificate {cert}: {reason}")]
    Certificate {
        /// The file named in the settings.
        cert: std::path::PathBuf,
        /// What is wrong with it, or with its key.
        reason: String,
    },
    /// The authorities to trust at the app can not be read.
    #[error("cannot use the authorities in {ca}: {reason}")]
    Authorities {
        /// The file, or the system's store.
        ca: String,
        /// What is wrong.
        reason: String,
    },
    /// The name of a TLS upstream is none that a certificate could be for.
    #[error("{0} is no name that a certificate could be for")]
    ServerName(String),
    /// No upstream is named.
    #[error("there is no upstream to forward to")]
    NoUpstream,
}

/// Everything the connections of one proxy share.
struct Shared<G> {
    gate: G,
    settings: ArcSwap<Settings>,
    connections: AtomicU64,
    drain: drain::Drain,
    peeks: room::Room,
    /// Requests that go on though their clients have gone.
    left: PerClient,
    /// Held while the settings of one thread after the other are replaced.
    /// One reload at a time. The certificates of authorities that the connections to the app rest on.
    reloading: Mutex<Vec<Vec<u8>>>,
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

/// What a reload replaces as one, on each thread.
struct Live {
    settings: Arc<Settings>,
    upstream: Arc<upstream::Pool>,
    identity: forward::Identity,
}

/// A proxy that has its ports and is ready to run.
pub struct Proxy<G> {
    workers: Workers<G>,
    threads: Threads,
    listeners: Vec<Listener>,
}

impl<G> std::fmt::Debug for Proxy<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl<G: Gate> Proxy<G> {
    /// Takes the ports, starts the threads and makes everything ready; nothing is accepted yet.
    ///
    /// # Errors
    /// When a port is taken, the upstream is missing or is this proxy itself.
    pub fn bind(settings: Settings, gate: G) -> Result<Self, StartError> {
        let listeners = settings.listen.iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
        let authorities = settings.upstream.authorities();
        let upstream = upstream::Upstream::new(&settings.upstream)?;
        for listener in &listeners {
            upstream.refuse_loop(listener.local_addr())?;
        }
        let settings = Arc::new(settings);
        let lives = (0..settings.threads.get()).map(|number| Live::new(&settings, upstream.pool(number)));
        let shared = Shared {
            gate,
            settings: ArcSwap::new(settings.clone()),
            connections: AtomicU64::new(1),
            drain: drain::Drain::default(),
            peeks: room::Room::default(),
            left: PerClient::default(),
            reloading: Mutex::new(authorities),
        };
        let (workers, threads) = Workers::start(shared, lives).map_err(StartError::Threads)?;
        Ok(Self { workers, threads, listeners })
    }

    /// Where it listens, in the order of the settings: tells the port that was chosen for port 0.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::local_addr).collect()
    }

    /// A handle by which the running proxy is told of new settings.
    pub fn handle(&self) -> Handle<G> {
        Handle(self.workers.clone())
    }

    /// Serves until `shutdown` is done, then drains: nothing is accepted any more, requests in hand are finished up to
    /// the drain timeout, tunnels are closed. To stop at once, drop this future. The runtime it is run on takes connections
    /// from the ports; the threads of the proxy do the rest.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut accepting = tokio::task::JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(listener.accept(self.workers.clone()));
        }
        accepting.spawn(upstream::tend(self.workers.clone()));
        shutdown.await;
        accepting.shutdown().await;
        let span = self.workers.settings.load().client.timeouts.drain;
        self.workers.drain.run(span).await;
        self.threads.end().await;
    }
}

/// Tells a running proxy of new settings.
pub struct Handle<G>(Workers<G>);

impl<G> Clone for Handle<G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<G> std::fmt::Debug for Handle<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

impl<G: Gate> Handle<G> {
    /// Replaces the settings, as [`prepare`](Self::prepare) and [`Reload::put_in_force`] do.
    ///
    /// # Errors
    /// When the new upstream can not be used; everything is then as it was.
    pub fn reload(&self, settings: Settings) -> Result<(), StartError> {
        self.prepare(settings)?.put_in_force();
        Ok(())
    }

    /// Makes settings ready that are to replace those in force: all that can fail is done here. Where to listen and on how
    /// many threads is fixed for the life of the process and is not looked at.
    ///
    /// # Errors
    /// When the new upstream can not be used.
    pub fn prepare(&self, settings: Settings) -> Result<Reload<'_, G>, StartError> {
        let authorities = self.0.reloading.lock();
        let present = settings.upstream.authorities();
        let is_same = self.0.settings.load().upstream == settings.upstream && *authorities == present;
        let upstream = if is_same { None } else { Some(upstream::Upstream::new(&settings.upstream)?) };
        Ok(Reload { workers: &self.0, settings, upstream, authorities, present })
    }

    /// The gate.
    pub fn gate(&self) -> &G {
        &self.0.gate
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.0.drain.open()
    }

    /// What became of requests that went to the app.
    pub fn exchanges(&self) -> ExchangeFigures {
        ExchangeFigures::of(self.0.iter().map(|worker| &worker.exchanges.0))
    }
}

/// Settings that can be used and are not in force yet. While there are some, others wait.
#[must_use]
pub struct Reload<'a, G> {
    workers: &'a Workers<G>,
    settings: Settings,
    /// None if it is the same: its connections and what is known of its health are worth keeping.
    upstream: Option<upstream::Upstream>,
    authorities: MutexGuard<'a, Vec<Vec<u8>>>,
    present: Vec<Vec<u8>>,
}

impl<G> std::fmt::Debug for Reload<'_, G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reload")
    }
}

impl<G: Gate> Reload<'_, G> {
    /// Puts them in force for new connections and new requests; what is under way ends under the old ones.
    pub fn put_in_force(self) {
        let Self { workers, settings, upstream, mut authorities, present } = self;
        let settings = Arc::new(settings);
        for (number, worker) in workers.iter().enumerate() {
            let pool = match &upstream {
                Some(upstream) => upstream.pool(number),
                None => worker.live.load().upstream.clone(),
            };
            worker.live.store(Arc::new(Live::new(&settings, pool)));
        }
        workers.settings.store(settings);
        *authorities = present;
    }
}

impl Live {
    fn new(settings: &Arc<Settings>, upstream: Arc<upstream::Pool>) -> Self {
        let identity = forward::Identity::new(&settings.name, &settings.upstream.host);
        Self { settings: settings.clone(), upstream, identity }
    }
}
