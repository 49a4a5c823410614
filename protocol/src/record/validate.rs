//! What a leader asks of a batch before it appends it for a client.
//!
//! The batch is stored as it came, so whatever is wrong with it would be found by every consumer
//! later: it is refused here. The header and the checksum are always examined. Decoding each
//! record is the caller's choice, since it costs several times as much as all the rest. Pure.

use super::DECOMPRESSED_BYTES_MAX;
use super::batch::RecordBatch;
use super::header::{BatchError, BatchHeader};
use crate::error_code::ErrorCode;
use crate::ids::{Offset, ProducerEpoch, ProducerId, Sequence};

/// Why a produced batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// The bytes are not a sound batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Larger than the topic's `max.message.bytes`.
    #[error("batch of {batch_bytes} bytes: the topic accepts {max_message_bytes}")]
    TooLarge {
        /// Of the whole batch, as it would be stored.
        batch_bytes: usize,
        /// The topic's setting.
        max_message_bytes: usize,
    },
    /// No records, or offsets that are not one per record.
    #[error("batch of {record_count} records ends at offset delta {last_offset_delta}")]
    CountMismatch {
        /// What the batch says.
        record_count: i32,
        /// What the batch says.
        last_offset_delta: i32,
    },
    /// Offsets are for the leader to give.
    #[error("batch begins at offset {base_offset} where it must begin at 0")]
    BaseOffset {
        /// What the batch says.
        base_offset: Offset,
    },
    /// Only brokers write control batches.
    #[error("clients may not write control batches")]
    Control,
    /// Only compaction writes a delete horizon.
    #[error("clients may not set a delete horizon")]
    DeleteHorizon,
    /// Only brokers date records by their append time.
    #[error("clients may not set the timestamp type to log append time")]
    LogAppendTime,
    /// Epoch or sequence missing from an idempotent batch, or a transaction without a producer.
    #[error(
        "producer {producer_id} with epoch {producer_epoch} and sequence {base_sequence} \
         (transactional: {is_transactional})"
    )]
    Producer {
        /// What the batch says.
        producer_id: ProducerId,
        /// What the batch says.
        producer_epoch: ProducerEpoch,
        /// What the batch says.
        base_sequence: Sequence,
        /// What the batch says.
        is_transactional: bool,
    },
}

impl InvalidBatch {
    /// What the producer is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Batch(error) => error.code(),
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::LogAppendTime => ErrorCode::InvalidTimestamp,
            Self::CountMismatch { .. }
            | Self::BaseOffset { .. }
            | Self::Control
            | Self::DeleteHorizon
            | Self::Producer { .. } => ErrorCode::InvalidRecord,
        }
    }
}

impl RecordBatch {
    /// Checks that a client may append this batch: size, checksum, counts, flags, producer; with
    /// `check_records` also that it holds exactly its count of well-formed records with offset
    /// deltas 0, 1, 2 and so on.
    ///
    /// A leader still has to judge timestamps, and the keys of a compacted topic.
    ///
    /// # Errors
    /// The first rule that the batch breaks.
    pub fn validate_produce(
        &self,
        max_message_bytes: usize,
        check_records: bool,
    ) -> Result<(), InvalidBatch> {
        let batch_bytes = self.header().size_bytes();
        if batch_bytes > max_message_bytes {
            return Err(InvalidBatch::TooLarge { batch_bytes, max_message_bytes });
        }
        self.verify_crc()?;
        validate_header(self.header())?;
        if check_records {
            // Count and deltas: the iterator demands ascending deltas up to the last, and as many
            // records as there are deltas; so each delta occurs once.
            for record in &self.decode(DECOMPRESSED_BYTES_MAX)? {
                record?;
            }
        }
        Ok(())
    }
}

fn validate_header(header: &BatchHeader) -> Result<(), InvalidBatch> {
    let BatchHeader { attributes, record_count, last_offset_delta, .. } = *header;
    if record_count == 0 || last_offset_delta != record_count - 1 {
        return Err(InvalidBatch::CountMismatch { record_count, last_offset_delta });
    }
    if header.base_offset != Offset::ZERO {
        return Err(InvalidBatch::BaseOffset { base_offset: header.base_offset });
    }
    if attributes.is_control() {
        return Err(InvalidBatch::Control);
    }
    if attributes.has_delete_horizon() {
        return Err(InvalidBatch::DeleteHorizon);
    }
    if attributes.is_log_append_time() {
        return Err(InvalidBatch::LogAppendTime);
    }
    let BatchHeader { producer_id, producer_epoch, base_sequence, .. } = *header;
    let is_transactional = attributes.is_transactional();
    // Without a producer id the other two say nothing, and some clients write 0 there.
    let is_sound = if producer_id.is_some() {
        producer_epoch.0 >= 0 && base_sequence.0 >= 0
    } else {
        !is_transactional
    };
    if is_sound {
        return Ok(());
    }
    Err(InvalidBatch::Producer { producer_id, producer_epoch, base_sequence, is_transactional })
}
