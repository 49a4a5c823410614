//! DescribeLogDirs and AlterReplicaLogDirs: which partitions lie in the log directory, and how large
//! they are. KIP-113, KIP-827.
//!
//! There is one directory. Logs that cannot be read are left out; a directory that failed says so
//! instead of listing them. A replica can move to no other directory, and is in its own already.
//! Shell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use protocol::api::log_dirs::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse, DescribableLogDirTopic, DescribeLogDirsPartition,
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use protocol::error_code::ErrorCode;
use protocol::ids::PartitionIndex;

use super::Api;
use crate::partition::PartitionHandle;

/// Tells how many bytes the volume of the directory has, and how many of them are free for us.
pub(crate) struct Volume(Box<dyn Fn() -> io::Result<(u64, u64)> + Send + Sync>);

impl Volume {
    /// One that `tell` tells of.
    pub(crate) fn new(tell: impl Fn() -> io::Result<(u64, u64)> + Send + Sync + 'static) -> Self {
        Self(Box::new(tell))
    }

    fn tell(&self) -> io::Result<(u64, u64)> {
        (self.0)()
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Volume")
    }
}

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
    let dir = api.0.config.data_dir();
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let volume = api.0.volume.tell().map(|(total, free)| (bytes(total), bytes(free)));
    // -1: the operating system does not say. KIP-827.
    let (total_bytes, usable_bytes) = volume.unwrap_or((-1, -1));
    let described = |(name, partitions)| DescribeLogDirsTopic { name, partitions };
    let result = DescribeLogDirsResult {
        // A partition that was stopped meanwhile says nothing about the directory.
        error_code: match error_code {
            ErrorCode::KafkaStorageError => error_code.to_wire(),
            _ => ErrorCode::None.to_wire(),
        },
        log_dir: absolute(dir).display().to_string(),
        topics: topics.into_iter().map(described).collect(),
        total_bytes,
        usable_bytes,
        ..Default::default()
    };
    DescribeLogDirsResponse { results: vec![result], ..Default::default() }
}

/// The directory's whole path: who asks does not know where the broker was started.
fn absolute(dir: PathBuf) -> PathBuf {
    std::path::absolute(&dir).unwrap_or(dir)
}

/// Answers for each replica that was to move, as if to the directory that was named last.
pub(super) async fn alter_replica_log_dirs(
    api: Api,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let own = absolute(api.0.config.data_dir());
    let mut topics: BTreeMap<String, BTreeMap<i32, ErrorCode>> = BTreeMap::new();
    for dir in request.dirs {
        let is_own = Path::new(&dir.path) == own;
        for topic in dir.topics {
            let results = topics.entry(topic.name.clone()).or_default();
            for index in topic.partitions {
                let code = if is_own {
                    held(&api, &topic.name, index).await
                } else {
                    ErrorCode::LogDirNotFound
                };
                results.insert(index, code);
            }
        }
    }
    let result = |(partition_index, code): (i32, ErrorCode)| AlterReplicaLogDirPartitionResult {
        partition_index,
        error_code: code.to_wire(),
    };
    let topic = |(topic_name, partitions): (String, BTreeMap<i32, ErrorCode>)| {
        let partitions = partitions.into_iter().map(result).collect();
        AlterReplicaLogDirTopicResult { topic_name, partitions }
    };
    let results = topics.into_iter().map(topic).collect();
    AlterReplicaLogDirsResponse { throttle_time_ms: 0, results }
}

/// Whether the replica is here and its directory works.
async fn held(api: &Api, topic: &str, index: i32) -> ErrorCode {
    match api.partitions().get(topic, PartitionIndex(index)) {
        Ok(handle) => handle.size_bytes().await.err().map_or(ErrorCode::None, |it| it.code()),
        Err(error) => error.code(),
    }
}

fn is_asked(asked: &[DescribableLogDirTopic], handle: &PartitionHandle) -> bool {
    let partition = handle.partition();
    asked.iter().any(|topic| {
        *topic.topic == *partition.topic && topic.partitions.contains(&partition.partition.0)
    })
}
