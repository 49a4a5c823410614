//! Connectors against our broker: each line once, through restarts, kills and refused records.
//!
//! A whole broker in memory, the file source over real files, and a sink that keeps what it flushed
//! together with its offsets, as one does that wants each record once. Time is paused. Shell.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use broker::config::BrokerConfig;
use broker::disk::SimDisk;
use broker::log::Mode;
use broker::{Broker, BrokerHandle, Outside};
use client::consumer::{Consumer, Polled};
use client::net::memory::MemoryNetwork;
use client::net::{Connector as Network, Endpoint};
use client::offsets::OffsetSpec;
use client::time::virtual_clock;
use client::{Admin, Bootstrap, ConsumerConfig, IsolationLevel, NewTopic};
use connect::config::WorkerConfig;
use connect::registry::Registry;
use connect::sdk::{
    Assigned, Config, Connector, Flush, Offset, Rejected, SinkBatch, SinkConnector, SinkTask,
    TaskContext, TaskError, TopicPartition,
};
use connect::status::TaskState;
use connect::{Running, Standalone};
use protocol::rng::Lot;
use protocol::time::Timestamp;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);
const WALL: Timestamp = Timestamp(1_700_000_000_000);

/// What the world outside holds: records flushed, in order, per partition. Durable by decree.
#[derive(Debug, Default)]
struct Store {
    flushed: BTreeMap<TopicPartition, Vec<(Offset, String)>>,
    /// Puts to fail, from the next on.
    failures: Vec<TaskError>,
}

type SharedStore = Arc<Mutex<Store>>;

/// A sink into a [`Store`]. Refuses records that contain `bad`.
struct StoreSink(SharedStore);

impl SinkConnector for StoreSink {
    fn task(&self, _: TaskContext) -> Box<dyn SinkTask> {
        Box::new(StoreTask {
            store: Arc::clone(&self.0),
            buffered: BTreeMap::new(),
            durable: BTreeMap::new(),
        })
    }
}

struct StoreTask {
    store: SharedStore,
    buffered: BTreeMap<TopicPartition, Vec<(Offset, String)>>,
    durable: BTreeMap<TopicPartition, Offset>,
}

#[async_trait]
impl SinkTask for StoreTask {
    async fn open(
        &mut self,
        added: &[Assigned],
    ) -> Result<Vec<(TopicPartition, Offset)>, TaskError> {
        let store = self.store.lock().unwrap();
        let mut starts = Vec::new();
        for it in added {
            assert!(it.topic_id.is_some());
            assert!(it.log_start <= it.log_end);
            let last = store.flushed.get(&it.partition).and_then(|records| records.last());
            if let Some((last, _)) = last {
                starts.push((it.partition.clone(), last.plus(1)));
                self.durable.insert(it.partition.clone(), last.plus(1));
            }
        }
        Ok(starts)
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<Vec<Rejected>, TaskError> {
        if let Some(failure) = self.store.lock().unwrap().failures.pop() {
            return Err(failure);
        }
        let mut rejected = Vec::new();
        let buffered = self.buffered.entry(batch.partition.clone()).or_default();
        for record in &batch.records {
            let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
            if value.contains("bad") {
                let reason = TaskError::fatal("record", "it is bad");
                rejected.push(Rejected { offset: record.offset, reason });
            } else {
                buffered.push((record.offset, value));
            }
        }
        Ok(rejected)
    }

    async fn flush(&mut self, how: Flush) -> Result<(), TaskError> {
        if how == Flush::Due {
            return Ok(());
        }
        let mut store = self.store.lock().unwrap();
        for (partition, records) in std::mem::take(&mut self.buffered) {
            if let Some((last, _)) = records.last() {
                self.durable.insert(partition.clone(), last.plus(1));
            }
            store.flushed.entry(partition).or_default().extend(records);
        }
        Ok(())
    }

    fn committable(&self) -> Vec<(TopicPartition, Offset)> {
        self.durable.clone().into_iter().collect()
    }

    async fn close(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.buffered.remove(partition);
            self.durable.remove(partition);
        }
    }
}

struct World {
    network: MemoryNetwork,
    _broker: BrokerHandle,
    dir: tempfile::TempDir,
    store: SharedStore,
}

impl World {
    async fn new() -> Self {
        let network = MemoryNetwork::new();
        let listener = network.listen(endpoint()).unwrap();
        let outside = Outside {
            disk: Arc::new(SimDisk::new(1)),
            listeners: Some(vec![Box::new(listener)]),
            clock: virtual_clock(WALL),
            seed: 1,
            ids: Lot::of_seed(1),
            writer: Mode::Inline,
            hostname: "broker".to_owned(),
        };
        let config = BrokerConfig::from_pairs([("log.dir", "/data")]).unwrap();
        let broker = Broker::start(config, outside).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let world = Self { network, _broker: broker, dir, store: SharedStore::default() };
        let admin = world.admin().await;
        for (topic, partitions) in [("lines", 3), ("dead", 1)] {
            admin.create_topic(NewTopic::new(topic, partitions)).await.unwrap();
        }
        world
    }

