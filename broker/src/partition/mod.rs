//! One partition: what was accepted, in which order, and from when on it may be seen.
//!
//! Offsets are assigned in memory, in the order of arrival; writes follow in that order, several at
//! a time, and their completions return as events. What may be answered or shown follows from four
//! positions: `log start <= last stable <= high watermark <= log end`. The high watermark is the
//! least position that all of the maximal in-sync set has kept (durably, under `flush.mode=ack`);
//! it never goes back within one leader epoch. A reply leaves only after what it says is true.
//!
//! | state | appends | fetches |
//! |---|---|---|
//! | opening | wait | wait |
//! | leading | yes | yes |
//! | recalling: a write found the disk full, what is on it is being asked for | refused | yes |
//! | offline: the disk failed | refused | refused |
//! | stopped: led elsewhere, deleted, or the broker ends | refused | refused |
//!
//! Pure.

mod cleaner;
pub(crate) mod core;
mod ends;
mod expected;
mod gather;
mod handle;
mod isr;
mod leader;
mod manager;
mod owed;
mod shell;
mod submit;
#[cfg(test)]
mod tests;
mod underway;
mod waiters;
mod wishes;

use std::sync::Arc;

use bytes::Bytes;
use protocol::error_code::ErrorCode;
use protocol::ids::{
    CoordinatorEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TopicPartition,
};
use protocol::mutant::{Mutant, is_active};
use protocol::record::RecordBatch;
use protocol::time::Timestamp;

use crate::stretch::Stretch;

use crate::log::SequenceError;

pub use cleaner::Cleaner;
pub(crate) use gather::{attend_gathered, gather};
pub use handle::{PartitionHandle, Waiting};
pub use manager::{LookupError, Partitions};

/// Record batches to put at the end of a partition.
#[derive(Clone, Debug)]
pub struct Append {
    /// The batches, validated at the edge; their base offsets and leader epochs are overwritten.
    /// All of them are accepted, or none.
    pub batches: Vec<RecordBatch>,
    /// Who writes, which decides what is checked.
    pub origin: Origin,
    /// When to answer.
    pub acks: Acks,
    /// The leader epoch that the writer believes in; refused when it is not the partition's.
    /// Coordinators set it, so that one that lost its partition cannot write. `None`: any.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer, by a Produce request. Producer epoch, sequence and the state of the transaction
    /// are checked.
    Client,
    /// A producer whose batch may begin its transaction here, which its coordinator said was open
    /// after the guard was taken: refused, too, if the transaction was ended here meanwhile.
    /// Otherwise:
    /// 1. A late batch is verified: its transaction is open.
    /// 2. The producer has given it up and aborts; the marker is written.
    /// 3. The batch is appended and opens a transaction that nobody will ever end. KIP-890.
    Verified(VerificationGuard),
    /// A coordinator of this cluster, writing its own state. Only the producer epoch is checked.
    Coordinator,
    /// A coordinator, writing what a producer commits in a transaction that was verified; as with
    /// `Verified`, refused if the transaction was ended here meanwhile.
    CoordinatorVerified(VerificationGuard),
}

/// How a partition stood before the coordinator of a transaction was asked whether it is open. What
/// is appended under the guard cannot open the transaction anew behind its marker. KIP-890.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerificationGuard {
    /// Where the log ended, of what was accepted.
    pub(crate) log_end: Offset,
    /// How often accepted records had been forgotten: offsets from before say nothing then.
    pub(crate) rollbacks: u64,
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// As soon as its offsets are assigned in memory. It may still be lost. Coordinators replay
    /// then, and hold back what follows from it until the high watermark reaches its end.
    Accepted,
    /// `acks=1`: once it is written; if the leader alone is in sync, once it can be read. While it cannot, a power
    /// cut may take it back, a killed process does not.
    Written,
    /// Once the high watermark reached its end: `acks=all`.
    Committed,
}

