//! What rules may read of a request: the fields of the scheme, each looked up when it is asked for.

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use http::header::{ACCEPT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::Client;
use super::admit::Request;
use super::judge::SessionSeen;
use crate::clock::Timestamp;
use crate::connection::Scheme;
use crate::connection::print::Ja4;
use crate::facts::geo::{Country, NetworkKind};
use crate::facts::seen;
use crate::fingerprint::drift::{Drift, Moved, NetworkDrift, drift};
use crate::fingerprint::{Fingerprint, Prefix};
use crate::history::{Contexts, Points};
use crate::rules::count::Counted;
use crate::rules::scheme::{Field, Type};
use crate::rules::{Facts, HostFacts, OwnedValue, Short, Value};
use crate::session::record::Record;
use crate::signal::Signal;

/// How often somebody came lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) client: Counted,
    pub(super) prefix: Counted,
    pub(super) session: Counted,
    pub(super) subject: Counted,
}

/// A request as rules see it.
pub(super) struct RequestFacts<'a> {
    pub(super) request: &'a Request<'a>,
    /// Its session, if it has one, with forks counted.
    pub(super) session: Option<SessionSeen<'a>>,
    pub(super) signals: &'a [Signal],
    pub(super) risk: Option<Points>,
    pub(super) counts: Option<Counts>,
    pub(super) reference: OnceCell<String>,
    pub(super) bound_ja4: OnceCell<Option<Ja4>>,
}

impl<'a> RequestFacts<'a> {
    /// A request whose session nobody knows yet.
    pub(super) const fn early(request: &'a Request<'a>) -> Self {
        Self {
            request,
            session: None,
            signals: &[],
            risk: None,
            counts: None,
            reference: OnceCell::new(),
            bound_ja4: OnceCell::new(),
        }
    }

