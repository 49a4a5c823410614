//! Topics: made, described, grown, deleted.
//!
//! Shell.

use protocol::api::metadata::{
    DescribeClusterRequest, MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use protocol::api::offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use protocol::api::topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsRequestTopic, TopicPartitionCursor,
};
use protocol::api::topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatePartitionsAssignment,
    CreatePartitionsRequest, CreatePartitionsTopic, CreateTopicsRequest, DeleteTopicState,
    DeleteTopicsRequest,
};
use protocol::ids::TopicId;

use crate::answers::script::{Script, from};

pub(in crate::answers) fn topic(name: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    }
}

pub(in crate::answers) fn with(
    mut topic: CreatableTopic,
    configs: &[(&str, &str)],
) -> CreatableTopic {
    topic.configs.extend(configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).to_owned(),
        value: Some((*value).to_owned()),
    }));
    topic
}

fn placed(mut topic: CreatableTopic, places: &[(i32, &[i32])]) -> CreatableTopic {
    topic.assignments.extend(places.iter().map(|(partition_index, brokers)| {
        CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: brokers.to_vec(),
        }
    }));
    topic
}

pub(in crate::answers) fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest { topics, timeout_ms: 30_000, validate_only: false }
}

fn asked(names: &[&str]) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic {
        name: Some((*name).to_owned()),
        topic_id: TopicId::ZERO,
    };
    MetadataRequest {
        topics: Some(names.iter().map(topic).collect()),
        ..MetadataRequest::default()
    }
}

fn unasked(names: &[&str]) -> MetadataRequest {
    MetadataRequest { allow_auto_topic_creation: false, ..asked(names) }
}

impl Script {
    /// Makes a topic, waits until it can be used, and gives its id. Writes nothing down.
    pub(in crate::answers) fn make(&mut self, topic: CreatableTopic) -> anyhow::Result<TopicId> {
        let name = topic.name.clone();
        let partitions = 0..topic.num_partitions;
        self.quiet(7, create(vec![topic]))?;
        let id = self.await_topic(&name)?;
        // That all know of the topic does not say that its leader has begun.
        let partition = |partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: -1,
            ..ListOffsetsPartition::default()
        };
        let ends = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name,
                partitions: partitions.map(partition).collect(),
            }],
            ..ListOffsetsRequest::default()
        };
        self.settle(1, ends, |it| {
            it.topics.iter().flat_map(|it| &it.partitions).all(|it| it.error_code == 0)
        })?;
        Ok(id)
    }

    /// Waits until all partitions of a topic have leaders.
    pub(in crate::answers) fn await_topic(&mut self, name: &str) -> anyhow::Result<TopicId> {
        let is_ready = |it: &MetadataResponse| {
            let topic = it.topics.first();
            topic.is_some_and(|topic| {
                topic.error_code == 0 && topic.partitions.iter().all(|it| it.leader_id >= 0)
            })
        };
        let response = self.settle(12, unasked(&[name]), is_ready)?;
        let id = response.topics[0].topic_id;
        self.name_topic(id, name);
        Ok(id)
    }

    fn await_partitions(&mut self, name: &str, count: usize) -> anyhow::Result<()> {
        let has_all = |it: &MetadataResponse| {
            it.topics[0].partitions.len() == count
                && it.topics[0].partitions.iter().all(|it| it.leader_id >= 0)
        };
        self.settle(12, unasked(&[name]), has_all).map(drop)
    }

    fn await_gone(&mut self, name: &str) -> anyhow::Result<()> {
        self.settle(12, unasked(&[name]), |it| it.topics[0].error_code != 0).map(drop)
    }
}

/// Names that no topic may have, and one that is as long as may be.
fn names() -> Vec<(&'static str, String)> {
    vec![
        ("empty", String::new()),
        ("a dot", ".".to_owned()),
        ("two dots", "..".to_owned()),
        ("a slash", "a/b".to_owned()),
        ("a space", "a b".to_owned()),
        ("an umlaut", "ä".to_owned()),
        ("too long", "x".repeat(250)),
    ]
}

