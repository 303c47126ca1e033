//! `[geo]`: what is known of addresses.

use std::path::PathBuf;

use crate::facts::geo::{Fields, NetworkKind};
use crate::facts::networks::{BuiltIn, ListFormat};

/// `[geo]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geo {
    /// Databases in MaxMind's format, asked in this order.
    pub databases: Vec<GeoFile>,
    /// Lists that say what networks are used for.
    pub lists: Vec<GeoList>,
    /// Entries of one list.
    pub entries_max: usize,
    /// Whether gateways are known without a list.
    pub built_in: BuiltIn,
}

impl Default for Geo {
    fn default() -> Self {
        Self { databases: Vec::new(), lists: Vec::new(), entries_max: 1_000_000, built_in: BuiltIn::On }
    }
}

impl Geo {
    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.databases.iter().map(|file| &file.path).chain(self.lists.iter().map(|list| &list.path))
    }
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeoFile {
    /// Where it is.
    pub path: PathBuf,
    /// Where its records have their fields, as far as that is not where most have them.
    pub fields: Fields,
}

/// One list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeoList {
    /// Where it is.
    pub path: PathBuf,
    /// What its networks are used for.
    pub kind: NetworkKind,
    /// How it is written.
    pub format: ListFormat,
}
