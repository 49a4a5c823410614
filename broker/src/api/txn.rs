//! AddPartitionsToTxn, AddOffsetsToTxn, EndTxn and WriteTxnMarkers. KIP-98, KIP-890. Shell.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use protocol::api::txn::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult, AddPartitionsToTxnTransaction,
    EndTxnRequest, EndTxnResponse, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{CoordinatorEpoch, ProducerEpoch, ProducerId, TopicPartition};

use super::producer_id::ProducerIds;
use crate::group::{self, Groups};
use crate::metadata::Image;
use crate::partition::EndTxnMarker;
use crate::txn::shell::MarkerSink;
use crate::txn::{Add, End, Producer, Reply, Request, Txns, Version};

/// The first AddPartitionsToTxn for brokers: several transactions, and verification.
const ADD_SEVERAL: i16 = 4;
/// The first EndTxn that raises the epoch. KIP-890.
const END_V2: i16 = 5;
/// The first versions of the transactional APIs that know `ProducerFenced`. KIP-588.
const KNOWS_FENCED: i16 = 2;
/// The first AddPartitionsToTxn that knows `TransactionAbortable`. KIP-890.
const ADD_KNOWS_ABORTABLE: i16 = 5;

/// How long a write waits for the transaction before it to complete: Kafka's
/// `add.partitions.to.txn.retry.backoff.max.ms`. Markers take about as long; who is sent away comes
/// back after its own back-off, which is longer.
const COMPLETION_WAIT: Duration = Duration::from_millis(100);

/// Before KIP-588, clients know a fenced producer by `InvalidProducerEpoch`.
pub(super) fn fenced_as(code: ErrorCode, knows_fenced: bool) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if !knows_fenced => ErrorCode::InvalidProducerEpoch,
        other => other,
    }
}

/// Clients that do not know that a transaction can be aborted and begun anew end their producer.
/// KIP-890.
pub(super) fn abortable_as(code: ErrorCode, knows_abortable: bool) -> ErrorCode {
    match code {
        ErrorCode::TransactionAbortable if !knows_abortable => ErrorCode::InvalidTxnState,
        other => other,
    }
}

/// Makes sure that `partitions` are in the producer's transaction before it writes to them: adds
/// them for version 2, which has no request for it; verifies them for version 1. Waits a little
/// for the producer's last transaction to complete. KIP-890.
///
/// # Errors
/// The code for the write; what is retriable says so itself.
pub(super) async fn join_transaction(
    txns: &Txns,
    transactional_id: &str,
    producer: Producer,
    version: Version,
    partitions: impl IntoIterator<Item = TopicPartition>,
) -> Result<(), ErrorCode> {
    let id: Arc<str> = transactional_id.into();
    let partitions = partitions.into_iter().collect();
    let add = Add { id: Arc::clone(&id), producer, partitions, version };
    let request = match version {
        Version::V1 => Request::Verify(add),
        Version::V2 => Request::Add(add),
    };
    self::add(txns, &id, request).await.map_err(|code| fenced_as(code, false))
}

/// Adds to a transaction of `id`, or verifies, as soon as the one before it is complete.
async fn add(txns: &Txns, id: &Arc<str>, request: Request) -> Result<(), ErrorCode> {
    let ask = || async {
        match txns.call(id, request.clone()).await.map_err(|error| error.code())? {
            Reply::Added(added) => added,
            Reply::Verified(codes) => codes.into_iter().try_for_each(ErrorCode::ok),
            other => unreachable!("an addition is answered as one: {other:?}"),
        }
    };
    let completion = || async {
        let completed = txns.call(id, Request::Completion(Arc::clone(id))).await;
        completed == Ok(Reply::Noted(Ok(())))
    };
    patiently(ask, completion).await
}

/// Asks, and again whenever a transaction that stood in the way was completed, but not for long.
/// `completion` says when it was; false: not to be waited for.
async fn patiently<A, C>(ask: impl Fn() -> A, completion: impl Fn() -> C) -> Result<(), ErrorCode>
where
    A: Future<Output = Result<(), ErrorCode>>,
    C: Future<Output = bool>,
{
    let mut deadline = pin!(tokio::time::sleep(COMPLETION_WAIT));
    loop {
        let joined = ask().await;
        let is_complete = joined == Err(ErrorCode::ConcurrentTransactions)
            && tokio::select! {
                biased;
                // First: what completes at once again and again must not outlast it.
                () = &mut deadline => false,
                is_complete = completion() => is_complete,
            };
        if !is_complete {
            return joined;
        }
    }
}

