//! What goes together: how the programs of this guard's own users speak. It keeps pace with browsers by itself, and no list of
//! fingerprints has to be kept by anybody.
//!
//! A *cell* is a program of one version on one system. Once enough users of a cell are known, a way to speak TLS and HTTP/2
//! that none of them has contradicts it. Users are counted, not requests, and only those whose session has been in use for
//! long without a sign of theft: whoever wants to teach the guard his own fingerprint needs as many accounts that behave well.
//!
//! The table also notices programs that share the sessions of many users on one network: the two parts of an app.
//! It lives in the process, is limited in every direction, and what is used least makes room.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use crate::clock::Timestamp;
use crate::facts::user_agent::{Family, Os};
use crate::fingerprint::Fingerprint;
use crate::signal::Fit;

/// Users of a cell from which on it is well known.
pub(super) const USERS_MIN: u32 = 50;
/// Users whose sessions two programs share, from which on they are proposed as companions.
pub(super) const COMPANIONS_MIN: u32 = 20;
/// How long a session must have been in use before its user is counted, if sessions last so long.
pub(super) const LEARN_AFTER: Duration = Duration::from_secs(24 * 3600);

const CELLS_MAX: usize = 1024;
const LOOKS_MAX: usize = 12;
const PAIRS_MAX: usize = 32;

/// About how many different users there were: 256 bits, of which each user sets one (linear counting, Whang et al. 1990).
/// Good to a tenth up to some hundred, which is all that is asked of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Users([u64; 4]);

impl Users {
    const BITS: u32 = 256;

    fn add(&mut self, user: u64) {
        let (word, bit) = (user >> 6 & 3, user & 63);
        if let Some(word) = usize::try_from(word).ok().and_then(|at| self.0.get_mut(at)) {
            *word |= 1 << bit;
        }
    }

