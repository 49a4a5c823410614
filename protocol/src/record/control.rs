//! Control records: what brokers write into partitions for themselves and for clients.
//!
//! A transaction ends in each of its partitions with a control batch of one record, its marker:
//! key `version i16, type i16`, value `version i16, coordinator epoch i32` (KIP-98). Clients never
//! hand these to applications, yet move past their offsets. The quorum's types, and those still to
//! come, are read as unknown. Pure.

use super::batch::RecordBatch;
use super::builder::{BatchBuilder, BatchOptions};
use super::header::BatchError;
use crate::ids::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId};
use crate::time::Timestamp;

/// Version of the keys and values that we write.
const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// What a control batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// The producer's transaction is aborted: skip what it wrote here since its last marker.
    Abort {
        /// Of the transaction coordinator that decided it.
        coordinator_epoch: CoordinatorEpoch,
    },
    /// The producer's transaction is committed.
    Commit {
        /// Of the transaction coordinator that decided it.
        coordinator_epoch: CoordinatorEpoch,
    },
    /// Another type: 2 leader change, 3 and 4 snapshot header and footer, 5 quorum version,
    /// 6 voters; or one that came later.
    Unknown(i16),
}

/// Why a control batch cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The batch itself is broken.
    #[error("control batch")]
    Batch(#[from] BatchError),
    /// It has no record, as compaction may leave it.
    #[error("control batch at offset {0} has no record")]
    Empty(Offset),
    /// Its key or value is too short, or of a negative version.
    #[error("control record at offset {0} is malformed")]
    Malformed(Offset),
}

impl ControlRecord {
    /// Reads a control record's key and value. `None` when either is malformed.
    #[must_use]
    pub fn read(key: &[u8], value: Option<&[u8]>) -> Option<Self> {
        // Newer versions only ever append fields, so what we know stays where it is.
        let (key_version, key) = key.split_first_chunk::<2>()?;
        let kind = i16::from_be_bytes(*key.first_chunk::<2>()?);
        if i16::from_be_bytes(*key_version) < 0 {
            return None;
        }
        match kind {
            ABORT => Some(Self::Abort { coordinator_epoch: coordinator_epoch(value?)? }),
            COMMIT => Some(Self::Commit { coordinator_epoch: coordinator_epoch(value?)? }),
            other => Some(Self::Unknown(other)),
        }
    }

    /// What `batch` says. `None` when it is not a control batch.
    ///
    /// # Errors
    /// When it is one and cannot be read.
    pub fn of(batch: &RecordBatch) -> Result<Option<Self>, ControlError> {
        if !batch.header().attributes.is_control() {
            return Ok(None);
        }
        let base_offset = batch.header().base_offset;
        let record = batch.records().next().ok_or(ControlError::Empty(base_offset))??;
        let key = record.key.ok_or(ControlError::Malformed(record.offset))?;
        let read = Self::read(key, record.value).ok_or(ControlError::Malformed(record.offset))?;
        Ok(Some(read))
    }

    /// The batch that ends a transaction in a partition: base offset 0, as a producer would send
    /// it; the leader stamps it.
    ///
    /// # Panics
    /// For [`ControlRecord::Unknown`]: what is not known is not written.
    #[must_use]
    pub fn end_txn_marker(
        self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        timestamp: Timestamp,
    ) -> RecordBatch {
        let (kind, coordinator_epoch) = match self {
            Self::Abort { coordinator_epoch } => (ABORT, coordinator_epoch),
            Self::Commit { coordinator_epoch } => (COMMIT, coordinator_epoch),
            Self::Unknown(kind) => panic!("control record type {kind} is not a marker"),
        };
        assert!(producer_id.is_some());
        let mut key = [0; 4];
        key[..2].copy_from_slice(&VERSION.to_be_bytes());
        key[2..].copy_from_slice(&kind.to_be_bytes());
        let mut value = [0; 6];
        value[..2].copy_from_slice(&VERSION.to_be_bytes());
        value[2..].copy_from_slice(&coordinator_epoch.0.to_be_bytes());
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder
            .append(timestamp, Some(&key), Some(&value), &[])
            .expect("ten bytes fit an empty batch");
        builder.finish_control(producer_id, producer_epoch, true)
    }
}

fn coordinator_epoch(value: &[u8]) -> Option<CoordinatorEpoch> {
    let (version, rest) = value.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    Some(CoordinatorEpoch(i32::from_be_bytes(*rest.first_chunk::<4>()?)))
}
