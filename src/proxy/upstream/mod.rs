//! The upstream side: which app is asked, over which connection, and what may be tried again.
//!
//! A connection goes back to the pool only after request and response have both ended cleanly. A request is tried again
//! at most once, only if it has no body and repeating it is harmless, and only if a kept connection died before the app
//! said a word.

mod bell;
mod dial;
mod health;
mod io;
mod link;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::dial::Dial;
use self::health::Health;
pub(super) use self::io::Io;
use self::link::{Fitness, Link};
use crate::proxy::body::{BodyError, RequestBody};
use crate::proxy::worker::Workers;
use crate::proxy::{Balance, Fault, Gate, Location, Problem, StartError, settings};

/// Why the app gave no answer, or half of one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the app's name could not be resolved")]
    Resolve(#[source] std::io::Error),
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
    #[error("the client took too long over its request")]
    RequestTimeout,
    #[error("TLS with the app failed")]
    Tls(#[source] std::io::Error),
    #[error("the app's answer is not HTTP: {0}")]
    Nonsense(&'static str),
    #[error("the app switched protocols unasked, or to something else")]
    Unasked,
}

impl Failure {
    /// What the client is told.
    pub(super) fn problem(&self) -> Problem {
        match self {
            Self::Resolve(_) => Problem::NotFound,
            Self::Connect(_) => Problem::Refused,
            Self::ConnectTimeout => Problem::ConnectTimeout,
            Self::Full => Problem::Full,
            Self::Exchange(error) if error.is_parse() => Problem::BadReply,
            Self::Exchange(_) | Self::Ended => Problem::ReplyBrokeOff,
            Self::ResponseTimeout => Problem::ReplyTimeout,
            Self::RequestTimeout => Problem::RequestTimeout,
            Self::Tls(error) if is_of_certificate(error) => Problem::BadCertificate,
            Self::Tls(_) => Problem::TlsFailed,
            Self::Nonsense(_) => Problem::BadReply,
            Self::Unasked => Problem::UpgradeFailed,
        }
    }

    /// What is told of it; nothing if the client is to blame.
    pub(super) fn fault(&self) -> Option<Fault> {
        Some(match self {
            Self::Resolve(_) | Self::Connect(_) | Self::ConnectTimeout => Fault::AppUnreachable,
            Self::Tls(error) if is_of_certificate(error) => Fault::AppCertificate,
            Self::Tls(_) => Fault::AppTls,
            Self::Full => Fault::AppFull,
            Self::ResponseTimeout => Fault::AppSilent,
            // The body of the request broke off.
            Self::Exchange(error) if error.is_user() => return None,
            Self::Exchange(error) if !error.is_parse() => Fault::AppBrokeOff,
            Self::Ended => Fault::AppBrokeOff,
            Self::Exchange(_) | Self::Nonsense(_) | Self::Unasked => Fault::Response,
            Self::RequestTimeout => return None,
        })
    }

    /// Whether the app was not even reached, so that another may be asked.
    const fn is_before_contact(&self) -> bool {
        matches!(self, Self::Resolve(_) | Self::Connect(_) | Self::ConnectTimeout | Self::Tls(_))
    }
}

/// Whether TLS failed for the certificate that the app showed.
fn is_of_certificate(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

/// Every app that requests may go to.
pub(super) struct Upstream {
    destinations: Vec<Arc<Destination>>,
    balance: Balance,
}

/// One app, how many requests are there, and how many connections go there.
struct Destination {
    location: Location,
    dial: Dial,
    settings: settings::Upstream,
    places: Semaphore,
    links: AtomicUsize,
    health: Health,
    is_asked: AtomicBool,
    /// Of all threads.
    ways: Mutex<Vec<Weak<Way>>>,
}

/// One of the connections to an app, for as long as it is open or being opened.
struct Counted(Arc<Destination>);

impl Counted {
    fn one_more(destination: &Arc<Destination>) -> Self {
        destination.links.fetch_add(1, Ordering::Relaxed);
        Self(destination.clone())
    }

    /// Whether there are more of them than there may be requests: then others lie idle.
    fn is_one_too_many(&self) -> bool {
        self.0.links.load(Ordering::Relaxed) > self.0.settings.connections_max
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.links.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counted")
    }
}

/// The ways to every app that one thread has.
pub(super) struct Pool {
    ways: Vec<Arc<Way>>,
    balance: Balance,
    turn: AtomicUsize,
}

/// The way to one app: connections that are kept.
struct Way {
    destination: Arc<Destination>,
    /// Tells it from the others of its pool.
    number: usize,
    /// The one used last is on top: the others grow old and are dropped.
    #[expect(clippy::vec_box, reason = "a link is large and changes hands often")]
    idle: Mutex<Vec<Box<Link>>>,
}

impl Deref for Way {
    type Target = Destination;

    fn deref(&self) -> &Destination {
        &self.destination
    }
}

/// A place at an app, given back when dropped.
pub(super) struct Place(Arc<Way>);

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.0.location).finish()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.add_permits(1);
    }
}

