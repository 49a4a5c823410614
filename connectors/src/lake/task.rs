//! The sink's task: partitions in, steps out to the store.
//!
//! Decides nothing about ranges, names and columns: it asks each partition for its next step, does it, and reports. A
//! flush of several partitions goes on for all of them at once. Shell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connect::sdk::{
    Assigned, Flush, Note, Offset, Rejected, SinkBatch, SinkTask, TaskContext, TaskError,
    TopicPartition,
};
use futures::StreamExt;

use super::intent::{Chain, Intent, Resumption};
use super::layout::{intent_directory, intent_path};
use super::partition::{FlushError, INTENTS_KEPT, Partition, Step};
use super::settings::LakeConfig;
use super::store::{Created, Store};

/// Partitions opened or flushed at once.
const PARTITIONS_MAX: usize = 16;

/// A running sink.
pub(crate) struct LakeTask {
    config: Arc<LakeConfig>,
    context: TaskContext,
    /// Who this is, in intents.
    writer: Arc<str>,
    store: Option<Store>,
    partitions: BTreeMap<TopicPartition, Partition>,
    notes: Vec<Note>,
}

/// A worker that does not keep to the order of calls.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("the task was not started")]
    NotStarted,
    #[error("the partition was not opened")]
    NotOpened,
}

impl LakeTask {
    pub(crate) fn new(config: Arc<LakeConfig>, context: TaskContext) -> Self {
        let started = context.clock.now().wall;
        let writer = format!("{}-{} started at {started}", context.connector, context.task).into();
        let partitions = BTreeMap::new();
        Self { config, context, writer, store: None, partitions, notes: Vec::new() }
    }

    /// Writes to `store` instead of what the settings say.
    #[cfg(test)]
    pub(crate) fn over(self, store: Store) -> Self {
        Self { store: Some(store), ..self }
    }

    fn store(&self) -> Result<Store, TaskError> {
        let error = || TaskError::fatal(self.config.location.to_string(), CallError::NotStarted);
        self.store.clone().ok_or_else(error)
    }

    fn now(&self) -> Duration {
        self.context.clock.now().monotonic
    }

    /// The partition whose rows take most, if all together take more than they may.
    fn largest(&self) -> Option<TopicPartition> {
        let sizes = self.partitions.iter().map(|(id, it)| (it.flushable_bytes(), id));
        let total: usize = sizes.clone().map(|(bytes, _)| bytes).sum();
        let (bytes, id) = sizes.max()?;
        (bytes > 0 && total > self.config.memory_bytes).then(|| id.clone())
    }

