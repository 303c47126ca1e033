//! Seals: what shows that a chain was not computed anew.
//!
//! A seal is an HMAC over the head of the chain, under a key that is gone as soon as the seal is on disk: each key is made of
//! the one before, and not the other way round. So whoever takes the machine over can make seals from then on, and none for
//! the time before. Who has the first key, kept elsewhere, can check all of them (forward-secure MAC; Bellare and Yee, "Forward
//! Integrity for Secure Audit Logs", 1997). A seal says where it begins, right behind the one before it: events that are there
//! and under no seal are noticed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use std::{fs, io};

use super::JournalError;
use super::disk::Disk;
use super::line::{Head, hex};
use super::segments::beside;
use crate::clock::Timestamp;
use crate::entropy::{Entropy, EntropyError};
use crate::event::{Event, EventsSealed};
use crate::secret::{Secret, hmac_sha256, same};

/// How the text of a key begins.
const SCHEME: &str = "portcullis-seal-1";
/// How far a key is followed in all: beyond it a number was made up. Two years of one a second.
pub(super) const STEPS_MAX: u64 = 1 << 26;
/// How far the key of a guard is followed at a start: twelve days of one a second, in a second.
const CATCH_UP_MAX: u64 = 1 << 20;
/// Lines after which there is a seal, and the time after which there is one with fewer.
const LINES: u64 = 1000;
const AFTER: Duration = Duration::from_secs(60);
/// But no more than one in this time: each costs a file that is replaced.
const EVERY: Duration = Duration::from_secs(1);

/// The key of one seal, and by it of all later ones.
#[derive(Clone, Debug)]
pub struct SealKey {
    number: u64,
    key: Secret<[u8; 32]>,
}

/// A text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no key of seals: expected {SCHEME}, a number and 64 hex digits, with colons between")]
pub struct SealKeyError;

impl SealKey {
    /// The first key of a journal.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut key = [0; 32];
        entropy.fill(&mut key)?;
        Ok(Self { number: 0, key: Secret::new(key) })
    }

    /// The number of the seal that it makes.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The key of the next seal.
    #[must_use]
    pub fn next(&self) -> Self {
        let key = hmac_sha256(self.key.expose(), &[b"next"]);
        Self { number: self.number.saturating_add(1), key: Secret::new(key) }
    }

    /// The key of a later seal; nothing of an earlier one, or of one that is too far away.
    pub fn at(&self, number: u64) -> Option<Self> {
        let steps = number.checked_sub(self.number).filter(|steps| *steps <= STEPS_MAX)?;
        Some((0..steps).fold(self.clone(), |key, _| key.next()))
    }

    /// The seal over all lines of `span`, by the hash of the last one.
    fn mac(&self, span: &Span) -> Head {
        let numbers = [self.number, span.from_seq, span.head_seq].map(u64::to_be_bytes);
        Head(hmac_sha256(self.key.expose(), &[b"seal", numbers.as_flattened(), &span.head.0]))
    }

    /// Whether a seal is that of this key.
    pub(super) fn made(&self, seal: &Seal) -> bool {
        seal.number == self.number && same(&self.mac(&seal.span).0, &seal.mac.0)
    }

    /// As text, for a file. It is a secret.
    pub fn to_text(&self) -> Secret<String> {
        Secret::new(format!("{SCHEME}:{}:{}", self.number, Head(*self.key.expose())))
    }
}

impl FromStr for SealKey {
    type Err = SealKeyError;

    fn from_str(text: &str) -> Result<Self, SealKeyError> {
        let read = || {
            let (number, key) = text.trim().strip_prefix(SCHEME)?.strip_prefix(':')?.split_once(':')?;
            Some(Self { number: number.parse().ok()?, key: Secret::new(hex(key.as_bytes())?) })
        };
        read().ok_or(SealKeyError)
    }
}

/// What a seal is over: the events from one to another, and by the hash of that all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from_seq: u64,
    pub(super) head_seq: u64,
    pub(super) head: Head,
}

