//! Records: where partitions begin and end, each by itself, and moving their beginnings. Shell.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::offsets::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
    ListOffsetsResponse,
};
use protocol::api_key::ApiKey;
use protocol::ids::{Offset, TopicPartition};

use super::leaders::Led;
use super::topics::verdict;
use super::{Admin, PerPartition, wire_ms};
use crate::config::IsolationLevel;
use crate::group_offsets::by_topic;
use crate::offsets::{self, ListedOffset, OffsetSpec};

impl Admin {
    /// Offsets of partitions, from each one's leader; one that has none to tell is an error of its
    /// own.
    pub async fn list_offsets_each(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
        isolation: IsolationLevel,
    ) -> PerPartition<ListedOffset> {
        let timeout = self.router.patience().request_timeout;
        let request = |led: Vec<Led>| {
            let specs: Vec<_> = led
                .into_iter()
                .map(|(partition, epoch)| {
                    let spec = wanted[&partition];
                    (partition, epoch, spec)
                })
                .collect();
            move |version| offsets::request(version, isolation, &specs, timeout)
        };
        let answers = |response: ListOffsetsResponse| {
            let mut results = PerPartition::new();
            for topic in response.topics {
                let name: Arc<str> = topic.name.into();
                for answer in topic.partitions {
                    let partition = TopicPartition::new(Arc::clone(&name), answer.partition_index);
                    let listed = offsets::listed(&partition, &answer);
                    results.insert(partition, listed);
                }
            }
            results
        };
        self.ask_leaders("list offsets", wanted.keys().cloned(), request, answers).await
    }

    /// Deletes the records before an offset of each partition, and tells the new log start
    /// offsets; [`Offset::NONE`] stands for the high watermark. Each partition succeeds or is
    /// refused by itself. KIP-107.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, Offset>,
    ) -> PerPartition<Offset> {
        let timeout_ms = wire_ms(self.router.patience().request_timeout);
        let request = |led: Vec<Led>| {
            let offsets: BTreeMap<_, _> = led
                .into_iter()
                .map(|(partition, _)| (partition.clone(), before[&partition]))
                .collect();
            let partition = |(partition_index, offset): (i32, &Offset)| DeleteRecordsPartition {
                partition_index,
                offset: offset.0,
            };
            let topics = by_topic(&offsets).into_iter().map(|(name, of)| DeleteRecordsTopic {
                name,
                partitions: of.into_iter().map(partition).collect(),
            });
            let request = DeleteRecordsRequest { topics: topics.collect(), timeout_ms };
            move |_| request
        };
        let answers = |response: DeleteRecordsResponse| {
            let mut results = PerPartition::new();
            for topic in response.topics {
                let name: Arc<str> = topic.name.into();
                for it in topic.partitions {
                    let partition = TopicPartition::new(Arc::clone(&name), it.partition_index);
                    let api = ApiKey::DeleteRecords;
                    let verdict = verdict(api, partition.to_string(), it.error_code, None);
                    results.insert(partition, verdict.map(|()| Offset(it.low_watermark)));
                }
            }
            results
        };
        self.ask_leaders("delete records", before.keys().cloned(), request, answers).await
    }
}
