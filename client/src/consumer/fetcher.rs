//! What to fetch from whom, and what of it to deliver next.
//!
//! Each broker has at most one fetch under way, without a session (KIP-227 allows it always). A
//! partition is fetched again while less than `max.partition.fetch.bytes` of it lie here, so that
//! the next answer is on its way before the last one is consumed. A broker with a partition that
//! has more than that, and is not paused, is not asked at all: its answer for the others could
//! wait for records while the full one is emptied. Partitions take turns, in fetches and in
//! deliveries.
//!
//! Bound: no fetch is made while `fetch.max.bytes` lie here, so that one such answer per broker
//! comes on top. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use bytes::Bytes;
use protocol::api::fetch::{FetchResponse, PartitionData};
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, Offset, ProducerId, TopicId, TopicPartition};
use protocol::record::{BatchError, DECOMPRESSED_BYTES_MAX, RecordBatch};

use super::aborted::Aborted;
use super::error::ConsumeError;
use super::fetched::FetchedBatch;
use super::positions::{Doubt, Ends, Position, Positions, Ticket};
use crate::cluster::{Cluster, Leader};
use crate::config::IsolationLevel;

/// 5 minutes: how long a preferred replica is read from before its leader is asked again; Java's
/// clients keep it as long as Metadata.
const PREFERRED_FOR: Duration = Duration::from_secs(300);

/// What bounds fetches and deliveries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) fetch_bytes: usize,
    pub(super) partition_bytes: usize,
    pub(super) records: usize,
    pub(super) isolation: IsolationLevel,
    pub(super) checks_crcs: bool,
}

/// A fetch to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) broker: BrokerId,
    pub(super) partitions: Vec<FetchPart>,
}

/// What to fetch of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FetchPart {
    pub(super) partition: TopicPartition,
    pub(super) ticket: Ticket,
    pub(super) topic_id: TopicId,
    /// What we believe the leader's epoch to be. KIP-320.
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) leader: BrokerId,
    pub(super) offset: Offset,
}

/// What to ask of brokers.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) fetches: Vec<Fetch>,
    /// Positions that the leader must be asked about first.
    pub(super) doubts: Vec<Doubt>,
    /// Some partition has no leader that we know.
    pub(super) lacks_leader: bool,
}

/// What an answer led to besides records.
#[derive(Debug, Default)]
pub(super) struct Landed {
    /// Leaders moved, or topics changed: ask for Metadata.
    pub(super) is_stale: bool,
    pub(super) leaders: Vec<(TopicPartition, Leader)>,
    pub(super) errors: Vec<ConsumeError>,
}

/// What `poll` may return now.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) batches: Vec<FetchedBatch>,
    /// Positions moved, be it over what is not to be seen.
    pub(super) has_moved: bool,
    pub(super) failure: Option<ConsumeError>,
}

/// The rest of one answer for one partition.
#[derive(Debug)]
struct Chunk {
    batches: VecDeque<RecordBatch>,
    aborted: Aborted,
    ends: Ends,
    /// What there is instead of batches.
    failure: Option<ConsumeError>,
}

/// What was fetched of one partition and not delivered.
#[derive(Debug)]
struct Buffer {
    ticket: Ticket,
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Where the next fetch goes on.
    next: Position,
}

#[derive(Debug)]
pub(super) struct Fetcher {
    limits: Limits,
    buffers: BTreeMap<TopicPartition, Buffer>,
    under_way: BTreeSet<BrokerId>,
    /// Replicas that leaders would rather have us read from, and until when. KIP-392.
    preferred: BTreeMap<TopicPartition, (BrokerId, Duration)>,
    /// Whose turn it was in the last fetch, and in the last delivery.
    fetched_first: Option<TopicPartition>,
    delivered_last: Option<TopicPartition>,
}

