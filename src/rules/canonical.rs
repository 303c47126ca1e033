//! Conditions in one form: what is the same is equal, however it was ordered and repeated.

use super::check::Cond;
use super::scheme::Field;
use super::value::Test;

/// A condition without places, its parts in an order of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Canonical<'c> {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Leaf(Field, &'c Test),
    Const(bool),
}

impl<'c> Canonical<'c> {
    pub(crate) fn of(cond: &'c Cond) -> Self {
        let sorted = |parts: &'c [Cond]| {
            let mut parts: Vec<Self> = parts.iter().map(Self::of).collect();
            parts.sort_unstable();
            parts.dedup();
            parts
        };
        match cond {
            Cond::All(parts) => Self::All(sorted(parts)),
            Cond::Any(parts) => Self::Any(sorted(parts)),
            Cond::Not(inner) => Self::Not(Box::new(Self::of(inner))),
            Cond::Const(yes) => Self::Const(*yes),
            Cond::Leaf(leaf) => Self::Leaf(leaf.field, &leaf.test),
        }
    }
}
