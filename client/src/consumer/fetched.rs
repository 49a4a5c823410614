//! What `poll` returns: batches as they were fetched, restricted to what the caller has not seen.
//!
//! Records are slices of the answer they came in, or of their decompressed batch. Pure.

use protocol::ids::{LeaderEpoch, Offset, TopicPartition};
use protocol::record::{BatchError, DecodedBatch, DecodedRecords, Record, RecordRef, Records};

/// Records of one batch, from the position on. Never a control batch, nor, under
/// `read_committed`, one of an aborted transaction.
#[derive(Clone, Debug)]
pub struct FetchedBatch {
    /// The partition.
    pub tp: TopicPartition,
    /// The whole batch. Records before the position may be in it: iterate over
    /// [`records`](Self::records) instead.
    pub batch: DecodedBatch,
    /// The position after this batch. Committing it says that all of the batch is done.
    pub next_offset: Offset,
    /// The partition's high watermark when the batch was fetched.
    pub high_watermark: Offset,
    /// The partition's last stable offset when the batch was fetched.
    pub last_stable_offset: Offset,
    pub(super) first_offset: Offset,
}

impl FetchedBatch {
    /// The first offset that counts; the record there may be gone.
    #[must_use]
    pub fn first_offset(&self) -> Offset {
        self.first_offset
    }

    /// The epoch of the leader that accepted the batch. KIP-320.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.batch.header().leader_epoch
    }

    /// The records, borrowed, without those before the position. Each item can fail, when its
    /// producer wrote what is no record; after a failure there are no more.
    pub fn records(&self) -> impl Iterator<Item = Result<RecordRef<'_>, BatchError>> {
        Borrowed { records: self.batch.iter(), first_offset: self.first_offset }
    }

    /// The records, each sharing the batch's bytes and outliving it.
    pub fn into_records(self) -> impl Iterator<Item = Result<Record, BatchError>> {
        Owned { records: self.batch.into_iter(), first_offset: self.first_offset }
    }
}

struct Borrowed<'a> {
    records: Records<'a>,
    first_offset: Offset,
}

impl<'a> Iterator for Borrowed<'a> {
    type Item = Result<RecordRef<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let first_offset = self.first_offset;
        self.records.find(|it| it.as_ref().map_or(true, |it| it.offset >= first_offset))
    }
}

struct Owned {
    records: DecodedRecords,
    first_offset: Offset,
}

impl Iterator for Owned {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first_offset = self.first_offset;
        self.records.find(|it| it.as_ref().map_or(true, |it| it.offset >= first_offset))
    }
}
