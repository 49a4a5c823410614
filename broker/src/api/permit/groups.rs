//! Requests about groups: the group is permitted or not, and the topics of its offsets. Pure.

use protocol::api::consumer_group::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DescribedConsumerGroup,
};
use protocol::api::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use protocol::api::group::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, DescribedGroup, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};
use protocol::api::group_offsets::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use protocol::error_code::ErrorCode;

use super::{Gate, Verdict, if_permitted, refuse, serve_and_amend, split, words};
use crate::metadata::AclOperation::{ClusterAction, Delete, Describe, Read};
use crate::metadata::ResourceType;

const DENIED: ErrorCode = ErrorCode::GroupAuthorizationFailed;
const TOPIC_DENIED: ErrorCode = ErrorCode::TopicAuthorizationFailed;

/// Of FindCoordinator's keys: a transactional id.
const TRANSACTION_KEY: i8 = 1;
/// A share of a group.
const SHARE_KEY: i8 = 2;
/// The offset of a partition that has none.
const NO_OFFSET: i64 = -1;

pub(super) fn join(gate: &Gate, body: JoinGroupRequest) -> Verdict {
    if_permitted(gate.group(Read, &body.group_id), body, || JoinGroupResponse {
        error_code: DENIED.to_wire(),
        ..JoinGroupResponse::default()
    })
}

pub(super) fn sync(gate: &Gate, body: SyncGroupRequest) -> Verdict {
    if_permitted(gate.group(Read, &body.group_id), body, || SyncGroupResponse {
        error_code: DENIED.to_wire(),
        ..SyncGroupResponse::default()
    })
}

pub(super) fn heartbeat(gate: &Gate, body: HeartbeatRequest) -> Verdict {
    if_permitted(gate.group(Read, &body.group_id), body, || HeartbeatResponse {
        error_code: DENIED.to_wire(),
        ..HeartbeatResponse::default()
    })
}

pub(super) fn leave(gate: &Gate, body: LeaveGroupRequest) -> Verdict {
    if_permitted(gate.group(Read, &body.group_id), body, || LeaveGroupResponse {
        error_code: DENIED.to_wire(),
        ..LeaveGroupResponse::default()
    })
}

/// A member sees which topics there are, so it must be allowed to see those that it names.
pub(super) fn consumer_heartbeat(gate: &Gate, body: ConsumerGroupHeartbeatRequest) -> Verdict {
    let sees = |name: &String| gate.topic(Describe, name);
    let code = if !gate.group(Read, &body.group_id) {
        DENIED
    } else if !body.subscribed_topic_names.iter().flatten().all(sees) {
        TOPIC_DENIED
    } else {
        return super::serve(body);
    };
    refuse(ConsumerGroupHeartbeatResponse {
        error_code: code.to_wire(),
        error_message: words(code),
        ..ConsumerGroupHeartbeatResponse::default()
    })
}

/// Whether a key may be looked up.
type May<'a> = Box<dyn Fn(&str) -> bool + 'a>;

/// The first version that looks several up at once. KIP-699.
const BY_KEYS: i16 = 4;

pub(super) fn find_coordinator(
    gate: &Gate,
    version: i16,
    mut body: FindCoordinatorRequest,
) -> Verdict {
    let kind = body.key_type;
    let (may, code): (May<'_>, _) = match kind {
        TRANSACTION_KEY => {
            (Box::new(|key| gate.txn(Describe, key)), ErrorCode::TransactionalIdAuthorizationFailed)
        }
        SHARE_KEY => {
            (Box::new(|_| gate.cluster(ClusterAction)), ErrorCode::ClusterAuthorizationFailed)
        }
        _ => (Box::new(|key| gate.group(Describe, key)), DENIED),
    };
    let no_node = (-1, String::new(), -1);
    if version < BY_KEYS {
        let is_permitted = may(&body.key);
        return if_permitted(is_permitted, body, || FindCoordinatorResponse {
            error_code: code.to_wire(),
            error_message: words(code),
            node_id: no_node.0,
            host: no_node.1,
            port: no_node.2,
            ..FindCoordinatorResponse::default()
        });
    }
    let (open, denied) = split(body.coordinator_keys, |key| may(key));
    let refused = denied.into_iter().map(|key| Coordinator {
        key,
        node_id: no_node.0,
        host: no_node.1.clone(),
        port: no_node.2,
        error_code: code.to_wire(),
        error_message: words(code),
    });
    let refused: Vec<_> = refused.collect();
    if open.is_empty() && !refused.is_empty() {
        let coordinators = refused;
        return refuse(FindCoordinatorResponse { coordinators, ..Default::default() });
    }
    body.coordinator_keys = open;
    serve_and_amend!(FindCoordinator, body, move |answer: &mut FindCoordinatorResponse| {
        answer.coordinators.extend(refused);
    })
}

