//! What is known of devices, over a restart: sealed under the guard's keys, for whoever starts it to keep.

use super::Guard;
use crate::entropy::EntropyError;
use crate::limit::{KNOWN_DEVICES_BYTES_MAX, KnownDevices};
use crate::secret::{KeyId, OpenError, SEAL_OVERHEAD, open, seal};
use crate::store::Store;

/// What it is, bound to the seal.
const CONTEXT: &[u8] = b"portcullis/devices/1";

/// Octets of [`Guard::seal_devices`] at most.
pub const SEALED_DEVICES_BYTES_MAX: usize = 1 + SEAL_OVERHEAD + 2 * KNOWN_DEVICES_BYTES_MAX;

/// How often a device was remembered since a guard was made, and its current key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicesState {
    logins: u64,
    key: Option<KeyId>,
}

impl<S: Store> Guard<S> {
    /// What is known of devices, as a state: while it is the same there is nothing to be sealed again.
    pub fn devices_state(&self) -> DevicesState {
        let logins = self.devices.logins().saturating_add(self.memory.logins());
        DevicesState { logins, key: self.keys.load().record_key().map(|(id, _)| id) }
    }

    /// Everything known of devices, for the next guard: keyed hashes of subjects with addresses and browsers, encrypted and
    /// authenticated (AES-256-GCM) under the current key. At most [`SEALED_DEVICES_BYTES_MAX`] octets.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn seal_devices(&self) -> Result<Vec<u8>, EntropyError> {
        let now = self.clock.now();
        let (mut plain, mut sealed) = (Vec::new(), Vec::new());
        self.devices.encode(now, &mut plain);
        self.memory.encode(now, &mut plain);
        let keys = self.keys.load();
        // A ring is never empty.
        if let Some((id, key)) = keys.record_key() {
            sealed.push(id.0);
            seal(key, &self.entropy, CONTEXT, &plain, &mut sealed)?;
        }
        Ok(sealed)
    }

    /// Knows the devices that a guard before this one did, instead of those it knows. To be called before anybody is served.
    ///
    /// # Errors
    /// When it was changed, cut, or sealed under a key that the ring no longer has; nothing is changed then.
    pub fn recall_devices(&mut self, sealed: &mut [u8]) -> Result<(), OpenError> {
        let now = self.clock.now();
        let [id, sealed @ ..] = sealed else { return Err(OpenError) };
        let keys = self.keys.load();
        let key = keys.record_key_by(KeyId(*id)).ok_or(OpenError)?;
        let mut plain = &*open(key, CONTEXT, sealed)?;
        let mut next = || KnownDevices::decode(&mut plain, now).ok_or(OpenError);
        (self.devices, self.memory) = (next()?, next()?);
        Ok(())
    }
}
