//! What the transaction's coordinator is asked, and what follows from its answers.
//!
//! Every question is repeated until it has a final answer or the time is up. Once a question whose
//! answer was lost may have been heard, a later refusal proves nothing about it: then the outcome
//! is unknown, and said to be so. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use protocol::api::Request;
use protocol::api::producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use protocol::api::txn::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic, EndTxnRequest, EndTxnResponse, TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic, TxnOffsetCommitResponse,
};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{ProducerEpoch, ProducerId, TopicPartition};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout_at};

use super::CommitOutcome;
use super::error::{Failure, ProduceError, TransactionError};
use super::sequencer::Stamp;
use super::shell::Shared;
use super::transaction::{Heed, Transaction, heed};
use crate::error::RequestError;
use crate::group_offsets::{GroupMetadata, OffsetAndMetadata, by_topic};
use crate::net::connection::CallOptions;
use crate::net::pool::Purpose;
use crate::router::CoordinatorKind;
use crate::time::deadline_after;

/// 3: the newest version of AddPartitionsToTxn that clients use; later ones are for brokers.
const ADD_PARTITIONS_VERSION: i16 = 3;
/// 4: the newest versions of EndTxn and TxnOffsetCommit of the protocol's first version.
const VERSION_1: i16 = 4;

/// What the producer asks of its task.
pub(super) enum Verb {
    Init(oneshot::Sender<Result<(), TransactionError>>),
    SendOffsets {
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
        group: GroupMetadata,
        reply: oneshot::Sender<Result<(), TransactionError>>,
    },
    Commit(oneshot::Sender<Result<CommitOutcome, TransactionError>>),
    Abort(oneshot::Sender<Result<(), TransactionError>>),
}

/// Carries a verb out. Its caller may have gone; then only the state tells what came of it.
pub(super) async fn run(shared: &Shared, verb: Verb) {
    match verb {
        Verb::Init(reply) => drop(reply.send(init(shared).await)),
        Verb::SendOffsets { offsets, group, reply } => {
            drop(reply.send(send_offsets(shared, &offsets, &group).await));
        }
        Verb::Commit(reply) => drop(reply.send(commit(shared).await)),
        Verb::Abort(reply) => drop(reply.send(abort(shared).await)),
    }
    shared.progress.notify_waiters();
}

/// How asking ended.
struct Ended<T> {
    answer: Answer<T>,
    /// A question without answer may have been heard.
    is_in_doubt: bool,
}

enum Answer<T> {
    Done(T),
    Refused {
        heed: Heed,
        code: ErrorCode,
    },
    /// The time is up, or asking is impossible.
    Failed(Failure),
}

/// Asks the coordinator of `key` until there is a final answer.
async fn ask<R: Request + Send + 'static>(
    shared: &Shared,
    (kind, key): (CoordinatorKind, &str),
    version_max: i16,
    request: impl Fn() -> R,
    code: impl Fn(&R::Response) -> ErrorCode,
) -> Ended<R::Response> {
    let router = &shared.router;
    let deadline = deadline_after(shared.config.max_block);
    let (mut backoff, mut soon) = (router.backoff(), router.soon());
    let (mut is_in_doubt, mut last) = (false, None);
    loop {
        let mut wait = backoff.next_wait();
        let attempt = async {
            let connection = router.coordinator(kind, key, Purpose::Coordinator).await?;
            let options =
                CallOptions::within(shared.config.request_timeout).up_to_version(version_max);
            let request = request();
            Ok::<_, RequestError>(connection.call_with(options, move |_| request).await?)
        };
        match timeout_at(deadline, attempt).await {
            Ok(Ok(response)) => {
                let code = code(&response);
                let answer = match heed(code) {
                    Heed::Done => Some(Answer::Done(response)),
                    Heed::Again => None,
                    Heed::Soon => {
                        wait = soon.next_wait();
                        None
                    }
                    Heed::Elsewhere => {
                        router.forget_coordinator(kind, key);
                        None
                    }
                    heed @ (Heed::MustAbort
                    | Heed::GroupFenced
                    | Heed::Fenced
                    | Heed::Forgotten
                    | Heed::Fatal) => Some(Answer::Refused { heed, code }),
                };
                if let Some(answer) = answer {
                    return Ended { answer, is_in_doubt };
                }
                last = Some(Failure::Request(format!("{}: {code}", R::KEY).into()));
            }
            Ok(Err(error)) => {
                is_in_doubt |= matches!(&error, RequestError::Call(it) if it.is_in_doubt());
                let failure = Failure::from(&error);
                if !error.is_retriable() {
                    return Ended { answer: Answer::Failed(failure), is_in_doubt };
                }
                router.forget_coordinator(kind, key);
                last = Some(failure);
            }
            // The question may be on its way.
            Err(_) => {
                return Ended { answer: Answer::Failed(late(last, R::KEY)), is_in_doubt: true };
            }
        }
        if timeout_at(deadline, sleep(wait)).await.is_err() {
            return Ended { answer: Answer::Failed(late(last, R::KEY)), is_in_doubt };
        }
    }
}

