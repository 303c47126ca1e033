//! The body of an answer: the app's until its session ends, or one of ours.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::engine::cut::Cut;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The session that an answer belonged to has ended, and the answer with it. A server that meets it breaks the message
/// off, so that the client can tell a cut body from a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response was cut: its session has ended")]
pub struct WasCut;

pin_project! {
    /// The body of an answer that came through the layer.
    #[derive(Debug)]
    pub struct GuardBody<R> {
        #[pin]
        source: Source<R>,
    }
}

pin_project! {
    #[project = Projected]
    #[derive(Debug)]
    enum Source<R> {
        App { #[pin] body: R, cut: Option<Cut>, ended: Ended },
        Ours { bytes: Option<Bytes> },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    No,
    /// It was cut, and that was told.
    Cut,
}

impl<R> GuardBody<R> {
    /// The app's body, ended by `cut`.
    pub(super) const fn app(body: R, cut: Option<Cut>) -> Self {
        Self { source: Source::App { body, cut, ended: Ended::No } }
    }

    /// A whole body of ours.
    pub(super) fn ours(bytes: Bytes) -> Self {
        Self { source: Source::Ours { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) } }
    }
}

impl<R> Body for GuardBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (body, cut, ended) = match self.project().source.project() {
            Projected::Ours { bytes } => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Projected::App { ended: Ended::Cut, .. } => return Poll::Ready(None),
            Projected::App { body, cut, ended } => (body, cut, ended),
        };
        if !cut.as_ref().is_some_and(Cut::is_done) {
            let frame = body.poll_frame(cx).map_err(Into::into);
            // Only a body that waits needs to be woken by its end.
            let waits = frame.is_pending() && cut.as_ref().is_none_or(|cut| cut.poll_done(cx).is_pending());
            if frame.is_ready() || waits {
                return frame;
            }
        }
        *ended = Ended::Cut;
        *cut = None;
        Poll::Ready(Some(Err(WasCut.into())))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::App { ended: Ended::Cut, .. } => true,
            Source::App { body, .. } => body.is_end_stream(),
            Source::Ours { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::App { ended: Ended::Cut, .. } => SizeHint::with_exact(0),
            Source::App { body, .. } => body.size_hint(),
            Source::Ours { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cut::Cutter;
    use std::convert::Infallible;
    use std::pin::pin;
    use std::task::Waker;

    /// Says one thing and then nothing for ever.
    struct Endless(Option<Bytes>);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }
    }

    #[test]
    fn a_cut_body_ends_with_an_error_and_only_once() {
        let (cutter, cut) = Cutter::new();
        let mut body = pin!(GuardBody::app(Endless(Some(Bytes::from_static(b"a"))), Some(cut)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(body.as_mut().poll_frame(&mut cx), Poll::Ready(Some(Ok(_)))));
        assert!(body.as_mut().poll_frame(&mut cx).is_pending());
        assert!(!body.is_end_stream());
        cutter.cut();
        let Poll::Ready(Some(Err(error))) = body.as_mut().poll_frame(&mut cx) else { panic!("not cut") };
        assert!(error.is::<WasCut>());
        assert!(matches!(body.as_mut().poll_frame(&mut cx), Poll::Ready(None)));
        assert!(body.is_end_stream());
        assert!(cutter.is_idle());
    }

    #[tokio::test]
    async fn a_body_that_waits_is_woken_by_the_cut() {
        let (cutter, cut) = Cutter::new();
        let waiting = tokio::spawn(async move {
            let mut body = pin!(GuardBody::app(Endless(None), Some(cut)));
            std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await.unwrap().is_err()
        });
        tokio::task::yield_now().await;
        cutter.cut();
        assert!(waiting.await.unwrap());
    }

    #[test]
    fn ours_is_said_once() {
        let mut body = pin!(GuardBody::<Endless>::ours(Bytes::from_static(b"no")));
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(body.size_hint().exact(), Some(2));
        assert!(matches!(body.as_mut().poll_frame(&mut cx), Poll::Ready(Some(Ok(_)))));
        assert!(body.is_end_stream());
        assert!(matches!(body.as_mut().poll_frame(&mut cx), Poll::Ready(None)));
    }
}
