//! The text of a file, and places in it.
//!
//! A text may be one line of a megabyte with a thousand things to say about it: a place keeps no more of its line than is
//! shown, and is found without walking along the line. A password in a URL is shown by nobody: what is told of a file goes to
//! logs.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::diagnostic::{SHOWN_LINE_MAX, Spot};

/// Characters of a line that is cut, before what is marked in it and behind.
const AROUND: usize = 40;

/// Bytes from one count of characters to the next.
const STEP: usize = 4096;

/// The text of a file, kept for as long as something may have to be said about a place in it.
#[derive(Debug)]
pub(crate) struct Source {
    file: Arc<str>,
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
    /// Characters that begin before each step.
    characters: Vec<usize>,
    /// Where passwords stand, once that was asked.
    passwords: OnceLock<Vec<Range<usize>>>,
}

impl Source {
    pub(crate) fn new(file: &str, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        let lines = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1)).collect();
        let mut before = 0_usize;
        let each = |step: &[u8]| {
            let known = before;
            before = before.saturating_add(begun(step));
            known
        };
        let characters = text.as_bytes().chunks(STEP).map(each).collect();
        Arc::new(Self { file: file.into(), text, lines, characters, passwords: OnceLock::new() })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Some bytes as they may be shown: a star for each character of a password.
    fn shown(&self, bytes: Range<usize>) -> Arc<str> {
        let text = self.text.get(bytes.clone()).unwrap_or_default();
        let all = self.passwords.get_or_init(|| passwords(&self.text));
        let from = all.partition_point(|span| span.end <= bytes.start);
        let secret = all.get(from..).unwrap_or_default();
        if secret.first().is_none_or(|span| span.start >= bytes.end) {
            return text.into();
        }
        let mut secret = secret.iter().peekable();
        let mut is_secret = |at: usize| {
            while secret.next_if(|span| span.end <= at).is_some() {}
            secret.peek().is_some_and(|span| span.contains(&at))
        };
        let letters = text.char_indices();
        letters.map(|(at, letter)| if is_secret(bytes.start + at) { '*' } else { letter }).collect::<String>().into()
    }

    /// The line of a byte, from 1.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    /// The place of some bytes.
    pub(crate) fn spot(&self, span: Range<usize>) -> Spot {
        let line = self.line_of(span.start);
        let whole = self.bytes_of(line);
        // The line end is no column: what begins in it, an unclosed string say, is told behind the last character.
        let at = self.text.floor_char_boundary(span.start.min(whole.end).max(whole.start));
        let column = self.count(whole.start..at);
        // Bytes of the longest text that is shown, at the least.
        let end = self.text.floor_char_boundary(span.end.min(span.start.saturating_add(4 * SHOWN_LINE_MAX)));
        let marked = self.text.get(span.start..end).and_then(|text| text.lines().next()).unwrap_or_default();
        let marked = marked.char_indices().nth(SHOWN_LINE_MAX).map_or(marked, |(cut, _)| marked.split_at(cut).0);
        let (shown, before) = if self.count(whole.clone()) <= SHOWN_LINE_MAX {
            (whole.clone(), column)
        } else {
            self.around(&whole, at..at.saturating_add(marked.len()).min(whole.end))
        };
        Spot {
            file: self.file.clone(),
            line,
            column: column + 1,
            text: self.shown(span.start..span.start.saturating_add(marked.len())),
            source_line: self.shown(shown),
            source_column: (column + 1).saturating_sub(before),
        }
    }

    /// The part of a line that shows what is marked in it, and how many of its characters stand before that.
    fn around(&self, whole: &Range<usize>, marked: Range<usize>) -> (Range<usize>, usize) {
        let before = self.text.get(whole.start..marked.start).unwrap_or_default();
        let behind = self.text.get(marked.end..whole.end).unwrap_or_default();
        let (characters, start) = before
            .char_indices()
            .rev()
            .zip(1..=AROUND)
            .last()
            .map_or((0, marked.start), |((at, _), count)| (count, whole.start.saturating_add(at)));
        let end = behind.char_indices().nth(AROUND).map_or(whole.end, |(at, _)| marked.end.saturating_add(at));
        (start..end, characters)
    }

    /// The bytes of a line, without its end.
    fn bytes_of(&self, line: usize) -> Range<usize> {
        let start = line.checked_sub(1).and_then(|at| self.lines.get(at)).copied().unwrap_or(0);
        let Some(next) = self.lines.get(line.max(1)) else { return start..self.text.len() };
        let end = next.saturating_sub(1).max(start);
        let is_return = self.text.get(start..end).is_some_and(|line| line.ends_with('\r'));
        start..end.saturating_sub(usize::from(is_return))
    }

    /// The characters that begin in some bytes.
    fn count(&self, bytes: Range<usize>) -> usize {
        let before = |at: usize| {
            let (step, all) = (at / STEP, self.text.as_bytes());
            let known = self.characters.get(step).copied();
            let rest = all.get(step.saturating_mul(STEP)..at).map_or(0, begun);
            // Behind the last step there is nothing.
            known.unwrap_or_else(|| begun(all)).saturating_add(rest)
        };
        before(bytes.end).saturating_sub(before(bytes.start))
    }
}

