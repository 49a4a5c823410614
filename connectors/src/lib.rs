//! The connectors that come with Millstream.
//!
//! - [`file`]: lines of files into a topic
//! - [`lake`]: topics into Parquet files in a directory or a bucket
//!
//! Pure.

pub mod file;
pub mod lake;
