//! Answers that we make ourselves: quiet, static, never cached (RFC 9457, RFC 9209).
//!
//! The client learns what it can act upon and nothing an attacker could use: no path, no version, no rule, no reflection.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

/// A whole answer of ours.
pub type Answer = Response<Bytes>;

/// Which form the client can read best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// `application/problem+json`
    Json,
    /// A small page.
    Html,
}

impl Looks {
    /// HTML for whoever asks for it by name, as browsers do on navigations; JSON for everyone else.
    pub fn of(headers: &HeaderMap) -> Self {
        let html = headers.get_all(header::ACCEPT).iter().any(|value| {
            let value = value.as_bytes();
            memchr::memmem::find(value, b"text/html").is_some()
        });
        if html { Self::Html } else { Self::Json }
    }
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident $status:literal $error:literal $slug:literal $title:literal $detail:literal;)*) => {
        /// Why there is an answer of ours instead of the app's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Problem { $($(#[$doc])* $name,)* }

        impl Problem {
            const ALL: &'static [Self] = &[$(Self::$name,)*];

            const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row { status: $status, error: $error, slug: $slug, title: $title, detail: $detail },)*
                }
            }
        }
    };
}

/// A row of the table below.
struct Row {
    status: u16,
    /// The error of RFC 9209.
    error: &'static str,
    slug: &'static str,
    title: &'static str,
    detail: &'static str,
}

problems! {
    /// The request is not HTTP as we accept it.
    BadRequest 400 "http_request_error" "bad-request" "Bad request" "The request is malformed.";
    /// There is no session that allows this; to be sent with `WWW-Authenticate`.
    Unauthorized 401 "http_request_denied" "unauthorized" "Sign in" "Please sign in and try again.";
    /// A rule denies this.
    Denied 403 "http_request_denied" "denied" "Not allowed" "This request is not allowed.";
    /// A method that is never forwarded.
    MethodNotAllowed 405 "http_request_error" "method-not-allowed" "Method not allowed" "This method is not available.";
    /// The request took too long.
    RequestTimeout 408 "http_request_error" "request-timeout" "Too slow" "The request took too long.";
    /// The body is larger than allowed.
    ContentTooLarge 413 "http_request_error" "content-too-large" "Too large" "The request is too large.";
    /// The request target is longer than allowed.
    UriTooLong 414 "http_request_error" "uri-too-long" "Address too long" "The address is too long.";
    /// An expectation that nobody can meet.
    ExpectationFailed 417 "http_request_error" "expectation-failed" "Expectation failed" "The expectation cannot be met.";
    /// The host is not served on this connection.
    Misdirected 421 "http_request_error" "misdirected" "Wrong connection" "This host is not served on this connection.";
    /// WebSocket, but another version of it; to be sent with `Sec-WebSocket-Version`.
    UpgradeRequired 426 "http_request_error" "upgrade-required" "Upgrade required" "This needs another protocol version.";
    /// Too many requests; to be sent with `Retry-After`.
    TooManyRequests 429 "http_request_denied" "too-many-requests" "Too many requests" "Please wait a moment and try again.";
    /// The head is too large.
    HeadersTooLarge 431 "http_request_error" "headers-too-large" "Headers too large" "The request headers are too large. Deleting the cookies of this site may help.";
    /// A bug of ours.
    Internal 500 "proxy_internal_error" "internal" "Something went wrong" "Please try again in a moment.";
    /// The app answered nonsense.
    BadReply 502 "http_protocol_error" "bad-gateway" "Not available" "The application gave no usable answer.";
    /// The app closed the connection before it answered.
    ReplyBrokeOff 502 "connection_terminated" "bad-gateway" "Not available" "The application gave no usable answer.";
    /// The app did not accept the connection.
    Refused 502 "connection_refused" "bad-gateway" "Not available" "The application is not available.";
    /// The app's name leads nowhere.
    NotFound 502 "dns_error" "bad-gateway" "Not available" "The application is not available.";
    /// The app's certificate is not acceptable.
    BadCertificate 502 "tls_certificate_error" "bad-gateway" "Not available" "The application is not available.";
    /// TLS with the app failed in another way.
    TlsFailed 502 "tls_protocol_error" "bad-gateway" "Not available" "The application is not available.";
    /// The app did not switch protocols as asked.
    UpgradeFailed 502 "http_upgrade_failed" "bad-gateway" "Not available" "The application gave no usable answer.";
    /// We hold as much as we may for others already; to be sent with `Retry-After`.
    Busy 503 "proxy_internal_error" "unavailable" "Busy" "Please try again in a moment.";
    /// Every place at the app is taken.
    Full 503 "connection_limit_reached" "unavailable" "Busy" "The application is busy. Please try again in a moment.";
    /// No app is well.
    Unavailable 503 "destination_unavailable" "unavailable" "Not available" "The application is not available.";
    /// The session store can not be reached, and policy says to deny.
    StoreUnavailable 503 "proxy_internal_error" "unavailable" "Not available" "Please try again in a moment.";
    /// The app did not accept the connection in time.
    ConnectTimeout 504 "connection_timeout" "timeout" "Not available" "The application did not answer in time.";
    /// The app did not answer in time.
    ReplyTimeout 504 "http_response_timeout" "timeout" "Not available" "The application did not answer in time.";
    /// The request came through here before.
    Loop 508 "proxy_loop_detected" "loop" "Loop detected" "The request goes round in circles.";
}

