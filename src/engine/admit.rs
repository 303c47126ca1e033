//! The request half: recognise, judge, prepare the request for the app.

use std::sync::Arc;

use http::header::{LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use super::awaited::Awaited;
use super::carried::Shown;
use super::counted::Steps;
use super::facts::Seen;
use super::judge::Early;
use super::odd::Odd;
use super::recognise::{Found, Judged, Scope};
use super::subject::Peeked;
use super::{
    Admission, Asked, Attempt, Client, ClientStanding, Decision, Fetch, Guard, Holder, Known, Leftover, Logout, Nobody,
    Refusal, RefusalKind, RequestKind,
};
use crate::clock::Timestamp;
use crate::enforce::{Offer, Plan, Serve};
use crate::event::{self, TraceId};
use crate::facts::headers::{self, Activity, FetchMetadata, Navigation, Speculation};
use crate::facts::readings::{Readings, readings};
use crate::facts::route::{CanonicalPath, PathTrick, canonical_path};
use crate::facts::seen::SeenHeaders;
use crate::fingerprint::{Fingerprint, Wire};
use crate::limit;
use crate::rules::{Enforcement, Limited, OnOutage, PathCheck, Policy, Route, RuleSet, Use};
use crate::session::cookie::{self, Scan};
use crate::session::jar::SiteContext;
use crate::session::tag::Standing;
use crate::signal::{IdEvidence, Sensitivity};
use crate::store::Store;
use crate::verdict::Text;
use crate::verdict::{Action, Mode, Verdict};

/// A request while it is looked at: everything that is known of it, borrowed.
pub(super) struct Request<'r> {
    pub now: Timestamp,
    pub policy: Arc<Policy>,
    pub client: Client,
    pub parts: &'r http::request::Parts,
    /// Its `Host`.
    pub host: Option<&'r HeaderValue>,
    pub path: CanonicalPath<'r>,
    pub route: Option<usize>,
    pub fingerprint: Fingerprint,
    /// Which trace it says it belongs to.
    pub trace: Option<TraceId>,
    pub kind: RequestKind,
    pub site: SiteContext,
    activity: Activity,
    /// Whether the browser says that a person asked for it.
    clicked: bool,
    /// What rules found out before the store is asked. Nearly always nothing, and then no room is taken.
    pub early: Option<Box<Early>>,
    /// What is done once, however often it is judged.
    pub done: Steps,
    /// What is odd about its cookies.
    pub odd: Odd,
    /// What it shows of the state of a session.
    pub shown: Shown,
}