/// A seal as it stands in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) number: u64,
    pub(super) span: Span,
    pub(super) mac: Head,
}

impl Seal {
    /// The seal in a line, if it is one.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Told {
            seal: u64,
            from_seq: u64,
            head_seq: u64,
            head: String,
            mac: String,
        }
        memchr::memmem::find(body.get(..96).unwrap_or(body), b"\"event\":\"events.sealed\"")?;
        let told: Told = serde_json::from_slice(&[body, b"}"].concat()).ok()?;
        let span = Span { from_seq: told.from_seq, head_seq: told.head_seq, head: told.head.parse().ok()? };
        Some(Self { number: told.seal, span, mac: told.mac.parse().ok()? })
    }
}

/// The key of the next seal as it stands beside the journal, and where that seal begins.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) key: SealKey,
    from_seq: u64,
}

impl State {
    /// That of a journal; nothing if there is none.
    pub(super) fn read(journal: &Path) -> Result<Option<Self>, JournalError> {
        let path = beside(journal, "seal");
        let text = match fs::read_to_string(&path) {
            Ok(text) => Secret::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(JournalError::io(&path)(error)),
        };
        let parse = || {
            let (key, from_seq) = text.expose().trim_end().split_once('\n')?;
            Some(Self { key: key.parse().ok()?, from_seq: from_seq.parse().ok()? })
        };
        parse().map(Some).ok_or(JournalError::Seal { path, why: SealKeyError })
    }

    fn write(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let key = self.key.to_text();
        let text = Secret::new(format!("{}\n{}\n", key.expose(), self.from_seq));
        disk.replace(path, text.expose().as_bytes())
    }
}

/// The number of the next seal of a journal: those before it are on disk. 0 where none were made yet.
pub(super) fn next_seal(journal: &Path) -> Result<u64, JournalError> {
    Ok(State::read(journal)?.map_or(0, |state| state.key.number))
}

/// Seals that are made.
pub(super) struct Sealing {
    state: State,
    path: PathBuf,
    sealed_at: Timestamp,
    /// Lines since the last one.
    lines: u64,
    /// One of them was of an attack.
    is_pressing: bool,
    /// A seal was made with this key; its line has that number, and is on its way.
    used: Option<u64>,
}

impl Sealing {
    /// Goes on after the last seal of a journal.
    pub(super) fn begin(
        journal: &Path,
        last: Option<(u64, Seal)>,
        next_seq: u64,
        now: Timestamp,
        disk: &dyn Disk,
        entropy: &dyn Entropy,
    ) -> Result<(Self, Begun), JournalError> {
        let path = beside(journal, "seal");
        let (mut state, begun) = match State::read(journal)? {
            Some(state) => (state, Begun::Before),
            None => {
                let state = State { key: SealKey::generate(entropy)?, from_seq: next_seq };
                let first = beside(journal, "seal-key");
                // It may be the only one that the seals that are there can be checked with.
                if last.is_some() && first.exists() {
                    fs::rename(&first, beside(journal, "seal-key.old")).map_err(JournalError::io(&first))?;
                }
                let text = Secret::new(format!("{}\n", state.key.to_text().expose()));
                disk.replace(&first, text.expose().as_bytes()).map_err(JournalError::io(&first))?;
                state.write(disk, &path).map_err(JournalError::io(&path))?;
                (state, if last.is_some() { Begun::Anew } else { Begun::Now })
            }
        };
        // An old copy of it may have been put back: no number is given to two seals.
        if let Some((_, seal)) = last
            && seal.number.saturating_sub(state.key.number) <= CATCH_UP_MAX
            && let Some(key) = state.key.at(seal.number)
        {
            state.key = key;
        }
        // The last run was interrupted when its last seal was on disk, and its key not gone.
        let used = last.filter(|(_, seal)| seal.number == state.key.number).map(|(seq, _)| seq);
        let lines = u64::from(used.is_none() && state.from_seq + 1 < next_seq);
        Ok((Self { state, path, sealed_at: now, lines, is_pressing: false, used }, begun))
    }

