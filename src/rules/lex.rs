//! From the text of a condition to its tokens.

use std::ops::Range;
use std::time::Duration;

use crate::limit::parse_duration;

/// Bytes of the longest condition that is read.
pub(crate) const CONDITION_BYTES_MAX: usize = 16 * 1024;

/// Where something stands in a condition, in bytes.
pub(crate) type Span = Range<usize>;

/// Something wrong in a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) span: Span,
    pub(crate) message: String,
    /// A word or two under the marks.
    pub(crate) label: String,
    pub(crate) help: Option<String>,
    /// What to write instead of what stands at the span.
    pub(crate) fix: Option<String>,
}

impl Problem {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), label: String::new(), help: None, fix: None }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
    StartsWith,
    EndsWith,
    Contains,
    Matches,
}

impl Compare {
    const ALL: [Self; 12] = [
        Self::Eq,
        Self::Ne,
        Self::Lt,
        Self::Le,
        Self::Gt,
        Self::Ge,
        Self::In,
        Self::NotIn,
        Self::StartsWith,
        Self::EndsWith,
        Self::Contains,
        Self::Matches,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::In => "in",
            Self::NotIn => "not_in",
            Self::StartsWith => "starts_with",
            Self::EndsWith => "ends_with",
            Self::Contains => "contains",
            Self::Matches => "matches",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.as_str() == word)
    }

    /// Which operator a method of other languages (`a.startsWith("x")`) stands for.
    pub(crate) fn of_method(name: &str) -> Option<Self> {
        match name {
            "startsWith" | "startswith" | "starts_with" | "hasPrefix" => Some(Self::StartsWith),
            "endsWith" | "endswith" | "ends_with" | "hasSuffix" => Some(Self::EndsWith),
            "contains" | "includes" => Some(Self::Contains),
            "matches" | "match" => Some(Self::Matches),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Name(String),
    Set(String),
    Int(i64),
    Span(Duration),
    Text(String),
    Bool(bool),
    Compare(Compare),
    And,
    Or,
    Not,
    Known,
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
}

/// The tokens of a condition with their places.
pub(crate) fn lex(text: &str) -> Result<Vec<(Token, Span)>, Problem> {
    if text.len() > CONDITION_BYTES_MAX {
        let message = format!("a condition has at most {} KiB", CONDITION_BYTES_MAX / 1024);
        return Err(Problem::new(0..1, message));
    }
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new() };
    while let Some(letter) = lexer.peek() {
        if letter.is_whitespace() {
            lexer.at += letter.len_utf8();
        } else {
            lexer.token(letter)?;
        }
    }
    Ok(lexer.tokens)
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    tokens: Vec<(Token, Span)>,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn push(&mut self, token: Token, len: usize) {
        let span = self.at..self.at + len;
        self.at = span.end;
        self.tokens.push((token, span));
    }

    /// The length of what stands here and consists of such letters.
    fn run(&self, of: impl Fn(char) -> bool) -> usize {
        self.rest().find(|letter| !of(letter)).unwrap_or(self.rest().len())
    }

    fn token(&mut self, letter: char) -> Result<(), Problem> {
        if let Some(problem) = self.odd_sign() {
            return Err(problem);
        }
        if let Some((token, len)) = sign(self.rest().as_bytes()) {
            self.push(token, len);
            return Ok(());
        }
        match letter {
            '"' | '\'' => self.text(letter),
            '@' => self.set(),
            '0'..='9' => self.number(),
            _ if letter.is_ascii_alphabetic() || letter == '_' => {
                self.word();
                Ok(())
            }
            _ => Err(self.stray(letter)),
        }
    }

    /// Signs of other languages, read as a whole.
    fn odd_sign(&self) -> Option<Problem> {
        if self.peek().is_some_and(|letter| letter.is_ascii_alphanumeric()) {
            return None;
        }
        let len = self.run(|letter| "=<>!&|~\u{2264}\u{2265}\u{2260}\u{2227}\u{2228}".contains(letter));
        let run = self.rest().get(..len)?;
        // `!` may stand before another `!` or a parenthesis, and nothing else joins two signs.
        let fix = match run {
            "===" => "==",
            "!==" | "<>" | "\u{2260}" | "~=" => "!=",
            "=>" | "\u{2265}" => ">=",
            "=<" | "\u{2264}" => "<=",
            "=~" => "matches",
            "&&&" | "\u{2227}" => "&&",
            "|||" | "\u{2228}" => "||",
            _ => return None,
        };
        Some(Problem::new(self.at..self.at + len, format!("`{run}` is no operator")).label("not an operator").fix(fix))
    }

    fn word(&mut self) {
        let len = self.run(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.');
        let word = self.rest().get(..len).unwrap_or_default().trim_end_matches('.');
        let token = match word {
            "and" => Token::And,
            "or" => Token::Or,
            "not" => Token::Not,
            "true" => Token::Bool(true),
            "false" => Token::Bool(false),
            "known" => Token::Known,
            word => Compare::of_word(word).map_or_else(|| Token::Name(word.to_owned()), Token::Compare),
        };
        self.push(token, word.len().max(1));
    }

    fn set(&mut self) -> Result<(), Problem> {
        self.at += 1;
        let len = self.run(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-');
        let name = self.rest().get(..len).unwrap_or_default().to_owned();
        self.at -= 1;
        if name.is_empty() {
            let problem =
                Problem::new(self.at..self.at + 1, "the name of a set is missing").label("a name belongs here");
            return Err(problem.help("a set of [set] is read as `@name`"));
        }
        self.push(Token::Set(name), len + 1);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Problem> {
        let len = self.run(|letter| letter.is_ascii_alphanumeric() || letter == '.' || letter == ':');
        let word = self.rest().get(..len).unwrap_or_default();
        let span = self.at..self.at + len;
        if let Ok(number) = word.parse::<i64>() {
            self.push(Token::Int(number), len);
            return Ok(());
        }
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Problem::new(span, "this number is too large").label("beyond 64 bits"));
        }
        if word.contains(['.', ':']) {
            let problem = Problem::new(span, format!("`{word}` is neither an int nor a duration"));
            return Err(problem
                .label("not a value")
                .help("an address or a network stands in quotes")
                .fix(format!("\"{word}\"")));
        }
        match parse_duration(word) {
            Ok(duration) => {
                self.push(Token::Span(duration), len);
                Ok(())
            }
            Err(why) => Err(Problem::new(span, format!("`{word}` is neither an int nor a duration"))
                .label("not a value")
                .help(why.to_string().replace('"', "`"))),
        }
    }

    fn text(&mut self, quote: char) -> Result<(), Problem> {
        let start = self.at;
        let mut text = String::new();
        let mut letters = self.rest().char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                _ if letter == quote => {
                    self.push(Token::Text(text), at + quote.len_utf8());
                    return Ok(());
                }
                '\\' => match letters.next() {
                    Some((_, letter)) => match escaped(letter) {
                        Some(plain) => text.push(plain),
                        None => text.extend(['\\', letter]),
                    },
                    None => break,
                },
                _ => text.push(letter),
            }
        }
        let problem = Problem::new(start..start + 1, "this string does not end").label("it begins here");
        Err(problem.help(format!("close it with {quote}")))
    }

    fn stray(&self, letter: char) -> Problem {
        let span = self.at..self.at + letter.len_utf8();
        let problem = |what: &str| Problem::new(span.clone(), what.to_owned());
        match letter {
            '=' => problem("a single `=` sets nothing here").label("compare with `==`").fix("=="),
            '&' => problem("a single `&` is no operator").label("write `&&`").fix("&&"),
            '|' => problem("a single `|` is no operator").label("write `||`").fix("||"),
            '-' if self.rest().get(1..).is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit())) => {
                problem("numbers are never negative here").label("below zero")
            }
            '+' | '-' | '*' | '/' | '%' => problem("there is no arithmetic in conditions")
                .label("not an operator")
                .help("compare fields with fixed values; windows of time are `count = { over, within, per }`"),
            '?' | ':' => problem("there is no `? :` in conditions").label("not an operator").help("write two rules"),
            '{' | '}' | ';' => problem(&format!("`{letter}` has no meaning in a condition")).label("not expected"),
            '~' => problem("there is no `~`").label("not an operator").help("a pattern is compared with `matches`"),
            '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}' | '`' => {
                problem("a string stands in straight quotes").label("not a quote").help("write \"...\" at both ends")
            }
            '#' => problem("there are no comments in conditions")
                .label("not expected")
                .help("write it into the line above"),
            _ if letter.is_alphabetic() => {
                let start = self
                    .text
                    .get(..self.at)
                    .and_then(|before| before.rfind(|l: char| !l.is_alphanumeric()))
                    .map_or(0, |at| at + 1);
                let end = self.at + self.run(|letter| letter.is_alphanumeric() || letter == '_');
                let code = u32::from(letter);
                Problem::new(start..end, format!("`{letter}` (U+{code:04X}) is in no name"))
                    .label("not a name")
                    .help("a text stands in quotes; names are plain ASCII")
            }
            _ => problem(&format!("`{letter}` has no meaning in a condition")).label("not expected"),
        }
    }
}

