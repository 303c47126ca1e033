//! Faults while they are gathered: as many as someone may read, and how many more there are.

use super::diagnostic::{Fault, Level};

/// Faults, and warnings, that are told of one load; the others are counted. Nobody reads more, and each keeps a piece of its
/// file.
pub(crate) const TOLD_MAX: usize = 200;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    told: Vec<Fault>,
    faults: Count,
    warnings: Count,
}

/// Those of one level.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    told: usize,
    more: usize,
}

impl Gathered {
    /// Takes one.
    pub(crate) fn push(&mut self, fault: Fault) {
        self.note(fault.level, || fault);
    }

    /// Takes one that is made only if it is told.
    pub(crate) fn note(&mut self, level: Level, make: impl FnOnce() -> Fault) {
        let count = self.count(level);
        if count.told < TOLD_MAX {
            count.told += 1;
            self.told.push(make());
        } else {
            count.more = count.more.saturating_add(1);
        }
    }

    /// Takes what another text came to.
    pub(crate) fn append(&mut self, more: Self) {
        for (level, count) in [(Level::Fault, more.faults), (Level::Warning, more.warnings)] {
            let own = self.count(level);
            own.more = own.more.saturating_add(count.more);
        }
        self.extend(more.told);
    }

    /// Keeps of those that are told only some; what was only counted is forgotten.
    pub(crate) fn keep_only(&mut self, is_kept: impl Fn(&Fault) -> bool) {
        let told = std::mem::take(self).told;
        self.extend(told.into_iter().filter(is_kept));
    }

    /// Whether nothing was found.
    pub(crate) const fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.told.len().saturating_add(self.faults.more).saturating_add(self.warnings.more)
    }

    /// Whether anything is so wrong that nothing can run.
    pub(crate) const fn is_fatal(&self) -> bool {
        self.faults.told > 0
    }

    /// Those that are told, and last how many more there are.
    pub(crate) fn into_told(self) -> Vec<Fault> {
        let Self { mut told, faults, warnings } = self;
        for (level, more) in [(Level::Fault, faults.more), (Level::Warning, warnings.more)] {
            if more > 0 {
                let plural = if more == 1 { "" } else { "s" };
                let message = format!("and {more} more {}{plural}", level.as_str());
                let help = format!("at most {TOLD_MAX} are told at once: mend those, and look again");
                told.push(Fault::new(level, "", message).with_help(Some(help)));
            }
        }
        told
    }

    const fn count(&mut self, level: Level) -> &mut Count {
        match level {
            Level::Fault => &mut self.faults,
            Level::Warning => &mut self.warnings,
        }
    }
}

impl Extend<Fault> for Gathered {
    fn extend<I: IntoIterator<Item = Fault>>(&mut self, faults: I) {
        faults.into_iter().for_each(|fault| self.push(fault));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_warnings_hide_no_fault_and_those_of_two_texts_are_counted_together() {
        let of = |level: Level, count: usize| {
            let mut found = Gathered::default();
            found.extend((0..count).map(|at| Fault::new(level, "", at.to_string())));
            found
        };
        let mut all = of(Level::Warning, 250);
        all.append(of(Level::Warning, 201));
        assert!(!all.is_fatal());
        all.append(of(Level::Fault, 1));
        assert!(all.is_fatal());
        assert_eq!(all.len(), 452);
        let told = all.into_told();
        let last: Vec<String> = told.iter().skip(TOLD_MAX).map(Fault::headline).collect();
        assert_eq!(last, ["error: 0", "warning: and 251 more warnings"]);
    }
}
