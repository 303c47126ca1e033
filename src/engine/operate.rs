//! What operators do with sessions, and the guard's own housekeeping.

use std::sync::Arc;

use super::Guard;
use crate::clock::Timestamp;
use crate::event::field::Revoker;
use crate::event::kinds as event;
use crate::session::expiry;
use crate::session::id::{Ref, SessionDigest};
use crate::session::record::{EndReason, Record};
use crate::store::{Filter, PAGE_MAX, Page, Store, StoreError};

/// Most records removed in one step of the sweeper.
pub const SWEEP_MAX: usize = 500;

/// Which sessions are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The one of this public name.
    Ref(Ref),
    /// All of this subject.
    Subject(Arc<str>),
    /// Every one.
    All,
}

impl<S: Store> Guard<S> {
    /// A page of sessions.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sessions(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        self.store.list(filter, after, max.min(PAGE_MAX)).await
    }

    /// Ends sessions by decision of an operator. Gives how many ended.
    ///
    /// # Errors
    /// When the store fails; some may have ended then.
    pub async fn revoke(&self, which: &Selection, by: Revoker) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let ending = self.ending(&self.policy.load(), EndReason::Revoked, now);
        let ended: Vec<Arc<Record>> = match which {
            Selection::Subject(subject) => self.store.revoke_subject(subject, None, ending).await?,
            Selection::Ref(reference) => {
                let filter = Filter { reference: Some(*reference), ..Filter::default() };
                self.revoke_all(&filter, ending).await?
            }
            Selection::All => self.revoke_all(&Filter::default(), ending).await?,
        };
        for record in &ended {
            self.streams.end(&record.digest);
            self.tell_alone(record, now, event::SessionRevoked { by });
        }
        Ok(ended.len())
    }

    async fn revoke_all(
        &self,
        filter: &Filter,
        ending: crate::store::Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        let mut ended = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.list(filter, after, PAGE_MAX).await?;
            for record in &page.records {
                ended.extend(self.store.revoke(&record.digest, ending).await?);
            }
            after = page.next;
            if after.is_none() {
                return Ok(ended);
            }
        }
    }

    /// One step of the sweeper: removes a batch of records that are over. Gives how many; less than [`SWEEP_MAX`] means
    /// there are no more for now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clear_expired(&self) -> Result<usize, StoreError> {
        self.store.clear_expired(self.clock.now(), SWEEP_MAX).await
    }

    /// Ends the streams of sessions that are over, by decision on another node or by a deadline.
    ///
    /// # Errors
    /// When the store fails: the streams go on until it answers again, or until their latest end.
    pub async fn sweep_streams(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let deadlines = self.policy.load().session.deadlines;
        for (digest, deadline) in self.streams.sweep() {
            if now >= deadline {
                self.streams.end(&digest);
                continue;
            }
            let over = match self.store.load(&digest).await? {
                Some(record) => expiry::ended(&record, &deadlines, now).is_some(),
                None => true,
            };
            if over {
                self.streams.end(&digest);
            }
        }
        Ok(())
    }

    /// Whether the store answers: what a health check asks.
    ///
    /// # Errors
    /// When it does not.
    pub async fn probe(&self) -> Result<Timestamp, StoreError> {
        self.store.load(&SessionDigest([0; 32])).await?;
        Ok(self.clock.now())
    }
}
