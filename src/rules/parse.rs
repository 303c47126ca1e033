//! From tokens to a tree: names and types are not looked at yet.
//!
//! `||` binds weakest, then `&&`, then `!`, then the comparisons, of which one condition has one (`a < b < c` is a fault).

use std::time::Duration;

use super::lex::{Compare, Problem, Span, Token, lex};

/// How deep parentheses and `!` may be nested.
pub(crate) const DEPTH_MAX: usize = 64;

/// A piece of a condition and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expr {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    /// Two values compared; the span is that of the operator.
    Compare(Box<Expr>, Compare, Span, Box<Expr>),
    /// `known(field)`
    Known(String, Span),
    Name(String),
    Set(String),
    Int(i64),
    Duration(Duration),
    Text(String),
    Bool(bool),
    List(Vec<Expr>),
}

/// What was read, with hints that are no faults.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) expr: Expr,
    /// Spellings of other languages that were understood: where, and how it is written here.
    pub(crate) respelled: Vec<(Span, String)>,
}

/// Reads a condition.
pub(crate) fn parse(text: &str) -> Result<Parsed, Problem> {
    let tokens = lex(text)?;
    if tokens.is_empty() {
        let problem = Problem::new(0..text.len(), "the condition is empty").label("a condition belongs here");
        return Err(problem.help("a rule for every request says `true`"));
    }
    let mut parser = Parser { text, tokens, at: 0, depth: 0, respelled: Vec::new() };
    let expr = parser.or()?;
    match parser.next() {
        None => Ok(Parsed { expr, respelled: parser.respelled }),
        Some((token, span)) => Err(parser.unexpected(&token, span)),
    }
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    respelled: Vec<(Span, String)>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn next(&mut self) -> Option<(Token, Span)> {
        let (token, span) = self.tokens.get_mut(self.at)?;
        self.at += 1;
        // What it says is needed once; what kind of token it was may be asked again.
        let token = match token {
            Token::Name(name) => Token::Name(std::mem::take(name)),
            Token::Set(name) => Token::Set(std::mem::take(name)),
            Token::Text(text) => Token::Text(std::mem::take(text)),
            other => other.clone(),
        };
        Some((token, span.clone()))
    }

    fn take(&mut self, wanted: &Token) -> Option<Span> {
        let (token, span) = self.tokens.get(self.at)?;
        if token != wanted {
            return None;
        }
        self.at += 1;
        Some(span.clone())
    }

    /// The place behind the last token.
    fn end(&self) -> Span {
        let end = self.text.trim_end().len();
        end..end
    }

    fn or(&mut self) -> Result<Expr, Problem> {
        self.chain(&Token::Or, Self::and, Kind::Or)
    }

    fn and(&mut self) -> Result<Expr, Problem> {
        self.chain(&Token::And, Self::not, Kind::And)
    }

    fn chain(
        &mut self,
        joint: &Token,
        part: fn(&mut Self) -> Result<Expr, Problem>,
        join: fn(Vec<Expr>) -> Kind,
    ) -> Result<Expr, Problem> {
        let first = part(self)?;
        if self.peek() != Some(joint) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.take(joint).is_some() {
            parts.push(part(self)?);
        }
        let span = parts.first().map_or(0, |first| first.span.start)..parts.last().map_or(0, |last| last.span.end);
        Ok(Expr { kind: join(parts), span })
    }

    fn deeper<T>(&mut self, span: &Span, inner: impl FnOnce(&mut Self) -> Result<T, Problem>) -> Result<T, Problem> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let problem = Problem::new(span.clone(), format!("conditions are nested at most {DEPTH_MAX} deep"));
            return Err(problem.label("too deep").help("give parts of it a name in [let]"));
        }
        let out = inner(self);
        self.depth -= 1;
        out
    }

    fn not(&mut self) -> Result<Expr, Problem> {
        let Some(span) = self.take(&Token::Not) else { return self.comparison() };
        // `a not in b` is read below; `not in` cannot begin a condition.
        let inner = self.deeper(&span, Self::not)?;
        if let Kind::Compare(left, op, at, _) = &inner.kind
            && self.text.get(span.clone()) == Some("!")
            // Without parentheses around it, and not `a.startsWith("x")`, which can be read in one way only.
            && left.span.start == inner.span.start
            && at.start != left.span.start
        {
            // `!a == b` reads as `(!a) == b` to some and `!(a == b)` to others.
            let whole = self.text.get(inner.span.clone()).unwrap_or_default();
            let problem =
                Problem::new(span.start..at.end, format!("`!` before `{}` can be read in two ways", op.as_str()));
            return Err(problem
                .label("which part is negated?")
                .help(format!("write `!({whole})`, or the opposite operator")));
        }
        let whole = span.start..inner.span.end;
        Ok(Expr { kind: Kind::Not(Box::new(inner)), span: whole })
    }

    fn comparison(&mut self) -> Result<Expr, Problem> {
        let left = self.primary()?;
        let Some((op, span)) = self.operator() else { return Ok(left) };
        let right = self.primary()?;
        if let Some((again, second)) = self.operator() {
            let problem = Problem::new(second, format!("`{}` follows another comparison", again.as_str()));
            return Err(problem.label("a second comparison").help("join two comparisons with `&&`"));
        }
        let whole = left.span.start..right.span.end;
        Ok(Expr { kind: Kind::Compare(Box::new(left), op, span, Box::new(right)), span: whole })
    }

    fn operator(&mut self) -> Option<(Compare, Span)> {
        if let (Some(Token::Not), Some((Token::Compare(Compare::In), last))) =
            (self.peek(), self.tokens.get(self.at + 1))
        {
            let span = self.tokens.get(self.at).map_or(0, |(_, span)| span.start)..last.end;
            self.at += 2;
            self.respelled.push((span.clone(), "not_in".to_owned()));
            return Some((Compare::NotIn, span));
        }
        let Some(Token::Compare(op)) = self.peek() else { return None };
        let op = *op;
        self.next().map(|(_, span)| (op, span))
    }

    fn primary(&mut self) -> Result<Expr, Problem> {
        let Some((token, span)) = self.next() else {
            let problem = Problem::new(self.end(), "the condition ends too early");
            return Err(problem.label("a field or a value belongs here"));
        };
        let kind = match token {
            Token::Open => return self.group(span),
            Token::OpenList => return self.list(span),
            Token::Known => return self.known(span),
            Token::Name(name) if self.peek() == Some(&Token::Open) => return self.method(&name, span),
            Token::Name(name) => Kind::Name(name),
            Token::Set(name) => Kind::Set(name),
            Token::Int(number) => Kind::Int(number),
            Token::Span(duration) => Kind::Duration(duration),
            Token::Text(text) => Kind::Text(text),
            Token::Bool(yes) => Kind::Bool(yes),
            other => return Err(self.unexpected(&other, span)),
        };
        Ok(Expr { kind, span })
    }

    fn group(&mut self, open: Span) -> Result<Expr, Problem> {
        if let Some(close) = self.take(&Token::Close) {
            let problem = Problem::new(open.start..close.end, "nothing is between `(` and `)`");
            return Err(problem.label("a condition belongs here"));
        }
        let inner = self.deeper(&open, Self::or)?;
        match self.next() {
            Some((Token::Close, close)) => Ok(Expr { kind: inner.kind, span: open.start..close.end }),
            Some((Token::Comma, comma)) => {
                let problem = Problem::new(comma, "a list stands in `[` and `]`").label("a list?");
                Err(problem.help("write `[` before the first value and `]` after the last"))
            }
            Some((token, span)) => Err(self.unexpected(&token, span)),
            None => Err(self.unclosed(open, "(", ")")),
        }
    }

    fn list(&mut self, open: Span) -> Result<Expr, Problem> {
        let mut items = Vec::new();
        loop {
            if let Some(close) = self.take(&Token::CloseList) {
                return Ok(Expr { kind: Kind::List(items), span: open.start..close.end });
            }
            if !items.is_empty() && self.take(&Token::Comma).is_none() {
                return Err(match self.next() {
                    None => self.unclosed(open, "[", "]"),
                    Some((Token::Text(_) | Token::Int(_) | Token::Name(_), span)) => {
                        Problem::new(span, "a comma is missing before this").label("the next value?")
                    }
                    Some((_, span)) => {
                        let found = self.text.get(span.clone()).unwrap_or_default();
                        Problem::new(span, format!("expected `,` or `]`, found `{found}`")).label("not in a list")
                    }
                });
            }
            if self.peek() == Some(&Token::CloseList) {
                continue;
            }
            if self.peek().is_none() {
                return Err(self.unclosed(open, "[", "]"));
            }
            items.push(self.deeper(&open, Self::primary)?);
        }
    }

    fn known(&mut self, span: Span) -> Result<Expr, Problem> {
        let wrong = |span: Span| {
            Problem::new(span, "`known` asks for one field")
                .label("not a field")
                .help("such as `known(client.country)`")
        };
        self.take(&Token::Open).ok_or_else(|| wrong(span.clone()))?;
        match (self.next(), self.next()) {
            (Some((Token::Name(name), at)), Some((Token::Close, close))) => {
                Ok(Expr { kind: Kind::Known(name, at), span: span.start..close.end })
            }
            (Some((Token::Name(_), _)), None) | (None, _) => Err(self.unclosed(span.start..span.end + 1, "(", ")")),
            (Some((Token::Name(_), _)), Some((_, at))) | (Some((_, at)), _) => Err(wrong(at)),
        }
    }

    /// `a.startsWith("x")`, as CEL and most programming languages spell it.
    fn method(&mut self, name: &str, span: Span) -> Result<Expr, Problem> {
        let (field, method) = name.rsplit_once('.').unwrap_or(("", name));
        let Some(op) = Compare::of_method(method).filter(|_| !field.is_empty()) else {
            let problem = Problem::new(span, format!("there is no function `{name}`")).label("not a function");
            return Err(problem.help("the one function is `known(field)`"));
        };
        let open = self.take(&Token::Open).unwrap_or_else(|| span.clone());
        let right = self.deeper(&open, Self::primary)?;
        let close = match self.next() {
            Some((Token::Close, close)) => close,
            Some((token, span)) => return Err(self.unexpected(&token, span)),
            None => return Err(self.unclosed(open, "(", ")")),
        };
        let whole = span.start..close.end;
        let value = self.text.get(right.span.clone()).unwrap_or_default();
        self.respelled.push((whole.clone(), format!("{field} {} {value}", op.as_str())));
        let left = Expr { kind: Kind::Name(field.to_owned()), span: span.start..span.start + field.len() };
        Ok(Expr { kind: Kind::Compare(Box::new(left), op, span, Box::new(right)), span: whole })
    }

    fn unclosed(&self, open: Span, sign: &str, closing: &str) -> Problem {
        let _ = self;
        Problem::new(open, format!("`{sign}` is not closed"))
            .label("it opens here")
            .help(format!("close it with `{closing}`"))
    }

    fn unexpected(&self, token: &Token, span: Span) -> Problem {
        let found = self.text.get(span.clone()).unwrap_or_default();
        let before = self.at.checked_sub(2).and_then(|at| self.tokens.get(at)).map(|(token, _)| token);
        let problem = Problem::new(span, format!("`{found}` is not expected here"));
        match (token, before) {
            (Token::Name(word), _) if matches!(word.as_str(), "AND" | "OR" | "NOT" | "IN") => {
                let small = word.to_lowercase();
                problem.label("operators are written small").fix(small)
            }
            (Token::Name(word), Some(Token::Name(_) | Token::Text(_) | Token::Int(_) | Token::Not))
                if operator_near(word).is_some() =>
            {
                let near = operator_near(word).unwrap_or_default();
                Problem { message: format!("`{word}` is no operator"), ..problem }.label("not an operator").fix(near)
            }
            (Token::Comma, _) => problem.label("no list is open"),
            (Token::Close, _) => problem.label("nothing is open").help("take it away, or open a `(` before"),
            (Token::Name(_) | Token::Int(_) | Token::Text(_) | Token::Bool(_), Some(Token::Int(_))) => {
                problem.label("after a number").help("a duration is written without a space, such as `5m`")
            }
            (Token::And | Token::Or | Token::Compare(_), _) => problem.label("a field or a value is missing before it"),
            _ => problem.label("an operator is missing before it").help("join conditions with `&&` or `||`"),
        }
    }
}

/// The operator that a word of other languages stands for, or nearly is.
fn operator_near(word: &str) -> Option<&'static str> {
    let known = match word {
        "is" | "eq" | "equals" => "==",
        "ne" | "isnt" => "!=",
        "lt" => "<",
        "le" => "<=",
        "gt" => ">",
        "ge" => ">=",
        "notin" | "not_on" | "nin" => "not_in",
        "is_in" | "one_of" => "in",
        "begins_with" | "beginswith" | "startswith" | "startsWith" | "hasPrefix" => "starts_with",
        "endswith" | "endsWith" | "hasSuffix" => "ends_with",
        "like" | "match" | "regex" | "matches_regex" => "matches",
        "includes" | "has" => "contains",
        "And" | "AND" => "and",
        "Or" | "OR" => "or",
        _ => "",
    };
    if !known.is_empty() {
        return Some(known);
    }
    let words = ["not_in", "starts_with", "ends_with", "contains", "matches"];
    super::diagnostic::nearest(word, words).and_then(|near| words.into_iter().find(|one| *one == near))
}