impl Request<'_> {
    /// The settings of its route.
    pub(super) fn route(&self) -> Option<&Route> {
        self.policy.routes.get(self.route?)
    }

    /// The rules on its route.
    pub(super) fn rules(&self) -> &RuleSet {
        self.policy.rules_on(self.route())
    }

    /// Whether a person goes to a page.
    pub(super) fn is_navigation(&self) -> bool {
        self.kind.navigation != Navigation::No
    }

    /// The mode that governs verdicts on it.
    pub(super) fn mode(&self) -> Mode {
        self.policy.mode_on(self.route())
    }

    /// Whether it keeps its session alive.
    pub(super) fn is_use(&self) -> bool {
        // What changes something is no polling, whatever its route is.
        self.activity == Activity::Active
            && (!self.parts.method.is_safe() || self.route().is_none_or(|route| route.use_ == Use::Real))
    }

    /// Whether it goes to the form or the address of a login.
    pub(super) fn goes_to_login(&self) -> bool {
        self.policy.logins.iter().any(|login| login.route.path().matches(&self.path.path))
    }

    /// How a tag stands as far as this request may tell. On a route with fewer checks than the rest a stale tag is neither
    /// noted nor healed: it would come back as a good one elsewhere.
    pub(super) fn seen_on(&self, standing: Standing) -> Standing {
        let lax = self.mode() < self.policy.mode_on(None);
        if lax && matches!(standing, Standing::Stale { .. }) { Standing::Grace } else { standing }
    }

    /// Whether a person goes to a page of this site: by a link of it, by himself, or by a click elsewhere.
    pub(super) fn is_own_visit(&self) -> bool {
        self.kind.navigation == Navigation::Document
            && self.kind.fetch == Fetch::Ordinary
            && match self.site {
                SiteContext::SameSite => true,
                SiteContext::CrossSiteSafeNavigation => self.clicked,
                SiteContext::CrossSiteUnsafeNavigation | SiteContext::CrossSiteOther => false,
            }
    }

    /// The permit for calling the app.
    fn into_admission(self, decided: Decided) -> Box<Admission> {
        let Decided { holder, offer, verdict, seen, login, leftovers } = decided;
        let asks_to_log_out = self.policy.is_logout(&self.parts.method, &self.path.path);
        let logout = if asks_to_log_out { Logout::Asked } else { Logout::No };
        let host = self.host.cloned().unwrap_or_else(|| HeaderValue::from_static(""));
        let ask = Asked {
            method: self.parts.method.clone(),
            uri: self.parts.uri.clone(),
            host,
            client: self.client,
            route: self.route,
            login,
            logout,
            kind: self.kind,
            site: self.site,
            trace: self.trace,
        };
        let Self { policy, now, fingerprint, shown, .. } = self;
        Box::new(Admission {
            policy,
            asked: now,
            now,
            ask,
            holder,
            offer,
            verdict,
            fingerprint,
            seen,
            leftovers,
            app: None,
            body_bytes: None,
            shown,
            awaited: Awaited::default(),
        })
    }

    /// How much its route is worth to a thief.
    pub(super) fn sensitivity(&self) -> Sensitivity {
        self.route().map_or(Sensitivity::Usual, |route| route.sensitivity)
    }
}

