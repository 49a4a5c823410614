//! Records into batches, batches into requests.
//!
//! Appending is synchronous and touches one partition: no clock, channel or future per record. A
//! batch is closed when it is large enough, has lingered, or everything is flushed; closed batches
//! leave by leader, one per partition and request, oldest first. Invariant: `used_bytes` is what
//! all batches hold, from their first record until they are done with, and exceeds the bound only
//! by a single batch in an empty buffer. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, TopicPartition};
use protocol::record::{BatchBuilder, BatchOptions, Codec};
use protocol::rng::Rng;
use protocol::time::Timestamp;

use super::error::AppendError;
use super::partitioner::{Choice, Scheme, Sticky, Unplaced};
use super::queue::{BatchId, Done, Open, Outgoing, Queue};
use super::sequencer::Stamp;
use crate::config::Partitioner;

/// 4 KiB: room made when a batch is opened; it doubles as records come.
const OPEN_BYTES: usize = 4 << 10;

/// The next partition that has a leader, or the next one when none has.
fn in_turn(turn: &mut u32, partition_count: u32, has_leader: &[bool]) -> u32 {
    let led = |it: &u32| usize::try_from(*it).is_ok_and(|it| has_leader.get(it) == Some(&true));
    let mut from_here = (0..partition_count).map(|step| (*turn + step) % partition_count);
    let partition = from_here.find(led).unwrap_or(*turn % partition_count);
    *turn = (partition + 1) % partition_count;
    partition
}

/// What bounds batches and memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) codec: Codec,
    pub(crate) batch_bytes: usize,
    pub(crate) request_bytes: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) in_flight_max: usize,
}

/// A record to append.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Append<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Timestamp,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) batch: BatchId,
    /// Its place in the batch.
    pub(crate) index: i32,
    /// The sender has something new to do: send a full batch, or watch a new one linger.
    pub(crate) wakes_sender: bool,
}

/// Which queue: an index that stays the same for the life of the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueIndex(usize);

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    /// By partition; none while nothing is known.
    queues: Vec<QueueIndex>,
    has_leader: Vec<bool>,
    sticky: Option<Sticky>,
    /// Whose turn it is, where partitions take turns.
    turn: u32,
    /// Why nothing is known.
    error: ErrorCode,
}

/// What is to be sent in one request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) broker: BrokerId,
    pub(crate) batches: Vec<(QueueIndex, TopicPartition, Outgoing)>,
    bytes: usize,
}

/// What draining found besides requests.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) requests: Vec<Request>,
    /// Some partition that has batches has no known leader.
    pub(crate) lacks_leader: bool,
    /// Partitions that must be added to the transaction first.
    pub(crate) outside_transaction: BTreeSet<TopicPartition>,
    /// What was not delivered in time.
    pub(crate) expired: Vec<(TopicPartition, Done)>,
}

/// All partitions' batches.
#[derive(Debug)]
pub(crate) struct Accumulator {
    limits: Limits,
    scheme: Scheme,
    rng: Rng,
    topics: Vec<Topic>,
    by_name: BTreeMap<Arc<str>, usize>,
    /// The topic of the last record: most often that of the next.
    last: usize,
    queues: Vec<Queue>,
    /// Queues with closed batches that wait.
    waiting: BTreeSet<QueueIndex>,
    /// Open batches by age: those of which the queue has another by now were closed before.
    lingering: VecDeque<(Duration, QueueIndex, BatchId)>,
    /// Batches not done with.
    outstanding: BTreeSet<BatchId>,
    /// Requests in flight, by broker.
    in_flight: BTreeMap<BrokerId, usize>,
    used_bytes: usize,
    /// Of the record that was refused for want of memory, until one is appended again.
    refused_bytes: usize,
    next_batch: u64,
    /// Where draining begins, so that no partition is always last.
    cursor: QueueIndex,
}

