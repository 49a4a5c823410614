//! Keeps a task running: a failed one is started again, after a wait that grows.
//!
//! A task that has moved records since its start counts as healthy: its next failure is a first one. Shell.

use std::sync::Arc;

use super::sink_shell::SinkSetup;
use super::source::Ended;
use super::source::RoundConfig;
use super::source_shell::SourceSetup;
use super::tolerance::Restarts;
use super::{Publisher, TaskSetup};
use crate::config::ConnectorConfig;
use crate::sdk::{Connector, TaskContext, TaskError};
use crate::status::TaskState;

/// Runs a task of `connector` until it is finished, stopped, or failed for good.
pub(crate) async fn supervise(
    connector: Arc<ConnectorConfig>,
    setup: TaskSetup,
    context: TaskContext,
    mut publisher: Publisher,
    mut asks: super::sink_shell::Asks,
) {
    let mut restarts = Restarts::new(&setup.retry, setup.seed);
    loop {
        let records_before = publisher.status().records;
        publisher.publish(|status| status.state = TaskState::Starting);
        let error = match run(&connector, &setup, &context, &mut publisher, &mut asks).await {
            Ok(ended) => {
                let state =
                    if ended == Ended::Finished { TaskState::Finished } else { TaskState::Stopped };
                return publisher.publish(|status| status.state = state);
            }
            Err(error) => error,
        };
        if publisher.status().records > records_before {
            restarts.on_progress();
        }
        let after = restarts.on_failure();
        match after {
            Some(after) => {
                tracing::warn!(connector = %setup.name, task = setup.task, %error, ?after, "task failed, will be restarted");
            }
            None => {
                tracing::error!(connector = %setup.name, task = setup.task, %error, "task failed")
            }
        }
        publisher.publish(|status| {
            status.last_error = Some(error.to_string());
            status.is_at_end = false;
            status.state = after.map_or(TaskState::Failed, |after| TaskState::Restarting { after });
        });
        let Some(after) = after else { return };
        tokio::select! {
            biased;
            () = context.stopping.stopped() => return publisher.publish(|status| status.state = TaskState::Stopped),
            () = tokio::time::sleep(after) => {}
        }
        publisher.publish(|status| status.restarts += 1);
    }
}

async fn run(
    connector: &ConnectorConfig,
    setup: &TaskSetup,
    context: &TaskContext,
    publisher: &mut Publisher,
    asks: &mut super::sink_shell::Asks,
) -> Result<Ended, TaskError> {
    match &connector.connector {
        Connector::Source(source) => {
            let round = RoundConfig {
                commit_interval: connector.commit_interval,
                transaction_bytes: connector.transaction_bytes,
            };
            let task = SourceSetup { setup, connector: source.as_ref(), round };
            task.run(context.clone(), publisher).await
        }
        Connector::Sink(sink) => {
            let task = SinkSetup {
                setup,
                connector: sink.as_ref(),
                topics: &connector.topics,
                flush_interval: connector.flush_interval,
            };
            task.run(context.clone(), publisher, asks).await.map(|()| Ended::Stopped)
        }
    }
}
