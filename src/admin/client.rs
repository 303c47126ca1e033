//! The other end of the API: what the command line asks a running guard with.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Address;
use super::api::WALK_TIME_MAX;
use super::stats::Stats;
use super::token::{Token, TokenError};
use super::view::{Cleared, Health, Revoked, SessionView, Sessions, Version};
use crate::engine::Selection;
use crate::session::id::Ref;

/// Longest answer that is read: more than a page of a thousand sessions.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time for an answer that only looks.
const LOOK: Duration = Duration::from_secs(60);
/// Longest time for figures of all sessions: longer than the guard walks its store for them.
const WALK: Duration = WALK_TIME_MAX.saturating_add(Duration::from_secs(30));
/// Longest time for an answer that changes sessions.
const CHANGE: Duration = Duration::from_secs(15 * 60);

/// What stays as it is in a path or a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A running guard could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no guard answers at {0}: is `portcullis run` running, and in this folder?")]
    NotRunning(Address),
    /// The socket is another user's.
    #[error("{0} is another user's: ask as the user that runs the guard, or as root")]
    NotAllowed(Address),
    /// The token is not the guard's.
    #[error("the guard at {0} does not know this token: give the file that it was started with (--token-file)")]
    WrongToken(Address),
    /// There is no token to show.
    #[error("the guard at {0} wants a token: give its file (--token-file)")]
    NoToken(Address),
    /// The token would travel in the open.
    #[error("{0} is not on this machine, and the token would travel in the open: use a tunnel (ssh -L)")]
    NotLoopback(Address),
    /// The guard says no.
    #[error("{detail}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The guard's words.
        detail: String,
    },
    /// What answers is no guard, or of another version.
    #[error("what answers at {0} is no guard, or one of another version")]
    NotAGuard(Address),
    /// It took too long.
    #[error("the guard at {0} did not answer in time")]
    Timeout(Address),
    /// The connection failed.
    #[error("the guard at {address} can not be asked: {source}")]
    Io {
        /// Where.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The token can not be read.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Which sessions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only this subject's.
    pub subject: Option<String>,
    /// Only the one of this ref.
    pub reference: Option<Ref>,
    /// Also those that ended and are still kept.
    pub with_ended: bool,
    /// Where the page before ended.
    pub after: Option<String>,
    /// How many at most.
    pub max: Option<usize>,
}

/// Asks a running guard.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    token: Option<Token>,
}

impl Client {
    /// A client that shows a token, if it has one. Nothing is asked yet.
    ///
    /// # Errors
    /// When a token would leave this machine.
    pub fn try_new(address: Address, token: Option<Token>) -> Result<Self, ClientError> {
        match &address {
            Address::Tcp(socket) if !socket.ip().is_loopback() => Err(ClientError::NotLoopback(address)),
            Address::Tcp(_) | Address::Unix(_) => Ok(Self { address, token }),
        }
    }

