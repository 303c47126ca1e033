//! Three nodes whose words travel slowly, in virtual time: what has been ended is served by none from the moment that it is answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::clock::{Clock, Timestamp};
use crate::session::id::SessionDigest;
use crate::session::record::{EndReason, Record, State};
use crate::store::cached::{CachedStore, Settings};
use crate::store::conformance::Dice;
use crate::store::conformance::session;
use crate::store::endings::Notice;
use crate::store::hooked::{Call, Hook, Hooked};
use crate::store::leases::{LEASE, Leased, Leases, Node, RENEWED_EVERY, Recall, Renewed};
use crate::store::memory::MemoryStore;
use crate::store::shared::Shared;
use crate::store::{Commit, Durability, Ending, Store, StoreError};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// The time of the runtime.
#[derive(Debug)]
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        NOW.after(self.0.elapsed())
    }
}

const SESSIONS: u64 = 6;
const ENDS: usize = 6;

fn digest(nth: u64) -> SessionDigest {
    session(nth, "ann").digest
}

fn ending() -> Ending {
    Ending { why: EndReason::Revoked, now: NOW, tombstone_until: NOW.after(Duration::from_secs(600)) }
}

/// What all nodes share, and how slow it is.
struct Server {
    dice: Dice,
    clock: Virtual,
    leases: Mutex<BTreeMap<Node, Timestamp>>,
    /// What was not returned, and since when.
    open: Mutex<BTreeMap<(Node, Recall), Timestamp>>,
    /// What was told so far, in order.
    told: Mutex<Vec<Notice>>,
    /// Which sessions have ended, and that was answered.
    answered: [AtomicBool; ENDS],
    loads: AtomicU64,
}

impl Server {
    fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            dice: Dice::new(seed),
            clock: Virtual(Instant::now()),
            leases: Mutex::default(),
            open: Mutex::default(),
            told: Mutex::default(),
            answered: Default::default(),
            loads: AtomicU64::new(0),
        })
    }

    fn at_most(&self, millis: u64) -> Duration {
        Duration::from_millis(self.dice.roll(millis + 1))
    }

    /// Something travels, as a rule quickly.
    async fn travel(&self) {
        let most = if self.dice.roll(40) == 0 { 900 } else { 6 };
        sleep(self.at_most(most)).await;
    }

    async fn there_and_back<T>(&self, step: impl FnOnce() -> T) -> Result<T, StoreError> {
        self.travel().await;
        let done = step();
        self.travel().await;
        Ok(done)
    }

    fn is_answered(&self, nth: u64) -> &AtomicBool {
        &self.answered[usize::try_from(nth).unwrap()]
    }
}

#[derive(Clone)]
struct Slow(Arc<Server>);

impl Hook for Slow {
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        if matches!(call, Call::Load(_)) {
            self.0.loads.fetch_add(1, Ordering::Relaxed);
        }
        self.0.travel().await;
        Ok(())
    }

    async fn after(&self, call: Call<'_>) {
        if matches!(call, Call::Change) {
            // Whichever it was: one that lives is loaded again.
            self.0.told.lock().extend((0..SESSIONS).map(|nth| Notice::Session(digest(nth))));
        }
        self.0.travel().await;
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(&*self.0)
    }
}

impl Leases for Server {
    fn renew<'a>(&'a self, node: Node, returned: &'a [Recall]) -> Leased<'a, Renewed> {
        Box::pin(self.there_and_back(move || {
            let (mut leases, mut open, now) = (self.leases.lock(), self.open.lock(), self.clock.now());
            open.retain(|(of, recall), _| *of != node || !returned.contains(recall));
            let left: Vec<_> = open.iter().filter(|((of, _), _)| *of == node).collect();
            let oldest = left.iter().map(|(_, since)| **since).fold(now, Timestamp::min);
            let before = leases.get(&node).copied().unwrap_or(Timestamp::EPOCH);
            let until = before.max(oldest.after(LEASE));
            leases.insert(node, until);
            let open = left.iter().map(|((_, recall), _)| *recall).collect();
            Renewed { was_held: before > now, granted: until.since(now), open }
        }))
    }

