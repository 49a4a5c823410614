//! One session of a worker: a consumer, a producer, tasks, and one transaction after another.
//!
//! | the consumer says | the session |
//! |---|---|
//! | records | feeds them to their tasks |
//! | revoked | commits what is processed, lets the tasks rest |
//! | revoked and lost | aborts, forgets the tasks |
//! | assigned | keeps the tasks that came back, restores the new ones |
//!
//! | the transaction | what follows |
//! |---|---|
//! | committed | overlays become the base |
//! | aborted | overlays are undone, inputs read again from the last commit |
//! | unknown | the producer is initialised again, which ends it; the offsets then say how |
//!
//! Shell.

use std::collections::BTreeMap;
use std::time::Duration;

use client::config::IsolationLevel;
use client::consumer::{CommitError, Consumer, FetchedBatch, Polled, Revoked};
use client::group_offsets::OffsetAndMetadata;
use client::producer::{CommitOutcome, Failure, Header as WireHeader, Producer, TransactionError};
use protocol::ids::{LeaderEpoch, Offset, TopicPartition};
use protocol::mutant::{Mutant, is_active};
use protocol::time::Now;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::Guarantee;
use super::error::AppError;
use super::restore::Restorer;
use super::status::{AppState, Metrics};
use super::tasks::{Found, TaskKey, TaskSet};
use super::worker::{Connected, Report, Settings, init_transactions};
use crate::record::{Header, Headers, InputRecord};
use crate::task::CommitOffset;
use crate::task::commit::Outcome;

/// Records each task may process before the session looks at anything else.
const ROUND: usize = 1_000;
/// The longest wait for records: clocks and signals are looked at that often.
const POLL_MAX: Duration = Duration::from_millis(100);
/// The longest that restoring may keep the other tasks waiting.
const RESTORE_POLL: Duration = Duration::from_millis(20);
/// Transactions that may abort in a row; then the session is given up for a new one.
const ABORTS_MAX: u32 = 20;

/// One session.
pub(super) struct Session<'w> {
    settings: &'w Settings,
    report: Report,
    consumer: Consumer,
    producer: Producer,
    restorer: Restorer,
    tasks: TaskSet,
    /// The producer's transaction has begun.
    is_open: bool,
    /// When the last commit ended, by the monotonic clock.
    committed_at: Duration,
    aborts_in_a_row: u32,
    metrics: Metrics,
}

impl<'w> Session<'w> {
    pub(super) fn new(settings: &'w Settings, connected: Connected, report: Report) -> Self {
        let Connected { consumer, producer, restorer, tasks } = connected;
        let committed_at = consumer.now().monotonic;
        Self {
            settings,
            report,
            consumer,
            producer,
            restorer,
            tasks,
            is_open: false,
            committed_at,
            aborts_in_a_row: 0,
            metrics: Metrics::default(),
        }
    }

    /// What the session has counted.
    pub(super) fn metrics(&self) -> Metrics {
        Metrics { tasks: self.tasks.counters(), ..self.metrics }
    }

    /// Works until asked to stop, or something is beyond mending.
    pub(super) async fn run(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), AppError> {
        let worked = self.work(stop).await;
        if worked.is_err() {
            // The broker would abort it in time; readers need not wait for that.
            self.abort().await.ok();
        }
        worked
    }

    async fn work(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), AppError> {
        self.report.state(AppState::Rebalancing);
        let mut is_busy = false;
        // A handle that is gone wants nothing any more either.
        while !*stop.borrow() && stop.has_changed().is_ok() {
            let wait = if is_busy { Duration::ZERO } else { self.wait() };
            tokio::select! {
                biased;
                _ = stop.changed() => continue,
                polled = self.consumer.poll(wait) => self.heed(polled?).await?,
            }
            self.restore().await?;
            self.follow_positions();
            is_busy = self.process().await?;
            if self.now().monotonic >= self.committed_at + self.settings.commit_interval {
                self.commit().await?;
                self.report.count(self.metrics());
            }
        }
        self.report.state(AppState::Stopping);
        self.commit().await
    }

    /// Leaves the group, so that others take over at once.
    pub(super) async fn leave(self) {
        // What they could still say concerns nothing that is committed.
        self.consumer.close().await.ok();
        self.producer.close().await.ok();
    }

    fn now(&self) -> Now {
        self.consumer.now()
    }

