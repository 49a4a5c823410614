//! The replicated log: a broker that speaks Kafka's wire protocol.
//!
//! Rooms, bottom up; each may name only those above it:
//!
//! - [`config`], [`limits`]: settings and bounds
//!
//! Shell.

pub mod config;
pub mod limits;
