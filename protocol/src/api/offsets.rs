//! Positions in a log: ListOffsets, OffsetForLeaderEpoch, DeleteRecords.
//!
//! Offsets that end something are exclusive. Pure.

use crate::wire;

wire! {
    /// Asks at which offset a time begins. v7: largest timestamp (KIP-734); v8: local log start
    /// (KIP-405); v9: last tiered offset (KIP-1005); v11: earliest pending upload (KIP-1023).
    pub struct ListOffsetsRequest {
        /// The follower that asks. -1: a consumer.
        replica_id: i32;
        /// What transactions show: 0 `read_uncommitted`, 1 `read_committed`.
        isolation_level: i8, in 2..;
        /// The topics.
        topics: Vec<ListOffsetsTopic>;
        /// How long to wait for it to be done, in milliseconds.
        timeout_ms: i32, in 10.., ignorable;
    }

    /// Partitions of one topic to ask about.
    pub struct ListOffsetsTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<ListOffsetsPartition>;
    }

    /// A partition to ask about.
    pub struct ListOffsetsPartition {
        /// Which partition.
        partition_index: i32;
        /// The leader epoch that the asker knows; a broker that knows another refuses. -1: any.
        current_leader_epoch: i32 = -1, in 4.., ignorable;
        /// The time to find, in milliseconds. -1: log end; -2: log start; -3: largest timestamp;
        /// -4: local log start; -5: end of what is tiered; -6: start of what is yet to be tiered.
        timestamp: i64;
    }

    /// The offsets found.
    pub struct ListOffsetsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 2.., ignorable;
        /// The topics.
        topics: Vec<ListOffsetsTopicResponse>;
    }

    /// The offsets found in one topic.
    pub struct ListOffsetsTopicResponse {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<ListOffsetsPartitionResponse>;
    }

    /// The offset found in one partition.
    pub struct ListOffsetsPartitionResponse {
        /// Which partition.
        partition_index: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The timestamp of the record there. -1: none.
        timestamp: i64 = -1;
        /// The offset found. -1: none.
        offset: i64 = -1;
        /// The leader epoch. -1: unknown.
        leader_epoch: i32 = -1, in 4..;
    }

    /// Asks where an epoch ended, to detect truncation. KIP-101, KIP-279, KIP-320.
    pub struct OffsetForLeaderEpochRequest {
        /// The follower that asks. -1: a consumer.
        replica_id: i32 = -2, in 3.., ignorable;
        /// The topics.
        topics: Vec<OffsetForLeaderTopic>;
    }

    /// Partitions of one topic to ask about.
    pub struct OffsetForLeaderTopic {
        /// The topic's name.
        topic: String;
        /// The partitions.
        partitions: Vec<OffsetForLeaderPartition>;
    }

    /// An epoch of one partition to ask about.
    pub struct OffsetForLeaderPartition {
        /// Which partition.
        partition: i32;
        /// The leader epoch that the asker knows; a broker that knows another refuses. -1: any.
        current_leader_epoch: i32 = -1;
        /// The epoch whose end is asked for.
        leader_epoch: i32;
    }

    /// Where the epochs ended.
    pub struct OffsetForLeaderEpochResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// The topics.
        topics: Vec<OffsetForLeaderTopicResult>;
    }

    /// Where the epochs ended in one topic.
    pub struct OffsetForLeaderTopicResult {
        /// The topic's name.
        topic: String;
        /// The partitions.
        partitions: Vec<EpochEndOffset>;
    }

    /// Where an epoch ended in one partition.
    pub struct EpochEndOffset {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// Which partition.
        partition: i32;
        /// The largest epoch known that is not above the one asked for. -1: none.
        leader_epoch: i32 = -1;
        /// Where it ended (exclusive). -1: unknown.
        end_offset: i64 = -1;
    }

    /// Raises the log start offset of partitions. KIP-107.
    pub struct DeleteRecordsRequest {
        /// The topics.
        topics: Vec<DeleteRecordsTopic>;
        /// How long to wait for it to be done, in milliseconds.
        timeout_ms: i32;
    }

    /// Partitions of one topic to shorten.
    pub struct DeleteRecordsTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<DeleteRecordsPartition>;
    }

    /// A partition to shorten.
    pub struct DeleteRecordsPartition {
        /// Which partition.
        partition_index: i32;
        /// The new log start offset. -1: the high watermark.
        offset: i64;
    }

    /// Where the partitions begin now.
    pub struct DeleteRecordsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// The topics.
        topics: Vec<DeleteRecordsTopicResult>;
    }

    /// Where the partitions of one topic begin now.
    pub struct DeleteRecordsTopicResult {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<DeleteRecordsPartitionResult>;
    }

    /// Where one partition begins now.
    pub struct DeleteRecordsPartitionResult {
        /// Which partition.
        partition_index: i32;
        /// The first readable offset now. -1: failed.
        low_watermark: i64;
        /// An error code of the wire; 0: success.
        error_code: i16;
    }
}
