//! The stores of this crate pass the public suite the way an author of another store would run it.

use std::sync::Arc;

use portcullis::clock::ManualClock;
use portcullis::store::any::AnyStore;
use portcullis::store::embedded::{EmbeddedStore, Settings};
use portcullis::store::memory::MemoryStore;
use portcullis::store::sealed::SealedStore;
use portcullis::store::{SESSIONS_MAX_DEFAULT, conformance};
use tempfile::TempDir;

use crate::support::stored::{NOW, PATIENCE, ring, rows};

/// As the author of another store would write it.
mod the_memory_store {
    use super::*;

    portcullis::store_conformance!(async || AnyStore::from(MemoryStore::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_embedded_store_conforms() {
    let directory = TempDir::new().unwrap();
    let nth = std::cell::Cell::new(0);
    conformance::run(async || {
        nth.set(nth.get() + 1);
        let (store, _) = EmbeddedStore::open(
            &directory.path().join(nth.get().to_string()),
            Arc::new(rows(&[1])),
            Settings::default(),
        )
        .unwrap();
        AnyStore::from(store)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_of_carried_sessions_conforms() {
    let directory = TempDir::new().unwrap();
    let nth = std::cell::Cell::new(0);
    conformance::run(async || {
        nth.set(nth.get() + 1);
        let path = directory.path().join(nth.get().to_string());
        let (ended, _) = EmbeddedStore::open(&path, Arc::new(rows(&[1])), Settings::default()).unwrap();
        AnyStore::from(
            SealedStore::new(ended, SESSIONS_MAX_DEFAULT, ring(&[1]), Arc::new(ManualClock::new(NOW)))
                .with_turn_max(PATIENCE),
        )
    })
    .await
    .unwrap();
}

#[cfg(feature = "file")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_file_store_conforms() {
    use portcullis::store::file::{FileStore, Settings};

    let directory = TempDir::new().unwrap();
    let nth = std::cell::Cell::new(0);
    conformance::run(async || {
        nth.set(nth.get() + 1);
        let directory = directory.path().join(nth.get().to_string());
        FileStore::open(&directory, Arc::new(rows(&[1])), Settings::default()).unwrap().0
    })
    .await
    .unwrap();
}
