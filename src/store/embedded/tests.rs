//! What the embedded store does beside conforming: it survives, refuses, waits, and recovers.

use std::collections::BTreeMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};
use redb::{Builder, Database, ReadableTable, StorageBackend, TableDefinition};
use tempfile::TempDir;

use super::*;
use crate::clock::Timestamp;
use crate::session::id::{Ref, SessionDigest};
use crate::session::record::{DecodeError, EndReason, Lasting, Record, State};
use crate::session::tag::{Tag, Tags};
use crate::store::conformance::{self, Case};
use crate::store::row::tests::{ring, rows};
use crate::store::{Commit, Created, Creation, Durability, Ending, Filter, PAGE_MAX, Store, StoreError};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn digest(nth: u64) -> SessionDigest {
    SessionDigest(crate::secret::sha256(&nth.to_be_bytes()))
}

fn session(nth: u64) -> Record {
    Record {
        digest: digest(nth),
        reference: Ref([0; 16]),
        version: 0,
        created_at: NOW,
        id_since: NOW.after(Duration::from_millis(nth)),
        authenticated_at: Some(NOW),
        last_seen: NOW,
        ends_at: None,
        lasting: Lasting::Default,
        removable_at: NOW.after(Duration::from_secs(3600)),
        subject: Some("ann".into()),
        tags: Tags::new(Tag::from_bytes([0; 16]), NOW),
        forks: 0,
        state: State::Live,
        jar: Box::new([7; 100]),
        data: Box::default(),
        bound: Box::default(),
        history: Box::default(),
    }
}

fn ending() -> Ending {
    Ending { why: EndReason::Revoked, now: NOW, tombstone_until: NOW.after(Duration::from_secs(600)) }
}

fn open_at(path: &Path) -> Result<(EmbeddedStore, Loaded), OpenError> {
    EmbeddedStore::open(path, Arc::new(rows(&[1])), Settings::default())
}

fn open(directory: &TempDir) -> (EmbeddedStore, Loaded) {
    open_at(directory.path()).unwrap()
}

async fn everything(store: &impl Store) -> Vec<Arc<Record>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(&Filter { with_ended: true, ..Filter::default() }, after, PAGE_MAX).await.unwrap();
        all.extend(page.records);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

fn is_created(answer: &Result<Creation, StoreError>) -> bool {
    matches!(answer, Ok(Creation::Created(Created::Done { .. })))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    for case in Case::ALL {
        let directory = TempDir::new().unwrap();
        conformance::run_case(*case, open(&directory).0).await.unwrap();
    }
}

#[tokio::test]
async fn sessions_survive_a_restart() {
    let directory = TempDir::new().unwrap();
    let (store, loaded) = open(&directory);
    assert_eq!(loaded, Loaded::default());
    for nth in 0..50 {
        assert!(is_created(&store.create(session(nth), None, NOW).await));
    }
    store.revoke(&digest(3), ending()).await.unwrap();
    store.commit(Record { forks: 3, ..session(4) }, Durability::Durable).await.unwrap();
    // Nobody waits for this one, but closing does.
    store.commit(Record { forks: 5, ..session(5) }, Durability::Soon).await.unwrap();
    let gone = Record { removable_at: NOW, ..session(6) };
    store.commit(gone, Durability::Durable).await.unwrap();
    assert_eq!(store.clear_expired(NOW, 10).await.unwrap(), 1);
    let before = everything(&store).await;
    assert_eq!(before.len(), 49);
    drop(store);
    let (store, loaded) = open(&directory);
    assert_eq!(loaded, Loaded { sessions: 49, ..Loaded::default() });
    assert_eq!(everything(&store).await, before);
    // Times and subjects are known again as well.
    assert_eq!(store.revoke_subject("ann", None, ending()).await.unwrap().len(), 48);
    assert_eq!(store.clear_expired(NOW.after(Duration::from_secs(600)), 100).await.unwrap(), 49);
}