    fn bootstrap(&self) -> Bootstrap {
        let connector: Arc<dyn Network> = Arc::new(self.network.clone());
        Bootstrap::new([endpoint()], connector, virtual_clock(WALL), 7)
    }

    async fn admin(&self) -> Admin {
        Admin::connect(self.bootstrap(), PATIENCE).await.unwrap()
    }

    fn append(&self, file: &str, lines: impl IntoIterator<Item = String>) {
        let path = self.dir.path().join(file);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        for line in lines {
            writeln!(file, "{line}").unwrap();
        }
    }

    fn source(&self) -> Config {
        config(json!({
            "name": "files", "connector": "file-source", "topic": "lines",
            "paths": [self.dir.path()], "batch_bytes": 300, "transaction_bytes": 1000,
        }))
    }

    /// A worker with these connectors.
    async fn run(&self, configs: &[Config]) -> Running {
        let store = Arc::clone(&self.store);
        let registry = Registry::default()
            .with(connectors::file::FILE_SOURCE, connectors::file::file_source)
            .with("store-sink", move |reader| {
                reader.finish()?;
                Ok(Connector::Sink(Box::new(StoreSink(Arc::clone(&store)))))
            });
        let worker = WorkerConfig::new(self.bootstrap());
        Standalone::new(worker, registry).run(configs).await.unwrap()
    }

    async fn ends(&self, topic: &str) -> BTreeMap<TopicPartition, Offset> {
        let admin = self.admin().await;
        let described = admin.describe_topics(&[topic]).await.unwrap();
        let partitions = described[topic].as_ref().unwrap().partitions.keys();
        let wanted =
            partitions.map(|it| (TopicPartition::new(topic, it.0), OffsetSpec::Latest)).collect();
        let listed = admin.list_offsets(&wanted, IsolationLevel::ReadCommitted).await.unwrap();
        listed.into_iter().map(|(at, it)| (at, it.offset.unwrap())).collect()
    }

    /// All that is committed in a topic: key, value and headers of each record.
    async fn read(&self, topic: &str) -> Vec<(String, Option<String>, Vec<String>)> {
        let config = ConsumerConfig::parse([
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "earliest"),
        ]);
        let mut consumer = Consumer::connect(self.bootstrap(), config.unwrap()).await.unwrap();
        let ends = self.ends(topic).await;
        consumer.assign(ends.keys().cloned());
        let is_behind = |consumer: &Consumer, (at, end): (&TopicPartition, &Offset)| {
            *end > Offset::ZERO && consumer.position(at).is_none_or(|position| position < *end)
        };
        let mut found = Vec::new();
        while ends.iter().any(|it| is_behind(&consumer, it)) {
            let Polled::Batches(batches) = consumer.poll(PATIENCE).await.unwrap() else { continue };
            for record in batches.iter().flat_map(|batch| batch.records()) {
                let record = record.unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let headers = record.headers.iter().map(|it| it.key.into_owned()).collect();
                let key = record.key.map(text).unwrap_or_default();
                found.push((key, record.value.map(text), headers));
            }
        }
        found
    }

    async fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.read("lines").await.into_iter().filter_map(|(_, value, _)| value).collect();
        lines.sort();
        lines
    }

    fn flushed(&self) -> Vec<String> {
        let store = self.store.lock().unwrap();
        let mut lines: Vec<String> =
            store.flushed.values().flatten().map(|(_, line)| line.clone()).collect();
        lines.sort();
        lines
    }
}

fn endpoint() -> Endpoint {
    Endpoint::new("broker", 9092)
}

fn config(settings: Value) -> Config {
    Config::new("test.json", settings.as_object().unwrap().clone())
}

fn sink(more: Value) -> Config {
    let mut settings = json!({ "name": "store", "connector": "store-sink", "topics": ["lines"] });
    let more = more.as_object().unwrap().clone();
    settings.as_object_mut().unwrap().extend(more);
    config(settings)
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("line {n:05}")).collect()
}

