//! Our client against our broker: administration, producing, idempotence, transactions.
//!
//! A whole broker runs on a disk in memory, is reached over a network in memory, and time is
//! tokio's own, paused: each test is the same run every time. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use broker::config::BrokerConfig;
use broker::disk::SimDisk;
use broker::log::Mode;
use broker::{Broker, BrokerHandle, Outside};
use client::IsolationLevel::{self, ReadCommitted, ReadUncommitted};
use client::admin::ConfigResource;
use client::net::connection::{CallOptions, Connection, ConnectionOptions};
use client::net::memory::MemoryNetwork;
use client::net::{Connector, Endpoint};
use client::offsets::OffsetSpec;
use client::producer::{Failure, TransactionError};
use client::time::virtual_clock;
use client::{
    Admin, Bootstrap, CommitOutcome, GroupMetadata, NewTopic, Producer, ProducerConfig,
    ProducerRecord,
};
use protocol::api::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use protocol::error_code::ErrorCode;
use protocol::ids::{Offset, ProducerId, TopicPartition};
use protocol::record::RecordBatch;
use protocol::rng::{Lot, Rng};
use protocol::time::Timestamp;

const PATIENCE: Duration = Duration::from_secs(30);
const WALL: Timestamp = Timestamp(1_700_000_000_000);

/// A broker, and the network that leads to it.
struct World {
    disk: SimDisk,
    network: MemoryNetwork,
    broker: BrokerHandle,
}

impl World {
    async fn new() -> Self {
        Self::on(SimDisk::new(1)).await
    }

    async fn on(disk: SimDisk) -> Self {
        let network = MemoryNetwork::new();
        let listener = network.listen(endpoint()).unwrap();
        let outside = Outside {
            disk: Arc::new(disk.clone()),
            listeners: Some(vec![Box::new(listener)]),
            clock: virtual_clock(WALL),
            seed: 1,
            ids: Lot::of_seed(1),
            writer: Mode::Inline,
            hostname: "broker".to_owned(),
        };
        let config = BrokerConfig::from_pairs([("log.dir", "/data")]).unwrap();
        let broker = Broker::start(config, outside).await.unwrap();
        Self { disk, network, broker }
    }

    async fn restart(self) -> Self {
        self.broker.shutdown().await.unwrap();
        Self::on(self.disk).await
    }

    fn bootstrap(&self) -> Bootstrap {
        let connector: Arc<dyn Connector> = Arc::new(self.network.clone());
        Bootstrap::new([endpoint()], connector, virtual_clock(WALL), 7)
    }

    async fn admin(&self) -> Admin {
        Admin::connect(self.bootstrap(), PATIENCE).await.unwrap()
    }

    async fn producer(&self, pairs: &[(&str, &str)]) -> Producer {
        let config = ProducerConfig::parse(pairs.iter().copied()).unwrap();
        Producer::connect(self.bootstrap(), config).await.unwrap()
    }

    /// The values of partition 0 that a consumer of this isolation level sees.
    async fn values(&self, isolation_level: IsolationLevel) -> Vec<String> {
        self.values_of(0, isolation_level).await
    }