    /// A page of sessions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sessions(&self, query: &Query) -> Result<Sessions, ClientError> {
        let mut pairs = Vec::new();
        let mut put = |name: &str, value: &str| pairs.push(format!("{name}={}", escaped(value)));
        query.subject.iter().for_each(|subject| put("subject", subject));
        query.reference.iter().for_each(|reference| put("ref", &reference.to_string()));
        query.after.iter().for_each(|after| put("after", after));
        query.max.iter().for_each(|max| put("max", &max.to_string()));
        if query.with_ended {
            put("ended", "yes");
        }
        self.ask(Method::GET, &format!("/v1/sessions?{}", pairs.join("&")), LOOK).await
    }

    /// One session.
    ///
    /// # Errors
    /// [`ClientError`]; [`Refused`](ClientError::Refused) with 404 if there is none of this ref.
    pub async fn session(&self, reference: Ref) -> Result<SessionView, ClientError> {
        self.ask(Method::GET, &format!("/v1/sessions/{reference}"), LOOK).await
    }

    /// Ends sessions.
    ///
    /// # Errors
    /// [`ClientError`]; [`Refused`](ClientError::Refused) with 404 if there is none of this ref.
    pub async fn revoke(&self, which: &Selection) -> Result<Revoked, ClientError> {
        let path = match which {
            Selection::Ref(reference) => format!("/v1/sessions/{reference}"),
            Selection::Subject(subject) => format!("/v1/subjects/{}/sessions", escaped(subject)),
            Selection::All => "/v1/sessions?all=yes".to_owned(),
        };
        self.ask(Method::DELETE, &path, CHANGE).await
    }

    /// Removes records of sessions that are over.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn clear_expired(&self) -> Result<Cleared, ClientError> {
        self.ask(Method::POST, "/v1/clear-expired", CHANGE).await
    }

    /// Figures of all sessions, of the first so many if a number is given.
    ///
    /// # Errors
    /// [`ClientError`]; [`Refused`](ClientError::Refused) with 409 while it takes them for somebody else.
    pub async fn stats(&self, records_max: Option<usize>) -> Result<Stats, ClientError> {
        let query = records_max.map_or_else(String::new, |max| format!("?max={max}"));
        self.ask(Method::GET, &format!("/v1/stats{query}"), WALK).await
    }

    /// How the guard is. One whose store does not answer is not refused but told.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn health(&self) -> Result<Health, ClientError> {
        let (status, body) = self.call(Method::GET, "/v1/health", LOOK).await?;
        match status {
            StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE => self.read(&body),
            status => Err(self.refused(status, &body)),
        }
    }

    /// Its figures, as Prometheus reads them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let (status, body) = self.call(Method::GET, "/metrics", LOOK).await?;
        if !status.is_success() {
            return Err(self.refused(status, &body));
        }
        String::from_utf8(body.to_vec()).ok().ok_or_else(|| ClientError::NotAGuard(self.address.clone()))
    }

    /// What answers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn version(&self) -> Result<Version, ClientError> {
        self.ask(Method::GET, "/v1/version", LOOK).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, patience: Duration) -> Result<T, ClientError> {
        let (status, body) = self.call(method, path, patience).await?;
        if status.is_success() { self.read(&body) } else { Err(self.refused(status, &body)) }
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).ok().ok_or_else(|| ClientError::NotAGuard(self.address.clone()))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> ClientError {
        #[derive(Deserialize)]
        struct Document {
            detail: String,
        }
        let address = self.address.clone();
        match (status, serde_json::from_slice::<Document>(body)) {
            (StatusCode::UNAUTHORIZED, _) if self.token.is_some() => ClientError::WrongToken(address),
            (StatusCode::UNAUTHORIZED, _) => ClientError::NoToken(address),
            (status, Ok(document)) => ClientError::Refused { status, detail: document.detail },
            (_, Err(_)) => ClientError::NotAGuard(address),
        }
    }

    async fn call(&self, method: Method, path: &str, patience: Duration) -> Result<(StatusCode, Bytes), ClientError> {
        let late = || ClientError::Timeout(self.address.clone());
        let failed = |source: io::Error| match io::Error::kind(&source) {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(self.address.clone()),
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed(self.address.clone()),
            _ => ClientError::Io { address: self.address.clone(), source },
        };
        let request = self.request(method, path)?;
        match &self.address {
            Address::Tcp(address) => {
                let stream = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
                let stream = stream.ok().ok_or_else(late)?.map_err(failed)?;
                tokio::time::timeout(patience, self.exchange(stream, request)).await.ok().ok_or_else(late)?
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                tokio::time::timeout(patience, self.exchange(stream, request)).await.ok().ok_or_else(late)?
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<Request<Empty<Bytes>>, ClientError> {
        let host = match &self.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, host).header(CONNECTION, "close");
        if let (Address::Tcp(_), Some(token)) = (&self.address, &self.token) {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
            if let Ok(value) = &mut value {
                value.set_sensitive(true);
            }
            request = request.header(AUTHORIZATION, value.map_err(http::Error::from).map_err(|error| self.odd(error))?);
        }
        request.body(Empty::new()).map_err(|error| self.odd(error))
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Empty<Bytes>>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.odd(error))?;
        let driving = tokio::spawn(connection);
        let asked = async {
            let response = sender.send_request(request).await.map_err(|error| self.odd(error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| self.odd(error))?;
            Ok((head.status, body.to_bytes()))
        };
        let answer = asked.await;
        driving.abort();
        answer
    }

    fn odd(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Io { address: self.address.clone(), source: io::Error::other(error) }
    }
}

fn escaped(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, PLAIN)
}
