//! Metadata and DescribeCluster: who the brokers are and who leads what.
//!
//! From Metadata version 10 on a topic may be asked for by id, with a null name (KIP-516). Pure.

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// Asks for brokers and topics. v10, v12: topics by id (KIP-516).
    pub struct MetadataRequest {
        /// The topics. `None`: all; in version 0 an empty list means all.
        topics: Option<Vec<MetadataRequestTopic>> = Some(Vec::new()), nullable 1..;
        /// Whether topics that do not exist may be created.
        allow_auto_topic_creation: bool = true, in 4..;
        /// Whether to say what the caller may do with the cluster.
        include_cluster_authorized_operations: bool, in 8..=10;
        /// Whether to say what the caller may do with each topic.
        include_topic_authorized_operations: bool, in 8..;
    }

    /// A topic asked for.
    pub struct MetadataRequestTopic {
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 10.., ignorable;
        /// The topic's name. `None`: see the id.
        name: Option<String> = Some(String::new()), nullable 10..;
    }

    /// The brokers, and the topics asked for.
    pub struct MetadataResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 3.., ignorable;
        /// The brokers.
        brokers: Vec<MetadataResponseBroker>;
        /// The id of the cluster.
        cluster_id: Option<String>, in 2.., ignorable;
        /// The controller. -1: unknown.
        controller_id: i32 = -1, in 1.., ignorable;
        /// The topics.
        topics: Vec<MetadataResponseTopic>;
        /// What the caller may do with the cluster, as a bit set. `i32::MIN`: not asked for.
        cluster_authorized_operations: i32 = i32::MIN, in 8..=10;
        /// An error code of the wire; 0: success.
        error_code: i16, in 13.., ignorable;
    }

    /// A broker that can be connected to.
    pub struct MetadataResponseBroker {
        /// The broker's id.
        node_id: i32;
        /// Where to connect to.
        host: String;
        /// The port there.
        port: i32;
        /// Where it stands. `None`: unknown.
        rack: Option<String>, in 1.., ignorable;
    }

    /// A topic.
    pub struct MetadataResponseTopic {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The topic's name. `None`: the id is unknown.
        name: Option<String> = Some(String::new()), nullable 12..;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 10.., ignorable;
        /// Whether the topic is the cluster's own.
        is_internal: bool, in 1.., ignorable;
        /// The partitions.
        partitions: Vec<MetadataResponsePartition>;
        /// What the caller may do with the topic, as a bit set. `i32::MIN`: not asked for.
        topic_authorized_operations: i32 = i32::MIN, in 8..;
    }

    /// A partition of a topic.
    pub struct MetadataResponsePartition {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// Which partition.
        partition_index: i32;
        /// The leader. -1: none.
        leader_id: i32;
        /// The leader epoch. -1: unknown.
        leader_epoch: i32 = -1, in 7.., ignorable;
        /// All replicas, preferred leader first.
        replica_nodes: Vec<i32>;
        /// The in-sync replicas.
        isr_nodes: Vec<i32>;
        /// Replicas that are not there.
        offline_replicas: Vec<i32>, in 5.., ignorable;
    }

    /// Asks for the members of the cluster. KIP-700; v1: controllers too (KIP-919); v2: fenced
    /// brokers (KIP-1073).
    pub struct DescribeClusterRequest {
        /// Whether to say what the caller may do with the cluster.
        include_cluster_authorized_operations: bool;
        /// Who is described: 1 brokers, 2 controllers.
        endpoint_type: i8 = 1, in 1..;
        /// Whether to list fenced brokers.
        include_fenced_brokers: bool, in 2..;
    }

    /// The members of the cluster.
    pub struct DescribeClusterResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String>;
        /// Who is described: 1 brokers, 2 controllers.
        endpoint_type: i8 = 1, in 1..;
        /// The id of the cluster.
        cluster_id: String;
        /// The controller. -1: unknown.
        controller_id: i32 = -1;
        /// The brokers.
        brokers: Vec<DescribeClusterBroker>;
        /// What the caller may do with the cluster, as a bit set. `i32::MIN`: not asked for.
        cluster_authorized_operations: i32 = i32::MIN;
    }

    /// A member of the cluster.
    pub struct DescribeClusterBroker {
        /// The broker's id.
        broker_id: i32;
        /// Where to connect to.
        host: String;
        /// The port there.
        port: i32;
        /// Where it stands. `None`: unknown.
        rack: Option<String>;
        /// Whether the broker is fenced.
        is_fenced: bool, in 2..;
    }
}
