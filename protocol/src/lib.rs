//! The vocabulary: what every other crate speaks.
//!
//! Wire messages, record batches, identifiers, time and chance as values. Nothing here does I/O,
//! reads a clock or knows tokio; Cargo itself enforces that. Read in this order:
//!
//! - [`ids`], [`time`], [`rng`], [`error_code`]: the words
//! - [`primitive`], [`message`], [`limits`]: how a message is declared, written and read
//! - [`api_key`], [`api`], [`header`], [`frame`]: requests and responses
//! - [`consumer_protocol`]: what group members tell one another
//! - [`security`], [`sasl`], [`secret`]: how connections are secured, and who is at their other end
//! - [`record`]: batches of records; [`murmur`]: which partition a key goes to
//!
//! Pure.

pub mod api;
pub mod api_key;
pub mod config;
pub mod consumer_protocol;
pub mod error_code;
pub mod frame;
pub mod header;
pub mod ids;
pub mod limits;
pub mod message;
pub mod murmur;
pub mod mutant;
pub mod primitive;
pub mod record;
pub mod rng;
#[cfg(any(test, feature = "check"))]
pub mod sample;
pub mod sasl;
pub mod secret;
pub mod security;
pub mod time;
