//! What a coordinator says of a group, of the classic protocol and of the next in one form. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::api::consumer_group::{
    DescribedAssignment, DescribedConsumerGroup, DescribedConsumerGroupMember,
};
use protocol::api::group::{DescribedGroup, DescribedGroupMember};
use protocol::consumer_protocol::{self, ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use protocol::ids::TopicPartition;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group_id: String,
    /// Its state, as `Stable` or `Empty`; `Dead` for one that does not exist.
    pub state: String,
    /// How its members are coordinated: `classic` or `consumer`. KIP-848.
    pub group_type: &'static str,
    /// What kind of group it is, as `consumer` or `connect`.
    pub protocol_type: String,
    /// The assignor in force.
    pub assignor: String,
    /// Where it stands; `None`: a classic group, which does not tell. KIP-848.
    pub epochs: Option<GroupEpochs>,
    /// Its members by id.
    pub members: BTreeMap<String, GroupMember>,
}

/// Where a group of the next protocol stands: it is stable when both are the same, and the
/// members', too. KIP-848.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEpochs {
    /// Raised when members or their subscriptions change.
    pub group_epoch: i32,
    /// The group epoch for which partitions were last assigned.
    pub assignment_epoch: i32,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its name across restarts, if it has one. KIP-345.
    pub instance_id: Option<String>,
    /// How its client calls itself.
    pub client_id: String,
    /// Whence it connected.
    pub client_host: String,
    /// Which assignment it follows; `None`: a classic member. KIP-848.
    pub member_epoch: Option<i32>,
    /// The topics that it wants; empty for groups of another kind.
    pub subscribed: BTreeSet<String>,
    /// The partitions that it consumes; empty for groups of another kind.
    pub assignment: Vec<TopicPartition>,
    /// The partitions that it shall consume; as `assignment` where there is no difference.
    pub target: Vec<TopicPartition>,
}

/// Of a classic group.
pub(super) fn of_classic(group: DescribedGroup) -> GroupDescription {
    GroupDescription {
        group_id: group.group_id,
        state: group.group_state,
        group_type: "classic",
        protocol_type: group.protocol_type,
        assignor: group.protocol_data,
        epochs: None,
        members: group.members.into_iter().map(classic_member).collect(),
    }
}

fn classic_member(it: DescribedGroupMember) -> (String, GroupMember) {
    // What is no consumer's is somebody else's business.
    let subscription =
        consumer_protocol::decode::<ConsumerProtocolSubscription>(it.member_metadata);
    let assignment = consumer_protocol::decode::<ConsumerProtocolAssignment>(it.member_assignment);
    let topics = assignment.map(|it| it.assigned_partitions).unwrap_or_default();
    let of_topic = |it: consumer_protocol::ConsumerProtocolPartitions| {
        let topic: Arc<str> = it.topic.into();
        it.partitions.into_iter().map(move |index| TopicPartition::new(Arc::clone(&topic), index))
    };
    let assignment: Vec<_> = topics.into_iter().flat_map(of_topic).collect();
    let member = GroupMember {
        instance_id: it.group_instance_id,
        client_id: it.client_id,
        client_host: it.client_host,
        member_epoch: None,
        subscribed: subscription.map(|it| it.topics.into_iter().collect()).unwrap_or_default(),
        target: assignment.clone(),
        assignment,
    };
    (it.member_id, member)
}

/// Of a group of the next protocol. KIP-848.
pub(super) fn of_consumer(group: DescribedConsumerGroup) -> GroupDescription {
    let epochs =
        GroupEpochs { group_epoch: group.group_epoch, assignment_epoch: group.assignment_epoch };
    GroupDescription {
        group_id: group.group_id,
        state: group.group_state,
        group_type: "consumer",
        protocol_type: "consumer".to_owned(),
        assignor: group.assignor_name,
        epochs: Some(epochs),
        members: group.members.into_iter().map(consumer_member).collect(),
    }
}

fn consumer_member(it: DescribedConsumerGroupMember) -> (String, GroupMember) {
    let mut subscribed: BTreeSet<String> = it.subscribed_topic_names.into_iter().collect();
    subscribed.extend(it.subscribed_topic_regex.filter(|it| !it.is_empty()));
    let member = GroupMember {
        instance_id: it.instance_id,
        client_id: it.client_id,
        client_host: it.client_host,
        member_epoch: Some(it.member_epoch),
        subscribed,
        assignment: partitions(it.assignment),
        target: partitions(it.target_assignment),
    };
    (it.member_id, member)
}

fn partitions(assignment: DescribedAssignment) -> Vec<TopicPartition> {
    let of_topic = |it: protocol::api::consumer_group::DescribedTopicPartitions| {
        let topic: Arc<str> = it.topic_name.into();
        it.partitions.into_iter().map(move |index| TopicPartition::new(Arc::clone(&topic), index))
    };
    assignment.topic_partitions.into_iter().flat_map(of_topic).collect()
}
