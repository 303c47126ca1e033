//! The clients of the play: browsers with a cookie jar, that look like somebody and seem to be somewhere.
//!
//! They really connect, over loopback. The guard of the demo trusts 127.0.0.1 as its proxy, so each request says in
//! `X-Forwarded-For` from where it would have come: addresses that are reserved for documentation (RFC 5737).

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use portcullis::clock::Timestamp;
use portcullis::session::cookie::SetCookie;
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a page that are read.
const PAGE_BYTES_MAX: usize = 64 * 1024;

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("no connection to {0}")]
    Connect(SocketAddr, #[source] std::io::Error),
    #[error("the connection broke")]
    Broke(#[from] hyper::Error),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the page could not be read")]
    Page(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the request can not be written")]
    Request(#[from] http::Error),
}

/// A place to send requests to, with the connections that are open.
#[derive(Debug)]
pub(super) struct Site {
    address: SocketAddr,
    open: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Site {
    pub(super) const fn new(address: SocketAddr) -> Self {
        Self { address, open: Mutex::new(Vec::new()) }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Page, ClientError> {
        tokio::time::timeout(PATIENCE, self.exchange(request)).await?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Page, ClientError> {
        let mut line = self.line().await?;
        let answer = line.send_request(request).await?;
        let page = Page::read(answer).await?;
        self.open.lock().push(line);
        Ok(page)
    }

    async fn line(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        loop {
            let kept = self.open.lock().pop();
            let Some(mut line) = kept else { break };
            if line.ready().await.is_ok() {
                return Ok(line);
            }
        }
        let failed = |error| ClientError::Connect(self.address, error);
        let stream = TcpStream::connect(self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (line, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of the play ended early");
            }
        });
        Ok(line)
    }
}

/// An answer as a person sees it.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) text: String,
    headers: HeaderMap,
}

impl Page {
    async fn read(answer: Response<hyper::body::Incoming>) -> Result<Self, ClientError> {
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, PAGE_BYTES_MAX).collect().await.map_err(ClientError::Page)?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok(Self { status: head.status, text, headers: head.headers })
    }

    /// Where it leads.
    pub(super) fn location(&self) -> Option<&str> {
        self.headers.get(header::LOCATION)?.to_str().ok()
    }
}

/// From where a request seems to come, and with which program.
#[derive(Clone, Debug)]
pub(super) struct Looks {
    pub(super) address: String,
    pub(super) agent: &'static str,
    pub(super) language: &'static str,
}

#[derive(Clone, Debug)]
struct Cookie {
    name: String,
    value: String,
    readable: Readable,
}

/// Whether scripts on the page can read a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readable {
    ByScripts,
    HttpOnly,
}

/// A browser, or what passes for one.
#[derive(Clone, Debug)]
pub(super) struct Browser {
    pub(super) looks: Looks,
    jar: Vec<Cookie>,
}

impl Browser {
    pub(super) const fn new(looks: Looks) -> Self {
        Self { looks, jar: Vec::new() }
    }

    /// Copies all cookies of another browser, as someone does who holds its disk, its backup or its memory.
    pub(super) fn copy_jar(&mut self, other: &Self) {
        other.jar.iter().for_each(|cookie| self.put(cookie.clone()));
    }

    /// Copies the cookies that a script on the other's page can read.
    pub(super) fn copy_readable(&mut self, other: &Self) {
        let readable = other.jar.iter().filter(|cookie| cookie.readable == Readable::ByScripts);
        readable.for_each(|cookie| self.put(cookie.clone()));
    }

    /// Puts a cookie into the jar that no site set.
    pub(super) fn plant(&mut self, name: &str, value: &str) {
        self.put(Cookie { name: name.to_owned(), value: value.to_owned(), readable: Readable::ByScripts });
    }

    /// Forgets all cookies.
    pub(super) fn clear(&mut self) {
        self.jar.clear();
    }

    pub(super) async fn get(&mut self, site: &Site, path: &str) -> Result<Page, ClientError> {
        let page = site.send(self.request(site, Method::GET, path, &[])?).await?;
        self.keep(&page);
        Ok(page)
    }

    pub(super) async fn post(&mut self, site: &Site, path: &str, form: &[(&str, &str)]) -> Result<Page, ClientError> {
        let page = site.send(self.request(site, Method::POST, path, form)?).await?;
        self.keep(&page);
        Ok(page)
    }

    /// Three requests at once, as a page with frames makes them.
    pub(super) async fn get_three(&mut self, site: &Site, path: &str) -> Result<[Page; 3], ClientError> {
        let request = || self.request(site, Method::GET, path, &[]);
        let (a, b, c) = (request()?, request()?, request()?);
        let (a, b, c) = tokio::join!(site.send(a), site.send(b), site.send(c));
        let pages = [a?, b?, c?];
        pages.iter().for_each(|page| self.keep(page));
        Ok(pages)
    }

    fn request(
        &self,
        site: &Site,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .uri(path)
            .header(header::HOST, site.address.to_string())
            .header(header::USER_AGENT, self.looks.agent)
            .header(header::ACCEPT, "text/html,application/xhtml+xml")
            .header("x-forwarded-for", &self.looks.address);
        // Each engine has its own order, which the guard knows.
        let mut lines = [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept-encoding", "identity"),
            ("accept-language", self.looks.language),
        ];
        if !self.looks.agent.contains("Chrome/") {
            lines.reverse();
        }
        for (name, value) in lines {
            request = request.header(name, value);
        }
        if !self.jar.is_empty() {
            let pairs: Vec<String> =
                self.jar.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
            request = request.header(header::COOKIE, pairs.join("; "));
        }
        if method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        Ok(request.method(method).body(Full::new(encode(form).into()))?)
    }

    /// Takes in the cookies of an answer.
    fn keep(&mut self, page: &Page) {
        for line in page.headers.get_all(header::SET_COOKIE) {
            let Ok(set) = SetCookie::parse(line.as_bytes()) else { continue };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let name = text(set.pair.name);
            // The play has no cookies with an end of their own, so any end is a past one.
            if set.deletes(Timestamp::from_millis(u64::MAX)) {
                self.jar.retain(|cookie| cookie.name != name);
            } else {
                let readable = if set.http_only { Readable::HttpOnly } else { Readable::ByScripts };
                self.put(Cookie { name, value: text(set.pair.value), readable });
            }
        }
    }

    fn put(&mut self, cookie: Cookie) {
        self.jar.retain(|other| other.name != cookie.name);
        self.jar.push(cookie);
    }
}

fn encode(form: &[(&str, &str)]) -> String {
    let pairs = form.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    pairs.collect::<Vec<_>>().join("&")
}
