//! The session of a request, as an app in Rust has it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use crate::clock::Timestamp;
use crate::engine::app::AppSession;
pub use crate::engine::app::{Current, Device, EndedDevice, Expiry, LogInError, SaveError, Saved, Standing};
use crate::engine::control::Command;
use crate::session::data::{KEY_BYTES_MAX, Lost, Step};
use crate::session::id::Ref;
use crate::store::StoreError;

/// How often [`Session::transact`] tries.
pub const TRANSACT_TRIES_MAX: usize = 16;

/// Flash messages that wait to be shown; of more the oldest go.
pub const MESSAGES_MAX: usize = 32;

const MESSAGES: &str = "_messages";
const TEST_COOKIE: &str = "_test_cookie";

/// The session of one request: a request extension of every request that comes through the layer, and an axum extractor
/// with the feature `axum`. Clones are the same session.
///
/// It is in memory, so nothing here waits but what is `async`: the guard has loaded the session before the app is called.
/// What was changed is written once, when the app has answered. An answer of 5xx writes nothing; one that is dropped does
/// not either. A session begins with the first value that a visitor is given, and one in which nothing is left ends.
///
/// Two requests of one session at once may both write. If they wrote different keys, both are kept. If they wrote the same
/// key, the later one is answered with 409 instead, and nothing of it is kept; unless both wrote the same without having
/// looked at what was there, or it told *how* the value changes ([`update`](Self::update),
/// [`set_default`](Self::set_default)), which is then done again over the other's. An app that wants to know before it
/// answers calls [`save`](Self::save) or [`transact`](Self::transact).
///
/// ```
/// # use portcullis::layer::Session;
/// # fn handler(request: http::Request<()>) -> Result<(), Box<dyn std::error::Error>> {
/// let session = Session::of(request.extensions()).ok_or("not behind the layer")?;
/// session.update("visits", |visits: &mut u32| *visits += 1)?;
/// let cart: Vec<String> = session.get("cart")?.unwrap_or_default();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Session(AppSession);

/// A value could not be read as the type that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the value under `{key}` in the session is of another type: {source}")]
pub struct ReadError {
    /// The key.
    pub key: String,
    /// Why.
    #[source]
    pub source: serde_json::Error,
}

/// A value could not be written. The session is as it was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It has no JSON form: a map whose keys are no strings, for instance.
    #[error("the value for `{key}` can not be written as JSON: {source}")]
    Encode {
        /// The key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// What is there is of another type than what it is changed as.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The session would be larger than it may.
    #[error(
        "with `{key}` the session would take {bytes} bytes, and {max} are the most that it may: keep large things elsewhere and their keys here, or raise `data_bytes_max`"
    )]
    TooLarge {
        /// The key.
        key: String,
        /// How many bytes it would take.
        bytes: usize,
        /// How many it may.
        max: usize,
    },
    /// The key is too long, or empty.
    #[error("a key must be 1 to {KEY_BYTES_MAX} bytes")]
    Key,
}

/// A transaction was not done.
#[derive(Debug, thiserror::Error)]
pub enum TransactError<E> {
    /// The work itself failed.
    #[error(transparent)]
    Work(E),
    /// It could not be kept, in every try.
    #[error(transparent)]
    Save(#[from] SaveError),
}

/// The subject authenticated too long ago, or never, for what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a login within the last {} seconds is needed", .within.as_secs())]
pub struct NotFresh {
    /// How recent the login has to be.
    pub within: Duration,
}

/// How a flash message is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For developers.
    Debug,
    /// For information.
    Info,
    /// Something was done.
    Success,
    /// Something may be wrong.
    Warning,
    /// Something was not done.
    Error,
}

/// A message that is shown once, on this page or the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// How it is meant.
    pub level: Level,
    /// What it says. It is the app's text: escape it where it is shown.
    pub text: Cow<'static, str>,
}

impl Session {
    pub(super) const fn new(handle: AppSession) -> Self {
        Self(handle)
    }

    /// The session of a request that came through the layer.
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    // ---- values ------------------------------------------------------------------------------------------------------

