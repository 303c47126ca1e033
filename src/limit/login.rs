//! Login attempts: counted per client and per subject, with a delay that grows while they fail.
//!
//! An attempt that comes too early is refused with the time to wait (429); no connection is held open to wait. Three
//! things an attacker would like are not to be had:
//!
//! - *Locking a user out.* A device from which the subject has logged in before is counted for itself: neither the
//!   subject's limits nor those of the address it shares with others apply to it.
//! - *Clearing the count by logging in to an account of his own.* A success forgives the subject it was for, never the
//!   client. The client's failures are forgotten by time alone.
//! - *Clearing the count by spraying names.* See [`Table`]: who is thrown out of it finds no less on return.
//!
//! The delay grows with failures as [`Growth`] says, up to `delay_max`; who stops for a while is forgiven step by step.

use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::keyed::Outcome;
use super::keyed::{KeyedLimiter, whole_seconds};
use super::rate::Rate;
use super::table::Table;
use super::{ClientKey, LimitName, Refusal, SubjectHasher, SubjectKey};
use crate::clock::Timestamp;
use crate::session::subject::folded;
use crate::store::debts::{Account, Growth};

/// What is asked of a login: `{ per_client = "10/1m burst 3", per_subject = "5/5m burst 3", delay_max = "30s" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginLimit {
    /// Attempts of one client, whatever the subject. `None`: not limited.
    pub per_client: Option<Rate>,
    /// Attempts on one subject, whatever the client. `None`: not limited.
    pub per_subject: Option<Rate>,
    /// The longest delay after failures; zero turns the delay off. At most [`DELAY_MAX`].
    pub delay_max: Duration,
    /// Whether a known device is spared what is counted per subject.
    pub known_device: KnownDevice,
}

impl Default for LoginLimit {
    fn default() -> Self {
        let rate = |text| Rate::parse(text).ok().flatten();
        Self {
            per_client: rate("10/1m burst 3"),
            per_subject: rate("5/5m burst 3"),
            delay_max: Duration::from_secs(30),
            known_device: KnownDevice::Exempt,
        }
    }
}

/// How a device is treated from which the subject has logged in before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KnownDevice {
    /// `"exempt from per_subject"`: nobody else's attempts can lock it out. It has a count of its own.
    #[default]
    Exempt,
    /// `"counted"`: like any other.
    Counted,
}

/// The longest delay that can be asked for.
pub const DELAY_MAX: Duration = Duration::from_secs(3600);

/// Names a known device: a keyed hash of what it was recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey(pub u64);

/// Whether the subject has logged in from this device before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Not that we know of.
    Unknown,
    /// This very subject has: its session is shown, or it has logged in from the same address with the same browser.
    Known(DeviceKey),
    /// It has logged in from a network with such a browser, and from another address of it.
    Alike(DeviceKey),
}

/// One attempt to log in.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Where it comes from.
    pub client: ClientKey,
    /// Whom it is for, as far as that is known.
    pub subject: Option<&'a str>,
    /// From which device.
    pub device: Device,
}

/// The two sides of an attempt, each counted for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Client,
    /// Whom it is for, unless it comes from a device that the subject is known by.
    Subject,
}

impl Side {
    /// The limit that it is counted by.
    pub const fn limit(self) -> LimitName {
        match self {
            Self::Client => LimitName::Login,
            Self::Subject => LimitName::LoginOnSubject,
        }
    }
}

/// Whose attempts are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Client(ClientKey),
    /// With its client: a neighbour who looks alike must not use up what is the user's.
    Device(DeviceKey, ClientKey),
}

/// Counts the attempts at one login route.
#[derive(Debug)]
pub struct LoginThrottle {
    known_device: KnownDevice,
    per_client: Option<KeyedLimiter<Source>>,
    /// Of all clients that look like a known device and have another address, together.
    per_device: Option<KeyedLimiter<DeviceKey>>,
    per_subject: Option<KeyedLimiter<SubjectKey>>,
    subjects: SubjectHasher,
    delays: Option<Delays>,
}

impl LoginThrottle {
    /// A throttle with room for about `keys_max` clients and as many subjects.
    pub fn new(limit: &LoginLimit, keys_max: NonZeroUsize) -> Self {
        Self {
            known_device: limit.known_device,
            per_client: limit.per_client.map(|rate| KeyedLimiter::new(rate, keys_max)),
            per_device: limit
                .per_client
                .filter(|_| limit.known_device == KnownDevice::Exempt)
                .map(|rate| KeyedLimiter::new(rate, keys_max)),
            per_subject: limit.per_subject.map(|rate| KeyedLimiter::new(rate, keys_max)),
            subjects: SubjectHasher::new(),
            delays: Delays::new(limit.delay_max, keys_max),
        }
    }

