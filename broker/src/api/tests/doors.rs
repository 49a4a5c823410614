//! What has worked against other brokers, tried at ours: each attempt ends where it must. Shell.

use std::collections::BTreeSet;

use protocol::api::consumer_group::{ConsumerGroupHeartbeatRequest, HeartbeatAssignment};
use protocol::api::metadata::{MetadataRequest, MetadataRequestTopic};
use protocol::api::producer_id::InitProducerIdRequest;
use protocol::api::topic_partitions::{DescribeTopicPartitionsRequest, TopicPartitionCursor};
use protocol::api::txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTransaction, WritableTxnMarker,
    WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};

use super::super::operator_tests::open_transaction;
use super::*;
use crate::auth::Principal;
use crate::metadata::{
    Acl, AclFilter, AclOperation, PatternFilter, PatternType, Permission, ResourceType,
};

const STANDARD: (&str, &str) =
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");

/// Lets everybody do this with all that has this name.
async fn allow(world: &World, operation: AclOperation, resource: ResourceType, name: &str) {
    let acl = Acl {
        resource,
        pattern: PatternType::Literal,
        name: name.into(),
        principal: "User:*".into(),
        host: "*".into(),
        operation,
        permission: Permission::Allow,
    };
    let created = world.broker.controller().create_acls(vec![acl]).await.unwrap();
    assert_eq!(created, [Ok(())]);
}

/// Takes back all that was allowed with resources of this type.
async fn forbid(world: &World, resource: ResourceType) {
    let filter = AclFilter {
        resource: Some(resource),
        pattern: PatternFilter::Any,
        name: None,
        principal: None,
        host: None,
        operation: None,
        permission: None,
    };
    world.broker.controller().delete_acls(vec![filter]).await.unwrap();
}

/// What is for brokers among themselves: fetching as a replica in either form, writing a marker,
/// and asking for several transactions at once.
async fn codes_among_brokers(world: &mut World) -> [ErrorCode; 4] {
    let id = world.broker.api().0.metadata.image().topic(TOPIC).unwrap().id;
    let mut codes = Vec::new();
    for version in [12, 15] {
        let mut request = fetch(TOPIC, 0);
        request.topics[0].topic_id = id;
        match version {
            12 => request.replica_id = 2,
            _ => request.replica_state.replica_id = 2,
        }
        let fetched = world.ask(version, request).await;
        codes.push(fetched.responses[0].partitions[0].error_code);
    }
    let topic = WritableTxnMarkerTopic { name: TOPIC.to_owned(), partition_indexes: vec![0] };
    let marker = WritableTxnMarker { producer_id: 7, topics: vec![topic], ..Default::default() };
    let written = world.ask(1, WriteTxnMarkersRequest { markers: vec![marker] }).await;
    codes.push(written.markers[0].topics[0].partitions[0].error_code);
    let verify = AddPartitionsToTxnTransaction {
        transactional_id: "t".to_owned(),
        verify_only: true,
        ..Default::default()
    };
    let add = AddPartitionsToTxnRequest { transactions: vec![verify], ..Default::default() };
    codes.push(world.ask(4, add).await.error_code);
    codes.into_iter().map(ErrorCode::from_wire).collect::<Vec<_>>().try_into().unwrap()
}

/// CVE-2018-1288.
#[tokio::test]
async fn who_says_it_is_a_broker_must_be_allowed_to_be_one() {
    use ErrorCode::{ClusterAuthorizationFailed, TopicAuthorizationFailed};
    let mut world = World::with(SimDisk::new(1), &[STANDARD]).await;
    world.create(TOPIC, &[]).await;
    for resource in [ResourceType::Topic, ResourceType::Group, ResourceType::TransactionalId] {
        allow(&world, AclOperation::All, resource, "*").await;
    }
    assert_eq!(world.fetch(0, 0).await.error_code, 0, "a consumer may");
    let denied = [
        TopicAuthorizationFailed,
        TopicAuthorizationFailed,
        ClusterAuthorizationFailed,
        ClusterAuthorizationFailed,
    ];
    assert_eq!(codes_among_brokers(&mut world).await, denied);
    forbid(&world, ResourceType::Topic).await;
    allow(&world, AclOperation::ClusterAction, ResourceType::Cluster, "kafka-cluster").await;
    assert_eq!(codes_among_brokers(&mut world).await, [ErrorCode::None; 4]);
    assert_eq!(world.fetch(0, 0).await.error_code, TopicAuthorizationFailed.to_wire());
}

