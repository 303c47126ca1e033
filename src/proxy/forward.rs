//! The way of one request, on one screen; the steps are below it.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version, request, response};
use hyper::body::Incoming;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::connection::Scheme;
use crate::engine::outlive::Outlive;
use crate::facts::client_ip::{self, Element, Node, UntrustedForwarding};
use crate::facts::headers::{self, Upgrade, UpgradeFault};
use crate::facts::hop::HopHeaders;
use crate::proxy::answer::METHODS;
use crate::proxy::body::{Busy, RequestBody, ResponseBody};
use crate::proxy::left::Held;
use crate::proxy::serve::{Protocol, Session};
use crate::proxy::settings::{Aliases, Host};
use crate::proxy::upstream::{Failure, Stream};
use crate::proxy::wire::digits;
use crate::proxy::{
    Admitted, Answer, AnsweredBy, Arrival, Fault, Gate, Lifetime, Limits, Live, Looks, Problem, Settled, authority,
    upgrade, whose,
};

/// Takes a request to the app and its answer back.
pub(super) async fn handle<G: Gate>(session: Arc<Session<G>>, request: Request<Incoming>) -> Response<ResponseBody<G>> {
    let live = session.worker.live.load_full();
    let gate = &session.worker.gate;
    let busy = Busy::new(&session, &request);
    let (mut head, body) = request.into_parts();
    let mut body = RequestBody::new(body, &session, &live.settings.client);
    let looks = Looks::of(&head.headers);

    let arrival = match receive(&session, &live, &mut head, looks) {
        Ok(arrival) => arrival,
        Err(refusal) => return refuse(&session, &live, &refusal, looks, busy),
    };
    body.sent_by(arrival.client.ip);
    let admission = match gate.admit(&arrival, &mut head, &mut body).await {
        Admitted::Forward(admission) => admission,
        Admitted::Answer(answer) => return ours(&live, answer, busy),
    };
    let key = dress(&session, &live, &arrival, &mut head, &body);
    let lifetime = gate.lifetime(&admission);
    let client = arrival.client.ip;
    let mut call =
        Call { request: Some(Request::from_parts(head, body)), admission: Some(admission), key, looks, client };
    let answered = match lifetime {
        Lifetime::OfClient => exchange(&session, &live, &mut call).await,
        Lifetime::UntilSettled => outlive(&session, &live, call).await,
    };
    match answered {
        Answered::Proxy(answer) => ours(&live, answer, busy),
        Answered::App { head, stream, tether } if head.status == StatusCode::SWITCHING_PROTOCOLS => {
            let cut = tether.map(|tether| gate.tether(tether));
            upgrade::agree(&session, head, stream, cut, busy)
        }
        Answered::App { head, stream, tether } => {
            Response::from_parts(head, ResponseBody::stream(stream, tether, &session, busy))
        }
    }
}

/// What is needed from the admission to the settlement. Both are taken where they are used, so that they are not moved
/// from future to future.
struct Call<A> {
    request: Option<Request<RequestBody>>,
    admission: Option<A>,
    /// Of a WebSocket handshake.
    key: Option<HeaderValue>,
    looks: Looks,
    client: IpAddr,
}

/// An answer that is settled.
enum Answered<T> {
    App { head: response::Parts, stream: Stream, tether: Option<T> },
    Proxy(Answer),
}

/// [`exchange`] that is finished even when the client has gone.
fn outlive<G: Gate>(
    session: &Arc<Session<G>>,
    live: &Arc<Live>,
    mut call: Call<G::Admission>,
) -> impl Future<Output = Answered<G::Tether>> + Send {
    let (own, live) = (session.clone(), live.clone());
    Outlive::new(Held::new(session, Some(call.client)), async move { exchange(&own, &live, &mut call).await })
}

