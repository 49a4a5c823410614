//! What the deciders decide, by tables, and what the controller keeps over restarts. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerEpoch, BrokerId, Offset, PartitionIndex, ProducerId, TopicId};
use protocol::rng::Lot;
use tokio::sync::mpsc;

use super::core::Core;
use super::*;
use crate::config::{BrokerConfig, Endpoint};
use crate::disk::{Disk, SimDisk};
use crate::limits::{ACLS_PER_REQUEST_MAX, QUORUM_FEED_MAX};
use crate::metadata::{
    self, Acl, AclFilter, AclOperation, Delta, Image, MetadataHandle, OFFSETS_TOPIC, Partition,
    PatternFilter, PatternType, Permission, Record, Resource, ResourceType, TRANSACTIONS_TOPIC,
};
use crate::quorum::{self, QuorumConfig, QuorumHandle};

fn config(pairs: &[(&str, &str)]) -> Arc<BrokerConfig> {
    Arc::new(BrokerConfig::from_pairs(pairs.iter().copied()).unwrap())
}

fn registration(id: i32) -> Registration {
    let endpoint = Endpoint { listener: "A".to_owned(), host: "h".to_owned(), port: 1 };
    let incarnation_id = TopicId([9; 16]);
    Registration { id: BrokerId(id), incarnation_id, endpoints: vec![endpoint], rack: None }
}

/// A cluster in memory: commits what is decided.
struct Cluster {
    core: Core,
    image: Image,
}

impl Cluster {
    fn new(broker_count: i32, pairs: &[(&str, &str)]) -> Self {
        let mut cluster =
            Self { core: Core::new(config(pairs), 1, Lot::of_seed(1)), image: Image::empty("c") };
        for id in 1..=broker_count {
            cluster.register(id);
        }
        cluster
    }

    fn commit<R>(&mut self, outcome: Outcome<R>) -> R {
        for record in &outcome.records {
            self.image.apply(record, &mut Delta::default()).unwrap();
        }
        self.image.check();
        self.image.end = self.image.end.plus(1);
        outcome.reply
    }

    fn register(&mut self, id: i32) -> BrokerEpoch {
        let outcome = self.core.register_broker(&self.image, registration(id));
        self.commit(outcome)
    }

    fn create(&mut self, topics: &[NewTopic]) -> Vec<Result<CreatedTopic, TopicError>> {
        let outcome = self.core.create_topics(&self.image, topics, false);
        self.commit(outcome)
    }

    fn create_one(&mut self, topic: NewTopic) -> Result<CreatedTopic, TopicError> {
        self.create(&[topic]).remove(0)
    }

    fn delete(&mut self, topic: TopicRef) -> Result<DeletedTopic, TopicError> {
        let outcome = self.core.delete_topics(&self.image, &[topic]);
        self.commit(outcome).remove(0)
    }

    fn grow(&mut self, request: MorePartitions) -> Result<(), TopicError> {
        let outcome = self.core.create_partitions(&self.image, &[request], false);
        self.commit(outcome).remove(0)
    }

    fn alter(&mut self, topic: &str, changes: &[(&str, ConfigOperation, Option<&str>)]) -> Altered {
        let change = |&(name, operation, value): &(&str, _, Option<&str>)| ConfigChange {
            name: name.to_owned(),
            operation,
            value: value.map(str::to_owned),
        };
        let changes = changes.iter().map(change).collect();
        let resource = Resource::Topic(topic.into());
        self.alter_resource(AlterConfig { resource, changes, replace: false })
    }

    fn alter_resource(&mut self, alteration: AlterConfig) -> Altered {
        let resource = alteration.resource.clone();
        let outcome = self.core.alter_configs(&self.image, &[alteration], false);
        self.commit(outcome).remove(0)?;
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Ok(self.image.configs(&resource).map(owned).collect())
    }

    fn set(&mut self, resource: Resource, pairs: &[(&str, &str)], replace: bool) -> Altered {
        let change = |&(name, value): &(&str, &str)| ConfigChange {
            name: name.to_owned(),
            operation: ConfigOperation::Set,
            value: Some(value.to_owned()),
        };
        let changes = pairs.iter().map(change).collect();
        self.alter_resource(AlterConfig { resource, changes, replace })
    }
}

type Altered = Result<BTreeMap<String, String>, SettingError>;

