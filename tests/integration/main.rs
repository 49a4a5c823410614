//! Promises across crates, kept in one process: one module per promise.
//!
//! Shell.

mod client;
mod connect;
mod consumer;
mod streams;
