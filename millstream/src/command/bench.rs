//! `millstream bench`: measures this machine with our own client, against a broker of its own or a
//! cluster elsewhere.
//!
//! What is sent follows from a fixed seed, so two runs send the same bytes. Without `--rate` a run
//! goes as fast as it can and tells throughput; with it, records are due at fixed times whatever
//! the cluster does, and latency counts from when each was due: a stall is felt by every record
//! that should have been sent during it. Every figure is measured in the run that prints it. Shell.

mod consume;
mod content;
mod end_to_end;
mod histogram;
mod lake;
mod metronome;
mod produce;
mod report;
mod streams;
mod target;
mod transactions;
mod usage;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Subcommand;
use client::config::ProducerConfig;

use super::output::{self, Format};

/// The largest request that is worth asking for: beyond it, brokers refuse.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Measure throughput, latency, CPU and memory.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand)]
enum Workload {
    /// Produce records to a fresh topic.
    Produce(Load),
    /// Fill a fresh topic, then consume it from its start.
    Consume(Load),
    /// Produce at a fixed rate, 1000/s unless --rate says otherwise, and consume at the same time.
    EndToEnd(Load),
    /// Fill a fresh topic, then count its records by key, exactly once, into another.
    Streams(Load),
    /// Commit transactions of one record, one after the other.
    Transactions(Load),
    /// Fill a fresh topic with JSON, then write it as Parquet into a directory.
    Lake(Load),
}

/// What is sent, how, and to whom.
#[derive(clap::Args, Clone, Debug)]
struct Load {
    /// A cluster to measure, brokers separated by commas. Without it a broker is started for the
    /// run, and its data deleted afterwards.
    #[arg(long, value_name = "HOST:PORT,…")]
    bootstrap: Option<String>,
    /// A file of settings for security, as Kafka's tools take it: security.protocol, ssl.…, sasl.….
    /// Default: none, connections are in clear.
    #[arg(long, env = "MILLSTREAM_COMMAND_CONFIG", value_name = "FILE", requires = "bootstrap")]
    command_config: Option<PathBuf>,
    /// Where that broker keeps its data: choose the disk to measure. Default: the system's
    /// directory for temporary files.
    #[arg(long, value_name = "DIR", conflicts_with = "bootstrap")]
    dir: Option<PathBuf>,
    /// When that broker acknowledges: ack = once it is on disk; async = once the operating system
    /// has it.
    #[arg(long, default_value = "ack", conflicts_with = "bootstrap")]
    flush_mode: String,
    /// How many records, unless --seconds says how long.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// How long, instead of how many records.
    #[arg(long, value_parser = seconds, conflicts_with = "records")]
    seconds: Option<Duration>,
    /// Bytes of each record's value.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Partitions of the topic; records go to each in turn.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// 0, 1 or all.
    #[arg(long, default_value = "all")]
    acks: String,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value = "none")]
    compression: String,
    /// How long a batch waits for more records.
    #[arg(long, default_value_t = 5)]
    linger_ms: u64,
    /// How large a batch may grow.
    #[arg(long, default_value_t = 256 << 10)]
    batch_bytes: usize,
    /// Records per second, each due at its time. Without it: as fast as possible.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// How to print what was measured.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Carries out one workload and prints what was measured.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match &arguments.workload {
        Workload::Produce(load) => produce::run(load.check()?).await,
        Workload::Consume(load) => consume::run(load.check()?).await,
        Workload::EndToEnd(load) => end_to_end::run(load.check()?).await,
        Workload::Streams(load) => streams::run(load.check()?).await,
        Workload::Transactions(load) => transactions::run(load.check()?).await,
        Workload::Lake(load) => lake::run(load.check()?).await,
    }
}

impl Load {
    fn check(&self) -> anyhow::Result<&Self> {
        ensure!(self.records > 0, "--records must be at least 1");
        ensure!(self.partitions > 0, "--partitions must be at least 1");
        let limit = REQUEST_BYTES_MAX;
        ensure!(self.size <= limit, "--size must not exceed {limit}");
        ensure!(self.batch_bytes <= limit, "--batch-bytes must not exceed {limit}");
        Ok(self)
    }

    fn producer_config(&self) -> anyhow::Result<ProducerConfig> {
        // A batch may pass its size by one record, and a request carries several batches.
        let request_bytes = (self.size + self.batch_bytes).max(1 << 20) + (64 << 10);
        let is_idempotent = self.acks == "all" || self.acks == "-1";
        let pairs = [
            ("acks", self.acks.clone()),
            ("enable.idempotence", is_idempotent.to_string()),
            ("compression.type", self.compression.clone()),
            ("linger.ms", self.linger_ms.to_string()),
            ("batch.size", self.batch_bytes.to_string()),
            ("max.request.size", request_bytes.to_string()),
            ("buffer.memory", (request_bytes * 2).max(64 << 20).to_string()),
        ];
        ProducerConfig::parse(pairs).context("the producer's settings")
    }

    /// Refuses a rate: for workloads that read what is there.
    fn without_rate(&self) -> anyhow::Result<()> {
        ensure!(self.rate.is_none(), "this goes as fast as it can: leave --rate out");
        Ok(())
    }

    fn print(&self, report: &report::Report<'_>) -> anyhow::Result<()> {
        output::write(&match self.output {
            Format::Table => format!("{report}\n"),
            Format::Json => format!("{}\n", report.json()),
        })?;
        Ok(())
    }

    /// What so many records hold.
    fn bytes(&self, records: u64) -> anyhow::Result<u64> {
        Ok(records.saturating_mul(u64::try_from(self.size)?))
    }

    /// How long or how much, in words.
    fn extent(&self) -> String {
        match self.seconds {
            Some(seconds) => format!("for {seconds:?}"),
            None => format!("{} records", self.records),
        }
    }

    fn words(&self) -> String {
        let Self { size, partitions, acks, compression, linger_ms, batch_bytes, .. } = self;
        let place = match &self.bootstrap {
            Some(bootstrap) => bootstrap.clone(),
            None => format!("own broker with flush.mode={}", self.flush_mode),
        };
        let rate = self.rate.map_or("as fast as possible".to_owned(), |it| format!("{it}/s"));
        format!(
            "{}, {size} bytes each, {rate}, {partitions} partitions, acks={acks}, linger {linger_ms} ms, \
             batches of {batch_bytes} bytes, compression {compression}, {place}",
            self.extent()
        )
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.001..=1e9).contains(&rate) {
        Ok(rate)
    } else {
        Err("expected between 0.001 and 1000000000 records per second".to_owned())
    }
}
