//! `millstream consume`: prints the records of a topic, alone or as a member of a group.
//!
//! In a group it commits what it has printed and nothing else: before partitions are given up, every
//! few seconds, and at its end, however it ends; then it leaves the group at once. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use client::consumer::{Consumer, FetchedBatch, Polled};
use client::offsets::OffsetSpec;
use client::{ConsumerConfig, IsolationLevel, OffsetAndMetadata};
use protocol::ids::{Offset, TopicPartition};
use protocol::time::Timestamp;

use super::advice::Problem;
use super::reach::{self, Servers};
use super::record_text::{RecordFormat, render};
use super::{asked_to_end, values};

/// How long a poll waits at most; it only bounds how late the end is noticed.
const POLL: Duration = Duration::from_millis(200);
/// How often a member commits what it has printed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

/// Print the records of a topic, until Ctrl-C unless told otherwise.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The topic.
    topic: String,
    /// Begin at the beginning of each partition; in a group, where nothing is committed. Default:
    /// begin at the end.
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Begin at this offset, so many before the end when negative, or at earliest, latest, or the
    /// first record at or after a moment, as 2026-11-21T14:00:00Z. Default: the end.
    #[arg(
        long,
        value_name = "OFFSET",
        value_parser = begin,
        allow_hyphen_values = true,
        conflicts_with = "group"
    )]
    offset: Option<Begin>,
    /// Only these partitions, as 0,2,4-6. Default: all.
    #[arg(long, visible_alias = "partitions", value_name = "INDEXES", value_parser = indexes, conflicts_with = "group")]
    partition: Option<Indexes>,
    /// Consume as a member of this group, which remembers how far it came. Default: as a member
    /// of none.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// End after so many records. Default: go on.
    #[arg(long, short = 'n', value_name = "COUNT")]
    max_messages: Option<u64>,
    /// End when no record came for so long: 500ms, 10s, 5m, or milliseconds. Default: go on.
    #[arg(long, visible_alias = "timeout-ms", value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// End at what is the end of the partitions at the start. Default: wait for more.
    #[arg(long, short = 'e', conflicts_with = "group")]
    exit_at_end: bool,
    /// How records are printed, one per line.
    #[arg(long, value_enum, default_value_t)]
    format: RecordFormat,
    /// What stands between key and value with --format key-value. Default: a tab.
    #[arg(long, value_name = "TEXT", default_value = "\t", hide_default_value = true)]
    key_separator: String,
    /// Which records are seen: read_uncommitted = all, read_committed = those of no open or
    /// aborted transaction.
    #[arg(
        long,
        visible_alias = "isolation-level",
        default_value = "read_uncommitted",
        value_parser = super::topic::isolation
    )]
    isolation: IsolationLevel,
    /// A setting of the consumer by its Kafka name, as fetch.max.wait.ms=100; may be given often.
    /// Default: Kafka's.
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    property: Vec<(String, String)>,
    #[command(flatten)]
    servers: Servers,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Spec(OffsetSpec),
    Offset(Offset),
    /// So many before the end.
    BeforeEnd(i64),
}

fn begin(text: &str) -> Result<Begin, String> {
    Ok(match (text, text.parse::<i64>()) {
        ("earliest", _) => Begin::Spec(OffsetSpec::Earliest),
        ("latest", _) => Begin::Spec(OffsetSpec::Latest),
        (_, Ok(offset)) if offset >= 0 => Begin::Offset(Offset(offset)),
        (_, Ok(before)) => Begin::BeforeEnd(before.saturating_neg()),
        (_, Err(_)) => {
            let moment: Timestamp = values::moment(text).map_err(|_| {
                "expected an offset, earliest, latest, or a moment such as 2026-11-21T14:00:00Z"
            })?;
            Begin::Spec(OffsetSpec::AtOrAfter(moment))
        }
    })
}

/// Some partitions of a topic.
#[derive(Clone, Debug)]
struct Indexes(BTreeSet<i32>);

fn indexes(text: &str) -> Result<Indexes, String> {
    values::partitions(text).map(Indexes)
}