/// CVE-2018-17196: what a batch says of its transaction counts, not what its request does.
#[tokio::test]
async fn a_batch_is_part_of_a_transaction_only_by_the_right_to_it() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD]).await;
    world.create(TOPIC, &[]).await;
    allow(&world, AclOperation::All, ResourceType::Topic, "*").await;
    allow(&world, AclOperation::Write, ResourceType::TransactionalId, "*").await;
    let (victim, _) = open_transaction(&mut world, "theirs").await;
    let mine = InitProducerIdRequest {
        transactional_id: Some("mine".to_owned()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    while world.ask(4, mine.clone()).await.error_code != 0 {
        tokio::task::yield_now().await;
    }
    forbid(&world, ResourceType::TransactionalId).await;
    allow(&world, AclOperation::Write, ResourceType::TransactionalId, "mine").await;
    let end = world.fetch(0, 0).await.high_watermark;
    for (transactional_id, partition, want) in [
        (None, 0, ErrorCode::InvalidRequest),
        (Some("theirs"), 0, ErrorCode::TransactionalIdAuthorizationFailed),
        // The coordinator is asked whose producer it is, whether something of theirs is open or not.
        (Some("mine"), 0, ErrorCode::InvalidProducerIdMapping),
        (Some("mine"), 1, ErrorCode::InvalidProducerIdMapping),
    ] {
        for version in [10, 11, 12] {
            let batch = batch_of(victim, 1, &["forged"], true);
            let mut request = produce(TOPIC, batch.into_bytes(), -1);
            request.topic_data[0].partition_data[0].index = partition;
            request.transactional_id = transactional_id.map(str::to_owned);
            let told = world.ask(version, request).await;
            let code = told.responses[0].partition_responses[0].error_code;
            let case = format!("{transactional_id:?} version {version}");
            assert_eq!(ErrorCode::from_wire(code), want, "{case}");
        }
    }
    assert_eq!(world.fetch(0, 0).await.high_watermark, end);
}

/// What is not allowed costs nothing: neither reading a batch, nor unfolding it.
#[tokio::test]
async fn who_may_not_write_is_refused_before_the_batch_is_looked_into() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD]).await;
    world.create(TOPIC, &[]).await;
    let garbage = || produce(TOPIC, Bytes::from_static(&[7; 100]), -1);
    let denied = world.ask(11, garbage()).await;
    let code = |it: &protocol::api::produce::ProduceResponse| {
        ErrorCode::from_wire(it.responses[0].partition_responses[0].error_code)
    };
    assert_eq!(code(&denied), ErrorCode::TopicAuthorizationFailed);
    allow(&world, AclOperation::Write, ResourceType::Topic, TOPIC).await;
    let read = world.ask(11, garbage()).await;
    assert_ne!(code(&read), ErrorCode::TopicAuthorizationFailed, "now it is looked into");
    assert_ne!(code(&read), ErrorCode::None);
}

