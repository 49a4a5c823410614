//! Producing records: batched, idempotent, in transactions.
//!
//! [`Producer::append`] is synchronous: it puts a record into its partition's batch and returns. A
//! task of its own sends batches when they are full or have lingered, up to five requests at a time
//! to each broker, and sends again what was not acknowledged; with idempotence (the default)
//! neither twice nor out of order. What could not be delivered is reported by the next
//! [`flush`](Producer::flush), acknowledgements by [`poll_acks`](Producer::poll_acks).
//!
//! With a `transactional.id` records are appended between [`begin`](Producer::begin) and
//! [`commit`](Producer::commit), and seen by `read_committed` consumers all together or not at all;
//! [`send_offsets`](Producer::send_offsets) makes the offsets of what was consumed part of it.
//! Shell.

mod accumulator;
mod core;
mod error;
mod partitioner;
mod queue;
mod sequencer;
mod shell;
mod transaction;
mod verbs;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::config::ConfigErrors;
use protocol::ids::{Offset, TopicPartition};
use protocol::time::{Clock, Now, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use self::accumulator::{Append, Appended, Limits};
use self::core::Core;
use self::partitioner::Scheme;
use self::shell::{Sender, Shared, init_producer_id};
use self::verbs::Verb;
use crate::bootstrap::Bootstrap;
use crate::config::ProducerConfig;
use crate::error::RequestError;
use crate::group_offsets::{GroupMetadata, OffsetAndMetadata};
use crate::router::{Patience, Router, Topics};
use crate::time::deadline_after;

pub use self::core::BatchAck;
pub use error::{AppendError, Failure, ProduceError, TransactionError};
pub use partitioner::Unplaced;

/// A header of a record to append: key, and value or null.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// Verbs that wait for the task: the producer is borrowed while one does, but an abandoned one may
/// still be waiting.
const VERBS_MAX: usize = 4;

/// Why there is no producer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings contradict one another.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The cluster does not answer, or refuses.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// A record to [`send`](Producer::send).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    /// The topic.
    pub topic: String,
    /// The partition; `None`: by the key, or whichever is convenient without one.
    pub partition: Option<i32>,
    /// When it happened; `None`: now.
    pub timestamp: Option<Timestamp>,
    /// The key; `None`: null.
    pub key: Option<Bytes>,
    /// The value; `None`: null, in a compacted topic a tombstone.
    pub value: Option<Bytes>,
    /// Headers in order: key, and value or null.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl ProducerRecord {
    /// A record without key.
    pub fn new(topic: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { topic: topic.into(), value: Some(value.into()), ..Self::default() }
    }

    /// The same with a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset; `NONE` where the broker does not tell.
    pub offset: Offset,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// All of it is, or will be, visible.
    Committed,
    /// None of it is visible, nor will be. The producer goes on with `begin`, unless the failure
    /// was its own end.
    Aborted(Failure),
    /// Nobody answered in time. `init_transactions` settles it, one way or the other: then what
    /// the transaction wrote, or the offsets it sent, tell which.
    Unknown,
}

/// A producer. Dropping it drops what is not acknowledged: [`close`](Self::close) it instead.
pub struct Producer {
    shared: Arc<Shared>,
    clock: Clock,
    verbs: mpsc::Sender<Verb>,
}

impl Producer {
    /// Reaches the cluster, and gets a producer id unless it is transactional. Waits at most
    /// `max.block.ms`. Call it inside a runtime.
    ///
    /// # Errors
    /// When settings contradict one another, or no broker answers.
    pub async fn connect(
        bootstrap: Bootstrap,
        config: ProducerConfig,
    ) -> Result<Self, ConnectError> {
        config.validate()?;
        let patience = Patience {
            request_timeout: config.request_timeout,
            retry_backoff: config.retry_backoff,
            retry_backoff_max: config.retry_backoff_max,
            metadata_max_age: config.metadata_max_age,
        };
        let router = Router::new(&bootstrap, patience);
        let attempt = || router.refresh(Topics::These([].into()), true);
        router.retry(config.max_block, "reach the cluster", attempt).await?;
        let limits = Limits {
            codec: config.compression.codec(),
            batch_bytes: config.batch_size,
            request_bytes: config.max_request_size,
            buffer_bytes: config.buffer_memory,
            linger: config.linger,
            delivery_timeout: config.delivery_timeout,
            in_flight_max: config.max_in_flight,
        };
        let transactional_id = config.transactional_id.as_deref();
        let is_idempotent = config.enable_idempotence;
        let backoffs = (router.backoff(), router.soon());
        let mut core = Core::new(limits, transactional_id, is_idempotent, backoffs, router.rng());
        if is_idempotent && transactional_id.is_none() {
            core.set_stamp(init_producer_id(&router, config.max_block).await?);
        }
        core.accumulator.set_scheme(Scheme::Ours(config.partitioner));
        let shared = Arc::new(Shared::new(router, config, core));
        let (verbs, incoming) = mpsc::channel(VERBS_MAX);
        tokio::spawn(Sender::new(Arc::clone(&shared), incoming).run());
        Ok(Self { shared, clock: bootstrap.clock, verbs })
    }

