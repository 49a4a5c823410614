//! `millstream cluster`: brokers, features, versions, elections and reassignments. Shell.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use client::Admin;
use client::admin::{ElectionType, FeatureUpdate, PerPartition};
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, TopicPartition};
use serde_json::json;

use super::advice::Problem;
use super::output::{self, Cell, Format, Outcomes, Sheet};
use super::reach::{self, Cluster};
use super::values::{self, TopicSelection};

/// Describe the cluster; elect leaders, move partitions, change features.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: Cluster,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Describe the cluster: its id, its brokers, and its controller.
    Describe,
    /// List the APIs and versions that a broker speaks.
    ApiVersions,
    /// List features: what brokers support, and what the cluster has agreed to use.
    Features,
    /// Change the level of features that the cluster uses.
    UpdateFeatures(UpdateFeatures),
    /// Elect leaders of partitions.
    ElectLeaders(ElectLeaders),
    /// List reassignments under way.
    Reassignments {
        /// Only of these topics, or some of their partitions, as orders:0,2; may be given often.
        /// Default: all.
        #[arg(long, value_name = "TOPIC[:INDEXES]", value_parser = values::topic_selection)]
        topic: Vec<TopicSelection>,
    },
    /// Move partitions to other replicas, or cancel their moving.
    Reassign(Reassign),
    /// Make the controller forget a broker that is gone for good.
    Unregister {
        /// The broker's id.
        broker: i32,
    },
}

#[derive(clap::Args)]
struct UpdateFeatures {
    /// A feature and its new level; may be given often.
    #[arg(long, required = true, value_name = "NAME=LEVEL", value_parser = values::pair)]
    feature: Vec<(String, String)>,
    /// Which way: up, down if nothing is lost by it, or down though something is.
    #[arg(long, value_enum, default_value_t = Way::Upgrade)]
    way: Way,
    /// Ask the cluster whether it would, and change nothing. Default: change.
    #[arg(long)]
    dry_run: bool,
}

/// Which way a feature's level may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Up.
    Upgrade,
    /// Down, if nothing is lost by it; level 0 removes the feature.
    Downgrade,
    /// Down, even if something is lost by it; level 0 removes the feature.
    UnsafeDowngrade,
}

#[derive(clap::Args)]
struct ElectLeaders {
    /// Whom: the first replica of each partition, or a living one that lacks records.
    #[arg(long, value_enum, default_value_t = Election::Preferred)]
    election: Election,
    /// Of which topic, or of which of its partitions, as orders:0,2; may be given often. Default:
    /// of all that need it.
    #[arg(long, value_name = "TOPIC[:INDEXES]", value_parser = values::topic_selection)]
    topic: Vec<TopicSelection>,
}

/// Who may be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Election {
    /// The first of the assigned replicas, if it is in sync.
    Preferred,
    /// A living replica though it is not in sync, where none is: records are lost.
    Unclean,
}

#[derive(clap::Args)]
struct Reassign {
    /// Which topic, or which of its partitions, as orders:0,2; may be given often.
    #[arg(required = true, value_name = "TOPIC[:INDEXES]", value_parser = values::topic_selection)]
    partitions: Vec<TopicSelection>,
    /// The brokers that shall have them, the preferred leader first, separated by commas.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', required_unless_present = "cancel")]
    replicas: Vec<i32>,
    /// Cancel the reassignment under way. Default: begin one.
    #[arg(long, conflicts_with = "replicas")]
    cancel: bool,
}

/// Carries out one verb.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let admin = arguments.cluster.admin().await?;
    let format = arguments.cluster.output;
    match arguments.verb {
        Verb::Describe => describe(&admin, format).await,
        Verb::ApiVersions => api_versions(&admin, format).await,
        Verb::Features => features(&admin, format).await,
        Verb::UpdateFeatures(update) => update_features(&admin, update, format).await,
        Verb::ElectLeaders(elect) => elect_leaders(&admin, &elect, format).await,
        Verb::Reassignments { topic } => reassignments(&admin, &topic, format).await,
        Verb::Reassign(reassign) => reassign_partitions(&admin, reassign, format).await,
        Verb::Unregister { broker } => {
            let gone = admin.unregister_broker(BrokerId(broker)).await;
            gone.with_context(|| format!("broker {broker}"))?;
            let mut outcomes = Outcomes::default();
            outcomes.done(format!("broker {broker}"), "unregistered");
            outcomes.finish(format)
        }
    }
}

async fn describe(admin: &Admin, format: Format) -> anyhow::Result<()> {
    let cluster = admin.describe_cluster().await?;
    let mut sheet = Sheet::new(&["broker", "host", "port", "is_controller"]);
    for (id, endpoint) in &cluster.brokers {
        sheet.push(vec![
            Cell::Number(id.0.into()),
            Cell::text(&endpoint.host),
            Cell::Number(endpoint.port.into()),
            Cell::Flag(cluster.controller == Some(*id)),
        ]);
    }
    match format {
        Format::Json => output::print_json(&json!({
            "cluster_id": cluster.cluster_id,
            "controller": cluster.controller.map(|it| it.0),
            "brokers": sheet.json(),
        }))?,
        Format::Table => {
            let id = cluster.cluster_id.as_deref().unwrap_or("-");
            output::write(&format!("cluster {id}\n\n{}", sheet.table()))?;
        }
    }
    Ok(())
}

