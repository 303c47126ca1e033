//! One client connection from its first octet to its last.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::connection::print::{Print, SynClass};
use crate::connection::proxy_protocol::{self, Parsed};
use crate::connection::{self, Alpn, Connection, Peer, Proxied};
use crate::engine::Located;
use crate::proxy::body::ResponseBody;
use crate::proxy::drive::{Conversation, End, drive, part, raw_answer};
use crate::proxy::forward::Worn;
use crate::proxy::listener::Port;
use crate::proxy::tls::Accepted;
use crate::proxy::upgrade::Tunnel;
use crate::proxy::wire::{self, Phase, Pulse, Wire};
use crate::proxy::worker::Worker;
use crate::proxy::{Client, Fault, Gate, Http2, ProxyProtocol, RelayRtt, forward, upgrade};

/// What every request on one connection shares.
pub(super) struct Session<G: Gate> {
    pub(super) worker: Arc<Worker<G>>,
    pub(super) connection: Arc<Connection>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) protocol: Protocol,
    /// Header values that hardly change from request to request.
    pub(super) worn: Mutex<Worn>,
    /// Where the last client on it was: over most connections there comes no other.
    pub(super) located: Mutex<Option<Located>>,
    /// What the connection becomes once hyper has sent the last head.
    pub(super) tunnel: Mutex<Option<Box<Tunnel>>>,
}

/// What is spoken with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A connection's place among those that may be open, given back also when its task panics.
pub(super) struct Entered<G: Gate> {
    worker: Arc<Worker<G>>,
    connection: Arc<Connection>,
}

impl<G: Gate> Entered<G> {
    /// A connection that was counted among all, on the thread that gets it.
    pub(super) fn new(worker: &Arc<Worker<G>>, peer: SocketAddr, port: &Port) -> Self {
        worker.enter();
        let connection = Self::connection(worker, peer, port, Told::default());
        Self { worker: worker.clone(), connection }
    }

    fn connection(worker: &Worker<G>, peer: SocketAddr, port: &Port, told: Told) -> Arc<Connection> {
        let Told { transport, proxied, print } = told;
        let connection = Connection::new(worker.next_id(), Peer::Ip(peer), Some(port.address), transport, proxied);
        Arc::new(connection.with_print(print))
    }
}

impl<G: Gate> Drop for Entered<G> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.worker.gate.fault(&self.connection, Fault::Panic);
        }
        self.worker.leave();
    }
}

/// Serves a connection that the listener took and counted.
pub(super) async fn serve<G: Gate>(stream: TcpStream, peer: SocketAddr, port: Arc<Port>, mut entered: Entered<G>) {
    let worker = entered.worker.clone();
    let client = worker.settings.load().client.clone();
    // Boxed, like every step that is soon over or rare: its room would else be kept for the life of the connection.
    let opened = Box::pin(tokio::time::timeout(client.timeouts.header, open(stream, peer, &port, &client)));
    let (transport, told, protocol) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(fault)) => return fault.into_iter().for_each(|fault| worker.gate.fault(&entered.connection, fault)),
        Err(_) => {
            let late = if port.tls.is_some() { Fault::TlsHandshake } else { Fault::HeaderTimeout };
            return worker.gate.fault(&entered.connection, late);
        }
    };
    if told != Told::default() {
        entered.connection = Entered::connection(&worker, peer, &port, told);
    }
    let connection = entered.connection.clone();
    let pulse = match protocol {
        Protocol::Http1 => Pulse::default(),
        Protocol::Http2 => Pulse::of_streams(worker.load()),
    };
    let session = Arc::new(Session {
        worker,
        connection,
        pulse: Arc::new(pulse),
        protocol,
        worn: Mutex::default(),
        located: Mutex::default(),
        tunnel: Mutex::default(),
    });
    match protocol {
        Protocol::Http1 => http1(transport, session, &client).await,
        Protocol::Http2 => Box::pin(http2(transport, session, &client)).await,
    }
}

/// What is known of a connection before its first octet of HTTP.
#[derive(PartialEq)]
struct Told {
    transport: connection::Transport,
    proxied: Proxied,
    print: Print,
}

impl Default for Told {
    fn default() -> Self {
        Self { transport: connection::Transport::Plain, proxied: Proxied::No, print: Print::default() }
    }
}

type Opened = (wire::Transport, Told, Protocol);

