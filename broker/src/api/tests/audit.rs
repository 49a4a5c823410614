//! The audit trail of requests: one event for each denial and each change, and for nothing else.
//! Shell.

use std::sync::Mutex;

use protocol::api::acls::{AclCreation, AclFilter, CreateAclsRequest, DeleteAclsRequest};
use protocol::api::brokers::UnregisterBrokerRequest;
use protocol::api::configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    ReplacedConfig, ReplacedConfigsResource,
};
use protocol::api::elections::{ElectLeadersRequest, ElectLeadersRequestTopic};
use protocol::api::features::{FeatureUpdateKey, UpdateFeaturesRequest};
use protocol::api::fetch::ReplicaState;
use protocol::api::find_coordinator::FindCoordinatorRequest;
use protocol::api::group::{DeleteGroupsRequest, HeartbeatRequest, ListGroupsRequest};
use protocol::api::metadata::{MetadataRequest, MetadataRequestTopic};
use protocol::api::quotas::{AlterClientQuotasRequest, AlterQuotaEntry, QuotaOp};
use protocol::api::reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use protocol::api::scram::{AlterUserScramCredentialsRequest, ScramCredentialUpsertion};
use protocol::api::topics::{
    CreatableTopic, CreatePartitionsRequest, CreatePartitionsTopic, CreateTopicsRequest,
    DeleteTopicsRequest,
};
use protocol::api::txn::{WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest};
use serde_json::Value;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::LevelFilter;

use super::*;

const STANDARD: (&str, &str) =
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
const LAX: (&str, &str) = ("allow.everyone.if.no.acl.found", "true");

/// Where logs go.
#[derive(Clone)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged while it lives, as `--log-format json` writes it.
pub(crate) struct Logged {
    written: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Logged {
    /// Logs of this thread, of this level and those above it.
    pub(crate) fn from(level: LevelFilter) -> Self {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink(written.clone());
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(move || sink.clone())
            .json()
            .flatten_event(true)
            .finish();
        Self { written, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
    }

    /// The events of the audit trail since this was asked last.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = String::from_utf8(std::mem::take(&mut *self.written.lock().unwrap())).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|it| it["target"] == "audit").collect()
    }

    /// The one event since this was asked last, in the fields that matter here.
    fn one(&self) -> [String; 6] {
        let events = self.events();
        assert_eq!(events.len(), 1, "{events:#?}");
        short(&events[0])
    }
}

fn short(event: &Value) -> [String; 6] {
    ["event", "outcome", "api", "resource_type", "resource_name", "operation"]
        .map(|field| event[field].as_str().unwrap().to_owned())
}

fn creatable(name: &str) -> CreateTopicsRequest {
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    CreateTopicsRequest { topics: vec![topic], ..Default::default() }
}

#[tokio::test]
async fn each_denial_is_one_event_with_what_was_denied() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD]).await;
    world.create(TOPIC, &[]).await;
    let logged = Logged::from(LevelFilter::INFO);
    let denied = async |api: &str, target: [&str; 3], logged: &Logged| {
        let want = ["authorization", "denied", api, target[0], target[1], target[2]];
        assert_eq!(logged.one(), want);
    };
    assert_eq!(world.produce(plain(&["a"])).await.error_code, 29);
    denied("Produce", ["TOPIC", TOPIC, "WRITE"], &logged).await;
    assert_eq!(world.fetch(0, 0).await.error_code, 29);
    denied("Fetch", ["TOPIC", TOPIC, "READ"], &logged).await;
    let topic = MetadataRequestTopic { name: Some("new".to_owned()), ..Default::default() };
    let asked = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    world.ask(12, asked).await;
    denied("Metadata", ["TOPIC", "new", "DESCRIBE"], &logged).await;
    let heartbeat = HeartbeatRequest { group_id: "g".to_owned(), ..Default::default() };
    assert_eq!(world.ask(4, heartbeat).await.error_code, 30);
    denied("Heartbeat", ["GROUP", "g", "READ"], &logged).await;
    let find = FindCoordinatorRequest {
        key_type: 1,
        coordinator_keys: vec!["x".to_owned()],
        ..Default::default()
    };
    world.ask(4, find).await;
    denied("FindCoordinator", ["TRANSACTIONAL_ID", "x", "DESCRIBE"], &logged).await;
    world.ask(7, creatable("new")).await;
    denied("CreateTopics", ["TOPIC", "new", "CREATE"], &logged).await;
    world.ask(0, UnregisterBrokerRequest::default()).await;
    denied("UnregisterBroker", ["CLUSTER", "kafka-cluster", "ALTER"], &logged).await;
    world.ask(1, WriteTxnMarkersRequest::default()).await;
    denied("WriteTxnMarkers", ["CLUSTER", "kafka-cluster", "CLUSTER_ACTION"], &logged).await;
    let follower = FetchRequest { replica_id: 2, ..fetch(TOPIC, 0) };
    let told = world.ask(12, follower).await;
    assert_eq!(told.responses[0].partitions[0].error_code, 29);
    denied("Fetch", ["CLUSTER", "kafka-cluster", "CLUSTER_ACTION"], &logged).await;

    // What is left out of lists was not asked for.
    let all = MetadataRequest { topics: None, ..Default::default() };
    world.ask(12, all).await;
    world.ask(4, ListGroupsRequest::default()).await;
    assert!(logged.events().is_empty());
}

