//! Jars that were opened a moment ago: a page brings a dozen requests of one session with it, and opening its jar for each
//! costs as much as everything else that is done for one.
//!
//! What lies here is in the clear, so it is little and not for long: so many jars, none larger than so much, kept from the
//! second use on and wiped when nobody has used them for a minute. An opened jar is found by the digest of the session id *and* the seal it had, so a
//! jar that was sealed again is another one; and one whose key has left the ring is not looked for. What apps keep in their sessions
//! lies here too, in a table of its own and read already.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::session::data::Data;
use crate::session::id::SessionDigest;

/// Opened jars that are kept at most.
pub const OPEN_JARS_MAX: usize = SETS * WAYS;
/// Octets of a jar that is kept; a larger one is opened for each request.
pub const OPEN_JAR_BYTES_MAX: usize = 2048;
/// How long a jar that nobody uses is kept.
pub const OPEN_JAR_KEPT: Duration = Duration::from_secs(60);

const SETS: usize = 1024;
const WAYS: usize = 4;

/// The beginning of a sealed jar, which no two have in common: the id of its key and a nonce.
const SEAL_BYTES: usize = 13;

pub(super) struct OpenJars<T>(Box<[Mutex<Set<T>>]>);

/// What is opened: as bytes, or read already.
pub(super) trait Plain {
    /// Octets that it takes in the clear.
    fn octets(&self) -> usize;
}

impl Plain for Secret<Vec<u8>> {
    fn octets(&self) -> usize {
        self.expose().len()
    }
}

impl Plain for Arc<Data> {
    fn octets(&self) -> usize {
        self.bytes()
    }
}

struct Set<T> {
    open: Vec<Opened<T>>,
    /// Whose jars were opened last and not kept: the second request within a while is the first that is worth it.
    seen_once: [u32; WAYS],
    next: usize,
}

struct Opened<T> {
    digest: SessionDigest,
    seal: [u8; SEAL_BYTES],
    used: Timestamp,
    plain: T,
}

impl<T: Plain> OpenJars<T> {
    pub(super) fn new() -> Self {
        Self((0..SETS).map(|_| Mutex::default()).collect())
    }

    /// Gives `look` the jar that was opened before, or the one that `open` opens now. None if there is none.
    pub(super) fn with<R>(
        &self,
        digest: &SessionDigest,
        sealed: &[u8],
        now: Timestamp,
        open: impl FnOnce() -> Option<T>,
        look: impl FnOnce(&T) -> R,
    ) -> Option<R> {
        let seal = sealed.first_chunk::<SEAL_BYTES>()?;
        let set = usize::try_from(digest.spread() % SETS as u64).ok().and_then(|at| self.0.get(at));
        let Some(set) = set.filter(|_| sealed.len() <= OPEN_JAR_BYTES_MAX) else {
            return open().map(|plain| look(&plain));
        };
        let is_worth_keeping = {
            let mut set = set.lock();
            if let Some(opened) = set.open.iter_mut().find(|opened| opened.digest == *digest && opened.seal == *seal) {
                opened.used = opened.used.max(now);
                return Some(look(&opened.plain));
            }
            set.was_seen(digest)
        };
        // Opened without the lock: others of the set need not wait for it.
        let plain = open()?;
        let out = look(&plain);
        if is_worth_keeping && plain.octets() <= OPEN_JAR_BYTES_MAX {
            set.lock().keep(Opened { digest: *digest, seal: *seal, used: now, plain });
        }
        Some(out)
    }

    /// Wipes what nobody has used for a while.
    pub(super) fn sweep(&self, now: Timestamp) {
        for set in &self.0 {
            set.lock().open.retain(|opened| now.since(opened.used) < OPEN_JAR_KEPT);
        }
    }

    /// Wipes everything.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|set| set.lock().open.clear());
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self { open: Vec::new(), seen_once: [0; WAYS], next: 0 }
    }
}

