//! What the store of files does beside conforming: it survives, refuses, and finishes what was cut off.

use std::io;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::clock::Timestamp;
use crate::entropy::InsecureSeededEntropy;
use crate::secret::{KeyId, Keyring, MasterKey};
use crate::session::id::SessionDigest;
use crate::session::record::{DecodeError, EndReason, Record};
use crate::store::conformance::{self, Case, session};
use crate::store::{
    Commit, Created, Creation, Durability, Ending, Filter, PAGE_MAX, Rotate, Rotation, Store, StoreError,
};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn rows(key: u8) -> Arc<Rows> {
    let key = MasterKey::new(KeyId(key), [key; 32]);
    Arc::new(Rows::new(Keyring::new(&key, &[]), Arc::new(InsecureSeededEntropy::new(3))))
}

fn try_open(directory: &Path) -> Result<(FileStore, Loaded), OpenError> {
    FileStore::open(directory, rows(1), Settings::default())
}

fn open(directory: &TempDir) -> (FileStore, Loaded) {
    try_open(directory.path()).unwrap()
}

fn digest(nth: u64) -> SessionDigest {
    session(nth, "ann").digest
}

fn place(directory: &TempDir, nth: u64) -> PathBuf {
    let name: String = digest(nth).0.iter().map(|byte| format!("{byte:02x}")).collect();
    directory.path().join("sessions").join(name.split_at(2).0).join(&name)
}

fn ending() -> Ending {
    Ending { why: EndReason::Revoked, now: NOW, tombstone_until: NOW.after(Duration::from_secs(600)) }
}

fn is_created(answer: &Result<Creation, StoreError>) -> bool {
    matches!(answer, Ok(Creation::Created(Created::Done { .. })))
}

async fn everything(store: &FileStore) -> Vec<Arc<Record>> {
    store.list(&Filter { with_ended: true, ..Filter::default() }, None, PAGE_MAX).await.unwrap().records
}

/// Session `from` goes on as session `to`, and session 9 ends with it.
async fn rotate(store: &FileStore, from: u64, to: u64) -> Result<Rotation, StoreError> {
    let (old, also) = (digest(from), digest(9));
    let rotate = Rotate {
        old: &old,
        version: 0,
        new: session(to, "ann"),
        also_end: Some(&also),
        limit: None,
        now: NOW,
        tombstone_until: NOW.after(Duration::from_secs(600)),
    };
    store.rotate(rotate).await
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
    for nth in 0..20 {
        assert!(is_created(&store.create(session(nth, "ann"), None, NOW).await));
    }
    store.revoke(&digest(3), ending()).await.unwrap();
    store.commit(Record { forks: 3, ..session(4, "ann") }, Durability::Durable).await.unwrap();
    // Nobody waits for this one, but closing does.
    store.commit(Record { forks: 5, ..session(5, "ann") }, Durability::Soon).await.unwrap();
    store.commit(Record { removable_at: NOW, ..session(6, "ann") }, Durability::Durable).await.unwrap();
    assert_eq!(store.clear_expired(NOW, 10).await.unwrap(), 1);
    assert!(!place(&directory, 6).exists());
    let before = everything(&store).await;
    drop(store);
    let (store, loaded) = open(&directory);
    assert_eq!(loaded, Loaded { sessions: 19, ..Loaded::default() });
    assert_eq!(everything(&store).await, before);
    assert_eq!(store.count(), 19);
    store.close().await;
    assert!(matches!(store.create(session(99, "ann"), None, NOW).await, Err(StoreError::Closed)));
    assert!(matches!(store.commit(session(1, "ann"), Durability::Soon).await, Err(StoreError::Closed)));
    assert!(store.load(&digest(1)).await.unwrap().is_some());
    // A session is ended by hand by removing its file.
    std::fs::remove_file(place(&directory, 1)).unwrap();
    assert!(open(&directory).0.load(&digest(1)).await.unwrap().is_none());
}

#[test]
fn a_store_in_use_is_refused() {
    let directory = TempDir::new().unwrap();
    let (store, _) = open(&directory);
    let error = try_open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("another guard uses this store: {}", store.path().display()));
    drop(store);
    open(&directory);
}

#[test]
fn what_is_newer_or_no_store_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    drop(open(&directory));
    let lock = directory.path().join("lock");
    std::fs::write(&lock, "portcullis sessions 2\n").unwrap();
    let error = try_open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error:?}");
    for other in ["held by emacs", &"portcullis sessions 1".repeat(9)] {
        std::fs::write(&lock, other).unwrap();
        let error = try_open(directory.path()).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
        assert_eq!(std::fs::read_to_string(&lock).unwrap(), other);
    }
    // Without a line of ours the rest is not ours either; with nothing there, a first start was cut off.
    std::fs::write(&lock, "").unwrap();
    assert!(matches!(try_open(directory.path()), Err(OpenError::Foreign { .. })));
    std::fs::remove_dir_all(directory.path().join("sessions")).unwrap();
    std::fs::remove_file(directory.path().join("journal")).unwrap();
    open(&directory);
    let error = try_open(&lock).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "a file is no directory: {error:?}");
}

