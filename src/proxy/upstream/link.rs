//! One connection to the app.
//!
//! No task drives it: whoever uses it polls it, the request first and the response's body after. So a request crosses no
//! channel between tasks, and a connection that nobody uses costs nothing but its socket.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::bell::Bell;
use super::io::{Io, Transport};
use super::{Counted, Failure};
use crate::proxy::body::{Progress, RequestBody};
use crate::proxy::timer::{Timer, after};

/// A connection to the app, and both ends of hyper's conversation on it.
pub(super) struct Link {
    sender: http1::SendRequest<RequestBody>,
    connection: http1::Connection<TokioIo<Io>, RequestBody>,
    bell: Bell,
    state: State,
    heard: Arc<AtomicBool>,
    timer: Timer,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Ended,
}

/// Whether a link may carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fitness {
    /// Both messages ended cleanly and nothing is left over.
    Reusable,
    /// Something is still under way.
    Busy,
    /// Closed, or not to be trusted any more.
    Spent,
}

impl Link {
    pub(super) async fn open(transport: Transport, counted: Counted, header_bytes_max: usize) -> Result<Self, Failure> {
        let heard = Arc::new(AtomicBool::new(false));
        let io = TokioIo::new(Io::new(transport, counted, heard.clone()));
        let (sender, connection) = http1::Builder::new()
            .max_headers(256)
            .max_header_size(header_bytes_max)
            .max_buf_size(header_bytes_max.max(64 << 10))
            .handshake(io)
            .await
            .map_err(Failure::Exchange)?;
        Ok(Self {
            sender,
            connection,
            bell: Bell::new(),
            state: State::Open,
            heard,
            timer: Timer::default(),
            since: Instant::now(),
        })
    }

    /// Lets the connection do what it can.
    fn drive(&mut self, cx: &Context<'_>) -> Result<(), hyper::Error> {
        self.bell.rings_for(cx.waker());
        if self.state == State::Open
            && let Poll::Ready(ended) = self.connection.poll_without_shutdown(&mut self.bell.context())
        {
            self.state = State::Ended;
            return ended;
        }
        Ok(())
    }

    /// Looks whether it can carry a request now. An idle connection that the app closed, or on which it spoke unasked,
    /// is spent.
    pub(super) fn check(&mut self, cx: &Context<'_>) -> Fitness {
        if self.drive(cx).is_err() || self.state == State::Ended {
            Fitness::Spent
        } else if self.sender.is_ready() {
            Fitness::Reusable
        } else {
            Fitness::Busy
        }
    }

    /// When it was last put aside.
    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// Nobody uses it from now on.
    pub(super) fn put_aside(&mut self, now: Instant) {
        self.bell.rests();
        self.since = now;
    }

    /// Whether both messages have ended, as far as is known without looking at the socket again.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Open && self.sender.is_ready()
    }

    /// Sends the request and waits for the head of the response.
    ///
    /// The request is on its way when this returns, so that the future does not carry it.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Response<Incoming>, Failure>> + Send {
        self.heard.store(false, Ordering::Relaxed);
        let progress = request.body().progress();
        // The connection is polled before the answer is waited for.
        let sending = self.bell.quietly(|| self.sender.send_request(request));
        self.answer(sending, progress, timeout)
    }

    async fn answer(
        &mut self,
        sending: impl Future<Output = hyper::Result<Response<Incoming>>> + Send,
        progress: Option<Arc<Progress>>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let mut counted = 0;
        let mut deadline = after(timeout);
        let mut sending = pin!(sending);
        let answer = poll_fn(|cx| {
            self.bell.rings_for(cx.waker());
            let driven = match self.state {
                State::Open => self.connection.poll_without_shutdown(&mut self.bell.context()),
                State::Ended => Poll::Pending,
            };
            if driven.is_ready() {
                self.state = State::Ended;
            }
            // Only driving the connection can make the answer ready, so nobody needs to be woken for it.
            if let Poll::Ready(answer) = sending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Poll::Ready(answer.map_err(Failure::Exchange));
            }
            match driven {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::Exchange(error))),
                Poll::Ready(Ok(())) => return Poll::Ready(Err(Failure::Ended)),
                Poll::Pending => {}
            }
            while self.timer.poll(cx, deadline).is_ready() {
                let count = progress.as_deref().map_or(0, Progress::count);
                if count == counted {
                    return Poll::Ready(Err(Failure::ResponseTimeout));
                }
                counted = count;
                deadline = after(timeout);
            }
            Poll::Pending
        });
        let is_late = || progress.as_deref().is_some_and(Progress::was_too_slow);
        answer.await.map_err(|failure| if is_late() { Failure::RequestTimeout } else { failure })
    }

    /// Whether the app has sent anything since the request began.
    pub(super) fn was_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// The next frame of a response body. The deadline is where the app's silence becomes too long.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
        deadline: &mut Option<Instant>,
        timeout: Duration,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Failure>>> {
        use http_body::Body;
        let mut quiet = Context::from_waker(Waker::noop());
        let mut failure = None;
        // Asking first tells the connection that more is wanted; then it reads, and what it read is there. It may have
        // read the last octets and the end of everything in one go: the octets come first.
        for turn in 0..3 {
            let mut poll = || Pin::new(&mut *body).poll_frame(&mut quiet);
            if let Poll::Ready(frame) = if turn < 2 { self.bell.quietly(poll) } else { poll() } {
                *deadline = None;
                return Poll::Ready(frame.map(|frame| frame.map_err(Failure::Exchange)));
            }
            if turn < 2 {
                failure = failure.or(self.drive(cx).err());
            }
        }
        if self.state == State::Ended {
            return Poll::Ready(Some(Err(failure.map_or(Failure::Ended, Failure::Exchange))));
        }
        let deadline = *deadline.get_or_insert_with(|| after(timeout));
        self.timer.poll(cx, deadline).map(|()| Some(Err(Failure::ResponseTimeout)))
    }

    /// The bare transport after the app agreed to switch protocols, and what was read beyond its answer.
    pub(super) fn into_tunnel(self) -> (Io, Bytes) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }
}
