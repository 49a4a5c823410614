//! The two brokers of the matrix, and what every test asks of them.
//!
//! Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use broker::config::BrokerConfig;
use broker::{Broker, BrokerHandle, Outside};
use client::config::SecurityConfig;
use client::consumer::{FetchedBatch, Polled};
use client::{
    Admin, Bootstrap, Consumer, ConsumerConfig, NewTopic, Producer, ProducerConfig, ProducerRecord,
};
use harness::kafka::KafkaProcess;
use protocol::ids::{Offset, TopicPartition};
use protocol::record::Record;

/// How long anything may take, on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What both brokers are set to, so that the same may be expected of them.
const SETTINGS: [(&str, &str); 2] =
    [("num.partitions", "3"), ("group.initial.rebalance.delay.ms", "0")];

/// Behind a lock, as what it prints is for one reader.
static APACHE_KAFKA: LazyLock<Option<Mutex<KafkaProcess>>> = LazyLock::new(|| {
    let settings: Vec<_> = SETTINGS.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut settings: Vec<_> = settings.iter().map(String::as_str).collect();
    settings.extend([
        "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000",
        // Members that die are missed soon.
        "group.consumer.min.session.timeout.ms=5000",
        "group.consumer.session.timeout.ms=6000",
        "group.consumer.min.heartbeat.interval.ms=500",
        "group.consumer.heartbeat.interval.ms=500",
    ]);
    KafkaProcess::start(&settings).expect("Apache Kafka starts").map(Mutex::new)
});

/// Tries each case against both brokers.
macro_rules! on_both {
    ($($case:ident,)*) => {
        mod apache_kafka {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(cluster) = crate::cluster::Cluster::apache_kafka() {
                    Box::pin(super::$case(cluster)).await;
                }
            })*
        }
        mod millstream {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (cluster, ours) = crate::cluster::Cluster::millstream().await;
                Box::pin(super::$case(cluster)).await;
                ours.stop().await;
            })*
        }
    };
}
pub(crate) use on_both;

/// A broker to be tried.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) endpoint: String,
    pub(crate) security: SecurityConfig,
}

/// Our broker.
pub(crate) struct Ours {
    broker: BrokerHandle,
    _dir: tempfile::TempDir,
}

impl Ours {
    pub(crate) async fn stop(self) {
        self.broker.shutdown().await.unwrap();
    }
}

/// With `TRACE` set, to directives such as `debug`, client and broker tell what they do.
pub(crate) fn listen() {
    if let Ok(directives) = std::env::var("TRACE") {
        let filter = tracing_subscriber::EnvFilter::new(directives);
        // A second call finds the first one's subscriber in place.
        drop(tracing_subscriber::fmt().with_env_filter(filter).try_init());
    }
}

/// Makes names that no other test uses.
static NAMES: AtomicU32 = AtomicU32::new(0);

impl Cluster {
    /// Apache Kafka's, shared by all tests. `None`, with the reason printed: it cannot be installed.
    pub(crate) fn apache_kafka() -> Option<Self> {
        listen();
        let endpoint = APACHE_KAFKA.as_ref()?.lock().unwrap().endpoint().to_owned();
        Some(Self { endpoint, security: SecurityConfig::default() })
    }

    /// Ours, for this test alone.
    pub(crate) async fn millstream() -> (Self, Ours) {
        listen();
        let dir = tempfile::tempdir().unwrap();
        let mut pairs = BTreeMap::from([
            ("log.dir", dir.path().to_str().unwrap()),
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ]);
        pairs.extend(SETTINGS);
        let config = BrokerConfig::from_pairs(pairs).unwrap();
        let broker = Broker::start(config, Outside::real()).await.unwrap();
        let endpoint = broker.endpoints()[0].to_string();
        (Self { endpoint, security: SecurityConfig::default() }, Ours { broker, _dir: dir })
    }

    pub(crate) fn bootstrap(&self) -> Bootstrap {
        Bootstrap::tcp(&self.endpoint).unwrap().secured(&self.security).unwrap()
    }

    pub(crate) async fn admin(&self) -> Admin {
        Admin::connect(self.bootstrap(), PATIENCE).await.unwrap()
    }

