//! HTTP towards receivers: one connection that is kept, no redirects, answers of a bounded length.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use http::response::Parts;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::stream::{self, Stream};
use super::transport::{Failure, Receipt, plainly};
use super::{Secret, Tls};
use crate::net::is_public;

/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 64 * 1024;
/// How long the body of an answer is waited for.
const ANSWER_TIME: Duration = Duration::from_secs(1);
const ALPN: &[&[u8]] = &[b"http/1.1"];
const AGENT: &str = concat!("portcullis/", env!("CARGO_PKG_VERSION"));

/// Where a receiver is: `https://host/path`.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    is_tls: bool,
    host: String,
    port: u16,
    /// What stands as `Host`.
    authority: String,
    path: String,
}

/// A URL can not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a URL such as \"https://logs.example.net/path\", without a user in it")]
pub struct NoUrl;

impl FromStr for Url {
    type Err = NoUrl;

    fn from_str(text: &str) -> Result<Self, NoUrl> {
        let uri: Uri = text.parse().ok().ok_or(NoUrl)?;
        let authority = uri.authority().ok_or(NoUrl)?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(NoUrl),
        };
        let (host, port) = stream::host_and_port(authority.as_str()).ok_or(NoUrl)?;
        let port = port.unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self { is_tls, host, port, authority: authority.as_str().to_owned(), path: path.to_owned() })
    }
}

impl Url {
    /// Whether nobody on the way can read what is sent.
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The host in it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The same with another path, if it names none.
    #[must_use]
    pub fn or_path(mut self, path: &str) -> Self {
        if self.path == "/" {
            path.clone_into(&mut self.path);
        }
        self
    }
}

/// Without its path, which is a secret with some receivers.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// A receiver that is spoken to over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub url: Url,
    /// How it is checked.
    pub tls: Tls,
    /// What it is told as `Authorization`.
    pub authorization: Option<Secret>,
    /// Whether it may be at an address that is not of the internet at large. Without it a name that somebody else
    /// controls can not lead to a service inside.
    pub allow_private: bool,
}

/// A way to one.
pub(super) struct Http {
    endpoint: Endpoint,
    link: Option<SendRequest<Full<Bytes>>>,
    /// Whether what answers say is told. It may repeat what it was sent, or the path, which is a secret with some receivers.
    tells: bool,
}

/// What came back.
pub(super) struct Answer {
    pub(super) receipt: Receipt,
    pub(super) body: Bytes,
}

impl Http {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, String> {
        if endpoint.url.is_tls {
            // What is wrong with its files is told at the start.
            endpoint.tls.connector(ALPN)?;
        }
        let authorization = endpoint.authorization.as_ref();
        if authorization.is_some_and(|secret| HeaderValue::from_str(secret.expose()).is_err()) {
            return Err("what is to be sent as Authorization has letters that no header can have".to_owned());
        }
        Ok(Self { endpoint: endpoint.clone(), link: None, tells: false })
    }

    /// Has it tell what answers say: to the operator who asked.
    pub(super) const fn tell_answers(&mut self) {
        self.tells = true;
    }

    /// Posts a body. What comes of it is judged by the status alone.
    pub(super) async fn post(
        &mut self,
        content_type: &'static str,
        headers: &[(HeaderName, String)],
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let (head, body) = self.ask(content_type, headers, body).await?;
        Ok(Answer { receipt: self.judge(&head, &body)?, body })
    }

    /// What an answer means.
    pub(super) fn judge(&self, head: &Parts, body: &[u8]) -> Result<Receipt, Failure> {
        judge(head.status, &head.headers, if self.tells { body } else { b"" })
    }

    /// Posts a body, and gives what was answered, whatever it is.
    pub(super) async fn ask(
        &mut self,
        content_type: &'static str,
        headers: &[(HeaderName, String)],
        body: Vec<u8>,
    ) -> Result<(Parts, Bytes), Failure> {
        let request = self.request(content_type, headers, body.into())?;
        // Taken out, so that a call that is left half way leaves no connection with half an answer on it.
        let kept = self.link.take();
        let mut link = match kept.filter(|link| !link.is_closed()) {
            Some(link) => link,
            None => self.connect().await?,
        };
        link.ready().await.map_err(Failure::again)?;
        let answer = link.send_request(request).await.map_err(Failure::again)?;
        let (head, body) = answer.into_parts();
        // Who answers has decided, however long it goes on talking.
        let body = timeout(ANSWER_TIME, Limited::new(body, ANSWER_MAX).collect()).await;
        let body = match body {
            Ok(Ok(body)) => {
                self.link = Some(link);
                body.to_bytes()
            }
            _ => Bytes::new(),
        };
        Ok((head, body))
    }

