//! Consuming without a group: where to start, moving about, and the ends of a log.
//!
//! Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::ProducerRecord;
use client::consumer::{ConsumeError, OffsetSpec, Polled};
use protocol::ids::{Offset, TopicPartition};
use protocol::time::Timestamp;

use crate::cluster::{Cluster, append, numbers, on_both, poll_batches, poll_values};

on_both! {
    it_starts_where_the_policy_says,
    a_seek_moves_the_position_both_ways,
    a_paused_partition_is_not_delivered_until_resumed,
    offsets_are_found_by_time,
    the_ends_move_as_records_come_and_are_deleted,
    an_offset_out_of_range_goes_where_the_policy_says_or_is_an_error,
    latest_skips_nothing_of_a_topic_that_is_created_later,
    it_starts_at_records_of_a_certain_age,
}

fn first(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

async fn it_starts_where_the_policy_says(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    cluster.write(&topic, numbers(0, 5)).await;
    let mut earliest = cluster.consumer(&[]).await;
    earliest.assign([first(&topic)]);
    assert_eq!(poll_values(&mut earliest, 5).await, numbers(0, 5));
    let mut latest = cluster.consumer(&[("auto.offset.reset", "latest")]).await;
    latest.assign([first(&topic)]);
    while latest.position(&first(&topic)).is_none() {
        assert!(poll_batches(&mut latest).await.is_empty());
    }
    cluster.write(&topic, numbers(5, 5)).await;
    assert_eq!(poll_values(&mut latest, 5).await, numbers(5, 5));
    let mut none = cluster.consumer(&[("auto.offset.reset", "none")]).await;
    none.assign([first(&topic)]);
    let error = none.poll(Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(error, ConsumeError::NoOffset { partition } if partition == first(&topic)));
}

async fn a_seek_moves_the_position_both_ways(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    cluster.write(&topic, numbers(0, 10)).await;
    let mut consumer = cluster.consumer(&[]).await;
    let partition = first(&topic);
    consumer.assign([partition.clone()]);
    assert_eq!(poll_values(&mut consumer, 10).await, numbers(0, 10));
    assert_eq!(consumer.position(&partition), Some(Offset(10)));
    assert_eq!(consumer.lag(&partition), Some(0));
    // Into the middle of a batch.
    consumer.seek(&partition, Offset(7)).unwrap();
    assert_eq!(poll_values(&mut consumer, 3).await, numbers(7, 3));
    consumer.seek_to(&partition, OffsetSpec::Earliest).unwrap();
    assert_eq!(poll_values(&mut consumer, 10).await, numbers(0, 10));
    consumer.seek_to(&partition, OffsetSpec::Latest).unwrap();
    cluster.write(&topic, numbers(10, 2)).await;
    let after = poll_values(&mut consumer, 1).await;
    assert!(after.iter().all(|it| ["10", "11"].contains(&it.as_str())), "{after:?}");
}

async fn a_paused_partition_is_not_delivered_until_resumed(cluster: Cluster) {
    let topic = cluster.topic(2).await;
    let mut producer = cluster.producer(&[]).await;
    for partition in [0, 1] {
        for value in numbers(0, 3) {
            let record = ProducerRecord::new(&topic, format!("{partition}:{value}"));
            let record = ProducerRecord { partition: Some(partition), ..record };
            append(&mut producer, &record).await;
        }
    }
    producer.close().await.unwrap();
    let mut consumer = cluster.consumer(&[]).await;
    let partitions = consumer.partitions_of(&topic).await.unwrap();
    consumer.assign(partitions);
    consumer.pause([&first(&topic)]);
    assert_eq!(consumer.paused(), BTreeSet::from([first(&topic)]));
    assert_eq!(poll_values(&mut consumer, 3).await, ["1:0", "1:1", "1:2"]);
    assert!(poll_batches(&mut consumer).await.is_empty());
    consumer.resume([&first(&topic)]);
    assert_eq!(poll_values(&mut consumer, 3).await, ["0:0", "0:1", "0:2"]);
}

async fn offsets_are_found_by_time(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let mut producer = cluster.producer(&[("linger.ms", "0")]).await;
    for count in 0..10 {
        let record = ProducerRecord::new(&topic, count.to_string());
        let timestamp = Some(Timestamp(1_700_000_000_000 + count * 1_000));
        producer.send(ProducerRecord { timestamp, ..record }).await.unwrap();
    }
    producer.close().await.unwrap();
    let consumer = cluster.consumer(&[]).await;
    let at = async |millis: i64| {
        let times = BTreeMap::from([(first(&topic), Timestamp(1_700_000_000_000 + millis))]);
        let found = consumer.offsets_for_times(times).await.unwrap();
        found[&first(&topic)].offset.map(|it| it.0)
    };
    assert_eq!(at(-5_000).await, Some(0));
    assert_eq!(at(3_000).await, Some(3));
    assert_eq!(at(3_001).await, Some(4));
    assert_eq!(at(9_001).await, None, "no record is so young");
    let wanted = BTreeMap::from([(first(&topic), OffsetSpec::MaxTimestamp)]);
    let admin = cluster.admin().await;
    let found = admin.list_offsets(&wanted, client::IsolationLevel::ReadUncommitted).await.unwrap();
    assert_eq!(found[&first(&topic)].offset, Some(Offset(9)));
}

async fn the_ends_move_as_records_come_and_are_deleted(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let consumer = cluster.consumer(&[]).await;
    let ends = async || {
        let partition = || [first(&topic)];
        let begin = consumer.beginning_offsets(partition()).await.unwrap();
        let isolation = client::IsolationLevel::ReadUncommitted;
        let end = consumer.end_offsets(partition(), isolation).await.unwrap();
        (begin[&first(&topic)].0, end[&first(&topic)].0)
    };
    assert_eq!(ends().await, (0, 0));
    cluster.write(&topic, numbers(0, 10)).await;
    assert_eq!(ends().await, (0, 10));
    let before = BTreeMap::from([(first(&topic), Offset(4))]);
    let starts = cluster.admin().await.delete_records(&before).await;
    assert_eq!(*starts[&first(&topic)].as_ref().unwrap(), Offset(4));
    assert_eq!(ends().await, (4, 10));
}

async fn an_offset_out_of_range_goes_where_the_policy_says_or_is_an_error(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    cluster.write(&topic, numbers(0, 10)).await;
    let before = BTreeMap::from([(first(&topic), Offset(4))]);
    let starts = cluster.admin().await.delete_records(&before).await;
    assert!(starts.values().all(Result::is_ok), "{starts:?}");
    let mut consumer = cluster.consumer(&[]).await;
    consumer.assign([first(&topic)]);
    consumer.seek(&first(&topic), Offset(2)).unwrap();
    assert_eq!(poll_values(&mut consumer, 6).await, numbers(4, 6));
    let mut strict = cluster.consumer(&[("auto.offset.reset", "none")]).await;
    strict.assign([first(&topic)]);
    strict.seek(&first(&topic), Offset(100)).unwrap();
    let begun = strict.now().monotonic;
    let error = loop {
        match strict.poll(Duration::from_secs(1)).await {
            Ok(Polled::Nothing) => {
                assert!(strict.now().monotonic < begun + crate::cluster::PATIENCE)
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    match error {
        ConsumeError::OffsetOutOfRange { partition, offset } => {
            assert_eq!((partition, offset), (first(&topic), Offset(100)));
        }
        other => panic!("{other:?}"),
    }
}

async fn latest_skips_nothing_of_a_topic_that_is_created_later(cluster: Cluster) {
    let topic = cluster.name("later");
    let group = cluster.name("group");
    let mut consumer =
        cluster.consumer(&[("group.id", &group), ("auto.offset.reset", "latest")]).await;
    consumer.subscribe([topic.as_str()]);
    // It belongs to the group, and knows that there is no such topic.
    while consumer.group_metadata().unwrap().generation.0 < 0 {
        match consumer.poll(Duration::from_millis(100)).await {
            Ok(polled) => assert!(!matches!(polled, Polled::Batches(_))),
            Err(error) => assert!(matches!(error, ConsumeError::TopicRefused { .. }), "{error}"),
        }
    }
    cluster.admin().await.create_topic(client::NewTopic::new(&topic, 1)).await.unwrap();
    cluster.write(&topic, numbers(0, 100)).await;
    assert_eq!(poll_values(&mut consumer, 100).await, numbers(0, 100));
    consumer.close().await.unwrap();
}

async fn it_starts_at_records_of_a_certain_age(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let mut producer = cluster.producer(&[("linger.ms", "0")]).await;
    let now = producer.now().wall.0;
    for (age_hours, value) in [(50, "days old"), (3, "hours old"), (0, "new")] {
        let timestamp = Some(Timestamp(now - age_hours * 3_600_000));
        let record = ProducerRecord::new(&topic, value);
        producer.send(ProducerRecord { timestamp, ..record }).await.unwrap();
    }
    producer.close().await.unwrap();
    for (reset, want) in [
        ("by_duration:P1DT1H", &["hours old", "new"][..]),
        ("by_duration:PT1H", &["new"]),
        ("by_duration:P9D", &["days old", "hours old", "new"]),
    ] {
        let mut consumer = cluster.consumer(&[("auto.offset.reset", reset)]).await;
        consumer.assign([first(&topic)]);
        assert_eq!(poll_values(&mut consumer, want.len()).await, want, "{reset}");
    }
}
