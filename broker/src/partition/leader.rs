//! Leading a partition: accept, number, write, and know when it is committed.
//!
//! Batches are checked against all that was accepted before, written or not, and numbered in
//! memory; their writes follow in order, several at a time. A duplicate of a batch that is still on
//! its way waits for the original. When a write fails, everything accepted after what is on disk
//! is forgotten: the log state is replaced by the one that the disk bears out, so that producers
//! whose batches were lost may send them again, and whoever waited for them is told.
//!
//! Invariants: `log start <= last stable <= high watermark <= written <= accepted`; each appender
//! that waits, waits for an end above the position that would release it. Pure.

use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{LeaderEpoch, Offset, ProducerId, TopicPartition};
use protocol::mutant::{self, Mutant};
use protocol::record::{BatchHeader, ControlRecord, RecordBatch};
use protocol::time::{Now, Timestamp};

use super::core::{Answer, Closed, Effect, Event, Leadership, Progress, Stalled, Token};
use super::ends::{self, Ends};
use super::expected::Expected;
use super::isr::InSync;
use super::owed::Owed;
use super::underway::Underway;
use super::waiters::Waiters;
use super::wishes::Wishes;
use super::{
    Acks, ActiveProducer, Append, AppendError, Appended, EndTxnMarker, Origin, ReadError, Standing,
    VerificationGuard, Watermarks,
};
use crate::config::FlushMode;
use crate::limits::{PARTITION_APPENDS_WAITING_MAX, PARTITION_BYTES_IN_FLIGHT_MAX};
use crate::log::{
    Checked, EndTxn, LogState, MarkerChecked, Origin as LogOrigin, Placed, RetentionPlan,
    SequenceError,
};

/// The leader's view of its partition.
#[derive(Debug)]
pub(super) struct Leader {
    partition: TopicPartition,
    leadership: Leadership,
    /// As far as batches were accepted, which may be further than the disk.
    log: LogState,
    isr: InSync,
    /// End of what is written.
    written: Offset,
    /// End of what is durable.
    synced: Offset,
    high_watermark: Offset,
    /// Why the log is being asked for anew, while it is.
    recalling: Option<Arc<str>>,
    underway: Underway,
    /// Since when, and how many, records were written that no sync was asked for.
    unflushed: Option<(Duration, u64)>,
    /// Where the log ended when this leadership began.
    epoch_start: Offset,
    committed_bytes: u64,
    rollbacks: u64,
    expected: Expected,
    ends: Ends,
    until_written: Waiters<Owed>,
    until_committed: Waiters<Owed>,
    wishes: Wishes,
}

impl Leader {
    /// The leader over `log`, whose records below `synced` are durable.
    pub(super) fn new(
        partition: TopicPartition,
        leadership: Leadership,
        log: LogState,
        synced: Offset,
    ) -> Self {
        let isr = InSync::new(leadership.own, &leadership.isr);
        let mut leader = Self {
            partition,
            written: log.log_end(),
            epoch_start: log.log_end(),
            synced,
            high_watermark: log.log_start(),
            log,
            isr,
            leadership,
            recalling: None,
            underway: Underway::default(),
            unflushed: None,
            committed_bytes: 0,
            rollbacks: 0,
            expected: Expected::default(),
            ends: Ends::default(),
            until_written: Waiters::new(PARTITION_APPENDS_WAITING_MAX),
            until_committed: Waiters::new(PARTITION_APPENDS_WAITING_MAX),
            wishes: Wishes::new(),
        };
        leader.advance(&mut Vec::new());
        leader
    }

    /// The log, as far as batches were accepted.
    pub(super) fn log(&self) -> &LogState {
        &self.log
    }

    pub(super) fn watermarks(&self) -> Watermarks {
        Watermarks {
            log_start: self.log.log_start(),
            high_watermark: self.high_watermark,
            last_stable: self.log.last_stable_offset(self.high_watermark),
            log_end: self.written,
            leader_epoch: self.leadership.leader_epoch,
            epoch_start: self.epoch_start,
            committed_bytes: self.committed_bytes,
            rollbacks: self.rollbacks,
            online: true,
        }
    }

