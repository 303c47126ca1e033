//! Who tries to log in: the subject named in a form, a JSON body or a header.
//!
//! What the app will make of a request can only be guessed, so anything that two readers could read differently (a field
//! given twice, in the query too, cut off by the limit) is no subject at all: [`Named::Ambiguous`].

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use percent_encoding::percent_decode;
use smallvec::SmallVec;

use crate::rules::SubjectSource;
use crate::session::record::SUBJECT_BYTES_MAX;

/// What a login request says about its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// One subject, named once.
    Subject(Arc<str>),
    /// None.
    Nobody,
    /// More than one reading is possible.
    Ambiguous,
}

impl Named {
    /// The one subject that is named, if there is one.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Subject(subject) => Some(subject),
            Self::Nobody | Self::Ambiguous => None,
        }
    }
}

/// The part of a request body that was looked at before it was sent on.
#[derive(Clone, Copy, Debug)]
pub struct Peeked<'a> {
    /// Its first bytes.
    pub bytes: &'a [u8],
    /// Whether they are all of it.
    pub extent: Extent,
}

/// How much of a body was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Only its beginning: the limit was reached.
    Beginning,
}

/// The subject that a login request names.
pub fn named(source: &SubjectSource, headers: &HeaderMap, query: Option<&str>, body: Option<Peeked<'_>>) -> Named {
    match source {
        SubjectSource::None => Named::Nobody,
        SubjectSource::Header(name) => {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => Named::Nobody,
                (Some(value), None) => value.to_str().map_or(Named::Ambiguous, subject),
                _ => Named::Ambiguous,
            }
        }
        SubjectSource::Form(field) => in_form(field, headers, query, body),
        // An app that takes a value from wherever it finds one takes it from the query too.
        SubjectSource::Json(pointer) if query.is_some_and(|query| is_in_query(&field_of(pointer), query)) => {
            Named::Ambiguous
        }
        SubjectSource::Json(pointer) => in_json(pointer, headers, body),
    }
}

fn subject(text: &str) -> Named {
    match text.trim() {
        "" => Named::Nobody,
        long if long.len() > SUBJECT_BYTES_MAX => Named::Ambiguous,
        // Where a name ends that holds a NUL or a line end, only the app knows.
        odd if odd.contains(char::is_control) => Named::Ambiguous,
        text => Named::Subject(text.into()),
    }
}

fn in_form(field: &str, headers: &HeaderMap, query: Option<&str>, body: Option<Peeked<'_>>) -> Named {
    let in_query = query.is_some_and(|query| is_in_query(field, query));
    let Some(body) = body.filter(|body| !body.bytes.is_empty()) else {
        return if in_query { Named::Ambiguous } else { Named::Nobody };
    };
    let found: Vec<Cow<'_, str>> = match body_kind(headers) {
        Some(kind) if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") => {
            // Some apps also part the pairs at `;`.
            let mut apart = body.bytes.split(|octet| *octet == b';').skip(1).flat_map(pairs);
            let other = pairs(body.bytes).any(|(name, _)| name != field && resembles(&name, field));
            if other || apart.any(|(name, _)| resembles(&name, field)) {
                return Named::Ambiguous;
            }
            pairs(body.bytes).filter(|(name, _)| name == field).map(|(_, value)| value).take(2).collect()
        }
        Some(kind) if kind.eq_ignore_ascii_case("multipart/form-data") => match multipart(field, headers, body.bytes) {
            Some(values) => values,
            None => return Named::Ambiguous,
        },
        // Many apps take a form as JSON too: `user[email]` is then `/user/email`.
        Some(kind) if is_json(kind) && !in_query => {
            let pointer: String = steps(field).iter().map(|step| format!("/{}", escaped(step))).collect();
            return in_json(&pointer, headers, Some(body));
        }
        // An app may read the field out of any kind of body, and only it knows which.
        _ => return Named::Ambiguous,
    };
    match (found.as_slice(), in_query, body.extent) {
        ([], false, Extent::Whole) => Named::Nobody,
        ([one], false, Extent::Whole) => subject(one),
        // Beyond the limit the field may stand once more.
        _ => Named::Ambiguous,
    }
}

