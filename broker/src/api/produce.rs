//! Produce: validate batches, hand them to their partitions in order, gather what became of them.
//!
//! The first half runs before the next request of the connection is looked at, so batches enter
//! their partitions' mailboxes in order of arrival. Each partition has its own result. With
//! `acks=0` nothing is answered; what goes wrong ends the connection, as there is no other way to
//! tell. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use protocol::api::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use protocol::record::{DECOMPRESSED_BYTES_MAX, InvalidBatch, RecordBatch};
use tracing::debug;

use super::Api;
use super::admit::{Allowance, Refusal, admit};
use super::lanes::Owned;
use super::serving::{Answer, Context, Serving};
use super::txn::{abortable_as, join_transaction};
use crate::limits::{PRODUCE_BATCHES_MAX, UNFOLDED_BYTES_INLINE};
use crate::metadata::is_internal;
use crate::partition::{
    Acks, Append, AppendError, Appended, LookupError, Origin, PartitionHandle, ReadError, Standing,
    attend_gathered,
};
use crate::txn::{Producer, Version};

/// The first version that names topics by id. KIP-516.
const BY_TOPIC_ID: i16 = 13;
/// The first version that tells who leads instead. KIP-951.
const TELLS_LEADER: i16 = 10;
/// The first version whose writes join a transaction by themselves. KIP-890.
const IMPLIES_JOIN: i16 = 12;
/// The first version that knows `TransactionAbortable`. KIP-890.
const KNOWS_ABORTABLE: i16 = 11;

/// Why a partition's batches were refused.
#[derive(Debug, thiserror::Error)]
enum ProduceError {
    #[error("acks {0} is none of -1, 0 and 1")]
    Acks(i16),
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("topic {0} is internal")]
    Internal(String),
    #[error(transparent)]
    Batch(#[from] InvalidBatch),
    #[error("no records")]
    Empty,
    #[error("more than one batch")]
    ManyBatches,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("a transactional batch without a transactional id")]
    NoTransactionalId,
    #[error(transparent)]
    Standing(ReadError),
    #[error("the transaction's coordinator refuses: {0}")]
    Transaction(ErrorCode),
    #[error("not committed within {0:?}; the records are in the log")]
    TimedOut(Duration),
}

impl ProduceError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Acks(_) => ErrorCode::InvalidRequiredAcks,
            Self::Lookup(error) => error.code(),
            Self::Internal(_) => ErrorCode::InvalidTopicException,
            Self::Batch(error) => error.code(),
            Self::Empty | Self::ManyBatches => ErrorCode::InvalidRecord,
            Self::Refused(error) => error.code(),
            Self::Append(error) => error.code(),
            Self::NoTransactionalId => ErrorCode::InvalidRequest,
            Self::Standing(error) => error.code(),
            // Coordinators that move are the partition's business, not the producer's: retry.
            Self::Transaction(
                ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable,
            ) => ErrorCode::NotEnoughReplicas,
            Self::Transaction(code) => *code,
            Self::TimedOut(_) => ErrorCode::RequestTimedOut,
        }
    }

    /// Which records of the batch are at fault, where that is known. KIP-467.
    ///
    /// Only the first says why: the answer stays smaller than the batch.
    fn record_errors(&self) -> Vec<BatchIndexAndErrorMessage> {
        let Self::Refused(refusal) = self else { return Vec::new() };
        let told = |(number, &batch_index)| BatchIndexAndErrorMessage {
            batch_index,
            batch_index_error_message: (number == 0).then(|| self.to_string()),
        };
        refusal.records().iter().enumerate().map(told).collect()
    }
}

type Outcome = Result<Appended, ProduceError>;

/// One partition's part: refused already, or on its way.
enum Part {
    Refused(ProduceError),
    /// Found good; not yet handed to its partition.
    Checked(PartitionHandle, Append),
    Appending(Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + Send>>),
}

struct TopicParts {
    name: String,
    topic_id: TopicId,
    parts: Vec<(i32, Part)>,
}

pub(super) fn produce(api: &Api, context: &Context, request: ProduceRequest) -> Serving {
    let ProduceRequest { transactional_id, acks, timeout_ms, topic_data } = request;
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let batches = topic_data.iter().flat_map(|topic| &topic.partition_data);
    if batches.clone().count() > PRODUCE_BATCHES_MAX {
        return Serving::ready(Answer::Close("a request with more than 65,536 batches"));
    }
    let sent_bytes = batches.filter_map(|it| it.records.as_ref()).map(Bytes::len).sum();
    let mut begin = Begin { api, context, acks, allowance: Allowance::of(sent_bytes) };
    let mut topics: Vec<_> = topic_data.into_iter().map(|topic| begin.topic(topic)).collect();
    let api = api.clone();
    let context = context.clone();
    if topics.iter().any(TopicParts::is_transactional) {
        let lane = api.lanes().of(transactional_id.as_deref().unwrap_or_default());
        return Serving::later(async move {
            // Batches of one producer enter their partitions in order of arrival, also while the
            // first of them waits for the coordinator.
            let mut turn = lane.lock().await;
            let id = transactional_id.as_deref();
            join_transactions(&api, &context, (id, &mut turn), &mut topics).await;
            post_all(&mut topics);
            drop(turn);
            if acks == 0 {
                return unanswered(topics).await;
            }
            answered(&api, context.version, timeout, topics).await.into()
        });
    }
    post_all(&mut topics);
    if acks == 0 {
        return Serving::later(unanswered(topics));
    }
    Serving::later(async move { answered(&api, context.version, timeout, topics).await })
}

