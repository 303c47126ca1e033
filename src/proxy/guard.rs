//! The engine as the gate of the proxy: what the transport knows, put into the engine's words, and its answers into the
//! proxy's.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Version, request, response};

use super::{
    Admitted, Answer, AnsweredBy, Arrival, Fault, Gate, Lifetime, Looks, PeekError, Problem, RequestBody, Settled,
};
use crate::connection::{Connection, ConnectionId};
use crate::engine::cut::Cut;
use crate::engine::subject::{Extent, Peeked};
use crate::engine::{self, Admission, Client, ClientStanding, Decision, Guard, Located, Refusal, RefusalKind};
use crate::event::{ClientText, Event, field::Dependency, kinds};
use crate::facts::client_ip::{Source, UntrustedForwarding};
use crate::store::Store;
use crate::verdict::Text;

/// The guard in front of an app.
#[derive(Debug)]
pub struct Guarded<S>(Arc<Guard<S>>);

impl<S> Guarded<S> {
    /// Puts a guard before the app.
    pub const fn new(guard: Arc<Guard<S>>) -> Self {
        Self(guard)
    }
}

impl<S: Store> Guarded<S> {
    /// The body of a login is waited for only when nothing that is known before speaks against the request.
    async fn admit_login(
        &self,
        client: Client,
        request: &mut request::Parts,
        body: &mut RequestBody,
        limit: usize,
    ) -> Result<Decision, PeekError> {
        let screened = match self.0.screen(client, request) {
            Ok(screened) => screened,
            Err(refusal) => return Ok(Decision::Answer(refusal)),
        };
        let mut seen = Vec::new();
        let extent = match body.peek(limit, &mut seen).await? {
            super::Extent::Whole => Extent::Whole,
            super::Extent::Beginning => Extent::Beginning,
        };
        Ok(self.0.admit_screened(screened, request, Some(Peeked { bytes: &seen, extent })).await)
    }
}

/// How long a client is asked to wait when there is no room to wait for its body.
const BUSY_RETRY: u64 = 5;

/// The answer to a login whose body can not be looked at.
fn unseen(error: &PeekError, looks: Looks) -> Answer {
    tracing::debug!(error = error as &dyn std::error::Error, "the body of a login was not seen");
    match error {
        PeekError::BrokeOff(_) => Problem::BadRequest.answer(looks),
        PeekError::TooSlow => Problem::RequestTimeout.answer(looks),
        PeekError::Full => {
            let mut answer = Problem::Busy.answer(looks);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(BUSY_RETRY));
            answer
        }
    }
}

/// The connection that a browser has to this site: of HTTP/2, and not that of a proxy before us, whether it is declared or not.
fn connection(arrival: &Arrival, version: Version) -> Option<ConnectionId> {
    let is_own = arrival.client.source == Source::Peer && arrival.untrusted_forwarding == UntrustedForwarding::No;
    (is_own && version == Version::HTTP_2).then(|| arrival.connection.id())
}

/// Permit to call the app, with what an answer of ours needs to know of the request.
#[derive(Debug)]
pub struct Permit {
    admission: Box<Admission>,
    looks: Looks,
}

impl<S: Store> Gate for Guarded<S> {
    type Admission = Permit;
    type Tether = Cut;

    async fn admit(&self, arrival: &Arrival, request: &mut request::Parts, body: &mut RequestBody) -> Admitted<Permit> {
        let looks = arrival.looks;
        let standing = match arrival.untrusted_forwarding {
            UntrustedForwarding::Yes => {
                self.0.advise_proxy(arrival.connection.peer_ip());
                ClientStanding::LooksLikeProxy
            }
            UntrustedForwarding::No => ClientStanding::Own,
        };
        if let Some(junk) = arrival.client.junk {
            self.0.advise_proxy_header(arrival.connection.peer_ip(), junk);
        }
        let client = Client {
            ip: arrival.client.ip,
            scheme: arrival.scheme,
            standing,
            print: arrival.print,
            order: Some(arrival.order),
            connection: connection(arrival, request.version),
            located: arrival.located,
        };
        let decision = match self.0.peek(request) {
            None => self.0.admit(client, request, None).await,
            // Boxed, since it is rare.
            Some(limit) => match Box::pin(self.admit_login(client, request, body, limit)).await {
                Ok(decision) => decision,
                Err(error) => return Admitted::Answer(unseen(&error, looks)),
            },
        };
        match decision {
            Decision::Forward(admission) => Admitted::Forward(Permit { admission, looks }),
            Decision::Answer(refusal) => Admitted::Answer(answer(refusal, looks)),
        }
    }