    fn bound(&self) -> Option<&'a Fingerprint> {
        self.session?.contexts.known().first().map(|context| &context.fingerprint)
    }

    /// The network of the login.
    fn home(&self) -> Value<'a> {
        self.session.map_or(Value::Unknown, |session| prefix_value(session.contexts.home()))
    }

    fn since(&self, then: impl Fn(&Record) -> Option<Timestamp>) -> Value<'a> {
        let Some(SessionSeen { record, .. }) = self.session else { return Value::Unknown };
        then(record).map_or(Value::Unknown, |then| span(self.request.now.since(then)))
    }

    fn contexts(&self, count: impl Fn(&Contexts) -> usize) -> Value<'a> {
        self.session.map_or(Value::Unknown, |session| number(count(session.contexts)))
    }

    /// The fingerprint of TLS at the login.
    fn bound_ja4(&self) -> Option<&Ja4> {
        self.bound_ja4.get_or_init(|| self.session.and_then(|session| session.contexts.ja4())).as_ref()
    }

    /// That of this request.
    fn ja4(&self) -> Option<&'a Ja4> {
        self.request.client.print.tls.as_ref().and_then(|tls| tls.ja4.as_ref())
    }

    /// What of the client differs from what the session is bound to.
    fn changed(&self, field: Field) -> Value<'a> {
        let Some(bound) = self.bound() else { return Value::Unknown };
        let now = &self.request.fingerprint;
        // Unknown on either side is unknown.
        let differ = |left: Value<'_>, right: Value<'_>| match (left.is_known(), right.is_known()) {
            (true, true) => Value::Bool(left != right),
            _ => Value::Unknown,
        };
        match field {
            // Two programs that nobody knows have one name, and are not one.
            Field::ChangedUaFamily => Value::Bool(now.agent.family != bound.agent.family),
            Field::ChangedUaMajor => differ(major(now), major(bound)),
            Field::ChangedOs => differ(os(now), os(bound)),
            Field::ChangedDevice => differ(device(now), device(bound)),
            Field::ChangedLanguage => differ(language(now), language(bound)),
            Field::ChangedPrefix => differ(prefix(now), self.home()),
            Field::ChangedAsn => differ(asn(now), asn(bound)),
            Field::ChangedCountry => differ(country(now), country(bound)),
            Field::ChangedJa4 => {
                self.ja4().zip(self.bound_ja4()).map_or(Value::Unknown, |(now, bound)| Value::Bool(now != bound))
            }
            _ => Value::Unknown,
        }
    }

    fn of_request(&self, field: Field) -> Value<'a> {
        let request = self.request;
        let parts = request.parts;
        match field {
            Field::RequestMethod => Value::Text(parts.method.as_str()),
            Field::RequestPath => Value::Text(&request.path.path),
            Field::RequestRoute => {
                request.route().map_or(Value::Unknown, |route| Value::Text(route.pattern.path().as_str()))
            }
            Field::RequestHost => host(parts),
            Field::RequestScheme => scheme(request.client),
            Field::RequestIsNavigation => Value::Bool(request.is_navigation()),
            Field::RequestIsPassive => Value::Bool(!request.is_use()),
            Field::RequestSite => site(&parts.headers),
            Field::RequestOrigin => origin(&parts.headers),
            Field::RequestContentType => media_type(&parts.headers),
            Field::RequestSize => {
                let size = parts.headers.get(CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
                size.map_or(Value::Unknown, Value::Int)
            }
            Field::ClientLanguages => text(&parts.headers, &ACCEPT_LANGUAGE).map_or(Value::Texts(""), Value::Texts),
            Field::ClientHttpVersion => match parts.version {
                Version::HTTP_10 => Value::Text("1.0"),
                Version::HTTP_11 => Value::Text("1.1"),
                Version::HTTP_2 => Value::Text("2"),
                _ => Value::Unknown,
            },
            Field::LoginAttempt => Value::Bool(request.policy.login(&parts.method, &request.path.path).is_some()),
            Field::Host(at) => {
                let set = request.policy.rules_on(request.route());
                let declared = set.host().get(usize::from(at));
                let found =
                    declared.and_then(|fact| Some((parts.extensions.get::<HostFacts>()?.get(&fact.name)?, fact.kind)));
                found.filter(|(value, kind)| value.is(*kind)).map_or(Value::Unknown, |(value, _)| value.as_value())
            }
            _ => Value::Unknown,
        }
    }

    fn of_client(&self, field: Field) -> Value<'a> {
        let now = &self.request.fingerprint;
        let kind = now.place.kind;
        let is = |one: bool| if kind == NetworkKind::Unknown { Value::Unknown } else { Value::Bool(one) };
        match field {
            Field::ClientIp => Value::Ip(crate::net::canonical(self.request.client.ip)),
            Field::ClientPrefix => prefix(now),
            Field::ClientAsn => asn(now),
            Field::ClientCountry => country(now),
            Field::ClientCity => {
                self.request.early.as_ref().and_then(|early| early.city.as_deref()).map_or(Value::Unknown, Value::Text)
            }
            Field::ClientIsTor => is(kind == NetworkKind::Tor),
            Field::ClientIsHosting => is(kind == NetworkKind::Hosting),
            Field::ClientIsAnonymous => is(matches!(kind, NetworkKind::Vpn | NetworkKind::Relay | NetworkKind::Tor)),
            Field::ClientUaFamily => family(now),
            Field::ClientUaMajor => major(now),
            Field::ClientOs => os(now),
            Field::ClientDevice => device(now),
            Field::ClientJa4 => self.ja4().map_or(Value::Unknown, |ja4| Value::Text(ja4.as_str())),
            Field::RateClient => self.counts.map_or(Value::Unknown, |counts| Value::Int(counts.client.lately.into())),
            Field::RatePrefix => self.counts.map_or(Value::Unknown, |counts| Value::Int(counts.prefix.lately.into())),
            _ => Value::Unknown,
        }
    }

    fn of_session(&self, field: Field) -> Value<'_> {
        let record = self.session.map(|session| session.record);
        let bound = |of: fn(&'a Fingerprint) -> Value<'a>| self.bound().map_or(Value::Unknown, of);
        let counted = |of: fn(&Counts) -> i64| match (self.counts, record) {
            (Some(counts), Some(_)) => Value::Int(of(&counts)),
            _ => Value::Unknown,
        };
        match field {
            Field::SessionExists => Value::Bool(record.is_some()),
            Field::SessionAuthenticated => Value::Bool(record.is_some_and(Record::is_authenticated)),
            Field::SessionAge => self.since(|record| Some(record.created_at)),
            Field::SessionIdle => self.since(|record| Some(record.last_seen)),
            Field::SessionSinceRotation => {
                self.session.map_or(Value::Unknown, |session| span(self.request.now.since(session.head.1)))
            }
            Field::SessionSinceAuthentication => self.since(|record| record.authenticated_at),
            Field::SessionSubject => {
                record.and_then(|record| record.subject.as_deref()).map_or(Value::Unknown, Value::Text)
            }
            Field::SessionRef => match record {
                Some(record) => Value::Text(self.reference.get_or_init(|| record.reference.to_string())),
                None => Value::Unknown,
            },
            Field::SessionRequests => counted(|counts| i64::try_from(counts.session.total).unwrap_or(i64::MAX)),
            Field::SessionRotations => self.session.map_or(Value::Unknown, |session| Value::Int(session.head.0.into())),
            Field::SessionForks => self.session.map_or(Value::Unknown, |session| Value::Int(session.forks.into())),
            Field::SessionContexts => self.contexts(|contexts| contexts.known().len()),
            Field::SessionNetworks => {
                self.contexts(|contexts| distinct(contexts, |one, other| one.same_network(other)))
            }
            Field::SessionDevices => self.contexts(|contexts| distinct(contexts, is_one_device)),
            Field::BoundUaFamily => bound(family),
            Field::BoundUaMajor => bound(major),
            Field::BoundOs => bound(os),
            Field::BoundDevice => bound(device),
            Field::BoundLanguage => bound(language),
            Field::BoundPrefix => self.home(),
            Field::BoundAsn => bound(asn),
            Field::BoundCountry => bound(country),
            Field::BoundJa4 => self.bound_ja4().map_or(Value::Unknown, |ja4| Value::Text(ja4.as_str())),
            Field::RateSession => counted(|counts| counts.session.lately.into()),
            Field::RateSubject => match record.and_then(|record| record.subject.as_ref()) {
                Some(_) => counted(|counts| counts.subject.lately.into()),
                None => Value::Unknown,
            },
            Field::Risk => self.risk.map_or(Value::Unknown, |risk| Value::Int(i64::from(risk.as_hundredths() / 100))),
            Field::Signal(kind) => {
                let points = self.signals.iter().find(|signal| signal.kind == kind).map_or(0, |signal| {
                    // What is worth a part of a point was seen all the same.
                    signal.points.as_hundredths().div_ceil(100)
                });
                Value::Int(points.into())
            }
            other => self.changed(other),
        }
    }
}

