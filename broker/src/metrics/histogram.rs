//! Durations, counted in fixed buckets.
//!
//! The buckets are wide enough for a page cache's microseconds and a client's patience. Counting is
//! one addition for the bucket and one for the sum; readers see each as of some moment, not all as
//! of the same. Pure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The ends of the buckets, each included, in microseconds; the last bucket has none.
pub(super) const BOUNDS_MICROS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// How often which durations were seen.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

/// A histogram as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// How many fell into each bucket, not into those below it.
    pub(super) counts: [u64; BOUNDS_MICROS.len() + 1],
    pub(super) sum: Duration,
}

impl Histogram {
    /// Counts one.
    pub(super) fn count(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|&bound| bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted. `None`: nothing.
    pub(super) fn read(&self) -> Option<Reading> {
        let counts = std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed));
        let sum = Duration::from_micros(self.sum_micros.load(Ordering::Relaxed));
        counts.iter().any(|&count| count > 0).then_some(Reading { counts, sum })
    }
}