/// The sign that a text begins with, and its length.
const fn sign(text: &[u8]) -> Option<(Token, usize)> {
    Some(match text {
        [b'&', b'&', ..] => (Token::And, 2),
        [b'|', b'|', ..] => (Token::Or, 2),
        [b'=', b'=', ..] => (Token::Compare(Compare::Eq), 2),
        [b'!', b'=', ..] => (Token::Compare(Compare::Ne), 2),
        [b'<', b'=', ..] => (Token::Compare(Compare::Le), 2),
        [b'>', b'=', ..] => (Token::Compare(Compare::Ge), 2),
        [b'<', ..] => (Token::Compare(Compare::Lt), 1),
        [b'>', ..] => (Token::Compare(Compare::Gt), 1),
        [b'!', ..] => (Token::Not, 1),
        [b'(', ..] => (Token::Open, 1),
        [b')', ..] => (Token::Close, 1),
        [b'[', ..] => (Token::OpenList, 1),
        [b']', ..] => (Token::CloseList, 1),
        [b',', ..] => (Token::Comma, 1),
        _ => return None,
    })
}

/// What a letter behind a backslash stands for. The pattern of `matches` has its own escapes, so what is not known here is
/// kept as it is, backslash and all.
const fn escaped(letter: char) -> Option<char> {
    match letter {
        'n' => Some('\n'),
        't' => Some('\t'),
        '\\' | '"' | '\'' => Some(letter),
        _ => None,
    }
}

