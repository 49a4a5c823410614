//! x. Pure.

use crate::wire;

wire! {
    /// DescribeLogDirsRequest.
    pub struct DescribeLogDirsRequest {
        /// Topics.
        topics: Option<Vec<DescribableLogDirTopic>> = Some(Vec::new());
    }

    /// DescribableLogDirTopic.
    pub struct DescribableLogDirTopic {
        /// Topic.
        topic: String;
        /// Partitions.
        partitions: Vec<i32>;
    }

    /// DescribeLogDirsResponse.
    pub struct DescribeLogDirsResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// ErrorCode.
        error_code: i16, in 3.., ignorable;
        /// Results.
        results: Vec<DescribeLogDirsResult>;
    }

    /// DescribeLogDirsResult.
    pub struct DescribeLogDirsResult {
        /// ErrorCode.
        error_code: i16;
        /// LogDir.
        log_dir: String;
        /// Topics.
        topics: Vec<DescribeLogDirsTopic>;
        /// TotalBytes.
        total_bytes: i64 = -1, in 4.., ignorable;
        /// UsableBytes.
        usable_bytes: i64 = -1, in 4.., ignorable;
        /// IsCordoned.
        is_cordoned: bool, in 5.., ignorable;
    }

    /// DescribeLogDirsTopic.
    pub struct DescribeLogDirsTopic {
        /// Name.
        name: String;
        /// Partitions.
        partitions: Vec<DescribeLogDirsPartition>;
    }

    /// DescribeLogDirsPartition.
    pub struct DescribeLogDirsPartition {
        /// PartitionIndex.
        partition_index: i32;
        /// PartitionSize.
        partition_size: i64;
        /// OffsetLag.
        offset_lag: i64;
        /// IsFutureKey.
        is_future_key: bool;
    }
}
