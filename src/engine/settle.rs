//! The response half: take what the app set, follow logins and logouts, hand out our cookie.

use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, SET_COOKIE};
use http::{HeaderMap, StatusCode, response};

use super::app::{Answer, AppSession, Wishes};
use super::cache;
use super::change::{Handed, latest_end};
use super::control::{self, Command};
use super::cookies::Taken;
use super::cut::Cut;
use super::judge::OnAnswer;
use super::recognise::{SUSPECTED_PART, is_suspected};
use super::{Admission, Fetch, Guard, Holder, Known, Logout, Nobody, Refusal, RefusalKind, Settled};
use crate::clock::Timestamp;
use crate::connection::Scheme;
use crate::enforce::Offer;
use crate::event::field::{Rotation, Sign, WriteRefusal};
use crate::event::{ClientText, kinds as event};
use crate::facts::headers::{self, Delivery, Navigation};
use crate::facts::seen;
use crate::rules::count::Answers;
use crate::rules::{ExactHints, OnOutage};
use crate::session::data::Lost;
use crate::session::record::Record;
use crate::session::tag::{Standing, Tag};
use crate::store::{Store, StoreError};
use crate::verdict::{Action, Verdict};

/// What browsers are asked for: what tells two of one version apart.
const EXACT_HINTS: &str =
    "Sec-CH-UA-Full-Version-List, Sec-CH-UA-Platform-Version, Sec-CH-UA-Model, Sec-CH-UA-Arch, Sec-CH-UA-Bitness";

/// Where gRPC says whether a call failed: the HTTP status is 200 all the same.
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Who made the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The app.
    App,
    /// The proxy: the app could not be reached.
    Proxy,
    /// Nobody: the app failed, and somebody else tells the client. What the app ended with its handle ends; it is no failed login,
    /// and no rule looks at it.
    Nobody,
}

/// What the answer means for the session.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Somebody proved who he is.
    pub login: Option<Proven>,
    /// An answer that looks like a successful login to a session that had one, and shows nothing of a new one: many apps
    /// send whoever is logged in on from the form without a look at the password.
    pub(super) unproven: bool,
    /// Another reason for a new id.
    pub new_id: Option<Rotation>,
    /// The session ends.
    pub logout: Option<Sign>,
    /// Sessions of the subject end.
    pub revoke: Option<control::Scope>,
    /// The session ends at this time.
    pub ends_at: Option<Timestamp>,
    /// What an app in this process did with its handle.
    pub app: Wishes,
}

/// Why an answer could not be settled.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsettled {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the app wrote is at odds with what another request wrote.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// What the app wrote belongs to a session that has ended.
    #[error("the session has ended meanwhile")]
    Ended,
}

/// A login that succeeded.
#[derive(Debug)]
pub(super) struct Proven {
    /// Who.
    pub subject: Option<std::sync::Arc<str>>,
    /// How it was recognised.
    pub sign: Sign,
    /// What the app called it.
    pub why: Rotation,
}

impl<S: Store> Guard<S> {
    /// The response half. Takes shielded cookies and control headers off the answer, commits what changed, and puts our
    /// own cookie on it.
    pub async fn settle(
        &self,
        mut admission: Box<Admission>,
        by: AnsweredBy,
        response: &mut response::Parts,
    ) -> Settled {
        // Nobody else writes or looks where the app kept no handle.
        let app = admission.app.as_ref().map(|app| app.0.clone()).filter(AppSession::is_kept);
        let writing = match &app {
            Some(app) => Some(app.writing().await),
            None => None,
        };
        let settled = self.settle_answer(&mut admission, by, response).await;
        if let Some(app) = &app {
            app.answered();
        }
        drop(writing);
        if let Some(refusal) = &settled.instead {
            self.count_replaced(refusal);
        }
        self.wait_for_events(&mut admission.awaited).await;
        settled
    }

