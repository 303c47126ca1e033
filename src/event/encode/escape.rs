//! Escaping: no text, whoever wrote it, ends a line, moves a cursor, or shows as something else than it is.

use super::put;
use crate::event::field::cut;

/// Bytes of one text in a line; what is longer is cut and ends in `...`.
pub(super) const TEXT_BYTES_MAX: usize = 256;

/// Whether a character is written as its number: it is invisible, ends a line, or changes how others are shown.
pub(super) const fn is_hidden(char: char) -> bool {
    matches!(char,
        // C0 (with tab, line feed and escape), delete, C1 (with next line and the eight-bit CSI).
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
        | '\u{ad}' | '\u{61c}' | '\u{180e}'
        // Zero width, line and paragraph separators, and everything that turns the writing direction.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        // Variation selectors, byte order mark, interlinear annotation.
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        // Tags and more variation selectors: text hidden in text.
        | '\u{e0000}'..='\u{e0fff}')
}

/// How a hidden character is spelled.
#[derive(Clone, Copy)]
pub(super) enum Spelling {
    /// `\u202e`, as JSON wants it.
    Json,
    /// The same, and of all letters that are not of ASCII.
    AsciiJson,
    /// `\u{202e}`.
    Human,
}

/// Whether a text stands in a line as it is: of the letters that nearly every text has alone.
pub(super) fn is_plain(text: &str) -> bool {
    let is_odd = |byte: &u8| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\');
    // Without a way out in the middle it is done for many letters at once.
    !text.as_bytes().iter().fold(false, |odd, byte| odd | is_odd(byte))
}

/// Appends the text in double quotes, cut to [`TEXT_BYTES_MAX`].
pub(super) fn quoted(out: &mut Vec<u8>, text: &str, spelling: Spelling) {
    // The room for all that stands as it is is made once.
    out.reserve(text.len() + 2);
    out.push(b'"');
    bare(out, text, spelling);
    out.push(b'"');
}

/// Appends the text without quotes around it; quotes within it are escaped all the same.
#[inline]
pub(super) fn bare(out: &mut Vec<u8>, text: &str, spelling: Spelling) {
    if text.len() <= TEXT_BYTES_MAX && is_plain(text) {
        out.extend_from_slice(text.as_bytes());
    } else {
        odd(out, text, spelling);
    }
}

/// The same for a text that does not stand there as it is.
#[cold]
fn odd(out: &mut Vec<u8>, text: &str, spelling: Spelling) {
    let shown = cut(text, TEXT_BYTES_MAX);
    let mut plain = 0;
    for (at, char) in shown.char_indices() {
        let is_foreign = matches!(spelling, Spelling::AsciiJson) && !char.is_ascii();
        if char == '"' || char == '\\' || is_hidden(char) || is_foreign {
            out.extend_from_slice(shown.get(plain..at).unwrap_or_default().as_bytes());
            escaped(out, char, spelling);
            plain = at + char.len_utf8();
        }
    }
    out.extend_from_slice(shown.get(plain..).unwrap_or_default().as_bytes());
    if shown.len() < text.len() {
        out.extend_from_slice(b"...");
    }
}

fn escaped(out: &mut Vec<u8>, char: char, spelling: Spelling) {
    match (char, spelling) {
        ('"', _) => out.extend_from_slice(b"\\\""),
        ('\\', _) => out.extend_from_slice(b"\\\\"),
        (_, Spelling::Human) => put(out, format_args!("\\u{{{:x}}}", u32::from(char))),
        (_, Spelling::Json | Spelling::AsciiJson) => {
            for unit in char.encode_utf16(&mut [0; 2]) {
                put(out, format_args!("\\u{unit:04x}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(text: &str) -> String {
        let mut out = Vec::new();
        quoted(&mut out, text, Spelling::Json);
        String::from_utf8(out).unwrap()
    }

    fn human(text: &str) -> String {
        let mut out = Vec::new();
        quoted(&mut out, text, Spelling::Human);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_could_deceive_a_reader_is_spelled_out() {
        let check = |text, in_json, for_people| {
            assert_eq!(json(text), in_json);
            assert_eq!(human(text), for_people);
        };
        check("Grüße 日本", "\"Grüße 日本\"", "\"Grüße 日本\"");
        check("a\"b\\c", r#""a\"b\\c""#, r#""a\"b\\c""#);
        check("a\r\nb\t", r#""a\u000d\u000ab\u0009""#, r#""a\u{d}\u{a}b\u{9}""#);
        check("\u{1b}[2J\u{9b}", r#""\u001b[2J\u009b""#, r#""\u{1b}[2J\u{9b}""#);
        check("\u{202e}gpj.\u{2066}", r#""\u202egpj.\u2066""#, r#""\u{202e}gpj.\u{2066}""#);
        check("\u{2028}\u{2029}\u{85}", r#""\u2028\u2029\u0085""#, r#""\u{2028}\u{2029}\u{85}""#);
        check("\u{e0041}\u{feff}", r#""\udb40\udc41\ufeff""#, r#""\u{e0041}\u{feff}""#);
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let long = json(&"\u{1b}".repeat(100_000));
        assert!(long.len() <= 2 + 6 * TEXT_BYTES_MAX + 3 && long.ends_with("...\""));
    }

    proptest! {
        #[test]
        fn json_reads_back_what_was_written(text in any::<String>()) {
            prop_assume!(text.len() <= TEXT_BYTES_MAX);
            let written = json(&text);
            prop_assert!(!written.chars().any(is_hidden));
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }

        #[test]
        fn what_is_plain_is_what_is_written_as_it_is(text in "[ -~\u{7f}\u{e9}\n]{0,40}") {
            prop_assert_eq!(is_plain(&text), json(&text).trim_matches('"') == text && text.is_ascii() && !text.contains('"'));
        }

        #[test]
        fn a_line_for_people_hides_nothing(text in any::<String>()) {
            prop_assert!(!human(&text).chars().any(|c| is_hidden(c) || c.is_control()));
        }
    }
}
