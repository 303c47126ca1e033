//! Patterns of paths and requests, as they are written in the configuration.
//!
//! A pattern is compared with a [canonical path](canonical_path), never with the one that was sent.

use std::fmt;

use http::Method;
use smallvec::{SmallVec, smallvec};

use super::route::{PathTrick, canonical_path};

/// The longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256;

/// Whether `A` and `a` are one letter in a path. Only ASCII letters are folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CaseSensitivity {
    /// They are one. The default: Express, IIS and ASP.NET do so, and to match too much is the safe side.
    #[default]
    Ignore,
    /// They are two.
    Exact,
}

/// Which requests a line of the policy is about: `/admin/**`, `/accounts/*/edit`, `POST /accounts/login/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    method: Option<Method>,
    path: PathPattern,
}

impl RoutePattern {
    /// Reads a pattern: a path pattern, with a method before it or for every method.
    ///
    /// # Errors
    /// When the method is unknown or not in capitals, or the path is not a [`PathPattern`].
    pub fn parse(text: &str, case: CaseSensitivity) -> Result<Self, PatternError> {
        match text.split_once(' ') {
            Some((word, path)) if !text.starts_with('/') => {
                let method = METHODS.contains(&word).then(|| Method::from_bytes(word.as_bytes()).ok()).flatten();
                let method = method.ok_or_else(|| PatternError::Method(word.into()))?;
                Ok(Self { method: Some(method), path: PathPattern::parse(path, case)? })
            }
            _ => Ok(Self { method: None, path: PathPattern::parse(text, case)? }),
        }
    }

    /// Whether a request is meant. `path` is canonical ([`canonical_path`]). A pattern for GET is one for HEAD too: apps
    /// answer both with the same code.
    pub fn matches(&self, method: &Method, path: &str) -> bool {
        let meant =
            self.method.as_ref().is_none_or(|own| own == method || (own == Method::GET && method == Method::HEAD));
        meant && self.path.matches(path)
    }

    /// The method it is limited to.
    pub const fn method(&self) -> Option<&Method> {
        self.method.as_ref()
    }

    /// The pattern of its path.
    pub const fn path(&self) -> &PathPattern {
        &self.path
    }
}

/// As it was written.
impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.method {
            Some(method) => write!(f, "{method} {}", self.path),
            None => self.path.fmt(f),
        }
    }
}

/// The methods a pattern may name: those of HTTP and of `WebDAV`. A misspelt one would never match.
const METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "QUERY",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
];

/// How much of a pattern may be missing: each doubles the paths that it is compared with.
const OPTIONAL_MAX: usize = 2;

/// A pattern of canonical paths.
///
/// `*` stands for one segment or the rest of one (`*.php`), `**` for any number of segments, none included: `/admin/**`
/// matches `/admin`, `/admin/` and all below. A slash at the end makes no difference on either side, as an app may
/// serve a page under both spellings. Each segment has at most one `*` and the pattern at most one `**`, so that
/// matching is one walk from both ends, whatever the path.
///
/// Two things may be missing where a framework does not mind: `(.*)` at the end of a segment is nothing or a dot and
/// whatever follows (`/users/sign_in(.*)` is `/users/sign_in.json` too), and a segment in brackets may be left out
/// (`/(index.php)/login`). Brackets anywhere else are plain characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    /// The pattern with and without each segment that may be missing. Nearly always one.
    shapes: SmallVec<[Shape; 1]>,
    case: CaseSensitivity,
}

/// One way to read a pattern, with nothing in it that may be missing as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shape {
    front: Vec<Segment>,
    /// What must follow `**`; `None` if there is no `**`.
    back: Option<Vec<Segment>>,
}

/// One segment: what it begins with, and what may or must come behind that.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    head: Box<str>,
    tail: Tail,
}