    async fn settle_answer(
        &self,
        admission: &mut Admission,
        by: AnsweredBy,
        response: &mut response::Parts,
    ) -> Settled {
        // The app may have taken its time, and what begins now begins now.
        admission.now = self.clock.now();
        if by == AnsweredBy::Nobody {
            // Nothing begins with a head that nobody gets.
            admission.leftovers.clear();
            admission.offer = Offer::Never;
            if matches!(admission.holder, Holder::Quarantined(_)) {
                admission.holder = Holder::Nobody(Nobody::HeldBack);
            }
        }
        let commands = match control::take(&mut response.headers) {
            Ok(commands) => commands,
            Err(error) => {
                self.tell_settled(
                    admission,
                    response.status,
                    event::HeaderSpoofed { header: ClientText::new(&error.to_string()) },
                );
                Vec::new()
            }
        };
        let wishes = admission.take_wishes(response);
        if admission.policy.cookies.hints == ExactHints::Asked {
            admission.ask_for_hints(response);
        }
        let taken = self.take_cookies(admission, response);
        let outcome = Outcome { app: wishes, ..Outcome::default() };
        let mut outcome = self.outcome(admission, by, response, (&commands, outcome), &taken);
        self.count_login(admission, by, response.status, &outcome).await;
        let on_answer = match (&admission.seen, by) {
            (Some(_), AnsweredBy::App) => {
                let sets_cookie = taken.sets_any(&response.headers);
                let answers = Answers::default();
                let mut found = self.judge_answer(admission, response, &outcome, sets_cookie, &answers);
                while answers.are_due() {
                    Box::pin(self.ask_on_answer(admission, &answers)).await;
                    found = self.judge_answer(admission, response, &outcome, sets_cookie, &answers);
                }
                found
            }
            _ => OnAnswer::Pass,
        };
        match &on_answer {
            OnAnswer::Rotate => admission.offer = Offer::AtOnce,
            // What would begin or go on with this answer does not; what it ends, ends.
            OnAnswer::Terminate(_) => {
                (outcome.login, outcome.new_id) = (None, None);
                outcome.app = outcome.app.endings();
                admission.offer = Offer::Never;
                if matches!(admission.holder, Holder::Stranger) {
                    admission.holder = Holder::Nobody(Nobody::HeldBack);
                }
            }
            OnAnswer::Pass | OnAnswer::Throttle => {}
        }
        // Nearly every answer changes nothing.
        let settled = if outcome.is_nothing() && taken.is_nothing() && admission.is_plain() {
            self.hand_nothing(admission, response).await
        } else {
            Box::pin(self.settle_change(admission, response, outcome, taken)).await
        };
        match on_answer {
            OnAnswer::Throttle if settled.instead.is_none() => throttled(response),
            OnAnswer::Terminate(verdict) if settled.instead.is_none() => {
                Box::pin(self.end_on_answer(admission, response, settled.cut, &verdict)).await
            }
            _ => settled,
        }
    }

    /// Ends the session of an answer, as a rule asks. What the app set with it belongs to nobody, and an answer that runs for
    /// long is cut like all others of the session.
    async fn end_on_answer(
        &self,
        admission: &Admission,
        response: &mut response::Parts,
        cut: Option<Cut>,
        verdict: &Verdict,
    ) -> Settled {
        // Who is held back is not the owner, and ends nothing of his.
        if let Holder::Session(known) = &admission.holder {
            if let Err(error) = self.end_present(admission, known, verdict).await {
                self.tell_failed(admission, &error);
                return Settled { cut: None, instead: Some(Refusal::outage()) };
            }
            self.take_back(admission, response);
        }
        Settled { cut, instead: None }
    }

