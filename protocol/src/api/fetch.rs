//! x. Pure.

use bytes::Bytes;

use crate::ids::TopicId;
use crate::wire;

wire! {
    /// FetchRequest.
    pub struct FetchRequest {
        /// ClusterId.
        cluster_id: Option<String>, in 12.., tag 0, ignorable;
        /// ReplicaId.
        replica_id: i32 = -1, in ..=14;
        /// ReplicaState.
        replica_state: ReplicaState, in 15.., tag 1;
        /// MaxWaitMs.
        max_wait_ms: i32;
        /// MinBytes.
        min_bytes: i32;
        /// MaxBytes.
        max_bytes: i32 = i32::MAX;
        /// IsolationLevel.
        isolation_level: i8;
        /// SessionId.
        session_id: i32, in 7.., ignorable;
        /// SessionEpoch.
        session_epoch: i32 = -1, in 7.., ignorable;
        /// Topics.
        topics: Vec<FetchTopic>;
        /// ForgottenTopicsData.
        forgotten_topics_data: Vec<ForgottenTopic>, in 7..;
        /// RackId.
        rack_id: String, in 11.., ignorable;
    }

    /// ReplicaState.
    pub struct ReplicaState {
        /// ReplicaId.
        replica_id: i32 = -1;
        /// ReplicaEpoch.
        replica_epoch: i64 = -1;
    }

    /// FetchTopic.
    pub struct FetchTopic {
        /// Topic.
        topic: String, in ..=12, ignorable;
        /// TopicId.
        topic_id: TopicId, in 13.., ignorable;
        /// Partitions.
        partitions: Vec<FetchPartition>;
    }

    /// FetchPartition.
    pub struct FetchPartition {
        /// Partition.
        partition: i32;
        /// CurrentLeaderEpoch.
        current_leader_epoch: i32 = -1, in 9.., ignorable;
        /// FetchOffset.
        fetch_offset: i64;
        /// LastFetchedEpoch.
        last_fetched_epoch: i32 = -1, in 12..;
        /// LogStartOffset.
        log_start_offset: i64 = -1, in 5.., ignorable;
        /// PartitionMaxBytes.
        partition_max_bytes: i32;
        /// ReplicaDirectoryId.
        replica_directory_id: TopicId, in 17.., tag 0, ignorable;
        /// HighWatermark.
        high_watermark: i64 = i64::MAX, in 18.., tag 1, ignorable;
    }

    /// ForgottenTopic.
    pub struct ForgottenTopic {
        /// Topic.
        topic: String, in ..=12, ignorable;
        /// TopicId.
        topic_id: TopicId, in 13.., ignorable;
        /// Partitions.
        partitions: Vec<i32>;
    }

    /// FetchResponse.
    pub struct FetchResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// ErrorCode.
        error_code: i16, in 7.., ignorable;
        /// SessionId.
        session_id: i32, in 7..;
        /// Responses.
        responses: Vec<FetchableTopicResponse>;
        /// NodeEndpoints.
        node_endpoints: Vec<NodeEndpoint>, in 16.., tag 0;
    }

    /// FetchableTopicResponse.
    pub struct FetchableTopicResponse {
        /// Topic.
        topic: String, in ..=12, ignorable;
        /// TopicId.
        topic_id: TopicId, in 13.., ignorable;
        /// Partitions.
        partitions: Vec<PartitionData>;
    }

    /// PartitionData.
    pub struct PartitionData {
        /// PartitionIndex.
        partition_index: i32;
        /// ErrorCode.
        error_code: i16;
        /// HighWatermark.
        high_watermark: i64;
        /// LastStableOffset.
        last_stable_offset: i64 = -1;
        /// LogStartOffset.
        log_start_offset: i64 = -1, in 5.., ignorable;
        /// DivergingEpoch.
        diverging_epoch: EpochEndOffset, in 12.., tag 0;
        /// CurrentLeader.
        current_leader: LeaderIdAndEpoch, in 12.., tag 1;
        /// SnapshotId.
        snapshot_id: SnapshotId, in 12.., tag 2;
        /// AbortedTransactions.
        aborted_transactions: Option<Vec<AbortedTransaction>> = Some(Vec::new());
        /// PreferredReadReplica.
        preferred_read_replica: i32 = -1, in 11..;
        /// Records.
        records: Option<Bytes> = Some(Bytes::new());
    }

    /// EpochEndOffset.
    pub struct EpochEndOffset {
        /// Epoch.
        epoch: i32 = -1;
        /// EndOffset.
        end_offset: i64 = -1;
    }

    /// LeaderIdAndEpoch.
    pub struct LeaderIdAndEpoch {
        /// LeaderId.
        leader_id: i32 = -1;
        /// LeaderEpoch.
        leader_epoch: i32 = -1;
    }

    /// SnapshotId.
    pub struct SnapshotId {
        /// EndOffset.
        end_offset: i64 = -1;
        /// Epoch.
        epoch: i32 = -1;
    }

    /// AbortedTransaction.
    pub struct AbortedTransaction {
        /// ProducerId.
        producer_id: i64;
        /// FirstOffset.
        first_offset: i64;
    }

    /// NodeEndpoint.
    pub struct NodeEndpoint {
        /// NodeId.
        node_id: i32;
        /// Host.
        host: String;
        /// Port.
        port: i32;
        /// Rack.
        rack: Option<String>;
    }
}