/// AddPartitionsToTxn.
pub(crate) async fn add_partitions(
    txns: &Txns,
    image: &Image,
    version: i16,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if version < ADD_SEVERAL {
        let alone = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        };
        let results = add_one(txns, image, alone, version).await;
        return AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below: results.topic_results,
            ..AddPartitionsToTxnResponse::default()
        };
    }
    let each = request.transactions.into_iter().map(|it| add_one(txns, image, it, version));
    AddPartitionsToTxnResponse {
        results_by_transaction: join_all(each).await,
        ..AddPartitionsToTxnResponse::default()
    }
}

async fn add_one(
    txns: &Txns,
    image: &Image,
    asked: AddPartitionsToTxnTransaction,
    version: i16,
) -> AddPartitionsToTxnResult {
    let partitions: BTreeSet<_> = asked
        .topics
        .iter()
        .flat_map(|it| it.partitions.iter().map(|index| (it.name.as_str(), *index)))
        .map(|(name, index)| TopicPartition::new(name, index))
        .collect();
    let exists = |at: &TopicPartition| image.partition(&at.topic, at.partition).is_some();
    if !partitions.iter().all(exists) {
        // All or none: where one is unknown, the others are not attempted.
        return results(asked, |at| {
            if exists(at) {
                ErrorCode::OperationNotAttempted
            } else {
                ErrorCode::UnknownTopicOrPartition
            }
        });
    }
    let id: Arc<str> = asked.transactional_id.as_str().into();
    let add = Add {
        id: Arc::clone(&id),
        producer: Producer {
            id: ProducerId(asked.producer_id),
            epoch: ProducerEpoch(asked.producer_epoch),
        },
        partitions: partitions.clone(),
        version: Version::V1,
    };
    if !asked.verify_only {
        let added = self::add(txns, &id, Request::Add(add)).await;
        let code = fenced_as(added.err().unwrap_or_default(), KNOWS_FENCED <= version);
        return results(asked, |_| code);
    }
    match txns.call(&id, Request::Verify(add)).await {
        Ok(Reply::Verified(codes)) => {
            // Both go through the same ordered set.
            let code = |at: &TopicPartition| {
                let place = partitions.iter().position(|it| it == at);
                let code = place.and_then(|place| codes.get(place)).copied().unwrap_or_default();
                abortable_as(code, ADD_KNOWS_ABORTABLE <= version)
            };
            results(asked, code)
        }
        Ok(other) => unreachable!("a verification is answered as one: {other:?}"),
        Err(error) => results(asked, |_| error.code()),
    }
}

fn results(
    asked: AddPartitionsToTxnTransaction,
    code: impl Fn(&TopicPartition) -> ErrorCode,
) -> AddPartitionsToTxnResult {
    let topic = |it: AddPartitionsToTxnTopic| {
        let name: Arc<str> = it.name.as_str().into();
        let one = |index| AddPartitionsToTxnPartitionResult {
            partition_index: index,
            partition_error_code: code(&TopicPartition::new(Arc::clone(&name), index)).to_wire(),
        };
        AddPartitionsToTxnTopicResult {
            results_by_partition: it.partitions.into_iter().map(one).collect(),
            name: it.name,
        }
    };
    AddPartitionsToTxnResult {
        transactional_id: asked.transactional_id,
        topic_results: asked.topics.into_iter().map(topic).collect(),
    }
}

/// AddOffsetsToTxn: adds the partition that holds the group's offsets.
pub(crate) async fn add_offsets(
    txns: &Txns,
    groups: &Groups,
    version: i16,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let answer = |code: ErrorCode| {
        let error_code = fenced_as(code, KNOWS_FENCED <= version).to_wire();
        AddOffsetsToTxnResponse { throttle_time_ms: 0, error_code }
    };
    let index = match groups.partition_of(&request.group_id) {
        Ok(index) => index,
        Err(error) => return answer(error.code()),
    };
    let id: Arc<str> = request.transactional_id.into();
    let add = Add {
        id: Arc::clone(&id),
        producer: Producer {
            id: ProducerId(request.producer_id),
            epoch: ProducerEpoch(request.producer_epoch),
        },
        partitions: [TopicPartition { topic: group::TOPIC.into(), partition: index }].into(),
        version: Version::V1,
    };
    answer(self::add(txns, &id, Request::Add(add)).await.err().unwrap_or_default())
}

