//! ConsumerGroupHeartbeat and ConsumerGroupDescribe: groups that their coordinator assigns.
//! KIP-848.
//!
//! What is malformed is refused here; the room behind gets heartbeats that make sense. Shell.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use protocol::api::consumer_group::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DescribedAssignment, DescribedConsumerGroup,
    DescribedConsumerGroupMember, DescribedTopicPartitions, HeartbeatAssignment,
    HeartbeatTopicPartitions,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{PartitionIndex, TopicId};

use super::cluster::GROUP_OPERATIONS;
use super::serving::Context;
use crate::group::assignor::Assignment;
use crate::group::beat::{Beat, Beaten, Intent, Sight};
use crate::group::modern::Epoch;
use crate::group::{ConsumerDescription, ConsumerMember, Groups, NamedAssignment, Reply, Request};

/// The first version in which the member chooses its id. KIP-1082.
const MEMBER_CHOOSES_ID: i16 = 1;
/// What `member_type` says of a member of the classic protocol. KIP-1099.
const CLASSIC_MEMBER: i8 = 0;
/// What it says of the others.
const CONSUMER_MEMBER: i8 = 1;

/// Why a heartbeat makes no sense; told as it stands.
type Malformed = &'static str;

/// ConsumerGroupHeartbeat. An expression matches only topics that are in `sight`.
pub(crate) async fn heartbeat(
    groups: &Groups,
    context: Context,
    sight: Sight,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let beat = match parse(&context, sight, request) {
        Ok(beat) => beat,
        Err(reason) => return refused(ErrorCode::InvalidRequest, reason.to_owned()),
    };
    let group = Arc::clone(&beat.group);
    match groups.call(&group, Request::ConsumerHeartbeat(Box::new(beat))).await {
        Ok(Reply::ConsumerHeartbeat(Ok(beaten))) => answer(beaten),
        Ok(Reply::ConsumerHeartbeat(Err(error))) => refused(error.code(), error.to_string()),
        Ok(other) => unreachable!("a heartbeat is answered as one: {other:?}"),
        Err(error) => refused(error.code(), error.to_string()),
    }
}

fn refused(code: ErrorCode, message: String) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: code.to_wire(),
        error_message: Some(message),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn answer(beaten: Beaten) -> ConsumerGroupHeartbeatResponse {
    let topic = |(topic_id, indices): (TopicId, BTreeSet<PartitionIndex>)| {
        let partitions = indices.into_iter().map(|it| it.0).collect();
        HeartbeatTopicPartitions { topic_id, partitions }
    };
    let assignment = beaten
        .assignment
        .map(|it| HeartbeatAssignment { topic_partitions: it.into_iter().map(topic).collect() });
    ConsumerGroupHeartbeatResponse {
        throttle_time_ms: 0,
        error_code: ErrorCode::None.to_wire(),
        error_message: None,
        member_id: Some(beaten.member_id.to_string()),
        member_epoch: beaten.epoch.0,
        // Who has left has none to send.
        heartbeat_interval_ms: if beaten.epoch < Epoch::JOIN {
            0
        } else {
            i32::try_from(beaten.interval.as_millis()).unwrap_or(i32::MAX)
        },
        assignment,
    }
}

