//! The upstream side: which app is asked, over which connection, and what may be tried again.
//!
//! A connection goes back to the pool only after request and response have both ended cleanly. A request is tried again
//! at most once, only if it has no body and repeating it is harmless, and only if a kept connection died before the app
//! said a word.

mod io;
mod link;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::io::Transport;
use self::link::{Fitness, Link};
use crate::proxy::body::{BodyError, RequestBody};
use crate::proxy::{Balance, Location, StartError, settings};

/// Why the app gave no answer, or half of one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the app could not be reached")]
    Connect(#[source] std::io::Error),
    #[error("connecting to the app took too long")]
    ConnectTimeout,
    #[error("every place at the app is taken")]
    Full,
    #[error("the exchange with the app broke off")]
    Exchange(#[source] hyper::Error),
    #[error("the app closed the connection before it answered")]
    Ended,
    #[error("the app took too long")]
    ResponseTimeout,
}

/// Every app that requests may go to.
pub(super) struct Pool {
    destinations: Vec<Arc<Destination>>,
    balance: Balance,
    turn: AtomicUsize,
}

/// One app: its idle connections and its free places.
struct Destination {
    location: Location,
    settings: settings::Upstream,
    /// The one used last is on top: the others grow old and are dropped.
    idle: Mutex<Vec<Box<Link>>>,
    places: Semaphore,
}

/// A place at an app, given back when dropped.
struct Place(Arc<Destination>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.add_permits(1);
    }
}

impl Pool {
    pub(super) fn new(settings: &settings::Upstream) -> Result<Self, StartError> {
        if settings.locations.is_empty() {
            return Err(StartError::NoUpstream);
        }
        let destinations = settings.locations.iter().map(|location| {
            Arc::new(Destination {
                location: location.clone(),
                settings: settings.clone(),
                idle: Mutex::new(Vec::new()),
                places: Semaphore::new(settings.connections_max.min(Semaphore::MAX_PERMITS)),
            })
        });
        Ok(Self { destinations: destinations.collect(), balance: settings.balance, turn: AtomicUsize::new(0) })
    }

    /// Refuses an upstream that is one of our own addresses.
    pub(super) fn refuse_loop(&self, own: SocketAddr) -> Result<(), StartError> {
        let is_own = self.destinations.iter().any(|destination| match &destination.location {
            Location::Tcp { host, port } | Location::Tls { host, port, .. } => {
                *port == own.port() && host.parse().is_ok_and(|ip: std::net::IpAddr| ip == own.ip())
            }
            Location::Unix(_) => false,
        });
        if is_own { Err(StartError::Loop(own)) } else { Ok(()) }
    }

    fn choose(&self) -> Option<&Arc<Destination>> {
        if let [only] = self.destinations.as_slice() {
            return Some(only);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.destinations.len();
        let in_turn = (0..count).filter_map(|step| self.destinations.get(turn.wrapping_add(step) % count));
        match self.balance {
            Balance::RoundRobin => in_turn.into_iter().next(),
            // Among equals `max_by_key` takes the last: reversed, that is the one whose turn it is.
            Balance::LeastBusy => in_turn.rev().max_by_key(|destination| destination.places.available_permits()),
        }
    }

    /// Sends the request to one of the apps and returns the head of its answer, with the body still to come.
    pub(super) async fn exchange(&self, request: Request<RequestBody>) -> Result<(response::Parts, Stream), Failure> {
        let destination = self.choose().ok_or(Failure::Full)?;
        let place = destination.place().await?;
        let timeout = destination.settings.response_timeout;
        let Some(mut link) = destination.reuse().await else {
            let mut link = destination.open().await?;
            let answer = link.send(request, timeout).await?;
            return Ok(Stream::begin(answer, link, place));
        };
        let again = Again::of(&request);
        match (link.send(request, timeout).await, again) {
            (Ok(answer), _) => Ok(Stream::begin(answer, link, place)),
            (Err(Failure::Exchange(_) | Failure::Ended), Some(again)) if !link.was_heard() => {
                drop(link);
                let mut link = destination.open().await?;
                let answer = link.send(again.0, timeout).await?;
                Ok(Stream::begin(answer, link, place))
            }
            (Err(failure), _) => Err(failure),
        }
    }
}

/// A copy of a request that may be sent again.
struct Again(Request<RequestBody>);

impl Again {
    fn of(request: &Request<RequestBody>) -> Option<Self> {
        let harmless = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if !harmless || !request.body().is_empty() {
            return None;
        }
        let mut copy = Request::new(RequestBody::empty());
        copy.method_mut().clone_from(request.method());
        copy.uri_mut().clone_from(request.uri());
        copy.headers_mut().clone_from(request.headers());
        Some(Self(copy))
    }
}

impl Destination {
    async fn place(self: &Arc<Self>) -> Result<Place, Failure> {
        let permit = match self.places.try_acquire() {
            Ok(permit) => permit,
            Err(_) => match tokio::time::timeout(self.settings.queue_timeout, self.places.acquire()).await {
                Ok(Ok(permit)) => permit,
                Ok(Err(_)) | Err(_) => return Err(Failure::Full),
            },
        };
        // The place outlives this borrow of the semaphore; `Place` gives it back.
        permit.forget();
        Ok(Place(self.clone()))
    }