impl Accumulator {
    pub(crate) fn new(limits: Limits, rng: Rng) -> Self {
        Self {
            limits,
            scheme: Scheme::Ours(Partitioner::Default),
            rng,
            topics: Vec::new(),
            by_name: BTreeMap::new(),
            last: 0,
            queues: Vec::new(),
            waiting: BTreeSet::new(),
            lingering: VecDeque::new(),
            outstanding: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            used_bytes: 0,
            refused_bytes: 0,
            next_batch: 0,
            cursor: QueueIndex(0),
        }
    }

    /// How the partitions of later records are chosen.
    pub(crate) fn set_scheme(&mut self, scheme: Scheme) {
        self.scheme = scheme;
    }

    /// Appends a record to its partition's open batch. `now` is read when a batch is opened.
    pub(crate) fn append(
        &mut self,
        record: &Append<'_>,
        now: impl FnOnce() -> Duration,
    ) -> Result<Appended, AppendError> {
        let bytes = BatchBuilder::record_bytes_max(record.key, record.value, record.headers);
        let topic = self.topic_index(record.topic);
        let (partition, is_sticky) = self.partition_for(topic, record)?;
        if bytes > self.limits.request_bytes {
            let topic = Arc::clone(&self.topics[topic].name);
            return Err(AppendError::RecordTooLarge { topic, bytes });
        }
        let used_bytes = self.used_bytes;
        if used_bytes > 0 && used_bytes.saturating_add(bytes) > self.limits.buffer_bytes {
            self.refused_bytes = bytes;
            return Err(AppendError::BufferFull { used_bytes });
        }
        let index = self.topics[topic].queues[partition];
        let closed = self.close_before(index, bytes);
        let opened = self.open(index, now);
        let open = self.queues[index.0].open.as_mut().expect("just opened, if it was not");
        let before = if opened { 0 } else { open.builder.estimated_size() };
        let appended =
            open.builder.append(record.timestamp, record.key, record.value, record.headers);
        let place = appended.map_err(|source| AppendError::Unbuildable {
            topic: Arc::clone(&self.topics[topic].name),
            source,
        })?;
        let (batch, size) = (open.id, open.builder.estimated_size());
        self.used_bytes += size - before;
        self.refused_bytes = 0;
        let full = size >= self.limits.batch_bytes && self.seal(index);
        if is_sticky {
            self.stick(topic, size - before);
        }
        Ok(Appended { batch, index: place, wakes_sender: closed || opened || full })
    }

    fn topic_index(&mut self, name: &str) -> usize {
        if self.topics.get(self.last).is_some_and(|it| *it.name == *name) {
            return self.last;
        }
        let index = match self.by_name.get(name) {
            Some(&index) => index,
            None => {
                let name: Arc<str> = name.into();
                let error = ErrorCode::None;
                let (queues, has_leader) = (Vec::new(), Vec::new());
                let name_of = Arc::clone(&name);
                let (sticky, turn) = (None, 0);
                self.topics.push(Topic { name, queues, has_leader, sticky, turn, error });
                self.by_name.insert(name_of, self.topics.len() - 1);
                self.topics.len() - 1
            }
        };
        self.last = index;
        index
    }

    /// Where a record goes, and whether it does as those without a place of their own do.
    fn partition_for(
        &mut self,
        topic: usize,
        record: &Append<'_>,
    ) -> Result<(usize, bool), AppendError> {
        let Self { topics, scheme, rng, .. } = self;
        let Topic { name, queues, has_leader, sticky, turn, error } = &mut topics[topic];
        let partition_count = u32::try_from(queues.len()).expect("a topic has fewer partitions");
        if partition_count == 0 {
            let (topic, code) = (Arc::clone(name), *error);
            // Told once; appending again asks the cluster again.
            *error = ErrorCode::None;
            return Err(match code {
                ErrorCode::None => AppendError::TopicPending { topic },
                code => AppendError::TopicRefused { topic, code },
            });
        }
        let none = |partition| AppendError::NoSuchPartition {
            topic: Arc::clone(name),
            partition,
            partition_count,
        };
        let choice = match record.partition {
            Some(partition) => Choice::At(u32::try_from(partition).map_err(|_| none(partition))?),
            None => {
                let Append { topic, key, value, .. } = *record;
                scheme.choose(&Unplaced { topic, key, value, partition_count })
            }
        };
        let partition = match choice {
            Choice::At(partition) if partition < partition_count => partition,
            Choice::At(partition) => {
                return Err(none(i32::try_from(partition).unwrap_or(i32::MAX)));
            }
            Choice::Sticky => {
                sticky.get_or_insert_with(|| Sticky::new(rng.fork(), partition_count)).current()
            }
            Choice::InTurn => in_turn(turn, partition_count, has_leader),
        };
        let index = usize::try_from(partition).expect("below a count of elements");
        Ok((index, choice == Choice::Sticky))
    }

