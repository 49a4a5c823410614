//! x. Pure.

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// CreateTopicsRequest.
    pub struct CreateTopicsRequest {
        /// Topics.
        topics: Vec<CreatableTopic>;
        /// timeoutMs.
        timeout_ms: i32 = 60000;
        /// validateOnly.
        validate_only: bool;
    }

    /// CreatableTopic.
    pub struct CreatableTopic {
        /// Name.
        name: String;
        /// NumPartitions.
        num_partitions: i32;
        /// ReplicationFactor.
        replication_factor: i16;
        /// Assignments.
        assignments: Vec<CreatableReplicaAssignment>;
        /// Configs.
        configs: Vec<CreatableTopicConfig>;
    }

    /// CreatableReplicaAssignment.
    pub struct CreatableReplicaAssignment {
        /// PartitionIndex.
        partition_index: i32;
        /// BrokerIds.
        broker_ids: Vec<i32>;
    }

    /// CreatableTopicConfig.
    pub struct CreatableTopicConfig {
        /// Name.
        name: String;
        /// Value.
        value: Option<String> = Some(String::new());
    }

    /// CreateTopicsResponse.
    pub struct CreateTopicsResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// Topics.
        topics: Vec<CreatableTopicResult>;
    }

    /// CreatableTopicResult.
    pub struct CreatableTopicResult {
        /// Name.
        name: String;
        /// TopicId.
        topic_id: TopicId, in 7.., ignorable;
        /// ErrorCode.
        error_code: i16;
        /// ErrorMessage.
        error_message: Option<String> = Some(String::new());
        /// TopicConfigErrorCode.
        topic_config_error_code: i16, in 5.., tag 0, ignorable;
        /// NumPartitions.
        num_partitions: i32 = -1, in 5.., ignorable;
        /// ReplicationFactor.
        replication_factor: i16 = -1, in 5.., ignorable;
        /// Configs.
        configs: Option<Vec<CreatableTopicConfigs>> = Some(Vec::new()), in 5.., ignorable;
    }

    /// CreatableTopicConfigs.
    pub struct CreatableTopicConfigs {
        /// Name.
        name: String;
        /// Value.
        value: Option<String> = Some(String::new());
        /// ReadOnly.
        read_only: bool;
        /// ConfigSource.
        config_source: i8 = -1;
        /// IsSensitive.
        is_sensitive: bool;
    }

    /// DeleteTopicsRequest.
    pub struct DeleteTopicsRequest {
        /// Topics.
        topics: Vec<DeleteTopicState>, in 6..;
        /// TopicNames.
        topic_names: Vec<String>, in ..=5, ignorable;
        /// TimeoutMs.
        timeout_ms: i32;
    }

    /// DeleteTopicState.
    pub struct DeleteTopicState {
        /// Name.
        name: Option<String>;
        /// TopicId.
        topic_id: TopicId;
    }

    /// DeleteTopicsResponse.
    pub struct DeleteTopicsResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// Responses.
        responses: Vec<DeletableTopicResult>;
    }

    /// DeletableTopicResult.
    pub struct DeletableTopicResult {
        /// Name.
        name: Option<String> = Some(String::new()), nullable 6..;
        /// TopicId.
        topic_id: TopicId, in 6.., ignorable;
        /// ErrorCode.
        error_code: i16;
        /// ErrorMessage.
        error_message: Option<String>, in 5.., ignorable;
    }

    /// CreatePartitionsRequest.
    pub struct CreatePartitionsRequest {
        /// Topics.
        topics: Vec<CreatePartitionsTopic>;
        /// TimeoutMs.
        timeout_ms: i32;
        /// ValidateOnly.
        validate_only: bool;
    }

    /// CreatePartitionsTopic.
    pub struct CreatePartitionsTopic {
        /// Name.
        name: String;
        /// Count.
        count: i32;
        /// Assignments.
        assignments: Option<Vec<CreatePartitionsAssignment>> = Some(Vec::new());
    }

    /// CreatePartitionsAssignment.
    pub struct CreatePartitionsAssignment {
        /// BrokerIds.
        broker_ids: Vec<i32>;
    }

    /// CreatePartitionsResponse.
    pub struct CreatePartitionsResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// Results.
        results: Vec<CreatePartitionsTopicResult>;
    }

    /// CreatePartitionsTopicResult.
    pub struct CreatePartitionsTopicResult {
        /// Name.
        name: String;
        /// ErrorCode.
        error_code: i16;
        /// ErrorMessage.
        error_message: Option<String>;
    }
}
