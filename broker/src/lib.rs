//! The replicated log: a broker that speaks Kafka's wire protocol.
//!
//! Rooms, bottom up; each may name only those above it:
//!
//! - [`config`], [`limits`]: settings and bounds
//! - [`disk`]: the seam to storage
//! - `budget`: how much memory clients may take
//! - [`buffers`]: memory that is used again
//! - [`metrics`]: what was done, counted
//! - [`log`]: one partition's bytes
//! - [`metadata`]: what the cluster knows
//! - [`auth`]: who asks, and what they may do
//! - [`quota`]: how much clients may ask
//! - [`partition`]: what was accepted, in which order, and from when on it may be seen
//! - [`coordinator`], [`group`], [`txn`]: state machines that live in a partition
//! - `api`, [`net`]: requests and sockets
//! - [`quorum`]: agreeing on the metadata log
//! - [`controller`]: deciding for the cluster
//!
//! [`Broker::start`] wires them together.
//!
//! Shell.

mod api;
pub mod auth;
mod budget;
pub mod buffers;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod disk;
#[cfg(test)]
mod fast;
pub mod group;
pub mod limits;
pub mod log;
pub mod metadata;
pub mod metrics;
pub mod net;
pub mod partition;
pub mod quorum;
pub mod quota;
mod start;
pub mod stretch;
pub mod txn;

pub use log::Mode;
pub use start::{Broker, BrokerHandle, Outside, StartError};