fn is_in_query(field: &str, query: &str) -> bool {
    pairs(query.as_bytes()).any(|(name, _)| resembles(&name, field))
}

/// How a form names what stands at a pointer: `user[email]` for `/user/email`.
fn field_of(pointer: &str) -> String {
    let mut steps = pointer.split('/').skip(1);
    let first = steps.next().unwrap_or_default().to_owned();
    steps.fold(first, |field, step| format!("{field}[{step}]"))
}

/// Whether a lenient app may take a name for the field's: PHP trims it, cuts it at a NUL and behind a bracket and folds dots
/// and spaces, Rack lets brackets stand open, ASP.NET and others ignore the case. An index into a plain field may be one too.
fn resembles(name: &str, field: &str) -> bool {
    let (name, field) = (steps(name), steps(field));
    name == field || name.first() == field.first() && (name.len() == 1 || field.len() == 1)
}

/// The words of `user[email]`: `user` and `email`, folded as lenient apps do.
fn steps(name: &str) -> SmallVec<[String; 2]> {
    let name = name.split('\0').next().unwrap_or(name).trim();
    let mut words = name.split('[');
    let base = words.next().unwrap_or_default();
    // Of a word in brackets, what stands before the closing one.
    let inner = words.map(|word| word.split(']').next().unwrap_or(word));
    let folded = |word: &str| -> String {
        let letters = word.trim().chars().flat_map(char::to_lowercase);
        letters.map(|letter| if matches!(letter, '.' | ' ' | '+') { '_' } else { letter }).collect()
    };
    std::iter::once(base).chain(inner).map(folded).filter(|word| !word.is_empty()).collect()
}

/// A step of a JSON pointer (RFC 6901, section 3).
fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

/// The media type of a body, if it is certain how to read it: one line, no coding, and letters that are one octet each or
/// UTF-8.
fn body_kind(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(CONTENT_TYPE).iter();
    let (line, again) = (lines.next()?, lines.next());
    if again.is_some() || headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let (kind, parameters) = match line.to_str().ok()?.split_once(';') {
        Some((kind, parameters)) => (kind, parameters),
        None => (line.to_str().ok()?, ""),
    };
    let charsets = || parameters.split(';').filter_map(|parameter| value_of(parameter, "charset"));
    let known = ["utf-8", "utf8", "us-ascii", "iso-8859-1", "windows-1252"];
    let readable = charsets().all(|charset| known.iter().any(|known| charset.eq_ignore_ascii_case(known)));
    readable.then_some(kind.trim())
}

/// The value of a parameter of that name.
fn value_of<'a>(parameter: &'a str, name: &str) -> Option<&'a str> {
    let (own, value) = parameter.split_once('=')?;
    own.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
}

fn is_json(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("application/json")
        || kind.get(kind.len().saturating_sub(5)..).is_some_and(|end| end.eq_ignore_ascii_case("+json"))
}

/// Name and value of each pair of an urlencoded form (WHATWG URL, section 5).
fn pairs(form: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = match memchr::memchr(b'=', pair) {
            Some(at) => pair.split_at(at),
            None => (pair, &b""[..]),
        };
        (unescape(name), unescape(value.get(1..).unwrap_or_default()))
    })
}

fn unescape(text: &[u8]) -> Cow<'_, str> {
    if !text.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return String::from_utf8_lossy(text);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).decode_utf8_lossy().into_owned())
}

