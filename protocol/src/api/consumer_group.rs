//! The consumer group protocol: the coordinator assigns, members follow. KIP-848.
//!
//! One request does all that a member needs: it joins with epoch 0, stays by sending its epoch,
//! leaves with -1, or with -2 when a static member will come back. Fields that did not change since
//! the last heartbeat are absent. Pure.

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// Joins a group, stays in it, or leaves it. v1: subscriptions by regular expression, and the
    /// member chooses its id (KIP-1082).
    pub struct ConsumerGroupHeartbeatRequest {
        /// The group.
        group_id: String;
        /// The member. In version 0 empty when it joins.
        member_id: String;
        /// The member's epoch. 0: joins; -1: leaves; -2: a static member leaves for a while.
        member_epoch: i32;
        /// The name of a static member (KIP-345). `None`: a dynamic one, or unchanged.
        instance_id: Option<String>;
        /// The member's rack. `None`: none, or unchanged.
        rack_id: Option<String>;
        /// How long the member may take to give partitions up, in milliseconds. -1: unchanged.
        rebalance_timeout_ms: i32 = -1;
        /// The topics that it wants to read. `None`: unchanged.
        subscribed_topic_names: Option<Vec<String>>;
        /// Topics whose whole name matches, too. `None`: unchanged; empty: no longer any.
        subscribed_topic_regex: Option<String>, in 1..;
        /// The assignor that it prefers. `None`: none, or unchanged.
        server_assignor: Option<String>;
        /// The partitions that it owns. `None`: unchanged.
        topic_partitions: Option<Vec<HeartbeatTopicPartitions>>;
    }

    /// Partitions of one topic.
    pub struct HeartbeatTopicPartitions {
        /// The topic's id.
        topic_id: TopicId;
        /// Which partitions.
        partitions: Vec<i32>;
    }

    /// What the member has to do.
    pub struct ConsumerGroupHeartbeatResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none.
        error_message: Option<String>;
        /// The member's id. `None`: on errors.
        member_id: Option<String>;
        /// The member's epoch.
        member_epoch: i32;
        /// When the next heartbeat is due, in milliseconds.
        heartbeat_interval_ms: i32;
        /// What it may read from now on. `None`: what it read before.
        assignment: Option<HeartbeatAssignment>;
    }

    /// The partitions that a member may read.
    pub struct HeartbeatAssignment {
        /// By topic.
        topic_partitions: Vec<HeartbeatTopicPartitions>;
    }

    /// Asks about consumer groups.
    pub struct ConsumerGroupDescribeRequest {
        /// The groups.
        group_ids: Vec<String>;
        /// Whether to say what the caller may do.
        include_authorized_operations: bool;
    }

    /// The groups. v1: what protocol each member speaks (KIP-1099).
    pub struct ConsumerGroupDescribeResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// The groups.
        groups: Vec<DescribedConsumerGroup>;
    }

    /// A consumer group.
    pub struct DescribedConsumerGroup {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none.
        error_message: Option<String>;
        /// The group.
        group_id: String;
        /// The group's state, as `Stable` or `Reconciling`.
        group_state: String;
        /// The group's epoch.
        group_epoch: i32;
        /// The epoch of the target assignment.
        assignment_epoch: i32;
        /// The assignor that is used.
        assignor_name: String;
        /// The members.
        members: Vec<DescribedConsumerGroupMember>;
        /// What the caller may do with the group, as a bit set. `i32::MIN`: not asked for.
        authorized_operations: i32 = i32::MIN;
    }

    /// A member of a consumer group.
    pub struct DescribedConsumerGroupMember {
        /// The member.
        member_id: String;
        /// The name of a static member (KIP-345). `None`: a dynamic one.
        instance_id: Option<String>;
        /// The member's rack. `None`: it told none.
        rack_id: Option<String>;
        /// The member's epoch.
        member_epoch: i32;
        /// What the member calls itself.
        client_id: String;
        /// The member's address.
        client_host: String;
        /// The topics that it wants to read.
        subscribed_topic_names: Vec<String>;
        /// Topics whose name matches, too. `None`: it has no such subscription.
        subscribed_topic_regex: Option<String>;
        /// What it may read.
        assignment: DescribedAssignment;
        /// What it should read in the end.
        target_assignment: DescribedAssignment;
        /// 0: it speaks the classic protocol; 1: the consumer protocol; -1: unknown.
        member_type: i8 = -1, in 1.., ignorable;
    }

    /// An assignment, for people.
    pub struct DescribedAssignment {
        /// By topic.
        topic_partitions: Vec<DescribedTopicPartitions>;
    }

    /// Partitions of one topic, for people.
    pub struct DescribedTopicPartitions {
        /// The topic's id.
        topic_id: TopicId;
        /// The topic's name.
        topic_name: String;
        /// Which partitions.
        partitions: Vec<i32>;
    }
}