    /// The value under a key.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ReadError> {
        // Read outside of the lock: what a type does to be read is its own business.
        let text: Option<Box<str>> = self.0.look(|data| data.read(key).map(Into::into));
        text.map(|text| read(key, &text)).transpose()
    }

    /// Puts a value under a key, in place of what was there.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn insert<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), WriteError> {
        let text = write(key, value)?;
        self.0.change(|data, max| {
            fits(data, max, key, &text)?;
            data.put(key, Some(text));
            Ok(())
        })
    }

    /// Takes a value away.
    pub fn remove(&self, key: &str) {
        self.0.change(|data, _| {
            if data.get(key).is_some() {
                data.put(key, None);
            }
        });
    }

    /// Takes a value out. Of two requests that do so at once one has it: the later one is answered with 409.
    ///
    /// # Errors
    /// When it is of another type; it is there still then.
    pub fn pop<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ReadError> {
        let value = self.get(key)?;
        self.remove(key);
        Ok(value)
    }

    /// Puts a value under a key if there is none, and gives what is there then. If another request is first, its value
    /// stays; that this was so is seen after [`save`](Self::save).
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn set_default<T: Serialize + DeserializeOwned>(&self, key: &str, value: &T) -> Result<T, WriteError> {
        let text = write(key, value)?;
        let step = move |old: Option<&str>| Ok(Some(old.map_or_else(|| text.clone(), Into::into)));
        let step: Step = Arc::new(step);
        let there = self.step(key, &step)?;
        Ok(read(key, &there.unwrap_or_default())?)
    }

    /// Changes a value in place, beginning with the default if there is none. If another request has written it meanwhile,
    /// `change` is done again over what that one wrote, so neither is lost: it should do nothing but change the value.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn update<T, F>(&self, key: &str, change: F) -> Result<(), WriteError>
    where
        T: Serialize + DeserializeOwned + Default,
        F: Fn(&mut T) + Send + Sync + 'static,
    {
        self.alter(key, move |value: Option<T>| {
            let mut value = value.unwrap_or_default();
            change(&mut value);
            Some(value)
        })
    }

    /// Changes a value from what it is, or nothing, to another, or nothing: as [`update`](Self::update), for what has no
    /// default and for what may go.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn alter<T, F>(&self, key: &str, change: F) -> Result<(), WriteError>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Option<T>) -> Option<T> + Send + Sync + 'static,
    {
        let step: Step = Arc::new(move |text| {
            let old = text.map(serde_json::from_str).transpose()?;
            change(old).map(|new| serde_json::to_string(&new).map(Into::into)).transpose()
        });
        self.step(key, &step).map(drop)
    }

    /// The place of a value, to be changed or filled.
    pub fn entry<'s, T>(&'s self, key: &'s str) -> Entry<'s, T> {
        Entry { session: self, key, of: PhantomData }
    }

    /// Whether there is a value under a key.
    pub fn contains(&self, key: &str) -> bool {
        self.0.look(|data| data.read(key).is_some())
    }

    /// All keys, in their order.
    pub fn keys(&self) -> Vec<String> {
        self.0.look(|data| data.read_all().keys().into_iter().map(String::from).collect())
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.0.look(|data| data.read_all().is_empty())
    }

    /// Takes all values away. The session goes on: see [`flush`](Self::flush).
    pub fn clear(&self) {
        self.0.change(|data, _| data.clear());
    }

    /// Whether a value was changed by this request. Changes within a value count, and a change back does not.
    pub fn is_modified(&self) -> bool {
        self.0.is_modified()
    }

    /// Whether anybody has looked at the session: the answer then says `Vary: Cookie`.
    pub fn is_accessed(&self) -> bool {
        self.0.is_accessed()
    }

    /// Takes a step, and gives what is there then.
    fn step(&self, key: &str, step: &Step) -> Result<Option<Box<str>>, WriteError> {
        loop {
            // Taken outside of the lock, for a step may look at the session too.
            let old: Option<Box<str>> = self.0.look(|data| data.get(key).map(Into::into));
            let new = step(old.as_deref()).map_err(|source| match source.classify() {
                Category::Data | Category::Syntax | Category::Eof if old.is_some() => {
                    WriteError::Read(ReadError { key: key.to_owned(), source })
                }
                _ => WriteError::Encode { key: key.to_owned(), source },
            })?;
            let done = self.0.change(|data, max| {
                if data.get(key) != old.as_deref() {
                    return Ok::<_, WriteError>(Taken::Again);
                }
                if let Some(new) = &new {
                    fits(data, max, key, new)?;
                }
                data.step(key, step.clone(), new.clone());
                Ok(Taken::Done)
            })?;
            if done == Taken::Done {
                return Ok(new);
            }
        }
    }

    // ---- when it is written ------------------------------------------------------------------------------------------

    /// Writes what was changed now, for an app that must know before it answers. What begins with the answer (a session, a
    /// new id after [`log_in`](Self::log_in)) is written with it.
    ///
    /// # Errors
    /// [`SaveError`]: another request wrote the same keys, the session has ended meanwhile, the store failed. What was
    /// changed is there still, and would be tried again with the answer: see [`discard`](Self::discard).
    pub async fn save(&self) -> Result<Saved, SaveError> {
        self.0.save().await
    }

    /// Does some work on the session and writes it. If another request wrote the same keys meanwhile, the work is done again
    /// over what that one wrote, at most [`TRANSACT_TRIES_MAX`] times. What was changed before is written first.
    ///
    /// # Errors
    /// [`TransactError`]: the work failed, or it could not be kept. What it did to the session is forgotten then.
    pub async fn transact<T, E>(
        &self,
        work: impl Fn(&Self) -> Result<T, E> + Send + Sync,
    ) -> Result<T, TransactError<E>>
    where
        T: Send,
        E: Send,
    {
        self.save().await?;
        let mut tries = 0;
        loop {
            tries += 1;
            let before = self.0.snapshot();
            let error = match work(self) {
                Ok(done) => match self.save().await {
                    Ok(_) => return Ok(done),
                    Err(error) => TransactError::Save(error),
                },
                Err(error) => TransactError::Work(error),
            };
            self.0.restore(before);
            let is_lost = matches!(error, TransactError::Save(SaveError::Lost(Lost::Conflict(_))));
            if !is_lost || tries >= TRANSACT_TRIES_MAX {
                return Err(error);
            }
        }
    }

    /// Reads the session again, as it is by now, and forgets what was changed: for a handle that outlives its answer, as that
    /// of a WebSocket does.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reload(&self) -> Result<Standing, StoreError> {
        self.0.reload().await
    }

    /// Forgets what was changed since it was read or saved.
    pub fn discard(&self) {
        self.0.discard();
    }

    // ---- how long it lasts -------------------------------------------------------------------------------------------

    /// How long the session shall last. The deadlines of the guard hold in any case: an expiry makes a session shorter, and longer
    /// as far as [`Deadlines::longest`](crate::session::expiry::Deadlines::longest) lets it.
    pub fn set_expiry(&self, expiry: Expiry) {
        self.0.set_expiry(expiry);
    }

    /// How long the session shall last, as it was set.
    pub fn expiry(&self) -> Expiry {
        self.0.expiry()
    }

    /// How long until the session ends if it is not used again.
    pub fn expiry_age(&self) -> Duration {
        self.0.expiry_date().since(self.0.now())
    }

    /// When the session ends if it is not used again.
    pub fn expiry_date(&self) -> Timestamp {
        self.0.expiry_date()
    }

    /// Whether the browser forgets the session when it closes.
    pub fn expires_at_browser_close(&self) -> bool {
        self.0.expires_at_browser_close()
    }

    // ---- whose it is -------------------------------------------------------------------------------------------------

    /// In whose name the app is called.
    pub fn standing(&self) -> Standing {
        self.0.seen_standing()
    }

    /// Whom the session is authenticated for.
    pub fn subject(&self) -> Option<Arc<str>> {
        self.0.subject()
    }

    /// Its public name, for logs and pages: not its id, which nobody but the browser has.
    pub fn reference(&self) -> Option<Ref> {
        self.0.reference()
    }

    /// When its subject last proved who he is.
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.0.authenticated_at()
    }

    /// Somebody proved who he is. With the answer the session gets a new id, and keeps what a visitor put into it; what
    /// *another* subject kept in it is gone at once.
    ///
    /// # Errors
    /// When the subject is empty, too long or has control characters, or the answer is gone.
    pub fn log_in(&self, subject: &str) -> Result<(), LogInError> {
        self.0.log_in(subject)
    }

    /// He proved again who he is: a new id, and deadlines begin anew. Nothing happens where nobody is logged in.
    pub fn reauthenticated(&self) {
        self.0.ask_new_id(Command::Reauthenticated);
    }

    /// He was given more rights: a new id, with the answer.
    pub fn elevate(&self) {
        self.0.ask_new_id(Command::Elevate);
    }

    /// A new id for the same session, with the answer.
    pub fn cycle_id(&self) {
        self.0.ask_new_id(Command::Rotate);
    }

    /// Ends the session. Its values are gone at once; what is written afterwards belongs to a new session. It ends whatever
    /// the answer is; after the answer it ends with [`save`](Self::save).
    pub fn log_out(&self) {
        self.0.log_out();
    }

    /// Ends the session and all that is in it, as [`log_out`](Self::log_out) does.
    pub fn flush(&self) {
        self.0.log_out();
    }

    /// Ends all other sessions of the subject: after a change of his password, for instance. After the answer they end with
    /// [`save`](Self::save).
    pub fn log_out_others(&self) {
        self.0.revoke_others();
    }

    /// Ends all sessions of the subject, this one included.
    pub fn log_out_everywhere(&self) {
        self.0.log_out_everywhere();
    }

    /// Whether the subject proved who he is within so long.
    ///
    /// # Errors
    /// [`NotFresh`] if he did not.
    pub fn require_fresh(&self, within: Duration) -> Result<(), NotFresh> {
        let is_fresh = self.authenticated_at().is_some_and(|at| self.0.now().since(at) < within);
        if is_fresh { Ok(()) } else { Err(NotFresh { within }) }
    }

    /// Where the subject is logged in: this session first, then the one that was used last. Of a visitor his own session alone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn devices(&self) -> Result<Vec<Device>, StoreError> {
        self.0.devices().await
    }

    /// Ends one of the subject's sessions; nobody else's can be ended by this, whatever name is given. The one that asks ends
    /// with the answer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_device(&self, which: Ref) -> Result<EndedDevice, StoreError> {
        self.0.end_device(which).await
    }

    // ---- messages, and whether cookies work --------------------------------------------------------------------------

    /// Leaves a message for this page or the next. Of more than [`MESSAGES_MAX`] the oldest go.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn push_message(&self, level: Level, text: impl Into<Cow<'static, str>>) -> Result<(), WriteError> {
        let message = Message { level, text: text.into() };
        self.update(MESSAGES, move |all: &mut Vec<Message>| {
            all.push(message.clone());
            let excess = all.len().saturating_sub(MESSAGES_MAX);
            all.drain(..excess);
        })
    }

    /// The messages that wait, to be shown now. What another request leaves meanwhile waits for the next page.
    ///
    /// # Errors
    /// When something else stands in their place.
    pub fn take_messages(&self) -> Result<Vec<Message>, WriteError> {
        let shown: Vec<Message> = self.get(MESSAGES)?.unwrap_or_default();
        if shown.is_empty() {
            return Ok(shown);
        }
        let taken = shown.clone();
        self.alter(MESSAGES, move |all: Option<Vec<Message>>| {
            let mut left = all.unwrap_or_default();
            for message in &taken {
                if let Some(place) = left.iter().position(|other| other == message) {
                    left.remove(place);
                }
            }
            Some(left).filter(|left| !left.is_empty())
        })?;
        Ok(shown)
    }

    /// Leaves a mark by which the next request tells whether the browser keeps cookies.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn set_test_cookie(&self) -> Result<(), WriteError> {
        self.insert(TEST_COOKIE, &true)
    }

    /// Whether the mark came back.
    pub fn test_cookie_worked(&self) -> bool {
        self.contains(TEST_COOKIE)
    }

    /// Takes the mark away.
    pub fn delete_test_cookie(&self) {
        self.remove(TEST_COOKIE);
    }
}