    fn stick(&mut self, topic: usize, bytes: usize) {
        let Topic { has_leader, sticky, .. } = &mut self.topics[topic];
        let count = u32::try_from(has_leader.len()).expect("a topic has fewer partitions");
        let led = |it| usize::try_from(it).is_ok_and(|it| has_leader.get(it) == Some(&true));
        if let Some(sticky) = sticky {
            sticky.sent(bytes, self.limits.batch_bytes, count, led);
        }
    }

    /// Closes the open batch if a record of `bytes` would make it too large.
    fn close_before(&mut self, index: QueueIndex, bytes: usize) -> bool {
        let open = self.queues[index.0].open.as_ref();
        let size = open.map_or(0, |it| it.builder.estimated_size());
        size > 0 && size.saturating_add(bytes) > self.limits.batch_bytes && self.seal(index)
    }

    /// Opens a batch unless one is open.
    fn open(&mut self, index: QueueIndex, now: impl FnOnce() -> Duration) -> bool {
        let queue = &mut self.queues[index.0];
        if queue.open.is_some() {
            return false;
        }
        let options = BatchOptions {
            codec: self.limits.codec,
            capacity_bytes: OPEN_BYTES.min(self.limits.batch_bytes),
            ..BatchOptions::default()
        };
        let (id, opened_at) = (BatchId(self.next_batch), now());
        self.next_batch += 1;
        queue.open = Some(Open { id, builder: BatchBuilder::new(options), opened_at });
        self.outstanding.insert(id);
        self.lingering.push_back((opened_at, index, id));
        true
    }

    fn seal(&mut self, index: QueueIndex) -> bool {
        let sealed = self.queues[index.0].seal();
        if sealed {
            self.waiting.insert(index);
        }
        sealed
    }

    /// Closes all open batches.
    pub(crate) fn seal_all(&mut self) {
        while let Some((_, index, id)) = self.lingering.pop_front() {
            if self.queues[index.0].open.as_ref().is_some_and(|it| it.id == id) {
                self.seal(index);
            }
        }
    }

    fn seal_lingered(&mut self, now: Duration) {
        while let Some(&(opened_at, index, id)) = self.lingering.front() {
            let is_open = self.queues[index.0].open.as_ref().is_some_and(|it| it.id == id);
            if is_open && opened_at + self.limits.linger > now {
                break;
            }
            self.lingering.pop_front();
            if is_open {
                self.seal(index);
            }
        }
    }