/// The values of a field of a multipart form (RFC 7578), up to two; none when the form can not be read for certain.
fn multipart<'a>(field: &str, headers: &HeaderMap, body: &'a [u8]) -> Option<Vec<Cow<'a, str>>> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let mut boundaries = text.split(';').skip(1).filter_map(|parameter| value_of(parameter, "boundary"));
    let boundary = boundaries.next()?;
    if boundary.is_empty() || boundary.len() > 70 || boundaries.next().is_some() {
        return None;
    }
    let delimiter = format!("--{boundary}");
    let mut values = Vec::new();
    let starts: Vec<usize> = memchr::memmem::find_iter(body, delimiter.as_bytes()).take(64).collect();
    for (at, start) in starts.iter().enumerate() {
        let end = starts.get(at + 1).copied().unwrap_or(body.len());
        let part = body.get(start + delimiter.len()..end)?;
        let Some(blank) = memchr::memmem::find(part, b"\r\n\r\n") else { continue };
        let (head, value) = part.split_at_checked(blank)?;
        if names_field(&String::from_utf8_lossy(head), field)? {
            let value = value.get(4..)?.strip_suffix(b"\r\n")?;
            values.push(String::from_utf8_lossy(value));
        }
    }
    (starts.len() < 64).then_some(values)
}

/// Whether a part's head names the field; none when it names something in a way that could be read as it.
fn names_field(head: &str, field: &str) -> Option<bool> {
    let line = head.lines().find(|line| {
        line.split_once(':').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
    })?;
    let names: Vec<&str> = line
        .split(';')
        .skip(1)
        .filter_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().get(..4).is_some_and(|start| start.eq_ignore_ascii_case("name")).then(|| value.trim())
        })
        .collect();
    match names.as_slice() {
        [one] => {
            let name = one.trim_matches('"');
            if name != field && resembles(name, field) { None } else { Some(name == field) }
        }
        _ => None,
    }
}

fn in_json(pointer: &str, headers: &HeaderMap, body: Option<Peeked<'_>>) -> Named {
    let Some(body) = body.filter(|body| !body.bytes.is_empty()) else { return Named::Nobody };
    if !body_kind(headers).is_some_and(is_json) || body.extent == Extent::Beginning {
        return Named::Ambiguous;
    }
    let Ok(value) = serde_json::from_slice::<Unique>(body.bytes) else { return Named::Ambiguous };
    if has_variant(&value.0, pointer) {
        return Named::Ambiguous;
    }
    match value.0.pointer(pointer) {
        None | Some(serde_json::Value::Null) => Named::Nobody,
        Some(serde_json::Value::String(text)) => subject(text),
        // Two large numbers may be one to us and two to the app.
        Some(serde_json::Value::Number(number)) if number.is_f64() => Named::Ambiguous,
        Some(serde_json::Value::Number(number)) => subject(&number.to_string()),
        Some(_) => Named::Ambiguous,
    }
}

/// Whether an object on the way to the pointer has a name that a reader without regard to case takes for the next step.
fn has_variant(mut value: &serde_json::Value, pointer: &str) -> bool {
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        if let serde_json::Value::Object(object) = value
            && object.keys().any(|name| *name != step && name.to_lowercase() == step.to_lowercase())
        {
            return true;
        }
        match value.get(&step) {
            Some(next) => value = next,
            None => return false,
        }
    }
    false
}

/// A JSON value in which no object has a name twice: readers disagree on which of the two counts.
struct Unique(serde_json::Value);

