//! The producer as one piece: appends in, requests out, what became of them in.
//!
//! Ties batches, numbering and the transaction together. Whoever holds it appends without waiting;
//! the sender drains requests, and lands what the brokers said. Pure.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, Offset, TopicPartition};
use protocol::record::RecordBatch;
use protocol::rng::Rng;
use protocol::time::Timestamp;

use super::accumulator::{Accumulator, Append, Appended, Limits, QueueIndex, Request};
use super::error::{AppendError, Failure, ProduceError};
use super::queue::{BatchId, Done};
use super::sequencer::{Stamp, Verdict, judge};
use super::transaction::{Transaction, is_fatal_to_producer};
use crate::backoff::Backoff;
use crate::cluster::Cluster;

/// Acknowledgements that nobody took yet; then the oldest are dropped. One per batch.
const ACKS_MAX: usize = 16_384;

/// A batch that is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchAck {
    /// Where.
    pub partition: TopicPartition,
    /// The offset of its first record; `NONE` where the broker does not tell: with acks = 0, and
    /// for a duplicate that it has forgotten the offset of.
    pub base_offset: Offset,
    /// How many records follow one another from there.
    pub record_count: i32,
    /// How the broker dated them; `NONE`: they keep their own timestamps.
    pub append_time: Timestamp,
}

/// What a broker said of a batch, or that it said nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Written {
        base_offset: Offset,
        append_time: Timestamp,
    },
    Error {
        code: ErrorCode,
        message: Option<String>,
    },
    Nothing {
        is_in_doubt: bool,
    },
    /// The request cannot be made to this broker at all.
    Impossible {
        reason: Arc<str>,
    },
}

/// A batch with what was said of it.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) queue: QueueIndex,
    pub(crate) partition: TopicPartition,
    pub(crate) id: BatchId,
    pub(crate) content: RecordBatch,
    pub(crate) said: Said,
}

/// How a batch ended, for those who wait for its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) id: BatchId,
    pub(crate) outcome: Result<BatchAck, ProduceError>,
}

/// What is to be done next.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) requests: Vec<Request>,
    pub(crate) settled: Vec<Settled>,
    /// Partitions to add to the transaction before their batches can be sent. KIP-98.
    pub(crate) to_add: BTreeSet<TopicPartition>,
    /// Ask for Metadata of `topics`.
    pub(crate) wants_metadata: bool,
    /// A new producer id is needed.
    pub(crate) wants_producer_id: bool,
}

/// A producer.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) accumulator: Accumulator,
    pub(crate) transaction: Option<Transaction>,
    is_idempotent: bool,
    stamp: Stamp,
    delivery_timeout: Duration,
    backoff: Backoff,
    /// For what takes milliseconds.
    soon: Backoff,
    /// Some queue may have a gap.
    may_have_gaps: bool,
    /// Someone said that leaders changed.
    is_stale: bool,
    /// Why an idempotent producer without transactions is of no more use.
    fatal: Option<Failure>,
    /// The first failure since the last flush.
    failure: Option<ProduceError>,
    acks: VecDeque<BatchAck>,
}

impl Core {
    pub(crate) fn new(
        limits: Limits,
        transactional_id: Option<&str>,
        is_idempotent: bool,
        (backoff, soon): (Backoff, Backoff),
        rng: Rng,
    ) -> Self {
        Self {
            accumulator: Accumulator::new(limits, rng),
            transaction: transactional_id.map(|it| Transaction::new(it.into())),
            is_idempotent,
            stamp: Stamp::NONE,
            delivery_timeout: limits.delivery_timeout,
            backoff,
            soon,
            may_have_gaps: false,
            is_stale: false,
            fatal: None,
            failure: None,
            acks: VecDeque::new(),
        }
    }

    /// Appends a record.
    pub(crate) fn append(
        &mut self,
        record: &Append<'_>,
        now: impl FnOnce() -> Duration,
    ) -> Result<Appended, AppendError> {
        if let Some(transaction) = &self.transaction {
            transaction.append()?;
        }
        if let Some(failure) = &self.fatal {
            return Err(AppendError::Fatal(failure.clone()));
        }
        self.accumulator.append(record, now)
    }

    /// Who this producer is.
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Has got a new id or epoch. Partitions take it up when nothing of theirs is unacknowledged.
    pub(crate) fn set_stamp(&mut self, stamp: Stamp) {
        self.stamp = stamp;
    }

