//! CreateTopics, DeleteTopics, CreatePartitions.
//!
//! Each topic of a request succeeds or fails alone. Pure.

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// Creates topics. v4: defaults of the broker (KIP-464); v7: answers with the id (KIP-516).
    pub struct CreateTopicsRequest {
        /// The topics.
        topics: Vec<CreatableTopic>;
        /// How long to wait for it to be done, in milliseconds.
        timeout_ms: i32 = 60000;
        /// Whether to check without doing.
        validate_only: bool;
    }

    /// A topic to create.
    pub struct CreatableTopic {
        /// The topic's name.
        name: String;
        /// How many partitions. -1: the broker's default, or as assigned.
        num_partitions: i32;
        /// How many replicas each partition has. -1: the broker's default, or as assigned.
        replication_factor: i16;
        /// Where each partition goes; empty: wherever the broker likes.
        assignments: Vec<CreatableReplicaAssignment>;
        /// Settings other than the defaults.
        configs: Vec<CreatableTopicConfig>;
    }

    /// Where the replicas of one partition go.
    pub struct CreatableReplicaAssignment {
        /// Which partition.
        partition_index: i32;
        /// The brokers, preferred leader first.
        broker_ids: Vec<i32>;
    }

    /// A setting of a topic to create.
    pub struct CreatableTopicConfig {
        /// The setting.
        name: String;
        /// The value. `None`: the default.
        value: Option<String> = Some(String::new());
    }

    /// Which topics were created. v5: with their settings (KIP-525).
    pub struct CreateTopicsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// The topics.
        topics: Vec<CreatableTopicResult>;
    }

    /// Whether one topic was created, and how.
    pub struct CreatableTopicResult {
        /// The topic's name.
        name: String;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 7.., ignorable;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// Why the settings are left out; 0: they are not.
        topic_config_error_code: i16, in 5.., tag 0, ignorable;
        /// How many partitions. -1: unknown.
        num_partitions: i32 = -1, in 5.., ignorable;
        /// How many replicas each partition has. -1: unknown.
        replication_factor: i16 = -1, in 5.., ignorable;
        /// The settings. `None`: the caller may not see them.
        configs: Option<Vec<CreatableTopicConfigs>> = Some(Vec::new()), in 5.., ignorable;
    }

    /// A setting of a topic that was created.
    pub struct CreatableTopicConfigs {
        /// The setting.
        name: String;
        /// The value. `None`: none, or a secret.
        value: Option<String> = Some(String::new());
        /// Whether the setting cannot be changed.
        read_only: bool;
        /// Where the value comes from: 1 topic, 2 broker, 3 all brokers, 4 file, 5 default, 6
        /// logger, 7 client metrics, 8 group. -1: unknown.
        config_source: i8 = -1;
        /// Whether the value is a secret, and left out.
        is_sensitive: bool;
    }

    /// Deletes topics. v6: by id (KIP-516).
    pub struct DeleteTopicsRequest {
        /// The topics, from version 6 on.
        topics: Vec<DeleteTopicState>, in 6..;
        /// The topics, up to version 5.
        topic_names: Vec<String>, in ..=5, ignorable;
        /// How long to wait for it to be done, in milliseconds.
        timeout_ms: i32;
    }

    /// A topic to delete, by name or by id.
    pub struct DeleteTopicState {
        /// The topic's name. `None`: see the id.
        name: Option<String>;
        /// The topic's id. Zero: none.
        topic_id: TopicId;
    }

    /// Which topics were deleted.
    pub struct DeleteTopicsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// What became of each topic.
        responses: Vec<DeletableTopicResult>;
    }

    /// Whether one topic was deleted.
    pub struct DeletableTopicResult {
        /// The topic's name. `None`: the id is unknown.
        name: Option<String> = Some(String::new()), nullable 6..;
        /// The topic's id. Zero: none.
        topic_id: TopicId, in 6.., ignorable;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String>, in 5.., ignorable;
    }

    /// Gives topics more partitions. KIP-195.
    pub struct CreatePartitionsRequest {
        /// The topics.
        topics: Vec<CreatePartitionsTopic>;
        /// How long to wait for it to be done, in milliseconds.
        timeout_ms: i32;
        /// Whether to check without doing.
        validate_only: bool;
    }

    /// A topic to grow.
    pub struct CreatePartitionsTopic {
        /// The topic's name.
        name: String;
        /// How many partitions the topic shall have, those it has included.
        count: i32;
        /// Where each new partition goes. `None`: wherever the broker likes.
        assignments: Option<Vec<CreatePartitionsAssignment>> = Some(Vec::new());
    }

    /// Where the replicas of one new partition go.
    pub struct CreatePartitionsAssignment {
        /// The brokers, preferred leader first.
        broker_ids: Vec<i32>;
    }

    /// Which topics grew.
    pub struct CreatePartitionsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// What became of each topic.
        results: Vec<CreatePartitionsTopicResult>;
    }

    /// Whether one topic grew.
    pub struct CreatePartitionsTopicResult {
        /// The topic's name.
        name: String;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String>;
    }
}
