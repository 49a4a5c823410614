//! Access control lists from end to end: created over the wire, heeded by what they are about. Shell.

use protocol::api::acls::{
    AclCreation, AclFilter, CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest,
};
use protocol::api::metadata::{MetadataRequest, MetadataRequestTopic};

use super::*;

const STANDARD: (&str, &str) =
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
const LAX: (&str, &str) = ("allow.everyone.if.no.acl.found", "true");

/// Of the wire: a topic, its name as it is, everything, denied.
const TOPIC_TYPE: i8 = 2;
const LITERAL: i8 = 3;
const ALL: i8 = 2;
const DENY: i8 = 2;
const ANY: i8 = 1;

fn denial() -> AclCreation {
    AclCreation {
        resource_type: TOPIC_TYPE,
        resource_name: TOPIC.to_owned(),
        resource_pattern_type: LITERAL,
        principal: "User:*".to_owned(),
        host: "*".to_owned(),
        operation: ALL,
        permission_type: DENY,
    }
}

fn describe() -> DescribeAclsRequest {
    DescribeAclsRequest {
        resource_type: ANY,
        resource_name: None,
        pattern_type: ANY,
        principal: None,
        host: None,
        operation: ANY,
        permission_type: ANY,
    }
}

async fn create(world: &mut World, acl: AclCreation) -> i16 {
    let request = CreateAclsRequest { creations: vec![acl] };
    world.ask(3, request).await.results.remove(0).error_code
}

/// The codes of producing, fetching, and describing the topic, and how many topics are listed.
async fn codes(world: &mut World) -> ([i16; 3], usize) {
    let produced = world.produce(plain(&["a"])).await.error_code;
    let fetched = world.fetch(0, 0).await.error_code;
    let topic = MetadataRequestTopic { name: Some(TOPIC.to_owned()), ..Default::default() };
    let one = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let described = world.ask(12, one).await.topics.remove(0).error_code;
    let all = MetadataRequest { topics: None, ..Default::default() };
    ([produced, fetched, described], world.ask(12, all).await.topics.len())
}

fn denied() -> i16 {
    ErrorCode::TopicAuthorizationFailed.to_wire()
}

#[tokio::test]
async fn what_is_denied_is_denied_until_the_entry_is_deleted_also_after_a_restart() {
    let settings = [STANDARD, LAX];
    let mut world = World::with(SimDisk::new(1), &settings).await;
    world.create(TOPIC, &[]).await;
    world.create("other", &[]).await;
    assert_eq!(codes(&mut world).await, ([0; 3], 2));
    assert_eq!(create(&mut world, denial()).await, 0);
    assert_eq!(create(&mut world, denial()).await, 0, "there already");
    assert_eq!(codes(&mut world).await, ([denied(); 3], 1));

    let World { disk, broker, client, .. } = world;
    drop(client);
    broker.shutdown().await.unwrap();
    let mut world = World::with(disk, &settings).await;
    assert_eq!(codes(&mut world).await, ([denied(); 3], 1));
    let described = world.ask(3, describe()).await;
    assert_eq!(described.resources.len(), 1);
    assert_eq!(described.resources[0].resource_name, TOPIC);
    assert_eq!(described.resources[0].acls.len(), 1);

    let filter = AclFilter {
        resource_type: TOPIC_TYPE,
        resource_name: Some(TOPIC.to_owned()),
        pattern_type: LITERAL,
        principal: None,
        host: None,
        operation: ANY,
        permission_type: ANY,
    };
    let deleted = world.ask(3, DeleteAclsRequest { filters: vec![filter] }).await;
    assert_eq!(deleted.filter_results[0].matching_acls.len(), 1);
    assert_eq!(codes(&mut world).await, ([0; 3], 2));
    assert_eq!(world.ask(3, describe()).await.resources, []);
}

#[tokio::test]
async fn a_session_of_fetches_is_asked_at_each_of_them() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD, LAX]).await;
    world.create(TOPIC, &[]).await;
    let open = FetchRequest { session_epoch: 0, ..fetch(TOPIC, 0) };
    let opened = world.ask(12, open).await;
    assert_ne!(opened.session_id, 0);
    assert_eq!(create(&mut world, denial()).await, 0);
    let next = FetchRequest {
        session_id: opened.session_id,
        session_epoch: 1,
        topics: Vec::new(),
        ..fetch(TOPIC, 0)
    };
    let told = world.ask(12, next).await;
    assert_eq!(told.responses[0].partitions[0].error_code, denied());
}

#[tokio::test]
async fn entries_that_say_nothing_are_refused_and_all_are_without_an_authorizer() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD, LAX]).await;
    let invalid = ErrorCode::InvalidRequest.to_wire();
    let wrong = [
        AclCreation { resource_name: String::new(), ..denial() },
        AclCreation { principal: "bob".to_owned(), ..denial() },
        AclCreation { resource_type: 4, ..denial() },
        AclCreation { operation: ANY, ..denial() },
        AclCreation { resource_pattern_type: ANY, ..denial() },
        AclCreation { permission_type: 0, ..denial() },
    ];
    for acl in wrong {
        assert_eq!(create(&mut world, acl.clone()).await, invalid, "{acl:?}");
    }
    assert_eq!(world.ask(3, describe()).await.resources, []);

    let disabled = ErrorCode::SecurityDisabled.to_wire();
    let mut world = World::on(SimDisk::new(2)).await;
    assert_eq!(create(&mut world, denial()).await, disabled);
    assert_eq!(world.ask(3, describe()).await.error_code, disabled);
    let delete = DeleteAclsRequest { filters: vec![AclFilter::default()] };
    assert_eq!(world.ask(3, delete).await.filter_results[0].error_code, disabled);
}