    /// The way of an answer that changes its session, or begins or ends one.
    async fn settle_change(
        &self,
        admission: &mut Admission,
        response: &mut response::Parts,
        outcome: Outcome,
        taken: Taken,
    ) -> Settled {
        let is_login = outcome.login.is_some();
        match self.follow(admission, response, outcome, taken).await {
            Ok(settled) => settled,
            // The app has answered as if it were kept, and its client must not believe that.
            Err(Unsettled::Lost(_)) => self.refuse_write(admission, RefusalKind::Conflict, WriteRefusal::Conflict),
            Err(Unsettled::Ended) => self.refuse_write(admission, RefusalKind::SessionEnded, WriteRefusal::Ended),
            Err(Unsettled::Store(error)) => {
                self.tell_failed(admission, &error);
                let route = admission.ask.route(&admission.policy);
                // A visitor for whom nothing could be kept is a stranger still; somebody who logged in must be told.
                let is_visitor = !matches!(admission.holder, Holder::Session(_)) && !is_login;
                let is_bearable =
                    matches!(error, StoreError::Full) || admission.policy.outage_on(route) == OnOutage::Anonymous;
                let passes = is_visitor && is_bearable;
                Settled { cut: None, instead: (!passes).then(Refusal::outage) }
            }
        }
    }

    #[cold]
    fn refuse_write(&self, admission: &Admission, kind: RefusalKind, why: WriteRefusal) -> Settled {
        let refusal = Refusal::conflict(kind);
        self.tell_settled(admission, refusal.status, event::SessionWriteRefused { why });
        Settled { cut: None, instead: Some(refusal) }
    }

    /// What the answer means: the control header first, then the routes, then what the app did with its cookies.
    fn outcome(
        &self,
        admission: &Admission,
        by: AnsweredBy,
        response: &response::Parts,
        (commands, mut outcome): (&[Command], Outcome),
        taken: &Taken,
    ) -> Outcome {
        if by == AnsweredBy::Proxy {
            return outcome;
        }
        for command in commands {
            outcome.take(command, Sign::Header, admission.now);
        }
        for command in std::mem::take(&mut outcome.app.commands) {
            outcome.take(&command, Sign::Call, admission.now);
        }
        if by == AnsweredBy::Nobody {
            return outcome;
        }
        match &mut outcome.login {
            // The app said that it was a login, and left it to the request to say whose.
            Some(proven) if proven.why == Rotation::Login => {
                proven.subject = proven.subject.take().or_else(|| admission.ask.named());
            }
            Some(_) => {}
            None if !self.login_succeeded(admission, response, taken) => {}
            None if !self.is_proven(admission, taken) => {
                // Whose session it is does not change, and neither does what it is trusted for.
                outcome.unproven = true;
                outcome.new_id = outcome.new_id.or(Some(Rotation::App));
            }
            None => {
                let subject = admission.ask.named();
                outcome.login = Some(Proven { subject, sign: Sign::Route, why: Rotation::Login });
            }
        }
        if outcome.logout.is_none() && outcome.login.is_none() {
            if admission.ask.logout == Logout::Asked
                && !response.status.is_client_error()
                && !response.status.is_server_error()
            {
                outcome.logout = Some(Sign::Route);
            } else if taken.emptied {
                outcome.logout = Some(Sign::Cookie);
            }
        }
        if outcome.login.is_none() && outcome.new_id.is_none() && taken.replaced_id {
            outcome.new_id = Some(Rotation::App);
        }
        outcome
    }

    fn login_succeeded(&self, admission: &Admission, response: &response::Parts, taken: &Taken) -> bool {
        admission
            .ask
            .login(&admission.policy)
            .is_some_and(|login| login.success.holds(response, taken, admission.ask.uri.path()))
    }

    /// Whether an answer that looks like a successful login is one: in a session without a login it is; in one that has
    /// a login the app must have given the client something new.
    fn is_proven(&self, admission: &Admission, taken: &Taken) -> bool {
        let Holder::Session(known) = &admission.holder else { return true };
        let names_ticket =
            admission.ask.login(&admission.policy).is_some_and(|login| login.success.sets_cookie.is_some());
        !known.record.is_authenticated()
            || taken.replaced_id
            || taken.adds_id
            || names_ticket
            || self.sets_bound_ticket(&known.record, taken)
    }

