//! What is known of devices, kept over restarts: read before anybody is served, written now and then and at the end.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis::config::{DeviceFile, Settings};
use portcullis::engine::{DevicesState, Guard};
use portcullis::entropy::OsEntropy;
use portcullis::rules::Memory;
use portcullis::store::any::AnyStore;

use super::{DEVICES_EVERY, FLUSH_MAX};

/// The file, and which state of the guard is in it.
#[derive(Debug)]
pub(super) struct Devices {
    file: DeviceFile,
    /// Held while the file is written, so that no older content takes the place of a newer one.
    kept: Mutex<Option<DevicesState>>,
}

impl Devices {
    /// Has the guard know what is in the file of these settings, if there is to be one. What can not be used is told and put aside,
    /// and devices are learned anew.
    pub(super) fn recall(settings: &Settings, guard: &mut Guard<AnyStore>) -> Option<Self> {
        let file = DeviceFile::of(settings)?;
        let path = file.path().display();
        let mut kept = None;
        if settings.session.memory == Memory::Nothing {
            return Some(Self { file, kept: Mutex::new(kept) });
        }
        match file.read() {
            // Nothing is known, and nothing has to be written down.
            Ok(None) => kept = Some(guard.devices_state()),
            Ok(Some(mut sealed)) => {
                if guard.recall_devices(&mut sealed).is_err() {
                    let aside = file.put_aside().map_or(path.to_string(), |()| file.aside().display().to_string());
                    tracing::warn!(
                        path = aside,
                        "known devices can not be opened with the keys there are: they are learned anew. If the keys are the \
                         wrong ones, stop the guard and put this file back as `devices`, with its keys"
                    );
                }
            }
            Err(error) => tracing::warn!(%path, %error, "known devices can not be read: they are learned anew"),
        }
        Some(Self { file, kept: Mutex::new(kept) })
    }

    /// Writes down what is known, now and then, until it is dropped. What was read, at once: under the key of today.
    pub(super) async fn follow(self: Arc<Self>, guard: Arc<Guard<AnyStore>>) {
        let mut due = tokio::time::interval(DEVICES_EVERY);
        loop {
            due.tick().await;
            self.clone().keep(guard.clone()).await;
        }
    }

    /// Writes down what is known, for the last time. A disk that hangs keeps the thread, and not the end.
    pub(super) async fn end(self: Arc<Self>, guard: Arc<Guard<AnyStore>>) {
        if tokio::time::timeout(FLUSH_MAX, self.keep(guard)).await.is_err() {
            tracing::warn!("the devices that became known last may not have been written down");
        }
    }

    async fn keep(self: Arc<Self>, guard: Arc<Guard<AnyStore>>) {
        let path = self.file.path().to_owned();
        let written = tokio::task::spawn_blocking(move || self.write(&guard)).await;
        if let Ok(Err(error)) = written {
            let path = path.display();
            tracing::warn!(%path, %error, "known devices can not be written or removed: after a restart they are learned anew");
        }
    }

    /// Where nothing is to be remembered, the file is removed.
    fn write(&self, guard: &Guard<AnyStore>) -> io::Result<()> {
        let mut kept = self.kept.lock();
        if guard.policy().session.memory == Memory::Nothing {
            *kept = None;
            return self.file.remove();
        }
        let state = guard.devices_state();
        if *kept != Some(state) {
            self.file.write(&guard.seal_devices().map_err(io::Error::other)?, &OsEntropy)?;
            *kept = Some(state);
        }
        Ok(())
    }
}
