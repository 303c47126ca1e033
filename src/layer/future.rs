//! The way of one request through the layer.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderMap, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tower_service::Service;
use tracing::Instrument as _;

use super::left::Held;
use super::{GuardBody, GuardLayer, Looks, Session, SessionEnd};
use crate::engine::outlive::Outlive;
use crate::engine::{Admission, AnsweredBy, Decision, Lifetime, Refusal};
use crate::facts::seen;
use crate::limit::ClientKey;
use crate::store::Store;

/// The answer of a [`GuardService`](super::GuardService), sooner or later.
///
/// Boxed: the two halves of the guard are `async` over a store that anybody may write, so their futures have no names.
pub struct ResponseFuture<R, E>(Pin<Box<dyn Future<Output = Answer<R, E>> + Send>>);

type Answer<R, E> = Result<Response<GuardBody<R>>, E>;

impl<R, E> ResponseFuture<R, E> {
    pub(super) fn new<S, Inner, B>(layer: GuardLayer<S>, inner: Inner, request: Request<B>) -> Self
    where
        S: Store,
        Inner: Service<Request<B>, Response = Response<R>, Error = E> + Send + 'static,
        Inner::Future: Send,
        B: Send + 'static,
        R: Body + Send + 'static,
        E: Send + 'static,
    {
        Self(Box::pin(guarded(layer, inner, request)))
    }
}

impl<R, E> Future for ResponseFuture<R, E> {
    type Output = Answer<R, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<R, E> fmt::Debug for ResponseFuture<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

async fn guarded<S, Inner, B, R>(layer: GuardLayer<S>, inner: Inner, request: Request<B>) -> Answer<R, Inner::Error>
where
    S: Store,
    Inner: Service<Request<B>, Response = Response<R>> + Send + 'static,
    Inner::Future: Send,
    Inner::Error: Send + 'static,
    B: Send + 'static,
    R: Body + Send + 'static,
{
    let (mut parts, body) = request.into_parts();
    let looks = Looks::of(&parts.headers);
    let client = match layer.arrive(&mut parts) {
        Ok(client) => client,
        Err(status) => return Ok(plain(status)),
    };
    let mut admission = match layer.guard.admit(client, &mut parts, None).await {
        Decision::Forward(admission) => admission,
        Decision::Answer(refusal) => return Ok(layer.refuse(refusal, looks)),
    };
    parts.extensions.insert(Session::new(layer.guard.hand_to_app(&mut admission)));
    let (lifetime, left) = (admission.lifetime(), layer.left.clone());
    let answering = answer(layer, inner, Request::from_parts(parts, body), admission, looks);
    match lifetime {
        // Whoever goes away in the middle of a logout is logged out all the same.
        Lifetime::UntilSettled => {
            Outlive::new(Held::new(&left, ClientKey::new(client.ip)), answering.in_current_span()).await
        }
        Lifetime::OfClient => answering.await,
    }
}

async fn answer<S, Inner, B, R>(
    layer: GuardLayer<S>,
    mut inner: Inner,
    mut request: Request<B>,
    mut admission: Box<Admission>,
    looks: Looks,
) -> Answer<R, Inner::Error>
where
    S: Store,
    Inner: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    let tunnel = Tunnel::asked(&mut request);
    let response = match inner.call(request).await {
        Ok(response) => response,
        Err(error) => {
            // What the app ended has ended. Its error is not ours to answer.
            let mut failed = Response::new(());
            *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            layer.guard.settle(admission, AnsweredBy::Nobody, &mut failed.into_parts().0).await;
            return Err(error);
        }
    };
    let (mut parts, body) = response.into_parts();
    if tunnel.is_none() {
        // Servers write the length on their way out. A short body needs nobody to look after it.
        admission.answered_with(body.size_hint().exact());
    }
    let settled = layer.guard.settle(admission, AnsweredBy::App, &mut parts).await;
    if let Some(refusal) = settled.instead {
        return Ok(layer.refuse(refusal, looks));
    }
    let cut = match (tunnel, settled.cut) {
        (Some(tunnel), Some(cut)) if tunnel.is_agreed(parts.status) => {
            tunnel.end.tie(cut);
            None
        }
        (_, cut) => cut,
    };
    Ok(Response::from_parts(parts, GuardBody::app(body, cut)))
}

/// A tunnel that was asked for: the body of an answer that agrees is empty, and cutting it would cut nothing, so the app
/// is told of the end of the session.
struct Tunnel {
    end: SessionEnd,
    by_connect: bool,
}

impl Tunnel {
    fn asked<B>(request: &mut Request<B>) -> Option<Self> {
        let by_connect = *request.method() == Method::CONNECT;
        if !by_connect && seen::first(request.headers(), &UPGRADE).is_none() {
            return None;
        }
        let end = SessionEnd::default();
        request.extensions_mut().insert(end.clone());
        Some(Self { end, by_connect })
    }

    fn is_agreed(&self, status: StatusCode) -> bool {
        if self.by_connect { status.is_success() } else { status == StatusCode::SWITCHING_PROTOCOLS }
    }
}

/// An answer to a request that never came as far as the guard. It says nothing: the log does.
fn plain<R>(status: StatusCode) -> Response<GuardBody<R>> {
    let mut response = Response::new(GuardBody::ours(Bytes::new()));
    *response.status_mut() = status;
    response
}

impl<S> GuardLayer<S> {
    fn refuse<R>(&self, refusal: Refusal, looks: Looks) -> Response<GuardBody<R>> {
        let mut response = (self.options.refusal)(&refusal, looks).map(GuardBody::ours);
        *response.status_mut() = refusal.status;
        put(response.headers_mut(), refusal.headers);
        response
    }
}

/// Puts headers over those that are there; those of one name stay together.
fn put(into: &mut HeaderMap, headers: HeaderMap) {
    let mut last = None;
    for (name, value) in headers {
        match (name, &last) {
            (Some(name), _) => {
                into.insert(name.clone(), value);
                last = Some(name);
            }
            (None, Some(name)) => {
                into.append(name.clone(), value);
            }
            (None, None) => {}
        }
    }
}
