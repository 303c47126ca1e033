//! What happens to a session: it begins, gets a new id, is kept up, ends.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::adopt::Claim;
use super::app::Revoke;
use super::assess::{Bind, Login};
use super::control::Scope;
use super::cookies::Taken;
use super::settle::{Outcome, Unsettled};
use super::update::Updated;
use super::{Admission, Guard, Holder, Known, Refusal, WRITERS_MAX, admit};
use crate::clock::Timestamp;
use crate::event::field::{Cause, Release, Revoker, Rotation, Sign};
use crate::event::kinds as event;
use crate::rules::{Enforcement, Policy};
use crate::session::expiry;
use crate::session::id::{Ref, SessionDigest, SessionId};
use crate::session::record::{EndReason, Lasting, Record, State};
use crate::session::subject::is_same;
use crate::session::tag::{Standing, Tag, Tags};
use crate::store::{Creation, Ending, Filter, Rotate, Store, StoreError};
use crate::verdict::{Mode, Verdict};

/// `last_seen` may be this much behind, so a record is kept that much longer than its deadline says.
const TOUCH_SLACK: Duration = Duration::from_secs(120);

/// How long a session is kept that nobody uses, while deadlines are only reported.
const KEPT_UNENFORCED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// From when on a store may remove a record.
pub(super) fn removable_at(record: &Record, policy: &Policy) -> Timestamp {
    let over = match policy.enforcement {
        Enforcement::Full => expiry::deadline(record, &policy.session.deadlines),
        Enforcement::ReportOnly => record.last_seen.after(KEPT_UNENFORCED).min(latest_end(record, policy)),
    };
    over.after(policy.session.touch_every + TOUCH_SLACK)
}

/// When a session is over however much it is used.
pub(super) fn latest_end(record: &Record, policy: &Policy) -> Timestamp {
    match policy.enforcement {
        Enforcement::Full => expiry::absolute_deadline(record, &policy.session.deadlines),
        Enforcement::ReportOnly => record.ends_at.unwrap_or(Timestamp::from_millis(u64::MAX)),
    }
}

/// Why a session that has not ended is due to end, if it is.
pub(super) fn due_end(record: &Record, policy: &Policy, now: Timestamp) -> Option<EndReason> {
    expiry::ended(record, &policy.session.deadlines, now).or(match record.state {
        State::Quarantined { since } if now.since(since) >= policy.session.quarantine_max => {
            Some(EndReason::Terminated)
        }
        _ => None,
    })
}

/// Whether that is enforced: the end that the app asked for always is.
pub(super) fn is_enforced(why: EndReason, policy: &Policy) -> bool {
    policy.enforcement == Enforcement::Full || why == EndReason::Expired
}

/// What the client is handed with the answer.
pub(super) enum Handed {
    /// Nothing new; a successor if one is due.
    Nothing,
    /// The cookie of a new id.
    Cookie { known: Known, line: HeaderValue },
    /// The order to forget its cookie.
    Cleared,
    /// Another answer than the app's.
    Refused(Refusal),
}

/// How a session stands that is to be logged out and is not there under its id any more.
enum Over {
    /// It has ended.
    Ended,
    /// It goes on under another id, and is meant to.
    GoesOn,
    /// It goes on under this id, and is to end.
    ToEnd(SessionDigest),
}

impl<S: Store> Guard<S> {
    /// Logs the session out: it ends, in whatever state it is meanwhile.
    pub(super) async fn log_out(&self, admission: &Admission, outcome: &Outcome) -> Result<Handed, StoreError> {
        let (Holder::Session(known) | Holder::Quarantined(known)) = &admission.holder else {
            return Ok(Handed::Nothing);
        };
        if matches!(admission.holder, Holder::Quarantined(_)) {
            // A stranger to the app has nobody to log out, and the owner's session is not his to end.
            return Ok(Handed::Nothing);
        }
        let ending = self.ending(&admission.policy, EndReason::Logout, admission.now);
        let record = match self.store.revoke(&known.digest, ending).await? {
            Some(record) => record,
            None => match self.over_already(known, outcome).await? {
                Over::Ended => return Ok(Handed::Cleared),
                Over::GoesOn => return Ok(Handed::Nothing),
                Over::ToEnd(digest) => match self.store.revoke(&digest, ending).await? {
                    Some(record) => record,
                    None => return Ok(Handed::Cleared),
                },
            },
        };
        self.streams.end(&record.digest);
        if let Some(sign) = outcome.logout {
            self.tell_about(admission, &record, event::SessionLogout { sign });
        }
        Ok(Handed::Cleared)
    }

