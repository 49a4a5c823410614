//! Logs to lake.
fn main() {}
