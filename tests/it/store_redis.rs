//! The Redis store on real servers: the suite for all stores, several guards at once, outages, keys that change.

mod many;

use std::sync::Arc;

use portcullis::clock::{ManualClock, Timestamp};
use portcullis::session::id::SessionDigest;
use portcullis::session::record::{EndReason, Record};
use portcullis::store::conformance;
use portcullis::store::counters::{Effect, Key, Question};
use portcullis::store::debts::{Answer, Change, KEYS_MAX, Pace, Step};
use portcullis::store::kv::{Endings, LinkError, Notice, OpenError, RedisStore, Settings};
use portcullis::store::sealed::SealedStore;
use portcullis::store::{
    Commit, Created, Creation, Durability, Ending, Filter, OnLimit, Rotate, Rotation, SESSIONS_MAX_DEFAULT, Store,
    StoreError, SubjectLimit,
};
use tokio::time::{Duration, timeout};

use crate::support::redis::Redis;
use crate::support::stored::{self, NOW, PATIENCE, digest, ring, rows};

const ENDING: Ending =
    Ending { why: EndReason::Logout, now: NOW, tombstone_until: Timestamp::from_secs(1_800_000_600) };

/// The nth session, used later than those before it.
fn session(nth: u64, subject: &str) -> Record {
    Record { last_seen: NOW.after(Duration::from_secs(nth)), ..stored::session(nth, subject) }
}

fn rotation(old: &Record, new: Record, limit: Option<SubjectLimit>) -> Rotate<'_> {
    let tombstone_until = ENDING.tombstone_until;
    Rotate { old: &old.digest, version: old.version, new, also_end: None, limit, now: NOW, tombstone_until }
}

fn limit(sessions: u32, on_limit: OnLimit) -> Option<SubjectLimit> {
    Some(SubjectLimit { sessions: sessions.try_into().unwrap(), on_limit })
}

/// Creates a session that must be new; gives how many of the subject live.
async fn create(store: &RedisStore, record: Record, limit: Option<SubjectLimit>) -> u32 {
    match store.create(record, limit, NOW).await.unwrap() {
        Creation::Created(Created::Done { live, .. }) => live,
        other => panic!("{other:?}"),
    }
}

async fn load(store: &RedisStore, nth: u64) -> Option<Arc<Record>> {
    store.load(&digest(nth)).await.unwrap()
}

async fn live(store: &RedisStore, subject: &str) -> Vec<SessionDigest> {
    let filter = Filter { subject: Some(subject.into()), ..Filter::default() };
    store.list(&filter, None, 100).await.unwrap().records.iter().map(|record| record.digest).collect()
}

