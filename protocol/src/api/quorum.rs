//! DescribeQuorum: who keeps the metadata log, and how far each has come. KIP-595. Pure.

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// Asks about the quorum of the metadata log.
    pub struct DescribeQuorumRequest {
        /// The topics: `__cluster_metadata` alone.
        topics: Vec<DescribeQuorumRequestTopic>;
    }

    /// Partitions of one topic to ask about.
    pub struct DescribeQuorumRequestTopic {
        /// The topic's name.
        topic_name: String;
        /// The partitions.
        partitions: Vec<DescribeQuorumRequestPartition>;
    }

    /// A partition to ask about.
    pub struct DescribeQuorumRequestPartition {
        /// Which partition.
        partition_index: i32;
    }

    /// The quorum. v1: when replicas fetched (KIP-836); v2: directories and nodes (KIP-853).
    pub struct DescribeQuorumResponse {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new()), in 2.., ignorable;
        /// The topics.
        topics: Vec<DescribeQuorumResponseTopic>;
        /// Where the nodes of the quorum are.
        nodes: Vec<DescribeQuorumNode>, in 2..;
    }

    /// The quorum of one topic.
    pub struct DescribeQuorumResponseTopic {
        /// The topic's name.
        topic_name: String;
        /// The partitions.
        partitions: Vec<DescribeQuorumResponsePartition>;
    }

    /// The quorum of one partition.
    pub struct DescribeQuorumResponsePartition {
        /// Which partition.
        partition_index: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new()), in 2.., ignorable;
        /// The leader. -1: unknown.
        leader_id: i32;
        /// The newest leader epoch known.
        leader_epoch: i32;
        /// The end (exclusive) of what the quorum has committed.
        high_watermark: i64;
        /// Those that vote.
        current_voters: Vec<QuorumReplicaState>;
        /// Those that only follow.
        observers: Vec<QuorumReplicaState>;
    }

    /// How far one replica of the metadata log is.
    pub struct QuorumReplicaState {
        /// The replica.
        replica_id: i32;
        /// The id of its directory. Zero: unknown.
        replica_directory_id: TopicId, in 2..;
        /// Where its next record will go. -1: unknown.
        log_end_offset: i64;
        /// When it last fetched, in milliseconds. -1: unknown, or the leader itself.
        last_fetch_timestamp: i64 = -1, in 1.., ignorable;
        /// When it last had all, in milliseconds. -1: unknown; of the leader itself, now.
        last_caught_up_timestamp: i64 = -1, in 1.., ignorable;
    }

    /// Where a node of the quorum is.
    pub struct DescribeQuorumNode {
        /// The node.
        node_id: i32;
        /// Its listeners.
        listeners: Vec<DescribeQuorumListener>;
    }

    /// Where a node listens.
    pub struct DescribeQuorumListener {
        /// The listener's name.
        name: String;
        /// Where to connect to.
        host: String;
        /// The port there.
        port: u16;
    }
}
