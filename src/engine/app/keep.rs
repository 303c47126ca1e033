//! The guard's part of a handle: what is opened, written, listed and ended for it.

use std::sync::Arc;

use super::wish::{Revoke, Wish, Wishes};
use super::{AppSession, Handed, Keeper, Later, SaveError, Saved, Standing, Written};
use crate::clock::Timestamp;
use crate::engine::change::{due_end, is_enforced, removable_at};
use crate::engine::operate::WALKS_MAX;
use crate::engine::settle::Unsettled;
use crate::engine::{Admission, Guard, Known, Places, WRITERS_MAX};
use crate::event::field::{Dependency, Revoker, Sign};
use crate::event::kinds as event;
use crate::facts::geo::Country;
use crate::facts::user_agent::{Family, Os};
use crate::history::Contexts;
use crate::rules::Policy;
use crate::secret::Purpose;
use crate::session::cookie::Persist;
use crate::session::data::{Data, Edits};
use crate::session::expiry::{Deadlines, is_renewed};
use crate::session::id::{Ref, SessionId};
use crate::session::record::{EndReason, Record, State};
use crate::session::seal::seal_in_session;
use crate::store::{Commit, Durability, Filter, PAGE_MAX, Store, StoreError};
use crate::verdict::Text;

/// A live session of a subject, for a page that shows him where he is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its public name, to end it by.
    pub reference: Ref,
    /// Whether it is the one that asks.
    pub current: Current,
    /// The browser or program; none if it does not say.
    pub agent: Option<Family>,
    /// Its system; none if it does not say.
    pub os: Option<Os>,
    /// The country that its address was in at login, if databases know it.
    pub country: Option<Country>,
    /// The city of its network at login, as databases know it now: sessions keep no address. None without databases of cities.
    pub city: Option<Box<str>>,
    /// When it began.
    pub first_use: Timestamp,
    /// When it was last used, to the minute.
    pub last_use: Timestamp,
}

/// Whether a session is the one that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Current {
    /// It is.
    Yes,
    /// It is another one.
    No,
}

/// What became of a session that was to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedDevice {
    /// It has ended.
    Yes,
    /// It is the one that asked, and ends with the answer.
    WithAnswer,
    /// The subject has no such live session.
    NotFound,
}

impl<S: Store> Guard<S> {
    /// A handle on the session of an admitted request, for the app. [`settle`](Self::settle) writes what becomes of it.
    pub fn hand_to_app(self: &Arc<Self>, admission: &mut Admission) -> AppSession {
        let handle = AppSession::new(self.clone(), admission);
        admission.app = Some(Handed(handle.clone()));
        handle
    }

    /// What an app keeps in a session; none if it has nothing there, or it can not be opened any more.
    pub(in crate::engine) fn try_open_data(
        &self,
        id: &SessionId,
        record: &Record,
        now: Timestamp,
    ) -> Option<Arc<Data>> {
        if record.data.is_empty() {
            return None;
        }
        let open = || Data::decode(self.unseal(Purpose::Data, &record.data, (id, &record.digest))?).ok().map(Arc::new);
        let can_open = self.can_open(&record.data);
        let data = can_open.then(|| self.open_data.with(&record.digest, &record.data, now, open, Arc::clone)).flatten();
        if data.is_none() && self.advised_closed.is_due(now) {
            let fault = Text::of("the data of a session can not be opened: was a key removed too early?");
            self.report(None, event::DependencyFailed { what: Dependency::Store, fault });
        }
        data
    }

    /// The sealed data of the session of an id.
    pub(in crate::engine) fn seal_data(&self, id: &SessionId, data: &Data) -> Result<Box<[u8]>, StoreError> {
        let mut plain = data.encode();
        if plain.is_empty() {
            return Ok(Box::default());
        }
        let keys = self.keys.load();
        let sealed = seal_in_session(&keys, Purpose::Data, &self.entropy, id.expose(), &id.digest().0, &plain);
        zeroize::Zeroize::zeroize(&mut plain);
        sealed.map(Vec::into_boxed_slice).map_err(StoreError::io)
    }

