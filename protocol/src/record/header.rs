//! The 61 bytes before a batch's records, and how a batch can be broken.
//!
//! A [`BatchHeader`] that was read is sound in itself: magic 2, a known codec, a length that holds
//! the header, no negative count. Whether it tells the truth about the bytes behind it is for the
//! checksum and the record iterator to find out. Pure.

use super::compression::{Codec, CompressionError};
use crate::error_code::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use crate::time::Timestamp;

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// 12: base offset and length, which the length does not count.
pub(super) const PREFIX_BYTES: usize = 12;
/// Where the checksum lies.
pub(super) const CRC_AT: usize = 17;
/// Where the checksummed bytes begin.
pub(super) const CHECKED_AT: usize = 21;
/// The only format that is served. KIP-724.
pub(super) const MAGIC: u8 = 2;
/// Where the format's number lies, in this format and all older ones.
const MAGIC_AT: usize = 16;

const CODEC_BITS: i16 = 0b0000_0111;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

const _: () = assert!(PREFIX_BYTES < MAGIC_AT);
const _: () = assert!(CHECKED_AT < HEADER_BYTES);

/// What is wrong with the bytes of a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Another format than 2.
    #[error("batch at offset {base_offset}: magic {magic} is not supported")]
    UnsupportedMagic {
        /// Of the batch.
        base_offset: Offset,
        /// What the batch says.
        magic: u8,
    },
    /// The length cannot hold a header.
    #[error("batch at offset {base_offset}: length {length} cannot hold a header")]
    LengthOutOfRange {
        /// Of the batch.
        base_offset: Offset,
        /// What the batch says.
        length: i32,
    },
    /// A count or delta is negative.
    #[error(
        "batch at offset {base_offset}: {record_count} records up to offset delta {last_offset_delta}"
    )]
    CountOutOfRange {
        /// Of the batch.
        base_offset: Offset,
        /// What the batch says.
        record_count: i32,
        /// What the batch says.
        last_offset_delta: i32,
    },
    /// The attributes name a codec that does not exist.
    #[error("batch at offset {base_offset}: compression codec {codec} is not known")]
    UnknownCodec {
        /// Of the batch.
        base_offset: Offset,
        /// The codec's number.
        codec: i16,
    },
    /// Fewer bytes than the batch needs, where exactly one batch was asked for.
    #[error("{have} bytes do not hold a whole batch, which needs {need}")]
    Truncated {
        /// Bytes given.
        have: usize,
        /// Bytes of the whole batch, or of its header as long as that is not complete.
        need: usize,
    },
    /// More bytes than the batch has, where exactly one batch was asked for.
    #[error(
        "batch at offset {base_offset}: {count} bytes follow where exactly one batch may stand"
    )]
    TrailingBytes {
        /// Of the batch.
        base_offset: Offset,
        /// Bytes after the batch.
        count: usize,
    },
    /// The checksum does not match: bytes were damaged.
    #[error(
        "batch at offset {base_offset}: checksum {stored:#010x} stored, {computed:#010x} computed"
    )]
    CrcMismatch {
        /// Of the batch.
        base_offset: Offset,
        /// What the batch says.
        stored: u32,
        /// What its bytes yield.
        computed: u32,
    },
    /// Records were asked for without decoding, but are compressed.
    #[error("batch at offset {base_offset}: records are compressed with {codec}")]
    Compressed {
        /// Of the batch.
        base_offset: Offset,
        /// How.
        codec: Codec,
    },
    /// The records do not decompress, or to more than allowed.
    #[error("batch at offset {base_offset}: {source}")]
    Compression {
        /// Of the batch.
        base_offset: Offset,
        /// Why.
        #[source]
        source: CompressionError,
    },
    /// A record is malformed, or bytes follow the last one.
    #[error("batch at offset {base_offset}: record {index}: {reason}")]
    MalformedRecord {
        /// Of the batch.
        base_offset: Offset,
        /// Which record, counted from 0.
        index: i32,
        /// What was expected.
        reason: &'static str,
    },
}