impl<S: Store> Guard<S> {
    /// The request half. Changes the request's headers to those the app is to see, or gives the answer itself.
    ///
    /// `body` is what [`peek`](Self::peek) asked for.
    pub fn admit<'r>(
        &'r self,
        client: Client,
        parts: &'r mut http::request::Parts,
        body: Option<Peeked<'r>>,
    ) -> impl Future<Output = Decision> + Send + 'r {
        self.admit_after(Screening::Due, self.policy.load_full(), client, parts, body)
    }

    /// The first checks of [`admit`](Self::admit) alone: the path, and the limits per client and route. For a host that has
    /// to wait for what [`peek`](Self::peek) asks for: whoever is refused anyway is not waited for.
    ///
    /// # Errors
    /// The answer to give.
    pub fn screen(&self, client: Client, parts: &http::request::Parts) -> Result<Screened, Refusal> {
        let policy = self.policy.load_full();
        let request = self.look(policy.clone(), self.clock.now(), client, parts);
        self.check_first(&request).inspect_err(|refusal| self.count_refusal(&request, refusal))?;
        Ok(Screened { policy, client })
    }

    /// [`admit`](Self::admit) for the request that was screened: nothing is checked or counted twice.
    pub fn admit_screened<'r>(
        &'r self,
        screened: Screened,
        parts: &'r mut http::request::Parts,
        body: Option<Peeked<'r>>,
    ) -> impl Future<Output = Decision> + Send + 'r {
        self.admit_after(Screening::Done, screened.policy, screened.client, parts, body)
    }

    async fn admit_after(
        &self,
        screening: Screening,
        policy: Arc<Policy>,
        client: Client,
        parts: &mut http::request::Parts,
        body: Option<Peeked<'_>>,
    ) -> Decision {
        let now = self.clock.now();
        let mut request = self.look(policy, now, client, parts);
        if screening == Screening::Due
            && let Err(refusal) = self.check_first(&request)
        {
            return self.answer(&request, refusal);
        }
        let mut early = self.early(&mut request);
        while request.is_asking() {
            Box::pin(self.ask_for(&request)).await;
            early = self.early(&mut request);
        }
        if let Err(refusal) = early {
            self.wait_for_events(&mut request.done.awaited).await;
            return self.answer(&request, refusal);
        }
        let mut scan = cookie::scan(&parts.headers, &request.policy.cookies.names);
        let decided = self.decide(&mut request, &mut scan, body).await;
        self.wait_for_events(&mut request.done.awaited).await;
        let decided = match decided {
            Ok(decided) => decided,
            Err(refusal) => return self.answer(&request, refusal),
        };
        self.count_forwarded(&request, &decided.verdict);
        let rewrite = self.rewrite(&request, &scan, &decided);
        drop(scan);
        let admission = request.into_admission(decided);
        rewrite.put(&mut parts.headers, &admission);
        Decision::Forward(admission)
    }

    fn look<'r>(
        &self,
        policy: Arc<Policy>,
        now: Timestamp,
        client: Client,
        parts: &'r http::request::Parts,
    ) -> Request<'r> {
        let path = canonical_path(parts.uri.path());
        let route = policy.routes.iter().position(|route| route.pattern.matches(&parts.method, &path.path));
        let seen = SeenHeaders::of(&parts.headers);
        let wire = Wire::of(&client.print, client.order.unwrap_or(seen.order));
        let place = self.locate(client.ip, client.located).place;
        let fingerprint = Fingerprint::observe(&seen, wire, client.ip, place, &self.agents);
        let fingerprint = fingerprint.with_rtt_gap(client.print.rtt_gap);
        let metadata = FetchMetadata::of(&seen);
        let fetch = if seen.upgrade.is_present() {
            Fetch::Upgrade
        } else if metadata.speculation != Speculation::No {
            Fetch::Prefetch
        } else if seen.range.is_present() {
            Fetch::Piece
        } else {
            Fetch::Ordinary
        };
        let kind =
            RequestKind { navigation: headers::navigation(&parts.method, &parts.headers, &seen, &metadata), fetch };
        let site = super::cookies::site_of(&parts.method, metadata.site, kind.navigation);
        let activity = headers::activity(&parts.method, &metadata);
        let clicked = seen.sec_fetch_user.single() == Some(b"?1");
        Request {
            now,
            policy,
            client,
            parts,
            host: seen.host,
            path,
            route,
            fingerprint,
            trace: seen.traceparent.single().and_then(TraceId::of_traceparent),
            kind,
            site,
            activity,
            clicked,
            early: None,
            done: Steps::default(),
            odd: Odd::default(),
            shown: Shown::default(),
        }
    }

    /// What may refuse the request before anything of it is waited for.
    fn check_first(&self, request: &Request<'_>) -> Result<(), Refusal> {
        self.check_path(request)?;
        self.check_rates(request)
    }

    /// Everything else that may refuse the request, in the order of what it costs.
    async fn decide(
        &self,
        request: &mut Request<'_>,
        scan: &mut Scan<'_>,
        body: Option<Peeked<'_>>,
    ) -> Result<Decided, Refusal> {
        self.tell_findings(request, scan);
        let presented = self.presented(request, scan)?;
        request.odd = self.odd(request, scan, presented.as_ref());
        let taken_in = self.take_in(request, scan, presented.as_ref());
        request.shown = *taken_in.as_ref().unwrap_or(&Shown::default());
        let request = &*request;
        let found = match (presented, taken_in) {
            (_, Err(error)) => Found::Outage(error),
            (Some(presented), Ok(_)) => self.recognise(request, presented).await,
            (None, Ok(_)) => Found::Fresh,
        };
        let Acted { holder, plan, verdict, seen } = self.act(request, found).await?;
        self.check_session_rate(request, &holder)?;
        let login = self.check_login(request, &holder, body).await?;
        // What is rare is boxed, so that the usual request does not carry room for it.
        let (holder, leftovers) = match scan.shielded().next() {
            Some(_) => Box::pin(self.leftovers(request, scan, holder)).await,
            None => (holder, Vec::new()),
        };
        let decided = Decided { holder, offer: plan.offer, verdict, seen, login, leftovers };
        self.check_bound(request, scan, &decided);
        Ok(decided)
    }

    /// Refuses a path that an app could read in another way than we do, where that matters.
    fn check_path(&self, request: &Request<'_>) -> Result<(), Refusal> {
        request.path.hostile.map_or(Ok(()), |trick| self.check_trick(request, trick))
    }

    #[cold]
    fn check_trick(&self, request: &Request<'_>, trick: PathTrick) -> Result<(), Refusal> {
        let policy = &request.policy;
        let method = &request.parts.method;
        let matters = match policy.path_check {
            PathCheck::Everywhere => true,
            PathCheck::Protected => {
                policy.protects(method, &request.path.path) || {
                    let readings = readings(request.parts.uri.path(), trick);
                    let by_route = match &readings {
                        Readings::These(all) => all.iter().any(|path| {
                            policy.protects(method, path) || policy.place_of(method, path) != request.route
                        }),
                        Readings::Any => policy.protects_anything() || !policy.routes.is_empty(),
                    };
                    by_route || !Self::rules_read_paths_alike(request, &readings)
                }
            }
        };
        if !matters {
            return Ok(());
        }
        self.tell(request, None, event::HttpMalformed { fault: Text::of(trick.as_str()) });
        Err(Refusal::new(StatusCode::BAD_REQUEST, RefusalKind::AmbiguousPath))
    }

    /// The limits that need nothing but the address and the route.
    fn check_rates(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let limits = self.limits.load();
        let counted = limits.request(request.client.ip, request.now).and_then(|()| {
            let route = request.route.filter(|_| request.route().is_some_and(|route| route.limit == Limited::Yes));
            route.map_or(Ok(()), |route| limits.route(route, request.client.ip, request.now))
        });
        self.limited(request, counted, ByClient::Yes)
    }

    fn check_session_rate(&self, request: &Request<'_>, holder: &Holder) -> Result<(), Refusal> {
        // A quarantined client is not the owner, and must not use up what is his.
        let Holder::Session(known) = holder else { return Ok(()) };
        let limits = self.limits.load();
        let subject = known.record.subject.as_deref().map_or(Ok(()), |subject| limits.subject(subject, request.now));
        self.limited(request, limits.session(&known.digest, request.now).and(subject), ByClient::No)
    }

    pub(super) fn limited(
        &self,
        request: &Request<'_>,
        counted: Result<(), limit::Refusal>,
        by_client: ByClient,
    ) -> Result<(), Refusal> {
        counted.or_else(|limited| self.over_limit(request, &limited, by_client))
    }

    #[cold]
    fn over_limit(&self, request: &Request<'_>, limited: &limit::Refusal, by_client: ByClient) -> Result<(), Refusal> {
        let report_only = request.policy.enforcement == Enforcement::ReportOnly
            || (by_client == ByClient::Yes && request.client.standing == ClientStanding::LooksLikeProxy);
        let mode = if report_only { Mode::Observe } else { Mode::Enforce };
        self.tell_limited(request, limited, mode);
        if limited.limit == limit::LimitName::Guesses {
            self.tell_guessing(request, limited, mode);
        }
        if report_only { Ok(()) } else { Err(Refusal::throttled(limited)) }
    }

    /// From what was found to whose name the app is called in.
    async fn act(&self, request: &Request<'_>, found: Found) -> Result<Acted, Refusal> {
        match found {
            Found::Known(known, judged) => {
                let acted = self.obey(request, known, judged).await?;
                if !matches!(acted.holder, Holder::Session(_))
                    && let Err(mut refusal) = self.fence(request).await
                {
                    if acted.verdict.action == Action::Terminate && acted.plan.serve == Serve::Ended {
                        self.clear(&request.policy, &request.shown, &mut refusal.headers);
                    }
                    return Err(refusal);
                }
                Ok(acted)
            }
            Found::Fresh | Found::Ended => self.obey_stranger(request, IdEvidence::None).await,
            Found::Unknown(id) => {
                self.count_guess(request)?;
                self.count_wrong_id(request, id);
                self.obey_stranger(request, id).await
            }
            // A stranger to rules, and none that a session may come of.
            Found::Replaced => self.obey_nobody(request, Nobody::Replaced).await,
            Found::Outage(error) => {
                self.tell_outage(request, &error);
                match request.policy.outage_on(request.route()) {
                    OnOutage::Deny => Err(Refusal::outage()),
                    OnOutage::Anonymous => self.obey_nobody(request, Nobody::Outage).await,
                }
            }
        }
    }

    async fn obey_nobody(&self, request: &Request<'_>, why: Nobody) -> Result<Acted, Refusal> {
        self.obey_stranger(request, IdEvidence::None).await.map(|acted| Acted { holder: Holder::Nobody(why), ..acted })
    }

    /// Does what was decided about a session's request.
    async fn obey(&self, request: &Request<'_>, known: Known, judged: Judged) -> Result<Acted, Refusal> {
        let plan = judged.plan(known.standing);
        self.tell_verdict(request, &known.record, &judged);
        let moves_everybody = judged.moves_everybody(known.standing);
        let Judged { verdict, scope, cause, seen, .. } = judged;
        let acted = |holder, verdict| Ok(Acted { holder, plan, verdict, seen });
        match plan.serve {
            Serve::Session => acted(Holder::Session(known), verdict),
            // Nobody is moved: this one request goes without the session.
            Serve::Quarantined if scope == Scope::Request => acted(Holder::Nobody(Nobody::HeldBack), verdict),
            // One that moves this client alone needs no state: its requests are judged one by one.
            Serve::Quarantined => {
                if moves_everybody {
                    self.streams.end(&known.digest);
                }
                acted(Holder::Quarantined(known), verdict)
            }
            // Who is asked to log in must get there, and as nobody.
            Serve::Challenged if request.goes_to_login() => acted(Holder::Quarantined(known), verdict),
            Serve::Ended => {
                Box::pin(self.end(request, &known, (&verdict, cause))).await.map_err(|error| {
                    self.tell_outage(request, &error);
                    Refusal::outage()
                })?;
                acted(Holder::Stranger, verdict)
            }
            Serve::Throttled => Err(Refusal::throttled(&THROTTLED)),
            Serve::Challenged => Err(self.challenge(request)),
            Serve::Denied => Err(Refusal::new(StatusCode::FORBIDDEN, RefusalKind::Denied)),
        }
    }

    /// 401 for programs; for a person the login page, if the policy knows one.
    #[cold]
    pub(super) fn challenge(&self, request: &Request<'_>) -> Refusal {
        let login =
            request.policy.logins.iter().map(|login| login.route.path().as_str()).find(|path| !path.contains('*'));
        if let (Navigation::Document, Some(Ok(location))) = (request.kind.navigation, login.map(HeaderValue::from_str))
        {
            let mut refusal = Refusal::new(StatusCode::SEE_OTHER, RefusalKind::Challenge);
            refusal.headers.insert(LOCATION, location);
            return refusal;
        }
        let mut refusal = Refusal::new(StatusCode::UNAUTHORIZED, RefusalKind::Challenge);
        refusal.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Session realm=\"login\""));
        refusal
    }
}

