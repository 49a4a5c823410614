//! Log directories: what lies where, and how large it is, asked of every broker. KIP-113, KIP-827.
//! Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use protocol::api::log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
};
use protocol::api_key::ApiKey;
use protocol::ids::{BrokerId, TopicPartition};

use super::Admin;
use super::topics::verdict;
use crate::error::RequestError;
use crate::group_offsets::by_topic;

/// A log directory as its broker describes it.
#[derive(Clone, Debug)]
pub struct LogDirDescription {
    /// Why nothing is told of what lies there: it is offline, as `KafkaStorageError` says.
    pub error: Option<RequestError>,
    /// Its size in bytes, and that of its whole disk's; `None` where the broker does not tell.
    pub total_bytes: Option<u64>,
    /// How many bytes are free there; `None` where the broker does not tell.
    pub usable_bytes: Option<u64>,
    /// What lies there.
    pub replicas: BTreeMap<TopicPartition, ReplicaSize>,
}

/// A replica in a log directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaSize {
    /// The bytes of its log.
    pub size_bytes: u64,
    /// How many records it is behind: the leader, or its other copy when it is moving.
    pub offset_lag: i64,
    /// True for a copy that will take the place of another directory's.
    pub is_future: bool,
}

/// What one broker says of its log directories, by path.
pub type LogDirs = BTreeMap<String, LogDirDescription>;

impl Admin {
    /// The log directories of `brokers`, or of all living ones when it is empty, with the replicas
    /// of `partitions` in them; `None`: with all replicas. A broker that does not answer is an
    /// error of its own.
    ///
    /// # Errors
    /// When no broker tells who the brokers are.
    pub async fn describe_log_dirs(
        &self,
        brokers: &[BrokerId],
        partitions: Option<&BTreeSet<TopicPartition>>,
    ) -> Result<BTreeMap<BrokerId, Result<LogDirs, RequestError>>, RequestError> {
        let living = self.broker_ids().await?;
        let brokers = if brokers.is_empty() { living } else { brokers.to_vec() };
        let ask = |broker| async move {
            let attempt = || self.log_dirs_of(broker, partitions);
            (broker, self.router.retry(self.timeout, "describe log directories", attempt).await)
        };
        Ok(join_all(brokers.into_iter().map(ask)).await.into_iter().collect())
    }

    async fn log_dirs_of(
        &self,
        broker: BrokerId,
        partitions: Option<&BTreeSet<TopicPartition>>,
    ) -> Result<LogDirs, RequestError> {
        let topics = partitions.map(|partitions| {
            let topic = |(topic, of): (String, Vec<(i32, ())>)| DescribableLogDirTopic {
                topic,
                partitions: of.into_iter().map(|(index, ())| index).collect(),
            };
            by_topic(partitions.iter().map(|it| (it, ()))).into_iter().map(topic).collect()
        });
        let request = DescribeLogDirsRequest { topics };
        let response: DescribeLogDirsResponse = self.ask_broker(broker, move |_| request).await?;
        let api = ApiKey::DescribeLogDirs;
        verdict(api, format!("broker {broker}"), response.error_code, None)?;
        Ok(response.results.into_iter().map(|it| log_dir(broker, it)).collect())
    }
}

fn log_dir(broker: BrokerId, result: DescribeLogDirsResult) -> (String, LogDirDescription) {
    let subject = format!("broker {broker}: {}", result.log_dir);
    let verdict = verdict(ApiKey::DescribeLogDirs, subject, result.error_code, None);
    let mut replicas = BTreeMap::new();
    for topic in result.topics {
        let name: Arc<str> = topic.name.into();
        for it in topic.partitions {
            let replica = ReplicaSize {
                size_bytes: u64::try_from(it.partition_size).unwrap_or(0),
                offset_lag: it.offset_lag,
                is_future: it.is_future_key,
            };
            replicas.insert(TopicPartition::new(Arc::clone(&name), it.partition_index), replica);
        }
    }
    let description = LogDirDescription {
        error: verdict.err(),
        total_bytes: u64::try_from(result.total_bytes).ok(),
        usable_bytes: u64::try_from(result.usable_bytes).ok(),
        replicas,
    };
    (result.log_dir, description)
}
