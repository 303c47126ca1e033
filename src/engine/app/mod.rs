//! The session as an app in this process has it in its hands.
//!
//! The handle is in memory and does not wait: the guard has loaded the record before the app is called, and
//! [`Guard::settle`](super::Guard::settle) writes once what became of it. Only [`save`](AppSession::save), for an app that
//! must know before it answers, goes to the store.

mod keep;
mod wish;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use keep::{Current, Device, EndedDevice};

use self::wish::{Name, Wish};
pub(super) use self::wish::{Revoke, Wishes};
use super::control::Command;
use super::{Admission, Holder, Known, Nobody};
use crate::clock::Timestamp;
use crate::session::cookie::Persist;
use crate::session::data::{Data, Edits, Lost};
use crate::session::expiry::{self, Deadlines};
use crate::session::id::{Ref, SessionId};
use crate::session::record::{Lasting, Record, SUBJECT_BYTES_MAX};
use crate::store::StoreError;

/// What an app could not keep.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Another request wrote the same keys, or all of it is too large. Nothing was kept.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The session ended meanwhile, or goes on under another id: what was written belongs to nobody. Nothing was kept.
    #[error("the session has ended meanwhile")]
    Ended,
    /// The request was let through without its session, and none may come of it. Nothing was kept.
    #[error("nothing is kept of this request: it was let through without a session")]
    NotKept,
    /// The store failed. Something may have been kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// When what an app wrote is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is.
    Now,
    /// With the answer: a session that begins, or gets another id or another subject, does so there.
    WithAnswer,
}

/// In whose name the app is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A session's.
    Session,
    /// A visitor's: one may begin with the answer.
    Visitor,
    /// Nobody's, and nothing is kept: the store does not answer, or the request came with an id that was just replaced.
    Nobody,
}

/// Nobody can be logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogInError {
    /// The subject can not be kept.
    #[error("a subject must be 1 to {SUBJECT_BYTES_MAX} bytes, without control characters")]
    Subject,
    /// The answer is gone, and with it the chance to give a cookie.
    #[error("nobody can be logged in after the answer: there is none to put his cookie on")]
    Answered,
}

/// How long an app wants its session to last. The policy's deadlines hold in any case: what is longer than those lets is cut there,
/// or where [`Deadlines::longest`] is for who asks for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// As the policy says.
    Default,
    /// So long from its last use, in whole seconds.
    AfterIdle(Duration),
    /// Until then.
    At(Timestamp),
    /// Until the browser closes.
    AtBrowserClose,
}

/// How the app answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// As it wanted to.
    Made,
    /// It failed: 5xx, or another status than 0 of gRPC, or none at all.
    Failed,
}

/// What was asked for and changed at some time.
#[derive(Debug)]
pub(crate) struct Snapshot {
    edits: Option<Edits>,
    lasting: Option<(Lasting, Option<Timestamp>)>,
    wish: Wish,
}

/// What of a handle was written.
#[derive(Debug)]
pub(super) struct Written<'a> {
    pub edits: Option<&'a Edits>,
    /// All that is stored now, if that is at hand.
    pub data: Option<Arc<Data>>,
    pub lasting: Option<(Lasting, Option<Timestamp>)>,
}

/// Any answer that takes a while.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The guard, as a handle knows it: over whatever store.
pub(crate) trait Keeper: Send + Sync {
    /// What an app keeps in a session, which it had in its hands last at `now`. Nothing if it can not be opened.
    fn open_data(&self, id: &SessionId, record: &Record, now: Timestamp) -> Arc<Data>;
    /// The time.
    fn time(&self) -> Timestamp;
    /// How long sessions last.
    fn deadlines(&self) -> Deadlines;
    /// Whether its cookie outlives the browser.
    fn persist(&self) -> Persist;
    /// Bytes of data that a session may keep.
    fn data_bytes_max(&self) -> usize;
    /// Reads the session of a handle again.
    fn reload<'a>(&'a self, handle: &'a AppSession) -> Later<'a, Result<Standing, StoreError>>;
    /// Writes what a handle changed.
    fn save<'a>(&'a self, handle: &'a AppSession) -> Later<'a, Result<Saved, SaveError>>;
    /// The live sessions of a handle's subject.
    fn devices<'a>(&'a self, handle: &'a AppSession) -> Later<'a, Result<Vec<Device>, StoreError>>;
    /// Ends one of them.
    fn end_device<'a>(&'a self, handle: &'a AppSession, which: Ref) -> Later<'a, Result<EndedDevice, StoreError>>;
}

