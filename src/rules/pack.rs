//! Packs: rules that come with the program. A pack of a name and version never changes; a better one gets a new version.

use std::sync::Arc;

use super::page::Source;

/// A pack of rules that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pack {
    /// `baseline@1`: what is right for nearly every app.
    Baseline1,
    /// `strict@1`: for places where a false alarm is cheaper than a theft.
    Strict1,
    /// `observe@1`: reports, never acts.
    Observe1,
}

impl Pack {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Baseline1, Self::Strict1, Self::Observe1];

    /// Name and version.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Baseline1 => "baseline@1",
            Self::Strict1 => "strict@1",
            Self::Observe1 => "observe@1",
        }
    }

    /// Whether all that another pack does is done by this one too: its rules are there, and in force as they are in that one.
    pub const fn does_all_of(self, other: Self) -> bool {
        match (self, other) {
            (Self::Strict1, _)
            | (Self::Baseline1, Self::Baseline1 | Self::Observe1)
            | (Self::Observe1, Self::Observe1) => true,
            (Self::Baseline1, Self::Strict1) | (Self::Observe1, Self::Baseline1 | Self::Strict1) => false,
        }
    }

    /// What the names of its rules begin with.
    pub const fn family(self) -> &'static str {
        match self {
            Self::Baseline1 => "baseline/",
            Self::Strict1 => "strict/",
            Self::Observe1 => "observe/",
        }
    }

    /// Its rules file.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Baseline1 => include_str!("../../rules/baseline.toml"),
            Self::Strict1 => include_str!("../../rules/strict.toml"),
            Self::Observe1 => include_str!("../../rules/observe.toml"),
        }
    }

    pub(crate) fn source(self) -> Arc<Source> {
        Source::new(&format!("pack {}", self.as_str()), self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::packs;
    use super::*;

    #[test]
    fn a_pack_that_does_all_of_another_has_its_rules_in_force() {
        for (one, other) in Pack::ALL.into_iter().flat_map(|one| Pack::ALL.map(|other| (one, other))) {
            let (ours, theirs) = (packs(&[one]), packs(&[other]));
            let does_all = theirs
                .rules()
                .iter()
                .all(|rule| ours.rules().iter().any(|own| own.name == rule.name && own.mode >= rule.mode));
            assert_eq!(one.does_all_of(other), does_all, "{one:?} {other:?}");
        }
    }
}
