//! The request half: recognise, judge, prepare the request for the app.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HOST, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::recognise::{Before, Found, Judged, Scope};
use super::subject::{self, Named, Peeked};
use super::{
    Admission, Asked, Attempt, Client, ClientStanding, Decision, Fetch, Guard, Holder, Known, Leftover, Logout, Offer,
    Refusal, RefusalKind, RequestKind,
};
use crate::clock::Timestamp;
use crate::enforce::{self, Plan, Serve};
use crate::event::{self, ClientText};
use crate::facts::headers::{self, Navigation};
use crate::facts::route::{CanonicalPath, canonical_path};
use crate::fingerprint::Fingerprint;
use crate::limit::{Device, Limited};
use crate::rules::{Enforcement, OnOutage, PathCheck, Policy, Route, Use};
use crate::session::cookie::{self, CookieFinding, GuardSeen, Scan};
use crate::session::id::Presented;
use crate::session::record::{EndReason, State};
use crate::session::tag::Standing;
use crate::store::Store;
use crate::verdict::{Action, Mode, Verdict};

/// A request while it is looked at: everything that is known of it, borrowed.
pub(super) struct Request<'r> {
    pub now: Timestamp,
    pub policy: Arc<Policy>,
    pub client: Client,
    pub parts: &'r http::request::Parts,
    pub path: CanonicalPath<'r>,
    pub route: Option<usize>,
    pub fingerprint: Fingerprint,
    pub kind: RequestKind,
}

impl Request<'_> {
    /// The settings of its route.
    pub fn route(&self) -> Option<&Route> {
        self.policy.routes.get(self.route?)
    }

    /// The mode that governs verdicts on it.
    pub fn mode(&self) -> Mode {
        self.policy.mode_on(self.route())
    }

    /// Whether it keeps its session alive.
    pub fn is_use(&self) -> bool {
        self.route().is_none_or(|route| route.use_ == Use::Real) && !headers::is_passive(&self.parts.method, &self.parts.headers)
    }
}

impl<S: Store> Guard<S> {
    /// The request half. Changes the request's headers to those the app is to see, or gives the answer itself.
    ///
    /// `body` is what [`peek`](Self::peek) asked for.
    pub async fn admit(
        &self,
        client: Client,
        parts: &mut http::request::Parts,
        body: Option<Peeked<'_>>,
    ) -> Decision {
        let policy = self.policy.load_full();
        let now = self.clock.now();
        let prepared = {
            let request = self.look(policy, now, client, parts);
            match self.decide(&request, body).await {
                Ok(decided) => self.prepare(request, decided),
                Err(refusal) => return Decision::Answer(refusal),
            }
        };
        prepared.rewrite.put(&mut parts.headers);
        Decision::Forward(prepared.admission)
    }