impl Arguments {
    fn config(&self) -> anyhow::Result<ConsumerConfig> {
        let reset = if self.from_beginning { "earliest" } else { "latest" };
        let isolation = match self.isolation {
            IsolationLevel::ReadUncommitted => "read_uncommitted",
            IsolationLevel::ReadCommitted => "read_committed",
        };
        let mut pairs = vec![
            ("auto.offset.reset".to_owned(), reset.to_owned()),
            ("isolation.level".to_owned(), isolation.to_owned()),
        ];
        pairs.extend(self.group.iter().map(|it| ("group.id".to_owned(), it.clone())));
        pairs.extend(self.property.iter().cloned());
        let mut config =
            ConsumerConfig::parse(pairs).map_err(|errors| Problem::usage(errors.to_string()))?;
        config.validate().map_err(|errors| Problem::usage(errors.to_string()))?;
        // We commit ourselves: what was printed, not what was fetched.
        config.enable_auto_commit = false;
        Ok(config)
    }
}

/// Prints records until an end is reached.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = arguments.config()?;
    let admin = arguments.servers.admin().await?;
    let topic = reach::topic(&admin, &arguments.topic).await?;
    let selected = arguments.partition.as_ref().map(|it| &it.0);
    let partitions = reach::partitions_of(&topic, selected)?;
    drop(admin);
    let bootstrap = arguments.servers.bootstrap().await?;
    let mut consumer = Consumer::connect(bootstrap, config).await?;
    let mut ends = BTreeMap::new();
    if arguments.group.is_some() {
        consumer.subscribe([arguments.topic.as_str()]);
    } else {
        consumer.assign(partitions.iter().cloned());
        place(&mut consumer, &arguments, &partitions).await?;
        if arguments.exit_at_end {
            ends = consumer.end_offsets(partitions.iter().cloned(), arguments.isolation).await?;
        }
    }
    let mut printer = Printer {
        arguments: &arguments,
        ends,
        left: arguments.max_messages.unwrap_or(u64::MAX),
        to_commit: BTreeMap::new(),
        buffer: Vec::new(),
    };
    let printed = tokio::select! {
        biased;
        asked = asked_to_end() => asked,
        printed = printer.print_all(&mut consumer) => printed,
    };
    // However it ended: what was printed is committed, and the group may go on without us.
    let committed = printer.commit(&mut consumer).await;
    let closed = consumer.close().await;
    printed?;
    committed?;
    closed.context("leaving the group")
}

/// Moves to where to begin.
async fn place(
    consumer: &mut Consumer,
    arguments: &Arguments,
    partitions: &BTreeSet<TopicPartition>,
) -> anyhow::Result<()> {
    let default = match arguments.from_beginning {
        true => Begin::Spec(OffsetSpec::Earliest),
        false => Begin::Spec(OffsetSpec::Latest),
    };
    match arguments.offset.unwrap_or(default) {
        // Where no record is so young, a consumer would begin anew; people want none, then.
        Begin::Spec(OffsetSpec::AtOrAfter(moment)) => {
            let times = partitions.iter().map(|it| (it.clone(), moment)).collect();
            for (partition, listed) in consumer.offsets_for_times(times).await? {
                match listed.offset {
                    Some(offset) => consumer.seek(&partition, offset)?,
                    None => consumer.seek_to(&partition, OffsetSpec::Latest)?,
                }
            }
        }
        Begin::Spec(spec) => {
            for partition in partitions {
                consumer.seek_to(partition, spec)?;
            }
        }
        Begin::Offset(offset) => {
            for partition in partitions {
                consumer.seek(partition, offset)?;
            }
        }
        Begin::BeforeEnd(count) => {
            let starts = consumer.beginning_offsets(partitions.iter().cloned()).await?;
            let isolation = arguments.isolation;
            let ends = consumer.end_offsets(partitions.iter().cloned(), isolation).await?;
            for (partition, end) in ends {
                let start = starts.get(&partition).copied().unwrap_or_default();
                let wanted = Offset(end.0.saturating_sub(count));
                consumer.seek(&partition, wanted.max(start))?;
            }
        }
    }
    Ok(())
}

