//! Corners of answers in which clients look for what Apache Kafka says: each was found by comparing
//! the two field by field, and is kept here, so that it is seen without Kafka. Shell.

use protocol::api::configs::{
    AlterConfigsResource, AlterableConfig, DescribeConfigsRequest, DescribeConfigsResource,
    IncrementalAlterConfigsRequest,
};
use protocol::api::consumer_group::{ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest};
use protocol::api::find_coordinator::FindCoordinatorRequest;
use protocol::api::group::{
    DeleteGroupsRequest, DescribeGroupsRequest, JoinGroupRequest, JoinGroupRequestProtocol,
    LeaveGroupRequest, ListGroupsRequest, MemberIdentity, SyncGroupRequest,
};
use protocol::api::group_offsets::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use protocol::api::metadata::{DescribeClusterRequest, MetadataRequest, MetadataRequestTopic};
use protocol::api::quotas::{DescribeClientQuotasRequest, QuotaComponent};
use protocol::api::topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsRequestTopic, TopicPartitionCursor,
};
use protocol::api::topics::{
    CreatableTopic, CreatePartitionsRequest, CreatePartitionsTopic, CreateTopicsRequest,
    DeleteTopicState, DeleteTopicsRequest,
};
use protocol::api::transactions::{DescribeTransactionsRequest, ListTransactionsRequest};
use protocol::api::txn::EndTxnRequest;
use protocol::api::versions::ApiVersionsRequest;

use super::*;

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_wire(number)
}

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() }
}

