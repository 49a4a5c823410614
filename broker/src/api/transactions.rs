//! DescribeProducers, DescribeTransactions and ListTransactions: finding transactions that hang.
//! KIP-664, KIP-994, KIP-1152. Shell.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::transactions::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeProducersResponsePartition,
    DescribeProducersResponseTopic, DescribeTransactionsRequest, DescribeTransactionsResponse,
    DescribedTransaction, DescribedTransactionTopic, ListTransactionsRequest,
    ListTransactionsResponse, ListedTransaction, ProducerState,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{Offset, PartitionIndex, ProducerId};
use regex::{Regex, RegexBuilder};

use super::Api;
use crate::controller::check_name;
use crate::limits::PATTERN_BYTES_MAX;
use crate::partition::ActiveProducer;
use crate::txn::state::{Status, Txn};
use crate::txn::{Filter, Reply, Request, Txns};

/// DescribeProducers: who writes to the partitions that this broker leads.
pub(super) async fn describe_producers(
    api: Api,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut topics = Vec::new();
    for asked in request.topics {
        let mut partitions = Vec::new();
        for index in asked.partition_indexes {
            let found = producers_of(&api, &asked.name, PartitionIndex(index)).await;
            let refused = found.as_ref().err().copied();
            partitions.push(DescribeProducersResponsePartition {
                partition_index: index,
                error_code: refused.unwrap_or_default().to_wire(),
                error_message: refused.map(|code| code.meaning().to_owned()),
                active_producers: found.unwrap_or_default().into_iter().map(state).collect(),
            });
        }
        topics.push(DescribeProducersResponseTopic { name: asked.name, partitions });
    }
    DescribeProducersResponse { throttle_time_ms: 0, topics }
}

async fn producers_of(
    api: &Api,
    topic: &str,
    index: PartitionIndex,
) -> Result<Vec<ActiveProducer>, ErrorCode> {
    check_name(topic).map_err(|error| error.code())?;
    let handle = api.partitions().get(topic, index).map_err(|error| error.code())?;
    handle.producers().await.map_err(|error| error.code())
}

fn state(producer: ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.id.0,
        producer_epoch: i32::from(producer.epoch.0),
        last_sequence: producer.last_sequence.0,
        last_timestamp: producer.last_timestamp.0,
        coordinator_epoch: producer.coordinator_epoch.0,
        current_txn_start_offset: producer.open_from.unwrap_or(Offset::NONE).0,
    }
}

/// DescribeTransactions: what the coordinators here know of transactional ids.
pub(super) async fn describe(
    txns: &Txns,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let mut states = Vec::new();
    for id in request.transactional_ids {
        let found = match txns.call(&id, Request::Describe(id.as_str().into())).await {
            Ok(Reply::Described(found)) => found,
            Ok(other) => unreachable!("a description is answered as one: {other:?}"),
            Err(error) => Err(error.code()),
        };
        states.push(match found {
            Ok(txn) => described(id, &txn),
            Err(code) => DescribedTransaction {
                error_code: code.to_wire(),
                transactional_id: id,
                ..DescribedTransaction::default()
            },
        });
    }
    DescribeTransactionsResponse { throttle_time_ms: 0, transaction_states: states }
}

fn described(id: String, txn: &Txn) -> DescribedTransaction {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for at in &txn.partitions {
        topics.entry(&at.topic).or_default().push(at.partition.0);
    }
    let topic = |(topic, partitions): (&Arc<str>, _)| DescribedTransactionTopic {
        topic: topic.to_string(),
        partitions,
    };
    DescribedTransaction {
        error_code: ErrorCode::None.to_wire(),
        transactional_id: id,
        transaction_state: txn.status.name().to_owned(),
        transaction_timeout_ms: i32::try_from(txn.timeout.as_millis()).unwrap_or(i32::MAX),
        transaction_start_time_ms: txn.started.0,
        producer_id: txn.producer.id.0,
        producer_epoch: txn.producer.epoch.0,
        topics: topics.into_iter().map(topic).collect(),
    }
}

/// States of Kafka's in which no transaction is ever found here.
const NEVER_LISTED: [&str; 2] = ["Dead", "PrepareEpochFence"];

/// ListTransactions: the transactional ids of the coordinators here, by their ids. While one of
/// them loads, the caller is to come again: a list that lacks some would hide what hangs.
pub(super) async fn list(
    txns: &Txns,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let refuse = |code: ErrorCode| ListTransactionsResponse {
        error_code: code.to_wire(),
        ..ListTransactionsResponse::default()
    };
    let pattern = match pattern(request.transactional_id_pattern.as_deref()) {
        Ok(pattern) => pattern,
        Err(code) => return refuse(code),
    };
    let named = request.state_filters.iter().map(|name| (name, Status::from_name(name)));
    let (known, unknown): (Vec<_>, Vec<_>) = named.partition(|(_, status)| status.is_some());
    let has_states = !request.state_filters.is_empty();
    let filter = Filter {
        states: has_states.then(|| known.into_iter().filter_map(|(_, it)| it).collect()),
        producer_ids: request.producer_id_filters.iter().copied().map(ProducerId).collect(),
        longer_than: u64::try_from(request.duration_filter)
            .ok()
            .map(std::time::Duration::from_millis),
        pattern,
    };
    let filter = Arc::new(filter);
    let mut listed = BTreeMap::new();
    for index in txns.led() {
        match txns.call_shard(index, Request::List(Arc::clone(&filter))).await {
            Ok(Reply::Listed(found)) => {
                listed.extend(
                    found.into_iter().map(|(id, producer, status)| (id, (producer, status))),
                );
            }
            Ok(other) => unreachable!("a list is answered as one: {other:?}"),
            Err(code) => return refuse(code),
        }
    }
    let state = |(id, (producer, status)): (Arc<str>, (ProducerId, Status))| ListedTransaction {
        transactional_id: id.to_string(),
        producer_id: producer.0,
        transaction_state: status.name().to_owned(),
    };
    ListTransactionsResponse {
        unknown_state_filters: unknown
            .into_iter()
            .map(|(name, _)| name.clone())
            .filter(|name| !NEVER_LISTED.contains(&name.as_str()))
            .collect(),
        transaction_states: listed.into_iter().map(state).collect(),
        ..ListTransactionsResponse::default()
    }
}

/// The expression that an id must match in full. `None`: any id will do. Matching takes time in
/// proportion to the id's length, whatever the expression.
fn pattern(text: Option<&str>) -> Result<Option<Regex>, ErrorCode> {
    let Some(text) = text.filter(|it| !it.is_empty()) else { return Ok(None) };
    let whole = format!("^(?:{text})$");
    let built = RegexBuilder::new(&whole).size_limit(PATTERN_BYTES_MAX).build();
    // Checked alone, too: `a)(b` would be an expression between our parentheses.
    let alone = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    match (built, alone) {
        (Ok(built), Ok(_)) => Ok(Some(built)),
        _ => Err(ErrorCode::InvalidRegularExpression),
    }
}
