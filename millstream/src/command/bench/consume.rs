//! `millstream bench consume`: how fast records that lie in the log are read.
//!
//! A fresh topic is filled first, which is not measured; then one consumer reads it from its start
//! and looks at every record. What it reads was just written, so it comes from memory. Shell.

use std::time::Duration;

use anyhow::Context;
use client::config::ConsumerConfig;
use client::consumer::{Consumer, FetchedBatch, Polled};
use protocol::ids::TopicPartition;

use super::Load;
use super::produce::Generator;
use super::report::Report;
use super::target::Target;
use super::usage::CpuTime;

/// Nothing for so long means that records are missing.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(load: &Load) -> anyhow::Result<()> {
    load.without_rate()?;
    let mut target = Target::reach(load).await?;
    let topic = target.fresh_topic(load).await?;
    let clock = target.bootstrap().clock;
    let mut generator = Generator::connect(&target, load, &topic).await?;
    let records = generator.as_fast_as_possible(load, &clock).await?;
    drop(generator);

    let mut receiver = Receiver::connect(&target, load, &topic).await?;
    let cpu = CpuTime::now()?;
    let started = clock.now().monotonic;
    let mut seen = Seen::default();
    while seen.records < records {
        for batch in receiver.receive().await? {
            seen.look_at(&batch)?;
        }
    }
    let elapsed = clock.now().monotonic.saturating_sub(started);
    let report = Report {
        what: format!("consume {}", load.words()),
        records: seen.records,
        bytes: seen.bytes,
        elapsed,
        latency: None,
        used: target.used(CpuTime::now()? - cpu)?,
    };
    load.print(&report)?;
    drop(receiver);
    target.leave().await
}

/// Reads a topic from its start.
pub(super) struct Receiver {
    consumer: Consumer,
    topic: String,
}

impl Receiver {
    pub(super) async fn connect(target: &Target, load: &Load, topic: &str) -> anyhow::Result<Self> {
        let fetch_bytes = load.producer_config()?.max_request_size;
        let config = ConsumerConfig::parse([
            ("auto.offset.reset", "earliest"),
            ("max.partition.fetch.bytes", &fetch_bytes.to_string()),
        ]);
        let config = config.context("the consumer's settings")?;
        let mut consumer = Consumer::connect(target.bootstrap(), config).await?;
        consumer.assign((0..load.partitions).map(|it| TopicPartition::new(topic, it)));
        Ok(Self { consumer, topic: topic.to_owned() })
    }

    /// The next batches.
    pub(super) async fn receive(&mut self) -> anyhow::Result<Vec<FetchedBatch>> {
        match self.consumer.poll(PATIENCE).await? {
            Polled::Batches(batches) => Ok(batches),
            Polled::Assigned(_) | Polled::Revoked(_) => Ok(Vec::new()),
            Polled::Nothing => {
                anyhow::bail!("no records of {} for {PATIENCE:?}", self.topic)
            }
        }
    }
}

/// What was read.
#[derive(Debug, Default)]
struct Seen {
    records: u64,
    bytes: u64,
}

impl Seen {
    fn look_at(&mut self, batch: &FetchedBatch) -> anyhow::Result<()> {
        for record in batch.records() {
            self.records += 1;
            self.bytes += u64::try_from(record?.value.map_or(0, <[u8]>::len))?;
        }
        Ok(())
    }
}
