//! Tags: the changing half of the cookie, and how one that is presented stands.
//!
//! A cookie that was copied keeps working only while nobody moves on from it. Each answer may carry a successor of its
//! own; the one that comes back becomes the head. Whoever still shows an older tag after the grace has another copy of
//! the jar, or a jar that was rolled back: evidence, not proof. Two such tags in turn are proof of two live jars.
//!
//! ```text
//!   byte  0..4   generation, big-endian; 0 for a new session id
//!         4..8   nonce, random: no two successors are alike
//!         8..16  MAC: HMAC-SHA256 under the server's tag key over
//!                session id || generation || nonce, first 8 bytes
//! ```

use std::fmt;
use std::time::Duration;

use smallvec::SmallVec;
use subtle::ConstantTimeEq;

use super::id::SessionId;
use crate::clock::Timestamp;
use crate::entropy::{Entropy, EntropyError, random};
use crate::secret::{Keyring, Purpose, Seed};

/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;
/// How many superseded tags a record keeps; an authentic tag older than these is stale.
pub const SUPERSEDED_MAX: usize = 8;
/// How many stale tags a record keeps to tell a fork by.
pub const STALE_MAX: usize = 2;
/// How long a stale tag is remembered: two different ones within this time are a fork.
pub const FORK_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// The changing half of the cookie.
#[derive(Clone, Copy)]
pub struct Tag([u8; TAG_BYTES]);

impl Tag {
    /// A tag as it was shown or stored; whether it was ever issued is another question.
    pub const fn from_bytes(bytes: [u8; TAG_BYTES]) -> Self {
        Self(bytes)
    }

    /// Issues a tag of that generation for a session id. Every call gives another one.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn mint(keys: &Keyring, id: &SessionId, generation: u32, entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let nonce: [u8; 4] = random(entropy)?;
        let (_, mac) = keys.mac(Purpose::Tag, &[id.expose(), &generation.to_be_bytes(), &nonce]);
        let mut bytes = [0; TAG_BYTES];
        for (byte, value) in bytes.iter_mut().zip(generation.to_be_bytes().into_iter().chain(nonce).chain(mac)) {
            *byte = value;
        }
        Ok(Self(bytes))
    }

    /// Whether it was issued for this session id, under any key of the ring.
    pub fn is_authentic(&self, keys: &Keyring, id: &SessionId) -> bool {
        self.issued_under(keys, id).is_some()
    }

    /// The key of the ring under which it was issued for this session id.
    pub fn issued_under(&self, keys: &Keyring, id: &SessionId) -> Option<Seed> {
        let (body, mac) = self.0.split_at(8);
        keys.verified_by(Purpose::Tag, &[id.expose(), body], mac)
    }

    /// How many tags were in line before it.
    pub fn generation(&self) -> u32 {
        self.0.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// The stored form.
    pub const fn as_bytes(&self) -> &[u8; TAG_BYTES] {
        &self.0
    }
}

/// Constant time: a tag is half of a secret.
impl PartialEq for Tag {
    fn eq(&self, other: &Self) -> bool {
        u128::from_ne_bytes(self.0).ct_eq(&u128::from_ne_bytes(other.0)).into()
    }
}

impl Eq for Tag {}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag(generation {})", self.generation())
    }
}

/// A tag and when something happened to it: it was superseded, or last presented although stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dated {
    /// The tag.
    pub tag: Tag,
    /// When it happened.
    pub at: Timestamp,
}

/// How a presented tag stands to those of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The newest tag presented so far.
    Head,
    /// The next in line, presented for the first time: to be adopted.
    Successor,
    /// Of the head's generation, but not the head: of two parallel answers the jar kept this one. To be adopted, once no
    /// request that was sent before can still be under way.
    Sibling,
    /// Further ahead than any that the record knows of: the store lost a write. To be adopted, and told.
    Ahead,
    /// Superseded less than the grace ago, or a sibling of a head that is younger than that: served, without a successor.
    Grace,
    /// Superseded longer ago than the grace, or so old that the record forgot when.
    Stale {
        /// Since when it is superseded, if the record still knows.
        since: Option<Timestamp>,
    },
    /// Never issued for this id.
    Forged,
}

