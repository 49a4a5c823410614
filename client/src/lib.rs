//! Talking to a cluster: producer, consumer and admin for any Kafka cluster.
//!
//! The cores (what to send, in which order, after which error) are pure and know no socket; the
//! shells own them and run on tokio. Everything that touches the outside comes in through two
//! seams: a [`net::Connector`] for connections and a [`protocol::time::Clock`] for time, so that
//! the same client runs against a real cluster and inside a simulation. Read in this order:
//!
//! - [`time`], [`net`], [`bootstrap`]: the seams, and how a client is given them
//! - [`config`], [`error`]: settings by Kafka's names; what can go wrong everywhere
//! - [`cluster`], [`offsets`], [`group_offsets`]: what brokers are asked by all clients
//! - [`producer`], [`consumer`], [`admin`]: the clients
//!
//! ```no_run
//! use client::{Bootstrap, Producer, ProducerConfig, ProducerRecord};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let bootstrap = Bootstrap::tcp("localhost:9092")?;
//! let mut producer = Producer::connect(bootstrap, ProducerConfig::default()).await?;
//! let told = producer.send(ProducerRecord::new("greetings", "hello").key("world")).await?;
//! println!("{} at {}", told.partition, told.offset);
//! # Ok(())
//! # }
//! ```
//!
//! Pure.

pub mod admin;
pub mod backoff;
pub mod bootstrap;
pub mod cluster;
pub mod config;
pub mod consumer;
pub mod error;
pub mod group_offsets;
pub mod net;
pub mod offsets;
pub mod producer;
mod router;
#[cfg(test)]
mod testing;
pub mod time;

pub use admin::{Admin, NewTopic};
pub use bootstrap::Bootstrap;
pub use config::{ConsumerConfig, IsolationLevel, ProducerConfig};
pub use consumer::{Consumer, Polled};
pub use error::{Recovery, RequestError};
pub use group_offsets::{GroupMetadata, OffsetAndMetadata};
pub use producer::{CommitOutcome, Producer, ProducerRecord};