/// The first version that says in words why a group is not described.
const HAS_WORDS: i16 = 6;

pub(super) fn describe(gate: &Gate, version: i16, mut body: DescribeGroupsRequest) -> Verdict {
    let (open, denied) = split(body.groups, |it| gate.group(Describe, it));
    body.groups = open;
    let refused = denied.into_iter().map(|group_id| DescribedGroup {
        error_code: DENIED.to_wire(),
        error_message: words(DENIED).filter(|_| version >= HAS_WORDS),
        group_id,
        ..DescribedGroup::default()
    });
    let refused: Vec<_> = refused.collect();
    let gate = gate.quiet();
    serve_and_amend!(DescribeGroups, body, move |answer: &mut DescribeGroupsResponse| {
        for group in &mut answer.groups {
            let bits = group.authorized_operations;
            group.authorized_operations =
                gate.operations(bits, ResourceType::Group, &group.group_id);
        }
        answer.groups.extend(refused);
    })
}

/// Whoever sees the groups sees the topics that their members read: without these, the group is
/// told as denied.
pub(super) fn consumer_describe(gate: &Gate, mut body: ConsumerGroupDescribeRequest) -> Verdict {
    let (open, denied) = split(body.group_ids, |it| gate.group(Describe, it));
    body.group_ids = open;
    let refused = |group_id: String, code: ErrorCode| DescribedConsumerGroup {
        error_code: code.to_wire(),
        error_message: words(code),
        group_id,
        ..DescribedConsumerGroup::default()
    };
    let denied: Vec<_> = denied.into_iter().map(|id| refused(id, DENIED)).collect();
    let gate = gate.quiet();
    let amend = move |answer: &mut ConsumerGroupDescribeResponse| {
        for group in &mut answer.groups {
            let members = group.members.iter();
            let topics = members.flat_map(|member| {
                let assigned = [&member.assignment, &member.target_assignment];
                let assigned = assigned.into_iter().flat_map(|it| &it.topic_partitions);
                assigned.map(|it| &it.topic_name).chain(&member.subscribed_topic_names)
            });
            if !topics.into_iter().all(|name| gate.topic(Describe, name)) {
                *group = refused(std::mem::take(&mut group.group_id), TOPIC_DENIED);
                continue;
            }
            let bits = group.authorized_operations;
            group.authorized_operations =
                gate.operations(bits, ResourceType::Group, &group.group_id);
        }
        answer.groups.extend(denied);
    };
    serve_and_amend!(ConsumerGroupDescribe, body, amend)
}

pub(super) fn list(gate: &Gate, body: ListGroupsRequest) -> Verdict {
    let gate = gate.quiet();
    if gate.cluster(Describe) {
        return super::serve(body);
    }
    serve_and_amend!(ListGroups, body, move |answer: &mut ListGroupsResponse| {
        answer.groups.retain(|it| gate.group(Describe, &it.group_id));
    })
}

pub(super) fn delete(gate: &Gate, mut body: DeleteGroupsRequest) -> Verdict {
    let (open, denied) = split(body.groups_names, |it| gate.group(Delete, it));
    body.groups_names = open;
    let error_code = DENIED.to_wire();
    let refused = denied.into_iter().map(|group_id| DeletableGroupResult { group_id, error_code });
    let refused: Vec<_> = refused.collect();
    serve_and_amend!(DeleteGroups, body, move |answer: &mut DeleteGroupsResponse| {
        answer.results.extend(refused);
    })
}

fn uncommitted(
    topics: Vec<OffsetCommitRequestTopic>,
    code: ErrorCode,
) -> Vec<OffsetCommitResponseTopic> {
    let topics = topics.into_iter().map(|it| OffsetCommitResponseTopic {
        name: it.name,
        topic_id: it.topic_id,
        partitions: it
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.to_wire(),
            })
            .collect(),
    });
    topics.collect()
}

pub(super) fn offset_commit(gate: &Gate, mut body: OffsetCommitRequest) -> Verdict {
    if !gate.group(Read, &body.group_id) {
        let topics = uncommitted(body.topics, DENIED);
        return refuse(OffsetCommitResponse { topics, ..Default::default() });
    }
    let (open, denied) = split(body.topics, |it| gate.either(Read, it.topic_id, &it.name));
    let refused = uncommitted(denied, TOPIC_DENIED);
    if open.is_empty() && !refused.is_empty() {
        return refuse(OffsetCommitResponse { topics: refused, ..Default::default() });
    }
    body.topics = open;
    serve_and_amend!(OffsetCommit, body, move |answer: &mut OffsetCommitResponse| {
        answer.topics.extend(refused);
    })
}

