//! Counting values by powers of two: what openraft needs of the crate of this name, and no more.
//!
//! The original computes, when the first histogram is made, tables for sixteen widths of buckets:
//! 27 MB that stay in memory as long as the process, three quarters of an idle broker, for
//! histograms of batch sizes that nobody reads unless openraft's `runtime-stats` is on. This one
//! has a bucket per power of two and no tables. Root Cargo.toml puts it in the other's place; when
//! the original makes its tables one by one, this can go. Pure.

use std::fmt;
use std::marker::PhantomData;

/// One for zero, one for each power of two.
const BUCKETS: usize = 65;

/// How often values of each magnitude were recorded. `T` names periods in the original; unused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    periods: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// A histogram of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: [0; BUCKETS], periods: PhantomData }
    }

    /// Counts `value`.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let bucket = value.checked_ilog2().map_or(Some(0), |power| usize::try_from(power + 1).ok());
        if let Some(count) = bucket.and_then(|it| self.counts.get_mut(it)) {
            *count = count.saturating_add(times);
        }
    }

    /// How many values were recorded.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// The usual percentiles, each rounded up to the end of its power of two.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.quantile(1),
            p1: self.quantile(10),
            p5: self.quantile(50),
            p10: self.quantile(100),
            p50: self.quantile(500),
            p90: self.quantile(900),
            p99: self.quantile(990),
            p99_9: self.quantile(999),
        }
    }

    fn quantile(&self, per_mille: u128) -> u64 {
        let wanted = u128::from(self.total()) * per_mille;
        let mut seen = 0;
        for (power, &count) in (0_u32..).zip(&self.counts) {
            seen += u128::from(count) * 1000;
            if count > 0 && wanted <= seen {
                return 1_u64.checked_shl(power).map_or(u64::MAX, |end| end - 1);
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Percentiles of what was recorded; all zero when nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it: the n-th percentile")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, p99_9, .. } = self;
        write!(f, "samples: {samples}, p50: {p50}, p90: {p90}, p99: {p99}, p99.9: {p99_9}")
    }
}

/// Several histograms under one another; here a line of percentiles for each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    lines: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// A chart of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same chart with another histogram.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "its users call it so")]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.lines.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_end_of_the_power_of_two_in_which_it_lies() {
        let mut histogram: Histogram = Histogram::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        histogram.record_n(0, 5);
        histogram.record_n(5, 90);
        histogram.record_n(u64::MAX, 5);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p50, stats.p99), (100, 0, 7, u64::MAX));
    }
}