/// The bytes of a text literal, quotes included, in which some bytes of what it says are written.
pub(crate) fn place_in_text(literal: &str, said: &Span) -> Span {
    // Where each byte that is said comes from; that of the closing quote is the end of all.
    let mut from = Vec::new();
    let mut letters = literal.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        let behind = if letter == '\\' { letters.next().map(|(_, behind)| behind) } else { None };
        let second = behind.filter(|behind| escaped(*behind).is_none()).map_or(0, char::len_utf8);
        let first = if behind.is_some() { 1 } else { letter.len_utf8() };
        from.extend(std::iter::repeat_n(at, first));
        from.extend(std::iter::repeat_n(at + 1, second));
    }
    let place = |at: usize| from.get(at).copied().unwrap_or(literal.len());
    let start = place(said.start);
    // What is missing is marked by what stands in its place.
    let end = if said.is_empty() { place(said.start.saturating_add(1)) } else { place(said.end) };
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_text_is_found_behind_its_escapes() {
        for (literal, said, expected) in [
            (r#""a(b""#, 1..2, "("),
            (r#""\d(b""#, 2..3, "("),
            (r#""\\d(b""#, 2..3, "("),
            (r#""\\d(b""#, 0..2, r"\\d"),
            (r#""\"\n(""#, 2..3, "("),
            ("'\u{e9}('", 2..3, "("),
            ("'\\\u{e9}('", 3..4, "("),
            (r#""ab""#, 2..2, "\""),
            (r#""ab""#, 7..9, ""),
        ] {
            assert_eq!(literal.get(place_in_text(literal, &said)), Some(expected), "{literal}");
        }
    }
}
