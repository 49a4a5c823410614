//! The turns of a sink task: fetch → put → flush → commit.
//!
//! Only what the sink calls durable is committed, never more than was put, and never backwards. Records are delivered
//! once each and in order from where a partition was opened: at the committed offset, or where the sink asked
//! for. A put that may succeed later is repeated with growing waits, while fetching goes on without
//! taking records, so that the group does not take the task for dead. Before partitions are given back, and at the
//! end, all is flushed and committed. Anything final ends the task; a new one begins at the committed offsets.
//!
//! One effect is under way at a time; its completion is an event. What comes next, first match:
//!
//! | when | effect |
//! |---|---|
//! | partitions are with another member | Close |
//! | partitions were added | Open, then Seek |
//! | partitions are to be given back, or the end is near | Flush all, Commit, Tell, Close |
//! | something durable is not committed, and it is time | Commit, then Tell |
//! | all was asked to be flushed, and nothing is left to put | Flush all |
//! | it is time | Flush due |
//! | a put waits to be repeated | Fetch, paused |
//! | a batch waits | Put, then DeadLetter if records were refused |
//! | else | Fetch |
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use client::backoff::Backoff;
use protocol::rng::Rng;
use protocol::time::Now;

use super::delivery::Delivery;
use crate::config::RetryConfig;
use crate::sdk::{Assigned, Flush, Offset, Rejected, SinkBatch, TaskError, TopicPartition};

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The task is started; the first event.
    Begin,
    /// Partitions were added; may come at any time.
    Assigned(Vec<Assigned>),
    /// Partitions are to be given back, after a last commit; may come at any time.
    Revoked(Vec<TopicPartition>),
    /// Partitions are with another member already; may come at any time.
    Lost(Vec<TopicPartition>),
    /// The task shall end; may come at any time.
    Stop,
    /// All that was fetched so far shall be durable and committed soon; may come at any time.
    FlushAll,
    /// The sink opened; where to start if not at the committed offset.
    Opened(Result<Vec<(TopicPartition, Offset)>, TaskError>),
    /// The positions are set.
    Sought,
    /// What was fetched; nothing if paused.
    Fetched {
        /// Records, in order within each partition.
        batches: Vec<SinkBatch>,
        /// Where the next fetch of each partition begins.
        positions: Vec<(TopicPartition, Offset)>,
    },
    /// The batch was put, but for the records returned.
    Put(Result<Vec<Rejected>, TaskError>),
    /// What to do with refused records is done: passed over, or durable in the dead letter topic.
    Judged,
    /// The sink flushed.
    Flushed(Result<(), TaskError>),
    /// The offsets are committed; or not, but may be later.
    Committed {
        /// Whether they are.
        is_done: bool,
    },
    /// The sink was told.
    Told(Result<(), TaskError>),
    /// The partitions are closed and given back.
    Closed,
    /// Fetching, committing or judging failed for good.
    Failed(TaskError),
}

/// What to do now. Each is answered by the event that follows it.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Open these partitions → `Opened`.
    Open(Vec<Assigned>),
    /// Continue to fetch from here → `Sought`.
    Seek(Vec<(TopicPartition, Offset)>),
    /// Fetch until something is there or it is `until` → `Fetched`.
    Fetch {
        /// When to return with nothing.
        until: Duration,
        /// True: take no records, only stay a member.
        is_paused: bool,
    },
    /// Put the batch → `Put`.
    Put(SinkBatch),
    /// Decide on refused records of the batch → `Judged` or `Failed`.
    Judge(SinkBatch, Vec<Rejected>),
    /// Flush → `Flushed`.
    Flush(Flush),
    /// Commit → `Committed`.
    Commit(Vec<(TopicPartition, Offset)>),
    /// Tell the sink what is committed → `Told`.
    Tell(Vec<(TopicPartition, Offset)>),
    /// Close these partitions, then give them back → `Closed`. Not followed by a commit.
    Close(Vec<TopicPartition>),
    /// The task is over, all partitions closed if `Ok`.
    End(Result<(), TaskError>),
}