impl Standing {
    /// Whether the tag becomes the head now.
    pub const fn is_adopted(self) -> bool {
        matches!(self, Self::Successor | Self::Sibling | Self::Ahead)
    }
}

/// What a stale tag says about the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staleness {
    /// One jar that is behind: rolled back, copied, or an answer that was lost long ago.
    Single,
    /// Another stale tag than the one before it, within [`FORK_WINDOW`]: two live jars.
    Fork,
}

/// The tags of one session: its head, the last superseded ones, the last stale ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags {
    head: Tag,
    since: Timestamp,
    /// Boxed: many sessions end before their first tag is superseded, and every record has room for this.
    past: Option<Box<Past>>,
}

/// Tags that are not the head any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Past {
    superseded: SmallVec<[Dated; 1]>,
    stale: SmallVec<[Dated; 1]>,
}

impl Tags {
    /// The tags of a new session id.
    pub fn new(head: Tag, now: Timestamp) -> Self {
        Self { head, since: now, past: None }
    }

    /// Tags from their stored form; superseded and stale ones in order of time. More than a record keeps are cut off at
    /// the old end.
    pub fn restore(head: Tag, since: Timestamp, superseded: &[Dated], stale: &[Dated]) -> Self {
        let newest = |all: &[Dated], max: usize| all.get(all.len().saturating_sub(max)..).unwrap_or_default().into();
        let past = Past { superseded: newest(superseded, SUPERSEDED_MAX), stale: newest(stale, STALE_MAX) };
        let is_there = !superseded.is_empty() || !stale.is_empty();
        Self { head, since, past: is_there.then(|| Box::new(past)) }
    }

    /// The head.
    pub const fn head(&self) -> &Tag {
        &self.head
    }

    /// Since when it is the head.
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// The superseded tags that are kept, oldest first.
    pub fn superseded(&self) -> &[Dated] {
        self.past.as_ref().map_or(&[], |past| &past.superseded)
    }

    /// The stale tags that were presented last, oldest first.
    pub fn stale(&self) -> &[Dated] {
        self.past.as_ref().map_or(&[], |past| &past.stale)
    }

    /// How `tag` stands. `authentic` is asked only if it is not the head: a MAC costs more than a comparison.
    pub fn standing(&self, tag: &Tag, authentic: impl FnOnce() -> bool, grace: Duration, now: Timestamp) -> Standing {
        if *tag == self.head {
            return Standing::Head;
        }
        if !authentic() {
            return Standing::Forged;
        }
        if let Some(entry) = self.superseded().iter().find(|entry| entry.tag == *tag) {
            return aged(Some(entry.at), grace, now);
        }
        let (generation, head) = (tag.generation(), self.head.generation());
        match generation {
            // Requests of one jar overtake each other, so the tag that comes first need not be the one that the jar kept.
            // While some may still be under way nothing is concluded.
            _ if generation == head && now.since(self.since) < grace => Standing::Grace,
            _ if generation == head => Standing::Sibling,
            _ if Some(generation) == head.checked_add(1) => Standing::Successor,
            _ if generation > head => Standing::Ahead,
            // A successor that was offered and never presented: superseded when its generation was.
            _ => aged(self.superseded_at(generation), grace, now),
        }
    }

    /// When the head moved past a generation, if a tag of it or of an older one is still kept.
    fn superseded_at(&self, generation: u32) -> Option<Timestamp> {
        let superseded = self.superseded();
        let knows = superseded.first().is_some_and(|oldest| oldest.tag.generation() <= generation);
        let past = |entry: &&Dated| entry.tag.generation() >= generation;
        // Of several of one generation (siblings) the last one counts: until then the generation was alive.
        let first = superseded.iter().find(past).filter(|_| knows)?;
        let mut same = superseded.iter().filter(|entry| entry.tag.generation() == first.tag.generation());
        same.next_back().map(|entry| entry.at)
    }

