//! Runs one sink task with a consumer that is a member of the connector's group.
//!
//! The core decides; this file does. What the group decides about partitions is told to the core as it happens; the
//! group waits until revoked partitions are flushed, committed and closed. Dead letters are durable before the
//! offsets behind them are committed. Shell.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::config::ProducerConfig;
use client::producer::Producer;
use protocol::time::Now;
use tokio::sync::mpsc;

use super::feed::{Feed, Fetched, Notice};
use super::sink::{Effect, Event, SinkCore, SinkProgress};
use super::tolerance::{Tolerance, Verdict};
use super::{Publisher, TaskSetup, failed};
use crate::sdk::{
    Offset, Rejected, SinkBatch, SinkConnector, SinkTask, TaskContext, TaskError, TopicPartition,
};

/// Questions to a task that wait; more are refused, as they would ask the same.
pub(crate) const ASKS_MAX: usize = 4;

/// What an application asks of a running sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Make durable and commit all that was fetched.
    FlushAll,
}

/// Where a task hears questions.
pub(crate) type Asks = mpsc::Receiver<Ask>;

/// What a sink task is run with, beside what all tasks are.
pub(crate) struct SinkSetup<'a> {
    pub(crate) setup: &'a TaskSetup,
    pub(crate) connector: &'a dyn SinkConnector,
    pub(crate) topics: &'a BTreeSet<Arc<str>>,
    pub(crate) flush_interval: Duration,
}

impl SinkSetup<'_> {
    /// Runs a new task until it is stopped.
    pub(crate) async fn run(
        &self,
        context: TaskContext,
        publisher: &mut Publisher,
        asks: &mut Asks,
    ) -> Result<(), TaskError> {
        let setup = self.setup;
        // Nothing of the task exists yet: an operator need not wait for a cluster that does not answer.
        let joining = Feed::join(setup, self.topics);
        let Some(feed) = context.stopping.unless_stopped(joining).await else { return Ok(()) };
        let feed = feed?;
        let status = publisher.status();
        let mut run = Run {
            setup,
            context: &context,
            task: self.connector.task(context.clone()),
            feed,
            tolerance: Tolerance::new(setup.errors.clone()),
            letters: None,
            before: (status.records, status.bytes, status.rejected),
        };
        let core = SinkCore::new(self.flush_interval, &setup.retry, setup.seed);
        let ended = run.drive(core, publisher, asks).await;
        run.task.stop().await;
        run.feed.leave().await;
        ended
    }
}

struct Run<'a> {
    setup: &'a TaskSetup,
    context: &'a TaskContext,
    task: Box<dyn SinkTask>,
    feed: Feed,
    tolerance: Tolerance,
    /// Writes dead letters; made when the first is due.
    letters: Option<Producer>,
    /// Records, bytes and refused records of earlier starts.
    before: (u64, u64, u64),
}