#[tokio::test]
async fn a_closed_store_changes_nothing_and_still_loads() {
    let directory = TempDir::new().unwrap();
    let (store, _) = open(&directory);
    assert!(is_created(&store.create(session(1), None, NOW).await));
    store.close().await;
    assert!(matches!(store.create(session(2), None, NOW).await, Err(StoreError::Closed)));
    for durability in [Durability::Durable, Durability::Soon] {
        assert!(matches!(store.commit(session(1), durability).await, Err(StoreError::Closed)));
    }
    assert!(store.load(&digest(1)).await.unwrap().is_some());
    assert_eq!(open(&directory).1.sessions, 1);
}

#[test]
fn a_store_in_use_is_refused() {
    let directory = TempDir::new().unwrap();
    let (store, _) = open(&directory);
    let error = open_at(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("another guard uses this store: {}", store.path().display()));
    drop(store);
    open(&directory);
}

fn set_format(path: &Path, format: u64) {
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let database = Database::create(path).unwrap();
    let writing = database.begin_write().unwrap();
    writing.open_table(meta).unwrap().insert("format", format).unwrap();
    writing.commit().unwrap();
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = open(&directory).0.path().to_owned();
    set_format(&path, 3);
    let error = open_at(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 3, .. }), "{error:?}");
    assert!(error.to_string().ends_with("use the newer program"), "{error}");
    set_format(&path, 2);
    open(&directory);
}