impl<T> Set<T> {
    /// Whether a jar of this session was opened a moment ago; from now on it was.
    fn was_seen(&mut self, digest: &SessionDigest) -> bool {
        // The other half of the bits than those that chose the set.
        let mark = digest.0.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)) | 1;
        let seen = self.seen_once.contains(&mark);
        if !seen && let Some(place) = self.seen_once.get_mut(self.next % WAYS) {
            *place = mark;
            self.next = self.next.wrapping_add(1);
        }
        seen
    }

    /// Keeps it in the place of an earlier one of the session, or of the one that was not used for longest.
    fn keep(&mut self, opened: Opened<T>) {
        self.open.retain(|other| other.digest != opened.digest);
        if self.open.len() >= WAYS
            && let Some((oldest, _)) = self.open.iter().enumerate().min_by_key(|(_, other)| other.used)
        {
            self.open.swap_remove(oldest);
        }
        self.open.push(opened);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1000);

    fn digest(number: u8) -> SessionDigest {
        // The first eight octets choose the set: all of these are in one.
        let mut bytes = [0; 32];
        bytes[30] = number;
        SessionDigest(bytes)
    }

    /// What is seen of a jar, and whether it had to be opened.
    fn seen(jars: &OpenJars<Secret<Vec<u8>>>, digest: SessionDigest, sealed: &[u8], now: Timestamp) -> (Vec<u8>, bool) {
        let mut opened = false;
        let open = || {
            opened = true;
            Some(Secret::new(sealed.to_ascii_uppercase()))
        };
        let seen = jars.with(&digest, sealed, now, open, |plain| plain.expose().clone()).unwrap();
        (seen, opened)
    }

    #[test]
    fn a_jar_that_is_used_again_is_opened_no_more() {
        let jars = OpenJars::<Secret<Vec<u8>>>::new();
        let (one, two) = (b"the first seal, cookies", b"another seal!, cookies");
        let check = |number, sealed: &[u8], opened| {
            assert_eq!(seen(&jars, digest(number), sealed, NOW), (sealed.to_ascii_uppercase(), opened));
        };
        check(1, one, true);
        check(1, one, true);
        check(1, one, false);
        check(2, one, true);
        check(1, two, true);
        check(1, two, false);
        check(1, one, true);
        check(1, two, true);
        jars.clear();
        check(1, two, true);
    }

    #[test]
    fn what_can_not_be_opened_is_not_kept() {
        let jars = OpenJars::<Secret<Vec<u8>>>::new();
        for _ in 0..3 {
            assert_eq!(jars.with(&digest(1), &[0; 40], NOW, || None, |_| ()), None);
            assert_eq!(jars.with(&digest(1), b"short", NOW, || Some(Secret::new(vec![1])), |_| ()), None);
        }
        assert_eq!(kept(&jars), 0);
    }

    #[test]
    fn they_are_few_small_and_not_kept_for_long() {
        let jars = OpenJars::<Secret<Vec<u8>>>::new();
        let sealed = b"a seal of enough octets";
        for number in (0..20).step_by(2) {
            for _ in 0..2 {
                seen(&jars, digest(number), sealed, NOW.after(Duration::from_secs(number.into())));
            }
        }
        assert_eq!(kept(&jars), WAYS);
        let (_, opened) = seen(&jars, digest(18), sealed, NOW.after(Duration::from_secs(18)));
        assert!(!opened, "the one used last stays");
        jars.sweep(NOW.after(Duration::from_secs(75)));
        assert_eq!(kept(&jars), 2);
        jars.clear();
        for _ in 0..3 {
            seen(&jars, digest(1), &[7; OPEN_JAR_BYTES_MAX + 1], NOW);
        }
        assert_eq!(kept(&jars), 0);
    }

    fn kept(jars: &OpenJars<Secret<Vec<u8>>>) -> usize {
        jars.0.iter().map(|set| set.lock().open.len()).sum()
    }
}