impl Run<'_> {
    async fn drive(
        &mut self,
        mut core: SinkCore,
        publisher: &mut Publisher,
        asks: &mut Asks,
    ) -> Result<(), TaskError> {
        self.task.start().await?;
        publisher.running();
        let mut effects = Vec::new();
        core.step(self.now(), Event::Begin, &[], &mut effects);
        let mut is_told_to_stop = false;
        loop {
            assert!(effects.len() <= 1, "one thing at a time");
            let (event, notices) = match effects.pop() {
                Some(Effect::End(ended)) => {
                    if ended.is_err() {
                        let open: Vec<TopicPartition> = core.open().cloned().collect();
                        self.task.close(&open).await;
                    }
                    return ended;
                }
                Some(effect) => self.perform(effect, asks).await,
                None => unreachable!("a sink always has something under way"),
            };
            let trouble = retried(&event).map(ToString::to_string);
            if let Some(error) = &trouble {
                tracing::warn!(connector = %self.setup.name, task = self.setup.task, %error, "will be tried again");
            }
            let committable = if asks_sink(&event) { self.task.committable() } else { Vec::new() };
            for notice in notices {
                core.step(self.now(), notice, &[], &mut effects);
            }
            if self.context.stopping.is_stopping() && !is_told_to_stop {
                is_told_to_stop = true;
                core.step(self.now(), Event::Stop, &[], &mut effects);
            }
            core.step(self.now(), event, &committable, &mut effects);
            publisher.notes(self.task.notes());
            self.publish(core.progress(), publisher);
            if let Some(trouble) = trouble {
                publisher.publish(|status| status.last_error = Some(trouble));
            }
        }
    }

    fn now(&self) -> Now {
        self.context.clock.now()
    }

    /// Does what is to be done: what came of it, and what happened besides.
    async fn perform(&mut self, effect: Effect, asks: &mut Asks) -> (Event, Vec<Event>) {
        let event = match effect {
            Effect::Open(added) => Event::Opened(self.task.open(&added).await),
            Effect::Seek(to) => {
                self.feed.seek(&to);
                Event::Sought
            }
            Effect::Fetch { until, is_paused } => return self.fetch(until, is_paused, asks).await,
            Effect::Put(batch) => Event::Put(self.task.put(&batch).await),
            Effect::Judge(batch, rejected) => {
                self.judge(&batch, &rejected).await.map_or_else(Event::Failed, |()| Event::Judged)
            }
            Effect::Flush(how) => Event::Flushed(self.task.flush(how).await),
            Effect::Commit(offsets) => self.commit(&offsets).await,
            Effect::Tell(offsets) => Event::Told(self.task.committed(&offsets).await),
            Effect::Close(partitions) => {
                self.task.close(&partitions).await;
                Event::Closed
            }
            Effect::End(_) => unreachable!("handled by the loop"),
        };
        (event, Vec::new())
    }

    async fn fetch(
        &mut self,
        until: Duration,
        is_paused: bool,
        asks: &mut Asks,
    ) -> (Event, Vec<Event>) {
        let wait = until.saturating_sub(self.now().monotonic);
        let mut notices = Vec::new();
        let fetched = tokio::select! {
            biased;
            () = self.context.stopping.stopped() => Ok(Fetched::default()),
            Some(Ask::FlushAll) = asks.recv() => {
                notices.push(Event::FlushAll);
                Ok(Fetched::default())
            }
            fetched = self.feed.poll(wait, is_paused) => fetched,
        };
        match fetched {
            Ok(Fetched { batches, positions, notice }) => {
                if let Some(notice) = notice {
                    match self.told_by_group(notice).await {
                        Ok(event) => notices.push(event),
                        Err(error) => return (Event::Failed(error), notices),
                    }
                }
                (Event::Fetched { batches, positions }, notices)
            }
            Err(error) => (Event::Failed(error), notices),
        }
    }

    async fn told_by_group(&mut self, notice: Notice) -> Result<Event, TaskError> {
        Ok(match notice {
            Notice::Assigned(partitions) => Event::Assigned(self.feed.describe(&partitions).await?),
            Notice::Revoked(partitions) => Event::Revoked(partitions),
            Notice::Lost(partitions) => Event::Lost(partitions),
        })
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, Offset)]) -> Event {
        match self.feed.commit(offsets).await {
            Ok(()) => Event::Committed { is_done: true },
            Err(error) if error.is_retriable() => {
                tracing::warn!(connector = %self.setup.name, task = self.setup.task, %error, "offsets not committed");
                Event::Committed { is_done: false }
            }
            Err(error) => {
                Event::Failed(failed(&format!("offsets of connector {}", self.setup.name))(error))
            }
        }
    }

    async fn judge(&mut self, batch: &SinkBatch, rejected: &[Rejected]) -> Result<(), TaskError> {
        let verdict = self.tolerance.judge(self.now(), rejected.len());
        for (rejected, record) in rejected_records(batch, rejected) {
            let thing = format!("record {}@{}", batch.partition, rejected.offset);
            match verdict {
                Verdict::Fail => return Err(TaskError::fatal(thing, rejected.reason.to_string())),
                Verdict::Skip => {}
                Verdict::DeadLetter => {
                    let source = (&*self.setup.name, self.setup.task);
                    let letter =
                        self.tolerance.dead_letter(source, &batch.partition, record, rejected);
                    let letter = letter.expect("the verdict says that there is a topic");
                    let now = self.now();
                    super::append(self.letters().await?, &letter, now).await?;
                }
            }
        }
        if let Some(letters) = &mut self.letters {
            letters.flush().await.map_err(failed("dead letter topic"))?;
        }
        Ok(())
    }

    async fn letters(&mut self) -> Result<&mut Producer, TaskError> {
        if self.letters.is_none() {
            let bootstrap =
                self.setup.bootstrap(&format!("connect-{}-dead-letters", self.setup.name));
            let config = ProducerConfig { transactional_id: None, ..self.setup.producer.clone() };
            self.letters =
                Some(Producer::connect(bootstrap, config).await.map_err(failed("the cluster"))?);
        }
        Ok(self.letters.as_mut().expect("just made"))
    }

    fn publish(&self, progress: &SinkProgress, publisher: &mut Publisher) {
        let (records, bytes, rejected) = self.before;
        publisher.publish(|status| {
            status.records = records + progress.records;
            status.bytes = bytes + progress.bytes;
            status.rejected = rejected + progress.rejected;
            status.committed.clone_from(&progress.committed);
            status.positions.clone_from(&progress.positions);
        });
    }
}

/// True when the sink may have made something durable.
fn asks_sink(event: &Event) -> bool {
    matches!(event, Event::Put(Ok(_)) | Event::Judged | Event::Flushed(_))
}

/// Why the sink must try again, if it must: nothing else would tell an operator why nothing moves.
fn retried(event: &Event) -> Option<&TaskError> {
    match event {
        Event::Put(Err(error)) | Event::Flushed(Err(error)) | Event::Told(Err(error)) => {
            Some(error).filter(|error| error.is_retriable())
        }
        _ => None,
    }
}

/// Each refusal with its record; refusals of records that the batch does not have are passed over.
fn rejected_records<'a>(
    batch: &'a SinkBatch,
    rejected: &'a [Rejected],
) -> impl Iterator<Item = (&'a Rejected, &'a crate::sdk::SinkRecord)> {
    rejected.iter().filter_map(|refusal| {
        let index =
            batch.records.binary_search_by_key(&refusal.offset, |record| record.offset).ok()?;
        Some((refusal, &batch.records[index]))
    })
}
