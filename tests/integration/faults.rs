//! Groups while brokers crash and connections break: nothing is lost, and what is moved in
//! transactions is moved once. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::admin::{Admin, NewTopic};
use client::bootstrap::Bootstrap;
use client::config::{Assignor, IsolationLevel, OffsetReset};
use client::consumer::{Consumer, FetchedBatch, Polled};
use client::producer::{CommitOutcome, Producer};
use client::{ConsumerConfig, ProducerConfig};
use harness::sim::world::{Faults, World, run};
use protocol::ids::TopicPartition;
use protocol::time::Timestamp;

const IN: &str = "in";
const OUT: &str = "out";
const PARTITIONS: i32 = 3;
const COUNT: usize = 300;

type Seen = Arc<Mutex<Vec<String>>>;

async fn begin(world: &mut World) {
    world.start_broker().await.unwrap();
    let admin = Admin::connect(world.bootstrap("admin"), Duration::from_secs(60)).await.unwrap();
    admin.create_topic(NewTopic::new(IN, PARTITIONS)).await.unwrap();
    admin.create_topic(NewTopic::new(OUT, 1)).await.unwrap();
    let mut producer =
        Producer::connect(world.bootstrap("p"), ProducerConfig::default()).await.unwrap();
    for value in 0..COUNT {
        let partition = Some(i32::try_from(value).unwrap() % PARTITIONS);
        let value = value.to_string();
        while producer
            .append(IN, partition, Timestamp(0), None, Some(value.as_bytes()), &[])
            .is_err()
        {
            producer.ready().await.unwrap();
        }
        if value.ends_with('7') {
            producer.flush().await.unwrap();
        }
    }
    producer.close().await.unwrap();
}

fn config(assignor: Assignor, isolation_level: IsolationLevel) -> ConsumerConfig {
    ConsumerConfig {
        group_id: Some("movers".to_owned()),
        auto_offset_reset: OffsetReset::Earliest,
        assignor,
        isolation_level,
        session_timeout: Duration::from_secs(6),
        heartbeat_interval: Duration::from_secs(1),
        request_timeout: Duration::from_secs(5),
        default_api_timeout: Duration::from_secs(20),
        max_poll_interval: Duration::from_secs(8),
        max_poll_records: 5,
        ..ConsumerConfig::default()
    }
}

async fn connect(bootstrap: &Bootstrap, config: &ConsumerConfig) -> Consumer {
    loop {
        // Where there is no broker at present, there will be one.
        if let Ok(consumer) = Consumer::connect(bootstrap.clone(), config.clone()).await {
            return consumer;
        }
    }
}

fn values(batches: &[FetchedBatch]) -> Vec<String> {
    let records = batches.iter().flat_map(FetchedBatch::records);
    records.map(|it| String::from_utf8(it.unwrap().value.unwrap().to_vec()).unwrap()).collect()
}

/// Consumes and commits; now and then it stops without a word, and begins anew.
async fn reader(bootstrap: Bootstrap, config: ConsumerConfig, seen: Seen, crash_every: usize) {
    loop {
        let mut consumer = connect(&bootstrap, &config).await;
        consumer.subscribe([IN]);
        for round in 1.. {
            if round % crash_every == 0 {
                break;
            }
            if let Ok(Polled::Batches(batches)) = consumer.poll(Duration::from_secs(1)).await {
                tokio::time::sleep(Duration::from_millis(700)).await;
                seen.lock().unwrap().extend(values(&batches));
                let done = |it: &FetchedBatch| (it.tp.clone(), it.next_offset.into());
                drop(consumer.commit(batches.iter().map(done).collect()).await);
            }
        }
    }
}

async fn transactional(bootstrap: &Bootstrap, id: &str) -> Producer {
    let config = ProducerConfig {
        transactional_id: Some(id.to_owned()),
        request_timeout: Duration::from_secs(5),
        transaction_timeout: Duration::from_secs(20),
        ..ProducerConfig::default()
    };
    loop {
        let Ok(mut producer) = Producer::connect(bootstrap.clone(), config.clone()).await else {
            continue;
        };
        if producer.init_transactions().await.is_ok() {
            return producer;
        }
    }
}

/// Moves records in transactions; on any trouble it begins anew.
async fn mover(bootstrap: Bootstrap, config: ConsumerConfig, id: &'static str, crash_every: usize) {
    loop {
        let mut producer = transactional(&bootstrap, id).await;
        let mut consumer = connect(&bootstrap, &config).await;
        consumer.subscribe([IN]);
        for round in 1.. {
            let Ok(polled) = consumer.poll(Duration::from_secs(1)).await else { break };
            let Polled::Batches(batches) = polled else { continue };
            // One time in so many it is so slow that others take over meanwhile.
            let wait = if round % 13 == 6 { 15_000 } else { 700 };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            // And one time it dies in the middle of a transaction.
            let is_committed = round % 11 != 5;
            let moved = move_one(&mut consumer, &mut producer, &batches, is_committed).await;
            if moved.is_none() || !is_committed || round % crash_every == 0 {
                break;
            }
        }
    }
}