    /// What can be sent at `now`: at most one request per broker.
    pub(crate) fn drain(
        &mut self,
        now: Duration,
        stamp: Stamp,
        leader: impl Fn(&TopicPartition) -> Option<BrokerId>,
        is_in_transaction: impl Fn(&TopicPartition) -> bool,
    ) -> Drained {
        self.seal_lingered(now);
        let mut drained = Drained { expired: self.expire(now), ..Drained::default() };
        let mut requests: BTreeMap<BrokerId, Request> = BTreeMap::new();
        let before = self.waiting.range(..self.cursor);
        let order: Vec<_> = self.waiting.range(self.cursor..).chain(before).copied().collect();
        let mut first_passed_over = None;
        for index in order {
            let queue = &mut self.queues[index.0];
            if !is_in_transaction(&queue.partition) {
                drained.outside_transaction.insert(queue.partition.clone());
                continue;
            }
            let Some(broker) = leader(&queue.partition) else {
                drained.lacks_leader = true;
                continue;
            };
            let Some(bytes) = queue.sendable(now, broker) else {
                continue;
            };
            let is_busy =
                self.in_flight.get(&broker).is_some_and(|&it| it >= self.limits.in_flight_max);
            let request = requests.entry(broker).or_insert_with(|| Request {
                broker,
                batches: Vec::new(),
                bytes: 0,
            });
            let is_full = request.bytes > 0 && request.bytes + bytes > self.limits.request_bytes;
            if is_busy || is_full {
                first_passed_over.get_or_insert(index);
                continue;
            }
            request.bytes += bytes;
            let outgoing = queue.send(broker, stamp);
            request.batches.push((index, queue.partition.clone(), outgoing));
            if !queue.has_waiting() {
                self.waiting.remove(&index);
            }
        }
        self.cursor = first_passed_over.unwrap_or(QueueIndex(0));
        drained.requests = requests.into_values().filter(|it| !it.batches.is_empty()).collect();
        for request in &drained.requests {
            *self.in_flight.entry(request.broker).or_default() += 1;
        }
        drained
    }

    /// When there will be something to drain if nothing else happens.
    pub(crate) fn wake_at(&self, now: Duration) -> Option<Duration> {
        let linger = self.lingering.front().map(|&(at, _, _)| at + self.limits.linger);
        let of_queue = |&index: &QueueIndex| {
            let queue = &self.queues[index.0];
            let expiry = queue.oldest_waiting().map(|it| it + self.limits.delivery_timeout);
            [expiry, Some(queue.retry_at)].into_iter().flatten()
        };
        // What is overdue waits for something else than time, and must not hide what does not.
        let all = self.waiting.iter().flat_map(of_queue).chain(linger);
        all.filter(|&it| it > now).min()
    }

    fn expire(&mut self, now: Duration) -> Vec<(TopicPartition, Done)> {
        let Some(limit) = now.checked_sub(self.limits.delivery_timeout) else {
            return Vec::new();
        };
        let mut expired = Vec::new();
        for index in self.waiting.iter().copied().collect::<Vec<_>>() {
            let queue = &mut self.queues[index.0];
            let partition = queue.partition.clone();
            expired.extend(queue.expire(limit).into_iter().map(|it| (partition.clone(), it)));
            if !queue.has_waiting() {
                self.waiting.remove(&index);
            }
        }
        self.forget(expired.iter().map(|(_, done)| done));
        expired
    }

    /// A request came back, or was lost.
    pub(crate) fn request_ended(&mut self, broker: BrokerId) {
        let count = self.in_flight.get_mut(&broker).expect("the request was sent");
        *count -= 1;
        if *count == 0 {
            self.in_flight.remove(&broker);
        }
    }

    /// Changes a queue, and takes in what that made of it.
    pub(crate) fn with_queue<T>(
        &mut self,
        index: QueueIndex,
        change: impl FnOnce(&mut Queue) -> T,
    ) -> T {
        let queue = &mut self.queues[index.0];
        let changed = change(queue);
        if queue.has_waiting() {
            self.waiting.insert(index);
        } else {
            self.waiting.remove(&index);
        }
        changed
    }