fn counted(name: &str, partition_count: Option<i32>, replication_factor: Option<i16>) -> NewTopic {
    let spread = Spread::Counted { partition_count, replication_factor };
    NewTopic { name: name.to_owned(), spread, configs: Vec::new() }
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> NewTopic {
    let assign = |&(index, ids): &(i32, &[i32])| {
        (PartitionIndex(index), ids.iter().map(|&id| BrokerId(id)).collect())
    };
    let spread = Spread::Assigned(assignments.iter().map(assign).collect());
    NewTopic { name: name.to_owned(), spread, configs: Vec::new() }
}

fn configured(name: &str, key: &str, value: Option<&str>) -> NewTopic {
    let configs = vec![(key.to_owned(), value.map(str::to_owned))];
    NewTopic { configs, ..counted(name, None, None) }
}

#[test]
fn topics_are_created_as_asked_or_refused_by_the_rule_they_break() {
    use ErrorCode::{
        InvalidConfig, InvalidPartitions, InvalidReplicaAssignment, InvalidReplicationFactor,
        InvalidTopicException, PolicyViolation, TopicAlreadyExists,
    };
    let check = |topic: NewTopic, want: Result<(i32, i16), ErrorCode>| {
        let mut cluster = Cluster::new(3, &[("num.partitions", "4")]);
        cluster.create_one(counted("a.b", None, None)).unwrap();
        let before = cluster.image.clone();
        let described = format!("{topic:?}");
        let got = cluster.create_one(topic);
        let got = got.map(|it| (it.partition_count, it.replication_factor));
        assert_eq!(got.map_err(|error| error.code()), want, "{described}");
        if want.is_err() {
            assert!(cluster.image.topics().eq(before.topics()));
        }
    };
    check(counted("t", None, None), Ok((4, 1)));
    check(counted("t", Some(7), Some(3)), Ok((7, 3)));
    check(counted("t", Some(0), None), Err(InvalidPartitions));
    check(counted("t", Some(-2), None), Err(InvalidPartitions));
    check(counted("t", Some(10_001), None), Err(PolicyViolation));
    check(counted("t", None, Some(4)), Err(InvalidReplicationFactor));
    check(counted("t", None, Some(0)), Err(InvalidReplicationFactor));
    check(counted("a.b", None, None), Err(TopicAlreadyExists));
    check(counted("a_b", None, None), Err(InvalidTopicException));
    check(counted("", None, None), Err(InvalidTopicException));
    check(counted("..", None, None), Err(InvalidTopicException));
    check(counted("ä", None, None), Err(InvalidTopicException));
    check(counted("a b", None, None), Err(InvalidTopicException));
    check(counted(&"x".repeat(250), None, None), Err(InvalidTopicException));
    check(counted(&"x".repeat(249), None, None), Ok((4, 1)));
    check(counted(OFFSETS_TOPIC, None, None), Err(InvalidTopicException));
    check(assigned("t", &[(1, &[2, 3]), (0, &[1, 2])]), Ok((2, 2)));
    check(assigned("t", &[]), Err(InvalidReplicaAssignment));
    check(assigned("t", &[(0, &[1]), (2, &[1])]), Err(InvalidReplicaAssignment));
    check(assigned("t", &[(0, &[1]), (0, &[1])]), Err(InvalidReplicaAssignment));
    check(assigned("t", &[(0, &[1, 1])]), Err(InvalidReplicaAssignment));
    check(assigned("t", &[(0, &[1, 2]), (1, &[1])]), Err(InvalidReplicaAssignment));
    check(assigned("t", &[(0, &[])]), Err(InvalidReplicaAssignment));
    check(assigned("t", &[(0, &[4])]), Err(InvalidReplicaAssignment));
    check(configured("t", "retention.ms", Some("5")), Ok((4, 1)));
    check(configured("t", "retention.ms", Some("soon")), Err(InvalidConfig));
    check(configured("t", "retention.ms", None), Err(InvalidConfig));
    check(configured("t", "retention.nanos", Some("5")), Err(InvalidConfig));
}

#[test]
fn a_request_that_names_a_topic_twice_or_alike_creates_neither_but_all_others() {
    let mut cluster = Cluster::new(1, &[]);
    let names = ["a", "b", "a", "c.d", "c_d"];
    let topics: Vec<_> = names.iter().map(|name| counted(name, None, None)).collect();
    let codes: Vec<_> = cluster
        .create(&topics)
        .into_iter()
        .map(|it| it.map_or_else(|error| error.code(), |_| ErrorCode::None))
        .collect();
    let (twice, alike) = (ErrorCode::InvalidRequest, ErrorCode::InvalidTopicException);
    assert_eq!(codes, [twice, ErrorCode::None, twice, alike, alike]);
    assert_eq!(cluster.image.topics().count(), 1);
}

#[test]
fn to_validate_only_changes_nothing() {
    let mut cluster = Cluster::new(1, &[]);
    let topics = [counted("t", Some(3), None)];
    let outcome = cluster.core.create_topics(&cluster.image, &topics, true);
    assert!(outcome.records.is_empty());
    assert_eq!(outcome.reply[0].as_ref().unwrap().partition_count, 3);
    cluster.create(&topics)[0].as_ref().unwrap();
    let more = MorePartitions { name: "t".to_owned(), total_count: 5, assignments: None };
    let outcome = cluster.core.create_partitions(&cluster.image, &[more], true);
    assert_eq!((outcome.records.len(), outcome.reply), (0, vec![Ok(())]));
}

#[test]
fn a_topic_id_is_never_used_again_even_when_chance_repeats_itself() {
    let mut ids = BTreeSet::new();
    let mut cluster = Cluster::new(1, &[]);
    for _ in 0..20 {
        // A restart: the seed is the same, the Image goes on.
        cluster.core = Core::new(config(&[]), 1, Lot::of_seed(1));
        for name in ["a", "b"] {
            let created = cluster.create_one(counted(name, None, None)).unwrap();
            assert!(ids.insert(created.id), "{} was used again", created.id);
        }
        for name in ["a", "b"] {
            cluster.delete(TopicRef::Name(name.to_owned())).unwrap();
        }
    }
}

#[test]
fn topics_are_deleted_by_name_or_id_unless_that_is_switched_off() {
    let mut cluster = Cluster::new(1, &[]);
    let id = cluster.create_one(counted("a", None, None)).unwrap().id;
    let unknown = TopicId([1; 16]);
    let code = |deleted: Result<_, TopicError>| deleted.unwrap_err().code();
    let by_id = |id| TopicRef::Id(id);
    let by_name = |name: &str| TopicRef::Name(name.to_owned());
    assert_eq!(code(cluster.delete(by_name("b"))), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(cluster.delete(by_id(unknown))), ErrorCode::UnknownTopicId);
    assert_eq!(cluster.delete(by_id(id)).unwrap(), DeletedTopic { name: "a".into(), id });
    assert_eq!(code(cluster.delete(by_id(id))), ErrorCode::UnknownTopicId);
    let outcome = cluster.core.ensure_topics(&cluster.image, &[OFFSETS_TOPIC.to_owned()]);
    cluster.commit(outcome);
    assert_eq!(code(cluster.delete(by_name(OFFSETS_TOPIC))), ErrorCode::InvalidTopicException);
    let mut cluster = Cluster::new(1, &[("delete.topic.enable", "false")]);
    cluster.create_one(counted("a", None, None)).unwrap();
    assert_eq!(code(cluster.delete(by_name("a"))), ErrorCode::TopicDeletionDisabled);
}

#[test]
fn partitions_are_added_never_taken() {
    use ErrorCode::{InvalidPartitions, InvalidReplicaAssignment, PolicyViolation};
    let check = |total_count, assignments: Option<Vec<Vec<i32>>>, want: Result<i32, ErrorCode>| {
        let mut cluster = Cluster::new(2, &[]);
        cluster.create_one(counted("t", Some(2), Some(1))).unwrap();
        let ids = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
        let assignments = assignments.map(|it| it.into_iter().map(ids).collect());
        let request = MorePartitions { name: "t".to_owned(), total_count, assignments };
        let grown = cluster.grow(request).map_err(|error| error.code());
        let grown = grown.map(|()| cluster.image.topic("t").unwrap().partition_count());
        assert_eq!(grown, want);
    };
    check(5, None, Ok(5));
    check(2, None, Err(InvalidPartitions));
    check(1, None, Err(InvalidPartitions));
    check(20_000, None, Err(PolicyViolation));
    check(3, Some(vec![vec![2]]), Ok(3));
    check(3, Some(vec![vec![1], vec![2]]), Err(InvalidReplicaAssignment));
    check(3, Some(vec![vec![1, 2]]), Err(InvalidReplicaAssignment));
    check(3, Some(vec![vec![7]]), Err(InvalidReplicaAssignment));
}

#[test]
fn the_clusters_own_topics_are_compacted_and_fit_the_brokers_there_are() {
    let mut cluster = Cluster::new(2, &[]);
    let names = [OFFSETS_TOPIC, TRANSACTIONS_TOPIC, "orders"].map(str::to_owned);
    for _ in 0..2 {
        let outcome = cluster.core.ensure_topics(&cluster.image, &names);
        assert_eq!(cluster.commit(outcome), [Ok(()), Ok(()), Ok(())]);
    }
    for name in [OFFSETS_TOPIC, TRANSACTIONS_TOPIC] {
        let topic = cluster.image.topic(name).unwrap();
        assert_eq!((topic.partition_count(), topic.partitions[0].replicas.len()), (50, 2));
        let configs: BTreeMap<_, _> = cluster.image.topic_configs(name).collect();
        assert_eq!(configs["cleanup.policy"], "compact");
    }
    assert_eq!(cluster.image.topic("orders").unwrap().partition_count(), 1);
}

#[test]
fn settings_change_as_a_whole_or_not_at_all() {
    use ConfigOperation::{Append, Delete, Set, Subtract};
    let mut cluster = Cluster::new(1, &[]);
    cluster.create_one(configured("t", "retention.ms", Some("5"))).unwrap();
    let set = |pairs: &[(&str, &str)]| -> Altered {
        Ok(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    };
    let mut check = |changes: &[(&str, ConfigOperation, Option<&str>)], want: Altered| {
        assert_eq!(cluster.alter("t", changes), want);
    };
    check(
        &[("segment.bytes", Set, Some("4096")), ("retention.ms", Delete, None)],
        set(&[("segment.bytes", "4096")]),
    );
    check(
        &[("cleanup.policy", Append, Some("compact,delete"))],
        set(&[("cleanup.policy", "delete,compact"), ("segment.bytes", "4096")]),
    );
    check(
        &[("cleanup.policy", Subtract, Some("delete")), ("segment.bytes", Delete, None)],
        set(&[("cleanup.policy", "compact")]),
    );
    let no_list = Err(SettingError::NoList("retention.ms".to_owned()));
    check(&[("retention.ms", Append, Some("5"))], no_list);
    let no_value = Err(SettingError::NoValue("retention.ms".to_owned()));
    check(&[("retention.ms", Set, None)], no_value);
    let twice = Err(SettingError::Twice("retention.ms".to_owned()));
    check(&[("retention.ms", Set, Some("1")), ("retention.ms", Delete, None)], twice);
    let code = |altered: Altered| altered.unwrap_err().code();
    let bad = [("segment.bytes", Set, Some("4096")), ("retention.ms", Set, Some("x"))];
    assert_eq!(code(cluster.alter("t", &bad)), ErrorCode::InvalidConfig);
    let unknown = [("retention.nanos", Delete, None)];
    assert_eq!(code(cluster.alter("t", &unknown)), ErrorCode::InvalidConfig);
    assert_eq!(code(cluster.alter("u", &[])), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(cluster.alter("t", &[]), set(&[("cleanup.policy", "compact")]));
}

fn settings(pairs: &[(&str, &str)]) -> Altered {
    Ok(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[test]
fn replacing_a_resources_settings_returns_what_is_not_named_to_its_default() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.create_one(configured("t", "retention.ms", Some("5"))).unwrap();
    let topic = || Resource::Topic("t".into());
    let set = [("segment.bytes", "4096")];
    assert_eq!(cluster.set(topic(), &set, true), settings(&set));
    let refused = cluster.set(topic(), &[("segment.bytes", "x")], true).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidConfig);
    let told = refused.to_string();
    assert!(
        ["segment.bytes", "\"x\"", "at least 1024"].iter().all(|it| told.contains(it)),
        "{told}"
    );
    assert_eq!(cluster.set(topic(), &[], true), settings(&[]));
}

#[test]
fn of_a_brokers_settings_those_that_are_dynamic_change() {
    let mut cluster = Cluster::new(1, &[]);
    let all = || Resource::Broker(None);
    let own = || Resource::Broker(Some(BrokerId(1)));
    let set = [("log.cleanup.policy", "compact")];
    assert_eq!(cluster.set(all(), &set, false), settings(&set));
    // What is appended to is what holds, wherever it comes from.
    let change = ConfigChange {
        name: "log.cleanup.policy".to_owned(),
        operation: ConfigOperation::Append,
        value: Some("delete".to_owned()),
    };
    let changes = vec![change];
    let appended = cluster.alter_resource(AlterConfig { resource: own(), changes, replace: false });
    assert_eq!(appended, settings(&[("log.cleanup.policy", "compact,delete")]));
    let mut refuse = |resource, name: &str, value: &str, want: &str| {
        let refused = cluster.set(resource, &[(name, value)], false).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidRequest, "{name}");
        assert!(refused.to_string().contains(want), "{refused}");
    };
    refuse(own(), "node.id", "2", "node.id: cannot be changed while running");
    refuse(own(), "mesage.max.bytes", "2", "did you mean message.max.bytes?");
    refuse(all(), "message.max.bytes", "-1", "message.max.bytes: \"-1\" is not accepted");
    refuse(Resource::Broker(Some(BrokerId(7))), "message.max.bytes", "1", "broker 7");
}

#[test]
fn a_topic_without_a_setting_follows_its_broker_and_that_its_cluster() {
    let mut cluster = Cluster::new(1, &[("message.max.bytes", "1000")]);
    cluster.create_one(counted("t", None, None)).unwrap();
    let (all, own) = (Resource::Broker(None), Resource::Broker(Some(BrokerId(1))));
    let mut check = |resource: &Resource, pairs: &[(&str, &str)], want| {
        cluster.set(resource.clone(), pairs, true).unwrap();
        let broker = cluster.image.broker_config(&cluster.core.config);
        let topic = crate::config::TopicConfig::of(&broker, cluster.image.topic_configs("t"));
        assert_eq!(topic.unwrap().max_message_bytes, want, "{resource:?} {pairs:?}");
        assert!(broker.given.has("message.max.bytes"));
    };
    check(&all, &[], 1000);
    check(&all, &[("message.max.bytes", "2000")], 2000);
    check(&own, &[("message.max.bytes", "3000")], 3000);
    check(&Resource::Topic("t".into()), &[("max.message.bytes", "4000")], 4000);
    check(&Resource::Topic("t".into()), &[], 3000);
    check(&own, &[], 2000);
    check(&all, &[], 1000);
}

#[test]
fn a_groups_settings_keep_within_the_bounds_of_its_broker() {
    let mut cluster = Cluster::new(1, &[]);
    let group = || Resource::Group("g".into());
    let set = [("consumer.session.timeout.ms", "50000")];
    assert_eq!(cluster.set(group(), &set, false), settings(&set));
    let config = cluster.image.group_config(&cluster.core.config, "g");
    assert_eq!(config.consumer_session_timeout, Duration::from_secs(50));
    assert_eq!(config.consumer_heartbeat_interval, Duration::from_secs(5));
    let other = cluster.image.group_config(&cluster.core.config, "h");
    assert_eq!(other.consumer_session_timeout, Duration::from_secs(45));
    for (name, value) in [
        ("consumer.session.timeout.ms", "1000"),
        ("consumer.session.timeout.ms", "60001"),
        ("consumer.heartbeat.interval.ms", "4999"),
        ("consumer.heartbeat.interval.ms", "many"),
        ("session.timeout.ms", "50000"),
    ] {
        let refused = cluster.set(group(), &[(name, value)], false).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidConfig, "{name}={value}");
        assert!(refused.to_string().contains(name), "{refused}");
    }
}

#[test]
fn of_resources_that_are_named_twice_none_changes() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.create_one(counted("t", None, None)).unwrap();
    let alteration = AlterConfig {
        resource: Resource::Topic("t".into()),
        changes: vec![ConfigChange {
            name: "retention.ms".to_owned(),
            operation: ConfigOperation::Set,
            value: Some("5".to_owned()),
        }],
        replace: false,
    };
    let twice = [alteration.clone(), alteration];
    let outcome = cluster.core.alter_configs(&cluster.image, &twice, false);
    let refused = Err(SettingError::Twice("t".to_owned()));
    assert_eq!((outcome.records, outcome.reply), (Vec::new(), vec![refused.clone(), refused]));
}

