//! The tasks of one worker: which there are, who gets which record, and one commit for all.
//!
//! The group's coordinator hands out partitions; partition `p` of all inputs of a sub-topology make
//! its task `p`. All tasks of a worker share one transaction. A partition that comes back in the
//! next assignment finds its task as it was left: nobody else can have had it in between, as long
//! as the worker was not expelled from the group. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use protocol::ids::{Offset, PartitionIndex, TopicPartition};
use protocol::time::{Now, Timestamp};

use crate::error::{Flow, StreamsError};
use crate::processor::Counters;
use crate::record::{InputRecord, Produce, TopicIndex};
use crate::task::commit::Outcome;
use crate::task::{CommitOffset, Pace, TaskCore};
use crate::topology::Topology;

/// Records an input may have waiting before its fetches pause; they resume below half of it.
pub(crate) const BUFFERED_MAX: usize = 20_000;

/// Which task: sub-topology and partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskKey {
    pub(crate) subtopology: usize,
    pub(crate) partition: PartitionIndex,
}

/// What an input's committed offset was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: Offset,
    pub(crate) metadata: String,
}

/// The tasks of one worker.
pub(crate) struct TaskSet {
    topology: Topology,
    app: Arc<str>,
    writer: u64,
    pace: Pace,
    /// Each topic's name on the broker, by index.
    names: Vec<Arc<str>>,
    tasks: BTreeMap<TaskKey, TaskCore>,
    /// Tasks whose changelogs are not read to their ends yet.
    restoring: BTreeSet<TaskKey>,
    /// Tasks whose partitions are given up, and may or may not come back.
    resting: BTreeSet<TaskKey>,
    paused: BTreeSet<TopicPartition>,
    /// Counted by tasks that are gone.
    past: Counters,
}

impl TaskSet {
    pub(crate) fn new(topology: Topology, app: Arc<str>, pace: Pace, writer: u64) -> Self {
        let names = topology.topics().iter().map(|topic| topic.full_name(&app)).collect();
        Self {
            topology,
            app,
            writer,
            pace,
            names,
            tasks: BTreeMap::new(),
            restoring: BTreeSet::new(),
            resting: BTreeSet::new(),
            paused: BTreeSet::new(),
            past: Counters::default(),
        }
    }

    /// Takes over an assignment: lets tasks go whose partitions are gone, makes those that are new.
    /// Gives the new ones; they must be restored and resumed before they run.
    ///
    /// # Errors
    /// `SplitTask` if inputs that belong together were given to different members.
    pub(crate) fn assign(&mut self, partitions: &BTreeSet<TopicPartition>) -> Flow<Vec<TaskKey>> {
        let mut wanted: BTreeMap<TaskKey, BTreeSet<TopicIndex>> = BTreeMap::new();
        for partition in partitions {
            let topic = self.names.iter().position(|name| *name == partition.topic);
            let Some(topic) = topic.map(TopicIndex) else { continue };
            let Some(subtopology) = self.topology.reader_of(topic) else { continue };
            let key = TaskKey { subtopology, partition: partition.partition };
            wanted.entry(key).or_default().insert(topic);
        }
        for (key, inputs) in &wanted {
            let part = &self.topology.subtopologies()[key.subtopology];
            if part.copartitioned && inputs.len() < part.inputs.len() {
                let (subtopology, partition) = (part.name.clone(), key.partition);
                return Err(Box::new(StreamsError::SplitTask { subtopology, partition }));
            }
        }
        let gone: Vec<TaskKey> = self
            .tasks
            .iter()
            .filter(|(key, task)| {
                let has: BTreeSet<_> = task.inputs().map(|(topic, _)| topic).collect();
                wanted.get(key) != Some(&has)
            })
            .map(|(key, _)| *key)
            .collect();
        gone.into_iter().for_each(|key| self.let_go(key));
        self.resting.clear();
        self.paused.retain(|partition| partitions.contains(partition));
        let new: Vec<TaskKey> =
            wanted.keys().filter(|key| !self.tasks.contains_key(key)).copied().collect();
        for key in &new {
            let TaskKey { subtopology, partition } = *key;
            let (app, pace, writer) = (&self.app, self.pace, self.writer);
            let mut task = TaskCore::new(&self.topology, subtopology, partition, app, pace, writer);
            task.retain_inputs(|topic| wanted[key].contains(&topic));
            self.tasks.insert(*key, task);
            self.restoring.insert(*key);
        }
        Ok(new)
    }

    fn let_go(&mut self, key: TaskKey) {
        if let Some(task) = self.tasks.remove(&key) {
            self.past = self.past.plus(task.counters());
        }
        self.restoring.remove(&key);
        self.resting.remove(&key);
    }

    /// Lets the tasks of these partitions do nothing until the next assignment. What they had not
    /// processed is forgotten: nothing of it was committed, and it is read again if they come back.
    pub(crate) fn rest(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for (key, task) in &mut self.tasks {
            if task.inputs().any(|(_, partition)| partitions.contains(partition)) {
                task.settle(Outcome::Aborted);
                self.resting.insert(*key);
            }
        }
    }