    fn recall(&self, node: Node, recall: Recall) -> Leased<'_, bool> {
        Box::pin(self.there_and_back(move || {
            let (leases, now) = (self.leases.lock(), self.clock.now());
            let others: Vec<_> = leases.iter().filter(|(of, until)| **of != node && **until > now).collect();
            self.open.lock().extend(others.iter().map(|(of, _)| ((**of, recall), now)));
            self.told.lock().push(Notice::Recall(recall));
            !others.is_empty()
        }))
    }

    fn is_open(&self, recall: Recall) -> Leased<'_, bool> {
        Box::pin(self.there_and_back(move || {
            let (leases, open, now) = (self.leases.lock(), self.open.lock(), self.clock.now());
            leases.iter().any(|(of, until)| *until > now && open.contains_key(&(*of, recall)))
        }))
    }

    fn release(&self, node: Node) -> Leased<'_, ()> {
        Box::pin(self.there_and_back(move || {
            self.leases.lock().remove(&node);
            self.open.lock().retain(|(of, _), _| *of != node);
        }))
    }
}

type Cached = Arc<CachedStore<Hooked<Slow>>>;

async fn nodes(server: &Arc<Server>) -> [Cached; 3] {
    let memory = Shared::new(MemoryStore::default());
    for nth in 0..SESSIONS {
        memory.create(session(nth, "ann"), None, NOW).await.unwrap();
    }
    [(); 3].map(|()| {
        let behind = Hooked { memory: memory.clone(), hook: Slow(server.clone()) };
        let settings = Settings { fresh_for: Duration::from_secs(60), ..Settings::default() };
        Arc::new(CachedStore::new(behind, settings, Arc::new(Virtual(server.clock.0))))
    })
}

/// Renews the lease, now and then much too late. Some nodes come later.
async fn renews(node: Cached, server: Arc<Server>) {
    sleep(server.at_most(2000)).await;
    loop {
        node.attend().await;
        let is_stuck = server.dice.roll(8) == 0;
        sleep(if is_stuck { Duration::from_secs(3) } else { RENEWED_EVERY }).await;
    }
}

/// Hears what is told, in order and late.
async fn hears(node: Cached, server: Arc<Server>) {
    let mut heard = 0;
    loop {
        server.travel().await;
        let Some(notice) = server.told.lock().get(heard).copied() else { continue };
        heard += 1;
        node.heed(notice);
        if matches!(notice, Notice::Recall(_)) {
            node.attend().await;
        }
    }
}

/// Serves the sessions, and none after it was answered that it has ended. Counts.
async fn serves(node: Cached, server: Arc<Server>, seed: u64, served: Arc<AtomicU64>) {
    loop {
        let nth = server.dice.roll(SESSIONS);
        let is_over = server.is_answered(nth).load(Ordering::SeqCst);
        let record = node.load(&digest(nth)).await.unwrap().unwrap();
        assert!(!is_over || record.is_ended(), "seed {seed}, session {nth}");
        served.fetch_add(1, Ordering::Relaxed);
        sleep(server.at_most(20)).await;
    }
}

/// Ends a session some time, and tells how long that took.
async fn ends(node: Cached, server: Arc<Server>, nth: u64) -> Duration {
    sleep(server.at_most(6000)).await;
    let began = Instant::now();
    if server.dice.roll(4) == 0 {
        node.revoke_subject("ann", None, ending()).await.unwrap();
        server.answered.iter().for_each(|is_answered| is_answered.store(true, Ordering::SeqCst));
    } else {
        node.revoke(&digest(nth), ending()).await.unwrap();
        server.is_answered(nth).store(true, Ordering::SeqCst);
    }
    began.elapsed()
}

