//! Objects of JSON, written member by member.

use super::escape::{self, Spelling};
use super::plain::{Plain, put_points};
use crate::event::{Event, Value};

/// Which letters stand in texts as they are.
#[derive(Clone, Copy)]
pub(super) enum Letters {
    /// All that show as what they are.
    All,
    /// Those of ASCII.
    Ascii,
}

/// An object that is being written.
pub(super) struct Object<'a> {
    pub(super) out: &'a mut Vec<u8>,
    empty: bool,
    spelling: Spelling,
}

impl<'a> Object<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>, letters: Letters) -> Self {
        out.push(b'{');
        let spelling = match letters {
            Letters::All => Spelling::Json,
            Letters::Ascii => Spelling::AsciiJson,
        };
        Self { out, empty: true, spelling }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// A key of ours: a word that needs no escaping. Where its length is known its octets are two or three moves, which a compiler that
    /// counts the callers leaves away.
    #[inline(always)]
    pub(super) fn key(&mut self, key: &'static str) {
        debug_assert!(escape::is_plain(key), "{key}");
        // The room for all that is written around it is made once.
        self.out.reserve(key.len() + 4);
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A key that somebody else chose.
    pub(super) fn any_key(&mut self, key: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        escape::quoted(self.out, key, self.spelling);
        self.out.push(b':');
    }

    pub(super) fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        escape::quoted(self.out, text, self.spelling);
    }

    /// The same under a key that somebody else chose.
    pub(super) fn any_text(&mut self, key: &str, text: &str) {
        self.any_key(key);
        escape::quoted(self.out, text, self.spelling);
    }

    pub(super) fn maybe_text(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    pub(super) fn number(&mut self, key: &'static str, number: u64) {
        self.key(key);
        number.put(self.out);
    }

    pub(super) fn maybe_number(&mut self, key: &'static str, number: Option<u64>) {
        if let Some(number) = number {
            self.number(key, number);
        }
    }

    pub(super) fn word(&mut self, key: &'static str, word: impl Plain) {
        self.key(key);
        self.out.push(b'"');
        word.put(self.out);
        self.out.push(b'"');
    }

    pub(super) fn points(&mut self, key: &'static str, points: f32) {
        self.key(key);
        put_points(self.out, points);
    }

    /// The same under a key that somebody else chose.
    pub(super) fn any_points(&mut self, key: &str, points: f32) {
        self.any_key(key);
        put_points(self.out, points);
    }

    /// Words in a row, with a blank between two; nothing where there are none.
    pub(super) fn words<'t>(&mut self, key: &'static str, words: impl IntoIterator<Item = &'t str>) {
        let mut is_first = true;
        for word in words {
            if is_first {
                self.key(key);
            }
            self.out.push(if is_first { b'"' } else { b' ' });
            is_first = false;
            escape::bare(self.out, word, self.spelling);
        }
        if !is_first {
            self.out.push(b'"');
        }
    }

    pub(super) fn object(&mut self, key: &'static str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        self.nested(fill);
    }

    /// An array of texts; nothing where there are none.
    pub(super) fn texts<'t>(&mut self, key: &'static str, texts: impl IntoIterator<Item = &'t str>) {
        let mut is_first = true;
        for text in texts {
            if is_first {
                self.key(key);
            }
            self.out.push(if is_first { b'[' } else { b',' });
            is_first = false;
            escape::quoted(self.out, text, self.spelling);
        }
        if !is_first {
            self.out.push(b']');
        }
    }

    /// The fields of an event itself.
    pub(super) fn fields(&mut self, event: &Event) {
        event.fields(&mut |key, value| match value {
            Value::Number(number) => self.number(key, number),
            Value::Points(points) => self.points(key, points),
            Value::Word(word) | Value::Client(word) => self.text(key, word),
            Value::Time(time) => self.word(key, time),
            Value::Session(session) => self.word(key, session),
        });
    }

    fn nested(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        self.out.push(b'{');
        fill(&mut Object { out: self.out, empty: true, spelling: self.spelling });
        self.out.push(b'}');
    }
}
