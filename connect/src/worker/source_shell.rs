//! Runs one source task with a transactional producer.
//!
//! Each start takes the transactional id over, which fences an older process and settles what it left open, and only
//! then reads the source offsets: so they cannot change behind the task's back. The core decides; this file does.
//! Shell.

use client::config::ProducerConfig;
use client::producer::{CommitOutcome, Producer};
use protocol::time::Now;

use super::source::{Effect, Ended, Event, RoundConfig, SourceCore, SourceProgress};
use super::{Publisher, TaskSetup, failed};
use crate::sdk::{SourceBatch, SourceConnector, SourceOffset, SourceTask, TaskContext, TaskError};
use crate::store::{offset_reader, offsets};

/// What a source task is run with, beside what all tasks are.
pub(crate) struct SourceSetup<'a> {
    pub(crate) setup: &'a TaskSetup,
    pub(crate) connector: &'a dyn SourceConnector,
    pub(crate) round: RoundConfig,
}

impl SourceSetup<'_> {
    /// Runs a new task from the committed offsets until it ends.
    pub(crate) async fn run(
        &self,
        context: TaskContext,
        publisher: &mut Publisher,
    ) -> Result<Ended, TaskError> {
        let setup = self.setup;
        let transactional_id = format!("connect-{}-{}", setup.name, setup.task);
        // Nothing of the task exists yet: an operator need not wait for a cluster that does not answer.
        let Some(begun) = context.stopping.unless_stopped(begin(setup, &transactional_id)).await
        else {
            return Ok(Ended::Stopped);
        };
        let (producer, offsets) = begun?;
        let mut task = self.connector.task(context.clone());
        let mut run = Run {
            setup,
            task: task.as_mut(),
            producer,
            transactional_id,
            is_open: false,
            before: (publisher.status().records, publisher.status().bytes),
        };
        let ended = run.drive(self.round, &context, offsets, publisher).await;
        run.task.stop().await;
        if ended.is_err() && run.is_open {
            // Otherwise readers would wait for its time-out. If this fails too, they do; nothing is lost.
            let _aborted = run.producer.abort().await.is_ok();
        }
        ended
    }
}

/// Takes the transactional id over, then reads where to go on.
async fn begin(
    setup: &TaskSetup,
    transactional_id: &str,
) -> Result<(Producer, Vec<SourceOffset>), TaskError> {
    let config = ProducerConfig {
        transactional_id: Some(transactional_id.to_owned()),
        ..setup.producer.clone()
    };
    let bootstrap = setup.bootstrap(transactional_id);
    let mut producer =
        Producer::connect(bootstrap.clone(), config).await.map_err(failed("the cluster"))?;
    producer.init_transactions().await.map_err(failed(transactional_id))?;
    let offsets = offset_reader::read(bootstrap, &setup.offsets_topic, &setup.name).await?;
    Ok((producer, offsets))
}

struct Run<'a> {
    setup: &'a TaskSetup,
    task: &'a mut dyn SourceTask,
    producer: Producer,
    transactional_id: String,
    /// A transaction has begun.
    is_open: bool,
    /// Records and bytes of earlier starts.
    before: (u64, u64),
}

impl Run<'_> {
    async fn drive(
        &mut self,
        round: RoundConfig,
        context: &TaskContext,
        offsets: Vec<SourceOffset>,
        publisher: &mut Publisher,
    ) -> Result<Ended, TaskError> {
        self.task.start(offsets).await?;
        publisher.running();
        let mut core = SourceCore::new(round, &self.setup.retry, self.setup.seed);
        let mut effects = Vec::new();
        core.step(context.clock.now(), Event::Started, &mut effects);
        let mut is_told_to_stop = false;
        loop {
            self.publish(core.progress(), publisher);
            if context.stopping.is_stopping() && !is_told_to_stop {
                is_told_to_stop = true;
                core.step(context.clock.now(), Event::Stop, &mut effects);
            }
            let event = match effects.pop() {
                Some(Effect::End(ended)) => return ended,
                Some(effect) => self.perform(effect, context.clock.now(), publisher).await,
                None => {
                    let now = context.clock.now().monotonic;
                    let wait = core
                        .wake_at()
                        .map_or(std::time::Duration::MAX, |at| at.saturating_sub(now));
                    tokio::select! {
                        biased;
                        () = context.stopping.stopped() => continue,
                        () = tokio::time::sleep(wait) => Event::Tick,
                    }
                }
            };
            core.step(context.clock.now(), event, &mut effects);
            assert!(effects.len() <= 1, "one thing at a time");
        }
    }

    async fn perform(&mut self, effect: Effect, now: Now, publisher: &mut Publisher) -> Event {
        match effect {
            Effect::Poll => {
                let polled = self.task.poll().await;
                publisher.notes(self.task.notes());
                Event::Polled(polled)
            }
            Effect::Send(batch) => {
                self.send(&batch, now).await.map_or_else(Event::Failed, |()| Event::Sent)
            }
            Effect::Commit(offsets) => {
                self.commit(&offsets, now).await.map_or_else(Event::Failed, |()| Event::Committed)
            }
            Effect::Tell(offsets) => Event::Told(self.task.committed(&offsets).await),
            Effect::End(_) => unreachable!("handled by the loop"),
        }
    }

    async fn send(&mut self, batch: &SourceBatch, now: Now) -> Result<(), TaskError> {
        self.begin()?;
        for record in &batch.records {
            super::append(&mut self.producer, record, now).await?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), TaskError> {
        if !self.is_open {
            self.producer.begin().map_err(failed(&self.transactional_id))?;
            self.is_open = true;
        }
        Ok(())
    }

    async fn commit(&mut self, offsets: &[SourceOffset], now: Now) -> Result<(), TaskError> {
        for offset in offsets {
            let (key, value) = offsets::encode(&self.setup.name, offset);
            let record = crate::sdk::ConnectRecord {
                topic: std::sync::Arc::clone(&self.setup.offsets_topic),
                partition: None,
                key: Some(key.into()),
                value: value.map(Into::into),
                headers: Vec::new(),
                timestamp: None,
            };
            super::append(&mut self.producer, &record, now).await?;
        }
        let outcome = self.producer.commit().await;
        // Whatever came of it, there is nothing left to abort: an unknown outcome is settled by the next start.
        self.is_open = false;
        match outcome.map_err(failed(&self.transactional_id))? {
            CommitOutcome::Committed => Ok(()),
            CommitOutcome::Aborted(failure) => Err(failed(&self.transactional_id)(failure)),
            CommitOutcome::Unknown => {
                let thing = format!("transaction of {}", self.transactional_id);
                Err(TaskError::retriable(thing, "nobody told whether it was committed"))
            }
        }
    }

    fn publish(&self, progress: &SourceProgress, publisher: &mut Publisher) {
        let (records, bytes) = self.before;
        publisher.publish(|status| {
            status.records = records + progress.records;
            status.bytes = bytes + progress.bytes;
            status.is_at_end = progress.is_at_end;
        });
    }
}
