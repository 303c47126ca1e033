//! The languages that a client asks for.

use std::fmt;

use super::short;

/// Bytes of an `Accept-Language` that are read; browsers send up to 100.
pub const ACCEPT_LANGUAGE_BYTES_MAX: usize = 256;

/// The languages a client asks for: its first one, and a hash of the whole list.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Language {
    /// Up to three letters of five bits each, the first in the highest; 0 for `*` and the like.
    pub(super) primary: u16,
    /// 0 if the header was absent. Sixteen bits are enough for what is worth a few points.
    pub(super) list: u16,
}

impl Language {
    /// Reads an `Accept-Language` header. Total.
    pub fn parse(raw: &[u8]) -> Self {
        let raw = raw.get(..ACCEPT_LANGUAGE_BYTES_MAX).unwrap_or(raw).trim_ascii();
        let letters = raw.iter().take_while(|byte| byte.is_ascii_alphabetic()).take(3);
        let (primary, _) = letters.fold((0, 10), |(packed, shift): (u16, u32), letter| {
            (packed | u16::from(letter & 0x1f).wrapping_shl(shift), shift.saturating_sub(5))
        });
        Self { primary, list: short(raw) }
    }

    /// Its first word in small letters, at most three; empty for `*` and for none.
    pub fn letters(self, into: &mut [u8; 3]) -> &str {
        let letters = [10, 5, 0].into_iter().map(|shift| (self.primary >> shift) & 0x1f).filter(|letter| *letter != 0);
        let mut count = 0;
        for (place, letter) in into.iter_mut().zip(letters) {
            let [_, letter] = letter.to_be_bytes();
            *place = letter | 0x60;
            count += 1;
        }
        into.get(..count).and_then(|letters| std::str::from_utf8(letters).ok()).unwrap_or_default()
    }

    /// Whether no `Accept-Language` was sent.
    pub const fn is_absent(self) -> bool {
        self.list == 0
    }
}

/// The first language: `de`, `*` for none in particular, `absent`.
impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_absent() {
            return f.write_str("absent");
        }
        if self.primary == 0 {
            return f.write_str("*");
        }
        for shift in [10, 5, 0] {
            let [_, letter] = ((self.primary >> shift) & 0x1f).to_be_bytes();
            if letter != 0 {
                write!(f, "{}", char::from(letter | 0x60))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Language({self} {:04x})", self.list)
    }
}