/// Everything before the first octet of HTTP: the PROXY header, the TLS handshake, which HTTP it will be. An error
/// without a fault is a client that simply went away.
async fn open(mut stream: TcpStream, peer: SocketAddr, port: &Port, client: &Client) -> Result<Opened, Option<Fault>> {
    let (proxied, syn) = match port.proxy_protocol {
        ProxyProtocol::Off => (Proxied::No, syn_class(&stream)),
        ProxyProtocol::Required if !client.trusted_proxies.contains(peer.ip()) => {
            return Err(Some(Fault::ProxyProtocol));
        }
        // The balancer opened this connection.
        ProxyProtocol::Required => (proxy_header(&mut stream).await?, None),
    };
    let Some(tls) = &port.tls else {
        let protocol = match port.http2 {
            Http2::Off => Protocol::Http1,
            Http2::On => preface(&stream).await?,
        };
        let print = Print { syn, ..Print::default() };
        return Ok((wire::Transport::Plain(stream), Told { proxied, print, ..Told::default() }, protocol));
    };
    // Behind a balancer TCP ends at the balancer.
    let relay_rtt = if proxied == Proxied::No { client.relay_rtt } else { RelayRtt::Off };
    let Accepted { stream, transport, print, rtt_gap } = tls.accept(stream, relay_rtt).await.map_err(|error| {
        tracing::debug!(%error, "a TLS handshake failed");
        Some(Fault::TlsHandshake)
    })?;
    let agreed = matches!(transport, connection::Transport::Tls { alpn: Some(Alpn::Http2), .. });
    let protocol = if agreed { Protocol::Http2 } else { Protocol::Http1 };
    let print = Print { tls: print, syn, rtt_gap, ..Print::default() };
    Ok((wire::Transport::Tls(Box::new(stream)), Told { transport, proxied, print }, protocol))
}

/// What kind of system opened the connection, where the kernel can be asked.
fn syn_class(stream: &TcpStream) -> Option<SynClass> {
    #[cfg(all(feature = "kernel-hints", target_os = "linux"))]
    return super::kernel::syn_class(stream);
    #[cfg(not(all(feature = "kernel-hints", target_os = "linux")))]
    {
        let _ = stream;
        None
    }
}

/// Reads exactly the header and not an octet more: what follows may be TLS.
async fn proxy_header(stream: &mut TcpStream) -> Result<Proxied, Option<Fault>> {
    let mut seen = Vec::new();
    loop {
        let before = seen.len();
        let mut ahead = [0; 512];
        let there = stream.peek(&mut ahead).await.ok().ok_or(None)?;
        if there == 0 {
            return Err(if before == 0 { None } else { Some(Fault::ProxyProtocol) });
        }
        seen.extend_from_slice(ahead.get(..there).unwrap_or_default());
        let parsed = proxy_protocol::parse(&seen).ok().ok_or(Some(Fault::ProxyProtocol))?;
        let taken = match parsed {
            Parsed::Incomplete => there,
            Parsed::Complete { used, .. } => used.saturating_sub(before),
        };
        let mut sink = ahead;
        stream.read_exact(sink.get_mut(..taken).unwrap_or_default()).await.ok().ok_or(None)?;
        if let Parsed::Complete { endpoints, .. } = parsed {
            return Ok(endpoints.map_or(Proxied::Unstated, Proxied::Stated));
        }
    }
}

