//! What operators do with sessions, and the guard's own housekeeping.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Guard;
use super::change::{due_end, is_enforced};
use crate::clock::Timestamp;
use crate::event::field::Revoker;
use crate::event::{ClientView, Event, Scene, kinds as event};
use crate::facts::client_ip::Junk;
use crate::session::id::{Ref, SessionDigest};
use crate::session::record::{EndReason, Record, State};
use crate::store::metered::{Figures, Operation, Outcome};
use crate::store::{Filter, PAGE_MAX, Page, Reads, Store, StoreError};
use crate::verdict::Text;

/// Most records removed in one step of the sweeper.
pub const SWEEP_MAX: usize = 500;

/// How often the store is walked for sessions to end. Only one that gets a new id in every single walk is missed.
pub(super) const WALKS_MAX: usize = 8;

/// How many sessions are ended side by side where many are.
const REVOKED_AT_ONCE: usize = 32;

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

/// What a guard asks of its store.
#[derive(Clone, Debug)]
pub struct StoreUse {
    /// Requests that came as far as their session. Those that a path, a limit or a rule refused before are not among them:
    /// they cost the store nothing.
    pub requests: u64,
    /// What was asked, by operation, in the order of [`Operation::ALL`].
    pub store: [Figures; Operation::COUNT],
}

impl StoreUse {
    /// How often the store was changed: sessions created, committed, rotated and ended.
    pub fn writes(&self) -> u64 {
        let writes = self.store.iter().filter(|figures| figures.operation.is_write());
        writes.map(|figures| figures.count(Outcome::Done)).sum()
    }
}

impl<S: Store> Guard<S> {
    /// What this guard has asked of its store since it started, and for how many requests.
    pub fn store_use(&self) -> StoreUse {
        let [requests] = self.requests.sums();
        StoreUse { requests, store: self.store.figures() }
    }

    /// How many sessions there are that have not ended, if the store knows that without looking through them. Those whose time
    /// is over count until they are swept away.
    pub fn sessions_live(&self) -> Option<usize> {
        self.store.live()
    }

    /// Whether its store may answer from what it was told a while ago.
    pub fn store_reads(&self) -> Reads {
        self.store.reads()
    }

