//! Logins as all guards of one store count them: what they ask of its [`Counters`](crate::store::counters::Counters), and what
//! the answers mean.
//!
//! Names of clients, subjects and devices are hashes under a key of the guards' ring: who reads the store learns none of them.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::devices::KNOWN_FOR;
use super::keyed::whole_seconds;
use super::login::{Source, forgiven};
use super::{Attempt, Device, DeviceKey, LoginThrottle, Looks, Rate, Refusal, Side};
use crate::clock::Timestamp;
use crate::secret::Seed;
use crate::session::subject::folded;
use crate::store::counters::Key;
use crate::store::debts::{Answer, Change, Step};

/// The throttle of a login route, for all guards that have the same seed.
#[derive(Clone, Copy, Debug)]
pub struct LoginsInCommon<'a> {
    throttle: &'a LoginThrottle,
    login: u32,
    seed: Seed,
}

/// Whose number it is. The letter keeps one kind from another.
#[derive(Clone, Copy)]
enum Whom<'a> {
    Source(Source),
    Alike(DeviceKey),
    Subject(&'a str),
}

impl<'a> LoginsInCommon<'a> {
    /// The throttle of the login route of that index.
    pub(super) fn new(throttle: &'a LoginThrottle, login: usize, seed: Seed) -> Self {
        Self { throttle, login: u32::try_from(login).unwrap_or(u32::MAX), seed }
    }

    /// What is asked of a client that looks like a known device: see [`LoginThrottle::as_known`].
    pub fn as_known(&self, device: Device) -> Option<Change> {
        let (Device::Alike(key), [Some(rate), ..]) = (device, self.throttle.rates()) else { return None };
        Some(self.change(Whom::Alike(key), Step::Take(rate.pace())))
    }

    /// What is asked of one side before an attempt is passed on.
    pub fn attempt(&self, side: Side, attempt: &Attempt<'_>) -> Vec<Change> {
        let whom = match side {
            Side::Client => Some(Whom::Source(self.throttle.source(attempt))),
            Side::Subject => self.throttle.counted_for(attempt).map(Whom::Subject),
        };
        let wait = self.throttle.growth().map(Step::Wait);
        let take = self.rate(side).map(|rate| Step::Take(rate.pace()));
        let steps = wait.into_iter().chain(take);
        whom.map_or_else(Vec::new, |whom| steps.map(|step| self.change(whom, step)).collect())
    }

    fn rate(&self, side: Side) -> Option<Rate> {
        let [_, client, subject] = self.throttle.rates();
        match side {
            Side::Client => client,
            Side::Subject => subject,
        }
    }

    /// What the answers to an attempt mean.
    ///
    /// # Errors
    /// When it comes too early.
    pub fn verdict(&self, side: Side, asked: &[Change], answers: &[Answer]) -> Result<(), Refusal> {
        for (change, answer) in asked.iter().zip(answers) {
            if let Answer::Refused { wait } = answer {
                let rate = self.rate(side).filter(|_| matches!(change.step, Step::Take(_)));
                return Err(Refusal { limit: side.limit(), rate, retry_after: whole_seconds(*wait) });
            }
        }
        Ok(())
    }

    /// What is told of an attempt that was let through and failed.
    pub fn failed(&self, attempt: &Attempt<'_>) -> Vec<Change> {
        let Some(growth) = self.throttle.growth() else { return Vec::new() };
        let source = Whom::Source(self.throttle.source(attempt));
        let subject = self.throttle.counted_for(attempt).map(Whom::Subject);
        std::iter::once(source).chain(subject).map(|whom| self.change(whom, Step::Grow(growth))).collect()
    }

    /// What is told of an attempt that succeeded.
    pub fn succeeded(&self, attempt: &Attempt<'_>) -> Vec<Change> {
        if self.throttle.growth().is_none() {
            return Vec::new();
        }
        let source = Some(self.throttle.source(attempt)).filter(|source| matches!(source, Source::Device(..)));
        let subject = forgiven(attempt).map(Whom::Subject);
        let whom = source.map(Whom::Source).into_iter().chain(subject);
        whom.map(|whom| self.change(whom, Step::Forgive)).collect()
    }

    fn change(&self, whom: Whom<'_>, step: Step) -> Change {
        let mut hash = SipHasher13::new_with_key(self.seed.expose());
        hash.write(&self.login.to_le_bytes());
        match whom {
            Whom::Source(Source::Client(client)) => {
                hash.write(b"c");
                hash.write(&client.0.to_le_bytes());
            }
            Whom::Source(Source::Device(device, client)) => {
                hash.write(b"d");
                hash.write(&device.0.to_le_bytes());
                hash.write(&client.0.to_le_bytes());
            }
            Whom::Alike(device) => {
                hash.write(b"a");
                hash.write(&device.0.to_le_bytes());
            }
            Whom::Subject(subject) => {
                hash.write(b"s");
                hash.write(folded(subject).as_bytes());
            }
        }
        Change { key: Key::from_u64(hash.finish()), step }
    }
}

/// A device of a subject, as all guards know it whose rings have a key in common.
#[derive(Clone, Debug)]
pub struct DeviceInCommon {
    /// By address and by network, under each key of the ring, the current one first.
    hashes: Vec<[u64; 2]>,
}

impl DeviceInCommon {
    /// The device of that subject with these looks.
    pub fn new(seeds: impl Iterator<Item = Seed>, subject: &str, looks: &Looks) -> Self {
        Self { hashes: seeds.map(|seed| looks.hashes(seed.expose(), subject)).collect() }
    }

    /// What is asked about it.
    pub fn recall(&self) -> Vec<Change> {
        let change = |hash: &u64| Change { key: Key::from_u64(*hash), step: Step::Recall };
        self.hashes.iter().flatten().map(change).collect()
    }

    /// What the answers mean.
    pub fn known(&self, answers: &[Answer], now: Timestamp) -> Device {
        let is_kept = |answer: &Answer| matches!(answer, Answer::Done { until } if *until > now);
        let (pairs, _) = answers.as_chunks::<2>();
        let any = |at: usize| pairs.iter().any(|pair| pair.get(at).is_some_and(is_kept));
        if any(0) {
            self.as_known(Device::Known(DeviceKey(0)))
        } else if any(1) {
            self.as_known(Device::Alike(DeviceKey(0)))
        } else {
            Device::Unknown
        }
    }

    /// The same device by the name that all guards have for it.
    pub fn as_known(&self, device: Device) -> Device {
        let [exactly, alike] = self.hashes.first().copied().unwrap_or_default();
        match device {
            Device::Known(_) => Device::Known(DeviceKey(exactly)),
            Device::Alike(_) => Device::Alike(DeviceKey(alike)),
            Device::Unknown => Device::Unknown,
        }
    }

    /// What is told when the subject has logged in from it.
    pub fn remember(&self, now: Timestamp) -> Vec<Change> {
        let step = Step::Remember(now.after(KNOWN_FOR));
        let change = |hash: u64| Change { key: Key::from_u64(hash), step };
        self.hashes.first().into_iter().flatten().copied().map(change).collect()
    }
}
