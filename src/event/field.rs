//! The fields of events: what a value can be, and which values a client wrote.
//!
//! What a client wrote is of its own type, [`ClientText`], so that no encoder can mistake it for ours.

use crate::clock::Timestamp;
use crate::session::record::EndReason;
use crate::verdict::Text;

use super::kinds::Kind;
use super::scene::SessionHash;

/// The value of one field, as encoders see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A count, a size, a span.
    Number(u64),
    /// Points.
    Points(f32),
    /// A word or text that we or the operator chose.
    Word(&'a str),
    /// A time.
    Time(Timestamp),
    /// Another session.
    Session(SessionHash),
    /// Text a client wrote: comes last, escaped, and is never trusted.
    Client(&'a str),
}

/// Bytes of a client's text that an event keeps.
pub const CLIENT_TEXT_BYTES_MAX: usize = 256;

/// Text that a client wrote, cut to [`CLIENT_TEXT_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientText(Text);

impl ClientText {
    /// Takes text of a client.
    pub fn new(text: &str) -> Self {
        Self(cut(text, CLIENT_TEXT_BYTES_MAX).into())
    }

    /// Takes bytes of a client; what is not UTF-8 becomes U+FFFD.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let bytes = bytes.get(..CLIENT_TEXT_BYTES_MAX).unwrap_or(bytes);
        Self::new(&String::from_utf8_lossy(bytes))
    }

    /// The text, to be escaped by whoever writes it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The beginning of a text: at most so many bytes, never half a character.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

/// A type that a field of an event can have.
pub(super) trait Field {
    /// Its value; nothing for an absent one.
    fn value(&self) -> Option<Value<'_>>;
    /// Reads it back from what JSON made of its value; nothing if it can not be that.
    fn read(value: Option<&serde_json::Value>) -> Option<Self>
    where
        Self: Sized;
    /// One value for the golden files.
    #[cfg(test)]
    fn sample() -> Self;
}

macro_rules! fields {
    ($($type:ty: $this:ident => $value:expr, $json:ident => $read:expr, $sample:expr;)*) => {$(
        impl Field for $type {
            fn value(&self) -> Option<Value<'_>> {
                let $this = self;
                Some($value)
            }
            fn read(value: Option<&serde_json::Value>) -> Option<Self> {
                let $json = value?;
                $read
            }
            #[cfg(test)]
            fn sample() -> Self {
                $sample
            }
        }
    )*};
}

fields! {
    u32: it => Value::Number(u64::from(*it)), json => json.as_u64()?.try_into().ok(), 5;
    u64: it => Value::Number(*it), json => json.as_u64(), 70_000;
    f32: it => Value::Points(*it), json => serde_json::from_value(json.clone()).ok(), 22.5;
    Text: it => Value::Word(it.as_str()), json => Some(json.as_str()?.into()), Text::of("text");
    Timestamp: it => Value::Time(*it), json => json.as_str()?.parse().ok(), Self::from_millis(1_795_257_972_045);
    SessionHash: it => Value::Session(*it), json => Self::parse(json.as_str()?),
        Self { key: crate::secret::KeyId(1), hash: [0xab; 16] };
    Kind: it => Value::Word(it.as_str()), json => json.as_str()?.parse().ok(), Self::RateLimited;
    ClientText: it => Value::Client(it.as_str()), json => Some(Self::new(json.as_str()?)), Self::new("from \"a\" client\n");
}

impl<T: Field> Field for Option<T> {
    fn value(&self) -> Option<Value<'_>> {
        self.as_ref().and_then(Field::value)
    }
    fn read(value: Option<&serde_json::Value>) -> Option<Self> {
        match value {
            Some(value) => T::read(Some(value)).map(Some),
            None => Some(None),
        }
    }
    #[cfg(test)]
    fn sample() -> Self {
        Some(T::sample())
    }
}

/// Closed lists of words: what an event says of itself where a number or free text would be worse.
macro_rules! words {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident { $($(#[doc = $word_doc:literal])+ $word:ident = $text:literal,)+ }
    )*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[doc = $word_doc])+ $word,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$word),+];

            /// The word in events and metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Field for $name {
            fn value(&self) -> Option<Value<'_>> {
                Some(Value::Word(self.as_str()))
            }
            fn read(value: Option<&serde_json::Value>) -> Option<Self> {
                let word = value?.as_str()?;
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }
            #[cfg(test)]
            fn sample() -> Self {
                [$(Self::$word),+][0]
            }
        }
    )*};
}