/// EndTxn. Answered once the decision is committed; markers follow.
pub(crate) async fn end(
    txns: &Txns,
    ids: &ProducerIds,
    version: i16,
    request: EndTxnRequest,
) -> EndTxnResponse {
    let refuse = |code: ErrorCode| EndTxnResponse {
        error_code: fenced_as(code, KNOWS_FENCED <= version).to_wire(),
        ..EndTxnResponse::default()
    };
    let fresh = match ids.next().await {
        Ok(fresh) => fresh,
        Err(code) => return refuse(code),
    };
    let id: Arc<str> = request.transactional_id.into();
    let end = End {
        id: Arc::clone(&id),
        producer: Producer {
            id: ProducerId(request.producer_id),
            epoch: ProducerEpoch(request.producer_epoch),
        },
        commit: request.committed,
        version: if END_V2 <= version { Version::V2 } else { Version::V1 },
        fresh,
    };
    match txns.call(&id, Request::End(end)).await {
        Ok(Reply::Ended(Ok(producer))) => EndTxnResponse {
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0,
            ..EndTxnResponse::default()
        },
        Ok(Reply::Ended(Err(code))) => refuse(code),
        Ok(other) => unreachable!("an end is answered as one: {other:?}"),
        Err(error) => refuse(error.code()),
    }
}

/// WriteTxnMarkers, from a coordinator. Answered once the markers are committed.
pub(crate) async fn write_markers(
    sink: &MarkerSink,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let mut markers = Vec::new();
    for asked in request.markers {
        let marker = EndTxnMarker {
            producer_id: ProducerId(asked.producer_id),
            producer_epoch: ProducerEpoch(asked.producer_epoch),
            coordinator_epoch: CoordinatorEpoch(asked.coordinator_epoch),
            commit: asked.transaction_result,
            transaction_version: asked.transaction_version,
        };
        let mut topics = Vec::new();
        for topic in asked.topics {
            let name: Arc<str> = topic.name.as_str().into();
            let one = |index: i32| {
                let written = sink(TopicPartition::new(Arc::clone(&name), index), marker);
                async move {
                    let code = written.await.err().unwrap_or_default();
                    let error_code = code.to_wire();
                    WritableTxnMarkerPartitionResult { partition_index: index, error_code }
                }
            };
            let partitions = join_all(topic.partition_indexes.into_iter().map(one)).await;
            topics.push(WritableTxnMarkerTopicResult { name: topic.name, partitions });
        }
        markers.push(WritableTxnMarkerResult { producer_id: asked.producer_id, topics });
    }
    WriteTxnMarkersResponse { markers }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What is told in the end, after how long, and how often was asked. `completes_in`: how long
    /// each transaction in the way takes; `None`: it cannot be waited for.
    async fn check(
        in_the_way: u32,
        completes_in: Option<Duration>,
        want: (Result<(), ErrorCode>, Duration, u32),
    ) {
        let clock = client::time::virtual_clock(protocol::time::Timestamp(0));
        let asked = Cell::new(0);
        let ask = || async {
            asked.set(asked.get() + 1);
            if asked.get() <= in_the_way { Err(ErrorCode::ConcurrentTransactions) } else { Ok(()) }
        };
        let completion = || async {
            if let Some(time) = completes_in {
                tokio::time::sleep(time).await;
            }
            completes_in.is_some()
        };
        let told = patiently(ask, completion).await;
        assert_eq!((told, clock.now().monotonic, asked.get()), want);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_before_the_last_transaction_is_complete_waits_for_that_and_no_longer() {
        const MS: Duration = Duration::from_millis(1);
        let concurrent = Err(ErrorCode::ConcurrentTransactions);
        check(0, Some(MS), (Ok(()), Duration::ZERO, 1)).await;
        check(1, Some(7 * MS), (Ok(()), 7 * MS, 2)).await;
        check(2, Some(7 * MS), (Ok(()), 14 * MS, 3)).await;
        check(1, Some(101 * MS), (concurrent, COMPLETION_WAIT, 1)).await;
        check(1, None, (concurrent, Duration::ZERO, 1)).await;
        // Where both come at once the time is over.
        check(1, Some(COMPLETION_WAIT), (concurrent, COMPLETION_WAIT, 1)).await;
    }
}
