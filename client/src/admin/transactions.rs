//! Transactions: who has one, what it is about, who writes into a partition, and ending what hangs.
//!
//! A partition's leader knows who writes there; a coordinator knows what its transactional ids are
//! about. An open transaction that no coordinator knows of hangs: it holds the last stable offset
//! back until somebody aborts it. KIP-664. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use protocol::api::producer_id::InitProducerIdRequest;
use protocol::api::transactions::{
    DescribeProducersRequest, DescribeProducersRequestTopic, DescribeProducersResponse,
    DescribeTransactionsRequest, DescribedTransaction, ListTransactionsRequest,
    ListTransactionsResponse, ProducerState as WireProducer,
};
use protocol::api::txn::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, Offset, ProducerEpoch, ProducerId, TopicPartition};
use protocol::time::Timestamp;

use super::leaders::Led;
use super::topics::verdict;
use super::{Admin, PerPartition, wire_ms};
use crate::error::RequestError;
use crate::group_offsets::by_topic;
use crate::router::CoordinatorKind;

/// Which transactions to list; empty: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// Only those in one of these states, as `Ongoing`; empty: in any.
    pub states: BTreeSet<String>,
    /// Only those of these producers; empty: of any.
    pub producer_ids: BTreeSet<ProducerId>,
    /// Only those that have been open for longer. KIP-994.
    pub longer_than: Option<Duration>,
    /// Only those whose whole transactional id matches this regular expression. KIP-1152.
    pub id_pattern: Option<String>,
}

/// A transactional id in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionListing {
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
    /// Its producer.
    pub producer_id: ProducerId,
    /// Its state, as `Ongoing`.
    pub state: String,
}

/// A transactional id as its coordinator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDescription {
    /// Its state, as `Ongoing` or `CompleteCommit`.
    pub state: String,
    /// Its producer.
    pub producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// How long a transaction may stay open before the coordinator aborts it.
    pub timeout: Duration,
    /// When the open transaction began; `None`: none is open.
    pub started: Option<Timestamp>,
    /// The partitions that it writes to; while it ends, those that have no marker yet.
    pub partitions: BTreeSet<TopicPartition>,
}

/// A producer as the leader of a partition knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerDescription {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its epoch; wider than on other messages.
    pub producer_epoch: i32,
    /// The sequence of the last record that it wrote; -1: none is remembered.
    pub last_sequence: i32,
    /// When it last wrote; `NONE`: not known.
    pub last_timestamp: Timestamp,
    /// Which leadership of the coordinator wrote its last marker; `None`: no marker yet.
    pub coordinator_epoch: Option<i32>,
    /// Where its open transaction begins; `None`: none is open.
    pub txn_start: Option<Offset>,
}

/// Which transaction of a partition to abort: what its leader says of its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortSpec {
    /// The producer.
    pub producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// The epoch for the marker: at least that of the last one.
    pub coordinator_epoch: i32,
}

/// An open transaction that no coordinator will end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HangingTransaction {
    /// Where.
    pub partition: TopicPartition,
    /// Its producer there.
    pub producer: ProducerDescription,
    /// The transactional id of the producer, where a coordinator knows one.
    pub transactional_id: Option<String>,
}

impl Admin {
    /// The transactional ids that `filter` lets through, asked of every broker. KIP-664.
    ///
    /// # Errors
    /// When a broker does not answer or refuses; `InvalidRequest` for a state that it does not
    /// know.
    pub async fn list_transactions(
        &self,
        filter: &TransactionFilter,
    ) -> Result<BTreeMap<String, TransactionListing>, RequestError> {
        let attempt = || async {
            let brokers = self.broker_ids_once().await?;
            let asks = brokers.into_iter().map(|it| self.list_transactions_of(it, filter));
            let mut found = BTreeMap::new();
            for listed in join_all(asks).await {
                found.append(&mut listed?);
            }
            Ok(found)
        };
        self.router.retry(self.timeout, "list transactions", attempt).await
    }

