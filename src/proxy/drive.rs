//! Drives one client connection: hyper does HTTP, this decides when it is over.
//!
//! There is one timer for all deadlines of a connection. What is being waited for is read off the pulse after each poll,
//! and the clock only when that has changed.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::proxy::drain::Drain;
use crate::proxy::timer::{Timer, after};
use crate::proxy::wire::{Phase, Pulse, Urgency, Wire};
use crate::proxy::{Client, Fault};

/// How long, and for how many octets, a refused client may go on talking, so that it reads its answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 256 << 10;

/// Why a connection is over, apart from hyper saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// hyper has finished, well or not.
    Finished,
    /// The client broke a rule or a deadline, and may be told.
    Fault(Fault),
    /// The client broke a deadline; nothing can be said any more.
    Cut(Fault),
    /// Nothing happened for long enough, or the drain is over.
    Quiet,
}

/// What hyper calls a connection, in either version.
pub(super) trait Conversation {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// Answer what is in hand, and take nothing more.
    fn wind_down(&mut self);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Nothing,
    /// For the first octet of a request.
    Idle,
    /// For the rest of a head.
    Head,
    /// For more of a body.
    Body,
    /// For the client to take its answer.
    Write,
}

/// The deadline of whatever is being waited for.
struct Watch<'a> {
    client: &'a Client,
    pulse: &'a Pulse,
    timer: Timer,
    waiting: Waiting,
    /// Changes when what is waited for has made progress.
    mark: u64,
    since: Instant,
    /// Of the body in hand: time spent waiting, octets moved before that.
    waited: Duration,
    base: u64,
    body: (Waiting, u32),
    /// Since when no request has come, and after which one. A PING in two pieces looks like the beginning of a head, and
    /// must not make the wait begin anew.
    idle: (u64, Instant),
    /// When to look for streams that the client does not take.
    stalls: Timer,
    next_look: Instant,
}

impl<'a> Watch<'a> {
    fn new(client: &'a Client, pulse: &'a Pulse) -> Self {
        Self {
            client,
            pulse,
            timer: Timer::default(),
            waiting: Waiting::Nothing,
            mark: 0,
            since: Instant::now(),
            waited: Duration::ZERO,
            base: 0,
            body: (Waiting::Nothing, 0),
            idle: (u64::MAX, Instant::now()),
            stalls: Timer::default(),
            next_look: Instant::now(),
        }
    }

    fn look(&self) -> (Waiting, u64) {
        let pulse = self.pulse;
        if pulse.blocked.load(Relaxed) {
            return (Waiting::Write, pulse.written.load(Relaxed));
        }
        match pulse.phase() {
            Phase::Body if pulse.reading.load(Relaxed) => (Waiting::Body, pulse.read.load(Relaxed)),
            Phase::Head if pulse.due() == 0 => (Waiting::Head, u64::from(pulse.heads())),
            Phase::Between if pulse.due() == 0 => (Waiting::Idle, u64::from(pulse.heads())),
            _ => (Waiting::Nothing, 0),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let (waiting, mark) = self.look();
        if (waiting, mark) != (self.waiting, self.mark) {
            self.turn(waiting, mark);
            if self.is_too_slow() {
                return Poll::Ready(self.end());
            }
        }
        let timeouts = &self.client.timeouts;
        let span = match self.waiting {
            Waiting::Nothing => return Poll::Pending,
            Waiting::Idle => timeouts.idle,
            Waiting::Head => timeouts.header,
            Waiting::Body | Waiting::Write => timeouts.body,
        };
        let deadline = self.since.checked_add(span).unwrap_or(self.since);
        self.timer.poll(cx, deadline).map(|()| self.end())
    }

    /// Something else is waited for, or what was waited for has made progress.
    fn turn(&mut self, waiting: Waiting, mark: u64) {
        let now = Instant::now();
        let paced = |waiting| matches!(waiting, Waiting::Body | Waiting::Write);
        if paced(self.waiting) {
            self.waited += now.duration_since(self.since);
        }
        let body = (waiting, self.pulse.heads());
        // In between there may be moments in which nothing is waited for: they are on us.
        if paced(waiting) && self.body != body {
            (self.waited, self.base, self.body) = (Duration::ZERO, mark, body);
        }
        (self.waiting, self.mark, self.since) = (waiting, mark, now);
        if waiting == Waiting::Idle {
            if self.idle.0 != mark {
                self.idle = (mark, now);
            }
            self.since = self.idle.1;
        }
    }

    /// Whether a stream of HTTP/2 has been left untaken for too long. The others of its connection may be well.
    fn is_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let span = self.client.timeouts.body;
        if self.pulse.due() == 0 || !self.pulse.has_streams() || self.stalls.poll(cx, self.next_look).is_pending() {
            return false;
        }
        let now = Instant::now();
        self.next_look = after(span / 2);
        // Not ready yet, and so enlisted for the next look.
        self.stalls.poll(cx, self.next_look).is_pending() && self.pulse.is_stalled(now, span)
    }

