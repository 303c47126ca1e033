//! A socket that keeps what is read from it first, until somebody has looked at it, and tells how long the last answer took.
//!
//! It lies under TLS, where the `ClientHello` must be seen as it was sent: rustls tells of it less than a print needs, and to
//! peek at the socket would be a busy loop, since the hello of a browser is longer than a segment. What rustls reads is
//! copied on the way; when it is taken, the copy is given up, and what remains for the life of the connection is a branch.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A stream whose first octets are kept.
#[derive(Debug)]
pub(super) struct Tap<S> {
    stream: S,
    kept: Option<Box<Kept>>,
    pace: Option<Box<Pace>>,
}

/// How long the last answer took.
#[derive(Debug, Default)]
struct Pace {
    said: Option<Instant>,
    answer: Option<Answer>,
}

/// What came after our last octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// From those to the last of the answer that was read.
    pub(super) took: Duration,
    /// When that was.
    pub(super) heard: Instant,
}

#[derive(Debug)]
struct Kept {
    octets: Vec<u8>,
    max: usize,
}

impl<S> Tap<S> {
    /// Keeps as many octets as this at most. Of more than that the beginning is kept.
    pub(super) fn new(stream: S, max: usize) -> Self {
        Self { stream, kept: Some(Box::new(Kept { octets: Vec::new(), max })), pace: None }
    }

    /// What was read so far. From now on nothing is kept.
    pub(super) fn take_kept(&mut self) -> Vec<u8> {
        self.kept.take().map(|kept| kept.octets).unwrap_or_default()
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Some(pace), Poll::Ready(Ok(1..))) = (&mut self.pace, &written) {
            pace.said = Some(Instant::now());
        }
        written
    }
}

#[cfg_attr(not(all(feature = "relay-rtt", target_os = "linux")), expect(dead_code, reason = "nothing is measured"))]
impl<S> Tap<S> {
    /// From now on it is measured how long answers take. Not the shortest one counts but the last, to its last octets: what
    /// comes first in a handshake can be sent without waiting for us, and a `Finished` can not.
    pub(super) fn measure(&mut self) {
        self.pace = Some(Box::default());
    }

    /// The last answer since then. From now on nothing is measured.
    pub(super) fn take_answer(&mut self) -> Option<Answer> {
        self.pace.take()?.answer
    }

    /// What lies below.
    pub(super) const fn below(&self) -> &S {
        &self.stream
    }
}

impl Pace {
    fn heard(&mut self) {
        if let Some(said) = self.said {
            let heard = Instant::now();
            self.answer = Some(Answer { took: heard.duration_since(said), heard });
        }
    }
}

impl Kept {
    fn keep(&mut self, octets: &[u8]) {
        let room = self.max.saturating_sub(self.octets.len());
        self.octets.extend_from_slice(octets.get(..room).unwrap_or(octets));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.kept.is_none() && this.pace.is_none() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let octets = buf.filled().get(before..).unwrap_or_default();
        if let Some(kept) = &mut this.kept {
            kept.keep(octets);
        }
        if let Some(pace) = this.pace.as_mut().filter(|_| !octets.is_empty()) {
            pace.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_beginning_is_kept_until_it_is_taken() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut tap = Tap::new(server, 8);
        let mut buf = [0; 5];
        client.write_all(b"hello, you").await.unwrap();
        tap.read_exact(&mut buf).await.unwrap();
        assert_eq!(tap.kept.as_ref().unwrap().octets, b"hello");
        tap.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b", you", "what is beyond the limit is read all the same");
        assert_eq!(tap.take_kept(), b"hello, y");
        client.write_all(b"again").await.unwrap();
        tap.read_exact(&mut buf).await.unwrap();
        assert!(tap.kept.is_none() && tap.take_kept().is_empty());
        tap.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    }

    #[cfg(all(feature = "relay-rtt", target_os = "linux"))]
    #[tokio::test(start_paused = true)]
    async fn the_last_answer_counts_to_its_last_octets() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut tap = Tap::new(server, 0);
        assert_eq!(tap.take_answer(), None);
        tap.measure();
        let mut buf = [0; 2];
        // What comes unasked is no answer.
        client.write_all(b"hi").await.unwrap();
        tap.read_exact(&mut buf).await.unwrap();
        assert!(tap.pace.as_ref().is_some_and(|pace| pace.answer.is_none()));
        for (takes, more) in [(300, 0), (0, 0), (20, 70)] {
            tap.write_all(b"go").await.unwrap();
            tokio::time::advance(Duration::from_millis(takes)).await;
            client.write_all(b"1").await.unwrap();
            tap.read_exact(&mut buf[..1]).await.unwrap();
            // What is sent at once, as if it were the answer.
            tokio::time::advance(Duration::from_millis(more)).await;
            client.write_all(b"2").await.unwrap();
            tap.read_exact(&mut buf[..1]).await.unwrap();
        }
        // What we say after it changes nothing: nobody has answered that.
        let heard = Instant::now();
        tokio::time::advance(Duration::from_millis(5)).await;
        tap.write_all(b"bye").await.unwrap();
        assert_eq!(tap.take_answer(), Some(Answer { took: Duration::from_millis(90), heard }));
        assert_eq!(tap.take_answer(), None);
    }

    #[tokio::test]
    async fn no_more_than_the_limit_is_kept() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let mut tap = Tap::new(server, 1000);
        for _ in 0..1000 {
            client.write_all(&[7; 777]).await.unwrap();
            tap.read_exact(&mut [0; 777]).await.unwrap();
        }
        let kept = tap.take_kept();
        assert!(kept.len() == 1000 && kept.capacity() <= 2000, "{} of {}", kept.len(), kept.capacity());
    }
}
