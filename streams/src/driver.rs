//! A topology at work without a broker: topics in memory, time moved by hand, crashes on demand.
//!
//! Each piped record is processed at once, through repartition topics and back in, and its output
//! can be read at once. Everything since the last [`TestDriver::commit`] is one transaction:
//! [`TestDriver::abort`] rolls it back in place, [`TestDriver::crash_and_restore`] throws all tasks
//! away and rebuilds them from changelogs and committed offsets; both then process the same input
//! again, as the runtime would. What can be read afterwards must be what it was before. Pure.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::ids::{Offset, PartitionIndex, TopicPartition};
use protocol::murmur;
use protocol::time::{Now, Timestamp};

use crate::codec::{Codec, Store, Topic, WindowStore, decode_option};
use crate::error::{Flow, StreamsError};
use crate::processor::Counters;
use crate::record::{Headers, InputRecord, Outbox, Placement, Record, TopicIndex};
use crate::store::{Entry, KvStore, WindowTable};
use crate::task::commit::Outcome;
use crate::task::{CommitOffset, Pace, TaskCore};
use crate::topology::{TopicKind, Topology};
use crate::window::Windowed;

/// The application's name inside the driver.
const APP: &str = "test";

/// Records processed between two looks at the outbox: one, so that what a record causes is
/// finished before the next record's turn.
const ROUND: usize = 1;

/// Which task: sub-topology and partition.
type TaskKey = (usize, PartitionIndex);

/// Runs a topology in memory.
#[derive(Debug)]
pub struct TestDriver {
    topology: Topology,
    partition_count: i32,
    tasks: BTreeMap<TaskKey, TaskCore>,
    /// The content of every topic, by partition.
    logs: BTreeMap<(TopicIndex, PartitionIndex), Log>,
    /// What was written to topics that are not internal, in order.
    outputs: Vec<(TopicIndex, InputRecord)>,
    outputs_committed: usize,
    /// How much of `outputs` was read, by topic.
    read: BTreeMap<TopicIndex, usize>,
    offsets: BTreeMap<TaskKey, Vec<CommitOffset>>,
    /// What was done to the driver since the last commit.
    journal: Vec<Step>,
    wall: Timestamp,
    wall_committed: Timestamp,
}

#[derive(Debug, Default)]
struct Log {
    records: Vec<InputRecord>,
    committed: usize,
}

#[derive(Debug, Clone)]
enum Step {
    Pipe(TopicIndex, PartitionIndex, InputRecord),
    Advance(Duration),
}

impl TestDriver {
    /// Runs `topology` with one partition per topic.
    #[must_use]
    pub fn new(topology: &Topology) -> Self {
        Self::with_partitions(topology, 1)
    }

    /// Runs `topology` with this many partitions of every topic.
    #[must_use]
    pub fn with_partitions(topology: &Topology, partition_count: i32) -> Self {
        assert!(partition_count > 0, "a topic has one partition at least");
        let mut driver = Self {
            topology: topology.clone(),
            partition_count,
            tasks: BTreeMap::new(),
            logs: BTreeMap::new(),
            outputs: Vec::new(),
            outputs_committed: 0,
            read: BTreeMap::new(),
            offsets: BTreeMap::new(),
            journal: Vec::new(),
            wall: Timestamp(0),
            wall_committed: Timestamp(0),
        };
        driver.start_tasks().expect("there is nothing to restore yet");
        driver
    }

    /// Pipes a typed record into a topic.
    ///
    /// # Errors
    /// What its processing ran into; the record is then as if it had never been piped.
    pub fn pipe<K, V>(&mut self, topic: &Topic<K, V>, key: K, value: V, at: Timestamp) -> Flow {
        self.pipe_record(topic, &Record::new(key, value, at))
    }

    /// Pipes a typed record with headers into a topic.
    ///
    /// # Errors
    /// As [`TestDriver::pipe`].
    pub fn pipe_record<K, V>(&mut self, topic: &Topic<K, V>, record: &Record<K, V>) -> Flow {
        let key = encode(&topic.name, "key", &*topic.key, &record.key)?;
        let value = encode(&topic.name, "value", &*topic.value, &record.value)?;
        self.pipe_raw(&topic.name, key, value, record.timestamp, record.headers.clone())
    }

