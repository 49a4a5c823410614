//! Connect: moving data into and out of topics.
//!
//! - [`sdk`]: all that the author of a connector sees
//! - [`config`]: what an operator says of connectors and of the worker
//! - [`Standalone`]: all connectors in one process; [`status`]: how they are doing
//! - [`registry`]: which connectors this process has, by name
//!
//! Pure.

pub mod config;
mod herder;
pub mod registry;
pub mod sdk;
pub mod status;
mod store;
mod worker;

pub use herder::{Running, Standalone, StartError};