    fn look<'r>(&self, policy: Arc<Policy>, now: Timestamp, client: Client, parts: &'r http::request::Parts) -> Request<'r> {
        let path = canonical_path(parts.uri.path());
        let route = policy.routes.iter().position(|route| route.pattern.matches(&parts.method, path.as_str()));
        let places = self.places.load();
        let fingerprint = Fingerprint::observe(&parts.headers, client.ip, || places.find(client.ip), &self.agents);
        let fetch = if parts.headers.contains_key(http::header::UPGRADE) {
            Fetch::Upgrade
        } else if headers::is_prefetch(&parts.headers) {
            Fetch::Prefetch
        } else {
            Fetch::Ordinary
        };
        let kind = RequestKind { navigation: headers::navigation(&parts.method, &parts.headers), fetch };
        Request { now, policy, client, parts, path, route, fingerprint, kind }
    }

    /// Everything that may refuse the request, in the order of what it costs.
    async fn decide<'r>(&self, request: &Request<'r>, body: Option<Peeked<'_>>) -> Result<Decided<'r>, Refusal> {
        self.check_path(request)?;
        self.check_rates(request)?;
        let mut scan = cookie::scan(&request.parts.headers, &request.policy.cookies.names);
        self.tell_findings(request, &scan);
        let presented = self.presented(request, &scan)?;
        let found = match presented {
            Some(presented) => self.recognise(request, presented).await,
            None => Found::Fresh,
        };
        let (holder, plan, verdict) = self.act(request, found).await?;
        self.check_session_rate(request, &holder)?;
        let login = self.check_login(request, &holder, body)?;
        let leftovers = self.leftovers(request, &scan, &holder).await;
        self.check_bound(request, &mut scan, &holder);
        Ok(Decided { scan, holder, plan, verdict, login, leftovers })
    }

    /// Refuses a path that an app could read in another way than we do, where that matters.
    fn check_path(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let Some(trick) = request.path.hostile() else { return Ok(()) };
        let policy = &request.policy;
        let method = &request.parts.method;
        let matters = match policy.path_check {
            PathCheck::Everywhere => true,
            PathCheck::Protected => {
                policy.protects(method, request.path.as_str())
                    || request.path.readings(request.parts.uri.path()).iter().any(|path| policy.protects(method, path))
            }
        };
        if !matters {
            return Ok(());
        }
        self.tell(request, None, event::HttpMalformed { fault: trick.as_str().into(), status: Some(400) });
        Err(Refusal::new(StatusCode::BAD_REQUEST, RefusalKind::AmbiguousPath))
    }

    /// The limits that need nothing but the address and the route.
    fn check_rates(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let limits = self.limits.load();
        let limited = limits.client(request.client.ip, request.now).or_else(|| {
            let route = request.route().and_then(|route| route.limit)?;
            limits.route(route, request.client.ip, request.now)
        });
        self.limited(request, limited, ByClient::Yes)
    }

    fn check_session_rate(&self, request: &Request<'_>, holder: &Holder) -> Result<(), Refusal> {
        let Holder::Session(known) | Holder::Quarantined(known) = holder else { return Ok(()) };
        self.limited(request, self.limits.load().session(&known.digest, request.now), ByClient::No)
    }

    fn limited(&self, request: &Request<'_>, limited: Option<Limited>, by_client: ByClient) -> Result<(), Refusal> {
        let Some(limited) = limited else { return Ok(()) };
        let report_only = request.policy.enforcement == Enforcement::ReportOnly
            || (by_client == ByClient::Yes && request.client.standing == ClientStanding::LooksLikeProxy);
        self.tell_limited(request, &limited, report_only);
        if report_only { Ok(()) } else { Err(Refusal::throttled(&limited)) }
    }

    /// The one cookie of ours that the client showed, if it can be ours. Guessing is slowed down here.
    fn presented(&self, request: &Request<'_>, scan: &Scan<'_>) -> Result<Option<Presented>, Refusal> {
        let value = match scan.guard() {
            GuardSeen::Missing | GuardSeen::Several(_) => return Ok(None),
            GuardSeen::Once(value) => value,
        };
        if let Some(limited) = self.limits.load().is_guessing(request.client.ip, request.now) {
            self.limited(request, Some(limited), ByClient::Yes)?;
        }
        let presented = Presented::parse(value);
        if presented.is_none() {
            self.limits.load().guessed(request.client.ip, request.now);
            self.tell(request, None, event::CookieTampered {});
        }
        Ok(presented)
    }

    /// From what was found to whose name the app is called in.
    async fn act(&self, request: &Request<'_>, found: Found) -> Result<(Holder, Plan, Verdict), Refusal> {
        let (known, judged) = match found {
            Found::Known(known, judged) => (known, judged),
            Found::Fresh | Found::Ended => return Ok((Holder::Stranger, Plan::stranger(), Verdict::default())),
            Found::Unknown => {
                self.limits.load().guessed(request.client.ip, request.now);
                return Ok((Holder::Stranger, Plan::stranger(), Verdict::default()));
            }
            Found::Replaced => return Ok((Holder::Nobody, Plan::stranger(), Verdict::default())),
            Found::Outage(error) => {
                self.tell_outage(request, &error);
                return match request.policy.outage_on(request.route()) {
                    OnOutage::Deny => Err(Refusal::outage()),
                    OnOutage::Anonymous => Ok((Holder::Nobody, Plan::stranger(), Verdict::default())),
                };
            }
        };
        let judged = self.gate(request, &known, judged);
        let plan = enforce::plan(judged.verdict.action, request.mode(), known.standing);
        self.tell_verdict(request, &known.record, &judged);
        match plan.serve {
            Serve::Session => Ok((Holder::Session(known), plan, judged.verdict)),
            Serve::Quarantined => {
                self.quarantine(request, &known, &judged).await;
                Ok((Holder::Quarantined(known), plan, judged.verdict))
            }
            Serve::Ended => {
                self.end(request, &known, EndReason::Terminated).await.map_err(|error| {
                    self.tell_outage(request, &error);
                    Refusal::outage()
                })?;
                Ok((Holder::Stranger, plan, judged.verdict))
            }
            Serve::Throttled => Err(Refusal::throttled(&Limited::for_verdict())),
            Serve::Challenged => Err(self.challenge(request)),
            Serve::Denied => Err(Refusal::new(StatusCode::FORBIDDEN, RefusalKind::Denied)),
        }
    }

    /// Deadlines of the route and the states of the session that ask for a new login. They hold in every mode.
    fn gate(&self, request: &Request<'_>, known: &Known, judged: Judged) -> Judged {
        let Judged { mut verdict, scope, before } = judged;
        if request.mode() != Mode::Enforce {
            return Judged { verdict, scope, before };
        }
        let record = &known.record;
        if let State::Quarantined { .. } = record.state {
            verdict.strengthen(Action::Quarantine, "session.quarantined");
            return Judged::everybody(verdict, Before::Quarantined);
        }
        if let Some(route) = request.route().filter(|_| record.is_authenticated()) {
            let stale = route.fresh.is_some_and(|within| !crate::session::expiry::is_fresh(record, within, request.now));
            let deadlines = request.policy.deadlines_on(Some(route));
            let late = crate::session::expiry::ended(record, &deadlines, request.now).is_some();
            if stale || late {
                verdict.strengthen(Action::Quarantine, if stale { "session.not_fresh" } else { "session.idle_on_route" });
            }
        }
        Judged { verdict, scope, before }
    }

    /// Commits a quarantine that moves everybody; one that moves this client stands in its context already.
    async fn quarantine(&self, request: &Request<'_>, known: &Known, judged: &Judged) {
        if judged.before == Before::Quarantined || judged.scope == Scope::Client {
            return;
        }
        let quarantined = self.change(known, &request.policy, |record| {
            record.state = State::Quarantined { since: request.now };
        });
        if let Err(error) = quarantined.await {
            self.tell_outage(request, &error);
        }
    }

    /// 401 for programs; for a person the login page, if the policy knows one.
    fn challenge(&self, request: &Request<'_>) -> Refusal {
        let login = request.policy.logins.iter().find_map(|login| login.route.literal_path());
        if let (Navigation::Yes, Some(path)) = (request.kind.navigation, login) {
            if let Ok(location) = HeaderValue::from_str(path) {
                let mut refusal = Refusal::new(StatusCode::SEE_OTHER, RefusalKind::Challenge);
                refusal.headers.insert(LOCATION, location);
                return refusal;
            }
        }
        let mut refusal = Refusal::new(StatusCode::UNAUTHORIZED, RefusalKind::Challenge);
        refusal.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Session realm=\"login\""));
        refusal
    }

    /// Whether a login is attempted, by whom, and whether it may be tried now.
    fn check_login(
        &self,
        request: &Request<'_>,
        holder: &Holder,
        body: Option<Peeked<'_>>,
    ) -> Result<Option<Attempt>, Refusal> {
        let method = &request.parts.method;
        let found = request.policy.logins.iter().enumerate().find(|(_, l)| l.route.matches(method, request.path.as_str()));
        let Some((at, login)) = found else { return Ok(None) };
        let named = subject::named(&login.subject, &request.parts.headers, request.parts.uri.query(), body);
        if named == Named::Ambiguous {
            self.tell(request, None, event::HttpMalformed { fault: "ambiguous login subject".into(), status: None });
        }
        let device = match (&named, holder) {
            (Named::Subject(subject), Holder::Session(known)) if known.record.subject.as_ref() == Some(subject) => Device::Known,
            (Named::Subject(subject), _) => self.limits.load().device(subject, &request.fingerprint, request.now),
            _ => Device::Unknown,
        };
        let subject = match &named {
            Named::Subject(subject) => Some(&**subject),
            Named::Nobody | Named::Ambiguous => None,
        };
        let limited = self.limits.load().login(request.client.ip, subject, device, request.now);
        self.limited(request, limited, ByClient::Yes)?;
        Ok(Some(Attempt { login: at, named, device }))
    }

    fn tell_findings(&self, request: &Request<'_>, scan: &Scan<'_>) {
        for finding in scan.findings().iter() {
            let what = ClientText::new(finding.as_str());
            match finding {
                CookieFinding::Duplicate | CookieFinding::DuplicateBound => {
                    self.tell(request, None, event::CookieDuplicate { finding: what });
                }
                CookieFinding::LookAlike | CookieFinding::ShieldLookAlike => {
                    self.tell(request, None, event::CookiePrefixVariant { finding: what });
                }
                _ => self.tell(request, None, event::CookieLegacySyntax { finding: what }),
            }
        }
    }

    /// Puts the request together that the app sees, and the permit for calling it.
    fn prepare(&self, request: Request<'_>, decided: Decided<'_>) -> Prepared {
        let Decided { scan, holder, plan, verdict, login, leftovers } = decided;
        let rewrite = self.rewrite(&request, &scan, &holder, &verdict, &leftovers);
        drop(scan);
        let logout = if request.policy.is_logout(&request.parts.method, request.path.as_str()) { Logout::Asked } else { Logout::No };
        let host = request.parts.headers.get(HOST).cloned().unwrap_or_else(|| HeaderValue::from_static(""));
        let ask = Asked {
            method: request.parts.method.clone(),
            uri: request.parts.uri.clone(),
            host,
            client: request.client,
            route: request.route,
            login,
            logout,
            kind: request.kind,
        };
        let admission = Admission {
            policy: request.policy,
            now: request.now,
            ask,
            holder,
            offer: plan.offer,
            verdict,
            fingerprint: request.fingerprint,
            leftovers,
        };
        Prepared { rewrite, admission: Box::new(admission) }
    }
}

/// Whether a limit counts by the client's address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ByClient {
    Yes,
    No,
}

/// What was decided about a request that will be forwarded.
struct Decided<'r> {
    scan: Scan<'r>,
    holder: Holder,
    plan: Plan,
    verdict: Verdict,
    login: Option<Attempt>,
    leftovers: Vec<Leftover>,
}

struct Prepared {
    rewrite: super::cookies::Rewrite,
    admission: Box<Admission>,
}