impl BatchError {
    /// What a producer of the batch is told. Only damage on the way is worth another try; a frame
    /// that ends too early was never whole.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::LengthOutOfRange { .. } | Self::CrcMismatch { .. } => ErrorCode::CorruptMessage,
            // Kafka has no record format of its future: it takes such bytes for damaged ones.
            Self::UnsupportedMagic { magic, .. } if MAGIC < *magic => ErrorCode::CorruptMessage,
            Self::UnknownCodec { .. } => ErrorCode::UnsupportedCompressionType,
            Self::UnsupportedMagic { .. }
            | Self::Truncated { .. }
            | Self::CountOutOfRange { .. }
            | Self::TrailingBytes { .. }
            | Self::Compressed { .. }
            | Self::MalformedRecord { .. } => ErrorCode::InvalidRecord,
            Self::Compression { source, .. } => source.code(),
        }
    }
}

/// Who dates the records of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer: each record has its own timestamp.
    #[default]
    Create,
    /// The broker: every record has the batch's max timestamp.
    LogAppend,
}

/// The attributes of a batch: a codec and five flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    bits: i16,
    codec: Codec,
}

impl Attributes {
    /// Attributes with this codec and no flag.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self { bits: codec.to_wire(), codec }
    }

    /// The attributes of these bits; `None` when they name an unknown codec. Bits without a
    /// meaning yet are kept.
    #[must_use]
    pub fn from_wire(bits: i16) -> Option<Self> {
        Some(Self { bits, codec: Codec::from_wire(bits & CODEC_BITS)? })
    }

    /// The bits on the wire.
    #[must_use]
    pub fn to_wire(self) -> i16 {
        self.bits
    }

    /// How the records are compressed.
    #[must_use]
    pub fn codec(self) -> Codec {
        self.codec
    }

    /// True when every record has the batch's max timestamp, given by the broker.
    #[must_use]
    pub fn is_log_append_time(self) -> bool {
        self.bits & LOG_APPEND_TIME_BIT != 0
    }

    /// True when the batch belongs to a transaction. KIP-98.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.bits & TRANSACTIONAL_BIT != 0
    }

    /// True when the records are for brokers and clients themselves, not for applications.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.bits & CONTROL_BIT != 0
    }

    /// True when the base timestamp is the time from which tombstones and markers in the batch
    /// may be removed. KIP-534.
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.bits & DELETE_HORIZON_BIT != 0
    }

    /// These attributes with another codec.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self { bits: self.bits & !CODEC_BITS | codec.to_wire(), codec }
    }

    /// These attributes with timestamps of this type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        match timestamp_type {
            TimestampType::Create => self.without(LOG_APPEND_TIME_BIT),
            TimestampType::LogAppend => self.with(LOG_APPEND_TIME_BIT),
        }
    }

    /// These attributes as part of a transaction, or not.
    #[must_use]
    pub fn with_transactional(self, is_transactional: bool) -> Self {
        if is_transactional {
            self.with(TRANSACTIONAL_BIT)
        } else {
            self.without(TRANSACTIONAL_BIT)
        }
    }

    /// These attributes for a control batch.
    #[must_use]
    pub fn with_control(self) -> Self {
        self.with(CONTROL_BIT)
    }

    /// These attributes with the base timestamp as delete horizon. KIP-534.
    #[must_use]
    pub fn with_delete_horizon(self) -> Self {
        self.with(DELETE_HORIZON_BIT)
    }

    fn with(self, bit: i16) -> Self {
        Self { bits: self.bits | bit, ..self }
    }

    fn without(self, bit: i16) -> Self {
        Self { bits: self.bits & !bit, ..self }
    }
}