/// Which HTTP a client with prior knowledge speaks: HTTP/2 begins with a word that is no method of HTTP/1.
async fn preface(stream: &TcpStream) -> Result<Protocol, Option<Fault>> {
    loop {
        let mut ahead = [0; 3];
        let there = stream.peek(&mut ahead).await.ok().ok_or(None)?;
        let ahead = ahead.get(..there).unwrap_or_default();
        if there == 0 {
            return Err(None);
        }
        if !b"PRI".starts_with(ahead) {
            return Ok(Protocol::Http1);
        }
        if there == 3 {
            return Ok(Protocol::Http2);
        }
        // Fewer than three octets: hardly ever seen, and there is no event for "more than this".
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl<G: Gate> Session<G> {
    pub(super) fn fault(&self, fault: Fault) {
        self.worker.gate.fault(&self.connection, fault);
    }

    /// Where a client is. Databases are asked once for a connection, and again after they were replaced.
    pub(super) fn locate(&self, client: IpAddr) -> Option<Located> {
        let mut located = self.located.lock();
        *located = self.worker.gate.locate(client, *located);
        *located
    }
}

async fn answer<G: Gate>(
    session: Arc<Session<G>>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody<G>>, Infallible> {
    Ok(forward::handle(session, request).await)
}

async fn http1<G: Gate>(transport: wire::Transport, session: Arc<Session<G>>, client: &Client) {
    let wire = Wire::http1(transport, &client.limits, session.pulse.clone());
    let served = session.clone();
    let mut builder = http1::Builder::new();
    builder.max_buf_size(client.limits.header_bytes_max.max(64 << 10));
    if client.limits.headers_max > 100 {
        // Up to its default of a hundred, hyper keeps the fields on the stack.
        builder.max_headers(client.limits.headers_max);
    }
    let connection =
        builder.serve_connection(TokioIo::new(wire), service_fn(move |request| answer(served.clone(), request)));
    let mut connection = OverHttp1(connection);
    let pulse = &session.pulse;
    let end = drive(&mut connection, pulse, client, &session.worker.drain).await;
    let parts = connection.0.into_parts();
    let wire = parts.io.into_inner();
    let tunnel = session.tunnel.lock().take();
    if let (End::Finished, Some(tunnel)) = (end, tunnel) {
        let idle = client.timeouts.tunnel_idle;
        let tunnel = upgrade::run(wire.into_transport(), parts.read_buf, *tunnel, idle, &session.worker.drain);
        return Box::pin(tunnel).await;
    }
    match end {
        End::Finished if pulse.phase() == Phase::Body => Box::pin(part(wire, b"")).await,
        End::Finished | End::Quiet => drop(wire),
        End::Fault(fault) => {
            session.fault(fault);
            let can_be_told = !pulse.answering.load(Relaxed) || pulse.due() == 0;
            Box::pin(part(wire, if can_be_told { raw_answer(fault) } else { b"" })).await;
        }
        End::Cut(fault) => session.fault(fault),
    }
}

async fn http2<G: Gate>(transport: wire::Transport, session: Arc<Session<G>>, client: &Client) {
    let wire = Wire::http2(transport, &client.limits, session.pulse.clone(), &session.connection);
    let served = session.clone();
    let limits = &client.limits;
    let connection = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(1 << 20)
        .max_concurrent_streams(limits.http2_streams_max)
        // More than we take, so that what is a little too much is counted and refused by us.
        .max_header_list_size(u32::try_from(limits.header_bytes_max.saturating_mul(2)).unwrap_or(u32::MAX))
        .max_send_buf_size(64 << 10)
        .max_local_error_reset_streams(100)
        .serve_connection(
            TokioIo::new(wire),
            service_fn(move |request| {
                served.pulse.hand();
                answer(served.clone(), request)
            }),
        );
    let report = |fault| session.fault(fault);
    let connection = pin!(connection);
    let mut connection = OverHttp2::new(connection, &session.pulse, &report);
    let drain = &session.worker.drain;
    match drive(&mut connection, &session.pulse, client, drain).await {
        End::Finished => {}
        End::Quiet => wind_up(&mut connection, client).await,
        // Without GOAWAY: hyper has no way to send one with a reason, and whether it is in the middle of a frame can not be
        // known out here, so none can be written past it either. A flood that the parser sees first gets one from it.
        End::Fault(fault) | End::Cut(fault) => session.fault(fault),
    }
}

/// Says GOAWAY to an idle client and gives it a moment to go.
async fn wind_up(connection: &mut impl Conversation, client: &Client) {
    connection.wind_down();
    let gone = std::future::poll_fn(|cx| connection.poll(cx));
    drop(tokio::time::timeout(client.timeouts.header.min(Duration::from_secs(1)), gone).await);
}

struct OverHttp1<C>(C);

impl<S, B> Conversation for OverHttp1<http1::Connection<TokioIo<Wire>, S>>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|ended| {
            if let Err(error) = ended {
                log(&error);
            }
        })
    }

    fn wind_down(&mut self) {
        Pin::new(&mut self.0).graceful_shutdown();
    }
}

struct OverHttp2<'a, C> {
    connection: Pin<&'a mut C>,
    pulse: &'a Pulse,
    report: &'a (dyn Fn(Fault) + Sync),
    /// Requests that came and were never handed over, and are told.
    refused: u32,
    winding_down: bool,
}

impl<'a, C> OverHttp2<'a, C> {
    fn new(connection: Pin<&'a mut C>, pulse: &'a Pulse, report: &'a (dyn Fn(Fault) + Sync)) -> Self {
        Self { connection, pulse, report, refused: 0, winding_down: false }
    }

    /// Tells of requests among the first `opened` that the parser has kept to itself. It says nothing of them to anybody
    /// else; a connection that is to end takes none at all.
    fn notice_refused(&mut self, opened: u32) {
        let known = self.pulse.intake().handed.saturating_add(self.refused);
        if let Some(more) = opened.checked_sub(known).filter(|more| *more > 0 && !self.winding_down) {
            self.refused += more;
            (self.report)(Fault::Http2Refused);
        }
    }
}

impl<S, B> Conversation for OverHttp2<'_, http2::Connection<TokioIo<Wire>, S, TokioExecutor>>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let before = self.pulse.intake();
        let polled = self.connection.as_mut().poll(cx);
        let after = self.pulse.intake();
        match polled {
            // What came together with the end was perhaps not looked at any more.
            Poll::Ready(Ok(())) => self.notice_refused(before.opened),
            Poll::Ready(Err(error)) => {
                log(&error);
                match broken_rule(&error) {
                    Some(fault) => (self.report)(fault),
                    None => self.notice_refused(before.opened),
                }
            }
            // Whoever asks for more has dealt with what was there before.
            Poll::Pending if after.reads != before.reads => {
                self.notice_refused(before.opened);
                return Poll::Pending;
            }
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(())
    }

    fn wind_down(&mut self) {
        self.winding_down = true;
        self.connection.as_mut().graceful_shutdown();
    }
}

/// What the parser of HTTP/2 ended a connection for, if the client was to blame.
fn broken_rule(error: &hyper::Error) -> Option<Fault> {
    let error: &h2::Error = error.source()?.downcast_ref()?;
    if !error.is_library() {
        return None;
    }
    match error.reason() {
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Some(Fault::Http2Flood),
        Some(h2::Reason::NO_ERROR) => None,
        _ => Some(Fault::Http2Protocol),
    }
}

fn log(error: &hyper::Error) {
    tracing::debug!(%error, "a client connection ended early");
}
