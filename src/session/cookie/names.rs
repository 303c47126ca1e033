//! The cookie names the guard knows: its own, the shielded and the bound ones, and the names that pass for one of them.
//!
//! Apps read names more loosely than browsers write them: ASP.NET in any case, PHP with `.` and `+` for `_`, old PHP and
//! Rack after percent-decoding. A name that becomes a known one that way is a variant, and never reaches the app.

use std::fmt;

use smallvec::SmallVec;

use super::{CookieKind, is_token, is_token_byte};

/// Most pairs of one request that are passed on: what Chromium keeps for one site.
pub const COOKIE_PAIRS_MAX: usize = 180;

/// Most octets of cookies of one request that are passed on.
pub const COOKIE_BYTES_MAX: usize = 16 * 1024;

/// In how many cookies a client carries the state of its session, at most. They travel in one line with all others, and
/// servers and load balancers take lines of 8 to 16 KiB.
pub const CARRIED_COOKIES_MAX: u8 = 3;

/// The name of one of them, counted from 0.
pub(super) fn carried_name(guard: &str, at: u8) -> String {
    format!("{guard}-{}", u16::from(at) + 1)
}

/// Why a text is no cookie pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing before the `*`, or nothing at all.
    #[error("a cookie name is missing")]
    Empty,
    /// A `*` that is not the last character.
    #[error("`*` may stand only at the end of a cookie name")]
    StarInside,
    /// An octet that no cookie name can have.
    #[error("a cookie name is made of letters, digits and !#$%&'+-.^_`|~")]
    NotAToken,
}

/// A cookie's name, or with a trailing `*` the beginning of some names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiePattern {
    stem: Box<str>,
    folded: Box<[u8]>,
    reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Whole,
    Beginning,
}

impl CookiePattern {
    /// Reads `sessionid` or `wordpress_logged_in_*`.
    ///
    /// # Errors
    /// When it is empty, has a `*` before its end, or an octet that no cookie name can have.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (stem, reach) = match text.strip_suffix('*') {
            Some(stem) => (stem, Reach::Beginning),
            None => (text, Reach::Whole),
        };
        if stem.is_empty() {
            return Err(PatternError::Empty);
        }
        if stem.contains('*') {
            return Err(PatternError::StarInside);
        }
        if !is_token(stem.as_bytes()) {
            return Err(PatternError::NotAToken);
        }
        Ok(Self { stem: stem.into(), folded: fold_name(stem.as_bytes()).into_boxed_slice(), reach })
    }

    /// Whether it names exactly this cookie.
    pub fn matches(&self, name: &[u8]) -> bool {
        match self.reach {
            Reach::Whole => name == self.stem.as_bytes(),
            Reach::Beginning => name.starts_with(self.stem.as_bytes()),
        }
    }

    /// Whether a lenient app may take a name of plain token octets for one of these.
    fn resembles(&self, name: &[u8]) -> bool {
        let enough = match self.reach {
            Reach::Whole => name.len() == self.folded.len(),
            Reach::Beginning => name.len() >= self.folded.len(),
        };
        enough && self.folded.iter().zip(name).all(|(want, byte)| *want == fold(*byte))
    }
}

impl fmt::Display for CookiePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stem)?;
        match self.reach {
            Reach::Whole => Ok(()),
            Reach::Beginning => f.write_str("*"),
        }
    }
}

/// Cookies of the app that the client never sees, and what their values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShieldName {
    /// Which cookies.
    pub pattern: CookiePattern,
    /// What a new value means.
    pub kind: CookieKind,
}

/// What a cookie is to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieRole {
    /// The guard's own cookie.
    Guard,
    /// One of those in which a client carries the state of its session, from 0: `__Host-portcullis-1` and so on.
    Carried(u8),
    /// An app's cookie that the client never sees.
    Shield(CookieKind),
    /// An app's cookie that passes, bound to ours.
    Bind,
}

/// Every name the guard knows, with the limits of what it reads. Built once from the settings.
#[derive(Clone, Debug)]
pub struct CookieNames {
    entries: Box<[(CookiePattern, CookieRole)]>,
    /// The first octets of the folded names, one bit each: most cookies of a request are told apart by this alone.
    firsts: u128,
    pub(super) pairs_max: usize,
    pub(super) bytes_max: usize,
}