fn late(last: Option<Failure>, api: ApiKey) -> Failure {
    last.unwrap_or_else(|| Failure::Request(format!("{api}: no answer in time").into()))
}

/// Reads or changes the transaction; the producer has one, or could not have sent a verb.
fn with<T>(shared: &Shared, change: impl FnOnce(&mut Transaction) -> T) -> T {
    let mut state = shared.lock();
    let transaction = state.core.transaction.as_mut();
    change(transaction.expect("only a transactional producer has verbs"))
}

fn id(shared: &Shared) -> Arc<str> {
    with(shared, |it| Arc::clone(&it.transactional_id))
}

fn stamp(shared: &Shared) -> Stamp {
    shared.lock().core.stamp()
}

/// The producer is done for, as `code` says.
fn fail_for_good(shared: &Shared, heed: Heed, api: ApiKey, code: ErrorCode) -> Failure {
    let failure = match heed {
        Heed::Fenced => with(shared, |it| it.fenced(code)),
        _ => Failure::Request(format!("{api}: {code}").into()),
    };
    shared.fail_for_good(failure.clone());
    failure
}

async fn init(shared: &Shared) -> Result<(), TransactionError> {
    with(shared, |it| it.init())?;
    let is_version_2 = is_version_2(shared).await.map_err(|error| {
        let failure = Failure::from(&error);
        TransactionError::Unknown { verb: "init_transactions", failure }
    })?;
    let stamp = init_producer_id(shared, Stamp::NONE).await?;
    // What may be left of a transaction in doubt belongs to an epoch that is over.
    let abandoned = shared.lock().core.abandon();
    shared.settle(abandoned);
    idle(shared).await;
    shared.lock().core.transaction_settled(Some(stamp));
    with(shared, |it| it.initialised(is_version_2));
    Ok(())
}

/// Whether the cluster has agreed on the second version of transactions. KIP-890.
async fn is_version_2(shared: &Shared) -> Result<bool, RequestError> {
    let id = id(shared);
    let attempt = || async {
        let kind = CoordinatorKind::Transaction;
        let connection = shared.router.coordinator(kind, &id, Purpose::Coordinator).await?;
        let negotiated = connection.negotiated(shared.config.request_timeout).await;
        if negotiated.is_err() {
            shared.router.forget_coordinator(kind, &id);
        }
        let negotiated = negotiated?;
        let speaks = |api, least| negotiated.version(api, i16::MAX).is_ok_and(|it| it >= least);
        Ok(negotiated.feature_level("transaction.version") >= 2
            && speaks(ApiKey::EndTxn, 5)
            && speaks(ApiKey::TxnOffsetCommit, 5)
            && speaks(ApiKey::Produce, 12))
    };
    shared.router.retry(shared.config.max_block, "find the coordinator", attempt).await
}

/// Gets a new epoch. `known` is `NONE`, or who this producer is: then nobody newer is fenced.
async fn init_producer_id(shared: &Shared, known: Stamp) -> Result<Stamp, TransactionError> {
    let id = id(shared);
    let timeout = shared.config.transaction_timeout;
    let request = || InitProducerIdRequest {
        transactional_id: Some(id.to_string()),
        transaction_timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        producer_id: known.producer_id.0,
        producer_epoch: known.producer_epoch.0,
        ..InitProducerIdRequest::default()
    };
    let code = |it: &InitProducerIdResponse| ErrorCode::from_wire(it.error_code);
    let whom = (CoordinatorKind::Transaction, &*id);
    match ask(shared, whom, i16::MAX, request, code).await.answer {
        Answer::Done(response) => Ok(Stamp {
            producer_id: ProducerId(response.producer_id),
            producer_epoch: ProducerEpoch(response.producer_epoch),
        }),
        Answer::Refused { heed, code } => {
            Err(TransactionError::Fatal(fail_for_good(shared, heed, ApiKey::InitProducerId, code)))
        }
        Answer::Failed(failure) => {
            Err(TransactionError::Unknown { verb: "init_transactions", failure })
        }
    }
}