#[tokio::test]
async fn an_event_has_all_fields_and_who_and_where_among_them() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD]).await;
    let logged = Logged::from(LevelFilter::INFO);
    world.ask(7, creatable("a\nb")).await;
    let mut events = logged.events();
    let event = events.remove(0).as_object_mut().unwrap().clone();
    let names: Vec<_> = event.keys().map(String::as_str).collect();
    let want = [
        "address",
        "api",
        "change",
        "count",
        "error",
        "event",
        "level",
        "listener",
        "operation",
        "outcome",
        "principal",
        "resource_name",
        "resource_type",
        "target",
        "timestamp",
    ];
    assert_eq!(names, want);
    assert_eq!((&event["level"], &event["count"]), (&"INFO".into(), &1.into()));
    assert_eq!(event["principal"], "User:ANONYMOUS");
    assert_eq!(event["listener"], "PLAINTEXT");
    assert_ne!(event["address"], "");
    assert_eq!(event["resource_name"], "a\\nb", "no line is ended");
}

#[tokio::test]
async fn what_is_allowed_is_told_to_who_asks_for_it() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD, LAX]).await;
    world.create(TOPIC, &[]).await;
    let logged = Logged::from(LevelFilter::INFO);
    assert_eq!(world.produce(plain(&["a"])).await.error_code, 0);
    assert!(logged.events().is_empty());
    drop(logged);
    let logged = Logged::from(LevelFilter::DEBUG);
    assert_eq!(world.produce(plain(&["a"])).await.error_code, 0);
    assert_eq!(logged.one(), ["authorization", "allowed", "Produce", "TOPIC", TOPIC, "WRITE"]);
}

#[tokio::test]
async fn a_flood_of_denials_is_counted_and_the_count_is_told() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD]).await;
    world.create(TOPIC, &[]).await;
    let logged = Logged::from(LevelFilter::INFO);
    for _ in 0..100 {
        assert_eq!(world.produce(plain(&["a"])).await.error_code, 29);
    }
    let written = logged.events();
    assert_eq!(written.len(), 20);
    world.broker.shutdown().await.unwrap();
    drop(world.client);
    // The last who knew of the trail is gone when the connection's task is.
    let mut told = Vec::new();
    while told.is_empty() {
        tokio::task::yield_now().await;
        told = logged.events();
    }
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((&told[0]["event"], &told[0]["count"]), (&"withheld".into(), &80.into()));
    assert_eq!(told[0]["principal"], "User:ANONYMOUS");
}

fn acl() -> AclCreation {
    AclCreation {
        resource_type: 2,
        resource_name: "secret".to_owned(),
        resource_pattern_type: 3,
        principal: "User:bob".to_owned(),
        host: "*".to_owned(),
        operation: 2,
        permission_type: 3,
    }
}