    /// Whether the head may be superseded without the record forgetting a tag that is in its grace: it would be taken for one
    /// that is long superseded.
    pub fn has_room(&self, grace: Duration, now: Timestamp) -> bool {
        let superseded = self.superseded();
        let oldest = superseded.first().filter(|_| superseded.len() >= SUPERSEDED_MAX);
        oldest.is_none_or(|oldest| now.since(oldest.at) >= grace)
    }

    /// Makes `tag` the head.
    pub fn adopt(&mut self, tag: Tag, now: Timestamp) {
        let past = self.past.get_or_insert_default();
        push_bounded(&mut past.superseded, Dated { tag: self.head, at: now }, SUPERSEDED_MAX);
        self.head = tag;
        self.since = now;
    }

    /// Notes that a stale tag was presented, and says what that means with those before it.
    pub fn note_stale(&mut self, tag: Tag, now: Timestamp) -> Staleness {
        let stale = &mut self.past.get_or_insert_default().stale;
        stale.retain(|entry| now.since(entry.at) <= FORK_WINDOW);
        match stale.last_mut() {
            Some(last) if last.tag == tag => {
                last.at = now;
                Staleness::Single
            }
            None => {
                stale.push(Dated { tag, at: now });
                Staleness::Single
            }
            Some(_) => {
                push_bounded(stale, Dated { tag, at: now }, STALE_MAX);
                Staleness::Fork
            }
        }
    }
}

fn aged(since: Option<Timestamp>, grace: Duration, now: Timestamp) -> Standing {
    match since {
        Some(at) if now.since(at) < grace => Standing::Grace,
        since => Standing::Stale { since },
    }
}

