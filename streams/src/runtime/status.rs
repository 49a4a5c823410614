//! What an application lets others see of itself while it runs.
//!
//! Workers write, handles read; both through watch channels, so nobody waits for anybody and a
//! late reader sees the newest state. Shell.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::ids::{Offset, TopicPartition};
use tokio::sync::watch;

use super::error::AppError;
use crate::processor::Counters;

/// How far an application, or one of its workers, has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AppState {
    /// Reaching the cluster and joining the group.
    Starting,
    /// Partitions are being handed out, or state is being restored.
    Rebalancing,
    /// Processing.
    Running,
    /// Asked to stop; committing what is done.
    Stopping,
    /// Stopped, everything that was processed being committed.
    Stopped,
    /// Stopped by an error; what was not committed is rolled back.
    Failed,
}

/// One worker as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkerStatus {
    pub(super) state: AppState,
    pub(super) counters: Metrics,
}

/// What an application counts. All only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// What its tasks count: records processed, dropped, skipped.
    pub tasks: Counters,
    /// Records handed to the producer, changelogs included.
    pub produced: u64,
    /// Transactions, or for at-least-once rounds, that were committed.
    pub commits: u64,
    /// Transactions that were aborted.
    pub aborts: u64,
    /// Changelog records that were restored.
    pub restored: u64,
}

impl Metrics {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            tasks: self.tasks.plus(other.tasks),
            produced: self.produced + other.produced,
            commits: self.commits + other.commits,
            aborts: self.aborts + other.aborts,
            restored: self.restored + other.restored,
        }
    }
}

/// All workers of an application as others see them.
#[derive(Debug, Clone)]
pub(super) struct Status {
    pub(super) workers: Vec<WorkerStatus>,
    pub(super) failure: Option<Arc<AppError>>,
}

impl Status {
    /// The state of the whole: failed if one worker failed, else that of the slowest still at work.
    pub(super) fn state(&self) -> AppState {
        if self.failure.is_some() {
            return AppState::Failed;
        }
        self.workers.iter().map(|worker| worker.state).min().unwrap_or(AppState::Stopped)
    }

    /// True when no worker runs any more.
    pub(super) fn is_over(&self) -> bool {
        let over = |state| matches!(state, AppState::Stopped | AppState::Failed);
        self.workers.iter().all(|worker| over(worker.state))
    }
}

/// Where workers say how they are.
#[derive(Debug, Clone)]
pub(super) struct Board {
    pub(super) status: Arc<watch::Sender<Status>>,
    pub(super) committed: Arc<watch::Sender<BTreeMap<TopicPartition, Offset>>>,
}

impl Board {
    pub(super) fn new(workers: usize) -> Self {
        let starting = WorkerStatus { state: AppState::Starting, counters: Metrics::default() };
        let status = Status { workers: vec![starting; workers], failure: None };
        Self {
            status: Arc::new(watch::Sender::new(status)),
            committed: Arc::new(watch::Sender::new(BTreeMap::new())),
        }
    }

    /// Worker `index` is in `state` now.
    pub(super) fn state(&self, index: usize, state: AppState) {
        self.status.send_if_modified(|status| {
            let before = std::mem::replace(&mut status.workers[index].state, state);
            before != state
        });
    }

    /// What worker `index` has counted.
    pub(super) fn count(&self, index: usize, counters: Metrics) {
        self.status.send_if_modified(|status| {
            let before = std::mem::replace(&mut status.workers[index].counters, counters);
            before != counters
        });
    }

    /// Worker `index` failed, and the application with it. The first failure is the one shown.
    pub(super) fn fail(&self, index: usize, error: AppError) {
        self.status.send_modify(|status| {
            status.workers[index].state = AppState::Failed;
            status.failure.get_or_insert_with(|| Arc::new(error));
        });
    }

    /// These positions are committed.
    pub(super) fn committed(&self, offsets: BTreeMap<TopicPartition, Offset>) {
        self.committed.send_if_modified(|known| {
            let mut changed = false;
            for (partition, offset) in offsets {
                changed |= known.insert(partition, offset) != Some(offset);
            }
            changed
        });
    }
}