    /// How long to wait for records.
    fn wait(&self) -> Duration {
        let now = self.now();
        let commit =
            (self.committed_at + self.settings.commit_interval).saturating_sub(now.monotonic);
        let punctuation = self.tasks.wake_at().map_or(POLL_MAX, |at| {
            let ms = at.0.saturating_sub(now.wall.0);
            Duration::from_millis(u64::try_from(ms).unwrap_or(0))
        });
        if !self.tasks.restoring().is_empty() {
            return Duration::ZERO;
        }
        POLL_MAX.min(commit).min(punctuation)
    }

    /// Does what the consumer says.
    async fn heed(&mut self, polled: Polled) -> Result<(), AppError> {
        match polled {
            Polled::Batches(batches) => batches.into_iter().try_for_each(|it| self.feed(it)),
            Polled::Nothing => Ok(()),
            Polled::Revoked(revoked) => self.revoked(revoked).await,
            Polled::Assigned(_) => self.assigned().await,
        }
    }

    fn feed(&mut self, batch: FetchedBatch) -> Result<(), AppError> {
        let (tp, next, end) = (batch.tp.clone(), batch.next_offset, batch.last_stable_offset);
        let mut broken = None;
        let records = batch.into_records().map_while(|record| match record {
            Ok(record) => Some(input_record(record)),
            Err(error) => {
                broken = Some(error);
                None
            }
        });
        self.tasks.feed(&tp, records, next, Some(end));
        match broken {
            None => Ok(()),
            Some(source) => Err(AppError::Damaged { partition: tp, source }),
        }
    }

    /// Positions move over markers and aborted records too, and ends move without any record.
    fn follow_positions(&mut self) {
        for partition in self.tasks.running_inputs() {
            if let Some(position) = self.consumer.position(&partition)
                && let Some(lag) = self.consumer.lag(&partition)
            {
                let end = position.plus(i64::try_from(lag).unwrap_or(i64::MAX));
                self.tasks.feed(&partition, [], position, Some(end));
            }
        }
        let (pause, resume) = self.tasks.pauses();
        self.consumer.pause(&pause);
        self.consumer.resume(&resume);
    }

    async fn revoked(&mut self, revoked: Revoked) -> Result<(), AppError> {
        self.report.state(AppState::Rebalancing);
        info!(app = %self.settings.app, partitions = revoked.partitions.len(), revoked.lost, "revoked");
        if revoked.lost {
            self.abort().await?;
            self.tasks.lose_all();
            self.restorer.forget_all();
        } else {
            self.commit().await?;
            self.tasks.rest(&revoked.partitions);
        }
        Ok(())
    }

    /// Takes over the group's assignment. A task that rested may go on where it was, unless a whole
    /// generation passed us by in which somebody else had it.
    async fn assigned(&mut self) -> Result<(), AppError> {
        let resting = self.tasks.resting_inputs();
        if !resting.is_empty() {
            let found = self.committed(&resting).await?;
            self.tasks.drop_outdated(&found);
        }
        let assignment = self.consumer.assignment();
        let new = self.tasks.assign(&assignment)?;
        info!(app = %self.settings.app, partitions = assignment.len(), tasks = new.len(), "assigned");
        let restoring = self.tasks.restoring();
        let begun: Vec<_> = restoring.iter().filter(|key| !new.contains(key)).copied().collect();
        self.restorer.keep_only(&begun);
        // Nothing is delivered to a task before it is restored.
        let waiting: Vec<_> = restoring.iter().flat_map(|key| self.tasks.inputs(*key)).collect();
        self.consumer.pause(&waiting);
        for (partition, offset) in self.tasks.positions() {
            self.seek(&partition, offset);
        }
        if restoring.is_empty() {
            self.at_work();
        }
        Ok(())
    }

    /// All tasks run.
    fn at_work(&mut self) {
        self.report.board.committed(self.tasks.committed_offsets());
        self.report.state(AppState::Running);
    }

    fn seek(&mut self, partition: &TopicPartition, offset: Offset) {
        if let Err(error) = self.consumer.seek(partition, offset) {
            // It was given up in the meantime; its task goes with the next assignment.
            debug!(%error, "not sought");
        }
    }

