//! The harness of the tests across crates: simulated worlds, real brokers, workloads, checkers.
//!
//! Shell.

pub mod certificates;
pub mod check;
pub mod kafka;
pub mod process;
pub mod read;
pub mod sim;