/// Tells the coordinator of partitions before records go there. Those that it now knows of; after
/// a failure, none.
pub(super) async fn add_partitions(
    shared: &Shared,
    partitions: BTreeSet<TopicPartition>,
) -> BTreeSet<TopicPartition> {
    let id = id(shared);
    with(shared, Transaction::adding);
    let Stamp { producer_id, producer_epoch } = stamp(shared);
    let topic = |(name, of): (String, Vec<(i32, ())>)| AddPartitionsToTxnTopic {
        name,
        partitions: of.into_iter().map(|(index, ())| index).collect(),
    };
    let request = || AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: id.to_string(),
        v3_and_below_producer_id: producer_id.0,
        v3_and_below_producer_epoch: producer_epoch.0,
        v3_and_below_topics: by_topic(partitions.iter().map(|it| (it, ())))
            .into_iter()
            .map(topic)
            .collect(),
        ..AddPartitionsToTxnRequest::default()
    };
    let whom = (CoordinatorKind::Transaction, &*id);
    let ended = ask(shared, whom, ADD_PARTITIONS_VERSION, request, added_code).await;
    match doom(shared, ApiKey::AddPartitionsToTxn, ended.answer) {
        Ok(_) => partitions,
        Err(_) => BTreeSet::new(),
    }
}

/// The first error that is about a partition itself: others were merely not attempted.
fn added_code(response: &AddPartitionsToTxnResponse) -> ErrorCode {
    let results = response.results_by_topic_v3_and_below.iter();
    let codes: Vec<_> = results
        .flat_map(|it| &it.results_by_partition)
        .map(|it| ErrorCode::from_wire(it.partition_error_code))
        .filter(|it| !it.is_ok())
        .collect();
    let own = codes.iter().find(|&&it| it != ErrorCode::OperationNotAttempted);
    own.or(codes.first()).copied().unwrap_or(ErrorCode::None)
}

/// Dooms the transaction, or the producer, by an answer that is not what was hoped for.
fn doom<T>(shared: &Shared, api: ApiKey, answer: Answer<T>) -> Result<T, TransactionError> {
    let failure = match answer {
        Answer::Done(done) => return Ok(done),
        Answer::Refused { heed: heed @ (Heed::Fenced | Heed::Fatal), code } => {
            return Err(TransactionError::Fatal(fail_for_good(shared, heed, api, code)));
        }
        Answer::Refused { heed: Heed::Forgotten, code } => {
            with(shared, Transaction::need_new_epoch);
            Failure::Request(format!("{api}: {code}").into())
        }
        Answer::Refused { code, .. } => Failure::Request(format!("{api}: {code}").into()),
        Answer::Failed(failure) => failure,
    };
    with(shared, |it| it.fail(failure.clone()));
    shared.progress.notify_waiters();
    Err(TransactionError::MustAbort(failure))
}

