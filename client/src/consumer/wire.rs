//! The consumer's requests, as the wire wants them. Pure.

use std::collections::BTreeMap;

use protocol::api::consumer_group::ConsumerGroupHeartbeatRequest;
use protocol::api::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use protocol::api::group::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
};
use protocol::api::offsets::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopic,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, Offset, TopicId, TopicPartition};

use super::fetcher::{Fetch, FetchPart};
use super::positions::{Doubt, Position};
use crate::config::ConsumerConfig;
use crate::net::Endpoint;

/// 12: the newest version of Fetch that names topics; later ones have ids only. KIP-516.
const FETCH_VERSION_NAMES: i16 = 12;

/// Topics without an id can only be named.
pub(super) fn fetch_version_max(fetch: &Fetch) -> i16 {
    let has_ids = fetch.partitions.iter().all(|it| it.topic_id.is_some());
    if has_ids { i16::MAX } else { FETCH_VERSION_NAMES }
}

/// A fetch outside any session, which every broker must answer in full. KIP-227.
pub(super) fn fetch_request(config: &ConsumerConfig, fetch: &Fetch) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for part in &fetch.partitions {
        let partition = fetch_partition(config, part);
        // In the order of turns: a broker fills its answer from the front. No topic twice.
        match topics.iter_mut().find(|it| *it.topic == *part.partition.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic {
                topic: part.partition.topic.to_string(),
                topic_id: part.topic_id,
                partitions: vec![partition],
            }),
        }
    }
    FetchRequest {
        max_wait_ms: i32::try_from(config.fetch_max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: bytes(config.fetch_min_bytes),
        max_bytes: bytes(config.fetch_max_bytes),
        isolation_level: config.isolation_level.to_wire(),
        session_id: 0,
        session_epoch: -1,
        topics,
        rack_id: config.client_rack.clone(),
        ..FetchRequest::default()
    }
}

fn fetch_partition(config: &ConsumerConfig, part: &FetchPart) -> FetchPartition {
    FetchPartition {
        partition: part.partition.partition.0,
        current_leader_epoch: part.leader_epoch.0,
        fetch_offset: part.offset.0,
        partition_max_bytes: bytes(config.max_partition_fetch_bytes),
        replica_directory_id: TopicId::ZERO,
        ..FetchPartition::default()
    }
}

fn bytes(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Asks where the history of the last record before each position ends. KIP-320.
pub(super) fn end_of_epoch_request(doubts: &[Doubt]) -> OffsetForLeaderEpochRequest {
    let mut topics: Vec<OffsetForLeaderTopic> = Vec::new();
    for Doubt { partition, next, leader, .. } in doubts {
        let one = OffsetForLeaderPartition {
            partition: partition.partition.0,
            current_leader_epoch: leader.leader_epoch.0,
            leader_epoch: next.leader_epoch.0,
        };
        match topics.iter_mut().find(|it| *it.topic == *partition.topic) {
            Some(topic) => topic.partitions.push(one),
            None => topics.push(OffsetForLeaderTopic {
                topic: partition.topic.to_string(),
                partitions: vec![one],
            }),
        }
    }
    OffsetForLeaderEpochRequest { replica_id: -1, topics }
}

/// What is said of each partition: where the history ends, `None` where it is not known.
pub(super) fn ends_of_epochs(
    response: OffsetForLeaderEpochResponse,
) -> BTreeMap<TopicPartition, Result<Option<Position>, ErrorCode>> {
    let mut ends = BTreeMap::new();
    for topic in response.topics {
        for it in topic.partitions {
            let partition = TopicPartition::new(topic.topic.as_str(), it.partition);
            let (offset, leader_epoch) = (Offset(it.end_offset), LeaderEpoch(it.leader_epoch));
            let end = (it.end_offset >= 0).then_some(Position { offset, leader_epoch });
            ends.insert(partition, ErrorCode::from_wire(it.error_code).ok().map(|()| end));
        }
    }
    ends
}

/// Where the leaders that an answer names can be reached. KIP-951.
pub(super) fn brokers(response: &FetchResponse) -> Vec<(BrokerId, Endpoint)> {
    let known = response.node_endpoints.iter().filter_map(|it| {
        let port = u16::try_from(it.port).ok()?;
        Some((BrokerId(it.node_id), Endpoint::new(it.host.as_str(), port)))
    });
    known.collect()
}

/// Before version 5 there are no static members: one with a name is then like any other.
pub(super) fn join_request(version: i16, request: JoinGroupRequest) -> JoinGroupRequest {
    let group_instance_id = request.group_instance_id.filter(|_| version >= 5);
    JoinGroupRequest { group_instance_id, ..request }
}

pub(super) fn sync_request(version: i16, request: SyncGroupRequest) -> SyncGroupRequest {
    let group_instance_id = request.group_instance_id.filter(|_| version >= 3);
    SyncGroupRequest { group_instance_id, ..request }
}

pub(super) fn heartbeat_request(version: i16, request: HeartbeatRequest) -> HeartbeatRequest {
    let group_instance_id = request.group_instance_id.filter(|_| version >= 3);
    HeartbeatRequest { group_instance_id, ..request }
}

/// In version 0 the coordinator chooses the id of a member that joins. KIP-1082.
pub(super) fn consumer_heartbeat_request(
    version: i16,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatRequest {
    let is_chosen = version >= 1 || request.member_epoch != 0;
    let member_id = if is_chosen { request.member_id } else { String::new() };
    ConsumerGroupHeartbeatRequest { member_id, ..request }
}

/// One member up to version 2, a list of one from there on.
pub(super) fn leave_request(version: i16, request: LeaveGroupRequest) -> LeaveGroupRequest {
    if version >= 3 {
        LeaveGroupRequest { member_id: String::new(), ..request }
    } else {
        LeaveGroupRequest { members: Vec::new(), ..request }
    }
}
