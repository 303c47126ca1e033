//! Sessions that go from one store into another: nobody has to log in again, and nobody who was logged out comes back.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::ManualClock;
use portcullis::entropy::{InsecureSeededEntropy, random};
use portcullis::session::expiry::Deadlines;
use portcullis::session::id::SessionDigest;
use portcullis::session::record::{EndReason, Record, State};
use portcullis::session::tag::{Tag, Tags};
use portcullis::store::embedded::{self, EmbeddedStore};
use portcullis::store::memory::MemoryStore;
use portcullis::store::migrate::{Counts, Doing, Fault, Settings, migrate};
use portcullis::store::{Commit, Durability, Ending, Filter, Store, StoreError};
use serde_json::Value;
use tempfile::TempDir;

use crate::e2e::process::Process;
use crate::support::origin::{Origin, raw};
use crate::support::stored::{NOW, rows, session};
use crate::support::wire::Wire;
use crate::support::world::ledger::Ledger;

const DAY: Duration = Duration::from_secs(24 * 3600);
const DEADLINES: Deadlines =
    Deadlines { idle: Duration::from_secs(1800), absolute: Duration::from_secs(12 * 3600), longest: None };

fn settings(doing: Doing) -> Settings {
    Settings { doing, deadlines: DEADLINES, clock: Arc::new(ManualClock::new(NOW)) }
}

async fn carried<A: Store, B: Store>(from: &A, to: &Arc<B>, doing: Doing) -> Counts {
    migrate(from, to, &settings(doing), |_| {}).await.unwrap()
}

/// Copies, after a rehearsal that must have said the same and changed nothing.
async fn copied<A: Store, B: Store>(from: &A, to: &Arc<B>) -> Counts {
    let before = everything(&**to).await;
    let foretold = carried(from, to, Doing::Count).await;
    assert_eq!(everything(&**to).await, before, "a rehearsal changes nothing");
    let counts = carried(from, to, Doing::Copy).await;
    assert_eq!(counts, foretold);
    counts
}

