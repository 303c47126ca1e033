//! Patterns of `matches`: those of the `regex` crate, with a limit to their size. What is wrong in one is marked where it is.

use std::sync::Arc;

use regex::RegexBuilder;

use super::Checker;
use crate::rules::expression::Expression;
use crate::rules::lex::{Problem, Span, place_in_text};
use crate::rules::scheme::{Case, Field};
use crate::rules::value::{Pattern, Test};

/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

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
        let built = RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .case_insensitive(ignores_case)
            .build();
        let Ok(pattern) = built else {
            let literal = origin.text.get(span.clone()).unwrap_or_default();
            let problem = match wrong_part(text, ignores_case) {
                Some((part, why)) => {
                    let part = place_in_text(literal, &part);
                    let part = span.start.saturating_add(part.start)..span.start.saturating_add(part.end);
                    Problem::new(part, "this pattern can not be read").label(why)
                }
                None => {
                    Problem::new(span.clone(), "this pattern is too large").label("compiled, it has more than 256 KiB")
                }
            };
            self.tell(origin, with_help(problem, text));
            return None;
        };
        let words = field.words();
        if !words.is_empty() && !words.iter().any(|word| pattern.is_match(word)) {
            let name = field.name(&self.scope.host);
            let problem = Problem::new(span.clone(), format!("no word of `{name}` matches this")).label("never so");
            self.tell(origin, problem.help(format!("it is one of: {}", words.join(", "))));
            return None;
        }
        Some(Test::Matches(Pattern(pattern)))
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
