//! What operators are told of a running broker, in the wire's own words. Shell.

use std::time::Duration;

use protocol::api::brokers::UnregisterBrokerRequest;
use protocol::api::consumer_group::{ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest};
use protocol::api::elections::{ElectLeadersRequest, ElectLeadersRequestTopic};
use protocol::api::features::{FeatureUpdateKey, UpdateFeaturesRequest};
use protocol::api::group_offsets::{OffsetFetchRequest, OffsetFetchRequestTopic};
use protocol::api::log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use protocol::api::metadata::{DescribeClusterRequest, MetadataRequest, MetadataRequestTopic};
use protocol::api::producer_id::InitProducerIdRequest;
use protocol::api::quorum::{
    DescribeQuorumRequest, DescribeQuorumRequestPartition, DescribeQuorumRequestTopic,
};
use protocol::api::reassignments::{
    AlterPartitionReassignmentsRequest, ListPartitionReassignmentsRequest, ReassignablePartition,
    ReassignableTopic,
};
use protocol::api::topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsRequestTopic,
    DescribeTopicPartitionsResponse, TopicPartitionCursor,
};
use protocol::api::transactions::{
    DescribeProducersRequest, DescribeProducersRequestTopic, DescribeTransactionsRequest,
    ListTransactionsRequest, ListTransactionsResponse,
};
use protocol::api::txn::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, EndTxnRequest,
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use protocol::api::versions::ApiVersionsRequest;
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{CoordinatorEpoch, PartitionIndex, ProducerEpoch, ProducerId};

use super::tests::{TOPIC, World, batch_of, plain};
use super::{ROUTED, one_of_each};
use crate::controller::{ControllerError, TopicRef};
use crate::coordinator::Unavailable;
use crate::partition::EndTxnMarker;