#[test]
fn a_change_that_changes_nothing_is_not_recorded() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.create_one(configured("t", "retention.ms", Some("5"))).unwrap();
    let change = |name: &str, operation, value: Option<&str>| ConfigChange {
        name: name.to_owned(),
        operation,
        value: value.map(str::to_owned),
    };
    let changes = vec![
        change("retention.ms", ConfigOperation::Set, Some("5")),
        change("segment.bytes", ConfigOperation::Delete, None),
    ];
    let resource = Resource::Topic("t".into());
    let alterations = [AlterConfig { resource, changes, replace: false }];
    let outcome = cluster.core.alter_configs(&cluster.image, &alterations, false);
    assert_eq!((outcome.records, outcome.reply), (Vec::new(), vec![Ok(())]));
}

#[test]
fn blocks_of_producer_ids_never_overlap_and_need_the_newest_registration() {
    let mut cluster = Cluster::new(1, &[]);
    let old = cluster.image.broker(BrokerId(1)).unwrap().epoch;
    let epoch = cluster.register(1);
    let mut next = 0;
    for _ in 0..3 {
        let outcome = cluster.core.allocate_producer_ids(&cluster.image, BrokerId(1), epoch);
        let block = cluster.commit(outcome).unwrap();
        let want = ProducerIdBlock { start: ProducerId(next), end: ProducerId(next + 1000) };
        assert_eq!(block, want);
        next += 1000;
    }
    let mut code = |broker, epoch| {
        let outcome = cluster.core.allocate_producer_ids(&cluster.image, broker, epoch);
        assert!(outcome.records.is_empty());
        cluster.commit(outcome).unwrap_err().code()
    };
    assert_eq!(code(BrokerId(1), old), ErrorCode::StaleBrokerEpoch);
    assert_eq!(code(BrokerId(2), epoch), ErrorCode::BrokerIdNotRegistered);
}

