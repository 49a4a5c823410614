//! How long to wait before trying again.
//!
//! Exponential with a cap, and jitter from a seed: clients that failed together must not return
//! together. The sequence follows from the seed alone. Pure.

use std::time::Duration;

use protocol::rng::Rng;

/// The wait is drawn from `100 - JITTER_PERCENT ..= 100 + JITTER_PERCENT` percent of the nominal
/// one, as Kafka's clients do (KIP-580).
const JITTER_PERCENT: u64 = 20;

/// Waits that double from `initial` up to `max`. KIP-580.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    attempt_count: u32,
    rng: Rng,
}

impl Backoff {
    /// Starts at `initial`; no wait exceeds `max` by more than the jitter.
    #[must_use]
    pub fn new(initial: Duration, max: Duration, rng: Rng) -> Self {
        Self { initial, max, attempt_count: 0, rng }
    }

    /// The wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.wait_after(self.attempt_count);
        self.attempt_count = self.attempt_count.saturating_add(1);
        wait
    }

    /// The wait after so many earlier failures, for who counts them per partition.
    pub fn wait_after(&mut self, failure_count: u32) -> Duration {
        let factor = 1_u32.checked_shl(failure_count).unwrap_or(u32::MAX);
        let nominal = self.initial.saturating_mul(factor).min(self.max);
        let percent = 100 - JITTER_PERCENT + self.rng.below(2 * JITTER_PERCENT + 1);
        let micros = u64::try_from(nominal.as_micros()).unwrap_or(u64::MAX / 200);
        Duration::from_micros(micros.saturating_mul(percent) / 100)
    }

    /// Attempts since the last success.
    #[must_use]
    pub fn attempt_count(&self) -> u32 {
        self.attempt_count
    }

    /// An attempt succeeded: the next wait is the initial one again.
    pub fn reset(&mut self) {
        self.attempt_count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(seed: u64) -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(1), Rng::new(seed))
    }

    #[test]
    fn waits_double_up_to_the_cap_within_the_jitter() {
        let mut backoff = backoff(1);
        for nominal in [100, 200, 400, 800, 1_000, 1_000] {
            let wait = u64::try_from(backoff.next_wait().as_millis()).unwrap();
            assert!(wait >= nominal * 8 / 10, "{wait} for {nominal}");
            assert!(wait <= nominal * 12 / 10, "{wait} for {nominal}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(120));
    }

    #[test]
    fn a_thousand_failures_do_not_overflow() {
        let mut backoff = backoff(2);
        assert!((0..1_000).all(|_| backoff.next_wait() <= Duration::from_millis(1_200)));
    }

    #[test]
    fn the_same_seed_waits_the_same() {
        let (mut one, mut other) = (backoff(3), backoff(3));
        assert!((0..20).all(|_| one.next_wait() == other.next_wait()));
    }
}