/// The session of one request. Clones are the same handle.
#[derive(Clone)]
pub struct AppSession(Arc<Shared>);

/// The guard's own handle, for as long as there may be an answer: when it is let go of, there is none any more.
#[derive(Debug)]
pub(super) struct Handed(pub(super) AppSession);

impl std::ops::Deref for Handed {
    type Target = AppSession;

    fn deref(&self) -> &AppSession {
        &self.0
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        // Where nobody else has it there is nobody to whom it means anything.
        if Arc::strong_count(&self.0.0) > 1 {
            self.0.answered();
        }
    }
}

struct Shared {
    keeper: Arc<dyn Keeper>,
    state: Mutex<State>,
    /// Held by whoever writes: two writers of one handle would take each step twice.
    writing: tokio::sync::Mutex<()>,
}

struct State {
    /// When the request came.
    asked: Timestamp,
    standing: Standing,
    known: Option<Known>,
    /// Opened when somebody looks.
    edits: Option<Edits>,
    lasting: Option<(Lasting, Option<Timestamp>)>,
    wish: Wish,
    was_accessed: bool,
    was_saved: bool,
    /// An expiry was saved, and its cookie is still to say so.
    was_expiry_saved: bool,
    is_answered: bool,
}

impl AppSession {
    pub(super) fn new(keeper: Arc<dyn Keeper>, admission: &Admission) -> Self {
        let (standing, known) = match &admission.holder {
            Holder::Session(known) => (Standing::Session, Some(known.clone())),
            // To the app a quarantined client is a stranger.
            Holder::Stranger | Holder::Quarantined(_) => (Standing::Visitor, None),
            Holder::Nobody(_) => (Standing::Nobody, None),
        };
        let state = State {
            asked: admission.asked,
            standing,
            known,
            edits: None,
            lasting: None,
            wish: Wish::default(),
            was_accessed: false,
            was_saved: false,
            was_expiry_saved: false,
            is_answered: false,
        };
        Self(Arc::new(Shared { keeper, state: Mutex::new(state), writing: tokio::sync::Mutex::default() }))
    }

    /// In whose name the app is called.
    pub fn standing(&self) -> Standing {
        self.0.state.lock().standing
    }

    /// The same, for an app that answers by it.
    pub(crate) fn seen_standing(&self) -> Standing {
        self.0.state.lock().accessed().standing
    }

