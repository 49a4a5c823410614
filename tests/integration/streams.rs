//! A Streams application against our broker: exactly once through restarts, crashes and rebalances.
//!
//! Broker, clients and applications run in one process on a paused clock; each test is the same
//! run every time. Shell.

use std::collections::BTreeMap;
use std::time::Duration;

use client::bootstrap::Bootstrap;
use client::consumer::{Consumer, Polled};
use client::{Admin, ConsumerConfig, IsolationLevel, NewTopic, Producer, ProducerConfig};
use harness::sim::world::{self, World};
use protocol::ids::{Offset, TopicPartition};
use protocol::mutant::{Mutant, activate};
use protocol::time::Timestamp;
use streams::runtime::{App, AppError, AppHandle, AppState, Guarantee, Metrics};
use streams::{
    Emit, I64, Store, StreamsBuilder, Topic, Topology, Tumbling, Unit, Utf8, WindowStore,
};
use tokio::task::{JoinHandle, spawn_local};

const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(300);
const SETTINGS: &[(&str, &str)] = &[
    ("transaction.state.log.num.partitions", "2"),
    ("offsets.topic.num.partitions", "2"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
];

/// Lines to words to counts; and clicks per ten seconds, when the window closes.
fn word_count() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream(&Topic::new("lines", Unit, Utf8))
        .flat_map(|(), line: String| {
            line.split_whitespace().map(|word| (word.to_owned(), ())).collect::<Vec<_>>()
        })
        .repartition("words", Utf8, Unit)
        .group_by_key()
        .count(Store::kv("counts", Utf8, I64))
        .to_stream()
        .to(&Topic::new("counts", Utf8, I64));
    builder
        .stream(&Topic::new("clicks", Utf8, Unit))
        .group_by_key()
        .window(Tumbling::of(Duration::from_secs(10)))
        .emit(Emit::OnClose)
        .count(WindowStore::new("counts-10s", Utf8, I64))
        .to_stream()
        .map(|word, count| (word.to_string(), count))
        .to(&Topic::new("counts-10s", Utf8, I64));
    builder.build().unwrap()
}

/// A running application: its handle, and the worker that this thread polls.
struct Running {
    handle: AppHandle,
    worker: JoinHandle<()>,
}

async fn start(world: &mut World, instance: &str, topology: Topology) -> Running {
    let app = App::new("app", topology)
        .connect_with(world.bootstrap(instance))
        .instance_id(instance)
        .session_timeout(Duration::from_secs(10));
    run(app).await
}

async fn run(app: App) -> Running {
    let (handle, worker) = app.run_local().await.unwrap();
    Running { handle, worker: spawn_local(worker) }
}

impl Running {
    /// The process is gone: nothing is committed, nobody told.
    fn crash(self) {
        self.worker.abort();
    }

    async fn stop(self) {
        self.handle.shutdown(PATIENCE).await.unwrap();
        assert_eq!(self.handle.state(), AppState::Stopped);
        self.worker.await.unwrap();
    }

    async fn caught_up(&self, ends: &BTreeMap<TopicPartition, Offset>) {
        tokio::time::timeout(PATIENCE, self.handle.caught_up(ends)).await.unwrap().unwrap();
    }
}

async fn create_topics(world: &mut World) {
    world.start_broker().await.unwrap();
    let admin = Admin::connect(world.bootstrap("admin"), PATIENCE).await.unwrap();
    for topic in ["lines", "clicks", "counts", "counts-10s"] {
        admin.create_topic(NewTopic::new(topic, PARTITIONS)).await.unwrap();
    }
}

/// Writes lines, one second apart from `start`, in turn to all partitions; and clicks, one per word
/// of the line, to the partitions of the words.
async fn write(world: &mut World, start: i64, lines: &[String]) {
    write_slowly(world.bootstrap("writer"), start, lines, Duration::ZERO).await;
}

