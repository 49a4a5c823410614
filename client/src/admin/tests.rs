use std::time::Duration;

use protocol::api::AnyRequest;
use protocol::api::configs::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult,
    DescribeConfigsSynonym,
};
use protocol::api::consumer_group::{ConsumerGroupDescribeResponse, DescribedConsumerGroup};
use protocol::api::find_coordinator::{Coordinator, FindCoordinatorResponse};
use protocol::api::group::{DescribeGroupsResponse, DescribedGroup};
use protocol::api::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::api::offsets::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use protocol::api::topics::{CreatableTopicResult, CreateTopicsResponse};
use protocol::api::transactions::{
    DescribeProducersResponse, DescribeProducersResponsePartition, DescribeProducersResponseTopic,
    DescribeTransactionsResponse, DescribedTransaction, DescribedTransactionTopic,
    ListTransactionsResponse, ListedTransaction, ProducerState,
};
use protocol::ids::{Offset, ProducerId};
use protocol::time::Timestamp;

use super::*;
use crate::net::memory::MemoryNetwork;
use crate::testing::{FakeBroker, Reply, all_versions};
use crate::time::virtual_clock;

fn metadata(controller_id: i32) -> MetadataResponse {
    let broker = |node_id, host: &str| MetadataResponseBroker {
        node_id,
        host: host.to_owned(),
        port: 9092,
        ..MetadataResponseBroker::default()
    };
    MetadataResponse {
        brokers: vec![broker(1, "one"), broker(2, "two")],
        controller_id,
        topics: vec![MetadataResponseTopic {
            name: Some("orders".to_owned()),
            partitions: vec![MetadataResponsePartition {
                leader_id: 2,
                leader_epoch: 3,
                ..MetadataResponsePartition::default()
            }],
            ..MetadataResponseTopic::default()
        }],
        ..MetadataResponse::default()
    }
}

fn bootstrap(network: &MemoryNetwork) -> Bootstrap {
    let endpoints = [Endpoint::new("one", 9092)];
    Bootstrap::new(endpoints, Arc::new(network.clone()), virtual_clock(Timestamp(0)), 1)
}

