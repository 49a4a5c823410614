//! Running a topology against a cluster.
//!
//! An [`App`] is a consumer group whose members are its workers: one thread each, with a consumer,
//! a transactional producer and the tasks of the partitions that the group gave it. A worker polls,
//! processes, produces, and every commit interval ends one transaction with the output, the
//! changelogs and the input offsets of all its tasks in it (KIP-447). State, output and offsets
//! therefore move together or not at all.
//!
//! | state | what happens |
//! |---|---|
//! | starting | topics are created, the group is joined |
//! | rebalancing | tasks are handed out; changelogs are read to their committed ends |
//! | running | poll, process, commit |
//! | stopping | the last transaction is committed, the group is left |
//! | stopped, failed | no worker runs; a failure rolled its transaction back |
//!
//! The same worker runs on its own thread in production and inside the simulator's only thread:
//! [`App::run_local`]. Shell.

mod error;
mod plan;
mod restore;
mod session;
mod status;
mod tasks;
mod topics;
mod worker;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use client::admin::Admin;
use client::bootstrap::Bootstrap;
use protocol::ids::{Offset, TopicPartition};
use protocol::rng::Rng;
use tokio::sync::watch;
use tokio::time::timeout;

pub use self::error::AppError;
pub use self::status::{AppState, Metrics};
use self::status::{Board, Status};
use self::worker::{Settings, Worker};
use crate::topology::Topology;

/// How long the first questions to the cluster may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(60);

/// What an application promises about its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guarantee {
    /// Every input record has its effect once, as seen by `read_committed` consumers.
    #[default]
    ExactlyOnce,
    /// Every input record has its effect once or, after a failure, more often.
    AtLeastOnce,
}

/// An application about to run.
#[derive(Debug, Clone)]
pub struct App {
    id: Arc<str>,
    topology: Topology,
    servers: Option<String>,
    bootstrap: Option<Bootstrap>,
    instance: Option<Arc<str>>,
    threads: usize,
    replication_factor: Option<i16>,
    guarantee: Guarantee,
    commit_interval: Duration,
    session_timeout: Duration,
    transaction_timeout: Duration,
}

impl App {
    /// The application `id`, which is its group and the beginning of its internal topics' names.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, topology: Topology) -> Self {
        Self {
            id: id.into(),
            topology,
            servers: None,
            bootstrap: None,
            instance: None,
            threads: 1,
            replication_factor: None,
            guarantee: Guarantee::default(),
            commit_interval: Duration::from_millis(100),
            session_timeout: Duration::from_secs(45),
            // Short, so that readers of a crashed worker's output wait no longer (KAFKA-9809).
            transaction_timeout: Duration::from_secs(10),
        }
    }

    /// Reaches the cluster over TCP: `one:9092,two:9092`.
    #[must_use]
    pub fn bootstrap(mut self, servers: &str) -> Self {
        self.servers = Some(servers.to_owned());
        self
    }

    /// Reaches the cluster over any network, by any clock, from any seed.
    #[must_use]
    pub fn connect_with(mut self, bootstrap: Bootstrap) -> Self {
        self.bootstrap = Some(bootstrap);
        self
    }

    /// What is promised about the output. Without this: exactly once.
    #[must_use]
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.guarantee = guarantee;
        self
    }

    /// How long what is processed waits to be committed, and so to be seen, at most. Without this
    /// 100 ms.
    #[must_use]
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// How many workers this instance runs. Without this one; `run_local` runs one in any case.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Names this instance; of all that run at a time, each needs its own. A restarted instance of
    /// the same name ends at once what its predecessor left open. Without this: by chance.
    #[must_use]
    pub fn instance_id(mut self, instance: impl Into<Arc<str>>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// How many replicas internal topics get. Without this: as the broker is set.
    #[must_use]
    pub fn replication_factor(mut self, replicas: i16) -> Self {
        self.replication_factor = Some(replicas);
        self
    }

    /// After how long without a sign of life a worker's partitions go to others. Without this 45 s.
    #[must_use]
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// After how long the broker aborts a transaction that its producer does not end: the longest
    /// that one commit may take. Without this 10 s.
    #[must_use]
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.transaction_timeout = timeout;
        self
    }

    /// Creates the internal topics, then runs each worker on a thread of its own.
    ///
    /// # Errors
    /// When the cluster cannot be reached, or the topology does not fit the topics that exist.
    pub async fn start(self) -> Result<AppHandle, AppError> {
        let threads = self.threads;
        let (handle, settings) = self.prepare(threads).await?;
        for (index, settings) in settings.into_iter().enumerate() {
            let (board, stop) = (handle.board.clone(), handle.stop.subscribe());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let name = format!("{}-{index}", settings.app);
            let worker = Worker::new(index, settings, board, stop);
            let run = move || runtime.block_on(worker.run());
            std::thread::Builder::new().name(name).spawn(run)?;
        }
        Ok(handle)
    }

    /// Creates the internal topics; gives the only worker as a future, to be polled by whoever owns
    /// the thread. It ends when the application does, and holds the tasks: it cannot change threads.
    ///
    /// # Errors
    /// As [`App::start`].
    pub async fn run_local(
        self,
    ) -> Result<(AppHandle, Pin<Box<dyn Future<Output = ()>>>), AppError> {
        let (handle, mut settings) = self.prepare(1).await?;
        let settings = settings.pop().expect("one worker was asked for");
        let worker = Worker::new(0, settings, handle.board.clone(), handle.stop.subscribe());
        Ok((handle, Box::pin(worker.run())))
    }

    async fn prepare(self, workers: usize) -> Result<(AppHandle, Vec<Settings>), AppError> {
        let bootstrap = match (self.bootstrap, self.servers) {
            (Some(bootstrap), _) => bootstrap,
            (None, Some(servers)) => Bootstrap::tcp(&servers)?,
            (None, None) => return Err(AppError::NoBootstrap),
        };
        let bootstrap = bootstrap.client_id(Arc::clone(&self.id));
        let mut rng = Rng::new(bootstrap.seed);
        let admin = Admin::connect(bootstrap.clone(), ADMIN_TIMEOUT).await?;
        topics::ensure(&admin, &self.topology, &self.id, self.replication_factor).await?;
        let by_chance = format!("{:016x}", rng.next_u64());
        let instance = self.instance.unwrap_or_else(|| Arc::from(by_chance));
        let settings = (0..workers).map(|index| Settings {
            app: Arc::clone(&self.id),
            topology: self.topology.clone(),
            bootstrap: bootstrap.clone().seed(rng.next_u64()),
            transactional_id: format!("{}-{instance}-{index}", self.id),
            writer: rng.next_u64(),
            guarantee: self.guarantee,
            commit_interval: self.commit_interval,
            session_timeout: self.session_timeout,
            transaction_timeout: self.transaction_timeout,
        });
        let settings = settings.collect();
        let (board, stop) = (Board::new(workers), watch::Sender::new(false));
        Ok((AppHandle { board, stop }, settings))
    }
}

