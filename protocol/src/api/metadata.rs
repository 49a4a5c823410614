//! x. Pure.

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// MetadataRequest.
    pub struct MetadataRequest {
        /// Topics.
        topics: Option<Vec<MetadataRequestTopic>> = Some(Vec::new()), nullable 1..;
        /// AllowAutoTopicCreation.
        allow_auto_topic_creation: bool = true, in 4..;
        /// IncludeClusterAuthorizedOperations.
        include_cluster_authorized_operations: bool, in 8..=10;
        /// IncludeTopicAuthorizedOperations.
        include_topic_authorized_operations: bool, in 8..;
    }

    /// MetadataRequestTopic.
    pub struct MetadataRequestTopic {
        /// TopicId.
        topic_id: TopicId, in 10.., ignorable;
        /// Name.
        name: Option<String> = Some(String::new()), nullable 10..;
    }

    /// MetadataResponse.
    pub struct MetadataResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 3.., ignorable;
        /// Brokers.
        brokers: Vec<MetadataResponseBroker>;
        /// ClusterId.
        cluster_id: Option<String>, in 2.., ignorable;
        /// ControllerId.
        controller_id: i32 = -1, in 1.., ignorable;
        /// Topics.
        topics: Vec<MetadataResponseTopic>;
        /// ClusterAuthorizedOperations.
        cluster_authorized_operations: i32 = i32::MIN, in 8..=10;
        /// ErrorCode.
        error_code: i16, in 13.., ignorable;
    }

    /// MetadataResponseBroker.
    pub struct MetadataResponseBroker {
        /// NodeId.
        node_id: i32;
        /// Host.
        host: String;
        /// Port.
        port: i32;
        /// Rack.
        rack: Option<String>, in 1.., ignorable;
    }

    /// MetadataResponseTopic.
    pub struct MetadataResponseTopic {
        /// ErrorCode.
        error_code: i16;
        /// Name.
        name: Option<String> = Some(String::new()), nullable 12..;
        /// TopicId.
        topic_id: TopicId, in 10.., ignorable;
        /// IsInternal.
        is_internal: bool, in 1.., ignorable;
        /// Partitions.
        partitions: Vec<MetadataResponsePartition>;
        /// TopicAuthorizedOperations.
        topic_authorized_operations: i32 = i32::MIN, in 8..;
    }

    /// MetadataResponsePartition.
    pub struct MetadataResponsePartition {
        /// ErrorCode.
        error_code: i16;
        /// PartitionIndex.
        partition_index: i32;
        /// LeaderId.
        leader_id: i32;
        /// LeaderEpoch.
        leader_epoch: i32 = -1, in 7.., ignorable;
        /// ReplicaNodes.
        replica_nodes: Vec<i32>;
        /// IsrNodes.
        isr_nodes: Vec<i32>;
        /// OfflineReplicas.
        offline_replicas: Vec<i32>, in 5.., ignorable;
    }

    /// DescribeClusterRequest.
    pub struct DescribeClusterRequest {
        /// IncludeClusterAuthorizedOperations.
        include_cluster_authorized_operations: bool;
        /// EndpointType.
        endpoint_type: i8 = 1, in 1..;
        /// IncludeFencedBrokers.
        include_fenced_brokers: bool, in 2..;
    }

    /// DescribeClusterResponse.
    pub struct DescribeClusterResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// ErrorCode.
        error_code: i16;
        /// ErrorMessage.
        error_message: Option<String>;
        /// EndpointType.
        endpoint_type: i8 = 1, in 1..;
        /// ClusterId.
        cluster_id: String;
        /// ControllerId.
        controller_id: i32 = -1;
        /// Brokers.
        brokers: Vec<DescribeClusterBroker>;
        /// ClusterAuthorizedOperations.
        cluster_authorized_operations: i32 = i32::MIN;
    }

    /// DescribeClusterBroker.
    pub struct DescribeClusterBroker {
        /// BrokerId.
        broker_id: i32;
        /// Host.
        host: String;
        /// Port.
        port: i32;
        /// Rack.
        rack: Option<String>;
        /// IsFenced.
        is_fenced: bool, in 2..;
    }
}
