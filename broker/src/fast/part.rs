//! A partition core over a disk that is a list of batches. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use protocol::ids::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition};
use protocol::record::{ControlRecord, RecordBatch};
use protocol::time::Now;

use crate::config::FlushMode;
use crate::log::{AbortedTxn, LogConfig, LogState, Write};
use crate::partition::core::{
    Answer, Effect, Event, Leadership, PartitionCore, Progress, Stalled, Token,
};
use crate::partition::{
    Acks, Append, AppendError, Appended, EndTxnMarker, Isolation, Origin, Standing,
    VerificationGuard, Watermarks,
};

const OWN: BrokerId = BrokerId(1);

/// What a partition did that others must hear of.
#[derive(Debug)]
pub(super) enum Side {
    /// A write was handed to the disk.
    Writes,
    /// The positions moved.
    Moved,
    /// A token is answered.
    Answered(Token, Answer),
}

/// A value as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) offset: Offset,
    pub(super) value: u64,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) tp: TopicPartition,
    core: PartitionCore,
    epoch: i32,
    /// What is in the file, and how many batches of it are durable.
    disk: Vec<RecordBatch>,
    synced: usize,
    aborted: Vec<AbortedTxn>,
    underway: VecDeque<Write>,
    stalled: Option<Stalled>,
    was_stepped: bool,
    tokens: Token,
    pub(super) sides: Vec<Side>,
}

impl Part {
    pub(super) fn new(topic: &str, index: i32) -> Self {
        let tp = TopicPartition::new(topic, index);
        let log = LogState::empty(Offset::ZERO);
        Self {
            core: PartitionCore::new(tp.clone(), leadership(0), log, Offset::ZERO),
            tp,
            epoch: 0,
            disk: Vec::new(),
            synced: 0,
            aborted: Vec::new(),
            underway: VecDeque::new(),
            stalled: None,
            was_stepped: false,
            tokens: 0,
            sides: Vec::new(),
        }
    }

    pub(super) fn watermarks(&self) -> Watermarks {
        self.core.watermarks()
    }

    /// Whether anything happened since this was asked last.
    pub(super) fn was_stepped(&mut self) -> bool {
        std::mem::take(&mut self.was_stepped)
    }

    pub(super) fn check(&self) {
        self.core.check();
        let Watermarks { high_watermark, .. } = self.watermarks();
        assert!(high_watermark <= self.synced_end(), "{}: committed but not durable", self.tp);
    }

    fn end_of(&self, count: usize) -> Offset {
        count.checked_sub(1).map_or(Offset::ZERO, |last| self.disk[last].header().next_offset())
    }

    fn synced_end(&self) -> Offset {
        self.end_of(self.synced)
    }

    fn written_end(&self) -> Offset {
        self.end_of(self.disk.len())
    }

    /// The broker is gone: of what was not synced, `keep` decides how many batches are left.
    pub(super) fn crash(&mut self, keep: impl FnOnce(usize) -> usize) {
        let left = self.synced + keep(self.disk.len() - self.synced);
        self.disk.truncate(left);
        let end = self.written_end();
        self.aborted.retain(|it| it.last_offset < end);
        self.synced = left;
        self.underway.clear();
        self.stalled = None;
        self.sides.clear();
    }

    /// Led again, under the next epoch.
    pub(super) fn start(&mut self) {
        self.epoch += 1;
        let (log, end) = (self.state_of_disk(), self.written_end());
        self.core = PartitionCore::new(self.tp.clone(), leadership(self.epoch), log, end);
    }

    /// What recovery makes of the file.
    fn state_of_disk(&self) -> LogState {
        let mut log = LogState::empty(Offset::ZERO);
        for batch in &self.disk {
            log.apply(batch.header(), ControlRecord::of(batch).unwrap());
        }
        log
    }

    /// All bytes of the file, for a coordinator that loads.
    pub(super) fn bytes(&self) -> Bytes {
        self.disk.iter().flat_map(|it| it.bytes().to_vec()).collect()
    }

    fn step(&mut self, now: Now, event: Event) {
        self.was_stepped = true;
        let mut effects = Vec::new();
        self.core.step(now, event, &mut effects);
        let mut recalls = false;
        for effect in effects {
            match effect {
                Effect::Write(write) => {
                    self.underway.push_back(write);
                    self.sides.push(Side::Writes);
                }
                Effect::Recall => recalls = true,
                Effect::Publish(_) => self.sides.push(Side::Moved),
                Effect::Reply { token, answer } => self.sides.push(Side::Answered(token, answer)),
                Effect::DeleteBefore { .. } | Effect::Ring { .. } | Effect::Leave { .. } => {
                    unreachable!("nobody asked for it")
                }
            }
        }
        if recalls {
            // The writer serves in order: what was on its way before is refused first.
            self.underway.clear();
            self.synced = self.disk.len();
            self.stalled = None;
            let on_disk = Box::new(self.state_of_disk());
            self.step(now, Event::Recalled { on_disk });
        }
    }