    /// From now on `choose` says to which partition a record goes that names none, instead of
    /// `partitioner`. It must be quick, and below the record's `partition_count`: a record for
    /// which it is not is refused.
    pub fn partition_by(&mut self, choose: impl Fn(&Unplaced<'_>) -> u32 + Send + Sync + 'static) {
        let scheme = Scheme::Callers(Arc::new(choose));
        self.shared.lock().core.accumulator.set_scheme(scheme);
    }

    /// The time by the producer's clock.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Appends a record to a batch, without waiting.
    ///
    /// `partition`: `None` lets the key decide, as all of Kafka's clients do, or convenience.
    ///
    /// # Errors
    /// See [`AppendError`]: when [`is_retriable`](AppendError::is_retriable), wait for
    /// [`ready`](Self::ready) and append again.
    pub fn append(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), AppendError> {
        let record = Append { topic, partition, timestamp, key, value, headers };
        let appended = self.append_to_core(&record, None);
        match appended {
            Ok(Appended { wakes_sender: false, .. }) => Ok(()),
            Ok(_) => {
                self.shared.work.notify_one();
                Ok(())
            }
            Err(error) => {
                self.shared.work.notify_one();
                Err(error)
            }
        }
    }

    fn append_to_core(
        &self,
        record: &Append<'_>,
        waiter: Option<oneshot::Sender<shell::Waited>>,
    ) -> Result<Appended, AppendError> {
        let mut state = self.shared.lock();
        let appended = state.core.append(record, || self.clock.now().monotonic)?;
        if let Some(waiter) = waiter {
            state.waiters.entry(appended.batch).or_default().push((appended.index, waiter));
        }
        Ok(appended)
    }

    /// True when the next `append` is likely to be refused for want of memory.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.lock().core.accumulator.is_full()
    }

