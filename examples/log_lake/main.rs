//! Logs to lake.
//!
//! Shell.

mod parse;

fn main() {}
