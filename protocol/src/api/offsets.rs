//! x. Pure.

use crate::wire;

wire! {
    /// ListOffsetsRequest.
    pub struct ListOffsetsRequest {
        /// ReplicaId.
        replica_id: i32;
        /// IsolationLevel.
        isolation_level: i8, in 2..;
        /// Topics.
        topics: Vec<ListOffsetsTopic>;
        /// TimeoutMs.
        timeout_ms: i32, in 10.., ignorable;
    }

    /// ListOffsetsTopic.
    pub struct ListOffsetsTopic {
        /// Name.
        name: String;
        /// Partitions.
        partitions: Vec<ListOffsetsPartition>;
    }

    /// ListOffsetsPartition.
    pub struct ListOffsetsPartition {
        /// PartitionIndex.
        partition_index: i32;
        /// CurrentLeaderEpoch.
        current_leader_epoch: i32 = -1, in 4.., ignorable;
        /// Timestamp.
        timestamp: i64;
    }

    /// ListOffsetsResponse.
    pub struct ListOffsetsResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 2.., ignorable;
        /// Topics.
        topics: Vec<ListOffsetsTopicResponse>;
    }

    /// ListOffsetsTopicResponse.
    pub struct ListOffsetsTopicResponse {
        /// Name.
        name: String;
        /// Partitions.
        partitions: Vec<ListOffsetsPartitionResponse>;
    }

    /// ListOffsetsPartitionResponse.
    pub struct ListOffsetsPartitionResponse {
        /// PartitionIndex.
        partition_index: i32;
        /// ErrorCode.
        error_code: i16;
        /// Timestamp.
        timestamp: i64 = -1;
        /// Offset.
        offset: i64 = -1;
        /// LeaderEpoch.
        leader_epoch: i32 = -1, in 4..;
    }

    /// OffsetForLeaderEpochRequest.
    pub struct OffsetForLeaderEpochRequest {
        /// ReplicaId.
        replica_id: i32 = -2, in 3.., ignorable;
        /// Topics.
        topics: Vec<OffsetForLeaderTopic>;
    }

    /// OffsetForLeaderTopic.
    pub struct OffsetForLeaderTopic {
        /// Topic.
        topic: String;
        /// Partitions.
        partitions: Vec<OffsetForLeaderPartition>;
    }

    /// OffsetForLeaderPartition.
    pub struct OffsetForLeaderPartition {
        /// Partition.
        partition: i32;
        /// CurrentLeaderEpoch.
        current_leader_epoch: i32 = -1;
        /// LeaderEpoch.
        leader_epoch: i32;
    }

    /// OffsetForLeaderEpochResponse.
    pub struct OffsetForLeaderEpochResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// Topics.
        topics: Vec<OffsetForLeaderTopicResult>;
    }

    /// OffsetForLeaderTopicResult.
    pub struct OffsetForLeaderTopicResult {
        /// Topic.
        topic: String;
        /// Partitions.
        partitions: Vec<EpochEndOffset>;
    }

    /// EpochEndOffset.
    pub struct EpochEndOffset {
        /// ErrorCode.
        error_code: i16;
        /// Partition.
        partition: i32;
        /// LeaderEpoch.
        leader_epoch: i32 = -1;
        /// EndOffset.
        end_offset: i64 = -1;
    }

    /// DeleteRecordsRequest.
    pub struct DeleteRecordsRequest {
        /// Topics.
        topics: Vec<DeleteRecordsTopic>;
        /// TimeoutMs.
        timeout_ms: i32;
    }

    /// DeleteRecordsTopic.
    pub struct DeleteRecordsTopic {
        /// Name.
        name: String;
        /// Partitions.
        partitions: Vec<DeleteRecordsPartition>;
    }

    /// DeleteRecordsPartition.
    pub struct DeleteRecordsPartition {
        /// PartitionIndex.
        partition_index: i32;
        /// Offset.
        offset: i64;
    }

    /// DeleteRecordsResponse.
    pub struct DeleteRecordsResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// Topics.
        topics: Vec<DeleteRecordsTopicResult>;
    }

    /// DeleteRecordsTopicResult.
    pub struct DeleteRecordsTopicResult {
        /// Name.
        name: String;
        /// Partitions.
        partitions: Vec<DeleteRecordsPartitionResult>;
    }

    /// DeleteRecordsPartitionResult.
    pub struct DeleteRecordsPartitionResult {
        /// PartitionIndex.
        partition_index: i32;
        /// LowWatermark.
        low_watermark: i64;
        /// ErrorCode.
        error_code: i16;
    }
}