/// What prints, and remembers what it has printed.
struct Printer<'a> {
    arguments: &'a Arguments,
    /// Where to end; empty: nowhere.
    ends: BTreeMap<TopicPartition, Offset>,
    /// How many records may still be printed.
    left: u64,
    /// What was printed since the last commit, of a member.
    to_commit: BTreeMap<TopicPartition, OffsetAndMetadata>,
    buffer: Vec<u8>,
}

impl Printer<'_> {
    async fn print_all(&mut self, consumer: &mut Consumer) -> anyhow::Result<()> {
        let mut last_record = consumer.now().monotonic;
        let mut last_commit = last_record;
        // Joining a group takes its time: silence counts from when it gave us partitions.
        let mut is_waiting = self.arguments.group.is_none();
        while self.left > 0 && !self.is_at_end(consumer) {
            let now = consumer.now().monotonic;
            if is_waiting && self.arguments.timeout.is_some_and(|it| now >= last_record + it) {
                return Ok(());
            }
            if now >= last_commit + COMMIT_INTERVAL {
                self.commit(consumer).await?;
                last_commit = now;
            }
            match consumer.poll(POLL).await? {
                Polled::Batches(batches) => {
                    last_record = consumer.now().monotonic;
                    self.print(batches)?;
                }
                Polled::Revoked(revoked) if revoked.lost => {
                    self.to_commit.retain(|it, _| !revoked.partitions.contains(it));
                }
                Polled::Revoked(_) => self.commit(consumer).await?,
                Polled::Assigned(_) => {
                    last_record = consumer.now().monotonic;
                    is_waiting = true;
                }
                Polled::Nothing => {}
            }
        }
        Ok(())
    }

    fn is_at_end(&self, consumer: &Consumer) -> bool {
        let is_there = |(partition, end): (&TopicPartition, &Offset)| {
            consumer.position(partition).is_some_and(|it| it >= *end)
        };
        self.arguments.exit_at_end && self.ends.iter().all(is_there)
    }

    fn print(&mut self, batches: Vec<FetchedBatch>) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        for batch in batches {
            let epoch = batch.leader_epoch();
            let end = self.ends.get(&batch.tp).copied();
            let mut next = None;
            self.buffer.clear();
            for record in batch.records() {
                let record = record.with_context(|| batch.tp.to_string())?;
                if self.left == 0 || end.is_some_and(|it| record.offset >= it) {
                    break;
                }
                let Arguments { format, key_separator, .. } = self.arguments;
                render(&mut self.buffer, *format, key_separator, &batch.tp, &record);
                self.left -= 1;
                next = Some(record.offset.plus(1));
            }
            stdout.write_all(&self.buffer)?;
            let next = if self.left > 0 { Some(batch.next_offset) } else { next };
            if let Some(offset) = next.filter(|_| self.arguments.group.is_some()) {
                let metadata = String::new();
                let printed = OffsetAndMetadata { offset, leader_epoch: epoch, metadata };
                self.to_commit.insert(batch.tp.clone(), printed);
            }
        }
        stdout.flush()?;
        Ok(())
    }

    async fn commit(&mut self, consumer: &mut Consumer) -> anyhow::Result<()> {
        if self.to_commit.is_empty() {
            return Ok(());
        }
        // Kept until it is done: dropped here, it is committed at the end.
        consumer.commit(self.to_commit.clone()).await.context("committing what was printed")?;
        self.to_commit.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin_is_an_offset_an_end_a_distance_or_a_moment() {
        for (text, want) in [
            ("0", Begin::Offset(Offset(0))),
            ("42", Begin::Offset(Offset(42))),
            ("-10", Begin::BeforeEnd(10)),
            ("earliest", Begin::Spec(OffsetSpec::Earliest)),
            ("latest", Begin::Spec(OffsetSpec::Latest)),
            (
                "2023-11-14T22:13:20Z",
                Begin::Spec(OffsetSpec::AtOrAfter(Timestamp(1_700_000_000_000))),
            ),
        ] {
            assert_eq!(begin(text), Ok(want), "{text}");
        }
        assert!(begin("yesterday").is_err());
    }
}