    /// What stands in a record under another id, sealed for a new one, with what the app changed.
    ///
    /// # Errors
    /// When the changes are at odds with those of another request.
    pub(in crate::engine) fn data_under(
        &self,
        id: &SessionId,
        old: Option<(&SessionId, &Record)>,
        wishes: &Wishes,
    ) -> Result<Box<[u8]>, Unsettled> {
        let stored = match old {
            Some((id, record)) if !wishes.begins_anew => self.readable_data(id, record)?,
            _ => Arc::default(),
        };
        let data = match &wishes.edits {
            Some(edits) => Arc::new(edits.over(&stored, self.data_bytes_max())?),
            None => stored,
        };
        Ok(self.seal_data(id, &data)?)
    }

    /// What is stored, if it can be opened: what can not must not be written over, since another node may have its key.
    fn readable_data(&self, id: &SessionId, record: &Record) -> Result<Arc<Data>, StoreError> {
        match self.try_open_data(id, record, self.clock.now()) {
            Some(data) => Ok(data),
            None if record.data.is_empty() => Ok(Arc::default()),
            None => Err(StoreError::io("the data of a session can not be opened: was a key removed too early?")),
        }
    }

    /// The record, if it can be written to: it has not ended, nobody was moved away from it since `seen`, and if its time
    /// seems to be over, the store says so too.
    pub(in crate::engine) async fn writable(
        &self,
        policy: &Policy,
        seen: &Record,
        stored: Arc<Record>,
    ) -> Result<Option<Arc<Record>>, StoreError> {
        let now = self.clock.now();
        let is_over = |record: &Record| {
            record.is_ended() || due_end(record, policy, now).is_some_and(|why| is_enforced(why, policy))
        };
        let stored = if is_over(&stored) { self.load_readable(&stored.digest).await? } else { Some(stored) };
        let was_moved =
            |record: &Record| matches!(record.state, State::Quarantined { .. }) && record.state != seen.state;
        Ok(stored.filter(|record| !is_over(record) && !was_moved(record)))
    }

    /// Writes what a handle changed over what is stored by now.
    async fn save_over(&self, handle: &AppSession, mut known: Known) -> Result<Saved, SaveError> {
        let (edits, lasting) = {
            let state = handle.0.state.lock();
            (state.edits.clone().filter(Edits::is_modified), state.lasting)
        };
        if edits.is_none() && lasting.is_none() {
            return Ok(Saved::Now);
        }
        let policy = self.policy.load_full();
        let seen = known.record.clone();
        let mut written = Written { edits: edits.as_ref(), data: None, lasting };
        for _ in 0..WRITERS_MAX {
            let stored = self.writable(&policy, &seen, known.record.clone()).await?.ok_or(SaveError::Ended)?;
            let mut record = (*stored).clone();
            if let Some(edits) = &edits {
                let data = self.readable_data(&known.id, &stored)?;
                match edits.over(&data, self.data_bytes_max()) {
                    Ok(data) => {
                        record.data = self.seal_data(&known.id, &data)?;
                        written.data = Some(Arc::new(data));
                    }
                    Err(lost) => {
                        // Whoever tries again does so over what is there now.
                        handle.found(stored);
                        return Err(lost.into());
                    }
                }
            }
            if let Some((lasting, ends_at)) = lasting {
                (record.lasting, record.ends_at) = (lasting, ends_at);
            }
            record.removable_at = removable_at(&record, &policy);
            match self.store.commit(record, Durability::Durable).await? {
                Commit::Done(record) => {
                    if is_renewed(&stored, &record, &policy.session.deadlines) {
                        self.tell_alone(&record, self.clock.now(), event::SessionRenewed {});
                    }
                    handle.rebase(record, &written);
                    handle.0.state.lock().was_saved = true;
                    return Ok(Saved::Now);
                }
                Commit::Conflict(current) => known.record = current,
                Commit::Gone => return Err(SaveError::Ended),
            }
        }
        Err(StoreError::io("a session changed too often while it was saved").into())
    }