    /// Whether a client that looks like a known device is taken for it: as long as those that do make no more attempts
    /// together than one client may. What a neighbour can use up is that, and nothing of the device itself.
    pub fn as_known(&self, device: Device, now: Timestamp) -> Device {
        let Device::Alike(key) = device else { return device };
        let outcome = self.per_device.as_ref().map(|limiter| limiter.take(&key, now));
        if matches!(outcome, Some(Outcome::Allowed { .. })) { Device::Known(key) } else { Device::Unknown }
    }

    /// Counts an attempt before it is passed on to the app.
    ///
    /// # Errors
    /// When it comes too early: it is then to be answered, not passed on.
    pub fn attempt(&self, attempt: &Attempt<'_>, now: Timestamp) -> Result<(), Refusal> {
        self.attempt_of(Side::Client, attempt, now)?;
        self.attempt_of(Side::Subject, attempt, now)
    }

    /// One side of [`attempt`](Self::attempt).
    ///
    /// # Errors
    /// When it comes too early.
    pub fn attempt_of(&self, side: Side, attempt: &Attempt<'_>, now: Timestamp) -> Result<(), Refusal> {
        self.wait(side, attempt, now)?;
        self.take(side, attempt, now)
    }

    /// Whether failures still have to be waited for.
    fn wait(&self, side: Side, attempt: &Attempt<'_>, now: Timestamp) -> Result<(), Refusal> {
        let Some(delays) = &self.delays else { return Ok(()) };
        let wait = match side {
            Side::Client => delays.clients.wait(&self.source(attempt), now),
            Side::Subject => {
                self.subject(attempt).map_or(Duration::ZERO, |subject| delays.subjects.wait(&subject, now))
            }
        };
        if wait > Duration::ZERO {
            return Err(Refusal { limit: side.limit(), rate: None, retry_after: whole_seconds(wait) });
        }
        Ok(())
    }

    /// Counts an attempt of one side.
    ///
    /// # Errors
    /// When there were too many.
    pub fn take(&self, side: Side, attempt: &Attempt<'_>, now: Timestamp) -> Result<(), Refusal> {
        match (side, self.subject(attempt)) {
            (Side::Client, _) => {
                Refusal::unless_allowed(side.limit(), self.per_client.as_ref(), &self.source(attempt), now)
            }
            (Side::Subject, Some(subject)) => {
                Refusal::unless_allowed(side.limit(), self.per_subject.as_ref(), &subject, now)
            }
            (Side::Subject, None) => Ok(()),
        }
    }

    /// As [`take`](Self::take), and nothing is counted.
    ///
    /// # Errors
    /// When there were too many.
    pub fn look(&self, side: Side, attempt: &Attempt<'_>, now: Timestamp) -> Result<(), Refusal> {
        match (side, self.subject(attempt)) {
            (Side::Client, _) => {
                Refusal::unless_free(side.limit(), self.per_client.as_ref(), &self.source(attempt), now)
            }
            (Side::Subject, Some(subject)) => {
                Refusal::unless_free(side.limit(), self.per_subject.as_ref(), &subject, now)
            }
            (Side::Subject, None) => Ok(()),
        }
    }

    /// Learns that an attempt that was let through failed.
    pub fn failed(&self, attempt: &Attempt<'_>, now: Timestamp) {
        if let Some(delays) = &self.delays {
            delays.clients.grow(&self.source(attempt), now);
            if let Some(subject) = self.subject(attempt) {
                delays.subjects.grow(&subject, now);
            }
        }
    }

    /// Learns that an attempt succeeded: the failures of the subject are forgiven, and those of the device if it was
    /// known.
    pub fn succeeded(&self, attempt: &Attempt<'_>) {
        if let Some(delays) = &self.delays {
            let source = self.source(attempt);
            if matches!(source, Source::Device(..)) {
                delays.clients.forgive(&source);
            }
            if let Some(subject) = forgiven(attempt) {
                delays.subjects.forgive(&self.subjects.key(subject));
            }
        }
    }

    pub(super) fn source(&self, attempt: &Attempt<'_>) -> Source {
        match (self.known_device, attempt.device) {
            (KnownDevice::Exempt, Device::Known(device)) => Source::Device(device, attempt.client),
            _ => Source::Client(attempt.client),
        }
    }

    fn subject(&self, attempt: &Attempt<'_>) -> Option<SubjectKey> {
        self.counted_for(attempt).map(|subject| self.subjects.key(subject))
    }