/// The same with a pause after each line.
async fn write_slowly(bootstrap: Bootstrap, start: i64, lines: &[String], pause: Duration) {
    let mut producer = Producer::connect(bootstrap, ProducerConfig::default()).await.unwrap();
    for topic in ["lines", "clicks"] {
        producer.partition_count(topic).await.unwrap();
    }
    for (number, line) in (start..).zip(lines) {
        let partition = i32::try_from(number).unwrap() % PARTITIONS;
        let at = Timestamp(number * 1_000);
        producer.append("lines", Some(partition), at, None, Some(line.as_bytes()), &[]).unwrap();
        for word in line.split(' ') {
            producer.append("clicks", None, at, Some(word.as_bytes()), None, &[]).unwrap();
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    producer.close().await.unwrap();
}

fn lines(count: i64) -> Vec<String> {
    (0..count).map(|number| format!("all w{} w{}", number % 7, number % 2)).collect()
}

/// The committed records of a topic, partition by partition.
async fn read(world: &mut World, topic: &str) -> Vec<(String, i64)> {
    let config = ConsumerConfig {
        isolation_level: IsolationLevel::ReadCommitted,
        auto_offset_reset: client::config::OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::connect(world.bootstrap("reader"), config).await.unwrap();
    let ends = ends(world, topic).await;
    consumer.assign(ends.keys().cloned());
    let mut found = Vec::new();
    while ends.iter().any(|(of, end)| consumer.position(of).is_none_or(|at| at < *end)) {
        if let Polled::Batches(batches) = consumer.poll(Duration::from_secs(1)).await.unwrap() {
            for record in batches.into_iter().flat_map(|batch| batch.into_records()) {
                let record = record.unwrap();
                let value = record.value.unwrap();
                found.push((
                    String::from_utf8(record.key.unwrap().to_vec()).unwrap(),
                    i64::from_be_bytes(value.as_ref().try_into().unwrap()),
                ));
            }
        }
    }
    found
}

async fn ends(world: &mut World, topic: &str) -> BTreeMap<TopicPartition, Offset> {
    let config = ConsumerConfig::default();
    let consumer = Consumer::connect(world.bootstrap("ends"), config).await.unwrap();
    let partitions = (0..PARTITIONS).map(|partition| TopicPartition::new(topic, partition));
    let level = IsolationLevel::ReadCommitted;
    consumer.end_offsets(partitions, level).await.unwrap()
}

/// Waits until the application has processed all lines, and the words that came of them.
async fn settle(world: &mut World, apps: &[&Running]) {
    for topic in ["lines", "clicks"] {
        let ends = ends(world, topic).await;
        wait_for(world, apps, &ends).await;
    }
    let words = ends(world, "app-words-repartition").await;
    wait_for(world, apps, &words).await;
}

/// Between them the applications have everything below `ends`.
async fn wait_for(world: &mut World, apps: &[&Running], ends: &BTreeMap<TopicPartition, Offset>) {
    let began = world.clock.now().monotonic;
    loop {
        let mut seen: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        for app in apps {
            for (partition, offset) in &*app.handle.committed().borrow() {
                let known = seen.entry(partition.clone()).or_default();
                *known = offset.max(known).to_owned();
            }
        }
        if ends
            .iter()
            .all(|(of, end)| *end == Offset(0) || seen.get(of).is_some_and(|at| at >= end))
        {
            return;
        }
        assert!(world.clock.now().monotonic < began + PATIENCE, "{seen:?} of {ends:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every word was counted one by one, without a gap or a repeat, up to how often it was written.
fn check_counts(read: &[(String, i64)], lines: &[String]) {
    let mut want: BTreeMap<&str, i64> = BTreeMap::new();
    lines.iter().flat_map(|line| line.split(' ')).for_each(|word| {
        *want.entry(word).or_default() += 1;
    });
    let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
    for (word, count) in read {
        let last = seen.entry(word).or_default();
        assert_eq!(*count, *last + 1, "{word} after {last}");
        *last = *count;
    }
    assert_eq!(seen, want);
}

/// Every closed window was emitted once, with what was in it.
fn check_windows(read: &[(String, i64)], lines: &[String]) {
    let mut want: BTreeMap<String, i64> = BTreeMap::new();
    for (second, line) in (0_i64..).zip(lines) {
        let start = second / 10 * 10_000;
        for word in line.split(' ') {
            *want.entry(format!("{word}@{start}/{}", start + 10_000)).or_default() += 1;
        }
    }
    let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
    assert!(read.len() > want.len() / 2, "{} of {} windows", read.len(), want.len());
    for (window, count) in read {
        assert_eq!(seen.insert(window, *count), None, "{window} was emitted twice");
        assert_eq!(want.get(window), Some(count), "{window}");
    }
}

#[test]
fn words_are_counted_once_through_a_stop_and_a_start() {
    world::run(1, SETTINGS, async |world| {
        create_topics(world).await;
        let all = lines(60);
        write(world, 0, &all[..30]).await;
        let app = start(world, "one", word_count()).await;
        app.handle.running().await.unwrap();
        settle(world, &[&app]).await;
        app.stop().await;
        write(world, 30, &all[30..]).await;
        let app = start(world, "one", word_count()).await;
        settle(world, &[&app]).await;
        assert!(app.handle.metrics().restored > 0, "the counts came back from their changelog");
        app.stop().await;
        check_counts(&read(world, "counts").await, &all);
        check_windows(&read(world, "counts-10s").await, &all);
    });
}

#[test]
fn a_crash_anywhere_loses_nothing_and_repeats_nothing() {
    for seed in 0..12 {
        world::run(seed, SETTINGS, async |world| {
            create_topics(world).await;
            let all = lines(90);
            for (number, part) in all.chunks(30).enumerate() {
                let app = start(world, "one", word_count()).await;
                write(world, i64::try_from(number).unwrap() * 30, part).await;
                let life = world.rng.below(400);
                tokio::time::sleep(Duration::from_millis(life)).await;
                app.crash();
            }
            let app = start(world, "one", word_count()).await;
            settle(world, &[&app]).await;
            app.stop().await;
            check_counts(&read(world, "counts").await, &all);
            check_windows(&read(world, "counts-10s").await, &all);
        });
    }
}

#[test]
fn instances_share_the_work_and_take_over_from_one_another() {
    for seed in 0..6 {
        world::run(seed, SETTINGS, async |world| {
            create_topics(world).await;
            let all = lines(120);
            write(world, 0, &all[..30]).await;
            let one = start(world, "one", word_count()).await;
            tokio::time::sleep(Duration::from_millis(world.rng.below(500))).await;
            let two = start(world, "two", word_count()).await;
            write(world, 30, &all[30..60]).await;
            tokio::time::sleep(Duration::from_millis(world.rng.below(15_000))).await;
            if world.rng.chance(2) {
                one.crash()
            } else {
                one.stop().await
            }
            write(world, 60, &all[60..90]).await;
            let three = start(world, "three", word_count()).await;
            tokio::time::sleep(Duration::from_millis(world.rng.below(15_000))).await;
            write(world, 90, &all[90..]).await;
            settle(world, &[&two, &three]).await;
            two.stop().await;
            three.stop().await;
            check_counts(&read(world, "counts").await, &all);
            check_windows(&read(world, "counts-10s").await, &all);
        });
    }
}

/// A slow writer and an application, while connections break and the broker dies again and again,
/// now and then for longer than a transaction may stay open.
fn amid_faults(seed: u64) -> Metrics {
    let (metrics, _) = world::run(seed, SETTINGS, async |world| {
        create_topics(world).await;
        let all = lines(150);
        let app = App::new("app", word_count())
            .connect_with(world.bootstrap("one"))
            .instance_id("one")
            .commit_interval(Duration::from_millis(20))
            .transaction_timeout(Duration::from_secs(1));
        let app = run(app).await;
        let writer = world.bootstrap("writer");
        let written = write_slowly(writer, 0, &all, Duration::from_millis(80));
        tokio::select! {
            biased;
            () = written => {}
            () = suffer(world) => {}
        }
        world.recover().await.unwrap();
        settle(world, &[&app]).await;
        let metrics = app.handle.metrics();
        app.stop().await;
        check_counts(&read(world, "counts").await, &all);
        check_windows(&read(world, "counts-10s").await, &all);
        metrics
    });
    metrics
}

async fn suffer(world: &mut World) {
    loop {
        tokio::time::sleep(Duration::from_millis(world.rng.below(800))).await;
        if world.rng.chance(4) {
            // This is about applications: the broker's disk keeps what it was given.
            world.crash(false);
            tokio::time::sleep(Duration::from_millis(world.rng.below(4_000))).await;
            world.start_broker().await.unwrap();
        } else {
            world.net.cut_one();
        }
    }
}

#[test]
fn broken_connections_and_a_dying_broker_change_no_count() {
    let metrics: Vec<Metrics> = (0..8).map(amid_faults).collect();
    assert!(metrics.iter().any(|it| it.aborts > 0), "no transaction was ever aborted");
    assert!(metrics.iter().any(|it| it.restored > 0), "no session was ever begun anew");
}

/// Some seed must notice the mistake, or the test above proves nothing.
fn is_caught(mutant: Mutant) -> bool {
    (0..30).any(|seed| {
        activate(Some(mutant));
        let survived = std::panic::catch_unwind(|| amid_faults(seed));
        activate(None);
        survived.is_err()
    })
}

#[test]
fn offsets_outside_the_transaction_are_noticed() {
    assert!(is_caught(Mutant::OffsetsOutsideTransaction));
}

#[test]
fn uncommitted_writes_that_survive_an_abort_are_noticed() {
    assert!(is_caught(Mutant::KeepAbortedWrites));
}

#[test]
fn a_record_that_is_refused_stops_the_application_with_all_before_it_committed() {
    let topology = || {
        let builder = StreamsBuilder::new();
        builder
            .stream(&Topic::new("lines", Unit, Utf8))
            .try_map_values(|line| line.parse::<i64>())
            .map(|(), number| (number.to_string(), number))
            .to(&Topic::new("counts", Utf8, I64));
        builder.build().unwrap()
    };
    world::run(3, SETTINGS, async |world| {
        create_topics(world).await;
        write(world, 0, &["1".to_owned()]).await;
        let app = start(world, "one", topology()).await;
        let lines = ends(world, "lines").await;
        app.caught_up(&lines).await;
        write(world, 3, &["2".to_owned(), "three".to_owned()]).await;
        let failed = app.handle.stopped().await.unwrap_err();
        assert!(matches!(&*failed, AppError::Task(_)), "{failed}");
        assert!(failed.to_string().contains("`try_map_values` failed"), "{failed}");
        assert_eq!(app.handle.state(), AppState::Failed);
        let read = read(world, "counts").await;
        assert!(read.contains(&("1".to_owned(), 1)), "{read:?}");
        assert!(read.len() <= 2, "{read:?}");
    });
}

#[test]
fn a_topology_without_its_topics_does_not_start() {
    world::run(4, SETTINGS, async |world| {
        world.start_broker().await.unwrap();
        let app = App::new("app", word_count()).connect_with(world.bootstrap("one"));
        let Err(refused) = app.run_local().await else { panic!("it started") };
        let want = "the topology does not fit the topics: the topic `lines` does not exist; \
                    the topic `clicks` does not exist";
        assert_eq!(refused.to_string(), want);
    });
}

#[test]
fn at_least_once_counts_everything_too() {
    world::run(5, SETTINGS, async |world| {
        create_topics(world).await;
        let all = lines(30);
        write(world, 0, &all).await;
        let app = App::new("app", word_count())
            .connect_with(world.bootstrap("one"))
            .guarantee(Guarantee::AtLeastOnce);
        let app = run(app).await;
        settle(world, &[&app]).await;
        app.stop().await;
        check_counts(&read(world, "counts").await, &all);
    });
}
