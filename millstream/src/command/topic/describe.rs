//! `millstream topic describe`. Shell.

use std::collections::BTreeSet;

use client::Admin;
use client::admin::{ConfigResource, PartitionDescription, TopicDescription};
use protocol::ids::BrokerId;
use serde_json::{Value, json};

use super::super::output::{self, Cell, Format, Sheet};
use super::super::reach;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Their names. Default: all topics.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only partitions without a leader. Default: all partitions.
    #[arg(long)]
    unavailable_partitions: bool,
    /// Only partitions with replicas that are not in sync. Default: all partitions.
    #[arg(long)]
    under_replicated_partitions: bool,
    /// Only partitions with fewer in-sync replicas than min.insync.replicas. Default: all
    /// partitions.
    #[arg(long)]
    under_min_isr_partitions: bool,
    /// Only partitions with just as many in-sync replicas as min.insync.replicas. Default: all
    /// partitions.
    #[arg(long)]
    at_min_isr_partitions: bool,
    /// Leave out the topics of the brokers themselves. Default: they are described when no name is
    /// given.
    #[arg(long)]
    exclude_internal: bool,
}

impl Arguments {
    fn filters(&self) -> bool {
        self.unavailable_partitions
            || self.under_replicated_partitions
            || self.under_min_isr_partitions
            || self.at_min_isr_partitions
    }

    /// Whether a partition is asked for, in a topic of this `min.insync.replicas`.
    fn wants(&self, partition: &PartitionDescription, min_isr: usize) -> bool {
        let in_sync = partition.in_sync_replicas.len();
        !self.filters()
            || (self.unavailable_partitions && partition.leader.is_none())
            || (self.under_replicated_partitions && in_sync < partition.replicas.len())
            || (self.under_min_isr_partitions && in_sync < min_isr)
            || (self.at_min_isr_partitions && in_sync == min_isr)
    }
}

/// A topic with what it sets itself.
struct Described {
    topic: TopicDescription,
    own_configs: Vec<(String, String)>,
    min_isr: usize,
}

pub(super) async fn run(admin: &Admin, arguments: Arguments, format: Format) -> anyhow::Result<()> {
    let names: BTreeSet<String> = if arguments.names.is_empty() {
        let all = admin.describe_all_topics().await?.into_iter();
        let is_wanted =
            |topic: &TopicDescription| !(arguments.exclude_internal && topic.is_internal);
        all.filter(|(_, it)| it.as_ref().is_ok_and(is_wanted)).map(|(name, _)| name).collect()
    } else {
        arguments.names.iter().cloned().collect()
    };
    let mut described = Vec::new();
    for (name, topic) in reach::topics(admin, &names).await? {
        let configs = admin.describe_configs(&ConfigResource::Topic(name)).await?;
        let min_isr = configs.get("min.insync.replicas").and_then(|it| it.value.as_ref());
        let min_isr = min_isr.and_then(|it| it.parse().ok()).unwrap_or(1);
        let own =
            configs.into_iter().filter(|(_, it)| it.source == client::admin::ConfigSource::Topic);
        let own_configs =
            own.map(|(name, it)| (name, it.value.unwrap_or_else(|| "(hidden)".to_owned())));
        described.push(Described { topic, own_configs: own_configs.collect(), min_isr });
    }
    match format {
        Format::Json => {
            output::print_json(&described.iter().map(|it| json(it, &arguments)).collect())?;
        }
        Format::Table => {
            output::write(&described.iter().map(|it| text(it, &arguments)).collect::<String>())?;
        }
    }
    Ok(())
}

fn sheet(described: &Described, arguments: &Arguments) -> Sheet {
    let columns =
        ["partition", "leader", "leader_epoch", "replicas", "in_sync_replicas", "offline_replicas"];
    let mut sheet = Sheet::new(&columns);
    let ids = |ids: &[BrokerId]| Cell::Numbers(ids.iter().map(|it| i64::from(it.0)).collect());
    for (index, it) in &described.topic.partitions {
        if arguments.wants(it, described.min_isr) {
            sheet.push(vec![
                Cell::Number(index.0.into()),
                Cell::number(it.leader.map(|it| it.0.into())),
                Cell::Number(it.leader_epoch.0.into()),
                ids(&it.replicas),
                ids(&it.in_sync_replicas),
                ids(&it.offline_replicas),
            ]);
        }
    }
    sheet
}

fn replication_factor(topic: &TopicDescription) -> usize {
    topic.partitions.values().map(|it| it.replicas.len()).max().unwrap_or(0)
}

fn text(described: &Described, arguments: &Arguments) -> String {
    let sheet = sheet(described, arguments);
    if arguments.filters() && sheet.is_empty() {
        return String::new();
    }
    let Described { topic, own_configs, .. } = described;
    let (count, replicas) = (topic.partitions.len(), replication_factor(topic));
    let name = &topic.name;
    let mut text = format!(
        "topic {name}  id {}  partitions {count}  replication factor {replicas}\n",
        topic.id
    );
    for (name, value) in own_configs {
        text.push_str(&format!("  {name}={value}\n"));
    }
    for line in sheet.table().lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

fn json(described: &Described, arguments: &Arguments) -> Value {
    let Described { topic, own_configs, min_isr } = described;
    json!({
        "topic": topic.name,
        "topic_id": topic.id.to_string(),
        "is_internal": topic.is_internal,
        "partition_count": topic.partitions.len(),
        "replication_factor": replication_factor(topic),
        "min_insync_replicas": min_isr,
        "configs": own_configs.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "partitions": sheet(described, arguments).json(),
    })
}