#[test]
fn a_first_start_that_was_killed_is_begun_again() {
    let directory = TempDir::new().unwrap();
    let (path, unfinished) = (directory.path().join("sessions.redb"), directory.path().join("sessions.redb.new"));
    // As a crash leaves them: named, and empty; begun, and not yet a database.
    for (file, octets) in [(&path, &b""[..]), (&unfinished, &[0; 5000])] {
        std::fs::write(file, octets).unwrap();
        let store = open_at(directory.path()).unwrap();
        assert!(!unfinished.exists() && std::fs::metadata(&path).unwrap().len() > 0);
        drop(store);
        open_at(directory.path()).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sessions.redb");
    let other: TableDefinition<'_, &str, u64> = TableDefinition::new("recipes");
    let database = Database::create(&path).unwrap();
    let writing = database.begin_write().unwrap();
    writing.open_table(other).unwrap().insert("eggs", 3).unwrap();
    writing.commit().unwrap();
    drop(database);
    let error = open_at(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");

    std::fs::write(&path, "a letter to a friend, long enough to be taken for the header of a database. ".repeat(100))
        .unwrap();
    let error = open_at(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("a letter"));

    let error = open_at(&path).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "a file is no directory: {error:?}");
}

const RECORDS: TableDefinition<'_, &disk::Key, &[u8]> = TableDefinition::new("records");

/// Changes the file of a store that is closed.
fn tamper(path: &Path, change: impl FnOnce(&mut redb::Table<'_, &disk::Key, &[u8]>)) {
    let database = Database::create(path).unwrap();
    let writing = database.begin_write().unwrap();
    change(&mut writing.open_table(RECORDS).unwrap());
    writing.commit().unwrap();
}

async fn created(directory: &TempDir, sessions: u64) -> PathBuf {
    let (store, _) = open(directory);
    for nth in 0..sessions {
        assert!(is_created(&store.create(session(nth), None, NOW).await));
    }
    store.path().to_owned()
}

fn named(errors: &[(u64, DecodeError)], removable_at: Timestamp) -> Vec<Damaged> {
    let damaged = |(nth, error): &(u64, DecodeError)| Damaged {
        digest: digest(*nth),
        error: *error,
        removable_at: Some(removable_at),
    };
    errors.iter().map(damaged).collect()
}

#[tokio::test]
async fn a_damaged_record_is_told_and_left_alone_until_its_time_is_over() {
    let directory = TempDir::new().unwrap();
    let path = created(&directory, 4).await;
    tamper(&path, |table| {
        let row = |nth| rows(&[1]).seal_encoded(&digest(nth), &session(3).encode()).unwrap();
        let newer = [&[9], session(1).encode().split_at(1).1].concat();
        let newer = rows(&[1]).seal_encoded(&digest(1), &newer).unwrap();
        let stored = table.get(&disk::key(&session(0))).unwrap().unwrap().value().to_vec();
        let (time, _) = stored.split_at(8);
        let (dated, cut) = (|row: &[u8]| [time, row].concat(), &stored[..stored.len() - 1]);
        for (nth, value) in [(0, cut.to_vec()), (1, dated(&newer)), (2, dated(&row(2)))] {
            table.insert(&disk::key(&session(nth)), value.as_slice()).unwrap();
        }
    });
    let errors = [(0, DecodeError::Damaged), (1, DecodeError::Version(9)), (2, DecodeError::Damaged)];
    let over = session(0).removable_at;
    for _ in 0..2 {
        let (store, loaded) = open(&directory);
        assert_eq!(loaded, Loaded { sessions: 1, damaged: 3, damaged_named: named(&errors, over) });
        assert!(store.load(&digest(3)).await.unwrap().is_some());
        assert!(store.load(&digest(4)).await.unwrap().is_none());
        for (nth, error) in errors {
            assert!(matches!(store.load(&digest(nth)).await, Err(StoreError::Decode(told)) if told == error));
            assert!(matches!(store.create(session(nth), None, NOW).await, Ok(Creation::Exists)));
        }
        assert_eq!(store.clear_expired(Timestamp::from_millis(over.as_millis() - 1), 10).await.unwrap(), 0);
    }
    let (store, _) = open(&directory);
    // Who is ended meanwhile does not come back with his key.
    assert!(store.revoke(&digest(2), ending()).await.unwrap().is_none());
    assert!(store.load(&digest(2)).await.unwrap().is_none());
    drop(store);
    let (store, loaded) = open(&directory);
    assert_eq!((loaded.sessions, loaded.damaged), (1, 2));
    assert_eq!(store.clear_expired(over, 10).await.unwrap(), 1, "of those that could be read");
    assert!(store.load(&digest(0)).await.unwrap().is_none());
    drop(store);
    assert_eq!(open(&directory).1, Loaded::default());
}

/// Two places say that they are one session: when the time of the one that is not believed is over, the other stays.
#[tokio::test]
async fn a_record_that_stands_twice_costs_nobody_his_session() {
    let directory = TempDir::new().unwrap();
    let path = created(&directory, 1).await;
    tamper(&path, |table| {
        let again = Record { id_since: NOW.after(Duration::from_secs(9)), removable_at: NOW, ..session(0) };
        let row = rows(&[1]).seal(&again).unwrap();
        let value = [&NOW.as_millis().to_be_bytes(), row.as_slice()].concat();
        table.insert(&disk::key(&again), value.as_slice()).unwrap();
    });
    let (store, loaded) = open(&directory);
    assert_eq!((loaded.sessions, loaded.damaged), (1, 1));
    store.clear_expired(NOW, 10).await.unwrap();
    assert_eq!(*store.load(&digest(0)).await.unwrap().unwrap(), session(0));
    drop(store);
    assert_eq!(open(&directory).1.sessions, 1);
}

#[tokio::test]
async fn a_stolen_file_names_nobody_and_opens_no_session() {
    let directory = TempDir::new().unwrap();
    let (store, _) = open(&directory);
    let record = Record { subject: Some("ann of the green gables".into()), ..session(1) };
    assert!(is_created(&store.create(record, None, NOW).await));
    let path = store.path().to_owned();
    drop(store);
    let file = std::fs::read(&path).unwrap();
    assert!(!file.windows(5).any(|window| window == b"green") && !file.windows(9).any(|window| window == [7; 9]));
    let (other, loaded) = EmbeddedStore::open(directory.path(), Arc::new(rows(&[2])), Settings::default()).unwrap();
    assert_eq!((loaded.sessions, loaded.damaged), (0, 1));
    assert!(matches!(other.load(&digest(1)).await, Err(StoreError::Decode(DecodeError::Damaged))));
}

#[tokio::test]
async fn a_key_can_be_replaced_without_logging_anybody_out() {
    let directory = TempDir::new().unwrap();
    let (store, _) = open(&directory);
    assert!(is_created(&store.create(session(1), None, NOW).await));
    store.rows().replace_keys(ring(&[2, 1]));
    assert!(is_created(&store.create(session(2), None, NOW).await));
    drop(store);
    for (keys, sessions) in [(&[2, 1][..], 2), (&[2], 1), (&[1], 1)] {
        let (store, loaded) = EmbeddedStore::open(directory.path(), Arc::new(rows(keys)), Settings::default()).unwrap();
        assert_eq!((loaded.sessions, loaded.damaged), (sessions, 2 - sessions), "{keys:?}");
        drop(store);
    }
}

/// Records were not sealed at first.
#[tokio::test]
async fn a_file_of_an_older_program_is_sealed_and_nobody_is_logged_out() {
    let directory = TempDir::new().unwrap();
    let sessions = disk::SEALED_AT_ONCE as u64 + 10;
    let path = directory.path().join("sessions.redb");
    drop(open(&directory));
    tamper(&path, |table| {
        for nth in 0..sessions {
            table.insert(&disk::key(&session(nth)), session(nth).encode().as_slice()).unwrap();
        }
        table.insert(&disk::key(&session(sessions)), &b"nonsense"[..]).unwrap();
    });
    set_format(&path, 1);
    for round in 0..3 {
        let (store, loaded) = open(&directory);
        assert_eq!((loaded.sessions as u64, loaded.damaged), (sessions, 1));
        assert_eq!(*store.load(&digest(sessions - 1)).await.unwrap().unwrap(), session(sessions - 1));
        // Who only looks changes nothing.
        if round == 1 {
            let touched = Record { forks: 1, ..session(0) };
            assert!(matches!(store.commit(touched, Durability::Durable).await, Ok(Commit::Done(_))));
        }
        drop(store);
        tamper(&path, |table| {
            let is_sealed = |value: &[u8]| !value.windows(3).any(|window| window == b"ann");
            let all: Vec<_> =
                table.range::<&disk::Key>(..).unwrap().map(|entry| entry.unwrap().1.value().to_vec()).collect();
            let sealed = all.iter().filter(|value| is_sealed(value)).count() as u64;
            // What is no record names nobody either.
            assert_eq!(sealed, if round == 0 { 1 } else { sessions + 1 });
        });
    }
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let inner = directory.path().join("data/store");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = open_at(&inner).unwrap().0.path().to_owned();
    assert_eq!((mode(&inner), mode(&path)), (0o700, 0o600));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o664)).unwrap();
    drop(open_at(&inner).unwrap());
    assert_eq!(mode(&path), 0o600);
}

