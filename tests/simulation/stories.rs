//! What happens in a world, and what must be true at its end.
//!
//! Shell.

mod groups;
mod streams;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use client::admin::{Admin, NewTopic};
use client::bootstrap::Bootstrap;
use client::config::{ConsumerConfig, IsolationLevel, OffsetReset, ProducerConfig};
use client::consumer::{Consumer, FetchedBatch, Polled};
use client::producer::{CommitOutcome, Producer};
use harness::check::{Fate, History};
use harness::read::read_all;
use harness::sim::world::{Faults, World};
use protocol::ids::TopicPartition;
use protocol::rng::Rng;
use protocol::time::Timestamp;

type Told<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// A story and the settings of its broker.
pub(crate) struct Story {
    pub(crate) name: &'static str,
    pub(crate) settings: &'static [(&'static str, &'static str)],
    pub(crate) run: for<'a> fn(&'a mut World) -> Told<'a>,
}

/// All stories.
pub(crate) const STORIES: &[Story] = &[
    Story { name: "produce", settings: &[], run: |world| Box::pin(produce(world)) },
    Story { name: "transactions", settings: &[], run: |world| Box::pin(transactions(world)) },
    Story { name: "groups", settings: &[], run: |world| Box::pin(groups::share(world)) },
    Story { name: "streams", settings: &[], run: |world| Box::pin(streams::count(world)) },
];

/// How long a story may take in its own time: far more than any needs.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Between two chunks of a writer in a hurry, at most.
const PAUSE_MS: u64 = 400;
const PARTITIONS: i32 = 2;
const TOPIC: &str = "numbers";

/// Runs `work` while things go wrong, and then lets the world be well again.
async fn amid_faults<T>(
    world: &mut World,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let faults = Faults::draw(&mut world.rng);
    let done = tokio::select! {
        biased;
        done = tokio::time::timeout(PATIENCE, work) => done.context("it took for ever")?,
        never = world.suffer(faults) => match never? {},
    };
    world.recover().await?;
    done
}

async fn create_topic(bootstrap: Bootstrap, name: &str) -> anyhow::Result<()> {
    let admin = Admin::connect(bootstrap, Duration::from_secs(60)).await?;
    admin.create_topic(NewTopic::new(name, PARTITIONS)).await.context("create the topic")
}

/// One idempotent producer writes chunks of numbers; what it was told was written is there once.
async fn produce(world: &mut World) -> anyhow::Result<()> {
    world.start_broker().await?;
    create_topic(world.bootstrap("admin"), TOPIC).await?;
    let (bootstrap, rng) = (world.bootstrap("writer"), world.rng.fork());
    let history = Box::pin(amid_faults(world, write_chunks(bootstrap, rng, PAUSE_MS))).await?;
    let read = read_all(world.bootstrap("reader"), TOPIC, false).await?;
    ensure!(0 < history.kept(), "nothing was acknowledged: the story proves nothing");
    if let Err(broken) = history.check(&read, false) {
        bail!("{broken} (after {} crashes)", world.crashes());
    }
    world.stop().await
}

/// Chunks of numbers; up to `pause_ms` milliseconds lie between two.
async fn write_chunks(
    bootstrap: Bootstrap,
    mut rng: Rng,
    pause_ms: u64,
) -> anyhow::Result<History> {
    let mut history = History::default();
    let mut producer = None;
    let mut number = 0;
    for _ in 0..20 + rng.below(20) {
        let config = ProducerConfig {
            linger: Duration::from_millis(rng.below(10)),
            delivery_timeout: Duration::from_secs(40),
            request_timeout: Duration::from_secs(5),
            ..ProducerConfig::default()
        };
        let writer = match &mut producer {
            Some(writer) => writer,
            None => match idempotent(bootstrap.clone(), config, TOPIC).await {
                Ok(connected) => producer.insert(connected),
                // The broker is down for longer than a producer waits: try again.
                Err(_) => continue,
            },
        };
        let mut values = Vec::new();
        for _ in 0..1 + rng.below(30) {
            let value = format!("{number}");
            number += 1;
            let partition = i32::try_from(rng.below(2)).expect("below 2");
            writer
                .append(TOPIC, Some(partition), Timestamp(0), None, Some(value.as_bytes()), &[])
                .context("append")?;
            values.push(value);
        }
        if writer.flush().await.is_ok() {
            history.note(Fate::Kept, values);
        } else {
            history.note(Fate::Unknown, values);
            producer = None;
        }
        tokio::time::sleep(Duration::from_millis(rng.below(pause_ms))).await;
    }
    Ok(history)
}

async fn idempotent(
    bootstrap: Bootstrap,
    config: ProducerConfig,
    topic: &str,
) -> anyhow::Result<Producer> {
    let mut producer = Producer::connect(bootstrap, config).await?;
    producer.partition_count(topic).await?;
    Ok(producer)
}

