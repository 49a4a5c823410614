//! Latencies, counted in buckets whose width grows with the latency: less than 1 % off anywhere,
//! in a fixed amount of memory however many are counted. Pure.

use std::time::Duration;

/// 7: each power of two is divided into 128 buckets, so a bucket is at most 1/128 wide.
const BITS: u32 = 7;
/// One linear stretch for what is below 2 * 128, then 128 buckets for each power of two above.
const BUCKETS: usize = (65 - 7) << 7;

/// A histogram of durations, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: Duration,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, largest: Duration::ZERO }
    }

    /// Counts `latency` `times` times.
    pub(super) fn add(&mut self, latency: Duration, times: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += times;
        self.total += times;
        self.largest = self.largest.max(latency);
    }

    /// How many were counted.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The largest of all.
    pub(super) fn largest(&self) -> Duration {
        self.largest
    }

    /// The latency that `per_mille` of a thousand do not exceed; zero when nothing was counted.
    pub(super) fn quantile(&self, per_mille: u64) -> Duration {
        let wanted = u128::from(self.total) * u128::from(per_mille);
        let mut seen = 0_u128;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += u128::from(count) * 1000;
            if count > 0 && seen >= wanted {
                return Duration::from_nanos(upper_end(index)).min(self.largest);
            }
        }
        self.largest
    }
}

/// The bucket of a latency.
fn bucket(nanos: u64) -> usize {
    let shift = nanos.checked_ilog2().unwrap_or(0).saturating_sub(BITS);
    let within = usize::try_from(nanos >> shift).expect("at most 2 * 128 after the shift");
    let power = usize::try_from(shift).expect("at most 64");
    (power << BITS) + within
}

/// The largest latency that falls into a bucket.
fn upper_end(index: usize) -> u64 {
    let power = (index >> BITS).saturating_sub(1);
    let within = u64::try_from(index - (power << BITS)).unwrap_or(u64::MAX);
    let shift = u32::try_from(power).unwrap_or(u32::MAX);
    (within + 1).checked_shl(shift).map_or(u64::MAX, |end| end.wrapping_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_below_the_end_of_its_bucket_and_less_than_a_percent_below() {
        for power in 0..64 {
            for nanos in [1_u64 << power, (1 << power) + (1 << power) / 3, u64::MAX >> power] {
                let end = upper_end(bucket(nanos));
                assert!(nanos <= end, "{nanos} above {end}");
                assert!(end - nanos <= nanos / 100 + 1, "{nanos} far below {end}");
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_counted() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(500), Duration::ZERO);
        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros), 1);
        }
        let near = |per_mille, micros: u64| {
            let off = histogram.quantile(per_mille).abs_diff(Duration::from_micros(micros));
            assert!(off <= Duration::from_micros(micros / 100 + 1), "{per_mille}: off by {off:?}");
        };
        near(500, 500);
        near(990, 990);
        near(999, 999);
        assert_eq!(histogram.quantile(1000), Duration::from_micros(1000));
        assert_eq!(histogram.total(), 1000);
    }
}
