//! Bodies on their way through: never gathered, at most peeked at.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::UPGRADE;
use http::{HeaderMap, Request, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::engine::outlive::Full;
use crate::limit::ClientKey;
use crate::proxy::pace::{Pace, TooSlow};
use crate::proxy::room::Room;
use crate::proxy::serve::{Protocol, Session};
use crate::proxy::upstream::Stream;
use crate::proxy::wire::{Outcome, Pulse, Uptake};
use crate::proxy::{Client, Cut, Fault, Gate, Towards, trailers};

/// What broke a body on its way.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body on its way to the app. The gate may look at its beginning.
pub struct RequestBody {
    /// What was looked at, to be sent on first. In one piece: a body in chunks of one octet must not cost more.
    peeked: BytesMut,
    /// The trailers, where looking reached them.
    trailers: Option<HeaderMap>,
    rest: Option<Incoming>,
    progress: Option<Arc<Progress>>,
    /// Of HTTP/2 only; in HTTP/1 the driver of the connection sees to it.
    pace: Option<Box<Pace>>,
    /// Absent where there is no body.
    whose: Option<Arc<dyn Whose>>,
    client: ClientKey,
    /// What is held of the room for peeks.
    held: Option<Held>,
}

/// The connection that a body comes over: the body does not know which gate there is.
trait Whose: Send + Sync {
    fn trailers(&self, trailers: &mut HeaderMap);
    fn fault(&self, fault: Fault);
    /// Room for what is looked at, and how much there may be in all.
    fn room(&self) -> (&Room, usize);
}

impl<G: Gate> Whose for Session<G> {
    fn trailers(&self, trailers: &mut HeaderMap) {
        self.worker.gate.trailers(Towards::App, trailers);
    }

    fn fault(&self, fault: Fault) {
        Self::fault(self, fault);
    }

    fn room(&self) -> (&Room, usize) {
        (&self.worker.peeks, self.worker.settings.load().client.limits.peeked_bytes_max)
    }
}

/// Room that is taken, given back when dropped.
struct Held {
    whose: Arc<dyn Whose>,
    client: ClientKey,
    octets: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.whose.room().0.give_back(self.client, self.octets);
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody").field("peeked", &self.peeked.len()).finish_non_exhaustive()
    }
}

/// Counts frames, so that a timer can tell a slow upload from a silent app.
#[derive(Debug, Default)]
pub(super) struct Progress {
    frames: AtomicU32,
    too_slow: AtomicBool,
}

impl Progress {
    pub(super) fn count(&self) -> u32 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Whether the exchange broke off because the client was too slow.
    pub(super) fn was_too_slow(&self) -> bool {
        self.too_slow.load(Ordering::Relaxed)
    }
}

/// What [`RequestBody::peek`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The whole body.
    Whole,
    /// Its beginning: there is more than the limit.
    Beginning,
}

impl RequestBody {
    pub(super) fn new<G: Gate>(incoming: Incoming, session: &Arc<Session<G>>, client: &Client) -> Self {
        if is_at_end(&incoming) {
            return Self::empty();
        }
        let whose: Arc<dyn Whose> = session.clone();
        let pace = (session.protocol == Protocol::Http2).then(|| Box::new(Pace::new(client)));
        Self { rest: Some(incoming), progress: Some(Arc::default()), pace, whose: Some(whose), ..Self::empty() }
    }

    /// No body at all.
    pub fn empty() -> Self {
        Self {
            peeked: BytesMut::new(),
            trailers: None,
            rest: None,
            progress: None,
            pace: None,
            whose: None,
            client: ClientKey::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            held: None,
        }
    }

    /// Who sent it, after trusted proxies: what is held of it counts for him.
    pub(super) fn sent_by(&mut self, client: IpAddr) {
        self.client = ClientKey::new(client);
    }

