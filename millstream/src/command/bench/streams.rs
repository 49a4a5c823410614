//! `millstream bench streams`: how fast an application counts records by key, exactly once.
//!
//! A fresh topic is filled first, which is not measured. Then an application of one worker counts
//! it: state in memory, a changelog, an output record per change and commit, a transaction every
//! 100 ms. It is timed from its start, joining its group included, until all of its input is
//! committed. Shell.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use streams::{App, I64, Raw, Store, StreamsBuilder, Topic, Topology, Utf8};

use super::Load;
use super::produce::{Generator, ends};
use super::report::Report;
use super::target::Target;
use super::usage::CpuTime;

/// Different keys of each partition.
const KEYS: u64 = 100_000;
/// How long the application may take to stop.
const STOP_MAX: Duration = Duration::from_secs(30);

pub(super) async fn run(load: &Load) -> anyhow::Result<()> {
    load.without_rate()?;
    let mut target = Target::reach(load).await?;
    let input = target.fresh_topic(load).await?;
    let output = target.fresh_topic(load).await?;
    let clock = target.bootstrap().clock;
    let mut generator = Generator::connect(&target, load, &input).await?.keys(KEYS);
    let records = generator.as_fast_as_possible(load, &clock).await?;
    drop(generator);
    let ends = ends(&input, records, load.partitions)?;

    let topology = counting(&input, &output).context("the topology")?;
    // The application's own topics are named after it, and so are as fresh as it is.
    let app = App::new(format!("{input}-count"), topology).connect_with(target.bootstrap());
    let cpu = CpuTime::now()?;
    let started = clock.now().monotonic;
    let app = app.start().await.context("the application")?;
    app.caught_up(&ends).await.context("the application")?;
    let elapsed = clock.now().monotonic.saturating_sub(started);
    let cpu = CpuTime::now()? - cpu;
    app.shutdown(STOP_MAX).await.context("the application's end")?;
    let report = Report {
        what: format!("count by key, exactly once: {}", load.words()),
        records,
        bytes: load.bytes(records)?,
        elapsed,
        latency: None,
        used: target.used(cpu)?,
    };
    load.print(&report)?;
    target.leave().await
}

fn counting(input: &str, output: &str) -> Result<Topology, streams::BuildErrors> {
    let input: Topic<String, Bytes> = Topic::new(input, Utf8, Raw);
    let output = Topic::new(output, Utf8, I64);
    let builder = StreamsBuilder::new();
    let counts = builder.stream(&input).group_by_key().count(Store::kv("counts", Utf8, I64));
    counts.to_stream().to(&output);
    builder.build()
}