impl Fetcher {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffers: BTreeMap::new(),
            under_way: BTreeSet::new(),
            preferred: BTreeMap::new(),
            fetched_first: None,
            delivered_last: None,
        }
    }

    /// Drops what was fetched under older tickets.
    fn forget_stale(&mut self, positions: &Positions) {
        self.buffers.retain(|it, buffer| positions.ticket(it) == Some(buffer.ticket));
    }

    /// What to ask of brokers now.
    pub(super) fn plan(
        &mut self,
        now: Duration,
        positions: &mut Positions,
        cluster: &Cluster,
    ) -> Planned {
        self.forget_stale(positions);
        self.preferred.retain(|it, (broker, until)| {
            *until > now && positions.ticket(it).is_some() && cluster.endpoint(*broker).is_some()
        });
        let mut planned = Planned::default();
        let is_full = self.buffered_bytes() >= self.limits.fetch_bytes;
        let mut shut = self.under_way.clone();
        let mut by_broker: BTreeMap<BrokerId, Vec<FetchPart>> = BTreeMap::new();
        let all: BTreeSet<_> = positions.partitions().cloned().collect();
        for partition in rotated(&all, self.fetched_first.as_ref()) {
            if !positions.is_fetchable(now, partition) {
                continue;
            }
            let Some(leader) = cluster.leader(partition) else {
                planned.lacks_leader = true;
                continue;
            };
            let next = self.next(partition, positions);
            if !positions.is_valid(partition, next, leader) {
                planned.doubts.extend(positions.ask_doubt(now, partition, next, leader));
                continue;
            }
            let broker = self.preferred.get(partition).map_or(leader.broker, |(it, _)| *it);
            if self.buffers.get(partition).is_some_and(Buffer::is_broken) {
                continue;
            }
            if self.bytes_of(partition) >= self.limits.partition_bytes {
                shut.insert(broker);
                continue;
            }
            let part = self.part(partition, leader, positions, cluster);
            by_broker.entry(broker).or_default().push(part);
        }
        if is_full {
            return planned;
        }
        by_broker.retain(|broker, _| !shut.contains(broker));
        self.under_way.extend(by_broker.keys());
        planned.fetches = by_broker
            .into_iter()
            .map(|(broker, partitions)| Fetch { broker, partitions })
            .collect();
        if let Some(first) = planned.fetches.first() {
            self.fetched_first = Some(first.partitions[0].partition.clone());
        }
        planned
    }

    /// Where the next fetch goes on.
    fn next(&self, partition: &TopicPartition, positions: &Positions) -> Position {
        let position = positions.position(partition).expect("what is fetchable has a position");
        self.buffers.get(partition).map_or(position, |it| it.next)
    }

    fn part(
        &self,
        partition: &TopicPartition,
        leader: Leader,
        positions: &Positions,
        cluster: &Cluster,
    ) -> FetchPart {
        FetchPart {
            partition: partition.clone(),
            ticket: positions.ticket(partition).expect("what is fetchable has a ticket"),
            topic_id: cluster.topic(&partition.topic).map_or(TopicId::ZERO, |it| it.id),
            leader_epoch: leader.leader_epoch,
            leader: leader.broker,
            offset: self.next(partition, positions).offset,
        }
    }

    fn bytes_of(&self, partition: &TopicPartition) -> usize {
        self.buffers.get(partition).map_or(0, |it| it.bytes)
    }

    fn buffered_bytes(&self) -> usize {
        self.buffers.values().map(|it| it.bytes).sum()
    }

    /// A fetch had no answer, or one that is an error as a whole.
    pub(super) fn lost(&mut self, now: Duration, fetch: &Fetch, positions: &mut Positions) {
        self.under_way.remove(&fetch.broker);
        for part in &fetch.partitions {
            self.preferred.remove(&part.partition);
            positions.failed(now, &part.partition, part.ticket);
        }
    }

    /// Takes in the answer to `fetch`.
    pub(super) fn land(
        &mut self,
        now: Duration,
        fetch: Fetch,
        response: FetchResponse,
        positions: &mut Positions,
    ) -> Landed {
        let mut landed = Landed::default();
        if response.error_code != 0 {
            landed.is_stale = true;
            self.lost(now, &fetch, positions);
            return landed;
        }
        self.under_way.remove(&fetch.broker);
        let mut answers = BTreeMap::new();
        for topic in response.responses {
            for it in topic.partitions {
                let index = it.partition_index;
                answers.insert((topic.topic_id, topic.topic.clone(), index), it);
            }
        }
        for part in fetch.partitions {
            if positions.ticket(&part.partition) != Some(part.ticket) {
                continue;
            }
            let (name, index) = (part.partition.topic.to_string(), part.partition.partition.0);
            let by_id = answers.remove(&(part.topic_id, String::new(), index));
            match by_id.or_else(|| answers.remove(&(TopicId::ZERO, name, index))) {
                Some(answer) => {
                    self.land_one(now, fetch.broker, &part, answer, positions, &mut landed);
                }
                None => positions.failed(now, &part.partition, part.ticket),
            }
        }
        landed
    }

    fn land_one(
        &mut self,
        now: Duration,
        broker: BrokerId,
        part: &FetchPart,
        answer: PartitionData,
        positions: &mut Positions,
        landed: &mut Landed,
    ) {
        let FetchPart { partition, ticket, .. } = part;
        let code = ErrorCode::from_wire(answer.error_code);
        if code.is_ok() {
            let ends = Ends {
                high_watermark: Offset(answer.high_watermark),
                last_stable_offset: Offset(answer.last_stable_offset),
            };
            positions.succeeded(partition);
            positions.served(partition, part.leader_epoch);
            let preferred = BrokerId(answer.preferred_read_replica);
            if preferred.0 >= 0 && preferred != broker {
                // It is asked next; this answer has no records. Not at once: should it be unknown or
                // fail, the leader is asked again, and says the same.
                self.preferred.insert(partition.clone(), (preferred, now + PREFERRED_FOR));
                positions.failed(now, partition, *ticket);
                return;
            }
            positions.set_ends(partition, ends);
            self.buffer(part, answer, ends, positions);
            return;
        }
        if broker != part.leader && self.preferred.remove(partition).is_some() {
            // A follower may be behind; its leader knows.
            return;
        }
        if code == ErrorCode::OffsetOutOfRange {
            positions.failed(now, partition, *ticket);
            // What lies here comes first: by the time that it is delivered, the log may have grown.
            let is_next = positions.position(partition).is_some_and(|it| it.offset == part.offset);
            if is_next {
                landed.errors.extend(positions.out_of_range(partition).err());
            }
        } else if let Some(leader) = newer_leader(part, &answer) {
            landed.leaders.push((partition.clone(), leader));
        } else {
            positions.failed(now, partition, *ticket);
            landed.is_stale |= code.is_retriable();
            if !code.is_retriable() && code != ErrorCode::UnknownServerError {
                let partition = partition.clone();
                landed.errors.push(ConsumeError::PartitionRefused { partition, code });
            }
        }
    }

    fn buffer(
        &mut self,
        part: &FetchPart,
        answer: PartitionData,
        ends: Ends,
        positions: &Positions,
    ) {
        let FetchPart { partition, ticket, offset, .. } = part;
        let mut rest = answer.records.unwrap_or_default();
        let (batches, failure) = split(&mut rest, partition, *offset);
        // What is wrong after whole batches is met again by the next fetch, at its front.
        let failure = failure.filter(|_| batches.is_empty());
        if batches.is_empty() && failure.is_none() {
            return;
        }
        let listed = match self.limits.isolation {
            IsolationLevel::ReadUncommitted => Vec::new(),
            IsolationLevel::ReadCommitted => answer.aborted_transactions.unwrap_or_default(),
        };
        let listed = listed.iter().map(|it| (Offset(it.first_offset), ProducerId(it.producer_id)));
        let position = positions.position(partition).expect("a fetch has a position");
        let buffer = self.buffers.entry(partition.clone()).or_insert_with(|| Buffer {
            ticket: *ticket,
            chunks: VecDeque::new(),
            bytes: 0,
            next: position,
        });
        assert_eq!(buffer.ticket, *ticket, "what is stale was forgotten");
        if buffer.next.offset == *offset {
            if let Some(last) = batches.back().map(|it| *it.header()) {
                buffer.next =
                    Position { offset: last.next_offset(), leader_epoch: last.leader_epoch };
            }
            buffer.bytes += batches.iter().map(|it| it.bytes().len()).sum::<usize>();
            buffer.chunks.push_back(Chunk {
                batches,
                aborted: Aborted::new(listed),
                ends,
                failure,
            });
        } else if buffer.chunks.is_empty() {
            // Damage before it was met while this fetch was under way: that place is fetched anew.
            self.buffers.remove(partition);
        }
    }

    /// Delivers batches until `max.poll.records` are reached, and moves positions beyond them.
    pub(super) fn take(&mut self, now: Duration, positions: &mut Positions) -> Taken {
        self.forget_stale(positions);
        let mut taken = Taken::default();
        let mut left = self.limits.records;
        let all: BTreeSet<_> = self.buffers.keys().cloned().collect();
        for partition in rotated(&all, self.delivered_last.as_ref()) {
            if left == 0 {
                break;
            }
            if positions.is_paused(partition) {
                continue;
            }
            let buffer = self.buffers.get_mut(partition).expect("it is one of the keys");
            let result = buffer.take(partition, self.limits, &mut left, positions, &mut taken);
            self.delivered_last = Some(partition.clone());
            if buffer.chunks.is_empty() {
                self.buffers.remove(partition);
            }
            if let Err(failure) = result {
                if taken.batches.is_empty() {
                    // Fetched anew: the bytes may have been damaged on their way.
                    self.buffers.remove(partition);
                    if let Some(ticket) = positions.ticket(partition) {
                        positions.failed(now, partition, ticket);
                    }
                    taken.failure = Some(failure);
                }
                // Otherwise it is met again at the next call, at the front.
                break;
            }
        }
        taken
    }
}

