//! What clients are told of brokers, topics and settings, over a controller on a disk in memory.
//! Shell.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::api::configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig, DescribeConfigsRequest,
    DescribeConfigsResource, DescribeConfigsResourceResult, IncrementalAlterConfigsRequest,
    ReplacedConfigsResource,
};
use protocol::api::metadata::{
    DescribeClusterRequest, MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use protocol::api::quotas::{
    AlterClientQuotasRequest, AlterQuotaEntry, DescribeClientQuotasRequest, QuotaComponent,
    QuotaEntity, QuotaOp,
};
use protocol::api::topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest,
    CreatePartitionsTopic, CreateTopicsRequest, DeleteTopicState, DeleteTopicsRequest,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, TopicId};
use protocol::rng::Lot;
use tokio::sync::mpsc;

use super::quotas::Mutations;
use super::serving::Context;
use super::tests::session;
use super::{cluster, configs, describe, metadata, quotas, topics};
use crate::auth::stores::Stores;
use crate::config::{BrokerConfig, Endpoint};
use crate::controller::{self, ControllerHandle, Registration};
use crate::disk::{Disk, SimDisk};
use crate::limits::{AUTO_CREATED_MAX, QUORUM_FEED_MAX};
use crate::metadata::{Image, MetadataHandle, OFFSETS_TOPIC, Resource};
use crate::quorum::{self, QuorumConfig};
use crate::quota::QuotaHandle;

/// One node, with two listeners.
struct Node {
    config: Arc<BrokerConfig>,
    metadata: MetadataHandle,
    controller: ControllerHandle,
    quotas: QuotaHandle,
    stores: Stores,
    /// Of every request.
    context: Context,
    disk: SimDisk,
}

async fn node(pairs: &[(&str, &str)]) -> Node {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/data")).unwrap();
    let (feed, fed) = mpsc::channel(QUORUM_FEED_MAX);
    let metadata = crate::metadata::start(Image::empty("the-cluster"), fed);
    let dir = PathBuf::from("/data/__cluster_metadata-0");
    let quorum_config = QuorumConfig { node_id: BrokerId(1), dir, seed: 3 };
    let quorum = quorum::start(quorum_config, Arc::new(disk.clone()), feed).await.unwrap();
    let config = Arc::new(BrokerConfig::from_pairs(pairs.iter().copied()).unwrap());
    let controller =
        controller::start(config.clone(), (3, Lot::of_seed(3)), quorum, metadata.clone());
    let endpoint = |(listener, port): (&str, u16)| Endpoint {
        listener: listener.to_owned(),
        host: format!("{listener}.example"),
        port,
    };
    let endpoints = [("IN", 1), ("OUT", 2)].map(endpoint).to_vec();
    let (incarnation_id, rack) = (TopicId([1; 16]), Some("r".to_owned()));
    let registration = Registration { id: BrokerId(1), incarnation_id, endpoints, rack };
    controller.register_broker(registration).await.unwrap();
    let quotas = QuotaHandle::start(&config, &metadata);
    let context = Context {
        version: 7,
        client_id: Some("me".into()),
        session: Arc::new(session("IN")),
        now: protocol::time::Now::default(),
        takes_files: false,
    };
    let stores = Stores::default();
    Node { config, metadata, controller, quotas, stores, context, disk }
}

impl Node {
    fn mutations(&self) -> Mutations<'_> {
        Mutations::new(&self.quotas, &self.context, 6)
    }

    async fn ask(
        &self,
        listener: &str,
        version: i16,
        request: MetadataRequest,
    ) -> MetadataResponse {
        let (image, controller) = (&self.metadata, &self.controller);
        let request = (version, request);
        metadata::metadata(image, controller, &self.config, listener, self.mutations(), request)
            .await
    }

    async fn create(&self, topic: CreatableTopic) -> (i16, Option<String>, usize) {
        let request =
            CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: false };
        let mut response = topics::create_topics(
            &self.controller,
            &self.metadata,
            &self.config,
            self.mutations(),
            request,
        )
        .await;
        let created = response.topics.remove(0);
        (created.error_code, created.error_message, created.configs.unwrap().len())
    }

    fn describe(&self, kind: i8, name: &str, keys: &[&str]) -> Described {
        let keys = keys.iter().map(|&key| key.to_owned()).collect();
        let resource = DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: Some(keys),
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: true,
            include_documentation: true,
        };
        let image = self.metadata.image();
        let mut response = describe::describe_configs(&image, &self.config, &request);
        let result = response.results.remove(0);
        match ErrorCode::from_wire(result.error_code) {
            ErrorCode::None => Ok(result.configs),
            code => Err(code),
        }
    }
}