    /// What can still be done for a handle whose answer is gone: other sessions of the subject end, then this one ends or is
    /// written.
    async fn save_late(&self, handle: &AppSession, known: Known) -> Result<Saved, SaveError> {
        let (Wish { revoke, logout, .. }, is_left) = {
            let state = handle.0.state.lock();
            (state.wish.clone(), state.edits.as_ref().is_some_and(Edits::is_modified))
        };
        let (policy, now) = (self.policy.load_full(), self.clock.now());
        let present = if revoke.is_empty() && !logout { None } else { self.present(&known).await? };
        if !revoke.is_empty() {
            // Whoever was thrown out does not throw out others.
            let own = present.as_ref().ok_or(SaveError::Ended)?.digest;
            let ending = self.ending(&policy, EndReason::Revoked, now);
            for Revoke { subject, .. } in &revoke {
                for record in self.revoke_but(subject, Some(&own), ending).await? {
                    self.tell_alone(&record, now, event::SessionRevoked { by: Revoker::App });
                }
            }
            handle.0.state.lock().wish.revoke.retain(|one| !revoke.contains(one));
        }
        if !logout {
            return self.save_over(handle, known).await;
        }
        let digest = present.map_or(known.digest, |record| record.digest);
        if let Some(record) = self.store.revoke(&digest, self.ending(&policy, EndReason::Logout, now)).await? {
            self.streams.end(&digest);
            self.tell_alone(&record, now, event::SessionLogout { sign: Sign::Call });
        }
        handle.logged_out();
        // What was written after it would be of a session that nobody can be given.
        if is_left { Err(SaveError::NotKept) } else { Ok(Saved::Now) }
    }

    async fn read_again(&self, handle: &AppSession) -> Result<Standing, StoreError> {
        if let Some(known) = handle.known() {
            let policy = self.policy.load_full();
            let found = match self.load_readable(&known.digest).await? {
                Some(record) => self.writable(&policy, &known.record, record).await?,
                None => None,
            };
            handle.discard();
            handle.0.state.lock().lasting = None;
            handle.settled(found.map(|record| Known { record, ..known }));
        }
        Ok(handle.seen_standing())
    }

    /// The live sessions of a subject, deadlines counted.
    async fn live_sessions(&self, filter: &Filter) -> Result<Vec<Arc<Record>>, StoreError> {
        let (policy, now) = (self.policy.load_full(), self.clock.now());
        let page = self.store.list(filter, None, PAGE_MAX).await?;
        let is_live = |record: &Arc<Record>| {
            !matches!(record.state, State::Ended { .. } | State::Held { .. })
                && !due_end(record, &policy, now).is_some_and(|why| is_enforced(why, &policy))
        };
        Ok(page.records.into_iter().filter(is_live).collect())
    }

    async fn end_one(&self, handle: &AppSession, which: Ref) -> Result<EndedDevice, StoreError> {
        let is_own = handle.reference() == Some(which);
        let is_late = handle.0.state.lock().is_answered;
        if is_own && !is_late {
            handle.log_out();
            return Ok(EndedDevice::WithAnswer);
        }
        // Whoever was thrown out does not throw out others.
        if let Some(known) = handle.known().filter(|_| is_late)
            && self.present(&known).await?.is_none()
        {
            handle.settled(None);
            return Ok(EndedDevice::NotFound);
        }
        // Without a subject there is none but this one; and whatever name is given, it is looked for among his alone.
        let Some(subject) = handle.subject() else { return Ok(EndedDevice::NotFound) };
        let filter = Filter { subject: Some(subject.clone()), reference: Some(which), with_ended: false };
        let policy = self.policy.load_full();
        let now = self.clock.now();
        let ending = self.ending(&policy, EndReason::Revoked, now);
        let mut done = EndedDevice::NotFound;
        // One that is getting a new id just now is found by the next look.
        for _ in 0..WALKS_MAX {
            let found = self.live_sessions(&filter).await?;
            let his: Vec<_> = found.iter().filter(|record| record.subject.as_deref() == Some(&*subject)).collect();
            if his.is_empty() {
                break;
            }
            for record in his {
                if let Some(record) = self.store.revoke(&record.digest, ending).await? {
                    self.streams.end(&record.digest);
                    self.tell_alone(&record, now, event::SessionRevoked { by: Revoker::Subject });
                    done = EndedDevice::Yes;
                }
            }
        }
        if is_own && done == EndedDevice::Yes {
            handle.settled(None);
        }
        Ok(done)
    }
}