/// What the request says, if it makes sense.
fn parse(
    context: &Context,
    sight: Sight,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<Beat, Malformed> {
    let require = |holds: bool, reason: Malformed| if holds { Ok(()) } else { Err(reason) };
    let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
    require(!request.group_id.is_empty(), "GroupId can't be empty.")?;
    require(!is_empty(&request.instance_id), "InstanceId can't be empty.")?;
    require(!is_empty(&request.rack_id), "RackId can't be empty.")?;
    let intent = match Epoch(request.member_epoch) {
        Epoch::JOIN => Intent::Join,
        Epoch::LEAVE => Intent::Leave,
        Epoch::LEAVE_STATIC => Intent::LeaveForNow,
        epoch if Epoch::JOIN < epoch => Intent::Stay(epoch),
        _ => return Err("MemberEpoch is invalid."),
    };
    let rebalance_timeout = u64::try_from(request.rebalance_timeout_ms).ok();
    let member_id: Arc<str> = request.member_id.into();
    // In version 0 a member that joins is given its id.
    let may_be_nobody = intent == Intent::Join && context.version < MEMBER_CHOOSES_ID;
    require(may_be_nobody || !member_id.is_empty(), "MemberId can't be empty.")?;
    match intent {
        Intent::Join => {
            require(
                rebalance_timeout.is_some(),
                "RebalanceTimeoutMs must be provided in first request.",
            )?;
            let owns_nothing = request.topic_partitions.as_ref().is_some_and(Vec::is_empty);
            require(owns_nothing, "TopicPartitions must be empty when (re-)joining.")?;
            let subscribes = request.subscribed_topic_names.is_some()
                || request.subscribed_topic_regex.is_some();
            require(
                subscribes,
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            )?;
        }
        Intent::LeaveForNow => {
            require(request.instance_id.is_some(), "InstanceId can't be null.")?;
        }
        Intent::Leave | Intent::Stay(_) => {}
    }
    let topics = request.subscribed_topic_names;
    Ok(Beat {
        group: request.group_id.into(),
        member_id,
        intent,
        instance_id: request.instance_id.map(Into::into),
        rack_id: request.rack_id.map(Into::into),
        rebalance_timeout: rebalance_timeout.map(Duration::from_millis),
        topics: topics.map(|it| it.into_iter().map(Into::into).collect()),
        pattern: request.subscribed_topic_regex.map(Into::into),
        sight,
        assignor: request.server_assignor.map(Into::into),
        owned: request.topic_partitions.map(owned),
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: format!("/{}", context.session.host()).into(),
    })
}

fn owned(topics: Vec<HeartbeatTopicPartitions>) -> Assignment {
    let mut owned = Assignment::new();
    for topic in topics.into_iter().filter(|it| !it.partitions.is_empty()) {
        let indices = topic.partitions.into_iter().map(PartitionIndex);
        owned.entry(topic.topic_id).or_default().extend(indices);
    }
    owned
}

/// ConsumerGroupDescribe.
pub(crate) async fn describe(
    groups: &Groups,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let asks = request.include_authorized_operations;
    let authorized_operations = if asks { GROUP_OPERATIONS } else { i32::MIN };
    let mut described = Vec::new();
    for group_id in request.group_ids {
        let group: Arc<str> = group_id.as_str().into();
        let found = if group.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            match groups.call(&group, Request::DescribeConsumer(Arc::clone(&group))).await {
                Ok(Reply::DescribedConsumer(described)) => described,
                Ok(other) => unreachable!("a description is answered as one: {other:?}"),
                Err(error) => Err(error.code()),
            }
        };
        described.push(match found {
            Ok(found) => DescribedConsumerGroup {
                authorized_operations,
                ..described_group(group_id, *found)
            },
            Err(code) => DescribedConsumerGroup {
                error_code: code.to_wire(),
                error_message: Some(match code {
                    ErrorCode::GroupIdNotFound => format!("there is no consumer group {group_id}"),
                    other => other.meaning().to_owned(),
                }),
                group_id,
                ..DescribedConsumerGroup::default()
            },
        });
    }
    ConsumerGroupDescribeResponse { throttle_time_ms: 0, groups: described }
}

fn described_group(group_id: String, found: ConsumerDescription) -> DescribedConsumerGroup {
    DescribedConsumerGroup {
        group_id,
        group_state: found.state.to_owned(),
        group_epoch: found.epoch.0,
        assignment_epoch: found.target_epoch.0,
        assignor_name: found.assignor.to_owned(),
        members: found.members.into_iter().map(described_member).collect(),
        ..DescribedConsumerGroup::default()
    }
}

fn described_member(member: ConsumerMember) -> DescribedConsumerGroupMember {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let it = &member.subscriber;
    DescribedConsumerGroupMember {
        member_id: member.member_id.to_string(),
        instance_id: text(&it.instance_id),
        rack_id: text(&it.rack_id),
        member_epoch: member.epoch.0,
        client_id: it.client_id.to_string(),
        client_host: it.client_host.to_string(),
        subscribed_topic_names: it.topics.iter().map(ToString::to_string).collect(),
        // Where the schema has null for a member without one, Kafka says this.
        subscribed_topic_regex: Some(text(&it.pattern).unwrap_or_default()),
        assignment: described_assignment(member.assignment),
        target_assignment: described_assignment(member.target),
        member_type: if it.classic.is_some() { CLASSIC_MEMBER } else { CONSUMER_MEMBER },
    }
}

fn described_assignment(assignment: NamedAssignment) -> DescribedAssignment {
    let topic = |(topic_id, name, indices): (TopicId, Arc<str>, BTreeSet<PartitionIndex>)| {
        let partitions = indices.into_iter().map(|it| it.0).collect();
        DescribedTopicPartitions { topic_id, topic_name: name.to_string(), partitions }
    };
    DescribedAssignment { topic_partitions: assignment.into_iter().map(topic).collect() }
}
