//! The cluster that is measured: a broker of the run's own, or one elsewhere.
//!
//! The own broker has a runtime of its own, so that its threads can be told from the client's, and
//! a directory of its own, which goes when the run ends. It is reached over TCP like any other.
//! Shell.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use broker::config::BrokerConfig;
use broker::{Broker, BrokerHandle, Outside};
use client::admin::{Admin, NewTopic};
use client::bootstrap::Bootstrap;
use tokio::runtime::Runtime;

use super::Load;
use super::usage::{BROKER_THREADS, CpuTime, Used, peak_memory_bytes};

/// How long to wait for the cluster.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A cluster to measure.
pub(super) struct Target {
    bootstrap: Bootstrap,
    admin: Admin,
    own: Option<Own>,
    topics: Vec<String>,
}

struct Own {
    runtime: Background,
    handle: BrokerHandle,
    dir: TemporaryDir,
}

/// A directory that is deleted when this is dropped.
pub(super) struct TemporaryDir(PathBuf);

impl TemporaryDir {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // What cannot be deleted stays; the next run takes another name.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Target {
    /// Reaches the cluster, starting a broker if none is named.
    pub(super) async fn reach(load: &Load) -> anyhow::Result<Self> {
        let (servers, own) = match &load.bootstrap {
            Some(servers) => (servers.clone(), None),
            None => {
                let own = Own::start(load).await?;
                let endpoint = own.handle.endpoints().first().context("no listener")?;
                (endpoint.to_string(), Some(own))
            }
        };
        let mut bootstrap = Bootstrap::tcp(&servers).context("--bootstrap")?;
        if let Some(path) = &load.command_config {
            bootstrap = crate::command::reach::secured(bootstrap, path).await?;
        }
        let bootstrap = bootstrap.client_id("millstream-bench");
        let admin = Admin::connect(bootstrap.clone(), TIMEOUT).await;
        let admin = admin.with_context(|| format!("no broker at {servers}"))?;
        Ok(Self { bootstrap, admin, own, topics: Vec::new() })
    }

    /// How clients reach it.
    pub(super) fn bootstrap(&self) -> Bootstrap {
        self.bootstrap.clone()
    }

    /// What a run used that took so much CPU time.
    pub(super) fn used(&self, cpu: CpuTime) -> std::io::Result<Used> {
        let peak_memory_bytes = peak_memory_bytes()?;
        Ok(Used { cpu, has_broker: self.own.is_some(), peak_memory_bytes })
    }

    /// Creates a topic that no run used before; it is deleted at the end.
    pub(super) async fn fresh_topic(&mut self, load: &Load) -> anyhow::Result<String> {
        let number = self.topics.len();
        let started = self.bootstrap.clock.now().wall;
        let name = format!("bench-{started}-{}-{number}", std::process::id());
        let topic = NewTopic::new(&name, load.partitions);
        self.admin.create_topic(topic).await.with_context(|| format!("topic {name}"))?;
        self.topics.push(name.clone());
        Ok(name)
    }

    /// A directory that no run used before, for what a workload writes besides. It goes with the run.
    pub(super) fn scratch(load: &Load) -> TemporaryDir {
        let parent = load.dir.clone().unwrap_or_else(std::env::temp_dir);
        TemporaryDir(parent.join(format!("millstream-bench-output-{}", std::process::id())))
    }

    /// Leaves nothing behind.
    pub(super) async fn leave(self) -> anyhow::Result<()> {
        let Self { admin, own, topics, .. } = self;
        let Some(Own { runtime, handle, dir }) = own else {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            for (name, deleted) in admin.delete_topics(&names).await? {
                deleted.with_context(|| format!("topic {name}"))?;
            }
            return Ok(());
        };
        drop(admin);
        let ended = runtime.get().spawn(handle.shutdown()).await;
        drop(runtime);
        drop(dir);
        ended.context("the broker's end")?.context("the broker's shutdown")
    }
}

impl Own {
    async fn start(load: &Load) -> anyhow::Result<Self> {
        let parent = load.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = TemporaryDir(parent.join(format!("millstream-bench-{}", std::process::id())));
        let pairs = [
            ("log.dir", dir.0.display().to_string()),
            ("listeners", "PLAINTEXT://127.0.0.1:0".to_owned()),
            ("flush.mode", load.flush_mode.clone()),
            // Waiting for members that will not come would be measured as work.
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
            // Whatever batch is asked for must be accepted.
            ("message.max.bytes", (super::REQUEST_BYTES_MAX * 2).to_string()),
        ];
        let config = BrokerConfig::from_pairs(pairs).context("the broker's settings")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name(BROKER_THREADS)
            .enable_all()
            .build()
            .context("the broker's runtime did not start")?;
        let runtime = Background(Some(runtime));
        let started = runtime.get().spawn(Broker::start(config, Outside::real())).await;
        match started.context("the broker's start")? {
            Ok(handle) => Ok(Self { runtime, handle, dir }),
            Err(error) => Err(error).context("the broker"),
        }
    }
}

/// A runtime that may be dropped within another one, whatever ends the run.
struct Background(Option<Runtime>);

impl Background {
    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("taken when dropped alone")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
