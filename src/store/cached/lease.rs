//! A cache among others: it serves while it has a lease, and who ends something waits for those that have one.

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::CachedStore;
use crate::clock::Timestamp;
use crate::session::id::SessionDigest;
use crate::store::leases::{LEASE, MARGIN, Node, RENEWED_EVERY, Recall, Renewed};
use crate::store::{Store, StoreError};

/// Recalls that are kept to be returned. Any that is lost is there when the lease is renewed.
const HEARD_MAX: usize = 1024;
/// Most that are returned at once.
const RETURNED_MAX: usize = 256;
/// How often a renewal that met more recalls is done once more at once.
const ROUNDS: usize = 3;
/// Longest pause between two looks at whether all have returned it.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// How long the others are waited for. A lease that is renewed while it is recalled lasts one time longer.
const RETURNED_WITHIN: Duration = LEASE.saturating_mul(2).saturating_add(PAUSE_MAX);

/// The lease of a node.
#[derive(Debug)]
pub(super) struct Lease {
    node: Node,
    recalls: AtomicU64,
    /// Until when the cache may be served from, in milliseconds.
    until: AtomicU64,
    heard: Mutex<Vec<Recall>>,
    has_left: AtomicBool,
}

impl Lease {
    /// None yet. Numbers need not be secret, and only two at once must not be the same.
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self {
            node: Node(random.hash_one("node")),
            recalls: AtomicU64::new(random.hash_one("recall")),
            until: AtomicU64::new(0),
            heard: Mutex::default(),
            has_left: AtomicBool::new(false),
        }
    }

    pub(super) fn holds(&self, now: Timestamp) -> bool {
        now.as_millis() < self.until.load(Ordering::Acquire)
    }

    /// Whoever keeps the leases may have lost this one.
    pub(super) fn doubt(&self) {
        self.until.store(0, Ordering::Release);
    }

    fn take_heard(&self) -> Vec<Recall> {
        let mut heard = self.heard.lock();
        let count = heard.len().min(RETURNED_MAX);
        heard.drain(..count).collect()
    }

    /// Takes note of what is to be returned: what it is about has been let go of.
    pub(super) fn hear(&self, recalls: impl IntoIterator<Item = Recall>) {
        let mut heard = self.heard.lock();
        let room = HEARD_MAX.saturating_sub(heard.len());
        heard.extend(recalls.into_iter().take(room));
    }
}

impl<S: Store> CachedStore<S> {
    /// Whether what is kept may be served: nobody else ends sessions here, or he waits for this node.
    pub(super) fn may_serve(&self) -> bool {
        self.store.leases().is_none() || self.lease.holds(self.clock.now())
    }

    pub(super) async fn renew(&self) -> Option<Duration> {
        let leases = self.store.leases().filter(|_| !self.lease.has_left.load(Ordering::Acquire))?;
        for _ in 0..ROUNDS {
            let heard = self.lease.take_heard();
            // The time first: the lease begins later.
            let began = self.clock.now();
            match leases.renew(self.lease.node, &heard).await {
                Ok(renewed) => {
                    self.granted(began, &renewed);
                    if renewed.open.is_empty() {
                        break;
                    }
                    // Nobody has told of them, or not yet.
                    renewed.open.iter().for_each(|recall| self.forget_about(recall));
                    self.lease.hear(renewed.open);
                }
                Err(error) => {
                    tracing::debug!(%error, "the lease of the cache was not renewed");
                    // It may have been, after a gap that the next answer does not tell.
                    self.lease.doubt();
                    self.lease.hear(heard);
                    break;
                }
            }
        }
        Some(RENEWED_EVERY)
    }

    fn granted(&self, began: Timestamp, renewed: &Renewed) {
        if !renewed.was_held || !self.lease.holds(self.clock.now()) {
            // Nobody waited for this node since it kept what it has.
            self.forget_all();
        }
        // The clock of the store may have been set back meanwhile.
        let until = began.after(renewed.granted.min(LEASE).saturating_sub(MARGIN));
        self.lease.until.fetch_max(until.as_millis(), Ordering::AcqRel);
        if self.lease.has_left.load(Ordering::Acquire) {
            self.lease.doubt();
        }
    }

    /// Gives the lease back, so that nobody waits for a node that is leaving. From here on the store is asked.
    pub async fn leave(&self) {
        self.lease.has_left.store(true, Ordering::Release);
        self.lease.doubt();
        if let Some(leases) = self.store.leases()
            && let Err(error) = leases.release(self.lease.node).await
        {
            tracing::debug!(%error, "the lease of the cache was not given back");
        }
    }

    /// Waits until no other node serves what has ended by now.
    pub(super) async fn let_go_by_all(&self, about: Option<SessionDigest>) -> Result<(), StoreError> {
        let Some(leases) = self.store.leases() else { return Ok(()) };
        let recall = Recall { id: self.lease.recalls.fetch_add(1, Ordering::Relaxed), about };
        if !leases.recall(self.lease.node, recall).await? {
            return Ok(());
        }
        let (began, mut pause) = (Instant::now(), Duration::from_millis(1));
        // Whether it is can be asked again, if that fails.
        while leases.is_open(recall).await.unwrap_or(true) {
            if began.elapsed() > RETURNED_WITHIN {
                return Err(StoreError::io(
                    "it was done, and another node may still serve from its cache what it was before",
                ));
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
        Ok(())
    }
}