    /// What is to be done at `now`.
    pub(crate) fn plan(&mut self, now: Duration, cluster: &Cluster) -> Plan {
        let mut plan = Plan::default();
        if self.transaction.as_ref().is_some_and(|it| it.failure().is_some()) {
            // None of it can be committed any more: who waits for a record shall not wait longer.
            plan.settled = self.abandon();
        }
        self.close_gaps(&mut plan);
        let is_nobody = self.is_idempotent && !self.stamp.is_some();
        plan.wants_producer_id = is_nobody && self.transaction.is_none();
        let transaction = self.transaction.as_ref();
        let drained = self.accumulator.drain(
            now,
            self.stamp,
            |partition| {
                let leader = cluster.leader(partition)?.broker;
                cluster.endpoint(leader).filter(|_| !is_nobody).map(|_| leader)
            },
            |partition| transaction.is_none_or(|it| it.may_send(partition)),
        );
        let lacks_leader = drained.lacks_leader && !is_nobody;
        plan.wants_metadata = lacks_leader || self.is_stale || self.accumulator.lacks_topics();
        if let Some(transaction) = &mut self.transaction {
            if transaction.may_add() {
                plan.to_add = drained.outside_transaction;
            }
            if !drained.requests.is_empty() {
                transaction.begins_there();
            }
        }
        for (partition, done) in drained.expired {
            self.may_have_gaps = true;
            let error = self.expired(partition, done);
            plan.settled.push(self.give_up(done.id, error));
        }
        plan.requests = drained.requests;
        plan
    }

    /// When there will be a plan if nothing else happens.
    pub(crate) fn wake_at(&self, now: Duration) -> Option<Duration> {
        self.accumulator.wake_at(now)
    }

    fn expired(&self, partition: TopicPartition, done: Done) -> ProduceError {
        ProduceError::Expired {
            partition,
            record_count: done.record_count,
            timeout: self.delivery_timeout,
            is_in_doubt: done.is_in_doubt,
        }
    }

    /// Gaps of idempotent producers are closed by a new epoch, those of transactional ones by an
    /// abort.
    fn close_gaps(&mut self, plan: &mut Plan) {
        if !self.may_have_gaps || self.transaction.is_some() {
            return;
        }
        let (broken, remain) = self.accumulator.gaps();
        if broken.is_empty() {
            return;
        }
        self.may_have_gaps = remain;
        match self.stamp.next_epoch() {
            Some(next) => self.stamp = next,
            None => self.stamp = Stamp::NONE,
        }
        for index in broken {
            let (partition, given_up) =
                self.accumulator.with_queue(index, |it| (it.partition.clone(), it.close_gap()));
            self.accumulator.forget(&given_up);
            for done in given_up {
                let (partition, record_count) = (partition.clone(), done.record_count);
                let error = ProduceError::InDoubt { partition, record_count };
                plan.settled.push(self.give_up(done.id, error));
            }
        }
    }

    /// Takes in what became of a request.
    pub(crate) fn land(
        &mut self,
        now: Duration,
        broker: BrokerId,
        landed: Vec<Landed>,
    ) -> Vec<Settled> {
        self.accumulator.request_ended(broker);
        landed.into_iter().filter_map(|it| self.land_one(now, it)).collect()
    }

    fn land_one(&mut self, now: Duration, landed: Landed) -> Option<Settled> {
        let Landed { queue, partition, id, content, said } = landed;
        let is_oldest = self.accumulator.with_queue(queue, |it| it.is_oldest(id));
        let verdict = match &said {
            Said::Written { .. } => Verdict::Written,
            Said::Error { code, .. } => judge(*code, is_oldest),
            Said::Nothing { is_in_doubt } => {
                Verdict::Retry { is_in_doubt: *is_in_doubt, is_leader_stale: true, is_soon: false }
            }
            Said::Impossible { .. } => Verdict::Refused,
        };
        let drops = self.transaction.as_ref().is_some_and(Transaction::drops_batches);
        match verdict {
            Verdict::Written => Some(self.written(queue, partition, id, &said)),
            Verdict::Refused => Some(self.refused(queue, partition, id, said)),
            Verdict::Retry { .. } | Verdict::Renumber if drops => {
                Some(self.dropped(queue, partition, id))
            }
            Verdict::Renumber if self.transaction.is_some() => {
                Some(self.refused(queue, partition, id, said))
            }
            Verdict::Renumber => {
                self.may_have_gaps = true;
                self.accumulator.with_queue(queue, |it| it.renumber(id, content));
                None
            }
            Verdict::Retry { is_in_doubt, is_leader_stale, is_soon } => {
                self.is_stale |= is_leader_stale;
                let backoff = if is_soon { &mut self.soon } else { &mut self.backoff };
                self.accumulator.with_queue(queue, |it| {
                    it.take_back(id, content, is_in_doubt);
                    it.retry_at = now + backoff.wait_after(it.failure_count);
                    it.failure_count = it.failure_count.saturating_add(1);
                });
                None
            }
        }
    }

    fn written(
        &mut self,
        queue: QueueIndex,
        partition: TopicPartition,
        id: BatchId,
        said: &Said,
    ) -> Settled {
        let done = self.accumulator.with_queue(queue, |it| {
            it.failure_count = 0;
            it.settle(id, true)
        });
        self.accumulator.forget([&done]);
        let (base_offset, append_time) = match *said {
            Said::Written { base_offset, append_time } => (base_offset, append_time),
            Said::Error { .. } | Said::Nothing { .. } | Said::Impossible { .. } => {
                (Offset::NONE, Timestamp::NONE)
            }
        };
        let ack = BatchAck { partition, base_offset, record_count: done.record_count, append_time };
        if self.acks.len() == ACKS_MAX {
            self.acks.pop_front();
        }
        self.acks.push_back(ack.clone());
        Settled { id, outcome: Ok(ack) }
    }

