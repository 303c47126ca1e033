//! When records may be removed: buckets of time, in order, holding the short names of records.
//!
//! A record stands in one bucket, at or before the time it may be removed. When that time moves on, which every use of a
//! session does, nothing is done here: whoever empties the bucket looks at the record and, if it is not time yet, puts it
//! where it belongs now. So a use costs nothing, and a look is paid for by at least one use.

use std::collections::{BTreeMap, VecDeque};

use crate::clock::Timestamp;

/// Width of a bucket in milliseconds, about a second: what is due within the present one is looked at at every sweep.
const FINE: u64 = 1 << 10;
/// Width of the buckets for times far ahead, about 70 minutes: long-lived sessions would have a bucket each otherwise.
const COARSE: u64 = 1 << 22;

/// Buckets of short names, earliest first.
#[derive(Debug, Default)]
pub(super) struct Wheel {
    buckets: BTreeMap<u64, VecDeque<u64>>,
    entries: usize,
}

/// A bucket that was taken out.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Where it begins.
    pub(super) start: u64,
    /// Short names of the records in it.
    pub(super) names: VecDeque<u64>,
}

impl Bucket {
    /// Whether it reaches beyond `now`: something in it may not be due yet.
    pub(super) const fn is_present(&self, now: Timestamp) -> bool {
        self.start.saturating_add(FINE) > now.as_millis()
    }

    /// The time to reckon from when one of its records goes to a later bucket.
    pub(super) fn from(&self, now: Timestamp) -> Timestamp {
        now.max(Timestamp::from_millis(self.start))
    }
}

/// The beginning of the bucket for what is due at `due`, seen from `from`: a wide one if that begins later than `from`,
/// otherwise a narrow one. A name moves at most once from a wide bucket to a narrow one for each time it is put in.
pub(super) fn bucket(due: Timestamp, from: Timestamp) -> u64 {
    let due = due.as_millis();
    let coarse = due & !(COARSE - 1);
    if coarse > from.as_millis() { coarse } else { due & !(FINE - 1) }
}

impl Wheel {
    /// How many names are in it, those that are no longer good included.
    pub(super) const fn entries(&self) -> usize {
        self.entries
    }

    /// Puts a name into the bucket that begins at `start`.
    pub(super) fn put(&mut self, start: u64, name: u64) {
        self.buckets.entry(start).or_default().push_back(name);
        self.entries += 1;
    }

    /// Takes the earliest bucket if it begins at `now` or before.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Bucket> {
        let first = self.buckets.first_entry().filter(|first| *first.key() <= now.as_millis())?;
        let (start, names) = first.remove_entry();
        self.entries -= names.len();
        Some(Bucket { start, names })
    }

    /// Puts back what is left of a bucket, in front of what came to it meanwhile.
    pub(super) fn put_back(&mut self, mut bucket: Bucket) {
        if bucket.names.is_empty() {
            return;
        }
        self.entries += bucket.names.len();
        let place = self.buckets.entry(bucket.start).or_default();
        bucket.names.append(place);
        *place = bucket.names;
    }

    /// Takes the first name of the earliest bucket, and where that begins.
    pub(super) fn pop(&mut self) -> Option<(u64, u64)> {
        let mut first = self.buckets.first_entry()?;
        let start = *first.key();
        let name = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        self.entries = self.entries.saturating_sub(1);
        name.map(|name| (start, name))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.buckets.clear();
        self.entries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_far_ahead_stands_in_a_wide_bucket_at_or_before_its_time() {
        let check = |due: u64, from: u64, expected: u64| {
            assert_eq!(bucket(Timestamp::from_millis(due), Timestamp::from_millis(from)), expected);
        };
        check(5000, 0, 4 * FINE);
        check(COARSE + 5000, 0, COARSE);
        check(COARSE + 5000, COARSE - 1, COARSE);
        check(COARSE + 5000, COARSE, COARSE + 4 * FINE);
        check(0, 0, 0);
        check(u64::MAX, 0, !(COARSE - 1));
    }

    #[test]
    fn names_come_out_in_order_of_time_and_then_of_arrival() {
        let mut wheel = Wheel::default();
        for (start, name) in [(2 * FINE, 1), (FINE, 2), (2 * FINE, 3)] {
            wheel.put(start, name);
        }
        let out: Vec<_> = std::iter::from_fn(|| wheel.pop()).collect();
        assert_eq!(out, [(FINE, 2), (2 * FINE, 1), (2 * FINE, 3)]);
        assert_eq!(wheel.entries(), 0);
    }

    #[test]
    fn a_bucket_put_back_stands_in_front() {
        let mut wheel = Wheel::default();
        wheel.put(0, 1);
        wheel.put(0, 2);
        let mut taken = wheel.take_due(Timestamp::from_millis(0)).unwrap();
        assert_eq!(taken.names.pop_front(), Some(1));
        wheel.put(0, 3);
        wheel.put_back(taken);
        assert_eq!(wheel.entries(), 2);
        let out: Vec<_> = std::iter::from_fn(|| wheel.pop()).map(|(_, name)| name).collect();
        assert_eq!(out, [2, 3]);
        assert!(wheel.take_due(Timestamp::from_millis(u64::MAX)).is_none());
    }
}
