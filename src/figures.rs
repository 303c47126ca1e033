//! Counts that many threads add to and somebody reads now and then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest times of the buckets of a histogram, in microseconds; what took longer is in one more.
pub const BUCKETS_MICROS: [u64; 10] = [100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// How many buckets there are.
pub const BUCKETS: usize = BUCKETS_MICROS.len() + 1;

/// Cells that counts are spread over.
pub(crate) const CELLS: usize = 8;

/// Something on memory that nothing else is on.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// How often something took how long.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Histogram {
    /// It took this long once more.
    pub(crate) fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        count(&self.buckets, BUCKETS_MICROS.iter().position(|most| micros <= *most).unwrap_or(BUCKETS - 1));
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Adds what it has counted so far to `times`.
    pub(crate) fn add_to(&self, times: &mut Times) {
        add_to(&self.buckets, &mut times.buckets);
        times.sum += Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
    }
}

/// What a histogram has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// How often it took up to each of [`BUCKETS_MICROS`] and longer than the one before, and how often it took longer than all.
    pub buckets: [u64; BUCKETS],
    /// How long all of it took.
    pub sum: Duration,
}

/// `N` counts that all threads add to: in several cells, so that they do not fetch the same memory from each other.
#[derive(Debug)]
pub(crate) struct Spread<const N: usize>([Apart<[AtomicU64; N]>; CELLS]);

impl<const N: usize> Default for Spread<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Apart(std::array::from_fn(|_| AtomicU64::new(0)))))
    }
}

impl<const N: usize> Spread<N> {
    /// One more at this place, which is one of `N`. `by` chooses the cell: the same thread should give the same number, as a
    /// client's requests do.
    pub(crate) fn add(&self, by: u64, place: usize) {
        if let Some(Apart(counts)) = usize::try_from(by % CELLS as u64).ok().and_then(|cell| self.0.get(cell)) {
            count(counts, place);
        }
    }

    /// All counts so far.
    pub(crate) fn sums(&self) -> [u64; N] {
        let mut sums = [0; N];
        self.0.iter().for_each(|Apart(counts)| add_to(counts, &mut sums));
        sums
    }
}

/// One more at this place, if there is such a count.
pub(crate) fn count(counts: &[AtomicU64], place: usize) {
    if let Some(count) = counts.get(place) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// One more of this one, whose count stands where it stands among all.
pub(crate) fn count_of<T: PartialEq>(counts: &[AtomicU64], all: &[T], one: &T) {
    if let Some(place) = all.iter().position(|is| is == one) {
        count(counts, place);
    }
}

/// Adds each count to its sum.
pub(crate) fn add_to(counts: &[AtomicU64], sums: &mut [u64]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.load(Ordering::Relaxed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_first_bucket_that_they_fit_in() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 5_000_000, 5_000_001] {
            histogram.add(Duration::from_micros(micros));
        }
        let mut times = Times::default();
        histogram.add_to(&mut times);
        assert_eq!(times.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(times.sum, Duration::from_micros(10_000_202));
        histogram.add_to(&mut times);
        assert_eq!(times.buckets, [4, 2, 0, 0, 0, 0, 0, 0, 0, 2, 2]);
    }

    #[test]
    fn what_is_added_anywhere_is_in_the_sum() {
        let counts = Spread::<3>::default();
        for by in 0..100 {
            counts.add(by, usize::try_from(by % 3).unwrap());
        }
        counts.add(u64::MAX, 1);
        // There is no such count.
        counts.add(0, 3);
        assert_eq!(counts.sums(), [34, 34, 33]);
    }
}
