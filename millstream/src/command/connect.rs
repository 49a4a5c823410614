//! `millstream connect`: runs connectors, each from a file of its own, until it is asked to end.
//!
//! Shell.

use std::path::PathBuf;

use anyhow::Context;
use client::bootstrap::Bootstrap;
use connect::Standalone;
use connect::config::WorkerConfig;
use connect::sdk::Config;

/// Run connectors from their config files, TOML or JSON.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Brokers to ask first, separated by commas.
    #[arg(
        long = "bootstrap-server",
        visible_alias = "bootstrap",
        env = "MILLSTREAM_BOOTSTRAP",
        default_value = "localhost:9092",
        value_name = "HOST:PORT,…"
    )]
    bootstrap: String,
    /// A file of settings for security, as Kafka's tools take it: security.protocol, ssl.…, sasl.….
    /// Default: none, connections are in clear.
    #[arg(long, env = "MILLSTREAM_COMMAND_CONFIG", value_name = "FILE")]
    command_config: Option<PathBuf>,
    /// One file per connector.
    #[arg(required = true, value_name = "FILE")]
    configs: Vec<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut bootstrap = Bootstrap::tcp(&arguments.bootstrap).context("--bootstrap-server")?;
    if let Some(path) = &arguments.command_config {
        bootstrap = super::reach::secured(bootstrap, path).await?;
    }
    let mut configs = Vec::new();
    for path in &arguments.configs {
        let name = path.display().to_string();
        let text = tokio::fs::read_to_string(path).await.with_context(|| name.clone())?;
        configs.push(Config::parse(name, &text)?);
    }
    let config = WorkerConfig::new(bootstrap.client_id("millstream-connect"));
    let worker = Standalone::new(config, connectors::registry());
    let mut running = worker.run(&configs).await.context("the connectors")?;
    tokio::select! {
        biased;
        asked = super::asked_to_end() => asked?,
        () = all_over(&mut running) => {}
    }
    let status = running.stop().await;
    let failed: Vec<_> = status.iter().filter(|it| it.has_failed()).collect();
    for connector in &failed {
        for error in connector.tasks.iter().filter_map(|task| task.last_error.as_ref()) {
            eprintln!("{}: {error}", connector.name);
        }
    }
    anyhow::ensure!(failed.is_empty(), "{} of {} connectors failed", failed.len(), status.len());
    Ok(())
}

/// Resolves when no task has anything left to do.
async fn all_over(running: &mut connect::Running) {
    use connect::status::TaskState::{Failed, Finished, Stopped};
    let is_over = |running: &connect::Running| {
        let status = running.status();
        let mut states = status.iter().flat_map(|it| &it.tasks).map(|task| &task.state);
        states.all(|state| matches!(state, Failed | Finished | Stopped))
    };
    while !is_over(running) {
        running.changed().await;
    }
}