    /// Appends to `effects` what must be done, to `told` what may be said after the positions are
    /// published. Yields why it is over, when it is.
    pub(super) fn step(
        &mut self,
        now: Now,
        event: Event,
        effects: &mut Vec<Effect>,
        told: &mut Vec<Effect>,
    ) -> Option<Closed> {
        match event {
            Event::Append { token, append } => {
                self.on_append(now, token, append, effects, told);
            }
            Event::Marker { token, marker, acks } => {
                match self.accept_marker(now, marker, acks, effects) {
                    Ok(end) => self.owe(acks, Owed::Marker { token, end }, end, told),
                    Err(error) => told.push(Owed::marker_refused(token, error)),
                }
            }
            Event::Progress(progress) => {
                let closed = self.on_progress(progress, effects, told);
                if closed.is_some() {
                    return closed;
                }
            }
            Event::Recalled { on_disk } => self.on_recalled(*on_disk, told),
            Event::Failed { reason } => return Some(Closed::Offline { reason }),
            Event::DeleteBefore { token, offset } => self.on_delete(token, offset, effects, told),
            Event::Deleted { token, result } => {
                let partition = self.partition.clone();
                let answer = result.map_err(|reason| ReadError::Storage { partition, reason });
                told.push(Effect::Reply { token, answer: Answer::Deleted(answer) });
            }
            Event::Retain(plan) => self.on_retain(&plan, effects),
            Event::EndOfEpoch { token, asked } => {
                let answer = Answer::EndOfEpoch(self.end_of_epoch(asked));
                told.push(Effect::Reply { token, answer });
            }
            Event::EpochAt { token, offset } => {
                let answer = Answer::EpochAt(self.epoch_at(offset));
                told.push(Effect::Reply { token, answer });
            }
            Event::OpenTransaction { token, producer_id, producer_epoch } => {
                let open_from = self.log.open_transaction(producer_id, producer_epoch);
                let guard = self.ends.guard(self.log.log_end());
                let standing = Standing { open_from, guard };
                told.push(Effect::Reply { token, answer: Answer::OpenTransaction(standing) });
            }
            Event::Producers { token } => {
                let known = self.log.producers().iter().map(ActiveProducer::of);
                let answer = Answer::Producers(known.collect());
                told.push(Effect::Reply { token, answer });
            }
            Event::Wait(wish) => self.wishes.add(wish, told),
            Event::WaitNoMore(wish) => self.wishes.remove(wish),
            Event::NewLeadership(leadership) => self.on_new_leadership(leadership, told),
            Event::Tick { producer_expiration } => {
                self.log.expire_producers(now.wall, producer_expiration);
                self.expected.forget();
            }
            Event::Stop => return Some(Closed::Stopped),
        }
        self.wishes.ring_due(&self.watermarks(), told);
        None
    }

    /// Tells everyone who waits that it is over.
    pub(super) fn dismiss_all(&mut self, closed: &Closed, told: &mut Vec<Effect>) {
        for waiters in [&mut self.until_written, &mut self.until_committed] {
            while let Some(owed) = waiters.pop() {
                told.push(owed.refused(closed.append_error(&self.partition)));
            }
        }
        self.wishes.ring_all(told);
    }

    fn on_append(
        &mut self,
        now: Now,
        token: Token,
        mut append: Append,
        effects: &mut Vec<Effect>,
        told: &mut Vec<Effect>,
    ) {
        append.acks = self.what_leader_alone_gives(append.acks);
        let acks = append.acks;
        match self.accept(now, append, effects) {
            Ok(appended) => self.owe(acks, Owed::Append { token, appended }, appended.end, told),
            Err(error) => told.push(Effect::Reply { token, answer: Answer::Append(Err(error)) }),
        }
    }

    /// Checks all batches, then takes them into the log and begins to write them.
    fn accept(
        &mut self,
        now: Now,
        append: Append,
        effects: &mut Vec<Effect>,
    ) -> Result<Appended, AppendError> {
        let Append { batches, origin, acks, leader_epoch } = append;
        self.fence(leader_epoch)?;
        self.check_room(acks)?;
        let (origin, guard) = match origin {
            Origin::Client => (LogOrigin::Client, None),
            Origin::Verified(guard) => (LogOrigin::Client, Some(guard)),
            Origin::Coordinator => (LogOrigin::Coordinator, None),
            Origin::CoordinatorVerified(guard) => (LogOrigin::Coordinator, Some(guard)),
        };
        for batch in &batches {
            match self.judge(batch.header(), origin) {
                Ok(Checked::New) => self.hold(batch.header().producer_id, guard)?,
                Ok(Checked::Duplicate { base_offset, timestamp }) => {
                    return Ok(self.duplicate(batch, base_offset, timestamp));
                }
                Err(reason) => {
                    let partition = self.partition.clone();
                    return Err(AppendError::Producer { partition, reason });
                }
            }
        }
        for batch in &batches {
            self.expected.came(batch.header().producer_id);
        }
        let base_offset = self.log.log_end();
        let log_append_time = batches.first().map_or(Timestamp::NONE, append_time);
        self.admit(now, &batches, effects);
        Ok(Appended {
            base_offset,
            end: self.log.log_end(),
            log_append_time,
            log_start: self.log.log_start(),
            was_duplicate: false,
        })
    }