/// What a verdict of `throttle` asks a client to wait.
pub(super) const THROTTLED: limit::Refusal =
    limit::Refusal { limit: limit::LimitName::Client, rate: None, retry_after: std::time::Duration::from_secs(10) };

/// Whether a limit counts by the client's address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ByClient {
    Yes,
    No,
}

/// A request whose path and rates were found good. To be handed to [`Guard::admit_screened`] with the same request.
#[derive(Debug)]
pub struct Screened {
    policy: Arc<Policy>,
    client: Client,
}

/// Whether path and rates are still to be checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Screening {
    Due,
    Done,
}

/// What was decided about a request that will be forwarded.
pub(super) struct Decided {
    pub(super) holder: Holder,
    offer: Offer,
    pub(super) verdict: Verdict,
    seen: Option<Box<Seen>>,
    login: Option<Attempt>,
    pub(super) leftovers: Vec<Leftover>,
}

/// What came of a verdict.
pub(super) struct Acted {
    pub(super) holder: Holder,
    pub(super) plan: Plan,
    pub(super) verdict: Verdict,
    pub(super) seen: Option<Box<Seen>>,
}

impl Decided {
    /// Whether the client shows a session and is kept from it: then no other credential of its passes either.
    pub(super) fn is_held_back(&self) -> bool {
        match self.holder {
            Holder::Quarantined(_) => true,
            Holder::Nobody(_) | Holder::Stranger => self.verdict.action >= Action::Quarantine,
            Holder::Session(_) => false,
        }
    }
}

