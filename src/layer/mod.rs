//! The guard as a tower layer, for apps in Rust: the same verdicts as the proxy gives, without a hop.
//!
//! What happens to a request, in order:
//!
//! 1. `Portcullis-*` headers that the client sent are dropped, in both spellings, and reported. What the app reads of
//!    them was written by the guard.
//! 2. A request with several hosts, or with two that differ, is answered with 400.
//! 3. The client's address is asked for ([`GuardLayer::with_client`]; by default the extension [`ClientAddr`]), and where
//!    it is a trusted proxy's, the forwarding headers are walked. Without an address the answer is 500: limits and
//!    comparisons over an address that nobody knows would be worth nothing.
//! 4. The guard admits it, or answers itself ([`GuardLayer::with_refusal`]).
//! 5. The app is called, with a [`Session`] in the request's extensions. Who logged in is told by the app, with that or on
//!    its answer ([`tell`]).
//! 6. The guard writes what became of the session and settles the answer. A long one ends when its session does; a tunnel is ended by the app, which is told
//!    by [`SessionEnd`].
//!
//! **Deployment.** Put the layer outside of everything that answers requests, and outside of whatever rewrites paths:
//! a route that it does not see is not guarded. Bodies are not looked into: where the policy finds the subject of a login
//! in a form or a document, only the proxy can; here it is told. Somebody has to [`tend`] the guard. The runtime of tokio needs time
//! for that, and where a rule has an answer wait for its event (`sync`): `enable_time`, which `#[tokio::main]` does.
//!
//! ```
//! use std::convert::Infallible;
//! use std::sync::Arc;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use portcullis::engine::control::Command;
//! use portcullis::layer::{ClientAddr, GuardBuilder, GuardLayer, subject, tell};
//! use tower_layer::Layer;
//! use tower_service::Service;
//! # use std::{future::Future, pin::{Pin, pin}, task::{Context, Poll, Waker}};
//! # use http_body::{Body, Frame};
//! # struct Text(Option<Bytes>);
//! # impl Body for Text {
//! #     type Data = Bytes;
//! #     type Error = Infallible;
//! #     fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
//! #         Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
//! #     }
//! # }
//! # #[derive(Clone)]
//! # struct App;
//! # impl Service<Request<()>> for App {
//! #     type Response = Response<Text>;
//! #     type Error = Infallible;
//! #     type Future = Pin<Box<dyn Future<Output = Result<Response<Text>, Infallible>> + Send>>;
//! #     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
//! #     fn call(&mut self, request: Request<()>) -> Self::Future { Box::pin(app(request)) }
//! # }
//!
//! async fn app(request: Request<()>) -> Result<Response<Text>, Infallible> {
//!     let name = subject(request.headers()).unwrap_or("stranger").to_owned();
//!     let mut response = Response::new(Text(Some(Bytes::from(format!("Hello, {name}")))));
//!     if request.uri().path() == "/login" {
//!         let login = Command::Login { subject: Some("alice".into()) };
//!         // Fails only for a subject that no header can carry.
//!         tell(response.headers_mut(), &login).unwrap_or_default();
//!     }
//!     Ok(response)
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let guard = Arc::new(GuardBuilder::in_memory().build()?);
//! // `App` is `app` as a service: axum's router, or `tower::service_fn`.
//! let mut guarded = GuardLayer::new(guard).layer(App);
//!
//! let mut request = Request::post("https://example.com/login").body(())?;
//! request.extensions_mut().insert(ClientAddr("203.0.113.7".parse()?));
//! let response = guarded.call(request).await?;
//! assert!(response.headers()["set-cookie"].to_str()?.starts_with("__Host-portcullis="));
//! assert!(!response.headers().contains_key("portcullis-session"));
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! With axum the address comes from the connection, if the app is served with
//! `into_make_service_with_connect_info::<SocketAddr>()`:
//!
//! ```text
//! let layer = GuardLayer::new(guard)
//!     .with_client(|parts| parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip()));
//! let app = Router::new().route("/", get(home)).layer(layer);
//! ```

mod arrive;
#[cfg(feature = "axum")]
mod axum;
mod body;
mod builder;
mod end;
mod fresh;
mod future;
mod left;
mod refusal;
mod session;
mod tell;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, request};
use tower_layer::Layer;
use tower_service::Service;