pub(in crate::answers) fn creation(script: &mut Script) -> anyhow::Result<()> {
    script.every("all topics of an empty cluster", |version| MetadataRequest {
        topics: if version > 0 { None } else { Some(Vec::new()) },
        ..MetadataRequest::default()
    })?;
    for version in from::<CreateTopicsRequest>(2) {
        let name = format!("made-{version}");
        let configs = [("retention.ms", "86400000"), ("cleanup.policy", "compact,delete")];
        let made = create(vec![with(topic(&name, 2), &configs)]);
        let tried = CreateTopicsRequest { validate_only: true, ..made.clone() };
        script.ask("a topic, only tried", version, tried)?;
        script.begin(0, version, made.clone())?;
        let heard = script.hear::<CreateTopicsRequest>(0, version)?;
        // The answer has an id that must have a name first.
        script.await_topic(&name)?;
        script.write::<CreateTopicsRequest>("a topic", version, heard)?;
        script.ask("a topic that exists", version, made)?;
    }
    script.some("defaults of the broker", 4..=7, |_| CreateTopicsRequest {
        validate_only: true,
        ..create(vec![CreatableTopic { replication_factor: -1, ..topic("defaults", -1) }])
    })?;
    script.every("no topics", |_| create(Vec::new()))?;
    for (what, name) in names() {
        script.every(&format!("a name that is {what}"), |_| create(vec![topic(&name, 1)]))?;
    }
    for (what, wrong) in [
        ("no partitions", topic("wrong", 0)),
        ("less than no partitions", topic("wrong", -2)),
        ("no replicas", CreatableTopic { replication_factor: 0, ..topic("wrong", 1) }),
        (
            "more replicas than brokers",
            CreatableTopic { replication_factor: 3, ..topic("wrong", 1) },
        ),
        ("less than no replicas", CreatableTopic { replication_factor: -2, ..topic("wrong", 1) }),
        ("partitions and places", placed(topic("wrong", 1), &[(0, &[1])])),
        ("an unknown setting", with(topic("wrong", 1), &[("no.such.setting", "1")])),
        ("a value that is none", with(topic("wrong", 1), &[("retention.ms", "soon")])),
        ("a value out of range", with(topic("wrong", 1), &[("retention.ms", "-2")])),
        ("an unknown policy", with(topic("wrong", 1), &[("cleanup.policy", "keep")])),
        ("a small segment", with(topic("wrong", 1), &[("segment.bytes", "1024")])),
        ("an empty policy", with(topic("wrong", 1), &[("cleanup.policy", "")])),
        (
            "lags that cross",
            with(
                topic("wrong", 1),
                &[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")],
            ),
        ),
        ("tiering", with(topic("wrong", 1), &[("remote.storage.enable", "true")])),
        ("a retired setting", with(topic("wrong", 1), &[("message.format.version", "3.0")])),
        (
            "a setting twice",
            with(topic("wrong", 1), &[("retention.ms", "1"), ("retention.ms", "2")]),
        ),
        ("a name like another", topic("made_2", 1)),
    ] {
        script.every(what, |_| CreateTopicsRequest {
            validate_only: true,
            ..create(vec![wrong.clone()])
        })?;
    }
    let anywhere = CreatableTopic { replication_factor: -1, ..topic("placed", -1) };
    for (what, places) in [
        ("places", &[(0, &[1][..]), (1, &[1])][..]),
        ("a place that is no broker", &[(0, &[9])]),
        ("the same place twice", &[(0, &[1, 1])]),
        ("no place", &[(0, &[])]),
        ("partitions with a gap", &[(0, &[1]), (2, &[1])]),
        ("a partition twice", &[(0, &[1]), (0, &[1])]),
        ("a partition below 0", &[(-1, &[1])]),
    ] {
        script.every(what, |_| CreateTopicsRequest {
            validate_only: true,
            ..create(vec![placed(anywhere.clone(), places)])
        })?;
    }
    let mut null = topic("wrong", 1);
    null.configs.push(CreatableTopicConfig { name: "retention.ms".to_owned(), value: None });
    script.every("a setting that is null", |_| CreateTopicsRequest {
        validate_only: true,
        ..create(vec![null.clone()])
    })?;
    script.every("a topic twice, another beside it", |_| CreateTopicsRequest {
        validate_only: true,
        ..create(vec![topic("twice", 1), topic("beside", 1), topic("twice", 2)])
    })?;
    script.every("good and bad side by side", |_| CreateTopicsRequest {
        validate_only: true,
        ..create(vec![topic("good", 1), topic("b a d", 1), topic("made-2", 1)])
    })
}

pub(in crate::answers) fn description(script: &mut Script) -> anyhow::Result<()> {
    let id = script.await_topic("made-2")?;
    script.every("topics by name", |_| asked(&["made-2", "made-7"]))?;
    script.every("a topic twice", |_| asked(&["made-2", "made-2"]))?;
    script
        .some("a topic that is not there", from::<MetadataRequest>(4), |_| unasked(&["absent"]))?;
    script.some("no topics", from::<MetadataRequest>(1), |_| asked(&[]))?;
    script.every("all topics", |version| MetadataRequest {
        topics: if version == 0 { Some(Vec::new()) } else { None },
        ..MetadataRequest::default()
    })?;
    for (what, name) in names() {
        script.every(&format!("a name that is {what}"), |_| asked(&[&name]))?;
    }
    script.some("what may be done", from::<MetadataRequest>(8), |version| MetadataRequest {
        include_topic_authorized_operations: true,
        include_cluster_authorized_operations: version <= 10,
        ..asked(&["made-2"])
    })?;
    let by_id = |topic_id: TopicId, name: Option<&str>| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id, name: name.map(str::to_owned) }]),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    script.some("a topic by id", 10..=13, |_| by_id(id, None))?;
    script.some("a topic by id and name", 10..=13, |_| by_id(id, Some("made-2")))?;
    script.some("a topic by id and another name", 10..=13, |_| by_id(id, Some("made-3")))?;
    script.some("an unknown id", 10..=13, |_| by_id(TopicId([7; 16]), None))?;
    script.some("neither id nor name", 10..=13, |_| by_id(TopicId::ZERO, None))?;
    for version in 0..=13 {
        let name = format!("auto-{version}");
        script.ask("a topic that is made by asking", version, asked(&[&name]))?;
        script.await_topic(&name)?;
        script.ask("a topic that was made by asking", version, asked(&[&name]))?;
    }
    script.some("the cluster", 0..=2, |version| DescribeClusterRequest {
        include_cluster_authorized_operations: true,
        include_fenced_brokers: version >= 2,
        ..DescribeClusterRequest::default()
    })?;
    script.every("the cluster, in short", |_| DescribeClusterRequest::default())?;
    for kind in [0, 2, 3] {
        script.some(&format!("the cluster by endpoints of type {kind}"), 1..=2, |_| {
            DescribeClusterRequest { endpoint_type: kind, ..DescribeClusterRequest::default() }
        })?;
    }
    pages(script)
}

