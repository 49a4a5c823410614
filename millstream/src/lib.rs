//! The event-streaming platform behind one door: broker, client, streams, connect, connectors.
//!
//! Pure.

pub use {broker, client, connect, connectors, protocol, streams};
