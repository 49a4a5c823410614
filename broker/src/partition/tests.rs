//! What a partition promises, event by event and under any lawful sequence of events. Pure.

mod handle;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use protocol::error_code::ErrorCode;
use protocol::ids::{
    BrokerId, CoordinatorEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence,
    TopicPartition,
};
use protocol::record::{BatchBuilder, BatchOptions, RecordBatch};
use protocol::time::{Now, Timestamp};

use super::core::{
    Answer, Effect, Event, Leadership, PartitionCore, Progress, Stalled, Token, Wish,
};
use super::{
    Acks, Append, AppendError, Appended, EndTxnMarker, Isolation, LookupError, Origin, ReadError,
    Standing, VerificationGuard, Watermarks,
};
use crate::config::FlushMode;
use crate::log::{LogConfig, LogState, RetentionPlan, Write};

const OWN: BrokerId = BrokerId(1);

fn leadership(epoch: i32) -> Leadership {
    Leadership {
        leader_epoch: LeaderEpoch(epoch),
        own: OWN,
        isr: vec![OWN],
        replica_count: 1,
        min_insync_replicas: 1,
        flush_mode: FlushMode::Ack,
        flush_records: u64::MAX,
        flush_interval: Duration::MAX,
        log: LogConfig::default(),
    }
}

/// A partition over a disk that does what the test says.
struct World {
    core: PartitionCore,
    /// The log as it is on disk.
    disk: LogState,
    /// Writes on their way, oldest first.
    underway: VecDeque<Write>,
    /// Durable below this.
    synced: Offset,
    /// After a write failed, until the log was asked for: later writes cannot follow.
    stalled: Option<Stalled>,
    answers: BTreeMap<Token, Answer>,
    rung: Vec<u64>,
    next_token: Token,
    seen: Watermarks,
}

impl World {
    fn new(leadership: Leadership) -> Self {
        Self::over(LogState::empty(Offset::ZERO), leadership)
    }

    /// A partition whose log was there before, all of it durable.
    fn over(disk: LogState, leadership: Leadership) -> Self {
        let partition = TopicPartition::new("orders", 0);
        let synced = disk.log_end();
        let core = PartitionCore::new(partition, leadership, disk.clone(), synced);
        let seen = core.watermarks();
        Self {
            core,
            disk,
            underway: VecDeque::new(),
            synced,
            stalled: None,
            answers: BTreeMap::new(),
            rung: Vec::new(),
            next_token: 0,
            seen,
        }
    }

    fn step(&mut self, event: Event) {
        let mut effects = Vec::new();
        let now = Now { monotonic: Duration::ZERO, wall: Timestamp(1_000) };
        self.core.step(now, event, &mut effects);
        self.core.check();
        let mut recalled = false;
        for effect in effects {
            match effect {
                Effect::Write(write) => self.underway.push_back(write),
                Effect::Recall => recalled = true,
                Effect::DeleteBefore { token, offset } => {
                    self.disk.delete_before(offset);
                    if let Some(token) = token {
                        self.step(Event::Deleted { token, result: Ok(offset) });
                    }
                }
                Effect::Publish(watermarks) => self.saw(watermarks),
                Effect::Reply { token, answer } => {
                    assert!(self.answers.insert(token, answer).is_none(), "answered twice");
                }
                Effect::Ring { number } => self.rung.push(number),
                Effect::Leave { log } => assert!(log.log_end() >= self.disk.log_end()),
            }
        }
        if recalled {
            // The writer serves in order: whatever was on its way before is refused first.
            self.underway.clear();
            self.sync();
            self.stalled = None;
            self.step(Event::Recalled { on_disk: Box::new(self.disk.clone()) });
        }
    }

    fn saw(&mut self, now: Watermarks) {
        assert!(now.high_watermark >= self.seen.high_watermark, "the high watermark went back");
        assert!(now.last_stable >= self.seen.last_stable, "the last stable offset went back");
        assert!(now.high_watermark <= self.synced, "committed but not durable");
        self.seen = now;
    }

    /// Writes the oldest write, if it can follow. False when there is none.
    fn write(&mut self) -> bool {
        let Some(write) = self.underway.pop_front() else { return false };
        if self.stalled.is_none() {
            assert_eq!(write.from, self.disk.log_end());
            for batch in &write.batches {
                self.disk.apply(&batch.header, batch.control);
            }
        }
        self.report();
        true
    }

    fn sync(&mut self) {
        self.synced = self.disk.log_end();
        self.report();
    }

    fn report(&mut self) {
        let (synced, stalled) = (self.synced, self.stalled.clone());
        self.step(Event::Progress(Progress { written: self.disk.log_end(), synced, stalled }));
    }

