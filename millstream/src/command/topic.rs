//! `millstream topic`: creates, lists, describes and deletes topics of any Kafka cluster.
//!
//! Shell.

use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;
use client::admin::{Admin, NewTopic};
use client::bootstrap::Bootstrap;

/// How long to wait for the cluster.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Create, list, describe and delete topics.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Brokers to ask first, separated by commas.
    #[arg(long, default_value = "localhost:9092", value_name = "HOST:PORT,…", global = true)]
    bootstrap: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Create a topic.
    Create {
        /// Its name.
        name: String,
        /// How many partitions.
        #[arg(long, default_value_t = 1)]
        partitions: i32,
        /// A setting by its Kafka name; may be given often.
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// List the topics.
    List,
    /// Describe a topic: its partitions, their leaders and in-sync replicas.
    Describe {
        /// Its name.
        name: String,
    },
    /// Delete a topic with all its records.
    Delete {
        /// Its name.
        name: String,
    },
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let bootstrap = Bootstrap::tcp(&arguments.bootstrap).context("--bootstrap")?;
    let admin = Admin::connect(bootstrap.client_id("millstream"), TIMEOUT).await;
    let admin = admin.with_context(|| format!("no broker at {}", arguments.bootstrap))?;
    match arguments.verb {
        Verb::Create { name, partitions, set } => {
            let mut topic = NewTopic::new(&name, partitions);
            for setting in &set {
                let pair = setting.split_once('=');
                let (key, value) =
                    pair.with_context(|| format!("--set {setting}: expected KEY=VALUE"))?;
                topic = topic.config(key, value);
            }
            admin.create_topic(topic).await.with_context(|| format!("topic {name}"))?;
            println!("created {name}");
        }
        Verb::List => {
            for name in admin.list_topics().await? {
                println!("{name}");
            }
        }
        Verb::Describe { name } => describe(&admin, &name).await?,
        Verb::Delete { name } => {
            let deleted = admin.delete_topics(&[&name]).await?;
            for (name, result) in deleted {
                result.with_context(|| format!("topic {name}"))?;
                println!("deleted {name}");
            }
        }
    }
    Ok(())
}

async fn describe(admin: &Admin, name: &str) -> anyhow::Result<()> {
    let described = admin.describe_topics(&[name]).await?;
    for (name, description) in described {
        let topic = description.with_context(|| format!("topic {name}"))?;
        println!("{name}  id {}", topic.id);
        for (index, partition) in &topic.partitions {
            let leader = partition.leader.map_or("none".to_owned(), |it| it.to_string());
            let ids = |ids: &[protocol::ids::BrokerId]| {
                ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            };
            println!(
                "  {index}  leader {leader} (epoch {})  replicas {}  in sync {}",
                partition.leader_epoch,
                ids(&partition.replicas),
                ids(&partition.in_sync_replicas),
            );
        }
    }
    Ok(())
}
