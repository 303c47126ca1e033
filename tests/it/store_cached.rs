//! Several nodes with caches over one store: what has ended at one of them is served by none, from the moment that it is answered.

use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::{Clock, SystemClock, Timestamp};
use portcullis::engine::{Guard, tend};
use portcullis::layer::GuardBuilder;
use portcullis::session::record::{EndReason, Record};
use portcullis::store::cached::{self, CachedStore};
use portcullis::store::leases::{LEASE, Node as Lease, Recall};
use portcullis::store::metered::{Metered, Operation};
use portcullis::store::{Commit, Durability, Ending, Rotate, Store};
use tokio::time::{Instant, timeout};

use crate::support::stored::{NOW, PATIENCE, digest, ring, session};

const ENDING: Ending =
    Ending { why: EndReason::Logout, now: NOW, tombstone_until: Timestamp::from_secs(20_000_000_000) };

/// A session that is over long after whatever the clock of the machine says.
fn lasting(nth: u64) -> Record {
    Record { removable_at: Timestamp::from_secs(20_000_000_000), ..session(nth, "ann") }
}

/// An app in Rust, with a cache that would serve a session for an hour.
struct Node<S: Store>(Arc<Guard<CachedStore<Metered<S>>>>);

impl<S: Store> Node<S> {
    fn over(store: S) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let settings = cached::Settings { fresh_for: Duration::from_secs(3600), ..cached::Settings::default() };
        let store = CachedStore::new(Metered::new(store, clock.clone()), settings, clock.clone());
        Self(Arc::new(GuardBuilder::new(store).keys(ring(&[1])).clock(clock).build().unwrap()))
    }

    fn store(&self) -> &CachedStore<Metered<S>> {
        self.0.store()
    }

    async fn serves(&self, nth: u64) -> bool {
        self.store().load(&digest(nth)).await.unwrap().is_some_and(|record| !record.is_ended())
    }

    /// Serves a session until it comes from the cache.
    async fn keeps(&self, nth: u64) {
        let loads = || {
            let figures = self.store().store().figures();
            figures.iter().filter(|figures| figures.operation == Operation::LoadFresh).map(|f| f.calls()).sum::<u64>()
        };
        let end = Instant::now() + PATIENCE;
        loop {
            let before = loads();
            assert!(self.serves(nth).await);
            if before == loads() {
                return;
            }
            assert!(Instant::now() < end, "the cache is not used");
            tokio::task::yield_now().await;
        }
    }

    async fn creates(&self, nth: u64) {
        self.store().create(lasting(nth), None, NOW).await.unwrap();
    }

    /// Ends a session, in one way or another.
    async fn ends(&self, nth: u64) {
        match nth % 3 {
            0 => drop(self.store().revoke(&digest(nth), ENDING).await.unwrap()),
            1 => drop(self.store().revoke_subject("ann", None, ENDING).await.unwrap()),
            _ => {
                let (old, new) = (digest(nth), lasting(1000 + nth));
                let until = ENDING.tombstone_until;
                let rotate = Rotate {
                    old: &old,
                    version: 0,
                    new,
                    also_end: None,
                    limit: None,
                    now: NOW,
                    tombstone_until: until,
                };
                self.store().rotate(rotate).await.unwrap();
            }
        }
    }
}

