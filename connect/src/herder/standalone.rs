//! All connectors in one process, from settings given at the start.
//!
//! Settings are read whole before anything starts; the offsets topic is created if it is missing. Each task
//! runs by itself: a failing connector does not disturb the others. Stopping lets each task commit what it has
//! polled, or flush and commit what it was given. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::admin::{Admin, NewTopic};
use client::config::{Compression, ProducerConfig};
use client::error::RequestError;
use protocol::error_code::ErrorCode;
use protocol::rng::Rng;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::config::{ConnectorConfig, WorkerConfig};
use crate::registry::Registry;
use crate::sdk::{
    Config, ConfigErrors, Connector, Offset, StopSource, TaskContext, TopicPartition,
};
use crate::status::{ConnectorStatus, Direction, TaskStatus};
use crate::worker::sink_shell::{ASKS_MAX, Ask};
use crate::worker::supervisor::supervise;
use crate::worker::{Publisher, TaskSetup};

/// How long the cluster may take to answer at the start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a worker did not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings are wrong; all errors.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The cluster does not answer, or refuses.
    #[error("offsets topic {topic}: {source}")]
    Offsets {
        /// The topic that was to be there.
        topic: Arc<str>,
        /// Why it is not.
        source: RequestError,
    },
}

/// A worker of one process, not yet running.
#[derive(Debug)]
pub struct Standalone {
    config: WorkerConfig,
    registry: Registry,
}

impl Standalone {
    /// A worker that has the connectors of `registry`.
    #[must_use]
    pub fn new(config: WorkerConfig, registry: Registry) -> Self {
        Self { config, registry }
    }

    /// Starts all connectors. Call it inside a runtime.
    ///
    /// # Errors
    /// Settings are wrong, or the cluster cannot be reached; may be tried again then.
    pub async fn run(self, configs: &[Config]) -> Result<Running, StartError> {
        let connectors = ConnectorConfig::read_all(configs, &self.registry)?;
        self.create_offsets_topic().await?;
        let mut running = Running {
            stop: StopSource::default(),
            tasks: JoinSet::new(),
            connectors: BTreeMap::new(),
        };
        let mut rng = Rng::new(self.config.bootstrap.seed);
        for connector in connectors {
            running.start(&self.config, connector, &mut rng);
        }
        Ok(running)
    }

