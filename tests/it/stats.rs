//! Figures of all sessions, asked for over the operators' socket, and what a store costs by the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use portcullis::admin::{Address, Client, ClientError, CutBy, PolicyStanding, Server, Settings, States, Stats};
use portcullis::clock::{ManualClock, Timestamp};
use portcullis::connection::Scheme;
use portcullis::connection::print::Print;
use portcullis::engine::{self, AnsweredBy, ClientStanding, Decision, Guard};
use portcullis::entropy::OsEntropy;
use portcullis::event::Event;
use portcullis::event::queue::{EventQueue, Settings as QueueSettings, Writer};
use portcullis::event::sink::Collector;
use portcullis::layer::GuardBuilder;
use portcullis::session::id::{Ref, SessionDigest};
use portcullis::session::record::{EndReason, Record, State};
use portcullis::store::memory::MemoryStore;
use portcullis::store::{
    Commit, Creation, Durability, Ending, Filter, Page, Rotate, Rotation, Store, StoreError, SubjectLimit,
};
use tokio::sync::Notify;

use crate::support::stored::{NOW, session};

const PATIENCE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A store in memory whose pages can fail or wait.
#[derive(Debug, Default)]
struct Pages {
    inner: MemoryStore,
    /// Pages until one fails; 0 for never.
    fails_at: AtomicUsize,
    holds: AtomicBool,
    held: Notify,
    release: Notify,
    pages: AtomicUsize,
    largest: AtomicUsize,
}

impl Store for Pages {
    async fn create(&self, r: Record, limit: Option<SubjectLimit>, now: Timestamp) -> Result<Creation, StoreError> {
        self.inner.create(r, limit, now).await
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        self.inner.load(digest).await
    }

    async fn commit(&self, record: Record, durability: Durability) -> Result<Commit, StoreError> {
        self.inner.commit(record, durability).await
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        self.inner.rotate(rotate).await
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        self.inner.revoke(digest, ending).await
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        self.inner.revoke_subject(subject, except, ending).await
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        let nth = self.pages.fetch_add(1, Ordering::SeqCst) + 1;
        self.largest.fetch_max(max, Ordering::SeqCst);
        if self.fails_at.load(Ordering::SeqCst) == nth {
            return Err(StoreError::io("the disk is on fire"));
        }
        if self.holds.load(Ordering::SeqCst) {
            self.held.notify_one();
            self.release.notified().await;
        }
        self.inner.list(filter, after, max).await
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        self.inner.clear_expired(now, max).await
    }
}

/// A guard with its API.
struct World {
    clock: Arc<ManualClock>,
    guard: Arc<Guard<Pages>>,
    client: Client,
    events: Collector,
    _writer: Writer,
    _folder: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let events = Collector::new();
        let (sender, writer) =
            EventQueue::start(&QueueSettings::default(), clock.clone(), vec![Box::new(events.clone())]).unwrap();
        let guard = GuardBuilder::new(Pages::default()).shield("sessionid").clock(clock.clone()).events(sender);
        let guard = Arc::new(guard.build().unwrap());
        let address = Address::Unix(folder.path().join("admin.sock"));
        let settings = Settings { address: address.clone(), token_file: folder.path().join("admin.token") };
        let server = Server::bind(&settings, guard.clone(), PolicyStanding::default(), Arc::new(OsEntropy)).unwrap();
        tokio::spawn(server.with_store("memory").run(std::future::pending()));
        let client = Client::try_new(address, None).unwrap();
        Self { clock, guard, client, events, _writer: writer, _folder: folder }
    }

    fn store(&self) -> &Pages {
        self.guard.store()
    }

    async fn keep(&self, record: Record) {
        self.store().create(record, None, NOW).await.unwrap();
    }

    /// A request through the guard, and the app's answer to it back through the guard; gives our cookie.
    async fn visit(&self, cookie: Option<&str>, logs_in: &str) -> Option<String> {
        let request = http::Request::get("/").header("host", "example.com").header("user-agent", "Browser/1.0");
        let request = cookie.iter().fold(request, |request, cookie| request.header("cookie", *cookie));
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let client = engine::Client {
            ip: "203.0.113.10".parse().unwrap(),
            scheme: Scheme::Https,
            standing: ClientStanding::Own,
            print: Print::default(),
            order: None,
            connection: None,
            located: None,
        };
        let Decision::Forward(admission) = self.guard.admit(client, &mut parts, None).await else { panic!("refused") };
        let answer = http::Response::builder().header("content-length", "0");
        let answer = if logs_in.is_empty() {
            answer
        } else {
            answer.header("portcullis-session", format!("login; subject=\"{logs_in}\""))
        };
        let (mut parts, ()) = answer.body(()).unwrap().into_parts();
        self.guard.settle(admission, AnsweredBy::App, &mut parts).await;
        let line = parts.headers.get("set-cookie")?.to_str().unwrap();
        Some(line.split(';').next().unwrap().to_owned())
    }

    async fn stats(&self) -> Stats {
        self.client.stats(None).await.unwrap()
    }
}

