//! From log files to a data lake, in one process and with one command.
//!
//! ```text
//! cargo run --release --example log_lake -- [DIR] [--lake DIR] [--data-dir DIR] [--follow]
//! ```
//!
//! An embedded broker keeps what passes through; a file source puts every line of every text log
//! below a directory into topic `logs`; a Streams app parses and counts; a lake sink writes Parquet.
//! Every step is exactly once: kill it whenever you like, start it again, and it continues where it
//! stopped. Shell.

mod parse;
mod report;
mod topology;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use millstream::broker::config::BrokerConfig;
use millstream::broker::{Broker, BrokerHandle, Outside};
use millstream::client::admin::{Admin, NewTopic};
use millstream::client::bootstrap::Bootstrap;
use millstream::client::config::ConsumerConfig;
use millstream::client::consumer::Consumer;
use millstream::client::net::Endpoint;
use millstream::client::net::memory::MemoryNetwork;
use millstream::client::time::real_clock;
use millstream::connect::config::WorkerConfig;
use millstream::connect::sdk::Config;
use millstream::connect::status::{ConnectorStatus, Direction};
use millstream::connect::{Running, Standalone};
use millstream::protocol::ids::{Offset, TopicPartition};
use millstream::streams::{App, AppHandle};
use topology::{LOGS, PARSED, PER_MINUTE, REGROUPED};

/// Log files of this machine, into a data lake.
#[derive(Parser)]
#[command(name = "log_lake")]
struct Arguments {
    /// Which logs: every readable text file below this directory, rotated and gzipped ones too.
    #[arg(default_value = "/var/log")]
    dir: PathBuf,
    /// Where the Parquet files go.
    #[arg(long, default_value = "lake")]
    lake: PathBuf,
    /// Where the broker keeps its data, and with them how far everything has come.
    #[arg(long, default_value = "millstream-data")]
    data_dir: PathBuf,
    /// Go on with what is written to the logs, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// What to log.
    #[arg(long, default_value = "warn")]
    log: String,
}

/// How long everything may take to stop in good order.
const STOP_MAX: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(&arguments.log).context("--log")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let dir = arguments.dir.canonicalize();
    let dir = dir.with_context(|| format!("cannot read {}", arguments.dir.display()))?;
    let (broker, bootstrap) = start_broker(&arguments.data_dir).await?;
    create_topics(bootstrap.clone()).await?;
    let app = App::new("log-lake", topology::build()?)
        .connect_with(bootstrap.clone())
        .instance_id("log-lake")
        .commit_interval(Duration::from_millis(200))
        // After a kill the next run waits for the dead one's session to end.
        .session_timeout(Duration::from_secs(6))
        .start()
        .await
        .context("the streams app")?;
    let configs = connectors(&dir, &arguments.lake, arguments.follow)?;
    let worker = WorkerConfig::new(bootstrap.clone());
    let worker = Standalone::new(worker, millstream::connectors::registry());
    let running = worker.run(&configs).await.context("the connectors")?;

    let bars = report::Bars::new();
    let mut work = Work { running, app, bootstrap: bootstrap.clone(), follow: arguments.follow };
    let end = tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| End::Interrupted)?,
        end = work.go(&bars) => end?,
    };
    bars.finish();
    let Work { running, app, .. } = work;
    // The processing ends first, then what feeds on it.
    app.shutdown(STOP_MAX).await.context("stop the streams app")?;
    let notes = notes(&running.stop().await[..]);
    let totals = report::totals(bootstrap).await?;
    report::print(&totals, &arguments.lake);
    let is_elsewhere = !totals.is_empty() && report::measure(&arguments.lake).0 == 0;
    for note in notes {
        println!("note: {note}");
    }
    broker.shutdown().await.context("stop the broker")?;
    match end {
        // What was committed is not written again.
        End::Done if is_elsewhere => anyhow::bail!(
            "no file lies in {}: its lines were written before, to another lake; give each lake a --data-dir of its own",
            arguments.lake.display()
        ),
        End::Done => Ok(()),
        End::Interrupted => {
            println!("stopped; the next run continues here");
            Ok(())
        }
        End::Failed(why) => anyhow::bail!(why),
    }
}

/// Why the work ended.
enum End {
    Done,
    Interrupted,
    Failed(String),
}

/// What runs.
struct Work {
    running: Running,
    app: AppHandle,
    bootstrap: Bootstrap,
    follow: bool,
}

impl Work {
    /// Waits, stage by stage, until every line that is there now lies in the lake; with `follow`,
    /// for ever.
    async fn go(&mut self, bars: &report::Bars) -> anyhow::Result<End> {
        let config = ConsumerConfig::default();
        let mut asking = Consumer::connect(self.bootstrap.clone(), config).await?;
        let mut stage = Stage::Reading;
        loop {
            self.show(bars);
            if let Some(why) = self.failure() {
                return Ok(End::Failed(why));
            }
            let reached = tokio::time::timeout(LOOK, self.reach(&stage)).await;
            stage = match (reached, stage) {
                // The time to look again.
                (Err(_), stage) => stage,
                (Ok(reached), Stage::Reading) => {
                    reached?;
                    Stage::Processing(report::ends_of(&mut asking, LOGS).await?)
                }
                (Ok(reached), Stage::Processing(_)) => {
                    reached?;
                    Stage::Counting(report::ends_of(&mut asking, REGROUPED).await?)
                }
                (Ok(reached), Stage::Counting(_)) => {
                    reached?;
                    let mut ends = report::ends_of(&mut asking, PARSED).await?;
                    ends.extend(report::ends_of(&mut asking, PER_MINUTE).await?);
                    Stage::Writing(ends)
                }
                (Ok(reached), Stage::Writing(_)) => {
                    reached?;
                    self.show(bars);
                    return Ok(End::Done);
                }
            };
        }
    }