    /// Writes the oldest write and makes it durable. False when there is none.
    fn complete(&mut self) -> bool {
        let is_written = self.write();
        self.sync();
        is_written
    }

    /// Fails the oldest write. False when there is none.
    fn fail(&mut self, is_final: bool) -> bool {
        let Some(_) = self.underway.pop_front() else { return false };
        self.stalled = Some(Stalled { reason: "no space left".into(), is_final });
        self.report();
        true
    }

    fn complete_all(&mut self) {
        while self.complete() {}
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token
    }

    fn append(&mut self, batch: RecordBatch, acks: Acks) -> Token {
        self.append_under(batch, acks, None)
    }

    fn append_under(&mut self, batch: RecordBatch, acks: Acks, epoch: Option<i32>) -> Token {
        let token = self.token();
        let append = Append {
            batches: vec![batch],
            origin: Origin::Client,
            acks,
            leader_epoch: epoch.map(LeaderEpoch),
        };
        self.step(Event::Append { token, append });
        token
    }

    fn mark(&mut self, producer: i64, epoch: i16, commit: bool) -> Token {
        let token = self.token();
        let marker = EndTxnMarker {
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(epoch),
            coordinator_epoch: CoordinatorEpoch(1),
            commit,
            transaction_version: 0,
        };
        self.step(Event::Marker { token, marker, acks: Acks::Committed });
        token
    }

    /// How the transaction of `producer` stands, and where the log ends.
    fn standing(&mut self, producer: i64, epoch: i16) -> Standing {
        let token = self.token();
        let (producer_id, producer_epoch) = (ProducerId(producer), ProducerEpoch(epoch));
        self.step(Event::OpenTransaction { token, producer_id, producer_epoch });
        match &self.answers[&token] {
            Answer::OpenTransaction(standing) => *standing,
            other => panic!("{other:?}"),
        }
    }

    fn append_verified(&mut self, batch: RecordBatch, guard: VerificationGuard) -> Token {
        let token = self.token();
        let (origin, acks) = (Origin::Verified(guard), Acks::Committed);
        let append = Append { batches: vec![batch], origin, acks, leader_epoch: None };
        self.step(Event::Append { token, append });
        token
    }

    /// Has a coordinator write offsets of a transaction that was verified before.
    fn write_offsets(&mut self, guard: VerificationGuard) -> Token {
        let token = self.token();
        let (origin, acks) = (Origin::CoordinatorVerified(guard), Acks::Accepted);
        let batches = vec![batch_of(9, 0, -1, 1, true)];
        self.step(Event::Append {
            token,
            append: Append { batches, origin, acks, leader_epoch: None },
        });
        token
    }

    fn wait(&mut self, isolation: Isolation, beyond: i64) -> u64 {
        let number = self.token();
        self.step(Event::Wait(Wish { number, isolation, beyond: Offset(beyond) }));
        number
    }

    fn appended(&self, token: Token) -> Option<Appended> {
        match self.answers.get(&token)? {
            Answer::Append(result) => Some(*result.as_ref().expect("not refused")),
            other => panic!("not the answer to an append: {other:?}"),
        }
    }