/// The characters that begin in some bytes.
fn begun(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0b1100_0000 != 0b1000_0000).count()
}

/// Where passwords stand in URLs, in order and apart: between the name of a user and the last `@`, and as the values of
/// `password=` behind a question mark.
fn passwords(text: &str) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::new();
    // Of URLs that end alike the first has what the others have, and a text of nothing but beginnings is walked along once.
    let mut looked_at = [0; Quote::ALL.len()];
    for at in memchr::memmem::find_iter(text.as_bytes(), b"://") {
        let (begin, quote) = (at + 3, Quote::before(text, at));
        let Some(looked_at) = looked_at.get_mut(quote as usize).filter(|end| **end <= at) else { continue };
        let url = text.get(begin..begin + url_length(text, at, quote)).unwrap_or_default();
        *looked_at = begin + url.len();
        if let Some(end) = url.rfind('@')
            && let Some(user) = url.find(':').filter(|user| *user < end)
        {
            all.push(begin + user + 1..begin + end);
        }
        let mut known = 0;
        for at in memchr::memmem::find_iter(url.as_bytes(), b"password=") {
            let value = at + "password=".len();
            if value >= known {
                let rest = url.get(value..).unwrap_or_default();
                known = value + rest.find(['&', '#']).unwrap_or(rest.len());
                all.push(begin + value..begin + known);
            }
        }
    }
    all.sort_unstable_by_key(|span| span.start);
    let mut secret: Vec<Range<usize>> = Vec::new();
    for span in all.into_iter().filter(|span| !span.is_empty()) {
        match secret.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => secret.push(span),
        }
    }
    secret
}

/// What a URL began with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

impl Quote {
    const ALL: [Self; 3] = [Self::None, Self::Single, Self::Double];

    /// That of the URL whose `://` is there.
    fn before(text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or_default();
        let scheme = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
        match before.trim_end_matches(scheme).chars().next_back() {
            Some('"') => Self::Double,
            Some('\'') => Self::Single,
            _ => Self::None,
        }
    }
}