async fn api_versions(admin: &Admin, format: Format) -> anyhow::Result<()> {
    let mut sheet = Sheet::new(&["key", "api", "min", "max", "usable"]);
    for it in admin.api_versions().await? {
        let usable = it.api.map(|api| it.max.min(*api.versions().end())).filter(|version| {
            *version >= it.min && it.api.is_some_and(|api| *version >= *api.versions().start())
        });
        sheet.push(vec![
            Cell::Number(it.key.into()),
            Cell::maybe(it.api.map(protocol::api_key::ApiKey::name)),
            Cell::Number(it.min.into()),
            Cell::Number(it.max.into()),
            Cell::number(usable.map(i64::from)),
        ]);
    }
    output::print(format, &sheet)?;
    Ok(())
}

async fn features(admin: &Admin, format: Format) -> anyhow::Result<()> {
    let features = admin.describe_features().await?;
    let names: BTreeSet<_> = features.supported.keys().chain(features.finalized.keys()).collect();
    let mut sheet =
        Sheet::new(&["feature", "supported_min", "supported_max", "finalized", "epoch"]);
    for name in names {
        let supported = features.supported.get(name);
        sheet.push(vec![
            Cell::text(name),
            Cell::number(supported.map(|it| it.0.into())),
            Cell::number(supported.map(|it| it.1.into())),
            Cell::number(features.finalized.get(name).copied().map(i64::from)),
            Cell::number(features.epoch),
        ]);
    }
    output::print(format, &sheet)?;
    Ok(())
}

async fn update_features(
    admin: &Admin,
    update: UpdateFeatures,
    format: Format,
) -> anyhow::Result<()> {
    let mut updates = BTreeMap::new();
    for (name, level) in update.feature {
        let parsed = level.parse::<i16>().ok().filter(|it| *it >= 0);
        let refuse = || Problem::usage(format!("{name}={level}: expected a level from 0 on"));
        let level = parsed.ok_or_else(refuse)?;
        let change = match update.way {
            Way::Upgrade => FeatureUpdate::Upgrade(level),
            Way::Downgrade => FeatureUpdate::SafeDowngrade(level),
            Way::UnsafeDowngrade => FeatureUpdate::UnsafeDowngrade(level),
        };
        updates.insert(name, (level, change));
    }
    let changes = updates.iter().map(|(name, (_, change))| (name.clone(), *change)).collect();
    admin.update_features(&changes, update.dry_run).await?;
    let mut outcomes = Outcomes::default();
    for (name, (level, _)) in updates {
        let what = if update.dry_run { "would have level" } else { "has level" };
        outcomes.done(format!("feature {name}"), format!("{what} {level}"));
    }
    outcomes.finish(format)
}

/// The partitions that are meant; `None`: all.
async fn selected(
    admin: &Admin,
    topics: &[TopicSelection],
) -> anyhow::Result<Option<BTreeSet<TopicPartition>>> {
    if topics.is_empty() {
        return Ok(None);
    }
    reach::partitions(admin, topics).await.map(Some)
}

async fn elect_leaders(admin: &Admin, elect: &ElectLeaders, format: Format) -> anyhow::Result<()> {
    let partitions = selected(admin, &elect.topic).await?;
    let election = match elect.election {
        Election::Preferred => ElectionType::Preferred,
        Election::Unclean => ElectionType::Unclean,
    };
    let results = admin.elect_leaders(election, partitions.as_ref()).await?;
    if results.is_empty() && format == Format::Table {
        output::write("no partition needs an election\n")?;
        return Ok(());
    }
    let mut outcomes = Outcomes::default();
    for (partition, result) in results {
        match result {
            Err(error) if error.error_code() == Some(ErrorCode::ElectionNotNeeded) => {
                outcomes.done(&partition, "has that leader already");
            }
            result => outcomes.take(&partition, "leader elected", result),
        }
    }
    outcomes.finish(format)
}

async fn reassignments(
    admin: &Admin,
    topics: &[TopicSelection],
    format: Format,
) -> anyhow::Result<()> {
    let partitions = selected(admin, topics).await?;
    let mut sheet = Sheet::new(&["topic", "partition", "replicas", "adding", "removing"]);
    let ids = |ids: &[BrokerId]| Cell::Numbers(ids.iter().map(|it| it.0.into()).collect());
    for (partition, it) in admin.list_reassignments(partitions.as_ref()).await? {
        sheet.push(vec![
            Cell::text(&partition.topic),
            Cell::Number(partition.partition.0.into()),
            ids(&it.replicas),
            ids(&it.adding),
            ids(&it.removing),
        ]);
    }
    output::print(format, &sheet)?;
    Ok(())
}

async fn reassign_partitions(
    admin: &Admin,
    reassign: Reassign,
    format: Format,
) -> anyhow::Result<()> {
    let partitions = reach::partitions(admin, &reassign.partitions).await?;
    let target: Option<Vec<_>> =
        (!reassign.cancel).then(|| reassign.replicas.iter().copied().map(BrokerId).collect());
    let targets = partitions.into_iter().map(|it| (it, target.clone())).collect();
    let results: PerPartition<()> = admin.alter_reassignments(&targets).await?;
    let what = if reassign.cancel { "cancelled" } else { "begun" };
    let mut outcomes = Outcomes::default();
    for (partition, result) in results {
        outcomes.take(&partition, what, result);
    }
    outcomes.finish(format)
}