#[tokio::test(start_paused = true)]
async fn each_line_reaches_the_topic_and_the_sink_once_across_restarts() {
    let world = World::new().await;
    let mut written = 0;
    for _ in 0..3 {
        for file in ["a.log", "b.log"] {
            world.append(file, numbered(written..written + 200));
            written += 200;
        }
        let mut running = world.run(&[world.source(), sink(json!({ "tasks": 2 }))]).await;
        running.sources_drained().await;
        running.sinks_committed(&world.ends("lines").await).await;
        let ended = running.stop().await;
        assert_eq!(world.lines().await, numbered(0..written));
        assert_eq!(world.flushed(), numbered(0..written));
        assert!(ended.iter().flat_map(|it| &it.tasks).all(|it| it.state == TaskState::Stopped));
        assert_eq!(ended.iter().map(|it| it.records()).collect::<Vec<_>>(), [400, 400]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_killed_at_any_moment_loses_and_repeats_nothing() {
    let world = World::new().await;
    world.append("a.log", numbered(0..2000));
    for killed_after_ms in [1, 40, 90, 200, 300, 700] {
        let running = world.run(&[world.source(), sink(json!({}))]).await;
        tokio::time::sleep(Duration::from_millis(killed_after_ms)).await;
        running.flush_sinks();
        tokio::time::sleep(Duration::from_millis(killed_after_ms)).await;
        drop(running);
    }
    let mut running = world.run(&[world.source(), sink(json!({}))]).await;
    running.sources_drained().await;
    running.sinks_committed(&world.ends("lines").await).await;
    running.stop().await;
    assert_eq!(world.lines().await, numbered(0..2000));
    assert_eq!(world.flushed(), numbered(0..2000));
}

#[tokio::test(start_paused = true)]
async fn source_offsets_are_kept_as_kafka_connect_keeps_them() {
    let world = World::new().await;
    world.append("a.log", numbered(0..10));
    let mut running = world.run(&[world.source()]).await;
    running.sources_drained().await;
    running.stop().await;
    let stored = world.read("connect-offsets").await;
    let (key, value, _) = stored.last().unwrap();
    let (name, partition): (String, Value) = serde_json::from_str(key).unwrap();
    assert_eq!(name, "files");
    assert!(partition["file"].is_string());
    let offset: Value = serde_json::from_str(value.as_ref().unwrap()).unwrap();
    assert_eq!(offset["pos"], json!(10 * "line 00000\n".len()));
    assert!(offset["path"].as_str().unwrap().ends_with("a.log"));
}

#[tokio::test(start_paused = true)]
async fn refused_records_become_dead_letters_and_the_sink_goes_on() {
    let world = World::new().await;
    world.append("a.log", ["good", "bad one", "better", "bad two"].map(str::to_owned));
    let errors = json!({ "errors": { "dead_letter_topic": "dead" } });
    let mut running = world.run(&[world.source(), sink(errors)]).await;
    running.sources_drained().await;
    running.sinks_committed(&world.ends("lines").await).await;
    let ended = running.stop().await;
    assert_eq!(ended[1].tasks[0].rejected, 2);
    assert_eq!(world.flushed(), ["better", "good"]);
    let dead = world.read("dead").await;
    let values: Vec<_> = dead.iter().map(|(_, value, _)| value.as_deref().unwrap()).collect();
    assert_eq!(values, ["bad one", "bad two"]);
    assert!(dead[0].2.contains(&"__connect.errors.exception.message".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_refused_record_that_is_not_tolerated_fails_the_task_for_all_to_see() {
    let world = World::new().await;
    world.append("a.log", ["good", "bad"].map(str::to_owned));
    let retry = json!({ "retry": { "restart": "never" } });
    let mut running = world.run(&[world.source(), sink(retry)]).await;
    while !running.status()[1].has_failed() {
        running.changed().await;
    }
    let error = running.status()[1].tasks[0].last_error.clone().unwrap();
    assert!(error.contains("it is bad"), "{error}");
    // Waiting for a failed sink would be waiting for ever.
    running.sinks_committed(&world.ends("lines").await).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_is_tried_again_and_started_again() {
    let world = World::new().await;
    world.append("a.log", numbered(0..100));
    let away = || TaskError::retriable("store", "away");
    let broken = || TaskError::fatal("store", "broken");
    world.store.lock().unwrap().failures = vec![away(), broken(), away(), away()];
    let mut running = world.run(&[world.source(), sink(json!({}))]).await;
    running.sources_drained().await;
    running.sinks_committed(&world.ends("lines").await).await;
    let ended = running.stop().await;
    assert_eq!(world.flushed(), numbered(0..100));
    assert_eq!(ended[1].tasks[0].restarts, 1);
    // The last that it had to try again for, after it was started again.
    assert_eq!(ended[1].tasks[0].last_error.as_deref(), Some("store: away"));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_follow_finishes() {
    let world = World::new().await;
    world.append("a.log", numbered(0..100));
    let mut settings = world.source();
    settings.set("follow", json!(false));
    let mut running = world.run(&[settings]).await;
    running.sources_drained().await;
    assert_eq!(world.lines().await, numbered(0..100));
    assert_eq!(running.stop().await[0].tasks[0].state, TaskState::Finished);
}