    /// Commits the outcome and puts the cookie on the answer that goes with it.
    async fn follow(
        &self,
        admission: &mut Admission,
        response: &mut response::Parts,
        outcome: Outcome,
        taken: Taken,
    ) -> Result<Settled, Unsettled> {
        // First, so that nothing which fails afterwards keeps them alive.
        self.revoke_for_app(admission, &outcome).await?;
        let handed = if outcome.logout.is_some() {
            let handed = self.log_out(admission, &outcome).await?;
            if outcome.app.is_logout
                && matches!(handed, Handed::Nothing)
                && matches!(admission.holder, Holder::Session(_))
            {
                // It goes on as somebody else's, and the app says that it is over.
                return Err(Unsettled::Ended);
            }
            self.begin_after_logout(admission, &outcome, &taken, handed).await?
        } else if outcome.login.is_some() || outcome.new_id.is_some() {
            self.new_id(admission, &outcome, &taken).await?
        } else {
            self.keep(admission, &outcome, &taken).await?
        };
        let handed = self.revoke_others(admission, &outcome, handed).await?;
        admission.follow_app(&outcome);
        Ok(self.hand_out(admission, response, handed).await)
    }

    async fn hand_out(&self, admission: &Admission, response: &mut response::Parts, handed: Handed) -> Settled {
        let mut settled = Settled::default();
        match handed {
            Handed::Nothing => return self.hand_nothing(admission, response).await,
            Handed::Cookie { known, line } => {
                if let Some(app) = &admission.app {
                    app.settled(Some(known.clone()));
                }
                self.put_mandatory(admission, response, line);
                self.give_out(admission, &known.id, response);
                settled.cut = self.tie(admission, &known, response);
            }
            Handed::Cleared => {
                if let Some(app) = &admission.app {
                    app.settled(None);
                }
                self.take_back(admission, response);
            }
            Handed::Refused(refusal) => settled.instead = Some(refusal),
        }
        self.expire_leftovers(admission, response);
        settled
    }

    /// The answer changes nothing: at most it offers a successor, or takes the cookie of a session that was ended.
    async fn hand_nothing(&self, admission: &Admission, response: &mut response::Parts) -> Settled {
        let mut settled = Settled::default();
        match &admission.holder {
            Holder::Session(known) => {
                if admission.is_offer_due(known) && may_carry_successor(response, admission.now) {
                    Box::pin(self.offer_successor(admission, known, response)).await;
                }
                self.give_out_later(admission, &known.id, response);
                settled.cut = self.tie(admission, known, response);
            }
            Holder::Stranger if admission.verdict.action == Action::Terminate => {
                self.take_back(admission, response);
            }
            Holder::Stranger | Holder::Nobody(_) | Holder::Quarantined(_) => {}
        }
        self.expire_leftovers(admission, response);
        settled
    }

    /// Ties an answer that may run for long to its session. One whose session has ended meanwhile is found by the next
    /// [`sweep_streams`](Self::sweep_streams): a page that was asked for before a logout still arrives, a stream does not
    /// go on.
    fn tie(&self, admission: &Admission, known: &Known, response: &response::Parts) -> Option<Cut> {
        let key = || known.tag.issued_under(&self.keys.load(), &known.id);
        may_run_long(response, admission.body_bytes)
            .then(|| self.streams.open(known.digest, latest_end(&known.record, &admission.policy), key))
    }

    /// Offers a successor. An offer that can not be made is made with a later answer.
    async fn offer_successor(&self, admission: &Admission, known: &Known, response: &mut response::Parts) {
        let Some(head) = self.head_to_follow(admission, known).await else { return };
        let minted = Tag::mint(&self.keys.load(), &known.id, head.generation().saturating_add(1), &self.entropy);
        if let Ok(tag) = minted {
            let line = self.cookie_line(admission, known, &tag);
            append(&mut response.headers, line);
        }
    }