    /// Brings restoring tasks a step further; those that are done begin to run.
    async fn restore(&mut self) -> Result<(), AppError> {
        let restoring = self.tasks.restoring();
        if restoring.is_empty() {
            return Ok(());
        }
        for key in restoring {
            if self.restorer.is_new(key) {
                self.begin_restore(key).await?;
            }
        }
        self.metrics.restored += self.restorer.step(RESTORE_POLL, &mut self.tasks).await?;
        for done in self.restorer.take_done() {
            let positions = self.tasks.resume(done.key, &done.committed, &done.earliest);
            for (partition, offset) in &positions {
                self.seek(partition, *offset);
            }
            self.consumer.resume(positions.iter().map(|(partition, _)| partition));
        }
        if self.tasks.restoring().is_empty() {
            self.at_work();
        }
        Ok(())
    }

    /// Looks up where a task begins. The offsets first: what is committed by then is in the
    /// changelogs below the ends that are asked for afterwards.
    async fn begin_restore(&mut self, key: TaskKey) -> Result<(), AppError> {
        let inputs = self.tasks.inputs(key);
        let committed = self.committed(&inputs).await?;
        let fresh: Vec<_> =
            inputs.into_iter().filter(|input| !committed.contains_key(input)).collect();
        let earliest = self.consumer.beginning_offsets(fresh).await?;
        let changelogs = self.tasks.changelogs(key);
        let partitions = changelogs.iter().map(|(_, partition)| partition.clone());
        // The uncommitted end: a transaction whose offsets are committed may still wait for its
        // markers here, and one that is open must be waited for (KAFKA-10167).
        let level = IsolationLevel::ReadUncommitted;
        let ends = self.consumer.end_offsets(partitions, level).await?;
        self.restorer.begin(key, changelogs, &ends, committed, earliest);
        Ok(())
    }

    /// What the group has committed, once no open transaction can change it.
    async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Found>, AppError> {
        let found = self.consumer.committed(partitions.iter().cloned(), true).await?;
        let each = found
            .into_iter()
            .map(|(partition, at)| (partition, Found { offset: at.offset, metadata: at.metadata }));
        Ok(each.collect())
    }

    /// Lets every task process a round; true if there may be more at once.
    async fn process(&mut self) -> Result<bool, AppError> {
        let now = self.now();
        self.tasks.punctuate(now)?;
        let count = self.tasks.process(now, ROUND)?;
        if self.tasks.has_output() {
            self.begin()?;
            self.produce().await?;
        }
        Ok(count > 0)
    }

    fn begin(&mut self) -> Result<(), AppError> {
        if !self.is_open && self.settings.guarantee == Guarantee::ExactlyOnce {
            self.producer.begin()?;
        }
        self.is_open = true;
        Ok(())
    }

    /// Hands all output to the producer; waits where it is full.
    async fn produce(&mut self) -> Result<(), AppError> {
        loop {
            let (producer, produced) = (&mut self.producer, &mut self.metrics.produced);
            let drained = self.tasks.drain(|topic, record| {
                let wire: Vec<WireHeader<'_>> =
                    record.headers.iter().map(|it| (&*it.key, it.value.as_deref())).collect();
                let (partition, at) = (record.partition(), record.timestamp);
                let appended =
                    producer.append(topic, partition, at, record.key, record.value, &wire);
                match appended {
                    Ok(()) => {
                        *produced += 1;
                        Ok(true)
                    }
                    Err(error) if error.is_retriable() => Ok(false),
                    Err(error) => Err(error),
                }
            });
            match drained {
                Ok(true) => return Ok(()),
                Ok(false) => self.producer.ready().await?,
                Err(error) => return Err(client::producer::ProduceError::from(error).into()),
            }
        }
    }

    /// Ends the transaction with everything that was processed in it.
    async fn commit(&mut self) -> Result<(), AppError> {
        let committed = self.try_commit().await;
        self.committed_at = self.now().monotonic;
        match committed {
            Ok(()) => Ok(()),
            Err(Ended::Aborted(failure)) => {
                warn!(app = %self.settings.app, %failure, "a transaction was aborted");
                self.aborts_in_a_row += 1;
                self.abort().await?;
                // A member that was replaced has nothing to go on with.
                let expelled = matches!(failure, Failure::GroupFenced { .. });
                if expelled || self.aborts_in_a_row >= ABORTS_MAX {
                    return Err(AppError::Aborted(failure));
                }
                Ok(())
            }
            Err(Ended::Failed(error)) => Err(error),
        }
    }

