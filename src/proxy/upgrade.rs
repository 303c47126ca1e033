//! WebSockets: the only thing a connection may become, and only when both sides agreed (RFC 6455).
//!
//! After that both directions are octets. The tunnel ends with either side, after too long a silence, when its session
//! is cut, and when the proxy drains.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::body::{Busy, ResponseBody};
use crate::proxy::drain::Drain;
use crate::proxy::serve::Session;
use crate::proxy::timer::{Timer, after};
use crate::proxy::upstream::{Io, Place, Stream};
use crate::proxy::{Cut, Gate, wire};

/// Octets held in each direction.
const BUFFER: usize = 8 << 10;

/// What both sides append to the key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Both sides agreed; the driver of the client's connection takes it from here.
#[derive(Debug)]
pub(super) struct Tunnel {
    io: Io,
    early: Bytes,
    /// Kept for its end: a tunnel occupies a place at the app.
    _place: Place,
    cut: Cut,
}

/// Whether the answer agrees to the WebSocket that was asked for with this key, and to nothing else.
pub(super) fn is_agreed(headers: &HeaderMap, key: &HeaderValue) -> bool {
    let only = |name: header::HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values.next();
        if values.next().is_some() { None } else { first }
    };
    let websocket =
        only(header::UPGRADE).is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"));
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    let expected = STANDARD.encode(context.finish());
    websocket && only(header::SEC_WEBSOCKET_ACCEPT).is_some_and(|value| value.as_bytes() == expected.as_bytes())
}

/// The answer to the client, behind which the tunnel begins.
pub(super) fn agree<G: Gate>(
    session: &Arc<Session<G>>,
    mut head: response::Parts,
    stream: Stream,
    cut: Option<Cut>,
    mut busy: Busy,
) -> Response<ResponseBody<G>> {
    let headers = &mut head.headers;
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER] {
        headers.remove(name);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Some((io, early, place)) = stream.into_tunnel() {
        let tunnel = Tunnel { io, early, _place: place, cut: cut.unwrap_or(Cut::never()) };
        *session.tunnel.lock() = Some(Box::new(tunnel));
        busy.agreed();
    }
    Response::from_parts(head, ResponseBody::whole(Bytes::new(), busy))
}

/// Carries octets both ways until something ends it.
pub(super) async fn run(mut client: wire::Transport, early: Bytes, tunnel: Tunnel, idle: Duration, drain: &Drain) {
    let Tunnel { mut io, early: said, _place, cut } = tunnel;
    let mut up = Pipe::new(&early);
    let mut down = Pipe::new(&said);
    let mut timer = Timer::default();
    let mut deadline = after(idle);
    // Its ends may say farewell to each other; what is still open when the drain ends is closed.
    let mut drained = pin!(async {
        drain.begun().await;
        tokio::time::sleep_until(drain.deadline()).await;
    });
    poll_fn(|cx| {
        let before = up.moved + down.moved;
        let (upwards, downwards) = (up.poll(cx, &mut client, &mut io), down.poll(cx, &mut io, &mut client));
        match (upwards, downwards) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) | (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                return Poll::Ready(());
            }
            _ => {}
        }
        if cut.poll_done(cx).is_ready() || drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if up.moved + down.moved != before {
            deadline = after(idle);
        }
        timer.poll(cx, deadline)
    })
    .await;
}

/// One direction.
struct Pipe {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    moved: u64,
    state: Flow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Open,
    /// The sender has finished; the receiver is to be told.
    Ended,
    Told,
}

impl Pipe {
    fn new(early: &[u8]) -> Self {
        let mut buffer = vec![0; BUFFER.max(early.len())];
        if let Some(room) = buffer.get_mut(..early.len()) {
            room.copy_from_slice(early);
        }
        Self { buffer: buffer.into(), start: 0, end: early.len(), moved: 0, state: Flow::Open }
    }

    /// Ready when the sender has finished and the receiver knows.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            while let Some(rest) = self.buffer.get(self.start..self.end)
                && !rest.is_empty()
            {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.start += written;
                self.moved += 1;
            }
            match self.state {
                Flow::Told => return Poll::Ready(Ok(())),
                Flow::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = Flow::Told;
                }
                Flow::Open => {
                    let mut buffer = ReadBuf::new(&mut self.buffer);
                    let read = Pin::new(&mut *from).poll_read(cx, &mut buffer)?;
                    if read.is_pending() {
                        // What was written may lie in a TLS buffer still.
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        return Poll::Pending;
                    }
                    (self.start, self.end) = (0, buffer.filled().len());
                    if self.end == 0 {
                        self.state = Flow::Ended;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_must_match_the_key() {
        // The example of RFC 6455 section 1.3.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, HeaderValue::from_static("WebSocket"));
        assert!(!is_agreed(&headers, &key));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(is_agreed(&headers, &key));
        assert!(!is_agreed(&headers, &HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZg==")));
        headers.append(header::UPGRADE, HeaderValue::from_static("h2c"));
        assert!(!is_agreed(&headers, &key));
    }
}