#[test]
fn a_registration_fences_the_one_before_and_opens_new_leader_epochs() {
    let mut cluster = Cluster::new(2, &[]);
    cluster.create_one(assigned("t", &[(0, &[1, 2]), (1, &[2, 1])])).unwrap();
    let before = cluster.image.broker(BrokerId(1)).unwrap().epoch;
    let epoch = cluster.register(1);
    assert!(epoch > before);
    let epochs = |cluster: &Cluster| {
        let topic = cluster.image.topic("t").unwrap();
        topic.partitions.iter().map(|it| (it.leader.0, it.leader_epoch.0)).collect::<Vec<_>>()
    };
    assert_eq!(epochs(&cluster), [(1, 1), (2, 0)]);
    let features: Vec<_> = cluster.image.features().collect();
    let want = [("group.version", 1), ("metadata.version", 30), ("transaction.version", 2)];
    assert_eq!(features, want);
}

/// Two brokers, the partitions of topic `t` on both, as `change` left them.
fn led(change: impl Fn(&mut Partition)) -> Cluster {
    let mut cluster = Cluster::new(2, &[]);
    cluster.create_one(assigned("t", &[(0, &[1, 2]), (1, &[2, 1])])).unwrap();
    let topic = cluster.image.topic("t").unwrap().clone();
    let mut image = Image::empty("c");
    let mut records = cluster.image.to_records();
    records.retain(|it| !matches!(it, Record::Partition(_)));
    for (index, partition) in topic.indices().zip(&topic.partitions) {
        let mut partition = partition.clone();
        change(&mut partition);
        records.push(partition.to_record(topic.id, index).into());
    }
    records.iter().for_each(|it| image.apply(it, &mut Delta::default()).unwrap());
    Cluster { image, ..cluster }
}