/// All that is said of a batch before its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; a producer writes 0, the leader the truth. Compaction keeps it
    /// even when the first record goes.
    pub base_offset: Offset,
    /// Bytes after this field, as on the wire: twelve less than the whole batch.
    pub batch_length: i32,
    /// Epoch of the leader that accepted the batch. KIP-101.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything from the attributes on, as stored.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// From the base offset to the last offset (inclusive), also when that record is gone.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to; with a delete horizon, that horizon.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the records.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, or none. KIP-98.
    pub producer_id: ProducerId,
    /// Its epoch, or none.
    pub producer_epoch: ProducerEpoch,
    /// Its sequence of the first record, or none.
    pub base_sequence: Sequence,
    /// How many records are in the batch; after compaction perhaps none.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header of the batch that `bytes` begin with, however much of it is there.
    ///
    /// `None` when there are fewer than [`HEADER_BYTES`]. For scanning segments.
    ///
    /// # Errors
    /// When no batch of format 2 can begin like this.
    pub fn peek(bytes: &[u8]) -> Result<Option<Self>, BatchError> {
        bytes.first_chunk::<HEADER_BYTES>().map(Self::read).transpose()
    }

    fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BatchError> {
        let base_offset = Offset(i64::from_be_bytes(at(bytes, 0)));
        let magic = bytes[MAGIC_AT];
        if magic != MAGIC {
            return Err(BatchError::UnsupportedMagic { base_offset, magic });
        }
        let batch_length = i32::from_be_bytes(at(bytes, 8));
        let holds_header = |length: usize| length >= HEADER_BYTES - PREFIX_BYTES;
        if !usize::try_from(batch_length).is_ok_and(holds_header) {
            return Err(BatchError::LengthOutOfRange { base_offset, length: batch_length });
        }
        let bits = i16::from_be_bytes(at(bytes, CHECKED_AT));
        let attributes = Attributes::from_wire(bits)
            .ok_or(BatchError::UnknownCodec { base_offset, codec: bits & CODEC_BITS })?;
        let last_offset_delta = i32::from_be_bytes(at(bytes, 23));
        let record_count = i32::from_be_bytes(at(bytes, 57));
        if last_offset_delta < 0 || record_count < 0 {
            return Err(BatchError::CountOutOfRange {
                base_offset,
                record_count,
                last_offset_delta,
            });
        }
        Ok(Self {
            base_offset,
            batch_length,
            leader_epoch: LeaderEpoch(i32::from_be_bytes(at(bytes, 12))),
            crc: u32::from_be_bytes(at(bytes, CRC_AT)),
            attributes,
            last_offset_delta,
            base_timestamp: Timestamp(i64::from_be_bytes(at(bytes, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(at(bytes, 35))),
            producer_id: ProducerId(i64::from_be_bytes(at(bytes, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(at(bytes, 51))),
            base_sequence: Sequence(i32::from_be_bytes(at(bytes, 53))),
            record_count,
        })
    }

    /// Writes this header, with its checksum as it stands, over the first bytes of `batch`.
    pub(super) fn write(&self, batch: &mut [u8]) {
        batch[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        batch[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        batch[12..16].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        batch[16] = MAGIC;
        batch[17..21].copy_from_slice(&self.crc.to_be_bytes());
        batch[21..23].copy_from_slice(&self.attributes.to_wire().to_be_bytes());
        batch[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.0.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        batch[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        batch[51..53].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        batch[53..57].copy_from_slice(&self.base_sequence.0.to_be_bytes());
        batch[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// Offset of the last record (inclusive).
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// The offset after the last record: where the next batch begins.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// Sequence of the last record (inclusive); none when the batch has no sequence.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence.0 < 0 {
            return Sequence::NONE;
        }
        self.base_sequence.plus(self.last_offset_delta)
    }

    /// Bytes of the whole batch: base offset and length included.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let length = usize::try_from(self.batch_length).expect("a header's length was checked");
        PREFIX_BYTES + length
    }

    /// True when an idempotent or transactional producer wrote the batch. KIP-98.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.producer_id.is_some()
    }
}

fn at<const N: usize>(bytes: &[u8; HEADER_BYTES], start: usize) -> [u8; N] {
    *bytes[start..].first_chunk().expect("every field lies within the header")
}
