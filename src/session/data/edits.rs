//! What one request changes, and how it goes together with what others changed meanwhile.
//!
//! Each key is a unit of its own. A request that wrote a key is at odds with another only if that one wrote the same key
//! since: then nothing of the request is kept. If both wrote the same they are not, unless the request had looked at the value
//! before: what it did may rest on it, as with a voucher that is taken out and goes to one of two. Whoever says *how* a value
//! changes and not what it becomes (a [`Step`]) is never at odds: the step is taken again over what the other one wrote.
//!
//! Values are compared, not versions: a key that somebody changed and changed back is as it was, and nothing that is
//! computed from it is wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Data;

/// A step could not be taken: a value is of another type than the step expects, or can not be written as JSON.
#[derive(Debug, thiserror::Error)]
#[error("the value under `{key}` can not be changed: {source}")]
pub struct Failed {
    /// The key.
    pub key: Box<str>,
    /// Why.
    #[source]
    pub source: serde_json::Error,
}

/// How a value changes: from its JSON text, or nothing, to another, or nothing. It may be taken several times.
pub type Step = Arc<dyn Fn(Option<&str>) -> Result<Option<Box<str>>, serde_json::Error> + Send + Sync>;

/// Why the changes of a request can not be kept.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Another request wrote these keys too.
    #[error("another request wrote the same keys of the session meanwhile: {}", .0.join(", "))]
    Conflict(Vec<Box<str>>),
    /// A step does not fit to what another request wrote.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// Together they are larger than a session may be.
    #[error(
        "the session would take {bytes} bytes, and {max} are the most that it may: keep large things elsewhere and their keys here"
    )]
    TooLarge {
        /// How many it would take.
        bytes: usize,
        /// How many it may.
        max: usize,
    },
}

/// The changes of one request over what it read.
#[derive(Clone)]
pub struct Edits {
    base: Arc<Data>,
    changes: BTreeMap<Box<str>, Change>,
    /// Bytes that all of it takes.
    bytes: usize,
    /// The keys that were looked at.
    seen: Seen,
}

/// Keys, as bits: of two keys with one bit both are taken to be there.
#[derive(Clone, Copy, Default)]
struct Seen(u64);

impl Seen {
    const ALL: Self = Self(u64::MAX);

    const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    fn of(key: &str) -> Self {
        Self(1 << (key.bytes().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 64))
    }

    fn has(self, key: &str) -> bool {
        self.0 & Self::of(key).0 != 0
    }
}

#[derive(Clone)]
struct Change {
    /// What is there now.
    now: Option<Box<str>>,
    /// What was there when it was written, if that is not what the others were read from.
    was: Option<Was>,
    how: How,
}

/// A value, or that there is none.
type Was = Option<Box<str>>;

#[derive(Clone)]
enum How {
    /// It was written or taken away, whatever it was before.
    Put,
    /// It was changed, from what it was before.
    Steps(Vec<Step>),
}

impl Edits {
    /// No changes yet.
    pub fn new(base: Arc<Data>) -> Self {
        Self { bytes: base.bytes(), base, changes: BTreeMap::new(), seen: Seen::default() }
    }

