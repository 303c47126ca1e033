//! Devices from which a subject has logged in: what tells the user from somebody who only knows his name.
//!
//! A device is known by the network and the browser it logged in with, for thirty days and within this process. Only a
//! successful login adds one, so nobody can make the table grow or push others out of it by guessing.

use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use parking_lot::Mutex;

use super::{DeviceKey, PrefixKey};
use crate::clock::Timestamp;
use crate::session::subject::folded;

/// How long a device stays known after a login.
pub const KNOWN_DEVICE_DAYS: u64 = 30;
/// Devices that are remembered at most; of those that share a place the one that logged in last stays.
pub const KNOWN_DEVICES_MAX: usize = SETS * WAYS;

const SETS: usize = 8192;
const WAYS: usize = 8;

#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u64,
    until: Timestamp,
}

/// Which subjects have logged in from which devices.
pub struct KnownDevices {
    hasher: RandomState,
    sets: Box<[Mutex<[Slot; WAYS]>]>,
}

/// What a device is known by, apart from the subject: its network and its browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Looks {
    /// Its network.
    pub prefix: PrefixKey,
    /// A hash of its user agent.
    pub agent: u64,
}

impl Default for KnownDevices {
    fn default() -> Self {
        Self { hasher: RandomState::new(), sets: (0..SETS).map(|_| Mutex::new([Slot::default(); WAYS])).collect() }
    }
}

impl KnownDevices {
    /// The device, if the subject has logged in from it.
    pub fn find(&self, subject: &str, looks: &Looks, now: Timestamp) -> Option<DeviceKey> {
        let hash = self.hash(subject, looks);
        let set = self.set(hash)?.lock();
        set.iter().any(|slot| slot.hash == hash && slot.until > now).then_some(DeviceKey(hash))
    }

    /// The subject has logged in from the device.
    pub fn remember(&self, subject: &str, looks: &Looks, now: Timestamp) {
        let hash = self.hash(subject, looks);
        let until = now.after(Duration::from_secs(KNOWN_DEVICE_DAYS * 24 * 3600));
        let Some(set) = self.set(hash) else { return };
        let mut set = set.lock();
        let place = set.iter().position(|slot| slot.hash == hash);
        let oldest = || set.iter().enumerate().min_by_key(|(_, slot)| slot.until).map(|(at, _)| at);
        if let Some(slot) = place.or_else(oldest).and_then(|at| set.get_mut(at)) {
            *slot = Slot { hash, until };
        }
    }

    fn hash(&self, subject: &str, looks: &Looks) -> u64 {
        self.hasher.hash_one((&*folded(subject), looks))
    }

    fn set(&self, hash: u64) -> Option<&Mutex<[Slot; WAYS]>> {
        let at = usize::try_from(hash % u64::try_from(SETS).unwrap_or(1)).ok()?;
        self.sets.get(at)
    }
}

impl std::fmt::Debug for KnownDevices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KnownDevices")
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn looks(ip: &str, agent: u64) -> Looks {
        Looks { prefix: PrefixKey::new(ip.parse::<IpAddr>().unwrap()), agent }
    }

    #[test]
    fn a_device_is_known_for_its_subject_its_network_and_its_browser() {
        let devices = KnownDevices::default();
        let (home, now) = (looks("203.0.113.7", 1), Timestamp::from_secs(1000));
        devices.remember("alice", &home, now);
        assert!(devices.find("alice", &home, now).is_some());
        assert!(devices.find("alice", &looks("203.0.113.99", 1), now).is_some());
        assert!(devices.find("bob", &home, now).is_none());
        assert!(devices.find("alice", &looks("198.51.100.7", 1), now).is_none());
        assert!(devices.find("alice", &looks("203.0.113.7", 2), now).is_none());
        let later = now.after(Duration::from_secs(KNOWN_DEVICE_DAYS * 24 * 3600));
        assert!(devices.find("alice", &home, later).is_none());
    }

    #[test]
    fn it_does_not_grow() {
        let devices = KnownDevices::default();
        for number in 0..(KNOWN_DEVICES_MAX as u64 + 1000) {
            devices.remember("alice", &looks("203.0.113.7", number), Timestamp::from_secs(number));
        }
        let last = looks("203.0.113.7", KNOWN_DEVICES_MAX as u64 + 999);
        assert!(devices.find("alice", &last, Timestamp::from_secs(KNOWN_DEVICES_MAX as u64)).is_some());
        let kept: usize = devices.sets.iter().map(|set| set.lock().iter().filter(|slot| slot.hash != 0).count()).sum();
        assert!(kept <= KNOWN_DEVICES_MAX);
    }
}
