//! What the cookies of a request gave reason to report: the kind alone, never a name or a value.

use std::fmt;

/// Something about the cookies of a request that an event tells: the kind alone, never a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CookieFinding {
    /// Our cookie came more than once: cookie tossing from a neighbouring host.
    Duplicate,
    /// A bound cookie came more than once.
    DuplicateBound,
    /// A name that an app could take for our cookie's.
    LookAlike,
    /// A name that an app could take for a shielded or bound cookie's.
    ShieldLookAlike,
    /// The client sent a cookie that only the guard may send.
    ShieldedSent,
    /// A pair without a name.
    Nameless,
    /// `$Version` and its like, which switch old parsers to another grammar.
    LegacyAttribute,
    /// A name with octets that no name can have.
    NameSyntax,
    /// A quote that opens and does not close in its pair, so that it could swallow the pairs behind it.
    OpenQuote,
    /// A quote that opens in one pair and closes in a later one (cookie sandwich).
    Sandwich,
    /// A known name inside a value, behind a comma or space at which some parsers split.
    Smuggled,
    /// More pairs than are passed on.
    TooManyPairs,
    /// More octets than are passed on.
    TooManyBytes,
}

impl CookieFinding {
    const ALL: [Self; 13] = [
        Self::Duplicate,
        Self::DuplicateBound,
        Self::LookAlike,
        Self::ShieldLookAlike,
        Self::ShieldedSent,
        Self::Nameless,
        Self::LegacyAttribute,
        Self::NameSyntax,
        Self::OpenQuote,
        Self::Sandwich,
        Self::Smuggled,
        Self::TooManyPairs,
        Self::TooManyBytes,
    ];

    /// Its name in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::DuplicateBound => "duplicate_bound",
            Self::LookAlike => "look_alike",
            Self::ShieldLookAlike => "shield_look_alike",
            Self::ShieldedSent => "shielded_sent",
            Self::Nameless => "nameless",
            Self::LegacyAttribute => "legacy_attribute",
            Self::NameSyntax => "name_syntax",
            Self::OpenQuote => "open_quote",
            Self::Sandwich => "sandwich",
            Self::Smuggled => "smuggled",
            Self::TooManyPairs => "too_many_pairs",
            Self::TooManyBytes => "too_many_bytes",
        }
    }
}

/// The findings of one request, each at most once: a client can not make it grow.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Findings(u16);

impl Findings {
    pub(super) const fn add(&mut self, finding: CookieFinding) {
        self.0 |= 1 << finding as u8;
    }

    /// Whether there is nothing to tell.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is among them.
    pub const fn contains(self, finding: CookieFinding) -> bool {
        self.0 & (1 << finding as u8) != 0
    }

    /// All of them, in the order of [`CookieFinding`].
    pub fn iter(self) -> impl Iterator<Item = CookieFinding> {
        CookieFinding::ALL.into_iter().filter(move |finding| self.contains(*finding))
    }
}

impl fmt::Debug for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