    /// A session that an app in this process begins on the answer that ended the one before.
    pub(super) async fn begin_after_logout(
        &self,
        admission: &mut Admission,
        outcome: &Outcome,
        taken: &Taken,
        handed: Handed,
    ) -> Result<Handed, Unsettled> {
        let begins = outcome.app.begins_anew && (outcome.login.is_some() || outcome.app.needs_session());
        if !begins || !matches!(handed, Handed::Cleared) {
            return Ok(handed);
        }
        admission.holder = Holder::Stranger;
        let begun = self.begin(admission, outcome, taken, None).await?;
        Ok(if matches!(begun, Handed::Nothing) { handed } else { begun })
    }

    /// Gives the session a new id, or begins one that starts with a login.
    pub(super) async fn new_id(
        &self,
        admission: &Admission,
        outcome: &Outcome,
        taken: &Taken,
    ) -> Result<Handed, Unsettled> {
        match &admission.holder {
            // With an id that was replaced a moment ago too: of two logins at once the second one counts, as the answer to
            // the first may never be seen.
            Holder::Nobody(_) | Holder::Stranger if outcome.is_login() => {
                self.begin(admission, outcome, taken, None).await
            }
            Holder::Nobody(_) | Holder::Stranger => self.keep(admission, outcome, taken).await,
            Holder::Quarantined(known) if outcome.is_login() => {
                self.begin(admission, outcome, taken, Some(known)).await
            }
            Holder::Quarantined(_) => self.keep(admission, outcome, taken).await,
            Holder::Session(known) => self.cycle(admission, outcome, taken, known).await,
        }
    }

    /// A session without a change of id: its jar, its bound cookies, its end. A stranger's may begin here.
    pub(super) async fn keep(
        &self,
        admission: &Admission,
        outcome: &Outcome,
        taken: &Taken,
    ) -> Result<Handed, Unsettled> {
        match &admission.holder {
            Holder::Nobody(why) if why.is_surprise() && outcome.app.edits.is_some() => Err(Unsettled::Ended),
            Holder::Nobody(_) => Ok(Handed::Nothing),
            Holder::Stranger if taken.needs_session() || outcome.app.needs_session() => {
                self.begin(admission, outcome, taken, None).await
            }
            Holder::Stranger => Ok(Handed::Nothing),
            Holder::Quarantined(known) if admission.is_page() => self.hold(admission, outcome, taken, known).await,
            Holder::Quarantined(_) => Ok(Handed::Nothing),
            Holder::Session(known) => Ok(match self.update(admission, outcome, taken, known).await? {
                Updated::Kept => Handed::Nothing,
                Updated::Emptied => Handed::Cleared,
            }),
        }
    }