impl CookieNames {
    /// The names of the guard's cookie, of the shielded and of the bound cookies, in order of precedence.
    ///
    /// # Errors
    /// When `guard` is no cookie name.
    pub fn try_new(
        guard: &str,
        shield: impl IntoIterator<Item = ShieldName>,
        bind: impl IntoIterator<Item = CookiePattern>,
    ) -> Result<Self, PatternError> {
        let pattern = CookiePattern::parse(guard)?;
        if pattern.reach == Reach::Beginning {
            return Err(PatternError::StarInside);
        }
        let carried = (0..CARRIED_COOKIES_MAX)
            .map(|at| Ok((CookiePattern::parse(&carried_name(guard, at))?, CookieRole::Carried(at))))
            .collect::<Result<Vec<_>, _>>()?;
        let entries: Box<[_]> = std::iter::once((pattern, CookieRole::Guard))
            .chain(carried)
            .chain(shield.into_iter().map(|name| (name.pattern, CookieRole::Shield(name.kind))))
            .chain(bind.into_iter().map(|pattern| (pattern, CookieRole::Bind)))
            .collect();
        let firsts =
            entries.iter().filter_map(|(pattern, _)| pattern.folded.first()).fold(0, |set, byte| set | bit(*byte));
        Ok(Self { entries, firsts, pairs_max: COOKIE_PAIRS_MAX, bytes_max: COOKIE_BYTES_MAX })
    }

    /// The same names with other limits: pairs, and octets of all pairs, that are passed on.
    #[must_use]
    pub fn with_limits(self, pairs_max: usize, bytes_max: usize) -> Self {
        Self { pairs_max, bytes_max, ..self }
    }

    /// What the cookie of exactly this name is to the guard.
    pub fn role(&self, name: &[u8]) -> Option<CookieRole> {
        self.entries.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, role)| *role)
    }

    /// What a name is to the guard, exactly or as a lenient app would read it.
    pub(super) fn find(&self, name: &[u8]) -> Known {
        // Ours is in nearly every request, so it is looked for first.
        if let Some((guard, CookieRole::Guard)) = self.entries.first()
            && guard.matches(name)
        {
            return Known::Exactly(CookieRole::Guard);
        }
        match Spelling::of(name) {
            Spelling::Plain => self.find_plain(name),
            Spelling::Escaped => match self.role(name) {
                Some(role) => Known::Exactly(role),
                None => self.variant(&fold_name(name)).map_or(Known::Other, Known::Variant),
            },
            Spelling::Broken => self.variant(&fold_name(name)).map_or(Known::Broken, Known::Variant),
        }
    }

    fn find_plain(&self, name: &[u8]) -> Known {
        if name.first().is_none_or(|byte| self.firsts & bit(fold(*byte)) == 0) {
            return Known::Other;
        }
        match self.variant(name) {
            None => Known::Other,
            // An exact name wins over a variant of one that stands earlier.
            Some(variant) => self.role(name).map_or(Known::Variant(variant), Known::Exactly),
        }
    }

    fn variant(&self, name: &[u8]) -> Option<CookieRole> {
        self.entries.iter().find(|(pattern, _)| pattern.resembles(name)).map(|(_, role)| *role)
    }
}

/// What a name turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// One of ours, octet for octet.
    Exactly(CookieRole),
    /// Not one of ours, but an app may read it as one.
    Variant(CookieRole),
    /// A name we do not know.
    Other,
    /// No name at all by the grammar.
    Broken,
}

/// How much work a name needs before it can be compared.
enum Spelling {
    Plain,
    Escaped,
    Broken,
}

impl Spelling {
    fn of(name: &[u8]) -> Self {
        let mut spelling = Self::Plain;
        for byte in name {
            match byte {
                b'%' => spelling = Self::Escaped,
                byte if is_token_byte(*byte) => {}
                _ => return Self::Broken,
            }
        }
        spelling
    }
}

const fn bit(byte: u8) -> u128 {
    if byte < 128 { 1 << byte } else { 0 }
}

/// The octet that a lenient app may read this one as.
const fn fold(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' => byte | 0x20,
        b'.' | b'+' => b'_',
        _ => byte,
    }
}

