//! Reading changelogs to their ends, so that new tasks begin where the last owner committed.
//!
//! All tasks that wait are restored together by one consumer without a group, a step at a time, so
//! that the others go on meanwhile. Committed records alone are read, but up to where the log ended
//! for everybody: whatever the last owner left open is over by the time that end is reached.
//! Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::bootstrap::Bootstrap;
use client::config::{ConsumerConfig, IsolationLevel, OffsetReset};
use client::consumer::{Consumer, Polled};
use protocol::ids::{Offset, TopicPartition};

use super::error::AppError;
use super::tasks::{Found, TaskKey, TaskSet};
use crate::record::TopicIndex;

/// Restores the tasks of one session.
pub(super) struct Restorer {
    consumer: Consumer,
    waiting: BTreeMap<TaskKey, Waiting>,
}

/// A task that waits.
struct Waiting {
    /// Changelogs that are not read to their ends, and these ends.
    open: BTreeMap<TopicPartition, (TopicIndex, Offset)>,
    committed: BTreeMap<TopicPartition, Found>,
    earliest: BTreeMap<TopicPartition, Offset>,
}

/// A task that is restored, and where its inputs begin.
pub(super) struct Done {
    pub(super) key: TaskKey,
    pub(super) committed: BTreeMap<TopicPartition, Found>,
    pub(super) earliest: BTreeMap<TopicPartition, Offset>,
}

impl Restorer {
    pub(super) async fn connect(bootstrap: Bootstrap) -> Result<Self, AppError> {
        let config = ConsumerConfig {
            isolation_level: IsolationLevel::ReadCommitted,
            auto_offset_reset: OffsetReset::Earliest,
            ..ConsumerConfig::default()
        };
        let consumer = Consumer::connect(bootstrap, config).await?;
        Ok(Self { consumer, waiting: BTreeMap::new() })
    }

    /// True until `begin` was called for this task.
    pub(super) fn is_new(&self, key: TaskKey) -> bool {
        !self.waiting.contains_key(&key)
    }

    /// Begins to restore a task from its changelogs, each up to its end.
    pub(super) fn begin(
        &mut self,
        key: TaskKey,
        changelogs: Vec<(TopicIndex, TopicPartition)>,
        ends: &BTreeMap<TopicPartition, Offset>,
        committed: BTreeMap<TopicPartition, Found>,
        earliest: BTreeMap<TopicPartition, Offset>,
    ) {
        let open = changelogs.into_iter().filter_map(|(topic, partition)| {
            let end = ends.get(&partition).copied().filter(|end| *end > Offset::ZERO)?;
            Some((partition, (topic, end)))
        });
        let open = open.collect();
        self.waiting.insert(key, Waiting { open, committed, earliest });
        self.assign();
    }

    /// Forgets all tasks but these.
    pub(super) fn keep_only(&mut self, keys: &[TaskKey]) {
        self.waiting.retain(|key, _| keys.contains(key));
        self.assign();
    }

    /// Forgets all tasks.
    pub(super) fn forget_all(&mut self) {
        self.keep_only(&[]);
    }

    fn assign(&mut self) {
        let open = self.waiting.values().flat_map(|waiting| waiting.open.keys().cloned());
        let open: BTreeSet<_> = open.collect();
        if self.consumer.assignment() != open {
            self.consumer.assign(open);
        }
    }

    /// Applies what arrives within `wait`; gives how many records there were.
    ///
    /// # Errors
    /// When the cluster refuses, or a record is none of ours.
    pub(super) async fn step(
        &mut self,
        wait: Duration,
        tasks: &mut TaskSet,
    ) -> Result<u64, AppError> {
        if self.waiting.values().all(|waiting| waiting.open.is_empty()) {
            return Ok(0);
        }
        let polled = self.consumer.poll(wait).await?;
        let mut count = 0;
        if let Polled::Batches(batches) = polled {
            for batch in batches {
                let tp = batch.tp.clone();
                let owner = self.waiting.iter().find_map(|(key, waiting)| {
                    waiting.open.get(&tp).map(|(topic, _)| (*key, *topic))
                });
                let Some((key, changelog)) = owner else { continue };
                for record in batch.into_records() {
                    let record = record
                        .map_err(|source| AppError::Damaged { partition: tp.clone(), source })?;
                    // A changelog's records all have keys; what has none is nobody's.
                    if let Some(record_key) = &record.key {
                        tasks.restore(key, changelog, (record_key, record.value.as_ref()))?;
                        count += 1;
                    }
                }
            }
        }
        self.close_read();
        Ok(count)
    }

    /// Closes the changelogs that are read to their ends.
    fn close_read(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.open.retain(|partition, (_, end)| {
                self.consumer.position(partition).is_none_or(|position| position < *end)
            });
        }
        self.assign();
    }

    /// Tasks whose changelogs are read.
    pub(super) fn take_done(&mut self) -> Vec<Done> {
        let done = self.waiting.extract_if(.., |_, waiting| waiting.open.is_empty());
        let done = done.map(|(key, Waiting { committed, earliest, .. })| Done {
            key,
            committed,
            earliest,
        });
        done.collect()
    }
}
