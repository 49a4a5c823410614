//! `millstream bench lake`: how fast a topic of JSON becomes files of Parquet.
//!
//! A fresh topic is filled first, which is not measured. Then a lake sink of one task writes it into
//! a directory, exactly once. It is timed from its start until all is in files and committed. Shell.

use anyhow::{Context, ensure};
use connect::Standalone;
use connect::config::WorkerConfig;
use connect::sdk::Config;
use serde_json::json;

use super::Load;
use super::content::Content;
use super::produce::{Generator, ends};
use super::report::Report;
use super::target::Target;
use super::usage::CpuTime;

pub(super) async fn run(load: &Load) -> anyhow::Result<()> {
    load.without_rate()?;
    let content = Content::objects(load.size).context("--size is too small for an object")?;
    let mut target = Target::reach(load).await?;
    let topic = target.fresh_topic(load).await?;
    let clock = target.bootstrap().clock;
    let mut generator = Generator::connect(&target, load, &topic).await?.content(content);
    let records = generator.as_fast_as_possible(load, &clock).await?;
    drop(generator);
    let ends = ends(&topic, records, load.partitions)?;

    let files = Target::scratch(load);
    let config = json!({
        "name": format!("{topic}-lake"),
        "connector": "lake-sink",
        "topics": [topic],
        "location": files.path(),
        "retry": { "restart": "never" },
    });
    let config = Config::parse("lake.json", &config.to_string())?;
    let worker = Standalone::new(WorkerConfig::new(target.bootstrap()), connectors::registry());
    let cpu = CpuTime::now()?;
    let started = clock.now().monotonic;
    let mut running = worker.run(&[config]).await.context("the sink")?;
    running.sinks_committed(&ends).await;
    let elapsed = clock.now().monotonic.saturating_sub(started);
    let cpu = CpuTime::now()? - cpu;
    let status = running.stop().await;
    let mut errors = status.iter().flat_map(|it| &it.tasks).filter_map(|it| it.last_error.as_ref());
    if let Some(error) = errors.next() {
        anyhow::bail!("the sink failed: {error}");
    }
    let put: u64 = status.iter().map(connect::status::ConnectorStatus::records).sum();
    ensure!(put == records, "the sink took {put} of {records} records");
    let report = Report {
        what: format!("topic to Parquet, exactly once: {}", load.words()),
        records,
        bytes: load.bytes(records)?,
        elapsed,
        latency: None,
        used: target.used(cpu)?,
    };
    load.print(&report)?;
    target.leave().await
}
