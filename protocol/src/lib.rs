//! The vocabulary: what every other crate speaks.
//!
//! Wire messages, record batches, identifiers, time and chance as values. Nothing here does I/O,
//! reads a clock or knows tokio; Cargo itself enforces that. Read in this order:
//!
//! - [`ids`], [`time`], [`rng`], [`error_code`]: the words
//!
//! Pure.

pub mod config;
pub mod error_code;
pub mod ids;
pub mod rng;
pub mod time;
