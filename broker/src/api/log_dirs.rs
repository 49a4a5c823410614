//! DescribeLogDirs: which partitions lie in the log directory, and how large they are. KIP-113,
//! KIP-827.
//!
//! There is one directory. Logs that cannot be read are left out; a directory that failed says so
//! instead of listing them. Shell.

use std::collections::BTreeMap;

use protocol::api::log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use protocol::error_code::ErrorCode;

use super::Api;
use crate::partition::PartitionHandle;

pub(super) async fn describe_log_dirs(
    api: Api,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let asked = request.topics;
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    let mut error_code = ErrorCode::None;
    for handle in api.partitions().all() {
        if !asked.as_deref().is_none_or(|asked| is_asked(asked, &handle)) {
            continue;
        }
        let partition = handle.partition();
        match handle.size_bytes().await {
            Ok(bytes) => {
                let partition_size = i64::try_from(bytes).unwrap_or(i64::MAX);
                let partition_index = partition.partition.0;
                let described = DescribeLogDirsPartition {
                    partition_index,
                    partition_size,
                    ..Default::default()
                };
                topics.entry(partition.topic.to_string()).or_default().push(described);
            }
            Err(error) => error_code = error.code(),
        }
    }
    let described = |(name, partitions)| DescribeLogDirsTopic { name, partitions };
    let result = DescribeLogDirsResult {
        // A partition that was stopped meanwhile says nothing about the directory.
        error_code: match error_code {
            ErrorCode::KafkaStorageError => error_code.to_wire(),
            _ => ErrorCode::None.to_wire(),
        },
        log_dir: api.0.config.data_dir().display().to_string(),
        topics: topics.into_iter().map(described).collect(),
        ..Default::default()
    };
    DescribeLogDirsResponse { results: vec![result], ..Default::default() }
}

fn is_asked(asked: &[DescribableLogDirTopic], handle: &PartitionHandle) -> bool {
    let partition = handle.partition();
    asked.iter().any(|topic| {
        *topic.topic == *partition.topic && topic.partitions.contains(&partition.partition.0)
    })
}
