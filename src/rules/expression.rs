//! A condition where it stands: inside a string of a TOML file, whose quotes, escapes and lines lie between what is read and
//! what the user sees.

use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Fault, Level, Spot};
use super::lex::{Problem, Span};
use super::page::Source;

/// A condition and its place.
#[derive(Debug)]
pub(crate) struct Expression {
    pub(crate) source: Arc<Source>,
    /// The condition, with escapes resolved.
    pub(crate) text: String,
    /// The string in the file, with its quotes.
    pub(crate) span: Range<usize>,
    /// Whose condition it is, for messages.
    pub(crate) owner: String,
    map: Map,
}

/// From bytes of the condition to bytes of the file.
#[derive(Debug)]
enum Map {
    /// The string stands there as it is.
    Shift(usize),
    /// Where each byte comes from, and the end.
    Table(Vec<usize>),
    /// Nobody can tell.
    Whole,
}

impl Expression {
    pub(crate) fn new(source: &Arc<Source>, text: &str, span: Range<usize>, owner: impl Into<String>) -> Arc<Self> {
        let map = map(source.text().get(span.clone()).unwrap_or_default(), span.start, text);
        Arc::new(Self { source: source.clone(), text: text.to_owned(), span, owner: owner.into(), map })
    }

    /// The bytes of the file that some bytes of the condition stand in.
    pub(crate) fn raw(&self, span: &Span) -> Range<usize> {
        match &self.map {
            Map::Shift(by) => span.start + by..span.end + by,
            Map::Table(table) => {
                let at = |offset: usize| table.get(offset).or(table.last()).copied().unwrap_or(self.span.start);
                at(span.start)..at(span.end).max(at(span.start))
            }
            Map::Whole => self.span.clone(),
        }
    }

    /// The place of some bytes of the condition.
    pub(crate) fn spot(&self, span: &Span) -> Spot {
        self.source.spot(self.raw(span))
    }

    /// How a text is to be written into the string of the file.
    pub(crate) fn as_written(&self, text: &str) -> String {
        let raw = self.source.text().get(self.span.clone()).unwrap_or_default();
        if raw.starts_with('"') { text.replace('\\', "\\\\").replace('"', "\\\"") } else { text.to_owned() }
    }

    /// Whether some bytes of the condition stand in the file as they are read.
    pub(crate) fn is_exact(&self, span: &Span) -> bool {
        self.source.text().get(self.raw(span)) == self.text.get(span.clone())
    }

    pub(crate) fn fault(&self, level: Level, problem: Problem) -> Fault {
        let Problem { span, message, label, help, fix } = problem;
        // A string in single quotes has no escapes: what holds such a quote can not be put into it.
        let is_literal = self.source.text().get(self.span.clone()).is_some_and(|raw| raw.starts_with('\''));
        let is_known = !matches!(self.map, Map::Whole);
        let fix = fix.filter(|fix| is_known && (!is_literal || !fix.contains('\'')));
        let fix = fix.map(|fix| self.as_written(&fix));
        Fault {
            label,
            fix,
            ..Fault::new(level, self.owner.clone(), message).at(Some(self.spot(&span))).with_help(help)
        }
    }
}

/// Follows TOML through a string: `raw` as it stands in the file at `start`, `text` what it says.
fn map(raw: &str, start: usize, text: &str) -> Map {
    let (quote, escapes) = match raw.as_bytes() {
        [b'\'', b'\'', b'\'', ..] if raw.len() >= 6 => (3, false),
        [b'"', b'"', b'"', ..] if raw.len() >= 6 => (3, true),
        [b'\'', ..] => (1, false),
        [b'"', ..] => (1, true),
        _ => return Map::Whole,
    };
    let Some(inner) = raw.len().checked_sub(quote).and_then(|end| raw.get(quote..end)) else { return Map::Whole };
    // The first line end of a string over several lines belongs to the quotes.
    let first =
        if quote == 3 { inner.len() - inner.trim_start_matches('\r').trim_start_matches('\n').len() } else { 0 };
    let first = if first > 0 && inner.starts_with("\r\n") { 2 } else { first.min(1) };
    let begin = start + quote + first;
    let inner = inner.get(first..).unwrap_or_default();
    if inner == text {
        return Map::Shift(begin);
    }
    let (table, decoded) = if escapes { follow(inner, begin) } else { follow_lines(inner, begin) };
    if decoded == text { Map::Table(table) } else { Map::Whole }
}