pub use crate::engine::tend;
#[cfg(feature = "axum")]
pub use axum::{Fresh, NoSession};
pub use body::{BoxError, GuardBody, WasCut};
pub use builder::{BuildError, GuardBuilder};
pub use end::SessionEnd;
pub use fresh::{FreshFuture, RequireFresh, RequireFreshLayer};
pub use future::ResponseFuture;
pub use left::LEFT_MAX;
pub use refusal::{Looks, problem};
pub use session::{
    Current, Device, EndedDevice, Entry, Expiry, Level, LogInError, MESSAGES_MAX, Message, NotFresh, ReadError,
    SaveError, Saved, Session, Standing, TRANSACT_TRIES_MAX, TransactError, WriteError,
};
pub use tell::{TellError, subject, tell};

use crate::connection::Scheme;
use crate::engine::{Guard, Refusal};
use crate::store::Store;
use left::Left;

/// The address of the other end of the connection: a request extension, set by whoever accepted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(pub IpAddr);

/// Puts a guard before a service.
pub struct GuardLayer<S> {
    guard: Arc<Guard<S>>,
    options: Options,
    left: Arc<Left>,
}

/// What a host may choose.
#[derive(Clone, Copy)]
struct Options {
    client: fn(&request::Parts) -> Option<IpAddr>,
    refusal: fn(&Refusal, Looks) -> Response<Bytes>,
    scheme: Scheme,
}

impl<S> GuardLayer<S> {
    /// A layer that takes the client's address from the extension [`ClientAddr`].
    pub fn new(guard: Arc<Guard<S>>) -> Self {
        let client = |parts: &request::Parts| parts.extensions.get::<ClientAddr>().map(|address| address.0);
        let options = Options { client, refusal: problem, scheme: Scheme::Http };
        Self { guard, options, left: Arc::default() }
    }

    /// Where the address of the other end of the connection is found. It must be the socket's own: headers are looked at
    /// afterwards, and only if the policy trusts this address.
    #[must_use]
    pub const fn with_client(mut self, client: fn(&request::Parts) -> Option<IpAddr>) -> Self {
        self.options.client = client;
        self
    }

    /// What an answer of the guard looks like. Its status and the headers it must carry (cookies, `Retry-After`,
    /// `Location`) are put on it afterwards.
    #[must_use]
    pub const fn with_refusal(mut self, refusal: fn(&Refusal, Looks) -> Response<Bytes>) -> Self {
        self.options.refusal = refusal;
        self
    }

    /// The scheme of requests whose target does not name it and for which no trusted proxy does; `http` if nothing is
    /// said.
    #[must_use]
    pub const fn with_scheme(mut self, scheme: Scheme) -> Self {
        self.options.scheme = scheme;
        self
    }
}

impl<S> Clone for GuardLayer<S> {
    fn clone(&self) -> Self {
        Self { guard: self.guard.clone(), options: self.options, left: self.left.clone() }
    }
}

impl<S> fmt::Debug for GuardLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardLayer").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl<S, Inner> Layer<Inner> for GuardLayer<S> {
    type Service = GuardService<S, Inner>;

    fn layer(&self, inner: Inner) -> GuardService<S, Inner> {
        GuardService { inner, layer: self.clone() }
    }
}

/// A service behind a guard.
pub struct GuardService<S, Inner> {
    inner: Inner,
    layer: GuardLayer<S>,
}

impl<S, Inner: Clone> Clone for GuardService<S, Inner> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, Inner> fmt::Debug for GuardService<S, Inner> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardService").field("guard", &self.layer.guard).finish_non_exhaustive()
    }
}

impl<S, Inner, B, R> Service<Request<B>> for GuardService<S, Inner>
where
    S: Store,
    Inner: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    Inner::Future: Send,
    Inner::Error: Send + 'static,
    B: Send + 'static,
    R: http_body::Body + Send + 'static,
{
    type Response = Response<GuardBody<R>>;
    type Error = Inner::Error;
    type Future = ResponseFuture<R, Inner::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Inner::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was polled ready goes with the request; the clone has to be asked anew.
        let spare = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, spare);
        ResponseFuture::new(self.layer.clone(), inner, request)
    }
}