async fn send_offsets(
    shared: &Shared,
    offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    group: &GroupMetadata,
) -> Result<(), TransactionError> {
    if offsets.is_empty() {
        // The coordinator refuses an empty commit; nothing is what it would change anyway.
        return Ok(());
    }
    let is_version_2 = with(shared, |it| it.send_offsets().map(|()| it.is_version_2))?;
    let id = id(shared);
    let Stamp { producer_id, producer_epoch } = stamp(shared);
    if !is_version_2 {
        let request = || AddOffsetsToTxnRequest {
            transactional_id: id.to_string(),
            producer_id: producer_id.0,
            producer_epoch: producer_epoch.0,
            group_id: group.group_id.clone(),
        };
        let whom = (CoordinatorKind::Transaction, &*id);
        let code =
            |it: &protocol::api::txn::AddOffsetsToTxnResponse| ErrorCode::from_wire(it.error_code);
        let ended = ask(shared, whom, VERSION_1, request, code).await;
        doom(shared, ApiKey::AddOffsetsToTxn, ended.answer)?;
    }
    let request = || TxnOffsetCommitRequest {
        transactional_id: id.to_string(),
        group_id: group.group_id.clone(),
        producer_id: producer_id.0,
        producer_epoch: producer_epoch.0,
        generation_id: group.generation.0,
        member_id: group.member_id.clone(),
        group_instance_id: group.instance_id.clone(),
        topics: offset_topics(offsets),
    };
    let version_max = if is_version_2 { i16::MAX } else { VERSION_1 };
    let whom = (CoordinatorKind::Group, group.group_id.as_str());
    let ended = ask(shared, whom, version_max, request, offsets_code).await;
    if let Answer::Refused { heed: Heed::GroupFenced, code } = ended.answer {
        let failure = Failure::GroupFenced { group_id: group.group_id.clone(), code };
        with(shared, |it| it.fail(failure.clone()));
        return Err(TransactionError::MustAbort(failure));
    }
    doom(shared, ApiKey::TxnOffsetCommit, ended.answer).map(drop)
}

fn offset_topics(
    offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
) -> Vec<TxnOffsetCommitRequestTopic> {
    let one = |(partition_index, it): (i32, &OffsetAndMetadata)| TxnOffsetCommitRequestPartition {
        partition_index,
        committed_offset: it.offset.0,
        committed_leader_epoch: it.leader_epoch.0,
        committed_metadata: Some(it.metadata.clone()),
    };
    let topics = by_topic(offsets).into_iter().map(|(name, of)| TxnOffsetCommitRequestTopic {
        name,
        partitions: of.into_iter().map(one).collect(),
    });
    topics.collect()
}

fn offsets_code(response: &TxnOffsetCommitResponse) -> ErrorCode {
    let partitions = response.topics.iter().flat_map(|it| &it.partitions);
    let mut codes = partitions.map(|it| ErrorCode::from_wire(it.error_code));
    codes.find(|it| !it.is_ok()).unwrap_or(ErrorCode::None)
}

async fn commit(shared: &Shared) -> Result<CommitOutcome, TransactionError> {
    if let Some(failure) = with(shared, Transaction::commit)? {
        return roll_back(shared).await.map(|()| CommitOutcome::Aborted(failure));
    }
    flush(shared).await;
    if let Err(failure) = with(shared, Transaction::flushed) {
        if with(shared, |it| it.fatal().is_some()) {
            return Err(TransactionError::Fatal(failure));
        }
        return roll_back(shared).await.map(|()| CommitOutcome::Aborted(failure));
    }
    if !with(shared, |it| it.has_begun_there()) {
        shared.lock().core.transaction_settled(None);
        return Ok(CommitOutcome::Committed);
    }
    let Ended { answer, is_in_doubt } = end(shared, true).await;
    match answer {
        Answer::Done(response) => {
            settled(shared, &response);
            Ok(CommitOutcome::Committed)
        }
        // Whether the first question, whose answer was lost, did commit cannot be told any more;
        // nor what a coordinator did that does not know its own error.
        Answer::Refused { heed: Heed::Fenced | Heed::Fatal, code }
            if is_in_doubt || code == ErrorCode::UnknownServerError =>
        {
            with(shared, Transaction::doubt);
            Ok(CommitOutcome::Unknown)
        }
        Answer::Refused { heed: heed @ (Heed::Fenced | Heed::Fatal), code } => {
            let failure = fail_for_good(shared, heed, ApiKey::EndTxn, code);
            Ok(CommitOutcome::Aborted(failure))
        }
        Answer::Refused { heed, code } => {
            if heed == Heed::Forgotten {
                with(shared, Transaction::need_new_epoch);
            }
            let failure = Failure::Request(format!("EndTxn: {code}").into());
            roll_back(shared).await.map(|()| CommitOutcome::Aborted(failure))
        }
        Answer::Failed(failure) => {
            tracing::warn!(%failure, "the outcome of a transaction is unknown");
            with(shared, Transaction::doubt);
            Ok(CommitOutcome::Unknown)
        }
    }
}