    /// Pipes bytes into a topic, to the partition that the key names.
    ///
    /// # Errors
    /// As [`TestDriver::pipe`]; `UnknownTopic` if the topology does not read the topic.
    pub fn pipe_raw(
        &mut self,
        topic: &str,
        key: Option<Bytes>,
        value: Option<Bytes>,
        timestamp: Timestamp,
        headers: Headers,
    ) -> Flow {
        let index = self.topology.find_topic(APP, topic);
        let index = index.filter(|index| self.topology.reader_of(*index).is_some());
        let index = index.ok_or_else(|| StreamsError::UnknownTopic(Arc::from(topic)))?;
        let partition = self.place(Placement::ByKey, key.as_deref());
        let record = InputRecord { offset: Offset::ZERO, timestamp, key, value, headers };
        self.take(Step::Pipe(index, partition, record))
    }

    /// Moves the wall clock and lets punctuations run that are due.
    ///
    /// # Errors
    /// What a processor refused.
    pub fn advance_wall_clock(&mut self, by: Duration) -> Flow {
        self.take(Step::Advance(by))
    }

    /// What was written to a topic since the last read, uncommitted records included.
    ///
    /// # Errors
    /// `Decode` if the topic's codecs do not fit what was written.
    pub fn read<K, V>(&mut self, topic: &Topic<K, V>) -> Flow<Vec<Record<K, V>>> {
        self.read_raw(&topic.name).into_iter().map(|raw| decode(topic, raw)).collect()
    }

    /// Everything that was ever written to a topic and not rolled back.
    ///
    /// # Errors
    /// As [`TestDriver::read`].
    pub fn written<K, V>(&self, topic: &Topic<K, V>) -> Flow<Vec<Record<K, V>>> {
        let index = self.topology.find_topic(APP, &topic.name);
        let records = self.outputs.iter().filter(|(of, _)| Some(*of) == index);
        records.map(|(_, raw)| decode(topic, raw.clone())).collect()
    }

    /// As [`TestDriver::read`], keys and values alone.
    ///
    /// # Errors
    /// As [`TestDriver::read`].
    pub fn read_pairs<K, V>(&mut self, topic: &Topic<K, V>) -> Flow<Vec<(K, V)>> {
        Ok(self.read(topic)?.into_iter().map(|record| (record.key, record.value)).collect())
    }

    /// What was written to a topic since the last read, as bytes.
    pub fn read_raw(&mut self, topic: &str) -> Vec<InputRecord> {
        let Some(index) = self.topology.find_topic(APP, topic) else { return Vec::new() };
        let seen = self.read.entry(index).or_default();
        let new = self.outputs.iter().skip(*seen).filter(|(of, _)| *of == index);
        let new = new.map(|(_, record)| record.clone()).collect();
        *seen = self.outputs.len();
        new
    }

    /// What a key-value store holds, by partition and then in the order of the keys' bytes.
    ///
    /// # Errors
    /// `UnknownStore` if there is none of this name and type.
    pub fn store<K, V>(&self, store: &Store<K, V>) -> Flow<Vec<(K, Entry<V>)>>
    where
        K: Hash + Eq + Clone + 'static,
        V: Clone + 'static,
    {
        let mut found = Vec::new();
        for table in self.tables::<KvStore<K, V>>(&store.name)? {
            let sorted = table.borrow().sorted();
            found.extend(sorted.map_err(|source| unsorted(&store.name, source))?);
        }
        Ok(found)
    }

    /// What a window store holds, by partition, start and then the bytes of the key.
    ///
    /// # Errors
    /// `UnknownStore` if there is none of this name and type.
    #[allow(clippy::type_complexity, reason = "a window's start, its key and its value")]
    pub fn window_store<K, V>(
        &self,
        store: &WindowStore<K, V>,
    ) -> Flow<Vec<(Timestamp, K, Entry<V>)>>
    where
        K: Hash + Eq + Clone + 'static,
        V: Clone + 'static,
    {
        let mut found = Vec::new();
        for table in self.tables::<WindowTable<K, V>>(&store.name)? {
            let sorted = table.borrow().sorted();
            found.extend(sorted.map_err(|source| unsorted(&store.name, source))?);
        }
        Ok(found)
    }