fn kept(nth: u64, subject: &str) -> Record {
    Record { removable_at: NOW.after(30 * DAY), ..session(nth, subject) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_counted_by_state_age_size_and_subject() {
    let world = World::start();
    let empty = world.stats().await;
    assert_eq!((empty.records, empty.cut, empty.states, empty.sizes.median), (0, None, States::default(), 0));
    let ago = |seconds| NOW.before(Duration::from_secs(seconds));
    // Four of one person, in two spellings; the oldest began two days ago and was proved again since.
    for nth in 0..4 {
        let began = ago([30, 700, 7200, 2 * 86_400][usize::try_from(nth).unwrap()]);
        let last_seen = ago([0, 90, 90, 1200][usize::try_from(nth).unwrap()]);
        let subject = if nth == 2 { "ANN" } else { "ann" };
        world.keep(Record { created_at: began, last_seen, ..kept(nth, subject) }).await;
    }
    world.keep(Record { state: State::Quarantined { since: NOW }, ..kept(10, "bob") }).await;
    let from = Box::new(session(10, "bob").digest);
    let held =
        Record { state: State::Held { from, since: NOW }, subject: None, authenticated_at: None, ..kept(11, "") };
    world.keep(held).await;
    world.keep(Record { subject: None, authenticated_at: None, data: vec![7; 9000].into(), ..kept(12, "") }).await;
    // Over: by time alone, by logout, and two that are no sessions at all.
    world.keep(Record { last_seen: ago(3600), ..kept(20, "ann") }).await;
    world.keep(Record { state: State::Ended { at: NOW, why: EndReason::Logout }, ..kept(21, "ann") }).await;
    world.keep(Record { state: State::Ended { at: NOW, why: EndReason::Replaced }, ..kept(22, "ann") }).await;
    world.keep(Record { reference: Ref([0; 16]), ..kept(23, "ann") }).await;

    let stats = world.stats().await;
    assert_eq!((stats.records, stats.cut, stats.leftovers), (11, None, 2));
    assert_eq!(stats.states, States { live: 5, quarantined: 1, held: 1, ended: 2 });
    assert_eq!((stats.authenticated, stats.anonymous), (5, 2));
    let ages = |shares: &[portcullis::admin::AgeShare]| shares.iter().map(|s| s.sessions).collect::<Vec<_>>();
    assert_eq!(ages(&stats.began), [4, 0, 1, 1, 0, 1, 0]);
    assert_eq!(ages(&stats.last_seen), [4, 2, 1, 0, 0, 0, 0]);
    let (first, small) = (&stats.largest[0], &stats.largest[1]);
    assert_eq!(
        (first.reference.as_str(), first.data_bytes, first.jar_bytes),
        (&*kept(12, "").reference.to_string(), 9000, 200)
    );
    assert_eq!((stats.largest.len(), first.bytes, small.data_bytes), (7, stats.sizes.largest, 30));
    assert!(stats.sizes.largest > 9000 && stats.sizes.p99 == stats.sizes.largest && stats.sizes.median < 1000);
    let sized: Vec<usize> = stats.sizes.shares.iter().map(|share| share.sessions).collect();
    assert_eq!((sized.iter().sum::<usize>(), sized[5]), (7, 1), "{sized:?}");
    let subjects: Vec<_> =
        stats.subjects.iter().map(|busy| (busy.subject.to_lowercase(), busy.sessions, busy.at_most)).collect();
    assert_eq!(subjects, [("ann".to_owned(), 4, 4), ("bob".to_owned(), 1, 1)], "the ended ones do not count");
    assert_eq!((stats.at.as_str(), stats.store.kind.as_deref()), ("2027-01-15T08:00:00.000Z", Some("memory")));
    let bytes: u64 = stats.largest.iter().map(|large| large.bytes).sum();
    assert!(stats.bytes > bytes, "those that are over have a size too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_name_no_session_but_by_its_ref() {
    let world = World::start();
    let cookie = world.visit(None, "alice").await.unwrap();
    let text = serde_json::to_string(&world.stats().await).unwrap();
    let (_, value) = cookie.split_once('=').unwrap();
    let (id, tag) = value.split_once('.').unwrap();
    let digest = portcullis::session::id::Presented::parse(value.as_bytes()).unwrap().id.digest().0;
    let hex: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    for secret in [id, tag, &hex] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains("alice"));
    world.guard.events().flush(PATIENCE);
    let verbs = world.events.records().into_iter().filter_map(|record| match record.event {
        Event::AdminAction(action) => Some(action.verb.as_str().to_owned()),
        _ => None,
    });
    assert_eq!(verbs.collect::<Vec<_>>(), ["sessions.stats"], "every use is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_goes_in_pages_and_tells_where_it_was_cut() {
    let world = World::start();
    for nth in 0..2100 {
        world.keep(kept(nth, &format!("user{nth}"))).await;
    }
    let all = world.stats().await;
    assert_eq!((all.records, all.states.live, all.cut), (2100, 2100, None));
    let store = world.store();
    assert!(store.pages.load(Ordering::SeqCst) >= 5 && store.largest.load(Ordering::SeqCst) <= 500);
    let cut = world.client.stats(Some(1001)).await.unwrap();
    assert_eq!((cut.records, cut.states.live, cut.cut), (1001, 1001, Some(CutBy::Records)));
    let whole = world.client.stats(Some(2100)).await.unwrap();
    assert_eq!((whole.records, whole.cut), (2100, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_the_store_is_told_and_one_walk_is_under_way_at_a_time() {
    let world = World::start();
    world.keep(kept(1, "ann")).await;
    world.store().fails_at.store(1, Ordering::SeqCst);
    match world.client.stats(None).await {
        Err(ClientError::Refused { status, detail }) => {
            assert_eq!(status, 503);
            assert!(detail.contains("the disk is on fire"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    world.store().holds.store(true, Ordering::SeqCst);
    let first = tokio::spawn({
        let client = world.client.clone();
        async move { client.stats(None).await }
    });
    world.store().held.notified().await;
    let second = world.client.stats(None).await;
    assert!(matches!(second, Err(ClientError::Refused { status, .. }) if status == 409), "{second:?}");
    assert!(world.client.health().await.unwrap().store, "everything else goes on");
    world.store().holds.store(false, Ordering::SeqCst);
    world.store().release.notify_one();
    assert_eq!(first.await.unwrap().unwrap().records, 1);
    assert_eq!(world.stats().await.records, 1, "and the next one may begin");
}

/// A visitor who logs in, comes back within the minute, comes back later, and one who is unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_requests_cost_the_store_is_counted() {
    let world = World::start();
    let cookie = world.visit(None, "alice").await.unwrap();
    world.visit(Some(&cookie), "").await;
    world.clock.advance(Duration::from_secs(100));
    world.visit(Some(&cookie), "").await;
    world.visit(None, "").await;
    let store = world.stats().await.store;
    assert_eq!((store.requests, store.writes, store.writes_per_request), (4, 2, Some(0.5)));
    let of = |name: &str| store.operations.iter().find(|of| of.operation == name).unwrap().clone();
    assert_eq!((of("create").done, of("load").done, of("commit").done), (1, 2, 1));
    assert_eq!((of("load").nothing, of("load").failed, of("load").at_once), (0, 0, 2));
    assert_eq!(of("rotate").calls, 0);

    let text = world.client.metrics().await.unwrap();
    let value = |series: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series}: {text}")).parse().unwrap()
    };
    assert_eq!(value("portcullis_store_requests_total"), 4);
    assert_eq!(value("portcullis_store_info{kind=\"memory\"}"), 1);
    assert_eq!(value("portcullis_store_calls_total{operation=\"load\",outcome=\"done\"}"), 2);
    assert_eq!(value("portcullis_store_calls_total{operation=\"commit\",outcome=\"done\"}"), 1);
    assert_eq!(value("portcullis_store_calls_total{operation=\"load\",outcome=\"failed\"}"), 0);
    assert_eq!(value("portcullis_store_wait_seconds_bucket{operation=\"load\",le=\"0.0001\"}"), 2);
    assert_eq!(value("portcullis_store_wait_seconds_count{operation=\"load\"}"), 2);
}
