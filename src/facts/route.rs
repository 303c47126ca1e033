//! One canonical path per request, and the patterns that match it.
//!
//! The path that is forwarded stays as the client wrote it; the canonical one is what policy looks at. Where an app
//! could read the spelling in another way than we do, [`CanonicalPath::hostile`] says so, and a caller that protects
//! anything refuses the request: no choice of ours is right for every app.

use std::borrow::Cow;

pub use super::pattern::{CaseSensitivity, PATTERN_BYTES_MAX, PathPattern, PatternError, RoutePattern};

/// A path in the form that policy looks at: percent-decoded once, `//` merged, `.` and `..` resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    /// The path; it begins with `/`, but for the `*` of `OPTIONS *`.
    pub path: Cow<'a, str>,
    /// The first spelling in it that apps read differently.
    pub hostile: Option<PathTrick>,
}

/// A spelling of a path that two programs may understand as two different paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathTrick {
    /// It does not begin with `/`.
    NotAbsolute,
    /// It begins with `//`, which URL parsers take for a host: `//x/admin` is then `/admin`.
    LeadingSlashes,
    /// `.` or `..` as a segment, plain or encoded. Browsers resolve them before they ask.
    DotSegment,
    /// `;`, plain or encoded: some servers cut the segment there.
    Parameter,
    /// `\`: a slash on Windows.
    Backslash,
    /// `%5c`
    EncodedBackslash,
    /// `%2f`
    EncodedSlash,
    /// `%00`
    Nul,
    /// A control byte, plain or encoded.
    Control,
    /// Decoded once it still holds an escape, as of `%252f`.
    DoubleEncoding,
    /// A `%` that is not followed by two hexadecimal digits.
    BadEncoding,
    /// Not UTF-8 when decoded: overlong forms, or another character set.
    NotUtf8,
    /// A character that some programs fold into one of those above, or into a letter: a full-width slash, the Kelvin sign.
    Lookalike,
}

impl PathTrick {
    /// Its name in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAbsolute => "not_absolute",
            Self::LeadingSlashes => "leading_slashes",
            Self::DotSegment => "dot_segment",
            Self::Parameter => "parameter",
            Self::Backslash => "backslash",
            Self::EncodedBackslash => "encoded_backslash",
            Self::EncodedSlash => "encoded_slash",
            Self::Nul => "nul",
            Self::Control => "control",
            Self::DoubleEncoding => "double_encoding",
            Self::BadEncoding => "bad_encoding",
            Self::NotUtf8 => "not_utf8",
            Self::Lookalike => "lookalike",
        }
    }
}

/// The canonical form of the path of a request target; `raw` has no query (`Uri::path`).
///
/// A path that is canonical already, as nearly all are, is scanned once and borrowed.
pub fn canonical_path(raw: &str) -> CanonicalPath<'_> {
    if is_canonical(raw.as_bytes()) || raw == "*" {
        return CanonicalPath { path: Cow::Borrowed(raw), hostile: None };
    }
    let mut builder = Builder { out: Vec::with_capacity(raw.len() + 1), segment: 1, trick: None };
    let mut rest = raw.as_bytes();
    match rest.split_first() {
        Some((b'/', tail)) => rest = tail,
        _ => builder.note(PathTrick::NotAbsolute),
    }
    builder.out.push(b'/');
    if rest.first() == Some(&b'/') {
        builder.note(PathTrick::LeadingSlashes);
    }
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail.split_first_chunk::<2>()) {
            (b'%', Some(([high, low], tail))) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = tail;
                builder.decoded(hex_value(*high) << 4 | hex_value(*low));
            }
            (b'%', _) => {
                builder.note(PathTrick::BadEncoding);
                builder.push(b'%');
            }
            _ => builder.plain(byte),
        }
    }
    builder.finish()
}

/// Whether canonicalising would change nothing and find nothing.
fn is_canonical(raw: &[u8]) -> bool {
    let [b'/', rest @ ..] = raw else { return false };
    let mut before = b'/';
    let mut dots = false;
    for byte in rest {
        match byte {
            b'%' | b';' | b'\\' | 0..=0x1f | 0x7f.. => return false,
            b'/' if before == b'/' => return false,
            b'.' if before == b'/' => dots = true,
            _ => {}
        }
        before = *byte;
    }
    // Rare enough for a second look: `/.well-known` is canonical, `/../` is not.
    !dots || !rest.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b".."))
}