    /// Looks at the data.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut Edits) -> T) -> T {
        look(self.0.state.lock().edits(&*self.0.keeper))
    }

    /// Changes the data; gives the most bytes that they may take, too.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Edits, usize) -> T) -> T {
        let bytes_max = self.0.keeper.data_bytes_max();
        change(self.0.state.lock().edits(&*self.0.keeper), bytes_max)
    }

    /// Whether somebody looked at the session.
    pub fn is_accessed(&self) -> bool {
        self.0.state.lock().was_accessed
    }

    /// Whether something of the data was changed.
    pub fn is_modified(&self) -> bool {
        let state = self.0.state.lock();
        state.wish.begins_anew || state.edits.as_ref().is_some_and(Edits::is_modified)
    }

    /// Whose session it is, with a login or logout of this request already counted.
    pub fn subject(&self) -> Option<Arc<str>> {
        self.0.state.lock().accessed().subject()
    }

    /// The public name of the session; none while there is none.
    pub fn reference(&self) -> Option<Ref> {
        self.0.state.lock().accessed().known.as_ref().map(|known| known.record.reference)
    }

    /// When its subject last proved who he is.
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        let now = self.0.keeper.time();
        let mut state = self.0.state.lock();
        let state = state.accessed();
        match &state.wish {
            Wish { login: Some(_), .. } => Some(now),
            Wish { logout: true, .. } => None,
            Wish { new_id: Some(Command::Reauthenticated), .. } => Some(now),
            _ => state.known.as_ref().and_then(|known| known.record.authenticated_at),
        }
    }

    /// The time of the guard.
    pub fn now(&self) -> Timestamp {
        self.0.keeper.time()
    }

    /// Somebody proved who he is: with the answer the session gets a new id. What another subject kept in it is gone.
    ///
    /// # Errors
    /// When the subject can not be kept, or the answer is gone.
    pub fn log_in(&self, subject: &str) -> Result<(), LogInError> {
        let is_fit = (1..=SUBJECT_BYTES_MAX).contains(&subject.len()) && !subject.chars().any(char::is_control);
        if !is_fit {
            return Err(LogInError::Subject);
        }
        let mut state = self.0.state.lock();
        let state = state.accessed();
        if state.is_answered {
            return Err(LogInError::Answered);
        }
        if state.is_somebody_elses(subject) {
            state.begin_anew();
        }
        // Whoever was to be logged in before is not let in.
        state.wish.revoke.retain(|one| one.name == Name::Owner || *one.subject == *subject);
        state.wish.login = Some(subject.into());
        Ok(())
    }

    /// Ends the session: its data are gone at once, its cookie and its record with the answer, whatever the answer is. What is
    /// written afterwards belongs to a new session.
    pub fn log_out(&self) {
        let mut state = self.0.state.lock();
        let state = state.accessed();
        state.wish.revoke.retain(|one| one.name == Name::Owner);
        state.log_out();
    }

    /// The same for all sessions of the subject. Who was to be logged in has proven who he is, and is meant though he is not
    /// let in.
    pub fn log_out_everywhere(&self) {
        let mut state = self.0.state.lock();
        let state = state.accessed();
        state.revoke_others();
        state.log_out();
    }

    /// Asks for a new id. Of several reasons the strongest counts. Nothing comes of it where nobody is logged in who could prove
    /// again who he is, and after the answer, when there is none to put a cookie on.
    pub(crate) fn ask_new_id(&self, command: Command) {
        let strength = |command: &Command| match command {
            Command::Reauthenticated => 2,
            Command::Elevate => 1,
            _ => 0,
        };
        let mut state = self.0.state.lock();
        let state = state.accessed();
        let is_idle = command == Command::Reauthenticated && !state.is_authenticated();
        let is_weaker = state.wish.new_id.as_ref().is_some_and(|other| strength(other) > strength(&command));
        if !is_idle && !is_weaker && !state.is_answered {
            state.wish.new_id = Some(command);
        }
    }

    /// Ends the other sessions of the subject with the answer; after it, with [`save`](Self::save). Who has just been logged out is
    /// meant too.
    pub fn revoke_others(&self) {
        self.0.state.lock().accessed().revoke_others();
    }

    /// How long the session shall last.
    pub fn set_expiry(&self, expiry: Expiry) {
        let wish = match expiry {
            Expiry::Default => (Lasting::Default, None),
            Expiry::AtBrowserClose => (Lasting::Browser, None),
            Expiry::At(at) => (Lasting::Until, Some(at)),
            Expiry::AfterIdle(span) => (Lasting::Idle(u32::try_from(span.as_secs().max(1)).unwrap_or(u32::MAX)), None),
        };
        self.0.state.lock().accessed().lasting = Some(wish);
    }

    /// How long the session shall last, as it was set.
    pub fn expiry(&self) -> Expiry {
        let mut state = self.0.state.lock();
        let (lasting, ends_at) = state.accessed().lasting();
        match (lasting, ends_at) {
            (Lasting::Default, _) | (Lasting::Until, None) => Expiry::Default,
            (Lasting::Browser, _) => Expiry::AtBrowserClose,
            (Lasting::Until, Some(at)) => Expiry::At(at),
            (Lasting::Idle(seconds), _) => Expiry::AfterIdle(Duration::from_secs(seconds.into())),
        }
    }

    /// Whether the cookie of the session is forgotten when the browser closes, as far as it is known before the answer.
    pub fn expires_at_browser_close(&self) -> bool {
        match self.expiry() {
            Expiry::AtBrowserClose => true,
            Expiry::AfterIdle(_) | Expiry::At(_) => false,
            Expiry::Default => self.0.keeper.persist() == Persist::Session,
        }
    }

    /// When the session ends if it is not used after this request, with everything that was set and with the policy's
    /// deadlines.
    pub fn expiry_date(&self) -> Timestamp {
        let (now, deadlines) = (self.0.keeper.time(), self.0.keeper.deadlines());
        let mut state = self.0.state.lock();
        let (lasting, ends_at) = state.accessed().lasting();
        let began = match &state.known {
            Some(known) if state.wish.login.is_none() && !state.wish.logout => expiry::began(&known.record),
            _ => now,
        };
        let granted = deadlines.granted(lasting, ends_at, began);
        let oldest = began.after(granted.absolute);
        now.after(granted.idle).min(oldest).min(ends_at.unwrap_or(oldest))
    }

    /// Writes what was changed so far to the store, for an app that must know before it answers. A session that begins with
    /// this answer, or gets a new id with it, is written then.
    ///
    /// # Errors
    /// [`SaveError`]. After [`SaveError::Lost`] the changes are still there, over what was read: see
    /// [`discard`](Self::discard).
    pub async fn save(&self) -> Result<Saved, SaveError> {
        let _writing = self.0.writing.lock().await;
        self.0.keeper.save(self).await
    }

    /// Reads the session again, as it is by now, and forgets what was changed of its data and its expiry. A logout that was asked for
    /// still stands. For a handle that outlives its answer.
    ///
    /// # Errors
    /// When the store fails; the handle is as it was then.
    pub async fn reload(&self) -> Result<Standing, StoreError> {
        let _writing = self.0.writing.lock().await;
        self.0.keeper.reload(self).await
    }

    /// What is asked for and changed so far, to be brought back by [`restore`](Self::restore).
    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.0.state.lock();
        Snapshot { edits: state.edits.clone(), lasting: state.lasting, wish: state.wish.clone() }
    }

    /// Takes back what was done since. Data that were written since are read anew.
    pub(crate) fn restore(&self, snapshot: Snapshot) {
        let mut state = self.0.state.lock();
        state.edits = snapshot.edits.filter(Edits::is_modified);
        state.lasting = snapshot.lasting;
        state.wish = snapshot.wish;
        if state.edits.is_none() && state.wish.begins_anew {
            state.edits = Some(Edits::new(Arc::default()));
        }
    }

    /// Forgets what was changed in the data since they were read or saved. The next look shows what a failed
    /// [`save`](Self::save) has found in the store.
    pub fn discard(&self) {
        let mut state = self.0.state.lock();
        state.edits = if state.wish.begins_anew { Some(Edits::new(Arc::default())) } else { None };
    }

    /// The live sessions of the subject: this one first, then the one that was used last.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn devices(&self) -> Result<Vec<Device>, StoreError> {
        self.0.keeper.devices(self).await
    }

    /// Ends a session of the same subject. This one ends with the answer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_device(&self, which: Ref) -> Result<EndedDevice, StoreError> {
        self.0.keeper.end_device(self, which).await
    }

    /// What became of it, to be settled with an answer of this status. An answer that failed keeps nothing and lets nobody in;
    /// what it ends, ends.
    pub(super) fn wishes(&self, answer: Answer) -> Wishes {
        let mut state = self.0.state.lock();
        if !state.was_accessed {
            return Wishes::default();
        }
        let wish = state.wish.clone();
        let mut commands = Vec::new();
        if wish.logout {
            commands.push(Command::Logout);
        }
        let ending = Wishes { is_logout: wish.logout, was_accessed: true, ..Wishes::default() };
        if answer == Answer::Failed {
            // Whoever was to be logged in is not, and nothing is ended in his name.
            return Wishes { commands, revoke: Revoke::of_owners(&wish.revoke), ..ending };
        }
        match wish.login {
            Some(subject) => commands.push(Command::Login { subject: Some((*subject).into()) }),
            None => commands.extend(wish.new_id),
        }
        if state.was_saved {
            // What is left may be nothing, and then the session ends.
            state.edits(&*self.0.keeper);
        }
        let is_due = |edits: &&Edits| edits.is_modified() || wish.begins_anew || state.was_saved;
        Wishes {
            commands,
            revoke: wish.revoke,
            edits: state.edits.as_ref().filter(is_due).cloned(),
            begins_anew: wish.begins_anew,
            lasting: state.lasting,
            was_expiry_saved: state.was_expiry_saved,
            ..ending
        }
    }

    /// Whether anybody has it beside the guard, which holds two of them while it settles an answer: one that it was given and
    /// one that it looks at.
    pub(super) fn is_kept(&self) -> bool {
        Arc::strong_count(&self.0) > 2
    }

    /// Puts the record as it was saved meanwhile into `known`.
    pub(super) fn follow(&self, known: &mut Known) {
        let state = self.0.state.lock();
        if let Some(own) = state.known.as_ref().filter(|own| !Arc::ptr_eq(&own.record, &known.record)) {
            known.record = Arc::clone(&own.record);
        }
    }

    /// The session as it was saved meanwhile.
    pub(super) fn known(&self) -> Option<Known> {
        self.0.state.lock().known.clone()
    }

    /// Nobody else writes as long as this is held.
    pub(super) async fn writing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.writing.lock().await
    }

    /// The record is this now, and what was `written` is in it. What was changed meanwhile is still to be written.
    pub(super) fn rebase(&self, record: Arc<Record>, written: &Written<'_>) {
        let mut state = self.0.state.lock();
        let Some(known) = state.known.as_mut().filter(|known| known.digest == record.digest) else { return };
        known.record = record;
        let known = known.clone();
        if written.lasting.is_some() {
            state.was_expiry_saved = true;
            state.lasting = state.lasting.filter(|lasting| Some(*lasting) != written.lasting);
        }
        if let Some(now) = state.edits.take() {
            let open = || self.0.keeper.open_data(&known.id, &known.record, state.asked);
            let stored = written.data.clone().unwrap_or_else(open);
            let left = match written.edits {
                Some(edits) => now.after(edits, stored),
                None => now.after(&Edits::new(Arc::default()), stored),
            };
            state.edits = Some(left).filter(Edits::is_modified);
        }
    }

    /// The record is this now.
    pub(super) fn found(&self, record: Arc<Record>) {
        let mut state = self.0.state.lock();
        if let Some(known) = state.known.as_mut().filter(|known| known.digest == record.digest) {
            known.record = record;
        }
    }

    /// From here on it is this session, or none.
    pub(super) fn settled(&self, known: Option<Known>) {
        let mut state = self.0.state.lock();
        state.standing = if known.is_some() { Standing::Session } else { Standing::Nobody };
        state.known = known;
    }

    /// The answer was settled, or there will be none: what was not written with it is not written.
    pub(super) fn answered(&self) {
        let mut state = self.0.state.lock();
        if !state.is_answered {
            state.is_answered = true;
            state.forget();
        }
    }

    /// It was logged out after its answer.
    fn logged_out(&self) {
        self.settled(None);
        self.0.state.lock().forget();
    }
}