type Described = Result<Vec<DescribeConfigsResourceResult>, ErrorCode>;

fn by_name(names: &[&str]) -> MetadataRequest {
    let topic = |&name: &&str| MetadataRequestTopic {
        name: Some(name.to_owned()),
        ..MetadataRequestTopic::default()
    };
    let topics = Some(names.iter().map(topic).collect());
    MetadataRequest { topics, ..MetadataRequest::default() }
}

fn new_topic(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions: -1,
        replication_factor: -1,
        ..CreatableTopic::default()
    }
}

/// Name, error and number of partitions of each topic.
fn seen(response: &MetadataResponse) -> Vec<(&str, ErrorCode, usize)> {
    let topics = response.topics.iter();
    let seen = topics.map(|topic| {
        let name = topic.name.as_deref().unwrap_or("(null)");
        (name, ErrorCode::from_wire(topic.error_code), topic.partitions.len())
    });
    seen.collect()
}

#[tokio::test(start_paused = true)]
async fn each_listener_is_told_its_own_endpoints() {
    let node = node(&[]).await;
    node.create(new_topic("t")).await;
    for (listener, port) in [("IN", 1), ("OUT", 2)] {
        let response = node.ask(listener, 13, by_name(&["t"])).await;
        let broker = &response.brokers[0];
        assert_eq!((broker.host.clone(), broker.port), (format!("{listener}.example"), port));
        assert_eq!(response.controller_id, broker.node_id);
        assert_eq!(response.cluster_id.as_deref(), Some("the-cluster"));
        assert_eq!(response.topics[0].partitions[0].leader_id, broker.node_id);
        let described = cluster::describe_cluster(
            &node.metadata.image(),
            node.controller.active(),
            listener,
            &DescribeClusterRequest::default(),
        );
        assert_eq!((described.brokers[0].port, described.controller_id), (port, 1));
    }
    let response = node.ask("ELSEWHERE", 13, by_name(&["t"])).await;
    assert!(response.brokers.is_empty());
    let partition = &response.topics[0].partitions[0];
    assert_eq!(ErrorCode::from_wire(partition.error_code), ErrorCode::ListenerNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_missing_topic_is_created_only_when_broker_and_client_agree() {
    let check = async |pairs: &[(&str, &str)], allow, want: (ErrorCode, usize)| {
        let node = node(pairs).await;
        let request =
            MetadataRequest { allow_auto_topic_creation: allow, ..by_name(&["orders", "a b"]) };
        let response = node.ask("IN", 13, request).await;
        let bad = ("a b", ErrorCode::InvalidTopicException, 0);
        assert_eq!(seen(&response), [("orders", want.0, want.1), bad]);
        assert_eq!(node.metadata.image().topics().count(), usize::from(want.1 > 0));
    };
    let unknown = (ErrorCode::UnknownTopicOrPartition, 0);
    check(&[("num.partitions", "3")], true, (ErrorCode::None, 3)).await;
    check(&[("num.partitions", "3")], false, unknown).await;
    check(&[("auto.create.topics.enable", "false")], true, unknown).await;
    let refused = (ErrorCode::InvalidReplicationFactor, 0);
    check(&[("default.replication.factor", "3")], true, refused).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_topic_where_that_is_set_and_it_appears_behind_the_answer() {
    let node = node(&[("auto.create.topics.wait.ms", "0")]).await;
    let request = MetadataRequest { allow_auto_topic_creation: true, ..by_name(&["orders"]) };
    let response = node.ask("IN", 13, request.clone()).await;
    assert_eq!(seen(&response), [("orders", ErrorCode::UnknownTopicOrPartition, 0)]);
    let mut images = node.metadata.watch();
    let appeared = images.wait_for(|image| image.topic("orders").is_some());
    drop(tokio::time::timeout(Duration::from_secs(5), appeared).await.unwrap().unwrap());
    let response = node.ask("IN", 13, request).await;
    assert_eq!(seen(&response), [("orders", ErrorCode::None, 1)]);
}

#[tokio::test(start_paused = true)]
async fn one_request_creates_some_topics_at_most_and_the_rest_is_to_be_asked_for_again() {
    let node = node(&[]).await;
    let names: Vec<String> = (0..=AUTO_CREATED_MAX).map(|it| format!("t{it:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let request = MetadataRequest { allow_auto_topic_creation: true, ..by_name(&names) };
    let response = node.ask("IN", 13, request).await;
    let (last, first) = (&response.topics[AUTO_CREATED_MAX], &response.topics[..AUTO_CREATED_MAX]);
    assert!(first.iter().all(|topic| topic.error_code == 0 && topic.partitions.len() == 1));
    assert_eq!(ErrorCode::from_wire(last.error_code), ErrorCode::LeaderNotAvailable);
    assert_eq!(node.metadata.image().topics().count(), AUTO_CREATED_MAX);
}

#[tokio::test(start_paused = true)]
async fn topics_that_are_created_by_asking_are_charged_to_the_quota() {
    let node = node(&[]).await;
    let quota =
        node.alter_quota(&[("client-id", Some("me"))], "controller_mutation_rate", Some(1.0));
    assert_eq!(quota.await, ErrorCode::None);
    while !node.quotas.has(crate::quota::QuotaKind::Mutation) {
        tokio::task::yield_now().await;
    }
    let names: Vec<String> = (0..50).map(|it| format!("t{it}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let request = MetadataRequest { allow_auto_topic_creation: true, ..by_name(&names) };
    assert!(node.ask("IN", 13, request.clone()).await.throttle_time_ms > 0);
    // They are there: asking again costs nothing.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(node.ask("IN", 13, request).await.throttle_time_ms, 0);
}

#[tokio::test(start_paused = true)]
async fn topics_are_asked_for_by_name_by_id_or_all_at_once() {
    let node = node(&[]).await;
    node.create(new_topic("a")).await;
    node.controller.ensure_topics(vec![OFFSETS_TOPIC.to_owned()], Duration::MAX).await.unwrap()[0]
        .clone()
        .unwrap();
    let id = node.metadata.image().topic("a").unwrap().id;
    let by_id = |topic_id| {
        let topics = Some(vec![MetadataRequestTopic { topic_id, name: None }]);
        MetadataRequest { topics, ..MetadataRequest::default() }
    };
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let none = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
    let both = [(OFFSETS_TOPIC, ErrorCode::None, 50), ("a", ErrorCode::None, 1)];
    let response = node.ask("IN", 13, all.clone()).await;
    assert_eq!(seen(&response), both);
    assert!(response.topics[0].is_internal && !response.topics[1].is_internal);
    assert_eq!(seen(&node.ask("IN", 0, none.clone()).await), both);
    assert_eq!(seen(&node.ask("IN", 1, none).await), []);
    let response = node.ask("IN", 13, by_id(id)).await;
    assert_eq!(seen(&response), [("a", ErrorCode::None, 1)]);
    assert_eq!(response.topics[0].topic_id, id);
    let unknown = TopicId([7; 16]);
    let response = node.ask("IN", 13, by_id(unknown)).await;
    assert_eq!(seen(&response), [("(null)", ErrorCode::UnknownTopicId, 0)]);
    assert_eq!(response.topics[0].topic_id, unknown);
    assert_eq!(seen(&node.ask("IN", 11, by_id(unknown)).await)[0].0, "");
}

#[tokio::test(start_paused = true)]
async fn while_the_disk_is_full_a_missing_topic_is_to_be_asked_for_again() {
    let node = node(&[]).await;
    node.disk.set_capacity(Some(node.disk.used_bytes()));
    let response = node.ask("IN", 13, by_name(&["t"])).await;
    assert_eq!(seen(&response), [("t", ErrorCode::LeaderNotAvailable, 0)]);
    node.disk.set_capacity(None);
    let response = node.ask("IN", 13, by_name(&["t"])).await;
    assert_eq!(seen(&response), [("t", ErrorCode::None, 1)]);
}

#[tokio::test(start_paused = true)]
async fn creation_answers_in_order_with_settings_or_the_reason() {
    let node = node(&[]).await;
    let assigned = CreatableTopic {
        num_partitions: 2,
        assignments: vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1] }],
        ..new_topic("contradicts-itself")
    };
    let config = CreatableTopicConfig { name: "retention.ms".to_owned(), value: Some("5".into()) };
    let configured = CreatableTopic { configs: vec![config], ..new_topic("t") };
    let topics = vec![assigned, configured, new_topic("")];
    let request = CreateTopicsRequest { topics, timeout_ms: 1000, validate_only: false };
    let response = topics::create_topics(
        &node.controller,
        &node.metadata,
        &node.config,
        node.mutations(),
        request,
    )
    .await;
    let codes: Vec<_> =
        response.topics.iter().map(|it| ErrorCode::from_wire(it.error_code)).collect();
    let want = [ErrorCode::InvalidRequest, ErrorCode::None, ErrorCode::InvalidTopicException];
    assert_eq!(codes, want);
    let created = &response.topics[1];
    assert_eq!((created.num_partitions, created.replication_factor), (1, 1));
    assert_eq!(node.metadata.image().topic("t").unwrap().id, created.topic_id);
    let configs = created.configs.as_ref().unwrap();
    let retention = configs.iter().find(|it| it.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5"), 1));
    assert!(response.topics[0].error_message.is_some());
}

#[tokio::test(start_paused = true)]
async fn deletion_is_by_name_or_by_id_but_not_both() {
    let node = node(&[]).await;
    for name in ["a", "b"] {
        assert_eq!(node.create(new_topic(name)).await.0, 0);
    }
    let id = node.metadata.image().topic("b").unwrap().id;
    let state =
        |name: Option<&str>, topic_id| DeleteTopicState { name: name.map(str::to_owned), topic_id };
    let topics = vec![
        state(Some("a"), TopicId::ZERO),
        state(Some("a"), id),
        state(None, id),
        state(None, TopicId::ZERO),
    ];
    let request =
        DeleteTopicsRequest { topics, timeout_ms: 1000, ..DeleteTopicsRequest::default() };
    let response =
        topics::delete_topics(&node.controller, &node.metadata.image(), node.mutations(), request)
            .await;
    let told: Vec<_> = response
        .responses
        .iter()
        .map(|it| (it.name.as_deref(), ErrorCode::from_wire(it.error_code)))
        .collect();
    let refused = ErrorCode::InvalidRequest;
    let want = [
        (Some("a"), ErrorCode::None),
        (Some("a"), refused),
        (Some("b"), ErrorCode::None),
        (None, refused),
    ];
    assert_eq!(told, want);
    assert_eq!(node.metadata.image().topics().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn partitions_are_added() {
    let node = node(&[]).await;
    node.create(new_topic("a")).await;
    let grow = |name: &str, count| CreatePartitionsTopic {
        name: name.to_owned(),
        count,
        assignments: None,
    };
    let topics = vec![grow("a", 3), grow("b", 3)];
    let request = CreatePartitionsRequest { topics, timeout_ms: 1000, validate_only: false };
    let response = topics::create_partitions(
        &node.controller,
        &node.metadata.image(),
        node.mutations(),
        request,
    )
    .await;
    let codes: Vec<_> =
        response.results.iter().map(|it| ErrorCode::from_wire(it.error_code)).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(node.metadata.image().topic("a").unwrap().partition_count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_setting_is_described_with_every_place_it_could_come_from() {
    let node = node(&[("log.retention.hours", "1")]).await;
    let config = CreatableTopicConfig { name: "retention.ms".to_owned(), value: Some("5".into()) };
    node.create(CreatableTopic { configs: vec![config], ..new_topic("t") }).await;
    let settings = node.describe(Resource::TOPIC, "t", &["retention.ms"]).unwrap();
    assert_eq!(settings.len(), 1);
    let retention = &settings[0];
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5"), 1));
    assert_eq!((retention.config_type, retention.read_only), (5, false));
    assert!(retention.documentation.as_ref().is_some_and(|text| text.starts_with("How long")));
    let places: Vec<_> = retention
        .synonyms
        .iter()
        .map(|it| (it.name.as_str(), it.value.as_deref().unwrap(), it.source))
        .collect();
    let broker = "log.retention.hours";
    assert_eq!(places, [("retention.ms", "5", 1), (broker, "1", 4)]);
    let all = node.describe(Resource::TOPIC, "t", &[]).unwrap();
    assert_eq!(all.len(), crate::config::TopicConfig::DEFS.len());
    let broker = node.describe(Resource::BROKER, "1", &["log.retention.hours", "node.id"]).unwrap();
    let told: Vec<_> = broker
        .iter()
        .map(|it| (it.name.as_str(), it.value.as_deref(), it.config_source, it.read_only))
        .collect();
    let want = [("node.id", Some("1"), 5, true), ("log.retention.hours", Some("1"), 4, true)];
    assert_eq!(told, want);
    assert_eq!(node.describe(Resource::BROKER, "", &[]).unwrap().len(), 0);
    let refuse = |kind, name, want| assert_eq!(node.describe(kind, name, &[]).unwrap_err(), want);
    refuse(Resource::TOPIC, "u", ErrorCode::UnknownTopicOrPartition);
    refuse(Resource::BROKER, "2", ErrorCode::InvalidRequest);
    refuse(Resource::TOPIC, "a b", ErrorCode::InvalidTopicException);
    refuse(8, "1", ErrorCode::InvalidRequest);
    refuse(16, "m", ErrorCode::InvalidRequest);
    refuse(Resource::GROUP, "", ErrorCode::InvalidRequest);
    assert_eq!(node.describe(Resource::GROUP, "any", &[]).unwrap().len(), 2);
}

/// Sets or, without a value, deletes a setting.
fn alteration(
    resource_type: i8,
    resource_name: &str,
    name: &str,
    value: Option<&str>,
) -> AlterConfigsResource {
    let change = AlterableConfig {
        name: name.to_owned(),
        config_operation: i8::from(value.is_none()),
        value: value.map(str::to_owned),
    };
    let (resource_name, configs) = (resource_name.to_owned(), vec![change]);
    AlterConfigsResource { resource_type, resource_name, configs }
}

impl Node {
    fn altering(&self) -> configs::Altering<'_> {
        let Self { controller, metadata, config, stores, .. } = self;
        configs::Altering { controller, metadata, config, stores }
    }

    async fn alter(
        &self,
        resources: Vec<AlterConfigsResource>,
        validate_only: bool,
    ) -> Vec<ErrorCode> {
        let request = IncrementalAlterConfigsRequest { resources, validate_only };
        let response = configs::incremental_alter_configs(&self.altering(), request).await;
        response.responses.iter().map(|it| ErrorCode::from_wire(it.error_code)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_altered_for_one_broker_stands_over_what_is_altered_for_all() {
    let node = node(&[("message.max.bytes", "1000")]).await;
    node.create(new_topic("t")).await;
    let name = "message.max.bytes";
    let altered = vec![
        alteration(Resource::BROKER, "", name, Some("2000")),
        alteration(Resource::BROKER, "1", name, Some("3000")),
        alteration(Resource::TOPIC, "t", "max.message.bytes", Some("4000")),
        alteration(Resource::GROUP, "g", "consumer.session.timeout.ms", Some("50000")),
    ];
    assert_eq!(node.alter(altered, false).await, [ErrorCode::None; 4]);
    let places = |kind, resource: &str, name: &str| {
        let mut described = node.describe(kind, resource, &[name]).unwrap();
        let described = described.remove(0);
        let places = described.synonyms.into_iter();
        let places = places.map(|it| (it.name, it.value.unwrap(), it.source)).collect::<Vec<_>>();
        (described.value.unwrap(), described.config_source, places)
    };
    let place = |name: &str, text: &str, source| (name.to_owned(), text.to_owned(), source);
    let of_broker = vec![
        place(name, "3000", 2),
        place(name, "2000", 3),
        place(name, "1000", 4),
        place(name, "1048588", 5),
    ];
    let topics = "max.message.bytes";
    let of_topic = [&[place(topics, "4000", 1)], &*of_broker].concat();
    assert_eq!(places(Resource::TOPIC, "t", topics), ("4000".to_owned(), 1, of_topic));
    assert_eq!(places(Resource::BROKER, "1", name), ("3000".to_owned(), 2, of_broker));
    let of_all = vec![place(name, "2000", 3)];
    assert_eq!(places(Resource::BROKER, "", name), ("2000".to_owned(), 3, of_all));
    let session = "consumer.session.timeout.ms";
    let of_group = vec![place(session, "50000", 8), place(&format!("group.{session}"), "45000", 5)];
    assert_eq!(places(Resource::GROUP, "g", session), ("50000".to_owned(), 8, of_group));
    let listed = configs::list_config_resources(&node.metadata.image(), 1, &Default::default());
    let listed = listed.config_resources.into_iter();
    let listed: Vec<_> = listed.map(|it| (it.resource_type, it.resource_name)).collect();
    let want = [(2, "t"), (4, "1"), (8, "1"), (32, "g")];
    assert_eq!(listed, want.map(|(kind, name)| (kind, name.to_owned())));
    let listed = configs::list_config_resources(&node.metadata.image(), 0, &Default::default());
    assert_eq!(listed.config_resources, []);
}

#[tokio::test(start_paused = true)]
async fn what_is_only_validated_changes_nothing() {
    let node = node(&[]).await;
    node.create(new_topic("t")).await;
    let set = |value| alteration(Resource::TOPIC, "t", "retention.ms", Some(value));
    assert_eq!(node.alter(vec![set("5")], true).await, [ErrorCode::None]);
    assert_eq!(node.alter(vec![set("x")], true).await, [ErrorCode::InvalidConfig]);
    assert_eq!(node.metadata.image().topic_configs("t").count(), 0);
    assert_eq!(node.alter(vec![set("5")], false).await, [ErrorCode::None]);
    let replaced = ReplacedConfigsResource {
        resource_type: Resource::TOPIC,
        resource_name: "t".to_owned(),
        configs: Vec::new(),
    };
    let request = AlterConfigsRequest { resources: vec![replaced], validate_only: false };
    let response = configs::alter_configs(&node.altering(), request).await;
    assert_eq!(response.responses[0].error_code, 0);
    assert_eq!(node.metadata.image().topic_configs("t").count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_setting_of_a_resource_is_refused_alone() {
    let node = node(&[]).await;
    node.create(new_topic("t")).await;
    let alter = |resource_type, name: &str, config_operation| AlterConfigsResource {
        resource_type,
        resource_name: name.to_owned(),
        configs: vec![AlterableConfig {
            name: "retention.ms".to_owned(),
            config_operation,
            value: Some("5".to_owned()),
        }],
    };
    let resources = vec![alter(2, "u", 9), alter(2, "t", 0), alter(4, "1", 0), alter(16, "m", 0)];
    let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
    let response = configs::incremental_alter_configs(&node.altering(), request).await;
    let codes: Vec<_> =
        response.responses.iter().map(|it| ErrorCode::from_wire(it.error_code)).collect();
    let refused = ErrorCode::InvalidRequest;
    assert_eq!(codes, [refused, ErrorCode::None, refused, refused]);
    let settings = node.describe(Resource::TOPIC, "t", &["retention.ms"]).unwrap();
    assert_eq!(settings[0].value.as_deref(), Some("5"));
}

/// An entity of the wire.
fn entity(parts: &[(&str, Option<&str>)]) -> Vec<QuotaEntity> {
    let part = |&(kind, name): &(&str, Option<&str>)| QuotaEntity {
        entity_type: kind.to_owned(),
        entity_name: name.map(str::to_owned),
    };
    parts.iter().map(part).collect()
}

impl Node {
    async fn alter_quota(
        &self,
        parts: &[(&str, Option<&str>)],
        key: &str,
        value: Option<f64>,
    ) -> ErrorCode {
        let op = QuotaOp {
            key: key.to_owned(),
            value: value.unwrap_or_default(),
            remove: value.is_none(),
        };
        let entries = vec![AlterQuotaEntry { entity: entity(parts), ops: vec![op] }];
        let request = AlterClientQuotasRequest { entries, validate_only: false };
        let response = quotas::alter_client_quotas(&self.controller, request).await;
        ErrorCode::from_wire(response.entries[0].error_code)
    }
}

#[tokio::test(start_paused = true)]
async fn quotas_are_for_users_clients_both_or_addresses_and_above_zero() {
    let node = node(&[]).await;
    let (u, c) = (("user", Some("u")), ("client-id", Some("c")));
    let ip = |name| ("ip", Some(name));
    let bytes = "producer_byte_rate";
    let rate = "connection_creation_rate";
    let (good, bad) = (ErrorCode::None, ErrorCode::InvalidRequest);
    let check = async |parts: &[(&str, Option<&str>)], key: &str, value, want| {
        let altered = node.alter_quota(parts, key, value).await;
        assert_eq!(altered, want, "{parts:?} {key} {value:?}");
    };
    check(&[u], bytes, Some(5.0), good).await;
    check(&[u, c], bytes, Some(5.0), good).await;
    check(&[("user", None), ("client-id", None)], "request_percentage", Some(0.5), good).await;
    check(&[ip("10.0.0.1")], rate, Some(5.0), good).await;
    check(&[ip("::1")], rate, None, good).await;
    check(&[], bytes, Some(5.0), bad).await;
    check(&[u, u], bytes, Some(5.0), bad).await;
    check(&[("group", None)], bytes, Some(5.0), bad).await;
    check(&[("user", Some(""))], bytes, Some(5.0), bad).await;
    check(&[u, ip("10.0.0.1")], bytes, Some(5.0), bad).await;
    check(&[ip("10.0.0.1")], bytes, Some(5.0), bad).await;
    check(&[ip("my.host")], rate, Some(5.0), bad).await;
    check(&[u], rate, Some(5.0), bad).await;
    check(&[u], "nonsense", Some(5.0), bad).await;
    check(&[u], bytes, Some(0.0), bad).await;
    check(&[u], bytes, Some(f64::NAN), bad).await;
    check(&[u], bytes, Some(0.5), bad).await;
    check(&[u], bytes, None, good).await;
    assert_eq!(node.metadata.image().quotas().entity_count(), 3);
}

#[tokio::test(start_paused = true)]
async fn quotas_are_found_by_what_their_entities_are_made_of() {
    let node = node(&[]).await;
    let (u, any_u, c) = (("user", Some("u")), ("user", None), ("client-id", Some("c")));
    for parts in [&[u][..], &[any_u], &[u, c], &[c]] {
        let altered = node.alter_quota(parts, "consumer_byte_rate", Some(7.0)).await;
        assert_eq!(altered, ErrorCode::None);
    }
    let describe = |components: &[(&str, i8, Option<&str>)], strict| {
        let component = |&(kind, match_type, name): &(&str, i8, Option<&str>)| QuotaComponent {
            entity_type: kind.to_owned(),
            match_type,
            match_name: name.map(str::to_owned),
        };
        let components = components.iter().map(component).collect();
        let request = DescribeClientQuotasRequest { components, strict };
        let response = quotas::describe_client_quotas(&node.metadata.image(), &request);
        match response.entries {
            Some(entries) => Ok(entries.into_iter().map(|it| it.entity).collect::<Vec<_>>()),
            None => Err(ErrorCode::from_wire(response.error_code)),
        }
    };
    let found = |all: &[&[(&str, Option<&str>)]]| Ok(all.iter().map(|it| entity(it)).collect());
    assert_eq!(describe(&[], false).unwrap().len(), 4);
    assert_eq!(describe(&[], true), found(&[]));
    assert_eq!(describe(&[("user", 0, Some("u"))], false), found(&[&[u], &[u, c]]));
    assert_eq!(describe(&[("user", 0, Some("u"))], true), found(&[&[u]]));
    assert_eq!(describe(&[("user", 1, None)], true), found(&[&[any_u]]));
    assert_eq!(describe(&[("user", 2, None)], true).unwrap().len(), 2);
    let both = [("user", 2, None), ("client-id", 2, None)];
    assert_eq!(describe(&both, true), found(&[&[u, c]]));
    for wrong in
        [("user", 0, None), ("user", 1, Some("u")), ("user", 2, Some("u")), ("user", 3, None)]
    {
        assert_eq!(describe(&[wrong], false), Err(ErrorCode::InvalidRequest), "{wrong:?}");
    }
    let twice = [("user", 1, None), ("user", 2, None)];
    assert_eq!(describe(&twice, false), Err(ErrorCode::InvalidRequest));
    let mixed = [("user", 1, None), ("ip", 2, None)];
    assert_eq!(describe(&mixed, false), Err(ErrorCode::InvalidRequest));
    assert_eq!(describe(&[("group", 2, None)], false), Err(ErrorCode::UnsupportedVersion));
}

#[tokio::test(start_paused = true)]
async fn beyond_the_quota_of_changes_topics_are_refused_or_their_client_silenced() {
    let node = node(&[]).await;
    let altered =
        node.alter_quota(&[("client-id", Some("me"))], "controller_mutation_rate", Some(1.0));
    assert_eq!(altered.await, ErrorCode::None);
    while !node.quotas.has(crate::quota::QuotaKind::Mutation) {
        tokio::task::yield_now().await;
    }
    let create = async |names: &[&str], strict_from| {
        let topic = |&name: &&str| CreatableTopic { num_partitions: 12, ..new_topic(name) };
        let topics = names.iter().map(topic).collect();
        let request = CreateTopicsRequest { topics, timeout_ms: 1000, validate_only: false };
        let mutations = Mutations::new(&node.quotas, &node.context, strict_from);
        let Node { controller, metadata, config, .. } = &node;
        let response =
            topics::create_topics(controller, metadata, config, mutations, request).await;
        let codes = response.topics.iter().map(|it| ErrorCode::from_wire(it.error_code));
        (codes.collect::<Vec<_>>(), response.throttle_time_ms)
    };
    // 11 may be saved up: the first topic owes one, the second is refused.
    let refused = ErrorCode::ThrottlingQuotaExceeded;
    assert_eq!(create(&["a", "b"], 6).await, (vec![ErrorCode::None, refused], 1_000));
    assert!(node.metadata.image().topic("b").is_none());
    assert_eq!(create(&["c"], 8).await, (vec![ErrorCode::None], 13_000));
}

#[tokio::test(start_paused = true)]
async fn what_is_named_many_times_is_described_once() {
    let node = node(&[]).await;
    let names = ["1", "1", "01", "nobody", "", "1"];
    let resources = names.map(|name| DescribeConfigsResource {
        resource_type: Resource::BROKER,
        resource_name: name.to_owned(),
        configuration_keys: None,
    });
    let request = DescribeConfigsRequest {
        resources: resources.to_vec(),
        ..DescribeConfigsRequest::default()
    };
    let described = describe::describe_configs(&node.metadata.image(), &node.config, &request);
    let names: Vec<_> = described.results.iter().map(|it| &*it.resource_name).collect();
    assert_eq!(names, ["1", "nobody", ""]);
}
