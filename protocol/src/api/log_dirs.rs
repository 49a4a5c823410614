//! DescribeLogDirs and AlterReplicaLogDirs: which partitions lie in which log directory.
//!
//! An operator asks each broker about itself, and may move its replicas between its directories.
//! Pure.

use crate::wire;

wire! {
    /// Asks about log directories. KIP-113.
    pub struct DescribeLogDirsRequest {
        /// The topics. `None`: all.
        topics: Option<Vec<DescribableLogDirTopic>> = Some(Vec::new());
    }

    /// Partitions of one topic to ask about.
    pub struct DescribableLogDirTopic {
        /// The topic's name.
        topic: String;
        /// The partitions.
        partitions: Vec<i32>;
    }

    /// The log directories. v4: size of the volume (KIP-827).
    pub struct DescribeLogDirsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16, in 3.., ignorable;
        /// The log directories.
        results: Vec<DescribeLogDirsResult>;
    }

    /// A log directory.
    pub struct DescribeLogDirsResult {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The absolute path.
        log_dir: String;
        /// The topics.
        topics: Vec<DescribeLogDirsTopic>;
        /// The size of the volume. -1: unknown.
        total_bytes: i64 = -1, in 4.., ignorable;
        /// How much of the volume is free. -1: unknown.
        usable_bytes: i64 = -1, in 4.., ignorable;
        /// Whether no new partitions go here.
        is_cordoned: bool, in 5.., ignorable;
    }

    /// What a topic has in it.
    pub struct DescribeLogDirsTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<DescribeLogDirsPartition>;
    }

    /// What a partition has in it.
    pub struct DescribeLogDirsPartition {
        /// Which partition.
        partition_index: i32;
        /// The size of the partition's segments, in bytes.
        partition_size: i64;
        /// How far it is behind the high watermark, or a copy behind its original.
        offset_lag: i64;
        /// Whether this is a copy on its way to replace the log.
        is_future_key: bool;
    }

    /// Asks a broker to move its replicas between its log directories. KIP-113.
    pub struct AlterReplicaLogDirsRequest {
        /// The directories to move to.
        dirs: Vec<AlterReplicaLogDir>;
    }

    /// What to move to one directory.
    pub struct AlterReplicaLogDir {
        /// The absolute path.
        path: String;
        /// The topics.
        topics: Vec<AlterReplicaLogDirTopic>;
    }

    /// Partitions of one topic to move.
    pub struct AlterReplicaLogDirTopic {
        /// The topic's name.
        name: String;
        /// The partitions.
        partitions: Vec<i32>;
    }

    /// Which replicas move.
    pub struct AlterReplicaLogDirsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// The topics.
        results: Vec<AlterReplicaLogDirTopicResult>;
    }

    /// Which replicas of one topic move.
    pub struct AlterReplicaLogDirTopicResult {
        /// The topic's name.
        topic_name: String;
        /// The partitions.
        partitions: Vec<AlterReplicaLogDirPartitionResult>;
    }

    /// Whether one replica moves.
    pub struct AlterReplicaLogDirPartitionResult {
        /// Which partition.
        partition_index: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
    }
}