    /// Begins a session for a client that had none; `from` is the one it was moved away from.
    async fn begin(
        &self,
        admission: &Admission,
        outcome: &Outcome,
        taken: &Taken,
        from: Option<&Known>,
    ) -> Result<Handed, Unsettled> {
        // One that takes over a cookie was counted when it came.
        if outcome.login.is_none() && !taken.adopts() && !self.may_begin(admission) {
            return Ok(Handed::Nothing);
        }
        let id = SessionId::generate(&self.entropy).map_err(StoreError::io)?;
        let mut record = self.blank(admission, &id)?;
        let held = from.map(|from| &*from.record);
        self.enter(admission, outcome, &mut record, held);
        let jar = self.jar_of(None, admission, taken);
        record.jar = self.seal(&id, &jar)?;
        record.data = self.data_under(&id, None, &outcome.app)?;
        record.bound = self.bound_after(&record, taken, admission.now).unwrap_or_default();
        record.removable_at = removable_at(&record, &admission.policy);
        if let Some(from) = from {
            self.replace_held(admission, &record, &from.digest).await?;
        }
        let limit = self.limit_for(admission, &record);
        let created = match self.store.create(record.clone(), limit, admission.now).await? {
            Creation::Created(created) => created,
            // 256 random bits came twice: the generator is broken, and nothing may be issued.
            Creation::Exists => return Err(StoreError::io("a new session id was already taken").into()),
        };
        if let Some(refused) = self.after_limit(admission, &record, created, limit) {
            return Ok(Handed::Refused(refused));
        }
        let known = known(id, record, Standing::Head);
        if taken.adopts() && self.claim(admission).await? == Claim::Granted {
            self.tell_adopted(admission, &known.record);
        } else if taken.adopts() && outcome.login.is_none() {
            // The other request's session is the one; this one was never shown to anybody.
            self.store
                .revoke(&known.digest, self.ending(&admission.policy, EndReason::Replaced, admission.now))
                .await?;
            return Ok(Handed::Nothing);
        }
        self.tell_about(admission, &known.record, event::SessionCreated {});
        self.tell_login(admission, outcome, &known);
        let line = self.cookie_line(admission, &known, known.record.tags.head());
        Ok(Handed::Cookie { known, line })
    }

    /// Gives a session another id. The old one is dead at once.
    async fn cycle(
        &self,
        admission: &Admission,
        outcome: &Outcome,
        taken: &Taken,
        known: &Known,
    ) -> Result<Handed, Unsettled> {
        let mut old = known.record.clone();
        for _ in 0..WRITERS_MAX {
            if outcome.app.was_accessed && !outcome.is_login() {
                let writable = self.writable(&admission.policy, &known.record, old).await?;
                old = writable.ok_or(Unsettled::Ended)?;
            }
            let id = SessionId::generate(&self.entropy).map_err(StoreError::io)?;
            let subject = outcome.subject_after(&old).map(|subject| &**subject);
            let held = self.held_from(admission, outcome, &old, subject).await?;
            let new = self.successor_record(admission, outcome, taken, (&known.id, &old, held.as_deref()), &id)?;
            let limit = self.limit_for(admission, &new);
            let rotate = Rotate {
                old: &old.digest,
                version: old.version,
                new: new.clone(),
                also_end: held.as_ref().map(|held| &held.digest),
                limit,
                now: admission.now,
                tombstone_until: admission.now.after(admission.policy.session.tombstones),
            };
            match self.store.rotate(rotate).await? {
                crate::store::Rotation::Created(created) => {
                    if let Some(refused) = self.after_limit(admission, &new, created, limit) {
                        return Ok(Handed::Refused(refused));
                    }
                    if outcome.login.is_none() && outcome.new_id == Some(Rotation::App) {
                        let (end, key) = (latest_end(&new, &admission.policy), self.keys.load().seeds().next());
                        self.streams.follow(&old.digest, new.digest, end, key);
                    } else {
                        self.streams.end(&old.digest);
                    }
                    if let Some(held) = held {
                        self.streams.end(&held.digest);
                        self.tell_about(admission, &held, event::SessionReleased { how: Release::Login });
                    }
                    let new = self::known(id, new, Standing::Head);
                    self.tell_rotated(admission, outcome, &old, &new);
                    if outcome.login.is_none()
                        && expiry::is_renewed(&old, &new.record, &admission.policy.session.deadlines)
                    {
                        self.tell_about(admission, &new.record, event::SessionRenewed {});
                    }
                    let line = self.cookie_line(admission, &new, new.record.tags.head());
                    return Ok(Handed::Cookie { known: new, line });
                }
                crate::store::Rotation::Conflict(current) => old = current,
                // It ended while the app was answering, and stays ended. Its holder is a stranger from here on, or has
                // just logged in as one.
                crate::store::Rotation::Gone if outcome.is_login() => {
                    return self.begin(admission, outcome, taken, None).await;
                }
                crate::store::Rotation::Gone if outcome.app.was_accessed => return Err(Unsettled::Ended),
                crate::store::Rotation::Gone => return Ok(Handed::Nothing),
            }
        }
        Err(StoreError::io("a session changed too often while it was given a new id").into())
    }