impl<'de> serde::Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> serde::de::Visitor<'de> for UniqueVisitor {
    type Value = serde_json::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON in which no object has a name twice")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(serde_json::Value::Null)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Unique(value)) = seq.next_element()? {
            all.push(value);
        }
        Ok(all.into())
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all = serde_json::Map::new();
        while let Some((name, Unique(value))) = map.next_entry::<String, Unique>()? {
            if all.insert(name, value).is_some() {
                return Err(serde::de::Error::custom("a name stands twice"));
            }
        }
        Ok(all.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(content_type: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        headers
    }

    fn whole(bytes: &[u8]) -> Option<Peeked<'_>> {
        Some(Peeked { bytes, extent: Extent::Whole })
    }

    fn alice() -> Named {
        Named::Subject("alice".into())
    }

    #[test]
    fn a_form_names_its_subject_once() {
        let source = SubjectSource::Form("username".into());
        let form = headers("application/x-www-form-urlencoded; charset=UTF-8");
        let check = |query: Option<&str>, body: &str, expected: Named| {
            assert_eq!(named(&source, &form, query, whole(body.as_bytes())), expected, "{query:?} {body}");
        };
        check(None, "csrf=x&username=alice&password=p%26w", alice());
        check(None, "user%6Eame=+alice+&x", alice());
        check(None, "username=a%40b.de", Named::Subject("a@b.de".into()));
        check(None, "password=p", Named::Nobody);
        check(None, "username=&password=p", Named::Nobody);
        check(None, "username=alice&username=bob", Named::Ambiguous);
        check(None, "username=alice%00junk", Named::Ambiguous);
        check(None, "username=%00unclear", Named::Ambiguous);
        check(None, "username=alice%0d%0abob", Named::Ambiguous);
        // What a lenient app would read as the same field.
        check(None, "username=alice&%20username=bob", Named::Ambiguous);
        check(None, "username=alice&Username=bob", Named::Ambiguous);
        check(None, "username=alice&username%00x=bob", Named::Ambiguous);
        check(None, "username=alice&username[]=bob", Named::Ambiguous);
        check(Some("username=alice"), "", Named::Ambiguous);
        check(Some("next=%2F"), "", Named::Nobody);
        assert_eq!(named(&source, &form, Some("username=alice"), None), Named::Ambiguous);
        check(Some("USERNAME=bob"), "username=alice", Named::Ambiguous);
        check(None, "username=alice&username2=bob", alice());
        check(None, "username=alice&x=1;username=bob", Named::Ambiguous);
        check(None, "username=alice&x=1;y=2", alice());
        check(Some("username=bob"), "username=alice", Named::Ambiguous);
        check(Some("next=/"), "username=alice", alice());
        let cut = Some(Peeked { bytes: b"username=alice", extent: Extent::Beginning });
        assert_eq!(named(&source, &form, None, cut), Named::Ambiguous);
        assert_eq!(named(&source, &headers("text/plain"), None, whole(b"username=alice")), Named::Ambiguous);
        assert_eq!(named(&source, &headers("text/plain"), None, whole(b"")), Named::Nobody);
        let mut packed = form.clone();
        packed.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(named(&source, &packed, None, whole(b"username=alice")), Named::Ambiguous);
        let mut twice = form.clone();
        twice.append(CONTENT_TYPE, "application/json".parse().unwrap());
        assert_eq!(named(&source, &twice, None, whole(b"username=alice")), Named::Ambiguous);
        let foreign = headers("application/x-www-form-urlencoded; charset=ibm037");
        assert_eq!(named(&source, &foreign, None, whole(b"username=alice")), Named::Ambiguous);
        let long = format!("username={}", "a".repeat(300));
        assert_eq!(named(&source, &form, None, whole(long.as_bytes())), Named::Ambiguous);
    }

    #[test]
    fn a_field_in_brackets_is_known_however_they_stand() {
        let source = SubjectSource::Form("user[email]".into());
        let form = headers("application/x-www-form-urlencoded");
        let check = |body: &str, expected: Named| {
            assert_eq!(named(&source, &form, None, whole(body.as_bytes())), expected, "{body}");
        };
        check("user[email]=alice&user[password]=p", alice());
        check("user%5Bemail%5D=alice", alice());
        for other in
            ["user[email", "[user][email]", "user[email]x", "user[email]%00", "user[Email]", "user[email][]", "user"]
        {
            check(&format!("user[email]=alice&{other}=bob"), Named::Ambiguous);
        }
        let json = headers("application/json; charset=utf-8");
        let body = br#"{"user":{"email":"alice","password":"p"}}"#;
        assert_eq!(named(&source, &json, None, whole(body)), alice());
        assert_eq!(named(&source, &json, Some("user[email]=bob"), whole(body)), Named::Ambiguous);
    }

    #[test]
    fn a_multipart_form_names_its_subject_once() {
        let source = SubjectSource::Form("username".into());
        let form = headers("multipart/form-data; boundary=\"xyz\"");
        let part =
            |name: &str, value: &str| format!("--xyz\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n");
        let check = |parts: &[String], expected: Named| {
            let body = format!("{}--xyz--\r\n", parts.concat());
            assert_eq!(named(&source, &form, None, whole(body.as_bytes())), expected, "{body}");
        };
        check(&[part("name=\"csrf\"", "1"), part("name=\"username\"", "alice")], alice());
        check(&[part("name=\"username\"", "alice"), part("name=username", "bob")], Named::Ambiguous);
        check(&[part("name=\"username\"; name=\"x\"", "alice")], Named::Ambiguous);
        check(&[part("name=\"username\"; name*=utf-8''x", "alice")], Named::Ambiguous);
        check(&[part("name=\"file\"; filename=\"username\"", "alice")], Named::Nobody);
        assert_eq!(named(&source, &headers("multipart/form-data"), None, whole(b"--xyz")), Named::Ambiguous);
        let two = headers("multipart/form-data; boundary=abc; boundary=xyz");
        assert_eq!(named(&source, &two, None, whole(b"--abc--")), Named::Ambiguous);
    }

    #[test]
    fn a_json_body_names_its_subject_once() {
        let source = SubjectSource::Json("/user/name".into());
        let json = headers("application/json");
        let check = |body: &str, expected: Named| {
            assert_eq!(named(&source, &json, None, whole(body.as_bytes())), expected, "{body}");
        };
        for (query, expected) in [("user[name]=bob", Named::Ambiguous), ("next=/user/name", alice())] {
            let body = br#"{"user":{"name":"alice"}}"#;
            assert_eq!(named(&source, &json, Some(query), whole(body)), expected, "{query}");
        }
        assert_eq!(named(&source, &json, Some("user%5Bname%5D=bob"), whole(b"")), Named::Ambiguous);
        check(r#"{"user":{"name":"alice"},"password":"p"}"#, alice());
        check(r#"{"user":{"name":42}}"#, Named::Subject("42".into()));
        check(r#"{"user":{"name":null}}"#, Named::Nobody);
        check(r#"{"password":"p"}"#, Named::Nobody);
        check(r#"{"user":{"name":"alice","name":"bob"}}"#, Named::Ambiguous);
        check(r#"{"user":{"name":"alice"},"user":{}}"#, Named::Ambiguous);
        check(r#"{"user":{"name":["alice"]}}"#, Named::Ambiguous);
        check(r#"{"user":{"name":"alice"}"#, Named::Ambiguous);
        check(r#"{"user":{"name":"alice","Name":"bob"}}"#, Named::Ambiguous);
        check(r#"{"user":{"name":"alice"},"USER":{}}"#, Named::Ambiguous);
        check(r#"{"user":{"name":18446744073709551616}}"#, Named::Ambiguous);
        assert_eq!(named(&source, &headers("text/plain"), None, whole(b"{}")), Named::Ambiguous);
        // Deep nesting is refused by the parser, not by the end of the stack.
        check(&"[".repeat(100_000), Named::Ambiguous);
    }

    #[test]
    fn a_header_names_its_subject_once() {
        let source = SubjectSource::Header(http::HeaderName::from_static("x-user"));
        let mut headers = HeaderMap::new();
        assert_eq!(named(&source, &headers, None, None), Named::Nobody);
        headers.append("x-user", "alice".parse().unwrap());
        assert_eq!(named(&source, &headers, None, None), alice());
        headers.append("x-user", "bob".parse().unwrap());
        assert_eq!(named(&source, &headers, None, None), Named::Ambiguous);
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "application/json"] {
                for source in [SubjectSource::Form("a".into()), SubjectSource::Json("/a".into())] {
                    drop(named(&source, &headers(kind), None, whole(&body)));
                }
            }
        }
    }
}