// ---- a disk that fails -----------------------------------------------------------------------------------------------

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing is written.
    Full,
    /// The first half is written.
    Torn,
    /// All is written, and syncing says it was not.
    Sync,
    /// The writer panics.
    Panic,
}

/// A file in memory that can be told to fail.
#[derive(Debug, Default)]
struct Medium {
    bytes: Mutex<Vec<u8>>,
    /// How many operations go well, and then how many go wrong.
    fault: Mutex<Option<(u64, u64, Fault)>>,
    is_held: Mutex<bool>,
    released: Condvar,
}

impl Medium {
    /// Lets the operation after so many go wrong, and all after it.
    fn fail_after(&self, operations: u64, fault: Fault) {
        *self.fault.lock() = Some((operations, u64::MAX, fault));
    }

    /// Lets the operation after so many go wrong, and no more.
    fn fail_once_after(&self, operations: u64, fault: Fault) {
        *self.fault.lock() = Some((operations, 1, fault));
    }

    fn heal(&self) {
        *self.fault.lock() = None;
    }

    /// Lets syncing wait until what is given is dropped.
    fn hold(self: &Arc<Self>) -> Held {
        *self.is_held.lock() = true;
        Held(Arc::clone(self))
    }

    fn fault(&self, kind: fn(Fault) -> bool) -> Option<Fault> {
        let mut fault = self.fault.lock();
        let (well, wrong, what) = fault.as_mut()?;
        if *well > 0 {
            *well -= 1;
            return None;
        }
        if *wrong == 0 || !kind(*what) {
            return None;
        }
        *wrong -= 1;
        Some(*what)
    }