/// The first version that asks for several groups. KIP-709.
const BY_GROUP: i16 = 8;

pub(super) fn offset_fetch(gate: &Gate, version: i16, body: OffsetFetchRequest) -> Verdict {
    if version >= BY_GROUP { offsets_of_groups(gate, body) } else { offsets_of_one(gate, body) }
}

fn offsets_of_one(gate: &Gate, mut body: OffsetFetchRequest) -> Verdict {
    let asks_for_all = body.topics.is_none();
    let group_open = gate.group(Describe, &body.group_id);
    let code = if group_open { TOPIC_DENIED } else { DENIED };
    let (open, denied) = split(body.topics.take().unwrap_or_default(), |it| {
        group_open && gate.topic(Describe, &it.name)
    });
    let refused = denied.into_iter().map(|it| OffsetFetchResponseTopic {
        name: it.name,
        partitions: it
            .partition_indexes
            .iter()
            .map(|&partition_index| OffsetFetchResponsePartition {
                partition_index,
                committed_offset: NO_OFFSET,
                error_code: code.to_wire(),
                ..OffsetFetchResponsePartition::default()
            })
            .collect(),
    });
    let refused: Vec<_> = refused.collect();
    if !group_open {
        let error_code = code.to_wire();
        return refuse(OffsetFetchResponse { topics: refused, error_code, ..Default::default() });
    }
    body.topics = (!asks_for_all).then_some(open);
    let gate = gate.quiet();
    serve_and_amend!(OffsetFetch, body, move |answer: &mut OffsetFetchResponse| {
        answer.topics.retain(|it| gate.topic(Describe, &it.name));
        answer.topics.extend(refused);
    })
}

fn offsets_of_groups(gate: &Gate, mut body: OffsetFetchRequest) -> Verdict {
    let (mut open, denied) = split(body.groups, |it| gate.group(Describe, &it.group_id));
    let refused = denied.into_iter().map(|it| OffsetFetchResponseGroup {
        group_id: it.group_id,
        error_code: DENIED.to_wire(),
        ..OffsetFetchResponseGroup::default()
    });
    let refused: Vec<_> = refused.collect();
    // In the order of the groups that are left, as their answers come.
    let without = |it: &mut OffsetFetchRequestGroup| unseen(gate, &mut it.topics);
    let hidden: Vec<_> = open.iter_mut().map(without).collect();
    if open.is_empty() && !refused.is_empty() {
        return refuse(OffsetFetchResponse { groups: refused, ..Default::default() });
    }
    body.groups = open;
    let gate = gate.quiet();
    serve_and_amend!(OffsetFetch, body, move |answer: &mut OffsetFetchResponse| {
        for (group, hidden) in answer.groups.iter_mut().zip(hidden) {
            group.topics.retain(|it| gate.either(Describe, it.topic_id, &it.name));
            if group.error_code == 0 {
                group.topics.extend(hidden);
            }
        }
        answer.groups.extend(refused);
    })
}

/// Takes the topics that may not be seen out of those asked for; gives their answers.
fn unseen(
    gate: &Gate,
    topics: &mut Option<Vec<OffsetFetchRequestTopics>>,
) -> Vec<OffsetFetchResponseTopics> {
    let Some(asked) = topics.take() else { return Vec::new() };
    let (open, denied) = split(asked, |it| gate.either(Describe, it.topic_id, &it.name));
    *topics = Some(open);
    let refused = denied.into_iter().map(|it| OffsetFetchResponseTopics {
        name: it.name,
        topic_id: it.topic_id,
        partitions: it
            .partition_indexes
            .iter()
            .map(|&partition_index| OffsetFetchResponsePartitions {
                partition_index,
                committed_offset: NO_OFFSET,
                error_code: TOPIC_DENIED.to_wire(),
                ..OffsetFetchResponsePartitions::default()
            })
            .collect(),
    });
    refused.collect()
}

pub(super) fn offset_delete(gate: &Gate, mut body: OffsetDeleteRequest) -> Verdict {
    if !gate.group(Delete, &body.group_id) {
        let error_code = DENIED.to_wire();
        return refuse(OffsetDeleteResponse { error_code, ..Default::default() });
    }
    let (open, denied) = split(body.topics, |it| gate.topic(Read, &it.name));
    body.topics = open;
    let refused = denied.into_iter().map(|it| OffsetDeleteResponseTopic {
        name: it.name,
        partitions: it
            .partitions
            .iter()
            .map(|partition| OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: TOPIC_DENIED.to_wire(),
            })
            .collect(),
    });
    let refused: Vec<_> = refused.collect();
    serve_and_amend!(OffsetDelete, body, move |answer: &mut OffsetDeleteResponse| {
        answer.topics.extend(refused);
    })
}