    fn request(
        &self,
        content_type: &'static str,
        headers: &[(HeaderName, String)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let url = &self.endpoint.url;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&url.path)
            .header(HOST, &url.authority)
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, content_type);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(secret) = &self.endpoint.authorization {
            let mut value = HeaderValue::from_str(secret.expose()).map_err(Failure::again)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::new(body)).map_err(Failure::again)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let Endpoint { url, tls, allow_private, .. } = &self.endpoint;
        let mut addresses = stream::addresses(&url.host, url.port).await?;
        if !url.is_tls {
            // Readable on its way, so it must not be a long one.
            addresses.retain(|address| !is_public(address.ip()));
            if addresses.is_empty() {
                return Err(Failure::again("its name leads to a public address, and the URL is without TLS"));
            }
        }
        if !allow_private {
            // These very addresses are connected to, so a name can not change its mind in between.
            addresses.retain(|address: &SocketAddr| is_public(address.ip()));
            if addresses.is_empty() {
                return Err(Failure::again("its name leads to a private address, and `allow_private` is not set"));
            }
        }
        let tcp = stream::tcp(&addresses).await?;
        let stream: Box<dyn Stream> = match url.is_tls {
            true => Box::new(tls.over(tcp, &url.host, ALPN).await?),
            false => Box::new(tcp),
        };
        let (link, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Failure::again)?;
        // It ends with the connection, which is closed when its other half is dropped.
        tokio::spawn(async move { drop(connection.await) });
        Ok(link)
    }
}

/// What an answer means.
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Receipt, Failure> {
    let mut told = status.to_string();
    let said = plainly(String::from_utf8_lossy(body));
    if !said.is_empty() {
        told = format!("{told}: {said}");
    }
    match status.as_u16() {
        200..300 => Ok(Receipt::Taken(told)),
        300..400 => {
            let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()?.parse::<Url>().ok());
            let to = to.map_or_else(String::new, |to| format!(" to {to}"));
            Err(Failure::again(format!("it redirects{to}: name that place in the configuration ({status})")))
        }
        410 => Err(Failure::Gone { why: told }),
        400 | 413 | 422 => Err(Failure::Refused { why: told }),
        _ => {
            let after = headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
            let is_busy = after.is_some() || matches!(status.as_u16(), 408 | 425 | 429 | 502..=504);
            Err(Failure::Again { why: told, after: after.map(Duration::from_secs), is_answer: !is_busy })
        }
    }
}

/// Whether a host is written as an address that is not of the internet at large.
pub fn is_private_host(host: &str) -> bool {
    host.parse::<IpAddr>().map_or(host == "localhost", |address| !is_public(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_without_their_paths() {
        let url: Url = "https://hooks.example.net/services/T0/SECRET?x=1".parse().unwrap();
        assert_eq!((url.host(), url.port, url.is_tls()), ("hooks.example.net", 443, true));
        assert_eq!(url.path, "/services/T0/SECRET?x=1");
        assert_eq!(format!("{url} {url:?}"), "https://hooks.example.net https://hooks.example.net");
        let url: Url = "http://[::1]:3100".parse().unwrap();
        assert_eq!((url.host(), url.port, url.is_tls()), ("::1", 3100, false));
        assert_eq!(url.or_path("/loki/api/v1/push").path, "/loki/api/v1/push");
        for text in [
            "",
            "logs",
            "ftp://logs/",
            "https://",
            "https://me:pass@logs/",
            "https://logs:x/",
            "https://logs:99999/",
            "/path",
        ] {
            assert_eq!(text.parse::<Url>(), Err(NoUrl), "{text}");
        }
    }

    #[test]
    fn an_answer_means_taken_later_never_or_no_more() {
        let judged = |status: u16| judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b" why \n\x1b");
        for status in [200, 202, 204] {
            assert!(matches!(judged(status), Ok(Receipt::Taken(_))));
        }
        for status in [400, 413, 422] {
            assert!(matches!(judged(status), Err(Failure::Refused { .. })));
        }
        // Those are set right by an operator, and nothing is lost until then.
        for status in [301, 401, 403, 404, 405, 408, 425, 429, 500, 502, 503, 504] {
            let is_busy = [301, 408, 425, 429, 502, 503, 504].contains(&status);
            assert!(
                matches!(judged(status), Err(Failure::Again { is_answer, .. }) if is_answer != is_busy),
                "{status}"
            );
        }
        assert_eq!(judged(410), Err(Failure::Gone { why: "410 Gone: why".into() }));
    }

    #[test]
    fn a_receiver_says_when_to_ask_again() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("120"));
        let again = judge(StatusCode::TOO_MANY_REQUESTS, &headers, b"");
        let why = "429 Too Many Requests".to_owned();
        assert_eq!(again, Err(Failure::Again { why, after: Some(Duration::from_secs(120)), is_answer: false }));
    }
}