    /// Forgets those of the tasks that somebody else has had since they were ours last, as the
    /// metadata beside their inputs' offsets shows.
    pub(crate) fn drop_outdated(&mut self, committed: &BTreeMap<TopicPartition, Found>) {
        let outdated: Vec<TaskKey> = self
            .tasks
            .iter()
            .filter(|(key, _)| !self.restoring.contains(key))
            .filter(|(_, task)| {
                let found = task.inputs().filter_map(|(_, input)| committed.get(input));
                !task.is_current(found.map(|found| found.metadata.as_str()))
            })
            .map(|(key, _)| *key)
            .collect();
        outdated.into_iter().for_each(|key| self.let_go(key));
    }

    /// The inputs of tasks that wait to come back.
    pub(crate) fn resting_inputs(&self) -> Vec<TopicPartition> {
        self.resting.iter().flat_map(|key| self.inputs(*key)).collect()
    }

    /// Forgets all tasks: others may have them by now.
    pub(crate) fn lose_all(&mut self) {
        let keys: Vec<TaskKey> = self.tasks.keys().copied().collect();
        keys.into_iter().for_each(|key| self.let_go(key));
        self.paused.clear();
    }

    /// The changelog partitions that a task is restored from.
    pub(crate) fn changelogs(&self, key: TaskKey) -> Vec<(TopicIndex, TopicPartition)> {
        let task = &self.tasks[&key];
        let partition =
            |topic: TopicIndex| TopicPartition::new(self.names[topic.0].clone(), key.partition.0);
        task.changelogs().map(|topic| (topic, partition(topic))).collect()
    }

    /// The inputs of a task.
    pub(crate) fn inputs(&self, key: TaskKey) -> Vec<TopicPartition> {
        self.tasks[&key].inputs().map(|(_, partition)| partition.clone()).collect()
    }

    /// Applies a changelog record.
    ///
    /// # Errors
    /// As [`TaskCore::restore`].
    pub(crate) fn restore(
        &mut self,
        key: TaskKey,
        changelog: TopicIndex,
        record: (&Bytes, Option<&Bytes>),
    ) -> Flow {
        match self.tasks.get_mut(&key) {
            Some(task) => task.restore(changelog, record.0, record.1),
            None => Ok(()),
        }
    }

    /// A restored task begins to run where the committed offsets say. Gives where to fetch from.
    pub(crate) fn resume(
        &mut self,
        key: TaskKey,
        committed: &BTreeMap<TopicPartition, Found>,
        earliest: &BTreeMap<TopicPartition, Offset>,
    ) -> Vec<(TopicPartition, Offset)> {
        let Some(task) = self.tasks.get_mut(&key) else { return Vec::new() };
        let inputs: Vec<_> =
            task.inputs().map(|(topic, partition)| (topic, partition.clone())).collect();
        let found: Vec<_> = inputs
            .iter()
            .filter_map(|(topic, partition)| {
                let found = committed.get(partition)?;
                Some((*topic, found.offset, found.metadata.as_str()))
            })
            .collect();
        task.resume(&found, |topic| {
            let of = inputs.iter().find(|(input, _)| *input == topic);
            of.and_then(|(_, partition)| earliest.get(partition)).copied().unwrap_or(Offset::ZERO)
        });
        self.restoring.remove(&key);
        self.fetch_positions(key)
    }

    fn fetch_positions(&self, key: TaskKey) -> Vec<(TopicPartition, Offset)> {
        let task = &self.tasks[&key];
        let positions = task.inputs().zip(task.positions());
        positions.map(|((_, partition), (_, offset))| (partition.clone(), offset)).collect()
    }

    /// Hands fetched records to the task that reads them.
    pub(crate) fn feed(
        &mut self,
        partition: &TopicPartition,
        records: impl IntoIterator<Item = InputRecord>,
        next: Offset,
        end: Option<Offset>,
    ) {
        if let Some((key, topic)) = self.reader(partition)
            && let Some(task) = self.tasks.get_mut(&key)
        {
            task.feed(topic, records, next, end);
        }
    }

    fn reader(&self, partition: &TopicPartition) -> Option<(TaskKey, TopicIndex)> {
        let topic = TopicIndex(self.names.iter().position(|name| *name == partition.topic)?);
        let subtopology = self.topology.reader_of(topic)?;
        Some((TaskKey { subtopology, partition: partition.partition }, topic))
    }