fn pages(script: &mut Script) -> anyhow::Result<()> {
    let topics = |names: &[&str]| DescribeTopicPartitionsRequest {
        topics: names
            .iter()
            .map(|name| DescribeTopicPartitionsRequestTopic { name: (*name).to_owned() })
            .collect(),
        ..DescribeTopicPartitionsRequest::default()
    };
    let at = |topic_name: &str, partition_index: i32| {
        Some(TopicPartitionCursor { topic_name: topic_name.to_owned(), partition_index })
    };
    let some = topics(&["made-3", "made-2", "absent", "a/b"]);
    script.ask("all topics", 0, topics(&[]))?;
    script.ask("some topics", 0, some.clone())?;
    script.ask("a topic twice", 0, topics(&["made-3", "made-2", "made-3"]))?;
    script.ask("the empty name", 0, topics(&["made-3", ""]))?;
    for limit in [-1, 0, 1, 3] {
        let some =
            DescribeTopicPartitionsRequest { response_partition_limit: limit, ..some.clone() };
        script.ask(&format!("some topics, by {limit}"), 0, some)?;
    }
    for (topic, partition) in [
        ("made-2", 1),
        ("made-2", 0),
        ("made-3", 7),
        ("made-3", -1),
        ("a", 0),
        ("z", 0),
        ("absent", 0),
        ("", 0),
    ] {
        let from = DescribeTopicPartitionsRequest { cursor: at(topic, partition), ..some.clone() };
        script.ask(&format!("some topics from {topic:?} {partition} on"), 0, from)?;
    }
    let last = DescribeTopicPartitionsRequest { cursor: at("made-7", 1), ..topics(&[]) };
    script.ask("all topics from the last on", 0, last)?;
    Ok(())
}

