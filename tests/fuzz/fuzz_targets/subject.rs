//! Who tries to log in: a subject is named only where no other reading is left. The lines of the input: where to look
//! (`form:FIELD`, `json:POINTER`, `header:NAME`), the media type, the query, and then the body.
#![no_main]

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portcullis::engine::subject::{Extent, Named, Peeked, named};
use portcullis::rules::SubjectSource;
use portcullis::session::record::SUBJECT_BYTES_MAX;

const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=B";

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(4, |octet| *octet == b'\n');
    let (Some(Ok(place)), Some(Ok(kind)), Some(Ok(query)), Some(body)) = (
        lines.next().map(str::from_utf8),
        lines.next().map(str::from_utf8),
        lines.next().map(str::from_utf8),
        lines.next(),
    ) else {
        return;
    };
    let Some(source) = source(place) else { return };
    let mut headers = HeaderMap::new();
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(CONTENT_TYPE, kind);
    }
    if let SubjectSource::Header(name) = &source {
        for line in body.split(|octet| *octet == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()) {
            headers.append(name, line);
        }
    }
    let query = Some(query).filter(|query| !query.is_empty());
    let read = |bytes: &[u8], extent| named(&source, &headers, query, Some(Peeked { bytes, extent }));

    let whole = read(body, Extent::Whole);
    if let Some(subject) = whole.subject() {
        assert!((1..=SUBJECT_BYTES_MAX).contains(&subject.len()) && subject.trim() == subject);
    }
    if matches!(source, SubjectSource::Header(_)) {
        return;
    }
    assert!(!matches!(read(body, Extent::Beginning), Named::Subject(_)), "more may follow");
    if matches!(whole, Named::Subject(_)) {
        match &source {
            SubjectSource::Form(field) => a_second_field_is_seen(field, kind, body, read),
            SubjectSource::Json(pointer) => a_json_reader_agrees(pointer, body, &whole),
            SubjectSource::Header(_) | SubjectSource::None => {}
        }
    }
});

fn source(place: &str) -> Option<SubjectSource> {
    match place.split_once(':')? {
        ("form", field) if !field.is_empty() => Some(SubjectSource::Form(field.into())),
        ("json", pointer) if pointer.starts_with('/') => Some(SubjectSource::Json(pointer.into())),
        ("header", name) => {
            name.parse::<HeaderName>().ok().filter(|name| name != CONTENT_TYPE).map(SubjectSource::Header)
        }
        _ => None,
    }
}

/// One more field of the name, and there is no telling which of the two the app takes.
fn a_second_field_is_seen(field: &str, kind: &str, body: &[u8], read: impl Fn(&[u8], Extent) -> Named) {
    let plain = field.bytes().all(|octet| octet.is_ascii_alphanumeric());
    let doubled = match kind {
        FORM if plain => {
            [[field.as_bytes(), b"=eve&", body].concat(), [body, b"&", field.as_bytes(), b"=eve"].concat()]
        }
        MULTIPART if plain => {
            let part = format!("--B\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\neve\r\n");
            [[part.as_bytes(), body].concat(), [part.as_bytes(), b"--B", body].concat()]
        }
        _ => return,
    };
    for body in doubled {
        assert_eq!(read(&body, Extent::Whole), Named::Ambiguous, "{}", body.escape_ascii());
    }
}

fn a_json_reader_agrees(pointer: &str, body: &[u8], named: &Named) {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    let text = match value.pointer(pointer) {
        Some(serde_json::Value::String(text)) => text.trim().to_owned(),
        Some(serde_json::Value::Number(number)) => number.to_string(),
        other => panic!("{named:?} was made of {other:?}"),
    };
    assert_eq!(named.subject(), Some(text.as_str()));
}