/// Asks the app and settles its answer, or the want of one.
async fn exchange<G: Gate>(
    session: &Arc<Session<G>>,
    live: &Live,
    call: &mut Call<G::Admission>,
) -> Answered<G::Tether> {
    let gate = &session.worker.gate;
    let began = Instant::now();
    let exchanged = live.upstream.exchange(&mut call.request).await;
    let Some(admission) = call.admission.take() else {
        return Answered::Proxy(Problem::Internal.answer(call.looks));
    };
    match exchanged.and_then(|(head, stream)| accept(head, stream, call.key.take())) {
        Ok(Accepted { mut head, mut stream, found }) => {
            session.worker.exchanges.0.answered(head.status, began.elapsed());
            if is_event_stream(&head.headers) {
                stream.be_patient(live.settings.client.timeouts.tunnel_idle);
            }
            let settled = if found.ours || found.sets_cookie {
                // It may change the session: begun is finished, whether the client stays for it or not.
                let settled = settle_for_good(session, admission, head).await;
                head = settled.0;
                settled.1
            } else {
                gate.settle(admission, AnsweredBy::App, &mut head).await
            };
            if let Some(answer) = settled.instead {
                return Answered::Proxy(answer);
            }
            if found.ours {
                undress(&mut head);
            }
            Answered::App { head, stream, tether: settled.tether }
        }
        Err(failure) => {
            if let Some(fault) = failure.fault() {
                session.worker.exchanges.0.failed(fault);
                session.fault(fault);
            }
            tracing::debug!(error = &failure as &dyn std::error::Error, "no answer from the app");
            let (mut head, body) = failure.problem().answer(call.looks).into_parts();
            gate.settle(admission, AnsweredBy::Proxy, &mut head).await;
            Answered::Proxy(Response::from_parts(head, body))
        }
    }
}

/// Settles an answer even if the client goes away meanwhile.
fn settle_for_good<G: Gate>(
    session: &Arc<Session<G>>,
    admission: G::Admission,
    mut head: response::Parts,
) -> impl Future<Output = (response::Parts, Settled<G::Tether>)> + Send {
    let own = session.clone();
    Outlive::new(Held::new(session, None), async move {
        let settled = own.worker.gate.settle(admission, AnsweredBy::App, &mut head).await;
        (head, settled)
    })
}

/// A request that goes no further, and why.
pub(super) struct Refusal {
    answer: Refused,
    fault: Option<Fault>,
}

enum Refused {
    Problem(Problem),
    /// `OPTIONS` that is meant for us.
    Options,
    /// WebSocket, but not version 13.
    WebSocketVersion,
}

impl Refusal {
    pub(super) const fn new(problem: Problem, fault: Fault) -> Self {
        Self { answer: Refused::Problem(problem), fault: Some(fault) }
    }
}

/// Who we are, towards others.
pub(super) struct Identity {
    name: String,
    via_10: HeaderValue,
    via_11: HeaderValue,
    via_20: HeaderValue,
    fixed_host: Option<HeaderValue>,
}

impl Identity {
    pub(super) fn new(name: &str, host: &Host) -> Self {
        let token = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
        let name = if !name.is_empty() && name.bytes().all(token) { name } else { "portcullis" };
        let value = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("portcullis"));
        Self {
            name: name.to_owned(),
            via_10: value(&format!("1.0 {name}")),
            via_11: value(&format!("1.1 {name}")),
            via_20: value(&format!("2.0 {name}")),
            fixed_host: match host {
                Host::Pass => None,
                Host::Fixed(host) => HeaderValue::from_str(host).ok(),
            },
        }
    }

    /// Whether a request has come through here before.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::VIA).iter();
        lines.flat_map(|line| line.as_bytes().split(|octet| *octet == b',')).any(|hop| {
            let mut words = hop.split(|octet| octet.is_ascii_whitespace()).filter(|word| !word.is_empty());
            words.nth(1).is_some_and(|by| by.eq_ignore_ascii_case(self.name.as_bytes()))
        })
    }
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
static CONTROL: HeaderName = HeaderName::from_static("portcullis-session");

