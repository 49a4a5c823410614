//! Record batches: the unit in which records are produced, stored, replicated and fetched.
//!
//! A batch (format 2, KIP-98) is 61 bytes of header, big endian, then the records:
//!
//! | at | size | field | |
//! |---:|---:|---|---|
//! | 0 | 8 | base offset | stamped by the leader, outside the checksum |
//! | 8 | 4 | length | of all that follows, in bytes |
//! | 12 | 4 | partition leader epoch | stamped by the leader, outside the checksum |
//! | 16 | 1 | magic | 2 |
//! | 17 | 4 | CRC-32C | of all that follows |
//! | 21 | 2 | attributes | codec, timestamp type, transactional, control, delete horizon |
//! | 23 | 4 | last offset delta | |
//! | 27 | 8 | base timestamp | |
//! | 35 | 8 | max timestamp | |
//! | 43 | 8 | producer id | |
//! | 51 | 2 | producer epoch | |
//! | 53 | 4 | base sequence | |
//! | 57 | 4 | record count | |
//! | 61 | | records | compressed as one piece, if at all |
//!
//! A broker looks at headers and checksums alone and never decodes records to store or serve them:
//! [`RecordBatch`] is a view on shared bytes, [`RecordBatch::stamped`] rewrites sixteen of them.
//! Clients build with [`BatchBuilder`] and read with [`RecordBatch::decode`], which shares the
//! decompressed bytes with every record. Nothing allocates by a count or size that the wire
//! declares. Pure.

mod batch;
mod builder;
mod compression;
mod control;
mod entry;
mod header;
mod lz4;
mod retain;
#[cfg(test)]
mod tests;
mod validate;
mod varint;

pub use batch::{DecodedBatch, RecordBatch, Stamped};
pub use builder::{BatchBuilder, BatchOptions, BuildError};
pub use compression::{Codec, CompressionError};
pub use control::{ControlError, ControlRecord};
pub use entry::{
    DecodedRecords, Header, Headers, HeadersIter, HeadersRef, Record, RecordRef, Records,
};
pub use header::{Attributes, BatchError, BatchHeader, HEADER_BYTES, TimestampType};
pub use validate::InvalidBatch;

/// 64 MiB: the most that one batch may decompress to where nothing else sets a limit; sixty-four
/// times the default of `max.message.bytes`.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;
