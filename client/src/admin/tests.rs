use std::time::Duration;

use protocol::api::AnyRequest;
use protocol::api::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::api::offsets::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use protocol::api::topics::{CreatableTopicResult, CreateTopicsResponse};
use protocol::error_code::ErrorCode;
use protocol::ids::Offset;
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