impl TopicParts {
    fn is_transactional(&self) -> bool {
        let is = |part: &Part| match part {
            Part::Checked(_, append) => append.batches[0].header().attributes.is_transactional(),
            Part::Refused(_) | Part::Appending(_) => false,
        };
        self.parts.iter().any(|(_, part)| is(part))
    }
}

/// What all partitions of a request have in common.
struct Begin<'a> {
    api: &'a Api,
    context: &'a Context,
    acks: i16,
    /// What its batches may still unfold into.
    allowance: Allowance,
}

impl Begin<'_> {
    fn topic(&mut self, topic: TopicProduceData) -> TopicParts {
        let TopicProduceData { name, topic_id, partition_data } = topic;
        let parts = partition_data.into_iter().map(|data| {
            let index = PartitionIndex(data.index);
            let handle = if self.context.version >= BY_TOPIC_ID {
                self.api.partitions().get_by_id(topic_id, index)
            } else {
                self.api.partitions().get(&name, index)
            };
            (data.index, self.partition(handle, data.records))
        });
        let parts = parts.collect();
        TopicParts { name, topic_id, parts }
    }

    fn partition(
        &mut self,
        handle: Result<PartitionHandle, LookupError>,
        records: Option<Bytes>,
    ) -> Part {
        match self.append(handle, records) {
            Ok(appending) => appending,
            Err(error) => {
                let Context { client_id, session, .. } = self.context;
                debug!(client_id = client_id.as_deref(), peer = %session.peer, %error, "batch refused");
                Part::Refused(error)
            }
        }
    }

    fn append(
        &mut self,
        handle: Result<PartitionHandle, LookupError>,
        records: Option<Bytes>,
    ) -> Result<Part, ProduceError> {
        let acks = match self.acks {
            0 => Acks::Accepted,
            1 => Acks::Written,
            -1 => Acks::Committed,
            other => return Err(ProduceError::Acks(other)),
        };
        let handle = handle?;
        let topic = &handle.partition().topic;
        if is_internal(topic) {
            return Err(ProduceError::Internal(topic.to_string()));
        }
        let batch = only_batch(records)?;
        let (record_count, sent_bytes) = (batch.header().record_count, batch.bytes().len());
        let Context { version, now, .. } = self.context;
        let (config, allowance) = (handle.config(), &mut self.allowance);
        let mut admit = |batch, unfolded_max| {
            admit(*version, now.wall, &config, batch, (&mut *allowance, unfolded_max))
        };
        let batch = match admit(batch.clone(), UNFOLDED_BYTES_INLINE) {
            Err(Refusal::Large) => {
                attend_gathered();
                let admitted = self.api.aside().run(|| admit(batch, DECOMPRESSED_BYTES_MAX));
                admitted.unwrap_or(Err(Refusal::Busy))
            }
            admitted => admitted,
        }?;
        self.api.metrics().produced(record_count, sent_bytes);
        let append =
            Append { batches: vec![batch], origin: Origin::Client, acks, leader_epoch: None };
        Ok(Part::Checked(handle, append))
    }
}

impl Part {
    /// Hands it to its partition.
    fn post(self) -> Self {
        match self {
            Self::Checked(handle, append) => Self::Appending(Box::pin(handle.append(append))),
            Self::Refused(_) | Self::Appending(_) => self,
        }
    }
}

fn post_all(topics: &mut [TopicParts]) {
    for (_, part) in topics.iter_mut().flat_map(|topic| &mut topic.parts) {
        let taken = std::mem::replace(part, Part::Refused(ProduceError::Empty));
        *part = taken.post();
    }
}