    /// The subject, if the attempt counts for it.
    pub(super) fn counted_for<'a>(&self, attempt: &Attempt<'a>) -> Option<&'a str> {
        match (self.known_device, attempt.device) {
            (KnownDevice::Exempt, Device::Known(_)) => None,
            _ => attempt.subject,
        }
    }

    /// What is counted of clients that look like a known device, of clients, and of subjects.
    pub(super) fn rates(&self) -> [Option<Rate>; 3] {
        let device = self.per_device.as_ref().map(KeyedLimiter::rate);
        let client = self.per_client.as_ref().map(KeyedLimiter::rate);
        [device, client, self.per_subject.as_ref().map(KeyedLimiter::rate)]
    }

    /// How the delay after failures grows, if there is one.
    pub(super) fn growth(&self) -> Option<Growth> {
        self.delays.as_ref().map(|delays| delays.clients.growth)
    }
}

/// The subject whose failures a success of that attempt forgives. Many spellings share a delay: only who logs in by the plainest of
/// them can take it back, so that another user's `ALICE` takes nothing from the one of `alice`.
pub(super) fn forgiven<'a>(attempt: &Attempt<'a>) -> Option<&'a str> {
    attempt.subject.filter(|subject| *folded(subject) == **subject)
}

/// The delays of clients and of subjects.
#[derive(Debug)]
struct Delays {
    clients: Delay,
    subjects: Delay,
}

impl Delays {
    fn new(delay_max: Duration, keys_max: NonZeroUsize) -> Option<Self> {
        let growth = Growth::up_to(delay_max);
        (delay_max > Duration::ZERO)
            .then(|| Self { clients: Delay::new(growth, keys_max), subjects: Delay::new(growth, keys_max) })
    }
}

/// A growing delay for each key. The table orders by the time until which a key is remembered.
#[derive(Debug)]
struct Delay {
    table: Table,
    hasher: RandomState,
    growth: Growth,
}

impl Delay {
    fn new(growth: Growth, keys_max: NonZeroUsize) -> Self {
        Self { table: Table::new(keys_max), hasher: RandomState::new(), growth }
    }

    /// How long the key still has to wait.
    fn wait(&self, key: &impl Hash, now: Timestamp) -> Duration {
        self.growth.wait(self.table.read(self.hasher.hash_one(key)), now)
    }