    /// A page of sessions.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sessions(
        &self,
        filter: &Filter,
        after: Option<SessionDigest>,
        max: usize,
    ) -> Result<Page, StoreError> {
        self.store.list(filter, after, max.min(PAGE_MAX)).await
    }

    /// Ends sessions by decision of an operator. Gives how many ended.
    ///
    /// # Errors
    /// When the store fails; some may have ended then.
    pub async fn revoke(&self, which: &Selection, by: Revoker) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let ending = self.ending(&self.policy.load(), EndReason::Revoked, now);
        let mut ended = Vec::new();
        let done = match which {
            Selection::Subject(subject) => {
                self.store.revoke_subject(subject, None, ending).await.map(|all| ended = all)
            }
            Selection::Ref(reference) => {
                let filter = Filter { reference: Some(*reference), ..Filter::default() };
                self.revoke_all(&filter, ending, &mut ended).await
            }
            Selection::All => match self.store.carrier() {
                Some(carrier) => carrier.end_all(ending).await.map(|all| ended = all),
                None => self.revoke_all(&Filter::default(), ending, &mut ended).await,
            },
        };
        for record in &ended {
            self.streams.end(&record.digest);
            self.tell_alone(record, now, event::SessionRevoked { by });
        }
        done.map(|()| ended.len())
    }

    /// Ends every session that the filter finds. One that gets a new id meanwhile may slip past a walk, so the store is
    /// walked until nothing is found that was there when it began. One that can not be
    /// ended keeps none of the others.
    async fn revoke_all(
        &self,
        filter: &Filter,
        ending: crate::store::Ending,
        ended: &mut Vec<Arc<Record>>,
    ) -> Result<(), StoreError> {
        let mut failed = None;
        for _ in 0..WALKS_MAX {
            let mut found = 0;
            let mut after = None;
            loop {
                let page = self.store.list(filter, after, PAGE_MAX).await?;
                let wanted: Vec<_> = page.records.iter().filter(|record| record.created_at <= ending.now).collect();
                found += wanted.len();
                // Side by side: each may have to wait for other nodes.
                for some in wanted.chunks(REVOKED_AT_ONCE) {
                    let revoked = some.iter().map(|record| self.store.revoke(&record.digest, ending));
                    for last in futures_util::future::join_all(revoked).await {
                        match last {
                            Ok(last) => ended.extend(last),
                            Err(error) => failed = failed.or(Some(error)),
                        }
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            if found == 0 || failed.is_some() {
                break;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// One step of the sweeper: removes a batch of records that are over. Gives how many; less than [`SWEEP_MAX`] means
    /// there are no more for now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clear_expired(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        self.open_jars.sweep(now);
        self.open_data.sweep(now);
        self.store.clear_expired(now, SWEEP_MAX).await
    }

    /// Ends the streams of sessions that are over, by decision on another node or by a deadline.
    ///
    /// # Errors
    /// When the store fails: the streams go on until it answers again, or until their latest end.
    pub async fn sweep_streams(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let policy = self.policy.load();
        let mut swept = Ok(());
        self.streams.end_without_key(&self.keys.load());
        for (digest, deadline) in self.streams.sweep() {
            if now >= deadline {
                self.streams.end(&digest);
                continue;
            }
            let over = |record: &Record| {
                matches!(record.state, State::Ended { .. } | State::Quarantined { .. })
                    || due_end(record, &policy, now).is_some_and(|why| is_enforced(why, &policy))
            };
            match self.load_readable(&digest).await {
                Ok(record) if record.as_deref().is_none_or(over) => self.streams.end(&digest),
                Ok(_) => {}
                // One that fails must not keep the streams of others alive.
                Err(error) => swept = Err(error),
            }
        }
        swept
    }

    /// Tells of something that happened beside the requests: on a connection, in the program around the guard.
    pub fn report(&self, client: Option<IpAddr>, event: impl Into<Event>) {
        let client = ClientView { ip: client, ..ClientView::default() };
        let scene = Scene { client, policy: Some(self.policy.load().revision), ..Scene::default() };
        self.events.emit(self.clock.now(), scene, event);
    }

    /// Advises to list a proxy, once a minute: a private peer speaks for others and is not believed.
    pub fn advise_proxy(&self, peer: IpAddr) {
        if self.advised_proxy.is_due(self.clock.now()) {
            let fix = format!("add to [client]: trusted_proxies = [\"{peer}\"]");
            self.report(Some(peer), event::ConfigUntrustedProxy { fix: Text::from(fix) });
        }
    }

    /// Advises to mend what a trusted proxy writes about its clients, once a minute: nobody is told apart behind it.
    pub fn advise_proxy_header(&self, peer: IpAddr, junk: Junk) {
        if self.advised_header.is_due(self.clock.now()) {
            let fix = match junk {
                Junk::XForwardedFor => "let this proxy write bare addresses into X-Forwarded-For, without a port",
                Junk::Forwarded => "let this proxy write for=ADDRESS into Forwarded, without a hidden name",
                Junk::Disagree => {
                    "X-Forwarded-For and Forwarded name different clients: let this proxy write one of them"
                }
            };
            self.report(Some(peer), event::ConfigProxyHeader { fix: Text::of(fix) });
        }
    }

    /// Whether the store answers: what a health check asks.
    ///
    /// # Errors
    /// When it does not.
    pub async fn probe(&self) -> Result<Timestamp, StoreError> {
        self.store.load_fresh(&SessionDigest([0; 32])).await?;
        Ok(self.clock.now())
    }
}

/// Advice is given once in this time.
const ADVICE_EVERY: Duration = Duration::from_secs(60);

/// When a piece of advice was given last.
#[derive(Debug, Default)]
pub(super) struct Advised(AtomicU64);

impl Advised {
    /// Whether to give it now; it counts as given then.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        let due = last == 0 || now.since(Timestamp::from_millis(last)) >= ADVICE_EVERY;
        due && self.0.compare_exchange(last, now.as_millis().max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// How many names advice is remembered for; of an app that makes up more, the rest goes untold.
const NAMES_MAX: usize = 32;

/// Which names a piece of advice was given for.
#[derive(Debug, Default)]
pub(super) struct AdvisedNames(parking_lot::Mutex<Vec<Box<[u8]>>>);

impl AdvisedNames {
    /// Whether to give it for this name; it counts as given then.
    pub(super) fn is_new(&self, name: &[u8]) -> bool {
        let mut known = self.0.lock();
        let new = known.len() < NAMES_MAX && known.iter().all(|other| **other != *name);
        if new {
            known.push(name.into());
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_once_a_minute() {
        let advised = Advised::default();
        let times: Vec<u64> = (1000..1200).filter(|at| advised.is_due(Timestamp::from_secs(*at))).collect();
        assert_eq!(times, [1000, 1060, 1120, 1180]);
    }

    #[test]
    fn advice_on_a_name_is_given_once_and_on_so_many_names() {
        let advised = AdvisedNames::default();
        let given: Vec<u8> = (0..100).filter(|name| advised.is_new(&[name / 2])).collect();
        assert_eq!(given, (0..64).step_by(2).collect::<Vec<u8>>());
    }
}