/// What comes behind the head of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tail {
    /// Nothing.
    End,
    /// `*`: anything, and then this.
    Any(Box<str>),
    /// `(.*)`: nothing, or a dot and anything.
    Format,
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No such method.
    #[error("`{0}` is not a method; expected one in capitals such as `POST`, then a space and a path")]
    Method(Box<str>),
    /// It is not a path.
    #[error("`{0}` does not begin with `/`; expected a path such as `/admin/**`")]
    NotAbsolute(Box<str>),
    /// A query, or a spelling that a canonical path never has.
    #[error("a path is matched decoded and without its query, so `{0}` would never match; expected plain segments")]
    NeverMatches(Box<str>),
    /// `**` twice, or beside other characters.
    #[error("`{0}` has more than one `**`, or one that is not a whole segment; expected at most one, as in `/a/**/b`")]
    Deep(Box<str>),
    /// Two `*` in one segment.
    #[error("`{0}` has more than one `*` in a segment; expected at most one, as in `/files/*.pdf`")]
    Wide(Box<str>),
    /// `(` and `)` around something that may not be missing, or too often.
    #[error(
        "`{0}`: what may be missing is `(.*)` at the end of a segment or a whole segment such as `(index.php)`, \
         at most {OPTIONAL_MAX} times in a pattern"
    )]
    Optional(Box<str>),
    /// Longer than allowed.
    #[error("a pattern has at most {PATTERN_BYTES_MAX} bytes")]
    TooLong,
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is not one, or could never match.
    pub fn parse(text: &str, case: CaseSensitivity) -> Result<Self, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        let Some(path) = text.strip_prefix('/') else { return Err(PatternError::NotAbsolute(text.into())) };
        if text.contains(['?', '#']) || !is_plain(text) {
            return Err(PatternError::NeverMatches(text.into()));
        }
        let mut shapes: SmallVec<[Shape; 1]> = smallvec![Shape::default()];
        for word in path.strip_suffix('/').unwrap_or(path).split('/').filter(|word| !word.is_empty()) {
            let (word, presence) = match word.strip_prefix('(').and_then(|word| word.strip_suffix(')')) {
                Some(inner) if !inner.contains(['(', ')']) => (inner, Presence::MayBeMissing),
                _ => (word, Presence::Needed),
            };
            if presence == Presence::MayBeMissing {
                // `(.*)` by itself is what regular expressions call anything, and here would be a segment `.`.
                if word.is_empty()
                    || word == "**"
                    || word == ".*"
                    || shapes.len() >= 1 << OPTIONAL_MAX
                    || !is_plain(&format!("/{word}"))
                {
                    return Err(PatternError::Optional(text.into()));
                }
                shapes.extend(shapes.clone());
            }
            let with = shapes.len() / if presence == Presence::MayBeMissing { 2 } else { 1 };
            for shape in shapes.iter_mut().take(with) {
                shape.push(word, text)?;
            }
        }
        Ok(Self { text: text.into(), shapes, case })
    }

    /// Whether a canonical path is meant: one walk over it, no memory.
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let path = path.strip_suffix('/').unwrap_or(path);
        self.shapes.iter().any(|shape| shape.matches(path, self.case))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether a segment of a pattern must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Needed,
    MayBeMissing,
}

