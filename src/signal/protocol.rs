//! A `Cookie` header that no browser sends.

use super::weights::{Weights, correlated};
use super::{Scene, Signal, SignalKind};
use crate::history::Points;

/// Something odd about the cookies of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CookieFinding {
    /// Our cookie is there more than once.
    Repeated = 1,
    /// Our cookie has not the form of one we make.
    Malformed = 2,
    /// A name that some parsers take for ours (other case, spaces, prefix).
    LookAlike = 4,
    /// A cookie without a name.
    Nameless = 8,
    /// `$Version` and other remains of RFC 2965, or quoted-pair tricks.
    OldSyntax = 16,
    /// A bound app cookie without its session, or with another.
    Unbound = 32,
}

impl CookieFinding {
    const ALL: [Self; 6] =
        [Self::Repeated, Self::Malformed, Self::LookAlike, Self::Nameless, Self::OldSyntax, Self::Unbound];

    /// The name that events use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Repeated => "repeated",
            Self::Malformed => "malformed",
            Self::LookAlike => "look-alike",
            Self::Nameless => "nameless",
            Self::OldSyntax => "old syntax",
            Self::Unbound => "unbound",
        }
    }

    const fn points(self, weights: &Weights) -> Points {
        match self {
            Self::Repeated | Self::Malformed => weights.cookie_ambiguous,
            Self::LookAlike => weights.cookie_look_alike,
            Self::Nameless | Self::OldSyntax => weights.cookie_odd,
            Self::Unbound => weights.cookie_unbound,
        }
    }
}

/// What is odd about the cookies of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CookieFindings(u8);

impl CookieFindings {
    /// Adds a finding.
    pub const fn insert(&mut self, finding: CookieFinding) {
        self.0 |= finding as u8;
    }

    /// Whether it is among them.
    pub const fn contains(self, finding: CookieFinding) -> bool {
        self.0 & finding as u8 != 0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<CookieFinding> for CookieFindings {
    fn from_iter<I: IntoIterator<Item = CookieFinding>>(findings: I) -> Self {
        let mut all = Self::default();
        findings.into_iter().for_each(|finding| all.insert(finding));
        all
    }
}

/// All that is odd about the cookies, as one: it has one cause.
pub(super) fn cookies(scene: &Scene<'_>) -> Option<Signal> {
    let found = scene.input.cookies;
    if found.is_empty() {
        return None;
    }
    let points = CookieFinding::ALL
        .map(|finding| if found.contains(finding) { finding.points(scene.weights) } else { Points::ZERO });
    let names: Vec<&str> =
        CookieFinding::ALL.into_iter().filter(|finding| found.contains(*finding)).map(CookieFinding::name).collect();
    Signal::worth(SignalKind::ProtocolCookie, correlated(points), "", names.join(", "))
}