/// Waits until everything that was appended is written, or something failed.
async fn flush(shared: &Shared) {
    let horizon = {
        let core = &mut shared.lock().core;
        core.accumulator.seal_all();
        core.accumulator.horizon()
    };
    shared.work.notify_one();
    // What is not delivered in time fails by itself; then the transaction fails with it.
    let patience = shared.config.delivery_timeout + 2 * shared.config.request_timeout;
    let done = shared.until(patience, |core| {
        let transaction = core.transaction.as_ref();
        let has_failed = transaction.is_some_and(|it| it.failure().is_some());
        (has_failed || core.accumulator.is_done_before(horizon)).then_some(())
    });
    if done.await.is_none() {
        let blocked = ProduceError::Blocked { what: "flush before a commit", timeout: patience };
        with(shared, |it| it.fail(blocked.into()));
    }
}

async fn abort(shared: &Shared) -> Result<(), TransactionError> {
    with(shared, Transaction::abort)?;
    roll_back(shared).await
}

/// Aborts a transaction that is being ended.
async fn roll_back(shared: &Shared) -> Result<(), TransactionError> {
    let abandoned = shared.lock().core.abandon();
    shared.settle(abandoned);
    // A batch that arrived after the end would belong to the next transaction.
    idle(shared).await;
    if !with(shared, |it| it.has_begun_there()) {
        shared.lock().core.transaction_settled(None);
        return Ok(());
    }
    match end(shared, false).await.answer {
        Answer::Done(response) => settle_abort(shared, &response).await,
        // The coordinator knows of no such transaction, or has aborted it long ago.
        Answer::Refused { heed: Heed::Forgotten, .. } => {
            let stamp = init_producer_id(shared, Stamp::NONE).await?;
            shared.lock().core.transaction_settled(Some(stamp));
            Ok(())
        }
        Answer::Refused { heed, code } => {
            let failure = fail_for_good(shared, heed, ApiKey::EndTxn, code);
            Err(TransactionError::Fatal(failure))
        }
        Answer::Failed(failure) => {
            with(shared, Transaction::doubt);
            Err(TransactionError::Unknown { verb: "abort", failure })
        }
    }
}

async fn settle_abort(shared: &Shared, response: &EndTxnResponse) -> Result<(), TransactionError> {
    let needs_new_epoch = with(shared, |it| it.needs_new_epoch());
    if response.producer_id >= 0 || !needs_new_epoch {
        settled(shared, response);
        return Ok(());
    }
    match init_producer_id(shared, stamp(shared)).await {
        Ok(stamp) => {
            shared.lock().core.transaction_settled(Some(stamp));
            Ok(())
        }
        Err(error) => {
            // Aborted it is, but only `init_transactions` leads on from here.
            if !matches!(error, TransactionError::Fatal(_)) {
                with(shared, Transaction::doubt);
            }
            Err(error)
        }
    }
}

/// The transaction has ended; in the second version under a new epoch.
fn settled(shared: &Shared, response: &EndTxnResponse) {
    let stamp = (response.producer_id >= 0).then_some(Stamp {
        producer_id: ProducerId(response.producer_id),
        producer_epoch: ProducerEpoch(response.producer_epoch),
    });
    shared.lock().core.transaction_settled(stamp);
}

async fn end(shared: &Shared, is_commit: bool) -> Ended<EndTxnResponse> {
    let id = id(shared);
    let Stamp { producer_id, producer_epoch } = stamp(shared);
    let version_max = if with(shared, |it| it.is_version_2) { i16::MAX } else { VERSION_1 };
    let request = || EndTxnRequest {
        transactional_id: id.to_string(),
        producer_id: producer_id.0,
        producer_epoch: producer_epoch.0,
        committed: is_commit,
    };
    let code = |it: &EndTxnResponse| ErrorCode::from_wire(it.error_code);
    ask(shared, (CoordinatorKind::Transaction, &*id), version_max, request, code).await
}

/// Waits until nothing is in flight and no partition is being added: each question has its own
/// deadline, so this ends.
async fn idle(shared: &Shared) {
    let idle = shared.until(Duration::MAX, |core| {
        let is_adding = core.transaction.as_ref().is_some_and(Transaction::is_adding);
        (core.accumulator.is_idle() && !is_adding).then_some(())
    });
    idle.await.expect("a century has not passed");
}