/// All that is in a store, by digest.
async fn everything<S: Store>(store: &S) -> BTreeMap<SessionDigest, Record> {
    let filter = Filter { with_ended: true, ..Filter::default() };
    let (mut all, mut after) = (BTreeMap::new(), None);
    loop {
        let page = store.list(&filter, after, 1000).await.unwrap();
        all.extend(page.records.iter().map(|record| (record.digest, record.as_ref().clone())));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

async fn keep<S: Store>(store: &S, record: Record) {
    store.create(record, None, NOW).await.unwrap();
}

async fn commit<S: Store>(store: &S, change: impl FnOnce(&mut Record), digest: &SessionDigest) {
    let mut record = store.load(digest).await.unwrap().unwrap().as_ref().clone();
    change(&mut record);
    let done = store.commit(record, Durability::Durable).await.unwrap();
    assert!(matches!(done, Commit::Done(_)), "{done:?}");
}

fn kept(nth: u64, subject: &str) -> Record {
    Record { removable_at: NOW.after(DAY), ..session(nth, subject) }
}

fn tag(generation: u8) -> Tag {
    let mut bytes = [9; 16];
    bytes[..4].copy_from_slice(&[generation, 0, 0, 0]);
    Tag::from_bytes(bytes)
}

fn ending(why: EndReason) -> Ending {
    Ending { why, now: NOW, tombstone_until: NOW.after(DAY) }
}

/// Sessions of every kind, drawn with a seed; one in seven has ended, and none is over by time.
fn crowd(seed: u64, count: u64) -> Vec<Record> {
    let dice = InsecureSeededEntropy::new(seed);
    let roll = |sides: u64| u64::from_be_bytes(random(&dice).unwrap()) % sides;
    let of = |nth: u64| {
        let subject = ["ann", "ANN", "bob", "j\u{f6}rg", ""][usize::try_from(roll(5)).unwrap()];
        let mut record = kept(nth, subject);
        if subject.is_empty() {
            (record.subject, record.authenticated_at) = (None, None);
        }
        record.last_seen = NOW.before(Duration::from_secs(roll(1000)));
        record.data = vec![7; usize::try_from(roll(3000)).unwrap()].into();
        record.tags = Tags::new(tag(u8::try_from(roll(200)).unwrap()), record.last_seen);
        record.forks = u8::try_from(roll(3)).unwrap();
        record.state = match roll(7) {
            0 => State::Quarantined { since: record.last_seen },
            1 => State::Held { from: Box::new(kept(nth + 1, "").digest), since: NOW },
            _ => State::Live,
        };
        match roll(7) {
            0 => {
                let why = [EndReason::Logout, EndReason::Replaced, EndReason::Terminated];
                let why = why[usize::try_from(roll(3)).unwrap()];
                Record { version: 0, ..record.ended(record.last_seen, why, NOW.after(DAY)) }
            }
            _ => record,
        }
    };
    (0..count).map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_over_as_it_is_and_twice_is_as_good_as_once() {
    let (old, new) = (MemoryStore::default(), Arc::new(MemoryStore::default()));
    for record in crowd(11, 2500) {
        keep(&old, record).await;
    }
    // A version counts the commits of one store.
    let some = everything(&old).await.into_values().find(|record| !record.is_ended()).unwrap();
    commit(&old, |record| record.data = vec![1].into(), &some.digest).await;
    let all = everything(&old).await;
    let ended = all.values().filter(|record| record.is_ended()).count() as u64;
    let counts = copied(&old, &new).await;
    assert!(ended > 100);
    assert_eq!(counts, Counts { copied: 2500 - ended, tombstones: ended, ..Counts::default() });
    let there = everything(&*new).await;
    let expected: BTreeMap<_, _> =
        all.iter().map(|(digest, record)| (*digest, Record { version: 0, ..record.clone() })).collect();
    assert_eq!(there, expected);
    let again = copied(&old, &new).await;
    assert_eq!(again, Counts { kept: 2500 - ended, stay_ended: ended, ..Counts::default() });
    assert_eq!(everything(&*new).await, expected);
    assert_eq!(again.looked_at(), 2500);
}

/// Between two copies people go on in the old store: they log out, are sent new ids, use their sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_in_the_old_store_since_is_brought_over() {
    let (old, new) = (MemoryStore::default(), Arc::new(MemoryStore::default()));
    for nth in 1..=6 {
        keep(&old, kept(nth, "ann")).await;
    }
    copied(&old, &new).await;
    let digest = |nth| kept(nth, "").digest;
    old.revoke(&digest(1), ending(EndReason::Logout)).await.unwrap();
    commit(&old, |record| record.last_seen = NOW.after(Duration::from_secs(60)), &digest(2)).await;
    commit(&old, |record| record.jar = vec![5; 50].into(), &digest(3)).await;
    commit(&old, |record| record.tags = Tags::new(tag(3), NOW), &digest(4)).await;
    commit(&old, |record| record.state = State::Quarantined { since: NOW }, &digest(5)).await;
    let counts = copied(&old, &new).await;
    assert_eq!(counts, Counts { ended: 1, updated: 4, kept: 1, ..Counts::default() });
    let (was, is) = (everything(&old).await, everything(&*new).await);
    for (digest, record) in &was {
        let same = Record { version: record.version, ..is[digest].clone() };
        assert_eq!(same, *record);
    }
    assert!(matches!(is[&digest(1)].state, State::Ended { at: NOW, why: EndReason::Logout }));
    let again = copied(&old, &new).await;
    assert_eq!(again, Counts { kept: 5, stay_ended: 1, ..Counts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_in_the_new_store_since_stays() {
    let (old, new) = (MemoryStore::default(), Arc::new(MemoryStore::default()));
    for nth in 1..=6 {
        keep(&old, kept(nth, "ann")).await;
    }
    copied(&old, &new).await;
    let digest = |nth| kept(nth, "").digest;
    new.revoke(&digest(1), ending(EndReason::Logout)).await.unwrap();
    commit(&*new, |record| record.last_seen = NOW.after(Duration::from_secs(60)), &digest(2)).await;
    commit(&*new, |record| record.jar = vec![5; 50].into(), &digest(3)).await;
    // Used in both: the new one is further.
    commit(&*new, |record| record.tags = Tags::new(tag(3), NOW), &digest(4)).await;
    commit(&old, |record| record.tags = Tags::new(tag(2), NOW), &digest(4)).await;
    // A quarantine is never lifted, however much later the old session was used.
    commit(&*new, |record| record.state = State::Quarantined { since: NOW }, &digest(5)).await;
    commit(&old, |record| record.last_seen = NOW.after(Duration::from_secs(600)), &digest(5)).await;
    // Ended in the old one, used in the new one: whoever logged out is logged out.
    commit(&*new, |record| record.last_seen = NOW.after(Duration::from_secs(600)), &digest(6)).await;
    old.revoke(&digest(6), ending(EndReason::Revoked)).await.unwrap();
    let before = everything(&*new).await;
    let counts = copied(&old, &new).await;
    assert_eq!(counts, Counts { stay_ended: 1, kept: 4, ended: 1, ..Counts::default() });
    let mut after = everything(&*new).await;
    assert!(after[&digest(6)].is_ended());
    after.insert(digest(6), before[&digest(6)].clone());
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_by_time_is_not_brought_back() {
    let (old, new) = (MemoryStore::default(), Arc::new(MemoryStore::default()));
    let long_ago = NOW.before(Duration::from_secs(1800));
    keep(&old, Record { last_seen: long_ago, ..kept(1, "ann") }).await;
    keep(&old, Record { ends_at: Some(NOW), ..kept(2, "ann") }).await;
    keep(&old, Record { authenticated_at: Some(NOW.before(DAY)), ..kept(3, "ann") }).await;
    let tombstone = kept(4, "ann").ended(long_ago, EndReason::Logout, NOW);
    keep(&old, tombstone).await;
    keep(&old, Record { last_seen: long_ago.after(Duration::from_secs(1)), ..kept(5, "ann") }).await;
    let counts = copied(&old, &new).await;
    assert_eq!(counts, Counts { over: 4, copied: 1, ..Counts::default() });
    assert_eq!(everything(&*new).await.into_keys().collect::<Vec<_>>(), [kept(5, "").digest]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_store_that_is_full_says_so_and_is_gone_on_with_when_there_is_room() {
    let old = MemoryStore::default();
    for nth in 0..50 {
        keep(&old, kept(nth, "ann")).await;
    }
    let folder = TempDir::new().unwrap();
    let open = |sessions_max: usize| {
        let settings = embedded::Settings { sessions_max: sessions_max.try_into().unwrap(), ..Default::default() };
        Arc::new(EmbeddedStore::open(folder.path(), Arc::new(rows(&[1])), settings).unwrap().0)
    };
    let small = open(20);
    let failure = migrate(&old, &small, &settings(Doing::Copy), |_| {}).await.unwrap_err();
    assert!(matches!(failure.fault, Fault::New(StoreError::Full)), "{failure}");
    assert_eq!((failure.counts.copied, small.count()), (20, 20));
    small.close().await;
    drop(small);
    let large = open(60);
    let counts = migrate(&old, &large, &settings(Doing::Copy), |_| {}).await.unwrap();
    assert_eq!(counts, Counts { copied: 30, kept: 20, ..Counts::default() });
}

// Each store ----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_session_that_is_changed_as_fast_as_it_is_looked_at_is_told_and_not_counted_as_done() {
    let (old, new) = (MemoryStore::default(), Arc::new(Ledger::default()));
    for nth in 1..=2 {
        keep(&old, kept(nth, "ann")).await;
        keep(&*new, kept(nth, "ann")).await;
    }
    // Somebody gave the thief away in the old store.
    commit(&old, |record| record.state = State::Quarantined { since: NOW }, &kept(1, "ann").digest).await;
    new.others_write_first(100);
    let counts = carried(&old, &new, Doing::Copy).await;
    assert_eq!((counts.contested, counts.kept, counts.updated, counts.looked_at()), (1, 1, 0, 2));
    new.others_write_first(0);
    assert_eq!(carried(&old, &new, Doing::Copy).await.updated, 1);
}

/// From memory into a store, and back from it: all that there is, tombstones too, whatever the store makes of it.
async fn there_and_back<S: Store>(store: S) {
    let (old, store, back) = (MemoryStore::default(), Arc::new(store), Arc::new(MemoryStore::default()));
    for record in crowd(23, 300) {
        keep(&old, record).await;
    }
    let all = everything(&old).await;
    copied(&old, &store).await;
    assert_eq!(everything(&*store).await, all);
    let live = store.list(&Filter::default(), None, 1000).await.unwrap().records;
    assert!(live.iter().all(|record| !record.is_ended()), "a tombstone is none of those that live");
    assert_eq!(live.len(), all.values().filter(|record| !record.is_ended()).count());
    // Between two copies somebody logs out, and somebody goes on.
    let mut living = all.values().filter(|record| !record.is_ended());
    let (leaves, stays) = (living.next().unwrap().digest, living.next().unwrap().digest);
    old.revoke(&leaves, ending(EndReason::Logout)).await.unwrap();
    commit(&old, |record| record.last_seen = NOW.after(Duration::from_secs(5)), &stays).await;
    let counts = copied(&old, &store).await;
    assert_eq!((counts.ended, counts.updated, counts.copied, counts.tombstones), (1, 1, 0, 0));
    let counts = copied(&*store, &back).await;
    assert_eq!(counts.looked_at(), 300);
    let versionless = |record: Record| Record { version: 0, ..record };
    let (was, is) = (everything(&old).await, everything(&*back).await);
    assert_eq!(is, was.into_iter().map(|(digest, record)| (digest, versionless(record))).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_go_through_the_embedded_store() {
    let folder = TempDir::new().unwrap();
    there_and_back(EmbeddedStore::open(folder.path(), Arc::new(rows(&[1])), embedded::Settings::default()).unwrap().0)
        .await;
}

#[cfg(feature = "file")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_go_through_the_store_of_files() {
    use portcullis::store::file::{FileStore, Settings};
    let folder = TempDir::new().unwrap();
    there_and_back(FileStore::open(folder.path(), Arc::new(rows(&[1])), Settings::default()).unwrap().0).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_go_through_redis() {
    let Some(server) = crate::support::redis::Redis::start_with("--appendonly no") else { return };
    there_and_back(server.store("portcullis", rows(&[1])).await).await;
}

#[cfg(feature = "sql")]
mod in_databases {
    use portcullis::store::sql::{Settings, SqlStore};

    use super::*;
    use crate::support::databases::Server;

    async fn check(url: &str) {
        let settings = Settings { timeout: Duration::from_secs(120), ..Settings::default() };
        there_and_back(SqlStore::connect(url, settings, rows(&[1])).await.unwrap()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sessions_go_through_sqlite() {
        let folder = TempDir::new().unwrap();
        check(&format!("sqlite://{}", folder.path().join("sessions.sqlite").display())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sessions_go_through_postgres() {
        let Some(server) = Server::postgres() else { return };
        check(&server.url()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sessions_go_through_mariadb() {
        let Some(server) = Server::mariadb() else { return };
        check(&server.url()).await;
    }
}

// The program ---------------------------------------------------------------------------------------------------------

/// A folder with configurations that differ in their stores.
struct Site {
    folder: TempDir,
    origin: Origin,
}

impl Site {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), origin: Origin::start() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a configuration with this `[store]`.
    fn configure(&self, name: &str, store: &str) {
        let app = self.origin.address();
        let text = format!(
            "version = 1\n[[listen]]\naddress = \"127.0.0.1:0\"\n[upstream]\nurl = \"http://{app}\"\n\
             [session]\nshield = [\"sessionid\"]\ninsecure_http_cookie = true\n[store]\n{store}\n\
             [keys]\nfile = \"keys.toml\"\n[admin]\naddress = \"unix:admin.sock\"\n\
             [[events.sink]]\ntype = \"stdout\"\nformat = \"json\"\n"
        );
        fs::write(self.path().join(name), text).unwrap();
    }

    fn program(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(words).current_dir(self.path());
        command
    }

    /// Starts the guard; gives where it listens.
    fn guard(&self, config: &str) -> (Process, SocketAddr) {
        let mut command = self.program(&["run", "--config", config]);
        let mut process = Process::start(&mut command, self.path().join("complaints.txt"));
        let started = process.line("guard.started", |line| {
            serde_json::from_str::<Value>(line).ok().filter(|event| event["event"] == "guard.started")
        });
        let address = started["listen"].as_str().unwrap().parse().unwrap();
        (process, address)
    }

    fn run(&self, words: &[&str]) -> (i32, String, String) {
        let output = self.program(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Moves everything, and gives the counts.
    #[track_caller]
    fn migrate(&self, from: &str, to: &str, more: &[&str]) -> Value {
        let words = [&["migrate", "--from", from, "--to", to, "--format", "json"], more].concat();
        let (code, out, err) = self.run(&words);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        serde_json::from_str(&out).unwrap()
    }

    /// Logs somebody in; gives the cookie.
    fn login(&self, at: SocketAddr, who: &str) -> String {
        self.origin.next(raw(&format!(
            "HTTP/1.1 200 OK\r\nPortcullis-Session: login; subject=\"{who}\"\r\n\
             Set-Cookie: sessionid=secret-of-{who}; HttpOnly; Path=/\r\nContent-Length: 0\r\n\r\n"
        )));
        let reply = Wire::connect(at).send("GET /login HTTP/1.1\r\nHost: a\r\n\r\n").reply();
        let line = reply.header("set-cookie").unwrap();
        line.split(';').next().unwrap().to_owned()
    }

    /// Logs somebody out.
    fn logout(&self, at: SocketAddr, cookie: &str) {
        self.origin.next(raw("HTTP/1.1 200 OK\r\nPortcullis-Session: logout\r\nContent-Length: 0\r\n\r\n"));
        let request = format!("GET /logout HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
        assert_eq!(Wire::connect(at).send(request).reply().status, 200);
    }

    /// Whom the app sees behind a cookie, and with which cookie of its own.
    fn seen(&self, at: SocketAddr, cookie: &str) -> (Option<String>, Option<String>) {
        self.origin.next(raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        let count = self.origin.seen().len();
        let request = format!("GET /page HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
        assert_eq!(Wire::connect(at).send(request).reply().status, 200);
        let seen = self.origin.wait(count + 1);
        let header = |name| seen.header(name).map(str::to_owned);
        (header("portcullis-subject"), header("cookie"))
    }
}

/// Whoever is logged in stays so from store to store, and whoever logged out stays out.
#[test]
fn nobody_is_logged_out_and_nobody_comes_back_when_the_store_changes() {
    let site = Site::new();
    #[cfg(feature = "redis")]
    let redis = crate::support::redis::Redis::start();
    #[cfg(feature = "sql")]
    let postgres = crate::support::databases::Server::postgres();
    #[cfg(feature = "sql")]
    let mariadb = crate::support::databases::Server::mariadb();
    let mut stores = vec![("embedded", "kind = \"embedded\"\npath = \"one\"".to_owned())];
    stores.push(("file", "kind = \"file\"\npath = \"two\"".to_owned()));
    #[cfg(feature = "redis")]
    stores.extend(redis.iter().map(|server| ("redis", format!("kind = \"redis\"\nurl = \"{}\"", server.url))));
    #[cfg(feature = "sql")]
    {
        let of = |url: String| format!("url = \"{url}\"\ncache = \"10s\"");
        stores.extend(postgres.iter().map(|it| ("postgres", format!("kind = \"postgres\"\n{}", of(it.url())))));
        stores.extend(mariadb.iter().map(|it| ("mysql", format!("kind = \"mysql\"\n{}", of(it.url())))));
        stores.push(("sqlite", "kind = \"sqlite\"\npath = \"three\"".to_owned()));
    }
    for (name, store) in &stores {
        site.configure(&format!("{name}.toml"), store);
    }

    let (mut guard, at) = site.guard("embedded.toml");
    let (alice, bob) = (site.login(at, "alice"), site.login(at, "bob"));
    site.logout(at, &bob);
    assert_eq!(site.seen(at, &alice), (Some("alice".to_owned()), Some("sessionid=secret-of-alice".to_owned())));
    assert!(guard.terminate().success());
    for pair in stores.windows(2) {
        let (from, to) = (format!("{}.toml", pair[0].0), format!("{}.toml", pair[1].0));
        let foretold = site.migrate(&from, &to, &["--dry-run"]);
        let moved = site.migrate(&from, &to, &[]);
        assert_eq!((&foretold["dry_run"], &moved["dry_run"]), (&true.into(), &false.into()));
        assert_eq!((&foretold["copied"], &moved["copied"]), (&1.into(), &1.into()), "{moved}");
        assert!(moved["tombstones"].as_u64().unwrap() >= 1 && foretold["tombstones"] == moved["tombstones"], "{moved}");
        let again = site.migrate(&from, &to, &[]);
        assert_eq!((&again["copied"], &again["kept"]), (&0.into(), &1.into()), "{again}");

        let (mut guard, at) = site.guard(&to);
        let (subject, cookie) = site.seen(at, &alice);
        assert_eq!((subject.as_deref(), cookie.as_deref()), (Some("alice"), Some("sessionid=secret-of-alice")), "{to}");
        assert_eq!(site.seen(at, &bob), (None, None), "{to}: bob has logged out");
        let stats = site.run(&["sessions", "stats", "--config", &to, "--format", "json"]);
        let stats: Value = serde_json::from_str(&stats.1).unwrap_or_else(|error| panic!("{error}: {stats:?}"));
        assert_eq!((&stats["states"]["live"], &stats["store"]["kind"]), (&1.into(), &pair[1].0.into()), "{stats}");
        assert_eq!(stats["subjects"][0]["subject"], "alice");
        assert!(guard.terminate().success());
    }
}

#[test]
fn a_store_that_a_running_guard_has_open_is_not_copied() {
    let site = Site::new();
    site.configure("old.toml", "path = \"one\"");
    site.configure("new.toml", "kind = \"file\"\npath = \"two\"");
    let (mut guard, at) = site.guard("old.toml");
    let cookie = site.login(at, "alice");
    let (code, out, err) = site.run(&["migrate", "--from", "old.toml", "--to", "new.toml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("the old store can not be opened") && err.contains("stop that guard first"), "{err}");
    assert_eq!(site.seen(at, &cookie).0.as_deref(), Some("alice"), "it serves on");
    assert!(guard.terminate().success());
    let (code, out, err) = site.run(&["migrate", "--from", "old.toml", "--to", "new.toml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.lines().any(|line| line.trim() == "1  sessions copied"), "{out}");
    // Nor is one written into.
    let (mut guard, _) = site.guard("new.toml");
    let (code, _, err) = site.run(&["migrate", "--from", "old.toml", "--to", "new.toml"]);
    assert!(code == 1 && err.contains("the new store can not be opened: another guard uses this store"), "{err}");
    assert!(guard.terminate().success());
}

#[test]
fn a_rehearsal_makes_no_store() {
    let site = Site::new();
    site.configure("old.toml", "path = \"one\"");
    site.configure("new.toml", "kind = \"file\"\npath = \"two\"");
    let (mut guard, at) = site.guard("old.toml");
    site.login(at, "alice");
    assert!(guard.terminate().success());
    let (code, out, _) = site.run(&["migrate", "--from", "old.toml", "--to", "new.toml", "--dry-run"]);
    assert!(code == 0 && out.starts_with("Nothing was changed.") && out.contains("1  sessions copied"), "{out}");
    assert!(!site.path().join("two").exists());
}

#[test]
fn an_old_store_without_sessions_is_most_likely_the_wrong_one() {
    let site = Site::new();
    site.configure("old.toml", "path = \"one\"");
    site.configure("new.toml", "path = \"two\"");
    assert!(site.guard("old.toml").0.terminate().success());
    for format in ["human", "json"] {
        let words = ["migrate", "--from", "old.toml", "--to", "new.toml", "--dry-run", "--format", format];
        let (code, _, err) = site.run(&words);
        assert!(code == 1 && err.contains("is it the right one?"), "{err}");
    }
}

/// The copy of a session that ended between two copies would be a session again once its end is forgotten.
#[test]
fn it_is_told_when_sessions_last_longer_than_their_ends_are_known() {
    let site = Site::new();
    site.configure("old.toml", "path = \"one\"");
    let text = fs::read_to_string(site.path().join("old.toml")).unwrap();
    fs::write(
        site.path().join("long.toml"),
        text.replace("[session]", "[session]\nidle = \"14d\"\nabsolute = \"30d\""),
    )
    .unwrap();
    site.configure("new.toml", "path = \"two\"");
    assert!(site.guard("old.toml").0.terminate().success());
    let told = |old: &str| site.run(&["migrate", "--from", old, "--to", "new.toml", "--dry-run"]).2;
    assert!(told("long.toml").contains("longer than it is known that one has ended (1d)"), "{}", told("long.toml"));
    assert!(!told("old.toml").contains("longer than"), "{}", told("old.toml"));
}
