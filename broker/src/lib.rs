//! The replicated log: a broker that speaks Kafka's wire protocol.
//!
//! Rooms, bottom up; each may name only those above it:
//!
//! - [`config`], [`limits`]: settings and bounds
//! - [`disk`]: the seam to storage
//! - [`metadata`]: what the cluster knows
//!
//! Shell.

pub mod config;
pub mod disk;
pub mod limits;
pub mod metadata;
