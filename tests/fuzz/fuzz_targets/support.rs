//! Input that a person can write: a target that needs more than one piece of text takes one piece per line.

use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis::rules::diagnostic::Fault;

/// Lines that are read of one input. More cost time and find nothing new.
pub const LINES_MAX: usize = 64;

/// The lines of an input, without their ends.
pub fn lines(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|octet| *octet == b'\n').take(LINES_MAX)
}

/// Each line as a header of this name; what no header can hold is left out.
pub fn headers_named(name: &'static str, input: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in lines(input).filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        headers.append(name, value);
    }
    headers
}

/// Lines of the form `name: value`; what is none, or no header, is left out.
pub fn headers(input: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines(input) {
        let Some(colon) = line.iter().position(|octet| *octet == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// The first line of a text, and what follows it.
pub fn first_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

/// Characters of a line that is shown as a whole.
const LINE_SHOWN_MAX: usize = 1000;

/// Whether a fault is safe to be shown, and its place is one of the file's text.
pub fn points_at_the_text(fault: &Fault, file: &str, text: &str) {
    let shown = fault.to_string();
    assert!(shown.chars().all(|letter| letter == '\n' || !letter.is_control()), "a terminal is safe");
    drop(fault.to_json());
    let Some(spot) = fault.spot.as_ref().filter(|spot| *spot.file == *file) else { return };
    assert!(spot.line >= 1 && spot.column >= 1, "{spot:?}");
    let line = text.lines().nth(spot.line - 1).unwrap_or_default();
    if line.chars().count() <= LINE_SHOWN_MAX {
        assert_eq!((&*spot.source_line, spot.source_column), (line, 1), "{spot:?}");
    }
    let shown: String = line.chars().skip(spot.source_column - 1).collect();
    assert!(spot.source_column <= spot.column && shown.starts_with(&*spot.source_line), "{spot:?}");
    let behind: String = line.chars().skip(spot.column - 1).collect();
    assert!(spot.column - 1 <= line.chars().count() && behind.starts_with(&*spot.text), "{spot:?}");
}
