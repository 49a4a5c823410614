//! Windows of event time, as arithmetic.
//!
//! Windows are aligned to 0 and half open: a record of time `t` is in the windows that start at or
//! before `t` and end after it. No window starts before 0. A window closes when stream time reaches
//! its end plus the grace period. Pure.

use std::fmt;
use std::time::Duration;

use protocol::time::Timestamp;

/// Windows of one length, end to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tumbling {
    size: Duration,
    grace: Duration,
}

impl Tumbling {
    /// Windows of length `size`, without grace.
    #[must_use]
    pub fn of(size: Duration) -> Self {
        Self { size, grace: Duration::ZERO }
    }

    /// Accepts records that come up to this much late.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

/// Windows of one length that start at regular intervals and overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hopping {
    size: Duration,
    advance: Duration,
    grace: Duration,
}

impl Hopping {
    /// Windows of length `size`, one starting every `advance`; `advance` is at most `size`.
    #[must_use]
    pub fn of(size: Duration, advance: Duration) -> Self {
        Self { size, advance, grace: Duration::ZERO }
    }

    /// Accepts records that come up to this much late.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

/// A way to divide time.
pub trait Windows {
    /// The division in numbers.
    ///
    /// # Errors
    /// With what is wrong with it; reported when the topology is built.
    fn spec(&self) -> Result<WindowSpec, &'static str>;
}

impl Windows for Tumbling {
    fn spec(&self) -> Result<WindowSpec, &'static str> {
        WindowSpec::new(self.size, self.size, self.grace)
    }
}

impl Windows for Hopping {
    fn spec(&self) -> Result<WindowSpec, &'static str> {
        WindowSpec::new(self.size, self.advance, self.grace)
    }
}

/// When a windowed aggregation speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emit {
    /// At every record, with the value so far.
    #[default]
    OnUpdate,
    /// Once per window, when it closes, with its final value. KIP-825.
    OnClose,
}

impl fmt::Display for Emit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnUpdate => "emitted on update",
            Self::OnClose => "emitted on close",
        })
    }
}

/// A key within a window.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Windowed<K> {
    /// The key.
    pub key: K,
    /// The first moment of the window.
    pub start: Timestamp,
    /// The first moment after the window.
    pub end: Timestamp,
}

/// A division of time: lengths in milliseconds, within 2^53 so that no sum overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    size_ms: i64,
    advance_ms: i64,
    grace_ms: i64,
}

/// 2^53 ms: 285,000 years.
const LENGTH_MS_MAX: u128 = 1 << 53;

impl WindowSpec {
    /// Stands in for windows that the build refuses.
    pub(crate) const PLACEHOLDER: Self = Self { size_ms: 1, advance_ms: 1, grace_ms: 0 };

    fn new(size: Duration, advance: Duration, grace: Duration) -> Result<Self, &'static str> {
        if size.as_millis() == 0 || advance.as_millis() == 0 {
            return Err("its length and its advance must be one millisecond at least");
        }
        if advance > size {
            return Err("an advance beyond its length would leave gaps");
        }
        let millis = |length: Duration| {
            let millis = length.as_millis();
            if millis > LENGTH_MS_MAX {
                return Err("a length above 2^53 ms is out of range");
            }
            Ok(i64::try_from(millis).expect("2^53 fits 64 bits"))
        };
        Ok(Self { size_ms: millis(size)?, advance_ms: millis(advance)?, grace_ms: millis(grace)? })
    }

    /// The starts of all windows that hold the moment `at`, oldest first.
    pub(crate) fn starts_of(self, at: Timestamp) -> impl Iterator<Item = Timestamp> {
        // The oldest start above `at - size`, but not below 0.
        let floor = at.0.saturating_sub(self.size_ms).saturating_add(self.advance_ms).max(0);
        let first = floor / self.advance_ms * self.advance_ms;
        let step = usize::try_from(self.advance_ms).unwrap_or(usize::MAX);
        (first..=at.0).step_by(step).map(Timestamp)
    }

    /// Windows that start at or before this are closed once stream time is `now`.
    pub(crate) fn last_closed_start(self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_sub(self.grace_ms).saturating_sub(self.size_ms))
    }

    pub(crate) fn windowed<K>(self, key: K, start: Timestamp) -> Windowed<K> {
        Windowed { key, start, end: Timestamp(start.0.saturating_add(self.size_ms)) }
    }
}

impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size_ms, advance_ms, grace_ms } = self;
        write!(f, "{size_ms} ms every {advance_ms} ms, grace {grace_ms} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(size: i64, advance: i64, at: i64, want: &[i64]) {
        let spec = WindowSpec { size_ms: size, advance_ms: advance, grace_ms: 0 };
        let starts: Vec<i64> = spec.starts_of(Timestamp(at)).map(|start| start.0).collect();
        assert_eq!(starts, want, "size {size}, advance {advance}, at {at}");
    }

    #[test]
    fn a_moment_is_in_every_window_that_starts_at_or_before_it_and_ends_after_it() {
        check(10, 10, 0, &[0]);
        check(10, 10, 9, &[0]);
        check(10, 10, 10, &[10]);
        check(10, 4, 3, &[0]);
        check(10, 4, 9, &[0, 4, 8]);
        check(10, 4, 10, &[4, 8]);
        check(10, 4, 21, &[12, 16, 20]);
    }

    #[test]
    fn a_window_is_closed_once_stream_time_reaches_its_end_plus_grace() {
        let windows = Tumbling::of(Duration::from_millis(10)).grace(Duration::from_millis(3));
        let spec = windows.spec().unwrap();
        assert!(spec.last_closed_start(Timestamp(22)) < Timestamp(10));
        assert_eq!(spec.last_closed_start(Timestamp(23)), Timestamp(10));
    }

    #[test]
    fn impossible_windows_are_refused() {
        assert!(Tumbling::of(Duration::ZERO).spec().is_err());
        assert!(Tumbling::of(Duration::MAX).spec().is_err());
        assert!(Hopping::of(Duration::from_secs(1), Duration::from_secs(2)).spec().is_err());
    }
}