    fn is_too_slow(&self) -> bool {
        matches!(self.waiting, Waiting::Body | Waiting::Write)
            && self.client.limits.is_too_slow(self.mark.wrapping_sub(self.base), self.waited)
    }

    fn end(&self) -> End {
        match self.waiting {
            Waiting::Idle | Waiting::Nothing => End::Quiet,
            Waiting::Head => End::Fault(Fault::HeaderTimeout),
            Waiting::Body => End::Fault(Fault::BodyTimeout),
            Waiting::Write => End::Cut(Fault::WriteTimeout),
        }
    }
}

/// Runs the conversation to its end.
pub(super) async fn drive(conversation: &mut impl Conversation, pulse: &Pulse, client: &Client, drain: &Drain) -> End {
    let mut watch = Watch::new(client, pulse);
    let mut last_call = Timer::default();
    let mut until = None;
    let mut stalled = false;
    let mut draining = pin!(drain.begun());
    // Registers this task once; afterwards a flag tells whether it is worth asking again.
    let mut begun = poll_fn(|cx| Poll::Ready(draining.as_mut().poll(cx).is_ready())).await;
    poll_fn(|cx| {
        if until.is_none() && (begun || drain.has_begun()) {
            begun = true;
            conversation.wind_down();
            until = Some(drain.deadline());
        }
        if conversation.poll(cx).is_ready() {
            return Poll::Ready(End::Finished);
        }
        if let Some((fault, urgency)) = pulse.fault() {
            let answered = pulse.due() == 0 && !pulse.blocked.load(Relaxed);
            if urgency == Urgency::Now || answered {
                return Poll::Ready(End::Fault(fault));
            }
        }
        if pulse.is_cut() {
            return Poll::Ready(End::Quiet);
        }
        if until.is_none() && watch.is_stalled(cx) {
            // New streams go elsewhere; those that are well have as long again to finish.
            conversation.wind_down();
            stalled = true;
            until = Some(after(client.timeouts.body));
        }
        if let Some(until) = until
            && last_call.poll(cx, until).is_ready()
        {
            return Poll::Ready(if stalled { End::Cut(Fault::WriteTimeout) } else { End::Quiet });
        }
        watch.poll(cx)
    })
    .await
}

/// What a client is told when the parser never saw its request.
pub(super) const fn raw_answer(fault: Fault) -> &'static [u8] {
    macro_rules! answer {
        ($status:literal) => {
            concat!(
                "HTTP/1.1 ",
                $status,
                "\r\nConnection: close\r\nContent-Length: 0\r\nCache-Control: no-store\r\n\r\n"
            )
            .as_bytes()
        };
    }
    match fault {
        Fault::UriTooLong => answer!("414 URI Too Long"),
        Fault::HeadersTooLarge => answer!("431 Request Header Fields Too Large"),
        Fault::HeaderTimeout | Fault::BodyTimeout => answer!("408 Request Timeout"),
        Fault::UnsupportedCoding => answer!("501 Not Implemented"),
        _ => answer!("400 Bad Request"),
    }
}

/// Says one last thing and closes so that the client can read it: a close with unread octets would be a reset, and a
/// reset may overtake the answer.
pub(super) async fn part(mut wire: Wire, last: &[u8]) {
    wire.stop();
    let parting = async {
        if !last.is_empty() {
            wire.write_all(last).await?;
        }
        wire.shutdown().await?;
        let mut transport = wire.into_transport();
        let mut sink = [0; 4096];
        let mut left = LINGER_OCTETS;
        while left > 0 {
            match transport.read(&mut sink).await? {
                0 => break,
                octets => left = left.saturating_sub(octets),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // However it ends, the connection is gone.
    drop(tokio::time::timeout(LINGER, parting).await);
}