    fn grow(&self, key: &impl Hash, now: Timestamp) {
        let grown = self.table.update(self.hasher.hash_one(key), Account::Delay.nothing(now), |kept| {
            Ok::<_, std::convert::Infallible>(((), self.growth.grown(kept, now)))
        });
        match grown {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    fn forgive(&self, key: &impl Hash) {
        self.table.clear(self.hasher.hash_one(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_795_257_972);
    const HOME: ClientKey = ClientKey(1);
    const THIEF: ClientKey = ClientKey(2);

    fn room() -> NonZeroUsize {
        NonZeroUsize::new(4096).unwrap()
    }

    fn throttle() -> LoginThrottle {
        LoginThrottle::new(&LoginLimit::default(), room())
    }

    fn delay_only(delay_max: u64) -> LoginThrottle {
        let delay_max = Duration::from_secs(delay_max);
        LoginThrottle::new(
            &LoginLimit { per_client: None, per_subject: None, delay_max, ..LoginLimit::default() },
            room(),
        )
    }

    fn by(client: ClientKey, subject: &str) -> Attempt<'_> {
        Attempt { client, subject: Some(subject), device: Device::Unknown }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn attempts_of_a_client_are_counted_over_all_subjects() {
        let throttle = throttle();
        let outcomes: Vec<bool> =
            ["a", "b", "c", "d"].iter().map(|name| throttle.attempt(&by(THIEF, name), START).is_ok()).collect();
        assert_eq!(outcomes, [true, true, true, false]);
        assert!(throttle.attempt(&by(HOME, "a"), START).is_ok());
    }

    #[test]
    fn attempts_on_a_subject_are_counted_over_all_clients_and_spellings() {
        let throttle = throttle();
        let spellings = ["alice", "Alice", " ALICE "];
        for (client, name) in (10..).zip(spellings) {
            assert!(throttle.attempt(&by(ClientKey(client), name), START).is_ok());
        }
        let refusal = throttle.attempt(&by(ClientKey(20), "alice"), START).unwrap_err();
        assert_eq!(refusal.retry_after, seconds(60));
        assert!(throttle.attempt(&by(ClientKey(20), "alice"), START.after(refusal.retry_after)).is_ok());
        assert!(throttle.attempt(&by(ClientKey(21), "bob"), START).is_ok());
    }

    #[test]
    fn an_attempt_on_nobody_known_counts_for_the_client_alone() {
        let throttle = throttle();
        for _ in 0..3 {
            assert!(throttle.attempt(&Attempt { client: HOME, subject: None, device: Device::Unknown }, START).is_ok());
        }
        assert!(throttle.attempt(&Attempt { client: HOME, subject: None, device: Device::Unknown }, START).is_err());
    }

    #[test]
    fn the_delay_grows_with_failures_up_to_its_end() {
        let throttle = delay_only(30);
        let mut now = START;
        let mut delays = Vec::new();
        for _ in 0..10 {
            assert_eq!(throttle.attempt(&by(HOME, "alice"), now), Ok(()));
            throttle.failed(&by(HOME, "alice"), now);
            let wait = throttle.attempt(&by(HOME, "alice"), now).map_or_else(|no| no.retry_after, |()| Duration::ZERO);
            delays.push(wait.as_secs());
            now = now.after(wait);
        }
        assert_eq!(delays, [0, 0, 0, 1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn an_attempt_during_the_delay_does_not_prolong_it() {
        let throttle = delay_only(30);
        (0..5).for_each(|_| throttle.failed(&by(HOME, "alice"), START));
        for millis in [0, 500, 1000, 1999] {
            assert!(throttle.attempt(&by(HOME, "alice"), START.after(Duration::from_millis(millis))).is_err());
        }
        assert!(throttle.attempt(&by(HOME, "alice"), START.after(seconds(2))).is_ok());
    }

    #[test]
    fn failures_are_forgotten_by_time() {
        let throttle = delay_only(30);
        (0..20).for_each(|_| throttle.failed(&by(HOME, "alice"), START));
        let later = START.after(seconds(3600));
        throttle.failed(&by(HOME, "alice"), later);
        assert!(throttle.attempt(&by(HOME, "alice"), later).is_ok());
    }

    #[test]
    fn slow_mistakes_never_add_up() {
        let throttle = delay_only(30);
        for minute in 0..1000 {
            let now = START.after(seconds(60 * minute));
            assert!(throttle.attempt(&by(HOME, "alice"), now).is_ok());
            throttle.failed(&by(HOME, "alice"), now);
        }
    }

    #[test]
    fn an_attacker_can_not_lock_the_user_out_of_a_known_device() {
        let throttle = throttle();
        for second in 0..600 {
            let now = START.after(seconds(second));
            // Many addresses, one of them the very one that the user sits behind.
            for client in [ClientKey(second + 100), HOME] {
                if throttle.attempt(&by(client, "alice"), now).is_ok() {
                    throttle.failed(&by(client, "alice"), now);
                }
            }
        }
        let now = START.after(seconds(599));
        let user = Attempt { client: HOME, subject: Some("alice"), device: Device::Known(DeviceKey(77)) };
        assert!(throttle.attempt(&by(ClientKey(9), "alice"), now).is_err());
        assert!(throttle.attempt(&user, now).is_ok());
        // The known device is still counted itself: a stolen one is no way to guess without end.
        assert!((0..10).any(|_| throttle.attempt(&user, now).is_err()));
    }

    #[test]
    fn counted_means_that_a_known_device_is_like_any_other() {
        let limit = LoginLimit { known_device: KnownDevice::Counted, ..LoginLimit::default() };
        let throttle = LoginThrottle::new(&limit, room());
        (0..3).for_each(|client| throttle.attempt(&by(ClientKey(client), "alice"), START).unwrap());
        let user = Attempt { client: HOME, subject: Some("alice"), device: Device::Known(DeviceKey(77)) };
        assert!(throttle.attempt(&user, START).is_err());
    }

    #[test]
    fn a_success_forgives_the_subject() {
        let throttle = delay_only(30);
        (0..9).for_each(|n| throttle.failed(&by(ClientKey(n + 10), "alice"), START));
        assert!(throttle.attempt(&by(HOME, "alice"), START).is_err());
        // To another app that is another user.
        throttle.succeeded(&by(HOME, "Alice"));
        assert!(throttle.attempt(&by(HOME, "alice"), START).is_err());
        throttle.succeeded(&by(HOME, "alice"));
        assert!(throttle.attempt(&by(HOME, "alice"), START).is_ok());
    }

    #[test]
    fn logging_in_to_an_account_of_his_own_does_not_clear_the_attackers_count() {
        let throttle = delay_only(30);
        for n in 0..6 {
            throttle.failed(&by(THIEF, &format!("victim {n}")), START);
            throttle.succeeded(&by(THIEF, "mallory"));
        }
        assert!(throttle.attempt(&by(THIEF, "victim 7"), START).is_err());
    }

    #[test]
    fn a_spray_of_names_does_not_clear_a_delay_that_is_remembered() {
        let throttle = delay_only(30);
        (0..20).for_each(|_| throttle.failed(&by(HOME, "alice"), START));
        for n in 0..100_000 {
            throttle.failed(&by(ClientKey(n + 10), &n.to_string()), START);
        }
        assert!(throttle.attempt(&by(ClientKey(5), "alice"), START).is_err());
    }
}
