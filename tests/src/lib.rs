//! The harness of the tests across crates.