    /// These batches are done with: their memory is free.
    pub(crate) fn forget<'a>(&mut self, done: impl IntoIterator<Item = &'a Done>) {
        for done in done {
            assert!(self.outstanding.remove(&done.id), "a batch is done with once");
            self.used_bytes -= done.bytes;
        }
    }

    /// Drops what is not in flight. True in the second place: numbered batches were among it.
    pub(crate) fn abandon(&mut self) -> (Vec<(TopicPartition, Done)>, bool) {
        self.lingering.clear();
        let (mut abandoned, mut were_numbered) = (Vec::new(), false);
        for queue in &mut self.queues {
            let (done, numbered) = queue.abandon();
            were_numbered |= numbered;
            abandoned.extend(done.into_iter().map(|it| (queue.partition.clone(), it)));
        }
        self.waiting.clear();
        self.forget(abandoned.iter().map(|(_, done)| done));
        (abandoned, were_numbered)
    }

    /// Queues whose gap can be closed, and whether others have one too.
    pub(crate) fn gaps(&self) -> (Vec<QueueIndex>, bool) {
        let indexes = (0..self.queues.len()).map(QueueIndex);
        let broken = indexes.filter(|index| self.queues[index.0].is_broken()).collect();
        let remain = self.queues.iter().any(|it| it.has_gap() && !it.is_broken());
        (broken, remain)
    }

    /// The transaction has ended and the next begins under a new epoch: gaps are of no matter.
    pub(crate) fn forget_gaps(&mut self) {
        self.queues.iter_mut().for_each(Queue::forget_gap);
    }

    /// Takes in how many partitions a topic has and which of them have a leader.
    pub(crate) fn set_partitions(&mut self, name: &str, error: ErrorCode, has_leader: &[bool]) {
        let Some(&index) = self.by_name.get(name) else {
            return;
        };
        let topic = &mut self.topics[index];
        topic.error = error;
        // Partitions are never taken away; a topic that was recreated smaller refuses for itself.
        for partition in topic.queues.len()..has_leader.len() {
            let partition = i32::try_from(partition).expect("a topic has fewer partitions");
            let partition = TopicPartition::new(Arc::clone(&topic.name), partition);
            self.queues.push(Queue::new(partition));
            topic.queues.push(QueueIndex(self.queues.len() - 1));
        }
        topic.has_leader = has_leader.to_vec();
        topic.has_leader.resize(topic.queues.len(), false);
    }

    /// Asks for a topic before the first record.
    pub(crate) fn want_topic(&mut self, name: &str) {
        self.topic_index(name);
    }

    /// The topics that records went to or shall go to.
    pub(crate) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.by_name.keys().cloned().collect()
    }

    /// True when a topic is wanted of which nothing is known, not even an error.
    pub(crate) fn lacks_topics(&self) -> bool {
        self.topics.iter().any(|it| it.queues.is_empty() && it.error.is_ok())
    }

    /// How many partitions a topic has. `None`: not known.
    pub(crate) fn partition_count(&self, name: &str) -> Option<usize> {
        let topic = &self.topics[*self.by_name.get(name)?];
        Some(topic.queues.len()).filter(|&it| it > 0)
    }

    /// Why nothing is known of a topic.
    pub(crate) fn topic_error(&self, name: &str) -> Option<ErrorCode> {
        let topic = &self.topics[*self.by_name.get(name)?];
        Some(topic.error).filter(|it| !it.is_ok())
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// True when the record that was refused would be refused again; or, if none was, when not
    /// even a batch of usual size has room.
    pub(crate) fn is_full(&self) -> bool {
        let wanted =
            if self.refused_bytes > 0 { self.refused_bytes } else { self.limits.batch_bytes };
        self.used_bytes > 0 && self.used_bytes.saturating_add(wanted) > self.limits.buffer_bytes
    }

    /// The batch that will be opened next: all before it were opened earlier.
    pub(crate) fn horizon(&self) -> BatchId {
        BatchId(self.next_batch)
    }

    /// True when every batch opened before `horizon` is done with.
    pub(crate) fn is_done_before(&self, horizon: BatchId) -> bool {
        self.outstanding.first().is_none_or(|&it| it >= horizon)
    }

    /// True when nothing is in flight anywhere.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Asserts the invariants.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.queues.iter().for_each(Queue::check);
        for (index, queue) in self.queues.iter().enumerate() {
            assert_eq!(self.waiting.contains(&QueueIndex(index)), queue.has_waiting());
        }
        assert_eq!(self.outstanding.is_empty(), self.used_bytes == 0);
        assert!(self.in_flight.values().all(|&it| it <= self.limits.in_flight_max));
    }
}