    /// A name for a topic, group, or transactional id that begins with `what`.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("{what}-{}", NAMES.fetch_add(1, Ordering::Relaxed))
    }

    /// A new topic.
    pub(crate) async fn topic(&self, partition_count: i32) -> String {
        let name = self.name("topic");
        self.admin().await.create_topic(NewTopic::new(&name, partition_count)).await.unwrap();
        name
    }

    pub(crate) async fn producer(&self, settings: &[(&str, &str)]) -> Producer {
        let config = ProducerConfig::parse(settings.iter().copied()).unwrap();
        Producer::connect(self.bootstrap(), config).await.unwrap()
    }

    /// A consumer that starts at the beginning, unless told otherwise.
    pub(crate) async fn consumer(&self, settings: &[(&str, &str)]) -> Consumer {
        let mut pairs =
            BTreeMap::from([("auto.offset.reset", "earliest"), ("heartbeat.interval.ms", "500")]);
        pairs.extend(settings.iter().copied());
        let config = ConsumerConfig::parse(pairs).unwrap();
        Consumer::connect(self.bootstrap(), config).await.unwrap()
    }

    /// Writes values, one record each, to partition 0 of `topic`.
    pub(crate) async fn write(&self, topic: &str, values: impl IntoIterator<Item = String>) {
        let mut producer = self.producer(&[]).await;
        for value in values {
            let record = ProducerRecord { partition: Some(0), ..ProducerRecord::new(topic, value) };
            append(&mut producer, &record).await;
        }
        producer.close().await.unwrap();
    }

    /// All records that are in `topic` now, by partition, for readers of this isolation level.
    pub(crate) async fn read(
        &self,
        topic: &str,
        isolation: &str,
    ) -> BTreeMap<TopicPartition, Vec<Record>> {
        let mut consumer = self.consumer(&[("isolation.level", isolation)]).await;
        let partitions = consumer.partitions_of(topic).await.unwrap();
        let isolation = consumer_isolation(isolation);
        let ends = consumer.end_offsets(partitions.iter().cloned(), isolation).await.unwrap();
        consumer.assign(partitions.iter().cloned());
        let mut records: BTreeMap<_, Vec<Record>> =
            partitions.into_iter().map(|it| (it, Vec::new())).collect();
        let begun = consumer.now().monotonic;
        let behind = |consumer: &Consumer| {
            ends.iter().any(|(at, end)| consumer.position(at).unwrap_or(Offset::ZERO) < *end)
        };
        while behind(&consumer) {
            assert!(consumer.now().monotonic < begun + PATIENCE, "{topic}: the end is not reached");
            for batch in poll_batches(&mut consumer).await {
                let of = records.get_mut(&batch.tp).unwrap();
                of.extend(batch.into_records().map(Result::unwrap));
            }
        }
        consumer.close().await.unwrap();
        records
    }

    /// The values of all records of `topic`, in no order.
    pub(crate) async fn values(&self, topic: &str, isolation: &str) -> BTreeSet<String> {
        self.read(topic, isolation).await.into_values().flatten().map(|it| text(&it)).collect()
    }
}

fn consumer_isolation(name: &str) -> client::IsolationLevel {
    ConsumerConfig::parse([("isolation.level", name)]).unwrap().isolation_level
}

/// The value as a text; "(null)" for a tombstone.
pub(crate) fn text(record: &Record) -> String {
    let value = record.value.as_ref();
    value.map_or("(null)".to_owned(), |it| String::from_utf8(it.to_vec()).unwrap())
}

/// Appends, waiting for room.
pub(crate) async fn append(producer: &mut Producer, record: &ProducerRecord) {
    let timestamp = record.timestamp.unwrap_or_else(|| producer.now().wall);
    let headers: Vec<_> =
        record.headers.iter().map(|(key, value)| (&**key, value.as_deref())).collect();
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    loop {
        let appended =
            producer.append(&record.topic, record.partition, timestamp, key, value, &headers);
        match appended {
            Ok(()) => return,
            Err(error) if error.is_retriable() => producer.ready().await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// What one `poll` delivers; nothing else may come of it than batches.
pub(crate) async fn poll_batches(consumer: &mut Consumer) -> Vec<FetchedBatch> {
    match consumer.poll(Duration::from_millis(200)).await.unwrap() {
        Polled::Batches(batches) => batches,
        Polled::Assigned(_) | Polled::Nothing => Vec::new(),
        Polled::Revoked(revoked) => panic!("{revoked:?}"),
    }
}

/// Polls until `wanted` values have come, and gives them in order.
pub(crate) async fn poll_values(consumer: &mut Consumer, wanted: usize) -> Vec<String> {
    let begun = consumer.now().monotonic;
    let mut values = Vec::new();
    while values.len() < wanted {
        assert!(consumer.now().monotonic < begun + PATIENCE, "{wanted} wanted, got {values:?}");
        for batch in poll_batches(consumer).await {
            values.extend(batch.into_records().map(|it| text(&it.unwrap())));
        }
    }
    values
}

/// `count` values from `first` on.
pub(crate) fn numbers(first: u32, count: u32) -> Vec<String> {
    (first..first + count).map(|it| it.to_string()).collect()
}