    /// The record under the new id, made from the old one.
    fn successor_record(
        &self,
        admission: &Admission,
        outcome: &Outcome,
        taken: &Taken,
        (old_id, old, held): (&SessionId, &Record, Option<&Record>),
        id: &SessionId,
    ) -> Result<Record, Unsettled> {
        let mut new = Record {
            digest: id.digest(),
            version: 0,
            id_since: admission.now,
            last_seen: admission.now,
            tags: self.first_tags(id, admission.now)?,
            // Only a login ends a quarantine, and forgives a fork.
            forks: if outcome.login.is_some() { 0 } else { old.forks },
            state: if outcome.login.is_some() { State::Live } else { old.state.clone() },
            ..old.clone()
        };
        self.enter(admission, outcome, &mut new, held);
        // What another subject kept is not for this one. Behind the proxy that is for the app to see to, whose cookies these are.
        let is_another =
            outcome.is_login() && old.is_authenticated() && (old.subject.is_none() || old.subject != new.subject);
        let begins = is_another && admission.app.is_some();
        if begins {
            new.reference = Ref::generate(&self.entropy).map_err(StoreError::io)?;
            new.created_at = admission.now;
            new.bound = Box::default();
            if outcome.app.lasting.is_none() {
                (new.lasting, new.ends_at) = (Lasting::Default, outcome.ends_at);
            }
        }
        let jar = if begins { None } else { self.open(old_id, old, admission.now) };
        let jar = self.jar_of(jar, admission, taken);
        new.jar = self.seal(id, &jar)?;
        // Who has logged in gets in, though what he had can not be opened any more.
        let opens = || self.try_open_data(old_id, old, admission.now).is_some();
        let is_closed = outcome.is_login() && !old.data.is_empty() && !opens();
        let stored = Some((old_id, old)).filter(|_| !is_another && !is_closed);
        new.data = self.data_under(id, stored, &outcome.app)?;
        if let Some(bound) = self.bound_after(&new, taken, admission.now) {
            new.bound = bound;
        }
        new.removable_at = removable_at(&new, &admission.policy);
        Ok(new)
    }

    /// What a login, a change of rights or a wish of the app writes into the record. `held` is the session that its client was moved
    /// away from.
    fn enter(&self, admission: &Admission, outcome: &Outcome, record: &mut Record, held: Option<&Record>) {
        if let Some(ends_at) = outcome.ends_at {
            record.ends_at = Some(ends_at);
        }
        record.take_lasting(&outcome.app);
        if outcome.login.is_none() {
            return;
        }
        // An end that was set for the time before the login is not one for the time after it.
        if outcome.app.lasting.is_none() {
            record.ends_at = outcome.ends_at;
            let deadlines = &admission.policy.session.deadlines;
            record.lasting = expiry::after_login(record, outcome.subject_after(record), deadlines);
        }
        (record.authenticated_at, record.subject) = (Some(admission.now), outcome.subject_after(record).cloned());
        let is_his = held.is_some_and(|held| is_one(held.subject.as_deref(), record.subject.as_deref()));
        self.bind(admission, record, Bind::Login(if is_his { Login::Demanded } else { Login::Usual }));
    }

    /// The session that a quarantined client was moved away from, if the one who logged in is its subject.
    async fn held_from(
        &self,
        admission: &Admission,
        outcome: &Outcome,
        old: &Record,
        subject: Option<&str>,
    ) -> Result<Option<Arc<Record>>, StoreError> {
        let State::Held { from, since } = &old.state else { return Ok(None) };
        let late = admission.now.since(*since) > admission.policy.session.quarantine_max;
        if late || outcome.login.is_none() || subject.is_none() {
            return Ok(None);
        }
        let held = self.load_readable(from).await?;
        Ok(held.filter(|held| !held.is_ended() && is_one(held.subject.as_deref(), subject)))
    }