impl Buffer {
    /// True when nothing can follow what lies here.
    fn is_broken(&self) -> bool {
        self.chunks.back().is_some_and(|it| it.failure.is_some())
    }

    fn take(
        &mut self,
        partition: &TopicPartition,
        limits: Limits,
        left: &mut usize,
        positions: &mut Positions,
        taken: &mut Taken,
    ) -> Result<(), ConsumeError> {
        while *left > 0 {
            let Some(chunk) = self.chunks.front_mut() else { return Ok(()) };
            let position = positions.position(partition).expect("what is buffered has a position");
            let Some(batch) = chunk.batches.front() else {
                // Left where it is while batches before it are yet to be returned.
                if chunk.failure.is_some() && taken.batches.is_empty() {
                    return chunk.failure.take().map_or(Ok(()), Err);
                } else if chunk.failure.is_some() {
                    return Ok(());
                }
                self.chunks.pop_front();
                continue;
            };
            let refuse = |source| damaged(partition, position.offset, source);
            let header = *batch.header();
            if limits.checks_crcs {
                batch.verify_crc().map_err(refuse)?;
            }
            // Asked again of the same batch, should it turn out damaged, the filter answers alike.
            if chunk.aborted.admits(&header) && header.record_count > 0 {
                let batch = batch.decode(DECOMPRESSED_BYTES_MAX).map_err(refuse)?;
                let count = usize::try_from(header.record_count).unwrap_or(usize::MAX);
                *left = left.saturating_sub(count);
                taken.batches.push(FetchedBatch {
                    tp: partition.clone(),
                    batch,
                    next_offset: header.next_offset(),
                    high_watermark: chunk.ends.high_watermark,
                    last_stable_offset: chunk.ends.last_stable_offset,
                    first_offset: position.offset,
                });
            }
            self.bytes -= batch.bytes().len();
            chunk.batches.pop_front();
            let next = Position { offset: header.next_offset(), leader_epoch: header.leader_epoch };
            positions.advance(partition, next);
            taken.has_moved = true;
        }
        Ok(())
    }
}