/// A transactional producer commits and aborts; each transaction is there once as a whole, or not
/// at all.
async fn transactions(world: &mut World) -> anyhow::Result<()> {
    world.start_broker().await?;
    create_topic(world.bootstrap("admin"), TOPIC).await?;
    let (bootstrap, rng) = (world.bootstrap("writer"), world.rng.fork());
    let watching = world.bootstrap("watcher");
    let mut watched = Vec::new();
    let work = async {
        tokio::select! {
            biased;
            history = write_transactions(bootstrap, rng) => history,
            never = watch(watching, &mut watched) => match never {},
        }
    };
    let history = Box::pin(amid_faults(world, work)).await?;
    // Whatever the writer left open is aborted when its time is up.
    tokio::time::sleep(Duration::from_secs(90)).await;
    let read = read_all(world.bootstrap("reader"), TOPIC, true).await?;
    ensure!(0 < history.kept(), "nothing was committed: the story proves nothing");
    if let Err(broken) = history.check(&read, true) {
        bail!("{broken} (after {} crashes)", world.crashes());
    }
    let there: BTreeSet<&String> = read.iter().flatten().collect();
    if let Some(early) = watched.iter().find(|value| !there.contains(value)) {
        bail!("read before it was committed, and it never was: {early}");
    }
    world.stop().await
}

/// Reads what is committed as it comes, for as long as it is polled.
async fn watch(bootstrap: Bootstrap, watched: &mut Vec<String>) -> Infallible {
    let config = ConsumerConfig {
        isolation_level: IsolationLevel::ReadCommitted,
        auto_offset_reset: OffsetReset::Earliest,
        request_timeout: Duration::from_secs(5),
        ..ConsumerConfig::default()
    };
    let mut consumer = loop {
        match Consumer::connect(bootstrap.clone(), config.clone()).await {
            Ok(consumer) => break consumer,
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    consumer.assign((0..PARTITIONS).map(|index| TopicPartition::new(TOPIC, index)));
    loop {
        match consumer.poll(Duration::from_secs(1)).await {
            Ok(Polled::Batches(batches)) => {
                let records = batches.iter().flat_map(FetchedBatch::records).flatten();
                let values = records.filter_map(|record| record.value);
                watched.extend(values.map(|value| String::from_utf8_lossy(value).into_owned()));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn write_transactions(bootstrap: Bootstrap, mut rng: Rng) -> anyhow::Result<History> {
    let mut history = History::default();
    let mut producer: Option<Producer> = None;
    let mut number = 0;
    for _ in 0..15 + rng.below(15) {
        let writer = match &mut producer {
            Some(writer) => writer,
            None => match transactional(bootstrap.clone()).await {
                Ok(connected) => producer.insert(connected),
                Err(_) => continue,
            },
        };
        let (values, fate) = transaction(writer, &mut rng, &mut number).await;
        history.note(fate, values);
        if fate == Fate::Unknown {
            // A new incarnation fences the old one and settles what it left.
            producer = None;
        }
        tokio::time::sleep(Duration::from_millis(rng.below(300))).await;
    }
    Ok(history)
}

async fn transactional(bootstrap: Bootstrap) -> anyhow::Result<Producer> {
    let config = ProducerConfig {
        transactional_id: Some("writer".to_owned()),
        delivery_timeout: Duration::from_secs(40),
        request_timeout: Duration::from_secs(5),
        ..ProducerConfig::default()
    };
    let mut producer = Producer::connect(bootstrap, config).await?;
    producer.partition_count(TOPIC).await?;
    producer.init_transactions().await?;
    Ok(producer)
}

/// One transaction, and what became of it as far as its writer knows.
async fn transaction(
    writer: &mut Producer,
    rng: &mut Rng,
    number: &mut u64,
) -> (Vec<String>, Fate) {
    let mut values = Vec::new();
    if writer.begin().is_err() {
        return (values, Fate::Unknown);
    }
    for _ in 0..1 + rng.below(20) {
        let value = format!("{number}");
        *number += 1;
        let partition = i32::try_from(rng.below(2)).expect("below 2");
        let at = Timestamp(0);
        let added = writer.append(TOPIC, Some(partition), at, None, Some(value.as_bytes()), &[]);
        values.push(value);
        if added.is_err() {
            return (values, Fate::Unknown);
        }
    }
    if rng.chance(4) {
        // An abort whose answer is lost is still an abort: nobody can commit it any more.
        let fate = if writer.abort().await.is_ok() { Fate::Gone } else { Fate::Unknown };
        return (values, fate);
    }
    match writer.commit().await {
        Ok(CommitOutcome::Committed) => (values, Fate::Kept),
        Ok(CommitOutcome::Aborted(_)) => (values, Fate::Gone),
        Ok(CommitOutcome::Unknown) | Err(_) => (values, Fate::Unknown),
    }
}