    /// Ends the session that a quarantined client was moved away from, after it logged in again as the same subject.
    async fn replace_held(&self, admission: &Admission, new: &Record, from: &SessionDigest) -> Result<(), StoreError> {
        let same = match self.load_readable(from).await? {
            Some(held) => is_one(held.subject.as_deref(), new.subject.as_deref()),
            None => false,
        };
        if !same {
            return Ok(());
        }
        let ending = self.ending(&admission.policy, EndReason::Replaced, admission.now);
        if let Some(held) = self.store.revoke(from, ending).await? {
            self.streams.end(from);
            self.tell_about(admission, &held, event::SessionReleased { how: Release::Login });
        }
        Ok(())
    }

    /// Gives a quarantined client a session of its own to log in with. The old one stays as it is.
    async fn hold(
        &self,
        admission: &Admission,
        outcome: &Outcome,
        taken: &Taken,
        from: &Known,
    ) -> Result<Handed, Unsettled> {
        if !self.may_begin(admission) {
            return Ok(Handed::Nothing);
        }
        let id = SessionId::generate(&self.entropy).map_err(StoreError::io)?;
        let mut record = self.blank(admission, &id)?;
        record.state = State::Held { from: Box::new(from.digest), since: admission.now };
        let jar = self.jar_of(None, admission, taken);
        record.jar = self.seal(&id, &jar)?;
        record.data = self.data_under(&id, None, &outcome.app)?;
        record.bound = self.bound_after(&record, taken, admission.now).unwrap_or_default();
        record.removable_at = removable_at(&record, &admission.policy);
        if matches!(self.store.create(record.clone(), None, admission.now).await?, Creation::Exists) {
            return Err(StoreError::io("a new session id was already taken").into());
        }
        let known = known(id, record, Standing::Head);
        self.tell_about(admission, &known.record, event::SessionCreated {});
        let line = self.cookie_line(admission, &known, known.record.tags.head());
        Ok(Handed::Cookie { known, line })
    }

    /// Ends a session by decision of the guard.
    pub(super) async fn end(
        &self,
        request: &admit::Request<'_>,
        known: &Known,
        (verdict, cause): (&Verdict, Cause),
    ) -> Result<(), StoreError> {
        let ending = self.ending(&request.policy, EndReason::Terminated, request.now);
        if let Some(record) = self.store.revoke(&known.digest, ending).await? {
            self.streams.end(&known.digest);
            self.tell_ended(request, &record, (verdict, cause));
        } else if cause == Cause::Rule {
            // Another request of the session ended it a moment ago. That this one is refused is told by itself.
            self.tell_ruled(request, Some(&known.record), verdict, Mode::Enforce);
        }
        Ok(())
    }

    /// Ends a session by a rule on its answer, under whatever id it goes on by now.
    pub(super) async fn end_present(
        &self,
        admission: &Admission,
        known: &Known,
        verdict: &Verdict,
    ) -> Result<(), StoreError> {
        let digest = self.present(known).await?.map_or(known.digest, |record| record.digest);
        let ending = self.ending(&admission.policy, EndReason::Terminated, admission.now);
        if let Some(record) = self.store.revoke(&digest, ending).await? {
            self.streams.end(&digest);
            self.tell_ended_on_answer(admission, &record, verdict);
        }
        Ok(())
    }

    /// Ends sessions of the subject, as the app asked: others, or this one too.
    pub(super) async fn revoke_others(
        &self,
        admission: &Admission,
        outcome: &Outcome,
        handed: Handed,
    ) -> Result<Handed, StoreError> {
        let Some(scope) = outcome.revoke else { return Ok(handed) };
        let ((Handed::Cookie { known, .. }, _) | (_, Holder::Session(known))) = (&handed, &admission.holder) else {
            return Ok(handed);
        };
        let ending = self.ending(&admission.policy, EndReason::Revoked, admission.now);
        let present = self.present(known).await?.map_or(known.digest, |record| record.digest);
        let own = match scope {
            Scope::Others => None,
            Scope::All => self.store.revoke(&present, ending).await?,
        };
        let others = match &known.record.subject {
            Some(subject) => self.revoke_but(subject, Some(&present), ending).await?,
            None => Vec::new(),
        };
        own.iter().for_each(|record| self.streams.end(&record.digest));
        for record in own.iter().chain(&others) {
            self.tell_about(admission, record, event::SessionRevoked { by: Revoker::App });
        }
        Ok(if scope == Scope::All { Handed::Cleared } else { handed })
    }