/// Checks the request and takes off whatever is not the app's to see. What is left is safe to judge and to forward.
fn receive<G: Gate>(
    session: &Session<G>,
    live: &Live,
    head: &mut request::Parts,
    looks: Looks,
) -> Result<Arrival, Refusal> {
    authority::settle(head)?;
    let connection = &session.connection;
    if authority::is_misdirected(connection, &head.headers) {
        return Err(Refusal::new(Problem::Misdirected, Fault::Misdirected));
    }
    let found = HopHeaders::of(&head.headers);
    if found.via && live.identity.is_in(&head.headers) {
        return Err(Refusal::new(Problem::Loop, Fault::Loop));
    }
    if found.expect {
        expectation(&mut head.headers)?;
    }
    max_forwards(head)?;
    if session.protocol == Protocol::Http2 {
        sizes(&live.settings.client.limits, head)?;
    }
    let upgrade = if found.upgrade { headers::upgrade(&head.method, head.version, &head.headers) } else { Upgrade::No };
    match upgrade {
        Upgrade::Refused(UpgradeFault::Version) => {
            return Err(Refusal { answer: Refused::WebSocketVersion, fault: Some(Fault::Upgrade) });
        }
        Upgrade::Refused(_) => return Err(Refusal::new(Problem::BadRequest, Fault::Upgrade)),
        Upgrade::Ignored => session.fault(Fault::Upgrade),
        Upgrade::No | Upgrade::WebSocket => {}
    }
    let peer = connection.peer_ip();
    let trusted = &live.settings.client.trusted_proxies;
    let client = client_ip::of(connection, &head.headers, trusted);
    let arrival = Arrival {
        connection: connection.clone(),
        located: session.locate(client.ip),
        client,
        scheme: client_ip::stated_scheme(peer, &head.headers, trusted).unwrap_or_else(|| connection.scheme()),
        print: whose::print(connection, &head.headers, &live.settings.client),
        untrusted_forwarding: if found.forwarding {
            client_ip::untrusted_forwarding(peer, &head.headers, trusted)
        } else {
            UntrustedForwarding::No
        },
        upgrade,
        looks,
        wants_trailers: found.te && wants_trailers(&head.headers),
        order: found.order,
    };
    if found.hop_by_hop {
        let nominated = || Refusal::new(Problem::BadRequest, Fault::Nominated);
        headers::hop_by_hop(&mut head.headers).ok().ok_or_else(nominated)?;
    }
    if found.alias || found.ours || found.forwarding {
        strip(session, live, &mut head.headers)?;
    }
    if found.repeats {
        join_cookies(&mut head.headers)?;
    }
    if upgrade == Upgrade::WebSocket {
        // Said again before the gate looks: the answer to a handshake is none to a page, whatever its status.
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    Ok(arrival)
}

/// Takes off names that speak for a proxy, that are ours alone, or that servers fold into other names.
fn strip<G: Gate>(session: &Session<G>, live: &Live, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mut names: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for name in headers.keys() {
        let text = name.as_str();
        if headers::is_alias(name) {
            session.fault(Fault::HeaderName);
            if live.settings.client.aliases == Aliases::Reject {
                return Err(Refusal { answer: Refused::Problem(Problem::BadRequest), fault: None });
            }
        } else if text.starts_with("portcullis-") {
            session.fault(Fault::ForgedHeader);
        } else if !client_ip::is_forwarding(text) {
            continue;
        }
        names.push(name.clone());
    }
    for name in &names {
        headers.remove(name);
    }
    Ok(())
}

/// We answer `100 Continue` ourselves, when the body is wanted; anything else nobody could keep.
fn expectation(headers: &mut HeaderMap) -> Result<(), Refusal> {
    match headers.remove(header::EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(Refusal::new(Problem::ExpectationFailed, Fault::Expectation))
        }
        _ => Ok(()),
    }
}

