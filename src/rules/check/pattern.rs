//! Patterns of `matches`: those of the `regex` crate, with a limit to their size. What is wrong in one is marked where it is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::Checker;
use crate::rules::expression::Expression;
use crate::rules::lex::{Problem, Span, place_in_text};
use crate::rules::scheme::{Case, Field};
use crate::rules::value::{Pattern, Test};

/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Sizes that a pattern is counted with: the least that it fits into.
const SIZES: [usize; 4] = [8 * 1024, 32 * 1024, 128 * 1024, PATTERN_BYTES_MAX];

/// Bytes that all patterns of a guard may take together.
const PATTERNS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The patterns of one load, each once however many conditions ask it.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    known: RefCell<Known>,
    bytes: Cell<usize>,
    is_full_told: Cell<bool>,
}

/// By text, and whether the case of letters is overlooked; none for one that can not be made.
type Known = BTreeMap<(Box<str>, bool), Option<Pattern>>;

/// Why there is no pattern.
enum Refused {
    /// It can not be read, or is too large.
    Wrong,
    /// Those before it take all that there is.
    Full,
}

impl Patterns {
    fn get(&self, text: &str, ignores_case: bool) -> Result<Pattern, Refused> {
        let key = (text.into(), ignores_case);
        if let Some(known) = self.known.borrow().get(&key) {
            return known.clone().ok_or(Refused::Wrong);
        }
        if self.bytes.get() >= PATTERNS_BYTES_MAX {
            return Err(Refused::Full);
        }
        let made = SIZES.into_iter().find_map(|size| Some((compiled(text, ignores_case, size)?, size)));
        // One that is too large has taken as long as the largest.
        let size = made.as_ref().map_or(PATTERN_BYTES_MAX, |(_, size)| *size);
        self.bytes.set(self.bytes.get().saturating_add(size));
        let pattern = made.map(|(made, _)| Pattern(Arc::new(made)));
        self.known.borrow_mut().insert(key, pattern.clone());
        pattern.ok_or(Refused::Wrong)
    }
}

fn compiled(text: &str, ignores_case: bool, bytes_max: usize) -> Option<Regex> {
    let mut builder = RegexBuilder::new(text);
    let builder = builder.size_limit(bytes_max).dfa_size_limit(PATTERN_BYTES_MAX);
    builder.case_insensitive(ignores_case).build().ok()
}

impl Checker<'_> {
    /// `span` is that of the text literal, with its quotes.
    pub(super) fn pattern(&mut self, origin: &Arc<Expression>, field: Field, text: &str, span: &Span) -> Option<Test> {
        if text.is_empty() {
            let problem =
                Problem::new(span.clone(), "every text matches the empty pattern".to_owned()).label("always so");
            self.tell(origin, problem);
            return None;
        }
        let ignores_case = field.case() != Case::Exact;
        let pattern = match self.patterns.get(text, ignores_case) {
            Ok(pattern) => pattern,
            Err(why) => {
                self.refused(origin, text, span, (ignores_case, why));
                return None;
            }
        };
        let words = field.words();
        if !words.is_empty() && !words.iter().any(|word| pattern.0.is_match(word)) {
            let name = field.name(&self.scope.host);
            let problem = Problem::new(span.clone(), format!("no word of `{name}` matches this")).label("never so");
            self.tell(origin, problem.help(format!("it is one of: {}", words.join(", "))));
            return None;
        }
        Some(Test::Matches(pattern))
    }

    fn refused(&mut self, origin: &Arc<Expression>, text: &str, span: &Span, (ignores_case, why): (bool, Refused)) {
        match why {
            Refused::Full if self.patterns.is_full_told.replace(true) => {}
            Refused::Full => {
                let problem = Problem::new(span.clone(), "the patterns of all rules take more than 16 MiB");
                let help = "`{500}`, `\\w` and `\\d` make patterns large; `in [...]`, `starts_with` and `contains` take next to nothing";
                self.tell(origin, problem.label("no more from here on").help(help));
            }
            Refused::Wrong => {
                let literal = origin.text.get(span.clone()).unwrap_or_default();
                let problem = match wrong_part(text, ignores_case) {
                    Some((part, why)) => {
                        let part = place_in_text(literal, &part);
                        let part = span.start.saturating_add(part.start)..span.start.saturating_add(part.end);
                        Problem::new(part, "this pattern can not be read").label(why)
                    }
                    None => Problem::new(span.clone(), "this pattern is too large")
                        .label("compiled, it has more than 256 KiB"),
                };
                self.tell(origin, with_help(problem, text));
            }
        }
    }
}

/// The part of a pattern that can not be read, and why; none if all of it can.
fn wrong_part(text: &str, ignores_case: bool) -> Option<(Span, String)> {
    use regex_syntax::Error;
    let found = regex_syntax::ParserBuilder::new().case_insensitive(ignores_case).build().parse(text).err()?;
    let (span, why) = match &found {
        Error::Parse(error) => (error.span(), error.kind().to_string()),
        Error::Translate(error) => (error.span(), error.kind().to_string()),
        _ => return Some((0..text.len(), "not a pattern".to_owned())),
    };
    Some((span.start.offset..span.end.offset, why))
}

fn with_help(problem: Problem, text: &str) -> Problem {
    let looks = ["(?=", "(?!", "(?<=", "(?<!", "\\1", "\\2"].iter().any(|sign| text.contains(sign));
    match (looks, text.starts_with('*')) {
        (true, _) => problem.help("patterns are those of the `regex` crate: no look-around, no back-references"),
        (_, true) => problem.help(format!(
            "`*` repeats what stands before it; the end of a text: `ends_with \"{}\"`",
            text.trim_start_matches('*')
        )),
        _ => problem,
    }
}
