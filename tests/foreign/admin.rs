//! Administration: the cluster, topics and their settings, groups.
//!
//! Shell.

use std::collections::BTreeMap;

use client::NewTopic;
use client::admin::ConfigResource;
use protocol::error_code::ErrorCode;
use protocol::ids::{Offset, TopicPartition};

use crate::cluster::{Cluster, PATIENCE, numbers, on_both, poll_values};

on_both! {
    the_cluster_tells_its_id_its_brokers_and_its_controller,
    topics_are_created_described_grown_and_deleted,
    settings_of_topics_are_altered_and_go_back_to_their_defaults,
    groups_are_listed_described_and_deleted,
}

async fn the_cluster_tells_its_id_its_brokers_and_its_controller(cluster: Cluster) {
    let told = cluster.admin().await.describe_cluster().await.unwrap();
    assert!(told.cluster_id.is_some_and(|it| !it.is_empty()));
    assert_eq!(told.brokers.len(), 1);
    assert_eq!(told.brokers.values().next().unwrap().to_string(), cluster.endpoint);
    assert!(told.controller.is_some_and(|it| told.brokers.contains_key(&it)));
}

async fn topics_are_created_described_grown_and_deleted(cluster: Cluster) {
    let admin = cluster.admin().await;
    let name = cluster.name("topic");
    admin.create_topic(NewTopic::new(&name, 2)).await.unwrap();
    let again = admin.create_topic(NewTopic::new(&name, 2)).await.unwrap_err();
    assert_eq!(again.error_code(), Some(ErrorCode::TopicAlreadyExists));
    let bad = NewTopic::new("no good name!", 1);
    let bad = admin.create_topic(bad).await.unwrap_err();
    assert_eq!(bad.error_code(), Some(ErrorCode::InvalidTopicException));
    let none = admin.create_topic(NewTopic::new(cluster.name("topic"), 0)).await.unwrap_err();
    assert_eq!(none.error_code(), Some(ErrorCode::InvalidPartitions));
    let many = NewTopic::new(cluster.name("topic"), 1).replication_factor(3);
    let many = admin.create_topic(many).await.unwrap_err();
    assert_eq!(many.error_code(), Some(ErrorCode::InvalidReplicationFactor));
    let wrong = NewTopic::new(cluster.name("topic"), 1).config("retention.ms", "soon");
    let wrong = admin.create_topic(wrong).await.unwrap_err();
    assert_eq!(wrong.error_code(), Some(ErrorCode::InvalidConfig));
    assert!(admin.list_topics().await.unwrap().contains(&name));
    admin.create_partitions(&name, 5).await.unwrap();
    let fewer = admin.create_partitions(&name, 3).await.unwrap_err();
    assert_eq!(fewer.error_code(), Some(ErrorCode::InvalidPartitions));
    let described = admin.describe_topics(&[&name]).await.unwrap().remove(&name).unwrap().unwrap();
    assert_eq!(described.partitions.len(), 5);
    assert!(!described.is_internal);
    assert!(described.id.is_some());
    let deleted = admin.delete_topics(&[&name]).await.unwrap().remove(&name).unwrap();
    deleted.unwrap();
    let missing = admin.delete_topics(&[&name]).await.unwrap().remove(&name).unwrap().unwrap_err();
    assert_eq!(missing.error_code(), Some(ErrorCode::UnknownTopicOrPartition));
}

async fn settings_of_topics_are_altered_and_go_back_to_their_defaults(cluster: Cluster) {
    let admin = cluster.admin().await;
    let name = cluster.topic(1).await;
    let topic = ConfigResource::Topic(name);
    let retention = async || {
        // A broker that has yet to hear of the topic knows nothing of its settings.
        let described = async {
            loop {
                match admin.describe_configs(&topic).await {
                    Err(error)
                        if error.error_code() == Some(ErrorCode::UnknownTopicOrPartition) => {}
                    described => break described.unwrap(),
                }
            }
        };
        let entries = tokio::time::timeout(PATIENCE, described).await.expect("it hears of it");
        let entry = entries["retention.ms"].clone();
        (entry.value.unwrap(), entry.is_default)
    };
    let (default, is_default) = retention().await;
    assert!(is_default);
    let set = BTreeMap::from([("retention.ms".to_owned(), Some("60000".to_owned()))]);
    admin.alter_configs(&topic, &set).await.unwrap();
    // Brokers learn of it from the controller, after it has answered.
    let becomes = async |want: (String, bool)| {
        let wait = async { while retention().await != want {} };
        tokio::time::timeout(PATIENCE, wait).await.expect("the setting holds");
    };
    becomes(("60000".to_owned(), false)).await;
    let unset = BTreeMap::from([("retention.ms".to_owned(), None)]);
    admin.alter_configs(&topic, &unset).await.unwrap();
    becomes((default, true)).await;
    let unknown = BTreeMap::from([("no.such.setting".to_owned(), Some("1".to_owned()))]);
    let refused = admin.alter_configs(&topic, &unknown).await.unwrap_err();
    assert_eq!(refused.error_code(), Some(ErrorCode::InvalidConfig));
}

async fn groups_are_listed_described_and_deleted(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let group = cluster.name("group");
    cluster.write(&topic, numbers(0, 3)).await;
    let mut consumer = cluster.consumer(&[("group.id", &group)]).await;
    consumer.subscribe([topic.as_str()]);
    poll_values(&mut consumer, 3).await;
    let partition = TopicPartition::new(topic.as_str(), 0);
    consumer.commit(BTreeMap::from([(partition.clone(), Offset(3).into())])).await.unwrap();
    let admin = cluster.admin().await;
    let listed = admin.list_groups().await.unwrap();
    let listed = listed.into_iter().find(|it| it.group_id == group).unwrap();
    assert_eq!((&*listed.protocol_type, &*listed.state), ("consumer", "Stable"));
    let described = admin.describe_group(&group).await.unwrap();
    assert_eq!((&*described.state, &*described.assignor), ("Stable", "range"));
    let member = described.members.values().next().unwrap();
    assert_eq!(member.assignment, std::slice::from_ref(&partition));
    let refused = admin.delete_group(&group).await.unwrap_err();
    assert_eq!(refused.error_code(), Some(ErrorCode::NonEmptyGroup));
    consumer.close().await.unwrap();
    let offsets = BTreeMap::from([(partition.clone(), Offset(1).into())]);
    admin.alter_committed_offsets(&group, &offsets).await.unwrap();
    let committed = admin.committed_offsets(&group).await.unwrap();
    assert_eq!(committed[&partition].offset, Offset(1));
    admin.delete_group(&group).await.unwrap();
    let missing = admin.delete_group(&group).await.unwrap_err();
    assert_eq!(missing.error_code(), Some(ErrorCode::GroupIdNotFound));
}
