//! Time as a value that is handed in: no core reads a clock.
//!
//! Monotonic and wall time are different types and never subtracted from one another: the first
//! measures how long, the second dates records. A [`Clock`] is the seam by which shells get both;
//! the real one lives in `client::time`, the simulator brings its own.
//!
//! Pure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Wall-clock time: milliseconds since 1970-01-01 UTC, as records carry it. `-1`: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Kafka's "no timestamp".
    pub const NONE: Self = Self(-1);

    /// This time moved forward by `by`; saturates.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since an arbitrary origin; never goes back. For timeouts and waits.
    pub monotonic: Duration,
    /// What the calendar says; may jump. For dating records.
    pub wall: Timestamp,
}

/// Reads both clocks. Cheap to clone; called once per event or batch, never per record.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Now + Send + Sync>);

impl Clock {
    /// A clock that answers with what `read` returns.
    pub fn new(read: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Now {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