    /// A kept connection that is still good.
    async fn reuse(&self) -> Option<Box<Link>> {
        poll_fn(|cx| {
            loop {
                let Some(mut link) = self.idle.lock().pop() else { return Poll::Ready(None) };
                if link.check(cx) == Fitness::Reusable {
                    return Poll::Ready(Some(link));
                }
            }
        })
        .await
    }

    fn keep(&self, mut link: Box<Link>) {
        let now = Instant::now();
        link.since = now;
        let mut idle = self.idle.lock();
        // The oldest lie at the bottom. One look for each request clears them faster than they can gather.
        let old = idle.first().is_some_and(|link| now.duration_since(link.since) > self.settings.idle_timeout);
        let dropped = old.then(|| idle.remove(0));
        idle.push(link);
        drop(idle);
        drop(dropped);
    }

    async fn open(&self) -> Result<Box<Link>, Failure> {
        let transport = tokio::time::timeout(self.settings.connect_timeout, self.connect());
        let transport = transport.await.unwrap_or(Err(Failure::ConnectTimeout))?;
        Link::open(transport, self.settings.header_bytes_max).await.map(Box::new)
    }

    async fn connect(&self) -> Result<Transport, Failure> {
        match &self.location {
            Location::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(link::refused)?;
                stream.set_nodelay(true).map_err(link::refused)?;
                Ok(Transport::Tcp(stream))
            }
            Location::Tls { .. } => Err(link::refused(std::io::ErrorKind::Unsupported.into())),
            Location::Unix(path) => UnixStream::connect(path).await.map(Transport::Unix).map_err(link::refused),
        }
    }
}

/// The body of an answer, and the connection it comes over for as long as it comes.
pub(super) struct Stream {
    body: Incoming,
    /// Absent once the connection is back in the pool: what is left of the body lies in memory.
    held: Option<(Box<Link>, Place)>,
    deadline: Option<Instant>,
}

impl Stream {
    fn begin(answer: Response<Incoming>, link: Box<Link>, place: Place) -> (response::Parts, Self) {
        let (head, body) = answer.into_parts();
        let mut stream = Self { body, held: Some((link, place)), deadline: None };
        // A small answer was read with its head: its connection is free before the client has a word of it.
        stream.release();
        (head, stream)
    }

    /// Gives the connection back if both messages have ended.
    fn release(&mut self) {
        if self.held.as_ref().is_some_and(|(link, _)| link.is_idle())
            && let Some((link, place)) = self.held.take()
        {
            place.0.keep(link);
        }
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.held {
            None => pin!(&mut self.body).poll_frame(cx).map_err(Failure::Exchange),
            Some((link, place)) => {
                let timeout = place.0.settings.response_timeout;
                link.poll_body(cx, &mut self.body, &mut self.deadline, timeout)
            }
        };
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.finish(cx);
        }
        frame.map_err(Into::into)
    }

    /// The body has ended. If the request has not, the app did not want the rest of it and the connection is dropped.
    fn finish(&mut self, cx: &mut Context<'_>) {
        if let Some((mut link, place)) = self.held.take()
            && link.check(cx) == Fitness::Reusable
        {
            place.0.keep(link);
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
