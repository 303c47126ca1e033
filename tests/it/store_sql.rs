//! The store in a database: over SQLite, PostgreSQL and MariaDB, real ones, started here.
//!
//! `tests/install` installs the servers. Where they are missing a test is skipped with a note, unless
//! `PORTCULLIS_TEST_ALL` is set: then it fails.

use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::ManualClock;
use portcullis::session::id::SessionDigest;
use portcullis::session::record::{EndReason, Record};
use portcullis::store::conformance::{self, Case};
use portcullis::store::counters::{Effect, Key, Question};
use portcullis::store::debts::{Answer, Change, Pace, Step};
use portcullis::store::endings::{Endings, Notice};
use portcullis::store::leases::{Node, Recall};
use portcullis::store::sealed::SealedStore;
use portcullis::store::sql::{OpenError, Settings, SqlStore};
use portcullis::store::{
    Commit, Created, Creation, Durability, Ending, Filter, OnLimit, Rotate, Rotation, SESSIONS_MAX_DEFAULT, Store,
    StoreError, SubjectLimit,
};
use tempfile::TempDir;

use crate::support::databases::{PASSWORD, Server};
use crate::support::stored::{NOW, PATIENCE, digest, free_port, ring, rows, session};

const KEPT: Duration = Duration::from_secs(3600);

fn settings(table: &str) -> Settings {
    Settings { table: table.into(), timeout: PATIENCE, ..Settings::default() }
}

async fn connect(url: &str, table: &str, keys: &[u8]) -> SqlStore {
    SqlStore::connect(url, settings(table), rows(keys)).await.unwrap()
}

fn ending() -> Ending {
    Ending { why: EndReason::Revoked, now: NOW, tombstone_until: NOW.after(KEPT) }
}

fn of(subject: &str) -> Filter {
    Filter { subject: Some(subject.into()), ..Filter::default() }
}

async fn create(store: &SqlStore, record: Record) {
    let created = store.create(record, None, NOW).await.unwrap();
    assert!(matches!(created, Creation::Created(Created::Done { .. })), "{created:?}");
}

async fn commit(store: &SqlStore, record: Record) -> Commit {
    store.commit(record, Durability::Durable).await.unwrap()
}

fn is_unreadable<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Decode(_)))
}

