//! Answers that the guard gives itself.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::limit;
use crate::verdict::Action;

/// How long a client is asked to wait when the store is out.
const OUTAGE_RETRY: Duration = Duration::from_secs(5);

/// An answer the guard gives itself.
#[derive(Debug)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// What kind it is: chooses the words, never told in detail.
    pub kind: RefusalKind,
    /// Headers it must carry: cookies, `Retry-After`, rate limits, `Location`.
    pub headers: HeaderMap,
}

/// Kinds of answers the guard gives itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Forbidden by the policy.
    Denied,
    /// Log in first.
    Challenge,
    /// Too many requests.
    Throttled,
    /// The path can be read in two ways.
    AmbiguousPath,
    /// The session store does not answer.
    Outage,
    /// The subject has as many sessions as he may.
    TooManySessions,
    /// What the app wrote into the session is at odds with what another request wrote.
    Conflict,
    /// The session that the app wrote into has ended meanwhile.
    SessionEnded,
}

impl RefusalKind {
    /// Those that may take the place of an answer of the app.
    pub const OF_ANSWERS: [Self; 5] =
        [Self::Throttled, Self::Outage, Self::TooManySessions, Self::Conflict, Self::SessionEnded];

    /// The word it goes by in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Challenge => "challenge",
            Self::Throttled => "throttled",
            Self::AmbiguousPath => "ambiguous_path",
            Self::Outage => "outage",
            Self::TooManySessions => "too_many_sessions",
            Self::Conflict => "conflict",
            Self::SessionEnded => "session_ended",
        }
    }

    /// What it does, as an action; none if nobody decided it.
    pub const fn action(self) -> Option<Action> {
        match self {
            Self::Challenge => Some(Action::Challenge),
            Self::Throttled => Some(Action::Throttle),
            Self::Denied | Self::AmbiguousPath | Self::TooManySessions | Self::Conflict | Self::SessionEnded => {
                Some(Action::Deny)
            }
            Self::Outage => None,
        }
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, kind: RefusalKind) -> Self {
        Self { status, kind, headers: HeaderMap::new() }
    }

    #[cold]
    pub(super) fn throttled(limited: &limit::Refusal) -> Self {
        let mut refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, RefusalKind::Throttled);
        limited.put_headers(&mut refusal.headers);
        refusal
    }

    #[cold]
    pub(super) fn conflict(kind: RefusalKind) -> Self {
        Self::new(StatusCode::CONFLICT, kind)
    }

    #[cold]
    pub(super) fn outage() -> Self {
        let mut refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, RefusalKind::Outage);
        refusal.headers.insert(http::header::RETRY_AFTER, HeaderValue::from(OUTAGE_RETRY.as_secs()));
        refusal
    }
}
