//! `millstream bench produce`: how fast records are acknowledged, or how soon.
//!
//! Record n goes to partition n modulo their count, into a fresh topic; so the offset that an
//! acknowledgement names tells which records it is about, and thus when they were due. Shell.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use client::config::ProducerConfig;
use client::producer::{BatchAck, CommitOutcome, Producer};
use protocol::ids::{Offset, TopicPartition};
use protocol::time::{Clock, Timestamp};

use super::Load;
use super::content::Content;
use super::histogram::Histogram;
use super::metronome::{Metronome, Schedule};
use super::report::{Report, Since};
use super::target::Target;
use super::usage::CpuTime;

/// At a fixed rate, what was due in the first second is not counted: connections and caches are
/// cold.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);

/// How often the time is looked at without a rate, in records.
const STRIDE: u64 = 256;

pub(super) async fn run(load: &Load) -> anyhow::Result<()> {
    let mut target = Target::reach(load).await?;
    let topic = target.fresh_topic(load).await?;
    let clock = target.bootstrap().clock;
    let mut generator = Generator::connect(&target, load, &topic).await?;
    let cpu = CpuTime::now()?;
    let started = clock.now().monotonic;
    let mut latency = None;
    let records = match load.rate {
        None => generator.as_fast_as_possible(load, &clock).await?,
        Some(rate) => {
            let schedule = Schedule::new(started, rate);
            let count = load.seconds.map_or(load.records, |it| Schedule::count(rate, it));
            let mut acks = Acks::new(schedule, load.partitions);
            generator
                .at_rate(&schedule, rate, count, &clock, |now, ack| acks.take(now, ack))
                .await?;
            latency = Some(acks.latency);
            count
        }
    };
    let elapsed = clock.now().monotonic.saturating_sub(started);
    let report = Report {
        what: format!("produce {}", load.words()),
        records,
        bytes: load.bytes(records)?,
        elapsed,
        latency: latency.as_ref().map(|it| (it, Since::Due)),
        used: target.used(CpuTime::now()? - cpu)?,
    };
    load.print(&report)?;
    drop(generator);
    target.leave().await
}

/// Sends numbered records.
pub(super) struct Generator {
    producer: Producer,
    topic: String,
    content: Content,
    partitions: u64,
    /// How many different keys there are; `None`: records have none.
    keys: Option<u64>,
}

impl Generator {
    /// Connects, and waits until the topic is known.
    pub(super) async fn connect(target: &Target, load: &Load, topic: &str) -> anyhow::Result<Self> {
        Self::with(load.producer_config()?, target, load, topic).await
    }

    /// The same for transactions, each of one record; what others of its name left open has ended.
    pub(super) async fn transactional(
        target: &Target,
        load: &Load,
        topic: &str,
    ) -> anyhow::Result<Self> {
        let transactional_id = Some(topic.to_owned());
        let config = ProducerConfig { transactional_id, ..load.producer_config()? };
        let mut generator = Self::with(config, target, load, topic).await?;
        generator.producer.init_transactions().await?;
        Ok(generator)
    }

    async fn with(
        config: ProducerConfig,
        target: &Target,
        load: &Load,
        topic: &str,
    ) -> anyhow::Result<Self> {
        let mut producer = Producer::connect(target.bootstrap(), config).await?;
        producer.partition_count(topic).await.with_context(|| format!("topic {topic}"))?;
        let content = Content::new(load.size);
        let partitions = u64::try_from(load.partitions)?;
        Ok(Self { producer, topic: topic.to_owned(), content, partitions, keys: None })
    }

