//! What can go wrong when consuming, and what the caller can do about it. Pure.

use std::sync::Arc;
use std::time::Duration;

use protocol::config::ConfigErrors;
use protocol::error_code::ErrorCode;
use protocol::ids::{Offset, TopicPartition};
use protocol::primitive::DecodeError;
use protocol::record::BatchError;

use crate::error::{Recovery, RequestError};

/// Why there is no consumer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings contradict one another.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The cluster does not answer, or refuses.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Why `poll` has nothing to return. Whatever can be mended by trying again is tried again and is
/// no error; what remains is for the caller to decide.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// Nothing is committed for the partition and `auto.offset.reset` is `none`. Seek, and go on.
    #[error("partition {partition}: no offset is committed, and auto.offset.reset is none")]
    NoOffset {
        /// The partition.
        partition: TopicPartition,
    },
    /// The position is not within the partition's log and `auto.offset.reset` is `none`: records
    /// were deleted or truncated. Seek, and go on.
    #[error(
        "partition {partition}: offset {offset} is out of range, and auto.offset.reset is none"
    )]
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The position.
        offset: Offset,
    },
    /// Records before the position are not in the log any more: a leader that did not have them
    /// took over, and `auto.offset.reset` is `none`. Seek, best to the divergent offset, and go
    /// on. KIP-320.
    #[error(
        "partition {partition}: offset {offset} was truncated away, histories part at {}",
        Told(.divergent)
    )]
    LogTruncated {
        /// The partition.
        partition: TopicPartition,
        /// The position.
        offset: Offset,
        /// The first offset at which the log may differ from what was consumed; `None`: the leader
        /// knows nothing of that history.
        divergent: Option<Offset>,
    },
    /// The batch at the position is damaged. It is fetched again by the next poll; when that does
    /// not help, seek beyond it, or stop.
    #[error("partition {partition}: at offset {offset}: {source}")]
    Damaged {
        /// The partition.
        partition: TopicPartition,
        /// The position.
        offset: Offset,
        /// What is wrong with it.
        source: BatchError,
    },
    /// The batch at the position is larger than the broker will send within
    /// `max.partition.fetch.bytes`.
    #[error(
        "partition {partition}: the batch at offset {offset} exceeds max.partition.fetch.bytes"
    )]
    BatchTooLarge {
        /// The partition.
        partition: TopicPartition,
        /// The position.
        offset: Offset,
    },
    /// The cluster refuses to serve the partition. Asked again by later polls.
    #[error("partition {partition}: {code}")]
    PartitionRefused {
        /// The partition.
        partition: TopicPartition,
        /// What the broker says.
        code: ErrorCode,
    },
    /// The cluster refuses to tell of a topic. Asked again by later polls.
    #[error("topic {topic}: {code}")]
    TopicRefused {
        /// The topic.
        topic: Arc<str>,
        /// What the cluster says.
        code: ErrorCode,
    },
    /// The coordinator refuses this member for good; with `FencedInstanceId`, another consumer
    /// took over its `group.instance.id`. Subscribing again tries again.
    #[error("group {group_id}: {code}")]
    GroupRefused {
        /// The group.
        group_id: Arc<str>,
        /// What the coordinator says.
        code: ErrorCode,
    },
    /// The group's leader sent an assignment that cannot be read.
    #[error("group {group_id}: assignment: {source}")]
    Assignment {
        /// The group.
        group_id: Arc<str>,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The cluster refuses something else. Asked again by later polls.
    #[error(transparent)]
    Request(#[from] RequestError),
}

struct Told<'a>(&'a Option<Offset>);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(offset) => write!(f, "offset {offset}"),
            None => f.write_str("an offset that is not known"),
        }
    }
}

impl ConsumeError {
    /// The partition whose position the caller must set, if that is what is wrong.
    pub(super) fn asks_to_seek(&self) -> Option<&TopicPartition> {
        match self {
            Self::NoOffset { partition }
            | Self::OffsetOutOfRange { partition, .. }
            | Self::LogTruncated { partition, .. } => Some(partition),
            Self::Damaged { .. }
            | Self::BatchTooLarge { .. }
            | Self::PartitionRefused { .. }
            | Self::TopicRefused { .. }
            | Self::GroupRefused { .. }
            | Self::Assignment { .. }
            | Self::Request(_) => None,
        }
    }
}

/// Why offsets were not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// There is no `group.id` to commit for.
    #[error("no group.id is set")]
    NoGroup,
    /// The group is between two generations. Poll, then commit what is still owned.
    #[error("group {group_id}: a rebalance is in progress")]
    RebalanceInProgress {
        /// The group.
        group_id: String,
    },
    /// Others own these partitions by now: what was consumed since the last commit is consumed
    /// again, by them. Poll tells what is lost.
    #[error("group {group_id}: member {member_id} is fenced: {code}")]
    Fenced {
        /// The group.
        group_id: String,
        /// This member.
        member_id: String,
        /// What the coordinator says.
        code: ErrorCode,
    },
    /// The time for closing is up; the offsets may be committed all the same.
    #[error("offsets are not committed within {timeout:?}")]
    Late {
        /// How long closing was to take.
        timeout: Duration,
    },
    /// The coordinator does not answer, or refuses. In doubt if it did not answer; committing
    /// again is harmless.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl CommitError {
    /// What the caller can do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::RebalanceInProgress { .. } | Self::Fenced { .. } => Recovery::Poll,
            Self::Late { .. } => Recovery::Retry,
            Self::Request(error) => error.recovery(),
            Self::NoGroup => Recovery::Change,
        }
    }

    /// True when the same commit may succeed later, after a poll.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::RebalanceInProgress { .. } | Self::Late { .. } => true,
            Self::Request(error) => error.is_retriable(),
            Self::NoGroup | Self::Fenced { .. } => false,
        }
    }
}

/// The partition is not assigned to this consumer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("partition {partition} is not assigned to this consumer")]
pub struct NotAssigned {
    /// The partition.
    pub partition: TopicPartition,
}

/// Topics can be subscribed to by pattern only where the coordinator assigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("subscribing by pattern needs group.id and group.protocol=consumer")]
pub struct PatternUnsupported;
