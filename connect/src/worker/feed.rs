//! What a sink task reads: a member of the connector's group, and what the sink must know of its partitions.
//!
//! Reads what is committed alone, from the oldest record where the group has no offset yet. The group waits with
//! partitions it takes away until the next poll: so the task has the time between to flush and commit. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::admin::Admin;
use client::config::{Assignor, ConsumerConfig, IsolationLevel, OffsetReset};
use client::consumer::{CommitError, Consumer, FetchedBatch, Polled};
use client::group_offsets::OffsetAndMetadata;

use super::{TaskSetup, failed};
use crate::sdk::{
    Assigned, Header, Offset, SinkBatch, SinkRecord, TaskError, TopicId, TopicPartition,
};

/// A task of a killed process is taken for dead so soon: until then nobody reads its partitions.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Three chances to be heard within a session.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// What the group says about partitions.
#[derive(Debug)]
pub(crate) enum Notice {
    /// They are ours, besides those we have.
    Assigned(Vec<TopicPartition>),
    /// They are to be given up by the next poll.
    Revoked(Vec<TopicPartition>),
    /// Others have them already.
    Lost(Vec<TopicPartition>),
}

/// What a poll brought.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) batches: Vec<SinkBatch>,
    /// Behind these batches, and what is no record.
    pub(crate) positions: Vec<(TopicPartition, Offset)>,
    pub(crate) notice: Option<Notice>,
}

/// A member of a sink's group.
#[derive(Debug)]
pub(crate) struct Feed {
    group_id: String,
    admin: Admin,
    consumer: Consumer,
    is_paused: bool,
}

impl Feed {
    /// Asks the group for partitions of `topics`.
    pub(crate) async fn join(
        setup: &TaskSetup,
        topics: &BTreeSet<Arc<str>>,
    ) -> Result<Self, TaskError> {
        let group_id = format!("connect-{}", setup.name);
        let bootstrap = setup.bootstrap(&format!("{group_id}-{}", setup.task));
        let config = ConsumerConfig {
            group_id: Some(group_id.clone()),
            assignor: Assignor::CooperativeSticky,
            session_timeout: SESSION_TIMEOUT,
            heartbeat_interval: HEARTBEAT_INTERVAL,
            isolation_level: IsolationLevel::ReadCommitted,
            auto_offset_reset: OffsetReset::Earliest,
            ..ConsumerConfig::default()
        };
        let timeout = config.default_api_timeout;
        let admin =
            Admin::connect(bootstrap.clone(), timeout).await.map_err(failed("the cluster"))?;
        let mut consumer =
            Consumer::connect(bootstrap, config).await.map_err(failed("the cluster"))?;
        consumer.subscribe(topics.iter().cloned());
        Ok(Self { group_id, admin, consumer, is_paused: false })
    }

    /// Waits at most for `wait` for something. Gives up what the last poll told to. Dropping it loses nothing.
    pub(crate) async fn poll(
        &mut self,
        wait: Duration,
        is_paused: bool,
    ) -> Result<Fetched, TaskError> {
        let ours = self.consumer.assignment();
        if is_paused {
            self.consumer.pause(&ours);
        } else if self.is_paused {
            self.consumer.resume(&ours);
        }
        self.is_paused = is_paused;
        let mut fetched = Fetched::default();
        match self.consumer.poll(wait).await.map_err(failed(&format!("group {}", self.group_id)))? {
            Polled::Batches(batches) => fetched.batches = sink_batches(batches)?,
            Polled::Revoked(revoked) => {
                let partitions = revoked.partitions.into_iter().collect();
                let notice = if revoked.lost { Notice::Lost } else { Notice::Revoked };
                fetched.notice = Some(notice(partitions));
            }
            Polled::Assigned(added) => {
                fetched.notice = Some(Notice::Assigned(added.into_iter().collect()))
            }
            Polled::Nothing => {}
        }
        let ours = self.consumer.assignment();
        let position = |at: TopicPartition| self.consumer.position(&at).map(|offset| (at, offset));
        fetched.positions = ours.into_iter().filter_map(position).collect();
        Ok(fetched)
    }

    /// What the sink must know of partitions it is given.
    pub(crate) async fn describe(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Assigned>, TaskError> {
        let thing = format!("group {}", self.group_id);
        let all = || partitions.iter().cloned();
        let committed = self.consumer.committed(all(), true).await.map_err(failed(&thing))?;
        let starts = self.consumer.beginning_offsets(all()).await.map_err(failed(&thing))?;
        let ends = self
            .consumer
            .end_offsets(all(), IsolationLevel::ReadCommitted)
            .await
            .map_err(failed(&thing))?;
        let topics: BTreeSet<&str> = partitions.iter().map(|it| &*it.topic).collect();
        let names: Vec<&str> = topics.into_iter().collect();
        let mut ids: BTreeMap<String, TopicId> = BTreeMap::new();
        for (name, topic) in self.admin.describe_topics(&names).await.map_err(failed(&thing))? {
            let id = topic.map_err(failed(&format!("topic {name}")))?.id;
            ids.insert(name, id);
        }
        let assigned = |partition: TopicPartition| Assigned {
            committed: committed.get(&partition).map(|it| it.offset),
            topic_id: ids.get(&*partition.topic).copied().unwrap_or(TopicId::ZERO),
            log_start: starts.get(&partition).copied().unwrap_or_default(),
            log_end: ends.get(&partition).copied().unwrap_or_default(),
            partition,
        };
        Ok(all().map(assigned).collect())
    }

    /// Goes on elsewhere. A partition that is ours no more is passed over: the next poll tells so.
    pub(crate) fn seek(&mut self, to: &[(TopicPartition, Offset)]) {
        for (partition, offset) in to {
            if let Err(error) = self.consumer.seek(partition, *offset) {
                tracing::debug!(%error, "not sought");
            }
        }
    }

    /// Commits for the group.
    pub(crate) async fn commit(
        &mut self,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), CommitError> {
        let offsets =
            offsets.iter().map(|(at, offset)| (at.clone(), OffsetAndMetadata::from(*offset)));
        self.consumer.commit(offsets.collect()).await
    }

    /// Leaves the group, so that others go on at once.
    pub(crate) async fn leave(self) {
        if let Err(error) = self.consumer.close().await {
            tracing::warn!(group = %self.group_id, %error, "group not left in order");
        }
    }
}

/// Batches as the sink gets them: those that follow one another in a partition are one.
fn sink_batches(fetched: Vec<FetchedBatch>) -> Result<Vec<SinkBatch>, TaskError> {
    let mut batches: Vec<SinkBatch> = Vec::new();
    for batch in fetched {
        let partition = batch.tp.clone();
        let thing = format!("partition {partition} behind offset {}", batch.first_offset());
        let records: Vec<SinkRecord> = batch
            .into_records()
            .map(|record| record.map(sink_record))
            .collect::<Result<_, _>>()
            .map_err(failed(&thing))?;
        match batches.last_mut().filter(|last| last.partition == partition) {
            Some(last) => last.records.extend(records),
            None => batches.push(SinkBatch { partition, records }),
        }
    }
    batches.retain(|batch| !batch.records.is_empty());
    Ok(batches)
}

fn sink_record(record: protocol::record::Record) -> SinkRecord {
    let header = |header: protocol::record::Header<'_>| Header {
        key: (&*header.key).into(),
        value: header.value.map(bytes::Bytes::copy_from_slice),
    };
    SinkRecord {
        offset: record.offset,
        timestamp: record.timestamp,
        headers: record.headers.iter().map(header).collect(),
        key: record.key,
        value: record.value,
    }
}
