//! Promises across crates, with real processes, files and kills where they matter: one module per
//! promise.
//!
//! Shell.

#![allow(clippy::unwrap_used, reason = "tests may, and so may what they call")]

mod cli;
mod client;
mod connect;
mod consumer;
mod faults;
mod kill;
mod streams;
mod threads;
