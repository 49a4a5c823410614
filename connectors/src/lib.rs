//! The connectors that come with Millstream.
//!
//! - [`file`]: lines of files into a topic
//!
//! Pure.

pub mod file;
