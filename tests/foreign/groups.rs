//! Groups: committed offsets, rebalances of every protocol, static members.
//!
//! Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::consumer::{CommitError, OffsetAndMetadata, Polled};
use client::{Consumer, ProducerRecord};
use protocol::ids::{LeaderEpoch, Offset, TopicPartition};

use crate::cluster::{Cluster, PATIENCE, append, numbers, on_both, poll_values, text};

on_both! {
    what_is_committed_is_read_again,
    a_group_goes_on_where_it_stopped,
    range_members_share_and_take_over,
    round_robin_members_share_and_take_over,
    cooperative_members_share_and_take_over,
    a_static_member_comes_back_without_a_rebalance,
    a_member_that_was_replaced_cannot_commit,
    offsets_are_committed_by_the_interval,
    members_share_and_take_over_what_the_coordinator_assigns,
    a_static_member_of_the_coordinators_group_comes_back_to_what_it_had,
    a_pattern_is_the_coordinators_to_read,
    a_member_that_does_not_poll_loses_what_it_had_and_comes_back,
}

async fn what_is_committed_is_read_again(cluster: Cluster) {
    let topic = cluster.topic(2).await;
    let group = cluster.name("group");
    let mut consumer = cluster.consumer(&[("group.id", &group)]).await;
    let partitions =
        [TopicPartition::new(topic.as_str(), 0), TopicPartition::new(topic.as_str(), 1)];
    let none = consumer.committed(partitions.clone(), true).await.unwrap();
    assert!(none.is_empty());
    consumer.assign(partitions.clone());
    let committed = OffsetAndMetadata {
        offset: Offset(5),
        leader_epoch: LeaderEpoch(0),
        metadata: "half way".to_owned(),
    };
    let offsets = BTreeMap::from([(partitions[0].clone(), committed.clone())]);
    consumer.commit(offsets.clone()).await.unwrap();
    assert_eq!(consumer.committed(partitions, true).await.unwrap(), offsets);
    let listed = cluster.admin().await.committed_offsets(&group).await.unwrap();
    assert_eq!(listed, offsets);
}

async fn a_group_goes_on_where_it_stopped(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let group = cluster.name("group");
    cluster.write(&topic, numbers(0, 10)).await;
    let mut one = cluster.consumer(&[("group.id", &group), ("max.poll.records", "1")]).await;
    one.subscribe([topic.as_str()]);
    assert_eq!(poll_values(&mut one, 10).await, numbers(0, 10));
    let partition = TopicPartition::new(topic.as_str(), 0);
    one.commit(BTreeMap::from([(partition, Offset(6).into())])).await.unwrap();
    one.close().await.unwrap();
    let mut other = cluster.consumer(&[("group.id", &group)]).await;
    other.subscribe([topic.as_str()]);
    assert_eq!(poll_values(&mut other, 4).await, numbers(6, 4));
    other.close().await.unwrap();
}

/// A member and what it saw, driven by hand so that several live in one test.
pub(crate) struct Driven {
    pub(crate) consumer: Consumer,
    pub(crate) values: Vec<u32>,
    pub(crate) revoked: usize,
    pub(crate) lost: usize,
    pub(crate) assigned: usize,
}

impl Driven {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Self { consumer, values: Vec::new(), revoked: 0, lost: 0, assigned: 0 }
    }

    /// One poll; commits what it consumed so far when told to give up partitions.
    pub(crate) async fn step(&mut self) {
        match self.consumer.poll(Duration::from_millis(50)).await.unwrap() {
            Polled::Batches(batches) => {
                for batch in batches {
                    let records = batch.into_records();
                    self.values
                        .extend(records.map(|it| text(&it.unwrap()).parse::<u32>().unwrap()));
                }
            }
            Polled::Revoked(revoked) if revoked.lost => self.lost += revoked.partitions.len(),
            Polled::Revoked(revoked) => {
                self.revoked += revoked.partitions.len();
                self.commit(&revoked.partitions).await;
            }
            Polled::Assigned(added) => self.assigned += added.len(),
            Polled::Nothing => {}
        }
    }

    pub(crate) async fn commit(&mut self, partitions: &BTreeSet<TopicPartition>) {
        let at = |it: &TopicPartition| Some((it.clone(), self.consumer.position_to_commit(it)?));
        let offsets: BTreeMap<_, _> = partitions.iter().filter_map(at).collect();
        self.consumer.commit(offsets).await.unwrap();
    }

    pub(crate) fn owned(&self) -> BTreeSet<TopicPartition> {
        self.consumer.assignment()
    }
}

/// Lets all members step until `done` holds.
pub(crate) async fn drive(members: &mut [Driven], what: &str, done: impl Fn(&[Driven]) -> bool) {
    let begun = members[0].consumer.now().monotonic;
    while !done(members) {
        let owned: Vec<_> = members.iter().map(Driven::owned).collect();
        let now = members[0].consumer.now().monotonic;
        assert!(now < begun + PATIENCE, "{what}: {owned:?}");
        for member in members.iter_mut() {
            member.step().await;
        }
    }
}