/// The batches of a transactional producer: before the first one of a transaction is written to a
/// partition, the coordinator must know that the partition is part of it, or it would never end
/// there. KIP-890.
///
/// Also where it is open: the coordinator is asked until it is known that the producer id is `owned` by
/// the transactional id. Otherwise whoever owns some transactional id could write as another's producer.
async fn join_transactions(
    api: &Api,
    context: &Context,
    (transactional_id, owned): (Option<&str>, &mut Owned),
    topics: &mut [TopicParts],
) {
    let version = if IMPLIES_JOIN <= context.version { Version::V2 } else { Version::V1 };
    let mut owed: BTreeMap<(ProducerId, ProducerEpoch), BTreeSet<TopicPartition>> = BTreeMap::new();
    for (_, part) in topics.iter_mut().flat_map(|topic| &mut topic.parts) {
        let Part::Checked(handle, append) = part else { continue };
        let header = *append.batches[0].header();
        if !header.attributes.is_transactional() {
            continue;
        }
        if transactional_id.is_none() {
            *part = Part::Refused(ProduceError::NoTransactionalId);
            continue;
        }
        // One that is open here was joined before. It must be of the same epoch: otherwise its
        // marker is still on the way, and what the next transaction writes would be ended by it.
        let standing = handle.open_transaction(header.producer_id, header.producer_epoch).await;
        let Standing { open_from, guard } = match standing {
            Ok(standing) => standing,
            Err(error) => {
                *part = Part::Refused(ProduceError::Standing(error));
                continue;
            }
        };
        // In version 2 a marker that comes meanwhile is that of the transaction before, as one of
        // this transaction would raise the epoch above that of the batch. In version 1 it may be of
        // this one, also where it is open now.
        if version == Version::V1 {
            append.origin = Origin::Verified(guard);
        }
        if open_from.is_none() || !owned.is(header.producer_id) {
            let producer = (header.producer_id, header.producer_epoch);
            owed.entry(producer).or_default().insert(handle.partition().clone());
        }
    }
    let Some(id) = transactional_id else { return };
    if version == Version::V1 && !api.0.config.transaction_partition_verification_enable {
        return;
    }
    for ((producer_id, epoch), partitions) in owed {
        let producer = Producer { id: producer_id, epoch };
        let txns = &api.coordination().txns;
        let joined = join_transaction(txns, id, producer, version, partitions.clone()).await;
        let Err(code) = joined else {
            owned.learn(producer_id);
            continue;
        };
        let code = match abortable_as(code, KNOWS_ABORTABLE <= context.version) {
            // Clients of version 1 may not come again for it.
            ErrorCode::ConcurrentTransactions if version == Version::V1 => {
                ErrorCode::NotEnoughReplicas
            }
            code => code,
        };
        for (_, part) in topics.iter_mut().flat_map(|topic| &mut topic.parts) {
            let is_refused = matches!(part, Part::Checked(handle, append)
                if partitions.contains(handle.partition())
                    && append.batches[0].header().producer_id == producer_id);
            if is_refused {
                *part = Part::Refused(ProduceError::Transaction(code));
            }
        }
    }
}

/// The one batch that a partition's records must be.
fn only_batch(records: Option<Bytes>) -> Result<RecordBatch, ProduceError> {
    let mut records = records.filter(|records| !records.is_empty()).ok_or(ProduceError::Empty)?;
    match RecordBatch::split_first(&mut records).map_err(InvalidBatch::Batch)? {
        Some(batch) if records.is_empty() => Ok(batch),
        Some(_) => Err(ProduceError::ManyBatches),
        // A part of a batch: let the parser say what is missing.
        None => Ok(RecordBatch::parse(records).map_err(InvalidBatch::Batch)?),
    }
}

async fn outcome(part: Part) -> Outcome {
    match part {
        Part::Refused(error) => Err(error),
        Part::Checked(handle, append) => Ok(handle.append(append).await?),
        Part::Appending(appending) => Ok(appending.await?),
    }
}

async fn unanswered(topics: Vec<TopicParts>) -> Answer {
    for (_, part) in topics.into_iter().flat_map(|topic| topic.parts) {
        if outcome(part).await.is_err() {
            return Answer::Close("a batch that wants no acknowledgement was refused");
        }
    }
    Answer::Nothing
}

async fn answered(
    api: &Api,
    version: i16,
    timeout: Duration,
    topics: Vec<TopicParts>,
) -> ProduceResponse {
    // One timer for all partitions, begun only if one of them has to be waited for.
    let mut deadline = pin!(tokio::time::sleep(timeout));
    let mut responses = Vec::new();
    for TopicParts { name, topic_id, parts } in topics {
        let mut partition_responses = Vec::new();
        for (index, part) in parts {
            let outcome = tokio::select! {
                biased;
                outcome = outcome(part) => outcome,
                () = &mut deadline => Err(ProduceError::TimedOut(timeout)),
            };
            let mut response = partition_response(index, outcome);
            let is_stale = response.error_code == ErrorCode::NotLeaderOrFollower.to_wire();
            if is_stale && version >= TELLS_LEADER {
                let index = PartitionIndex(index);
                let leader = if version >= BY_TOPIC_ID {
                    api.leader_by_id(topic_id, index)
                } else {
                    api.leader(&name, index)
                };
                response.current_leader = leader.map_or_else(Default::default, |(id, epoch)| {
                    LeaderIdAndEpoch { leader_id: id.0, leader_epoch: epoch.0 }
                });
            }
            partition_responses.push(response);
        }
        responses.push(TopicProduceResponse { name, topic_id, partition_responses });
    }
    ProduceResponse { responses, ..Default::default() }
}

fn partition_response(index: i32, outcome: Outcome) -> PartitionProduceResponse {
    match outcome {
        Ok(appended) => PartitionProduceResponse {
            index,
            base_offset: appended.base_offset.0,
            log_append_time_ms: appended.log_append_time.0,
            log_start_offset: appended.log_start.0,
            ..Default::default()
        },
        Err(error) => PartitionProduceResponse {
            index,
            error_code: error.code().to_wire(),
            base_offset: -1,
            record_errors: error.record_errors(),
            error_message: Some(error.to_string()),
            ..Default::default()
        },
    }
}
