//! Attempts to log in: whether they may be made, and what comes of them.
//!
//! Where several guards share a store they count together: what they ask of it is asked before an attempt goes to the app, and
//! what came of it is told before the answer goes to the client. If the store fails, each guard counts for itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;

use super::admit::{ByClient, Request};
use super::settle::Outcome;
use super::subject::{self, Named, Peeked};
use super::{Admission, AnsweredBy, Attempt, Client, ClientStanding, Guard, Holder, Refusal};
use crate::clock::Timestamp;
use crate::connection::Scheme;
use crate::event::kinds as event;
use crate::facts::geo::Country;
use crate::fingerprint::Fingerprint;
use crate::limit::{self, ClientKey, Device, DeviceInCommon, DeviceKey, Limits, Looks, PrefixKey, Side};
use crate::rules::{Login, Memory};
use crate::secret::Seed;
use crate::store::debts::{Answer, Change};
use crate::store::{Store, StoreError};
use crate::verdict::Text;

/// Numbers that are changed by one call.
const SHARED_AT_ONCE: usize = 256;

impl Attempt {
    /// As the limits count it.
    fn counted(&self, client: &Client) -> limit::Attempt<'_> {
        let subject = self.unclear.as_deref().or(self.named.subject());
        limit::Attempt { client: ClientKey::new(client.ip), subject, device: self.device }
    }
}

impl<S: Store> Guard<S> {
    /// Whether a login is attempted, by whom, and whether it may be tried now.
    pub(super) async fn check_login(
        &self,
        request: &Request<'_>,
        holder: &Holder,
        body: Option<Peeked<'_>>,
    ) -> Result<Option<Attempt>, Refusal> {
        let method = &request.parts.method;
        let found = request.policy.logins.iter().enumerate().find(|(_, l)| l.route.matches(method, &request.path.path));
        match found {
            Some((at, login)) => Box::pin(self.check_attempt(request, holder, body, at, login)).await.map(Some),
            None => Ok(None),
        }
    }

    /// As [`check_login`](Self::check_login). Most requests are none, and shall not have to walk around it.
    #[cold]
    async fn check_attempt(
        &self,
        request: &Request<'_>,
        holder: &Holder,
        body: Option<Peeked<'_>>,
        at: usize,
        login: &Login,
    ) -> Result<Attempt, Refusal> {
        let named = subject::named(&login.subject, &request.parts.headers, request.parts.uri.query(), body);
        if named == Named::Ambiguous {
            self.tell(
                request,
                None,
                event::LoginSubjectUnclear { fault: Text::of("only the app can tell whom it names") },
            );
        }
        self.check_held_subject(request, named.subject())?;
        self.advise_transport(request);
        let device = self.device(request, &named, holder).await;
        // Attempts whose subject only the app can read share one count for each network, or that would be the way around
        // the limit; and one count for all networks would let anybody use it up for everybody.
        let unclear =
            (named == Named::Ambiguous).then(|| format!("\0unclear {:?}", PrefixKey::new(request.client.ip)).into());
        let mut attempt = Attempt { login: at, named, unclear, device };
        let limits = self.limits.load_full();
        attempt.device = self.as_known(request, &limits, at, device).await;
        for (side, by_client) in [(Side::Client, ByClient::Yes), (Side::Subject, ByClient::No)] {
            let counted = self.count_attempt(request, &limits, &attempt, side).await;
            self.limited(request, counted, by_client)?;
        }
        Ok(attempt)
    }

    /// Counts one side of an attempt.
    async fn count_attempt(
        &self,
        request: &Request<'_>,
        limits: &Limits,
        attempt: &Attempt,
        side: Side,
    ) -> Result<(), limit::Refusal> {
        let Some(throttle) = limits.login(attempt.login) else { return Ok(()) };
        let (counted, now) = (attempt.counted(&request.client), request.now);
        let Some(common) = self.seed().and_then(|seed| limits.login_in_common(attempt.login, seed)) else {
            return throttle.attempt_of(side, &counted, now);
        };
        // What this guard alone has counted is never more than what all have: who is over that need not be asked about.
        throttle.look(side, &counted, now)?;
        let asked = common.attempt(side, &counted);
        let Some(answers) = self.ask_all(request, &asked).await else {
            return throttle.attempt_of(side, &counted, now);
        };
        common.verdict(side, &asked, &answers)?;
        throttle.take(side, &counted, now)
    }

    /// Whether a device that looks like one the subject is known by is taken for it.
    async fn as_known(&self, request: &Request<'_>, limits: &Limits, login: usize, device: Device) -> Device {
        let Some(throttle) = limits.login(login) else { return device };
        let here = throttle.as_known(device, request.now);
        let common = self.seed().and_then(|seed| limits.login_in_common(login, seed));
        let asked = common.and_then(|common| common.as_known(device)).filter(|_| here != Device::Unknown);
        match self.ask_all(request, asked.as_slice()).await.as_deref() {
            Some([Answer::Refused { .. }]) => Device::Unknown,
            _ => here,
        }
    }

