//! What is known of devices, kept over restarts: read before anybody is served, written now and then and at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis::config::{DeviceFile, Settings};
use portcullis::engine::Guard;
use portcullis::entropy::OsEntropy;
use portcullis::store::any::AnyStore;

/// The file, and how much of what the guard remembers is in it.
#[derive(Debug)]
pub(super) struct Devices {
    file: DeviceFile,
    kept: AtomicU64,
}

impl Devices {
    /// Has the guard know what is in the file of these settings, if there is to be one. What can not be used is told and left
    /// as it is, until there is something to be written in its place: devices are learned anew then.
    pub(super) fn recall(settings: &Settings, guard: &mut Guard<AnyStore>) -> Option<Self> {
        let file = DeviceFile::of(settings)?;
        let path = file.path().display();
        match file.read() {
            Ok(None) => {}
            Ok(Some(mut sealed)) => {
                if guard.recall_devices(&mut sealed).is_err() {
                    tracing::warn!(%path, "known devices can not be opened with the keys there are: they are learned anew");
                }
            }
            Err(error) => tracing::warn!(%path, %error, "known devices can not be read: they are learned anew"),
        }
        Some(Self { file, kept: AtomicU64::new(0) })
    }

    /// Writes down what is known, if there is more of it than there was.
    pub(super) async fn keep(self: &Arc<Self>, guard: &Guard<AnyStore>) {
        let known = guard.devices_remembered();
        if self.kept.load(Ordering::Relaxed) == known {
            return;
        }
        let sealed = match guard.seal_devices() {
            Ok(sealed) => sealed,
            Err(error) => return tracing::warn!(%error, "known devices are not kept"),
        };
        let this = self.clone();
        // It waits for the disk.
        let written = tokio::task::spawn_blocking(move || this.file.write(&sealed, &OsEntropy)).await;
        match written {
            Ok(Ok(())) => self.kept.store(known, Ordering::Relaxed),
            Ok(Err(error)) => {
                let path = self.file.path().display();
                tracing::warn!(%path, %error, "known devices can not be written: after a restart they are learned anew");
            }
            Err(error) => tracing::warn!(%error, "known devices were not written"),
        }
    }
}
