//! What a cleaning leaves of each batch.
//!
//! Batches come in the order of the log, from its beginning. The rules stand in the table of this
//! room's door. A batch that nothing is taken from is given back as it is, bytes shared. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::ids::{Offset, ProducerEpoch, ProducerId};
use protocol::record::{
    BatchError, BatchHeader, ControlRecord, DECOMPRESSED_BYTES_MAX, RecordBatch, RecordRef,
};
use protocol::time::Timestamp;

use super::keys::NewestOffsets;
use super::txns::CleanedTxns;
use crate::log::producers::{AbortedTxn, Producers};

/// Of each producer, the batch from which its last sequence, or at least its epoch, is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LastBatches(BTreeMap<ProducerId, (ProducerEpoch, Option<Offset>)>);

impl LastBatches {
    pub(super) fn of(producers: &Producers) -> Self {
        let last = |producer: &crate::log::producers::Producer| {
            (producer.epoch, producer.batches.back().map(|batch| batch.last_offset))
        };
        Self(producers.iter().map(|(id, producer)| (id, last(producer))).collect())
    }

    fn holds(&self, header: &BatchHeader) -> bool {
        match self.0.get(&header.producer_id) {
            None => false,
            Some((_, Some(last_offset))) => header.last_offset() == *last_offset,
            Some((epoch, None)) => {
                header.attributes.is_control() && header.producer_epoch == *epoch
            }
        }
    }
}

/// The rules, on their way through a log.
pub(super) struct Filter {
    pub(super) newest: NewestOffsets,
    /// Where the newest records of keys are known up to (exclusive).
    pub(super) until: Offset,
    pub(super) txns: CleanedTxns,
    pub(super) last_batches: LastBatches,
    /// The offset after the last batch of all: that one stays, be it empty.
    pub(super) tail: Offset,
    pub(super) now: Timestamp,
    pub(super) delete_retention: Duration,
}

impl Filter {
    /// What stays of `batch`; `None`: nothing, not even its header.
    pub(super) fn keep(
        &mut self,
        batch: &RecordBatch,
        control: Option<ControlRecord>,
    ) -> Result<Option<RecordBatch>, BatchError> {
        let header = *batch.header();
        let kept = if header.attributes.is_control() {
            self.keep_control(batch, control)?
        } else {
            self.keep_records(batch)?
        };
        let is_needed = kept.header().record_count > 0
            || self.last_batches.holds(&header)
            || header.next_offset() == self.tail;
        Ok(is_needed.then_some(kept))
    }

    /// The aborted transactions whose markers stay, since the last call.
    pub(super) fn take_aborted(&mut self) -> Vec<AbortedTxn> {
        self.txns.take_needed()
    }

    fn keep_control(
        &mut self,
        batch: &RecordBatch,
        control: Option<ControlRecord>,
    ) -> Result<RecordBatch, BatchError> {
        let header = batch.header();
        if !self.txns.on_control(header, control) {
            return Ok(batch.clone());
        }
        let is_over = self.is_over(header);
        batch.retain(DECOMPRESSED_BYTES_MAX, Some(self.horizon()), |_| !is_over)
    }

    fn keep_records(&mut self, batch: &RecordBatch) -> Result<RecordBatch, BatchError> {
        let header = batch.header();
        if self.txns.on_batch(header) {
            return batch.retain(DECOMPRESSED_BYTES_MAX, None, |_| false);
        }
        let is_over = self.is_over(header);
        let stays = |record: &RecordRef<'_>| self.stays(record, is_over);
        let mut has_tombstone = false;
        let kept = batch.retain(DECOMPRESSED_BYTES_MAX, None, |record| {
            let stays = stays(record);
            has_tombstone |= stays && record.value.is_none() && record.offset < self.until;
            stays
        })?;
        if has_tombstone && !header.attributes.has_delete_horizon() {
            return batch.retain(DECOMPRESSED_BYTES_MAX, Some(self.horizon()), stays);
        }
        Ok(kept)
    }

    fn stays(&self, record: &RecordRef<'_>, is_over: bool) -> bool {
        if record.offset >= self.until {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_newest = self.newest.newest(key).is_none_or(|newest| newest <= record.offset);
        is_newest && (record.value.is_some() || !is_over)
    }

    /// True when the time of the batch's tombstones, or of its marker, is over.
    fn is_over(&self, header: &BatchHeader) -> bool {
        header.attributes.has_delete_horizon() && header.base_timestamp <= self.now
    }

    fn horizon(&self) -> Timestamp {
        self.now.plus(self.delete_retention)
    }
}
