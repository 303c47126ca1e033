//! Devices from which a subject has logged in: what tells the user from somebody who only knows his name.
//!
//! A device is known by the address and the browser it logged in with, and less well by its network alone, for thirty days
//! and within this process. Only a successful login adds one, so nobody can make the table grow or push others out of it by
//! guessing.

use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use parking_lot::Mutex;

use super::{ClientKey, Device, DeviceKey, PrefixKey};
use crate::clock::Timestamp;

/// How long a device stays known after a login.
pub const KNOWN_DEVICE_DAYS: u64 = 30;
/// Entries that are remembered at most, two for each device; of those that share a place the one that logged in last stays.
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

/// What a device is known by, apart from the subject: where it is, and its browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Looks {
    /// Its address.
    pub client: ClientKey,
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
    /// The device, if the subject has logged in from it or from one like it.
    pub fn find(&self, subject: &str, looks: &Looks, now: Timestamp) -> Device {
        let [exactly, alike] = self.hashes(subject, looks);
        match (self.holds(exactly, now), self.holds(alike, now)) {
            (true, _) => Device::Known(DeviceKey(exactly)),
            (false, true) => Device::Alike(DeviceKey(alike)),
            (false, false) => Device::Unknown,
        }
    }

    /// The subject has logged in from the device.
    pub fn remember(&self, subject: &str, looks: &Looks, now: Timestamp) {
        for hash in self.hashes(subject, looks) {
            self.put(hash, now);
        }
    }

    fn holds(&self, hash: u64, now: Timestamp) -> bool {
        self.set(hash).is_some_and(|set| set.lock().iter().any(|slot| slot.hash == hash && slot.until > now))
    }

    fn put(&self, hash: u64, now: Timestamp) {
        let until = now.after(Duration::from_secs(KNOWN_DEVICE_DAYS * 24 * 3600));
        let Some(set) = self.set(hash) else { return };
        let mut set = set.lock();
        let place = set.iter().position(|slot| slot.hash == hash);
        let oldest = || set.iter().enumerate().min_by_key(|(_, slot)| slot.until).map(|(at, _)| at);
        if let Some(slot) = place.or_else(oldest).and_then(|at| set.get_mut(at)) {
            *slot = Slot { hash, until };
        }
    }

    /// By address, and by network. The subject as it is spelled: who registers another spelling of a name must not be known
    /// by it.
    fn hashes(&self, subject: &str, looks: &Looks) -> [u64; 2] {
        let Looks { client, prefix, agent } = looks;
        [self.hasher.hash_one((subject, client, agent)), self.hasher.hash_one((subject, prefix, agent))]
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
        let ip = ip.parse::<IpAddr>().unwrap();
        Looks { client: ClientKey::new(ip), prefix: PrefixKey::new(ip), agent }
    }

    #[test]
    fn a_device_is_known_for_its_subject_its_network_and_its_browser() {
        let devices = KnownDevices::default();
        let (home, now) = (looks("203.0.113.7", 1), Timestamp::from_secs(1000));
        devices.remember("alice", &home, now);
        let find = |subject, ip, agent| devices.find(subject, &looks(ip, agent), now);
        assert!(matches!(find("alice", "203.0.113.7", 1), Device::Known(_)));
        assert!(matches!(find("alice", "203.0.113.99", 1), Device::Alike(_)));
        for (subject, ip, agent) in [
            ("bob", "203.0.113.7", 1),
            ("ALICE", "203.0.113.7", 1),
            ("alice", "198.51.100.7", 1),
            ("alice", "203.0.113.7", 2),
        ] {
            assert_eq!(find(subject, ip, agent), Device::Unknown, "{subject} {ip} {agent}");
        }
        let later = now.after(Duration::from_secs(KNOWN_DEVICE_DAYS * 24 * 3600));
        assert_eq!(devices.find("alice", &home, later), Device::Unknown);
    }

    #[test]
    fn it_does_not_grow() {
        let devices = KnownDevices::default();
        for number in 0..(KNOWN_DEVICES_MAX as u64 + 1000) {
            devices.remember("alice", &looks("203.0.113.7", number), Timestamp::from_secs(number));
        }
        let last = looks("203.0.113.7", KNOWN_DEVICES_MAX as u64 + 999);
        let found = devices.find("alice", &last, Timestamp::from_secs(KNOWN_DEVICES_MAX as u64));
        assert!(matches!(found, Device::Known(_)));
        let kept: usize = devices.sets.iter().map(|set| set.lock().iter().filter(|slot| slot.hash != 0).count()).sum();
        assert!(kept <= KNOWN_DEVICES_MAX);
    }
}
