//! One batch as a view on shared bytes: split off, checked, stamped, decoded, never copied.
//!
//! A [`RecordBatch`] holds exactly the bytes of one batch whose header is sound. Its checksum and
//! records are not looked at until asked for: [`RecordBatch::verify_crc`] once where bytes enter,
//! [`RecordBatch::records`] or [`RecordBatch::decode`] only where records matter. The few changes
//! that a broker or a retrying producer makes are here too; those within the checksum copy the
//! batch. Pure.

use super::compression::{self, Codec};
use super::entry::{DecodedRecords, Records};
use super::header::{
    BatchError, BatchHeader, CHECKED_AT, CRC_AT, HEADER_BYTES, MAGIC, PREFIX_BYTES, TimestampType,
};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use crate::time::Timestamp;
use bytes::Bytes;

/// 16: base offset, length and leader epoch, the bytes that a leader rewrites.
const STAMP_BYTES: usize = 16;

/// Exactly one batch. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// Takes the first batch off `bytes`, which then hold the rest.
    ///
    /// `None`, and `bytes` as they were, when they are empty or hold only a part of a batch, as at
    /// the end of a fetch response.
    ///
    /// # Errors
    /// When no batch of format 2 can begin like this; there is no way to find the next one.
    pub fn split_first(bytes: &mut Bytes) -> Result<Option<Self>, BatchError> {
        let Some(header) = BatchHeader::peek(bytes)? else {
            return Ok(None);
        };
        let size = header.size_bytes();
        if bytes.len() < size {
            return Ok(None);
        }
        Ok(Some(Self { header, bytes: bytes.split_to(size) }))
    }

    /// The one batch that `bytes` are.
    ///
    /// # Errors
    /// When they are not exactly one batch with a sound header.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let have = bytes.len();
        let Some(header) = BatchHeader::peek(&bytes)? else {
            return Err(BatchError::Truncated { have, need: HEADER_BYTES });
        };
        let need = header.size_bytes();
        if have < need {
            return Err(BatchError::Truncated { have, need });
        }
        if have > need {
            let base_offset = header.base_offset;
            return Err(BatchError::TrailingBytes { base_offset, count: have - need });
        }
        Ok(Self { header, bytes })
    }

    /// What is said of the batch before its records.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All its bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// All its bytes, given away.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Compares the checksum with the bytes it covers: all but base offset and leader epoch.
    ///
    /// # Errors
    /// [`BatchError::CrcMismatch`] when bytes were damaged.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc_fast::crc32_iscsi(&self.bytes[CHECKED_AT..]);
        let BatchHeader { crc: stored, base_offset, .. } = self.header;
        if computed != stored {
            return Err(BatchError::CrcMismatch { base_offset, stored, computed });
        }
        Ok(())
    }

    /// The records of an uncompressed batch, borrowed, without allocation.
    ///
    /// Each item can fail; after a failure there are no more. A compressed batch yields
    /// [`BatchError::Compressed`] alone: decode it instead.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.header, &self.bytes[HEADER_BYTES..])
    }

    /// Decompresses the records, if need be, into at most `limit_bytes`. An uncompressed batch is
    /// shared as it is.
    ///
    /// # Errors
    /// [`BatchError::Compression`] when the records do not decompress, or to more than the limit.
    pub fn decode(&self, limit_bytes: usize) -> Result<DecodedBatch, BatchError> {
        let payload = self.bytes.slice(HEADER_BYTES..);
        let codec = self.header.attributes.codec();
        // An empty batch may claim a codec and have no frame.
        let codec = if payload.is_empty() { Codec::None } else { codec };
        let records = compression::decompress(codec, payload, limit_bytes).map_err(|source| {
            BatchError::Compression { base_offset: self.header.base_offset, source }
        })?;
        Ok(DecodedBatch { header: self.header, records })
    }

    /// This batch as the leader of `leader_epoch` appends it at `base_offset`: sixteen new bytes
    /// before the others, which stay shared. The checksum covers neither.
    #[must_use]
    pub fn stamped(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Stamped {
        let mut prefix = [0; STAMP_BYTES];
        prefix[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
        prefix[8..12].copy_from_slice(&self.header.batch_length.to_be_bytes());
        prefix[12..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
        Stamped { prefix, rest: self.bytes.slice(STAMP_BYTES..) }
    }

    /// A copy of this batch in which every record is dated by the broker.
    #[must_use]
    pub fn with_log_append_time(&self, appended_at: Timestamp) -> Self {
        let attributes = self.header.attributes.with_timestamp_type(TimestampType::LogAppend);
        self.with_header(BatchHeader { attributes, max_timestamp: appended_at, ..self.header })
    }

    /// A copy of this batch whose header says that its newest record is of this time.
    #[must_use]
    pub fn with_max_timestamp(&self, max_timestamp: Timestamp) -> Self {
        self.with_header(BatchHeader { max_timestamp, ..self.header })
    }

    /// A copy of this batch as another incarnation of its producer sends it: after a new epoch,
    /// what was not acknowledged is sent anew from sequence 0. KIP-360.
    #[must_use]
    pub fn with_producer(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        base_sequence: Sequence,
    ) -> Self {
        self.with_header(BatchHeader { producer_id, producer_epoch, base_sequence, ..self.header })
    }

    fn with_header(&self, header: BatchHeader) -> Self {
        Self::seal(header, self.bytes.to_vec())
    }

    /// The batch of `bytes`, whose first [`HEADER_BYTES`] are overwritten with `header`, its length
    /// and checksum made true.
    pub(super) fn seal(mut header: BatchHeader, mut bytes: Vec<u8>) -> Self {
        assert!(bytes.len() >= HEADER_BYTES);
        header.batch_length = i32::try_from(bytes.len() - PREFIX_BYTES)
            .expect("whoever collects a batch keeps it below 2 GiB");
        header.write(&mut bytes);
        header.crc = crc_fast::crc32_iscsi(&bytes[CHECKED_AT..]);
        bytes[CRC_AT..CHECKED_AT].copy_from_slice(&header.crc.to_be_bytes());
        Self { header, bytes: bytes.into() }
    }
}

/// A batch with its place in a log, in two pieces for one vectored write.
#[derive(Clone, Debug)]
pub struct Stamped {
    /// Base offset, length and leader epoch.
    pub prefix: [u8; STAMP_BYTES],
    /// Everything after, shared with the batch that was stamped.
    pub rest: Bytes,
}

impl Stamped {
    /// Bytes of both pieces.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.prefix.len() + self.rest.len()
    }

    /// Both pieces as one. Copies.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        [&self.prefix[..], &self.rest[..]].concat().into()
    }

    /// Both pieces as a batch again. Copies.
    #[must_use]
    pub fn into_batch(self) -> RecordBatch {
        debug_assert_eq!(self.rest[0], MAGIC);
        RecordBatch::parse(self.into_bytes())
            .expect("stamping changes no field that could be unsound")
    }
}

/// A batch whose records lie uncompressed in memory, shared by all that are taken from it.
#[derive(Clone, Debug)]
pub struct DecodedBatch {
    header: BatchHeader,
    records: Bytes,
}

impl DecodedBatch {
    /// What is said of the batch before its records.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Bytes of all records, uncompressed.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.records.len()
    }

    /// The records, borrowed. Each item can fail; after a failure there are no more.
    #[must_use]
    pub fn iter(&self) -> Records<'_> {
        Records::decoded(&self.header, &self.records)
    }
}

impl<'a> IntoIterator for &'a DecodedBatch {
    type Item = <Records<'a> as Iterator>::Item;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The records with shared keys and values, each outliving the batch. Decodes as it goes.
impl IntoIterator for DecodedBatch {
    type Item = <DecodedRecords as Iterator>::Item;
    type IntoIter = DecodedRecords;

    fn into_iter(self) -> Self::IntoIter {
        DecodedRecords::new(&self.header, self.records)
    }
}