/// A name that may be seen, beside the id of a topic that may not be, and the reverse.
#[tokio::test]
async fn a_topic_asked_for_by_id_is_judged_by_that_whatever_name_comes_along() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD]).await;
    world.create(TOPIC, &[]).await;
    world.create("secret", &[]).await;
    allow(&world, AclOperation::Describe, ResourceType::Topic, TOPIC).await;
    let image = world.broker.api().0.metadata.image();
    let [open, hidden] = [TOPIC, "secret"].map(|name| image.topic(name).unwrap().id);
    let denied = ErrorCode::TopicAuthorizationFailed;
    for version in [10, 12, 13] {
        for (topic_id, name, want) in [
            (hidden, Some(TOPIC), denied),
            (hidden, Some("other"), denied),
            (hidden, None, denied),
            (open, Some("secret"), ErrorCode::None),
            (open, None, ErrorCode::None),
            (TopicId::ZERO, Some("secret"), denied),
            (TopicId::ZERO, Some(TOPIC), ErrorCode::None),
        ] {
            let case = format!("version {version} {topic_id:?} {name:?}");
            let topic = MetadataRequestTopic { topic_id, name: name.map(str::to_owned) };
            let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
            let told = world.ask(version, request).await.topics.remove(0);
            assert_eq!(ErrorCode::from_wire(told.error_code), want, "{case}");
            assert_eq!(told.partitions.is_empty(), want == denied, "{case}");
            if want == denied {
                let said = name.or((version < 12).then_some(""));
                assert_eq!(told.name.as_deref(), said, "{case}");
            } else {
                assert_eq!(told.name.as_deref(), Some(TOPIC), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn pages_of_topics_neither_hold_nor_go_on_with_what_may_not_be_seen() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD]).await;
    for name in ["a-secret", "b-open", "c-secret", "d-secret", "e-open", "f-secret"] {
        world.create(name, &[]).await;
    }
    for name in ["b-open", "e-open"] {
        allow(&world, AclOperation::Describe, ResourceType::Topic, name).await;
    }
    for from in [None, Some("a-secret"), Some("b-open")] {
        let cursor =
            |name: &str| TopicPartitionCursor { topic_name: name.to_owned(), partition_index: 0 };
        let mut cursor = from.map(cursor);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let request = DescribeTopicPartitionsRequest {
                response_partition_limit: 1,
                cursor: cursor.take(),
                ..Default::default()
            };
            let page = world.ask(0, request).await;
            let indices = page.topics.iter().flat_map(|topic| {
                let name = topic.name.clone().unwrap();
                topic.partitions.iter().map(move |it| (name.clone(), it.partition_index))
            });
            let told: Vec<_> = indices.collect();
            assert_eq!(told.len(), 1, "no page is empty: {seen:?}");
            seen.extend(told);
            let next = page.next_cursor.as_ref().map(|it| it.topic_name.as_str());
            assert!(next.is_none_or(|name| name.ends_with("open")), "{next:?}");
            cursor = page.next_cursor;
        }
        assert_eq!(cursor, None);
        let want = ["b-open", "e-open"].map(|name| [0, 1].map(|index| (name.to_owned(), index)));
        assert_eq!(seen, want.concat(), "{from:?}");
    }
}