/// What a task has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SinkProgress {
    /// Records put.
    pub(crate) records: u64,
    /// Bytes of their keys and values.
    pub(crate) bytes: u64,
    /// Records refused by the sink.
    pub(crate) rejected: u64,
    /// The committed offset (exclusive) of each open partition.
    pub(crate) committed: BTreeMap<TopicPartition, Offset>,
    /// Where each open partition stands: below, all records were put.
    pub(crate) positions: BTreeMap<TopicPartition, Offset>,
}

/// What is under way.
#[derive(Debug)]
enum Doing {
    Nothing,
    Opening(Vec<Assigned>),
    Seeking,
    Fetching,
    Putting,
    Judging(SinkBatch, BTreeSet<Offset>),
    Flushing(Flush),
    Committing(Vec<(TopicPartition, Offset)>),
    Telling,
    Closing(Vec<TopicPartition>),
    Over,
}

/// How far giving back has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Farewell {
    Flush,
    Commit,
    Close,
}

/// The turns of one task. See the module's header.
#[derive(Debug)]
pub(crate) struct SinkCore {
    flush_interval: Duration,
    doing: Doing,
    partitions: BTreeMap<TopicPartition, Delivery>,
    added: Vec<Assigned>,
    leaving: BTreeSet<TopicPartition>,
    lost: BTreeSet<TopicPartition>,
    /// Taken away while they were being opened.
    lost_early: BTreeSet<TopicPartition>,
    farewell: Farewell,
    is_stopping: bool,
    queue: VecDeque<SinkBatch>,
    backoff: Backoff,
    /// When to repeat a put that failed.
    retry_at: Option<Duration>,
    flush_at: Duration,
    commit_at: Duration,
    wants_all: bool,
    has_flush_failed: bool,
    progress: SinkProgress,
}

impl SinkCore {
    pub(crate) fn new(flush_interval: Duration, retry: &RetryConfig, seed: u64) -> Self {
        Self {
            flush_interval,
            doing: Doing::Nothing,
            partitions: BTreeMap::new(),
            added: Vec::new(),
            leaving: BTreeSet::new(),
            lost: BTreeSet::new(),
            lost_early: BTreeSet::new(),
            farewell: Farewell::Flush,
            is_stopping: false,
            queue: VecDeque::new(),
            backoff: Backoff::new(retry.backoff, retry.backoff_max, Rng::new(seed)),
            retry_at: None,
            flush_at: Duration::ZERO,
            commit_at: Duration::ZERO,
            wants_all: false,
            has_flush_failed: false,
            progress: SinkProgress::default(),
        }
    }

    /// What was done so far.
    pub(crate) fn progress(&self) -> &SinkProgress {
        &self.progress
    }

    /// The open partitions.
    pub(crate) fn open(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.keys()
    }

    /// True until `partition`, which was to be given up, is closed, or if it never was.
    #[cfg(test)]
    pub(crate) fn holds(&self, partition: &TopicPartition) -> bool {
        let is_in = |added: &[Assigned]| added.iter().any(|it| it.partition == *partition);
        let is_opening = matches!(&self.doing, Doing::Opening(added) if is_in(added));
        is_opening || is_in(&self.added) || self.partitions.contains_key(partition)
    }

    /// The only way in. `committable` is what the sink says after it put,
    /// after refused records were judged, and after it flushed; else empty.
    pub(crate) fn step(
        &mut self,
        now: Now,
        event: Event,
        committable: &[(TopicPartition, Offset)],
        effects: &mut Vec<Effect>,
    ) {
        match event {
            Event::Begin => {}
            Event::Assigned(added) => self.added.extend(added),
            Event::Revoked(partitions) => self.leave(&partitions),
            Event::Lost(partitions) => self.lose(&partitions),
            Event::Stop => {
                self.is_stopping = true;
                self.leave_all();
            }
            Event::FlushAll => self.wants_all = true,
            Event::Failed(error) => self.end(Err(error), effects),
            completion => self.complete(now, completion, effects),
        }
        for (partition, offset) in committable {
            self.take_durable(partition, *offset);
        }
        if matches!(self.doing, Doing::Nothing) {
            self.choose(now, effects);
        }
        self.note_positions();
        self.check();
    }

