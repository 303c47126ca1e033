//! The client's socket as hyper sees it: everything that comes through has been checked.
//!
//! hyper asks for octets, the transport reads them into hyper's own buffer, and the scanner looks at them there before
//! hyper does. At a fault the rest is cut off and nothing more is read; whoever drives the connection finds the fault in
//! the [`Pulse`] and ends it. The pulse also tells the driver what is being waited for, so that one timer is enough.

mod frames;
mod scan;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use self::frames::Frames;
pub(super) use self::scan::digits;
use self::scan::{Place, Scanner};
use crate::connection::Connection;
use crate::connection::http2::{Opening, Seen};
use crate::proxy::tap::Tap;
use crate::proxy::worker::Load;
use crate::proxy::{Cut, Fault, Limits, gather};

/// What the client speaks over.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<Tap<TcpStream>>>),
}

#[derive(Debug)]
enum Reader {
    Http1(Box<Scanner>),
    Http2(Box<Streams>),
    /// After a fault: nothing is read any more.
    Stopped,
}

/// What is followed of HTTP/2.
#[derive(Debug)]
struct Streams {
    frames: Frames,
    /// Until the first head is there, and whose print it is.
    opening: Option<Box<(Opening, Arc<Connection>)>>,
}

impl Streams {
    /// Looks for the print. It is there before the parser sees the request that completes it.
    fn open(&mut self, octets: &[u8]) {
        let Some(looking) = &mut self.opening else { return };
        let (opening, connection) = &mut **looking;
        match opening.feed(octets) {
            Seen::More => return,
            Seen::Print(print) => connection.see_http2(print),
            Seen::Nothing => {}
        }
        self.opening = None;
    }
}

/// The client's socket with the checks in it.
#[derive(Debug)]
pub(super) struct Wire {
    transport: Transport,
    reader: Reader,
    pulse: Arc<Pulse>,
}

/// What the client side is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing of the next request is there yet.
    Between = 0,
    /// A head has begun.
    Head = 1,
    /// A body is coming.
    Body = 2,
    /// An upgrade is being asked for.
    Held = 3,
    /// No longer HTTP.
    Tunnel = 4,
}

/// When a fault ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// At once: the request in hand is broken.
    Now,
    /// When the requests before it have been answered.
    AfterAnswers,
}

/// The state of one client connection, written by the wire, the requests and the responses, read by the driver. Each
/// field has one writer and stands for itself; nothing is inferred from the order of two.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    phase: AtomicU8,
    /// The wire waits for octets that hyper has asked for.
    pub(super) reading: AtomicBool,
    /// The client does not take what we have for it.
    pub(super) blocked: AtomicBool,
    /// Octets have gone out since the last head came in.
    pub(super) answering: AtomicBool,
    /// Octets read, octets written.
    pub(super) read: AtomicU64,
    pub(super) written: AtomicU64,
    /// How often octets were asked for.
    reads: AtomicU32,
    /// Requests begun, and ended with their answers.
    heads: AtomicU32,
    answered: AtomicU32,
    /// Requests of HTTP/2 whose head came whole, and those that hyper handed over.
    opened: AtomicU32,
    handed: AtomicU32,
    fault: Mutex<Option<(Fault, Urgency)>>,
    faulty: AtomicBool,
    held: Mutex<Held>,
    /// What can cut the answer that is going out, where there is only one at a time.
    cut: Mutex<Option<Cut>>,
    cuttable: AtomicBool,
    streams: Mutex<Vec<Weak<Uptake>>>,
    streaming: AtomicBool,
    /// Where the streams of HTTP/2 count.
    load: Option<Arc<Load>>,
}

/// How the client takes one stream of HTTP/2: hyper asks its body for more only when there is room in its window.
#[derive(Debug, Default)]
pub(super) struct Uptake(Mutex<Option<Instant>>);

impl Uptake {
    /// Something was handed over, and hyper has not come back for more.
    pub(super) fn handed(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// The client has taken it.
    pub(super) fn taken(&self) {
        *self.0.lock() = None;
    }
}

/// The outcome of an upgrade request, and who waits for it.
#[derive(Debug, Default)]
struct Held {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// What became of an upgrade request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Agreed,
    Refused,
}

/// What came in over HTTP/2 so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intake {
    pub(super) reads: u32,
    pub(super) opened: u32,
    pub(super) handed: u32,
}