fn page(
    topics: &[&str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> DescribeTopicPartitionsRequest {
    let topics =
        topics.iter().map(|name| DescribeTopicPartitionsRequestTopic { name: (*name).to_owned() });
    let cursor = cursor.map(|(name, partition_index)| TopicPartitionCursor {
        topic_name: name.to_owned(),
        partition_index,
    });
    DescribeTopicPartitionsRequest {
        topics: topics.collect(),
        response_partition_limit: limit,
        cursor,
    }
}

/// Name, code and partitions of each topic, and where the next page begins.
type Page = (Vec<(String, ErrorCode, Vec<i32>)>, Option<(String, i32)>);

fn seen(response: DescribeTopicPartitionsResponse) -> Page {
    let topics = response.topics.into_iter().map(|topic| {
        let indices = topic.partitions.iter().map(|it| it.partition_index).collect();
        (topic.name.unwrap(), ErrorCode::from_wire(topic.error_code), indices)
    });
    let next = response.next_cursor.map(|it| (it.topic_name, it.partition_index));
    (topics.collect(), next)
}

#[tokio::test]
async fn topics_are_described_in_order_page_by_page() {
    let mut world = World::new().await;
    world.create("a", &[]).await;
    let whole = |name: &str| (name.to_owned(), ErrorCode::None, vec![0, 1]);
    let part = |name: &str, index| (name.to_owned(), ErrorCode::None, vec![index]);
    let next = |name: &str, index| Some((name.to_owned(), index));

    let all = seen(world.ask(0, page(&[], 2000, None)).await);
    assert_eq!(all, (vec![whole("a"), whole(TOPIC)], None));
    let first = seen(world.ask(0, page(&[], 3, None)).await);
    assert_eq!(first, (vec![whole("a"), part(TOPIC, 0)], next(TOPIC, 1)));
    let second = seen(world.ask(0, page(&[], 3, Some((TOPIC, 1)))).await);
    assert_eq!(second, (vec![part(TOPIC, 1)], None));
    let exact = seen(world.ask(0, page(&[], 2, None)).await);
    assert_eq!(exact, (vec![whole("a")], next(TOPIC, 0)));
    let least = seen(world.ask(0, page(&[], 0, None)).await);
    assert_eq!(least, (vec![part("a", 0)], next("a", 1)), "a page has one partition at least");
    let gone = seen(world.ask(0, page(&[], 9, Some(("b", 7)))).await);
    assert_eq!(gone, (vec![whole(TOPIC)], None));
    let beyond = seen(world.ask(0, page(&["a"], 9, Some(("a", 7)))).await);
    assert_eq!(beyond, (vec![("a".to_owned(), ErrorCode::None, vec![])], None));
}

#[tokio::test]
async fn a_description_tells_leaders_replicas_and_what_is_unknown() {
    let mut world = World::new().await;
    let asked = page(&["no such", "nothing", TOPIC, TOPIC], 2000, None);
    let response = world.ask(0, asked).await;
    let topic = response.topics.iter().find(|it| it.name.as_deref() == Some(TOPIC)).unwrap();
    assert!(topic.topic_id.is_some());
    assert_ne!(topic.topic_authorized_operations, i32::MIN);
    let first = &topic.partitions[0];
    assert_eq!((first.leader_id, first.leader_epoch), (1, 0));
    assert_eq!((&first.replica_nodes[..], &first.isr_nodes[..]), (&[1][..], &[1][..]));
    assert_eq!(first.offline_replicas, [0; 0]);
    assert_eq!(
        (&first.eligible_leader_replicas, &first.last_known_elr),
        (&Some(vec![]), &Some(vec![]))
    );
    let unknown = |name: &str, code| (name.to_owned(), code, vec![]);
    let (topics, _) = seen(response);
    assert_eq!(topics.len(), 3, "each topic once");
    assert_eq!(topics[0], unknown("no such", ErrorCode::InvalidTopicException));
    assert_eq!(topics[1], unknown("nothing", ErrorCode::UnknownTopicOrPartition));
    for cursor in [("elsewhere", 0), (TOPIC, -1)] {
        let refused = seen(world.ask(0, page(&[TOPIC], 9, Some(cursor))).await);
        assert_eq!(refused, (vec![unknown(TOPIC, ErrorCode::InvalidRequest)], None), "{cursor:?}");
    }
}

async fn elect(world: &mut World, election_type: i8, index: i32) -> (i16, i16) {
    let topic = ElectLeadersRequestTopic { topic: TOPIC.to_owned(), partitions: vec![index] };
    let topic_partitions = Some(vec![topic]);
    let request = ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 5_000 };
    let response = world.ask(2, request).await;
    let result = &response.replica_election_results[0].partition_result[0];
    (response.error_code, result.error_code)
}

#[tokio::test]
async fn where_one_broker_leads_all_no_election_is_needed() {
    let mut world = World::new().await;
    let not_needed = ErrorCode::ElectionNotNeeded.to_wire();
    assert_eq!(elect(&mut world, 0, 0).await, (0, not_needed));
    assert_eq!(elect(&mut world, 1, 0).await, (0, not_needed));
    let unknown = ErrorCode::UnknownTopicOrPartition.to_wire();
    assert_eq!(elect(&mut world, 0, 9).await, (0, unknown));
    let invalid = ErrorCode::InvalidRequest.to_wire();
    assert_eq!(elect(&mut world, 2, 0).await, (invalid, invalid));
    let all = ElectLeadersRequest { topic_partitions: None, ..Default::default() };
    let response = world.ask(2, all).await;
    let mut results = response.replica_election_results.iter();
    assert!(response.error_code == 0 && results.all(|it| it.partition_result.is_empty()));
}

#[tokio::test]
async fn a_partition_is_assigned_to_where_it_is_and_nowhere_else() {
    let mut world = World::new().await;
    let mut codes = Vec::new();
    for replicas in [Some(vec![1]), Some(vec![2]), None] {
        let partition = ReassignablePartition { partition_index: 0, replicas };
        let topic = ReassignableTopic { name: TOPIC.to_owned(), partitions: vec![partition] };
        let request =
            AlterPartitionReassignmentsRequest { topics: vec![topic], ..Default::default() };
        let response = world.ask(1, request).await;
        assert_eq!((response.error_code, response.error_message), (0, None));
        let answer = &response.responses[0].partitions[0];
        assert_eq!(answer.error_message.is_some(), answer.error_code != 0);
        codes.push(ErrorCode::from_wire(answer.error_code));
    }
    let (invalid, none) =
        (ErrorCode::InvalidReplicaAssignment, ErrorCode::NoReassignmentInProgress);
    assert_eq!(codes, [ErrorCode::None, invalid, none]);
    let listed = world.ask(0, ListPartitionReassignmentsRequest::default()).await;
    assert_eq!((listed.error_code, listed.topics.len()), (0, 0));
}

#[tokio::test]
async fn the_quorum_describes_its_one_voter() {
    let mut world = World::new().await;
    let ask = |name: &str, partition_index| {
        let partitions = vec![DescribeQuorumRequestPartition { partition_index }];
        let topic = DescribeQuorumRequestTopic { topic_name: name.to_owned(), partitions };
        DescribeQuorumRequest { topics: vec![topic] }
    };
    for version in 0..=2 {
        let response = world.ask(version, ask("__cluster_metadata", 0)).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!((response.error_code, partition.error_code, partition.leader_id), (0, 0, 1));
        assert!(partition.leader_epoch > 0);
        let [voter] = &partition.current_voters[..] else { panic!("{partition:?}") };
        assert_eq!(voter.replica_id, 1);
        assert!(partition.high_watermark > 0);
        assert!(partition.high_watermark <= voter.log_end_offset);
        assert_eq!(voter.last_caught_up_timestamp > 0, version > 0);
        assert_eq!(voter.last_fetch_timestamp > 0, version > 0);
        assert_eq!(partition.error_message.as_deref(), Some(""));
        assert!(partition.observers.is_empty());
        let nodes: Vec<_> = response.nodes.iter().map(|it| it.node_id).collect();
        assert_eq!(nodes, if version < 2 { vec![] } else { vec![1] });
    }
    for (name, index) in [(TOPIC, 0), ("__cluster_metadata", 1)] {
        let response = world.ask(2, ask(name, index)).await;
        let code = response.topics[0].partitions[0].error_code;
        assert_eq!(ErrorCode::from_wire(code), ErrorCode::UnknownTopicOrPartition);
    }
}

fn update(level: i16, upgrade_type: i8, validate_only: bool) -> UpdateFeaturesRequest {
    let key = FeatureUpdateKey {
        feature: "transaction.version".to_owned(),
        max_version_level: level,
        upgrade_type,
        ..Default::default()
    };
    UpdateFeaturesRequest { timeout_ms: 5_000, feature_updates: vec![key], validate_only }
}

#[tokio::test]
async fn features_change_for_all_to_see_or_the_answer_says_why_not() {
    let mut world = World::new().await;
    let level = |world: &World| world.broker.api().image().feature("transaction.version");
    let refused = world.ask(2, update(3, 1, false)).await;
    assert_eq!(ErrorCode::from_wire(refused.error_code), ErrorCode::InvalidUpdateVersion);
    let words = refused.error_message.unwrap();
    assert!(words.contains("transaction.version") && words.contains("0-2"), "{words}");
    let tried = world.ask(2, update(1, 2, true)).await;
    assert_eq!((tried.error_code, level(&world)), (0, Some(2)));
    let done = world.ask(1, update(1, 2, false)).await;
    assert_eq!((done.error_code, done.results.len(), level(&world)), (0, 1, Some(1)));
    // Version 0 has a flag instead of a kind.
    let mut old = update(0, 1, false);
    old.feature_updates[0].allow_downgrade = true;
    let done = world.ask(0, old).await;
    assert_eq!((done.error_code, done.results[0].error_code, level(&world)), (0, 0, Some(0)));
    let world = world.restart().await;
    assert_eq!(level(&world), Some(0));
}

#[tokio::test]
async fn a_running_broker_cannot_be_unregistered() {
    let mut world = World::new().await;
    let mut codes = Vec::new();
    for broker_id in [1, 2] {
        let response = world.ask(0, UnregisterBrokerRequest { broker_id }).await;
        assert!(response.error_message.is_some());
        codes.push(ErrorCode::from_wire(response.error_code));
    }
    assert_eq!(codes, [ErrorCode::InvalidRequest, ErrorCode::BrokerIdNotRegistered]);
    let request = DescribeClusterRequest::default();
    assert_eq!(world.ask(2, request).await.brokers.len(), 1);
}

#[tokio::test]
async fn a_replica_moves_to_its_own_directory_alone() {
    let mut world = World::new().await;
    for (path, index, want) in [
        ("/data", 0, ErrorCode::None),
        ("/elsewhere", 0, ErrorCode::LogDirNotFound),
        ("/data", 9, ErrorCode::UnknownTopicOrPartition),
    ] {
        let topic = AlterReplicaLogDirTopic { name: TOPIC.to_owned(), partitions: vec![index] };
        let dir = AlterReplicaLogDir { path: path.to_owned(), topics: vec![topic] };
        let request = AlterReplicaLogDirsRequest { dirs: vec![dir] };
        let response = world.ask(2, request).await;
        let result = &response.results[0].partitions[0];
        assert_eq!(ErrorCode::from_wire(result.error_code), want, "{path} {index}");
    }
}

/// Opens a transaction of `id` with a batch in it. Its producer's id and epoch.
pub(super) async fn open_transaction(world: &mut World, id: &str) -> (i64, i16) {
    let ensured = vec![crate::metadata::TRANSACTIONS_TOPIC.to_owned()];
    world.broker.controller().ensure_topics(ensured, Duration::from_secs(5)).await.unwrap();
    let request = InitProducerIdRequest {
        transactional_id: Some(id.to_owned()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let producer = loop {
        let initialised = world.ask(4, request.clone()).await;
        match ErrorCode::from_wire(initialised.error_code) {
            ErrorCode::None => break initialised,
            code => assert!(code.is_retriable(), "{code}"),
        }
        tokio::task::yield_now().await;
    };
    let topic = AddPartitionsToTxnTopic { name: TOPIC.to_owned(), partitions: vec![0] };
    let add = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: id.to_owned(),
        v3_and_below_producer_id: producer.producer_id,
        v3_and_below_producer_epoch: producer.producer_epoch,
        v3_and_below_topics: vec![topic],
        ..Default::default()
    };
    let added = world.ask(3, add).await;
    let code = added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
    assert_eq!(code, 0);
    let batch = batch_of(producer.producer_id, 0, &["open"], true);
    let mut request = super::tests::produce(TOPIC, batch.into_bytes(), -1);
    request.transactional_id = Some(id.to_owned());
    let produced = world.ask(11, request).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    (producer.producer_id, producer.producer_epoch)
}

#[tokio::test]
async fn a_transaction_is_found_where_it_was_written_and_where_it_is_coordinated() {
    let mut world = World::new().await;
    let (producer_id, producer_epoch) = open_transaction(&mut world, "t").await;
    let asked = DescribeProducersRequest {
        topics: vec![DescribeProducersRequestTopic {
            name: TOPIC.to_owned(),
            partition_indexes: vec![0, 9],
        }],
    };
    let response = world.ask(0, asked.clone()).await;
    let [here, nowhere] = &response.topics[0].partitions[..] else { panic!() };
    assert_eq!(ErrorCode::from_wire(nowhere.error_code), ErrorCode::UnknownTopicOrPartition);
    let [found] = &here.active_producers[..] else { panic!("{here:?}") };
    assert_eq!((found.producer_id, found.producer_epoch), (producer_id, producer_epoch.into()));
    assert_eq!((found.current_txn_start_offset, found.last_sequence), (0, 0));
    assert_eq!((found.coordinator_epoch, found.last_timestamp), (-1, 1_700_000_000_000));

    let ids = vec!["t".to_owned(), "nobody".to_owned()];
    let request = DescribeTransactionsRequest { transactional_ids: ids };
    let response = world.ask(0, request.clone()).await;
    let [known, unknown] = &response.transaction_states[..] else { panic!() };
    assert_eq!(ErrorCode::from_wire(unknown.error_code), ErrorCode::TransactionalIdNotFound);
    assert_eq!((known.error_code, &*known.transaction_state), (0, "Ongoing"));
    assert_eq!((known.transaction_timeout_ms, known.producer_id), (60_000, producer_id));
    assert!(known.transaction_start_time_ms >= 1_700_000_000_000);
    assert_eq!((&*known.topics[0].topic, &known.topics[0].partitions[..]), (TOPIC, &[0][..]));

    let transactional_id = "t".to_owned();
    let end = EndTxnRequest { transactional_id, producer_id, producer_epoch, committed: true };
    assert_eq!(world.ask(3, end).await.error_code, 0);
    loop {
        let state = world.ask(0, request.clone()).await.transaction_states.remove(0);
        if state.transaction_state == "CompleteCommit" {
            assert!(state.topics.is_empty());
            break;
        }
        assert_eq!(state.transaction_state, "PrepareCommit");
        tokio::task::yield_now().await;
    }
    let response = world.ask(0, asked).await;
    let found = &response.topics[0].partitions[0].active_producers[0];
    assert_eq!((found.current_txn_start_offset, found.coordinator_epoch), (-1, 0));
}

#[tokio::test]
async fn transactions_are_listed_by_state_producer_age_and_pattern() {
    let mut world = World::new().await;
    let (first, _) = open_transaction(&mut world, "pay-1").await;
    let (_, _) = open_transaction(&mut world, "pay-2").await;
    let ids = |response: &ListTransactionsResponse| -> Vec<String> {
        assert_eq!(response.error_code, 0);
        response.transaction_states.iter().map(|it| it.transactional_id.clone()).collect()
    };
    let all = ListTransactionsRequest::default();
    assert_eq!(ids(&world.ask(0, all.clone()).await), ["pay-1", "pay-2"]);
    let states = |names: &[&str]| ListTransactionsRequest {
        state_filters: names.iter().map(|it| (*it).to_owned()).collect(),
        ..Default::default()
    };
    assert_eq!(ids(&world.ask(2, states(&["Empty", "Ongoing"])).await), ["pay-1", "pay-2"]);
    let response = world.ask(2, states(&["Dreaming"])).await;
    assert_eq!(
        (ids(&response).len(), &response.unknown_state_filters[..]),
        (0, &["Dreaming".to_owned()][..])
    );
    let by_producer = ListTransactionsRequest { producer_id_filters: vec![first], ..all.clone() };
    assert_eq!(ids(&world.ask(2, by_producer).await), ["pay-1"]);
    let older = |ms| ListTransactionsRequest { duration_filter: ms, ..Default::default() };
    assert_eq!(ids(&world.ask(1, older(3_600_000)).await), [""; 0]);
    let matching = |pattern: &str| ListTransactionsRequest {
        transactional_id_pattern: Some(pattern.to_owned()),
        ..Default::default()
    };
    for (pattern, want) in
        [("", 2), ("pay-.*", 2), ("pay", 0), (".*-2", 1), ("pay-1|x", 1), ("pay-[12]", 2)]
    {
        assert_eq!(ids(&world.ask(2, matching(pattern)).await).len(), want, "{pattern}");
    }
    for pattern in ["(", "a)(b", "(?=a)"] {
        let refused = world.ask(2, matching(pattern)).await;
        let code = ErrorCode::from_wire(refused.error_code);
        assert_eq!(code, ErrorCode::InvalidRegularExpression, "{pattern}");
    }
}

/// KAFKA-19999: a partition that has seen a newer epoch of the producer would refuse the marker for
/// ever. What was open there has ended, and so the transaction completes.
#[tokio::test]
async fn a_decided_transaction_completes_though_a_partition_knows_a_newer_epoch() {
    let mut world = World::new().await;
    let (producer_id, producer_epoch) = open_transaction(&mut world, "t").await;
    let handle = world.broker.api().partitions().get(TOPIC, PartitionIndex(0)).unwrap();
    let marker = EndTxnMarker {
        producer_id: ProducerId(producer_id),
        producer_epoch: ProducerEpoch(producer_epoch + 5),
        coordinator_epoch: CoordinatorEpoch(0),
        commit: false,
        transaction_version: 0,
    };
    handle.write_marker(marker).await.unwrap();
    let transactional_id = "t".to_owned();
    let end = EndTxnRequest { transactional_id, producer_id, producer_epoch, committed: false };
    assert_eq!(world.ask(3, end).await.error_code, 0);
    let request = DescribeTransactionsRequest { transactional_ids: vec!["t".to_owned()] };
    loop {
        let state = world.ask(0, request.clone()).await.transaction_states.remove(0);
        if state.transaction_state == "CompleteAbort" {
            break;
        }
        tokio::task::yield_now().await;
    }
}

fn hello(cluster_id: Option<&str>, node_id: i32) -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1.0".to_owned(),
        cluster_id: cluster_id.map(str::to_owned),
        node_id,
    }
}