    /// Flushes the largest partitions until all fit into memory.
    async fn make_room(&mut self, store: &Store, now: Duration) -> Result<(), TaskError> {
        while let Some(largest) = self.largest() {
            let partition = self.partitions.get_mut(&largest).expect("found just now");
            seal(partition, &largest, now, &self.config, Flush::All)?;
            drive(&largest, partition, store).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl SinkTask for LakeTask {
    async fn start(&mut self) -> Result<(), TaskError> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Store::open(&self.config.location)?,
        };
        store.probe().await?;
        self.store = Some(store);
        Ok(())
    }

    async fn open(
        &mut self,
        added: &[Assigned],
    ) -> Result<Vec<(TopicPartition, Offset)>, TaskError> {
        let store = self.store()?;
        let recovered: Vec<Result<Recovered, TaskError>> = futures::stream::iter(added.to_vec())
            .map(|assigned| recover(&store, assigned))
            .buffered(PARTITIONS_MAX)
            .collect()
            .await;
        let mut starts = Vec::new();
        for recovered in recovered {
            let Recovered { assigned, intents, resumption } = recovered?;
            let Assigned { partition: id, topic_id, committed, .. } = assigned;
            let elsewhere = resumption.position.filter(|at| Some(*at) != committed);
            starts.extend(elsewhere.map(|at| (id.clone(), at)));
            let (writer, layout) = (Arc::clone(&self.writer), Arc::clone(&self.config.layout));
            let mut partition =
                Partition::new(id.clone(), topic_id, writer, layout, intents, resumption);
            self.notes.extend(partition.take_notes());
            self.partitions.insert(id, partition);
        }
        Ok(starts)
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<Vec<Rejected>, TaskError> {
        let store = self.store()?;
        let now = self.now();
        self.make_room(&store, now).await?;
        let id = &batch.partition;
        let partition = self
            .partitions
            .get_mut(id)
            .ok_or_else(|| TaskError::fatal(id.to_string(), CallError::NotOpened))?;
        seal(partition, id, now, &self.config, Flush::Due)?;
        let mut left = &batch.records[..];
        loop {
            drive(id, partition, &store).await?;
            if left.is_empty() {
                break;
            }
            let taken = partition.take(now, left).map_err(|error| flush_error(id, error))?;
            left = &left[taken..];
        }
        self.notes.extend(partition.take_notes());
        Ok(partition.take_rejected())
    }

    async fn flush(&mut self, how: Flush) -> Result<(), TaskError> {
        let store = self.store()?;
        let now = self.now();
        for (id, partition) in &mut self.partitions {
            seal(partition, id, now, &self.config, how)?;
        }
        let flushes: Vec<_> =
            self.partitions.iter_mut().map(|(id, it)| drive(id, it, &store)).collect();
        let done: Vec<Result<(), TaskError>> =
            futures::stream::iter(flushes).buffer_unordered(PARTITIONS_MAX).collect().await;
        for partition in self.partitions.values_mut() {
            self.notes.extend(partition.take_notes());
        }
        // Of several errors the worker must hear of one that is final.
        let (retriable, fatal): (Vec<_>, Vec<_>) =
            done.into_iter().filter_map(Result::err).partition(TaskError::is_retriable);
        fatal.into_iter().chain(retriable).next().map_or(Ok(()), Err)
    }

    fn committable(&self) -> Vec<(TopicPartition, Offset)> {
        let durable = |(id, it): (&TopicPartition, &Partition)| Some((id.clone(), it.durable()?));
        self.partitions.iter().filter_map(durable).collect()
    }

    async fn committed(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), TaskError> {
        let store = self.store()?;
        for (id, offset) in offsets {
            let Some(partition) = self.partitions.get_mut(id) else { continue };
            for start in partition.superfluous(*offset, INTENTS_KEPT) {
                store.delete(&intent_path(id, start)).await?;
                partition.forgot(start);
            }
        }
        Ok(())
    }

    async fn close(&mut self, partitions: &[TopicPartition]) {
        self.partitions.retain(|id, _| !partitions.contains(id));
    }

    fn notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }
}

/// What the store knows of a partition.
struct Recovered {
    assigned: Assigned,
    intents: Vec<Offset>,
    resumption: Resumption,
}

/// Reads what was announced of a partition, and how far it got.
async fn recover(store: &Store, assigned: Assigned) -> Result<Recovered, TaskError> {
    let id = &assigned.partition;
    let refused = |error| TaskError::fatal(format!("partition {id}"), error);
    let intents = store.starts(&intent_directory(id)).await?;
    let mut chain = Chain::new(&assigned, &intents);
    while let Some(start) = chain.next() {
        let path = intent_path(id, start);
        let intent = Intent::from_json(id, start, &store.read(&path).await?)
            .map_err(|error| TaskError::fatal(format!("intent {path}"), error))?;
        chain.add(intent).map_err(refused)?;
    }
    let announced = chain.finish().map_err(refused)?;
    let mut complete = Vec::with_capacity(announced.open.len());
    for intent in &announced.open {
        complete.push(is_complete(store, intent).await?);
    }
    let resumption = announced.resume(&assigned, &complete).map_err(refused)?;
    Ok(Recovered { assigned, intents, resumption })
}

async fn is_complete(store: &Store, intent: &Intent) -> Result<bool, TaskError> {
    for file in &intent.files {
        if store.bytes(&file.path).await? != Some(file.bytes) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn seal(
    partition: &mut Partition,
    id: &TopicPartition,
    now: Duration,
    config: &LakeConfig,
    how: Flush,
) -> Result<(), TaskError> {
    partition.seal(now, &config.limits, how).map_err(|error| flush_error(id, error))
}

/// Brings the flush that is under way, if any, to its end.
async fn drive(
    id: &TopicPartition,
    partition: &mut Partition,
    store: &Store,
) -> Result<(), TaskError> {
    while let Some(step) = partition.next() {
        match step {
            Step::Encode => {
                partition.encode().map_err(|error| flush_error(id, error))?;
                // Encoding is work for the processor; others have a turn between slices.
                tokio::task::yield_now().await;
            }
            Step::Announce { path, body } => match store.create(&path, body).await? {
                Created::Yes => partition.announced(),
                Created::Existed(found) => {
                    partition.contested(&found).map_err(|error| flush_error(id, error))?;
                }
            },
            Step::Survey { directory } => {
                let starts = store.starts(&directory).await?;
                partition.surveyed(starts).map_err(|error| flush_error(id, error))?;
            }
            Step::Write { path, bytes } => {
                store.put(&path, bytes).await?;
                partition.written();
            }
        }
    }
    Ok(())
}

fn flush_error(id: &TopicPartition, error: FlushError) -> TaskError {
    TaskError::fatal(format!("partition {id}"), error)
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
