//! How an event is written: JSON lines for programs and a form for people.
//!
//! Whatever the format, one event is one line, what a client wrote comes last and escaped, and addresses and subjects
//! are shown no plainer than the operator's [`Privacy`] allows.

mod cef;
mod ecs;
mod escape;
#[cfg(test)]
mod golden;
mod human;
mod json;
mod object;
mod ocsf;
mod plain;
mod privacy;
mod syslog;

use std::fmt;
use std::sync::Arc;

pub use json::SCENE_KEYS;
pub use privacy::{IpPrivacy, Privacy, SubjectPrivacy, UnknownPrivacy};
pub use syslog::FACILITY_DEFAULT;

use self::object::Letters;
use super::{Kind, Record};
use crate::secret::Keyring;
use crate::verdict::{Action, Text};
pub(crate) use privacy::Veil;

/// Whether a line for people has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// No: a file, a pipe.
    #[default]
    Never,
    /// Yes: a terminal that shows them.
    Always,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object, keys in a fixed order.
    #[default]
    Json,
    /// For people.
    Human(Colour),
    /// Elastic Common Schema 9.4, as JSON.
    Ecs,
    /// Open Cybersecurity Schema Framework 1.8, as JSON.
    Ocsf,
    /// Common Event Format (`CEF:0`).
    Cef,
    /// Syslog (RFC 5424).
    Syslog {
        /// Where messages belong (section 6.2.1).
        facility: u8,
        /// What they say.
        message: Message,
    },
}

/// What a syslog message says behind its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Message {
    /// The JSON object, spelled in ASCII.
    #[default]
    Json,
    /// Elastic Common Schema 9.4.
    Ecs,
    /// Open Cybersecurity Schema Framework 1.8.
    Ocsf,
    /// Common Event Format.
    Cef,
}

/// Writes records as lines.
#[derive(Clone, Default)]
pub struct Encoder {
    format: Format,
    veil: Veil,
}

impl Encoder {
    /// An encoder that shows addresses and subjects as they are.
    pub fn new(format: Format) -> Self {
        Self { format, veil: Veil::default() }
    }

    /// The same with addresses and subjects shown only as `privacy` allows; pseudonyms are made with `keys`.
    #[must_use]
    pub fn with_privacy(mut self, privacy: Privacy, keys: Arc<Keyring>) -> Self {
        self.veil = Veil::new(privacy, keys);
        self
    }

    /// The same for records that were [read back](Record::read) from where `before` was in force: what is hidden there is not
    /// hidden once more.
    #[must_use]
    pub fn behind(mut self, before: Privacy) -> Self {
        self.veil = self.veil.behind(before);
        self
    }

    /// Appends the record as one line, its newline included.
    pub fn encode(&self, record: &Record, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => json::write(&self.veil, record, Letters::All, out),
            Format::Ecs => ecs::write(&self.veil, record, out),
            Format::Ocsf => ocsf::write(&self.veil, record, out),
            Format::Cef => cef::write(&self.veil, record, out),
            Format::Syslog { facility, message } => {
                syslog::head(facility, record, out);
                match message {
                    Message::Json => json::write(&self.veil, record, Letters::Ascii, out),
                    Message::Ecs => ecs::write(&self.veil, record, out),
                    Message::Ocsf => ocsf::write(&self.veil, record, out),
                    Message::Cef => cef::write(&self.veil, record, out),
                }
            }
            Format::Human(colour) => human::write(&self.veil, colour, record, out),
        }
        out.push(b'\n');
    }
}

/// What else is shown of a record, as plainly as the operator allows.
impl Encoder {
    /// The address of the client.
    #[cfg(feature = "proxy")]
    pub(crate) fn address(&self, record: &Record) -> Option<String> {
        self.veil.shown_ip(&record.scene.client)
    }

    /// The subject.
    #[cfg(feature = "proxy")]
    pub(crate) fn subject(&self, record: &Record) -> Option<String> {
        let subject = record.scene.subject.as_ref()?;
        Some(self.veil.subject(subject).unwrap_or_else(|| subject.to_string()))
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("format", &self.format).finish_non_exhaustive()
    }
}

/// The version of the program, where a format asks for it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Record {
    /// Names the event to a receiver that may be told of it twice: the same each time, and no other event's on this instance.
    pub fn id(&self) -> String {
        let node = self.node.as_ref().map_or("", Text::as_str);
        let (mut millis, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
        [node, "-", millis.format(self.ts.as_millis()), "-", seq.format(self.seq)].concat()
    }
}

/// What came of what an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Failure,
    /// Something was noticed, and it is not known what came of it.
    Unknown,
}

impl Outcome {
    const fn ecs(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Unknown => "unknown",
        }
    }
}

/// What came of what an event tells: a refusal is a failure of whoever asked. What would only have been refused was served.
fn outcome(record: &Record) -> Outcome {
    let (meta, scene) = (record.event.kind().meta(), &record.scene);
    let is_served = scene.would > Some(Action::Allow);
    let is_of_refusal = meta.ecs.kind.iter().any(|kind| matches!(*kind, "denied" | "error"));
    let is_refused = scene.action >= Action::Challenge || is_of_refusal;
    match record.event.kind() {
        Kind::LoginFailed | Kind::LoginFailedMax | Kind::PolicyReloadFailed | Kind::SessionWriteRefused => {
            Outcome::Failure
        }
        Kind::AdminAction if scene.status.is_some_and(|status| status >= 400) => Outcome::Failure,
        _ if is_served => Outcome::Unknown,
        _ if is_refused => Outcome::Failure,
        _ if meta.ocsf.class == 2004 => Outcome::Unknown,
        _ => Outcome::Success,
    }
}

/// Appends what `Display` prints. Writing to memory cannot fail, so there is nothing to report.
fn put(out: &mut Vec<u8>, text: impl fmt::Display) {
    use std::io::Write as _;
    let written = write!(out, "{text}");
    debug_assert!(written.is_ok());
}

/// The country as text, if it is one.
fn country(code: Option<&[u8; 2]>) -> Option<&str> {
    code.filter(|code| code.iter().all(u8::is_ascii_uppercase)).and_then(|code| std::str::from_utf8(code).ok())
}
