//! The coordinator's shard and two partitions' memory of producers, with everything between them
//! late, repeated or lost. Pure.
//!
//! Clients share one transactional id and end by version 2. After each step: every transaction has
//! one fate in all partitions, and it is the one that its client was told; nothing of an epoch is
//! appended once a newer incarnation was initialised; a batch stands in a partition only if its
//! coordinator has the partition on its list. In the end nothing is left open.

use std::collections::BTreeSet;

use protocol::ids::{LeaderEpoch, Sequence};
use protocol::record::{Attributes, BatchHeader, ControlRecord};

use super::*;
use crate::log::{Checked, EndTxn, MarkerChecked, Origin, Producers};

/// A batch on its way to a partition.
#[derive(Clone, Copy, Debug)]
struct Sent {
    producer: Producer,
    partition: usize,
    /// Whether the coordinator was asked already.
    joined: bool,
}

/// A partition, as far as transactions go.
#[derive(Default)]
struct Log {
    producers: Producers,
    end: i64,
    /// What the open transaction of a producer id has in it: the epochs.
    open: BTreeMap<ProducerId, BTreeSet<ProducerEpoch>>,
    /// The newest epoch of a marker: all below it have ended here.
    ended: BTreeMap<ProducerId, ProducerEpoch>,
}

struct Cluster {
    world: World,
    logs: [Log; 2],
    flying: Vec<Sent>,
    /// Markers that were sent, each to be delivered any number of times, and where they arrived.
    markers: Vec<(Decided, BTreeSet<TopicPartition>)>,
    /// What became of each incarnation's transaction.
    fates: BTreeMap<(ProducerId, ProducerEpoch), bool>,
    told: BTreeMap<(ProducerId, ProducerEpoch), bool>,
    /// The newest incarnation of each producer id that an initialisation gave.
    floor: BTreeMap<ProducerId, ProducerEpoch>,
}

fn header(producer: Producer, offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(offset),
        batch_length: 100,
        leader_epoch: LeaderEpoch(0),
        crc: 0,
        attributes: Attributes::default().with_transactional(true),
        last_offset_delta: 0,
        base_timestamp: Timestamp(offset),
        max_timestamp: Timestamp(offset),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: Sequence::NONE,
        record_count: 1,
    }
}

impl Cluster {
    fn new() -> Self {
        Self {
            world: World::new(),
            logs: Default::default(),
            flying: Vec::new(),
            markers: Vec::new(),
            fates: BTreeMap::new(),
            told: BTreeMap::new(),
            floor: BTreeMap::new(),
        }
    }

    fn init(&mut self, current: Option<Producer>) -> Option<Producer> {
        let producer = self.world.init(current).ok()?;
        if current.is_none() {
            self.floor.insert(producer.id, producer.epoch);
        }
        Some(producer)
    }

    fn end(&mut self, producer: Producer, commit: bool) -> Option<Producer> {
        let next = self.world.end(producer, commit, Version::V2).ok()?;
        let before = self.told.insert((producer.id, producer.epoch), commit);
        assert!(before.is_none_or(|it| it == commit), "{producer:?} was told both");
        Some(next)
    }

    /// One of two steps of a batch's way; nothing holds them together.
    fn advance(&mut self, at: usize) {
        if self.flying.is_empty() {
            return;
        }
        let at = at % self.flying.len();
        let sent = self.flying[at];
        let log = &self.logs[sent.partition];
        let known = log.producers.known(sent.producer.id);
        let is_open =
            known.is_some_and(|it| it.open_from().is_some() && it.epoch() == sent.producer.epoch);
        if !sent.joined && !is_open {
            let index = i32::try_from(sent.partition).unwrap();
            match self.world.add(sent.producer, index) {
                Ok(()) => self.flying[at].joined = true,
                Err(_) => drop(self.flying.swap_remove(at)),
            }
            return;
        }
        self.flying.swap_remove(at);
        self.append(sent);
    }

    fn append(&mut self, sent: Sent) {
        let log = &mut self.logs[sent.partition];
        let header = header(sent.producer, log.end);
        let Ok(Checked::New) = log.producers.check(&header, Origin::Coordinator) else { return };
        log.producers.apply(&header);
        log.producers.check_invariants();
        log.end += 1;
        log.open.entry(sent.producer.id).or_default().insert(sent.producer.epoch);
        assert_eq!(log.open[&sent.producer.id].len(), 1, "{sent:?} among another's records");
        let floor = self.floor.get(&sent.producer.id);
        assert!(floor.is_none_or(|it| *it <= sent.producer.epoch), "{sent:?} after {floor:?}");
        let ended = log.ended.get(&sent.producer.id);
        assert!(ended.is_none_or(|it| *it <= sent.producer.epoch), "{sent:?} after its end");
    }

