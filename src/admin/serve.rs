//! One connection of the API: one request, who may ask, the answer.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::api::{Api, Problem, Question, problem_document};
use super::listen::{Accepted, Stream};
use super::token::Token;
use crate::store::Store;

/// Bytes of a body that are read and thrown away: nothing here takes one.
const BODY_BYTES_MAX: usize = 4096;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Lines of a request's head.
const HEADERS_MAX: usize = 32;
/// From the first byte of a connection to the end of the head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept after its answer for a client that is still sending, and how much of that is read.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: u64 = 1 << 20;
/// Longest life of a connection: ending a million sessions takes minutes, a client that never reads must not.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Who may ask.
#[derive(Debug)]
pub(super) enum Access {
    /// Whoever could open the socket.
    Socket,
    /// Whoever shows the token, and names us by one of these hosts.
    Token {
        /// The token.
        token: Token,
        /// Ours. A page of a foreign site that has its name point here still sends that name.
        hosts: Vec<String>,
    },
}

impl Access {
    pub(super) const fn by_socket() -> Self {
        Self::Socket
    }

    pub(super) fn with_token(token: Token, address: SocketAddr) -> Self {
        let port = address.port();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        let mut hosts: Vec<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
        hosts.push(address.to_string());
        if port == 80 {
            hosts.extend(names);
        }
        Self::Token { token, hosts }
    }

    fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let headers = request.headers();
        // Only browsers send it, and no page has any business here.
        if headers.contains_key(ORIGIN) {
            return Err(Problem::new(StatusCode::FORBIDDEN, "this is not for browsers"));
        }
        let Some(host) = single(headers, &HOST).filter(|_| request.uri().authority().is_none()) else {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "a request names one host"));
        };
        let Self::Token { token, hosts } = self else { return Ok(()) };
        if !hosts.iter().any(|known| host.eq_ignore_ascii_case(known.as_bytes())) {
            let detail = "the host must be localhost, 127.0.0.1 or [::1], with the port";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
        }
        let shown = single(headers, &AUTHORIZATION).and_then(|value| {
            let (scheme, shown) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| shown.trim_ascii())
        });
        if shown.is_some_and(|shown| token.is(shown)) {
            return Ok(());
        }
        Err(Problem::new(StatusCode::UNAUTHORIZED, "show the token: Authorization: Bearer TOKEN"))
    }
}

/// The value of a header that stands there exactly once.
fn single<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// Serves one connection to its end.
pub(super) async fn connection<S: Store>(accepted: Accepted, access: Arc<Access>, api: Arc<Api<S>>) {
    let Accepted { stream, place } = accepted;
    match stream {
        Stream::Tcp(stream, peer) => speak(stream, Some(peer), access, api).await,
        Stream::Unix(stream) => speak(stream, None, access, api).await,
    }
    drop(place);
}

async fn speak<S: Store>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    client: Option<IpAddr>,
    access: Arc<Access>,
    api: Arc<Api<S>>,
) {
    let service = service_fn(|request| {
        let (access, api) = (access.clone(), api.clone());
        async move { Ok::<_, Infallible>(answer(request, client, &access, api).await.map(Full::new)) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown();
    match tokio::time::timeout(CONNECTION_TIMEOUT, serving).await {
        Ok(Ok(parts)) => linger(parts.io.into_inner()).await,
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin API broke off"),
        Err(_) => tracing::warn!("a connection to the admin API took too long"),
    }
}

/// Ends a connection so that its answer arrives. Closed while something that the client sent is unread, the socket would
/// be reset, and the answer to a body that is too large lost on the way.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let reading = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    match tokio::time::timeout(LINGER, reading).await {
        Ok(Ok(_)) => {}
        // Gone, or too slow: it has its answer, or does not want it.
        Ok(Err(_)) | Err(_) => tracing::trace!("a client of the admin API did not end its connection"),
    }
}

async fn answer<S: Store>(
    request: Request<Incoming>,
    client: Option<IpAddr>,
    access: &Access,
    api: Arc<Api<S>>,
) -> Response<Bytes> {
    if let Err(problem) = access.check(&request) {
        api.tell_refused(client, problem.status);
        return problem_document(&problem);
    }
    let (head, body) = request.into_parts();
    if let Err(problem) = discard(body).await {
        return problem_document(&problem);
    }
    let question = match Question::parse(&head.method, &head.uri) {
        Ok(question) => question,
        Err(problem) => return problem_document(&problem),
    };
    // In a task of its own: what was begun is finished and told, whether the client waits for it or not.
    let doing = tokio::spawn(async move { api.answer(&question, client).await });
    doing.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request to the admin API ended in the middle");
        problem_document(&Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is a bug of the guard"))
    })
}

async fn discard(body: Incoming) -> Result<(), Problem> {
    if body.is_end_stream() {
        return Ok(());
    }
    let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body");
    // One that says how large it is does not get to send it.
    if usize::try_from(body.size_hint().lower()).is_ok_and(|least| least > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn check(address: &str, headers: &[(&str, &str)], expected: Option<u16>) {
        let access = Access::with_token(Token::parse(TOKEN).unwrap(), address.parse().unwrap());
        let mut request = Request::get("/v1/health");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let status = access.check(&request.body(()).unwrap()).err().map(|problem| problem.status.as_u16());
        assert_eq!(status, expected, "{address} {headers:?}");
    }

    #[test]
    fn on_a_port_the_host_and_the_token_must_be_right() {
        let bearer = ("authorization", "Bearer 0123456789abcdef0123456789abcdef");
        let at = "127.0.0.1:9090";
        for host in ["localhost:9090", "LOCALHOST:9090", "127.0.0.1:9090", "[::1]:9090"] {
            check(at, &[("host", host), bearer], None);
        }
        check("127.0.0.2:9090", &[("host", "127.0.0.2:9090"), bearer], None);
        check("127.0.0.1:80", &[("host", "localhost"), bearer], None);
        check(at, &[("host", "localhost:9090"), ("authorization", "bearer 0123456789abcdef0123456789abcdef")], None);
        for host in ["evil.example:9090", "localhost", "localhost:9091", "127.0.0.1.evil.example:9090", ""] {
            check(at, &[("host", host), bearer], Some(421));
        }
        check(at, &[bearer], Some(400));
        check(at, &[("host", "localhost:9090"), ("host", "localhost:9090"), bearer], Some(400));
        check(at, &[("host", "localhost:9090"), ("origin", "http://localhost:9090"), bearer], Some(403));
        check(at, &[("host", "localhost:9090")], Some(401));
        check(at, &[("host", "localhost:9090"), bearer, bearer], Some(401));
        for wrong in ["Bearer", "Bearer ", "Bearer x", TOKEN, "Basic 0123456789abcdef0123456789abcdef"] {
            check(at, &[("host", "localhost:9090"), ("authorization", wrong)], Some(401));
        }
    }
}