#[cfg(test)]
#[cfg(feature = "layer")]
mod tests {
    use http::Request as Ask;

    use super::*;
    use crate::connection::Scheme;
    use crate::connection::print::Print;
    use crate::facts::route::{CaseSensitivity, RoutePattern};
    use crate::layer::GuardBuilder;
    use crate::rules::{Login, SubjectSource, Success};
    use crate::session::id::SessionId;
    use crate::session::record::{Lasting, Record, State};
    use crate::session::tag::{Standing, Tag, Tags};
    use crate::store::memory::MemoryStore;

    fn known() -> Known {
        let (id, tag, now) = (SessionId::from_bytes([1; 32]), Tag::from_bytes([0; 16]), Timestamp::from_secs(1));
        let record = Record {
            digest: id.digest(),
            reference: crate::session::id::Ref([0; 16]),
            version: 0,
            created_at: now,
            id_since: now,
            authenticated_at: Some(now),
            last_seen: now,
            ends_at: None,
            lasting: Lasting::Default,
            removable_at: now,
            subject: Some("alice".into()),
            tags: Tags::new(tag, now),
            forks: 0,
            state: State::Live,
            jar: Box::default(),
            data: Box::default(),
            bound: Box::default(),
            history: Box::default(),
        };
        Known { digest: record.digest, id, tag, record: Arc::new(record), standing: Standing::Head }
    }

