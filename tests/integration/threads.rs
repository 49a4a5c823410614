//! A Streams application on several threads of the operating system, as programs run it.
//!
//! The clock is the machine's: what is promised is the result, in whatever order the threads come.
//! Shell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::config::BrokerConfig;
use broker::{Broker, BrokerHandle, Outside};
use client::bootstrap::Bootstrap;
use client::net::Endpoint;
use client::net::memory::MemoryNetwork;
use client::time::real_clock;
use client::{Admin, NewTopic, Producer, ProducerConfig};
use client::{Consumer, ConsumerConfig, IsolationLevel};
use harness::read::read_all;
use protocol::ids::{Offset, TopicPartition};
use protocol::time::Timestamp;
use streams::runtime::App;
use streams::{I64, Store, StreamsBuilder, Topic, Topology, Unit, Utf8};

const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(120);

fn word_count() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream(&Topic::new("words", Unit, Utf8))
        .map(|(), word: String| (word, ()))
        .repartition("by-word", Utf8, Unit)
        .group_by_key()
        .count(Store::kv("counts", Utf8, I64))
        .to_stream()
        .map(|word, count| (word.clone(), format!("{word} {count}")))
        .to(&Topic::new("counts", Utf8, Utf8));
    builder.build().unwrap()
}

async fn start(dir: &std::path::Path) -> (BrokerHandle, Bootstrap) {
    let settings = [("log.dir", dir.to_str().unwrap())];
    let config = BrokerConfig::from_pairs(settings).unwrap();
    let network = MemoryNetwork::new();
    let endpoint = Endpoint::new("threads", 1);
    let listener = network.listen(endpoint.clone()).unwrap();
    let outside = Outside::embedded(vec![Box::new(listener)]);
    let broker = Broker::start(config, outside).await.unwrap();
    (broker, Bootstrap::new([endpoint], Arc::new(network), real_clock(), 1))
}

async fn write(bootstrap: Bootstrap, words: std::ops::Range<u32>) {
    let mut producer = Producer::connect(bootstrap, ProducerConfig::default()).await.unwrap();
    producer.partition_count("words").await.unwrap();
    for number in words {
        let partition = i32::try_from(number).unwrap() % PARTITIONS;
        let word = format!("w{}", number % 13);
        let at = Timestamp(i64::from(number));
        producer.append("words", Some(partition), at, None, Some(word.as_bytes()), &[]).unwrap();
    }
    producer.close().await.unwrap();
}

/// Where the partitions end, what is not decided yet included: markers may be still on their way.
async fn ends(bootstrap: Bootstrap, topic: &str) -> BTreeMap<TopicPartition, Offset> {
    let consumer = Consumer::connect(bootstrap, ConsumerConfig::default()).await.unwrap();
    let partitions = consumer.partitions_of(topic).await.unwrap();
    consumer.end_offsets(partitions, IsolationLevel::ReadUncommitted).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_threads_and_their_rebalances_count_each_record_once() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, bootstrap) = start(dir.path()).await;
    let admin = Admin::connect(bootstrap.clone(), PATIENCE).await.unwrap();
    for topic in ["words", "counts"] {
        admin.create_topic(NewTopic::new(topic, PARTITIONS)).await.unwrap();
    }
    let mut written = 0;
    // Fewer and more threads than before: tasks and their stores change hands.
    for threads in [3, 1, 2] {
        let app = App::new("threads", word_count())
            .connect_with(bootstrap.clone())
            .threads(threads)
            .start()
            .await
            .unwrap();
        write(bootstrap.clone(), written..written + 2_000).await;
        written += 2_000;
        for topic in ["words", "threads-by-word-repartition"] {
            let ends = ends(bootstrap.clone(), topic).await;
            tokio::time::timeout(PATIENCE, app.caught_up(&ends)).await.unwrap().unwrap();
        }
        app.shutdown(PATIENCE).await.unwrap();
    }
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for line in read_all(bootstrap, "counts", true).await.unwrap().concat() {
        let (word, count) = line.split_once(' ').unwrap();
        let before = last.entry(word.to_owned()).or_default();
        assert_eq!(count.parse(), Ok(*before + 1), "{word}");
        *before += 1;
    }
    assert_eq!(last.values().sum::<i64>(), i64::from(written));
    assert_eq!(last.len(), 13);
    broker.shutdown().await.unwrap();
}
