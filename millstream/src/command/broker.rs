//! `millstream broker`: runs a broker until it is asked to end.
//!
//! Shell.

use std::path::PathBuf;

use anyhow::Context;
use broker::config::BrokerConfig;
use broker::{Broker, Outside};

/// Run a broker. Without options it keeps its data in ./data and listens on localhost:9092.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the data lie; created if missing.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen. Port 0 takes a free one; the line that says "broker started" names it.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// A setting by its Kafka name; may be given often.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print every setting with its default, range and meaning, and end.
    #[arg(long)]
    settings: bool,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if arguments.settings {
        println!("{}", protocol::config::markdown(BrokerConfig::DEFS));
        return Ok(());
    }
    let config = BrokerConfig::from_pairs(pairs(&arguments)?).context("the settings")?;
    let handle = Broker::start(config, Outside::real()).await.context("the broker")?;
    for endpoint in handle.endpoints() {
        println!("broker started: {endpoint}");
    }
    tokio::select! {
        biased;
        asked = super::asked_to_end() => asked?,
        () = handle.closed() => {}
    }
    handle.shutdown().await.context("shutdown")
}

fn pairs(arguments: &Arguments) -> anyhow::Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    if let Some(dir) = &arguments.data_dir {
        pairs.push(("log.dir".to_owned(), dir.display().to_string()));
    }
    if let Some(listen) = &arguments.listen {
        pairs.push(("listeners".to_owned(), format!("PLAINTEXT://{listen}")));
    }
    for setting in &arguments.set {
        let (key, value) = setting
            .split_once('=')
            .with_context(|| format!("--set {setting}: expected KEY=VALUE"))?;
        pairs.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(pairs)
}