    /// The JSON text under a key, as it is now.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self.changes.get(key) {
            Some(change) => change.now.as_deref(),
            None => self.base.get(key),
        }
    }

    /// The same for somebody who may do something because of it.
    pub fn read(&mut self, key: &str) -> Option<&str> {
        // What it wrote itself it knows.
        if !self.changes.get(key).is_some_and(|change| matches!(change.how, How::Put)) {
            self.seen.add(Seen::of(key));
        }
        self.get(key)
    }

    /// All of it, for somebody who may do something because of it.
    pub const fn read_all(&mut self) -> &Self {
        self.seen = Seen::ALL;
        self
    }

    /// The keys there are now, in their order.
    pub fn keys(&self) -> Vec<Box<str>> {
        let mut keys: Vec<Box<str>> =
            self.base.keys().filter(|key| !self.changes.contains_key(*key)).map(Into::into).collect();
        keys.extend(self.changes.iter().filter(|(_, change)| change.now.is_some()).map(|(key, _)| key.clone()));
        keys.sort_unstable();
        keys
    }

    /// Whether nothing is there now.
    pub fn is_empty(&self) -> bool {
        self.changes.values().all(|change| change.now.is_none())
            && self.base.keys().all(|key| self.changes.contains_key(key))
    }

    /// Whether anything is other than what was read.
    pub fn is_modified(&self) -> bool {
        self.changes.iter().any(|(key, change)| !is_same(change.now.as_deref(), self.base_of(key, change)))
    }

    /// What a change was made from.
    fn base_of<'a>(&'a self, key: &str, change: &'a Change) -> Option<&'a str> {
        change.was.as_ref().map_or_else(|| self.base.get(key), Option::as_deref)
    }

    /// Bytes that it would take with this text under that key.
    pub fn bytes_with(&self, key: &str, text: &str) -> usize {
        let old = self.get(key).map_or(0, |old| super::cost(key, old));
        self.bytes.saturating_sub(old) + super::cost(key, text)
    }

    /// Writes a text under a key, or takes it away.
    pub fn put(&mut self, key: &str, text: Option<Box<str>>) {
        self.set(key, text, self.was(key), How::Put);
    }

    /// Changes the value under a key. The step was tried: `now` is what came of it.
    pub fn step(&mut self, key: &str, step: Step, now: Option<Box<str>>) {
        let how = match self.changes.get(key).map(|change| &change.how) {
            // What this request wrote itself it may also change, and it stays written by it.
            Some(How::Put) => How::Put,
            Some(How::Steps(steps)) => How::Steps(steps.iter().cloned().chain([step]).collect()),
            None => How::Steps(vec![step]),
        };
        self.set(key, now, self.was(key), how);
    }

    fn was(&self, key: &str) -> Option<Was> {
        self.changes.get(key).and_then(|change| change.was.clone())
    }

    /// Takes every value away that is there.
    pub fn clear(&mut self) {
        for key in self.keys() {
            self.put(&key, None);
        }
    }

    /// What is left of the changes after some of them were written, over what is stored since.
    ///
    /// Another request may have written the same keys meanwhile. So what is left is still compared with what was there when it
    /// was made, and steps are taken again over what is stored when they are written: not here, since a step may look at the
    /// session, which is locked.
    #[must_use]
    pub fn after(&self, written: &Self, base: Arc<Data>) -> Self {
        let mut left = Self { seen: self.seen, ..Self::new(base) };
        for (key, change) in &self.changes {
            let done = written.changes.get(key);
            let was = done.map_or_else(|| self.base_of(key, change).map(Into::into), |done| done.now.clone());
            let how = match (&change.how, done.map(|done| &done.how)) {
                (How::Steps(steps), Some(How::Steps(done))) if steps.len() > done.len() => {
                    How::Steps(steps.iter().skip(done.len()).cloned().collect())
                }
                (How::Steps(steps), None) => How::Steps(steps.clone()),
                _ if done.is_none() || was != change.now => How::Put,
                _ => continue,
            };
            left.set(key, change.now.clone(), Some(was), how);
        }
        left
    }

    fn set(&mut self, key: &str, now: Option<Box<str>>, was: Option<Was>, how: How) {
        let old = self.get(key).map_or(0, |old| super::cost(key, old));
        self.bytes = self.bytes.saturating_sub(old) + now.as_ref().map_or(0, |now| super::cost(key, now));
        self.changes.insert(key.into(), Change { now, was, how });
    }

    /// The changes over what is stored by now.
    ///
    /// # Errors
    /// [`Lost`]; nothing of the request is to be kept then.
    pub fn over(&self, stored: &Data, bytes_max: usize) -> Result<Data, Lost> {
        let mut writes: BTreeMap<&str, Option<Cow<'_, str>>> = BTreeMap::new();
        let mut conflicts = Vec::new();
        for (key, change) in &self.changes {
            let (base, stored) = (self.base_of(key, change), stored.get(key));
            match &change.how {
                _ if is_same(stored, base) => {
                    writes.insert(key, change.now.as_deref().map(Cow::Borrowed));
                }
                // What was written here is what was read, which is no change; or both wrote the same.
                How::Put if is_same(change.now.as_deref(), base) => {}
                How::Put if is_same(change.now.as_deref(), stored) && !self.seen.has(key) => {}
                How::Put => conflicts.push(key.clone()),
                How::Steps(steps) => {
                    let now = all(steps, stored).map_err(|source| Failed { key: key.clone(), source })?;
                    writes.insert(key, now.map(|now| Cow::Owned(now.into())));
                }
            }
        }
        if !conflicts.is_empty() {
            return Err(Lost::Conflict(conflicts));
        }
        let merged = stored.with(&writes);
        // What others made too large is not this request's fault, unless it made it larger.
        let bytes = merged.bytes();
        if bytes > bytes_max && bytes > stored.bytes() {
            return Err(Lost::TooLarge { bytes, max: bytes_max });
        }
        Ok(merged)
    }
}

