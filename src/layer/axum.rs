//! Extractors for axum.

use std::time::Duration;

use axum_core::body::Body;
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::{StatusCode, request};

use super::{NotFresh, SaveError, Session, fresh};

/// The handler is not behind the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no session: put `GuardLayer` around the router with `.layer(...)`")]
pub struct NoSession;

impl IntoResponse for NoSession {
    fn into_response(self) -> Response {
        tracing::error!("{self}");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = NoSession;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, NoSession> {
        Self::of(&parts.extensions).cloned().ok_or(NoSession)
    }
}

/// The session of whoever has logged in within the last `SECONDS`; everybody else is answered with 401.
///
/// ```
/// # use portcullis::layer::Fresh;
/// async fn change_password(Fresh(session): Fresh<900>) -> String {
///     format!("a new password for {}", session.subject().unwrap_or_default())
/// }
/// # drop(change_password);
/// ```
#[derive(Clone, Debug)]
pub struct Fresh<const SECONDS: u64>(pub Session);

impl<S: Send + Sync, const SECONDS: u64> FromRequestParts<S> for Fresh<SECONDS> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Response> {
        let session = Session::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
        session.require_fresh(Duration::from_secs(SECONDS)).map_err(IntoResponse::into_response)?;
        Ok(Self(session))
    }
}

impl IntoResponse for NotFresh {
    fn into_response(self) -> Response {
        fresh::ask::<Body>(None)
    }
}

/// What another request did is the client's to try again; that the store failed is nobody's.
impl IntoResponse for SaveError {
    fn into_response(self) -> Response {
        match self {
            Self::Lost(_) | Self::Ended | Self::NotKept => StatusCode::CONFLICT,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
        .into_response()
    }
}
