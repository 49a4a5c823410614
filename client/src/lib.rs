//! Talking to a cluster: producer, consumer and admin for any Kafka cluster.
//!
//! The cores (what to send, in which order, after which error) are pure and know no socket; the
//! shells own them and run on tokio. Everything that touches the outside comes in through two
//! seams: a [`net::Connector`] for connections and a [`protocol::time::Clock`] for time, so that
//! the same client runs against a real cluster and inside a simulation. Read in this order:
//!
//! - [`time`], [`net`]: the seams
//!
//! Pure.

pub mod admin;
pub mod backoff;
pub mod bootstrap;
pub mod cluster;
pub mod config;
pub mod error;
pub mod group_offsets;
pub mod net;
pub mod offsets;
mod router;
#[cfg(test)]
mod testing;
pub mod time;