fn push_bounded(entries: &mut SmallVec<[Dated; 1]>, entry: Dated, max: usize) {
    if entries.len() >= max {
        entries.remove(0);
    }
    entries.push(entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::InsecureSeededEntropy;
    use crate::secret::{KeyId, MasterKey};

    const GRACE: Duration = Duration::from_secs(60);

    struct Bench {
        keys: Keyring,
        id: SessionId,
        entropy: InsecureSeededEntropy,
    }

    impl Bench {
        fn new() -> Self {
            let entropy = InsecureSeededEntropy::new(1);
            let keys = Keyring::new(&MasterKey::new(KeyId(1), [7; 32]), &[]);
            Self { keys, id: SessionId::generate(&entropy).unwrap(), entropy }
        }

        fn mint(&self, generation: u32) -> Tag {
            Tag::mint(&self.keys, &self.id, generation, &self.entropy).unwrap()
        }

        fn standing(&self, tags: &Tags, tag: &Tag, at: u64) -> Standing {
            tags.standing(tag, || tag.is_authentic(&self.keys, &self.id), GRACE, Timestamp::from_secs(at))
        }
    }

    #[test]
    fn a_tag_is_authentic_for_its_own_id_only() {
        let bench = Bench::new();
        let tag = bench.mint(5);
        assert_eq!(tag.generation(), 5);
        assert!(tag.is_authentic(&bench.keys, &bench.id));
        assert!(!tag.is_authentic(&bench.keys, &SessionId::from_bytes([0; 32])));
        for at in 0..TAG_BYTES {
            let mut bytes = *tag.as_bytes();
            bytes[at] ^= 1;
            assert!(!Tag::from_bytes(bytes).is_authentic(&bench.keys, &bench.id));
        }
    }

    #[test]
    fn successors_are_distinct() {
        let bench = Bench::new();
        assert_ne!(bench.mint(1), bench.mint(1));
    }

    #[test]
    fn a_tag_lives_from_successor_to_stale() {
        let bench = Bench::new();
        let (first, second, sibling) = (bench.mint(0), bench.mint(1), bench.mint(1));
        let mut tags = Tags::new(first, Timestamp::from_secs(0));
        assert_eq!(bench.standing(&tags, &first, 500), Standing::Head);
        assert_eq!(bench.standing(&tags, &second, 500), Standing::Successor);
        tags.adopt(second, Timestamp::from_secs(500));
        assert_eq!(bench.standing(&tags, &first, 559), Standing::Grace);
        let since = Some(Timestamp::from_secs(500));
        assert_eq!(bench.standing(&tags, &first, 560), Standing::Stale { since });
        // The jar kept the other of two parallel answers: adopted, whatever its age.
        assert_eq!(bench.standing(&tags, &sibling, 9000), Standing::Sibling);
        tags.adopt(sibling, Timestamp::from_secs(9000));
        assert_eq!(bench.standing(&tags, &second, 9001), Standing::Grace);
        assert_eq!(bench.standing(&tags, &bench.mint(9), 9001), Standing::Ahead);
        assert_eq!(bench.standing(&tags, &Tag::from_bytes([1; 16]), 9001), Standing::Forged);
    }

    #[test]
    fn a_successor_that_was_never_presented_ages_with_its_generation() {
        let bench = Bench::new();
        let unseen = bench.mint(1);
        let mut tags = Tags::new(bench.mint(0), Timestamp::from_secs(0));
        tags.adopt(bench.mint(1), Timestamp::from_secs(100));
        tags.adopt(bench.mint(2), Timestamp::from_secs(200));
        assert_eq!(bench.standing(&tags, &unseen, 250), Standing::Grace);
        assert_eq!(bench.standing(&tags, &unseen, 260), Standing::Stale { since: Some(Timestamp::from_secs(200)) });
    }

    #[test]
    fn an_authentic_tag_older_than_all_kept_is_stale_not_forged() {
        let bench = Bench::new();
        let first = bench.mint(0);
        let mut tags = Tags::new(first, Timestamp::from_secs(0));
        for generation in 1..=9 {
            tags.adopt(bench.mint(generation), Timestamp::from_secs(u64::from(generation)));
        }
        assert_eq!(tags.superseded().len(), SUPERSEDED_MAX);
        assert_eq!(bench.standing(&tags, &first, 9), Standing::Stale { since: None });
        assert_eq!(bench.standing(&tags, &bench.mint(0), 9), Standing::Stale { since: None });
    }

    #[test]
    fn there_is_room_for_a_successor_while_nothing_in_its_grace_would_be_forgotten() {
        let bench = Bench::new();
        let at = Timestamp::from_secs;
        let mut tags = Tags::new(bench.mint(0), at(0));
        for generation in 1..=8 {
            assert!(tags.has_room(GRACE, at(u64::from(generation))));
            tags.adopt(bench.mint(generation), at(u64::from(generation)));
        }
        // The first of them was superseded at 1.
        assert!(!tags.has_room(GRACE, at(60)));
        assert!(tags.has_room(GRACE, at(61)));
    }

    #[test]
    fn two_different_stale_tags_in_turn_are_a_fork() {
        let bench = Bench::new();
        let (a, b) = (bench.mint(0), bench.mint(1));
        let mut tags = Tags::new(bench.mint(5), Timestamp::EPOCH);
        assert_eq!(tags.note_stale(a, Timestamp::from_secs(10)), Staleness::Single);
        assert_eq!(tags.note_stale(a, Timestamp::from_secs(20)), Staleness::Single);
        assert_eq!(tags.note_stale(b, Timestamp::from_secs(30)), Staleness::Fork);
        assert_eq!(tags.note_stale(a, Timestamp::from_secs(40)), Staleness::Fork);
        assert_eq!(tags.stale().len(), STALE_MAX);
    }

    #[test]
    fn a_stale_tag_is_forgotten_after_a_day() {
        let bench = Bench::new();
        let mut tags = Tags::new(bench.mint(5), Timestamp::EPOCH);
        assert_eq!(tags.note_stale(bench.mint(0), Timestamp::from_secs(0)), Staleness::Single);
        let later = Timestamp::from_secs(24 * 60 * 60 + 1);
        assert_eq!(tags.note_stale(bench.mint(1), later), Staleness::Single);
    }
}