const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// The canonical path as it grows: all closed segments, each with its slash in front, then the open one.
struct Builder {
    out: Vec<u8>,
    /// Where the open segment starts, right behind a slash.
    segment: usize,
    trick: Option<PathTrick>,
}

impl Builder {
    fn note(&mut self, trick: PathTrick) {
        self.trick.get_or_insert(trick);
    }

    /// A byte that stood in the path as it is.
    fn plain(&mut self, byte: u8) {
        match byte {
            b'\\' => self.note(PathTrick::Backslash),
            b';' => self.note(PathTrick::Parameter),
            0..=0x1f | 0x7f => self.note(PathTrick::Control),
            _ => {}
        }
        self.push(byte);
    }

    /// A byte that was written as an escape.
    fn decoded(&mut self, byte: u8) {
        match byte {
            b'/' => self.note(PathTrick::EncodedSlash),
            b'\\' => self.note(PathTrick::EncodedBackslash),
            b';' => self.note(PathTrick::Parameter),
            0 => self.note(PathTrick::Nul),
            0x01..=0x1f | 0x7f => self.note(PathTrick::Control),
            _ => {}
        }
        self.push(byte);
    }

    fn push(&mut self, byte: u8) {
        if byte == b'/' {
            self.close_segment();
        } else {
            self.out.push(byte);
        }
    }

    /// Ends the open segment at a slash.
    fn close_segment(&mut self) {
        if !self.resolve_dots() && self.out.len() > self.segment {
            self.out.push(b'/');
            self.segment = self.out.len();
        }
    }

    /// Takes the open segment away if it is `.` or `..`, the latter with the one before it. What is left ends in a slash.
    fn resolve_dots(&mut self) -> bool {
        let keep = match self.out.get(self.segment..) {
            Some(b".") => self.segment,
            Some(b"..") => {
                let closed = self.out.get(..self.segment.saturating_sub(1)).unwrap_or_default();
                memchr::memrchr(b'/', closed).map_or(1, |slash| slash + 1)
            }
            _ => return false,
        };
        self.note(PathTrick::DotSegment);
        self.out.truncate(keep);
        self.segment = keep;
        true
    }

    fn finish(mut self) -> CanonicalPath<'static> {
        self.resolve_dots();
        if holds_escape(&self.out) {
            self.note(PathTrick::DoubleEncoding);
        }
        let path = match String::from_utf8(self.out) {
            Ok(path) => path,
            Err(bytes) => {
                self.trick.get_or_insert(PathTrick::NotUtf8);
                String::from_utf8_lossy(bytes.as_bytes()).into_owned()
            }
        };
        if self.trick.is_none() && !path.is_ascii() && path.chars().any(is_lookalike) {
            self.trick = Some(PathTrick::Lookalike);
        }
        CanonicalPath { path: Cow::Owned(path), hostile: self.trick }
    }
}

/// Whether another round of decoding would find something, `%u002f` of old Windows servers included.
fn holds_escape(path: &[u8]) -> bool {
    memchr::memchr_iter(b'%', path).any(|at| match path.get(at + 1..) {
        Some([b'u' | b'U', ..]) => true,
        Some([high, low, ..]) => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        _ => false,
    })
}