/// A literal string: only line ends may be told in another way.
fn follow_lines(inner: &str, begin: usize) -> (Vec<usize>, String) {
    let (mut table, mut decoded) = (Vec::new(), String::new());
    for (at, letter) in inner.char_indices().filter(|(at, letter)| !is_return(inner, *at, *letter)) {
        table.extend(std::iter::repeat_n(begin + at, letter.len_utf8()));
        decoded.push(letter);
    }
    table.push(begin + inner.len());
    (table, decoded)
}

fn is_return(text: &str, at: usize, letter: char) -> bool {
    letter == '\r' && text.get(at + 1..).is_some_and(|rest| rest.starts_with('\n'))
}

fn follow(inner: &str, begin: usize) -> (Vec<usize>, String) {
    let (mut table, mut decoded) = (Vec::new(), String::new());
    let mut at = 0;
    while let Some(letter) = inner.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = inner.get(at + letter.len_utf8()..).unwrap_or_default();
        let (said, len) = if letter == '\\' { escaped(rest) } else { (Some(letter), 0) };
        if let Some(said) = said.filter(|_| !is_return(inner, at, letter)) {
            table.extend(std::iter::repeat_n(begin + at, said.len_utf8()));
            decoded.push(said);
        }
        at += letter.len_utf8() + len;
    }
    table.push(begin + inner.len());
    (table, decoded)
}

/// What stands behind a backslash, and how long it is.
fn escaped(rest: &str) -> (Option<char>, usize) {
    let hex = |len: usize| {
        let code = rest.get(1..=len).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        (code.and_then(char::from_u32), len + 1)
    };
    match rest.as_bytes().first() {
        Some(b'b') => (Some('\u{8}'), 1),
        Some(b't') => (Some('\t'), 1),
        Some(b'n') => (Some('\n'), 1),
        Some(b'f') => (Some('\u{c}'), 1),
        Some(b'r') => (Some('\r'), 1),
        Some(b'e') => (Some('\u{1b}'), 1),
        Some(b'"') => (Some('"'), 1),
        Some(b'\\') => (Some('\\'), 1),
        Some(b'x') => hex(2),
        Some(b'u') => hex(4),
        Some(b'U') => hex(8),
        // A line that is continued: the line end and all blanks behind it go.
        Some(b' ' | b'\t' | b'\r' | b'\n') => {
            (None, rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len())
        }
        _ => (None, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is marked in the file for the first `x` of the condition.
    fn marked(toml: &str) -> String {
        let table = toml::de::DeTable::parse(toml).unwrap();
        let text = table.get_ref().get("a").unwrap().get_ref().as_str().unwrap();
        let source = Source::new("r.toml", toml);
        let start = toml.find('=').unwrap() + 2;
        let expression = Expression::new(&source, text, start..toml.trim_end().len(), "");
        let at = text.find('x').unwrap();
        let spot = expression.spot(&(at..at + 1));
        format!("{}:{} {}", spot.line, spot.column, spot.text)
    }

    #[test]
    fn a_place_in_a_condition_is_found_in_every_kind_of_string() {
        for (toml, expected) in [
            ("a = 'b && x'", "1:11 x"),
            ("a = \"b && x\"", "1:11 x"),
            ("a = \"\\u00e9 \\\"b\\\" && x\"", "1:22 x"),
            ("a = '''b &&\n  x'''", "2:3 x"),
            ("a = '''\nb && x'''", "2:6 x"),
            ("a = \"\"\"\nb && \\\n   x\"\"\"", "3:4 x"),
            ("a = \"\"\"\r\nb &&\r\n x\"\"\"", "3:2 x"),
            ("a = '''\r\nb &&\r\n x'''", "3:2 x"),
            ("a = '\u{e9} x'", "1:8 x"),
        ] {
            assert_eq!(marked(toml), expected, "{toml}");
        }
    }
}