pub(crate) async fn write_each(
    cluster: &Cluster,
    topic: &str,
    partition_count: i32,
    values: std::ops::Range<u32>,
) {
    let mut producer = cluster.producer(&[]).await;
    for value in values {
        let partition = Some(i32::try_from(value).unwrap() % partition_count);
        let record = ProducerRecord::new(topic, value.to_string());
        append(&mut producer, &ProducerRecord { partition, ..record }).await;
    }
    producer.close().await.unwrap();
}

/// One member has all, two share, the one that stays has all again; each record is seen once.
pub(crate) async fn share_and_take_over(
    cluster: &Cluster,
    settings: &[(&str, &str)],
) -> Vec<Driven> {
    let topic = cluster.topic(4).await;
    let group = cluster.name("group");
    let mut all = vec![("group.id", group.as_str())];
    all.extend(settings);
    write_each(cluster, &topic, 4, 0..100).await;
    let mut members = vec![Driven::new(cluster.consumer(&all).await)];
    members[0].consumer.subscribe([topic.as_str()]);
    drive(&mut members, "the first alone", |it| it[0].values.len() == 100).await;
    members.push(Driven::new(cluster.consumer(&all).await));
    members[1].consumer.subscribe([topic.as_str()]);
    let is_shared = |it: &[Driven]| it[0].owned().len() == 2 && it[1].owned().len() == 2;
    drive(&mut members, "two share", is_shared).await;
    assert!(members[0].owned().is_disjoint(&members[1].owned()));
    write_each(cluster, &topic, 4, 100..200).await;
    let total = |it: &[Driven]| it.iter().map(|it| it.values.len()).sum::<usize>();
    drive(&mut members, "two read", |it| total(it) == 200).await;
    assert_eq!(members[1].values.len(), 50);
    let mut seen: Vec<_> = members.iter().flat_map(|it| it.values.clone()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..200).collect::<Vec<_>>(), "each once");
    let mut first = members.remove(0);
    let owned = first.owned();
    first.commit(&owned).await;
    first.consumer.close().await.unwrap();
    drive(&mut members, "the other takes over", |it| it[0].owned().len() == 4).await;
    write_each(cluster, &topic, 4, 200..300).await;
    drive(&mut members, "the other reads all", |it| it[0].values.len() == 150).await;
    let owned = members[0].owned();
    members[0].commit(&owned).await;
    members
}

async fn range_members_share_and_take_over(cluster: Cluster) {
    share_and_take_over(&cluster, &[("partition.assignment.strategy", "range")]).await;
}

async fn round_robin_members_share_and_take_over(cluster: Cluster) {
    share_and_take_over(&cluster, &[("partition.assignment.strategy", "roundrobin")]).await;
}

async fn cooperative_members_share_and_take_over(cluster: Cluster) {
    let settings = [("partition.assignment.strategy", "cooperative-sticky")];
    let members = share_and_take_over(&cluster, &settings).await;
    assert_eq!(members[0].revoked, 0, "what it got it kept");
}

async fn a_static_member_comes_back_without_a_rebalance(cluster: Cluster) {
    let members = static_member_comes_back(&cluster, "classic").await;
    assert_eq!(members[0].lost, 0);
}

async fn members_share_and_take_over_what_the_coordinator_assigns(cluster: Cluster) {
    let members = share_and_take_over(&cluster, &[("group.protocol", "consumer")]).await;
    assert_eq!((members[0].revoked, members[0].lost), (0, 0), "what it got it kept");
}

async fn a_static_member_of_the_coordinators_group_comes_back_to_what_it_had(cluster: Cluster) {
    let members = static_member_comes_back(&cluster, "consumer").await;
    assert_eq!(members[0].lost, 0);
}

async fn a_pattern_is_the_coordinators_to_read(cluster: Cluster) {
    let (one, other) = (cluster.name("pattern-one"), cluster.name("pattern-other"));
    let admin = cluster.admin().await;
    admin.create_topic(client::NewTopic::new(&one, 1)).await.unwrap();
    cluster.write(&one, numbers(0, 3)).await;
    let group = cluster.name("group");
    let settings = [
        ("group.id", group.as_str()),
        ("group.protocol", "consumer"),
        ("metadata.max.age.ms", "500"),
    ];
    let mut members = vec![Driven::new(cluster.consumer(&settings).await)];
    members[0].consumer.subscribe_matching("pattern-.*").unwrap();
    drive(&mut members, "the topic matches", |it| it[0].values.len() == 3).await;
    // One that comes later.
    admin.create_topic(client::NewTopic::new(&other, 1)).await.unwrap();
    cluster.write(&other, numbers(3, 3)).await;
    drive(&mut members, "the later one, too", |it| it[0].values.len() == 6).await;
    assert_eq!(members[0].revoked, 0);
    let mut wrong = cluster.consumer(&settings).await;
    wrong.subscribe_matching("pattern-(").unwrap();
    let error = loop {
        match wrong.poll(Duration::from_secs(1)).await {
            Ok(polled) => assert!(matches!(polled, Polled::Nothing), "{polled:?}"),
            Err(error) => break error,
        }
    };
    let code = protocol::error_code::ErrorCode::InvalidRegularExpression;
    assert!(
        matches!(error, client::consumer::ConsumeError::GroupRefused { code: it, .. } if it == code),
        "{error:?}"
    );
    let mut classic = cluster.consumer(&[("group.id", "classic")]).await;
    assert!(classic.subscribe_matching("pattern-.*").is_err());
}