    /// Ends the other sessions of whoever the app meant by that.
    pub(super) async fn revoke_for_app(&self, admission: &Admission, outcome: &Outcome) -> Result<(), StoreError> {
        if outcome.app.revoke.is_empty() {
            return Ok(());
        }
        let own = match &admission.holder {
            Holder::Session(known) => self.present(known).await?.map(|record| record.digest),
            Holder::Stranger | Holder::Nobody(_) | Holder::Quarantined(_) => None,
        };
        let ending = self.ending(&admission.policy, EndReason::Revoked, admission.now);
        for Revoke { subject, .. } in &outcome.app.revoke {
            for record in self.revoke_but(subject, own.as_ref(), ending).await? {
                self.tell_about(admission, &record, event::SessionRevoked { by: Revoker::App });
            }
        }
        Ok(())
    }

    /// Ends the sessions of a subject but one, and their streams.
    pub(super) async fn revoke_but(
        &self,
        subject: &str,
        own: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        let ended = self.store.revoke_subject(subject, own, ending).await?;
        ended.iter().for_each(|record| self.streams.end(&record.digest));
        Ok(ended)
    }

    /// The session as it is now: another answer may have given it a new id while this one was made. None if it is over.
    pub(super) async fn present(&self, known: &Known) -> Result<Option<Arc<Record>>, StoreError> {
        match self.load_readable(&known.digest).await? {
            Some(record) if !record.is_ended() => return Ok(Some(record)),
            Some(record) if record.is_replaced() => {}
            _ => return Ok(None),
        }
        let reference = Some(known.record.reference);
        let filter = Filter { subject: known.record.subject.clone(), reference, with_ended: false };
        let page = self.store.list(&filter, None, 1).await?;
        Ok(page.records.into_iter().next())
    }

    /// What a logout means that comes when its session has ended or has got a new id.
    async fn over_already(&self, known: &Known, outcome: &Outcome) -> Result<Over, StoreError> {
        if !self.load_readable(&known.digest).await?.is_some_and(|record| record.is_replaced()) {
            return Ok(Over::Ended);
        }
        // The client may hold the next cookie by now. It loses that only if somebody asked for it, and nobody has logged in
        // since.
        if outcome.logout == Some(Sign::Cookie) {
            return Ok(Over::GoesOn);
        }
        let present = self.present(known).await?;
        let is_his = |now: &Record| outcome.app.is_logout && now.subject == known.record.subject;
        let same = present.filter(|now| now.authenticated_at == known.record.authenticated_at || is_his(now));
        Ok(same.map_or(Over::GoesOn, |now| Over::ToEnd(now.digest)))
    }

    /// A new record without anything in it.
    fn blank(&self, admission: &Admission, id: &SessionId) -> Result<Record, StoreError> {
        let mut record = Record {
            digest: id.digest(),
            reference: Ref::generate(&self.entropy).map_err(StoreError::io)?,
            version: 0,
            created_at: admission.now,
            id_since: admission.now,
            authenticated_at: None,
            last_seen: admission.now,
            ends_at: None,
            lasting: Lasting::Default,
            removable_at: Timestamp::EPOCH,
            subject: None,
            tags: self.first_tags(id, admission.now)?,
            forks: 0,
            state: State::Live,
            jar: Box::default(),
            data: Box::default(),
            bound: Box::default(),
            history: Box::default(),
        };
        self.bind(admission, &mut record, Bind::Visit);
        Ok(record)
    }

    fn first_tags(&self, id: &SessionId, now: Timestamp) -> Result<Tags, StoreError> {
        let head = Tag::mint(&self.keys.load(), id, 0, &self.entropy).map_err(StoreError::io)?;
        Ok(Tags::new(head, now))
    }
}

/// Whether both are known, and one.
fn is_one(one: Option<&str>, other: Option<&str>) -> bool {
    one.zip(other).is_some_and(|(one, other)| is_same(one, other))
}

fn known(id: SessionId, record: Record, standing: Standing) -> Known {
    Known { digest: record.digest, id, tag: *record.tags.head(), record: Arc::new(record), standing }
}