    async fn reach(&mut self, stage: &Stage) -> anyhow::Result<()> {
        match stage {
            Stage::Reading if self.follow => std::future::pending().await,
            Stage::Reading => self.running.sources_drained().await,
            Stage::Processing(ends) | Stage::Counting(ends) => {
                self.app.caught_up(ends).await.context("the streams app")?
            }
            Stage::Writing(ends) => self.running.sinks_committed(ends).await,
        }
        Ok(())
    }

    fn show(&self, bars: &report::Bars) {
        let moved = |direction| {
            let status = self.running.status();
            status.iter().filter(|it| it.direction == direction).map(|it| it.records()).sum()
        };
        let processed = self.app.metrics().tasks.processed;
        bars.show(moved(Direction::Source), processed, moved(Direction::Sink));
    }

    fn failure(&self) -> Option<String> {
        let status = self.running.status();
        let failed = status.iter().find(|it| it.has_failed())?;
        let errors = failed.tasks.iter().filter_map(|task| task.last_error.clone());
        Some(format!("{}: {}", failed.name, errors.collect::<Vec<_>>().join("; ")))
    }
}

/// How often the bars are brought up to date.
const LOOK: Duration = Duration::from_millis(200);

/// How far the lines have come.
enum Stage {
    /// They are read into the broker.
    Reading,
    /// They are in the broker, up to these ends, and are processed.
    Processing(BTreeMap<TopicPartition, Offset>),
    /// They are parsed and regrouped, up to these ends, and are counted.
    Counting(BTreeMap<TopicPartition, Offset>),
    /// They are processed, up to these ends, and are written to the lake.
    Writing(BTreeMap<TopicPartition, Offset>),
}

/// What happened besides, such as files that could not be read.
fn notes(status: &[ConnectorStatus]) -> Vec<String> {
    let tasks = status.iter().flat_map(|it| &it.tasks);
    let notes = tasks.flat_map(|task| &task.notes);
    notes
        .map(|(kind, note)| format!("{kind}: {} times, the last: {}", note.count, note.last))
        .collect()
}

async fn start_broker(data_dir: &Path) -> anyhow::Result<(BrokerHandle, Bootstrap)> {
    let settings = [("log.dir", data_dir.to_str().context("--data-dir: not text")?)];
    let config = BrokerConfig::from_pairs(settings).context("the broker's settings")?;
    let network = MemoryNetwork::new();
    let endpoint = Endpoint::new("log-lake", 1);
    let listener = network.listen(endpoint.clone()).context("the network in memory")?;
    let outside = Outside::embedded(vec![Box::new(listener)]);
    let broker = Broker::start(config, outside).await.context("the broker")?;
    let bootstrap = Bootstrap::new([endpoint], Arc::new(network), real_clock(), 1);
    Ok((broker, bootstrap))
}

async fn create_topics(bootstrap: Bootstrap) -> anyhow::Result<()> {
    let admin = Admin::connect(bootstrap, Duration::from_secs(30)).await.context("the broker")?;
    let existing = admin.list_topics().await?;
    for name in [LOGS, PARSED, PER_MINUTE] {
        if !existing.iter().any(|it| it == name) {
            // Lines may be years old by their own dates: none is too old to keep.
            let topic = NewTopic::new(name, PARTITIONS).config("retention.ms", "-1");
            admin.create_topic(topic).await.with_context(|| format!("topic {name}"))?;
        }
    }
    Ok(())
}

/// What is longer comes in pieces. JSON may need six bytes for one, and a record holds less than 1 MiB.
const LINE_BYTES_MAX: usize = 128 * 1024;

/// Of each topic: one per core is all that helps here.
const PARTITIONS: i32 = 2;

/// The connectors, as one would write them into a file.
fn connectors(dir: &Path, lake: &Path, follow: bool) -> anyhow::Result<Vec<Config>> {
    let quoted = |path: &Path| {
        let text = path.to_str().with_context(|| format!("{}: not text", path.display()));
        text.map(|it| serde_json::Value::from(it).to_string())
    };
    let source = format!(
        "name = 'logs'
         connector = 'file-source'
         topic = '{LOGS}'
         paths = [{}]
         exclude = [{}]
         follow = {follow}
         max_line_bytes = {LINE_BYTES_MAX}",
        quoted(dir)?,
        quoted(&std::path::absolute(lake)?.join("**/*"))?,
    );
    let lake = quoted(lake)?;
    // Declared, so that all files have the same columns: some readers take those of one for all.
    let sink = |name: &str, topic: &str, columns: &[(&str, &str)]| {
        let mut text = format!(
            "name = '{name}'
             connector = 'lake-sink'
             topics = ['{topic}']
             location = {lake}"
        );
        for (name, kind) in columns {
            text.push_str(&format!("\n[[columns]]\nname = '{name}'\ntype = '{kind}'"));
        }
        text
    };
    let parsed = sink("lake-parsed", PARSED, parse::COLUMNS);
    let per_minute = sink("lake-per-minute", PER_MINUTE, topology::PER_MINUTE_COLUMNS);
    let parse = |name: &str, text: String| Config::parse(name, &text);
    Ok(vec![
        parse("logs.toml", source)?,
        parse("lake-parsed.toml", parsed)?,
        parse("lake-per-minute.toml", per_minute)?,
    ])
}