    /// Advises to use TLS when a password travels without, once a minute. Loopback is nobody's way.
    fn advise_transport(&self, request: &Request<'_>) {
        let host = request.host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        if request.client.scheme == Scheme::Http
            && !super::cookies::is_loopback(super::cookies::without_port(host))
            && self.advised_transport.is_due(request.now)
        {
            let fix = Text::of("serve https here, or list the proxy that does in [client] trusted_proxies");
            self.tell(request, None, event::ConfigInsecureTransport { fix });
        }
    }

    /// Whether the named subject has used this client before: by the session it shows, or by an earlier login.
    async fn device(&self, request: &Request<'_>, named: &Named, holder: &Holder) -> Device {
        let Some(subject) = named.subject() else { return Device::Unknown };
        if let Holder::Session(known) = holder
            && known.record.subject.as_deref() == Some(subject)
        {
            return Device::Known(DeviceKey(known.digest.spread()));
        }
        let looks = looks(request.client.ip, &request.fingerprint);
        let here = self.devices.find(subject, &looks, request.now);
        let Some(common) = self.device_in_common(subject, &looks) else { return here };
        match here {
            Device::Known(_) => common.as_known(here),
            _ => match self.ask_all(request, &common.recall()).await {
                Some(answers) => common.known(&answers, request.now),
                None => common.as_known(here),
            },
        }
    }

    fn device_in_common(&self, subject: &str, looks: &Looks) -> Option<DeviceInCommon> {
        self.store.counters()?;
        Some(DeviceInCommon::new(self.keys.load().seeds(), subject, looks))
    }

    /// Failed and successful attempts: for the limits, and for events.
    pub(super) async fn count_login(
        &self,
        admission: &Admission,
        by: AnsweredBy,
        status: StatusCode,
        outcome: &Outcome,
    ) {
        let Some(attempt) = &admission.ask.login else { return };
        if by != AnsweredBy::App || outcome.unproven {
            return;
        }
        Box::pin(self.learn_login(admission, attempt, (outcome.login.is_some(), status))).await;
        if outcome.login.is_none() {
            self.tell_settled(admission, status, event::LoginFailed {});
            self.count_name(admission, attempt, status);
        }
    }

    /// Tells of a client that fails with many names. Behind a proxy that nobody declared all clients are one, and nothing is told.
    fn count_name(&self, admission: &Admission, attempt: &Attempt, status: StatusCode) {
        let client = &admission.ask.client;
        let Some(name) = attempt.named.subject().filter(|_| client.standing != ClientStanding::LooksLikeProxy) else {
            return;
        };
        if let Some(count) = self.names.failed(ClientKey::new(client.ip), name, admission.now) {
            self.tell_settled(admission, status, event::LoginManyUsernames { count });
        }
    }

    /// The country of a login, remembered from now on; none if it is not known, or nothing of people is to be remembered.
    fn country_of(&self, admission: &Admission, subject: &str) -> Option<Origin> {
        let country = admission.fingerprint.place.country;
        let country = country.filter(|_| admission.policy.session.memory == Memory::Devices)?;
        let looks = in_country(country);
        let here = self.devices.find(subject, &looks, admission.now);
        self.devices.remember(subject, &looks, admission.now);
        Some(Origin { here, common: self.device_in_common(subject, &looks) })
    }

    async fn learn_login(&self, admission: &Admission, attempt: &Attempt, (succeeded, status): (bool, StatusCode)) {
        let limits = self.limits.load_full();
        let (counted, now) = (attempt.counted(&admission.ask.client), admission.now);
        let throttle = limits.login(attempt.login);
        let common = self.seed().and_then(|seed| limits.login_in_common(attempt.login, seed));
        let mut told = Vec::new();
        if succeeded {
            throttle.inspect(|throttle| throttle.succeeded(&counted));
            told.extend(common.iter().flat_map(|common| common.succeeded(&counted)));
            if let Some(subject) = attempt.named.subject() {
                let looks = looks(admission.ask.client.ip, &admission.fingerprint);
                self.devices.remember(subject, &looks, now);
                told.extend(self.device_in_common(subject, &looks).iter().flat_map(|device| device.remember(now)));
            }
        } else {
            throttle.inspect(|throttle| throttle.failed(&counted, now));
            told.extend(common.iter().flat_map(|common| common.failed(&counted)));
        }
        let from =
            attempt.named.subject().filter(|_| succeeded).and_then(|subject| self.country_of(admission, subject));
        let (before, more) = from.as_ref().map_or((0, Vec::new()), |from| (told.len(), from.ask(now)));
        told.extend(more);
        match self.change_in_common(&told, now).await {
            Ok(answers) => {
                if from.is_some_and(|from| from.is_new(answers.get(before..).unwrap_or_default(), now)) {
                    self.tell_settled(admission, status, event::LoginGeoDeviation {});
                }
            }
            Err(error) => self.tell_failed(admission, &error),
        }
    }