    fn collect(&mut self) {
        let decided = std::mem::take(&mut self.world.owed);
        self.markers.extend(decided.into_iter().map(|it| (it, BTreeSet::new())));
    }

    /// Delivers a marker once more, wherever it goes.
    fn deliver(&mut self, at: usize, partition: usize) {
        self.collect();
        if self.markers.is_empty() {
            return;
        }
        let at = at % self.markers.len();
        let (decided, _) = self.markers[at].clone();
        let place = TopicPartition::new("p", i32::try_from(partition).unwrap());
        if !decided.partitions.contains(&place) {
            return;
        }
        let log = &mut self.logs[partition];
        let coordinator_epoch = decided.coordinator_epoch;
        let marker = EndTxn {
            producer_id: decided.producer.id,
            producer_epoch: decided.producer.epoch,
            coordinator_epoch,
            transaction_version: decided.version.to_wire(),
        };
        match log.producers.check_marker(&marker) {
            Ok(MarkerChecked::New) => {
                let control = if decided.commit {
                    ControlRecord::Commit { coordinator_epoch }
                } else {
                    ControlRecord::Abort { coordinator_epoch }
                };
                log.producers.complete(&header(decided.producer, log.end), control);
                log.producers.check_invariants();
                log.end += 1;
                log.ended.insert(decided.producer.id, decided.producer.epoch);
                for epoch in log.open.remove(&decided.producer.id).unwrap_or_default() {
                    let id = decided.producer.id;
                    let before = self.fates.insert((id, epoch), decided.commit);
                    assert!(before.is_none_or(|it| it == decided.commit), "torn: {decided:?}");
                    let told = self.told.get(&(id, epoch));
                    assert!(told.is_none_or(|it| *it == decided.commit), "lied: {decided:?}");
                }
            }
            // What the sender of markers takes for done.
            Ok(MarkerChecked::Repeated) => {}
            Err(error) if error.code() == ErrorCode::InvalidProducerEpoch => {}
            // Its sender has been replaced.
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::TransactionCoordinatorFenced);
                return;
            }
        }
        self.markers[at].1.insert(place);
    }

    /// Tells the coordinator of markers that arrived everywhere.
    fn tell(&mut self) {
        self.collect();
        for (decided, arrived) in self.markers.clone() {
            if arrived == decided.partitions {
                let noted = self.world.ask(Request::MarkersWritten(decided));
                assert_eq!(noted, Reply::Noted(Ok(())));
            }
        }
    }

    /// Everything arrives, and time passes.
    fn come_to_rest(&mut self) {
        for _ in 0..4 {
            while !self.flying.is_empty() {
                self.advance(0);
            }
            self.world.pass(TIMEOUT);
            self.collect();
            for at in 0..self.markers.len() {
                self.deliver(at, 0);
                self.deliver(at, 1);
            }
            self.tell();
        }
        for log in &self.logs {
            let mut open = log.producers.iter().filter(|(_, it)| it.open_from().is_some());
            assert!(open.next().is_none(), "a transaction hangs");
        }
        assert!(!self.world.shard.owes(), "a decision is never carried out");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_transaction_has_one_fate_everywhere_and_ends(
        steps in proptest::collection::vec((0_u8..14, 0_usize..2, 0_usize..8, any::<bool>()), 1..200),
    ) {
        let mut cluster = Cluster::new();
        let mut clients: [Option<Producer>; 2] = [None, None];
        for (what, who, at, flag) in steps {
            match (what, clients[who]) {
                (0, current) => {
                    if let Some(producer) = cluster.init(current.filter(|_| flag)) {
                        clients[who] = Some(producer);
                    }
                }
                (1..=4, Some(producer)) if cluster.flying.len() < 8 => {
                    let partition = usize::from(flag);
                    cluster.flying.push(Sent { producer, partition, joined: false });
                }
                (5 | 6, Some(producer)) => {
                    if let Some(next) = cluster.end(producer, flag) {
                        clients[who] = Some(next);
                    }
                }
                (7, Some(producer)) => drop(cluster.end(producer, flag)),
                (8 | 9, _) => cluster.advance(at),
                (10, _) => cluster.deliver(at, usize::from(flag)),
                (11, _) => {
                    for at in 0..cluster.markers.len() {
                        cluster.deliver(at, who);
                    }
                    cluster.tell();
                }
                (12, _) => {
                    cluster.collect();
                    cluster.world.fail_over();
                }
                (13, _) => cluster.world.pass(TIMEOUT / 3),
                _ => {}
            }
        }
        cluster.come_to_rest();
    }
}