    /// The same with other content.
    pub(super) fn content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }

    /// The same with so many different keys, each in one partition.
    pub(super) fn keys(mut self, keys: u64) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Sends as many records as asked for, or for as long, and waits until all are acknowledged.
    /// Yields how many there were.
    pub(super) async fn as_fast_as_possible(
        &mut self,
        load: &Load,
        clock: &Clock,
    ) -> anyhow::Result<u64> {
        let mut now = clock.now();
        let end = load.seconds.map(|it| now.monotonic + it);
        let count = if end.is_some() { u64::MAX } else { load.records };
        let mut number = 0;
        while number < count {
            if number % STRIDE == 0 {
                now = clock.now();
                if end.is_some_and(|end| end <= now.monotonic) {
                    break;
                }
            }
            self.send(number, now.wall).await?;
            number += 1;
        }
        self.flush().await?;
        Ok(number)
    }

    /// Sends `count` records, each when it is due, and waits until all are acknowledged. Tells
    /// `acked` of each acknowledged batch and when it was.
    pub(super) async fn at_rate(
        &mut self,
        schedule: &Schedule,
        rate: f64,
        count: u64,
        clock: &Clock,
        mut acked: impl FnMut(Duration, &BatchAck),
    ) -> anyhow::Result<()> {
        let metronome = Metronome::start(clock.clone(), rate).context("no thread")?;
        let mut number = 0;
        while number < count {
            let acks = tokio::select! {
                biased;
                () = metronome.beat() => None,
                acks = self.producer.acks(), if self.producer.buffered_bytes() > 0 => Some(acks),
            };
            let now = clock.now();
            acks.iter().flatten().for_each(|ack| acked(now.monotonic, ack));
            while number < count && schedule.due(number) <= now.monotonic {
                self.send(number, now.wall).await?;
                number += 1;
            }
        }
        drop(metronome);
        while self.producer.buffered_bytes() > 0 {
            let acks = self.producer.acks().await;
            let now = clock.now().monotonic;
            acks.iter().for_each(|ack| acked(now, ack));
        }
        self.flush().await
    }

    /// Sends one record in a transaction of its own, and waits until it is committed.
    pub(super) async fn transact(&mut self, number: u64, at: Timestamp) -> anyhow::Result<()> {
        self.producer.begin()?;
        self.send(number, at).await?;
        match self.producer.commit().await? {
            CommitOutcome::Committed => Ok(()),
            CommitOutcome::Aborted(failure) => Err(anyhow!("a transaction was aborted: {failure}")),
            CommitOutcome::Unknown => Err(anyhow!("nobody answered whether a transaction ended")),
        }
    }

    async fn send(&mut self, number: u64, at: Timestamp) -> anyhow::Result<()> {
        let partition = i32::try_from(number % self.partitions)?;
        let value = Some(self.content.value(number));
        let key = self.keys.map(|keys| {
            // The same key for the same partition alone, as if a hash had chosen it.
            let key = number / self.partitions % keys;
            format!("key-{partition}-{key:08}")
        });
        let key = key.as_deref().map(str::as_bytes);
        loop {
            match self.producer.append(&self.topic, Some(partition), at, key, value, &[]) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_retriable() => self.producer.ready().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.producer.flush().await.context("records were not written")
    }
}

/// Which record has `offset` in `partition` of a topic that the generator filled from its start.
pub(super) fn number(partition: i32, offset: Offset, partitions: i32) -> Option<u64> {
    let number = offset.0.checked_mul(i64::from(partitions))?.checked_add(i64::from(partition))?;
    u64::try_from(number).ok()
}

/// Where each partition ends (exclusive) of a topic that the generator filled with `records`.
pub(super) fn ends(
    topic: &str,
    records: u64,
    partitions: i32,
) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
    let count = u64::try_from(partitions)?;
    (0..partitions)
        .map(|partition| {
            let has_more = u64::try_from(partition)? < records % count;
            let end = i64::try_from(records / count + u64::from(has_more))?;
            Ok((TopicPartition::new(topic, partition), Offset(end)))
        })
        .collect()
}

/// How long acknowledgements took.
struct Acks {
    schedule: Schedule,
    partitions: i32,
    counted_from: Duration,
    latency: Histogram,
}

impl Acks {
    fn new(schedule: Schedule, partitions: i32) -> Self {
        let counted_from = schedule.due(0) + WARM_UP;
        Self { schedule, partitions, counted_from, latency: Histogram::new() }
    }

    fn take(&mut self, now: Duration, ack: &BatchAck) {
        for delta in 0..i64::from(ack.record_count) {
            let offset = ack.base_offset.plus(delta);
            // With acks=0 nobody tells an offset.
            let Some(number) = number(ack.partition.partition.0, offset, self.partitions) else {
                continue;
            };
            let due = self.schedule.due(number);
            if self.counted_from <= due {
                self.latency.add(now.saturating_sub(due), 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_the_partitions_tell_the_numbers_of_records() {
        let numbers: Vec<_> = (0..3)
            .flat_map(|offset| (0..2).map(move |partition| number(partition, Offset(offset), 2)))
            .collect();
        assert_eq!(numbers, (0..6).map(Some).collect::<Vec<_>>());
        assert_eq!(number(0, Offset::NONE, 1), None);
    }

    #[test]
    fn partitions_end_after_the_last_of_their_records() {
        let ends: Vec<_> = ends("t", 8, 3).unwrap().into_values().map(|end| end.0).collect();
        assert_eq!(ends, [3, 3, 2]);
    }
}
