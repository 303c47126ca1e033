//! Which events a sink wants.

use crate::event::{Event, Kind, Record, Severity};

/// Which events a sink wants. Lists that are empty ask for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The mildest severity.
    pub min: Severity,
    /// Kinds; one that ends with `*` stands for all that begin so.
    pub kinds: Vec<String>,
    /// Words of rules, of which one is enough.
    pub tags: Vec<String>,
}

impl Default for Filter {
    /// All of them.
    fn default() -> Self {
        Self { min: Severity::Info, kinds: Vec::new(), tags: Vec::new() }
    }
}

impl Filter {
    /// Whether a record is wanted. What the stream tells of itself is wanted by all: gaps, cuts, drops and seals.
    pub fn wants(&self, record: &Record) -> bool {
        let kind = record.event.kind();
        if matches!(kind, Kind::EventsGap | Kind::EventsCut | Kind::EventsDropped | Kind::EventsSealed) {
            return true;
        }
        // A summary is of what it counted.
        let (kind, severity) = match &record.event {
            Event::EventsRepeated(summary) => (summary.of, record.severity().max(summary.of.meta().severity)),
            _ => (kind, record.severity()),
        };
        severity >= self.min
            && (self.kinds.is_empty() || self.kinds.iter().any(|pattern| names(pattern, kind)))
            && (self.tags.is_empty()
                || record.scene.tags.iter().any(|tag| self.tags.iter().any(|own| own == tag.as_str())))
    }
}

/// Whether a pattern names a kind: by its name, or by how that begins and `*`.
pub fn names(pattern: &str, kind: Kind) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => kind.as_str().starts_with(begin),
        None => kind.as_str() == pattern,
    }
}
