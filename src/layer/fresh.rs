//! Routes that ask for a recent login.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Looks, NotFresh, Session};

/// Lets through whoever has logged in within so long, and asks everybody else to: 401, or for a page the way to the login.
/// It stands inside of [`GuardLayer`](super::GuardLayer); without that nobody passes.
///
/// ```
/// # use std::time::Duration;
/// use portcullis::layer::RequireFreshLayer;
///
/// let layer = RequireFreshLayer::new(Duration::from_secs(15 * 60)).login_at("/login?next=/account/password");
/// # drop(layer);
/// ```
#[derive(Clone, Debug)]
pub struct RequireFreshLayer {
    within: Duration,
    login: Option<HeaderValue>,
}

impl RequireFreshLayer {
    /// A login within so long is needed.
    pub const fn new(within: Duration) -> Self {
        Self { within, login: None }
    }

    /// Where browsers are sent to log in. A place that no header can name is left out.
    #[must_use]
    pub fn login_at(mut self, location: &str) -> Self {
        self.login = HeaderValue::from_str(location).ok();
        self
    }
}

impl<Inner> Layer<Inner> for RequireFreshLayer {
    type Service = RequireFresh<Inner>;

    fn layer(&self, inner: Inner) -> RequireFresh<Inner> {
        RequireFresh { inner, layer: self.clone() }
    }
}

/// A service that asks for a recent login.
#[derive(Clone, Debug)]
pub struct RequireFresh<Inner> {
    inner: Inner,
    layer: RequireFreshLayer,
}

impl<Inner, B, R> Service<Request<B>> for RequireFresh<Inner>
where
    Inner: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = Inner::Error;
    type Future = FreshFuture<Inner::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Inner::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let within = self.layer.within;
        let session = Session::of(request.extensions());
        let fresh = session.map_or(Err(NotFresh { within }), |session| session.require_fresh(within));
        match fresh {
            Ok(()) => FreshFuture { state: State::Inner { future: self.inner.call(request) } },
            Err(_) => {
                let wants_page = Looks::of(request.headers()) == Looks::Html;
                let login = self.layer.login.as_ref().filter(|_| wants_page);
                FreshFuture { state: State::Refused { response: Some(ask(login)) } }
            }
        }
    }
}

/// The answer to whoever has to log in first.
pub(super) fn ask<R: Default>(login: Option<&HeaderValue>) -> Response<R> {
    let mut response = Response::new(R::default());
    match login {
        Some(login) => {
            *response.status_mut() = StatusCode::SEE_OTHER;
            response.headers_mut().insert(LOCATION, login.clone());
        }
        None => {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let scheme = HeaderValue::from_static("Session realm=\"login\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
    }
    response
}

pin_project! {
    /// The answer of a [`RequireFresh`], sooner or later.
    #[derive(Debug)]
    pub struct FreshFuture<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[project = Projected]
    #[derive(Debug)]
    enum State<F, R> {
        Inner { #[pin] future: F },
        Refused { response: Option<Response<R>> },
    }
}

impl<F, R, E> Future for FreshFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Inner { future } => future.poll(cx),
            Projected::Refused { response } => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
        }
    }
}