    fn refusal(&self, token: Token) -> ErrorCode {
        match &self.answers[&token] {
            Answer::Append(Err(error)) => error.code(),
            Answer::Marker(Err(error)) => error.code(),
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn batch_of(
    producer: i64,
    epoch: i16,
    sequence: i32,
    count: i32,
    transactional: bool,
) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for _ in 0..count {
        builder.append(Timestamp(1), None, Some(b"value"), &[]).unwrap();
    }
    let (id, epoch) = (ProducerId(producer), ProducerEpoch(epoch));
    builder.finish(id, epoch, Sequence(sequence), transactional)
}

/// `count` records of nobody in particular.
fn plain(count: i32) -> RecordBatch {
    batch_of(-1, -1, -1, count, false)
}

fn idempotent(sequence: i32, count: i32) -> RecordBatch {
    batch_of(7, 0, sequence, count, false)
}

#[test]
fn offsets_follow_the_order_of_arrival_and_replies_follow_what_is_asked_for() {
    let mut world = World::new(leadership(3));
    let accepted = world.append(plain(2), Acks::Accepted);
    let written = world.append(plain(3), Acks::Written);
    let committed = world.append(plain(1), Acks::Committed);
    let offsets = |it: Appended| (it.base_offset.0, it.end.0);
    assert_eq!(world.appended(accepted).map(offsets), Some((0, 2)));
    assert_eq!((world.appended(written), world.appended(committed)), (None, None));
    for _ in 0..3 {
        world.write();
    }
    let answers = (world.appended(written), world.appended(committed));
    assert_eq!(answers, (None, None), "written is not yet durable, and cannot be read");
    assert_eq!((world.seen.log_end, world.seen.high_watermark), (Offset(6), Offset(0)));
    world.sync();
    assert_eq!(world.appended(written).map(offsets), Some((2, 5)));
    assert_eq!(world.appended(committed).map(offsets), Some((5, 6)));
    assert_eq!(world.seen.high_watermark, Offset(6));
}

#[test]
fn a_duplicate_of_a_batch_still_underway_waits_for_the_original_and_has_its_offset() {
    let mut world = World::new(leadership(0));
    let original = world.append(idempotent(0, 2), Acks::Committed);
    let duplicate = world.append(idempotent(0, 2), Acks::Committed);
    assert_eq!(world.underway.len(), 1);
    assert!(world.appended(duplicate).is_none());
    world.complete();
    let (original, duplicate) =
        (world.appended(original).unwrap(), world.appended(duplicate).unwrap());
    assert_eq!(duplicate, Appended { was_duplicate: true, ..original });
}

#[test]
fn under_async_flushing_every_so_many_records_are_made_durable() {
    let flush_mode = FlushMode::Async;
    let mut world = World::new(Leadership { flush_mode, flush_records: 5, ..leadership(0) });
    let mut syncs = Vec::new();
    for count in [2, 2, 1, 4, 9, 1] {
        world.append(plain(count), Acks::Accepted);
        syncs.push(world.underway.back().unwrap().sync);
    }
    assert_eq!(syncs, [false, false, true, false, true, false]);
    let flush_interval = Duration::ZERO;
    let mut world = World::new(Leadership { flush_mode, flush_interval, ..leadership(0) });
    world.append(plain(1), Acks::Accepted);
    assert!(world.underway.back().unwrap().sync);
}

#[test]
fn a_gap_in_sequences_is_refused_and_leaves_no_trace() {
    let mut world = World::new(leadership(0));
    world.append(idempotent(0, 1), Acks::Committed);
    let gap = world.append(idempotent(5, 1), Acks::Committed);
    assert_eq!(world.refusal(gap), ErrorCode::OutOfOrderSequenceNumber);
    let next = world.append(idempotent(1, 1), Acks::Committed);
    world.complete_all();
    assert_eq!(world.appended(next).unwrap().base_offset, Offset(1));
}

#[test]
fn a_writer_of_another_leader_epoch_is_refused() {
    let mut world = World::new(leadership(5));
    let stale = world.append_under(plain(1), Acks::Accepted, Some(4));
    assert_eq!(world.refusal(stale), ErrorCode::FencedLeaderEpoch);
    let ahead = world.append_under(plain(1), Acks::Accepted, Some(6));
    assert_eq!(world.refusal(ahead), ErrorCode::NotLeaderOrFollower);
    let right = world.append_under(plain(1), Acks::Accepted, Some(5));
    assert!(world.appended(right).is_some());
}

#[test]
fn a_full_disk_takes_back_what_it_could_not_hold_and_the_producer_may_send_it_again() {
    let mut world = World::new(leadership(0));
    let safe = world.append(idempotent(0, 1), Acks::Committed);
    world.complete();
    let lost = world.append(idempotent(1, 1), Acks::Committed);
    let lost_too = world.append(idempotent(2, 1), Acks::Written);
    world.fail(false);
    assert!(world.appended(safe).is_some());
    assert_eq!(world.refusal(lost), ErrorCode::KafkaStorageError);
    assert_eq!(world.refusal(lost_too), ErrorCode::KafkaStorageError);
    assert_eq!(world.seen.rollbacks, 1);
    // Had its sequences been remembered, the retry would be a duplicate of nothing.
    let again = world.append(idempotent(1, 1), Acks::Committed);
    world.complete();
    assert_eq!(world.appended(again).unwrap().base_offset, Offset(1));
}

#[test]
fn a_broken_disk_closes_the_partition() {
    let mut world = World::new(leadership(0));
    let waiting = world.append(plain(1), Acks::Committed);
    let number = world.wait(Isolation::ReadUncommitted, 0);
    world.fail(true);
    assert_eq!(world.refusal(waiting), ErrorCode::KafkaStorageError);
    assert_eq!(world.rung, [number]);
    assert!(!world.seen.online);
    let late = world.append(plain(1), Acks::Accepted);
    assert_eq!(world.refusal(late), ErrorCode::KafkaStorageError);
}

#[test]
fn whoever_waits_when_the_partition_stops_is_told_to_look_for_the_leader() {
    let mut world = World::new(leadership(0));
    let waiting = world.append(plain(1), Acks::Committed);
    world.step(Event::Stop);
    assert_eq!(world.refusal(waiting), ErrorCode::NotLeaderOrFollower);
    world.complete();
    assert!(!world.seen.online);
}

#[test]
fn too_few_in_sync_replicas_refuse_acks_all_alone() {
    let mut few = leadership(0);
    (few.replica_count, few.min_insync_replicas) = (3, 2);
    let mut world = World::new(few.clone());
    let all = world.append(plain(1), Acks::Committed);
    assert_eq!(world.refusal(all), ErrorCode::NotEnoughReplicas);
    let one = world.append(plain(1), Acks::Written);
    world.complete();
    assert!(world.appended(one).is_some());
    assert_eq!(world.seen.high_watermark, Offset(0), "nothing commits below the minimum");
    // One replica of one is all there can be, whatever the topic asks for.
    few.replica_count = 1;
    let mut world = World::new(few);
    let all = world.append(plain(1), Acks::Committed);
    world.complete();
    assert!(world.appended(all).is_some());
}

#[test]
fn an_open_transaction_holds_the_last_stable_offset_until_its_marker_is_committed() {
    let mut world = World::new(leadership(0));
    world.append(plain(1), Acks::Committed);
    world.append(batch_of(9, 0, 0, 2, true), Acks::Committed);
    world.append(plain(1), Acks::Committed);
    world.complete_all();
    assert_eq!((world.seen.high_watermark, world.seen.last_stable), (Offset(4), Offset(1)));
    let committed = world.wait(Isolation::ReadCommitted, 1);
    let marker = world.mark(9, 0, true);
    assert_eq!((world.answers.get(&marker), &world.rung[..]), (None, &[][..]));
    world.complete();
    assert_eq!(world.answers[&marker], Answer::Marker(Ok(Offset(5))));
    assert_eq!(world.seen.last_stable, Offset(5));
    assert_eq!(world.rung, [committed]);
}

#[test]
fn a_batch_that_was_verified_before_a_marker_came_does_not_begin_a_transaction_after_it() {
    let mut world = World::new(leadership(0));
    world.append(batch_of(9, 0, 0, 1, true), Acks::Committed);
    world.mark(9, 0, true);
    world.complete_all();
    // Verified, but late: the transaction is aborted meanwhile.
    let guard = world.standing(9, 0).guard;
    assert_eq!(world.standing(9, 0).open_from, None);
    world.mark(9, 0, false);
    let late = world.append_verified(batch_of(9, 0, 1, 1, true), guard);
    assert_eq!(world.refusal(late), ErrorCode::InvalidTxnState);
    world.complete_all();
    assert_eq!(world.seen.last_stable, world.seen.high_watermark, "nothing hangs");
    // Verified anew, it begins the next one; others' records in between do not matter.
    let guard = world.standing(9, 0).guard;
    world.append(plain(1), Acks::Committed);
    let first = world.append_verified(batch_of(9, 0, 1, 1, true), guard);
    let second = world.append_verified(batch_of(9, 0, 2, 1, true), guard);
    let again = world.append_verified(batch_of(9, 0, 1, 1, true), guard);
    world.complete_all();
    let offset = world.appended(first).unwrap().base_offset;
    assert_eq!(world.standing(9, 0).open_from, Some(offset));
    assert_eq!(world.standing(9, 1).open_from, None, "another epoch's is not open");
    assert_eq!(world.appended(second).unwrap().base_offset, offset.plus(1));
    assert!(world.appended(again).unwrap().was_duplicate);
}

#[test]
fn a_batch_of_a_transaction_that_was_open_when_it_was_looked_at_does_not_open_it_again() {
    let mut world = World::new(leadership(0));
    world.append(batch_of(9, 0, 0, 1, true), Acks::Committed);
    let Standing { open_from, guard } = world.standing(9, 0);
    assert_eq!(open_from, Some(Offset(0)));
    world.mark(9, 0, false);
    let late = world.append_verified(batch_of(9, 0, 1, 1, true), guard);
    assert_eq!(world.refusal(late), ErrorCode::InvalidTxnState);
}

/// Offsets of a transaction, too, would be pending for ever behind its marker.
#[test]
fn what_a_coordinator_writes_for_a_verified_transaction_is_refused_behind_its_marker() {
    let mut world = World::new(leadership(0));
    let before = world.standing(9, 0).guard;
    let first = world.write_offsets(before);
    assert!(world.appended(first).is_some());
    world.mark(9, 0, true);
    let late = world.write_offsets(before);
    assert_eq!(world.refusal(late), ErrorCode::InvalidTxnState);
    let guard = world.standing(9, 0).guard;
    let next = world.write_offsets(guard);
    assert!(world.appended(next).is_some());
}

/// Offsets of the last transaction that come late would count from the end of the next one on.
#[test]
fn what_was_verified_for_one_transaction_does_not_become_part_of_the_next() {
    let mut world = World::new(leadership(0));
    let first = world.standing(9, 0).guard;
    world.write_offsets(first);
    world.mark(9, 0, true);
    let second = world.standing(9, 0).guard;
    world.write_offsets(second);
    assert!(world.standing(9, 0).open_from.is_some());
    let late = world.write_offsets(first);
    assert_eq!(world.refusal(late), ErrorCode::InvalidTxnState);
    let more = world.write_offsets(second);
    assert!(world.appended(more).is_some());
}

/// Offsets from before records were forgotten say nothing of what came after.
#[test]
fn what_was_verified_before_a_full_disk_is_to_be_verified_anew() {
    let mut world = World::new(leadership(0));
    world.append(batch_of(9, 0, 0, 1, true), Acks::Committed);
    world.complete_all();
    world.append(plain(5), Acks::Committed);
    let guard = world.standing(9, 0).guard;
    world.fail(false);
    world.mark(9, 0, false);
    world.complete_all();
    assert!(world.seen.log_end < guard.log_end, "the marker stands before where the log ended");
    let late = world.append_verified(batch_of(9, 0, 1, 1, true), guard);
    assert_eq!(world.refusal(late), ErrorCode::NotLeaderOrFollower);
}

#[test]
fn a_new_leader_tells_no_end_before_it_has_committed_what_the_last_one_may_have_shown() {
    let with_follower =
        |epoch| Leadership { isr: vec![OWN, BrokerId(2)], replica_count: 2, ..leadership(epoch) };
    let mut world = World::new(with_follower(0));
    let told = |world: &World| {
        let [all, uncommitted, committed] =
            [Isolation::LogEnd, Isolation::ReadUncommitted, Isolation::ReadCommitted]
                .map(|isolation| world.seen.tells_end(isolation));
        assert!(all);
        assert_eq!(uncommitted, committed);
        committed
    };
    world.append(plain(3), Acks::Written);
    world.complete();
    assert_eq!(world.seen.high_watermark, Offset(0));
    assert!(told(&world), "whoever leads from the start has shown it all");
    world.step(Event::NewLeadership(with_follower(1)));
    assert!(!told(&world));
    world.append(plain(3), Acks::Written);
    world.complete();
    assert!(!told(&world));
    world.step(Event::NewLeadership(leadership(1)));
    assert_eq!(world.seen.high_watermark, Offset(6));
    assert!(told(&world));
    // What was forgotten meanwhile will never be committed.
    world.append(plain(3), Acks::Written);
    world.step(Event::NewLeadership(leadership(2)));
    assert!(!told(&world));
    world.fail(false);
    assert!(told(&world));
}

#[test]
fn a_marker_is_accepted_before_it_is_committed_by_those_who_wait_themselves() {
    let mut world = World::new(leadership(0));
    world.append(batch_of(9, 0, 0, 1, true), Acks::Committed);
    world.complete();
    let token = world.token();
    let marker = EndTxnMarker {
        producer_id: ProducerId(9),
        producer_epoch: ProducerEpoch(0),
        coordinator_epoch: CoordinatorEpoch(1),
        commit: true,
        transaction_version: 0,
    };
    world.step(Event::Marker { token, marker, acks: Acks::Accepted });
    assert_eq!(world.answers[&token], Answer::Marker(Ok(Offset(2))));
    assert_eq!((world.seen.high_watermark, world.seen.last_stable), (Offset(1), Offset(0)));
    world.complete();
    assert_eq!(world.seen.last_stable, Offset(2));
}

#[test]
fn the_producers_of_a_partition_are_told_with_their_open_transactions() {
    let mut world = World::new(leadership(0));
    world.append(batch_of(9, 4, 0, 3, true), Acks::Committed);
    world.append(batch_of(7, 0, 0, 1, false), Acks::Committed);
    let token = world.token();
    world.step(Event::Producers { token });
    let Answer::Producers(producers) = &world.answers[&token] else { panic!() };
    let told: Vec<_> = producers
        .iter()
        .map(|it| (it.id.0, it.epoch.0, it.last_sequence.0, it.open_from))
        .collect();
    assert_eq!(told, [(7, 0, 0, None), (9, 4, 2, Some(Offset(0)))]);
}

#[test]
fn a_marker_of_a_fenced_producer_is_refused() {
    let mut world = World::new(leadership(0));
    world.append(batch_of(9, 4, 0, 1, true), Acks::Committed);
    world.complete();
    let stale = world.mark(9, 3, true);
    assert_eq!(world.refusal(stale), ErrorCode::InvalidProducerEpoch);
}

#[test]
fn a_fetch_is_woken_by_what_its_isolation_may_see() {
    let mut world = World::new(leadership(0));
    let early = world.wait(Isolation::ReadUncommitted, 0);
    let later = world.wait(Isolation::ReadUncommitted, 1);
    let gone = world.wait(Isolation::ReadUncommitted, 0);
    let wish = Wish { number: gone, isolation: Isolation::ReadUncommitted, beyond: Offset(0) };
    world.step(Event::WaitNoMore(wish));
    world.append(plain(1), Acks::Accepted);
    assert!(world.rung.is_empty());
    world.complete();
    assert_eq!(world.rung, [early]);
    world.append(plain(1), Acks::Accepted);
    world.complete();
    assert_eq!(world.rung, [early, later]);
    let at_once = world.wait(Isolation::ReadUncommitted, 1);
    assert_eq!(world.rung, [early, later, at_once]);
}

#[test]
fn a_new_leader_epoch_wakes_every_fetch() {
    let mut world = World::new(leadership(0));
    let number = world.wait(Isolation::ReadCommitted, 10);
    world.step(Event::NewLeadership(leadership(1)));
    assert_eq!(world.rung, [number]);
    assert_eq!(world.seen.leader_epoch, LeaderEpoch(1));
}

#[test]
fn records_are_deleted_up_to_the_high_watermark_and_not_beyond() {
    let mut world = World::new(leadership(0));
    world.append(plain(5), Acks::Committed);
    world.complete();
    world.append(plain(5), Acks::Committed);
    let delete = |world: &mut World, offset| {
        let token = world.token();
        world.step(Event::DeleteBefore { token, offset: Offset(offset) });
        match world.answers.remove(&token).unwrap() {
            Answer::Deleted(result) => result.map_err(|error| error.code()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delete(&mut world, 6), Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(delete(&mut world, 3), Ok(Offset(3)));
    assert_eq!(delete(&mut world, 1), Ok(Offset(3)), "it does not go back");
    assert_eq!(delete(&mut world, -1), Ok(Offset(5)));
    assert_eq!(world.seen.log_start, Offset(5));
}

#[test]
fn old_segments_go_unless_something_in_them_is_not_committed() {
    let mut world = World::new(leadership(0));
    world.append(plain(5), Acks::Committed);
    let plan = |end| RetentionPlan { delete_before: Some(Offset(end)), roll: true };
    world.step(Event::Retain(plan(5)));
    assert_eq!(world.seen.log_start, Offset(0));
    world.complete();
    world.step(Event::Retain(plan(5)));
    assert_eq!(world.seen.log_start, Offset(5));
    assert!(world.underway[0].batches.is_empty(), "the segment is completed");
    let next = world.append(plain(1), Acks::Committed);
    world.complete_all();
    assert_eq!(world.appended(next).unwrap().base_offset, Offset(5));
    // What came after the plan was made stays.
    world.append(plain(1), Acks::Committed);
    world.complete_all();
    world.step(Event::Retain(plan(6)));
    assert_eq!(world.seen.log_start, Offset(6));
    assert_eq!(world.seen.log_end, Offset(7));
}

/// Metadata that were put back to an older state, or a damaged leader epoch, which no checksum covers.
#[test]
fn a_log_of_a_leader_to_come_takes_no_records_and_says_why() {
    let mut world = World::new(leadership(5));
    world.append(plain(1), Acks::Committed);
    world.complete();
    let mut world = World::over(world.disk, leadership(3));
    let refused = world.append(plain(1), Acks::Committed);
    let marker = world.mark(7, 0, true);
    let Some(Answer::Append(Err(error))) = world.answers.remove(&refused) else { panic!("taken") };
    assert_eq!(
        error.to_string(),
        "partition orders-0: the log has records of leader epoch 5 from offset 0 on, and the metadata \
         know none above 3: they are older than the log, or it is damaged",
    );
    assert_eq!(world.refusal(marker), ErrorCode::KafkaStorageError);
    assert_eq!(world.seen.log_end, Offset(1));
    world.step(Event::NewLeadership(leadership(5)));
    let taken = world.append(plain(1), Acks::Committed);
    world.complete();
    assert_eq!(world.appended(taken).unwrap().base_offset, Offset(1));
}

#[test]
fn the_present_epoch_ends_at_what_is_written_and_an_unknown_one_nowhere() {
    let mut world = World::new(leadership(2));
    world.append(plain(3), Acks::Committed);
    world.complete();
    let end_of = |world: &mut World, asked| {
        let token = world.token();
        world.step(Event::EndOfEpoch { token, asked: LeaderEpoch(asked) });
        world.answers.remove(&token).unwrap()
    };
    let at = |epoch, end| Answer::EndOfEpoch(Some((LeaderEpoch(epoch), Offset(end))));
    assert_eq!(end_of(&mut world, 2), at(2, 3));
    assert_eq!(end_of(&mut world, 3), Answer::EndOfEpoch(None));
    world.step(Event::NewLeadership(leadership(4)));
    assert_eq!(end_of(&mut world, 3), at(2, 3));
    assert_eq!(end_of(&mut world, 4), at(4, 3));
}

#[test]
fn every_refusal_has_the_code_that_clients_expect() {
    let partition = TopicPartition::new("orders", 0);
    let reason: Arc<str> = "x".into();
    let storage = AppendError::Storage { partition: partition.clone(), reason: reason.clone() };
    assert_eq!(storage.code(), ErrorCode::KafkaStorageError);
    assert_eq!(storage.to_string(), "partition orders-0: x");
    assert_eq!(ReadError::Storage { partition, reason }.code(), ErrorCode::KafkaStorageError);
}

/// A client may try again, or learns that what it asked for cannot be: never that something is
/// wrong here, which most of them take for the end of their transaction.
#[test]
fn what_goes_wrong_inside_of_a_partition_is_told_as_something_to_try_again() {
    let partition = || TopicPartition::new("orders", 0);
    let reason: Arc<str> = "x".into();
    let (asked, current) = (LeaderEpoch(1), LeaderEpoch(2));
    let (high_watermark, epoch_start) = (Offset(1), Offset(2));
    let of_append = [
        AppendError::NotLeader { partition: partition() },
        AppendError::FencedLeaderEpoch { partition: partition(), asked, current },
        AppendError::NotEnoughReplicas { partition: partition(), in_sync: 1, min: 2 },
        AppendError::NotEnoughReplicasAfterAppend { partition: partition() },
        AppendError::Storage { partition: partition(), reason: reason.clone() },
        AppendError::Overloaded { partition: partition() },
    ];
    let of_read = [
        ReadError::NotLeader { partition: partition() },
        ReadError::FencedLeaderEpoch { partition: partition(), asked, current },
        ReadError::UnknownLeaderEpoch { partition: partition(), asked, current },
        ReadError::NotAvailable { partition: partition(), high_watermark, epoch_start },
        ReadError::Storage { partition: partition(), reason },
        ReadError::Overloaded { partition: partition() },
    ];
    let of_lookup = [
        LookupError::UnknownTopic("orders".into()),
        LookupError::UnknownTopicId(protocol::ids::TopicId([1; 16])),
        LookupError::UnknownPartition(partition()),
        LookupError::NotLeader(partition()),
    ];
    let codes = of_append.iter().map(AppendError::code).chain(of_read.iter().map(ReadError::code));
    for code in codes.chain(of_lookup.iter().map(LookupError::code)) {
        assert!(code.is_retriable(), "{code}");
    }
    // And a coordinator's client is told to look for its coordinator, or to wait.
    for code in of_append.iter().map(crate::coordinator::refusal) {
        assert!(code.is_retriable(), "{code}");
    }
}

#[test]
fn deleting_records_beyond_the_start_of_an_open_transaction_moves_what_is_stable_with_them() {
    let mut world = World::new(leadership(0));
    world.append(batch_of(9, 0, 0, 2, true), Acks::Committed);
    world.append(plain(3), Acks::Committed);
    world.complete_all();
    assert_eq!(world.seen.last_stable, Offset(0));
    let token = world.token();
    world.step(Event::DeleteBefore { token, offset: Offset(4) });
    assert_eq!((world.seen.log_start, world.seen.last_stable), (Offset(4), Offset(4)));
    world.mark(9, 0, false);
    world.complete_all();
    assert_eq!(world.seen.last_stable, Offset(6));
}

/// What may happen next, in any order.
#[derive(Clone, Debug)]
enum Step {
    /// The producer's next batch, of so many records.
    Next {
        producer: usize,
        count: i32,
        acks: Acks,
        transactional: bool,
    },
    /// Its last batch once more.
    Retry {
        producer: usize,
        acks: Acks,
    },
    Mark {
        producer: usize,
        commit: bool,
    },
    Write,
    Sync,
    DiskFull,
    Wait {
        isolation: Isolation,
        ahead: i64,
    },
    NewEpoch,
    DeleteToHighWatermark,
}

fn any_acks() -> impl Strategy<Value = Acks> {
    prop_oneof![Just(Acks::Accepted), Just(Acks::Written), Just(Acks::Committed)]
}

fn any_step() -> impl Strategy<Value = Step> {
    let isolation = prop_oneof![
        Just(Isolation::LogEnd),
        Just(Isolation::ReadUncommitted),
        Just(Isolation::ReadCommitted)
    ];
    prop_oneof![
        6 => (0..3_usize, 1..4_i32, any_acks(), any::<bool>()).prop_map(
            |(producer, count, acks, transactional)| Step::Next { producer, count, acks, transactional }
        ),
        2 => (0..3_usize, any_acks()).prop_map(|(producer, acks)| Step::Retry { producer, acks }),
        2 => (0..3_usize, any::<bool>())
            .prop_map(|(producer, commit)| Step::Mark { producer, commit }),
        8 => Just(Step::Write),
        4 => Just(Step::Sync),
        1 => Just(Step::DiskFull),
        2 => (isolation, -1..4_i64).prop_map(|(isolation, ahead)| Step::Wait { isolation, ahead }),
        1 => Just(Step::NewEpoch),
        1 => Just(Step::DeleteToHighWatermark),
    ]
}

/// A producer that sends in order, and again what it does not know to be in the log.
#[derive(Clone, Default)]
struct Sender {
    sequence: i32,
    last: Option<(RecordBatch, Token)>,
}

#[derive(Default)]
struct Run {
    senders: [Sender; 3],
    epoch: i32,
    asked: BTreeMap<Token, Acks>,
    wishes: BTreeMap<u64, (Isolation, Offset)>,
}

impl Run {
    fn take(&mut self, world: &mut World, step: Step) {
        match step {
            Step::Next { producer, count, acks, transactional } => {
                let id = i64::try_from(producer).unwrap();
                let sequence = self.senders[producer].sequence;
                let batch = batch_of(id, 0, sequence, count, transactional);
                let token = world.append(batch.clone(), acks);
                self.asked.insert(token, acks);
                let refused = matches!(world.answers.get(&token), Some(Answer::Append(Err(_))));
                if !refused {
                    self.senders[producer] =
                        Sender { sequence: sequence + count, last: Some((batch, token)) };
                }
            }
            Step::Retry { producer, acks } => {
                let Some((batch, first)) = self.senders[producer].last.clone() else { return };
                let token = world.append(batch, acks);
                self.asked.insert(token, acks);
                if let (Some(Answer::Append(Ok(first))), Some(Answer::Append(Ok(again)))) =
                    (world.answers.get(&first), world.answers.get(&token))
                    && again.was_duplicate
                {
                    assert_eq!(first.base_offset, again.base_offset);
                }
            }
            Step::Mark { producer, commit } => {
                world.mark(i64::try_from(producer).unwrap(), 0, commit);
            }
            Step::Write => drop(world.write()),
            Step::Sync => world.sync(),
            Step::DiskFull => {
                if world.fail(false) {
                    // What was forgotten is sent again: every sender begins where the disk ends.
                    for (id, sender) in (0..).zip(&mut self.senders) {
                        let known = world.disk.producers().known(ProducerId(id));
                        let last = known.map_or(Sequence::NONE, |known| known.last_sequence());
                        *sender = Sender { sequence: last.plus(1).0, last: None };
                    }
                }
            }
            Step::Wait { isolation, ahead } => {
                let beyond = world.seen.readable_end(isolation).plus(ahead);
                let number = world.wait(isolation, beyond.0);
                self.wishes.insert(number, (isolation, beyond));
            }
            Step::NewEpoch => {
                self.epoch += 1;
                world.step(Event::NewLeadership(leadership(self.epoch)));
                self.wishes.clear();
                world.rung.clear();
            }
            Step::DeleteToHighWatermark => {
                let token = world.token();
                world.step(Event::DeleteBefore { token, offset: Offset::NONE });
            }
        }
        self.check(world);
    }

    fn check(&mut self, world: &mut World) {
        for (token, acks) in &self.asked {
            if let Some(Answer::Append(Ok(appended))) = world.answers.get(token) {
                let safe = match acks {
                    Acks::Accepted => continue,
                    Acks::Written => world.disk.log_end(),
                    Acks::Committed => world.synced,
                };
                assert!(appended.end <= safe, "answered before it was as safe as asked for");
            }
        }
        for number in world.rung.drain(..) {
            let (isolation, beyond) = self.wishes.remove(&number).expect("rung once");
            assert!(world.seen.readable_end(isolation) > beyond, "woken too early");
        }
        for (isolation, beyond) in self.wishes.values() {
            assert!(world.seen.readable_end(*isolation) <= *beyond, "not woken when due");
        }
    }
}

proptest! {
    #[test]
    fn under_any_lawful_events_nothing_committed_is_lost_and_nothing_is_told_too_early(
        steps in proptest::collection::vec(any_step(), 1..120)
    ) {
        let mut world = World::new(leadership(0));
        let mut run = Run::default();
        for step in steps {
            run.take(&mut world, step);
        }
        world.complete_all();
        world.sync();
        run.check(&mut world);
        for token in run.asked.keys() {
            prop_assert!(world.answers.contains_key(token), "an append was never answered");
        }
        prop_assert_eq!(world.seen.high_watermark, world.disk.log_end());
    }
}