    /// The effect under way is done.
    fn complete(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        let was = std::mem::replace(&mut self.doing, Doing::Nothing);
        match (event, was) {
            (Event::Opened(Ok(starts)), Doing::Opening(added)) => {
                self.on_opened(added, starts, effects)
            }
            (Event::Opened(Err(error)), Doing::Opening(_)) => self.end(Err(error), effects),
            (Event::Sought, Doing::Seeking) => {}
            (Event::Fetched { batches, positions }, Doing::Fetching) => {
                self.on_fetched(batches, positions)
            }
            (Event::Put(Ok(rejected)), Doing::Putting) => self.on_put(rejected, effects),
            (Event::Put(Err(error)), Doing::Putting) if error.is_retriable() => {
                self.on_put_later(now)
            }
            (Event::Judged, Doing::Judging(batch, rejected)) => self.delivered(&batch, &rejected),
            (Event::Flushed(done), Doing::Flushing(how)) => {
                self.on_flushed(now, how, done, effects)
            }
            (Event::Committed { is_done }, Doing::Committing(offsets)) => {
                self.on_committed(now, is_done, offsets, effects);
            }
            (Event::Told(Ok(())), Doing::Telling) => {}
            // What it was told stands; what it could not do about it, it can do when told again.
            (Event::Told(Err(error)), Doing::Telling) if error.is_retriable() => {}
            (Event::Closed, Doing::Closing(partitions)) => self.on_closed(&partitions),
            (Event::Put(Err(error)), Doing::Putting)
            | (Event::Told(Err(error)), Doing::Telling) => {
                self.end(Err(error), effects);
            }
            (event, was) => panic!("{event:?} while {was:?}"),
        }
    }

    /// Decides what comes next; the header's table.
    fn choose(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.lost.is_empty() {
            // Nothing of them may be made durable or committed: that is for their new owner.
            let lost = std::mem::take(&mut self.lost);
            self.close(lost, effects);
        } else if !self.is_stopping && !self.added.is_empty() {
            let added = std::mem::take(&mut self.added);
            self.doing = Doing::Opening(added.clone());
            effects.push(Effect::Open(added));
        } else if !self.leaving.is_empty() {
            self.say_farewell(effects);
        } else if self.is_stopping {
            self.end(Ok(()), effects);
        } else if self.commit_at <= now.monotonic && self.has_uncommitted() {
            self.commit(effects);
        } else if self.wants_all
            && self.queue.is_empty()
            && (!self.has_flush_failed || self.flush_at <= now.monotonic)
        {
            self.flush(Flush::All, effects);
        } else if self.flush_at <= now.monotonic {
            self.flush(Flush::Due, effects);
        } else if let Some(retry_at) = self.retry_at.filter(|at| *at > now.monotonic) {
            self.doing = Doing::Fetching;
            effects.push(Effect::Fetch { until: retry_at.min(self.flush_at), is_paused: true });
        } else if let Some(batch) = self.queue.front() {
            self.doing = Doing::Putting;
            effects.push(Effect::Put(batch.clone()));
        } else {
            let commit_at = if self.has_uncommitted() { self.commit_at } else { self.flush_at };
            self.doing = Doing::Fetching;
            effects.push(Effect::Fetch { until: self.flush_at.min(commit_at), is_paused: false });
        }
    }

    fn say_farewell(&mut self, effects: &mut Vec<Effect>) {
        if self.farewell == Farewell::Flush {
            self.farewell = Farewell::Commit;
            return self.flush(Flush::All, effects);
        }
        if self.farewell == Farewell::Commit {
            self.farewell = Farewell::Close;
            if self.has_uncommitted() {
                return self.commit(effects);
            }
        }
        self.farewell = Farewell::Flush;
        let leaving = std::mem::take(&mut self.leaving);
        self.close(leaving, effects);
    }

    fn close(&mut self, partitions: BTreeSet<TopicPartition>, effects: &mut Vec<Effect>) {
        let partitions: Vec<TopicPartition> = partitions.into_iter().collect();
        self.doing = Doing::Closing(partitions.clone());
        effects.push(Effect::Close(partitions));
    }