    async fn create_offsets_topic(&self) -> Result<(), StartError> {
        let WorkerConfig { bootstrap, offsets_topic, offsets_partitions, replication_factor } =
            &self.config;
        let failed = |source| StartError::Offsets { topic: Arc::clone(offsets_topic), source };
        let admin = Admin::connect(bootstrap.clone(), START_TIMEOUT).await.map_err(failed)?;
        let topic = NewTopic::new(&**offsets_topic, *offsets_partitions)
            .replication_factor(*replication_factor)
            .config("cleanup.policy", "compact");
        match admin.create_topic(topic).await {
            Err(error) if error.error_code() != Some(ErrorCode::TopicAlreadyExists) => {
                Err(failed(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// A running connector as the worker sees it.
#[derive(Debug)]
struct Observed {
    direction: Direction,
    /// What a sink reads.
    topics: BTreeSet<Arc<str>>,
    tasks: Vec<watch::Receiver<TaskStatus>>,
    asks: Vec<mpsc::Sender<Ask>>,
}

/// A running worker. Dropping it ends all tasks where they are; what they have not committed is done
/// again by the next: [`stop`](Self::stop) it instead.
#[derive(Debug)]
pub struct Running {
    stop: StopSource,
    tasks: JoinSet<()>,
    connectors: BTreeMap<Arc<str>, Observed>,
}

impl Running {
    fn start(&mut self, worker: &WorkerConfig, connector: ConnectorConfig, rng: &mut Rng) {
        let connector = Arc::new(connector);
        let direction = match connector.connector {
            Connector::Source(_) => Direction::Source,
            Connector::Sink(_) => Direction::Sink,
        };
        let mut observed = Observed {
            direction,
            topics: connector.topics.clone(),
            tasks: Vec::new(),
            asks: Vec::new(),
        };
        for task in 0..connector.task_count {
            let name = Arc::clone(&connector.name);
            let context = TaskContext {
                connector: Arc::clone(&name),
                task,
                task_count: connector.task_count,
                clock: worker.bootstrap.clock.clone(),
                stopping: self.stop.listener(),
            };
            let setup = TaskSetup {
                name: Arc::clone(&name),
                task,
                bootstrap: worker.bootstrap.clone(),
                offsets_topic: Arc::clone(&worker.offsets_topic),
                producer: ProducerConfig {
                    compression: Compression::Lz4,
                    ..ProducerConfig::default()
                },
                retry: connector.retry,
                errors: connector.errors.clone(),
                seed: rng.next_u64(),
            };
            let (status, receiver) = watch::channel(TaskStatus::default());
            let (ask, asks) = mpsc::channel(ASKS_MAX);
            observed.tasks.push(receiver);
            observed.asks.push(ask);
            let publisher = Publisher::new(name, task, status);
            self.tasks.spawn(supervise(Arc::clone(&connector), setup, context, publisher, asks));
        }
        self.connectors.insert(Arc::clone(&connector.name), observed);
    }

    /// How all connectors are doing, by name.
    #[must_use]
    pub fn status(&self) -> Vec<ConnectorStatus> {
        let status = |(name, observed): (&Arc<str>, &Observed)| ConnectorStatus {
            name: Arc::clone(name),
            direction: observed.direction,
            tasks: observed.tasks.iter().map(|task| task.borrow().clone()).collect(),
        };
        self.connectors.iter().map(status).collect()
    }

    /// Waits until the status of some task changes. Cancel safe; a change between two calls is not missed.
    pub async fn changed(&mut self) {
        let receivers = self.connectors.values_mut().flat_map(|observed| &mut observed.tasks);
        let changes: Vec<_> = receivers
            .map(|task| {
                Box::pin(async move {
                    if task.changed().await.is_err() {
                        // A task that is over changes no more.
                        std::future::pending::<()>().await;
                    }
                })
            })
            .collect();
        if changes.is_empty() {
            return std::future::pending().await;
        }
        futures::future::select_all(changes).await;
    }

    /// Waits until each source has committed all that it found at its last poll, or has failed for good.
    pub async fn sources_drained(&mut self) {
        let is_open = |it: &ConnectorStatus| {
            it.direction == Direction::Source && !it.is_drained() && !it.has_failed()
        };
        while self.status().iter().any(is_open) {
            self.changed().await;
        }
    }

    /// Asks all sinks to make durable and commit what they have fetched so far, without waiting for their own
    /// rules. The committed offsets in [`status`](Self::status) tell when that is done.
    pub fn flush_sinks(&self) {
        for ask in self.connectors.values().flat_map(|observed| &observed.asks) {
            // A task that is over, or has been asked often enough already, needs no asking.
            let _is_heard = ask.try_send(Ask::FlushAll).is_ok();
        }
    }

    /// Waits until every sink has made durable and committed all below `ends` (exclusive) of the topics it reads, or
    /// has failed for good. Once a sink has been given all of that, it is asked to flush it.
    pub async fn sinks_committed(&mut self, ends: &BTreeMap<TopicPartition, Offset>) {
        let mut asked_at = None;
        loop {
            let sinks: Vec<ConnectorStatus> = self
                .status()
                .into_iter()
                .filter(|it| it.direction == Direction::Sink && !it.has_failed())
                .collect();
            let all = |has: fn(&ConnectorStatus) -> BTreeMap<TopicPartition, Offset>| {
                sinks.iter().all(|sink| {
                    let (has, topics) = (has(sink), &self.connectors[&sink.name].topics);
                    let wanted = ends
                        .iter()
                        .filter(|(at, end)| topics.contains(&at.topic) && **end > Offset::ZERO);
                    wanted.into_iter().all(|(at, end)| has.get(at) >= Some(end))
                })
            };
            if all(ConnectorStatus::committed) {
                return;
            }
            // A task that was started again has forgotten that it was asked.
            let restarts: u64 =
                sinks.iter().flat_map(|sink| &sink.tasks).map(|task| task.restarts).sum();
            if asked_at != Some(restarts) && all(ConnectorStatus::positions) {
                asked_at = Some(restarts);
                self.flush_sinks();
            }
            self.changed().await;
        }
    }

    /// Lets every task come to its end: sources commit what they polled, sinks flush and commit what they were
    /// given. Returns how the connectors ended.
    pub async fn stop(mut self) -> Vec<ConnectorStatus> {
        self.stop.stop();
        while self.tasks.join_next().await.is_some() {}
        self.status()
    }
}