#[tokio::test]
async fn an_expression_of_a_group_finds_no_topic_that_may_not_be_seen() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD]).await;
    for name in ["t-open", "t-secret"] {
        world.create(name, &[]).await;
    }
    allow(&world, AclOperation::Read, ResourceType::Group, "g").await;
    allow(&world, AclOperation::Describe, ResourceType::Topic, "t-open").await;
    world.coordinator("g", 0).await;
    let image = world.broker.api().0.metadata.image();
    let [open, hidden] = ["t-open", "t-secret"].map(|name| image.topic(name).unwrap().id);
    let join = ConsumerGroupHeartbeatRequest {
        group_id: "g".to_owned(),
        member_id: "m".to_owned(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_regex: Some("t-[a-z]+".to_owned()),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let assigned = loop {
        let told = world.ask(1, join.clone()).await;
        let code = ErrorCode::from_wire(told.error_code);
        if code.is_ok() {
            break told.assignment.unwrap();
        }
        assert!(code.is_retriable(), "{code}: {:?}", told.error_message);
        tokio::task::yield_now().await;
    };
    let ids = |assigned: &HeartbeatAssignment| {
        assigned.topic_partitions.iter().map(|it| it.topic_id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&assigned), [open]);
    // Who joins anew is told all that it has, once what is allowed has reached the coordinator.
    allow(&world, AclOperation::Describe, ResourceType::Topic, "t-secret").await;
    let want = BTreeSet::from([open, hidden]);
    loop {
        let told = world.ask(1, join.clone()).await.assignment.unwrap();
        if ids(&told).into_iter().collect::<BTreeSet<_>>() == want {
            break;
        }
        tokio::task::yield_now().await;
    }
    forbid(&world, ResourceType::Topic).await;
    while !ids(&world.ask(1, join.clone()).await.assignment.unwrap()).is_empty() {
        tokio::task::yield_now().await;
    }
}

/// Serves a fetch of somebody who is authenticated.
async fn fetch_as(world: &World, user: &str, body: FetchRequest) -> FetchResponse {
    let session = Session { principal: Principal::user(user), ..session("PLAINTEXT") };
    let context = Context {
        version: 12,
        client_id: None,
        session: Arc::new(session),
        now: protocol::time::Now::default(),
        takes_files: false,
    };
    let answer = match world.broker.api().serve(Request { context, body: body.into() }) {
        Serving::Ready(answer) => answer,
        Serving::Later(later) | Serving::Alone(later) => later.await,
    };
    let (Answer::Response(AnyResponse::Fetch(told)) | Answer::Records(AnyResponse::Fetch(told), _)) =
        answer
    else {
        panic!("{answer:?}")
    };
    told
}

#[tokio::test]
async fn a_session_of_fetches_is_neither_continued_nor_closed_by_somebody_else() {
    let world = World::new().await;
    let opened = fetch_as(&world, "alice", FetchRequest { session_epoch: 0, ..fetch(TOPIC, 0) });
    let session_id = opened.await.session_id;
    assert_ne!(session_id, 0);
    let goes_on = |session_epoch| FetchRequest {
        session_id,
        session_epoch,
        topics: Vec::new(),
        ..fetch(TOPIC, 0)
    };
    let unknown = ErrorCode::FetchSessionIdNotFound.to_wire();
    let told = fetch_as(&world, "mallory", goes_on(1)).await;
    assert_eq!((told.error_code, told.responses.len()), (unknown, 0));
    for closing in [-1, 0] {
        assert_eq!(fetch_as(&world, "mallory", goes_on(closing)).await.responses, []);
    }
    assert_eq!(fetch_as(&world, "alice", goes_on(1)).await.error_code, 0);
    assert_eq!(fetch_as(&world, "alice", goes_on(-1)).await.error_code, 0);
    assert_eq!(fetch_as(&world, "alice", goes_on(2)).await.error_code, unknown);
}

/// What brokers, controllers and voters of Kafka say to one another; and what collects metrics of
/// clients, which unfolded without a bound (CVE-2026-111073).
#[tokio::test]
async fn what_is_for_controllers_voters_and_collectors_is_neither_advertised_nor_answered() {
    const LEADERSHIP: std::ops::RangeInclusive<i16> = 4..=7;
    const VOTES: [i16; 4] = [52, 53, 54, 59];
    const CONTROLLER: [i16; 7] = [56, 58, 62, 63, 67, 70, 73];
    const TELEMETRY: [i16; 2] = [71, 72];
    const VOTERS: [i16; 3] = [80, 81, 82];
    let mut world = World::new().await;
    let request = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1.0".to_owned(),
        ..Default::default()
    };
    let advertised = world.ask(3, request).await.api_keys;
    assert!(advertised.iter().any(|it| it.api_key == ApiKey::Produce.to_wire()));
    let all = LEADERSHIP.chain(VOTES).chain(CONTROLLER).chain(TELEMETRY).chain(VOTERS);
    for key in all {
        assert!(advertised.iter().all(|it| it.api_key != key), "{key} is advertised");
        let mut stranger = world.network.connect(&Endpoint::new("broker", 1)).await.unwrap();
        // Key, version, correlation id, no client id, no tags.
        let header = [&key.to_be_bytes()[..], &[0, 0], &[0, 0, 0, 7], &[0xff, 0xff], &[0]].concat();
        stranger.write_all(&[&[0, 0, 0, 11][..], &header].concat()).await.unwrap();
        assert!(stranger.read_i32().await.is_err(), "{key} is answered");
    }
}
