//! How records lie in a table: encoded, each in one piece of memory.
//!
//! As a structure a session with a value of 200 bytes takes four pieces and a third more memory. Reading it back takes a
//! quarter of a microsecond, so each shard keeps a few records as structures too, those that are loaded again and again:
//! sessions in use are not read back for each request, and a million that rest are small.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::session::id::{Ref, SessionDigest};
use crate::session::record::Record;

/// How many records of a shard are kept as structures.
const RECENT: usize = 64;

/// An encoded record.
#[derive(Debug)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    /// Encodes a record.
    pub(super) fn new(record: &Record) -> Self {
        // Copied, since a vector that is made smaller keeps its large place with some allocators.
        Self(Box::from(record.encode().as_slice()))
    }

    /// The record. None would be bytes that `encode` did not write, and nobody is logged in by those.
    pub(super) fn unpack(&self) -> Option<Record> {
        Record::decode(&self.0).ok()
    }

    /// The digest and the reference, without reading the rest.
    pub(super) fn names(&self) -> (SessionDigest, Ref) {
        Record::names_in(&self.0).unwrap_or((SessionDigest([0; 32]), Ref([0; 16])))
    }

    /// The digest alone.
    pub(super) fn digest(&self) -> SessionDigest {
        self.names().0
    }
}

/// Records of one shard that are loaded again and again, each at the place that its digest gives it.
///
/// Whoever fills a place holds the shard's lock for reading, and whoever changes a record holds it for writing and tells
/// it here: what is found is never older than the shard.
#[derive(Debug)]
pub(super) struct Recent(Box<[Mutex<Place>]>);

/// A place for a record.
#[derive(Debug, Default)]
struct Place {
    record: Option<Arc<Record>>,
    /// The short name of the last one that was looked for here and was not the one. When it is looked for a second time
    /// before any other, it gets the place. If each that is looked for got it, a million that come in turn would throw each other out,
    /// which costs more than it saves: what is thrown out is far from the processor.
    missed: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self((0..RECENT).map(|_| Mutex::default()).collect())
    }
}

impl Recent {
    fn nth(spread: u64) -> usize {
        // The byte after the one that the shard took.
        let [_, second, ..] = spread.to_be_bytes();
        usize::from(second) % RECENT
    }

    /// The record under a digest, if it is here.
    pub(super) fn find(&self, spread: u64, is: impl Fn(&SessionDigest) -> bool) -> Option<Arc<Record>> {
        let place = self.0.get(Self::nth(spread))?.lock();
        place.record.as_ref().filter(|record| record.digest.spread() == spread && is(&record.digest)).cloned()
    }

    /// Tells of a record that was looked for and read back; gives the one whose place it got.
    pub(super) fn missed(&self, record: &Arc<Record>) -> Option<Arc<Record>> {
        let spread = record.digest.spread();
        let mut place = self.0.get(Self::nth(spread))?.lock();
        if std::mem::replace(&mut place.missed, spread) == spread {
            return place.record.replace(Arc::clone(record));
        }
        None
    }

    /// Tells of a change to a record; gives what was here of it.
    pub(super) fn change(&mut self, digest: &SessionDigest, after: Option<&Arc<Record>>) -> Option<Arc<Record>> {
        let place = &mut self.0.get_mut(Self::nth(digest.spread()))?.get_mut().record;
        if place.as_ref().is_some_and(|record| record.digest == *digest) {
            return std::mem::replace(place, after.cloned());
        }
        None
    }
}