/// Asks for a change, which must be one event.
macro_rules! changes {
    ($world:ident, $logged:ident; $version:literal, $request:expr, $outcome:literal, $target:expr, $change:literal) => {{
        let request = $request;
        let api = AnyRequest::from(request.clone()).api_key().name();
        $world.ask($version, request).await;
        let events = $logged.events();
        assert_eq!(events.len(), 1, "{api}: {events:#?}");
        let [kind, name, operation] = $target;
        assert_eq!(short(&events[0]), ["change", $outcome, api, kind, name, operation]);
        assert_eq!(events[0]["change"], $change, "{api}");
        let is_success = events[0]["error"] == "";
        assert_eq!(is_success, $outcome == "success", "{events:#?}");
    }};
}

#[tokio::test]
async fn each_change_of_topics_and_settings_is_one_event_with_what_was_changed() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD, LAX]).await;
    let logged = Logged::from(LevelFilter::INFO);
    changes!(world, logged; 7,
        creatable("a"),
        "success",
        ["TOPIC", "a", "CREATE"],
        "partitions 1, replication factor 1"
    );
    changes!(world, logged; 7,
        creatable("a"),
        "failure",
        ["TOPIC", "a", "CREATE"],
        "partitions 1, replication factor 1"
    );
    let grow = CreatePartitionsTopic { name: "a".to_owned(), count: 2, assignments: None };
    let grow = CreatePartitionsRequest { topics: vec![grow], ..Default::default() };
    changes!(world, logged; 3, grow, "success", ["TOPIC", "a", "ALTER"], "partitions 2");
    let config = |name: &str, value: &str| AlterableConfig {
        name: name.to_owned(),
        config_operation: 0,
        value: Some(value.to_owned()),
    };
    let alter = |kind, name: &str, config| IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configs: vec![config],
        }],
        validate_only: false,
    };
    let retention = alter(2, "a", config("retention.ms", "5"));
    changes!(world, logged; 1, retention, "success", ["TOPIC", "a", "ALTER_CONFIGS"], "set retention.ms=5");
    let secret = alter(4, "", config("sasl.jaas.config", "canary"));
    changes!(world, logged; 1,
        secret,
        "failure",
        ["BROKER", "<default>", "ALTER_CONFIGS"],
        "set sasl.jaas.config=***"
    );
    let replaced = ReplacedConfigsResource {
        resource_type: 2,
        resource_name: "a".to_owned(),
        configs: vec![ReplacedConfig {
            name: "retention.ms".to_owned(),
            value: Some("7".to_owned()),
        }],
    };
    let replace = AlterConfigsRequest { resources: vec![replaced], validate_only: false };
    changes!(world, logged; 2,
        replace,
        "success",
        ["TOPIC", "a", "ALTER_CONFIGS"],
        "replace all by retention.ms=7"
    );
    let gone = DeleteTopicsRequest { topic_names: vec!["a".to_owned()], ..Default::default() };
    changes!(world, logged; 5, gone, "success", ["TOPIC", "a", "DELETE"], "");
}

#[tokio::test]
async fn each_change_of_who_may_what_is_one_event_with_what_was_changed() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD, LAX]).await;
    world.create("a", &[]).await;
    let logged = Logged::from(LevelFilter::INFO);
    let create = CreateAclsRequest { creations: vec![acl()] };
    changes!(world, logged; 3,
        create,
        "success",
        ["TOPIC", "secret", "ALTER"],
        "add ALLOW User:bob from *: ALL, LITERAL"
    );
    let filter = AclFilter {
        resource_type: 2,
        resource_name: Some("secret".to_owned()),
        pattern_type: 3,
        principal: None,
        host: None,
        operation: 1,
        permission_type: 1,
    };
    let delete = DeleteAclsRequest { filters: vec![filter] };
    changes!(world, logged; 3,
        delete,
        "success",
        ["TOPIC", "secret", "ALTER"],
        "remove ALLOW User:bob from *: ALL, LITERAL"
    );
    let upsertion = ScramCredentialUpsertion {
        name: "carol".to_owned(),
        mechanism: 1,
        iterations: 4096,
        salt: Bytes::from_static(b"canary__"),
        salted_password: Bytes::from_static(b"canary__canary__canary__canary__"),
    };
    let set =
        AlterUserScramCredentialsRequest { upsertions: vec![upsertion], ..Default::default() };
    changes!(world, logged; 0, set, "success", ["USER", "carol", "ALTER"], "set SCRAM-SHA-256 of 4096 iterations");
    let entity = protocol::api::quotas::QuotaEntity {
        entity_type: "user".to_owned(),
        entity_name: Some("carol".to_owned()),
    };
    let op = QuotaOp { key: "producer_byte_rate".to_owned(), value: 1000.0, remove: false };
    let entry = AlterQuotaEntry { entity: vec![entity], ops: vec![op] };
    let quota = AlterClientQuotasRequest { entries: vec![entry], validate_only: false };
    changes!(world, logged; 1,
        quota,
        "success",
        ["QUOTA", "user=carol", "ALTER_CONFIGS"],
        "set producer_byte_rate=1000"
    );
}