fn created(code: ErrorCode) -> Reply {
    let result = CreatableTopicResult {
        name: "orders".to_owned(),
        error_code: code.to_wire(),
        ..CreatableTopicResult::default()
    };
    CreateTopicsResponse { topics: vec![result], ..CreateTopicsResponse::default() }.into()
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_created_at_the_controller_and_retried_when_it_moved() {
    let network = MemoryNetwork::new();
    let one = FakeBroker::start(&network, "one", all_versions(&[]), |_, request| match request {
        AnyRequest::Metadata(_) => metadata(2).into(),
        _ => Reply::HangUp,
    });
    let mut answers = vec![ErrorCode::None, ErrorCode::NotController];
    let two =
        FakeBroker::start(&network, "two", all_versions(&[]), move |_, request| match request {
            AnyRequest::CreateTopics(_) => created(answers.pop().unwrap()),
            _ => metadata(2).into(),
        });
    let admin = Admin::connect(bootstrap(&network), Duration::from_secs(10)).await.unwrap();
    admin
        .create_topic(NewTopic::new("orders", 3).config("cleanup.policy", "compact"))
        .await
        .unwrap();
    assert_eq!(one.take_log().len(), 1);
    assert_eq!(two.take_log().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_topic_and_is_not_retried() {
    let network = MemoryNetwork::new();
    let _one = FakeBroker::start(&network, "one", all_versions(&[]), |_, request| match request {
        AnyRequest::Metadata(_) => metadata(1).into(),
        _ => created(ErrorCode::TopicAlreadyExists),
    });
    let admin = Admin::connect(bootstrap(&network), Duration::from_secs(10)).await.unwrap();
    let error = admin.create_topic(NewTopic::new("orders", 3)).await.unwrap_err();
    assert_eq!(error.error_code(), Some(ErrorCode::TopicAlreadyExists));
    assert!(error.to_string().contains("orders"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn offsets_are_asked_of_the_leader_with_its_epoch() {
    let network = MemoryNetwork::new();
    let _one = FakeBroker::start(&network, "one", all_versions(&[]), |_, _| metadata(1).into());
    let two = FakeBroker::start(&network, "two", all_versions(&[]), |_, _| {
        let partition =
            ListOffsetsPartitionResponse { offset: 42, ..ListOffsetsPartitionResponse::default() };
        let topic =
            ListOffsetsTopicResponse { name: "orders".to_owned(), partitions: vec![partition] };
        ListOffsetsResponse { topics: vec![topic], ..ListOffsetsResponse::default() }.into()
    });
    let admin = Admin::connect(bootstrap(&network), Duration::from_secs(10)).await.unwrap();
    let orders = TopicPartition::new("orders", 0);
    let wanted = [(orders.clone(), OffsetSpec::Latest)].into();
    let listed = admin.list_offsets(&wanted, IsolationLevel::ReadCommitted).await.unwrap();
    assert_eq!(listed[&orders].offset, Some(Offset(42)));
    let AnyRequest::ListOffsets(asked) = &two.take_log()[0].1 else { panic!() };
    assert_eq!(asked.isolation_level, 1);
    assert_eq!(asked.topics[0].partitions[0].current_leader_epoch, 3);
    assert_eq!(asked.topics[0].partitions[0].timestamp, -1);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_nobody_answers_for_is_given_up_in_time() {
    let network = MemoryNetwork::new();
    let error = Admin::connect(bootstrap(&network), Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(error, RequestError::TimedOut { last: Some(_), .. }), "{error}");
    assert!(error.is_retriable());
}

/// A cluster of one broker, which leads partition 0 of `orders`.
async fn admin_of(
    script: impl FnMut(i16, AnyRequest) -> Reply + Send + 'static,
) -> (Admin, FakeBroker) {
    let network = MemoryNetwork::new();
    let mut script = script;
    let one =
        FakeBroker::start(
            &network,
            "one",
            all_versions(&[]),
            move |version, request| match request {
                AnyRequest::Metadata(_) => {
                    let mut metadata = metadata(1);
                    metadata.brokers.truncate(1);
                    metadata.topics[0].partitions[0].leader_id = 1;
                    metadata.into()
                }
                AnyRequest::FindCoordinator(it) => {
                    let coordinator = Coordinator {
                        key: it.coordinator_keys[0].clone(),
                        host: "one".to_owned(),
                        port: 9092,
                        ..Coordinator::default()
                    };
                    let coordinators = vec![coordinator];
                    FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() }
                        .into()
                }
                request => script(version, request),
            },
        );
    (Admin::connect(bootstrap(&network), Duration::from_secs(10)).await.unwrap(), one)
}

fn deleted(code: ErrorCode) -> Reply {
    let result = DeleteRecordsPartitionResult {
        low_watermark: 7,
        error_code: code.to_wire(),
        ..DeleteRecordsPartitionResult::default()
    };
    let topic = DeleteRecordsTopicResult { name: "orders".to_owned(), partitions: vec![result] };
    DeleteRecordsResponse { topics: vec![topic], ..DeleteRecordsResponse::default() }.into()
}

#[tokio::test(start_paused = true)]
async fn what_may_succeed_later_is_asked_again_and_a_slip_is_told_at_once() {
    let mut answers = vec![ErrorCode::None, ErrorCode::NotLeaderOrFollower];
    let (admin, one) = admin_of(move |_, request| match request {
        AnyRequest::DeleteRecords(_) => deleted(answers.pop().unwrap()),
        _ => Reply::HangUp,
    })
    .await;
    let known = TopicPartition::new("orders", 0);
    let unknown = TopicPartition::new("orders", 5);
    let before = [(known.clone(), Offset(7)), (unknown.clone(), Offset(7))].into();
    let results = admin.delete_records(&before).await;
    assert_eq!(*results[&known].as_ref().unwrap(), Offset(7));
    let error = results[&unknown].as_ref().unwrap_err();
    assert_eq!(error.error_code(), Some(ErrorCode::UnknownTopicOrPartition));
    let asked = one.take_log().into_iter().filter_map(|(_, it)| match it {
        AnyRequest::DeleteRecords(it) => Some(it.topics[0].partitions.len()),
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_never_answers_is_given_up_with_its_last_error() {
    let (admin, _one) = admin_of(|_, _| deleted(ErrorCode::NotLeaderOrFollower)).await;
    let orders = TopicPartition::new("orders", 0);
    let mut results = admin.delete_records(&[(orders.clone(), Offset(7))].into()).await;
    let error = results.remove(&orders).unwrap().unwrap_err();
    assert!(matches!(error, RequestError::TimedOut { .. }), "{error}");
    assert_eq!(error.error_code(), Some(ErrorCode::NotLeaderOrFollower));
    assert!(error.is_retriable());
}

#[tokio::test(start_paused = true)]
async fn a_group_is_described_by_whichever_protocol_its_coordinator_knows_it() {
    let (admin, _one) = admin_of(|_, request| match request {
        AnyRequest::ConsumerGroupDescribe(it) => {
            let group = DescribedConsumerGroup {
                error_code: match it.group_ids[0].as_str() {
                    "next" => 0,
                    _ => ErrorCode::GroupIdNotFound.to_wire(),
                },
                group_id: it.group_ids[0].clone(),
                group_state: "Stable".to_owned(),
                group_epoch: 5,
                assignment_epoch: 4,
                ..DescribedConsumerGroup::default()
            };
            let groups = vec![group];
            ConsumerGroupDescribeResponse { groups, ..ConsumerGroupDescribeResponse::default() }
                .into()
        }
        AnyRequest::DescribeGroups(it) => {
            let code =
                if it.groups[0] == "old" { ErrorCode::None } else { ErrorCode::GroupIdNotFound };
            let group = DescribedGroup {
                error_code: code.to_wire(),
                group_id: it.groups[0].clone(),
                group_state: "Empty".to_owned(),
                ..DescribedGroup::default()
            };
            DescribeGroupsResponse { groups: vec![group], ..DescribeGroupsResponse::default() }
                .into()
        }
        _ => Reply::HangUp,
    })
    .await;
    let next = admin.describe_group("next").await.unwrap();
    let epochs = GroupEpochs { group_epoch: 5, assignment_epoch: 4 };
    assert_eq!((next.group_type, next.epochs), ("consumer", Some(epochs)));
    let old = admin.describe_group("old").await.unwrap();
    assert_eq!((old.group_type, old.state.as_str(), old.epochs), ("classic", "Empty", None));
    let error = admin.describe_group("none").await.unwrap_err();
    assert_eq!(error.error_code(), Some(ErrorCode::GroupIdNotFound));
    assert!(!error.is_retriable());
}

#[tokio::test(start_paused = true)]
async fn settings_of_a_broker_are_asked_of_it_and_of_none_that_is_gone() {
    let (admin, one) = admin_of(|_, request| {
        let AnyRequest::DescribeConfigs(it) = request else { return Reply::HangUp };
        let synonym = DescribeConfigsSynonym {
            name: "log.retention.hours".to_owned(),
            value: Some("168".to_owned()),
            source: 5,
        };
        let entry = DescribeConfigsResourceResult {
            name: "log.retention.ms".to_owned(),
            value: Some("1000".to_owned()),
            config_source: 4,
            synonyms: vec![synonym],
            ..DescribeConfigsResourceResult::default()
        };
        let result = DescribeConfigsResult {
            resource_type: it.resources[0].resource_type,
            configs: vec![entry],
            ..DescribeConfigsResult::default()
        };
        DescribeConfigsResponse { results: vec![result], ..DescribeConfigsResponse::default() }
            .into()
    })
    .await;
    let described = admin.describe_configs(&ConfigResource::Broker(BrokerId(1))).await.unwrap();
    let entry = &described["log.retention.ms"];
    assert_eq!(entry.source, ConfigSource::StaticBroker);
    assert!(!entry.is_default);
    assert_eq!(entry.synonyms[0].source, ConfigSource::Default);
    let error = admin.describe_configs(&ConfigResource::Broker(BrokerId(9))).await.unwrap_err();
    assert!(matches!(error, RequestError::UnknownBroker { broker: BrokerId(9) }), "{error}");
    let asked = one
        .take_log()
        .into_iter()
        .filter(|(_, it)| matches!(it, AnyRequest::DescribeConfigs(it) if it.include_synonyms));
    assert_eq!(asked.count(), 1);
}

/// A partition with two old open transactions, of which a coordinator knows the one of producer 1.
fn transactions(_: i16, request: AnyRequest) -> Reply {
    let producer = |producer_id, current_txn_start_offset| ProducerState {
        producer_id,
        producer_epoch: 3,
        last_timestamp: -1_000_000,
        current_txn_start_offset,
        ..ProducerState::default()
    };
    match request {
        AnyRequest::DescribeProducers(_) => {
            let partition = DescribeProducersResponsePartition {
                active_producers: vec![producer(1, 10), producer(2, 20), producer(3, -1)],
                ..DescribeProducersResponsePartition::default()
            };
            let topic = DescribeProducersResponseTopic {
                name: "orders".to_owned(),
                partitions: vec![partition],
            };
            DescribeProducersResponse { topics: vec![topic], ..Default::default() }.into()
        }
        AnyRequest::ListTransactions(it) => {
            assert_eq!(it.producer_id_filters, [1, 2]);
            let listed = ListedTransaction {
                transactional_id: "mover".to_owned(),
                producer_id: 1,
                transaction_state: "Ongoing".to_owned(),
            };
            ListTransactionsResponse { transaction_states: vec![listed], ..Default::default() }
                .into()
        }
        AnyRequest::DescribeTransactions(_) => {
            let topic =
                DescribedTransactionTopic { topic: "orders".to_owned(), partitions: vec![0] };
            let described = DescribedTransaction {
                transactional_id: "mover".to_owned(),
                transaction_state: "Ongoing".to_owned(),
                topics: vec![topic],
                ..DescribedTransaction::default()
            };
            let transaction_states = vec![described];
            DescribeTransactionsResponse { transaction_states, ..Default::default() }.into()
        }
        _ => Reply::HangUp,
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_hangs_when_it_is_old_and_no_coordinator_knows_it() {
    let (admin, _one) = admin_of(transactions).await;
    let orders = TopicPartition::new("orders", 0);
    let quarter = Duration::from_secs(900);
    let hanging = admin.find_hanging_transactions([orders.clone()], quarter).await.unwrap();
    let found: Vec<_> = hanging.iter().map(|it| it.producer.producer_id).collect();
    assert_eq!(found, [ProducerId(2)]);
    assert_eq!(hanging[0].transactional_id, None);
    let day = Duration::from_secs(86_400);
    assert!(admin.find_hanging_transactions([orders], day).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn settings_of_a_topic_that_does_not_exist_are_refused_at_once() {
    let (admin, one) = admin_of(|_, request| {
        let AnyRequest::DescribeConfigs(_) = request else { return Reply::HangUp };
        let error_code = ErrorCode::UnknownTopicOrPartition.to_wire();
        let result = DescribeConfigsResult { error_code, ..DescribeConfigsResult::default() };
        DescribeConfigsResponse { results: vec![result], ..DescribeConfigsResponse::default() }
            .into()
    })
    .await;
    one.take_log();
    let topic = ConfigResource::Topic("ordres".to_owned());
    let error = admin.describe_configs(&topic).await.unwrap_err();
    assert_eq!(error.error_code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(one.take_log().len(), 1);
}