    fn tables<S: 'static>(&self, name: &Arc<str>) -> Flow<Vec<crate::store::Shared<S>>> {
        let found: Vec<_> = self.tasks.values().filter_map(|task| task.store(name)).collect();
        if found.is_empty() {
            return Err(Box::new(StreamsError::UnknownStore(name.clone())));
        }
        Ok(found)
    }

    /// What all tasks counted since they were last started.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.tasks.values().fold(Counters::default(), |sum, task| sum.plus(task.counters()))
    }

    /// Everything in the changelog of a store, as bytes, oldest first.
    #[must_use]
    pub fn changelog(&self, store: &str) -> Vec<InputRecord> {
        let is_it = |index: TopicIndex| {
            let spec = self.topology.topic(index);
            spec.kind == TopicKind::Changelog && *spec.name == *store
        };
        let logs = self.logs.iter().filter(|((topic, _), _)| is_it(*topic));
        logs.flat_map(|(_, log)| log.records.iter().cloned()).collect()
    }

    /// Commits everything since the last commit.
    ///
    /// # Errors
    /// When a store cannot be encoded; then nothing is committed.
    pub fn commit(&mut self) -> Flow {
        let mut prepared = Vec::new();
        for key in self.keys() {
            let task = self.task(key);
            if let Some(offsets) = task.prepare_commit()? {
                prepared.push((key, offsets));
            }
            self.drain(key);
        }
        for (key, offsets) in prepared {
            self.task(key).settle(Outcome::Committed);
            self.offsets.insert(key, offsets);
        }
        self.logs.values_mut().for_each(|log| log.committed = log.records.len());
        self.outputs_committed = self.outputs.len();
        self.wall_committed = self.wall;
        self.journal.clear();
        Ok(())
    }

    /// Aborts everything since the last commit, rolls the stores back, and processes it again.
    ///
    /// # Errors
    /// What the second processing ran into.
    pub fn abort(&mut self) -> Flow {
        self.forget_uncommitted();
        self.tasks.values_mut().for_each(|task| task.settle(Outcome::Aborted));
        self.replay()
    }

    /// Loses all tasks, rebuilds them from what is committed, and processes the rest again.
    ///
    /// # Errors
    /// What restoring or the second processing ran into.
    pub fn crash_and_restore(&mut self) -> Flow {
        self.forget_uncommitted();
        self.start_tasks()?;
        self.replay()
    }

    fn forget_uncommitted(&mut self) {
        self.logs.values_mut().for_each(|log| log.records.truncate(log.committed));
        self.outputs.truncate(self.outputs_committed);
        self.wall = self.wall_committed;
    }

    fn replay(&mut self) -> Flow {
        // What was read stays read: the same records come again at the same places.
        for step in self.journal.clone() {
            self.run_step(step)?;
        }
        Ok(())
    }

    fn start_tasks(&mut self) -> Flow {
        self.tasks.clear();
        for subtopology in 0..self.topology.subtopologies().len() {
            for partition in (0..self.partition_count).map(PartitionIndex) {
                let key = (subtopology, partition);
                let mut task =
                    TaskCore::new(&self.topology, subtopology, partition, APP, Pace::AsFed, 0);
                for changelog in task.changelogs().collect::<Vec<_>>() {
                    let log = self.logs.get(&(changelog, partition));
                    for record in log.iter().flat_map(|log| &log.records) {
                        let key = record.key.as_ref().expect("changelogs are written with keys");
                        task.restore(changelog, key, record.value.as_ref())?;
                    }
                }
                let offsets = self.offsets.get(&key).map_or(&[][..], Vec::as_slice);
                let offsets: Vec<_> = offsets
                    .iter()
                    .map(|commit| (commit.topic, commit.offset, commit.metadata.as_str()))
                    .collect();
                task.resume(&offsets, |_| Offset::ZERO);
                task.punctuate(self.now())?;
                self.tasks.insert(key, task);
            }
        }
        Ok(())
    }

    /// Does a step and remembers it; a failed one is undone with everything it caused.
    fn take(&mut self, step: Step) -> Flow {
        self.journal.push(step.clone());
        let done = self.run_step(step);
        if done.is_err() {
            self.journal.pop();
            self.abort()?;
        }
        done
    }

    fn run_step(&mut self, step: Step) -> Flow {
        match step {
            Step::Pipe(topic, partition, record) => {
                self.append(topic, partition, record);
            }
            Step::Advance(by) => {
                self.wall = self.wall.plus(by);
                let now = self.now();
                self.tasks.values_mut().try_for_each(|task| task.punctuate(now))?;
            }
        }
        self.run_until_quiet()
    }

    fn run_until_quiet(&mut self) -> Flow {
        let now = self.now();
        loop {
            let mut quiet = true;
            for key in self.keys() {
                let processed = self.task(key).process(now, ROUND)?;
                quiet &= processed == 0 && self.task(key).outbox().is_empty();
                self.drain(key);
            }
            if quiet {
                return Ok(());
            }
        }
    }

    /// Writes a task's outbox into the topics.
    fn drain(&mut self, key: TaskKey) {
        let outbox: Outbox = std::mem::take(self.task(key).outbox());
        for produce in outbox.iter() {
            let partition = self.place(produce.placement, produce.key);
            let record = InputRecord {
                offset: Offset::ZERO,
                timestamp: produce.timestamp,
                key: produce.key.map(Bytes::copy_from_slice),
                value: produce.value.map(Bytes::copy_from_slice),
                headers: produce.headers.clone(),
            };
            let record = self.append(produce.topic, partition, record);
            if self.topology.topic(produce.topic).kind == TopicKind::External {
                self.outputs.push((produce.topic, record));
            }
        }
    }

    /// Adds a record to a topic and feeds it to the task that reads it.
    fn append(
        &mut self,
        topic: TopicIndex,
        partition: PartitionIndex,
        mut record: InputRecord,
    ) -> InputRecord {
        let log = self.logs.entry((topic, partition)).or_default();
        let length = i64::try_from(log.records.len()).expect("memory ends before 2^63 records");
        record.offset = Offset(length);
        log.records.push(record.clone());
        if let Some(reader) = self.topology.reader_of(topic) {
            let next = record.offset.plus(1);
            self.task((reader, partition)).feed(topic, [record.clone()], next, Some(next));
        }
        record
    }

    fn place(&self, placement: Placement, key: Option<&[u8]>) -> PartitionIndex {
        match (placement, key) {
            (Placement::Exactly(partition), _) => partition,
            (Placement::ByKey, Some(key)) => {
                let chosen = murmur::partition_of_key(key, self.partition_count);
                chosen.expect("a topic has one partition at least")
            }
            (Placement::ByKey, None) => PartitionIndex(0),
        }
    }

    fn now(&self) -> Now {
        let since = u64::try_from(self.wall.0).expect("the driver's clock starts at 0");
        Now { monotonic: Duration::from_millis(since), wall: self.wall }
    }

    fn keys(&self) -> Vec<TaskKey> {
        self.tasks.keys().copied().collect()
    }

    fn task(&mut self, key: TaskKey) -> &mut TaskCore {
        self.tasks.get_mut(&key).expect("every partition has its task")
    }
}

