//! `millstream log-dir`: what lies in the log directories, and how large it is. Shell.

use clap::Subcommand;
use client::admin::LogDirs;
use protocol::ids::BrokerId;
use serde_json::{Value, json};

use super::advice::Problem;
use super::output::{self, Cell, Format, Sheet};
use super::reach::{self, Cluster};
use super::values::{self, TopicSelection};

/// Describe log directories.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: Cluster,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Describe the log directories of brokers, and the partitions in them.
    Describe(Describe),
}

#[derive(clap::Args)]
struct Describe {
    /// Of which brokers, separated by commas. Default: of all.
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    broker: Vec<i32>,
    /// Only these topics, or some of their partitions, as orders:0,2; may be given often.
    /// Default: all.
    #[arg(long, value_name = "TOPIC[:INDEXES]", value_parser = values::topic_selection)]
    topic: Vec<TopicSelection>,
    /// Only the directories themselves. Default: what lies in them, too.
    #[arg(long)]
    summary: bool,
}

/// Carries out one verb.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Verb::Describe(describe) = &arguments.verb;
    let admin = arguments.cluster.admin().await?;
    let partitions = if describe.topic.is_empty() {
        None
    } else {
        Some(reach::partitions(&admin, &describe.topic).await?)
    };
    let brokers: Vec<_> = describe.broker.iter().copied().map(BrokerId).collect();
    let described = admin.describe_log_dirs(&brokers, partitions.as_ref()).await?;
    let mut told = Vec::new();
    let (mut failed, all) = (0, described.len());
    for (broker, dirs) in described {
        match dirs {
            Ok(dirs) => told.push((broker, dirs)),
            Err(error) if all == 1 => return Err(error.into()),
            Err(error) => {
                eprintln!("broker {broker}: {error}");
                failed += 1;
            }
        }
    }
    match arguments.cluster.output {
        Format::Json => {
            output::print_json(&told.iter().map(|it| json(it, describe.summary)).collect())?;
        }
        Format::Table => {
            let mut text = dir_sheet(&told).table();
            if !describe.summary {
                text.push('\n');
                text.push_str(&replica_sheet(&told).table());
            }
            output::write(&text)?;
        }
    }
    if failed > 0 { Err(Problem::Partly { failed, all }.into()) } else { Ok(()) }
}

fn dir_sheet(told: &[(BrokerId, LogDirs)]) -> Sheet {
    let columns = ["broker", "log_dir", "state", "partitions", "size", "disk_total", "disk_free"];
    let mut sheet = Sheet::new(&columns);
    for (broker, dirs) in told {
        for (path, dir) in dirs {
            let size = dir.replicas.values().map(|it| it.size_bytes).sum();
            sheet.push(vec![
                Cell::Number(broker.0.into()),
                Cell::text(path),
                Cell::text(dir.error.as_ref().map_or("online".to_owned(), ToString::to_string)),
                Cell::number(i64::try_from(dir.replicas.len()).ok()),
                Cell::Bytes(size),
                dir.total_bytes.map_or(Cell::None, Cell::Bytes),
                dir.usable_bytes.map_or(Cell::None, Cell::Bytes),
            ]);
        }
    }
    sheet
}

fn replica_sheet(told: &[(BrokerId, LogDirs)]) -> Sheet {
    let columns = ["broker", "topic", "partition", "size", "offset_lag", "is_future"];
    let mut sheet = Sheet::new(&columns);
    for (broker, dirs) in told {
        for (partition, replica) in dirs.values().flat_map(|it| &it.replicas) {
            sheet.push(vec![
                Cell::Number(broker.0.into()),
                Cell::text(&partition.topic),
                Cell::Number(partition.partition.0.into()),
                Cell::Bytes(replica.size_bytes),
                Cell::Number(replica.offset_lag),
                Cell::Flag(replica.is_future),
            ]);
        }
    }
    sheet
}

fn json((broker, dirs): &(BrokerId, LogDirs), is_summary: bool) -> Value {
    let dirs = dirs.iter().map(|(path, dir)| {
        let replicas = dir.replicas.iter().filter(|_| !is_summary).map(|(partition, it)| {
            json!({
                "topic": &*partition.topic,
                "partition": partition.partition.0,
                "size": it.size_bytes,
                "offset_lag": it.offset_lag,
                "is_future": it.is_future,
            })
        });
        json!({
            "log_dir": path,
            "error": dir.error.as_ref().map(ToString::to_string),
            "partition_count": dir.replicas.len(),
            "size": dir.replicas.values().map(|it| it.size_bytes).sum::<u64>(),
            "total_bytes": dir.total_bytes,
            "usable_bytes": dir.usable_bytes,
            "partitions": replicas.collect::<Vec<_>>(),
        })
    });
    json!({ "broker": broker.0, "log_dirs": dirs.collect::<Vec<_>>() })
}