    /// Whether there is no body at all.
    pub fn is_empty(&self) -> bool {
        self.rest.is_none() && self.peeked.is_empty() && self.trailers.is_none()
    }

    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        self.progress.clone()
    }

    /// Reads until `limit` octets are there or the body has ended, and copies up to `limit` of them to `out`. The app
    /// still gets all of it. A client that waits for `100 Continue` is told to continue.
    ///
    /// # Errors
    /// When the client broke off, sent what is not HTTP or sent too slowly, and when there is no room for more.
    pub async fn peek(&mut self, limit: usize, out: &mut Vec<u8>) -> Result<Extent, PeekError> {
        while self.peeked.len() <= limit {
            match poll_fn(|cx| self.poll_rest(cx)).await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.hold(self.peeked.len().saturating_add(data.len()))?;
                        self.peeked.extend_from_slice(&data);
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) if error.is::<TooSlow>() => return Err(PeekError::TooSlow),
                Some(Err(error)) => return Err(PeekError::BrokeOff(error)),
                None => break,
            }
        }
        out.extend_from_slice(self.peeked.get(..limit).unwrap_or(&self.peeked));
        Ok(if self.rest.is_none() && self.peeked.len() <= limit { Extent::Whole } else { Extent::Beginning })
    }

    /// Takes room for so many octets in all.
    fn hold(&mut self, octets: usize) -> Result<(), PeekError> {
        let Some(whose) = &self.whose else { return Ok(()) };
        let held = self.held.get_or_insert_with(|| Held { whose: whose.clone(), client: self.client, octets: 0 });
        let (room, max) = whose.room();
        match room.grow(held.client, held.octets, octets, max) {
            Ok(octets) => {
                held.octets = octets;
                Ok(())
            }
            Err(Full) => {
                whose.fault(Fault::PeeksFull);
                Err(PeekError::Full)
            }
        }
    }

    /// The next frame of what has not been looked at. When there is no other, `rest` is gone.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let frame = Pin::new(&mut *rest).poll_frame(cx).map_err(BodyError::from);
        let frame = match &mut self.pace {
            None => ready!(frame),
            Some(pace) => {
                let paced = match frame {
                    Poll::Pending => Err(ready!(pace.poll_late(cx))),
                    Poll::Ready(Some(Ok(frame))) => {
                        let octets = frame.data_ref().map_or(0, Bytes::len);
                        pace.came(octets).map(|()| Some(Ok(frame)))
                    }
                    // hyper takes a reset without an error for an end; to the app it would be one.
                    Poll::Ready(None) if !is_at_end(rest) => Ok(Some(Err(WasReset.into()))),
                    Poll::Ready(other) => Ok(other),
                };
                paced.unwrap_or_else(|late| {
                    self.tell_too_slow();
                    Some(Err(late.into()))
                })
            }
        };
        if frame.as_ref().is_none_or(Result::is_err) || self.rest.as_ref().is_some_and(Body::is_end_stream) {
            self.rest = None;
        }
        Poll::Ready(frame)
    }

    fn tell_too_slow(&self) {
        if let Some(progress) = &self.progress {
            progress.too_slow.store(true, Ordering::Relaxed);
        }
        if let Some(whose) = &self.whose {
            whose.fault(Fault::BodyTimeout);
        }
    }

    fn pass(&self, mut frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(trailers) = frame.trailers_mut() {
            trailers::clean(trailers);
            if let Some(whose) = &self.whose {
                whose.trailers(trailers);
            }
        }
        frame
    }
}

/// Whether all of a body has come. One of HTTP/2 whose declared length is there has, whatever the client does to the stream
/// afterwards.
fn is_at_end(body: &Incoming) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

/// The client took its request back.
#[derive(Debug, thiserror::Error)]
#[error("the stream was reset before its body had ended")]
struct WasReset;

/// The beginning of a body can not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeekError {
    /// The client broke its body off.
    #[error("the request body broke off")]
    BrokeOff(#[source] BodyError),
    /// The client stalled, or sent slower than the least rate.
    #[error("the request body came too slowly")]
    TooSlow,
    /// What other clients are slow to send takes all the room there is.
    #[error("there is no room to wait for the request body")]
    Full,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(progress) = &self.progress {
            progress.frames.fetch_add(1, Ordering::Relaxed);
        }
        if !self.peeked.is_empty() {
            self.held = None;
            return Poll::Ready(Some(Ok(Frame::data(self.peeked.split().freeze()))));
        }
        if self.rest.is_none() {
            let trailers = self.trailers.take().map(Frame::trailers);
            return Poll::Ready(trailers.map(|frame| Ok(self.pass(frame))));
        }
        let frame = ready!(self.poll_rest(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| self.pass(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.peeked.is_empty() && self.trailers.is_none() && self.rest.as_ref().is_none_or(is_at_end)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(self.peeked.len() as u64));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(self.peeked.len() as u64));
        }
        hint
    }
}

/// Held while a request is under way; dropped when its answer has been handed over to the last octet.
pub(super) struct Busy {
    pulse: Arc<Pulse>,
    upgrade: Upgrade,
}

/// Whether the wire holds its breath for this request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    No,
    Undecided,
    Decided,
}