    async fn values_of(&self, partition: i32, isolation_level: IsolationLevel) -> Vec<String> {
        let connector: Arc<dyn Connector> = Arc::new(self.network.clone());
        let options = ConnectionOptions::default();
        let connection = Connection::new(connector, endpoint(), options, Rng::new(3));
        let request = FetchRequest {
            isolation_level: isolation_level.to_wire(),
            topics: vec![FetchTopic {
                topic: "orders".to_owned(),
                partitions: vec![FetchPartition {
                    partition,
                    partition_max_bytes: i32::MAX,
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        let options = CallOptions::within(PATIENCE).up_to_version(12);
        let response = connection.call_with(options, move |_| request).await.unwrap();
        let mut answer = response.responses.into_iter().flat_map(|it| it.partitions);
        visible(answer.next().unwrap())
    }
}

/// What is left of an answer without control batches and aborted ones.
fn visible(answer: PartitionData) -> Vec<String> {
    let aborted = answer.aborted_transactions.unwrap_or_default();
    let mut records = answer.records.unwrap_or_default();
    let (mut values, mut ended) = (Vec::new(), BTreeSet::new());
    while let Some(batch) = RecordBatch::split_first(&mut records).unwrap() {
        batch.verify_crc().unwrap();
        let header = *batch.header();
        let ProducerId(id) = header.producer_id;
        // The transaction of this batch is the oldest of its producer that has not ended yet.
        let of = aborted.iter().enumerate().find(|(index, it)| {
            it.producer_id == id
                && it.first_offset <= header.base_offset.0
                && !ended.contains(index)
        });
        match of {
            Some((index, _)) if header.attributes.is_control() => {
                ended.insert(index);
            }
            None if !header.attributes.is_control() => {
                for record in batch.decode(1 << 20).unwrap().iter() {
                    let value = record.unwrap().value.unwrap().to_vec();
                    values.push(String::from_utf8(value).unwrap());
                }
            }
            Some(_) | None => {}
        }
    }
    values
}

fn endpoint() -> Endpoint {
    Endpoint::new("broker", 9092)
}

fn orders(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

#[tokio::test(start_paused = true)]
async fn topics_are_created_described_altered_grown_and_deleted() {
    let world = World::new().await;
    let admin = world.admin().await;
    let topic = NewTopic::new("orders", 2).config("retention.ms", "1000");
    admin.create_topic(topic.clone()).await.unwrap();
    let again = admin.create_topic(topic).await.unwrap_err();
    assert_eq!(again.error_code(), Some(ErrorCode::TopicAlreadyExists));
    assert_eq!(admin.list_topics().await.unwrap(), ["orders"]);

    let resource = ConfigResource::Topic("orders".to_owned());
    let retention = async || {
        let mut configs = admin.describe_configs(&resource).await.unwrap();
        let entry = configs.remove("retention.ms").unwrap();
        (entry.value.unwrap(), entry.is_default)
    };
    assert_eq!(retention().await, ("1000".to_owned(), false));
    let changes = [("retention.ms".to_owned(), Some("2000".to_owned()))].into();
    admin.alter_configs(&resource, &changes).await.unwrap();
    assert_eq!(retention().await, ("2000".to_owned(), false));

    admin.create_partitions("orders", 3).await.unwrap();
    let described = admin.describe_topics(&["orders", "none"]).await.unwrap();
    assert_eq!(described["orders"].as_ref().unwrap().partitions.len(), 3);
    let missing = described["none"].as_ref().unwrap_err();
    assert_eq!(missing.error_code(), Some(ErrorCode::UnknownTopicOrPartition));

    let deleted = admin.delete_topics(&["orders", "none"]).await.unwrap();
    assert!(deleted["orders"].is_ok());
    assert!(deleted["none"].is_err());
    assert!(admin.list_topics().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn records_are_where_their_acknowledgements_say_and_survive_a_restart() {
    let world = World::new().await;
    world.admin().await.create_topic(NewTopic::new("orders", 1)).await.unwrap();
    let mut producer = world.producer(&[("compression.type", "zstd")]).await;
    for count in 0..20 {
        let record = ProducerRecord::new("orders", format!("value {count}")).key("key");
        let told = producer.send(record).await.unwrap();
        assert_eq!(told.offset, Offset(count));
    }
    producer.close().await.unwrap();
    let world = world.restart().await;
    let values = world.values(ReadUncommitted).await;
    assert_eq!(values, (0..20).map(|it| format!("value {it}")).collect::<Vec<_>>());
    let wanted: BTreeMap<_, _> = [(orders(0), OffsetSpec::Latest)].into();
    let listed = world.admin().await.list_offsets(&wanted, ReadCommitted).await;
    assert_eq!(listed.unwrap()[&orders(0)].offset, Some(Offset(20)));
}

#[tokio::test(start_paused = true)]
async fn many_appended_records_arrive_in_order_in_every_partition() {
    let world = World::new().await;
    world.admin().await.create_topic(NewTopic::new("orders", 3)).await.unwrap();
    let mut producer =
        world.producer(&[("batch.size", "1000"), ("buffer.memory", "1100000")]).await;
    for count in 0..3_000 {
        let value = format!("{count}");
        let value = Some(value.as_bytes());
        while let Err(error) =
            producer.append("orders", Some(count % 3), WALL, None, value, &[("h", None)])
        {
            assert!(error.is_retriable(), "{error}");
            producer.ready().await.unwrap();
        }
    }
    producer.flush().await.unwrap();
    for partition in 0..3 {
        let values = world.values_of(partition, ReadUncommitted).await;
        let want: Vec<_> = (0..3_000).filter(|it| it % 3 == partition).collect();
        assert_eq!(values, want.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    let acknowledged: i32 = producer.poll_acks().iter().map(|it| it.record_count).sum();
    assert_eq!(acknowledged, 3_000);
}

fn append(producer: &mut Producer, value: &str) {
    producer.append("orders", Some(0), WALL, None, Some(value.as_bytes()), &[]).unwrap();
}

async fn transactional(world: &World) -> Producer {
    let mut producer = world.producer(&[("transactional.id", "mover")]).await;
    producer.init_transactions().await.unwrap();
    producer.partition_count("orders").await.unwrap();
    producer
}

async fn with_orders() -> World {
    let world = World::new().await;
    world.admin().await.create_topic(NewTopic::new("orders", 1)).await.unwrap();
    world
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_seen_once_it_is_committed_and_never_when_aborted() {
    let world = with_orders().await;
    let mut producer = transactional(&world).await;
    for (value, is_kept) in [("a", true), ("b", false), ("c", true), ("d", false)] {
        let before = world.values(ReadCommitted).await;
        producer.begin().unwrap();
        append(&mut producer, value);
        producer.flush().await.unwrap();
        assert_eq!(world.values(ReadCommitted).await, before, "{value} is not seen while open");
        if is_kept {
            assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
        } else {
            producer.abort().await.unwrap();
        }
        // Markers are written after the coordinator has answered.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.values(ReadCommitted).await, ["a", "c"]);
    assert_eq!(world.values(ReadUncommitted).await, ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn many_short_transactions_follow_one_another_without_waiting_for_backoffs() {
    let world = with_orders().await;
    let mut producer = transactional(&world).await;
    let before = producer.now().monotonic;
    for count in 0..50 {
        producer.begin().unwrap();
        append(&mut producer, &count.to_string());
        assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
    }
    let took = producer.now().monotonic - before;
    assert!(took < 50 * Duration::from_millis(50), "{took:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let want: Vec<_> = (0..50).map(|it| it.to_string()).collect();
    assert_eq!(world.values(ReadCommitted).await, want);
}

#[tokio::test(start_paused = true)]
async fn a_newer_producer_of_the_same_name_fences_the_older_and_ends_what_it_left_open() {
    let world = with_orders().await;
    let mut older = transactional(&world).await;
    older.begin().unwrap();
    append(&mut older, "lost");
    older.flush().await.unwrap();
    let mut newer = transactional(&world).await;
    newer.begin().unwrap();
    append(&mut newer, "kept");
    assert_eq!(newer.commit().await, Ok(CommitOutcome::Committed));
    let outcome = older.commit().await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Aborted(Failure::Fenced { .. })), "{outcome:?}");
    assert!(matches!(older.begin(), Err(TransactionError::Fatal(_))));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.values(ReadCommitted).await, ["kept"]);
}

#[tokio::test(start_paused = true)]
async fn offsets_are_committed_with_the_transaction_or_not_at_all() {
    let world = with_orders().await;
    let admin = world.admin().await;
    let mut producer = transactional(&world).await;
    let committed = async || {
        let offsets = admin.committed_offsets("group").await.unwrap();
        offsets.get(&orders(0)).map(|it| it.offset.0)
    };
    for (offset, is_kept, want) in [(5, true, Some(5)), (6, false, Some(5)), (7, true, Some(7))] {
        producer.begin().unwrap();
        append(&mut producer, "value");
        let offsets = [(orders(0), Offset(offset).into())].into();
        producer.send_offsets(offsets, &GroupMetadata::simple("group")).await.unwrap();
        if is_kept {
            assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
        } else {
            producer.abort().await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(committed().await, want);
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_left_open_is_aborted_when_its_time_is_up() {
    let world = with_orders().await;
    let pairs = [("transactional.id", "mover"), ("transaction.timeout.ms", "10000")];
    let mut producer = world.producer(&pairs).await;
    producer.init_transactions().await.unwrap();
    producer.partition_count("orders").await.unwrap();
    producer.begin().unwrap();
    append(&mut producer, "lost");
    producer.flush().await.unwrap();
    let mut other = world.producer(&[]).await;
    other.send(ProducerRecord::new("orders", "after")).await.unwrap();
    assert!(world.values(ReadCommitted).await.is_empty(), "held back by the open transaction");
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(world.values(ReadCommitted).await, ["after"]);
    let outcome = producer.commit().await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Aborted(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_sockets_and_files_on_several_threads_it_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let pairs =
        [("log.dir", dir.path().to_str().unwrap()), ("listeners", "PLAINTEXT://127.0.0.1:0")];
    let config = BrokerConfig::from_pairs(pairs).unwrap();
    let broker = Broker::start(config, Outside::real()).await.unwrap();
    let bootstrap = Bootstrap::tcp(&broker.endpoints()[0].to_string()).unwrap();
    let admin = Admin::connect(bootstrap.clone(), PATIENCE).await.unwrap();
    admin.create_topic(NewTopic::new("orders", 4)).await.unwrap();
    let produce = async |bootstrap, name: String| {
        let mut producer = Producer::connect(bootstrap, ProducerConfig::default()).await.unwrap();
        for count in 0..5_000 {
            let (key, value) = (format!("{name} {count}"), [7; 100]);
            let (key, value) = (Some(key.as_bytes()), Some(&value[..]));
            while let Err(error) = producer.append("orders", None, WALL, key, value, &[]) {
                assert!(error.is_retriable(), "{error}");
                producer.ready().await.unwrap();
            }
        }
        producer.close().await.unwrap();
    };
    let tasks: Vec<_> = (0..3)
        .map(|it| tokio::spawn(produce(bootstrap.clone(), format!("producer {it}"))))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let wanted = (0..4).map(|it| (orders(it), OffsetSpec::Latest)).collect();
    let ends = admin.list_offsets(&wanted, ReadUncommitted).await.unwrap();
    let total: i64 = ends.values().map(|it| it.offset.unwrap().0).sum();
    assert_eq!(total, 15_000);
    broker.shutdown().await.unwrap();
}