/// Where an append ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record; of the original, when it was a duplicate.
    pub base_offset: Offset,
    /// The offset after its last record (exclusive).
    pub end: Offset,
    /// When the broker took it, if the topic dates records so (`LogAppendTime`); else `NONE`.
    pub log_append_time: Timestamp,
    /// The partition's log start offset at that time.
    pub log_start: Offset,
    /// True when these very batches were in the log already: a producer's retry. KIP-98.
    pub was_duplicate: bool,
}

/// A producer that a partition remembers. KIP-664.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Who.
    pub id: ProducerId,
    /// Its newest epoch here.
    pub epoch: ProducerEpoch,
    /// The last sequence of that epoch (inclusive); `NONE` before its first batch.
    pub last_sequence: Sequence,
    /// The timestamp of the last thing that it wrote.
    pub last_timestamp: Timestamp,
    /// Which leadership of a coordinator last ended a transaction of its; -1 for none.
    pub coordinator_epoch: CoordinatorEpoch,
    /// Where its open transaction begins.
    pub open_from: Option<Offset>,
}

impl ActiveProducer {
    pub(crate) fn of((id, producer): (ProducerId, &crate::log::Producer)) -> Self {
        Self {
            id,
            epoch: producer.epoch(),
            last_sequence: producer.last_sequence(),
            last_timestamp: producer.last_timestamp(),
            coordinator_epoch: producer.coordinator_epoch(),
            open_from: producer.open_from(),
        }
    }
}

/// How a producer's transaction stands in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where its open transaction begins; `None`: it has none.
    pub open_from: Option<Offset>,
    /// Taken now, for what is appended after the coordinator was asked.
    pub guard: VerificationGuard,
}

/// The end of a transaction in this partition, as the transaction coordinator decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Whose transaction ends.
    pub producer_id: ProducerId,
    /// Under which epoch; an older one than the partition knows is refused.
    pub producer_epoch: ProducerEpoch,
    /// Which leadership of the coordinator decided; older than the last seen is refused.
    pub coordinator_epoch: CoordinatorEpoch,
    /// True: its records become readable to `read_committed`. False: they never will.
    pub commit: bool,
    /// 2 when the producer's epoch is raised at each end of a transaction. KIP-890.
    pub transaction_version: i8,
}

/// What is known of a partition's positions, as of the last change. All offsets are exclusive ends
/// but the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// First readable offset.
    pub log_start: Offset,
    /// End of what all in-sync replicas have. Nothing at or above it is shown to consumers.
    pub high_watermark: Offset,
    /// End of what `read_committed` may see.
    pub last_stable: Offset,
    /// End of what is written here. What lies between the high watermark and it may yet be lost;
    /// batches that were accepted and are on their way to the disk lie beyond it.
    pub log_end: Offset,
    /// Whose leadership this is.
    pub leader_epoch: LeaderEpoch,
    /// Where the log ended when this leadership began. Until the high watermark is there, the
    /// leader before may have shown more than this one does. KIP-207.
    pub epoch_start: Offset,
    /// Batch bytes committed since the partition was opened: how much a fetch has to gain.
    pub committed_bytes: u64,
    /// How often records that had been accepted were forgotten again, because they could not be
    /// written. Whoever acted on [`Acks::Accepted`] starts anew from the log when it changes.
    pub rollbacks: u64,
    /// False while opening, after a disk error, and after the partition was stopped.
    pub online: bool,
}

impl Watermarks {
    /// Those of a partition that was not opened yet, or cannot be.
    pub(crate) const CLOSED: Self = Self {
        log_start: Offset::ZERO,
        high_watermark: Offset::ZERO,
        last_stable: Offset::ZERO,
        log_end: Offset::ZERO,
        leader_epoch: LeaderEpoch::NONE,
        epoch_start: Offset::ZERO,
        committed_bytes: 0,
        rollbacks: 0,
        online: false,
    };

