//! DescribeQuorum: who keeps the metadata log, and how far each has come.
//!
//! Offsets are those of the quorum's own log, whose records are batches of what the cluster knows.
//! Its leader alone answers. The nodes have no listeners of their own: what they agree on goes
//! through their brokers'. KIP-836, KIP-853. Pure.

use protocol::api::quorum::{
    DescribeQuorumNode, DescribeQuorumRequest, DescribeQuorumRequestTopic, DescribeQuorumResponse,
    DescribeQuorumResponsePartition, DescribeQuorumResponseTopic, QuorumReplicaState,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, Offset, TopicId};
use protocol::time::Timestamp;

use crate::controller::{QuorumFacts, QuorumReplica};

/// The topic that the metadata log is.
const TOPIC: &str = "__cluster_metadata";

/// The first version that names nodes. KIP-853.
const NAMES_NODES: i16 = 2;

/// Answers for the node `own`.
pub(super) fn describe(
    version: i16,
    facts: &QuorumFacts,
    own: BrokerId,
    now: Timestamp,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let [DescribeQuorumRequestTopic { topic_name, partitions }] = &request.topics[..] else {
        return refused(request, ErrorCode::UnknownTopicOrPartition);
    };
    let is_it = topic_name == TOPIC && partitions.len() == 1 && partitions[0].partition_index == 0;
    if !is_it {
        return refused(request, ErrorCode::UnknownTopicOrPartition);
    }
    if facts.leader != own {
        let code = ErrorCode::NotLeaderOrFollower;
        return DescribeQuorumResponse {
            error_code: code.to_wire(),
            error_message: Some(code.meaning().to_owned()),
            ..DescribeQuorumResponse::default()
        };
    }
    let states = |voters: bool| {
        let replicas = facts.replicas.iter().filter(move |it| it.is_voter == voters);
        replicas.map(|it| state(it, own, now)).collect::<Vec<_>>()
    };
    let partition = DescribeQuorumResponsePartition {
        partition_index: 0,
        leader_id: facts.leader.0,
        leader_epoch: i32::try_from(facts.term).unwrap_or(i32::MAX),
        high_watermark: facts.applied.0,
        current_voters: states(true),
        observers: states(false),
        ..DescribeQuorumResponsePartition::default()
    };
    let topic =
        DescribeQuorumResponseTopic { topic_name: TOPIC.to_owned(), partitions: vec![partition] };
    let node = |it: &QuorumReplica| DescribeQuorumNode { node_id: it.id.0, listeners: Vec::new() };
    let named = facts.replicas.iter().filter(|_| NAMES_NODES <= version);
    DescribeQuorumResponse {
        topics: vec![topic],
        nodes: named.map(node).collect(),
        ..DescribeQuorumResponse::default()
    }
}

/// The leader is always up to date, as if it had fetched from itself just now.
fn state(replica: &QuorumReplica, own: BrokerId, now: Timestamp) -> QuorumReplicaState {
    let is_leader = replica.id == own;
    QuorumReplicaState {
        replica_id: replica.id.0,
        replica_directory_id: TopicId::ZERO,
        log_end_offset: replica.log_end.unwrap_or(Offset::NONE).0,
        last_fetch_timestamp: if is_leader { now } else { Timestamp::NONE }.0,
        last_caught_up_timestamp: if is_leader { now } else { Timestamp::NONE }.0,
    }
}

fn refused(request: DescribeQuorumRequest, code: ErrorCode) -> DescribeQuorumResponse {
    let topics = request.topics.into_iter().map(|topic| DescribeQuorumResponseTopic {
        topic_name: topic.topic_name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| DescribeQuorumResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.to_wire(),
                error_message: Some(code.meaning().to_owned()),
                leader_id: BrokerId::NONE.0,
                ..DescribeQuorumResponsePartition::default()
            })
            .collect(),
    });
    DescribeQuorumResponse { topics: topics.collect(), ..DescribeQuorumResponse::default() }
}