/// The next notice that is not a gap.
async fn next(endings: &mut Endings) -> SessionDigest {
    loop {
        match timeout(PATIENCE, endings.next()).await.unwrap().unwrap() {
            Notice::Session(digest) => return digest,
            Notice::Gap | Notice::Recall(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    let Some(server) = Redis::start_with("--appendonly no") else { return };
    conforms(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms_over_valkey() {
    let Some(server) = Redis::start_valkey("--appendonly no") else { return };
    conforms(&server).await;
    assert!(server.ask("INFO server").contains("valkey_version:"));
}

async fn conforms(server: &Redis) {
    let nth = std::cell::Cell::new(0);
    conformance::run(async || {
        nth.set(nth.get() + 1);
        server.store(&format!("case-{}", nth.get()), rows(&[1])).await
    })
    .await
    .unwrap();
    // What remembers the ends of sessions that clients carry.
    conformance::run(async || {
        nth.set(nth.get() + 1);
        let ended = server.store(&format!("case-{}", nth.get()), rows(&[1])).await;
        SealedStore::new(ended, SESSIONS_MAX_DEFAULT, ring(&[1]), Arc::new(ManualClock::new(NOW)))
            .with_turn_max(PATIENCE)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_survives_guard_and_server() {
    let Some(mut server) = Redis::start() else { return };
    let store = server.store("shop", rows(&[1])).await;
    create(&store, session(1, "ann"), None).await;
    create(&store, session(2, "ann"), None).await;
    store.revoke(&digest(2), ENDING).await.unwrap();
    drop(store);
    server.kill();
    server.start_again();
    let store = server.store("shop", rows(&[1])).await;
    assert_eq!(*load(&store, 1).await.unwrap(), session(1, "ann"));
    assert!(load(&store, 2).await.unwrap().is_ended());
    let other = server.store("other", rows(&[1])).await;
    assert!(load(&other, 1).await.is_none(), "another prefix is another store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_an_error_in_time_and_over_when_the_server_is_back() {
    let Some(mut server) = Redis::start() else { return };
    let settings = Settings { timeout: Duration::from_secs(5), ..Settings::default() };
    let store = RedisStore::connect(&server.url, settings, rows(&[1])).await.unwrap();
    create(&store, session(1, "ann"), None).await;
    server.kill();
    let both = async { (store.load(&digest(1)).await.err(), store.revoke(&digest(1), ENDING).await.err()) };
    let failed = timeout(Duration::from_secs(15), both).await.expect("an error comes in time");
    assert!(matches!(failed, (Some(StoreError::Io(_)), Some(StoreError::Io(_)))), "{failed:?}");
    server.start_again();
    assert_eq!(load(&store, 1).await.as_deref(), Some(&session(1, "ann")));
    assert!(store.revoke(&digest(1), ENDING).await.unwrap().is_some());
    // A server that was away while nobody asked is not noticed at all, whatever is asked first.
    server.kill();
    server.start_again();
    create(&store, session(2, "ann"), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_longer_than_the_limit() {
    let Some(server) = Redis::start() else { return };
    let limit = Duration::from_millis(300);
    let settings = Settings { timeout: limit, ..Settings::default() };
    let store = Arc::new(RedisStore::connect(&server.url, settings, rows(&[1])).await.unwrap());
    // Twenty that waited one after the other would wait longer than this, and the last of them be answered.
    server.ask("CLIENT PAUSE 4000 ALL");
    let load_late = |nth| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.load(&digest(nth)).await })
    };
    let waiting: Vec<_> = (0..20).map(load_late).collect();
    for late in waiting {
        let error = late.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the session store failed: Redis did not answer within 300 ms");
    }
    // It answers when the pause is over.
    server.wait_for("PING", "PONG");
    assert!(load(&store, 1).await.is_none());
}

#[tokio::test]
async fn a_key_is_replaced_without_logging_anybody_out_and_a_burnt_one_closes_what_it_sealed() {
    let Some(server) = Redis::start() else { return };
    let store = server.store("shop", rows(&[1])).await;
    for nth in 1..=3 {
        create(&store, session(nth, "ann"), None).await;
    }
    store.rows().replace_keys(ring(&[2, 1]));
    let loaded = load(&store, 1).await.unwrap();
    let answer = store.create(session(4, "ann"), limit(3, OnLimit::Refuse), NOW).await.unwrap();
    assert!(matches!(answer, Creation::Created(Created::Refused)), "sessions of both keys count: {answer:?}");
    assert_eq!(create(&store, session(5, "Ann"), None).await, 4);
    assert_eq!(live(&store, "ann").await.len(), 4);
    // A commit takes a session over to the current key, its name included.
    let answer = store.commit((*loaded).clone(), Durability::Durable).await.unwrap();
    assert!(matches!(answer, Commit::Done(_)), "{answer:?}");
    let eve = Record { subject: Some("eve".into()), version: 1, ..session(1, "ann") };
    store.commit(eve, Durability::Durable).await.unwrap();
    let there = load(&store, 1).await.unwrap();
    assert_eq!((there.subject.as_deref(), there.version), (Some("ann"), 2));

    store.rows().replace_keys(ring(&[2]));
    assert_eq!(load(&store, 1).await.unwrap().version, 2);
    assert!(matches!(store.load(&digest(2)).await, Err(StoreError::Decode(_))), "its key was burnt");
    let mut expected = vec![digest(1), digest(5)];
    expected.sort_unstable();
    assert_eq!(live(&store, "ann").await, expected);
    assert_eq!(store.list(&Filter::default(), None, 1).await.unwrap().records.len(), 1, "they hide no others");
    assert_eq!(store.list(&Filter::default(), None, 9).await.unwrap().records.len(), 2);
    assert!(store.revoke(&digest(2), ENDING).await.unwrap().is_none(), "there is no last record to give");
    assert_eq!(store.revoke_subject("ann", None, ENDING).await.unwrap().len(), 2);
    store.rows().replace_keys(ring(&[2, 1]));
    assert!(load(&store, 2).await.unwrap().is_ended(), "it ended all the same");
    assert!(!load(&store, 3).await.unwrap().is_ended());
    let late = NOW.after(Duration::from_secs(3600));
    assert_eq!(store.clear_expired(late, 100).await.unwrap(), 4);
    assert_eq!(server.ask("DBSIZE"), "0", "{}", server.ask("KEYS *"));
}

#[tokio::test]
async fn a_damaged_session_fails_alone() {
    let Some(server) = Redis::start() else { return };
    let store = server.store("shop", rows(&[1])).await;
    for nth in 1..=3 {
        create(&store, session(nth, "ann"), None).await;
    }
    // Through the server's own eyes: whatever the first session is called, its last byte is another now.
    let spoilt = server.ask_script(
        "local key = '{shop}:s:' .. redis.call('ZRANGE', '{shop}:digests', 0, 0)[1] \
         local bytes = redis.call('GET', key) \
         redis.call('SETRANGE', key, #bytes - 1, string.char((bytes:byte(-1) + 1) % 256)) return 'spoilt'",
    );
    assert_eq!(spoilt, "spoilt");
    let mut digests = [digest(1), digest(2), digest(3)];
    digests.sort_unstable();
    assert!(matches!(store.load(&digests[0]).await, Err(StoreError::Decode(_))));
    assert_eq!(live(&store, "ann").await, digests[1..]);
    assert!(store.load(&digests[1]).await.unwrap().is_some());
    let ended = store.revoke_subject("ann", None, ENDING).await.unwrap();
    assert_eq!(ended.len(), 2, "those that can be told");
    assert_eq!(create(&store, session(4, "ann"), None).await, 1, "and all of them ended");
    assert_eq!(store.clear_expired(ENDING.tombstone_until, 100).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_guards_are_as_one() {
    let Some(server) = Redis::start() else { return };
    are_as_one(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_guards_over_valkey_are_as_one() {
    let Some(server) = Redis::start_valkey("--appendonly yes") else { return };
    are_as_one(&server).await;
}

async fn are_as_one(server: &Redis) {
    let (one, other) = (server.store("shop", rows(&[1])).await, server.store("shop", rows(&[1])).await);
    let mut endings = other.endings();
    assert_eq!(endings.next().await, Some(Notice::Gap), "whoever begins to listen knows nothing yet");
    server.wait_for("PUBSUB NUMSUB {shop}:ending", "1");

    assert_eq!(create(&one, session(1, "ann"), None).await, 1);
    assert_eq!(create(&other, session(2, "ann"), None).await, 2);
    let there = load(&other, 1).await.unwrap();
    let answer = one.commit((*there).clone(), Durability::Soon).await.unwrap();
    assert!(matches!(answer, Commit::Done(_)), "{answer:?}");
    let late = other.commit((*there).clone(), Durability::Durable).await.unwrap();
    assert!(matches!(&late, Commit::Conflict(now) if now.version == 1), "{late:?}");
    let late = other.rotate(rotation(&there, session(3, "ann"), None)).await.unwrap();
    assert!(matches!(late, Rotation::Conflict(_)), "{late:?}");

    // One and two end for the third, which is used by the other guard.
    let there = load(&one, 1).await.unwrap();
    let answer = one.rotate(rotation(&there, session(3, "ann"), limit(1, OnLimit::EvictOldest))).await.unwrap();
    let Rotation::Created(Created::Done { evicted, live: 1, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(evicted.iter().map(|record| record.digest).collect::<Vec<_>>(), [digest(2)]);
    assert_eq!((next(&mut endings).await, next(&mut endings).await), (digest(1), digest(2)));
    one.revoke(&digest(3), ENDING).await.unwrap();
    assert_eq!(next(&mut endings).await, digest(3));
    create(&one, session(4, "bob"), None).await;
    other.revoke_subject("bob", None, ENDING).await.unwrap();
    assert_eq!(next(&mut endings).await, digest(4));

    let question = Question { key: Key::from_u64(7), over: 2, within: Duration::from_secs(60), effect: Effect::Obeyed };
    let mut over = Vec::new();
    for store in [&one, &other, &one, &other] {
        over.extend(store.counters().unwrap().ask(&[question], NOW).await.unwrap());
    }
    assert_eq!(over, [false, false, true, true]);
    drop((one, other));
    assert_eq!(timeout(PATIENCE, endings.next()).await.unwrap(), None, "nobody is left to tell");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_is_told_of_every_gap() {
    let Some(mut server) = Redis::start() else { return };
    let store = server.store("shop", rows(&[1])).await;
    let mut endings = store.endings();
    create(&store, session(1, "ann"), None).await;
    create(&store, session(2, "ann"), None).await;
    server.wait_for("PUBSUB NUMSUB {shop}:ending", "1");
    store.revoke(&digest(1), ENDING).await.unwrap();
    assert_eq!(next(&mut endings).await, digest(1));
    server.kill();
    assert_eq!(timeout(PATIENCE, endings.next()).await.unwrap(), Some(Notice::Gap));
    server.start_again();
    server.wait_for("PUBSUB NUMSUB {shop}:ending", "1");
    store.revoke(&digest(2), ENDING).await.unwrap();
    assert_eq!(next(&mut endings).await, digest(2), "and hears again");
}

#[tokio::test]
async fn a_full_server_creates_nothing_and_still_ends_sessions() {
    let Some(server) = Redis::start() else { return };
    let store = server.store("shop", rows(&[1])).await;
    for nth in 1..=4 {
        create(&store, session(nth, "ann"), None).await;
    }
    server.ask("CONFIG SET maxmemory 1");
    assert!(matches!(store.create(session(5, "ann"), None, NOW).await, Err(StoreError::Full)));
    let first = session(1, "ann");
    assert!(matches!(store.rotate(rotation(&first, session(5, "ann"), None)).await, Err(StoreError::Full)));
    assert!(matches!(store.commit(first, Durability::Durable).await, Err(StoreError::Full)));
    assert_eq!(load(&store, 1).await.as_deref(), Some(&session(1, "ann")), "nothing was changed");
    assert!(store.revoke(&digest(1), ENDING).await.unwrap().is_some());
    assert_eq!(store.revoke_subject("ann", None, ENDING).await.unwrap().len(), 3);
    for nth in 1..=4 {
        assert!(load(&store, nth).await.is_none_or(|record| record.is_ended()));
    }
    assert!(live(&store, "ann").await.is_empty());
    server.ask("CONFIG SET maxmemory 0");
    assert_eq!(create(&store, session(5, "ann"), None).await, 1);
    store.clear_expired(NOW.after(Duration::from_secs(3600)), 100).await.unwrap();
    assert_eq!(server.ask("DBSIZE"), "0", "{}", server.ask("KEYS *"));
}

#[tokio::test]
async fn what_the_server_drops_by_itself_leaves_nothing_behind() {
    let Some(server) = Redis::start() else { return };
    let store = server.store("shop", rows(&[1])).await;
    for nth in 1..=6 {
        create(&store, session(nth, "ann"), None).await;
    }
    store.revoke(&digest(6), ENDING).await.unwrap();
    let left = server.ask_script(
        "local all = redis.call('ZRANGE', '{shop}:digests', 0, -1) local least = 1e15 \
         for _, digest in ipairs(all) do least = math.min(least, redis.call('PTTL', '{shop}:s:' .. digest)) end \
         return tostring(least)",
    );
    let left: u64 = left.parse().unwrap();
    assert!(left > 600_000 && left <= 4_200_000, "an hour more than the tombstone needs, not {left} ms");
    server.ask_script(
        "for _, digest in ipairs(redis.call('ZRANGE', '{shop}:digests', 0, -1)) do \
         redis.call('DEL', '{shop}:s:' .. digest) end return 'gone'",
    );
    assert!(live(&store, "ann").await.is_empty());
    assert!(store.list(&Filter::default(), None, 1).await.unwrap().records.is_empty());
    assert!(store.revoke(&digest(1), ENDING).await.unwrap().is_none());
    assert_eq!(create(&store, session(7, "ann"), limit(1, OnLimit::Refuse)).await, 1, "they do not count");
    store.counters().unwrap();
    store.clear_expired(NOW.after(Duration::from_secs(3600)), 100).await.unwrap();
    assert_eq!(server.ask("DBSIZE"), "0", "{}", server.ask("KEYS *"));
}

#[tokio::test]
async fn keys_that_are_counted_have_a_limit_and_who_is_about_to_be_caught_stays() {
    let Some(server) = Redis::start_with("--appendonly no") else { return };
    let store = server.store("shop", rows(&[1])).await;
    let counters = store.counters().unwrap();
    let question =
        |key: u64, effect| Question { key: Key::from_u64(key), over: 4, within: Duration::from_secs(60), effect };
    for _ in 0..4 {
        assert_eq!(counters.ask(&[question(u64::MAX, Effect::Observed)], NOW).await.unwrap(), [false]);
    }
    // More than there is room for, of those that are only observed.
    for from in (0..60_000).step_by(1000) {
        let spray: Vec<_> = (from..from + 1000).map(|key| question(key, Effect::Observed)).collect();
        counters.ask(&spray, NOW.after(Duration::from_secs(1))).await.unwrap();
    }
    assert_eq!(server.ask("ZCARD {shop}:observed"), "50000");
    assert_eq!(server.ask("DBSIZE"), "50001", "one for each, and the set of them");
    let caught =
        counters.ask(&[question(u64::MAX, Effect::Observed)], NOW.after(Duration::from_secs(2))).await.unwrap();
    assert_eq!(caught, [true]);
    counters.ask(&[question(1, Effect::Obeyed)], NOW.after(Duration::from_secs(90))).await.unwrap();
    assert_eq!(server.ask("ZCARD {shop}:observed"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_have_a_limit_and_who_takes_a_place_owes_as_much() {
    let Some(server) = Redis::start_with("--appendonly no") else { return };
    let store = server.store("shop", rows(&[1])).await;
    let counters = store.counters().unwrap();
    let pace = Pace::new(Duration::from_secs(60), 3);
    let take = |key: u64| [Change { key: Key::from_u64(key), step: Step::Take(pace) }];
    for _ in 0..3 {
        counters.change(&take(u64::MAX), NOW).await.unwrap();
    }
    // As many others as there is room for, who owe 100 s each and more; and some who owe nothing any more.
    let now = NOW.as_millis();
    let fill = format!(
        "for n = 1, {} do redis.call('ZADD', '{{shop}}:rates', string.format('%.0f', {now} * 1000 + 100000000 + n), 'k' .. n) end \
         for n = 1, 500 do redis.call('ZADD', '{{shop}}:rates', string.format('%.0f', {now} * 1000 - n), 'old' .. n) end return 1",
        KEYS_MAX - 1
    );
    assert_eq!(server.ask_script(&fill), "1");
    assert!(matches!(counters.change(&take(7), NOW).await.unwrap()[..], [Answer::Done { .. }]));
    assert_eq!(server.ask("ZCARD {shop}:rates"), KEYS_MAX.to_string());
    // He took the place of one who owed 100 s of the 180 that a burst is: one more, and not two.
    assert!(matches!(counters.change(&take(7), NOW).await.unwrap()[..], [Answer::Done { .. }]));
    assert!(matches!(counters.change(&take(7), NOW).await.unwrap()[..], [Answer::Refused { .. }]));
    assert!(
        matches!(counters.change(&take(u64::MAX), NOW).await.unwrap()[..], [Answer::Refused { .. }]),
        "who owes most stays"
    );
}

#[tokio::test]
async fn a_password_is_needed_and_never_shown() {
    let Some(server) = Redis::start_with("--requirepass open-sesame") else { return };
    let connect = async |url: &str| RedisStore::connect(url, Settings::default(), rows(&[1])).await;
    let store = connect(&format!("{}?pass=open-sesame", server.url)).await.unwrap();
    assert!(load(&store, 1).await.is_none());
    assert!(!format!("{store:?}").contains("sesame"), "{store:?}");
    for url in [server.url.clone(), format!("{}?pass=sesame-street", server.url)] {
        let error = connect(&url).await.unwrap_err();
        assert!(matches!(error, OpenError::Link { source: LinkError::Failed(_), .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?}");
    }
    let settings = Settings { prefix: "a b".into(), ..Settings::default() };
    assert!(matches!(RedisStore::connect(&server.url, settings, rows(&[1])).await, Err(OpenError::Prefix)));
}