    /// The end (exclusive) of what a reader of this isolation may see.
    #[must_use]
    pub fn readable_end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::LogEnd => self.log_end,
            Isolation::ReadUncommitted if is_active(Mutant::ReadAboveHighWatermark) => self.log_end,
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted if is_active(Mutant::ReadPastLastStable) => {
                self.high_watermark
            }
            Isolation::ReadCommitted => self.last_stable,
        }
    }

    /// Whether the readable end may be told to a reader of this isolation: not before all that the
    /// leader before could have shown is committed, or the end would go back. KIP-207.
    #[must_use]
    pub fn tells_end(&self, isolation: Isolation) -> bool {
        isolation == Isolation::LogEnd || self.epoch_start <= self.high_watermark
    }
}

/// How far a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// To what is written, committed or not: replicas, and coordinators that load their state.
    LogEnd,
    /// To the high watermark.
    ReadUncommitted,
    /// To the last stable offset.
    ReadCommitted,
}

/// One partition's part of a fetch. It is answered at once with what is there.
#[derive(Clone, Copy, Debug)]
pub struct FetchFrom {
    /// First offset wanted. The whole batch that contains it is returned.
    pub offset: Offset,
    /// The leader epoch that the reader believes in. Checked before the offset is. KIP-320.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The leader epoch of the last record that the reader has: where histories part. KIP-595.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// How far it may see.
    pub isolation: Isolation,
    /// Most bytes to return.
    pub max_bytes: usize,
    /// Of those, most that are read into memory.
    pub room_bytes: usize,
    /// Return the first batch even if it alone exceeds either. KIP-74.
    pub at_least_one: bool,
    /// Many may be left in their file.
    pub by_file: bool,
}

/// What a fetch found.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whole batches, one after the other. Empty at the readable end.
    pub records: Bytes,
    /// Where they lie when they were left in their file; zeros stand for them in `records` then.
    pub stretch: Option<Arc<Stretch>>,
    /// The positions that bounded the read.
    pub watermarks: Watermarks,
    /// For [`Isolation::ReadCommitted`]: the aborted transactions whose records may be among
    /// `records`, by ascending first offset. Else `None`.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// Set when the reader's history is not ours: the largest epoch both know, and where it ended
    /// here (exclusive). Then `records` is empty. KIP-595.
    pub diverging: Option<(LeaderEpoch, Offset)>,
}

/// A transaction that was aborted, for a reader to skip its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
}

/// Which offset is asked for. KIP-79, KIP-734, KIP-1005.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The readable end.
    Latest,
    /// The log start offset.
    Earliest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record at or after this time.
    At(Timestamp),
}

/// An offset that was asked for, and what is known of the record there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; `NONE` when no record answers the question.
    pub offset: Offset,
    /// The record's timestamp, where the question was about time; else `NONE`.
    pub timestamp: Timestamp,
    /// The leader epoch of that offset; `NONE` when unknown.
    pub leader_epoch: LeaderEpoch,
}

impl FoundOffset {
    /// No record answers the question.
    pub const NONE: Self =
        Self { offset: Offset::NONE, timestamp: Timestamp::NONE, leader_epoch: LeaderEpoch::NONE };
}