impl<S: Store> Keeper for Guard<S> {
    fn open_data(&self, id: &SessionId, record: &Record, now: Timestamp) -> Arc<Data> {
        self.try_open_data(id, record, now).unwrap_or_default()
    }

    fn time(&self) -> Timestamp {
        self.clock.now()
    }

    fn deadlines(&self) -> Deadlines {
        self.policy.load().session.deadlines
    }

    fn persist(&self) -> Persist {
        self.policy.load().cookies.persist
    }

    fn data_bytes_max(&self) -> usize {
        self.policy.load().session.data_bytes_max
    }

    fn reload<'a>(&'a self, handle: &'a AppSession) -> Later<'a, Result<Standing, StoreError>> {
        Box::pin(self.read_again(handle))
    }

    fn save<'a>(&'a self, handle: &'a AppSession) -> Later<'a, Result<Saved, SaveError>> {
        let (standing, waits, known, is_late) = {
            let state = handle.0.state.lock();
            let wish = &state.wish;
            // What comes with the answer is written with the answer: the data belong to the new id.
            let waits = wish.login.is_some() || wish.logout || wish.begins_anew;
            (state.standing, waits, state.known.clone(), state.is_answered)
        };
        match (standing, known) {
            (Standing::Session, Some(known)) if is_late => Box::pin(self.save_late(handle, known)),
            (Standing::Session, Some(known)) if !waits => Box::pin(self.save_over(handle, known)),
            (Standing::Session | Standing::Visitor, _) => Box::pin(std::future::ready(Ok(Saved::WithAnswer))),
            (Standing::Nobody, _) => Box::pin(std::future::ready(Err(SaveError::NotKept))),
        }
    }

    fn devices<'a>(&'a self, handle: &'a AppSession) -> Later<'a, Result<Vec<Device>, StoreError>> {
        Box::pin(async move {
            let own = handle.reference();
            let filter = match handle.subject() {
                Some(subject) => Filter { subject: Some(subject), ..Filter::default() },
                None if own.is_some() => Filter { reference: own, ..Filter::default() },
                None => return Ok(Vec::new()),
            };
            // The store finds every spelling; to show one user's devices to another would be worse than to miss one.
            let records = self.live_sessions(&filter).await?;
            let is_his = |record: &&Arc<Record>| filter.subject.is_none() || record.subject == filter.subject;
            let places = self.places.load();
            let mut devices: Vec<Device> =
                records.iter().filter(is_his).map(|record| Device::of(record, own, &places)).collect();
            devices.sort_by_key(|device| {
                (device.current == Current::No, std::cmp::Reverse((device.last_use, device.first_use)))
            });
            Ok(devices)
        })
    }

    fn end_device<'a>(&'a self, handle: &'a AppSession, which: Ref) -> Later<'a, Result<EndedDevice, StoreError>> {
        Box::pin(self.end_one(handle, which))
    }
}

impl Device {
    fn of(record: &Record, own: Option<Ref>, places: &Places) -> Self {
        let contexts = Contexts::decode(&record.history).unwrap_or_default();
        let bound = contexts.known().first().map(|context| context.fingerprint);
        let agent = bound.map(|bound| bound.agent).filter(|agent| agent.hash != 0);
        Self {
            reference: record.reference,
            current: if own == Some(record.reference) { Current::Yes } else { Current::No },
            agent: agent.map(|agent| agent.family),
            os: agent.map(|agent| agent.os),
            country: bound.and_then(|bound| bound.place.country),
            city: bound.and_then(|bound| bound.prefix.address()).and_then(|address| places.city(address)),
            first_use: record.created_at,
            last_use: record.last_seen,
        }
    }
}

impl Record {
    /// Whether nothing is in it that anybody could miss.
    pub(in crate::engine) fn is_bare(&self) -> bool {
        self.data.is_empty()
            && self.jar.is_empty()
            && self.bound.is_empty()
            && self.subject.is_none()
            && !self.is_authenticated()
            && self.state == State::Live
    }

    /// Takes what the app wishes about how long it lasts.
    pub(in crate::engine) fn take_lasting(&mut self, wishes: &Wishes) {
        if let Some((lasting, ends_at)) = wishes.lasting {
            (self.lasting, self.ends_at) = (lasting, ends_at);
        }
    }
}
