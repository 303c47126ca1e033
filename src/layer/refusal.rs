//! What the guard's own answers say: what a client can act upon, and nothing an attacker could use.

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::engine::{Refusal, RefusalKind};
use crate::facts::seen;

/// Which form of an answer the client can read best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// `application/problem+json` (RFC 9457).
    Json,
    /// A small page.
    Html,
}

impl Looks {
    /// HTML for whoever asks for it by name, as browsers do when they go to a page; JSON for everyone else.
    pub fn of(headers: &HeaderMap) -> Self {
        let asks = |value: &HeaderValue| memchr::memmem::find(value.as_bytes(), b"text/html").is_some();
        if seen::lines(headers, &header::ACCEPT).any(asks) { Self::Html } else { Self::Json }
    }
}

/// The answer to a refusal, unless the host makes its own: a problem document or a small page.
pub fn problem(refusal: &Refusal, looks: Looks) -> Response<Bytes> {
    let (slug, title, detail) = words(refusal.kind);
    let status = refusal.status.as_u16();
    let (body, kind) = match looks {
        Looks::Json => (
            format!(
                "{{\"type\":\"tag:portcullis,2026:{slug}\",\"title\":\"{title}\",\"status\":{status},\
                 \"detail\":\"{detail}\"}}\n"
            ),
            "application/problem+json",
        ),
        Looks::Html => (
            format!(
                "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
                 <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
                 <h1>{title}</h1>\n<p>{detail}</p>\n</html>\n"
            ),
            "text/html; charset=utf-8",
        ),
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = refusal.status;
    for (name, value) in FIELDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

const fn words(kind: RefusalKind) -> (&'static str, &'static str, &'static str) {
    match kind {
        RefusalKind::Denied => ("denied", "Not allowed", "This request is not allowed."),
        RefusalKind::TooManySessions => ("denied", "Not allowed", "You are signed in on too many devices."),
        RefusalKind::Challenge => ("unauthorized", "Sign in", "Please sign in and try again."),
        RefusalKind::Throttled => ("too-many-requests", "Too many requests", "Please wait a moment and try again."),
        RefusalKind::AmbiguousPath => ("bad-request", "Bad request", "The request is malformed."),
        RefusalKind::Conflict => {
            ("conflict", "Changed meanwhile", "Something was changed by another request. Please try again.")
        }
        RefusalKind::SessionEnded => ("session-ended", "Session ended", "Your session has ended. Please try again."),
        RefusalKind::Outage => ("unavailable", "Not available", "Please try again in a moment."),
    }
}

const FIELDS: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn a_refusal_is_a_document_or_a_page() {
        let refusal = Refusal { status: StatusCode::FORBIDDEN, kind: RefusalKind::Denied, headers: HeaderMap::new() };
        let json = problem(&refusal, Looks::Json);
        let body: serde_json::Value = serde_json::from_slice(json.body()).unwrap();
        assert_eq!((body["status"].as_u64(), json.status()), (Some(403), StatusCode::FORBIDDEN));
        assert_eq!(json.headers()["cache-control"], "no-store");
        assert!(problem(&refusal, Looks::Html).body().starts_with(b"<!doctype html>"));
    }
}
