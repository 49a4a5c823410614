//! Requests about producers and transactions: the transactional id is permitted or not, and what is
//! written in it. Pure.

use protocol::api::producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use protocol::api::transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, DescribedTransaction,
    ListTransactionsRequest, ListTransactionsResponse,
};
use protocol::api::txn::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddPartitionsToTxnTopicResult,
    EndTxnRequest, EndTxnResponse, TxnOffsetCommitRequest, TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use protocol::error_code::ErrorCode;

use super::{Gate, Verdict, if_permitted, refuse, serve, serve_and_amend, split};
use crate::metadata::AclOperation::{Alter, ClusterAction, Describe, IdempotentWrite, Read, Write};

const DENIED: ErrorCode = ErrorCode::TransactionalIdAuthorizationFailed;
const TOPIC_DENIED: ErrorCode = ErrorCode::TopicAuthorizationFailed;
const CLUSTER_DENIED: ErrorCode = ErrorCode::ClusterAuthorizationFailed;

/// The first version of AddPartitionsToTxn that brokers send to each other. KIP-890.
pub(super) const ADDED_BY_BROKERS: i16 = 4;

/// Who may write to some topic may do so as an idempotent producer. KIP-679.
pub(super) fn init_producer_id(gate: &Gate, body: InitProducerIdRequest) -> Verdict {
    let code = match &body.transactional_id {
        Some(id) if !gate.txn(Write, id) => DENIED,
        None if !gate.some_topic(Write) && !gate.cluster(IdempotentWrite) => CLUSTER_DENIED,
        Some(_) | None => return serve(body),
    };
    let error_code = code.to_wire();
    refuse(InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() })
}

/// One topic that is denied keeps all of the request from being added.
pub(super) fn add_partitions(
    gate: &Gate,
    version: i16,
    body: AddPartitionsToTxnRequest,
) -> Verdict {
    if version >= ADDED_BY_BROKERS {
        return if_permitted(gate.cluster(ClusterAction), body, not_added);
    }
    let is_open = gate.txn(Write, &body.v3_and_below_transactional_id);
    let may_write = |name: &str| gate.topic(Write, name);
    if is_open && body.v3_and_below_topics.iter().all(|it| may_write(&it.name)) {
        return serve(body);
    }
    let code = |name: &str| {
        if !is_open {
            DENIED
        } else if may_write(name) {
            ErrorCode::OperationNotAttempted
        } else {
            TOPIC_DENIED
        }
    };
    let results = body.v3_and_below_topics.iter().map(|it| AddPartitionsToTxnTopicResult {
        name: it.name.clone(),
        results_by_partition: it
            .partitions
            .iter()
            .map(|&partition_index| AddPartitionsToTxnPartitionResult {
                partition_index,
                partition_error_code: code(&it.name).to_wire(),
            })
            .collect(),
    });
    refuse(AddPartitionsToTxnResponse {
        results_by_topic_v3_and_below: results.collect(),
        ..AddPartitionsToTxnResponse::default()
    })
}

pub(super) fn add_offsets(gate: &Gate, body: AddOffsetsToTxnRequest) -> Verdict {
    let code = if !gate.txn(Write, &body.transactional_id) {
        DENIED
    } else if !gate.group(Read, &body.group_id) {
        ErrorCode::GroupAuthorizationFailed
    } else {
        return serve(body);
    };
    refuse(AddOffsetsToTxnResponse { error_code: code.to_wire(), ..Default::default() })
}

pub(super) fn end(gate: &Gate, body: EndTxnRequest) -> Verdict {
    if_permitted(gate.txn(Write, &body.transactional_id), body, || EndTxnResponse {
        error_code: DENIED.to_wire(),
        ..EndTxnResponse::default()
    })
}

fn uncommitted(
    topics: Vec<TxnOffsetCommitRequestTopic>,
    code: ErrorCode,
) -> Vec<TxnOffsetCommitResponseTopic> {
    let topics = topics.into_iter().map(|it| TxnOffsetCommitResponseTopic {
        name: it.name,
        partitions: it
            .partitions
            .iter()
            .map(|partition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.to_wire(),
            })
            .collect(),
    });
    topics.collect()
}

pub(super) fn offset_commit(gate: &Gate, mut body: TxnOffsetCommitRequest) -> Verdict {
    let code = if !gate.txn(Write, &body.transactional_id) {
        Some(DENIED)
    } else if !gate.group(Read, &body.group_id) {
        Some(ErrorCode::GroupAuthorizationFailed)
    } else {
        None
    };
    if let Some(code) = code {
        let topics = uncommitted(body.topics, code);
        return refuse(TxnOffsetCommitResponse { topics, ..Default::default() });
    }
    let (open, denied) = split(body.topics, |it| gate.topic(Read, &it.name));
    let refused = uncommitted(denied, TOPIC_DENIED);
    if open.is_empty() && !refused.is_empty() {
        return refuse(TxnOffsetCommitResponse { topics: refused, ..Default::default() });
    }
    body.topics = open;
    serve_and_amend!(TxnOffsetCommit, body, move |answer: &mut TxnOffsetCommitResponse| {
        answer.topics.extend(refused);
    })
}

/// Brokers write markers, and operators who end a hanging transaction. KIP-664.
pub(super) fn write_markers(gate: &Gate, body: WriteTxnMarkersRequest) -> Verdict {
    let is_permitted = gate.quiet().cluster(Alter) || gate.cluster(ClusterAction);
    if is_permitted { serve(body) } else { refuse(unwritten(body)) }
}

/// The answer to a broker that is none, or may not be one.
pub(super) fn not_added() -> AddPartitionsToTxnResponse {
    AddPartitionsToTxnResponse {
        error_code: CLUSTER_DENIED.to_wire(),
        ..AddPartitionsToTxnResponse::default()
    }
}

/// The answer to markers that are not written.
pub(super) fn unwritten(body: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let markers = body.markers.into_iter().map(|marker| WritableTxnMarkerResult {
        producer_id: marker.producer_id,
        topics: marker
            .topics
            .into_iter()
            .map(|topic| WritableTxnMarkerTopicResult {
                name: topic.name,
                partitions: topic
                    .partition_indexes
                    .iter()
                    .map(|&partition_index| WritableTxnMarkerPartitionResult {
                        partition_index,
                        error_code: CLUSTER_DENIED.to_wire(),
                    })
                    .collect(),
            })
            .collect(),
    });
    WriteTxnMarkersResponse { markers: markers.collect() }
}

pub(super) fn describe(gate: &Gate, mut body: DescribeTransactionsRequest) -> Verdict {
    let (open, denied) = split(body.transactional_ids, |it| gate.txn(Describe, it));
    body.transactional_ids = open;
    let refused = denied.into_iter().map(|transactional_id| DescribedTransaction {
        error_code: DENIED.to_wire(),
        transactional_id,
        ..DescribedTransaction::default()
    });
    let refused: Vec<_> = refused.collect();
    let gate = gate.quiet();
    serve_and_amend!(
        DescribeTransactions,
        body,
        move |answer: &mut DescribeTransactionsResponse| {
            for described in &mut answer.transaction_states {
                described.topics.retain(|it| gate.topic(Describe, &it.topic));
            }
            answer.transaction_states.extend(refused);
        }
    )
}

pub(super) fn list(gate: &Gate, body: ListTransactionsRequest) -> Verdict {
    let gate = gate.quiet();
    serve_and_amend!(ListTransactions, body, move |answer: &mut ListTransactionsResponse| {
        answer.transaction_states.retain(|it| gate.txn(Describe, &it.transactional_id));
    })
}