impl Facts for RequestFacts<'_> {
    fn value(&self, field: Field) -> Value<'_> {
        match field {
            Field::RequestMethod
            | Field::RequestPath
            | Field::RequestRoute
            | Field::RequestHost
            | Field::RequestScheme
            | Field::RequestIsNavigation
            | Field::RequestIsPassive
            | Field::RequestSite
            | Field::RequestOrigin
            | Field::RequestContentType
            | Field::RequestSize
            | Field::ClientLanguages
            | Field::ClientHttpVersion
            | Field::LoginAttempt
            | Field::Host(_) => self.of_request(field),
            Field::ClientIp
            | Field::ClientPrefix
            | Field::ClientAsn
            | Field::ClientCountry
            | Field::ClientCity
            | Field::ClientIsTor
            | Field::ClientIsHosting
            | Field::ClientIsAnonymous
            | Field::ClientUaFamily
            | Field::ClientUaMajor
            | Field::ClientOs
            | Field::ClientDevice
            | Field::ClientJa4
            | Field::RateClient
            | Field::RatePrefix => self.of_client(field),
            other => self.of_session(other),
        }
    }

    fn now(&self) -> Timestamp {
        self.request.now
    }
}

/// The answer of the app, with what was known of its request.
pub(super) struct AnswerFacts<'a> {
    pub(super) now: Timestamp,
    pub(super) request: &'a Seen,
    pub(super) status: u16,
    pub(super) headers: &'a HeaderMap,
    pub(super) sets_cookie: bool,
    pub(super) login: Option<LoginSeen<'a>>,
}

/// What came of an attempted login.
#[derive(Clone, Copy)]
pub(super) struct LoginSeen<'a> {
    pub(super) subject: Option<&'a str>,
    pub(super) succeeded: bool,
}

impl Facts for AnswerFacts<'_> {
    fn value(&self, field: Field) -> Value<'_> {
        match field {
            Field::ResponseStatus => Value::Int(self.status.into()),
            Field::ResponseSetsCookie => Value::Bool(self.sets_cookie),
            Field::ResponseContentType => media_type(self.headers),
            Field::LoginFailed => Value::Bool(self.login.is_some_and(|login| !login.succeeded)),
            Field::LoginSucceeded => Value::Bool(self.login.is_some_and(|login| login.succeeded)),
            Field::LoginSubject => self.login.and_then(|login| login.subject).map_or(Value::Unknown, Value::Text),
            other => self.request.value(other),
        }
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

/// What rules that look at the answer want to know of the request: kept until then.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Box<[(Field, OwnedValue)]>);

impl Seen {
    pub(super) fn of<F: Facts>(fields: &[Field], facts: &F) -> Self {
        Self(fields.iter().map(|field| (*field, OwnedValue::from(facts.value(*field)))).collect())
    }

    fn value(&self, field: Field) -> Value<'_> {
        self.0.iter().find(|(seen, _)| *seen == field).map_or(Value::Unknown, |(_, value)| value.as_value())
    }
}

