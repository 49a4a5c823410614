//! What a Connect worker remembers in the cluster.
//!
//! - [`offsets`]: how far sources have read, as Kafka Connect stores it; [`offset_reader`] reads it
//!
//! Pure.

pub(crate) mod offset_reader;
pub(crate) mod offsets;
