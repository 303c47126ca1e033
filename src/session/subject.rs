//! When two spellings of a subject are one: for indexes and limits, never for what is shown.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;

/// A subject as indexes and limits see it: without the space around it, in lower case, and in the compatibility form
/// NFKC of Unicode (UAX #15), in which Django and others look names up: `Ａlice` in full-width letters is `alice`.
///
/// Many apps take `Alice` and `alice` for one, and only the app knows whether it does. If they are one and are counted as
/// two, whoever knows a password evades a revocation by another spelling. If they are two and are counted as one, somebody
/// has to log in again. So they are one. Accents are kept: `josé` is not `jose`.
pub fn folded(subject: &str) -> Cow<'_, str> {
    let subject = subject.trim();
    if !subject.is_ascii() {
        let lower: String = subject.nfkc().flat_map(char::to_lowercase).nfkc().collect();
        return Cow::Owned(lower.trim().to_owned());
    }
    if subject.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(subject.to_ascii_lowercase());
    }
    Cow::Borrowed(subject)
}

/// Whether two spellings are one subject.
pub fn is_same(one: &str, other: &str) -> bool {
    one == other || folded(one) == folded(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_that_an_app_may_take_for_one_are_one() {
        for spelling in
            ["Alice", "ALICE", " alice ", "\talice\n", "ａｌｉｃｅ", "Ａlice", "\u{a0}alice", "alice\u{3000}"]
        {
            assert!(is_same("alice", spelling), "{spelling:?}");
        }
        assert!(is_same("Jos\u{e9}", "jose\u{301}") && is_same("ÉVE", "éve") && is_same("\u{212a}im", "kim"));
        for other in ["alice2", "al ice", "alic\u{e9}", "аlice", ""] {
            assert!(!is_same("alice", other), "{other:?}");
        }
    }

    #[test]
    fn what_is_folded_already_is_borrowed() {
        assert!(matches!(folded("alice@example.org"), Cow::Borrowed("alice@example.org")));
        assert!(matches!(folded(" 42 "), Cow::Borrowed("42")));
    }

    proptest! {
        #[test]
        fn letters_of_ascii_fold_as_everybody_expects(name in "[ -~]{0,20}") {
            prop_assert_eq!(folded(&name), name.trim().to_lowercase());
        }

        #[test]
        fn case_and_space_make_no_difference(name in "\\PC{0,12}") {
            let spaced = format!(" {name}\t");
            prop_assert!(is_same(&name, &spaced));
        }
    }
}
