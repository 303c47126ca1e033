//! How an event is written: JSON lines for programs and a form for people.
//!
//! Whatever the format, one event is one line, what a client wrote comes last and escaped, and addresses and subjects
//! are shown no plainer than the operator's [`Privacy`] allows.

mod escape;
#[cfg(test)]
mod golden;
mod human;
mod json;
mod privacy;

use std::fmt;
use std::sync::Arc;

pub use json::SCENE_KEYS;
pub use privacy::{IpPrivacy, Privacy, SubjectPrivacy, UnknownPrivacy};

use super::Record;
use crate::secret::Keyring;
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

    /// Appends the record as one line, its newline included.
    pub fn encode(&self, record: &Record, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => json::write(&self.veil, record, out),
            Format::Human(colour) => human::write(&self.veil, colour, record, out),
        }
        out.push(b'\n');
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("format", &self.format).finish_non_exhaustive()
    }
}

/// Appends what `Display` prints. Writing to memory cannot fail, so there is nothing to report.
fn put(out: &mut Vec<u8>, text: impl fmt::Display) {
    use std::io::Write as _;
    let written = write!(out, "{text}");
    debug_assert!(written.is_ok());
}

/// Appends points: one decimal, none for a whole number, and 0 for what is no number.
fn put_points(out: &mut Vec<u8>, points: f32) {
    // Adding zero turns -0 into 0.
    let points = if points.is_finite() { points + 0.0 } else { 0.0 };
    put(out, format_args!("{points:.1}"));
    if out.ends_with(b".0") {
        out.truncate(out.len() - 2);
    }
    if out.ends_with(b"-0") {
        out.truncate(out.len() - 2);
        out.push(b'0');
    }
}

/// The country as text, if it is one.
fn country(code: Option<&[u8; 2]>) -> Option<&str> {
    code.filter(|code| code.iter().all(u8::is_ascii_uppercase)).and_then(|code| std::str::from_utf8(code).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_at_most_one_decimal_and_are_always_numbers() {
        let check = |points: f32, expected: &str| {
            let mut out = Vec::new();
            put_points(&mut out, points);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(0.0, "0");
        check(-0.0, "0");
        check(-0.01, "0");
        check(10.0, "10");
        check(100.0, "100");
        check(22.5, "22.5");
        check(-3.26, "-3.3");
        check(f32::NAN, "0");
        check(f32::INFINITY, "0");
        check(f32::MAX, "340282346638528859811704183484516925440");
    }
}
