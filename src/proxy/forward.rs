//! The way of one request, on one screen; the steps are below it.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, Version, request};
use hyper::body::Incoming;

use crate::proxy::body::{Busy, RequestBody, ResponseBody};
use crate::proxy::serve::Session;
use crate::proxy::upstream::Failure;
use crate::proxy::{Admitted, Answer, AnsweredBy, Fault, Gate, Live, Looks, Problem};

/// Who we are, towards others.
pub(super) struct Identity {
    name: String,
    via: HeaderValue,
}

impl Identity {
    pub(super) fn new(name: &str) -> Self {
        let via = HeaderValue::from_str(&format!("1.1 {name}"));
        Self { name: name.to_owned(), via: via.unwrap_or_else(|_| HeaderValue::from_static("1.1 portcullis")) }
    }
}

/// Takes a request to the app and its answer back.
pub(super) async fn handle<G: Gate>(session: Arc<Session<G>>, request: Request<Incoming>) -> Response<ResponseBody<G>> {
    let Session { shared, connection, .. } = &*session;
    let live = shared.live.load();
    let busy = Busy::new(&session, &request);
    let (mut head, body) = request.into_parts();
    let mut body = RequestBody::new(body);
    let looks = Looks::of(&head.headers);

    if let Err(Refusal { problem, fault }) = check(&mut head) {
        shared.gate.fault(connection, fault);
        return ours(&live, problem.answer(looks), busy);
    }
    let admission = match shared.gate.admit(connection, &mut head, &mut body).await {
        Admitted::Forward(admission) => admission,
        Admitted::Answer(answer) => return ours(&live, answer, busy),
    };
    let request = outgoing(&live, head, body);
    match live.upstream.exchange(request).await {
        Ok((mut head, stream)) => {
            let settled = shared.gate.settle(admission, AnsweredBy::App, &mut head).await;
            Response::from_parts(head, ResponseBody::stream(stream, settled.tether, &session, busy))
        }
        Err(failure) => {
            tracing::debug!(error = &failure as &dyn std::error::Error, "no answer from the app");
            let (mut head, body) = problem(&failure).answer(looks).into_parts();
            shared.gate.settle(admission, AnsweredBy::Proxy, &mut head).await;
            ours(&live, Response::from_parts(head, body), busy)
        }
    }
}

struct Refusal {
    problem: Problem,
    fault: Fault,
}

fn check(head: &mut request::Parts) -> Result<(), Refusal> {
    if head.headers.get_all(header::HOST).iter().count() != 1 {
        return Err(Refusal { problem: Problem::BadRequest, fault: Fault::Host });
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Refusal { problem: Problem::MethodNotAllowed, fault: Fault::Method });
    }
    Ok(())
}

fn outgoing(live: &Live, mut head: request::Parts, body: RequestBody) -> Request<RequestBody> {
    head.headers.append(header::VIA, live.identity.via.clone());
    head.version = Version::HTTP_11;
    Request::from_parts(head, body)
}

/// The status and the reason for a failure of the app. The client learns the status alone.
fn problem(failure: &Failure) -> Problem {
    match failure {
        Failure::Connect(_) => Problem::Refused,
        Failure::ConnectTimeout => Problem::ConnectTimeout,
        Failure::Full => Problem::Full,
        Failure::Exchange(error) if error.is_parse() => Problem::BadReply,
        Failure::Exchange(_) | Failure::Ended => Problem::ReplyBrokeOff,
        Failure::ResponseTimeout => Problem::ReplyTimeout,
    }
}

/// An answer of ours on its way out.
fn ours<G: Gate>(live: &Live, answer: Answer, busy: Busy) -> Response<ResponseBody<G>> {
    let (mut head, body) = answer.into_parts();
    if let Some(problem) = head.extensions.remove::<Problem>()
        && let Ok(status) = HeaderValue::from_str(&format!("{}; error={}", live.identity.name, problem.error()))
    {
        head.headers.append(header::HeaderName::from_static("proxy-status"), status);
    }
    Response::from_parts(head, ResponseBody::whole(body, busy))
}
