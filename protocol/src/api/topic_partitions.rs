//! DescribeTopicPartitions: topics and their partitions, page by page.
//!
//! A response names the place where it stopped; asking again from there gives the next page. Pure.

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// Asks for the partitions of topics, in the order of their names. KIP-966.
    pub struct DescribeTopicPartitionsRequest {
        /// The topics. Empty: all.
        topics: Vec<DescribeTopicPartitionsRequestTopic>;
        /// How many partitions the response may have.
        response_partition_limit: i32 = 2000;
        /// Where to begin. `None`: at the first partition of the first topic.
        cursor: Option<TopicPartitionCursor>;
    }

    /// A topic asked for.
    pub struct DescribeTopicPartitionsRequestTopic {
        /// The topic's name.
        name: String;
    }

    /// A place in the sequence of all partitions, ordered by topic and index.
    pub struct TopicPartitionCursor {
        /// The topic's name.
        topic_name: String;
        /// Which partition, inclusive.
        partition_index: i32;
    }

    /// A page of topics and partitions.
    pub struct DescribeTopicPartitionsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// The topics, by name.
        topics: Vec<DescribeTopicPartitionsResponseTopic>;
        /// Where the next page begins. `None`: this was the last one.
        next_cursor: Option<TopicPartitionCursor>;
    }

    /// A topic, or as much of it as the page has room for.
    pub struct DescribeTopicPartitionsResponseTopic {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The topic's name.
        name: Option<String> = Some(String::new());
        /// The topic's id. Zero: none.
        topic_id: TopicId;
        /// Whether the topic is the cluster's own.
        is_internal: bool;
        /// The partitions, by index.
        partitions: Vec<DescribeTopicPartitionsResponsePartition>;
        /// What the caller may do with the topic, as a bit set. `i32::MIN`: unknown.
        topic_authorized_operations: i32 = i32::MIN;
    }

    /// A partition of a topic.
    pub struct DescribeTopicPartitionsResponsePartition {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// Which partition.
        partition_index: i32;
        /// The leader. -1: none.
        leader_id: i32;
        /// The leader epoch. -1: unknown.
        leader_epoch: i32 = -1;
        /// All replicas, preferred leader first.
        replica_nodes: Vec<i32>;
        /// The in-sync replicas.
        isr_nodes: Vec<i32>;
        /// Replicas out of sync that may still lead without losing anything. `None`: unknown.
        eligible_leader_replicas: Option<Vec<i32>>;
        /// The last replicas that could lead. `None`: unknown.
        last_known_elr: Option<Vec<i32>>;
        /// Replicas that are not there.
        offline_replicas: Vec<i32>;
    }
}
