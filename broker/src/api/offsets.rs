//! Offsets: by time or position (ListOffsets), by leader epoch (OffsetForLeaderEpoch), and moving
//! the log start (DeleteRecords).
//!
//! Each partition has its own result. A question about a tier that does not exist here is answered
//! with "none", as by a broker that has nothing there. Shell.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use protocol::api::offsets::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult, EpochEndOffset, ListOffsetsPartition, ListOffsetsPartitionResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use protocol::time::Timestamp;

use super::Api;
use super::fetch::{isolation, known_epoch};
use crate::metadata::is_internal;
use crate::partition::{FoundOffset, Isolation, OffsetSpec};

/// The first version of ListOffsets that tells the leader epoch. KIP-320.
const TELLS_EPOCH: i16 = 4;

/// The first version of ListOffsets that knows `OffsetNotAvailable`. KIP-207.
const KNOWS_NOT_AVAILABLE: i16 = 5;

/// What a timestamp of the wire asks for.
enum Asked {
    Offset(OffsetSpec),
    /// Of a tier that does not exist here.
    Nothing,
    Unknown,
}

/// The special timestamps, each from the version on that has it. KIP-79, KIP-734, KIP-405, KIP-1005, KIP-1023.
fn asked(timestamp: i64, version: i16) -> Asked {
    let since = match timestamp {
        -3 => 7,
        -4 => 8,
        -5 => 9,
        -6 => 11,
        _ => 0,
    };
    match timestamp {
        _ if version < since => Asked::Unknown,
        -1 => Asked::Offset(OffsetSpec::Latest),
        // Without a remote tier, the earliest local offset is the earliest.
        -2 | -4 => Asked::Offset(OffsetSpec::Earliest),
        -3 => Asked::Offset(OffsetSpec::MaxTimestamp),
        -5 | -6 => Asked::Nothing,
        0.. => Asked::Offset(OffsetSpec::At(Timestamp(timestamp))),
        _ => Asked::Unknown,
    }
}

pub(super) async fn list_offsets(
    api: Api,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = isolation(request.isolation_level);
    let mut topics = Vec::new();
    for topic in request.topics {
        let mut partitions = Vec::new();
        let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
        for it in &topic.partitions {
            *counts.entry(it.partition_index).or_default() += 1;
        }
        for partition in topic.partitions {
            // What is asked twice is refused once.
            let found = match counts.remove(&partition.partition_index) {
                None => continue,
                Some(1) => list_offset(&api, version, &topic.name, &partition, isolation).await,
                Some(_) => Err(ErrorCode::InvalidRequest),
            };
            let partition_index = partition.partition_index;
            partitions.push(match found {
                Ok(found) => ListOffsetsPartitionResponse {
                    partition_index,
                    timestamp: found.timestamp.0,
                    offset: found.offset.0,
                    leader_epoch: if version >= TELLS_EPOCH { found.leader_epoch.0 } else { -1 },
                    ..Default::default()
                },
                Err(code) => ListOffsetsPartitionResponse {
                    partition_index,
                    error_code: code.to_wire(),
                    ..Default::default()
                },
            });
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

async fn list_offset(
    api: &Api,
    version: i16,
    topic: &str,
    asked_of: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<FoundOffset, ErrorCode> {
    let index = PartitionIndex(asked_of.partition_index);
    let handle = api.partitions().get(topic, index).map_err(|error| error.code())?;
    let leader_epoch = known_epoch(asked_of.current_leader_epoch);
    match asked(asked_of.timestamp, version) {
        Asked::Offset(spec) => {
            let found = handle.list_offset(spec, isolation, leader_epoch).await;
            found.map_err(|error| known_as(error.code(), version))
        }
        Asked::Nothing => Ok(FoundOffset {
            offset: Offset::NONE,
            timestamp: Timestamp::NONE,
            leader_epoch: LeaderEpoch::NONE,
        }),
        Asked::Unknown => Err(ErrorCode::UnsupportedVersion),
    }
}

/// Before KIP-207, clients know no better reason to come again.
fn known_as(code: ErrorCode, version: i16) -> ErrorCode {
    match code {
        ErrorCode::OffsetNotAvailable if version < KNOWS_NOT_AVAILABLE => {
            ErrorCode::LeaderNotAvailable
        }
        other => other,
    }
}

pub(super) async fn offset_for_leader_epoch(
    api: Api,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::new();
    for topic in request.topics {
        let mut partitions = Vec::new();
        for asked in topic.partitions {
            let end = end_of_epoch(&api, &topic.topic, &asked).await;
            let partition = asked.partition;
            partitions.push(match end {
                Ok(Some((epoch, end))) => EpochEndOffset {
                    partition,
                    leader_epoch: epoch.0,
                    end_offset: end.0,
                    ..Default::default()
                },
                Ok(None) => EpochEndOffset { partition, ..Default::default() },
                Err(code) => {
                    EpochEndOffset { partition, error_code: code.to_wire(), ..Default::default() }
                }
            });
        }
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

async fn end_of_epoch(
    api: &Api,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    let index = PartitionIndex(asked.partition);
    let handle = api.partitions().get(topic, index).map_err(|error| error.code())?;
    handle
        .end_of_epoch(LeaderEpoch(asked.leader_epoch), known_epoch(asked.current_leader_epoch))
        .await
        // No epoch ends nowhere.
        .map(|end| end.filter(|_| asked.leader_epoch >= 0))
        .map_err(|error| error.code())
}

/// How long a leader may take at least. What a client says is for its followers, of which there are
/// none here: clients that need not wait for these say 0.
const LEADER_WAIT: Duration = Duration::from_secs(30);

pub(super) async fn delete_records(
    api: Api,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut deadline = pin!(tokio::time::sleep(timeout.max(LEADER_WAIT)));
    let mut topics = Vec::new();
    for topic in request.topics {
        let mut partitions = Vec::new();
        for partition in topic.partitions {
            let index = partition.partition_index;
            let deleted = tokio::select! {
                biased;
                deleted = delete_before(&api, &topic.name, index, partition.offset) => deleted,
                () = &mut deadline => Err(ErrorCode::RequestTimedOut),
            };
            let (low_watermark, code) = match deleted {
                Ok(log_start) => (log_start.0, ErrorCode::None),
                Err(code) => (-1, code),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: index,
                low_watermark,
                error_code: code.to_wire(),
            });
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    DeleteRecordsResponse { topics, ..Default::default() }
}

async fn delete_before(
    api: &Api,
    topic: &str,
    index: i32,
    offset: i64,
) -> Result<Offset, ErrorCode> {
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let handle =
        api.partitions().get(topic, PartitionIndex(index)).map_err(|error| error.code())?;
    if !handle.config().is_deleted() {
        // What a compacted topic holds is a state, not a history to be cut.
        return Err(ErrorCode::PolicyViolation);
    }
    if offset < -1 {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    handle.delete_before(Offset(offset)).await.map_err(|error| error.code())
}