impl Pulse {
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Between,
            1 => Phase::Head,
            2 => Phase::Body,
            3 => Phase::Held,
            _ => Phase::Tunnel,
        }
    }

    /// Requests that came in and are not answered to the end.
    pub(super) fn due(&self) -> u32 {
        self.heads.load(Relaxed).wrapping_sub(self.answered.load(Relaxed))
    }

    pub(super) fn heads(&self) -> u32 {
        self.heads.load(Relaxed)
    }

    /// Of a connection of HTTP/2.
    pub(super) fn of_streams(load: &Arc<Load>) -> Self {
        Self { load: Some(load.clone()), ..Self::default() }
    }

    /// A request that was not counted when its head came in: HTTP/2.
    pub(super) fn begin(&self) {
        self.heads.fetch_add(1, Relaxed);
        if let Some(load) = &self.load {
            load.more();
        }
    }

    /// hyper has handed a request of HTTP/2 over.
    pub(super) fn hand(&self) {
        self.handed.fetch_add(1, Relaxed);
    }

    /// How often octets were asked for; requests of HTTP/2 that came, and that were handed over.
    pub(super) fn intake(&self) -> Intake {
        Intake { reads: self.reads.load(Relaxed), opened: self.opened.load(Relaxed), handed: self.handed.load(Relaxed) }
    }

    pub(super) fn end(&self) {
        self.answered.fetch_add(1, Relaxed);
        if let Some(load) = &self.load {
            load.less();
        }
        if self.cuttable.load(Relaxed) {
            self.set_cut(None);
        }
    }

    pub(super) fn add_stream(&self) -> Arc<Uptake> {
        let uptake = Arc::default();
        self.streams.lock().push(Arc::downgrade(&uptake));
        self.streaming.store(true, Relaxed);
        uptake
    }

    pub(super) fn has_streams(&self) -> bool {
        self.streaming.load(Relaxed)
    }

    /// Whether a stream has been left untaken for so long. There are never more than the streams of one connection.
    pub(super) fn is_stalled(&self, now: Instant, span: Duration) -> bool {
        let mut streams = self.streams.lock();
        streams.retain(|stream| stream.strong_count() > 0);
        let since = |stream: Arc<Uptake>| *stream.0.lock();
        streams.iter().filter_map(Weak::upgrade).filter_map(since).any(|since| now.duration_since(since) >= span)
    }

    pub(super) fn set_cut(&self, cut: Option<Cut>) {
        self.cuttable.store(cut.is_some(), Relaxed);
        *self.cut.lock() = cut;
    }

    /// Whether the answer that is going out has been cut. hyper would not ask its body while the client does not read.
    pub(super) fn is_cut(&self) -> bool {
        self.cuttable.load(Relaxed) && self.cut.lock().as_ref().is_some_and(Cut::is_done)
    }

    pub(super) fn fault(&self) -> Option<(Fault, Urgency)> {
        if self.faulty.load(Relaxed) { *self.fault.lock() } else { None }
    }

    fn set_fault(&self, fault: Fault, urgency: Urgency) {
        *self.fault.lock() = Some((fault, urgency));
        self.faulty.store(true, Relaxed);
    }

    /// Tells the wire what became of the upgrade request it holds.
    pub(super) fn decide(&self, outcome: Outcome) {
        let mut held = self.held.lock();
        held.outcome = Some(outcome);
        if let Some(waker) = held.waker.take() {
            waker.wake();
        }
    }
}

impl Wire {
    pub(super) fn http1(transport: Transport, limits: &Limits, pulse: Arc<Pulse>) -> Self {
        Self { transport, reader: Reader::Http1(Box::new(Scanner::new(limits))), pulse }
    }

    pub(super) fn http2(
        transport: Transport,
        limits: &Limits,
        pulse: Arc<Pulse>,
        connection: &Arc<Connection>,
    ) -> Self {
        let opening = Some(Box::new((Opening::default(), connection.clone())));
        let streams = Streams { frames: Frames::new(limits), opening };
        Self { transport, reader: Reader::Http2(Box::new(streams)), pulse }
    }