/// A running application. Dropping it stops the application without waiting.
#[derive(Debug)]
pub struct AppHandle {
    board: Board,
    stop: watch::Sender<bool>,
}

impl AppHandle {
    /// How far the application has come.
    #[must_use]
    pub fn state(&self) -> AppState {
        self.board.status.borrow().state()
    }

    /// Waits until every worker processes.
    ///
    /// # Errors
    /// Why the application failed instead.
    pub async fn running(&self) -> Result<(), Arc<AppError>> {
        self.until(|status| status.state() >= AppState::Running).await
    }

    /// Waits until no worker runs any more.
    ///
    /// # Errors
    /// Why the application failed.
    pub async fn stopped(&self) -> Result<(), Arc<AppError>> {
        self.until(Status::is_over).await
    }

    async fn until(&self, reached: impl FnMut(&Status) -> bool) -> Result<(), Arc<AppError>> {
        let mut watched = self.board.status.subscribe();
        let status = watched.wait_for(reached).await.expect("the handle keeps the sender");
        status.failure.clone().map_or(Ok(()), Err)
    }

    /// The committed position of each input partition that this instance has had, as it changes:
    /// the offset of the first record whose effects are not committed.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<BTreeMap<TopicPartition, Offset>> {
        self.board.committed.subscribe()
    }

    /// Waits until everything below `ends` is processed and committed. For an instance that has all
    /// of these partitions, as in a batch job.
    ///
    /// # Errors
    /// Why the application ended before.
    pub async fn caught_up(
        &self,
        ends: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), Arc<AppError>> {
        let mut committed = self.committed();
        let reached = committed.wait_for(|committed| {
            let at = |partition| committed.get(partition).copied().unwrap_or(Offset::ZERO);
            ends.iter().all(|(partition, end)| at(partition) >= *end)
        });
        tokio::select! {
            biased;
            reached = reached => reached.map(drop).map_err(|_| Arc::new(AppError::Stopped)),
            over = self.stopped() => over.and(Err(Arc::new(AppError::Stopped))),
        }
    }

    /// What all workers have counted.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let status = self.board.status.borrow();
        status.workers.iter().fold(Metrics::default(), |sum, worker| sum.plus(worker.counters))
    }

    /// Commits what is processed, leaves the group, and waits until all workers have stopped.
    ///
    /// # Errors
    /// `TimedOut` after `within`: workers go on stopping. Otherwise why the application failed.
    pub async fn shutdown(&self, within: Duration) -> Result<(), Arc<AppError>> {
        self.stop.send_replace(true);
        let what = "stop the application";
        timeout(within, self.stopped())
            .await
            .unwrap_or_else(|_| Err(Arc::new(AppError::TimedOut { what, timeout: within })))
    }
}

#[cfg(test)]
mod tests;