fn number(count: usize) -> Value<'static> {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn span(span: Duration) -> Value<'static> {
    Value::Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn media_type(headers: &HeaderMap) -> Value<'_> {
    let found = text(headers, &CONTENT_TYPE).map(|kind| kind.split(';').next().unwrap_or(kind).trim());
    found.map_or(Value::Unknown, Value::Text)
}

fn host(parts: &http::request::Parts) -> Value<'_> {
    let host = parts.uri.host().or_else(|| text(&parts.headers, &HOST).map(super::cookies::without_port));
    host.map_or(Value::Unknown, |host| Value::Text(undotted(host)))
}

/// Said once, and in a word that we know.
fn site(headers: &HeaderMap) -> Value<'_> {
    static NAME: HeaderName = HeaderName::from_static("sec-fetch-site");
    let mut lines = seen::lines(headers, &NAME);
    match (lines.next().map(HeaderValue::as_bytes), lines.next()) {
        (Some(b"same-origin"), None) => Value::Text("same-origin"),
        (Some(b"same-site"), None) => Value::Text("same-site"),
        (Some(b"cross-site"), None) => Value::Text("cross-site"),
        (Some(b"none"), None) => Value::Text("none"),
        _ => Value::Unknown,
    }
}

/// The host of an origin (RFC 6454, section 7), of one that is said once.
fn origin(headers: &HeaderMap) -> Value<'_> {
    let mut lines = seen::lines(headers, &ORIGIN);
    let (Some(Ok(origin)), None) = (lines.next().map(HeaderValue::to_str), lines.next()) else { return Value::Unknown };
    match origin.split_once("://") {
        Some((_, host)) => Value::Text(undotted(super::cookies::without_port(host))),
        None if origin == "null" => Value::Text(origin),
        None => Value::Unknown,
    }
}

/// A dot at the end is the same host (RFC 3986, section 3.2.2).
fn undotted(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

const fn scheme(client: Client) -> Value<'static> {
    match client.scheme {
        Scheme::Http => Value::Text("http"),
        Scheme::Https => Value::Text("https"),
    }
}

fn family(of: &Fingerprint) -> Value<'_> {
    Value::Text(of.agent.family.name())
}

fn major(of: &Fingerprint) -> Value<'_> {
    if of.agent.major == 0 { Value::Unknown } else { Value::Int(of.agent.major.into()) }
}

fn os(of: &Fingerprint) -> Value<'_> {
    use crate::facts::user_agent::Os;
    if of.agent.os == Os::Unknown { Value::Unknown } else { Value::Text(of.agent.os.name()) }
}

fn device(of: &Fingerprint) -> Value<'_> {
    Value::Text(of.agent.device.name())
}

fn language(of: &Fingerprint) -> Value<'_> {
    let mut letters = [0; 3];
    let text = of.language.letters(&mut letters);
    if text.is_empty() { Value::Unknown } else { Value::Short(Short::new(text)) }
}

fn prefix(of: &Fingerprint) -> Value<'static> {
    prefix_value(of.prefix)
}

fn prefix_value(prefix: Prefix) -> Value<'static> {
    match prefix {
        Prefix::Unknown => Value::Unknown,
        Prefix::V4([a, b, c]) => Value::Ip(IpAddr::V4(Ipv4Addr::new(a, b, c, 0))),
        Prefix::V6(high) => Value::Ip(IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64))),
    }
}

fn asn(of: &Fingerprint) -> Value<'_> {
    of.place.asn.map_or(Value::Unknown, |asn| Value::Int(asn.0.into()))
}

fn country(of: &Fingerprint) -> Value<'_> {
    of.place.country.as_ref().map(Country::as_str).map_or(Value::Unknown, Value::Text)
}

/// How many contexts differ from all before them.
fn distinct(contexts: &Contexts, same: impl Fn(&Fingerprint, &Fingerprint) -> bool) -> usize {
    let known = contexts.known();
    let is_first = |at: usize, one: &Fingerprint| !known.iter().take(at).any(|earlier| same(&earlier.fingerprint, one));
    known.iter().enumerate().filter(|(at, context)| is_first(*at, &context.fingerprint)).count()
}

/// Whether two fingerprints may well be of one device, wherever it is: packets that came through a VPN are the VPN's.
fn is_one_device(one: &Fingerprint, other: &Fingerprint) -> bool {
    Drift { network: NetworkDrift::default(), relayed: Moved::No, ..drift(one, other) }.is_none()
}

/// Whether a host's value is of the type it declared.
impl OwnedValue {
    fn is(&self, kind: Type) -> bool {
        matches!(
            (self, kind),
            (Self::Bool(_), Type::Bool)
                | (Self::Int(_), Type::Int)
                | (Self::Millis(_), Type::Duration)
                | (Self::Text(_), Type::Text)
                | (Self::Ip(_), Type::Ip)
        )
    }
}