/// Characters that compatibility normalisation, Windows' best fit or case folding turn into syntax or ASCII letters.
pub(super) const fn is_lookalike(letter: char) -> bool {
    matches!(
        letter,
        // Slashes and backslashes.
        '\u{2044}' | '\u{2215}' | '\u{ff0f}' | '\u{2216}' | '\u{fe68}' | '\u{ff3c}'
        // Dots.
        | '\u{2024}'
            ..='\u{2026}' | '\u{fe52}' | '\u{ff0e}'
        // Per cent and semicolon.
        | '\u{fe6a}' | '\u{ff05}' | '\u{037e}' | '\u{fe54}' | '\u{ff1b}'
        // k and s.
        | '\u{212a}' | '\u{017f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    use proptest::prelude::*;

    #[test]
    fn a_path_has_one_form() {
        use PathTrick::*;
        let check = |raw: &str, path: &str, hostile: Option<PathTrick>| {
            let read = canonical_path(raw);
            assert_eq!((read.path.as_ref(), read.hostile), (path, hostile), "{raw:?}");
        };
        for plain in
            ["/", "/a", "/a/", "/a/b.c/~d-e_f", "/.well-known/x", "/a/.b/..c/...", "/a,b=c&d@e:f!g$h'(i)*+", "*"]
        {
            check(plain, plain, None);
            assert!(matches!(canonical_path(plain).path, Cow::Borrowed(_)), "{plain}");
        }
        check("/%61dmin", "/admin", None);
        check("/a%20b", "/a b", None);
        check("/100%25", "/100%", None);
        check("/100%25/x", "/100%/x", None);
        check("/c%23/who%3f", "/c#/who?", None);
        check("/caf%C3%A9", "/café", None);
        check("/café", "/café", None);
        check("/a//b///c//", "/a/b/c/", None);

        check("/a/./b", "/a/b", Some(DotSegment));
        check("/a/b/..", "/a/", Some(DotSegment));
        check("/a/b/../c", "/a/c", Some(DotSegment));
        check("/../../a", "/a", Some(DotSegment));
        check("/..", "/", Some(DotSegment));
        check("/.", "/", Some(DotSegment));
        check("/a/%2e%2E/b", "/b", Some(DotSegment));
        check("/a/.%2e/b", "/b", Some(DotSegment));
        check("/a//../b", "/b", Some(DotSegment));
        check("/a;x/b", "/a;x/b", Some(Parameter));
        check("/a%3Bx", "/a;x", Some(Parameter));
        check("/..;/a", "/..;/a", Some(Parameter));
        check("/a\\b", "/a\\b", Some(Backslash));
        check("/a%5cb", "/a\\b", Some(EncodedBackslash));
        check("/a%2Fb", "/a/b", Some(EncodedSlash));
        check("/admin%2f..", "/", Some(EncodedSlash));
        check("/a%00", "/a\0", Some(Nul));
        check("/a%0ab", "/a\nb", Some(Control));
        check("/a%7f", "/a\u{7f}", Some(Control));
        check("/a\u{1}", "/a\u{1}", Some(Control));
        check("/%2561", "/%61", Some(DoubleEncoding));
        check("/%25%36%31", "/%61", Some(DoubleEncoding));
        check("/%252561", "/%2561", Some(DoubleEncoding));
        check("/%25u002f", "/%u002f", Some(DoubleEncoding));
        check("/a%", "/a%", Some(BadEncoding));
        check("/a%2", "/a%2", Some(BadEncoding));
        check("/%zz", "/%zz", Some(BadEncoding));
        check("/%u002f", "/%u002f", Some(BadEncoding));
        check("/%+1", "/%+1", Some(BadEncoding));
        check("/%%2f", "/%/", Some(BadEncoding));
        check("/%c0%af", "/\u{fffd}\u{fffd}", Some(NotUtf8));
        check("/%e9", "/\u{fffd}", Some(NotUtf8));
        check("/a%EF%BC%8Fb", "/a／b", Some(Lookalike));
        check("//x/admin", "/x/admin", Some(LeadingSlashes));
        check("///", "/", Some(LeadingSlashes));
        check("/%2f/x", "/x", Some(EncodedSlash));
        check("", "/", Some(NotAbsolute));
        check("admin", "/admin", Some(NotAbsolute));
    }

    /// Paths made of what tricks are made of.
    fn tricky() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => Just("/"), 4 => Just("/admin"), 2 => Just("/x/"), 2 => Just("./"), 2 => Just("admin"), 1 => Just("%61dmin"), 1 => Just("ADMIN"), 2 => Just("x"), 2 => Just(".."),
            2 => Just("."), 1 => Just("%2e"), 2 => Just("%2f"), 2 => Just("%252f"), 1 => Just("%25%32%66"), 2 => Just(";"),
            1 => Just(";a=b"), 1 => Just("%3b"), 2 => Just("\\"), 1 => Just("%5c"), 1 => Just("%00"), 1 => Just("%"),
            1 => Just("%2"), 1 => Just("5c"), 1 => Just("%c0%af"), 1 => Just("é"), 1 => Just("%C3%A9"), 1 => Just("%2561"),
            1 => Just("%09"), 1 => Just("\u{ff0f}"),
        ];
        proptest::collection::vec(part, 0..10).prop_map(|parts| format!("/{}", parts.concat()))
    }

    fn pattern(text: &str) -> RoutePattern {
        RoutePattern::parse(text, CaseSensitivity::Ignore).unwrap()
    }

    fn lenient_decode(path: &str) -> String {
        percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
    }

    /// Dots resolved and slashes merged, written apart from the code above.
    fn resolved(path: &str) -> String {
        let mut out: Vec<&str> = Vec::new();
        for word in path.split('/') {
            match word {
                "" | "." => {}
                ".." => drop(out.pop()),
                _ => out.push(word),
            }
        }
        format!("/{}", out.join("/"))
    }

    /// How apps of different makes might understand one path.
    fn readings(raw: &str) -> Vec<String> {
        let strip = |path: &str| {
            path.split('/').map(|word| word.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/")
        };
        let authority = |path: &str| match path.strip_prefix("//") {
            Some(rest) => rest.split_once('/').map_or_else(|| "/".to_owned(), |(_, path)| format!("/{path}")),
            None => path.to_owned(),
        };
        let steps: [&dyn Fn(&str) -> String; 6] = [
            &|path| lenient_decode(path),
            &strip,
            &|path| path.replace('\\', "/"),
            &|path| path.split('\0').next().unwrap_or_default().to_owned(),
            &|path| resolved(path),
            &authority,
        ];
        // Every order of up to four steps, each of which may come again.
        let mut out = vec![raw.to_owned()];
        let mut latest = out.clone();
        for _ in 0..4 {
            latest = latest.iter().flat_map(|path| steps.iter().map(move |step| step(path))).collect();
            latest.sort_unstable();
            latest.dedup();
            latest.retain(|path| !out.contains(path));
            out.extend(latest.iter().cloned());
        }
        out
    }

    fn is_admin(path: &str) -> bool {
        let path = path.to_lowercase();
        path == "/admin" || path.starts_with("/admin/")
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own(raw in tricky()) {
            let once = canonical_path(&raw);
            prop_assert!(once.path.starts_with('/'));
            if once.hostile.is_none() {
                let again = canonical_path(&once.path);
                prop_assert_eq!(&again.path, &once.path);
                prop_assert!(!once.path.contains("//"));
            }
        }

        #[test]
        fn the_fast_scan_and_the_slow_one_agree(raw in tricky()) {
            if is_canonical(raw.as_bytes()) {
                // Reads as the independent code above does, and an escaped first letter sends it the slow way.
                let expected = resolved(&raw);
                prop_assert_eq!(raw.strip_suffix('/').unwrap_or(&raw), expected.strip_suffix('/').unwrap_or(&expected));
                let slow = raw.replace('x', "%78").replace('n', "%6e");
                prop_assert_eq!(canonical_path(&slow).path, raw);
                prop_assert_eq!(canonical_path(&slow).hostile, None);
            }
        }

        #[test]
        fn no_reading_of_an_app_escapes_a_protected_route(raw in tricky()) {
            let read = canonical_path(&raw);
            if readings(&raw).iter().any(|reading| is_admin(reading)) {
                let guarded = pattern("/admin/**").matches(&Method::GET, &read.path);
                prop_assert!(guarded || read.hostile.is_some(), "{raw:?} is {read:?}");
            }
        }

        #[test]
        fn anything_is_read_without_a_panic(raw in "\\PC{0,40}", pattern in "(GET )?/?[a*/%.()\u{e9}]{0,12}") {
            let read = canonical_path(&raw);
            prop_assert!(read.path.len() <= raw.len() * 3 + 1);
            if let Ok(pattern) = RoutePattern::parse(&pattern, CaseSensitivity::Exact) {
                pattern.matches(&Method::GET, &read.path);
                prop_assert_eq!(RoutePattern::parse(&pattern.to_string(), CaseSensitivity::Exact), Ok(pattern));
            }
        }
    }
}