async fn move_one(
    consumer: &mut Consumer,
    producer: &mut Producer,
    batches: &[FetchedBatch],
    is_committed: bool,
) -> Option<()> {
    producer.begin().ok()?;
    for value in values(batches) {
        while let Err(error) =
            producer.append(OUT, Some(0), Timestamp(0), None, Some(value.as_bytes()), &[])
        {
            if !error.is_retriable() {
                return None;
            }
            producer.ready().await.ok()?;
        }
    }
    let done = |it: &FetchedBatch| (it.tp.clone(), consumer.position_to_commit(&it.tp).unwrap());
    let offsets: BTreeMap<_, _> = batches.iter().map(done).collect();
    let group = consumer.group_metadata().unwrap();
    if !is_committed {
        return producer.flush().await.ok();
    }
    producer.send_offsets(offsets, &group).await.ok()?;
    matches!(producer.commit().await, Ok(CommitOutcome::Committed)).then_some(())
}

async fn read_out(bootstrap: Bootstrap) -> Vec<String> {
    let config =
        ConsumerConfig { group_id: None, ..config(Assignor::Range, IsolationLevel::ReadCommitted) };
    let mut consumer = connect(&bootstrap, &config).await;
    let partition = TopicPartition::new(OUT, 0);
    consumer.assign([partition.clone()]);
    let end =
        consumer.end_offsets([partition.clone()], IsolationLevel::ReadCommitted).await.unwrap();
    let mut all = Vec::new();
    while consumer.position(&partition).is_none_or(|it| it < end[&partition]) {
        if let Polled::Batches(batches) = consumer.poll(Duration::from_secs(60)).await.unwrap() {
            all.extend(values(&batches));
        }
    }
    all
}

fn all() -> BTreeSet<String> {
    (0..COUNT).map(|it| it.to_string()).collect()
}

fn assignor(seed: u64) -> Assignor {
    [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky]
        [usize::try_from(seed % 3).unwrap()]
}

/// Lets things go wrong until `is_done`, then lets the world be well again.
async fn amid_faults(world: &mut World, is_done: impl Future<Output = ()>) {
    // Rare enough for sessions of crashed members to end in between.
    let every = Duration::from_secs(2 + world.rng.below(20));
    let faults = Faults { every, ..Faults::draw(&mut world.rng) };
    let is_done = tokio::time::timeout(Duration::from_secs(3600), is_done);
    tokio::select! {
        biased;
        done = is_done => done.expect("done within an hour"),
        never = world.suffer(faults) => match never.unwrap() {},
    }
    world.recover().await.unwrap();
}

fn consume_everything(seed: u64) -> u64 {
    let ((), trace) = run(seed, &[], async move |world: &mut World| {
        begin(world).await;
        let seen = Seen::default();
        let config = config(assignor(seed), IsolationLevel::ReadUncommitted);
        for (name, crash_every) in [("a", 1_000), ("b", 17), ("c", 40)] {
            let (bootstrap, config) = (world.bootstrap(name), config.clone());
            let seen = Arc::clone(&seen);
            tokio::task::spawn_local(reader(bootstrap, config, seen, crash_every));
        }
        let is_done = async {
            while seen.lock().unwrap().iter().cloned().collect::<BTreeSet<_>>() != all() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        amid_faults(world, is_done).await;
    });
    trace
}

fn move_everything_once(seed: u64) -> u64 {
    let ((), trace) = run(seed, &[], async move |world: &mut World| {
        begin(world).await;
        let config = config(assignor(seed), IsolationLevel::ReadCommitted);
        for (name, crash_every) in [("a", 1_000), ("b", 9), ("c", 14)] {
            let (bootstrap, config) = (world.bootstrap(name), config.clone());
            tokio::task::spawn_local(mover(bootstrap, config, name, crash_every));
        }
        let bootstrap = world.bootstrap("watcher");
        Box::pin(amid_faults(world, until_all_is_committed(bootstrap))).await;
        // Whatever a mover has left open is aborted by then.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let moved = read_out(world.bootstrap("reader")).await;
        let once: BTreeSet<_> = moved.iter().cloned().collect();
        assert_eq!(once, all(), "seed {seed}: lost");
        assert_eq!(moved.len(), COUNT, "seed {seed}: moved twice");
    });
    trace
}

async fn until_all_is_committed(bootstrap: Bootstrap) {
    let config = config(Assignor::Range, IsolationLevel::ReadCommitted);
    let watcher = connect(&bootstrap, &config).await;
    loop {
        let partitions = (0..PARTITIONS).map(|it| TopicPartition::new(IN, it));
        if let Ok(committed) = watcher.committed(partitions, true).await {
            let sum: i64 = committed.values().map(|it| it.offset.0).sum();
            if usize::try_from(sum).unwrap() == COUNT {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A few worlds, or the one of the variable SEED.
fn seeds() -> std::ops::Range<u64> {
    let from = std::env::var("SEED").ok().map(|it| it.parse().unwrap());
    from.map_or(0..4, |it| it..it + 1)
}

#[test]
fn a_group_amid_faults_consumes_every_record() {
    for seed in seeds() {
        consume_everything(seed);
    }
}

#[test]
fn a_group_amid_faults_moves_every_record_exactly_once() {
    for seed in seeds() {
        move_everything_once(seed);
    }
}

#[test]
fn the_same_seed_suffers_the_same_and_does_the_same() {
    assert_eq!(move_everything_once(2), move_everything_once(2));
}