/// How long the longest end took, how often sessions were served, and how often the store was asked for one.
async fn story(seed: u64, is_told: bool) -> (Duration, u64, u64) {
    let (server, served) = (Server::new(seed), Arc::new(AtomicU64::new(0)));
    let nodes = nodes(&server).await;
    let mut tasks = JoinSet::new();
    for node in &nodes {
        tasks.spawn(renews(node.clone(), server.clone()));
        tasks.spawn(serves(node.clone(), server.clone(), seed, served.clone()));
        if is_told {
            tasks.spawn(hears(node.clone(), server.clone()));
        }
    }
    let mut ending = JoinSet::new();
    for nth in 0..SESSIONS {
        let node = nodes[usize::try_from(server.dice.roll(3)).unwrap()].clone();
        ending.spawn(ends(node, server.clone(), nth));
    }
    let longest = ending.join_all().await.into_iter().max().unwrap();
    sleep(Duration::from_secs(2)).await;
    tasks.abort_all();
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    (longest, served.load(Ordering::Relaxed), server.loads.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn from_the_answer_on_no_node_serves_what_has_ended() {
    for is_told in [true, false] {
        let (mut longest, mut served, mut asked) = (Duration::ZERO, 0, 0);
        for seed in 0..60 {
            let (took, more, loads) = story(seed, is_told).await;
            (longest, served, asked) = (longest.max(took), served + more, asked + loads);
        }
        // Two leases, and what travels before and behind.
        assert!(longest < 2 * LEASE + Duration::from_secs(5), "{longest:?}");
        assert!(longest > LEASE / 2, "somebody was waited for: {longest:?}");
        assert!(asked < served / 2, "the cache is used: {asked} of {served}");
    }
}

async fn is_live(node: &Cached, nth: u64) -> bool {
    node.load(&digest(nth)).await.unwrap().is_some_and(|record| !record.is_ended())
}

/// The store was put back, or another one took its place that had not heard of the lease: nobody waits for this node then.
#[tokio::test(start_paused = true)]
async fn a_node_whose_lease_was_lost_lets_go_of_all_it_has_as_soon_as_it_knows() {
    for is_gap in [true, false] {
        let server = Server::new(1);
        let [here, there, _] = nodes(&server).await;
        there.attend().await;
        assert!(is_live(&there, 0).await);
        let loads = server.loads.load(Ordering::Relaxed);
        assert!(is_live(&there, 0).await && server.loads.load(Ordering::Relaxed) == loads, "it is in the cache");
        server.leases.lock().clear();
        here.revoke(&digest(0), ending()).await.unwrap();
        if is_gap {
            there.heed(Notice::Gap);
        } else {
            there.attend().await;
        }
        assert!(!is_live(&there, 0).await);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_node_that_has_left() {
    let server = Server::new(1);
    let [here, there, _] = nodes(&server).await;
    there.attend().await;
    assert!(is_live(&there, 0).await);
    there.leave().await;
    let began = Instant::now();
    here.revoke(&digest(0), ending()).await.unwrap();
    assert!(began.elapsed() < LEASE / 2, "{:?}", began.elapsed());
    assert!(!is_live(&there, 0).await);
}

/// An end by time is one everywhere. One that is decided is waited for, and so is that a client was moved aside.
#[tokio::test(start_paused = true)]
async fn what_ends_by_time_is_not_waited_for() {
    let server = Server::new(1);
    let [here, there, _] = nodes(&server).await;
    there.attend().await;
    let recalls = || server.told.lock().iter().filter(|notice| matches!(notice, Notice::Recall(_))).count();
    for why in [EndReason::Idle, EndReason::Absolute] {
        here.revoke(&digest(0), Ending { why, ..ending() }).await.unwrap();
    }
    let touched = Arc::unwrap_or_clone(here.load(&digest(1)).await.unwrap().unwrap());
    let Commit::Done(touched) = here.commit(touched, Durability::Durable).await.unwrap() else { panic!() };
    assert_eq!(recalls(), 0);
    let aside = Record { state: State::Quarantined { since: NOW }, ..(*touched).clone() };
    assert!(matches!(here.commit(aside, Durability::Durable).await.unwrap(), Commit::Done(_)));
    here.revoke(&digest(1), ending()).await.unwrap();
    assert_eq!(recalls(), 2);
}