    /// What the first append of `batch` was answered with.
    fn duplicate(
        &self,
        batch: &RecordBatch,
        base_offset: Offset,
        timestamp: Timestamp,
    ) -> Appended {
        let header = batch.header();
        let dated_by_broker = append_time(batch) != Timestamp::NONE;
        Appended {
            base_offset,
            end: base_offset.plus(i64::from(header.last_offset_delta) + 1),
            log_append_time: if dated_by_broker { timestamp } else { Timestamp::NONE },
            log_start: self.log.log_start(),
            was_duplicate: true,
        }
    }

    fn fence(&self, asked: Option<LeaderEpoch>) -> Result<(), AppendError> {
        let current = self.leadership.leader_epoch;
        let partition = self.partition.clone();
        match asked {
            Some(asked) if asked < current => {
                Err(AppendError::FencedLeaderEpoch { partition, asked, current })
            }
            // Its epoch is news to us: our metadata lag behind.
            Some(asked) if asked > current => Err(AppendError::NotLeader { partition }),
            _ => Ok(()),
        }
    }

    fn check_room(&self, acks: Acks) -> Result<(), AppendError> {
        let (in_sync, min) = (self.isr.len(), self.leadership.min_in_sync());
        let partition = self.partition.clone();
        let ahead = || self.log.epochs().ahead_of(self.leadership.leader_epoch);
        if let Some(reason) = self.recalling.clone().or_else(ahead) {
            return Err(AppendError::Storage { partition, reason });
        }
        if acks == Acks::Committed && in_sync < min {
            return Err(AppendError::NotEnoughReplicas { partition, in_sync, min });
        }
        let is_full = match acks {
            Acks::Accepted => false,
            Acks::Written => self.until_written.is_full(),
            Acks::Committed => self.until_committed.is_full(),
        };
        if is_full || self.underway.bytes() >= PARTITION_BYTES_IN_FLIGHT_MAX {
            return Err(AppendError::Overloaded { partition });
        }
        Ok(())
    }

    /// Places batches at the end of the log and begins to write them.
    fn admit(&mut self, now: Now, batches: &[RecordBatch], effects: &mut Vec<Effect>) {
        let mut next = self.log.log_end();
        let leader_epoch = self.leadership.leader_epoch;
        let placed: Vec<_> = batches
            .iter()
            .map(|batch| {
                let placed = Placed::new(batch, next, leader_epoch)
                    .expect("control batches are built here, others are not read");
                next = placed.header.next_offset();
                placed
            })
            .collect();
        let records = batches.iter().map(|batch| batch.header().record_count).sum();
        let sync = self.must_sync(now, records);
        let mut writes = Vec::new();
        self.log.admit(placed, &self.leadership.log, sync, &mut writes);
        for write in writes {
            let bytes = write.batches.iter().map(|it| it.bytes.size_bytes()).sum::<usize>();
            let bytes = u64::try_from(bytes).expect("memory is smaller than 2^64 bytes");
            let end = write.batches.last().map_or(write.from, |it| it.header.next_offset());
            self.underway.push(end, bytes);
            effects.push(Effect::Write(write));
        }
    }

    /// Whether writing so many records is to be followed by a sync.
    fn must_sync(&mut self, now: Now, records: i32) -> bool {
        let Leadership { flush_mode, flush_records, flush_interval, .. } = self.leadership;
        if flush_mode == FlushMode::Ack {
            return true;
        }
        let (since, count) = self.unflushed.get_or_insert((now.monotonic, 0));
        *count += u64::try_from(records).unwrap_or(0);
        let is_due =
            *count >= flush_records || now.monotonic.saturating_sub(*since) >= flush_interval;
        if is_due {
            self.unflushed = None;
        }
        is_due
    }

    /// With `acks=1`, a leader that nobody follows answers when the record can be read, not a moment before: the
    /// high watermark waits for no one else, and clients ask for the end next.
    fn what_leader_alone_gives(&self, acks: Acks) -> Acks {
        let is_alone = self.isr.len() == 1 && self.leadership.min_in_sync() <= 1;
        if acks == Acks::Written && is_alone { Acks::Committed } else { acks }
    }