impl State {
    fn forget(&mut self) {
        if self.known.is_none() {
            self.standing = Standing::Nobody;
        }
        self.edits = None;
        self.lasting = None;
        self.wish = Wish::default();
    }

    const fn accessed(&mut self) -> &mut Self {
        self.was_accessed = true;
        self
    }

    fn edits(&mut self, keeper: &dyn Keeper) -> &mut Edits {
        self.was_accessed = true;
        let (known, asked) = (&self.known, self.asked);
        self.edits.get_or_insert_with(|| {
            let data = known.as_ref().map(|known| keeper.open_data(&known.id, &known.record, asked));
            Edits::new(data.unwrap_or_default())
        })
    }

    fn subject(&self) -> Option<Arc<str>> {
        match &self.wish {
            Wish { login: Some(subject), .. } => Some(subject.clone()),
            Wish { logout: true, .. } => None,
            _ => self.known.as_ref().and_then(|known| known.record.subject.clone()),
        }
    }

    /// Whether somebody else is logged in, or somebody of whom nobody knows who he is.
    fn is_somebody_elses(&self, subject: &str) -> bool {
        // To the letter: for an app that tells `Ann` and `ann` apart they are two people.
        !self.wish.logout && self.is_authenticated() && self.subject().as_deref() != Some(subject)
    }

