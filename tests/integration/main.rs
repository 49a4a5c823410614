//! Promises across crates, kept in one process: one module per promise.
//!
//! Shell.

#![allow(clippy::unwrap_used, reason = "tests may, and so may what they call")]

mod client;
mod connect;
mod consumer;
mod faults;
mod streams;