fn max_forwards(head: &mut request::Parts) -> Result<(), Refusal> {
    if head.method != Method::OPTIONS {
        return Ok(());
    }
    let Some(value) = head.headers.get(header::MAX_FORWARDS) else { return Ok(()) };
    match digits(value.as_bytes()) {
        Some(0) => Err(Refusal { answer: Refused::Options, fault: None }),
        Some(hops) => {
            head.headers.insert(header::MAX_FORWARDS, HeaderValue::from(hops - 1));
            Ok(())
        }
        None => Err(Refusal::new(Problem::BadRequest, Fault::HeaderLine)),
    }
}

/// What the wire sees to in HTTP/1: limits, with every crumb of a cookie counted, and a length that is one number beside
/// the framing that HTTP/2 has of itself.
fn sizes(limits: &Limits, head: &request::Parts) -> Result<(), Refusal> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.uri_bytes_max {
        return Err(Refusal::new(Problem::UriTooLong, Fault::UriTooLong));
    }
    // As HTTP/2 counts them: 32 octets for each field besides its own (RFC 9113 section 6.5.2).
    let octets: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    if head.headers.len() > limits.headers_max || octets > limits.header_bytes_max {
        return Err(Refusal::new(Problem::HeadersTooLarge, Fault::HeadersTooLarge));
    }
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(length), None) if digits(length.as_bytes()).is_some() => Ok(()),
        _ => Err(Refusal::new(Problem::BadRequest, Fault::ContentLength)),
    }
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    let mut words = headers.get_all(header::TE).iter().flat_map(|line| line.as_bytes().split(|octet| *octet == b','));
    words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Browsers may split cookies over several lines in HTTP/2; an app must see them in one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mut lines = headers.get_all(header::COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return Ok(());
    }
    let mut joined = Vec::new();
    for line in headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(line.as_bytes());
    }
    let joined = HeaderValue::from_bytes(&joined).ok();
    headers.insert(header::COOKIE, joined.ok_or_else(|| Refusal::new(Problem::BadRequest, Fault::HeaderLine))?);
    Ok(())
}