#[tokio::test]
async fn each_change_of_an_operator_is_one_event_with_what_was_changed() {
    let mut world = World::with(SimDisk::new(1), &[STANDARD, LAX]).await;
    world.create("a", &[]).await;
    let logged = Logged::from(LevelFilter::INFO);
    let elect = ElectLeadersRequestTopic { topic: "a".to_owned(), partitions: vec![0] };
    let elect = ElectLeadersRequest { topic_partitions: Some(vec![elect]), ..Default::default() };
    changes!(world, logged; 2, elect, "failure", ["TOPIC", "a", "ALTER"], "preferred leaders of partitions 0");
    let partition = ReassignablePartition { partition_index: 0, replicas: Some(vec![1]) };
    let topic = ReassignableTopic { name: "a".to_owned(), partitions: vec![partition] };
    let reassign = AlterPartitionReassignmentsRequest { topics: vec![topic], ..Default::default() };
    changes!(world, logged; 0, reassign, "success", ["TOPIC", "a", "ALTER"], "replicas of partitions 0 to 1");
    let update = FeatureUpdateKey {
        feature: "no.such".to_owned(),
        max_version_level: 1,
        ..Default::default()
    };
    let update = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
    changes!(world, logged; 1, update, "failure", ["FEATURE", "no.such", "ALTER"], "level 1");
    let forget = UnregisterBrokerRequest { broker_id: 1 };
    changes!(world, logged; 0, forget, "failure", ["BROKER", "1", "ALTER"], "");
    let records = DeleteRecordsPartition { partition_index: 0, offset: 0 };
    let records = DeleteRecordsTopic { name: "a".to_owned(), partitions: vec![records] };
    let records = DeleteRecordsRequest { topics: vec![records], timeout_ms: 1000 };
    changes!(world, logged; 2, records, "success", ["TOPIC", "a", "DELETE"], "records of partitions 0 before 0");
    let groups = DeleteGroupsRequest { groups_names: vec!["g".to_owned()] };
    changes!(world, logged; 2, groups, "failure", ["GROUP", "g", "DELETE"], "");
    let marked = WritableTxnMarkerTopic { name: "a".to_owned(), partition_indexes: vec![0] };
    let marker = WritableTxnMarker {
        producer_id: 5,
        producer_epoch: 1,
        topics: vec![marked],
        ..Default::default()
    };
    let markers = WriteTxnMarkersRequest { markers: vec![marker] };
    world.ask(1, markers).await;
    let written = logged.one();
    assert_eq!(written[2..], ["WriteTxnMarkers", "TOPIC", "a", "CLUSTER_ACTION"]);
}

#[tokio::test]
async fn who_leaves_before_the_answer_is_written_down_all_the_same() {
    let mut world = World::new().await;
    let logged = Logged::from(LevelFilter::INFO);
    world.send(7, creatable("a")).await;
    drop(std::mem::replace(&mut world.client, {
        let endpoint = Endpoint::new("broker", 1);
        world.network.connect(&endpoint).await.unwrap()
    }));
    let mut events = Vec::new();
    while world.broker.api().image().topic("a").is_none() || events.is_empty() {
        tokio::task::yield_now().await;
        events.extend(logged.events());
    }
    assert_eq!(short(&events[0])[..3], ["change", "success", "CreateTopics"]);
}