impl Upstream {
    pub(super) fn new(settings: &settings::Upstream) -> Result<Self, StartError> {
        if settings.locations.is_empty() {
            return Err(StartError::NoUpstream);
        }
        let destination = |location: &Location| {
            Ok(Arc::new(Destination {
                location: location.clone(),
                dial: Dial::new(location)?,
                settings: settings.clone(),
                places: Semaphore::new(settings.connections_max.min(Semaphore::MAX_PERMITS)),
                links: AtomicUsize::new(0),
                health: Health::default(),
                is_asked: AtomicBool::new(false),
                ways: Mutex::default(),
            }))
        };
        let destinations = settings.locations.iter().map(destination).collect::<Result<_, StartError>>()?;
        Ok(Self { destinations, balance: settings.balance })
    }

    /// The ways there, for one thread more. `turn` says which app is the first in turn.
    pub(super) fn pool(&self, turn: usize) -> Arc<Pool> {
        let way = |(number, destination): (usize, &Arc<Destination>)| {
            let way = Arc::new(Way { destination: destination.clone(), number, idle: Mutex::default() });
            destination.ways.lock().push(Arc::downgrade(&way));
            way
        };
        let ways = self.destinations.iter().enumerate().map(way).collect();
        Arc::new(Pool { ways, balance: self.balance, turn: AtomicUsize::new(turn) })
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
}

impl Pool {
    /// The app to ask, or to ask next after `tried` could not be reached. The sick are asked only when all are.
    fn choose(&self, tried: &[usize]) -> Option<&Arc<Way>> {
        if let [only] = self.ways.as_slice() {
            return if tried.is_empty() { Some(only) } else { None };
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.ways.len();
        let in_turn = (0..count)
            .filter_map(|step| self.ways.get(turn.wrapping_add(step) % count))
            .filter(|way| !tried.contains(&way.number));
        match self.balance {
            // A full one is passed over while another has room.
            Balance::RoundRobin => in_turn.min_by_key(|way| (way.health.rank(), way.places.available_permits() == 0)),
            Balance::LeastBusy => {
                in_turn.min_by_key(|way| (way.health.rank(), usize::MAX - way.places.available_permits()))
            }
        }
    }

    /// Sends the request to one of the apps and returns the head of its answer, with the body still to come.
    /// `request` is taken once an app has been reached.
    pub(super) async fn exchange(
        &self,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<(response::Parts, Stream), Failure> {
        let mut tried = SmallVec::<[usize; 4]>::new();
        let mut last = Failure::Full;
        while let Some(way) = self.choose(&tried) {
            let place = way.place().await?;
            match way.link().await {
                Ok((link, origin)) => return way.exchange(request, link, origin, place).await,
                // Nothing of the request has left us, so any request may be taken elsewhere.
                Err(failure) if failure.is_before_contact() => {
                    way.health.fail();
                    last = failure;
                }
                Err(failure) => return Err(failure),
            }
            tried.push(way.number);
        }
        Err(last)
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It served before, and may have been closed just now.
    Kept,
    Fresh,
}

/// A copy of a request that may be sent again. Boxed: it is hardly ever needed.
struct Again(Box<Request<RequestBody>>);

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
        Some(Self(Box::new(copy)))
    }
}

impl Way {
    async fn exchange(
        &self,
        request: &mut Option<Request<RequestBody>>,
        mut link: Box<Link>,
        origin: Origin,
        place: Place,
    ) -> Result<(response::Parts, Stream), Failure> {
        let timeout = self.settings.response_timeout;
        let again = if origin == Origin::Kept { request.as_ref().and_then(Again::of) } else { None };
        let request = request.take().ok_or(Failure::Ended)?;
        match (link.send(request, timeout).await, again) {
            (Ok(answer), _) => Ok(Stream::begin(answer, link, place)),
            (Err(Failure::Exchange(_) | Failure::Ended), Some(again)) if !link.was_heard() => {
                drop(link);
                // What is rare is boxed, so that the usual request does not carry room for it.
                Box::pin(self.repeat(again, place)).await
            }
            (Err(failure), _) => Err(failure),
        }
    }