#[tokio::test]
async fn a_client_that_means_another_cluster_or_broker_is_told_to_start_again() {
    let mut world = World::new().await;
    let cluster_id = world.broker.api().image().cluster_id.to_string();
    let again = ErrorCode::RebootstrapRequired;
    for (cluster_id, node_id, want) in [
        (None, -1, ErrorCode::None),
        (Some(&*cluster_id), 1, ErrorCode::None),
        (Some("another"), 1, again),
        (Some(&*cluster_id), 2, again),
    ] {
        let response = world.ask(5, hello(cluster_id, node_id)).await;
        assert_eq!(ErrorCode::from_wire(response.error_code), want, "{cluster_id:?} {node_id}");
        assert!(!response.api_keys.is_empty());
    }
}

#[tokio::test]
async fn the_features_of_a_release_are_final_each_at_one_level() {
    let mut world = World::new().await;
    for version in 3..=5 {
        let response = world.ask(version, hello(None, -1)).await;
        let told = response.finalized_features.iter();
        let told: Vec<_> =
            told.map(|it| (it.name.as_str(), it.min_version_level, it.max_version_level)).collect();
        let want =
            [("group.version", 1, 1), ("metadata.version", 30, 30), ("transaction.version", 2, 2)];
        assert_eq!(told, want);
        for supported in response.supported_features {
            let (_, _, level) = want.iter().find(|it| it.0 == supported.name).unwrap();
            assert!((supported.min_version..=supported.max_version).contains(level));
        }
    }
}