pub(in crate::answers) fn growth(script: &mut Script) -> anyhow::Result<()> {
    let to = |name: &str, count: i32, places: Option<&[&[i32]]>| CreatePartitionsTopic {
        name: name.to_owned(),
        count,
        assignments: places.map(|places| {
            let place =
                |brokers: &&[i32]| CreatePartitionsAssignment { broker_ids: brokers.to_vec() };
            places.iter().map(place).collect()
        }),
    };
    let grow = |topics: Vec<CreatePartitionsTopic>| CreatePartitionsRequest {
        topics,
        timeout_ms: 30_000,
        validate_only: false,
    };
    script.make(topic("grown", 1))?;
    for version in from::<CreatePartitionsRequest>(0) {
        let count = i32::from(version) + 2;
        let tried =
            CreatePartitionsRequest { validate_only: true, ..grow(vec![to("grown", count, None)]) };
        script.ask("more partitions, only tried", version, tried)?;
        script.ask("more partitions", version, grow(vec![to("grown", count, None)]))?;
        script.await_partitions("grown", usize::try_from(count)?)?;
    }
    for (what, wrong) in [
        ("no topics", vec![]),
        ("as many partitions", vec![to("grown", 5, None)]),
        ("fewer partitions", vec![to("grown", 1, None)]),
        ("no partitions", vec![to("grown", 0, None)]),
        ("less than no partitions", vec![to("grown", -1, None)]),
        ("a topic that is not there", vec![to("absent", 2, None)]),
        ("a name that is none", vec![to("a/b", 2, None)]),
        ("places", vec![to("grown", 6, Some(&[&[1]]))]),
        ("too few places", vec![to("grown", 7, Some(&[&[1]]))]),
        ("too many places", vec![to("grown", 6, Some(&[&[1], &[1]]))]),
        ("a place that is no broker", vec![to("grown", 6, Some(&[&[9]]))]),
        ("no place", vec![to("grown", 6, Some(&[&[]]))]),
        ("a list of no places", vec![to("grown", 6, Some(&[]))]),
        ("the same place twice", vec![to("grown", 6, Some(&[&[1, 1]]))]),
        ("a topic twice", vec![to("grown", 6, None), to("made-2", 3, None), to("grown", 7, None)]),
        ("the same topic twice", vec![to("grown", 6, None), to("grown", 6, None)]),
    ] {
        script.every(what, |_| CreatePartitionsRequest {
            validate_only: true,
            ..grow(wrong.clone())
        })?;
    }
    Ok(())
}

pub(in crate::answers) fn deletion(script: &mut Script) -> anyhow::Result<()> {
    let delete = |version: i16, topics: &[(Option<&str>, TopicId)]| {
        let mut request =
            DeleteTopicsRequest { timeout_ms: 30_000, ..DeleteTopicsRequest::default() };
        for (name, topic_id) in topics {
            let name = name.map(str::to_owned);
            if version >= 6 {
                request.topics.push(DeleteTopicState { name, topic_id: *topic_id });
            } else {
                request.topic_names.push(name.unwrap_or_default());
            }
        }
        request
    };
    for version in from::<DeleteTopicsRequest>(1) {
        let name = format!("doomed-{version}");
        script.make(topic(&name, 1))?;
        script.ask("a topic", version, delete(version, &[(Some(&name), TopicId::ZERO)]))?;
        script.await_gone(&name)?;
        script.ask(
            "a topic that is gone",
            version,
            delete(version, &[(Some(&name), TopicId::ZERO)]),
        )?;
    }
    script.every("no topics", |version| delete(version, &[]))?;
    script
        .every("a name that is none", |version| delete(version, &[(Some("a/b"), TopicId::ZERO)]))?;
    script.every("the empty name", |version| delete(version, &[(Some(""), TopicId::ZERO)]))?;
    let absent = (Some("absent"), TopicId::ZERO);
    script.every("absent topics", |version| {
        delete(version, &[absent, (Some("gone"), TopicId::ZERO), absent])
    })?;
    let id = script.make(topic("doomed-by-id", 1))?;
    for (what, wrong) in [
        ("both name and id", vec![(Some("doomed-by-id"), id)]),
        ("neither name nor id", vec![(None, TopicId::ZERO)]),
        ("an unknown id", vec![(None, TopicId([9; 16]))]),
        ("a topic by its id twice", vec![(None, id), (None, id)]),
        ("a topic by its name twice", vec![(Some("doomed-by-id"), TopicId::ZERO); 2]),
    ] {
        script.ask(what, 6, delete(6, &wrong))?;
    }
    script.ask("a topic by its id", 6, delete(6, &[(None, id)]))?;
    script.await_gone("doomed-by-id")?;
    script.ask("a topic by an id that is gone", 6, delete(6, &[(None, id)]))?;
    Ok(())
}