impl fmt::Debug for Edits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edits").field("base", &self.base).field("changed", &self.changes.keys()).finish()
    }
}

/// Takes steps one after the other.
fn all(steps: &[Step], from: Option<&str>) -> Result<Option<Box<str>>, serde_json::Error> {
    steps.iter().try_fold(from.map(Into::into), |now: Option<Box<str>>, step| step(now.as_deref()))
}

/// Whether two texts are one value: maps without an order are written in any.
fn is_same(one: Option<&str>, other: Option<&str>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    // A value of `serde_json` holds large numbers in part.
    let is_exact = |text: &str| text.as_bytes().split(|byte| !byte.is_ascii_digit()).all(|digits| digits.len() < 16);
    one == other || one.len() == other.len() && is_exact(one) && value(one).is_some_and(|one| value(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1000;

    fn data(pairs: &[(&str, &str)]) -> Data {
        Data::new().with(&pairs.iter().map(|(key, text)| (*key, Some((*text).into()))).collect())
    }

    fn edits(pairs: &[(&str, &str)]) -> Edits {
        Edits::new(Arc::new(data(pairs)))
    }

    fn add(number: i64) -> Step {
        Arc::new(move |text| {
            let old: i64 = text.map_or(Ok(0), serde_json::from_str)?;
            Ok(Some((old + number).to_string().into()))
        })
    }

    /// Which keys another request wrote too.
    fn conflict(edits: &Edits, stored: &[(&str, &str)]) -> String {
        match edits.over(&data(stored), MAX) {
            Err(Lost::Conflict(keys)) => keys.join(" "),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_requests_that_write_different_keys_both_win() {
        let mut one = edits(&[("a", "1"), ("b", "1")]);
        one.put("a", Some("2".into()));
        assert_eq!(
            one.over(&data(&[("a", "1"), ("b", "3"), ("c", "4")]), MAX).unwrap(),
            data(&[("a", "2"), ("b", "3"), ("c", "4")])
        );
        one.put("b", None);
        assert_eq!(conflict(&one, &[("a", "1"), ("b", "3")]), "b");
    }

    #[test]
    fn the_same_key_is_a_conflict_unless_both_wrote_the_same() {
        let mut one = edits(&[("a", "1")]);
        one.put("a", Some("2".into()));
        one.put("new", Some("{\"x\":1,\"y\":2}".into()));
        assert_eq!(conflict(&one, &[("a", "3")]), "a");
        assert_eq!(conflict(&one, &[("new", "5")]), "a new", "taken away is written too");
        let merged = one.over(&data(&[("a", "2"), ("new", "{\"y\":2,\"x\":1}")]), MAX).unwrap();
        assert_eq!(merged.get("a"), Some("2"));
        let mut gone = edits(&[("a", "1")]);
        gone.put("a", None);
        assert!(gone.over(&Data::new(), MAX).unwrap().is_empty());
    }

    #[test]
    fn what_was_looked_at_before_it_was_written_is_a_conflict_though_both_wrote_the_same() {
        let mut one = edits(&[("a", "1"), ("b", "1")]);
        assert_eq!(one.read("a"), Some("1"));
        one.put("a", None);
        one.put("b", None);
        // What it wrote itself it may look at.
        assert_eq!(one.read("b"), None);
        assert_eq!(conflict(&one, &[]), "a");
        // Somewhere else something was changed.
        assert_eq!(one.over(&data(&[("a", "1"), ("c", "1")]), MAX).unwrap(), data(&[("c", "1")]));
        // That none is there is seen too, and stays so when a part has been written.
        let mut none = edits(&[]);
        assert!(none.read_all().is_empty());
        let written = none.clone();
        none.put("claimed", Some("true".into()));
        assert_eq!(conflict(&none, &[("claimed", "true")]), "claimed");
        let left = none.after(&written, Arc::new(Data::new()));
        assert_eq!(conflict(&left, &[("claimed", "true")]), "claimed");
    }

    #[test]
    fn a_step_is_taken_again_over_what_another_wrote() {
        let mut one = edits(&[("n", "1")]);
        one.step("n", add(2), Some("3".into()));
        one.step("n", add(4), Some("7".into()));
        assert_eq!(one.over(&data(&[("n", "1")]), MAX).unwrap().get("n"), Some("7"));
        assert_eq!(one.over(&data(&[("n", "100")]), MAX).unwrap().get("n"), Some("106"));
        // That another request came to the same number does not mean that it counted this one.
        assert_eq!(one.over(&data(&[("n", "7")]), MAX).unwrap().get("n"), Some("13"));
        assert_eq!(one.over(&Data::new(), MAX).unwrap().get("n"), Some("6"));
        assert!(matches!(one.over(&data(&[("n", "\"text\"")]), MAX), Err(Lost::Failed(_))));
        // A step over what the request wrote itself is a part of writing it.
        let mut put = edits(&[("n", "1")]);
        put.put("n", Some("5".into()));
        put.step("n", add(1), Some("6".into()));
        assert_eq!(conflict(&put, &[("n", "2")]), "n");
    }

    #[test]
    fn what_is_as_it_was_is_no_change() {
        let mut one = edits(&[("a", "1")]);
        assert!(!one.is_modified());
        one.put("a", Some("2".into()));
        assert!(one.is_modified());
        one.put("a", Some("1".into()));
        one.put("b", Some("1".into()));
        one.put("b", None);
        assert!(!one.is_modified());
        assert_eq!(one.over(&data(&[("a", "9")]), MAX).unwrap().get("a"), Some("9"));
        one.clear();
        assert!(one.is_empty() && one.is_modified());
    }

    #[test]
    fn what_was_changed_while_it_was_written_is_still_to_be_written() {
        let mut one = edits(&[("n", "1")]);
        one.step("n", add(1), Some("2".into()));
        one.put("a", Some("1".into()));
        one.put("b", Some("1".into()));
        let written = one.clone();
        one.step("n", add(5), Some("7".into()));
        one.put("b", Some("2".into()));
        one.put("c", Some("3".into()));
        let stored = data(&[("n", "12"), ("a", "1"), ("b", "1")]);
        let left = one.after(&written, Arc::new(stored.clone()));
        let merged = left.over(&stored, MAX).unwrap();
        assert_eq!(["n", "a", "b", "c"].map(|key| merged.get(key).unwrap()), ["17", "1", "2", "3"]);
        let merged = left.over(&data(&[("n", "20"), ("a", "1"), ("b", "1")]), MAX).unwrap();
        assert_eq!(merged.get("n"), Some("25"));
    }

    #[test]
    fn what_another_wrote_while_it_was_written_is_not_written_over() {
        let mut one = edits(&[("n", "1"), ("kept", "1")]);
        one.step("n", add(1), Some("2".into()));
        let written = one.clone();
        one.put("kept", Some("2".into()));
        one.put("n", Some("5".into()));
        let left = one.after(&written, Arc::new(data(&[("n", "12"), ("kept", "9")])));
        assert_eq!(conflict(&left, &[("n", "12"), ("kept", "9")]), "kept n");
        // As it was, there is none.
        let merged = left.over(&data(&[("n", "2"), ("kept", "1")]), MAX).unwrap();
        assert_eq!([merged.get("n"), merged.get("kept")], [Some("5"), Some("2")]);
        // Nor is it forgotten by writing once more.
        let mut again = left;
        again.put("kept", Some("3".into()));
        assert_eq!(conflict(&again, &[("n", "2"), ("kept", "9")]), "kept");
        // A step that does not fit to what is stored now is told when it is written.
        let mut one = edits(&[]);
        one.step("n", add(1), Some("1".into()));
        let left = one.after(&edits(&[]), Arc::new(data(&[("n", "\"text\"")])));
        assert!(left.is_modified());
        assert!(matches!(left.over(&data(&[("n", "\"text\"")]), MAX), Err(Lost::Failed(_))));
    }

    #[test]
    fn large_numbers_are_told_apart() {
        let mut one = edits(&[("n", "1000000000000000000000")]);
        one.put("n", Some("1000000000000000000001".into()));
        assert!(one.is_modified());
    }

    #[test]
    fn the_size_is_kept_within_its_limit() {
        let mut grown = edits(&[]);
        for _ in 0..5 {
            let text: Box<str> = "7".repeat(100).into();
            grown.step("n", add(1), Some(text));
        }
        assert_eq!(grown.bytes_with("a", "1"), 111, "each step replaces the one before");
        let mut one = edits(&[("a", "1")]);
        let text: Box<str> = "7".repeat(100).into();
        assert_eq!(one.bytes_with("a", &text), 105);
        one.put("a", Some(text));
        assert_eq!(one.bytes_with("b", "1"), 111);
        assert!(matches!(one.over(&data(&[("a", "1")]), 104), Err(Lost::TooLarge { bytes: 105, max: 104 })));
        // A session that a lower limit finds too large can be made smaller.
        let mut large = edits(&[("a", "1234567890"), ("b", "1234567890")]);
        large.put("a", None);
        assert_eq!(large.over(&data(&[("a", "1234567890"), ("b", "1234567890")]), 3).unwrap().len(), 1);
    }

    proptest! {
        /// Whatever two requests write at once: if both are kept, each key has what one of its writers wrote.
        #[test]
        fn no_update_is_lost(
            base in proptest::collection::btree_map("[a-c]", 0u8..3, 0..3),
            ours in proptest::collection::btree_map("[a-c]", proptest::option::of(0u8..3), 0..3),
            theirs in proptest::collection::btree_map("[a-c]", proptest::option::of(0u8..3), 0..3),
        ) {
            let read = base.iter().map(|(key, value)| (key.as_str(), Some(value.to_string().into())));
            let read = Data::new().with(&read.collect());
            let write = |changes: &BTreeMap<String, Option<u8>>| {
                let mut edits = Edits::new(Arc::new(read.clone()));
                changes.iter().for_each(|(key, value)| edits.put(key, value.map(|value| value.to_string().into())));
                edits
            };
            let stored = write(&theirs).over(&read, MAX).unwrap();
            if let Ok(merged) = write(&ours).over(&stored, MAX) {
                for key in ["a", "b", "c"] {
                    let (was, is) = (read.get(key).map(str::to_owned), merged.get(key).map(str::to_owned));
                    let wrote = |changes: &BTreeMap<String, Option<u8>>| {
                        changes.get(key).map(|value| value.map(|value| value.to_string())).filter(|new| *new != was)
                    };
                    let expected = wrote(&ours).or_else(|| wrote(&theirs)).unwrap_or(was.clone());
                    prop_assert_eq!(&is, &expected);
                    if let (Some(ours), Some(theirs)) = (wrote(&ours), wrote(&theirs)) {
                        prop_assert_eq!(ours, theirs);
                    }
                }
            }
        }
    }
}
