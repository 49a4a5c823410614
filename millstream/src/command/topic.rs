//! `millstream topic`: the topics of any Kafka cluster. Shell.

mod describe;
mod explain;
mod offsets;
mod reasons;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use clap::Subcommand;
use client::Admin;
use client::admin::NewTopic;
use protocol::error_code::ErrorCode;
use protocol::ids::Offset;
use serde_json::json;

use super::advice::Problem;
use super::output::{self, Format, Outcomes};
use super::reach::{self, Cluster};
use super::values;

pub(super) use offsets::isolation;

/// Create, list, describe, grow, empty, explain and delete topics.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: Cluster,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the names of topics.
    List(List),
    /// Describe topics: their partitions, leaders, replicas, in-sync replicas and own settings.
    Describe(describe::Arguments),
    /// Create topics.
    Create(Create),
    /// Change a topic: give it more partitions.
    Alter(Alter),
    /// Delete topics with all their records.
    Delete(Delete),
    /// Tell where partitions begin and end, or which offset a time has.
    Offsets(offsets::Arguments),
    /// Delete the oldest records of partitions, up to an offset.
    DeleteRecords(DeleteRecords),
    /// Explain a topic: settings and whence they come, sizes, offsets, and why old records are
    /// still there.
    Explain(explain::Arguments),
}

#[derive(clap::Args)]
struct List {
    /// Leave out the topics of the brokers themselves, as __consumer_offsets. Default: all.
    #[arg(long)]
    exclude_internal: bool,
}

#[derive(clap::Args)]
struct Create {
    /// Their names: letters, digits, dots, dashes and underscores, at most 249.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// How many partitions. Default: the broker's num.partitions.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas of each partition. Default: the broker's default.replication.factor.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting by its Kafka name, as retention.ms=3600000; may be given often. Default: the
    /// broker's.
    #[arg(long, visible_alias = "set", value_name = "KEY=VALUE", value_parser = values::pair)]
    config: Vec<(String, String)>,
    /// Pass over topics that exist already. Default: they are failures.
    #[arg(long)]
    if_not_exists: bool,
    /// Ask the cluster whether it would, and create nothing. Default: create.
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
struct Alter {
    /// Its name.
    name: String,
    /// How many partitions it shall have: more than now. Keys may then go to other partitions.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
}

#[derive(clap::Args)]
struct Delete {
    /// Their names.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Pass over topics that do not exist. Default: they are failures.
    #[arg(long)]
    if_exists: bool,
}

#[derive(clap::Args)]
struct DeleteRecords {
    /// The topic's name.
    name: String,
    /// The first offset that stays, or `latest` to delete all that there is.
    #[arg(long, value_name = "OFFSET", value_parser = before)]
    before: Offset,
    /// Which partitions, as 0,2,4-6. Default: all.
    #[arg(long, visible_alias = "partition", value_name = "INDEXES", value_parser = indexes)]
    partitions: Option<Indexes>,
    /// Do it. Default: say what would be deleted.
    #[arg(long)]
    execute: bool,
}

/// Some partitions of a topic.
#[derive(Clone, Debug)]
struct Indexes(BTreeSet<i32>);

fn indexes(text: &str) -> Result<Indexes, String> {
    values::partitions(text).map(Indexes)
}

fn before(text: &str) -> Result<Offset, String> {
    match text.parse::<i64>() {
        _ if text == "latest" => Ok(Offset::NONE),
        Ok(offset) if offset >= 0 => Ok(Offset(offset)),
        Ok(_) | Err(_) => Err("expected an offset from 0 on, or latest".to_owned()),
    }
}

/// Carries out one verb.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let admin = arguments.cluster.admin().await?;
    let format = arguments.cluster.output;
    match arguments.verb {
        Verb::List(list) => list_topics(&admin, &list, format).await,
        Verb::Describe(describe) => describe::run(&admin, describe, format).await,
        Verb::Create(create) => create_topics(&admin, create, format).await,
        Verb::Alter(alter) => grow(&admin, &alter, format).await,
        Verb::Delete(delete) => delete_topics(&admin, &delete, format).await,
        Verb::Offsets(offsets) => offsets::run(&admin, offsets, format).await,
        Verb::DeleteRecords(delete) => delete_records(&admin, &delete, format).await,
        Verb::Explain(explain) => explain::run(&admin, &explain, format).await,
    }
}