    fn open(self: &Arc<Self>) -> Result<(EmbeddedStore, Loaded), OpenError> {
        let medium = Arc::clone(self);
        let open = move || Ok(Builder::new().create_with_backend(Handle(Arc::clone(&medium)))?);
        let settings = Settings { retry: Duration::from_millis(1), ..Settings::default() };
        EmbeddedStore::open_with("medium".into(), Box::new(open), Arc::new(rows(&[1])), settings)
    }
}

/// Syncing waits while this lives.
struct Held(Arc<Medium>);

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.is_held.lock() = false;
        self.0.released.notify_all();
    }
}

#[derive(Debug)]
struct Handle(Arc<Medium>);

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (bytes, start) = (self.0.bytes.lock(), usize::try_from(offset).unwrap());
        out.copy_from_slice(bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut bytes, len) = (self.0.bytes.lock(), usize::try_from(len).unwrap());
        if len > bytes.len() && self.0.fault(|fault| fault == Fault::Full).is_some() {
            return Err(full());
        }
        bytes.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut is_held = self.0.is_held.lock();
        while *is_held {
            self.0.released.wait(&mut is_held);
        }
        self.0.fault(|fault| fault == Fault::Sync).map_or(Ok(()), |_| Err(io::ErrorKind::Other.into()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let fault = self.0.fault(|fault| fault != Fault::Sync);
        let whole = match fault {
            None => data.len(),
            Some(Fault::Torn) => data.len() / 2,
            Some(Fault::Panic) => panic!("a bug in the database"),
            Some(_) => 0,
        };
        self.0.bytes.lock()[start..start + whole].copy_from_slice(&data[..whole]);
        fault.map_or(Ok(()), |_| Err(full()))
    }
}

/// What is asked of a store, and what it acknowledged: version of each session, and whether it ended.
async fn some_changes(store: &EmbeddedStore, first: u64, told: &mut BTreeMap<u64, (u64, bool)>) {
    let rounds = (first..first + 12).map(|nth| async move {
        let mut told = None;
        if is_created(&store.create(session(nth), None, NOW).await) {
            told = Some((nth, (0, false)));
        }
        let durability = if nth.is_multiple_of(2) { Durability::Durable } else { Durability::Soon };
        if let Ok(Commit::Done(record)) = store.commit(session(nth), durability).await {
            told = Some((nth, (record.version, false)));
        }
        if nth.is_multiple_of(3)
            && let Ok(Some(record)) = store.revoke(&digest(nth), ending()).await
        {
            told = Some((nth, (record.version + 1, true)));
        }
        told
    });
    told.extend(all(rounds.collect()).await.into_iter().flatten());
}

/// Runs futures together on this task.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outputs = Vec::new();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(output) => {
                outputs.push(output);
                false
            }
            Poll::Pending => true,
        });
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs
}

/// Tries until it works: the store pauses after a failure.
async fn create_in_the_end(store: &EmbeddedStore, nth: u64) {
    while !is_created(&store.create(session(nth), None, NOW).await) {
        std::thread::yield_now();
    }
}

async fn agree_after(fail: impl Fn(&Medium), what: &str) {
    let medium = Arc::new(Medium::default());
    let (store, _) = medium.open().unwrap();
    let mut told = BTreeMap::new();
    some_changes(&store, 0, &mut told).await;
    assert_eq!(told.len(), 12);
    fail(&medium);
    some_changes(&store, 100, &mut told).await;
    some_changes(&store, 200, &mut told).await;
    medium.heal();
    create_in_the_end(&store, 300).await;
    some_changes(&store, 400, &mut told).await;
    store.close().await;

    let in_memory = everything(&store).await;
    let (reopened, loaded) = medium.open().unwrap();
    let on_disk = everything(&reopened).await;
    assert_eq!(loaded.damaged, 0);
    assert_eq!(in_memory, on_disk, "{what}");
    assert_eq!(store.count(), on_disk.len());
    for (nth, (version, is_ended)) in told {
        let record = reopened.load(&digest(nth)).await.unwrap().unwrap();
        assert!(record.version >= version && record.is_ended() >= is_ended, "{what}: session {nth}");
    }
}