    async fn try_commit(&mut self) -> Result<(), Ended> {
        let offsets = self.tasks.prepare().map_err(AppError::from)?;
        if offsets.is_empty() {
            assert!(!self.is_open, "what was produced came from tasks that have offsets");
            return Ok(());
        }
        self.begin()?;
        self.produce().await?;
        let offsets = to_commit(offsets);
        let outcome = match self.settings.guarantee {
            Guarantee::ExactlyOnce => self.end_transaction(offsets).await?,
            Guarantee::AtLeastOnce => {
                self.producer.flush().await.map_err(AppError::from)?;
                self.commit_offsets(offsets).await?;
                Outcome::Committed
            }
        };
        self.is_open = false;
        match outcome {
            Outcome::Committed => {
                self.tasks.committed();
                self.metrics.commits += 1;
                self.aborts_in_a_row = 0;
                self.report.board.committed(self.tasks.committed_offsets());
                Ok(())
            }
            Outcome::Aborted => {
                Err(Ended::Aborted(Failure::Request("its outcome was unknown".into())))
            }
        }
    }

    /// Without transactions: the offsets after what was produced. Refused in between two
    /// generations; then what was processed is processed again, which at-least-once allows.
    async fn commit_offsets(
        &mut self,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), Ended> {
        match self.consumer.commit(offsets).await {
            Ok(()) => Ok(()),
            Err(error @ CommitError::RebalanceInProgress { .. }) => {
                Err(Ended::Aborted(Failure::Request(error.to_string().into())))
            }
            Err(error) => Err(Ended::Failed(error.into())),
        }
    }

    /// The offsets into the transaction, then its end.
    async fn end_transaction(
        &mut self,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<Outcome, Ended> {
        let group = self.consumer.group_metadata().expect("a session has a group");
        if is_active(Mutant::OffsetsOutsideTransaction) {
            self.consumer.commit(offsets).await.map_err(AppError::from)?;
        } else {
            self.producer.send_offsets(offsets, &group).await?;
        }
        match self.producer.commit().await? {
            CommitOutcome::Committed => Ok(Outcome::Committed),
            CommitOutcome::Aborted(failure) => {
                self.is_open = false;
                Err(Ended::Aborted(failure))
            }
            CommitOutcome::Unknown => {
                warn!(app = %self.settings.app, "a commit was not answered");
                init_transactions(&mut self.producer).await?;
                let found = self.committed(&self.tasks.running_inputs()).await?;
                Ok(self.tasks.outcome(&found))
            }
        }
    }

    /// Drops the transaction, undoes what it did here, and reads its input again.
    async fn abort(&mut self) -> Result<(), AppError> {
        if self.is_open && self.settings.guarantee == Guarantee::ExactlyOnce {
            match self.producer.abort().await {
                // Nothing will be visible either way; who it was that did not answer is over.
                Err(TransactionError::Unknown { .. }) => {
                    init_transactions(&mut self.producer).await?;
                }
                aborted => aborted?,
            }
        }
        self.is_open = false;
        self.metrics.aborts += 1;
        for (partition, offset) in self.tasks.aborted() {
            self.seek(&partition, offset);
        }
        Ok(())
    }
}

/// Why a commit did not come about.
enum Ended {
    /// The transaction is, or must be, aborted; the session goes on.
    Aborted(Failure),
    /// The session is over.
    Failed(AppError),
}

impl From<AppError> for Ended {
    fn from(error: AppError) -> Self {
        Self::Failed(error)
    }
}

impl From<TransactionError> for Ended {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::MustAbort(failure) => Self::Aborted(failure),
            error => Self::Failed(error.into()),
        }
    }
}

fn to_commit(offsets: Vec<CommitOffset>) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
    let each = offsets.into_iter().map(|commit| {
        let CommitOffset { partition, offset, metadata, .. } = commit;
        (partition, OffsetAndMetadata { offset, leader_epoch: LeaderEpoch::NONE, metadata })
    });
    each.collect()
}

fn input_record(record: protocol::record::Record) -> InputRecord {
    let headers = if record.headers.is_empty() {
        Headers::default()
    } else {
        let each = record.headers.to_vec().into_iter();
        Headers::of(each.map(|(key, value)| Header { key: key.into(), value }).collect())
    };
    let protocol::record::Record { offset, timestamp, key, value, .. } = record;
    InputRecord { offset, timestamp, key, value, headers }
}