/// Who leads instead of whom we asked: to be asked at once, as each such answer is of a later epoch.
/// KIP-951.
fn newer_leader(part: &FetchPart, answer: &PartitionData) -> Option<Leader> {
    let told = &answer.current_leader;
    let is_newer = told.leader_id >= 0 && told.leader_epoch > part.leader_epoch.0;
    let (broker, leader_epoch) = (BrokerId(told.leader_id), LeaderEpoch(told.leader_epoch));
    is_newer.then_some(Leader { broker, leader_epoch })
}

/// The whole batches of an answer that reach beyond `offset`, and what is wrong with what follows.
fn split(
    rest: &mut Bytes,
    partition: &TopicPartition,
    offset: Offset,
) -> (VecDeque<RecordBatch>, Option<ConsumeError>) {
    let (mut batches, mut next) = (VecDeque::new(), offset);
    loop {
        match RecordBatch::split_first(rest) {
            // A broker may begin its answer with batches before the one that was asked for.
            Ok(Some(batch)) if batch.header().next_offset() <= next => {}
            Ok(Some(batch)) => {
                next = batch.header().next_offset();
                batches.push_back(batch);
            }
            Ok(None) if rest.is_empty() => return (batches, None),
            Ok(None) => {
                let partition = partition.clone();
                return (batches, Some(ConsumeError::BatchTooLarge { partition, offset }));
            }
            Err(error) => return (batches, Some(damaged(partition, next, error))),
        }
    }
}

fn damaged(partition: &TopicPartition, offset: Offset, source: BatchError) -> ConsumeError {
    ConsumeError::Damaged { partition: partition.clone(), offset, source }
}

/// All of `partitions` in order, beginning after `after`.
fn rotated<'a>(
    partitions: &'a BTreeSet<TopicPartition>,
    after: Option<&TopicPartition>,
) -> Vec<&'a TopicPartition> {
    let Some(after) = after else { return partitions.iter().collect() };
    let behind = partitions.range((Excluded(after), Unbounded));
    behind.chain(partitions.range(..=after)).collect()
}