    /// Takes note of a line.
    pub(super) const fn note(&mut self, is_seal: bool, is_attack: bool) {
        if !is_seal {
            self.lines += 1;
            self.is_pressing |= is_attack;
        }
    }

    /// Whether there is something to seal, or a key that is to go.
    pub(super) const fn is_waiting(&self) -> bool {
        self.lines > 0 || self.used.is_some()
    }

    /// Whether a seal is on its way to the disk.
    pub(super) const fn is_used(&self) -> bool {
        self.used.is_some()
    }

    /// Whether a seal is due.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let age = now.since(self.sealed_at);
        self.used.is_none()
            && self.lines > 0
            && (age >= AFTER || (self.lines >= LINES || self.is_pressing) && age >= EVERY)
    }

    /// The event of a seal over all lines so far. It will have the next number.
    pub(super) fn seal(&mut self, seq: u64, head: Head, now: Timestamp) -> Option<Event> {
        if self.used.is_some() || self.lines == 0 {
            return None;
        }
        self.used = Some(seq + 1);
        self.lines = 0;
        self.is_pressing = false;
        self.sealed_at = now;
        let span = Span { from_seq: self.state.from_seq, head_seq: seq, head };
        let (key, mac) = (&self.state.key, self.state.key.mac(&span).to_string());
        let Span { from_seq, head_seq, .. } = span;
        let (seal, head) = (key.number, head.to_string());
        Some(EventsSealed { seal, from_seq, head_seq, head: head.into(), mac: mac.into() }.into())
    }

    /// All up to that line is on disk: the key of a seal that is among it goes.
    pub(super) fn go_on(&mut self, durable: u64, disk: &dyn Disk) -> io::Result<()> {
        let Some(seal) = self.used.filter(|seal| *seal <= durable) else { return Ok(()) };
        // The seal itself is under the next one.
        let next = State { key: self.state.key.next(), from_seq: seal };
        next.write(disk, &self.path)?;
        self.state = next;
        self.used = None;
        Ok(())
    }
}

/// How keys began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// In an earlier run.
    Before,
    /// With the journal.
    Now,
    /// Though there were seals: the key of the next one was gone.
    Anew,
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("number", &self.state.key.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::InsecureSeededEntropy;

    #[test]
    fn the_first_key_checks_all_seals_and_a_later_one_none_before() {
        let first = SealKey::generate(&InsecureSeededEntropy::new(1)).unwrap();
        let span = Span { from_seq: 20, head_seq: 40, head: Head([7; 32]) };
        let third = first.next().next();
        let seal = Seal { number: 2, span, mac: third.mac(&span) };
        let at = |number| first.at(number).unwrap();
        assert!(at(2).made(&seal) && !at(1).made(&seal) && !at(3).made(&seal));
        for other in
            [Span { from_seq: 21, ..span }, Span { head_seq: 41, ..span }, Span { head: Head([8; 32]), ..span }]
        {
            assert!(!at(2).made(&Seal { span: other, ..seal }), "{other:?}");
        }
        assert!(!at(2).made(&Seal { number: 3, ..seal }));
        assert!(third.at(1).is_none() && first.at(u64::MAX).is_none());
    }

    #[test]
    fn a_key_is_read_back_and_does_not_print_itself() {
        let key = SealKey::generate(&InsecureSeededEntropy::new(1)).unwrap().next();
        let text = key.to_text();
        let read: SealKey = format!("{}\n", text.expose()).parse().unwrap();
        assert_eq!((read.number(), read.key.expose()), (1, key.key.expose()));
        assert!(!format!("{key:?} {text:?}").contains(text.expose().split_at(20).1));
        for none in ["", "portcullis-seal-1", "portcullis-seal-1:x:00", "portcullis-seal-2:0:00"] {
            assert_eq!(none.parse::<SealKey>().unwrap_err(), SealKeyError);
        }
    }
}