#[tokio::test]
async fn memory_and_disk_agree_whatever_fails() {
    for fault in [Fault::Full, Fault::Torn, Fault::Sync] {
        for operations in 0..(if std::env::var_os("PORTCULLIS_SOAK").is_some() { 200 } else { 24 }) {
            let what = format!("{fault:?} after {operations}");
            agree_after(|medium| medium.fail_after(operations, fault), &what).await;
            agree_after(|medium| medium.fail_once_after(operations, fault), &what).await;
        }
    }
}

#[tokio::test]
async fn a_file_of_an_older_program_is_sealed_once_whatever_fails() {
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    for fault in [Fault::Full, Fault::Torn, Fault::Sync] {
        for operations in 0..30 {
            let medium = Arc::new(Medium::default());
            let database = Builder::new().create_with_backend(Handle(Arc::clone(&medium))).unwrap();
            let writing = database.begin_write().unwrap();
            {
                let mut meta = writing.open_table(meta).unwrap();
                meta.insert("format", 1).unwrap();
                meta.insert("batch", 0).unwrap();
                let mut records = writing.open_table(RECORDS).unwrap();
                for nth in 0..5 {
                    records.insert(&disk::key(&session(nth)), session(nth).encode().as_slice()).unwrap();
                }
            }
            writing.commit().unwrap();
            drop(database);
            let (store, _) = medium.open().unwrap();
            medium.fail_once_after(operations, fault);
            // One that failed may be there nevertheless.
            for nth in [100, 101] {
                while store.create(session(nth), None, NOW).await.is_err() {
                    std::thread::yield_now();
                }
            }
            store.close().await;
            medium.heal();
            let (reopened, loaded) = medium.open().unwrap();
            assert_eq!((loaded.sessions, loaded.damaged), (7, 0), "{fault:?} after {operations}");
            assert_eq!(*reopened.load(&digest(4)).await.unwrap().unwrap(), session(4));
        }
    }
}

#[tokio::test]
async fn what_rests_on_a_batch_that_fails_fails_with_it() {
    let medium = Arc::new(Medium::default());
    let (store, _) = medium.open().unwrap();
    assert!(is_created(&store.create(session(1), None, NOW).await));
    let held = medium.hold();
    let mut context = Context::from_waker(Waker::noop());
    let mut committed = pin!(store.commit(session(1), Durability::Durable));
    assert!(committed.as_mut().poll(&mut context).is_pending());
    // It is being written now, so these wait for the batch after it.
    while store.on_disk.has_open() {
        std::thread::yield_now();
    }
    let mut on_top = pin!(store.commit(Record { version: 1, ..session(1) }, Durability::Durable));
    let mut beside = pin!(store.create(session(2), None, NOW));
    assert!(on_top.as_mut().poll(&mut context).is_pending());
    assert!(beside.as_mut().poll(&mut context).is_pending());
    medium.fail_once_after(0, Fault::Sync);
    drop(held);
    assert!(matches!(committed.await, Err(StoreError::Io(_))));
    assert!(matches!(on_top.await, Err(StoreError::Io(_))));
    assert!(matches!(beside.await, Err(StoreError::Io(_))));
    create_in_the_end(&store, 3).await;
    // What could not be synced may have reached the disk nevertheless; what came after it can not.
    assert!(store.load(&digest(1)).await.unwrap().unwrap().version < 2);
    assert!(store.load(&digest(2)).await.unwrap().is_none());
    store.close().await;
    let (reopened, _) = medium.open().unwrap();
    assert_eq!(everything(&store).await, everything(&reopened).await);
    assert_eq!(store.count(), reopened.count());
}

#[tokio::test]
async fn a_failure_is_told_and_loading_goes_on() {
    let medium = Arc::new(Medium::default());
    let (store, _) = medium.open().unwrap();
    assert!(is_created(&store.create(session(1), None, NOW).await));
    medium.fail_after(0, Fault::Full);
    let error = store.create(session(2), None, NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Io(_)), "{error:?}");
    assert!(store.load(&digest(1)).await.unwrap().is_some());
    assert!(store.load(&digest(2)).await.unwrap().is_none());
    assert!(matches!(store.revoke(&digest(1), ending()).await, Err(StoreError::Io(_))));
    assert!(!store.load(&digest(1)).await.unwrap().unwrap().is_ended());
    medium.heal();
    create_in_the_end(&store, 2).await;
}

