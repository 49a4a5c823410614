//! When records are due, and waking up for it.
//!
//! The runtime's timers tick in milliseconds, too coarse for latencies of tenths of one: a thread
//! of its own waits here and wakes the generator. A generator that is late finds several records
//! due at once, and their latency counts from when they were due. Shell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use protocol::time::Clock;
use tokio::sync::Notify;

/// Beats are not closer than this: more records are due at each instead.
const BEAT_MIN: Duration = Duration::from_micros(100);

/// The times at which records are due: number 0 at the start, then one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start: Duration,
    rate: f64,
}

impl Schedule {
    /// `rate` records per second from `start` on.
    pub(super) fn new(start: Duration, rate: f64) -> Self {
        Self { start, rate }
    }

    /// When record `number` is due.
    #[expect(clippy::as_conversions, reason = "there is no other way from u64 to f64")]
    pub(super) fn due(&self, number: u64) -> Duration {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many records are due within `time`.
    #[expect(clippy::as_conversions, reason = "there is no other way from f64 to u64")]
    pub(super) fn count(rate: f64, time: Duration) -> u64 {
        (rate * time.as_secs_f64()).ceil() as u64
    }
}

/// Rings a bell when records are due, until it is dropped.
#[derive(Debug)]
pub(super) struct Metronome {
    bell: Arc<Notify>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Metronome {
    /// Begins to beat `rate` times a second.
    pub(super) fn start(clock: Clock, rate: f64) -> std::io::Result<Self> {
        let bell = Arc::new(Notify::new());
        let is_over = Arc::new(AtomicBool::new(false));
        let interval = Duration::from_secs_f64(1.0 / rate).max(BEAT_MIN);
        let beating = beat(clock, interval, Arc::clone(&bell), Arc::clone(&is_over));
        let thread = thread::Builder::new().name("metronome".to_owned()).spawn(beating)?;
        Ok(Self { bell, is_over, thread: Some(thread) })
    }

    /// Resolves at the next beat, at once when one was missed.
    pub(super) async fn beat(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic; were it to, there would be nothing to do about it here.
            let _ = thread.join();
        }
    }
}

fn beat(
    clock: Clock,
    interval: Duration,
    bell: Arc<Notify>,
    is_over: Arc<AtomicBool>,
) -> impl FnOnce() + Send {
    move || {
        let mut due = clock.now().monotonic;
        while !is_over.load(Ordering::Relaxed) {
            let now = clock.now().monotonic;
            if now < due {
                thread::park_timeout(due - now);
                continue;
            }
            bell.notify_one();
            // Missed beats are not made up for: whoever is woken sees all that is due.
            due = (due + interval).max(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_one_after_the_other_from_the_start() {
        let schedule = Schedule::new(Duration::from_secs(5), 1000.0);
        assert_eq!(schedule.due(0), Duration::from_secs(5));
        assert_eq!(schedule.due(1500), Duration::from_millis(6500));
        assert_eq!(Schedule::count(1000.0, Duration::from_millis(1500)), 1500);
    }
}