    /// Bytes of records that are not acknowledged.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.shared.lock().core.accumulator.used_bytes()
    }

    /// Waits until there is room, and all topics that were appended to are known. Dropping it
    /// loses nothing.
    ///
    /// # Errors
    /// [`ProduceError::Blocked`] after `max.block.ms`, and when the producer is of no more use.
    pub async fn ready(&mut self) -> Result<(), ProduceError> {
        self.shared.work.notify_one();
        let timeout = self.shared.config.max_block;
        let ready = self.shared.until(timeout, |core| {
            if let Some(failure) = core.fatal() {
                return Some(Err(ProduceError::Fatal(failure.clone())));
            }
            let accumulator = &core.accumulator;
            (!accumulator.is_full() && !accumulator.lacks_topics()).then_some(Ok(()))
        });
        let what = "wait for room and for topics to be known";
        ready.await.unwrap_or(Err(ProduceError::Blocked { what, timeout }))
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// When that is not known within `max.block.ms`, or the cluster refuses to tell.
    pub async fn partition_count(&mut self, topic: &str) -> Result<i32, ProduceError> {
        self.shared.lock().core.accumulator.want_topic(topic);
        self.shared.work.notify_one();
        let timeout = self.shared.config.max_block;
        let known = self.shared.until(timeout, |core| {
            let accumulator = &core.accumulator;
            if let Some(count) = accumulator.partition_count(topic) {
                return Some(Ok(i32::try_from(count).unwrap_or(i32::MAX)));
            }
            let code = accumulator.topic_error(topic)?;
            Some(Err(AppendError::TopicRefused { topic: topic.into(), code }.into()))
        });
        let what = "wait for a topic to be known";
        known.await.unwrap_or(Err(ProduceError::Blocked { what, timeout }))
    }

    /// Sends all that was appended and waits until it is acknowledged. Dropping it loses nothing.
    ///
    /// # Errors
    /// The first failure since the last flush, if any batch could not be written since then:
    /// others may be written. Each batch fails by `delivery.timeout.ms` at the latest.
    pub async fn flush(&mut self) -> Result<(), ProduceError> {
        let horizon = {
            let core = &mut self.shared.lock().core;
            core.accumulator.seal_all();
            core.accumulator.horizon()
        };
        self.shared.work.notify_one();
        let done = self
            .shared
            .until(Duration::MAX, |core| core.accumulator.is_done_before(horizon).then_some(()));
        done.await.expect("a century has not passed");
        self.shared.lock().core.take_failure()
    }

    /// Batches that were acknowledged since the last call, in the order of their answers. The
    /// oldest are dropped when nobody asks for long (16384 batches).
    pub fn poll_acks(&mut self) -> Vec<BatchAck> {
        self.shared.lock().core.take_acks()
    }

    /// Waits until batches were acknowledged, and takes them as [`poll_acks`](Self::poll_acks)
    /// does. Empty when nothing waits to be acknowledged: what failed is told by
    /// [`flush`](Self::flush). Dropping it loses nothing.
    pub async fn acks(&mut self) -> Vec<BatchAck> {
        let acked = self.shared.until(Duration::MAX, |core| {
            let acks = core.take_acks();
            (!acks.is_empty() || core.accumulator.used_bytes() == 0).then_some(acks)
        });
        acked.await.expect("a century has not passed")
    }

    /// Sends one record and waits for its acknowledgement. For throughput, `append` many.
    ///
    /// # Errors
    /// When it could not be appended within `max.block.ms`, or not be written.
    pub async fn send(&mut self, record: ProducerRecord) -> Result<RecordMetadata, ProduceError> {
        let timestamp = record.timestamp.unwrap_or_else(|| self.clock.now().wall);
        let headers: Vec<Header<'_>> =
            record.headers.iter().map(|(key, value)| (&**key, value.as_deref())).collect();
        let append = Append {
            topic: &record.topic,
            partition: record.partition,
            timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let waited = loop {
            let (waiter, waited) = oneshot::channel();
            match self.append_to_core(&append, Some(waiter)) {
                Ok(_) => break waited,
                Err(error) if error.is_retriable() => self.ready().await?,
                Err(error) => return Err(error.into()),
            }
        };
        self.shared.work.notify_one();
        let (index, outcome) = waited.await.map_err(|_| gone())?;
        let ack = outcome?;
        let offset = if ack.base_offset < Offset::ZERO {
            Offset::NONE
        } else {
            ack.base_offset.plus(i64::from(index))
        };
        Ok(RecordMetadata { partition: ack.partition, offset })
    }

    /// Flushes, then ends the producer's task. A transaction that is open is left to the broker,
    /// which aborts it when its time is up.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(mut self) -> Result<(), ProduceError> {
        self.flush().await
    }

    /// As [`close`](Self::close), within `timeout`: what is not acknowledged by then is given up.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); and [`ProduceError::Blocked`] when the time is up: of what was
    /// given up, some may be in the log.
    pub async fn close_within(mut self, timeout: Duration) -> Result<(), ProduceError> {
        let flushed = timeout_at(deadline_after(timeout), self.flush()).await;
        flushed.unwrap_or(Err(ProduceError::Blocked { what: "flush before closing", timeout }))
    }

    /// Takes the transactional id over: fences older producers of this name and waits until what
    /// they left open has ended. Once before the first transaction, and after
    /// [`CommitOutcome::Unknown`]. KIP-98.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub async fn init_transactions(&mut self) -> Result<(), TransactionError> {
        self.ask(Verb::Init).await
    }

    /// Begins a transaction. Tells nobody yet.
    ///
    /// # Errors
    /// When one is open, or [`init_transactions`](Self::init_transactions) is due.
    pub fn begin(&mut self) -> Result<(), TransactionError> {
        let mut state = self.shared.lock();
        state.core.transaction.as_mut().ok_or(TransactionError::NotTransactional)?.begin()
    }

    /// Makes `offsets` of a group part of the transaction: committed with it, or not at all.
    ///
    /// `group` must be that of the consumer as of now: a member that was replaced meanwhile is
    /// refused, and so two members never both commit what one of them consumed (KIP-447).
    ///
    /// # Errors
    /// [`TransactionError::MustAbort`] when refused.
    pub async fn send_offsets(
        &mut self,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
        group: &GroupMetadata,
    ) -> Result<(), TransactionError> {
        let group = group.clone();
        self.ask(|reply| Verb::SendOffsets { offsets, group, reply }).await
    }

    /// Writes all that was appended, then commits. If anything could not be written, aborts.
    ///
    /// If this future is dropped, the task still carries it to its end.
    ///
    /// # Errors
    /// When no transaction is open, or the producer is of no more use; and
    /// [`TransactionError::Unknown`] when it had to be aborted and nobody answered in time: then
    /// nothing will be visible, but [`init_transactions`](Self::init_transactions) is due.
    pub async fn commit(&mut self) -> Result<CommitOutcome, TransactionError> {
        self.ask(Verb::Commit).await
    }

    /// Drops what was not sent, and aborts.
    ///
    /// # Errors
    /// [`TransactionError::Unknown`] when nobody answered in time: nothing will be visible, but
    /// [`init_transactions`](Self::init_transactions) is due.
    pub async fn abort(&mut self) -> Result<(), TransactionError> {
        self.ask(Verb::Abort).await
    }

    async fn ask<T>(
        &mut self,
        verb: impl FnOnce(oneshot::Sender<Result<T, TransactionError>>) -> Verb,
    ) -> Result<T, TransactionError> {
        if self.shared.config.transactional_id.is_none() {
            return Err(TransactionError::NotTransactional);
        }
        let (reply, answer) = oneshot::channel();
        let gone = || TransactionError::Fatal(Failure::Request("its task has ended".into()));
        self.verbs.send(verb(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> ProduceError {
    ProduceError::Fatal(Failure::Request("its task has ended".into()))
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
