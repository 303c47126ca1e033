//! What the cache spares, and that it never brings back what was ended.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use tokio::sync::watch;

use super::*;
use crate::clock::ManualClock;
use crate::session::record::EndReason;
use crate::store::OnLimit;
use crate::store::conformance::schedules::{
    Gaps, Looks, Yields, every_schedule_of_two_has_an_order, schedules_of_three_have_an_order,
};
use crate::store::conformance::{self, session};
use crate::store::hooked::{Call, Hook, Hooked};
use crate::store::memory::MemoryStore;
use crate::store::shared::Shared;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Counts loads, and lets what was loaded and written out only while it is open: it was read, and done, before.
struct Gate {
    loads: AtomicUsize,
    is_open: watch::Sender<bool>,
}

type Gated = Hooked<Gate>;

fn gated() -> Gated {
    Hooked::new(Gate { loads: AtomicUsize::new(0), is_open: watch::Sender::new(true) })
}

impl Gated {
    fn close(&self) {
        self.hook.is_open.send_replace(false);
    }

    fn open(&self) {
        self.hook.is_open.send_replace(true);
    }

    /// Loads since this was asked last.
    fn loads(&self) -> usize {
        self.hook.loads.swap(0, Ordering::SeqCst)
    }
}

impl Hook for Gate {
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        if let Call::Load(_) = call {
            self.loads.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    async fn after(&self, call: Call<'_>) {
        if !matches!(call, Call::List) {
            self.is_open.subscribe().wait_for(|is_open| *is_open).await.unwrap();
        }
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW))
}

fn cached<S: Store>(store: S, clock: &Arc<ManualClock>) -> CachedStore<S> {
    CachedStore::new(store, Settings::default(), clock.clone())
}

fn ending() -> Ending {
    Ending { why: EndReason::Revoked, now: NOW, tombstone_until: NOW.after(Duration::from_secs(600)) }
}

fn rotation<'a>(old: &'a Record, to: u64) -> Rotate<'a> {
    let (new, tombstone_until) = (session(to, "ann"), NOW.after(Duration::from_secs(600)));
    Rotate { old: &old.digest, version: old.version, new, also_end: None, limit: None, now: NOW, tombstone_until }
}

/// A cache over a gated store with session 1 in it.
async fn with_one() -> CachedStore<Gated> {
    let store = cached(gated(), &clock());
    store.create(session(1, "ann"), None, NOW).await.unwrap();
    store
}

async fn loaded<S: Store>(store: &CachedStore<S>, nth: u64) -> Option<Arc<Record>> {
    store.load(&session(nth, "ann").digest).await.unwrap()
}

async fn lives<S: Store>(store: &CachedStore<S>, nth: u64) -> bool {
    loaded(store, nth).await.is_some_and(|record| !record.is_ended())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    conformance::run(async || cached(MemoryStore::default(), &clock())).await.unwrap();
    conformance::run(async || cached(Shared::new(MemoryStore::default()), &clock())).await.unwrap();
    // A cache that is always full, and one that keeps nothing fresh.
    let tiny = Settings { sessions_max: NonZeroUsize::MIN, ..Settings::default() };
    conformance::run(async || CachedStore::new(MemoryStore::default(), tiny, clock())).await.unwrap();
    let stale = Settings { fresh_for: Duration::ZERO, ..Settings::default() };
    conformance::run(async || CachedStore::new(MemoryStore::default(), stale, clock())).await.unwrap();
}

#[tokio::test]
async fn a_hit_costs_the_store_nothing() {
    let store = with_one().await;
    for _ in 0..9 {
        assert!(lives(&store, 1).await);
    }
    assert_eq!(store.store().loads(), 0, "what was created here is known");
    store.forget(&session(1, "ann").digest);
    for _ in 0..9 {
        assert!(lives(&store, 1).await);
    }
    assert_eq!(store.store().loads(), 1, "what was loaded is known");
    let Commit::Done(record) = store.commit(session(1, "ann"), Durability::Soon).await.unwrap() else { panic!() };
    assert_eq!(loaded(&store, 1).await, Some(record.clone()));
    assert_eq!(store.store().loads(), 0, "what was committed is known");
    // Not to session 2, whose digest happens to be of the same slot.
    store.rotate(rotation(&record, 3)).await.unwrap();
    assert!(lives(&store, 3).await);
    assert_eq!(store.store().loads(), 0, "what was rotated to is known");
    assert!(!lives(&store, 1).await);
    assert_eq!(store.load_fresh(&session(3, "ann").digest).await.unwrap(), loaded(&store, 3).await);
    assert_eq!(store.store().loads(), 2, "the tombstone, and what was asked for afresh");
}