    /// Nothing more is read for hyper.
    pub(super) fn stop(&mut self) {
        self.reader = Reader::Stopped;
    }

    pub(super) fn into_transport(self) -> Transport {
        self.transport
    }

    /// Looks at what was read and returns how much of it hyper may see.
    fn check(&mut self, octets: &[u8]) -> usize {
        let pulse = &self.pulse;
        let passed = match &mut self.reader {
            Reader::Http1(scanner) => {
                let passed = scanner.feed(octets);
                let phase = match scanner.place() {
                    Place::Between => Phase::Between,
                    Place::Head => Phase::Head,
                    Place::Body => Phase::Body,
                    Place::Held => Phase::Held,
                    Place::Tunnel => Phase::Tunnel,
                };
                pulse.phase.store(phase as u8, Relaxed);
                if pulse.heads.load(Relaxed) != scanner.heads() {
                    pulse.heads.store(scanner.heads(), Relaxed);
                    pulse.answering.store(false, Relaxed);
                }
                let urgency =
                    if matches!(phase, Phase::Body | Phase::Held) { Urgency::Now } else { Urgency::AfterAnswers };
                passed.fault.map(|fault| (fault, urgency, passed.octets))
            }
            Reader::Http2(streams) => {
                streams.open(octets);
                let frames = &mut streams.frames;
                let seen = frames.feed(octets, pulse.written.load(Relaxed));
                let phase = if frames.is_partial() { Phase::Head } else { Phase::Between };
                pulse.phase.store(phase as u8, Relaxed);
                pulse.opened.store(frames.opened(), Relaxed);
                seen.err().map(|fault| (fault, Urgency::Now, 0))
            }
            Reader::Stopped => None,
        };
        let Some((fault, urgency, passed)) = passed else { return octets.len() };
        pulse.set_fault(fault, urgency);
        self.reader = Reader::Stopped;
        passed
    }

    /// Whether reading must wait: after a fault for ever, behind an upgrade request until it is answered.
    fn poll_may_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Reader::Http1(scanner) = &mut self.reader else {
            return if matches!(self.reader, Reader::Stopped) { Poll::Pending } else { Poll::Ready(()) };
        };
        if scanner.place() != Place::Held {
            return Poll::Ready(());
        }
        let mut held = self.pulse.held.lock();
        match held.outcome.take() {
            None => {
                held.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Some(Outcome::Agreed) => scanner.tunnel(),
            Some(Outcome::Refused) => scanner.resume(),
        }
        Poll::Ready(())
    }

    fn wrote(&self, wrote: &Poll<io::Result<usize>>) {
        match wrote {
            Poll::Ready(Ok(octets)) => {
                let octets = u64::try_from(*octets).unwrap_or(u64::MAX);
                self.pulse.written.store(self.pulse.written.load(Relaxed).wrapping_add(octets), Relaxed);
                self.pulse.blocked.store(false, Relaxed);
                self.pulse.answering.store(true, Relaxed);
            }
            Poll::Pending => self.pulse.blocked.store(true, Relaxed),
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(&mut **io).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_may_read(cx));
        if matches!(this.reader, Reader::Http2(_)) {
            this.pulse.reads.fetch_add(1, Relaxed);
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.transport).poll_read(cx, buf);
        this.pulse.reading.store(read.is_pending(), Relaxed);
        ready!(read)?;
        let octets = buf.filled().get(before..).unwrap_or_default();
        if octets.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let count = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        this.pulse.read.store(this.pulse.read.load(Relaxed).wrapping_add(count), Relaxed);
        let all = octets.len();
        let passed = this.check(octets);
        if passed == all {
            return Poll::Ready(Ok(()));
        }
        buf.set_filled(before + passed);
        // No octets would mean the end of the stream, and that is not what happened.
        if passed == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(&mut **io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => gather::poll_write(Pin::new(io), cx, bufs),
            Self::Tls(io) => gather::poll_write(Pin::new(&mut **io), cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(&mut **io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(&mut **io).poll_shutdown(cx),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.transport).poll_write(cx, buf);
        this.wrote(&wrote);
        wrote
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.transport).poll_write_vectored(cx, bufs);
        this.wrote(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}
