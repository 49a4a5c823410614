//! Collects records into a batch, in one pass and one growing buffer.
//!
//! The header's 61 bytes are left open at the front and filled in by `finish`, which also
//! compresses and computes the checksum. A batch comes out as a producer sends it: base offset 0,
//! leader epoch unknown. Pure.

use super::batch::RecordBatch;
use super::compression::{self, Codec};
use super::entry::HeadersRef;
use super::header::{Attributes, BatchHeader, HEADER_BYTES, TimestampType};
use super::varint::{
    SCRATCH_BYTES, Scratch, VARINT_BYTES_MAX, varint_bytes, varlong_bytes, write_varint,
};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use crate::time::Timestamp;

/// 1 GiB: ceiling of a batch before compression. Half of what its length field could say, so that
/// even incompressible records still fit it after a codec's framing.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// How a batch is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchOptions {
    /// How records are compressed.
    pub codec: Codec,
    /// How hard, on the codec's own scale; `None`: Kafka's default. Snappy and lz4 have one level.
    pub level: Option<i32>,
    /// Who dates the records. A producer leaves it at the default.
    pub timestamp_type: TimestampType,
    /// Bytes to set aside at the start, for records before compression.
    pub capacity_bytes: usize,
}

/// Why a record does not go into the batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The batch would exceed what its format can hold. Finish it and begin another; a record
    /// that does not fit an empty batch fits none.
    #[error("record of {record_bytes} bytes does not fit a batch that has {batch_bytes}")]
    BatchFull {
        /// Bytes of the record, at most.
        record_bytes: usize,
        /// Bytes of the batch so far.
        batch_bytes: usize,
    },
}

/// A batch in the making.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// The header's place, then the records, uncompressed.
    buffer: Vec<u8>,
    record_count: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new(options: BatchOptions) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES.saturating_add(options.capacity_bytes));
        buffer.resize(HEADER_BYTES, 0);
        Self {
            options,
            buffer,
            record_count: 0,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
        }
    }

    /// Appends a record and tells its offset relative to the batch's.
    ///
    /// # Errors
    /// [`BuildError::BatchFull`] when the format cannot hold it; the batch is as before.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderParts<'_>],
    ) -> Result<i32, BuildError> {
        let bytes_max = Self::record_bytes_max(key, value, headers);
        let is_full = self.buffer.len().saturating_add(bytes_max) > BATCH_BYTES_MAX;
        if is_full || self.record_count == i32::MAX {
            let batch_bytes = self.buffer.len();
            return Err(BuildError::BatchFull { record_bytes: bytes_max, batch_bytes });
        }
        if self.record_count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        // Readers add with wrap-around, so any two timestamps have a delta.
        let timestamp_delta = timestamp.0.wrapping_sub(self.base_timestamp.0);
        let offset_delta = self.record_count;
        let headers = HeaderSource::Parts(headers);
        write_record(&mut self.buffer, timestamp_delta, offset_delta, key, value, headers);
        self.record_count += 1;
        Ok(offset_delta)
    }

    /// Bytes that a record takes at most, before compression.
    #[must_use]
    pub fn record_bytes_max(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderParts<'_>],
    ) -> usize {
        let bodies = key.map_or(0, <[u8]>::len).saturating_add(value.map_or(0, <[u8]>::len));
        headers.iter().fold(
            bodies.saturating_add(SCRATCH_BYTES + 2 * VARINT_BYTES_MAX),
            |sum, (key, value)| {
                sum.saturating_add(key.len())
                    .saturating_add(value.map_or(0, <[u8]>::len))
                    .saturating_add(2 * VARINT_BYTES_MAX)
            },
        )
    }

    /// Bytes of the batch so far, header included, as if it were not compressed.
    #[must_use]
    pub fn estimated_size(&self) -> usize {
        self.buffer.len()
    }

    /// Records appended.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// True when nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The batch, as the producer of these ids sends it; without idempotence all are `NONE`.
    ///
    /// # Panics
    /// When nothing was appended: a batch without records has no offset to give back.
    #[must_use]
    pub fn finish(
        self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        base_sequence: Sequence,
        is_transactional: bool,
    ) -> RecordBatch {
        let attributes = Attributes::new(self.options.codec).with_transactional(is_transactional);
        self.seal(attributes, producer_id, producer_epoch, base_sequence)
    }

    /// The batch as a control batch, which has no sequence.
    ///
    /// # Panics
    /// When nothing was appended.
    #[must_use]
    pub fn finish_control(
        self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        is_transactional: bool,
    ) -> RecordBatch {
        let attributes =
            Attributes::new(self.options.codec).with_transactional(is_transactional).with_control();
        self.seal(attributes, producer_id, producer_epoch, Sequence::NONE)
    }

    fn seal(
        self,
        attributes: Attributes,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        base_sequence: Sequence,
    ) -> RecordBatch {
        assert!(self.record_count > 0, "an empty batch is not finished");
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 0,
            leader_epoch: LeaderEpoch::NONE,
            crc: 0,
            attributes: attributes.with_timestamp_type(self.options.timestamp_type),
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: self.record_count,
        };
        let codec = self.options.codec;
        if !codec.compresses() {
            return RecordBatch::seal(header, self.buffer);
        }
        let (open, records) = self.buffer.split_at(HEADER_BYTES);
        let mut compressed = Vec::with_capacity(HEADER_BYTES + records.len() / 2);
        compressed.extend_from_slice(open);
        compression::compress(codec, self.options.level, records, &mut compressed);
        RecordBatch::seal(header, compressed)
    }
}

