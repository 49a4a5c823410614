//! AlterPartitionReassignments and ListPartitionReassignments: partitions move to other brokers.
//!
//! A reassignment is done once its new replicas are in sync; until then it is listed. KIP-455. Pure.

use crate::wire;

wire! {
    /// Asks to place partitions on other brokers. v1: may forbid to change how many.
    pub struct AlterPartitionReassignmentsRequest {
        /// How long the caller waits, in milliseconds.
        timeout_ms: i32 = 60_000;
        /// Whether the number of replicas may change.
        allow_replication_factor_change: bool = true, in 1..;
        /// The topics.
        topics: Vec<ReassignableTopic>;
    }

    /// Partitions of one topic to place.
    pub struct ReassignableTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<ReassignablePartition>;
    }

    /// Where a partition is to be.
    pub struct ReassignablePartition {
        /// Which partition.
        partition_index: i32;
        /// The brokers, preferred leader first. `None`: cancel what is under way.
        replicas: Option<Vec<i32>>;
    }

    /// Which reassignments began.
    pub struct AlterPartitionReassignmentsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// Whether the number of replicas was allowed to change.
        allow_replication_factor_change: bool = true, in 1.., ignorable;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// The topics.
        responses: Vec<ReassignableTopicResponse>;
    }

    /// Which reassignments of one topic began.
    pub struct ReassignableTopicResponse {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<ReassignablePartitionResponse>;
    }

    /// Whether one reassignment began.
    pub struct ReassignablePartitionResponse {
        /// Which partition.
        partition_index: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
    }

    /// Asks which reassignments are under way.
    pub struct ListPartitionReassignmentsRequest {
        /// How long the caller waits, in milliseconds.
        timeout_ms: i32 = 60_000;
        /// The topics. `None`: all.
        topics: Option<Vec<ListPartitionReassignmentsTopic>>;
    }

    /// Partitions of one topic to ask about.
    pub struct ListPartitionReassignmentsTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partition_indexes: Vec<i32>;
    }

    /// The reassignments under way.
    pub struct ListPartitionReassignmentsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// The topics.
        topics: Vec<OngoingTopicReassignment>;
    }

    /// The reassignments of one topic.
    pub struct OngoingTopicReassignment {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<OngoingPartitionReassignment>;
    }

    /// A reassignment under way.
    pub struct OngoingPartitionReassignment {
        /// Which partition.
        partition_index: i32;
        /// The brokers at the moment.
        replicas: Vec<i32>;
        /// Those that come.
        adding_replicas: Vec<i32>;
        /// Those that go.
        removing_replicas: Vec<i32>;
    }
}