impl Cluster {
    fn fence(&mut self, id: i32) {
        let broker = self.image.broker(BrokerId(id)).unwrap().clone();
        let broker = metadata::Broker { is_fenced: true, ..broker };
        self.image.apply(&broker.to_record().into(), &mut Delta::default()).unwrap();
    }

    fn elect(&mut self, election: Election, indices: &[i32]) -> Vec<ErrorCode> {
        let partitions = indices.iter().copied().map(PartitionIndex).collect();
        let asked = ElectionTopic { name: "t".into(), partitions };
        let outcome = self.core.elect_leaders(&self.image, election, Some(&[asked]));
        let elected = self.commit(outcome).remove(0);
        let codes = elected.partitions.into_iter();
        codes.map(|(_, done)| done.map_or_else(|it| it.code(), |()| ErrorCode::None)).collect()
    }

    fn leaders(&self) -> Vec<(i32, i32)> {
        let topic = self.image.topic("t").unwrap();
        topic.partitions.iter().map(|it| (it.leader.0, it.leader_epoch.0)).collect()
    }

    fn reassign(&mut self, replicas: Option<&[i32]>, may_change_factor: bool) -> ErrorCode {
        let replicas = replicas.map(|ids| ids.iter().copied().map(BrokerId).collect());
        let partition = PartitionIndex(0);
        let asked = Reassignment { topic: "t".to_owned(), partition, replicas };
        let outcome = self.core.reassign(&self.image, &[asked], may_change_factor);
        self.commit(outcome).remove(0).map_or_else(|it| it.code(), |()| ErrorCode::None)
    }