    fn flush(&mut self, how: Flush, effects: &mut Vec<Effect>) {
        self.doing = Doing::Flushing(how);
        effects.push(Effect::Flush(how));
    }

    fn commit(&mut self, effects: &mut Vec<Effect>) {
        let offsets: Vec<(TopicPartition, Offset)> = self.uncommitted().collect();
        self.doing = Doing::Committing(offsets.clone());
        effects.push(Effect::Commit(offsets));
    }

    fn uncommitted(&self) -> impl Iterator<Item = (TopicPartition, Offset)> {
        self.partitions
            .iter()
            .filter_map(|(partition, it)| Some((partition.clone(), it.committable()?)))
    }

    fn has_uncommitted(&self) -> bool {
        self.uncommitted().next().is_some()
    }

    fn take_durable(&mut self, partition: &TopicPartition, offset: Offset) {
        if let Some(it) = self.partitions.get_mut(partition) {
            it.made_durable(offset);
        }
    }

    fn on_opened(
        &mut self,
        added: Vec<Assigned>,
        starts: Vec<(TopicPartition, Offset)>,
        effects: &mut Vec<Effect>,
    ) {
        for Assigned { partition, committed, .. } in added {
            self.partitions.insert(partition, Delivery::opened(committed));
        }
        let mut seek = Vec::new();
        for (partition, start) in starts {
            if let Some(it) = self.partitions.get_mut(&partition) {
                it.position = Some(start);
                seek.push((partition, start));
            }
        }
        if !seek.is_empty() {
            self.doing = Doing::Seeking;
            effects.push(Effect::Seek(seek));
        }
        let lost_early: Vec<TopicPartition> =
            std::mem::take(&mut self.lost_early).into_iter().collect();
        self.lose(&lost_early);
        if self.is_stopping {
            self.leave_all();
        }
    }

    fn on_fetched(&mut self, batches: Vec<SinkBatch>, positions: Vec<(TopicPartition, Offset)>) {
        for mut batch in batches {
            // Fetched ahead for a partition that has left, or from where it was before a seek.
            let Some(it) = self.partitions.get(&batch.partition) else { continue };
            if let Some(position) = it.position {
                batch.records.retain(|record| record.offset >= position);
            }
            if !batch.records.is_empty() && !self.is_leaving(&batch.partition) {
                self.queue.push_back(batch);
            }
        }
        for (partition, fetched) in positions {
            if let Some(it) = self.partitions.get_mut(&partition) {
                it.fetched = Some(fetched);
            }
            self.pass_over(&partition);
        }
    }

    /// Once all that was fetched of `partition` is put, what lies behind up to the fetch position is no record.
    fn pass_over(&mut self, partition: &TopicPartition) {
        let is_all_put = !self.is_leaving(partition)
            && self.queue.iter().all(|batch| batch.partition != *partition);
        if let Some(it) = self.partitions.get_mut(partition)
            && is_all_put
        {
            it.pass_over();
        }
    }

    fn on_put(&mut self, rejected: Vec<Rejected>, effects: &mut Vec<Effect>) {
        self.backoff.reset();
        self.retry_at = None;
        let batch = self.queue.pop_front().expect("a batch that is put stays in the queue");
        if rejected.is_empty() {
            self.delivered(&batch, &BTreeSet::new());
        } else {
            self.progress.rejected += u64::try_from(rejected.len()).expect("a length fits 64 bits");
            let offsets = rejected.iter().map(|it| it.offset).collect();
            self.doing = Doing::Judging(batch.clone(), offsets);
            effects.push(Effect::Judge(batch, rejected));
        }
    }

    fn on_put_later(&mut self, now: Now) {
        let batch = self.queue.front().expect("a batch that is put stays in the queue");
        if self.is_leaving(&batch.partition) {
            self.queue.pop_front();
        } else {
            self.retry_at = Some(now.monotonic + self.backoff.next_wait());
        }
    }