static BODIES: LazyLock<Vec<(Bytes, Bytes)>> =
    LazyLock::new(|| Problem::ALL.iter().map(|problem| problem.row().bodies()).collect());

impl Row {
    fn bodies(&self) -> (Bytes, Bytes) {
        let Self { status, slug, title, detail, .. } = self;
        let json = format!(
            "{{\"type\":\"tag:portcullis,2026:{slug}\",\"title\":\"{title}\",\"status\":{status},\"detail\":\"{detail}\"}}\n"
        );
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
             <h1>{title}</h1>\n<p>{detail}</p>\n</html>\n"
        );
        (json.into(), html.into())
    }
}

impl Problem {
    /// The status it is told by.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The error of RFC 9209 that `Proxy-Status` names.
    pub const fn error(self) -> &'static str {
        self.row().error
    }

    /// The answer. Headers may be added to it (`Retry-After`, `Set-Cookie`); `Proxy-Status` is added on its way out.
    #[cold]
    pub fn answer(self, looks: Looks) -> Answer {
        let bodies = BODIES.iter().zip(Self::ALL).find(|(_, problem)| **problem == self).map(|(bodies, _)| bodies);
        let (json, html) = bodies.cloned().unwrap_or_default();
        let (body, kind) = match looks {
            Looks::Json => (json, "application/problem+json"),
            Looks::Html => (html, "text/html; charset=utf-8"),
        };
        let mut answer = Response::new(body);
        *answer.status_mut() = self.status();
        let headers = answer.headers_mut();
        for (name, value) in FIELDS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if self == Self::MethodNotAllowed {
            headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
        }
        answer.extensions_mut().insert(self);
        answer
    }
}

/// Methods that are forwarded, for `Allow`. Others go through as well; these are the ones to name.
pub(super) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

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

    #[test]
    fn every_problem_is_json_with_the_status_it_has() {
        for problem in Problem::ALL {
            let answer = problem.answer(Looks::Json);
            let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!(body["status"], answer.status().as_u16(), "{problem:?}");
            assert_eq!(answer.headers()["cache-control"], "no-store");
            let html = problem.answer(Looks::Html);
            assert!(html.body().starts_with(b"<!doctype html>"));
        }
    }

    #[test]
    fn html_is_for_those_who_ask_for_it() {
        let check = |accept: &str, expected: Looks| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(Looks::of(&headers), expected, "{accept}");
        };
        check("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Looks::Html);
        check("application/json", Looks::Json);
        check("*/*", Looks::Json);
        assert_eq!(Looks::of(&HeaderMap::new()), Looks::Json);
    }
}