#[tokio::test]
async fn a_disk_that_never_recovers_does_not_hold_up_closing() {
    let medium = Arc::new(Medium::default());
    let (store, _) = medium.open().unwrap();
    assert!(is_created(&store.create(session(1), None, NOW).await));
    store.commit(session(1), Durability::Soon).await.unwrap();
    medium.fail_after(0, Fault::Full);
    assert!(store.create(session(2), None, NOW).await.is_err());
    store.close().await;
    drop(store);
    medium.heal();
    let (store, loaded) = medium.open().unwrap();
    assert_eq!(loaded.sessions, 1);
    assert!(store.load(&digest(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn nobody_waits_in_vain_for_a_writer_that_panicked() {
    let medium = Arc::new(Medium::default());
    let (store, _) = medium.open().unwrap();
    medium.fail_after(0, Fault::Panic);
    assert!(matches!(store.create(session(1), None, NOW).await, Err(StoreError::Closed)));
    assert!(matches!(store.create(session(2), None, NOW).await, Err(StoreError::Closed)));
    store.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_keeps_nobody_for_ever() {
    let medium = Arc::new(Medium::default());
    let (store, _) = medium.open().unwrap();
    let held = medium.hold();
    let began = tokio::time::Instant::now();
    for nth in 1..3 {
        let created = store.create(session(nth), None, NOW).await;
        assert!(
            matches!(&created, Err(StoreError::Io(why)) if why.to_string().contains("did not answer")),
            "{created:?}"
        );
    }
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(store.load(&digest(1)).await.unwrap().is_none(), "nothing is seen that may never be");
    // It goes on, and has what was decided.
    tokio::time::resume();
    drop(held);
    assert!(is_created(&store.create(session(3), None, NOW).await));
    assert!(store.load(&digest(1)).await.unwrap().is_some());
    store.close().await;
}

#[tokio::test]
async fn nothing_is_seen_and_nothing_answered_before_the_disk_has_it() {
    let medium = Arc::new(Medium::default());
    let (store, _) = medium.open().unwrap();
    assert!(is_created(&store.create(session(1), None, NOW).await));
    let held = medium.hold();
    let mut context = Context::from_waker(Waker::noop());
    let first = digest(1);
    let mut created = pin!(store.create(session(2), None, NOW));
    let mut revoked = pin!(store.revoke(&first, ending()));
    assert!(created.as_mut().poll(&mut context).is_pending());
    assert!(revoked.as_mut().poll(&mut context).is_pending());
    // Whoever is told something that follows from those waits as well: it might never become true.
    let mut again = pin!(store.create(session(2), None, NOW));
    let mut late = pin!(store.commit(session(1), Durability::Soon));
    let mut revoked_again = pin!(store.revoke(&first, ending()));
    let mut nobody_left = pin!(store.revoke_subject("bob", None, ending()));
    assert!(again.as_mut().poll(&mut context).is_pending());
    assert!(late.as_mut().poll(&mut context).is_pending());
    assert!(revoked_again.as_mut().poll(&mut context).is_pending());
    assert!(nobody_left.as_mut().poll(&mut context).is_pending());
    assert!(store.load(&digest(2)).await.unwrap().is_none());
    assert!(!store.load(&digest(1)).await.unwrap().unwrap().is_ended());
    let of_ann = Filter { subject: Some("ann".into()), ..Filter::default() };
    assert_eq!(store.list(&of_ann, None, 9).await.unwrap().records, [Arc::new(session(1))]);
    drop(held);
    assert!(is_created(&created.await));
    assert_eq!(*revoked.await.unwrap().unwrap(), session(1));
    assert!(matches!(again.await, Ok(Creation::Exists)));
    assert!(matches!(late.await, Ok(Commit::Gone)));
    assert!(matches!(revoked_again.await, Ok(None)));
    assert!(nobody_left.await.unwrap().is_empty());
    assert_eq!(store.list(&of_ann, None, 9).await.unwrap().records, [Arc::new(session(2))]);
}