    async fn repeat(&self, again: Again, place: Place) -> Result<(response::Parts, Stream), Failure> {
        let mut link = self.open(Counted::one_more(&self.destination)).await?;
        let answer = link.send(*again.0, self.settings.response_timeout).await?;
        Ok(Stream::begin(answer, link, place))
    }

    async fn place(self: &Arc<Self>) -> Result<Place, Failure> {
        let permit = match self.places.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let free = Box::pin(tokio::time::timeout(self.settings.queue_timeout, self.places.acquire()));
                match free.await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) | Err(_) => return Err(Failure::Full),
                }
            }
        };
        // The place outlives this borrow of the semaphore; `Place` gives it back.
        permit.forget();
        Ok(Place(self.clone()))
    }

    async fn link(&self) -> Result<(Box<Link>, Origin), Failure> {
        if let Some(link) = self.reuse().await {
            return Ok((link, Origin::Kept));
        }
        let counted = Counted::one_more(&self.destination);
        if counted.is_one_too_many()
            && let Some(link) = self.reuse_of_others().await
        {
            return Ok((link, Origin::Kept));
        }
        Ok((Box::pin(self.open(counted)).await?, Origin::Fresh))
    }

    /// A connection that another thread keeps. It works here as well, and not as fast: its socket is watched over there.
    #[cold]
    fn reuse_of_others(&self) -> Pin<Box<dyn Future<Output = Option<Box<Link>>> + Send + '_>> {
        let ways: Vec<_> = self.ways.lock().iter().filter_map(Weak::upgrade).collect();
        Box::pin(async move {
            for way in ways {
                let link = way.reuse().await;
                if link.is_some() {
                    return link;
                }
            }
            None
        })
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
        link.put_aside(Instant::now());
        self.idle.lock().push(link);
    }

    /// Closes what nobody has used for too long.
    fn sweep(&self, now: Instant) {
        let mut idle = self.idle.lock();
        // The oldest lie at the bottom.
        let old = idle.partition_point(|link| now.duration_since(link.since()) > self.settings.idle_timeout);
        let dropped: Vec<_> = idle.drain(..old).collect();
        drop(idle);
        drop(dropped);
    }
}

impl Destination {
    async fn open(&self, counted: Counted) -> Result<Box<Link>, Failure> {
        let transport = tokio::time::timeout(self.settings.connect_timeout, self.dial.connect());
        let transport = transport.await.unwrap_or(Err(Failure::ConnectTimeout))?;
        self.health.succeed();
        Link::open(transport, counted, self.settings.header_bytes_max).await.map(Box::new)
    }

    /// Asks the app whether it is well.
    async fn probe(self: &Arc<Self>, path: &str) {
        let mut request = Request::new(RequestBody::empty());
        let host = self.dial.host_value();
        let (Ok(uri), Ok(host)) = (path.parse(), host.parse()) else { return };
        *request.uri_mut() = uri;
        request.headers_mut().insert(http::header::HOST, host);
        request.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        let asked = async {
            let mut link = self.open(Counted::one_more(self)).await?;
            link.send(request, self.settings.response_timeout).await
        };
        match asked.await {
            Ok(answer) if !answer.status().is_server_error() => self.health.well(),
            Ok(_) | Err(_) => self.health.sick(),
        }
    }
}