// ---- each database --------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_is_a_store() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("sessions.db").display());
    all(&url).await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?} holds sessions", file.path());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_is_a_store() {
    let Some(server) = Server::postgres() else { return };
    all(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mariadb_is_a_store() {
    let Some(server) = Server::mariadb() else { return };
    all(&server.url()).await;
}

/// Everything that holds of each database.
async fn all(url: &str) {
    nodes_may_start_at_once(url).await;
    for case in Case::ALL {
        let store = connect(url, &format!("case_{}", case.name()).chars().take(40).collect::<String>(), &[1]).await;
        conformance::run_case(*case, store).await.unwrap();
    }
    // What remembers the ends of sessions that clients carry.
    for case in Case::ALL {
        let table = format!("ended_{}", case.name()).chars().take(40).collect::<String>();
        let store = SealedStore::new(
            connect(url, &table, &[1]).await,
            SESSIONS_MAX_DEFAULT,
            ring(&[1]),
            Arc::new(ManualClock::new(NOW)),
        )
        .with_turn_max(PATIENCE);
        conformance::run_case(*case, store).await.unwrap();
    }
    what_is_stored_outlives_the_store(url).await;
    two_stores_are_one(url).await;
    a_key_can_be_replaced(url).await;
    a_burnt_key_leaves_nothing_that_can_not_be_removed(url).await;
    counts_give_way(url).await;
    numbers_give_way(url).await;
    several_may_clear_at_once(url).await;
    who_goes_away_leaves_nothing_open(url).await;
    a_newer_format_is_refused(url).await;
    tables_of_an_older_format_are_brought_up_to_date(url).await;
    no_error_tells_the_password(url).await;
}

async fn nodes_may_start_at_once(url: &str) {
    let nodes: Vec<_> = (0..6)
        .map(|_| {
            let url = url.to_owned();
            tokio::spawn(async move { connect(&url, "at_once", &[1]).await })
        })
        .collect();
    let mut stores = Vec::new();
    for node in nodes {
        stores.push(node.await.unwrap());
    }
    create(&stores[0], session(1, "ann")).await;
    for store in stores {
        assert!(store.load(&digest(1)).await.unwrap().is_some());
    }
}

async fn what_is_stored_outlives_the_store(url: &str) {
    let store = connect(url, "outlives", &[1]).await;
    create(&store, session(1, "ann")).await;
    store.revoke(&digest(1), ending()).await.unwrap();
    create(&store, session(2, "ann")).await;
    assert!(matches!(commit(&store, session(2, "ann")).await, Commit::Done(_)));
    store.close().await;
    assert!(matches!(store.load(&digest(2)).await, Err(StoreError::Closed)));
    let store = connect(url, "outlives", &[1]).await;
    assert!(store.load(&digest(1)).await.unwrap().unwrap().is_ended());
    assert_eq!(*store.load(&digest(2)).await.unwrap().unwrap(), Record { version: 1, ..session(2, "ann") });
}

async fn two_stores_are_one(url: &str) {
    let one = Arc::new(connect(url, "two", &[1]).await);
    let other = Arc::new(connect(url, "two", &[1]).await);
    create(&one, session(1, "ann")).await;
    let loaded = other.load(&digest(1)).await.unwrap().unwrap();
    assert!(matches!(commit(&other, Record::clone(&loaded)).await, Commit::Done(_)));
    assert!(matches!(commit(&one, Record::clone(&loaded)).await, Commit::Conflict(there) if there.version == 1));
    let tombstone_until = NOW.after(KEPT);
    let new = session(2, "ann");
    let old = digest(1);
    let rotate = Rotate { old: &old, version: 1, new, also_end: None, limit: None, now: NOW, tombstone_until };
    assert!(matches!(one.rotate(rotate).await.unwrap(), Rotation::Created(Created::Done { live: 1, .. })));
    assert!(matches!(commit(&other, Record { version: 1, ..Record::clone(&loaded) }).await, Commit::Gone));
    assert_eq!(other.revoke_subject(" ANN", None, ending()).await.unwrap().len(), 1);
    assert!(one.load(&digest(2)).await.unwrap().unwrap().is_ended());

    // Fifty logins, half of them at each.
    let limit = NonZeroU32::new(5).map(|sessions| SubjectLimit { sessions, on_limit: OnLimit::Refuse });
    let logins: Vec<_> = (100..150)
        .map(|nth| {
            let store = Arc::clone(if nth % 2 == 0 { &one } else { &other });
            tokio::spawn(async move { store.create(session(nth, "bob"), limit, NOW).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    for login in logins {
        done += u32::from(matches!(login.await.unwrap(), Creation::Created(Created::Done { .. })));
    }
    assert_eq!(done, 5, "a limit holds over all stores of a database");
    assert_eq!(one.list(&of("bob"), None, 100).await.unwrap().records.len(), 5);

    let question =
        Question { key: Key::from_u64(u64::MAX - 1), over: 2, within: Duration::from_secs(60), effect: Effect::Obeyed };
    let mut seen = Vec::new();
    for store in [&one, &other, &one] {
        seen.extend(store.counters().unwrap().ask(&[question], NOW).await.unwrap());
    }
    assert_eq!(seen, [false, false, true], "what is counted is counted for all");
}

async fn a_key_can_be_replaced(url: &str) {
    let old = connect(url, "rotated", &[1]).await;
    create(&old, session(1, "ann")).await;
    create(&old, session(2, "ann")).await;
    let both = connect(url, "rotated", &[2, 1]).await;
    assert_eq!(both.list(&of("ann"), None, 9).await.unwrap().records.len(), 2);
    let limit = NonZeroU32::new(2).map(|sessions| SubjectLimit { sessions, on_limit: OnLimit::Refuse });
    let refused = both.create(session(3, "ann"), limit, NOW).await.unwrap();
    assert!(matches!(refused, Creation::Created(Created::Refused)), "sessions under both names count: {refused:?}");
    let stored = both.load(&digest(1)).await.unwrap().unwrap();
    assert!(matches!(commit(&both, Record::clone(&stored)).await, Commit::Done(_)));
    let new = connect(url, "rotated", &[2]).await;
    assert_eq!(new.load(&digest(1)).await.unwrap().unwrap().version, 1, "what was committed is under the new key");
    assert!(is_unreadable(&new.load(&digest(2)).await));
    let ended = new.revoke_subject("ann", None, ending()).await.unwrap();
    assert_eq!(ended.len(), 1, "and its subject is found by the name of the new key");
}

async fn a_burnt_key_leaves_nothing_that_can_not_be_removed(url: &str) {
    let old = connect(url, "burnt", &[1]).await;
    for nth in 0..30 {
        create(&old, session(nth, "ann")).await;
    }
    let store = connect(url, "burnt", &[2]).await;
    for nth in 30..35 {
        create(&store, session(nth, "ann")).await;
    }
    assert!(is_unreadable(&store.load(&digest(1)).await));
    assert!(is_unreadable(&store.commit(session(1, "ann"), Durability::Durable).await));
    assert!(matches!(store.create(session(1, "ann"), None, NOW).await.unwrap(), Creation::Exists));
    let (mut found, mut after) = (0, None);
    loop {
        let page = store.list(&Filter::default(), after, 2).await.unwrap();
        found += page.records.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, 5, "a list passes over what it can not read, and goes on");
    assert!(store.revoke(&digest(1), ending()).await.unwrap().is_none());
    assert!(store.load(&digest(1)).await.unwrap().is_none(), "it is gone");
    assert_eq!(store.clear_expired(NOW.after(KEPT), 1000).await.unwrap(), 34);
    assert!(store.load(&digest(2)).await.unwrap().is_none());
}

async fn counts_give_way(url: &str) {
    let small = Settings { counts_bytes_max: 200_000, ..settings("counts") };
    let store = SqlStore::connect(url, small, rows(&[1])).await.unwrap();
    let counters = store.counters().unwrap();
    let question = |key, effect| Question { key: Key::from_u64(key), over: 4, within: KEPT, effect };
    for _ in 0..4 {
        assert_eq!(counters.ask(&[question(0, Effect::Obeyed)], NOW).await.unwrap(), [false]);
    }
    for batch in 0..42_u64 {
        let spray: Vec<_> = (1..=100).map(|key| question(batch * 100 + key, Effect::Observed)).collect();
        counters.ask(&spray, NOW).await.unwrap();
    }
    assert_eq!(counters.ask(&[question(0, Effect::Obeyed)], NOW).await.unwrap(), [true], "who is near stays");
    // The first four of the spray were counted once, and were given up since.
    for _ in 0..4 {
        assert_eq!(counters.ask(&[question(1, Effect::Observed)], NOW).await.unwrap(), [false]);
    }
    assert_eq!(store.clear_expired(NOW.after(KEPT), 10).await.unwrap(), 0, "counts are no sessions");
}

async fn numbers_give_way(url: &str) {
    let small = Settings { debts_max: 100, ..settings("numbers") };
    let store = SqlStore::connect(url, small, rows(&[1])).await.unwrap();
    let counters = store.counters().unwrap();
    let pace = Pace::new(Duration::from_secs(60), 3);
    let take = |key| Change { key: Key::from_u64(key), step: Step::Take(pace) };
    let is_refused = |answers: &[Answer]| matches!(answers, [Answer::Refused { .. }]);
    for _ in 0..3 {
        assert!(!is_refused(&counters.change(&[take(0)], NOW).await.unwrap()));
    }
    for batch in 0..42_u64 {
        let spray: Vec<_> = (1..=100).map(|key| take(batch * 100 + key)).collect();
        assert_eq!(counters.change(&spray, NOW).await.unwrap().len(), 100, "who makes room does not lose his answers");
    }
    // One more than is kept, and what came since room was made last.
    let kept = count(url, "SELECT COUNT(*) FROM numbers_debts").await;
    assert!((100..=301).contains(&kept), "{kept}");
    assert!(is_refused(&counters.change(&[take(0)], NOW).await.unwrap()), "who owes most stays");
    // What is over goes with the sweep, in as many steps as it takes.
    store.clear_expired(NOW.after(KEPT), 10).await.unwrap();
    assert_eq!(count(url, "SELECT COUNT(*) FROM numbers_debts").await, 0);
}

async fn count(url: &str, text: &'static str) -> i64 {
    let (count,): (i64,) = if url.starts_with("sqlite") {
        sqlx::query_as(text).fetch_one(&sqlx::SqlitePool::connect(url).await.unwrap()).await.unwrap()
    } else if url.starts_with("postgres") {
        sqlx::query_as(text).fetch_one(&sqlx::PgPool::connect(url).await.unwrap()).await.unwrap()
    } else {
        sqlx::query_as(text).fetch_one(&sqlx::MySqlPool::connect(url).await.unwrap()).await.unwrap()
    };
    count
}

async fn several_may_clear_at_once(url: &str) {
    let one = Arc::new(connect(url, "clear", &[1]).await);
    let other = Arc::new(connect(url, "clear", &[1]).await);
    for nth in 0..300 {
        create(&one, session(nth, "ann")).await;
    }
    let clear = |store: &Arc<SqlStore>| {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.clear_expired(NOW.after(KEPT), 1000).await.unwrap() })
    };
    let (first, second) = (clear(&one), clear(&other));
    let mut removed = first.await.unwrap() + second.await.unwrap();
    // What one of them was at is left alone by the other.
    removed += one.clear_expired(NOW.after(KEPT), 1000).await.unwrap();
    assert_eq!(removed, 300);
}

/// A caller that goes away at any moment (a browser that closes its connection) must not leave a transaction behind on a
/// connection: what others are told there would be undone later.
async fn who_goes_away_leaves_nothing_open(url: &str) {
    let few = Settings { connections_max: NonZeroU32::new(2).unwrap(), ..settings("away") };
    let store = SqlStore::connect(url, few, rows(&[1])).await.unwrap();
    let other = connect(url, "away", &[1]).await;
    let limit = NonZeroU32::new(3).map(|sessions| SubjectLimit { sessions, on_limit: OnLimit::EvictOldest });
    for nth in 0..100 {
        let moment = Duration::from_micros(nth * 40);
        drop(tokio::time::timeout(moment, store.create(session(nth, "ann"), limit, NOW)).await);
        drop(tokio::time::timeout(moment, store.load(&digest(nth))).await);
        drop(tokio::time::timeout(moment, store.revoke(&digest(nth), ending())).await);
        create(&store, session(1000 + nth, "bob")).await;
        assert!(matches!(commit(&store, session(1000 + nth, "bob")).await, Commit::Done(_)));
        let seen = other.load(&digest(1000 + nth)).await.unwrap().unwrap();
        assert_eq!(seen.version, 1, "what was acknowledged is there");
    }
    let left = other.list(&of("ann"), None, 9).await.unwrap().records.len();
    assert!(left <= 3, "{left}");
}

/// Does something to a database behind the store's back.
async fn meddle(url: &str, texts: &[&'static str]) {
    for text in texts {
        if url.starts_with("sqlite") {
            let pool = sqlx::SqlitePool::connect(url).await.unwrap();
            sqlx::query(*text).execute(&pool).await.unwrap();
        } else if url.starts_with("postgres") {
            let pool = sqlx::PgPool::connect(url).await.unwrap();
            sqlx::query(*text).execute(&pool).await.unwrap();
        } else {
            let pool = sqlx::MySqlPool::connect(url).await.unwrap();
            sqlx::query(*text).execute(&pool).await.unwrap();
        }
    }
}

async fn a_newer_format_is_refused(url: &str) {
    drop(connect(url, "newer", &[1]).await);
    meddle(url, &["UPDATE newer_meta SET format = 1000"]).await;
    let refused = SqlStore::connect(url, settings("newer"), rows(&[1])).await;
    assert!(matches!(refused, Err(OpenError::Format { found: 1000 })), "{refused:?}");
}

async fn tables_of_an_older_format_are_brought_up_to_date(url: &str) {
    let store = connect(url, "older", &[1]).await;
    create(&store, session(1, "ann")).await;
    let of_now = ["DROP TABLE older_debts", "DROP TABLE older_nodes", "DROP TABLE older_recalls"];
    meddle(url, &[&of_now[..], &["UPDATE older_meta SET format = 1"]].concat()).await;
    let store = connect(url, "older", &[1]).await;
    assert!(store.load(&digest(1)).await.unwrap().is_some());
    let kept = Change { key: Key::from_u64(1), step: Step::Remember(NOW.after(Duration::from_secs(9))) };
    let answers = store.counters().unwrap().change(&[kept], NOW).await.unwrap();
    assert!(matches!(answers[..], [Answer::Done { .. }]), "{answers:?}");
    assert!(
        !store.leases().unwrap().recall(Node(1), Recall { id: 1, about: None }).await.unwrap(),
        "there is no cache yet"
    );
    // Once is enough.
    meddle(url, &["DROP TABLE older_debts"]).await;
    let store = connect(url, "older", &[1]).await;
    assert!(store.counters().unwrap().change(&[kept], NOW).await.is_err());
}

/// Waits until all of these were told of.
async fn heard(endings: &mut Endings, sessions: &[SessionDigest]) {
    let mut left: Vec<_> = sessions.to_vec();
    while !left.is_empty() {
        let notice = tokio::time::timeout(PATIENCE, endings.next()).await.unwrap().unwrap();
        assert_ne!(notice, Notice::Session(digest(9)), "that one is in another table");
        left.retain(|session| notice != Notice::Session(*session));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_tells_which_sessions_end_and_of_every_gap() {
    let Some(mut server) = Server::postgres() else { return };
    let (one, other) = (connect(&server.url(), "told", &[1]).await, connect(&server.url(), "told", &[1]).await);
    let apart = connect(&server.url(), "apart", &[1]).await;
    let mut endings = other.endings().unwrap();
    assert_eq!(endings.next().await, Some(Notice::Gap), "whoever begins to listen knows nothing yet");
    listening(&one, &mut endings).await;
    create(&apart, session(9, "ann")).await;
    apart.revoke(&digest(9), ending()).await.unwrap();
    for nth in 1..=4 {
        create(&one, session(nth, "ann")).await;
    }
    one.revoke(&digest(1), ending()).await.unwrap();
    heard(&mut endings, &[digest(1)]).await;
    let there = one.load(&digest(2)).await.unwrap().unwrap();
    let rotate = Rotate {
        old: &there.digest,
        version: there.version,
        new: session(5, "ann"),
        also_end: Some(&digest(3)),
        limit: None,
        now: NOW,
        tombstone_until: NOW.after(KEPT),
    };
    assert!(matches!(one.rotate(rotate).await.unwrap(), Rotation::Created(_)));
    heard(&mut endings, &[digest(2), digest(3)]).await;
    one.revoke_subject("ann", Some(&digest(4)), ending()).await.unwrap();
    heard(&mut endings, &[digest(5)]).await;
    // What did not happen is not told: the next thing that is heard is that nothing is heard any more.
    assert!(one.revoke(&digest(1), ending()).await.unwrap().is_none());
    server.stop();
    assert_eq!(tokio::time::timeout(PATIENCE, endings.next()).await.unwrap(), Some(Notice::Gap));
    server.start_again();
    while one.revoke(&digest(4), ending()).await.is_err() {}
    // Whether it heard of that one or was not back: it knew that it may have missed something, and hears again.
    listening(&one, &mut endings).await;
}

/// Ends sessions until somebody hears of it.
async fn listening(store: &SqlStore, endings: &mut Endings) {
    for nth in 100.. {
        let made = store.create(session(nth, "bob"), None, NOW).await.unwrap();
        assert!(matches!(made, Creation::Created(_) | Creation::Exists), "{made:?}");
        store.revoke(&digest(nth), ending()).await.unwrap();
        let next = tokio::time::timeout(Duration::from_millis(200), endings.next()).await;
        if matches!(next, Ok(Some(Notice::Session(_)))) {
            break;
        }
    }
}

async fn no_error_tells_the_password(url: &str) {
    let store = connect(url, "secrets", &[1]).await;
    assert!(!format!("{store:?}").contains(PASSWORD));
    if !url.starts_with("sqlite") {
        let wrong = url.replace(PASSWORD, "hunter2");
        let short = Settings { timeout: Duration::from_secs(5), ..settings("secrets") };
        let refused = SqlStore::connect(&wrong, short, rows(&[1])).await.unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_as_such() {
    for scheme in ["postgres", "mysql"] {
        let url = format!("{scheme}://guard:hunter2@127.0.0.1:{}/guard", free_port());
        let short = Settings { timeout: Duration::from_secs(1), ..settings("away") };
        let away = SqlStore::connect(&url, short, rows(&[1])).await.unwrap_err().to_string();
        assert!(away.contains("refused") && !away.contains("hunter2"), "{away}");
    }
}

// ---- when the database does not answer ------------------------------------------------------------------------------

/// Long enough for a slow machine, short enough for a test.
const SHORT: Duration = Duration::from_secs(3);

/// An error must come in time; none comes otherwise.
async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Option<StoreError> {
    tokio::time::timeout(SHORT * 3, call).await.expect("a call ends in time").err()
}

async fn works_again(store: &SqlStore) {
    for _ in 0..100 {
        if let Ok(Some(_)) = store.load(&digest(1)).await {
            break;
        }
    }
    assert!(store.load(&digest(1)).await.unwrap().is_some(), "what was there is there");
    for nth in 10..20 {
        create(store, session(nth, "ann")).await;
    }
}

async fn survives_a_restart(mut server: Server) {
    drop(connect(&server.url(), "restart", &[1]).await);
    let short = Settings { timeout: SHORT, ..settings("restart") };
    let store = Arc::new(SqlStore::connect(&server.url(), short, rows(&[1])).await.unwrap());
    create(&store, session(1, "ann")).await;
    // Several connections are open, and all of them break.
    let loads: Vec<_> = (0..20)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.load(&digest(1)).await.unwrap() })
        })
        .collect();
    for load in loads {
        assert!(load.await.unwrap().is_some());
    }
    server.stop();
    assert!(in_time(store.load(&digest(1))).await.is_some());
    assert!(in_time(store.create(session(2, "ann"), None, NOW)).await.is_some());
    assert!(in_time(store.commit(session(1, "ann"), Durability::Durable)).await.is_some());
    server.start_again();
    works_again(&store).await;
    assert!(store.load(&digest(2)).await.unwrap().is_none(), "what failed was not done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_postgres_is_survived() {
    let Some(server) = Server::postgres() else { return };
    survives_a_restart(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_mariadb_is_survived() {
    let Some(server) = Server::mariadb() else { return };
    survives_a_restart(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stands_still_holds_nobody_up() {
    let Some(server) = Server::mariadb() else { return };
    drop(connect(&server.url(), "still", &[1]).await);
    let short = Settings { timeout: SHORT, connections_max: NonZeroU32::new(2).unwrap(), ..settings("still") };
    let store = SqlStore::connect(&server.url(), short, rows(&[1])).await.unwrap();
    create(&store, session(1, "ann")).await;
    server.freeze();
    // More often than there are connections: none may be lost for good.
    for _ in 0..3 {
        let error = in_time(store.load(&digest(1))).await.unwrap();
        assert!(error.to_string().contains("did not answer within 3s"), "{error}");
    }
    server.thaw();
    works_again(&store).await;
}

#[tokio::test]
async fn an_open_error_names_what_is_wrong() {
    let open = async |url: &str, table: &str| {
        let short = Settings { timeout: Duration::from_millis(300), ..settings(table) };
        SqlStore::connect(url, short, rows(&[1])).await.unwrap_err()
    };
    assert!(matches!(open("redis://u:hunter2@h/0", "a").await, OpenError::Scheme));
    assert!(matches!(open("sqlite::memory:", "a").await, OpenError::InMemory));
    assert!(matches!(open("postgres://u:hunter2@127.0.0.1:1/d", "a; drop").await, OpenError::Table(_)));
    assert!(matches!(open("sqlite:///no/such/folder/file", "a").await, OpenError::File(_)));
    for url in ["postgres://u:hunter2@127.0.0.1:1/d", "mysql://u:hunter2@127.0.0.1:1/d", "postgres://u:hunter2@[bad/d"]
    {
        let refused = open(url, "a").await;
        assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
    }
}
