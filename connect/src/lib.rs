//! Connect: moving data into and out of topics.
//!
//! - [`sdk`]: all that the author of a connector sees
//! - [`registry`]: which connectors this process has, by name
//!
//! Pure.

pub mod registry;
pub mod sdk;
