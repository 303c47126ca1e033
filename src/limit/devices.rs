//! Devices from which a subject has logged in: what tells the user from somebody who only knows his name.
//!
//! A device is known by the address and the browser it logged in with, and less well by its network alone, for thirty days.
//! Only a successful login adds one, so nobody can make the table grow or push others out of it by guessing. What is kept is a
//! hash under a key of the table; both can be written down, and read by the next process.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use super::{ClientKey, Device, DeviceKey, PrefixKey};
use crate::clock::Timestamp;

/// How long a device stays known after a login.
pub const KNOWN_DEVICE_DAYS: u64 = 30;
/// Entries that are remembered at most, two for each device and two for the country of a login; of those that share a place
/// the one that logged in last stays.
pub const KNOWN_DEVICES_MAX: usize = SETS * WAYS;

/// How long a device stays known after a login.
pub(super) const KNOWN_FOR: Duration = Duration::from_secs(KNOWN_DEVICE_DAYS * 24 * 3600);

const SETS: usize = 8192;
const WAYS: usize = 8;

#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u64,
    until: Timestamp,
}

/// Which subjects have logged in from which devices.
pub struct KnownDevices {
    key: [u8; 16],
    sets: Box<[Mutex<[Slot; WAYS]>]>,
    logins: AtomicU64,
}

/// Octets of an entry that is written down: the hash, and until when in seconds.
const ENTRY_BYTES: usize = 16;

/// Octets of a table that is written down, at most.
pub const KNOWN_DEVICES_BYTES_MAX: usize = 16 + 4 + KNOWN_DEVICES_MAX * ENTRY_BYTES;

/// What a device is known by, apart from the subject: where it is, and its browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    /// Its address.
    pub client: ClientKey,
    /// Its network.
    pub prefix: PrefixKey,
    /// A hash of its user agent.
    pub agent: u64,
}

impl Looks {
    /// The hashes of a device of a subject under a key: by its address, and by its network. The subject as it is spelled: who
    /// registers another spelling of a name must not be known by it.
    pub(super) fn hashes(&self, key: &[u8; 16], subject: &str) -> [u64; 2] {
        let Self { client, prefix, agent } = *self;
        // Of octets that are written here, and not of what the compiler makes of a type: they outlive the program.
        let hash = |by: u8, place: u64| {
            let mut hasher = SipHasher13::new_with_key(key);
            hasher.write(&place.to_le_bytes());
            hasher.write(&agent.to_le_bytes());
            hasher.write(&[by]);
            hasher.write(subject.as_bytes());
            hasher.finish()
        };
        [hash(0, client.0), hash(1, prefix.0)]
    }
}

impl KnownDevices {
    /// Nothing is known yet. The key is secret: who knows it could look for logins that push each other out.
    pub fn new(key: [u8; 16]) -> Self {
        let sets = (0..SETS).map(|_| Mutex::new([Slot::default(); WAYS])).collect();
        Self { key, sets, logins: AtomicU64::new(0) }
    }

    /// Appends what is known at that time, with the key: secret. At most [`KNOWN_DEVICES_BYTES_MAX`] octets.
    pub fn encode(&self, now: Timestamp, out: &mut Vec<u8>) {
        out.extend(self.key);
        let at = out.len();
        out.extend([0; 4]);
        let mut count: u32 = 0;
        for set in &self.sets {
            for Slot { hash, until } in set.lock().iter().filter(|slot| slot.until > now) {
                out.extend(hash.to_le_bytes());
                out.extend(until.as_secs().to_le_bytes());
                count = count.saturating_add(1);
            }
        }
        out.iter_mut().skip(at).zip(count.to_le_bytes()).for_each(|(octet, value)| *octet = value);
    }

