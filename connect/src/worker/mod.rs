//! Running tasks.
//!
//! - [`source`]: rounds of a source task, exactly once; [`sink`]: turns of a sink task; both pure
//! - [`delivery`]: how far one partition was delivered; pure
//! - [`tolerance`]: retries, restarts, bad records; pure
//! - [`source_shell`], [`sink_shell`]: carry out what these decide, with a producer and, through [`feed`], a consumer
//! - [`supervisor`]: starts a task again when it fails, and publishes how it is doing
//!
//! Shell.

pub(crate) mod delivery;
pub(crate) mod feed;
pub(crate) mod sink;
pub(crate) mod sink_shell;
pub(crate) mod source;
pub(crate) mod source_shell;
pub(crate) mod supervisor;
pub(crate) mod tolerance;

use std::sync::Arc;

use client::bootstrap::Bootstrap;
use client::config::ProducerConfig;
use client::producer::{AppendError, Header, Producer};
use protocol::time::Now;
use tokio::sync::watch;

use crate::config::{ErrorsConfig, RetryConfig};
use crate::sdk::{ConnectRecord, Note, TaskError};
use crate::status::{TaskState, TaskStatus};

/// What every task is run with.
#[derive(Clone, Debug)]
pub(crate) struct TaskSetup {
    /// The connector's name.
    pub(crate) name: Arc<str>,
    pub(crate) task: usize,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) offsets_topic: Arc<str>,
    pub(crate) producer: ProducerConfig,
    pub(crate) retry: RetryConfig,
    pub(crate) errors: ErrorsConfig,
    pub(crate) seed: u64,
}

impl TaskSetup {
    /// How to reach the cluster under the name `client_id`.
    pub(crate) fn bootstrap(&self, client_id: &str) -> Bootstrap {
        self.bootstrap.clone().client_id(client_id).seed(self.seed)
    }
}

/// Publishes how a task is doing.
#[derive(Debug)]
pub(crate) struct Publisher {
    name: Arc<str>,
    task: usize,
    status: watch::Sender<TaskStatus>,
}

impl Publisher {
    pub(crate) fn new(name: Arc<str>, task: usize, status: watch::Sender<TaskStatus>) -> Self {
        Self { name, task, status }
    }

    /// The status as last published.
    pub(crate) fn status(&self) -> TaskStatus {
        self.status.borrow().clone()
    }

    /// Changes the status; wakes who watches if something did change.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut TaskStatus)) {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }

    /// The task moves records now.
    pub(crate) fn running(&self) {
        self.publish(|status| status.state = TaskState::Running);
    }

    /// Logs and counts `notes`.
    pub(crate) fn notes(&self, notes: Vec<Note>) {
        if notes.is_empty() {
            return;
        }
        for note in &notes {
            tracing::warn!(connector = %self.name, task = self.task, thing = %note.thing, detail = %note.detail, "{}", note.kind);
        }
        self.publish(|status| notes.iter().for_each(|note| status.count(note)));
    }
}

/// Turns what went wrong with `thing` into a failure of the task, which is then started again.
pub(crate) fn failed<E>(thing: &str) -> impl FnOnce(E) -> TaskError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |error| TaskError::retriable(thing, error)
}

/// Appends `record`, waiting for room.
pub(crate) async fn append(
    producer: &mut Producer,
    record: &ConnectRecord,
    now: Now,
) -> Result<(), TaskError> {
    let headers: Vec<Header<'_>> =
        record.headers.iter().map(|header| (&*header.key, header.value.as_deref())).collect();
    let partition = record.partition.map(|partition| partition.0);
    let timestamp = record.timestamp.unwrap_or(now.wall);
    loop {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        match producer.append(&record.topic, partition, timestamp, key, value, &headers) {
            Ok(()) => return Ok(()),
            Err(AppendError::BufferFull { .. } | AppendError::TopicPending { .. }) => {
                producer.ready().await.map_err(failed(&format!("topic {}", record.topic)))?;
            }
            Err(error) => return Err(failed(&format!("topic {}", record.topic))(error)),
        }
    }
}