    /// Answers when `end` is as safe as `acks` asks for.
    fn owe(&mut self, acks: Acks, owed: Owed, end: Offset, told: &mut Vec<Effect>) {
        let (position, waiters) = match acks {
            _ if mutant::is_active(Mutant::AckBeforeWrite) => {
                return told.push(owed.fulfilled());
            }
            Acks::Accepted => return told.push(owed.fulfilled()),
            Acks::Written => (self.written, &mut self.until_written),
            Acks::Committed => (self.high_watermark, &mut self.until_committed),
        };
        if end <= position {
            told.push(owed.fulfilled());
        } else {
            waiters.add(end, owed.token(), owed);
        }
    }

    fn accept_marker(
        &mut self,
        now: Now,
        marker: EndTxnMarker,
        acks: Acks,
        effects: &mut Vec<Effect>,
    ) -> Result<Offset, AppendError> {
        self.check_room(acks)?;
        let EndTxnMarker { producer_id, producer_epoch, coordinator_epoch, .. } = marker;
        let end_txn = EndTxn {
            producer_id,
            producer_epoch,
            coordinator_epoch,
            transaction_version: marker.transaction_version,
        };
        match self.log.check_marker(&end_txn) {
            Ok(MarkerChecked::New) => {}
            // It is somewhere before the end, perhaps not committed yet.
            Ok(MarkerChecked::Repeated) => return Ok(self.log.log_end()),
            Err(reason) => {
                let partition = self.partition.clone();
                return Err(AppendError::Producer { partition, reason });
            }
        }
        let control = if marker.commit {
            ControlRecord::Commit { coordinator_epoch }
        } else {
            ControlRecord::Abort { coordinator_epoch }
        };
        let batch = control.end_txn_marker(producer_id, producer_epoch, now.wall);
        self.ends.ended(producer_id, self.log.log_end());
        self.admit(now, &[batch], effects);
        Ok(self.log.log_end())
    }

    fn on_progress(
        &mut self,
        progress: Progress,
        effects: &mut Vec<Effect>,
        told: &mut Vec<Effect>,
    ) -> Option<Closed> {
        assert!(progress.synced <= progress.written);
        assert!(progress.written <= self.log.log_end(), "nothing is written unasked");
        self.written = self.written.max(progress.written);
        self.synced = self.synced.max(progress.synced);
        while let Some(owed) = self.until_written.pop_reached(self.written) {
            told.push(owed.fulfilled());
        }
        self.advance(told);
        match progress.stalled {
            // A word of the same failure while it is being dealt with.
            Some(_) if self.recalling.is_some() => None,
            Some(stalled) => self.on_stalled(stalled, effects, told),
            None => None,
        }
    }

    /// A write failed. Until it is known what is on disk nothing more is accepted: later writes
    /// were refused, as they could not follow.
    fn on_stalled(
        &mut self,
        stalled: Stalled,
        effects: &mut Vec<Effect>,
        told: &mut Vec<Effect>,
    ) -> Option<Closed> {
        let closed = Closed::Offline { reason: stalled.reason.clone() };
        if stalled.is_final {
            return Some(closed);
        }
        self.recalling = Some(stalled.reason);
        for waiters in [&mut self.until_written, &mut self.until_committed] {
            while let Some(owed) = waiters.pop_beyond(self.written) {
                told.push(owed.refused(closed.append_error(&self.partition)));
            }
        }
        effects.push(Effect::Recall);
        None
    }

    fn judge(&self, header: &BatchHeader, origin: LogOrigin) -> Result<Checked, SequenceError> {
        self.expected.check(header)?;
        self.log.check_append(header, origin)
    }

    /// What was verified under `guard` may enter only if its transaction did not end since.
    fn hold(
        &self,
        producer_id: ProducerId,
        guard: Option<VerificationGuard>,
    ) -> Result<(), AppendError> {
        let Some(guard) = guard else { return Ok(()) };
        let partition = self.partition.clone();
        match self.ends.since(producer_id, guard) {
            ends::Standing::Holds => Ok(()),
            ends::Standing::EndedAt(marker) => {
                let reason = SequenceError::Unverified { producer_id, marker };
                Err(AppendError::Producer { partition, reason })
            }
            // It is to be verified anew.
            ends::Standing::TooOld => Err(AppendError::NotLeader { partition }),
        }
    }

    fn on_recalled(&mut self, on_disk: LogState, told: &mut Vec<Effect>) {
        self.expected.note(self.log.producers(), on_disk.producers());
        assert!(self.recalling.take().is_some(), "only asked for after a failure");
        assert!(self.written <= on_disk.log_end(), "what was reported written is on disk");
        let log_start = self.log.log_start();
        self.log = on_disk;
        self.log.delete_before(log_start);
        self.rollbacks += 1;
        self.ends.rolled_back();
        self.written = self.log.log_end();
        // What nobody has any more, nobody was shown.
        self.epoch_start = self.epoch_start.min(self.written);
        self.underway.forget_beyond(self.written);
        self.advance(told);
    }

