//! A rate over a sliding window.
//!
//! Amounts are summed in windows of one size; of those, a bounded number is remembered, and the
//! rate is their sum over the time since the oldest began, or over all but the present one when that
//! is longer: so a client that was silent may for a moment do what it saved up. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::Windows;

/// What one client did of late.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// When each window began, in windows since the origin of time, and what was summed in it.
    sums: VecDeque<(u64, f64)>,
}

impl Window {
    /// Adds `amount`, and says how long its client must be silent until the rate is back at `bound`
    /// per second. `bound` is above 0.
    pub(super) fn spend(
        &mut self,
        now: Duration,
        windows: Windows,
        bound: f64,
        amount: f64,
    ) -> Duration {
        let size = windows.size.as_nanos().max(1);
        let present = u64::try_from(now.as_nanos() / size).unwrap_or(u64::MAX);
        let oldest = present.saturating_sub(u64::from(windows.count) - 1);
        while self.sums.front().is_some_and(|&(index, _)| index < oldest) {
            self.sums.pop_front();
        }
        match self.sums.back_mut() {
            Some((index, sum)) if *index == present => *sum += amount,
            Some(_) | None => self.sums.push_back((present, amount)),
        }
        assert!(self.sums.len() <= usize::try_from(windows.count).unwrap_or(usize::MAX));
        let sum: f64 = self.sums.iter().map(|(_, sum)| sum).sum();
        let first = self.sums.front().map_or(present, |&(index, _)| index);
        let since = windows.size.saturating_mul(u32::try_from(first).unwrap_or(u32::MAX));
        let full = windows.size.saturating_mul(windows.count - 1).max(windows.size);
        let elapsed = now.saturating_sub(since).max(full);
        Duration::try_from_secs_f64(sum / bound).unwrap_or(Duration::MAX).saturating_sub(elapsed)
    }
}