async fn list_topics(admin: &Admin, list: &List, format: Format) -> anyhow::Result<()> {
    let topics = admin.describe_all_topics().await?;
    let wanted = topics.iter().filter(|(_, topic)| {
        !list.exclude_internal || topic.as_ref().is_ok_and(|it| !it.is_internal)
    });
    match format {
        Format::Table => {
            output::write(&wanted.map(|(name, _)| format!("{name}\n")).collect::<String>())?;
        }
        Format::Json => {
            let topic = wanted.map(|(name, topic)| match topic {
                Ok(it) => json!({
                    "topic": name,
                    "topic_id": it.id.to_string(),
                    "is_internal": it.is_internal,
                    "partition_count": it.partitions.len(),
                }),
                Err(error) => json!({ "topic": name, "error": error.to_string() }),
            });
            output::print_json(&topic.collect())?;
        }
    }
    Ok(())
}

async fn create_topics(admin: &Admin, create: Create, format: Format) -> anyhow::Result<()> {
    let configs: BTreeMap<_, _> = create.config.into_iter().collect();
    let topic = |name: &String| NewTopic {
        name: name.clone(),
        partition_count: create.partitions,
        replication_factor: create.replication_factor,
        configs: configs.clone(),
    };
    let topics: Vec<_> = create.names.iter().map(topic).collect();
    let results = if create.dry_run {
        admin.validate_topics(&topics).await?
    } else {
        admin.create_topics(&topics).await?
    };
    let mut outcomes = Outcomes::default();
    let what = if create.dry_run { "would be created" } else { "created" };
    for (name, result) in results {
        match result {
            Err(error)
                if create.if_not_exists
                    && error.error_code() == Some(ErrorCode::TopicAlreadyExists) =>
            {
                outcomes.done(format!("topic {name}"), "exists already");
            }
            result => outcomes.take(format!("topic {name}"), what, result),
        }
    }
    outcomes.finish(format)
}

async fn grow(admin: &Admin, alter: &Alter, format: Format) -> anyhow::Result<()> {
    let Alter { name, partitions } = alter;
    let topic = reach::topic(admin, name).await?;
    let present = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    if *partitions <= present {
        return Err(Problem::usage(format!(
            "topic {name} has {present} partitions: --partitions must be more, it cannot shrink"
        ))
        .into());
    }
    admin.create_partitions(name, *partitions).await.with_context(|| format!("topic {name}"))?;
    let mut outcomes = Outcomes::default();
    outcomes.done(format!("topic {name}"), format!("{partitions} partitions, before {present}"));
    outcomes.finish(format)
}

async fn delete_topics(admin: &Admin, delete: &Delete, format: Format) -> anyhow::Result<()> {
    let names: Vec<&str> = delete.names.iter().map(String::as_str).collect();
    let mut outcomes = Outcomes::default();
    for (name, result) in admin.delete_topics(&names).await? {
        let is_unknown = result
            .as_ref()
            .is_err_and(|it| it.error_code() == Some(ErrorCode::UnknownTopicOrPartition));
        match result {
            Err(_) if is_unknown && delete.if_exists => {
                outcomes.done(format!("topic {name}"), "does not exist");
            }
            // With one name alone there is room for saying which was meant.
            Err(error) if is_unknown && names.len() == 1 => {
                return Err(reach::unknown_topic(admin, &name, error).await);
            }
            result => outcomes.take(format!("topic {name}"), "deleted", result),
        }
    }
    outcomes.finish(format)
}

async fn delete_records(
    admin: &Admin,
    delete: &DeleteRecords,
    format: Format,
) -> anyhow::Result<()> {
    let topic = reach::topic(admin, &delete.name).await?;
    let selected = delete.partitions.as_ref().map(|it| &it.0);
    let partitions = reach::partitions_of(&topic, selected)?;
    let mut outcomes = Outcomes::default();
    if !delete.execute {
        let what = match delete.before {
            Offset::NONE => "all records would be deleted; add --execute to do it".to_owned(),
            before => format!("records before {before} would be deleted; add --execute to do it"),
        };
        partitions.iter().for_each(|it| outcomes.done(it, &what));
        return outcomes.finish(format);
    }
    let before = partitions.into_iter().map(|it| (it, delete.before)).collect();
    for (partition, result) in admin.delete_records(&before).await {
        match result {
            Ok(start) => outcomes.done(&partition, format!("begins at {start}")),
            Err(error) => outcomes.failed(&partition, error),
        }
    }
    outcomes.finish(format)
}
