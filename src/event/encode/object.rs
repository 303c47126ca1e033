//! Objects of JSON, written member by member.

use super::escape::{self, Spelling};
use super::{put, put_points};
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

    pub(super) fn key(&mut self, key: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        escape::quoted(self.out, key, self.spelling);
        self.out.push(b':');
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        escape::quoted(self.out, text, self.spelling);
    }

    pub(super) fn maybe_text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    pub(super) fn number(&mut self, key: &str, number: u64) {
        self.key(key);
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    pub(super) fn maybe_number(&mut self, key: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.number(key, number);
        }
    }

    /// What prints as letters, digits, dots and dashes and so needs no escaping.
    pub(super) fn word(&mut self, key: &str, word: impl std::fmt::Display) {
        self.key(key);
        self.out.push(b'"');
        put(self.out, word);
        self.out.push(b'"');
    }

    pub(super) fn words(&mut self, key: &str, words: &[&str]) {
        for (at, word) in words.iter().enumerate() {
            if at == 0 {
                self.key(key);
            }
            self.out.push(if at == 0 { b'"' } else { b' ' });
            self.out.extend_from_slice(word.as_bytes());
        }
        if !words.is_empty() {
            self.out.push(b'"');
        }
    }

    pub(super) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        self.nested(fill);
    }

    /// An array of texts; nothing where there are none.
    pub(super) fn texts<'t>(&mut self, key: &str, texts: impl IntoIterator<Item = &'t str>) {
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
            Value::Points(points) => {
                self.key(key);
                put_points(self.out, points);
            }
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
