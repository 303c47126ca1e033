//! The engine as the gate of the proxy: what the transport knows, put into the engine's words, and its answers into the
//! proxy's.

use std::sync::Arc;

use http::{HeaderMap, request, response};

use super::{Admitted, Answer, AnsweredBy, Arrival, Fault, Gate, Lifetime, Looks, Problem, RequestBody, Settled};
use crate::connection::Connection;
use crate::engine::cut::Cut;
use crate::engine::subject::{Extent, Peeked};
use crate::engine::{self, Admission, Client, ClientStanding, Decision, Guard, Refusal, RefusalKind};
use crate::event::{ClientText, Event, field::Dependency, kinds};
use crate::facts::client_ip::UntrustedForwarding;
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

/// Permit to call the app, with what an answer of ours needs to know of the request.
#[derive(Debug)]
pub struct Permit {
    admission: Admission,
    looks: Looks,
}

impl<S: Store> Gate for Guarded<S> {
    type Admission = Permit;
    type Tether = Cut;

    async fn admit(&self, arrival: &Arrival, request: &mut request::Parts, body: &mut RequestBody) -> Admitted<Permit> {
        let looks = Looks::of(&request.headers);
        let standing = match arrival.untrusted_forwarding {
            UntrustedForwarding::Yes => {
                self.0.advise_proxy(arrival.connection.peer_ip());
                ClientStanding::LooksLikeProxy
            }
            UntrustedForwarding::No => ClientStanding::Own,
        };
        let client = Client { ip: arrival.client.ip, scheme: arrival.scheme, standing };
        let mut seen = Vec::new();
        let mut peeked = None;
        if let Some(limit) = self.0.peek(request) {
            match body.peek(limit, &mut seen).await {
                Ok(extent) => peeked = Some(extent),
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "the body of a login broke off");
                    return Admitted::Answer(Problem::BadRequest.answer(looks));
                }
            }
        }
        let peeked = peeked.map(|extent| Peeked {
            bytes: &seen,
            extent: match extent {
                super::Extent::Whole => Extent::Whole,
                super::Extent::Beginning => Extent::Beginning,
            },
        });
        match self.0.admit(client, request, peeked).await {
            Decision::Forward(admission) => Admitted::Forward(Permit { admission, looks }),
            Decision::Answer(refusal) => Admitted::Answer(answer(refusal, looks)),
        }
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
        RefusalKind::AmbiguousPath => Problem::BadRequest,
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
        | Fault::Nominated => kinds::HttpSmuggling { fault: word }.into(),
        Fault::HeaderName | Fault::ForgedHeader => kinds::HeaderSpoofed { header: ClientText::new(word) }.into(),
        Fault::Method => kinds::MethodBlocked { sent: ClientText::new(word) }.into(),
        Fault::Response => kinds::DependencyFailed { what: Dependency::Upstream, fault: Text::of(word) }.into(),
        Fault::Panic => kinds::GuardPanic { place: Text::of("connection") }.into(),
        _ => kinds::HttpMalformed { fault: word }.into(),
    }
}
