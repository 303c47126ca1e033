//! What the adapter keeps within one process, and what it owns up to.

use async_trait::async_trait;
use parking_lot::Mutex;
use tower_sessions_core::session_store;
use tower_sessions_memory_store::MemoryStore;

use super::*;
use crate::entropy::InsecureSeededEntropy;
use crate::secret::{KeyId, Keyring, MasterKey};
use crate::session::record::EndReason;
use crate::store::conformance::{self, anonymous, session};
use crate::store::row::tests::rows;
use crate::store::{Created, OnLimit};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// The memory store of theirs. It looks at the clock of the machine, and the time of the tests may be long ago by it.
#[derive(Clone, Debug, Default)]
struct Below {
    memory: MemoryStore,
    /// After so many saves and creations all fail.
    writes_left: Arc<Mutex<Option<usize>>>,
}

impl Below {
    fn write(&self) -> session_store::Result<()> {
        match &mut *self.writes_left.lock() {
            None => Ok(()),
            Some(0) => Err(session_store::Error::Backend("the network is down".into())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn later(record: &Stored) -> Stored {
        let expiry_date = record.expiry_date.checked_add(time::Duration::days(365 * 1000));
        Stored { expiry_date: expiry_date.unwrap_or(record.expiry_date), ..record.clone() }
    }
}

/// The answer takes a while to come back: others see what was written before whoever wrote it goes on.
async fn far_away() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

#[async_trait]
impl SessionStore for Below {
    async fn create(&self, record: &mut Stored) -> session_store::Result<()> {
        self.write()?;
        let mut later = Self::later(record);
        self.memory.create(&mut later).await?;
        far_away().await;
        record.id = later.id;
        Ok(())
    }

    async fn save(&self, record: &Stored) -> session_store::Result<()> {
        self.write()?;
        self.memory.save(&Self::later(record)).await?;
        far_away().await;
        Ok(())
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Stored>> {
        self.memory.load(id).await
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.memory.delete(id).await
    }
}

fn over(below: &Below) -> TowerSessions<Below> {
    let keys = Keyring::new(&MasterKey::new(KeyId(1), [1; 32]), &[]);
    TowerSessions::new(below.clone(), Arc::new(Rows::new(keys, Arc::new(InsecureSeededEntropy::new(3)))))
}

fn ending() -> Ending {
    let tombstone_until = NOW.after(Duration::from_secs(600));
    Ending { why: EndReason::Revoked, now: NOW, tombstone_until }
}

async fn create(store: &TowerSessions<Below>, record: Record) {
    let answer = store.create(record, None, NOW).await.unwrap();
    assert!(matches!(answer, Creation::Created(Created::Done { .. })), "{answer:?}");
}

async fn rotate(store: &TowerSessions<Below>, from: &Record, to: Record) -> Result<Rotation, StoreError> {
    let Ending { now, tombstone_until, .. } = ending();
    let (old, version) = (&from.digest, from.version);
    store.rotate(Rotate { old, version, new: to, also_end: None, limit: None, now, tombstone_until }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    conformance::run(async || over(&Below::default())).await.unwrap();
}

#[tokio::test]
async fn after_a_restart_a_session_is_known_when_it_is_shown() {
    let below = Below::default();
    let before = over(&below);
    for nth in 0..3 {
        create(&before, session(nth, "ann")).await;
    }
    before.revoke(&session(2, "ann").digest, ending()).await.unwrap();
    drop(before);
    let store = over(&below);
    // The honest part: nobody has shown these yet.
    assert!(store.list(&Filter::default(), None, 9).await.unwrap().records.is_empty());
    assert!(store.revoke_subject("ann", None, ending()).await.unwrap().is_empty());
    assert_eq!(*store.load(&session(0, "ann").digest).await.unwrap().unwrap(), session(0, "ann"));
    assert_eq!(store.count(), 1);
    // What is changed by its name is known without that.
    let answer = store.commit(session(1, "ann"), Durability::Durable).await.unwrap();
    assert!(matches!(answer, Commit::Done(_)), "{answer:?}");
    let answer = store.commit(session(2, "ann"), Durability::Durable).await.unwrap();
    assert!(matches!(answer, Commit::Gone), "what ended stays ended: {answer:?}");
    assert!(matches!(store.create(session(2, "ann"), None, NOW).await.unwrap(), Creation::Exists));
    let two = SubjectLimit { sessions: 2.try_into().unwrap(), on_limit: OnLimit::Refuse };
    let answer = store.create(session(5, "ann"), Some(two), NOW).await.unwrap();
    assert!(matches!(answer, Creation::Created(Created::Refused)), "{answer:?}");
    assert_eq!(store.revoke_subject("ann", None, ending()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_another_process_did_before_is_seen() {
    let below = Below::default();
    let (here, there) = (over(&below), over(&below));
    create(&here, session(1, "ann")).await;
    there.commit(session(1, "ann"), Durability::Durable).await.unwrap();
    let late = here.commit(session(1, "ann"), Durability::Durable).await.unwrap();
    assert!(matches!(&late, Commit::Conflict(record) if record.version == 1), "{late:?}");
    there.revoke(&session(1, "ann").digest, ending()).await.unwrap();
    assert!(here.load(&session(1, "ann").digest).await.unwrap().unwrap().is_ended());
    assert!(matches!(here.commit(session(1, "ann"), Durability::Soon).await.unwrap(), Commit::Gone));
    // One that is used elsewhere is not removed for what is known of it here.
    create(&here, Record { removable_at: NOW, ..session(2, "ann") }).await;
    there.commit(session(2, "ann"), Durability::Durable).await.unwrap();
    here.clear_expired(NOW, 9).await.unwrap();
    assert!(here.load(&session(2, "ann").digest).await.unwrap().is_some());
}

#[tokio::test]
async fn a_rotation_that_fails_half_way_leaves_no_two_good_ids() {
    for writes in 0..3 {
        let below = Below::default();
        let store = over(&below);
        create(&store, session(1, "ann")).await;
        *below.writes_left.lock() = Some(writes);
        let answer = rotate(&store, &session(1, "ann"), session(2, "ann")).await;
        *below.writes_left.lock() = None;
        let mut lives = 0;
        for nth in [1, 2] {
            let record = store.load(&session(nth, "ann").digest).await.unwrap();
            lives += u32::from(record.is_some_and(|record| !record.is_ended()));
        }
        assert_eq!((answer.is_ok(), lives), [(false, 1), (false, 0), (true, 1)][writes]);
        // What is known here is what is below again.
        create(&store, anonymous(9)).await;
        let listed = store.list(&Filter::default(), None, 9).await.unwrap().records.len();
        assert_eq!(listed, lives as usize + 1);
    }
}

#[tokio::test]
async fn what_is_below_names_nobody_and_opens_for_its_digest_alone() {
    let below = Below::default();
    let store = over(&below);
    create(&store, session(1, "ann of the green gables")).await;
    let (mine, other) = (session(1, "x").digest, session(2, "x").digest);
    let mut stored = below.load(&id(&mine)).await.unwrap().unwrap();
    assert!(!format!("{stored:?}").contains("green"));
    stored.id = id(&other);
    below.save(&stored).await.unwrap();
    assert!(matches!(store.load(&other).await, Err(StoreError::Decode(_))));
    stored.data.clear();
    below.save(&stored).await.unwrap();
    assert!(matches!(store.load(&other).await, Err(StoreError::Decode(_))));
    assert!(store.load(&session(3, "x").digest).await.unwrap().is_none());
}

#[tokio::test]
async fn a_time_beyond_their_calendar_is_its_last_second() {
    let store = over(&Below::default());
    create(&store, Record { removable_at: Timestamp::from_millis(u64::MAX), ..session(1, "ann") }).await;
    assert!(store.load(&session(1, "ann").digest).await.unwrap().is_some());
}

/// Answers nothing.
#[derive(Debug)]
struct Hangs;

#[async_trait]
impl SessionStore for Hangs {
    async fn save(&self, _: &Stored) -> session_store::Result<()> {
        std::future::pending().await
    }

    async fn load(&self, _: &Id) -> session_store::Result<Option<Stored>> {
        std::future::pending().await
    }

    async fn delete(&self, _: &Id) -> session_store::Result<()> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_a_store_that_hangs() {
    let store = TowerSessions::new(Hangs, Arc::new(rows(&[1])));
    let patience = ANSWER_MAX * 3;
    let loaded = tokio::time::timeout(patience, store.load(&session(1, "ann").digest)).await.unwrap();
    assert!(loaded.unwrap_err().to_string().contains("did not answer within"));
    let create = |nth| store.create(session(nth, "ann"), None, NOW);
    // Those who wait for their turn give up too.
    let all = async { tokio::join!(create(1), create(2), create(3)) };
    let (one, two, three) = tokio::time::timeout(patience, all).await.unwrap();
    assert!([one, two, three].into_iter().all(|created| created.is_err()));
}