#[tokio::test]
async fn a_damaged_file_is_told_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let (store, _) = open(&directory);
    for nth in 0..5 {
        assert!(is_created(&store.create(session(nth, "ann"), None, NOW).await));
    }
    drop(store);
    let cut = std::fs::read(place(&directory, 0)).unwrap();
    std::fs::write(place(&directory, 0), &cut[..cut.len() - 1]).unwrap();
    // One session's row in another's place, a row in another folder, and what is not ours.
    std::fs::copy(place(&directory, 4), place(&directory, 1)).unwrap();
    let name = place(&directory, 2).file_name().unwrap().to_owned();
    std::fs::rename(place(&directory, 2), place(&directory, 3).with_file_name(&name)).unwrap();
    let unfinished = place(&directory, 7).with_extension("new");
    let note = place(&directory, 3).with_file_name("README");
    std::fs::write(&unfinished, "half a r").unwrap();
    std::fs::write(&note, "do not touch").unwrap();
    for _ in 0..2 {
        let (store, mut loaded) = open(&directory);
        let mut named =
            [0, 1, 2].map(|nth| Damaged { digest: digest(nth), error: DecodeError::Damaged, removable_at: None });
        named.sort_by_key(|damaged| damaged.digest);
        loaded.damaged_named.sort_by_key(|damaged| damaged.digest);
        assert_eq!(loaded, Loaded { sessions: 2, damaged: 3, damaged_named: named.to_vec() });
        assert!(store.load(&digest(3)).await.unwrap().is_some());
        assert!(matches!(store.load(&digest(0)).await, Err(StoreError::Decode(DecodeError::Damaged))));
        assert!(!unfinished.exists() && note.exists());
    }
    // A key that was burnt closes what was written under it, and nothing else.
    let (_, loaded) = FileStore::open(directory.path(), rows(2), Settings::default()).unwrap();
    assert_eq!((loaded.sessions, loaded.damaged), (0, 5));
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_for_their_owner_alone_and_name_nobody() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let inner = directory.path().join("data/store");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (store, _) = try_open(&inner).unwrap();
    assert!(is_created(&store.create(session(1, "ann of the green gables"), None, NOW).await));
    let at = |path: &str| inner.join(path);
    let name = place(&directory, 1);
    let folder = at("sessions").join(name.file_name().unwrap().to_str().unwrap().split_at(2).0);
    let file = folder.join(name.file_name().unwrap());
    for (path, expected) in [
        (&inner, 0o700),
        (&at("sessions"), 0o700),
        (&folder, 0o700),
        (&file, 0o600),
        (&at("lock"), 0o600),
        (&at("journal"), 0o600),
    ] {
        assert_eq!(mode(path), expected, "{}", path.display());
    }
    assert!(!std::fs::read(file).unwrap().windows(5).any(|window| window == b"green"));
}

// ---- a process that is cut off ---------------------------------------------------------------------------------------

/// How much of an operation is done when it fails.
#[derive(Clone, Copy, Debug)]
enum Done {
    Nothing,
    Half,
    All,
}

/// How many operations go well, how many go wrong after them, and how.
type Fault = Arc<Mutex<Option<(u64, u64, Done)>>>;

/// A directory that can be told to fail.
struct Failing {
    directory: Directory,
    fault: Fault,
}

impl Failing {
    fn fails(&self) -> Option<Done> {
        let mut fault = self.fault.lock();
        let (well, wrong, done) = fault.as_mut()?;
        if *well > 0 {
            *well -= 1;
            return None;
        }
        *wrong = wrong.checked_sub(1)?;
        Some(*done)
    }