    fn report(&mut self, now: Now) {
        let (written, synced) = (self.written_end(), self.synced_end());
        let stalled = self.stalled.clone();
        self.step(now, Event::Progress(Progress { written, synced, stalled }));
    }

    /// The oldest write reaches the file, or finds no space there.
    pub(super) fn write(&mut self, now: Now, is_full: bool) {
        let Some(write) = self.underway.pop_front() else { return };
        if is_full {
            self.stalled = Some(Stalled { reason: "no space left".into(), is_final: false });
        }
        if self.stalled.is_none() {
            assert_eq!(write.from, self.written_end());
            self.disk.extend(write.batches.into_iter().map(|it| it.bytes.into_batch()));
            self.aborted.extend(write.aborted);
        }
        self.report(now);
    }

    pub(super) fn sync(&mut self, now: Now) {
        self.synced = self.disk.len();
        self.report(now);
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }

    /// A producer's batch; answered later.
    pub(super) fn produce(
        &mut self,
        now: Now,
        batch: RecordBatch,
        guard: Option<VerificationGuard>,
    ) -> Token {
        let token = self.token();
        let append = Append {
            batches: vec![batch],
            origin: guard.map_or(Origin::Client, Origin::Verified),
            acks: Acks::Committed,
            leader_epoch: None,
        };
        self.step(now, Event::Append { token, append });
        token
    }

    /// A coordinator's batch; answered at once.
    pub(super) fn log(
        &mut self,
        now: Now,
        batch: RecordBatch,
        guard: Option<VerificationGuard>,
    ) -> Result<Appended, AppendError> {
        let token = self.token();
        let append = Append {
            batches: vec![batch],
            origin: guard.map_or(Origin::Coordinator, Origin::CoordinatorVerified),
            acks: Acks::Accepted,
            leader_epoch: Some(LeaderEpoch(self.epoch)),
        };
        self.step(now, Event::Append { token, append });
        match self.take_answer(token) {
            Answer::Append(result) => result,
            other => panic!("not the answer to an append: {other:?}"),
        }
    }

    pub(super) fn mark(&mut self, now: Now, marker: EndTxnMarker) -> Token {
        let token = self.token();
        self.step(now, Event::Marker { token, marker, acks: Acks::Committed });
        token
    }

    /// Whose transactions are open here.
    pub(super) fn open(&self) -> impl Iterator<Item = ProducerId> {
        let known = self.core.log().into_iter().flat_map(|log| log.producers().iter());
        known.filter(|(_, producer)| producer.open_from().is_some()).map(|(id, _)| id)
    }

    pub(super) fn standing(&mut self, now: Now, producer: (ProducerId, ProducerEpoch)) -> Standing {
        let token = self.token();
        self.step(
            now,
            Event::OpenTransaction { token, producer_id: producer.0, producer_epoch: producer.1 },
        );
        match self.take_answer(token) {
            Answer::OpenTransaction(standing) => standing,
            other => panic!("not the answer to the question: {other:?}"),
        }
    }

    fn take_answer(&mut self, of: Token) -> Answer {
        let is_it = |side: &Side| matches!(side, Side::Answered(token, _) if *token == of);
        let place = self.sides.iter().position(is_it).expect("answered at once");
        match self.sides.remove(place) {
            Side::Answered(_, answer) => answer,
            Side::Writes | Side::Moved => unreachable!("just found"),
        }
    }

    /// What a consumer makes of a fetch from `from` on, and where its next begins.
    pub(super) fn read(&self, from: Offset, isolation: Isolation) -> (Vec<Found>, Offset) {
        let end = self.watermarks().readable_end(isolation);
        let mut aborting: Vec<&AbortedTxn> = self.aborted.iter().collect();
        aborting.retain(|it| from <= it.last_offset && it.first_offset < end);
        let mut found = Vec::new();
        let mut next = from;
        for batch in &self.disk {
            let header = batch.header();
            if header.next_offset() <= from || end < header.next_offset() {
                continue;
            }
            next = header.next_offset();
            let is_aborted = header.attributes.is_transactional()
                && aborting.iter().any(|it| {
                    it.producer_id == header.producer_id
                        && (it.first_offset..=it.last_offset).contains(&header.base_offset)
                });
            let is_skipped = isolation == Isolation::ReadCommitted && is_aborted;
            if header.attributes.is_control() || is_skipped {
                continue;
            }
            for record in batch.records() {
                let record = record.unwrap();
                let value = record.value.unwrap().as_ref().try_into().unwrap();
                found.push(Found { offset: record.offset, value: u64::from_be_bytes(value) });
            }
        }
        (found, next)
    }

    /// All committed values, in order.
    pub(super) fn read_all(&self) -> Vec<u64> {
        let (found, _) = self.read(Offset::ZERO, Isolation::ReadCommitted);
        found.into_iter().map(|it| it.value).collect()
    }
}

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