/// Looks after the apps: closes old connections, asks whether they are well. Runs until it is dropped.
pub(super) async fn tend<G: Gate>(workers: Workers<G>) {
    const SWEEP: Duration = Duration::from_secs(5);
    let mut swept = Instant::now();
    let mut asked = swept;
    loop {
        let health = workers.settings.load().upstream.health.clone();
        let due = health.as_ref().map_or(SWEEP, |health| health.every.saturating_sub(asked.elapsed()));
        let pause = due.min(SWEEP).max(Duration::from_millis(10));
        tokio::time::sleep(pause).await;
        let pools: Vec<Arc<Pool>> = workers.iter().map(|worker| worker.live.load().upstream.clone()).collect();
        let now = Instant::now();
        if now.duration_since(swept) >= SWEEP {
            swept = now;
            pools.iter().flat_map(|pool| &pool.ways).for_each(|way| way.sweep(now));
        }
        if let (Some(health), Some(pool)) = (health, pools.first())
            && now.duration_since(asked) >= health.every
        {
            asked = now;
            // The threads share what is known of an app. One that does not answer keeps nobody from asking the others.
            for way in &pool.ways {
                if let Some(asking) = Asking::begin(&way.destination) {
                    let path = health.path.clone();
                    tokio::spawn(async move { asking.0.probe(&path).await });
                }
            }
        }
    }
}

/// An app is being asked whether it is well: once at a time.
struct Asking(Arc<Destination>);

impl Asking {
    fn begin(destination: &Arc<Destination>) -> Option<Self> {
        let is_asked = destination.is_asked.swap(true, Ordering::AcqRel);
        (!is_asked).then(|| Self(destination.clone()))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.is_asked.store(false, Ordering::Release);
    }
}

/// The body of an answer, and the connection it comes over for as long as it comes.
pub(super) struct Stream {
    body: Incoming,
    /// Absent once the connection is back in the pool: what is left of the body lies in memory.
    held: Option<(Box<Link>, Place)>,
    deadline: Option<Instant>,
    /// How long the app may be silent within its answer.
    patience: Duration,
    failed: Option<Failure>,
}

impl Stream {
    fn begin(answer: Response<Incoming>, link: Box<Link>, place: Place) -> (response::Parts, Self) {
        let (head, body) = answer.into_parts();
        let patience = place.0.settings.response_timeout;
        (head, Self { body, held: Some((link, place)), deadline: None, patience, failed: None })
    }

    /// The answer is an event stream, and events may be rare.
    pub(super) const fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The head has been found good. A small answer was read with its head: then both messages have ended, and the
    /// connection is free before the client has a word of it.
    pub(super) fn release(&mut self) {
        if self.held.as_ref().is_some_and(|(link, _)| link.is_idle())
            && let Some((link, place)) = self.held.take()
        {
            place.0.keep(link);
        }
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(failure) = self.failed.take() {
            return Poll::Ready(Some(Err(failure.into())));
        }
        let frame = match &mut self.held {
            None => Pin::new(&mut self.body).poll_frame(cx).map_err(Failure::Exchange),
            Some((link, _)) => link.poll_body(cx, &mut self.body, &mut self.deadline, self.patience),
        };
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.finish(cx);
        }
        match frame {
            Poll::Ready(Some(Err(failure))) => {
                self.held = None;
                self.failed = Some(failure);
                // At an error hyper forgets what it has not sent yet. One more turn, and the client has what there is.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => frame.map_err(Into::into),
        }
    }

    /// The body has ended. If the request has not, the app did not want the rest of it and the connection is dropped.
    fn finish(&mut self, cx: &mut Context<'_>) {
        if let Some((mut link, place)) = self.held.take()
            && link.check(cx) == Fitness::Reusable
        {
            place.0.keep(link);
        }
    }

    /// The bare transport after the app agreed to switch protocols.
    pub(super) fn into_tunnel(self) -> Option<(Io, Bytes, Place)> {
        let (link, place) = self.held?;
        let (io, early) = link.into_tunnel();
        Some((io, early, place))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
