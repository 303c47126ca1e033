//! Bodies on their way through: never gathered, at most peeked at.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::UPGRADE;
use http::{HeaderMap, Request, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::proxy::serve::{Protocol, Session};
use crate::proxy::upstream::Stream;
use crate::proxy::wire::{Outcome, Pulse, Uptake};
use crate::proxy::{Cut, Gate, Towards, trailers};

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
    /// Who is asked about trailers; absent where there can be none.
    watcher: Option<Arc<dyn TrailerWatcher>>,
}

/// The gate, as far as trailers go: a request's body does not know which gate there is.
pub(super) trait TrailerWatcher: Send + Sync {
    fn trailers(&self, trailers: &mut HeaderMap);
}

impl<G: Gate> TrailerWatcher for Session<G> {
    fn trailers(&self, trailers: &mut HeaderMap) {
        self.shared.gate.trailers(Towards::App, trailers);
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody").field("peeked", &self.peeked.len()).finish_non_exhaustive()
    }
}

/// Counts frames, so that a timer can tell a slow upload from a silent app.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU32);

impl Progress {
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
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
    pub(super) fn new<G: Gate>(incoming: Incoming, session: &Arc<Session<G>>) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let watcher: Arc<dyn TrailerWatcher> = session.clone();
        Self { rest: Some(incoming), progress: Some(Arc::default()), watcher: Some(watcher), ..Self::empty() }
    }

    /// No body at all.
    pub fn empty() -> Self {
        Self { peeked: BytesMut::new(), trailers: None, rest: None, progress: None, watcher: None }
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
    /// When the client broke off, or sent what is not HTTP.
    pub async fn peek(&mut self, limit: usize, out: &mut Vec<u8>) -> Result<Extent, PeekError> {
        while self.peeked.len() <= limit {
            let Some(rest) = &mut self.rest else { break };
            match rest.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.peeked.extend_from_slice(&data),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) => return Err(PeekError(error)),
                None => self.rest = None,
            }
            if self.rest.as_ref().is_some_and(Body::is_end_stream) {
                self.rest = None;
            }
        }
        out.extend_from_slice(self.peeked.get(..limit).unwrap_or(&self.peeked));
        Ok(if self.rest.is_none() && self.peeked.len() <= limit { Extent::Whole } else { Extent::Beginning })
    }

    fn pass(&self, mut frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(trailers) = frame.trailers_mut() {
            trailers::clean(trailers);
            if let Some(watcher) = &self.watcher {
                watcher.trailers(trailers);
            }
        }
        frame
    }
}

/// The client broke its body off.
#[derive(Debug, thiserror::Error)]
#[error("the request body broke off")]
pub struct PeekError(#[source] hyper::Error);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(progress) = &self.progress {
            progress.0.fetch_add(1, Ordering::Relaxed);
        }
        if !self.peeked.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.peeked.split().freeze()))));
        }
        let Some(rest) = &mut self.rest else {
            let trailers = self.trailers.take().map(Frame::trailers);
            return Poll::Ready(trailers.map(|frame| Ok(self.pass(frame))));
        };
        let frame = ready!(Pin::new(rest).poll_frame(cx));
        if frame.is_none() {
            self.rest = None;
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| self.pass(frame)).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.peeked.is_empty() && self.trailers.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
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
            let cut = session.shared.gate.tether(tether);
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
                    session.shared.gate.trailers(Towards::Client, trailers);
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