    fn update(
        &mut self,
        updates: &[(&str, i16, Option<FeatureChange>)],
    ) -> Result<(), FeatureReason> {
        let updates: Vec<_> = updates
            .iter()
            .map(|&(feature, level, change)| FeatureUpdate {
                feature: feature.to_owned(),
                level,
                change,
            })
            .collect();
        let tried = self.core.update_features(&self.image, &updates, true);
        assert!(tried.records.is_empty(), "a trial changes nothing");
        let outcome = self.core.update_features(&self.image, &updates, false);
        assert_eq!(outcome.reply, tried.reply);
        self.commit(outcome).map_err(|error| error.reason)
    }
}

#[test]
fn a_preferred_election_gives_a_partition_back_to_its_first_replica() {
    let mut cluster = led(|partition| partition.leader = BrokerId(2));
    let codes = cluster.elect(Election::Preferred, &[0, 1, 0, 2]);
    let (none, not_needed) = (ErrorCode::None, ErrorCode::ElectionNotNeeded);
    assert_eq!(codes, [none, not_needed, not_needed, ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(cluster.leaders(), [(1, 1), (2, 0)]);
}

#[test]
fn a_preferred_replica_that_is_out_of_sync_or_gone_is_not_elected() {
    let not_available = [ErrorCode::PreferredLeaderNotAvailable];
    let mut lagging = led(|partition| {
        partition.leader = BrokerId(2);
        partition.isr = vec![BrokerId(2)];
    });
    assert_eq!(lagging.elect(Election::Preferred, &[0]), not_available);
    let mut gone = led(|partition| partition.leader = BrokerId(2));
    gone.fence(1);
    assert_eq!(gone.elect(Election::Preferred, &[0]), not_available);
    assert_eq!(gone.leaders()[0], (2, 0));
}

#[test]
fn an_unclean_election_takes_who_is_in_sync_then_who_is_alive_and_only_where_nobody_leads() {
    let in_sync = |id: i32| {
        led(move |partition| {
            partition.leader = BrokerId::NONE;
            partition.isr = vec![BrokerId(id)];
        })
    };
    let mut clean = in_sync(2);
    assert_eq!(clean.elect(Election::Unclean, &[0]), [ErrorCode::None]);
    assert_eq!(clean.leaders()[0], (2, 1));
    assert_eq!(clean.elect(Election::Unclean, &[0]), [ErrorCode::ElectionNotNeeded]);
    let mut lossy = in_sync(2);
    lossy.fence(2);
    assert_eq!(lossy.elect(Election::Unclean, &[0]), [ErrorCode::None]);
    let partition = lossy.image.partition("t", PartitionIndex(0)).unwrap();
    assert_eq!((partition.leader, &partition.isr[..]), (BrokerId(1), &[BrokerId(1)][..]));
    let mut hopeless = in_sync(2);
    hopeless.fence(1);
    hopeless.fence(2);
    let codes = hopeless.elect(Election::Unclean, &[0]);
    assert_eq!(codes, [ErrorCode::EligibleLeadersNotAvailable]);
}

#[test]
fn an_election_everywhere_tells_only_of_partitions_that_needed_one() {
    let mut cluster = led(|partition| partition.leader = BrokerId(2));
    cluster.create_one(counted("well", Some(2), Some(1))).unwrap();
    let outcome = cluster.core.elect_leaders(&cluster.image, Election::Preferred, None);
    let elected = cluster.commit(outcome);
    let told = elected.into_iter().map(|it| (it.name.to_string(), it.partitions));
    let want =
        [("t".to_owned(), vec![(PartitionIndex(0), Ok(()))]), ("well".to_owned(), Vec::new())];
    assert!(told.eq(want));
}

#[test]
fn an_assignment_to_the_brokers_that_hold_the_partition_is_carried_out_and_no_other() {
    use ErrorCode::{
        InvalidReplicaAssignment, InvalidReplicationFactor, NoReassignmentInProgress, None,
    };
    let mut cluster = led(|_| {});
    assert_eq!(cluster.reassign(Some(&[1, 2]), true), None);
    assert_eq!(cluster.image.partition("t", PartitionIndex(0)).unwrap().partition_epoch.0, 0);
    assert_eq!(cluster.reassign(Some(&[2, 1]), false), None);
    let partition = cluster.image.partition("t", PartitionIndex(0)).unwrap();
    assert_eq!(partition.replicas, [BrokerId(2), BrokerId(1)]);
    assert_eq!(partition.leader, BrokerId(1), "an election is asked for on its own");
    for wanted in [&[][..], &[3], &[-1], &[1, 1], &[1]] {
        assert_eq!(cluster.reassign(Some(wanted), true), InvalidReplicaAssignment, "{wanted:?}");
    }
    assert_eq!(cluster.reassign(Some(&[1]), false), InvalidReplicationFactor);
    assert_eq!(cluster.reassign(Option::None, true), NoReassignmentInProgress);
}

#[test]
fn a_feature_has_a_level_that_every_broker_can_run_at_and_falls_only_when_it_may() {
    use FeatureChange::{SafeDowngrade, UnsafeDowngrade, Upgrade};
    use FeatureReason::{
        Falls, LosesMetadata, Negative, OutOfRange, Rises, Twice, UnknownChange, Unsupported,
    };
    let mut cluster = Cluster::new(1, &[]);
    let broker = BrokerId(1);
    let txn = "transaction.version";
    let checks = [
        (txn, 3, Some(Upgrade), Err(OutOfRange { broker, min: 0, max: 2 })),
        (txn, -1, Some(Upgrade), Err(Negative)),
        (txn, 1, Some(Upgrade), Err(Falls(2))),
        (txn, 1, None, Err(UnknownChange)),
        ("teleport.version", 1, Some(Upgrade), Err(Unsupported(broker))),
        ("metadata.version", 29, Some(SafeDowngrade), Err(LosesMetadata(30))),
        ("metadata.version", 29, Some(UnsafeDowngrade), Err(LosesMetadata(30))),
        ("metadata.version", 30, Some(Upgrade), Ok(())),
        (txn, 1, Some(SafeDowngrade), Ok(())),
        (txn, 2, Some(SafeDowngrade), Err(Rises(1))),
        (txn, 2, Some(Upgrade), Ok(())),
    ];
    for (feature, level, change, want) in checks {
        assert_eq!(cluster.update(&[(feature, level, change)]), want, "{feature} {level}");
    }
    let twice = [(txn, 2, Some(Upgrade)), (txn, 1, Some(SafeDowngrade))];
    assert_eq!(cluster.update(&twice), Err(Twice));
    let half = [(txn, 1, Some(SafeDowngrade)), ("metadata.version", 31, Some(Upgrade))];
    assert!(cluster.update(&half).is_err());
    assert_eq!(cluster.image.feature(txn), Some(2), "all or none");
}

#[test]
fn a_feature_that_was_given_up_stays_so_when_a_broker_registers_again() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.update(&[("group.version", 0, Some(FeatureChange::UnsafeDowngrade))]).unwrap();
    let mut again = Image::empty("c");
    for record in cluster.image.to_records() {
        again.apply(&record, &mut Delta::default()).unwrap();
    }
    again.end = cluster.image.end;
    cluster.image = again;
    cluster.register(1);
    let features: Vec<_> = cluster.image.features().collect();
    assert_eq!(features, [("metadata.version", 30), ("transaction.version", 2)]);
}

#[test]
fn a_broker_is_forgotten_once_it_is_gone_and_what_it_led_is_led_by_who_is_in_sync() {
    let mut cluster = led(|_| {});
    let forget = |cluster: &mut Cluster, id| {
        let outcome = cluster.core.unregister_broker(&cluster.image, BrokerId(id));
        cluster.commit(outcome).map_err(UnregisterError::code)
    };
    assert_eq!(forget(&mut cluster, 3), Err(ErrorCode::BrokerIdNotRegistered));
    assert_eq!(forget(&mut cluster, 1), Err(ErrorCode::InvalidRequest), "it runs");
    cluster.fence(1);
    assert_eq!(forget(&mut cluster, 1), Ok(()));
    assert!(cluster.image.broker(BrokerId(1)).is_none());
    assert_eq!(cluster.leaders(), [(2, 1), (2, 0)]);
    cluster.fence(2);
    assert_eq!(forget(&mut cluster, 2), Ok(()));
    let partition = cluster.image.partition("t", PartitionIndex(0)).unwrap();
    assert_eq!((partition.leader, &partition.isr[..]), (BrokerId::NONE, &[BrokerId(2)][..]));
}

/// A node with its quorum, metadata and controller on `disk`.
async fn begin(disk: &SimDisk) -> (QuorumHandle, MetadataHandle, ControllerHandle) {
    let (feed, fed) = mpsc::channel(QUORUM_FEED_MAX);
    let metadata = metadata::start(Image::empty("c"), fed);
    let dir = PathBuf::from("/data/__cluster_metadata-0");
    let quorum_config = QuorumConfig { node_id: BrokerId(1), dir, seed: 3 };
    let quorum = quorum::start(quorum_config, Arc::new(disk.clone()), feed).await.unwrap();
    let controller = start(config(&[]), (3, Lot::of_seed(3)), quorum.clone(), metadata.clone());
    controller.register_broker(registration(1)).await.unwrap();
    (quorum, metadata, controller)
}

fn new_disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_topics_settings_and_blocks() {
    let disk = new_disk();
    let mut end = Offset::ZERO;
    let mut ids = BTreeSet::new();
    for round in 0..3 {
        let (quorum, metadata, controller) = begin(&disk).await;
        assert!(metadata.image().end > end);
        assert_eq!(metadata.image().topics().count(), round);
        let topic = configured(&format!("t{round}"), "retention.ms", Some("5"));
        let wait = Duration::from_secs(1);
        let created = controller.create_topics(vec![topic], false, wait).await.unwrap();
        assert!(ids.insert(created[0].as_ref().unwrap().id));
        let epoch = metadata.image().broker(BrokerId(1)).unwrap().epoch;
        let block = controller.allocate_producer_ids(BrokerId(1), epoch).await.unwrap().unwrap();
        assert_eq!(block.start, ProducerId(i64::try_from(round).unwrap() * 1000));
        let image = metadata.image();
        let settings: Vec<_> = image.topic_configs("t0").collect();
        assert_eq!(settings, [("retention.ms", "5")]);
        end = image.end;
        quorum.shutdown().await;
        disk.crash();
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_twice_while_the_disk_is_full_creates_once() {
    let disk = new_disk();
    let (_quorum, metadata, controller) = begin(&disk).await;
    disk.set_capacity(Some(disk.used_bytes()));
    let wait = Duration::from_secs(1);
    for _ in 0..2 {
        let asked = controller.create_topics(vec![counted("t", None, None)], false, wait).await;
        assert_eq!(asked, Err(ControllerError::TimedOut(wait)));
    }
    disk.set_capacity(None);
    let asked = controller.create_topics(vec![counted("t", None, None)], false, wait).await;
    assert_eq!(asked.unwrap()[0], Err(TopicError::Exists("t".to_owned())));
    assert_eq!(metadata.image().topics().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_broken_disk_every_request_is_refused() {
    let disk = new_disk();
    let (_quorum, metadata, controller) = begin(&disk).await;
    disk.inject(crate::disk::Fault::io_error(crate::disk::Op::Sync, 0));
    for _ in 0..2 {
        let asked = controller.ensure_topics(vec!["t".to_owned()], Duration::MAX).await;
        assert_eq!(asked.unwrap_err().code(), ErrorCode::RequestTimedOut);
    }
    assert_eq!(metadata.image().topics().count(), 0);
}

fn acl(name: &str, principal: &str) -> Acl {
    Acl {
        resource: ResourceType::Topic,
        pattern: PatternType::Literal,
        name: name.into(),
        principal: principal.into(),
        host: "*".into(),
        operation: AclOperation::Read,
        permission: Permission::Allow,
    }
}

#[test]
fn an_entry_is_created_once_and_each_filter_is_told_what_it_deleted() {
    let mut cluster = Cluster::new(1, &[]);
    let create = |cluster: &mut Cluster, acls: &[Acl]| {
        let outcome = cluster.core.create_acls(&cluster.image, acls);
        let count = outcome.records.len();
        (cluster.commit(outcome), count)
    };
    let (one, other) = (acl("t", "User:a"), acl("u", "User:a"));
    let wrong = [acl("", "User:a"), acl("t", "a")];
    let cluster_acl = Acl { resource: ResourceType::Cluster, ..acl("my-cluster", "User:a") };
    assert_eq!(
        create(
            &mut cluster,
            &[one.clone(), one.clone(), wrong[0].clone(), wrong[1].clone(), cluster_acl]
        ),
        (
            vec![
                Ok(()),
                Ok(()),
                Err(AclError::EmptyName),
                Err(AclError::Principal("a".to_owned())),
                Err(AclError::Cluster("my-cluster".to_owned())),
            ],
            1
        )
    );
    assert_eq!(create(&mut cluster, &[one.clone(), other.clone()]), (vec![Ok(()); 2], 1));
    let all = AclFilter {
        resource: None,
        pattern: PatternFilter::Any,
        name: None,
        principal: None,
        host: None,
        operation: None,
        permission: None,
    };
    let named = AclFilter { name: Some("t".into()), ..all.clone() };
    let nobodys = AclFilter { principal: Some("User:b".into()), ..all.clone() };
    let outcome = cluster.core.delete_acls(&cluster.image, &[named, nobodys, all]);
    assert_eq!(outcome.records.len(), 2, "each goes once");
    let deleted = cluster.commit(outcome);
    assert_eq!(deleted, [vec![one.clone()], vec![], vec![one, other]]);
    assert!(cluster.image.acls().is_empty());
}

#[test]
fn no_request_creates_more_entries_than_one_proposal_should_carry() {
    let mut cluster = Cluster::new(1, &[]);
    let acls: Vec<_> = (0..=ACLS_PER_REQUEST_MAX).map(|n| acl(&n.to_string(), "User:a")).collect();
    let outcome = cluster.core.create_acls(&cluster.image, &acls);
    assert_eq!(outcome.records.len(), ACLS_PER_REQUEST_MAX);
    let refused: Vec<_> = outcome.reply.iter().filter_map(|it| it.as_ref().err()).collect();
    assert_eq!(refused, [&AclError::TooMany]);
    cluster.commit(outcome);
}

#[test]
fn ids_of_topics_follow_from_a_key_and_from_nothing_that_is_seen() {
    let id = |seed, key, nth| {
        let core = Core::new(config(&[]), seed, Lot::of_seed(key));
        core.topic_id(&Image::empty("c"), nth).0
    };
    assert_eq!(id(1, 1, 0), id(2, 1, 0), "not from what places partitions");
    assert_ne!(id(1, 1, 0), id(1, 2, 0));
    let alike = id(1, 1, 0).iter().zip(id(1, 1, 1)).filter(|(one, next)| **one == *next).count();
    assert!(alike < 4, "two of one request have {alike} bytes in common");
}