/// What the most lenient app makes of a name: decoded once, cut at a NUL, freed of what is no name at either end,
/// folded. Bounded by the length of the name.
fn fold_name(name: &[u8]) -> SmallVec<[u8; 64]> {
    let mut decoded: SmallVec<[u8; 64]> =
        percent_encoding::percent_decode(name).take_while(|byte| *byte != 0).collect();
    while decoded.last().is_some_and(|byte| !is_token_byte(*byte)) {
        decoded.pop();
    }
    let start = decoded.iter().position(|byte| is_token_byte(*byte)).unwrap_or(decoded.len());
    decoded.drain(..start);
    for byte in &mut decoded {
        *byte = fold(*byte);
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> CookieNames {
        let shield = |text, kind| ShieldName { pattern: CookiePattern::parse(text).unwrap(), kind };
        CookieNames::try_new(
            "__Host-portcullis",
            [
                shield("sessionid", CookieKind::Id),
                shield("laravel_session", CookieKind::State),
                shield("wordpress_logged_in_*", CookieKind::Id),
                shield(".AspNetCore.Cookies", CookieKind::Id),
            ],
            [CookiePattern::parse("csrftoken").unwrap()],
        )
        .unwrap()
    }

    #[track_caller]
    fn check(name: impl AsRef<[u8]>, expected: Known) {
        let name = name.as_ref();
        assert_eq!(names().find(name), expected, "{}", name.escape_ascii());
    }

    const ID: CookieRole = CookieRole::Shield(CookieKind::Id);

    #[test]
    fn patterns_read_back_as_they_were_written() {
        for text in ["sessionid", "wordpress_logged_in_*", "a%20b", "__Host-x"] {
            assert_eq!(CookiePattern::parse(text).map(|pattern| pattern.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(CookiePattern::parse(""), Err(PatternError::Empty));
        assert_eq!(CookiePattern::parse("*"), Err(PatternError::Empty));
        assert_eq!(CookiePattern::parse("a*b"), Err(PatternError::StarInside));
        assert_eq!(CookiePattern::parse("a**"), Err(PatternError::StarInside));
        for text in ["a b", "a;b", "a=b", "\"a\"", "\u{e9}"] {
            assert_eq!(CookiePattern::parse(text), Err(PatternError::NotAToken), "{text}");
        }
        assert_eq!(CookieNames::try_new("ours*", [], []).err(), Some(PatternError::StarInside));
    }

    #[test]
    fn known_names_match_octet_for_octet() {
        check("__Host-portcullis", Known::Exactly(CookieRole::Guard));
        check("sessionid", Known::Exactly(ID));
        check("laravel_session", Known::Exactly(CookieRole::Shield(CookieKind::State)));
        check("wordpress_logged_in_5c01", Known::Exactly(ID));
        check("wordpress_logged_in_", Known::Exactly(ID));
        check("wordpress_logged_in_%41", Known::Exactly(ID));
        check("csrftoken", Known::Exactly(CookieRole::Bind));
        for name in ["sessionid2", "essionid", "wordpress_logged_in", "_ga", "AMCV_1%40AdobeOrg", "theme", "\x5fx"] {
            check(name, Known::Other);
        }
    }

    #[test]
    fn names_that_an_app_may_read_as_ours_are_variants() {
        for name in ["__host-portcullis", "__HOST-PORTCULLIS", "__Host%2Dportcullis", ".+Host-portcullis"] {
            check(name, Known::Variant(CookieRole::Guard));
        }
        for name in ["\u{85}__Host-portcullis", "\u{a0}__Host-portcullis", "\u{2000}__Host-portcullis\u{2000}"] {
            check(name, Known::Variant(CookieRole::Guard));
        }
        for name in [b"\x85sessionid".as_slice(), b"\xa0sessionid", b"\"sessionid\"", b"sessionid ", b"\\sessionid"] {
            check(name, Known::Variant(ID));
        }
        for name in ["SessionID", "%73essionid", "sessionid%00", "sessionid%00x", "%20sessionid", "sessioni%64%0a"] {
            check(name, Known::Variant(ID));
        }
        check("laravel.session", Known::Variant(CookieRole::Shield(CookieKind::State)));
        check("laravel+session", Known::Variant(CookieRole::Shield(CookieKind::State)));
        check("Wordpress.Logged.In.x", Known::Variant(ID));
        check(".aspnetcore.cookies", Known::Variant(ID));
        check("_AspNetCore_Cookies", Known::Variant(ID));
        check("CSRFToken", Known::Variant(CookieRole::Bind));
    }

    #[test]
    fn what_is_no_name_is_broken() {
        for name in ["a b", "a\"b", "\u{e9}", "a[b]", "(", "x,sessionid"] {
            check(name, Known::Broken);
        }
    }

    #[test]
    fn an_exact_name_wins_over_a_variant_that_stands_earlier() {
        let shield = ShieldName { pattern: CookiePattern::parse("SESSION").unwrap(), kind: CookieKind::Id };
        let names = CookieNames::try_new("ours", [shield], [CookiePattern::parse("session").unwrap()]).unwrap();
        assert_eq!(names.find(b"session"), Known::Exactly(CookieRole::Bind));
        assert_eq!(names.find(b"Session"), Known::Variant(ID));
        assert_eq!(names.role(b"Session"), None);
    }
}