    fn refused(
        &mut self,
        queue: QueueIndex,
        partition: TopicPartition,
        id: BatchId,
        said: Said,
    ) -> Settled {
        let done = self.accumulator.with_queue(queue, |it| it.settle(id, false));
        self.accumulator.forget([&done]);
        self.may_have_gaps = true;
        let (code, message) = match said {
            Said::Error { code, message } => (code, message),
            Said::Impossible { reason } => {
                (ErrorCode::UnsupportedVersion, Some(reason.to_string()))
            }
            Said::Written { .. } | Said::Nothing { .. } => (ErrorCode::UnknownServerError, None),
        };
        if let Some(transaction) = self.transaction.as_mut().filter(|_| is_fatal_to_producer(code))
        {
            let failure = transaction.fenced(code);
            transaction.fail_for_good(failure);
        }
        let record_count = done.record_count;
        self.give_up(id, ProduceError::Refused { partition, record_count, code, message })
    }

    fn dropped(&mut self, queue: QueueIndex, partition: TopicPartition, id: BatchId) -> Settled {
        let done = self.accumulator.with_queue(queue, |it| it.settle(id, false));
        self.accumulator.forget([&done]);
        if let Some(transaction) = &mut self.transaction {
            transaction.need_new_epoch();
        }
        let error = ProduceError::Aborted { partition, record_count: done.record_count };
        Settled { id, outcome: Err(error) }
    }

    /// A batch is lost: tells the next flush, and dooms the transaction.
    fn give_up(&mut self, id: BatchId, error: ProduceError) -> Settled {
        if let Some(transaction) = &mut self.transaction {
            transaction.fail(error.clone().into());
            transaction.need_new_epoch();
        }
        self.failure.get_or_insert_with(|| error.clone());
        Settled { id, outcome: Err(error) }
    }

    /// Drops all records that are not in flight: the transaction is being aborted.
    pub(crate) fn abandon(&mut self) -> Vec<Settled> {
        let (abandoned, were_numbered) = self.accumulator.abandon();
        if let Some(transaction) = self.transaction.as_mut().filter(|_| were_numbered) {
            transaction.need_new_epoch();
        }
        let settle = |(partition, done): (TopicPartition, Done)| Settled {
            id: done.id,
            outcome: Err(ProduceError::Aborted { partition, record_count: done.record_count }),
        };
        abandoned.into_iter().map(settle).collect()
    }

    /// The transaction has ended, under `stamp` goes the next. Nothing is in flight.
    pub(crate) fn transaction_settled(&mut self, stamp: Option<Stamp>) {
        assert!(self.accumulator.is_idle(), "nothing of it is under way");
        if let Some(stamp) = stamp {
            self.stamp = stamp;
            self.accumulator.forget_gaps();
            self.may_have_gaps = false;
        }
        // What failed belonged to the transaction that is over.
        self.failure = None;
        if let Some(transaction) = &mut self.transaction {
            transaction.settled();
        }
    }

    /// This producer is done for. Returns what becomes of its batches.
    pub(crate) fn fail_for_good(&mut self, failure: Failure) -> Vec<Settled> {
        match &mut self.transaction {
            Some(transaction) => transaction.fail_for_good(failure.clone()),
            None => self.fatal = Some(failure.clone()),
        }
        self.failure.get_or_insert(ProduceError::Fatal(failure));
        self.abandon()
    }

    /// Takes in what the cluster says of topics.
    pub(crate) fn learn(&mut self, cluster: &Cluster) {
        self.is_stale = false;
        for name in self.accumulator.topics() {
            let Some(topic) = cluster.topic(&name) else {
                continue;
            };
            // A topic that is about to be created is worth asking for again.
            let code = if topic.error.is_retriable() { ErrorCode::None } else { topic.error };
            let has_leader: Vec<_> =
                topic.partitions.values().map(|it| it.leader.is_some()).collect();
            self.accumulator.set_partitions(&name, code, &has_leader);
        }
    }

    /// Acknowledgements since the last call.
    pub(crate) fn take_acks(&mut self) -> Vec<BatchAck> {
        self.acks.drain(..).collect()
    }

    /// The first failure since the last call, or what ended the transaction or the producer.
    pub(crate) fn take_failure(&mut self) -> Result<(), ProduceError> {
        let failure = self.failure.take();
        if let Some(fatal) = self.fatal() {
            return Err(ProduceError::Fatal(fatal.clone()));
        }
        let doomed = self.transaction.as_ref().and_then(Transaction::failure).cloned();
        let doomed = doomed.map(|it| AppendError::MustAbort(it).into());
        failure.or(doomed).map_or(Ok(()), Err)
    }

    /// Why this producer is of no more use, if so.
    pub(crate) fn fatal(&self) -> Option<&Failure> {
        self.fatal.as_ref().or_else(|| self.transaction.as_ref()?.fatal())
    }
}

#[cfg(test)]
mod tests;