/// How far a URL goes whose `://` is there: to the quote that it began with, or else to the first space.
fn url_length(text: &str, at: usize, quote: Quote) -> usize {
    let rest = text.get(at + 3..).unwrap_or_default();
    let mut is_escaped = false;
    let end = rest.find(|letter: char| {
        let ends = match quote {
            Quote::None => letter.is_whitespace(),
            Quote::Single => letter == '\'',
            Quote::Double => letter == '"' && !is_escaped,
        };
        is_escaped = letter == '\\' && !is_escaped;
        ends || letter == '\n'
    });
    end.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_line_that_is_kept_which_is_shown() {
        let text = format!("short = 1\r\n{}", "x = { \u{e9} = 1 },".repeat(10_000));
        let source = Source::new("r.toml", text.as_str());
        let start = text.match_indices('{').nth(5000).unwrap().0;
        let spot = source.spot(start..start + 10);
        let line = text.lines().nth(1).unwrap();
        let column = line.chars().position(|letter| letter == '{').unwrap() + 5000 * 14 + 1;
        assert_eq!((spot.line, spot.column, &*spot.text), (2, column, "{ \u{e9} = 1 }"));
        assert_eq!(spot.source_line.chars().count(), AROUND + 9 + AROUND);
        let shown: String = line.chars().skip(spot.source_column - 1).take(89).collect();
        assert_eq!(*spot.source_line, *shown);
        // All of it: no more than is shown of a replacement.
        let all = source.spot(11..text.len());
        assert_eq!((all.text.chars().count(), all.source_column), (SHOWN_LINE_MAX, 1));
        assert_eq!(all.source_line.chars().count(), SHOWN_LINE_MAX + AROUND);
        // A line that is no longer than what is shown stands there as it is.
        let first = source.spot(8..9);
        assert_eq!((&*first.source_line, first.column, first.source_column), ("short = 1", 9, 1));
    }

    #[test]
    fn columns_of_a_long_text_are_those_that_a_walk_finds() {
        let text = format!("{}\n{}", "\u{20ac}a".repeat(5000), "\u{e9}".repeat(9000));
        let source = Source::new("r.toml", text.as_str());
        for (at, _) in text.char_indices().step_by(97) {
            let before = text.split_at(at).0;
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            let spot = source.spot(at..at);
            assert_eq!((spot.line, spot.column), (before.matches('\n').count() + 1, column), "{at}");
        }
    }

    #[test]
    fn no_password_is_shown() {
        let check = |text: &str, shown: &str| {
            let source = Source::new("p.toml", text);
            for (nth, line) in text.lines().enumerate() {
                let start = source.lines[nth];
                let spot = source.spot(start..start + line.len());
                assert_eq!(Some(&*spot.source_line), shown.lines().nth(nth));
                assert_eq!(Some(&*spot.text), shown.lines().nth(nth));
            }
        };
        let url = |url: &str| format!("[store]\nurl = \"{url}\" # a@b\nnext = 1");
        check(&url("postgres://ann:secret@h/db"), &url("postgres://ann:******@h/db"));
        check(&url("redis://:se@cr:et/@h"), &url("redis://:*********@h"));
        check(&url("mysql://ann:se\\\"cret@h"), &url("mysql://ann:********@h"));
        check(
            &url("redis+sentinel://a:b@h/s?sentinel_password=x&y=1"),
            &url("redis+sentinel://a:*@h/s?sentinel_password=*&y=1"),
        );
        check(&url("postgres://h/db?password=x y"), &url("postgres://h/db?password=***"));
        check("'redis://:a\"b@h' x@y", "'redis://:***@h' x@y");
        check("see redis://:a@h and c@d", "see redis://:*@h and c@d");
        check("\"redis://:never ended@h\nx", "\"redis://:***********@h\nx");
        check("http://x\"redis://u:a?password=p b@h\"", "http://x\"redis://u:****************\"");
        // What may be a password is hidden, rather than that one is shown.
        check(&url("http://127.0.0.1:8000/@x"), &url("http://127.0.0.1:*****@x"));
        // Nothing to hide, and so nothing hidden.
        for text in [url("http://127.0.0.1:8000"), url("postgres://ann@h/db"), "a://".to_owned(), String::new()] {
            check(&text, &text);
        }
        let text = url("redis://:s\u{e9}cret@h");
        check(&text, &url("redis://:******@h"));
        let source = Source::new("p.toml", text.as_str());
        let at = text.find("s\u{e9}cret").unwrap();
        let spot = source.spot(at..at + 3);
        assert_eq!((&*spot.text, spot.column), ("**", 17), "a part of it, a star for a character");
        // Behind a password a column is where it is.
        let at = text.find("# a@b").unwrap();
        let spot = source.spot(at..at + 1);
        assert_eq!(spot.source_line.chars().nth(spot.column - spot.source_column), Some('#'));
        // In a line that is cut the URL is known by what is not shown of it.
        let long = format!("{} \"redis://:{}@h\" {}", "x".repeat(500), "p".repeat(300), "y".repeat(500));
        let source = Source::new("p.toml", long.as_str());
        for at in [long.find("pp").unwrap() + 100, long.find("redis").unwrap(), long.find("@h").unwrap()] {
            let spot = source.spot(at..at + 60);
            assert!(!spot.text.contains('p') && !spot.source_line.contains('p'), "{spot:?}");
        }
        // However long it is, and wherever the mark stands.
        for (name, length) in [("u", 1100), ("u", 3000), ("", 5000)] {
            let long = format!("url = \"redis://{name}:{}@h/db\" # end", "p".repeat(length));
            let source = Source::new("p.toml", long.as_str());
            let marks = [0, 3, 7, 20, 40, 500, 1000, 1100, 2000, long.len() - 20, long.len() - 8];
            for at in marks.into_iter().filter(|at| *at < long.len()) {
                for end in [at + 1, at + 60, long.len()] {
                    let spot = source.spot(at..end.min(long.len()));
                    let is_hidden = !spot.source_line.contains('p') && !spot.text.contains('p');
                    assert!(is_hidden, "{length} {at} {end}: {spot:?}");
                }
            }
            let end = source.spot(long.len() - 3..long.len());
            assert!(end.source_line.ends_with("@h/db\" # end"), "{end:?}");
        }
    }

    #[test]
    fn a_hostile_text_costs_no_more_than_what_is_shown_of_it() {
        let hostile =
            ["://password=", "password=", "://", "\\\"a://", "\"a://x:y@", "'://"].map(|part| part.repeat(100_000));
        for text in hostile {
            let source = Source::new("p.toml", text.as_str());
            for at in (0..text.len()).step_by(text.len() / 50) {
                let at = text.floor_char_boundary(at);
                assert!(source.spot(at..text.len()).source_line.len() <= 4 * (SHOWN_LINE_MAX + 2 * AROUND));
            }
        }
    }
}