words! {
    /// Why a session got a new id or a new tag.
    Rotation {
        /// Someone logged in.
        Login = "login",
        /// The same subject proved itself again.
        Reauthentication = "reauthentication",
        /// The session gained rights.
        Elevation = "elevation",
        /// The app asked for it.
        App = "app",
        /// A successor was presented: the ordinary change of tags.
        Tag = "tag",
    }
    /// Why what an app wrote into a session could not be kept.
    WriteRefusal {
        /// Another request wrote the same keys, or both together wrote too much.
        Conflict = "conflict",
        /// The session has ended meanwhile, or goes on under another id.
        Ended = "ended",
    }
    /// How a login or a logout was recognised.
    Sign {
        /// A route of the policy and its success.
        Route = "route",
        /// The app's own cookie changed or went.
        Cookie = "cookie",
        /// A control header of the app.
        Header = "header",
        /// A call of the app, in the layer.
        Call = "call",
    }
    /// Who revoked a session.
    Revoker {
        /// An operator.
        Admin = "admin",
        /// The app.
        App = "app",
        /// The subject, from another session.
        Subject = "subject",
        /// The limit of sessions of one subject.
        Limit = "limit",
        /// An identity provider.
        Provider = "provider",
        /// A new login that replaced it.
        Login = "login",
    }
    /// How a session had ended that was used again.
    Ending {
        /// Not used for too long.
        Idle = "idle",
        /// Too long since authentication.
        Absolute = "absolute",
        /// By the end that the app set.
        Expired = "expired",
        /// By logout.
        Logout = "logout",
        /// It went on under another id.
        Replaced = "replaced",
        /// By decision.
        Revoked = "revoked",
        /// By the limit of sessions of one subject.
        Evicted = "evicted",
        /// By verdict.
        Terminated = "terminated",
    }
    /// What the presenter of a stale tag has in common with the holder of the session.
    Context {
        /// Device and network.
        Same = "same",
        /// The device, and another prefix of the same network.
        Prefix = "prefix",
        /// The device, in another network.
        Network = "network",
        /// Nothing: another device.
        Device = "device",
    }
    /// Why a session was quarantined or terminated.
    Cause {
        /// A rule said so.
        Rule = "rule",
        /// The risk passed the threshold.
        Risk = "risk",
        /// Two live jars.
        Fork = "fork",
        /// The route wants a fresher authentication.
        Freshness = "freshness",
    }
    /// How a quarantine ended.
    Release {
        /// The subject logged in again.
        Login = "login",
        /// Its time was over.
        Time = "time",
    }
    /// What was done at a limit of sessions.
    AtLimit {
        /// The new session was refused.
        Refuse = "refuse",
        /// The oldest one was ended.
        EvictOldest = "evict_oldest",
        /// Nothing.
        Report = "report",
    }
    /// What a limit counts by.
    LimitKey {
        /// The client's address.
        Client = "client",
        /// The prefix of the client's address.
        Prefix = "prefix",
        /// The session.
        Session = "session",
        /// The subject.
        Subject = "subject",
        /// The route.
        Route = "route",
    }
    /// Something the guard depends on.
    Dependency {
        /// The session store.
        Store = "store",
        /// The databases of places and networks.
        Geo = "geo",
        /// A sink of events.
        Sink = "sink",
        /// The source of randomness.
        Entropy = "entropy",
        /// The certificate files.
        Certificate = "certificate",
        /// The app.
        Upstream = "upstream",
    }
}

impl From<EndReason> for Ending {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Idle => Self::Idle,
            EndReason::Absolute => Self::Absolute,
            EndReason::Expired => Self::Expired,
            EndReason::Logout => Self::Logout,
            EndReason::Replaced => Self::Replaced,
            EndReason::Revoked => Self::Revoked,
            EndReason::Evicted => Self::Evicted,
            EndReason::Terminated => Self::Terminated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_client_is_cut_between_characters() {
        let long = "ä".repeat(CLIENT_TEXT_BYTES_MAX);
        assert_eq!(ClientText::new(&long).as_str().len(), CLIENT_TEXT_BYTES_MAX);
        let odd = format!("x{long}");
        assert_eq!(ClientText::new(&odd).as_str().len(), CLIENT_TEXT_BYTES_MAX - 1);
        assert!(ClientText::from_bytes(&[0xff; 4000]).as_str().len() <= CLIENT_TEXT_BYTES_MAX);
        assert_eq!(ClientText::from_bytes(b"a\xffb").as_str(), "a\u{fffd}b");
    }
}