    /// What comes of a request with this verdict: who is served, or status and `Location`.
    async fn obeyed(action: Action, accept: &str, path: &str) -> String {
        let builder = GuardBuilder::in_memory();
        let mut policy = builder.policy().unwrap();
        policy.logins.push(Login {
            route: RoutePattern::parse("POST /login", CaseSensitivity::Ignore).unwrap(),
            success: Success::default(),
            subject: SubjectSource::None,
        });
        let guard: Guard<MemoryStore> = builder.build().unwrap();
        let (parts, ()) = Ask::get(path).header("accept", accept).body(()).unwrap().into_parts();
        let client = Client {
            ip: std::net::IpAddr::from([127, 0, 0, 1]),
            scheme: Scheme::Https,
            standing: ClientStanding::Own,
            print: Print::default(),
            order: None,
            connection: None,
            located: None,
        };
        let request = guard.look(Arc::new(policy), Timestamp::from_secs(2), client, &parts);
        let judged = Judged { verdict: Verdict { action, ..Verdict::default() }, ..Judged::calm(Mode::Enforce) };
        match guard.obey(&request, known(), judged).await {
            Ok(Acted { holder: Holder::Session(_), .. }) => "session".into(),
            Ok(Acted { holder: Holder::Quarantined(_), .. }) => "quarantined".into(),
            Ok(Acted { holder: Holder::Stranger, .. }) => "stranger".into(),
            Ok(Acted { holder: Holder::Nobody(_), .. }) => "nobody".into(),
            Err(refusal) => {
                let header = |name| refusal.headers.get(name).map_or("", |value| value.to_str().unwrap());
                let told = [LOCATION, WWW_AUTHENTICATE, http::header::RETRY_AFTER].map(header).concat();
                format!("{} {told}", refusal.status.as_u16())
            }
        }
    }

    #[tokio::test]
    async fn every_action_is_obeyed() {
        for (action, accept, path, expected) in [
            (Action::Allow, "*/*", "/", "session"),
            (Action::Observe, "*/*", "/", "session"),
            (Action::Rotate, "*/*", "/", "session"),
            (Action::Throttle, "*/*", "/", "429 10"),
            (Action::Quarantine, "*/*", "/", "quarantined"),
            (Action::Challenge, "*/*", "/", "401 Session realm=\"login\""),
            (Action::Challenge, "text/html", "/", "303 /login"),
            (Action::Challenge, "text/html", "/login", "quarantined"),
            (Action::Terminate, "*/*", "/", "stranger"),
            (Action::Deny, "*/*", "/", "403 "),
        ] {
            assert_eq!(obeyed(action, accept, path).await, expected, "{action} {path}");
        }
    }
}