    fn count(&self) -> u32 {
        let unset: u32 = self.0.iter().map(|word| word.count_zeros()).sum();
        let share = f64::from(unset.max(1)) / f64::from(Self::BITS);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 1420")]
        let count = (-f64::from(Self::BITS) * share.ln()).floor() as u32;
        count
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Cell {
    family: Family,
    major: u16,
    os: Os,
}

#[derive(Debug)]
struct Known {
    cell: Cell,
    users: Users,
    looks: Vec<(u64, Users)>,
    used: Timestamp,
}

#[derive(Debug)]
struct Pair {
    both: (Family, Family),
    users: Users,
    proposed: Proposed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proposed {
    NotYet,
    Already,
}

/// What the sessions of this guard have taught it.
#[derive(Debug)]
pub(super) struct Population {
    key: [u8; 16],
    cells: Mutex<Vec<Known>>,
    pairs: Mutex<Vec<Pair>>,
}

impl Population {
    /// Nothing is known yet. With the key nobody can choose subjects that are counted as one.
    pub(super) const fn new(key: [u8; 16]) -> Self {
        Self { key, cells: Mutex::new(Vec::new()), pairs: Mutex::new(Vec::new()) }
    }

    /// Counts a user whose session has proved itself.
    pub(super) fn learn(&self, client: &Fingerprint, subject: &str, now: Timestamp) {
        let Some((cell, look)) = self.of(client) else { return };
        let user = self.hash(subject);
        let mut cells = self.cells.lock();
        let at = match cells.iter().position(|known| known.cell == cell) {
            Some(at) => at,
            None => {
                make_room(&mut cells, CELLS_MAX, |known| known.used);
                cells.push(Known { cell, users: Users::default(), looks: Vec::new(), used: now });
                cells.len().saturating_sub(1)
            }
        };
        let Some(known) = cells.get_mut(at) else { return };
        known.used = now;
        known.users.add(user);
        match known.looks.iter_mut().find(|(other, _)| *other == look) {
            Some((_, users)) => users.add(user),
            None => {
                make_room(&mut known.looks, LOOKS_MAX, |(_, users)| users.count());
                let mut users = Users::default();
                users.add(user);
                known.looks.push((look, users));
            }
        }
    }

    /// How a client goes with those that claim to be the same.
    pub(super) fn fit(&self, client: &Fingerprint) -> Fit {
        let Some((cell, look)) = self.of(client) else { return Fit::Unknown };
        let cells = self.cells.lock();
        let known = cells.iter().find(|known| known.cell == cell).filter(|known| known.users.count() >= USERS_MIN);
        match known {
            Some(known) if known.looks.iter().all(|(other, _)| *other != look) => Fit::Never,
            _ => Fit::Unknown,
        }
    }

    /// Two programs shared a session of this user, on one network. Tells it once of many users.
    pub(super) fn share(&self, one: Family, other: Family, subject: &str) -> Option<u32> {
        let user = self.hash(subject);
        let both = if one.number() <= other.number() { (one, other) } else { (other, one) };
        let mut pairs = self.pairs.lock();
        let at = match pairs.iter().position(|pair| pair.both == both) {
            Some(at) => at,
            None => {
                make_room(&mut pairs, PAIRS_MAX, |pair| pair.users.count());
                pairs.push(Pair { both, users: Users::default(), proposed: Proposed::NotYet });
                pairs.len().saturating_sub(1)
            }
        };
        let pair = pairs.get_mut(at)?;
        pair.users.add(user);
        let users = pair.users.count();
        if users < COMPANIONS_MIN || pair.proposed == Proposed::Already {
            return None;
        }
        pair.proposed = Proposed::Already;
        Some(users)
    }

    fn hash(&self, what: &(impl Hash + ?Sized)) -> u64 {
        hash(&self.key, what)
    }

    /// The cell of a client and its look; none of one that tells nothing of either.
    fn of(&self, client: &Fingerprint) -> Option<(Cell, u64)> {
        let Fingerprint { agent, wire, .. } = client;
        if wire.tls == 0 || agent.family == Family::Absent {
            return None;
        }
        let cell = Cell { family: agent.family, major: agent.major, os: agent.os };
        // A WebSocket has a connection of its own, without HTTP/2.
        (wire.http2 != 0).then(|| (cell, self.hash(&(wire.tls, wire.http2))))
    }
}

fn hash(key: &[u8; 16], what: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    what.hash(&mut hasher);
    hasher.finish()
}

/// Takes the one that is worth least out of a full list.
fn make_room<T, W: Ord>(all: &mut Vec<T>, most: usize, worth: impl Fn(&T) -> W) {
    if all.len() >= most
        && let Some((least, _)) = all.iter().enumerate().min_by_key(|(_, one)| worth(one))
    {
        all.swap_remove(least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::user_agent::UserAgent;
    use crate::fingerprint::Wire;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);
    const KEY: [u8; 16] = *b"sixteen bytes ok";

    fn client(major: u16, tls: u32) -> Fingerprint {
        let agent = UserAgent { family: Family::Chrome, major, os: Os::Windows, hash: 1, ..UserAgent::default() };
        Fingerprint { agent, wire: Wire { tls, http2: 7, ..Wire::default() }, ..Fingerprint::default() }
    }

    fn taught(users: usize, client: &Fingerprint) -> Population {
        let population = Population::new(KEY);
        (0..users).for_each(|user| population.learn(client, &format!("user-{user}"), NOW));
        population
    }

    #[test]
    fn counts_are_about_right() {
        for many in [0_u32, 1, 10, 50, 200] {
            let mut users = Users::default();
            (0..many).for_each(|user| users.add(hash(&KEY, &user)));
            (0..many).for_each(|user| users.add(hash(&KEY, &user)));
            let found = users.count();
            assert!(found.abs_diff(many) <= many / 4 + 1, "{many}: {found}");
        }
        assert!(Users([u64::MAX; 4]).count() > 1000);
    }

    #[test]
    fn what_nobody_of_many_speaks_contradicts_and_what_few_have_says_nothing() {
        assert_eq!(taught(20, &client(156, 1)).fit(&client(156, 2)), Fit::Unknown);
        let population = taught(100, &client(156, 1));
        assert_eq!(population.fit(&client(156, 1)), Fit::Unknown);
        assert_eq!(population.fit(&client(156, 2)), Fit::Never);
        // A new version is a new cell, and so is one that says nothing of itself.
        assert_eq!(population.fit(&client(157, 2)), Fit::Unknown);
        assert_eq!(population.fit(&Fingerprint { wire: Wire::default(), ..client(156, 2) }), Fit::Unknown);
        // One user who speaks so is enough for it to be known.
        population.learn(&client(156, 2), "user-1", NOW);
        assert_eq!(population.fit(&client(156, 2)), Fit::Unknown);
    }

    #[test]
    fn one_user_teaches_nothing_however_often_he_comes() {
        let population = Population::new(KEY);
        (0..10_000).for_each(|_| population.learn(&client(156, 1), "mallory", NOW));
        assert_eq!(population.fit(&client(156, 2)), Fit::Unknown);
    }

    #[test]
    fn it_grows_no_further() {
        let population = Population::new(KEY);
        for number in 0..3000_u16 {
            population.learn(&client(number, 1), "user", NOW.after(Duration::from_secs(number.into())));
            population.learn(&client(2999, u32::from(number) + 1), "user", NOW.after(Duration::from_secs(5000)));
            population.share(Family::Chrome, Family::Other(number), "user");
        }
        let cells = population.cells.lock();
        assert!(cells.len() <= CELLS_MAX && cells.iter().all(|known| known.looks.len() <= LOOKS_MAX));
        assert!(population.pairs.lock().len() <= PAIRS_MAX);
    }

    #[test]
    fn programs_that_share_the_sessions_of_many_are_proposed_once() {
        let population = Population::new(KEY);
        let told: Vec<u32> = (0..100)
            .filter_map(|user| {
                let (one, other) = (Family::OkHttp, Family::WebView);
                let (one, other) = if user % 2 == 0 { (one, other) } else { (other, one) };
                population.share(one, other, &format!("user-{user}"))
            })
            .collect();
        assert_eq!(told.len(), 1);
        assert!((COMPANIONS_MIN..COMPANIONS_MIN + 5).contains(&told[0]));
    }
}