    async fn list_transactions_of(
        &self,
        broker: BrokerId,
        filter: &TransactionFilter,
    ) -> Result<BTreeMap<String, TransactionListing>, RequestError> {
        let duration =
            filter.longer_than.map(|it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX));
        let request = ListTransactionsRequest {
            state_filters: filter.states.iter().cloned().collect(),
            producer_id_filters: filter.producer_ids.iter().map(|it| it.0).collect(),
            duration_filter: duration.unwrap_or(-1),
            transactional_id_pattern: filter.id_pattern.clone(),
        };
        let response: ListTransactionsResponse = self.ask_broker(broker, move |_| request).await?;
        let api = ApiKey::ListTransactions;
        verdict(api, format!("broker {broker}"), response.error_code, None)?;
        if let Some(state) = response.unknown_state_filters.first() {
            let subject = format!("transaction state {state}");
            return Err(RequestError::code(api, subject, ErrorCode::InvalidRequest, None));
        }
        let listing = |it: protocol::api::transactions::ListedTransaction| {
            let listing = TransactionListing {
                coordinator: broker,
                producer_id: ProducerId(it.producer_id),
                state: it.transaction_state,
            };
            (it.transactional_id, listing)
        };
        Ok(response.transaction_states.into_iter().map(listing).collect())
    }

    /// Describes a transactional id. KIP-664.
    ///
    /// # Errors
    /// `TransactionalIdNotFound`, another refusal, or no answer.
    pub async fn describe_transaction(
        &self,
        transactional_id: &str,
    ) -> Result<TransactionDescription, RequestError> {
        let attempt = || async {
            let request = DescribeTransactionsRequest {
                transactional_ids: vec![transactional_id.to_owned()],
            };
            let kind = CoordinatorKind::Transaction;
            let response =
                self.router.ask_coordinator(kind, transactional_id, move |_| request).await?;
            let api = ApiKey::DescribeTransactions;
            let subject = format!("transactional id {transactional_id}");
            let missing = || RequestError::Missing { api, subject: subject.clone() };
            let state = response.transaction_states.into_iter().next().ok_or_else(missing)?;
            self.heed_txn(api, transactional_id, state.error_code)?;
            Ok(description(state))
        };
        self.router.retry(self.timeout, "describe a transaction", attempt).await
    }

    /// Ends whatever transaction a transactional id has open, by taking the id over as a new
    /// producer would: the old one is fenced. KIP-618, KIP-939.
    ///
    /// # Errors
    /// When it is refused or no answer came; trying again does no harm.
    pub async fn force_terminate_transaction(
        &self,
        transactional_id: &str,
    ) -> Result<(ProducerId, ProducerEpoch), RequestError> {
        let timeout_ms = wire_ms(self.router.patience().request_timeout);
        let attempt = || async {
            let request = InitProducerIdRequest {
                transactional_id: Some(transactional_id.to_owned()),
                transaction_timeout_ms: timeout_ms,
                producer_id: ProducerId::NONE.0,
                producer_epoch: ProducerEpoch::NONE.0,
                ..InitProducerIdRequest::default()
            };
            let kind = CoordinatorKind::Transaction;
            let response =
                self.router.ask_coordinator(kind, transactional_id, move |_| request).await?;
            self.heed_txn(ApiKey::InitProducerId, transactional_id, response.error_code)?;
            Ok((ProducerId(response.producer_id), ProducerEpoch(response.producer_epoch)))
        };
        self.router.retry(self.timeout, "terminate a transaction", attempt).await
    }

    /// The producers that the leaders of `partitions` know. KIP-664.
    pub async fn describe_producers(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> PerPartition<Vec<ProducerDescription>> {
        let request = |led: Vec<Led>| {
            let topics = by_topic(led.iter().map(|(partition, _)| (partition, ())));
            let topics = topics.into_iter().map(|(name, of)| DescribeProducersRequestTopic {
                name,
                partition_indexes: of.into_iter().map(|(index, ())| index).collect(),
            });
            let request = DescribeProducersRequest { topics: topics.collect() };
            move |_| request
        };
        let answers = |response: DescribeProducersResponse| {
            let mut results = PerPartition::new();
            for topic in response.topics {
                let name: Arc<str> = topic.name.into();
                for it in topic.partitions {
                    let partition = TopicPartition::new(Arc::clone(&name), it.partition_index);
                    let (code, message) = (it.error_code, it.error_message);
                    let verdict =
                        verdict(ApiKey::DescribeProducers, partition.to_string(), code, message);
                    let producers = it.active_producers.into_iter().map(producer).collect();
                    results.insert(partition, verdict.map(|()| producers));
                }
            }
            results
        };
        self.ask_leaders("describe producers", partitions, request, answers).await
    }

    /// Aborts an open transaction in one partition, by writing the marker that its coordinator
    /// owes. For transactions that hang: one that its coordinator knows is ended by
    /// [`force_terminate_transaction`](Self::force_terminate_transaction). KIP-664.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` and `TransactionCoordinatorFenced` when the leader knows newer
    /// epochs; another refusal, or no answer.
    pub async fn abort_transaction(
        &self,
        partition: &TopicPartition,
        spec: AbortSpec,
    ) -> Result<(), RequestError> {
        let request = |_: Vec<Led>| {
            let topic = WritableTxnMarkerTopic {
                name: partition.topic.to_string(),
                partition_indexes: vec![partition.partition.0],
            };
            let marker = WritableTxnMarker {
                producer_id: spec.producer_id.0,
                producer_epoch: spec.producer_epoch.0,
                transaction_result: false,
                topics: vec![topic],
                coordinator_epoch: spec.coordinator_epoch,
                ..WritableTxnMarker::default()
            };
            let request = WriteTxnMarkersRequest { markers: vec![marker] };
            move |_| request
        };
        let answers = |response: WriteTxnMarkersResponse| {
            let mut results = PerPartition::new();
            for topic in response.markers.into_iter().flat_map(|it| it.topics) {
                let name: Arc<str> = topic.name.into();
                for it in topic.partitions {
                    let partition = TopicPartition::new(Arc::clone(&name), it.partition_index);
                    let api = ApiKey::WriteTxnMarkers;
                    let verdict = verdict(api, partition.to_string(), it.error_code, None);
                    results.insert(partition, verdict);
                }
            }
            results
        };
        let what = "abort a transaction";
        let mut results = self.ask_leaders(what, [partition.clone()], request, answers).await;
        results.remove(partition).expect("every partition that is asked about has a result")
    }

    /// The transactions of `partitions` that have been silent for longer than `longer_than`, and
    /// that no coordinator knows to be open there. It must exceed the longest transaction timeout
    /// in use, or a transaction that just began may be taken for one. KIP-664.
    ///
    /// # Errors
    /// At the first partition or coordinator that does not answer or refuses.
    pub async fn find_hanging_transactions(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        longer_than: Duration,
    ) -> Result<Vec<HangingTransaction>, RequestError> {
        let now = self.router.now().wall;
        let mut candidates = Vec::new();
        for (partition, producers) in self.describe_producers(partitions).await {
            let is_old = |it: &ProducerDescription| {
                it.txn_start.is_some() && it.last_timestamp.plus(longer_than) < now
            };
            let old = producers?.into_iter().filter(is_old);
            candidates.extend(old.map(|it| (partition.clone(), it)));
        }
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let producer_ids = candidates.iter().map(|(_, it)| it.producer_id).collect();
        let filter = TransactionFilter { producer_ids, ..TransactionFilter::default() };
        let listed = self.list_transactions(&filter).await?;
        let mut known = BTreeMap::new();
        for (id, listing) in &listed {
            known.insert(listing.producer_id, (id, self.describe_transaction(id).await));
        }
        let mut hanging = Vec::new();
        for (partition, producer) in candidates {
            let (transactional_id, is_hanging) = match known.get(&producer.producer_id) {
                None => (None, true),
                Some((id, Ok(description))) => {
                    (Some((*id).clone()), !description.partitions.contains(&partition))
                }
                Some((_, Err(error)))
                    if error.error_code() == Some(ErrorCode::TransactionalIdNotFound) =>
                {
                    (None, true)
                }
                Some((_, Err(error))) => return Err(error.clone()),
            };
            if is_hanging {
                hanging.push(HangingTransaction { partition, producer, transactional_id });
            }
        }
        Ok(hanging)
    }

    fn heed_txn(&self, api: ApiKey, id: &str, code: i16) -> Result<(), RequestError> {
        verdict(api, format!("transactional id {id}"), code, None).inspect_err(|error| {
            if let Some(code) = error.error_code() {
                self.router.heed_coordinator(CoordinatorKind::Transaction, id, code);
            }
        })
    }
}

fn description(state: DescribedTransaction) -> TransactionDescription {
    let partitions = state.topics.into_iter().flat_map(|topic| {
        let name: Arc<str> = topic.topic.into();
        topic.partitions.into_iter().map(move |index| TopicPartition::new(Arc::clone(&name), index))
    });
    TransactionDescription {
        state: state.transaction_state,
        producer_id: ProducerId(state.producer_id),
        producer_epoch: ProducerEpoch(state.producer_epoch),
        timeout: Duration::from_millis(u64::try_from(state.transaction_timeout_ms).unwrap_or(0)),
        started: Some(Timestamp(state.transaction_start_time_ms)).filter(|it| it.0 >= 0),
        partitions: partitions.collect(),
    }
}

fn producer(state: WireProducer) -> ProducerDescription {
    ProducerDescription {
        producer_id: ProducerId(state.producer_id),
        producer_epoch: state.producer_epoch,
        last_sequence: state.last_sequence,
        last_timestamp: Timestamp(state.last_timestamp),
        coordinator_epoch: Some(state.coordinator_epoch).filter(|it| *it >= 0),
        txn_start: Some(Offset(state.current_txn_start_offset)).filter(|it| it.0 >= 0),
    }
}