    /// Whether somebody is logged in, with a login or logout of this request already counted.
    fn is_authenticated(&self) -> bool {
        let is_known = || self.known.as_ref().is_some_and(|known| known.record.is_authenticated());
        self.wish.login.is_some() || !self.wish.logout && is_known()
    }

    fn log_out(&mut self) {
        self.begin_anew();
        self.wish.login = None;
        self.wish.new_id = None;
        self.wish.logout = self.known.is_some();
    }

    fn revoke_others(&mut self) {
        let owner = self.known.as_ref().and_then(|known| known.record.subject.clone());
        let (subject, name) = match &self.wish.login {
            Some(login) if owner.as_ref() != Some(login) => (Some(login.clone()), Name::Login),
            _ => (owner, Name::Owner),
        };
        if let Some(revoke) = subject.map(|subject| Revoke { subject, name })
            && !self.wish.revoke.contains(&revoke)
        {
            self.wish.revoke.push(revoke);
        }
    }

    fn begin_anew(&mut self) {
        self.edits = Some(Edits::new(Arc::default()));
        self.lasting = Some((Lasting::Default, None));
        self.wish.begins_anew = true;
    }

    fn lasting(&self) -> (Lasting, Option<Timestamp>) {
        let stored = self.known.as_ref().map(|known| (known.record.lasting, known.record.ends_at));
        self.lasting.or(stored).unwrap_or_default()
    }
}

impl Nobody {
    /// Whether the app could not know that nothing is kept, and must be told.
    pub(super) const fn is_surprise(self) -> bool {
        matches!(self, Self::Replaced)
    }
}

impl fmt::Debug for AppSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AppSession").field(&self.standing()).finish()
    }
}