/// A header to append: key, and value or null.
type HeaderParts<'a> = (&'a str, Option<&'a [u8]>);

/// Where a record's headers come from.
#[derive(Clone, Copy)]
pub(super) enum HeaderSource<'a> {
    /// From an application.
    Parts(&'a [HeaderParts<'a>]),
    /// From another batch, as they lay there.
    Raw(HeadersRef<'a>),
}

impl HeaderSource<'_> {
    fn count(&self) -> i32 {
        length_of(match self {
            Self::Parts(parts) => parts.len(),
            Self::Raw(headers) => headers.len(),
        })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Parts(parts) => parts
                .iter()
                .map(|(key, value)| nullable_bytes(Some(key.as_bytes())) + nullable_bytes(*value))
                .sum(),
            Self::Raw(headers) => headers.raw().len(),
        }
    }

    fn write(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Parts(parts) => {
                for (key, value) in *parts {
                    write_nullable(buffer, Some(key.as_bytes()));
                    write_nullable(buffer, *value);
                }
            }
            Self::Raw(headers) => buffer.extend_from_slice(headers.raw()),
        }
    }
}

/// Appends one record to `buffer`.
pub(super) fn write_record(
    buffer: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: HeaderSource<'_>,
) {
    let header_count = headers.count();
    let body_bytes = 1
        + varlong_bytes(timestamp_delta)
        + varint_bytes(offset_delta)
        + nullable_bytes(key)
        + nullable_bytes(value)
        + varint_bytes(header_count)
        + headers.bytes();
    let mut head = Scratch::new();
    head.varint(length_of(body_bytes));
    // The attributes of a record have no meaning yet.
    head.byte(0);
    head.varlong(timestamp_delta);
    head.varint(offset_delta);
    head.varint(nullable_length(key));
    buffer.reserve(SCRATCH_BYTES + body_bytes);
    head.append_to(buffer);
    buffer.extend_from_slice(key.unwrap_or_default());
    write_nullable(buffer, value);
    write_varint(buffer, header_count);
    headers.write(buffer);
}

#[inline]
fn write_nullable(buffer: &mut Vec<u8>, bytes: Option<&[u8]>) {
    write_varint(buffer, nullable_length(bytes));
    buffer.extend_from_slice(bytes.unwrap_or_default());
}

#[inline]
fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    varint_bytes(nullable_length(bytes)) + bytes.map_or(0, <[u8]>::len)
}

#[inline]
fn nullable_length(bytes: Option<&[u8]>) -> i32 {
    bytes.map_or(-1, |bytes| length_of(bytes.len()))
}

fn length_of(count: usize) -> i32 {
    i32::try_from(count).expect("a record was measured against the batch's ceiling")
}
