//! One client connection from its first octet to its last.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::connection::{Connection, Peer, Proxied, Transport};
use crate::proxy::body::ResponseBody;
use crate::proxy::drive::{Conversation, End, drive, part, raw_answer};
use crate::proxy::wire::{self, Phase, Pulse, Wire};
use crate::proxy::{Client, Fault, Gate, Shared, forward};

/// What every request on one connection shares.
pub(super) struct Session<G: Gate> {
    pub(super) shared: Arc<Shared<G>>,
    pub(super) connection: Arc<Connection>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) protocol: Protocol,
}

/// What is spoken with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A connection's place among those that may be open, given back also when its task panics.
struct Entered<G: Gate>(Arc<Shared<G>>, Option<Arc<Connection>>);

impl<G: Gate> Drop for Entered<G> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(connection) = &self.1
        {
            self.0.gate.fault(connection, Fault::Panic);
        }
        self.0.drain.leave();
    }
}

/// Serves a connection that the listener took and counted.
pub(super) async fn serve<G: Gate>(stream: TcpStream, peer: SocketAddr, local: SocketAddr, shared: Arc<Shared<G>>) {
    let mut entered = Entered(shared.clone(), None);
    let connection = Connection::new(shared.next_id(), Peer::Ip(peer), Some(local), Transport::Plain, Proxied::No);
    let connection = Arc::new(connection);
    entered.1 = Some(connection.clone());
    let transport = wire::Transport::Plain(stream);
    let session = Session { shared, connection, pulse: Arc::default(), protocol: Protocol::Http1 };
    match session.protocol {
        Protocol::Http1 => http1(transport, Arc::new(session)).await,
        Protocol::Http2 => http2(transport, Arc::new(session)).await,
    }
}

impl<G: Gate> Session<G> {
    fn fault(&self, fault: Fault) {
        self.shared.gate.fault(&self.connection, fault);
    }
}

async fn answer<G: Gate>(
    session: Arc<Session<G>>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody<G>>, Infallible> {
    Ok(forward::handle(session, request).await)
}

async fn http1<G: Gate>(transport: wire::Transport, session: Arc<Session<G>>) {
    let client = session.shared.live.load().settings.client.clone();
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
    let mut connection = Http1(connection);
    let pulse = &session.pulse;
    let end = drive(&mut connection, pulse, &client, &session.shared.drain).await;
    let wire = connection.0.into_parts().io.into_inner();
    match end {
        End::Finished if pulse.phase() == Phase::Body => part(wire, b"").await,
        End::Finished | End::Quiet => drop(wire),
        End::Fault(fault) => {
            session.fault(fault);
            let can_be_told = !pulse.answering.load(Relaxed) || pulse.due() == 0;
            part(wire, if can_be_told { raw_answer(fault) } else { b"" }).await;
        }
        End::Cut(fault) => session.fault(fault),
    }
}

async fn http2<G: Gate>(transport: wire::Transport, session: Arc<Session<G>>) {
    let client = session.shared.live.load().settings.client.clone();
    let wire = Wire::http2(transport, &client.limits, session.pulse.clone());
    let served = session.clone();
    let limits = &client.limits;
    let connection = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(1 << 20)
        .max_concurrent_streams(limits.http2_streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_send_buf_size(64 << 10)
        .max_local_error_reset_streams(100)
        .serve_connection(TokioIo::new(wire), service_fn(move |request| answer(served.clone(), request)));
    let mut connection = Http2(pin!(connection));
    let drain = &session.shared.drain;
    match drive(&mut connection, &session.pulse, &client, drain).await {
        End::Finished => {}
        End::Quiet => wind_up(&mut connection, &client).await,
        End::Fault(fault) | End::Cut(fault) => session.fault(fault),
    }
}

/// Says GOAWAY to an idle client and gives it a moment to go.
async fn wind_up(connection: &mut impl Conversation, client: &Client) {
    connection.wind_down();
    let gone = std::future::poll_fn(|cx| connection.poll(cx));
    drop(tokio::time::timeout(client.timeouts.header.min(std::time::Duration::from_secs(1)), gone).await);
}

struct Http1<C>(C);

impl<S, B> Conversation for Http1<http1::Connection<TokioIo<Wire>, S>>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(log)
    }

    fn wind_down(&mut self) {
        Pin::new(&mut self.0).graceful_shutdown();
    }
}

struct Http2<'a, C>(Pin<&'a mut C>);

impl<S, B> Conversation for Http2<'_, http2::Connection<TokioIo<Wire>, S, TokioExecutor>>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx).map(log)
    }

    fn wind_down(&mut self) {
        self.0.as_mut().graceful_shutdown();
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a client connection ended early");
    }
}