/// Whether a step was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Done,
    /// Somebody changed the value meanwhile.
    Again,
}

/// The place of a value: see [`Session::entry`].
#[derive(Debug)]
pub struct Entry<'s, T> {
    session: &'s Session,
    key: &'s str,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Entry<'_, T> {
    /// Changes the value if there is one, as [`Session::update`] does.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn and_modify(self, change: impl Fn(&mut T) + Send + Sync + 'static) -> Result<Self, WriteError>
    where
        T: 'static,
    {
        if self.session.contains(self.key) {
            self.session.alter(self.key, move |value: Option<T>| {
                value.map(|mut value| {
                    change(&mut value);
                    value
                })
            })?;
        }
        Ok(self)
    }

    /// The value, or this one, which is put there.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn or_insert(self, value: &T) -> Result<T, WriteError> {
        self.session.set_default(self.key, value)
    }

    /// The value, or the default, which is put there.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn or_default(self) -> Result<T, WriteError>
    where
        T: Default,
    {
        self.or_insert(&T::default())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.standing()).finish()
    }
}

fn read<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, ReadError> {
    serde_json::from_str(text).map_err(|source| ReadError { key: key.to_owned(), source })
}

fn write<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Box<str>, WriteError> {
    let text = serde_json::to_string(value);
    text.map(Into::into).map_err(|source| WriteError::Encode { key: key.to_owned(), source })
}

fn fits(data: &crate::session::data::Edits, max: usize, key: &str, text: &str) -> Result<(), WriteError> {
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Err(WriteError::Key);
    }
    let bytes = data.bytes_with(key, text);
    // One that is too large already may be made smaller.
    let grows = data.get(key).is_none_or(|old| text.len() > old.len());
    if bytes > max && grows { Err(WriteError::TooLarge { key: key.to_owned(), bytes, max }) } else { Ok(()) }
}