    /// Sees to it that the limits are counted together with the other guards of the store, if there are any.
    pub(super) fn join_limits(&self) {
        let Some(seed) = self.seed() else { return };
        let limits = self.limits.load_full();
        if !limits.are_in_common(seed) {
            // Others may be put in force at the same time: whoever does that comes here afterwards.
            self.limits.compare_and_swap(&limits, Arc::new(limits.in_common(seed)));
        }
    }

    /// Tells all guards of the store what was taken here of the limits since this was done last, that long ago, and learns what
    /// others took. Nothing is done where a guard is alone.
    ///
    /// # Errors
    /// [`StoreError`]; until it is done the next time each guard counts for itself.
    pub async fn share_limits(&self, since: Duration) -> Result<(), StoreError> {
        self.join_limits();
        let (limits, now) = (self.limits.load_full(), self.clock.now());
        for due in limits.due(since).chunks(SHARED_AT_ONCE) {
            let changes: Vec<_> = due.iter().map(|due| due.change).collect();
            for (due, answer) in due.iter().zip(self.change_in_common(&changes, now).await?) {
                if let Answer::Done { until } = answer {
                    limits.learn(due, until, now);
                }
            }
        }
        Ok(())
    }

    /// What names are made with that all guards of the store have in common; none if this guard is alone.
    fn seed(&self) -> Option<Seed> {
        self.store.counters()?;
        self.keys.load().seeds().next()
    }

    /// Asks the store that guards share. None if there is nothing to be asked, or it fails: this guard counts for itself then, and
    /// the request does not wait for it again.
    async fn ask_all(&self, request: &Request<'_>, changes: &[Change]) -> Option<Vec<Answer>> {
        let is_unanswered = &request.done.is_unanswered;
        if is_unanswered.load(Ordering::Relaxed) {
            return None;
        }
        match self.change_in_common(changes, request.now).await {
            Ok(answers) => Some(answers).filter(|answers| !answers.is_empty()),
            Err(error) => {
                is_unanswered.store(true, Ordering::Relaxed);
                self.tell_outage(request, &error);
                None
            }
        }
    }

    async fn change_in_common(&self, changes: &[Change], now: Timestamp) -> Result<Vec<Answer>, StoreError> {
        let Some(counters) = self.store.counters().filter(|_| !changes.is_empty()) else { return Ok(Vec::new()) };
        let answers = counters.change(changes, now).await?;
        // What was not answered was not allowed.
        let is_whole = answers.len() >= changes.len() || matches!(answers.last(), Some(Answer::Refused { .. }));
        if is_whole { Ok(answers) } else { Err(StoreError::io("what limits count was not answered in full")) }
    }
}

/// Where a subject logs in from, and what this guard knew of it.
struct Origin {
    here: Device,
    common: Option<DeviceInCommon>,
}

impl Origin {
    /// What the store that guards share is asked, and told after that.
    fn ask(&self, now: Timestamp) -> Vec<Change> {
        let asked = self.common.iter().flat_map(DeviceInCommon::recall);
        asked.chain(self.common.iter().flat_map(|common| common.remember(now))).collect()
    }

    /// Whether the subject has not logged in from there within [`KNOWN_DEVICE_DAYS`](limit::KNOWN_DEVICE_DAYS), though it has
    /// from another country.
    fn is_new(&self, answers: &[Answer], now: Timestamp) -> bool {
        let known = self.common.as_ref().map_or(self.here, |common| {
            let asked = common.recall().len();
            common.known(answers.get(..asked).unwrap_or(answers), now)
        });
        matches!(known, Device::Alike(_))
    }
}

/// A country as one of the devices of a subject: known if the subject has logged in from there, and alike if it has from anywhere.
/// No user agent has a hash as large as this.
fn in_country(country: Country) -> Looks {
    const COUNTRY: u64 = u64::from_le_bytes(*b"country\0");
    let [first, second] = country.bytes().map(u64::from);
    Looks { client: ClientKey(first << 8 | second), prefix: PrefixKey(COUNTRY), agent: COUNTRY }
}

fn looks(ip: IpAddr, fingerprint: &Fingerprint) -> Looks {
    Looks { client: ClientKey::new(ip), prefix: PrefixKey::new(ip), agent: fingerprint.agent.hash.into() }
}
