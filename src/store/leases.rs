//! Which nodes serve from caches, so that whoever ends a session can wait until none of them serves it any more.
//!
//! A node with a cache takes a lease at the store that it shares with others, and renews it (C. Gray and D. Cheriton, "Leases: An
//! Efficient Fault-Tolerant Mechanism for Distributed File Cache Consistency", SOSP 1989). It serves from its cache while it has one.
//! Who has ended a session makes a recall to each node that has a lease, and waits until all of them have returned it, or their leases
//! are over: none is renewed beyond [`LEASE`] after the oldest recall that is not returned. A node that is told which sessions end returns
//! it at once; one that is not finds it when it renews.
//!
//! The clock of the store must not jump ahead by more than half a second, and a machine that was suspended serves for up to a second more,
//! until its clock is right. A store that loses the leases, because it was put back to an earlier state or a replica took its place that
//! had not heard of them, is noticed when the connection to it breaks, or at the next renewal.

use std::pin::Pin;
use std::time::Duration;

use super::StoreError;
use crate::session::id::SessionDigest;

/// How long a lease lasts, by the clock of the store.
pub const LEASE: Duration = Duration::from_millis(1500);

/// By how much shorter a node makes it for itself, from before it asked for it: two clocks are not alike.
pub const MARGIN: Duration = Duration::from_millis(500);

/// How often a lease is renewed.
pub const RENEWED_EVERY: Duration = Duration::from_millis(400);

/// Who has a lease: a number that no other has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub u64);

/// What a node returns when it has let go of what had ended when the recall was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recall {
    /// A number that no other has.
    pub id: u64,
    /// The session that it is about; none: any may be.
    pub about: Option<SessionDigest>,
}

/// What came of a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Whether the node had a lease until then without a gap: nobody who ended something since has overlooked it.
    pub was_held: bool,
    /// How long it has one now.
    pub granted: Duration,
    /// What it still is to return.
    pub open: Vec<Recall>,
}

#[cfg(any(feature = "redis", feature = "sql"))]
impl Recall {
    /// As stores and messages have it: the number, 8 bytes, and the digest if there is one.
    pub(in crate::store) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend(self.about.iter().flat_map(|digest| digest.0));
        bytes
    }

    /// The same back; none if it is nothing of ours.
    pub(in crate::store) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, about) = bytes.split_first_chunk()?;
        let about = match about {
            [] => None,
            about => Some(SessionDigest(about.try_into().ok()?)),
        };
        Some(Self { id: u64::from_be_bytes(*id), about })
    }
}

/// What comes of it.
pub type Leased<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The leases of all nodes, where they keep their sessions. Each of these is one step: it comes wholly before or after any other,
/// and before or after any change of a session.
pub trait Leases: Send + Sync {
    /// Returns recalls, and takes a lease for [`LEASE`], from then on or from the oldest recall that is left. It never makes one shorter.
    fn renew<'a>(&'a self, node: Node, returned: &'a [Recall]) -> Leased<'a, Renewed>;

    /// Makes a recall to all other nodes that have a lease, and tells those that listen. Gives whether there are any.
    fn recall(&self, node: Node, recall: Recall) -> Leased<'_, bool>;

    /// Whether a node that has a lease has not returned it.
    fn is_open(&self, recall: Recall) -> Leased<'_, bool>;

    /// Gives a lease back.
    fn release(&self, node: Node) -> Leased<'_, ()>;
}

#[cfg(all(test, any(feature = "redis", feature = "sql")))]
mod tests {
    use super::*;

    #[test]
    fn a_recall_comes_back_from_its_bytes() {
        for about in [None, Some(SessionDigest([7; 32]))] {
            let recall = Recall { id: 258, about };
            assert_eq!(Recall::from_bytes(&recall.to_bytes()), Some(recall));
        }
        for octets in [0, 7, 9, 39, 41] {
            assert_eq!(Recall::from_bytes(&vec![1; octets]), None);
        }
    }
}
