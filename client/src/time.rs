//! The one place where clocks are read.
//!
//! Everything else takes a `Now` or a `Clock`. The real clock reads the operating system; the
//! virtual one follows tokio's time, which a test may pause and move by hand, so that a simulated
//! cluster, its clients and their timers all agree on what time it is. Shell.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::time::{Clock, Now, Timestamp};

/// The clock of the operating system: monotonic time since this call, wall time as it is.
///
/// Wall time before 1970 reads as 0.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is where the ban of direct clocks ends")]
pub fn real_clock() -> Clock {
    let origin = std::time::Instant::now();
    Clock::new(move || {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { monotonic: origin.elapsed(), wall: Timestamp(0).plus(since_1970) }
    })
}

/// A clock that follows tokio's time, paused or not: wall time is `wall_origin` plus what has
/// elapsed since this call.
///
/// Call it inside a runtime, whose time it then follows.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is where the ban of direct clocks ends")]
pub fn virtual_clock(wall_origin: Timestamp) -> Clock {
    let origin = tokio::time::Instant::now();
    Clock::new(move || {
        let monotonic = origin.elapsed();
        Now { monotonic, wall: wall_origin.plus(monotonic) }
    })
}

/// The moment `after` from now on tokio's clock, for its timers alone.
#[expect(clippy::disallowed_methods, reason = "this is where the ban of direct clocks ends")]
pub(crate) fn deadline_after(after: Duration) -> tokio::time::Instant {
    // A century instead of an overflow: longer than any process lives.
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    tokio::time::Instant::now() + after.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_virtual_clock_moves_exactly_as_far_as_the_paused_runtime() {
        let clock = virtual_clock(Timestamp(1_000));
        assert_eq!(clock.now(), Now { monotonic: Duration::ZERO, wall: Timestamp(1_000) });
        tokio::time::advance(Duration::from_millis(250)).await;
        let now = Now { monotonic: Duration::from_millis(250), wall: Timestamp(1_250) };
        assert_eq!(clock.now(), now);
    }

    #[test]
    fn the_real_clock_dates_after_2020_and_does_not_go_back() {
        let clock = real_clock();
        let (first, second) = (clock.now(), clock.now());
        assert!(first.wall > Timestamp(1_577_836_800_000));
        assert!(first.monotonic <= second.monotonic);
    }
}
