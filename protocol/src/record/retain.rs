//! What compaction leaves of a batch.
//!
//! Records go, the batch's identity stays: base and last offset, producer, epoch and sequences, so
//! that offsets never move and a producer's state can be rebuilt from what is left. A batch may
//! lose its last record and live on empty, for one of these two reasons; whether it does is the
//! caller's choice. Timestamps of the records that stay do not change. Pure.

use super::batch::RecordBatch;
use super::builder::{HeaderSource, write_record};
use super::compression::{self, Codec};
use super::entry::RecordRef;
use super::header::{BatchError, BatchHeader, HEADER_BYTES};
use crate::time::Timestamp;

impl RecordBatch {
    /// This batch with only those records that `keep` is true for, compressed as it was, shared
    /// when nothing changes.
    ///
    /// With a `delete_horizon`, the time from which tombstones and markers in the batch may go is
    /// noted in it, unless it has one: the first is the one that counts. KIP-534.
    ///
    /// # Errors
    /// When the records do not decompress to at most `limit_bytes`, or are malformed.
    pub fn retain(
        &self,
        limit_bytes: usize,
        delete_horizon: Option<Timestamp>,
        mut keep: impl FnMut(&RecordRef<'_>) -> bool,
    ) -> Result<Self, BatchError> {
        let header = self.header();
        let horizon = delete_horizon.filter(|_| !header.attributes.has_delete_horizon());
        let base_timestamp = horizon.unwrap_or(header.base_timestamp);
        let decoded = self.decode(limit_bytes)?;
        let mut records = Vec::new();
        let mut record_count = 0;
        let mut newest: Option<Timestamp> = None;
        for record in &decoded {
            let record = record?;
            if keep(&record) {
                append(&mut records, &record, header, base_timestamp);
                record_count += 1;
                newest = newest.max(Some(record.timestamp));
            }
        }
        if record_count == header.record_count && horizon.is_none() {
            return Ok(self.clone());
        }
        assert!(record_count <= header.record_count);
        // Kafka's empty batches claim no codec, and some readers would look for its frame.
        let codec = if record_count == 0 { Codec::None } else { header.attributes.codec() };
        let mut attributes = header.attributes.with_codec(codec);
        if horizon.is_some() {
            attributes = attributes.with_delete_horizon();
        }
        // An empty batch keeps the date by which its segment is found and retained.
        let max_timestamp = newest.unwrap_or(header.max_timestamp);
        let header =
            BatchHeader { attributes, base_timestamp, max_timestamp, record_count, ..*header };
        let mut bytes = vec![0; HEADER_BYTES];
        compression::compress(attributes.codec(), None, &records, &mut bytes);
        Ok(Self::seal(header, bytes))
    }
}

fn append(
    records: &mut Vec<u8>,
    record: &RecordRef<'_>,
    header: &BatchHeader,
    base_timestamp: Timestamp,
) {
    let timestamp_delta = record.timestamp.0.wrapping_sub(base_timestamp.0);
    let offset_delta = i32::try_from(record.offset.0.saturating_sub(header.base_offset.0))
        .expect("the iterator keeps offsets within the batch");
    let headers = HeaderSource::Raw(record.headers);
    write_record(records, timestamp_delta, offset_delta, record.key, record.value, headers);
}
