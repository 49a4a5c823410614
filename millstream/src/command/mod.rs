//! The commands of the binary.
//!
//! Shell.

pub(crate) mod advice;
mod bench;
mod broker;
mod cluster;
mod completions;
mod config;
mod connect;
mod consume;
mod group;
mod log_dir;
mod output;
mod produce;
mod progress;
mod quorum;
mod quota;
mod reach;
mod record_text;
mod settings_file;
mod topic;
mod txn;
mod values;

use anyhow::Context;
use clap::Subcommand;

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a broker.
    Broker(broker::Arguments),
    /// Run connectors from their config files.
    Connect(connect::Arguments),
    /// Measure throughput and latency.
    Bench(bench::Arguments),
    /// Create, list, describe, grow, empty, explain and delete topics.
    Topic(topic::Arguments),
    /// List, describe and delete groups; move and forget what they have committed.
    Group(group::Arguments),
    /// Write the lines of stdin into a topic.
    Produce(produce::Arguments),
    /// Print the records of a topic.
    Consume(consume::Arguments),
    /// Describe, alter and list the settings of topics, brokers, groups and clients.
    Config(config::Arguments),
    /// List, describe and end transactions; find those that hang.
    Txn(txn::Arguments),
    /// Describe and alter quotas of users, client ids and addresses.
    Quota(quota::Arguments),
    /// Describe the quorum that keeps the metadata log.
    Quorum(quorum::Arguments),
    /// Describe log directories.
    LogDir(log_dir::Arguments),
    /// Describe the cluster; elect leaders, move partitions, change features.
    Cluster(cluster::Arguments),
    /// Print completions for a shell.
    Completions(completions::Arguments),
}

impl Command {
    /// What is logged unless somebody says otherwise: those who serve tell of their life, those
    /// who answer one question of trouble alone.
    pub(crate) fn default_log(&self) -> &'static str {
        match self {
            Self::Broker(_) | Self::Connect(_) | Self::Bench(_) => "info,openraft=warn",
            Self::Topic(_)
            | Self::Group(_)
            | Self::Produce(_)
            | Self::Consume(_)
            | Self::Config(_)
            | Self::Txn(_)
            | Self::Quota(_)
            | Self::Quorum(_)
            | Self::LogDir(_)
            | Self::Cluster(_)
            | Self::Completions(_) => "warn",
        }
    }
}

/// Carries out one command.
pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("the runtime did not start")?;
    let done = runtime.block_on(async {
        match command {
            Command::Broker(arguments) => broker::run(arguments).await,
            Command::Connect(arguments) => connect::run(arguments).await,
            Command::Bench(arguments) => bench::run(arguments).await,
            Command::Topic(arguments) => topic::run(arguments).await,
            Command::Group(arguments) => group::run(arguments).await,
            Command::Produce(arguments) => produce::run(arguments).await,
            Command::Consume(arguments) => consume::run(arguments).await,
            Command::Config(arguments) => config::run(arguments).await,
            Command::Txn(arguments) => txn::run(arguments).await,
            Command::Quota(arguments) => quota::run(arguments).await,
            Command::Quorum(arguments) => quorum::run(arguments).await,
            Command::LogDir(arguments) => log_dir::run(arguments).await,
            Command::Cluster(arguments) => cluster::run(arguments).await,
            Command::Completions(arguments) => completions::run(&arguments),
        }
    });
    // A read of stdin that is under way cannot be called off: waiting for it would be for ever.
    runtime.shutdown_background();
    done
}

/// Resolves when the process is asked to end: Ctrl-C or SIGTERM.
pub(crate) async fn asked_to_end() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("no handler for SIGTERM")?;
    tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => interrupted.context("no handler for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}