    /// The head that a successor would follow, as it is now. The app may have taken its time, and the session have ended,
    /// or the jar moved on by other answers: this one would throw it back.
    async fn head_to_follow(&self, admission: &Admission, known: &Known) -> Option<Tag> {
        let record = match self.store.load_fresh(&known.digest).await {
            Ok(record) => record?,
            Err(error) => {
                self.tell_failed(admission, &error);
                return None;
            }
        };
        let heals = matches!(known.standing, Standing::Stale { .. });
        let head = *record.tags.head();
        (record.state == known.record.state && (heals || head == known.tag)).then_some(head)
    }

    /// A cookie that must reach the client: it goes on every answer, and no cache may keep that.
    fn put_mandatory(&self, admission: &Admission, response: &mut response::Parts, line: HeaderValue) {
        self.tell_cacheable(admission, response);
        append(&mut response.headers, line);
    }

    /// Takes our cookies away from the client.
    fn take_back(&self, admission: &Admission, response: &mut response::Parts) {
        self.tell_cacheable(admission, response);
        self.clear(&admission.policy, &admission.shown, &mut response.headers);
    }

    fn tell_cacheable(&self, admission: &Admission, response: &response::Parts) {
        if cache::is_cacheable(&response.headers, admission.now) {
            self.tell_settled(admission, response.status, event::ResponseCacheable {});
        }
    }

    /// Expires the client's copies of cookies that it should not have. That can wait for an answer that no cache keeps.
    fn expire_leftovers(&self, admission: &Admission, response: &mut response::Parts) {
        if admission.leftovers.is_empty() || cache::is_cacheable(&response.headers, admission.now) {
            return;
        }
        for leftover in &admission.leftovers {
            if let Some(line) = leftover.expiry_line() {
                append(&mut response.headers, line);
            }
        }
    }
}

/// 429 instead of an answer, with the cookies that went with it: what it changed has changed.
fn throttled(response: &response::Parts) -> Settled {
    let mut refusal = Refusal::throttled(&super::admit::THROTTLED);
    for line in response.headers.get_all(SET_COOKIE) {
        refusal.headers.append(SET_COOKIE, line.clone());
    }
    Settled { cut: None, instead: Some(refusal) }
}

/// Puts a `Set-Cookie` of ours on an answer, which from then on no cache may keep (RFC 9111 does not say so by itself).
pub(super) fn append(headers: &mut HeaderMap, line: HeaderValue) {
    headers.append(SET_COOKIE, line);
    cache::forbid(headers);
}

impl Outcome {
    /// Whether somebody has logged in, and not just proven again who he is.
    pub(super) fn is_login(&self) -> bool {
        self.login.as_ref().is_some_and(|proven| proven.why == Rotation::Login)
    }

    /// Whether a login was neither proven nor refused.
    pub(super) const fn is_unproven(&self) -> bool {
        self.unproven
    }

    /// Whose session it is then, if it was this one before.
    pub(super) fn subject_after<'a>(&'a self, before: &'a Record) -> Option<&'a std::sync::Arc<str>> {
        let login = self.login.as_ref().filter(|proven| proven.why == Rotation::Login);
        login.map_or(&before.subject, |proven| &proven.subject).as_ref()
    }

    fn is_nothing(&self) -> bool {
        let Self { login, unproven: _, new_id, logout, revoke, ends_at, app } = self;
        login.is_none()
            && new_id.is_none()
            && logout.is_none()
            && revoke.is_none()
            && ends_at.is_none()
            && app.is_nothing()
    }

    fn take(&mut self, command: &Command, sign: Sign, now: Timestamp) {
        let proven = |subject: Option<&str>, why| Some(Proven { subject: subject.map(Into::into), sign, why });
        match command {
            Command::Login { subject } => self.login = proven(subject.as_deref(), Rotation::Login),
            Command::Reauthenticated => self.login = proven(None, Rotation::Reauthentication),
            Command::Logout => self.logout = Some(sign),
            Command::Elevate => self.new_id = Some(Rotation::Elevation),
            Command::Rotate => self.new_id = Some(Rotation::App),
            Command::Revoke(scope) => self.revoke = Some(*scope),
            Command::Expire { within } => self.ends_at = Some(now.after(*within)),
        }
    }
}