/// By a listener by which brokers do not speak.
const ELSEWHERE: [(&str, &str); 3] = [
    ("listeners", "PLAINTEXT://broker:1,INSIDE://broker:2"),
    ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT"),
    ("inter.broker.listener.name", "INSIDE"),
];

fn markers() -> WriteTxnMarkersRequest {
    let topic = WritableTxnMarkerTopic { name: TOPIC.to_owned(), partition_indexes: vec![0] };
    let marker = WritableTxnMarker {
        producer_id: 5,
        producer_epoch: 0,
        topics: vec![topic],
        ..Default::default()
    };
    WriteTxnMarkersRequest { markers: vec![marker] }
}

async fn written(world: &mut World) -> i16 {
    world.ask(1, markers()).await.markers[0].topics[0].partitions[0].error_code
}

#[tokio::test]
async fn nobody_is_a_broker_by_a_listener_by_which_brokers_do_not_speak() {
    let mut world = World::with(SimDisk::new(1), &ELSEWHERE).await;
    world.create(TOPIC, &[]).await;
    assert_eq!(world.produce(plain(&["a"])).await.error_code, 0);
    let logged = Logged::from(LevelFilter::INFO);
    assert_eq!(written(&mut world).await, 31);
    let denied = ["CLUSTER", "kafka-cluster", "CLUSTER_ACTION"];
    assert_eq!(logged.one()[2..], [&["WriteTxnMarkers"][..], &denied].concat());
    let added = world.ask(4, protocol::api::txn::AddPartitionsToTxnRequest::default()).await;
    assert_eq!(added.error_code, 31);
    assert_eq!(logged.one()[2..], [&["AddPartitionsToTxn"][..], &denied].concat());
    for version in [4, 12] {
        let follower = FetchRequest { replica_id: 0, ..fetch(TOPIC, 0) };
        let told = world.ask(version, follower).await;
        assert_eq!(told.responses[0].partitions[0].error_code, 29);
        assert_eq!(logged.one()[2..], [&["Fetch"][..], &denied].concat());
    }
    let follower = FetchRequest {
        replica_state: ReplicaState { replica_id: 2, replica_epoch: 1 },
        topics: Vec::new(),
        ..fetch(TOPIC, 0)
    };
    world.ask(17, follower).await;
    assert_eq!(logged.one()[2..], [&["Fetch"][..], &denied].concat());
    // As a consumer it reads on.
    assert_eq!(world.fetch(0, 0).await.error_code, 0);
    assert!(logged.events().is_empty());
}

#[tokio::test]
async fn by_the_only_listener_brokers_speak() {
    let mut world = World::new().await;
    assert_eq!(written(&mut world).await, 0);
    // There is no other broker: who says that it is one reads what a consumer may, and moves nothing.
    assert_eq!(world.produce(plain(&["a"])).await.error_code, 0);
    let before = world.list_offset(-1).await;
    let follower = FetchRequest { replica_id: 7, ..fetch(TOPIC, 0) };
    let told = world.ask(12, follower).await.responses.remove(0).partitions.remove(0);
    assert_eq!((told.error_code, told.high_watermark), (0, before.1));
    let beyond = FetchRequest { replica_id: 7, ..fetch(TOPIC, 1 << 40) };
    let told = world.ask(12, beyond).await.responses.remove(0).partitions.remove(0);
    assert_eq!(told.error_code, ErrorCode::OffsetOutOfRange.to_wire());
    assert_eq!(world.list_offset(-1).await, before);
}

#[tokio::test]
async fn who_may_alter_the_cluster_ends_a_hanging_transaction_from_anywhere() {
    let settings: Vec<_> = ELSEWHERE.into_iter().chain([STANDARD, LAX]).collect();
    let mut world = World::with(SimDisk::new(1), &settings).await;
    world.create(TOPIC, &[]).await;
    assert_eq!(written(&mut world).await, 0);
    let denial = AclCreation {
        resource_type: 4,
        resource_name: "kafka-cluster".to_owned(),
        operation: 7,
        permission_type: 2,
        principal: "User:*".to_owned(),
        ..acl()
    };
    world.ask(3, CreateAclsRequest { creations: vec![denial] }).await;
    assert_eq!(written(&mut world).await, 31);
}