    fn delivered(&mut self, batch: &SinkBatch, rejected: &BTreeSet<Offset>) {
        let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        let bytes: usize =
            batch.records.iter().map(|record| len(&record.key) + len(&record.value)).sum();
        self.progress.records += u64::try_from(batch.records.len()).expect("a length fits 64 bits");
        self.progress.bytes += u64::try_from(bytes).expect("a length fits 64 bits");
        if let Some(it) = self.partitions.get_mut(&batch.partition) {
            it.delivered(batch, rejected);
        }
        self.pass_over(&batch.partition);
    }

    fn on_flushed(
        &mut self,
        now: Now,
        how: Flush,
        done: Result<(), TaskError>,
        effects: &mut Vec<Effect>,
    ) {
        self.flush_at = now.monotonic + self.flush_interval;
        self.has_flush_failed = done.is_err();
        match done {
            Ok(()) if how == Flush::All => {
                self.wants_all = false;
                self.commit_at = now.monotonic;
            }
            // Tried again when it is time; at an end, what is not durable is delivered again later.
            Ok(()) => {}
            Err(error) if error.is_retriable() => {}
            Err(error) => self.end(Err(error), effects),
        }
    }

    fn on_committed(
        &mut self,
        now: Now,
        is_done: bool,
        offsets: Vec<(TopicPartition, Offset)>,
        effects: &mut Vec<Effect>,
    ) {
        self.commit_at = now.monotonic + self.flush_interval;
        if !is_done {
            return;
        }
        for (partition, offset) in &offsets {
            if let Some(it) = self.partitions.get_mut(partition) {
                assert!(it.committed < Some(*offset), "{partition} was committed backwards");
                it.committed = Some(*offset);
            }
        }
        self.doing = Doing::Telling;
        effects.push(Effect::Tell(offsets));
    }

    fn note_positions(&mut self) {
        let positions =
            self.partitions.iter().filter_map(|(at, it)| Some((at.clone(), it.position?)));
        self.progress.positions = positions.collect();
        let committed =
            self.partitions.iter().filter_map(|(at, it)| Some((at.clone(), it.committed?)));
        self.progress.committed = committed.collect();
    }

    fn leave_all(&mut self) {
        let all: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        self.leave(&all);
    }

    fn leave(&mut self, partitions: &[TopicPartition]) {
        self.added.retain(|added| !partitions.contains(&added.partition));
        if let Doing::Opening(added) = &self.doing {
            let opening = added.iter().map(|it| &it.partition).filter(|it| partitions.contains(it));
            self.lost_early.extend(opening.cloned());
        }
        // One that is told to go before it was opened needs no farewell.
        let open =
            partitions.iter().filter(|it| self.partitions.get(it).is_some_and(|it| !it.is_lost));
        self.leaving.extend(open.cloned());
        self.farewell = Farewell::Flush;
        // A batch that is being put stays until that is done.
        let under_way =
            if matches!(self.doing, Doing::Putting) { self.queue.pop_front() } else { None };
        self.queue.retain(|batch| !partitions.contains(&batch.partition));
        if let Some(batch) = under_way {
            self.queue.push_front(batch);
        } else {
            self.retry_at = None;
        }
    }

    fn is_leaving(&self, partition: &TopicPartition) -> bool {
        self.leaving.contains(partition) || self.lost.contains(partition)
    }

    fn lose(&mut self, partitions: &[TopicPartition]) {
        self.leave(partitions);
        for partition in partitions {
            if let Some(it) = self.partitions.get_mut(partition) {
                it.is_lost = true;
                self.leaving.remove(partition);
                self.lost.insert(partition.clone());
            }
        }
    }

    fn on_closed(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.partitions.remove(partition);
            self.leaving.remove(partition);
            self.lost.remove(partition);
        }
    }

    fn end(&mut self, how: Result<(), TaskError>, effects: &mut Vec<Effect>) {
        self.doing = Doing::Over;
        effects.push(Effect::End(how));
    }

    /// Asserts that no more is committed than was fetched, and that what is given up is open.
    fn check(&self) {
        self.partitions.values().for_each(Delivery::check);
        assert!(
            self.leaving.iter().all(|it| self.partitions.get(it).is_some_and(|it| !it.is_lost))
        );
        assert!(self.lost.iter().all(|it| self.partitions.get(it).is_some_and(|it| it.is_lost)));
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