#[tokio::test]
async fn nothing_is_kept_of_what_is_not_there_and_no_more_than_there_is_room_for() {
    let settings = Settings { sessions_max: NonZeroUsize::new(100).unwrap(), ..Settings::default() };
    let store = CachedStore::new(gated(), settings, clock());
    for nth in 0..1000 {
        assert!(loaded(&store, nth).await.is_none());
    }
    assert_eq!(store.count(), 0);
    for nth in 0..1000 {
        store.create(session(nth, "ann"), None, NOW).await.unwrap();
        assert!(lives(&store, nth).await);
    }
    assert!((50..=150).contains(&store.count()), "{}", store.count());
    store.forget_all();
    assert_eq!(store.count(), 0);
}

/// What happens while a load is under way that has seen the record before it.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Revoked,
    Committed,
    Rotated,
    SubjectRevoked,
    Evicted,
    Forgotten,
    AllForgotten,
    AbandonedRevoke,
}

#[tokio::test]
async fn a_load_that_is_late_never_brings_back_what_was_ended() {
    use Meanwhile::*;
    let mut context = Context::from_waker(Waker::noop());
    for what in [Revoked, Committed, Rotated, SubjectRevoked, Evicted, Forgotten, AllForgotten, AbandonedRevoke] {
        let store = with_one().await;
        let one = session(1, "ann");
        store.forget(&one.digest);
        store.store().close();
        let mut late = pin!(store.load(&one.digest));
        assert!(late.as_mut().poll(&mut context).is_pending());
        let elsewhere = async || store.store().memory.revoke(&one.digest, ending()).await.unwrap();
        let change = async {
            match what {
                Revoked => drop(store.revoke(&one.digest, ending()).await.unwrap()),
                Committed => drop(store.commit(one.clone(), Durability::Soon).await.unwrap()),
                Rotated => drop(store.rotate(rotation(&one, 3)).await.unwrap()),
                SubjectRevoked => drop(store.revoke_subject(" Ann", None, ending()).await.unwrap()),
                Evicted => {
                    let limit = SubjectLimit { sessions: 1.try_into().unwrap(), on_limit: OnLimit::EvictOldest };
                    // Of another slot, so that it is the eviction that tells.
                    store.create(session(3, "ann"), Some(limit), NOW).await.unwrap();
                }
                Forgotten => {
                    elsewhere().await;
                    store.forget(&one.digest);
                }
                AllForgotten => {
                    elsewhere().await;
                    store.forget_all();
                }
                AbandonedRevoke => {
                    let mut abandoned = pin!(store.revoke(&one.digest, ending()));
                    assert!(abandoned.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                }
            }
        };
        let mut change = pin!(change);
        // Those that ask the store wait at its gate, when it has done them.
        let waits = change.as_mut().poll(&mut context).is_pending();
        if waits {
            // What is loaded while they do is not kept either.
            let mut beside = pin!(store.load(&one.digest));
            assert!(beside.as_mut().poll(&mut context).is_pending());
            store.store().open();
            beside.await.unwrap();
            change.await;
        }
        store.store().open();
        assert_eq!(*late.await.unwrap().unwrap(), one, "{what:?}: it began before");
        let now = loaded(&store, 1).await.unwrap();
        assert_eq!(Some(&now), store.store().memory.load(&one.digest).await.unwrap().as_ref(), "{what:?}");
        assert_ne!(*now, one, "{what:?}");
    }
}

#[tokio::test]
async fn of_two_writes_at_once_neither_is_kept() {
    let mut context = Context::from_waker(Waker::noop());
    let store = with_one().await;
    store.store().close();
    let mut first = pin!(store.commit(session(1, "ann"), Durability::Soon));
    assert!(first.as_mut().poll(&mut context).is_pending());
    let mut second = pin!(store.commit(Record { version: 1, ..session(1, "ann") }, Durability::Soon));
    assert!(second.as_mut().poll(&mut context).is_pending());
    store.store().open();
    // The later one comes back first.
    second.await.unwrap();
    first.await.unwrap();
    assert_eq!(loaded(&store, 1).await.unwrap().version, 2);
}

#[tokio::test]
async fn another_node_is_late_by_so_much_and_no_more() {
    let (clock, shared) = (clock(), Shared::new(MemoryStore::default()));
    let (here, there) = (cached(shared.clone(), &clock), cached(shared, &clock));
    let one = session(1, "ann").digest;
    here.create(session(1, "ann"), None, NOW).await.unwrap();
    assert!(lives(&there, 1).await);
    clock.advance(Duration::from_secs(4));
    here.revoke(&one, ending()).await.unwrap();
    assert!(!lives(&here, 1).await);
    clock.advance(Duration::from_millis(5_999));
    assert!(lives(&there, 1).await, "it was read ten seconds ago at most");
    assert!(there.load_fresh(&one).await.unwrap().unwrap().is_ended());
    assert!(!lives(&there, 1).await, "and what was read afresh is known");

    here.create(session(2, "ann"), None, NOW).await.unwrap();
    here.create(session(3, "ann"), None, NOW).await.unwrap();
    assert!(lives(&there, 2).await && lives(&there, 3).await);
    here.revoke_subject("ann", None, ending()).await.unwrap();
    assert!(lives(&there, 2).await && lives(&there, 3).await);
    there.forget(&session(2, "ann").digest);
    assert!(!lives(&there, 2).await && lives(&there, 3).await);
    clock.advance(Duration::from_secs(10));
    assert!(!lives(&there, 3).await);
}

#[cfg(feature = "layer")]
mod guarded {
    use std::net::IpAddr;

    use http::{HeaderMap, Request, Response};

    use super::*;
    use crate::connection::Scheme;
    use crate::connection::print::Print;
    use crate::engine::{AnsweredBy, Client, ClientStanding, Decision, Guard, Selection};
    use crate::entropy::InsecureSeededEntropy;
    use crate::event::field::Revoker;
    use crate::layer::GuardBuilder;
    use crate::secret::{KeyId, Keyring, MasterKey};

    type Node = Guard<CachedStore<Shared<Gated>>>;

    /// Guards with caches of their own before one store.
    fn nodes(clock: &Arc<ManualClock>) -> [Node; 2] {
        let shared = Shared::new(gated());
        [1, 2].map(|seed| {
            let keys = Keyring::new(&MasterKey::new(KeyId(1), [1; 32]), &[]);
            GuardBuilder::new(cached(shared.clone(), clock))
                .keys(keys)
                .clock(clock.clone())
                .entropy(Arc::new(InsecureSeededEntropy::new(seed)))
                .build()
                .unwrap()
        })
    }

    fn loads(node: &Node) -> usize {
        node.store().store().store().loads()
    }

    /// A visit to a node: whom the app sees, and the cookie of the answer if there is one.
    async fn visit(node: &Node, path: &str, cookie: Option<&str>) -> (String, Option<String>) {
        let mut ask = Request::get(path).header("host", "example.com").header("user-agent", "Mozilla/5.0");
        if let Some(cookie) = cookie {
            ask = ask.header("cookie", cookie);
        }
        let (mut parts, ()) = ask.body(()).unwrap().into_parts();
        let client = Client {
            ip: IpAddr::from([203, 0, 113, 10]),
            scheme: Scheme::Https,
            standing: ClientStanding::Own,
            print: Print::default(),
            order: None,
            connection: None,
            located: None,
        };
        let Decision::Forward(admission) = node.admit(client, &mut parts, None).await else { panic!("it is refused") };
        let text = |headers: &HeaderMap, name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let subject = text(&parts.headers, "portcullis-subject").unwrap_or_default();
        let mut answer = Response::builder();
        if path == "/login" {
            answer = answer.header("portcullis-session", "login; subject=\"ann\"");
        }
        let (mut answer, ()) = answer.body(()).unwrap().into_parts();
        assert!(node.settle(admission, AnsweredBy::App, &mut answer).await.instead.is_none());
        let line = text(&answer.headers, "set-cookie");
        (subject, line.map(|line| line.split(';').next().unwrap().to_owned()))
    }

    #[tokio::test]
    async fn a_session_that_was_ended_on_one_node_is_refused_on_the_other() {
        for is_told in [true, false] {
            let clock = clock();
            let [here, there] = nodes(&clock);
            let cookie = visit(&here, "/login", None).await.1.unwrap();
            assert_eq!(visit(&there, "/", Some(&cookie)).await.0, "ann");
            loads(&there);
            assert_eq!(visit(&there, "/", Some(&cookie)).await.0, "ann");
            assert_eq!(loads(&there), 0, "a page costs the store nothing");
            let page = here.sessions(&Filter::default(), None, 9).await.unwrap();
            assert_eq!(here.revoke(&Selection::All, Revoker::Admin).await.unwrap(), 1);
            assert_eq!(visit(&here, "/", Some(&cookie)).await.0, "");
            assert_eq!(visit(&there, "/", Some(&cookie)).await.0, "ann", "it was not told");
            if is_told {
                there.store().forget(&page.records[0].digest);
            } else {
                clock.advance(Duration::from_secs(10));
            }
            assert_eq!(visit(&there, "/", Some(&cookie)).await.0, "");
        }
    }

    #[tokio::test]
    async fn any_tag_but_the_newest_is_looked_at_in_the_store() {
        let clock = clock();
        let [here, there] = nodes(&clock);
        let first = visit(&here, "/login", None).await.1.unwrap();
        clock.advance(Duration::from_secs(180));
        let (_, second) = visit(&here, "/", Some(&first)).await;
        let second = second.expect("a successor is offered");
        // The other node knows the session by its first tag; the successor is adopted here, and known there when it comes.
        assert_eq!(visit(&there, "/", Some(&first)).await.0, "ann");
        assert_eq!(visit(&here, "/", Some(&second)).await.0, "ann");
        loads(&there);
        let version = |record: Arc<Record>| record.version;
        let before = version(loaded_only(&there).await);
        assert_eq!(visit(&there, "/", Some(&second)).await.0, "ann");
        assert_eq!(loads(&there), 1, "a successor is asked for once");
        assert_eq!(version(loaded_only(&there).await), before, "and not adopted twice");
        assert_eq!(visit(&there, "/", Some(&second)).await.0, "ann");
        assert_eq!(loads(&there), 0, "it is the newest one now");
        // A tag of before, in its grace and long after it: asked for each time.
        assert_eq!(visit(&there, "/", Some(&first)).await.0, "ann");
        assert_eq!(loads(&there), 1);
        clock.advance(Duration::from_secs(65));
        assert_eq!(visit(&there, "/", Some(&second)).await.0, "ann");
        loads(&there);
        visit(&there, "/", Some(&first)).await;
        assert!(loads(&there) >= 1, "a stale tag is no ground to act on what is a while old");
    }

    async fn loaded_only(node: &Node) -> Arc<Record> {
        let page = node.sessions(&Filter::default(), None, 9).await.unwrap();
        assert_eq!(page.records.len(), 1);
        page.records[0].clone()
    }

    #[tokio::test]
    async fn a_session_that_another_node_kept_alive_is_not_ended_for_being_idle() {
        let clock = clock();
        let settings = Settings { fresh_for: Duration::from_secs(7200), ..Settings::default() };
        let shared = Shared::new(gated());
        let [here, there] = [1, 2].map(|seed| {
            GuardBuilder::new(CachedStore::new(shared.clone(), settings, clock.clone()))
                .keys(Keyring::new(&MasterKey::new(KeyId(1), [1; 32]), &[]))
                .clock(clock.clone())
                .entropy(Arc::new(InsecureSeededEntropy::new(seed)))
                .build()
                .unwrap()
        });
        let mut cookie = visit(&here, "/login", None).await.1.unwrap();
        assert_eq!(visit(&there, "/", Some(&cookie)).await.0, "ann");
        for _ in 0..4 {
            clock.advance(Duration::from_secs(600));
            let (subject, next) = visit(&here, "/", Some(&cookie)).await;
            assert_eq!(subject, "ann");
            cookie = next.unwrap_or(cookie);
        }
        assert_eq!(visit(&there, "/", Some(&cookie)).await.0, "ann");
    }
}

#[test]
fn whatever_comes_between_has_an_order() {
    let clock = clock();
    // What is stored, and what the cache has: alone before its store it is never behind.
    for looks in [Looks::Stored, Looks::Kept] {
        let played = every_schedule_of_two_has_an_order(looks, || cached(Hooked::new(Yields(Gaps::Both)), &clock));
        assert!(played > 300, "{played}");
        schedules_of_three_have_an_order(looks, || cached(Hooked::new(Yields(Gaps::Both)), &clock), 200);
    }
}