    /// Inputs to stop fetching, and inputs to fetch again.
    pub(crate) fn pauses(&mut self) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for task in self.tasks.values() {
            for (topic, partition) in task.inputs() {
                let (waiting, paused) = (task.buffered(topic), self.paused.contains(partition));
                if !paused && waiting > BUFFERED_MAX {
                    pause.push(partition.clone());
                } else if paused && waiting < BUFFERED_MAX / 2 {
                    resume.push(partition.clone());
                }
            }
        }
        self.paused.extend(pause.iter().cloned());
        for partition in &resume {
            self.paused.remove(partition);
        }
        (pause, resume)
    }

    /// Processes up to `max` records of each task; gives how many there were.
    ///
    /// # Errors
    /// The first refusal that no policy forgave. The transaction must be aborted.
    pub(crate) fn process(&mut self, now: Now, max: usize) -> Flow<usize> {
        let mut count = 0;
        for (_, task) in self.at_work() {
            count += task.process(now, max)?;
        }
        Ok(count)
    }

    /// Lets wall-clock punctuations run that are due.
    ///
    /// # Errors
    /// As [`TaskSet::process`].
    pub(crate) fn punctuate(&mut self, now: Now) -> Flow {
        self.at_work().try_for_each(|(_, task)| task.punctuate(now))
    }

    /// When `punctuate` is due next, by the wall clock.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        self.tasks.values().filter_map(TaskCore::wake_at).min()
    }

    /// True when something waits to be produced.
    pub(crate) fn has_output(&mut self) -> bool {
        self.tasks.values_mut().any(|task| !task.outbox().is_empty())
    }

    /// Hands out what is to be produced, task by task, each in order. `send` gives false when it
    /// cannot take the record now; call again later for it and all after it.
    ///
    /// # Errors
    /// What `send` says.
    pub(crate) fn drain<E>(
        &mut self,
        mut send: impl FnMut(&Arc<str>, Produce<'_>) -> Result<bool, E>,
    ) -> Result<bool, E> {
        for task in self.tasks.values_mut() {
            let outbox = task.outbox();
            let mut sent = 0;
            for produce in outbox.iter() {
                if !send(&self.names[produce.topic.0], produce)? {
                    break;
                }
                sent += 1;
            }
            if sent < outbox.len() {
                outbox.forget_first(sent);
                return Ok(false);
            }
            outbox.clear();
        }
        Ok(true)
    }

    /// Prepares the commit of every task; gives all offsets. Empty: nothing happened.
    ///
    /// # Errors
    /// When a store cannot be encoded. The transaction must be aborted.
    pub(crate) fn prepare(&mut self) -> Flow<Vec<CommitOffset>> {
        let mut offsets = Vec::new();
        for (_, task) in self.at_work() {
            offsets.extend(task.prepare_commit()?.into_iter().flatten());
        }
        Ok(offsets)
    }

    /// The transaction committed.
    pub(crate) fn committed(&mut self) {
        for task in self.tasks.values_mut().filter(|task| task.is_prepared()) {
            task.settle(Outcome::Committed);
        }
    }

    /// The transaction aborted; gives where to fetch from again.
    pub(crate) fn aborted(&mut self) -> Vec<(TopicPartition, Offset)> {
        self.at_work().for_each(|(_, task)| task.settle(Outcome::Aborted));
        self.positions()
    }

    /// Where to fetch the inputs of all tasks that run.
    pub(crate) fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        self.running().flat_map(|key| self.fetch_positions(key)).collect()
    }

    /// How the prepared transaction ended, by the metadata found beside the inputs' offsets.
    pub(crate) fn outcome(&self, committed: &BTreeMap<TopicPartition, Found>) -> Outcome {
        let prepared = self.tasks.values().filter(|task| task.is_prepared());
        let committed = |task: &TaskCore| {
            let found = task.inputs().filter_map(|(_, partition)| committed.get(partition));
            task.outcome(found.map(|found| found.metadata.as_str())) == Outcome::Committed
        };
        // One transaction holds them all: what is true of one is true of each.
        if prepared.into_iter().any(committed) { Outcome::Committed } else { Outcome::Aborted }
    }

    /// The inputs of all tasks that run.
    pub(crate) fn running_inputs(&self) -> Vec<TopicPartition> {
        self.running().flat_map(|key| self.inputs(key)).collect()
    }

    fn running(&self) -> impl Iterator<Item = TaskKey> {
        let idle = |key: &TaskKey| self.restoring.contains(key) || self.resting.contains(key);
        self.tasks.keys().filter(move |key| !idle(key)).copied()
    }

    fn at_work(&mut self) -> impl Iterator<Item = (&TaskKey, &mut TaskCore)> {
        let (restoring, resting) = (&self.restoring, &self.resting);
        let idle = move |key: &TaskKey| restoring.contains(key) || resting.contains(key);
        self.tasks.iter_mut().filter(move |(key, _)| !idle(key))
    }

    /// Tasks that wait to be restored.
    pub(crate) fn restoring(&self) -> Vec<TaskKey> {
        self.restoring.iter().copied().collect()
    }

    /// The committed position of every input that runs.
    pub(crate) fn committed_offsets(&self) -> BTreeMap<TopicPartition, Offset> {
        let of = |key: TaskKey| {
            self.tasks[&key].committed().map(|(partition, offset)| (partition.clone(), offset))
        };
        self.running().flat_map(of).collect()
    }

    /// What all tasks counted, those that are gone included.
    pub(crate) fn counters(&self) -> Counters {
        self.tasks.values().fold(self.past, |sum, task| sum.plus(task.counters()))
    }
}