    fn attempt(
        &mut self,
        half: impl FnOnce(&mut Directory) -> io::Result<()>,
        all: impl FnOnce(&mut Directory) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.fails() {
            None => return all(&mut self.directory),
            Some(Done::Nothing) => {}
            Some(Done::Half) => half(&mut self.directory)?,
            Some(Done::All) => all(&mut self.directory)?,
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

impl Files for Failing {
    fn read_journal(&mut self) -> io::Result<Vec<u8>> {
        self.directory.read_journal()
    }

    fn write_journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        let half = &bytes[..bytes.len() / 2];
        self.attempt(|files| files.write_journal(half), |files| files.write_journal(bytes))
    }

    fn end_journal(&mut self) -> io::Result<()> {
        self.attempt(|_| Ok(()), Directory::end_journal)
    }

    fn put(&mut self, digest: &SessionDigest, row: &[u8]) -> io::Result<()> {
        self.attempt(|_| Ok(()), |files| files.put(digest, row))
    }

    fn remove(&mut self, digest: &SessionDigest) -> io::Result<()> {
        self.attempt(|_| Ok(()), |files| files.remove(digest))
    }

    fn sync(&mut self, first: u8) -> io::Result<()> {
        self.attempt(|_| Ok(()), |files| files.sync(first))
    }

    fn read_rows(&self, take: &mut dyn FnMut(SessionDigest, Option<Vec<u8>>)) -> io::Result<()> {
        self.directory.read_rows(take)
    }
}

fn open_failing(directory: &TempDir) -> (FileStore, Fault) {
    let fault = Fault::default();
    let files = Failing { directory: Directory::open(directory.path()).unwrap(), fault: Arc::clone(&fault) };
    let settings = Settings { retry: Duration::from_millis(1), ..Settings::default() };
    let (store, _) = FileStore::open_with(directory.path(), files, rows(1), settings).unwrap();
    (store, fault)
}

/// Each operation of a rotation in turn is the last that the process does, or the one at which it is cut off.
#[tokio::test]
async fn a_rotation_that_is_cut_off_happened_or_did_not() {
    let (mut told, mut happened, mut did_not) = (0, 0, 0);
    for done in [Done::Nothing, Done::Half, Done::All] {
        for operations in 0..10 {
            let directory = TempDir::new().unwrap();
            let (store, fault) = open_failing(&directory);
            for nth in [1, 9] {
                assert!(is_created(&store.create(session(nth, "ann"), None, NOW).await));
            }
            *fault.lock() = Some((operations, u64::MAX, done));
            let answer = rotate(&store, 1, 2).await;
            drop(store);
            let (store, loaded) = open(&directory);
            assert_eq!(loaded.damaged, 0);
            let lives = async |nth| store.load(&digest(nth)).await.unwrap().is_some_and(|record| !record.is_ended());
            match (lives(1).await, lives(9).await, lives(2).await) {
                (true, true, false) => {
                    assert!(answer.is_err(), "{done:?} {operations}: it was told to be done");
                    did_not += 1;
                }
                (false, false, true) => happened += 1,
                found => panic!("{done:?} {operations}: half a rotation: {found:?}"),
            }
            told += usize::from(answer.is_ok());
            assert!(store.list(&Filter::default(), None, 9).await.unwrap().records.len() <= 2);
        }
    }
    assert!(told > 0 && happened > told && did_not > 0, "{told} {happened} {did_not}");
}

#[tokio::test]
async fn memory_and_disk_agree_whatever_fails() {
    for (done, times) in [(Done::Nothing, 3), (Done::Half, 1), (Done::All, 1)] {
        for operations in 0..9 {
            let directory = TempDir::new().unwrap();
            let (store, fault) = open_failing(&directory);
            for nth in [1, 9] {
                assert!(is_created(&store.create(session(nth, "ann"), None, NOW).await));
            }
            *fault.lock() = Some((operations, times, done));
            let rotated = rotate(&store, 1, 2).await;
            let ended = store.revoke(&digest(2), ending()).await;
            *fault.lock() = None;
            while !is_created(&store.create(session(50, "ann"), None, NOW).await) {
                tokio::task::yield_now().await;
            }
            if matches!(rotated, Ok(Rotation::Created(_))) {
                assert!(store.load(&digest(1)).await.unwrap().unwrap().is_ended());
            }
            if matches!(ended, Ok(Some(_))) {
                assert!(store.load(&digest(2)).await.unwrap().unwrap().is_ended());
            }
            let in_memory = everything(&store).await;
            drop(store);
            assert_eq!(in_memory, everything(&open(&directory).0).await, "{done:?} after {operations}, {times}");
        }
    }
}

#[tokio::test]
async fn a_disk_that_fails_refuses_changes_and_goes_on_loading() {
    let directory = TempDir::new().unwrap();
    let (store, fault) = open_failing(&directory);
    assert!(is_created(&store.create(session(1, "ann"), None, NOW).await));
    *fault.lock() = Some((0, u64::MAX, Done::Nothing));
    assert!(matches!(store.create(session(2, "ann"), None, NOW).await, Err(StoreError::Io(_))));
    assert!(matches!(store.commit(session(1, "ann"), Durability::Durable).await, Err(StoreError::Io(_))));
    assert!(store.load(&digest(1)).await.unwrap().is_some());
    assert!(store.load(&digest(2)).await.unwrap().is_none());
    *fault.lock() = None;
    while !matches!(store.commit(session(1, "ann"), Durability::Durable).await, Ok(Commit::Done(_))) {
        tokio::task::yield_now().await;
    }
}