async fn coordinator(world: &mut World, key_type: i8) {
    loop {
        let request = FindCoordinatorRequest {
            key_type,
            coordinator_keys: vec!["group".to_owned()],
            ..Default::default()
        };
        if world.ask(4, request).await.coordinators[0].error_code == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_client_without_a_name_is_told_that_and_nothing_else() {
    let mut world = World::new().await;
    for name in ["", "under_score", "-edge", "no word"] {
        let request = ApiVersionsRequest {
            client_software_name: name.to_owned(),
            client_software_version: "1".to_owned(),
            ..Default::default()
        };
        let told = world.ask(4, request).await;
        let want = ErrorCode::InvalidRequest.to_wire();
        assert_eq!(told, ApiVersionsResponse { error_code: want, ..Default::default() }, "{name}");
    }
}

#[tokio::test]
async fn a_topic_asked_for_twice_is_told_once_and_its_id_says_more_than_its_name() {
    let mut world = World::new().await;
    world.create("other", &[]).await;
    let ask = |topics| MetadataRequest { topics: Some(topics), ..Default::default() };
    let told = world.ask(12, ask(vec![named(TOPIC), named("other"), named(TOPIC)])).await.topics;
    let names: Vec<_> = told.iter().filter_map(|it| it.name.as_deref()).collect();
    assert_eq!(names, [TOPIC, "other"]);
    let topic_id = told[0].topic_id;
    let both = MetadataRequestTopic { topic_id, ..named("other") };
    let told = world.ask(12, ask(vec![both])).await.topics.remove(0);
    assert_eq!(told.name.as_deref(), Some(TOPIC));
    let gone = MetadataRequestTopic { topic_id: TopicId([9; 16]), ..named(TOPIC) };
    let told = world.ask(12, ask(vec![gone])).await.topics.remove(0);
    assert_eq!(code(told.error_code), ErrorCode::UnknownTopicId);
}

#[tokio::test]
async fn what_a_request_names_twice_is_refused_once_and_left_alone() {
    let mut world = World::new().await;
    let twice = ErrorCode::InvalidRequest.to_wire();
    let topic = |name: &str| CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let topics = vec![topic("twice"), topic("once"), topic("twice")];
    let made = world.ask(7, CreateTopicsRequest { topics, ..Default::default() }).await.topics;
    let seen: Vec<_> = made.iter().map(|it| (it.name.as_str(), it.error_code)).collect();
    assert_eq!(seen, [("twice", twice), ("once", 0)]);
    let to = |count| CreatePartitionsTopic { name: TOPIC.to_owned(), count, assignments: None };
    let request = CreatePartitionsRequest {
        topics: vec![to(3), to(4)],
        timeout_ms: 1000,
        validate_only: false,
    };
    let grown = world.ask(3, request).await.results;
    assert_eq!((grown.len(), grown[0].error_code), (1, twice));
    let delete =
        |name: &str| DeleteTopicState { name: Some(name.to_owned()), ..Default::default() };
    let topics = vec![delete(TOPIC), delete("absent"), delete(TOPIC), delete("absent")];
    let request = DeleteTopicsRequest { topics, timeout_ms: 1000, ..Default::default() };
    let deleted = world.ask(6, request).await.responses;
    let codes: Vec<_> = deleted.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [twice, twice]);
    let told = world.ask(12, MetadataRequest { topics: None, ..Default::default() }).await.topics;
    let kept = told.iter().find(|it| it.name.as_deref() == Some(TOPIC));
    assert_eq!(kept.map(|it| it.partitions.len()), Some(2));
}

#[tokio::test]
async fn a_partition_whose_offset_is_asked_for_twice_is_refused_once() {
    let mut world = World::new().await;
    let at = |partition_index, timestamp| ListOffsetsPartition {
        partition_index,
        timestamp,
        ..Default::default()
    };
    let partitions = vec![at(0, -1), at(1, -1), at(0, -2)];
    let topics = vec![ListOffsetsTopic { name: TOPIC.to_owned(), partitions }];
    let told = world.ask(7, ListOffsetsRequest { topics, ..Default::default() }).await;
    let seen = told.topics[0].partitions.iter();
    let seen: Vec<_> = seen.map(|it| (it.partition_index, it.error_code, it.offset)).collect();
    assert_eq!(seen, [(0, ErrorCode::InvalidRequest.to_wire(), -1), (1, 0, 0)]);
}

#[tokio::test]
async fn no_epoch_ends_nowhere() {
    let mut world = World::new().await;
    let asked = OffsetForLeaderPartition { leader_epoch: -1, ..Default::default() };
    let topics = vec![OffsetForLeaderTopic { topic: TOPIC.to_owned(), partitions: vec![asked] }];
    let told = world.ask(4, OffsetForLeaderEpochRequest { topics, ..Default::default() }).await;
    let told = &told.topics[0].partitions[0];
    assert_eq!((told.error_code, told.leader_epoch, told.end_offset), (0, -1, -1));
}

#[tokio::test]
async fn a_description_that_is_refused_says_nothing_of_the_cluster_or_of_rights() {
    let mut world = World::new().await;
    let request = DescribeClusterRequest { endpoint_type: 2, ..Default::default() };
    let told = world.ask(1, request).await;
    assert_eq!(code(told.error_code), ErrorCode::MismatchedEndpointType);
    assert_eq!((told.endpoint_type, told.cluster_id.as_str()), (1, ""));
    for (topic_name, partition_index) in [("absent", 0), ("", 0), (TOPIC, -1)] {
        let topic_name = topic_name.to_owned();
        let request = DescribeTopicPartitionsRequest {
            topics: vec![DescribeTopicPartitionsRequestTopic { name: TOPIC.to_owned() }],
            cursor: Some(TopicPartitionCursor { topic_name, partition_index }),
            ..Default::default()
        };
        let told = world.ask(0, request).await.topics.remove(0);
        assert_eq!(code(told.error_code), ErrorCode::InvalidRequest);
        assert_eq!(told.topic_authorized_operations, i32::MIN);
    }
}

#[tokio::test]
async fn success_is_told_in_the_words_that_each_version_has_for_it() {
    let mut world = World::new().await;
    coordinator(&mut world, 0).await;
    let request = FindCoordinatorRequest { key: "group".to_owned(), ..Default::default() };
    assert_eq!(world.ask(3, request).await.error_message.as_deref(), Some("NONE"));
    let keys = vec!["group".to_owned()];
    let request = FindCoordinatorRequest { coordinator_keys: keys, ..Default::default() };
    let told = world.ask(4, request).await.coordinators.remove(0);
    assert_eq!(told.error_message.as_deref(), Some(""));
    let described = world.ask(1, DescribeClientQuotasRequest::default()).await;
    assert_eq!(described.error_message.as_deref(), Some(""));
    let described = describe(&mut world, 2, TOPIC, &["retention.ms"]).await;
    assert_eq!(described.error_message.as_deref(), Some(""));
}

#[tokio::test]
async fn a_quota_entity_without_a_type_is_no_question() {
    let mut world = World::new().await;
    let component = QuotaComponent { match_type: 2, match_name: None, ..Default::default() };
    let request = DescribeClientQuotasRequest { components: vec![component], strict: false };
    let told = world.ask(1, request).await;
    assert_eq!(code(told.error_code), ErrorCode::InvalidRequest);
}

async fn describe(
    world: &mut World,
    resource_type: i8,
    name: &str,
    keys: &[&str],
) -> protocol::api::configs::DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: name.to_owned(),
        configuration_keys: Some(keys.iter().map(|it| (*it).to_owned()).collect()),
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        ..Default::default()
    };
    world.ask(4, request).await.results.remove(0)
}

