//! Producing: codecs, acknowledgements, keys and headers, order, and what is refused.
//!
//! Shell.

use bytes::Bytes;
use client::producer::ProduceError;
use client::{NewTopic, ProducerRecord};
use protocol::error_code::ErrorCode;
use protocol::ids::TopicPartition;
use protocol::record::{Header, Record};
use protocol::time::Timestamp;

use crate::cluster::{Cluster, append, on_both, text};

on_both! {
    every_codec_and_every_acks_delivers_what_was_sent,
    keys_values_and_headers_may_be_null_or_empty,
    records_of_a_partition_stay_in_order_and_keys_in_their_partition,
    a_topic_is_created_by_the_first_record,
    a_record_that_the_topic_does_not_admit_is_refused_by_name,
    a_compacted_topic_refuses_records_without_keys,
    an_acknowledgement_tells_the_offset,
}

async fn every_codec_and_every_acks_delivers_what_was_sent(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let mut sent = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for acks in ["all", "1", "0"] {
            let idempotence = if acks == "all" { "true" } else { "false" };
            let settings =
                [("compression.type", codec), ("acks", acks), ("enable.idempotence", idempotence)];
            let mut producer = cluster.producer(&settings).await;
            for count in 0..50 {
                let value = format!("{codec} {acks} {count} {}", "x".repeat(count * 20));
                let mut record = ProducerRecord::new(&topic, value.clone());
                record.partition = Some(0);
                append(&mut producer, &record).await;
                sent.push(value);
            }
            producer.close().await.unwrap();
            // With acks = 0 nothing says that the records are there; the next ones come after.
            if acks == "0" {
                while cluster.values(&topic, "read_uncommitted").await.len() < sent.len() {}
            }
        }
    }
    let read = cluster.read(&topic, "read_uncommitted").await;
    let values: Vec<_> = read.into_values().flatten().map(|it| text(&it)).collect();
    assert_eq!(values, sent);
}

async fn keys_values_and_headers_may_be_null_or_empty(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let bytes = |it: &'static str| Some(Bytes::from_static(it.as_bytes()));
    let header = |key: &str, value: Option<Bytes>| (key.to_owned(), value);
    let sent = vec![
        (None, None, vec![]),
        (bytes(""), bytes(""), vec![]),
        (bytes("key"), None, vec![header("null", None)]),
        (None, bytes("value"), vec![header("", bytes("")), header("twice", bytes("1"))]),
        (bytes("k"), bytes("v"), vec![header("twice", bytes("1")), header("twice", bytes("2"))]),
    ];
    let mut producer = cluster.producer(&[]).await;
    for (key, value, headers) in &sent {
        let record = ProducerRecord {
            topic: topic.clone(),
            partition: None,
            timestamp: Some(Timestamp(1_700_000_000_123)),
            key: key.clone(),
            value: value.clone(),
            headers: headers.clone(),
        };
        append(&mut producer, &record).await;
    }
    producer.close().await.unwrap();
    let read: Vec<Record> =
        cluster.read(&topic, "read_uncommitted").await.into_values().flatten().collect();
    assert!(read.iter().all(|it| it.timestamp == Timestamp(1_700_000_000_123)));
    let plain = |it: Record| {
        let header = |it: Header<'_>| (it.key.into_owned(), it.value.map(Bytes::copy_from_slice));
        let headers: Vec<_> = it.headers.iter().map(header).collect();
        (it.key.clone(), it.value.clone(), headers)
    };
    let read: Vec<_> = read.into_iter().map(plain).collect();
    assert_eq!(read, sent);
}

async fn records_of_a_partition_stay_in_order_and_keys_in_their_partition(cluster: Cluster) {
    let topic = cluster.topic(4).await;
    // Many small batches in flight.
    let mut producer = cluster.producer(&[("batch.size", "200"), ("linger.ms", "0")]).await;
    for count in 0..2_000 {
        let record = ProducerRecord::new(&topic, count.to_string());
        append(&mut producer, &record.key(format!("key {}", count % 40))).await;
    }
    producer.close().await.unwrap();
    let read = cluster.read(&topic, "read_uncommitted").await;
    assert!(read.values().all(|it| !it.is_empty()), "forty keys reach all partitions");
    let mut total = 0;
    let mut homes = std::collections::BTreeMap::new();
    for (partition, records) in read {
        let numbers: Vec<u32> = records.iter().map(|it| text(it).parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{partition}: {numbers:?}");
        total += numbers.len();
        for record in records {
            let home = homes.entry(record.key.unwrap()).or_insert(partition.clone());
            assert_eq!(*home, partition);
        }
    }
    assert_eq!(total, 2_000);
}

async fn a_topic_is_created_by_the_first_record(cluster: Cluster) {
    let topic = cluster.name("unknown");
    let mut producer = cluster.producer(&[]).await;
    let told = producer.send(ProducerRecord::new(&topic, "first")).await.unwrap();
    assert_eq!(told.offset.0, 0);
    let partitions = cluster.read(&topic, "read_uncommitted").await;
    assert_eq!(partitions.len(), 3, "num.partitions");
    producer.close().await.unwrap();
}

async fn a_record_that_the_topic_does_not_admit_is_refused_by_name(cluster: Cluster) {
    let topic = cluster.name("small");
    let new = NewTopic::new(&topic, 1).config("max.message.bytes", "1000");
    cluster.admin().await.create_topic(new).await.unwrap();
    let mut producer = cluster.producer(&[]).await;
    let refused = producer.send(ProducerRecord::new(&topic, vec![0; 2_000])).await.unwrap_err();
    let want = TopicPartition::new(topic.as_str(), 0);
    match &refused {
        ProduceError::Refused { partition, code: ErrorCode::MessageTooLarge, .. } => {
            assert_eq!(*partition, want);
        }
        other => panic!("{other:?}"),
    }
    assert!(!refused.is_retriable());
    let told = producer.send(ProducerRecord::new(&topic, "fits")).await.unwrap();
    assert_eq!(told.offset.0, 0, "the producer goes on");
    let _ = producer.close().await;
}

async fn a_compacted_topic_refuses_records_without_keys(cluster: Cluster) {
    let topic = cluster.name("compacted");
    let new = NewTopic::new(&topic, 1).config("cleanup.policy", "compact");
    cluster.admin().await.create_topic(new).await.unwrap();
    let mut producer = cluster.producer(&[]).await;
    let refused = producer.send(ProducerRecord::new(&topic, "no key")).await.unwrap_err();
    let code = match refused {
        ProduceError::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code, ErrorCode::InvalidRecord);
    let told = producer.send(ProducerRecord::new(&topic, "value").key("key")).await.unwrap();
    assert_eq!(told.offset.0, 0);
    let _ = producer.close().await;
}

async fn an_acknowledgement_tells_the_offset(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let mut producer = cluster.producer(&[("linger.ms", "0")]).await;
    for want in 0..5 {
        let told = producer.send(ProducerRecord::new(&topic, "value")).await.unwrap();
        assert_eq!((told.partition.to_string(), told.offset.0), (format!("{topic}-0"), want));
    }
    producer.close().await.unwrap();
}