/// Whether a canonical path may look like this. A lone `%` may stand in a decoded path, an escape may not.
fn is_plain(text: &str) -> bool {
    let read = canonical_path(text);
    read.path == text && matches!(read.hostile, None | Some(PathTrick::BadEncoding))
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Shape {
    fn push(&mut self, word: &str, pattern: &str) -> Result<(), PatternError> {
        if word == "**" && self.back.is_none() {
            self.back = Some(Vec::new());
        } else {
            self.back.as_mut().unwrap_or(&mut self.front).push(Segment::parse(word, pattern)?);
        }
        Ok(())
    }

    /// Whether a path is meant, without its first slash and its last one.
    fn matches(&self, path: &str, case: CaseSensitivity) -> bool {
        let mut words = path.split('/');
        if path.is_empty() {
            // Splitting nothing gives one empty word; the root has no segments.
            words.next();
        }
        let front = self.front.iter().all(|segment| words.next().is_some_and(|word| segment.matches(word, case)));
        front
            && match &self.back {
                None => words.next().is_none(),
                Some(back) => {
                    back.iter().rev().all(|segment| words.next_back().is_some_and(|word| segment.matches(word, case)))
                }
            }
    }
}

impl Segment {
    fn parse(word: &str, pattern: &str) -> Result<Self, PatternError> {
        let (word, format) = match word.strip_suffix("(.*)") {
            Some(head) if !head.contains('*') => (head, Some(Tail::Format)),
            Some(_) => return Err(PatternError::Wide(pattern.into())),
            None => (word, None),
        };
        if word.contains("**") {
            return Err(PatternError::Deep(pattern.into()));
        }
        match word.split_once('*') {
            Some((_, tail)) if tail.contains('*') => Err(PatternError::Wide(pattern.into())),
            Some((head, tail)) => Ok(Self { head: head.into(), tail: Tail::Any(tail.into()) }),
            None => Ok(Self { head: word.into(), tail: format.unwrap_or(Tail::End) }),
        }
    }

    fn matches(&self, word: &str, case: CaseSensitivity) -> bool {
        let same = |word: &[u8], own: &str| match case {
            CaseSensitivity::Ignore => word.eq_ignore_ascii_case(own.as_bytes()),
            CaseSensitivity::Exact => word == own.as_bytes(),
        };
        let word = word.as_bytes();
        if self.tail == Tail::End {
            return same(word, &self.head);
        }
        let Some((start, rest)) = word.split_at_checked(self.head.len()) else { return false };
        let end = match &self.tail {
            Tail::End => rest.is_empty(),
            Tail::Format => matches!(rest, [] | [b'.', ..]),
            Tail::Any(tail) => {
                let split = rest.len().checked_sub(tail.len());
                split.and_then(|split| rest.get(split..)).is_some_and(|end| same(end, tail))
            }
        };
        end && same(start, &self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> RoutePattern {
        RoutePattern::parse(text, CaseSensitivity::Ignore).unwrap()
    }

    #[test]
    fn patterns_match() {
        let check = |text: &str, yes: &[&str], no: &[&str]| {
            let pattern = pattern(text);
            assert_eq!(pattern.to_string(), text);
            for (paths, expected) in [(yes, true), (no, false)] {
                for path in paths {
                    assert_eq!(pattern.matches(&Method::GET, path), expected, "{text} {path}");
                }
            }
        };
        check("/", &["/"], &["/a", "*", ""]);
        check("/login", &["/login", "/login/", "/LOGIN"], &["/", "/logins", "/logi", "/login/x", "/x/login"]);
        check("/login/", &["/login", "/login/"], &["/login/x"]);
        check(
            "/admin/**",
            &["/admin", "/admin/", "/admin/a", "/admin/a/b/", "/ADMIN/x"],
            &["/", "/administer", "/x/admin"],
        );
        check("/**", &["/", "/a", "/a/b/c"], &["*"]);
        check("/a/*", &["/a/b", "/a/b/"], &["/a", "/a/", "/a/b/c"]);
        check(
            "/accounts/*/edit",
            &["/accounts/7/edit", "/accounts/7/edit/"],
            &["/accounts/edit", "/accounts/7/8/edit"],
        );
        check("/a/**/z", &["/a/z", "/a/b/z", "/a/b/c/z/", "/a/z/z"], &["/a", "/z", "/a/z/b", "/az"]);
        check("/**/*.php", &["/x.php", "/a/b/x.PHP", "/.php"], &["/x.phps", "/x.php/y", "/"]);
        check("/a*c/x", &["/ac/x", "/abc/x", "/aXbXc/x"], &["/a/x", "/c/x", "/acb/x"]);
        check("/aba*aba", &["/abaaba", "/abaXaba"], &["/aba", "/ababa"]);
        check("/é*", &["/é", "/éa"], &["/e"]);
        check("/100%", &["/100%"], &["/100"]);
        check("/in(.*)", &["/in", "/in/", "/IN.html", "/in.", "/in.a.b"], &["/inn", "/in/x", "/i", "/in(.x)", "/"]);
        check("/a/in(.*)/**", &["/a/in", "/a/in.x/y/z"], &["/a/inn/x", "/a"]);
        check("/(index.php)/in", &["/in", "/INDEX.php/in/"], &["/index.php", "/x/in", "/index.php/index.php/in", "/"]);
        check("/(a)/a", &["/a", "/a/a"], &["/", "/a/a/a"]);
        check("/(a)/(b)/**/c", &["/c", "/a/c", "/b/c", "/a/b/c", "/b/a/c", "/a/x/c"], &["/a/b", "/"]);
        check("/(v*)/x", &["/x", "/v1/x"], &["/w/x"]);
        // Elsewhere brackets are themselves: OData has them in its paths.
        check("/Products(*)", &["/Products(7)"], &["/Products", "/Products7"]);
        check("/a(b)c/(d)e", &["/a(b)c/(d)e"], &["/ac/e", "/abc/de"]);
        check("/)(/()()", &["/)(/()()"], &["/"]);
    }

    #[test]
    fn a_method_limits_a_pattern() {
        let check = |text: &str, method: Method, expected: bool| {
            assert_eq!(pattern(text).matches(&method, "/x"), expected, "{text} {method}");
        };
        check("/x", Method::DELETE, true);
        check("POST /x", Method::POST, true);
        check("POST /x", Method::GET, false);
        check("GET /x", Method::HEAD, true);
        check("HEAD /x", Method::GET, false);
    }

    #[test]
    fn letters_may_be_told_apart() {
        let exact = RoutePattern::parse("/Admin/*.Php", CaseSensitivity::Exact).unwrap();
        assert!(exact.matches(&Method::GET, "/Admin/x.Php"));
        assert!(!exact.matches(&Method::GET, "/admin/x.Php") && !exact.matches(&Method::GET, "/Admin/x.php"));
    }

    #[test]
    fn a_pattern_that_could_never_match_is_a_fault() {
        let check = |text: &str, expected: &str| {
            let fault = RoutePattern::parse(text, CaseSensitivity::Ignore).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{text}: {fault}");
        };
        check("", "`` does not begin with `/`");
        check("admin", "`admin` does not begin with `/`");
        check("post /x", "`post` is not a method");
        check("PSOT /x", "`PSOT` is not a method");
        check("POST x", "`x` does not begin with `/`");
        check("POST  /x", "` /x` does not begin with `/`");
        for never in ["/a?b", "/a#b", "/a%20b", "/a//b", "//a", "/a/../b", "/a;b", "/a\\b", "/a\tb"] {
            check(never, "a path is matched decoded");
        }
        check("/**/a/**", "`/**/a/**` has more than one `**`");
        check("/a**", "`/a**` has more than one `**`, or one");
        check("/a*b*c", "`/a*b*c` has more than one `*`");
        check("/a*b(.*)", "`/a*b(.*)` has more than one `*`");
        for vague in ["/()", "/x/(**)", "/(..)/x", "/(.)", "/(a)/(b)/(c)"] {
            check(vague, &format!("`{vague}`: what may be missing is"));
        }
        check(&"/a".repeat(129), "a pattern has at most 256 bytes");
    }

    proptest! {
        #[test]
        fn two_stars_match_any_depth(words in proptest::collection::vec("[ab]{1,2}", 0..8), at in 0usize..8, end in 0usize..8) {
            let (at, end) = (at.min(words.len()), end.min(words.len()));
            let path = format!("/{}", words.join("/"));
            let text = format!("/{}", [&words[..at], &["**".to_owned()], &words[at.max(end)..]].concat().join("/"));
            prop_assert!(pattern(&text).matches(&Method::GET, &path), "{text} {path}");
        }

        #[test]
        fn a_part_that_may_be_missing_is_two_patterns(words in proptest::collection::vec("[ab]", 0..4), at in 0usize..4, path in "(/[ab]){0,5}") {
            let at = at.min(words.len());
            let text = |middle: &str| {
                format!("/{}", [&words[..at], &[middle.to_owned()], &words[at..]].concat().join("/").replace("//", "/"))
            };
            let matches = |text: &str| PathPattern::parse(text, CaseSensitivity::Exact).unwrap().matches(&format!("/{}", path.trim_start_matches('/')));
            let without = format!("/{}", words.join("/"));
            prop_assert_eq!(matches(&text("(a)")), matches(&text("a")) || matches(&without), "{} {}", text("(a)"), path);
        }
    }
}