    /// End of what a power cut, or under `flush.mode=async` a crash of the process, leaves.
    fn safe_end(&self) -> Offset {
        match self.leadership.flush_mode {
            FlushMode::Ack => self.synced,
            FlushMode::Async => self.written,
        }
    }

    /// Moves the high watermark as far as the in-sync set allows, and tells who waited for it.
    fn advance(&mut self, told: &mut Vec<Effect>) {
        self.isr.leader_reached(self.safe_end());
        let Some(reached) = self.isr.high_watermark(self.leadership.min_in_sync()) else { return };
        // A replica that joins may not have it all; what was committed stays committed.
        self.high_watermark = self.high_watermark.max(reached.min(self.written));
        self.committed_bytes += self.underway.commit(self.high_watermark);
        self.log.settle(self.high_watermark);
        while let Some(owed) = self.until_committed.pop_reached(self.high_watermark) {
            told.push(owed.fulfilled());
        }
    }

    fn on_delete(
        &mut self,
        token: Token,
        offset: Offset,
        effects: &mut Vec<Effect>,
        told: &mut Vec<Effect>,
    ) {
        let offset = if offset == Offset::NONE { self.high_watermark } else { offset };
        if offset > self.high_watermark {
            let error = ReadError::OutOfRange {
                partition: self.partition.clone(),
                offset,
                log_start: self.log.log_start(),
                log_end: self.high_watermark,
            };
            told.push(Effect::Reply { token, answer: Answer::Deleted(Err(error)) });
            return;
        }
        let offset = self.log.delete_before(offset);
        effects.push(Effect::DeleteBefore { token: Some(token), offset });
    }

    /// Lets old segments go, never one with records that are not committed.
    fn on_retain(&mut self, plan: &RetentionPlan, effects: &mut Vec<Effect>) {
        let Some(offset) = plan.delete_before.filter(|it| *it <= self.high_watermark) else {
            return;
        };
        if self.recalling.is_some() || offset <= self.log.log_start() {
            return;
        }
        // The segment being written must be complete to go, and goes only if nothing came since.
        if plan.roll && offset == self.log.log_end() {
            effects.extend(self.log.roll().map(Effect::Write));
        }
        let offset = self.log.delete_before(offset);
        effects.push(Effect::DeleteBefore { token: None, offset });
    }

    fn end_of_epoch(&self, asked: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let current = self.leadership.leader_epoch;
        if asked >= current {
            // The present epoch ends where the log does, even before it wrote anything.
            return (asked == current).then_some((asked, self.written));
        }
        let epochs = self.log.epochs();
        let newest = epochs.newest().map_or(asked, |(newest, _)| newest.min(asked));
        let found = epochs.end_of(asked, self.written);
        let (epoch, end) = found.unwrap_or((newest, self.written));
        Some((epoch, end.min(self.written)))
    }

    fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.log.epochs().epoch_at(offset).unwrap_or(self.leadership.leader_epoch)
    }

    fn on_new_leadership(&mut self, leadership: Leadership, told: &mut Vec<Effect>) {
        assert!(leadership.leader_epoch >= self.leadership.leader_epoch, "epochs never go back");
        let is_new_epoch = leadership.leader_epoch > self.leadership.leader_epoch;
        self.isr.set(&leadership.isr);
        self.leadership = leadership;
        if is_new_epoch {
            self.epoch_start = self.log.log_end();
            // Fetches carry the old epoch: their readers must hear of the new one.
            self.wishes.ring_all(told);
        }
        self.advance(told);
    }

    /// Asserts every invariant of this struct.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn check(&self) {
        self.log.check();
        assert!(self.high_watermark <= self.written);
        assert!(self.synced <= self.written);
        assert!(self.written <= self.log.log_end());
        let is_above = |lowest: Option<Offset>, position| lowest.is_none_or(|it| it > position);
        assert!(is_above(self.until_written.lowest(), self.written));
        assert!(is_above(self.until_committed.lowest(), self.high_watermark));
        self.wishes.check(&self.watermarks());
        self.underway.check();
    }
}

/// When the broker dated the records of `batch`; `NONE` when their producer did.
fn append_time(batch: &RecordBatch) -> Timestamp {
    let header = batch.header();
    if header.attributes.is_log_append_time() { header.max_timestamp } else { Timestamp::NONE }
}