    /// Reads what [`encode`](Self::encode) wrote from the beginning of `bytes`; none if it is something else. What is over at
    /// that time is left out.
    pub fn decode(bytes: &mut &[u8], now: Timestamp) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<16>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok().filter(|count| *count <= KNOWN_DEVICES_MAX)?;
        let (entries, rest) = rest.split_at_checked(count.checked_mul(ENTRY_BYTES)?)?;
        let found = Self::new(*key);
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let (hash, until) = entry.split_first_chunk::<8>()?;
            let until = Timestamp::from_secs(u64::from_le_bytes(until.try_into().ok()?));
            if until > now {
                // A clock that went back meanwhile makes nobody known for longer.
                let until = until.min(now.after(KNOWN_FOR));
                found.put(Slot { hash: u64::from_le_bytes(*hash), until });
            }
        }
        *bytes = rest;
        Some(found)
    }

    /// Devices that were remembered by this process.
    pub fn logins(&self) -> u64 {
        self.logins.load(Ordering::Relaxed)
    }

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
            self.put(Slot { hash, until: now.after(KNOWN_FOR) });
        }
        self.logins.fetch_add(1, Ordering::Relaxed);
    }

    fn holds(&self, hash: u64, now: Timestamp) -> bool {
        self.set(hash).is_some_and(|set| set.lock().iter().any(|slot| slot.hash == hash && slot.until > now))
    }

    fn put(&self, known: Slot) {
        let hash = known.hash;
        let Some(set) = self.set(hash) else { return };
        let mut set = set.lock();
        let place = set.iter().position(|slot| slot.hash == hash);
        let oldest = || set.iter().enumerate().min_by_key(|(_, slot)| slot.until).map(|(at, _)| at);
        if let Some(slot) = place.or_else(oldest).and_then(|at| set.get_mut(at)) {
            *slot = known;
        }
    }

    fn hashes(&self, subject: &str, looks: &Looks) -> [u64; 2] {
        looks.hashes(&self.key, subject)
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
        let devices = KnownDevices::new([1; 16]);
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
        let later = now.after(KNOWN_FOR);
        assert_eq!(devices.find("alice", &home, later), Device::Unknown);
    }

    #[test]
    fn what_is_known_can_be_written_down() {
        let (devices, now) = (KnownDevices::new([5; 16]), Timestamp::from_secs(1000));
        let (home, work) = (looks("203.0.113.7", 1), looks("198.51.100.7", 2));
        devices.remember("alice", &home, now);
        devices.remember("bob", &work, now.after(Duration::from_secs(60)));
        assert_eq!(devices.logins(), 2);
        let mut bytes = Vec::new();
        devices.encode(now, &mut bytes);
        assert_eq!(bytes.len(), 16 + 4 + 4 * ENTRY_BYTES);
        bytes.extend(b"more");
        let later = now.after(KNOWN_FOR);
        let mut rest = &bytes[..];
        let read = KnownDevices::decode(&mut rest, later).unwrap();
        assert_eq!(rest, b"more");
        assert_eq!((read.find("alice", &home, later), read.logins()), (Device::Unknown, 0), "that is over");
        assert_eq!(read.find("bob", &work, later), devices.find("bob", &work, later));
        assert!(matches!(read.find("bob", &looks("198.51.100.8", 2), later), Device::Alike(_)));
        for length in 0..bytes.len() - 4 {
            assert!(KnownDevices::decode(&mut &bytes[..length], now).is_none(), "cut after {length}");
        }
        // A clock that went back makes nobody a stranger, and nobody known for longer.
        let before = Timestamp::from_secs(100);
        let early = KnownDevices::decode(&mut &bytes[..], before).unwrap();
        assert!(matches!(early.find("alice", &home, before), Device::Known(_)));
        assert_eq!(early.find("alice", &home, before.after(KNOWN_FOR)), Device::Unknown);
        // What was written by an older program is understood.
        assert_eq!(devices.hashes("alice", &home), [17_854_855_076_866_391_231, 7_666_387_032_323_447_519]);
        bytes[16] = 0xff;
        assert!(KnownDevices::decode(&mut &bytes[..], now).is_none(), "more than there are");
    }

    #[test]
    fn it_does_not_grow() {
        let devices = KnownDevices::new([1; 16]);
        for number in 0..(KNOWN_DEVICES_MAX as u64 + 1000) {
            devices.remember("alice", &looks("203.0.113.7", number), Timestamp::from_secs(number));
        }
        let last = looks("203.0.113.7", KNOWN_DEVICES_MAX as u64 + 999);
        let found = devices.find("alice", &last, Timestamp::from_secs(KNOWN_DEVICES_MAX as u64));
        assert!(matches!(found, Device::Known(_)));
        let kept: usize = devices.sets.iter().map(|set| set.lock().iter().filter(|slot| slot.hash != 0).count()).sum();
        assert!(kept <= KNOWN_DEVICES_MAX);
        let mut bytes = Vec::new();
        devices.encode(Timestamp::from_secs(0), &mut bytes);
        assert!(bytes.len() <= KNOWN_DEVICES_BYTES_MAX);
    }
}