/// The key of a windowed record as text: `key@start/end`, as Kafka's tools print it.
impl std::fmt::Display for Windowed<String> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}/{}", self.key, self.start, self.end)
    }
}

fn decode<K, V>(topic: &Topic<K, V>, raw: InputRecord) -> Flow<Record<K, V>> {
    let fault = |part, source| {
        let partition = TopicPartition::new(topic.name.clone(), 0);
        Box::new(StreamsError::Decode { partition, offset: raw.offset, part, source })
    };
    let key = decode_option(&*topic.key, raw.key.as_ref()).map_err(|e| fault("key", e))?;
    let value = decode_option(&*topic.value, raw.value.as_ref()).map_err(|e| fault("value", e))?;
    Ok(Record { key, value, timestamp: raw.timestamp, headers: raw.headers })
}

fn encode<T>(
    node: &Arc<str>,
    part: &'static str,
    codec: &dyn Codec<T>,
    value: &T,
) -> Flow<Option<Bytes>> {
    if codec.is_null(value) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    match codec.encode(value, &mut bytes) {
        Ok(()) => Ok(Some(Bytes::from(bytes))),
        Err(source) => Err(Box::new(StreamsError::Encode { node: node.clone(), part, source })),
    }
}

fn unsorted(name: &Arc<str>, source: crate::codec::BoxError) -> Box<StreamsError> {
    Box::new(StreamsError::Encode { node: name.clone(), part: "key", source })
}
