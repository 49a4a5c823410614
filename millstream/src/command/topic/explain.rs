//! `millstream topic explain`: what holds for a topic, what is there, and why it still is. Shell.

use std::collections::{BTreeMap, BTreeSet};

use client::admin::{ConfigEntry, ConfigResource, PerPartition, ProducerDescription};
use client::offsets::{ListedOffset, OffsetSpec};
use client::time::real_clock;
use client::{Admin, IsolationLevel, RequestError};
use protocol::ids::{Offset, TopicPartition};
use protocol::time::Timestamp;
use serde_json::{Value, json};

use super::super::output::{self, Cell, Format, Sheet};
use super::super::{reach, values};
use super::reasons::{Facts, OpenTransaction, Settings, reasons};

/// The settings that decide what stays, beside those that somebody set.
const DECISIVE: [&str; 11] = [
    "cleanup.policy",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "max.compaction.lag.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
];

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The topic's name.
    name: String,
    /// Which partitions, as 0,2,4-6. Default: all.
    #[arg(long, visible_alias = "partition", value_name = "INDEXES", value_parser = super::indexes)]
    partitions: Option<super::Indexes>,
    /// Show all settings. Default: those that somebody set, and those that decide what stays.
    #[arg(long)]
    all_configs: bool,
}

/// What the brokers tell of the partitions.
struct Told {
    starts: PerPartition<ListedOffset>,
    ends: PerPartition<ListedOffset>,
    stable: PerPartition<ListedOffset>,
    oldest: PerPartition<ListedOffset>,
    newest: PerPartition<ListedOffset>,
    producers: PerPartition<Vec<ProducerDescription>>,
    sizes: BTreeMap<TopicPartition, u64>,
}

pub(super) async fn run(
    admin: &Admin,
    arguments: &Arguments,
    format: Format,
) -> anyhow::Result<()> {
    let topic = reach::topic(admin, &arguments.name).await?;
    let selected = arguments.partitions.as_ref().map(|it| &it.0);
    let partitions = reach::partitions_of(&topic, selected)?;
    let resource = ConfigResource::Topic(arguments.name.clone());
    let configs = admin.describe_configs(&resource).await?;
    let leader = topic.partitions.values().find_map(|it| it.leader);
    let broker = match leader {
        // Not every operator may see a broker's settings; then less is said.
        Some(id) => admin.describe_configs(&ConfigResource::Broker(id)).await.unwrap_or_default(),
        None => BTreeMap::new(),
    };
    let leaders: BTreeMap<_, _> = topic
        .partitions
        .iter()
        .filter_map(|(index, it)| {
            Some((TopicPartition::new(topic.name.as_str(), index.0), it.leader?))
        })
        .collect();
    let settings = Settings::new(&configs, &broker);
    let told = ask(admin, &partitions, &leaders).await?;
    let now = real_clock().now().wall;
    let sheet = config_sheet(&configs, arguments.all_configs);
    let explained: Vec<_> = partitions.iter().map(|it| (it, facts(&told, it))).collect();
    match format {
        Format::Json => output::print_json(&json!({
            "topic": topic.name,
            "topic_id": topic.id.to_string(),
            "configs": sheet.json(),
            "partitions": explained.iter().map(|it| json(&settings, it, now)).collect::<Vec<_>>(),
        }))?,
        Format::Table => {
            let mut text = format!("topic {}  id {}\n\n{}\n", topic.name, topic.id, sheet.table());
            text.push_str(&partition_sheet(&explained).table());
            for (partition, facts) in &explained {
                text.push_str(&format!("\n{partition}\n"));
                match facts {
                    Ok(facts) => {
                        for reason in reasons(&settings, facts, now) {
                            text.push_str(&format!("  {reason}\n"));
                        }
                    }
                    Err(error) => text.push_str(&format!("  nothing is known: {error}\n")),
                }
            }
            output::write(&text)?;
        }
    }
    Ok(())
}

async fn ask(
    admin: &Admin,
    partitions: &BTreeSet<TopicPartition>,
    leaders: &BTreeMap<TopicPartition, protocol::ids::BrokerId>,
) -> Result<Told, RequestError> {
    let list = async |spec: OffsetSpec, isolation| {
        let wanted: BTreeMap<_, _> = partitions.iter().map(|it| (it.clone(), spec)).collect();
        admin.list_offsets_each(&wanted, isolation).await
    };
    let any = IsolationLevel::ReadUncommitted;
    let dirs = admin.describe_log_dirs(&[], Some(partitions)).await?;
    let mut sizes = BTreeMap::new();
    for (broker, dirs) in dirs {
        for (partition, replica) in dirs.into_iter().flatten().flat_map(|(_, it)| it.replicas) {
            if leaders.get(&partition) == Some(&broker) && !replica.is_future {
                sizes.insert(partition, replica.size_bytes);
            }
        }
    }
    Ok(Told {
        starts: list(OffsetSpec::Earliest, any).await,
        ends: list(OffsetSpec::Latest, any).await,
        stable: list(OffsetSpec::Latest, IsolationLevel::ReadCommitted).await,
        oldest: list(OffsetSpec::AtOrAfter(Timestamp(0)), any).await,
        newest: list(OffsetSpec::MaxTimestamp, any).await,
        producers: admin.describe_producers(partitions.iter().cloned()).await,
        sizes,
    })
}