#[tokio::test]
async fn a_value_comes_from_no_coarser_units_default_and_from_no_setting_that_is_not_there() {
    let mut world = World::new().await;
    let told = describe(&mut world, 2, TOPIC, &["retention.ms", "segment.jitter.ms"]).await;
    for setting in &told.configs {
        assert_eq!(setting.config_source, 5, "{}", setting.name);
        assert!(setting.synonyms.is_empty(), "{setting:?}");
    }
    assert_eq!(told.configs.len(), 2);
}

#[tokio::test]
async fn settings_of_what_no_topic_is_called_are_refused_for_its_name() {
    let mut world = World::new().await;
    for (name, want) in [
        ("a/b", ErrorCode::InvalidTopicException),
        ("", ErrorCode::InvalidRequest),
        ("absent", ErrorCode::UnknownTopicOrPartition),
    ] {
        let config = AlterableConfig {
            name: "retention.ms".to_owned(),
            value: Some("1".to_owned()),
            ..Default::default()
        };
        let resource = AlterConfigsResource {
            resource_type: 2,
            resource_name: name.to_owned(),
            configs: vec![config],
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let told = world.ask(1, request).await.responses.remove(0);
        assert_eq!(code(told.error_code), want, "{name:?}");
    }
}

fn join(member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "group".to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"what it wants"),
        }],
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_classic_group_tells_its_protocol_once_it_is_agreed_upon() {
    let mut world = World::new().await;
    coordinator(&mut world, 0).await;
    let refused = world.ask(5, JoinGroupRequest { session_timeout_ms: 1, ..join("") }).await;
    assert_eq!(code(refused.error_code), ErrorCode::InvalidSessionTimeout);
    assert_eq!(refused.generation_id, -1);
    let joined = world.ask(3, join("")).await;
    assert_eq!(joined.error_code, 0);
    let ask = |asks| DescribeGroupsRequest {
        groups: vec!["group".to_owned()],
        include_authorized_operations: asks,
    };
    let told = world.ask(5, ask(false)).await.groups.remove(0);
    assert_eq!(
        (told.group_state.as_str(), told.protocol_data.as_str()),
        ("CompletingRebalance", "")
    );
    assert!(told.members[0].member_metadata.is_empty());
    assert_eq!(told.authorized_operations, i32::MIN);
    let sync = SyncGroupRequest {
        group_id: "group".to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    let nameless = world.ask(5, sync.clone()).await;
    assert_eq!(code(nameless.error_code), ErrorCode::InconsistentGroupProtocol);
    assert_eq!(world.ask(3, sync).await.error_code, 0);
    let told = world.ask(5, ask(true)).await.groups.remove(0);
    assert_eq!((told.group_state.as_str(), told.protocol_data.as_str()), ("Stable", "range"));
    assert_eq!(&*told.members[0].member_metadata, b"what it wants");
    // Read, delete, describe, describe configs, alter configs.
    assert_eq!(told.authorized_operations, 3400);
    let listed = world.ask(5, ListGroupsRequest::default()).await.groups;
    assert_eq!(listed[0].group_type, "classic");
}

#[tokio::test(start_paused = true)]
async fn what_has_no_name_is_no_group() {
    let mut world = World::new().await;
    coordinator(&mut world, 0).await;
    let member = MemberIdentity { member_id: "who".to_owned(), ..Default::default() };
    let told =
        world.ask(5, LeaveGroupRequest { members: vec![member], ..Default::default() }).await;
    assert_eq!((code(told.error_code), told.members.len()), (ErrorCode::InvalidGroupId, 0));
    let groups_names = vec![String::new(), String::new()];
    let told = world.ask(2, DeleteGroupsRequest { groups_names }).await.results;
    assert_eq!((told.len(), code(told[0].error_code)), (1, ErrorCode::GroupIdNotFound));
}

#[tokio::test(start_paused = true)]
async fn offsets_are_told_in_the_order_of_the_request_and_topics_without_partitions_too() {
    let mut world = World::new().await;
    coordinator(&mut world, 0).await;
    let partition = OffsetCommitRequestPartition { committed_offset: 7, ..Default::default() };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.to_owned(),
        partitions: vec![partition],
        ..Default::default()
    };
    let commit = OffsetCommitRequest {
        group_id: "group".to_owned(),
        topics: vec![topic],
        ..Default::default()
    };
    let told = world.ask(8, commit.clone()).await;
    assert_eq!(told.topics[0].partitions[0].error_code, 0);
    let asked = |name: &str, indexes: &[i32]| OffsetFetchRequestTopics {
        name: name.to_owned(),
        partition_indexes: indexes.to_vec(),
        ..Default::default()
    };
    let topics = vec![asked("z", &[1, 0]), asked(TOPIC, &[1, 0]), asked("a", &[])];
    let group = OffsetFetchRequestGroup {
        group_id: "group".to_owned(),
        topics: Some(topics),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let told = world.ask(8, request).await.groups.remove(0).topics;
    let seen: Vec<_> = told
        .iter()
        .map(|topic| {
            let offsets = topic.partitions.iter();
            let offsets = offsets.map(|it| (it.partition_index, it.committed_offset));
            (topic.name.as_str(), offsets.collect::<Vec<_>>())
        })
        .collect();
    let want = [("z", vec![(1, -1), (0, -1)]), (TOPIC, vec![(1, -1), (0, 7)]), ("a", vec![])];
    assert_eq!(seen, want);
    // Whose offsets are kept is a group, of which a stranger is no member.
    for version in [8, 9] {
        let stranger = OffsetCommitRequest {
            member_id: "who".to_owned(),
            generation_id_or_member_epoch: 1,
            ..commit.clone()
        };
        let told = world.ask(version, stranger).await.topics.remove(0).partitions.remove(0);
        assert_eq!(code(told.error_code), ErrorCode::UnknownMemberId, "version {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_left_has_no_heartbeat_to_send_and_one_without_a_pattern_an_empty_one() {
    let mut world = World::new().await;
    coordinator(&mut world, 0).await;
    let beat = |member_epoch| ConsumerGroupHeartbeatRequest {
        group_id: "modern".to_owned(),
        member_id: "m".to_owned(),
        member_epoch,
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(vec![TOPIC.to_owned()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let joined = loop {
        let joined = world.ask(1, beat(0)).await;
        if joined.error_code == 0 {
            break joined;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(joined.heartbeat_interval_ms, 5000);
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec!["modern".to_owned()],
        include_authorized_operations: true,
    };
    let told = world.ask(1, request).await.groups.remove(0);
    assert_eq!(told.authorized_operations, 3400);
    assert_eq!(told.members[0].subscribed_topic_regex.as_deref(), Some(""));
    let left = world.ask(1, beat(-1)).await;
    assert_eq!((left.error_code, left.heartbeat_interval_ms), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_transactional_id_without_characters_is_no_request() {
    let mut world = World::new().await;
    coordinator(&mut world, 1).await;
    let request = EndTxnRequest { producer_id: 5, ..Default::default() };
    assert_eq!(code(world.ask(4, request).await.error_code), ErrorCode::InvalidRequest);
    let transactional_ids = vec![String::new()];
    let told = world.ask(0, DescribeTransactionsRequest { transactional_ids }).await;
    assert_eq!(code(told.transaction_states[0].error_code), ErrorCode::InvalidRequest);
    let state_filters = ["Dead", "PrepareEpochFence", "Asleep"].map(str::to_owned).to_vec();
    let request = ListTransactionsRequest { state_filters, ..Default::default() };
    assert_eq!(world.ask(2, request).await.unknown_state_filters, ["Asleep"]);
}

#[tokio::test]
async fn a_log_directory_is_told_by_its_whole_path() {
    let mut world = World::new().await;
    let told = world.ask(4, DescribeLogDirsRequest { topics: None }).await.results.remove(0);
    assert!(std::path::Path::new(&told.log_dir).is_absolute(), "{}", told.log_dir);
}

#[tokio::test]
async fn of_a_partition_that_is_not_there_no_transactions_were_aborted() {
    let mut world = World::new().await;
    for (request, want) in [(fetch("absent", 0), Some(vec![])), (fetch(TOPIC, 9), None)] {
        let told = world.ask(12, request).await.responses.remove(0).partitions.remove(0);
        assert_ne!(told.error_code, 0);
        assert_eq!(told.aborted_transactions, want);
    }
}