#[tokio::test]
async fn groups_whose_coordinator_assigns_can_be_given_up() {
    let mut world = World::new().await;
    let heartbeat = ConsumerGroupHeartbeatRequest {
        group_id: "g".to_owned(),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let unsupported = ErrorCode::UnsupportedVersion.to_wire();
    assert_ne!(world.ask(1, heartbeat.clone()).await.error_code, unsupported);
    let mut give_up = update(0, 2, false);
    give_up.feature_updates[0].feature = "group.version".to_owned();
    assert_eq!(world.ask(2, give_up).await.error_code, 0);
    assert_eq!(world.ask(1, heartbeat).await.error_code, unsupported);
    let group_ids = vec!["g".to_owned()];
    let request = ConsumerGroupDescribeRequest { group_ids, ..Default::default() };
    assert_eq!(world.ask(1, request).await.groups[0].error_code, unsupported);
}

#[tokio::test]
async fn every_version_of_every_api_that_is_advertised_is_answered() {
    let mut world = World::new().await;
    for request in one_of_each() {
        let key = request.api_key();
        // Without acknowledgement there is no answer; a member that joins waits for others.
        if !ROUTED.contains(&key) || key == ApiKey::Produce {
            continue;
        }
        for version in key.versions() {
            world.ask_any(key, version, request.clone()).await;
        }
    }
}

#[tokio::test]
async fn a_topic_that_is_created_again_has_another_id_and_its_leader_epochs_never_go_back() {
    let mut world = World::new().await;
    let facts = |world: &World| {
        let image = world.broker.api().image();
        let topic = image.topic(TOPIC).unwrap();
        (topic.id, topic.partitions[0].leader_epoch)
    };
    let (old, mut epoch) = facts(&world);
    assert!(old.is_some());
    for _ in 0..2 {
        world = world.restart().await;
        let (id, next) = facts(&world);
        assert_eq!(id, old);
        assert!(epoch < next, "what was lost unseen must be told apart");
        epoch = next;
    }
    let gone = vec![TopicRef::Name(TOPIC.to_owned())];
    let controller = world.broker.controller();
    controller.delete_topics(gone, Duration::from_secs(5)).await.unwrap()[0].clone().unwrap();
    world.create(TOPIC, &[]).await;
    let (new, _) = facts(&world);
    assert!(new.is_some() && new != old);
    for (id, want) in [(new, ErrorCode::None), (old, ErrorCode::UnknownTopicId)] {
        let topic = MetadataRequestTopic { topic_id: id, name: None };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let response = world.ask(12, request).await;
        assert_eq!(ErrorCode::from_wire(response.topics[0].error_code), want);
        let mut request = super::tests::produce("", plain(&["a"]).into_bytes(), -1);
        request.topic_data[0].topic_id = id;
        let response = world.ask(13, request).await;
        let code = response.responses[0].partition_responses[0].error_code;
        assert_eq!(ErrorCode::from_wire(code), want);
        let mut request = super::tests::fetch("", 0);
        request.topics[0].topic_id = id;
        let response = world.ask(13, request).await;
        let code = response.responses[0].partitions[0].error_code;
        assert_eq!(ErrorCode::from_wire(code), want);
    }
}

#[test]
fn where_topics_are_named_by_id_metadata_tells_the_ids() {
    let by_id = [(ApiKey::Produce, 13), (ApiKey::Fetch, 13), (ApiKey::OffsetCommit, 10)];
    for (key, version) in by_id {
        assert!(key.versions().contains(&version), "{key}");
    }
    assert!(ROUTED.contains(&ApiKey::Metadata));
    assert!((10..=13).all(|version| ApiKey::Metadata.versions().contains(&version)));
}

#[test]
fn what_goes_wrong_inside_is_told_as_something_to_try_again() {
    let key = || "k".to_owned();
    let unavailable = [
        Unavailable::NotCoordinator { key: key() },
        Unavailable::Loading { key: key() },
        Unavailable::NotAvailable { key: key() },
    ];
    let wait = Duration::from_secs(1);
    let controller =
        [ControllerError::Busy, ControllerError::TimedOut(wait), ControllerError::Stopped];
    let codes = unavailable.iter().map(Unavailable::code);
    for code in codes.chain(controller.iter().map(ControllerError::code)) {
        assert!(code.is_retriable(), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_outlives_its_time_is_aborted_and_readers_go_on() {
    let mut world = World::new().await;
    let (producer_id, producer_epoch) = open_transaction(&mut world, "t").await;
    world.produce(plain(&["after"])).await;
    assert_eq!(world.fetch(0, 1).await.last_stable_offset, 0);
    tokio::time::sleep(Duration::from_secs(61)).await;
    let found = loop {
        let found = world.fetch(0, 1).await;
        if found.last_stable_offset == found.high_watermark {
            break found;
        }
        tokio::task::yield_now().await;
    };
    let aborted: Vec<_> = found.aborted_transactions.unwrap();
    assert_eq!((aborted[0].producer_id, aborted[0].first_offset), (producer_id, 0));
    let transactional_id = "t".to_owned();
    let end = EndTxnRequest { transactional_id, producer_id, producer_epoch, committed: true };
    let fenced = world.ask(5, end).await;
    assert_eq!(ErrorCode::from_wire(fenced.error_code), ErrorCode::ProducerFenced);
}

/// KAFKA-19690: that it is fenced comes before what state its transaction is in: a client can begin
/// anew after the one, and must end after the other.
#[tokio::test]
async fn a_fenced_producer_is_told_that_it_is_fenced_whether_its_partition_is_verified_or_not() {
    let mut world = World::new().await;
    let (producer_id, _) = open_transaction(&mut world, "t").await;
    let init = InitProducerIdRequest {
        transactional_id: Some("t".to_owned()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    loop {
        let initialised = world.ask(4, init.clone()).await;
        if initialised.error_code == 0 {
            break assert!(0 < initialised.producer_epoch);
        }
        tokio::task::yield_now().await;
    }
    for version in [11, 12] {
        for partition in [0, 1] {
            let batch = batch_of(producer_id, 1, &["late"], true).into_bytes();
            let mut request = super::tests::produce(TOPIC, batch, -1);
            request.transactional_id = Some("t".to_owned());
            request.topic_data[0].partition_data[0].index = partition;
            let response = world.ask(version, request).await;
            let code = response.responses[0].partition_responses[0].error_code;
            assert_eq!(ErrorCode::from_wire(code), ErrorCode::InvalidProducerEpoch);
        }
    }
}

#[tokio::test]
async fn offsets_of_a_transaction_count_once_it_is_committed() {
    let mut world = World::new().await;
    let (producer_id, producer_epoch) = open_transaction(&mut world, "t").await;
    let group = || "g".to_owned();
    let names = vec![crate::metadata::OFFSETS_TOPIC.to_owned()];
    world.broker.controller().ensure_topics(names, Duration::from_secs(5)).await.unwrap();
    let transactional_id = || "t".to_owned();
    let add = AddOffsetsToTxnRequest {
        transactional_id: transactional_id(),
        producer_id,
        producer_epoch,
        group_id: group(),
    };
    assert_eq!(world.ask(3, add).await.error_code, 0);
    let partition = TxnOffsetCommitRequestPartition {
        committed_offset: 7,
        ..TxnOffsetCommitRequestPartition::default()
    };
    let topic = TxnOffsetCommitRequestTopic { name: TOPIC.to_owned(), partitions: vec![partition] };
    let commit = TxnOffsetCommitRequest {
        transactional_id: transactional_id(),
        group_id: group(),
        producer_id,
        producer_epoch,
        topics: vec![topic],
        ..TxnOffsetCommitRequest::default()
    };
    loop {
        let response = world.ask(3, commit.clone()).await;
        let code = ErrorCode::from_wire(response.topics[0].partitions[0].error_code);
        if code.is_ok() {
            break;
        }
        assert!(code.is_retriable(), "{code}");
        tokio::task::yield_now().await;
    }
    let asked = OffsetFetchRequestTopic { name: TOPIC.to_owned(), partition_indexes: vec![0] };
    let fetch = OffsetFetchRequest {
        group_id: group(),
        topics: Some(vec![asked]),
        require_stable: true,
        ..OffsetFetchRequest::default()
    };
    let pending = world.ask(7, fetch.clone()).await.topics.remove(0).partitions.remove(0);
    assert_eq!(ErrorCode::from_wire(pending.error_code), ErrorCode::UnstableOffsetCommit);
    let transactional_id = transactional_id();
    let end = EndTxnRequest { transactional_id, producer_id, producer_epoch, committed: true };
    assert_eq!(world.ask(3, end).await.error_code, 0);
    loop {
        let found = world.ask(7, fetch.clone()).await.topics.remove(0).partitions.remove(0);
        if found.error_code == 0 {
            assert_eq!(found.committed_offset, 7);
            break;
        }
        tokio::task::yield_now().await;
    }
}