/// Adds what is ours to say to the app. Returns the key of a WebSocket handshake, whose answer must match it.
fn dress<G: Gate>(
    session: &Session<G>,
    live: &Live,
    arrival: &Arrival,
    head: &mut request::Parts,
    body: &RequestBody,
) -> Option<HeaderValue> {
    let headers = &mut head.headers;
    let identity = &live.identity;
    headers.append(
        header::VIA,
        match head.version {
            Version::HTTP_10 => identity.via_10.clone(),
            Version::HTTP_2 => identity.via_20.clone(),
            _ => identity.via_11.clone(),
        },
    );
    head.version = Version::HTTP_11;
    let host = headers.get(header::HOST).cloned();
    headers.insert(X_FORWARDED_FOR.clone(), session.address_value(arrival.client.ip));
    headers.insert(X_FORWARDED_PROTO.clone(), HeaderValue::from_static(arrival.scheme.as_str()));
    if let Some(host) = host {
        headers.insert(header::FORWARDED, session.forwarded_value(arrival, &host));
        headers.insert(X_FORWARDED_HOST.clone(), host);
    }
    if let Some(fixed) = &identity.fixed_host {
        headers.insert(header::HOST, fixed.clone());
    }
    if !body.is_empty() && !headers.contains_key(header::CONTENT_LENGTH) {
        // Said aloud, since hyper would take a GET of unknown length for one without a body.
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if arrival.upgrade == Upgrade::WebSocket {
        return headers.get(header::SEC_WEBSOCKET_KEY).cloned();
    }
    if arrival.wants_trailers {
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    None
}

/// An answer of the app that is HTTP.
struct Accepted {
    head: response::Parts,
    stream: Stream,
    found: HopHeaders,
}

/// Checks the app's answer as strictly as a request. `key` is there if the app was asked to switch to WebSocket.
fn accept(mut head: response::Parts, mut stream: Stream, key: Option<HeaderValue>) -> Result<Accepted, Failure> {
    let headers = &mut head.headers;
    let found = HopHeaders::of(headers);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let agreed = key.is_some_and(|key| upgrade::is_agreed(headers, &key));
        return if agreed { Ok(Accepted { head, stream, found }) } else { Err(Failure::Unasked) };
    }
    if found.hop_by_hop {
        if let Some(coding) = headers.get(header::TRANSFER_ENCODING) {
            let sound = coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && headers.get_all(header::TRANSFER_ENCODING).iter().count() == 1
                && !headers.contains_key(header::CONTENT_LENGTH);
            if !sound {
                return Err(Failure::Nonsense("framing"));
            }
        }
        headers::hop_by_hop(headers).ok().ok_or(Failure::Nonsense("connection"))?;
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let again = lengths.next().is_some();
        // hyper has seen that they agree.
        let length = digits(length.as_bytes()).ok_or(Failure::Nonsense("length"))?;
        if again {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
    head.version = Version::HTTP_11;
    stream.release();
    Ok(Accepted { head, stream, found })
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.and_then(|kind| kind.get(..17)).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
}

/// Takes off what the app says to the guard alone, whether the gate has listened or not.
fn undress(head: &mut response::Parts) {
    head.headers.remove(&CONTROL);
}

#[cold]
fn refuse<G: Gate>(
    session: &Session<G>,
    live: &Live,
    refusal: &Refusal,
    looks: Looks,
    busy: Busy,
) -> Response<ResponseBody<G>> {
    if let Some(fault) = refusal.fault {
        session.fault(fault);
    }
    let answer = match refusal.answer {
        Refused::Problem(problem) => problem.answer(looks),
        Refused::WebSocketVersion => {
            let mut answer = Problem::UpgradeRequired.answer(looks);
            let headers = answer.headers_mut();
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            answer
        }
        Refused::Options => {
            let mut answer = Answer::default();
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
            answer
        }
    };
    ours(live, answer, busy)
}

/// An answer of ours on its way out.
#[cold]
fn ours<G: Gate>(live: &Live, answer: Answer, busy: Busy) -> Response<ResponseBody<G>> {
    let (mut head, body) = answer.into_parts();
    if let Some(problem) = head.extensions.remove::<Problem>()
        && let Ok(status) = HeaderValue::from_str(&format!("{}; error={}", live.identity.name, problem.error()))
    {
        head.headers.append(PROXY_STATUS.clone(), status);
    }
    Response::from_parts(head, ResponseBody::whole(body, busy))
}

/// Values that are the same for nearly every request of a connection.
#[derive(Default)]
pub(super) struct Worn {
    address: Option<(IpAddr, HeaderValue)>,
    forwarded: Option<(IpAddr, Scheme, HeaderValue, HeaderValue)>,
}

impl<G: Gate> Session<G> {
    fn address_value(&self, ip: IpAddr) -> HeaderValue {
        let mut worn = self.worn.lock();
        match &worn.address {
            Some((before, value)) if *before == ip => value.clone(),
            _ => {
                let value = client_ip::address_value(ip);
                worn.address = Some((ip, value.clone()));
                value
            }
        }
    }

    fn forwarded_value(&self, arrival: &Arrival, host: &HeaderValue) -> HeaderValue {
        let (ip, scheme) = (arrival.client.ip, arrival.scheme);
        let mut worn = self.worn.lock();
        if let Some((before, said, at, value)) = &worn.forwarded
            && (*before, *said) == (ip, scheme)
            && at == host
        {
            return value.clone();
        }
        let element = Element { node: Some(Node::Ip(ip)), host: host.to_str().ok(), scheme: Some(scheme) };
        let value = client_ip::forwarded_value(&element);
        // A copy: a clone would keep the whole buffer of the request's head for as long as the connection lives.
        let host = HeaderValue::from_bytes(host.as_bytes()).unwrap_or_else(|_| HeaderValue::from_static(""));
        worn.forwarded = Some((ip, scheme, host, value.clone()));
        value
    }
}
