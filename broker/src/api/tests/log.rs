//! What consumers are told of a log: bounds, epochs, isolation; and what the settings of a topic do
//! to it, from when they are altered.

use protocol::api::fetch::FetchableTopicResponse;

use super::*;
use crate::controller::{AlterConfig, ConfigChange, ConfigOperation};
use crate::disk::Disk;
use crate::limits::PRODUCE_BATCHES_MAX;
use crate::metadata::Resource;

impl World {
    /// Alters settings of a topic; they hold when this returns.
    async fn set(&self, topic: &str, name: &str, value: &str) {
        let change = ConfigChange {
            name: name.to_owned(),
            operation: ConfigOperation::Set,
            value: Some(value.to_owned()),
        };
        let resource = Resource::Topic(topic.into());
        let alter = AlterConfig { resource, changes: vec![change], replace: false };
        let handle = self.broker.api().partitions().get(topic, PartitionIndex(0)).unwrap();
        let before = handle.config();
        let controller = self.broker.controller();
        controller.alter_configs(vec![alter], false).await.unwrap().remove(0).unwrap();
        // Partitions follow the Image in their own time.
        while Arc::ptr_eq(&before, &handle.config()) {
            tokio::task::yield_now().await;
        }
    }

    async fn produce_to(&mut self, topic: &str, batch: RecordBatch) -> PartitionProduceResponse {
        let mut response = self.ask(11, produce(topic, batch.into_bytes(), -1)).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Past the coordinator, which would have to know the producer.
    async fn transact(&self, batch: RecordBatch) {
        let handle = self.broker.api().partitions().get(TOPIC, PartitionIndex(0)).unwrap();
        let (origin, acks) = (Origin::Client, Acks::Committed);
        let append = Append { batches: vec![batch], origin, acks, leader_epoch: None };
        handle.append(append).await.unwrap();
    }

    async fn abort(&self, producer: i64) {
        let handle = self.broker.api().partitions().get(TOPIC, PartitionIndex(0)).unwrap();
        let marker = EndTxnMarker {
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(0),
            coordinator_epoch: CoordinatorEpoch(0),
            commit: false,
            transaction_version: 0,
        };
        handle.write_marker(marker).await.unwrap();
    }
}

fn compressed(codec: Codec) -> RecordBatch {
    of_size(codec, 500)
}

fn of_size(codec: Codec, bytes: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    builder.append(Timestamp(1_700_000_000_000), None, Some(&vec![b'v'; bytes]), &[]).unwrap();
    builder.finish(ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE, false)
}

#[tokio::test]
async fn a_reader_of_an_old_version_is_told_of_a_topic_of_zstd_and_given_what_others_hold() {
    let mut world = World::new().await;
    world.produce(compressed(Codec::Zstd)).await;
    world.create("zstd", &[("compression.type", "zstd")]).await;
    world.produce_to("zstd", compressed(Codec::None)).await;
    let mut code = async |version, topic| {
        let mut response: FetchResponse = world.ask(version, fetch(topic, 0)).await;
        let data = response.responses.remove(0).partitions.remove(0);
        (data.error_code, data.records.is_some_and(|records| !records.is_empty()))
    };
    // Many know more than their version says: rskafka reads zstd by version 4, as from Apache Kafka.
    assert_eq!(code(9, TOPIC).await, (0, true));
    assert_eq!(code(9, "zstd").await, (ErrorCode::UnsupportedCompressionType.to_wire(), false));
    assert_eq!(code(10, "zstd").await, (0, true));
}

#[tokio::test]
async fn a_stale_or_unknown_leader_epoch_is_told_before_the_offset_is_looked_at() {
    // A restart opens the next epoch: the one before it is stale.
    let mut world = World::new().await.restart().await;
    let handle = world.broker.api().partitions().get(TOPIC, PartitionIndex(0)).unwrap();
    handle.watermarks().wait_for(|it| it.online).await.unwrap();
    let current = handle.watermarks().borrow().leader_epoch.0;
    let mut code = async |epoch, offset| {
        let mut request = fetch(TOPIC, offset);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let mut response: FetchResponse = world.ask(12, request).await;
        ErrorCode::from_wire(response.responses.remove(0).partitions.remove(0).error_code)
    };
    assert_eq!(code(current + 1, 99).await, ErrorCode::UnknownLeaderEpoch);
    assert_eq!(code(current, 99).await, ErrorCode::OffsetOutOfRange);
    assert!(current > 0);
    assert_eq!(code(current - 1, 99).await, ErrorCode::FencedLeaderEpoch);
    assert_eq!(code(-1, 0).await, ErrorCode::None);
}

#[tokio::test]
async fn a_response_stays_below_its_bound_but_for_the_first_batch_and_keeps_the_order_asked_for() {
    let mut world = World::new().await;
    world.create("other", &[]).await;
    for topic in [TOPIC, "other"] {
        for _ in 0..3 {
            world.produce_to(topic, compressed(Codec::None)).await;
        }
    }
    let mut ask = async |max_bytes, partition_max_bytes| {
        let mut request = fetch(TOPIC, 1);
        request.topics.extend(fetch("other", 0).topics);
        request.max_bytes = max_bytes;
        for topic in &mut request.topics {
            topic.partitions[0].partition_max_bytes = partition_max_bytes;
        }
        let response: FetchResponse = world.ask(12, request).await;
        let found = |it: &FetchableTopicResponse| {
            assert_eq!(it.partitions[0].preferred_read_replica, -1);
            assert_eq!(it.partitions[0].log_start_offset, 0);
            let mut bytes = it.partitions[0].records.clone().unwrap();
            let mut bases = Vec::new();
            while let Some(batch) = RecordBatch::split_first(&mut bytes).unwrap() {
                bases.push(batch.header().base_offset.0);
            }
            assert!(bytes.is_empty());
            (it.topic.clone(), bases)
        };
        response.responses.iter().map(found).collect::<Vec<_>>()
    };
    let of = |orders: &[i64], other: &[i64]| {
        vec![(TOPIC.to_owned(), orders.to_vec()), ("other".to_owned(), other.to_vec())]
    };
    assert_eq!(ask(1, 1 << 20).await, of(&[1], &[]));
    assert_eq!(ask(1 << 20, 1).await, of(&[1], &[]));
    assert_eq!(ask(1800, 1 << 20).await, of(&[1, 2], &[0]));
    assert_eq!(ask(1 << 20, 700).await, of(&[1], &[0]));
}

#[tokio::test]
async fn while_the_oldest_transaction_is_open_from_the_start_there_is_nothing_and_no_error() {
    let mut world = World::new().await;
    world.transact(batch_of(5, 0, &["open"], true)).await;
    world.produce(plain(&["after"])).await;
    let data = world.fetch(0, 1).await;
    assert_eq!((data.error_code, data.last_stable_offset, data.high_watermark), (0, 0, 2));
    assert!(records(&data).is_empty());
    assert_eq!(data.aborted_transactions, Some(vec![]));
}

#[tokio::test]
async fn aborted_transactions_are_told_by_their_first_offsets_whoever_ended_first() {
    let mut world = World::new().await;
    for producer in [7, 5, 6] {
        world.transact(batch_of(producer, 0, &["a"], true)).await;
    }
    for producer in [6, 5, 7] {
        world.abort(producer).await;
    }
    world.produce(plain(&["after"])).await;
    let aborted = |data: PartitionData| {
        let aborted = data.aborted_transactions.unwrap().into_iter();
        aborted.map(|it| (it.producer_id, it.first_offset)).collect::<Vec<_>>()
    };
    assert_eq!(aborted(world.fetch(0, 1).await), [(7, 0), (5, 1), (6, 2)]);
    // Those that reach into what is returned, and no others.
    assert_eq!(aborted(world.fetch(4, 1).await), [(7, 0), (5, 1)]);
    assert_eq!(aborted(world.fetch(6, 1).await), []);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_batch_is_answered_with_the_offset_and_time_of_the_first_one() {
    let mut world = World::new().await;
    world.create("dated", &[("message.timestamp.type", "LogAppendTime")]).await;
    let batch = batch_of(9, 0, &["a", "b"], false);
    let first = world.produce_to("dated", batch.clone()).await;
    assert!(first.log_append_time_ms > 0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.produce_to("dated", plain(&["between"])).await;
    let second = world.produce_to("dated", batch).await;
    assert_eq!(second, first);
    let plain = world.produce(plain(&["x"])).await;
    assert_eq!(plain.log_append_time_ms, -1, "its producer dates it");
}

#[tokio::test(start_paused = true)]
async fn altered_settings_hold_for_the_next_batch() {
    let mut world = World::new().await;
    let code = |response: PartitionProduceResponse| ErrorCode::from_wire(response.error_code);
    let batch = compressed(Codec::None);
    assert_eq!(code(world.produce(batch.clone()).await), ErrorCode::None);
    world.set(TOPIC, "max.message.bytes", "100").await;
    assert_eq!(code(world.produce(batch.clone()).await), ErrorCode::MessageTooLarge);
    world.set(TOPIC, "max.message.bytes", "1000").await;
    world.set(TOPIC, "message.timestamp.before.max.ms", "0").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(code(world.produce(batch.clone()).await), ErrorCode::InvalidTimestamp);
    world.set(TOPIC, "message.timestamp.type", "LogAppendTime").await;
    assert!(world.produce(batch.clone()).await.log_append_time_ms > 0);
    world.set(TOPIC, "cleanup.policy", "compact").await;
    let refused = world.produce(batch.clone()).await;
    assert_eq!(refused.record_errors.len(), 1, "{refused:?}");
    assert_eq!(code(refused), ErrorCode::InvalidRecord);
    world.set(TOPIC, "cleanup.policy", "delete").await;
    world.set(TOPIC, "compression.type", "gzip").await;
    let base = world.produce(batch.clone()).await.base_offset;
    let stored = RecordBatch::parse(world.fetch(base, 0).await.records.unwrap()).unwrap();
    assert_eq!(stored.header().attributes.codec(), Codec::Gzip);
}

/// What waits for each of a million small batches would take memory that nothing counts.
#[tokio::test(start_paused = true)]
async fn a_request_with_too_many_batches_ends_its_connection_and_writes_none() {
    let mut world = World::new().await;
    let mut request = produce(TOPIC, Bytes::from_static(b"no batch"), -1);
    let partitions = &mut request.topic_data[0].partition_data;
    *partitions = vec![partitions[0].clone(); PRODUCE_BATCHES_MAX + 1];
    partitions[0].records = Some(plain(&["a"]).into_bytes());
    let handle = world.broker.api().partitions().get(TOPIC, PartitionIndex(0)).unwrap();
    world.send(11, request).await;
    assert!(world.client.read_i32().await.is_err(), "the connection ends");
    assert_eq!(handle.size_bytes().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn segments_end_by_the_settings_as_they_are_and_the_oldest_go_beyond_the_size_kept() {
    let mut world = World::new().await;
    let segments = |world: &World| {
        let names = world.disk.list(std::path::Path::new("/data/orders-0")).unwrap();
        names.into_iter().filter(|name| name.ends_with(".log")).collect::<Vec<_>>()
    };
    let batch = of_size(Codec::None, 500_000);
    for _ in 0..8 {
        world.produce(batch.clone()).await;
    }
    assert_eq!(segments(&world).len(), 1);
    world.set(TOPIC, "segment.bytes", "1200000").await;
    for _ in 0..8 {
        world.produce(batch.clone()).await;
    }
    assert_eq!(segments(&world).len(), 5);
    world.set(TOPIC, "retention.bytes", "2000000").await;
    tokio::time::sleep(Duration::from_secs(400)).await;
    let left = segments(&world);
    assert!(left.len() <= 3, "{left:?}");
    let earliest = world.list_offset(-2).await.1;
    assert_eq!(left[0], format!("{earliest:020}.log"));
    assert_eq!(world.list_offset(-1).await.1, 16);
    assert_eq!(world.fetch(0, 0).await.error_code, ErrorCode::OffsetOutOfRange.to_wire());
}

#[tokio::test]
async fn the_end_that_is_listed_is_the_one_that_the_reader_may_see() {
    let mut world = World::new().await;
    world.produce(plain(&["before"])).await;
    world.transact(batch_of(5, 0, &["open"], true)).await;
    let mut list = async |isolation_level, timestamp| {
        let partition = ListOffsetsPartition { timestamp, ..Default::default() };
        let topic = ListOffsetsTopic { name: TOPIC.to_owned(), partitions: vec![partition] };
        let request =
            ListOffsetsRequest { isolation_level, topics: vec![topic], ..Default::default() };
        world.ask(7, request).await.topics.remove(0).partitions.remove(0).offset
    };
    assert_eq!((list(0, -1).await, list(1, -1).await), (2, 1));
    // The records of an open transaction answer no question of who may not see them.
    let at = 1_700_000_000_000;
    assert_eq!((list(0, at).await, list(1, at).await), (0, 0));
    assert_eq!((list(0, -3).await, list(1, -3).await), (0, 0));
}

/// A reader that waits for records of a topic which is deleted would wait for nothing.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_waits_is_told_at_once_when_its_topic_is_deleted() {
    let mut world = World::new().await;
    let mut waiting = fetch(TOPIC, 0);
    (waiting.min_bytes, waiting.max_wait_ms) = (1, 600_000);
    world.send(12, waiting).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let clock = client::time::virtual_clock(Timestamp(0));
    let gone = vec![crate::controller::TopicRef::Name(TOPIC.to_owned())];
    world.broker.controller().delete_topics(gone, Duration::from_secs(5)).await.unwrap();
    let mut told: FetchResponse = world.receive::<FetchRequest>(12).await;
    let told = told.responses.remove(0).partitions.remove(0);
    let code = ErrorCode::from_wire(told.error_code);
    let refresh = [ErrorCode::NotLeaderOrFollower, ErrorCode::UnknownTopicOrPartition];
    assert!(refresh.contains(&code), "{code}");
    assert!(clock.now().monotonic < Duration::from_secs(60));
}
