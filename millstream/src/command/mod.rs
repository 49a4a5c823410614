//! The commands of the binary.
//!
//! Shell.

mod bench;
mod broker;
mod connect;
mod topic;

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
    /// Create, list, describe and delete topics.
    Topic(topic::Arguments),
}

/// Carries out one command.
pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("the runtime did not start")?;
    runtime.block_on(async {
        match command {
            Command::Broker(arguments) => broker::run(arguments).await,
            Command::Connect(arguments) => connect::run(arguments).await,
            Command::Bench(arguments) => bench::run(arguments).await,
            Command::Topic(arguments) => topic::run(arguments).await,
        }
    })
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