impl Busy {
    pub(super) fn new<G: Gate>(session: &Session<G>, request: &Request<Incoming>) -> Self {
        let pulse = session.pulse.clone();
        if session.protocol == Protocol::Http2 {
            pulse.begin();
        }
        // The same condition under which the wire waits behind a head.
        let held = session.protocol == Protocol::Http1
            && request.version() == Version::HTTP_11
            && request.body().is_end_stream()
            && request.headers().contains_key(UPGRADE);
        Self { pulse, upgrade: if held { Upgrade::Undecided } else { Upgrade::No } }
    }
}

impl Busy {
    /// The upgrade was agreed: behind the answer, HTTP ends.
    pub(super) fn agreed(&mut self) {
        self.upgrade = Upgrade::Decided;
        self.pulse.decide(Outcome::Agreed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.upgrade == Upgrade::Undecided {
            self.pulse.decide(Outcome::Refused);
        }
        self.pulse.end();
    }
}

/// A response's body on its way to the client.
pub(super) struct ResponseBody<G: Gate> {
    source: Source,
    /// Kept for its end.
    _busy: Busy,
    tether: Tether<G>,
    session: Option<Arc<Session<G>>>,
    /// Octets so far.
    passed: usize,
    /// HTTP/2 only, and only once there is more than a frame.
    uptake: Option<Arc<Uptake>>,
}

impl<G: Gate> ResponseBody<G> {
    fn handed(&mut self) {
        if self.uptake.is_none()
            && let Some(session) = self.session.as_ref().filter(|session| session.protocol == Protocol::Http2)
            && !self.is_end_stream()
        {
            self.uptake = Some(session.pulse.add_stream());
        }
        if let Some(uptake) = &self.uptake {
            uptake.handed();
        }
    }
}

/// From how many octets on an answer may take its time to go out.
const LONG: usize = 64 << 10;

enum Source {
    /// An answer of ours.
    Whole(Option<Bytes>),
    /// The app's.
    Stream(Stream),
}

/// What can cut a response. Most responses are over before anything needs to be able to.
enum Tether<G: Gate> {
    None,
    Loose(G::Tether),
    Held(Cut),
}

impl<G: Gate> ResponseBody<G> {
    pub(super) fn whole(bytes: Bytes, busy: Busy) -> Self {
        let bytes = if bytes.is_empty() { None } else { Some(bytes) };
        Self { source: Source::Whole(bytes), _busy: busy, tether: Tether::None, session: None, passed: 0, uptake: None }
    }

    pub(super) fn stream(stream: Stream, tether: Option<G::Tether>, session: &Arc<Session<G>>, busy: Busy) -> Self {
        let tether = tether.map_or(Tether::None, Tether::Loose);
        Self {
            source: Source::Stream(stream),
            _busy: busy,
            tether,
            session: Some(session.clone()),
            passed: 0,
            uptake: None,
        }
    }
}

impl<G: Gate> Tether<G> {
    /// Asks whether the response is to be cut, and from now on is woken when it is.
    fn poll_cut(&mut self, cx: &mut Context<'_>, session: Option<&Session<G>>) -> Poll<()> {
        if let Self::Loose(_) = self
            && let Some(session) = session
            && let Self::Loose(tether) = std::mem::replace(self, Self::None)
        {
            let cut = session.worker.gate.tether(tether);
            if session.protocol == Protocol::Http1 {
                session.pulse.set_cut(Some(cut.share()));
            }
            *self = Self::Held(cut);
        }
        match self {
            Self::Held(cut) => cut.poll_done(cx),
            _ => Poll::Pending,
        }
    }
}

/// The session of this response has ended.
#[derive(Debug, thiserror::Error)]
#[error("the response was cut: its session has ended")]
struct WasCut;

impl<G: Gate> Body for ResponseBody<G> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(uptake) = &this.uptake {
            uptake.taken();
        }
        if let Tether::Held(cut) = &this.tether
            && cut.is_done()
        {
            return Poll::Ready(Some(Err(WasCut.into())));
        }
        let frame = match &mut this.source {
            Source::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Stream(stream) => stream.poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            this.passed = this.passed.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            this.handed();
        }
        let lasts = frame.is_pending() || this.passed > LONG;
        if lasts && this.tether.poll_cut(cx, this.session.as_deref()).is_ready() {
            return Poll::Ready(Some(Err(WasCut.into())));
        }
        frame.map_ok(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                trailers::clean(trailers);
                if let Some(session) = &this.session {
                    session.worker.gate.trailers(Towards::Client, trailers);
                }
            }
            frame
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(bytes) => bytes.is_none(),
            Source::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Stream(stream) => stream.size_hint(),
        }
    }
}