/// What every store has to do with leases.
async fn leases_are_kept(store: &impl Store) {
    let leases = store.leases().unwrap();
    let (here, there) = (Lease(1), Lease(2));
    let recall = |id, about| Recall { id, about };
    let (first, second, third) = (recall(1, Some(digest(1))), recall(u64::MAX, None), recall(3, None));
    assert!(!leases.recall(here, first).await.unwrap(), "nobody has a lease");
    let begun = leases.renew(there, &[]).await.unwrap();
    assert!(!begun.was_held && begun.open.is_empty() && begun.granted <= LEASE && begun.granted > LEASE / 2);
    assert!(!leases.recall(there, first).await.unwrap(), "nobody else has one");
    assert!(leases.recall(here, first).await.unwrap() && leases.is_open(first).await.unwrap());
    let held = leases.renew(there, &[]).await.unwrap();
    assert_eq!((held.was_held, held.open), (true, vec![first]));
    let returned = leases.renew(there, &[first]).await.unwrap();
    assert!(returned.was_held && returned.open.is_empty() && !leases.is_open(first).await.unwrap());
    assert!(leases.renew(there, &[first]).await.unwrap().open.is_empty(), "twice is as good as once");
    // Who does not return it keeps his lease no longer than that, however often he asks for it.
    assert!(leases.recall(here, second).await.unwrap());
    let end = Instant::now() + PATIENCE;
    let mut late = leases.renew(there, &[]).await.unwrap();
    while leases.is_open(second).await.unwrap() {
        assert!(Instant::now() < end);
        late = leases.renew(there, &[]).await.unwrap();
    }
    assert_eq!(late.open, [second]);
    let over = leases.renew(there, &[]).await.unwrap();
    assert!(!over.was_held && over.granted == Duration::ZERO && over.open == [second], "{over:?}");
    let again = leases.renew(there, &[second]).await.unwrap();
    assert!(!again.was_held && again.granted > LEASE / 2 && again.open.is_empty());
    leases.release(there).await.unwrap();
    assert!(!leases.recall(here, third).await.unwrap() && !leases.is_open(third).await.unwrap());
}

async fn what_has_ended_is_served_by_no_cache<S: Store>(store: impl AsyncFn() -> S) {
    leases_are_kept(&store().await).await;
    let nodes = [Node::over(store().await), Node::over(store().await), Node::over(store().await)];
    let tending = nodes.each_ref().map(|node| tokio::spawn(tend(&node.0)));
    // Where nobody tells, it takes half a second each time.
    let rounds = if nodes[0].store().notices().is_some() { 60 } else { 6 };
    for nth in 0..rounds {
        let at = |more: u64| &nodes[usize::try_from((nth + more) % 3).unwrap()];
        at(0).creates(nth).await;
        at(1).keeps(nth).await;
        at(2).keeps(nth).await;
        at(0).ends(nth).await;
        for node in &nodes {
            assert!(!node.serves(nth).await, "{nth}");
        }
    }
    // One that is gone without a word is waited for, and no longer than that.
    let [here, there, gone] = &nodes;
    here.creates(600).await;
    gone.keeps(600).await;
    there.keeps(600).await;
    let [tend_here, tend_there, tend_gone] = tending;
    tend_gone.abort();
    timeout(PATIENCE, here.ends(600)).await.unwrap();
    assert!(!gone.serves(600).await && !there.serves(600).await);
    // It asks the store from now on. What another writes is seen at once then.
    here.creates(601).await;
    assert!(gone.serves(601).await);
    let touched = Arc::unwrap_or_clone(here.store().load(&digest(601)).await.unwrap().unwrap());
    let written = here.store().commit(touched, Durability::Durable).await.unwrap();
    let Commit::Done(written) = written else { panic!("{written:?}") };
    assert_eq!(gone.store().load(&digest(601)).await.unwrap(), Some(written));
    // Without a guard nobody tends.
    drop(nodes);
    for tending in [tend_here, tend_there] {
        timeout(PATIENCE, tending).await.unwrap().unwrap();
    }
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_what_has_ended_is_served_by_no_cache() {
    use crate::support::redis::Redis;
    use crate::support::stored::rows;

    let Some(server) = Redis::start() else { return };
    what_has_ended_is_served_by_no_cache(async || server.store("shop", rows(&[1])).await).await;
}

#[cfg(feature = "sql")]
mod in_databases {
    use portcullis::store::sql::{Settings, SqlStore};
    use tempfile::TempDir;

    use super::what_has_ended_is_served_by_no_cache;
    use crate::support::databases::Server;
    use crate::support::stored::{PATIENCE, rows};

    async fn over(url: &str) {
        let settings = || Settings { timeout: PATIENCE, ..Settings::default() };
        what_has_ended_is_served_by_no_cache(async || SqlStore::connect(url, settings(), rows(&[1])).await.unwrap())
            .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn over_postgres_what_has_ended_is_served_by_no_cache() {
        let Some(server) = Server::postgres() else { return };
        over(&server.url()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn over_mariadb_what_has_ended_is_served_by_no_cache() {
        let Some(server) = Server::mariadb() else { return };
        over(&server.url()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn over_sqlite_what_has_ended_is_served_by_no_cache() {
        let folder = TempDir::new().unwrap();
        over(&format!("sqlite://{}", folder.path().join("sessions.sqlite").display())).await;
    }
}