/// What is told of one partition; where its beginning or end is not, the reason why.
fn facts(told: &Told, partition: &TopicPartition) -> Result<Facts, String> {
    let offset = |listed: &PerPartition<ListedOffset>| match listed.get(partition) {
        Some(Ok(it)) => Ok(it.offset.unwrap_or(Offset::ZERO)),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("nobody was asked".to_owned()),
    };
    let time = |listed: &PerPartition<ListedOffset>| {
        let listed = listed.get(partition).and_then(|it| it.as_ref().ok());
        listed.filter(|it| it.offset.is_some()).map(|it| it.timestamp).filter(|it| it.0 >= 0)
    };
    let producers = told.producers.get(partition).and_then(|it| it.as_ref().ok());
    let open = producers.into_iter().flatten().filter_map(|it| {
        let (producer_id, last_write) = (it.producer_id, it.last_timestamp);
        it.txn_start.map(|start| OpenTransaction { producer_id, start, last_write })
    });
    Ok(Facts {
        start: offset(&told.starts)?,
        end: offset(&told.ends)?,
        stable: offset(&told.stable)?,
        oldest: time(&told.oldest),
        newest: time(&told.newest),
        bytes: told.sizes.get(partition).copied(),
        open: open.collect(),
    })
}

fn config_sheet(configs: &BTreeMap<String, ConfigEntry>, all: bool) -> Sheet {
    let mut sheet = Sheet::new(&["name", "value", "source", "otherwise"]);
    for (name, entry) in configs {
        if !all && entry.is_default && !DECISIVE.contains(&name.as_str()) {
            continue;
        }
        let others = entry.synonyms.iter().skip(1).map(|it| {
            let value = it.value.as_deref().unwrap_or("null");
            format!("{}={value} ({})", it.name, it.source.name())
        });
        sheet.push(vec![
            Cell::text(name),
            Cell::text(shown(name, entry)),
            Cell::text(entry.source.name()),
            Cell::List(others.collect()),
        ]);
    }
    sheet
}

/// A value, with what it amounts to where it is a number of milliseconds or bytes.
fn shown(name: &str, entry: &ConfigEntry) -> String {
    let Some(value) = &entry.value else {
        return if entry.is_sensitive { "(hidden)".to_owned() } else { "null".to_owned() };
    };
    match value.parse::<u64>() {
        Ok(number) if name.ends_with(".ms") && (1000..1 << 53).contains(&number) => {
            format!("{value} ({})", values::show_span(std::time::Duration::from_millis(number)))
        }
        Ok(number) if name.ends_with(".bytes") && number >= 1024 => {
            format!("{value} ({})", values::show_bytes(number))
        }
        Ok(_) | Err(_) => value.clone(),
    }
}

fn partition_sheet(explained: &[(&TopicPartition, Result<Facts, String>)]) -> Sheet {
    let columns =
        ["partition", "start", "end", "last_stable", "size", "oldest", "newest", "open_txns"];
    let mut sheet = Sheet::new(&columns);
    for (partition, facts) in explained {
        let Ok(facts) = facts else { continue };
        sheet.push(vec![
            Cell::Number(partition.partition.0.into()),
            Cell::Number(facts.start.0),
            Cell::Number(facts.end.0),
            Cell::Number(facts.stable.0),
            facts.bytes.map_or(Cell::None, Cell::Bytes),
            facts.oldest.map_or(Cell::None, Cell::Time),
            facts.newest.map_or(Cell::None, Cell::Time),
            Cell::number(i64::try_from(facts.open.len()).ok()),
        ]);
    }
    sheet
}

fn json(
    settings: &Settings,
    (partition, facts): &(&TopicPartition, Result<Facts, String>),
    now: Timestamp,
) -> Value {
    let index = partition.partition.0;
    match facts {
        Err(error) => json!({ "partition": index, "error": error }),
        Ok(facts) => json!({
            "partition": index,
            "log_start_offset": facts.start.0,
            "high_watermark": facts.end.0,
            "last_stable_offset": facts.stable.0,
            "size": facts.bytes,
            "oldest_timestamp": facts.oldest.map(|it| it.0),
            "newest_timestamp": facts.newest.map(|it| it.0),
            "open_transactions": facts.open.iter().map(|it| json!({
                "producer_id": it.producer_id.0,
                "start_offset": it.start.0,
                "last_timestamp": it.last_write.0,
            })).collect::<Vec<_>>(),
            "reasons": reasons(settings, facts, now),
        }),
    }
}