    fn locate(&self, client: IpAddr, known: Option<Located>) -> Option<Located> {
        Some(self.0.locate(client, known))
    }

    async fn settle(&self, permit: Permit, by: AnsweredBy, response: &mut response::Parts) -> Settled<Cut> {
        let by = match by {
            AnsweredBy::App => engine::AnsweredBy::App,
            AnsweredBy::Proxy => engine::AnsweredBy::Proxy,
        };
        let settled = self.0.settle(permit.admission, by, response).await;
        Settled { tether: settled.cut, instead: settled.instead.map(|refusal| answer(refusal, permit.looks)) }
    }

    fn lifetime(&self, permit: &Permit) -> Lifetime {
        permit.admission.lifetime()
    }

    fn tether(&self, cut: Cut) -> Cut {
        cut
    }

    fn fault(&self, connection: &Arc<Connection>, fault: Fault) {
        self.0.report(Some(connection.peer_ip()), event(fault));
    }
}

/// A refusal of the engine as an answer, in the words of the one table.
fn answer(refusal: Refusal, looks: Looks) -> Answer {
    let problem = match refusal.kind {
        RefusalKind::Denied | RefusalKind::TooManySessions => Problem::Denied,
        RefusalKind::Challenge => Problem::Unauthorized,
        RefusalKind::Throttled => Problem::TooManyRequests,
        // The last two are told to apps in this process alone: one behind the proxy has no handle on its session.
        RefusalKind::AmbiguousPath | RefusalKind::Conflict | RefusalKind::SessionEnded => Problem::BadRequest,
        RefusalKind::Outage => Problem::StoreUnavailable,
    };
    let mut answer = problem.answer(looks);
    *answer.status_mut() = refusal.status;
    merge(answer.headers_mut(), refusal.headers);
    answer
}

fn merge(into: &mut HeaderMap, headers: HeaderMap) {
    let mut last = None;
    for (name, value) in headers {
        last = name.or(last);
        if let Some(name) = &last {
            into.append(name.clone(), value);
        }
    }
}

/// What a fault of the transport is called in events.
fn event(fault: Fault) -> Event {
    let word = fault.as_str();
    match fault {
        Fault::ContentLength
        | Fault::TransferEncoding
        | Fault::UnsupportedCoding
        | Fault::Chunk
        | Fault::EarlyData
        | Fault::Nominated => kinds::HttpSmuggling { fault: Text::of(word) }.into(),
        Fault::HeaderName | Fault::ForgedHeader => kinds::HeaderSpoofed { header: ClientText::new(word) }.into(),
        Fault::Method => kinds::MethodBlocked { sent: ClientText::new(word) }.into(),
        Fault::Response | Fault::AppUnreachable | Fault::AppFull | Fault::AppSilent | Fault::AppBrokeOff => {
            kinds::DependencyFailed { what: Dependency::Upstream, fault: Text::of(word) }.into()
        }
        Fault::AppCertificate | Fault::AppTls => kinds::UpstreamTlsFailed { fault: Text::of(word) }.into(),
        Fault::Panic => kinds::GuardPanic { place: Text::of("connection") }.into(),
        _ => kinds::HttpMalformed { fault: Text::of(word) }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;

    #[test]
    fn each_fault_is_told_as_what_it_is() {
        for (fault, kind) in [
            (Fault::TransferEncoding, Kind::HttpSmuggling),
            (Fault::RequestLine, Kind::HttpMalformed),
            (Fault::Http2Flood, Kind::HttpMalformed),
            (Fault::ForgedHeader, Kind::HeaderSpoofed),
            (Fault::Method, Kind::MethodBlocked),
            (Fault::AppSilent, Kind::DependencyFailed),
            (Fault::AppCertificate, Kind::UpstreamTlsFailed),
            (Fault::AppTls, Kind::UpstreamTlsFailed),
            (Fault::Panic, Kind::GuardPanic),
        ] {
            assert_eq!(event(fault).kind(), kind, "{fault:?}");
        }
    }
}