async fn a_member_that_does_not_poll_loses_what_it_had_and_comes_back(cluster: Cluster) {
    let topic = cluster.topic(2).await;
    let group = cluster.name("group");
    let settings = [
        ("group.id", group.as_str()),
        ("group.protocol", "consumer"),
        ("max.poll.interval.ms", "1500"),
    ];
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(Driven::new(cluster.consumer(&settings).await));
        members.last_mut().unwrap().consumer.subscribe([topic.as_str()]);
    }
    drive(&mut members, "both have one", |it| it.iter().all(|it| it.owned().len() == 1)).await;
    let mut idle = vec![members.pop().unwrap()];
    drive(&mut members, "the other takes over", |it| it[0].owned().len() == 2).await;
    drive(&mut idle, "it learns of it", |it| it[0].lost == 1).await;
    members.push(idle.pop().unwrap());
    drive(&mut members, "it is back", |it| it.iter().all(|it| it.owned().len() == 1)).await;
}

/// Two static members with a partition each; the second goes and comes back, to the same one.
async fn static_member_comes_back(cluster: &Cluster, protocol: &'static str) -> Vec<Driven> {
    let topic = cluster.topic(2).await;
    let group = cluster.name("group");
    let start = async |name| {
        let settings =
            [("group.id", &*group), ("group.instance.id", name), ("group.protocol", protocol)];
        let consumer = cluster.consumer(&settings).await;
        let mut driven = Driven::new(consumer);
        driven.consumer.subscribe([topic.as_str()]);
        driven
    };
    let mut members = vec![start("one").await, start("other").await];
    drive(&mut members, "both have one", |it| it.iter().all(|it| it.owned().len() == 1)).await;
    let generation = |it: &Driven| it.consumer.group_metadata().unwrap().generation;
    let (before, owned) = (generation(&members[0]), members[1].owned());
    let revoked = members[0].revoked;
    members.pop().unwrap().consumer.close().await.unwrap();
    members.push(start("other").await);
    drive(&mut members, "it is back", |it| it[1].owned() == owned).await;
    assert_eq!(generation(&members[0]), before);
    assert_eq!(members[0].revoked, revoked);
    members
}

async fn a_member_that_was_replaced_cannot_commit(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let group = cluster.name("group");
    let settings = [("group.id", group.as_str()), ("group.instance.id", "only")];
    let mut older = vec![Driven::new(cluster.consumer(&settings).await)];
    older[0].consumer.subscribe([topic.as_str()]);
    drive(&mut older, "the older has it", |it| it[0].owned().len() == 1).await;
    let mut newer = vec![Driven::new(cluster.consumer(&settings).await)];
    newer[0].consumer.subscribe([topic.as_str()]);
    drive(&mut newer, "the newer has it", |it| it[0].owned().len() == 1).await;
    let offsets = BTreeMap::from([(TopicPartition::new(topic.as_str(), 0), Offset(1).into())]);
    let refused = older[0].consumer.commit(offsets.clone()).await.unwrap_err();
    assert!(matches!(refused, CommitError::Fenced { .. }), "{refused:?}");
    assert!(!refused.is_retriable());
    newer[0].consumer.commit(offsets).await.unwrap();
}

async fn offsets_are_committed_by_the_interval(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let group = cluster.name("group");
    cluster.write(&topic, numbers(0, 10)).await;
    let settings = [
        ("group.id", group.as_str()),
        ("enable.auto.commit", "true"),
        ("auto.commit.interval.ms", "100"),
    ];
    let mut consumer = cluster.consumer(&settings).await;
    consumer.subscribe([topic.as_str()]);
    assert_eq!(poll_values(&mut consumer, 10).await.len(), 10);
    let admin = cluster.admin().await;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let begun = consumer.now().monotonic;
    loop {
        consumer.poll(Duration::from_millis(50)).await.unwrap();
        let committed = admin.committed_offsets(&group).await.unwrap();
        if committed.get(&partition).is_some_and(|it| it.offset == Offset(10)) {
            break;
        }
        assert!(consumer.now().monotonic < begun + PATIENCE, "{committed:?}");
    }
    consumer.close().await.unwrap();
}
