//! x. Pure.

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// OffsetCommitRequest.
    pub struct OffsetCommitRequest {
        /// GroupId.
        group_id: String;
        /// GenerationIdOrMemberEpoch.
        generation_id_or_member_epoch: i32 = -1;
        /// MemberId.
        member_id: String;
        /// GroupInstanceId.
        group_instance_id: Option<String>, in 7..;
        /// RetentionTimeMs.
        retention_time_ms: i64 = -1, in ..=4, ignorable;
        /// Topics.
        topics: Vec<OffsetCommitRequestTopic>;
    }

    /// OffsetCommitRequestTopic.
    pub struct OffsetCommitRequestTopic {
        /// Name.
        name: String, in ..=9, ignorable;
        /// TopicId.
        topic_id: TopicId, in 10.., ignorable;
        /// Partitions.
        partitions: Vec<OffsetCommitRequestPartition>;
    }

    /// OffsetCommitRequestPartition.
    pub struct OffsetCommitRequestPartition {
        /// PartitionIndex.
        partition_index: i32;
        /// CommittedOffset.
        committed_offset: i64;
        /// CommittedLeaderEpoch.
        committed_leader_epoch: i32 = -1, in 6.., ignorable;
        /// CommittedMetadata.
        committed_metadata: Option<String> = Some(String::new());
    }

    /// OffsetCommitResponse.
    pub struct OffsetCommitResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 3.., ignorable;
        /// Topics.
        topics: Vec<OffsetCommitResponseTopic>;
    }

    /// OffsetCommitResponseTopic.
    pub struct OffsetCommitResponseTopic {
        /// Name.
        name: String, in ..=9, ignorable;
        /// TopicId.
        topic_id: TopicId, in 10.., ignorable;
        /// Partitions.
        partitions: Vec<OffsetCommitResponsePartition>;
    }

    /// OffsetCommitResponsePartition.
    pub struct OffsetCommitResponsePartition {
        /// PartitionIndex.
        partition_index: i32;
        /// ErrorCode.
        error_code: i16;
    }

    /// OffsetFetchRequest.
    pub struct OffsetFetchRequest {
        /// GroupId.
        group_id: String, in ..=7;
        /// Topics.
        topics: Option<Vec<OffsetFetchRequestTopic>> = Some(Vec::new()), in ..=7, nullable 2..;
        /// Groups.
        groups: Vec<OffsetFetchRequestGroup>, in 8..;
        /// RequireStable.
        require_stable: bool, in 7..;
    }

    /// OffsetFetchRequestTopic.
    pub struct OffsetFetchRequestTopic {
        /// Name.
        name: String;
        /// PartitionIndexes.
        partition_indexes: Vec<i32>;
    }

    /// OffsetFetchRequestGroup.
    pub struct OffsetFetchRequestGroup {
        /// GroupId.
        group_id: String;
        /// MemberId.
        member_id: Option<String>, in 9.., ignorable;
        /// MemberEpoch.
        member_epoch: i32 = -1, in 9.., ignorable;
        /// Topics.
        topics: Option<Vec<OffsetFetchRequestTopics>> = Some(Vec::new());
    }

    /// OffsetFetchRequestTopics.
    pub struct OffsetFetchRequestTopics {
        /// Name.
        name: String, in ..=9, ignorable;
        /// TopicId.
        topic_id: TopicId, in 10.., ignorable;
        /// PartitionIndexes.
        partition_indexes: Vec<i32>;
    }

    /// OffsetFetchResponse.
    pub struct OffsetFetchResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 3.., ignorable;
        /// Topics.
        topics: Vec<OffsetFetchResponseTopic>, in ..=7;
        /// ErrorCode.
        error_code: i16, in 2..=7, ignorable;
        /// Groups.
        groups: Vec<OffsetFetchResponseGroup>, in 8..;
    }

    /// OffsetFetchResponseTopic.
    pub struct OffsetFetchResponseTopic {
        /// Name.
        name: String;
        /// Partitions.
        partitions: Vec<OffsetFetchResponsePartition>;
    }

    /// OffsetFetchResponsePartition.
    pub struct OffsetFetchResponsePartition {
        /// PartitionIndex.
        partition_index: i32;
        /// CommittedOffset.
        committed_offset: i64;
        /// CommittedLeaderEpoch.
        committed_leader_epoch: i32 = -1, in 5.., ignorable;
        /// Metadata.
        metadata: Option<String> = Some(String::new());
        /// ErrorCode.
        error_code: i16;
    }

    /// OffsetFetchResponseGroup.
    pub struct OffsetFetchResponseGroup {
        /// GroupId.
        group_id: String;
        /// Topics.
        topics: Vec<OffsetFetchResponseTopics>;
        /// ErrorCode.
        error_code: i16;
    }

    /// OffsetFetchResponseTopics.
    pub struct OffsetFetchResponseTopics {
        /// Name.
        name: String, in ..=9, ignorable;
        /// TopicId.
        topic_id: TopicId, in 10.., ignorable;
        /// Partitions.
        partitions: Vec<OffsetFetchResponsePartitions>;
    }

    /// OffsetFetchResponsePartitions.
    pub struct OffsetFetchResponsePartitions {
        /// PartitionIndex.
        partition_index: i32;
        /// CommittedOffset.
        committed_offset: i64;
        /// CommittedLeaderEpoch.
        committed_leader_epoch: i32 = -1;
        /// Metadata.
        metadata: Option<String> = Some(String::new());
        /// ErrorCode.
        error_code: i16;
    }
}