/// Whether a successor may ride on an answer: not on one that a cache may keep, nor on one that is not looked at as a
/// page is (downloads keep a copy of the cookies of their own), nor on one without a body of its own.
fn may_carry_successor(response: &response::Parts, now: Timestamp) -> bool {
    !matches!(response.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::NOT_MODIFIED)
        && headers::delivery(&HeaderMap::new(), &response.headers) == Delivery::Inline
        && !cache::is_cacheable(&response.headers, now)
}

/// Whether an answer may outlive its session: an upgrade, a stream without an end, a long body.
fn may_run_long(response: &response::Parts, body_bytes: Option<u64>) -> bool {
    const SHORT_BYTES_MAX: u64 = 1024 * 1024;
    let length =
        seen::first(&response.headers, &CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let bodyless = matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    !bodyless && length.or(body_bytes).is_none_or(|length| length > SHORT_BYTES_MAX)
}

impl Admission {
    /// What an app in this process did with its handle. What it saved meanwhile is the session from here on.
    fn take_wishes(&mut self, response: &mut response::Parts) -> Wishes {
        let Some(app) = &self.app else { return Wishes::default() };
        let is_grpc_error = seen::first(&response.headers, &GRPC_STATUS).is_some_and(|status| status != "0");
        let is_failed = response.status.is_server_error() || is_grpc_error;
        let wishes = app.wishes(if is_failed { Answer::Failed } else { Answer::Made });
        if !wishes.was_accessed {
            return wishes;
        }
        if let Holder::Session(known) = &mut self.holder {
            app.follow(known);
        }
        cache::vary_by_cookie(&mut response.headers);
        wishes
    }

    /// What was written is the session from here on; and if it lasts otherwise now, its cookie says so.
    fn follow_app(&mut self, outcome: &Outcome) {
        let Some(app) = &self.app else { return };
        if let Holder::Session(known) = &mut self.holder {
            app.follow(known);
        }
        if outcome.app.lasting.is_some() || outcome.app.was_expiry_saved {
            self.offer = Offer::AtOnce;
        }
    }

    /// Whether an answer that says nothing of sessions changes nothing: there is no place to log in to be made, and nothing
    /// to be taken over.
    fn is_plain(&self) -> bool {
        !matches!(self.holder, Holder::Quarantined(_)) && self.leftovers.is_empty()
    }

    /// Whether a successor is due, and the answer is sure to be taken in by the jar that asked.
    fn is_offer_due(&self, known: &Known) -> bool {
        let (tags, session) = (&known.record.tags, &self.policy.session);
        let is_due = match self.offer {
            Offer::Never => false,
            Offer::AtOnce => true,
            Offer::Soon | Offer::WhenDue => {
                let is_soon = self.offer == Offer::Soon || is_suspected(tags, self.now);
                let part = if is_soon { SUSPECTED_PART } else { 1 };
                self.now.since(tags.since()) >= session.rotate_every / part
            }
        };
        // A jar that has fallen behind is healed at once.
        let has_room = || matches!(known.standing, Standing::Stale { .. }) || tags.has_room(session.grace, self.now);
        is_due && self.ask.kind.fetch == Fetch::Ordinary && has_room()
    }

    /// Asks the browser for exact versions of itself, once it is at a page and over HTTPS: it sends them with its next requests.
    /// What the app asks for is asked for still.
    fn ask_for_hints(&self, response: &mut response::Parts) {
        if self.is_page() && self.ask.client.scheme == Scheme::Https {
            response.headers.append(HeaderName::from_static("accept-ch"), HeaderValue::from_static(EXACT_HINTS));
        }
    }

    /// Whether this is a page that a person looks at, for which cookies on the answer are sure to be kept.
    pub(super) fn is_page(&self) -> bool {
        self.ask.kind.navigation != Navigation::No && self.ask.kind.fetch == Fetch::Ordinary
    }
}