/// Why an append was refused. Nothing of it is in the log, but where a variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The partition is not led here, is being opened, or was stopped. Retriable after a refresh.
    #[error("partition {partition} is not led by this broker")]
    NotLeader {
        /// Which partition.
        partition: TopicPartition,
    },
    /// The writer's leader epoch is older than the partition's.
    #[error("partition {partition}: leader epoch {asked} is fenced by {current}")]
    FencedLeaderEpoch {
        /// Which partition.
        partition: TopicPartition,
        /// The writer's.
        asked: LeaderEpoch,
        /// Ours.
        current: LeaderEpoch,
    },
    /// Too few replicas are in sync to accept a write with `acks=all`. Retriable.
    #[error("partition {partition}: {in_sync} replicas are in sync, {min} are needed")]
    NotEnoughReplicas {
        /// Which partition.
        partition: TopicPartition,
        /// How many are.
        in_sync: usize,
        /// `min.insync.replicas`.
        min: usize,
    },
    /// The in-sync set shrank below the minimum before the append was committed. It is in the log.
    #[error("partition {partition}: too few replicas are in sync; the records are in the log")]
    NotEnoughReplicasAfterAppend {
        /// Which partition.
        partition: TopicPartition,
    },
    /// The producer's id, epoch, sequence or transaction does not allow it.
    #[error("partition {partition}: {reason}")]
    Producer {
        /// Which partition.
        partition: TopicPartition,
        /// What is wrong.
        #[source]
        reason: SequenceError,
    },
    /// The disk is full, or failed. Retriable: a full disk is tried again, a failed one is not,
    /// but another replica may take over.
    #[error("partition {partition}: {reason}")]
    Storage {
        /// Which partition.
        partition: TopicPartition,
        /// What the disk said.
        reason: Arc<str>,
    },
    /// As much as allowed is waiting to be written already. Retriable.
    #[error("partition {partition}: too many appends are waiting")]
    Overloaded {
        /// Which partition.
        partition: TopicPartition,
    },
}

impl AppendError {
    /// Kafka's code for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
            Self::NotEnoughReplicasAfterAppend { .. } => ErrorCode::NotEnoughReplicasAfterAppend,
            Self::Producer { reason, .. } => reason.code(),
            Self::Storage { .. } => ErrorCode::KafkaStorageError,
            Self::Overloaded { .. } => ErrorCode::RequestTimedOut,
        }
    }
}

/// Why a partition could not be read, or an offset not be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The partition is not led here, is being opened, or was stopped. Retriable after a refresh.
    #[error("partition {partition} is not led by this broker")]
    NotLeader {
        /// Which partition.
        partition: TopicPartition,
    },
    /// The reader's leader epoch is older than the partition's: its metadata are stale.
    #[error("partition {partition}: leader epoch {asked} is fenced by {current}")]
    FencedLeaderEpoch {
        /// Which partition.
        partition: TopicPartition,
        /// The reader's.
        asked: LeaderEpoch,
        /// Ours.
        current: LeaderEpoch,
    },
    /// The reader's leader epoch is newer than the partition's: we lag behind. Retriable.
    #[error("partition {partition}: leader epoch {asked} is not known yet, ours is {current}")]
    UnknownLeaderEpoch {
        /// Which partition.
        partition: TopicPartition,
        /// The reader's.
        asked: LeaderEpoch,
        /// Ours.
        current: LeaderEpoch,
    },
    /// This leadership has not committed what the one before it may have shown: an end told now
    /// could lie before one that was told. Retriable, and over soon. KIP-207.
    #[error("partition {partition}: the high watermark {high_watermark} is below {epoch_start}")]
    NotAvailable {
        /// Which partition.
        partition: TopicPartition,
        /// The high watermark.
        high_watermark: Offset,
        /// Where it must be.
        epoch_start: Offset,
    },
    /// The offset lies before the log start offset or after the log end offset.
    #[error("partition {partition}: offset {offset} is outside {log_start}..{log_end}")]
    OutOfRange {
        /// Which partition.
        partition: TopicPartition,
        /// The offset asked for.
        offset: Offset,
        /// First readable offset.
        log_start: Offset,
        /// The log end offset.
        log_end: Offset,
    },
    /// The disk failed, or its bytes are not what was written.
    #[error("partition {partition}: {reason}")]
    Storage {
        /// Which partition.
        partition: TopicPartition,
        /// What the disk said.
        reason: Arc<str>,
    },
    /// As much as allowed is waiting for this partition already. Retriable.
    #[error("partition {partition}: too many requests are waiting")]
    Overloaded {
        /// Which partition.
        partition: TopicPartition,
    },
}

impl ReadError {
    /// Kafka's code for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            Self::NotAvailable { .. } => ErrorCode::OffsetNotAvailable,
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Storage { .. } => ErrorCode::KafkaStorageError,
            Self::Overloaded { .. } => ErrorCode::RequestTimedOut,
        }
    }
}
